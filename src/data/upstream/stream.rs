//! Connections to upstreams: TCP, TLS (RFC 7858) and, by way of `https.rs`, HTTPS.
//!
//! A task makes the connection, writes what the turn has added, reads and frames (RFC 1035 section
//! 4.2.2) what comes. Queries are pipelined, replies come in any order (RFC 7766 section 6.2.1.1). It
//! ends when the turn closes the channel or the connection fails, and says so then, with the cause.
//! In TLS each query is a record of its own: a server that reads one message whenever its socket is
//! readable would leave what else a record holds until the next one comes, or for ever (NSD 4.6 does).
//!
//! Guarantees: what is not taken by the upstream is bounded ([`UPSTREAM_OUT_BYTES_MAX`]), what we do
//! not take stops the reading; a connection that is not made in time has failed. A length of zero and
//! an end amid a message are malformed. Cost: a wake-up, a write and a read for a burst of queries.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, Write as _};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::https;
use super::inbox::{Arrival, Inbox};
use super::network::ChannelId;
use super::wires::{cause_of, local_address};
use super::{Carrier, TlsTarget, Unreached, Upstream};
use crate::data::transport::framing::{self, Front};
use crate::limits::{STREAM_READ_BYTES, UPSTREAM_CONNECT_NANOS_MAX, UPSTREAM_OUT_BYTES_MAX};

/// What the turn and the task of a connection share.
pub(super) struct Connection {
    pub channel: ChannelId,
    /// Queries with their lengths that are not written yet.
    out: RefCell<Vec<u8>>,
    waker: RefCell<Option<Waker>>,
    closed: Cell<bool>,
}

impl Connection {
    /// Starts a task that connects.
    pub fn open(channel: ChannelId, upstream: &Arc<Upstream>, inbox: &Rc<Inbox>) -> Rc<Self> {
        let connection = Rc::new(Self {
            channel,
            out: RefCell::default(),
            waker: RefCell::default(),
            closed: Cell::new(false),
        });
        let (this, upstream, inbox) =
            (Rc::clone(&connection), Arc::clone(upstream), Rc::clone(inbox));
        tokio::task::spawn_local(async move {
            let cause = this.run(&upstream, &inbox).await;
            if !this.closed.get() {
                inbox.put(Arrival::Lost(this.channel, cause));
            }
        });
        connection
    }

    /// Adds a query; `false`: there is no room.
    pub fn ask(&self, query: &[u8]) -> bool {
        let mut out = self.out.borrow_mut();
        let room = out.len() + query.len() + 2 <= UPSTREAM_OUT_BYTES_MAX;
        let taken = room && framing::append(&mut out, query);
        self.wake();
        taken
    }

    /// Has the task end.
    pub fn close(&self) {
        self.closed.set(true);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Whether the turn has closed it; the task is woken when it does, or when it adds a query.
    pub fn poll_closed(&self, cx: &mut Context<'_>) -> bool {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        self.closed.get()
    }

    /// Takes the next query that is not sent.
    pub fn next_query(&self) -> Option<Vec<u8>> {
        let mut out = self.out.borrow_mut();
        let Front::Message(query, rest) = framing::front(&out) else { return None };
        let (query, left) = (query.to_vec(), rest.len());
        let taken = out.len() - left;
        out.drain(..taken);
        Some(query)
    }

    async fn run(&self, upstream: &Upstream, inbox: &Rc<Inbox>) -> Unreached {
        let limit = Duration::from_nanos(UPSTREAM_CONNECT_NANOS_MAX);
        let mut connecting = pin!(tokio::time::timeout(limit, connect(upstream)));
        // Nobody waits any more for a connection that was closed before it was made.
        let connected = poll_fn(|cx| match self.poll_closed(cx) {
            true => Poll::Ready(Ok(Err(Unreached::Closed))),
            false => connecting.as_mut().poll(cx),
        });
        match connected.await {
            Err(_) => Unreached::TimedOut,
            Ok(Err(cause)) => cause,
            Ok(Ok(Stream::Plain(stream))) => self.carry(stream, inbox).await,
            Ok(Ok(Stream::Tls(stream))) => match &upstream.carrier {
                Carrier::Https(target) => {
                    // Whatever it waits for: a server may leave a request without an answer for ever.
                    let mut carried = pin!(https::carry(self, *stream, target, inbox));
                    poll_fn(|cx| match self.poll_closed(cx) {
                        true => Poll::Ready(Unreached::Closed),
                        false => carried.as_mut().poll(cx),
                    })
                    .await
                }
                _ => self.carry(*stream, inbox).await,
            },
        }
    }

    /// Writes and reads until the connection is over.
    async fn carry(&self, stream: impl Messages, inbox: &Inbox) -> Unreached {
        let mut carried = Carried { stream, read: Vec::new(), writing: Vec::new(), written: 0 };
        poll_fn(|cx| carried.poll(self, inbox, cx)).await
    }
}

/// A stream that messages are written to.
trait Messages: AsyncRead + AsyncWrite + Unpin {
    /// Takes octets, which begin where it has stopped taking before; says how many.
    fn poll_take(&mut self, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>>;
}

impl Messages for TcpStream {
    fn poll_take(&mut self, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self).poll_write(cx, octets)
    }
}

impl Messages for TlsStream<TcpStream> {
    /// All of them, each in a record of its own, once the records before have left: that bounds what
    /// the session holds, which has no bound itself. They leave together when they are flushed.
    fn poll_take(&mut self, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut *self).poll_flush(cx))?;
        let mut records = self.get_mut().1.writer();
        let mut rest = octets;
        while let Front::Message(_, after) = framing::front(rest) {
            records.write_all(&rest[..rest.len() - after.len()])?;
            rest = after;
        }
        records.write_all(rest)?;
        Poll::Ready(Ok(octets.len()))
    }
}

