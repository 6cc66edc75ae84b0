//! The upstreams that a worker has met, its channels to them, and what is in flight.
//!
//! No I/O and no clock here: channels are opened, used and closed by way of a [`Network`]; times
//! are handed down. A query in flight is a [`Flight`]: its slot, its id on one channel, and the
//! fingerprint of its question. The turn begins flights, is told what comes back, and forgets a
//! flight whenever its query goes on, whatever the cause; so no id outlives its query.
//!
//! - UDP: as many connected sockets as [`UPSTREAM_SOCKETS_WANTED`], opened as they are used and
//!   replaced by age and use. The queries of a turn to one upstream go by one of them, chosen at
//!   random, in one batch; so do the replies to it.
//! - Streams: connections are shared by queries in flight ("pipelined", RFC 7766 section 6.2.1.1).
//!   An upstream that closes a connection with more queries outstanding than it has answered there
//!   does not know this: from then on a connection carries one query at a time. One that has
//!   answered more may have its reasons, and what it leaves is asked again (section 6.2.4).
//!
//! Cost of an exchange by UDP: no allocation and no system call of its own in the steady state.

use std::net::SocketAddr;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};

use super::channel::{Channel, Channels};
use super::compose::{Fingerprint, Judged, Keys, compose, judge};
use super::network::{ChannelId, Network, Queries};
use super::secret::Secrets;
use super::{Unreached, Upstream};
use crate::data::chain::{Exchange, Level};
use crate::data::clock::Nanos;
use crate::data::slot::SlotId;
use crate::data::tally::CoreTally;
use crate::limits::{
    BATCH_DATAGRAMS, UPSTREAM_BATCH_BYTES, UPSTREAM_CASE_LOST_MAX, UPSTREAM_FLIGHTS_KEPT,
    UPSTREAM_IN_FLIGHT_MAX, UPSTREAM_PIPELINE_MAX, UPSTREAM_PLAIN_NANOS,
    UPSTREAM_SOCKET_IN_FLIGHT_MAX, UPSTREAM_STREAMS_LATE_MAX, UPSTREAM_SWEEP_NANOS,
};

/// An upstream and this worker's view of it.
pub(super) struct Known {
    pub upstream: Arc<Upstream>,
    /// Places of its UDP sockets and of its connections.
    pub sockets: Vec<u32>,
    pub connections: Vec<u32>,
    /// The socket of this turn, and the queries that go out by it.
    current: Option<ChannelId>,
    queries: Queries,
    pub in_flight: u32,
    pub used: Nanos,
    /// Replies in a row that lost the case; until when no case is mixed.
    case_lost: u8,
    plain_until: Nanos,
    /// The upstream does not take several queries on one connection.
    pub alone: bool,
}

/// A query in flight.
#[derive(Clone, Copy)]
pub struct Flight {
    slot: SlotId,
    channel: u32,
    id: u16,
    print: Fingerprint,
    exchange: Exchange,
    sent: Nanos,
    manner: Manner,
    /// What came under its id and was not its reply.
    seen: Option<Unreached>,
}

/// How a query is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// It is sent again: not for a third time.
    pub again: bool,
    /// On a connection that was not used before.
    pub fresh: bool,
    /// Without mixed case, which the upstream has lost.
    pub plain: bool,
    /// To the second upstream of its exchange.
    pub hedge: bool,
}

/// Where a flight is.
pub type FlightId = u32;

/// What to do about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrived {
    /// Nothing: it is counted.
    Ignored,
    /// It is the reply of this flight, to be handed to its slot.
    Reply(FlightId, SlotId),
    /// The flight is to be sent again in this manner.
    Again(FlightId, SlotId, Manner),
    /// It ends this flight.
    Failed(FlightId, SlotId, Unreached),
}

/// How a flight ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With a reply, or nobody waits for one any more.
    Over,
    /// Without a reply in time.
    Late,
    /// Without a reply that could be had: refused, closed, no message.
    Unreached,
}

/// What is sent, and for whom.
pub(in crate::data) struct Sending<'a> {
    /// The level whose question is asked.
    pub level: &'a Level,
    /// The client's message, for its options.
    pub request: &'a [u8],
    /// Who is asked, until when.
    pub exchange: Exchange,
    /// The query that waits.
    pub slot: SlotId,
    /// How.
    pub manner: Manner,
    /// The time.
    pub now: Nanos,
}

