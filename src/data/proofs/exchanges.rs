//! Upstreams, played by hand: what is asked, what is believed, what is given up, and that nothing of
//! it is left behind.

use std::time::Duration;

use super::probe::Probe;
use super::*;
use crate::data::chain::step::{Fetched, Step};
use crate::data::clock::{MILLISECOND, SECOND};
use crate::data::tally::Format;
use crate::data::upstream::network::ChannelId;
use crate::data::upstream::{Carrier, Unreached, Upstream, UpstreamSpec};
use crate::limits::{UPSTREAM_SOCKET_QUERIES_MAX, UPSTREAM_SOCKETS_MAX, UPSTREAM_SOCKETS_WANTED};
use crate::wire::{Flags, HEADER_BYTES, Name, rcode};

/// An upstream that nobody listens for.
pub fn upstream(ground: &Ground, label: &str) -> Arc<Upstream> {
    let spec = UpstreamSpec {
        proxy: "test",
        label: label.into(),
        address: ([192, 0, 2, 200], 53).into(),
        carrier: Carrier::Dns,
        source: None,
        expire: 10 * SECOND,
        max_age: 0,
        max_idle: 0,
    };
    Upstream::new(spec, &ground.tally)
}

/// How a probe asks.
#[derive(Clone, Copy, Default)]
struct How {
    stream: bool,
    /// When the second is asked too.
    hedge: Option<u64>,
}

/// A block `a.` that asks `first` for a second; what became of it is the rcode, or the answer.
fn asking(
    first: &Arc<Upstream>,
    second: &Arc<Upstream>,
    how: How,
) -> Vec<(&'static str, Vec<Link>)> {
    let (first, second) = (Arc::clone(first), Arc::clone(second));
    let probe = Probe::serving(move |cx| {
        let (now, deadline) = (cx.core.now, cx.core.now + SECOND);
        let fetch = match how.hedge {
            Some(after) => cx.exchange_hedged(&first, &second, now + after, how.stream, deadline),
            None => cx.exchange(&first, how.stream, deadline),
        };
        Step::Fetch([0; 4], fetch)
    });
    vec![("a.", vec![probe.resuming(|cx, _| told(cx)).into()])]
}

/// Hands up the reply, or an rcode that says what happened.
pub fn told(cx: &mut Cx<'_>) -> Step<probe::Note> {
    match cx.fetched() {
        Fetched::Message => {
            assert!(cx.answered_by().is_some());
            if cx.adopt().is_err() {
                cx.fail(rcode::SERVFAIL, format_args!("no message"));
            }
        }
        Fetched::Late => cx.fail(rcode::NXRRSET, format_args!("late")),
        Fetched::Unreached(Unreached::Mismatched) => cx.fail(rcode::FORMERR, format_args!("other")),
        Fetched::Unreached(Unreached::Closed) => cx.fail(rcode::YXDOMAIN, format_args!("closed")),
        Fetched::Unreached(cause) => cx.fail(rcode::REFUSED, format_args!("{}", cause.as_str())),
        other => panic!("{other:?}"),
    }
    Step::Up
}

/// The reply to a query as it was sent: one address.
pub fn reply_to(query: &[u8], last: u8) -> Vec<u8> {
    let mut reply = query.to_vec();
    reply[2] |= 0x80;
    reply[7] = 1;
    reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, last]);
    reply
}

fn name_of(message: &[u8]) -> &[u8] {
    Name::from_wire(&message[HEADER_BYTES..]).expect("a name").0.as_bytes()
}

/// A worker that asks, and whom it asks.
struct Scene {
    ground: Ground,
    bench: Bench,
    first: Arc<Upstream>,
    second: Arc<Upstream>,
}

impl Scene {
    fn new(how: How) -> Self {
        let ground = Ground::new(1);
        let (first, second) = (upstream(&ground, "first"), upstream(&ground, "second"));
        let snapshot = ground.snapshot(1, asking(&first, &second, how));
        let bench = ground.worker(0, snapshot);
        Self { bench, first, second, ground }
    }

    /// Queries arrive, and the turn ends; what was sent for them.
    fn ask(&mut self, queries: &[(Client, Vec<u8>)]) -> Vec<(ChannelId, Vec<u8>)> {
        self.bench.ask(queries);
        self.bench.flush_upstreams();
        self.sent()
    }

