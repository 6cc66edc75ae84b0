//! Upstreams: servers that the data plane asks on behalf of its clients.
//!
//! An [`Upstream`] is what control makes of an address and how it is to be asked; workers and
//! control share it behind an `Arc`. Sockets are each worker's own: it opens them when it first asks
//! the upstream, and closes them when they have been idle for its `expire`.

pub mod cells;
mod channel;
pub mod compose;
mod https;
pub mod inbox;
pub mod network;
pub mod pace;
pub mod secret;
mod stream;
pub mod table;
pub mod wires;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::clock::Nanos;
use super::tally::Tally;
pub use cells::{UpstreamCells, UpstreamCounters};

/// What carries queries to an upstream.
#[derive(Clone, Debug)]
pub enum Carrier {
    /// Plain DNS: UDP, or TCP where an exchange says so (RFC 1035, RFC 7766).
    Dns,
    /// DNS over TLS (RFC 7858).
    Tls(TlsTarget),
    /// DNS over HTTPS (RFC 8484), HTTP/2 where the server speaks it.
    Https(HttpsTarget),
}

/// Whom to expect at the other end of a TLS connection, and how.
#[derive(Clone, Debug)]
pub struct TlsTarget {
    /// The name or address that the certificate must hold, sent as SNI if it is a name.
    pub server_name: ServerName<'static>,
    /// Roots, client certificate, tickets for resumption. For DoH its ALPN has `h2` first.
    pub config: Arc<ClientConfig>,
}

/// Where queries go on an HTTPS server.
#[derive(Clone, Debug)]
pub struct HttpsTarget {
    /// The TLS below.
    pub tls: TlsTarget,
    /// `host` or `host:port`, the authority of the URI.
    pub authority: Box<str>,
    /// The path, `/dns-query`.
    pub path: Box<str>,
    /// How messages are sent.
    pub method: HttpsMethod,
}

/// The method of RFC 8484 section 4.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpsMethod {
    /// POST with the message as its body.
    #[default]
    Post,
    /// GET with the message in base64url.
    Get,
}

/// What an [`Upstream`] is made from.
#[derive(Clone, Debug)]
pub struct UpstreamSpec {
    /// The metrics' label `proxy_name`: the directive.
    pub proxy: &'static str,
    /// The metrics' label `to`.
    pub label: Box<str>,
    /// Where it listens.
    pub address: SocketAddr,
    /// What carries queries there.
    pub carrier: Carrier,
    /// The address that queries leave from; none: the kernel's choice.
    pub source: Option<IpAddr>,
    /// How long a socket may be idle before it is closed, nanoseconds.
    pub expire: Nanos,
    /// How old a connection may become, nanoseconds; 0: no bound.
    pub max_age: Nanos,
    /// Idle connections that one worker keeps; 0: no bound of its own.
    pub max_idle: usize,
}

/// A server that is asked; one `Arc` for each address and configuration.
pub struct Upstream {
    /// Unique in the process; workers key their sockets by it.
    pub id: u32,
    /// The metrics' label `to`.
    pub label: Box<str>,
    /// Where it listens.
    pub address: SocketAddr,
    /// What carries queries there.
    pub carrier: Carrier,
    /// The address that queries leave from; none: the kernel's choice.
    pub source: Option<IpAddr>,
    /// How long a socket may be idle before it is closed, nanoseconds.
    pub expire: Nanos,
    /// How old a connection may become, nanoseconds; 0: no bound.
    pub max_age: Nanos,
    /// Idle connections that one worker keeps; 0: no bound of its own.
    pub max_idle: usize,
    /// What workers and control tell each other of it.
    pub cells: UpstreamCells,
    /// What workers count of it.
    pub counters: UpstreamCounters,
}

impl Upstream {
    /// Makes an upstream with an id of its own; its counters are those of its labels.
    pub fn new(spec: UpstreamSpec, tally: &Tally) -> Arc<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let counters = UpstreamCounters::new(tally, spec.proxy, &spec.label, &spec.carrier);
        Arc::new(Self {
            id: NEXT.fetch_add(1, Relaxed),
            label: spec.label,
            address: spec.address,
            carrier: spec.carrier,
            source: spec.source,
            expire: spec.expire,
            max_age: spec.max_age,
            max_idle: spec.max_idle,
            cells: UpstreamCells::default(),
            counters,
        })
    }

    /// Whether an exchange that asks for a stream or not goes by a stream.
    pub fn is_stream(&self, stream: bool) -> bool {
        stream || !matches!(self.carrier, Carrier::Dns)
    }

    /// Whether DNS over HTTPS is spoken.
    pub fn is_https(&self) -> bool {
        matches!(self.carrier, Carrier::Https(_))
    }

    /// Whether queries by UDP have a random letter case. On the loopback interface nothing comes in
    /// that was forged elsewhere: the kernel drops such packets as martians (RFC 1812 section 5.3.7),
    /// so a name reaches a server on this host as it was asked.
    pub fn mixes_case(&self) -> bool {
        !self.address.ip().to_canonical().is_loopback()
    }

    /// The word of the metrics' label `proto`.
    pub fn proto(&self, stream: bool) -> &'static str {
        match self.carrier {
            Carrier::Dns if stream => "tcp",
            Carrier::Dns => "udp",
            Carrier::Tls(_) => "tcp-tls",
            Carrier::Https(_) => "https",
        }
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "upstream {} ({})", self.id, self.label)
    }
}

/// Why an exchange failed before its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unreached {
    /// The host says that nobody listens there (ICMP, RST).
    Refused,
    /// No way leads there.
    NoRoute,
    /// The source address is not ours, or all of its ports are taken.
    NoSource,
    /// The upstream closed the connection, in the middle of a message or on a fresh connection.
    Closed,
    /// The TLS handshake failed: a bad certificate, name or version.
    Tls,
    /// What came is no DNS message, or only a part of one.
    Malformed,
    /// What came is about another question, or no response. By UDP, nothing better came in time.
    Mismatched,
    /// The connection was not made in time.
    TimedOut,
    /// The HTTP status was not 200.
    Status(u16),
    /// A bound of ours was met: sockets, queries in flight, memory.
    NoRoom,
}

impl Unreached {
    /// Says why, as a log line or an EDE may have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "connection refused",
            Self::NoRoute => "no route to host",
            Self::NoSource => "cannot assign requested address",
            Self::Closed => "connection closed",
            Self::Tls => "TLS handshake failed",
            Self::Malformed => "malformed reply",
            Self::Mismatched => "reply to another question",
            Self::TimedOut => "connection timed out",
            Self::Status(_) => "HTTP status is not 200",
            Self::NoRoom => "too many queries in flight",
        }
    }
}
