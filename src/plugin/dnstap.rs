//! # dnstap
//!
//! Tells a collector of queries and replies, as dnstap messages in a frame stream.
//!
//! ## Syntax
//!
//! ```text
//! dnstap SOCKET [full] [WRITEBUF] [QUEUE] {
//!     identity IDENTITY
//!     version VERSION
//!     extra EXTRA
//!     skipverify
//! }
//! dnstap listen SOCKET [full] [WRITEBUF] [QUEUE] {
//!     tls CERT KEY [CACERT]
//!     ...
//! }
//! ```
//!
//! * **SOCKET** is where the collector listens: a path or `unix://PATH`, `tcp://HOST:PORT`, or
//!   `tls://HOST:PORT`. With `listen` it is where collectors connect to; each gets all messages.
//! * `full`: with the DNS messages themselves.
//! * **WRITEBUF**: the socket's buffer in MiB, 1 to 1024, by default 1. **QUEUE**: how many messages
//!   may wait for the collector, in 10,000, 1 to 4096, by default 1. What finds it full is left out.
//! * `identity`: who we are, by default the host's name. `version`: by default CoreDNS's.
//! * `extra`: a text for each message, with the placeholders of *log*, of which those of the reply
//!   are `-`, as in CoreDNS; labels need *metadata*.
//! * `skipverify`: take any certificate of a collector over TLS.
//! * `tls`: our certificate and key as PEM files, for `listen tls://`; with **CACERT** clients need a
//!   certificate that it has signed.
//!
//! Messages are `CLIENT_QUERY` and `CLIENT_RESPONSE`, and for what *forward* below does
//! `FORWARDER_QUERY` and `FORWARDER_RESPONSE`. The directive may be used several times in a block.
//!
//! Workers hand the octets to the control plane through a ring per core and never wait; what finds
//! the ring full is counted in `corelane_events_dropped_total`. A connection that ends is made again
//! after a second, later every ten seconds; meanwhile messages wait in the queue.
//!
//! ## Metrics
//!
//! * `corelane_dnstap_dropped_total{endpoint}`: messages that the collector was too slow for.
//!
//! ## Examples
//!
//! ```corefile
//! . {
//!     dnstap tcp://127.0.0.1:6000 full
//!     dnstap listen tcp://127.0.0.1:6001 {
//!         identity dns-1
//!     }
//!     whoami
//! }
//! ```
//!
//! ## Differences from CoreDNS
//!
//! * Messages wait for a connection instead of being dropped while there is none.
//! * A message says which address of ours was asked, where the socket tells.

mod collector;
mod message;

use std::path::PathBuf;
use std::sync::Arc;

use super::log::format::{Format, Label, Line};
use super::{
    Compiled, CorefileError, Cx, Directive, Event, Lines, Plugin, ReplyState, SetupError, Sink,
    Site, Step,
};
use crate::control::corefile::{OptionLine, Token};
use crate::control::version;
use crate::data::clock::{self, Nanos};
use crate::data::tally::{Counter, Family, Kind as Counts, Tally};
use crate::limits::{DNSTAP_QUEUE_MAX, DNSTAP_QUEUE_UNIT, DNSTAP_WRITE_MIB_MAX};
use collector::{Collector, Endpoint, ListenTls};
use message::{Assembly, Head};
pub use message::{Kind, Origin};

static DROPPED: Family = Family {
    name: "corelane_dnstap_dropped_total",
    help: "dnstap messages left out because the collector was too slow.",
    kind: Counts::Counter,
    labels: &["endpoint"],
    from_start: false,
};

/// The directive: all its uses in the block.
pub struct Dnstap {
    taps: Vec<Settings>,
}

/// One use.
#[derive(Debug)]
struct Settings {
    endpoint: Endpoint,
    listen: bool,
    full: bool,
    write_bytes: usize,
    queue: usize,
    identity: String,
    version: String,
    extra: Option<Format>,
    skip_verify: bool,
    tls: Option<ListenTls>,
}

