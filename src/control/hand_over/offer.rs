//! The server's side: to be found, to give, to learn that another serves.

use std::fs::Permissions;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep_until};

use super::link::Link;
use super::{BY_STDIN, Held, VARIABLE, VERSION, Word, listen, own_command};
use crate::limits::{HAND_OVER_DESCRIPTORS_MAX, HAND_OVER_SECONDS_MAX};
use crate::sys;

/// What a server has to do with successors. Without a folder only one of its own making is known.
#[derive(Default)]
pub struct Offers {
    door: Option<Door>,
    successor: Option<Successor>,
}

/// The socket in the folder.
struct Door {
    socket: AsyncFd<Socket>,
    path: PathBuf,
}

/// A successor that has begun.
pub struct Successor {
    /// Open for as long as it lives.
    pub link: Link,
    /// If it was started here.
    child: Option<Child>,
    stage: Stage,
    /// Whether it takes the sockets of HTTP end points.
    http: bool,
}

impl Successor {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().and_then(Child::id).unwrap_or_else(|| self.link.pid())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It is on its way.
    Began,
    /// It waits for what there is.
    Asked,
    /// It has that, until then.
    Given(Instant),
    /// It serves.
    Serves,
}

/// What has happened.
pub enum Heard {
    /// Somebody has come to the door.
    Knock(Socket),
    /// The successor has said something, or is gone.
    Word(io::Result<Option<(Word, Vec<OwnedFd>)>>),
    /// The successor takes too long.
    Late,
}

