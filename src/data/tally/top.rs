//! Who asks: the clients and names that a worker meets most often, in fixed memory.
//!
//! Space-saving (Metwally, Agrawal and El Abbadi, 2005) over a sample of the queries, a table for
//! each of [`By`]: a key that has no place takes that of the rarest, and its count from there, which
//! is noted as its error. A table is cut into buckets of `TOP_WAYS` places by a keyed hash, so that
//! finding a key, or the rarest, is a look at one bucket; nobody who does not know the hash can
//! choose names that crowd each other out.
//!
//! Of each batch one query at most is looked at, by chance, and counts for as many as the batch has:
//! under load that is one of many, on a quiet server every one. Small batches that come thick, more than
//! `TOP_SAMPLES_MAX` a second, are passed over but for one query in `TOP_PERIOD_QUERIES`. Whether
//! a query is looked at hangs on nothing that it holds, so every estimate is without bias. Queries that
//! waited are all counted by what they waited.
//!
//! Counts fade: they are halved every `TOP_HALVING_NANOS`, and so is the time that they are divided
//! by, which makes them rates of the last half minute or so.
//!
//! Guarantees: one writer, a worker; what a reader sees of a place belongs together (a version is read
//! before and after). What is shown of a key is what is sure of it: its count without its error. No
//! lock, no allocation, no system call but where a table is read.
//!
//! Cost: about 250 instructions a batch, four for each query of a full one; 120 KiB a worker.

use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering, Ordering::Relaxed, fence};

use foldhash::fast::RandomState;
use foldhash::{HashMap, HashMapExt};

use super::{CoreTally, Tally};
use crate::data::clock::{self, Nanos, SECOND};
use crate::limits::{
    TOP_BUCKETS, TOP_HALVING_NANOS, TOP_PERIOD_QUERIES, TOP_READS_MAX, TOP_SAMPLES_MAX, TOP_WAYS,
};
use crate::wire::{Name, NameBuf};

/// What is ranked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Clients, by the queries that they send.
    Client,
    /// Names, by the queries for them.
    Name,
    /// Names that do not exist, likewise.
    Missing,
    /// Names whose queries wait (for upstreams, mostly), by the time that they wait.
    Waiting,
}

/// Everything that is ranked, with the words of labels and of the status page.
pub const ALL: [(By, &str); 4] = [
    (By::Client, "client"),
    (By::Name, "name"),
    (By::Missing, "nxdomain"),
    (By::Waiting, "waiting"),
];

/// Who or what has a rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// A client.
    Client(IpAddr),
    /// A name, lower-cased.
    Name(NameBuf),
}

/// One of the top.
#[derive(Clone, Debug)]
pub struct Ranked {
    /// Whose rank it is.
    pub who: Who,
    /// Queries a second.
    pub queries: f64,
    /// Seconds that they waited, a second: as many queries as wait at a time. Only of
    /// [`By::Waiting`].
    pub waiting: f64,
}

/// The top of a table, and what all of it comes to.
#[derive(Clone, Debug, Default)]
pub struct Ranking {
    /// The highest first.
    pub top: Vec<Ranked>,
    /// Queries a second, of all, those without a rank too.
    pub queries: f64,
}

/// A query counts for so much, so that halving loses nothing of weight.
const ONE: u64 = 1 << 10;
/// Words of a client's address, of a name in wire form.
const CLIENT_WORDS: usize = 2;
const NAME_WORDS: usize = 32;

const _: () = assert!(TOP_BUCKETS.is_power_of_two());
const _: () = assert!(NAME_WORDS * 8 > crate::limits::NAME_BYTES_MAX);

/// Places of one part of the keys. `weights` is what is ranked by.
#[repr(align(64))]
struct Bucket<const WORDS: usize> {
    hashes: [AtomicU64; TOP_WAYS],
    weights: [AtomicU64; TOP_WAYS],
    errors: [AtomicU64; TOP_WAYS],
    /// Queries since the key has the place.
    queries: [AtomicU64; TOP_WAYS],
    /// Odd while a place changes hands.
    version: AtomicU64,
    keys: [[AtomicU64; WORDS]; TOP_WAYS],
}

/// A place as a reader has copied it.
struct Seen<const WORDS: usize> {
    weight: u64,
    queries: u64,
    key: [u64; WORDS],
}

fn add(cell: &AtomicU64, n: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
}

