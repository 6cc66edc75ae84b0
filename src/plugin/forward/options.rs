//! What one use of the directive says: FROM, TO and the options of its block.
//!
//! Nothing is opened here: files are read and names looked up when the link is compiled. Errors are
//! in CoreDNS's words.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::choice::Policy;
use super::target::{self, Target};
use crate::control::corefile::{
    CorefileError, Lines, OptionLine, Place, Stanza, Token, format_duration, parse_duration,
    zones_of_text,
};
use crate::data::upstream::HttpsMethod;
use crate::limits::{FORWARD_HEDGE_PERCENT, FORWARD_TARGETS_MAX};
use crate::wire::{NameBuf, rcode};

const NAMES: &[&str] = &[
    "except",
    "force_tcp",
    "prefer_udp",
    "expire",
    "max_age",
    "max_idle_conns",
    "read_timeout",
    "max_fails",
    "max_connect_attempts",
    "doh_method",
    "tls",
    "tls_servername",
    "policy",
    "health_check",
    "max_concurrent",
    "next",
    "next_on_nodata",
    "failover",
    "failfast_all_unhealthy_upstreams",
    "source_address",
    "resolver",
    "hedge",
];

/// A set of rcodes that have names: all are below 32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rcodes(u32);

impl Rcodes {
    /// Whether it holds `rcode`.
    pub fn has(self, rcode: u16) -> bool {
        rcode < 32 && self.0 & 1 << rcode != 0
    }
}

/// How upstreams are probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probing {
    /// Between two probes.
    pub interval: Duration,
    /// RD of the probes.
    pub recursion: bool,
    /// The name whose NS records are asked for.
    pub domain: NameBuf,
}

/// Certificates of `tls`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain and key of ours.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Whom to trust; none: the system's.
    pub roots: Option<PathBuf>,
    /// Where the option stands.
    pub place: Option<Place>,
}

/// One use of the directive.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it stands.
    pub place: Place,
    /// FROM as written, where it names several zones: only the first counts.
    pub cut: Option<String>,
    /// Names below it are forwarded.
    pub from: NameBuf,
    /// TO, in order, as written.
    pub targets: Vec<(Target, Place)>,
    /// Names below these are not.
    pub except: Vec<NameBuf>,
    /// TCP whatever the client came by.
    pub force_tcp: bool,
    /// UDP whatever the client came by, TCP after a truncated reply.
    pub prefer_udp: bool,
    /// Idle sockets are closed after.
    pub expire: Duration,
    /// Connections are closed after; zero: never.
    pub max_age: Duration,
    /// Idle connections kept; 0: no bound.
    pub max_idle: usize,
    /// For one upstream's reply.
    pub read_timeout: Duration,
    /// Failed probes that are still borne; 0: no probes.
    pub max_fails: u32,
    /// Upstreams that one query may try; 0: no bound of its own; none: twice their number.
    pub attempts: Option<u32>,
    /// Of DNS over HTTPS.
    pub method: HttpsMethod,
    /// Of DNS over TLS and HTTPS.
    pub tls: TlsFiles,
    /// The name in all certificates.
    pub server_name: Option<String>,
    /// Which upstream first.
    pub policy: Policy,
    /// How upstreams are probed.
    pub probing: Probing,
    /// Queries that wait at a time; 0: no bound.
    pub max_concurrent: u32,
    /// Replies that the next use of the directive is asked after.
    pub next: Rcodes,
    /// Likewise replies without data.
    pub next_on_nodata: bool,
    /// Replies that another upstream is asked after.
    pub failover: Rcodes,
    /// All upstreams down: do not try any.
    pub failfast: bool,
    /// Where queries leave from.
    pub source: Option<IpAddr>,
    /// Who resolves host names; none: the system.
    pub resolvers: Vec<SocketAddr>,
    /// Queries of a hundred that may ask a second upstream early; 0: none.
    pub hedge: u32,
}

