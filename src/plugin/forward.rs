//! # forward
//!
//! Hands queries to other servers and their replies back.
//!
//! ## Syntax
//!
//! ```text
//! forward FROM TO... {
//!     except NAMES...
//!     force_tcp
//!     prefer_udp
//!     expire DURATION
//!     max_age DURATION
//!     max_idle_conns NUMBER
//!     read_timeout DURATION
//!     max_fails NUMBER
//!     max_connect_attempts NUMBER
//!     doh_method GET|POST
//!     tls [CERT KEY] [CA]
//!     tls_servername NAME
//!     policy random|round_robin|sequential|fastest
//!     hedge [SHARE%]
//!     health_check DURATION [no_rec] [domain NAME]
//!     max_concurrent NUMBER
//!     next RCODE...
//!     next_on_nodata
//!     failover RCODE...
//!     failfast_all_unhealthy_upstreams
//!     source_address IP
//!     resolver IP[:PORT]...
//! }
//! ```
//!
//! Names below **FROM** are handed on, all other queries to the plugins below. **FROM** may be a
//! network, which stands for its reverse zone. Each **TO**, at most 15 of them, is an address with
//! or without a port, a file like `/etc/resolv.conf`, or a host name. `tls://` before it (port 853)
//! asks for DNS over TLS, `https://` (port 443) for DNS over HTTPS at `/dns-query`; the name in the
//! server's certificate follows an address after `%`: `tls://9.9.9.9%dns.quad9.net`.
//!
//! An upstream that fails is passed over for the next one, within five seconds for the whole query.
//! Several uses in a block are tried in their order.
//!
//! * `except`: names below these are not handed on.
//! * `force_tcp`: TCP is used, whatever the client came by.
//! * `prefer_udp`: UDP is used, whatever the client came by, and TCP when the reply was truncated.
//! * `expire`, `max_age`, `max_idle_conns`: sockets are closed when they were idle for so long (by
//!   default 10s), were open for so long (by default never), or when more are idle.
//! * `read_timeout`: for the reply of one upstream, by default 2s.
//! * `max_fails`: an upstream is not asked any more when more probes in a row fail than this, by
//!   default 2. 0: it always is, and there are no probes.
//! * `max_connect_attempts`: upstreams that one query tries, by default twice as many as there are.
//! * `doh_method`: of DNS over HTTPS, by default POST.
//! * `tls`: our certificate and key, and the authority that signed the servers' certificates; without
//!   it those of the system count. `tls_servername`: the name in all certificates.
//! * `policy`: which upstream comes first. `random` is the default, `round_robin` takes turns,
//!   `sequential` keeps to the order of the Corefile, `fastest` takes the one with the least expected
//!   wait, by the latency seen and the queries that are waiting there, and now and then another one,
//!   so as to learn of it.
//! * `hedge`: a second upstream is asked when the first has not replied in the time in which it has
//!   answered 95 of 100 queries; the first reply counts. At most **SHARE** of all queries, by default
//!   5%, are sent twice.
//! * `health_check`: how often a failing upstream is probed (by default 500ms), with RD unless
//!   `no_rec`, for the NS records of **NAME** (by default the root). Any reply will do.
//! * `max_concurrent`: when so many queries wait, others are refused.
//! * `next`, `next_on_nodata`: after a reply with one of these rcodes, or one without data, the next
//!   use of *forward* in the block is asked. Without one these do nothing.
//! * `failover`: after a reply with one of these rcodes another upstream is asked, each once.
//! * `failfast_all_unhealthy_upstreams`: when no upstream is up, queries fail at once. Without it any
//!   one is tried, in case it is only the probes that fail.
//! * `source_address`: where queries leave from.
//! * `resolver`: who resolves host names in **TO**, instead of the system.
//!
//! Host names are looked up again when their TTL is over, or every 30 seconds when nobody tells one;
//! if that fails, the upstreams stay. Files are read again when the Corefile is reloaded.
//!
//! An upstream that has failed is asked last until a probe or a reply shows that it lives. Likewise
//! one that answers nearly everything with SERVFAIL, or that leaves one query in sixteen unanswered,
//! while others do better; and, unless the policy is `sequential`, one from which nothing comes any more
//! while queries wait there, for a tenth of a second and four times as long as it usually takes.
//!
//! ## Metadata
//!
//! * `forward/upstream`: who replied.
//!
//! ## Metrics
//!
//! * `coredns_forward_healthcheck_broken_total{}`: queries that found no upstream up.
//! * `coredns_forward_max_concurrent_rejects_total{}`: queries over `max_concurrent`.
//! * `coredns_proxy_request_duration_seconds{proxy_name="forward", to, rcode}`: time to a reply.
//! * `coredns_proxy_healthcheck_failures_total{proxy_name="forward", to}`: probes that failed.
//! * `coredns_proxy_conn_cache_hits_total{proxy_name="forward", to, proto}` and
//!   `coredns_proxy_conn_cache_misses_total{...}`: queries that found an open socket, or did not.
//! * `corelane_upstream_duration_seconds{proxy_name="forward", to}`: time from sending a query to the
//!   reply, of every reply: the median and the 90th, 99th and 99.9th percentile of the last five to
//!   ten minutes.
//! * `corelane_upstream_failed_total{proxy_name="forward", to, reason}`: queries without a reply, which
//!   was `late` or could not be had (`unreached`).
//! * `corelane_upstream_repeated_total{proxy_name="forward", to, reason}`: queries sent again, since an
//!   open connection had been `closed` or the upstream does not keep the `case` of names.
//! * `corelane_upstream_hedged_total{proxy_name="forward", to}`: queries that `hedge` sent to it.
//! * `corelane_upstream_ignored_total{proxy_name="forward", to, reason}`: messages that came from it and
//!   were no reply to what was asked. More than a few: somebody forges replies.
//! * `corelane_upstream_bounds_total{proxy_name="forward", to}`: queries not sent, for want of a socket
//!   or a place among those that wait for it.
//! * `corelane_forward_breaker_trips_total{to}`: bursts of SERVFAIL or of lost queries.
//!
//! ## Examples
//!
//! ```corefile
//! . {
//!     forward lab.example.org 10.20.0.1
//!     forward . /etc/resolv.conf {
//!         except example.net
//!         max_concurrent 1000
//!     }
//! }
//! ```
//!
//! ```corefile
//! . {
//!     forward . tls://9.9.9.9 tls://149.112.112.112 {
//!         tls_servername dns.quad9.net
//!         policy fastest
//!         hedge 5%
//!     }
//! }
//! ```
//!
//! ## Differences from CoreDNS
//!
//! * Host names are looked up again and again, not only at the start. One behind `tls://` or
//!   `https://` is also the name that the certificate must hold.
//! * `read_timeout` bounds the whole exchange, connecting included, and holds for HTTPS too.
//! * A reply to another question is passed over, and FORMERR is what the client gets when nothing
//!   better comes in time; CoreDNS says so at once.
//! * What is logged of a failed exchange names the upstream's address, not our own beside it.
//! * A client with EDNS is told why its query failed (RFC 8914).
//! * `policy fastest`, `hedge`, and what is said above of upstreams that are asked last.

