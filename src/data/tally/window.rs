//! Of what time a summary's quantiles are: of the last minutes, not of the life of the process.
//!
//! A process lives for weeks; quantiles over all of them would not show that a plugin or an upstream has
//! been slow for ten minutes. So when a page is made, what the cells of a summary hold is noted every
//! `TALLY_WINDOW_NANOS`, and its quantiles are of what has been counted since the note before the last
//! one: for one to two such times. Sum and count go on for ever.
//!
//! Who asks for the page more rarely than that is told of the time between two of its looks.
//!
//! Cost: two notes of 3.5 KiB a series, taken by who makes the page.

use std::collections::BTreeMap;

use crate::data::clock::Nanos;
use crate::limits::TALLY_WINDOW_NANOS;

/// Notes of what the cells of summaries held.
#[derive(Default)]
pub(super) struct Windows {
    /// When notes were last taken.
    noted: Nanos,
    /// By the first cell: the note before the last one, and the last one.
    notes: BTreeMap<u32, [Vec<u64>; 2]>,
}

impl Windows {
    /// Whether notes are to be taken with the page that is made `now`.
    pub(super) fn is_due(&mut self, now: Nanos) -> bool {
        let due = now.saturating_sub(self.noted) >= TALLY_WINDOW_NANOS;
        if due {
            self.noted = now;
        }
        due
    }

    /// What the cells from `first` on have counted lately; they hold `counts` now.
    pub(super) fn recent(&mut self, first: u32, counts: &[u64], due: bool) -> Vec<u64> {
        let notes = self.notes.entry(first).or_default();
        let since = notes[0].iter().copied().chain(std::iter::repeat(0));
        let recent = counts.iter().zip(since).map(|(now, then)| now.wrapping_sub(then)).collect();
        if due {
            notes.swap(0, 1);
            notes[1] = counts.to_vec();
        }
        recent
    }
}
