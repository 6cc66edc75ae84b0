//! Entries are whole whatever is written beside them, bounds hold, and who is asked for again stays.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use foldhash::{HashMap, HashMapExt};
use proptest::prelude::{ProptestConfig, any, prop, proptest};

use super::*;
use crate::data::rng::Rng;
use crate::limits::STORE_SEGMENT_WORDS;

const SECOND: u64 = 1_000_000_000;

fn wanted(success: usize, denial: usize) -> Wanted {
    Wanted { entries_max: [success, denial], stale_nanos: 0, marks: true }
}

/// Spreads numbers as the hash of a name would be.
fn hash(number: u64) -> u64 {
    let mut rng = Rng::from_seed(number);
    rng.next_u64()
}

/// A message that tells its number and version in all its octets.
fn message(number: u64, version: u64, len: usize) -> Vec<u8> {
    let mut message = [number.to_le_bytes(), version.to_le_bytes()].concat();
    let mut rng = Rng::from_seed(number ^ version << 32);
    message.extend((16..len.max(16)).map(|_| rng.next_u64() as u8));
    message
}

fn item(message: &[u8]) -> Item<'_> {
    let class = Class::Success;
    Item { class, bits: 0, stored: SECOND, ttl: 60, note: 0, message, tail: &[], ttls: &[] }
}

fn put(table: &Table, number: u64, len: usize) {
    table.put(hash(number), item(&message(number, 0, len))).expect("room");
}

/// The message stored under a number, the TTLs in it left as they are.
fn get(table: &Table, class: Class, bits: u8, number: u64, out: &mut [u8]) -> Option<Vec<u8>> {
    let mut found = None;
    table.find(hash(number), |candidate| {
        if candidate.class() == class && candidate.bits() == bits {
            let same = |message: &[u8], _: &[u8]| message.starts_with(&number.to_le_bytes());
            if let Read::Found(len, _) = table.read(candidate, hash(number), out, |_| 7, same) {
                found = Some(out[..len].to_vec());
            }
        }
    });
    found
}

fn has(table: &Table, number: u64) -> bool {
    get(table, Class::Success, 0, number, &mut [0; 4096]).is_some()
}

#[test]
fn what_was_put_is_found_under_its_own_key_only() {
    let table = Table::new(&Pool::new(8 << 20), wanted(1024, 1024));
    let (first, second) = (message(1, 1, 99), message(1, 2, 50));
    table.put(hash(1), Item { bits: 3, tail: b"tail", ttls: &[20, 30], ..item(&first) });
    table.put(hash(1), Item { bits: 3, class: Class::Denial, ..item(&second) });
    let out = &mut [0; 4096];
    let mut expected = first.clone();
    expected[20..24].copy_from_slice(&7_u32.to_be_bytes());
    expected[30..34].copy_from_slice(&7_u32.to_be_bytes());
    assert_eq!(get(&table, Class::Success, 3, 1, out), Some(expected));
    assert_eq!(out[99..103], *b"tail");
    assert_eq!(get(&table, Class::Denial, 3, 1, out), Some(second));
    assert_eq!(get(&table, Class::Success, 2, 1, out), None);
    assert_eq!(get(&table, Class::Success, 3, 2, out), None);
    assert_eq!((table.entries(Class::Success), table.entries(Class::Denial)), (1, 1));
    table.remove(hash(1), Class::Success, 3);
    assert_eq!(get(&table, Class::Success, 3, 1, out), None);
    assert_eq!((table.entries(Class::Success), table.entries(Class::Denial)), (0, 1));
}

#[test]
fn a_name_of_the_same_hash_is_not_taken_for_another() {
    let table = Table::new(&Pool::new(8 << 20), wanted(1024, 1024));
    table.put(hash(1), item(&message(1, 0, 40)));
    let mut outcome = None;
    table.find(hash(1), |candidate| {
        let other = |message: &[u8], _: &[u8]| message.starts_with(&2_u64.to_le_bytes());
        outcome = Some(table.read(candidate, hash(1), &mut [0; 64], |_| 0, other));
    });
    assert_eq!(outcome, Some(Read::Gone));
    let mut short = None;
    table.find(hash(1), |candidate| {
        short = Some(table.read(candidate, hash(1), &mut [0; 39], |_| 0, |_, _| true));
    });
    assert_eq!(short, Some(Read::TooLong(40)));
}

