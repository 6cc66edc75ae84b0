//! The successor's side: to find who serves, to take what it has, to say that one serves.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use socket2::{Domain, SockAddr, Socket, Type};

use super::link::Link;
use super::{BY_STDIN, Inherited, VARIABLE, VERSION, Word, door};
use crate::limits::HAND_OVER_DESCRIPTORS_TOTAL_MAX;

/// A server that is to be succeeded, which serves until it is told that this process does.
pub struct Claim {
    link: Link,
}

/// Finds the server that this process is to succeed: the one that has started it, or the one whose
/// socket is in the folder. `None`: there is none.
///
/// # Errors
/// There is one that cannot be succeeded, for the reason that is told.
pub async fn begin(folder: Option<&Path>) -> Result<Option<Claim>, String> {
    let socket = match std::env::var(VARIABLE).is_ok_and(|value| value == BY_STDIN) {
        true => Some(std::io::stdin().as_fd().try_clone_to_owned().map(Socket::from)),
        false => match folder {
            Some(folder) => connect(folder).transpose(),
            None => None,
        },
    };
    let Some(socket) = socket else { return Ok(None) };
    let failed = |error: io::Error| format!("hand-over: {error}");
    let link = socket.and_then(Link::new).map_err(failed)?;
    let claim = Claim { link };
    let hello = Word::Hello { version: VERSION, http: true };
    if claim.link.say(&hello, &[]).await.is_err() {
        return Ok(None);
    }
    match claim.link.answer().await.map_err(failed)? {
        None => Ok(None),
        Some((Word::Welcome { version: VERSION }, _)) => {
            tracing::info!("Succeeding process {}", claim.link.pid());
            Ok(Some(claim))
        }
        Some((other, _)) => Err(unexpected(other)),
    }
}

/// The connection; `None`: nobody listens.
fn connect(folder: &Path) -> io::Result<Option<Socket>> {
    let path = door(folder);
    let told = |error: io::Error| {
        let words = format!("{}: {error}", path.display());
        io::Error::new(error.kind(), words)
    };
    let address = SockAddr::unix(&path).map_err(told)?;
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
    match socket.connect(&address) {
        Ok(()) => Ok(Some(socket)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
            _ => Err(told(error)),
        },
    }
}

fn unexpected(word: Word) -> String {
    match word {
        Word::Refused { why } => format!("hand-over: refused: {why}"),
        _ => "hand-over: the other process speaks another protocol".to_owned(),
    }
}

impl Claim {
    /// Takes what the other has. Nothing, if it has ended meanwhile.
    ///
    /// # Errors
    /// It refuses, or says what nobody asked for.
    pub async fn take(&self) -> Result<Inherited, String> {
        let mut inherited = Inherited::default();
        if self.link.say(&Word::Take, &[]).await.is_err() {
            return Ok(inherited);
        }
        let mut count = 0;
        loop {
            let answer = self.link.answer().await;
            match answer.map_err(|error| format!("hand-over: {error}"))? {
                None => return Ok(inherited),
                Some((Word::Given { held, more, kept }, descriptors)) => {
                    count += descriptors.len();
                    let told = held.len() == descriptors.len();
                    if !told || count > HAND_OVER_DESCRIPTORS_TOTAL_MAX {
                        return Err("hand-over: descriptors and their names differ".to_owned());
                    }
                    let pairs: Vec<(_, OwnedFd)> = held.iter().zip(descriptors).collect();
                    pairs.into_iter().for_each(|(held, one)| inherited.add(held, one));
                    kept.iter().for_each(|held| inherited.mark_kept(held));
                    if !more {
                        return Ok(inherited);
                    }
                }
                Some((other, _)) => return Err(unexpected(other)),
            }
        }
    }

    /// Says that this process serves. The other has said by then if it no longer wants that.
    ///
    /// # Errors
    /// It no longer does: this process is to end.
    pub async fn serving(self) -> Result<Link, String> {
        let refused = tokio::select! {
            biased;
            heard = self.link.hear() => heard.ok().flatten(),
            () = std::future::ready(()) => None,
        };
        if let Some((word, _)) = refused {
            return Err(unexpected(word));
        }
        // One that is gone needs no word: its sockets are ours.
        let _ = self.link.say(&Word::Serving, &[]).await;
        Ok(self.link)
    }
}
