//! Hand-over: one process takes the place of another, and no query is lost on the way.
//!
//! The successor starts as any server does, beside the one that serves. When all that it needs is
//! there it asks for the sockets, and gets descriptors of those that are served, with what waits in
//! them; with them comes what holds a node's rules and addresses ([`super::node_local`]). It binds what
//! it has more, serves, and says so. From then on the other takes nothing more: it finishes what it has
//! begun, lets connections be until they are quiet, and ends. What a changed Corefile no longer listens
//! on ends with it.
//!
//! They find each other in one of two ways: by a socket in a folder that the operator names
//! (`-hand-over DIR`; for a pod that replaces another on a node, a directory of the host), or because
//! the one has started the other (SIGUSR2). Either way the kernel says who the other is: a process of
//! the same user, or root's.
//!
//! A crash leaves one serving: until a successor has said that it serves, its end is an error line and
//! nothing more; once it has the sockets it goes on without the other. One that asks and then takes
//! longer than `HAND_OVER_SECONDS_MAX` is refused, and ends.
//!
//! With the sockets of DNS come those of health, readiness and metrics: until the successor has them
//! the other answers there, and what has come to it is answered before it ends. No probe is refused.
//!
//! Sockets that systemd holds for the process ([`listen`]) are taken in the same way, and go from a server
//! to its successor with the word that somebody keeps them.
//!
//! The messages are packets of JSON on a Unix socket, descriptors beside them (SCM_RIGHTS) in the order
//! in which the message names them: `hello` and `welcome` with the version of this protocol, `take` and
//! one or more `given`, `serving`; `refused` with the reason instead of any answer. Whoever says hello
//! says beside the version what it takes of what was added since; of that, nobody gives more. So an old
//! version succeeds a new one, too.

pub mod claim;
pub mod link;
pub mod listen;
pub mod offer;
pub mod standby;

use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data::transport::sockets::{Given, Kept};

/// Tells a process that it is to succeed the one that has started it.
pub const VARIABLE: &str = "CORELANE_HAND_OVER";
/// Its value: the socket between them is standard input.
pub const BY_STDIN: &str = "stdin";

/// The version of the protocol. One that knows another is refused: stop the old, start the new.
const VERSION: u32 = 1;

/// What is said.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// A successor has begun.
    Hello {
        /// Of the protocol.
        version: u32,
        /// Whether it takes [`Held::Http`], too.
        #[serde(default)]
        http: bool,
    },
    /// It is welcome.
    Welcome {
        /// Of the protocol.
        version: u32,
    },
    /// The successor wants what there is.
    Take,
    /// Descriptors.
    Given {
        /// What each of them is.
        held: Vec<Held>,
        /// Whether more messages follow.
        more: bool,
        /// Those of which somebody else keeps the sockets.
        #[serde(default)]
        kept: Vec<Held>,
    },
    /// The successor serves.
    Serving,
    /// It is not to be.
    Refused {
        /// For the operator.
        why: String,
    },
}

/// What a descriptor is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// Receives datagrams for an address, as the Corefile has it.
    Udp(SocketAddr),
    /// Accepts connections to it.
    Tcp(SocketAddr),
    /// Accepts connections to an HTTP end point: health, readiness, metrics.
    Http(SocketAddr),
    /// Owns the table of rules.
    Rules,
    /// Holds the interface of the addresses.
    Interface,
}

/// What a process was given by the one before it.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<(SocketAddr, Given)>,
    /// Of HTTP end points.
    pub http: Vec<(SocketAddr, TcpListener)>,
    /// Owns the table of rules.
    pub rules: Option<OwnedFd>,
    /// Holds the interface of the addresses.
    pub interface: Option<OwnedFd>,
}

impl Inherited {
    /// Notes what a descriptor is.
    fn add(&mut self, held: &Held, descriptor: OwnedFd) {
        match held {
            Held::Udp(address) => self.at(*address).udp.push(UdpSocket::from(descriptor)),
            Held::Tcp(address) => self.at(*address).tcp.push(TcpListener::from(descriptor)),
            Held::Http(address) => self.http.push((*address, TcpListener::from(descriptor))),
            Held::Rules => self.rules = Some(descriptor),
            Held::Interface => self.interface = Some(descriptor),
        }
    }

    /// Notes that somebody else keeps the sockets of an address.
    fn mark_kept(&mut self, held: &Held) {
        match held {
            Held::Udp(address) => self.at(*address).kept.udp = true,
            Held::Tcp(address) => self.at(*address).kept.tcp = true,
            Held::Http(_) | Held::Rules | Held::Interface => {}
        }
    }

    fn at(&mut self, address: SocketAddr) -> &mut Given {
        let index = self.sockets.iter().position(|(other, _)| *other == address);
        let index = index.unwrap_or_else(|| {
            self.sockets.push((address, Given::default()));
            self.sockets.len() - 1
        });
        &mut self.sockets[index].1
    }

