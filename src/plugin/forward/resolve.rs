//! Host names in TO: looked up at the start and again and again.
//!
//! Without `resolver` the system looks a name up (its hosts file, its search list), as for any other
//! program; it tells no TTL, so the name is looked up again every 30 s. The servers of `resolver`
//! are asked one after the other for A and AAAA records, and again when the shortest TTL is over.
//! All of it waits: control's threads only.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::sync::mpsc;
use std::time::Duration;

use crate::limits::{FORWARD_LOOK_UP_SECONDS_MAX, FORWARD_LOOK_UP_SECONDS_MIN, UDP_BYTES_MIN};
use crate::wire::{Name, rclass, records, rtype};

/// Until a name is looked up again when nobody tells a TTL.
pub const AGAIN: Duration = Duration::from_secs(30);
/// How long one server of `resolver` is waited for (CoreDNS's).
const WAIT: Duration = Duration::from_secs(2);
/// How long the system is waited for.
const SYSTEM_WAIT: Duration = Duration::from_secs(10);

/// What a name has come to.
#[derive(Debug)]
pub struct Found {
    /// At least one.
    pub addresses: Vec<IpAddr>,
    /// When to ask again.
    pub again: Duration,
}

/// Looks a host name up; `name` is the same, to be asked for.
///
/// # Errors
/// In Go's words, near enough.
pub fn look_up(host: &str, name: Name<'_>, resolvers: &[SocketAddr]) -> Result<Found, String> {
    if resolvers.is_empty() {
        return by_system(host);
    }
    let mut last = None;
    for server in resolvers {
        match by_server(name, *server) {
            Ok(found) if !found.addresses.is_empty() => return Ok(found),
            Ok(_) => {}
            Err(error) => last = Some(error),
        }
    }
    let why = last.map_or_else(String::new, |error| format!(": {error}"));
    Err(format!("no addresses found for {host:?}{why}"))
}

fn by_system(host: &str) -> Result<Found, String> {
    // getaddrinfo(3) takes no deadline: it gets a thread, and that is waited for.
    let (send, receive) = mpsc::channel();
    let owned = host.to_owned();
    std::thread::Builder::new()
        .name("look-up".into())
        .spawn(move || {
            let found = (owned.as_str(), 0).to_socket_addrs().map(Iterator::collect);
            // Who asked may have given up.
            let _ = send.send(found);
        })
        .map_err(|error| format!("lookup {host}: {error}"))?;
    let found: io::Result<Vec<SocketAddr>> =
        receive.recv_timeout(SYSTEM_WAIT).map_err(|_| format!("lookup {host}: i/o timeout"))?;
    let found = found.map_err(|_| format!("lookup {host}: no such host"))?;
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in found.iter().map(SocketAddr::ip) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(format!("no addresses found for {host:?}"));
    }
    Ok(Found { addresses, again: AGAIN })
}

fn by_server(name: Name<'_>, server: SocketAddr) -> io::Result<Found> {
    let mut found = Found { addresses: Vec::new(), again: Duration::MAX };
    let first = ask(name, rtype::A, server).map(|reply| found.take(&reply, rtype::A));
    let second = ask(name, rtype::AAAA, server).map(|reply| found.take(&reply, rtype::AAAA));
    if found.addresses.is_empty() {
        first.and(second)?;
    }
    let least = Duration::from_secs(FORWARD_LOOK_UP_SECONDS_MIN);
    found.again = found.again.clamp(least, Duration::from_secs(FORWARD_LOOK_UP_SECONDS_MAX));
    Ok(found)
}

impl Found {
    fn take(&mut self, reply: &[u8], wanted: u16) {
        let Ok(all) = records(reply) else { return };
        // The target of an alias is as good as the name: the server has followed it.
        for record in all.flatten().filter(|record| record.rclass == rclass::IN) {
            let rdata = record.rdata(reply);
            let address = match (record.rtype, <[u8; 4]>::try_from(rdata)) {
                (rtype::A, Ok(octets)) => IpAddr::from(Ipv4Addr::from(octets)),
                (rtype::AAAA, _) => match <[u8; 16]>::try_from(rdata) {
                    Ok(octets) => Ipv6Addr::from(octets).into(),
                    Err(_) => continue,
                },
                (rtype::CNAME, _) => {
                    self.again = self.again.min(Duration::from_secs(record.ttl.into()));
                    continue;
                }
                _ => continue,
            };
            if record.rtype == wanted && !self.addresses.contains(&address) {
                self.addresses.push(address);
                self.again = self.again.min(Duration::from_secs(record.ttl.into()));
            }
        }
    }
}

