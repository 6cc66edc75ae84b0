//! # log
//!
//! Logs queries and the replies to them, one line each.
//!
//! ## Syntax
//!
//! ```corefile
//! log [NAMES...] [FORMAT] {
//!     class CLASSES...
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
//! Placeholders: `{type}` `{class}` `{name}` of the question; `{proto}` udp or tcp; `{remote}` and
//! `{port}` of the client, `{local}` the server's address; `{size}` octets of the query; `{rcode}`;
//! `{rsize}` octets of the reply before compression, without OPT; `{duration}` seconds from the
//! query's arrival; `{>id}` `{>opcode}` `{>do}` `{>bufsize}` of the query's header and OPT;
//! `{>rflags}` flags of the reply; `{/LABEL}` a metadata label. What has no value is `-`; a word in
//! braces that is none of these stays as it is.
//!
//! With *metadata*, `log/class` is the reply's class and `log/type` its kind: `NOERROR`, `NXDOMAIN`,
//! `NODATA`, `DELEGATION`, `SERVERERROR`, `META` (transfers, NOTIFY), `UPDATE` or `OTHERERROR`.
//!
//! The first `log` whose names match a query logs it. Lines are formatted and written by the
//! control plane at level info, from a ring per core: a worker never waits. What finds its ring full
//! is left out and counted in `corelane_events_dropped_total`.
//!
//! ## Examples
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

pub(in crate::plugin) mod format;
mod kind;

use super::{
    Compiled, CorefileError, Cx, Directive, Event, Lines, Plugin, SetupError, Sink, Site, Step,
};
use crate::data::clock;
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
                    (names, Format::parse(&format.text))
                }
                names => (names, Format::parse("{common}")),
            };
            let mut classes = Classes(0);
            for option in &stanza.options {
                if option.name.text != "class" {
                    return Err(lines.unknown_option(&option.name, &["class"]));
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
            let rule = |name: &NameBuf| Rule { name: *name, classes, format: format.clone() };
            rules.extend(given.iter().map(rule));
        }
        Ok(Self { rules })
    }

    fn compile(self, site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        let mut rules = Vec::new();
        for rule in self.rules {
            let labels = rule.format.labels(site);
            let sink = site.sink(Writer { format: rule.format });
            rules.push(Compared { name: rule.name, classes: rule.classes, labels, sink });
        }
        Ok(Compiled::link(Link { rules }))
    }
}

/// A rule on the query path.
struct Compared {
    name: NameBuf,
    classes: Classes,
    labels: Vec<Label>,
    sink: u32,
}

/// The link.
pub struct Link {
    rules: Vec<Compared>,
}

impl Plugin for Link {
    /// Index of the rule that matches.
    type Frame = u16;
    type Local = ();

    fn local(&self, _core: u16) {}

    fn serve(&self, (): &mut (), cx: &mut Cx<'_>) -> Step<u16> {
        let name = cx.question().lower;
        match self.rules.iter().position(|rule| name.is_under(rule.name.as_name())) {
            Some(index) => Step::Watch(index as u16),
            None => Step::Next,
        }
    }

    fn resume(&self, (): &mut (), cx: &mut Cx<'_>, index: u16) -> Step<u16> {
        let rule = &self.rules[index as usize];
        if Kind::of(cx.level()).class().0 & rule.classes.0 != 0 {
            let took = clock::now().saturating_sub(cx.arrived());
            cx.tell(rule.sink, |event, cx| Line::write(event, cx, took, &rule.labels));
        }
        Step::Up
    }
}

/// Control's side: formats and writes.
struct Writer {
    format: Format,
}

impl Sink for Writer {
    fn take(&mut self, event: &Event) {
        if let Some(line) = self.format.render(event.bytes(), &event.client) {
            tracing::info!("{line}");
        }
    }
}
