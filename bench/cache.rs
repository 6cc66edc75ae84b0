//! The store below the cache, beside other designs of the same octets: what a hit and a miss cost, how
//! often each hits, and what memory it takes.
//!
//! * `ours`: one [`Table`] for all workers, read without a lock.
//! * `per-core`: each worker its own map with an exact LRU, and its part of the octets.
//! * `dashmap`: one map of locked shards for all, with a clock (FIFO and one bit).
//! * `two-tiers`: as `dashmap`, and before it each worker's own direct-mapped table of the latest.
//!
//! `cargo bench --bench cache` measures time, `bench/count --bench cache` counts instructions,
//! `cargo bench --bench cache -- figures` prints hit ratios and memory, which takes minutes. Queries are
//! dealt to workers at random, as the kernel deals clients; one thread does the work of all, since hits
//! and octets are what is compared. Octets of the others are measured: resident memory an entry.

#![allow(clippy::disallowed_macros, reason = "what it prints is what it is for")]

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use corelane::data::rng::Rng;
use corelane::store::{Class, Item, Pool, Read, Table, Wanted};
use criterion::{Criterion, Throughput};
use dashmap::DashMap;
use foldhash::fast::FixedState as Fast;
use foldhash::quality::FixedState;
use foldhash::{HashMap, HashMapExt};

/// Workers that the designs with something of their own for each are measured with.
const WORKERS: usize = 8;
/// Names of the hot set, and queries of a round.
const HOT: u64 = 10_000;
const BATCH: u64 = 64;
/// Names of the Zipf load, of which the budget has room for the messages of a tenth.
const NAMES: usize = 1_000_000;
/// Queries of the Zipf load; those of the first half are not counted.
const QUERIES: usize = 6_000_000;
/// Names of the scan, and its budget.
const SCANNED: u64 = 10_000_000;
const SCAN_BUDGET: usize = 64 << 20;
/// When everything happens, in monotonic nanoseconds, and for how long entries live.
const NOW: u64 = 1_000_000_000;
const TTL: u32 = 60;

/// A query and its reply, as a number makes them.
struct Asked {
    worker: usize,
    hash: u64,
    message: Vec<u8>,
    /// Octets of the name.
    name: usize,
}

impl Asked {
    fn new(worker: usize, number: u64) -> Self {
        let mut asked = Self { worker, hash: 0, message: Vec::with_capacity(128), name: 0 };
        asked.set(number);
        asked
    }

    /// `host-NUMBER.bench.example A`, answered by one address.
    fn set(&mut self, number: u64) {
        let message = &mut self.message;
        message.clear();
        message.extend([0, 0, 0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 0, 0]);
        let mut digits = [0; 20];
        let (mut left, mut at) = (number, digits.len());
        while left > 0 || at == digits.len() {
            at -= 1;
            digits[at] = b'0' + (left % 10) as u8;
            left /= 10;
        }
        message[12] = (5 + digits.len() - at) as u8;
        message.extend(b"host-");
        message.extend(&digits[at..]);
        message.extend(b"\x05bench\x07example\x00");
        self.name = message.len() - 12;
        message.extend([0, 1, 0, 1, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 1]);
        self.hash = FixedState::with_seed(7).hash_one(self.name());
    }

    fn name(&self) -> &[u8] {
        &self.message[12..12 + self.name]
    }

    fn ttl_at(&self) -> u16 {
        self.message.len() as u16 - 10
    }
}

/// Copies an entry to `out` with its TTL, if it is the one that was asked for.
fn copy(asked: &Asked, message: &[u8], ttl_at: u16, out: &mut [u8]) -> bool {
    let Some(target) = out.get_mut(..message.len()) else { return false };
    target.copy_from_slice(message);
    let at = usize::from(ttl_at);
    target[at..at + 4].copy_from_slice(&(TTL - 1).to_be_bytes());
    target[12..].starts_with(asked.name())
}

/// Something that stores replies.
trait Design {
    /// One for so many octets, of which an entry takes `each`.
    fn new(budget: usize, each: usize) -> Self
    where
        Self: Sized;
    /// Copies the reply to `out`, if it is stored.
    fn get(&mut self, asked: &Asked, out: &mut [u8]) -> bool;
    /// Stores the reply.
    fn put(&mut self, asked: &Asked);
}

struct Ours {
    table: Arc<Table>,
}

