//! Where queries wait: their position copied out of the walk, their octets into counted blocks.
//!
//! A parked query costs one [`Slot`] (its size is asserted below) and as many blocks as its octets
//! need: request, names, what its replies hold, what its plugins kept. Slots and blocks are made
//! when they are first needed, up to a bound, and used again. Where there is no slot or no block,
//! the query gets SERVFAIL, and a counter tells.

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::chain::cx::Client;
use super::chain::level::{Asked, OptExtra, Place, Reason, ReplyState, Source};
use super::chain::marks::{Marks, Waits};
use super::chain::step::Fetched;
use super::chain::walk::{FrameAt, Led, Walk};
use super::clock::Nanos;
use super::large::Large;
use super::signature::Signature;
use super::tally::Histogram;
use super::upstream::table::FlightId;
use crate::cells::Permit;
use crate::limits::{
    PARKED_BLOCK_BYTES, PARKED_BYTES_MAX, PARKED_SLOT_BYTES_MAX, PARKED_SLOTS_MAX,
};
use crate::wire::{Name, Rtype, TsigStatus, rcode};

/// Frames that fit into a slot; a query with more of them holds the rest in a vector.
const FRAMES_INLINE: usize = 4;
/// Octets that fit into a slot.
const BYTES_INLINE: usize = 192;

/// A level without its octets.
struct ParkedLevel {
    rtype: Rtype,
    rclass: u16,
    asked: Asked,
    place: Place,
    cursor: u16,
    by: u16,
    state: ReplyState,
    /// Of a written reply: with the part that OPT will carry.
    rcode: u16,
    source: Source,
    /// What few replies have: boxed only when there is something.
    rare: Option<Box<(Reason, OptExtra)>>,
}

/// What a parked query waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its deadline.
    Sleep,
    /// Something that may come before its deadline, at which its time is over (`cancel`).
    Cancel,
    /// Something that may come before its deadline.
    Reply,
    /// An upstream's reply, or the time to ask a second upstream too.
    Hedge,
    /// Its client's taking one reply of many.
    Client,
}

/// A query that waits; its memory is used again for the next one.
pub struct Slot {
    live: bool,
    /// Counts up when the slot is taken: old wake-ups do not match.
    use_count: u32,
    /// Index of the generation in the worker's table.
    generation: u64,
    /// When it has to be woken at the latest; 0 for a stream that waits for its client.
    pub(super) deadline: Nanos,
    kind: Kind,
    detached: bool,
    client: Client,
    arrived: Nanos,
    cancel_at: Nanos,
    timed: Option<Histogram>,
    /// Boxed: few queries are signed.
    signature: Option<Box<Signature>>,
    carried: Option<Arc<dyn Any + Send + Sync>>,
    led: Led,
    permit: Option<Permit>,
    marks: Option<Box<Marks>>,
    waits: Waits,
    /// What it has in flight to upstreams.
    flights: [Option<FlightId>; 2],
    depth: u8,
    asks: u16,
    fetches: u16,
    /// Octets of the client's message.
    request_len: u16,
    first: Option<ParkedLevel>,
    deeper: Vec<ParkedLevel>,
    frames: [Option<FrameAt>; FRAMES_INLINE],
    frames_more: Vec<FrameAt>,
    bytes_len: u32,
    inline: [u8; BYTES_INLINE],
    blocks: Vec<u32>,
}

const _: () = assert!(size_of::<Slot>() <= PARKED_SLOT_BYTES_MAX);

/// The waiting queries of one worker.
pub struct Slots {
    #[allow(clippy::vec_box, reason = "grows without moving megabytes of what is parked")]
    slots: Vec<Box<Slot>>,
    free: Vec<u32>,
    use_counts: Vec<u32>,
    #[allow(clippy::vec_box, reason = "grows without moving megabytes of what is parked")]
    blocks: Vec<Box<[u8; PARKED_BLOCK_BYTES]>>,
    free_blocks: Vec<u32>,
    scratch: Vec<u8>,
    parked: u32,
    /// Slots that wait for their client, by connection.
    streaming: BTreeSet<((u32, u32), u32)>,
}

/// A slot and its use count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotId {
    /// Index.
    pub slot: u32,
    /// Use count.
    pub use_count: u32,
}

