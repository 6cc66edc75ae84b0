//! Records of a whole message, as views of offsets.
//!
//! A view is good for any octets: of a query, of a reply, from an upstream. Nothing is copied and
//! nothing is trusted from the counts but as an upper bound: a message that ends on the edge of a
//! record has no more records, whatever its header says, since CoreDNS reads it so.
//! [`validate`] walks a message once, whole; [`Records`] only skips from record to record.
//! RFC 1035 section 4.1.3, RFC 3597.

use super::error::WireError;
use super::header::{Counts, HEADER_BYTES};
use super::name::{NameBuf, skip_name, walk_name};
use super::number::{Rclass, Rtype, rtype};
use super::rdata::{Field, check_rdata, field_end, rdata_names};

/// Octets of a record between its owner and its RDATA: type, class, TTL, length.
pub(super) const FIXED_BYTES: usize = 10;

/// A section that holds records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// Answer.
    Answer,
    /// Authority.
    Authority,
    /// Additional.
    Additional,
}

impl Section {
    /// All, as they follow each other.
    pub const ALL: [Section; 3] = [Self::Answer, Self::Authority, Self::Additional];
}

/// One record: where its parts are in its message, in octets from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its owner.
    pub at: usize,
    /// Its section.
    pub section: Section,
    /// Its type.
    pub rtype: Rtype,
    /// Its class.
    pub rclass: Rclass,
    /// Its TTL in seconds.
    pub ttl: u32,
    /// Its TTL field.
    pub ttl_at: usize,
    /// Its RDATA.
    pub rdata_at: usize,
    /// Octets of RDATA.
    pub rdata_len: usize,
}

impl Record {
    /// Reads the record at octet `at`; its owner is skipped, not checked.
    #[inline]
    pub(super) fn read(message: &[u8], at: usize, section: Section) -> Result<Record, WireError> {
        let after = skip_name(message, at)?;
        let fixed = message.get(after..).and_then(<[u8]>::first_chunk::<FIXED_BYTES>);
        let [t1, t2, c1, c2, l1, l2, l3, l4, r1, r2] = *fixed.ok_or(WireError::Short)?;
        let record = Record {
            at,
            section,
            rtype: u16::from_be_bytes([t1, t2]),
            rclass: u16::from_be_bytes([c1, c2]),
            ttl: u32::from_be_bytes([l1, l2, l3, l4]),
            ttl_at: after + 4,
            rdata_at: after + FIXED_BYTES,
            rdata_len: u16::from_be_bytes([r1, r2]) as usize,
        };
        if record.end() > message.len() { Err(WireError::Overrun) } else { Ok(record) }
    }

    /// The owner.
    ///
    /// # Errors
    /// It is not a valid name; not so in a message that [`validate`] accepts.
    #[inline]
    pub fn owner(&self, message: &[u8]) -> Result<NameBuf, WireError> {
        NameBuf::read(message, self.at).map(|(name, _)| name)
    }

    /// The RDATA as it stands in the message: names in it may be compressed.
    #[inline]
    pub fn rdata<'m>(&self, message: &'m [u8]) -> &'m [u8] {
        message.get(self.rdata_at..self.end()).unwrap_or_default()
    }

    /// A name in the RDATA, `skip` octets from its start.
    ///
    /// # Errors
    /// There is no valid name.
    pub fn rdata_name(&self, message: &[u8], skip: usize) -> Result<NameBuf, WireError> {
        let message = message.get(..self.end()).ok_or(WireError::Short)?;
        NameBuf::read(message, self.rdata_at + skip).map(|(name, _)| name)
    }

    /// Appends the RDATA to `out` with the names in it expanded: what is signed, compared and
    /// stored (RFC 3597 section 4). Allocates in `out`.
    ///
    /// # Errors
    /// It is not of the form that its type prescribes; `out` then holds a part of it.
    pub fn expand_rdata(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
        let (mut at, end) = (self.rdata_at, self.end());
        for &field in rdata_names(self.rtype) {
            let after = field_end(message, field, at, end)?;
            if matches!(field, Field::Name | Field::PlainName) {
                out.extend_from_slice(NameBuf::read(message, at)?.0.as_name().as_bytes());
            } else {
                out.extend_from_slice(message.get(at..after).ok_or(WireError::Short)?);
            }
            at = after;
        }
        if at == end { Ok(()) } else { Err(WireError::Rdata) }
    }

    /// Where the record ends.
    #[inline]
    pub const fn end(&self) -> usize {
        self.rdata_at + self.rdata_len
    }

    /// Whether it is not data but about the message: OPT or TSIG.
    pub const fn is_meta(&self) -> bool {
        matches!(self.rtype, rtype::OPT | rtype::TSIG)
    }
}

/// A place between records that holds no reference to the message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    at: usize,
    left: [u16; 3],
    section: usize,
}

