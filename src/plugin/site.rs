//! What a directive sees of the server while its link is compiled.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::registry::Link;
use super::{SearchPath, Transferer};
use crate::control::admin::Endpoint;
use crate::control::corefile::{CorefileError, Place};
use crate::control::ready::Readiness;
use crate::control::status::{Census, Status};
use crate::data::chain::Event;
use crate::data::tally::Tally;
use crate::data::transport::sockets::Steering;
use crate::data::upstream::{Upstream, UpstreamSpec};
use crate::publish::Turns;
use crate::snapshot::{MetaRef, Server, Timeouts};
use crate::wire::{NameBuf, TsigKey};

/// What a block must know before anything of it is compiled.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// `root`: where relative paths start.
    pub root: Option<PathBuf>,
    /// `bind`: addresses without ports; empty for the wildcard.
    pub binds: Vec<SocketAddr>,
    /// `timeouts`.
    pub timeouts: Timeouts,
    /// `multisocket`: how many sockets an address gets; this many workers at most.
    pub multisocket: Option<usize>,
    /// `multisocket`: how datagrams are steered to workers, if it says so.
    pub steering: Option<Steering>,
    /// `shed`.
    pub shed: bool,
    /// `debug`.
    pub debug: bool,
    /// Whether queries of classes other than IN are let through (`chaos`, `forward`).
    pub any_class: bool,
    /// Whether the block has `metadata`: without it no label has a value.
    pub metadata: bool,
    /// `view`: its name.
    pub view: Option<String>,
    /// `reload`: interval and jitter.
    pub reload: Option<(Duration, Duration)>,
    /// `tls`: what connections are accepted with.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// `tsig`: keys, for all blocks of the same listeners.
    pub tsig_keys: Vec<TsigKey>,
    /// `rewrite`: codes of the EDNS options that its rules name.
    pub local_options: Vec<u16>,
    /// `health`: how long to go on serving after a signal to stop.
    pub lameduck: Option<Duration>,
}

/// A link could not be set up.
#[derive(Clone, Debug)]
pub struct SetupError {
    /// Where in the Corefile, if a place is to blame.
    pub place: Option<Place>,
    /// What is wrong, with CoreDNS's short words.
    pub message: String,
}

impl SetupError {
    /// An error without a place of its own: that of the directive is shown.
    pub fn new(message: impl Into<String>) -> Self {
        Self { place: None, message: message.into() }
    }
}

