//! Keys, entries that fit them, and replies on their way in and out of the table.

use std::hash::{BuildHasher, Hasher};

use super::kind::{Kind, Seen, is_question_of, is_reply_to};
use super::serve::Scratch;
use super::{Cells, Link};
use crate::cells::FlightKey;
use crate::limits::CACHE_RETRIES_MAX;
use crate::plugin::{Cx, ReplyState, Source};
use crate::store::{Candidate, Class, Item, Life, Read};
use crate::wire::{Flags, Question, edns, rcode};

/// Bits of the key beside the hash: DO.
const DNSSEC_OK: u8 = 1;
/// CD: the data may be bogus, and is for those only who say so (CVE-2024-0874).
const CHECKING_DISABLED: u8 = 2;
/// RD was not set: what an upstream then says may be no whole answer.
const NOT_RECURSIVE: u8 = 4;
/// A reply with NOERROR that holds no answer, beside the one that does (`prefer_positive`).
const NO_ANSWER: u8 = 8;

/// The key of a query; its options are in the worker's scratch.
#[derive(Clone, Copy)]
pub struct Key {
    pub(super) hash: u64,
    pub(super) bits: u8,
    /// Whether it has options that make it a query of its own.
    pub(super) has_options: bool,
}

/// An entry that fits a query.
#[derive(Clone, Copy)]
pub struct Found {
    pub(super) candidate: Candidate,
    pub(super) life: Life,
    /// Seconds left; not above 0: stale.
    pub(super) left: i64,
}

impl Found {
    pub(super) fn is_stale(&self) -> bool {
        self.left <= 0
    }

    fn rcode(&self) -> u16 {
        self.life.note
    }
}

impl Link {
    /// The key of the level's query. Its options that are for more than the next host go to the
    /// scratch, and are a part of the key.
    pub(super) fn key(&self, scratch: &mut Scratch, cx: &Cx<'_>) -> Key {
        scratch.options.clear();
        if cx.asked().options_len != 0 {
            for (code, data) in cx.options() {
                let between_two = matches!(
                    code,
                    edns::NSID | edns::EXPIRE | edns::COOKIE | edns::KEEPALIVE | edns::PADDING
                );
                if !between_two {
                    scratch.options.extend(code.to_be_bytes());
                    scratch.options.extend((data.len() as u16).to_be_bytes());
                    scratch.options.extend(data);
                }
            }
        }
        let (question, asked) = (cx.question(), cx.asked());
        let mut hasher = self.hash.build_hasher();
        add_question(&mut hasher, question);
        let has_options = !scratch.options.is_empty();
        if has_options {
            hasher.write(&scratch.options);
        }
        let bit = |on: bool, bit: u8| if on { bit } else { 0 };
        let bits = bit(asked.dnssec_ok, DNSSEC_OK)
            | bit(asked.flags.cd(), CHECKING_DISABLED)
            | bit(!asked.flags.rd(), NOT_RECURSIVE);
        Key { hash: hasher.finish(), bits, has_options }
    }

    /// The flight of those who ask the same and by as long a way: what fits a stream may be cut for
    /// datagrams.
    pub(super) fn flight(&self, question: Question<'_>, bits: u8, stream: bool) -> FlightKey {
        let [high, low] = [0, 1].map(|n| {
            let mut hasher = self.flights[n].build_hasher();
            add_question(&mut hasher, question);
            hasher.write_u8(bits | u8::from(stream) << 4);
            u128::from(hasher.finish())
        });
        FlightKey(high << 64 | low)
    }

    /// The best entry for a query, a stale one too where those may be served.
    pub(super) fn pick(&self, key: Key, now: u64) -> Option<Found> {
        let stale_up_to = match self.settings.stale {
            // A walk without a client carries no options: what is stale could not be refreshed.
            Some(stale) if !key.has_options => stale.up_to,
            _ => 0,
        };
        let mut best: Option<(u8, Found)> = None;
        self.table.find(key.hash, |candidate| {
            let bits = candidate.bits();
            // Who wants recursion is not given what was said to somebody who did not.
            let other = (bits ^ key.bits) & (DNSSEC_OK | CHECKING_DISABLED)
                | (bits & NOT_RECURSIVE) & !key.bits;
            if other != 0 {
                return;
            }
            let Some(life) = self.table.life(candidate, key.hash) else { return };
            let left = life.left(now);
            if left <= 0 && -left >= stale_up_to {
                return;
            }
            let found = Found { candidate, life, left };
            let rank = self.rank(found) * 2 + u8::from(bits & NOT_RECURSIVE != 0);
            if best.is_none_or(|(other, _)| rank < other) {
                best = Some((rank, found));
            }
        });
        best.map(|(_, found)| found)
    }

