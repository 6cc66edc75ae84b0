//! The cache before a source of a test's own, on a clock that the test turns.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use proptest::prelude::{ProptestConfig, any, prop, proptest};

use super::super::parse_block;
use super::*;
use crate::data::clock::{MILLISECOND, SECOND};
use crate::data::proofs::probe::Probe;
use crate::data::proofs::{Bench, Ground, address, addresses, query, rcode_of, tcp, udp};
use crate::plugin::{Client, Fetch};
use crate::wire::{Flags, Rdata, Section, Soa, rclass, rcode, records, rtype};

fn settings(block: &str) -> Settings {
    parse_block::<Cache>(block).map(|cache| cache.settings).expect(block)
}

#[test]
fn reads_all_options() {
    let plain = settings("cache");
    let caps: Vec<_> = plain.kept.iter().map(|kept| kept.entries_max).collect();
    assert_eq!(caps, [9984, 9984]);
    assert_eq!((plain.kept[0].ttl_max, plain.kept[1].ttl_max), (3600, 1800));
    assert_eq!((plain.kept[0].ttl_min, plain.servfail.as_secs()), (5, 5));
    assert_eq!((plain.stale, plain.prefetch), (None, 0));
    let full = settings(
        "cache 30 a.org {\nsuccess 0 20 1\ndenial 5000 10 0\nprefetch 3 2m 20%\n\
         serve_stale 2h verify 100ms 30s 1m\nserve_stale_policy Prefer_Positive\nservfail 1m\n\
         disable success\ndisable denial b.org\nkeepttl\nbudget 16MiB\n}",
    );
    assert_eq!(full.zones, [NameBuf::parse("a.org.").unwrap()]);
    let kept = &full.kept[0];
    assert_eq!((kept.entries_max, kept.ttl_max, kept.ttl_min), (1024, 20, 1));
    assert_eq!(kept.except, [NameBuf::root()]);
    assert_eq!((full.kept[1].entries_max, full.kept[1].ttl_min), (4864, 0));
    let stale = full.stale.expect("serve_stale");
    assert!(stale.verify && stale.up_to == 7200 && stale.ttl == 30);
    assert_eq!((stale.verify_timeout.as_millis(), stale.recheck.as_secs()), (100, 60));
    assert_eq!((full.prefetch, full.prefetch_pause.as_secs(), full.prefetch_percent), (3, 120, 20));
    assert!(full.prefer_positive && full.keep_ttl && full.budget == 16 << 20);
    let stale = settings("cache {\nserve_stale 0 immediate 5s\n}").stale.expect("serve_stale");
    assert!(stale.up_to == 0 && stale.ttl == 5 && !stale.verify);
}

#[test]
fn refuses_in_coredns_s_words() {
    for (block, words) in [
        ("cache\ncache", "this plugin can only be used once per Server Block"),
        ("cache 0", "cache TTL can not be zero or negative: 0"),
        ("cache -1", "cache TTL can not be zero or negative: -1"),
        ("cache {\nsuccess\n}", "Wrong argument count or unexpected line ending after 'success'"),
        ("cache {\nsuccess x\n}", "parsing \"x\": invalid syntax"),
        ("cache {\ndenial 1 0\n}", "cache TTL can not be zero or negative: 0"),
        ("cache {\ndenial 1 1 -1\n}", "cache min TTL can not be negative: -1"),
        ("cache {\nprefetch\n}", "Wrong argument count"),
        ("cache {\nprefetch 1 1m 10% x\n}", "Wrong argument count"),
        ("cache {\nprefetch -1\n}", "prefetch amount should be positive: -1"),
        ("cache {\nprefetch 1 1m 10\n}", "last character of percentage should be `%`, but is: '0'"),
        ("cache {\nprefetch 1 1m 9%\n}", "percentage should fall in range [10, 90]: 9"),
        ("cache {\nprefetch 1 x\n}", "time: invalid duration \"x\""),
        ("cache {\nserve_stale -1s\n}", "invalid negative duration for serve_stale"),
        ("cache {\nserve_stale 1h maybe\n}", "invalid value for serve_stale refresh mode: maybe"),
        (
            "cache {\nserve_stale 1h verify -1s\n}",
            "invalid negative timeout for serve_stale verify",
        ),
        ("cache {\nserve_stale 1h verify x\n}", "invalid serve_stale verify timeout: time:"),
        ("cache {\nserve_stale 1h immediate -1s\n}", "invalid negative response TTL"),
        ("cache {\nserve_stale 1h immediate 1ms\n}", "must be a whole number of seconds"),
        ("cache {\nserve_stale 1h immediate 1s 6m\n}", "recheck cannot exceed 5 minutes"),
        ("cache {\nserve_stale 1h immediate 1s 1s 1s\n}", "Wrong argument count"),
        (
            "cache {\nserve_stale_policy prefer_positive\n}",
            "serve_stale_policy requires serve_stale",
        ),
        ("cache {\nserve_stale\nserve_stale_policy x\n}", "invalid serve_stale_policy: x"),
        (
            "cache {\nserve_stale_policy prefer_positive\nserve_stale_policy prefer_positive\n}",
            "serve_stale_policy can only be specified once",
        ),
        ("cache {\nservfail 6m\n}", "caching SERVFAIL responses over 5 minutes is not permitted"),
        ("cache {\nservfail -1s\n}", "invalid negative ttl for servfail"),
        ("cache {\ndisable\n}", "Wrong argument count"),
        ("cache {\ndisable all\n}", "cache type for disable must be \"success\" or \"denial\""),
        ("cache {\ndisable success a..b\n}", "invalid disabled zone: a..b"),
        ("cache {\nkeepttl x\n}", "Wrong argument count"),
        ("cache {\nbudget 1KiB\n}", "budget 1KiB is below 1MiB"),
        ("cache {\nbudget much\n}", "invalid budget \"much\""),
        ("cache {\nnonsense 3\n}", "unexpected line ending after 'nonsense'"),
    ] {
        let error = parse_block::<Cache>(block).map(|_| ()).expect_err(block);
        assert!(error.contains(words), "{block}: {error}");
    }
}

