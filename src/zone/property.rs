//! Random small zones answered beside an oracle: the rules of RFC 1034 section 4.3.2, RFC 4592 and
//! RFC 6672 written plainly over a list of records, without an index.

use super::tests::zone;
use super::*;
use crate::wire::{Flags, NameBuf, Question, Reply, Section, validate};
use proptest::prelude::*;

/// A record: owner relative to the zone ("" is the apex), type, and RDATA in presentation form.
type Record = (String, &'static str, String);

#[derive(Debug, PartialEq, Eq)]
enum Expected {
    Answer,
    NoData,
    EmptyNonTerminal,
    NxDomain,
    Delegation(String),
    Chase(String),
    Loop,
}

fn absolute(name: &str) -> String {
    if name.is_empty() { "z.".to_owned() } else { format!("{name}.z.") }
}

/// `name` and what is above it up to the apex, the apex first.
fn path(name: &str) -> Vec<String> {
    let mut all = vec![name.to_owned()];
    let mut rest = name;
    while !rest.is_empty() {
        rest = rest.split_once('.').map_or("", |(_, above)| above);
        all.push(rest.to_owned());
    }
    all.reverse();
    all
}

struct Oracle<'r> {
    records: &'r [Record],
}

impl Oracle<'_> {
    fn set(&self, name: &str, rtype: &str) -> Vec<Record> {
        let mut found: Vec<Record> =
            self.records.iter().filter(|r| r.0 == name && r.1 == rtype).cloned().collect();
        found.dedup();
        if rtype == "CNAME" || rtype == "DNAME" {
            found.truncate(1);
        }
        let mut unique = Vec::new();
        found.retain(|record| {
            let is_new = !unique.contains(record);
            unique.push(record.clone());
            is_new
        });
        found
    }

    fn exists(&self, name: &str) -> bool {
        let below = format!(".{name}");
        name.is_empty() || self.records.iter().any(|r| r.0 == name || r.0.ends_with(&below))
    }

    /// The first cut or DNAME on the way down to a name.
    fn stop(&self, name: &str, rtype: &str) -> Option<(String, bool)> {
        for step in path(name).into_iter().skip(1) {
            let is_last = step == name;
            if !(self.set(&step, "NS").is_empty() || is_last && rtype == "DS") {
                return Some((step, true));
            }
            if !is_last && !self.set(&step, "DNAME").is_empty() {
                return Some((step, false));
            }
        }
        None
    }

    fn answer(&self, name: &str, rtype: &str, answer: &mut Vec<Record>) -> Expected {
        match self.stop(name, rtype) {
            Some((cut, true)) => return Expected::Delegation(absolute(&cut)),
            Some((owner, false)) => {
                let dname = self.set(&owner, "DNAME")[0].clone();
                let left = name.strip_suffix(&owner).unwrap_or_default();
                let target = format!("{left}{}", dname.2);
                if target == absolute(name) {
                    return Expected::Loop;
                }
                answer.push(dname);
                answer.push((name.to_owned(), "CNAME", target.clone()));
                if rtype == "CNAME" {
                    return Expected::Answer;
                }
                return self.follow(target, rtype, answer, Vec::new());
            }
            None => {}
        }
        let mut source = name.to_owned();
        if !self.exists(name) {
            let encloser =
                path(name).into_iter().rev().find(|n| self.exists(n)).unwrap_or_default();
            source = if encloser.is_empty() { "*".to_owned() } else { format!("*.{encloser}") };
            if !self.exists(&source) {
                return Expected::NxDomain;
            }
        }
        let rename = |mut record: Record| {
            name.clone_into(&mut record.0);
            record
        };
        let alias = self.set(&source, "CNAME");
        if !alias.is_empty() && rtype != "CNAME" && !(rtype == "NS" && has_ns(self, &source)) {
            let target = alias[0].2.clone();
            answer.extend(alias.into_iter().map(rename));
            return self.follow(target, rtype, answer, vec![source]);
        }
        let found = self.set(&source, rtype);
        if !found.is_empty() {
            answer.extend(found.into_iter().map(rename));
            return Expected::Answer;
        }
        let is_empty = !self.records.iter().any(|r| r.0 == source);
        if is_empty && source == name { Expected::EmptyNonTerminal } else { Expected::NoData }
    }

    fn follow(
        &self,
        target: String,
        rtype: &str,
        answer: &mut Vec<Record>,
        mut seen: Vec<String>,
    ) -> Expected {
        let name = match target.strip_suffix(".z.") {
            Some(name) => name.to_owned(),
            None if target == "z." => String::new(),
            None => return Expected::Chase(target),
        };
        match self.stop(&name, rtype) {
            Some((cut, true)) => return Expected::Delegation(absolute(&cut)),
            Some((_, false)) => return Expected::Chase(target),
            None => {}
        }
        if !self.exists(&name) {
            return Expected::Chase(target);
        }
        let alias = self.set(&name, "CNAME");
        if alias.is_empty() || rtype == "CNAME" || (rtype == "NS" && has_ns(self, &name)) {
            answer.extend(self.set(&name, rtype));
            return Expected::Answer;
        }
        if seen.contains(&name) || seen.len() >= 9 {
            return Expected::Answer;
        }
        let next = alias[0].2.clone();
        answer.extend(alias);
        seen.push(name);
        self.follow(next, rtype, answer, seen)
    }
}