impl<const WORDS: usize> Bucket<WORDS> {
    fn new() -> Self {
        let zeros = || [const { AtomicU64::new(0) }; TOP_WAYS];
        Self {
            hashes: zeros(),
            weights: zeros(),
            errors: zeros(),
            queries: zeros(),
            version: AtomicU64::new(0),
            keys: [const { [const { AtomicU64::new(0) }; WORDS] }; TOP_WAYS],
        }
    }

    #[inline]
    fn add(&self, hash: u64, key: &[u8], weight: u64, queries: u64) {
        let found = self.hashes.iter().position(|known| known.load(Relaxed) == hash);
        match found {
            Some(way) => {
                add(&self.weights[way], weight);
                add(&self.queries[way], queries);
            }
            None => self.take_over(hash, key, weight, queries),
        }
    }

    /// Gives the place of the rarest to a new key.
    fn take_over(&self, hash: u64, key: &[u8], weight: u64, queries: u64) {
        let mut way = 0;
        for other in 1..TOP_WAYS {
            if self.weights[other].load(Relaxed) < self.weights[way].load(Relaxed) {
                way = other;
            }
        }
        let version = self.version.load(Relaxed);
        self.version.store(version + 1, Relaxed);
        // Pairs with the fence in `read`: who sees anything of what follows sees the odd version.
        fence(Ordering::Release);
        let least = self.weights[way].load(Relaxed);
        self.hashes[way].store(hash, Relaxed);
        self.errors[way].store(least, Relaxed);
        self.weights[way].store(least + weight, Relaxed);
        self.queries[way].store(queries, Relaxed);
        for (word, octets) in self.keys[way].iter().zip(key.chunks(8)) {
            let mut whole = [0; 8];
            whole[..octets.len()].copy_from_slice(octets);
            word.store(u64::from_ne_bytes(whole), Relaxed);
        }
        self.version.store(version + 2, Ordering::Release);
    }

    fn halve(&self, times: u32) {
        for cells in [&self.weights, &self.errors, &self.queries] {
            cells.iter().for_each(|cell| cell.store(cell.load(Relaxed) >> times, Relaxed));
        }
    }

    /// What a place holds; none if it changes hands whenever it is looked at.
    fn read(&self, way: usize) -> Option<Seen<WORDS>> {
        for _ in 0..TOP_READS_MAX {
            let version = self.version.load(Ordering::Acquire);
            let weight = self.weights[way].load(Relaxed);
            let seen = Seen {
                weight: weight.saturating_sub(self.errors[way].load(Relaxed)),
                queries: self.queries[way].load(Relaxed),
                key: std::array::from_fn(|at| self.keys[way][at].load(Relaxed)),
            };
            fence(Ordering::Acquire);
            if version & 1 == 0 && self.version.load(Relaxed) == version {
                return Some(seen);
            }
            std::hint::spin_loop();
        }
        None
    }
}

/// One ranking of one core.
struct Table<const WORDS: usize> {
    buckets: Box<[Bucket<WORDS>]>,
    /// Queries of all keys.
    queries: AtomicU64,
}

impl<const WORDS: usize> Table<WORDS> {
    fn new() -> Self {
        let buckets = (0..TOP_BUCKETS).map(|_| Bucket::new()).collect();
        Self { buckets, queries: AtomicU64::new(0) }
    }

    #[inline]
    fn add(&self, hash: u64, key: &[u8], weight: u64, queries: u64) {
        add(&self.queries, queries);
        // The low bits are the bucket; all of them tell keys apart.
        if let Some(bucket) = self.buckets.get(hash as usize & (TOP_BUCKETS - 1)) {
            bucket.add(hash, key, weight, queries);
        }
    }

    fn halve(&self, times: u32) {
        self.buckets.iter().for_each(|bucket| bucket.halve(times));
        self.queries.store(self.queries.load(Relaxed) >> times, Relaxed);
    }

    /// Adds what is held, by key, each times `scale`; gives the queries of all.
    fn collect(&self, scale: f64, into: &mut HashMap<Vec<u8>, (f64, f64)>) -> f64 {
        for bucket in &self.buckets {
            for way in 0..TOP_WAYS {
                let Some(seen) = bucket.read(way).filter(|seen| seen.weight > 0) else { continue };
                let key = seen.key.iter().flat_map(|word| word.to_ne_bytes()).collect();
                let sum = into.entry(key).or_insert((0.0, 0.0));
                sum.0 += seen.weight as f64 * scale;
                sum.1 += seen.queries as f64 * scale;
            }
        }
        self.queries.load(Relaxed) as f64 * scale
    }
}

