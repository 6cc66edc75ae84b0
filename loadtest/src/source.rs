//! Where queries come from: a file used in turn, a trace, names that never repeat or that repeat as
//! names do (Zipf), a share of misses.
//!
//! All text is parsed before the first query is sent. The mix of hits and misses, and names
//! that are made up, depend on the seed only.

use crate::message::{Edns, QUERY_LEN_MAX, question, record_type, write_query};
use crate::trace::Entry;
use foldhash::fast::FixedState;
use std::hash::BuildHasher;
use std::path::Path;

/// Bytes of the label that [`Source::random_labels`] makes up: 16 hexadecimal digits.
const RANDOM_LABEL_LEN: usize = 16;

/// What must be true of the answer to a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Hash of the question (name as sent, type, class): see [`question_hash`].
    pub question_hash: u64,
    /// Bytes of the question.
    pub question_len: u16,
    /// The rcode, where one is expected.
    pub rcode: Option<u8>,
    /// The look-up that asks, or [`NO_LOOKUP`].
    pub lookup: u32,
}

/// No look-up asks: the query stands for itself.
pub const NO_LOOKUP: u32 = u32::MAX;

impl Expected {
    /// The answer to `question`, whatever its rcode.
    #[inline]
    pub fn of(question: &[u8]) -> Self {
        Self {
            question_hash: question_hash(question),
            question_len: question.len() as u16,
            rcode: None,
            lookup: NO_LOOKUP,
        }
    }
}

/// A hash that tells the questions of a run apart.
#[inline]
pub fn question_hash(question: &[u8]) -> u64 {
    FixedState::default().hash_one(question)
}

/// An endless sequence of queries.
pub struct Source {
    hits: Questions,
    hit_rcode: Option<u8>,
    misses: Option<Misses>,
    edns: Option<Edns>,
    random: Random,
}

struct Misses {
    questions: Questions,
    rcode: Option<u8>,
    /// A query is a miss where 32 random bits are below this.
    below: u32,
}

enum Questions {
    /// Questions one behind the other; the ends of each. Used in turn, in a circle.
    Listed { bytes: Vec<u8>, ends: Vec<usize>, next: usize },
    /// One question, whose first label is written anew each time.
    Random { question: Vec<u8>, next: u64 },
    /// As `Random`, of so many names as there are weights: of the nth and those before it, the sum.
    Zipf { question: Vec<u8>, sums: Vec<f64>, random: Random },
    /// Those of a trace, each with its own OPT; in a circle.
    Traced { entries: Vec<Entry>, next: usize },
}

impl Source {
    /// Queries of a text of `name type` lines (dnsperf's format; `;` and `#` begin comments).
    pub fn listed(text: &str, seed: u64) -> Result<Self, String> {
        Ok(Self::of(Questions::listed(text)?, seed))
    }

    /// A queries for names of `zone` that never repeat in a run.
    pub fn random_labels(zone: &str, seed: u64) -> Result<Self, String> {
        let question = labelled(zone)?;
        Ok(Self::of(Questions::Random { question, next: Random::new(seed).next() }, seed))
    }

    /// A queries for `names` names of `zone`, the same for every seed, of which the nth has a weight
    /// of 1/n.
    pub fn zipf(zone: &str, names: u32, seed: u64) -> Result<Self, String> {
        let question = labelled(zone)?;
        let mut sum = 0.0;
        let sums = (1..=names.max(1)).map(|n| {
            sum += 1.0 / f64::from(n);
            sum
        });
        let sums = sums.collect();
        Ok(Self::of(Questions::Zipf { question, sums, random: Random::new(seed) }, seed))
    }

    /// The queries of a trace (at least one), in its order.
    pub fn traced(entries: Vec<Entry>, seed: u64) -> Self {
        Self::of(Questions::Traced { entries, next: 0 }, seed)
    }

    fn of(hits: Questions, seed: u64) -> Self {
        Self { hits, hit_rcode: None, misses: None, edns: None, random: Random::new(seed) }
    }

