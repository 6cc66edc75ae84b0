//! A worker: one thread, one runtime, its own sockets (the way of a query, from socket to socket).
//!
//! [`Worker::run`] is the turn: mail and timers; at most `TURN_BATCHES_MAX` batches of datagrams,
//! sockets in rotation; what streams have framed; late replies; then it publishes the turn's number
//! and yields to the runtime, or sleeps until a socket, mail, a stream or a timer wakes it. While it is
//! far ahead of its upstreams (`upstream/pace.rs`) it takes no datagrams of clients. Nothing spins, and
//! a worker without work makes no system call.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, Sleep};

use super::chain::cx::{Client, Transport};
use super::clock::{self, Nanos};
use super::demand::{Demand, Pending};
use super::transport::Lane;
use super::transport::engine::{Datagrams, Engine};
use super::transport::mmsg::Batch;
use super::transport::readiness::watch_mailbox;
use super::transport::stream::{StreamQuery, Streams};
use super::turn::{Outlet, Turn};
use super::upstream::inbox::Arrival;
use super::upstream::network::Network;
use super::upstream::wires::{Received, Wires};
use crate::limits::{
    BATCH_DATAGRAMS, DRAIN_LOOK_NANOS, LANE_BYTES, LAST_BATCHES_MAX, TURN_BATCHES_MAX,
    TURN_STREAM_QUERIES_MAX, TURN_TIMERS_MAX, TURN_UPSTREAM_MESSAGES_MAX, UPSTREAM_NAP_NANOS,
};
use crate::mail::{Bell, Ending, Mail, Mailbox};
use crate::publish::{Published, Turns};
use crate::snapshot::Snapshot;

/// What a worker is given at its start.
pub struct Seat {
    /// Its index.
    pub index: u16,
    /// What carries its datagrams.
    pub engine: Engine,
    /// Whether the kernel's time stamps are looked at.
    pub stamps: bool,
    /// Its mailbox.
    pub mailbox: Arc<Mailbox>,
    /// Everybody's turn numbers.
    pub turns: Arc<Turns>,
    /// Rung when something was told to control.
    pub bell: Arc<Bell>,
    /// The snapshot, as control publishes it.
    pub published: Arc<Published<Snapshot>>,
}

/// One of the worker's UDP sockets.
struct Port {
    listener: u32,
    datagrams: Datagrams,
    /// Somebody else has the socket too, and keeps it when the process ends.
    kept: bool,
    /// Replies that are not of the batch at hand; `late_len` of them.
    late: Vec<Lane>,
    late_len: usize,
    /// Replies of this turn that the kernel refused to send.
    unsent: usize,
}

/// The worker's sockets and what goes out by them.
struct Ports {
    ports: Vec<Port>,
    batch: Batch,
    streams: Rc<Streams>,
    wires: Wires,
    /// The reply to a question that was demanded.
    demanded: Option<Box<[u8]>>,
}

impl Outlet for Ports {
    fn deliver(&mut self, client: &Client, message: &[u8], more: bool) -> bool {
        if client.is_demanded() {
            self.demanded = Some(message.into());
            // Of many replies the first will do.
            return !more;
        }
        match client.transport {
            Transport::Udp => self.deliver_late(client, message),
            Transport::Tcp | Transport::Tls => match more {
                true => self.streams.partial(client.connection, message),
                false => self.streams.deliver(client.connection, message),
            },
        }
    }

    fn pass(&mut self, client: &Client) {
        if client.transport.is_stream() && !client.is_demanded() {
            self.streams.pass(client.connection);
        }
    }

    fn network(&mut self) -> Option<&mut dyn Network> {
        Some(&mut self.wires)
    }
}

impl Ports {
    /// Sends a datagram with the next flush; `false`: its socket is closed.
    fn deliver_late(&mut self, client: &Client, message: &[u8]) -> bool {
        let Some(port) = self.ports.iter_mut().find(|port| port.listener == client.listener) else {
            return false;
        };
        if port.late_len == BATCH_DATAGRAMS {
            port.flush(&mut self.batch);
        }
        if port.late.len() == port.late_len {
            port.late.push(Lane::new());
        }
        let lane = &mut port.late[port.late_len];
        if message.len() > lane.output.len() {
            lane.output = vec![0; message.len()].into_boxed_slice();
        }
        lane.client = *client;
        lane.output[..message.len()].copy_from_slice(message);
        lane.output_len = message.len();
        port.late_len += 1;
        true
    }

