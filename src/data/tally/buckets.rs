//! Where an observation falls: the bounds of CoreDNS's histograms, and log-linear cells of latency.
//!
//! Observations are integers (nanoseconds, octets), so bounds are too; a scale makes them seconds
//! on the page. A bucket holds what is at most its bound, as Prometheus has it (`le`).
//!
//! Cost: one leading-zeros count, one table byte, and as many comparisons as bounds share a power
//! of two (at most one for the time buckets, three for sizes of 256 to 511 octets).

/// Bounds of a histogram, ascending. What lies above the last falls into a bucket of its own.
pub struct Buckets {
    /// Inclusive upper bounds, in the unit of observation.
    pub bounds: &'static [u64],
    /// Units of observation in one unit of the page: 1e9 for nanoseconds shown as seconds.
    pub scale: f64,
    /// First bucket worth a look for a value of so many significant bits.
    start: [u8; 65],
}

impl Buckets {
    /// Buckets with these ascending bounds (fewer than 256).
    pub const fn new(bounds: &'static [u64], scale: f64) -> Buckets {
        assert!(!bounds.is_empty() && bounds.len() < 256);
        let mut start = [0u8; 65];
        let mut bits = 0;
        while bits < 65 {
            // The least value with this many bits decides: what is below it is behind us.
            let least = if bits == 0 { 0 } else { 1u64 << (bits - 1) };
            let mut at = 0;
            while at < bounds.len() && bounds[at] < least {
                at += 1;
            }
            start[bits] = at as u8;
            bits += 1;
        }
        let mut at = 1;
        while at < bounds.len() {
            assert!(bounds[at - 1] < bounds[at]);
            at += 1;
        }
        Buckets { bounds, scale, start }
    }

    /// The bucket of `value`: 0 to `bounds.len()`, the last being the one without a bound.
    #[inline]
    pub fn find(&self, value: u64) -> usize {
        let bits = 64 - value.leading_zeros() as usize;
        let mut at = self.start[bits] as usize;
        while at < self.bounds.len() && value > self.bounds[at] {
            at += 1;
        }
        at
    }

    /// Cells of one label set: a bucket per bound, one above, and the sum of what was observed.
    pub const fn cells(&self) -> usize {
        self.bounds.len() + 2
    }
}

/// `N` bounds from `first`, each `factor` times the one before.
const fn geometric<const N: usize>(first: u64, factor: u64) -> [u64; N] {
    let mut bounds = [first; N];
    let mut at = 1;
    while at < N {
        bounds[at] = bounds[at - 1] * factor;
        at += 1;
    }
    bounds
}

const NANOS: f64 = 1e9;

/// Durations of queries, observed in nanoseconds: 0.25 ms doubling to 8.192 s.
pub static BUCKETS_TIME: Buckets = Buckets::new(&geometric::<16>(250_000, 2), NANOS);
/// Durations that need little detail, observed in nanoseconds: 0.25 ms to 2.5 s by tens.
pub static BUCKETS_SLIM: Buckets = Buckets::new(&geometric::<5>(250_000, 10), NANOS);
/// Waits in a socket's queue, observed in nanoseconds: 4 µs doubling to 0.5 s.
pub static BUCKETS_QUEUE: Buckets = Buckets::new(&geometric::<18>(4_000, 2), NANOS);
/// How long a change of the cluster takes to be answered, in nanoseconds: 1 ms doubling to 524 s.
pub static BUCKETS_PROGRAMMING: Buckets = Buckets::new(&geometric::<20>(1_000_000, 2), NANOS);
/// Requests to the API server, observed in nanoseconds: 5 ms to 10 s.
pub static BUCKETS_REST: Buckets = Buckets::new(
    &[
        5_000_000,
        10_000_000,
        25_000_000,
        50_000_000,
        100_000_000,
        250_000_000,
        500_000_000,
        1_000_000_000,
        2_500_000_000,
        5_000_000_000,
        10_000_000_000,
    ],
    NANOS,
);
/// Sizes of messages, observed in octets.
pub static BUCKETS_SIZE: Buckets = Buckets::new(
    &[0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16000, 32000, 48000, 64000],
    1.0,
);

