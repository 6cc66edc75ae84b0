//! The upstreams of one use of the directive, as they are now.
//!
//! A [`Set`] is published whole; when host names come to other addresses, or a file says something
//! else, [`Maker`] makes a new one that holds the same [`Member`]s for the addresses that stay: their
//! health, sockets and counters go on.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use rustls::pki_types::ServerName;

use super::breaker::Breaker;
use super::options::Options;
use super::target::{Address, Scheme};
use super::tls::{Alpn, Tls};
use crate::data::clock::{MILLISECOND, Nanos};
use crate::data::tally::{BUCKETS_TIME, Counter, Family, Histogram, Tally};
use crate::data::upstream::{Carrier, HttpsTarget, TlsTarget, Upstream, UpstreamSpec};
use crate::limits::{FORWARD_UNHEARD_NANOS_MIN, FORWARD_UNHEARD_P95S_MIN};

static DURATION: Family = Family::histogram(
    "coredns_proxy_request_duration_seconds",
    &BUCKETS_TIME,
    &["proxy_name", "to", "rcode"],
    "Time from a query to an upstream to its reply.",
);
static PROBES_FAILED: Family = Family::counter(
    "coredns_proxy_healthcheck_failures_total",
    &["proxy_name", "to"],
    "Probes of an upstream's health that failed.",
);
static TRIPS: Family = Family::counter(
    "corelane_forward_breaker_trips_total",
    &["to"],
    "Bursts of SERVFAIL or of lost queries after which an upstream was asked last.",
);

/// The label `proxy_name`.
const PROXY: &str = "forward";
/// The path of DNS over HTTPS, the only one that CoreDNS asks.
const PATH: &str = "/dns-query";
/// Between two times that control is told of failures of one upstream.
const TELL_AFTER: Nanos = 100 * MILLISECOND;

/// Values of `rcode`, by rcode: those without a name are numbers in CoreDNS, those past the last
/// one "other" here.
const RCODES: [&str; 25] = [
    "NOERROR",
    "FORMERR",
    "SERVFAIL",
    "NXDOMAIN",
    "NOTIMP",
    "REFUSED",
    "YXDOMAIN",
    "YXRRSET",
    "NXRRSET",
    "NOTAUTH",
    "NOTZONE",
    "DSOTYPENI",
    "12",
    "13",
    "14",
    "15",
    "BADSIG",
    "BADKEY",
    "BADTIME",
    "BADMODE",
    "BADNAME",
    "BADALG",
    "BADTRUNC",
    "BADCOOKIE",
    "other",
];

/// One upstream with what this directive knows of it.
pub struct Member {
    address: Address,
    /// The upstream.
    pub upstream: Arc<Upstream>,
    /// Sees bursts of SERVFAIL.
    pub servfails: Breaker,
    /// Sees queries that were lost.
    pub losses: Breaker,
    /// Probes that failed.
    pub probes_failed: Counter,
    trips: Counter,
    durations: [Histogram; RCODES.len()],
    /// A failure that neither a probe nor a reply has cleared.
    suspect: AtomicBool,
    /// When control was told of a failure last.
    told: AtomicU64,
}

impl Member {
    fn new(address: Address, upstream: Arc<Upstream>, tally: &Tally) -> Self {
        let to = &*upstream.label;
        Self {
            address,
            servfails: Breaker::of_servfails(),
            losses: Breaker::of_losses(),
            probes_failed: tally.counter(&PROBES_FAILED, &[PROXY, to]),
            trips: tally.counter(&TRIPS, &[to]),
            durations: RCODES.map(|rcode| tally.histogram(&DURATION, &[PROXY, to, rcode])),
            suspect: AtomicBool::new(false),
            told: AtomicU64::new(0),
            upstream,
        }
    }

    /// Where the time to a reply with `rcode` is observed.
    pub fn duration(&self, rcode: u16) -> Histogram {
        self.durations[usize::from(rcode).min(RCODES.len() - 1)]
    }

    /// Breakers that opened.
    pub fn trips(&self) -> Counter {
        self.trips
    }

    /// Holds a failure against it.
    pub fn suspect(&self) {
        self.suspect.store(true, Relaxed);
    }

    /// Forgets the failure: it lives.
    pub fn clear(&self) {
        if self.is_suspect() {
            self.suspect.store(false, Relaxed);
        }
    }

    /// It lives, a probe says; `true`: it was down. Then its latency is one to be learnt anew.
    pub fn revive(&self, max_fails: u32) -> bool {
        let cells = &self.upstream.cells;
        let was_down = cells.fails.swap(0, Relaxed) > max_fails;
        if was_down {
            cells.forget_latency();
        }
        self.clear();
        was_down
    }

