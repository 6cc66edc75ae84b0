//! What the Corefile says of a cache.

use std::time::Duration;

use crate::control::corefile::{Line, OptionLine, Token};
use crate::limits::{CACHE_BUDGET_BYTES, CACHE_BUDGET_BYTES_MIN};
use crate::plugin::{CorefileError, Lines};
use crate::wire::NameBuf;

/// Words that may stand in the block.
const OPTIONS: [&str; 9] = [
    "success",
    "denial",
    "prefetch",
    "serve_stale",
    "serve_stale_policy",
    "servfail",
    "disable",
    "keepttl",
    "budget",
];
/// CoreDNS's cache has so many shards, each with room for four entries at least.
const SHARDS: i64 = 256;
/// The longest that a SERVFAIL may be cached, or a failed refresh keep the next one away
/// (RFC 2308 section 7.1, RFC 8767 section 5).
const FIVE_MINUTES: Duration = Duration::from_secs(300);

/// What one class of entries is kept by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Entries at most.
    pub entries_max: usize,
    /// Longest life in seconds.
    pub ttl_max: u32,
    /// Shortest life in seconds.
    pub ttl_min: u32,
    /// Zones of which none are kept.
    pub except: Vec<NameBuf>,
}

/// `serve_stale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stale {
    /// Seconds after its life that an entry may still be served.
    pub up_to: i64,
    /// Whether the source is asked first.
    pub verify: bool,
    /// How long that may take; zero: as long as the source does.
    pub verify_timeout: Duration,
    /// TTL of stale answers in seconds.
    pub ttl: u32,
    /// How long after a failed refresh none is begun.
    pub recheck: Duration,
}

/// All settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Zones whose names are cached.
    pub zones: Vec<NameBuf>,
    /// Success, then denial.
    pub kept: [Kept; 2],
    /// How long a SERVFAIL is cached.
    pub servfail: Duration,
    /// Queries after which an entry is prefetched; 0: never.
    pub prefetch: u64,
    /// The longest pause between them.
    pub prefetch_pause: Duration,
    /// Per cent of an entry's life that is left when it is prefetched.
    pub prefetch_percent: u32,
    /// `serve_stale`.
    pub stale: Option<Stale>,
    /// `serve_stale_policy prefer_positive`.
    pub prefer_positive: bool,
    /// TTLs do not age.
    pub keep_ttl: bool,
    /// Octets of all caches together.
    pub budget: usize,
}

/// A whole number as Go's `Atoi` reads it.
fn whole(lines: &Lines<'_>, word: &Token) -> Result<i64, CorefileError> {
    lines.number(word, i64::MIN..=i64::MAX)
}

/// The capacity that CoreDNS makes of a number: so many in every shard.
fn capacity(entries: i64) -> usize {
    ((entries / SHARDS).max(4) * SHARDS) as usize
}

fn seconds(number: i64) -> u32 {
    number.clamp(0, i32::MAX.into()) as u32
}

fn longest_life(lines: &Lines<'_>, word: &Token, number: i64) -> Result<u32, CorefileError> {
    if number <= 0 {
        let words = format!("cache TTL can not be zero or negative: {number}");
        return Err(lines.err(word, words));
    }
    Ok(seconds(number))
}

/// A duration; none where it is negative.
fn duration(lines: &Lines<'_>, word: &Token) -> Result<Option<Duration>, CorefileError> {
    match word.text.strip_prefix('-') {
        Some(text) => {
            let unsigned = Token { text: text.to_owned(), ..word.clone() };
            let duration = lines
                .duration(&unsigned)
                .map_err(|_| lines.err(word, format!("time: invalid duration {:?}", word.text)))?;
            Ok(duration.is_zero().then_some(duration))
        }
        None => lines.duration(word).map(Some),
    }
}

/// A duration that must not be negative, with CoreDNS's words about it if it is.
fn not_negative(lines: &Lines<'_>, word: &Token, words: &str) -> Result<Duration, CorefileError> {
    duration(lines, word)?.ok_or_else(|| lines.err(word, words))
}

/// As `not_negative`; `what` it is stands before the fault of what is no duration.
fn named(
    lines: &Lines<'_>,
    word: &Token,
    what: &str,
    sign: &str,
) -> Result<Duration, CorefileError> {
    let duration = duration(lines, word)
        .map_err(|error| lines.err(word, format!("invalid {what}: {}", error.message)))?;
    duration.ok_or_else(|| lines.err(word, sign))
}

