//! What takes queries to the server and brings answers back: a connected UDP socket, or a TCP
//! connection that persists, with or without TLS. Nothing here ever waits, but for connecting.

use crate::cli::SOCKET_BUFFER_BYTES;
use crate::message::QUERY_LEN_MAX;
use crate::sys::{Datagrams, Peers};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use socket2::SockRef;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
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

/// How a stream is protected.
pub type Tls = Arc<ClientConfig>;

/// DNS over TLS (RFC 7858) to servers whose certificate comes from one in `file` (PEM).
pub fn tls(file: &Path) -> Result<Tls, String> {
    let fail = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| fail(&error))? {
        let certificate = certificate.map_err(|error| fail(&error))?;
        roots.add(certificate).map_err(|error| fail(&error))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| fail(&error))?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"dot".to_vec()];
    Ok(Arc::new(config))
}

/// A TCP connection.
pub struct Stream {
    socket: TcpStream,
    target: SocketAddr,
    /// With TLS: how, and the session.
    tls: Option<(Tls, Box<ClientConnection>)>,
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

    /// The address that answers come to; `None` of a connection, for which the kernel keeps what comes.
    pub fn receives_at(&self) -> Option<SocketAddr> {
        match self {
            Self::Udp(socket) => socket.local_addr().ok(),
            Self::Tcp(_) => None,
        }
    }

    /// Opens a connection.
    pub fn tcp(target: SocketAddr, tls: Option<&Tls>) -> io::Result<Self> {
        let input = vec![0; 2 + usize::from(u16::MAX)].into_boxed_slice();
        let (socket, session) = connect(target, tls)?;
        let tls = tls.cloned().zip(session);
        Ok(Self::Tcp(Stream { socket, target, tls, output: Vec::new(), input, filled: 0 }))
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
                    stream.protect()?;
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
                let config = stream.tls.take().map(|(config, _)| config);
                let (socket, session) = connect(stream.target, config.as_ref())?;
                stream.socket = socket;
                stream.tls = config.zip(session);
                stream.output.clear();
                stream.filled = 0;
                Ok(true)
            }
        }
    }
}

impl Stream {
    /// With TLS, makes what is to be written a record. There is one for each query: some servers
    /// read no further than to the first message of a record until another comes.
    fn protect(&mut self) -> io::Result<()> {
        if let Some((_, session)) = &mut self.tls {
            session.writer().write_all(&self.output)?;
            self.output.clear();
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        if let Some((_, session)) = &mut self.tls {
            while session.wants_write() {
                if none_if_it_would_block(session.write_tls(&mut self.socket))? == 0 {
                    break;
                }
            }
            return Ok(());
        }
        if self.output.is_empty() {
            return Ok(());
        }
        let count = none_if_it_would_block(self.socket.write(&self.output))?;
        self.output.drain(..count);
        Ok(())
    }

    /// Reads what there is into the room that is left of the input; `None`: nothing.
    fn read(&mut self) -> io::Result<Option<usize>> {
        let room = &mut self.input[self.filled..];
        let read = match &mut self.tls {
            None => self.socket.read(room),
            Some((_, session)) => {
                match session.read_tls(&mut self.socket) {
                    // What has been read before may still have to be delivered.
                    Ok(_) => {}
                    Err(error) if is_transient(&error) => {}
                    Err(error) => return Err(error),
                }
                session.process_new_packets().map_err(io::Error::other)?;
                session.reader().read(room)
            }
        };
        match read {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => Ok(Some(count)),
            Err(error) if is_transient(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn receive(&mut self, mut deliver: impl FnMut(&[u8])) -> io::Result<usize> {
        self.write()?;
        let Some(count) = self.read()? else { return Ok(0) };
        self.filled += count;
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

/// A connection, and with TLS a session whose handshake is done.
fn connect(
    target: SocketAddr,
    tls: Option<&Tls>,
) -> io::Result<(TcpStream, Option<Box<ClientConnection>>)> {
    let mut socket = TcpStream::connect_timeout(&target, CONNECT_TIME_OUT)?;
    socket.set_nodelay(true)?;
    let session = match tls {
        None => None,
        Some(config) => {
            socket.set_read_timeout(Some(CONNECT_TIME_OUT))?;
            let name = ServerName::IpAddress(target.ip().into());
            let session = ClientConnection::new(Arc::clone(config), name);
            let mut session = Box::new(session.map_err(io::Error::other)?);
            // What a server does not take is bounded by the queries that may be outstanding.
            session.set_buffer_limit(None);
            while session.is_handshaking() {
                session.complete_io(&mut socket)?;
            }
            Some(session)
        }
    };
    socket.set_nonblocking(true)?;
    Ok((socket, session))
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