    fn sent(&mut self) -> Vec<(ChannelId, Vec<u8>)> {
        std::mem::take(&mut self.bench.out.air.sent)
    }

    fn ask_one(&mut self) -> (ChannelId, Vec<u8>) {
        let mut sent = self.ask(&[(udp(1), query(7, "wWw.Example.a."))]);
        assert_eq!(sent.len(), 1, "one query");
        sent.remove(0)
    }

    /// The rcode of the only reply.
    fn rcode(&mut self) -> u16 {
        let replies = std::mem::take(&mut self.bench.out.replies);
        assert_eq!(replies.len(), 1, "one reply");
        rcode_of(&replies[0].1)
    }

    /// Nothing is in flight or waits.
    fn is_quiet(&self) -> bool {
        let cells = [&self.first, &self.second]
            .map(|one| one.cells.in_flight.load(std::sync::atomic::Ordering::Relaxed));
        cells == [0, 0]
            && self.bench.turn.core.upstreams.in_flight() == 0
            && self.bench.turn.parked() == 0
    }

    fn ignored(&self) -> u64 {
        let counters = &self.first.counters;
        counters.ignored().into_iter().map(|counter| self.ground.tally.value(counter)).sum()
    }
}

#[test]
fn a_reply_is_the_clients_with_its_id_and_its_case() {
    let mut scene = Scene::new(How::default());
    let (channel, sent) = scene.ask_one();
    assert_eq!(Flags::read(&sent), Flags::default().with_rd(true));
    assert!(name_of(&sent).eq_ignore_ascii_case(b"\x03www\x07example\x01a\0"));
    assert!(!scene.is_quiet());
    scene.bench.advance(3 * MILLISECOND);
    scene.bench.upstream_says(channel, &reply_to(&sent, 5));
    let replies = std::mem::take(&mut scene.bench.out.replies);
    let (client, reply, _) = &replies[0];
    assert_eq!((replies.len(), client.peer.port(), &reply[..2]), (1, 1, &[0, 7][..]));
    assert_eq!(name_of(reply), b"\x03wWw\x07Example\x01a\0");
    assert_eq!(addresses(reply), [address(5)]);
    assert!(scene.is_quiet());
    assert_eq!(scene.first.cells.latency(), 3 * MILLISECOND);
    // The same again is a reply to nothing.
    scene.bench.upstream_says(channel, &reply_to(&sent, 6));
    assert!(scene.bench.is_silent());
    assert_eq!(scene.ignored(), 1);
}

#[test]
fn what_is_no_reply_is_ignored_until_the_deadline() {
    let mut scene = Scene::new(How::default());
    let (channel, sent) = scene.ask_one();
    let good = reply_to(&sent, 1);
    let spoilt = |at: usize, bits: u8| {
        let mut message = good.clone();
        message[at] ^= bits;
        message
    };
    scene.bench.upstream_says(channel, &[]);
    scene.bench.upstream_says(channel, &good[..5]);
    scene.bench.upstream_says(channel, &spoilt(0, 0x55));
    scene.bench.upstream_says(channel, &spoilt(1, 0x01));
    let elsewhere = ChannelId { index: channel.index + 1, ..channel };
    scene.bench.upstream_says(elsewhere, &good);
    let before = ChannelId { use_count: channel.use_count + 1, ..channel };
    scene.bench.upstream_says(before, &good);
    assert!(scene.bench.is_silent() && scene.ignored() == 4);
    scene.bench.advance(2 * SECOND);
    assert_eq!(scene.rcode(), rcode::NXRRSET, "late");
    // With the id of the query, and another question: the client is told that.
    let (channel, sent) = scene.ask_one();
    let mut other = reply_to(&sent, 1);
    other[14] ^= 0x04;
    scene.bench.upstream_says(channel, &other);
    assert!(scene.bench.is_silent());
    scene.bench.advance(2 * SECOND);
    assert_eq!(scene.rcode(), rcode::FORMERR);
    // Unless the right one comes.
    let (channel, sent) = scene.ask_one();
    scene.bench.upstream_says(channel, &sent);
    scene.bench.upstream_says(channel, &reply_to(&sent, 9));
    assert_eq!(scene.bench.one_reply(), [address(9)]);
    assert!(scene.is_quiet());
}

