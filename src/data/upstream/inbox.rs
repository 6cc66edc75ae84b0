//! What streams to upstreams hand to the turn.
//!
//! Holds at most [`UPSTREAM_INBOX_MESSAGES_MAX`] messages: connections that find it full stand still
//! until the turn has taken some. Messages of usual length use pooled memory.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::Unreached;
use super::network::ChannelId;
use crate::limits::{LANE_BYTES, STREAM_BUFFER_POOL_MAX, UPSTREAM_INBOX_MESSAGES_MAX};

/// What came by a stream.
#[derive(Debug)]
pub enum Arrival {
    /// A message: so many octets of this memory.
    Message(ChannelId, Box<[u8]>, usize),
    /// The query with this message id failed.
    Failed(ChannelId, u16, Unreached),
    /// The connection carries one query at a time.
    Serial(ChannelId),
    /// The connection failed, or was closed.
    Lost(ChannelId, Unreached),
}

/// The inbox of a worker.
pub(super) struct Inbox {
    arrivals: RefCell<VecDeque<Arrival>>,
    turn: RefCell<Option<Waker>>,
    /// Tasks that wait for room.
    line: RefCell<Vec<Waker>>,
    messages: RefCell<Vec<Box<[u8]>>>,
}

impl Inbox {
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            arrivals: RefCell::default(),
            turn: RefCell::default(),
            line: RefCell::default(),
            messages: RefCell::default(),
        })
    }

    /// Ready when there is room for a message.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.arrivals.borrow().len() < UPSTREAM_INBOX_MESSAGES_MAX {
            return Poll::Ready(());
        }
        self.line.borrow_mut().push(cx.waker().clone());
        Poll::Pending
    }

    /// Puts in a message.
    pub fn put_message(&self, channel: ChannelId, message: &[u8]) {
        let len = message.len();
        let pooled = if len <= LANE_BYTES { self.messages.borrow_mut().pop() } else { None };
        let mut memory = pooled.unwrap_or_else(|| vec![0; len.max(LANE_BYTES)].into_boxed_slice());
        memory[..len].copy_from_slice(message);
        self.put(Arrival::Message(channel, memory, len));
    }

    /// Puts in whatever has come.
    pub fn put(&self, arrival: Arrival) {
        self.arrivals.borrow_mut().push_back(arrival);
        if let Some(waker) = self.turn.borrow_mut().take() {
            waker.wake();
        }
    }

    pub fn take(&self) -> Option<Arrival> {
        let arrival = self.arrivals.borrow_mut().pop_front();
        if self.arrivals.borrow().len() <= UPSTREAM_INBOX_MESSAGES_MAX / 2 {
            self.line.borrow_mut().drain(..).for_each(Waker::wake);
        }
        arrival
    }

    /// Takes a message's memory back.
    pub fn recycle(&self, message: Box<[u8]>) {
        let mut messages = self.messages.borrow_mut();
        if messages.len() < STREAM_BUFFER_POOL_MAX && message.len() == LANE_BYTES {
            messages.push(message);
        }
    }

    /// Ready when something is in it; wakes whoever asked last.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.arrivals.borrow().is_empty() {
            return Poll::Ready(());
        }
        let mut turn = self.turn.borrow_mut();
        if !turn.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *turn = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}
