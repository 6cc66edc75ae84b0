//! Between a question and its reply: what the link says of a query.
//!
//! Names that are not there are denied only once all objects have been listed; until then they are
//! SERVFAIL with an extended error (RFC 8914 section 4.15), and never handed on: a name of the cluster
//! does not leave it. What is answered from the state of an earlier run says so (section 4.4).

use std::net::{IpAddr, SocketAddr};

use super::settings::Settings;
use crate::cluster::answer::{Fit, Outcome, Place, Rules};
use crate::cluster::index::Index;
use crate::control::corefile::Fallthrough;
use crate::data::chain::{Cx, Entry, ReplyState, Step};
use crate::limits::UDP_BYTES_MIN;
use crate::sys;
use crate::wire::{Draft, Flags, Name, NameBuf, Question, Section, edns, rcode, rtype};

/// INFO-CODE 14 of RFC 8914, and why.
pub const NOT_READY: &[u8] = b"\0\x0enot in sync with the API server";
/// INFO-CODE 3 of RFC 8914: stale answer.
const STALE: &[u8] = &[0, 3];

/// What the link answers by.
pub struct Answers {
    /// How its zones are answered.
    pub rules: Rules,
    fallthrough: Fallthrough,
    /// Zones of which no name is handed on.
    memory: Vec<NameBuf>,
}

impl Answers {
    /// As a directive says; `own`: the addresses of this server, none of them of the loopback.
    pub fn new(settings: &Settings, own: Vec<IpAddr>) -> Self {
        let Settings { zones, primary, multicluster, ttl, fallthrough, .. } = settings;
        let mut rules = Rules::new(zones, *primary, multicluster, *ttl);
        rules.pods = settings.pods;
        rules.ignore_empty = settings.ignore_empty_service;
        rules.zonal = settings.zonal;
        rules.reverse_shown = !settings.namespaces.is_empty();
        rules.own = own.into();
        // A zone is touched by a fallthrough of a zone above, of itself, or of one below.
        let is_kept = |zone: &&NameBuf| {
            let mut below = fallthrough.zones().iter();
            !fallthrough.covers(zone.as_name())
                && !below.any(|other| other.as_name().is_under(zone.as_name()))
        };
        let memory = zones.iter().filter(is_kept).copied().collect();
        Self { rules, fallthrough: fallthrough.clone(), memory }
    }

    /// See [`Plugin::memory_zones`](crate::plugin::Plugin::memory_zones).
    pub fn memory_zones(&self) -> &[NameBuf] {
        &self.memory
    }

    /// See [`Plugin::hint`](crate::plugin::Plugin::hint).
    #[inline]
    pub fn hint(&self, index: &Index, lower: Name<'_>) -> u64 {
        self.rules.hint(index, lower).to_bits()
    }

    /// See [`Plugin::hint_next`](crate::plugin::Plugin::hint_next).
    #[inline]
    pub fn hint_next(&self, index: &Index, place: u64) {
        self.rules.hint_next(index, Place::from_bits(place));
    }

    /// See [`Plugin::serve`](crate::plugin::Plugin::serve).
    #[inline]
    pub fn serve(&self, index: &Index, cx: &mut Cx<'_>) -> Step<()> {
        let place = match cx.hinted() {
            Some(bits) => Place::from_bits(bits),
            None => self.rules.hint(index, cx.question().lower),
        };
        let Some(position) = place.position() else { return Step::Next };
        let (question, reply) = cx.answer(true);
        match self.rules.answer_plain(index, place, question, reply) {
            Some(Outcome::Answer) => {
                mark_stale(index, cx);
                Step::Up
            }
            Some(outcome) => self.become_of(outcome, index, position, cx),
            None => self.answer(index, position, cx),
        }
    }

    fn answer(&self, index: &Index, position: usize, cx: &mut Cx<'_>) -> Step<()> {
        if matches!(cx.question().rtype, rtype::AXFR | rtype::IXFR) {
            // Transfers are what `transfer` is for, which stands above.
            cx.fail(rcode::REFUSED, format_args!(""));
            return Step::Up;
        }
        let mut outcome = self.write(index, position, true, cx);
        if matches!(outcome, Outcome::TooLong) {
            cx.enlarge();
            cx.answer(true);
            outcome = self.write(index, position, false, cx);
        }
        self.become_of(outcome, index, position, cx)
    }

    /// What an outcome makes of the reply.
    fn become_of(
        &self,
        outcome: Outcome,
        index: &Index,
        position: usize,
        cx: &mut Cx<'_>,
    ) -> Step<()> {
        match outcome {
            Outcome::Answer | Outcome::TooLong => {}
            Outcome::NoData => self.deny(index, position, rcode::NOERROR, cx),
            Outcome::Chase { target } => {
                let Question { rtype, rclass, .. } = cx.question();
                cx.ask(target.as_name(), rtype, rclass);
                return Step::Ask((), Entry::Top);
            }
            Outcome::NxDomain if !index.is_synced() => {
                self.deny(index, position, rcode::SERVFAIL, cx);
                cx.level_mut().extra.push(edns::EDE, NOT_READY);
                return Step::Up;
            }
            Outcome::NxDomain if self.fallthrough.covers(cx.question().lower) => {
                cx.level_mut().clear_reply();
                return Step::Next;
            }
            Outcome::NxDomain => self.deny(index, position, rcode::NXDOMAIN, cx),
        }
        mark_stale(index, cx);
        Step::Up
    }

