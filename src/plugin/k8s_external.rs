//! # k8s_external
//!
//! Tells the world outside a cluster by which addresses its services are reached there: those of load
//! balancers, external addresses and, if it is wanted, the endpoints of headless services.
//!
//! ## Syntax
//!
//! ```text
//! k8s_external [ZONES...] {
//!     apex NAME
//!     ttl SECONDS
//!     headless
//!     fallthrough [ZONES...]
//! }
//! ```
//!
//! * **ZONES**: the zones of these names, by default the block's. Reverse zones among them have PTR
//!   records that lead into the first one.
//! * `apex`: below which name the server of the zone stands, by default `dns`: NS leads to
//!   `ns1.dns.ZONE`.
//! * `ttl`: of records, 0 to 3600 seconds, by default 5. SRV and CNAME records have that of
//!   *kubernetes*.
//! * `headless`: a headless service without addresses of its own from outside has those of its
//!   endpoints, and endpoints have names.
//! * `fallthrough`: hand names that do not exist to the plugins below, for all zones or for **ZONES**.
//!
//! It needs *kubernetes* in the same block, whose cluster it is, and whose `namespaces` hide services
//! here as well.
//!
//! `SERVICE.NAMESPACE.ZONE` has A and AAAA records, or, where a load balancer is known by name only, a
//! CNAME record with what the server finds there. `_PORT._PROTOCOL.SERVICE.NAMESPACE.ZONE` has SRV
//! records, and so has the service's own name. The name server has the addresses, from outside, of the
//! services that this server is an endpoint of, or else its own.
//!
//! The zone can be handed out by *transfer*. Its serial is the time at which an address or a port of a
//! service was last changed; as in CoreDNS, services that come and go do not count, so that secondaries
//! are better told to ask for the whole zone.
//!
//! ## Examples
//!
//! ```corefile
//! . {
//!     kubernetes cluster.local
//!     k8s_external example.org {
//!         fallthrough
//!     }
//!     forward . 192.0.2.53
//! }
//! ```
//!
//! ```corefile
//! example.org 203.0.113.0/24 {
//!     kubernetes cluster.local
//!     k8s_external {
//!         apex ns
//!         ttl 30
//!         headless
//!     }
//!     transfer {
//!         to 192.0.2.7
//!     }
//! }
//! ```
//!
//! ## Differences from CoreDNS
//!
//! * A service with addresses has no CNAME record beside them, and one without at most one (RFC 1034
//!   section 3.6.2); CoreDNS gives all of them, once for each port.
//! * A transfer holds what single questions are answered with: each record once, all ports of a service,
//!   and nothing of namespaces that are not shown. CoreDNS leaves out all ports but one, gives some
//!   addresses several times, and names hosts by the last label of their names.
//! * The server of a zone is found below an `apex` of several labels too.
//! * Before everything is known of the cluster a denial is marked as such (RFC 8914, code 14), and a
//!   transfer fails.

use std::sync::Arc;

use super::kubernetes::answers::{NOT_READY, mark_stale};
use super::kubernetes::{self, Held};
use super::outgoing::{Cursor, Envelope, Offer, Outgoing, Transferer};
use super::{
    Compiled, CorefileError, Cx, Directive, Entry, Lines, Plugin, ReplyState, SetupError, Site,
    Step,
};
use crate::cluster::index::Index;
use crate::cluster::outside::{Outcome, Rules, Transfer};
use crate::control::corefile::{Fallthrough, OptionLine, Token, no_number};
use crate::limits::CLUSTER_TARGETS_MAX;
use crate::publish::Reader;
use crate::wire::{Full, Name, NameBuf, Section, edns, opcode, rclass, rcode, rtype};

const OPTIONS: &[&str] = &["apex", "fallthrough", "headless", "ttl"];
const TTL_MAX: i64 = 3600;

/// The directive.
pub struct External {
    zones: Vec<NameBuf>,
    apex: NameBuf,
    ttl: u32,
    headless: bool,
    fallthrough: Fallthrough,
}

impl Directive for External {
    const NAME: &'static str = "k8s_external";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let mut this = Self {
            zones: Vec::new(),
            apex: NameBuf::parse("dns").unwrap_or_default(),
            ttl: 5,
            headless: false,
            fallthrough: Fallthrough::OFF,
        };
        for stanza in lines.stanzas() {
            this.zones = lines.zones_of(&stanza.args);
            for option in &stanza.options {
                match option.name.text.as_str() {
                    "apex" => this.apex = lines.name(first(lines, option)?)?,
                    "ttl" => this.ttl = ttl(lines, first(lines, option)?)?,
                    "headless" => match option.args.first() {
                        None => this.headless = true,
                        Some(extra) => return Err(lines.unknown_option(extra, OPTIONS)),
                    },
                    "fallthrough" => this.fallthrough = lines.fallthrough(option),
                    _ => return Err(lines.unknown_option(&option.name, OPTIONS)),
                }
            }
        }
        Ok(this)
    }

    fn compile(self, site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        let Some(cluster) = site.find::<kubernetes::Link>() else {
            return Err(SetupError::new("kubernetes plugin not loaded"));
        };
        let settings = cluster.settings();
        let rules = Rules::new(&self.zones, self.apex.as_name(), self.ttl, settings.ttl);
        let Some(mut rules) = rules else {
            return Err(SetupError::new("a zone is too long for the names of its server"));
        };
        rules.headless = self.headless;
        rules.reverse_shown = !settings.namespaces.is_empty();
        rules.own.clone_from(&cluster.answers().rules.own);
        let held = Arc::clone(cluster.held());
        let Self { zones, fallthrough, .. } = self;
        Ok(Compiled::link(Link { rules: Arc::new(rules), zones, fallthrough, held }))
    }
}

