//! What becomes of queries that ask upstreams: sent, sent again, hedged, answered, given up.
//!
//! A query in flight waits in a slot like any other; the slot knows its flights, and whatever ends
//! its wait forgets them (`Turn::unpark`). To send a query again, or to a second upstream, it is lifted
//! out of its slot, composed anew from its level, and parked again: nothing has to keep its octets.

use super::{Outlet, Turn, Waiting};
use crate::data::chain::Exchange;
use crate::data::chain::cx::Core;
use crate::data::chain::step::Fetched;
use crate::data::chain::walk::Walk;
use crate::data::clock::Nanos;
use crate::data::slot::{Kind, SlotId};
use crate::data::upstream::Unreached;
use crate::data::upstream::compose::{cut_short, restore_case};
use crate::data::upstream::network::ChannelId;
use crate::data::upstream::table::{Arrived, End, FlightId, Manner, Sending};
use crate::limits::{TURN_UPSTREAM_ROUNDS_MAX, WALK_NANOS_MAX};

impl Turn {
    /// Has the walk wait for an exchange.
    pub(super) fn wait_exchange(
        &mut self,
        exchange: Exchange,
        generation: usize,
        outlet: &mut dyn Outlet,
    ) -> Waiting {
        if self.end_of(&exchange) <= self.core.now {
            return Waiting::Over(Fetched::Late);
        }
        let (due, kind) = self.due_of(&exchange, false);
        let Some(id) = self.park(generation, due, kind) else { return Waiting::NoRoom };
        if let Err(cause) = self.begin(exchange, id, Manner::default(), outlet) {
            self.unpark(id, Fetched::Nothing, None);
            return Waiting::Over(Fetched::Unreached(cause));
        }
        Waiting::Parked
    }

    /// When the wait for an exchange ends at the latest.
    fn end_of(&self, exchange: &Exchange) -> Nanos {
        exchange.deadline.min(self.walk.arrived + WALK_NANOS_MAX)
    }

    /// When the query in the walk is to be woken, and for what.
    fn due_of(&self, exchange: &Exchange, hedged: bool) -> (Nanos, Kind) {
        let end = self.end_of(exchange);
        match exchange.hedge {
            Some((_, after)) if !hedged && after < end => (after, Kind::Hedge),
            _ => (end, Kind::Reply),
        }
    }

    /// Sends the question of the walk's level, for the query that has just been parked in this slot.
    fn begin(
        &mut self,
        exchange: Exchange,
        slot: SlotId,
        manner: Manner,
        outlet: &mut dyn Outlet,
    ) -> Result<(), Unreached> {
        let network = outlet.network().ok_or(Unreached::NoRoom)?;
        let Walk { levels, depth, request, request_end, .. } = &self.walk;
        let sending = Sending {
            level: &levels[*depth],
            request: &request[..*request_end],
            exchange,
            slot,
            manner,
            now: self.core.now,
        };
        let flight = self.core.upstreams.begin(&sending, &self.core.tally, network)?;
        self.pace.asked();
        let [first, _] = self.slots.flights(slot);
        self.slots.set_flights(
            slot,
            if first.is_none() { [Some(flight), None] } else { [first, Some(flight)] },
        );
        Ok(())
    }

    /// How the wait of a query ends whose deadline has passed.
    pub(super) fn lateness(&self, id: SlotId) -> Fetched {
        let flights = self.slots.flights(id).into_iter().flatten();
        let seen = flights.filter_map(|flight| self.core.upstreams.seen(flight)).next();
        seen.map_or(Fetched::Late, Fetched::Unreached)
    }

    /// Asks the second upstream too.
    pub(super) fn hedge(&mut self, id: SlotId, outlet: &mut dyn Outlet) {
        let [first, _] = self.slots.flights(id);
        let Some(exchange) = first.and_then(|first| self.core.upstreams.exchange(first)) else {
            return self.wake(id, Fetched::Late, None, outlet);
        };
        // That the second cannot be asked does not end the wait for the first.
        let _ = self.send_again(id, exchange, Manner { hedge: true, ..Manner::default() }, outlet);
    }

    /// Sends the query of a slot once more, beside what it has in flight.
    fn send_again(
        &mut self,
        id: SlotId,
        exchange: Exchange,
        manner: Manner,
        outlet: &mut dyn Outlet,
    ) -> Result<(), (SlotId, Unreached)> {
        let flights = self.slots.flights(id);
        let hedged = manner.hedge || self.slots.kind(id) != Some(Kind::Hedge);
        let Some(generation) = self.lift(id, Fetched::Nothing, None) else { return Ok(()) };
        let (due, kind) = self.due_of(&exchange, hedged);
        // The slot and the blocks that it has just left are free.
        let Some(id) = self.park(generation, due, kind) else { return Ok(()) };
        for flight in flights.into_iter().flatten() {
            self.core.upstreams.set_slot(flight, id);
        }
        self.slots.set_flights(id, flights);
        let begun = self.begin(exchange, id, manner, outlet).map_err(|cause| (id, cause));
        self.shrink();
        begun
    }

