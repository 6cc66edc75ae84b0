//! The highest rate that keeps an objective, such as `p99=1ms,loss=0.1%`.
//!
//! Rates are doubled until one fails, then the gap is halved (geometrically) until it is below
//! [`RESOLUTION`]. A rate that fails is tried once more before it counts as too high: the
//! scheduler of a shared machine fails good ones.

use crate::cli::parse_duration;
use crate::tally::{CLIENT_BOUND_SHARE, Outcome, Report};
use serde::Serialize;
use std::time::Duration;

/// The search ends when the lowest bad rate is at most this multiple of the highest good one.
pub const RESOLUTION: f64 = 1.05;
/// Most runs of a search.
const RUNS_MAX: usize = 60;

/// What must hold of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    /// Latencies by percentile.
    latencies: Vec<(f64, Duration)>,
    /// Lost queries, as a share of those sent.
    loss_max: f64,
}

impl std::str::FromStr for Objective {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut objective = Self { latencies: Vec::new(), loss_max: 0.0 };
        for term in text.split(',') {
            let fail = || format!("{term}: not of the form p99=1ms or loss=0.1%");
            let (what, bound) = term.split_once('=').ok_or_else(fail)?;
            if what == "loss" {
                let percent = bound.strip_suffix('%').and_then(|number| number.parse().ok());
                let percent: f64 = percent.ok_or_else(fail)?;
                if !(0.0..=100.0).contains(&percent) {
                    return Err(fail());
                }
                objective.loss_max = percent / 100.0;
            } else {
                let percent = percentile(what).ok_or_else(fail)?;
                objective.latencies.push((percent, parse_duration(bound)?));
            }
        }
        match objective.latencies.is_empty() {
            true => Err(format!("{text}: no percentile")),
            false => Ok(objective),
        }
    }
}

/// 50 of `p50`; 99.9 of `p999` as of `p99.9`.
fn percentile(word: &str) -> Option<f64> {
    let digits = word.strip_prefix('p')?;
    let spelled = match digits.strip_prefix("99") {
        Some(nines) if !nines.is_empty() && nines.bytes().all(|digit| digit == b'9') => {
            format!("99.{nines}")
        }
        _ => digits.to_owned(),
    };
    spelled.parse().ok().filter(|percent| (0.0..=100.0).contains(percent))
}

impl Objective {
    /// Why a run did not keep the objective; empty: it did.
    fn broken_by(&self, outcome: &Outcome) -> Vec<String> {
        let mut why = Vec::new();
        if let Some(latencies) = &outcome.latencies {
            for (percent, bound) in &self.latencies {
                let actual = latencies.percentile(*percent);
                if actual > *bound {
                    why.push(format!("p{percent} {actual:?}"));
                }
            }
        }
        let counts = &outcome.counts;
        let loss = counts.lost as f64 / (counts.sent as f64).max(1.0);
        if loss > self.loss_max || counts.answered == 0 {
            why.push(format!("loss {:.3} %", 100.0 * loss));
        }
        if counts.unexpected_rcode > 0 {
            why.push(format!("{} unexpected rcodes", counts.unexpected_rcode));
        }
        if counts.unsent > 0 {
            why.push(format!("{} unsent: the client is too slow", counts.unsent));
        }
        why
    }
}

/// One rate that was tried.
#[derive(Debug, Serialize)]
pub struct Step {
    /// Queries a second.
    pub rate: f64,
    /// Why the objective was not kept; empty: it was.
    pub broken_by: Vec<String>,
    /// All that was counted.
    pub report: Report,
}

/// What a search found.
#[derive(Debug, Serialize)]
pub struct Found {
    /// The highest rate that kept the objective; `None`: not even the first one.
    pub rate: Option<f64>,
    /// Whether the client, not the server, was the limit.
    pub client_bound: bool,
    /// Whether the time was over before the rate was known to [`RESOLUTION`].
    pub out_of_time: bool,
    /// All rates that were tried, in order.
    pub steps: Vec<Step>,
}