/// A worker's upstreams.
pub struct Upstreams {
    by_id: HashMap<u32, u32>,
    pub(super) known: Vec<Option<Known>>,
    pub(super) channels: Channels,
    flights: Vec<Option<Flight>>,
    free: Vec<FlightId>,
    /// Upstreams with queries that have not gone out.
    unsent: Vec<u32>,
    /// Channels that have failed, whose flights are still to be told.
    lost: Vec<(ChannelId, Unreached)>,
    secrets: Secrets,
    keys: Keys,
    one: Vec<u8>,
    swept: Nanos,
}

impl Upstreams {
    /// What metrics call an upstream.
    pub fn label(&self, id: u32) -> Option<&str> {
        let place = *self.by_id.get(&id)? as usize;
        Some(&self.known.get(place)?.as_ref()?.upstream.label)
    }

    /// None met.
    pub fn new() -> Self {
        Self {
            by_id: HashMap::new(),
            known: Vec::new(),
            channels: Channels::new(),
            flights: Vec::new(),
            free: Vec::new(),
            unsent: Vec::new(),
            lost: Vec::new(),
            secrets: Secrets::new(),
            keys: Keys::default(),
            one: Vec::new(),
            swept: 0,
        }
    }

    /// Makes an upstream known to the worker.
    pub fn meet(&mut self, upstream: &Arc<Upstream>) {
        if self.by_id.contains_key(&upstream.id) {
            return;
        }
        let vacant = self.known.iter().position(Option::is_none);
        let place = vacant.unwrap_or_else(|| {
            self.known.push(None);
            self.known.len() - 1
        });
        self.known[place] = Some(Known {
            upstream: Arc::clone(upstream),
            sockets: Vec::new(),
            connections: Vec::new(),
            current: None,
            queries: Queries::default(),
            in_flight: 0,
            used: 0,
            case_lost: 0,
            plain_until: 0,
            alone: false,
        });
        self.by_id.insert(upstream.id, place as u32);
    }

    /// Queries in flight, those of a hedge counted twice.
    pub fn in_flight(&self) -> usize {
        self.flights.len() - self.free.len()
    }

    /// Channels that are open.
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// Whether something is in flight on the channel in this place.
    pub fn is_busy(&self, index: u32) -> bool {
        self.channels.at(index).is_some_and(|channel| !channel.ids.is_empty())
    }

    /// Composes a query and sends it, or has it wait for the end of the turn.
    pub(in crate::data) fn begin(
        &mut self,
        sending: &Sending<'_>,
        tally: &CoreTally,
        network: &mut dyn Network,
    ) -> Result<FlightId, Unreached> {
        let Sending { exchange, manner, now, .. } = *sending;
        let wanted = match exchange.hedge {
            Some((second, _)) if manner.hedge => second,
            _ => exchange.upstream,
        };
        let place = *self.by_id.get(&wanted).ok_or(Unreached::NoRoom)?;
        let begun = self.begin_at(place, sending, tally, network);
        let Some(known) = &mut self.known[place as usize] else { return Err(Unreached::NoRoom) };
        let counters = &known.upstream.counters;
        match begun {
            Ok(_) => {
                known.in_flight += 1;
                known.used = now;
                known.upstream.cells.sent(now);
                if manner.hedge {
                    tally.add(counters.hedged, 1);
                }
            }
            Err(Unreached::NoRoom) => tally.add(counters.bounded, 1),
            Err(_) => tally.add(counters.unreached, 1),
        }
        begun
    }

    fn begin_at(
        &mut self,
        place: u32,
        sending: &Sending<'_>,
        tally: &CoreTally,
        network: &mut dyn Network,
    ) -> Result<FlightId, Unreached> {
        let Sending { level, request, exchange, manner, now, .. } = *sending;
        let known = self.known[place as usize].as_ref().ok_or(Unreached::NoRoom)?;
        if known.in_flight >= UPSTREAM_IN_FLIGHT_MAX {
            return Err(Unreached::NoRoom);
        }
        let stream = known.upstream.is_stream(exchange.stream);
        let channel = match (stream, known.current) {
            (false, Some(current)) => self.reuse(current, tally),
            (false, None) => self.pick_socket(place, now, tally, network)?,
            (true, _) => self.pick_connection(place, manner.fresh, now, tally, network)?,
        };
        let secret = self.secrets.take().ok_or(Unreached::NoRoom)?;
        let held = self.channels.get_mut(channel).ok_or(Unreached::NoRoom)?;
        let id = free_id(held, secret as u16, &mut self.secrets)?;
        let known = self.known[place as usize].as_mut().ok_or(Unreached::NoRoom)?;
        let mixes = known.upstream.mixes_case() && now >= known.plain_until;
        let mixes = mixes && !stream && !manner.plain;
        let mix = if mixes { Some(self.secrets.take().ok_or(Unreached::NoRoom)?) } else { None };
        let out = if stream { &mut self.one } else { &mut known.queries.bytes };
        let start = if stream { 0 } else { out.len() };
        out.truncate(start);
        let print = compose(level, request, id, mix, &self.keys, out);
        if stream {
            network.ask(channel, &self.one)?;
        } else {
            let end = out.len();
            known.queries.parts.push(start as u32..end as u32);
            if known.queries.len() == 1 {
                known.current = Some(channel);
                self.unsent.push(place);
            }
            if known.queries.len() == BATCH_DATAGRAMS || end > UPSTREAM_BATCH_BYTES {
                self.send(place, network);
            }
        }
        let plain = mix.is_none();
        let flight = Flight {
            slot: sending.slot,
            channel: channel.index,
            id,
            print,
            exchange,
            sent: now,
            manner: Manner { plain, ..manner },
            seen: None,
        };
        let at = self.place_flight(flight);
        if let Some(held) = self.channels.get_mut(channel) {
            held.ids.insert(id, at);
            held.queries += 1;
            held.used = now;
        }
        Ok(at)
    }

