//! # dns64
//!
//! Makes AAAA records of A records, for clients in IPv6-only networks behind NAT64 (RFC 6147).
//!
//! ## Syntax
//!
//! ```text
//! dns64 [PREFIX]
//! ```
//!
//! ```text
//! dns64 {
//!     prefix PREFIX
//!     translate_all
//!     allow_ipv4
//! }
//! ```
//!
//! * **PREFIX**: the network in which the made-up addresses lie, of 32 to 96 bits in steps of 8, by
//!   default the well-known one, `64:ff9b::/96` (RFC 6052 section 2.1). Where it stands on the line
//!   itself the block is not read, as in CoreDNS; a warning says so.
//! * `translate_all`: also for names that have AAAA records of their own.
//! * `allow_ipv4`: also for clients that ask over IPv4. Without it only those that ask over IPv6 get
//!   made-up addresses: others have a better way to the host.
//!
//! A question for AAAA goes to the plugins below. If their reply has no address (other than those
//! of `::ffff:0:0/96`) and is neither NXDOMAIN nor truncated, they are asked for A, and what is found
//! is given in the network of **PREFIX**, with the smaller of the A record's TTL and that of the SOA
//! record in the denial (600 seconds where there is none). Without an A record the first reply stands.
//!
//! A question for the PTR record of an address in the network of **PREFIX** that the plugins below
//! have none for is answered by a CNAME record that leads to the reverse name of the IPv4 address,
//! and what the server finds there (RFC 6147 section 5.3.1).
//!
//! Who validates by itself, and says so by DO and CD, gets nothing made up (RFC 6147 section 5.5).
//!
//! ## Metrics
//!
//! * `coredns_dns64_requests_translated_total{server}`: replies with made-up addresses.
//!
//! ## Examples
//!
//! ```corefile
//! . {
//!     dns64
//!     whoami
//! }
//! ```
//!
//! ```corefile
//! . {
//!     dns64 {
//!         prefix 2001:db8:64::/96
//!         allow_ipv4
//!     }
//!     whoami
//! }
//! ```
//!
//! ## Differences from CoreDNS
//!
//! * PTR questions are answered, and DO with CD is respected; CoreDNS does neither.
//! * AAAA records of `::ffff:0:0/96` do not count as addresses (RFC 6147 section 5.1.4).
//! * Where there is no A record either, or asking for it fails, the reply to the AAAA question
//!   stands (RFC 6147 section 5.1.6); CoreDNS makes an empty one of it.
//! * The plugins below are asked for A, not the whole server: the question is counted and logged
//!   once.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    Compiled, CorefileError, Cx, Directive, Entry, Level, Lines, Plugin, ReplyState, SetupError,
    Site, Step,
};
use crate::control::corefile::Token;
use crate::data::chain::Text;
use crate::data::tally::{Counter, Family};
use crate::wire::{NameBuf, Section, WireError, rclass, rcode, reverse_address, rtype};

/// The TTL in seconds where no SOA record says for how long there is no address (RFC 6147
/// section 5.1.7).
const TTL_WITHOUT_SOA: u32 = 600;

static TRANSLATED: Family = Family::counter(
    "coredns_dns64_requests_translated_total",
    &["server"],
    "Counter of DNS requests translated by dns64.",
);

/// A network in which IPv4 addresses are embedded (RFC 6052 section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Prefix {
    octets: [u8; 16],
    /// Octets of the prefix, 4 to 12.
    len: usize,
}

impl Prefix {
    const WELL_KNOWN: Self =
        Self { octets: [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], len: 12 };

    fn parse(lines: &Lines<'_>, token: &Token) -> Result<Self, CorefileError> {
        let (address, bits) = lines.cidr(token)?;
        let IpAddr::V6(address) = address else {
            let words = format!("invalid netmask 32 IPv6 address: {:?}", token.text);
            return Err(lines.parse_err(token, words));
        };
        if bits % 8 != 0 || !(32..=96).contains(&bits) {
            let words = format!("invalid prefix length {:?}", token.text);
            return Err(lines.parse_err(token, words));
        }
        let len = usize::from(bits / 8);
        let mut octets = address.octets();
        octets[len..].fill(0);
        Ok(Self { octets, len })
    }

    /// Where the four octets of an IPv4 address stand: after the prefix, octet 8 left out.
    fn places(self) -> impl Iterator<Item = usize> {
        (self.len..).filter(|at| *at != 8).take(4)
    }

    fn embed(self, address: Ipv4Addr) -> Ipv6Addr {
        let mut octets = self.octets;
        for (at, octet) in self.places().zip(address.octets()) {
            octets[at] = octet;
        }
        octets.into()
    }

    fn extract(self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        let mut found = [0; 4];
        for (octet, at) in found.iter_mut().zip(self.places()) {
            *octet = address.octets()[at];
        }
        // Not what lies in the network without being an address that was embedded.
        (self.embed(found.into()) == address).then(|| found.into())
    }
}

const OPTIONS: &[&str] = &["prefix", "translate_all", "allow_ipv4"];