impl Design for Ours {
    fn new(budget: usize, _: usize) -> Self {
        let wanted = Wanted { entries_max: [usize::MAX / 4, 0], stale_nanos: 0, marks: false };
        Self { table: Table::new(&Pool::new(budget), wanted) }
    }

    fn get(&mut self, asked: &Asked, out: &mut [u8]) -> bool {
        let mut found = false;
        self.table.find(asked.hash, |candidate| {
            let ttl = |life: corelane::store::Life| life.left(NOW + 1_000_000_000) as u32;
            let same = |message: &[u8], _: &[u8]| message[12..].starts_with(asked.name());
            let read = self.table.read(candidate, asked.hash, out, ttl, same);
            found |= matches!(read, Read::Found(..));
        });
        found
    }

    fn put(&mut self, asked: &Asked) {
        self.table.put(
            asked.hash,
            Item {
                class: Class::Success,
                bits: 0,
                stored: NOW,
                ttl: TTL,
                note: 0,
                message: &asked.message,
                tail: &[],
                ttls: &[asked.ttl_at()],
            },
        );
    }
}

/// An entry of a map with an order of its own.
struct Node {
    hash: u64,
    before: u32,
    after: u32,
    stored: u64,
    ttl: u32,
    ttl_at: u16,
    message: Box<[u8]>,
}

/// A map whose least recently used entry goes first.
struct Lru {
    map: HashMap<u64, u32>,
    /// The first is no entry: it stands before the newest and after the oldest.
    nodes: Vec<Node>,
    entries_max: usize,
}

impl Lru {
    fn new(entries_max: usize) -> Self {
        let (message, stored) = (Box::default(), 0);
        let head = Node { hash: 0, before: 0, after: 0, stored, ttl: 0, ttl_at: 0, message };
        Self { map: HashMap::new(), nodes: vec![head], entries_max: entries_max.max(1) }
    }

    fn unlink(&mut self, at: u32) {
        let Node { before, after, .. } = self.nodes[at as usize];
        self.nodes[before as usize].after = after;
        self.nodes[after as usize].before = before;
    }

    fn lead(&mut self, at: u32) {
        let first = self.nodes[0].after;
        (self.nodes[at as usize].before, self.nodes[at as usize].after) = (0, first);
        self.nodes[first as usize].before = at;
        self.nodes[0].after = at;
    }

    fn get(&mut self, asked: &Asked, out: &mut [u8]) -> bool {
        let Some(&at) = self.map.get(&asked.hash) else { return false };
        self.unlink(at);
        self.lead(at);
        let node = &self.nodes[at as usize];
        let lives = black_box(node.stored) + u64::from(node.ttl) * 1_000_000_000 > NOW;
        lives && copy(asked, &node.message, node.ttl_at, out)
    }

    fn put(&mut self, asked: &Asked) {
        let (hash, ttl_at) = (asked.hash, asked.ttl_at());
        let message = asked.message.clone().into_boxed_slice();
        let node = Node { hash, before: 0, after: 0, stored: NOW, ttl: TTL, ttl_at, message };
        let at = if self.nodes.len() > self.entries_max {
            let oldest = self.nodes[0].before;
            self.unlink(oldest);
            self.map.remove(&self.nodes[oldest as usize].hash);
            self.nodes[oldest as usize] = node;
            oldest
        } else {
            self.nodes.push(node);
            self.nodes.len() as u32 - 1
        };
        self.map.insert(hash, at);
        self.lead(at);
    }
}

struct PerCore {
    workers: Vec<Lru>,
}

impl Design for PerCore {
    fn new(budget: usize, each: usize) -> Self {
        Self { workers: (0..WORKERS).map(|_| Lru::new(budget / each / WORKERS)).collect() }
    }

    fn get(&mut self, asked: &Asked, out: &mut [u8]) -> bool {
        self.workers[asked.worker].get(asked, out)
    }

    fn put(&mut self, asked: &Asked) {
        self.workers[asked.worker].put(asked);
    }
}

/// An entry that workers share.
struct Shared {
    message: Arc<[u8]>,
    stored: u64,
    ttl: u32,
    ttl_at: u16,
    visited: AtomicBool,
}

struct Dash {
    map: DashMap<u64, Shared, Fast>,
    order: VecDeque<u64>,
    entries_max: usize,
}

