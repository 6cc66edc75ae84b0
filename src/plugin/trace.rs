//! # trace
//!
//! Tells a collector of traces where the time of queries goes: a span for each query, and one for each
//! plugin that it meets.
//!
//! ## Syntax
//!
//! ```text
//! trace [zipkin|otlp|datadog] [ENDPOINT] {
//!     every N
//!     service NAME
//!     client_server [BOOLEAN]
//!     datadog_analytics_rate RATE
//!     zipkin_max_backlog_size SIZE
//!     zipkin_max_batch_size SIZE
//!     zipkin_max_batch_interval DURATION
//! }
//! ```
//!
//! * **ENDPOINT** is where spans are sent by HTTP: a URL, or a host, which stands for
//!   `http://HOST/api/v2/spans` (zipkin, the default kind), `http://HOST/v1/traces` (otlp),
//!   `http://HOST/v0.3/traces` (datadog). By default `localhost:9411`, `localhost:4318` or
//!   `localhost:8126`. A single argument is a zipkin endpoint.
//! * `every`: trace one of **N** queries, counted by each core for itself; default 1. 0: none.
//! * `service`: the name of the service in the spans; default `coredns`.
//! * `client_server`: take up the span of the client as our own, where a query brings one along. No
//!   transport that is built in does.
//! * `datadog_analytics_rate`: 0 to 1, which Datadog keeps for analysis.
//! * `zipkin_max_backlog_size`: queries whose spans may wait; default 1000. `zipkin_max_batch_size`: spans that
//!   are sent together; default 100. `zipkin_max_batch_interval`: how long spans wait for others;
//!   default 1s. These are for all kinds.
//!
//! The span of a query is called `servedns` and has the tags `coredns.io/name`, `coredns.io/type`,
//! `coredns.io/rcode`, `coredns.io/proto` and `coredns.io/remote` (`coredns.io@name` and so on for
//! Datadog), and `error` where a plugin failed. The span of a plugin lies within that of the plugin
//! above it. A wait for an upstream is a span `connect` with the tag `peer.address`, any other wait
//! a span `wait`.
//!
//! With *metadata*, `trace/traceid` is the id of the query's trace, `-` in a log where it is not traced.
//!
//! Workers hand what they know of a traced query to the control plane through a ring per core and
//! never wait; the control plane makes spans of it and sends them. Tracing costs a query some
//! microseconds; choose `every` accordingly.
//!
//! ## Metrics
//!
//! * `corelane_trace_spans_total{endpoint}`: spans that the collector has taken.
//! * `corelane_trace_dropped_total{endpoint}`: spans that were left out, since too many waited or the
//!   collector did not take them, and queries that could not be traced.
//!
//! ## Examples
//!
//! ```corefile
//! . {
//!     trace otlp collector.observability:4318 {
//!         every 1000
//!         service cluster-dns
//!     }
//!     whoami
//! }
//! ```
//!
//! ## Differences from CoreDNS
//!
//! * `otlp` (OpenTelemetry, JSON over HTTP) is ours.
//! * Plugins have spans with `datadog`, too.
//! * `every` counts on each core.
//! * When too many spans wait, the new ones are left out, not the oldest.

mod encode;
mod exporter;
mod record;

use std::fmt;
use std::time::Duration;

use super::{
    Compiled, CorefileError, Cx, Directive, Event, Fetch, Lines, Plugin, SetupError, Sink, Site,
    Step,
};
use crate::control::corefile::{OptionLine, Token};
use crate::data::clock::{self, Nanos};
use crate::data::tally::{Counter, Family};
use crate::data::upstream::secret::Secrets;
use crate::limits::{TRACE_BATCH_SPANS_MAX, TRACE_SPANS_MAX};
use encode::{Encoder, Kind, Whose};
use exporter::{Endpoint, Exporter, Pace};

static SPANS: Family = Family::counter(
    "corelane_trace_spans_total",
    &["endpoint"],
    "Spans that the collector has taken.",
);
static DROPPED: Family = Family::counter(
    "corelane_trace_dropped_total",
    &["endpoint"],
    "Spans that were left out, and queries that could not be traced.",
);

