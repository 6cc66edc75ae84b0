//! The registry, its cells and its page.

//! Counts against a model, expositions against their formats.

use super::*;
use proptest::prelude::*;

static PLAIN: Family = Family::counter("t_plain_total", &["zone", "view"], "a");
static BARE: Family = Family::counter("t_bare_total", &[], "a \"b\"");
static TIMES: Family = Family::histogram("t_seconds", &BUCKETS_TIME, &["zone"], "c");
static WALKS: Family = Family::summary("t_walk_seconds", &[], "d");
static NAMED: Family = Family::summary("t_named_seconds", &["name"], "d");
static LEVEL: Family = Family::gauge("t_level", &["name"], "e");
static BLOCK: Grid = Grid {
    family: Family::counter("t_grid_total", &["zone"], "f"),
    each: &[("proto", &["udp", "tcp"]), ("type", &["A", "AAAA", "MX"])],
};

fn page(tally: &Tally, format: Format) -> String {
    let mut out = String::new();
    tally.scrape(&mut out, format);
    out
}

fn text(tally: &Tally) -> String {
    page(tally, Format::Text004)
}

#[test]
fn families_without_labels_are_shown_before_anything_was_counted() {
    let tally = Tally::new(1);
    let shown = text(&tally);
    for family in families::ALWAYS {
        assert!(shown.contains(&format!("# HELP {} ", family.name)), "{}", family.name);
    }
    assert!(shown.contains("\ncoredns_panics_total 0\n"));
    assert!(shown.contains("\ncoredns_health_request_duration_seconds_bucket{le=\"+Inf\"} 0\n"));
    assert!(shown.contains("\ncoredns_hosts_reload_timestamp_seconds 0\n"));
    assert!(!shown.contains("coredns_dns_requests_total"));
}

#[test]
fn the_same_labels_are_the_same_cells() {
    let tally = Tally::new(2);
    let a = tally.counter(&PLAIN, &["example.org.", ""]);
    let b = tally.counter(&PLAIN, &["example.org.", "inside"]);
    assert_eq!(a, tally.counter(&PLAIN, &["example.org.", ""]));
    assert_ne!(a, b);
    assert!(!text(&tally).contains("t_plain_total"), "nothing counted, nothing shown");
    tally.core(0).add(a, 3);
    tally.core(1).add(a, 4);
    tally.add(a, 5);
    assert!(text(&tally).ends_with(
        "# HELP t_plain_total a\n# TYPE t_plain_total counter\n\
         t_plain_total{zone=\"example.org.\",view=\"\"} 12\n"
    ));
}

#[test]
fn a_histogram_is_cumulative_and_in_seconds() {
    let tally = Tally::new(1);
    let times = tally.histogram(&TIMES, &["."]);
    let core = tally.core(0);
    for ns in [250_000, 250_001, 1_000_000_000, 20_000_000_000] {
        core.observe(times, ns);
    }
    let shown = text(&tally);
    for line in [
        "t_seconds_bucket{zone=\".\",le=\"0.00025\"} 1",
        "t_seconds_bucket{zone=\".\",le=\"0.0005\"} 2",
        "t_seconds_bucket{zone=\".\",le=\"0.512\"} 2",
        "t_seconds_bucket{zone=\".\",le=\"1.024\"} 3",
        "t_seconds_bucket{zone=\".\",le=\"8.192\"} 3",
        "t_seconds_bucket{zone=\".\",le=\"+Inf\"} 4",
        "t_seconds_sum{zone=\".\"} 21.000500001",
        "t_seconds_count{zone=\".\"} 4",
    ] {
        assert!(shown.contains(&format!("\n{line}\n")), "{line} in\n{shown}");
    }
}

#[test]
fn a_latency_is_shown_as_quantiles() {
    let tally = Tally::new(1);
    let walks = tally.latency(&WALKS, &[]);
    let core = tally.core(0);
    (0..980).for_each(|_| core.latency(walks, 1_000));
    (0..20).for_each(|_| core.latency(walks, 5_000_000));
    let shown = text(&tally);
    let quantile = |q: &str| -> f64 {
        let start = format!("t_walk_seconds{{quantile=\"{q}\"}} ");
        let line = shown.lines().find_map(|line| line.strip_prefix(&start));
        line.and_then(|value| value.parse().ok()).expect("a quantile")
    };
    assert!((quantile("0.5") - 1e-6).abs() < 0.1e-6);
    assert!((quantile("0.99") - 5e-3).abs() < 0.5e-3);
    assert!(shown.contains("\nt_walk_seconds_count 1000\n"));
}

