//! Proofs of what the data plane's shape promises, with turns that a test turns by hand.
//!
//! `waits`: what waits is answered once, by the generation that it began in, whatever happens
//! meanwhile. `exchanges`: what upstreams say is believed only where it is the reply. `bounds`: every
//! walk ends, parking costs what is stated, a panic is one query's. `overload`: too many queries cost
//! those that are answered nothing. `simulation`, `upstreams`: the same under thousands of random steps
//! from one seed.

pub mod probe;

mod bounds;
mod exchanges;
mod marks;
mod overload;
mod simulation;
mod upstreams;
mod waits;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use super::chain::cx::{Client, Core, Cx, Transport};
use super::chain::marks::Marking;
use super::counters::Counters;
use super::large::Large;
use super::rng::Rng;
use super::tally::Tally;
use super::tally::query::QueryCells;
use super::transport::Lane;
use super::transport::sockets::Sockets;
use super::turn::{Outlet, Turn};
use super::upstream::network::{ChannelId, Network, Queries};
use super::upstream::table::Upstreams;
use super::upstream::{Unreached, Upstream};
use crate::cells::Flights;
use crate::limits::{BATCH_DATAGRAMS, DETACHED_MAX, EVENTS_MAX, LANE_BYTES, SPENT_MAX};
use crate::mail::{Mail, Mailbox};
use crate::plugin::registry::Link;
use crate::snapshot::{Block, Listener, Place, Server, Service, Snapshot, Timeouts};
use crate::wire::{NameBuf, Section, Suffixes, TsigKeys, records, rtype};

/// The listener of all queries.
const LISTENER: u32 = 1;

/// What the workers of a test share.
pub struct Ground {
    tally: Arc<Tally>,
    counters: Counters,
    flights: Arc<Flights>,
    mailboxes: Vec<Arc<Mailbox>>,
}

impl Ground {
    /// For so many workers.
    pub fn new(workers: usize) -> Self {
        let tally = Tally::new(workers);
        let mailbox = |_| Arc::new(Mailbox::new().expect("an eventfd"));
        let mailboxes: Vec<_> = (0..workers).map(mailbox).collect();
        let flights = Arc::new(Flights::new(mailboxes.clone()));
        Self { counters: Counters::new(&tally), tally, flights, mailboxes }
    }

    /// Where everything is counted.
    pub fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// A generation of these blocks: a zone each, with the links of its chain.
    pub fn snapshot(&self, generation: u64, blocks: Vec<(&str, Vec<Link>)>) -> Arc<Snapshot> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 53));
        let name = |zone: &str| NameBuf::parse(zone).expect("a zone");
        let zones = (0..)
            .zip(&blocks)
            .map(|(block, (zone, _))| (name(zone), vec![Place { block, zone: 0 }]));
        let listener = Listener {
            id: LISTENER,
            address,
            service: Service::Dns,
            sockets: Arc::new(Sockets::none(address)),
            zones: Suffixes::new(zones.collect::<Vec<_>>()),
            any_class: false,
            timeouts: Timeouts::default(),
            shed: None,
            tsig_keys: TsigKeys::default(),
            unserved: QueryCells::new(&self.tally, "dns://:53", "dropped", "", ""),
        };
        let blocks = blocks.into_iter().map(|(zone, chain)| Block {
            servers: vec![Server {
                zone: name(zone),
                server_label: "dns://:53".into(),
                zone_label: zone.into(),
                view_label: "".into(),
                times: Box::default(),
            }],
            view: None,
            hinting: chain.iter().rposition(Link::has_hint).map(|link| link as u16),
            chain,
            metadata: Vec::new(),
            taps: None,
            debug: false,
        });
        Arc::new(Snapshot {
            generation,
            listeners: vec![listener],
            blocks: blocks.collect(),
            local_options: Box::default(),
        })
    }

    /// A worker that has adopted `snapshot`.
    pub fn worker(&self, index: u16, snapshot: Arc<Snapshot>) -> Bench {
        let core = Core {
            index,
            tally: Rc::new(self.tally.core(index as usize)),
            rng: Rng::from_seed(1),
            now: 1,
            events: Arc::new(ArrayQueue::new(EVENTS_MAX)),
            events_dropped: self.counters.events_dropped,
            flights: Arc::clone(&self.flights),
            large: Large::new(),
            upstreams: Upstreams::new(),
            detached: Vec::with_capacity(DETACHED_MAX),
            spent: Arc::new(ArrayQueue::new(SPENT_MAX)),
            marking: Marking::new(),
        };
        Bench {
            turn: Turn::new(core, self.counters, snapshot),
            lanes: (0..BATCH_DATAGRAMS).map(|_| Lane::new()).collect(),
            mailbox: Arc::clone(&self.mailboxes[index as usize]),
            out: Sent::default(),
        }
    }

    /// How often walks passed a bound.
    pub fn over(&self) -> u64 {
        self.tally.value(self.counters.over)
    }
}