#[test]
fn who_loses_the_case_is_asked_again_plainly_and_then_always() {
    let mut scene = Scene::new(How::default());
    let lower = |sent: &[u8]| {
        let mut reply = reply_to(sent, 4);
        let end = HEADER_BYTES + name_of(sent).len();
        reply[HEADER_BYTES..end].make_ascii_lowercase();
        reply
    };
    // A name with enough letters that a random case is never its own nor the lower one.
    let name = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz.abcdefghijklmnopqrstuvwxyz.a.";
    for round in 0..5 {
        let mut sent = scene.ask(&[(udp(1), query(7, name))]);
        let (mut channel, mut asked) = sent.remove(0);
        let is_plain = name_of(&asked) == name_of(&query(7, name));
        assert_eq!(is_plain, round >= 3, "round {round}");
        if !is_plain {
            scene.bench.upstream_says(channel, &lower(&asked));
            assert!(scene.bench.is_silent());
            scene.bench.flush_upstreams();
            (channel, asked) = scene.sent().remove(0);
            assert_eq!(name_of(&asked), name_of(&query(7, name)));
        }
        scene.bench.upstream_says(channel, &lower(&asked));
        assert_eq!(scene.bench.one_reply(), [address(4)]);
    }
    assert!(scene.is_quiet());
}

#[test]
fn a_hedge_asks_the_second_and_takes_the_first_good_reply() {
    let mut scene = Scene::new(How { hedge: Some(20 * MILLISECOND), ..How::default() });
    let (slow, asked_first) = scene.ask_one();
    scene.bench.advance(19 * MILLISECOND);
    scene.bench.flush_upstreams();
    assert_eq!(scene.sent().len(), 0);
    scene.bench.advance(MILLISECOND);
    scene.bench.flush_upstreams();
    let (fast, asked_second) = scene.sent().remove(0);
    assert_eq!(scene.bench.turn.core.upstreams.in_flight(), 2);
    scene.bench.upstream_says(fast, &reply_to(&asked_second, 2));
    assert_eq!(scene.bench.one_reply(), [address(2)]);
    assert!(scene.is_quiet());
    scene.bench.upstream_says(slow, &reply_to(&asked_first, 1));
    assert!(scene.bench.is_silent());
    // One of two is unreached: the other may still reply.
    let (slow, asked_first) = scene.ask_one();
    scene.bench.advance(20 * MILLISECOND);
    scene.bench.flush_upstreams();
    let (fast, _) = scene.sent().remove(0);
    scene.bench.lost(fast, Unreached::Refused);
    assert!(scene.bench.is_silent());
    scene.bench.upstream_says(slow, &reply_to(&asked_first, 1));
    assert_eq!(scene.bench.one_reply(), [address(1)]);
    // Both are; or the first is before its time.
    let (slow, _) = scene.ask_one();
    scene.bench.lost(slow, Unreached::Refused);
    assert_eq!(scene.rcode(), rcode::REFUSED);
    let (slow, _) = scene.ask_one();
    scene.bench.advance(20 * MILLISECOND);
    scene.bench.flush_upstreams();
    let (fast, _) = scene.sent().remove(0);
    scene.bench.lost(slow, Unreached::Refused);
    scene.bench.lost(fast, Unreached::Refused);
    assert_eq!(scene.rcode(), rcode::REFUSED);
    assert!(scene.is_quiet());
}

#[test]
fn a_refusal_is_told_at_once_to_all_of_its_socket() {
    let mut scene = Scene::new(How::default());
    let queries: Vec<_> = (1..9).map(|port| (udp(port), query(port, "x.a."))).collect();
    let sent = scene.ask(&queries);
    let ids: std::collections::BTreeSet<_> = sent.iter().map(|(_, sent)| &sent[..2]).collect();
    assert_eq!((sent.len(), ids.len()), (8, 8));
    assert!(sent.iter().all(|(channel, _)| *channel == sent[0].0), "a batch by one socket");
    scene.bench.lost(sent[0].0, Unreached::Refused);
    assert_eq!(scene.bench.out.replies.len(), 8);
    assert!(scene.is_quiet() && scene.bench.out.air.open.is_empty());
    // The kernel refuses to send, or to open.
    scene.bench.out.replies.clear();
    scene.bench.out.air.broken = Some(Unreached::NoRoute);
    assert_eq!(scene.ask(&queries).len(), 0);
    assert_eq!(scene.bench.out.replies.len(), 8);
    assert!(scene.is_quiet());
}

