//! DNS over TCP, plain (RFC 7766) or in TLS (RFC 7858), on one worker (the way of a query, parts 1 and
//! 6 of 6).
//!
//! Tasks on the worker's runtime accept, read and frame; queries go into one inbox, which only the
//! worker's turn empties. The turn hands replies back in any order (RFC 7766 section 6.2.1.1), and
//! [`Streams::flush`] writes all that it made for a connection at once.
//!
//! Guarantees: every query that was taken is answered unless the turn passes it or the client is
//! gone; what a client does not take, or a peer sends faster than we answer, stops our reading
//! instead of growing a buffer; connections are bounded per listener and per client address. A
//! connection is closed when it is idle, when its message does not get whole, and when it does
//! not take its replies (RFC 7766 section 6.2.3). A length of zero is passed over.
//!
//! Cost: a wake-up, a read and a write for a burst of queries, whatever their number; no timer for
//! a message (a sweep four times a second while there are connections); no allocation in the
//! steady state but what TLS takes for a record. An idle connection holds no buffer of ours.
//! Handshakes take turns, [`TURN_HANDSHAKES_MAX`](crate::limits::TURN_HANDSHAKES_MAX) in each, so that
//! who only asks does not wait for many who connect.
//!
//! Must run inside a `LocalSet` (or `tokio_uring::start`) of a runtime with I/O and time.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use foldhash::{HashMap, HashMapExt};
use rustls::ServerConfig;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};

use super::carrier::Carrier;
use super::connection::Connection;
use super::inbox::Shared;
use crate::data::chain::cx::Client;
use crate::data::tally::{CoreTally, Counter, Family, Gauge, Tally};
use crate::limits::{
    STREAM_ACCEPT_PAUSE_NANOS, STREAM_CONNECTIONS_MAX, STREAM_CONNECTIONS_PER_ADDRESS_MAX,
    STREAM_SWEEP_NANOS,
};
use crate::mail::Ending;
use crate::snapshot::{Service, Timeouts};

/// A query that came on a stream.
#[derive(Debug)]
pub struct StreamQuery {
    /// Who asked, and on which connection.
    pub client: Client,
    /// The message is its first `len` octets; at least [`LANE_BYTES`](crate::limits::LANE_BYTES).
    pub message: Box<[u8]>,
    /// Octets of the message, 1 to 65,535.
    pub len: usize,
}

static OPENED: Family = Family::counter(
    "corelane_tcp_connections_opened_total",
    &[],
    "TCP connections accepted and kept.",
);
static CLOSED: Family = Family::counter(
    "corelane_tcp_connections_closed_total",
    &[],
    "TCP connections that were kept and have ended.",
);
static CONNECTIONS: Family =
    Family::gauge("corelane_tcp_connections", &[], "TCP connections open now.");
static REFUSED: Family = Family::counter(
    "corelane_tcp_refused_total",
    &["reason"],
    "TCP connections closed, or not accepted, for want of what the reason names.",
);

static HANDSHAKES: Family = Family::counter(
    "corelane_tls_handshakes_total",
    &["result"],
    "TLS handshakes that clients have begun: in full, resumed, or failed.",
);

/// What a worker's streams count.
#[derive(Clone, Copy)]
pub struct StreamCounters {
    pub(super) opened: Counter,
    pub(super) closed: Counter,
    pub(super) too_many: Counter,
    pub(super) address: Counter,
    pub(super) descriptors: Counter,
    pub(super) no_memory: Counter,
    pub(super) full: Counter,
    pub(super) resumed: Counter,
    pub(super) failed: Counter,
}

impl StreamCounters {
    /// Registers the families; the gauge is shown as long as it is kept.
    pub fn register(tally: &Arc<Tally>) -> (Self, Gauge) {
        let refused = |reason| tally.counter(&REFUSED, &[reason]);
        let shaken = |result| tally.counter(&HANDSHAKES, &[result]);
        let counters = Self {
            opened: tally.counter(&OPENED, &[]),
            closed: tally.counter(&CLOSED, &[]),
            too_many: refused("connections"),
            address: refused("address"),
            descriptors: refused("descriptors"),
            no_memory: refused("memory"),
            full: shaken("full"),
            resumed: shaken("resumed"),
            failed: shaken("failed"),
        };
        let (opened, closed, weak) = (counters.opened, counters.closed, Arc::downgrade(tally));
        let open = move || {
            // Closed first: one that opens and ends between the two readings is counted as open,
            // and the difference is never negative.
            let tally = weak.upgrade()?;
            let closed = tally.value(closed);
            Some(tally.value(opened).saturating_sub(closed) as f64)
        };
        let gauge = tally.gauge_fn(&CONNECTIONS, &[], Box::new(move || open().unwrap_or_default()));
        (counters, gauge)
    }
}