#[test]
fn the_longest_message_fits_and_a_longer_one_is_refused() {
    let table = Table::new(&Pool::new(8 << 20), wanted(1024, 1024));
    let long = message(1, 0, 65_535);
    assert!(table.put(hash(1), item(&long)).is_some());
    assert_eq!(get(&table, Class::Success, 0, 1, &mut vec![0; 65_535]), Some(long.clone()));
    assert_eq!(table.put(hash(2), Item { tail: b"x", ..item(&long) }), None);
}

#[test]
fn capacities_hold_and_each_class_has_its_own() {
    let table = Table::new(&Pool::new(8 << 20), wanted(1024, 2048));
    for number in 0..10_000 {
        put(&table, number, 40);
        let denial = message(number, 0, 40);
        table.put(hash(number), Item { class: Class::Denial, ..item(&denial) });
    }
    assert_eq!((table.entries(Class::Success), table.entries(Class::Denial)), (1024, 2048));
    assert_eq!(table.take_evicted(Class::Success), 10_000 - 1024);
    assert_eq!(table.take_evicted(Class::Denial), 10_000 - 2048);
    assert_eq!(table.take_evicted(Class::Denial), 0);
    let left = (0..10_000).filter(|number| has(&table, *number)).count();
    assert_eq!(left, 1024, "what is counted is found");
}

#[test]
fn all_tables_share_one_budget() {
    let budget = 4 << 20;
    let pool = Pool::new(budget);
    let tables: Vec<_> = (0..10).map(|_| Table::new(&pool, wanted(1024, 1024))).collect();
    for number in 0..30_000_u64 {
        // The last table comes when the others have everything.
        let table = if number < 20_000 { &tables[number as usize % 9] } else { &tables[9] };
        put(table, number, 400 + (number % 700) as usize);
        assert!(pool.used() <= budget + budget / 10, "{} of {budget}", pool.used());
    }
    let held: Vec<_> = tables.iter().map(|table| table.held_words()).collect();
    let largest = held.iter().max().copied().unwrap_or(0);
    let share = budget / 8 / tables.len();
    let segments = 4 * STORE_SEGMENT_WORDS;
    let fair = held[9] + segments >= largest && largest < share + segments;
    assert!(fair, "each has its share: {held:?}");
    assert!(tables[9].entries(Class::Success) > 100);
    drop(tables);
    assert_eq!(pool.used(), 0, "nothing is lost to the budget");
}

#[test]
fn writing_an_entry_over_and_over_takes_no_more_room() {
    let pool = Pool::new(64 << 20);
    let table = Table::new(&pool, wanted(1024, 1024));
    for round in 0..2_000 {
        for number in 0..50 {
            table.put(hash(number), item(&message(number, round, 40 + (round % 997) as usize)));
        }
    }
    assert_eq!(table.entries(Class::Success), 50);
    assert!((0..50).all(|number| has(&table, number)));
    assert!(pool.used() < 2 << 20, "{}", pool.used());
}

#[test]
fn a_table_takes_all_that_it_is_made_for() {
    let table = Table::new(&Pool::new(64 << 20), wanted(9_984, 9_984));
    for number in 0..9_984 {
        put(&table, number, 40);
        let denial = message(number, 0, 40);
        table.put(hash(1 << 40 | number), Item { class: Class::Denial, ..item(&denial) });
    }
    let all = [Class::Success, Class::Denial];
    assert_eq!(all.map(|class| table.take_evicted(class)), [0, 0]);
    assert_eq!(all.map(|class| table.entries(class)), [9_984, 9_984]);
    assert!((0..9_984).all(|number| has(&table, number)));
}

#[test]
fn an_entry_takes_little_beside_its_message() {
    let pool = Pool::new(64 << 20);
    let table = Table::new(&pool, Wanted { marks: false, ..wanted(40_000, 0) });
    for number in 0..40_000 {
        let message = message(number, 0, 58);
        table.put(hash(number), Item { ttls: &[48], ..item(&message) });
    }
    assert_eq!(table.entries(Class::Success), 40_000);
    assert!(pool.used() < 40_000 * (58 + 48), "{} octets an entry", pool.used() / 40_000);
}

