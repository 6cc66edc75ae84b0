//! The upstreams that a worker has met.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};

use super::Upstream;

/// A worker's upstreams.
pub struct Upstreams {
    met: HashMap<u32, Arc<Upstream>>,
}

impl Upstreams {
    /// None met.
    pub fn new() -> Self {
        Self { met: HashMap::new() }
    }

    /// Makes an upstream known to the worker.
    pub fn meet(&mut self, upstream: &Arc<Upstream>) {
        self.met.entry(upstream.id).or_insert_with(|| Arc::clone(upstream));
    }
}

impl Default for Upstreams {
    fn default() -> Self {
        Self::new()
    }
}