impl Options {
    /// Reads one use.
    ///
    /// # Errors
    /// In CoreDNS's words.
    pub fn read(lines: &Lines<'_>, stanza: &Stanza) -> Result<Self, CorefileError> {
        let [from, to @ ..] = &stanza.args[..] else { return Err(lines.arg_err(&stanza.name)) };
        let zones = zones_of_text(&from.text);
        let Some(zone) = zones.first() else {
            return Err(lines.err(from, format!("unable to normalize '{}'", from.text)));
        };
        if to.is_empty() {
            return Err(lines.arg_err(from));
        }
        let mut this = Self::new(stanza.name.place.clone(), *zone);
        this.cut = (zones.len() > 1).then(|| from.text.clone());
        for option in &stanza.options {
            this.option(lines, option)?;
        }
        if !this.max_age.is_zero() && this.max_age < this.expire {
            let (age, expire) = (format_duration(this.max_age), format_duration(this.expire));
            let words = format!("max_age ({age}) must not be less than expire ({expire})");
            return Err(lines.err(&stanza.name, words));
        }
        for word in to {
            let target = target::parse(&word.text, this.server_name.as_deref());
            let target = target.map_err(|message| lines.err(word, message))?;
            this.targets.push((target, word.place.clone()));
        }
        if to.len() > FORWARD_TARGETS_MAX {
            let words = format!("more than {FORWARD_TARGETS_MAX} TOs configured: {}", to.len());
            return Err(lines.err(&to[FORWARD_TARGETS_MAX], words));
        }
        Ok(this)
    }

    fn new(place: Place, from: NameBuf) -> Self {
        Self {
            place,
            cut: None,
            from,
            targets: Vec::new(),
            except: Vec::new(),
            force_tcp: false,
            prefer_udp: false,
            expire: Duration::from_secs(10),
            max_age: Duration::ZERO,
            max_idle: 0,
            read_timeout: Duration::from_secs(2),
            max_fails: 2,
            attempts: None,
            method: HttpsMethod::Post,
            tls: TlsFiles::default(),
            server_name: None,
            policy: Policy::Random,
            probing: Probing {
                interval: Duration::from_millis(500),
                recursion: true,
                domain: NameBuf::root(),
            },
            max_concurrent: 0,
            next: Rcodes::default(),
            next_on_nodata: false,
            failover: Rcodes::default(),
            failfast: false,
            source: None,
            resolvers: Vec::new(),
            hedge: 0,
        }
    }

    fn option(&mut self, lines: &Lines<'_>, option: &OptionLine) -> Result<(), CorefileError> {
        match option.name.text.as_str() {
            "except" => {
                let names = lines.some_args(option)?;
                self.except.extend(names.iter().flat_map(|name| zones_of_text(&name.text)));
            }
            "force_tcp" => self.force_tcp = flag(lines, option)?,
            "prefer_udp" => self.prefer_udp = flag(lines, option)?,
            "next_on_nodata" => self.next_on_nodata = flag(lines, option)?,
            "failfast_all_unhealthy_upstreams" => self.failfast = flag(lines, option)?,
            "expire" => self.expire = duration(lines, option)?,
            "max_age" => self.max_age = duration(lines, option)?,
            "read_timeout" => self.read_timeout = read_timeout(lines, option)?,
            "max_idle_conns" => {
                self.max_idle = whole(lines, option)?.try_into().unwrap_or(usize::MAX);
            }
            "max_concurrent" => {
                self.max_concurrent = whole(lines, option)?.try_into().unwrap_or(u32::MAX);
            }
            "max_fails" => self.max_fails = lines.number(first(lines, option)?, 0..=u32::MAX)?,
            "max_connect_attempts" => {
                self.attempts = Some(lines.number(first(lines, option)?, 0..=u32::MAX)?);
            }
            "doh_method" => self.method = method(lines, option)?,
            "tls" => self.tls = tls_files(lines, option)?,
            "tls_servername" => self.server_name = Some(first(lines, option)?.text.clone()),
            "policy" => self.policy = policy(lines, option)?,
            "health_check" => self.probing = probing(lines, option, &self.probing)?,
            "next" => {
                let rcodes = rcodes(lines, option)?;
                self.next = Rcodes(self.next.0 | rcodes.0);
            }
            "failover" => self.failover = failover(lines, option, self.failover)?,
            "source_address" => self.source = Some(address(lines, first(lines, option)?)?),
            "resolver" => self.resolvers = resolvers(lines, option)?,
            "hedge" => self.hedge = hedge(lines, option)?,
            _ => return Err(lines.unknown_option(&option.name, NAMES)),
        }
        Ok(())
    }
}