    /// Makes a `share` (0 to 1) of the queries those of another text of `name type` lines.
    pub fn with_misses(mut self, text: &str, share: f64) -> Result<Self, String> {
        let below = (share.clamp(0.0, 1.0) * f64::from(u32::MAX)) as u32;
        self.misses = Some(Misses { questions: Questions::listed(text)?, rcode: None, below });
        Ok(self)
    }

    /// Expects these rcodes of every answer to a hit and to a miss.
    pub fn expecting(mut self, hit: u8, miss: u8) -> Self {
        self.hit_rcode = Some(hit);
        if let Some(misses) = &mut self.misses {
            misses.rcode = Some(miss);
        }
        self
    }

    /// Adds OPT to every query.
    pub fn with_edns(mut self, edns: Option<Edns>) -> Self {
        self.edns = edns;
        self
    }

    /// Writes the next query; returns its length and what its answer must be. `buffer` has at
    /// least [`QUERY_LEN_MAX`] bytes.
    #[inline]
    pub fn write_next(&mut self, id: u16, buffer: &mut [u8]) -> (usize, Expected) {
        debug_assert!(buffer.len() >= QUERY_LEN_MAX);
        let (questions, rcode) = match &mut self.misses {
            Some(misses) if (self.random.next() >> 32) < u64::from(misses.below) => {
                (&mut misses.questions, misses.rcode)
            }
            _ => (&mut self.hits, self.hit_rcode),
        };
        let (question, own_edns) = questions.next();
        let expected = Expected { rcode, ..Expected::of(question) };
        (write_query(buffer, id, question, self.edns.or(own_edns)), expected)
    }
}

impl Questions {
    fn listed(text: &str) -> Result<Self, String> {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with([';', '#']) {
                continue;
            }
            let fail = |what: &str| format!("line {}: {what}: {line}", index + 1);
            let mut words = line.split_whitespace();
            let (Some(name), Some(mnemonic), None) = (words.next(), words.next(), words.next())
            else {
                return Err(fail("not `name type`"));
            };
            let record_type = record_type(mnemonic).ok_or_else(|| fail("unknown type"))?;
            bytes.extend(question(name, record_type).map_err(|error| fail(&error))?);
            ends.push(bytes.len());
        }
        if ends.is_empty() {
            return Err("no queries".into());
        }
        Ok(Self::Listed { bytes, ends, next: 0 })
    }

    /// The next question, and the OPT that it came with.
    #[inline]
    fn next(&mut self) -> (&[u8], Option<Edns>) {
        match self {
            Self::Listed { bytes, ends, next } => {
                let start = if *next == 0 { 0 } else { ends[*next - 1] };
                let question = &bytes[start..ends[*next]];
                *next = if *next + 1 == ends.len() { 0 } else { *next + 1 };
                (question, None)
            }
            Self::Traced { entries, next } => {
                let entry = &entries[*next];
                *next = if *next + 1 == entries.len() { 0 } else { *next + 1 };
                (&entry.question, entry.edns)
            }
            Self::Random { question, next } => {
                write_label(question, *next);
                *next = next.wrapping_add(1);
                (question, None)
            }
            Self::Zipf { question, sums, random } => {
                let highest = sums.last().copied().unwrap_or_default();
                let place = (random.next() >> 11) as f64 / (1_u64 << 53) as f64 * highest;
                write_label(question, sums.partition_point(|sum| *sum <= place) as u64);
                (question, None)
            }
        }
    }
}

/// A question for A, whose first label is still to be written.
fn labelled(zone: &str) -> Result<Vec<u8>, String> {
    let name = format!("{}.{}", "x".repeat(RANDOM_LABEL_LEN), zone.trim_start_matches('.'));
    question(&name, 1)
}

/// Writes the first label: another for each number.
fn write_label(question: &mut [u8], number: u64) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let digits = mixed(number);
    for (place, byte) in question[1..=RANDOM_LABEL_LEN].iter_mut().enumerate() {
        *byte = HEX[(digits >> (4 * place)) as usize & 15];
    }
}