mod breaker;
mod choice;
mod health;
mod options;
mod resolve;
mod set;
mod source;
mod target;
mod tls;
mod trust;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use super::dnstap::{Kind, Origin, Taps};
use super::{Compiled, CorefileError, Cx, Directive, Facts, Fetched, Lines, Plugin};
use super::{SetupError, Site, Step};
use crate::data::clock::Nanos;
use crate::data::tally::Counter;
use crate::data::tally::families::{FORWARD_BROKEN, FORWARD_REJECTS};
use crate::data::upstream::{Carrier, Unreached};
use crate::limits::{FORWARD_ATTEMPTS_MAX, FORWARD_HEDGES_MAX, FORWARD_QUERY_NANOS};
use crate::publish::{Published, Reader};
use crate::wire::{Flags, Name, NameBuf, WireError, edns, options, rcode};
use choice::{Choice, Chooser, Round};
use options::{Options, Rcodes};
use set::{Member, Set};
use source::Source;

/// The directive.
pub struct Forward {
    uses: Vec<Options>,
}

impl Directive for Forward {
    const NAME: &'static str = "forward";
    const CARRIED: bool = true;

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let uses = lines.stanzas().iter().map(|stanza| Options::read(lines, stanza));
        Ok(Self { uses: uses.collect::<Result<_, _>>()? })
    }

    fn facts(&self, facts: &mut Facts) {
        facts.any_class = true;
    }

    fn compile(self, site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        let mut sources = Vec::new();
        let mut probed = Vec::new();
        let mut uses = Vec::new();
        for options in self.uses {
            if let Some(text) = &options.cut {
                tracing::warn!(
                    target: "plugin/forward",
                    "Unsupported CIDR notation: '{text}' expands to multiple zones. \
                     Using only '{}'.",
                    options.from
                );
            }
            let (source, first) = Source::start(&options, site.tally)
                .map_err(|(place, message)| SetupError { place: Some(place), message })?;
            let set = Arc::new(Published::from_arc(first));
            sources.push((source, Arc::clone(&set)));
            probed.push(health::Probed {
                set: Arc::clone(&set),
                probing: options.probing.clone(),
                force_tcp: options.force_tcp,
                max_fails: options.max_fails,
            });
            uses.push(Use::new(options, set));
        }
        let (alarm, probing) = health::start(probed, Arc::clone(site.tally));
        let sink = site.sink(alarm);
        site.spawn(probing);
        let (sources, sets) = sources.into_iter().unzip();
        source::watch(sources, sets, site);
        let broken = site.tally.counter(&FORWARD_BROKEN, &[]);
        let rejects = site.tally.counter(&FORWARD_REJECTS, &[]);
        Ok(Compiled::link(Link { uses, sink, broken, rejects }))
    }
}

