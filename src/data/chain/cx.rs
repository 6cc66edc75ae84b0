//! What a plugin sees of a query, and what it may do to it.
//!
//! A [`Cx`] is borrowed for one step, and nothing that is borrowed from it survives the step: what a
//! plugin must remember it puts, as plain data, into its frame or into [`Cx::keep`]. Of what is counted
//! the walk itself holds three things, and gives each back however it ends: what [`Cx::carry`] carries,
//! the permit of [`Cx::hold`], the flights of [`Cx::lead`].

use std::any::Any;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use crossbeam::queue::ArrayQueue;

use super::level::{Asked, Level, ReplyState, Source};
use super::marks::{Marking, Marks};
use super::step::{Exchange, Fetch, Fetched};
use super::walk::{Led, Walk};
use crate::cells::{FlightKey, Flights, Permit};
use crate::data::clock::Nanos;
use crate::data::finish::OPT_BYTES;
use crate::data::generation::Locals;
use crate::data::large::Large;
use crate::data::rng::Rng;
use crate::data::tally::{CoreTally, Counter, Histogram};
use crate::data::upstream::Upstream;
use crate::data::upstream::table::Upstreams;
use crate::limits::{
    DETACHED_MAX, EVENT_BYTES_MAX, LANE_BYTES, MESSAGE_BYTES_MAX, OPT_EXTRA_BYTES_MAX,
};
use crate::snapshot::{Block, Listener, MetaRef, Server, Snapshot};
use crate::wire::{
    Name, NameBuf, OptView, Options, Question, Reply, Rtype, TsigStatus, WireError, options,
};

/// How a query came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Plain DNS in datagrams.
    Udp,
    /// Plain DNS on a stream (RFC 7766).
    Tcp,
    /// On a stream over TLS (RFC 7858).
    Tls,
}

impl Transport {
    /// Whether messages are framed on a stream, so that no reply needs truncation below 64 KiB.
    pub fn is_stream(self) -> bool {
        matches!(self, Transport::Tcp | Transport::Tls)
    }

    /// The word of CoreDNS's `proto` label and log field.
    pub fn as_str(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp | Transport::Tls => "tcp",
        }
    }
}

/// Who asked, and by which way the reply goes back.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// The address that the query came from.
    pub peer: SocketAddr,
    /// The address that was asked; its IP is unspecified where the socket does not tell.
    pub local: SocketAddr,
    /// The transport.
    pub transport: Transport,
    /// The listener, as an index that is stable for the process.
    pub listener: u32,
    /// For streams: the connection (index, use count) among the worker's connections.
    pub connection: (u32, u32),
}

impl Client {
    /// Nobody: what stands where no query has come yet.
    pub const NOBODY: Self = Self {
        peer: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        local: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        transport: Transport::Udp,
        listener: 0,
        connection: (0, 0),
    };

    /// The connection of a question that [`demand`](crate::data::demand) walks: there is none such.
    pub const DEMANDED: (u32, u32) = (u32::MAX, 0);

    /// Whether the reply goes to who demanded to know of its way.
    pub fn is_demanded(&self) -> bool {
        self.connection == Self::DEMANDED
    }

    /// 1 for IPv4 (also when mapped into IPv6), 2 for IPv6: CoreDNS's `family` label.
    pub fn family(&self) -> u8 {
        if self.ip().is_ipv4() { 1 } else { 2 }
    }

    /// The client's address, unmapped from `::ffff:0:0/96`.
    pub fn ip(&self) -> IpAddr {
        self.peer.ip().to_canonical()
    }
}

/// One thing that control is told of a query, by way of a lossy ring per core.
#[derive(Clone)]
pub struct Event {
    /// Which listener of control it is for: what `Site::sink` gave.
    pub sink: u32,
    /// Who asked.
    pub client: Client,
    /// When it was told: what workers tell is put into one order.
    pub at: Nanos,
    len: u16,
    bytes: [u8; EVENT_BYTES_MAX],
}

impl Event {
    /// Appends octets; what does not fit is cut.
    pub fn push(&mut self, bytes: &[u8]) {
        let start = self.len as usize;
        let take = bytes.len().min(EVENT_BYTES_MAX - start);
        self.bytes[start..start + take].copy_from_slice(&bytes[..take]);
        self.len += take as u16;
    }

