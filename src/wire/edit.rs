//! Changes a reply that is already written.
//!
//! What keeps every record at its place (flags, TTLs, dropping records from the end) is done where
//! the message is. What moves records builds the message again, names expanded and compressed
//! anew, because compression pointers are offsets: [`Reply::rebuild`] from another message,
//! [`Reply::retain`] and [`Reply::permute`] through a second buffer that the caller lends;
//! [`Reply::append`] adds what another message holds. One pass each; nothing allocates. A change
//! that fails leaves the reply as it was, but for `rebuild`, which leaves it empty.
//! RFC 2181 sections 5.2 and 9, RFC 6891 section 6.2.5.

use super::error::{Full, WireError};
use super::header::{Counts, Flags, HEADER_BYTES, Question};
use super::name::NameBuf;
use super::number::{Rclass, Rtype, rtype};
use super::rdata::{Field, field_end, rdata_names};
use super::record::{Cursor, Record, Section, set_ttl};
use super::reply::Reply;
use crate::limits::RDATA_NAMES_MAX;

/// A record on its way from one message into another: names expanded, to be changed or left.
pub struct Draft<'m> {
    message: &'m [u8],
    record: Record,
    /// The owner.
    pub owner: NameBuf,
    /// The class.
    pub rclass: Rclass,
    /// The TTL in seconds.
    pub ttl: u32,
    names: [NameBuf; RDATA_NAMES_MAX],
    names_len: usize,
}

impl<'m> Draft<'m> {
    fn new(message: &'m [u8], record: Record) -> Self {
        let names = [NameBuf::root(); RDATA_NAMES_MAX];
        let (owner, names_len) = (NameBuf::root(), 0);
        Self { message, record, owner, rclass: record.rclass, ttl: record.ttl, names, names_len }
    }

    fn load(&mut self, record: Record) -> Result<(), WireError> {
        self.record = record;
        self.rclass = record.rclass;
        self.ttl = record.ttl;
        self.owner.fill(self.message, record.at)?;
        self.names_len = 0;
        let mut at = record.rdata_at;
        for &field in rdata_names(record.rtype) {
            let end = field_end(self.message, field, at, record.end())?;
            if matches!(field, Field::Name | Field::PlainName) {
                let name = self.names.get_mut(self.names_len).ok_or(WireError::Rdata)?;
                name.fill(self.message, at)?;
                self.names_len += 1;
            }
            at = end;
        }
        if at == record.end() { Ok(()) } else { Err(WireError::Rdata) }
    }

    /// The record as it is in the message that is read.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The type.
    pub fn rtype(&self) -> Rtype {
        self.record.rtype
    }

    /// The section.
    pub fn section(&self) -> Section {
        self.record.section
    }

    /// The RDATA as it is in the message that is read: names in it may be compressed.
    pub fn rdata(&self) -> &'m [u8] {
        self.record.rdata(self.message)
    }

    /// The names in the RDATA, in order: a CNAME's target, a SOA's two.
    pub fn names(&self) -> &[NameBuf] {
        &self.names[..self.names_len]
    }

    /// The names in the RDATA, to be changed.
    pub fn names_mut(&mut self) -> &mut [NameBuf] {
        &mut self.names[..self.names_len]
    }

    /// Writes the RDATA with the names as they are now.
    fn put_rdata(&self, reply: &mut Reply) -> Result<(), Full> {
        let mut names = self.names().iter();
        let (mut at, end) = (self.record.rdata_at, self.record.end());
        for &field in rdata_names(self.record.rtype) {
            let after = field_end(self.message, field, at, end).map_err(|_| Full)?;
            match (field, names.len()) {
                (Field::Name, 1..) => {
                    names.next().map_or(Ok(()), |name| reply.put_name(name.as_name()))?;
                }
                (Field::PlainName, 1..) => {
                    names.next().map_or(Ok(()), |name| reply.put_plain_name(name.as_name()))?;
                }
                _ => reply.put(&self.message[at..after])?,
            }
            at = after;
        }
        Ok(())
    }
}