fn has_ns(oracle: &Oracle<'_>, name: &str) -> bool {
    !oracle.set(name, "NS").is_empty()
}

/// What the engine says, in the oracle's terms. Names keep the case of the message.
fn engine(zone: &Zone, name: &str, rtype: &str) -> (Expected, Vec<(String, u16, String)>) {
    let name = NameBuf::parse(name).unwrap();
    let mut lower = name;
    lower.make_lower();
    let rtype = crate::wire::rtype::parse(rtype).unwrap();
    let question = Question { name: name.as_name(), lower: lower.as_name(), rtype, rclass: 1 };
    let mut reply = Reply::new(vec![0; 65_535].into_boxed_slice());
    reply.start(1, Flags::default().with_qr(true), question);
    let outcome = zone.answer(question, true, &mut reply);
    validate(reply.bytes()).expect("a valid message");
    let mut answers = Vec::new();
    let mut cut = String::new();
    for record in reply.records() {
        let record = record.unwrap();
        let owner = record.owner(reply.bytes()).unwrap().to_string();
        if record.section == Section::Authority && record.rtype == 2 {
            cut.clone_from(&owner);
        }
        if record.section == Section::Answer {
            let rdata = match record.rtype {
                2 | 5 | 39 => NameBuf::read(reply.bytes(), record.rdata_at).unwrap().0.to_string(),
                _ => format!("{:?}", record.rdata(reply.bytes())),
            };
            answers.push((owner, record.rtype, rdata));
        }
    }
    let outcome = match outcome {
        Outcome::Answer => Expected::Answer,
        Outcome::NoData => Expected::NoData,
        Outcome::EmptyNonTerminal => Expected::EmptyNonTerminal,
        Outcome::NxDomain => Expected::NxDomain,
        Outcome::Delegation => Expected::Delegation(cut),
        Outcome::Chase { target } => Expected::Chase(target.to_string()),
        Outcome::Loop => Expected::Loop,
        Outcome::NotInZone | Outcome::TooLong => panic!("{outcome:?}"),
    };
    (outcome, answers)
}

fn name() -> impl Strategy<Value = String> {
    let label = prop::sample::select(vec!["a", "b", "c", "*"]);
    prop::collection::vec(label, 1..4).prop_map(|labels| labels.join("."))
}

fn target() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => name().prop_map(|name| absolute(&name)),
        1 => Just("z.".to_owned()),
        1 => Just("out.example.".to_owned()),
    ]
}

