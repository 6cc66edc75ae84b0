//! The workers, as control sees them: threads, mailboxes, turn numbers, rings of events.

use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::queue::ArrayQueue;

use super::args::Serve;
use super::compile::Planned;
use crate::cells::Flights;
use crate::data::chain::{Core, Event};
use crate::data::counters::Counters;
use crate::data::large::Large;
use crate::data::rng::Rng;
use crate::data::tally::{Gauge, Tally};
use crate::data::transport::sockets::Steering;
use crate::data::transport::stream::{StreamCounters, Streams};
use crate::data::turn::Turn;
use crate::data::worker::{Seat, Worker};
use crate::limits::{DETACHED_MAX, DRAIN_SECONDS_MAX, EVENTS_MAX};
use crate::mail::{Bell, Mail, Mailbox};
use crate::publish::{Published, Turns};
use crate::snapshot::Snapshot;
use crate::sys;

/// The rings of events, one a worker.
pub struct Events {
    rings: Vec<Arc<ArrayQueue<Event>>>,
    bell: Arc<Bell>,
}

impl Events {
    /// Waits until there is an event; what comes within a few milliseconds comes together.
    pub async fn wait(&self) {
        self.bell.wait_unless(|| self.rings.iter().any(|ring| !ring.is_empty())).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    /// Takes what is there, one ring's worth of each at most.
    pub fn drain(&self, mut take: impl FnMut(&Event)) {
        for ring in &self.rings {
            for _ in 0..EVENTS_MAX {
                match ring.pop() {
                    Some(event) => take(&event),
                    None => break,
                }
            }
        }
    }
}

/// The workers.
pub struct Crew {
    /// How many there are.
    pub workers: usize,
    /// How datagrams are steered to them.
    pub steering: Steering,
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
    pub fn new(planned: &[Planned], _serve: &Serve) -> Result<Self, String> {
        let most = sys::worker_count();
        let wanted = planned.iter().find_map(|plan| plan.facts().multisocket);
        let workers = wanted.map_or(most, |wanted| wanted.clamp(1, most));
        let mailboxes: Result<Vec<_>, _> =
            (0..workers).map(|_| Mailbox::new().map(Arc::new)).collect();
        let mailboxes = mailboxes.map_err(|error| format!("eventfd: {error}"))?;
        let rings = (0..workers).map(|_| Arc::new(ArrayQueue::new(EVENTS_MAX))).collect();
        Ok(Self {
            workers,
            steering: Steering::default(),
            tally: Tally::new(workers + 1),
            turns: Turns::new(workers),
            events: Events { rings, bell: Arc::default() },
            mailboxes,
            published: None,
            threads: Vec::new(),
            gauges: Vec::new(),
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
        for index in 0..self.workers {
            let seat = Seat {
                index: index as u16,
                mailbox: Arc::clone(&self.mailboxes[index]),
                turns: Arc::clone(&self.turns),
                published: Arc::clone(&published),
                bell: Arc::clone(&self.events.bell),
            };
            let events = Arc::clone(&self.events.rings[index]);
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
                detached: Vec::with_capacity(DETACHED_MAX),
            };
            let streams = streams.clone();
            let thread = std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || work(seat, core(), counters, streams))
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

    fn send_all(&self, mail: impl Fn() -> Mail) {
        for mailbox in &self.mailboxes {
            mailbox.send(mail());
        }
    }

    /// Has the workers serve what has arrived, and waits for their end, which is bounded.
    pub async fn drain(&mut self) {
        self.send_all(|| Mail::Drain);
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

/// A worker's thread, from its runtime to its end.
fn work(seat: Seat, core: Core, counters: Counters, streams: StreamCounters) {
    let snapshot = seat.published.get();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("worker {}: no runtime: {error}", seat.index);
            return;
        }
    };
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let streams = Streams::new(Rc::clone(&core.tally), streams);
        let turn = Turn::new(core, counters, snapshot);
        match Worker::new(seat, turn, streams) {
            Ok(worker) => worker.run().await,
            Err(error) => tracing::error!("worker: cannot read from its sockets: {error}"),
        }
    });
}
