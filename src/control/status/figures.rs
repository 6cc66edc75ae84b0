//! The page of metrics, read again: what the status page shows is what Prometheus sees.
//!
//! Whatever a plugin exports can be shown without asking it. Costs a scrape, and a pass over its text.

use std::collections::{BTreeMap, HashMap};

use crate::control::admin::process;
use crate::data::tally::{Format, Page, Tally};

/// Label values by label names.
pub type Labels = BTreeMap<String, String>;

/// Seconds (or octets) at most, and how many that were more than the cell before.
pub type Cells = Vec<(f64, f64)>;

/// A series of a summary: nanoseconds at most, and how many.
type Latencies = (Labels, Vec<(u64, u64)>);

/// Summaries whose cells are shown, too.
const SUMMARIES: [&str; 2] =
    ["corelane_plugin_duration_seconds", "corelane_upstream_duration_seconds"];

/// All series of the process.
#[derive(Default)]
pub struct Figures {
    series: HashMap<String, Vec<(Labels, f64)>>,
    latencies: HashMap<&'static str, Vec<Latencies>>,
}

impl Figures {
    /// What the process's counters say now.
    pub fn of(tally: &Tally) -> Self {
        let mut text = String::new();
        let mut page = Page::new(&mut text, Format::Text004);
        tally.write(&mut page);
        process::write(&mut page);
        page.finish();
        let mut figures = Self::read(&text);
        for name in SUMMARIES {
            let series = tally.latencies(name).into_iter();
            let series = series.map(|(text, cells)| (labels(&text), cells));
            figures.latencies.insert(name, series.collect());
        }
        figures
    }

    /// Reads the text format 0.0.4 as it is written here.
    fn read(text: &str) -> Self {
        let mut figures = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse() else { continue };
            let (name, labels) = match series.split_once('{') {
                Some((name, rest)) => (name, labels(rest)),
                None => (series, Labels::new()),
            };
            figures.series.entry(name.to_owned()).or_default().push((labels, value));
        }
        figures
    }

    /// One more series.
    #[cfg(test)]
    pub fn add(&mut self, name: &str, labels: Labels, value: f64) {
        self.series.entry(name.to_owned()).or_default().push((labels, value));
    }

    /// The series of a name: labels and value.
    pub fn all(&self, name: &str) -> &[(Labels, f64)] {
        self.series.get(name).map_or(&[], Vec::as_slice)
    }

    /// The sum of those series of a name whose labels have these values.
    pub fn sum(&self, name: &str, with: &[(&str, &str)]) -> f64 {
        let series = self.all(name).iter().filter(|(labels, _)| has(labels, with));
        // Not `sum`, which makes -0 of nothing.
        series.fold(0.0, |sum, (_, value)| sum + value)
    }

    /// The values that the series of a name have for `labels`, each combination once.
    pub fn places<const N: usize>(&self, name: &str, labels: [&str; N]) -> Vec<[String; N]> {
        let value = |one: &Labels, label| one.get(label).cloned().unwrap_or_default();
        let all = self.all(name).iter().map(|(one, _)| labels.map(|label| value(one, label)));
        let mut places: Vec<_> = all.collect();
        places.sort();
        places.dedup();
        places
    }

    /// The series of some names, apart by the values that they have for `labels`. One pass, however many
    /// values there are.
    pub fn apart<const N: usize>(
        &self,
        names: &[&str],
        labels: [&str; N],
    ) -> BTreeMap<[String; N], Self> {
        let mut parts: BTreeMap<_, Self> = BTreeMap::new();
        for name in names {
            for (one, value) in self.all(name) {
                let place = labels.map(|label| one.get(label).cloned().unwrap_or_default());
                let series = &mut parts.entry(place).or_default().series;
                series.entry((*name).to_owned()).or_default().push((one.clone(), *value));
            }
        }
        parts
    }

    /// The cells of a summary that hold anything, of the series with these labels together.
    pub fn latencies(&self, name: &str, with: &[(&str, &str)]) -> Cells {
        let mut sums = BTreeMap::new();
        let series = self.latencies.get(name).map_or(&[][..], Vec::as_slice);
        for (_, cells) in series.iter().filter(|(labels, _)| has(labels, with)) {
            for (nanos, count) in cells {
                *sums.entry(*nanos).or_insert(0) += count;
            }
        }
        sums.into_iter().map(|(nanos, count)| (nanos as f64 / 1e9, count as f64)).collect()
    }

    /// The cells of a histogram; the last one's bound is infinite.
    pub fn histogram(&self, name: &str, with: &[(&str, &str)]) -> Cells {
        let mut below: Cells = Vec::new();
        let buckets = self.all(&format!("{name}_bucket"));
        for (labels, count) in buckets.iter().filter(|(labels, _)| has(labels, with)) {
            let Some(bound) = labels.get("le").and_then(|le| le.parse().ok()) else { continue };
            match below.iter_mut().find(|(known, _)| *known == bound) {
                Some((_, sum)) => *sum += count,
                None => below.push((bound, *count)),
            }
        }
        below.sort_by(|one, two| one.0.total_cmp(&two.0));
        let before = [0.0].into_iter().chain(below.iter().map(|(_, count)| *count));
        below.iter().zip(before).map(|((bound, count), before)| (*bound, count - before)).collect()
    }
}

fn has(labels: &Labels, with: &[(&str, &str)]) -> bool {
    with.iter().all(|(name, value)| labels.get(*name).is_some_and(|known| known == value))
}

/// `a="b",c="d"}`: label values without their escapes.
fn labels(mut rest: &str) -> Labels {
    let mut labels = Labels::new();
    while let Some((name, value)) = rest.split_once("=\"") {
        let mut text = String::new();
        let mut chars = value.char_indices();
        let mut end = value.len();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    end = at + 1;
                    break;
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, escaped)) => text.push(escaped),
                    None => {}
                },
                plain => text.push(plain),
            }
        }
        labels.insert(name.trim_start_matches(',').to_owned(), text);
        rest = &value[end..];
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tally::{BUCKETS_TIME, Family};

    static TIMES: Family = Family::histogram("t_seconds", &BUCKETS_TIME, &["zone"], "times");
    static COUNT: Family = Family::counter("t_total", &["zone", "view"], "a count");

    #[test]
    fn what_was_counted_is_read_again() {
        let tally = Tally::new(1);
        let times = tally.histogram(&TIMES, &["."]);
        for ns in [1, 400_000, 400_000, 60_000_000_000] {
            tally.observe(times, ns);
        }
        let odd = "a\"b\\c\nd}, e=\"";
        tally.add(tally.counter(&COUNT, &[odd, "one"]), 3);
        tally.add(tally.counter(&COUNT, &[odd, "two"]), 4);
        let figures = Figures::of(&tally);
        let cells = figures.histogram("t_seconds", &[("zone", ".")]);
        assert_eq!(cells[0], (0.00025, 1.0));
        assert_eq!(cells[1], (0.0005, 2.0));
        assert_eq!(cells[cells.len() - 1], (f64::INFINITY, 1.0));
        assert_eq!(figures.sum("t_total", &[("zone", odd)]), 7.0);
        assert_eq!(figures.sum("t_total", &[("view", "two")]), 4.0);
        assert_eq!(figures.places("t_total", ["zone"]), [[odd.to_owned()]]);
        assert!(figures.sum("process_resident_memory_bytes", &[]) > 0.0);
        assert!(figures.all("none").is_empty());
    }
}
