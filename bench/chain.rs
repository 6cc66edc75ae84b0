//! The way of a query without its sockets, on chains that are compiled from a Corefile as the server
//! does: `prometheus errors file` with a hot zone of 10,000 addresses; that of a caching forwarder,
//! `prometheus errors loadbalance cache`, with all that is asked for in the cache (`batch-cached`); and
//! that which clusters are installed with, over 1,000 services (`stock-…`).
//!
//! `cargo bench --bench chain` measures time. `bench/count` runs the same pieces under callgrind and
//! prints instructions per query; for that, `CORELANE_COUNT=NAME:ROUNDS` in the environment has this
//! program do so many rounds of one piece and nothing else. A round is a batch of 64 queries.

use std::hint::black_box;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use corelane::cells::Flights;
use corelane::control::compile::{Ground, Numbers, compile, plan};
use corelane::control::corefile::{Input, load};
use corelane::control::{crew::Crew, source, status::Status};
use corelane::data::chain::{Asked, Client, Core, Marking, Walk};
use corelane::data::counters::Counters;
use corelane::data::finish::{Fit, finish};
use corelane::data::generation::Generation;
use corelane::data::large::Large;
use corelane::data::rng::Rng;
use corelane::data::route;
use corelane::data::tally::Tally;
use corelane::data::transport::{Lane, engine::Engine};
use corelane::data::turn::{Outlet, Turn};
use corelane::data::upstream::table::Upstreams;
use corelane::limits::{BATCH_DATAGRAMS, DETACHED_MAX, EVENTS_MAX, SPENT_MAX};
use corelane::snapshot::Snapshot;
use corelane::wire::{Flags, NameBuf, Question, Reply, Section, parse_query, rclass, rtype};
use corelane::zone::Zone;
use criterion::{Criterion, Throughput};
use crossbeam::queue::ArrayQueue;

/// Names of the zone.
const NAMES: usize = 10_000;
/// Services of the cluster.
const SERVICES: usize = 1_000;

/// OPT of a usual stub: 1,232 octets, a client cookie.
const OPT: [u8; 23] = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 12, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];

fn name(text: &str) -> NameBuf {
    NameBuf::parse(text).expect("a name")
}

/// Owners of the zone, in an order that no cache foresees.
fn owners(label: &str, zone: &str) -> Vec<NameBuf> {
    let number = |n: usize| n * 7919 % NAMES;
    (0..BATCH_DATAGRAMS).map(|n| name(&format!("{label}-{}.{zone}.", number(n)))).collect()
}

fn message(name: &NameBuf, opt: bool) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(opt)];
    bytes.extend(name.as_name().as_bytes());
    bytes.extend([0, 1, 0, 1]);
    bytes.extend(&OPT[..if opt { OPT.len() } else { 0 }]);
    bytes
}

fn question(name: &NameBuf) -> Question<'_> {
    let lower = name.as_name();
    Question { name: lower, lower, rtype: rtype::A, rclass: rclass::IN }
}

/// Nobody listens: every reply is that of its lane.
struct Nowhere;

impl Outlet for Nowhere {
    fn deliver(&mut self, _: &Client, _: &[u8], _: bool) -> bool {
        true
    }
    fn pass(&mut self, _: &Client) {}
}

/// A worker's state without its sockets.
struct Bench {
    snapshot: Arc<Snapshot>,
    tally: Arc<Tally>,
    counters: Counters,
    listener: u32,
}

/// A file with this content, gone when this is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(end: &str, text: &str) -> Self {
        let name = format!("corelane-bench-{}.{end}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).expect("a temporary file");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn zone_file() -> Scratch {
    let mut text = String::from("$TTL 300\n@ SOA ns1 host 1 7200 900 1209600 300\n@ NS ns1\n");
    text += "ns1 A 192.0.2.1\n";
    (0..NAMES).for_each(|n| text += &format!("host-{n} A 10.0.{}.{}\n", n >> 8, n & 255));
    Scratch::new("zone", &text)
}

