//! The contract of plugins.
//!
//! A directive is what the Corefile says; a link is a behaviour in a block's compiled chain. A
//! plugin's file reads top to bottom: manual, [`Directive`] (`parse`, `facts`, `compile`), then
//! [`Plugin`] (`serve`, `resume`), its counters, its tests. To add one: write `plugin/NAME.rs`, add
//! its lines to [`registry`], add `tests/cases/NAME/`.
//!
//! `parse` runs once a server block with all uses of the directive in it; `facts` says what the
//! block must know before anything is compiled; `compile` runs bottom of the chain first, so that a
//! plugin finds those below it. None of them touches what is serving: whatever fails, fails whole.
//!
//! `serve` and `resume` never block, await, lock, allocate or log. What is to be told goes through
//! [`Cx::tell`], what is to be waited for through [`Step::Fetch`].

mod acl;
mod any;
pub mod authority;
mod auto;
mod autopath;
mod bind;
mod bufsize;
mod cache;
mod cancel;
mod chaos;
mod conditions;
mod debug;
mod dns64;
pub mod dnstap;
mod erratic;
mod errors;
mod file;
mod forward;
pub mod gone;
mod header;
mod health;
mod hosts;
mod k8s_external;
pub mod kubernetes;
mod loadbalance;
mod local;
mod log;
mod loop_;
mod metadata;
mod minimal;
mod multisocket;
mod nsid;
mod on;
pub mod outgoing;
pub(crate) mod prometheus;
mod ready;
pub mod registry;
mod reload;
mod rewrite;
mod root;
pub mod search;
mod shed;
pub mod site;
mod template;
mod timeouts;
mod tls;
mod trace;
mod transfer;
mod tsig;
mod view;
mod whoami;

use std::fmt;
use std::sync::Arc;

pub use crate::control::corefile::{CorefileError, Lines};
pub use crate::data::chain::{Asked, Client, Core, Cx, Entry, Event, Fetch, Fetched, Step};
pub use crate::data::chain::{Level, ReplyState, Source, Transport};
use crate::wire::{NameBuf, Question};
pub use outgoing::Transferer;
pub use search::SearchPath;
pub use site::{Compiled, Facts, Ready, SetupError, Sink, Site};

/// A link: what a query meets. Shared by all workers; what changes is in its `Local`.
pub trait Plugin: Send + Sync + 'static {
    /// What it remembers of a query until its `resume`; at most `FRAME_BYTES_MAX`. More goes into
    /// the walk's memory ([`Cx::keep`]).
    type Frame: Copy;
    /// This link's own on one worker: readers of tables, random state. Carried over with the link.
    type Local: 'static;

    /// Whether [`Plugin::hint`] does anything.
    const HINTS: bool = false;

    /// Whether [`Plugin::admits`] says anything.
    const JUDGES: bool = false;

    /// The directive that this link stands for, where several make the same kind of link.
    fn name(&self) -> Option<&'static str> {
        None
    }

    /// What it offers to `transfer`, if it has zones to hand out. Neither waits nor allocates.
    fn transferer(self: &Arc<Self>) -> Option<Arc<dyn Transferer>> {
        None
    }

    /// What it offers to `autopath`, if it knows search paths. Control side.
    fn search_path(self: &Arc<Self>) -> Option<SearchPath> {
        None
    }

    /// Makes the local of worker `core`; off the query path, when a generation is adopted.
    fn local(&self, core: u16) -> Self::Local;

    /// Refreshes the local's readers: a table was replaced. Between turns.
    fn refresh(&self, _local: &mut Self::Local) {}

    /// Touches, by ordinary loads, what the answer to `question` would read. Only the lower-cased
    /// name is at hand.
    /// What it gives, a place in a table of its local, comes back in `hint_next`, once the whole
    /// batch has been hinted, and may be had by [`Cx::hinted`] as long as the turn lasts.
    fn hint(&self, _local: &Self::Local, _question: Question<'_>) -> u64 {
        0
    }

    /// Touches what lies behind the first touch: `place` is what `hint` gave.
    fn hint_next(&self, _local: &Self::Local, _question: Question<'_>, _place: u64) {}

    /// Zones whose names, all of them, this link answers from memory as it is now and never hands on:
    /// `cache` above it stores none of them, so that what is new is seen at once. Control side.
    fn memory_zones(&self) -> &[NameBuf] {
        &[]
    }

    /// The key under which this link provides a metadata label, if it does. Control side.
    fn meta_key(&self, _label: &str) -> Option<u16> {
        None
    }

    /// Writes the value of a label that `meta_key` knows; it may be empty. `false`: the query has none.
    fn meta(
        &self,
        _local: &Self::Local,
        _cx: &Cx<'_>,
        _key: u16,
        _out: &mut dyn fmt::Write,
    ) -> bool {
        false
    }

    /// Whether the block that this link is in serves the level's question. Asked before the block's
    /// chain begins.
    fn admits(&self, _local: &Self::Local, _cx: &Cx<'_>) -> bool {
        true
    }

    /// Serves a query that comes from above.
    fn serve(&self, local: &mut Self::Local, cx: &mut Cx<'_>) -> Step<Self::Frame>;

    /// Goes on with a query after `Watch`, `Ask`, `Fetch` or `Send`.
    fn resume(
        &self,
        _local: &mut Self::Local,
        _cx: &mut Cx<'_>,
        _frame: Self::Frame,
    ) -> Step<Self::Frame> {
        Step::Up
    }

    /// Begins a walk that [`Cx::detach`] asked for.
    fn detached(
        &self,
        _local: &mut Self::Local,
        _cx: &mut Cx<'_>,
        _note: u64,
    ) -> Step<Self::Frame> {
        Step::Next
    }
}

/// A directive: what the Corefile says, and how it becomes a link.
pub trait Directive: Sized {
    /// The word in the Corefile.
    const NAME: &'static str;

    /// Whether a link made from the same words in a block of the same keys may be taken over from
    /// the snapshot before, with its tables, tasks and counters. True of plugins that own data and
    /// find no others.
    const CARRIED: bool = false;

    /// Whether such a link is taken over only while all directives below it in the block are as they
    /// were too: what it holds came from them.
    const RESTS_ON_BELOW: bool = false;

    /// Reads all uses of the directive in one server block.
    ///
    /// # Errors
    /// What is wrong, with its place and CoreDNS's short words.
    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError>;

    /// Tells what the block must know before anything is compiled.
    fn facts(&self, _facts: &mut Facts) {}

    /// What is not wrong, and yet worth knowing: for `corelane check`.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// Makes the link, or none for a directive that is only facts.
    ///
    /// # Errors
    /// What could not be set up.
    fn compile(self, site: &mut Site<'_>) -> Result<Compiled, SetupError>;
}

/// What directive `D` reads from the lines of a block, or the error as the operator sees it.
#[cfg(test)]
fn parse_block<D: Directive>(block: &str) -> Result<D, String> {
    use crate::control::corefile::{Directives, Input, load};

    let text = format!("example.org {{\n{block}\n}}\n").into();
    let input = Input::Text { name: "Corefile".into(), text };
    let names = Directives { known: registry::NAMES, built: registry::NAMES };
    let corefile = load(input, names, &|_| None, 53).expect("a Corefile");
    D::parse(&Lines::new(&corefile.blocks[0], D::NAME, None)).map_err(|error| error.to_string())
}
