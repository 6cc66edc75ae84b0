//! What a reload takes over and what it makes anew.

use std::collections::HashSet;

use super::super::compile::{self, Standing};
use super::super::corefile::{ServerBlock, Token};
use super::blocks::label;
use super::{Fate, Pairs, Reload, Side};

pub(super) fn reload(old: &Side, new: &Side, pairs: &Pairs) -> Reload {
    let (olds, news) = (compile::standings(&old.planned), compile::standings(&new.planned));
    let there: HashSet<_> = olds.iter().map(|one| (one.block, one.directive)).collect();
    let held: HashSet<_> = olds.iter().filter_map(Standing::held).collect();
    let mut reload = Reload::default();
    for one in news.iter().filter(|one| one.carried) {
        let Some(like) = pairs[one.block] else { continue };
        if !there.contains(&(like, one.directive)) {
            continue;
        }
        let block = label(&new.corefile.blocks[one.block]);
        let directive = one.directive;
        if one.held().is_some_and(|key| held.contains(key)) {
            reload.kept.push(Fate { directive, block, because: None, lost: None });
            continue;
        }
        let because = Some(cause(one, like, old, new));
        reload.anew.push(Fate { directive, block, because, lost: Some(lost(directive)) });
    }
    reload
}

/// What is lost with a link, and how it comes back.
fn lost(directive: &str) -> &'static str {
    match directive {
        "cache" => "what it has stored is gone",
        "forward" => "connections to upstreams and what is known of their health begin anew",
        "kubernetes" => {
            "the cluster is listed again; until that is there the old Corefile serves, for at most \
             startup_timeout"
        }
        "file" | "auto" => "zone files are read again",
        "hosts" => "the hosts file is read again",
        "loadbalance" => "weights are read again",
        _ => "what it holds is made again",
    }
}

/// Why a link is not taken over.
fn cause(one: &Standing, like: usize, old: &Side, new: &Side) -> String {
    let (was, is) = (&old.corefile.blocks[like], &new.corefile.blocks[one.block]);
    let text = |block: &ServerBlock| {
        let uses = block.uses(one.directive).map(|stanza| {
            let words =
                |words: &[Token]| words.iter().map(|word| word.text.clone()).collect::<Vec<_>>();
            let options = stanza.options.iter();
            let options = options.map(|option| (option.name.text.clone(), words(&option.args)));
            (words(&stanza.args), options.collect::<Vec<_>>())
        });
        uses.collect::<Vec<_>>()
    };
    let keys =
        |block: &ServerBlock| block.keys.iter().map(|key| key.text.clone()).collect::<Vec<_>>();
    let (before, now) = (old.planned[like].facts(), new.planned[one.block].facts());
    if text(was) != text(is) {
        "its lines have changed".into()
    } else if keys(was) != keys(is) {
        "the keys of its block have changed".into()
    } else if before.root != now.root {
        "root has changed".into()
    } else if before.binds != now.binds {
        "bind has changed".into()
    } else if before.metadata != now.metadata {
        "metadata has come or gone".into()
    } else {
        "what is below it in the chain has changed".into()
    }
}
