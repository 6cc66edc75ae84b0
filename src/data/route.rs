//! Which server block serves a question (the way of a query, part 3 of 6).
//!
//! The longest of the listener's zones that the name is under; for DS at a zone's apex the zone
//! above, if it is served here as well (RFC 4035 section 3.1.4.1), the root left out as CoreDNS
//! does. Blocks of the same zone are tried in file order.

use super::chain::level::Place;
use crate::snapshot::Snapshot;
use crate::wire::{Question, rclass, rtype};

/// Where the question is served on `listener`; `Place::NOWHERE` as the block if nowhere.
pub fn place(snapshot: &Snapshot, listener: u32, question: Question<'_>) -> Place {
    const NOWHERE: Place = Place { block: Place::NOWHERE, zone: 0 };
    let Some(listener) = snapshot.listener(listener) else { return NOWHERE };
    if question.rclass != rclass::IN && !listener.any_class {
        return NOWHERE;
    }
    let Some((zone, places)) = listener.zones.find(question.lower) else { return NOWHERE };
    let mut places = places;
    if question.rtype == rtype::DS
        && zone.len() == question.lower.len()
        && let Some((above, found)) = listener.zones.find_proper_parent(question.lower)
        && !above.is_root()
    {
        places = found;
    }
    places.first().copied().unwrap_or(NOWHERE)
}