    /// The octets that the plugin wrote; only its own sink knows what they mean.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }
}

#[cfg(test)]
impl Event {
    /// An event of this client, for no listener.
    pub fn for_tests(client: Client) -> Self {
        Self { sink: 0, at: 0, client, len: 0, bytes: [0; EVENT_BYTES_MAX] }
    }
}

impl fmt::Write for Event {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

/// A walk that is to run without a client, after the batch that asked for it.
#[derive(Clone, Copy)]
pub struct Detached {
    /// The question as asked.
    pub name: NameBuf,
    /// Its type and class.
    pub rtype: Rtype,
    /// Its class.
    pub rclass: u16,
    /// The rest of the query.
    pub asked: Asked,
    /// Where it is served, and by which link it starts.
    pub place: super::level::Place,
    /// The link whose `detached` starts the walk.
    pub link: u16,
    /// What the plugin wants to be told there.
    pub note: u64,
    /// The generation that it runs in.
    pub generation: u64,
    /// The client of the query that caused it (for its address only).
    pub client: Client,
    /// Flights that it may have been started to land.
    pub(in crate::data) led: Led,
}

/// What a worker lends to the walks that it runs.
pub struct Core {
    /// Index of the worker.
    pub index: u16,
    /// Its counters.
    pub tally: Rc<CoreTally>,
    /// Its random numbers: not for secrets.
    pub rng: Rng,
    /// Monotonic time of the batch's receive, or of the resume.
    pub now: Nanos,
    /// Its ring of events to control; what does not fit is dropped and counted.
    pub events: Arc<ArrayQueue<Event>>,
    /// Events dropped since control last looked: added up by control.
    pub events_dropped: Counter,
    /// Flights of misses, shared by all workers.
    pub flights: Arc<Flights>,
    /// Buffers for long replies.
    pub large: Large,
    /// The upstreams that it has met, and what it has asked them.
    pub upstreams: Upstreams,
    /// Walks to run without a client.
    pub detached: Vec<Detached>,
    /// What control drops, since it may be large; shared by all workers.
    pub spent: Arc<ArrayQueue<Arc<dyn Any + Send + Sync>>>,
    /// Which walks are marked.
    pub marking: Marking,
}

impl Core {
    /// Leaves the drop of something to control. Where too much waits for that already, it is dropped
    /// here: late for a worker, but right.
    pub(in crate::data) fn spend(&self, value: Option<Arc<dyn Any + Send + Sync>>) {
        if let Some(value) = value {
            drop(self.spent.push(value));
        }
    }
}

/// A part of the walk's memory: see [`Cx::keep`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub(super) at: u16,
    pub(super) len: u16,
}

/// A query as one plugin sees it during one step.
pub struct Cx<'w> {
    pub(super) walk: &'w mut Walk,
    /// What the worker lends.
    pub core: &'w mut Core,
    pub(super) snapshot: &'w Snapshot,
    pub(super) locals: &'w Locals,
    pub(super) link: u16,
}

impl<'w> Cx<'w> {
    /// What is known of the query's signature. A question that the walk itself asks has none.
    pub fn signature(&self) -> TsigStatus {
        match self.walk.depth {
            0 => self.walk.signature.status(),
            _ => TsigStatus::Unsigned,
        }
    }

    /// Has the client's replies signed with the key of its query.
    pub fn sign(&mut self) {
        self.walk.signature.want();
    }

    /// Octets up to which a plugin may fill a reply on a stream: what `finish` adds has room then.
    pub fn room(&self) -> usize {
        let last = OPT_BYTES + OPT_EXTRA_BYTES_MAX + self.walk.signature.bytes();
        self.reply().capacity() - last
    }

    /// Carries a value along until the walk is over or another is carried: the zone that a stream hands
    /// out, which outlives the graph that it was taken from. Control drops it.
    pub fn carry(&mut self, value: Arc<dyn Any + Send + Sync>) {
        let before = self.walk.carried.replace(value);
        self.core.spend(before);
    }

    /// What [`Cx::carry`] carries.
    pub fn carried(&self) -> Option<&Arc<dyn Any + Send + Sync>> {
        self.walk.carried.as_ref()
    }

