//! The rules of answering, one test each, over zones written as zone files.

use super::*;
use crate::wire::{Flags, Name, NameBuf, Question, Rdata, Reply, Section, rclass, rtype};
use hickory_proto::op::Message;
use hickory_proto::rr::RData;
use std::path::Path;

/// Makes a zone of the text of a zone file.
pub(super) fn zone(origin: &str, text: &str) -> Zone {
    try_zone(origin, text).unwrap_or_else(|error| panic!("{error}"))
}

pub(super) fn try_zone(origin: &str, text: &str) -> Result<Zone, String> {
    let origin = NameBuf::parse(origin).unwrap();
    let mut builder = ZoneBuilder::new(&origin, text.len());
    scan(text.as_bytes(), Path::new("db"), origin.as_name().as_bytes(), &mut |entry| {
        builder.push(entry.owner, entry.rtype, entry.ttl, entry.rdata)
    })
    .map_err(|error| error.to_string())?;
    builder.finish().map_err(|error| error.to_string())
}

/// Asks `NAME TYPE [do]`; the outcome's name and the message.
pub(super) fn ask_message(zone: &Zone, asked: &str) -> (Outcome, Message) {
    let mut words = asked.split(' ');
    let name = NameBuf::parse(words.next().unwrap()).unwrap();
    let mut lower = name;
    lower.make_lower();
    let rtype = rtype::parse(words.next().unwrap()).unwrap();
    let question = Question { name: name.as_name(), lower: lower.as_name(), rtype, rclass: 1 };
    let mut reply = Reply::new(vec![0; 65_535].into_boxed_slice());
    reply.start(1, Flags::default().with_qr(true), question);
    let outcome = zone.answer(question, words.next() == Some("do"), &mut reply);
    let message = Message::from_vec(reply.bytes()).expect("a valid message");
    (outcome, message)
}

/// As `ask_message`, in lines: `rcode [aa] outcome`, then the records behind `an`, `ns` and `ar`.
pub(super) fn ask(zone: &Zone, asked: &str) -> String {
    let (outcome, message) = ask_message(zone, asked);
    let outcome = match outcome {
        Outcome::Chase { target } => format!("chase {target}"),
        other => format!("{other:?}"),
    };
    let aa = if message.metadata.authoritative { " aa" } else { "" };
    let mut lines = vec![format!("{:?}{aa} {outcome}", message.metadata.response_code)];
    let sections =
        [("an", &message.answers), ("ns", &message.authorities), ("ar", &message.additionals)];
    for (section, records) in sections {
        lines.extend(records.iter().map(|record| {
            let (name, ttl) = (&record.name, record.ttl);
            format!("{section} {name} {ttl} {} {}", record.record_type(), text(&record.data))
        }));
    }
    lines.join("\n")
}

/// RDATA as text. hickory has no DNAME: there it is the name.
fn text(data: &RData) -> String {
    match data {
        RData::Unknown { code, rdata } if u16::from(*code) == 39 => {
            Name::from_wire(&rdata.anything).unwrap().0.to_string()
        }
        data => data.to_string(),
    }
}