impl Dash {
    /// Copies the reply to `out`; gives the entry's message and TTL's offset.
    fn read(&self, asked: &Asked, out: &mut [u8]) -> Option<(Arc<[u8]>, u16)> {
        let entry = self.map.get(&asked.hash)?;
        let lives = black_box(entry.stored) + u64::from(entry.ttl) * 1_000_000_000 > NOW;
        if !entry.visited.load(Relaxed) {
            entry.visited.store(true, Relaxed);
        }
        let found = lives && copy(asked, &entry.message, entry.ttl_at, out);
        found.then(|| (Arc::clone(&entry.message), entry.ttl_at))
    }
}

impl Design for Dash {
    fn new(budget: usize, each: usize) -> Self {
        let map = DashMap::with_hasher_and_shard_amount(Fast::with_seed(3), 64);
        Self { map, order: VecDeque::new(), entries_max: (budget / each).max(1) }
    }

    fn get(&mut self, asked: &Asked, out: &mut [u8]) -> bool {
        self.read(asked, out).is_some()
    }

    fn put(&mut self, asked: &Asked) {
        while self.order.len() >= self.entries_max
            && let Some(oldest) = self.order.pop_front()
        {
            let visited = |entry: &Shared| entry.visited.swap(false, Relaxed);
            if self.map.get(&oldest).is_some_and(|entry| visited(&entry)) {
                self.order.push_back(oldest);
            } else {
                self.map.remove(&oldest);
            }
        }
        let (message, ttl_at) = (Arc::from(&asked.message[..]), asked.ttl_at());
        let visited = AtomicBool::new(false);
        self.map.insert(asked.hash, Shared { message, stored: NOW, ttl: TTL, ttl_at, visited });
        self.order.push_back(asked.hash);
    }
}

type Latest = Option<(u64, Arc<[u8]>, u16)>;

struct TwoTiers {
    first: Vec<Vec<Latest>>,
    second: Dash,
}

impl Design for TwoTiers {
    fn new(budget: usize, each: usize) -> Self {
        let second = Dash::new(budget, each);
        // A sixteenth of what the second tier has, shared out among workers.
        let slots = (second.entries_max / 16 / WORKERS).next_power_of_two();
        Self { first: vec![vec![None; slots]; WORKERS], second }
    }

    fn get(&mut self, asked: &Asked, out: &mut [u8]) -> bool {
        let first = &mut self.first[asked.worker];
        let at = asked.hash as usize & (first.len() - 1);
        if let Some((hash, message, ttl_at)) = &first[at]
            && *hash == asked.hash
            && copy(asked, message, *ttl_at, out)
        {
            return true;
        }
        let Some((message, ttl_at)) = self.second.read(asked, out) else { return false };
        first[at] = Some((asked.hash, message, ttl_at));
        true
    }

    fn put(&mut self, asked: &Asked) {
        self.second.put(asked);
    }
}

/// All designs, in the order of the tables.
const DESIGNS: [&str; 4] = ["ours", "per-core", "dashmap", "two-tiers"];

fn design(name: &str, budget: usize, each: usize) -> Option<Box<dyn Design>> {
    Some(match name {
        "ours" => Box::new(Ours::new(budget, each)),
        "per-core" => Box::new(PerCore::new(budget, each)),
        "dashmap" => Box::new(Dash::new(budget, each)),
        "two-tiers" => Box::new(TwoTiers::new(budget, each)),
        _ => return None,
    })
}

/// Octets that an entry of a design takes: resident ones, or for ours, which keeps to a budget by
/// itself, those of the budget.
fn octets_each(name: &str) -> usize {
    const ENTRIES: usize = 400_000;
    let before = resident();
    let fill = |store: &mut dyn Design| {
        let mut asked = Asked::new(0, 0);
        for number in 0..ENTRIES as u64 {
            asked.worker = number as usize % WORKERS;
            asked.set(number);
            store.put(&asked);
        }
    };
    if name == "ours" {
        let mut ours = Ours::new(ENTRIES * 32, 0);
        fill(&mut ours);
        return ENTRIES * 32 / ours.table.entries(Class::Success);
    }
    let Some(mut filled) = design(name, ENTRIES, 1) else { return 1 };
    fill(&mut *filled);
    (resident() - before) / ENTRIES
}

/// Octets of resident memory of this process.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    number.and_then(|number| number.parse::<usize>().ok()).unwrap_or(0) * 1024
}

