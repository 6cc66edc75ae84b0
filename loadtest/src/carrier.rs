//! What takes queries to the server and brings answers back: a connected UDP socket, or a TCP
//! connection that persists. Nothing here ever waits, but for connecting.

use crate::cli::SOCKET_BUFFER_BYTES;
use crate::message::QUERY_LEN_MAX;
use crate::sys::{Datagrams, Peers};
use socket2::SockRef;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

/// Room for one UDP answer, in bytes; more is cut off, and the answer known by its beginning.
const ANSWER_LEN_MAX: usize = 4096;
const CONNECT_TIME_OUT: Duration = Duration::from_secs(5);

/// The buffers that all carriers of a process share.
pub struct Buffers {
    /// Queries to be sent; each buffer holds [`QUERY_LEN_MAX`] bytes.
    pub queries: Datagrams,
    answers: Datagrams,
}

impl Buffers {
    /// For at most `batch` messages in one system call.
    pub fn new(batch: usize) -> Self {
        let query_room = QUERY_LEN_MAX.next_multiple_of(64);
        Self {
            queries: Datagrams::new(batch, query_room, Peers::Connected),
            answers: Datagrams::new(batch, ANSWER_LEN_MAX, Peers::Connected),
        }
    }
}

/// A socket to the server.
pub enum Carrier {
    /// A datagram a message.
    Udp(UdpSocket),
    /// Messages with a length before each (RFC 1035 section 4.2.2), pipelined (RFC 7766).
    Tcp(Stream),
}

/// A TCP connection.
pub struct Stream {
    socket: TcpStream,
    target: SocketAddr,
    /// Queries that the kernel has not taken yet.
    output: Vec<u8>,
    /// Bytes received, of which the first `filled` are not delivered yet.
    input: Box<[u8]>,
    filled: usize,
}

impl Carrier {
    /// Opens a UDP socket of its own port.
    pub fn udp(target: SocketAddr) -> io::Result<Self> {
        let any: SocketAddr = match target {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(target)?;
        socket.set_nonblocking(true)?;
        SockRef::from(&socket).set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
        SockRef::from(&socket).set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
        Ok(Self::Udp(socket))
    }

    /// Opens a connection.
    pub fn tcp(target: SocketAddr) -> io::Result<Self> {
        let input = vec![0; 2 + usize::from(u16::MAX)].into_boxed_slice();
        let socket = connect(target)?;
        Ok(Self::Tcp(Stream { socket, target, output: Vec::new(), input, filled: 0 }))
    }

    /// Sends the first `count` queries of `buffers`; says how many of these, from the first,
    /// are on their way.
    pub fn send(&mut self, buffers: &mut Buffers, count: usize) -> io::Result<usize> {
        match self {
            Self::Udp(socket) => {
                none_if_it_would_block(buffers.queries.send(socket.as_fd(), 0..count))
            }
            Self::Tcp(stream) => {
                for index in 0..count {
                    let len = buffers.queries.len_of(index);
                    stream.output.extend_from_slice(&(len as u16).to_be_bytes());
                    stream.output.extend_from_slice(&buffers.queries.buffer(index)[..len]);
                }
                stream.write().map(|()| count)
            }
        }
    }

    /// Hands what has come to `deliver`, at most a batch (UDP) or a buffer (TCP); says how many
    /// messages that were.
    pub fn receive(
        &mut self,
        buffers: &mut Buffers,
        mut deliver: impl FnMut(&[u8]),
    ) -> io::Result<usize> {
        match self {
            Self::Udp(socket) => {
                let answers = &mut buffers.answers;
                let count = none_if_it_would_block(answers.receive(socket.as_fd(), false))?;
                for index in 0..count {
                    deliver(answers.received(index).0);
                }
                Ok(count)
            }
            Self::Tcp(stream) => stream.receive(deliver),
        }
    }

    /// Goes on after an error; says whether the queries that were outstanding are gone.
    pub fn recover(&mut self) -> io::Result<bool> {
        match self {
            // The kernel has told the error (port unreachable), and forgot it.
            Self::Udp(_) => Ok(false),
            Self::Tcp(stream) => {
                stream.socket = connect(stream.target)?;
                stream.output.clear();
                stream.filled = 0;
                Ok(true)
            }
        }
    }
}

impl Stream {
    fn write(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        let count = none_if_it_would_block(self.socket.write(&self.output))?;
        self.output.drain(..count);
        Ok(())
    }

    fn receive(&mut self, mut deliver: impl FnMut(&[u8])) -> io::Result<usize> {
        self.write()?;
        match self.socket.read(&mut self.input[self.filled..]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => self.filled += count,
            Err(error) if is_transient(&error) => return Ok(0),
            Err(error) => return Err(error),
        }
        let mut rest = &self.input[..self.filled];
        let mut count = 0;
        while let Some((prefix, after)) = rest.split_first_chunk::<2>() {
            let len = usize::from(u16::from_be_bytes(*prefix));
            let Some((message, after)) = after.split_at_checked(len) else { break };
            deliver(message);
            count += 1;
            rest = after;
        }
        let left = rest.len();
        self.input.copy_within(self.filled - left..self.filled, 0);
        self.filled = left;
        Ok(count)
    }
}

fn connect(target: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&target, CONNECT_TIME_OUT)?;
    socket.set_nodelay(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn none_if_it_would_block(outcome: io::Result<usize>) -> io::Result<usize> {
    match outcome {
        Err(error) if is_transient(&error) => Ok(0),
        outcome => outcome,
    }
}
