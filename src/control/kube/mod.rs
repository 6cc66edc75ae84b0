//! The Kubernetes API server, as control sees it: connecting, listing, watching.
//!
//! What the plugin `kubernetes` has read becomes [`Settings`]; [`start`] has every kind of objects
//! listed and watched, and what is seen put into the index ([`Feed`]). The server binds once all
//! kinds are there, or after `startup_timeout`.
//!
//! [`config`] says where the server is and who we are; `api` sends a request; `request` says what is
//! asked, `decode` takes bodies apart as they arrive; `watch` is one kind's list and watch, `check`
//! repairs what it lost; `trouble` tells failures apart; `metrics` counts.
//!
//! Guarantees: no object exists whole but the one that is being read; no failure ends anything, it
//! is told once a while and tried again, with jitter; what was served is served on.

mod api;
mod check;
pub mod config;
mod decode;
mod metrics;
mod request;
mod trouble;
mod watch;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, interval_at, sleep};

pub use api::Limits;
pub use config::{Connect, Tls};
pub use request::Selectors;

use crate::cluster::feed::Feed;
use crate::cluster::object::Kind;
use crate::limits::{KUBE_CHECK_SECONDS, KUBE_SILENCE_SECONDS_MAX, KUBE_WAIT_MILLIS};
use crate::plugin::{Ready, SetupError, Site};
use api::Api;
use metrics::{Counts, Requests};
use trouble::{Journal, Trouble};
use watch::Watch;

/// What to watch, where.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How to reach the server.
    pub connect: Connect,
    /// How hard it may be asked.
    pub limits: Limits,
    /// The kinds that are watched.
    pub kinds: Vec<Kind>,
    /// Which objects of them.
    pub selectors: Selectors,
    /// How long the server waits for all kinds before it binds.
    pub startup_timeout: Duration,
    /// How patient watches are.
    pub times: Times,
}

/// How patient watches are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// After how long without a sign of life a watch is cut.
    pub silence: Duration,
    /// How long it is from one check to the next.
    pub check: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            silence: Duration::from_secs(KUBE_SILENCE_SECONDS_MAX),
            check: Duration::from_secs(KUBE_CHECK_SECONDS),
        }
    }
}

/// Which kinds are in sync, and what is wrong with those that are not.
pub struct Sync {
    wanted: u32,
    have: AtomicU32,
    changed: Notify,
    #[allow(clippy::disallowed_types, reason = "between control and the admin thread only")]
    failing: Mutex<BTreeMap<Kind, String>>,
}

impl Sync {
    fn new(kinds: &[Kind]) -> Self {
        let wanted = kinds.iter().fold(0, |all, kind| all | 1 << *kind as u32);
        Self { wanted, have: AtomicU32::new(0), changed: Notify::new(), failing: Mutex::default() }
    }

    /// Whether a kind has been in sync. Once in sync it stays so: what is held is served.
    pub fn has(&self, kind: Kind) -> bool {
        self.have.load(Ordering::Acquire) & 1 << kind as u32 != 0
    }

    fn synced(&self, kind: Kind) {
        self.have.fetch_or(1 << kind as u32, Ordering::AcqRel);
        self.changed.notify_waiters();
    }

    /// Notes what is wrong with a kind, or that nothing is; whether something was before.
    fn failing(&self, kind: Kind, trouble: Option<&Trouble>) -> bool {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        match trouble {
            Some(trouble) => failing.insert(kind, trouble.to_string()).is_some(),
            None => failing.remove(&kind).is_some(),
        }
    }

    /// Waits until all kinds are in sync.
    async fn all(&self) {
        loop {
            let changed = self.changed.notified();
            if self.is_ready() {
                return;
            }
            changed.await;
        }
    }
}

impl Ready for Sync {
    fn is_ready(&self) -> bool {
        self.have.load(Ordering::Acquire) == self.wanted
    }

    fn why_not(&self) -> String {
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let of_kind = |(kind, why): (&Kind, &String)| format!("{kind}: {why}");
        failing.iter().map(of_kind).collect::<Vec<_>>().join("; ")
    }
}

/// Has the cluster watched, from before the server binds until the link is gone. What is seen goes
/// to `feed`.
///
/// # Errors
/// We do not know where the API server is or who we are: a file that is missing or cannot be read,
/// no cluster around us.
pub fn start(
    site: &mut Site<'_>,
    settings: Settings,
    feed: Arc<dyn Feed>,
) -> Result<Arc<Sync>, SetupError> {
    settings.connect.config().map_err(|error| site.err(error))?;
    let (sync, watches) = watches(&settings, feed, site.tally);
    for watch in watches {
        site.spawn_early(watch.run());
    }
    site.ready("kubernetes", Arc::clone(&sync) as Arc<dyn Ready>);
    site.before_serving(wait(Arc::clone(&sync), settings.startup_timeout));
    Ok(sync)
}

/// The watches, one a kind, and where they tell that they are in sync.
pub fn watches(
    settings: &Settings,
    feed: Arc<dyn Feed>,
    tally: &Arc<crate::data::tally::Tally>,
) -> (Arc<Sync>, Vec<Watch>) {
    let sync = Arc::new(Sync::new(&settings.kinds));
    let requests = Requests::new(tally);
    let api = Arc::new(Api::new(settings.connect.clone(), settings.limits, requests));
    let selectors = Arc::new(settings.selectors.clone());
    let journal = Arc::new(Journal::default());
    let watch = |kind: &Kind| Watch {
        kind: *kind,
        api: Arc::clone(&api),
        selectors: Arc::clone(&selectors),
        feed: Arc::clone(&feed),
        sync: Arc::clone(&sync),
        journal: Arc::clone(&journal),
        counts: Counts::new(tally, kind.as_str()),
        times: settings.times,
        place: Mutex::default(),
    };
    let watches = settings.kinds.iter().map(watch).collect();
    (sync, watches)
}

/// Waits for the first sync, for as long as the operator allows, and says so in CoreDNS's words.
async fn wait(sync: Arc<Sync>, at_most: Duration) {
    let every = Duration::from_millis(KUBE_WAIT_MILLIS);
    let mut ticks = interval_at(Instant::now() + every, every);
    let late = sleep(at_most);
    tokio::pin!(late);
    loop {
        tokio::select! {
            () = sync.all() => return,
            () = &mut late => {
                let words = "starting server with unsynced Kubernetes API";
                return tracing::warn!(target: "plugin/kubernetes", "{words}");
            }
            _ = ticks.tick() => {
                let words = "waiting for Kubernetes API before starting server";
                tracing::info!(target: "plugin/kubernetes", "{words}");
            }
        }
    }
}