#[test]
fn the_budget_holds_all_that_a_table_has() {
    let pool = Pool::new(2 << 20);
    let table = Table::new(&pool, wanted(100_000, 100_000));
    assert_eq!(pool.used(), 0, "a table without entries has nothing of it");
    put(&table, 0, 60);
    let before = pool.used() - table.held_words() * 8;
    for number in 0..50_000 {
        put(&table, number, 60);
    }
    let ghosts = table.writer().ghost_bytes();
    assert!(ghosts > 0, "those that left are remembered");
    assert_eq!(pool.used(), before + table.held_words() * 8 + ghosts);
    assert_eq!(pool.used(), table.bytes());
    assert!(pool.used() <= pool.limit() + 2 * STORE_SEGMENT_WORDS * 8);
    drop(table);
    assert_eq!(pool.used(), 0);
}

#[test]
fn marks_are_a_names_own() {
    let table = Table::new(&Pool::new(8 << 20), wanted(1024, 1024));
    let slot = table.put(hash(1), item(&message(1, 0, 40))).expect("room");
    table.mark(slot, 1).expect("marks").store(9, Relaxed);
    assert_eq!(table.put(hash(1), item(&message(1, 1, 400))), Some(slot));
    assert_eq!(table.mark(slot, 1).expect("marks").load(Relaxed), 9, "the same name");
    table.remove(hash(1), Class::Success, 0);
    assert_eq!(table.put(hash(1), item(&message(1, 2, 40))), Some(slot));
    assert_eq!(table.mark(slot, 1).expect("marks").load(Relaxed), 0, "an entry of its own");
}

#[test]
fn a_scan_displaces_few_of_those_that_are_asked_for_again() {
    let table = Table::new(&Pool::new(64 << 20), wanted(10_240, 1024));
    let mut rng = Rng::from_seed(3);
    let hot = 4_000;
    let (mut asked, mut hits) = ([0, 0], [0, 0]);
    for step in 0..400_000_u64 {
        let scans = step >= 200_000;
        // Before the scan all go to the hot names, then every second one.
        let number = if scans && step % 2 == 0 { 1_000_000 + step } else { rng.below(hot).into() };
        if number < hot.into() && step > 100_000 {
            asked[usize::from(scans)] += 1;
            hits[usize::from(scans)] += u32::from(has(&table, number));
        }
        if !has(&table, number) {
            put(&table, number, 60);
        }
    }
    assert_eq!(hits[0], asked[0]);
    assert!(20 * hits[1] >= 19 * asked[1], "{} of {} during the scan", hits[1], asked[1]);
}

/// Hits of the least recently used policy with room for so many entries.
fn lru(requests: &[u64], entries: usize) -> usize {
    let (mut used, mut order) = (HashMap::new(), BTreeMap::new());
    let mut hits = 0;
    for (tick, number) in requests.iter().enumerate() {
        if let Some(old) = used.insert(*number, tick) {
            order.remove(&old);
            hits += 1;
        }
        order.insert(tick, *number);
        if order.len() > entries
            && let Some((_, oldest)) = order.pop_first()
        {
            used.remove(&oldest);
        }
    }
    hits
}

/// Numbers below `names`, the `n`th asked for with a weight of 1/n.
fn zipf(names: usize, count: usize) -> Vec<u64> {
    let mut sums = Vec::with_capacity(names);
    let mut sum = 0.0;
    for n in 1..=names {
        sum += 1.0 / n as f64;
        sums.push(sum);
    }
    let mut rng = Rng::from_seed(5);
    let mut one = || {
        let at = rng.next_u64() as f64 / u64::MAX as f64 * sum;
        sums.partition_point(|below| *below < at) as u64
    };
    (0..count).map(|_| one()).collect()
}

#[test]
fn a_zipf_load_hits_at_least_as_often_as_by_least_recently_used() {
    let requests = zipf(100_000, 500_000);
    let entries = 10_240;
    let table = Table::new(&Pool::new(64 << 20), wanted(entries, 1024));
    let mut hits = 0;
    for number in &requests {
        if has(&table, *number) {
            hits += 1;
        } else {
            put(&table, *number, 60);
        }
    }
    let ideal = lru(&requests, entries);
    assert!(hits >= ideal, "{hits} of {}, by least recently used {ideal}", requests.len());
}

