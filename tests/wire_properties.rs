//! Properties of `corelane::wire`, with hickory-proto as the witness.
//!
//! A model (plain owned records) is written by one side and read by the other, in both directions;
//! what changes a reply is compared with the same change of the model; and octets of any kind are
//! read without a panic.

use corelane::wire::*;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, NAPTR, NS, NULL, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name as TheirName, RData, Record as TheirRecord, RecordType};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// One record of the model; names are uncompressed wire form.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    section: Section,
    owner: Vec<u8>,
    ttl: u32,
    data: Data,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Data {
    A([u8; 4]),
    Aaaa([u8; 16]),
    /// CNAME, NS or PTR.
    Name(u16, Vec<u8>),
    Soa(Vec<u8>, Vec<u8>, [u32; 5]),
    Mx(u16, Vec<u8>),
    Srv([u16; 3], Vec<u8>),
    Naptr([u16; 2], [Vec<u8>; 3], Vec<u8>),
    Txt(Vec<Vec<u8>>),
    Unknown(u16, Vec<u8>),
}

impl Data {
    fn rtype(&self) -> u16 {
        match self {
            Self::A(_) => rtype::A,
            Self::Aaaa(_) => rtype::AAAA,
            Self::Name(rtype, _) | Self::Unknown(rtype, _) => *rtype,
            Self::Soa(..) => rtype::SOA,
            Self::Mx(..) => rtype::MX,
            Self::Srv(..) => rtype::SRV,
            Self::Naptr(..) => rtype::NAPTR,
            Self::Txt(_) => rtype::TXT,
        }
    }

    /// Uncompressed RDATA.
    fn wire(&self) -> Vec<u8> {
        let text = |out: &mut Vec<u8>, text: &Vec<u8>| {
            out.push(text.len() as u8);
            out.extend(text);
        };
        let mut out = Vec::new();
        match self {
            Self::A(octets) => out.extend(octets),
            Self::Aaaa(octets) => out.extend(octets),
            Self::Name(_, name) => out.extend(name),
            Self::Soa(mname, rname, numbers) => {
                out.extend(mname.iter().chain(rname));
                numbers.iter().for_each(|number| out.extend(number.to_be_bytes()));
            }
            Self::Mx(preference, name) => {
                out.extend(preference.to_be_bytes());
                out.extend(name);
            }
            Self::Srv(numbers, name) => {
                numbers.iter().for_each(|number| out.extend(number.to_be_bytes()));
                out.extend(name);
            }
            Self::Naptr(numbers, texts, name) => {
                numbers.iter().for_each(|number| out.extend(number.to_be_bytes()));
                texts.iter().for_each(|it| text(&mut out, it));
                out.extend(name);
            }
            Self::Txt(texts) => texts.iter().for_each(|it| text(&mut out, it)),
            Self::Unknown(_, octets) => out.extend(octets),
        }
        out
    }

    fn theirs(&self) -> RData {
        match self {
            Self::A(octets) => RData::A(A((*octets).into())),
            Self::Aaaa(octets) => RData::AAAA(AAAA((*octets).into())),
            Self::Name(rtype::CNAME, name) => RData::CNAME(CNAME(theirs(name))),
            Self::Name(rtype::NS, name) => RData::NS(NS(theirs(name))),
            Self::Name(_, name) => RData::PTR(PTR(theirs(name))),
            Self::Soa(m, r, [serial, refresh, retry, expire, minimum]) => {
                let [refresh, retry, expire] = [refresh, retry, expire].map(|n| *n as i32);
                let (m, r) = (theirs(m), theirs(r));
                RData::SOA(SOA::new(m, r, *serial, refresh, retry, expire, *minimum))
            }
            Self::Mx(preference, name) => RData::MX(MX::new(*preference, theirs(name))),
            Self::Srv([a, b, c], name) => RData::SRV(SRV::new(*a, *b, *c, theirs(name))),
            Self::Naptr([order, preference], texts, name) => {
                let [flags, services, regexp] = texts.clone().map(Vec::into_boxed_slice);
                let name = theirs(name);
                RData::NAPTR(NAPTR::new(*order, *preference, flags, services, regexp, name))
            }
            Self::Txt(texts) => {
                RData::TXT(TXT::from_bytes(texts.iter().map(Vec::as_slice).collect()))
            }
            Self::Unknown(rtype, octets) => {
                RData::Unknown { code: RecordType::from(*rtype), rdata: NULL::with(octets.clone()) }
            }
        }
    }
}

