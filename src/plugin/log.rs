//! # log
//!
//! Logs queries and the replies to them, one line each.
//!
//! ## Syntax
//!
//! ```corefile
//! log [NAMES...] [FORMAT] {
//!     class CLASSES...
//!     slow DURATION
//! }
//! ```
//!
//! * **NAMES**: only queries for these names and what is below them; default all. One argument
//!   alone is a name, even if it holds braces.
//! * **FORMAT**: text with placeholders, `{common}` (the default) and `{combined}` among them.
//!   `{common}` is `{remote}:{port} - {>id} "{type} {class} {name} {proto} {size} {>do} {>bufsize}"
//!   {rcode} {>rflags} {rsize} {duration}`; `{combined}` has `"{>opcode}"` after it.
//! * `class`: only replies of these classes: `success`, `denial` (NXDOMAIN and NODATA), `error`
//!   (all others), `all` (the default).
//!
//! * `slow`: only queries that took at least so long, ten lines a second and core at most; all of them
//!   are counted. They are logged in addition to what another `log` logs of them. The default format
//!   is then `{common} {slowest}`.
//!
//! Placeholders: `{type}` `{class}` `{name}` of the question; `{proto}` udp or tcp; `{remote}` and
//! `{port}` of the client, `{local}` the server's address; `{size}` octets of the query; `{rcode}`;
//! `{rsize}` octets of the reply before compression, with OPT only if an upstream sent one;
//! `{duration}` seconds from the query's arrival; `{>id}` `{>opcode}` `{>do}` `{>bufsize}` of the
//! query's header and OPT;
//! `{>rflags}` flags of the reply; `{slowest}` who had the query wait longest, and how long (`forward
//! 192.0.2.1:53 0.120s`); `{/LABEL}` a metadata label. What has no value is `-`; a word in
//! braces that is none of these stays as it is.
//!
//! With *metadata*, `log/class` is the reply's class and `log/type` its kind: `NOERROR`, `NXDOMAIN`,
//! `NODATA`, `DELEGATION`, `SERVERERROR`, `META` (transfers, NOTIFY), `UPDATE` or `OTHERERROR`.
//!
//! The first `log` whose names match a query logs it. Lines are formatted and written by the
//! control plane at level info, from a ring per core: a worker never waits. What finds its ring full
//! is left out and counted in `corelane_events_dropped_total`.
//!
//! With the flag `-log-format=json` each line is a JSON object, with the text as `msg` and what is
//! known of the query in fields of their own: `client_ip`, `client_port`, `proto`, `id`, `opcode`,
//! `qname`, `qtype`, `qclass`, `dnssec_ok`, `bufsize`, `request_size`, `rcode` (`null` without a
//! reply), `rflags`, `response_size`, `duration_seconds`.
//!
//! ## Metrics
//!
//! * `corelane_slow_queries_total{server}`: queries that took as long as `slow` says.
//!
//! ## Examples
//!
//! Slow queries, and who made them slow:
//!
//! ```corefile
//! . {
//!     log . {
//!         slow 500ms
//!     }
//!     forward . 192.0.2.1
//! }
//! ```
//!
//! Only what was denied or failed, with the time it took:
//!
//! ```corefile
//! . {
//!     log . "{name} {type} {rcode} {duration}" {
//!         class denial error
//!     }
//!     whoami
//! }
//! ```
//!
//! ## Differences from CoreDNS
//!
//! * `slow` and `{slowest}` are ours.

pub(in crate::plugin) mod format;
mod kind;

use super::{
    Compiled, CorefileError, Cx, Directive, Event, Lines, Plugin, SetupError, Sink, Site, Step,
};
use crate::control::logging;
use crate::data::clock::{self, Nanos, SECOND};
use crate::data::tally::{Counter, Family};
use crate::limits::LOG_SLOW_LINES_MAX;
use crate::wire::NameBuf;
use format::{Format, Label, Line};
use kind::Kind;

/// The directive.
pub struct Log {
    rules: Vec<Rule>,
}

/// One name with its format and classes.
struct Rule {
    name: NameBuf,
    classes: Classes,
    /// Nanoseconds from which on a query is logged; none: whatever it took.
    slow: Option<Nanos>,
    format: Format,
}

/// A set of classes.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Classes(u8);

const SUCCESS: Classes = Classes(1);
const DENIAL: Classes = Classes(2);
const ERROR: Classes = Classes(4);
const ALL: Classes = Classes(7);

impl Classes {
    /// The word for one class.
    fn as_str(self) -> &'static str {
        match self {
            SUCCESS => "success",
            DENIAL => "denial",
            _ => "error",
        }
    }
}

