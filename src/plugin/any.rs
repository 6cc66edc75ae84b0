//! # any
//!
//! Answers queries of type ANY with one small record (RFC 8482).
//!
//! ## Syntax
//!
//! ```corefile
//! any
//! ```
//!
//! Queries of type ANY get a HINFO record that names RFC 8482, TTL 8482, instead of all records: they
//! are of use to those who amplify attacks, and to nobody else.
//!
//! ## Examples
//!
//! ```corefile
//! example.org {
//!     any
//!     whoami
//! }
//! ```

use super::{Compiled, CorefileError, Cx, Directive, Lines, Plugin, SetupError, Site, Step};
use crate::wire::{Rdata, Section, rclass, rtype};

/// RDATA of HINFO: two character strings.
const HINFO: &[u8] = b"\x0dANY obsoleted\x0cSee RFC 8482";
const TTL: u32 = 8482;

/// The directive and its link.
pub struct Any;

impl Directive for Any {
    const NAME: &'static str = "any";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        if let Some(stanza) = lines.stanzas().first() {
            lines.no_args(*stanza)?;
            lines.no_block(stanza)?;
        }
        Ok(Self)
    }

    fn compile(self, _site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        Ok(Compiled::link(self))
    }
}

impl Plugin for Any {
    type Frame = ();
    type Local = ();

    fn local(&self, _core: u16) {}

    fn serve(&self, (): &mut (), cx: &mut Cx<'_>) -> Step<()> {
        if cx.question().rtype != rtype::ANY {
            return Step::Next;
        }
        let (question, reply) = cx.answer(false);
        let rdata = Rdata::Raw(HINFO);
        // A name and some thirty octets fit into any buffer.
        let _ = reply.push(Section::Answer, question.name, rtype::HINFO, rclass::IN, TTL, rdata);
        Step::Up
    }
}