/// One use of the directive, as a query meets it.
struct Use {
    from: NameBuf,
    except: Vec<NameBuf>,
    set: Arc<Published<Set>>,
    chooser: Chooser,
    force_tcp: bool,
    prefer_udp: bool,
    failfast: bool,
    read_timeout: Nanos,
    attempts: Option<u32>,
    next: Rcodes,
    next_on_nodata: bool,
    failover: Rcodes,
    /// 0: no bound.
    max_concurrent: u32,
    waiting: Arc<AtomicU32>,
    /// Queries of a hundred.
    hedge: u32,
}

impl Use {
    fn new(options: Options, set: Arc<Published<Set>>) -> Self {
        Self {
            from: options.from,
            except: options.except,
            set,
            chooser: Chooser::new(options.policy, options.max_fails),
            force_tcp: options.force_tcp,
            prefer_udp: options.prefer_udp,
            failfast: options.failfast,
            read_timeout: options.read_timeout.as_nanos() as Nanos,
            attempts: options.attempts,
            next: options.next,
            next_on_nodata: options.next_on_nodata,
            failover: options.failover,
            max_concurrent: options.max_concurrent,
            waiting: Arc::default(),
            hedge: options.hedge,
        }
    }

    /// Whether a name, in lower case, is handed on.
    fn takes(&self, name: Name<'_>) -> bool {
        let from = self.from.as_name();
        let except = |except: &NameBuf| name.is_under(except.as_name());
        name.is_under(from) && (name == from || !self.except.iter().any(except))
    }

    /// Upstreams that a query may try.
    fn attempts_max(&self, upstreams: usize) -> u8 {
        let most = match self.attempts {
            None => 2 * upstreams as u32,
            Some(0) => u32::MAX,
            Some(attempts) => attempts,
        };
        most.clamp(1, FORWARD_ATTEMPTS_MAX.into()) as u8
    }
}

/// The link: all uses in the block.
pub struct Link {
    uses: Vec<Use>,
    sink: u32,
    broken: Counter,
    rejects: Counter,
}