/// The first argument: what else stands on the line CoreDNS takes for another option.
fn first<'l>(lines: &Lines<'_>, option: &'l OptionLine) -> Result<&'l Token, CorefileError> {
    match &option.args[..] {
        [only] => Ok(only),
        [_, extra, ..] => Err(lines.unknown_option(extra, NAMES)),
        [] => Err(lines.arg_err(&option.name)),
    }
}

fn flag(lines: &Lines<'_>, option: &OptionLine) -> Result<bool, CorefileError> {
    lines.no_args(option)?;
    Ok(true)
}

/// A duration that says itself whether it is below zero.
fn signed(lines: &Lines<'_>, token: &Token) -> Result<(bool, Duration), CorefileError> {
    if let Some(Ok(below)) = token.text.strip_prefix('-').map(parse_duration) {
        return Ok((!below.is_zero(), below));
    }
    lines.duration(token).map(|duration| (false, duration))
}

fn duration(lines: &Lines<'_>, option: &OptionLine) -> Result<Duration, CorefileError> {
    let token = first(lines, option)?;
    match signed(lines, token)? {
        (false, duration) => Ok(duration),
        (true, below) => {
            let (name, below) = (&option.name.text, format_duration(below));
            Err(lines.err(token, format!("{name} can't be negative: -{below}")))
        }
    }
}

fn read_timeout(lines: &Lines<'_>, option: &OptionLine) -> Result<Duration, CorefileError> {
    let token = first(lines, option)?;
    match signed(lines, token)? {
        (false, duration) if !duration.is_zero() => Ok(duration),
        (below, duration) => {
            let sign = if below { "-" } else { "" };
            let duration = format_duration(duration);
            Err(lines.err(token, format!("read_timeout must be positive: {sign}{duration}")))
        }
    }
}

/// A number that is not below zero, in the words of an option that is read by Go's `Atoi`.
fn whole(lines: &Lines<'_>, option: &OptionLine) -> Result<u64, CorefileError> {
    let token = first(lines, option)?;
    let number: i64 = lines.number(token, i64::MIN..=i64::MAX)?;
    u64::try_from(number)
        .map_err(|_| lines.err(token, format!("{} can't be negative: {number}", option.name.text)))
}

fn method(lines: &Lines<'_>, option: &OptionLine) -> Result<HttpsMethod, CorefileError> {
    let token = first(lines, option)?;
    match token.text.as_str() {
        "POST" => Ok(HttpsMethod::Post),
        "GET" => Ok(HttpsMethod::Get),
        _ => Err(lines.err(token, "doh_method must be either POST or GET")),
    }
}

fn tls_files(lines: &Lines<'_>, option: &OptionLine) -> Result<TlsFiles, CorefileError> {
    let path = |token: &Token| lines.path(&token.text);
    let (client, roots) = match &option.args[..] {
        [] => (None, None),
        [roots] => (None, Some(path(roots))),
        [chain, key] => (Some((path(chain), path(key))), None),
        [chain, key, roots] => (Some((path(chain), path(key))), Some(path(roots))),
        [.., last] => return Err(lines.arg_err(last)),
    };
    Ok(TlsFiles { client, roots, place: Some(option.name.place.clone()) })
}