/// All rankings of one core.
pub(super) struct Top {
    seed: RandomState,
    clients: Table<CLIENT_WORDS>,
    names: Table<NAME_WORDS>,
    missing: Table<NAME_WORDS>,
    waiting: Table<NAME_WORDS>,
    /// When the counts were last halved, and the time that they stand for since, halved as often.
    halved_at: AtomicU64,
    span: AtomicU64,
    /// The end of the second in which `taken` queries have been looked at.
    due: AtomicU64,
    taken: AtomicU64,
    /// State of the generator that picks.
    random: AtomicU64,
}

impl Top {
    pub(super) fn new(seed: &RandomState, core: usize) -> Self {
        Self {
            seed: seed.clone(),
            clients: Table::new(),
            names: Table::new(),
            missing: Table::new(),
            waiting: Table::new(),
            halved_at: AtomicU64::new(clock::now()),
            span: AtomicU64::new(0),
            due: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            // Xorshift stops at 0.
            random: AtomicU64::new(seed.hash_one(core) | 1),
        }
    }

    /// A number below `bound`: xorshift64 (Marsaglia, 2003), good enough to pick by.
    #[inline]
    fn below(&self, bound: u32) -> u32 {
        let mut x = self.random.load(Relaxed);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.store(x, Relaxed);
        (((x >> 32) * u64::from(bound)) >> 32) as u32
    }

    #[cold]
    fn next_second(&self, now: Nanos) {
        self.due.store(now + SECOND, Relaxed);
        self.taken.store(0, Relaxed);
        let (times, halved_at, span) = self.faded(now);
        if times != 0 {
            self.clients.halve(times);
            self.names.halve(times);
            self.missing.halve(times);
            self.waiting.halve(times);
            self.span.store(span, Relaxed);
            self.halved_at.store(halved_at, Relaxed);
        }
    }

    /// How often counts are still to be halved until `now`, when the last of it would have been,
    /// and the time that they stand for then.
    fn faded(&self, now: Nanos) -> (u32, Nanos, Nanos) {
        let halved_at = self.halved_at.load(Relaxed);
        let times = (now.saturating_sub(halved_at) / TOP_HALVING_NANOS).min(u64::from(ONE.ilog2()));
        let halve = |span, _| (span + TOP_HALVING_NANOS) / 2;
        let span = (0..times).fold(self.span.load(Relaxed), halve);
        let all = now.saturating_sub(halved_at) / TOP_HALVING_NANOS;
        (times as u32, halved_at + all * TOP_HALVING_NANOS, span)
    }

    /// By what counts are multiplied to be rates.
    fn scale(&self, now: Nanos) -> f64 {
        let (times, halved_at, span) = self.faded(now);
        // In the first second too: one query is no thousand a second.
        let span = (span + now.saturating_sub(halved_at)).max(SECOND);
        0.5_f64.powi(times as i32) / (span as f64 / SECOND as f64)
    }
}

impl CoreTally {
    /// Which query of a batch of `count` is to be counted, if one is, and for how many it counts.
    #[inline]
    pub fn pick(&self, count: usize, now: Nanos) -> Option<(usize, u64)> {
        let top = &*self.top;
        if now >= top.due.load(Relaxed) {
            top.next_second(now);
        }
        let taken = top.taken.load(Relaxed);
        let count = count as u32;
        let many = taken >= TOP_SAMPLES_MAX;
        let period = if many { count.max(TOP_PERIOD_QUERIES) } else { count };
        let at = top.below(period);
        if at >= count {
            return None;
        }
        top.taken.store(taken + 1, Relaxed);
        Some((at as usize, u64::from(period)))
    }

    /// Counts a client's queries.
    #[inline]
    pub fn asks(&self, client: IpAddr, queries: u64) {
        let (top, octets) = (&*self.top, octets(client));
        let weight = queries * ONE;
        top.clients.add(top.seed.hash_one(octets), &octets, weight, weight);
    }

    /// Counts queries for a name, which is lower-cased; `missing`: it does not exist.
    #[inline]
    pub fn asked(&self, lower: Name<'_>, queries: u64, missing: bool) {
        let (top, octets) = (&*self.top, lower.as_bytes());
        let (hash, weight) = (top.seed.hash_one(octets), queries * ONE);
        top.names.add(hash, octets, weight, weight);
        if missing {
            top.missing.add(hash, octets, weight, weight);
        }
    }

