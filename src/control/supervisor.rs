//! The one thread that decides: start, signals, reload, stop.
//!
//! Start: compile, open the HTTP end points, wait for what plugins must have before they are asked
//! (the cluster's records), bind, run start hooks, publish, spawn workers. A reload does the same
//! beside what is serving and then swaps: a Corefile that does not build leaves everything as it
//! was. The old graph is dropped here, once no worker holds it. A signal to stop ends either wait.
//!
//! Signals are CoreDNS's: SIGTERM stops after the lameduck time with the sockets drained, SIGINT
//! likewise (a second one ends at once), SIGQUIT ends at once, SIGUSR1 reloads, SIGHUP does nothing.
//! SIGUSR2 is our own: the program is started anew and succeeds this process without a gap. Whoever
//! has a successor on its way does not stop before that serves, or has failed.

use std::collections::HashMap;
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::admin::Admin;
use super::args::{Serve, Source};
use super::compile::{self, BuildError, Graph, Ground, Numbers};
use super::corefile::{Corefile, CorefileError};
use super::crew::Crew;
use super::explain::live;
use super::hand_over::claim::Claim;
use super::hand_over::link::Link;
use super::hand_over::offer::{Heard, Offers, Successor};
use super::hand_over::standby::Standby;
use super::hand_over::{Held, Inherited, claim, listen};
use super::node_local::NodeLocal;
use super::reload::{Reload, Watch};
use super::signals::{Signals, Word};
use super::status::Status;
use super::{admin, logging, notify, ready, source, version};
use crate::limits::{GENERATIONS_MAX, HAND_OVER_SECONDS_MAX};
use crate::mail::Ending;
use crate::plugin::site::Hook;
use crate::plugin::{Sink, prometheus};

/// Everything that the process has.
pub struct Supervisor {
    serve: Serve,
    crew: Crew,
    admin: Admin,
    graph: Graph,
    /// Graphs that workers may still hold, oldest first.
    retired: Vec<Graph>,
    /// Generations of which streams may still hold links, with the sinks that those tell.
    streaming: Vec<(u64, Vec<u32>)>,
    sinks: HashMap<u32, Box<dyn Sink>>,
    numbers: Numbers,
    reload: Reload,
    ready: Arc<ready::Readiness>,
    status: Arc<Status>,
    offers: Offers,
    /// Sockets that somebody else keeps: for a reload that listens on one.
    kept: Inherited,
    /// Held until the process ends.
    node_local: Option<NodeLocal>,
    /// To whom this process has succeeded: its end of the link is this process's sign of life.
    _predecessor: Option<Link>,
    _build_info: crate::data::tally::Gauge,
}

/// What control does beside signals and reloads.
enum Chore {
    /// Workers have told something.
    Events,
    /// A graph that was replaced may be free.
    Retire,
    /// A sink wants its tick.
    Sinks,
    /// A successor is on its way.
    HandOver(Heard),
}

/// Why a reload did not happen.
enum ReloadError {
    /// Something failed: the text for the operator.
    Failed(String),
    /// The process is to end.
    Ended(Word),
}

impl std::fmt::Display for ReloadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Failed(text) => f.write_str(text),
            Self::Ended(_) => f.write_str("the server stops"),
        }
    }
}

