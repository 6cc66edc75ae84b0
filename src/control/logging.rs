//! Log lines, in CoreDNS's shape: `[LEVEL] plugin/NAME: message` on standard output, no time stamp.
//!
//! Code logs through `tracing`; the layer here prints. A target `plugin/NAME` is printed before the
//! message, any other is not: `tracing::info!(target: "plugin/reload", "Running configuration …")`.
//!
//! Guarantees: one line is one write, so lines of several threads never mix; `DEBUG` lines appear only
//! while [`set_debug`] says so (a block with `debug`); libraries are heard from `WARNING` up only, the
//! client of the API server not at all: what it fails at is told by `control::kube`, once.
//! Fatal lines go to standard error through [`fatal`], whatever the level.
//!
//! Under systemd's journal a line begins with its priority (`<3>[ERROR] …`, sd-daemon(3)), which the
//! journal takes away and keeps: `journalctl -p warning` finds what went wrong. JSON lines tell their level themselves.
//!
//! The last warnings and errors are kept for the status page.
//!
//! Costs: one allocation and one system call a line. The query path does not log (it tells a ring); what
//! that ring holds is printed by [`print`], many lines to a write.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, PoisonError};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use crate::data::clock;
use crate::limits::{LOG_KEPT_BYTES_MAX, LOG_KEPT_LINES};

static DEBUG: AtomicBool = AtomicBool::new(false);
static JSON: AtomicBool = AtomicBool::new(false);

/// Makes every line a JSON object, from the next line on (`-log-format=json`).
pub fn set_json(on: bool) {
    JSON.store(on, Ordering::Relaxed);
}

/// Whether lines are JSON objects.
pub fn is_json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// Prints one JSON object: `fields`, the time and the level.
pub fn record(level: &str, fields: Map<String, Value>) {
    write(&object(level, fields));
}

/// A JSON object in a line. The names `time`, `level`, `msg` and `plugin` are those of CoreDNS.
fn object(level: &str, mut fields: Map<String, Value>) -> String {
    fields.insert("level".into(), level.into());
    fields.insert("time".into(), jiff::Timestamp::now().to_string().into());
    format!("{}\n", Value::Object(fields))
}

/// A JSON object with nothing but a message.
fn said(level: &str, message: &str) -> String {
    object(level, Map::from_iter([("msg".to_owned(), message.into())]))
}

static APART: AtomicBool = AtomicBool::new(false);

/// Sends lines of warnings and errors to standard error from now on, and no others anywhere: for
/// sub-commands, whose standard output is what was asked for.
pub fn to_stderr() {
    APART.store(true, Ordering::Relaxed);
}

/// A warning or an error that was logged.
#[derive(Clone, Debug)]
pub struct Kept {
    /// When, in seconds since 1970.
    pub at: u64,
    /// The line, `[ERROR] plugin/forward: …`, cut at `LOG_KEPT_BYTES_MAX`.
    pub line: String,
}

static KEPT: std::sync::Mutex<VecDeque<Kept>> = std::sync::Mutex::new(VecDeque::new());

/// The last warnings and errors, the newest first.
pub fn kept() -> Vec<Kept> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
}

fn keep(line: &str) {
    let mut ends = (0..=LOG_KEPT_BYTES_MAX.min(line.len())).rev();
    let end = ends.find(|end| line.is_char_boundary(*end)).unwrap_or(0);
    let line = line[..end].trim_end().to_owned();
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.len() == LOG_KEPT_LINES {
        kept.pop_front();
    }
    kept.push_back(Kept { at: clock::unix_seconds(), line });
}

/// Turns `DEBUG` lines on or off, from the next line on.
pub fn set_debug(on: bool) {
    DEBUG.store(on, Ordering::Relaxed);
}

/// Whether `DEBUG` lines are printed: ask before building an expensive one.
pub fn debug() -> bool {
    DEBUG.load(Ordering::Relaxed)
}

/// Sends the process's log lines to standard output. Once, early in `main`; a later call changes nothing.
pub fn start() {
    let lines = tracing_subscriber::registry().with(Lines { print: print_log, is_json });
    // Fails only where a subscriber is set already: then lines go there.
    drop(tracing::subscriber::set_global_default(lines));
}