/// A connection that is made, with what was read and what is being written.
struct Carried<S> {
    stream: S,
    /// Octets that are no whole message yet.
    read: Vec<u8>,
    writing: Vec<u8>,
    written: usize,
}

impl<S: Messages> Carried<S> {
    fn poll(
        &mut self,
        connection: &Connection,
        inbox: &Inbox,
        cx: &mut Context<'_>,
    ) -> Poll<Unreached> {
        if connection.poll_closed(cx) {
            // A polite end of TLS, as far as the socket takes it at once.
            let _ = Pin::new(&mut self.stream).poll_shutdown(cx);
            return Poll::Ready(Unreached::Closed);
        }
        if let Poll::Ready(cause) = self.poll_write(connection, cx) {
            return Poll::Ready(cause);
        }
        self.poll_read(connection.channel, inbox, cx)
    }

    /// Writes until nothing is left; ready when it failed.
    fn poll_write(&mut self, connection: &Connection, cx: &mut Context<'_>) -> Poll<Unreached> {
        loop {
            if self.written == self.writing.len() {
                self.writing.clear();
                self.written = 0;
                std::mem::swap(&mut self.writing, &mut *connection.out.borrow_mut());
            }
            if self.writing.is_empty() {
                return match Pin::new(&mut self.stream).poll_flush(cx) {
                    Poll::Ready(Err(error)) => Poll::Ready(cause_of(&error)),
                    _ => Poll::Pending,
                };
            }
            match self.stream.poll_take(cx, &self.writing[self.written..]) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => return Poll::Ready(Unreached::Closed),
                Poll::Ready(Ok(count)) => self.written += count,
                Poll::Ready(Err(error)) => return Poll::Ready(cause_of(&error)),
            }
        }
    }

    /// Reads until there is nothing; ready when the connection is over.
    fn poll_read(
        &mut self,
        channel: ChannelId,
        inbox: &Inbox,
        cx: &mut Context<'_>,
    ) -> Poll<Unreached> {
        let mut buffer = [0; STREAM_READ_BYTES];
        loop {
            if inbox.poll_room(cx).is_pending() {
                return Poll::Pending;
            }
            let mut into = ReadBuf::new(&mut buffer);
            match Pin::new(&mut self.stream).poll_read(cx, &mut into) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(self.end(cause_of(&error))),
                Poll::Ready(Ok(())) if into.filled().is_empty() => {
                    return Poll::Ready(self.end(Unreached::Closed));
                }
                Poll::Ready(Ok(())) => {}
            }
            if !self.frame(into.filled(), channel, inbox) {
                return Poll::Ready(Unreached::Malformed);
            }
        }
    }

    /// The cause of an end: amid a message it is not a mere closing.
    fn end(&self, cause: Unreached) -> Unreached {
        if self.read.is_empty() { cause } else { Unreached::Malformed }
    }

    /// Hands over whole messages, keeps the rest; `false`: there is a length of zero.
    fn frame(&mut self, bytes: &[u8], channel: ChannelId, inbox: &Inbox) -> bool {
        let held = !self.read.is_empty();
        if held {
            self.read.extend_from_slice(bytes);
        }
        let mut rest = if held { &self.read[..] } else { bytes };
        while let Front::Message(message, after) = framing::front(rest) {
            inbox.put_message(channel, message);
            rest = after;
        }
        let sound = !matches!(framing::front(rest), Front::Empty(_));
        let used = if held { self.read.len() } else { bytes.len() } - rest.len();
        match held {
            true => drop(self.read.drain(..used)),
            false => self.read.extend_from_slice(&bytes[used..]),
        }
        if self.read.is_empty() {
            // An idle connection holds no memory.
            self.read = Vec::new();
        }
        sound
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

async fn connect(upstream: &Upstream) -> Result<Stream, Unreached> {
    let tcp = connect_tcp(upstream).await.map_err(|error| cause_of(&error))?;
    let tls = match &upstream.carrier {
        Carrier::Dns => return Ok(Stream::Plain(tcp)),
        Carrier::Tls(target) => target,
        Carrier::Https(target) => &target.tls,
    };
    let TlsTarget { server_name, config } = tls;
    let connector = TlsConnector::from(Arc::clone(config));
    match connector.connect(server_name.clone(), tcp).await {
        Ok(mut stream) => {
            stream.get_mut().1.set_buffer_limit(None);
            Ok(Stream::Tls(Box::new(stream)))
        }
        Err(_) => Err(Unreached::Tls),
    }
}

async fn connect_tcp(upstream: &Upstream) -> std::io::Result<TcpStream> {
    let socket =
        if upstream.address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if upstream.source.is_some() {
        socket.bind(local_address(upstream))?;
    }
    let stream = socket.connect(upstream.address).await?;
    // Queries leave as they are made.
    stream.set_nodelay(true)?;
    Ok(stream)
}
