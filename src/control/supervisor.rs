//! The one thread that decides: start, signals, reload, stop.
//!
//! Start: compile, open the HTTP end points, wait for what plugins must have before they are asked
//! (the cluster's records), bind, run start hooks, publish, spawn workers. A reload does the same
//! beside what is serving and then swaps: a Corefile that does not build leaves everything as it
//! was. The old graph is dropped here, once no worker holds it. A signal to stop ends either wait.
//!
//! Signals are CoreDNS's: SIGTERM stops after the lameduck time with the sockets drained, SIGINT
//! likewise (a second one ends at once), SIGQUIT ends at once, SIGUSR1 reloads, SIGHUP does nothing.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::admin::Admin;
use super::args::Serve;
use super::compile::{self, BuildError, Graph, Ground};
use super::corefile::{Corefile, CorefileError};
use super::crew::Crew;
use super::reload::{Reload, Watch};
use super::status::Status;
use super::{admin, logging, ready, source, version};
use crate::limits::GENERATIONS_MAX;
use crate::plugin::Sink;
use crate::plugin::site::Hook;

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
    next_sink: u32,
    next_listener: u32,
    reload: Reload,
    ready: Arc<ready::Readiness>,
    status: Arc<Status>,
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
    /// Loads the Corefile and starts serving; `None` if a signal to stop came before that.
    ///
    /// # Errors
    /// One text of a line or more: what the operator has to change.
    pub async fn start(serve: Serve, signals: &mut Signals) -> Result<Option<Self>, String> {
        let corefile = source::load(&serve).map_err(|errors| all(&errors))?;
        let planned = compile::plan(&corefile).map_err(|errors| all(&errors))?;
        let mut crew = Crew::new(&planned, &serve)?;
        let (mut next_sink, mut next_listener) = (0, 0);
        let ready = Arc::new(ready::Readiness::default());
        let status = Status::new(&crew.tally, crew.workers, crew.engine.as_str());
        let mut ground = Ground {
            tally: &crew.tally,
            status: &status,
            readiness: &ready,
            turns: &crew.turns,
            workers: crew.workers,
            pinned: crew.pinned,
            old: None,
            next_sink: &mut next_sink,
            next_listener: &mut next_listener,
        };
        let mut graph = compile::compile(planned, corefile.hash, &mut ground)
            .map_err(|error: BuildError| error.to_string())?;
        let admin = Admin::start().map_err(|error| format!("admin thread: {error}"))?;
        // First who has to be ready: an end point that is open knows of them.
        ready.set(&graph);
        admin.set(endpoints(&graph)).map_err(|error| error.to_string())?;
        let waits = graph.start_early();
        tokio::select! {
            _ = waits.join_all() => {}
            () = signals.stop() => return Ok(None),
        }
        graph.bind(&mut ground).map_err(|error| error.to_string())?;
        status.set(&corefile, &graph);
        run_hooks(std::mem::take(&mut graph.at_start))?;
        crew.spawn(Arc::clone(&graph.snapshot))?;
        let build_info = admin::process::build_info(&crew.tally);
        let reload = Reload::new(&crew.tally);
        let mut this = Self {
            serve,
            crew,
            admin,
            graph,
            retired: Vec::new(),
            streaming: Vec::new(),
            sinks: HashMap::new(),
            next_sink,
            next_listener,
            reload,
            ready,
            status,
            _build_info: build_info,
        };
        this.adopt_sinks();
        this.graph.start_tasks();
        this.reload.arm(&this.graph);
        logging::set_debug(this.graph.facts.iter().any(|facts| facts.debug));
        Ok(Some(this))
    }

    /// Prints the addresses that are served, and the version.
    pub fn banner(&self) {
        if !self.serve.quiet {
            let lines = self.graph.banner.join("\n");
            logging::print(&format!("{lines}\n{}\n", version::text().trim_end()));
        }
    }

    /// Serves until a signal ends it; the process's exit status.
    pub async fn run(mut self, mut signals: Signals) -> ExitCode {
        loop {
            let ended = tokio::select! {
                word = signals.next() => match word {
                    Word::Reload => {
                        tracing::info!("SIGUSR1: Reloading");
                        match self.reload_now(&mut signals).await {
                            Err(ReloadError::Ended(word)) => Some(word),
                            Err(error) => {
                                tracing::error!("SIGUSR1: {error}");
                                None
                            }
                            Ok(()) => None,
                        }
                    }
                    word => Some(word),
                },
                () = self.reload.due() => self.look_for_change(&mut signals).await,
                chore = self.chore() => {
                    self.work(chore);
                    None
                }
            };
            if let Some(word) = ended {
                word.tell();
                return match word {
                    Word::Quit => ExitCode::SUCCESS,
                    _ => self.stop(&mut signals).await,
                };
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
        }
    }

    fn work(&mut self, chore: Chore) {
        match chore {
            Chore::Events => self.drain_events(),
            Chore::Retire => self.retire(),
            Chore::Sinks => self.sinks.values_mut().for_each(|sink| sink.tick(false)),
        }
    }

    /// Has the Corefile read again, and swaps if it builds.
    async fn reload_now(&mut self, signals: &mut Signals) -> Result<(), ReloadError> {
        tracing::info!("Reloading");
        let result = match source::load(&self.serve) {
            Ok(corefile) => self.swap(&corefile, signals).await,
            Err(errors) => Err(ReloadError::Failed(all(&errors))),
        };
        match &result {
            Ok(()) => tracing::info!("Reloading complete"),
            Err(error) => tracing::error!("Restart failed: {error}"),
        }
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
        graph.bind(&mut self.ground()).map_err(|error| failed(&error))?;
        self.admin.set(endpoints(&graph)).map_err(|error| failed(&error))?;
        if let Err(error) = run_hooks(std::mem::take(&mut graph.at_start)) {
            // The old end points come back: they were open a moment ago.
            let _ = self.admin.set(endpoints(&self.graph));
            return Err(failed(&error));
        }
        self.crew.publish(Arc::clone(&graph.snapshot));
        let old = std::mem::replace(&mut self.graph, graph);
        self.retired.push(old);
        self.ready.set(&self.graph);
        self.status.set(corefile, &self.graph);
        self.adopt_sinks();
        self.graph.start_tasks();
        self.reload.arm(&self.graph);
        logging::set_debug(self.graph.facts.iter().any(|facts| facts.debug));
        Ok(())
    }

    /// What compiling and binding need, beside what serves.
    fn ground(&mut self) -> Ground<'_> {
        Ground {
            tally: &self.crew.tally,
            status: &self.status,
            readiness: &self.ready,
            turns: &self.crew.turns,
            workers: self.crew.workers,
            pinned: self.crew.pinned,
            old: Some(&self.graph),
            next_sink: &mut self.next_sink,
            next_listener: &mut self.next_listener,
        }
    }

    /// Waits for the tasks' end while everything else goes on; the word of a signal to stop ends it.
    async fn wait(&mut self, waits: JoinSet<()>, signals: &mut Signals) -> Result<(), Word> {
        let mut waits = std::pin::pin!(waits.join_all());
        loop {
            tokio::select! {
                _ = &mut waits => return Ok(()),
                word = signals.next() => match word {
                    Word::Reload => tracing::info!("SIGUSR1: Reloading already"),
                    word => return Err(word),
                },
                chore = self.chore() => self.work(chore),
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
            }
            Watch::Changed(corefile) => {
                tracing::info!("Reloading");
                match self.swap(&corefile, signals).await {
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
            let mut staying = endpoints(&self.graph);
            staying.retain(|endpoint| endpoint.name != "ready");
            drop(self.admin.set(staying));
            tokio::select! {
                () = tokio::time::sleep(time) => {}
                () = signals.second_interrupt() => return ExitCode::from(2),
            }
        }
        tokio::select! {
            () = self.crew.drain() => {}
            () = signals.second_interrupt() => return ExitCode::from(2),
        }
        self.drain_events();
        self.sinks.values_mut().for_each(|sink| sink.tick(true));
        status
    }
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

fn endpoints(graph: &Graph) -> Vec<admin::Endpoint> {
    graph.parts.iter().rev().flat_map(|part| part.endpoints.iter().cloned()).collect()
}

fn run_hooks(hooks: Vec<Hook>) -> Result<(), String> {
    hooks.into_iter().try_for_each(|hook| hook())
}

/// What a signal means.
enum Word {
    Quit,
    Reload,
    Terminate,
    Interrupt,
}

impl Word {
    /// CoreDNS's line about a signal to stop.
    fn tell(&self) {
        match self {
            Self::Quit => tracing::info!("SIGQUIT: Quitting process immediately"),
            Self::Terminate => tracing::info!("SIGTERM: Shutting down servers then terminating"),
            Self::Interrupt => tracing::info!("SIGINT: Shutting down"),
            Self::Reload => {}
        }
    }
}

/// The signals that are taken, from when this is made: before anything is started, so that none
/// that comes during the start does what the kernel would do by itself.
pub struct Signals {
    quit: Signal,
    reload: Signal,
    terminate: Signal,
    interrupt: Signal,
    _ignored: Signal,
}

impl Signals {
    /// Takes the signals; inside a runtime.
    ///
    /// # Errors
    /// The kernel refuses a handler or the descriptors that it needs.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            quit: signal(SignalKind::quit())?,
            reload: signal(SignalKind::user_defined1())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            // Taken, and never read: SIGHUP does nothing.
            _ignored: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Word {
        tokio::select! {
            _ = self.quit.recv() => Word::Quit,
            _ = self.reload.recv() => Word::Reload,
            _ = self.terminate.recv() => Word::Terminate,
            _ = self.interrupt.recv() => Word::Interrupt,
        }
    }

    /// Waits for a signal to stop, of whatever kind, and tells of it.
    async fn stop(&mut self) {
        loop {
            match self.next().await {
                Word::Reload => tracing::info!("SIGUSR1: not yet, the server is starting"),
                word => return word.tell(),
            }
        }
    }

    async fn second_interrupt(&mut self) {
        self.interrupt.recv().await;
        tracing::info!("SIGINT: Force quit");
    }
}

/// A worker's thread.
pub type Thread = JoinHandle<()>;
