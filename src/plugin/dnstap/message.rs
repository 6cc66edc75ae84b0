//! From a worker's events to dnstap messages.
//!
//! A worker writes fixed fields and octets into events of `EVENT_BYTES_MAX`; a message that does not fit
//! goes on in further ones, which may get lost each for itself. [`Assembly`] puts them together again and
//! gives only what is whole.
//!
//! The protobuf schema is dnstap.proto's, of which what we never set is left out.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost::Message as _;

use crate::data::chain::{Client, Event, Transport};
use crate::data::clock::{self, Nanos};
use crate::limits::EVENT_BYTES_MAX;
use crate::plugin::log::format::Format;

/// `Dnstap` of dnstap.proto.
#[derive(Clone, PartialEq, prost::Message)]
struct Dnstap {
    #[prost(bytes = "vec", optional, tag = "1")]
    identity: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "2")]
    version: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "3")]
    extra: Option<Vec<u8>>,
    #[prost(message, optional, tag = "14")]
    message: Option<Message>,
    #[prost(int32, required, tag = "15")]
    kind: i32,
}

/// `Message` of dnstap.proto.
#[derive(Clone, PartialEq, prost::Message)]
struct Message {
    #[prost(int32, required, tag = "1")]
    kind: i32,
    #[prost(int32, optional, tag = "2")]
    socket_family: Option<i32>,
    #[prost(int32, optional, tag = "3")]
    socket_protocol: Option<i32>,
    #[prost(bytes = "vec", optional, tag = "4")]
    query_address: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "5")]
    response_address: Option<Vec<u8>>,
    #[prost(uint32, optional, tag = "6")]
    query_port: Option<u32>,
    #[prost(uint32, optional, tag = "7")]
    response_port: Option<u32>,
    #[prost(uint64, optional, tag = "8")]
    query_time_sec: Option<u64>,
    #[prost(fixed32, optional, tag = "9")]
    query_time_nsec: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "10")]
    query_message: Option<Vec<u8>>,
    #[prost(uint64, optional, tag = "12")]
    response_time_sec: Option<u64>,
    #[prost(fixed32, optional, tag = "13")]
    response_time_nsec: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "14")]
    response_message: Option<Vec<u8>>,
}

/// `Dnstap.Type`: the only one there is.
const MESSAGE: i32 = 1;

/// What a message is: the numbers of `Message.Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A query as it came from a client.
    ClientQuery = 5,
    /// A reply on its way to a client.
    ClientResponse = 6,
    /// A query on its way to an upstream.
    ForwarderQuery = 7,
    /// A reply as it came from an upstream.
    ForwarderResponse = 8,
}

impl Kind {
    fn of(number: u8) -> Option<Self> {
        [Self::ClientQuery, Self::ClientResponse, Self::ForwarderQuery, Self::ForwarderResponse]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }

    fn is_query(self) -> bool {
        matches!(self, Self::ClientQuery | Self::ForwarderQuery)
    }
}

/// Between whom a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The client and us: the event knows both.
    Client,
    /// We and this upstream, over a stream or not.
    Upstream(SocketAddr, bool),
}

/// The fixed fields of a message's first event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) core: u16,
    pub(super) serial: u32,
    pub(super) kind: Kind,
    pub(super) full: bool,
    /// Octets of the DNS message that are told.
    pub(super) total: u32,
    pub(super) asked: Nanos,
    /// 0: of a query.
    pub(super) replied: Nanos,
    pub(super) origin: Origin,
}

/// Octets that every event begins with: core, serial, octet of the message that it goes on at.
const PART_BYTES: usize = 10;
/// What stands there in a message's first event.
const FIRST: u32 = u32::MAX;
/// Octets after these in the first.
const HEAD_BYTES: usize = 40;

