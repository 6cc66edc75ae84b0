//! `bench/compare`, on a package that is small enough to be built twice here: its base is another
//! program than ours, and what has grown by more than the bound is refused.

#![allow(clippy::disallowed_macros, reason = "a test says on its output what it skips")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A bench as `bench/count` asks for it. What a query costs is a number of turns in the library.
const BENCH: &str = r#"
const PIECES: [&str; 2] = ["batch", "other"];
fn main() {
    let asked = std::env::var("CORELANE_COUNT").expect("for bench/count alone");
    let (piece, rounds) = asked.split_once(':').expect("PIECE:ROUNDS");
    assert!(PIECES.contains(&piece));
    for _ in 0..rounds.parse::<usize>().expect("a number") * 64 {
        pieces::query();
    }
}
"#;
const MANIFEST: &str = r#"
[package]
name = "pieces"
version = "0.1.0"
edition = "2024"
[[bench]]
name = "chain"
path = "bench/chain.rs"
harness = false
[workspace]
"#;
const LOCK: &str = "version = 4\n\n[[package]]\nname = \"pieces\"\nversion = \"0.1.0\"\n";

fn library(turns: usize) -> String {
    format!(
        "pub fn query() {{\n    (0..{turns}).for_each(|n| drop(std::hint::black_box(n)));\n}}\n"
    )
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|said| said.status.success())
}

fn git(top: &Path, words: &[&str]) {
    let name = ["-c", "user.name=test", "-c", "user.email=test@localhost"];
    let said = Command::new("git").args(name).args(words).current_dir(top).output().unwrap();
    assert!(said.status.success(), "{said:?}");
}

/// A repository of one commit, in which a query takes a hundred turns.
fn repository() -> PathBuf {
    let top = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let top = top.join(format!("bench-compare-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&top);
    for (name, text) in [
        ("Cargo.toml", MANIFEST),
        ("Cargo.lock", LOCK),
        (".gitignore", "target\n"),
        ("bench/chain.rs", BENCH),
        ("src/lib.rs", &library(100)),
    ] {
        let path = top.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    for name in ["count", "compare"] {
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench").join(name);
        std::fs::copy(ours, top.join("bench").join(name)).unwrap();
    }
    git(&top, &["init", "--quiet"]);
    git(&top, &["add", "."]);
    git(&top, &["commit", "--quiet", "--message", "One hundred turns"]);
    top
}

/// The working tree, with so many turns a query, beside the commit.
fn compared(top: &Path, turns: usize) -> Output {
    std::fs::write(top.join("src/lib.rs"), library(turns)).unwrap();
    let mut command = Command::new(top.join("bench/compare"));
    command.args(["HEAD", "--profile", "dev"]).current_dir(top);
    command.env_remove("CARGO_TARGET_DIR").output().expect("python3")
}

#[test]
fn what_a_query_costs_more_than_at_the_base_is_told() {
    if !is_there("valgrind") || !is_there("git") {
        eprintln!("skipped: instructions are counted with valgrind, and commits come from git");
        return;
    }
    let top = repository();
    // Each is told from the base itself, not from what was built here before.
    for (turns, status, rows) in [
        (110, 1, &["**too much**"][..]),
        (100, 0, &["| +0.0 % |", "| -0.0 % |"]),
        (90, 0, &["| -"]),
        (101, 0, &["| +"]),
        (110, 1, &["**too much**"]),
    ] {
        let found = compared(&top, turns);
        let table = String::from_utf8_lossy(&found.stdout);
        assert_eq!(found.status.code(), Some(status), "{turns} turns: {found:?}");
        let ours = table.lines().find(|line| line.starts_with("| chain: batch |"));
        let is_told = |line: &str| rows.iter().any(|row| line.contains(row));
        assert!(ours.is_some_and(is_told), "{turns} turns: {table}");
        assert!(!table.contains("other"), "not of the stock chain: {table}");
    }
    std::fs::remove_dir_all(&top).unwrap();
}
