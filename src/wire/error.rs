//! What can be wrong with octets from the network, with text from an operator, and with room.

use std::fmt;

/// Why a message or a part of it is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// It ends within the header, a name, or the fixed part of a record or question.
    Short,
    /// A record's RDATA runs over the end of the message.
    Overrun,
    /// A label type other than ordinary labels and pointers (RFC 6891 section 5).
    Label,
    /// A compression pointer that does not point backwards to a name (RFC 1035 section 4.1.4).
    Pointer,
    /// A name over 255 octets (RFC 1035 section 2.3.4).
    Long,
    /// RDATA that is not of the form that its type prescribes.
    Rdata,
    /// Octets after the last record.
    Trailing,
    /// The message does not fit where it is to be put.
    Full,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Short => "message ends early",
            Self::Overrun => "RDATA runs over the end of the message",
            Self::Label => "bad label type",
            Self::Pointer => "compression pointer does not point backwards to a name",
            Self::Long => "name over 255 octets",
            Self::Rdata => "RDATA does not suit its type",
            Self::Trailing => "octets after the last record",
            Self::Full => "message does not fit",
        })
    }
}

impl std::error::Error for WireError {}

/// Why text is not a domain name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// A label without octets.
    EmptyLabel,
    /// A label over 63 octets.
    LongLabel,
    /// Over 255 octets in wire form.
    Long,
    /// A backslash without a character or three digits up to 255 after it.
    Escape,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EmptyLabel => "empty label",
            Self::LongLabel => "label over 63 octets",
            Self::Long => "name over 255 octets",
            Self::Escape => "bad escape",
        })
    }
}

impl std::error::Error for NameError {}

/// What was to be written does not fit; nothing of it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("reply is full")
    }
}

impl std::error::Error for Full {}

impl From<Full> for WireError {
    fn from(_: Full) -> Self {
        Self::Full
    }
}
