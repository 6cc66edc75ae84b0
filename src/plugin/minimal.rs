//! # minimal
//!
//! Leaves out what a reply can do without.
//!
//! ## Syntax
//!
//! ```corefile
//! minimal
//! ```
//!
//! Replies with records in the answer section lose their authority and additional sections. Denials,
//! errors and referrals keep them: there they are the answer.
//!
//! ## Examples
//!
//! ```corefile
//! example.org {
//!     minimal
//!     whoami
//! }
//! ```

use super::{
    Compiled, CorefileError, Cx, Directive, Lines, Plugin, ReplyState, SetupError, Site, Step,
};
use crate::wire::{Record, Section, opcode, rcode, rtype};

/// The directive and its link.
pub struct Minimal;

impl Directive for Minimal {
    const NAME: &'static str = "minimal";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        // As in CoreDNS, only the first use is looked at.
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

impl Plugin for Minimal {
    type Frame = ();
    type Local = ();

    fn local(&self, _core: u16) {}

    fn serve(&self, (): &mut (), _cx: &mut Cx<'_>) -> Step<()> {
        Step::Watch(())
    }

    fn resume(&self, (): &mut (), cx: &mut Cx<'_>, (): ()) -> Step<()> {
        let level = cx.level_mut();
        let query = level.asked.flags.opcode() == opcode::QUERY;
        if level.state != ReplyState::Written || level.reply.rcode() != rcode::NOERROR || !query {
            return Step::Up;
        }
        let kept = |record: &Record| {
            record.section == Section::Authority && matches!(record.rtype, rtype::SOA | rtype::NS)
        };
        // NOERROR without an answer is NODATA if it has a SOA, a referral if it has NS records.
        let answered = level.reply.counts().answer != 0;
        if answered || !level.reply.records().flatten().any(|record| kept(&record)) {
            level.reply.cut(Section::Authority);
        }
        Step::Up
    }
}
