//! What control hands to the data plane: one immutable graph per Corefile that was loaded.
//!
//! A snapshot is built, bound and started whole before it is published; workers adopt it between
//! turns. What changes without a reload (zones, host tables, records) lives behind
//! [`Table`](crate::publish::Table)s that its links hold.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;

use crate::data::clock::Nanos;
use crate::data::counters::{LinkTimes, ShedCounters};
use crate::data::tally::query::QueryCells;
use crate::data::transport::sockets::Sockets;
use crate::plugin::dnstap::Taps;
use crate::plugin::registry::Link;
use crate::wire::{NameBuf, Suffixes, TsigKeys};

pub use crate::data::chain::level::Place;

/// Everything that answers queries.
pub struct Snapshot {
    /// Counts up with each publication.
    pub generation: u64,
    /// Listeners, in the order of the Corefile.
    pub listeners: Vec<Listener>,
    /// Server blocks, in the order of the Corefile.
    pub blocks: Vec<Block>,
    /// Codes of EDNS options that some rule of the Corefile names (`rewrite`): they go back to clients
    /// as they came, like those that are answered so by themselves.
    pub local_options: Box<[u16]>,
}

impl Snapshot {
    /// The listener with this id.
    pub fn listener(&self, id: u32) -> Option<&Listener> {
        self.listeners.iter().find(|listener| listener.id == id)
    }
}

/// One address that is listened on, with the zones that are served there.
pub struct Listener {
    /// Stable for the process: a listener that a reload keeps, keeps its id.
    pub id: u32,
    /// The address.
    pub address: SocketAddr,
    /// What is spoken there.
    pub service: Service,
    /// One TCP listener per worker, and for plain DNS one UDP socket.
    pub sockets: Arc<Sockets>,
    /// Which server blocks serve which zone.
    pub zones: Suffixes<Vec<Place>>,
    /// Whether classes other than IN are let through (a block with `chaos` or `forward`).
    pub any_class: bool,
    /// What `timeouts` says.
    pub timeouts: Timeouts,
    /// Whether overload is shed (`shed`), and where it is counted.
    pub shed: Option<ShedCounters>,
    /// Keys for signed queries (`tsig`): those of all its blocks.
    pub tsig_keys: TsigKeys,
    /// Counts what no chain sees: queries that nothing serves, and those whose walk panicked.
    pub unserved: QueryCells,
}

/// What is spoken on a listener.
#[derive(Clone)]
pub enum Service {
    /// Plain DNS, over UDP and TCP (RFC 1035).
    Dns,
    /// DNS over TLS (RFC 7858), with what connections are accepted with.
    Tls(Arc<ServerConfig>),
}

impl Service {
    /// Whether both are the same but for what connections are accepted with.
    pub fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// How long a connection may be quiet, and how much it may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For the first message of a connection, and for the rest of one that has begun.
    pub read: Nanos,
    /// For a reply to be taken.
    pub write: Nanos,
    /// Between messages (RFC 7766 section 6.2.3).
    pub idle: Nanos,
    /// Queries on one connection; 0: no bound.
    pub queries: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        use crate::data::clock::SECOND;
        Self { read: 3 * SECOND, write: 5 * SECOND, idle: 10 * SECOND, queries: 0 }
    }
}

/// One server block.
pub struct Block {
    /// Its zones and listeners, each pair with the labels that its metrics carry.
    pub servers: Vec<Server>,
    /// Its plugins, in the order of `plugin/registry.rs`.
    pub chain: Vec<Link>,
    /// The lowest link that has a hint: the leaf that most queries end in.
    pub hinting: Option<u16>,
    /// For each metadata label that a plugin of this block reads, who provides it and its key.
    pub metadata: Vec<Option<(u16, u16)>>,
    /// Its view, which judges whether a query is served here.
    pub view: Option<u16>,
    /// Its `dnstap`, for those below that exchange messages with others.
    pub taps: Option<Arc<Taps>>,
    /// Whether a panic of a walk ends the process instead (`debug`).
    pub debug: bool,
}

impl Block {
    /// Who provides a label: link and key.
    pub fn meta(&self, label: MetaRef) -> Option<(u16, u16)> {
        *self.metadata.get(label.0 as usize)?
    }
}

/// A metadata label that a plugin reads, as an index into its block's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetaRef(pub u16);

/// A zone of a block on a listener.
#[derive(Clone)]
pub struct Server {
    /// The zone, lower-cased.
    pub zone: NameBuf,
    /// The `server` label: `dns://:53`.
    pub server_label: Box<str>,
    /// The `zone` label.
    pub zone_label: Box<str>,
    /// The `view` label, empty without a view.
    pub view_label: Box<str>,
    /// Where the times of its block's links are counted, in the order of the chain.
    pub times: Box<[LinkTimes]>,
}
