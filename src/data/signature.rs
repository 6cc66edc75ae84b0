//! The signature of the query that is walked, and those of its replies (RFC 8945).
//!
//! The gate makes a [`Signature`] of every query that has a TSIG record, from its octets as they were
//! received and whatever they came by; a walk without one has [`Signature::NONE`]. A `tsig` link reads
//! its status and may want the replies signed, which `finish` then does, each of many (section
//! 5.3.1). Plain data: it is parked with its query. Costs nothing where there is no TSIG record.

use crate::limits::TSIG_BYTES_MAX;
use crate::wire::{
    Refusal, Reply, Seal, TsigAlgorithm, TsigFault, TsigKeys, TsigMac, TsigStatus, read_tsig,
    verify,
};

/// What is known of a query's signature, and how its replies are signed.
#[derive(Clone, Copy, Debug)]
pub struct Signature {
    status: TsigStatus,
    /// Where the TSIG record stands in the request.
    at: u16,
    /// The key among those of the listener, and the algorithm, where both are known.
    by: Option<(u16, TsigAlgorithm)>,
    /// Whether replies are to be signed.
    wanted: bool,
    /// Whether one was.
    continued: bool,
    /// Of the request, or of the reply before.
    mac: TsigMac,
}

impl Signature {
    /// Of a query without a TSIG record, and of a walk without a client.
    pub const NONE: Self = Self {
        status: TsigStatus::Unsigned,
        at: 0,
        by: None,
        wanted: false,
        continued: false,
        mac: TsigMac::NONE,
    };

    /// Judges the TSIG record at octet `at` of a message, its last; `now` is in seconds since 1970.
    ///
    /// # Errors
    /// FORMERR: the record is not one.
    pub fn check(message: &[u8], at: u16, keys: &TsigKeys, now: u64) -> Result<Self, Refusal> {
        let checked = verify(message, at as usize, keys, now).map_err(|_| Refusal::FormErr)?;
        let signed = |fault: TsigFault| if fault.is_signed() { checked.by } else { None };
        let by = match checked.status {
            TsigStatus::Failed(fault) => signed(fault),
            TsigStatus::Unsigned | TsigStatus::Verified => checked.by,
        };
        Ok(Self { status: checked.status, at, by, mac: checked.mac, ..Self::NONE })
    }

    /// The verdict.
    #[inline]
    pub fn status(&self) -> TsigStatus {
        self.status
    }

    /// Becomes that of a query without a TSIG record.
    #[inline]
    pub fn forget(&mut self) {
        // The rest counts only where there is a record.
        self.status = TsigStatus::Unsigned;
        self.wanted = false;
    }

    /// Has the replies signed, if the query has a TSIG record.
    pub fn want(&mut self) {
        self.wanted = self.status != TsigStatus::Unsigned;
    }

    /// Octets that are kept free for the record: nothing where there will be none.
    #[inline]
    pub fn bytes(&self) -> usize {
        if self.wanted { TSIG_BYTES_MAX } else { 0 }
    }

    /// Signs a finished reply to `request`, if that is wanted. A reply without room for the record
    /// stays unsigned: who wants it signed does not believe it.
    pub fn sign(&mut self, reply: &mut Reply, request: &[u8], keys: &TsigKeys, now: u64) {
        if !self.wanted {
            return;
        }
        let Ok(view) = read_tsig(request, self.at as usize) else { return };
        let by = self.by.and_then(|(index, algorithm)| Some((keys.get(index)?, algorithm)));
        let fault = match self.status {
            TsigStatus::Failed(fault) => Some((fault, view.time_signed)),
            TsigStatus::Unsigned | TsigStatus::Verified => None,
        };
        let seal = Seal {
            names: (view.key.as_name(), view.algorithm.as_name()),
            by,
            prior: &self.mac,
            continued: self.continued,
            now,
            fault,
        };
        if let Ok(mac) = reply.sign(&seal) {
            self.mac = mac;
            self.continued = true;
        }
    }
}