/// The directive.
pub struct Dns64 {
    prefix: Prefix,
    translate_all: bool,
    allow_ipv4: bool,
}

impl Directive for Dns64 {
    const NAME: &'static str = "dns64";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let mut this = Self { prefix: Prefix::WELL_KNOWN, translate_all: false, allow_ipv4: false };
        for stanza in lines.stanzas() {
            if let Some(prefix) = lines.at_most_one(*stanza)? {
                this.prefix = Prefix::parse(lines, prefix)?;
                if !stanza.options.is_empty() {
                    let place = &stanza.name.place;
                    tracing::warn!(
                        "plugin/dns64: {place}: a prefix on the line: its block is not read"
                    );
                }
                continue;
            }
            for option in &stanza.options {
                match option.name.text.as_str() {
                    "prefix" => match &option.args[..] {
                        [prefix] => this.prefix = Prefix::parse(lines, prefix)?,
                        [] => return Err(lines.arg_err(&option.name)),
                        [_, extra, ..] => return Err(lines.unknown_option(extra, OPTIONS)),
                    },
                    "translate_all" => {
                        lines.alone(option)?;
                        this.translate_all = true;
                    }
                    "allow_ipv4" => {
                        lines.alone(option)?;
                        this.allow_ipv4 = true;
                    }
                    _ => return Err(lines.unknown_option(&option.name, OPTIONS)),
                }
            }
        }
        Ok(this)
    }

    fn compile(self, site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        let counter = |server: &crate::snapshot::Server| {
            site.tally.counter(&TRANSLATED, &[&server.server_label])
        };
        let translated = site.servers.iter().map(counter).collect();
        Ok(Compiled::link(Link { options: self, translated }))
    }
}

/// The link.
pub struct Link {
    options: Dns64,
    /// For each server of the block.
    translated: Vec<Counter>,
}

/// What is waited for.
#[derive(Clone, Copy)]
pub enum Frame {
    /// The reply of the plugins below, to a question for AAAA.
    Reply,
    /// Their reply to the question for A; the TTL is at most so many seconds.
    Addresses(u32),
    /// Their reply, to a question for the PTR record of this embedded address.
    Pointer(Ipv4Addr),
    /// What the server has for the reverse name of the IPv4 address.
    Found(Ipv4Addr),
}

impl Link {
    /// Whether a reply is to be replaced, and if so, the TTL that made-up records have at most.
    fn ttl_max(&self, level: &Level) -> Option<u32> {
        let reply = &level.reply;
        // Other errors are as good as an empty reply (RFC 6147 section 5.1.2).
        if level.state != ReplyState::Written
            || reply.rcode() == rcode::NXDOMAIN
            || reply.flags().tc()
        {
            return None;
        }
        let mut ttl = TTL_WITHOUT_SOA;
        for record in reply.records().flatten() {
            match (record.section, record.rtype) {
                (Section::Answer, rtype::AAAA) if !self.options.translate_all => {
                    let octets = <[u8; 16]>::try_from(record.rdata(reply.bytes())).ok()?;
                    Ipv6Addr::from(octets).to_ipv4_mapped()?;
                }
                (Section::Authority, rtype::SOA) => ttl = record.ttl,
                _ => {}
            }
        }
        Some(ttl)
    }

    /// Makes the reply of the one to the question for A.
    fn translate(&self, cx: &mut Cx<'_>, ttl_max: u32) {
        let side = cx.side();
        let has_address = |level: &Level| {
            level
                .reply
                .records()
                .flatten()
                .any(|record| record.section == Section::Answer && record.rtype == rtype::A)
        };
        if side.state != ReplyState::Written
            || side.reply.rcode() != rcode::NOERROR
            || !has_address(side)
        {
            return;
        }
        if side.reply.capacity() > cx.reply().capacity() {
            cx.enlarge();
        }
        cx.answer(false);
        let (here, side) = cx.both();
        let prefix = self.options.prefix;
        let (from, reply) = (side.reply.bytes(), &mut here.reply);
        let tc = side.reply.flags().tc();
        let built = reply
            .append(from, |draft| draft.section() == Section::Answer && draft.rtype() != rtype::A)
            .and_then(|()| {
                for record in side.reply.records().flatten() {
                    if record.section != Section::Answer || record.rtype != rtype::A {
                        continue;
                    }
                    let Ok(octets) = <[u8; 4]>::try_from(record.rdata(from)) else { continue };
                    let owner = record.owner(from)?;
                    let address = prefix.embed(octets.into()).into();
                    let ttl = record.ttl.min(ttl_max);
                    reply.push_address(Section::Answer, owner.as_name(), address, ttl)?;
                }
                reply.append(from, |draft| draft.section() != Section::Answer)
            });
        here.source = side.source;
        // What did not fit is asked for again, over TCP.
        let flags = here.reply.flags();
        here.reply.set_flags(flags.with_tc(tc || built.is_err()));
        let zone = cx.level().place().zone;
        if let Some(counter) = self.translated.get(zone as usize) {
            cx.core.tally.add(*counter, 1);
        }
    }

