//! The page of metrics: Prometheus text 0.0.4 and OpenMetrics 1.0.
//!
//! Guarantees: a family without samples leaves no trace; label values and help texts are escaped;
//! bounds (`le`) are spelt alike in both formats and as CoreDNS spells them (`100`, `0.00025`),
//! since Prometheus 2 keeps them as opaque labels and prefers OpenMetrics where it is offered.
//!
//! Cost: a scrape's, one `String` growing; nothing here is on the way of a query.

use std::fmt::Write;

use hdrhistogram::Histogram as Hdr;

use super::Kind;
use super::buckets::{Buckets, latency_top};

/// Which exposition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text format 0.0.4.
    Text004,
    /// OpenMetrics 1.0.0.
    OpenMetrics1,
}

impl Format {
    /// The format that an Accept header prefers; the text format where neither is named
    /// (RFC 9110 section 12.5.1: the highest `q`, the first of equals).
    pub fn accepted(accept: &str) -> Format {
        let mut best = (0.0, Format::Text004);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or("");
            let (mut quality, mut version) = (1.0_f32, None);
            for part in parts {
                match part.split_once('=').map(|(key, value)| (key.trim(), value.trim())) {
                    Some(("q", value)) => quality = value.parse().unwrap_or(0.0),
                    Some(("version", value)) => version = Some(value),
                    _ => {}
                }
            }
            let format = match (media, version) {
                ("application/openmetrics-text", None | Some("1.0.0" | "0.0.1")) => {
                    Format::OpenMetrics1
                }
                ("text/plain", None | Some("0.0.4")) | ("text/*" | "*/*", _) => Format::Text004,
                _ => continue,
            };
            if quality > best.0 {
                best = (quality, format);
            }
        }
        best.1
    }

    /// The Content-Type of a page, as CoreDNS's exporter writes it.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Text004 => "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
            Format::OpenMetrics1 => {
                "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"
            }
        }
    }
}

/// Quantiles that a summary shows.
const QUANTILES: [f64; 4] = [0.5, 0.9, 0.99, 0.999];

/// A page being written. Families are written one after the other, each name once.
pub struct Page<'a> {
    out: &'a mut String,
    format: Format,
    name: &'static str,
}

impl<'a> Page<'a> {
    /// A page that is appended to `out`.
    pub fn new(out: &'a mut String, format: Format) -> Page<'a> {
        Page { out, format, name: "" }
    }

    /// A family: its head, and what `samples` writes; nothing if that is nothing.
    pub fn family(
        &mut self,
        name: &'static str,
        help: &str,
        kind: Kind,
        samples: impl FnOnce(&mut Self),
    ) {
        let before = self.out.len();
        self.name = name;
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
            Kind::Summary => "summary",
        };
        // OpenMetrics 1.0 section 5.1: the family of a counter has no suffix, its samples have.
        let head = match (self.format, kind) {
            (Format::OpenMetrics1, "counter") => name.strip_suffix("_total").unwrap_or(name),
            _ => name,
        };
        let _ = write!(self.out, "# HELP {head} ");
        escape(self.out, help, self.format == Format::OpenMetrics1);
        let _ = writeln!(self.out, "\n# TYPE {head} {kind}");
        let headed = self.out.len();
        samples(self);
        if self.out.len() == headed {
            self.out.truncate(before);
        }
    }

    /// A sample that is a whole number. `labels` are rendered, without braces.
    pub fn integer(&mut self, suffix: &str, labels: &str, value: u64) {
        self.series(suffix, labels, None);
        let _ = writeln!(self.out, "{value}");
    }

    /// A sample that is a number.
    pub fn float(&mut self, suffix: &str, labels: &str, value: f64) {
        self.series(suffix, labels, None);
        push_number(self.out, value);
        self.out.push('\n');
    }

    /// A histogram; `counts` has one bucket more than there are bounds.
    pub fn histogram(&mut self, labels: &str, buckets: &Buckets, counts: &[u64], sum: u64) {
        let mut below = 0;
        for (at, count) in counts.iter().enumerate() {
            below += count;
            let bound = buckets.bounds.get(at).map_or(f64::INFINITY, |b| *b as f64 / buckets.scale);
            self.series("_bucket", labels, Some(("le", bound)));
            let _ = writeln!(self.out, "{below}");
        }
        self.float("_sum", labels, sum as f64 / buckets.scale);
        self.integer("_count", labels, below);
    }

    /// A summary of latencies in seconds: quantiles of `recent` cells; number and sum, in nanoseconds,
    /// of all.
    pub fn summary(&mut self, labels: &str, recent: &[u64], count: u64, sum_ns: u64) {
        let top = latency_top(recent.len() - 1);
        let mut merged: Hdr<u64> =
            Hdr::new_with_bounds(1, top, 2).unwrap_or_else(|_| unreachable!("valid bounds"));
        for (cell, count) in recent.iter().enumerate().filter(|(_, count)| **count > 0) {
            let _ = merged.record_n(latency_top(cell), *count);
        }
        for quantile in QUANTILES {
            self.series("", labels, Some(("quantile", quantile)));
            let value = match merged.is_empty() {
                true => f64::NAN,
                false => merged.value_at_quantile(quantile) as f64 / 1e9,
            };
            push_number(self.out, value);
            self.out.push('\n');
        }
        self.float("_sum", labels, sum_ns as f64 / 1e9);
        self.integer("_count", labels, count);
    }

    /// Appends labels to rendered ones, with their escapes.
    pub fn push_labels(rendered: &mut String, labels: &[(&str, &str)]) {
        push_labels(rendered, labels.iter().copied());
    }

    /// Ends the page.
    pub fn finish(self) {
        if self.format == Format::OpenMetrics1 {
            self.out.push_str("# EOF\n");
        }
    }

    /// Name, labels and a space; `more` is a label whose value is a number.
    fn series(&mut self, suffix: &str, labels: &str, more: Option<(&str, f64)>) {
        self.out.push_str(self.name);
        self.out.push_str(suffix);
        if !labels.is_empty() || more.is_some() {
            self.out.push('{');
            self.out.push_str(labels);
            if let Some((name, value)) = more {
                let comma = if labels.is_empty() { "" } else { "," };
                let _ = write!(self.out, "{comma}{name}=\"");
                push_number(self.out, value);
                self.out.push('"');
            }
            self.out.push('}');
        }
        self.out.push(' ');
    }
}

fn push_number(out: &mut String, value: f64) {
    let _ = match value {
        v if v.is_nan() => out.write_str("NaN"),
        v if v == f64::INFINITY => out.write_str("+Inf"),
        v if v == f64::NEG_INFINITY => out.write_str("-Inf"),
        v => write!(out, "{v}"),
    };
}

/// Appends labels to rendered ones: `,name="value"`, the first without the comma.
pub(super) fn push_labels<'l>(out: &mut String, labels: impl Iterator<Item = (&'l str, &'l str)>) {
    for (name, value) in labels {
        let comma = if out.is_empty() { "" } else { "," };
        let _ = write!(out, "{comma}{name}=\"");
        escape(out, value, true);
        out.push('"');
    }
}

fn escape(out: &mut String, text: &str, quotes: bool) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}