impl From<CorefileError> for SetupError {
    fn from(error: CorefileError) -> Self {
        Self { place: error.place, message: error.message }
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What `compile` gives.
#[derive(Default)]
pub struct Compiled {
    /// The link, if the directive has one.
    pub link: Option<Link>,
}

impl Compiled {
    /// A directive that is only facts, tasks or end points.
    pub fn nothing() -> Self {
        Self { link: None }
    }

    /// A directive with a link.
    pub fn link(link: impl Into<Link>) -> Self {
        Self { link: Some(link.into()) }
    }
}

/// Takes the events that a plugin told, on control's thread.
pub trait Sink: Send {
    /// One event.
    fn take(&mut self, event: &Event);
    /// When it wants `tick` to be called next.
    fn due(&self) -> Option<Instant> {
        None
    }
    /// Called when it is due, and once before the sink goes (`last`).
    fn tick(&mut self, _last: bool) {}
}

/// Says whether a plugin is ready (`ready`).
pub trait Ready: Send + Sync {
    /// Whether it can answer from data that is in sync.
    fn is_ready(&self) -> bool;

    /// What it waits for, if it is known: for the log.
    fn why_not(&self) -> String {
        String::new()
    }
}

/// What control looks at from time to time and makes a table of: files on the disk.
pub trait Watched: Send + 'static {
    /// What workers read.
    type Table: Send + Sync + 'static;

    /// How long until something of it is due to be looked at; nothing: not by itself.
    fn wait(&self) -> Option<Duration>;

    /// Looks at what is due, at everything if the Corefile was loaded again (`all`), and gives the
    /// table if it is another. May wait for the disk.
    fn look(&mut self, all: bool) -> Option<Self::Table>;
}

/// A task of control that lives as long as its link.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;
/// Something to do once, when the server has started or before it stops.
pub type Hook = Box<dyn FnOnce() -> Result<(), String> + Send>;

/// What plugins of one block have asked control for.
#[derive(Default)]
pub struct Wanted {
    /// Tasks, started when the snapshot is published.
    pub tasks: Vec<Task>,
    /// Tasks, started before anything new is bound.
    pub early: Vec<Task>,
    /// What has to be over before anything new is bound.
    pub waits: Vec<Task>,
    /// Run after everything is bound, before the snapshot is published.
    pub at_start: Vec<Hook>,
    /// Run when the server stops for good.
    pub at_stop: Vec<Hook>,
    /// Who takes events.
    pub sinks: Vec<(u32, Box<dyn Sink>)>,
    /// Who has to be ready, by plugin name.
    pub ready: Vec<(&'static str, Arc<dyn Ready>)>,
    /// HTTP end points.
    pub endpoints: Vec<Endpoint>,
    /// Who knows clients by their addresses.
    pub censuses: Vec<Arc<dyn Census>>,
    /// Told when a reload carries the link over.
    pub carried: Option<Arc<Notify>>,
}

/// A block while it is compiled.
pub struct Site<'a> {
    /// Its zones on its listeners, with the labels of their metrics.
    pub servers: &'a [Server],
    /// Its zones, lower-cased, in the order of its keys.
    pub zones: &'a [NameBuf],
    /// The addresses that it listens on, in the order of its keys and of `bind`.
    pub addresses: &'a [SocketAddr],
    /// What its directives told of it.
    pub facts: &'a Facts,
    /// Names of the directives in the block, in the order of the chain.
    pub directives: &'a [&'static str],
    /// Where counters come from.
    pub tally: &'a Arc<Tally>,
    /// What is known of the process, for people.
    pub status: &'a Arc<Status>,
    /// Who has to be ready, of all blocks.
    pub readiness: &'a Arc<Readiness>,
    /// What [`Published::set`](crate::publish::Published::set) waits for.
    pub turns: &'a Arc<Turns>,
    /// Links below, the nearest last.
    pub(crate) below: &'a [Link],
    pub(crate) labels: &'a mut Vec<Box<str>>,
    pub(crate) next_sink: &'a mut u32,
    pub(crate) wanted: &'a mut Wanted,
    /// Place of the directive that is compiled.
    pub place: Place,
}