/// Writers and readers of few names, of many lengths, with evictions: what is read is one of the
/// versions that were written, whole.
#[test]
fn readers_see_whole_entries_while_others_write() {
    let pool = Pool::new(1 << 20);
    // Of small tables, so that segments go from one to the other.
    let tables: Arc<[_]> = (0..3).map(|_| Table::new(&pool, wanted(1024, 1024))).collect();
    let over = Arc::new(AtomicBool::new(false));
    let found = Arc::new(AtomicU64::new(0));
    let readers = (0..3).map(|seed| {
        let (tables, over, found) = (Arc::clone(&tables), Arc::clone(&over), Arc::clone(&found));
        std::thread::spawn(move || {
            let mut rng = Rng::from_seed(seed);
            let mut out = vec![0; 8192];
            while !over.load(Relaxed) {
                let number = u64::from(rng.below(3000));
                let table = &tables[rng.below(3) as usize];
                let Some(read) = get(table, Class::Success, 0, number, &mut out) else { continue };
                let version = u64::from_le_bytes(*read[8..].first_chunk().expect("16 octets"));
                let whole = message(number, version, read.len());
                assert!(read == whole, "{number} is torn");
                found.fetch_add(1, Relaxed);
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    let writers = (10..12).map(|seed| {
        let tables = Arc::clone(&tables);
        std::thread::spawn(move || {
            let mut rng = Rng::from_seed(seed);
            for version in 0..20_000 {
                let number = u64::from(rng.below(3000));
                let table = &tables[rng.below(3) as usize];
                let len = [20, 60, 300, 4000][rng.below(4) as usize];
                let own = version << 8 | seed;
                table.put(hash(number), item(&message(number, own, len)));
                if rng.below(20) == 0 {
                    table.remove(hash(u64::from(rng.below(3000))), Class::Success, 0);
                }
            }
        })
    });
    writers.collect::<Vec<_>>().into_iter().for_each(|one| one.join().expect("writes"));
    over.store(true, Relaxed);
    readers.into_iter().for_each(|one| one.join().expect("no torn entry"));
    assert!(found.load(Relaxed) > 0, "somebody has read something");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Few TTLs or thousands, near each other or not, with a tail and without.
    #[test]
    fn every_ttl_is_set_and_nothing_else(
        gaps in prop::collection::vec((any::<bool>(), 4_u16..700), 0..3_000),
        tail in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        let near = |(far, gap): &(bool, u16)| if *far { *gap } else { 4 + gap % 20 };
        let sums = gaps.iter().map(near).scan(12_u32, |at, gap| {
            *at += u32::from(gap);
            (*at < 65_000).then_some(*at as u16)
        });
        let ttls: Vec<u16> = sums.collect();
        let len = ttls.last().map_or(40, |last| usize::from(*last) + 14);
        let new = message(1, 0, len);
        let table = Table::new(&Pool::new(8 << 20), wanted(1024, 1024));
        assert!(table.put(hash(1), Item { ttls: &ttls, tail: &tail, ..item(&new) }).is_some());
        let mut expected = new;
        for at in ttls {
            let at = usize::from(at);
            expected[at..at + 4].copy_from_slice(&7_u32.to_be_bytes());
        }
        let mut out = vec![0; 70_000];
        assert_eq!(get(&table, Class::Success, 0, 1, &mut out).as_ref(), Some(&expected));
        assert_eq!(&out[len..len + tail.len()], &tail[..]);
    }

    /// Against a map: what is found is what was put last, and what was not evicted is found.
    #[test]
    fn agrees_with_a_map(steps in prop::collection::vec(any::<(u8, u8, bool, u16)>(), 1..600)) {
        let table = Table::new(&Pool::new(64 << 20), wanted(1024, 1024));
        let mut map = HashMap::new();
        let mut out = vec![0; 70_000];
        let mut versions = VecDeque::from([0_u64]);
        for (number, bits, put, len) in steps {
            let (number, bits) = (u64::from(number), bits & 15);
            if put {
                let version = versions.pop_front().unwrap_or(0) + 1;
                versions.push_back(version);
                let new = message(number, version, usize::from(len) % 5_000);
                assert!(table.put(hash(number), Item { bits, ..item(&new) }).is_some());
                map.insert((number, bits), new);
            } else {
                table.remove(hash(number), Class::Success, bits);
                map.remove(&(number, bits));
            }
            assert_eq!(table.entries(Class::Success), map.len());
        }
        for ((number, bits), message) in &map {
            let found = get(&table, Class::Success, *bits, *number, &mut out);
            assert_eq!(found.as_ref(), Some(message));
        }
    }
}
