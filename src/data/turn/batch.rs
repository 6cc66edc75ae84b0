//! A batch of one listener's messages, from octets to octets (the way of a query, parts 2 to 5).
//!
//! The phases: parse all; route and hint all; touch what lies behind the hints; walk and finish
//! all. Memory latency of a big table is then paid once a batch.
//!
//! Guarantee: a panic on the way of a query, in whichever phase, is SERVFAIL for that query and a
//! counter; the others of its batch are answered as if nothing had been (law 6). What is told
//! beyond its walk (the gate, the route, a hint) goes through the same `finish` as a panic of its
//! walk; where that is not to be had, the reply is a header and, if it could be read, the question.
//! Cost: one `catch_unwind` a batch, and a store for each query and phase which says where the
//! batch stands.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{NOWHERE, Outlet, Settled, Turn, abandon};
use crate::data::chain::cx::Client;
use crate::data::chain::level::{Asked, Place, ReplyState};
use crate::data::chain::walk::{Outcome, Walk};
use crate::data::clock::Nanos;
use crate::data::counters::ShedCounters;
use crate::data::finish::{OPT_BYTES, refuse, write_failure};
use crate::data::route;
use crate::data::signature::Signature;
use crate::data::tally::query::Seen;
use crate::data::transport::Lane;
use crate::limits::{SHED_PARKED_MAX, UDP_BYTES_MIN};
use crate::wire::{
    HEADER_BYTES, Name, NameBuf, QueryView, Question, Refusal, TsigKeys, parse_query, question_end,
    rclass, rcode,
};

/// A query of the batch between its phases.
#[derive(Clone, Copy)]
pub(super) struct Prepared {
    /// None: the gate has refused it.
    view: Option<QueryView>,
    lower: NameBuf,
    place: Place,
    /// The leaf that was hinted, and what its `hint` gave.
    hinted: Option<(u16, u64)>,
    /// Its way has ended in a panic.
    failed: bool,
}

impl Prepared {
    pub(super) const NONE: Self =
        Self { view: None, lower: NameBuf::root(), place: NOWHERE, hinted: None, failed: false };
}

/// What is done with all queries of a batch before the next is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Parse,
    Hint,
    HintNext,
    Serve,
    Over,
}

impl Phase {
    fn next(self) -> Self {
        match self {
            Self::Parse => Self::Hint,
            Self::Hint => Self::HintNext,
            Self::HintNext => Self::Serve,
            Self::Serve | Self::Over => Self::Over,
        }
    }
}

/// Where a batch stands: after a panic, whose it was, and where to go on.
#[derive(Clone, Copy, Default)]
pub(super) struct Progress {
    phase: Phase,
    lane: usize,
    /// Whether the walk has the lane's buffers.
    lent: bool,
}

/// Whether a reply, if it is one, says that the name does not exist (its extended part of an rcode,
/// in OPT, is 0 then).
pub(super) fn is_missing(reply: &[u8]) -> bool {
    reply.len() >= HEADER_BYTES && u16::from(reply[3] & 15) == rcode::NXDOMAIN
}

impl Turn {
    /// Serves a batch of one listener's datagrams: fills in the lanes' outputs.
    pub fn batch(&mut self, lanes: &mut [Lane], outlet: &mut dyn Outlet) {
        self.core.tally.add(self.counters.queries, lanes.len() as u64);
        self.progress = Progress::default();
        while catch_unwind(AssertUnwindSafe(|| self.phases(lanes, outlet))).is_err() {
            self.blame(lanes);
        }
        self.note_asker(lanes);
        self.run_detached(outlet);
    }

    /// Counts who asks, and what, by one query of the batch at most.
    fn note_asker(&self, lanes: &[Lane]) {
        let tally = &self.core.tally;
        let Some((index, queries)) = tally.pick(lanes.len(), self.core.now) else { return };
        let (lane, prepared) = (&lanes[index], &self.prepared[index]);
        tally.asks(lane.client.ip(), queries);
        if prepared.view.is_some_and(|view| view.question.is_some()) {
            let missing = is_missing(&lane.output[..lane.output_len]);
            tally.asked(prepared.lower.as_name(), queries, missing);
        }
    }

