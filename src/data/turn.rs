//! What a worker does with messages, whatever they came by (the way of a query, parts 2 to 5).
//!
//! [`Turn`] holds a worker's generations, its one walk, and its parked queries. `batch.rs` is what it
//! does with those that have come; here stands what becomes of a walk: it is finished, parked, woken.
//! Nothing here does I/O or reads a clock: a simulation turns it by hand.

mod batch;
mod exchange;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::chain::cx::{Client, Core, Detached};
use super::chain::level::{Place, ReplyState};
use super::chain::step::{Fetch, Fetched};
use super::chain::walk::{Led, Outcome, Walk};
use super::clock::{self, MILLISECOND, Nanos};
use super::counters::Counters;
use super::finish::{Fit, OPT_BYTES, finish};
use super::generation::Generation;
use super::slot::{Kind, SlotId, Slots};
use super::upstream::network::Network;
use super::upstream::pace::Pace;
use super::upstream::table::End;
use crate::cells::Waiter;
use crate::limits::{
    BATCH_DATAGRAMS, DETACHED_MAX, OPT_EXTRA_BYTES_MAX, TIMERS_STALE_MAX, WALK_NANOS_MAX,
};
use crate::snapshot::Snapshot;
use crate::wire::rcode;
use batch::{Prepared, Progress, is_missing};