fn policy(lines: &Lines<'_>, option: &OptionLine) -> Result<Policy, CorefileError> {
    let token = first(lines, option)?;
    let known = ["random", "round_robin", "sequential", "fastest"];
    match token.text.as_str() {
        "random" => Ok(Policy::Random),
        "round_robin" => Ok(Policy::RoundRobin),
        "sequential" => Ok(Policy::Sequential),
        "fastest" => Ok(Policy::Fastest),
        other => {
            let error = lines.parse_err(token, format!("unknown policy '{other}'"));
            Err(error.suggesting(other, &known))
        }
    }
}

fn probing(
    lines: &Lines<'_>,
    option: &OptionLine,
    before: &Probing,
) -> Result<Probing, CorefileError> {
    let [interval, words @ ..] = &option.args[..] else { return Err(lines.arg_err(&option.name)) };
    let (below, duration) = signed(lines, interval)?;
    if below {
        let nanos = duration.as_nanos();
        return Err(lines.err(interval, format!("health_check can't be negative: -{nanos}")));
    }
    let mut probing =
        Probing { interval: duration, recursion: before.recursion, domain: NameBuf::root() };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.text.as_str() {
            "no_rec" => probing.recursion = false,
            "domain" => {
                let Some(domain) = words.next() else { return Err(lines.arg_err(word)) };
                let name = NameBuf::parse(&domain.text).map_err(|_| {
                    let text = &domain.text;
                    lines.err(domain, format!("health_check: invalid domain name {text}"))
                })?;
                probing.domain = NameBuf::lowered(name.as_name());
            }
            other => {
                let error = lines.err(word, format!("health_check: unknown option {other}"));
                return Err(error.suggesting(other, &["no_rec", "domain"]));
            }
        }
    }
    Ok(probing)
}

fn rcodes(lines: &Lines<'_>, option: &OptionLine) -> Result<Rcodes, CorefileError> {
    let mut rcodes = Rcodes::default();
    for word in lines.some_args(option)? {
        rcodes.0 |= 1 << one_rcode(lines, word)?;
    }
    Ok(rcodes)
}

/// An rcode by its name, as miekg/dns has them.
fn one_rcode(lines: &Lines<'_>, word: &Token) -> Result<u16, CorefileError> {
    let text = word.text.to_ascii_uppercase();
    let known = match text.as_str() {
        "NOTIMPL" => Some(rcode::NOTIMP),
        _ => rcode::parse(&text).filter(|code| rcode::name(*code) == Some(&text)),
    };
    known.ok_or_else(|| lines.err(word, format!("{} is not a valid rcode", word.text)))
}

fn failover(
    lines: &Lines<'_>,
    option: &OptionLine,
    before: Rcodes,
) -> Result<Rcodes, CorefileError> {
    let rcodes = rcodes(lines, option)?;
    if rcodes.has(rcode::NOERROR) {
        return Err(lines.err(&option.name, "NoError cannot be used in failover"));
    }
    Ok(Rcodes(before.0 | rcodes.0))
}

fn address(lines: &Lines<'_>, token: &Token) -> Result<IpAddr, CorefileError> {
    let refuse = |_| lines.parse_err(token, format!("invalid IP address: {}", token.text));
    token.text.parse().map_err(refuse)
}

fn resolvers(lines: &Lines<'_>, option: &OptionLine) -> Result<Vec<SocketAddr>, CorefileError> {
    let read = |word: &Token| {
        let text = &word.text;
        let bare = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
        bare.or_else(|_| text.parse()).map_err(|_| {
            let words = format!("resolver must be an IP address or IP:port: {text:?}");
            lines.err(word, words)
        })
    };
    lines.some_args(option)?.iter().map(read).collect()
}

fn hedge(lines: &Lines<'_>, option: &OptionLine) -> Result<u32, CorefileError> {
    let Some(share) = lines.at_most_one(option)? else { return Ok(FORWARD_HEDGE_PERCENT) };
    match share.text.trim_end_matches('%').parse() {
        Ok(percent @ 1..=100) => Ok(percent),
        _ => {
            let words = format!("hedge: {:?} is not a share from 1% to 100%", share.text);
            Err(lines.err(share, words))
        }
    }
}
