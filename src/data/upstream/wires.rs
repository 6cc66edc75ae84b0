//! A worker's sockets and connections to upstreams.
//!
//! UDP sockets are connected, so the kernel drops what comes from elsewhere and tells of ICMP errors;
//! they are read and written in batches, from the turn. Streams are tasks of the worker's runtime
//! (`stream.rs`, `https.rs`), which hand over messages by an inbox that only the turn empties.
//!
//! Guarantees: nothing here waits; only sockets with queries in flight are watched; a closed channel
//! says nothing more. Cost: a system call for a batch each way; none for a worker without upstreams.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::inbox::{Arrival, Inbox};
use super::network::{ChannelId, Network, Queries};
use super::stream::Connection;
use super::{Unreached, Upstream};
use crate::data::transport::Lane;
use crate::data::transport::mmsg::{Batch, has_gso};
use crate::data::transport::readiness::watch_connected;
use crate::data::transport::sockets::widen;
use crate::limits::{BATCH_DATAGRAMS, UPSTREAM_SOCKET_BYTES_WANTED};

/// A channel's own part.
enum Wire {
    Closed,
    Datagrams {
        id: ChannelId,
        socket: AsyncFd<UdpSocket>,
        /// Whether there may be datagrams to receive.
        readable: bool,
        /// Whether it is in the list of those that are watched.
        watched: bool,
    },
    Stream(Rc<Connection>),
}

/// A worker's sockets to upstreams.
pub struct Wires {
    wires: Vec<Wire>,
    /// Places of the sockets that something is in flight on.
    watched: Vec<u32>,
    next: usize,
    batch: Batch,
    /// Whether queries to one upstream leave together.
    gso: bool,
    inbox: Rc<Inbox>,
}

/// What was received from a socket.
#[derive(Clone, Copy, Debug)]
pub enum Received {
    /// So many datagrams, in the lanes.
    Datagrams(ChannelId, usize),
    /// An ICMP error.
    Lost(ChannelId, Unreached),
}

impl Wires {
    /// No channels; with `gso`, queries to one upstream leave together where the kernel can do it.
    pub fn new(gso: bool) -> Self {
        Self {
            wires: Vec::new(),
            watched: Vec::new(),
            next: 0,
            batch: Batch::new(),
            gso,
            inbox: Inbox::new(),
        }
    }

    /// A batch of datagrams of one socket, sockets in rotation; `None`: no socket is ready.
    pub fn receive(&mut self, lanes: &mut [Lane]) -> Option<Received> {
        let Self { wires, watched, batch, .. } = self;
        let count = watched.len();
        for step in 0..count {
            let at = (self.next + step) % count;
            let Some(Wire::Datagrams { id, socket, readable, .. }) =
                wires.get_mut(watched[at] as usize)
            else {
                continue;
            };
            if !*readable {
                continue;
            }
            self.next = at + 1;
            let mut received = Ok(0);
            let drained = socket.try_io(Interest::READABLE, |socket| {
                received = batch.receive_connected(socket.as_fd(), lanes);
                match &received {
                    Ok(BATCH_DATAGRAMS) => Ok(()),
                    // Fewer than asked for: the socket is empty, the next arrival is an edge.
                    Ok(_) => Err(io::ErrorKind::WouldBlock.into()),
                    Err(error) => Err(io::Error::from(error.kind())),
                }
            });
            *readable = drained.is_ok();
            match received {
                Ok(0) => {}
                Ok(count) => return Some(Received::Datagrams(*id, count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Some(Received::Lost(*id, cause_of(&error))),
            }
        }
        None
    }

    /// Whether a receive may find something.
    pub fn is_ready(&self) -> bool {
        self.watched.iter().any(|index| {
            matches!(self.wires[*index as usize], Wire::Datagrams { readable: true, .. })
        })
    }

    /// What has come by streams.
    pub fn take(&self) -> Option<Arrival> {
        self.inbox.take()
    }

    /// Takes the memory of a message back.
    pub fn recycle(&self, message: Box<[u8]>) {
        self.inbox.recycle(message);
    }

    /// Asks the runtime what is ready; the task is woken when something is. Sockets that are not
    /// `busy` any more are watched no longer.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>, busy: impl Fn(u32) -> bool) -> bool {
        let Self { wires, watched, .. } = self;
        let mut ready = false;
        watched.retain(|index| match &mut wires[*index as usize] {
            Wire::Datagrams { socket, readable, watched, .. } => {
                *watched = busy(*index);
                if *watched {
                    *readable |= matches!(socket.poll_read_ready(cx), Poll::Ready(Ok(_)));
                    ready |= *readable;
                }
                *watched
            }
            _ => false,
        });
        ready |= self.inbox.poll_ready(cx).is_ready();
        ready
    }

    fn place(&mut self, channel: ChannelId, wire: Wire) {
        let index = channel.index as usize;
        if self.wires.len() <= index {
            self.wires.resize_with(index + 1, || Wire::Closed);
        }
        self.wires[index] = wire;
    }
}

impl Network for Wires {
    fn open(
        &mut self,
        channel: ChannelId,
        upstream: &Arc<Upstream>,
        stream: bool,
    ) -> Result<(), Unreached> {
        let wire = if stream {
            Wire::Stream(Connection::open(channel, upstream, &self.inbox))
        } else {
            let socket = connect(upstream).and_then(watch_connected);
            let socket = socket.map_err(|error| cause_of(&error))?;
            self.gso = self.gso && has_gso(socket.get_ref().as_fd());
            Wire::Datagrams { id: channel, socket, readable: false, watched: false }
        };
        self.place(channel, wire);
        Ok(())
    }