fn name(wire: &[u8]) -> Name<'_> {
    Name::from_wire(wire).expect("a name of the model").0
}

fn theirs(wire: &[u8]) -> TheirName {
    let mut name = TheirName::from_labels(name(wire).labels()).expect("a name of the model");
    name.set_fqdn(true);
    name
}

fn label() -> impl Strategy<Value = Vec<u8>> {
    const COMMON: &[&str] =
        &["www", "example", "Example", "org", "svc", "cluster", "local", "a", "*"];
    prop_oneof![
        12 => select(COMMON).prop_map(|text| text.as_bytes().to_vec()),
        2 => vec(any::<u8>(), 1..8),
        1 => vec(any::<u8>(), 60..=63),
    ]
}

fn any_name() -> impl Strategy<Value = Vec<u8>> {
    vec(label(), 0..7).prop_map(|labels| {
        let mut wire = Vec::new();
        for label in labels {
            if wire.len() + label.len() + 2 <= 255 {
                wire.push(label.len() as u8);
                wire.extend(label);
            }
        }
        wire.push(0);
        wire
    })
}

fn data() -> impl Strategy<Value = Data> {
    let text = || vec(prop::char::range('0', 'z').prop_map(|c| c as u8), 0..20);
    let alnum = || vec(prop::char::range('a', 'z').prop_map(|c| c as u8), 0..5);
    prop_oneof![
        any::<[u8; 4]>().prop_map(Data::A),
        any::<[u8; 16]>().prop_map(Data::Aaaa),
        (select(&[rtype::CNAME, rtype::NS, rtype::PTR][..]), any_name())
            .prop_map(|(rtype, name)| Data::Name(rtype, name)),
        (any_name(), any_name(), any::<[u32; 5]>()).prop_map(|(m, r, n)| Data::Soa(m, r, n)),
        (any::<u16>(), any_name()).prop_map(|(n, name)| Data::Mx(n, name)),
        (any::<[u16; 3]>(), any_name()).prop_map(|(n, name)| Data::Srv(n, name)),
        (any::<[u16; 2]>(), (alnum(), text(), text()), any_name())
            .prop_map(|(n, texts, name)| Data::Naptr(n, texts.into(), name)),
        vec(vec(any::<u8>(), 0..=255), 1..3).prop_map(Data::Txt),
        (65400..65500u16, vec(any::<u8>(), 1..40)).prop_map(|(rtype, o)| Data::Unknown(rtype, o)),
    ]
}

fn entries(max: usize) -> impl Strategy<Value = Vec<Entry>> {
    let section = select(&Section::ALL[..]);
    let ttl = 0..0x7fff_ffffu32;
    let entry = (section, any_name(), ttl, data()).prop_map(|(section, owner, ttl, data)| Entry {
        section,
        owner,
        ttl,
        data,
    });
    vec(entry, 0..max).prop_map(|mut entries| {
        entries.sort_by_key(|entry| entry.section);
        entries
    })
}

/// A question whose name is one of the entries' owners now and then.
fn messages(max: usize) -> impl Strategy<Value = (Vec<u8>, Vec<Entry>)> {
    (any_name(), entries(max), any::<prop::sample::Selector>()).prop_map(
        |(mut asked, all, pick)| {
            if let Some(entry) = pick.try_select(&all) {
                asked = entry.owner.clone();
            }
            (asked, all)
        },
    )
}

fn buffer() -> Box<[u8]> {
    vec![0xaa; 65535].into_boxed_slice()
}

fn start(asked: &[u8]) -> Reply {
    let mut reply = Reply::new(buffer());
    let asked = name(asked);
    let flags = Flags::default().with_qr(true).with_rd(true);
    let question = Question { name: asked, lower: asked, rtype: rtype::A, rclass: rclass::IN };
    reply.start(7, flags, question);
    reply
}

fn push(reply: &mut Reply, entry: &Entry) -> Result<(), Full> {
    let (rtype, wire) = (entry.data.rtype(), entry.data.wire());
    let rdata = Rdata::Wire(&wire);
    reply.push(entry.section, name(&entry.owner), rtype, rclass::IN, entry.ttl, rdata)
}

fn build(asked: &[u8], all: &[Entry]) -> Reply {
    let mut reply = start(asked);
    all.iter().for_each(|entry| push(&mut reply, entry).expect("room"));
    assert_eq!(validate(reply.bytes()), Ok(()));
    reply
}

