//! The authoritative engine: zone files in, answers out.
//!
//! A library of the tree. `file` and `auto` load zone files, `secondary` and the plugins of cloud
//! back ends push records into a [`ZoneBuilder`]; all of them answer from a [`Zone`].
//!
//! ```text
//! lex → scan (generate, rdata, rare) → build → index, tail, dnssec = Zone → answer
//! ```
//!
//! - [`scan`] reads zone files (RFC 1035 section 5) with every record type that has a text form.
//! - [`record()`] reads one record that stands by itself (a template's).
//! - [`ZoneBuilder`] takes records in any order and renders every record set once.
//! - [`Zone`] is immutable; [`Zone::answer`] writes straight into a reply: no allocation, no lock.
//!
//! Cost: an address record of its own name takes 75 octets; a hot look-up some tens of nanoseconds.

mod answer;
mod build;
mod dnssec;
mod generate;
mod index;
mod lex;
mod rare;
mod rdata;
mod record;
mod scan;
mod tail;
#[allow(clippy::module_inception)] // the zone itself, in the module of zones
mod zone;

#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;

pub use answer::{Chased, Outcome};
pub use build::ZoneBuilder;
pub use lex::Fault;
pub use record::{RecordHead, record};
pub use scan::{Entry, Opener, ScanError, Sink, scan, scan_file, scan_with};
pub use zone::{AxfrCursor, Soa, Take, Zone, ZoneError};