impl Site<'_> {
    /// The link of type `T` below, if there is one: `site.find::<Kubernetes>()`.
    pub fn find<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.below.iter().rev().find_map(|link| link.any().downcast::<T>().ok())
    }

    /// Zones whose names links below answer from memory
    /// ([`Plugin::memory_zones`](super::Plugin::memory_zones)).
    pub fn memory_zones(&self) -> Vec<NameBuf> {
        self.below.iter().flat_map(|link| link.memory_zones()).copied().collect()
    }

    /// Those below that hand out zones, in the order of the chain.
    pub fn transferers(&self) -> Vec<Arc<dyn Transferer>> {
        self.below.iter().rev().filter_map(Link::transferer).collect()
    }

    /// The search paths that the plugin of this name knows, if it is below and knows any.
    pub fn search_path(&self, plugin: &str) -> Option<SearchPath> {
        self.below.iter().rev().filter(|link| link.name() == plugin).find_map(Link::search_path)
    }

    /// Joins a relative path to the block's `root`.
    pub fn path(&self, path: &Path) -> PathBuf {
        match &self.facts.root {
            Some(root) if path.is_relative() => root.join(path),
            _ => path.to_owned(),
        }
    }

    /// A metadata label that the plugin will read by [`Cx::meta`](super::Cx::meta).
    pub fn meta(&mut self, label: &str) -> MetaRef {
        let known = self.labels.iter().position(|other| &**other == label);
        let index = known.unwrap_or_else(|| {
            self.labels.push(label.into());
            self.labels.len() - 1
        });
        MetaRef(index as u16)
    }

    /// Registers who takes the events that the plugin tells; gives the number for `Cx::tell`.
    pub fn sink(&mut self, sink: impl Sink + 'static) -> u32 {
        *self.next_sink += 1;
        self.wanted.sinks.push((*self.next_sink, Box::new(sink)));
        *self.next_sink
    }

    /// Makes an upstream for [`Cx::exchange`](super::Cx::exchange). A task that resolves names again
    /// makes them likewise, by [`Upstream::new`] with the same `tally`.
    pub fn upstream(&self, spec: UpstreamSpec) -> Arc<Upstream> {
        Upstream::new(spec, self.tally)
    }

    /// Has control run a task from publication until the link is gone.
    pub fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.wanted.tasks.push(Box::pin(task));
    }

    /// Has control run a task from before the addresses are bound until the link is gone: one that
    /// fetches what [`before_serving`](Self::before_serving) waits for.
    pub fn spawn_early(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.wanted.early.push(Box::pin(task));
    }

    /// Has control wait for the end of `wait` before it binds new addresses and publishes the
    /// block; `wait` bounds itself. The HTTP end points are open meanwhile, and in a reload what
    /// was there before serves. A signal to stop ends the wait.
    pub fn before_serving(&mut self, wait: impl Future<Output = ()> + Send + 'static) {
        self.wanted.waits.push(Box::pin(wait));
    }

    /// Has control look at `watched` when it is due, and whenever a reload carries the link over,
    /// and `publish` what comes of it.
    pub fn watch<W: Watched>(
        &mut self,
        mut watched: W,
        publish: impl Fn(&Arc<Turns>, W::Table) + Send + 'static,
    ) {
        let turns = Arc::clone(self.turns);
        let carried = Arc::clone(self.wanted.carried.get_or_insert_default());
        self.spawn(async move {
            loop {
                let wait = watched.wait();
                let all = tokio::select! {
                    () = sleep(wait.unwrap_or_default()), if wait.is_some() => false,
                    () = carried.notified() => true,
                };
                let looking = blocking(move || {
                    let table = watched.look(all);
                    (watched, table)
                });
                let Ok((back, fresh)) = looking.await else { return };
                watched = back;
                if let Some(fresh) = fresh {
                    publish(&turns, fresh);
                }
            }
        });
    }

    /// Has control do something once after everything is bound, each time a Corefile is loaded.
    pub fn at_start(&mut self, hook: impl FnOnce() -> Result<(), String> + Send + 'static) {
        self.wanted.at_start.push(Box::new(hook));
    }

    /// Has control do something once before the process ends by SIGTERM or SIGINT, while it still
    /// serves: before the lameduck time.
    pub fn at_stop(&mut self, hook: impl FnOnce() -> Result<(), String> + Send + 'static) {
        self.wanted.at_stop.push(Box::new(hook));
    }

    /// Adds to what `ready` waits for.
    pub fn ready(&mut self, plugin: &'static str, ready: Arc<dyn Ready>) {
        self.wanted.ready.push((plugin, ready));
    }

    /// Tells who clients are, where a person asks.
    pub fn census(&mut self, census: Arc<dyn Census>) {
        self.wanted.censuses.push(census);
    }

    /// Serves an HTTP end point.
    pub fn endpoint(&mut self, endpoint: Endpoint) {
        self.wanted.endpoints.push(endpoint);
    }

    /// An error at the directive's place.
    pub fn err(&self, message: impl Into<String>) -> SetupError {
        SetupError { place: Some(self.place.clone()), message: message.into() }
    }
}

/// Runs what waits for the disk, or computes for long, on control's bounded pool of threads.
#[allow(clippy::disallowed_methods, reason = "the pool has BLOCKING_THREADS_MAX threads")]
pub fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::task::spawn_blocking(work)
}
