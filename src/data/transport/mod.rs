//! How messages get in and out (the way of a query, parts 1 and 6 of 6).
//!
//! A datagram engine fills lanes and sends them; streams put messages into an inbox. `unsafe` is
//! allowed here, where the kernel follows pointers, and nowhere else in the data plane.

#![allow(unsafe_code)]

mod carrier;
mod connection;
pub mod engine;
pub(in crate::data) mod framing;
mod inbox;
pub mod mmsg;
pub mod readiness;
pub mod sockets;
mod stamps;
pub mod stream;
#[cfg(feature = "uring")]
mod uring;

use super::chain::cx::{Client, Transport};
use super::tally::Histogram;
use crate::limits::LANE_BYTES;

/// One datagram in and the reply to it.
pub struct Lane {
    /// Who asked.
    pub client: Client,
    /// The message; `input_len` octets of it.
    pub input: Box<[u8]>,
    /// Octets received; 0 for a datagram that was longer than the lane.
    pub input_len: usize,
    /// The reply.
    pub output: Box<[u8]>,
    /// Octets to send; 0 for no reply.
    pub output_len: usize,
    /// Where the time that the query took is observed, once the reply is sent.
    pub timed: Option<Histogram>,
}

impl Lane {
    /// An empty lane.
    pub fn new() -> Self {
        let nobody = ([0, 0, 0, 0], 0).into();
        Self {
            client: Client {
                peer: nobody,
                local: nobody,
                transport: Transport::Udp,
                listener: 0,
                connection: (0, 0),
            },
            input: vec![0; LANE_BYTES].into_boxed_slice(),
            input_len: 0,
            output: vec![0; LANE_BYTES].into_boxed_slice(),
            output_len: 0,
            timed: None,
        }
    }
}

impl Default for Lane {
    fn default() -> Self {
        Self::new()
    }
}
