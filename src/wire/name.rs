//! Domain names in wire form.
//!
//! [`Name`] borrows a valid uncompressed name, [`NameBuf`] holds one in 256 octets on the stack.
//! Names compare without regard to the case of ASCII letters (RFC 4343) and keep the case that
//! they were given. Whoever holds a `Name` knows: labels of 1 to 63 octets, at most 255 octets,
//! the root label last (RFC 1035 sections 2.3.4 and 3.1). Label lengths are below `A`, so folding
//! a whole name octet by octet folds its labels and leaves their lengths alone.
//!
//! Nothing here allocates; a comparison costs one pass over the shorter name's octets.

use std::cmp::Ordering;
use std::fmt::{self, Write as _};
use std::hash::{Hash, Hasher};

use super::error::{NameError, WireError};
use super::header::HEADER_BYTES;
use crate::limits::{LABEL_BYTES_MAX, NAME_BYTES_MAX, NAME_LABELS_MAX};

/// One valid uncompressed name, the root label included.
#[derive(Clone, Copy)]
pub struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    /// The root.
    pub const ROOT: Name<'static> = Name(&[0]);

    /// Reads the uncompressed name that `bytes` start with; gives it and what follows.
    ///
    /// # Errors
    /// The name runs over the end, is too long, or has a label that is not an ordinary one:
    /// compression pointers too are refused (RFC 1035 section 4.1.4, RFC 6891 section 5).
    #[inline]
    pub fn from_wire(bytes: &'a [u8]) -> Result<(Name<'a>, &'a [u8]), WireError> {
        let mut at = 0;
        loop {
            let Some(&label) = bytes.get(at) else { return Err(WireError::Short) };
            at += label as usize + 1;
            if label == 0 {
                break;
            }
            if label as usize > LABEL_BYTES_MAX {
                return Err(WireError::Label);
            }
            if at >= NAME_BYTES_MAX {
                return Err(WireError::Long);
            }
        }
        let (name, rest) = bytes.split_at(at);
        Ok((Name(name), rest))
    }

    /// Octets that are known to be one whole valid name: only what `wire` itself has checked.
    #[inline]
    pub(super) fn trusted(bytes: &'a [u8]) -> Name<'a> {
        debug_assert!(Name::from_wire(bytes).is_ok_and(|(_, rest)| rest.is_empty()));
        Name(bytes)
    }

    /// The name in wire form.
    #[inline]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Octets in wire form: 1 to 255.
    #[allow(clippy::len_without_is_empty)] // a name is never empty: the root has one octet
    #[inline]
    pub const fn len(self) -> usize {
        self.0.len()
    }

    /// Whether this is the root.
    #[inline]
    pub const fn is_root(self) -> bool {
        self.0.len() <= 1
    }

    /// The labels from left to right, without the root's.
    #[inline]
    pub const fn labels(self) -> Labels<'a> {
        Labels(self.0)
    }

    /// How many labels it has, the root's left out.
    pub fn label_count(self) -> usize {
        self.labels().count()
    }

    /// The name without its leftmost label; none of the root.
    #[inline]
    pub fn parent(self) -> Option<Name<'a>> {
        let label = *self.0.first()? as usize;
        if label == 0 { None } else { Some(Name(self.0.get(label + 1..)?)) }
    }

    /// The last `labels` labels; the whole name if it has no more.
    pub fn suffix(self, labels: usize) -> Name<'a> {
        let mut name = self;
        for _ in labels..self.label_count() {
            name = name.parent().unwrap_or(Name::ROOT);
        }
        name
    }

    /// Whether this is `zone` or a name below it.
    #[inline]
    pub fn is_under(self, zone: Name<'_>) -> bool {
        self.strip(zone).is_some()
    }

    /// The labels that stand left of `zone`, in wire form without a root label; none if the name
    /// is not under `zone`.
    #[inline]
    pub fn strip(self, zone: Name<'_>) -> Option<&'a [u8]> {
        let left = self.0.len().checked_sub(zone.0.len())?;
        let (prefix, tail) = self.0.split_at(left);
        // The last test is rarely reached by a name that fails it.
        (tail.eq_ignore_ascii_case(zone.0) && self.has_boundary(left)).then_some(prefix)
    }

    /// As [`is_under`](Self::is_under), where both names are in lower case.
    #[inline]
    pub(super) fn ends_with(self, zone: Name<'_>) -> bool {
        let Some(left) = self.0.len().checked_sub(zone.0.len()) else { return false };
        same_octets(&self.0[left..], zone.0) && self.has_boundary(left)
    }

    /// Whether a label (or the root's) starts at octet `at`.
    #[inline]
    pub(super) fn has_boundary(self, at: usize) -> bool {
        let mut start = 0;
        while start < at {
            start += self.0[start] as usize + 1;
        }
        start == at
    }

    /// Whether both are the same name (RFC 4343 section 3.1).
    #[inline]
    pub fn eq_fold(self, other: Name<'_>) -> bool {
        self.0.eq_ignore_ascii_case(other.0)
    }

    /// The canonical order: label by label from the right, each as lower-cased octets
    /// (RFC 4034 section 6.1).
    pub fn cmp_canonical(self, other: Name<'_>) -> Ordering {
        let (mine, my_count) = self.starts();
        let (theirs, their_count) = other.starts();
        for step in 1..=my_count.min(their_count) {
            let a = label_at(self.0, mine[my_count - step]);
            let b = label_at(other.0, theirs[their_count - step]);
            let order =
                a.iter().map(u8::to_ascii_lowercase).cmp(b.iter().map(u8::to_ascii_lowercase));
            if order != Ordering::Equal {
                return order;
            }
        }
        my_count.cmp(&their_count)
    }

    /// Where each label starts, the root's left out, and how many there are.
    #[inline]
    pub(super) fn starts(self) -> ([u8; NAME_LABELS_MAX + 1], usize) {
        let mut starts = [0; NAME_LABELS_MAX + 1];
        let (mut at, mut count) = (0, 0);
        while self.0[at] != 0 && count < NAME_LABELS_MAX {
            starts[count] = at as u8;
            count += 1;
            at += self.0[at] as usize + 1;
        }
        (starts, count)
    }

    /// Whether the leftmost label is an asterisk (RFC 4592 section 2.1.1).
    pub fn is_wildcard(self) -> bool {
        self.0.starts_with(b"\x01*")
    }
}

