//! What a block counts: matches where they happen, failures by way of control.
//!
//! A match is counted in the worker's own cell for its class and type. A failure, which means that
//! the configuration is wrong, has the template's text as a label: control is told and counts it.

use std::sync::Arc;

use super::record::{Record, Unmade};
use super::{Block, Effective};
use crate::data::tally::{CellGrid, Family, Grid, Tally};
use crate::plugin::{Cx, Event, Sink, Site};
use crate::wire::{Section, rtype};

use super::data::{class_name, type_name};

/// Classes with a name, then all others, which have none.
const CLASSES: &[&str] = &["IN", "CS", "CH", "HS", "NONE", "ANY", ""];

/// Types with a name below 262, sorted; those above are rare and counted with the others.
const TYPES_MAX: usize = 262;
const TYPES_LEN: usize = {
    let (mut len, mut number) = (0, 0);
    while number < TYPES_MAX {
        len += rtype::name(number as u16).is_some() as usize;
        number += 1;
    }
    len
};
/// The names of types that have one, then all others.
const TYPES: &[&str] = &{
    let mut names = [""; TYPES_LEN + 1];
    let (mut at, mut number) = (0, 0);
    while number < TYPES_MAX {
        if let Some(name) = rtype::name(number as u16) {
            names[at] = name;
            at += 1;
        }
        number += 1;
    }
    names
};
/// For each number, the place of its name in [`TYPES`].
const PLACES: [u8; TYPES_MAX] = {
    let mut places = [TYPES_LEN as u8; TYPES_MAX];
    let (mut at, mut number) = (0, 0);
    while number < TYPES_MAX {
        if rtype::name(number as u16).is_some() {
            places[number] = at;
            at += 1;
        }
        number += 1;
    }
    places
};

static MATCHES: Grid = Grid {
    family: Family::counter(
        "coredns_template_matches_total",
        &["server", "zone", "view"],
        "Queries that a template matched.",
    ),
    each: &[("class", CLASSES), ("type", TYPES)],
};

const FAILURE_LABELS: &[&str] = &["server", "zone", "view", "class", "type", "section", "template"];
static TEMPLATE_FAILURES: Family = Family::counter(
    "coredns_template_template_failures_total",
    FAILURE_LABELS,
    "Templates that failed.",
);
static RECORD_FAILURES: Family = Family::counter(
    "coredns_template_rr_failures_total",
    FAILURE_LABELS,
    "Templates whose text is no record.",
);

/// The counters of one block.
pub(super) struct Counters {
    /// For each of the block's zones, each server.
    matches: Vec<CellGrid>,
    servers: usize,
    sink: u32,
}

impl Counters {
    pub(super) fn new(site: &mut Site<'_>, block: &Block) -> Self {
        let (zones, servers) = (&block.zone_texts, site.servers);
        let labels = zones.iter().flat_map(|zone| servers.iter().map(move |s| (s, zone)));
        let matches = labels.map(|(server, zone)| {
            site.tally.grid(&MATCHES, &[&server.server_label, zone, &server.view_label])
        });
        let matches = matches.collect();
        let failures = Failures {
            tally: Arc::clone(site.tally),
            servers: servers
                .iter()
                .map(|server| [server.server_label.clone(), server.view_label.clone()])
                .collect(),
            zones: zones.clone(),
            templates: block
                .records
                .iter()
                .map(|record| (section(record), record.template.to_string().into()))
                .collect(),
        };
        Self { matches, servers: servers.len(), sink: site.sink(failures) }
    }

    /// Counts a match.
    pub(super) fn matched(&self, cx: &Cx<'_>, block: &Block) {
        let question = cx.question();
        let Some((zone, _)) = block.zone(question) else { return };
        let Effective { class, rtype } = block.effective(question);
        let class = CLASSES.iter().position(|name| *name == class_name(class));
        let places = [
            class.unwrap_or(CLASSES.len() - 1),
            PLACES.get(rtype as usize).map_or(TYPES_LEN, |place| *place as usize),
        ];
        let server = cx.level().place().zone as usize;
        if let Some(grid) = self.matches.get(zone * self.servers + server) {
            cx.core.tally.add(grid.at(&MATCHES, places), 1);
        }
    }

    /// Has a failure of the block's record number `record` counted.
    pub(super) fn failed(&self, cx: &mut Cx<'_>, block: &Block, record: usize, why: &Unmade<'_>) {
        let question = cx.question();
        let Some((zone, _)) = block.zone(question) else { return };
        let Effective { class, rtype } = block.effective(question);
        let server = cx.level().place().zone;
        let is_text = matches!(why, Unmade::Text(_));
        let words = [is_text as u16, server, zone as u16, class, rtype, record as u16]
            .map(u16::to_be_bytes);
        cx.tell(self.sink, |event, _| event.push(words.as_flattened()));
    }
}

/// Counts failures on control's side.
struct Failures {
    tally: Arc<Tally>,
    /// Labels `server` and `view`.
    servers: Vec<[Box<str>; 2]>,
    zones: Vec<Box<str>>,
    /// Labels `section` and `template`.
    templates: Vec<(&'static str, Box<str>)>,
}

impl Sink for Failures {
    fn take(&mut self, event: &Event) {
        let mut words = event.bytes().chunks_exact(2).map(|w| u16::from_be_bytes([w[0], w[1]]));
        let mut next = || words.next().unwrap_or_default();
        let family = if next() == 1 { &RECORD_FAILURES } else { &TEMPLATE_FAILURES };
        let (server, zone) = (self.servers.get(next() as usize), self.zones.get(next() as usize));
        let (class, kind) = (class_name(next()), type_name(next()));
        let template = self.templates.get(next() as usize);
        if let (Some([server, view]), Some(zone), Some((section, text))) = (server, zone, template)
        {
            let labels = [&**server, zone, view, class, kind, section, text];
            self.tally.add(self.tally.counter(family, &labels), 1);
        }
    }
}

/// The word of the Corefile for a record's section.
fn section(record: &Record) -> &'static str {
    match record.section {
        Section::Answer => "answer",
        Section::Authority => "authority",
        Section::Additional => "additional",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_counts_under_its_name() {
        for number in 0..TYPES_MAX as u16 {
            let place = PLACES[number as usize] as usize;
            assert_eq!(TYPES[place], type_name(number), "type {number}");
        }
        assert_eq!(TYPES.last(), Some(&""));
    }
}