    fn flush(&mut self) {
        for port in self.ports.iter_mut().filter(|port| port.late_len != 0) {
            port.flush(&mut self.batch);
        }
    }
}

impl Port {
    fn flush(&mut self, batch: &mut Batch) {
        let sent = self.datagrams.send(batch, &self.late[..self.late_len]);
        for lane in &mut self.late[..self.late_len] {
            lane.output_len = 0;
            if lane.output.len() > LANE_BYTES {
                lane.output = vec![0; LANE_BYTES].into_boxed_slice();
            }
        }
        self.late_len = 0;
        self.unsent += sent.refused;
    }
}

/// A worker between its turns.
pub struct Worker {
    seat: Seat,
    turn: Turn,
    ports: Ports,
    lanes: Vec<Lane>,
    /// Lanes for what streams have framed.
    stream_lane: Lane,
    next_port: usize,
    /// Set when it is to end.
    draining: Option<Ending>,
    /// The question whose way is to be told.
    pending: Option<Pending>,
    /// The epoch of the last refresh.
    refreshed: u64,
    sleep: Pin<Box<Sleep>>,
    bell: AsyncFd<Arc<Mailbox>>,
}

impl Worker {
    /// A worker that has adopted what is published; must be called on its own runtime.
    ///
    /// # Errors
    /// A socket cannot be registered with the runtime.
    pub fn new(seat: Seat, turn: Turn, streams: Rc<Streams>) -> io::Result<Self> {
        let bell = watch_mailbox(Arc::clone(&seat.mailbox))?;
        let wires = Wires::new(seat.engine == Engine::Gso);
        let ports = Ports {
            ports: Vec::new(),
            batch: if seat.stamps { Batch::new().stamped() } else { Batch::new() },
            streams,
            wires,
            demanded: None,
        };
        let mut worker = Self {
            seat,
            turn,
            ports,
            lanes: (0..BATCH_DATAGRAMS).map(|_| Lane::new()).collect(),
            stream_lane: Lane::new(),
            next_port: 0,
            draining: None,
            pending: None,
            refreshed: 0,
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
            bell,
        };
        worker.open_ports()?;
        Ok(worker)
    }

    /// Turns until it is told to drain and nothing is left.
    pub async fn run(mut self) {
        let mut emptied = false;
        loop {
            let more = self.turn();
            if self.draining.is_some() && !more && self.is_idle() {
                if emptied || self.draining == Some(Ending::HandedOn) {
                    return;
                }
                // Once more, for what came after the reactor last looked; not until it is quiet,
                // which on a busy node it never is.
                emptied = true;
                self.stop_receiving(|port| port.kept);
                self.pause().await;
                self.last_datagrams(|_| true);
            } else if more {
                self.pause().await;
            } else if self.turn.pace.is_held() {
                nap();
                self.pause().await;
            } else {
                self.wait().await;
            }
        }
    }

    fn is_idle(&self) -> bool {
        let quiet = |port: &Port| port.datagrams.is_quiet();
        self.turn.parked() == 0
            && self.ports.streams.is_idle()
            && self.ports.ports.iter().all(quiet)
    }