/// Writes whole lines, each with its end, to standard output in one piece; where lines are JSON, as
/// messages.
pub fn print(lines: &str) {
    match is_json() {
        true => write(&lines.lines().map(|line| said("INFO", line)).collect::<String>()),
        false => write(lines),
    }
}

/// A reader that went away is no reason to stop serving: errors are ignored.
fn write(lines: &str) {
    put(io::stdout().lock(), JOURNAL[0], lines);
}

fn put(mut to: impl io::Write, is_journal: bool, lines: &str) {
    drop(match is_journal {
        true => to.write_all(ranked(lines).as_bytes()),
        false => to.write_all(lines.as_bytes()),
    });
}

/// Whether standard output and standard error are streams to the journal: whoever started the process says
/// of which file that is true (systemd.exec(5)), which may have been replaced since.
static JOURNAL: LazyLock<[bool; 2]> = LazyLock::new(|| {
    let named = std::env::var("JOURNAL_STREAM");
    [1, 2].map(|descriptor| {
        let file = std::fs::metadata(format!("/proc/self/fd/{descriptor}"));
        file.is_ok_and(|file| named.as_ref() == Ok(&format!("{}:{}", file.dev(), file.ino())))
    })
});

/// The lines, with the priority of each before it.
fn ranked(lines: &str) -> String {
    let levels = [("[ERROR]", "<3>"), ("[WARNING]", "<4>"), ("[INFO]", "<6>"), ("[DEBUG]", "<7>")];
    let rank = |line: &str| levels.into_iter().find(|(level, _)| line.starts_with(level));
    let parts = |line| [rank(line).map_or("", |(_, rank)| rank), line];
    lines.split_inclusive('\n').flat_map(parts).collect()
}

/// Writes a log line where log lines go.
fn print_log(line: &str) {
    match APART.load(Ordering::Relaxed) {
        false => write(line),
        true if line.starts_with("[WARNING]") || line.starts_with("[ERROR]") => {
            put(io::stderr().lock(), JOURNAL[1], line);
        }
        true => {}
    }
}

/// Writes one line to standard error: the reason why the process is about to end.
pub fn fatal(message: &dyn fmt::Display) {
    let line = match is_json() {
        true => said("ERROR", &message.to_string()),
        false if JOURNAL[1] => format!("<3>{}\n", message.to_string().replace('\n', "\n<3>")),
        false => format!("{message}\n"),
    };
    drop(io::stderr().lock().write_all(line.as_bytes()));
}

/// The layer that makes an event into a line and gives it to `print`.
struct Lines<P> {
    print: P,
    is_json: fn() -> bool,
}

impl<P: Fn(&str) + 'static, S: Subscriber> Layer<S> for Lines<P> {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // Asked once and remembered: what depends on the switch must be asked every time.
        match *metadata.level() {
            Level::DEBUG => Interest::sometimes(),
            _ if heard(metadata, false) => Interest::always(),
            _ => Interest::never(),
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        heard(metadata, debug())
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let line = line(event);
        if *event.metadata().level() <= Level::WARN {
            keep(&line);
        }
        match (self.is_json)() {
            true => (self.print)(&json_line(event)),
            false => (self.print)(&line),
        }
    }
}

/// Whether an event of this kind is printed: all of ours but `TRACE`, others' warnings and errors.
fn heard(metadata: &Metadata<'_>, debug: bool) -> bool {
    let target = metadata.target();
    let crate_name = target.split("::").next();
    let ours = target.starts_with("plugin/") || crate_name == Some(env!("CARGO_CRATE_NAME"));
    match *metadata.level() {
        Level::ERROR | Level::WARN => crate_name != Some("kube_client"),
        Level::INFO => ours,
        Level::DEBUG => ours && debug,
        Level::TRACE => false,
    }
}

fn line(event: &Event<'_>) -> String {
    let level = match *event.metadata().level() {
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "INFO",
        Level::DEBUG | Level::TRACE => "DEBUG",
    };
    let mut text = format!("[{level}] ");
    let target = event.metadata().target();
    if target.starts_with("plugin/") {
        text.push_str(target);
        text.push_str(": ");
    }
    let mut fields = Fields { message: String::new(), others: String::new() };
    event.record(&mut fields);
    text.push_str(&fields.message);
    text.push_str(&fields.others);
    text.push('\n');
    text
}

