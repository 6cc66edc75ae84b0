//! # whoami
//!
//! Answers with who asked: the client's address, port and transport.
//!
//! ## Syntax
//!
//! ```corefile
//! whoami
//! ```
//!
//! The reply has no answer; its additional section holds an A or AAAA record with the client's
//! address and an SRV record `_udp.NAME` or `_tcp.NAME` with the client's port, TTL 0. Useful to
//! see that queries arrive, and from where.
//!
//! ## Examples
//!
//! ```corefile
//! example.org {
//!     whoami
//! }
//! ```

use super::{Compiled, CorefileError, Cx, Directive, Lines, Plugin, SetupError, Site, Step};
use crate::wire::{Name, NameBuf, Section};

/// The directive and its link.
pub struct Whoami;

impl Directive for Whoami {
    const NAME: &'static str = "whoami";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        for stanza in lines.stanzas() {
            lines.no_args(*stanza)?;
            lines.no_block(stanza)?;
        }
        Ok(Self)
    }

    fn compile(self, _site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        Ok(Compiled::link(self))
    }
}

impl Plugin for Whoami {
    type Frame = ();
    type Local = ();

    fn local(&self, _core: u16) {}

    fn serve(&self, (): &mut (), cx: &mut Cx<'_>) -> Step<()> {
        let (ip, port) = (cx.client().ip(), cx.client().peer.port());
        let label: &[u8] = if cx.client().transport.is_stream() { b"_tcp" } else { b"_udp" };
        let (question, reply) = cx.answer(true);
        // Both records fit into any buffer; a name that has no room for the label gets no SRV.
        let _ = reply.push_address(Section::Additional, question.name, ip, 0);
        let mut owner = NameBuf::root();
        owner.set(question.name);
        let owner = owner.prepend(label);
        if let Ok(owner) = owner {
            let owner = owner.as_name();
            let _ = reply.push_srv(Section::Additional, owner, [0, 0, port], Name::ROOT, 0);
        }
        Step::Up
    }
}
