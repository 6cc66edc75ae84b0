//! What the command lines of both programs have in common.

use std::time::Duration;

/// Socket buffer that both programs ask for, in bytes. The usual default (208 KiB) holds fewer
/// than 300 queries: a server off its CPU for a millisecond would lose some.
pub const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// A duration as people write it: `250us`, `1ms`, `1.5s`, `2m`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let seconds = match unit {
        "ns" => 1e-9,
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err(format!("{text}: not a duration such as 250us, 1ms or 1.5s")),
    };
    let number: f64 = number.parse().map_err(|_| format!("{text}: not a duration"))?;
    Duration::try_from_secs_f64(number * seconds).map_err(|error| format!("{text}: {error}"))
}

/// A number within `low..=high`, for clap's `value_parser`.
pub fn within<T>(low: T, high: T) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display + Copy + Send + Sync + 'static,
{
    move |text| match text.parse::<T>() {
        Ok(value) if value >= low && value <= high => Ok(value),
        Ok(_) => Err(format!("not within {low} to {high}")),
        Err(_) => Err("not a number".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(parse_duration("250us").unwrap(), Duration::from_micros(250));
        assert_eq!(parse_duration("1.5s").unwrap(), Duration::from_millis(1500));
        assert_eq!(parse_duration("2m").unwrap(), Duration::from_secs(120));
        for bad in ["", "1", "ms", "1h2", "-1s", "1e400s", "1.2.3s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_keep_their_range() {
        let parse = within(1.0, 2.5);
        assert_eq!(parse("2.5"), Ok(2.5));
        assert!(parse("2.6").is_err() && parse("NaN").is_err() && parse("x").is_err());
    }
}
