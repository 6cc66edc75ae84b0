//! The scripts beside this crate: their unit tests, and one small measurement from end to end.

use std::path::Path;
use std::process::Command;

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

#[test]
fn a_measurement_leaves_a_report() {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        eprintln!("skipped: a measurement needs two CPUs");
        return;
    }
    let binaries = Path::new(env!("CARGO_BIN_EXE_reflect")).parent().unwrap();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let reports = target.join(format!("reports-{}", std::process::id()));
    let output = Command::new("python3")
        .args(["-B", &format!("{HERE}/run"), "auth"])
        .args(["--against", "reflect,reflect:again,knot:absent=/nonexistent"])
        .args(["--rounds", "2", "--seconds", "0.2", "--max", "again=1000"])
        .arg("--bin")
        .arg(binaries)
        .arg("--out")
        .arg(&reports)
        .env("CARGO_TARGET_DIR", target)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(table.contains("left out: absent: /nonexistent is not there"), "{table}");
    let text = |name: &str| std::fs::read_to_string(reports.join(name)).unwrap();
    let report: serde_json::Value = serde_json::from_str(&text("auth.json")).unwrap();
    assert_eq!(report["complete"], true);
    assert_eq!(report["rounds"].as_array().unwrap().len(), 2);
    assert_eq!(report["figures"]["again"]["cpu_ratio"]["n"], 2);
    assert_eq!(report["verdicts"][0][0], true);
    assert!(report["machine"]["kernel"].as_str().is_some_and(|kernel| !kernel.is_empty()));
    let document = text("report.md");
    for part in ["## auth: ", "| again ", "loadtest/run auth --against", "](auth-cpu.svg)"] {
        assert!(document.contains(part), "{part}: {document}");
    }
    assert!(text("auth-cpu.svg").starts_with("<svg "));
    std::fs::remove_dir_all(&reports).unwrap();
}