    /// Whether a failure is held against it.
    pub fn is_suspect(&self) -> bool {
        self.suspect.load(Relaxed)
    }

    /// Whether control should be told of a failure now: not of each of a thousand.
    pub fn may_tell(&self, now: Nanos) -> bool {
        let told = self.told.load(Relaxed);
        let may = told == 0 || now.saturating_sub(told) >= TELL_AFTER;
        if may {
            self.told.store(now.max(1), Relaxed);
        }
        may
    }

    /// Whether others are to be asked before it: a failure is held against it, or one of its breakers
    /// is open.
    pub fn is_ill(&self, now: Nanos) -> bool {
        let waiting = self.upstream.cells.in_flight.load(Relaxed);
        let is_open = |breaker: &Breaker| breaker.is_open(now, waiting);
        self.is_suspect() || is_open(&self.servfails) || is_open(&self.losses)
    }

    /// Whether nothing has come from it for longer than it usually takes, while queries wait there.
    pub fn is_quiet(&self, now: Nanos) -> bool {
        let cells = &self.upstream.cells;
        let unheard = cells.unheard_for(now);
        unheard >= FORWARD_UNHEARD_NANOS_MIN && unheard >= FORWARD_UNHEARD_P95S_MIN * cells.p95()
    }

    /// What a wait for it is expected to cost: the time of a reply for each query that waits there.
    /// Who has never been asked costs nothing, and so is asked.
    pub fn cost(&self) -> u64 {
        let cells = &self.upstream.cells;
        cells.latency().saturating_mul(u64::from(cells.in_flight.load(Relaxed)) + 1)
    }
}

/// The upstreams of one use of the directive.
pub struct Set {
    /// Another for each set that is published.
    pub number: u16,
    /// In the order of the Corefile.
    pub members: Vec<Arc<Member>>,
}

impl Set {
    /// The member with this [`Upstream::id`].
    pub fn find(&self, id: u32) -> Option<(usize, &Arc<Member>)> {
        self.members.iter().enumerate().find(|(_, member)| member.upstream.id == id)
    }
}

/// Makes sets, one after the other.
pub struct Maker {
    tally: Arc<Tally>,
    template: Template,
    tls: Option<Tls>,
    number: u16,
}

/// What all upstreams of the directive have in common.
struct Template {
    server_name: Option<Box<str>>,
    method: crate::data::upstream::HttpsMethod,
    source: Option<IpAddr>,
    expire: Nanos,
    max_age: Nanos,
    max_idle: usize,
}

impl Maker {
    /// Of upstreams as `options` say.
    pub fn new(options: &Options, tally: &Arc<Tally>) -> Self {
        let nanos = |duration: std::time::Duration| duration.as_nanos() as Nanos;
        let template = Template {
            server_name: options.server_name.as_deref().map(Into::into),
            method: options.method,
            source: options.source,
            expire: nanos(options.expire),
            max_age: nanos(options.max_age),
            max_idle: options.max_idle,
        };
        Self { tally: Arc::clone(tally), template, tls: None, number: 0 }
    }

    /// Has members made with these certificates from now on; others that are made with the old
    /// ones are not kept.
    pub fn trust(&mut self, tls: &Tls) {
        self.tls = Some(tls.clone());
    }

    /// Makes the set of `addresses`, out of `old` where it has them.
    ///
    /// # Errors
    /// A name that cannot be one in a certificate.
    pub fn make(&mut self, addresses: Vec<Address>, old: Option<&Set>) -> Result<Set, String> {
        let mut members = Vec::with_capacity(addresses.len());
        for address in addresses {
            let kept = old.into_iter().flat_map(|set| &set.members);
            let mut kept =
                kept.filter(|member| member.address == address && self.is_current(member));
            match kept.next_back() {
                Some(member) => members.push(Arc::clone(member)),
                None => members.push(Arc::new(self.member(address)?)),
            }
        }
        self.number = self.number.wrapping_add(1);
        Ok(Set { number: self.number, members })
    }

    /// Whether a member has the certificates that new ones get.
    fn is_current(&self, member: &Member) -> bool {
        let config = match &member.upstream.carrier {
            Carrier::Dns => return true,
            Carrier::Tls(target) => &target.config,
            Carrier::Https(target) => &target.tls.config,
        };
        self.tls.as_ref().is_some_and(|tls| tls.has(config))
    }

    fn member(&self, address: Address) -> Result<Member, String> {
        let Template { source, expire, max_age, max_idle, .. } = self.template;
        let spec = UpstreamSpec {
            proxy: PROXY,
            label: address.socket.to_string().into(),
            address: address.socket,
            carrier: self.carrier(&address)?,
            source,
            expire,
            max_age,
            max_idle,
        };
        let upstream = Upstream::new(spec, &self.tally);
        Ok(Member::new(address, upstream, &self.tally))
    }

