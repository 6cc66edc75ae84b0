//! What a worker does with messages, whatever they came by (the way of a query, parts 2 to 5).
//!
//! [`Turn`] holds a worker's generations, its one walk, and its parked queries. A batch goes through
//! in phases: parse all; route and hint all; walk and finish all. Memory latency of a big table is
//! then paid once a batch. Nothing here does I/O or reads a clock: a simulation turns it by hand.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::chain::cx::{Client, Core, Detached};
use super::chain::level::{Asked, Place, ReplyState};
use super::chain::step::{Fetch, Fetched};
use super::chain::walk::{Led, Outcome, Walk};
use super::clock::{MILLISECOND, Nanos};
use super::counters::{Counters, ShedCounters};
use super::finish::{Fit, OPT_BYTES, finish, refuse};
use super::generation::Generation;
use super::route;
use super::slot::{Kind, SlotId, Slots};
use super::tally::query::Seen;
use super::transport::Lane;
use crate::cells::Waiter;
use crate::limits::{
    BATCH_DATAGRAMS, DETACHED_MAX, OPT_EXTRA_BYTES_MAX, SHED_PARKED_MAX, TIMERS_STALE_MAX,
    UDP_BYTES_MIN, WALK_NANOS_MAX,
};
use crate::snapshot::Snapshot;
use crate::wire::{
    HEADER_BYTES, Name, NameBuf, QueryView, Question, parse_query, question_end, rclass, rcode,
};

/// Where replies go that are not those of the batch at hand.
pub trait Outlet {
    /// Sends a reply; `more`: others to the same query follow.
    fn deliver(&mut self, client: &Client, message: &[u8], more: bool);
    /// A query gets no reply.
    fn pass(&mut self, client: &Client);
}

/// A query of the batch between its phases.
#[derive(Clone, Copy)]
struct Prepared {
    /// None: the gate has refused it.
    view: Option<QueryView>,
    lower: NameBuf,
    place: Place,
    /// What the leaf's `hint` gave.
    hinted: u32,
}

/// A worker's state of queries.
pub struct Turn {
    /// What is lent to walks.
    pub core: Core,
    /// The worker's own counters.
    pub counters: Counters,
    walk: Walk,
    generations: Vec<Generation>,
    slots: Slots,
    timers: BinaryHeap<Reverse<(Nanos, u32, u32)>>,
    prepared: Vec<Prepared>,
}

impl Turn {
    /// A worker that has adopted its first snapshot.
    pub fn new(core: Core, counters: Counters, snapshot: Arc<Snapshot>) -> Self {
        let first = Generation::adopt(snapshot, core.index, None);
        Self {
            core,
            counters,
            walk: Walk::new(),
            generations: vec![first],
            slots: Slots::new(),
            timers: BinaryHeap::new(),
            prepared: vec![
                Prepared {
                    view: None,
                    lower: NameBuf::root(),
                    place: NOWHERE,
                    hinted: 0
                };
                BATCH_DATAGRAMS
            ],
        }
    }

    /// The generation that new queries are served by.
    pub fn current(&self) -> &Generation {
        self.generations.last().expect("a worker has adopted a snapshot before its first turn")
    }

    /// Adopts a snapshot for new queries; parked ones go on in theirs.
    pub fn adopt(&mut self, snapshot: Arc<Snapshot>) {
        let old = self.generations.last();
        let next = Generation::adopt(snapshot, self.core.index, old);
        self.generations.push(next);
        self.retire();
    }

    /// Takes the newest values of the tables that links read.
    pub fn refresh(&mut self) {
        for generation in &self.generations {
            for (index, block) in generation.snapshot.blocks.iter().enumerate() {
                for (link, this) in block.chain.iter().enumerate() {
                    let local = generation.locals.of(index as u16, link as u16);
                    this.refresh(&mut local.borrow_mut());
                }
            }
        }
    }

    /// Drops generations that nothing is parked in, but for the current one; gives the number of
    /// the oldest that is left.
    pub fn retire(&mut self) -> u64 {
        let current = self.current().snapshot.generation;
        self.generations.retain(|one| one.parked != 0 || one.snapshot.generation == current);
        self.generations[0].snapshot.generation
    }