    /// One turn; `true` if there may be more to do at once.
    fn turn(&mut self) -> bool {
        let index = self.seat.index;
        self.seat.turns.begin(index);
        let epoch = self.seat.turns.epoch();
        if epoch != self.refreshed {
            self.turn.refresh();
            self.refreshed = epoch;
        }
        self.turn.core.now = clock::now();
        self.read_mail();
        self.turn.wake_due(TURN_TIMERS_MAX, &mut self.ports);
        // What has begun is finished before more is admitted.
        let mut more = self.upstream_datagrams();
        more |= self.upstream_messages();
        match self.turn.pace.holds(self.turn.core.now) {
            true => self.turn.core.tally.add(self.turn.counters.held, 1),
            false => more |= self.datagrams(),
        }
        more |= self.stream_queries();
        more |= self.turn.flush_upstreams(&mut self.ports);
        if self.pending.is_some() {
            self.tell_demanded();
        }
        self.ports.flush();
        self.ports.streams.flush();
        for port in self.ports.ports.iter_mut().filter(|port| port.unsent != 0) {
            let unsent = std::mem::take(&mut port.unsent);
            self.turn.count_unsent(port.listener, unsent as u64);
        }
        let held = (self.turn.retire(), self.turn.oldest());
        let core = &self.turn.core;
        if !core.events.is_empty() || !core.spent.is_empty() {
            self.seat.bell.ring();
        }
        self.seat.turns.end(index, held, self.refreshed);
        more
    }

    fn read_mail(&mut self) {
        while let Some(mail) = self.seat.mailbox.take() {
            match mail {
                Mail::Landed { waiter, message } => {
                    self.turn.landed(waiter, message, &mut self.ports);
                }
                // Done before the mail was read.
                Mail::Refresh => {}
                Mail::Published => self.adopt(),
                Mail::Demand(demand) => self.walk_demanded(*demand),
                Mail::Drain(ending) => {
                    self.draining = Some(ending);
                    self.ports.streams.drain(ending);
                    self.stop_receiving(|_| ending == Ending::HandedOn);
                }
            }
        }
    }

    fn stop_receiving(&mut self, of: impl Fn(&Port) -> bool) {
        self.ports.ports.iter_mut().filter(|port| of(port)).for_each(|port| port.datagrams.stop());
    }

    fn adopt(&mut self) {
        let snapshot = self.seat.published.get();
        if snapshot.generation == self.turn.current().snapshot.generation {
            return;
        }
        self.last_datagrams(|listener| snapshot.listener(listener).is_none());
        self.turn.adopt(snapshot);
        if let Err(error) = self.open_ports() {
            tracing::error!("worker {}: cannot read from a socket: {error}", self.seat.index);
        }
    }

    /// Answers what listeners that go have received, so that no query is lost with their sockets.
    fn last_datagrams(&mut self, goes: impl Fn(u32) -> bool) {
        for index in 0..self.ports.ports.len() {
            if goes(self.ports.ports[index].listener) {
                for _ in 0..LAST_BATCHES_MAX {
                    if self.receive(index, Datagrams::receive_last) == 0 {
                        break;
                    }
                }
            }
        }
    }

    /// Opens and closes sockets, as the current snapshot has them.
    fn open_ports(&mut self) -> io::Result<()> {
        let snapshot = Arc::clone(&self.turn.current().snapshot);
        let Ports { ports, streams, .. } = &mut self.ports;
        ports.retain(|port| snapshot.listener(port.listener).is_some());
        streams.retain(|listener| snapshot.listener(listener).is_some());
        let worker = self.seat.index as usize;
        for listener in &snapshot.listeners {
            if !ports.iter().any(|port| port.listener == listener.id) {
                for udp in listener.sockets.udp_of(worker) {
                    let local = listener.sockets.local;
                    ports.push(Port {
                        listener: listener.id,
                        datagrams: Datagrams::open(self.seat.engine, udp.try_clone()?, local)?,
                        kept: listener.sockets.kept.udp,
                        late: Vec::new(),
                        late_len: 0,
                        unsent: 0,
                    });
                }
            }
            if streams.listens(listener.id) {
                streams.reconfigure(listener.id, &listener.service, listener.timeouts);
                continue;
            }
            let ending = if listener.sockets.kept.tcp { Ending::HandedOn } else { Ending::Closed };
            let (service, timeouts) = (&listener.service, listener.timeouts);
            for tcp in listener.sockets.tcp_of(worker) {
                streams.open(listener.id, tcp.try_clone()?, service, timeouts, ending)?;
            }
        }
        Ok(())
    }

