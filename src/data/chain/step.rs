//! What a plugin may say, and what a walk may wait for.
//!
//! A step is plain data: the position of a query is a cursor, a stack of frames and a stack of
//! levels, so that parking a query copies it and no native stack survives a wait.

use crate::cells::FlightKey;
use crate::data::clock::Nanos;
use crate::data::upstream::Unreached;

/// What a plugin says of a query. `F` is the plugin's own frame: what it must remember until its
/// `resume`, which may say whatever `serve` may.
#[derive(Clone, Copy, Debug)]
pub enum Step<F> {
    /// Not mine: serve the plugin below. From `resume` this clears the reply first.
    Next,
    /// Serve the plugins below, then resume me with their reply.
    Watch(F),
    /// Answer the question that [`Cx::ask`](super::Cx::ask) placed, then resume me with it in
    /// [`Cx::side`](super::Cx::side).
    Ask(F, Entry),
    /// Wait for something, then resume me with [`Cx::fetched`](super::Cx::fetched).
    Fetch(F, Fetch),
    /// Finish and send the reply as one of many; resume me when the transport can take the next.
    /// On a datagram transport the reply is the only one, and nothing is resumed; likewise on a
    /// walk without a client.
    Send(F),
    /// The reply stands: hand it to the plugins above.
    Up,
}

/// Where an asked question enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The plugins below the asker, in the same block.
    Below,
    /// The server, as if a client had asked: routed to whichever block serves the name.
    Top,
}

/// Waits. Each has a deadline, and lateness is a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetch {
    /// Wait for so many nanoseconds.
    Sleep(Nanos),
    /// Wait until the leader of this flight lands, or until the deadline (monotonic).
    Join(FlightKey, Nanos),
    /// Wait for an upstream's reply: what [`Cx::exchange`](super::Cx::exchange) makes.
    Exchange(Exchange),
}

/// Asking an upstream the level's question. Made by [`Cx::exchange`](super::Cx::exchange) only,
/// which has made the upstream known to the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Id of the upstream.
    pub(in crate::data) upstream: u32,
    /// Whether a stream is asked for where the upstream speaks plain DNS.
    pub(in crate::data) stream: bool,
    /// When the wait ends (monotonic).
    pub(in crate::data) deadline: Nanos,
    /// Id of another upstream that is asked too if there is no reply by then (monotonic).
    pub(in crate::data) hedge: Option<(u32, Nanos)>,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// Nothing was waited for.
    Nothing,
    /// The time of a `Sleep` is over.
    Slept,
    /// The flight landed: its message is in [`Cx::landed`](super::Cx::landed).
    Landed,
    /// The leader gave up or was already gone: the waiter may lead.
    Failed,
    /// The deadline passed.
    Late,
    /// An upstream replied: its message is in [`Cx::message`](super::Cx::message).
    Message,
    /// The exchange failed before its deadline.
    Unreached(Unreached),
}