    /// Queries that wait.
    pub fn parked(&self) -> usize {
        self.slots.len()
    }

    /// Octets that waiting queries hold.
    pub fn parked_bytes(&self) -> usize {
        self.slots.bytes()
    }

    /// When the next parked query has to be woken.
    pub fn next_deadline(&mut self) -> Option<Nanos> {
        while let Some(Reverse((due, slot, use_count))) = self.timers.peek().copied() {
            if self.slots.deadline(SlotId { slot, use_count }) == Some(due) {
                return Some(due);
            }
            self.timers.pop();
        }
        None
    }

    /// Serves a batch of one listener's datagrams: fills in the lanes' outputs.
    pub fn batch(&mut self, lanes: &mut [Lane], outlet: &mut dyn Outlet) {
        for (index, lane) in lanes.iter_mut().enumerate() {
            self.parse(lane, index);
            if self.prepared[index].view.is_none() && lane.output_len == 0 {
                outlet.pass(&lane.client);
            }
        }
        let current = self.generations.last().expect("a worker has adopted a snapshot");
        for (prepared, lane) in self.prepared.iter_mut().zip(lanes.iter()) {
            route_and_hint(current, prepared, &lane.client);
        }
        for prepared in &self.prepared[..lanes.len()] {
            hint_next(current, prepared);
        }
        for (index, lane) in lanes.iter_mut().enumerate() {
            if let Some(view) = self.prepared[index].view {
                self.serve(lane, &view, index, outlet);
            }
        }
        self.run_detached(outlet);
    }

    /// The one gate (part 2): reads the query in place, or answers what is refused.
    fn parse(&mut self, lane: &mut Lane, index: usize) {
        let message = &lane.input[..lane.input_len];
        let prepared = &mut self.prepared[index];
        prepared.view = None;
        prepared.place = NOWHERE;
        lane.output_len = 0;
        lane.timed = None;
        self.core.tally.add(self.counters.queries, 1);
        let view = match parse_query(message) {
            Ok(view) => view,
            Err(refusal) => {
                self.core.tally.add(self.counters.refused, 1);
                if message.len() >= HEADER_BYTES {
                    let end = question_end(message);
                    lane.output_len = refuse(refusal, message, end, &mut lane.output);
                }
                return;
            }
        };
        if let Some(question) = view.question {
            prepared.lower.set(question.name(message));
            prepared.lower.make_lower();
        }
        prepared.view = Some(view);
    }

    /// Parts 4 and 5 for one query of a batch: its reply, if it has one yet, is in the lane.
    fn serve(&mut self, lane: &mut Lane, view: &QueryView, index: usize, outlet: &mut dyn Outlet) {
        if let Some(counters) = self.shed(&lane.client) {
            self.core.tally.add(counters.query, 1);
            outlet.pass(&lane.client);
            return;
        }
        self.walk.open(lane.client, self.core.now);
        std::mem::swap(&mut self.walk.request, &mut lane.input);
        self.walk.request_len = lane.input_len;
        self.walk.client_level().reply.swap_buf(&mut lane.output);
        self.open_question(view, index);
        let generation = self.generations.len() - 1;
        let outcome = match self.prepared[index].place.block {
            Place::NOWHERE => Outcome::Done,
            _ => self.run(generation, |walk, core, generation| walk.start(core, generation)),
        };
        match self.settle(outcome, generation, outlet) {
            Settled::Reply => lane.timed = self.walk.timed,
            Settled::Silent => {
                self.walk.client_level().clear_reply();
                outlet.pass(&lane.client);
            }
            Settled::Parked => self.walk.client_level().clear_reply(),
        }
        lane.output_len = self.walk.client_level().reply.swap_buf(&mut lane.output);
        std::mem::swap(&mut self.walk.request, &mut lane.input);
        self.shrink();
    }

    /// Takes back the large buffers of a walk that is over or parked.
    fn shrink(&mut self) {
        for level in &mut self.walk.levels[..self.walk.used] {
            self.core.large.shrink(&mut level.reply);
        }
    }

