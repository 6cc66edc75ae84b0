//! The one loop that moves the cursor.
//!
//! [`Walk`] is the state of a query that is being walked; a worker has one, touched only as far as
//! a query uses it. [`Walk::run`] goes down the chain and up again until the query has a reply,
//! gives up, or waits. Every walk is bounded: frames, levels, questions, waits (law 3); past a
//! bound it is SERVFAIL and a counter. Costs a jump table and a few stores a link.

use std::any::Any;
use std::fmt::Write as _;
use std::sync::Arc;

use super::cx::{Client, Core, Cx, Detached, Span};
use super::level::{Asked, Level, NOBODY, Place, ReplyState};
use super::marks::{self, Act, Mark, Marks, Waiter, Waits};
use super::step::{Entry, Fetch, Fetched, Step};
use crate::cells::{FlightKey, Permit};
use crate::data::clock::{self, Nanos};
use crate::data::generation::{Generation, Locals, Post};
use crate::data::route;
use crate::data::signature::Signature;
use crate::data::tally::Histogram;
use crate::limits::{
    ASK_DEPTH_MAX, ASKS_MAX, FETCHES_MAX, FLIGHTS_LED_MAX, FRAMES_MAX, LANE_BYTES,
    WALK_MEMORY_BYTES_MAX,
};
use crate::plugin::registry::Frame;
use crate::wire::{Name, Question, Rtype, rcode};

/// How a run of a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Level 0 has its reply, or nothing is to be sent: its state tells.
    Done,
    /// Level 0's reply is to be sent, and the walk goes on when the transport can take another.
    Partial,
    /// The walk waits; it must be parked.
    Wait(Fetch),
}

/// Flights that a walk leads: what has to be landed for it, should it end before it can.
#[derive(Clone, Copy)]
pub(in crate::data) struct Led {
    keys: [FlightKey; FLIGHTS_LED_MAX],
    len: u8,
}

impl Led {
    pub(in crate::data) const NONE: Self = Self { keys: [FlightKey(0); FLIGHTS_LED_MAX], len: 0 };

    pub(super) fn is_full(&self) -> bool {
        self.len as usize == FLIGHTS_LED_MAX
    }

    pub(super) fn push(&mut self, key: FlightKey) {
        self.keys[self.len as usize] = key;
        self.len += 1;
    }

    pub(super) fn remove(&mut self, key: FlightKey) {
        if let Some(at) = self.as_slice().iter().position(|led| *led == key) {
            self.len -= 1;
            self.keys.swap(at, self.len as usize);
        }
    }

    pub(in crate::data) fn as_slice(&self) -> &[FlightKey] {
        &self.keys[..self.len as usize]
    }
}

/// A frame on the stack: whose it is, and what belongs to it.
#[derive(Clone, Copy)]
pub(in crate::data) struct FrameAt {
    pub(in crate::data) frame: Frame,
    pub(in crate::data) link: u16,
    pub(in crate::data) level: u8,
    /// Octets of walk memory that outlive the frame.
    pub(in crate::data) memory: u16,
}

/// The state of a query on its way.
pub struct Walk {
    pub(in crate::data) client: Client,
    pub(in crate::data) arrived: Nanos,
    pub(in crate::data) request: Box<[u8]>,
    pub(in crate::data) request_len: usize,
    /// Octets of `request` in use: behind the message stand options that plugins have made.
    pub(in crate::data) request_end: usize,
    pub(in crate::data) levels: Vec<Level>,
    pub(in crate::data) depth: usize,
    /// Levels whose reply holds something, from 0: what parking has to copy.
    pub(in crate::data) used: usize,
    pub(in crate::data) frames: Vec<FrameAt>,
    pub(in crate::data) memory: Vec<u8>,
    /// For replies that are built again: as long as a usual reply's buffer, and as a large one's
    /// (empty until the first is edited), so that an exchange never changes a buffer's size.
    pub(super) scratch: [Box<[u8]>; 2],
    pub(in crate::data) fetched: Fetched,
    pub(in crate::data) landed: Option<Arc<[u8]>>,
    /// What an upstream replied, `message_len` octets of it, and the upstream's id.
    pub(in crate::data) message: Box<[u8]>,
    pub(in crate::data) message_len: usize,
    pub(in crate::data) answered_by: u32,
    pub(in crate::data) asks: u16,
    pub(in crate::data) fetches: u16,
    /// When it may wait no longer; 0: never.
    pub(in crate::data) cancel_at: Nanos,
    /// Where the time that the whole query took is observed, once its reply is sent.
    pub(in crate::data) timed: Option<Histogram>,
    /// Of the query and of its replies (TSIG).
    pub(in crate::data) signature: Signature,
    /// What a stream hands out.
    pub(in crate::data) carried: Option<Arc<dyn Any + Send + Sync>>,
    /// Whether the walk has no client.
    pub(in crate::data) detached: bool,
    /// The link that was hinted of level 0's question in this turn, and what its `hint` gave.
    pub(in crate::data) hinted: Option<(u16, u64)>,
    /// Flights that it leads.
    pub(in crate::data) led: Led,
    /// How the last run ended.
    outcome: Outcome,
    /// What it holds of a bounded number.
    pub(in crate::data) permit: Option<Permit>,
    /// Set when a bound was passed; the walk ends with SERVFAIL.
    pub(in crate::data) over: bool,
    /// Where its time went, if somebody wants to know. Taken from it when it waits or is over.
    pub(in crate::data) marks: Option<Box<Marks>>,
    /// Its waits; of a walk before it if this one has waited for nothing yet (`fetches` is 0).
    pub(in crate::data) waits: Waits,
}

