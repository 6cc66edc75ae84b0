//! Which server block serves a question (the way of a query, part 3 of 6).
//!
//! The longest of the listener's zones that the name is under; for DS at a zone's apex the zone
//! above, if it is served here as well (RFC 4035 section 3.1.4.1), the root left out as CoreDNS
//! does. Blocks of the same zone are tried in file order. [`place`] gives the first of them; where
//! it has a view, the walk judges it and those after it ([`choose`]).

use super::chain::level::Place;
use crate::snapshot::{Listener, Snapshot};
use crate::wire::{Name, Question, rclass, rtype};

/// Nowhere.
const NOWHERE: Place = Place { block: Place::NOWHERE, zone: 0 };

/// Where the question is served on `listener`, views left aside; `Place::NOWHERE` as the block if
/// nowhere.
pub fn place(snapshot: &Snapshot, listener: u32, question: Question<'_>) -> Place {
    let Some(listener) = snapshot.listener(listener) else { return NOWHERE };
    if question.rclass != rclass::IN && !listener.any_class {
        return NOWHERE;
    }
    let Some((_, places)) = first(listener, question) else { return NOWHERE };
    places.first().copied().unwrap_or(NOWHERE)
}

/// The zone whose blocks are tried first.
fn first<'n, 'l>(
    listener: &'l Listener,
    question: Question<'n>,
) -> Option<(Name<'n>, &'l Vec<Place>)> {
    let found = listener.zones.find(question.lower)?;
    if question.rtype == rtype::DS
        && found.0.len() == question.lower.len()
        && let Some(above) = listener.zones.find_proper_parent(question.lower)
        && !above.0.is_root()
    {
        return Some(above);
    }
    Some(found)
}

/// As `place`, of the places that `admits`: those of the zone that is tried first, then of the zones
/// above it. The zone of a DS question's own name is tried last.
pub fn choose(
    snapshot: &Snapshot,
    listener: u32,
    question: Question<'_>,
    mut admits: impl FnMut(Place) -> bool,
) -> Place {
    let Some(listener) = snapshot.listener(listener) else { return NOWHERE };
    let mut zone = first(listener, question);
    let own = listener.zones.get_exact(question.lower);
    let passed = own.filter(|_| zone.is_some_and(|(zone, _)| zone.len() < question.lower.len()));
    while let Some((name, places)) = zone {
        if let Some(place) = places.iter().copied().find(|place| admits(*place)) {
            return place;
        }
        zone = listener.zones.find_proper_parent(name);
    }
    passed.into_iter().flatten().copied().find(|place| admits(*place)).unwrap_or(NOWHERE)
}