/// Smallest latency told apart: 2^6 = 64 ns.
const LATENCY_BITS_MIN: u32 = 6;
/// Powers of two from there: the last range ends at 2^34 ns, 17.2 s.
const LATENCY_RANGES: u32 = 28;
/// Parts of a power of two: a value is known to 1 part in 16.
const LATENCY_PARTS: u32 = 16;
/// Cells of one latency: one below the first range, the ranges, the sum.
pub const LATENCY_CELLS: usize = (1 + LATENCY_RANGES * LATENCY_PARTS + 1) as usize;

/// The cell of a latency of `ns`; what is above the last range is counted in its last cell.
#[inline]
pub fn latency_cell(ns: u64) -> usize {
    if ns < 1 << LATENCY_BITS_MIN {
        return 0;
    }
    let exponent = 63 - ns.leading_zeros();
    if exponent >= LATENCY_BITS_MIN + LATENCY_RANGES {
        return (LATENCY_RANGES * LATENCY_PARTS) as usize;
    }
    let part = (ns >> (exponent - 4)) as u32 & (LATENCY_PARTS - 1);
    (1 + (exponent - LATENCY_BITS_MIN) * LATENCY_PARTS + part) as usize
}

/// The largest latency, in nanoseconds, that the cell holds (the last holds all above, too).
pub fn latency_top(cell: usize) -> u64 {
    let Some(past) = cell.checked_sub(1) else { return (1 << LATENCY_BITS_MIN) - 1 };
    let (range, part) = (past as u32 / LATENCY_PARTS, past as u32 % LATENCY_PARTS);
    let step = 1u64 << (range + LATENCY_BITS_MIN - 4);
    (1u64 << (range + LATENCY_BITS_MIN)) + (part as u64 + 1) * step - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn linear(buckets: &Buckets, value: u64) -> usize {
        buckets.bounds.iter().position(|bound| value <= *bound).unwrap_or(buckets.bounds.len())
    }

    const ALL: [&Buckets; 5] =
        [&BUCKETS_TIME, &BUCKETS_SLIM, &BUCKETS_PROGRAMMING, &BUCKETS_REST, &BUCKETS_SIZE];

    #[test]
    fn bounds_are_those_of_coredns() {
        assert_eq!(BUCKETS_TIME.bounds[0], 250_000);
        assert_eq!(BUCKETS_TIME.bounds[15], 8_192_000_000);
        assert_eq!(BUCKETS_SLIM.bounds[4], 2_500_000_000);
        assert_eq!(BUCKETS_PROGRAMMING.bounds[19], 524_288_000_000);
    }

    #[test]
    fn a_bound_is_in_its_own_bucket() {
        for buckets in ALL {
            for (at, bound) in buckets.bounds.iter().enumerate() {
                assert_eq!(buckets.find(*bound), at);
                assert_eq!(buckets.find(bound + 1), at + 1);
            }
            assert_eq!(buckets.find(0), 0);
            assert_eq!(buckets.find(u64::MAX), buckets.bounds.len());
        }
    }

    proptest! {
        #[test]
        fn find_agrees_with_a_linear_search(bits in 0u32..64, low: u64) {
            let value = low >> bits;
            for buckets in ALL {
                prop_assert_eq!(buckets.find(value), linear(buckets, value));
            }
        }

        #[test]
        fn a_latency_is_known_to_a_sixteenth(bits in 29u32..58, low: u64) {
            let ns = low >> bits;
            let cell = latency_cell(ns);
            prop_assert!(cell + 1 < LATENCY_CELLS);
            if ns < 1 << 34 {
                let top = latency_top(cell);
                prop_assert!(ns <= top);
                prop_assert!(ns < 64 || top - ns <= ns / 16);
                prop_assert!(cell == 0 || latency_top(cell - 1) < ns);
            }
        }
    }
}