impl Head {
    /// The beginning of the first event.
    pub(super) fn write(&self, event: &mut Event) {
        self.begin(event, FIRST);
        let (upstream, flags) = match self.origin {
            Origin::Client => (SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0), 0),
            Origin::Upstream(address, stream) => (address, 1 | u8::from(stream) << 1),
        };
        let ip = match upstream.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        event.push(&[self.kind as u8, flags | u8::from(self.full) << 2]);
        event.push(&self.total.to_be_bytes());
        event.push(&self.asked.to_be_bytes());
        event.push(&self.replied.to_be_bytes());
        event.push(&ip.octets());
        event.push(&upstream.port().to_be_bytes());
    }

    /// The beginning of an event that goes on with a message.
    pub(super) fn write_part(&self, event: &mut Event, from: usize) {
        self.begin(event, from as u32);
    }

    fn begin(&self, event: &mut Event, from: u32) {
        event.push(&self.core.to_be_bytes());
        event.push(&self.serial.to_be_bytes());
        event.push(&from.to_be_bytes());
    }

    fn read(core: u16, serial: u32, bytes: &[u8; HEAD_BYTES]) -> Option<Self> {
        let long = |at: usize| bytes[at..at + 8].try_into().map(u64::from_be_bytes).ok();
        let ip = Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[22..38]).ok()?);
        let address =
            SocketAddr::new(ip.to_canonical(), u16::from_be_bytes([bytes[38], bytes[39]]));
        let flags = bytes[1];
        Some(Self {
            core,
            serial,
            kind: Kind::of(bytes[0])?,
            full: flags & 4 != 0,
            total: u32::from_be_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]),
            asked: long(6)?,
            replied: long(14)?,
            origin: match flags & 1 != 0 {
                true => Origin::Upstream(address, flags & 2 != 0),
                false => Origin::Client,
            },
        })
    }
}

/// Puts octets of a message from `from` on into the event, as many as fit; gives where it goes on.
pub(super) fn push(event: &mut Event, octets: &[u8], from: usize, total: usize) -> usize {
    let room = EVENT_BYTES_MAX - event.bytes().len();
    let until = total.min(from + room);
    event.push(octets.get(from..until).unwrap_or_default());
    until
}

/// A message of which not all has come.
struct Partial {
    head: Head,
    client: Client,
    extra: Option<String>,
    octets: Vec<u8>,
}

/// Makes frames of events.
pub(super) struct Assembly {
    identity: Vec<u8>,
    version: Vec<u8>,
    extra: Option<Format>,
    /// By core: a worker tells one message after the other.
    partial: BTreeMap<u16, Partial>,
}

impl Assembly {
    pub(super) fn new(identity: String, version: String, extra: Option<Format>) -> Self {
        let partial = BTreeMap::new();
        Self { identity: identity.into_bytes(), version: version.into_bytes(), extra, partial }
    }

    /// Takes one event; the frame, if a message is whole by it.
    pub(super) fn take(&mut self, event: &Event) -> Option<Vec<u8>> {
        let (part, rest) = event.bytes().split_first_chunk::<PART_BYTES>()?;
        let core = u16::from_be_bytes([part[0], part[1]]);
        let serial = u32::from_be_bytes([part[2], part[3], part[4], part[5]]);
        let from = u32::from_be_bytes([part[6], part[7], part[8], part[9]]);
        let known = self.partial.remove(&core);
        let partial = if from == FIRST {
            self.begin(core, serial, event, rest)?
        } else {
            let goes_on = |partial: &Partial| {
                partial.head.serial == serial && partial.octets.len() == from as usize
            };
            let mut partial = known.filter(goes_on)?;
            partial.octets.extend_from_slice(rest);
            partial
        };
        if partial.octets.len() < partial.head.total as usize {
            self.partial.insert(core, partial);
            return None;
        }
        Some(self.frame(partial))
    }

    fn begin(&self, core: u16, serial: u32, event: &Event, rest: &[u8]) -> Option<Partial> {
        let (head, rest) = rest.split_first_chunk::<HEAD_BYTES>()?;
        let head = Head::read(core, serial, head)?;
        let (extra, octets) = match &self.extra {
            Some(format) => (format.render(rest, &event.client), Vec::new()),
            None => (None, rest.to_vec()),
        };
        Some(Partial { head, client: event.client, extra, octets })
    }

    fn frame(&self, partial: Partial) -> Vec<u8> {
        let Partial { head, client, extra, octets } = partial;
        let (query, response, protocol) = match head.origin {
            Origin::Client => {
                let local = Some(client.local).filter(|local| !local.ip().is_unspecified());
                let protocol = match client.transport {
                    Transport::Udp => 1,
                    Transport::Tcp => 2,
                    Transport::Tls => 3,
                };
                (Some(client.peer), local, protocol)
            }
            Origin::Upstream(address, stream) => (None, Some(address), if stream { 2 } else { 1 }),
        };
        let ip = |address: SocketAddr| match address.ip().to_canonical() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let port = |address: SocketAddr| u32::from(address.port());
        let of_ipv4 = |address: SocketAddr| address.ip().to_canonical().is_ipv4();
        let told = Some(octets).filter(|octets| head.full && !octets.is_empty());
        let (queried, replied) = match head.kind.is_query() {
            true => (told, None),
            false => (None, told),
        };
        let (asked_at, replied_at) = (wall(head.asked), wall(head.replied));
        let is_response = !head.kind.is_query();
        let message = Message {
            kind: head.kind as i32,
            socket_family: query.or(response).map(|one| if of_ipv4(one) { 1 } else { 2 }),
            socket_protocol: Some(protocol),
            query_address: query.map(ip),
            response_address: response.map(ip),
            query_port: query.map(port),
            response_port: response.map(port),
            query_time_sec: Some(asked_at.as_secs()),
            query_time_nsec: Some(asked_at.subsec_nanos()),
            query_message: queried,
            response_time_sec: is_response.then_some(replied_at.as_secs()),
            response_time_nsec: is_response.then_some(replied_at.subsec_nanos()),
            response_message: replied,
        };
        let dnstap = Dnstap {
            identity: Some(self.identity.clone()),
            version: Some(self.version.clone()),
            extra: extra.map(String::into_bytes),
            message: Some(message),
            kind: MESSAGE,
        };
        dnstap.encode_to_vec()
    }
}