    fn open_question(&mut self, view: &QueryView, index: usize) {
        let prepared = &self.prepared[index];
        let plain = Asked {
            id: view.id,
            flags: view.flags,
            udp_size: UDP_BYTES_MIN as u16,
            ..Asked::default()
        };
        let asked = view.opt.map_or(plain, |opt| Asked {
            edns: true,
            udp_size: opt.udp_size,
            dnssec_ok: opt.dnssec_ok(),
            options_at: opt.options_at,
            options_len: opt.options_len,
            ..plain
        });
        let Walk { request, levels, .. } = &mut self.walk;
        let level = &mut levels[0];
        match view.question {
            Some(question) => {
                let name = question.name(request);
                let (rtype, rclass) = (question.rtype, question.rclass);
                level.open_lowered(name, &prepared.lower, rtype, rclass, asked);
            }
            // No question: SERVFAIL, as CoreDNS.
            None => level.open(Name::ROOT, 0, rclass::IN, asked),
        }
        level.place = prepared.place;
        if prepared.place.block == Place::NOWHERE {
            let none = view.question.is_none();
            let code = if none { rcode::SERVFAIL } else { rcode::REFUSED };
            level.state = ReplyState::Failed(code);
            self.core.tally.add(self.counters.dropped, 1);
            self.count_unserved(code);
        }
    }

    /// Counts the client's query among those that no chain saw.
    fn count_unserved(&self, rcode: u16) {
        let (walk, level) = (&self.walk, &self.walk.levels[0]);
        let snapshot = &self.current().snapshot;
        let Some(listener) = snapshot.listener(walk.client.listener) else { return };
        let name = level.question().name.as_bytes().len();
        let opt = if level.asked.edns { OPT_BYTES } else { 0 };
        let seen = Seen {
            stream: walk.client.transport.is_stream(),
            ipv6: walk.client.family() == 2,
            qtype: level.question().rtype,
            dnssec_ok: level.asked.dnssec_ok,
            request_bytes: walk.request_len as u64,
            response_bytes: (HEADER_BYTES + name + 4 + opt) as u64,
            rcode,
            by_plugin: false,
            duration_ns: Some(0),
        };
        listener.unserved.count(&self.core.tally, &seen);
    }

    /// Where a datagram is counted that is dropped, since its listener sheds and too many queries
    /// are waiting. Streams have back-pressure instead.
    fn shed(&self, client: &Client) -> Option<ShedCounters> {
        if self.slots.len() < SHED_PARKED_MAX || client.transport.is_stream() {
            return None;
        }
        self.current().snapshot.listener(client.listener)?.shed
    }

    /// Counts replies of a listener that the kernel refused to send.
    pub fn count_unsent(&self, listener: u32, replies: u64) {
        self.core.tally.add(self.counters.unsent, replies);
        let listener = self.current().snapshot.listener(listener);
        if let Some(counters) = listener.and_then(|listener| listener.shed) {
            self.core.tally.add(counters.response, replies);
        }
    }

    /// Runs a step of the walk; a panic in it is SERVFAIL for this query only, unless the operator
    /// wants to see it end the process (`debug`).
    fn run(
        &mut self,
        generation: usize,
        step: impl FnOnce(&mut Walk, &mut Core, &Generation) -> Outcome,
    ) -> Outcome {
        let (walk, core) = (&mut self.walk, &mut self.core);
        let generation = &self.generations[generation];
        match catch_unwind(AssertUnwindSafe(|| step(walk, core, generation))) {
            Ok(outcome) => outcome,
            Err(_) => {
                let block = walk.levels[walk.depth].place.block;
                if generation.snapshot.blocks.get(block as usize).is_some_and(|one| one.debug) {
                    std::process::abort();
                }
                core.tally.add(self.counters.panics, 1);
                abandon(walk, core);
                walk.frames.clear();
                walk.depth = 0;
                let level = walk.client_level();
                level.clear_reply();
                level.state = ReplyState::Failed(rcode::SERVFAIL);
                self.count_unserved(rcode::SERVFAIL);
                Outcome::Done
            }
        }
    }

