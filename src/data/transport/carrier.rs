//! What carries the octets of a connection: its socket, or TLS upon it (RFC 7858, RFC 8446).
//!
//! Guarantees: at most [`STREAM_SEALED_BYTES_MAX`] octets are sealed that the socket has not taken;
//! what TLS has to say by itself (handshake, alert, end) goes out as soon as it is due. Nothing waits
//! here: what does not go on now says so.
//!
//! Cost: rustls allocates for each record that is opened or sealed. A record that is sealed holds all
//! replies of a turn, as far as there is room in it.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::{HandshakeKind, ServerConfig, ServerConnection};
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

use crate::data::chain::cx::Transport;
use crate::limits::STREAM_SEALED_BYTES_MAX;

/// A socket, or TLS upon one.
pub(super) enum Carrier {
    Plain(TcpStream),
    Tls(Box<Sealed>),
}

/// A socket with its TLS.
pub(super) struct Sealed {
    socket: TcpStream,
    session: ServerConnection,
    /// The client has sent something.
    heard: bool,
}

impl Carrier {
    /// TLS, which the client has to begin.
    ///
    /// # Errors
    /// `config` cannot be used.
    pub fn sealed(socket: TcpStream, config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        let mut session = ServerConnection::new(config)?;
        session.set_buffer_limit(Some(STREAM_SEALED_BYTES_MAX));
        Ok(Self::Tls(Box::new(Sealed { socket, session, heard: false })))
    }

    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(sealed) => &sealed.socket,
        }
    }

    pub fn transport(&self) -> Transport {
        match self {
            Self::Plain(_) => Transport::Tcp,
            Self::Tls(_) => Transport::Tls,
        }
    }

    /// Whether what comes next is part of a handshake, and so costs far more than a query.
    pub fn is_shaking_hands(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(sealed) => sealed.session.is_handshaking(),
        }
    }

    /// Whether the client has begun a handshake.
    pub fn has_begun(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(sealed) => sealed.heard,
        }
    }

    /// Whether the handshake that is over resumed an earlier one.
    pub fn is_resumed(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(sealed) => sealed.session.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }

    /// Whether something is sealed that the socket has not taken.
    pub fn holds_sealed(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(sealed) => sealed.session.wants_write(),
        }
    }

    /// Reads what the client has said: how many octets; 0 where it has nothing more to say.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => {
                let mut into = ReadBuf::new(into);
                ready!(tokio::io::AsyncRead::poll_read(std::pin::Pin::new(socket), cx, &mut into))?;
                Poll::Ready(Ok(into.filled().len()))
            }
            Self::Tls(sealed) => sealed.poll_read(cx, into),
        }
    }

    /// Writes what the socket takes now; of what is sealed already, first.
    ///
    /// # Errors
    /// `WouldBlock` where it takes nothing.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_write(bytes),
            Self::Tls(sealed) => sealed.write(bytes),
        }
    }

    /// Says that nothing more comes, if there is room to say it (RFC 8446 section 6.1).
    pub fn close(&mut self) {
        if let Self::Tls(sealed) = self {
            sealed.session.send_close_notify();
            let _ = sealed.send();
        }
    }
}

impl Sealed {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.session.reader().read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The end without a word of it is an end, too: each message has its length.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Poll::Ready(Ok(0));
                }
                read => return Poll::Ready(read),
            }
            ready!(self.socket.poll_read_ready(cx))?;
            match self.session.read_tls(&mut Octets(&self.socket)) {
                Ok(count) => self.heard |= count > 0,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Poll::Ready(Err(error)),
            }
            let taken = self.session.process_new_packets();
            let sent = match self.send() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
                sent => sent,
            };
            taken.map_err(io::Error::other)?;
            sent?;
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send()?;
        let count = self.session.writer().write(bytes)?;
        match self.send() {
            // It is ours to send now, and `holds_sealed` says so.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && count > 0 => Ok(count),
            sent => sent.map(|()| count),
        }
    }

    /// Writes what is sealed.
    fn send(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut Octets(&self.socket)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// A socket that never waits, as rustls reads and writes it.
struct Octets<'s>(&'s TcpStream);

impl Read for Octets<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(into)
    }
}

impl Write for Octets<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, bytes: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
