//! The rules, as they are kept.

use super::names::{Change, Names};
use super::options::OptionRule;
use crate::wire::{Rclass, Rcode, Rtype};

/// One `rewrite` of the Corefile.
pub(super) struct Rule {
    /// Whether no further rule is looked at once this one was applied.
    pub(super) stops: bool,
    pub(super) does: Does,
}

/// What a rule does.
pub(super) enum Does {
    Name(Box<NameRule>),
    Type {
        from: Rtype,
        to: Rtype,
    },
    Class {
        from: Rclass,
        to: Rclass,
    },
    Option(OptionRule),
    /// TTLs of the reply are raised and lowered to these seconds.
    Ttl {
        of: Names,
        least: u32,
        most: u32,
    },
    Rcode {
        of: Names,
        from: Rcode,
        to: Rcode,
    },
    /// The target of the first alias that it is for; it is asked for anew.
    Cname(Box<Change>),
}

/// Another name is asked for.
pub(super) struct NameRule {
    pub(super) change: Change,
    pub(super) back: Back,
    /// Changes of the reply's records, in the order of the Corefile.
    pub(super) answers: Vec<Answer>,
}

/// How the reply's names become the client's again by themselves (`answer auto`).
pub(super) enum Back {
    Not,
    /// What was asked for, and names below it, become what the client asked for.
    Name,
    /// The suffixes are exchanged.
    Suffix(Box<Change>),
}

/// One `answer name` or `answer value`.
pub(super) struct Answer {
    pub(super) part: Part,
    pub(super) change: Change,
}

/// A name in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Owner,
    /// The name that the record leads to.
    Value,
}

impl NameRule {
    /// Whether there is something to be done to replies.
    pub(super) fn edits(&self) -> bool {
        !matches!(self.back, Back::Not) || !self.answers.is_empty()
    }
}
