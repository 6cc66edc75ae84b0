//! Random octets that nobody may guess: ids, sockets and letter case of queries to upstreams, ids of
//! traces.
//!
//! They come from the kernel's generator, a buffer at a time: one system call for some hundred
//! queries. Octets are wiped as they are handed out. RFC 5452 section 9.

use crate::limits::SECRET_BYTES;

/// A worker's supply.
pub struct Secrets {
    buffer: Box<[u8; SECRET_BYTES]>,
    /// Octets that are used up.
    used: usize,
}

impl Default for Secrets {
    fn default() -> Self {
        Self::new()
    }
}

impl Secrets {
    /// An empty supply.
    pub fn new() -> Self {
        Self { buffer: Box::new([0; SECRET_BYTES]), used: SECRET_BYTES }
    }

    /// Eight octets. `None`: the kernel has none to give, and nothing may be asked without.
    pub fn take(&mut self) -> Option<u64> {
        if self.used + 8 > SECRET_BYTES {
            getrandom::fill(&mut self.buffer[..]).ok()?;
            self.used = 0;
        }
        let octets = self.buffer[self.used..].first_chunk_mut::<8>()?;
        self.used += 8;
        Some(u64::from_ne_bytes(std::mem::take(octets)))
    }
}

const _: () = assert!(SECRET_BYTES.is_multiple_of(8));