impl Offers {
    /// Prepares the socket in the folder, under a name that nobody looks for. In a folder that cannot
    /// be written there is none, and an error line: to serve comes first.
    ///
    /// # Errors
    /// The folder is not there, or its name is too long for a Unix socket.
    pub fn prepare(folder: Option<&Path>) -> Result<Self, String> {
        let Some(folder) = folder else { return Ok(Self::default()) };
        let path = folder.join(format!(".corelane.{}.sock", std::process::id()));
        let failed = |error: io::Error| {
            format!("-hand-over {}: {error}: name a directory that is there", folder.display())
        };
        // Of a process that had our number and crashed.
        let _ = std::fs::remove_file(&path);
        let open = || {
            let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
            socket.bind(&SockAddr::unix(&path)?)?;
            std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
            socket.set_nonblocking(true)?;
            socket.listen(1)?;
            sys::watch(socket)
        };
        match open() {
            Ok(socket) => Ok(Self { door: Some(Door { socket, path }), successor: None }),
            Err(error) if is_lasting(&error) => {
                let folder = folder.display();
                tracing::error!(
                    "-hand-over {folder}: {error}: no successor will find this process"
                );
                Ok(Self::default())
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Lets the socket be found, in the place of whoever was found before. If the folder is gone, that
    /// is an error line: this process serves, and may be the only one.
    pub fn open(&mut self) {
        let Some(door) = &mut self.door else { return };
        let found = super::door(door.path.parent().unwrap_or(Path::new("")));
        match std::fs::rename(&door.path, &found) {
            Ok(()) => door.path = found,
            Err(error) => {
                let found = found.display();
                tracing::error!(
                    "-hand-over: {found}: {error}: no successor will find this process"
                );
            }
        }
    }

    /// Starts a successor: the program, with the same arguments.
    ///
    /// # Errors
    /// One has begun already, or the program cannot be started.
    pub fn start(&mut self) -> Result<(), String> {
        if let Some(successor) = &self.successor {
            return Err(format!("process {} succeeds already", successor.pid()));
        }
        let (program, args) = own_command();
        let begin = || {
            let (ours, theirs) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None)?;
            let stdin = Stdio::from(OwnedFd::from(theirs));
            let mut command = Command::new(&program);
            // What systemd has left open is not left open for the child: it is handed over.
            for name in listen::VARIABLES {
                command.env_remove(name);
            }
            let child = command.args(&args).env(VARIABLE, BY_STDIN).stdin(stdin).spawn()?;
            Ok((Link::new(ours)?, child))
        };
        let (link, child) = begin()
            .map_err(|error: io::Error| format!("{}: {error}", program.to_string_lossy()))?;
        let child = Some(child);
        self.successor = Some(Successor { link, child, stage: Stage::Began, http: false });
        Ok(())
    }

    /// Waits for what happens next. May be given up and begun anew at any time.
    pub async fn heard(&self) -> Heard {
        let knock = async {
            match &self.door {
                Some(door) => loop {
                    match door.socket.async_io(Interest::READABLE, Socket::accept).await {
                        Ok((socket, _)) => break Heard::Knock(socket),
                        Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                    }
                },
                None => std::future::pending().await,
            }
        };
        let word = async {
            match &self.successor {
                // One that serves says nothing more; its end is looked for elsewhere.
                Some(one) if one.stage != Stage::Serves => Heard::Word(one.link.hear().await),
                _ => std::future::pending().await,
            }
        };
        let late = async {
            match self.successor.as_ref().map(|one| one.stage) {
                Some(Stage::Given(latest)) => sleep_until(latest).await,
                _ => std::future::pending().await,
            }
            Heard::Late
        };
        tokio::select! {
            // First whether the one that has begun is gone: then another is welcome.
            biased;
            heard = word => heard,
            heard = late => heard,
            heard = knock => heard,
        }
    }

    /// Does what follows from it.
    pub async fn note(&mut self, heard: Heard) {
        match heard {
            Heard::Knock(socket) => self.admit(socket).await,
            Heard::Late => self.refuse("it took too long").await,
            Heard::Word(Ok(Some((word, _)))) => self.obey(word).await,
            Heard::Word(Ok(None)) => self.lose("it has ended"),
            Heard::Word(Err(error)) => self.lose(&error.to_string()),
        }
    }

    async fn admit(&mut self, socket: Socket) {
        let link = match Link::new(socket) {
            Ok(link) => link,
            Err(error) => return tracing::error!("Hand-over: {error}"),
        };
        if let Some(other) = &self.successor {
            let why = format!("process {} succeeds already", other.pid());
            let _ = link.say(&Word::Refused { why }, &[]).await;
            return;
        }
        self.successor = Some(Successor { link, child: None, stage: Stage::Began, http: false });
    }

    async fn obey(&mut self, word: Word) {
        let Some(successor) = &mut self.successor else { return };
        match (word, successor.stage) {
            (Word::Hello { version: VERSION, http }, Stage::Began) => {
                successor.http = http;
                let _ = successor.link.say(&Word::Welcome { version: VERSION }, &[]).await;
                tracing::info!("Process {} starts to succeed this one", successor.pid());
            }
            (Word::Hello { version, .. }, Stage::Began) => {
                let why = format!("protocol {version} here, {VERSION} there: stop this one first");
                self.refuse(&why).await;
            }
            (Word::Take, Stage::Began) => successor.stage = Stage::Asked,
            (Word::Serving, Stage::Given(_)) => successor.stage = Stage::Serves,
            _ => self.refuse("it speaks another protocol").await,
        }
    }

    async fn refuse(&mut self, why: &str) {
        if let Some(successor) = &self.successor {
            let _ = successor.link.say(&Word::Refused { why: why.to_owned() }, &[]).await;
        }
        self.lose(why);
    }

    fn lose(&mut self, why: &str) {
        let Some(successor) = self.successor.take() else { return };
        let pid = successor.pid();
        tracing::error!("Process {pid} does not succeed this one: {why}. Serving goes on");
        if let Some(mut child) = successor.child {
            // Taken off the kernel's list, once it has ended.
            tokio::spawn(async move { drop(child.wait().await) });
        }
    }

    /// Gives the successor what it has asked for, descriptors in the order of their names, each with
    /// whether somebody else keeps it.
    pub async fn give(&mut self, all: &[(Held, BorrowedFd<'_>, bool)]) {
        let Some(successor) = &mut self.successor else { return };
        let known = |held: &Held| successor.http || !matches!(held, Held::Http(_));
        let all: Vec<_> = all.iter().filter(|(held, ..)| known(held)).collect();
        let mut parts = all.chunks(HAND_OVER_DESCRIPTORS_MAX).peekable();
        if parts.peek().is_none() {
            let nothing = Word::Given { held: Vec::new(), more: false, kept: Vec::new() };
            let _ = successor.link.say(&nothing, &[]).await;
        }
        while let Some(part) = parts.next() {
            let held = part.iter().map(|(held, ..)| held.clone()).collect();
            let kept = part.iter().filter(|(.., is_kept)| *is_kept);
            let kept = kept.map(|(held, ..)| held.clone()).collect();
            let descriptors: Vec<_> = part.iter().map(|(_, one, _)| *one).collect();
            let word = Word::Given { held, more: parts.peek().is_some(), kept };
            if let Err(error) = successor.link.say(&word, &descriptors).await {
                return self.lose(&error.to_string());
            }
        }
        let latest = Instant::now() + Duration::from_secs(HAND_OVER_SECONDS_MAX);
        successor.stage = Stage::Given(latest);
    }

    /// Whether a successor has begun.
    pub fn has_successor(&self) -> bool {
        self.successor.is_some()
    }

    /// Whether a successor waits for what there is.
    pub fn is_asked(&self) -> bool {
        self.successor.as_ref().is_some_and(|one| one.stage == Stage::Asked)
    }

    /// Whether a successor has what there is: nothing of that may change.
    pub fn is_given(&self) -> bool {
        self.successor.as_ref().is_some_and(|one| matches!(one.stage, Stage::Given(_)))
    }

    /// The successor that serves, if there is one: then there are no more offers.
    pub fn take_successor(&mut self) -> Option<Successor> {
        let successor = self.successor.take_if(|one| one.stage == Stage::Serves)?;
        // What is found in the folder is the successor's door.
        if let Some(door) = &mut self.door {
            door.path = PathBuf::new();
        }
        Some(successor)
    }
}

/// Whether a folder is there, and cannot be written: it is another user's, on a file system that is
/// read only, or one that is full.
fn is_lasting(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), PermissionDenied | QuotaExceeded | ReadOnlyFilesystem | StorageFull)
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
