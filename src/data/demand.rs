//! One question whose whole way somebody wants to know (`corelane explain`).
//!
//! Control sends a [`Demand`] by mail. The worker walks the question as if a client had sent it: through
//! the gate, by the same route, chain and upstreams, counted and logged as any other; only the reply goes
//! to who demanded it, with the marks of the walk and how things stood at each ([`Walked`]). A worker
//! walks one such question at a time and refuses others meanwhile. What it costs, and allocates, falls
//! on that walk alone; a turn without one pays a comparison.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::chain::cx::{Client, Core, Transport};
use super::chain::level::Place;
use super::chain::marks::{Act, Mark, Marks, Note, Said, Stood, Taken};
use super::clock::Nanos;
use super::route;
use crate::limits::WALK_NANOS_MAX;
use crate::snapshot::{Listener, Snapshot};
use crate::wire::{NameBuf, Question, Rtype};

/// A question to be walked.
#[derive(Debug)]
pub struct Demand {
    /// Who asks, so to speak.
    pub peer: SocketAddr,
    /// How it comes in.
    pub transport: Transport,
    /// Where it is asked; an unspecified address stands for any with this port. None: at the first
    /// listener.
    pub at: Option<SocketAddr>,
    /// The query.
    pub message: Box<[u8]>,
    /// Told in the end.
    pub done: oneshot::Sender<Result<Walked, Unwalked>>,
}

impl Demand {
    /// Says that it cannot be walked now.
    pub fn refuse(self) {
        // Who demanded it may have gone.
        drop(self.done.send(Err(Unwalked::Busy)));
    }
}

/// Why a question was not walked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unwalked {
    /// The worker walks another one.
    Busy,
    /// Nothing listens there: what is listened on.
    NoListener(Vec<SocketAddr>),
}

/// The way of a question.
#[derive(Debug)]
pub struct Walked {
    /// Where it was asked.
    pub listener: SocketAddr,
    /// Whom the route has tried, in its order; the last one was chosen, if one was.
    pub tried: Vec<Tried>,
    /// What happened, in order.
    pub steps: Vec<Passed>,
    /// Marks that there was no room for.
    pub lost: u32,
    /// The reply; none was sent if there is none.
    pub reply: Option<Box<[u8]>>,
    /// How long the whole way took.
    pub nanos: Nanos,
}

/// A zone on the listener that the name is in.
#[derive(Clone, Debug)]
pub struct Tried {
    /// The zone.
    pub zone: NameBuf,
    /// The view of its block; empty without one.
    pub view: Box<str>,
    /// Whether its block serves the question.
    pub chosen: bool,
}

/// A step of the way.
#[derive(Clone, Debug)]
pub struct Passed {
    /// When it began, since the walk did.
    pub at: Nanos,
    /// How long it took.
    pub nanos: Nanos,
    /// What the loop did.
    pub act: Act,
    /// What the link said.
    pub said: Option<Said>,
    /// The link's plugin; empty where there is none.
    pub plugin: &'static str,
    /// The zone of the block.
    pub zone: Option<NameBuf>,
    /// 0 for the client's question, more for those that plugins ask.
    pub depth: u8,
    /// Who was asked.
    pub upstream: Option<Box<str>>,
    /// The question that it was about.
    pub question: Asking,
    /// The question that the link asked.
    pub asks: Option<Asking>,
    /// How the reply stood before.
    pub before: Stood,
    /// How it stood after.
    pub after: Option<Stood>,
}

/// A name and a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asking {
    /// As it was written.
    pub name: NameBuf,
    /// The type.
    pub rtype: Rtype,
}

impl Asking {
    fn of(note: &Note) -> Self {
        Self { name: note.name, rtype: note.rtype }
    }
}

/// A question on its way.
pub struct Pending {
    done: oneshot::Sender<Result<Walked, Unwalked>>,
    /// What it is walked in, for the names of things.
    snapshot: Arc<Snapshot>,
    listener: u32,
    address: SocketAddr,
    latest: Nanos,
}

