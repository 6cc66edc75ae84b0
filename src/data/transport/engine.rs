//! The seam of the datagram engines: one socket of a worker, whichever way its datagrams take.
//!
//! `gso` is the default; `mmsg` is for networks that cannot have what it does, `uring` the one to compare
//! it with. All fill lanes and send them, and run on a current-thread runtime on which streams are
//! tasks.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::task::{Context, Poll};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::LocalSet;

use super::Lane;
use super::mmsg::{Batch, Sent, has_gso};
use super::readiness::watch_socket;
#[cfg(feature = "uring")]
use super::uring::{self, RingSocket};
use crate::limits::BATCH_DATAGRAMS;

/// What carries datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// Readiness, `recvmmsg` and `sendmmsg`; replies to one client leave together.
    #[default]
    Gso,
    /// As `Gso`, and each reply leaves by itself.
    Mmsg,
    /// io_uring.
    #[cfg(feature = "uring")]
    Uring,
}

impl Engine {
    /// io_uring, if this build has it and the kernel allows it.
    ///
    /// # Errors
    /// Why it cannot be had: container runtimes' default seccomp profiles refuse it.
    pub fn uring() -> io::Result<Self> {
        #[cfg(feature = "uring")]
        return uring::probe().map(|()| Self::Uring);
        #[cfg(not(feature = "uring"))]
        return Err(io::Error::new(io::ErrorKind::Unsupported, "not in this build"));
    }

    /// The word of the command line and of `corelane_io_engine`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gso => "gso",
            Self::Mmsg => "mmsg",
            #[cfg(feature = "uring")]
            Self::Uring => "uring",
        }
    }

    /// Runs a worker on a runtime of its own, on the calling thread.
    ///
    /// # Errors
    /// The runtime cannot be made: no descriptor, or no ring.
    pub fn block_on<F: Future>(self, worker: F) -> io::Result<F::Output> {
        match self {
            Self::Gso | Self::Mmsg => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                Ok(LocalSet::new().block_on(&runtime, worker))
            }
            #[cfg(feature = "uring")]
            Self::Uring => Ok(uring::runtime()?.block_on(worker)),
        }
    }

    /// Lets the runtime's other tasks run, and its reactor look for events.
    pub async fn pause(self) {
        match self {
            Self::Gso | Self::Mmsg => tokio::task::yield_now().await,
            #[cfg(feature = "uring")]
            Self::Uring => uring::pause().await,
        }
    }
}

/// One UDP socket of a worker.
pub struct Datagrams {
    way: Way,
    local: SocketAddr,
    /// Nothing is received any more.
    stopped: bool,
}

enum Way {
    Mmsg {
        socket: AsyncFd<UdpSocket>,
        /// Whether there may be datagrams to receive.
        readable: bool,
        /// Whether replies to one client leave together.
        gso: bool,
    },
    #[cfg(feature = "uring")]
    Uring(RingSocket),
}

impl Datagrams {
    /// Receives from a socket that is bound to `local`. Must be called on the engine's runtime.
    ///
    /// # Errors
    /// The runtime cannot watch the socket.
    pub fn open(engine: Engine, socket: UdpSocket, local: SocketAddr) -> io::Result<Self> {
        let way = match engine {
            Engine::Gso | Engine::Mmsg => Way::Mmsg {
                gso: engine == Engine::Gso && has_gso(socket.as_fd()),
                socket: watch_socket(socket)?,
                readable: true,
            },
            #[cfg(feature = "uring")]
            Engine::Uring => Way::Uring(RingSocket::open(socket, local)?),
        };
        Ok(Self { way, local, stopped: false })
    }

    /// Whether a receive may find something.
    pub fn is_ready(&self) -> bool {
        match &self.way {
            Way::Mmsg { readable, .. } => *readable && !self.stopped,
            #[cfg(feature = "uring")]
            Way::Uring(ring) => ring.is_ready(),
        }
    }

    /// Receives no more, and leaves what comes to whoever else has the socket. What was received
    /// before is still to be had.
    pub fn stop(&mut self) {
        self.stopped = true;
        #[cfg(feature = "uring")]
        if let Way::Uring(ring) = &mut self.way {
            ring.stop();
        }
    }

    /// Whether nothing more comes of a socket that was stopped; true of one that goes on.
    pub fn is_quiet(&self) -> bool {
        match &self.way {
            Way::Mmsg { .. } => true,
            #[cfg(feature = "uring")]
            Way::Uring(ring) => !self.stopped || ring.is_over(),
        }
    }

    /// Asks the runtime whether a receive may find something; if not, the task is woken when it
    /// may.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> bool {
        match &mut self.way {
            Way::Mmsg { socket, readable, .. } => {
                *readable |= matches!(socket.poll_read_ready(cx), Poll::Ready(Ok(_)));
                *readable && !self.stopped
            }
            #[cfg(feature = "uring")]
            Way::Uring(ring) => ring.poll_ready(cx),
        }
    }

    /// Receives at most a batch into `lanes`, without waiting; gives how many.
    pub fn receive(&mut self, batch: &mut Batch, lanes: &mut [Lane]) -> usize {
        match &mut self.way {
            Way::Mmsg { socket, readable, .. } => {
                let mut count = 0;
                let drained = socket.try_io(Interest::READABLE, |socket| {
                    count = batch.receive(socket.as_fd(), lanes, self.local)?;
                    match count {
                        BATCH_DATAGRAMS => Ok(()),
                        // Fewer than asked for: the socket is empty, the next arrival is an edge.
                        _ => Err(io::ErrorKind::WouldBlock.into()),
                    }
                });
                *readable = drained.is_ok();
                count
            }
            #[cfg(feature = "uring")]
            Way::Uring(ring) => ring.receive(lanes),
        }
    }

    /// Receives at most a batch that is left for a socket which is about to be closed, whether or
    /// not the runtime has told of it.
    pub fn receive_last(&mut self, batch: &mut Batch, lanes: &mut [Lane]) -> usize {
        let socket = match &mut self.way {
            Way::Mmsg { socket, .. } => socket.get_ref(),
            #[cfg(feature = "uring")]
            Way::Uring(ring) if ring.is_ready() => return ring.receive(lanes),
            #[cfg(feature = "uring")]
            Way::Uring(ring) => ring.socket(),
        };
        batch.receive(socket.as_fd(), lanes, self.local).unwrap_or(0)
    }

    /// Sends the replies of those lanes that have one.
    pub fn send(&mut self, batch: &mut Batch, lanes: &[Lane]) -> Sent {
        match &mut self.way {
            Way::Mmsg { socket, gso, .. } => {
                let wildcard = self.local.ip().is_unspecified();
                batch.send(socket.get_ref().as_fd(), lanes, wildcard, *gso)
            }
            #[cfg(feature = "uring")]
            Way::Uring(ring) => ring.send(lanes),
        }
    }
}

#[cfg(test)]
mod tests;
