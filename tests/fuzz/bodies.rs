//! What the fuzz targets do with their octets; the replay test does the same on stable Rust.
//!
//! Each body asserts what must hold for any octets, beyond not panicking.

use corelane::wire::*;

/// Octets as a query: what the gate says of it holds.
pub fn query_parse(data: &[u8]) {
    let end = question_end(data);
    let Ok(view) = parse_query(data) else { return };
    assert!(view.end as usize <= data.len() && view.counts.question == 1);
    let Some(question) = view.question else {
        assert_eq!(data.len(), HEADER_BYTES);
        return;
    };
    assert_eq!(question.name(data).len(), question.name_len as usize);
    assert!(end.is_none_or(|end| end == question.end as usize));
    if let Some(opt) = view.opt {
        assert_eq!(opt.version, 0);
        assert!(options_valid(opt.options(data)));
        assert!(opt.options(data).len() == opt.options_len as usize);
    }
    // A question that is whole can be walked over, and then what follows can be as well.
    if end.is_some() {
        let last =
            records(data).expect("a question").map(|record| record.expect("a record")).last();
        assert_eq!(view.end as usize, last.map_or(question.end as usize, |record| record.end()));
    }
    let name = question.name(data);
    let text = name.to_string();
    let again = NameBuf::parse(&text).expect("our own text");
    assert_eq!(again.as_name().as_bytes(), name.as_bytes());
}

/// Octets as a question that was sent (after its length) and a message that comes under its id: only the
/// reply to that question is taken for one, and giving it its letter case back leaves it as it was.
pub fn upstream_reply(data: &[u8]) {
    use corelane::data::upstream::compose::*;

    let Some((len, rest)) = data.split_first() else { return };
    let Some((question, message)) = rest.split_at_checked(usize::from(*len)) else { return };
    let Ok((name, [_, _, _, _])) = Name::from_wire(question) else { return };
    let keys = Keys::default();
    let print = fingerprint(question, 0, &keys);
    let judged = judge(message, &print, &keys);
    let found = message.get(HEADER_BYTES..HEADER_BYTES + question.len()).unwrap_or_default();
    let split = question.len() - 4;
    match judged {
        Judged::Reply => assert_eq!(found, question),
        Judged::CaseLost => {
            assert!(found != question && found[..split].eq_ignore_ascii_case(&question[..split]));
            assert_eq!(found[split..], question[split..]);
        }
        Judged::Other | Judged::Garbage => return,
    }
    let flags = Flags::read(message);
    assert!(flags.qr() && flags.opcode() == 0 && Counts::read(message).question == 1);
    let mut restored = message.to_vec();
    restore_case(&mut restored, name);
    assert!(restored.eq_ignore_ascii_case(message));
    assert_eq!(&restored[HEADER_BYTES..][..question.len()], question);
    // A name of theirs may point at octets that are none of a name's.
    if judged == Judged::Reply {
        assert_eq!(restored, message);
    }
    let end = cut_short(&mut restored);
    assert_eq!(end, HEADER_BYTES + question.len());
    assert_eq!(validate(&restored[..end]), Ok(()));
    assert!(Flags::read(&restored).tc());
}

/// Octets as a message from elsewhere: what is adopted is valid and survives every change.
pub fn records_of(data: &[u8]) {
    let mut reply = Reply::new(vec![0; 65_535].into_boxed_slice());
    let Ok(extent) = extent(data) else {
        assert!(reply.adopt(data).is_err() && reply.is_empty());
        return;
    };
    assert!(extent.end <= data.len());
    let Ok(opt) = reply.adopt(data) else { return };
    assert!(opt.is_none_or(|opt| opt.options(data).len() == opt.options_len as usize));
    assert_eq!(validate(reply.bytes()), Ok(()));
    let before = said(reply.bytes());
    let mut scratch = vec![0; 65_535].into_boxed_slice();
    // Our table of names is finite: what was compressed otherwise may come out longer.
    if reply.edit(&mut scratch, |_| true).is_ok() {
        assert_eq!(validate(reply.bytes()), Ok(()));
    }
    assert_eq!(said(reply.bytes()), before);
    reply.patch_ttls(|_, ttl| ttl.saturating_sub(1));
    // A name of theirs may point at octets of a TTL: then it is another name now, or none.
    if validate(reply.bytes()).is_err() {
        return;
    }
    let before = said(reply.bytes());
    let middle = reply.len() / 2;
    let cut = reply.truncate_to(middle);
    assert_eq!(validate(reply.bytes()), Ok(()));
    let kept = said(reply.bytes());
    assert!(before.starts_with(&kept) && cut == (kept.len() < before.len()));
}

/// Octets as a list of changes to one reply: after each it is valid.
pub fn reply_edit(data: &[u8]) {
    let mut input = Input(data);
    let mut reply = Reply::new(vec![0; 1_024].into_boxed_slice());
    let mut scratch = vec![0; 1_024].into_boxed_slice();
    let asked = input.name();
    let (name, rclass) = (asked.as_name(), rclass::IN);
    reply.start(
        7,
        Flags::default().with_qr(true),
        Question { name, lower: name, rtype: 1, rclass },
    );
    let mut mark = reply.mark();
    while !input.0.is_empty() {
        let step = input.octet();
        if step & 0xc0 == 0 {
            push(&mut reply, step, &mut input);
        } else {
            mark = change(&mut reply, step, &mut input, &mut scratch, mark);
        }
        assert_eq!(validate(reply.bytes()), Ok(()), "after step {step:#x}");
        assert!(reply.len() <= reply.capacity());
    }
}