/// Octets of the messages of a tenth of the names.
fn zipf_budget() -> usize {
    let tenth = NAMES as u64 / 10;
    (0..tenth).map(|number| Asked::new(0, number * 10).message.len()).sum()
}

/// Calls `each` with the numbers of the Zipf load: the `n`th name with a weight of 1/n.
fn for_each_zipf(mut each: impl FnMut(usize, usize)) {
    let mut sums = Vec::with_capacity(NAMES);
    let mut sum = 0.0;
    for n in 1..=NAMES {
        sum += 1.0 / n as f64;
        sums.push(sum);
    }
    let mut rng = Rng::from_seed(5);
    for query in 0..QUERIES {
        let at = rng.next_u64() as f64 / u64::MAX as f64 * sum;
        let number = sums.partition_point(|below| *below < at).min(NAMES - 1);
        each(query, number);
    }
}

/// Counts hits of the second half of the Zipf load, in hundredths of a per cent.
fn zipf(mut hit: impl FnMut(usize) -> bool) -> u64 {
    let mut hits = 0;
    for_each_zipf(|query, number| {
        if hit(number) && query >= QUERIES / 2 {
            hits += 1;
        }
    });
    hits * 10_000 / (QUERIES as u64 / 2)
}

/// The hit ratio of exact LRU with room for `entries`.
fn ideal_lru(entries: usize) -> u64 {
    let mut lru = Lru::new(entries);
    let mut asked = Asked::new(0, 0);
    let mut out = [0; 512];
    zipf(|number| {
        asked.set(number as u64);
        let hit = lru.get(&asked, &mut out);
        if !hit {
            lru.put(&asked);
        }
        hit
    })
}

/// The hit ratio where an entry chosen at random goes first.
fn random_eviction(entries: usize) -> u64 {
    let mut place = vec![u32::MAX; NAMES];
    let mut stored: Vec<u32> = Vec::with_capacity(entries);
    let mut rng = Rng::from_seed(9);
    zipf(|number| {
        if place[number] != u32::MAX {
            return true;
        }
        let at = if stored.len() < entries {
            stored.push(0);
            stored.len() - 1
        } else {
            rng.below(entries as u32) as usize
        };
        if let Some(old) = place.get_mut(stored[at] as usize).filter(|old| **old == at as u32) {
            *old = u32::MAX;
        }
        (stored[at], place[number]) = (number as u32, at as u32);
        false
    })
}

/// The hit ratio of a design on the Zipf load.
fn zipf_of(name: &str, each: usize) -> u64 {
    let Some(mut store) = design(name, zipf_budget(), each) else { return 0 };
    let (mut asked, mut rng) = (Asked::new(0, 0), Rng::from_seed(11));
    let mut out = [0; 512];
    zipf(|number| {
        asked.worker = rng.below(WORKERS as u32) as usize;
        asked.set(number as u64);
        let hit = store.get(&asked, &mut out);
        if !hit {
            store.put(&asked);
        }
        hit
    })
}

/// Hits of the hot set during a scan in hundredths of a per cent, and resident memory in those of the
/// budget. A hot name is asked for after every scanned one.
fn scan_of(name: &str, each: usize) -> (u64, u64) {
    let before = resident();
    let Some(mut store) = design(name, SCAN_BUDGET, each) else { return (0, 0) };
    let (mut asked, mut rng) = (Asked::new(0, 0), Rng::from_seed(13));
    let mut out = [0; 512];
    let mut ask = |worker: usize, number: u64| {
        asked.worker = worker;
        asked.set(number);
        let hit = store.get(&asked, &mut out);
        if !hit {
            store.put(&asked);
        }
        hit
    };
    // Every worker has been asked for every hot name before.
    for number in 0..HOT * 4 * WORKERS as u64 {
        ask((number / HOT) as usize % WORKERS, number % HOT);
    }
    let mut hits = 0;
    for _ in 0..SCANNED {
        let random = rng.next_u64() >> 8;
        ask((random % WORKERS as u64) as usize, HOT + random % (1 << 40));
        let (worker, number) = (rng.below(WORKERS as u32), rng.below(HOT as u32));
        hits += u64::from(ask(worker as usize, number.into()));
    }
    let octets = resident().saturating_sub(before) as u64;
    (hits * 10_000 / SCANNED, octets * 10_000 / SCAN_BUDGET as u64)
}

