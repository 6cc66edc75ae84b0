//! The cluster's zones as `transfer` hands them out.
//!
//! A transfer holds the index as it was when it began. It takes one small allocation then, and some
//! for each record of a port: transfers are rare, and bounded by `transfer`.

use std::sync::Arc;

use super::answers::Answers;
use crate::cluster::answer::At;
use crate::cluster::index::Index;
use crate::plugin::outgoing::{Cursor, Envelope, Offer, Outgoing};
use crate::wire::{Full, Name, NameBuf, Rdata};

/// One zone, as it was.
struct Zone {
    name: NameBuf,
    index: Arc<Index>,
    answers: Arc<Answers>,
}

/// The zone of this very name, lower-cased. Reverse zones are not handed out: nothing tells which of
/// their names are asked for.
pub fn offer(answers: &Arc<Answers>, index: Arc<Index>, name: Name<'_>) -> Offer {
    if !answers.rules.is_handed_out(name) {
        return Offer::NotMine;
    }
    if !index.is_synced() {
        return Offer::NotReady;
    }
    let answers = Arc::clone(answers);
    Offer::Zone(Arc::new(Zone { name: NameBuf::from(name), index, answers }))
}

impl Outgoing for Zone {
    fn serial(&self) -> u32 {
        self.answers.rules.serial(&self.index, self.name.as_name())
    }

    fn fill(&self, cursor: &mut Cursor, message: &mut Envelope<'_>) -> Result<bool, Full> {
        let before = message.records();
        let mut at = At::from_words(cursor.0);
        let zone = self.name.as_name();
        self.answers.rules.each_record(
            &self.index,
            zone,
            &mut at,
            &mut |owner, rtype, ttl, rdata| message.push(owner, rtype, ttl, Rdata::Wire(rdata)),
        );
        cursor.0 = at.to_words();
        let stuck = !at.is_done() && message.records() == before;
        if stuck { Err(Full) } else { Ok(at.is_done()) }
    }

    fn soa(&self, message: &mut Envelope<'_>) -> Result<(), Full> {
        let mut written = Err(Full);
        let zone = self.name.as_name();
        let mut at = At::default();
        self.answers.rules.each_record(
            &self.index,
            zone,
            &mut at,
            &mut |owner, rtype, ttl, rdata| {
                if written.is_ok() {
                    return Err(Full);
                }
                written = message.push(owner, rtype, ttl, Rdata::Wire(rdata));
                written
            },
        );
        written
    }
}
