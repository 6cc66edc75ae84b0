//! Listing and watching against an API server of our own, with all that goes wrong in the field.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the bans guard the query path: this program is a server and waits for another"
)]

mod applying;
#[path = "../certs/mod.rs"]
mod certs;
mod cluster;
mod connecting;
mod doctor;
mod model;
#[path = "../ports/mod.rs"]
mod ports;
mod process;
mod queries;
mod real;
mod server;
mod serving;
mod starting;
mod watching;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use corelane::cluster::object::Kind;
use corelane::control::kube::{self, Connect, Limits, Selectors, Settings, State, Sync, Times};
use corelane::data::tally::{Format, Tally};
use corelane::plugin::Ready;
use model::Model;
use serde_json::{Value, json};
use server::Server;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long anything may take that has to happen: to tell a hang from a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client of the API server, as the plugin starts it.
struct Client {
    model: Arc<Model>,
    sync: Arc<Sync>,
    tally: Arc<Tally>,
    state: Option<Arc<State>>,
    running: JoinSet<()>,
}

impl Client {
    fn start(settings: Settings) -> Self {
        let (model, tally) = (Model::new(), Tally::new(1));
        let watching = kube::watch(settings, Arc::clone(&model) as _, &tally);
        let mut running = JoinSet::new();
        running.spawn(watching.run);
        let state = watching.state;
        Self { model, sync: watching.sync, tally, state, running }
    }

    /// Of services and slices of a server.
    fn of(server: &Server) -> Self {
        Self::start(settings(&server.url()))
    }

    async fn synced(&self) {
        until("all kinds are in sync", || self.sync.is_ready()).await;
    }

    /// Waits until these are the services.
    async fn serves(&self, names: &[&str]) {
        until(&format!("the services are {names:?}"), || self.model.names(Kind::Services) == names)
            .await;
    }

    /// Waits until the text of what is wrong holds these words.
    async fn says(&self, words: &str) {
        until(words, || self.sync.why_not().contains(words)).await;
    }

    /// The value of a series; 0 if it is not there.
    fn counted(&self, series: &str) -> f64 {
        let mut page = String::new();
        self.tally.scrape(&mut page, Format::Text004);
        let line = page.lines().find_map(|line| line.strip_prefix(series));
        line.map_or(0.0, |value| value.trim().parse().expect("a number"))
    }
}

fn settings(url: &str) -> Settings {
    Settings {
        connect: Connect::Endpoint { url: url.to_owned(), tls: None },
        limits: Limits::default(),
        kinds: vec![Kind::Services, Kind::Slices],
        selectors: Selectors::default(),
        held: String::new(),
        startup_timeout: Duration::from_secs(5),
        times: Times::default(),
        state: None,
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("it never came that {what}"));
}

fn service(name: &str, address: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop"}, "spec": {"clusterIP": address}})
}

/// A folder of a test's own.
fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("kube_api").join(name);
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// Runs a test on a runtime like control's: one thread.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(test);
}
