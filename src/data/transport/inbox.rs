//! What a worker's connections share: the inbox that the turn empties, buffers, a bound of octets.
//!
//! Guarantees: the inbox holds at most [`STREAM_INBOX_QUERIES_MAX`] queries, and connections that
//! find it full stand in line; parts and replies of all connections together hold at most
//! [`STREAM_BYTES_MAX`] octets. In the steady state nothing is allocated: messages, parts and
//! replies use pooled memory, which a connection has only while it holds something.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::connection::Connection;
use super::stream::{StreamCounters, StreamQuery};
use crate::data::chain::cx::Client;
use crate::data::clock::{self, Nanos};
use crate::data::tally::{CoreTally, Counter};
use crate::limits::{
    LANE_BYTES, STREAM_BUFFER_POOL_MAX, STREAM_BYTES_MAX, STREAM_INBOX_QUERIES_MAX,
    STREAM_READ_BYTES, TURN_HANDSHAKES_MAX,
};

/// The common part of a worker's streams.
pub(super) struct Shared {
    inbox: RefCell<VecDeque<StreamQuery>>,
    /// Connections that wait for room in the inbox, first come first served.
    line: RefCell<VecDeque<Rc<Connection>>>,
    /// Connections in a handshake that wait for a turn.
    shaking: RefCell<VecDeque<Rc<Connection>>>,
    /// Handshakes that this turn may still go on with.
    handshakes: Cell<usize>,
    /// Connections that can take the next of many replies.
    writable: RefCell<VecDeque<(u32, u32)>>,
    /// Wakes the turn; taken when it has been used.
    turn: RefCell<Option<Waker>>,
    messages: RefCell<Vec<Box<[u8]>>>,
    buffers: RefCell<Vec<Vec<u8>>>,
    read: RefCell<Box<[u8]>>,
    octets: Cell<usize>,
    now: Cell<Nanos>,
    tally: Rc<CoreTally>,
    counters: StreamCounters,
}

impl Shared {
    pub fn new(tally: Rc<CoreTally>, counters: StreamCounters) -> Self {
        Self {
            inbox: RefCell::default(),
            line: RefCell::default(),
            shaking: RefCell::default(),
            handshakes: Cell::new(TURN_HANDSHAKES_MAX),
            writable: RefCell::default(),
            turn: RefCell::new(None),
            messages: RefCell::default(),
            buffers: RefCell::default(),
            read: RefCell::new(vec![0; STREAM_READ_BYTES].into_boxed_slice()),
            octets: Cell::new(0),
            now: Cell::new(clock::now()),
            tally,
            counters,
        }
    }

    /// The time of the last sweep or accept: near enough for time-outs, and no clock is read for
    /// a message.
    pub fn now(&self) -> Nanos {
        self.now.get()
    }

    /// Reads the clock.
    pub fn tick(&self) -> Nanos {
        self.now.set(clock::now());
        self.now.get()
    }

    pub fn count(&self, which: impl FnOnce(&StreamCounters) -> Counter) {
        self.tally.add(which(&self.counters), 1);
    }

