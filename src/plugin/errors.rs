//! # errors
//!
//! Logs why queries failed.
//!
//! ## Syntax
//!
//! ```corefile
//! errors [stdout] {
//!     stacktrace
//!     consolidate DURATION REGEXP [warning|error|info|debug] [show_first]
//! }
//! ```
//!
//! A query that fails below this plugin is one line: `RCODE NAME TYPE: REASON`, at level error.
//!
//! * `stdout` is the only place for lines and may be left out.
//! * `stacktrace` is accepted for CoreDNS's sake: a panic is always logged with its place.
//! * `consolidate` counts the failures whose reason matches **REGEXP** (at most 10,000 characters)
//!   instead of logging each, and logs the count after **DURATION**, a Go duration. The level is
//!   that of the count's line (default error); with `show_first` the first failure of each period
//!   is logged at once. Several may be given: the first that matches counts.
//!
//! Lines are written by the control plane. A worker never waits for it: what finds the ring full is
//! dropped and counted in `corelane_events_dropped_total`.
//!
//! ## Examples
//!
//! Log every failure, but time-outs once in five minutes as a warning:
//!
//! ```corefile
//! . {
//!     errors {
//!         consolidate 5m ".* i/o timeout$" warning show_first
//!     }
//!     whoami
//! }
//! ```

use std::time::Duration;

use regex::Regex;
use tokio::time::Instant;

use super::{
    Compiled, CorefileError, Cx, Directive, Event, Lines, Plugin, SetupError, Sink, Site, Step,
};
use crate::control::corefile::{OptionLine, format_duration};
use crate::regexp;
use crate::wire::{Name, rtype};

/// The directive.
pub struct Errors {
    patterns: Vec<Pattern>,
}

/// Failures that are counted.
struct Pattern {
    period: Duration,
    regex: Regex,
    text: String,
    level: Level,
    show_first: bool,
    count: u64,
    /// When the count is logged; none while it is 0.
    due: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Debug,
    Info,
    Warning,
    Error,
}

const OPTIONS: &[&str] = &["stacktrace", "consolidate"];

impl Directive for Errors {
    const NAME: &'static str = "errors";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let stanza = lines.only_one()?;
        if let Some(place) = lines.at_most_one(stanza)?.filter(|place| place.text != "stdout") {
            return Err(lines.parse_err(place, format!("invalid log file: {}", place.text)));
        }
        let mut patterns = Vec::new();
        for option in &stanza.options {
            match option.name.text.as_str() {
                "stacktrace" => {
                    if let Some(extra) = option.args.first() {
                        let words = format!("Unknown field {}", extra.text);
                        return Err(lines.parse_err(extra, words));
                    }
                }
                "consolidate" => patterns.push(consolidate(lines, option)?),
                other => {
                    let error = lines.parse_err(&option.name, format!("Unknown field {other}"));
                    return Err(error.suggesting(other, OPTIONS));
                }
            }
        }
        Ok(Self { patterns })
    }

    fn compile(self, site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        let sink = site.sink(Log { patterns: self.patterns });
        Ok(Compiled::link(Link { sink }))
    }
}

fn consolidate(lines: &Lines<'_>, option: &OptionLine) -> Result<Pattern, CorefileError> {
    let [period, regex, rest @ ..] = &option.args[..] else {
        return Err(lines.arg_err(option.args.last().unwrap_or(&option.name)));
    };
    if let [_, _, extra, ..] = rest {
        return Err(lines.arg_err(extra));
    }
    let text = regex.text.clone();
    let regex = regexp::compile(&text).map_err(|why| lines.parse_err(regex, why))?;
    let (mut level, mut show_first) = (None, false);
    for word in rest {
        let named = match word.text.as_str() {
            "warning" => Level::Warning,
            "error" => Level::Error,
            "info" => Level::Info,
            "debug" => Level::Debug,
            "show_first" => {
                show_first = true;
                continue;
            }
            other => {
                let message = format!("unknown option in consolidate: {other}");
                return Err(lines.parse_err(word, message));
            }
        };
        if level.is_some() {
            return Err(lines.parse_err(word, "multiple log levels specified in consolidate"));
        }
        if show_first {
            let message = "log level must come before show_first in consolidate";
            return Err(lines.parse_err(word, message));
        }
        level = Some(named);
    }
    let period = lines.duration(period)?;
    let level = level.unwrap_or(Level::Error);
    Ok(Pattern { period, regex, text, level, show_first, count: 0, due: None })
}

/// The link.
pub struct Link {
    sink: u32,
}

impl Plugin for Link {
    type Frame = ();
    type Local = ();

    fn local(&self, _core: u16) {}

    fn serve(&self, (): &mut (), _cx: &mut Cx<'_>) -> Step<()> {
        Step::Watch(())
    }

    fn resume(&self, (): &mut (), cx: &mut Cx<'_>, (): ()) -> Step<()> {
        if !cx.level().reason.is_empty() {
            cx.tell(self.sink, |event, cx| {
                let level = cx.level();
                let question = level.question();
                event.push(&level.rcode().to_be_bytes());
                event.push(&question.rtype.to_be_bytes());
                event.push(question.lower.as_bytes());
                event.push(level.reason.as_str().as_bytes());
            });
        }
        Step::Up
    }
}

/// Control's side: writes the lines, counts what is consolidated.
struct Log {
    patterns: Vec<Pattern>,
}

impl Sink for Log {
    fn take(&mut self, event: &Event) {
        let Some(([r1, r2, t1, t2], rest)) = event.bytes().split_first_chunk::<4>() else { return };
        let Ok((name, reason)) = Name::from_wire(rest) else { return };
        let reason = String::from_utf8_lossy(reason);
        let line = format!(
            "{} {} {}: {reason}",
            u16::from_be_bytes([*r1, *r2]),
            name,
            rtype::text(u16::from_be_bytes([*t1, *t2]))
        );
        let mut level = Level::Error;
        if let Some(pattern) = self.patterns.iter_mut().find(|one| one.regex.is_match(&reason)) {
            pattern.count += 1;
            if pattern.count > 1 {
                return;
            }
            pattern.due = Some(Instant::now() + pattern.period);
            if !pattern.show_first {
                return;
            }
            level = pattern.level;
        }
        log(level, &line);
    }

    fn due(&self) -> Option<Instant> {
        self.patterns.iter().filter_map(|pattern| pattern.due).min()
    }

    fn tick(&mut self, last: bool) {
        let now = Instant::now();
        for pattern in &mut self.patterns {
            if pattern.due.is_some_and(|due| last || due <= now) {
                pattern.due = None;
                pattern.tell();
            }
        }
    }
}

impl Pattern {
    fn tell(&mut self) {
        let count = std::mem::take(&mut self.count);
        if count > 1 || (count == 1 && !self.show_first) {
            let period = format_duration(self.period);
            let text = &self.text;
            log(self.level, &format!("{count} errors like '{text}' occurred in last {period}"));
        }
    }
}

fn log(level: Level, line: &str) {
    match level {
        Level::Debug => tracing::debug!(target: "plugin/errors", "{line}"),
        Level::Info => tracing::info!(target: "plugin/errors", "{line}"),
        Level::Warning => tracing::warn!(target: "plugin/errors", "{line}"),
        Level::Error => tracing::error!(target: "plugin/errors", "{line}"),
    }
}
