//! Durations as Go writes and reads them: `300ms`, `1.5h`, `2h45m`.

use std::time::Duration;

/// Units, longest first, in nanoseconds.
const UNITS: [(&str, u64); 8] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ns", 1),
];

/// A Go duration: decimal numbers, each with a unit (ns us µs ms s m h); a bare `0` needs none.
/// Negative ones are refused, since nothing in a Corefile means anything by them.
///
/// # Errors
/// Go's words: `time: invalid duration "x"`, `time: missing unit in duration "x"`, `time: unknown
/// unit "y" in duration "x"`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let unit_end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {text:?}"));
        }
        let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(format!("time: unknown unit {unit:?} in duration {text:?}"));
        };
        total = part(whole, fraction, *scale)
            .and_then(|part| total.checked_add(part))
            .filter(|&total| total <= i64::MAX.unsigned_abs())
            .ok_or_else(invalid)?;
        rest = after;
    }
    if negative && total > 0 {
        return Err(format!("negative duration {text:?}"));
    }
    Ok(Duration::from_nanos(total))
}

/// Leading decimal digits, and what follows.
fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// `whole.fraction` times `scale`, in nanoseconds, rounded down.
fn part(whole: &str, fraction: &str, scale: u64) -> Option<u64> {
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // Sixteen digits: an hour has fewer nanoseconds than that many.
    let fraction = &fraction[..fraction.len().min(16)];
    let divisor = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let numerator: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let below = u64::try_from(numerator * u128::from(scale) / divisor).ok()?;
    whole.checked_mul(scale)?.checked_add(below)
}

/// The duration as Go prints it: `1h30m0s`, `1.5s`, `300ms`, `0s`.
pub fn format_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < 1_000_000_000 {
        let (scale, unit) = match nanos {
            0..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "µs"),
            _ => (1_000_000, "ms"),
        };
        return format!("{}{unit}", decimal(nanos, scale));
    }
    let seconds = decimal(nanos % 60_000_000_000, 1_000_000_000);
    let minutes = nanos / 60_000_000_000;
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// `value / scale`, without zeros at the end.
fn decimal(value: u128, scale: u128) -> String {
    let (whole, fraction) = (value / scale, value % scale);
    if fraction == 0 {
        return whole.to_string();
    }
    let width = scale.ilog10() as usize;
    let text = format!("{whole}.{fraction:0width$}");
    text.trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations() {
        for (text, nanos) in [
            ("0", 0),
            ("300ms", 300_000_000),
            ("1.5h", 5_400_000_000_000),
            ("2h45m", 9_900_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("+3us", 3_000),
            ("3µs", 3_000),
            ("3μs", 3_000),
            ("1.23456789999999999999s", 1_234_567_899),
            ("0.000000000001h", 3),
            ("-0s", 0),
            ("1m1m", 120_000_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn faults_in_gos_words() {
        for (text, words) in [
            ("", "time: invalid duration \"\""),
            ("-", "time: invalid duration \"-\""),
            (".s", "time: invalid duration \".s\""),
            ("s", "time: invalid duration \"s\""),
            ("3", "time: missing unit in duration \"3\""),
            ("3x", "time: unknown unit \"x\" in duration \"3x\""),
            ("3m x", "time: unknown unit \"m x\" in duration \"3m x\""),
            ("9999999h", "time: invalid duration \"9999999h\""),
            ("99999999999999999999s", "time: invalid duration \"99999999999999999999s\""),
            ("-3s", "negative duration \"-3s\""),
        ] {
            assert_eq!(parse_duration(text), Err(words.to_owned()), "{text}");
        }
    }

    #[test]
    fn printed_as_go_prints() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (300_000_000, "300ms"),
            (1_500_000_000, "1.5s"),
            (60_000_000_000, "1m0s"),
            (5_400_000_000_000, "1h30m0s"),
            (3_600_000_000_001, "1h0m0.000000001s"),
        ] {
            let duration = Duration::from_nanos(nanos);
            assert_eq!(format_duration(duration), text);
            assert_eq!(parse_duration(text), Ok(duration));
        }
    }
}
