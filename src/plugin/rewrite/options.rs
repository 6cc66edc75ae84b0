//! Rules about EDNS options: what they put into the query for those below.
//!
//! The options of a query are a run of octets in wire form (RFC 6891 section 6.1.2), which is changed
//! in place. Options are told apart by their codes. A rule that looks at the options of a query without
//! OPT gives it one, of 4096 octets, as CoreDNS does.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::ops::Range;

use super::notes::{Note, Notes};
use crate::data::chain::Cx;
use crate::gotemplate::TextBuf;
use crate::limits::{LANE_BYTES, NAME_TEXT_BYTES_MAX};
use crate::snapshot::MetaRef;
use crate::wire::{Name, edns, options};

/// Octets of the UDP payload that is offered where the client offered none.
pub(super) const UDP_SIZE: u16 = 4096;

/// What is done with an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// The first of the code gets the data; where there is none, one is added.
    Set,
    /// One is added.
    Append,
    /// The first of the code gets the data.
    Replace,
    /// All of the code are taken out.
    Unset,
}

/// What stands in an option.
pub(super) enum Data {
    /// Octets of the Corefile.
    Octets(Box<[u8]>),
    /// The name that is asked, as text.
    Name,
    /// Its type.
    Type,
    ClientAddress,
    ClientPort,
    Protocol,
    ServerAddress,
    ServerPort,
    /// The value of the link's metadata label of this number.
    Label(usize),
    /// So many bits of the client's IPv4 or IPv6 address (RFC 7871 section 6).
    Subnet(u8, u8),
}

/// A rule about an option.
pub(super) struct OptionRule {
    pub(super) action: Action,
    pub(super) code: u16,
    pub(super) data: Data,
    /// Whether the client does not get to see it.
    pub(super) revert: bool,
}

impl OptionRule {
    /// Whether it names an option of its own, by a code.
    pub(super) fn is_local(&self) -> bool {
        !matches!(self.code, edns::NSID | edns::SUBNET)
    }
}

/// Room for an option's data.
pub(super) struct Room([u8; NAME_TEXT_BYTES_MAX]);

impl Room {
    pub(super) const fn new() -> Self {
        Self([0; NAME_TEXT_BYTES_MAX])
    }
}

/// What options are made of besides the query.
pub(super) struct Source<'q> {
    pub(super) cx: &'q Cx<'q>,
    /// The question as the rules before have left it.
    pub(super) name: Name<'q>,
    pub(super) rtype: u16,
    pub(super) labels: &'q [MetaRef],
}

impl Data {
    /// The octets; none where a label has no value.
    fn make<'d>(&'d self, of: &Source<'_>, room: &'d mut Room) -> Option<&'d [u8]> {
        let client = of.cx.client();
        let mut out = TextBuf::new(&mut room.0);
        let written = match self {
            Self::Octets(octets) => return Some(octets),
            Self::Name => write!(out, "{}", of.name).is_ok(),
            Self::Type => out.push(&of.rtype.to_be_bytes()).is_ok(),
            Self::ClientAddress => push_address(&mut out, client.ip(), 128),
            Self::ServerAddress => push_address(&mut out, client.local.ip().to_canonical(), 128),
            Self::ClientPort => out.push(&client.peer.port().to_be_bytes()).is_ok(),
            Self::ServerPort => out.push(&client.local.port().to_be_bytes()).is_ok(),
            Self::Protocol => out.push(client.transport.as_str().as_bytes()).is_ok(),
            Self::Label(label) => {
                let label = of.labels.get(*label)?;
                of.cx.meta(*label, &mut out);
                !out.is_empty()
            }
            Self::Subnet(v4, v6) => {
                let (family, bits) = if client.ip().is_ipv4() { (1, *v4) } else { (2, *v6) };
                out.push(&[0, family, bits, 0]).is_ok() && push_address(&mut out, client.ip(), bits)
            }
        };
        let len = out.len();
        written.then(|| &room.0[..len])
    }
}

/// Writes the first `bits` of an address, in as many octets as they need.
fn push_address(out: &mut TextBuf<'_>, address: IpAddr, bits: u8) -> bool {
    let (v4, v6);
    let octets: &[u8] = match address {
        IpAddr::V4(address) => {
            v4 = (address.to_bits()
                & u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0))
            .to_be_bytes();
            &v4
        }
        IpAddr::V6(address) => {
            v6 = (address.to_bits() & u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0))
                .to_be_bytes();
            &v6
        }
    };
    out.push(&octets[..octets.len().min(usize::from(bits.div_ceil(8)))]).is_ok()
}