    /// Goes on with the socket of the turn.
    fn reuse(&self, channel: ChannelId, tally: &CoreTally) -> ChannelId {
        let known = self.channels.at(channel.index).and_then(|held| self.known_at(held.known));
        if let Some(known) = known {
            tally.add(known.upstream.counters.hits[0], 1);
        }
        channel
    }

    pub(super) fn known_at(&self, place: u32) -> Option<&Known> {
        self.known.get(place as usize)?.as_ref()
    }

    fn place_flight(&mut self, flight: Flight) -> FlightId {
        match self.free.pop() {
            Some(at) => {
                self.flights[at as usize] = Some(flight);
                at
            }
            None => {
                self.flights.push(Some(flight));
                self.flights.len() as FlightId - 1
            }
        }
    }

    /// A random number below `bound`.
    pub(super) fn below(&mut self, bound: usize) -> Option<usize> {
        let secret = self.secrets.take()?;
        Some(((u128::from(secret) * bound as u128) >> 64) as usize)
    }

    /// Sends what one upstream is to be asked by UDP.
    fn send(&mut self, place: u32, network: &mut dyn Network) {
        let Some(known) = &mut self.known[place as usize] else { return };
        let Some(channel) = known.current.take() else { return };
        let sent = network.send(channel, &known.queries);
        known.queries.clear();
        self.unsent.retain(|other| *other != place);
        if let Err(cause) = sent {
            self.lost.push((channel, cause));
        }
    }

    /// Sends what waits to be sent. At the end of every turn.
    pub fn flush(&mut self, network: &mut dyn Network) {
        while let Some(place) = self.unsent.last().copied() {
            self.send(place, network);
        }
    }

    /// A channel that has failed since the last look.
    pub fn take_lost(&mut self) -> Option<(ChannelId, Unreached)> {
        self.lost.pop()
    }

    /// Whether channels have failed whose flights are to be told.
    pub fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    /// Judges a message that came by a channel.
    pub fn arrived(&mut self, channel: ChannelId, message: &[u8], tally: &CoreTally) -> Arrived {
        let Some(held) = self.channels.get(channel) else { return Arrived::Ignored };
        let Some(known) = self.known_at(held.known) else { return Arrived::Ignored };
        let counters = known.upstream.counters;
        let Some((id, _)) = message.split_first_chunk::<2>() else {
            tally.add(counters.garbage, 1);
            return Arrived::Ignored;
        };
        let (place, stream) = (held.known as usize, held.stream);
        let Some(at) = held.ids.get(&u16::from_be_bytes(*id)).copied() else {
            tally.add(counters.unasked, 1);
            return Arrived::Ignored;
        };
        let Some(flight) = &mut self.flights[at as usize] else { return Arrived::Ignored };
        let slot = flight.slot;
        let judged = judge(message, &flight.print, &self.keys);
        let cause = match judged {
            Judged::Reply => {
                self.good(place, channel, at);
                return Arrived::Reply(at, slot);
            }
            Judged::CaseLost if flight.manner.plain || stream => {
                self.good(place, channel, at);
                return Arrived::Reply(at, slot);
            }
            Judged::CaseLost => {
                tally.add(counters.case, 1);
                let manner = Manner { again: true, plain: true, ..flight.manner };
                if !flight.manner.again {
                    tally.add(counters.unmixed, 1);
                    return Arrived::Again(at, slot, manner);
                }
                return Arrived::Ignored;
            }
            Judged::Other => {
                tally.add(counters.question, 1);
                Unreached::Mismatched
            }
            Judged::Garbage => {
                tally.add(counters.garbage, 1);
                Unreached::Malformed
            }
        };
        // On a stream nobody else can have written it, so nothing better will come. In a datagram
        // anybody may have: the wait goes on.
        if stream {
            return Arrived::Failed(at, slot, cause);
        }
        // What has no header cannot tell that it is a message at all.
        if message.len() >= crate::wire::HEADER_BYTES {
            flight.seen = Some(cause);
        }
        Arrived::Ignored
    }