impl Slots {
    /// No parked queries.
    pub fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            use_counts: Vec::new(),
            blocks: Vec::new(),
            free_blocks: Vec::new(),
            scratch: Vec::new(),
            parked: 0,
            streaming: BTreeSet::new(),
        }
    }

    /// Queries that are parked.
    pub fn len(&self) -> usize {
        self.parked as usize
    }

    /// Whether none is parked.
    pub fn is_empty(&self) -> bool {
        self.parked == 0
    }

    /// Octets that parked queries may be holding: slots and blocks made so far.
    pub fn bytes(&self) -> usize {
        self.slots.len() * size_of::<Slot>() + self.blocks.len() * PARKED_BLOCK_BYTES
    }

    /// Copies a walk that waits into a slot. `None`: no slot or no block is free.
    pub fn park(
        &mut self,
        walk: &mut Walk,
        generation: u64,
        deadline: Nanos,
        kind: Kind,
    ) -> Option<SlotId> {
        self.scratch.clear();
        write_bytes(walk, &mut self.scratch);
        let need = self.scratch.len().saturating_sub(BYTES_INLINE).div_ceil(PARKED_BLOCK_BYTES);
        if !self.have_blocks(need) {
            return None;
        }
        let index = self.take_index()?;
        let use_count = self.use_counts[index as usize];
        let slot = &mut *self.slots[index as usize];
        slot.blocks.extend(self.free_blocks.drain(self.free_blocks.len() - need..));
        let (head, tail) = self.scratch.split_at(self.scratch.len().min(BYTES_INLINE));
        slot.inline[..head.len()].copy_from_slice(head);
        for (block, bytes) in slot.blocks.iter().zip(tail.chunks(PARKED_BLOCK_BYTES)) {
            self.blocks[*block as usize][..bytes.len()].copy_from_slice(bytes);
        }
        slot.bytes_len = self.scratch.len() as u32;
        slot.live = true;
        slot.use_count = use_count;
        slot.generation = generation;
        slot.deadline = deadline;
        slot.kind = kind;
        slot.save(walk);
        if kind == Kind::Client {
            self.streaming.insert((slot.client.connection, index));
        }
        self.parked += 1;
        Some(SlotId { slot: index, use_count })
    }

    /// Puts a parked query back into the walk and frees its slot; gives its generation. `None`: the
    /// slot has moved on.
    pub fn unpark(
        &mut self,
        id: SlotId,
        walk: &mut Walk,
        (fetched, landed): (Fetched, Option<Arc<[u8]>>),
        large: &mut Large,
    ) -> Option<u64> {
        if !self.is_live(id) {
            return None;
        }
        let slot = &mut *self.slots[id.slot as usize];
        slot.live = false;
        self.parked -= 1;
        self.use_counts[id.slot as usize] += 1;
        self.free.push(id.slot);
        if slot.kind == Kind::Client {
            self.streaming.remove(&(slot.client.connection, id.slot));
        }
        self.scratch.clear();
        let len = slot.bytes_len as usize;
        self.scratch.extend_from_slice(&slot.inline[..len.min(BYTES_INLINE)]);
        let mut left = len.saturating_sub(BYTES_INLINE);
        for block in &slot.blocks {
            let take = left.min(PARKED_BLOCK_BYTES);
            self.scratch.extend_from_slice(&self.blocks[*block as usize][..take]);
            left -= take;
        }
        self.free_blocks.append(&mut slot.blocks);
        slot.load(walk);
        walk.fetched = fetched;
        walk.landed = landed;
        walk.used = 0;
        let mut rest = read_bytes(walk, &self.scratch);
        for level in slot.first.take().into_iter().chain(slot.deeper.drain(..)) {
            rest = unpark_level(walk, level, rest, large);
        }
        Some(slot.generation)
    }

    fn find(&self, id: SlotId) -> Option<&Slot> {
        let slot = self.slots.get(id.slot as usize)?;
        (slot.live && slot.use_count == id.use_count).then_some(slot)
    }

    /// Whether the slot still holds the query that this id was given for.
    pub fn is_live(&self, id: SlotId) -> bool {
        self.find(id).is_some()
    }

    /// The deadline of a parked query.
    pub fn deadline(&self, id: SlotId) -> Option<Nanos> {
        Some(self.find(id)?.deadline)
    }

    /// What a parked query waits for.
    pub fn kind(&self, id: SlotId) -> Option<Kind> {
        Some(self.find(id)?.kind)
    }

    /// What a parked query has in flight to upstreams.
    pub fn flights(&self, id: SlotId) -> [Option<FlightId>; 2] {
        self.find(id).map_or([None; 2], |slot| slot.flights)
    }

    /// Changes what a parked query has in flight.
    pub fn set_flights(&mut self, id: SlotId, flights: [Option<FlightId>; 2]) {
        if self.is_live(id) {
            self.slots[id.slot as usize].flights = flights;
        }
    }

    /// A query that waits for this connection to take a reply.
    pub fn streaming(&self, connection: (u32, u32)) -> Option<SlotId> {
        let mut waiting = self.streaming.range((connection, 0)..=(connection, u32::MAX));
        let &(_, slot) = waiting.next()?;
        Some(SlotId { slot, use_count: self.use_counts[slot as usize] })
    }

    /// The links, by block, that streams of this generation will be resumed in.
    pub fn stream_links(&self, generation: u64) -> BTreeSet<(u16, u16)> {
        let slots = self.streaming.iter().map(|(_, slot)| &*self.slots[*slot as usize]);
        slots.filter(|slot| slot.generation == generation).flat_map(Slot::links).collect()
    }

    /// Every parked query, for shutdown.
    pub fn ids(&self) -> Vec<SlotId> {
        let slots = self.slots.iter().enumerate().filter(|(_, slot)| slot.live);
        slots
            .map(|(index, slot)| SlotId { slot: index as u32, use_count: slot.use_count })
            .collect()
    }

    fn take_index(&mut self) -> Option<u32> {
        if let Some(index) = self.free.pop() {
            return Some(index);
        }
        if self.slots.len() >= PARKED_SLOTS_MAX {
            return None;
        }
        self.slots.push(Box::new(Slot::new()));
        self.use_counts.push(0);
        Some(self.slots.len() as u32 - 1)
    }

    /// Makes blocks until so many are free; `false`: there is no room for them.
    fn have_blocks(&mut self, count: usize) -> bool {
        let made = PARKED_BYTES_MAX / PARKED_BLOCK_BYTES - self.blocks.len();
        if self.free_blocks.len() + made < count {
            return false;
        }
        while self.free_blocks.len() < count {
            self.blocks.push(Box::new([0; PARKED_BLOCK_BYTES]));
            self.free_blocks.push(self.blocks.len() as u32 - 1);
        }
        true
    }
}

