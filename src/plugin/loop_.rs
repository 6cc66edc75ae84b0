//! # loop
//!
//! Ends the server when its queries come back to it: a forwarding loop.
//!
//! ## Syntax
//!
//! ```corefile
//! loop
//! ```
//!
//! After the start the server asks itself, at the block's first address, for the HINFO records of a
//! random name in the block's first zone. It tries every second for at most 30 seconds until there is
//! a reply. If that query arrives more than twice, somebody is sending queries in a circle; a line with
//! `FATAL` says so, and the process ends with status 1. Two seconds after the first reply the plugin
//! switches itself off.
//!
//! The usual causes are an upstream in `/etc/resolv.conf` that is a local cache (such as 127.0.0.53),
//! which forwards to this server, and a *forward* to the server's own address.
//!
//! The name has 124 random bits from the kernel, so that nobody can end the process by a packet, and
//! it is control that counts and ends: no query does.
//!
//! ## Examples
//!
//! ```corefile
//! . {
//!     loop
//!     whoami
//! }
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep, timeout};

use super::Step;
use super::{Compiled, CorefileError, Cx, Directive, Event, Lines, Plugin, SetupError, Sink, Site};
use crate::control::logging;
use crate::wire::{NameBuf, rclass, rtype};

/// How long a reply is looked for.
const TRY: Duration = Duration::from_secs(30);
/// How long one query waits for its reply.
const WAIT: Duration = Duration::from_secs(2);
/// How long queries may still come back after the first reply.
const SETTLE: Duration = Duration::from_secs(2);
/// Arrivals that are no loop: a probe that is sent again arrives again.
const SEEN_MAX: u32 = 2;

/// The directive.
pub struct Loop;

/// The link: it counts the probe.
pub struct Link {
    probe: Arc<Probe>,
    sink: u32,
}

/// The query that is looked for.
struct Probe {
    /// Random labels and the zone, lower-cased.
    name: NameBuf,
    seen: AtomicU32,
    off: AtomicBool,
}

impl Directive for Loop {
    const NAME: &'static str = "loop";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let stanza = lines.only_one()?;
        lines.no_args(stanza)?;
        lines.no_block(stanza)?;
        Ok(Self)
    }

    fn compile(self, site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        let (Some(zone), Some(address)) = (site.zones.first(), site.addresses.first()) else {
            return Ok(Compiled::nothing());
        };
        let labels = random_labels().map_err(|error| site.err(error))?;
        // Below a zone that leaves no room for the labels nothing can be asked for.
        let Some(name) = below(&labels, zone) else { return Ok(Compiled::nothing()) };
        let name = NameBuf::lowered(name.as_name());
        let probe = Arc::new(Probe { name, seen: AtomicU32::new(0), off: AtomicBool::new(false) });
        let shown = match site.facts.binds.first() {
            Some(_) => address.to_string(),
            None => format!(":{}", address.port()),
        };
        let zone = zone.to_string();
        site.spawn(watch(Arc::clone(&probe), own(*address)));
        let sink = site.sink(Alarm { probe: Arc::clone(&probe), zone, address: shown });
        Ok(Compiled::link(Link { probe, sink }))
    }
}

/// Two labels of 62 random bits each, as decimal numbers, each with its dot.
fn random_labels() -> Result<String, String> {
    let mut octets = [0; 16];
    getrandom::fill(&mut octets).map_err(|error| format!("no randomness: {error}"))?;
    let random = u128::from_le_bytes(octets);
    let (high, low) = ((random >> 66) as u64, random as u64 >> 2);
    Ok(format!("{high}.{low}."))
}

/// A name of labels, each with its dot, below a zone.
fn below(labels: &str, zone: &NameBuf) -> Option<NameBuf> {
    let zone = zone.to_string();
    NameBuf::parse(&format!("{labels}{}", zone.trim_start_matches('.'))).ok()
}

/// Where a listener can be reached from here.
fn own(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    address
}

/// Sends the probe until it is answered, then switches off.
async fn watch(probe: Arc<Probe>, address: SocketAddr) {
    let start = Instant::now();
    while start.elapsed() < TRY {
        if exchange(&probe.name, address).await.is_some() {
            sleep(SETTLE).await;
            break;
        }
        probe.seen.store(0, Relaxed);
        sleep(Duration::from_secs(1)).await;
    }
    probe.off.store(true, Relaxed);
}

/// Asks for the name's HINFO records; whatever reply there is, is one.
async fn exchange(name: &NameBuf, address: SocketAddr) -> Option<()> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let mut id = [0; 2];
    getrandom::fill(&mut id).ok()?;
    let query = query(name, id);
    let socket = UdpSocket::bind((any, 0)).await.ok()?;
    socket.connect(address).await.ok()?;
    socket.send(&query).await.ok()?;
    let reply = async {
        let mut reply = [0; 512];
        loop {
            let len = socket.recv(&mut reply).await.ok()?;
            if len >= 12 && reply[..2] == id && reply[2] & 0x80 != 0 {
                return Some(());
            }
        }
    };
    timeout(WAIT, reply).await.ok()?
}