fn label_at(name: &[u8], start: u8) -> &[u8] {
    let start = start as usize;
    &name[start + 1..start + 1 + name[start] as usize]
}

impl PartialEq for Name<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.eq_fold(*other)
    }
}

impl Eq for Name<'_> {}

impl Hash for Name<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut lower = [0; NAME_BYTES_MAX];
        let lower = &mut lower[..self.0.len()];
        lower.copy_from_slice(self.0);
        lower.make_ascii_lowercase();
        state.write(lower);
    }
}

/// Presentation form with the final dot, escaped as miekg/dns escapes: a backslash before
/// `. ' @ ; ( ) " \` and the space, `\DDD` for what is not printable ASCII.
impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_char('.');
        }
        for label in self.labels() {
            for &octet in label {
                match octet {
                    b'.' | b' ' | b'\'' | b'@' | b';' | b'(' | b')' | b'"' | b'\\' => {
                        f.write_char('\\')?;
                        f.write_char(octet as char)?;
                    }
                    0x21..=0x7e => f.write_char(octet as char)?,
                    _ => write!(f, "\\{octet:03}")?,
                }
            }
            f.write_char('.')?;
        }
        Ok(())
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The labels of a name from left to right.
#[derive(Clone, Copy, Debug)]
pub struct Labels<'a>(&'a [u8]);

impl<'a> Iterator for Labels<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let (&len, rest) = self.0.split_first()?;
        if len == 0 {
            return None;
        }
        let (label, rest) = rest.split_at_checked(len as usize)?;
        self.0 = rest;
        Some(label)
    }
}

/// Whether both are the same octets. Inline, since what is compared is short: a call of the
/// library's comparison costs more than the comparison.
#[inline]
pub fn same_octets(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let (Some(last), Some(other_last)) = (one.last_chunk::<8>(), other.last_chunk::<8>()) else {
        return one.iter().zip(other).all(|(one, other)| one == other);
    };
    let (chunks, other_chunks) = (one.as_chunks::<8>().0, other.as_chunks::<8>().0);
    chunks.iter().zip(other_chunks).all(|(one, other)| one == other) && last == other_last
}

