//! The names of a cluster: 10,000 services, some headless, and 100,000 endpoints, held and answered.
//!
//! `cargo bench --bench cluster` measures time, and prints the octets that are held;
//! `bench/count --bench cluster` counts instructions per query (`event`: per event of a watch). A
//! round is 64 queries, each hinted first, as a batch of the server is.

use std::hint::black_box;

use corelane::cluster::answer::{Fit, Outcome, Place, Pods, Rules};
use corelane::cluster::feed::Change;
use corelane::cluster::index::Index;
use corelane::cluster::object::{Kind, Object};
use corelane::cluster::writer::{Holding, Writer};
use corelane::wire::{Flags, NameBuf, Question, Reply, Rtype, rclass, rcode, rtype};
use criterion::{Criterion, Throughput};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: usize = 64;
const SERVICES: usize = 10_000;
/// Every so manieth service is headless.
const HEADLESS: usize = 5;
const ENDPOINTS: usize = 10;
const NAMESPACES: usize = 100;
/// Endpoints of the largest service, `large`.
const LARGE: usize = 1_000;

fn object(kind: Kind, value: &Value) -> Object {
    Object::read(kind, value.clone()).expect("an object")
}

fn service(name: &str, namespace: &str, ip: &str) -> Object {
    let ports = json!([{"name": "http", "port": 80, "protocol": "TCP"}]);
    let metadata = json!({"name": name, "namespace": namespace});
    let spec = json!({"clusterIP": ip, "ports": ports});
    object(Kind::Services, &json!({"metadata": metadata, "spec": spec}))
}

fn slice(number: usize, owner: &str, namespace: &str, addresses: &[String]) -> Object {
    let labels = json!({"kubernetes.io/service-name": owner});
    let name = format!("{owner}-{number}");
    let metadata = json!({"name": name, "namespace": namespace, "labels": labels});
    let ends: Vec<Value> = addresses.iter().map(|one| json!({"addresses": [one]})).collect();
    let ports = json!([{"name": "http", "port": 8080, "protocol": "TCP"}]);
    let value = json!({"metadata": metadata, "addressType": "IPv4", "ports": ports,
        "endpoints": ends});
    object(Kind::Slices, &value)
}

fn address(net: u8, number: usize) -> String {
    format!("{net}.{}.{}.{}", number >> 16 & 255, number >> 8 & 255, number & 255)
}

fn namespace(number: usize) -> String {
    format!("namespace-{}", number % NAMESPACES)
}

/// The slice of a service, without its first `gone` endpoints.
fn slice_of(number: usize, gone: usize) -> Object {
    let ends = (gone..ENDPOINTS).map(|end| address(10, number * ENDPOINTS + end));
    slice(0, &format!("service-{number}"), &namespace(number), &ends.collect::<Vec<_>>())
}

fn filled() -> Writer {
    let kinds = vec![Kind::Namespaces, Kind::Services, Kind::Slices];
    let mut writer = Writer::new(Holding { kinds, ..Holding::default() }, 42, || 1_000);
    let mut put = |object| {
        writer.apply(Change::Put(object));
    };
    for number in 0..NAMESPACES {
        let value = json!({"metadata": {"name": namespace(number)}});
        put(object(Kind::Namespaces, &value));
    }
    for number in 0..SERVICES {
        let own = if number % HEADLESS == 0 { "None".to_owned() } else { address(11, number) };
        put(service(&format!("service-{number}"), &namespace(number), &own));
        put(slice_of(number, 0));
    }
    put(service("large", "namespace-0", "None"));
    for part in 0..LARGE / 100 {
        let ends = (0..100).map(|end| address(12, part * 100 + end));
        put(slice(part, "large", "namespace-0", &ends.collect::<Vec<_>>()));
    }
    writer
}

/// Numbers in an order that no cache foresees.
fn scattered(below: usize) -> impl Iterator<Item = usize> {
    (0..).map(move |n: usize| n.wrapping_mul(7_919) % below)
}

struct Bench {
    rules: Rules,
    writer: Writer,
}

impl Bench {
    fn new() -> Self {
        let zones = ["cluster.local.", "in-addr.arpa.", "ip6.arpa."];
        let zones = zones.map(|zone| NameBuf::parse(zone).expect("a zone"));
        let mut rules = Rules::new(&zones, 0, &[], 5);
        rules.pods = Pods::Insecure;
        Self { rules, writer: filled() }
    }

    /// Hints and answers 64 names.
    fn ask(self, names: Vec<String>, rtype: Rtype, is_stream: bool) -> Box<dyn FnMut()> {
        let names: Vec<NameBuf> =
            names.iter().map(|name| NameBuf::parse(name).expect("a name")).collect();
        let mut reply = Reply::new(vec![0; 65_535].into_boxed_slice());
        let room = if is_stream { 65_000 } else { 1_232 };
        Box::new(move || {
            let index = self.writer.index();
            let places: [Place; BATCH] =
                std::array::from_fn(|at| self.rules.hint(index, names[at].as_name()));
            places.iter().for_each(|place| self.rules.hint_next(index, *place));
            for (name, place) in names.iter().zip(places) {
                let lower = name.as_name();
                let question = Question { name: lower, lower, rtype, rclass: rclass::IN };
                reply.start(1, Flags::default(), question);
                let fit = Fit { room, whole: false, is_stream, turn: 0 };
                answer(&self.rules, index, place, question, fit, &mut reply);
                black_box(reply.len());
            }
        })
    }