    /// Notes that the upstream replied.
    fn good(&mut self, place: usize, channel: ChannelId, at: FlightId) {
        let Some(flight) = self.flights[at as usize] else { return };
        if let Some(held) = self.channels.get_mut(channel) {
            held.replies += 1;
            held.heard = flight.sent.max(held.heard);
        }
        let Some(known) = &mut self.known[place] else { return };
        if !flight.manner.plain {
            known.case_lost = 0;
        } else if flight.manner.again {
            // It replies at once when it is asked plainly: it does not keep the case.
            known.case_lost += 1;
            if known.case_lost >= UPSTREAM_CASE_LOST_MAX {
                known.case_lost = 0;
                known.plain_until = flight.sent + UPSTREAM_PLAIN_NANOS;
            }
        }
    }

    /// Ends one flight of a channel without a reply.
    pub fn failed(&self, channel: ChannelId, id: u16, cause: Unreached) -> Arrived {
        let at = self.channels.get(channel).and_then(|held| held.ids.get(&id)).copied();
        match at.and_then(|at| Some((at, self.flights[at as usize]?.slot))) {
            Some((at, slot)) => Arrived::Failed(at, slot, cause),
            None => Arrived::Ignored,
        }
    }

    /// Closes a channel that has failed, flight by flight: what is to be done about one of them;
    /// `Ignored` when there is none left.
    pub fn next_lost(
        &mut self,
        channel: ChannelId,
        cause: Unreached,
        tally: &CoreTally,
        network: &mut dyn Network,
    ) -> Arrived {
        let Some(held) = self.channels.get_mut(channel) else { return Arrived::Ignored };
        held.retiring = true;
        let pooled = held.stream && held.replies > 0 && cause == Unreached::Closed;
        let Some((_, at)) = held.ids.iter().next() else {
            self.close(channel, network);
            return Arrived::Ignored;
        };
        let (at, place) = (*at, held.known as usize);
        let baffled = held.ids.len() > held.replies.max(1);
        let Some(flight) = &self.flights[at as usize] else { return Arrived::Ignored };
        let (slot, manner) = (flight.slot, flight.manner);
        // What has not gone out will not go out by this one.
        if let Some(known) = &mut self.known[place]
            && known.current == Some(channel)
        {
            known.current = None;
            known.queries.clear();
            self.unsent.retain(|other| *other as usize != place);
        }
        if pooled && !manner.again {
            if let Some(known) = &mut self.known[place] {
                known.alone |= baffled && !known.upstream.is_https();
                tally.add(known.upstream.counters.reconnected, 1);
            }
            return Arrived::Again(at, slot, Manner { again: true, fresh: true, ..manner });
        }
        Arrived::Failed(at, slot, cause)
    }

    /// Notes that the connections of a channel's upstream carry one query at a time.
    pub fn carries_one(&mut self, channel: ChannelId) {
        let Some(held) = self.channels.get(channel) else { return };
        if let Some(known) = &mut self.known[held.known as usize] {
            known.alone = true;
        }
    }

    /// Where the upstream with this id listens, if it has been met.
    pub fn address(&self, upstream: u32) -> Option<SocketAddr> {
        let mut known = self.known.iter().flatten();
        known.find(|known| known.upstream.id == upstream).map(|known| known.upstream.address)
    }

    /// The id of the upstream that a flight asks.
    pub fn asked(&self, at: FlightId) -> u32 {
        let flight = self.flights.get(at as usize).and_then(Option::as_ref);
        let held = flight.and_then(|flight| self.channels.at(flight.channel));
        held.and_then(|held| self.known_at(held.known)).map_or(0, |known| known.upstream.id)
    }

    /// What came instead of a flight's reply.
    pub fn seen(&self, at: FlightId) -> Option<Unreached> {
        self.flights.get(at as usize)?.as_ref()?.seen
    }

    /// The exchange that a flight is of.
    pub fn exchange(&self, at: FlightId) -> Option<Exchange> {
        Some(self.flights.get(at as usize)?.as_ref()?.exchange)
    }

