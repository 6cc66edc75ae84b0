//! The fuzz target of expressions, on its seeds and on pieces of them, with stable Rust.

#[path = "fuzz/bodies_expression.rs"]
mod bodies;

/// Each seed, cut at each octet, with each octet left out, and with each octet another one.
fn pieces(seed: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let cut = (0..=seed.len()).map(|end| seed[..end].to_vec());
    let less = (0..seed.len()).map(|at| [&seed[..at], &seed[at + 1..]].concat());
    let other = (0..seed.len()).map(|at| {
        let mut piece = seed.to_vec();
        piece[at] = b"([.'0#-|"[at % 8];
        piece
    });
    cut.chain(less).chain(other)
}

#[test]
fn expression() {
    let directory = format!("{}/tests/fuzz/corpus/expression", env!("CARGO_MANIFEST_DIR"));
    let mut seeds = 0;
    for entry in std::fs::read_dir(directory).expect("the seeds") {
        let seed = std::fs::read(entry.expect("a seed").path()).expect("a seed");
        pieces(&seed).for_each(|piece| bodies::expression(&piece));
        seeds += 1;
    }
    assert!(seeds >= 8, "{seeds} seeds");
}