    /// A message came by a channel to an upstream: its first `len` octets; where `len` is more than
    /// there are, the rest did not fit. Gives back memory of the same length.
    pub fn arrived(
        &mut self,
        channel: ChannelId,
        message: &mut Box<[u8]>,
        len: usize,
        outlet: &mut dyn Outlet,
    ) {
        let read = len.min(message.len());
        let whole = read == len;
        self.pace.heard();
        let upstreams = &mut self.core.upstreams;
        match upstreams.arrived(channel, &message[..read], &self.core.tally) {
            Arrived::Reply(flight, slot) => {
                let len = if whole { len } else { cut_short(message) };
                self.replied(flight, slot, (message, len), outlet);
            }
            other => self.act(other, outlet),
        }
    }

    /// Goes on with the query of a flight that was replied to.
    fn replied(
        &mut self,
        flight: FlightId,
        slot: SlotId,
        (message, len): (&mut Box<[u8]>, usize),
        outlet: &mut dyn Outlet,
    ) {
        let answered_by = self.core.upstreams.asked(flight);
        self.core.upstreams.observe(flight, self.core.now, &self.core.tally);
        let Some(generation) = self.unpark(slot, Fetched::Message, None) else {
            let Core { upstreams, now, tally, .. } = &mut self.core;
            return upstreams.forget(flight, End::Over, *now, tally);
        };
        std::mem::swap(&mut self.walk.message, message);
        self.walk.message_len = len;
        self.walk.answered_by = answered_by;
        let Walk { message: reply, levels, depth, .. } = &mut self.walk;
        restore_case(&mut reply[..len], levels[*depth].question().name);
        self.guarded(generation, outlet, |turn, outlet| turn.resume(generation, outlet));
        std::mem::swap(&mut self.walk.message, message);
        self.walk.message_len = 0;
        self.run_detached(outlet);
    }

    /// Does what is to be done about a flight.
    fn act(&mut self, arrived: Arrived, outlet: &mut dyn Outlet) {
        match arrived {
            Arrived::Ignored | Arrived::Reply(..) => {}
            Arrived::Again(flight, slot, manner) => {
                let exchange = self.core.upstreams.exchange(flight);
                self.drop_flight(flight, slot, End::Over);
                let Some(exchange) = exchange else { return };
                if let Err((id, cause)) = self.send_again(slot, exchange, manner, outlet) {
                    self.unreached(id, cause, outlet);
                }
            }
            Arrived::Failed(flight, slot, cause) => {
                self.drop_flight(flight, slot, End::Unreached);
                self.unreached(slot, cause, outlet);
            }
        }
    }

    /// Forgets a flight whose query waits on.
    fn drop_flight(&mut self, flight: FlightId, slot: SlotId, end: End) {
        self.core.upstreams.forget(flight, end, self.core.now, &self.core.tally);
        let mut flights = self.slots.flights(slot);
        if flights[0] == Some(flight) {
            flights.swap(0, 1);
        }
        if flights[1] == Some(flight) {
            flights[1] = None;
        }
        self.slots.set_flights(slot, flights);
    }

    /// Wakes a query that has lost a flight, unless it waits for another one.
    fn unreached(&mut self, slot: SlotId, cause: Unreached, outlet: &mut dyn Outlet) {
        if self.slots.flights(slot) == [None; 2] {
            self.wake(slot, Fetched::Unreached(cause), None, outlet);
        }
    }

    /// One query of a channel failed: the one with this message id.
    pub fn failed(
        &mut self,
        channel: ChannelId,
        id: u16,
        cause: Unreached,
        outlet: &mut dyn Outlet,
    ) {
        let failed = self.core.upstreams.failed(channel, id, cause);
        self.act(failed, outlet);
    }

    /// A channel has failed: it is closed, and its queries are told or sent again.
    pub fn lost(&mut self, channel: ChannelId, cause: Unreached, outlet: &mut dyn Outlet) {
        loop {
            let Some(network) = outlet.network() else { return };
            let upstreams = &mut self.core.upstreams;
            match upstreams.next_lost(channel, cause, &self.core.tally, network) {
                Arrived::Ignored => return,
                one => self.act(one, outlet),
            }
        }
    }

    /// Sends what is to be asked by datagrams, tells who cannot be, and looks for idle channels now and
    /// then. At the end of every turn. `true`: there is more to do at once.
    pub fn flush_upstreams(&mut self, outlet: &mut dyn Outlet) -> bool {
        for _ in 0..TURN_UPSTREAM_ROUNDS_MAX {
            let Some(network) = outlet.network() else { return false };
            self.core.upstreams.flush(network);
            let Some((channel, cause)) = self.core.upstreams.take_lost() else {
                self.core.upstreams.sweep(self.core.now, network);
                return false;
            };
            self.lost(channel, cause, outlet);
        }
        true
    }
}
