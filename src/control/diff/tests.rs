//! Changes and what they mean.

use super::*;

fn side(text: &str) -> Side {
    let input = Input::Text { name: "F".into(), text: text.into() };
    plan(input, 53).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"))
}

fn difference(old: &str, new: &str) -> Difference {
    compare(&side(old), &side(new))
}

fn text(old: &str, new: &str) -> String {
    let mut out = Vec::new();
    print::print(&difference(old, new), &mut out).expect("written");
    String::from_utf8(out).expect("text")
}

#[track_caller]
fn says(old: &str, new: &str, lines: &[&str]) {
    let text = text(old, new);
    for line in lines {
        assert!(text.lines().any(|said| said.trim_end() == *line), "{line:?} in\n{text}");
    }
}

const STOCK: &str = ".:53 {\n errors\n cache 30\n forward . 192.0.2.1\n}\n";

#[test]
fn text_without_meaning_is_no_difference() {
    for other in [
        STOCK.to_owned(),
        STOCK.replace("errors", "# no\n errors"),
        ".:53 {\n forward . 192.0.2.1\n cache 30\n errors\n}\n".into(),
        STOCK.replace(".:53", "dns://.:53"),
    ] {
        // A key that is spelled otherwise is made anew, and told.
        let is_spelled = other.contains("dns://");
        let found = difference(STOCK, &other);
        assert_eq!(found.same, !is_spelled, "{other}\n{found:?}");
        assert!(found.blocks.is_empty() && found.names.is_empty());
    }
    let notes = difference(STOCK, ".:53 {\n cache 30\n errors\n forward . 192.0.2.1\n}\n").notes;
    assert!(notes[0].contains("which means nothing"), "{notes:?}");
    // What check warned of before is not told again.
    let shadowed = ".:53 {\n forward . 192.0.2.1\n forward a.test 192.0.2.2\n}\n";
    let notes = difference(STOCK, shadowed).notes;
    assert!(matches!(&notes[..], [one] if one.contains("is never asked: forward")), "{notes:?}");
    let moved = format!("# more\n{shadowed}b.test {{\n whoami\n}}\n");
    assert_eq!(difference(shadowed, &moved).notes, [""; 0]);
    let kube = |options: &str| format!(". {{\n health {{\n{options}\n}}\n whoami\n}}\n");
    assert!(difference(&kube("lameduck 5s"), &kube("lameduck 5s\n")).same);
}

#[test]
fn directives_with_old_and_new_values() {
    says(
        STOCK,
        ".:53 {\n log\n cache 60 {\n  success 10\n }\n forward . 192.0.2.1\n}\n",
        &[
            "~ .:53 (F:1:1, F:1:1)",
            "  - errors",
            "  + log",
            "  ~ cache",
            "    - cache 30",
            "    + cache 60",
            "    +     success 10",
        ],
    );
    let with = |option: &str| format!(". {{\n forward . 192.0.2.1 {{\n  {option}\n }}\n}}\n");
    says(
        &with("max_fails 1"),
        &with("max_fails 2"),
        &["  ~ forward . 192.0.2.1", "    - max_fails 1", "    + max_fails 2"],
    );
    let moved =
        text(&format!("{STOCK}a {{\n whoami\n}}\n"), &format!("b {{\n whoami\n}}\n{STOCK}"));
    assert!(moved.contains("  - key dns://a.:53\n  + key dns://b.:53\n"), "{moved}");
}

#[test]
fn the_order_of_uses_counts_where_they_are_asked_in_it() {
    let two = |one: &str, two: &str| format!(". {{\n {one}\n {two}\n whoami\n}}\n");
    let rules = ("rewrite name a.test b.test", "rewrite name c.test d.test");
    let found = difference(&two(rules.0, rules.1), &two(rules.1, rules.0));
    assert_eq!(found.blocks[0].directives[0].directive, "rewrite");
    let names = ("log a.test", "log b.test");
    assert!(!difference(&two(names.0, names.1), &two(names.1, names.0)).same);
}

#[test]
fn secrets_are_compared_and_not_shown() {
    let with = |secret: &str| {
        format!("a.test {{\n tsig {{\n  secret k.test. {secret}\n }}\n whoami\n}}\n")
    };
    let text = text(&with("c2VjcmV0"), &with("b3RoZXI="));
    assert!(text.contains("- secret k.test. (not shown)\n"), "{text}");
    assert!(!text.contains("c2VjcmV0") && !text.contains("b3RoZXI="), "{text}");
}