fn record() -> impl Strategy<Value = Record> {
    prop_oneof![
        4 => (name(), 0u8..3).prop_map(|(name, n)| (name, "A", format!("192.0.2.{n}"))),
        3 => (name(), 0u8..3).prop_map(|(name, n)| (name, "TXT", format!("t{n}"))),
        3 => (name(), target()).prop_map(|(name, to)| (name, "CNAME", to)),
        1 => (name(), target()).prop_map(|(name, to)| (name, "NS", to)),
        1 => (name(), target()).prop_map(|(name, to)| (name, "DNAME", to)),
        1 => name().prop_map(|name| (name, "DS", "1 8 2 00".to_owned())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn answers_are_the_oracles(
        mut records in prop::collection::vec(record(), 0..12),
        asked in prop::collection::vec((name(), any::<bool>()), 1..6),
    ) {
        // A cut with a DNAME is no zone.
        let cuts: Vec<String> =
            records.iter().filter(|r| r.1 == "NS").map(|r| r.0.clone()).collect();
        records.retain(|r| r.1 != "DNAME" || !cuts.contains(&r.0));
        let mut text = String::from("$TTL 60\n@ SOA ns host 1 2 3 4 5\n@ NS ns.out.\n");
        for (owner, rtype, rdata) in &records {
            text.push_str(&format!("{owner} {rtype} {rdata}\n"));
        }
        let zone = zone("z.", &text);
        records.push((String::new(), "SOA", String::new()));
        records.push((String::new(), "NS", "ns.out.".to_owned()));
        let oracle = Oracle { records: &records };
        for (name, upper) in asked {
            for rtype in ["A", "TXT", "CNAME", "NS", "DS", "DNAME"] {
                let mut answer = Vec::new();
                let expected = oracle.answer(&name, rtype, &mut answer);
                let mut asked = absolute(&name);
                if upper {
                    asked.make_ascii_uppercase();
                }
                let (outcome, answers) = engine(&zone, &asked, rtype);
                prop_assert_eq!(&outcome, &expected, "{} {}\n{}", asked, rtype, text);
                let wanted: Vec<_> = answer.iter().map(wire_form).collect();
                if expected != Expected::Loop {
                    prop_assert_eq!(answers, wanted, "{} {}\n{}", asked, rtype, text);
                }
            }
        }
    }

    #[test]
    fn scanning_anything_is_no_panic(text in "[ -~\\n\\t]{0,200}") {
        let _ = super::tests::try_zone("z.", &text);
    }

    #[test]
    fn scanning_rdata_of_any_type_is_no_panic(
        layout in prop::sample::select(super::rdata::LAYOUTS.iter().collect::<Vec<_>>()),
        words in prop::collection::vec("[0-9a-zA-Z.+/=,\"\\\\-]{1,12}", 0..8),
    ) {
        let rtype = layout.mnemonic;
        let text = format!("@ 1 IN SOA a. b. 1 1 1 1 1\nx 1 IN {rtype} {}\n", words.join(" "));
        if let Ok(zone) = super::tests::try_zone("z.", &text) {
            engine(&zone, "x.z.", rtype);
        }
    }
}

fn wire_form((owner, rtype, rdata): &Record) -> (String, u16, String) {
    let number = crate::wire::rtype::parse(rtype).unwrap();
    let rdata = match *rtype {
        "A" => {
            let address: std::net::Ipv4Addr = rdata.parse().unwrap();
            format!("{:?}", address.octets())
        }
        "TXT" => {
            let octets: Vec<u8> = [&[rdata.len() as u8], rdata.as_bytes()].concat();
            format!("{octets:?}")
        }
        "DS" => format!("{:?}", [0u8, 1, 8, 2, 0]),
        _ => rdata.clone(),
    };
    (absolute(owner), number, rdata)
}