#[test]
fn a_pooled_connection_that_was_closed_is_made_anew_once() {
    let mut scene = Scene::new(How { stream: true, ..How::default() });
    // Fresh: that it is closed is told.
    let (channel, _) = scene.ask_one();
    scene.bench.lost(channel, Unreached::Closed);
    assert_eq!(scene.rcode(), rcode::YXDOMAIN);
    // It has served: asked again on another one, and not a third time.
    let (served, sent) = scene.ask_one();
    scene.bench.upstream_says(served, &reply_to(&sent, 1));
    assert_eq!(scene.bench.one_reply(), [address(1)]);
    let (again, _) = scene.ask_one();
    assert_eq!(again, served, "pooled");
    scene.bench.lost(served, Unreached::Closed);
    let (fresh, sent) = scene.sent().remove(0);
    assert!(fresh != served && scene.bench.is_silent());
    scene.bench.upstream_says(fresh, &reply_to(&sent, 3));
    assert_eq!(scene.bench.one_reply(), [address(3)]);
    let (again, _) = scene.ask_one();
    scene.bench.lost(again, Unreached::Closed);
    let (fresh, _) = scene.sent().remove(0);
    scene.bench.lost(fresh, Unreached::Closed);
    assert_eq!(scene.rcode(), rcode::YXDOMAIN);
    // What is about something else ends the wait: nobody else writes there.
    let (channel, sent) = scene.ask_one();
    let mut other = reply_to(&sent, 1);
    other[14] ^= 0x04;
    scene.bench.upstream_says(channel, &other);
    assert_eq!(scene.rcode(), rcode::FORMERR);
    assert!(scene.is_quiet());
    // A connection by which nothing comes any more is not asked again.
    let (dead, _) = scene.ask_one();
    scene.bench.advance(2 * SECOND);
    assert_eq!(scene.rcode(), rcode::NXRRSET);
    let (other, _) = scene.ask_one();
    assert_ne!(other, dead);
}

#[test]
fn replies_and_their_lack_are_counted() {
    let mut scene = Scene::new(How { hedge: Some(20 * MILLISECOND), ..How::default() });
    // Both reply to the one query, the first too late: it has not failed.
    scene.ask_one();
    scene.bench.advance(20 * MILLISECOND);
    scene.bench.flush_upstreams();
    let (fast, asked) = scene.sent().remove(0);
    scene.bench.advance(3 * MILLISECOND);
    scene.bench.upstream_says(fast, &reply_to(&asked, 2));
    // One is refused, the other silent.
    let (slow, _) = scene.ask_one();
    scene.bench.advance(20 * MILLISECOND);
    scene.bench.flush_upstreams();
    scene.bench.lost(slow, Unreached::Refused);
    scene.bench.advance(2 * SECOND);
    let mut page = String::new();
    scene.ground.tally.scrape(&mut page, Format::Text004);
    let labels = |to| format!("{{proxy_name=\"test\",to=\"{to}\"");
    let failed = |to, reason| {
        format!("corelane_upstream_failed_total{},reason=\"{reason}\"}} 1\n", labels(to))
    };
    assert!(page.contains(&failed("first", "unreached")), "{page}");
    assert!(page.contains(&failed("second", "late")), "{page}");
    assert_eq!(page.matches("\ncorelane_upstream_failed_total{").count(), 2);
    let count = |to| format!("corelane_upstream_duration_seconds_count{}}} 1\n", labels(to));
    assert!(page.contains(&count("second")) && !page.contains(&count("first")), "{page}");
    let sum = format!("corelane_upstream_duration_seconds_sum{}}} 0.003\n", labels("second"));
    assert!(page.contains(&sum), "{page}");
    assert!(scene.is_quiet());
}