/// Since 1970 in UTC, of a reading of the data plane's clock.
#[allow(clippy::disallowed_methods, reason = "control's: dnstap tells the time of day")]
fn wall(at: Nanos) -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.saturating_sub(Duration::from_nanos(clock::now().saturating_sub(at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Client {
        Client {
            peer: "192.0.2.1:1000".parse().expect("an address"),
            local: "[2001:db8::53]:53".parse().expect("an address"),
            transport: Transport::Tcp,
            ..Client::NOBODY
        }
    }

    fn head(total: usize) -> Head {
        Head {
            core: 3,
            serial: 7,
            kind: Kind::ClientResponse,
            full: true,
            total: total as u32,
            asked: 1,
            replied: 2,
            origin: Origin::Client,
        }
    }

    /// The events of one message.
    fn events(head: Head, octets: &[u8]) -> Vec<Event> {
        let mut all = Vec::new();
        let mut at = 0;
        loop {
            let mut event = Event::for_tests(client());
            match at {
                0 => head.write(&mut event),
                from => head.write_part(&mut event, from),
            }
            at = push(&mut event, octets, at, octets.len());
            all.push(event);
            if at == octets.len() {
                return all;
            }
        }
    }

    fn assembly() -> Assembly {
        Assembly::new("me".into(), "v1".into(), None)
    }

    fn decoded(frame: Vec<u8>) -> Message {
        Dnstap::decode(&frame[..]).expect("protobuf").message.expect("a message")
    }

    #[test]
    fn a_long_message_comes_whole() {
        let octets: Vec<u8> = (0..5_000u32).map(|n| n as u8).collect();
        let mut assembly = assembly();
        let frames: Vec<_> =
            events(head(5_000), &octets).iter().filter_map(|event| assembly.take(event)).collect();
        assert_eq!(frames.len(), 1);
        let message = decoded(frames.into_iter().next().expect("one"));
        assert_eq!(message.response_message, Some(octets));
        assert_eq!(message.query_message, None);
        assert_eq!(message.kind, 6);
        assert_eq!((message.socket_family, message.socket_protocol), (Some(1), Some(2)));
        assert_eq!(message.query_address, Some(vec![192, 0, 2, 1]));
        assert_eq!(message.query_port, Some(1000));
        assert_eq!(message.response_address.map(|address| address.len()), Some(16));
    }

    #[test]
    fn a_part_that_is_lost_takes_its_message_along_and_no_other() {
        let octets = vec![1; 3_000];
        let mut assembly = assembly();
        let mut lossy = events(head(3_000), &octets);
        lossy.remove(1);
        for event in &lossy {
            assert_eq!(assembly.take(event), None);
        }
        let next = Head { serial: 8, ..head(10) };
        let taken: Vec<_> =
            events(next, &[2; 10]).iter().filter_map(|event| assembly.take(event)).collect();
        assert_eq!(taken.len(), 1);
    }

    #[test]
    fn an_upstream_is_the_one_who_responds() {
        let upstream = "[2001:db8::1]:853".parse().expect("an address");
        let head = Head {
            kind: Kind::ForwarderQuery,
            full: false,
            replied: 0,
            origin: Origin::Upstream(upstream, true),
            ..head(0)
        };
        let mut event = Event::for_tests(client());
        head.write(&mut event);
        let message = decoded(assembly().take(&event).expect("whole"));
        assert_eq!((message.kind, message.query_message, message.query_address), (7, None, None));
        assert_eq!((message.response_port, message.socket_family), (Some(853), Some(2)));
        assert_eq!(message.response_time_sec, None);
    }

    #[test]
    fn octets_of_any_kind_do_no_harm() {
        let mut assembly = assembly();
        for length in 0..80 {
            let mut event = Event::for_tests(client());
            event.push(&vec![0xff; length]);
            assert_eq!(assembly.take(&event), None);
        }
    }
}