/// A listener of this worker, shared with its connections.
pub(super) struct Listener {
    id: u32,
    /// What connections are accepted with, where TLS is spoken.
    tls: RefCell<Option<Arc<ServerConfig>>>,
    timeouts: Cell<Timeouts>,
    connections: Cell<usize>,
    /// What becomes of its socket, if nobody says otherwise.
    ending: Ending,
    closed: Cell<Option<Ending>>,
    /// Of the task that accepts.
    waker: RefCell<Option<Waker>>,
}

impl Listener {
    pub fn timeouts(&self) -> Timeouts {
        self.timeouts.get()
    }

    pub fn is_closed(&self) -> bool {
        self.closed.get().is_some()
    }

    /// Whether another process accepts in our place. Clients then have no sign of our end but that of
    /// their connection: those are let alone until they are quiet for a while.
    pub fn is_handed_on(&self) -> bool {
        self.closed.get() == Some(Ending::HandedOn)
    }

    fn close(&self, ending: Ending) {
        let is_handed_on = [ending, self.ending].contains(&Ending::HandedOn);
        self.closed.set(Some(if is_handed_on { Ending::HandedOn } else { Ending::Closed }));
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// The next connection; `None` when the listener is closed and nobody waits to be accepted, or
    /// who waits is left to another process.
    fn poll_accept(
        &self,
        socket: &TcpListener,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<(TcpStream, SocketAddr)>>> {
        if self.is_handed_on() {
            return Poll::Ready(None);
        }
        match socket.poll_accept(cx) {
            Poll::Ready(accepted) => Poll::Ready(Some(accepted)),
            Poll::Pending if self.is_closed() => Poll::Ready(None),
            Poll::Pending => {
                *self.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// A place in the table of connections.
#[derive(Default)]
struct Place {
    /// Counts up when the place is left: old replies do not match.
    use_count: u32,
    connection: Option<Rc<Connection>>,
}

/// The TCP listeners and connections of one worker.
pub struct Streams {
    shared: Shared,
    listeners: RefCell<Vec<Rc<Listener>>>,
    places: RefCell<Vec<Place>>,
    free: RefCell<Vec<u32>>,
    open: Cell<usize>,
    accepting: Cell<usize>,
    addresses: RefCell<HashMap<IpAddr, usize>>,
    /// Connections that were given replies since the last flush.
    dirty: RefCell<Vec<Rc<Connection>>>,
    sweeping: Cell<bool>,
}

impl Streams {
    /// No listeners.
    pub fn new(tally: Rc<CoreTally>, counters: StreamCounters) -> Rc<Self> {
        Rc::new(Self {
            shared: Shared::new(tally, counters),
            listeners: RefCell::default(),
            places: RefCell::default(),
            free: RefCell::default(),
            open: Cell::new(0),
            accepting: Cell::new(0),
            addresses: RefCell::new(HashMap::new()),
            dirty: RefCell::default(),
            sweeping: Cell::new(false),
        })
    }

    /// Accepts connections from now on. `socket` must not block; a clone of it may live elsewhere.
    /// `ending`: whether another process has it too, and goes on with it after us.
    ///
    /// # Errors
    /// The runtime cannot watch the socket.
    pub fn open(
        self: &Rc<Self>,
        listener_id: u32,
        socket: std::net::TcpListener,
        service: &Service,
        timeouts: Timeouts,
        ending: Ending,
    ) -> io::Result<()> {
        let socket = TcpListener::from_std(socket)?;
        let listener = Rc::new(Listener {
            id: listener_id,
            tls: RefCell::new(sealed_with(service)),
            timeouts: Cell::new(timeouts),
            connections: Cell::new(0),
            ending,
            closed: Cell::new(None),
            waker: RefCell::new(None),
        });
        self.listeners.borrow_mut().push(Rc::clone(&listener));
        self.accepting.set(self.accepting.get() + 1);
        let streams = Rc::clone(self);
        tokio::task::spawn_local(async move {
            streams.accept(&listener, &socket).await;
            // Other holders of the socket keep its queue in the kernel: who connects now would
            // wait there for nobody. This refuses them instead.
            if !listener.is_handed_on() {
                let _ = SockRef::from(&socket).shutdown(std::net::Shutdown::Read);
            }
            streams.accepting.set(streams.accepting.get() - 1);
        });
        Ok(())
    }

    /// Changes the time-outs of a listener and of all its connections, and what those to come are
    /// accepted with.
    pub fn reconfigure(&self, listener_id: u32, service: &Service, timeouts: Timeouts) {
        for listener in self.listeners.borrow().iter().filter(|one| one.id == listener_id) {
            listener.timeouts.set(timeouts);
            listener.tls.replace(sealed_with(service));
        }
    }

    /// Whether a listener accepts here.
    pub fn listens(&self, listener_id: u32) -> bool {
        self.listeners.borrow().iter().any(|listener| listener.id == listener_id)
    }

    /// Stops accepting on all listeners but those that `stays` names, once who waits to be accepted
    /// has been. The connections are closed when they have nothing outstanding.
    pub fn retain(&self, stays: impl Fn(u32) -> bool) {
        self.end(stays, Ending::Closed);
    }

    fn end(&self, stays: impl Fn(u32) -> bool, ending: Ending) {
        self.listeners.borrow_mut().retain(|listener| {
            let keep = stays(listener.id);
            if !keep {
                listener.close(ending);
            }
            keep
        });
        let places = self.places.borrow();
        let connections = places.iter().filter_map(|place| place.connection.as_ref());
        connections.filter(|one| one.listener.is_closed()).for_each(|one| one.drain());
    }

    /// Stops accepting on every listener. Of those that are handed on, who waits to be accepted is
    /// left to the other process, and connections stay until they are quiet for a while.
    pub fn drain(&self, ending: Ending) {
        self.end(|_| false, ending);
    }

    /// Whether nothing is accepted any more and no connection is left.
    pub fn is_idle(&self) -> bool {
        self.accepting.get() == 0 && self.open.get() == 0 && !self.shared.has_work()
    }

    /// Connections that are open.
    pub fn connections(&self) -> usize {
        self.open.get()
    }

    /// Octets that connections hold: parts of messages, and replies that were not taken.
    pub fn bytes(&self) -> usize {
        self.shared.octets()
    }

    /// The next query.
    pub fn take(&self) -> Option<StreamQuery> {
        self.shared.take()
    }

    /// Takes the memory of a message back, once the query is answered or copied.
    pub fn recycle(&self, buffer: Box<[u8]>) {
        self.shared.recycle(buffer);
    }

    /// The only or last reply to a query, sent by the next flush. `false`: the connection is gone.
    pub fn deliver(&self, connection: (u32, u32), message: &[u8]) -> bool {
        let Some(connection) = self.find(connection) else { return false };
        let queued = self.queue(&connection, message);
        connection.settle();
        queued
    }

    /// A query gets no reply, or no more.
    pub fn pass(&self, connection: (u32, u32)) {
        if let Some(connection) = self.find(connection) {
            connection.settle();
        }
    }

    /// One reply of many, sent by the next flush; the last one goes by [`deliver`](Self::deliver).
    /// [`take_writable`](Self::take_writable) gives the connection when it can take the next.
    /// `false`: the connection is gone.
    pub fn partial(&self, connection: (u32, u32), message: &[u8]) -> bool {
        let Some(connection) = self.find(connection) else { return false };
        if !self.queue(&connection, message) {
            return false;
        }
        connection.streaming.set(connection.streaming.get() + 1);
        self.shared.note_room(&connection);
        true
    }

    /// A connection that can take the next of many replies, or that has gone in between: once for
    /// every [`partial`](Self::partial).
    pub fn take_writable(&self) -> Option<(u32, u32)> {
        self.shared.take_writable()
    }

    /// Writes what was delivered, one write for each connection. At the end of every turn.
    pub fn flush(&self) {
        let mut dirty = self.dirty.take();
        for connection in dirty.drain(..) {
            connection.dirty.set(false);
            connection.flush(&self.shared);
            self.shared.note_room(&connection);
        }
        // Nothing was added meanwhile; this keeps the memory.
        self.dirty.replace(dirty);
        self.shared.let_shake_hands();
    }

    /// Ready when there is a query to take or a connection that is writable. Flushes first: who
    /// waits has nothing to add.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.flush();
        self.shared.poll_work(cx)
    }

    fn find(&self, (index, use_count): (u32, u32)) -> Option<Rc<Connection>> {
        let places = self.places.borrow();
        let place = places.get(index as usize)?;
        let connection = place.connection.as_ref().filter(|_| place.use_count == use_count)?;
        (!connection.is_dead()).then(|| Rc::clone(connection))
    }

    fn queue(&self, connection: &Rc<Connection>, message: &[u8]) -> bool {
        let queued = connection.queue(message, &self.shared);
        if !queued {
            connection.kill();
        } else if !connection.dirty.replace(true) {
            self.dirty.borrow_mut().push(Rc::clone(connection));
        }
        queued
    }

    /// Accepts until the listener is closed.
    async fn accept(self: &Rc<Self>, listener: &Rc<Listener>, socket: &TcpListener) {
        while let Some(accepted) = poll_fn(|cx| listener.poll_accept(socket, cx)).await {
            match accepted {
                Ok((stream, peer)) => self.admit(listener, stream, peer),
                Err(error) if is_of_one_connection(&error) => {}
                Err(_) => {
                    // No descriptor or no memory. Nothing tells when there is some again.
                    self.shared.count(|counters| counters.descriptors);
                    tokio::time::sleep(Duration::from_nanos(STREAM_ACCEPT_PAUSE_NANOS)).await;
                }
            }
        }
    }

    /// Keeps a new connection, or drops it where a bound is met.
    fn admit(self: &Rc<Self>, listener: &Rc<Listener>, stream: TcpStream, peer: SocketAddr) {
        if listener.connections.get() >= STREAM_CONNECTIONS_MAX {
            return self.shared.count(|counters| counters.too_many);
        }
        if !self.admit_address(peer.ip().to_canonical()) {
            return self.shared.count(|counters| counters.address);
        }
        // Replies leave as they are made: Nagle's algorithm would keep the second of two back
        // until the client acknowledges the first.
        let _ = stream.set_nodelay(true);
        let local = stream.local_addr().unwrap_or(SocketAddr::new(peer.ip(), 0));
        let carrier = match &*listener.tls.borrow() {
            None => Carrier::Plain(stream),
            Some(config) => match Carrier::sealed(stream, Arc::clone(config)) {
                Ok(carrier) => carrier,
                Err(_) => {
                    self.leave_address(peer.ip().to_canonical());
                    return self.shared.count(|counters| counters.failed);
                }
            },
        };
        let id = self.take_place();
        let client = Client {
            peer,
            local,
            transport: carrier.transport(),
            listener: listener.id,
            connection: id,
        };
        let now = self.shared.tick();
        let connection = Rc::new(Connection::new(carrier, client, Rc::clone(listener), now));
        self.places.borrow_mut()[id.0 as usize].connection = Some(Rc::clone(&connection));
        listener.connections.set(listener.connections.get() + 1);
        self.open.set(self.open.get() + 1);
        self.shared.count(|counters| counters.opened);
        self.start_sweep();
        let streams = Rc::clone(self);
        tokio::task::spawn_local(async move {
            poll_fn(|cx| connection.poll(&streams.shared, cx)).await;
            streams.remove(&connection);
        });
    }

    fn admit_address(&self, address: IpAddr) -> bool {
        let mut addresses = self.addresses.borrow_mut();
        let count = addresses.entry(address).or_default();
        let admitted = *count < STREAM_CONNECTIONS_PER_ADDRESS_MAX;
        *count += usize::from(admitted);
        admitted
    }

    fn leave_address(&self, address: IpAddr) {
        let mut addresses = self.addresses.borrow_mut();
        if let Some(count) = addresses.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&address);
            }
        }
    }

    fn take_place(&self) -> (u32, u32) {
        let mut places = self.places.borrow_mut();
        let index = self.free.borrow_mut().pop().unwrap_or_else(|| {
            places.push(Place::default());
            places.len() as u32 - 1
        });
        (index, places[index as usize].use_count)
    }

    /// Forgets a connection; its socket is closed with the last reference to it.
    fn remove(&self, connection: &Connection) {
        let (index, _) = connection.client.connection;
        let place = &mut self.places.borrow_mut()[index as usize];
        place.connection = None;
        place.use_count = place.use_count.wrapping_add(1);
        self.free.borrow_mut().push(index);
        self.open.set(self.open.get() - 1);
        connection.listener.connections.set(connection.listener.connections.get() - 1);
        self.leave_address(connection.client.ip());
        connection.release(&self.shared);
        self.shared.note_room(connection);
        self.shared.count(|counters| counters.closed);
    }

    /// Looks for quiet connections four times a second, as long as there are connections.
    fn start_sweep(self: &Rc<Self>) {
        if self.sweeping.replace(true) {
            return;
        }
        let streams = Rc::clone(self);
        tokio::task::spawn_local(async move {
            while streams.open.get() > 0 {
                tokio::time::sleep(Duration::from_nanos(STREAM_SWEEP_NANOS)).await;
                streams.sweep();
            }
            streams.sweeping.set(false);
        });
    }

    fn sweep(&self) {
        let now = self.shared.tick();
        for place in &*self.places.borrow() {
            if let Some(connection) = &place.connection {
                connection.sweep(now, STREAM_SWEEP_NANOS);
            }
        }
    }
}

fn sealed_with(service: &Service) -> Option<Arc<ServerConfig>> {
    match service {
        Service::Dns => None,
        Service::Tls(config) => Some(Arc::clone(config)),
    }
}

/// Whether the error concerns only the connection that was about to be accepted: accept(2) hands
/// on the network errors that are pending on it.
fn is_of_one_connection(error: &io::Error) -> bool {
    !matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EINVAL) | None
    )
}

#[cfg(test)]
mod tests;
