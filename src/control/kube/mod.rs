//! The Kubernetes API server, as control sees it: connecting, listing, watching.
//!
//! What the plugin `kubernetes` has read becomes [`Settings`]; [`start`] has every kind of objects
//! listed and watched, and what is seen put into the index ([`Feed`]). The server binds once all
//! kinds are there, or after `startup_timeout`.
//!
//! [`config`] says where the server is and who we are; `api` sends a request; `request` says what is
//! asked, `decode` takes bodies apart as they arrive; `watch` is one kind's list and watch, `check`
//! repairs what it lost; `state` keeps what was known over a restart; `trouble` tells failures apart;
//! `metrics` counts. `all` lists once and `once` asks for one object, for sub-commands.
//!
//! Guarantees: no object exists whole but the one that is being read; no failure ends anything, it
//! is told once a while and tried again, with jitter; what was served is served on.

mod all;
mod api;
mod check;
pub mod config;
mod decode;
mod metrics;
mod once;
mod request;
mod state;
mod trouble;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at, sleep};

pub use all::all;
pub use api::Limits;
pub use config::{Connect, Tls};
pub use once::Once;
pub use request::Selectors;
pub use state::State;
pub use trouble::{Journal, Trouble};

use crate::cluster::feed::Feed;
use crate::cluster::object::Kind;
use crate::data::tally::Tally;
use crate::limits::{
    KUBE_ANSWER_SECONDS_MAX, KUBE_CHECK_SECONDS, KUBE_SILENCE_SECONDS_MAX, KUBE_WAIT_MILLIS,
    KUBE_WARM_MILLIS_MAX,
};
use crate::plugin::site::{Task, blocking};
use crate::plugin::{Ready, SetupError, Site};
use api::Api;
use metrics::{Counts, Requests};
use state::Counting;
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
    /// What is held of them, where that is a choice: tells the states of several blocks apart.
    pub held: String,
    /// How long the server waits for all kinds before it binds.
    pub startup_timeout: Duration,
    /// How patient watches are.
    pub times: Times,
    /// The directory in which the last known state is kept, if it is to be.
    pub state: Option<PathBuf>,
}

/// How patient watches are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// After how long without a sign of life a watch is cut.
    pub silence: Duration,
    /// How long it is from one check to the next.
    pub check: Duration,
    /// How long an answer may take to begin, and the body of a list to go on.
    pub answer: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            silence: Duration::from_secs(KUBE_SILENCE_SECONDS_MAX),
            check: Duration::from_secs(KUBE_CHECK_SECONDS),
            answer: Duration::from_secs(KUBE_ANSWER_SECONDS_MAX),
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
    if let Some(folder) = &settings.state {
        let made = std::fs::create_dir_all(folder);
        made.map_err(|error| site.err(format!("{}: {error}", folder.display())))?;
    }
    let at_most = settings.startup_timeout;
    let Watching { sync, recalled, state, run } = watch(settings, feed, site.tally);
    site.spawn_early(run);
    if let Some(state) = state {
        site.at_stop(move || {
            state.save();
            Ok(())
        });
    }
    site.ready("kubernetes", Arc::clone(&sync) as Arc<dyn Ready>);
    site.before_serving(wait(Arc::clone(&sync), recalled, at_most));
    Ok(sync)
}

/// A cluster that is watched as long as `run` is polled.
pub struct Watching {
    /// Which kinds are in sync.
    pub sync: Arc<Sync>,
    /// Told once the state of an earlier run is served.
    pub recalled: Arc<Notify>,
    /// What is to be saved before the process ends.
    pub state: Option<Arc<State>>,
    /// The watches.
    pub run: Task,
}

/// Lists and watches, from the state of an earlier run where there is one.
pub fn watch(settings: Settings, feed: Arc<dyn Feed>, tally: &Arc<Tally>) -> Watching {
    let sync = Arc::new(Sync::new(&settings.kinds));
    let changes = Arc::default();
    let state = settings
        .state
        .as_ref()
        .map(|folder| Arc::new(State::new(folder, &settings, &feed, &sync, &changes)));
    let feed = Arc::new(Counting { feed, changes });
    let requests = Requests::new(tally);
    let api =
        Arc::new(Api::new(settings.connect, settings.limits, settings.times.answer, requests));
    let selectors = Arc::new(settings.selectors);
    let journal = Arc::new(Journal::default());
    let watch = |kind: &Kind| Watch {
        kind: *kind,
        api: Arc::clone(&api),
        selectors: Arc::clone(&selectors),
        feed: Arc::clone(&feed) as Arc<dyn Feed>,
        sync: Arc::clone(&sync),
        journal: Arc::clone(&journal),
        counts: Counts::new(tally, kind.as_str()),
        times: settings.times,
        place: Mutex::default(),
    };
    let watches: Vec<Watch> = settings.kinds.iter().map(watch).collect();
    let recalled = Arc::new(Notify::new());
    let (kinds, told, kept) = (settings.kinds, Arc::clone(&recalled), state.clone());
    let run = async move {
        // Dropped with this task, and its tasks with it.
        let mut running = JoinSet::new();
        if let Some(state) = kept {
            let reading = Arc::clone(&state);
            if blocking(move || reading.recall(&kinds)).await.unwrap_or(false) {
                told.notify_one();
            }
            running.spawn(state.keep());
        }
        for watch in watches {
            running.spawn(watch.run());
        }
        while running.join_next().await.is_some() {}
    };
    Watching { sync, recalled, state, run: Box::pin(run) }
}

/// Waits for the first sync, for as long as the operator allows, and says so in CoreDNS's words; not
/// for long where there is something to serve.
async fn wait(sync: Arc<Sync>, recalled: Arc<Notify>, at_most: Duration) {
    let every = Duration::from_millis(KUBE_WAIT_MILLIS);
    let mut ticks = interval_at(Instant::now() + every, every);
    let late = sleep(at_most);
    tokio::pin!(late);
    loop {
        tokio::select! {
            () = sync.all() => return,
            () = recalled.notified() => {
                let warm = Instant::now() + Duration::from_millis(KUBE_WARM_MILLIS_MAX);
                let earlier = warm.min(late.deadline());
                late.as_mut().reset(earlier);
            }
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