/// A query with RD set (RFC 1035 section 4.1).
fn query(name: &NameBuf, [i, j]: [u8; 2]) -> Vec<u8> {
    let mut query = vec![i, j, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    query.extend_from_slice(name.as_name().as_bytes());
    query.extend_from_slice(&rtype::HINFO.to_be_bytes());
    query.extend_from_slice(&rclass::IN.to_be_bytes());
    query
}

/// Ends the process when the probe has come too often. Control's.
struct Alarm {
    probe: Arc<Probe>,
    zone: String,
    address: String,
}

impl Alarm {
    /// What is to be said, if it is a loop.
    fn verdict(&self, event: &Event) -> Option<String> {
        let Self { probe, zone, address } = self;
        let found = !probe.off.load(Relaxed) && probe.seen.load(Relaxed) > SEEN_MAX;
        found.then(|| {
            let peer = SocketAddr::new(event.client.ip(), event.client.peer.port());
            format!(
                "[FATAL] plugin/loop: Loop ({peer} -> {address}) detected for zone {zone:?}, see \
                 https://coredns.io/plugins/loop#troubleshooting. Query: \"HINFO {}\"\n",
                probe.name
            )
        })
    }
}

impl Sink for Alarm {
    #[allow(clippy::disallowed_methods, reason = "the one exit: see the head of this file")]
    fn take(&mut self, event: &Event) {
        if let Some(verdict) = self.verdict(event) {
            logging::print(&verdict);
            std::process::exit(1);
        }
    }
}

impl Plugin for Link {
    type Frame = ();
    type Local = ();

    fn local(&self, _core: u16) {}

    fn serve(&self, (): &mut (), cx: &mut Cx<'_>) -> Step<()> {
        let question = cx.question();
        if question.rtype == rtype::HINFO
            && !self.probe.off.load(Relaxed)
            && question.lower == self.probe.name.as_name()
        {
            self.probe.seen.fetch_add(1, Relaxed);
            cx.tell(self.sink, |_, _| {});
        }
        Step::Next
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse_block;
    use super::*;

    #[test]
    fn takes_no_words_and_is_used_once() {
        assert!(parse_block::<Loop>("loop").is_ok());
        for (block, words) in [
            ("loop a", "Wrong argument count or unexpected line ending after 'a'"),
            ("loop {\nx\n}", "Unexpected token '{', expecting argument"),
            ("loop\nloop", "this plugin can only be used once per Server Block"),
        ] {
            let error = parse_block::<Loop>(block).map(|_| ()).expect_err(block);
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn labels_are_random_numbers_of_62_bits() {
        let all: std::collections::BTreeSet<_> =
            (0..100).map(|_| random_labels().unwrap()).collect();
        assert_eq!(all.len(), 100);
        let bits = |label: &str| 64 - label.parse::<u64>().unwrap().leading_zeros();
        let labels = || all.iter().flat_map(|both| both.trim_end_matches('.').split('.'));
        assert_eq!(labels().count(), 200);
        // 200 numbers of which none has bit 61: once in 2^200.
        assert_eq!(labels().map(bits).max(), Some(62));
    }

    #[test]
    fn the_name_is_below_the_zone() {
        for (zone, name) in [(".", "1.2."), ("example.org.", "1.2.example.org.")] {
            let zone = NameBuf::parse(zone).unwrap();
            assert_eq!(below("1.2.", &zone).unwrap(), NameBuf::parse(name).unwrap());
        }
    }

    #[test]
    fn a_wildcard_address_is_asked_at_localhost() {
        assert_eq!(own("[::]:53".parse().unwrap()), "127.0.0.1:53".parse().unwrap());
        assert_eq!(own("0.0.0.0:53".parse().unwrap()), "127.0.0.1:53".parse().unwrap());
        assert_eq!(own("[::1]:5".parse().unwrap()), "[::1]:5".parse().unwrap());
    }

    #[tokio::test]
    async fn the_probe_is_a_query_and_its_reply_is_noticed() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let name = NameBuf::parse("1.2.example.org.").unwrap();
        let answer = async {
            let mut query = [0; 512];
            let (len, client) = server.recv_from(&mut query).await.unwrap();
            let view = crate::wire::parse_query(&query[..len]).expect("a query");
            assert_eq!(view.question.map(|question| question.rtype), Some(rtype::HINFO));
            query[2] |= 0x80;
            server.send_to(&query[..len], client).await.unwrap();
        };
        let (found, ()) = tokio::join!(exchange(&name, address), answer);
        assert_eq!(found, Some(()));
    }
}