/// Reads a file of queries.
pub fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and every state has its own output.
pub struct Random(u64);

impl Random {
    /// The same numbers for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }
}

/// A bijection of 64 bits: what differs stays different.
#[inline]
fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn take(source: &mut Source, count: usize) -> Vec<(Vec<u8>, Expected)> {
        let mut buffer = [0; QUERY_LEN_MAX];
        let mut one = || {
            let (len, expected) = source.write_next(7, &mut buffer);
            (buffer[..len].to_vec(), expected)
        };
        (0..count).map(|_| one()).collect()
    }

    #[test]
    fn listed_queries_go_round() {
        let mut source = Source::listed("; a comment\na A\n\nb.c AAAA\n", 1).unwrap();
        let queries = take(&mut source, 3);
        assert!(queries[0].0.ends_with(b"\x01a\0\0\x01\0\x01"));
        assert!(queries[1].0.ends_with(b"\x01b\x01c\0\0\x1c\0\x01"));
        assert_eq!(queries[0], queries[2]);
        assert_eq!(queries[0].1.question_len, 7);
        assert_eq!(queries[0].1.question_hash, question_hash(b"\x01a\0\0\x01\0\x01"));
    }

    #[test]
    fn mistakes_have_a_line() {
        for (text, start) in [
            ("", "no queries"),
            ("a A\na", "line 2: not `name type`"),
            ("a NOPE", "line 1: unknown type"),
            ("a..b A", "line 1: \"a..b\": an empty label"),
        ] {
            let error = Source::listed(text, 1).err().unwrap();
            assert!(error.starts_with(start), "{error}");
        }
    }

    #[test]
    fn names_of_zipf_repeat_by_their_weight() {
        let mut source = Source::zipf("example.org", 4, 1).unwrap();
        let mut counts = std::collections::HashMap::new();
        for (query, _) in take(&mut source, 25_000) {
            *counts.entry(query).or_insert(0) += 1;
        }
        let mut counts: Vec<u32> = counts.into_values().collect();
        counts.sort_unstable();
        // 1, 1/2, 1/3 and 1/4 of 12/25 each.
        for (count, expected) in counts.iter().rev().zip([12_000, 6_000, 4_000, 3_000]) {
            assert!(count.abs_diff(expected) < 400, "{counts:?}");
        }
        assert_eq!(counts.len(), 4);
        let names = |seed| {
            let mut source = Source::zipf("example.org", 4, seed).unwrap();
            take(&mut source, 200).into_iter().map(|(query, _)| query).collect::<Vec<_>>()
        };
        assert_ne!(names(1), names(2), "the order is the seed's");
        assert_eq!(
            names(1).into_iter().collect::<HashSet<_>>(),
            names(2).into_iter().collect::<HashSet<_>>(),
            "the names are not"
        );
    }

    #[test]
    fn random_labels_never_repeat_and_follow_the_seed() {
        let mut source = Source::random_labels("example.org", 1).unwrap();
        let queries = take(&mut source, 1000);
        assert_eq!(queries.iter().map(|q| &q.0).collect::<HashSet<_>>().len(), 1000);
        let mut same = Source::random_labels("example.org.", 1).unwrap();
        assert_eq!(queries, take(&mut same, 1000));
        let mut other = Source::random_labels("example.org", 2).unwrap();
        assert_ne!(queries, take(&mut other, 1000));
    }

    #[test]
    fn the_mix_holds_its_share() {
        let source = Source::listed("hit A", 3).unwrap().with_misses("miss A", 0.2).unwrap();
        let queries = take(&mut source.expecting(0, 3), 10_000);
        let misses = queries.iter().filter(|q| q.1.rcode == Some(3)).count();
        assert!((1_900..2_100).contains(&misses), "{misses}");
        assert!(queries.iter().all(|q| q.1.rcode.is_some()));
    }
}