    /// Finishes, parks or goes on, as the walk's outcome says.
    fn settle(
        &mut self,
        mut outcome: Outcome,
        generation: usize,
        outlet: &mut dyn Outlet,
    ) -> Settled {
        loop {
            match outcome {
                Outcome::Done => return self.finish(),
                Outcome::Partial => {
                    if self.finish() == Settled::Reply {
                        let client = self.walk.client;
                        outlet.deliver(&client, self.walk.levels[0].reply.bytes(), true);
                    }
                    self.walk.client_level().clear_reply();
                    if self.park(generation, None).is_some() {
                        return Settled::Parked;
                    }
                    self.core.tally.add(self.counters.no_slot, 1);
                    abandon(&mut self.walk, &self.core);
                    return Settled::Silent;
                }
                Outcome::Wait(fetch) => match self.wait(fetch, generation) {
                    Waiting::Parked => return Settled::Parked,
                    Waiting::NoRoom => {
                        self.core.tally.add(self.counters.no_slot, 1);
                        abandon(&mut self.walk, &self.core);
                        let level = self.walk.client_level();
                        level.clear_reply();
                        level.state = ReplyState::Failed(rcode::SERVFAIL);
                        outcome = Outcome::Done;
                    }
                    Waiting::Over(fetched) => {
                        self.walk.fetched = fetched;
                        outcome = self.run(generation, |walk, core, generation| {
                            walk.resume(core, generation)
                        });
                    }
                },
            }
        }
    }

    /// Part 5: fits level 0's reply to the client.
    fn finish(&mut self) -> Settled {
        let keepalive = self.keepalive();
        let Walk { request, request_len, levels, client, over, .. } = &mut self.walk;
        if *over {
            self.core.tally.add(self.counters.over, 1);
        }
        let level = &mut levels[0];
        let full = level.reply.len() + OPT_BYTES + OPT_EXTRA_BYTES_MAX > level.reply.capacity();
        if full && client.transport.is_stream() {
            self.core.large.grow(&mut level.reply);
        }
        let start = level.asked.options_at as usize;
        let end = start + level.asked.options_len as usize;
        let options = request[..*request_len].get(start..end).unwrap_or_default();
        let stream = client.transport.is_stream();
        let fit = Fit { stream, options, keepalive };
        if finish(level, fit) { Settled::Reply } else { Settled::Silent }
    }

    /// The idle time-out that clients on streams are told, in units of 100 ms (RFC 7828).
    fn keepalive(&self) -> u16 {
        let client = &self.walk.client;
        if !client.transport.is_stream() || self.walk.levels[0].asked.options_len == 0 {
            return 0;
        }
        let listener = self.current().snapshot.listener(client.listener);
        let idle = listener.map_or(0, |listener| listener.timeouts.idle);
        u16::try_from(idle / (100 * MILLISECOND)).unwrap_or(u16::MAX)
    }

    fn wait(&mut self, fetch: Fetch, generation: usize) -> Waiting {
        let latest = self.walk.arrived + WALK_NANOS_MAX;
        let due = match fetch {
            Fetch::Sleep(nanos) => self.core.now + nanos,
            Fetch::Join(_, deadline) => deadline,
            Fetch::Exchange(exchange) => exchange.deadline,
        };
        let due = due.min(latest);
        if due <= self.core.now {
            let late = !matches!(fetch, Fetch::Sleep(_));
            return Waiting::Over(if late { Fetched::Late } else { Fetched::Slept });
        }
        let Some(id) = self.park(generation, Some((due, fetch))) else { return Waiting::NoRoom };
        if let Fetch::Join(key, _) = fetch {
            let waiter = Waiter { worker: self.core.index, slot: id.slot, use_count: id.use_count };
            if !self.core.flights.join(key, waiter) {
                self.unpark(id, Fetched::Failed, None);
                return Waiting::Over(Fetched::Failed);
            }
        }
        Waiting::Parked
    }