    /// Which entry of a name goes first: a denial, but for SERVFAIL, unless an answer is preferred.
    fn rank(&self, found: Found) -> u8 {
        let preferred = self.settings.prefer_positive;
        match found.candidate.class() {
            Class::Success if found.candidate.bits() & NO_ANSWER != 0 => 2,
            Class::Success if preferred => 0,
            Class::Success => 2,
            Class::Denial if found.rcode() == rcode::SERVFAIL => 3,
            Class::Denial => 1,
        }
    }

    /// Makes the level's reply of an entry. `false`: it is gone, or another's.
    pub(super) fn write(&self, scratch: &Scratch, cx: &mut Cx<'_>, key: Key, found: Found) -> bool {
        let stale = found.is_stale();
        let ttl = match self.settings.stale {
            Some(settings) if stale && settings.ttl > 0 => settings.ttl,
            _ if self.settings.keep_ttl => found.life.ttl,
            _ => found.left.max(0) as u32,
        };
        loop {
            let (question, reply) = cx.edit();
            let read = reply.fill(question.name, |buf| {
                let same = |message: &[u8], options: &[u8]| {
                    is_question_of(question, message) && options == &scratch.options[..]
                };
                let ttl = |_| ttl;
                match self.table.read(found.candidate, key.hash, buf, ttl, same) {
                    read @ Read::Found(len, _) => (len, read),
                    read => (0, read),
                }
            });
            match read {
                Read::Found(..) => break,
                Read::TooLong(_) if cx.enlarge() => {}
                Read::TooLong(_) | Read::Gone => return false,
            }
        }
        let link = cx.link();
        let asked = *cx.asked();
        let (question, reply, other) = cx.edit_with_scratch();
        if reply.echo_question(other, question).is_err() {
            return false;
        }
        reply.set_id(asked.id);
        let stored = reply.flags();
        let flags = Flags::default()
            .with_qr(true)
            // Old clients take no answer from a resolver without it, and CoreDNS sets it.
            .with_aa(true)
            .with_rd(asked.flags.rd())
            .with_cd(asked.flags.cd())
            .with_ra(stored.ra())
            .with_ad(stored.ad() && (asked.dnssec_ok || asked.flags.ad()))
            .with_rcode(stored.rcode_low());
        reply.set_flags(flags);
        let rcode = reply.rcode();
        let level = cx.level_mut();
        level.state = ReplyState::Written;
        level.by = link;
        level.source = Source::Stored;
        level.reason.clear();
        level.extra.clear();
        if stale && asked.edns {
            // RFC 8914 sections 4.4 and 4.20.
            let code: u16 = if rcode == rcode::NXDOMAIN { 19 } else { 3 };
            level.extra.push(edns::EDE, &code.to_be_bytes());
        }
        true
    }

    /// Writes the first entry that holds still, preferring what [`Link::pick`] does.
    pub(super) fn write_best(&self, scratch: &Scratch, cx: &mut Cx<'_>, key: Key) -> Option<Found> {
        for _ in 0..CACHE_RETRIES_MAX {
            let found = self.pick(key, cx.core.now)?;
            if self.write(scratch, cx, key, found) {
                return Some(found);
            }
        }
        None
    }

    /// Looks at a written reply and gives its records the life that they have here, in seconds.
    pub(super) fn shape(&self, scratch: &mut Scratch, cx: &mut Cx<'_>) -> (Seen, u32) {
        let (seen, ttl) = self.look(cx, true);
        scratch.ttls.clear();
        cx.edit().1.patch_ttls(|record, _| {
            scratch.ttls.push(record.ttl_at as u16);
            ttl
        });
        (seen, ttl)
    }

    /// Likewise, for a reply that is not stored.
    pub(super) fn shape_only(&self, cx: &mut Cx<'_>) -> Seen {
        let (seen, ttl) = self.look(cx, false);
        // Those of the cluster's records are the same, and within the bounds, nearly always.
        if !seen.has_ttl(ttl) {
            cx.edit().1.patch_ttls(|_, _| ttl);
        }
        seen
    }

