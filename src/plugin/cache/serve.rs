//! The way of a query through the cache: from the entry, from below, or with another that asks the
//! same; and the walks without a client that refresh.
//!
//! Who misses leads a flight and walks on; who comes meanwhile joins it. A refresh leads the same
//! flight, so that whatever is being asked for is asked for once. Every leader lands, whatever its end.

use std::sync::atomic::Ordering::Relaxed;

use super::Link;
use super::entry::{Found, Key};
use super::kind::{Kind, is_question_of, is_reply_to};
use super::landing::{self, Landing};
use crate::cells::FlightKey;
use crate::limits::{CACHE_JOIN_NANOS, CACHE_REFRESH_NANOS};
use crate::plugin::{Cx, Fetch, Fetched, ReplyState, Step, Transport};
use crate::store::Class;
use crate::wire::{opcode, rcode, rtype};

/// A worker's buffers.
#[derive(Default)]
pub struct Scratch {
    /// Offsets of TTLs in the reply at hand.
    pub(super) ttls: Vec<u16>,
    /// EDNS options of the query at hand that are part of its key.
    pub(super) options: Vec<u8>,
    /// A reply that is stored after another was written.
    pub(super) told: Vec<u8>,
}

/// Why a query is below, or waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// Its name is answered from memory.
    Memory,
    /// Nothing is stored.
    Miss,
    /// Another asks the same: its reply is waited for.
    Joined,
    /// A stale entry: the source is asked first.
    Verify,
    /// A stale entry: somebody else asks the source.
    Verifying,
    /// Without a client: the entry is about to expire.
    Prefetch,
    /// Without a client: the entry has expired.
    Refresh,
}

/// What is remembered of a query.
#[derive(Clone, Copy)]
pub struct Frame {
    why: Why,
    /// Whether it had AD set.
    ad: bool,
    /// Whether it leads the flight.
    leads: bool,
    /// The slot of the entry that it is to refresh.
    slot: u32,
    flight: [u64; 2],
}

impl Frame {
    fn new(why: Why, cx: &Cx<'_>) -> Self {
        Self { why, ad: cx.asked().flags.ad(), leads: false, slot: 0, flight: [0; 2] }
    }

    fn of(self, FlightKey(key): FlightKey, leads: bool) -> Self {
        Self { leads, flight: [(key >> 64) as u64, key as u64], ..self }
    }

    fn key(&self) -> FlightKey {
        FlightKey(u128::from(self.flight[0]) << 64 | u128::from(self.flight[1]))
    }

    fn is_detached(&self) -> bool {
        matches!(self.why, Why::Prefetch | Why::Refresh)
    }
}

/// The mark of a slot that counts how often it was asked for: milliseconds of the last time in the
/// high 40 bits, the count below.
const HITS: usize = 0;
const HITS_BITS: u32 = 24;
/// The mark of a slot that tells until when no refresh is begun, in nanoseconds.
const REFRESH: usize = 1;

/// In the note of a detached walk: it refreshes a stale entry; its flight is that of streams.
const NOTE_STALE: u64 = 1;
const NOTE_STREAM: u64 = 2;

impl Link {
    pub(super) fn serve_query(&self, scratch: &mut Scratch, cx: &mut Cx<'_>) -> Step<Frame> {
        let question = cx.question();
        let transfer = matches!(question.rtype, rtype::AXFR | rtype::IXFR);
        let ours = |zones: &[crate::wire::NameBuf]| {
            zones.iter().any(|zone| question.lower.is_under(zone.as_name()))
        };
        if transfer || cx.asked().flags.opcode() != opcode::QUERY || !ours(&self.settings.zones) {
            return Step::Next;
        }
        let memory = ours(&self.memory);
        self.count(cx, |cells| cells.requests);
        if memory {
            return Step::Watch(Frame::new(Why::Memory, cx));
        }
        let key = self.key(scratch, cx);
        match self.answer_stored(scratch, cx, key) {
            Some(step) => step,
            None => {
                self.count(cx, |cells| cells.misses);
                self.ask_below(cx, key)
            }
        }
    }

    /// Serves a query from its entry, if it has one.
    fn answer_stored(&self, scratch: &Scratch, cx: &mut Cx<'_>, key: Key) -> Option<Step<Frame>> {
        let verify = self.settings.stale.is_some_and(|stale| stale.verify);
        if verify {
            let found = self.pick(key, cx.core.now)?;
            if found.is_stale()
                && let Some(step) = self.verify(cx, key, found)
            {
                self.count(cx, |cells| cells.hits(found.candidate.class()));
                return Some(step);
            }
        }
        let found = self.write_best(scratch, cx, key)?;
        self.count(cx, |cells| cells.hits(found.candidate.class()));
        if found.is_stale() {
            self.count(cx, |cells| cells.stale);
            if !verify {
                self.refresh(cx, key, found);
            }
        } else if self.settings.prefetch > 0 && !key.has_options && self.is_popular(cx, found) {
            self.refresh(cx, key, found);
        }
        Some(Step::Up)
    }

