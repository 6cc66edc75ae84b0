//! Server blocks and their directives, old beside new.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use super::super::corefile::{CorefileError, Key, OptionLine, ServerBlock, Stanza, Token};
use super::super::lint::lints;
use super::{BlockChange, Change, DirectiveChange, Pairs, Side};
use crate::plugin::registry::NAMES;

/// Directives of which the first use that fits counts, or whose uses are asked one after the other.
const USES_IN_ORDER: &[&str] = &["acl", "forward", "grpc", "header", "log", "rewrite", "template"];
/// Directives whose options count in their order.
const OPTIONS_IN_ORDER: &[&str] = &["acl", "errors", "header", "hosts", "rewrite", "template"];

/// The keys of a block as they were written, and its view.
pub(super) fn label(block: &ServerBlock) -> String {
    let mut words: Vec<&str> = Vec::new();
    for key in &block.keys {
        // A word that means several zones is one key.
        if words.last() != Some(&key.text.as_str()) {
            words.push(&key.text);
        }
    }
    let view = view(block).map_or(String::new(), |view| format!(" (view {view})"));
    words.join(" ") + &view
}

fn view(block: &ServerBlock) -> Option<&str> {
    block.uses("view").next()?.args.first().map(|word| word.text.as_str())
}

/// What a key means: `dns://a.test.:53`.
fn meanings(side: &Side, block: &ServerBlock) -> Vec<String> {
    let meaning = |key: &Key| key.address(side.corefile.default_port);
    let mut all: Vec<String> = block.keys.iter().map(meaning).collect();
    all.sort_unstable();
    all
}

/// What a block of a side can have in common with another's.
type Traits = dyn Fn(&Side, &ServerBlock) -> Vec<String>;

/// Finds for each new block its like: of the same keys and view, else of most of the keys, else of the
/// same directives; of equal ones the first that is left. Blocks are looked up by what they have in
/// common, since a Corefile may have thousands.
pub(super) fn pair(old: &Side, new: &Side) -> Pairs {
    let (olds, news) = (&old.corefile.blocks, &new.corefile.blocks);
    let mut pairs: Pairs = vec![None; news.len()];
    let mut is_taken = vec![false; olds.len()];
    let whole = |side: &Side, block: &ServerBlock| {
        vec![format!("{:?}", (meanings(side, block), view(block)))]
    };
    let same_directives = |_: &Side, block: &ServerBlock| match block.stanzas.is_empty() {
        true => Vec::new(),
        false => vec![substance(block)],
    };
    let rules: [&Traits; 3] = [&whole, &meanings, &same_directives];
    for traits in rules {
        let mut having: HashMap<String, VecDeque<usize>> = HashMap::new();
        for (at, block) in olds.iter().enumerate().filter(|(at, _)| !is_taken[*at]) {
            let mut all = traits(old, block);
            all.dedup();
            all.into_iter().for_each(|one| having.entry(one).or_default().push_back(at));
        }
        for (index, block) in news.iter().enumerate() {
            if pairs[index].is_some() {
                continue;
            }
            let mut shared: BTreeMap<usize, usize> = BTreeMap::new();
            let traits = traits(new, block);
            for one in &traits {
                let Some(blocks) = having.get_mut(one) else { continue };
                // The first that is left is at the front: thousands of blocks may say the same.
                while blocks.front().is_some_and(|at| is_taken[*at]) {
                    blocks.pop_front();
                }
                let free = blocks.iter().filter(|at| !is_taken[**at]);
                let enough = if traits.len() == 1 { 1 } else { usize::MAX };
                free.take(enough).for_each(|at| *shared.entry(*at).or_default() += 1);
            }
            let best = shared.into_iter().rev().max_by_key(|(_, score)| *score);
            pairs[index] = best.map(|(at, _)| at);
            best.into_iter().for_each(|(at, _)| is_taken[at] = true);
        }
    }
    pairs
}

/// What the directives of a block mean: equal where [`directives`] finds no change.
fn substance(block: &ServerBlock) -> String {
    let uses = NAMES.iter().map(|name| {
        let mut uses: Vec<_> = block.uses(name).map(meant).collect();
        if !USES_IN_ORDER.contains(name) {
            uses.sort_unstable();
        }
        uses
    });
    format!("{:?}", uses.collect::<Vec<_>>())
}

/// Blocks that differ.
pub(super) fn compare(old: &Side, new: &Side, pairs: &Pairs) -> Vec<BlockChange> {
    let mut changes = Vec::new();
    for (block, like) in new.corefile.blocks.iter().zip(pairs) {
        let change = match like {
            Some(like) => changed((old, &old.corefile.blocks[*like]), (new, block)),
            None => Some(whole(new, block, Change::Added)),
        };
        changes.extend(change);
    }
    let stay: HashSet<usize> = pairs.iter().flatten().copied().collect();
    for (index, block) in old.corefile.blocks.iter().enumerate() {
        if !stay.contains(&index) {
            changes.push(whole(old, block, Change::Removed));
        }
    }
    changes
}

