//! `reload`: looks at the Corefile every so often, and says when it has changed.
//!
//! What is compared is a hash of the parsed tokens with their lines, imports followed, as CoreDNS
//! does. A Corefile that does not parse or build is tried once per content.

use std::time::Duration;

use tokio::time::Instant;

use super::compile::Graph;
use super::corefile::{Corefile, CorefileError};
use crate::data::rng::Rng;
use crate::data::tally::{Counter, Family, Gauge, Tally, families};
use std::sync::Arc;

static VERSION_INFO: Family = Family::gauge(
    "coredns_reload_version_info",
    &["hash", "value"],
    "A metric with a constant '1' value labeled by hash, \
           and value which type of hash generated.",
);

/// What a look at the Corefile found.
pub enum Watch {
    /// Nothing new.
    Same,
    /// It does not parse, and was not seen before.
    Broken(Vec<CorefileError>),
    /// It is another.
    Changed(Corefile),
}

/// When to look, and what was seen.
pub struct Reload {
    interval: Option<Duration>,
    /// How often where no Corefile says it.
    own: Option<Duration>,
    next: Instant,
    running: [u8; 64],
    /// The content that was tried last and failed, as text of its errors or its hash.
    tried: Option<String>,
    failed: Counter,
    tally: Arc<Tally>,
    info: Option<Gauge>,
}

impl Reload {
    /// Not armed. `own`: how often to look where the Corefile does not say so, if at all.
    pub fn new(tally: &Arc<Tally>, own: Option<Duration>) -> Self {
        Self {
            interval: None,
            own,
            next: Instant::now(),
            running: [0; 64],
            tried: None,
            failed: tally.counter(&families::RELOAD_FAILED, &[]),
            tally: Arc::clone(tally),
            info: None,
        }
    }

    /// Arms the watch as the graph's Corefile says.
    pub fn arm(&mut self, graph: &Graph) {
        self.running = graph.hash;
        self.tried = None;
        let found = graph.facts.iter().find_map(|facts| facts.reload);
        let found = found.map(|(interval, jitter)| {
            // Once per load: up to half the jitter more or less.
            let jitter = jitter.min(interval / 2).as_millis() as u32;
            let more = Rng::from_entropy().below(jitter.max(1));
            interval + Duration::from_millis(more.into()) - Duration::from_millis(jitter.into()) / 2
        });
        self.interval = found.or(self.own);
        if let Some(interval) = self.interval {
            self.next = Instant::now() + interval;
            let hash = hex(&self.running);
            tracing::info!(target: "plugin/reload", "Running configuration SHA512 = {hash}");
        }
    }

    /// Waits until it is time to look; for ever without `reload`.
    pub async fn due(&self) {
        match self.interval {
            Some(_) => tokio::time::sleep_until(self.next).await,
            None => std::future::pending().await,
        }
    }

    /// Looks.
    pub fn look(&mut self, load: impl FnOnce() -> Result<Corefile, Vec<CorefileError>>) -> Watch {
        self.next = Instant::now() + self.interval.unwrap_or_default();
        match load() {
            Ok(corefile) if corefile.hash == self.running => {
                self.tried = None;
                Watch::Same
            }
            Ok(corefile) => match self.is_new(hex(&corefile.hash)) {
                true => Watch::Changed(corefile),
                false => Watch::Same,
            },
            Err(errors) => {
                let text = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
                if self.is_new(text) { Watch::Broken(errors) } else { Watch::Same }
            }
        }
    }

    fn is_new(&mut self, content: String) -> bool {
        let new = self.tried.as_ref() != Some(&content);
        self.tried = Some(content);
        new
    }

    /// Whether the Corefile is another one than what serves: it was tried, and failed.
    pub fn is_behind(&self) -> bool {
        self.tried.is_some()
    }

    /// Counts a reload that failed.
    pub fn failed(&self) {
        self.tally.add(self.failed, 1);
    }

    /// Shows the hash of what was reloaded.
    pub fn done(&mut self, hash: &[u8; 64]) {
        let info = self.tally.gauge(&VERSION_INFO, &["sha512", &hex(hash)]);
        info.set(1.0);
        self.info = Some(info);
    }
}

fn hex(hash: &[u8; 64]) -> String {
    use std::fmt::Write;
    hash.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