    /// Asks the source about a stale entry. None: the entry is to be served as it is.
    fn verify(&self, cx: &mut Cx<'_>, key: Key, found: Found) -> Option<Step<Frame>> {
        let stale = self.settings.stale?;
        let slot = found.candidate.slot;
        let tracked = !stale.recheck.is_zero();
        if tracked && !self.begin_refresh(slot, cx.core.now) {
            return None;
        }
        let stream = cx.client().transport.is_stream();
        let flight = self.flight(cx.question(), key.bits, stream);
        let leads = cx.lead(flight);
        if tracked && !leads {
            self.end_refresh(slot, cx.core.now, true);
        }
        let frame = Frame { slot, ..Frame::new(Why::Verifying, cx).of(flight, leads) };
        let timeout = stale.verify_timeout.as_nanos() as u64;
        if leads && timeout == 0 {
            return Some(Self::go_below(cx, Frame { why: Why::Verify, ..frame }));
        }
        let note = NOTE_STALE | if stream { NOTE_STREAM } else { 0 } | u64::from(slot) << 8;
        if leads && !cx.detach(note) {
            cx.land(flight, None);
            self.end_refresh(slot, cx.core.now, false);
            return None;
        }
        let wait = if timeout == 0 { CACHE_JOIN_NANOS } else { timeout };
        let frame = Frame { leads: false, ..frame };
        Some(Step::Fetch(frame, Fetch::Join(flight, cx.core.now.saturating_add(wait))))
    }

    /// Begins a walk without a client that refreshes an entry, unless there is one.
    fn refresh(&self, cx: &mut Cx<'_>, key: Key, found: Found) {
        let slot = found.candidate.slot;
        if !self.begin_refresh(slot, cx.core.now) {
            return;
        }
        let stream = cx.client().transport.is_stream();
        let flight = self.flight(cx.question(), key.bits, stream);
        let stale = if found.is_stale() { NOTE_STALE } else { 0 };
        let note = stale | if stream { NOTE_STREAM } else { 0 } | u64::from(slot) << 8;
        let leads = cx.lead(flight);
        if leads && cx.detach_over(note, Transport::Tcp) {
            self.count(cx, |cells| cells.prefetches);
            return;
        }
        if leads {
            cx.land(flight, None);
        }
        self.end_refresh(slot, cx.core.now, true);
    }

    pub(super) fn begin_detached(
        &self,
        scratch: &mut Scratch,
        cx: &mut Cx<'_>,
        note: u64,
    ) -> Step<Frame> {
        let key = self.key(scratch, cx);
        let why = if note & NOTE_STALE != 0 { Why::Refresh } else { Why::Prefetch };
        let flight = self.flight(cx.question(), key.bits, note & NOTE_STREAM != 0);
        let frame = Frame::new(why, cx).of(flight, true);
        Self::go_below(cx, Frame { slot: (note >> 8) as u32, ..frame })
    }

    /// Serves a query that has no entry: by the plugins below, or with who asks them already.
    fn ask_below(&self, cx: &mut Cx<'_>, key: Key) -> Step<Frame> {
        let frame = Frame::new(Why::Miss, cx);
        if key.has_options {
            return Self::go_below(cx, frame);
        }
        let stream = cx.client().transport.is_stream();
        let flight = self.flight(cx.question(), key.bits, stream);
        if cx.lead(flight) {
            return Self::go_below(cx, frame.of(flight, true));
        }
        let frame = Frame { why: Why::Joined, ..frame.of(flight, false) };
        Step::Fetch(frame, Fetch::Join(flight, cx.core.now.saturating_add(CACHE_JOIN_NANOS)))
    }

    /// The plugins below are asked with AD, so that what is stored says whether data is authentic, for
    /// whoever wants to know later (RFC 6840 section 5.7).
    fn go_below(cx: &mut Cx<'_>, frame: Frame) -> Step<Frame> {
        cx.level_mut().clear_reply();
        let asked = cx.asked_mut();
        asked.flags = asked.flags.with_ad(true);
        Step::Watch(frame)
    }

