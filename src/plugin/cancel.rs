//! # cancel
//!
//! Gives up on queries that take too long.
//!
//! ## Syntax
//!
//! ```corefile
//! cancel [TIMEOUT]
//! ```
//!
//! A query that still waits **TIMEOUT** (a Go duration, default 5001ms: after 5 s clients have given
//! up) after it arrived waits no longer: what it waits for has failed, and its client gets SERVFAIL,
//! unless a plugin above has something better (*cache* a stale answer).
//!
//! ## Examples
//!
//! ```corefile
//! . {
//!     cancel 1s
//!     whoami
//! }
//! ```
//!
//! ## Differences from CoreDNS
//!
//! Every wait ends there. CoreDNS's *forward* ends the attempt that it has begun, within two seconds, before
//! it looks at the time; the delays of *erratic* are not ended at all.

use super::{Compiled, CorefileError, Cx, Directive, Lines, Plugin, SetupError, Site, Step};
use crate::data::clock::{MILLISECOND, Nanos};

/// The directive and its link.
pub struct Cancel {
    timeout: Nanos,
}

impl Directive for Cancel {
    const NAME: &'static str = "cancel";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let mut timeout = 5001 * MILLISECOND;
        for stanza in lines.stanzas() {
            let Some(arg) = lines.at_most_one(*stanza)? else { continue };
            if arg.text.starts_with('-') || arg.text == "0" {
                let words = format!("invalid negative duration: {:?}", arg.text);
                return Err(lines.err(arg, words));
            }
            let time = lines.duration(arg);
            let time =
                time.map_err(|_| lines.err(arg, format!("invalid duration: {:?}", arg.text)))?;
            if time.is_zero() {
                let words = format!("invalid negative duration: {:?}", arg.text);
                return Err(lines.err(arg, words));
            }
            timeout = time.as_nanos() as Nanos;
        }
        Ok(Self { timeout })
    }

    fn compile(self, _site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        Ok(Compiled::link(self))
    }
}

impl Plugin for Cancel {
    type Frame = ();
    type Local = ();

    fn local(&self, _core: u16) {}

    fn serve(&self, (): &mut (), cx: &mut Cx<'_>) -> Step<()> {
        cx.cancel_after(self.timeout);
        Step::Next
    }
}
