//! What a run counted, and how it is told: JSON for programs, lines for people.

use crate::message::rcode_name;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// A client that was busy for this share of the time limits the rate itself.
pub const CLIENT_BOUND_SHARE: f64 = 0.95;
/// Longest latency that the histogram tells apart.
const LATENCY_MAX_NS: u64 = 60_000_000_000;

/// Counters of a run, all in queries or answers.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counts {
    /// Queries that the kernel took.
    pub sent: u64,
    /// Answers to outstanding queries, whatever their rcode.
    pub answered: u64,
    /// Queries without an answer at their time-out, or when their connection ended.
    pub lost: u64,
    /// Answers to queries that had timed out (these are also `lost`).
    pub late: u64,
    /// Messages that answer no query: wrong id or question, no response, or a repetition.
    pub mismatched: u64,
    /// Answers with TC set.
    pub truncated: u64,
    /// Answers whose rcode was not the expected one.
    pub unexpected_rcode: u64,
    /// Open loop: queries that fell due and were not sent, since the client was too slow.
    pub unsent: u64,
    /// Queries that the kernel did not take.
    pub refused_by_kernel: u64,
    /// Errors of sockets: unreachable ports, broken connections.
    pub socket_errors: u64,
    /// Messages that are no queries, which were sent beside them; in none of the counts above.
    pub malformed_sent: u64,
    /// Answers that these got.
    pub malformed_answered: u64,
}

/// Look-ups of a run: see [`crate::lookup`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LookupCounts {
    /// Those that ended with an address.
    pub found: u64,
    /// Those whose whole search found none.
    pub not_found: u64,
    /// Those that a lost query or a failure ended.
    pub failed: u64,
}

/// Latencies in nanoseconds, from when a query was due.
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new_with_max(LATENCY_MAX_NS, 3).expect("bounds are within those of HDR"))
    }
}

impl Latencies {
    /// Counts one.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    /// The latency that this share (0 to 100) of the answers kept.
    pub fn percentile(&self, percent: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_percentile(percent))
    }

    fn summary(&self) -> LatencySummary {
        let at = |percent| self.0.value_at_percentile(percent) as f64 / 1e3;
        LatencySummary {
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            p999: at(99.9),
            max: self.0.max() as f64 / 1e3,
            mean: self.0.mean() / 1e3,
        }
    }
}

/// All that a run brought.
pub struct Outcome {
    /// Counters.
    pub counts: Counts,
    /// Answers by rcode.
    pub rcodes: [u64; 16],
    /// Where whole look-ups were made.
    pub lookups: Option<LookupCounts>,
    /// In an open loop; of look-ups, where whole ones were made.
    pub latencies: Option<Latencies>,
    /// From the start to the end of sending, or to the last answer if that was later.
    pub elapsed: Duration,
    /// Time in which queries or answers were handled.
    pub busy: Duration,
    /// CPU time of this process.
    pub cpu: Duration,
    /// Time in which the client's thread was ready to run and did not.
    pub waited: Duration,
    /// The longest time between two looks of the client at what is due.
    pub gap: Duration,
    /// The longest time without an answer while queries were sent; a gap of the client is in it.
    pub silence: Duration,
    /// Answers that the client's sockets had no room for.
    pub dropped: u64,
}

/// An outcome as it is written.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Counters, as members of the report itself.
    #[serde(flatten)]
    pub counts: Counts,
    /// Seconds that the rate is taken over.
    pub seconds: f64,
    /// Answers a second.
    pub qps: f64,
    /// Answers by rcode.
    pub rcodes: BTreeMap<String, u64>,
    /// Where whole look-ups were made.
    pub lookups: Option<LookupCounts>,
    /// Open loop only, in microseconds.
    pub latency_us: Option<LatencySummary>,
    /// What the load cost its client.
    pub client: Client,
}

/// Percentiles in microseconds.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "names say it")]
pub struct LatencySummary {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
    pub mean: f64,
}

/// The client's own load.
#[derive(Debug, Serialize)]
pub struct Client {
    /// Share of the time in which it handled queries or answers.
    pub busy: f64,
    /// Its CPU time in seconds; it polls without sleeping.
    pub cpu_seconds: f64,
    /// Whether the client was the limit: the server would have done more.
    pub bound: bool,
    /// Microseconds for which it was ready to run and did not.
    pub waited_us: f64,
    /// Longest time between two looks at what is due, in microseconds.
    pub gap_us: f64,
    /// Longest time without an answer while queries were sent, in microseconds.
    pub silence_us: f64,
    /// Answers that its sockets had no room for.
    pub dropped: u64,
}

fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}

