//! # view
//!
//! Has a server block serve only the queries that its expressions are true of.
//!
//! ## Syntax
//!
//! ```text
//! view NAME {
//!     expr EXPRESSION
//! }
//! ```
//!
//! * **NAME**: what metrics call it (label `view`), and the value of the metadata label `view/name`.
//! * `expr`: a condition. All of them have to be `true`; one that cannot be computed is not.
//!
//! Blocks of the same zone are tried in the order of the Corefile; the first that has no view, or
//! whose view fits, serves. Where none does, the next longer zone's blocks are tried, and so on; what
//! is left over is refused. A block without a view hides those of its zone that come after it.
//!
//! ## Expressions
//!
//! The language is that of Go's package *expr*: `and or not`, comparisons, `in`, `matches`,
//! `contains`, `startsWith`, `endsWith`, `a ? b : c`, arithmetic, arrays `['A', 'AAAA']`, functions
//! (`len`, `lower`, `split`, `any([…], # == 'x')` …). A `#` has to stand in quotes in a Corefile.
//! These functions tell of the query:
//!
//! | function | what |
//! |---|---|
//! | `bufsize()` | the EDNS size in octets; 512 without EDNS, 65535 on streams |
//! | `class()`, `type()` | `'IN'`, `'AAAA'` |
//! | `client_ip()`, `port()` | where it came from, both strings |
//! | `do()` | the DO bit |
//! | `id()`, `opcode()`, `size()` | numbers of the message, and its octets |
//! | `name()` | in lower case, with the final dot |
//! | `proto()` | `'udp'` or `'tcp'` |
//! | `server_ip()`, `server_port()` | where it was asked, both strings |
//! | `incidr(ADDRESS, NETWORK)` | whether the address is in the network |
//! | `metadata(LABEL)` | a label of this block, with *metadata* in it; else empty |
//!
//! ## Examples
//!
//! ```corefile
//! example.org {
//!     view inside {
//!         expr incidr(client_ip(), '10.0.0.0/8') || incidr(client_ip(), 'fd00::/8')
//!     }
//!     hosts {
//!         10.0.0.1 www.example.org
//!     }
//! }
//! example.org {
//!     hosts {
//!         192.0.2.1 www.example.org
//!     }
//! }
//! ```
//!
//! ## Differences from CoreDNS
//!
//! The pattern of `matches` and the label of `metadata` have to be literals. Dates, JSON, sorting and
//! grouping are not built in. Steps and memory of an expression are bounded: beyond, it is not true.
//!
//! Cost: a block without a view is found as before; a view computes its expressions, and allocates
//! nothing.

use std::cell::RefCell;
use std::fmt;

use super::conditions::{Labels, OF_A_QUERY, Query, add_labels};
use super::{Compiled, CorefileError, Cx, Directive, Facts, Lines, Plugin, SetupError, Site, Step};
use crate::expression::{Draft, Memory, Program};

/// The directive.
pub struct View {
    name: String,
    program: Program,
}

/// The link: hands every query on, having judged which come.
pub struct Link {
    name: Box<str>,
    program: Program,
    labels: Labels,
}

impl Directive for View {
    const NAME: &'static str = "view";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let stanza = lines.only_one()?;
        let [name] = &stanza.args[..] else {
            return Err(lines.arg_err(stanza.args.get(1).unwrap_or(&stanza.name)));
        };
        let mut draft = Draft::new(OF_A_QUERY);
        for option in &stanza.options {
            if option.name.text != "expr" {
                return Err(lines.unknown_option(&option.name, &["expr"]));
            }
            let words: Vec<&str> = option.args.iter().map(|word| word.text.as_str()).collect();
            draft.condition(&words.join(" ")).map_err(|why| {
                lines.err(option.args.first().unwrap_or(&option.name), why.to_string())
            })?;
        }
        Ok(Self { name: name.text.clone(), program: draft.finish() })
    }

    fn facts(&self, facts: &mut Facts) {
        facts.view = Some(self.name.clone());
    }

    fn compile(self, site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        let mut labels = Labels::new();
        add_labels(&mut labels, site, self.program.literals());
        Ok(Compiled::link(Link { name: self.name.into(), program: self.program, labels }))
    }
}

impl Plugin for Link {
    type Frame = ();
    type Local = RefCell<Memory>;

    const JUDGES: bool = true;

    fn local(&self, _core: u16) -> Self::Local {
        RefCell::default()
    }

    fn meta_key(&self, label: &str) -> Option<u16> {
        (label == "view/name").then_some(0)
    }

    fn meta(&self, _: &Self::Local, _cx: &Cx<'_>, _key: u16, out: &mut dyn fmt::Write) -> bool {
        // Whoever reads it bounds it.
        let _ = out.write_str(&self.name);
        true
    }

    fn admits(&self, local: &Self::Local, cx: &Cx<'_>) -> bool {
        let query = Query { cx, labels: &self.labels, group: &|_| "" };
        // Nobody else has it: an expression cannot lead back here.
        let Ok(mut memory) = local.try_borrow_mut() else { return false };
        self.program.run(&query, &mut memory).unwrap_or(false)
    }

    fn serve(&self, _: &mut Self::Local, _cx: &mut Cx<'_>) -> Step<()> {
        Step::Next
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse_block;
    use super::*;

    #[test]
    fn reads_a_name_and_conditions() {
        for block in [
            "view a",
            "view a {\nexpr name() == 'example.com.'\n}",
            "view a {\nexpr incidr(client_ip(), '10.0.0.0/24')\nexpr type() in ['A', 'AAAA']\n}",
            "view a {\nexpr id() == 4711 && int(port()) > 1024\n}",
        ] {
            assert!(parse_block::<View>(block).is_ok(), "{block}");
        }
    }

    #[test]
    fn refuses_in_coredns_s_words() {
        for (block, words) in [
            ("view", "Wrong argument count"),
            ("view a b", "Wrong argument count"),
            ("view a {\nfoo bar\n}", "unknown property 'foo'"),
            ("view a {\nexpr invalid expression\n}", "unknown name invalid"),
            ("view a {\nexpr group('x') == ''\n}", "unknown name group"),
            ("view a\nview b", "once per Server Block"),
        ] {
            let error = parse_block::<View>(block).err().expect(block);
            assert!(error.contains(words), "{block}: {error}");
        }
    }
}