    /// What a written reply is, and the life that it has here.
    fn look(&self, cx: &mut Cx<'_>, deep: bool) -> (Seen, u32) {
        let dnssec_ok = cx.asked().dnssec_ok;
        let (question, reply) = cx.edit();
        let seen = Seen::of(question, reply, dnssec_ok, deep);
        let kept = &self.settings.kept[usize::from(seen.is_denial())];
        let ttl = match seen.kind {
            Kind::ServerError => self.settings.servfail.as_secs() as u32,
            _ => seen.life(kept.ttl_max).max(kept.ttl_min).min(kept.ttl_max),
        };
        (seen, ttl)
    }

    /// Stores the level's reply, shaped as `shape` left it. `keep`: how often it was asked for goes on
    /// counting.
    pub(super) fn store(
        &self,
        scratch: &Scratch,
        cx: &mut Cx<'_>,
        key: Key,
        shaped: (Seen, u32),
        keep: bool,
    ) {
        let level = cx.level();
        let reply = (level.reply.bytes(), level.reply.rcode());
        self.put(scratch, cx, key, shaped, reply, keep);
    }

    /// Likewise a reply of octets and rcode, of which the level's question has been asked.
    pub(super) fn put(
        &self,
        scratch: &Scratch,
        cx: &Cx<'_>,
        key: Key,
        (seen, ttl): (Seen, u32),
        (message, rcode): (&[u8], u16),
        keep: bool,
    ) {
        let lives = ttl > 0 || seen.kind == Kind::ServerError && !self.settings.servfail.is_zero();
        if !seen.storable || !lives {
            return;
        }
        let question = cx.question();
        if !is_reply_to(question, message) {
            self.count(cx, |cells| cells.drops);
            return;
        }
        let class = if seen.is_denial() { Class::Denial } else { Class::Success };
        let except = &self.settings.kept[class as usize].except;
        if except.iter().any(|zone| question.lower.is_under(zone.as_name())) {
            return;
        }
        let prefer = self.settings.prefer_positive;
        let apart = prefer && class == Class::Success && !seen.answers;
        let item = Item {
            class,
            bits: if apart { key.bits | NO_ANSWER } else { key.bits },
            stored: cx.core.now,
            ttl,
            note: rcode,
            message,
            tail: &scratch.options,
            ttls: &scratch.ttls,
        };
        let slot = self.table.put(key.hash, item);
        let other = match (class, seen.kind) {
            // The newest that is known of a name holds; a server's fault says nothing of the name.
            (Class::Success, _) if !prefer || seen.answers => Some(Class::Denial),
            (Class::Denial, Kind::NameError | Kind::NoData) if !prefer => Some(Class::Success),
            _ => None,
        };
        if let Some(other) = other {
            self.table.remove(key.hash, other, key.bits);
        }
        let marks = slot.filter(|_| !keep).into_iter().flat_map(|slot| [(slot, 0), (slot, 1)]);
        for mark in marks.filter_map(|(slot, which)| self.table.mark(slot, which)) {
            mark.store(0, std::sync::atomic::Ordering::Relaxed);
        }
        for class in [Class::Success, Class::Denial] {
            let evicted = self.table.take_evicted(class);
            if let Some(cells) = self.cells(cx).filter(|_| evicted > 0) {
                cx.core.tally.add(cells.evictions(class), evicted);
            }
        }
    }

    /// Takes AD from who did not ask for it (RFC 6840 sections 5.7 and 5.8); `ad`: as was asked.
    pub(super) fn hide_ad(cx: &mut Cx<'_>, ad: bool) {
        if !ad && !cx.asked().dnssec_ok {
            let level = cx.level_mut();
            level.reply.set_flags(level.reply.flags().with_ad(false));
        }
    }

    fn cells(&self, cx: &Cx<'_>) -> Option<&Cells> {
        self.cells.get(cx.level().place().zone as usize)
    }

    /// Counts one in the cell that `which` chooses.
    pub(super) fn count(
        &self,
        cx: &Cx<'_>,
        which: impl FnOnce(&Cells) -> crate::data::tally::Counter,
    ) {
        if let Some(cells) = self.cells(cx) {
            cx.core.tally.add(which(cells), 1);
        }
    }
}

fn add_question(hasher: &mut impl Hasher, question: Question<'_>) {
    hasher.write(question.lower.as_bytes());
    hasher.write_u32(u32::from(question.rtype) << 16 | u32::from(question.rclass));
}