/// Where replies go that are not those of the batch at hand.
pub trait Outlet {
    /// Sends a reply; `more`: others to the same query follow. `false`: the client is gone.
    fn deliver(&mut self, client: &Client, message: &[u8], more: bool) -> bool;
    /// A query gets no reply.
    fn pass(&mut self, client: &Client);
    /// What carries queries to upstreams, if there is such a thing.
    fn network(&mut self) -> Option<&mut dyn Network> {
        None
    }
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
    progress: Progress,
    /// How far its upstreams are behind.
    pub pace: Pace,
    /// The time by which signatures are judged and made: read only for signed queries.
    pub unix_now: fn() -> u64,
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
            prepared: vec![Prepared::NONE; BATCH_DATAGRAMS],
            progress: Progress::default(),
            pace: Pace::default(),
            unix_now: clock::unix_seconds,
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
        for here in self.generations.iter().flat_map(|one| one.locals.all()) {
            here.link.refresh(&mut here.local.borrow_mut());
        }
    }

    /// Drops generations that nothing is parked in, but for the current one, and cuts those down that
    /// only streams are parked in; gives the number of the oldest that is whole.
    pub fn retire(&mut self) -> u64 {
        if self.generations.len() > 1 {
            self.let_go();
        }
        let mut generations = self.generations.iter();
        let whole = generations.find(|one| !one.is_cut);
        whole.map_or(0, |one| one.snapshot.generation)
    }

    /// The number of the oldest generation of which anything is held.
    pub fn oldest(&self) -> u64 {
        self.generations[0].snapshot.generation
    }

    #[cold]
    fn let_go(&mut self) {
        let current = self.current().snapshot.generation;
        for one in &mut self.generations {
            let number = one.snapshot.generation;
            if number != current && !one.is_cut && one.parked != 0 && one.parked == one.streams {
                one.keep_streams(&self.slots.stream_links(number), self.core.index);
            }
        }
        let is_over = |one: &mut Generation| one.parked == 0 && one.snapshot.generation != current;
        for over in self.generations.extract_if(.., is_over) {
            let Generation { snapshot, locals, is_cut, .. } = over;
            drop(locals);
            // Of a whole one control has its own, and drops that last.
            self.core.spend(is_cut.then_some(snapshot as _));
        }
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

    /// Takes back the large buffers of a walk that is over or parked.
    fn shrink(&mut self) {
        for level in &mut self.walk.levels[..self.walk.used] {
            self.core.large.shrink(&mut level.reply);
        }
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
        let served_by = &self.generations[generation];
        match catch_unwind(AssertUnwindSafe(|| step(walk, core, served_by))) {
            Ok(outcome) => outcome,
            Err(_) => {
                self.fail_panicked(generation);
                Outcome::Done
            }
        }
    }

    /// Makes the walk that has just panicked one that has failed.
    #[cold]
    fn fail_panicked(&mut self, generation: usize) {
        self.count_panic(generation, self.walk.levels[self.walk.depth].place.block);
        abandon(&mut self.walk, &mut self.core);
        self.walk.frames.clear();
        self.walk.depth = 0;
        let level = self.walk.client_level();
        level.clear_reply();
        level.state = ReplyState::Failed(rcode::SERVFAIL);
        self.count_unserved(rcode::SERVFAIL);
    }

    /// Counts a panic; in a block with `debug` it ends the process.
    fn count_panic(&self, generation: usize, block: u16) {
        let blocks = &self.generations[generation].snapshot.blocks;
        if blocks.get(block as usize).is_some_and(|block| block.debug) {
            std::process::abort();
        }
        self.core.tally.add(self.counters.panics, 1);
    }

    /// Goes on with the query in the walk, outside of a batch. What panics beyond the walk's own
    /// steps leaves it without a reply.
    fn guarded(
        &mut self,
        generation: usize,
        outlet: &mut dyn Outlet,
        go_on: impl FnOnce(&mut Self, &mut dyn Outlet),
    ) {
        if catch_unwind(AssertUnwindSafe(|| go_on(self, outlet))).is_ok() {
            return;
        }
        self.count_panic(generation, self.walk.levels[self.walk.depth].place.block);
        abandon(&mut self.walk, &mut self.core);
        self.shrink();
        if !self.walk.detached {
            outlet.pass(&self.walk.client);
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
                Outcome::Done => {
                    self.core.spend(self.walk.carried.take());
                    return self.finish(generation);
                }
                Outcome::Partial => {
                    if !self.deliver_partial(generation, outlet) {
                        abandon(&mut self.walk, &mut self.core);
                        return Settled::Silent;
                    }
                    // Progress of the stream, not the query's age, is what bounds it.
                    let due = self.core.now + WALK_NANOS_MAX;
                    if self.park(generation, due, Kind::Client).is_some() {
                        return Settled::Parked;
                    }
                    // The client must not wait for the rest (RFC 5936 section 2.2: an error is a
                    // message, and the last one).
                    outcome = self.refuse_to_wait();
                }
                Outcome::Wait(_) if self.walk.is_cancelled(self.core.now) => {
                    outcome = self
                        .run(generation, |walk, core, generation| walk.cancel(core, generation));
                }
                Outcome::Wait(fetch) => match self.wait(fetch, generation, outlet) {
                    Waiting::Parked => return Settled::Parked,
                    Waiting::NoRoom => outcome = self.refuse_to_wait(),
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

    /// Sends one reply of many; `false`: its client is gone.
    fn deliver_partial(&mut self, generation: usize, outlet: &mut dyn Outlet) -> bool {
        let client = self.walk.client;
        let taken = self.finish(generation) != Settled::Reply
            || outlet.deliver(&client, self.walk.levels[0].reply.bytes(), true);
        self.walk.client_level().clear_reply();
        taken
    }

    /// Makes the walk one that has failed for want of room to wait.
    #[cold]
    fn refuse_to_wait(&mut self) -> Outcome {
        self.core.tally.add(self.counters.no_slot, 1);
        abandon(&mut self.walk, &mut self.core);
        let level = self.walk.client_level();
        level.clear_reply();
        level.state = ReplyState::Failed(rcode::SERVFAIL);
        Outcome::Done
    }

    /// Part 5: fits level 0's reply to the client.
    fn finish(&mut self, generation: usize) -> Settled {
        let keepalive = self.keepalive();
        let Walk { request, request_len, request_end, levels, client, over, signature, .. } =
            &mut self.walk;
        if *over {
            self.core.tally.add(self.counters.over, 1);
        }
        let level = &mut levels[0];
        let tsig_bytes = signature.bytes();
        let last = OPT_BYTES + OPT_EXTRA_BYTES_MAX + tsig_bytes;
        let full = level.reply.len() + last > level.reply.capacity();
        if full && client.transport.is_stream() {
            self.core.large.grow(&mut level.reply);
        }
        let start = level.asked.options_at as usize;
        let end = start + level.asked.options_len as usize;
        let options = request[..*request_end].get(start..end).unwrap_or_default();
        let request = &request[..*request_len];
        let local = &*self.generations[generation].snapshot.local_options;
        let stream = client.transport.is_stream();
        let fit = Fit { stream, options, local, keepalive, tsig_bytes };
        if !finish(level, fit) {
            return Settled::Silent;
        }
        if tsig_bytes != 0 {
            let listener = self.generations[generation].snapshot.listener(client.listener);
            if let Some(listener) = listener {
                let now = (self.unix_now)();
                signature.sign(&mut level.reply, request, &listener.tsig_keys, now);
            }
        }
        Settled::Reply
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

    fn wait(&mut self, fetch: Fetch, generation: usize, outlet: &mut dyn Outlet) -> Waiting {
        self.walk.begin_wait(&fetch, self.core.now);
        let latest = self.walk.arrived + WALK_NANOS_MAX;
        let due = match fetch {
            Fetch::Sleep(nanos) => self.core.now + nanos,
            Fetch::Join(_, deadline) => deadline,
            Fetch::Exchange(exchange) => return self.wait_exchange(exchange, generation, outlet),
        };
        let due = due.min(latest);
        if due <= self.core.now {
            let late = matches!(fetch, Fetch::Join(..));
            return Waiting::Over(if late { Fetched::Late } else { Fetched::Slept });
        }
        let kind = if let Fetch::Join(..) = fetch { Kind::Reply } else { Kind::Sleep };
        let Some(id) = self.park(generation, due, kind) else { return Waiting::NoRoom };
        if let Fetch::Join(key, _) = fetch {
            let waiter = Waiter { worker: self.core.index, slot: id.slot, use_count: id.use_count };
            if !self.core.flights.join(key, waiter) {
                self.unpark(id, Fetched::Failed, None);
                return Waiting::Over(Fetched::Failed);
            }
        }
        Waiting::Parked
    }

    fn park(&mut self, generation: usize, mut due: Nanos, mut kind: Kind) -> Option<SlotId> {
        let cancel_at = self.walk.cancel_at;
        if kind != Kind::Client && cancel_at != 0 && cancel_at < due {
            (due, kind) = (cancel_at, Kind::Cancel);
        }
        let number = self.generations[generation].snapshot.generation;
        let id = self.slots.park(&mut self.walk, number, due, kind)?;
        self.generations[generation].parked += 1;
        self.generations[generation].streams += u32::from(kind == Kind::Client);
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

    /// Puts a parked query back into the walk; what it had in flight to upstreams is forgotten. Gives
    /// the index of its generation.
    fn unpark(&mut self, id: SlotId, fetched: Fetched, landed: Option<Arc<[u8]>>) -> Option<usize> {
        let end = match fetched {
            Fetched::Late => End::Late,
            Fetched::Unreached(_) => End::Unreached,
            _ => End::Over,
        };
        for flight in self.slots.flights(id).into_iter().flatten() {
            self.core.upstreams.forget(flight, end, self.core.now, &self.core.tally);
        }
        let generation = self.lift(id, fetched, landed)?;
        if self.walk.fetches != 0 {
            self.walk.waits.end(self.core.now);
        }
        Some(generation)
    }

    /// As `unpark`, and forgets nothing.
    fn lift(&mut self, id: SlotId, fetched: Fetched, landed: Option<Arc<[u8]>>) -> Option<usize> {
        let is_stream = self.slots.kind(id) == Some(Kind::Client);
        let number =
            self.slots.unpark(id, &mut self.walk, (fetched, landed), &mut self.core.large)?;
        let mut generations = self.generations.iter_mut();
        let index = generations.position(|one| one.snapshot.generation == number)?;
        self.generations[index].parked -= 1;
        self.generations[index].streams -= u32::from(is_stream);
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
                Some(Kind::Reply) => self.wake(id, self.lateness(id), None, outlet),
                Some(Kind::Hedge) => self.hedge(id, outlet),
                // `cancel`: who asked an upstream is told that it is too late, and may say so.
                Some(Kind::Cancel) if self.slots.flights(id) != [None; 2] => {
                    self.wake(id, Fetched::Late, None, outlet);
                }
                Some(Kind::Cancel) => self.cancel(id, outlet),
                // A client that took nothing for too long: it ends here.
                Some(Kind::Client) => self.give_up(id, outlet),
                None => {}
            }
        }
    }

    /// Ends a parked query without a reply.
    fn give_up(&mut self, id: SlotId, outlet: &mut dyn Outlet) {
        if self.unpark(id, Fetched::Late, None).is_some() {
            abandon(&mut self.walk, &mut self.core);
            if !self.walk.detached {
                outlet.pass(&self.walk.client);
            }
        }
    }

    /// Ends the wait of a parked query whose time is over (`cancel`): who waits has failed.
    fn cancel(&mut self, id: SlotId, outlet: &mut dyn Outlet) {
        let Some(generation) = self.unpark(id, Fetched::Late, None) else { return };
        self.guarded(generation, outlet, |turn, outlet| {
            let settled = turn.go_on(generation, outlet, |walk, core, on| walk.cancel(core, on));
            if settled != Settled::Parked {
                abandon(&mut turn.walk, &mut turn.core);
            }
        });
        self.run_detached(outlet);
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
        self.guarded(generation, outlet, |turn, outlet| turn.resume(generation, outlet));
        self.run_detached(outlet);
    }

    /// Goes on with the query that was put back into the walk.
    fn resume(&mut self, generation: usize, outlet: &mut dyn Outlet) {
        self.go_on(generation, outlet, |walk, core, generation| walk.resume(core, generation));
    }

    /// As `resume`, by the step that is given.
    fn go_on(
        &mut self,
        generation: usize,
        outlet: &mut dyn Outlet,
        step: impl FnOnce(&mut Walk, &mut Core, &Generation) -> Outcome,
    ) -> Settled {
        let outcome = self.run(generation, step);
        let client = self.walk.client;
        let settled = self.settle(outcome, generation, outlet);
        match settled {
            Settled::Reply if self.walk.detached => {}
            Settled::Reply => {
                self.count_late();
                outlet.deliver(&client, self.walk.levels[0].reply.bytes(), false);
            }
            Settled::Silent if !self.walk.detached => outlet.pass(&client),
            Settled::Silent | Settled::Parked => {}
        }
        self.shrink();
        settled
    }

    /// Counts how long a parked query took.
    fn count_late(&mut self) {
        let took = self.core.now.saturating_sub(self.walk.arrived);
        self.core.tally.latency(self.counters.walk, took);
        if let Some(histogram) = self.walk.timed {
            self.core.tally.observe(histogram, took);
        }
        let level = &self.walk.levels[0];
        let missing = is_missing(level.reply.bytes());
        self.core.tally.waited(level.lower.as_name(), took, missing);
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
                abandon(&mut self.walk, &mut self.core);
                continue;
            };
            let Detached { name, rtype, rclass, asked, place, .. } = detached;
            self.walk.open_question(name.as_name(), rtype, rclass, asked, place);
            self.guarded(generation, outlet, |turn, outlet| {
                let outcome = turn.run(generation, |walk, core, generation| {
                    walk.start_detached(core, generation, &detached)
                });
                turn.settle(outcome, generation, outlet);
                turn.shrink();
            });
        }
    }
}

/// Fails the flights that a walk leads which ends before it can land them, and leaves what it carries.
#[cold]
fn abandon(walk: &mut Walk, core: &mut Core) {
    core.spend(walk.carried.take());
    if let Some(marks) = walk.marks.take() {
        core.marking.give_back(marks);
    }
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
