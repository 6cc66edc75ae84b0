//! What a plugin that knows search paths offers to `autopath`.
//!
//! A search path is what a client's resolver appends to a name, element by element (`search` of
//! resolv.conf(5)). A plugin that knows those of clients says so in
//! [`Plugin::search_path`](super::Plugin::search_path); `autopath` asks the plugin that its line names.
//!
//! Cost: a look-up a query by the client's address, on the data plane: it neither waits nor allocates.

use std::net::IpAddr;
use std::sync::Arc;

use crate::wire::{Name, NameBuf};

/// The elements of a client's own, the namespace's, `svc` below the cluster's zone, and that zone, are
/// the first one and what is left of it without its first label and without its first two.
pub const OWN_ELEMENTS: u8 = 3;

/// Search paths.
pub enum SearchPath {
    /// The same for every client: its elements, lower-cased.
    Same(Vec<NameBuf>),
    /// Each client its own.
    OfClient(Arc<dyn Clients>),
}

/// Knows clients by their addresses.
pub trait Clients: Send + Sync {
    /// What one worker asks. Control side, or between turns.
    fn reader(&self) -> Box<dyn ClientReader>;
}

/// One worker's view of the clients.
pub trait ClientReader {
    /// Takes what is known now. Between turns.
    fn refresh(&mut self);

    /// The number of labels of the first element, of [`OWN_ELEMENTS`], of the path that `client` has
    /// for names of the zone that `lower` (lower-cased) is in, if `lower` is under that element or is it.
    fn first_element(&self, lower: Name<'_>, client: IpAddr) -> Option<usize>;
}