    /// Where all connections read into, one after the other.
    pub fn read_buffer(&self) -> RefMut<'_, Box<[u8]>> {
        self.read.borrow_mut()
    }

    /// Takes octets from the budget; `false`: there are not so many left.
    pub fn reserve_octets(&self, count: usize) -> bool {
        let octets = self.octets.get() + count;
        let fits = octets <= STREAM_BYTES_MAX;
        if fits {
            self.octets.set(octets);
        } else {
            self.count(|counters| counters.no_memory);
        }
        fits
    }

    pub fn release_octets(&self, count: usize) {
        self.octets.set(self.octets.get() - count);
    }

    /// Octets that connections hold now.
    pub fn octets(&self) -> usize {
        self.octets.get()
    }

    /// An empty vector with memory.
    pub fn lend(&self) -> Vec<u8> {
        let pooled = self.buffers.borrow_mut().pop();
        pooled.unwrap_or_else(|| Vec::with_capacity(LANE_BYTES))
    }

    /// Takes a vector back; what grew big is not kept.
    pub fn give_back(&self, mut buffer: Vec<u8>) {
        let mut buffers = self.buffers.borrow_mut();
        if buffers.len() < STREAM_BUFFER_POOL_MAX && buffer.capacity() <= STREAM_READ_BYTES {
            buffer.clear();
            buffers.push(buffer);
        }
    }

    /// Takes a message's memory back.
    pub fn recycle(&self, buffer: Box<[u8]>) {
        let mut messages = self.messages.borrow_mut();
        if messages.len() < STREAM_BUFFER_POOL_MAX && buffer.len() == LANE_BYTES {
            messages.push(buffer);
        }
    }

    /// Whether the inbox takes another query; if not, the connection stands in line.
    pub fn inbox_has_room(&self, connection: &Rc<Connection>) -> bool {
        let room = self.inbox.borrow().len() < STREAM_INBOX_QUERIES_MAX;
        if !room && !connection.in_line.replace(true) {
            self.line.borrow_mut().push_back(Rc::clone(connection));
        }
        room
    }

    /// Puts a query into the inbox.
    pub fn put(&self, client: Client, message: &[u8]) {
        let len = message.len();
        let pooled = match len <= LANE_BYTES {
            true => self.messages.borrow_mut().pop(),
            false => None,
        };
        let mut buffer = pooled.unwrap_or_else(|| vec![0; len.max(LANE_BYTES)].into_boxed_slice());
        buffer[..len].copy_from_slice(message);
        self.inbox.borrow_mut().push_back(StreamQuery { client, message: buffer, len });
        self.wake_turn();
    }

    /// Takes a query out of the inbox, and lets those in line go on as it empties.
    pub fn take(&self) -> Option<StreamQuery> {
        let query = self.inbox.borrow_mut().pop_front();
        let left = self.inbox.borrow().len();
        if left <= STREAM_INBOX_QUERIES_MAX / 2 {
            let mut line = self.line.borrow_mut();
            // One for each query taken; all, when there is nothing left to take.
            let wakes = if left == 0 { line.len() } else { 1.min(line.len()) };
            line.drain(..wakes).for_each(|connection| connection.leave_line());
        }
        query
    }

    /// Whether the connection may go on with its handshake now; if not, it stands in line for a turn.
    pub fn may_shake_hands(&self, connection: &Rc<Connection>) -> bool {
        let left = self.handshakes.get();
        if left > 0 {
            self.handshakes.set(left - 1);
            return true;
        }
        self.shaking.borrow_mut().push_back(Rc::clone(connection));
        self.wake_turn();
        false
    }

    /// Lets the next ones in line go on with their handshakes. At the end of every turn.
    pub fn let_shake_hands(&self) {
        self.handshakes.set(TURN_HANDSHAKES_MAX);
        let mut shaking = self.shaking.borrow_mut();
        let next = shaking.len().min(TURN_HANDSHAKES_MAX);
        shaking.drain(..next).for_each(|connection| connection.wake());
    }

    /// Says that the connection can take the next of many replies, as often as somebody waits.
    pub fn note_room(&self, connection: &Connection) {
        if connection.streaming.get() > 0 && (connection.has_room() || connection.is_dead()) {
            let waiting = connection.streaming.replace(0);
            let ids = std::iter::repeat_n(connection.client.connection, waiting as usize);
            self.writable.borrow_mut().extend(ids);
            self.wake_turn();
        }
    }

    pub fn take_writable(&self) -> Option<(u32, u32)> {
        self.writable.borrow_mut().pop_front()
    }

    pub fn has_work(&self) -> bool {
        !self.inbox.borrow().is_empty() || !self.writable.borrow().is_empty()
    }

    pub fn poll_work(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.has_work() {
            return Poll::Ready(());
        }
        if !self.shaking.borrow().is_empty() {
            // Not work for the turn: those that were let go on have to run before the next are.
            cx.waker().wake_by_ref();
        }
        let mut turn = self.turn.borrow_mut();
        if !turn.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *turn = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    fn wake_turn(&self) {
        if let Some(waker) = self.turn.borrow_mut().take() {
            waker.wake();
        }
    }
}
