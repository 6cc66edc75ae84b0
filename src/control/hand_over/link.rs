//! A connection between a server and its successor: packets of words, with descriptors.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use socket2::Socket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use super::Word;
use crate::limits::{
    HAND_OVER_BYTES_MAX, HAND_OVER_DESCRIPTORS_MAX, HAND_OVER_MESSAGE_SECONDS_MAX,
};
use crate::sys::{self, Peer};

/// For a message to be taken, or to come where it is due.
pub const MESSAGE: Duration = Duration::from_secs(HAND_OVER_MESSAGE_SECONDS_MAX);

/// One end of it. Open for as long as its process lives: its end is a sign to the other.
pub struct Link {
    socket: AsyncFd<Socket>,
    peer: Peer,
}

impl Link {
    /// Of a connected socket of packets; inside a runtime.
    ///
    /// # Errors
    /// The other is neither of our user nor root's; or the kernel refuses.
    pub fn new(socket: Socket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let peer = sys::peer_of(socket.as_fd())?;
        if peer.uid != 0 && peer.uid != sys::user() {
            let words = format!("process {} is of another user ({})", peer.pid, peer.uid);
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, words));
        }
        Ok(Self { socket: sys::watch(socket)?, peer })
    }

    /// The other's process id.
    pub fn pid(&self) -> u32 {
        self.peer.pid
    }

    /// Says a word. Waits until it fits, for so long as a message may take.
    ///
    /// # Errors
    /// The other is gone, or does not listen.
    pub async fn say(&self, word: &Word, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let text = serde_json::to_vec(word)?;
        let send = self.socket.async_io(Interest::WRITABLE, |socket| {
            sys::send_with(socket.as_fd(), &text, descriptors)
        });
        timeout(MESSAGE, send).await?
    }

    /// The next word; `None` when the other is gone. May be given up and begun anew at any time.
    ///
    /// # Errors
    /// What came is no word of this protocol.
    pub async fn hear(&self) -> io::Result<Option<(Word, Vec<OwnedFd>)>> {
        let mut bytes = vec![0; HAND_OVER_BYTES_MAX];
        let received = self.socket.async_io(Interest::READABLE, |socket| {
            sys::receive_with(socket.as_fd(), &mut bytes, HAND_OVER_DESCRIPTORS_MAX)
        });
        match received.await {
            Ok((0, _)) => Ok(None),
            Ok((len, descriptors)) => {
                Ok(Some((serde_json::from_slice(&bytes[..len])?, descriptors)))
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The next word, where one is due.
    ///
    /// # Errors
    /// None came, or no word of this protocol.
    pub async fn answer(&self) -> io::Result<Option<(Word, Vec<OwnedFd>)>> {
        timeout(MESSAGE, self.hear()).await?
    }

    /// Waits for the other's end, whatever it says.
    pub async fn over(&self) {
        while let Ok(Some(_)) = self.hear().await {}
    }
}
