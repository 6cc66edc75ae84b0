//! The one clock of the data plane.
//!
//! Monotonic nanoseconds, read twice a turn (at receive, after send) and handed down; nobody else
//! reads a clock on the way of a query. A simulation hands down times of its own.

#![allow(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Nanoseconds: of monotonic time since the program's first reading, or of a duration.
pub type Nanos = u64;

/// Nanoseconds of one millisecond.
pub const MILLISECOND: Nanos = 1_000_000;
/// Nanoseconds of one second.
pub const SECOND: Nanos = 1_000_000_000;

/// Monotonic nanoseconds since the first call; a vDSO read, no system call.
pub fn now() -> Nanos {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as Nanos
}

/// Nanoseconds since 1970-01-01 UTC, for what the kernel stamps with the time of day.
pub fn unix_nanos() -> Nanos {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as Nanos)
}

/// Seconds since 1970-01-01 UTC, for what is compared with dates (TSIG, RRSIG, logs).
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