    fn piece(self, piece: &str) -> Option<Box<dyn FnMut()>> {
        let some = |every: usize, rest: usize, text: &dyn Fn(usize) -> String| -> Vec<String> {
            let numbers = scattered(SERVICES / every).map(|number| number * every + rest);
            numbers.take(BATCH).map(text).collect()
        };
        let zone = |number| format!("{}.svc.cluster.local.", namespace(number));
        let large = || vec!["large.namespace-0.svc.cluster.local.".to_owned(); BATCH];
        Some(match piece {
            "cluster-ip" => {
                let names = some(HEADLESS, 1, &|n| format!("service-{n}.{}", zone(n)));
                self.ask(names, rtype::A, false)
            }
            "cluster-ip-aaaa" => {
                let names = some(HEADLESS, 1, &|n| format!("service-{n}.{}", zone(n)));
                self.ask(names, rtype::AAAA, false)
            }
            "headless-10" => {
                let names = some(HEADLESS, 0, &|n| format!("service-{n}.{}", zone(n)));
                self.ask(names, rtype::A, false)
            }
            "srv" => {
                let names = some(HEADLESS, 1, &|n| format!("_http._tcp.service-{n}.{}", zone(n)));
                self.ask(names, rtype::SRV, false)
            }
            "ptr" => {
                let names = some(1, 0, &|n| {
                    let n = n * ENDPOINTS;
                    format!("{}.{}.{}.10.in-addr.arpa.", n & 255, n >> 8 & 255, n >> 16 & 255)
                });
                self.ask(names, rtype::PTR, false)
            }
            "nxdomain" => {
                let names = some(1, 0, &|n| format!("www.example.com.{}", zone(n)));
                self.ask(names, rtype::A, false)
            }
            "headless-1000-udp" => self.ask(large(), rtype::A, false),
            "headless-1000-tcp" => self.ask(large(), rtype::A, true),
            "event" => self.events(),
            _ => return None,
        })
    }

    /// Applies and publishes 64 events: an endpoint goes, or comes back.
    fn events(mut self) -> Box<dyn FnMut()> {
        let mut numbers = scattered(SERVICES);
        let mut round = 0;
        let mut published: Vec<Option<Index>> = Vec::new();
        Box::new(move || {
            round += 1;
            for _ in 0..BATCH {
                let number = numbers.next().unwrap_or_default();
                let gone = round / (SERVICES / BATCH) % 2;
                self.writer.apply(Change::Put(slice_of(number, 1 - gone)));
            }
            // Sixty-four events are published together, and the index before is dropped.
            published.clear();
            published.push(self.writer.publish());
        })
    }
}

fn answer(
    rules: &Rules,
    index: &Index,
    place: Place,
    question: Question<'_>,
    fit: Fit,
    reply: &mut Reply,
) {
    let Some(position) = place.position() else { return };
    let plain = rules.answer_plain(index, place, question, reply);
    match plain.unwrap_or_else(|| rules.answer(index, position, question, fit, reply)) {
        Outcome::NoData => rules.deny(index, position, question, rcode::NOERROR, reply),
        Outcome::NxDomain => rules.deny(index, position, question, rcode::NXDOMAIN, reply),
        _ => {}
    }
}

/// All pieces, in the order of the table.
const PIECES: [&str; 9] = [
    "cluster-ip",
    "cluster-ip-aaaa",
    "headless-10",
    "srv",
    "ptr",
    "nxdomain",
    "headless-1000-udp",
    "headless-1000-tcp",
    "event",
];

fn main() {
    if let Ok(wanted) = std::env::var("CORELANE_COUNT") {
        let (piece, rounds) = wanted.split_once(':').expect("CORELANE_COUNT=NAME:ROUNDS");
        let mut round = Bench::new().piece(piece).expect("a piece");
        (0..rounds.parse().expect("a number of rounds")).for_each(|_: u32| round());
        return;
    }
    show_sizes();
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("cluster");
    group.throughput(Throughput::Elements(BATCH as u64));
    for piece in PIECES {
        let mut round = Bench::new().piece(piece).expect("a piece");
        group.bench_function(piece, |bench| bench.iter(&mut round));
    }
    group.finish();
    criterion.final_summary();
}

#[allow(clippy::disallowed_macros, reason = "it prints what it has measured")]
fn show_sizes() {
    let index = filled().index().clone();
    let ends = SERVICES * ENDPOINTS + LARGE;
    let bytes = index.bytes();
    println!("{SERVICES} services, {ends} endpoints: {bytes} octets, {} an endpoint", bytes / ends);
}