/// One figure, in a process of its own.
fn figure(what: &str) -> String {
    let percent = |n: u64| format!("{}.{:02} %", n / 100, n % 100);
    let mut words = what.split(':');
    let (kind, name) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let each = words.next().and_then(|each| each.parse().ok()).unwrap_or(1);
    match (kind, name) {
        ("each", _) => octets_each(name).to_string(),
        ("zipf", "lru") => percent(ideal_lru(NAMES / 10)),
        ("zipf", "random") => percent(random_eviction(NAMES / 10)),
        ("zipf", _) => percent(zipf_of(name, each)),
        _ => {
            let (hits, octets) = scan_of(name, each);
            format!("{} | {}", percent(hits), percent(octets))
        }
    }
}

fn figures() {
    let program = std::env::current_exe().expect("this program");
    let ask = |what: String| {
        let ran = Command::new(&program).env("CORELANE_FIGURE", what).output();
        ran.map_or(String::new(), |ran| String::from_utf8_lossy(&ran.stdout).trim().to_owned())
    };
    println!("budget of the Zipf load: {} octets, of the scan: {SCAN_BUDGET}", zipf_budget());
    println!("| design | octets an entry | Zipf: hits | scan: hits of the hot | resident |");
    println!("|---|---|---|---|---|");
    for name in DESIGNS {
        let each = ask(format!("each:{name}"));
        let zipf = ask(format!("zipf:{name}:{each}"));
        let scan = ask(format!("scan:{name}:{each}"));
        println!("| {name} | {each} | {zipf} | {scan} |");
    }
    println!("| exact LRU, messages only | - | {} | - | - |", ask("zipf:lru".into()));
    println!("| random eviction, messages only | - | {} | - | - |", ask("zipf:random".into()));
}

/// All pieces, in the order of the table.
const PIECES: [&str; 8] = [
    "hit-ours",
    "hit-per-core",
    "hit-dashmap",
    "hit-two-tiers",
    "put-ours",
    "put-per-core",
    "put-dashmap",
    "put-two-tiers",
];

/// A piece; each call does 64 queries. Puts are of names that are new, when the budget is used up.
fn piece(piece: &str) -> Option<Box<dyn FnMut()>> {
    let (what, name) = piece.split_once('-')?;
    let budget = if what == "hit" { SCAN_BUDGET } else { 1 << 20 };
    // A usual figure, so that counts need no second process.
    let mut store = design(name, budget, 256)?;
    let mut out = [0; 512];
    let fill = if what == "hit" { HOT } else { 4 * HOT };
    for worker in 0..WORKERS {
        (0..fill).for_each(|number| store.put(&Asked::new(worker, number)));
    }
    if what == "hit" {
        let hot = |n: u64| Asked::new(n as usize % WORKERS, n * 7919 % HOT);
        let asked: Vec<Asked> = (0..BATCH).map(hot).collect();
        asked.iter().for_each(|asked| assert!(store.get(asked, &mut out), "it measures hits"));
        return Some(Box::new(move || {
            for asked in &asked {
                black_box(store.get(black_box(asked), &mut out));
            }
        }));
    }
    let mut asked = Asked::new(0, 0);
    let mut number = fill;
    Some(Box::new(move || {
        for _ in 0..BATCH {
            number += 1;
            asked.set(number);
            asked.worker = number as usize % WORKERS;
            if !store.get(black_box(&asked), &mut out) {
                store.put(&asked);
            }
        }
    }))
}

fn main() {
    if let Ok(what) = std::env::var("CORELANE_FIGURE") {
        println!("{}", figure(&what));
        return;
    }
    if std::env::args().any(|argument| argument == "figures") {
        figures();
        return;
    }
    if let Ok(wanted) = std::env::var("CORELANE_COUNT") {
        let (name, rounds) = wanted.split_once(':').expect("CORELANE_COUNT=NAME:ROUNDS");
        let mut round = piece(name).expect("a piece");
        (0..rounds.parse().expect("a number of rounds")).for_each(|_: u32| round());
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("cache");
    group.throughput(Throughput::Elements(BATCH));
    for name in PIECES {
        let mut round = piece(name).expect("a piece");
        group.bench_function(name, |bench| bench.iter(&mut round));
    }
    group.finish();
    criterion.final_summary();
}