#[test]
fn addresses_that_move() {
    let with = |lines: &str| format!(". {{\n {lines}\n whoami\n}}\n");
    for (old, new, effect) in [
        (
            "prometheus :9153",
            "prometheus :9154",
            "metrics moves from :9153 to :9154: whoever asks there has to follow",
        ),
        (
            "health",
            "health :8081",
            "health moves from :8080 to :8081: whoever asks there has to follow",
        ),
        ("ready", "", "nothing answers for readiness at :8181 any more"),
        ("", "prometheus", "metrics is served at localhost:9153"),
        ("reload", "", "later changes of the Corefile are loaded at SIGUSR1 only"),
        ("debug", "debug\nerrors", ""),
    ] {
        let found = difference(&with(old), &with(new));
        let effects: Vec<_> =
            found.blocks[0].directives.iter().flat_map(|one| &one.effects).collect();
        match effect {
            "" => assert!(effects.is_empty(), "{effects:?}"),
            effect => assert_eq!(effects, [effect]),
        }
    }
    says(
        ". {\n whoami\n}\n",
        ".:54 {\n bind 127.0.0.1\n whoami\n}\n",
        &["listeners:", "  - :53 is closed", "  + 127.0.0.1:54 is opened"],
    );
}

#[test]
fn names_that_another_block_serves() {
    let stub = format!("{STOCK}corp.test {{\n forward . 192.0.2.2\n}}\n");
    says(
        STOCK,
        &stub,
        &[
            "+ corp.test (F:6:1)",
            "names that go another way:",
            "  corp.test. at :53: served by .:53 before, served by corp.test now",
        ],
    );
    says(
        &stub,
        "corp.test {\n forward . 192.0.2.2\n}\n",
        &["  . at :53: served by .:53 before, refused now"],
    );
    assert!(difference(&stub, &stub).same);
    // A zone that stays with its block is not told, however many keys that has.
    let found = difference(STOCK, &STOCK.replace(".:53", ".:53 a.test:53"));
    assert!(found.names.is_empty() && found.blocks[0].keys_added == ["dns://a.test.:53"]);
}

#[test]
fn names_that_are_asked_of_others() {
    let with = |lines: &str| format!(". {{\n {lines}\n}}\n");
    let old = with("forward . 192.0.2.1");
    let new = with("forward corp.test 192.0.2.2\n forward . 192.0.2.1");
    says(
        &old,
        &new,
        &["  corp.test. in .: 192.0.2.1 before, 192.0.2.2 now", "  + forward corp.test 192.0.2.2"],
    );
    // The first that fits is asked.
    let late = with("forward . 192.0.2.1\n forward corp.test 192.0.2.2");
    assert!(difference(&old, &late).upstreams.is_empty());
    says(&old, &with("whoami"), &["  . in .: 192.0.2.1 before, nobody now"]);
}

#[test]
fn what_a_reload_takes_over() {
    says(
        STOCK,
        &STOCK.replace("errors", "log"),
        &[
            "  takes cache of .:53 over, with all that it holds",
            "  takes forward of .:53 over, with all that it holds",
        ],
    );
    says(
        STOCK,
        &STOCK.replace("192.0.2.1", "192.0.2.2"),
        &[
            "  makes cache of .:53 anew, since what is below it in the chain has changed: \
             what it has stored is gone",
            "  makes forward of .:53 anew, since its lines have changed: connections to upstreams \
             and what is known of their health begin anew",
        ],
    );
    let rekeyed = text(STOCK, &STOCK.replace(".:53", ". a.test"));
    assert!(rekeyed.contains("since the keys of its block have changed"), "{rekeyed}");
}

#[test]
fn json_says_the_same() {
    let found = difference(STOCK, &STOCK.replace("cache 30", "cache 60"));
    let json = serde_json::to_value(&found).expect("JSON");
    assert_eq!(json["same"], false);
    assert_eq!(json["blocks"][0]["change"], "changed");
    assert_eq!(json["blocks"][0]["directives"][0]["removed"][0], "cache 30");
    assert_eq!(json["reload"]["anew"][0]["directive"], "cache");
    assert_eq!(json["reload"]["kept"][0]["block"], ".:53");
}
