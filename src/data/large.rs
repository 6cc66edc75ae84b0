//! Buffers for replies that are longer than a lane.
//!
//! A reply over `LANE_BYTES` takes one of `LARGE_BUFFERS_MAX` buffers of 64 KiB until it is sent.
//! They are made when they are first needed and kept; the small buffer that one replaces waits here
//! meanwhile. None free: the reply stays short, with TC on UDP, and a counter tells.

use crate::limits::{LANE_BYTES, LARGE_BUFFERS_MAX, MESSAGE_BYTES_MAX};
use crate::wire::Reply;

/// A worker's large buffers.
#[derive(Default)]
pub struct Large {
    free: Vec<Box<[u8]>>,
    small: Vec<Box<[u8]>>,
    made: usize,
    /// Times that none was free.
    pub refused: u64,
}

impl Large {
    /// None made yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives an empty reply room for 64 KiB; what it holds is forgotten. `false`: it has that room
    /// already, or no buffer is free.
    pub fn enlarge(&mut self, reply: &mut Reply) -> bool {
        if reply.capacity() > LANE_BYTES {
            return false;
        }
        let large = self.free.pop().or_else(|| {
            let room = self.made < LARGE_BUFFERS_MAX;
            self.made += usize::from(room);
            room.then(|| vec![0; MESSAGE_BYTES_MAX].into_boxed_slice())
        });
        let Some(mut buffer) = large else {
            self.refused += 1;
            return false;
        };
        reply.swap_buf(&mut buffer);
        self.small.push(buffer);
        true
    }

    /// Takes a reply's large buffer back, if it has one; what it holds is forgotten.
    pub fn shrink(&mut self, reply: &mut Reply) {
        if reply.capacity() > LANE_BYTES {
            let mut buffer = self.small();
            reply.swap_buf(&mut buffer);
            self.free.push(buffer);
        }
    }

    /// Takes back a large buffer that has been sent from.
    pub fn reclaim(&mut self, buffer: &mut Box<[u8]>) {
        if buffer.len() > LANE_BYTES {
            let small = self.small();
            self.free.push(std::mem::replace(buffer, small));
        }
    }

    fn small(&mut self) -> Box<[u8]> {
        self.small.pop().unwrap_or_else(|| vec![0; LANE_BYTES].into_boxed_slice())
    }
}