/// What the source does next, and how often it was asked.
#[derive(Default)]
struct Source {
    does: AtomicU32,
    asked: AtomicU64,
    /// Milliseconds that it takes.
    takes: AtomicU64,
    ttl: AtomicU32,
}

/// What it may do: `ANSWER` + n answers 192.0.2.n.
const ANSWER: u32 = 1000;
const NXDOMAIN: u32 = 1;
const SERVFAIL: u32 = 2;
const FAIL: u32 = 3;
const DROP: u32 = 4;
const TRUNCATED: u32 = 5;
const NXDOMAIN_BARE: u32 = 6;
const ALIAS: u32 = 7;
const REFUSED: u32 = 8;
const ALIAS_SOA: u32 = 9;
const EMPTY: u32 = 10;
const OTHER_QUESTION: u32 = 11;
const ALIAS_LOOP: u32 = 12;
const HUGE_TTL: u32 = 13;

impl Source {
    fn set(&self, does: u32) {
        self.does.store(does, Relaxed);
    }

    /// How often it was asked since the last look.
    fn asked(&self) -> u64 {
        self.asked.swap(0, Relaxed)
    }

    fn serve(&self, cx: &mut Cx<'_>) -> Step<[u64; 4]> {
        self.asked.fetch_add(1, Relaxed);
        assert!(cx.asked().flags.ad(), "asked with AD");
        match self.takes.load(Relaxed) {
            0 => self.reply(cx),
            takes => Step::Fetch([0; 4], Fetch::Sleep(takes * MILLISECOND)),
        }
    }

    fn reply(&self, cx: &mut Cx<'_>) -> Step<[u64; 4]> {
        let (does, ttl) = (self.does.load(Relaxed), self.ttl.load(Relaxed));
        match does {
            FAIL => cx.fail(rcode::SERVFAIL, format_args!("on purpose")),
            DROP => cx.drop_reply(),
            _ => {
                let (question, reply) = cx.answer(false);
                reply.set_flags(reply.flags().with_ra(true).with_ad(true));
                write(does, ttl, question.name, reply);
            }
        }
        Step::Up
    }
}