    fn send(&mut self, channel: ChannelId, queries: &Queries) -> Result<(), Unreached> {
        let Some(Wire::Datagrams { socket, watched, .. }) =
            self.wires.get_mut(channel.index as usize)
        else {
            return Err(Unreached::NoRoom);
        };
        if !*watched {
            *watched = true;
            self.watched.push(channel.index);
        }
        let (socket, gso) = (socket.get_ref().as_fd(), self.gso);
        let sent = self.batch.send_connected(socket, queries.iter(), gso);
        sent.map_err(|error| cause_of(&error))
    }

    fn ask(&mut self, channel: ChannelId, query: &[u8]) -> Result<(), Unreached> {
        match self.wires.get(channel.index as usize) {
            Some(Wire::Stream(connection)) if connection.ask(query) => Ok(()),
            _ => Err(Unreached::NoRoom),
        }
    }

    fn close(&mut self, channel: ChannelId) {
        let Some(wire) = self.wires.get_mut(channel.index as usize) else { return };
        match std::mem::replace(wire, Wire::Closed) {
            Wire::Stream(connection) => connection.close(),
            Wire::Datagrams { .. } => self.watched.retain(|index| *index != channel.index),
            Wire::Closed => {}
        }
    }
}

/// A UDP socket with a port of its own, which the kernel chooses at random (RFC 6056).
fn connect(upstream: &Upstream) -> io::Result<UdpSocket> {
    let socket =
        Socket::new(Domain::for_address(upstream.address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    widen(&SockRef::from(&socket), UPSTREAM_SOCKET_BYTES_WANTED);
    if let Some(source) = upstream.source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    socket.connect(&upstream.address.into())?;
    Ok(socket.into())
}

/// Any port of an address, or of any address of the upstream's family.
pub(super) fn local_address(upstream: &Upstream) -> SocketAddr {
    let any = if upstream.address.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    SocketAddr::new(upstream.source.unwrap_or(any), 0)
}

/// What an error of the kernel means.
pub(super) fn cause_of(error: &io::Error) -> Unreached {
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => Unreached::Refused,
        Some(libc::EADDRNOTAVAIL) => Unreached::NoSource,
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => Unreached::NoRoom,
        Some(libc::ECONNRESET | libc::EPIPE | libc::ECONNABORTED) => Unreached::Closed,
        Some(libc::ETIMEDOUT) => Unreached::TimedOut,
        Some(_) => Unreached::NoRoute,
        None if error.kind() == io::ErrorKind::UnexpectedEof => Unreached::Closed,
        None => Unreached::Malformed,
    }
}

#[cfg(test)]
mod tests;
