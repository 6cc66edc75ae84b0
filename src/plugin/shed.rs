//! # shed
//!
//! Drops queries instead of letting them wait when a worker is overloaded.
//!
//! ## Syntax
//!
//! ```corefile
//! shed
//! ```
//!
//! Memory and queues of this server are bounded without it. With `shed` a worker on which 1024
//! queries are already waiting (for an upstream, for a lookup) drops further datagrams of the
//! block's addresses before any work is done for them, so that those which wait are answered in time.
//! Connections are not touched: back-pressure holds them.
//!
//! ## Metrics
//!
//! * `coredns_shed_dropped_total{server, reason}`: datagrams dropped; `reason` is `query` for
//!   queries and `response` for replies that the kernel refused.
//!
//! ## Examples
//!
//! ```corefile
//! . {
//!     shed
//!     whoami
//! }
//! ```

use super::{Compiled, CorefileError, Directive, Facts, Lines, SetupError, Site};
use crate::control::corefile::Transport;

/// The directive.
pub struct Shed;

impl Directive for Shed {
    const NAME: &'static str = "shed";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let stanza = lines.only_one()?;
        lines.no_args(stanza)?;
        if let Some(option) = stanza.options.first() {
            return Err(lines.parse_err(&option.name, "shed takes no options"));
        }
        for key in &lines.block().keys {
            if key.transport != Transport::Dns {
                let words = format!(
                    "only plain DNS server blocks are supported; {:?} uses transport {:?}",
                    key.address(53),
                    key.transport.scheme()
                );
                return Err(lines.parse_err(&stanza.name, words));
            }
        }
        Ok(Self)
    }

    fn facts(&self, facts: &mut Facts) {
        facts.shed = true;
    }

    fn compile(self, _site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        Ok(Compiled::nothing())
    }
}
