//! A reply, written straight into the buffer that is sent.
//!
//! [`Reply`] is at all times either empty or a whole valid message: header, question, records;
//! counts are kept in the header with every record. What does not fit is not begun. Names are
//! compressed where RFC 3597 section 4 allows it. Records come in the order of their sections.
//! Writing allocates nothing; a name that is the question's costs one comparison.
//! What changes a reply that is already written is in `edit.rs`.
//! RFC 1035 section 4.1, RFC 6891 section 6.1.

use std::net::IpAddr;

use super::compress::Compressor;
use super::error::{Full, WireError};
use super::header::{Counts, Flags, HEADER_BYTES, Question};
use super::name::Name;
use super::number::{Rclass, Rcode, Rtype, rclass, rtype};
use super::query::OptView;
use super::rdata::{Field, field_end, rdata_names};
use super::record::{Extent, Records, Section, extent, records};
use crate::limits::MESSAGE_BYTES_MAX;

/// RDATA to be written.
#[derive(Clone, Copy, Debug)]
pub enum Rdata<'a> {
    /// Wire form to be copied as it is: it holds no name, or none that is to be compressed.
    Raw(&'a [u8]),
    /// Uncompressed wire form of the record's type: names in it are compressed where allowed.
    Wire(&'a [u8]),
}

/// The fields of a SOA record (RFC 1035 section 3.3.13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Soa<'a> {
    /// The primary server.
    pub mname: Name<'a>,
    /// The mailbox of who is responsible.
    pub rname: Name<'a>,
    /// Serial, refresh, retry, expire, minimum; all but the serial in seconds.
    pub numbers: [u32; 5],
}

/// A place in a reply to go back to.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    len: usize,
    counts: Counts,
    section: Section,
    names: u8,
    question_entered: bool,
}

/// A message that is being written.
pub struct Reply {
    pub(super) buf: Box<[u8]>,
    /// Octets in use: 0, or at least a header.
    pub(super) len: usize,
    /// The section that is being written.
    pub(super) section: Section,
    /// The high eight bits of the rcode, which the header has no room for.
    pub(super) ext_rcode: u8,
    table: Compressor,
    /// Octets of the question's name at offset 12; 0: there is none, or it is compressed.
    pub(super) question_len: u8,
    /// Whether the suffixes of the question's name are in the table.
    question_entered: bool,
}

impl Reply {
    /// An empty reply that is written into `buf`, at most 65,535 octets of it.
    pub fn new(buf: Box<[u8]>) -> Self {
        Self {
            buf,
            len: 0,
            section: Section::Answer,
            ext_rcode: 0,
            table: Compressor::new(),
            question_len: 0,
            question_entered: false,
        }
    }

    /// Exchanges the buffer, empties the reply, and gives the octets of the message that now is
    /// in `other`.
    #[inline]
    pub fn swap_buf(&mut self, other: &mut Box<[u8]>) -> usize {
        std::mem::swap(&mut self.buf, other);
        let len = self.len;
        self.clear();
        len
    }

    /// Becomes empty.
    #[inline]
    pub fn clear(&mut self) {
        self.len = 0;
        self.ext_rcode = 0;
        self.section = Section::Answer;
        self.question_len = 0;
        self.forget_names();
    }

    #[inline]
    pub(super) fn forget_names(&mut self) {
        self.table.shrink(0);
        self.question_entered = false;
    }

    /// Starts anew: header and question, no records. A buffer without room for a header and a
    /// question of any length leaves the reply empty.
    #[inline]
    pub fn start(&mut self, id: u16, flags: Flags, question: Question<'_>) {
        self.clear();
        let name = question.name.as_bytes();
        let end = HEADER_BYTES + name.len();
        let Some(message) = self.buf.get_mut(..end + 4) else {
            debug_assert!(false, "no room for header and question");
            return;
        };
        let [i, j] = id.to_be_bytes();
        let [f, g] = flags.0.to_be_bytes();
        message[..HEADER_BYTES].copy_from_slice(&[i, j, f, g, 0, 1, 0, 0, 0, 0, 0, 0]);
        message[HEADER_BYTES..end].copy_from_slice(name);
        message[end..end + 2].copy_from_slice(&question.rtype.to_be_bytes());
        message[end + 2..].copy_from_slice(&question.rclass.to_be_bytes());
        self.len = end + 4;
        self.question_len = name.len() as u8;
    }

