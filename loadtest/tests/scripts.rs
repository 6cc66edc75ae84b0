//! The scripts beside this crate: their unit tests, and small measurements from end to end.
#![allow(clippy::disallowed_types, reason = "not the query path")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

const HERE: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn unit_tests_in_python() {
    let output = Command::new("python3")
        .args(["-B", "-m", "unittest", "discover", "-s", "tests", "-t", "."])
        .current_dir(HERE)
        .output()
        .expect("python3 (3.11 or later) is needed to measure");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("Ran 0 tests"), "{said}");
}

/// Held by who measures: two at once would take each other's CPUs, and could find the same port free.
static ALONE: Mutex<()> = Mutex::new(());

fn has_two_cpus() -> bool {
    let has = std::thread::available_parallelism().is_ok_and(|count| count.get() >= 2);
    if !has {
        eprintln!("skipped: a measurement needs two CPUs");
    }
    has
}

/// `run` with these words, and the folder of its report.
fn run(name: &str, words: &[&str]) -> (Command, PathBuf) {
    let binaries = Path::new(env!("CARGO_BIN_EXE_reflect")).parent().unwrap();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let reports = target.join(format!("reports-{}", std::process::id()));
    // What runs in the background of a shell ignores SIGINT, and hands that on.
    let mut command = Command::new("env");
    command.args(["--default-signal=INT", "python3"]);
    command.args(["-B", &format!("{HERE}/run"), "auth"]).args(words).arg("--bin").arg(binaries);
    command.arg("--out").arg(&reports).env("CARGO_TARGET_DIR", target);
    (command, reports)
}

fn read(reports: &Path, name: &str) -> String {
    std::fs::read_to_string(reports.join(name)).unwrap()
}

#[test]
fn a_measurement_leaves_a_report() {
    if !has_two_cpus() {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let against = "reflect,reflect:again,knot:absent=/nonexistent";
    let more = ["--rounds", "2", "--seconds", "0.2", "--max", "again=1000"];
    let (mut command, reports) = run("whole", &[&["--against", against], &more[..]].concat());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(table.contains("left out: absent: /nonexistent is not there"), "{table}");
    let report: serde_json::Value = serde_json::from_str(&read(&reports, "auth.json")).unwrap();
    assert_eq!(report["complete"], true);
    assert_eq!(report["rounds"].as_array().unwrap().len(), 2);
    assert_eq!(report["figures"]["again"]["cpu_ratio"]["n"], 2);
    assert_eq!(report["verdicts"][0][0], true);
    assert!(report["machine"]["kernel"].as_str().is_some_and(|kernel| !kernel.is_empty()));
    let document = read(&reports, "report.md");
    for part in ["## auth: ", "| again ", "loadtest/run auth --against", "](auth-cpu.svg)"] {
        assert!(document.contains(part), "{part}: {document}");
    }
    assert!(read(&reports, "auth-cpu.svg").starts_with("<svg "));
    std::fs::remove_dir_all(&reports).unwrap();
}

#[test]
fn an_interruption_leaves_the_report_of_what_was_complete() {
    if !has_two_cpus() {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let words = ["--against", "reflect", "--rounds", "600", "--seconds", "0.2"];
    let (mut command, reports) = run("interrupted", &words);
    let mut process = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(process.stderr.take().unwrap()).lines();
    // The first step is told at once.
    let mut heard = Vec::new();
    let began = said.by_ref().map(Result::unwrap).any(|line| {
        heard.push(line);
        heard.last().is_some_and(|line| line.contains("1 of 600"))
    });
    assert!(began, "{heard:#?}");
    let number = process.id().to_string();
    assert!(Command::new("kill").args(["-INT", &number]).status().unwrap().success());
    said.for_each(|line| drop(line.unwrap()));
    assert_eq!(process.wait().unwrap().code(), Some(130));
    let report: serde_json::Value = serde_json::from_str(&read(&reports, "auth.json")).unwrap();
    assert_eq!(report["complete"], false);
    assert!(report["figures"]["reflect"]["cpu_us"]["n"].as_u64().is_some_and(|n| n > 0));
    assert!(read(&reports, "report.md").contains("**not complete**"));
    std::fs::remove_dir_all(&reports).unwrap();
}