/// The labels of what [`Name::strip`] gives.
pub fn labels_of(prefix: &[u8]) -> Labels<'_> {
    Labels(prefix)
}

/// A name that owns its octets.
#[derive(Clone, Copy)]
pub struct NameBuf {
    /// Octets in use: 1 to 255.
    len: u8,
    bytes: [u8; NAME_BYTES_MAX],
}

const _: () = assert!(NAME_BYTES_MAX <= u8::MAX as usize);

/// Names of up to so many octets are copied and folded as if they had so many.
const SHORT_BYTES: usize = 64;

impl NameBuf {
    /// The root.
    pub const fn root() -> Self {
        Self { len: 1, bytes: [0; NAME_BYTES_MAX] }
    }

    /// Reads presentation form; the final dot may be left out (RFC 1035 section 5.1).
    ///
    /// # Errors
    /// An empty label, one over 63 octets, a name over 255 octets, or a bad escape.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text == "." {
            return Ok(Self::root());
        }
        let mut name = Self::root();
        let (mut start, mut at) = (0, 1);
        let mut rest = text.as_bytes();
        while let Some((&octet, tail)) = rest.split_first() {
            rest = tail;
            if octet == b'.' {
                name.close_label(start, at)?;
                start = at;
                at += 1;
                continue;
            }
            let octet = if octet == b'\\' { unescape(&mut rest)? } else { octet };
            *name.bytes.get_mut(at).ok_or(NameError::Long)? = octet;
            at += 1;
        }
        if start + 1 != at || start == 0 {
            name.close_label(start, at)?;
            start = at;
        }
        *name.bytes.get_mut(start).ok_or(NameError::Long)? = 0;
        name.len = (start + 1) as u8;
        Ok(name)
    }

    /// Writes the length of the label whose length octet is `start` and that ends before `end`.
    fn close_label(&mut self, start: usize, end: usize) -> Result<(), NameError> {
        let len = end - start - 1;
        if len == 0 {
            return Err(NameError::EmptyLabel);
        }
        if len > LABEL_BYTES_MAX {
            return Err(NameError::LongLabel);
        }
        *self.bytes.get_mut(start).ok_or(NameError::Long)? = len as u8;
        Ok(())
    }

    /// Reads the name at octet `at` of a message, compressed or not; gives it and where the name
    /// ends in the message.
    ///
    /// A pointer must point before the part of the name that it ends ("a prior occurrence",
    /// RFC 1035 section 4.1.4) to a name that ends before it too, and not into the header: each hop
    /// goes strictly backwards, so no loop is followed.
    ///
    /// # Errors
    /// The name runs over the end, is too long, or has a bad label or pointer.
    #[inline]
    pub fn read(message: &[u8], at: usize) -> Result<(NameBuf, usize), WireError> {
        let mut name = NameBuf::root();
        let end = name.fill(message, at)?;
        Ok((name, end))
    }

    /// Becomes the name at octet `at` of a message, and gives where it ends there. After an error
    /// it is the root.
    #[inline]
    pub(super) fn fill(&mut self, message: &[u8], at: usize) -> Result<usize, WireError> {
        let mut used = 0;
        self.len = 1;
        let bytes = &mut self.bytes;
        bytes[0] = 0;
        let end = walk_name(message, at, |label| {
            let after = used + label.len();
            // One octet must be left for the root label.
            let space = bytes[..NAME_BYTES_MAX - 1].get_mut(used..after);
            space.ok_or(WireError::Long)?.copy_from_slice(label);
            used = after;
            Ok(())
        });
        match end {
            Ok(end) => {
                bytes[used] = 0;
                self.len = (used + 1) as u8;
                Ok(end)
            }
            Err(error) => {
                bytes[0] = 0;
                Err(error)
            }
        }
    }

    /// The name.
    #[inline]
    pub fn as_name(&self) -> Name<'_> {
        Name(&self.bytes[..self.len as usize])
    }

    /// Becomes a copy of `other`.
    #[inline]
    pub fn copy(&mut self, other: &NameBuf) {
        // Nearly all names are short: a copy of fixed length is a few moves, not a call.
        match other.len as usize {
            ..=SHORT_BYTES => {
                self.bytes[..SHORT_BYTES].copy_from_slice(&other.bytes[..SHORT_BYTES]);
            }
            len => self.bytes[..len].copy_from_slice(&other.bytes[..len]),
        }
        self.len = other.len;
    }

    /// Becomes `name`.
    #[inline]
    pub fn set(&mut self, name: Name<'_>) {
        self.len = name.0.len() as u8;
        self.bytes[..name.0.len()].copy_from_slice(name.0);
    }

    /// Lower-cases ASCII letters.
    #[inline]
    pub fn make_lower(&mut self) {
        // What stands behind the name means nothing: a fixed length leaves no loop.
        match self.len as usize {
            ..=SHORT_BYTES => self.bytes[..SHORT_BYTES].make_ascii_lowercase(),
            len => self.bytes[..len].make_ascii_lowercase(),
        }
    }

    /// The name in lower case.
    #[inline]
    pub fn lowered(name: Name<'_>) -> NameBuf {
        let mut lower = NameBuf::from(name);
        lower.make_lower();
        lower
    }

    /// The name with one more label on its left.
    ///
    /// # Errors
    /// The label is empty or over 63 octets, or the name would be over 255.
    pub fn prepend(&self, label: &[u8]) -> Result<NameBuf, NameError> {
        if label.is_empty() {
            return Err(NameError::EmptyLabel);
        }
        if label.len() > LABEL_BYTES_MAX {
            return Err(NameError::LongLabel);
        }
        let mut prefix = [0; LABEL_BYTES_MAX + 1];
        prefix[0] = label.len() as u8;
        prefix[1..=label.len()].copy_from_slice(label);
        Self::join(&prefix[..=label.len()], self.as_name())
    }

    /// Labels in wire form without a root label (as [`Name::strip`] gives them), then `suffix`.
    ///
    /// # Errors
    /// The prefix is not a whole number of labels, or the name would be over 255 octets.
    pub fn join(prefix: &[u8], suffix: Name<'_>) -> Result<NameBuf, NameError> {
        let len = prefix.len() + suffix.len();
        if len > NAME_BYTES_MAX {
            return Err(NameError::Long);
        }
        let mut at = 0;
        while let Some(&label) = prefix.get(at) {
            match label as usize {
                0 => return Err(NameError::EmptyLabel),
                label if label > LABEL_BYTES_MAX => return Err(NameError::LongLabel),
                label => at += label + 1,
            }
        }
        if at != prefix.len() {
            return Err(NameError::LongLabel);
        }
        let mut name = NameBuf::root();
        name.bytes[..at].copy_from_slice(prefix);
        name.bytes[at..len].copy_from_slice(suffix.as_bytes());
        name.len = len as u8;
        Ok(name)
    }
}