#[test]
fn quantiles_are_of_the_last_minutes() {
    let tally = Tally::new(1);
    let walks = tally.latency(&WALKS, &[]);
    let core = tally.core(0);
    let median = |windows: u64| -> f64 {
        let mut out = String::new();
        let now = windows * crate::limits::TALLY_WINDOW_NANOS;
        tally.write_at(&mut Page::new(&mut out, Format::Text004), now);
        let start = "t_walk_seconds{quantile=\"0.5\"} ";
        let line = out.lines().find_map(|line| line.strip_prefix(start));
        line.and_then(|value| value.parse().ok()).expect("a quantile")
    };
    (0..100).for_each(|_| core.latency(walks, 1_000));
    assert!(median(1) < 2e-6);
    (0..100).for_each(|_| core.latency(walks, 5_000_000));
    assert!(median(1) < 2e-6, "of two hundred");
    core.latency(walks, 5_000_000);
    assert!(median(2) > 4e-3, "one more of the slow");
    // The first hundred is forgotten, though the slow ones are still counted among the last.
    assert!(median(3) > 4e-3);
    assert!(median(4).is_nan(), "nothing has come since");
    (0..3).for_each(|_| core.latency(walks, 1_000));
    assert!(median(4) < 2e-6);
    assert!(text(&tally).contains("\nt_walk_seconds_count 204\n"));
}