/// A block that has no like.
fn whole(side: &Side, block: &ServerBlock, change: Change) -> BlockChange {
    let place = Some(block.place.to_string());
    let keys = meanings(side, block);
    let uses = NAMES.iter().flat_map(|name| block.uses(name));
    let is_new = change == Change::Added;
    let none = Vec::new;
    BlockChange {
        change,
        block: label(block),
        old: if is_new { None } else { place.clone() },
        new: if is_new { place } else { None },
        keys_removed: if is_new { none() } else { keys.clone() },
        keys_added: if is_new { keys } else { none() },
        directives: uses.map(|stanza| alone(stanza, change)).collect(),
    }
}

fn changed(
    (old_side, old): (&Side, &ServerBlock),
    (new_side, new): (&Side, &ServerBlock),
) -> Option<BlockChange> {
    let (olds, news) = (meanings(old_side, old), meanings(new_side, new));
    let directives = directives(old, new);
    if olds == news && directives.is_empty() {
        return None;
    }
    let without = |these: &[String], those: &[String]| -> Vec<String> {
        these.iter().filter(|key| !those.contains(key)).cloned().collect()
    };
    Some(BlockChange {
        change: Change::Changed,
        block: label(new),
        old: Some(old.place.to_string()),
        new: Some(new.place.to_string()),
        keys_removed: without(&olds, &news),
        keys_added: without(&news, &olds),
        directives,
    })
}

/// Uses of directives that differ between two blocks, in the order of the chain.
fn directives(old: &ServerBlock, new: &ServerBlock) -> Vec<DirectiveChange> {
    NAMES.iter().flat_map(|name| of_directive(name, old, new)).collect()
}

fn of_directive(name: &str, old: &ServerBlock, new: &ServerBlock) -> Vec<DirectiveChange> {
    let (olds, news): (Vec<_>, Vec<_>) = (old.uses(name).collect(), new.uses(name).collect());
    let (mut gone, mut come) = (olds.clone(), Vec::new());
    for stanza in &news {
        match gone.iter().position(|one| is_same(one, stanza)) {
            Some(at) => drop(gone.remove(at)),
            None => come.push(*stanza),
        }
    }
    let mut changes = Vec::new();
    let moved = || olds.iter().zip(&news).any(|(one, other)| !is_same(one, other));
    if gone.is_empty() && come.is_empty() && USES_IN_ORDER.contains(&name) && moved() {
        let words = "its uses stand in another order, in which they are asked";
        changes.push(DirectiveChange {
            change: Change::Changed,
            directive: name.to_owned(),
            removed: olds.iter().map(|stanza| head(stanza)).collect(),
            added: news.iter().map(|stanza| head(stanza)).collect(),
            effects: vec![words.into()],
        });
    }
    // First those that say the same on their line; then the rest, as they come.
    for same_head in [true, false] {
        let fits = |one: &Stanza, other: &Stanza| !same_head || words(one) == words(other);
        come.retain(|stanza| match gone.iter().position(|one| fits(one, stanza)) {
            Some(at) => {
                changes.push(pair_of(gone.remove(at), stanza));
                false
            }
            None => true,
        });
    }
    changes.extend(gone.into_iter().map(|stanza| alone(stanza, Change::Removed)));
    changes.extend(come.into_iter().map(|stanza| alone(stanza, Change::Added)));
    if let Some(first) = changes.first_mut() {
        first.effects.extend(effects(name, &olds, &news));
    }
    changes
}

/// A use that has no like.
fn alone(stanza: &Stanza, change: Change) -> DirectiveChange {
    let lines = std::iter::once(head(stanza));
    let options = stanza.options.iter().map(|option| format!("    {}", line(stanza, option)));
    let lines = lines.chain(options).collect();
    let (removed, added) = match change {
        Change::Removed => (lines, Vec::new()),
        _ => (Vec::new(), lines),
    };
    let directive = stanza.directive.clone();
    DirectiveChange { change, directive, removed, added, effects: Vec::new() }
}

/// A use that is another now.
fn pair_of(old: &Stanza, new: &Stanza) -> DirectiveChange {
    let mut removed = Vec::new();
    let mut added: Vec<String> = Vec::new();
    let mut effects = Vec::new();
    let is_headed = words(old) == words(new);
    if !is_headed {
        removed.push(head(old));
        added.push(head(new));
    }
    let indent = if is_headed { "" } else { "    " };
    let mut gone: Vec<&OptionLine> = old.options.iter().collect();
    for option in &new.options {
        match gone.iter().position(|one| option_words(one) == option_words(option)) {
            Some(at) => drop(gone.remove(at)),
            None => added.push(format!("{indent}{}", line(new, option))),
        }
    }
    removed.extend(gone.into_iter().map(|option| format!("{indent}{}", line(old, option))));
    if removed.is_empty() && added.is_empty() {
        effects.push("its lines stand in another order, which counts".into());
    }
    let directive = if is_headed { head(new) } else { new.directive.clone() };
    DirectiveChange { change: Change::Changed, directive, removed, added, effects }
}