    fn park(&mut self, generation: usize, wait: Option<(Nanos, Fetch)>) -> Option<SlotId> {
        let cancel_at = self.walk.cancel_at;
        let (due, kind) = match wait {
            Some((due, _)) if cancel_at != 0 && cancel_at < due => (cancel_at, Kind::Cancel),
            Some((due, Fetch::Sleep(_))) => (due, Kind::Sleep),
            Some((due, Fetch::Join(..) | Fetch::Exchange(_))) => (due, Kind::Reply),
            // Progress of the stream, not the query's age, is what bounds it.
            None => (self.core.now + WALK_NANOS_MAX, Kind::Client),
        };
        let number = self.generations[generation].snapshot.generation;
        let id = self.slots.park(&mut self.walk, number, due, kind)?;
        self.generations[generation].parked += 1;
        self.core.tally.add(self.counters.parked, 1);
        if self.timers.len() > 4 * self.slots.len() + TIMERS_STALE_MAX {
            let slots = &self.slots;
            self.timers.retain(|Reverse((due, slot, use_count))| {
                slots.deadline(SlotId { slot: *slot, use_count: *use_count }) == Some(*due)
            });
        }
        self.timers.push(Reverse((due, id.slot, id.use_count)));
        Some(id)
    }

    fn unpark(&mut self, id: SlotId, fetched: Fetched, landed: Option<Arc<[u8]>>) -> Option<usize> {
        let number =
            self.slots.unpark(id, &mut self.walk, (fetched, landed), &mut self.core.large)?;
        let mut generations = self.generations.iter_mut();
        let index = generations.position(|one| one.snapshot.generation == number)?;
        self.generations[index].parked -= 1;
        Some(index)
    }

    /// Wakes the parked queries whose time has come, at most `most` of them.
    pub fn wake_due(&mut self, most: usize, outlet: &mut dyn Outlet) {
        for _ in 0..most {
            match self.next_deadline() {
                Some(due) if due <= self.core.now => {}
                _ => return,
            }
            let Some(Reverse((_, slot, use_count))) = self.timers.pop() else { return };
            let id = SlotId { slot, use_count };
            match self.slots.kind(id) {
                Some(Kind::Sleep) => self.wake(id, Fetched::Slept, None, outlet),
                Some(Kind::Reply) => self.wake(id, Fetched::Late, None, outlet),
                // `cancel`, or a client that took nothing for too long: it ends here.
                Some(Kind::Cancel | Kind::Client) => self.give_up(id, outlet),
                None => {}
            }
        }
    }

    /// Ends a parked query without a reply.
    fn give_up(&mut self, id: SlotId, outlet: &mut dyn Outlet) {
        if self.unpark(id, Fetched::Late, None).is_some() {
            abandon(&mut self.walk, &self.core);
            if !self.walk.detached {
                outlet.pass(&self.walk.client);
            }
        }
    }

    /// Wakes the query that joined a flight, if it still waits.
    pub fn landed(&mut self, waiter: Waiter, message: Option<Arc<[u8]>>, outlet: &mut dyn Outlet) {
        let id = SlotId { slot: waiter.slot, use_count: waiter.use_count };
        let fetched = if message.is_some() { Fetched::Landed } else { Fetched::Failed };
        self.wake(id, fetched, message, outlet);
    }

    /// Goes on with a query that sent one reply of many, as its connection can take the next.
    pub fn writable(&mut self, connection: (u32, u32), outlet: &mut dyn Outlet) {
        if let Some(id) = self.slots.streaming(connection) {
            self.wake(id, Fetched::Nothing, None, outlet);
        }
    }

    fn wake(
        &mut self,
        id: SlotId,
        fetched: Fetched,
        landed: Option<Arc<[u8]>>,
        outlet: &mut dyn Outlet,
    ) {
        let Some(generation) = self.unpark(id, fetched, landed) else { return };
        let outcome = self.run(generation, |walk, core, generation| walk.resume(core, generation));
        let client = self.walk.client;
        match self.settle(outcome, generation, outlet) {
            Settled::Reply if self.walk.detached => {}
            Settled::Reply => {
                self.count_late();
                outlet.deliver(&client, self.walk.levels[0].reply.bytes(), false);
            }
            Settled::Silent if !self.walk.detached => outlet.pass(&client),
            Settled::Silent | Settled::Parked => {}
        }
        self.shrink();
        self.run_detached(outlet);
    }

