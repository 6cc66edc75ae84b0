//! Where the time of a walk goes: marks that the loop makes of a walk that somebody wants to know of.
//!
//! A mark says when the loop came to a link, or when the walk began to wait; each lasts until the next
//! one. Three want marks: figures of the time that plugins take (a walk now and then, [`Marking`]),
//! `trace` (the walks that it picks, [`Cx::mark`](super::Cx::mark)), and whoever asks for one walk
//! ([`Marking::demand`]).
//!
//! A walk without marks pays for them once, when it starts: a count goes down. The loop finds the links
//! of a marked walk by the way that it takes where a chain ends, so that no link pays. A marked walk
//! reads the clock once a step. Marks are in boxes that a worker keeps; a walk that waits takes its
//! box along.
//!
//! Samples are drawn so that a worker takes about a hundred of them a second, whatever it has to do,
//! and at least one of `MARK_STRIDE_MAX` walks. Each counts as often as walks were passed over for it,
//! so that figures stand for all walks.

use std::hash::{BuildHasher as _, Hasher as _};

use foldhash::fast::FixedState;

use super::cx::Core;
use super::level::{Level, Place, Reason, ReplyState, Source};
use crate::data::clock::Nanos;
use crate::data::generation::Generation;
use crate::data::rng::Rng;
use crate::limits::{MARK_NANOS, MARK_STRIDE_MAX, MARKED_KEPT, MARKED_WALKS_MAX, MARKS_MAX};
use crate::wire::{Counts, NameBuf, Rtype};

/// What the loop did at a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Had the link serve the level's question.
    Serve,
    /// Went on with the link: after those below it, a question of its own, or a wait.
    Resume,
    /// Came to the end of the chain, or to a question that nobody serves.
    Past,
    /// Had the walk wait for what the link above asked for; 0: for no upstream.
    Wait(u32),
    /// Sent one reply of many.
    Send,
    /// Came to the end of the walk.
    End,
}

/// One mark: what began then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// When (monotonic).
    pub at: Nanos,
    /// What.
    pub act: Act,
    /// By which link, as an index into its block's chain.
    pub link: u16,
    /// Where the level's question is served.
    pub place: Place,
    /// How deep in questions of the walk's own: 0 for the client's.
    pub level: u8,
    /// Frames then.
    pub frames: u8,
    /// What had become of the level's reply by then.
    pub state: ReplyState,
}

/// How things stood at a mark, of a walk that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Note {
    /// The level's name, as it was asked.
    pub name: NameBuf,
    /// Its type.
    pub rtype: Rtype,
    /// Its class.
    pub rclass: u16,
    /// The level's reply.
    pub reply: Stood,
    /// The reply to the question that was asked below it last; what stands there may be older.
    pub side: Option<Stood>,
}

/// How a reply stood.
#[derive(Clone, Copy, Debug)]
pub struct Stood {
    /// What had become of it.
    pub state: ReplyState,
    /// Its rcode.
    pub rcode: u16,
    /// Records in its answer section.
    pub answers: u16,
    /// Changes if an octet of it does.
    pub print: u64,
    /// Where its data came from.
    pub source: Source,
    /// Why it failed.
    pub reason: Reason,
}

impl Stood {
    fn of(level: &Level) -> Self {
        let bytes = level.reply.bytes();
        let mut hasher = FixedState::default().build_hasher();
        hasher.write(bytes);
        Self {
            state: level.state,
            rcode: level.rcode(),
            answers: if bytes.is_empty() { 0 } else { Counts::read(bytes).answer },
            print: hasher.finish(),
            source: level.source,
            reason: level.reason,
        }
    }
}

/// The longest wait of a walk: known of every walk, marked or not.
#[derive(Clone, Copy, Debug)]
pub(in crate::data) struct Waits {
    /// Since when it waits; 0: it does not.
    since: Nanos,
    now: Waiter,
    longest: Nanos,
    by: Waiter,
}

/// Who has a walk wait: block, link, and the upstream that is asked (0: none).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::data) struct Waiter {
    pub block: u16,
    pub link: u16,
    pub upstream: u32,
}

impl Waits {
    const NOBODY: Waiter = Waiter { block: 0, link: 0, upstream: 0 };
    /// None yet.
    pub const NONE: Self = Self { since: 0, now: Self::NOBODY, longest: 0, by: Self::NOBODY };

    pub fn begin(&mut self, by: Waiter, now: Nanos) {
        (self.since, self.now) = (now, by);
    }

    pub fn end(&mut self, now: Nanos) {
        let since = std::mem::take(&mut self.since);
        let took = now.saturating_sub(since);
        if since != 0 && took > self.longest {
            (self.longest, self.by) = (took, self.now);
        }
    }