    fn phases(&mut self, lanes: &mut [Lane], outlet: &mut dyn Outlet) {
        self.each(Phase::Parse, lanes, Self::parse);
        self.each(Phase::Hint, lanes, Self::route_and_hint);
        self.each(Phase::HintNext, lanes, Self::hint_next);
        self.each(Phase::Serve, lanes, |turn, lane, index| turn.serve(lane, index, outlet));
    }

    /// Does one phase for those that are left in it.
    fn each(
        &mut self,
        phase: Phase,
        lanes: &mut [Lane],
        mut step: impl FnMut(&mut Self, &mut Lane, usize),
    ) {
        if self.progress.phase != phase {
            return;
        }
        for (index, lane) in lanes.iter_mut().enumerate().skip(self.progress.lane) {
            self.progress.lane = index;
            step(self, lane, index);
        }
        self.progress = Progress { phase: phase.next(), lane: 0, lent: false };
    }

    /// Answers the query whose way has just panicked, and lets the batch go on behind it.
    #[cold]
    fn blame(&mut self, lanes: &mut [Lane]) {
        let Progress { phase, lane: index, lent } = self.progress;
        self.progress = Progress { phase, lane: index + 1, lent: false };
        let lane = &mut lanes[index];
        let prepared = &mut self.prepared[index];
        prepared.failed = true;
        let place = prepared.place;
        match phase {
            Phase::Parse => prepared.view = None,
            // It is answered when it is served.
            Phase::Hint | Phase::HintNext => {}
            Phase::Serve | Phase::Over => {
                abandon(&mut self.walk, &mut self.core);
                if lent {
                    self.exchange_buffers(lane);
                }
            }
        }
        if matches!(phase, Phase::Parse | Phase::Serve) {
            let question = self.prepared[index].view.and_then(|view| view.question);
            let end = question.map(|question| question.end as usize);
            let message = &lane.input[..lane.input_len];
            lane.output_len = write_failure(rcode::SERVFAIL, message, end, &mut lane.output);
        }
        self.count_panic(self.generations.len() - 1, place.block);
    }

    /// The one gate (part 2): reads the query in place, or answers what is refused.
    fn parse(&mut self, lane: &mut Lane, index: usize) {
        let message = &lane.input[..lane.input_len];
        let prepared = &mut self.prepared[index];
        prepared.view = None;
        prepared.place = NOWHERE;
        prepared.hinted = None;
        prepared.failed = false;
        lane.output_len = 0;
        lane.timed = None;
        let view = match parse_query(message) {
            Ok(view) => view,
            Err(refusal) => return self.refuse(lane, refusal),
        };
        if let Some(question) = view.question {
            prepared.lower.set(question.name(message));
            prepared.lower.make_lower();
        }
        prepared.view = Some(view);
    }

    /// Answers what the gate refuses.
    fn refuse(&self, lane: &mut Lane, refusal: Refusal) {
        self.core.tally.add(self.counters.refused, 1);
        let message = &lane.input[..lane.input_len];
        if message.len() >= HEADER_BYTES {
            let end = question_end(message);
            lane.output_len = refuse(refusal, message, end, &mut lane.output);
        }
    }

    /// The gate's last part, for queries with a TSIG record: judges it over the octets as they were
    /// received, by the keys of the listener.
    fn check_signature(&self, lane: &Lane, at: u16) -> Result<Signature, Refusal> {
        let none = TsigKeys::default();
        let listener = self.current().snapshot.listener(lane.client.listener);
        let keys = listener.map_or(&none, |listener| &listener.tsig_keys);
        Signature::check(&lane.input[..lane.input_len], at, keys, (self.unix_now)())
    }

