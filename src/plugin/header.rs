//! # header
//!
//! Sets or clears flags in the headers of queries and replies.
//!
//! ## Syntax
//!
//! ```corefile
//! header {
//!     query|response set|clear aa|ra|rd...
//! }
//! ```
//!
//! Rules of `query` act on the query before the plugins below see it (*forward* sends it on so), those
//! of `response` on their reply, each in the order given. `aa` is authoritative answer, `ra` recursion available, `rd`
//! recursion desired.
//!
//! ## Examples
//!
//! ```corefile
//! . {
//!     header {
//!         response set ra
//!         query clear rd
//!     }
//!     whoami
//! }
//! ```

use super::{
    Compiled, CorefileError, Cx, Directive, Lines, Plugin, ReplyState, SetupError, Site, Step,
};
use crate::control::corefile::OptionLine;
use crate::wire::Flags;

/// The directive and its link.
pub struct Header {
    query: Vec<Rule>,
    response: Vec<Rule>,
}

#[derive(Clone, Copy)]
struct Rule {
    flag: Flag,
    on: bool,
}

#[derive(Clone, Copy)]
enum Flag {
    Aa,
    Ra,
    Rd,
}

impl Directive for Header {
    const NAME: &'static str = "header";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let mut this = Self { query: Vec::new(), response: Vec::new() };
        // Of several uses CoreDNS takes the first that has rules.
        for stanza in lines.stanzas() {
            for option in &stanza.options {
                let place = match option.name.text.to_lowercase().as_str() {
                    "query" => &mut this.query,
                    "response" => &mut this.response,
                    other => {
                        let words = format!(
                            "setting up rule: invalid selector={other} should be query or response"
                        );
                        let error = lines.err(&option.name, words);
                        return Err(error.suggesting(other, &["query", "response"]));
                    }
                };
                place.extend(rules(lines, option)?);
            }
            if !this.query.is_empty() || !this.response.is_empty() {
                return Ok(this);
            }
        }
        let last = lines.stanzas().last();
        Err(lines.arg_err(&last.expect("a directive has a use").last))
    }

    fn compile(self, _site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        Ok(Compiled::link(self))
    }
}

fn rules(lines: &Lines<'_>, option: &OptionLine) -> Result<Vec<Rule>, CorefileError> {
    let Some((action, flags)) = option.args.split_first() else {
        return Err(lines.err(&option.name, "setting up rule: no flag action provided"));
    };
    if flags.is_empty() {
        let words = "setting up rule: invalid length for flags, at least one should be provided";
        return Err(lines.err(action, words));
    }
    let on = match action.text.to_lowercase().as_str() {
        "set" => true,
        "clear" => false,
        other => {
            let words =
                format!("setting up rule: unknown flag action={other}, should be set or clear");
            return Err(lines.err(action, words).suggesting(other, &["set", "clear"]));
        }
    };
    let mut rules = Vec::new();
    for word in flags {
        let flag = match word.text.to_lowercase().as_str() {
            "aa" => Flag::Aa,
            "ra" => Flag::Ra,
            "rd" => Flag::Rd,
            other => {
                let words = format!("setting up rule: unknown/unsupported flag={other}");
                return Err(lines.err(word, words).suggesting(other, &["aa", "ra", "rd"]));
            }
        };
        rules.push(Rule { flag, on });
    }
    Ok(rules)
}

fn apply(rules: &[Rule], flags: Flags) -> Flags {
    rules.iter().fold(flags, |flags, Rule { flag, on }| match flag {
        Flag::Aa => flags.with_aa(*on),
        Flag::Ra => flags.with_ra(*on),
        Flag::Rd => flags.with_rd(*on),
    })
}

impl Plugin for Header {
    type Frame = ();
    type Local = ();

    fn local(&self, _core: u16) {}

    fn serve(&self, (): &mut (), cx: &mut Cx<'_>) -> Step<()> {
        let asked = cx.asked_mut();
        asked.flags = apply(&self.query, asked.flags);
        Step::Watch(())
    }

    fn resume(&self, (): &mut (), cx: &mut Cx<'_>, (): ()) -> Step<()> {
        let level = cx.level_mut();
        if level.state == ReplyState::Written {
            let flags = apply(&self.response, level.reply.flags());
            level.reply.set_flags(flags);
        }
        Step::Up
    }
}