/// Services `service-0` to `service-999` in the namespace `shop`.
fn manifests() -> Scratch {
    let mut text = String::from(r#"{"kind":"Namespace","metadata":{"name":"shop"}}"#);
    for n in 0..SERVICES {
        text += &format!(
            "{{\"kind\":\"Service\",\
             \"metadata\":{{\"name\":\"service-{n}\",\"namespace\":\"shop\"}},\
             \"spec\":{{\"clusterIP\":\"10.96.{}.{}\",\"ports\":[{{\"name\":\"http\",\"port\":80,\
             \"protocol\":\"TCP\"}}]}}}}\n",
            n >> 8,
            n & 255
        );
    }
    Scratch::new("json", &text)
}

impl Bench {
    fn auth() -> Self {
        let zone = zone_file();
        let path = zone.0.display();
        Self::of(format!(
            "bench.example {{\n bind 127.0.0.1\n prometheus\n errors\n file {path}\n}}\n"
        ))
    }

    fn cached() -> Self {
        Self::of(
            "cached.example {\n bind 127.0.0.1\n prometheus\n errors\n loadbalance\n cache 30\n\
             template IN A {\n answer \"{{ .Name }} 60 IN A 10.0.0.1\"\n }\n}\n"
                .into(),
        )
    }

    fn stock() -> Self {
        let cluster = manifests();
        let path = cluster.0.display();
        Self::of(format!(
            ". {{\n bind 127.0.0.1\n errors\n health 127.0.0.1:0 {{\n  lameduck 5s\n }}\n\
             ready 127.0.0.1:0\n kubernetes cluster.local in-addr.arpa ip6.arpa {{\n\
             manifests {path}\n  pods insecure\n  fallthrough in-addr.arpa ip6.arpa\n\
             ttl 30\n }}\n\
             prometheus 127.0.0.1:0\n forward . 127.0.0.1:9 {{\n  max_concurrent 1000\n }}\n\
             cache 30\n loop\n reload\n loadbalance\n}}\n"
        ))
    }

    fn of(corefile: String) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let _entered = runtime.enter();
        let input = Input::Text { name: "Corefile".into(), text: corefile.into() };
        let corefile = load(input, source::directives(), &|_| None, 0).expect("a Corefile");
        let crew = Crew::of(1, false, Engine::Mmsg).expect("descriptors");
        let tally = Arc::clone(&crew.tally);
        let (status, readiness) = (Status::new(&tally, 1, "mmsg"), Arc::default());
        let mut numbers = Numbers::default();
        let mut ground = Ground::of(&crew, &status, &readiness, None, &mut numbers);
        let planned = plan(&corefile).expect("directives");
        let mut graph = compile(planned, corefile.hash, &mut ground).expect("a graph");
        graph.bind(&mut ground).expect("a free port");
        // What a start does last: the cluster is published.
        graph.at_start.drain(..).for_each(|hook| hook().expect("a start"));
        let (snapshot, counters) = (Arc::clone(&graph.snapshot), Counters::new(&tally));
        let listener = snapshot.listeners[0].id;
        Self { snapshot, tally, counters, listener }
    }

    fn core(&self) -> Core {
        Core {
            index: 0,
            tally: Rc::new(self.tally.core(0)),
            rng: Rng::from_seed(1),
            now: 1,
            events: Arc::new(ArrayQueue::new(EVENTS_MAX)),
            events_dropped: self.counters.events_dropped,
            flights: Arc::new(Flights::new(Vec::new())),
            large: Large::new(),
            upstreams: Upstreams::new(),
            detached: Vec::with_capacity(DETACHED_MAX),
            spent: Arc::new(ArrayQueue::new(SPENT_MAX)),
            marking: Marking::new(),
        }
    }

    fn client(&self) -> Client {
        Client { listener: self.listener, ..Lane::new().client }
    }

    /// Parse, route, hint, walk and finish: what a worker does between two system calls.
    fn batch(&self, names: &[NameBuf], opt: bool, rcode: u8) -> Box<dyn FnMut()> {
        let mut turn = Turn::new(self.core(), self.counters, Arc::clone(&self.snapshot));
        let lane = |name| {
            let (mut lane, bytes) = (Lane::new(), message(name, opt));
            lane.input[..bytes.len()].copy_from_slice(&bytes);
            lane.input_len = bytes.len();
            lane.client = self.client();
            lane
        };
        let mut lanes: Vec<Lane> = names.iter().map(lane).collect();
        turn.batch(&mut lanes, &mut Nowhere);
        let answered = |lane: &Lane| lane.output_len > 12 && lane.output[3] & 15 == rcode;
        assert!(lanes.iter().all(answered), "the bench measures what it says");
        Box::new(move || turn.batch(black_box(&mut lanes), &mut Nowhere))
    }

    /// The block's chain alone: from an open walk to level 0's reply.
    fn walk(&self, names: Vec<NameBuf>) -> Box<dyn FnMut()> {
        let generation = Generation::adopt(Arc::clone(&self.snapshot), 0, None);
        let place = route::place(&self.snapshot, self.listener, question(&names[0]));
        let (mut walk, mut core, client) = (Walk::new(), self.core(), self.client());
        Box::new(move || {
            for name in &names {
                walk.open(client, 1);
                let asked = Asked { udp_size: 512, ..Asked::default() };
                walk.open_question(name.as_name(), rtype::A, rclass::IN, asked, place);
                black_box(walk.start(&mut core, &generation));
            }
        })
    }

    /// `finish` of a reply that has only its question, with the start of that reply.
    fn finish(&self, edns: bool) -> Box<dyn FnMut()> {
        let place = route::place(&self.snapshot, self.listener, question(&name("bench.example.")));
        let (mut walk, asked) = (Walk::new(), Asked { edns, udp_size: 1232, ..Asked::default() });
        let owner = name("host-1.bench.example.");
        walk.open(self.client(), 1);
        walk.open_question(owner.as_name(), rtype::A, rclass::IN, asked, place);
        Box::new(move || {
            for _ in 0..BATCH_DATAGRAMS {
                let level = walk.client_level();
                level.start_reply();
                black_box(finish(
                    level,
                    Fit { stream: false, options: &[], local: &[], keepalive: 0, tsig_bytes: 0 },
                ));
            }
        })
    }

    fn parse(&self, names: &[NameBuf], opt: bool) -> Box<dyn FnMut()> {
        let messages: Vec<_> = names.iter().map(|name| message(name, opt)).collect();
        Box::new(move || {
            for bytes in &messages {
                let _ = black_box(parse_query(black_box(bytes)));
            }
        })
    }

    fn route(&self, names: Vec<NameBuf>) -> Box<dyn FnMut()> {
        let (snapshot, listener) = (Arc::clone(&self.snapshot), self.listener);
        Box::new(move || {
            for name in &names {
                black_box(route::place(&snapshot, listener, black_box(question(name))));
            }
        })
    }

    /// Header, question, one address that is ready to copy, OPT.
    fn reply(&self, names: Vec<NameBuf>) -> Box<dyn FnMut()> {
        let block = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 1, 0, 22];
        let mut reply = Reply::new(vec![0; 4096].into_boxed_slice());
        Box::new(move || {
            for name in &names {
                reply.start(1, Flags::default().with_qr(true), question(name));
                let _ = black_box(reply.push_block(Section::Answer, black_box(&block), 1));
                let _ = black_box(reply.push_opt(1232, 0, 0, false, &[]));
            }
        })
    }

    /// The zone's answer, into a reply that is started for it.
    fn zone(names: Vec<NameBuf>) -> Box<dyn FnMut()> {
        let zone = Zone::load(&zone_file().0, &name("bench.example.")).expect("a zone");
        let mut reply = Reply::new(vec![0; 4096].into_boxed_slice());
        Box::new(move || {
            for name in &names {
                reply.start(1, Flags::default(), question(name));
                black_box(zone.answer(question(name), false, &mut reply));
            }
        })
    }
}