/// What went out: to whom, the message, whether more follow; and who got nothing.
#[derive(Default)]
pub struct Sent {
    /// Replies in their order.
    pub replies: Vec<(Client, Vec<u8>, bool)>,
    /// Who got nothing.
    pub passed: Vec<Client>,
    /// Connections that are gone.
    pub gone: Vec<(u32, u32)>,
    /// Whether the next call panics.
    pub is_broken: bool,
    /// The way to upstreams.
    pub air: Air,
}

/// A network to upstreams that only notes what it is told.
#[derive(Default)]
pub struct Air {
    /// Open channels: their upstreams, whether they are streams.
    pub open: BTreeMap<u32, (ChannelId, u32, bool)>,
    /// What was sent, and by which channel.
    pub sent: Vec<(ChannelId, Vec<u8>)>,
    /// Why nothing can be sent.
    pub broken: Option<Unreached>,
}

impl Network for Air {
    fn open(
        &mut self,
        channel: ChannelId,
        upstream: &Arc<Upstream>,
        stream: bool,
    ) -> Result<(), Unreached> {
        let before = self.open.insert(channel.index, (channel, upstream.id, stream));
        assert!(before.is_none(), "a channel in the place of another");
        Ok(())
    }

    fn send(&mut self, channel: ChannelId, queries: &Queries) -> Result<(), Unreached> {
        let (open, _, stream) = self.open[&channel.index];
        assert!(open == channel && !stream && queries.len() <= BATCH_DATAGRAMS);
        if let Some(cause) = self.broken {
            return Err(cause);
        }
        self.sent.extend(queries.iter().map(|query| (channel, query.to_vec())));
        Ok(())
    }

    fn ask(&mut self, channel: ChannelId, query: &[u8]) -> Result<(), Unreached> {
        let (open, _, stream) = self.open[&channel.index];
        assert!(open == channel && stream);
        self.sent.push((channel, query.to_vec()));
        Ok(())
    }

    fn close(&mut self, channel: ChannelId) {
        let (open, ..) = self.open.remove(&channel.index).expect("an open channel");
        assert_eq!(open, channel);
    }
}

impl Outlet for Sent {
    fn deliver(&mut self, client: &Client, message: &[u8], more: bool) -> bool {
        assert!(!std::mem::take(&mut self.is_broken), "on purpose");
        if self.gone.contains(&client.connection) {
            return false;
        }
        self.replies.push((*client, message.to_vec(), more));
        true
    }

    fn pass(&mut self, client: &Client) {
        assert!(!std::mem::take(&mut self.is_broken), "on purpose");
        self.passed.push(*client);
    }

    fn network(&mut self) -> Option<&mut dyn Network> {
        Some(&mut self.air)
    }
}

/// A worker without a thread, a socket or a clock.
pub struct Bench {
    /// What it turns.
    pub turn: Turn,
    lanes: Vec<Lane>,
    mailbox: Arc<Mailbox>,
    /// What went out.
    pub out: Sent,
}

impl Bench {
    /// Queries arrive together.
    pub fn ask(&mut self, queries: &[(Client, Vec<u8>)]) {
        for queries in queries.chunks(BATCH_DATAGRAMS) {
            let lanes = &mut self.lanes[..queries.len()];
            for (lane, (client, message)) in lanes.iter_mut().zip(queries) {
                lane.client = *client;
                lane.input[..message.len()].copy_from_slice(message);
                lane.input_len = message.len();
            }
            self.turn.batch(lanes, &mut self.out);
            for lane in lanes.iter_mut().filter(|lane| lane.output_len != 0) {
                let reply = lane.output[..lane.output_len].to_vec();
                self.out.replies.push((lane.client, reply, false));
                self.turn.core.large.reclaim(&mut lane.output);
            }
        }
    }