impl Pending {
    /// A demand that a worker takes up, with who asks and the query; who demanded is told if it cannot
    /// be.
    pub fn new(
        demand: Demand,
        snapshot: &Arc<Snapshot>,
        now: Nanos,
    ) -> Option<(Self, Client, Box<[u8]>)> {
        let Demand { peer, transport, at, message, done } = demand;
        let Some(listener) = listener(snapshot, at) else {
            let all = snapshot.listeners.iter().map(|listener| listener.address).collect();
            drop(done.send(Err(Unwalked::NoListener(all))));
            return None;
        };
        let client = Client {
            peer,
            local: listener.address,
            transport,
            listener: listener.id,
            connection: Client::DEMANDED,
        };
        let pending = Self {
            done,
            snapshot: Arc::clone(snapshot),
            listener: listener.id,
            address: listener.address,
            latest: now + 2 * WALK_NANOS_MAX,
        };
        Some((pending, client, message))
    }

    /// Whether it should have come to its end long ago.
    pub fn is_late(&self, now: Nanos) -> bool {
        self.latest <= now
    }

    /// Tells of the walk, which is over.
    pub fn tell(self, marks: Option<&Marks>, reply: Option<Box<[u8]>>, core: &Core) {
        let Self { done, snapshot, listener, address, .. } = self;
        let steps = marks.map_or(Vec::new(), |marks| steps(marks, &snapshot, core));
        let walked = Walked {
            listener: address,
            tried: marks.map_or(Vec::new(), |marks| tried(marks, &snapshot, listener)),
            nanos: steps.last().map_or(0, |last| last.at + last.nanos),
            steps,
            lost: marks.map_or(0, Marks::lost),
            reply,
        };
        // Who demanded it may have gone.
        drop(done.send(Ok(walked)));
        // The last drop of a snapshot is control's.
        core.spend(Some(snapshot as _));
    }
}

/// The listener that is meant.
fn listener(snapshot: &Snapshot, at: Option<SocketAddr>) -> Option<&Listener> {
    let all = || snapshot.listeners.iter();
    let Some(at) = at else { return all().next() };
    let exact = all().find(|listener| listener.address == at);
    let with_port = || {
        all().find(|one| {
            let ip = one.address.ip();
            one.address.port() == at.port() && (ip.is_unspecified() || at.ip().is_unspecified())
        })
    };
    exact.or_else(with_port)
}

/// What the route has tried: the same route again, whose views have judged already.
fn tried(marks: &Marks, snapshot: &Snapshot, listener: u32) -> Vec<Tried> {
    let (Some(mark), Some(note)) = (marks.as_slice().first(), marks.notes().first()) else {
        return Vec::new();
    };
    let lower = NameBuf::lowered(note.name.as_name());
    let (name, lower) = (lower.as_name(), lower.as_name());
    let question = Question { name, lower, rtype: note.rtype, rclass: note.rclass };
    let mut tried = Vec::new();
    route::choose(snapshot, listener, question, |place| {
        let chosen = place == mark.place;
        tried.extend(server(snapshot, place).map(|server| Tried {
            zone: server.zone,
            view: server.view_label.clone(),
            chosen,
        }));
        chosen
    });
    tried
}

fn server(snapshot: &Snapshot, place: Place) -> Option<&crate::snapshot::Server> {
    snapshot.blocks.get(place.block as usize)?.servers.get(place.zone as usize)
}

fn steps(marks: &Marks, snapshot: &Snapshot, core: &Core) -> Vec<Passed> {
    let start = marks.as_slice().first().map_or(0, |mark| mark.at);
    let (stood, both) = (marks.notes().windows(2), marks.as_slice().windows(2));
    let step = |((taken, stood), both): ((Taken, &[Note]), &[Mark])| {
        let Taken { mark, nanos, said, .. } = taken;
        let block = snapshot.blocks.get(mark.place.block as usize);
        let link = block.and_then(|block| block.chain.get(mark.link as usize));
        let upstream = match mark.act {
            Act::Wait(id) => core.upstreams.label(id).map(Into::into),
            _ => None,
        };
        let next = both[1].level;
        Passed {
            at: mark.at.saturating_sub(start),
            nanos,
            act: mark.act,
            said,
            plugin: link.map_or("", |link| link.name()),
            zone: server(snapshot, mark.place).map(|server| server.zone),
            depth: mark.level,
            upstream,
            question: Asking::of(&stood[0]),
            asks: (next > mark.level).then(|| Asking::of(&stood[1])),
            before: stood[0].reply,
            after: match () {
                () if next == mark.level => Some(stood[1].reply),
                () if next + 1 == mark.level => stood[1].side,
                () => None,
            },
        }
    };
    marks.taken().zip(stood).zip(both).map(step).collect()
}