#[test]
fn sockets_are_many_change_and_go() {
    let mut scene = Scene::new(How::default());
    let mut seen = std::collections::BTreeMap::<_, u32>::new();
    for _ in 0..2_000 {
        let (channel, sent) = scene.ask_one();
        *seen.entry((channel.index, channel.use_count)).or_default() += 1;
        scene.bench.upstream_says(channel, &reply_to(&sent, 1));
        scene.bench.out.replies.clear();
    }
    assert_eq!(seen.len(), UPSTREAM_SOCKETS_WANTED);
    assert!(seen.values().all(|count| (60..250).contains(count)), "{seen:?}");
    // Each is replaced after so many queries.
    let batch: Vec<_> = (1..65).map(|port| (udp(port), query(port, "x.a."))).collect();
    for _ in 0..UPSTREAM_SOCKET_QUERIES_MAX * 20 / 64 {
        for (channel, sent) in scene.ask(&batch) {
            seen.entry((channel.index, channel.use_count)).or_default();
            scene.bench.upstream_says(channel, &reply_to(&sent, 1));
        }
        scene.bench.out.replies.clear();
        scene.bench.advance(MILLISECOND);
    }
    assert!(seen.len() > UPSTREAM_SOCKETS_WANTED + 4, "{}", seen.len());
    assert!(scene.bench.out.air.open.len() <= UPSTREAM_SOCKETS_MAX);
    // Idle ones are closed, and the upstream is forgotten with its last owner.
    let idle = Duration::from_secs(12).as_nanos() as u64;
    scene.bench.advance(idle);
    scene.bench.flush_upstreams();
    assert_eq!(
        (scene.bench.out.air.open.len(), scene.bench.turn.core.upstreams.channels()),
        (0, 0)
    );
    assert!(scene.is_quiet());
    let Scene { ground, mut bench, first, second } = scene;
    bench.turn.adopt(ground.snapshot(2, vec![]));
    let gone = Arc::downgrade(&first);
    drop((first, second));
    assert_eq!(gone.strong_count(), 1);
    bench.ask(&[]);
    for _ in 0..2 {
        bench.turn.core.upstreams.meet(&upstream(&ground, "third"));
        bench.advance(idle);
        bench.flush_upstreams();
    }
    assert_eq!(gone.strong_count(), 0);
}

#[test]
fn what_is_cut_off_comes_with_tc() {
    let mut scene = Scene::new(How::default());
    let (channel, sent) = scene.ask_one();
    let reply = reply_to(&sent, 1);
    scene.bench.upstream_says_of(channel, &reply, crate::limits::LANE_BYTES + 1);
    let replies = std::mem::take(&mut scene.bench.out.replies);
    assert!(Flags::read(&replies[0].1).tc() && addresses(&replies[0].1).is_empty());
    assert_eq!(name_of(&replies[0].1), b"\x03wWw\x07Example\x01a\0");
}

#[test]
fn a_reload_and_a_cancel_leave_nothing_in_flight() {
    let ground = Ground::new(1);
    let asked = upstream(&ground, "first");
    let probe = {
        let asked = Arc::clone(&asked);
        Probe::serving(move |cx| {
            cx.cancel_after(50 * MILLISECOND);
            let fetch = cx.exchange(&asked, false, cx.core.now + SECOND);
            Step::Fetch([0; 4], fetch)
        })
    };
    let mut bench = ground.worker(0, ground.snapshot(1, vec![("a.", vec![probe.into()])]));
    bench.ask(&[(udp(1), query(1, "x.a."))]);
    bench.flush_upstreams();
    let next = ground.snapshot(2, asking(&asked, &asked, How::default()));
    bench.turn.adopt(next);
    assert_eq!(bench.turn.core.upstreams.in_flight(), 1);
    bench.advance(60 * MILLISECOND);
    assert_eq!((bench.turn.core.upstreams.in_flight(), bench.out.passed.len()), (0, 1));
    // A question in flight over a reload is answered by the generation that asked it.
    bench.ask(&[(udp(2), query(2, "x.a."))]);
    bench.flush_upstreams();
    let (channel, sent) = bench.out.air.sent.pop().expect("a query");
    bench.turn.adopt(ground.snapshot(3, vec![]));
    bench.upstream_says(channel, &reply_to(&sent, 8));
    assert_eq!((bench.one_reply(), bench.turn.retire()), (vec![address(8)], 3));
    assert_eq!(bench.turn.core.upstreams.in_flight(), 0);
}
