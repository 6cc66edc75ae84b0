//! Channels: sockets and connections to upstreams, which to use, when to open and to close them.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};

use super::network::{ChannelId, Network};
use super::table::{FlightId, Upstreams};
use super::{Carrier, Unreached};
use crate::data::clock::Nanos;
use crate::data::tally::CoreTally;
use crate::limits::{
    BATCH_DATAGRAMS, UPSTREAM_CHANNELS_MAX, UPSTREAM_CONNECTIONS_MAX, UPSTREAM_PIPELINE_MAX,
    UPSTREAM_PIPELINE_WANTED, UPSTREAM_SOCKET_IN_FLIGHT_MAX, UPSTREAM_SOCKET_NANOS_MAX,
    UPSTREAM_SOCKET_QUERIES_MAX, UPSTREAM_SOCKETS_MAX, UPSTREAM_SOCKETS_WANTED,
    UPSTREAM_STREAMS_WANTED,
};

/// A socket or a connection.
pub(super) struct Channel {
    /// Place of its upstream.
    pub known: u32,
    pub stream: bool,
    pub opened: Nanos,
    /// When something was last sent, or last ended.
    pub used: Nanos,
    /// When the latest query was sent that was replied to.
    pub heard: Nanos,
    pub queries: u32,
    /// Queries whose replies did not come in time.
    pub late: u32,
    /// Takes no more queries; closed when nothing is in flight.
    pub retiring: bool,
    /// Replies that came by it.
    pub replies: usize,
    /// What is in flight, by message id.
    pub ids: HashMap<u16, FlightId>,
}

/// The channels of one worker.
pub(super) struct Channels {
    places: Vec<(u32, Option<Channel>)>,
    free: Vec<u32>,
}

impl Channels {
    pub fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }

    /// Channels that are open.
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Places, taken or not.
    pub fn places(&self) -> u32 {
        self.places.len() as u32
    }

    pub fn get(&self, id: ChannelId) -> Option<&Channel> {
        let (use_count, channel) = self.places.get(id.index as usize)?;
        channel.as_ref().filter(|_| *use_count == id.use_count)
    }

    pub fn get_mut(&mut self, id: ChannelId) -> Option<&mut Channel> {
        let (use_count, channel) = self.places.get_mut(id.index as usize)?;
        channel.as_mut().filter(|_| *use_count == id.use_count)
    }

    pub fn at(&self, index: u32) -> Option<&Channel> {
        self.places.get(index as usize)?.1.as_ref()
    }

    pub fn at_mut(&mut self, index: u32) -> Option<&mut Channel> {
        self.places.get_mut(index as usize)?.1.as_mut()
    }

    fn id(&self, index: u32) -> ChannelId {
        ChannelId { index, use_count: self.places[index as usize].0 }
    }

    fn insert(&mut self, channel: Channel) -> Option<ChannelId> {
        if self.len() >= UPSTREAM_CHANNELS_MAX {
            return None;
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            self.places.len() as u32 - 1
        });
        self.places[index as usize].1 = Some(channel);
        Some(self.id(index))
    }

    pub fn remove(&mut self, id: ChannelId) {
        if let Some((use_count, channel)) = self.places.get_mut(id.index as usize)
            && channel.take().is_some()
        {
            *use_count = use_count.wrapping_add(1);
            self.free.push(id.index);
        }
    }
}

impl Upstreams {
    /// A socket for the queries of this turn: one of those that are open, at random, or a new one.
    pub(super) fn pick_socket(
        &mut self,
        place: u32,
        now: Nanos,
        tally: &CoreTally,
        network: &mut dyn Network,
    ) -> Result<ChannelId, Unreached> {
        let room = |channel: &Channel| channel.ids.len() < UPSTREAM_SOCKET_IN_FLIGHT_MAX;
        let known = self.known_at(place).ok_or(Unreached::NoRoom)?;
        let (counters, all) = (known.upstream.counters, known.sockets.len());
        let live = all - self.retiring(&known.sockets);
        if live >= UPSTREAM_SOCKETS_WANTED || all >= UPSTREAM_SOCKETS_MAX {
            let start = self.below(all).ok_or(Unreached::NoRoom)?;
            let known = self.known_at(place).ok_or(Unreached::NoRoom)?;
            let order = (0..all).map(|step| known.sockets[(start + step) % all]);
            let usable = |index: &u32| {
                self.channels.at(*index).is_some_and(|held| !held.retiring && room(held))
            };
            let index = order.clone().find(usable).ok_or(Unreached::NoRoom)?;
            let id = self.channels.id(index);
            if let Some(held) = self.channels.at_mut(index) {
                let aged = now >= held.opened + UPSTREAM_SOCKET_NANOS_MAX;
                // The last query by it: the next turn opens another, if there is room.
                held.retiring = (aged || held.queries >= UPSTREAM_SOCKET_QUERIES_MAX)
                    && all < UPSTREAM_SOCKETS_MAX;
            }
            tally.add(counters.hits[0], 1);
            return Ok(id);
        }
        // Another source port is opened beside those that there are: the query did not need it.
        let counter = if live > 0 { counters.hits[0] } else { counters.misses[0] };
        tally.add(counter, 1);
        self.open(place, false, now, network)
    }

