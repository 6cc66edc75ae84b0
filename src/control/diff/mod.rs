//! `corelane diff OLD NEW`: what a change of a Corefile means.
//!
//! Both Corefiles are read and planned as a reload would do it; nothing is opened but they, what they
//! import and what plugins read while they parse. Then they are compared block by block ([`blocks`]), by
//! who serves which names where and whom they are asked of ([`ways`]), and by what a reload takes over and
//! what it makes anew ([`carry`], which asks what the compiler asks). What differs in the text and not in
//! meaning (comments, the order of directives, of options that have none) is no difference.
//!
//! Ends with status 0 if the two mean the same, 1 if not, 2 if one of them cannot be read. Secrets of
//! `tsig` are compared and never shown.

mod blocks;
mod carry;
mod print;
#[cfg(test)]
mod tests;
mod ways;

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use super::compile::{self, Planned};
use super::corefile::{self, Corefile, CorefileError, Input};
use super::{args, logging, source};

/// What differs, in words of operators.
#[derive(Debug, Default, Serialize)]
pub struct Difference {
    /// Nothing differs in meaning, and a reload takes everything over.
    pub same: bool,
    /// Server blocks that differ, in the order of the new Corefile; those that are gone come last.
    pub blocks: Vec<BlockChange>,
    /// Addresses that are listened on.
    pub listeners: Listeners,
    /// Zones whose names are served by another block.
    pub names: Vec<NameChange>,
    /// Zones whose names are asked of other upstreams, in blocks that stay.
    pub upstreams: Vec<UpstreamChange>,
    /// What a reload does with what directives hold.
    pub reload: Reload,
    /// What is worth knowing besides.
    pub notes: Vec<String>,
}

/// What became of a block or a directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It is another.
    Changed,
}

/// A server block that differs.
#[derive(Debug, Serialize)]
pub struct BlockChange {
    /// What became of it.
    pub change: Change,
    /// Its keys and its view: of the new one, if there is one.
    pub block: String,
    /// Where the old one stands.
    pub old: Option<String>,
    /// Where the new one stands.
    pub new: Option<String>,
    /// Keys that it has no more.
    pub keys_removed: Vec<String>,
    /// Keys that are new.
    pub keys_added: Vec<String>,
    /// Uses of directives that differ.
    pub directives: Vec<DirectiveChange>,
}

/// A use of a directive that differs.
#[derive(Debug, Serialize)]
pub struct DirectiveChange {
    /// What became of it.
    pub change: Change,
    /// The directive's name, with the words on its line if these are the same.
    pub directive: String,
    /// Lines of the old one that the new one has not.
    pub removed: Vec<String>,
    /// Lines of the new one that the old one has not.
    pub added: Vec<String>,
    /// What follows from it.
    pub effects: Vec<String>,
}

/// Addresses that are listened on in one of the two only.
#[derive(Debug, Default, Serialize)]
pub struct Listeners {
    /// In the new one.
    pub opened: Vec<String>,
    /// In the old one.
    pub closed: Vec<String>,
}

/// A zone whose names are served by another block.
#[derive(Debug, Serialize)]
pub struct NameChange {
    /// The zone. Names in longer zones that are listed or served by themselves go their own way.
    pub zone: String,
    /// Where they are asked.
    pub listener: String,
    /// The block that served them; none: they were refused.
    pub old: Option<String>,
    /// The block that serves them; none: they are refused.
    pub new: Option<String>,
}

/// A zone whose names are asked of other upstreams.
#[derive(Debug, Serialize)]
pub struct UpstreamChange {
    /// The zone.
    pub zone: String,
    /// The block.
    pub block: String,
    /// Upstreams before; none: nothing was forwarded.
    pub old: Vec<String>,
    /// Upstreams now; none: nothing is forwarded.
    pub new: Vec<String>,
}

/// What a reload does with directives that hold something of their own.
#[derive(Debug, Default, Serialize)]
pub struct Reload {
    /// They are taken over, with all that they hold.
    pub kept: Vec<Fate>,
    /// They are made anew.
    pub anew: Vec<Fate>,
}

/// What becomes of what a directive holds.
#[derive(Debug, Serialize)]
pub struct Fate {
    /// The directive.
    pub directive: &'static str,
    /// Its block.
    pub block: String,
    /// Why it is not taken over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// What is lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<&'static str>,
}

/// A Corefile that could be planned.
struct Side {
    corefile: Corefile,
    planned: Vec<Planned>,
}

/// For each block of the new Corefile its like in the old one, as an index.
type Pairs = Vec<Option<usize>>;

/// Compares the two files and prints what is found; gives the exit status.
///
/// # Errors
/// `out` cannot be written to.
pub fn run(wanted: &args::Diff, out: &mut dyn Write) -> io::Result<u8> {
    if [&wanted.old, &wanted.new].iter().all(|path| path.as_os_str() == "-") {
        logging::fatal(&"diff: standard input can be one of the two only");
        return Ok(2);
    }
    let sides = [&wanted.old, &wanted.new].map(|path| read(path, wanted.port));
    let [Ok(old), Ok(new)] = sides else {
        for error in sides.into_iter().filter_map(Result::err).flatten() {
            logging::fatal(&format_args!("diff: {error}"));
        }
        return Ok(2);
    };
    let difference = compare(&old, &new);
    if wanted.json {
        serde_json::to_writer_pretty(&mut *out, &difference)?;
        writeln!(out)?;
    } else {
        print::print(&difference, out)?;
    }
    Ok(u8::from(!difference.same))
}

/// Reads and plans a Corefile; `-` is standard input.
fn read(path: &Path, port: u16) -> Result<Side, Vec<CorefileError>> {
    plan(Input::of_argument(path), port)
}

fn plan(input: Input, port: u16) -> Result<Side, Vec<CorefileError>> {
    let env = |name: &str| std::env::var(name).ok();
    let corefile = corefile::load(input, source::directives(), &env, port)?;
    let planned = compile::plan(&corefile)?;
    Ok(Side { corefile, planned })
}

fn compare(old: &Side, new: &Side) -> Difference {
    let pairs = blocks::pair(old, new);
    let mut difference = Difference {
        blocks: blocks::compare(old, new, &pairs),
        listeners: ways::listeners(old, new),
        names: ways::names(old, new, &pairs),
        upstreams: ways::upstreams(old, new, &pairs),
        reload: carry::reload(old, new, &pairs),
        ..Difference::default()
    };
    difference.same = difference.blocks.is_empty()
        && difference.listeners.opened.is_empty()
        && difference.listeners.closed.is_empty()
        && difference.names.is_empty()
        && difference.upstreams.is_empty()
        && difference.reload.anew.is_empty();
    difference.notes = blocks::notes(old, new, &pairs);
    if difference.same && old.corefile.hash != new.corefile.hash {
        let words =
            "the text differs and the meaning does not: reload loads it, and takes all over";
        difference.notes.push(words.into());
    }
    difference
}
