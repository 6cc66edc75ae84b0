//! A store of short messages: many readers without a lock, one budget of octets for all tables.
//!
//! ```text
//!  Table  slots: hash → place      queues: in which order entries leave   (one each a cache)
//!  Pool   segments of 16 KiB, one budget for the process                  (shared by all tables)
//! ```
//!
//! An entry is a message as it is sent, with its life and the offsets of its TTLs. It lies in a
//! segment, which is nothing but atomic words. A reader finds the entry's slot by the key's hash,
//! copies the words, and then looks whether slot and entry are still what they were: if not, it has
//! read nothing. So it needs no lock, no reference count and no `unsafe`, and what it was given is
//! whole. Who writes (after a miss) holds the table's lock.
//!
//! What leaves is decided by S3-FIFO (Yang and others, SOSP 2023), which counts up to three visits of
//! an entry: what is new enters a short queue, a tenth of the octets; what was asked for again while it
//! was there moves to the main queue, everything else leaves quickly and is remembered by a hash only, so
//! that it enters the main queue should it come back. Names that are asked for once, however many, thus
//! never displace those that are asked for again. A hit counts a visit, while there are fewer than three
//! since the entry was moved last; it writes nothing else.
//!
//! Both queues are logs: an entry is appended, and leaves by the other end. Nothing is fragmented, and
//! a segment that has been passed is free for any table. A table that grows while the budget is used
//! up takes a segment from the largest.
//!
//! Costs: a hit reads one line of slots and the entry; 24 octets beside a message and one for each of
//! its TTLs, in steps of eight, about 13 for its slot and two for what is remembered of those that left.
//! A put takes the lock for its own octets, and moves or evicts what is due, a bounded number of entries.

mod pool;
mod queue;
mod table;
mod write;

pub use pool::{Pool, Share};
pub use table::{Candidate, Class, Life, Read, Table, Wanted};
pub use write::Item;

#[cfg(test)]
mod tests;