/// One use on one worker.
pub struct Here {
    set: Reader<Set>,
    /// Hundredths of a query that may be sent twice.
    hedges: u32,
}

impl Here {
    /// Saves up for one query; whether it may be sent twice.
    fn may_hedge(&mut self, percent: u32) -> bool {
        self.hedges = (self.hedges + percent).min(100 * FORWARD_HEDGES_MAX);
        self.hedges >= 100
    }
}

/// A query that waits for an upstream.
#[derive(Clone, Copy)]
pub struct Attempt {
    /// Who was asked in this round.
    tried: Round,
    /// When the upstream was asked.
    asked: Nanos,
    /// When the query came to this use, in microseconds since it arrived.
    began_micros: u32,
    /// How long the first upstream is waited for alone, in microseconds; 0: the wait is not hedged.
    alone_micros: u32,
    /// Number of the set that `tried`, `first` and `second` are of.
    set: u16,
    which: u8,
    attempts: u8,
    failovers: u8,
    first: u8,
    stream: bool,
    /// Nobody was up.
    blind: bool,
}

/// Why an upstream gave no reply that can be handed on.
#[derive(Clone, Copy)]
enum Failure {
    /// There is nobody to ask.
    NoHealthy,
    Late,
    Unreached(Unreached),
    Broken(WireError),
}

impl Failure {
    /// Whether there was no way to the upstream.
    fn is_unmade(&self) -> bool {
        matches!(self, Self::Unreached(Unreached::Refused | Unreached::NoRoute))
    }

    fn is_closed(&self) -> bool {
        matches!(self, Self::Unreached(Unreached::Closed))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHealthy => f.write_str("no healthy proxies"),
            Self::Late => f.write_str("i/o timeout"),
            Self::Unreached(why) => f.write_str(why.as_str()),
            Self::Broken(why) => why.fmt(f),
        }
    }
}

impl Link {
    /// Tells `dnstap` above of what was exchanged with an upstream, whether it replied or not.
    fn tap(taps: &Taps, here: &Here, cx: &mut Cx<'_>, attempt: &Attempt) {
        fn query<'c>(cx: &'c Cx<'_>) -> &'c [u8] {
            // A question of the walk's own was never a client's message.
            if cx.depth() == 0 { cx.request() } else { &[] }
        }
        fn reply<'c>(cx: &'c Cx<'_>) -> &'c [u8] {
            cx.message()
        }
        let set = here.set.get();
        let by = cx.answered_by();
        let member = match by {
            Some(id) => set.find(id).map(|(_, member)| member),
            None => set.members.get(attempt.first as usize),
        };
        let Some(address) = member.map(|member| member.upstream.address) else { return };
        let origin = Origin::Upstream(address, attempt.stream);
        taps.tell(cx, Kind::ForwarderQuery, origin, (attempt.asked, 0), query);
        if by.is_some() {
            let times = (attempt.asked, cx.core.now);
            taps.tell(cx, Kind::ForwarderResponse, origin, times, reply);
        }
    }

    /// Begins with the first use from `from` on that takes the name.
    fn enter(&self, here: &mut [Here], cx: &mut Cx<'_>, from: usize) -> Step<Attempt> {
        let name = cx.question().lower;
        let Some(which) = (from..self.uses.len()).find(|which| self.uses[*which].takes(name))
        else {
            return Step::Next;
        };
        let this = &self.uses[which];
        if this.max_concurrent != 0 && !cx.hold(&this.waiting, this.max_concurrent) {
            cx.core.tally.add(self.rejects, 1);
            let most = this.max_concurrent;
            cx.fail(rcode::REFUSED, format_args!("concurrent queries exceeded maximum {most}"));
            return Step::Up;
        }
        let attempt = Attempt {
            tried: Round::default(),
            asked: 0,
            began_micros: micros(cx.core.now.saturating_sub(cx.arrived())),
            alone_micros: 0,
            set: here[which].set.get().number,
            which: which as u8,
            attempts: 0,
            failovers: 0,
            first: 0,
            stream: this.force_tcp || !this.prefer_udp && cx.client().transport.is_stream(),
            blind: false,
        };
        self.ask(&mut here[which], cx, attempt)
    }