/// The first argument; CoreDNS reads no further.
fn first<'l>(lines: &Lines<'_>, option: &'l OptionLine) -> Result<&'l Token, CorefileError> {
    option.args.first().ok_or_else(|| lines.arg_err(&option.name))
}

fn ttl(lines: &Lines<'_>, word: &Token) -> Result<u32, CorefileError> {
    let Ok(ttl) = word.text.parse::<i64>() else {
        return Err(lines.err(word, no_number("Atoi", &word.text)));
    };
    if !(0..=TTL_MAX).contains(&ttl) {
        return Err(lines.parse_err(word, format!("ttl must be in range [0, 3600]: {ttl}")));
    }
    Ok(ttl as u32)
}

/// The link.
pub struct Link {
    rules: Arc<Rules>,
    zones: Vec<NameBuf>,
    fallthrough: Fallthrough,
    held: Arc<Held>,
}

/// What is asked beside the question itself.
#[derive(Clone, Copy)]
pub enum Frame {
    /// What an alias leads to.
    Alias,
    /// The addresses of the target of an SRV record: the number of the record, and whether it is the
    /// IPv6 addresses.
    Target(u16, bool),
}

impl Link {
    fn answer(&self, index: &Index, cx: &mut Cx<'_>) -> Result<Outcome, Full> {
        let (question, reply) = cx.answer(true);
        self.rules.answer(index, question, reply)
    }

    fn deny(&self, index: &Index, cx: &mut Cx<'_>, code: u16) -> Step<Frame> {
        let lower = cx.question().lower;
        let is_handed_on = self.fallthrough.covers(lower) && !self.rules.is_of_server(lower);
        if code == rcode::NXDOMAIN && is_handed_on {
            cx.level_mut().clear_reply();
            return Step::Next;
        }
        let (question, reply) = cx.edit();
        self.rules.deny(index, question, code, reply);
        if code == rcode::NXDOMAIN && !index.is_synced() {
            cx.level_mut().extra.push(edns::EDE, NOT_READY);
        }
        Step::Up
    }
}

/// Asks for the addresses of the next target that is not a name of the question's own zone: load
/// balancers that are known by name. The number is that of the first record to look at.
fn next_target(cx: &mut Cx<'_>, from: u16) -> Step<Frame> {
    let reply = cx.reply();
    let targets = reply.records().flatten().filter(|record| record.section == Section::Answer);
    let target = |record: &crate::wire::Record| {
        // Priority, weight and port stand before it, and it is not compressed.
        let rdata = record.rdata(reply.bytes()).get(6..)?;
        Some(NameBuf::from(Name::from_wire(rdata).ok()?.0))
    };
    let has_addresses = |name: &NameBuf| {
        let mut records = reply.records().flatten();
        records.any(|record| {
            record.section == Section::Additional
                && record.owner(reply.bytes()).is_ok_and(|owner| owner == *name)
        })
    };
    let found = (0_u16..).zip(targets).take(CLUSTER_TARGETS_MAX).skip(from.into());
    let mut found = found.filter_map(|(number, record)| Some((number, target(&record)?)));
    match found.find(|(_, name)| !has_addresses(name)) {
        Some((number, name)) => {
            cx.ask(name.as_name(), rtype::A, rclass::IN);
            Step::Ask(Frame::Target(number, false), Entry::Top)
        }
        None => Step::Up,
    }
}

/// Appends the records that were found to a section; TC where there is no room.
fn append(cx: &mut Cx<'_>, section: Section) {
    let (level, side) = cx.both();
    if side.state != ReplyState::Written {
        return;
    }
    let from = side.reply.bytes();
    let appended = level.reply.append_to(section, from, |draft| draft.section() == Section::Answer);
    let tc = section == Section::Answer && (appended.is_err() || side.reply.flags().tc());
    if tc {
        let flags = level.reply.flags().with_tc(true);
        level.reply.set_flags(flags);
    }
}

impl Plugin for Link {
    type Frame = Frame;
    type Local = Reader<Index>;

    fn transferer(self: &Arc<Self>) -> Option<Arc<dyn Transferer>> {
        Some(Arc::<Self>::clone(self))
    }

    fn local(&self, _core: u16) -> Reader<Index> {
        self.held.reader()
    }

    fn refresh(&self, index: &mut Reader<Index>) {
        index.refresh();
    }

    fn memory_zones(&self) -> &[NameBuf] {
        if self.fallthrough.is_on() { &[] } else { &self.zones }
    }