fn write(does: u32, ttl: u32, owner: crate::wire::Name<'_>, reply: &mut crate::wire::Reply) {
    let name = |text: &str| NameBuf::parse(text).expect("a name");
    let address = |last: u32| Ipv4Addr::new(192, 0, 2, last as u8).into();
    let alias = |reply: &mut crate::wire::Reply, from: &NameBuf, to: &str| {
        let section = Section::Answer;
        reply.push_name(section, from.as_name(), rtype::CNAME, name(to).as_name(), ttl).unwrap();
    };
    match does {
        NXDOMAIN | NXDOMAIN_BARE => reply.set_rcode(rcode::NXDOMAIN),
        SERVFAIL => reply.set_rcode(rcode::SERVFAIL),
        REFUSED => reply.set_rcode(rcode::REFUSED),
        ALIAS | ALIAS_SOA => alias(reply, &owner.into(), "else.test."),
        ALIAS_LOOP => {
            alias(reply, &owner.into(), "else.test.");
            alias(reply, &name("else.test."), "else.test.");
        }
        OTHER_QUESTION => {
            let other = name("other.a.");
            let other = other.as_name();
            let (rtype, rclass) = (rtype::A, rclass::IN);
            let question = crate::wire::Question { name: other, lower: other, rtype, rclass };
            let flags = reply.flags();
            reply.start(0, flags, question);
        }
        TRUNCATED => reply.set_flags(reply.flags().with_tc(true)),
        HUGE_TTL => {
            reply.push_address(Section::Answer, owner, address(1), 1 << 31).unwrap();
        }
        EMPTY => {}
        last => reply.push_address(Section::Answer, owner, address(last - ANSWER), ttl).unwrap(),
    }
    if matches!(does, NXDOMAIN | ALIAS_SOA) {
        let zone = name("a.");
        let soa = Soa { mname: zone.as_name(), rname: zone.as_name(), numbers: [1; 5] };
        reply.push_soa(Section::Authority, zone.as_name(), &soa, ttl).unwrap();
    }
}

/// A cache over a source, on so many workers.
struct Scene {
    source: Arc<Source>,
    benches: Vec<Bench>,
    ground: Ground,
}

impl Scene {
    fn of(workers: usize, block: &str, memory: &[&str]) -> Self {
        let source = Arc::new(Source::default());
        source.set(ANSWER + 1);
        source.ttl.store(60, Relaxed);
        let memory = memory.iter().map(|zone| NameBuf::parse(zone).expect("a zone")).collect();
        let mut settings = settings(block);
        settings.zones = vec![NameBuf::root()];
        let cache: crate::plugin::registry::Link = Link::new(settings, memory).into();
        let (serve, resume) = (Arc::clone(&source), Arc::clone(&source));
        let below =
            Probe::serving(move |cx| serve.serve(cx)).resuming(move |cx, _| resume.reply(cx));
        let ground = Ground::new(workers);
        let snapshot = ground.snapshot(1, vec![("a.", vec![cache, below.into()])]);
        let mut benches: Vec<_> =
            (0..workers).map(|n| ground.worker(n as u16, Arc::clone(&snapshot))).collect();
        benches.iter_mut().for_each(|bench| bench.advance(SECOND));
        Self { source, benches, ground }
    }

    fn new(block: &str) -> Self {
        Self::of(1, block, &[])
    }

    fn one(&mut self) -> &mut Bench {
        &mut self.benches[0]
    }

    /// Time passes for all.
    fn advance(&mut self, nanos: u64) {
        self.benches.iter_mut().for_each(|bench| bench.advance(nanos));
        self.benches.iter_mut().for_each(Bench::read_mail);
    }

    /// Asks and gives the reply, which must come at once.
    fn ask(&mut self, message: Vec<u8>) -> Vec<u8> {
        let bench = &mut self.benches[0];
        bench.ask(&[(udp(1), message)]);
        let replies = std::mem::take(&mut bench.out.replies);
        assert_eq!(replies.len(), 1, "one reply");
        replies.into_iter().next().map(|(_, reply, _)| reply).expect("one")
    }

    /// Asks for the addresses of `www.a.`: rcode and TTL of the reply, and the last octet of its
    /// first address, or 0.
    fn www(&mut self) -> (u16, u32, u8) {
        seen(&self.ask(query(1, "www.a.")))
    }
}

fn ttl_of(message: &[u8]) -> u32 {
    let ttls: Vec<_> =
        records(message).expect("valid").map(|one| one.expect("valid").ttl).collect();
    let least = ttls.iter().min().copied().unwrap_or(0);
    assert!(ttls.iter().all(|ttl| *ttl == least), "all alike: {ttls:?}");
    least
}

fn seen(message: &[u8]) -> (u16, u32, u8) {
    let first = addresses(message).first().map_or(0, |address| address.octets()[3]);
    (rcode_of(message), ttl_of(message), first)
}

fn flags(message: &[u8]) -> Flags {
    Flags::read(message)
}