    /// The longest, and who had the walk wait.
    pub fn longest(&self) -> Option<(Waiter, Nanos)> {
        (self.longest != 0).then_some((self.by, self.longest))
    }
}

/// What a link said in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// `Step::Next`.
    Next,
    /// `Step::Watch`.
    Watch,
    /// `Step::Ask`.
    Ask,
    /// `Step::Fetch`.
    Fetch,
    /// `Step::Send`.
    Send,
    /// `Step::Up`, or it has failed.
    Up,
}

/// A mark with what came after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The mark.
    pub mark: Mark,
    /// How long it lasted.
    pub nanos: Nanos,
    /// What the link said, if it was a link's step.
    pub said: Option<Said>,
    /// What had become of the level's reply after it, as far as the next mark is on that level.
    pub state: Option<ReplyState>,
}

/// The marks of one walk.
pub struct Marks {
    marks: Vec<Mark>,
    /// One for each mark, if the walk is asked for.
    notes: Vec<Note>,
    /// Marks that there was no room for.
    lost: u32,
    /// How many walks the figures of this one stand for; 0: it is no sample.
    weight: u32,
    /// Whether it goes to who asked for it.
    demanded: bool,
    /// For `trace`: the first mark that it wants, and the id of its trace.
    traced: Option<(u16, [u8; 16])>,
}

impl Marks {
    fn new() -> Box<Self> {
        let marks = Vec::with_capacity(MARKS_MAX);
        Box::new(Self {
            marks,
            notes: Vec::new(),
            lost: 0,
            weight: 0,
            demanded: false,
            traced: None,
        })
    }

    fn forget(&mut self) {
        self.marks.clear();
        self.notes = Vec::new();
        self.lost = 0;
        self.weight = 0;
        self.demanded = false;
        self.traced = None;
    }

    /// Adds a mark, if there is room for it.
    pub(super) fn push(&mut self, mark: Mark) {
        match self.marks.len() < MARKS_MAX {
            true => self.marks.push(mark),
            false => self.lost += 1,
        }
    }

    /// As [`Marks::push`], with how the walk's levels stand, if that is asked for.
    pub(super) fn note(&mut self, mark: Mark, levels: &[Level]) {
        if self.demanded && self.notes.len() < MARKS_MAX {
            let level = &levels[mark.level as usize];
            self.notes.push(Note {
                name: level.name,
                rtype: level.rtype,
                rclass: level.rclass,
                reply: Stood::of(level),
                side: levels.get(mark.level as usize + 1).map(Stood::of),
            });
        }
        self.push(mark);
    }

    /// How things stood at the marks of a walk that was asked for.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// Marks that there was no room for: the last ones.
    pub fn lost(&self) -> u32 {
        self.lost
    }

    /// The marks, in their order.
    pub fn as_slice(&self) -> &[Mark] {
        &self.marks
    }

    /// Each mark but the last with what came of it.
    pub fn taken(&self) -> impl Iterator<Item = Taken> {
        self.marks.windows(2).map(|two| Taken::between(two[0], two[1]))
    }

    /// Of a walk that `trace` picked: the place of the first mark since, and the trace's id.
    pub fn traced(&self) -> Option<(u16, [u8; 16])> {
        self.traced
    }

    /// Has the walk traced from here on.
    pub(super) fn trace(&mut self, id: [u8; 16]) {
        self.traced = Some((self.marks.len() as u16, id));
    }
}

impl Taken {
    fn between(mark: Mark, next: Mark) -> Self {
        let is_step = matches!(mark.act, Act::Serve | Act::Resume);
        let said = match next.act {
            Act::Serve | Act::Past if next.level > mark.level => Said::Ask,
            Act::Serve | Act::Past if next.frames > mark.frames => Said::Watch,
            Act::Serve | Act::Past => Said::Next,
            Act::Wait(_) => Said::Fetch,
            Act::Send => Said::Send,
            Act::Resume | Act::End => Said::Up,
        };
        Self {
            mark,
            nanos: next.at.saturating_sub(mark.at),
            said: is_step.then_some(said),
            state: (next.level == mark.level).then_some(next.state),
        }
    }
}

/// Which walks of a worker are marked, and the boxes for their marks.
pub struct Marking {
    /// Walks until one is marked.
    left: u32,
    /// How many walks the next sample stands for.
    gap: u32,
    /// Walks from sample to sample, on average.
    stride: u32,
    sampled: Nanos,
    rng: Rng,
    #[allow(clippy::vec_box, reason = "walks take them as they are")]
    free: Vec<Box<Marks>>,
    made: usize,
    demand: bool,
    demanded: Option<Box<Marks>>,
}

