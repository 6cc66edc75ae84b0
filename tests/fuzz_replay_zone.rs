//! The fuzz target of zone files, on its seeds and on pieces of them, with stable Rust.

#[path = "fuzz/bodies_zone.rs"]
mod bodies;

/// Each seed, cut at each octet, with each line left out, and with each octet another one.
fn pieces(seed: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let lines: Vec<&[u8]> = seed.split_inclusive(|&b| b == b'\n').collect();
    let without = |i: usize| [&lines[..i], &lines[i + 1..]].concat().concat();
    let cut = (0..=seed.len()).map(|end| seed[..end].to_vec());
    let less: Vec<Vec<u8>> = (0..lines.len()).map(without).collect();
    let other = (0..seed.len()).map(|at| {
        let mut piece = seed.to_vec();
        piece[at] = b"\\\"($\n;\0\xff"[at % 8];
        piece
    });
    cut.chain(less).chain(other)
}

#[test]
fn zone_scan() {
    let directory = format!("{}/tests/fuzz/corpus/zone_scan", env!("CARGO_MANIFEST_DIR"));
    let mut seeds = 0;
    for entry in std::fs::read_dir(directory).expect("the seeds") {
        let seed = std::fs::read(entry.expect("a seed").path()).expect("a seed");
        pieces(&seed).for_each(|piece| bodies::zone_scan(&piece));
        seeds += 1;
    }
    assert!(seeds >= 8, "{seeds} seeds");
}