impl Outcome {
    /// Share of the time in which the client was busy.
    pub fn busy_share(&self) -> f64 {
        self.busy.as_secs_f64() / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// The outcome as it is written.
    pub fn report(&self) -> Report {
        let rcodes = (0..16u8).map(|rcode| (rcode_name(rcode), self.rcodes[usize::from(rcode)]));
        let busy = self.busy_share();
        Report {
            counts: self.counts.clone(),
            seconds: self.elapsed.as_secs_f64(),
            qps: self.counts.answered as f64 / self.elapsed.as_secs_f64().max(1e-9),
            rcodes: rcodes.filter(|(_, count)| *count > 0).collect(),
            lookups: self.lookups.clone(),
            latency_us: self.latencies.as_ref().map(Latencies::summary),
            client: Client {
                busy,
                cpu_seconds: self.cpu.as_secs_f64(),
                bound: busy >= CLIENT_BOUND_SHARE,
                waited_us: micros(self.waited),
                gap_us: micros(self.gap),
                silence_us: micros(self.silence),
                dropped: self.dropped,
            },
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { sent, answered, lost, .. } = self.counts;
        let loss_percent = 100.0 * lost as f64 / (sent as f64).max(1.0);
        writeln!(f, "answers  {answered} in {:.2} s: {:.0} a second", self.seconds, self.qps)?;
        writeln!(f, "lost     {lost} of {sent} ({loss_percent:.3} %)")?;
        let total = (answered as f64).max(1.0);
        let rcodes = self.rcodes.iter().map(|(name, count)| {
            let percent = 100.0 * *count as f64 / total;
            format!("{name} {percent:.1} %")
        });
        writeln!(f, "rcodes   {}", rcodes.collect::<Vec<_>>().join(", "))?;
        if let Some(LookupCounts { found, not_found, failed }) = &self.lookups {
            writeln!(f, "look-ups {found} found, {not_found} not found, {failed} failed")?;
        }
        let Counts { malformed_sent, malformed_answered, .. } = self.counts;
        if malformed_sent > 0 {
            writeln!(f, "besides  {malformed_sent} malformed, {malformed_answered} answered")?;
        }
        let odd: Vec<_> = [
            ("late", self.counts.late),
            ("mismatched", self.counts.mismatched),
            ("truncated", self.counts.truncated),
            ("unexpected rcode", self.counts.unexpected_rcode),
            ("unsent", self.counts.unsent),
            ("refused by the kernel", self.counts.refused_by_kernel),
            ("socket errors", self.counts.socket_errors),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(what, count)| format!("{what} {count}"))
        .collect();
        if !odd.is_empty() {
            writeln!(f, "odd      {}", odd.join(", "))?;
        }
        if let Some(LatencySummary { p50, p90, p99, p999, max, .. }) = self.latency_us {
            writeln!(
                f,
                "latency  p50 {p50:.1} µs, p90 {p90:.1}, p99 {p99:.1}, \
                 p99.9 {p999:.1}, max {max:.1}"
            )?;
        }
        let Client { busy, cpu_seconds, bound, gap_us, silence_us, dropped, .. } = self.client;
        let verdict = if bound { "; CLIENT-BOUND: the server would do more" } else { "" };
        writeln!(f, "client   busy {:.0} %, {cpu_seconds:.2} s of CPU{verdict}", 100.0 * busy)?;
        write!(f, "longest  {:.1} ms without an answer, ", silence_us / 1e3)?;
        write!(f, "{:.1} ms in which the client did not look", gap_us / 1e3)?;
        if dropped > 0 {
            write!(f, "; {dropped} answers found no room in its buffers")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome() -> Outcome {
        let mut latencies = Latencies::default();
        (1..=1000u64).for_each(|us| latencies.record(us * 1000));
        let counts = Counts { sent: 2000, answered: 1990, lost: 10, late: 3, ..Counts::default() };
        let mut rcodes = [0; 16];
        (rcodes[0], rcodes[3]) = (1592, 398);
        Outcome {
            counts,
            rcodes,
            lookups: Some(LookupCounts { found: 3, ..LookupCounts::default() }),
            latencies: Some(latencies),
            elapsed: Duration::from_secs(2),
            busy: Duration::from_millis(1980),
            cpu: Duration::from_secs(2),
            waited: Duration::from_micros(700),
            gap: Duration::from_micros(1500),
            silence: Duration::from_micros(2500),
            dropped: 4,
        }
    }

    #[test]
    fn reports_hold_what_was_counted() {
        let report = outcome().report();
        assert_eq!(report.qps, 995.0);
        assert!(report.client.bound);
        let text = report.to_string();
        assert!(text.contains("lost     10 of 2000 (0.500 %)"), "{text}");
        assert!(text.contains("NOERROR 80.0 %, NXDOMAIN 20.0 %"), "{text}");
        assert!(text.contains("odd      late 3\n") && text.contains("CLIENT-BOUND"), "{text}");
        assert!(text.contains("look-ups 3 found, 0 not found"), "{text}");
        let longest = "longest  2.5 ms without an answer, 1.5 ms in which the client did not look; \
             4 answers found no room";
        assert!(text.contains(longest), "{text}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["sent"], 2000);
        assert_eq!(json["rcodes"]["NXDOMAIN"], 398);
        assert_eq!(json["client"]["bound"], true);
        assert_eq!(json["client"]["silence_us"], 2500.0);
        let p99 = json["latency_us"]["p99"].as_f64().unwrap();
        assert!((989.0..992.0).contains(&p99), "{p99}");
    }
}