    /// Counts how long the replies of a batch took, after they were sent: `now` is that time.
    pub fn count_walks(&mut self, lanes: &[Lane], now: Nanos) {
        let took = now.saturating_sub(self.core.now);
        for lane in lanes.iter().filter(|lane| lane.output_len != 0) {
            self.core.tally.latency(self.counters.walk, took);
            if let Some(histogram) = lane.timed {
                self.core.tally.observe(histogram, took);
            }
        }
    }

    /// Counts how long a parked query took.
    fn count_late(&mut self) {
        let took = self.core.now.saturating_sub(self.walk.arrived);
        self.core.tally.latency(self.counters.walk, took);
        if let Some(histogram) = self.walk.timed {
            self.core.tally.observe(histogram, took);
        }
    }

    /// Runs the walks that plugins have asked for without a client.
    fn run_detached(&mut self, outlet: &mut dyn Outlet) {
        for _ in 0..DETACHED_MAX {
            let Some(detached) = self.core.detached.pop() else { return };
            let mut generations = self.generations.iter();
            let asked = |one: &Generation| one.snapshot.generation == detached.generation;
            let generation = generations.position(asked);
            self.walk.open(detached.client, self.core.now);
            self.walk.detached = true;
            self.walk.led = detached.led;
            let Some(generation) = generation else {
                abandon(&mut self.walk, &self.core);
                continue;
            };
            let Detached { name, rtype, rclass, asked, place, .. } = detached;
            self.walk.open_question(name.as_name(), rtype, rclass, asked, place);
            let outcome = self.run(generation, |walk, core, generation| {
                walk.start_detached(core, generation, &detached)
            });
            self.settle(outcome, generation, outlet);
            self.shrink();
        }
    }
}

/// Fails the flights that a walk leads which ends before it can land them.
#[cold]
fn abandon(walk: &mut Walk, core: &Core) {
    for key in walk.led.as_slice() {
        core.flights.land(*key, None);
    }
    walk.led = Led::NONE;
}

const NOWHERE: Place = Place { block: Place::NOWHERE, zone: 0 };

/// What became of a query for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settled {
    /// Level 0 holds the reply to send.
    Reply,
    /// There is none.
    Silent,
    /// It waits.
    Parked,
}

enum Waiting {
    Parked,
    NoRoom,
    Over(Fetched),
}

/// Part 3: finds the block, and has its leaf touch what the answer would read first.
fn route_and_hint(current: &Generation, prepared: &mut Prepared, client: &Client) {
    let Some(at) = prepared.view.and_then(|view| view.question) else { return };
    let lower = prepared.lower.as_name();
    let (rtype, rclass) = (at.rtype, at.rclass);
    let question = Question { name: lower, lower, rtype, rclass };
    prepared.place = route::place(&current.snapshot, client.listener, question);
    let Some(block) = current.snapshot.blocks.get(prepared.place.block as usize) else { return };
    if let Some(link) = block.hinting {
        let local = current.locals.of(prepared.place.block, link).borrow();
        prepared.hinted = block.chain[link as usize].hint(&local, question);
    }
}

/// Has the leaf touch what lies behind its first touch, which has arrived meanwhile.
fn hint_next(current: &Generation, prepared: &Prepared) {
    let Some(at) = prepared.view.and_then(|view| view.question) else { return };
    let Some(block) = current.snapshot.blocks.get(prepared.place.block as usize) else { return };
    if let Some(link) = block.hinting {
        let lower = prepared.lower.as_name();
        let question = Question { name: lower, lower, rtype: at.rtype, rclass: at.rclass };
        let local = current.locals.of(prepared.place.block, link).borrow();
        block.chain[link as usize].hint_next(&local, question, prepared.hinted);
    }
}