const OPTIONS: &[&str] = &[
    "every",
    "service",
    "client_server",
    "datadog_analytics_rate",
    "zipkin_max_backlog_size",
    "zipkin_max_batch_size",
    "zipkin_max_batch_interval",
];

/// The directive.
#[derive(Debug)]
pub struct Trace {
    kind: Kind,
    endpoint: Endpoint,
    every: u64,
    service: String,
    analytics_rate: f64,
    pace: Pace,
    /// The only argument, if it is the word for a kind: it is taken for a host.
    mistaken: Option<String>,
}

impl Directive for Trace {
    const NAME: &'static str = "trace";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let mut trace = Self {
            kind: Kind::Zipkin,
            endpoint: Endpoint::of(Kind::Zipkin, "")
                .map_err(|why| lines.err(&lines.stanzas()[0].name, why))?,
            every: 1,
            service: "coredns".into(),
            analytics_rate: 0.0,
            pace: Pace::default(),
            mistaken: None,
        };
        for stanza in lines.stanzas() {
            let (kind, endpoint) = match &stanza.args[..] {
                [] => (None, None),
                [endpoint] => (None, Some(endpoint)),
                [kind, endpoint] => (Some(kind), Some(endpoint)),
                [_, _, extra, ..] => return Err(lines.arg_err(extra)),
            };
            trace.kind = match kind {
                None => Kind::Zipkin,
                Some(word) => Kind::of(&word.text.to_lowercase()).ok_or_else(|| {
                    let word_lower = word.text.to_lowercase();
                    let why = format!("tracing endpoint type '{word_lower}' is not supported");
                    lines.err(word, why).suggesting(&word_lower, Kind::WORDS)
                })?,
            };
            let text = endpoint.map_or("", |word| &word.text);
            trace.endpoint = Endpoint::of(trace.kind, text)
                .map_err(|why| lines.err(endpoint.unwrap_or(&stanza.name), why))?;
            let is_word = kind.is_none() && Kind::of(text).is_some();
            trace.mistaken = is_word.then(|| text.to_owned());
            for option in &stanza.options {
                trace.option(lines, option)?;
            }
        }
        Ok(trace)
    }

    fn warnings(&self) -> Vec<String> {
        let word = self.mistaken.iter();
        let warning = |word: &String| {
            format!("`{word}` alone is taken for the host of a zipkin collector: name the endpoint")
        };
        word.map(warning).collect()
    }

    fn compile(self, site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        let label = self.endpoint.to_string();
        let spans = site.tally.counter(&SPANS, &[&label]);
        let dropped = site.tally.counter(&DROPPED, &[&label]);
        // As CoreDNS: where `bind` says it, else nowhere in particular.
        let bound = site.facts.binds.first().and(site.addresses.first()).copied();
        let whose = Whose { service: self.service, bound, analytics_rate: self.analytics_rate };
        let encoder = Encoder::new(self.kind, whose);
        let counters = (spans, dropped);
        let (exporter, run) =
            Exporter::new(self.endpoint, encoder, self.pace, counters, site.tally);
        let run = run.map_err(|why| site.err(why))?;
        site.spawn(run);
        let sink = site.sink(Recorder { exporter });
        Ok(Compiled::link(Link { sink, every: self.every, kind: self.kind, dropped }))
    }
}

