//! How far a worker may get ahead of its upstreams before it takes no more from its clients for a
//! moment.
//!
//! A worker with more to do than it can would go on taking queries and asking upstreams: whoever
//! shares its CPU (an upstream on the same node, the kernel's own threads) gets no turn, and sockets
//! overflow with questions and replies that were paid for. So once [`UPSTREAM_AHEAD_MAX`] more were
//! asked than replied to, it reads no datagrams of clients until replies have come, or
//! [`UPSTREAM_PAUSE_NANOS`] are over, and sleeps meanwhile if there is nothing else to do. What comes
//! too fast is then dropped by the kernel, before anything was done for it.
//!
//! Guarantee: upstreams that are slow, or do not reply at all, cost clients no more than a pause a
//! turn, that is a full turn's queries every [`UPSTREAM_PAUSE_NANOS`]; what they have not replied to
//! is forgotten by halves. Cost: a few instructions for a query that is asked, none for others.

use crate::data::clock::Nanos;
use crate::limits::{UPSTREAM_AHEAD_HALVING_NANOS, UPSTREAM_AHEAD_MAX, UPSTREAM_PAUSE_NANOS};

/// Questions that upstreams have not replied to yet, those of the last moments.
#[derive(Debug, Default)]
pub struct Pace {
    ahead: u32,
    halved: Nanos,
    /// When the pause that has begun ends; 0: there is none.
    resume: Nanos,
    /// Whether this turn is between two pauses.
    granted: bool,
}

impl Pace {
    /// An upstream was asked.
    pub fn asked(&mut self) {
        self.ahead = self.ahead.saturating_add(1);
    }

    /// Something came from an upstream.
    pub fn heard(&mut self) {
        self.ahead = self.ahead.saturating_sub(1);
    }

    /// Whether no datagrams of clients are to be read in the turn that begins.
    pub fn holds(&mut self, now: Nanos) -> bool {
        let halvings = now.saturating_sub(self.halved) / UPSTREAM_AHEAD_HALVING_NANOS;
        if halvings > 0 {
            self.halved = now;
            self.ahead >>= halvings.min(31);
        }
        self.granted = false;
        if self.ahead < UPSTREAM_AHEAD_MAX {
            self.resume = 0;
        } else if self.resume == 0 {
            self.resume = now + UPSTREAM_PAUSE_NANOS;
        } else if now >= self.resume {
            self.resume = 0;
            self.granted = true;
        }
        self.resume != 0
    }

    /// Whether the turn has read enough.
    pub fn is_full(&self) -> bool {
        self.ahead >= UPSTREAM_AHEAD_MAX && !self.granted
    }

    /// Whether there is a pause.
    pub fn is_held(&self) -> bool {
        self.resume != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Nanos = 1 << 40;

    fn ahead(questions: u32) -> Pace {
        let mut pace = Pace::default();
        assert!(!pace.holds(NOW));
        (0..questions).for_each(|_| pace.asked());
        pace
    }

    #[test]
    fn who_is_far_ahead_pauses_until_replies_come() {
        let mut pace = ahead(UPSTREAM_AHEAD_MAX);
        assert!(pace.holds(NOW) && pace.holds(NOW + 1));
        assert!(pace.is_held());
        pace.heard();
        assert!(!pace.holds(NOW + 2));
        assert!(!pace.is_held());
    }

    #[test]
    fn who_is_not_far_ahead_goes_on() {
        let mut pace = ahead(UPSTREAM_AHEAD_MAX - 1);
        assert!(!pace.holds(NOW) && !pace.is_full());
        pace.asked();
        assert!(pace.is_full(), "a batch more, and it is far ahead");
    }

    #[test]
    fn a_silent_upstream_costs_a_pause_a_turn_and_is_forgotten() {
        let mut pace = ahead(2 * UPSTREAM_AHEAD_MAX);
        let mut now = NOW;
        for _ in 0..3 {
            assert!(pace.holds(now));
            now += UPSTREAM_PAUSE_NANOS;
            assert!(!pace.holds(now) && !pace.is_full(), "a whole turn between two pauses");
        }
        now = NOW + 2 * UPSTREAM_AHEAD_HALVING_NANOS;
        pace.holds(now);
        assert!(!pace.holds(now + UPSTREAM_AHEAD_HALVING_NANOS));
    }

    #[test]
    fn what_was_asked_long_ago_is_forgotten_though_no_turn_has_come_since() {
        let mut pace = ahead(1_000 * UPSTREAM_AHEAD_MAX);
        assert!(!pace.holds(NOW + 100 * UPSTREAM_AHEAD_HALVING_NANOS));
    }

    #[test]
    fn replies_to_what_was_forgotten_do_not_count() {
        let mut pace = ahead(1);
        (0..10).for_each(|_| pace.heard());
        (0..UPSTREAM_AHEAD_MAX).for_each(|_| pace.asked());
        assert!(pace.holds(NOW));
    }
}
