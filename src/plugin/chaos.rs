//! # chaos
//!
//! Answers queries of class CH about the server itself.
//!
//! ## Syntax
//!
//! ```corefile
//! chaos [VERSION] [AUTHORS...]
//! ```
//!
//! TXT queries of class CH are answered for `version.bind.` and `version.server.` (**VERSION**, by
//! default `CoreDNS-` and the version whose behaviour this is), `authors.bind.` (**AUTHORS**, each
//! a record, in random order) and `hostname.bind.` and `id.server.` (the host's name). Texts are cut
//! at 255 octets. All else goes to the plugins below. Names are compared without case.
//!
//! ## Examples
//!
//! ```corefile
//! bind server {
//!     chaos "my server" "Ann Author" Bob
//! }
//! ```

use super::{Compiled, CorefileError, Cx, Directive, Facts, Lines, Plugin, SetupError, Site, Step};
use crate::control::version;
use crate::limits::CHAOS_AUTHORS_MAX;
use crate::sys;
use crate::wire::{Section, rclass, rtype};

/// The directive and its link.
pub struct Chaos {
    version: String,
    authors: Vec<String>,
    host: String,
}

fn cut(mut text: String) -> String {
    let mut end = text.len().min(255);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

impl Directive for Chaos {
    const NAME: &'static str = "chaos";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let mut version = format!("CoreDNS-{}", version::COREDNS);
        let mut authors = vec!["The corelane authors".to_owned()];
        if let Some(stanza) = lines.stanzas().first() {
            lines.no_block(stanza)?;
            if let Some((first, rest)) = stanza.args.split_first() {
                version = first.text.clone();
                if !rest.is_empty() {
                    authors = rest.iter().map(|arg| cut(arg.text.clone())).collect();
                    authors.sort();
                    authors.dedup();
                    authors.truncate(CHAOS_AUTHORS_MAX);
                }
            }
        }
        let host = sys::hostname().to_string_lossy().into_owned();
        let host = if host.is_empty() { "localhost".to_owned() } else { host };
        Ok(Self { version: cut(version), authors, host: cut(host) })
    }

    fn facts(&self, facts: &mut Facts) {
        facts.any_class = true;
    }

    fn compile(self, _site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        Ok(Compiled::link(self))
    }
}

/// The names that are answered, in wire form.
const VERSION_BIND: &[u8] = b"\x07version\x04bind\0";
const VERSION_SERVER: &[u8] = b"\x07version\x06server\0";
const AUTHORS_BIND: &[u8] = b"\x07authors\x04bind\0";
const HOSTNAME_BIND: &[u8] = b"\x08hostname\x04bind\0";
const ID_SERVER: &[u8] = b"\x02id\x06server\0";

impl Plugin for Chaos {
    type Frame = ();
    type Local = ();

    fn local(&self, _core: u16) {}

    fn serve(&self, (): &mut (), cx: &mut Cx<'_>) -> Step<()> {
        let question = cx.question();
        if question.rclass != rclass::CH || question.rtype != rtype::TXT {
            return Step::Next;
        }
        let texts = match question.lower.as_bytes() {
            VERSION_BIND | VERSION_SERVER => std::slice::from_ref(&self.version),
            HOSTNAME_BIND | ID_SERVER => std::slice::from_ref(&self.host),
            AUTHORS_BIND => &self.authors[..],
            _ => return Step::Next,
        };
        let mut order: [usize; CHAOS_AUTHORS_MAX] = std::array::from_fn(|index| index);
        cx.core.rng.shuffle(&mut order[..texts.len()]);
        let (question, reply) = cx.answer(false);
        for index in &order[..texts.len()] {
            let text = [texts[*index].as_bytes()];
            // What has no room is left out: `finish` would have cut it.
            if reply.push_txt(Section::Answer, question.name, rclass::CH, 0, text).is_err() {
                break;
            }
        }
        Step::Up
    }
}
