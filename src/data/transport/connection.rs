//! One connection, plain or in TLS: what it has asked, what it still has to be told, how long it may
//! be quiet.
//!
//! Its task reads and frames; the turn's replies are written by [`Connection::flush`], straight
//! from the turn. Only where the socket takes no more does the task wait to write the rest.
//!
//! Guarantees: reading stops while [`STREAM_IN_FLIGHT_MAX`] queries wait for their replies, while
//! [`STREAM_OUT_BYTES_MAX`] octets wait to be taken, and while the worker's inbox is full. What was
//! asked before the client closed its side, or before a bound ended the reading, is answered.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::carrier::Carrier;
use super::framing::{self, Front};
use super::inbox::Shared;
use super::stream::Listener;
use crate::data::chain::cx::Client;
use crate::data::clock::Nanos;
use crate::limits::{
    MESSAGE_BYTES_MAX, STREAM_FRESH_NANOS, STREAM_HANDED_ON_NANOS, STREAM_IN_FLIGHT_MAX,
    STREAM_OUT_BYTES_MAX,
};

/// A connection and the worker's view of it.
pub(super) struct Connection {
    pub client: Client,
    pub listener: Rc<Listener>,
    carrier: RefCell<Carrier>,
    /// Octets received that are no message yet, or that were not taken yet.
    held: RefCell<Buffer>,
    /// Replies with their lengths that the socket has not taken yet.
    out: RefCell<Buffer>,
    waker: RefCell<Option<Waker>>,
    in_flight: Cell<u32>,
    asked: Cell<u32>,
    /// When the last message came, or the part began that is held now.
    heard: Cell<Nanos>,
    /// When the socket last took something, or was last given something after nothing.
    sent: Cell<Nanos>,
    /// Whether more may be read; never again once it is not.
    reading: Cell<bool>,
    /// The client has closed its side.
    ended: Cell<bool>,
    /// Nothing more can be read or written.
    dead: Cell<bool>,
    /// To be closed as soon as nothing is outstanding.
    draining: Cell<bool>,
    /// The task waits for replies or for room, not for octets.
    stalled: Cell<bool>,
    /// The task waits to write.
    jammed: Cell<bool>,
    /// Replies were added in this turn.
    pub dirty: Cell<bool>,
    /// Replies of many that want to go on when there is room.
    pub streaming: Cell<u32>,
    /// The connection stands in the line of those that wait for room in the inbox.
    pub in_line: Cell<bool>,
}

/// Octets that are appended at the end and used up from the front. Its memory is borrowed from the
/// worker's pool for as long as there are any.
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffer {
    fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Room at the end; memory from the pool if there was none.
    fn open(&mut self, shared: &Shared) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = shared.lend();
        } else if self.start > self.len() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        &mut self.bytes
    }

    fn consume(&mut self, count: usize, shared: &Shared) {
        self.start += count;
        shared.release_octets(count);
        if self.start == self.bytes.len() {
            self.start = 0;
            shared.give_back(std::mem::take(&mut self.bytes));
        }
    }
}

impl Connection {
    pub fn new(carrier: Carrier, client: Client, listener: Rc<Listener>, now: Nanos) -> Self {
        Self {
            client,
            carrier: RefCell::new(carrier),
            held: RefCell::default(),
            out: RefCell::default(),
            waker: RefCell::new(None),
            in_flight: Cell::new(0),
            asked: Cell::new(0),
            heard: Cell::new(now),
            sent: Cell::new(now),
            reading: Cell::new(true),
            ended: Cell::new(false),
            dead: Cell::new(false),
            draining: Cell::new(listener.is_closed()),
            stalled: Cell::new(false),
            jammed: Cell::new(false),
            dirty: Cell::new(false),
            streaming: Cell::new(0),
            in_line: Cell::new(false),
            listener,
        }
    }

    pub fn is_dead(&self) -> bool {
        self.dead.get()
    }

    /// Octets that wait to be taken by the client.
    fn unsent(&self) -> usize {
        self.out.borrow().len() + usize::from(self.carrier.borrow().holds_sealed())
    }

    /// Whether the connection can take the next of many replies.
    pub fn has_room(&self) -> bool {
        self.unsent() < STREAM_OUT_BYTES_MAX / 2
    }

    /// Lets the task run.
    pub fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Nothing more is read or written: the task ends when it runs next.
    pub fn kill(&self) {
        self.dead.set(true);
        self.wake();
    }

    /// Nothing more is read; the task ends when what was asked is answered.
    fn stop_reading(&self) {
        self.reading.set(false);
        self.wake();
    }

    /// Answers what has arrived, then closes.
    pub fn drain(&self) {
        self.draining.set(true);
        self.wake();
    }

    /// There is room in the inbox.
    pub fn leave_line(&self) {
        self.in_line.set(false);
        self.wake();
    }