    pub(super) fn resume_query(
        &self,
        scratch: &mut Scratch,
        cx: &mut Cx<'_>,
        frame: Frame,
    ) -> Step<Frame> {
        let asked = cx.asked_mut();
        asked.flags = asked.flags.with_ad(frame.ad);
        let written = cx.level().state == ReplyState::Written;
        match frame.why {
            Why::Memory if written => {
                let seen = self.shape_only(cx);
                let class = if seen.is_denial() { Class::Denial } else { Class::Success };
                self.count(cx, |cells| cells.hits(class));
                Self::hide_ad(cx, frame.ad);
                Step::Up
            }
            Why::Memory => Step::Up,
            Why::Miss => {
                if written {
                    let key = self.key(scratch, cx);
                    let shaped = self.shape(scratch, cx);
                    self.store(scratch, cx, key, shaped, false);
                    Self::drop_options(cx);
                }
                Self::land(cx, frame);
                Self::hide_ad(cx, frame.ad);
                Step::Up
            }
            Why::Joined => self.joined(scratch, cx),
            Why::Verify | Why::Prefetch | Why::Refresh => self.refreshed(scratch, cx, frame),
            Why::Verifying => self.verified(scratch, cx),
        }
    }

    /// What an upstream said in its OPT was said to us (RFC 6891 section 6.2.6): it is given to
    /// nobody, as it is not given of what is stored.
    fn drop_options(cx: &mut Cx<'_>) {
        let extra = &mut cx.level_mut().extra;
        if extra.is_whole() {
            extra.clear();
        }
    }

    /// Tells those who wait how the query has ended, if this one leads.
    fn land(cx: &mut Cx<'_>, frame: Frame) {
        if frame.leads {
            cx.land_level(frame.key(), landing::of_level);
        }
    }

    /// Goes on with a query that has asked the source to refresh an entry.
    fn refreshed(&self, scratch: &mut Scratch, cx: &mut Cx<'_>, frame: Frame) -> Step<Frame> {
        let key = self.key(scratch, cx);
        let written = cx.level().state == ReplyState::Written;
        let stale = frame.why != Why::Prefetch;
        let (mut refreshed, mut no_news) = (!stale, None);
        let level = cx.level();
        let fits = written && is_reply_to(level.question(), level.reply.bytes());
        if fits && !level.reply.flags().tc() {
            let shaped = self.shape(scratch, cx);
            let code = cx.level().rcode();
            let newer = match self.settings.prefer_positive {
                // What does not answer is stored, but does not take the old answer's place.
                true => shaped.0.kind == Kind::Answer && shaped.0.answers,
                // RFC 8767 section 4: other errors are no news.
                false => {
                    let news = matches!(code, rcode::NOERROR | rcode::NXDOMAIN);
                    news && shaped.0.kind != Kind::Other
                }
            };
            refreshed |= newer;
            let prefers = self.settings.prefer_positive;
            if newer || !stale || prefers && frame.is_detached() {
                self.store(scratch, cx, key, shaped, true);
            } else if prefers {
                no_news = Some((shaped, code));
                scratch.told.clear();
                scratch.told.extend(cx.level().reply.bytes());
            }
        }
        if written {
            Self::drop_options(cx);
        }
        self.end_refresh(frame.slot, cx.core.now, refreshed);
        if refreshed || frame.why == Why::Prefetch {
            Self::land(cx, frame);
            Self::hide_ad(cx, frame.ad);
            return Step::Up;
        }
        if frame.leads {
            cx.land(frame.key(), Some(landing::not_refreshed()));
        }
        if !frame.is_detached() {
            self.stale_instead(scratch, cx, key);
            Self::hide_ad(cx, frame.ad);
        }
        if let Some((shaped, code)) = no_news {
            // Now that it cannot take the place of what this client is given.
            self.put(scratch, cx, key, shaped, (&scratch.told, code), true);
        }
        Step::Up
    }

    /// Puts the stale entry in the place of the reply, if it is still there.
    fn stale_instead(&self, scratch: &Scratch, cx: &mut Cx<'_>, key: Key) -> bool {
        if self.pick(key, cx.core.now).is_none() {
            return false;
        }
        let Some(found) = self.write_best(scratch, cx, key) else { return false };
        if found.is_stale() {
            self.count(cx, |cells| cells.stale);
        }
        true
    }

    /// Goes on with a query with a stale entry after somebody has asked the source, or has not yet
    /// been answered.
    fn verified(&self, scratch: &mut Scratch, cx: &mut Cx<'_>) -> Step<Frame> {
        let key = self.key(scratch, cx);
        let fresh = self.pick(key, cx.core.now).is_some_and(|found| !found.is_stale());
        let news = matches!(landing::read(cx.landed()), Some((_, Landing::Message(_))));
        if !fresh && news && cx.fetched() == Fetched::Landed {
            return self.joined(scratch, cx);
        }
        if self.stale_instead(scratch, cx, key) {
            return Step::Up;
        }
        self.joined(scratch, cx)
    }

