//! A difference as text.

use std::io::{self, Write};

use super::{BlockChange, Change, Difference, DirectiveChange, Fate};

pub(super) fn print(difference: &Difference, out: &mut dyn Write) -> io::Result<()> {
    if difference.same {
        writeln!(out, "same: the two mean the same")?;
    }
    for block in &difference.blocks {
        print_block(block, out)?;
    }
    let listeners = &difference.listeners;
    section("listeners", listeners.opened.len() + listeners.closed.len(), out)?;
    for address in &listeners.closed {
        writeln!(out, "  - {address} is closed")?;
    }
    for address in &listeners.opened {
        writeln!(out, "  + {address} is opened")?;
    }
    section("names that go another way", difference.names.len(), out)?;
    for name in &difference.names {
        let served = |by: &Option<String>| match by {
            Some(by) => format!("served by {by}"),
            None => "refused".to_owned(),
        };
        let (zone, listener) = (&name.zone, &name.listener);
        let (old, new) = (served(&name.old), served(&name.new));
        writeln!(out, "  {zone} at {listener}: {old} before, {new} now")?;
    }
    section("names that are asked of others", difference.upstreams.len(), out)?;
    for zone in &difference.upstreams {
        let asked = |whom: &[String]| match whom {
            [] => "nobody".to_owned(),
            whom => whom.join(" "),
        };
        let (old, new) = (asked(&zone.old), asked(&zone.new));
        writeln!(out, "  {} in {}: {old} before, {new} now", zone.zone, zone.block)?;
    }
    if !difference.same {
        let reload = &difference.reload;
        section("a reload", reload.kept.len() + reload.anew.len(), out)?;
        for fate in &reload.anew {
            print_fate(fate, out)?;
        }
        for Fate { directive, block, .. } in &reload.kept {
            writeln!(out, "  takes {directive} of {block} over, with all that it holds")?;
        }
    }
    difference.notes.iter().try_for_each(|note| writeln!(out, "note: {note}"))
}

fn section(title: &str, entries: usize, out: &mut dyn Write) -> io::Result<()> {
    if entries > 0 { writeln!(out, "{title}:") } else { Ok(()) }
}

fn print_block(block: &BlockChange, out: &mut dyn Write) -> io::Result<()> {
    let place = |place: &Option<String>| place.clone().unwrap_or_default();
    let (old, new) = (place(&block.old), place(&block.new));
    let name = &block.block;
    match block.change {
        Change::Added => writeln!(out, "+ {name} ({new})")?,
        Change::Removed => writeln!(out, "- {name} ({old})")?,
        Change::Changed => writeln!(out, "~ {name} ({old}, {new})")?,
    }
    if block.change == Change::Changed {
        block.keys_removed.iter().try_for_each(|key| writeln!(out, "  - key {key}"))?;
        block.keys_added.iter().try_for_each(|key| writeln!(out, "  + key {key}"))?;
    }
    block.directives.iter().try_for_each(|directive| print_directive(directive, out))
}

fn print_directive(change: &DirectiveChange, out: &mut dyn Write) -> io::Result<()> {
    let deeper = if change.change == Change::Changed { "  " } else { "" };
    if change.change == Change::Changed {
        writeln!(out, "  ~ {}", change.directive)?;
    }
    change.removed.iter().try_for_each(|line| writeln!(out, "  {deeper}- {line}"))?;
    change.added.iter().try_for_each(|line| writeln!(out, "  {deeper}+ {line}"))?;
    change.effects.iter().try_for_each(|effect| writeln!(out, "      > {effect}"))
}

fn print_fate(fate: &Fate, out: &mut dyn Write) -> io::Result<()> {
    let Fate { directive, block, because, lost } = fate;
    let because = because.as_deref().unwrap_or_default();
    let lost = lost.unwrap_or_default();
    writeln!(out, "  makes {directive} of {block} anew, since {because}: {lost}")
}