/// Section, owner, type, TTL and expanded RDATA.
type Said = (Section, Vec<u8>, u16, u32, Vec<u8>);

/// What a message says, in the model's terms.
fn read(message: &[u8]) -> Vec<Said> {
    records(message)
        .expect("a header")
        .map(|record| {
            let record = record.expect("a record");
            let owner = record.owner(message).expect("an owner").as_name().as_bytes().to_vec();
            let mut rdata = Vec::new();
            record.expand_rdata(message, &mut rdata).expect("RDATA");
            (record.section, owner, record.rtype, record.ttl, rdata)
        })
        .collect()
}

fn model(all: &[Entry]) -> Vec<Said> {
    let one = |e: &Entry| (e.section, e.owner.clone(), e.data.rtype(), e.ttl, e.data.wire());
    all.iter().map(one).collect()
}

fn lower(all: Vec<Said>) -> Vec<Said> {
    all.into_iter()
        .map(|(section, owner, rtype, ttl, rdata)| {
            (section, owner.to_ascii_lowercase(), rtype, ttl, rdata.to_ascii_lowercase())
        })
        .collect()
}

proptest! {
    /// What hickory writes we read the same. Case aside: it compresses names whatever their case.
    #[test]
    fn theirs_is_read_by_us((asked, all) in messages(12)) {
        let mut message = Message::new(7, MessageType::Response, OpCode::Query);
        message.add_query(Query::query(theirs(&asked), RecordType::A));
        for entry in &all {
            let (owner, data) = (theirs(&entry.owner), entry.data.theirs());
            let record = TheirRecord::from_rdata(owner, entry.ttl, data);
            match entry.section {
                Section::Answer => message.add_answer(record),
                Section::Authority => message.add_authority(record),
                Section::Additional => message.add_additional(record),
            };
        }
        let bytes = message.to_vec().expect("an encoded message");
        prop_assert_eq!(validate(&bytes), Ok(()));
        prop_assert_eq!(lower(read(&bytes)), lower(model(&all)));
        let mut reply = Reply::new(buffer());
        prop_assert_eq!(reply.adopt(&bytes), Ok(None));
        prop_assert_eq!(reply.bytes(), &bytes[..]);
    }

    /// A query that hickory writes is read by the gate as it was meant.
    #[test]
    fn their_queries_are_read_by_the_gate(
        asked in any_name(),
        id in any::<u16>(),
        rtype in select(&[rtype::A, rtype::AAAA, rtype::SRV, rtype::TXT, rtype::SOA][..]),
        rd in any::<bool>(),
        opt in prop::option::of((512..=u16::MAX, any::<bool>())),
    ) {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = rd;
        message.add_query(Query::query(theirs(&asked), RecordType::from(rtype)));
        if let Some((size, dnssec_ok)) = opt {
            let mut edns = Edns::new();
            edns.set_max_payload(size).set_dnssec_ok(dnssec_ok).set_version(0);
            message.set_edns(edns);
        }
        let bytes = message.to_vec().expect("an encoded message");
        let view = parse_query(&bytes).expect("a query");
        let question = view.question.expect("a question");
        prop_assert_eq!((view.id, view.flags.rd(), view.flags.qr()), (id, rd, false));
        prop_assert_eq!(question.name(&bytes).as_bytes(), &asked[..]);
        prop_assert_eq!((question.rtype, question.rclass), (rtype, rclass::IN));
        prop_assert_eq!(question_end(&bytes), Some(question.end as usize));
        prop_assert_eq!(view.opt.map(|opt| (opt.udp_size, opt.dnssec_ok())), opt);
        prop_assert_eq!(view.end as usize, bytes.len());
    }

    /// What we write hickory reads the same, and so do we, case included.
    #[test]
    fn ours_is_read_by_them((asked, all) in messages(12)) {
        let reply = build(&asked, &all);
        prop_assert_eq!(read(reply.bytes()), model(&all));
        let message = Message::from_vec(reply.bytes()).expect("hickory reads it");
        prop_assert!(message.queries[0].name().eq_case(&theirs(&asked)));
        let got = [message.answers, message.authorities, message.additionals].concat();
        prop_assert_eq!(got.len(), all.len());
        for (record, entry) in got.iter().zip(&all) {
            prop_assert!(record.name.eq_case(&theirs(&entry.owner)));
            prop_assert_eq!(record.ttl, entry.ttl);
            prop_assert_eq!(record.dns_class, DNSClass::IN);
            prop_assert_eq!(&record.data, &entry.data.theirs());
        }
    }

    /// Compression never makes a message longer, and names that repeat cost two octets.
    #[test]
    fn compression_pays((asked, all) in messages(12)) {
        let reply = build(&asked, &all);
        let plain: usize = 12 + asked.len() + 4
            + all.iter().map(|e| e.owner.len() + 10 + e.data.wire().len()).sum::<usize>();
        prop_assert!(reply.len() <= plain);
        let mut reply = build(&asked, &[]);
        let long = asked.len() > 1;
        for octets in [[1; 4], [2; 4]] {
            let before = reply.len();
            let owner = name(&asked);
            reply.push_address(Section::Answer, owner, octets.into(), 5).expect("room");
            prop_assert_eq!(reply.len() - before, if long { 16 } else { 15 });
        }
    }

    /// Truncation keeps the longest run of records from the start that fits, says so, and leaves
    /// a message that can be written on.
    #[test]
    fn truncation_keeps_what_fits((asked, all) in messages(12), limit in 0..1500usize) {
        let whole = build(&asked, &all);
        let mut reply = build(&asked, &all);
        let cut = reply.truncate_to(limit);
        prop_assert_eq!(validate(reply.bytes()), Ok(()));
        let kept = reply.counts().records();
        prop_assert_eq!(read(reply.bytes()), model(&all[..kept]));
        prop_assert_eq!((cut, reply.flags().tc()), (kept < all.len(), kept < all.len()));
        prop_assert!(reply.len() <= limit.max(whole.question_end()));
        if let Some(next) = whole.records().nth(kept) {
            prop_assert!(next.expect("a record").end() > limit);
        }
        let (section, data) = (Section::Additional, Data::Mx(1, asked.clone()));
        let more = Entry { section, owner: asked, ttl: 1, data };
        push(&mut reply, &more).expect("room");
        let mut expected = model(&all[..kept]);
        expected.extend(model(&[more]));
        prop_assert_eq!(read(reply.bytes()), expected);
    }

    /// A record that does not fit leaves no trace, wherever the room ends.
    #[test]
    fn what_does_not_fit_is_not_begun((asked, all) in messages(8), room in 0..600usize) {
        let mut reply = Reply::new(vec![0; 271 + room].into_boxed_slice());
        let question = Question { name: name(&asked), lower: name(&asked), rtype: 1, rclass: 1 };
        reply.start(7, Flags::default(), question);
        let mut fitted = Vec::new();
        for entry in &all {
            let before = reply.bytes().to_vec();
            match push(&mut reply, entry) {
                Ok(()) => fitted.push(entry.clone()),
                Err(Full) => prop_assert_eq!(reply.bytes(), &before[..]),
            }
        }
        prop_assert_eq!(validate(reply.bytes()), Ok(()));
        prop_assert_eq!(read(reply.bytes()), model(&fitted));
    }

    /// What is rewound was never there: the same pushes give the same octets.
    #[test]
    fn rewinding_leaves_no_trace((asked, all) in messages(12), at in any::<prop::sample::Index>()) {
        let at = at.index(all.len() + 1);
        let mut reply = build(&asked, &all[..at]);
        let mark = reply.mark();
        all[at..].iter().for_each(|entry| push(&mut reply, entry).expect("room"));
        reply.rewind(mark);
        let (again, straight) = (build(&asked, &all[..at]), build(&asked, &all));
        prop_assert_eq!(reply.bytes(), again.bytes());
        all[at..].iter().for_each(|entry| push(&mut reply, entry).expect("room"));
        prop_assert_eq!(reply.bytes(), straight.bytes());
    }

    /// Retaining is filtering, editing is mapping.
    #[test]
    fn edits_do_as_the_model(
        (asked, all) in messages(12),
        keep in vec(any::<bool>(), 12),
        to in any_name(),
    ) {
        let mut scratch = buffer();
        let mut reply = build(&asked, &all);
        let mut index = 0;
        reply
            .retain(&mut scratch, |_, _| {
                index += 1;
                keep[index - 1]
            })
            .expect("room");
        let mut kept = all.clone();
        let mut keep = keep.into_iter();
        kept.retain(|_| keep.next() == Some(true));
        prop_assert_eq!(validate(reply.bytes()), Ok(()));
        prop_assert_eq!(read(reply.bytes()), model(&kept));
        reply.edit(&mut scratch, |draft| {
            draft.owner.set(name(&to));
            draft.ttl = 9;
            draft.names_mut().iter_mut().for_each(|it| it.set(name(&to)));
            true
        }).expect("room");
        for entry in &mut kept {
            entry.owner = to.clone();
            entry.ttl = 9;
            match &mut entry.data {
                Data::Name(_, n)
                | Data::Mx(_, n)
                | Data::Srv(_, n)
                | Data::Naptr(_, _, n) => *n = to.clone(),
                Data::Soa(m, r, _) => (*m, *r) = (to.clone(), to.clone()),
                _ => {}
            }
        }
        prop_assert_eq!(validate(reply.bytes()), Ok(()));
        prop_assert_eq!(read(reply.bytes()), model(&kept));
    }

    /// A rebuilt message answers the question that it is given.
    #[test]
    fn rebuilding_answers_another_question((asked, all) in messages(8), other in any_name()) {
        let from = build(&asked, &all);
        let mut reply = Reply::new(buffer());
        let question = Question { name: name(&other), lower: name(&other), rtype: 28, rclass: 1 };
        reply.rebuild(from.bytes(), Some(question), |_| true).expect("room");
        prop_assert_eq!(validate(reply.bytes()), Ok(()));
        prop_assert_eq!(read(reply.bytes()), model(&all));
        let message = Message::from_vec(reply.bytes()).expect("hickory reads it");
        prop_assert!(message.queries[0].name().eq_case(&theirs(&other)));
        prop_assert_eq!(message.queries[0].query_type(), RecordType::AAAA);
        prop_assert_eq!((reply.id(), reply.flags()), (from.id(), from.flags()));
    }

    /// What is appended stands after what was there, if its section allows.
    #[test]
    fn appending_is_concatenating((asked, all) in messages(8), at in any::<prop::sample::Index>()) {
        let at = at.index(all.len() + 1);
        let mut reply = build(&asked, &all[..at]);
        let other = build(&[0], &all[at..]);
        reply.append(other.bytes(), |_| true).expect("room");
        let straight = build(&asked, &all);
        prop_assert_eq!(reply.bytes(), straight.bytes());
    }

    /// Any order of any section comes out as asked for, other sections untouched.
    #[test]
    fn permuting_is_permuting(
        (asked, all) in messages(12),
        section in select(&Section::ALL[..]),
        keys in vec(any::<u32>(), 12),
    ) {
        let mut reply = build(&asked, &all);
        permute_and_compare(&mut reply, &all, section, &keys)?;
    }

    /// Addresses of one owner, which are moved where they are.
    #[test]
    fn addresses_are_permuted_in_place(
        asked in any_name(),
        addresses in vec(any::<[u8; 4]>(), 1..40),
        target in any_name(),
        keys in vec(any::<u32>(), 41),
    ) {
        let entry = |data| Entry { section: Section::Answer, owner: asked.clone(), ttl: 5, data };
        let mut all = vec![entry(Data::Name(rtype::CNAME, target))];
        all.extend(addresses.into_iter().map(|octets| entry(Data::A(octets))));
        let mut reply = build(&asked, &all);
        let mut keys = keys;
        keys[0] = 0;
        permute_and_compare(&mut reply, &all, Section::Answer, &keys)?;
    }

    #[test]
    fn ttls_are_patched((asked, all) in messages(12)) {
        let mut reply = build(&asked, &all);
        reply.push_opt(1232, 0, 0, true, &[0, 3, 0, 1, b'x']).expect("room");
        reply.patch_ttls(|_, ttl| ttl / 2);
        let mut halved = all.clone();
        halved.iter_mut().for_each(|entry| entry.ttl /= 2);
        let mut got = read(reply.bytes());
        let opt = got.pop().expect("OPT");
        prop_assert_eq!((opt.2, opt.3), (rtype::OPT, 0x8000));
        prop_assert_eq!(got, model(&halved));
    }

    /// OPT and TSIG of another host do not stay, wherever they stand.
    #[test]
    fn adopting_takes_off_opt((asked, all) in messages(8), at in any::<prop::sample::Index>()) {
        let first = all.iter().filter(|entry| entry.section < Section::Additional).count();
        let at = first + at.index(all.len() - first + 1);
        let mut foreign = build(&asked, &all[..at]);
        foreign.push_opt(4096, 1, 0, true, &[0, 15, 0, 2, 0, 3]).expect("room");
        all[at..].iter().for_each(|entry| push(&mut foreign, entry).expect("room"));
        let mut reply = Reply::new(buffer());
        let opt = reply.adopt(foreign.bytes()).expect("valid").expect("an OPT");
        prop_assert_eq!(opt.options(foreign.bytes()), &[0, 15, 0, 2, 0, 3]);
        prop_assert_eq!((opt.udp_size, reply.rcode()), (4096, 16));
        prop_assert_eq!(validate(reply.bytes()), Ok(()));
        prop_assert_eq!(read(reply.bytes()), model(&all));
    }

    /// Octets of any kind are read without a panic; what is adopted is valid.
    #[test]
    fn damage_is_noticed_or_harmless(
        (asked, all) in messages(6),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        end in any::<prop::sample::Index>(),
    ) {
        let mut bytes = build(&asked, &all).bytes().to_vec();
        for (at, octet) in damage {
            let at = at.index(bytes.len());
            bytes[at] = octet;
        }
        bytes.truncate(end.index(bytes.len() + 1));
        let _ = parse_query(&bytes);
        let _ = question_end(&bytes);
        let mut reply = Reply::new(buffer());
        if reply.adopt(&bytes).is_ok() {
            prop_assert_eq!(validate(reply.bytes()), Ok(()));
            let before = read(reply.bytes());
            let mut again = Reply::new(buffer());
            if again.rebuild(reply.bytes(), None, |_| true).is_ok() {
                prop_assert_eq!(read(again.bytes()), before);
            }
        } else {
            prop_assert!(reply.is_empty());
        }
    }

    /// The longest match is the longest zone that the name is under.
    #[test]
    fn the_longest_zone_is_found(zones in vec(any_name(), 0..12), asked in any_name()) {
        let asked = NameBuf::lowered(name(&asked));
        let buf = |wire: &Vec<u8>| NameBuf::from(name(wire));
        let set = Suffixes::new(zones.iter().map(buf).zip(0..));
        let expected = zones.iter().map(buf)
            .filter(|zone| asked.as_name().is_under(zone.as_name()))
            .map(|zone| zone.as_name().len()).max();
        prop_assert_eq!(set.find(asked.as_name()).map(|(zone, _)| zone.len()), expected);
    }

    /// Names agree with themselves in presentation form and in canonical order.
    #[test]
    fn names_are_consistent(a in any_name(), b in any_name()) {
        let (a, b) = (name(&a), name(&b));
        let again = NameBuf::parse(&a.to_string()).expect("our own text");
        prop_assert_eq!(again.as_name().as_bytes(), a.as_bytes());
        let key = |name: Name<'_>| {
            let mut labels: Vec<_> = name.labels().map(<[u8]>::to_ascii_lowercase).collect();
            labels.reverse();
            labels
        };
        prop_assert_eq!(a.cmp_canonical(b), key(a).cmp(&key(b)));
        prop_assert_eq!(a.is_under(b), key(a).starts_with(&key(b)));
        prop_assert_eq!(a.strip(b).map(|left| labels_of(left).count()),
            a.is_under(b).then(|| a.label_count() - b.label_count()));
        prop_assert_eq!(a == b, key(a) == key(b));
    }
}

fn permute_and_compare(
    reply: &mut Reply,
    all: &[Entry],
    section: Section,
    keys: &[u32],
) -> Result<(), TestCaseError> {
    let (before, rest): (Vec<Entry>, Vec<Entry>) =
        all.iter().cloned().partition(|entry| entry.section < section);
    let (mine, after): (Vec<Entry>, Vec<Entry>) =
        rest.into_iter().partition(|entry| entry.section == section);
    let mut order: Vec<u16> = (0..mine.len() as u16).collect();
    order.sort_by_key(|index| keys[*index as usize]);
    let mut scratch = buffer();
    prop_assert_eq!(reply.permute(section, &order, &mut scratch), Ok(()));
    let moved: Vec<Entry> = order.iter().map(|index| mine[*index as usize].clone()).collect();
    let expected = [model(&before), model(&moved), model(&after)].concat();
    prop_assert_eq!(validate(reply.bytes()), Ok(()));
    prop_assert_eq!(read(reply.bytes()), expected);
    Ok(())
}