/// Address records of one owner, type and TTL, in wire form.
#[derive(Debug)]
pub enum AddressRows<'a> {
    /// A.
    V4(&'a mut [[u8; 16]]),
    /// AAAA.
    V6(&'a mut [[u8; 28]]),
}

impl Reply {
    /// Becomes `from`, another whole valid message, with its records as `each` leaves them;
    /// records for which it says `false` are left out. `question` stands in the place of the one
    /// that was there.
    ///
    /// # Errors
    /// `from` is not valid or the result does not fit: the reply is empty.
    pub fn rebuild(
        &mut self,
        from: &[u8],
        question: Option<Question<'_>>,
        mut each: impl FnMut(&mut Draft<'_>) -> bool,
    ) -> Result<(), WireError> {
        let built = self.begin_from(from, question).and_then(|()| {
            let mut cursor = Cursor::new(from)?;
            let Some(first) = cursor.next(from)? else { return Ok(()) };
            let mut draft = Draft::new(from, first);
            let mut next = Some(first);
            while let Some(record) = next {
                draft.load(record)?;
                if each(&mut draft) {
                    self.put_draft(&draft, draft.section())?;
                }
                next = cursor.next(from)?;
            }
            Ok(())
        });
        built.inspect_err(|_| self.clear())
    }

    /// Starts with the header of `from` and a question: this one or else the one it has.
    fn begin_from(&mut self, from: &[u8], question: Option<Question<'_>>) -> Result<(), WireError> {
        let [i, j, ..] = *from.first_chunk::<HEADER_BYTES>().ok_or(WireError::Short)?;
        let (id, flags) = (u16::from_be_bytes([i, j]), Flags::read(from));
        match question {
            Some(question) => self.start(id, flags, question),
            None if Counts::read(from).question == 0 || from.len() == HEADER_BYTES => {
                self.start_bare(id, flags);
            }
            None => {
                let (name, end) = NameBuf::read(from, HEADER_BYTES)?;
                let rest = from.get(end..).and_then(<[u8]>::first_chunk::<4>);
                let [t1, t2, c1, c2] = *rest.ok_or(WireError::Short)?;
                let name = name.as_name();
                let rtype = u16::from_be_bytes([t1, t2]);
                let rclass = u16::from_be_bytes([c1, c2]);
                self.start(id, flags, Question { name, lower: name, rtype, rclass });
            }
        }
        if self.is_empty() { Err(WireError::Full) } else { Ok(()) }
    }

    /// Appends records of `from`, another whole valid message, each to its section, as `each` leaves
    /// them; those for which it says `false` are left out.
    ///
    /// # Errors
    /// `from` is not valid, what is chosen does not fit, or its section is before the last one
    /// written: nothing was appended.
    pub fn append(
        &mut self,
        from: &[u8],
        each: impl FnMut(&mut Draft<'_>) -> bool,
    ) -> Result<(), WireError> {
        self.append_all(None, from, each)
    }

    /// As `append`, all of them to one section.
    ///
    /// # Errors
    /// As `append`.
    pub fn append_to(
        &mut self,
        section: Section,
        from: &[u8],
        each: impl FnMut(&mut Draft<'_>) -> bool,
    ) -> Result<(), WireError> {
        self.append_all(Some(section), from, each)
    }

    fn append_all(
        &mut self,
        section: Option<Section>,
        from: &[u8],
        mut each: impl FnMut(&mut Draft<'_>) -> bool,
    ) -> Result<(), WireError> {
        let mark = self.mark();
        let mut copy = || {
            let mut cursor = Cursor::new(from)?;
            while let Some(record) = cursor.next(from)? {
                let mut draft = Draft::new(from, record);
                draft.load(record)?;
                if each(&mut draft) {
                    self.put_draft(&draft, section.unwrap_or(record.section))?;
                }
            }
            Ok(())
        };
        copy().inspect_err(|_| self.rewind(mark))
    }

    fn put_draft(&mut self, draft: &Draft<'_>, section: Section) -> Result<(), Full> {
        let numbers = [draft.record.rtype, draft.rclass];
        let owner = draft.owner.as_name();
        self.put_record(section, owner, numbers, draft.ttl, |reply| draft.put_rdata(reply))
    }

    /// Keeps only the records for which `keep`, given a record and the message, says so.
    /// `scratch` is a buffer like the reply's own; the two are exchanged.
    ///
    /// # Errors
    /// The result does not fit into `scratch`: the reply is as it was.
    pub fn retain(
        &mut self,
        scratch: &mut Box<[u8]>,
        mut keep: impl FnMut(&Record, &[u8]) -> bool,
    ) -> Result<(), WireError> {
        self.edit(scratch, |draft| keep(&draft.record, draft.message))
    }

    /// Changes records with `each`, as [`Reply::rebuild`] does from another message.
    /// `scratch` is a buffer like the reply's own; the two are exchanged.
    ///
    /// # Errors
    /// The result does not fit into `scratch`: the reply is as it was.
    pub fn edit(
        &mut self,
        scratch: &mut Box<[u8]>,
        each: impl FnMut(&mut Draft<'_>) -> bool,
    ) -> Result<(), WireError> {
        let len = self.len;
        self.through(scratch, |reply, from| reply.rebuild(&from[..len], None, each))
    }

    /// Puts the answers of `from`, another whole valid message, behind those of this one's answers
    /// that `keep` keeps, as it leaves them; nothing is put there without `from`. The other sections
    /// stay. `scratch` is a buffer like the reply's own; the two are exchanged.
    ///
    /// # Errors
    /// `from` is not valid, or the result does not fit into `scratch`: the reply is as it was.
    pub fn splice(
        &mut self,
        from: Option<&[u8]>,
        scratch: &mut Box<[u8]>,
        mut keep: impl FnMut(&mut Draft<'_>) -> bool,
    ) -> Result<(), WireError> {
        let len = self.len;
        self.through(scratch, |reply, own| {
            let own = &own[..len];
            reply.rebuild(own, None, |draft| draft.section() == Section::Answer && keep(draft))?;
            from.map_or(Ok(()), |from| {
                reply.append(from, |draft| draft.section() == Section::Answer)
            })?;
            reply.append(own, |draft| draft.section() != Section::Answer)
        })
    }

    /// Builds the message again in the other buffer.
    fn through(
        &mut self,
        scratch: &mut Box<[u8]>,
        build: impl FnOnce(&mut Self, &[u8]) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        // `build` is given the whole other buffer; the message is what it starts with.
        let (len, ext_rcode, section) = (self.len, self.ext_rcode, self.section);
        let question_len = self.question_len;
        if len == 0 {
            return Ok(());
        }
        std::mem::swap(&mut self.buf, scratch);
        let built = build(self, scratch);
        if built.is_err() {
            std::mem::swap(&mut self.buf, scratch);
            self.forget_names();
            self.question_len = question_len;
            self.len = len;
            self.section = section;
        }
        self.ext_rcode = ext_rcode;
        built
    }

    /// Gives every record, OPT and TSIG left out, the TTL that `f` makes of its own. A foreign
    /// message whose names point at octets of a TTL has other names then: whoever sends such a
    /// message has only itself to blame, and all readers check what they read.
    pub fn patch_ttls(&mut self, mut f: impl FnMut(&Record, u32) -> u32) {
        let Ok(mut cursor) = Cursor::new(self.bytes()) else { return };
        while let Ok(Some(record)) = cursor.next(&self.buf[..self.len]) {
            if !record.is_meta() {
                let ttl = f(&record, record.ttl);
                if ttl != record.ttl {
                    set_ttl(&mut self.buf[..self.len], &record, ttl);
                }
            }
        }
    }

    /// Writes the question as it is asked, in the place of the same in other letters: for a message that
    /// was made for another asker. Records keep the letters of their names, as those of miekg/dns do.
    /// `scratch` is a buffer like the reply's own; the two may be exchanged.
    ///
    /// # Errors
    /// The result does not fit into `scratch`: the reply is as it was.
    pub fn echo_question(
        &mut self,
        scratch: &mut Box<[u8]>,
        question: Question<'_>,
    ) -> Result<(), WireError> {
        let end = HEADER_BYTES + self.question_len as usize;
        // Most ask in the letters of who asked first.
        if self.buf.get(HEADER_BYTES..end) == Some(question.name.as_bytes()) {
            return Ok(());
        }
        let len = self.len;
        self.through(scratch, |reply, from| reply.rebuild(&from[..len], Some(question), |_| true))
    }

    /// Drops all records of `section` and of those after it.
    pub fn cut(&mut self, section: Section) {
        self.cut_where(|record| record.section >= section);
    }

    /// Drops records from the end until the message has at most `limit` octets, and sets TC if
    /// any was dropped; says whether. Header and question stay.
    ///
    /// TC is set for whatever is dropped, and an incomplete record set stays in the message, as
    /// RFC 2181 section 9 allows beside TC: CoreDNS does both, and old resolvers in containers
    /// that never ask again over TCP live on the part they get.
    pub fn truncate_to(&mut self, limit: usize) -> bool {
        if self.len <= limit {
            return false;
        }
        let dropped = self.cut_where(|record| record.end() > limit);
        if dropped {
            self.set_flags(self.flags().with_tc(true));
        }
        dropped
    }

    /// Drops the first record for which `from` says so, and all after it.
    fn cut_where(&mut self, mut from: impl FnMut(&Record) -> bool) -> bool {
        let Ok(mut cursor) = Cursor::new(self.bytes()) else { return false };
        let mut kept = Counts { question: self.counts().question, ..Counts::default() };
        let mut end = cursor.at();
        while let Ok(Some(record)) = cursor.next(&self.buf[..self.len]) {
            if from(&record) {
                break;
            }
            end = record.end();
            *kept.of_mut(record.section) += 1;
        }
        let dropped = kept != self.counts();
        if dropped {
            self.len = end;
            self.set_counts(kept);
            self.section = kept.last_section();
            self.forget_names();
        }
        dropped
    }

    /// The records of the answer section, if all are addresses of the question's name with one TTL,
    /// as most answers of several records are: they may change places where they stand.
    pub fn address_rows(&mut self) -> Option<AddressRows<'_>> {
        let (at, count) = (self.question_end(), self.counts().answer as usize);
        let answers = self.buf.get_mut(at..self.len)?;
        let head: [u8; 12] = *answers.first_chunk()?;
        let [to, _, rtype @ .., _, _, _, _, _, _, _, size] = head;
        if to < 0xc0 {
            return None;
        }
        fn alike<'r, const N: usize>(
            answers: &'r mut [u8],
            count: usize,
            head: &[u8; 12],
        ) -> Option<&'r mut [[u8; N]]> {
            let rows = answers.as_chunks_mut::<N>().0.get_mut(..count)?;
            rows.iter().all(|row| row.first_chunk() == Some(head)).then_some(rows)
        }
        match (u16::from_be_bytes(rtype), size) {
            (rtype::A, 4) => alike(answers, count, &head).map(AddressRows::V4),
            (rtype::AAAA, 16) => alike(answers, count, &head).map(AddressRows::V6),
            _ => None,
        }
    }

    /// Reorders the records of a section: the record that was `order[i]`th (from 0) becomes the
    /// `i`th. `order` is a permutation of all of them. `scratch` is a buffer like the reply's own;
    /// the two may be exchanged. Records of one owner without names in their RDATA (A, AAAA, TXT)
    /// are moved where they are.
    ///
    /// # Errors
    /// `order` is not a permutation of the section, or `scratch` has no room beside the message
    /// for two octets a record: the reply is as it was.
    pub fn permute(
        &mut self,
        section: Section,
        order: &[u16],
        scratch: &mut Box<[u8]>,
    ) -> Result<(), WireError> {
        let count = self.counts().of(section) as usize;
        if order.len() != count {
            return Err(WireError::Rdata);
        }
        let moved = |(index, from): (usize, &u16)| index != *from as usize;
        let Some(low) = order.iter().enumerate().position(moved) else { return Ok(()) };
        let high = order.iter().enumerate().rposition(moved).map_or(low, |last| last + 1);
        if let Some((at, size)) = self.uniform_run(section, low, high) {
            return self.permute_run(at, size, low, &order[low..high], scratch);
        }
        self.permute_any(section, order, scratch)
    }

    /// Where the records of a section from the `low`th to before the `high`th start, and the
    /// octets of each, if all have the same owner, as the same pointer, the same size, and no
    /// names: exchanging their other octets then changes nothing that may be pointed at.
    fn uniform_run(&self, section: Section, low: usize, high: usize) -> Option<(usize, usize)> {
        let message = self.bytes();
        let mut in_section = self.records().flatten().filter(|r| r.section == section).skip(low);
        let first = in_section.next()?;
        let size = first.end() - first.at;
        let pointer = message.get(first.at..first.at + 2)?;
        let names = |field: &Field| matches!(field, Field::Name | Field::PlainName);
        let alike = |record: Record| {
            record.rtype == first.rtype
                && record.end() - record.at == size
                && record.ttl_at == record.at + 6
                && message.get(record.at..record.at + 2) == Some(pointer)
        };
        let uniform = pointer[0] >= 0xc0
            && !rdata_names(first.rtype).iter().any(names)
            && in_section.take(high - low - 1).all(alike);
        uniform.then_some((first.at, size))
    }

    /// Reorders a run of records of `size` octets each that starts at `at`, the `low`th record of
    /// its section.
    fn permute_run(
        &mut self,
        at: usize,
        size: usize,
        low: usize,
        order: &[u16],
        scratch: &mut [u8],
    ) -> Result<(), WireError> {
        let run = self.buf.get_mut(at..at + order.len() * size).ok_or(WireError::Short)?;
        let copy = scratch.get_mut(..run.len()).ok_or(WireError::Full)?;
        if order.iter().any(|from| !(low..low + order.len()).contains(&(*from as usize))) {
            return Err(WireError::Rdata);
        }
        copy.copy_from_slice(run);
        for (to, from) in run.chunks_exact_mut(size).zip(order) {
            let from = (*from as usize - low) * size;
            to.copy_from_slice(&copy[from..from + size]);
        }
        Ok(())
    }

    /// Reorders by building the message again. Where the section's records start is noted in the
    /// unused end of the buffer, two octets each.
    fn permute_any(
        &mut self,
        section: Section,
        order: &[u16],
        scratch: &mut Box<[u8]>,
    ) -> Result<(), WireError> {
        let notes_at = self.buf.len().checked_sub(2 * order.len()).ok_or(WireError::Full)?;
        let (message, notes) = self.buf.split_at_mut_checked(notes_at).ok_or(WireError::Full)?;
        let message = message.get(..self.len).ok_or(WireError::Full)?;
        let mut cursor = Cursor::new(message)?;
        let mut notes = notes.chunks_exact_mut(2);
        while let Some(record) = cursor.next(message)? {
            if record.section == section {
                let note = notes.next().ok_or(WireError::Rdata)?;
                note.copy_from_slice(&(record.at as u16).to_le_bytes());
            }
        }
        let len = self.len;
        self.through(scratch, |reply, from| {
            let (message, notes) = (&from[..len], &from[notes_at..]);
            reply.begin_from(message, None)?;
            let mut cursor = Cursor::new(message)?;
            let mut order = order.iter();
            while let Some(mut record) = cursor.next(message)? {
                if record.section == section {
                    let from = 2 * *order.next().ok_or(WireError::Rdata)? as usize;
                    let note = notes.get(from..from + 2).ok_or(WireError::Rdata)?;
                    let at = u16::from_le_bytes([note[0], note[1]]) as usize;
                    record = Record::read(message, at, section)?;
                }
                let mut draft = Draft::new(message, record);
                draft.load(record)?;
                reply.put_draft(&draft, draft.section())?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::super::name::Name;
    use super::super::number::rclass;
    use super::*;

    fn reply(buffer: usize, name: &str) -> Reply {
        let name = NameBuf::parse(name).expect("a name");
        let question = Question {
            name: name.as_name(),
            lower: name.as_name(),
            rtype: rtype::A,
            rclass: rclass::IN,
        };
        let mut reply = Reply::new(vec![0; buffer].into());
        reply.start(1, Flags::default().with_qr(true), question);
        reply
    }

    #[test]
    fn appended_records_are_whole_in_their_new_message() {
        let (www, apex) =
            (NameBuf::parse("www.example.").unwrap(), NameBuf::parse("example.").unwrap());
        let mut from = reply(512, "www.example.");
        let owner = www.as_name();
        from.push_name(Section::Answer, owner, rtype::CNAME, apex.as_name(), 60).unwrap();
        from.push_address(Section::Answer, apex.as_name(), [192, 0, 2, 1].into(), 60).unwrap();
        from.push_name(Section::Authority, apex.as_name(), rtype::NS, owner, 60).unwrap();
        let only_answers = |draft: &mut Draft<'_>| draft.section() == Section::Answer;

        let mut to = reply(512, "other.test.");
        to.push_name(Section::Answer, apex.as_name(), rtype::CNAME, owner, 60).unwrap();
        to.append(from.bytes(), only_answers).unwrap();
        assert_eq!(to.counts(), Counts { question: 1, answer: 3, authority: 0, additional: 0 });
        super::super::validate(to.bytes()).unwrap();
        let last = to.records().last().unwrap().unwrap();
        assert_eq!(last.owner(to.bytes()).unwrap(), apex);
        assert_eq!(last.rdata(to.bytes()), [192, 0, 2, 1]);

        let mut small = reply(60, "other.test.");
        let before = small.bytes().to_vec();
        small.append(from.bytes(), only_answers).unwrap_err();
        assert_eq!(small.bytes(), before);
    }

    #[test]
    fn answers_are_put_between() {
        let (www, apex) =
            (NameBuf::parse("www.example.").unwrap(), NameBuf::parse("example.").unwrap());
        let (www, apex) = (www.as_name(), apex.as_name());
        let mut from = reply(512, "example.");
        from.push_address(Section::Answer, apex, [192, 0, 2, 1].into(), 60).unwrap();
        from.push_name(Section::Authority, apex, rtype::NS, www, 60).unwrap();
        let mut to = reply(512, "www.example.");
        to.push_name(Section::Answer, www, rtype::CNAME, apex, 60).unwrap();
        to.push_address(Section::Answer, apex, [192, 0, 2, 2].into(), 60).unwrap();
        to.push_name(Section::Authority, www, rtype::NS, apex, 60).unwrap();
        to.push_address(Section::Additional, apex, [192, 0, 2, 3].into(), 60).unwrap();
        to.set_rcode(0x16);
        let before = to.bytes().to_vec();
        let aliases = |draft: &mut Draft<'_>| draft.rtype() == rtype::CNAME;

        let mut small: Box<[u8]> = vec![0; before.len() - 1].into();
        to.splice(Some(from.bytes()), &mut small, aliases).unwrap_err();
        assert_eq!((to.bytes(), to.rcode()), (&before[..], 0x16));

        let mut scratch: Box<[u8]> = vec![0; 512].into();
        to.splice(Some(from.bytes()), &mut scratch, aliases).unwrap();
        assert_eq!(to.counts(), Counts { question: 1, answer: 2, authority: 1, additional: 1 });
        assert_eq!(to.rcode(), 0x16);
        super::super::validate(to.bytes()).unwrap();
        let second = to.records().nth(1).unwrap().unwrap();
        assert_eq!(second.rdata(to.bytes()), [192, 0, 2, 1]);

        to.splice(None, &mut scratch, aliases).unwrap();
        assert_eq!(to.counts(), Counts { question: 1, answer: 1, authority: 1, additional: 1 });
    }
    #[test]
    fn rows_are_addresses_of_one_owner_type_and_ttl() {
        let owner = NameBuf::parse("www.example.").unwrap();
        let other = NameBuf::parse("example.").unwrap();
        let (owner, other) = (owner.as_name(), other.as_name());
        let answer = Section::Answer;
        let start = || reply(512, "www.example.");
        assert!(start().address_rows().is_none(), "no records");

        let mut fours = start();
        let mut sixes = start();
        for last in 1..=3 {
            fours.push_address(answer, owner, [192, 0, 2, last].into(), 60).unwrap();
            let six = [0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()];
            sixes.push_address(answer, owner, six.into(), 60).unwrap();
        }
        let Some(AddressRows::V4(rows)) = fours.address_rows() else { panic!("A") };
        assert_eq!(rows.iter().map(|row| row[15]).collect::<Vec<_>>(), [1, 2, 3]);
        rows.swap(0, 2);
        super::super::validate(fours.bytes()).unwrap();
        let lasts = fours.records().map(|record| record.unwrap().rdata(fours.bytes())[3]);
        assert_eq!(lasts.collect::<Vec<_>>(), [3, 2, 1]);
        let Some(AddressRows::V6(rows)) = sixes.address_rows() else { panic!("AAAA") };
        assert_eq!(rows.iter().map(|row| row[27]).collect::<Vec<_>>(), [1, 2, 3]);

        for (owner, address, ttl) in [
            (other, [192, 0, 2, 4].into(), 60),
            (owner, [192, 0, 2, 4].into(), 61),
            (owner, std::net::Ipv6Addr::LOCALHOST.into(), 60),
        ] {
            let mut mixed = fours_of(start(), owner, address, ttl);
            assert!(mixed.address_rows().is_none(), "{address} {ttl}");
        }
        let mut alias = start();
        alias.push_name(answer, owner, rtype::CNAME, other, 60).unwrap();
        assert!(alias.address_rows().is_none());
        // What follows in other sections is none of them.
        fours.push_name(Section::Authority, other, rtype::NS, owner, 60).unwrap();
        assert!(matches!(fours.address_rows(), Some(AddressRows::V4(rows)) if rows.len() == 3));
    }

    /// With an address of the question's name, and one more.
    fn fours_of(mut reply: Reply, owner: Name<'_>, address: IpAddr, ttl: u32) -> Reply {
        let www = NameBuf::parse("www.example.").unwrap();
        let answer = Section::Answer;
        reply.push_address(answer, www.as_name(), [192, 0, 2, 1].into(), 60).unwrap();
        reply.push_address(answer, owner, address, ttl).unwrap();
        reply
    }
}
