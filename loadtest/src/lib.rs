//! The yardstick: what a DNS server costs above the sockets that it answers on. Linux only.
//!
//! Three programs, and what they share:
//!
//! - `reflect` turns every query around as its own answer: the limit of sockets.
//! - `flood` asks, checks every answer and counts: closed loop, open loop, or the highest rate
//!   that keeps an objective.
//! - `kubeapi` is the API server of a synthetic cluster ([`synthetic`]).
//!
//! The way of a query through `flood`: [`source`] writes it, [`outstanding`] remembers it,
//! [`carrier`] takes it to the server and its answer back, [`outstanding`] tells whether that is
//! the answer, [`tally`] counts it. [`trace`] reads the queries of a capture, [`lookup`] makes them
//! of names as C libraries do, [`malformed`] writes what is none. [`drive`] is the loop that does this for all links in turn;
//! [`slo`] runs that loop at several rates. [`machine`] is what the machine did meanwhile.
//!
//! The scripts beside this crate run servers under this load: see its README.md.

pub mod carrier;
pub mod cli;
pub mod drive;
pub mod lookup;
pub mod machine;
pub mod malformed;
pub mod message;
pub mod outstanding;
pub mod slo;
pub mod source;
pub mod synthetic;
pub mod sys;
pub mod tally;
pub mod target;
pub mod trace;