    /// Part 3: finds the block, and has its leaf touch what the answer would read first.
    fn route_and_hint(&mut self, lane: &mut Lane, index: usize) {
        let current = self.generations.last().expect("a worker has adopted a snapshot");
        let prepared = &mut self.prepared[index];
        let Some(at) = prepared.view.and_then(|view| view.question) else { return };
        let lower = prepared.lower.as_name();
        let (rtype, rclass) = (at.rtype, at.rclass);
        let question = Question { name: lower, lower, rtype, rclass };
        prepared.place = route::place(&current.snapshot, lane.client.listener, question);
        let block = prepared.place.block;
        let Some(served) = current.snapshot.blocks.get(block as usize) else { return };
        if let Some(link) = served.hinting
            && served.view.is_none()
            && let Some(here) = current.locals.get(block, link)
        {
            prepared.hinted = Some((link, here.link.hint(&here.local.borrow(), question)));
        }
    }

    /// Has the leaf touch what lies behind its first touch, which has arrived meanwhile.
    fn hint_next(&mut self, _: &mut Lane, index: usize) {
        let current = self.generations.last().expect("a worker has adopted a snapshot");
        let prepared = &self.prepared[index];
        let Some((link, hint)) = prepared.hinted else { return };
        let Some(at) = prepared.view.and_then(|view| view.question) else { return };
        let lower = prepared.lower.as_name();
        let question = Question { name: lower, lower, rtype: at.rtype, rclass: at.rclass };
        if let Some(here) = current.locals.get(prepared.place.block, link) {
            here.link.hint_next(&here.local.borrow(), question, hint);
        }
    }

    /// Parts 4 and 5 for one query of a batch: its reply, if it has one yet, is in the lane.
    fn serve(&mut self, lane: &mut Lane, index: usize, outlet: &mut dyn Outlet) {
        let Some(view) = self.prepared[index].view else {
            if lane.output_len == 0 {
                outlet.pass(&lane.client);
            }
            return;
        };
        if let Some(counters) = self.shed(&lane.client) {
            self.core.tally.add(counters.query, 1);
            outlet.pass(&lane.client);
            return;
        }
        let signature = match view.tsig_at.map(|at| self.check_signature(lane, at)) {
            None => None,
            Some(Ok(signature)) => Some(signature),
            Some(Err(refusal)) => return self.refuse(lane, refusal),
        };
        self.walk.open(lane.client, self.core.now);
        if let Some(signature) = signature {
            self.walk.signature = signature;
        }
        self.progress.lent = true;
        self.exchange_buffers(lane);
        self.walk.request_len = lane.input_len;
        self.walk.request_end = lane.input_len;
        let is_served = self.open_question(&view, index);
        let generation = self.generations.len() - 1;
        let outcome = match is_served {
            true => self.run(generation, |walk, core, generation| walk.start(core, generation)),
            false => Outcome::Done,
        };
        let settled = match outcome {
            Outcome::Done => self.finish(generation),
            other => self.settle(other, generation, outlet),
        };
        match settled {
            Settled::Reply => lane.timed = self.walk.timed,
            Settled::Silent | Settled::Parked => self.walk.client_level().clear_reply(),
        }
        self.exchange_buffers(lane);
        self.progress.lent = false;
        if view.question.is_none() && lane.output_len > 0 {
            // A bare header gets one back.
            let message = &lane.input[..lane.input_len];
            lane.output_len = write_failure(rcode::SERVFAIL, message, None, &mut lane.output);
        }
        self.shrink();
        if settled == Settled::Silent {
            outlet.pass(&lane.client);
        }
    }

    /// Lends the lane's buffers to the walk, or takes them back with the reply that it has made.
    fn exchange_buffers(&mut self, lane: &mut Lane) {
        std::mem::swap(&mut self.walk.request, &mut lane.input);
        lane.output_len = self.walk.client_level().reply.swap_buf(&mut lane.output);
    }