impl Trace {
    fn option(&mut self, lines: &Lines<'_>, option: &OptionLine) -> Result<(), CorefileError> {
        let most = TRACE_SPANS_MAX;
        match option.name.text.as_str() {
            "every" => {
                let word = lines.one_arg(option)?;
                self.every = word.text.parse().map_err(|_| {
                    let why = format!("strconv.ParseUint: parsing {:?}: invalid syntax", word.text);
                    lines.err(word, why)
                })?;
            }
            "service" => self.service = lines.one_arg(option)?.text.clone(),
            // Nothing brings a client's span along.
            "client_server" => {
                if let Some(word) = lines.at_most_one(option)? {
                    boolean(lines, word)?;
                }
            }
            "datadog_analytics_rate" => {
                let rate = lines.at_most_one(option)?.map(|word| rate(lines, word));
                self.analytics_rate = rate.transpose()?.unwrap_or(0.0);
            }
            "zipkin_max_backlog_size" => size(lines, option, most, &mut self.pace.backlog)?,
            "zipkin_max_batch_size" => {
                size(lines, option, TRACE_BATCH_SPANS_MAX, &mut self.pace.batch)?;
            }
            "zipkin_max_batch_interval" => {
                let interval = lines.duration(lines.one_arg(option)?)?;
                if interval != Duration::ZERO {
                    self.pace.interval = interval;
                }
            }
            _ => return Err(lines.unknown_option(&option.name, OPTIONS)),
        }
        Ok(())
    }
}

/// What Go's `strconv.ParseBool` takes.
fn boolean(lines: &Lines<'_>, word: &Token) -> Result<bool, CorefileError> {
    match word.text.as_str() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        text => {
            Err(lines.err(word, format!("strconv.ParseBool: parsing {text:?}: invalid syntax")))
        }
    }
}

fn rate(lines: &Lines<'_>, word: &Token) -> Result<f64, CorefileError> {
    let Ok(rate) = word.text.parse::<f64>() else {
        let why = format!("strconv.ParseFloat: parsing {:?}: invalid syntax", word.text);
        return Err(lines.err(word, why));
    };
    if (0.0..=1.0).contains(&rate) {
        return Ok(rate);
    }
    let why = "datadog analytics rate must be between 0 and 1";
    Err(lines.err(word, format!("{why}, '{rate:.6}' is not supported")))
}

/// A size; 0 leaves it as it is.
fn size(
    lines: &Lines<'_>,
    option: &OptionLine,
    most: usize,
    size: &mut usize,
) -> Result<(), CorefileError> {
    match lines.number(lines.one_arg(option)?, 0..=most)? {
        0 => {}
        given => *size = given,
    }
    Ok(())
}

/// The link.
pub struct Link {
    sink: u32,
    every: u64,
    kind: Kind,
    dropped: Counter,
}

/// What it has of its own on a worker.
pub struct Local {
    /// Queries since one was traced.
    passed: u64,
    secrets: Secrets,
}

/// What it remembers of a traced query.
#[derive(Clone, Copy)]
pub struct Frame {
    id: [u8; 16],
    began: Nanos,
    /// Whether the walk is yet to be taken up by the loop that marks.
    turning: bool,
}