#[test]
fn latencies_are_told_by_series() {
    let tally = Tally::new(2);
    let [one, _none] = ["one", "none"].map(|name| tally.latency(&NAMED, &[name]));
    tally.core(0).latency(one, 1_000);
    tally.core(1).latency(one, 1_000);
    tally.latency_of(one, 20_000_000_000);
    let top = buckets::latency_top(buckets::latency_cell(1_000));
    let last = buckets::latency_top(LATENCY_CELLS - 2);
    let expected = vec![(r#"name="one""#.to_owned(), vec![(top, 2), (last, 1)])];
    assert_eq!(tally.latencies("t_named_seconds"), expected);
    assert!(tally.latencies("t_nothing_seconds").is_empty());
}

#[test]
fn a_gauge_is_shown_as_long_as_it_is_held() {
    let tally = Tally::new(1);
    let old = tally.gauge(&LEVEL, &["a\"b\\"]);
    old.set(2.5);
    assert!(text(&tally).contains("\nt_level{name=\"a\\\"b\\\\\"} 2.5\n"));
    let new = tally.gauge(&LEVEL, &["a\"b\\"]);
    drop(old);
    assert_eq!(new.get(), 2.5, "the same gauge");
    drop(new);
    assert!(!text(&tally).contains("t_level"));
}

#[test]
fn of_readings_with_the_same_labels_the_newest_is_shown() {
    let tally = Tally::new(1);
    let _old = tally.gauge_fn(&LEVEL, &["a"], Box::new(|| 1.0));
    let new = tally.gauge_fn(&LEVEL, &["a"], Box::new(|| 2.0));
    assert!(text(&tally).contains("\nt_level{name=\"a\"} 2\n"));
    drop(new);
    assert!(text(&tally).contains("\nt_level{name=\"a\"} 1\n"));
}

#[test]
fn a_grid_names_each_of_its_cells() {
    let tally = Tally::new(1);
    let block = tally.grid(&BLOCK, &["."]);
    let core = tally.core(0);
    for (proto, name) in ["udp", "tcp"].into_iter().enumerate() {
        for (qtype, type_name) in ["A", "AAAA", "MX"].into_iter().enumerate() {
            core.add(block.at(&BLOCK, [proto, qtype]), 1 + (10 * proto + qtype) as u64);
            let line = format!(
                "\nt_grid_total{{zone=\".\",proto=\"{name}\",type=\"{type_name}\"}} {}\n",
                1 + 10 * proto + qtype
            );
            assert!(text(&tally).contains(&line), "{line}");
        }
    }
}

#[test]
fn openmetrics_declares_counters_without_suffix_and_ends() {
    let tally = Tally::new(1);
    tally.enable(&BARE);
    let shown = page(&tally, Format::OpenMetrics1);
    assert!(shown.contains("# HELP t_bare a \\\"b\\\"\n# TYPE t_bare counter\nt_bare_total 0\n"));
    assert!(shown.ends_with("\n# EOF\n"));
    assert!(text(&tally).contains("# HELP t_bare_total a \"b\"\n"));
}

#[test]
fn accept_decides_the_format() {
    for (accept, format) in [
        ("", Format::Text004),
        ("*/*", Format::Text004),
        ("application/openmetrics-text", Format::OpenMetrics1),
        ("application/openmetrics-text;version=2.0.0", Format::Text004),
        (
            "application/openmetrics-text;version=1.0.0;q=0.6,\
             text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            Format::OpenMetrics1,
        ),
        ("text/plain, application/openmetrics-text;q=0.5", Format::Text004),
        ("application/openmetrics-text; q=0", Format::Text004),
    ] {
        assert_eq!(Format::accepted(accept), format, "{accept}");
    }
}

#[test]
fn label_sets_are_bounded() {
    let tally = Tally::new(1);
    let first = tally.counter(&PLAIN, &["0.", ""]);
    for at in 0..crate::limits::TALLY_SETS_MAX {
        tally.counter(&PLAIN, &[&format!("{at}."), ""]);
    }
    let (a, b) = (tally.counter(&PLAIN, &["x.", ""]), tally.counter(&PLAIN, &["y.", ""]));
    assert_eq!(a, b);
    assert_eq!(first, tally.counter(&PLAIN, &["0.", ""]), "known sets stay");
    tally.core(0).add(a, 2);
    assert!(text(&tally).contains("t_plain_total{zone=\"overflow\",view=\"overflow\"} 2\n"));
}

#[test]
#[should_panic(expected = "have a writer")]
fn a_core_has_one_writer() {
    let tally = Tally::new(2);
    let _one = tally.core(1);
    let _two = tally.core(1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn sums_over_threads_lose_nothing(
        work in prop::collection::vec(
            prop::collection::vec((0usize..40, 0u64..1000), 1..300),
            1..5,
        ),
    ) {
        let tally = Tally::new(work.len());
        let zones: Vec<String> = (0..40).map(|zone| format!("{zone}.")).collect();
        let counters: Vec<Counter> =
            zones.iter().map(|zone| tally.counter(&PLAIN, &[zone, ""])).collect();
        let times = tally.histogram(&TIMES, &["."]);
        std::thread::scope(|scope| {
            for (at, adds) in work.iter().enumerate() {
                let (core, counters) = (tally.core(at), &counters);
                scope.spawn(move || {
                    for (counter, n) in adds {
                        core.add(counters[*counter], *n);
                        core.observe(times, *n);
                    }
                });
            }
            // A scrape and a registration in the middle disturb nothing.
            text(&tally);
            tally.grid(&BLOCK, &["."]);
        });
        for (at, counter) in counters.iter().enumerate() {
            let all = work.iter().flatten();
            let wanted: u64 = all.filter(|(which, _)| *which == at).map(|(_, n)| n).sum();
            prop_assert_eq!(tally.value(*counter), wanted);
        }
        let observed: usize = work.iter().map(Vec::len).sum();
        let line = format!("t_seconds_count{{zone=\".\"}} {observed}\n");
        prop_assert!(text(&tally).contains(&line));
    }
}

/// The label values of a sample line, as a scraper reads them.
fn unescaped(line: &str) -> Vec<String> {
    let mut values = vec![];
    let mut chars = line.chars();
    while chars.by_ref().any(|c| c == '"') {
        let mut value = String::new();
        while let Some(c) = chars.next().filter(|c| *c != '"') {
            match (c, if c == '\\' { chars.next() } else { None }) {
                (_, Some('n')) => value.push('\n'),
                (_, Some(escaped)) => value.push(escaped),
                (plain, None) => value.push(plain),
            }
        }
        values.push(value);
    }
    values
}

proptest! {
    #[test]
    fn label_values_survive_the_page(zone in "\\PC*|[\"\\\\\n,{}= ]*", view in "\\PC*") {
        let tally = Tally::new(1);
        tally.add(tally.counter(&PLAIN, &[&zone, &view]), 1);
        let shown = text(&tally);
        let line = shown.lines().find(|line| line.starts_with("t_plain_total{")).unwrap();
        prop_assert!(line.ends_with("\"} 1"), "{}", line);
        prop_assert_eq!(unescaped(line), [zone, view]);
    }
}
