//! # nsid
//!
//! Says which instance answered, to clients that ask (RFC 5001).
//!
//! ## Syntax
//!
//! ```corefile
//! nsid [DATA...]
//! ```
//!
//! A reply to a query with an empty NSID option carries **DATA** (its words joined by spaces), by
//! default the host's name.
//!
//! ## Examples
//!
//! ```corefile
//! . {
//!     nsid rack 7, node 12
//!     whoami
//! }
//! ```

use super::{
    Compiled, CorefileError, Cx, Directive, Lines, Plugin, ReplyState, SetupError, Site, Step,
};
use crate::sys;
use crate::wire::edns;

/// The directive and its link.
pub struct Nsid {
    data: Vec<u8>,
}

impl Directive for Nsid {
    const NAME: &'static str = "nsid";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let stanza = lines.only_one()?;
        if stanza.has_block {
            // CoreDNS takes the brace for a second use.
            let words = "this plugin can only be used once per Server Block: it takes no block";
            return Err(lines.err(&stanza.name, words));
        }
        let words: Vec<&str> = stanza.args.iter().map(|arg| arg.text.as_str()).collect();
        let host = sys::hostname().to_string_lossy().into_owned();
        let data = match words.is_empty() {
            true if host.is_empty() => "localhost".to_owned(),
            true => host,
            false => words.join(" "),
        };
        Ok(Self { data: data.into_bytes() })
    }

    fn compile(self, _site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        Ok(Compiled::link(self))
    }
}

impl Plugin for Nsid {
    type Frame = ();
    type Local = ();

    fn local(&self, _core: u16) {}

    fn serve(&self, (): &mut (), cx: &mut Cx<'_>) -> Step<()> {
        match cx.options().any(|(code, _)| code == edns::NSID) {
            true => Step::Watch(()),
            false => Step::Next,
        }
    }

    fn resume(&self, (): &mut (), cx: &mut Cx<'_>, (): ()) -> Step<()> {
        let level = cx.level_mut();
        if level.state == ReplyState::Written {
            level.extra.push(edns::NSID, &self.data);
        }
        Step::Up
    }
}
