//! What the program says of itself: the commit it was built from and the compiler that built it.
//!
//! A commit is found in this order: `CORELANE_COMMIT` in the environment (images, packages), the git
//! repository whose top is this folder, else `unknown` (a tarball). Only release builds look into git, so
//! that a commit does not make everybody's next debug build start again; those say `debug-build`.

#![allow(clippy::disallowed_macros, reason = "standard output is how a build script speaks")]

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=CORELANE_COMMIT");
    println!("cargo::rustc-env=CORELANE_COMMIT={}", commit());
    println!("cargo::rustc-env=CORELANE_RUSTC={}", rustc());
}

fn commit() -> String {
    if let Ok(given) = env::var("CORELANE_COMMIT") {
        return given;
    }
    if env::var("PROFILE").as_deref() == Ok("debug") {
        return "debug-build".to_owned();
    }
    git_commit().unwrap_or_else(|| "unknown".to_owned())
}

/// The commit of the repository that this folder is the top of; not of one that it happens to lie in.
fn git_commit() -> Option<String> {
    let here = Path::new(&env::var_os("CARGO_MANIFEST_DIR")?).canonicalize().ok()?;
    let top = Path::new(&git(&["rev-parse", "--show-toplevel"])?).canonicalize().ok()?;
    if here != top {
        return None;
    }
    // HEAD names a branch; its reflog changes with every commit. Cargo would run this script every
    // time for a path that is not there.
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", name])
            && Path::new(&path).exists()
        {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short=8", "HEAD"])
}

/// `rustc 1.89.0 (29483883e 2025-08-04)` becomes `rustc1.89.0`, as Go says `go1.26.8`.
fn rustc() -> String {
    let compiler = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let said = output(Command::new(compiler).arg("--version"));
    let version = said.as_deref().and_then(|line| line.split(' ').nth(1)).unwrap_or("");
    format!("rustc{version}")
}

fn git(args: &[&str]) -> Option<String> {
    output(Command::new("git").args(args))
}

fn output(command: &mut Command) -> Option<String> {
    let done = command.output().ok().filter(|done| done.status.success())?;
    let text = String::from_utf8(done.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