#[test]
fn an_entry_ages_ends_and_is_asked_for_again() {
    let mut scene = Scene::new("cache");
    assert_eq!(scene.www(), (0, 60, 1));
    scene.source.set(ANSWER + 2);
    scene.advance(1_900 * MILLISECOND);
    assert_eq!(scene.www(), (0, 59, 1));
    scene.advance(58 * SECOND);
    assert_eq!(scene.www(), (0, 1, 1));
    assert_eq!(scene.source.asked(), 1);
    scene.advance(SECOND);
    assert_eq!(scene.www(), (0, 60, 2));
    assert_eq!(scene.source.asked(), 1);
}

#[test]
fn lives_are_bounded_and_all_records_have_them() {
    for (block, ttl, expected) in [
        ("cache", 7200, 3600),
        ("cache 30", 60, 30),
        ("cache", 0, 5),
        ("cache {\nsuccess 1 20 10\n}", 1, 10),
        ("cache {\nsuccess 1 20\n}", 60, 20),
        // A minimum over the maximum does not count.
        ("cache 3", 1, 3),
    ] {
        let mut scene = Scene::new(block);
        scene.source.ttl.store(ttl, Relaxed);
        assert_eq!((scene.www(), scene.www()), ((0, expected, 1), (0, expected, 1)), "{block}");
        assert_eq!(scene.source.asked(), 1, "{block}");
    }
    let mut denial = Scene::new("cache {\ndenial 1 9 7\n}");
    denial.source.set(NXDOMAIN);
    for (ttl, expected) in [(60, 9), (1, 7)] {
        denial.source.ttl.store(ttl, Relaxed);
        assert_eq!(denial.www(), (3, expected, 0));
        denial.advance(10 * SECOND);
    }
    let mut sign = Scene::new("cache");
    sign.source.set(HUGE_TTL);
    assert_eq!(sign.www(), (0, 5, 1), "the sign bit counts as zero");
    let mut zero = Scene::new("cache {\nsuccess 1 20 0\n}");
    zero.source.ttl.store(0, Relaxed);
    assert_eq!((zero.www(), zero.www(), zero.source.asked()), ((0, 0, 1), (0, 0, 1), 2));
    let mut keep = Scene::new("cache {\nkeepttl\n}");
    keep.www();
    keep.advance(30 * SECOND);
    assert_eq!(keep.www(), (0, 60, 1));
    keep.advance(30 * SECOND);
    keep.www();
    assert_eq!(keep.source.asked(), 2, "it ends all the same");
}

#[test]
fn what_may_not_be_stored_is_not() {
    for (does, stored, ttl) in [
        (ANSWER + 1, true, 60),
        (NXDOMAIN, true, 60),
        (ALIAS_SOA, true, 60),
        (SERVFAIL, true, 0),
        (EMPTY, true, 0),
        (NXDOMAIN_BARE, false, 0),
        (ALIAS, false, 60),
        (ALIAS_LOOP, false, 60),
        (TRUNCATED, false, 0),
        (REFUSED, false, 0),
        (OTHER_QUESTION, false, 0),
        (FAIL, false, 0),
    ] {
        let mut scene = Scene::new("cache");
        scene.source.set(does);
        let (first, second) = (scene.www(), scene.www());
        assert_eq!((first.1, first), (ttl, second), "{does}");
        assert_eq!(scene.source.asked(), if stored { 1 } else { 2 }, "{does}");
    }
    let mut scene = Scene::new("cache {\nservfail 0\n}");
    scene.source.set(SERVFAIL);
    scene.www();
    scene.www();
    assert_eq!(scene.source.asked(), 2);
    for (block, does) in [("disable success", ANSWER + 1), ("disable denial www.a", NXDOMAIN)] {
        let mut scene = Scene::new(&format!("cache {{\n{block}\n}}"));
        scene.source.set(does);
        assert_eq!(scene.www().1, 60);
        scene.www();
        assert_eq!(scene.source.asked(), 2, "{block}");
    }
}

#[test]
fn flags_are_those_of_the_asker() {
    let mut scene = Scene::new("cache");
    let with =
        |flags: u16, message: &mut Vec<u8>| message[2..4].copy_from_slice(&flags.to_be_bytes());
    let ask = |scene: &mut Scene, bits: u16| {
        let mut message = query(7, "wWw.a.");
        with(bits, &mut message);
        let reply = scene.ask(message);
        assert_eq!(reply[12..17], *b"\x03wWw\x01", "the asker's letters");
        assert_eq!(reply[..2], [0, 7]);
        flags(&reply)
    };
    let miss = ask(&mut scene, 0x0100);
    assert!(!miss.aa() && miss.ra() && !miss.ad() && miss.rd());
    let hit = ask(&mut scene, 0x0100);
    assert!(hit.aa() && hit.ra() && !hit.ad() && hit.rd() && !hit.cd());
    let authentic = ask(&mut scene, 0x0120);
    assert!(authentic.ad() && authentic.aa());
    let plain = ask(&mut scene, 0);
    assert!(!plain.rd() && plain.aa(), "who does not want recursion is answered too");
    assert_eq!(scene.source.asked(), 1);
    let checking = ask(&mut scene, 0x0110);
    assert!(checking.cd() && !checking.aa(), "CD is asked for apart");
    assert_eq!(scene.source.asked(), 1);
}

