//! A snapshot as one worker has adopted it: with its own locals, and a count of parked queries.
//!
//! A worker keeps a small table of live generations. It adopts a new one between turns; an old one
//! stays until its last parked query is done, and is then reported to control, whose drop of the
//! snapshot is always the last.
//!
//! A query is parked for seconds at most, unless it is a stream (a transfer), which lasts as long as
//! its client takes messages. When nothing but streams is left in an old generation, it is cut down to
//! the links that have frames in them ([`Generation::keep_streams`]) and counts as released: control
//! frees the rest of the graph, and a slow client holds up neither its memory nor further reloads.
//! What such a stream's last links do not find any more is the metadata of others.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use crate::data::transport::sockets::Sockets;
use crate::plugin::gone::Gone;
use crate::plugin::registry::{Link, Local};
use crate::snapshot::{Block, Listener, Snapshot};
use crate::wire::Suffixes;

/// A link with what it has of its own on this worker.
pub struct Post {
    /// The link.
    pub link: Link,
    /// Its local.
    pub local: Rc<RefCell<Local>>,
}

/// Every link with its local on this worker: `[block][link]`. A link that is carried over from one
/// generation to the next keeps its local.
pub struct Locals(Vec<Box<[Post]>>);

impl Locals {
    /// Makes the locals of `snapshot` on worker `core`; those of links that `old` has, are shared.
    pub fn new(snapshot: &Snapshot, core: u16, old: Option<&Generation>) -> Self {
        let of = |link: &Link| {
            let carried = old.and_then(|old| {
                let same = old.locals.0.iter().flatten().find(|old| old.link.is_same(link));
                same.map(|old| Rc::clone(&old.local))
            });
            let local = carried.unwrap_or_else(|| Rc::new(RefCell::new(link.local(core))));
            Post { link: link.clone(), local }
        };
        let blocks = snapshot.blocks.iter();
        Self(blocks.map(|block| block.chain.iter().map(of).collect()).collect())
    }

    /// Of no link: for a walk that the loop is to mark.
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// The local of a link.
    pub fn of(&self, block: u16, link: u16) -> &RefCell<Local> {
        &self.0[block as usize][link as usize].local
    }

    /// A link with its local, if the block's chain has so many.
    #[inline]
    pub fn get(&self, block: u16, link: u16) -> Option<&Post> {
        self.0.get(block as usize)?.get(link as usize)
    }

    /// All links with their locals.
    pub fn all(&self) -> impl Iterator<Item = &Post> {
        self.0.iter().flatten()
    }
}

/// A live generation.
pub struct Generation {
    /// What control published.
    pub snapshot: Arc<Snapshot>,
    /// This worker's part of it.
    pub locals: Locals,
    /// Queries of this generation that are parked.
    pub parked: u32,
    /// How many of them are streams that wait for their clients.
    pub streams: u32,
    /// Whether it is what streams have kept of a generation.
    pub is_cut: bool,
}

impl Generation {
    /// Adopts a snapshot on worker `core`, after `old`.
    pub fn adopt(snapshot: Arc<Snapshot>, core: u16, old: Option<&Generation>) -> Self {
        let locals = Locals::new(&snapshot, core, old);
        Self { snapshot, locals, parked: 0, streams: 0, is_cut: false }
    }

    /// Lets go of all but what is needed to end the streams that are parked here: `kept` links, by
    /// block. Allocates: once for a generation, between turns.
    pub fn keep_streams(&mut self, kept: &BTreeSet<(u16, u16)>, core: u16) {
        let blocks = (0..).zip(&self.snapshot.blocks).map(|(index, block)| cut(block, index, kept));
        let snapshot = Arc::new(Snapshot {
            generation: self.snapshot.generation,
            listeners: self.snapshot.listeners.iter().map(without_sockets).collect(),
            blocks: blocks.collect(),
            local_options: self.snapshot.local_options.clone(),
        });
        self.locals = Locals::new(&snapshot, core, Some(self));
        self.snapshot = snapshot;
        self.is_cut = true;
    }
}

/// The block with its kept links alone.
fn cut(block: &Block, index: u16, kept: &BTreeSet<(u16, u16)>) -> Block {
    let is_kept = |link: u16| kept.contains(&(index, link));
    let last = (0..block.chain.len()).rev().find(|link| is_kept(*link as u16));
    let chain = block.chain.iter().take(last.map_or(0, |last| last + 1));
    let chain = (0..).zip(chain).map(|(at, link)| match is_kept(at) {
        true => link.clone(),
        false => Link::from(Gone { name: link.name() }),
    });
    Block {
        servers: if last.is_some() { block.servers.clone() } else { Vec::new() },
        chain: chain.collect(),
        hinting: None,
        metadata: Vec::new(),
        view: None,
        taps: None,
        debug: block.debug,
    }
}

/// What finishing a reply reads of a listener. No question is routed there any more.
fn without_sockets(listener: &Listener) -> Listener {
    Listener {
        id: listener.id,
        address: listener.address,
        service: listener.service.clone(),
        sockets: Arc::new(Sockets::none(listener.address)),
        zones: Suffixes::new([]),
        any_class: false,
        timeouts: listener.timeouts,
        shed: None,
        tsig_keys: listener.tsig_keys.clone(),
        unserved: listener.unserved.clone(),
    }
}