    /// Opens level 0 with the client's question; `false`: no chain is to see it.
    fn open_question(&mut self, view: &QueryView, index: usize) -> bool {
        let prepared = &self.prepared[index];
        let plain = Asked {
            id: view.id,
            flags: view.flags,
            udp_size: UDP_BYTES_MIN as u16,
            ..Asked::default()
        };
        let asked = view.opt.map_or(plain, |opt| Asked {
            edns: true,
            udp_size: opt.udp_size,
            dnssec_ok: opt.dnssec_ok(),
            options_at: opt.options_at,
            options_len: opt.options_len,
            ..plain
        });
        self.walk.hinted = prepared.hinted;
        let Walk { request, levels, .. } = &mut self.walk;
        let level = &mut levels[0];
        match view.question {
            Some(question) => {
                let name = question.name(request);
                let (rtype, rclass) = (question.rtype, question.rclass);
                level.open_lowered(name, &prepared.lower, rtype, rclass, asked);
            }
            // No question: SERVFAIL, as CoreDNS.
            None => level.open(Name::ROOT, 0, rclass::IN, asked),
        }
        level.place = prepared.place;
        let generation = self.generations.last().expect("a worker has adopted a snapshot");
        self.walk.judge(&mut self.core, generation);
        if self.walk.levels[0].place.block != Place::NOWHERE && !prepared.failed {
            return true;
        }
        let has_failed = view.question.is_none() || prepared.failed;
        let code = if has_failed { rcode::SERVFAIL } else { rcode::REFUSED };
        self.walk.levels[0].state = ReplyState::Failed(code);
        if !prepared.failed {
            self.core.tally.add(self.counters.dropped, 1);
        }
        self.count_unserved(code);
        false
    }

    /// Counts the client's query among those that no chain saw.
    pub(super) fn count_unserved(&self, rcode: u16) {
        let (walk, level) = (&self.walk, &self.walk.levels[0]);
        let snapshot = &self.current().snapshot;
        let Some(listener) = snapshot.listener(walk.client.listener) else { return };
        let name = level.question().name.as_bytes().len();
        let opt = if level.asked.edns { OPT_BYTES } else { 0 };
        let seen = Seen {
            stream: walk.client.transport.is_stream(),
            ipv6: walk.client.family() == 2,
            qtype: level.question().rtype,
            dnssec_ok: level.asked.dnssec_ok,
            request_bytes: walk.request_len as u64,
            response_bytes: (HEADER_BYTES + name + 4 + opt) as u64,
            rcode,
            by_plugin: false,
            duration_ns: Some(0),
        };
        listener.unserved.count(&self.core.tally, &seen);
    }

    /// Where a datagram is counted that is dropped, since its listener sheds and too many queries
    /// are waiting. Streams have back-pressure instead.
    fn shed(&self, client: &Client) -> Option<ShedCounters> {
        if self.slots.len() < SHED_PARKED_MAX || client.transport.is_stream() {
            return None;
        }
        self.current().snapshot.listener(client.listener)?.shed
    }

    /// Counts how long the replies of a batch took, after they were sent: `now` is that time.
    pub fn count_walks(&mut self, lanes: &[Lane], now: Nanos) {
        let took = now.saturating_sub(self.core.now);
        let tally = &self.core.tally;
        let (mut replies, mut run) = (0, None);
        for lane in lanes.iter().filter(|lane| lane.output_len != 0) {
            replies += 1;
            let Some(histogram) = lane.timed else { continue };
            // All took the same time, and most are of one block: counted together.
            run = match run {
                Some((same, times)) if same == histogram => Some((same, times + 1)),
                Some((other, times)) => {
                    tally.observe_times(other, took, times);
                    Some((histogram, 1))
                }
                None => Some((histogram, 1)),
            };
        }
        if let Some((histogram, times)) = run {
            tally.observe_times(histogram, took, times);
        }
        tally.latency_times(self.counters.walk, took, replies);
    }
}