    /// At most `TURN_BATCHES_MAX` batches, sockets in rotation.
    fn datagrams(&mut self) -> bool {
        for _ in 0..TURN_BATCHES_MAX {
            if self.turn.pace.is_full() {
                return true;
            }
            let count = self.ports.ports.len();
            let next = (0..count)
                .map(|step| (self.next_port + step) % count)
                .find(|index| self.ports.ports[*index].datagrams.is_ready());
            let Some(index) = next else { return false };
            self.next_port = index + 1;
            self.receive(index, Datagrams::receive);
        }
        self.ports.ports.iter().any(|port| port.datagrams.is_ready())
    }

    /// One batch from one socket; gives how many datagrams came.
    fn receive(
        &mut self,
        index: usize,
        receive: impl FnOnce(&mut Datagrams, &mut Batch, &mut [Lane]) -> usize,
    ) -> usize {
        let Ports { ports, batch, .. } = &mut self.ports;
        let port = &mut ports[index];
        let count = receive(&mut port.datagrams, batch, &mut self.lanes);
        for waited in batch.waits() {
            self.turn.core.tally.observe(self.turn.counters.receive_wait, *waited);
        }
        if count == 0 {
            return 0;
        }
        let listener = port.listener;
        for lane in &mut self.lanes[..count] {
            lane.client.listener = listener;
        }
        self.turn.core.tally.add(self.turn.counters.batches, 1);
        self.turn.core.now = clock::now();
        self.turn.batch(&mut self.lanes[..count], &mut self.ports);
        let Ports { ports, batch, .. } = &mut self.ports;
        let sent = ports[index].datagrams.send(batch, &self.lanes[..count]);
        ports[index].unsent += sent.refused;
        self.turn.count_walks(&self.lanes[..count], clock::now());
        for lane in &mut self.lanes[..count] {
            self.turn.core.large.reclaim(&mut lane.output);
        }
        count
    }

    /// At most `TURN_BATCHES_MAX` batches of upstreams' replies.
    fn upstream_datagrams(&mut self) -> bool {
        for _ in 0..TURN_BATCHES_MAX {
            match self.ports.wires.receive(&mut self.lanes) {
                Some(Received::Datagrams(channel, count)) => {
                    self.turn.core.now = clock::now();
                    for lane in &mut self.lanes[..count] {
                        let (message, len) = (&mut lane.input, lane.input_len);
                        self.turn.arrived(channel, message, len, &mut self.ports);
                    }
                }
                Some(Received::Lost(channel, cause)) => {
                    self.turn.lost(channel, cause, &mut self.ports);
                }
                None => return false,
            }
        }
        self.ports.wires.is_ready()
    }

    /// What has come from upstreams by streams.
    fn upstream_messages(&mut self) -> bool {
        for _ in 0..TURN_UPSTREAM_MESSAGES_MAX {
            match self.ports.wires.take() {
                Some(Arrival::Message(channel, mut message, len)) => {
                    self.turn.arrived(channel, &mut message, len, &mut self.ports);
                    self.ports.wires.recycle(message);
                }
                Some(Arrival::Failed(channel, id, cause)) => {
                    self.turn.failed(channel, id, cause, &mut self.ports);
                }
                Some(Arrival::Serial(channel)) => {
                    self.turn.core.upstreams.carries_one(channel);
                }
                Some(Arrival::Lost(channel, cause)) => {
                    self.turn.lost(channel, cause, &mut self.ports);
                }
                None => return false,
            }
        }
        true
    }

    /// Walks what streams have framed.
    fn stream_queries(&mut self) -> bool {
        for _ in 0..TURN_STREAM_QUERIES_MAX {
            let Some(query) = self.ports.streams.take() else {
                self.writable();
                return false;
            };
            self.serve_stream(query);
        }
        self.writable();
        true
    }

    fn serve_stream(&mut self, query: StreamQuery) {
        let lane = &mut self.stream_lane;
        let own = std::mem::replace(&mut lane.input, query.message);
        lane.input_len = query.len;
        lane.client = query.client;
        let lanes = std::slice::from_mut(&mut self.stream_lane);
        self.turn.batch(lanes, &mut self.ports);
        let lane = &mut self.stream_lane;
        self.ports.streams.recycle(std::mem::replace(&mut lane.input, own));
        if lane.output_len != 0 {
            let (connection, len) = (lane.client.connection, lane.output_len);
            self.ports.streams.deliver(connection, &lane.output[..len]);
            let lanes = std::slice::from_ref(&self.stream_lane);
            self.turn.count_walks(lanes, self.turn.core.now);
            self.turn.core.large.reclaim(&mut self.stream_lane.output);
        }
    }