#[test]
fn the_question_has_the_letters_of_who_asks_and_records_their_own() {
    let mut scene = Scene::new("cache");
    let owner = |reply: &[u8]| {
        let first = records(reply).expect("a message").next().expect("a record").expect("whole");
        first.owner(reply).expect("a name").as_name().as_bytes().to_vec()
    };
    scene.source.takes.store(20, Relaxed);
    // The second waits for the reply to the first.
    scene.one().ask(&[(udp(1), query(1, "wWw.a.")), (udp(2), query(2, "WWW.a."))]);
    scene.advance(20 * MILLISECOND);
    let mut replies: Vec<_> =
        scene.one().out.replies.drain(..).map(|(_, reply, _)| reply).collect();
    let stored = ["WWW.a.", "wWw.a.", "www.A."];
    replies.extend(stored.map(|letters| scene.ask(query(3, letters))));
    assert_eq!(scene.source.asked(), 1);
    for (reply, letters) in replies.iter().zip(["wWw.a.", "WWW.a."].into_iter().chain(stored)) {
        let asked = NameBuf::parse(letters).expect("a name");
        assert!(reply[12..].starts_with(asked.as_name().as_bytes()), "{letters}");
        assert_eq!(owner(reply), b"\x03wWw\x01a\x00", "{letters}");
        assert_eq!(seen(reply).2, 1);
    }
}

#[test]
fn a_thousand_who_miss_ask_once() {
    for (does, sent) in [(ANSWER + 1, 1_000), (FAIL, 1_000), (DROP, 0), (REFUSED, 1_000)] {
        let mut scene = Scene::of(2, "cache", &[]);
        scene.source.set(does);
        scene.source.takes.store(20, Relaxed);
        let queries: Vec<(Client, Vec<u8>)> =
            (1..=500).map(|port| (udp(port), query(port, "www.a."))).collect();
        for bench in &mut scene.benches {
            bench.ask(&queries);
            assert!(bench.is_silent());
        }
        scene.advance(20 * MILLISECOND);
        let replies: usize = scene.benches.iter().map(|bench| bench.out.replies.len()).sum();
        let passed: usize = scene.benches.iter().map(|bench| bench.out.passed.len()).sum();
        assert_eq!((scene.source.asked(), replies, passed), (1, sent, 1_000 - sent), "{does}");
        for bench in &scene.benches {
            let first = bench.out.replies.first().map(|(_, reply, _)| seen(reply));
            let each = |(to, reply, _): &(Client, Vec<u8>, bool)| {
                assert_eq!(reply[..2], to.peer.port().to_be_bytes(), "its own id");
                assert_eq!(Some(seen(reply)), first);
                assert!(!flags(reply).ad() && flags(reply).rd());
            };
            bench.out.replies.iter().for_each(each);
            assert_eq!(bench.turn.parked(), 0);
        }
    }
}

#[test]
fn who_needs_a_stream_does_not_join_a_datagram() {
    let mut scene = Scene::new("cache");
    scene.source.takes.store(20, Relaxed);
    scene.one().ask(&[(udp(1), query(1, "www.a.")), (tcp(1), query(2, "www.a."))]);
    assert_eq!(scene.source.asked(), 2);
}

#[test]
fn a_leader_that_is_gone_is_followed() {
    let mut scene = Scene::of(2, "cache", &[]);
    // The first leader's walk is over its time before the source replies.
    scene.source.takes.store(40_000, Relaxed);
    scene.benches[0].ask(&[(udp(1), query(1, "www.a."))]);
    scene.source.takes.store(20, Relaxed);
    scene.benches[1].ask(&[(udp(2), query(2, "www.a."))]);
    assert_eq!(scene.source.asked(), 1);
    scene.advance(10 * SECOND);
    let late = &scene.benches[1].out.replies;
    assert_eq!((late.len(), rcode_of(&late[0].1)), (1, rcode::SERVFAIL), "it waits for so long");
    scene.advance(30 * SECOND);
    assert_eq!(scene.benches[0].out.replies.len(), 1);
    assert_eq!(scene.ground.over(), 0);
}