    /// Goes on with a query that has waited for another's reply.
    fn joined(&self, scratch: &mut Scratch, cx: &mut Cx<'_>) -> Step<Frame> {
        match cx.fetched() {
            Fetched::Landed => self.landed(scratch, cx),
            // The leader gave up, or has landed between two looks of ours.
            Fetched::Failed => self.again(scratch, cx),
            _ => {
                cx.fail(rcode::SERVFAIL, format_args!("waited too long for another query's reply"));
                Step::Up
            }
        }
    }

    /// Serves a query once more from the start; it has been counted.
    fn again(&self, scratch: &mut Scratch, cx: &mut Cx<'_>) -> Step<Frame> {
        let key = self.key(scratch, cx);
        match self.write_best(scratch, cx, key) {
            Some(_) => Step::Up,
            None => self.ask_below(cx, key),
        }
    }

    /// Makes the reply of what the leader of the flight told.
    fn landed(&self, scratch: &mut Scratch, cx: &mut Cx<'_>) -> Step<Frame> {
        let told = cx.take_landed();
        let Some((extra, landing)) = told.as_deref().and_then(landing::read) else {
            return self.again(scratch, cx);
        };
        match landing {
            Landing::Message(message) => {
                if !is_question_of(cx.question(), message) {
                    return self.again(scratch, cx);
                }
                if message.len() > cx.reply().capacity() && !cx.enlarge() {
                    cx.fail(rcode::SERVFAIL, format_args!("no buffer for a long reply is free"));
                    return Step::Up;
                }
                self.copy_landed(cx, message);
            }
            Landing::Failed(code, reason) => cx.fail(code, format_args!("{reason}")),
            Landing::Dropped => cx.drop_reply(),
            Landing::NotRefreshed => return self.again(scratch, cx),
        }
        cx.level_mut().extra = extra;
        Step::Up
    }

    fn copy_landed(&self, cx: &mut Cx<'_>, message: &[u8]) {
        let link = cx.link();
        let asked = *cx.asked();
        let level = cx.level_mut();
        level.clear_reply();
        if level.reply.load(message).is_err() {
            return;
        }
        level.state = ReplyState::Written;
        level.by = link;
        level.source = crate::plugin::Source::Fetched;
        let (question, reply, other) = cx.edit_with_scratch();
        if reply.echo_question(other, question).is_err() {
            cx.fail(
                rcode::SERVFAIL,
                format_args!("no room for a reply to the same in other letters"),
            );
            return;
        }
        reply.set_id(asked.id);
        reply.set_flags(reply.flags().with_rd(asked.flags.rd()).with_cd(asked.flags.cd()));
        Self::hide_ad(cx, asked.flags.ad());
    }

    /// Counts a query for an entry; whether it is popular, and near its end.
    fn is_popular(&self, cx: &Cx<'_>, found: Found) -> bool {
        let Some(mark) = self.table.mark(found.candidate.slot, HITS) else { return false };
        let now = cx.core.now / 1_000_000;
        let (last, hits) = (mark.load(Relaxed) >> HITS_BITS, mark.load(Relaxed) & 0xff_ffff);
        let paused = now.saturating_sub(last) > self.settings.prefetch_pause.as_millis() as u64;
        // Two workers that count at once may count once: the next query counts again.
        let hits = if paused { 1 } else { (hits + 1).min(0xff_ffff) };
        mark.store(now << HITS_BITS | hits, Relaxed);
        let percent = u64::from(self.settings.prefetch_percent);
        let near = (u64::from(found.life.ttl) * percent).div_ceil(100) as i64;
        hits >= self.settings.prefetch && found.left <= near
    }

    /// Whether a refresh of the slot's entry may begin; if so it has begun.
    fn begin_refresh(&self, slot: u32, now: u64) -> bool {
        let Some(mark) = self.table.mark(slot, REFRESH) else { return true };
        let until = mark.load(Relaxed);
        let next = now.saturating_add(CACHE_REFRESH_NANOS);
        now >= until && mark.compare_exchange(until, next, Relaxed, Relaxed).is_ok()
    }

    /// A refresh has ended: the next may begin, at once or after the pause that follows a failed one.
    fn end_refresh(&self, slot: u32, now: u64, refreshed: bool) {
        let pause = self.settings.stale.map_or(0, |stale| stale.recheck.as_nanos() as u64);
        if let Some(mark) = self.table.mark(slot, REFRESH) {
            mark.store(if refreshed { 0 } else { now.saturating_add(pause) }, Relaxed);
        }
    }
}
