//! The sub-commands as an operator runs them: files in, text and status out.
#![allow(clippy::disallowed_methods, reason = "the bans guard the query path")]

mod diff;
mod explain;
mod live;
#[path = "../ports/mod.rs"]
mod ports;

use std::path::PathBuf;
use std::process::Command;

/// What a command printed, and how it ended.
struct Ran {
    out: String,
    err: String,
    status: i32,
}

fn corelane(args: &[&str]) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_corelane")).args(args).output();
    let output = output.expect("a process");
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let status = output.status.code().expect("no signal ended it");
    Ran { out: text(&output.stdout), err: text(&output.stderr), status }
}

/// A file of a test's own, with this text; its path.
fn file(name: &str, text: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("commands");
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join(name);
    std::fs::write(&path, text).expect("a file");
    path.to_string_lossy().into_owned()
}