    fn deny(&self, index: &Index, position: usize, rcode: u16, cx: &mut Cx<'_>) {
        let (question, reply) = cx.edit();
        self.rules.deny(index, position, question, rcode, reply);
    }

    /// Writes the answer into the reply, which has only its question; all of it, or nothing if it has
    /// no room, if that is worth another attempt.
    fn write(&self, index: &Index, position: usize, first: bool, cx: &mut Cx<'_>) -> Outcome {
        let is_stream = cx.client().transport.is_stream();
        let asked = cx.asked();
        let id = u32::from(asked.id).wrapping_mul(0x9e37_79b1);
        let room = match is_stream {
            true => cx.room(),
            false => usize::from(asked.udp_size).max(UDP_BYTES_MIN),
        };
        let turn = id.wrapping_add(cx.core.now as u32);
        let fit = Fit { room, whole: is_stream && first, is_stream, turn };
        let (question, reply) = cx.edit();
        self.rules.answer(index, position, question, fit, reply)
    }

    /// See [`Plugin::resume`](crate::plugin::Plugin::resume): an alias was asked for.
    pub fn resume(&self, index: &Index, cx: &mut Cx<'_>) -> Step<()> {
        let asked = cx.side();
        let flags = match asked.state {
            ReplyState::Written => asked.reply.flags(),
            _ => Flags::default(),
        };
        let copied = asked.state != ReplyState::Written
            || append(cx)
            || (cx.client().transport.is_stream() && cx.enlarge() && self.again(index, cx));
        // As CoreDNS has it, the alias stands whatever became of its target.
        if flags.tc() || !copied {
            let reply = &mut cx.level_mut().reply;
            reply.set_flags(reply.flags().with_tc(true));
        }
        mark_stale(index, cx);
        Step::Up
    }

    /// Writes the aliases once more, into a larger buffer, and what they lead to.
    fn again(&self, index: &Index, cx: &mut Cx<'_>) -> bool {
        let Some(position) = self.rules.position(cx.question().lower) else { return false };
        cx.answer(true);
        match self.write(index, position, false, cx) {
            Outcome::Chase { .. } => append(cx),
            _ => false,
        }
    }
}

/// The addresses of this server as others reach it, where it listens on these.
pub fn own_addresses(listening: &[SocketAddr]) -> Vec<IpAddr> {
    let mut all: Vec<SocketAddr> = listening.to_vec();
    if listening.iter().any(|address| address.ip().is_unspecified()) {
        // Without the list of them the zone has no name server, which few ask for.
        all.extend(sys::addresses().unwrap_or_default());
    }
    let mut own: Vec<IpAddr> = Vec::new();
    for address in all.into_iter().map(|address| address.ip().to_canonical()) {
        if !address.is_loopback() && !address.is_unspecified() && !own.contains(&address) {
            own.push(address);
        }
    }
    own
}

/// Appends the answers to what was asked; `false`: they have no room.
fn append(cx: &mut Cx<'_>) -> bool {
    let (level, side) = cx.both();
    let answers = |draft: &mut Draft<'_>| draft.section() == Section::Answer;
    level.reply.append(side.reply.bytes(), answers).is_ok()
}

/// Tells a client of what is answered from the state of an earlier run.
pub fn mark_stale(index: &Index, cx: &mut Cx<'_>) {
    if index.is_stale() {
        cx.level_mut().extra.push(edns::EDE, STALE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::kubernetes::Kubernetes;
    use crate::plugin::parse_block;

    /// Zones of which a cache may keep nothing.
    fn kept(fallthrough: &str) -> Vec<String> {
        let block = format!("kubernetes cluster.local in-addr.arpa {{\n{fallthrough}\n}}");
        let Kubernetes(settings) = parse_block(&block).expect("a directive");
        let answers = Answers::new(&settings, Vec::new());
        answers.memory_zones().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn zones_that_hand_on_no_name() {
        assert_eq!(kept(""), ["cluster.local.", "in-addr.arpa."]);
        assert_eq!(kept("fallthrough in-addr.arpa ip6.arpa"), ["cluster.local."]);
        assert_eq!(kept("fallthrough a.cluster.local"), ["in-addr.arpa."]);
        assert_eq!(kept("fallthrough local"), ["in-addr.arpa."]);
        assert!(kept("fallthrough").is_empty());
    }

    #[test]
    fn addresses_that_others_reach() {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let bound = ["127.0.0.1:53", "192.0.2.1:53", "[::1]:53", "192.0.2.1:54"].map(address);
        let expected: IpAddr = "192.0.2.1".parse().expect("an address");
        assert_eq!(own_addresses(&bound), [expected]);
        let own = own_addresses(&[address("[::]:53")]);
        let is_far = |own: &IpAddr| !own.is_loopback() && !own.is_unspecified();
        assert!(own.iter().all(is_far), "{own:?}");
    }
}
