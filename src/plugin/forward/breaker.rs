//! Sees bursts of SERVFAIL from one upstream.
//!
//! An upstream that answers SERVFAIL is up, as far as probes can tell. While nearly all of its
//! replies are SERVFAIL, and others are there that do better, it is asked last. It is tried again
//! after a second, and after twice as long each time that it has not recovered.
//!
//! Two words, written by all workers with plain loads and stores: a lost count makes the window a
//! little longer.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::data::clock::{Nanos, SECOND};
use crate::limits::{FORWARD_BREAKER_REPLIES_MIN, FORWARD_BREAKER_SECONDS_MAX};

/// Replies are counted for so long; then counting begins anew.
const WINDOW: Nanos = 10 * SECOND;
/// Replies that decide after a trip, when it is known to have been ill.
const AGAIN_MIN: u32 = FORWARD_BREAKER_REPLIES_MIN / 4;

/// The breaker of one upstream.
#[derive(Default)]
pub struct Breaker {
    /// Of the window: seconds at its begin (32 bits), replies, SERVFAILs among them (16 bits each).
    window: AtomicU64,
    /// Until when the upstream is asked last.
    until: AtomicU64,
    /// Trips without a recovery in between.
    trips: AtomicU32,
}

impl Breaker {
    /// Whether the upstream is to be asked last.
    pub fn is_open(&self, now: Nanos) -> bool {
        self.until.load(Relaxed) > now
    }

    /// Takes in a reply; `true`: it was one SERVFAIL too many.
    pub fn note(&self, servfail: bool, now: Nanos) -> bool {
        let seconds = (now / SECOND) as u32;
        let word = self.window.load(Relaxed);
        let (begin, mut replies, mut failed) =
            ((word >> 32) as u32, (word >> 16) as u16, word as u16);
        let over = u64::from(seconds.wrapping_sub(begin)) * SECOND >= WINDOW;
        let begin = if over { seconds } else { begin };
        if over {
            (replies, failed) = (0, 0);
        }
        replies = replies.saturating_add(1);
        failed = failed.saturating_add(u16::from(servfail));
        let pack = |replies: u16, failed: u16| {
            u64::from(begin) << 32 | u64::from(replies) << 16 | u64::from(failed)
        };
        let trips = self.trips.load(Relaxed);
        let least = if trips == 0 { FORWARD_BREAKER_REPLIES_MIN } else { AGAIN_MIN };
        let enough = u32::from(replies) >= least && !self.is_open(now);
        // Seven of eight: names that fail for themselves (bogus DNSSEC) are not that many.
        let trip = enough && u32::from(failed) * 8 >= u32::from(replies) * 7;
        if trip {
            let seconds = (1_u64 << trips.min(16)).min(FORWARD_BREAKER_SECONDS_MAX);
            self.until.store(now + seconds * SECOND, Relaxed);
            self.trips.store(trips.saturating_add(1), Relaxed);
            (replies, failed) = (0, 0);
        } else if enough && trips > 0 {
            self.trips.store(0, Relaxed);
        }
        self.window.store(pack(replies, failed), Relaxed);
        trip
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: u32 = FORWARD_BREAKER_REPLIES_MIN;

    #[test]
    fn a_burst_opens_it_and_a_few_failures_do_not() {
        let breaker = Breaker::default();
        let now = 100 * SECOND;
        for reply in 1..MIN {
            assert!(!breaker.note(true, now), "{reply}");
        }
        assert!(!breaker.is_open(now) && breaker.note(true, now));
        assert!(breaker.is_open(now) && !breaker.is_open(now + SECOND));

        let mixed = Breaker::default();
        assert!((0..1_000).all(|reply| !mixed.note(reply % 4 != 0, now)));
    }

    #[test]
    fn failures_far_apart_are_no_burst() {
        let breaker = Breaker::default();
        assert!((0..1_000).all(|reply| !breaker.note(true, reply * SECOND)));
    }

    #[test]
    fn it_stays_open_longer_each_time_until_it_recovers() {
        let breaker = Breaker::default();
        let mut now = 100 * SECOND;
        let trip = |now: Nanos, within: u32| (0..within).any(|_| breaker.note(true, now));
        assert!(trip(now, MIN));
        for doubled in 1..9_u64 {
            now += 100 * SECOND;
            assert!(trip(now, AGAIN_MIN), "fewer replies decide");
            let open = (1 << doubled).min(FORWARD_BREAKER_SECONDS_MAX) * SECOND;
            assert!(breaker.is_open(now + open - 1) && !breaker.is_open(now + open));
        }
        now += 100 * SECOND;
        assert!((0..AGAIN_MIN).all(|_| !breaker.note(false, now)));
        now += 100 * SECOND;
        assert!(!trip(now, MIN - 1), "it has recovered");
        assert!(trip(now, 1));
        assert!(breaker.is_open(now) && !breaker.is_open(now + SECOND));
    }
}