impl From<Name<'_>> for NameBuf {
    #[inline]
    fn from(name: Name<'_>) -> Self {
        let mut buf = Self::root();
        buf.set(name);
        buf
    }
}

impl std::str::FromStr for NameBuf {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl Default for NameBuf {
    fn default() -> Self {
        Self::root()
    }
}

impl PartialEq for NameBuf {
    fn eq(&self, other: &Self) -> bool {
        self.as_name() == other.as_name()
    }
}

impl Eq for NameBuf {}

impl Hash for NameBuf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_name().hash(state);
    }
}

impl fmt::Display for NameBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.as_name(), f)
    }
}

impl fmt::Debug for NameBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.as_name(), f)
    }
}

/// The octet that an escape stands for; `rest` begins after the backslash.
fn unescape(rest: &mut &[u8]) -> Result<u8, NameError> {
    let (&first, tail) = rest.split_first().ok_or(NameError::Escape)?;
    if !first.is_ascii_digit() {
        *rest = tail;
        return Ok(first);
    }
    let (digits, tail) = rest.split_at_checked(3).ok_or(NameError::Escape)?;
    let mut value = 0u16;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return Err(NameError::Escape);
        }
        value = value * 10 + u16::from(digit - b'0');
    }
    *rest = tail;
    u8::try_from(value).map_err(|_| NameError::Escape)
}