    /// Asks the upstream whose turn it is.
    fn ask(&self, here: &mut Here, cx: &mut Cx<'_>, mut attempt: Attempt) -> Step<Attempt> {
        let this = &self.uses[attempt.which as usize];
        let may_hedge = this.hedge != 0 && here.may_hedge(this.hedge);
        let set = here.set.get();
        if attempt.set != set.number {
            (attempt.set, attempt.tried) = (set.number, Round::default());
        }
        let now = cx.core.now;
        let choice = this.chooser.choose(set, &mut attempt.tried, &mut cx.core.rng, now);
        let first = match choice {
            Choice::One(first) => first,
            Choice::Blind(first) => {
                cx.core.tally.add(self.broken, 1);
                attempt.blind = true;
                if this.failfast {
                    return self.give_up(cx, None, Failure::NoHealthy);
                }
                first
            }
            Choice::None => return self.give_up(cx, None, Failure::NoHealthy),
        };
        (attempt.first, attempt.asked, attempt.alone_micros) = (first as u8, now, 0);
        attempt.stream = this.force_tcp || !this.prefer_udp && cx.client().transport.is_stream();
        let (member, deadline) = (&set.members[first], now + this.read_timeout);
        let second = match may_hedge && !attempt.blind {
            true => this.chooser.second(set, attempt.tried, &mut cx.core.rng, now),
            false => None,
        };
        let alone = member.upstream.cells.p95();
        let fetch = match second {
            Some(second) if alone != 0 && alone < this.read_timeout => {
                here.hedges -= 100;
                attempt.alone_micros = micros(alone).max(1);
                let second = &set.members[second].upstream;
                let stream = attempt.stream;
                cx.exchange_hedged(&member.upstream, second, now + alone, stream, deadline)
            }
            _ => cx.exchange(&member.upstream, attempt.stream, deadline),
        };
        Step::Fetch(attempt, fetch)
    }

    /// Takes up an upstream's reply.
    fn replied(&self, here: &mut [Here], cx: &mut Cx<'_>, attempt: Attempt) -> Step<Attempt> {
        let which = attempt.which as usize;
        let (this, now) = (&self.uses[which], cx.core.now);
        let set = here[which].set.get();
        let by = cx.answered_by().and_then(|id| set.find(id)).map(|(_, member)| &**member);
        let flags = Flags::read(cx.message());
        let plain = by.is_some_and(|member| matches!(member.upstream.carrier, Carrier::Dns));
        if flags.tc()
            && this.prefer_udp
            && !attempt.stream
            && plain
            && let Some(member) = by
        {
            let fetch = cx.exchange(&member.upstream, true, now + this.read_timeout);
            let attempt = Attempt { stream: true, alone_micros: 0, asked: now, ..attempt };
            return Step::Fetch(attempt, fetch);
        }
        let adopted = cx.adopt();
        if let Ok(Some(opt)) = adopted {
            hand_on_options(cx, opt.options_at, opt.options_len);
        }
        match adopted {
            Ok(_) => {}
            // More records than octets: CoreDNS hands on a truncated reply over UDP, so that the
            // client comes again by TCP.
            Err(WireError::Short | WireError::Overrun) if plain && !attempt.stream => {
                let (_, reply) = cx.answer(false);
                reply.set_flags(flags.with_qr(true).with_tc(true));
            }
            Err(error) => return self.failed(here, cx, attempt, Failure::Broken(error)),
        }
        let code = cx.reply().rcode();
        if let Some(member) = by {
            self.learn(set, member, cx, &attempt, code);
        }
        if this.failover.has(code) && usize::from(attempt.failovers) + 1 < set.members.len() {
            cx.level_mut().clear_reply();
            let failovers = attempt.failovers + 1;
            return self.ask(&mut here[which], cx, Attempt { failovers, ..attempt });
        }
        cx.release();
        let no_data = code == rcode::NOERROR && cx.reply().counts().answer == 0;
        let next = this.next.has(code) || this.next_on_nodata && no_data;
        if next && which + 1 < self.uses.len() {
            cx.level_mut().clear_reply();
            return self.enter(here, cx, which + 1);
        }
        Step::Up
    }