impl Directive for Dnstap {
    const NAME: &'static str = "dnstap";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let mut taps = Vec::new();
        for stanza in lines.stanzas() {
            let (listen, args) = match &stanza.args[..] {
                [] => return Err(lines.arg_err(&stanza.name)),
                [word] if word.text == "listen" => {
                    return Err(lines.err(word, "dnstap listen requires an endpoint argument"));
                }
                [word, args @ ..] if word.text == "listen" => (true, args),
                args => (false, args),
            };
            let endpoint =
                Endpoint::parse(&args[0].text).map_err(|why| lines.err(&args[0], why))?;
            let number = |at: usize, name: &str, unit: &str, most: usize| {
                args.get(at).map_or(Ok(1), |word| multiple(lines, word, name, unit, most))
            };
            let mib = number(2, "MultipleTcpWriteBuf", "MiB units", DNSTAP_WRITE_MIB_MAX)?;
            let many = number(3, "MultipleQueue", "x10k messages", DNSTAP_QUEUE_MAX)?;
            let mut tap = Settings {
                endpoint,
                listen,
                full: args.get(1).is_some_and(|word| word.text == "full"),
                write_bytes: mib << 20,
                queue: many * DNSTAP_QUEUE_UNIT,
                identity: crate::sys::hostname().to_string_lossy().into_owned(),
                version: format!("CoreDNS-{}", version::COREDNS),
                extra: None,
                skip_verify: false,
                tls: None,
            };
            for option in &stanza.options {
                tap.option(lines, option)?;
            }
            taps.push(tap);
        }
        Ok(Self { taps })
    }

    fn compile(self, site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        let mut taps = Vec::new();
        for tap in self.taps {
            let labels = tap.extra.as_ref().map(|extra| extra.labels(site)).unwrap_or_default();
            let (full, extra) = (tap.full, tap.extra.is_some());
            let dropped = site.tally.counter(&DROPPED, &[&tap.endpoint.to_string()]);
            let (collector, frames) = Collector::new(tap.queue);
            let (endpoint, skip_verify) = (tap.endpoint, tap.skip_verify);
            match tap.listen {
                true => site.spawn(collector::listen(endpoint, tap.tls, skip_verify, frames)),
                false => {
                    site.spawn(collector::connect(endpoint, skip_verify, tap.write_bytes, frames));
                }
            }
            let sink = site.sink(Recorder {
                assembly: Assembly::new(tap.identity, tap.version, tap.extra),
                collector,
                tally: Arc::clone(site.tally),
                dropped,
            });
            taps.push(Tap { sink, full, extra, labels });
        }
        Ok(Compiled::link(Link { taps: Arc::new(Taps(taps)) }))
    }
}

impl Settings {
    fn option(&mut self, lines: &Lines<'_>, option: &OptionLine) -> Result<(), CorefileError> {
        match option.name.text.as_str() {
            "skipverify" => {
                lone(lines, &option.args)?;
                self.skip_verify = true;
            }
            "identity" => self.identity = first(lines, option)?.text.clone(),
            "version" => self.version = first(lines, option)?.text.clone(),
            "extra" => self.extra = Some(Format::parse(&first(lines, option)?.text)),
            "tls" if !self.listen => {
                return Err(lines.err(&option.name, "tls directive only valid for listeners"));
            }
            "tls" => match &option.args[..] {
                [cert, key, rest @ ..] => {
                    let path = |word: &Token| PathBuf::from(&word.text);
                    let (cert, key) = (path(cert), path(key));
                    self.tls = Some(ListenTls { cert, key, ca: rest.first().map(path) });
                }
                _ => {
                    let why = "tls requires cert and key file paths";
                    return Err(lines.err(&option.name, why));
                }
            },
            _ => {
                let known = ["extra", "identity", "skipverify", "tls", "version"];
                return Err(lines.unknown_option(&option.name, &known));
            }
        }
        Ok(())
    }
}

/// The one argument of an option.
fn first<'l>(lines: &Lines<'_>, option: &'l OptionLine) -> Result<&'l Token, CorefileError> {
    let (first, rest) = option.args.split_first().ok_or_else(|| lines.arg_err(&option.name))?;
    lone(lines, rest)?;
    Ok(first)
}

/// Nothing more on the line: CoreDNS takes a further word for an option.
fn lone(lines: &Lines<'_>, rest: &[Token]) -> Result<(), CorefileError> {
    rest.first().map_or(Ok(()), |extra| Err(lines.unknown_option(extra, &[])))
}

/// A factor of 1 to `most`.
fn multiple(
    lines: &Lines<'_>,
    word: &Token,
    name: &str,
    unit: &str,
    most: usize,
) -> Result<usize, CorefileError> {
    let text = &word.text;
    let number: i64 = text.parse().map_err(|_| {
        let why = format!("strconv.Atoi: parsing {text:?}: invalid syntax");
        lines.err(word, format!("dnstap: invalid {name} {text:?}: {why}"))
    })?;
    usize::try_from(number).ok().filter(|number| (1..=most).contains(number)).ok_or_else(|| {
        lines.err(word, format!("dnstap: {name} must be between 1 and {most} ({unit}): {number}"))
    })
}

/// One use on the way of a query.
struct Tap {
    sink: u32,
    full: bool,
    extra: bool,
    labels: Vec<Label>,
}

/// All uses of a block: what *forward* below tells of its queries through.
pub struct Taps(Vec<Tap>);

