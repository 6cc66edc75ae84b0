//! `corelane diff`.

use super::{corelane, file};

const OLD: &str = ".:53 {\n    cache 30\n    forward . 192.0.2.1\n}\n";

#[test]
fn the_status_tells_whether_something_differs() {
    let old = file("old", OLD);
    let new = file("new", &OLD.replace("cache 30", "cache 60"));
    let (same, other) = (corelane(&["diff", &old, &old]), corelane(&["diff", &old, &new]));
    assert_eq!((same.status, &*same.out), (0, "same: the two mean the same\n"));
    assert_eq!(other.status, 1);
    assert!(other.out.contains("    - cache 30\n    + cache 60\n"), "{}", other.out);
}

#[test]
fn json_is_one_document() {
    let old = file("json-old", OLD);
    let new = file("json-new", &format!("{OLD}corp.test {{\n    whoami\n}}\n"));
    let ran = corelane(&["diff", "--json", &old, &new]);
    let json: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!((ran.status, &json["names"][0]["zone"]), (1, &"corp.test.".into()));
}

#[test]
fn a_file_that_cannot_be_read_or_understood_is_to_blame() {
    let old = file("good", OLD);
    let broken = file("broken", ". {\n    cahce\n}\n");
    let ran = corelane(&["diff", &old, &broken]);
    assert_eq!((ran.status, &*ran.out), (2, ""));
    let words = "broken:2:5: Unknown directive 'cahce' (did you mean \"cache\"?)\n";
    assert!(ran.err.starts_with("diff: ") && ran.err.ends_with(words), "{}", ran.err);
    let gone = corelane(&["diff", "no-such-file", &old]);
    assert_eq!((gone.status, gone.err.lines().count()), (2, 1), "{}", gone.err);
    assert_eq!(corelane(&["diff", &old]).status, 2);
}
