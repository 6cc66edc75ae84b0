//! What a plugin that has zones offers to `transfer`: whole zones, to be sent record by record.
//!
//! A plugin that can hand out zones is a [`Transferer`]; its link says so in
//! [`Plugin::transferer`](super::Plugin::transferer). `transfer` asks those below it, in the order of
//! the chain, for the zone of a transfer's question. What it gets is an [`Outgoing`]: the zone as it
//! is at this moment, immutable, which the walk holds until the last message is sent, whatever is
//! loaded meanwhile. `transfer` alone sends, tells secondaries of changes (NOTIFY), and decides who
//! may have what.
//!
//! Cost: a transfer takes one count of the zone; a message is written straight into the reply.
//! RFC 5936 section 2.2.

use std::sync::Arc;

use tokio::sync::watch;

use crate::wire::{Full, Name, NameBuf, Rdata, Reply, Rtype, Section, rclass};

/// A plugin that hands out zones.
pub trait Transferer: Send + Sync {
    /// The zone of this very name (lower-cased) as it is now. `NotMine` has the next plugin asked.
    /// Called on the data plane, once a transfer: it does not wait, and makes at most what holds the
    /// zone.
    fn outgoing(&self, zone: Name<'_>) -> Offer;

    /// The zones of whose changes secondaries are told, each with its serial. Control side.
    fn serials(&self) -> Vec<(NameBuf, u32)> {
        Vec::new()
    }

    /// Changes with every change of `serials`; none where there are no such zones. Control side.
    fn changes(&self) -> Option<watch::Receiver<()>> {
        None
    }
}

/// What a plugin says to the wish for a zone.
pub enum Offer {
    /// It is not authoritative for a zone of that name.
    NotMine,
    /// It is, and has nothing yet that it could hand out: SERVFAIL.
    NotReady,
    /// Here it is.
    Zone(Arc<dyn Outgoing>),
}

/// A zone as it was when its transfer began.
pub trait Outgoing: Send + Sync {
    /// The serial of its SOA record.
    fn serial(&self) -> u32;

    /// Writes records into the message from `cursor` on, in the order of a transfer: SOA, all
    /// others, SOA again. Moves the cursor behind each record that had room. `true`: that was the
    /// last record; `false`: the message is full.
    ///
    /// # Errors
    /// Not even one record had room.
    fn fill(&self, cursor: &mut Cursor, message: &mut Envelope<'_>) -> Result<bool, Full>;

    /// Writes the SOA record alone: the answer to a client that has this serial already.
    ///
    /// # Errors
    /// It has no room.
    fn soa(&self, message: &mut Envelope<'_>) -> Result<(), Full>;
}

/// How far a transfer has come: plain data that only the [`Outgoing`] understands. All zero at the
/// start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor(pub [u64; 2]);

/// One message of a transfer: takes records for its answer section as long as what is added last
/// (OPT, TSIG) still has room.
pub struct Envelope<'r> {
    reply: &'r mut Reply,
    /// Octets that the records may fill the message up to.
    room: usize,
    records: u32,
}

impl<'r> Envelope<'r> {
    /// Writes into `reply`, which has its question, up to `room` octets of message.
    pub fn new(reply: &'r mut Reply, room: usize) -> Self {
        Self { reply, room, records: 0 }
    }

    /// Adds a record of class IN; TTL in seconds.
    ///
    /// # Errors
    /// It has no room: nothing was written, and the message is full.
    pub fn push(
        &mut self,
        owner: Name<'_>,
        rtype: Rtype,
        ttl: u32,
        rdata: Rdata<'_>,
    ) -> Result<(), Full> {
        let mark = self.reply.mark();
        self.reply.push(Section::Answer, owner, rtype, rclass::IN, ttl, rdata)?;
        if self.reply.len() > self.room {
            self.reply.rewind(mark);
            return Err(Full);
        }
        self.records += 1;
        Ok(())
    }

    /// Records that were added.
    pub fn records(&self) -> u32 {
        self.records
    }
}
