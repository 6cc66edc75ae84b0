//! Sockets that whoever started the process holds for it: systemd, by a socket unit (sd_listen_fds(3)).
//!
//! They are adopted as a predecessor's are: by address, where the Corefile listens on it. They stay open
//! when the process ends, with what waits in them, and so nothing is lost while a service is started
//! anew. One that the Corefile does not listen on is told of, and kept for a reload that does.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use socket2::{SockRef, Type};

use super::{Held, Inherited};
use crate::data::transport::sockets::{self, Given};
use crate::limits::HAND_OVER_DESCRIPTORS_TOTAL_MAX;
use crate::snapshot::Listener;
use crate::sys;

/// How the process is told: the one that is meant, how many there are, and their names.
pub const VARIABLES: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// Takes the sockets that were left open for this process. To be called once, before anything else is
/// opened. What cannot be used is told of, and closed.
pub fn take() -> Inherited {
    let [pid, count, names] = VARIABLES.map(|name| std::env::var(name).unwrap_or_default());
    let mut inherited = Inherited::default();
    if pid.parse() != Ok(std::process::id()) {
        return inherited;
    }
    let Some(count) = count.parse().ok().filter(|count| *count <= HAND_OVER_DESCRIPTORS_TOTAL_MAX)
    else {
        tracing::error!("LISTEN_FDS {count}: not a number of sockets; none is used");
        return inherited;
    };
    let mut names = names.split(':');
    for descriptor in sys::descriptors_left(count) {
        let name = names.next().unwrap_or_default();
        match what(&descriptor) {
            Ok(held) => {
                inherited.add(&held, descriptor);
                inherited.mark_kept(&held);
            }
            Err(error) => tracing::error!("Socket unit {name:?}: {error}: not used"),
        }
    }
    inherited.sockets.retain(|(address, given)| match sockets::prepare(given) {
        Ok(()) => true,
        Err(error) => {
            tracing::error!("Socket unit: {address}: {error}: not used");
            false
        }
    });
    inherited
}

/// What a socket is for.
fn what(descriptor: &OwnedFd) -> io::Result<Held> {
    let wrong = |words| io::Error::new(io::ErrorKind::InvalidInput, words);
    let socket = SockRef::from(descriptor);
    let kind = socket.r#type().map_err(|_| wrong("it is no socket"))?;
    let address = socket.local_addr()?.as_socket();
    let address: SocketAddr = address.ok_or_else(|| wrong("it is no socket of an IP address"))?;
    match kind {
        Type::DGRAM => Ok(Held::Udp(address)),
        Type::STREAM if socket.is_listener()? => Ok(Held::Tcp(address)),
        Type::STREAM => Err(wrong("it is a connection (set Accept=no)")),
        _ => Err(wrong("it carries neither datagrams nor streams")),
    }
}

/// Tells of what the Corefile does not listen on, and of wildcards that are held for one family only.
pub fn tell(kept: &Inherited, listeners: &[Listener]) {
    let listened = || listeners.iter().map(|listener| listener.address);
    let is_wildcard_of = |address: &SocketAddr, other: &SocketAddr| {
        let unspecified = address.ip().is_unspecified() && other.ip().is_unspecified();
        unspecified && address.port() == other.port()
    };
    for (address, _) in &kept.sockets {
        let is_it = |other| other == *address || is_wildcard_of(address, &other);
        if !listened().any(is_it) {
            tracing::warn!(
                "The socket unit holds {address}, where the Corefile does not listen: \
                 queries to it wait for nobody"
            );
        }
    }
    for address in listened().filter(|address| address.ip() == Ipv6Addr::UNSPECIFIED) {
        let held = kept.sockets.iter().filter(|(other, _)| is_wildcard_of(&address, other));
        let families: Vec<_> = held.map(|(other, given)| families(other, given)).collect();
        let any = |family: fn(&(bool, bool)) -> bool| families.iter().any(family);
        let missing = match (any(|one| one.0), any(|one| one.1)) {
            (true, false) => "IPv6",
            (false, true) => "IPv4",
            _ => continue,
        };
        tracing::warn!(
            "The socket unit holds port {} without {missing}: nobody is served over that",
            address.port()
        );
    }
}

/// Whether the sockets of a wildcard receive IPv4, and IPv6.
fn families(address: &SocketAddr, given: &Given) -> (bool, bool) {
    let is_dual = || {
        let udp = given.udp.iter().map(SockRef::from);
        let mut all = udp.chain(given.tcp.iter().map(SockRef::from));
        all.all(|socket| !socket.only_v6().unwrap_or(false))
    };
    (address.is_ipv4() || is_dual(), address.is_ipv6())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn a_socket_is_known_by_its_kind_and_address() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp = TcpListener::bind("[::1]:0").or_else(|_| TcpListener::bind("127.0.0.1:0"));
        let (address, tcp) = (udp.local_addr().unwrap(), tcp.unwrap());
        let listens = tcp.local_addr().unwrap();
        let connection = TcpStream::connect(listens).unwrap();
        assert_eq!(what(&udp.into()).unwrap(), Held::Udp(address));
        assert_eq!(what(&tcp.into()).unwrap(), Held::Tcp(listens));
        for (other, words) in [
            (OwnedFd::from(connection), "Accept=no"),
            (OwnedFd::from(UnixDatagram::unbound().unwrap()), "no socket of an IP address"),
            (OwnedFd::from(std::fs::File::open("/dev/null").unwrap()), "no socket"),
        ] {
            let error = what(&other).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