    /// Lets the task go on if it waits for replies or for room. A part of what it waits for is
    /// not enough: it would read and stop again for each reply.
    pub fn relieve(&self) {
        let relieved = self.in_flight.get() <= STREAM_IN_FLIGHT_MAX / 2 && self.has_room();
        if self.stalled.get() && relieved {
            self.stalled.set(false);
            self.wake();
        }
    }

    /// A query has its last reply, or gets none.
    pub fn settle(&self) {
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
        if self.in_flight.get() == 0 && (!self.reading.get() || self.draining.get()) {
            self.wake();
        }
        self.relieve();
    }

    /// Adds a reply to what is to be sent. `false`: there is no room for it.
    pub fn queue(&self, message: &[u8], shared: &Shared) -> bool {
        if message.len() > MESSAGE_BYTES_MAX || !shared.reserve_octets(message.len() + 2) {
            return false;
        }
        let mut out = self.out.borrow_mut();
        if out.len() == 0 {
            self.sent.set(shared.now());
        }
        framing::append(out.open(shared), message)
    }

    /// Writes what is to be sent, or as much as the socket takes.
    pub fn flush(&self, shared: &Shared) {
        if !self.jammed.get() && !self.dead.get() {
            self.write(shared);
            self.relieve();
            if self.jammed.get() || !self.reading.get() || self.draining.get() {
                self.wake();
            }
        }
    }

    fn write(&self, shared: &Shared) {
        let mut out = self.out.borrow_mut();
        let mut carrier = self.carrier.borrow_mut();
        while out.len() > 0 || carrier.holds_sealed() {
            match carrier.write(out.as_slice()) {
                Ok(count) => {
                    if count > 0 {
                        out.consume(count, shared);
                    }
                    self.sent.set(shared.now());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.jammed.set(true);
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    drop((out, carrier));
                    return self.kill();
                }
            }
        }
        self.jammed.set(false);
    }

    /// Goes on with reading and writing as far as possible; ready when the connection is over.
    pub fn poll(self: &Rc<Self>, shared: &Shared, cx: &mut Context<'_>) -> Poll<()> {
        self.remember(cx);
        self.poll_write(shared, cx);
        if !self.dead.get() && self.poll_read(shared, cx).is_pending() {
            // Reading may have made TLS say something.
            if !self.jammed.get() && self.carrier.borrow().holds_sealed() {
                self.write(shared);
                self.poll_write(shared, cx);
            }
            if !self.dead.get() {
                return Poll::Pending;
            }
        }
        self.dead.set(true);
        let mut carrier = self.carrier.borrow_mut();
        if carrier.is_shaking_hands() && carrier.has_begun() {
            shared.count(|counters| counters.failed);
        }
        carrier.close();
        Poll::Ready(())
    }

    /// Counts the handshake if it is over.
    fn note_handshake(&self, shared: &Shared) {
        let carrier = self.carrier.borrow();
        if !carrier.is_shaking_hands() {
            let resumed = carrier.is_resumed();
            shared.count(|counters| if resumed { counters.resumed } else { counters.full });
        }
    }

    /// Writes what the socket did not take before, as far as it takes it now.
    fn poll_write(&self, shared: &Shared, cx: &mut Context<'_>) {
        while self.jammed.get() && !self.dead.get() {
            let ready = self.carrier.borrow().socket().poll_write_ready(cx);
            match ready {
                Poll::Pending => break,
                Poll::Ready(Ok(())) => self.write(shared),
                Poll::Ready(Err(_)) => self.dead.set(true),
            }
            shared.note_room(self);
        }
    }

