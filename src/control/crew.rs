//! The workers, as control sees them: threads, mailboxes, turn numbers, rings of events.

use std::any::Any;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::queue::ArrayQueue;

use super::args::{IoEngine, Serve};
use super::compile::Planned;
use crate::cells::Flights;
use crate::data::chain::{Core, Event, Marking};
use crate::data::counters::Counters;
use crate::data::large::Large;
use crate::data::rng::Rng;
use crate::data::tally::{Family, Gauge, Tally};
use crate::data::transport::engine::Engine;
use crate::data::transport::sockets::Steering;
use crate::data::transport::stream::{StreamCounters, Streams};
use crate::data::turn::Turn;
use crate::data::upstream::table::Upstreams;
use crate::data::worker::{Seat, Worker};
use crate::limits::{DETACHED_MAX, DRAIN_SECONDS_MAX, EVENTS_MAX, SPENT_MAX};
use crate::mail::{Bell, Ending, Mail, Mailbox};
use crate::publish::{Published, Turns};
use crate::snapshot::Snapshot;
use crate::sys;

static IO_ENGINE: Family =
    Family::gauge("corelane_io_engine", &["engine"], "1 for the engine that carries datagrams.");

/// What workers leave to control: rings of events, one a worker, and what it shall drop.
pub struct Events {
    rings: Vec<Arc<ArrayQueue<Event>>>,
    spent: Arc<ArrayQueue<Arc<dyn Any + Send + Sync>>>,
    bell: Arc<Bell>,
}

impl Events {
    /// Waits until there is an event; what comes within a few milliseconds comes together.
    pub async fn wait(&self) {
        let is_any = || self.rings.iter().any(|ring| !ring.is_empty()) || !self.spent.is_empty();
        self.bell.wait_unless(is_any).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    /// Takes what is there in the order of time, as much as all rings hold at most.
    pub fn drain(&self, mut take: impl FnMut(&Event)) {
        while self.spent.pop().is_some() {}
        let mut heads: Vec<Option<Event>> = self.rings.iter().map(|ring| ring.pop()).collect();
        let mut left = EVENTS_MAX * self.rings.len();
        let earliest = |heads: &[Option<Event>]| {
            let times = heads.iter().enumerate();
            let times = times.filter_map(|(at, event)| Some((event.as_ref()?.at, at)));
            times.min().map(|(_, at)| at)
        };
        while let Some(at) = earliest(&heads) {
            let event = heads[at].take();
            if left > 0 {
                left -= 1;
                heads[at] = self.rings[at].pop();
            }
            event.iter().for_each(&mut take);
        }
    }
}

/// The workers.
pub struct Crew {
    /// How many there are.
    pub workers: usize,
    /// What carries their datagrams.
    pub engine: Engine,
    /// Whether they measure how long datagrams wait in the kernel.
    pub stamps: bool,
    /// Whether each stays on a CPU: for `steering cpu` of `multisocket`.
    pub pinned: bool,
    /// Counters of all.
    pub tally: Arc<Tally>,
    /// Turn numbers of all.
    pub turns: Arc<Turns>,
    /// What they tell.
    pub events: Events,
    mailboxes: Vec<Arc<Mailbox>>,
    published: Option<Arc<Published<Snapshot>>>,
    threads: Vec<JoinHandle<()>>,
    /// Kept, so that they are shown.
    gauges: Vec<Gauge>,
}

impl Crew {
    /// Sizes the crew: as many as the CPU quota and the affinity mask allow, fewer if the first
    /// block with `multisocket` says so.
    ///
    /// # Errors
    /// The kernel has no descriptors left.
    pub fn new(planned: &[Planned], serve: &Serve) -> Result<Self, String> {
        let most = sys::worker_count();
        let wanted = planned.iter().find_map(|plan| plan.facts().multisocket);
        let workers = wanted.map_or(most, |wanted| wanted.clamp(1, most));
        let by_cpu = |plan: &Planned| plan.facts().steering == Some(Steering::Cpu);
        let pinned = planned.iter().any(by_cpu);
        let crew = Self::of(workers, pinned, engine(serve.io_engine))?;
        Ok(Self { stamps: serve.receive_stamps, ..crew })
    }

    /// A crew of so many.
    ///
    /// # Errors
    /// The kernel has no descriptors left.
    pub fn of(workers: usize, pinned: bool, engine: Engine) -> Result<Self, String> {
        let mailboxes: Result<Vec<_>, _> =
            (0..workers).map(|_| Mailbox::new().map(Arc::new)).collect();
        let mailboxes = mailboxes.map_err(|error| format!("eventfd: {error}"))?;
        let turns = Turns::new(workers);
        turns.wake_by(mailboxes.clone());
        let rings = (0..workers).map(|_| Arc::new(ArrayQueue::new(EVENTS_MAX))).collect();
        let tally = Tally::new(workers + 1);
        let in_use = tally.gauge(&IO_ENGINE, &[engine.as_str()]);
        in_use.set(1.0);
        Ok(Self {
            workers,
            engine,
            stamps: false,
            pinned,
            tally,
            turns,
            events: Events {
                rings,
                spent: Arc::new(ArrayQueue::new(SPENT_MAX)),
                bell: Arc::default(),
            },
            mailboxes,
            published: None,
            threads: Vec::new(),
            gauges: vec![in_use],
        })
    }

