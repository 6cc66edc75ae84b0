//! The fuzz targets of the Corefile, on their seeds and on pieces of them, with stable Rust.

#[path = "fuzz/bodies_corefile.rs"]
mod bodies;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let directory = format!("{}/tests/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let entries = std::fs::read_dir(directory).expect("the seeds");
    let seeds: Vec<_> = entries
        .map(|entry| std::fs::read(entry.expect("a seed").path()).expect("a seed"))
        .collect();
    assert!(seeds.len() >= 5, "{} seeds", seeds.len());
    seeds
}

/// Each seed, cut at each octet, and with each line left out.
fn pieces(target: &str) -> impl Iterator<Item = Vec<u8>> {
    seeds(target).into_iter().flat_map(|seed| {
        let lines: Vec<Vec<u8>> =
            seed.split_inclusive(|&b| b == b'\n').map(<[u8]>::to_vec).collect();
        let mut pieces: Vec<Vec<u8>> = (0..=seed.len()).map(|end| seed[..end].to_vec()).collect();
        for i in 0..lines.len() {
            pieces.push([&lines[..i], &lines[i + 1..]].concat().concat());
        }
        pieces
    })
}

#[test]
fn corefile_lex() {
    pieces("corefile_lex").for_each(|piece| bodies::corefile_lex(&piece));
}

#[test]
fn corefile_parse() {
    pieces("corefile_parse").for_each(|piece| bodies::corefile_parse(&piece));
}