/// Gives each label of the name at `at`, its length octet included, to `each`, pointers followed;
/// gives where the name ends in the message.
#[inline]
pub(super) fn walk_name<'m>(
    message: &'m [u8],
    at: usize,
    mut each: impl FnMut(&'m [u8]) -> Result<(), WireError>,
) -> Result<usize, WireError> {
    let (mut message, mut at, mut end) = (message, at, None);
    // Where the stretch of labels being read starts: what a pointer at its end points to is a name
    // that stands before it, whole.
    let mut stretch = at;
    let mut octets = 1;
    loop {
        let cut = || if end.is_none() { WireError::Short } else { WireError::Pointer };
        let len = *message.get(at).ok_or_else(cut)?;
        match len {
            0 => return Ok(end.unwrap_or(at + 1)),
            1..=63 => {
                let after = at + 1 + len as usize;
                let label = message.get(at..after).ok_or_else(cut)?;
                octets += label.len();
                if octets > NAME_BYTES_MAX {
                    return Err(WireError::Long);
                }
                each(label)?;
                at = after;
            }
            0xc0.. => {
                let low = *message.get(at + 1).ok_or_else(cut)?;
                let target = usize::from(len & 0x3f) << 8 | usize::from(low);
                // No name stands in the header, whose octets change when a message is edited.
                if target >= stretch || target < HEADER_BYTES {
                    return Err(WireError::Pointer);
                }
                end = end.or(Some(at + 2));
                message = &message[..stretch];
                (at, stretch) = (target, target);
            }
            _ => return Err(WireError::Label),
        }
    }
}