    /// Time passes, and who is due is woken.
    pub fn advance(&mut self, nanos: u64) {
        self.turn.core.now += nanos;
        self.turn.wake_due(usize::MAX, &mut self.out);
    }

    /// Reads the mail.
    pub fn read_mail(&mut self) {
        while let Some(mail) = self.mailbox.take() {
            if let Mail::Landed { waiter, message } = mail {
                self.turn.landed(waiter, message, &mut self.out);
            }
        }
    }

    /// The turn ends: what is to be asked goes out.
    pub fn flush_upstreams(&mut self) {
        while self.turn.flush_upstreams(&mut self.out) {}
    }

    /// A message comes from an upstream.
    pub fn upstream_says(&mut self, channel: ChannelId, message: &[u8]) {
        self.upstream_says_of(channel, message, message.len());
    }

    /// The beginning of a message comes from an upstream, which was of `len` octets.
    pub fn upstream_says_of(&mut self, channel: ChannelId, message: &[u8], len: usize) {
        let mut memory = vec![0; LANE_BYTES].into_boxed_slice();
        memory[..message.len()].copy_from_slice(message);
        self.turn.arrived(channel, &mut memory, len, &mut self.out);
        assert_eq!(memory.len(), LANE_BYTES, "the memory comes back");
    }

    /// A channel to an upstream fails.
    pub fn lost(&mut self, channel: ChannelId, cause: Unreached) {
        self.turn.lost(channel, cause, &mut self.out);
        self.flush_upstreams();
    }

    /// The client of this connection can take more.
    pub fn writable(&mut self, connection: (u32, u32)) {
        self.turn.writable(connection, &mut self.out);
    }

    /// The addresses of the only reply since the last look.
    pub fn one_reply(&mut self) -> Vec<Ipv4Addr> {
        let replies = std::mem::take(&mut self.out.replies);
        assert_eq!(replies.len(), 1, "one reply");
        addresses(&replies[0].1)
    }

    /// Whether nothing has gone out since the last look.
    pub fn is_silent(&self) -> bool {
        self.out.replies.is_empty() && self.out.passed.is_empty()
    }
}

fn client(transport: Transport, port: u16, connection: (u32, u32)) -> Client {
    let peer = ([192, 0, 2, 99], port).into();
    let local = ([192, 0, 2, 53], 53).into();
    Client { peer, local, transport, listener: LISTENER, connection }
}

/// A client that sent a datagram from this port.
pub fn udp(port: u16) -> Client {
    client(Transport::Udp, port, (0, 0))
}

/// A client on this connection.
pub fn tcp(connection: u32) -> Client {
    client(Transport::Tcp, 1_000, (connection, 1))
}

/// A query for A records.
pub fn query(id: u16, name: &str) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    let mut message = vec![high, low, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend(NameBuf::parse(name).expect("a name").as_name().as_bytes());
    message.extend([0, 1, 0, 1]);
    message
}

/// The A records of a reply, all sections.
pub fn addresses(message: &[u8]) -> Vec<Ipv4Addr> {
    let all = records(message).expect("a valid reply").map(|one| one.expect("a valid record"));
    let found = all.filter(|record| record.rtype == rtype::A);
    found.map(|record| Ipv4Addr::from(*record.rdata(message).first_chunk().expect("4"))).collect()
}

/// The rcode of a reply.
pub fn rcode_of(message: &[u8]) -> u16 {
    u16::from(message[3] & 15)
}

/// Writes an answer of one A record, 192.0.2.`last`.
pub fn answer(cx: &mut Cx<'_>, last: u8) {
    let (question, reply) = cx.answer(true);
    let address = Ipv4Addr::new(192, 0, 2, last).into();
    reply.push_address(Section::Answer, question.name, address, 60).expect("room for a record");
}

/// 192.0.2.`last`.
pub fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, last)
}

/// Seeds that are run every time, beside those of chance.
pub const SEEDS: [u64; 5] = [0, 1, 2, 3, 0xdead_beef];

/// One run; a failure names its seed.
pub fn naming(seed: u64, run: impl FnOnce() + std::panic::UnwindSafe) {
    if let Err(cause) = std::panic::catch_unwind(run) {
        let text = cause.downcast_ref::<String>().cloned().unwrap_or_default();
        panic!("seed {seed}: {text}");
    }
}
