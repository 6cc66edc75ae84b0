//! # local
//!
//! Answers for the names that mean this host, so that they never reach an upstream (RFC 6761).
//!
//! ## Syntax
//!
//! ```corefile
//! local {
//!     localhost_prefix on|off
//! }
//! ```
//!
//! `localhost.` and all names below it have the addresses 127.0.0.1 and ::1; 1.0.0.127.in-addr.arpa.
//! leads to `localhost.`; the zones localhost., 0.in-addr.arpa., 127.in-addr.arpa. and
//! 255.in-addr.arpa. have a SOA and an NS record. With `localhost_prefix on`, the default, names that
//! begin with `localhost.` have the same addresses: search paths make `localhost.example.org` of
//! `localhost`. The TTL is a week.
//!
//! ## Metrics
//!
//! * `coredns_local_localhost_requests_total`: queries below `localhost.` or with its prefix.
//!
//! ## Examples
//!
//! ```corefile
//! . {
//!     local
//!     whoami
//! }
//! ```

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Compiled, CorefileError, Cx, Directive, Lines, Plugin, SetupError, Site, Step};
use crate::data::tally::{Counter, families};
use crate::wire::{Name, NameBuf, Question, Reply, Section, Soa, rcode, rtype};

const TTL: u32 = 604_800;

/// The directive.
pub struct Local {
    prefix: bool,
}

impl Directive for Local {
    const NAME: &'static str = "local";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let mut prefix = true;
        for stanza in lines.stanzas() {
            lines.no_args(*stanza)?;
            for option in &stanza.options {
                if option.name.text != "localhost_prefix" {
                    return Err(lines.unknown_option(&option.name, &["localhost_prefix"]));
                }
                let word = lines.one_arg(option)?;
                prefix = match word.text.as_str() {
                    "on" => true,
                    "off" => false,
                    other => {
                        let words =
                            format!("localhost_prefix expects 'on' or 'off', got {other:?}");
                        return Err(lines.parse_err(word, words));
                    }
                };
            }
        }
        Ok(Self { prefix })
    }

    fn compile(self, site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        let name = |text| NameBuf::parse(text).map_err(|why| SetupError::new(why.to_string()));
        Ok(Compiled::link(Link {
            prefix: self.prefix,
            localhost: name("localhost.")?,
            root: name("root.localhost.")?,
            one: name("1.0.0.127.in-addr.arpa.")?,
            reverse: [
                name("0.in-addr.arpa.")?,
                name("127.in-addr.arpa.")?,
                name("255.in-addr.arpa.")?,
            ],
            counter: site.tally.counter(&families::LOCALHOST, &[]),
        }))
    }
}

/// The link.
pub struct Link {
    prefix: bool,
    localhost: NameBuf,
    root: NameBuf,
    one: NameBuf,
    reverse: [NameBuf; 3],
    counter: Counter,
}

impl Link {
    /// Whether the name is this host's without being `localhost.` itself.
    fn is_below(&self, lower: Name<'_>) -> bool {
        let localhost = self.localhost.as_name();
        let mut labels = lower.labels();
        let first = labels.next();
        let more = labels.next().is_some();
        (more && lower.is_under(localhost))
            || (more && self.prefix && first == Some(b"localhost".as_slice()))
    }

    fn soa(&self, section: Section, owner: Name<'_>, reply: &mut Reply) {
        let soa = Soa {
            mname: self.localhost.as_name(),
            rname: self.root.as_name(),
            numbers: [1, 0, 0, 0, TTL],
        };
        // Some sixty octets fit into any buffer.
        let _ = reply.push_soa(section, owner, &soa, TTL);
    }

    /// The addresses, or NODATA.
    fn host(&self, question: Question<'_>, reply: &mut Reply) {
        let ip = match question.rtype {
            rtype::A => Ipv4Addr::LOCALHOST.into(),
            rtype::AAAA => Ipv6Addr::LOCALHOST.into(),
            _ => return self.soa(Section::Authority, question.name, reply),
        };
        let _ = reply.push_address(Section::Answer, question.name, ip, TTL);
    }

    /// A name of one of the four zones.
    fn zone(&self, zone: Name<'_>, question: Question<'_>, reply: &mut Reply) {
        let apex = question.lower.len() == zone.len();
        let localhost = self.localhost.as_name();
        let owner = question.name;
        match question.rtype {
            rtype::SOA if apex => self.soa(Section::Answer, owner, reply),
            rtype::NS if apex => {
                let _ = reply.push_name(Section::Answer, owner, rtype::NS, localhost, TTL);
            }
            _ if apex && zone.eq_fold(localhost) => self.host(question, reply),
            _ if apex => self.soa(Section::Authority, owner, reply),
            rtype::PTR if question.lower.eq_fold(self.one.as_name()) => {
                let _ = reply.push_name(Section::Answer, owner, rtype::PTR, localhost, TTL);
            }
            _ => {
                let zone = owner.suffix(zone.label_count());
                self.soa(Section::Authority, zone, reply);
                if !question.lower.eq_fold(self.one.as_name()) {
                    reply.set_rcode(rcode::NXDOMAIN);
                }
            }
        }
    }
}

impl Plugin for Link {
    type Frame = ();
    type Local = ();

    fn local(&self, _core: u16) {}

    fn serve(&self, (): &mut (), cx: &mut Cx<'_>) -> Step<()> {
        let lower = cx.question().lower;
        if self.is_below(lower) {
            cx.core.tally.add(self.counter, 1);
            let (question, reply) = cx.answer(false);
            self.host(question, reply);
            return Step::Up;
        }
        let mut zones = self.reverse.iter().chain([&self.localhost]);
        let Some(zone) = zones.find(|zone| lower.is_under(zone.as_name())) else {
            return Step::Next;
        };
        let (question, reply) = cx.answer(false);
        self.zone(zone.as_name(), question, reply);
        Step::Up
    }
}
