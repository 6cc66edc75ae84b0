//! What the rules that were applied to a query leave to be done to its reply.
//!
//! A note a rule, in the order in which they were applied; the reply is edited in the opposite order.
//! While the plugins below have the query they are kept in the walk's memory, octet for octet.

use crate::limits::WALK_MEMORY_BYTES_MAX;
use crate::wire::Name;

/// One note.
#[derive(Clone, Copy)]
pub(super) enum Note<'n> {
    /// What the rule itself says is done.
    Rule,
    /// The first name becomes the second again.
    Back(Name<'n>, Name<'n>),
    /// Options of this code are taken out.
    Remove(u16),
    /// An option of this code gets the data that it had.
    Replace(u16, &'n [u8]),
}

/// Octets of a note behind what is particular to it: its kind, the rule's number, the length of that.
const TAIL_BYTES: usize = 5;

/// The notes on one query.
pub(super) struct Notes {
    octets: Vec<u8>,
    /// Whether one had no room.
    full: bool,
}

impl Notes {
    pub(super) fn new() -> Self {
        Self { octets: Vec::with_capacity(WALK_MEMORY_BYTES_MAX), full: false }
    }

    pub(super) fn clear(&mut self) {
        self.octets.clear();
        self.full = false;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// Whether one had no room: the query has to fail.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.octets
    }

    /// Becomes the notes that `octets` were.
    pub(super) fn load(&mut self, octets: &[u8]) {
        self.clear();
        self.octets.extend_from_slice(octets);
    }

    pub(super) fn push(&mut self, rule: usize, note: Note<'_>) {
        let code;
        let (kind, [one, other]): (u8, [&[u8]; 2]) = match note {
            Note::Rule => (0, [&[], &[]]),
            Note::Back(from, to) => (1, [from.as_bytes(), to.as_bytes()]),
            Note::Remove(option) => {
                code = option.to_be_bytes();
                (2, [&code, &[]])
            }
            Note::Replace(option, data) => {
                code = option.to_be_bytes();
                (3, [&code, data])
            }
        };
        let len = one.len() + other.len();
        if self.octets.len() + len + TAIL_BYTES > WALK_MEMORY_BYTES_MAX {
            self.full = true;
            return;
        }
        self.octets.extend_from_slice(one);
        self.octets.extend_from_slice(other);
        self.octets.extend_from_slice(&(len as u16).to_be_bytes());
        self.octets.extend_from_slice(&(rule as u16).to_be_bytes());
        self.octets.push(kind);
    }

    /// The notes from the last to the first, each with the number of its rule.
    pub(super) fn backwards(&self) -> Backwards<'_> {
        Backwards(&self.octets)
    }
}

/// Notes from the last to the first.
pub(super) struct Backwards<'n>(&'n [u8]);

impl<'n> Iterator for Backwards<'n> {
    type Item = (usize, Note<'n>);

    fn next(&mut self) -> Option<Self::Item> {
        let (rest, &[l1, l2, r1, r2, kind]) = self.0.split_last_chunk::<TAIL_BYTES>()?;
        let len = u16::from_be_bytes([l1, l2]) as usize;
        let (rest, data) = rest.split_at_checked(rest.len().checked_sub(len)?)?;
        self.0 = rest;
        let option =
            || data.split_first_chunk().map(|(code, data)| (u16::from_be_bytes(*code), data));
        let note = match kind {
            0 => Note::Rule,
            1 => {
                let (from, to) = Name::from_wire(data).ok()?;
                Note::Back(from, Name::from_wire(to).ok()?.0)
            }
            2 => Note::Remove(option()?.0),
            _ => {
                let (code, data) = option()?;
                Note::Replace(code, data)
            }
        };
        Some((u16::from_be_bytes([r1, r2]) as usize, note))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::NameBuf;

    #[test]
    fn what_was_noted_last_comes_first() {
        let (a, b) = (NameBuf::parse("a.").expect("a name"), NameBuf::parse("b.c.").expect("one"));
        let mut notes = Notes::new();
        notes.push(7, Note::Rule);
        notes.push(300, Note::Back(a.as_name(), b.as_name()));
        notes.push(1, Note::Remove(0xffee));
        notes.push(2, Note::Replace(8, b"xyz"));
        let mut loaded = Notes::new();
        loaded.load(notes.as_bytes());
        let mut all = loaded.backwards();
        assert!(matches!(all.next(), Some((2, Note::Replace(8, b"xyz")))));
        assert!(matches!(all.next(), Some((1, Note::Remove(0xffee)))));
        let Some((300, Note::Back(from, to))) = all.next() else { panic!("names") };
        assert_eq!((from.to_string(), to.to_string()), ("a.".into(), "b.c.".into()));
        assert!(matches!(all.next(), Some((7, Note::Rule))));
        assert!(all.next().is_none());
    }

    #[test]
    fn what_has_no_room_is_known() {
        let mut notes = Notes::new();
        let data = [0; WALK_MEMORY_BYTES_MAX];
        notes.push(0, Note::Replace(1, &data[..WALK_MEMORY_BYTES_MAX - TAIL_BYTES - 2]));
        assert!(!notes.is_full());
        notes.push(1, Note::Rule);
        assert!(notes.is_full());
        assert_eq!(notes.backwards().count(), 1);
    }
}
