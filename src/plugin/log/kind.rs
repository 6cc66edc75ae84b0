//! What kind of reply it is: CoreDNS's types (`pkg/response`), and the classes of them.
//!
//! One walk of the authority section's records, and only of replies without an answer. Signatures are
//! not looked at: one that has expired does not make an error of a reply.

use super::{Classes, DENIAL, ERROR, SUCCESS};
use crate::plugin::{Level, ReplyState};
use crate::wire::{Section, opcode, rcode, rtype};

/// The kind of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Records, or nothing that says that there are none.
    Answer,
    /// The name does not exist.
    NameError,
    /// SERVFAIL or NOTIMP.
    ServerError,
    /// The name exists, what was asked for does not (RFC 2308 section 2.2).
    NoData,
    Delegation,
    /// To a NOTIFY or to who asks for a transfer.
    Meta,
    Update,
    Other,
}

impl Kind {
    pub(super) fn of(level: &Level) -> Self {
        match (level.asked.flags.opcode(), level.question().rtype) {
            (opcode::UPDATE, _) => return Self::Update,
            (opcode::NOTIFY, _) | (_, rtype::AXFR | rtype::IXFR) => return Self::Meta,
            _ => {}
        }
        let is_written = match level.state {
            ReplyState::Empty | ReplyState::Dropped => return Self::Other,
            ReplyState::Written => true,
            ReplyState::Failed(_) => false,
        };
        let has_answer = is_written && level.reply.counts().answer != 0;
        match (level.rcode(), has_answer) {
            (rcode::NOERROR, true) => Self::Answer,
            (rcode::NXDOMAIN, true) => Self::Other,
            (rcode::NXDOMAIN, false) => Self::NameError,
            (rcode::SERVFAIL | rcode::NOTIMP, _) => Self::ServerError,
            (rcode::NOERROR, false) if is_written => {
                let has = |kind| {
                    let mut records = level.reply.records().flatten();
                    records.any(|one| one.section == Section::Authority && one.rtype == kind)
                };
                match (has(rtype::SOA), has(rtype::NS)) {
                    (true, _) => Self::NoData,
                    (false, true) => Self::Delegation,
                    (false, false) => Self::Answer,
                }
            }
            (rcode::NOERROR, false) => Self::Answer,
            _ => Self::Other,
        }
    }

    /// What `log/type` is.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Answer => "NOERROR",
            Self::NameError => "NXDOMAIN",
            Self::ServerError => "SERVERERROR",
            Self::NoData => "NODATA",
            Self::Delegation => "DELEGATION",
            Self::Meta => "META",
            Self::Update => "UPDATE",
            Self::Other => "OTHERERROR",
        }
    }

    pub(super) fn class(self) -> Classes {
        match self {
            Self::Answer | Self::Delegation => SUCCESS,
            Self::NameError | Self::NoData => DENIAL,
            _ => ERROR,
        }
    }
}