fn all(errors: &[CorefileError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl Supervisor {
    /// Loads the Corefile and starts serving; `None` if a signal to stop came before that. `kept`:
    /// sockets that were left open for the process.
    ///
    /// # Errors
    /// One text of a line or more: what the operator has to change.
    pub async fn start(
        mut serve: Serve,
        mut kept: Inherited,
        signals: &mut Signals,
    ) -> Result<Option<Self>, String> {
        let (claim, mut offers, corefile) = begin(&mut serve).await?;
        let planned = compile::plan(&corefile).map_err(|errors| all(&errors))?;
        let mut crew = Crew::new(&planned, &serve)?;
        let mut numbers = Numbers::default();
        let ready = Arc::new(ready::Readiness::default());
        let status = Status::new(&crew.tally, crew.workers, crew.engine.as_str());
        let mut ground = Ground::of(&crew, &status, &ready, None, &mut numbers);
        let mut graph = compile::compile(planned, corefile.hash, &mut ground)
            .map_err(|error: BuildError| error.to_string())?;
        let admin = Admin::start().map_err(|error| format!("admin thread: {error}"))?;
        // First who has to be ready: an end point that is open knows of them.
        ready.set(&graph);
        // Who is to be succeeded answers probes until its sockets are here.
        if claim.is_none() {
            let early = early_endpoints(&graph, &crew, &serve, &status);
            admin.set(early).map_err(|error| error.to_string())?;
        }
        let waits = graph.start_early();
        tokio::select! {
            _ = waits.join_all() => {}
            () = signals.stop() => return Ok(None),
        }
        graph.inherited = inherit(claim.as_ref(), &mut kept).await?;
        let (node, tally) = (serve.node_local.clone(), &crew.tally);
        let mut node_local = NodeLocal::raise(node, &mut graph.inherited, tally).await?;
        let all = endpoints(&graph, &crew, &serve, &status);
        admin.adopt(all, &mut graph.inherited.http).map_err(|error| error.to_string())?;
        graph.bind(&mut ground).map_err(|error| error.to_string())?;
        status.set(&corefile, &graph);
        graph.inherited.drop_rest();
        listen::tell(&kept, &graph.snapshot.listeners);
        run_hooks(std::mem::take(&mut graph.at_start))?;
        crew.spawn(Arc::clone(&graph.snapshot))?;
        let predecessor = succeed(claim, &crew, &status, graph.snapshot.generation).await?;
        offers.open();
        node_local.iter_mut().for_each(NodeLocal::settle);
        let own = serve.node_local.as_ref().and_then(|node| node.reloads_every);
        let mut this = Self {
            _build_info: admin::process::build_info(&crew.tally),
            reload: Reload::new(&crew.tally, own),
            serve,
            crew,
            admin,
            graph,
            retired: Vec::new(),
            streaming: Vec::new(),
            sinks: HashMap::new(),
            numbers,
            ready,
            status,
            offers,
            kept,
            node_local,
            _predecessor: predecessor,
        };
        this.begin_graph();
        Ok(Some(this))
    }

    /// Prints the addresses that are served, and the version; tells whoever waits for the start.
    pub fn banner(&self) {
        notify::ready();
        if !self.serve.quiet {
            let lines = self.graph.banner.join("\n");
            logging::print(&format!("{lines}\n{}\n", version::text().trim_end()));
        }
    }

    /// Serves until a signal ends it; the process's exit status.
    pub async fn run(mut self, mut signals: Signals) -> ExitCode {
        // Until when a stop waits for a successor that has begun.
        let mut latest = None;
        loop {
            if let Some(successor) = self.offers.take_successor() {
                return self.leave(successor, &mut signals).await;
            }
            if self.offers.is_asked() {
                self.give().await;
            }
            let waits = self.offers.has_successor();
            if latest.is_some_and(|latest| !waits || Instant::now() >= latest) {
                return self.stop(&mut signals).await;
            }
            let fixed = self.offers.is_given() || latest.is_some();
            let ended = tokio::select! {
                word = signals.next() => self.obey(word, fixed, &mut signals).await,
                () = self.reload.due(), if !fixed => self.look_for_change(&mut signals).await,
                () = wait_until(latest) => None,
                chore = self.chore() => {
                    self.work(chore).await;
                    None
                }
            };
            let Some(word) = ended else { continue };
            word.tell();
            match word {
                Word::Quit => return ExitCode::SUCCESS,
                _ if self.offers.has_successor() && latest.is_none() => {
                    tracing::info!("Serving on until the successor does");
                    latest = Some(Instant::now() + Duration::from_secs(HAND_OVER_SECONDS_MAX));
                }
                _ => return self.stop(&mut signals).await,
            }
        }
    }

    /// Does what a signal asks for; gives the word if that is to end. `fixed`: nothing may change now.
    async fn obey(&mut self, word: Word, fixed: bool, signals: &mut Signals) -> Option<Word> {
        match word {
            Word::Reload if fixed => tracing::info!("SIGUSR1: not now, a successor takes over"),
            Word::Reload => {
                tracing::info!("SIGUSR1: Reloading");
                match self.reload_now(signals).await {
                    Err(ReloadError::Ended(word)) => return Some(word),
                    Err(error) => tracing::error!("SIGUSR1: {error}"),
                    Ok(()) => {}
                }
            }
            Word::Succeed => {
                let started = match self.serve.source {
                    Source::Stdin => Err("what came by standard input cannot be read again".into()),
                    Source::Sample => Err("the sample ends with its process".into()),
                    _ => self.offers.start(),
                };
                match started {
                    Ok(()) => tracing::info!("SIGUSR2: Starting a successor"),
                    Err(error) => tracing::error!("SIGUSR2: no successor: {error}"),
                }
            }
            word => return Some(word),
        }
        None
    }

    /// Gives the successor descriptors of all that is served, workers in their order.
    async fn give(&mut self) {
        let (mut all, mut unserved) = (Vec::new(), self.kept.kept().unwrap_or_default());
        for listener in &self.graph.snapshot.listeners {
            unserved.take(listener.address);
            let (address, sockets) = (listener.address, &listener.sockets);
            let (udp, tcp) = (sockets.udp.iter(), sockets.tcp.iter());
            let kept = sockets.kept;
            all.extend(udp.map(|one| (Held::Udp(address), one.as_fd(), kept.udp)));
            all.extend(tcp.map(|one| (Held::Tcp(address), one.as_fd(), kept.tcp)));
        }
        all.extend(unserved.all());
        let node = self.node_local.as_ref().map(NodeLocal::held).unwrap_or_default();
        all.extend(node.iter().map(|(held, one)| (held.clone(), one.as_fd(), false)));
        let http = self.admin.sockets();
        let http = http.iter().map(|(address, one)| (Held::Http(*address), one.as_fd(), false));
        all.extend(http);
        self.offers.give(&all).await;
    }

    /// Ends, since a successor serves: nothing more is taken, what has begun is finished.
    async fn leave(mut self, successor: Successor, signals: &mut Signals) -> ExitCode {
        let pid = successor.pid();
        tracing::info!("Process {pid} serves: finishing what has begun");
        for part in &self.graph.parts {
            let hooks = part.at_stop.lock().map(|mut hooks| std::mem::take(&mut *hooks));
            let _ = run_hooks(hooks.unwrap_or_default());
        }
        // At once: what the successor takes away is not to be put back.
        self.node_local.take().into_iter().for_each(NodeLocal::hand_on);
        tokio::join!(self.admin.hand_on(), self.crew.drain(Ending::HandedOn));
        self.drain_events();
        self.sinks.values_mut().for_each(|sink| sink.tick(true));
        drop(self);
        tracing::info!("Handed over to process {pid}");
        if !Standby::is_needed() {
            return ExitCode::SUCCESS;
        }
        let mut standby = Standby::new(successor);
        loop {
            tokio::select! {
                status = standby.over() => return ExitCode::from(status),
                word = signals.next() => {
                    let stops = !matches!(word, Word::Reload | Word::Succeed);
                    if !standby.hand_on(word.number()) && stops {
                        return ExitCode::SUCCESS;
                    }
                }
            }
        }
    }

    /// Waits for the next of the small things that control does all the time.
    async fn chore(&self) -> Chore {
        tokio::select! {
            () = self.crew.events.wait() => Chore::Events,
            () = retire_soon(!(self.retired.is_empty() && self.streaming.is_empty())) => {
                Chore::Retire
            }
            () = wait_until(self.sinks.values().filter_map(|sink| sink.due()).min()) => {
                Chore::Sinks
            }
            heard = self.offers.heard() => Chore::HandOver(heard),
        }
    }

    async fn work(&mut self, chore: Chore) {
        match chore {
            Chore::HandOver(heard) => self.offers.note(heard).await,
            Chore::Events => self.drain_events(),
            Chore::Retire => self.retire(),
            Chore::Sinks => self.sinks.values_mut().for_each(|sink| sink.tick(false)),
        }
    }

    /// Has the Corefile read again, and swaps if it builds.
    async fn reload_now(&mut self, signals: &mut Signals) -> Result<(), ReloadError> {
        tracing::info!("Reloading");
        notify::reloading();
        let result = match source::load(&self.serve) {
            Ok(corefile) => self.swap(&corefile, signals).await,
            Err(errors) => Err(ReloadError::Failed(all(&errors))),
        };
        tell_systemd(&result);
        match &result {
            Ok(()) => tracing::info!("Reloading complete"),
            Err(error) => tracing::error!("Restart failed: {error}"),
        }
        self.status.set_outdated(result.is_err());
        result
    }

    /// Builds, waits and binds, then publishes; nothing changes if anything fails.
    async fn swap(
        &mut self,
        corefile: &Corefile,
        signals: &mut Signals,
    ) -> Result<(), ReloadError> {
        if self.retired.len() + 1 >= GENERATIONS_MAX {
            self.retire();
        }
        if self.retired.len() + 1 >= GENERATIONS_MAX {
            let words = "queries of earlier configurations are still waiting; try again later";
            return Err(ReloadError::Failed(words.into()));
        }
        let failed = |error: &dyn std::fmt::Display| ReloadError::Failed(error.to_string());
        let planned = compile::plan(corefile).map_err(|errors| failed(&all(&errors)))?;
        let mut graph = compile::compile(planned, corefile.hash, &mut self.ground())
            .map_err(|error| failed(&error))?;
        self.wait(graph.start_early(), signals).await.map_err(ReloadError::Ended)?;
        graph.inherited = again(&self.kept).map_err(|error| failed(&error))?;
        graph.bind(&mut self.ground()).map_err(|error| failed(&error))?;
        graph.inherited.drop_rest();
        self.admin.set(self.endpoints(&graph)).map_err(|error| failed(&error))?;
        if let Err(error) = run_hooks(std::mem::take(&mut graph.at_start)) {
            // The old end points come back: they were open a moment ago.
            let _ = self.admin.set(self.endpoints(&self.graph));
            return Err(failed(&error));
        }
        self.crew.publish(Arc::clone(&graph.snapshot));
        let old = std::mem::replace(&mut self.graph, graph);
        self.retired.push(old);
        self.ready.set(&self.graph);
        self.status.set(corefile, &self.graph);
        self.begin_graph();
        Ok(())
    }

    /// What compiling and binding need, beside what serves.
    fn ground(&mut self) -> Ground<'_> {
        let old = Some(&self.graph);
        Ground::of(&self.crew, &self.status, &self.ready, old, &mut self.numbers)
    }

    fn endpoints(&self, graph: &Graph) -> Vec<admin::Endpoint> {
        endpoints(graph, &self.crew, &self.serve, &self.status)
    }

    /// Waits for the tasks' end while everything else goes on; the word of a signal to stop ends it.
    async fn wait(&mut self, waits: JoinSet<()>, signals: &mut Signals) -> Result<(), Word> {
        let mut waits = std::pin::pin!(waits.join_all());
        loop {
            tokio::select! {
                _ = &mut waits => return Ok(()),
                word = signals.next() => match word {
                    Word::Reload => tracing::info!("SIGUSR1: Reloading already"),
                    Word::Succeed => tracing::info!("SIGUSR2: not now, reloading"),
                    word => return Err(word),
                },
                chore = self.chore() => self.work(chore).await,
            }
        }
    }

    /// Loads what has changed; gives the word of a signal to stop that came meanwhile.
    async fn look_for_change(&mut self, signals: &mut Signals) -> Option<Word> {
        let serve = &self.serve;
        match self.reload.look(|| source::load(serve)) {
            Watch::Same => {}
            Watch::Broken(errors) => {
                tracing::error!(
                    target: "plugin/reload",
                    "Corefile changed but reload failed: {}",
                    all(&errors)
                );
                self.reload.failed();
                self.node_local.iter().for_each(NodeLocal::count_refused);
            }
            Watch::Changed(corefile) => {
                tracing::info!("Reloading");
                notify::reloading();
                let result = self.swap(&corefile, signals).await;
                tell_systemd(&result);
                match result {
                    Err(ReloadError::Ended(word)) => return Some(word),
                    Ok(()) => {
                        self.reload.done(&corefile.hash);
                        tracing::info!("Reloading complete");
                    }
                    Err(error) => {
                        tracing::error!(
                            target: "plugin/reload",
                            "Corefile changed but reload failed: {error}"
                        );
                        self.reload.failed();
                    }
                }
            }
        }
        self.status.set_outdated(self.reload.is_behind());
        None
    }

    /// Frees the graphs that no worker holds any more, and the sinks that nobody tells any more.
    fn retire(&mut self) {
        let turns = &self.crew.turns;
        let released = |graph: &mut Graph| turns.is_released(graph.snapshot.generation + 1);
        for graph in self.retired.extract_if(.., released) {
            let sinks = graph.parts.iter().flat_map(|part| part.sinks.iter().copied());
            self.streaming.push((graph.snapshot.generation, sinks.collect()));
        }
        self.streaming.retain(|(generation, _)| !turns.is_over(generation + 1));
        let living = |number: &u32| {
            let mut graphs = self.retired.iter().chain([&self.graph]);
            graphs.any(|graph| graph.parts.iter().any(|part| part.sinks.contains(number)))
                || self.streaming.iter().any(|(_, sinks)| sinks.contains(number))
        };
        let gone: Vec<u32> = self.sinks.keys().filter(|number| !living(number)).copied().collect();
        for number in gone {
            if let Some(mut sink) = self.sinks.remove(&number) {
                sink.tick(true);
            }
        }
    }

    /// What a graph does once it is published.
    fn begin_graph(&mut self) {
        self.adopt_sinks();
        self.graph.start_tasks();
        self.reload.arm(&self.graph);
        logging::set_debug(self.graph.facts.iter().any(|facts| facts.debug));
    }

    fn adopt_sinks(&mut self) {
        self.sinks.extend(std::mem::take(&mut self.graph.sinks));
    }

    fn drain_events(&mut self) {
        let sinks = &mut self.sinks;
        self.crew.events.drain(|event| {
            if let Some(sink) = sinks.get_mut(&event.sink) {
                sink.take(event);
            }
        });
    }

    /// Stop hooks, lameduck, then drain; a second SIGINT ends at once.
    async fn stop(mut self, signals: &mut Signals) -> ExitCode {
        notify::stopping();
        // Who comes now finds nobody, and binds what it needs itself.
        self.offers = Offers::default();
        let lameduck = self.graph.facts.iter().filter_map(|facts| facts.lameduck).max();
        let mut status = ExitCode::SUCCESS;
        for part in &self.graph.parts {
            let hooks = part.at_stop.lock().map(|mut hooks| std::mem::take(&mut *hooks));
            if run_hooks(hooks.unwrap_or_default()).is_err() {
                status = ExitCode::from(4);
            }
        }
        if let Some(time) = lameduck {
            tracing::info!(target: "plugin/health", "Going into lameduck mode for {time:?}");
            // Who asks whether to send more gets no answer; health and metrics stay.
            let mut staying = self.endpoints(&self.graph);
            staying.retain(|endpoint| endpoint.name != "ready");
            drop(self.admin.set(staying));
            tokio::select! {
                () = tokio::time::sleep(time) => {}
                () = signals.second_interrupt() => return ExitCode::from(2),
            }
        }
        tokio::select! {
            () = self.crew.drain(Ending::Closed) => {}
            () = signals.second_interrupt() => return ExitCode::from(2),
        }
        self.drain_events();
        self.sinks.values_mut().for_each(|sink| sink.tick(true));
        status
    }
}

/// Finds whom to succeed and who is to succeed, and reads the Corefile.
async fn begin(serve: &mut Serve) -> Result<(Option<Claim>, Offers, Corefile), String> {
    let folder = serve.hand_over.as_deref();
    let claim = claim::begin(folder).await?;
    let offers = Offers::prepare(folder)?;
    source::settle(serve);
    let corefile = source::load_first(serve).map_err(|errors| all(&errors))?;
    Ok((claim, offers, corefile))
}

/// Says that the workers serve, to whom this process succeeds.
async fn succeed(
    claim: Option<Claim>,
    crew: &Crew,
    status: &Status,
    generation: u64,
) -> Result<Option<Link>, String> {
    let Some(claim) = claim else { return Ok(None) };
    crew.serving(generation).await?;
    let link = claim.serving().await?;
    status.succeed();
    Ok(Some(link))
}

/// Tells systemd how a reload has ended.
fn tell_systemd(result: &Result<(), ReloadError>) {
    match result {
        Ok(()) => notify::reloaded("the Corefile is loaded"),
        // What the process is told next is that it stops.
        Err(ReloadError::Ended(_)) => {}
        Err(error) => notify::reloaded(&format!("an older Corefile serves: {error}")),
    }
}

/// What is bound already: by the server that this process succeeds, and by whoever keeps sockets for it.
/// Those that the server had of the latter are kept for this process, too.
async fn inherit(claim: Option<&Claim>, kept: &mut Inherited) -> Result<Inherited, String> {
    let mut inherited = match claim {
        Some(claim) => claim.take().await?,
        None => Inherited::default(),
    };
    kept.complete(again(&inherited)?);
    inherited.complete(again(kept)?);
    Ok(inherited)
}

/// Sockets that somebody else keeps, to be taken from.
fn again(kept: &Inherited) -> Result<Inherited, String> {
    kept.kept().map_err(|error| format!("sockets that were given: {error}"))
}

async fn retire_soon(wanted: bool) {
    match wanted {
        true => tokio::time::sleep(Duration::from_millis(100)).await,
        false => std::future::pending().await,
    }
}

async fn wait_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

fn endpoints(
    graph: &Graph,
    crew: &Crew,
    serve: &Serve,
    status: &Arc<Status>,
) -> Vec<admin::Endpoint> {
    let parts = graph.parts.iter().rev();
    let mut all: Vec<_> = parts.flat_map(|part| part.endpoints.iter().cloned()).collect();
    let metrics = serve.node_local.as_ref().map(|node| &node.metrics);
    if let Some(address) = metrics.filter(|address| !address.is_empty()) {
        all.push(admin::Endpoint {
            name: "metrics",
            address: address.clone(),
            routes: vec![("/metrics", prometheus::page(status))],
            required: false,
            poll: None,
            web: None,
        });
    }
    // Who may see what the server does may ask for the way of a question, too.
    for endpoint in &mut all {
        if endpoint.routes.iter().any(|(path, _)| *path == "/status") {
            endpoint
                .routes
                .push((live::PATH, Arc::new(live::Walking { mailbox: crew.first_mailbox() })));
        }
    }
    all
}

/// Those that need no address which the node is yet to be given.
fn early_endpoints(
    graph: &Graph,
    crew: &Crew,
    serve: &Serve,
    status: &Arc<Status>,
) -> Vec<admin::Endpoint> {
    let mut early = endpoints(graph, crew, serve, status);
    early.retain(|one| !serve.node_local.as_ref().is_some_and(|node| node.makes(&one.address)));
    early
}

fn run_hooks(hooks: Vec<Hook>) -> Result<(), String> {
    hooks.into_iter().try_for_each(|hook| hook())
}

/// A worker's thread.
pub type Thread = JoinHandle<()>;