/// Where the loop goes next.
#[derive(Clone, Copy)]
enum Way {
    Down,
    Up,
    /// Nowhere: [`Walk::outcome`] says why.
    Stop,
}

impl Walk {
    /// An idle walk with its buffers.
    pub fn new() -> Self {
        let buffer = || vec![0; LANE_BYTES].into_boxed_slice();
        Self {
            client: Client::NOBODY,
            arrived: 0,
            request: buffer(),
            request_len: 0,
            request_end: 0,
            levels: (0..=ASK_DEPTH_MAX).map(|_| Level::new(buffer())).collect(),
            depth: 0,
            used: 0,
            frames: Vec::with_capacity(FRAMES_MAX),
            memory: Vec::with_capacity(WALK_MEMORY_BYTES_MAX),
            scratch: [buffer(), Box::default()],
            fetched: Fetched::Nothing,
            landed: None,
            message: Box::default(),
            message_len: 0,
            answered_by: 0,
            asks: 0,
            fetches: 0,
            cancel_at: 0,
            timed: None,
            signature: Signature::NONE,
            carried: None,
            detached: false,
            hinted: None,
            led: Led::NONE,
            outcome: Outcome::Done,
            permit: None,
            over: false,
            marks: None,
            waits: Waits::NONE,
        }
    }

    /// Makes the walk that of a new query.
    pub fn open(&mut self, client: Client, arrived: Nanos) {
        self.client = client;
        self.arrived = arrived;
        self.request_len = 0;
        self.request_end = 0;
        self.depth = 0;
        self.used = 1;
        self.frames.clear();
        self.memory.clear();
        self.fetched = Fetched::Nothing;
        self.landed = None;
        self.message_len = 0;
        self.asks = 0;
        self.fetches = 0;
        self.cancel_at = 0;
        self.timed = None;
        self.signature.forget();
        self.carried = None;
        self.detached = false;
        self.hinted = None;
        self.led.len = 0;
        self.permit = None;
        self.over = false;
    }

    /// Opens level 0 with the client's question, to be served at `place`.
    pub fn open_question(
        &mut self,
        name: Name<'_>,
        rtype: Rtype,
        rclass: u16,
        asked: Asked,
        place: Place,
    ) {
        let level = &mut self.levels[0];
        level.open(name, rtype, rclass, asked);
        level.place = place;
    }

    /// Level 0: the client's question and its reply.
    pub fn client_level(&mut self) -> &mut Level {
        &mut self.levels[0]
    }

    pub(super) fn place_question(&mut self, name: Name<'_>, rtype: Rtype, rclass: u16) {
        let next = self.depth + 1;
        let asked = Asked { id: 0, ..self.levels[self.depth].asked };
        match self.levels.get_mut(next) {
            Some(level) => {
                level.open(name, rtype, rclass, asked);
                self.used = self.used.max(next + 1);
            }
            None => self.over = true,
        }
    }

    /// The EDNS options of a level's query.
    pub(in crate::data) fn options(&self, asked: &Asked) -> &[u8] {
        let start = asked.options_at as usize;
        let request = &self.request[..self.request_end];
        request.get(start..start + asked.options_len as usize).unwrap_or_default()
    }

    /// Puts octets behind the request; gives where they stand, if there is room.
    pub(super) fn put_behind(&mut self, bytes: &[u8]) -> Option<usize> {
        let at = self.request_end;
        self.request.get_mut(at..at + bytes.len())?.copy_from_slice(bytes);
        self.request_end = at + bytes.len();
        Some(at)
    }