/// A client subnet as an EDNS option.
const SUBNET: [u8; 11] = [0, 8, 0, 7, 0, 1, 24, 0, 192, 0, 2];
const COOKIE: [u8; 12] = [0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];

fn with_opt(mut message: Vec<u8>, dnssec_ok: bool, options: &[u8]) -> Vec<u8> {
    message[11] = 1;
    message.extend([0, 0, 41, 16, 0, 0, 0, u8::from(dnssec_ok) << 7, 0, 0, options.len() as u8]);
    message.extend(options);
    message
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Every reply names the one who caused it: no other than one who asked the same has it.
    #[test]
    fn queries_that_differ_share_nothing(
        asks in prop::collection::vec(any::<(u8, u8)>(), 1..60),
    ) {
        let mut scene = Scene::new("cache");
        let mut told = std::collections::BTreeMap::new();
        for (number, (bits, more)) in asks.into_iter().enumerate() {
            let name = if bits & 1 == 0 { "www.a." } else { "ftp.a." };
            let mut message = query(1, name);
            // Types without a meaning here: an answer of type A is none, and yet stored as EMPTY is.
            let at = message.len() - 4;
            message[at + 1] = if bits & 2 == 0 { 1 } else { 16 };
            message[3] |= if bits & 4 == 0 { 0 } else { 0x10 };
            message[2] |= u8::from(bits & 8 == 0);
            message[2] &= if bits & 8 == 0 { 0xff } else { 0xfe };
            let dnssec_ok = bits & 16 != 0;
            let options: &[u8] = match more % 4 {
                0 => &[],
                1 => &COOKIE,
                2 => &SUBNET,
                _ => &[0, 8, 0, 7, 0, 1, 24, 0, 198, 51, 100],
            };
            let subnet = (more % 4).max(1);
            if dnssec_ok || !options.is_empty() {
                message = with_opt(message, dnssec_ok, options);
            }
            let does = if bits & 2 == 0 { ANSWER + 1 + number as u32 } else { EMPTY };
            scene.source.set(does);
            let reply = scene.ask(message);
            let key = |recursive: bool| (bits & 0x17, subnet, recursive);
            let recursive = bits & 8 == 0;
            let asked = scene.source.asked() == 1;
            let own = addresses(&reply).first().map_or(0, |address| address.octets()[3]);
            let known = told.get(&key(true));
            let known = known.or_else(|| told.get(&key(false)).filter(|_| !recursive));
            match known {
                Some(known) => assert_eq!((asked, own), (false, *known)),
                None => {
                    assert!(asked, "nobody asked that before");
                    told.insert(key(recursive), own);
                }
            }
        }
    }
}

/// The extended error of a reply with OPT.
fn extended(reply: &[u8]) -> Option<u16> {
    let at = reply.windows(4).position(|four| four == [0, 15, 0, 2])?;
    Some(u16::from_be_bytes([reply[at + 4], reply[at + 5]]))
}

#[test]
fn stale_answers_are_given_at_once_and_refreshed_behind() {
    let mut scene = Scene::new("cache {\nserve_stale 1h immediate 30s\n}");
    scene.www();
    scene.advance(70 * SECOND);
    scene.source.set(ANSWER + 2);
    scene.source.takes.store(20, Relaxed);
    let stale = scene.ask(with_opt(query(1, "www.a."), false, &[]));
    let records = records(&stale).unwrap().flatten();
    let ttls: Vec<_> = records.filter(|one| one.rtype == rtype::A).map(|one| one.ttl).collect();
    assert_eq!((addresses(&stale), ttls, extended(&stale)), (vec![address(1)], vec![30], Some(3)));
    assert_eq!(scene.www(), (0, 30, 1), "while it is refreshed");
    assert_eq!(scene.source.asked(), 2, "one refresh");
    scene.advance(20 * MILLISECOND);
    assert_eq!(scene.www(), (0, 60, 2));
    assert_eq!(scene.source.asked(), 0);
    scene.advance(3_700 * SECOND);
    scene.source.takes.store(0, Relaxed);
    scene.source.set(ANSWER + 3);
    assert_eq!(scene.www(), (0, 60, 3), "not that old");
}

