//! The `uring` engine: client UDP through io_uring, on the runtime of `tokio-uring`.
//!
//! A socket has [`RING_RECEIVES`] receives in flight. A turn takes what has completed, submits each
//! receive anew at once, and submits its replies; one system call carries all of them into the
//! kernel, when the thread parks. Plain TCP stays on the runtime's own sockets, whose reads already
//! bring a whole burst: the ring would save none of their calls and cost them a copy of their tasks.
//!
//! Operations are submitted as entries of our own: `tokio-uring`'s `UdpSocket` allocates four times
//! for a datagram, and has no control messages, so that a wildcard socket could not answer from the
//! address that was asked.
//!
//! Guarantees: no allocation for a datagram in the steady state; memory that the kernel may still
//! write to is owned by the driver until it has finished with it, whatever is dropped. Needs Linux
//! 5.19 (cancellation by descriptor). A socket that is closed by a reload may take datagrams with it
//! that have completed since the turn looked.
//!
//! Entries are submitted only when the thread parks: a turn that wants to be called again awaits
//! [`pause`], never a mere yield. `DEFER_TASKRUN` must not be set: completions would never be seen.

use std::future::Future;
use std::io;
use std::mem::zeroed;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use io_uring::types::{CancelBuilder, Fd};
use io_uring::{IoUring, Probe, cqueue, opcode, squeue};
use tokio_uring::{InFlightOneshot, OneshotOutputTransform, Runtime, UnsubmittedOneshot};

use super::Lane;
use super::mmsg::{CONTROL_BYTES, Control, Sent, asked, peer, write_peer, write_source};
use crate::limits::{LANE_BYTES, RING_ENTRIES, RING_RECEIVES, RING_SENDS_MAX};