/// An event as a JSON object: its other fields are texts.
fn json_line(event: &Event<'_>) -> String {
    let level = match *event.metadata().level() {
        Level::ERROR => "ERROR",
        Level::WARN => "WARN",
        Level::INFO => "INFO",
        Level::DEBUG | Level::TRACE => "DEBUG",
    };
    let mut fields = Fields { message: String::new(), others: String::new() };
    event.record(&mut fields);
    let text = fields.message + &fields.others;
    let mut known = Map::from_iter([("msg".to_owned(), text.into())]);
    if let Some(plugin) = event.metadata().target().strip_prefix("plugin/") {
        known.insert("plugin".into(), plugin.into());
    }
    object(level, known)
}

/// An event's message, and its other fields as ` name=value`.
struct Fields {
    message: String,
    others: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.others, " {name}={value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `events` prints.
    fn printed(events: impl FnOnce()) -> String {
        printed_as(|| false, events)
    }

    fn printed_as(is_json: fn() -> bool, events: impl FnOnce()) -> String {
        let (sender, lines) = std::sync::mpsc::channel();
        let print = move |line: &str| sender.send(line.to_owned()).unwrap();
        let layers = tracing_subscriber::registry().with(Lines { print, is_json });
        tracing::subscriber::with_default(layers, events);
        lines.try_iter().collect()
    }

    #[test]
    fn lines_have_coredns_s_shape() {
        let text = printed(|| {
            tracing::info!(target: "plugin/reload", "Running configuration SHA512 = {}", "ab");
            tracing::warn!("no files matching import glob pattern: {}", "*.conf");
            tracing::error!(target: "plugin/errors", zone = "example.org.", code = 2, "lost");
        });
        assert_eq!(
            text,
            "[INFO] plugin/reload: Running configuration SHA512 = ab\n\
             [WARNING] no files matching import glob pattern: *.conf\n\
             [ERROR] plugin/errors: lost zone=example.org. code=2\n"
        );
    }

    #[test]
    fn lines_may_be_json() {
        let text = printed_as(
            || true,
            || {
                tracing::warn!(target: "plugin/errors", code = 2, "a \"quote\"\nand a line");
                tracing::info!("plain");
            },
        );
        let read = |line: &str| serde_json::from_str::<Value>(line).expect("JSON");
        let lines: Vec<_> = text.lines().map(read).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["msg"], "a \"quote\"\nand a line code=2");
        assert_eq!((&lines[0]["level"], &lines[0]["plugin"]), (&"WARN".into(), &"errors".into()));
        assert_eq!((&lines[1]["msg"], lines[1].get("plugin")), (&"plain".into(), None));
        assert!(lines[1]["time"].as_str().is_some_and(|time| time.ends_with('Z')));
    }

    #[test]
    fn the_journal_is_told_how_much_lines_matter() {
        let lines =
            "[ERROR] plugin/errors: 2 a. A: lost\nmore\n[WARNING] w\n[INFO] i\n[DEBUG] d\n{}\n";
        let told = "<3>[ERROR] plugin/errors: 2 a. A: lost\nmore\n<4>[WARNING] w\n<6>[INFO] i\n\
                    <7>[DEBUG] d\n{}\n";
        assert_eq!(ranked(lines), told);
    }

    #[test]
    fn libraries_are_heard_from_warnings_up() {
        let text = printed(|| {
            tracing::info!(target: "hyper::proto", "connected");
            tracing::info!(target: "corelane_else", "not ours");
            tracing::warn!(target: "hyper::proto", "closed early");
            tracing::trace!("never");
        });
        assert_eq!(text, "[WARNING] closed early\n");
    }

    #[test]
    fn debug_lines_follow_the_switch() {
        // One call site, asked each time.
        let say = || tracing::debug!(target: "plugin/file", "serial {}", 7);
        let text = printed(|| {
            say();
            set_debug(true);
            say();
            set_debug(false);
            say();
        });
        assert_eq!(text, "[DEBUG] plugin/file: serial 7\n");
    }
}
