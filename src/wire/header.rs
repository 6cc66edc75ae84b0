//! The header's flags and counts, and the question as the rest of the program has it.
//!
//! RFC 1035 section 4.1.1, RFC 4035 section 3.2 (AD, CD). Plain data, no cost.

use super::name::Name;
use super::number::{Opcode, Rclass, Rtype};
use super::record::Section;

/// Octets of the header.
pub const HEADER_BYTES: usize = 12;

/// A question: name, type and class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question<'a> {
    /// The name as it was asked, to be echoed.
    pub name: Name<'a>,
    /// The name in lower case, to be looked up.
    pub lower: Name<'a>,
    /// The type.
    pub rtype: Rtype,
    /// The class.
    pub rclass: Rclass,
}

/// The second 16 bits of the header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u16);

macro_rules! flag {
    ($($get:ident $set:ident $bit:literal $doc:literal,)*) => {$(
        #[doc = $doc]
        #[inline]
        pub const fn $get(self) -> bool {
            self.0 & $bit != 0
        }

        #[doc = concat!("With or without this bit: ", $doc)]
        #[inline]
        #[must_use]
        pub const fn $set(self, on: bool) -> Self {
            Self(if on { self.0 | $bit } else { self.0 & !$bit })
        }
    )*};
}

impl Flags {
    flag! {
        qr with_qr 0x8000 "QR: a response.",
        aa with_aa 0x0400 "AA: authoritative answer.",
        tc with_tc 0x0200 "TC: truncated.",
        rd with_rd 0x0100 "RD: recursion desired.",
        ra with_ra 0x0080 "RA: recursion available.",
        z with_z 0x0040 "Z: reserved, zero.",
        ad with_ad 0x0020 "AD: authentic data.",
        cd with_cd 0x0010 "CD: checking disabled.",
    }

    /// The flags of a message, whole or not; zero if it is shorter than four octets.
    #[inline]
    pub fn read(message: &[u8]) -> Self {
        match message {
            [_, _, high, low, ..] => Self(u16::from_be_bytes([*high, *low])),
            _ => Self(0),
        }
    }

    /// The opcode.
    #[inline]
    pub const fn opcode(self) -> Opcode {
        (self.0 >> 11) as u8 & 0xf
    }

    /// With this opcode.
    #[inline]
    #[must_use]
    pub const fn with_opcode(self, opcode: Opcode) -> Self {
        Self(self.0 & !0x7800 | (opcode as u16 & 0xf) << 11)
    }

    /// The low four bits of the rcode.
    #[inline]
    pub const fn rcode_low(self) -> u8 {
        self.0 as u8 & 0xf
    }

    /// With these low four bits of the rcode.
    #[inline]
    #[must_use]
    pub const fn with_rcode(self, low: u8) -> Self {
        Self(self.0 & !0xf | low as u16 & 0xf)
    }
}

/// How many entries each section says it has: not to be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// QDCOUNT.
    pub question: u16,
    /// ANCOUNT.
    pub answer: u16,
    /// NSCOUNT.
    pub authority: u16,
    /// ARCOUNT.
    pub additional: u16,
}

impl Counts {
    /// The counts of a message; zero if it is shorter than a header.
    #[inline]
    pub fn read(message: &[u8]) -> Self {
        match message {
            [_, _, _, _, q, r, a, b, n, o, x, y, ..] => Self {
                question: u16::from_be_bytes([*q, *r]),
                answer: u16::from_be_bytes([*a, *b]),
                authority: u16::from_be_bytes([*n, *o]),
                additional: u16::from_be_bytes([*x, *y]),
            },
            _ => Self::default(),
        }
    }

    /// Records of a section.
    #[inline]
    pub const fn of(self, section: Section) -> u16 {
        match section {
            Section::Answer => self.answer,
            Section::Authority => self.authority,
            Section::Additional => self.additional,
        }
    }

    pub(super) const fn of_mut(&mut self, section: Section) -> &mut u16 {
        match section {
            Section::Answer => &mut self.answer,
            Section::Authority => &mut self.authority,
            Section::Additional => &mut self.additional,
        }
    }

    /// The last section with records; the answer section if none has any.
    pub(super) const fn last_section(self) -> Section {
        match self {
            Counts { additional: 1.., .. } => Section::Additional,
            Counts { authority: 1.., .. } => Section::Authority,
            _ => Section::Answer,
        }
    }

    /// Records of all three sections.
    #[inline]
    pub const fn records(self) -> usize {
        self.answer as usize + self.authority as usize + self.additional as usize
    }
}
