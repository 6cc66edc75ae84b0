//! Sees bursts of failures of one upstream: replies with SERVFAIL, queries that were lost.
//!
//! An upstream that answers SERVFAIL is up, as far as probes can tell, and so is one at the end of a bad
//! way. While nearly all of its replies are SERVFAIL, or too many queries get none, and others are there
//! that do better, it is asked last. It is tried again after a second, and after twice as long each time
//! that it has not recovered; then with a few queries at a time, until they have told how it is.
//!
//! Two words, written by all workers with plain loads and stores: a lost count makes the window a
//! little longer.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::data::clock::{Nanos, SECOND};
use crate::limits::{
    FORWARD_BREAKER_LOSSES_OF_MIN, FORWARD_BREAKER_REPLIES_MIN, FORWARD_BREAKER_SECONDS_MAX,
};

/// Outcomes are counted for so long; then counting begins anew.
const WINDOW: Nanos = 10 * SECOND;
/// A loss is known when a time-out is over, by default 2 s.
const LOST_AFTER: Nanos = 3 * SECOND;
/// Of the outcomes that decide at first so many fewer decide after a trip, when it is known to be ill.
const AGAIN_SHARE: u32 = 4;

/// The breaker of one upstream for one kind of failure.
pub struct Breaker {
    /// Outcomes that decide.
    least: u32,
    /// The share of failures that is too much, in sixteenths.
    sixteenths: u32,
    /// A window must be so long before good outcomes are a recovery: bad ones may be known later.
    settle: Nanos,
    /// Of the window: seconds at its begin (32 bits), outcomes, failures among them (16 bits each).
    window: AtomicU64,
    /// Until when the upstream is asked last.
    until: AtomicU64,
    /// Trips without a recovery in between.
    trips: AtomicU32,
}

impl Breaker {
    /// Of replies with SERVFAIL: seven of eight. Names that fail for themselves (bogus DNSSEC) are not
    /// that many.
    pub fn of_servfails() -> Self {
        Self::new(FORWARD_BREAKER_REPLIES_MIN, 14, 0)
    }

    /// Of lost queries: one of sixteen. Each costs its client a time-out.
    pub fn of_losses() -> Self {
        Self::new(FORWARD_BREAKER_LOSSES_OF_MIN, 1, LOST_AFTER)
    }