    pub(super) fn keep(&mut self, bytes: &[u8]) -> Option<Span> {
        let at = self.memory.len();
        if at + bytes.len() > WALK_MEMORY_BYTES_MAX {
            return None;
        }
        self.memory.extend_from_slice(bytes);
        Some(Span { at: at as u16, len: bytes.len() as u16 })
    }

    /// Starts a walk that was opened: goes down from the top of its chain.
    pub fn start(&mut self, core: &mut Core, generation: &Generation) -> Outcome {
        match core.marking.is_due() {
            false => self.run(core, generation, &generation.locals, Way::Down),
            true => self.start_marked(core, generation),
        }
    }

    #[cold]
    fn start_marked(&mut self, core: &mut Core, generation: &Generation) -> Outcome {
        self.marks = core.marking.begin(core.now);
        self.go_on(core, generation, |_, _| Way::Down)
    }

    /// Starts a detached walk by the `detached` of the link that asked for it.
    pub fn start_detached(
        &mut self,
        core: &mut Core,
        generation: &Generation,
        detached: &Detached,
    ) -> Outcome {
        let link = detached.link;
        let mark = self.memory.len();
        let Some(here) = generation.locals.get(detached.place.block, link) else {
            return Outcome::Done;
        };
        let step = {
            let mut cx = self.cx(core, generation, link);
            here.link.detached(&mut here.local.borrow_mut(), &mut cx, detached.note)
        };
        let way = self.apply(step, link, mark, core, generation);
        self.run(core, generation, &generation.locals, way)
    }

    /// Begins or takes up the loop by the step that is given, with the walk's marks if it has any.
    fn go_on(
        &mut self,
        core: &mut Core,
        generation: &Generation,
        step: impl FnOnce(&mut Self, (&mut Core, &Generation, &Locals)) -> Way,
    ) -> Outcome {
        if self.marks.is_none() {
            let way = step(self, (&mut *core, generation, &generation.locals));
            return self.run(core, generation, &generation.locals, way);
        }
        // No link is found among none: the loop asks `beyond`, which marks.
        let none = Locals::none();
        let way = step(self, (&mut *core, generation, &none));
        let outcome = self.run(core, generation, &none, way);
        match outcome {
            Outcome::Done => {
                self.mark(Act::End, NOBODY);
                self.end_marks(core, generation);
            }
            Outcome::Partial => self.mark_frame(Act::Send),
            // Marked when the wait begins, by `begin_wait`.
            Outcome::Wait(_) => {}
        }
        outcome
    }

    fn end_marks(&mut self, core: &mut Core, generation: &Generation) {
        if let Some(marks) = self.marks.take() {
            marks::count(&marks, core, generation);
            core.marking.give_back(marks);
        }
    }

    /// Notes that the walk begins to wait.
    pub(in crate::data) fn begin_wait(&mut self, fetch: &Fetch, now: Nanos) {
        let upstream = if let Fetch::Exchange(exchange) = fetch { exchange.upstream } else { 0 };
        if self.fetches <= 1 {
            self.waits = Waits::NONE;
        }
        let block = self.levels[self.depth].place.block;
        let link = self.frames.last().map_or(NOBODY, |top| top.link);
        self.waits.begin(Waiter { block, link, upstream }, now);
        if self.marks.is_some() {
            self.mark_frame(Act::Wait(upstream));
        }
    }

    /// Marks what the link whose frame is on top has come to.
    fn mark_frame(&mut self, act: Act) {
        self.mark(act, self.frames.last().map_or(NOBODY, |top| top.link));
    }

    fn mark(&mut self, act: Act, link: u16) {
        let level = &self.levels[self.depth];
        let (place, state) = (level.place, level.state);
        let (depth, frames) = (self.depth as u8, self.frames.len() as u8);
        if let Some(marks) = &mut self.marks {
            let mark = Mark { at: clock::now(), act, link, place, level: depth, frames, state };
            marks.note(mark, &self.levels);
        }
    }

