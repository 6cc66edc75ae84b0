//! # timeouts
//!
//! Sets how long a connection may be quiet, and how much it may ask.
//!
//! ## Syntax
//!
//! ```corefile
//! timeouts {
//!     read DURATION
//!     write DURATION
//!     idle DURATION
//!     maxtcpqueries N
//! }
//! ```
//!
//! Times are from 1s to 24h; a bare number is seconds. At least one option must be given.
//!
//! * `read` (default 3s): for the first query of a connection, and for the rest of one that has begun.
//! * `write` (default 5s): for a reply to be taken by the client.
//! * `idle` (default 10s): between queries. It is what a client that asks for it is told (RFC 7828).
//! * `maxtcpqueries`: queries on one connection; -1, the default, is no bound.
//!
//! Datagrams are not touched. Of blocks that share an address the first one decides.
//!
//! ## Examples
//!
//! ```corefile
//! . {
//!     timeouts {
//!         idle 30s
//!         maxtcpqueries 1000
//!     }
//!     whoami
//! }
//! ```

use std::time::Duration;

use super::{Compiled, CorefileError, Directive, Facts, Lines, SetupError, Site};
use crate::control::corefile::{OptionLine, Token, format_duration};
use crate::snapshot::Timeouts as Values;

const OPTIONS: &[&str] = &["read", "write", "idle", "maxtcpqueries"];

/// The directive.
pub struct Timeouts {
    values: Values,
}

impl Directive for Timeouts {
    const NAME: &'static str = "timeouts";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let mut values = Values::default();
        for stanza in lines.stanzas() {
            lines.no_args(*stanza)?;
            if stanza.options.is_empty() {
                let words = "timeouts block with no timeouts specified";
                return Err(lines.parse_err(&stanza.last, words));
            }
            for option in &stanza.options {
                set(lines, option, &mut values)?;
            }
        }
        Ok(Self { values })
    }

    fn facts(&self, facts: &mut Facts) {
        facts.timeouts = self.values;
    }

    fn compile(self, _site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        Ok(Compiled::nothing())
    }
}

fn set(lines: &Lines<'_>, option: &OptionLine, values: &mut Values) -> Result<(), CorefileError> {
    let arg = lines.one_arg(option)?;
    let text = &arg.text;
    if option.name.text == "maxtcpqueries" {
        values.queries = match text.parse::<i64>() {
            Ok(-1) => 0,
            Ok(count @ 1..) => u32::try_from(count).unwrap_or(u32::MAX),
            Ok(count) => {
                let words = format!(
                    "maxtcpqueries provided '{count}' needs to be -1 (unlimited) \
                     or a positive integer"
                );
                return Err(lines.parse_err(arg, words));
            }
            Err(_) => {
                let words = format!("invalid value for maxtcpqueries '{text}': invalid syntax");
                return Err(lines.parse_err(arg, words));
            }
        };
        return Ok(());
    }
    // A length of time may be less than none: that is no fault of form.
    let (form, sign) = match text.strip_prefix('-') {
        Some(form) => (Token { text: form.to_owned(), ..arg.clone() }, "-"),
        None => (arg.clone(), ""),
    };
    let time = lines.seconds_or_duration(&form).map_err(|_| {
        // CoreDNS says the unit that it has added.
        let unit = if form.text.bytes().all(|octet| octet.is_ascii_digit()) { "s" } else { "" };
        lines.parse_err(arg, format!("failed to parse duration '{text}{unit}'"))
    })?;
    let within = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
    if !sign.is_empty() || !within.contains(&time) {
        let shown = format_duration(time);
        let words =
            format!("timeout provided '{sign}{shown}' needs to be between 1 second and 24 hours");
        return Err(lines.parse_err(arg, words));
    }
    let place = match option.name.text.as_str() {
        "read" => &mut values.read,
        "write" => &mut values.write,
        "idle" => &mut values.idle,
        other => {
            let error = lines.parse_err(&option.name, format!("unknown option: '{other}'"));
            return Err(error.suggesting(other, OPTIONS));
        }
    };
    *place = time.as_nanos() as u64;
    Ok(())
}