    fn new(least: u32, sixteenths: u32, settle: Nanos) -> Self {
        let (window, until, trips) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU32::new(0));
        Self { least, sixteenths, settle, window, until, trips }
    }

    /// Whether the upstream, where so many queries wait, is to be asked last.
    pub fn is_open(&self, now: Nanos, waiting: u32) -> bool {
        let ill = self.trips.load(Relaxed) != 0;
        ill && (self.until.load(Relaxed) > now || waiting >= self.least / AGAIN_SHARE)
    }

    /// Takes in an outcome; `true`: it was one failure too many. What comes while it is open was asked
    /// before, or of one that is ill beside others that are: it says nothing new.
    pub fn note(&self, failure: bool, now: Nanos) -> bool {
        let until = self.until.load(Relaxed);
        if until > now {
            return false;
        }
        let seconds = (now / SECOND) as u32;
        let word = self.window.load(Relaxed);
        let (begin, mut all, mut failed) = ((word >> 32) as u32, (word >> 16) as u16, word as u16);
        // After a trip counting begins with what is let through again.
        let over = u64::from(seconds.wrapping_sub(begin)) * SECOND >= WINDOW
            || u64::from(begin) < until / SECOND;
        let begin = if over { seconds } else { begin };
        if over {
            (all, failed) = (0, 0);
        } else if all == u16::MAX {
            (all, failed) = (all / 2, failed / 2);
        }
        all += 1;
        failed += u16::from(failure);
        let pack = |all: u16, failed: u16| {
            u64::from(begin) << 32 | u64::from(all) << 16 | u64::from(failed)
        };
        let trips = self.trips.load(Relaxed);
        let least = if trips == 0 { self.least } else { self.least / AGAIN_SHARE };
        let enough = u32::from(all) >= least;
        let trip = enough && u32::from(failed) * 16 >= u32::from(all) * self.sixteenths;
        if trip {
            let seconds = (1_u64 << trips.min(16)).min(FORWARD_BREAKER_SECONDS_MAX);
            self.until.store(now + seconds * SECOND, Relaxed);
            self.trips.store(trips.saturating_add(1), Relaxed);
            (all, failed) = (0, 0);
        } else if enough && trips > 0 && now - u64::from(begin) * SECOND >= self.settle {
            self.trips.store(0, Relaxed);
        }
        self.window.store(pack(all, failed), Relaxed);
        trip
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: u32 = FORWARD_BREAKER_REPLIES_MIN;
    const AGAIN_MIN: u32 = MIN / AGAIN_SHARE;

    #[test]
    fn a_burst_opens_it_and_a_few_failures_do_not() {
        let breaker = Breaker::of_servfails();
        let now = 100 * SECOND;
        for reply in 1..MIN {
            assert!(!breaker.note(true, now), "{reply}");
        }
        assert!(!breaker.is_open(now, 0) && breaker.note(true, now));
        assert!(breaker.is_open(now, 0) && !breaker.is_open(now + SECOND, 0));

        let mixed = Breaker::of_servfails();
        assert!((0..1_000).all(|reply| !mixed.note(reply % 4 != 0, now)));
        let lossy = Breaker::of_losses();
        assert!((0..1_000).all(|query| !lossy.note(query % 20 == 19, now)));
        assert!((0..1_000).any(|query| lossy.note(query % 5 == 4, now)));
    }

    #[test]
    fn losses_are_waited_for_before_it_has_recovered() {
        let breaker = Breaker::of_losses();
        let mut now = 100 * SECOND;
        assert!((0..FORWARD_BREAKER_LOSSES_OF_MIN).any(|_| breaker.note(true, now)));
        // However long nobody has asked.
        now += 100 * SECOND;
        assert!((0..1_000).all(|_| !breaker.note(false, now)) && breaker.is_open(now, 1_000));
        now += LOST_AFTER;
        assert!(!breaker.note(false, now) && !breaker.is_open(now, 1_000));
    }

    #[test]
    fn a_share_is_a_share_however_many_there_are() {
        let (servfails, losses) = (Breaker::of_servfails(), Breaker::of_losses());
        let now = 100 * SECOND;
        assert!((0..500_000).all(|reply| !servfails.note(reply % 4 != 0, now)));
        assert!((0..500_000).all(|query| !losses.note(query % 20 == 19, now)));
    }

    #[test]
    fn failures_far_apart_are_no_burst() {
        let breaker = Breaker::of_servfails();
        assert!((0..1_000).all(|reply| !breaker.note(true, reply * SECOND)));
    }

    #[test]
    fn it_stays_open_longer_each_time_until_it_recovers() {
        let breaker = Breaker::of_servfails();
        let mut now = 100 * SECOND;
        let trip = |now: Nanos, within: u32| (0..within).any(|_| breaker.note(true, now));
        assert!(trip(now, MIN));
        for doubled in 1..9_u64 {
            now += 100 * SECOND;
            assert!(!breaker.is_open(now, AGAIN_MIN - 1), "a few are let through");
            assert!(breaker.is_open(now, AGAIN_MIN), "and no more");
            assert!(trip(now, AGAIN_MIN), "fewer replies decide");
            let open = (1 << doubled).min(FORWARD_BREAKER_SECONDS_MAX) * SECOND;
            assert!(breaker.is_open(now + open - 1, 0) && !breaker.is_open(now + open, 0));
        }
        now += 100 * SECOND;
        assert!((0..AGAIN_MIN).all(|_| !breaker.note(false, now)));
        assert!(!breaker.is_open(now, 1_000), "it has recovered");
        now += 100 * SECOND;
        assert!(!trip(now, MIN - 1));
        assert!(trip(now, 1));
        assert!(breaker.is_open(now, 0) && !breaker.is_open(now + SECOND, 0));
    }
}