impl Link {
    /// The trace's id; zipkin's have 64 bits, as CoreDNS's.
    fn id(&self, secrets: &mut Secrets) -> Option<[u8; 16]> {
        let high = if self.kind == Kind::Zipkin { 0 } else { secrets.take()? };
        // An id of nothing but zeroes is none.
        let low = secrets.take()?.max(1);
        Some((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
    }
}

impl Plugin for Link {
    type Frame = Frame;
    type Local = Local;

    fn local(&self, _core: u16) -> Local {
        Local { passed: 0, secrets: Secrets::new() }
    }

    fn meta_key(&self, label: &str) -> Option<u16> {
        (label == "trace/traceid").then_some(0)
    }

    fn meta(&self, _: &Local, cx: &Cx<'_>, _key: u16, out: &mut dyn fmt::Write) -> bool {
        let Some((_, id)) = cx.marks().and_then(|marks| marks.traced()) else { return false };
        out.write_str(&encode::trace_id(self.kind, id)).is_ok()
    }

    fn serve(&self, local: &mut Local, cx: &mut Cx<'_>) -> Step<Frame> {
        let is_traced = cx.marks().is_some_and(|marks| marks.traced().is_some());
        if self.every == 0 || is_traced {
            return Step::Next;
        }
        local.passed += 1;
        if local.passed < self.every {
            return Step::Next;
        }
        local.passed = 0;
        let marked = self.id(&mut local.secrets).and_then(|id| Some((id, cx.mark(id)?)));
        let Some((id, was_marked)) = marked else {
            cx.core.tally.add(self.dropped, 1);
            return Step::Next;
        };
        let frame = Frame { id, began: clock::now(), turning: !was_marked };
        if was_marked { Step::Watch(frame) } else { Step::Fetch(frame, Fetch::Sleep(0)) }
    }

    fn resume(&self, _: &mut Local, cx: &mut Cx<'_>, frame: Frame) -> Step<Frame> {
        if frame.turning {
            return Step::Watch(Frame { turning: false, ..frame });
        }
        cx.tell(self.sink, |event, cx| record::write(event, cx, frame.id, frame.began));
        Step::Up
    }
}

/// Control's side: makes spans.
struct Recorder {
    exporter: Exporter,
}

impl Sink for Recorder {
    fn take(&mut self, event: &Event) {
        if let Some(trace) = record::read(event) {
            self.exporter.send(trace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse_block;
    use super::*;

    fn parse(block: &str) -> Result<Trace, String> {
        parse_block::<Trace>(block)
    }

    #[test]
    fn endpoints_are_urls_or_hosts() {
        for (line, kind, endpoint) in [
            ("trace", Kind::Zipkin, "http://localhost:9411/api/v2/spans"),
            ("trace host:1", Kind::Zipkin, "http://host:1/api/v2/spans"),
            ("trace http://h:1/z", Kind::Zipkin, "http://h:1/z"),
            ("trace zipkin h:1", Kind::Zipkin, "http://h:1/api/v2/spans"),
            ("trace OTLP h:1", Kind::Otlp, "http://h:1/v1/traces"),
            ("trace otlp https://h/x", Kind::Otlp, "https://h/x"),
            ("trace datadog h:1", Kind::Datadog, "http://h:1/v0.3/traces"),
        ] {
            let trace = parse(line).expect(line);
            assert_eq!((trace.kind, trace.endpoint.to_string().as_str()), (kind, endpoint));
            assert!(trace.warnings().is_empty());
        }
        assert_eq!(parse("trace datadog").expect("a host").warnings().len(), 1);
    }

    #[test]
    fn options_are_read() {
        let block = "trace {\nevery 7\nservice me\nclient_server\nclient_server False\n\
                     datadog_analytics_rate 0.5\nzipkin_max_backlog_size 5\n\
                     zipkin_max_batch_size 6\nzipkin_max_batch_interval 2s\n}";
        let trace = parse(block).expect("valid");
        assert_eq!((trace.every, trace.service.as_str(), trace.analytics_rate), (7, "me", 0.5));
        let pace = Pace { backlog: 5, batch: 6, interval: Duration::from_secs(2) };
        assert_eq!(trace.pace, pace);
    }

    #[test]
    fn refuses_in_coredns_s_words() {
        for (block, words) in [
            ("trace jaeger h:1", "tracing endpoint type 'jaeger' is not supported"),
            ("trace zipkin h:1 x", "Wrong argument count"),
            ("trace {\nevery\n}", "Wrong argument count"),
            ("trace {\nevery x\n}", "strconv.ParseUint: parsing \"x\": invalid syntax"),
            ("trace {\nevery -1\n}", "strconv.ParseUint: parsing \"-1\": invalid syntax"),
            ("trace {\nservice\n}", "Wrong argument count"),
            ("trace {\nclient_server x\n}", "strconv.ParseBool: parsing \"x\": invalid syntax"),
            ("trace {\nclient_server 1 2\n}", "Wrong argument count"),
            (
                "trace {\ndatadog_analytics_rate 2\n}",
                "datadog analytics rate must be between 0 and 1, '2.000000' is not supported",
            ),
            ("trace {\nzipkin_max_batch_size x\n}", "parsing \"x\": invalid syntax"),
            ("trace {\nzipkin_max_batch_interval 1\n}", "missing unit in duration"),
            ("trace {\nevry 1\n}", "unknown property 'evry'"),
            ("trace http://user:secret@h/", "no user name or password"),
        ] {
            let error = parse(block).expect_err(block);
            assert!(error.contains(words), "{block}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