impl Taps {
    /// Tells of one message that `octets` gives: who exchanged it, and when (`asked`, and `replied` of
    /// a response).
    pub fn tell(
        &self,
        cx: &mut Cx<'_>,
        kind: Kind,
        origin: Origin,
        (asked, replied): (Nanos, Nanos),
        octets: for<'c> fn(&'c Cx<'_>) -> &'c [u8],
    ) {
        for tap in &self.0 {
            let total = if tap.full { octets(cx).len() } else { 0 };
            let head = Head {
                core: cx.core.index,
                // Parts follow each other within a core: only the next message must have another.
                serial: cx.core.rng.next_u64() as u32,
                kind,
                full: tap.full,
                total: total as u32,
                asked,
                replied,
                origin,
            };
            let mut at = 0;
            cx.tell(tap.sink, |event, cx| {
                head.write(event);
                if tap.extra {
                    Line::write(event, cx, None, &tap.labels);
                } else {
                    at = message::push(event, octets(cx), 0, total);
                }
            });
            while at < total {
                let from = at;
                cx.tell(tap.sink, |event, cx| {
                    head.write_part(event, from);
                    at = message::push(event, octets(cx), from, total);
                });
            }
        }
    }
}

/// Control's side of a tap.
struct Recorder {
    assembly: Assembly,
    collector: Collector,
    tally: Arc<Tally>,
    dropped: Counter,
}

impl Sink for Recorder {
    fn take(&mut self, event: &Event) {
        if let Some(frame) = self.assembly.take(event)
            && !self.collector.send(frame)
        {
            self.tally.add(self.dropped, 1);
        }
    }
}

/// The link.
pub struct Link {
    taps: Arc<Taps>,
}

impl Link {
    /// For the block that it stands in.
    pub fn taps(&self) -> Arc<Taps> {
        Arc::clone(&self.taps)
    }
}

fn query<'c>(cx: &'c Cx<'_>) -> &'c [u8] {
    cx.request()
}

fn reply<'c>(cx: &'c Cx<'_>) -> &'c [u8] {
    cx.reply().bytes()
}

impl Plugin for Link {
    type Frame = ();
    type Local = ();

    fn local(&self, _core: u16) {}

    fn serve(&self, (): &mut (), cx: &mut Cx<'_>) -> Step<()> {
        let asked = cx.arrived();
        self.taps.tell(cx, Kind::ClientQuery, Origin::Client, (asked, 0), query);
        Step::Watch(())
    }

    fn resume(&self, (): &mut (), cx: &mut Cx<'_>, (): ()) -> Step<()> {
        if cx.level().state == ReplyState::Written {
            let times = (cx.arrived(), clock::now());
            self.taps.tell(cx, Kind::ClientResponse, Origin::Client, times, reply);
        }
        Step::Up
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse_block;
    use super::*;

    fn parse(block: &str) -> Result<Vec<Settings>, String> {
        parse_block::<Dnstap>(block).map(|dnstap| dnstap.taps)
    }

    #[test]
    fn reads_sockets_factors_and_options() {
        let taps = parse(
            "dnstap unix:///run/tap\ndnstap tcp://h:1 full 2 3 {\nidentity me\nversion v\n}\n\
             dnstap listen tls://[::1]:2 {\ntls c k ca\nextra \"{name}\"\n}",
        )
        .expect("valid");
        let said = |tap: &Settings| (tap.endpoint.to_string(), tap.listen, tap.full);
        assert_eq!(said(&taps[0]), ("unix:///run/tap".into(), false, false));
        assert_eq!((taps[0].write_bytes, taps[0].queue), (1 << 20, 10_000));
        assert_eq!(said(&taps[1]), ("tcp://h:1".into(), false, true));
        assert_eq!((taps[1].write_bytes, taps[1].queue), (2 << 20, 30_000));
        assert_eq!((taps[1].identity.as_str(), taps[1].version.as_str()), ("me", "v"));
        assert_eq!(said(&taps[2]), ("tls://[::1]:2".into(), true, false));
        assert!(taps[2].tls.as_ref().is_some_and(|tls| tls.ca.is_some()));
        assert!(taps[2].extra.is_some());
    }

    #[test]
    fn refuses_in_coredns_s_words() {
        for (block, words) in [
            ("dnstap", "Wrong argument count"),
            ("dnstap listen", "dnstap listen requires an endpoint argument"),
            ("dnstap /a full 0", "MultipleTcpWriteBuf must be between 1 and 1024 (MiB units): 0"),
            ("dnstap /a full x", "invalid MultipleTcpWriteBuf \"x\": strconv.Atoi: parsing \"x\""),
            ("dnstap /a full 1 4097", "MultipleQueue must be between 1 and 4096 (x10k messages)"),
            ("dnstap /a {\ntls a b\n}", "tls directive only valid for listeners"),
            ("dnstap listen /a {\ntls a\n}", "tls requires cert and key file paths"),
            ("dnstap /a {\nidentity\n}", "Wrong argument count"),
            ("dnstap /a {\nextr x\n}", "unknown property 'extr'"),
            ("dnstap /a {\nidentity x y\n}", "unknown property 'y'"),
            ("dnstap /a {\nskipverify y\n}", "unknown property 'y'"),
        ] {
            let error = parse(block).expect_err(block);
            assert!(error.contains(words), "{block}: {error}");
        }
    }
}