fn lines(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn check(zone: &Zone, asked: &str, want: &str) {
    assert_eq!(ask(zone, asked), lines(want), "for {asked}");
}

const HEAD: &str = "$TTL 300
@ 3600 IN SOA ns.example.net. host.example.org. 7 7200 900 1209600 60
@ IN NS ns.example.net.
";
const NS: &str = "ns example.org. 300 NS ns.example.net.";
const SOA: &str = "ns example.org. 60 SOA ns.example.net. host.example.org. 7 7200 900 1209600 60";

fn example(text: &str) -> Zone {
    zone("example.org.", &format!("{HEAD}{text}"))
}

#[test]
fn positive_answers_come_with_the_ns_records() {
    let zone = example("www A 192.0.2.1\nwww A 192.0.2.2\nwww 60 AAAA 2001:db8::1\n");
    let a = "an www.example.org. 300 A 192.0.2.1\nan www.example.org. 300 A 192.0.2.2";
    check(&zone, "www.example.org. A", &format!("NoError aa Answer\n{a}\n{NS}"));
    let aaaa = "an www.example.org. 60 AAAA 2001:db8::1";
    check(&zone, "www.example.org. AAAA", &format!("NoError aa Answer\n{aaaa}\n{NS}"));
    let soa = SOA.replace("ns example.org. 60", "an example.org. 3600");
    check(&zone, "example.org. SOA", &format!("NoError aa Answer\n{soa}\n{NS}"));
    let ns = NS.replace("ns example.org.", "an example.org.");
    check(&zone, "example.org. NS", &format!("NoError aa Answer\n{ns}"));
}

#[test]
fn owners_are_in_the_zones_case() {
    let zone = example("www MX 10 WWW\nwww A 192.0.2.1\nsrv SRV 1 2 3 CamelCase\n");
    let mx = "an www.example.org. 300 MX 10 www.example.org.";
    let a = "ar www.example.org. 300 A 192.0.2.1";
    check(&zone, "wWw.Example.ORG. MX", &format!("NoError aa Answer\n{mx}\n{NS}\n{a}"));
    let srv = "an srv.example.org. 300 SRV 1 2 3 CamelCase.example.org.";
    check(&zone, "srv.example.org. SRV", &format!("NoError aa Answer\n{srv}\n{NS}"));
}

#[test]
fn what_is_not_there() {
    let zone = example("www A 192.0.2.1\na.deep.ent TXT x\n");
    check(&zone, "www.example.org. TXT", &format!("NoError aa NoData\n{SOA}"));
    check(&zone, "example.org. TXT", &format!("NoError aa NoData\n{SOA}"));
    check(&zone, "nope.example.org. A", &format!("NXDomain aa NxDomain\n{SOA}"));
    check(&zone, "x.www.example.org. A", &format!("NXDomain aa NxDomain\n{SOA}"));
    check(&zone, "x.y.z.a.b.c.d.example.org. A", &format!("NXDomain aa NxDomain\n{SOA}"));
    check(&zone, "ent.example.org. A", &format!("NoError aa EmptyNonTerminal\n{SOA}"));
    check(&zone, "deep.ent.example.org. A", &format!("NoError aa EmptyNonTerminal\n{SOA}"));
    check(&zone, "x.ent.example.org. A", &format!("NXDomain aa NxDomain\n{SOA}"));
    check(&zone, "NOPE.example.org. A", &format!("NXDomain aa NxDomain\n{SOA}"));
    assert!(matches!(ask_message(&zone, "example.com. A").0, Outcome::NotInZone));
    assert!(matches!(ask_message(&zone, "xexample.org. A").0, Outcome::NotInZone));
    // The octets end like the zone's name, the labels do not.
    assert!(matches!(ask_message(&zone, "x\\007example\\003org. A").0, Outcome::NotInZone));
}

#[test]
fn wildcards() {
    let zone = example(
        "* A 192.0.2.100\nhost A 192.0.2.1\n*.sub CNAME host\nthere.sub TXT here
ent.x.sub2 A 192.0.2.9\n*.sub2 A 192.0.2.10\n*.mx MX 1 host\nf.*.e A 192.0.2.11\n",
    );
    let a = |name: &str, last| {
        format!("NoError aa Answer\nan {name}.example.org. 300 A 192.0.2.{last}\n{NS}")
    };
    check(&zone, "any.example.org. A", &a("any", 100));
    check(&zone, "a.b.c.example.org. A", &a("a.b.c", 100));
    check(&zone, "*.example.org. A", &a("*", 100));
    check(&zone, "y.sub2.example.org. A", &a("y.sub2", 10));
    check(&zone, "f.*.e.example.org. A", &a("f.*.e", 11));
    check(&zone, "ANY.example.org. A", &a("any", 100));
    let no_data = format!("NoError aa NoData\n{SOA}");
    check(&zone, "any.example.org. MX", &no_data);
    check(&zone, "there.sub.example.org. A", &no_data);
    check(&zone, "x.e.example.org. A", &no_data);
    let missing = format!("NXDomain aa NxDomain\n{SOA}");
    check(&zone, "x.host.example.org. A", &missing);
    check(&zone, "y.x.sub2.example.org. A", &missing);
    check(&zone, "x.*.e.example.org. A", &missing);
    let mx = "an q.mx.example.org. 300 MX 1 host.example.org.";
    let added = "ar host.example.org. 300 A 192.0.2.1";
    check(&zone, "q.mx.example.org. MX", &format!("NoError aa Answer\n{mx}\n{NS}\n{added}"));
    let alias = "an q.sub.example.org. 300 CNAME host.example.org.";
    let end = "an host.example.org. 300 A 192.0.2.1";
    check(&zone, "q.sub.example.org. A", &format!("NoError aa Answer\n{alias}\n{end}\n{NS}"));
    assert_eq!(
        zone.wildcard(NameBuf::parse("q.sub.example.org.").unwrap().as_name()),
        Some(NameBuf::parse("*.sub.example.org.").unwrap())
    );
    assert_eq!(zone.wildcard(NameBuf::parse("host.example.org.").unwrap().as_name()), None);
}

#[test]
fn aliases() {
    let zone = example(
        "a CNAME b\nb CNAME c\nc A 192.0.2.1\nout CNAME www.example.com.\ngone CNAME nothere
l1 CNAME l2\nl2 CNAME l1\nself CNAME self\nent CNAME deep\nx.deep A 192.0.2.2\nref CNAME www.cut
cut NS ns.cut\nns.cut A 192.0.2.3\n",
    );
    let chain =
        "an a.example.org. 300 CNAME b.example.org.\nan b.example.org. 300 CNAME c.example.org.";
    let end = "an c.example.org. 300 A 192.0.2.1";
    check(&zone, "a.example.org. A", &format!("NoError aa Answer\n{chain}\n{end}\n{NS}"));
    check(&zone, "a.example.org. TXT", &format!("NoError aa Answer\n{chain}\n{NS}"));
    let first = chain.lines().next().unwrap();
    check(&zone, "a.example.org. CNAME", &format!("NoError aa Answer\n{first}\n{NS}"));
    let out = "an out.example.org. 300 CNAME www.example.com.";
    check(&zone, "out.example.org. A", &format!("NoError aa chase www.example.com.\n{out}"));
    let gone = "an gone.example.org. 300 CNAME nothere.example.org.";
    check(&zone, "gone.example.org. A", &format!("NoError aa chase nothere.example.org.\n{gone}"));
    let looped = "an l1.example.org. 300 CNAME l2.example.org.\n\
                  an l2.example.org. 300 CNAME l1.example.org.";
    check(&zone, "l1.example.org. A", &format!("NoError aa Answer\n{looped}\n{NS}"));
    let own = "an self.example.org. 300 CNAME self.example.org.";
    check(&zone, "self.example.org. A", &format!("NoError aa Answer\n{own}\n{NS}"));
    let ent = "an ent.example.org. 300 CNAME deep.example.org.";
    check(&zone, "ent.example.org. A", &format!("NoError aa Answer\n{ent}\n{SOA}"));
    let referral = "an ref.example.org. 300 CNAME www.cut.example.org.
        ns cut.example.org. 300 NS ns.cut.example.org.\nar ns.cut.example.org. 300 A 192.0.2.3";
    check(&zone, "ref.example.org. A", &format!("NoError aa Delegation\n{referral}"));
}

#[test]
fn long_chains_end() {
    let links: String = (0..20).map(|i| format!("c{i} CNAME c{}\n", i + 1)).collect();
    let zone = example(&format!("{links}c20 A 192.0.2.1\n"));
    assert_eq!(ask_message(&zone, "c0.example.org. A").1.answers.len(), 10);
    assert_eq!(ask_message(&zone, "c11.example.org. A").1.answers.len(), 10);
    assert_eq!(ask_message(&zone, "c15.example.org. A").1.answers.len(), 6);
}

#[test]
fn an_alias_at_the_apex_does_not_hide_it() {
    let zone = example("@ CNAME www\nwww A 192.0.2.1\n");
    let alias = "an example.org. 300 CNAME www.example.org.";
    let end = "an www.example.org. 300 A 192.0.2.1";
    check(&zone, "example.org. A", &format!("NoError aa Answer\n{alias}\n{end}\n{NS}"));
    assert!(ask(&zone, "example.org. SOA").contains("an example.org. 3600 SOA"));
    assert!(ask(&zone, "example.org. NS").contains("an example.org. 300 NS"));
}

#[test]
fn delegations() {
    let zone = example(
        "sub NS ns1.sub\nsub NS ns.example.com.\nsub DS 12345 13 2 0102\nns1.sub A 192.0.2.53
ns1.sub AAAA 2001:db8::53\nlame NS ns.other.net.\ncousin NS ns1.sub\n*.wild NS ns.other.net.\n",
    );
    let referral = "ns sub.example.org. 300 NS ns1.sub.example.org.
        ns sub.example.org. 300 NS ns.example.com.";
    let glue = "ar ns1.sub.example.org. 300 A 192.0.2.53
        ar ns1.sub.example.org. 300 AAAA 2001:db8::53";
    let want = format!("NoError Delegation\n{referral}\n{glue}");
    for asked in ["www.sub.example.org. A", "sub.example.org. NS", "ns1.sub.example.org. A"] {
        check(&zone, asked, &want);
    }
    let with_ds = ask(&zone, "x.sub.example.org. A do");
    assert!(with_ds.starts_with(&lines(&format!("NoError Delegation\n{referral}"))), "{with_ds}");
    assert!(with_ds.contains("ns sub.example.org. 300 DS "), "{with_ds}");
    assert!(ask(&zone, "sub.example.org. DS").starts_with("NoError aa Answer\nan sub"));
    check(&zone, "lame.example.org. DS", &format!("NoError aa NoData\n{SOA}"));
    check(
        &zone,
        "x.lame.example.org. MX",
        "NoError Delegation\nns lame.example.org. 300 NS ns.other.net.",
    );
    // Addresses are added for servers in the delegated zone, as CoreDNS does.
    check(
        &zone,
        "cousin.example.org. A",
        "NoError Delegation\nns cousin.example.org. 300 NS ns1.sub.example.org.",
    );
    check(&zone, "x.wild.example.org. A", &format!("NoError aa NoData\n{SOA}"));
}

#[test]
fn dname() {
    let long = vec!["a".repeat(63); 3].join(".");
    let zone = example(&format!(
        "old DNAME new\nold TXT here\nwww.new A 192.0.2.1\naway DNAME example.net.
same DNAME same\nlong DNAME {long}\n"
    ));
    let old = "an old.example.org. 300 DNAME new.example.org.";
    let made = "an www.old.example.org. 300 CNAME www.new.example.org.";
    let end = "an www.new.example.org. 300 A 192.0.2.1";
    check(
        &zone,
        "www.old.example.org. A",
        &format!("NoError aa Answer\n{old}\n{made}\n{end}\n{NS}"),
    );
    check(&zone, "www.old.example.org. CNAME", &format!("NoError aa Answer\n{old}\n{made}\n{NS}"));
    check(&zone, "old.example.org. DNAME", &format!("NoError aa Answer\n{old}\n{NS}"));
    check(&zone, "old.example.org. A", &format!("NoError aa NoData\n{SOA}"));
    let away = "an away.example.org. 300 DNAME example.net.
        an www.away.example.org. 300 CNAME www.example.net.";
    check(&zone, "www.away.example.org. A", &format!("NoError aa chase www.example.net.\n{away}"));
    assert!(matches!(ask_message(&zone, "x.same.example.org. A").0, Outcome::Loop));
    let label = "b".repeat(60);
    let answer = ask(&zone, &format!("{label}.long.example.org. A"));
    assert!(answer.starts_with("YXDomain aa Answer\nan long.example.org. 300 DNAME"), "{answer}");
}

#[test]
fn additional_addresses() {
    let zone = example(
        "www A 192.0.2.1\nwww AAAA 2001:db8::1\nm MX 10 www\nm MX 20 WWW\nm MX 30 mail.example.net.
_x._tcp SRV 1 2 80 www\nh HTTPS 1 www alpn=h2\n",
    );
    let added = "ar www.example.org. 300 A 192.0.2.1\nar www.example.org. 300 AAAA 2001:db8::1";
    for asked in ["m.example.org. MX", "_x._tcp.example.org. SRV", "h.example.org. HTTPS"] {
        let answer = ask(&zone, asked);
        assert!(answer.ends_with(added), "{answer}");
        assert_eq!(answer.matches("\nar ").count(), 2, "{answer}");
    }
}

#[test]
fn any_is_one_record_set() {
    let zone = example("www A 192.0.2.1\nwww TXT x\nent.x A 192.0.2.1\n");
    let a = "an www.example.org. 300 A 192.0.2.1";
    check(&zone, "www.example.org. ANY", &format!("NoError aa Answer\n{a}\n{NS}"));
    check(&zone, "x.example.org. ANY", &format!("NoError aa EmptyNonTerminal\n{SOA}"));
}

#[test]
fn sets_are_sets() {
    let zone = example(
        "two A 192.0.2.2\ntwo A 192.0.2.2\nttl 600 A 192.0.2.3\nttl 300 A 192.0.2.4
both CNAME two\nboth A 192.0.2.5\nboth CNAME ttl\nwww.example.com. A 192.0.2.9\n\
x.y SOA a. b. 1 1 1 1 1\n",
    );
    assert_eq!(ask_message(&zone, "two.example.org. A").1.answers.len(), 1);
    let ttls = ask_message(&zone, "ttl.example.org. A").1.answers;
    assert_eq!(ttls.iter().map(|record| record.ttl).collect::<Vec<_>>(), [300, 300]);
    let both = ask_message(&zone, "both.example.org. A").1.answers;
    assert_eq!(both.len(), 2, "one CNAME and what it leads to");
    assert_eq!(zone.ignored(), 2);
    assert_eq!(zone.records(), 8 - 2 + 1, "doubles are gone");
}

#[test]
fn a_root_zone() {
    let zone = zone(
        ".",
        ". 86400 IN SOA a.root. nstld.example. 1 1800 900 604800 86400
. 518400 IN NS a.root.\norg. 172800 IN NS a.gtld.\na.root. 518400 IN A 192.0.2.4
a.gtld. 172800 IN A 192.0.2.5\n",
    );
    let ns = "an . 518400 NS a.root.\nar a.root. 518400 A 192.0.2.4";
    check(&zone, ". NS", &format!("NoError aa Answer\n{ns}"));
    check(&zone, "www.example.org. A", "NoError Delegation\nns org. 172800 NS a.gtld.");
    let soa = "ns . 86400 SOA a.root. nstld.example. 1 1800 900 604800 86400";
    check(&zone, "nope. A", &format!("NXDomain aa NxDomain\n{soa}"));
}

#[test]
fn many_records_do_not_fit() {
    let text: String =
        (0..4000).map(|i| format!("all TXT \"record number {i} of many\"\n")).collect();
    let zone = example(&text);
    let (outcome, message) = ask_message(&zone, "all.example.org. TXT");
    assert!(matches!(outcome, Outcome::TooLong));
    assert!(message.metadata.truncation && message.answers.is_empty());
    assert_eq!(zone.records(), 4002);
}

#[test]
fn errors_name_the_place() {
    let bad = |text: &str| try_zone("example.org.", text).unwrap_err();
    let text = format!("{HEAD}www 300 IN A 192.0.2.300\n");
    assert_eq!(bad(&text), "db: dns: bad A A: \"192.0.2.300\" at line: 4:14");
    assert!(bad("www 300 IN A 192.0.2.1\n").contains("no SOA"));
    assert!(bad("$TTL 300\n@ FOO x\n").contains("expecting RR type, TTL or class, not this..."));
    assert!(bad("@ 300 IN MX ten a\n").contains("bad MX Pref: \"ten\" at line: 1:13"));
    assert!(bad("a..b 300 IN A 192.0.2.1\n").contains("bad owner name"));
    assert!(bad("@ 300 IN SVCB 0 a \"\"\n").contains("bad SVCB Value"));
    assert!(bad("@ 300 IN A 192.0.2.1 x\n").contains("garbage after rdata: \"x\""));
    assert!(bad("@ A 192.0.2.1\n").contains("missing TTL with no previous value"));
    assert!(bad("@ 300 IN A (192.0.2.1\n").contains("unbalanced brace"));
    assert!(bad("$INCLUDE nowhere.inc\n").contains("open nowhere.inc: no such file"));
    assert!(bad("$GENERATE 3-1 a$ A 192.0.2.$\n").contains("bad range in $GENERATE range"));
    assert!(bad("$GENERATE 1-3 a$ A 192.0.2.${1,2,q}\n").contains("bad base in $GENERATE"));
}

#[test]
fn generate_and_defaults() {
    let zone = example(
        "$GENERATE 0-10/5 s-${0,3,d} A 192.0.2.${10}\n$GENERATE 10-12 h-${0,2,x} CNAME s-$$\\$
$ORIGIN sub\n\tTXT blank\nx 60 TXT y\n",
    );
    assert!(ask(&zone, "s-005.example.org. A").contains("an s-005.example.org. 3600 A 192.0.2.15"));
    let alias = ask(&zone, "h-0b.example.org. CNAME");
    assert!(alias.contains("CNAME s-$$.example.org.") || alias.contains(r"s-\$\$"), "{alias}");
    assert!(ask(&zone, "x.sub.example.org. TXT").contains("an x.sub.example.org. 60 TXT y"));
    // A blank owner is the one of the line before, also behind another origin.
    assert!(ask(&zone, "example.org. TXT").contains("an example.org. 300 TXT blank"));
}

#[test]
fn without_a_default_ttl() {
    let zone = zone(
        "example.org.",
        "@ IN SOA a. b. 1 1 1 1 1\n@ IN NS a.\nm 60 IN A 192.0.2.2\nafter IN A 192.0.2.3\n",
    );
    assert_eq!(zone.soa().ttl, 0);
    assert!(ask(&zone, "after.example.org. A").contains("an after.example.org. 60 A"));
}

const SIGNED: &str = "
@ RRSIG SOA 13 2 300 20400101000000 20240101000000 5512 example.org. AQID
@ RRSIG NS 13 2 300 20400101000000 20240101000000 5512 example.org. AQIC
@ NSEC *.example.org. NS SOA RRSIG NSEC
* TXT x
* RRSIG TXT 13 2 300 20400101000000 20240101000000 5512 example.org. AQIF
* NSEC a.example.org. TXT RRSIG NSEC
a A 192.0.2.1
a RRSIG A 13 3 300 20400101000000 20240101000000 5512 example.org. AQIH
a RRSIG NSEC 13 3 300 20400101000000 20240101000000 5512 example.org. AQIJ
a NSEC i.example.org. A RRSIG NSEC
i NS ns.i
i NSEC example.org. NS RRSIG NSEC
ns.i A 192.0.2.10
";

fn owners(zone: &Zone, asked: &str, rtype: &str) -> Vec<String> {
    let (_, message) = ask_message(zone, asked);
    let records = message.answers.iter().chain(&message.authorities);
    let wanted = records.filter(|record| record.record_type().to_string() == rtype);
    wanted.map(|record| record.name.to_string()).collect()
}

#[test]
fn nsec_proofs() {
    let zone = example(SIGNED);
    assert!(zone.is_signed());
    let nsec = |asked| owners(&zone, asked, "NSEC");
    assert_eq!(nsec("a.example.org. A do"), [""; 0]);
    assert_eq!(nsec("a.example.org. TXT do"), ["a.example.org."]);
    assert_eq!(nsec("q.example.org. TXT do"), ["i.example.org."], "no closer name");
    assert_eq!(nsec("q.example.org. A do"), ["i.example.org.", "*.example.org."]);
    assert_eq!(nsec("x.a.example.org. A do"), ["a.example.org."], "covers both");
    assert_eq!(nsec("www.i.example.org. A do"), ["i.example.org."], "no DS");
    assert_eq!(nsec("i.example.org. DS do"), ["i.example.org."]);
    assert_eq!(nsec("x.a.example.org. A"), [""; 0]);
    let signed = owners(&zone, "q.example.org. TXT do", "RRSIG");
    assert_eq!(signed, ["q.example.org.", "example.org."], "the wildcard's signature, NS'");
    let answer = ask(&zone, "a.example.org. A do");
    assert_eq!(answer.matches("RRSIG").count(), 2, "{answer}");
    let all = ask_message(&zone, "a.example.org. RRSIG").1.answers;
    assert_eq!(all.len(), 2);
}

#[test]
fn nsec3_proofs() {
    // RFC 5155 appendix A: the hashes there, salt aabbccdd, 12 iterations.
    let zone = zone("example.", include_str!("rfc5155.zone"));
    let nsec3 = |asked| {
        let mut owners = owners(&zone, asked, "NSEC3");
        owners.iter_mut().for_each(|name| name.truncate(4));
        owners.sort();
        owners
    };
    // Appendix B.1 to B.6.
    assert_eq!(nsec3("a.c.x.w.example. A do"), ["0p9m", "35mt", "b4um"]);
    assert_eq!(nsec3("ns1.example. MX do"), ["2t7b"]);
    assert_eq!(nsec3("y.w.example. A do"), ["ji6n"]);
    assert_eq!(nsec3("mc.c.example. MX do"), ["0p9m", "35mt"]);
    assert_eq!(nsec3("a.z.w.example. MX do"), ["q04j"]);
    assert_eq!(nsec3("a.z.w.example. AAAA do"), ["k8ud", "q04j", "r53b"]);
    assert_eq!(nsec3("example. DS do"), ["0p9m"]);
    // The owner of an NSEC3 record is not a name of the zone.
    let hidden = "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom.example. A";
    assert!(ask(&zone, hidden).starts_with("NXDomain"));
}

#[test]
fn transfers_give_every_record_once_in_pieces() {
    let zone = example(
        "www A 192.0.2.1\nwww A 192.0.2.2\nm MX 10 www\nb TXT x\na.b.c CNAME www\nptr PTR www.c\n",
    );
    let mut whole = Vec::new();
    zone.each(|owner, rtype, ttl, rdata| whole.push(format!("{owner} {ttl} {rtype} {rdata:x?}")));
    assert_eq!(whole.len(), zone.records() + 1);
    assert!(whole[0].contains(" 6 ") && whole[0] == whole[whole.len() - 1]);
    assert_eq!(whole.iter().filter(|record| record.contains(" 6 [")).count(), 2);

    let origin = NameBuf::parse("example.org.").unwrap();
    let question =
        Question { name: origin.as_name(), lower: origin.as_name(), rtype: 252, rclass: 1 };
    let mut reply = Reply::new(vec![0; 100].into_boxed_slice());
    let mut cursor = AxfrCursor::default();
    let mut messages = 0;
    let mut records = 0;
    while !cursor.is_done() {
        reply.start(1, Flags::default(), question);
        zone.each_from(&mut cursor, &mut |owner, rtype, ttl, rdata| {
            let rdata = Rdata::Wire(rdata);
            reply.push(Section::Answer, owner, rtype, rclass::IN, ttl, rdata).is_ok()
        });
        records += usize::from(reply.counts().answer);
        cursor = AxfrCursor::from_words(cursor.to_words());
        messages += 1;
        assert!(messages < 50);
    }
    assert!(messages > 3, "{messages} messages");
    assert_eq!(records, whole.len());
}

#[test]
fn rebuilt_from_its_own_records_it_is_the_same() {
    let zone = example(&format!("{SIGNED}\nm MX 1 a\nptr PTR x.a\n"));
    let origin = NameBuf::parse("example.org.").unwrap();
    let mut builder = ZoneBuilder::new(&origin, 0);
    let mut first = Vec::new();
    zone.each(|owner: Name<'_>, rtype, ttl, rdata| {
        builder.push(owner.as_bytes(), rtype, ttl, rdata).unwrap();
        first.push((owner.to_string(), rtype, ttl, rdata.to_vec()));
    });
    let again = builder.finish().unwrap();
    let mut second = Vec::new();
    again.each(|owner, rtype, ttl, rdata| {
        second.push((owner.to_string(), rtype, ttl, rdata.to_vec()));
    });
    first.sort();
    second.sort();
    assert_eq!(first, second);
}

