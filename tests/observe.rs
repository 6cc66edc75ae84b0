//! What an operator sees of a running server: the status page in a browser, and what Prometheus makes
//! of its metrics. The programs of `tests/observe` do it and say what they skip.

#![allow(clippy::disallowed_macros, reason = "a test says on its output what it skips")]

use std::path::Path;
use std::process::Command;

/// Runs a program of `tests/observe` by `python`, which finds faults or none.
fn run(python: &str, program: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let done = Command::new(python)
        .arg(root.join("tests/observe").join(program))
        .arg(env!("CARGO_BIN_EXE_corelane"))
        .output();
    let Ok(done) = done else {
        return println!("skipped: observe: no {python}");
    };
    let said = String::from_utf8_lossy(&done.stdout);
    println!("{said}");
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn the_status_page_lives_in_a_browser() {
    run("python3", "browser.py");
}

#[test]
fn every_metric_has_its_place_in_a_manual() {
    run("python3", "manuals.py");
}

#[test]
fn prometheus_tells_of_an_outage_and_of_its_end() {
    run("python3", "prometheus.py");
}