impl Directive for Log {
    const NAME: &'static str = "log";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let mut rules = Vec::new();
        for stanza in lines.stanzas() {
            let (names, format) = match &stanza.args[..] {
                [names @ .., format] if !names.is_empty() && format.text.contains('{') => {
                    (names, Some(Format::parse(&format.text)))
                }
                names => (names, None),
            };
            let (mut classes, mut slow) = (Classes(0), None);
            for option in &stanza.options {
                match option.name.text.as_str() {
                    "class" => {}
                    "slow" => {
                        let least = lines.duration(lines.one_arg(option)?)?;
                        slow = Some(least.as_nanos().min(Nanos::MAX.into()) as Nanos);
                        continue;
                    }
                    _ => return Err(lines.unknown_option(&option.name, &["class", "slow"])),
                }
                for word in lines.some_args(option)? {
                    classes.0 |= match word.text.as_str() {
                        "all" => ALL.0,
                        "success" => SUCCESS.0,
                        "denial" => DENIAL.0,
                        "error" => ERROR.0,
                        other => {
                            let error = lines.err(word, format!("invalid Class: {other}"));
                            let known = ["all", "success", "denial", "error"];
                            return Err(error.suggesting(other, &known));
                        }
                    };
                }
            }
            let classes = if classes == Classes(0) { ALL } else { classes };
            let everything = [NameBuf::root()];
            let mut given = Vec::new();
            for name in names {
                given.push(lines.name(name)?);
            }
            let given = if names.is_empty() { &everything[..] } else { &given[..] };
            let usual = if slow.is_some() { "{common} {slowest}" } else { "{common}" };
            let format = format.unwrap_or_else(|| Format::parse(usual));
            let rule = |name: &NameBuf| Rule { name: *name, classes, slow, format: format.clone() };
            rules.extend(given.iter().map(rule));
        }
        Ok(Self { rules })
    }

    fn compile(self, site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        let (mut rules, mut slow) = (Vec::new(), Vec::new());
        for rule in self.rules {
            let labels = rule.format.labels(site);
            let sink = site.sink(Writer { format: rule.format });
            let compared = Compared { name: rule.name, classes: rule.classes, labels, sink };
            match rule.slow {
                None => rules.push(compared),
                Some(least) => slow.push((least, compared)),
            }
        }
        let server = site.servers.first().map_or("", |server| &server.server_label);
        let counted = site.tally.counter(&SLOW, &[server]);
        Ok(Compiled::link(Link { rules, slow, counted }))
    }
}

/// A rule on the query path.
struct Compared {
    name: NameBuf,
    classes: Classes,
    labels: Vec<Label>,
    sink: u32,
}

static SLOW: Family = Family::counter(
    "corelane_slow_queries_total",
    &["server"],
    "Queries that took as long as `slow` of log says, logged or not.",
);

/// The link.
pub struct Link {
    rules: Vec<Compared>,
    /// With the time from which on each logs.
    slow: Vec<(Nanos, Compared)>,
    counted: Counter,
}

/// Slow queries that were logged in a second, on one worker.
#[derive(Default)]
pub struct Local {
    second: u64,
    lines: u32,
}

impl Compared {
    fn matches(&self, cx: &Cx<'_>) -> bool {
        cx.question().lower.is_under(self.name.as_name())
    }

    fn tell(&self, cx: &mut Cx<'_>, took: Nanos) {
        cx.tell(self.sink, |event, cx| Line::write(event, cx, Some(took), &self.labels));
    }

    fn wants(&self, cx: &Cx<'_>) -> bool {
        Kind::of(cx.level()).class().0 & self.classes.0 != 0
    }
}

/// In a frame: no rule but for slow queries may match.
const NO_RULE: u16 = u16::MAX;

impl Plugin for Link {
    /// Index of the rule that matches.
    type Frame = u16;
    type Local = Local;

    fn local(&self, _core: u16) -> Local {
        Local::default()
    }

    fn serve(&self, _: &mut Local, cx: &mut Cx<'_>) -> Step<u16> {
        match self.rules.iter().position(|rule| rule.matches(cx)) {
            Some(index) => Step::Watch(index as u16),
            None if !self.slow.is_empty() => Step::Watch(NO_RULE),
            None => Step::Next,
        }
    }

    fn resume(&self, local: &mut Local, cx: &mut Cx<'_>, index: u16) -> Step<u16> {
        let rule = self.rules.get(index as usize).filter(|rule| rule.wants(cx));
        if rule.is_none() && self.slow.is_empty() {
            return Step::Up;
        }
        let now = clock::now();
        let took = now.saturating_sub(cx.arrived());
        if let Some(rule) = rule {
            rule.tell(cx, took);
        }
        let mut slow = self.slow.iter().filter(|(least, _)| took >= *least);
        if let Some((_, rule)) = slow.find(|(_, rule)| rule.matches(cx) && rule.wants(cx)) {
            cx.core.tally.add(self.counted, 1);
            if local.admits(now) {
                rule.tell(cx, took);
            }
        }
        Step::Up
    }
}

impl Local {
    /// Whether one more line may be told in this second.
    fn admits(&mut self, now: Nanos) -> bool {
        let second = now / SECOND;
        if second != self.second {
            *self = Self { second, lines: 0 };
        }
        self.lines += 1;
        self.lines <= LOG_SLOW_LINES_MAX
    }
}

/// Control's side: formats and writes.
struct Writer {
    format: Format,
}

impl Sink for Writer {
    fn take(&mut self, event: &Event) {
        if logging::is_json() {
            if let Some(fields) = self.format.record(event.bytes(), &event.client) {
                logging::record("INFO", fields);
            }
        } else if let Some(line) = self.format.render(event.bytes(), &event.client) {
            tracing::info!("{line}");
        }
    }
}
