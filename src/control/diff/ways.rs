//! Where names are asked, who serves them, and whom they are forwarded to.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use super::super::corefile::{ServerBlock, zones_of_text};
use super::blocks::label;
use super::{Listeners, NameChange, Pairs, Side, UpstreamChange};
use crate::wire::{Name, NameBuf, Suffixes};

/// Addresses that are listened on in one only.
pub(super) fn listeners(old: &Side, new: &Side) -> Listeners {
    let (olds, news) = (zones(old), zones(new));
    let without = |these: &Zones, those: &Zones| -> Vec<String> {
        these.keys().filter(|at| !those.contains_key(at)).map(shown).collect()
    };
    Listeners { opened: without(&news, &olds), closed: without(&olds, &news) }
}

/// An address as an operator names it: `:53`, `127.0.0.1:53`.
fn shown(address: &SocketAddr) -> String {
    if address.ip().is_unspecified() && address.is_ipv6() {
        return format!(":{}", address.port());
    }
    address.to_string()
}

/// By address the zones that are served there, each with its blocks.
type Zones = BTreeMap<SocketAddr, Vec<(NameBuf, Vec<usize>)>>;

fn zones(side: &Side) -> Zones {
    let mut zones = Zones::new();
    let mut places: HashMap<(SocketAddr, String), usize> = HashMap::new();
    for (block, plan) in side.planned.iter().enumerate() {
        for (address, zone) in plan.served() {
            let here = zones.entry(address).or_default();
            let place = *places
                .entry((address, zone.to_string().to_ascii_lowercase()))
                .or_insert(here.len());
            match here.get_mut(place) {
                Some((_, blocks)) => blocks.push(block),
                None => here.push((zone, vec![block])),
            }
        }
    }
    zones
}

/// Zones whose names are served by another block, at addresses that stay.
pub(super) fn names(old: &Side, new: &Side, pairs: &Pairs) -> Vec<NameChange> {
    let (olds, mut news) = (zones(old), zones(new));
    let mut changes = Vec::new();
    for (address, old_zones) in olds {
        let Some(new_zones) = news.remove(&address) else { continue };
        let mut all: Vec<NameBuf> =
            old_zones.iter().chain(&new_zones).map(|(zone, _)| *zone).collect();
        all.sort_by(|one, other| one.as_name().cmp_canonical(other.as_name()));
        all.dedup();
        let (before, now) = (Suffixes::new(old_zones), Suffixes::new(new_zones));
        for zone in all {
            let serving = |served: &Suffixes<Vec<usize>>| {
                served.find(zone.as_name()).map(|(_, blocks)| blocks.clone()).unwrap_or_default()
            };
            let (was, is) = (serving(&before), serving(&now));
            let likes = is.iter().map(|block| pairs[*block]);
            if likes.eq(was.iter().map(|block| Some(*block))) {
                continue;
            }
            changes.push(NameChange {
                zone: zone.to_string(),
                listener: shown(&address),
                old: labels(old, &was),
                new: labels(new, &is),
            });
        }
    }
    changes
}

fn labels(side: &Side, blocks: &[usize]) -> Option<String> {
    let labels: Vec<String> =
        blocks.iter().map(|block| label(&side.corefile.blocks[*block])).collect();
    (!labels.is_empty()).then(|| labels.join(", "))
}

/// Zones whose names are asked of other upstreams, in blocks that stay.
pub(super) fn upstreams(old: &Side, new: &Side, pairs: &Pairs) -> Vec<UpstreamChange> {
    let mut changes = Vec::new();
    for (block, like) in new.corefile.blocks.iter().zip(pairs) {
        let Some(like) = like.map(|like| &old.corefile.blocks[like]) else { continue };
        let (before, now) = (forwarding(like), forwarding(block));
        let mut all: Vec<NameBuf> = before.iter().chain(&now).map(|(zone, _)| *zone).collect();
        all.sort_by(|one, other| one.as_name().cmp_canonical(other.as_name()));
        all.dedup();
        for zone in all {
            let (was, is) = (asked(&before, zone.as_name()), asked(&now, zone.as_name()));
            if was != is {
                changes.push(UpstreamChange {
                    zone: zone.to_string(),
                    block: label(block),
                    old: was.to_vec(),
                    new: is.to_vec(),
                });
            }
        }
    }
    changes
}

/// Zones that a block forwards, in the order in which its uses of `forward` are asked.
fn forwarding(block: &ServerBlock) -> Vec<(NameBuf, Vec<String>)> {
    let of_use = |words: &[String]| {
        let (from, to) = words.split_first()?;
        Some(zones_of_text(from).into_iter().map(|zone| (zone, to.to_vec())).collect::<Vec<_>>())
    };
    let words = block
        .uses("forward")
        .map(|stanza| stanza.args.iter().map(|word| word.text.clone()).collect::<Vec<_>>());
    words.filter_map(|words| of_use(&words)).flatten().collect()
}

fn asked<'f>(forwarding: &'f [(NameBuf, Vec<String>)], zone: Name<'_>) -> &'f [String] {
    let first = forwarding.iter().find(|(from, _)| zone.is_under(from.as_name()));
    first.map_or(&[], |(_, to)| to)
}