    /// Notes what a reply tells of the upstream.
    fn learn(&self, set: &Set, member: &Member, cx: &mut Cx<'_>, attempt: &Attempt, code: u16) {
        let now = cx.core.now;
        let mut took = now.saturating_sub(attempt.asked);
        let first = set.members.get(attempt.first as usize);
        if attempt.alone_micros != 0
            && first.is_some_and(|first| first.upstream.id != member.upstream.id)
        {
            // The first has not answered in all that time.
            if let Some(first) = first.filter(|_| attempt.set == set.number) {
                first.upstream.cells.bear(took, now);
            }
            took = took.saturating_sub(u64::from(attempt.alone_micros) * 1_000);
        }
        cx.core.tally.observe(member.duration(code), took);
        member.clear();
        if set.members.len() > 1 {
            let trips = [
                member.servfails.note(code == rcode::SERVFAIL, now),
                member.losses.note(false, now),
            ];
            cx.core
                .tally
                .add(member.trips(), trips.into_iter().filter(|trip| *trip).count() as u64);
        }
    }

    /// Passes over an upstream that gave no reply, or gives up.
    fn failed(
        &self,
        here: &mut [Here],
        cx: &mut Cx<'_>,
        mut attempt: Attempt,
        failure: Failure,
    ) -> Step<Attempt> {
        let which = attempt.which as usize;
        let (this, now) = (&self.uses[which], cx.core.now);
        let set = here[which].set.get();
        let first = set.members.get(attempt.first as usize);
        let member = first.filter(|_| attempt.set == set.number).map(Arc::clone);
        // What had no time says nothing of the upstream.
        let cancelled = cx.is_cancelled();
        if let Some(member) = member.as_ref().filter(|_| !cancelled) {
            if matches!(failure, Failure::Late) {
                member.upstream.cells.bear(this.read_timeout, now);
                if set.members.len() > 1 && member.losses.note(true, now) {
                    cx.core.tally.add(member.trips(), 1);
                }
            }
            // A bound of ours says nothing of the upstream.
            let ours = matches!(failure, Failure::Unreached(Unreached::NoRoom));
            if this.chooser.max_fails != 0 && !ours {
                member.suspect();
                if member.may_tell(now) {
                    let told = health::failure(attempt.which, member.upstream.id);
                    cx.tell(self.sink, |event, _| event.push(&told));
                }
            }
        }
        attempt.attempts = attempt.attempts.saturating_add(1);
        let began = cx.arrived() + u64::from(attempt.began_micros) * 1_000;
        let over = now.saturating_sub(began) >= FORWARD_QUERY_NANOS
            || attempt.attempts >= this.attempts_max(set.members.len())
            || attempt.blind
            || cancelled;
        if over {
            return self.give_up(cx, member.as_deref().map(|one| (one, attempt.stream)), failure);
        }
        cx.level_mut().clear_reply();
        self.ask(&mut here[which], cx, attempt)
    }