/// Where the name at `at`, compressed or not, ends; pointers are not followed.
///
/// # Errors
/// The name runs over the end of the message or has a bad label.
#[inline]
pub fn skip_name(message: &[u8], at: usize) -> Result<usize, WireError> {
    let mut at = at;
    loop {
        match *message.get(at).ok_or(WireError::Short)? {
            0 => return Ok(at + 1),
            len @ 1..=63 => at += len as usize + 1,
            0xc0.. if at + 1 < message.len() => return Ok(at + 2),
            0xc0.. => return Err(WireError::Short),
            _ => return Err(WireError::Label),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> NameBuf {
        NameBuf::parse(text).expect(text)
    }

    #[test]
    fn presentation_form_goes_both_ways() {
        for text in [
            ".",
            "org.",
            "a\\.b.example.org.",
            "\\000\\255x.example.org.",
            "\\ \\'\\@\\;\\(\\)\\\"\\\\.a.",
            "*.Example.ORG.",
            "_dns._udp.a-b.c.",
        ] {
            assert_eq!(name(text).to_string(), text);
        }
        assert_eq!(name("a.b").to_string(), "a.b.");
        assert_eq!(name("\\097.\\b").to_string(), "a.b.");
    }

    #[test]
    fn bad_text_is_refused() {
        let long_label = "a".repeat(64);
        let long_name = "a.".repeat(128);
        for (text, why) in [
            ("", NameError::EmptyLabel),
            ("..", NameError::EmptyLabel),
            (".a", NameError::EmptyLabel),
            ("a..b", NameError::EmptyLabel),
            ("a\\", NameError::Escape),
            ("a\\25", NameError::Escape),
            ("\\256", NameError::Escape),
            ("\\2x5", NameError::Escape),
            (&long_label, NameError::LongLabel),
            (&long_name, NameError::Long),
        ] {
            assert_eq!(NameBuf::parse(text), Err(why), "{text:?}");
        }
        assert_eq!(name(&"a.".repeat(127)).as_name().len(), 255);
        assert_eq!(name(&"a".repeat(63)).as_name().len(), 65);
    }

    #[test]
    fn wire_form_has_its_bounds() {
        let mut wire = [1, b'a'].repeat(127);
        wire.push(0);
        assert_eq!(Name::from_wire(&wire).map(|(name, _)| name.label_count()), Ok(127));
        let mut long = [1, b'a'].repeat(128);
        long.push(0);
        assert_eq!(Name::from_wire(&long), Err(WireError::Long));
        assert_eq!(NameBuf::read(&long, 0).err(), Some(WireError::Long));
        assert_eq!(Name::from_wire(b"\x01a"), Err(WireError::Short));
        assert_eq!(Name::from_wire(b"\x05ab\0"), Err(WireError::Short));
        assert_eq!(Name::from_wire(b"\x40ab\0"), Err(WireError::Label));
        assert_eq!(Name::from_wire(b"\x01a\xc0\x00"), Err(WireError::Label));
        let (name, rest) = Name::from_wire(b"\x01a\0rest").expect("a name");
        assert_eq!((name.to_string().as_str(), rest), ("a.", &b"rest"[..]));
    }

    #[test]
    fn pointers_go_backwards() {
        let read = |names: &[u8], at: usize| {
            NameBuf::read(&[&[0; HEADER_BYTES], names].concat(), HEADER_BYTES + at)
                .map(|(name, end)| (name.to_string(), end - HEADER_BYTES))
        };
        //             12       15        20        24
        let names = b"\x01b\0\x03org\0\x01a\xc0\x0f\xc0\x14";
        assert_eq!(read(names, 8), Ok(("a.org.".into(), 12)));
        assert_eq!(read(names, 12), Ok(("a.org.".into(), 14)));
        assert_eq!(skip_name(names, 8), Ok(12));
        let refused = Err(WireError::Pointer);
        assert_eq!(read(b"\xc0\x0c", 0), refused);
        assert_eq!(read(b"\x01a\xc0\x0c", 0), refused);
        assert_eq!(read(b"\x01a\xc0\x11\x01b\0", 0), refused);
        assert_eq!(read(b"\xc0", 0), Err(WireError::Short));
        // Two names that point into each other: the second hop would go forwards.
        assert_eq!(read(b"\x01a\xc0\x10\x01b\xc0\x0c", 4), refused);
        // Back, and from there on into its own octets.
        assert_eq!(read(b"\x02\x03a\x01b\xc0\x0d\0", 3), refused);
        // Into the header, where a root label seems to stand.
        assert_eq!(read(b"\x01a\xc0\x0b", 0), refused);
    }

    #[test]
    fn suffixes_end_on_labels() {
        let (long, zone) = (name("a.b.Example.Org"), name("eXample.org"));
        let (long, zone) = (long.as_name(), zone.as_name());
        assert!(long.is_under(zone) && zone.is_under(zone) && zone.is_under(Name::ROOT));
        assert!(!zone.is_under(long));
        assert_eq!(long.strip(zone), Some(&b"\x01a\x01b"[..]));
        assert_eq!(long.suffix(2), zone);
        assert_eq!(long.suffix(9).len(), long.len());
        assert_eq!(long.parent().map(Name::label_count), Some(3));
        assert_eq!(Name::ROOT.parent(), None);
        // `\007example` inside a label is not a label.
        let tricky = name("ab\\007example.org");
        assert!(!tricky.as_name().is_under(zone));
    }

    #[test]
    fn canonical_order_is_that_of_rfc_4034() {
        let sorted = [
            "example.",
            "a.example.",
            "yljkjljk.a.example.",
            "Z.a.example.",
            "zABC.a.EXAMPLE.",
            "z.example.",
            "\\001.z.example.",
            "*.z.example.",
            "\\200.z.example.",
        ];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                assert_eq!(name(a).as_name().cmp_canonical(name(b).as_name()), i.cmp(&j));
            }
        }
    }

    #[test]
    fn names_are_put_together() {
        let zone = name("example.org");
        assert_eq!(zone.prepend(b"www"), Ok(name("www.example.org")));
        assert_eq!(zone.prepend(b""), Err(NameError::EmptyLabel));
        assert_eq!(zone.prepend(&[b'a'; 64]), Err(NameError::LongLabel));
        assert_eq!(NameBuf::join(b"\x01a\x01b", zone.as_name()), Ok(name("a.b.example.org")));
        assert_eq!(NameBuf::join(b"\x02a", zone.as_name()), Err(NameError::LongLabel));
        assert_eq!(NameBuf::join(b"\0", zone.as_name()), Err(NameError::EmptyLabel));
        let long = name(&"a.".repeat(126));
        assert_eq!(long.prepend(b"bb"), Err(NameError::Long));
        assert!(long.prepend(b"b").is_ok());
    }
}