    fn carrier(&self, address: &Address) -> Result<Carrier, String> {
        let target = |alpn| {
            let tls = self.tls.as_ref().ok_or("no certificates were loaded")?;
            let named = self.template.server_name.as_deref().or(address.server_name.as_deref());
            let server_name = match named {
                Some(name) => ServerName::try_from(name.to_owned())
                    .map_err(|_| format!("{name:?} cannot be the name in a certificate"))?,
                None => ServerName::from(address.socket.ip()),
            };
            Ok::<_, String>(TlsTarget { server_name, config: tls.config(alpn) })
        };
        Ok(match address.scheme {
            Scheme::Dns => Carrier::Dns,
            Scheme::Tls => Carrier::Tls(target(Alpn::Dot)?),
            Scheme::Https => Carrier::Https(HttpsTarget {
                tls: target(Alpn::H2)?,
                authority: authority(address).into(),
                path: PATH.into(),
                method: self.template.method,
            }),
        })
    }
}

/// `host` or `host:port`, as the URI of RFC 8484 has it.
fn authority(address: &Address) -> String {
    let socket = address.socket;
    let named = address.server_name.as_deref().filter(|name| name.parse::<IpAddr>().is_err());
    match (named, socket.port()) {
        (Some(name), 443) => name.to_owned(),
        (Some(name), port) => format!("{name}:{port}"),
        (None, 443) if socket.is_ipv6() => format!("[{}]", socket.ip()),
        (None, 443) => socket.ip().to_string(),
        (None, _) => socket.to_string(),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn address(text: &str) -> Address {
        let socket = text.parse().expect(text);
        Address { scheme: Scheme::Dns, socket, server_name: None }
    }

    fn maker() -> Maker {
        maker_on(&Tally::new(1))
    }

    fn maker_on(tally: &Arc<Tally>) -> Maker {
        let template = Template {
            server_name: None,
            method: Default::default(),
            source: None,
            expire: 0,
            max_age: 0,
            max_idle: 0,
        };
        Maker { tally: Arc::clone(tally), template, tls: None, number: 0 }
    }

    /// A set of so many upstreams.
    pub fn set_of(count: u16) -> Set {
        let addresses = (1..=count).map(|port| address(&format!("192.0.2.1:{port}"))).collect();
        maker().make(addresses, None).expect("a set")
    }

    /// A set of so many upstreams that are counted there.
    pub fn set_counted(tally: &Arc<Tally>, count: u16) -> Set {
        let addresses = (1..=count).map(|port| address(&format!("192.0.2.1:{port}"))).collect();
        maker_on(tally).make(addresses, None).expect("a set")
    }

    /// A set of these upstreams.
    pub fn set_of_addresses(texts: &[&str]) -> Set {
        maker().make(texts.iter().map(|text| address(text)).collect(), None).expect("a set")
    }

    #[test]
    fn members_stay_where_their_address_does() {
        let mut maker = maker();
        let [a, b, c] = ["192.0.2.1:53", "192.0.2.2:53", "192.0.2.3:53"].map(address);
        let old = maker.make(vec![a.clone(), b.clone()], None).expect("a set");
        let new = maker.make(vec![c, b], Some(&old)).expect("a set");
        assert_ne!(old.number, new.number);
        assert!(Arc::ptr_eq(&old.members[1], &new.members[1]));
        assert!(new.find(old.members[0].upstream.id).is_none());
        assert_eq!(new.find(old.members[1].upstream.id).map(|(index, _)| index), Some(1));
    }

    #[test]
    fn control_is_told_of_some_failures_only() {
        let set = set_of(1);
        let member = &set.members[0];
        let told = (0..1_000).filter(|ms| member.may_tell(ms * MILLISECOND)).count();
        assert_eq!(told, 10);
    }

    #[test]
    fn authorities() {
        for (socket, name, expected) in [
            ("9.9.9.9:443", None, "9.9.9.9"),
            ("9.9.9.9:8443", None, "9.9.9.9:8443"),
            ("[2620:fe::fe]:443", None, "[2620:fe::fe]"),
            ("9.9.9.9:443", Some("dns.quad9.net"), "dns.quad9.net"),
            ("9.9.9.9:8443", Some("dns.quad9.net"), "dns.quad9.net:8443"),
        ] {
            let mut address = address(socket);
            address.server_name = name.map(Into::into);
            assert_eq!(authority(&address), expected);
        }
    }

    #[test]
    fn every_rcode_has_its_label() {
        for (code, label) in RCODES.iter().enumerate().take(24) {
            let name = crate::wire::rcode::name(code as u16);
            assert_eq!(*label, name.map_or(code.to_string(), str::to_owned));
        }
    }
}