#[test]
fn files_are_included_and_left_alone_if_unchanged() {
    let dir = std::env::temp_dir().join(format!("zone-test-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("inc")).unwrap();
    let path = dir.join("db");
    std::fs::write(&path, format!("{HEAD}$INCLUDE inc/more sub\nlast A 192.0.2.2\n")).unwrap();
    std::fs::write(dir.join("inc/more"), "in A 192.0.2.1\n$INCLUDE deeper\n").unwrap();
    std::fs::write(dir.join("inc/deeper"), "deep A 192.0.2.3\n").unwrap();
    let origin = NameBuf::parse("example.org.").unwrap();
    let zone = Zone::load(&path, &origin).unwrap();
    for name in ["in.sub", "deep.sub", "last"] {
        let answer = ask(&zone, &format!("{name}.example.org. A"));
        assert!(answer.starts_with("NoError aa Answer"), "{name}: {answer}");
    }
    assert!(Zone::load_if_changed(&path, &origin, Some(7)).unwrap().is_none());
    assert!(Zone::load_if_changed(&path, &origin, Some(6)).unwrap().is_some());
    std::fs::write(dir.join("inc/deeper"), "$INCLUDE deeper\n").unwrap();
    let error = Zone::load(&path, &origin).unwrap_err().to_string();
    assert!(error.contains("deeper: dns: too deeply nested $INCLUDE"), "{error}");
    std::fs::write(dir.join("inc/deeper"), "x A 1\n").unwrap();
    let error = Zone::load(&path, &origin).unwrap_err().to_string();
    assert!(error.contains("db\" for origin example.org. with error"), "{error}");
    assert!(error.contains("deeper: dns: bad A A: \"1\" at line: 1:5"), "{error}");
    let missing = Zone::load(&dir.join("nowhere"), &origin).unwrap_err().to_string();
    assert!(missing.ends_with("nowhere: no such file or directory"), "{missing}");
    std::fs::remove_dir_all(dir).unwrap();
}