/// The pieces, by name; each closure does a batch of 64 queries.
fn piece(piece: &str) -> Option<Box<dyn FnMut()>> {
    let hits = owners("host", "bench.example");
    let misses = owners("none", "bench.example");
    let auth = Bench::auth;
    Some(match piece {
        "parse" => auth().parse(&hits, false),
        "parse-opt" => auth().parse(&hits, true),
        "route" => auth().route(hits),
        "reply" => auth().reply(hits),
        "zone" => Bench::zone(hits),
        "walk" => auth().walk(hits),
        "walk-nxdomain" => auth().walk(misses),
        "finish" => auth().finish(false),
        "finish-opt" => auth().finish(true),
        "batch" => auth().batch(&hits, false, 0),
        "batch-opt" => auth().batch(&hits, true, 0),
        "batch-nxdomain" => auth().batch(&misses, false, 3),
        "batch-cached" => Bench::cached().batch(&owners("host", "cached.example"), false, 0),
        "batch-cached-opt" => Bench::cached().batch(&owners("host", "cached.example"), true, 0),
        "batch-refused" => auth().batch(&owners("host", "other.example"), false, 5),
        "stock-service" => {
            let number = |n: usize| n * 7919 % SERVICES;
            let owner = |n| name(&format!("service-{}.shop.svc.cluster.local.", number(n)));
            let services: Vec<_> = (0..BATCH_DATAGRAMS).map(owner).collect();
            Bench::stock().batch(&services, false, 0)
        }
        "stock-search" => {
            let searched = owners("www", "example.org.shop.svc.cluster.local");
            Bench::stock().batch(&searched, false, 3)
        }
        _ => return None,
    })
}

/// All pieces, in the order of the table.
const PIECES: [&str; 17] = [
    "parse",
    "parse-opt",
    "route",
    "reply",
    "zone",
    "walk",
    "walk-nxdomain",
    "finish",
    "finish-opt",
    "batch",
    "batch-opt",
    "batch-nxdomain",
    "batch-cached",
    "batch-cached-opt",
    "batch-refused",
    "stock-service",
    "stock-search",
];

fn main() {
    if let Ok(wanted) = std::env::var("CORELANE_COUNT") {
        let (piece, rounds) = wanted.split_once(':').expect("CORELANE_COUNT=NAME:ROUNDS");
        let mut round = self::piece(piece).expect("a piece");
        (0..rounds.parse().expect("a number of rounds")).for_each(|_: u32| round());
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("chain");
    group.throughput(Throughput::Elements(BATCH_DATAGRAMS as u64));
    for piece in PIECES {
        let mut round = self::piece(piece).expect("a piece");
        group.bench_function(piece, |bench| bench.iter(&mut round));
    }
    group.finish();
    criterion.final_summary();
}
