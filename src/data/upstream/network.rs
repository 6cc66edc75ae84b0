//! The seam between what is asked and what carries it: sockets in a worker, a simulation in proofs.

use std::ops::Range;
use std::sync::Arc;

use super::{Unreached, Upstream};

/// A socket or connection to an upstream: its place, and how often the place was used before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChannelId {
    /// Index of the place.
    pub index: u32,
    /// Use count: what comes for an older one is for a channel that is closed.
    pub use_count: u32,
}

/// Queries composed one behind the other.
#[derive(Default)]
pub struct Queries {
    pub(super) bytes: Vec<u8>,
    pub(super) parts: Vec<Range<u32>>,
}

impl Queries {
    /// The messages.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.parts.iter().map(|part| &self.bytes[part.start as usize..part.end as usize])
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.parts.clear();
    }
}

/// What carries queries. Nothing here waits; what comes back is handed to the turn by whoever
/// watches the sockets.
pub trait Network {
    /// Opens a channel: a connected UDP socket, or a connection that may still be on its way.
    ///
    /// # Errors
    /// Why it cannot be opened.
    fn open(
        &mut self,
        channel: ChannelId,
        upstream: &Arc<Upstream>,
        stream: bool,
    ) -> Result<(), Unreached>;

    /// Sends datagrams. What the kernel has no room for is lost, as on the way.
    ///
    /// # Errors
    /// The upstream cannot be reached by this channel: it has to be closed.
    fn send(&mut self, channel: ChannelId, queries: &Queries) -> Result<(), Unreached>;

    /// Sends one message on a stream.
    ///
    /// # Errors
    /// It has no room for it; the channel is as before.
    fn ask(&mut self, channel: ChannelId, query: &[u8]) -> Result<(), Unreached>;

    /// Closes a channel.
    fn close(&mut self, channel: ChannelId);
}
