//! `corelane check` and `corelane migrate`, of files and of standard input.

use super::{corelane, corelane_fed, file};

const OLD: &str =
    ". {\n kubernetes cluster.local {\n  upstream\n }\n proxy . 192.0.2.1\n ready\n}\n";
const NEW: &str =
    ". {\n kubernetes cluster.local {\n  # upstream\n }\n forward . 192.0.2.1\n ready\n}\n";

#[test]
fn what_an_older_corefile_becomes_is_one_of_today() {
    let old = file("older", OLD);
    let faults = corelane(&["check", &old]);
    let words = "2 errors\nit is of an older CoreDNS: `corelane migrate` writes it as today's\n";
    assert!(faults.status == 1 && faults.out.ends_with(words), "{}", faults.out);
    for (migrated, name) in [
        (corelane(&["migrate", &old]), &*old),
        (corelane_fed(&["migrate", "-"], OLD), "/dev/stdin"),
    ] {
        assert_eq!((migrated.status, &*migrated.out), (0, NEW), "{}", migrated.err);
        let changes: Vec<_> = migrated.err.lines().collect();
        assert_eq!(changes.len(), 2, "{}", migrated.err);
        assert!(changes[0].starts_with(&format!("{name}:3: upstream: ")), "{}", migrated.err);
        assert_eq!(changes[1], format!("{name}:5: proxy is forward today"));
    }
    let checked = corelane_fed(&["check", "-"], NEW);
    assert_eq!((checked.status, &*checked.out), (0, "valid: 1 server block\n"));
}

#[test]
fn what_is_left_to_do_is_told_by_the_status() {
    let left = corelane_fed(&["migrate", "-"], ". {\n reverse 10.0.0.0/8\n}\n");
    let words = "left to do: /dev/stdin:2: reverse: reverse is gone: write it as a template\n";
    assert_eq!((left.status, &*left.err), (1, words));
    let torn = corelane_fed(&["migrate", "-"], ". {\n proxy . 192.0.2.1\n");
    assert!(torn.status == 1 && torn.err.starts_with("left to do: /dev/stdin:"), "{}", torn.err);
    let gone = corelane(&["migrate", "no-such-file"]);
    assert_eq!((gone.status, gone.err.lines().count()), (1, 1), "{}", gone.err);
}