impl Marking {
    /// Samples the first walk.
    pub fn new() -> Self {
        Self {
            left: 1,
            gap: 1,
            stride: 1,
            sampled: 0,
            rng: Rng::from_entropy(),
            free: (0..MARKED_KEPT).map(|_| Marks::new()).collect(),
            made: MARKED_KEPT,
            demand: false,
            demanded: None,
        }
    }

    /// Whether the walk that starts now is to be marked.
    #[inline]
    pub(super) fn is_due(&mut self) -> bool {
        self.left -= 1;
        self.left == 0
    }

    /// Marks for the walk that is due, if a box is free.
    pub(super) fn begin(&mut self, now: Nanos) -> Option<Box<Marks>> {
        let demanded = std::mem::take(&mut self.demand);
        let weight = self.gap;
        self.draw(now);
        let mut marks = self.free.pop()?;
        marks.weight = weight;
        marks.demanded = demanded;
        Some(marks)
    }

    /// Draws when the next sample is due.
    fn draw(&mut self, now: Nanos) {
        let since = now.saturating_sub(self.sampled);
        self.sampled = now;
        if since < MARK_NANOS / 2 {
            self.stride = (2 * self.stride).min(MARK_STRIDE_MAX);
        } else if since > 2 * MARK_NANOS {
            self.stride = (self.stride / 2).max(1);
        }
        // From 1 to 2 * stride - 1, so that nothing that comes at regular intervals is always met or
        // always missed.
        self.gap = 1 + self.rng.below(2 * self.stride - 1);
        self.left = self.gap;
    }

    /// A box for a walk that is marked from a step on, whether or not samples are due. May allocate.
    pub(super) fn lend(&mut self) -> Option<Box<Marks>> {
        if self.free.is_empty() && self.made < MARKED_WALKS_MAX {
            self.made += 1;
            return Some(Marks::new());
        }
        self.free.pop()
    }

    /// Takes back the box of a walk that is over.
    pub(in crate::data) fn give_back(&mut self, mut marks: Box<Marks>) {
        if marks.demanded {
            let Some(older) = self.demanded.replace(marks) else { return };
            marks = older;
        }
        marks.forget();
        self.free.push(marks);
    }

    /// Has the next walk that starts marked for [`Marking::take_demanded`].
    pub fn demand(&mut self) {
        self.gap = self.gap.saturating_sub(self.left) + 1;
        self.left = 1;
        self.demand = true;
    }

    /// Asks for no walk any more; whether none has started since it was asked for.
    pub fn undemand(&mut self) -> bool {
        std::mem::take(&mut self.demand)
    }

    /// The marks of the walk that was asked for, once it is over: to be given back by
    /// [`Marking::done_with`].
    pub fn take_demanded(&mut self) -> Option<Box<Marks>> {
        self.demanded.take()
    }

    /// Takes back what [`Marking::take_demanded`] gave.
    pub fn done_with(&mut self, mut marks: Box<Marks>) {
        marks.demanded = false;
        self.give_back(marks);
    }
}

impl Default for Marking {
    fn default() -> Self {
        Self::new()
    }
}

/// Counts what a sample tells: how long each link took by itself, and how long it waited.
pub(super) fn count(marks: &Marks, core: &Core, generation: &Generation) {
    if marks.weight == 0 {
        return;
    }
    let weight = marks.weight.into();
    for (index, mark) in marks.marks.iter().enumerate() {
        let block = generation.snapshot.blocks.get(mark.place.block as usize);
        let server = block.and_then(|block| block.servers.get(mark.place.zone as usize));
        let Some(times) = server.and_then(|server| server.times.get(mark.link as usize)) else {
            continue;
        };
        if matches!(mark.act, Act::Wait(_)) {
            let until = marks.marks.get(index + 1).map_or(mark.at, |next| next.at);
            core.tally.observe_times(times.wait, until.saturating_sub(mark.at), weight);
        }
        // A link's steps are counted as one time, with its first.
        let is_of_link = |other: &Mark| {
            let is_step = matches!(other.act, Act::Serve | Act::Resume);
            is_step && (other.link, other.place.block) == (mark.link, mark.place.block)
        };
        if is_of_link(mark) && !marks.marks[..index].iter().any(is_of_link) {
            let steps = marks.taken().skip(index).filter(|taken| is_of_link(&taken.mark));
            core.tally.latency_times(times.own, steps.map(|step| step.nanos).sum(), weight);
        }
    }
}