impl Slot {
    fn new() -> Self {
        Self {
            live: false,
            use_count: 0,
            generation: 0,
            deadline: 0,
            kind: Kind::Sleep,
            detached: false,
            client: Client::NOBODY,
            arrived: 0,
            cancel_at: 0,
            timed: None,
            signature: None,
            carried: None,
            led: Led::NONE,
            permit: None,
            marks: None,
            waits: Waits::NONE,
            flights: [None; 2],
            depth: 0,
            asks: 0,
            fetches: 0,
            request_len: 0,
            first: None,
            deeper: Vec::new(),
            frames: [None; FRAMES_INLINE],
            frames_more: Vec::new(),
            bytes_len: 0,
            inline: [0; BYTES_INLINE],
            blocks: Vec::new(),
        }
    }

    /// Copies what of a walk has a fixed size; what counts moves here.
    fn save(&mut self, walk: &mut Walk) {
        self.detached = walk.detached;
        self.client = walk.client;
        self.arrived = walk.arrived;
        self.cancel_at = walk.cancel_at;
        self.timed = walk.timed;
        let is_signed = walk.signature.status() != TsigStatus::Unsigned;
        self.signature = is_signed.then(|| Box::new(walk.signature));
        self.carried = walk.carried.take();
        self.permit = walk.permit.take();
        self.marks = walk.marks.take();
        self.waits = walk.waits;
        self.led = walk.led;
        self.flights = [None; 2];
        self.depth = walk.depth as u8;
        self.asks = walk.asks;
        self.fetches = walk.fetches;
        self.request_len = walk.request_len as u16;
        let mut levels = (0..walk.used).map(|level| park_level(walk, level));
        self.first = levels.next();
        self.deeper.extend(levels);
        self.frames = [None; FRAMES_INLINE];
        for (place, frame) in self.frames.iter_mut().zip(&walk.frames) {
            *place = Some(*frame);
        }
        self.frames_more.clear();
        self.frames_more.extend_from_slice(walk.frames.get(FRAMES_INLINE..).unwrap_or_default());
    }