impl Settings {
    fn new(zones: Vec<NameBuf>) -> Self {
        let kept = |ttl_max| Kept {
            entries_max: capacity(10_000),
            ttl_max,
            ttl_min: 5,
            except: Vec::new(),
        };
        Self {
            zones,
            kept: [kept(3600), kept(1800)],
            servfail: Duration::from_secs(5),
            prefetch: 0,
            prefetch_pause: Duration::from_secs(60),
            prefetch_percent: 10,
            stale: None,
            prefer_positive: false,
            keep_ttl: false,
            budget: CACHE_BUDGET_BYTES,
        }
    }

    /// Reads the directive.
    pub fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let stanza = lines.only_one()?;
        let mut args = &stanza.args[..];
        let mut ttl = None;
        if let Some((first, rest)) = args.split_first()
            && let Ok(number) = first.text.parse::<i64>()
        {
            ttl = Some(longest_life(lines, first, number)?);
            args = rest;
        }
        let mut settings = Self::new(lines.zones_of(args));
        if let Some(ttl) = ttl {
            settings.kept.iter_mut().for_each(|kept| kept.ttl_max = ttl);
        }
        let mut policy = None;
        for option in &stanza.options {
            match option.name.text.as_str() {
                "success" => settings.kept[0].read(lines, option)?,
                "denial" => settings.kept[1].read(lines, option)?,
                "prefetch" => settings.prefetch(lines, option)?,
                "serve_stale" => settings.stale = Some(stale(lines, option)?),
                "serve_stale_policy" => {
                    if policy.replace(&option.name).is_some() {
                        let words = "serve_stale_policy can only be specified once";
                        return Err(lines.err(&option.name, words));
                    }
                    prefer_positive(lines, option)?;
                    settings.prefer_positive = true;
                }
                "servfail" => settings.servfail = servfail(lines, option)?,
                "disable" => settings.disable(lines, option)?,
                "keepttl" => {
                    lines.no_args(option)?;
                    settings.keep_ttl = true;
                }
                "budget" => settings.budget = budget(lines, option)?,
                other => return Err(lines.arg_err(&option.name).suggesting(other, &OPTIONS)),
            }
        }
        match policy {
            Some(word) if settings.stale.is_none() => {
                Err(lines.err(word, "serve_stale_policy requires serve_stale"))
            }
            _ => Ok(settings),
        }
    }

    fn prefetch(&mut self, lines: &Lines<'_>, option: &OptionLine) -> Result<(), CorefileError> {
        let args = lines.some_args(option)?;
        if let Some(extra) = args.get(3) {
            return Err(lines.arg_err(extra));
        }
        let amount = whole(lines, &args[0])?;
        self.prefetch = u64::try_from(amount).map_err(|_| {
            lines.err(&args[0], format!("prefetch amount should be positive: {amount}"))
        })?;
        if let Some(pause) = args.get(1) {
            self.prefetch_pause = duration(lines, pause)?.unwrap_or_default();
        }
        if let Some(word) = args.get(2) {
            let Some(number) = word.text.strip_suffix('%') else {
                let last = word.text.chars().last().unwrap_or(' ');
                let words = format!("last character of percentage should be `%`, but is: {last:?}");
                return Err(lines.err(word, words));
            };
            let number = whole(lines, &Token { text: number.to_owned(), ..word.clone() })?;
            if !(10..=90).contains(&number) {
                let words = format!("percentage should fall in range [10, 90]: {number}");
                return Err(lines.err(word, words));
            }
            self.prefetch_percent = number as u32;
        }
        Ok(())
    }

    fn disable(&mut self, lines: &Lines<'_>, option: &OptionLine) -> Result<(), CorefileError> {
        let (class, zones) = match lines.some_args(option)? {
            [class, zones @ ..] => (class, zones),
            [] => return Err(lines.arg_err(&option.name)),
        };
        let mut except = Vec::new();
        for zone in zones {
            let refuse = |_| lines.err(zone, format!("invalid disabled zone: {}", zone.text));
            except.push(lines.name(zone).map_err(refuse)?);
        }
        if zones.is_empty() {
            except.push(NameBuf::root());
        }
        let class = match class.text.as_str() {
            "success" => 0,
            "denial" => 1,
            other => {
                let words = "cache type for disable must be \"success\" or \"denial\"";
                return Err(lines.err(class, words).suggesting(other, &["success", "denial"]));
            }
        };
        self.kept[class].except = except;
        Ok(())
    }
}

impl Kept {
    /// `success` and `denial`: CAPACITY [TTL] [MINTTL].
    fn read(&mut self, lines: &Lines<'_>, option: &OptionLine) -> Result<(), CorefileError> {
        let args = lines.some_args(option)?;
        self.entries_max = capacity(whole(lines, &args[0])?);
        if let Some(word) = args.get(1) {
            self.ttl_max = longest_life(lines, word, whole(lines, word)?)?;
        }
        if let Some(word) = args.get(2) {
            let least = whole(lines, word)?;
            if least < 0 {
                let words = format!("cache min TTL can not be negative: {least}");
                return Err(lines.err(word, words));
            }
            self.ttl_min = seconds(least);
        }
        Ok(())
    }
}