    /// Counts a query for a name, which is lower-cased, that has waited; `missing`: only now it is
    /// known that the name does not exist.
    pub fn waited(&self, lower: Name<'_>, nanos: Nanos, missing: bool) {
        let (top, octets) = (&*self.top, lower.as_bytes());
        let hash = top.seed.hash_one(octets);
        top.waiting.add(hash, octets, nanos, ONE);
        if missing {
            top.missing.add(hash, octets, ONE, ONE);
        }
    }
}

/// An address as a key: that of IPv4 mapped into IPv6.
fn octets(client: IpAddr) -> [u8; 16] {
    match client {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn client(key: &[u8]) -> Option<Who> {
    let octets: [u8; 16] = key.try_into().ok()?;
    Some(Who::Client(Ipv6Addr::from(octets).to_canonical()))
}

fn name(key: &[u8]) -> Option<Who> {
    let (name, _) = Name::from_wire(key).ok()?;
    Some(Who::Name(NameBuf::lowered(name)))
}

impl Tally {
    /// The highest `most` of a ranking, of all cores together, at `now`.
    pub fn top(&self, by: By, now: Nanos, most: usize) -> Ranking {
        let mut sums = HashMap::new();
        let mut queries = 0.0;
        for top in &self.tops {
            let scale = top.scale(now);
            queries += match by {
                By::Client => top.clients.collect(scale, &mut sums),
                By::Name => top.names.collect(scale, &mut sums),
                By::Missing => top.missing.collect(scale, &mut sums),
                By::Waiting => top.waiting.collect(scale, &mut sums),
            };
        }
        let mut sums: Vec<_> = sums.into_iter().collect();
        // Of equals in the order of their octets: a page that is loaded again does not jump.
        sums.sort_by(|one, two| two.1.0.total_cmp(&one.1.0).then_with(|| one.0.cmp(&two.0)));
        let ranked = |(key, (weight, queries)): (Vec<u8>, (f64, f64))| {
            let who = if by == By::Client { client(&key) } else { name(&key) }?;
            let (queries, waiting) = match by {
                By::Waiting => (queries / ONE as f64, weight / SECOND as f64),
                _ => (weight / ONE as f64, 0.0),
            };
            Some(Ranked { who, queries, waiting })
        };
        let top = sums.into_iter().filter_map(ranked).take(most).collect();
        Ranking { top, queries: queries / ONE as f64 }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::data::rng::Rng;

    fn named(text: &str) -> NameBuf {
        NameBuf::parse(text).expect("a name")
    }

    fn names(ranking: &Ranking) -> Vec<String> {
        let text = |ranked: &Ranked| match &ranked.who {
            Who::Name(name) => name.to_string(),
            Who::Client(client) => client.to_string(),
        };
        ranking.top.iter().map(text).collect()
    }

    fn start(tally: &Arc<Tally>) -> Nanos {
        tally.tops[0].halved_at.load(Relaxed)
    }

    #[test]
    fn a_quiet_server_is_counted_whole() {
        let tally = Tally::new(2);
        let begin = start(&tally);
        let (one, two) = (tally.core(0), tally.core(1));
        for second in 0..10 {
            let now = begin + second * SECOND;
            for core in [&one, &two] {
                assert_eq!(core.pick(1, now), Some((0, 1)));
                core.asks("192.0.2.1".parse().unwrap(), 1);
                core.asked(named("a.example").as_name(), 1, false);
            }
            one.asks("2001:db8::1".parse().unwrap(), 1);
            one.asked(named("b.example").as_name(), 1, true);
        }
        let now = begin + 10 * SECOND;
        let clients = tally.top(By::Client, now, 10);
        assert_eq!(names(&clients), ["192.0.2.1", "2001:db8::1"]);
        assert!((clients.top[0].queries - 2.0).abs() < 0.01, "{clients:?}");
        assert!((clients.queries - 3.0).abs() < 0.01);
        assert_eq!(names(&tally.top(By::Missing, now, 10)), ["b.example."]);
        assert_eq!(names(&tally.top(By::Name, now, 1)), ["a.example."]);
    }

    #[test]
    fn what_waits_is_ranked_by_its_time() {
        let tally = Tally::new(1);
        let begin = start(&tally);
        let core = tally.core(0);
        (0..40).for_each(|_| core.waited(named("often").as_name(), SECOND / 100, true));
        (0..2).for_each(|_| core.waited(named("long").as_name(), 3 * SECOND, false));
        let waiting = tally.top(By::Waiting, begin + 10 * SECOND, 10);
        assert_eq!(names(&waiting), ["long.", "often."]);
        assert!((waiting.top[0].waiting - 0.6).abs() < 0.01 && waiting.top[0].queries < 0.21);
        assert!((waiting.top[1].queries - 4.0).abs() < 0.01);
        assert_eq!(names(&tally.top(By::Missing, begin + SECOND, 10)), ["often."]);
    }

    #[test]
    fn rates_hold_over_halvings_and_fade() {
        let tally = Tally::new(1);
        let begin = start(&tally);
        let core = tally.core(0);
        let mut now = begin;
        for _ in 0..1000 {
            now += SECOND / 10;
            assert!(core.pick(1, now).is_some());
            core.asked(named("steady").as_name(), 5, false);
        }
        let rate = |at| tally.top(By::Name, at, 1).top.first().map_or(0.0, |top| top.queries);
        assert!((rate(now) - 50.0).abs() < 0.5, "{}", rate(now));
        // Nobody asks any more: the writer does nothing, and readers see it fade.
        assert!(rate(now + 4 * TOP_HALVING_NANOS) < 5.0);
        // And so they do when somebody asks again.
        core.pick(1, now + 4 * TOP_HALVING_NANOS);
        assert!(rate(now + 4 * TOP_HALVING_NANOS) < 5.0);
    }

    #[test]
    fn heavy_names_stand_out_of_many() {
        let tally = Tally::new(1);
        let begin = start(&tally);
        let core = tally.core(0);
        let mut rng = Rng::from_seed(7);
        let heavy: Vec<NameBuf> = (0..5).map(|n| named(&format!("heavy-{n}.example"))).collect();
        for n in 0..200_000_u32 {
            let name = match rng.below(10) {
                0..5 => heavy[rng.below(5) as usize],
                _ => named(&format!("random-{n}.example")),
            };
            core.asked(name.as_name(), 1, false);
        }
        let ranking = tally.top(By::Name, begin + 10 * SECOND, 5);
        assert!(names(&ranking).iter().all(|name| name.starts_with("heavy-")), "{ranking:?}");
        // A tenth of 20,000 a second each; never more than there were.
        for ranked in &ranking.top {
            assert!(ranked.queries > 1_900.0 && ranked.queries < 2_100.0, "{ranked:?}");
        }
        let all = tally.top(By::Name, begin + 10 * SECOND, usize::MAX);
        assert!(all.top.len() <= TOP_BUCKETS * TOP_WAYS);
        assert!((all.queries - 20_000.0).abs() < 1.0);
    }

    /// Batches of every size and at every pace stand for as many queries as there are.
    #[test]
    fn what_is_picked_stands_for_all() {
        for (size, pause) in [(1, SECOND / 100), (64, SECOND / 100_000), (3, SECOND / 100_000)] {
            let tally = Tally::new(1);
            let core = tally.core(0);
            let (mut now, mut stands_for, mut picked) = (start(&tally), 0, [0_u64; 64]);
            let batches = 400_000;
            for _ in 0..batches {
                now += pause;
                if let Some((at, weight)) = core.pick(size, now) {
                    picked[at] += weight;
                    stands_for += weight;
                }
            }
            let wanted = batches * size as u64;
            assert!(stands_for.abs_diff(wanted) * 50 < wanted, "{size}: {stands_for}");
            // Each place in a batch as often.
            for part in &picked[..size] {
                assert!(part.abs_diff(batches) * 8 < batches, "{size}: {picked:?}");
            }
        }
    }

    /// A reader beside the writer never sees a key with the parts of two.
    #[test]
    fn places_that_change_hands_are_read_whole() {
        let tally = Tally::new(1);
        let (core, done) = (tally.core(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let core = core;
                for n in 0..60_000_u32 {
                    let label = char::from(b'a' + (n % 26) as u8).to_string().repeat(60);
                    let name = named(&format!("{label}.{label}.{label}.{label}"));
                    core.asked(name.as_name(), 1, false);
                }
                done.store(true, Ordering::Release);
            });
            while !done.load(Ordering::Acquire) {
                for name in names(&tally.top(By::Name, clock::now(), usize::MAX)) {
                    let letters = name.chars().filter(|c| *c != '.');
                    let first = name.chars().next();
                    assert!(letters.clone().count() == 240, "{name}");
                    assert!(letters.clone().all(|c| Some(c) == first), "{name}");
                }
            }
        });
    }
}