    /// Keeps the task's waker: replies, room and the sweep come by other ways than its socket.
    fn remember(&self, cx: &mut Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// Reads until the socket has nothing, a bound is met or the connection is over: then ready.
    fn poll_read(self: &Rc<Self>, shared: &Shared, cx: &mut Context<'_>) -> Poll<()> {
        if self.stalled.replace(false) {
            // The client could not know that we were not reading: its time starts again.
            self.heard.set(shared.now());
        }
        self.take_held(shared);
        while self.reading.get() {
            if !self.may_take(shared) {
                self.stalled.set(true);
                return Poll::Pending;
            }
            let shaking = self.carrier.borrow().is_shaking_hands();
            if shaking && !shared.may_shake_hands(self) {
                return Poll::Pending;
            }
            let mut buffer = shared.read_buffer();
            let polled = self.carrier.borrow_mut().poll_read(cx, &mut buffer);
            if shaking {
                self.note_handshake(shared);
            }
            match polled {
                Poll::Pending if self.draining.get() && self.is_quiet(shared.now()) => {
                    return Poll::Ready(());
                }
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => {
                    self.ended.set(true);
                    self.reading.set(false);
                }
                Poll::Ready(Ok(count)) => self.receive(&buffer[..count], shared),
                Poll::Ready(Err(_)) => return Poll::Ready(()),
            }
        }
        // What is held is the part of a message whose rest will not be read.
        if self.in_flight.get() == 0 && self.unsent() == 0 {
            self.discard(shared);
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Whether another query may be taken now. Where it is the worker's inbox that has no room,
    /// the connection is put into the line of those that wait for it.
    fn may_take(self: &Rc<Self>, shared: &Shared) -> bool {
        self.in_flight.get() < STREAM_IN_FLIGHT_MAX
            && self.unsent() < STREAM_OUT_BYTES_MAX
            && shared.inbox_has_room(self)
    }

    /// Whether nothing is outstanding and nothing has begun. A connection that is only just made
    /// is given the time to ask.
    fn is_quiet(&self, now: Nanos) -> bool {
        let fresh = self.asked.get() == 0 && now < self.heard.get() + STREAM_FRESH_NANOS;
        // The sweep ends those.
        let stays = fresh || self.listener.is_handed_on();
        !stays && self.in_flight.get() == 0 && self.held.borrow().len() == 0 && self.unsent() == 0
    }

    /// Frames what was read; keeps what is no whole message, or may not be taken yet.
    fn receive(self: &Rc<Self>, bytes: &[u8], shared: &Shared) {
        let waiting = self.held.borrow().len() > 0;
        let rest = if waiting { bytes } else { self.frame(bytes, shared) };
        if rest.is_empty() || !self.reading.get() {
            return;
        }
        if !shared.reserve_octets(rest.len()) {
            return self.stop_reading();
        }
        self.held.borrow_mut().open(shared).extend_from_slice(rest);
        match waiting {
            true => self.take_held(shared),
            false => self.heard.set(shared.now()),
        }
    }

    /// Frames what is held.
    fn take_held(self: &Rc<Self>, shared: &Shared) {
        let mut held = self.held.borrow_mut();
        let before = held.len();
        if before > 0 {
            let left = self.frame(held.as_slice(), shared).len();
            held.consume(before - left, shared);
        }
    }

    /// Puts whole messages into the inbox, as many as may be taken; gives the rest.
    fn frame<'b>(self: &Rc<Self>, bytes: &'b [u8], shared: &Shared) -> &'b [u8] {
        let mut rest = bytes;
        let queries_max = self.listener.timeouts().queries;
        while self.reading.get() && self.may_take(shared) {
            match framing::front(rest) {
                Front::Message(message, after) => {
                    shared.put(self.client, message);
                    self.in_flight.set(self.in_flight.get() + 1);
                    self.asked.set(self.asked.get().saturating_add(1));
                    self.heard.set(shared.now());
                    if self.asked.get() == queries_max {
                        self.reading.set(false);
                    }
                    rest = after;
                }
                Front::Part => break,
                Front::Empty(after) => rest = after,
            }
        }
        rest
    }

    /// Reads and forgets once: closing with octets unread would reset the connection, and the
    /// client could lose replies that are still on their way.
    fn discard(&self, shared: &Shared) {
        if !self.ended.get() {
            let _ = self.carrier.borrow().socket().try_read(&mut shared.read_buffer());
        }
    }

    /// Ends what has been quiet for too long. `now` is at most one sweep behind the times that the
    /// connection has noted, so `slack` of a sweep is granted: a connection is never cut early.
    pub fn sweep(&self, now: Nanos, slack: Nanos) {
        let timeouts = self.listener.timeouts();
        let late = |since: Nanos, limit: Nanos| now.saturating_sub(since) >= limit + slack;
        if self.unsent() > 0 {
            if self.jammed.get() && late(self.sent.get(), timeouts.write) {
                self.kill();
            }
        } else if self.stalled.get() || !self.reading.get() {
            // It waits for us: a walk has its own deadline.
        } else if self.held.borrow().len() > 0 {
            if late(self.heard.get(), timeouts.read) {
                self.stop_reading();
            }
        } else if self.in_flight.get() == 0 {
            let limit = match (self.asked.get(), self.draining.get()) {
                (0, true) => STREAM_FRESH_NANOS,
                (0, false) => timeouts.read,
                (_, true) => timeouts.idle.min(STREAM_HANDED_ON_NANOS),
                (_, false) => timeouts.idle,
            };
            if late(self.heard.get().max(self.sent.get()), limit) {
                self.stop_reading();
            }
        }
    }

    /// Gives back what the connection holds of the worker's.
    pub fn release(&self, shared: &Shared) {
        for buffer in [&self.held, &self.out] {
            let mut buffer = buffer.borrow_mut();
            let len = buffer.len();
            if len > 0 {
                buffer.consume(len, shared);
            }
        }
    }
}
