//! The link that answers from zones: what `file` and `auto` compile to.
//!
//! It holds a table of zones, which a task of control replaces as files change. An answer costs a
//! look-up of the zone, one in its index, and a copy. An alias that leads out of the zone is asked
//! from the top and its records are appended (RFC 1034 section 3.6.2).

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use super::outgoing::{Cursor, Envelope, Offer, Outgoing, Transferer};
use super::{Cx, Entry, Level, Plugin, ReplyState, Step};
use crate::control::corefile::Fallthrough;
use crate::publish::{Published, Reader, Turns};
use crate::wire::{Full, Name, NameBuf, Question, Rdata, Section, Suffixes, opcode, rcode, rtype};
use crate::zone::{AxfrCursor, Chased, Outcome, Zone};

/// The zones of a link: one that could not be loaded yet is `None`, and answered with SERVFAIL.
pub type Zones = Suffixes<Option<Arc<Zone>>>;

/// The zones of a link as control publishes them, and whom it tells of that.
pub struct Table {
    zones: Published<Zones>,
    changed: watch::Sender<()>,
}

impl Table {
    /// The first zones.
    pub fn new(zones: Zones) -> Arc<Self> {
        Arc::new(Self { zones: Published::new(zones), changed: watch::Sender::new(()) })
    }

    /// Other zones from now on. Control side, on its runtime.
    pub fn set(&self, turns: &Arc<Turns>, zones: Zones) {
        self.zones.set(turns, zones);
        self.changed.send_replace(());
    }
}

/// The link.
pub struct Authority {
    name: &'static str,
    zones: Arc<Table>,
    fallthrough: Fallthrough,
    /// Zones outside which no name is answered, if there are such.
    within: Option<Suffixes<()>>,
}

impl Authority {
    /// A link that stands for the directive `name`.
    pub fn new(name: &'static str, zones: Arc<Table>, fallthrough: Fallthrough) -> Self {
        Self { name, zones, fallthrough, within: None }
    }

    /// Has only names under `zones` answered, whatever zones there are.
    pub fn within(mut self, zones: impl IntoIterator<Item = NameBuf>) -> Self {
        self.within = Some(Suffixes::new(zones.into_iter().map(|zone| (zone, ()))));
        self
    }

    /// Answers from `zone`; the level's reply is the result. `place`: what the zone's hint gave.
    fn answer(&self, zone: &Zone, place: u32, cx: &mut Cx<'_>) -> Step<()> {
        let dnssec_ok = cx.asked().dnssec_ok;
        let (question, reply) = cx.answer(true);
        let mut outcome = zone.answer_at(place, question, dnssec_ok, reply);
        if matches!(outcome, Outcome::TooLong) && cx.enlarge() {
            let (question, reply) = cx.answer(true);
            outcome = zone.answer_at(place, question, dnssec_ok, reply);
        }
        match outcome {
            Outcome::NxDomain | Outcome::EmptyNonTerminal if self.falls_through(cx) => {
                cx.level_mut().clear_reply();
                Step::Next
            }
            Outcome::Chase { target } => {
                let Question { rtype, rclass, .. } = cx.question();
                cx.ask(target.as_name(), rtype, rclass);
                Step::Ask((), Entry::Top)
            }
            Outcome::Loop => {
                cx.fail(rcode::SERVFAIL, format_args!("a DNAME record leads to itself"));
                Step::Up
            }
            _ => Step::Up,
        }
    }

    fn falls_through(&self, cx: &Cx<'_>) -> bool {
        cx.reply().counts().answer == 0 && self.fallthrough.covers(cx.question().lower)
    }
}

/// In a hint: none of the zones.
const NO_ZONE: u32 = u32::MAX;

/// What became of the question for an alias's target.
fn chased(side: &Level) -> Chased {
    match (side.state, side.rcode()) {
        (ReplyState::Empty | ReplyState::Dropped, _) => Chased::Records,
        (_, rcode::NXDOMAIN) => Chased::NxDomain,
        (_, rcode::SERVFAIL) => Chased::Failed,
        (ReplyState::Written, rcode::NOERROR) if side.reply.counts().answer == 0 => Chased::NoData,
        _ => Chased::Records,
    }
}

impl Plugin for Authority {
    type Frame = ();
    type Local = Reader<Zones>;

    const HINTS: bool = true;

