//! # reload
//!
//! Loads the Corefile again when it has changed.
//!
//! ## Syntax
//!
//! ```corefile
//! reload [INTERVAL] [JITTER]
//! ```
//!
//! The Corefile and what it imports are looked at every **INTERVAL** (a Go duration, default 30s, at
//! least 2s), changed once per load by up to half of **JITTER** (default 15s, 0 or at least 1s, at
//! most half the interval) more or less. What counts as a change is any difference of words or of the
//! lines that they stand on. A Corefile that does not build is told once; what was serving goes on.
//!
//! A reload builds and binds everything new first and swaps then: no query is lost, and listeners,
//! zones, tables, health, ready and metrics ports that did not change are kept.
//!
//! ## Metrics
//!
//! * `coredns_reload_failed_total`: reloads that failed.
//! * `coredns_reload_version_info{hash, value}`: the hash of what was loaded last by a reload.
//!
//! ## Examples
//!
//! ```corefile
//! . {
//!     reload 10s 5s
//!     whoami
//! }
//! ```
//!
//! ## Differences from CoreDNS
//!
//! Caches, tables and the HTTP ports survive a reload; CoreDNS closes and opens them again.

use std::time::Duration;

use super::{Compiled, CorefileError, Directive, Facts, Lines, SetupError, Site};

const INTERVAL_MIN: Duration = Duration::from_secs(2);
const JITTER_MIN: Duration = Duration::from_secs(1);

/// The directive.
pub struct Reload {
    interval: Duration,
    jitter: Duration,
}

impl Directive for Reload {
    const NAME: &'static str = "reload";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let Some(stanza) = lines.stanzas().first() else {
            return Ok(Self { interval: Duration::from_secs(30), jitter: Duration::from_secs(15) });
        };
        if let [_, _, extra, ..] = &stanza.args[..] {
            return Err(lines.arg_err(extra));
        }
        let time = |index: usize, default: u64| match stanza.args.get(index) {
            Some(arg) => lines.duration(arg),
            None => Ok(Duration::from_secs(default)),
        };
        let (interval, jitter) = (time(0, 30)?, time(1, 15)?);
        if interval < INTERVAL_MIN {
            let words = "interval value must be greater or equal to 2s";
            return Err(lines.err(&stanza.args[0], words));
        }
        if !jitter.is_zero() && jitter < JITTER_MIN {
            let words = "jitter value must be 0 or greater or equal to 1s";
            return Err(lines.err(&stanza.args[1], words));
        }
        Ok(Self { interval, jitter })
    }

    fn facts(&self, facts: &mut Facts) {
        facts.reload = Some((self.interval, self.jitter));
    }

    fn compile(self, _site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        Ok(Compiled::nothing())
    }
}