fn push(reply: &mut Reply, step: u8, input: &mut Input<'_>) {
    let last = reply.records().last().and_then(Result::ok).map_or(Section::Answer, |r| r.section);
    let section = Section::ALL[(step as usize & 3).clamp(last as usize, 2)];
    let owner = input.name();
    let owner = owner.as_name();
    let ttl = u32::from(input.octet());
    let len = reply.len();
    let pushed = match step >> 2 & 7 {
        0 => reply.push_address(section, owner, [192, 0, 2, step].into(), ttl),
        1 => reply.push_address(section, owner, [step; 16].into(), ttl),
        2 => reply.push_name(section, owner, rtype::CNAME, input.name().as_name(), ttl),
        3 => reply.push_name(section, owner, rtype::DNAME, input.name().as_name(), ttl),
        4 => reply.push_srv(section, owner, [1, 2, 3], input.name().as_name(), ttl),
        5 => {
            let (mname, rname) = (input.name(), input.name());
            let (mname, rname) = (mname.as_name(), rname.as_name());
            reply.push_soa(section, owner, &Soa { mname, rname, numbers: [1; 5] }, ttl)
        }
        6 => reply.push_txt(section, owner, rclass::CH, ttl, [input.take(200)]),
        _ => {
            let rdata = Rdata::Raw(input.take(9));
            reply.push(section, owner, 65_400, rclass::IN, ttl, rdata)
        }
    };
    assert!(pushed.is_ok() || reply.len() == len, "what does not fit leaves no trace");
}

fn change(
    reply: &mut Reply,
    step: u8,
    input: &mut Input<'_>,
    scratch: &mut Box<[u8]>,
    mark: Mark,
) -> Mark {
    let section = Section::ALL[step as usize % 3];
    let before = said(reply.bytes());
    match step >> 3 & 15 {
        8 => return reply.mark(),
        9 => reply.rewind(mark),
        10 => {
            let limit = usize::from(input.octet()) * 4;
            let cut = reply.truncate_to(limit);
            assert!(before.starts_with(&said(reply.bytes())) && (!cut || reply.flags().tc()));
        }
        11 => {
            let mask = input.octet();
            let kept = reply.retain(scratch, |record, _| mask >> (record.ttl & 7) & 1 == 1);
            assert!(kept.is_ok() || said(reply.bytes()) == before);
        }
        12 => {
            let count = match section {
                Section::Answer => reply.counts().answer,
                Section::Authority => reply.counts().authority,
                Section::Additional => reply.counts().additional,
            };
            let order: Vec<u16> = (0..count).rev().collect();
            if reply.permute(section, &order, scratch).is_ok() {
                let mut all = said(reply.bytes());
                let start = all.iter().position(|it| it.0 == section).unwrap_or(0);
                all[start..start + count as usize].reverse();
                assert_eq!(all, before);
            } else {
                assert_eq!(said(reply.bytes()), before);
            }
        }
        13 => {
            let to = input.name();
            let edited = reply.edit(scratch, |draft| {
                draft.names_mut().iter_mut().for_each(|name| name.set(to.as_name()));
                true
            });
            assert!(edited.is_ok() || said(reply.bytes()) == before);
        }
        14 => reply.cut(section),
        _ => {
            let other = reply.bytes().to_vec();
            let appended = reply.append(&other, |draft| draft.section() == Section::Additional);
            assert!(appended.is_ok() || reply.bytes() == other);
        }
    }
    // A mark is good for pushes only.
    reply.mark()
}

/// Section, owner, type, TTL, expanded RDATA.
type Said = (Section, Vec<u8>, u16, u32, Vec<u8>);

/// What a valid message says.
fn said(message: &[u8]) -> Vec<Said> {
    let records = records(message).expect("a valid message");
    records
        .map(|record| {
            let record = record.expect("a valid record");
            let owner = record.owner(message).expect("a valid owner");
            let mut rdata = Vec::new();
            record.expand_rdata(message, &mut rdata).expect("valid RDATA");
            (record.section, owner.as_name().as_bytes().to_vec(), record.rtype, record.ttl, rdata)
        })
        .collect()
}

/// Octets that are used up; zeros when they are.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn octet(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Up to seven labels, common ones and others.
    fn name(&mut self) -> NameBuf {
        let mut name = NameBuf::root();
        for _ in 0..self.octet() & 7 {
            let kind = self.octet();
            let label = match kind & 7 {
                0 => b"org",
                1 => b"www",
                2 => &b"example"[..],
                3 => b"Example",
                4 => self.take(63),
                _ => self.take(1 + usize::from(kind >> 5)),
            };
            name = name.prepend(label).unwrap_or(name);
        }
        name
    }
}