    /// Who asked.
    pub fn client(&self) -> &Client {
        &self.walk.client
    }

    /// Monotonic time when the query arrived.
    pub fn arrived(&self) -> Nanos {
        self.walk.arrived
    }

    /// The level's question, question section and lower-cased name.
    pub fn question(&self) -> Question<'_> {
        self.level().question()
    }

    /// The level.
    pub fn level(&self) -> &Level {
        &self.walk.levels[self.walk.depth]
    }

    /// The level, to edit its reply.
    pub fn level_mut(&mut self) -> &mut Level {
        &mut self.walk.levels[self.walk.depth]
    }

    /// How deep the walk is in questions of its own: 0 for the client's.
    pub fn depth(&self) -> usize {
        self.walk.depth
    }

    /// The rest of the query.
    pub fn asked(&self) -> &Asked {
        &self.level().asked
    }

    /// The rest of the query, to change it for the plugins below.
    pub fn asked_mut(&mut self) -> &mut Asked {
        &mut self.level_mut().asked
    }

    /// The client's message, octet for octet. Empty on a detached walk.
    pub fn request(&self) -> &[u8] {
        &self.walk.request[..self.walk.request_len]
    }

    /// The EDNS options of the query.
    pub fn options(&self) -> Options<'_> {
        options(self.walk.options(self.asked()))
    }

    /// Gives the query other EDNS options, in wire form, for the plugins below and for `finish`, and
    /// EDNS at all: without it so far, a payload of `udp_size` octets is offered. They are put behind
    /// the request. `false`: there is no room for them, and nothing has changed.
    pub fn set_options(&mut self, bytes: &[u8], udp_size: u16) -> bool {
        let Some(at) = self.walk.put_behind(bytes) else { return false };
        let asked = self.asked_mut();
        if !asked.edns {
            asked.edns = true;
            asked.added_edns = true;
            asked.udp_size = udp_size;
        }
        asked.options_at = at as u16;
        asked.options_len = bytes.len() as u16;
        true
    }

    /// The server block that serves the question.
    pub fn block(&self) -> &'w Block {
        &self.snapshot.blocks[self.level().place.block as usize]
    }

    /// The matched zone of that block, with its labels for metrics.
    pub fn server(&self) -> &'w Server {
        &self.block().servers[self.level().place.zone as usize]
    }

    /// The zone that matched, lower-cased.
    pub fn zone(&self) -> Name<'w> {
        self.server().zone.as_name()
    }

    /// The listener that the client asked, if it is still there.
    pub fn listener(&self) -> Option<&'w Listener> {
        self.snapshot.listener(self.walk.client.listener)
    }

    /// The snapshot in whose generation the walk runs.
    pub fn snapshot(&self) -> &'w Snapshot {
        self.snapshot
    }

    /// Index of this link in its chain: what [`Level::by`] holds of replies that it writes.
    pub fn link(&self) -> u16 {
        self.link
    }

    /// The reply as the plugins below left it.
    pub fn reply(&self) -> &Reply {
        &self.level().reply
    }

    /// Whether a message stands in the reply.
    pub fn is_written(&self) -> bool {
        self.level().state == ReplyState::Written
    }

    /// Starts a reply of this link's: header, question, nothing else; `aa` as given.
    /// Gives the question and the reply to write the records into.
    pub fn answer(&mut self, authoritative: bool) -> (Question<'_>, &mut Reply) {
        let link = self.link;
        let level = self.level_mut();
        level.clear_reply();
        level.start_reply();
        level.by = link;
        level.reply.set_aa(authoritative);
        level.parts()
    }

    /// The question and the reply as it stands, to edit it.
    pub fn edit(&mut self) -> (Question<'_>, &mut Reply) {
        self.level_mut().parts()
    }

    /// As `edit`, with the worker's random numbers for what changes places in the reply.
    pub fn edit_with_rng(&mut self) -> (&mut Reply, &mut Rng) {
        let Walk { levels, depth, .. } = &mut *self.walk;
        (levels[*depth].parts().1, &mut self.core.rng)
    }

    /// As `edit`, with a buffer like the reply's own for what builds the reply again
    /// ([`Reply::permute`], [`Reply::retain`], [`Reply::edit`]).
    pub fn edit_with_scratch(&mut self) -> (Question<'_>, &mut Reply, &mut Box<[u8]>) {
        let Walk { levels, depth, scratch, .. } = &mut *self.walk;
        let (question, reply) = levels[*depth].parts();
        let scratch = Self::scratch_for(scratch, reply.capacity());
        (question, reply, scratch)
    }

    /// The buffer that is as long as a reply's.
    pub(super) fn scratch_for(scratch: &mut [Box<[u8]>; 2], capacity: usize) -> &mut Box<[u8]> {
        let [usual, large] = scratch;
        if capacity <= LANE_BYTES {
            return usual;
        }
        if large.is_empty() {
            // Once in a worker's life, and only where long replies are edited.
            *large = vec![0; MESSAGE_BYTES_MAX].into_boxed_slice();
        }
        large
    }

    /// Gives up on the query with `rcode`, unwritten, and says why for the log.
    pub fn fail(&mut self, rcode: u16, reason: fmt::Arguments<'_>) {
        let link = self.link;
        let level = self.level_mut();
        level.clear_reply();
        level.state = ReplyState::Failed(rcode);
        level.by = link;
        let _ = fmt::Write::write_fmt(&mut level.reason, reason);
    }

    /// Turns a failure into a written reply (header and question only), as whoever logs it needs.
    pub fn write_failure(&mut self) {
        let level = self.level_mut();
        if let ReplyState::Failed(rcode) = level.state {
            level.start_reply();
            level.reply.set_rcode(rcode);
        }
    }

    /// Gives the level's reply room for 64 KiB; what it holds is forgotten. `false`: it has that
    /// room already, or no buffer is free.
    pub fn enlarge(&mut self) -> bool {
        let level = &mut self.walk.levels[self.walk.depth];
        self.core.large.enlarge(&mut level.reply)
    }

    /// Whether no plugin stands below this one.
    pub fn is_last(&self) -> bool {
        self.block().chain.len() == self.link as usize + 1
    }

    /// Sends no reply to this query.
    pub fn drop_reply(&mut self) {
        let level = self.level_mut();
        level.clear_reply();
        level.state = ReplyState::Dropped;
    }

    /// Places the question that the next `Step::Ask` asks. It starts from a copy of this level's
    /// `Asked`; [`Cx::placed_mut`] changes that.
    pub fn ask(&mut self, name: Name<'_>, rtype: Rtype, rclass: u16) {
        self.walk.place_question(name, rtype, rclass);
    }

    /// The rest of the query that [`Cx::ask`] placed; nothing when the walk is too deep.
    pub fn placed_mut(&mut self) -> Option<&mut Asked> {
        let next = self.walk.depth + 1;
        self.walk.levels.get_mut(next).map(|level| &mut level.asked)
    }

    /// The level of the question that was asked last, with its reply.
    pub fn side(&self) -> &Level {
        &self.walk.levels[self.walk.depth + 1]
    }

    /// This level and the one that was asked last, to copy from that into this.
    pub fn both(&mut self) -> (&mut Level, &Level) {
        let depth = self.walk.depth;
        let (here, side) = self.walk.levels.split_at_mut(depth + 1);
        (&mut here[depth], &side[0])
    }

    /// How the wait ended that a `Step::Fetch` began.
    pub fn fetched(&self) -> Fetched {
        self.walk.fetched
    }

    /// The message with which the flight landed.
    pub fn landed(&self) -> &[u8] {
        self.walk.landed.as_deref().unwrap_or_default()
    }

    /// Asks `upstream` this level's question, with the level's [`Asked`] as it stands when the step
    /// is taken (flags, EDNS, DO, options of the request): a value for `Step::Fetch`.
    /// `stream`: by TCP although the upstream speaks plain DNS. `deadline` is monotonic.
    pub fn exchange(&mut self, upstream: &Arc<Upstream>, stream: bool, deadline: Nanos) -> Fetch {
        self.core.upstreams.meet(upstream);
        Fetch::Exchange(Exchange { upstream: upstream.id, stream, deadline, hedge: None })
    }

    /// As [`Cx::exchange`]; if there is no reply at `after` (monotonic), `second` is asked too. The
    /// first good reply ends the wait. That `first` is unreached ends it as well, unless `second` is
    /// being asked by then.
    pub fn exchange_hedged(
        &mut self,
        first: &Arc<Upstream>,
        second: &Arc<Upstream>,
        after: Nanos,
        stream: bool,
        deadline: Nanos,
    ) -> Fetch {
        self.core.upstreams.meet(first);
        self.core.upstreams.meet(second);
        let hedge = Some((second.id, after));
        Fetch::Exchange(Exchange { upstream: first.id, stream, deadline, hedge })
    }

    /// What the upstream replied, after [`Fetched::Message`]; until the walk waits again. It is the
    /// reply to what was asked (id, opcode, question), whose letter case is the level's again. Nothing
    /// more is known of it: [`Cx::adopt`] reads it whole. Its id means nothing.
    pub fn message(&self) -> &[u8] {
        self.walk.message.get(..self.walk.message_len).unwrap_or_default()
    }

    /// Id of the upstream whose reply is in [`Cx::message`].
    pub fn answered_by(&self) -> Option<u32> {
        (self.walk.message_len > 0).then_some(self.walk.answered_by)
    }

    /// Makes the upstream's reply this level's, written by this link, with the level's id; the flags
    /// are the upstream's. Gives what its OPT said, with offsets into [`Cx::message`].
    ///
    /// # Errors
    /// The message is not valid, or there is no room for it: the reply is empty.
    pub fn adopt(&mut self) -> Result<Option<OptView>, WireError> {
        let link = self.link;
        let Walk { levels, depth, message, message_len, .. } = &mut *self.walk;
        let level = &mut levels[*depth];
        level.clear_reply();
        let message = message.get(..*message_len).unwrap_or_default();
        if message.len() > level.reply.capacity() {
            self.core.large.enlarge(&mut level.reply);
        }
        let opt = level.reply.adopt(message)?;
        level.reply.set_id(level.asked.id);
        level.state = ReplyState::Written;
        level.source = Source::Fetched;
        level.by = link;
        Ok(opt)
    }

    /// Takes one of `most` permits, of which `taken` are out, and holds it until [`Cx::release`] or
    /// the end of the walk, whichever way that comes. A walk holds one at a time. `false`: none is
    /// left.
    pub fn hold(&mut self, taken: &Arc<AtomicU32>, most: u32) -> bool {
        self.walk.permit = Permit::take(taken, most);
        self.walk.permit.is_some()
    }

    /// Gives back what [`Cx::hold`] took, if it did.
    pub fn release(&mut self) {
        self.walk.permit = None;
    }

    /// As `landed`, to hold while the reply is written.
    pub fn take_landed(&mut self) -> Option<Arc<[u8]>> {
        self.walk.landed.take()
    }

    /// Remembers octets until the frame that this step returns is resumed. Nothing when the walk's
    /// memory is full.
    pub fn keep(&mut self, bytes: &[u8]) -> Option<Span> {
        self.walk.keep(bytes)
    }

    /// What [`Cx::keep`] remembered.
    pub fn kept(&self, span: Span) -> &[u8] {
        &self.walk.memory[span.at as usize..][..span.len as usize]
    }

    /// Becomes the leader of a flight (`true`), or learns that another query leads it already:
    /// then `Step::Fetch` with `Fetch::Join`. A leader ends with [`Cx::land`] in every case.
    /// Should the walk end before it can (a panic, no room to wait, `cancel`), the flight fails.
    pub fn lead(&mut self, key: FlightKey) -> bool {
        if self.walk.led.is_full() {
            return true;
        }
        let leads = self.core.flights.lead(key);
        if leads {
            self.walk.led.push(key);
        }
        leads
    }

    /// Lands a flight: all who joined get `message`; `None` tells them that the leader failed.
    pub fn land(&mut self, key: FlightKey, message: Option<Arc<[u8]>>) {
        self.walk.led.remove(key);
        self.core.flights.land(key, message);
    }

    /// As `land`, with what `message` makes of the level, where somebody joined.
    pub fn land_level(&mut self, key: FlightKey, message: impl FnOnce(&Level) -> Arc<[u8]>) {
        self.walk.led.remove(key);
        let level = &self.walk.levels[self.walk.depth];
        self.core.flights.land_with(key, || Some(message(level)));
    }

    /// Walks the same question below this link in a slot of its own, without a client; the walk
    /// begins with this link's `detached(note)`, and may land what this one leads. `false`: too many
    /// are waiting already.
    pub fn detach(&mut self, note: u64) -> bool {
        self.detach_over(note, self.walk.client.transport)
    }

    /// As `detach`, as if the client had come by `transport`: a reply is fitted to no datagram when it
    /// goes to nobody.
    pub fn detach_over(&mut self, note: u64, transport: Transport) -> bool {
        if self.core.detached.len() >= DETACHED_MAX {
            return false;
        }
        let level = &self.walk.levels[self.walk.depth];
        let detached = Detached {
            name: level.name,
            rtype: level.rtype,
            rclass: level.rclass,
            asked: Asked { options_len: 0, ..level.asked },
            place: level.place,
            link: self.link,
            note,
            generation: self.snapshot.generation,
            client: Client { transport, ..self.walk.client },
            led: self.walk.led,
        };
        self.core.detached.push(detached);
        true
    }

    /// What this link's `hint` gave for the level's question, if it was hinted in this turn: the
    /// link's tables are what they were then.
    #[inline]
    pub fn hinted(&self) -> Option<u64> {
        let (link, place) = self.walk.hinted?;
        (self.walk.depth == 0 && link == self.link).then_some(place)
    }

    /// Gives up what the query still waits for so long after it arrived, and what it would wait for
    /// later: a wait for an upstream is late then, whoever waits for anything else has failed.
    pub fn cancel_after(&mut self, nanos: Nanos) {
        self.walk.cancel_at = self.walk.arrived.saturating_add(nanos);
    }

    /// Whether that time has come.
    pub fn is_cancelled(&self) -> bool {
        self.walk.is_cancelled(self.core.now)
    }

    /// Has the walk's marks made from its next wait on, for the trace with this id, and says whether
    /// they are made already: `Fetch::Sleep(0)` is a wait. Nothing: too many walks are marked.
    pub fn mark(&mut self, trace: [u8; 16]) -> Option<bool> {
        let was_marked = self.walk.marks.is_some();
        if !was_marked {
            self.walk.marks = self.core.marking.lend();
        }
        self.walk.marks.as_mut()?.trace(trace);
        Some(was_marked)
    }

    /// The longest wait of the query so far: the plugin that had it wait, the upstream that it asked,
    /// if it was one, and how long that took.
    pub fn longest_wait(&self) -> Option<(&'static str, Option<SocketAddr>, Nanos)> {
        let (by, nanos) = self.walk.waits.longest().filter(|_| self.walk.fetches != 0)?;
        let block = self.snapshot.blocks.get(by.block as usize)?;
        let link = block.chain.get(by.link as usize)?;
        Some((link.name(), self.core.upstreams.address(by.upstream), nanos))
    }

    /// The walk's marks, if it has any.
    pub fn marks(&self) -> Option<&Marks> {
        self.walk.marks.as_deref()
    }

    /// Has the time that the whole query takes observed once its reply is sent.
    pub fn time(&mut self, histogram: Histogram) {
        self.walk.timed = Some(histogram);
    }

    /// Tells control something. Lossy: a full ring drops the event and counts it.
    pub fn tell(&mut self, sink: u32, write: impl FnOnce(&mut Event, &Self)) {
        let (client, at) = (self.walk.client, self.core.now);
        let mut event = Event { sink, client, at, len: 0, bytes: [0; EVENT_BYTES_MAX] };
        write(&mut event, self);
        if self.core.events.push(event).is_err() {
            self.core.tally.add(self.core.events_dropped, 1);
        }
    }

    /// Writes the value of a metadata label, which may be empty. `false`: there is none, since nobody
    /// provides it for this query or the block has no `metadata`.
    pub fn meta(&self, label: MetaRef, out: &mut dyn fmt::Write) -> bool {
        let Some((link, key)) = self.block().meta(label) else { return false };
        let place = self.level().place;
        let Ok(local) = self.locals.of(place.block, link).try_borrow() else { return false };
        self.block().chain[link as usize].meta(&local, self, key, out)
    }
}
