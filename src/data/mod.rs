//! The data plane, in the order a query meets it.

pub mod tally;