/// `serve_stale [DURATION] [immediate [TTL [RECHECK]] | verify [TIMEOUT [TTL [RECHECK]]]]`.
fn stale(lines: &Lines<'_>, option: &OptionLine) -> Result<Stale, CorefileError> {
    let args = option.args();
    if let Some(extra) = args.get(5) {
        return Err(lines.arg_err(extra));
    }
    let mut stale = Stale {
        up_to: 3600,
        verify: false,
        verify_timeout: Duration::ZERO,
        ttl: 0,
        recheck: Duration::ZERO,
    };
    if let Some(word) = args.first() {
        let words = "invalid negative duration for serve_stale";
        stale.up_to = not_negative(lines, word, words)?.as_secs() as i64;
    }
    if let Some(mode) = args.get(1) {
        stale.verify = match mode.text.to_lowercase().as_str() {
            "immediate" => false,
            "verify" => true,
            other => {
                let words = format!("invalid value for serve_stale refresh mode: {other}");
                let error = lines.err(mode, words);
                return Err(error.suggesting(other, &["immediate", "verify"]));
            }
        };
    }
    let mut rest = args.get(2..).unwrap_or_default();
    if stale.verify
        && let Some((timeout, after)) = rest.split_first()
    {
        let words = "invalid negative timeout for serve_stale verify";
        stale.verify_timeout = named(lines, timeout, "serve_stale verify timeout", words)?;
        rest = after;
    }
    match rest {
        [] => {}
        [ttl] => stale.ttl = stale_ttl(lines, ttl)?,
        [ttl, recheck] => {
            stale.ttl = stale_ttl(lines, ttl)?;
            stale.recheck = stale_recheck(lines, recheck)?;
        }
        [_, _, extra, ..] => return Err(lines.arg_err(extra)),
    }
    Ok(stale)
}

fn stale_ttl(lines: &Lines<'_>, word: &Token) -> Result<u32, CorefileError> {
    let sign = "invalid negative response TTL for serve_stale";
    let ttl = named(lines, word, "serve_stale response TTL", sign)?;
    if ttl.subsec_nanos() != 0 {
        let words = "serve_stale response TTL must be a whole number of seconds";
        return Err(lines.err(word, words));
    }
    u32::try_from(ttl.as_secs())
        .map_err(|_| lines.err(word, "serve_stale response TTL exceeds the DNS TTL range"))
}

fn stale_recheck(lines: &Lines<'_>, word: &Token) -> Result<Duration, CorefileError> {
    let sign = "invalid negative failure recheck for serve_stale";
    let recheck = named(lines, word, "serve_stale failure recheck", sign)?;
    if recheck > FIVE_MINUTES {
        return Err(lines.err(word, "serve_stale failure recheck cannot exceed 5 minutes"));
    }
    Ok(recheck)
}

fn prefer_positive(lines: &Lines<'_>, option: &OptionLine) -> Result<(), CorefileError> {
    let word = lines.one_arg(option)?;
    if word.text.eq_ignore_ascii_case("prefer_positive") {
        return Ok(());
    }
    let error = lines.err(word, format!("invalid serve_stale_policy: {}", word.text));
    Err(error.suggesting(&word.text, &["prefer_positive"]))
}

fn servfail(lines: &Lines<'_>, option: &OptionLine) -> Result<Duration, CorefileError> {
    let word = lines.one_arg(option)?;
    let time = not_negative(lines, word, "invalid negative ttl for servfail")?;
    if time > FIVE_MINUTES {
        let words = "caching SERVFAIL responses over 5 minutes is not permitted";
        return Err(lines.err(word, words));
    }
    Ok(time)
}

/// Octets: a number with `KiB`, `MiB`, `GiB`, or of octets.
fn budget(lines: &Lines<'_>, option: &OptionLine) -> Result<usize, CorefileError> {
    let word = lines.one_arg(option)?;
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("", 0)];
    let (number, shift) = units
        .iter()
        .find_map(|(unit, shift)| Some((word.text.strip_suffix(unit)?, *shift)))
        .unwrap_or((&word.text, 0));
    let octets = number.parse::<usize>().ok().and_then(|number| number.checked_mul(1 << shift));
    match octets {
        Some(octets) if octets >= CACHE_BUDGET_BYTES_MIN => Ok(octets),
        Some(_) => Err(lines.err(word, format!("budget {} is below 1MiB", word.text))),
        None => {
            let words = format!("invalid budget {:?}: a number with KiB, MiB or GiB", word.text);
            Err(lines.err(word, words))
        }
    }
}