    /// Starts the workers on their first snapshot.
    ///
    /// # Errors
    /// A thread could not be started.
    pub fn spawn(&mut self, snapshot: Arc<Snapshot>) -> Result<(), String> {
        let published = Arc::new(Published::from_arc(snapshot));
        let flights = Arc::new(Flights::new(self.mailboxes.clone()));
        let counters = Counters::new(&self.tally);
        let (streams, connections) = StreamCounters::register(&self.tally);
        self.gauges.push(connections);
        let cpus = sys::affinity();
        for index in 0..self.workers {
            let seat = Seat {
                index: index as u16,
                engine: self.engine,
                stamps: self.stamps,
                mailbox: Arc::clone(&self.mailboxes[index]),
                turns: Arc::clone(&self.turns),
                published: Arc::clone(&published),
                bell: Arc::clone(&self.events.bell),
            };
            let events = Arc::clone(&self.events.rings[index]);
            let spent = Arc::clone(&self.events.spent);
            let flights = Arc::clone(&flights);
            let tally = Arc::clone(&self.tally);
            let core = move || Core {
                index: index as u16,
                tally: Rc::new(tally.core(index)),
                rng: Rng::from_entropy(),
                now: 0,
                events,
                events_dropped: counters.events_dropped,
                flights,
                large: Large::new(),
                upstreams: Upstreams::new(),
                detached: Vec::with_capacity(DETACHED_MAX),
                spent,
                marking: Marking::new(),
            };
            let cpu = cpus.get(index).copied().filter(|_| self.pinned);
            let thread = std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || work(seat, cpu, core(), counters, streams))
                .map_err(|error| format!("worker thread: {error}"))?;
            self.threads.push(thread);
        }
        self.published = Some(published);
        Ok(())
    }

    /// Publishes a snapshot and wakes everybody.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        if let Some(published) = &self.published {
            published.set_arc(&self.turns, snapshot);
        }
        self.send_all(|| Mail::Published);
    }

    /// The mailbox of the first worker: for questions whose way is to be told.
    pub fn first_mailbox(&self) -> Arc<Mailbox> {
        Arc::clone(&self.mailboxes[0])
    }

    fn send_all(&self, mail: impl Fn() -> Mail) {
        for mailbox in &self.mailboxes {
            mailbox.send(mail());
        }
    }

    /// Waits until every worker serves this generation.
    ///
    /// # Errors
    /// They do not, after a time that only a worker without descriptors takes.
    pub async fn serving(&self, generation: u64) -> Result<(), String> {
        let latest = tokio::time::Instant::now() + Duration::from_secs(DRAIN_SECONDS_MAX);
        while !self.turns.is_released(generation) {
            if tokio::time::Instant::now() > latest {
                return Err("a worker does not start".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Has the workers serve what has arrived, and waits for their end, which is bounded.
    pub async fn drain(&mut self, ending: Ending) {
        self.send_all(|| Mail::Drain(ending));
        let latest = tokio::time::Instant::now() + Duration::from_secs(DRAIN_SECONDS_MAX);
        while self.threads.iter().any(|thread| !thread.is_finished()) {
            if tokio::time::Instant::now() > latest {
                tracing::warn!("queries were still waiting after {DRAIN_SECONDS_MAX} s");
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The engine that was asked for, or the one that always works.
fn engine(wanted: IoEngine) -> Engine {
    match wanted {
        IoEngine::Gso => Engine::Gso,
        IoEngine::Mmsg => Engine::Mmsg,
        IoEngine::Uring => Engine::uring().unwrap_or_else(|error| {
            tracing::warn!("io_uring cannot be used ({error}): using the gso engine instead");
            Engine::Gso
        }),
    }
}

/// A worker's thread, from its runtime to its end.
fn work(seat: Seat, cpu: Option<usize>, core: Core, counters: Counters, streams: StreamCounters) {
    let (index, engine, snapshot) = (seat.index, seat.engine, seat.published.get());
    if let Some(Err(error)) = cpu.map(sys::pin) {
        tracing::warn!("worker {index} does not stay on its CPU: {error}");
    }
    let ended = engine.block_on(async {
        let streams = Streams::new(Rc::clone(&core.tally), streams);
        let turn = Turn::new(core, counters, snapshot);
        Worker::new(seat, turn, streams)?.run().await;
        io::Result::Ok(())
    });
    if let Err(error) = ended.and_then(|ended| ended) {
        tracing::error!("worker {index} cannot serve: {error}");
    }
}
