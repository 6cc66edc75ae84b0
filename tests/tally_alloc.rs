//! Counting never allocates: a counting allocator watches a core count.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use corelane::data::tally::{BUCKETS_TIME, Family, Kind, Tally, families};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is handed to `System` unchanged; the count is a plain thread-local cell that
// needs neither allocation nor destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's contract is `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is `System`'s.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

static TIMES: Family =
    Family { name: "t_seconds", help: "", kind: Kind::Histogram(&BUCKETS_TIME), labels: &["zone"] };

#[test]
fn counting_never_allocates() {
    let tally = Tally::new(2);
    let counter = tally.counter(&families::DO_REQUESTS, &["dns://:53", ".", ""]);
    let requests = tally.grid(&families::REQUESTS, &["dns://:53", ".", ""]);
    let times = tally.histogram(&TIMES, &["."]);
    let walks = tally.latency(&families::WALK, &[]);
    let core = tally.core(0);
    let before = ALLOCATIONS.get();
    for n in 0..100_000u64 {
        core.add(counter, 1);
        core.add(requests.at(&families::REQUESTS, [0, 1, n as usize % 20]), 1);
        core.observe(times, n * n);
        core.latency(walks, n * n);
    }
    assert_eq!(ALLOCATIONS.get(), before);
    assert_eq!(tally.value(counter), 100_000);
    let kept = Box::new(before);
    assert!(ALLOCATIONS.get() > before, "the allocator counts (kept {kept})");
}