    /// There is no reply: says why, to the log and to a client with EDNS.
    fn give_up(
        &self,
        cx: &mut Cx<'_>,
        asked: Option<(&Member, bool)>,
        failure: Failure,
    ) -> Step<Attempt> {
        cx.release();
        match asked {
            // CoreDNS writes this one: it is a reply, not a failure.
            _ if matches!(failure, Failure::Unreached(Unreached::Mismatched)) => {
                let (_, reply) = cx.answer(false);
                reply.set_rcode(rcode::FORMERR);
            }
            // Go's network library says this of a connection that ended, and no more.
            Some((member, true)) if failure.is_closed() && member.upstream.proto(true) == "tcp" => {
                cx.fail(rcode::SERVFAIL, format_args!("EOF"));
            }
            Some((member, stream)) => {
                let (proto, to) = (member.upstream.proto(stream), &member.upstream.label);
                // What failed, as Go's network library says it.
                let unmade = failure.is_unmade();
                let (verb, proto, step) = match proto {
                    "udp" if unmade => ("read", "udp", "read: "),
                    _ if unmade => ("dial", "tcp", "connect: "),
                    _ => ("read", proto, ""),
                };
                cx.fail(rcode::SERVFAIL, format_args!("{verb} {proto} {to}: {step}{failure}"));
            }
            None => cx.fail(rcode::SERVFAIL, format_args!("{failure}")),
        }
        if cx.asked().edns {
            // RFC 8914 sections 4.23 and 4.24: nobody could be reached, or something went wrong on
            // the way.
            let (code, why) = match failure {
                Failure::NoHealthy => (22, "no healthy upstream"),
                Failure::Late => (22, "upstream timed out"),
                Failure::Unreached(why) => (23, why.as_str()),
                Failure::Broken(_) => (23, "malformed reply"),
            };
            let mut option = [0; 64];
            let len = 2 + why.len().min(option.len() - 2);
            option[1] = code;
            option[2..len].copy_from_slice(&why.as_bytes()[..len - 2]);
            cx.level_mut().extra.push(edns::EDE, &option[..len]);
        }
        Step::Up
    }
}

/// Hands on what the upstream says in its OPT, but for what concerns its connection with us.
fn hand_on_options(cx: &mut Cx<'_>, at: u16, len: u16) {
    let mut octets = [0; crate::limits::OPT_EXTRA_BYTES_MAX];
    let from = cx.message().get(at as usize..).unwrap_or_default();
    let len = (len as usize).min(from.len()).min(octets.len());
    octets[..len].copy_from_slice(&from[..len]);
    let extra = &mut cx.level_mut().extra;
    extra.make_whole();
    for (code, data) in options(&octets[..len]).filter(|(code, _)| *code != edns::KEEPALIVE) {
        extra.push(code, data);
    }
}

fn micros(nanos: Nanos) -> u32 {
    u32::try_from(nanos / 1_000).unwrap_or(u32::MAX)
}

impl Plugin for Link {
    type Frame = Attempt;
    type Local = Vec<Here>;

    fn local(&self, _core: u16) -> Vec<Here> {
        self.uses.iter().map(|this| Here { set: this.set.reader(), hedges: 0 }).collect()
    }

    fn refresh(&self, here: &mut Vec<Here>) {
        here.iter_mut().for_each(|one| one.set.refresh());
    }

    fn meta_key(&self, label: &str) -> Option<u16> {
        (label == "forward/upstream").then_some(0)
    }

    fn meta(&self, here: &Vec<Here>, cx: &Cx<'_>, _key: u16, out: &mut dyn fmt::Write) -> bool {
        let Some(id) = cx.answered_by() else { return false };
        let found = here.iter().find_map(|one| one.set.get().find(id));
        if let Some((_, member)) = &found {
            let _ = out.write_str(&member.upstream.label);
        }
        found.is_some()
    }

    fn serve(&self, here: &mut Vec<Here>, cx: &mut Cx<'_>) -> Step<Attempt> {
        self.enter(here, cx, 0)
    }

    fn resume(&self, here: &mut Vec<Here>, cx: &mut Cx<'_>, attempt: Attempt) -> Step<Attempt> {
        let fetched = cx.fetched();
        let this = &mut here[attempt.which as usize];
        let took = cx.core.now.saturating_sub(attempt.asked);
        if attempt.alone_micros != 0 && took < u64::from(attempt.alone_micros) * 1_000 {
            // Nobody else was asked after all.
            this.hedges += 100;
        }
        if let Some(taps) = &cx.block().taps {
            Self::tap(taps, this, cx, &attempt);
        }
        match fetched {
            Fetched::Message => self.replied(here, cx, attempt),
            Fetched::Unreached(why) => self.failed(here, cx, attempt, Failure::Unreached(why)),
            _ => self.failed(here, cx, attempt, Failure::Late),
        }
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