    /// The links of its frames, by block.
    fn links(&self) -> impl Iterator<Item = (u16, u16)> {
        let block = |level: u8| match level.checked_sub(1) {
            None => self.first.as_ref(),
            Some(deeper) => self.deeper.get(deeper as usize),
        };
        let frames = self.frames.iter().flatten().chain(&self.frames_more);
        frames.filter_map(move |at| Some((block(at.level)?.place.block, at.link)))
    }

    /// Gives it back to a walk.
    fn load(&mut self, walk: &mut Walk) {
        walk.open(self.client, self.arrived);
        walk.depth = self.depth as usize;
        walk.asks = self.asks;
        walk.fetches = self.fetches;
        walk.request_len = self.request_len as usize;
        walk.cancel_at = self.cancel_at;
        walk.timed = self.timed;
        walk.signature = self.signature.take().map_or(Signature::NONE, |signature| *signature);
        walk.carried = self.carried.take();
        walk.permit = self.permit.take();
        walk.marks = self.marks.take();
        walk.waits = self.waits;
        walk.led = self.led;
        walk.detached = self.detached;
        walk.frames.extend(self.frames.iter().flatten());
        walk.frames.extend(&self.frames_more);
    }
}

impl Default for Slots {
    fn default() -> Self {
        Self::new()
    }
}

fn park_level(walk: &Walk, index: usize) -> ParkedLevel {
    let level = &walk.levels[index];
    let rare = !level.reason.is_empty() || !level.extra.is_blank();
    ParkedLevel {
        rtype: level.rtype,
        rclass: level.rclass,
        asked: level.asked,
        place: level.place,
        cursor: level.cursor,
        by: level.by,
        state: level.state,
        rcode: level.reply.rcode(),
        source: level.source,
        rare: rare.then(|| Box::new((level.reason, level.extra))),
    }
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn get(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (len, rest) = bytes.split_at(2);
    rest.split_at(u16::from_le_bytes([len[0], len[1]]) as usize)
}

/// Request and what is behind it, kept memory, then each level's name and the message of its reply.
fn write_bytes(walk: &Walk, out: &mut Vec<u8>) {
    put(out, &walk.request[..walk.request_end]);
    put(out, &walk.memory);
    for level in &walk.levels[..walk.used] {
        put(out, level.name.as_name().as_bytes());
        let written = level.state == ReplyState::Written;
        put(out, if written { level.reply.bytes() } else { &[] });
    }
}

fn read_bytes<'b>(walk: &mut Walk, bytes: &'b [u8]) -> &'b [u8] {
    let (request, rest) = get(bytes);
    if walk.request.len() < request.len() {
        walk.request = vec![0; request.len()].into_boxed_slice();
    }
    walk.request[..request.len()].copy_from_slice(request);
    walk.request_end = request.len();
    let (memory, rest) = get(rest);
    walk.memory.extend_from_slice(memory);
    rest
}

fn unpark_level<'b>(
    walk: &mut Walk,
    parked: ParkedLevel,
    bytes: &'b [u8],
    large: &mut Large,
) -> &'b [u8] {
    let (name, rest) = get(bytes);
    let (message, rest) = get(rest);
    let index = walk.used;
    walk.used += 1;
    let level = &mut walk.levels[index];
    let name = Name::from_wire(name).map_or(Name::ROOT, |(name, _)| name);
    level.open(name, parked.rtype, parked.rclass, parked.asked);
    level.place = parked.place;
    level.cursor = parked.cursor;
    level.by = parked.by;
    level.source = parked.source;
    level.state = parked.state;
    if message.len() > level.reply.capacity() {
        large.enlarge(&mut level.reply);
    }
    if parked.state == ReplyState::Written {
        match level.reply.load(message) {
            Ok(()) => level.reply.set_rcode(parked.rcode),
            // No large buffer was free: fail closed.
            Err(_) => level.state = ReplyState::Failed(rcode::SERVFAIL),
        }
    }
    if let Some(rare) = parked.rare {
        (level.reason, level.extra) = *rare;
    }
    rest
}
