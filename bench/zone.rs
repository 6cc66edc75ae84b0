//! The zone engine: look-ups in a hot zone of 10,000 names and a cold one of 1,000,000, with and
//! without hints; loading 1,000,000 records, with the memory that it takes.

use corelane::wire::{Flags, NameBuf, Question, Reply, rclass, rtype};
use corelane::zone::{Zone, ZoneBuilder, scan};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Queries of one batch: as many as the server receives at once.
const BATCH: usize = 64;

fn zone_file(names: usize) -> String {
    let mut text = String::from(
        "$TTL 300\n@ SOA ns1 host 1 7200 900 1209600 300\n@ NS ns1\n@ NS ns2\nns1 A 192.0.2.1\n",
    );
    for i in 0..names {
        let _ =
            writeln!(text, "host-{i} 300 IN A 10.{}.{}.{}", i >> 16 & 255, i >> 8 & 255, i & 255);
    }
    text
}

fn zone(text: &str) -> Zone {
    let origin = NameBuf::parse("bench.example.").expect("a name");
    let mut builder = ZoneBuilder::new(&origin, text.len());
    scan(text.as_bytes(), Path::new("bench"), origin.as_name().as_bytes(), &mut |entry| {
        builder.push(entry.owner, entry.rtype, entry.ttl, entry.rdata)
    })
    .expect("a zone file");
    builder.finish().expect("a zone")
}

/// Nanoseconds that this thread has run.
fn running() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Octets resident, now and at most.
fn resident() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    (field("VmRSS"), field("VmHWM"))
}

/// Names in an order that no cache foresees.
fn questions(names: usize, count: usize) -> Vec<NameBuf> {
    let mut state = 1u64;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % names
    };
    let name = |i| NameBuf::parse(&format!("host-{i}.bench.example.")).expect("a name");
    (0..count).map(|_| name(next())).collect()
}

fn ask(zone: &Zone, name: &NameBuf, reply: &mut Reply) {
    let lower = name.as_name();
    let question = Question { name: lower, lower, rtype: rtype::A, rclass: rclass::IN };
    reply.start(1, Flags::default(), question);
    black_box(zone.answer(question, false, reply));
    black_box(reply.len());
}

fn lookups(criterion: &mut Criterion, label: &str, zone: &Zone, names: usize) {
    let asked = questions(names, (names / 4).max(BATCH) / BATCH * BATCH);
    let mut reply = Reply::new(vec![0; 4096].into_boxed_slice());
    let mut group = criterion.benchmark_group(label);
    group.throughput(Throughput::Elements(BATCH as u64));
    let mut batches = asked.chunks_exact(BATCH).cycle();
    group.bench_function("plain", |bench| {
        bench.iter(|| {
            for name in batches.next().unwrap_or_default() {
                ask(zone, name, &mut reply);
            }
        });
    });
    group.bench_function("hinted", |bench| {
        bench.iter(|| {
            let batch = batches.next().unwrap_or_default();
            for name in batch {
                zone.hint(name.as_name());
            }
            for name in batch {
                ask(zone, name, &mut reply);
            }
        });
    });
    group.bench_function("start only", |bench| {
        bench.iter(|| {
            for name in batches.next().unwrap_or_default() {
                let lower = name.as_name();
                let question = Question { name: lower, lower, rtype: rtype::A, rclass: rclass::IN };
                reply.start(1, Flags::default(), question);
                black_box(reply.len());
            }
        });
    });
    group.finish();
}

#[allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "it measures, and prints")]
fn load_and_look_up(criterion: &mut Criterion) {
    let path = std::env::temp_dir().join(format!("corelane-bench-{}.zone", std::process::id()));
    if std::fs::write(&path, zone_file(1_000_000)).is_err() {
        return;
    }
    let before = resident();
    let (started, ran) = (Instant::now(), running());
    let origin = NameBuf::parse("bench.example.").expect("a name");
    let big = Zone::load(&path, &origin).expect("a zone");
    let (took, ran) = (started.elapsed(), (running() - ran) / 1_000_000);
    let after = resident();
    println!(
        "load of {} records: {took:.2?} ({ran} ms of processor), {} octets held, \
         resident {} before, {} after, {} at most",
        big.records(),
        big.bytes(),
        before.0,
        after.0,
        after.1
    );
    lookups(criterion, "hot zone of 10,000", &zone(&zone_file(10_000)), 10_000);
    lookups(criterion, "cold zone of 1,000,000", &big, 1_000_000);
    let _ = std::fs::remove_file(path);
}

criterion_group!(benches, load_and_look_up);
criterion_main!(benches);