/// Whether two uses of one directive mean the same.
fn is_same(one: &Stanza, other: &Stanza) -> bool {
    meant(one) == meant(other)
}

/// The words of a use and of its options, in an order that counts or in none.
fn meant(stanza: &Stanza) -> (Vec<String>, Vec<Vec<String>>) {
    let mut options: Vec<_> = stanza.options.iter().map(option_words).collect();
    if !OPTIONS_IN_ORDER.contains(&stanza.directive.as_str()) {
        options.sort_unstable();
    }
    (words(stanza), options)
}

fn words(stanza: &Stanza) -> Vec<String> {
    stanza.args.iter().map(|word| word.text.clone()).collect()
}

fn option_words(option: &OptionLine) -> Vec<String> {
    std::iter::once(&option.name).chain(&option.args).map(|word| word.text.clone()).collect()
}

/// A word as a Corefile would have it; control characters do not reach the terminal.
fn shown(word: &Token) -> String {
    let text = word.text.as_str();
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '"';
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("{text:?}")
    }
}

fn head(stanza: &Stanza) -> String {
    let args = stanza.args.iter().map(|word| format!(" {}", shown(word)));
    args.fold(stanza.directive.clone(), |line, word| line + &word)
}

/// An option's line. What only the operator may know is left out.
fn line(stanza: &Stanza, option: &OptionLine) -> String {
    let is_secret = stanza.directive == "tsig" && option.name.text == "secret";
    let args = option.args.iter().enumerate().map(|(at, word)| match is_secret && at > 0 {
        true => " (not shown)".to_owned(),
        false => format!(" {}", shown(word)),
    });
    args.fold(shown(&option.name), |line, word| line + &word)
}

/// What follows from other uses of a directive, beyond what its lines say.
fn effects(name: &str, old: &[&Stanza], new: &[&Stanza]) -> Vec<String> {
    let (usual, what) = match name {
        "prometheus" => ("localhost:9153", "metrics"),
        "health" => (":8080", "health"),
        "ready" => (":8181", "readiness"),
        "reload" if new.is_empty() => {
            return vec!["later changes of the Corefile are loaded at SIGUSR1 only".into()];
        }
        "reload" if old.is_empty() => {
            return vec!["later changes of the Corefile are loaded by themselves".into()];
        }
        "multisocket" => {
            let words = "the number of workers, and how datagrams are steered to them, change \
                         when the process starts again, not at a reload";
            return vec![words.into()];
        }
        "debug" if old.is_empty() => {
            return vec!["a query whose way panics ends the process".into()];
        }
        _ => return Vec::new(),
    };
    let address = |uses: &[&Stanza]| {
        let first = uses.first()?.args.first();
        Some(first.map_or(usual.to_owned(), |word| word.text.clone()))
    };
    match (address(old), address(new)) {
        (Some(old), Some(new)) if old != new => {
            vec![format!("{what} moves from {old} to {new}: whoever asks there has to follow")]
        }
        (Some(old), None) => vec![format!("nothing answers for {what} at {old} any more")],
        (None, Some(new)) => vec![format!("{what} is served at {new}")],
        _ => Vec::new(),
    }
}

/// What has no meaning and may look as if it had; what `check` warns of in the new one alone.
pub(super) fn notes(old: &Side, new: &Side, pairs: &Pairs) -> Vec<String> {
    let mut notes = Vec::new();
    for (block, like) in new.corefile.blocks.iter().zip(pairs) {
        let Some(like) = like.map(|like| &old.corefile.blocks[like]) else { continue };
        if order(block, like) != order(like, block) {
            notes.push(format!(
                "{}: directives stand in another order, which means nothing: that of the chain \
                 is fixed",
                label(block)
            ));
        }
    }
    let places: Vec<usize> = pairs.iter().flatten().copied().collect();
    if !places.is_sorted() {
        let words = "server blocks stand in another order, which counts only among those of the \
                     same zone that have views";
        notes.push(words.into());
    }
    let before = lints(&old.corefile);
    let before: HashSet<_> = before.iter().map(|one| (one.plugin, &one.message)).collect();
    // The same elsewhere in the file is nothing new.
    let is_new = |one: &CorefileError| !before.contains(&(one.plugin, &one.message));
    notes.extend(lints(&new.corefile).iter().filter(|one| is_new(one)).map(ToString::to_string));
    notes
}

/// Directives that both blocks have, in the order of the first.
fn order<'a>(block: &'a ServerBlock, other: &ServerBlock) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for stanza in &block.stanzas {
        let name = stanza.directive.as_str();
        if !names.contains(&name) && other.uses(name).next().is_some() {
            names.push(name);
        }
    }
    names
}