    /// Starts anew with a header only, whose counts are all zero.
    pub(super) fn start_bare(&mut self, id: u16, flags: Flags) {
        self.clear();
        if let Some(header) = self.buf.get_mut(..HEADER_BYTES) {
            header.fill(0);
            self.len = HEADER_BYTES;
            self.set_id(id);
            self.set_flags(flags);
        }
    }

    /// The message.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.buf[..self.len]
    }

    /// Octets of the message; 0 when empty.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no message.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Octets that the message may have.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.buf.len().min(MESSAGE_BYTES_MAX)
    }

    /// The message id.
    pub fn id(&self) -> u16 {
        self.header_word(0)
    }

    /// Writes another message id.
    pub fn set_id(&mut self, id: u16) {
        self.set_header_word(0, id);
    }

    /// The flags; those of an empty reply are zero.
    #[inline]
    pub fn flags(&self) -> Flags {
        Flags(self.header_word(2))
    }

    /// Writes other flags; the low bits of the rcode are among them.
    #[inline]
    pub fn set_flags(&mut self, flags: Flags) {
        self.set_header_word(2, flags.0);
    }

    /// Sets or clears AA.
    #[inline]
    pub fn set_aa(&mut self, on: bool) {
        self.set_flags(self.flags().with_aa(on));
    }

    /// Sets the rcode: its low four bits in the header, the others for whoever writes OPT.
    #[inline]
    pub fn set_rcode(&mut self, rcode: Rcode) {
        self.ext_rcode = (rcode >> 4) as u8;
        self.set_flags(self.flags().with_rcode(rcode as u8 & 0xf));
    }

    /// The whole rcode.
    #[inline]
    pub fn rcode(&self) -> Rcode {
        Rcode::from(self.ext_rcode) << 4 | Rcode::from(self.flags().rcode_low())
    }

    /// Entries of each section.
    #[inline]
    pub fn counts(&self) -> Counts {
        Counts::read(self.bytes())
    }

    /// The records.
    #[inline]
    pub fn records(&self) -> Records<'_> {
        records(self.bytes()).unwrap_or(Records::none())
    }

    /// Where the question ends: the offset of the first record.
    #[inline]
    pub fn question_end(&self) -> usize {
        match self.question_len {
            0 => self.records().at(),
            len => HEADER_BYTES + len as usize + 4,
        }
    }

    #[inline]
    fn header_word(&self, at: usize) -> u16 {
        if self.len < HEADER_BYTES {
            return 0;
        }
        u16::from_be_bytes([self.buf[at], self.buf[at + 1]])
    }

    #[inline]
    pub(super) fn set_header_word(&mut self, at: usize, word: u16) {
        if self.len >= HEADER_BYTES {
            self.buf[at..at + 2].copy_from_slice(&word.to_be_bytes());
        }
    }

    pub(super) fn set_counts(&mut self, counts: Counts) {
        self.set_header_word(4, counts.question);
        self.set_header_word(6, counts.answer);
        self.set_header_word(8, counts.authority);
        self.set_header_word(10, counts.additional);
    }

    /// The place where the next record would be written.
    #[inline]
    pub fn mark(&self) -> Mark {
        Mark {
            len: self.len,
            counts: self.counts(),
            section: self.section,
            names: self.table.count(),
            question_entered: self.question_entered,
        }
    }

    /// Takes back what was written since `mark` was taken. Between the two nothing but pushes may
    /// have happened.
    #[inline]
    pub fn rewind(&mut self, mark: Mark) {
        debug_assert!(mark.len <= self.len, "a mark of another message");
        self.len = mark.len;
        self.section = mark.section;
        self.table.shrink(mark.names);
        self.question_entered = mark.question_entered;
        self.set_counts(mark.counts);
    }

    /// Whether a record of `section` may be written next.
    #[inline]
    pub(super) fn admit(&self, section: Section) -> Result<(), Full> {
        debug_assert!(section >= self.section, "sections are written in order");
        if section < self.section || self.len < HEADER_BYTES {
            return Err(Full);
        }
        Ok(())
    }

    /// Counts `records` more that were written in `section`.
    #[inline]
    pub(super) fn count(&mut self, section: Section, records: u16) -> Result<(), Full> {
        let at = 6 + 2 * section as usize;
        let count = self.header_word(at).checked_add(records).ok_or(Full)?;
        self.set_header_word(at, count);
        self.section = section;
        Ok(())
    }

    #[inline]
    pub(super) fn put(&mut self, octets: &[u8]) -> Result<(), Full> {
        let end = self.len + octets.len();
        if end > MESSAGE_BYTES_MAX {
            return Err(Full);
        }
        self.buf.get_mut(self.len..end).ok_or(Full)?.copy_from_slice(octets);
        self.len = end;
        Ok(())
    }

    /// Writes a name, ending in a pointer if the message has a part of it.
    pub(super) fn put_name(&mut self, name: Name<'_>) -> Result<(), Full> {
        let bytes = name.as_bytes();
        let question = HEADER_BYTES..HEADER_BYTES + self.question_len as usize;
        if bytes.len() > 1 && self.buf.get(question) == Some(bytes) {
            return self.put(&[0xc0, HEADER_BYTES as u8]);
        }
        self.enter_question();
        let plan = self.table.plan(&self.buf[..self.len], name);
        let at = self.len;
        if let Some(target) = plan.target {
            self.put(&bytes[..plan.written])?;
            self.put(&(0xc000 | target).to_be_bytes())?;
        } else {
            self.put(bytes)?;
        }
        self.table.enter(&plan, at);
        Ok(())
    }

    /// Writes a name in full; others may end in pointers to it.
    pub(super) fn put_plain_name(&mut self, name: Name<'_>) -> Result<(), Full> {
        self.enter_question();
        let plan = self.table.plan(&self.buf[..self.len], name);
        let at = self.len;
        self.put(name.as_bytes())?;
        self.table.enter(&plan, at);
        Ok(())
    }

    /// Enters the question's name when a first name other than it is written.
    #[inline]
    fn enter_question(&mut self) {
        if !self.question_entered && self.question_len > 0 {
            let end = HEADER_BYTES + self.question_len as usize;
            let name = Name::trusted(&self.buf[HEADER_BYTES..end]);
            let plan = self.table.plan(&self.buf[..end], name);
            self.table.enter(&plan, HEADER_BYTES);
        }
        self.question_entered = true;
    }

    /// Writes a record whose RDATA `write` writes; takes all back if it does not fit.
    #[inline]
    pub(super) fn put_record(
        &mut self,
        section: Section,
        owner: Name<'_>,
        [rtype, rclass]: [u16; 2],
        ttl: u32,
        write: impl FnOnce(&mut Self) -> Result<(), Full>,
    ) -> Result<(), Full> {
        self.admit(section)?;
        let (len, names, entered) = (self.len, self.table.count(), self.question_entered);
        let written = self.put_name(owner).and_then(|()| {
            let [t1, t2] = rtype.to_be_bytes();
            let [c1, c2] = rclass.to_be_bytes();
            let [l1, l2, l3, l4] = ttl.to_be_bytes();
            self.put(&[t1, t2, c1, c2, l1, l2, l3, l4, 0, 0])?;
            let start = self.len;
            write(self)?;
            let rdata_len = (self.len - start) as u16;
            self.buf[start - 2..start].copy_from_slice(&rdata_len.to_be_bytes());
            self.count(section, 1)
        });
        if written.is_err() {
            self.len = len;
            self.table.shrink(names);
            self.question_entered = entered;
        }
        written
    }

    /// Adds a record.
    ///
    /// # Errors
    /// It does not fit (or its section is before the last one's): nothing was written.
    #[inline]
    pub fn push(
        &mut self,
        section: Section,
        owner: Name<'_>,
        rtype: Rtype,
        rclass: Rclass,
        ttl: u32,
        rdata: Rdata<'_>,
    ) -> Result<(), Full> {
        self.put_record(section, owner, [rtype, rclass], ttl, |reply| match rdata {
            Rdata::Raw(octets) => reply.put(octets),
            Rdata::Wire(octets) => reply.put_rdata(octets, rtype),
        })
    }

    /// Writes uncompressed RDATA, its names compressed where that is allowed. What is not of the
    /// type's form is copied as it is.
    fn put_rdata(&mut self, octets: &[u8], rtype: Rtype) -> Result<(), Full> {
        let mut at = 0;
        for &field in rdata_names(rtype) {
            let Ok(end) = field_end(octets, field, at, octets.len()) else { break };
            match (field, Name::from_wire(&octets[at..end])) {
                (Field::Name, Ok((name, _))) => self.put_name(name)?,
                (Field::PlainName, Ok((name, _))) => self.put_plain_name(name)?,
                _ => self.put(&octets[at..end])?,
            }
            at = end;
        }
        self.put(&octets[at..])
    }

    /// Adds an A or AAAA record of class IN.
    ///
    /// # Errors
    /// It does not fit: nothing was written.
    #[inline]
    pub fn push_address(
        &mut self,
        section: Section,
        owner: Name<'_>,
        address: IpAddr,
        ttl: u32,
    ) -> Result<(), Full> {
        let (v4, v6);
        let (rtype, octets): (_, &[u8]) = match address {
            IpAddr::V4(address) => {
                v4 = address.octets();
                (rtype::A, &v4)
            }
            IpAddr::V6(address) => {
                v6 = address.octets();
                (rtype::AAAA, &v6)
            }
        };
        self.push(section, owner, rtype, rclass::IN, ttl, Rdata::Raw(octets))
    }

    /// Adds a record of class IN whose RDATA is one name: CNAME, NS, PTR, DNAME.
    ///
    /// # Errors
    /// It does not fit: nothing was written.
    #[inline]
    pub fn push_name(
        &mut self,
        section: Section,
        owner: Name<'_>,
        rtype: Rtype,
        target: Name<'_>,
        ttl: u32,
    ) -> Result<(), Full> {
        self.put_record(section, owner, [rtype, rclass::IN], ttl, |reply| match rtype {
            rtype::DNAME => reply.put_plain_name(target),
            _ => reply.put_name(target),
        })
    }

    /// Adds a SOA record of class IN.
    ///
    /// # Errors
    /// It does not fit: nothing was written.
    pub fn push_soa(
        &mut self,
        section: Section,
        owner: Name<'_>,
        soa: &Soa<'_>,
        ttl: u32,
    ) -> Result<(), Full> {
        self.put_record(section, owner, [rtype::SOA, rclass::IN], ttl, |reply| {
            reply.put_name(soa.mname)?;
            reply.put_name(soa.rname)?;
            soa.numbers.iter().try_for_each(|number| reply.put(&number.to_be_bytes()))
        })
    }

    /// Adds an SRV record of class IN; `numbers` are priority, weight and port (RFC 2782).
    ///
    /// # Errors
    /// It does not fit: nothing was written.
    pub fn push_srv(
        &mut self,
        section: Section,
        owner: Name<'_>,
        numbers: [u16; 3],
        target: Name<'_>,
        ttl: u32,
    ) -> Result<(), Full> {
        self.put_record(section, owner, [rtype::SRV, rclass::IN], ttl, |reply| {
            numbers.iter().try_for_each(|number| reply.put(&number.to_be_bytes()))?;
            reply.put_plain_name(target)
        })
    }

    /// Adds a TXT record of this class; each string is cut at 255 octets, and no string at all is
    /// written as an empty one (RFC 1035 section 3.3.14).
    ///
    /// # Errors
    /// It does not fit: nothing was written.
    pub fn push_txt<'s>(
        &mut self,
        section: Section,
        owner: Name<'_>,
        rclass: Rclass,
        ttl: u32,
        strings: impl IntoIterator<Item = &'s [u8]>,
    ) -> Result<(), Full> {
        self.put_record(section, owner, [rtype::TXT, rclass], ttl, |reply| {
            let start = reply.len;
            for string in strings {
                let string = &string[..string.len().min(255)];
                reply.put(&[string.len() as u8])?;
                reply.put(string)?;
            }
            if reply.len == start { reply.put(&[0]) } else { Ok(()) }
        })
    }

    /// Adds `records` records that were rendered before: their pointers must be right for this
    /// message, which is the caller's duty. Later names do not end in pointers to them.
    ///
    /// # Errors
    /// They do not fit: nothing was written.
    #[inline]
    pub fn push_block(&mut self, section: Section, bytes: &[u8], records: u16) -> Result<(), Full> {
        self.push_block_with(section, bytes, records, |_, _| {})
    }

    /// As [`Reply::push_block`], for a block whose pointers depend on where it comes to stand:
    /// `point` gets the copy and its offset in the message.
    ///
    /// # Errors
    /// It does not fit: nothing was written.
    #[inline]
    pub fn push_block_with(
        &mut self,
        section: Section,
        bytes: &[u8],
        records: u16,
        point: impl FnOnce(&mut [u8], usize),
    ) -> Result<(), Full> {
        self.admit(section)?;
        let at = self.len;
        self.put(bytes)?;
        self.count(section, records).inspect_err(|_| self.len = at)?;
        point(&mut self.buf[at..self.len], at);
        Ok(())
    }

    /// Adds the OPT record; only `finish` does.
    ///
    /// # Errors
    /// It does not fit: nothing was written.
    #[inline]
    pub fn push_opt(
        &mut self,
        udp_size: u16,
        ext_rcode: u8,
        version: u8,
        do_bit: bool,
        options: &[u8],
    ) -> Result<(), Full> {
        let options_len = u16::try_from(options.len()).map_err(|_| Full)?;
        self.admit(Section::Additional)?;
        let [s1, s2] = udp_size.to_be_bytes();
        let [l1, l2] = options_len.to_be_bytes();
        let flags = if do_bit { 0x80 } else { 0 };
        let len = self.len;
        self.put(&[0, 0, rtype::OPT as u8, s1, s2, ext_rcode, version, flags, 0, l1, l2])
            .and_then(|()| self.put(options))
            .and_then(|()| self.count(Section::Additional, 1))
            .inspect_err(|_| self.len = len)
    }

    /// Becomes a copy of a message from elsewhere, once it has been walked whole. OPT and TSIG are
    /// left out, for they are between two hosts only (RFC 6891 section 6.1.1): `finish` writes our
    /// own. Gives what the OPT said, with offsets into `foreign`; its part of the rcode is kept.
    /// Entries that are missing at the end and octets after it are as in
    /// [`extent`](super::extent).
    ///
    /// # Errors
    /// The message is not valid, or does not fit: the reply is empty.
    pub fn adopt(&mut self, foreign: &[u8]) -> Result<Option<OptView>, WireError> {
        self.clear();
        let found = extent(foreign)?;
        let mut opt = None;
        if found.meta > 0 {
            for record in records(foreign)?.flatten().filter(|record| record.rtype == rtype::OPT) {
                opt = Some(OptView::of(&record));
            }
        }
        if found.meta_inside {
            self.rebuild(foreign, None, |draft| !draft.record().is_meta())?;
        } else {
            self.copy(foreign, &found)?;
        }
        self.ext_rcode = opt.map_or(0, |opt| opt.ext_rcode);
        Ok(opt)
    }

    /// Copies a message but for the OPT and TSIG records at its end.
    fn copy(&mut self, foreign: &[u8], found: &Extent) -> Result<(), WireError> {
        let data = foreign.get(..found.meta_at).ok_or(WireError::Short)?;
        let mut counts = found.counts;
        counts.additional -= found.meta;
        self.load(data)?;
        self.set_counts(counts);
        self.section = counts.last_section();
        Ok(())
    }

    /// Becomes a message that `write` puts into the buffer, one that a reply held before, to a question
    /// for `name`: it is not walked again. `write` gives its octets, or 0, which leaves the reply empty.
    pub fn fill<T>(&mut self, name: Name<'_>, write: impl FnOnce(&mut [u8]) -> (usize, T)) -> T {
        self.clear();
        let room = self.capacity();
        let (len, result) = write(&mut self.buf[..room]);
        if (HEADER_BYTES + name.len()..=room).contains(&len) {
            self.take_up(len, name.len());
        }
        result
    }

    /// The buffer holds a whole message of `len` octets, whose question, if it has one, has a name of
    /// so many.
    fn take_up(&mut self, len: usize, name_len: usize) {
        self.len = len;
        let counts = self.counts();
        self.section = counts.last_section();
        if counts.question == 1 {
            self.question_len = name_len as u8;
        }
    }

    /// Becomes a copy of a message that a reply held before: it is not walked again.
    ///
    /// # Errors
    /// It does not fit: the reply is empty.
    pub fn load(&mut self, message: &[u8]) -> Result<(), Full> {
        self.clear();
        if message.len() < HEADER_BYTES || message.len() > MESSAGE_BYTES_MAX {
            return Err(Full);
        }
        self.buf.get_mut(..message.len()).ok_or(Full)?.copy_from_slice(message);
        let name = Name::from_wire(&message[HEADER_BYTES..]);
        self.take_up(message.len(), name.map_or(0, |(name, _)| name.len()));
        Ok(())
    }
}