impl Cursor {
    /// Before the first record: questions are skipped.
    #[inline]
    pub(super) fn new(message: &[u8]) -> Result<Cursor, WireError> {
        if message.len() < HEADER_BYTES {
            return Err(WireError::Short);
        }
        let counts = Counts::read(message);
        let mut at = HEADER_BYTES;
        for _ in 0..counts.question {
            if at == message.len() {
                break;
            }
            at = skip_name(message, at)? + 4;
            if at > message.len() {
                return Err(WireError::Short);
            }
        }
        let left = [counts.answer, counts.authority, counts.additional];
        Ok(Cursor { at, left, section: 0 })
    }

    /// Before the first record of a message with one question, which ends at `at`.
    #[inline]
    pub(super) fn after_question(at: usize, counts: Counts) -> Cursor {
        Cursor { at, left: [counts.answer, counts.authority, counts.additional], section: 0 }
    }

    /// Where the next record would start.
    pub(super) const fn at(&self) -> usize {
        self.at
    }

    /// The next record; none at the end.
    #[inline]
    pub(super) fn next(&mut self, message: &[u8]) -> Result<Option<Record>, WireError> {
        while self.section < 3 && self.left[self.section] == 0 {
            self.section += 1;
        }
        if self.section == 3 || self.at == message.len() {
            return Ok(None);
        }
        let record = Record::read(message, self.at, Section::ALL[self.section])?;
        self.left[self.section] -= 1;
        self.at = record.end();
        Ok(Some(record))
    }
}

/// The records of a message in order; after an error there are no more.
#[derive(Clone, Copy, Debug)]
pub struct Records<'m> {
    message: &'m [u8],
    cursor: Option<Cursor>,
}

impl<'m> Records<'m> {
    /// No records.
    pub(super) const fn none() -> Self {
        Records { message: &[], cursor: None }
    }

    /// Where the next record starts; 0 when there are no more.
    pub(super) fn at(&self) -> usize {
        self.cursor.map_or(0, |cursor| cursor.at)
    }

    /// The message.
    pub fn message(&self) -> &'m [u8] {
        self.message
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, WireError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let next = self.cursor.as_mut()?.next(self.message).transpose();
        if matches!(next, None | Some(Err(_))) {
            self.cursor = None;
        }
        next
    }
}

/// The records of a message, OPT and TSIG among them.
///
/// # Errors
/// The message ends within the header or a question.
#[inline]
pub fn records(message: &[u8]) -> Result<Records<'_>, WireError> {
    Ok(Records { message, cursor: Some(Cursor::new(message)?) })
}

/// Writes another TTL into a record's message.
#[inline]
pub fn set_ttl(message: &mut [u8], record: &Record, ttl: u32) {
    if let Some(field) = message.get_mut(record.ttl_at..record.ttl_at + 4) {
        field.copy_from_slice(&ttl.to_be_bytes());
    }
}

/// What a message really holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where the last record ends; octets after it are no part of the message.
    pub end: usize,
    /// Entries of each section that are there.
    pub counts: Counts,
    /// OPT and TSIG records of the additional section.
    pub(super) meta: u16,
    /// Whether another record follows one of those.
    pub(super) meta_inside: bool,
    /// Where the last record that is not one of those ends.
    pub(super) meta_at: usize,
}

/// Walks a message once, whole: names, also those in RDATA, and the form of RDATA.
///
/// # Errors
/// Something in it is not valid. Entries that are missing at the end and octets after it are not
/// errors here: what `Extent` says is the message.
pub fn extent(message: &[u8]) -> Result<Extent, WireError> {
    if message.len() < HEADER_BYTES {
        return Err(WireError::Short);
    }
    let claimed = Counts::read(message);
    let mut counts = Counts::default();
    let mut at = HEADER_BYTES;
    while counts.question < claimed.question && at < message.len() {
        at = walk_name(message, at, |_| Ok(()))? + 4;
        if at > message.len() {
            return Err(WireError::Short);
        }
        counts.question += 1;
    }
    let mut extent = Extent { end: at, counts, meta: 0, meta_inside: false, meta_at: at };
    let mut cursor = Cursor::new(message)?;
    while let Some(record) = cursor.next(message)? {
        walk_name(message, record.at, |_| Ok(()))?;
        check_rdata(message, record.rtype, record.rdata_at, record.end())?;
        *extent.counts.of_mut(record.section) += 1;
        extent.end = record.end();
        if record.is_meta() && record.section == Section::Additional {
            extent.meta += 1;
        } else {
            extent.meta_inside |= extent.meta > 0;
            extent.meta_at = record.end();
        }
    }
    Ok(extent)
}

/// Whether a message is valid and exactly as long and as full as it says.
///
/// # Errors
/// It is not.
pub fn validate(message: &[u8]) -> Result<(), WireError> {
    let extent = extent(message)?;
    if extent.end < message.len() {
        return Err(WireError::Trailing);
    }
    if extent.counts != Counts::read(message) { Err(WireError::Short) } else { Ok(()) }
}