    /// What is there where the loop has found no link: of a marked walk the link after all.
    #[cold]
    fn beyond<'g>(&mut self, act: Act, link: u16, generation: &'g Generation) -> Option<&'g Post> {
        let block = self.levels[self.depth].place.block;
        let here = generation.locals.get(block, link);
        self.mark(if here.is_some() { act } else { Act::Past }, link);
        here
    }

    /// Goes on with a walk that waited, or that sent one of many.
    pub fn resume(&mut self, core: &mut Core, generation: &Generation) -> Outcome {
        self.go_on(core, generation, |walk, (core, generation, locals)| {
            walk.resume_top(core, generation, locals)
        })
    }

    /// Whether the time that the walk may take (`cancel`) is over.
    pub(in crate::data) fn is_cancelled(&self, now: Nanos) -> bool {
        self.cancel_at != 0 && self.cancel_at <= now
    }

    /// Goes on with a walk whose time is over: the link that waits, or wants to, has failed.
    pub fn cancel(&mut self, core: &mut Core, generation: &Generation) -> Outcome {
        let Some(FrameAt { link, level, memory, .. }) = self.frames.pop() else {
            return Outcome::Done;
        };
        self.depth = level as usize;
        self.memory.truncate(memory as usize);
        let level = &mut self.levels[self.depth];
        level.clear_reply();
        level.state = ReplyState::Failed(rcode::SERVFAIL);
        level.by = link;
        level.reason.push("context deadline exceeded");
        self.go_on(core, generation, |_, _| Way::Up)
    }

    /// The loop. `locals` are the generation's; of a marked walk none.
    fn run(
        &mut self,
        core: &mut Core,
        generation: &Generation,
        locals: &Locals,
        mut way: Way,
    ) -> Outcome {
        loop {
            way = match way {
                Way::Down => self.serve_next(core, generation, locals),
                Way::Up => self.go_up(core, generation, locals),
                Way::Stop => return self.outcome,
            }
        }
    }

    #[inline]
    fn serve_next(&mut self, core: &mut Core, generation: &Generation, locals: &Locals) -> Way {
        let level = &self.levels[self.depth];
        let (block, cursor) = (level.place.block, level.cursor);
        let found = match locals.get(block, cursor) {
            None => self.beyond(Act::Serve, cursor, generation),
            found => found,
        };
        let Some(here) = found else { return self.pass_the_end(generation) };
        let mark = self.memory.len();
        let step = {
            let mut cx = self.cx(core, generation, cursor);
            here.link.serve(&mut here.local.borrow_mut(), &mut cx)
        };
        match step {
            Step::Up => Way::Up,
            Step::Watch(frame) => self.watch(frame, cursor, mark),
            step => self.apply(step, cursor, mark, core, generation),
        }
    }

    /// The chain has ended without an answer, or no chain serves the question.
    #[cold]
    fn pass_the_end(&mut self, generation: &Generation) -> Way {
        let level = &mut self.levels[self.depth];
        level.clear_reply();
        let served = generation.snapshot.blocks.get(level.place.block as usize);
        // A block without plugins refuses; a chain that ends without an answer has failed.
        let has_chain = served.is_some_and(|block| !block.chain.is_empty());
        let code = if has_chain { rcode::SERVFAIL } else { rcode::REFUSED };
        level.state = ReplyState::Failed(code);
        if let Some(last) = served.and_then(|block| block.chain.last()) {
            // A text that is full is cut.
            let _ = write!(level.reason, "plugin/{}: no next plugin found", last.name());
        }
        Way::Up
    }

    fn go_up(&mut self, core: &mut Core, generation: &Generation, locals: &Locals) -> Way {
        match self.frames.last() {
            Some(top) if top.level as usize == self.depth => {}
            _ if self.depth == 0 => return self.stop(Outcome::Done),
            _ => self.depth -= 1,
        }
        self.resume_top(core, generation, locals)
    }

    fn resume_top(&mut self, core: &mut Core, generation: &Generation, locals: &Locals) -> Way {
        let Some(FrameAt { frame, link, level, memory }) = self.frames.pop() else {
            return self.stop(Outcome::Done);
        };
        self.depth = level as usize;
        let block = self.levels[self.depth].place.block;
        let found = match locals.get(block, link) {
            None => self.beyond(Act::Resume, link, generation),
            found => found,
        };
        let Some(here) = found else { return self.stop(Outcome::Done) };
        let step = {
            let mut cx = self.cx(core, generation, link);
            here.link.resume(&mut here.local.borrow_mut(), &mut cx, frame)
        };
        match step {
            Step::Up => {
                self.memory.truncate(memory as usize);
                Way::Up
            }
            Step::Next => {
                self.memory.truncate(memory as usize);
                self.levels[self.depth].clear_reply();
                self.go_below(link)
            }
            step => self.apply(step, link, memory as usize, core, generation),
        }
    }

    /// Does what a link said. `memory`: octets of walk memory below what its frame owns.
    fn apply(
        &mut self,
        step: Step<Frame>,
        link: u16,
        memory: usize,
        core: &mut Core,
        generation: &Generation,
    ) -> Way {
        match step {
            Step::Next => self.go_below(link),
            Step::Up => Way::Up,
            Step::Watch(frame) => self.watch(frame, link, memory),
            Step::Ask(frame, entry) => {
                self.asks += 1;
                if self.over || self.asks > ASKS_MAX {
                    return self.fail_over("too many questions for one query");
                }
                if !self.push(frame, link, memory) {
                    return Way::Up;
                }
                self.enter(entry, link, core, generation);
                Way::Down
            }
            Step::Fetch(frame, fetch) => {
                self.fetches += 1;
                if self.fetches > FETCHES_MAX {
                    return self.fail_over("too many waits for one query");
                }
                self.fetched = Fetched::Nothing;
                match self.push(frame, link, memory) {
                    true => self.stop(Outcome::Wait(fetch)),
                    false => Way::Up,
                }
            }
            Step::Send(_) if self.detached || !self.client.transport.is_stream() => Way::Up,
            Step::Send(frame) => match self.push(frame, link, memory) {
                true => self.stop(Outcome::Partial),
                false => Way::Up,
            },
        }
    }

    #[inline]
    fn watch(&mut self, frame: Frame, link: u16, memory: usize) -> Way {
        match self.push(frame, link, memory) {
            true => self.go_below(link),
            false => Way::Up,
        }
    }

    #[inline]
    fn go_below(&mut self, link: u16) -> Way {
        self.levels[self.depth].cursor = link + 1;
        Way::Down
    }

    #[inline]
    fn stop(&mut self, outcome: Outcome) -> Way {
        self.outcome = outcome;
        Way::Stop
    }

    /// Has the views tell where the level's question is served, if there is one where it would be
    /// without them.
    #[inline]
    pub(in crate::data) fn judge(&mut self, core: &mut Core, generation: &Generation) {
        let place = self.levels[self.depth].place;
        let block = generation.snapshot.blocks.get(place.block as usize);
        if block.is_some_and(|block| block.view.is_some()) {
            self.choose(core, generation);
        }
    }

    #[inline(never)]
    fn choose(&mut self, core: &mut Core, generation: &Generation) {
        let (depth, listener) = (self.depth, self.client.listener);
        let Question { rtype, rclass, .. } = self.levels[depth].question();
        let lower = self.levels[depth].lower;
        let (name, lower) = (lower.as_name(), lower.as_name());
        let question = Question { name, lower, rtype, rclass };
        let snapshot = &generation.snapshot;
        let place = route::choose(snapshot, listener, question, |place| {
            self.levels[depth].place = place;
            let Some(link) = snapshot.blocks[place.block as usize].view else { return true };
            let Some(here) = generation.locals.get(place.block, link) else { return false };
            let cx = self.cx(core, generation, link);
            here.local.try_borrow().is_ok_and(|local| here.link.admits(&local, &cx))
        });
        self.levels[depth].place = place;
    }

    /// Goes one level down, to the question that was placed.
    fn enter(&mut self, entry: Entry, link: u16, core: &mut Core, generation: &Generation) {
        let here = self.levels[self.depth].place;
        self.depth += 1;
        let level = &mut self.levels[self.depth];
        match entry {
            Entry::Below => {
                level.place = here;
                level.cursor = link + 1;
            }
            Entry::Top => {
                let listener = self.client.listener;
                let question = level.question();
                level.place = route::place(&generation.snapshot, listener, question);
                self.judge(core, generation);
            }
        }
    }

    /// Remembers a frame; `false`: there are too many, and the walk has failed.
    #[inline]
    fn push(&mut self, frame: Frame, link: u16, memory: usize) -> bool {
        if self.frames.len() == FRAMES_MAX {
            self.fail_over("too many frames for one query");
            return false;
        }
        let level = self.depth as u8;
        self.frames.push(FrameAt { frame, link, level, memory: memory as u16 });
        true
    }

    #[cold]
    fn fail_over(&mut self, reason: &str) -> Way {
        self.over = true;
        let level = &mut self.levels[self.depth];
        level.clear_reply();
        level.state = ReplyState::Failed(rcode::SERVFAIL);
        level.reason.push(reason);
        Way::Up
    }

    fn cx<'w>(&'w mut self, core: &'w mut Core, generation: &'w Generation, link: u16) -> Cx<'w> {
        Cx { walk: self, core, snapshot: &generation.snapshot, locals: &generation.locals, link }
    }

    /// Whether a bound was passed.
    pub fn is_over(&self) -> bool {
        self.over
    }
}

impl Default for Walk {
    fn default() -> Self {
        Self::new()
    }
}