    /// Takes the sockets of an address; of the wildcard of both families, those of IPv4 that somebody
    /// keeps for themselves, too.
    pub fn take(&mut self, address: SocketAddr) -> Given {
        let mut given = self.take_if(|other, _| *other == address).unwrap_or_default();
        if address.ip() == Ipv6Addr::UNSPECIFIED {
            let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
            let is_kept = |kept: Kept| kept != Kept::default();
            let more = self.take_if(|other, given| *other == v4 && is_kept(given.kept));
            let more = more.unwrap_or_default();
            given.udp.extend(more.udp);
            given.tcp.extend(more.tcp);
            given.kept.udp |= more.kept.udp;
            given.kept.tcp |= more.kept.tcp;
        }
        given
    }

    fn take_if(&mut self, wanted: impl Fn(&SocketAddr, &Given) -> bool) -> Option<Given> {
        let index = self.sockets.iter().position(|(address, given)| wanted(address, given))?;
        Some(self.sockets.swap_remove(index).1)
    }

    /// The sockets that somebody keeps, once more.
    ///
    /// # Errors
    /// The process has no descriptors left.
    pub fn kept(&self) -> io::Result<Self> {
        let mut kept = Self::default();
        for (held, descriptor, is_kept) in self.all() {
            if is_kept {
                kept.add(&held, descriptor.try_clone_to_owned()?);
                kept.mark_kept(&held);
            }
        }
        Ok(kept)
    }

    /// The sockets, each with whether somebody keeps it.
    pub fn all(&self) -> impl Iterator<Item = (Held, BorrowedFd<'_>, bool)> {
        self.sockets.iter().flat_map(|(address, given)| {
            let kept = given.kept;
            let udp = given.udp.iter();
            let udp = udp.map(move |one| (Held::Udp(*address), one.as_fd(), kept.udp));
            let tcp = given.tcp.iter();
            udp.chain(tcp.map(move |one| (Held::Tcp(*address), one.as_fd(), kept.tcp)))
        })
    }

    /// Adds the sockets of addresses of which there are none.
    pub fn complete(&mut self, others: Self) {
        for (address, given) in others.sockets {
            if !self.sockets.iter().any(|(other, _)| *other == address) {
                self.sockets.push((address, given));
            }
        }
    }

    /// Closes what nobody has taken; gives the addresses.
    pub fn drop_rest(&mut self) -> Vec<SocketAddr> {
        self.http.clear();
        self.sockets.drain(..).map(|(address, _)| address).collect()
    }
}

/// The socket in a folder by which a successor finds the server.
pub fn door(folder: &Path) -> PathBuf {
    folder.join("corelane.sock")
}

/// The command that starts another such process: the program by the name it was started by, so that
/// a new version in its place is what starts.
fn own_command() -> (OsString, Vec<OsString>) {
    let mut args = std::env::args_os();
    let program = args.next().unwrap_or_else(|| "corelane".into());
    (program, args.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_found_by_their_address() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let mut inherited = Inherited::default();
        inherited.add(&Held::Udp(address), socket.try_clone().unwrap().into());
        inherited.add(&Held::Udp(address), socket.into());
        assert_eq!(inherited.take("127.0.0.1:1".parse().unwrap()).udp.len(), 0);
        assert_eq!(inherited.take(address).udp.len(), 2);
        assert_eq!(inherited.drop_rest(), []);
    }

    #[test]
    fn what_is_kept_is_had_again_and_covers_the_wildcard_of_both_families() {
        let (v4, v6) = ("0.0.0.0:5300".parse().unwrap(), "[::]:5300".parse().unwrap());
        let other = "127.0.0.1:5300".parse().unwrap();
        let mut inherited = Inherited::default();
        for held in [Held::Udp(v4), Held::Udp(v6), Held::Udp(other)] {
            inherited.add(&held, UdpSocket::bind("127.0.0.1:0").unwrap().into());
        }
        inherited.mark_kept(&Held::Udp(v4));
        let given = inherited.kept().unwrap().take(v6);
        assert_eq!((given.udp.len(), given.kept), (1, Kept { udp: true, tcp: false }));
        assert_eq!(inherited.take(v6).udp.len(), 2);
        assert_eq!(inherited.drop_rest(), [other]);
    }

    #[test]
    fn words_are_read_as_they_were_written_and_may_say_more() {
        let held = vec![Held::Tcp("[::]:53".parse().unwrap()), Held::Rules];
        let kept = held.clone();
        let given = Word::Given { held, more: true, kept };
        for word in [Word::Take, given, Word::Hello { version: 1, http: true }] {
            let text = serde_json::to_string(&word).unwrap();
            assert_eq!(serde_json::from_str::<Word>(&text).unwrap(), word, "{text}");
        }
        let later = r#"{"hello":{"version":1,"name":"corelane 9"}}"#;
        let plain = Word::Hello { version: 1, http: false };
        assert_eq!(serde_json::from_str::<Word>(later).unwrap(), plain);
        let earlier = r#"{"given":{"held":[],"more":false}}"#;
        let nothing = Word::Given { held: Vec::new(), more: false, kept: Vec::new() };
        assert_eq!(serde_json::from_str::<Word>(earlier).unwrap(), nothing);
    }
}