#[test]
fn a_dead_source_leaves_what_is_stale() {
    for does in [FAIL, SERVFAIL, REFUSED, DROP, TRUNCATED, OTHER_QUESTION] {
        let mut scene = Scene::new("cache {\nserve_stale\n}");
        scene.www();
        scene.advance(60 * SECOND);
        scene.source.set(does);
        for _ in 0..3 {
            assert_eq!(scene.www(), (0, 0, 1), "{does}");
        }
        assert_eq!(scene.source.asked(), 4, "{does}: each time one refresh");
        scene.source.set(NXDOMAIN);
        assert_eq!(scene.www(), (0, 0, 1));
        assert_eq!(scene.www(), (3, 60, 0), "{does}: news");
    }
    let mut pausing = Scene::new("cache {\nserve_stale 1h immediate 30s 10s\n}");
    pausing.www();
    pausing.advance(60 * SECOND);
    pausing.source.set(SERVFAIL);
    (0..5).for_each(|_| assert_eq!(pausing.www(), (0, 30, 1)));
    assert_eq!(pausing.source.asked(), 2, "a pause after what failed");
    pausing.advance(10 * SECOND);
    pausing.www();
    assert_eq!(pausing.source.asked(), 1);
}

#[test]
fn verify_asks_first() {
    let mut scene = Scene::new("cache {\nserve_stale 1h verify\n}");
    scene.www();
    scene.advance(60 * SECOND);
    for does in [FAIL, SERVFAIL, DROP, TRUNCATED, OTHER_QUESTION] {
        scene.source.set(does);
        assert_eq!(scene.www(), (0, 0, 1), "{does}");
    }
    assert_eq!(scene.source.asked(), 6);
    scene.source.set(ANSWER + 2);
    assert_eq!(scene.www(), (0, 60, 2));
    assert_eq!(scene.www(), (0, 60, 2));
    assert_eq!(scene.source.asked(), 1);
    let mut pausing = Scene::new("cache {\nserve_stale 1h verify 0 30s 30s\n}");
    pausing.www();
    pausing.advance(60 * SECOND);
    pausing.source.set(FAIL);
    (0..3).for_each(|_| assert_eq!(pausing.www(), (0, 30, 1)));
    assert_eq!(pausing.source.asked(), 2);
}

#[test]
fn verify_waits_no_longer_than_it_may_and_the_refresh_goes_on() {
    let mut scene = Scene::new("cache {\nserve_stale 1h verify 100ms 30s\n}");
    scene.www();
    scene.advance(60 * SECOND);
    scene.source.set(ANSWER + 2);
    scene.source.takes.store(300, Relaxed);
    scene.one().ask(&[(udp(1), query(1, "www.a.")), (udp(2), query(2, "www.a."))]);
    assert!(scene.one().is_silent());
    scene.advance(100 * MILLISECOND);
    let replies = std::mem::take(&mut scene.one().out.replies);
    let told: Vec<_> = replies.iter().map(|(_, reply, _)| seen(reply)).collect();
    assert_eq!(told, [(0, 30, 1); 2]);
    scene.advance(200 * MILLISECOND);
    assert_eq!(scene.www(), (0, 60, 2));
    assert_eq!(scene.source.asked(), 2, "once for both");
    // In time: those who wait get the new answer.
    scene.advance(60 * SECOND);
    scene.source.set(ANSWER + 3);
    scene.source.takes.store(50, Relaxed);
    scene.one().ask(&[(udp(1), query(1, "www.a.")), (udp(2), query(2, "www.a."))]);
    scene.advance(50 * MILLISECOND);
    let replies = std::mem::take(&mut scene.one().out.replies);
    let told: Vec<_> = replies.iter().map(|(_, reply, _)| seen(reply)).collect();
    assert_eq!((told, scene.source.asked()), (vec![(0, 60, 3); 2], 1));
    // No news in time: the old one at once.
    scene.advance(60 * SECOND);
    scene.source.set(SERVFAIL);
    scene.one().ask(&[(udp(1), query(1, "www.a."))]);
    scene.advance(50 * MILLISECOND);
    let replies = std::mem::take(&mut scene.one().out.replies);
    assert_eq!(seen(&replies[0].1), (0, 30, 3));
    assert_eq!(scene.one().turn.parked(), 0);
}

