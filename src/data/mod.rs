//! The data plane, in the order a query meets it.
//!
//! [`worker`] turns; [`transport`] brings a batch; [`turn`] passes it through the gate, [`route`]
//! finds the block, [`chain`] walks it, [`finish`] fits the reply, [`transport`] sends it. What
//! waits is in a [`slot`]; whom it asks meanwhile is an [`upstream`].

pub mod worker;

pub mod transport;

pub mod turn;

pub mod route;
pub mod signature;

pub mod chain;

pub mod slot;

pub mod finish;

pub mod clock;
pub mod counters;
pub mod demand;
pub mod generation;
pub mod large;
#[cfg(test)]
pub mod proofs;
pub mod rng;
mod sharing;
pub mod tally;
pub mod upstream;
