//! Replays the fuzz targets' corpora on stable Rust: a seed that once mattered keeps to matter.

use std::path::Path;

#[path = "fuzz/bodies.rs"]
mod bodies;

fn replay(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let mut seeds = 0;
    for entry in std::fs::read_dir(folder).expect("a corpus") {
        let path = entry.expect("an entry").path();
        body(&std::fs::read(&path).expect("a seed"));
        seeds += 1;
    }
    assert!(seeds > 0, "no seeds for {target}");
}

#[test]
fn query_parse() {
    replay("query_parse", bodies::query_parse);
}

#[test]
fn records() {
    replay("records", bodies::records_of);
}

#[test]
fn reply_edit() {
    replay("reply_edit", bodies::reply_edit);
}

#[test]
fn upstream_reply() {
    replay("upstream_reply", bodies::upstream_reply);
}
