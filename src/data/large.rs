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

    /// As `enlarge`, of a reply that keeps what it holds: one that has no room for OPT.
    pub fn grow(&mut self, reply: &mut Reply) {
        let (rcode, before) = (reply.rcode(), reply.len());
        if !self.enlarge(reply) {
            return;
        }
        // `enlarge` has put the buffer that the message stands in last.
        if let Some(message) = self.small.last().and_then(|small| small.get(..before)) {
            // It fitted into less.
            let _ = reply.load(message);
            reply.set_rcode(rcode);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Flags, Name, Question, Section, rclass, rcode, rtype};

    #[test]
    fn a_reply_grows_with_what_it_holds() {
        let mut large = Large::new();
        let mut reply = Reply::new(vec![0; LANE_BYTES].into_boxed_slice());
        let name = Name::ROOT;
        let question = Question { name, lower: name, rtype: rtype::TXT, rclass: rclass::IN };
        reply.start(7, Flags::default().with_qr(true), question);
        reply.push_txt(Section::Answer, name, rclass::IN, 1, [b"x".as_slice()]).unwrap();
        reply.set_rcode(rcode::BADVERS);
        let message = reply.bytes().to_vec();
        large.grow(&mut reply);
        assert_eq!((reply.bytes(), reply.rcode()), (&message[..], rcode::BADVERS));
        assert_eq!(reply.capacity(), MESSAGE_BYTES_MAX);
        large.shrink(&mut reply);
        assert_eq!(reply.capacity(), LANE_BYTES);
    }

    #[test]
    fn no_more_than_the_bound() {
        let mut large = Large::new();
        let make = || Reply::new(vec![0; LANE_BYTES].into_boxed_slice());
        let mut replies: Vec<Reply> = (0..=LARGE_BUFFERS_MAX).map(|_| make()).collect();
        let got = replies.iter_mut().filter_map(|reply| large.enlarge(reply).then_some(())).count();
        assert_eq!((got, large.refused), (LARGE_BUFFERS_MAX, 1));
        large.shrink(&mut replies[0]);
        assert!(large.enlarge(&mut replies[LARGE_BUFFERS_MAX]), "the first one's buffer is free");
    }
}
