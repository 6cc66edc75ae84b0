//! # bufsize
//!
//! Lowers the EDNS buffer size of queries, so that replies fit into unfragmented datagrams.
//!
//! ## Syntax
//!
//! ```corefile
//! bufsize [SIZE]
//! ```
//!
//! A query that offers more than **SIZE** octets (512 to 4096, default 1232) is taken to offer
//! **SIZE**: that is what plugins below see, what upstreams are asked with, and what the reply is
//! fitted to. Queries without EDNS are left alone.
//!
//! ## Examples
//!
//! ```corefile
//! . {
//!     bufsize 1100
//!     whoami
//! }
//! ```

use super::{Compiled, CorefileError, Cx, Directive, Lines, Plugin, SetupError, Site, Step};

/// The directive and its link.
pub struct Bufsize {
    size: u16,
}

impl Directive for Bufsize {
    const NAME: &'static str = "bufsize";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        // Of several uses CoreDNS reads the first one only.
        let arg = match lines.stanzas().first() {
            Some(stanza) => lines.at_most_one(*stanza)?,
            None => None,
        };
        let Some(arg) = arg else { return Ok(Self { size: 1232 }) };
        match arg.text.parse::<u16>() {
            Ok(size @ 512..=4096) => Ok(Self { size }),
            _ => Err(lines.arg_err(arg)),
        }
    }

    fn compile(self, _site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        Ok(Compiled::link(self))
    }
}

impl Plugin for Bufsize {
    type Frame = ();
    type Local = ();

    fn local(&self, _core: u16) {}

    fn serve(&self, (): &mut (), cx: &mut Cx<'_>) -> Step<()> {
        let asked = cx.asked_mut();
        if asked.edns {
            asked.udp_size = asked.udp_size.min(self.size);
        }
        Step::Next
    }
}
