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
//! address and an SRV record `_udp.NAME` or `_tcp.NAME` with the client's port, TTL 0, in the class
//! that was asked for. Useful to see that queries arrive, and from where.
//!
//! ## Examples
//!
//! ```corefile
//! example.org {
//!     whoami
//! }
//! ```

use std::net::IpAddr;

use super::{Compiled, CorefileError, Cx, Directive, Lines, Plugin, SetupError, Site, Step};
use crate::wire::{NameBuf, Rdata, Section, rtype};

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
        let rclass = question.rclass;
        let (v4, v6);
        let (rtype, octets): (_, &[u8]) = match ip {
            IpAddr::V4(ip) => {
                v4 = ip.octets();
                (rtype::A, &v4)
            }
            IpAddr::V6(ip) => {
                v6 = ip.octets();
                (rtype::AAAA, &v6)
            }
        };
        // Both records fit into any buffer; a name that has no room for the label gets no SRV.
        let section = Section::Additional;
        let _ = reply.push(section, question.name, rtype, rclass, 0, Rdata::Raw(octets));
        let mut owner = NameBuf::root();
        owner.set(question.name);
        let owner = owner.prepend(label);
        if let Ok(owner) = owner {
            let owner = owner.as_name();
            let [high, low] = port.to_be_bytes();
            // Priority, weight, port, and the root as the target (RFC 2782).
            let srv = Rdata::Raw(&[0, 0, 0, 0, high, low, 0]);
            let _ = reply.push(section, owner, rtype::SRV, rclass, 0, srv);
        }
        Step::Up
    }
}