    fn name(&self) -> Option<&'static str> {
        Some(self.name)
    }

    fn transferer(self: &Arc<Self>) -> Option<Arc<dyn Transferer>> {
        Some(Arc::<Self>::clone(self))
    }

    fn local(&self, _core: u16) -> Reader<Zones> {
        self.zones.zones.reader()
    }

    fn refresh(&self, zones: &mut Reader<Zones>) {
        zones.refresh();
    }

    /// Which of the zones it is, above the place that the zone's own hint gave.
    fn hint(&self, zones: &Reader<Zones>, question: Question<'_>) -> u64 {
        let zones = zones.get();
        let Some(position) = zones.position(question.lower) else {
            return u64::from(NO_ZONE) << 32;
        };
        let zone = zones.at(position).and_then(Option::as_ref);
        let place = zone.map_or(0, |zone| zone.hint(question.lower));
        (position as u64) << 32 | u64::from(place)
    }

    fn hint_next(&self, zones: &Reader<Zones>, _question: Question<'_>, hint: u64) {
        if let Some(Some(zone)) = zones.get().at((hint >> 32) as usize) {
            zone.hint_next(hint as u32);
        }
    }

    fn meta_key(&self, label: &str) -> Option<u16> {
        (label == "zone/wildcard").then_some(0)
    }

    fn meta(
        &self,
        zones: &Reader<Zones>,
        cx: &Cx<'_>,
        _key: u16,
        out: &mut dyn fmt::Write,
    ) -> bool {
        let lower = cx.question().lower;
        let zone = zones.get().find(lower).and_then(|(_, zone)| zone.as_ref());
        let Some(wildcard) = zone.and_then(|zone| zone.wildcard(lower)) else { return false };
        let _ = write!(out, "{wildcard}");
        true
    }

    fn serve(&self, zones: &mut Reader<Zones>, cx: &mut Cx<'_>) -> Step<()> {
        let zones = zones.get();
        let Question { lower, rtype, .. } = cx.question();
        if self.within.as_ref().is_some_and(|within| within.find(lower).is_none()) {
            return Step::Next;
        }
        let (zone, place) = match cx.hinted() {
            Some(hint) => (zones.at((hint >> 32) as usize), hint as u32),
            None => (zones.find(lower).map(|(_, zone)| zone), 0),
        };
        match zone {
            None if cx.is_last() => {
                cx.fail(rcode::REFUSED, format_args!(""));
                Step::Up
            }
            None => Step::Next,
            Some(None) => {
                cx.fail(rcode::SERVFAIL, format_args!(""));
                Step::Up
            }
            // Transfers are what `transfer` is for, which stands above.
            Some(_) if matches!(rtype, rtype::AXFR | rtype::IXFR) => {
                cx.fail(rcode::REFUSED, format_args!(""));
                Step::Up
            }
            // A primary has no use for notifications.
            Some(_) if cx.asked().flags.opcode() == opcode::NOTIFY => {
                cx.drop_reply();
                Step::Up
            }
            Some(Some(zone)) => self.answer(zone, place, cx),
        }
    }

    fn resume(&self, zones: &mut Reader<Zones>, cx: &mut Cx<'_>, (): ()) -> Step<()> {
        let zones = zones.get();
        let dnssec_ok = cx.asked().dnssec_ok;
        let (level, side) = cx.both();
        let mut target = NameBuf::root();
        target.set(side.question().name);
        let became = chased(side);
        if side.state == ReplyState::Written {
            // What has no room is left out, and the client asks again over TCP.
            let copied =
                level.reply.append(side.reply.bytes(), |draft| draft.section() == Section::Answer);
            if copied.is_err() {
                let flags = level.reply.flags().with_tc(true);
                level.reply.set_flags(flags);
                return Step::Up;
            }
        }
        let (question, reply) = cx.edit();
        if let Some((_, Some(zone))) = zones.find(question.lower) {
            // The authority section is a courtesy: without room for it the answer stands.
            let _ = zone.after_chase(question, dnssec_ok, target.as_name(), became, reply);
        }
        Step::Up
    }
}

impl Transferer for Authority {
    fn outgoing(&self, name: Name<'_>) -> Offer {
        match self.zones.zones.load().get_exact(name) {
            None => Offer::NotMine,
            Some(None) => Offer::NotReady,
            Some(Some(zone)) => Offer::Zone(Arc::<Zone>::clone(zone)),
        }
    }

    fn serials(&self) -> Vec<(NameBuf, u32)> {
        let zones = self.zones.zones.get();
        let loaded = zones.iter().filter_map(|(name, zone)| Some((name, zone.as_ref()?.serial())));
        loaded.map(|(name, serial)| (NameBuf::lowered(name), serial)).collect()
    }

    fn changes(&self) -> Option<watch::Receiver<()>> {
        Some(self.zones.changed.subscribe())
    }
}

impl Outgoing for Zone {
    fn serial(&self) -> u32 {
        self.soa().serial
    }

    fn fill(&self, cursor: &mut Cursor, message: &mut Envelope<'_>) -> Result<bool, Full> {
        let before = message.records();
        let mut at = AxfrCursor::from_words(cursor.0);
        self.each_from(&mut at, &mut |owner, rtype, ttl, rdata| {
            message.push(owner, rtype, ttl, Rdata::Wire(rdata)).is_ok()
        });
        cursor.0 = at.to_words();
        let stuck = !at.is_done() && message.records() == before;
        if stuck { Err(Full) } else { Ok(at.is_done()) }
    }

    fn soa(&self, message: &mut Envelope<'_>) -> Result<(), Full> {
        let mut written = Err(Full);
        self.each_from(&mut AxfrCursor::default(), &mut |owner, rtype, ttl, rdata| {
            written = message.push(owner, rtype, ttl, Rdata::Wire(rdata));
            false
        });
        written
    }
}
