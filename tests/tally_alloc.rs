//! Counting never allocates: a counting allocator watches a core count.

use corelane::data::tally::{BUCKETS_TIME, Family, Tally, families};

mod counting;

use counting::allocated;

static TIMES: Family = Family::histogram("t_seconds", &BUCKETS_TIME, &["zone"], "");

#[test]
fn counting_never_allocates() {
    let tally = Tally::new(2);
    let counter = tally.counter(&families::DO_REQUESTS, &["dns://:53", ".", ""]);
    let requests = tally.grid(&families::REQUESTS, &["dns://:53", ".", ""]);
    let times = tally.histogram(&TIMES, &["."]);
    let walks = tally.latency(&families::WALK, &[]);
    let core = tally.core(0);
    let before = allocated();
    for n in 0..100_000u64 {
        core.add(counter, 1);
        core.add(requests.at(&families::REQUESTS, [0, 1, n as usize % 20]), 1);
        core.observe(times, n * n);
        core.latency(walks, n * n);
    }
    assert_eq!(allocated(), before);
    assert_eq!(tally.value(counter), 100_000);
}