    /// Says that the query of a flight waits in another slot now.
    pub fn set_slot(&mut self, at: FlightId, slot: SlotId) {
        if let Some(flight) = self.flights.get_mut(at as usize).and_then(Option::as_mut) {
            flight.slot = slot;
        }
    }

    /// Takes the time of a reply.
    pub fn observe(&self, at: FlightId, now: Nanos, tally: &CoreTally) {
        let Some(flight) = self.flights.get(at as usize).and_then(Option::as_ref) else { return };
        let held = self.channels.at(flight.channel);
        if let Some(known) = held.and_then(|held| self.known_at(held.known)) {
            let took = now.saturating_sub(flight.sent);
            known.upstream.cells.observe(took, now);
            tally.latency(known.upstream.counters.duration, took);
        }
    }

    /// Forgets a flight, which has ended in this way.
    pub fn forget(&mut self, at: FlightId, end: End, now: Nanos, tally: &CoreTally) {
        let Some(flight) = self.flights.get_mut(at as usize).and_then(Option::take) else { return };
        self.free.push(at);
        let Some(held) = self.channels.at_mut(flight.channel) else { return };
        held.ids.remove(&flight.id);
        held.used = now;
        let known = self.known.get_mut(held.known as usize).and_then(Option::as_mut);
        if end == End::Late && held.stream {
            held.late += 1;
            // A connection by which nothing has come since may lead nowhere any more; what HTTP/2 has
            // not answered keeps its stream, of which there are not many.
            let is_https = matches!(&known, Some(known) if known.upstream.is_https());
            held.retiring |=
                held.heard <= flight.sent || is_https && held.late >= UPSTREAM_STREAMS_LATE_MAX;
        }
        if let Some(known) = known {
            known.in_flight -= 1;
            known.upstream.cells.ended();
            match end {
                End::Over => {}
                End::Late => tally.add(known.upstream.counters.late, 1),
                End::Unreached => tally.add(known.upstream.counters.unreached, 1),
            }
        }
    }

    /// When to look for idle channels next, if there are channels.
    pub fn next_sweep(&self) -> Option<Nanos> {
        (self.channels.len() > 0).then_some(self.swept + UPSTREAM_SWEEP_NANOS)
    }

    /// Closes what has been idle for too long; forgets upstreams that nobody else knows.
    pub fn sweep(&mut self, now: Nanos, network: &mut dyn Network) {
        if now < self.swept + UPSTREAM_SWEEP_NANOS {
            return;
        }
        self.swept = now;
        for index in 0..self.channels.places() {
            if let Some(channel) = self.expired(index, now) {
                self.close(channel, network);
            }
        }
        if self.in_flight() == 0 && self.flights.capacity() > UPSTREAM_FLIGHTS_KEPT {
            // What a silent upstream has made of it.
            (self.flights, self.free) = (Vec::new(), Vec::new());
        }
        for place in 0..self.known.len() {
            let Some(known) = &self.known[place] else { continue };
            let idle = known.sockets.is_empty() && known.connections.is_empty();
            let unused = now >= known.used.saturating_add(known.upstream.expire);
            if idle && unused && known.in_flight == 0 && Arc::strong_count(&known.upstream) == 1 {
                self.by_id.remove(&known.upstream.id);
                self.known[place] = None;
            }
        }
    }

    /// Closes a channel on which nothing is in flight.
    pub(super) fn close(&mut self, channel: ChannelId, network: &mut dyn Network) {
        let Some(held) = self.channels.get(channel) else { return };
        if let Some(known) = &mut self.known[held.known as usize] {
            known.sockets.retain(|index| *index != channel.index);
            known.connections.retain(|index| *index != channel.index);
        }
        self.channels.remove(channel);
        network.close(channel);
    }
}

/// An id that no query in flight on the channel has; `id` if it is free.
fn free_id(channel: &Channel, mut id: u16, secrets: &mut Secrets) -> Result<u16, Unreached> {
    // The bounds of queries a channel leave most ids free.
    for _ in 0..64 {
        if !channel.ids.contains_key(&id) {
            return Ok(id);
        }
        id = secrets.take().ok_or(Unreached::NoRoom)? as u16;
    }
    Err(Unreached::NoRoom)
}

const _: () = assert!(UPSTREAM_SOCKET_IN_FLIGHT_MAX <= 1 << 14 && UPSTREAM_PIPELINE_MAX <= 1 << 14);

impl Default for Upstreams {
    fn default() -> Self {
        Self::new()
    }
}