    fn serve(&self, index: &mut Reader<Index>, cx: &mut Cx<'_>) -> Step<Frame> {
        let index = index.get();
        let question = cx.question();
        if !self.rules.is_under(question.lower) || cx.asked().flags.opcode() != opcode::QUERY {
            return Step::Next;
        }
        let is_srv = question.rtype == rtype::SRV;
        let mut outcome = self.answer(index, cx);
        if outcome.is_err() && cx.client().transport.is_stream() && cx.enlarge() {
            outcome = self.answer(index, cx);
        }
        mark_stale(index, cx);
        match outcome {
            Ok(Outcome::Answer) if is_srv => next_target(cx, 0),
            Ok(Outcome::Answer) => Step::Up,
            Ok(Outcome::NoData) => self.deny(index, cx, rcode::NOERROR),
            Ok(Outcome::NxDomain) => self.deny(index, cx, rcode::NXDOMAIN),
            Ok(Outcome::Chase { target }) => {
                let rtype = cx.question().rtype;
                cx.ask(target.as_name(), rtype, rclass::IN);
                Step::Ask(Frame::Alias, Entry::Top)
            }
            Err(Full) => {
                let (_, reply) = cx.edit();
                reply.set_flags(reply.flags().with_tc(true));
                Step::Up
            }
        }
    }

    fn resume(&self, _index: &mut Reader<Index>, cx: &mut Cx<'_>, frame: Frame) -> Step<Frame> {
        match frame {
            Frame::Alias => {
                append(cx, Section::Answer);
                Step::Up
            }
            Frame::Target(number, false) => {
                let target = NameBuf::from(cx.side().question().name);
                append(cx, Section::Additional);
                cx.ask(target.as_name(), rtype::AAAA, rclass::IN);
                Step::Ask(Frame::Target(number, true), Entry::Top)
            }
            Frame::Target(number, true) => {
                append(cx, Section::Additional);
                next_target(cx, number + 1)
            }
        }
    }
}

impl Transferer for Link {
    fn outgoing(&self, zone: Name<'_>) -> Offer {
        let index = self.held.index();
        match Transfer::new(&self.rules, index, zone) {
            None => Offer::NotMine,
            Some(zone) if !zone.is_known() => Offer::NotReady,
            Some(zone) => Offer::Zone(Arc::new(zone)),
        }
    }
}

/// In a cursor: only the last SOA record is left.
const AT_END: u64 = u64::MAX;

impl Outgoing for Transfer {
    fn serial(&self) -> u32 {
        Self::serial(self)
    }

    fn fill(&self, cursor: &mut Cursor, message: &mut Envelope<'_>) -> Result<bool, Full> {
        let before = message.records();
        if cursor.0[0] == 0 {
            Outgoing::soa(self, message)?;
            cursor.0 = [1, 0];
        }
        let [place, record] = cursor.0;
        if place != AT_END {
            let ended = self.each_from([place - 1, record], &mut |owner, rtype, ttl, rdata| {
                message.push(owner, rtype, ttl, rdata).is_ok()
            });
            cursor.0 = ended.map_or([AT_END, 0], |[service, record]| [service + 1, record]);
            if ended.is_some() {
                return if message.records() == before { Err(Full) } else { Ok(false) };
            }
        }
        match Outgoing::soa(self, message) {
            Err(Full) if message.records() > before => Ok(false),
            written => written.map(|()| true),
        }
    }

    fn soa(&self, message: &mut Envelope<'_>) -> Result<(), Full> {
        let mut written = Err(Full);
        Self::soa(self, &mut |owner, rtype, ttl, rdata| {
            written = message.push(owner, rtype, ttl, rdata);
            false
        });
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::parse_block;

    #[test]
    fn options() {
        let read = |block| parse_block::<External>(block).expect(block);
        let parsed = read("k8s_external");
        assert_eq!((parsed.zones[0].to_string().as_str(), parsed.ttl), ("example.org.", 5));
        assert!(!parsed.headless && !parsed.fallthrough.is_on());
        let parsed = read(
            "k8s_external a.test 203.0.113.0/24 {\n apex NS more\n ttl 3600 0\n headless\n \
             fallthrough b.test\n}",
        );
        assert_eq!((parsed.zones.len(), parsed.apex.to_string()), (2, "ns.".to_owned()));
        assert_eq!((parsed.ttl, parsed.headless), (3600, true));
        assert!(parsed.fallthrough.is_on());
    }

    #[test]
    fn faults_in_coredns_words() {
        for (option, words) in [
            ("ttl", "Wrong argument count"),
            ("ttl x", "parsing \"x\": invalid syntax"),
            ("ttl -1", "ttl must be in range [0, 3600]: -1"),
            ("ttl 3601", "ttl must be in range [0, 3600]: 3601"),
            ("apex", "Wrong argument count"),
            ("headless on", "unknown property 'on'"),
            ("headles", "unknown property 'headles'"),
        ] {
            let block = format!("k8s_external {{\n {option}\n}}");
            let fault = parse_block::<External>(&block).err().expect(option);
            assert!(fault.contains(words), "{option}: {fault}");
        }
    }
}