/// One question in one datagram; what comes with another id is passed over.
fn ask(name: Name<'_>, rtype: u16, server: SocketAddr) -> io::Result<Vec<u8>> {
    let query = query(name, rtype, true)?;
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(WAIT))?;
    socket.send(&query)?;
    let mut reply = vec![0; 8 * UDP_BYTES_MIN];
    // A stranger who knows the port could keep us here: so many guesses and no more.
    for _ in 0..64 {
        let len = socket.recv(&mut reply)?;
        if len >= query.len() && reply[..2] == query[..2] && is_reply(&reply[..len]) {
            let question = 12..query.len();
            if reply[question.clone()].eq_ignore_ascii_case(&query[question]) {
                reply.truncate(len);
                return Ok(reply);
            }
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "no reply to the question"))
}

/// Whether a message has QR set.
pub fn is_reply(message: &[u8]) -> bool {
    message.len() >= 12 && message[2] & 0x80 != 0
}

/// A query of its own, with an id from the kernel (RFC 1035 section 4.1).
///
/// # Errors
/// The kernel has no randomness.
pub fn query(name: Name<'_>, rtype: u16, recursion: bool) -> io::Result<Vec<u8>> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(|error| io::Error::other(error.to_string()))?;
    let mut query = vec![id[0], id[1], u8::from(recursion), 0, 0, 1, 0, 0, 0, 0, 0, 0];
    query.extend_from_slice(name.as_bytes());
    query.extend_from_slice(&rtype.to_be_bytes());
    query.extend_from_slice(&rclass::IN.to_be_bytes());
    Ok(query)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::NameBuf;

    /// A server that answers so many queries, each with `records` (count and octets).
    fn server(
        queries: usize,
        answer: impl Fn(u16) -> (u8, Vec<u8>) + Send + 'static,
    ) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            for _ in 0..queries {
                let mut query = [0; 512];
                let (len, client) = socket.recv_from(&mut query).unwrap();
                let rtype = u16::from_be_bytes([query[len - 4], query[len - 3]]);
                let (count, records) = answer(rtype);
                // First one with another id, then the real one.
                let mut reply = query[..len].to_vec();
                reply[2] |= 0x80;
                reply[0] ^= 1;
                socket.send_to(&reply, client).unwrap();
                reply[0] ^= 1;
                reply[7] = count;
                reply.extend(records);
                socket.send_to(&reply, client).unwrap();
            }
        });
        address
    }

    fn record(rtype: u16, ttl: u8, rdata: &[u8]) -> Vec<u8> {
        let [high, low] = rtype.to_be_bytes();
        [&[0xc0, 12, high, low, 0, 1, 0, 0, 0, ttl, 0, rdata.len() as u8][..], rdata].concat()
    }

    #[test]
    fn the_servers_of_resolver_are_asked_in_turn() {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let closed = silent.local_addr().unwrap();
        drop(silent);
        let address = server(2, |rtype| match rtype {
            rtype::A => {
                (2, [record(1, 60, &[192, 0, 2, 1]), record(1, 20, &[192, 0, 2, 2])].concat())
            }
            _ => (1, record(rtype::AAAA, 90, &Ipv6Addr::LOCALHOST.octets())),
        });
        let name = NameBuf::parse("dns.example.").unwrap();
        let found = look_up("dns.example", name.as_name(), &[closed, address]).unwrap();
        let text: Vec<String> = found.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["192.0.2.1", "192.0.2.2", "::1"]);
        assert_eq!(found.again, Duration::from_secs(20));
    }

    #[test]
    fn a_name_without_addresses_is_a_fault() {
        let address = server(2, |_| (0, Vec::new()));
        let name = NameBuf::parse("dns.example.").unwrap();
        let fault = look_up("dns.example", name.as_name(), &[address]).unwrap_err();
        assert_eq!(fault, "no addresses found for \"dns.example\"");
    }

    #[test]
    fn the_system_knows_localhost_and_not_a_path() {
        let name = NameBuf::parse("localhost").unwrap();
        let found = look_up("localhost", name.as_name(), &[]).unwrap();
        assert!(found.addresses.iter().all(IpAddr::is_loopback), "{found:?}");
        assert_eq!(found.again, AGAIN);
        let name = NameBuf::parse("not/an/address").unwrap();
        let fault = look_up("not/an/address", name.as_name(), &[]).unwrap_err();
        assert_eq!(fault, "lookup not/an/address: no such host");
    }
}