    fn retiring(&self, indexes: &[u32]) -> usize {
        let retiring = |index: &&u32| self.channels.at(**index).is_some_and(|held| held.retiring);
        indexes.iter().filter(retiring).count()
    }

    /// A connection for one query: the one with the fewest in flight, or a new one.
    pub(super) fn pick_connection(
        &mut self,
        place: u32,
        fresh: bool,
        now: Nanos,
        tally: &CoreTally,
        network: &mut dyn Network,
    ) -> Result<ChannelId, Unreached> {
        let known = self.known_at(place).ok_or(Unreached::NoRoom)?;
        let upstream = Arc::clone(&known.upstream);
        let wanted = match upstream.carrier {
            _ if known.alone => 1,
            Carrier::Https(_) => UPSTREAM_STREAMS_WANTED,
            _ => UPSTREAM_PIPELINE_WANTED,
        };
        let (mut best, mut live) = (None, 0);
        for index in 0..known.connections.len() {
            let Some(known) = self.known_at(place) else { break };
            let index = known.connections[index];
            let Some(held) = self.channels.at_mut(index) else { continue };
            let idle = held.ids.is_empty() && now > held.used.saturating_add(upstream.expire);
            let aged = upstream.max_age > 0 && now > held.opened.saturating_add(upstream.max_age);
            held.retiring |= idle || aged;
            live += usize::from(!held.retiring);
            let usable = !(held.retiring || fresh && held.replies > 0);
            let load = held.ids.len();
            if usable && best.is_none_or(|(least, _)| load < least) {
                best = Some((load, index));
            }
        }
        let counters = upstream.counters;
        match best {
            Some((load, index))
                if load < wanted
                    || live >= UPSTREAM_CONNECTIONS_MAX && load < UPSTREAM_PIPELINE_MAX =>
            {
                tally.add(counters.hits[1], 1);
                Ok(self.channels.id(index))
            }
            _ if live >= UPSTREAM_CONNECTIONS_MAX && !fresh => Err(Unreached::NoRoom),
            _ => {
                tally.add(counters.misses[1], 1);
                self.open(place, true, now, network)
            }
        }
    }

    fn open(
        &mut self,
        place: u32,
        stream: bool,
        now: Nanos,
        network: &mut dyn Network,
    ) -> Result<ChannelId, Unreached> {
        let channel = Channel {
            known: place,
            stream,
            opened: now,
            used: now,
            heard: 0,
            queries: 0,
            late: 0,
            retiring: false,
            replies: 0,
            // Twice what a batch puts into it: what has left makes room without the table's growing.
            ids: HashMap::with_capacity(2 * BATCH_DATAGRAMS),
        };
        let id = self.channels.insert(channel).ok_or(Unreached::NoRoom)?;
        let Some(known) = &mut self.known[place as usize] else { return Err(Unreached::NoRoom) };
        if let Err(cause) = network.open(id, &known.upstream, stream) {
            self.channels.remove(id);
            return Err(cause);
        }
        match stream {
            true => known.connections.push(id.index),
            false => known.sockets.push(id.index),
        }
        Ok(id)
    }

    /// The channel in this place, if it is to be closed.
    pub(super) fn expired(&self, index: u32, now: Nanos) -> Option<ChannelId> {
        let held = self.channels.at(index)?;
        let known = self.known_at(held.known)?;
        let upstream = &known.upstream;
        if !held.ids.is_empty() {
            return None;
        }
        let idle = now >= held.used.saturating_add(upstream.expire);
        let aged = upstream.max_age > 0 && now >= held.opened.saturating_add(upstream.max_age);
        let surplus = held.stream && upstream.max_idle > 0 && {
            let quiet =
                |index: &&u32| self.channels.at(**index).is_some_and(|other| other.ids.is_empty());
            known.connections.iter().filter(quiet).count() > upstream.max_idle
        };
        (held.retiring || idle || aged && held.stream || surplus).then(|| self.channels.id(index))
    }
}