/// Says whether the kernel lets us have a ring, with all that is needed.
///
/// # Errors
/// `PermissionDenied` where a seccomp profile or `kernel.io_uring_disabled` forbids it, `Unsupported`
/// where the kernel is too old.
pub fn probe() -> io::Result<()> {
    let ring = IoUring::new(2)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    // Socket came with 5.19, as did cancellation by descriptor, which no probe tells of.
    let needed = [opcode::RecvMsg::CODE, opcode::SendMsg::CODE, opcode::Socket::CODE];
    match needed.into_iter().all(|code| probe.is_supported(code)) {
        true => Ok(()),
        false => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// A runtime with a ring.
///
/// # Errors
/// As [`probe`].
pub fn runtime() -> io::Result<Runtime> {
    Runtime::new(tokio_uring::builder().entries(RING_ENTRIES))
}

/// Lets the runtime submit what was queued, and deliver what has completed.
pub async fn pause() {
    // Cannot fail but for want of memory in the kernel: then the next turn comes without it.
    let _ = tokio_uring::no_op().await;
}

/// A datagram on its way in or out: memory that the kernel works in.
struct Datagram {
    // The kernel follows pointers from `header` into the other fields; they are written anew for
    // each operation, and a `Datagram` that is in flight does not move: it is boxed.
    header: libc::msghdr,
    iovec: libc::iovec,
    address: libc::sockaddr_storage,
    control: Control,
    buffer: Box<[u8]>,
    /// Keeps the descriptor open until the operation is over: an entry names it by number, and is
    /// read only when it is submitted.
    socket: Rc<UdpSocket>,
}

/// What becomes of an operation: its result and its memory.
struct Outcome;

impl OneshotOutputTransform for Outcome {
    type Output = (io::Result<usize>, Box<Datagram>);
    type StoredData = Box<Datagram>;

    fn transform_oneshot_output(
        self,
        datagram: Box<Datagram>,
        entry: cqueue::Entry,
    ) -> Self::Output {
        let result = usize::try_from(entry.result());
        (result.map_err(|_| io::Error::from_raw_os_error(-entry.result())), datagram)
    }
}

type InFlight = InFlightOneshot<Box<Datagram>, Outcome>;

impl Datagram {
    fn new(socket: &Rc<UdpSocket>) -> Box<Self> {
        // SAFETY: plain C structs, for which all zeroes (null pointers, no lengths) is valid.
        let (header, iovec, address) = unsafe { (zeroed(), zeroed(), zeroed()) };
        Box::new(Self {
            header,
            iovec,
            address,
            control: Control([0; CONTROL_BYTES]),
            buffer: vec![0; LANE_BYTES].into_boxed_slice(),
            socket: Rc::clone(socket),
        })
    }

    /// Points the header at the other fields.
    fn aim(&mut self, address_len: libc::socklen_t, buffer_len: usize, control_len: usize) {
        self.iovec = libc::iovec { iov_base: self.buffer.as_mut_ptr().cast(), iov_len: buffer_len };
        let control = (&raw mut self.control).cast();
        self.header.msg_name = (&raw mut self.address).cast();
        self.header.msg_namelen = address_len;
        self.header.msg_iov = &raw mut self.iovec;
        self.header.msg_iovlen = 1;
        self.header.msg_control = if control_len == 0 { std::ptr::null_mut() } else { control };
        self.header.msg_controllen = control_len;
        self.header.msg_flags = 0;
    }

    fn receive(mut self: Box<Self>, wildcard: bool) -> InFlight {
        let control_len = if wildcard { CONTROL_BYTES } else { 0 };
        let buffer_len = self.buffer.len();
        let address_len = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        self.aim(address_len, buffer_len, control_len);
        let entry = opcode::RecvMsg::new(Fd(self.socket.as_raw_fd()), &raw mut self.header).build();
        self.submit(entry)
    }

    fn send(mut self: Box<Self>, lane: &Lane, wildcard: bool) -> InFlight {
        let len = lane.output_len;
        if self.buffer.len() < len {
            self.buffer = vec![0; len].into_boxed_slice();
        }
        self.buffer[..len].copy_from_slice(&lane.output[..len]);
        let address_len = write_peer(&mut self.address, lane.client.peer);
        let control_len = match wildcard {
            true => write_source(&mut self.control, lane.client.local.ip()),
            false => 0,
        };
        self.aim(address_len, len, control_len);
        let entry =
            opcode::SendMsg::new(Fd(self.socket.as_raw_fd()), &raw const self.header).build();
        self.submit(entry)
    }

    /// The box goes into the operation, and stays in the driver if the operation is dropped: what
    /// the entry points to lives, unmoved, until the kernel has finished.
    fn submit(self: Box<Self>, entry: squeue::Entry) -> InFlight {
        UnsubmittedOneshot::new(self, Outcome, entry).submit()
    }

    /// Copies a received datagram of `len` octets into a lane.
    fn read_into(&self, lane: &mut Lane, len: usize, local: SocketAddr, wildcard: bool) {
        let whole = self.header.msg_flags & libc::MSG_TRUNC == 0 && len <= lane.input.len();
        lane.input_len = if whole { len } else { 0 };
        lane.input[..lane.input_len].copy_from_slice(&self.buffer[..lane.input_len]);
        lane.output_len = 0;
        lane.client.peer = peer(&self.address);
        lane.client.local = match wildcard {
            // SAFETY: the kernel has filled in this header's control messages.
            true => unsafe { asked(&self.header, local) },
            false => local,
        };
    }
}

/// One receive of a socket.
enum Receive {
    InFlight(InFlight),
    Done(io::Result<usize>, Box<Datagram>),
    /// The socket is being closed.
    Over,
}

/// One UDP socket on the ring of this thread.
pub struct RingSocket {
    socket: Rc<UdpSocket>,
    local: SocketAddr,
    wildcard: bool,
    receives: Vec<Receive>,
    /// How many receives are done.
    ready: usize,
    /// Receives that are over are not begun anew.
    stopped: bool,
    sends: Vec<InFlight>,
    #[allow(clippy::vec_box, reason = "a box goes into the operation as it is")]
    free: Vec<Box<Datagram>>,
}

impl RingSocket {
    /// Starts to receive. Must be called on a runtime with a ring.
    ///
    /// # Errors
    /// The socket's mode cannot be changed.
    pub fn open(socket: UdpSocket, local: SocketAddr) -> io::Result<Self> {
        // With O_NONBLOCK io_uring would complete a receive at once instead of waiting for a
        // datagram. All other calls on this socket say MSG_DONTWAIT.
        socket.set_nonblocking(false)?;
        let socket = Rc::new(socket);
        let wildcard = local.ip().is_unspecified();
        let receive = |_| Receive::InFlight(Datagram::new(&socket).receive(wildcard));
        let receives = (0..RING_RECEIVES).map(receive).collect();
        let (sends, free) =
            (Vec::with_capacity(RING_SENDS_MAX), Vec::with_capacity(RING_SENDS_MAX));
        Ok(Self { socket, local, wildcard, receives, ready: 0, stopped: false, sends, free })
    }

    /// The socket.
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Whether datagrams wait to be taken.
    pub fn is_ready(&self) -> bool {
        self.ready != 0
    }

    /// Looks for receives that have completed, and asks to be woken for the others; whether there
    /// are any.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> bool {
        for receive in &mut self.receives {
            if let Receive::InFlight(operation) = receive
                && let Poll::Ready((result, datagram)) = Pin::new(operation).poll(cx)
            {
                *receive = Receive::Done(result, datagram);
                self.ready += 1;
            }
        }
        self.is_ready()
    }

    /// Takes what was received, as many as there are lanes, and receives anew.
    pub fn receive(&mut self, lanes: &mut [Lane]) -> usize {
        let mut count = 0;
        for receive in &mut self.receives {
            if count == lanes.len() || self.ready == 0 {
                break;
            }
            match std::mem::replace(receive, Receive::Over) {
                Receive::Done(result, datagram) => {
                    self.ready -= 1;
                    // An error is of the network, about an earlier reply: nothing was received.
                    if let Ok(len) = result {
                        datagram.read_into(&mut lanes[count], len, self.local, self.wildcard);
                        count += 1;
                    }
                    if !self.stopped {
                        *receive = Receive::InFlight(datagram.receive(self.wildcard));
                    }
                }
                other => *receive = other,
            }
        }
        count
    }

    /// Sends the replies of those lanes that have one; refused is what finds too many on their way.
    pub fn send(&mut self, lanes: &[Lane]) -> Sent {
        self.reap();
        let mut done = Sent::default();
        for lane in lanes.iter().filter(|lane| lane.output_len != 0) {
            if self.sends.len() == RING_SENDS_MAX {
                done.refused += 1;
                continue;
            }
            let datagram = self.free.pop().unwrap_or_else(|| Datagram::new(&self.socket));
            self.sends.push(datagram.send(lane, self.wildcard));
            done.sent += 1;
        }
        done
    }

    /// Takes back what has been sent. Nobody waits for that: no waker.
    fn reap(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        let mut index = 0;
        while index < self.sends.len() {
            match Pin::new(&mut self.sends[index]).poll(&mut cx) {
                Poll::Pending => index += 1,
                Poll::Ready((_, mut datagram)) => {
                    self.sends.swap_remove(index);
                    if datagram.buffer.len() > LANE_BYTES {
                        datagram.buffer = vec![0; LANE_BYTES].into_boxed_slice();
                    }
                    self.free.push(datagram);
                }
            }
        }
    }
}

impl RingSocket {
    /// Ends the receives. Those that had a datagram by then are ready; the others are over.
    pub fn stop(&mut self) {
        if !std::mem::replace(&mut self.stopped, true) {
            self.cancel();
        }
    }

    /// Whether no receive is under way, and none is ready.
    pub fn is_over(&self) -> bool {
        self.receives.iter().all(|receive| matches!(receive, Receive::Over))
    }

    fn cancel(&mut self) {
        let datagram = self.free.pop().unwrap_or_else(|| Datagram::new(&self.socket));
        // Sends are named by the same descriptor: they have been taken by the kernel at once.
        let all = CancelBuilder::fd(Fd(self.socket.as_raw_fd())).all();
        drop(datagram.submit(opcode::AsyncCancel2::new(all).build()));
    }
}

impl Drop for RingSocket {
    /// Ends the receives: they would hold the socket open, and take datagrams for nobody.
    fn drop(&mut self) {
        self.cancel();
    }
}