#[test]
fn popular_entries_are_prefetched_once() {
    let mut scene = Scene::new("cache {\nprefetch 3 1m 20%\n}");
    (0..3).for_each(|_| assert_eq!(scene.www(), (0, 60, 1)));
    scene.source.set(ANSWER + 2);
    scene.source.takes.store(20, Relaxed);
    scene.advance(47 * SECOND);
    assert_eq!(scene.www(), (0, 13, 1));
    assert_eq!(scene.source.asked(), 1, "not yet");
    scene.advance(SECOND);
    assert_eq!((scene.www(), scene.www()), ((0, 12, 1), (0, 12, 1)));
    assert_eq!(scene.source.asked(), 1, "one walk without a client");
    scene.advance(20 * MILLISECOND);
    assert_eq!(scene.www(), (0, 60, 2));
    // A pause makes it unpopular.
    scene.advance(48 * SECOND);
    scene.www();
    assert_eq!(scene.source.asked(), 1, "it goes on counting");
    scene.advance(SECOND);
    let mut rare = Scene::new("cache {\nprefetch 3 10s 90%\n}");
    for _ in 0..5 {
        rare.www();
        rare.advance(11 * SECOND);
    }
    assert_eq!(rare.source.asked(), 1, "nobody asks often enough");
}

#[test]
fn an_answer_is_preferred_where_that_is_wanted() {
    let block = "cache {\nserve_stale\nserve_stale_policy prefer_positive\n}";
    for does in [NXDOMAIN, EMPTY, SERVFAIL, ALIAS_SOA] {
        let mut scene = Scene::new(block);
        scene.www();
        scene.advance(60 * SECOND);
        scene.source.set(does);
        for _ in 0..3 {
            assert_eq!(scene.www(), (0, 0, 1), "{does}");
        }
        scene.source.set(ANSWER + 2);
        scene.www();
        assert_eq!(scene.www(), (0, 60, 2), "{does}");
    }
    let verify = "cache {\nserve_stale 1h verify\nserve_stale_policy prefer_positive\n}";
    let mut scene = Scene::new(verify);
    scene.www();
    scene.advance(60 * SECOND);
    scene.source.set(NXDOMAIN);
    assert_eq!(scene.www(), (0, 0, 1));
    scene.source.set(ANSWER + 2);
    assert_eq!(scene.www(), (0, 60, 2));
}

#[test]
fn what_is_no_answer_waits_until_the_stale_denial_has_been_served() {
    let verify = "cache {\nserve_stale 1h verify\nserve_stale_policy prefer_positive\n}";
    let mut scene = Scene::new(verify);
    scene.source.set(NXDOMAIN);
    scene.www();
    scene.advance(60 * SECOND);
    scene.source.set(SERVFAIL);
    assert_eq!(scene.www().0, rcode::NXDOMAIN);
    assert_eq!(scene.www().0, rcode::SERVFAIL, "which is stored");
    assert_eq!(scene.source.asked(), 2);
}

#[test]
fn a_servfail_does_not_hide_an_answer() {
    let mut scene = Scene::new("cache {\nprefetch 1 1m 90%\nservfail 1m\n}");
    scene.www();
    scene.source.set(SERVFAIL);
    scene.advance(10 * SECOND);
    assert_eq!(scene.www(), (0, 50, 1), "and is prefetched");
    assert_eq!(scene.www(), (0, 50, 1));
    assert!(scene.source.asked() >= 2);
    scene.advance(50 * SECOND);
    assert_eq!(rcode_of(&scene.ask(query(1, "www.a."))), rcode::SERVFAIL);
}

#[test]
fn what_memory_answers_is_shaped_and_never_stored() {
    let source = |cx: &mut Cx<'_>| -> Step<[u64; 4]> {
        let (question, reply) = cx.answer(true);
        let octets = Rdata::Raw(&[192, 0, 2, 1]);
        let owner = question.name;
        reply.push(Section::Answer, owner, rtype::A, rclass::IN, 0, octets).unwrap();
        Step::Up
    };
    let memory = vec![NameBuf::parse("mem.a.").unwrap()];
    let mut settings = settings("cache 30");
    settings.zones = vec![NameBuf::root()];
    let link = Link::new(settings, memory);
    let table = Arc::clone(&link.table);
    let ground = Ground::new(1);
    let chain = vec![link.into(), Probe::serving(source).into()];
    let mut bench = ground.worker(0, ground.snapshot(1, vec![("a.", chain)]));
    bench.ask(&[(udp(1), query(1, "x.mem.a.")), (udp(1), query(1, "x.mem.a."))]);
    let told: Vec<_> = bench.out.replies.iter().map(|(_, reply, _)| seen(reply)).collect();
    assert_eq!(told, [(0, 5, 1); 2]);
    assert_eq!(table.entries(crate::store::Class::Success), 0);
    bench.ask(&[(udp(1), query(1, "x.a."))]);
    assert_eq!(table.entries(crate::store::Class::Success), 1);
}
