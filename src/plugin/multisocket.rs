//! # multisocket
//!
//! Bounds how many sockets an address gets, and so how many workers serve.
//!
//! ## Syntax
//!
//! ```corefile
//! multisocket [N] {
//!     steering hash|spread|cpu
//! }
//! ```
//!
//! Every worker has sockets of its own for each address, which the kernel spreads queries over: that
//! is how this server always works. There are as many workers as cores may be used (the CPU quota
//! and the affinity mask are respected). **N**, from 1 to 1024, makes them fewer; more than there are
//! cores would gain nothing and is taken for all of them. The first block with `multisocket` decides,
//! when the process starts; a reload does not change the number.
//!
//! * `steering` says how the kernel picks the worker of a datagram, on the addresses of this block; of
//!   several blocks on an address the first that says it decides, when the address is bound.
//!   * `hash`: by client address and port, as without the option.
//!   * `spread`: any worker for each datagram. Few clients, such as the caches of one node, then still
//!     use all cores; a single busy flow is not bound to one of them.
//!   * `cpu`: the worker of the CPU on which the datagram came in. Each worker stays on one CPU then,
//!     which only a start of the process can do: a reload that asks for it first gets `hash`. It pays
//!     where the network card spreads flows over all CPUs and nothing else runs on them.
//!
//! Connections are always spread by hash.
//!
//! ## Examples
//!
//! ```corefile
//! . {
//!     multisocket 2
//!     whoami
//! }
//! ```
//!
//! All cores for the few clients of a node:
//!
//! ```corefile
//! . {
//!     multisocket {
//!         steering spread
//!     }
//!     whoami
//! }
//! ```
//!
//! ## Differences from CoreDNS
//!
//! * `steering` is this server's own.

use super::{Compiled, CorefileError, Directive, Facts, Lines, SetupError, Site};
use crate::control::corefile::Stanza;
use crate::data::transport::sockets::Steering;

const SOCKETS_MAX: usize = 1024;

/// The directive.
pub struct Multisocket {
    count: Option<usize>,
    steering: Option<Steering>,
}

impl Directive for Multisocket {
    const NAME: &'static str = "multisocket";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let stanza = match lines.stanzas() {
            [only] => *only,
            [_, second, ..] => return Err(lines.arg_err(&second.name)),
            [] => return Ok(Self { count: None, steering: None }),
        };
        if stanza.has_block && stanza.options.is_empty() {
            lines.no_block(stanza)?;
        }
        Ok(Self { count: count(lines, stanza)?, steering: steering(lines, stanza)? })
    }

    fn facts(&self, facts: &mut Facts) {
        facts.multisocket = self.count;
        facts.steering = self.steering;
    }

    fn compile(self, _site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        Ok(Compiled::nothing())
    }
}

fn count(lines: &Lines<'_>, stanza: &Stanza) -> Result<Option<usize>, CorefileError> {
    let Some(arg) = lines.at_most_one(stanza)? else { return Ok(None) };
    let text = &arg.text;
    let words = match text.parse::<i64>() {
        Ok(count) if count < 1 => format!("num sockets can not be zero or negative: {count}"),
        Ok(count) if count > SOCKETS_MAX as i64 => {
            format!("num sockets exceeds maximum ({SOCKETS_MAX}): {count}")
        }
        Ok(count) => return Ok(Some(count as usize)),
        Err(_) => format!("invalid num sockets: parsing {text:?}: invalid syntax"),
    };
    Err(lines.err(arg, words))
}

fn steering(lines: &Lines<'_>, stanza: &Stanza) -> Result<Option<Steering>, CorefileError> {
    let mut steering = None;
    for option in &stanza.options {
        if option.name.text != "steering" {
            return Err(lines.unknown_option(&option.name, &["steering"]));
        }
        let way = lines.one_arg(option)?;
        steering = Some(match way.text.as_str() {
            "hash" => Steering::Hash,
            "spread" => Steering::Spread,
            "cpu" => Steering::Cpu,
            other => {
                let error = lines.err(way, format!("unknown steering {other:?}"));
                return Err(error.suggesting(other, &["hash", "spread", "cpu"]));
            }
        });
    }
    Ok(steering)
}

#[cfg(test)]
mod tests {
    use super::super::parse_block;
    use super::*;

    #[test]
    fn reads_count_and_steering() {
        let read =
            |block: &str| parse_block::<Multisocket>(block).map(|read| (read.count, read.steering));
        assert_eq!(read("multisocket"), Ok((None, None)));
        assert_eq!(read("multisocket 3"), Ok((Some(3), None)));
        let block = "multisocket 3 {\nsteering spread\n}";
        assert_eq!(read(block), Ok((Some(3), Some(Steering::Spread))));
        assert_eq!(read("multisocket {\nsteering cpu\n}"), Ok((None, Some(Steering::Cpu))));
        for (block, words) in [
            ("multisocket 0", "num sockets can not be zero or negative: 0"),
            ("multisocket 1 2", "Wrong argument count"),
            ("multisocket {\nsteering\n}", "Wrong argument count"),
            ("multisocket {\nsteering sprad\n}", "did you mean \"spread\"?"),
            ("multisocket {\nspread\n}", "spread"),
        ] {
            let error = read(block).expect_err(block);
            assert!(error.contains(words), "{error}");
        }
    }
}