    /// Walks a question whose way is to be told, as one that a stream has framed.
    fn walk_demanded(&mut self, demand: Demand) {
        if self.pending.is_some() {
            return demand.refuse();
        }
        let snapshot = &self.turn.current().snapshot;
        let taken = Pending::new(demand, snapshot, self.turn.core.now);
        let Some((pending, client, message)) = taken else { return };
        let mut lane = Lane::new();
        lane.client = client;
        lane.input_len = message.len().min(lane.input.len());
        lane.input[..lane.input_len].copy_from_slice(&message[..lane.input_len]);
        self.ports.demanded = None;
        self.turn.core.marking.demand();
        self.turn.batch(std::slice::from_mut(&mut lane), &mut self.ports);
        let was_refused = self.turn.core.marking.undemand();
        if lane.output_len != 0 {
            self.ports.demanded = Some(lane.output[..lane.output_len].into());
            self.turn.core.large.reclaim(&mut lane.output);
        }
        match was_refused {
            true => pending.tell(None, self.ports.demanded.take(), &self.turn.core),
            false => self.pending = Some(pending),
        }
    }

    /// Tells of the question whose way was demanded, if that has come to its end.
    fn tell_demanded(&mut self) {
        let marks = self.turn.core.marking.take_demanded();
        let now = self.turn.core.now;
        let is_over = |pending: &mut Pending| {
            marks.is_some() || self.ports.demanded.is_some() || pending.is_late(now)
        };
        let Some(pending) = self.pending.take_if(is_over) else { return };
        pending.tell(marks.as_deref(), self.ports.demanded.take(), &self.turn.core);
        if let Some(marks) = marks {
            self.turn.core.marking.done_with(marks);
        }
    }

    fn writable(&mut self) {
        while let Some(connection) = self.ports.streams.take_writable() {
            self.turn.writable(connection, &mut self.ports);
        }
    }

    /// Lets streams and the reactor have their share, and sees which sockets are ready then.
    async fn pause(&mut self) {
        self.seat.engine.pause().await;
        poll_fn(|cx| {
            for port in &mut self.ports.ports {
                port.datagrams.poll_ready(cx);
            }
            self.ports.wires.poll_ready(cx, |channel| self.turn.core.upstreams.is_busy(channel));
            Poll::Ready(())
        })
        .await;
    }

    /// Sleeps until there is something to do.
    async fn wait(&mut self) {
        let now: Nanos = clock::now();
        // Connections end by themselves: whoever drains looks again soon.
        let soon = self.draining.map(|_| now + DRAIN_LOOK_NANOS);
        let sweep = self.turn.core.upstreams.next_sweep();
        let due = self.turn.next_deadline().into_iter().chain(soon).chain(sweep).min();
        if let Some(due) = due {
            let left = Duration::from_nanos(due.saturating_sub(now));
            self.sleep.as_mut().reset(Instant::now() + left);
        }
        poll_fn(|cx| {
            let mut awake = false;
            for port in &mut self.ports.ports {
                awake |= port.datagrams.poll_ready(cx);
            }
            awake |= self.ports.streams.poll_ready(cx).is_ready();
            let busy = |channel| self.turn.core.upstreams.is_busy(channel);
            awake |= self.ports.wires.poll_ready(cx, busy);
            awake |= due.is_some() && self.sleep.as_mut().poll(cx).is_ready();
            while let Poll::Ready(Ok(mut guard)) = self.bell.poll_read_ready(cx) {
                self.seat.mailbox.clear();
                guard.clear_ready();
                awake = true;
            }
            if awake || !self.seat.mailbox.sleep() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// Leaves the CPU to others for a moment: not in the reactor, which each datagram would wake.
#[allow(clippy::disallowed_methods, reason = "so short that nobody's answer is late")]
fn nap() {
    std::thread::sleep(Duration::from_nanos(UPSTREAM_NAP_NANOS));
}
