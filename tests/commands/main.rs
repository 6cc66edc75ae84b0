//! The sub-commands as an operator runs them: files in, text and status out.
#![allow(clippy::disallowed_methods, reason = "the bans guard the query path")]

mod check;
mod diff;
mod explain;
mod live;
#[path = "../ports/mod.rs"]
mod ports;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// What a command printed, and how it ended.
struct Ran {
    out: String,
    err: String,
    status: i32,
}

fn corelane(args: &[&str]) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_corelane")).args(args).output();
    ran(output.expect("a process"))
}

/// A file of a test's own, with this text; its path.
fn file(name: &str, text: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("commands");
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join(name);
    std::fs::write(&path, text).expect("a file");
    path.to_string_lossy().into_owned()
}

/// Runs it with this text on its standard input.
fn corelane_fed(args: &[&str], text: &str) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    let command = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().expect("a process");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(text.as_bytes()).expect("written");
    drop(stdin);
    ran(child.wait_with_output().expect("an end"))
}

fn ran(output: Output) -> Ran {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let status = output.status.code().expect("no signal ended it");
    Ran { out: text(&output.stdout), err: text(&output.stderr), status }
}