/// Looks for the highest rate from `first` on that keeps `objective`. `run` puts a rate on the
/// server; `may_run` says whether there is time for one more.
pub fn search<E>(
    objective: &Objective,
    first: f64,
    mut may_run: impl FnMut() -> bool,
    mut run: impl FnMut(f64) -> Result<Outcome, E>,
) -> Result<Found, E> {
    let mut found = Found { rate: None, client_bound: false, out_of_time: false, steps: vec![] };
    let (mut rate, mut bad, mut is_second_try) = (first, None::<f64>, false);
    while found.steps.len() < RUNS_MAX {
        if !may_run() {
            found.out_of_time = true;
            break;
        }
        let outcome = run(rate)?;
        let broken_by = objective.broken_by(&outcome);
        let is_kept = broken_by.is_empty();
        found.steps.push(Step { rate, broken_by, report: outcome.report() });
        if !is_kept && !is_second_try {
            is_second_try = true;
            continue;
        }
        is_second_try = false;
        if is_kept {
            found.rate = Some(rate);
        } else {
            bad = Some(rate);
            found.client_bound =
                outcome.counts.unsent > 0 || outcome.busy_share() >= CLIENT_BOUND_SHARE;
        }
        rate = match (found.rate, bad) {
            (Some(good), None) => good * 2.0,
            (Some(good), Some(bad)) if bad / good > RESOLUTION => (good * bad).sqrt(),
            _ => break,
        };
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::{Counts, Latencies};

    /// A server that answers in 100 µs up to `capacity`, and in 10 ms above it.
    fn outcome(rate: f64, capacity: f64) -> Outcome {
        let mut latencies = Latencies::default();
        latencies.record(if rate <= capacity { 100_000 } else { 10_000_000 });
        Outcome {
            counts: Counts { sent: 100, answered: 100, ..Counts::default() },
            rcodes: [0; 16],
            lookups: None,
            latencies: Some(latencies),
            elapsed: Duration::from_secs(1),
            busy: Duration::ZERO,
            cpu: Duration::ZERO,
            waited: Duration::ZERO,
            gap: Duration::ZERO,
            silence: Duration::ZERO,
            dropped: 0,
        }
    }

    fn find(capacity: f64, runs: usize) -> Found {
        let mut left = runs;
        let may_run = || {
            left = left.saturating_sub(1);
            left > 0
        };
        let objective = "p99=1ms".parse().unwrap();
        search(&objective, 1000.0, may_run, |rate| Ok::<_, ()>(outcome(rate, capacity))).unwrap()
    }

    #[test]
    fn the_highest_good_rate_is_found() {
        let found = find(123_456.0, 100);
        let rate = found.rate.unwrap();
        assert!(rate <= 123_456.0 && rate * RESOLUTION >= 123_456.0, "{rate}");
        assert!(!found.out_of_time && !found.client_bound);
        assert_eq!(find(500.0, 100).rate, None);
        assert!(find(123_456.0, 4).out_of_time);
    }

    #[test]
    fn one_bad_run_is_forgiven() {
        let mut runs = 0;
        let objective = "p99=1ms".parse().unwrap();
        let found = search(
            &objective,
            1000.0,
            || true,
            |rate| {
                runs += 1;
                Ok::<_, ()>(outcome(rate, if runs == 2 { 0.0 } else { 3000.0 }))
            },
        );
        assert!(found.unwrap().rate.unwrap() >= 2800.0);
    }

    #[test]
    fn objectives_and_their_mistakes() {
        let objective: Objective = "p99=1ms,p999=5ms,loss=0.1%".parse().unwrap();
        let latencies = vec![(99.0, Duration::from_millis(1)), (99.9, Duration::from_millis(5))];
        assert_eq!(objective, Objective { latencies, loss_max: 0.001 });
        assert_eq!(percentile("p99.99"), Some(99.99));
        assert_eq!(percentile("p100"), Some(100.0));
        for bad in ["", "p99", "loss=1%", "p99=1", "p101=1ms", "p99=1ms,loss=1", "x=1ms"] {
            assert!(bad.parse::<Objective>().is_err(), "{bad}");
        }
        let mut lossy = outcome(1.0, 2.0);
        lossy.counts.lost = 1;
        assert_eq!(objective.broken_by(&lossy), ["loss 1.000 %"]);
    }
}