    /// Makes the reply of what was found for the IPv4 address.
    fn point(cx: &mut Cx<'_>, address: Ipv4Addr) {
        let side = cx.side();
        let found = side.state == ReplyState::Written
            && side.reply.rcode() == rcode::NOERROR
            && side.reply.counts().answer != 0;
        if !found {
            return;
        }
        let ttl = side.reply.records().flatten().map(|record| record.ttl).min();
        let target = reverse_name(address);
        cx.answer(false);
        let (here, side) = cx.both();
        let (name, from) = (NameBuf::from(here.question().name), side.reply.bytes());
        let ttl = ttl.unwrap_or(TTL_WITHOUT_SOA);
        let built = here
            .reply
            .push_name(Section::Answer, name.as_name(), rtype::CNAME, target.as_name(), ttl)
            .map_err(WireError::from)
            .and_then(|()| here.reply.append(from, |draft| draft.section() == Section::Answer));
        here.source = side.source;
        let flags = here.reply.flags();
        here.reply.set_flags(flags.with_tc(built.is_err()));
    }
}

/// The name below `in-addr.arpa.` of an address (RFC 1035 section 3.5).
fn reverse_name(address: Ipv4Addr) -> NameBuf {
    let [a, b, c, d] = address.octets();
    let mut text = Text::<32>::new();
    let _ = write!(text, "{d}.{c}.{b}.{a}.in-addr.arpa.");
    NameBuf::parse(text.as_str()).unwrap_or_default()
}

impl Plugin for Link {
    type Frame = Frame;
    type Local = ();

    fn local(&self, _core: u16) {}

    fn serve(&self, (): &mut (), cx: &mut Cx<'_>) -> Step<Frame> {
        let (question, asked) = (cx.question(), cx.asked());
        let allowed = self.options.allow_ipv4 || cx.client().family() == 2;
        let validates = asked.dnssec_ok && asked.flags.cd();
        if !allowed || validates || question.rclass != rclass::IN {
            return Step::Next;
        }
        match question.rtype {
            rtype::AAAA => Step::Watch(Frame::Reply),
            rtype::PTR => match reverse_address(question.lower) {
                Some(IpAddr::V6(address)) => match self.options.prefix.extract(address) {
                    Some(address) => Step::Watch(Frame::Pointer(address)),
                    None => Step::Next,
                },
                _ => Step::Next,
            },
            _ => Step::Next,
        }
    }

    fn resume(&self, (): &mut (), cx: &mut Cx<'_>, frame: Frame) -> Step<Frame> {
        match frame {
            Frame::Reply => {
                let Some(ttl_max) = self.ttl_max(cx.level()) else { return Step::Up };
                let name = NameBuf::from(cx.question().name);
                cx.ask(name.as_name(), rtype::A, rclass::IN);
                Step::Ask(Frame::Addresses(ttl_max), Entry::Below)
            }
            Frame::Addresses(ttl_max) => {
                self.translate(cx, ttl_max);
                Step::Up
            }
            Frame::Pointer(address) => {
                let level = cx.level();
                let answered =
                    level.state == ReplyState::Written && level.reply.counts().answer != 0;
                if answered || level.state == ReplyState::Dropped {
                    return Step::Up;
                }
                cx.ask(reverse_name(address).as_name(), rtype::PTR, rclass::IN);
                Step::Ask(Frame::Found(address), Entry::Top)
            }
            Frame::Found(address) => {
                Self::point(cx, address);
                Step::Up
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::parse_block;

    fn prefix(text: &str) -> Result<Prefix, String> {
        parse_block::<Dns64>(&format!("dns64 {text}")).map(|found| found.prefix)
    }

    /// RFC 6052 section 2.4.
    #[test]
    fn the_examples_of_the_standard() {
        for (network, embedded) in [
            ("2001:db8::/32", "2001:db8:c000:221::"),
            ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
            ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
            ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
            ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
        ] {
            let prefix = prefix(network).expect("a prefix");
            let embedded: Ipv6Addr = embedded.parse().expect("an address");
            let address = Ipv4Addr::new(192, 0, 2, 33);
            assert_eq!(prefix.embed(address), embedded, "{network}");
            assert_eq!(prefix.extract(embedded), Some(address), "{network}");
        }
    }

    #[test]
    fn addresses_that_are_not_embedded() {
        let prefix = prefix("2001:db8::/32").expect("a prefix");
        for other in ["2001:db9:c000:221::", "2001:db8:c000:221::1"] {
            assert_eq!(prefix.extract(other.parse().expect("an address")), None, "{other}");
        }
    }

    #[test]
    fn prefixes_that_are_refused() {
        for (text, words) in [
            ("64:ff9b::/97", "invalid prefix length"),
            ("64:ff9b::/24", "invalid prefix length"),
            ("192.0.2.0/24", "invalid netmask"),
            ("64:ff9b::", "invalid CIDR address: 64:ff9b::"),
            ("64:ff9b::/96 more", "Wrong argument count"),
        ] {
            let error = prefix(text).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