/// The options of a query while rules change them.
pub(super) struct Work {
    octets: Vec<u8>,
    /// Whether a rule has looked at them.
    pub(super) touched: bool,
    /// Whether there was no room for them.
    full: bool,
}

impl Work {
    pub(super) fn new() -> Self {
        Self { octets: Vec::with_capacity(LANE_BYTES), touched: false, full: false }
    }

    pub(super) fn clear(&mut self) {
        self.octets.clear();
        self.touched = false;
        self.full = false;
    }

    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.octets
    }

    /// Takes the query's options, if that has not been done.
    pub(super) fn load(&mut self, cx: &Cx<'_>) {
        if self.touched {
            return;
        }
        self.touched = true;
        for (code, data) in cx.options() {
            self.push(code, data);
        }
    }

    fn push(&mut self, code: u16, data: &[u8]) {
        if self.octets.len() + 4 + data.len() > LANE_BYTES {
            self.full = true;
            return;
        }
        self.octets.extend_from_slice(&code.to_be_bytes());
        self.octets.extend_from_slice(&(data.len() as u16).to_be_bytes());
        self.octets.extend_from_slice(data);
    }

    /// Where the first option of this code stands, its code and length included.
    fn find(&self, code: u16) -> Option<Range<usize>> {
        let mut at = 0;
        options(&self.octets).find_map(|(other, data)| {
            let start = at;
            at += 4 + data.len();
            (other == code).then_some(start..at)
        })
    }

    fn remove(&mut self, code: u16) -> bool {
        let before = self.octets.len();
        while let Some(range) = self.find(code) {
            self.octets.drain(range);
        }
        self.octets.len() != before
    }

    /// Gives the option that stands at `range` other data, where it stands.
    fn replace(&mut self, range: Range<usize>, data: &[u8]) {
        let start = range.start;
        let was = range.len() - 4;
        if self.octets.len() - was + data.len() > LANE_BYTES {
            self.full = true;
            return;
        }
        let len = (data.len() as u16).to_be_bytes();
        self.octets[start + 2..start + 4].copy_from_slice(&len);
        self.octets.splice(start + 4..range.end, data.iter().copied());
    }

    /// Applies a rule; `false`: it was not for this query.
    pub(super) fn apply(
        &mut self,
        (number, rule): (usize, &OptionRule),
        of: &Source<'_>,
        room: &mut Room,
        notes: &mut Notes,
    ) -> bool {
        let is_fixed = matches!(rule.data, Data::Octets(_));
        let Some(data) = rule.data.make(of, room) else { return false };
        self.load(of.cx);
        let found = self.find(rule.code);
        match (rule.action, found) {
            (Action::Unset, _) => {
                self.remove(rule.code);
            }
            (Action::Set | Action::Replace, Some(range)) => {
                if rule.revert {
                    let was = &self.octets[range.start + 4..range.end];
                    notes.push(number, Note::Replace(rule.code, was));
                }
                self.replace(range, data);
            }
            (Action::Replace, None) => return false,
            // CoreDNS adds a second NSID or local option, but not one whose data it makes.
            (Action::Append, Some(_)) if !is_fixed => return false,
            (Action::Append | Action::Set, _) => {
                self.push(rule.code, data);
                if rule.revert {
                    notes.push(number, Note::Remove(rule.code));
                }
            }
        }
        true
    }

    /// Takes back what a note says; for the reply.
    pub(super) fn revert(&mut self, note: Note<'_>) {
        match note {
            Note::Remove(code) => {
                self.remove(code);
            }
            Note::Replace(code, data) => {
                if let Some(range) = self.find(code) {
                    self.replace(range, data);
                }
            }
            Note::Rule | Note::Back(..) => {}
        }
    }

    /// Becomes other options, in wire form.
    pub(super) fn take(&mut self, octets: &[u8]) {
        self.clear();
        for (code, data) in options(octets) {
            self.push(code, data);
        }
    }
}

/// The code of an option that is no local one.
pub(super) fn code_of(kind: &str) -> u16 {
    if kind == "nsid" { edns::NSID } else { edns::SUBNET }
}
