//! # erratic
//!
//! Answers with fixed data, and on purpose badly: to try out clients, probes and timeouts.
//!
//! ## Syntax
//!
//! ```corefile
//! erratic {
//!     drop [AMOUNT]
//!     truncate [AMOUNT]
//!     delay [AMOUNT [DURATION]]
//!     large
//! }
//! ```
//!
//! An A query is answered with 192.0.2.53 (RFC 5737), an AAAA query with 2001:db8::53 (RFC 3849), a
//! transfer (AXFR) with a zone of five records; every other type fails with SERVFAIL.
//!
//! * `drop`: one query in **AMOUNT** gets no reply (default 2: every second one; 0: none).
//! * `truncate`: some replies have TC set (default **AMOUNT** 2, unless given none); a transfer then
//!   lacks its last SOA record. As in CoreDNS those replies are chosen whose number has no bit in
//!   common with **AMOUNT**.
//! * `delay`: one query in **AMOUNT** (default 2) is answered after **DURATION** (default 100ms).
//! * `large`: an A answer has 30 records, more than fit into 512 octets.
//!
//! With `delay` or `truncate` and without an **AMOUNT** for `drop` nothing is dropped. Queries are
//! numbered from 0, those of all workers together. `autopath @erratic` follows a.example.org and
//! b.example.org.
//!
//! ## Ready
//!
//! It is ready while it has seen 3 or 4 queries, and at no other time: *ready* with `monitor
//! continuously` shows it come and go.
//!
//! ## Examples
//!
//! ```corefile
//! example.org {
//!     erratic {
//!         drop 3
//!         delay 5 50ms
//!     }
//! }
//! ```

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::{Compiled, CorefileError, Cx, Directive, Fetch, Lines, Plugin, SearchPath};
use super::{SetupError, Site, Step};
use crate::control::corefile::{Line, Token};
use crate::wire::{Full, NameBuf, Question, Reply, Section, Soa, rcode, rtype};

const OPTIONS: &[&str] = &["drop", "truncate", "delay", "large"];
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 53);
const ADDRESS6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x53);
/// What `autopath @erratic` follows.
const SEARCH: [&str; 2] = ["a.example.org.", "b.example.org."];
/// A records of a `large` answer.
const LARGE_RECORDS: usize = 30;

/// The directive.
#[derive(Debug, PartialEq, Eq)]
pub struct Erratic {
    drop: u64,
    truncate: u64,
    delay: u64,
    duration: Duration,
    large: bool,
}

/// The link.
pub struct Link {
    how: Erratic,
    seen: Arc<Seen>,
}

/// Queries that have come.
#[derive(Default)]
struct Seen(AtomicU64);

impl super::Ready for Seen {
    fn is_ready(&self) -> bool {
        (3..5).contains(&self.0.load(Relaxed))
    }
}

impl Directive for Erratic {
    const NAME: &'static str = "erratic";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let duration = Duration::from_millis(100);
        let mut how = Self { drop: 2, truncate: 0, delay: 0, duration, large: false };
        let mut drop = false;
        for option in lines.stanzas().iter().flat_map(|stanza| &stanza.options) {
            match option.name.text.as_str() {
                "drop" => {
                    if let Some(word) = lines.at_most_one(option)? {
                        how.drop = amount(lines, word)?;
                        drop = true;
                    }
                }
                "truncate" => {
                    let word = lines.at_most_one(option)?;
                    how.truncate = word.map_or(Ok(2), |word| amount(lines, word))?;
                }
                "delay" => {
                    if let Some(extra) = option.args().get(2) {
                        return Err(lines.arg_err(extra));
                    }
                    how.delay = option.args.first().map_or(Ok(2), |word| amount(lines, word))?;
                    how.duration =
                        option.args.get(1).map_or(Ok(duration), |word| lines.duration(word))?;
                }
                "large" => {
                    if let Some(extra) = option.args.first() {
                        return Err(lines.unknown_option(extra, OPTIONS));
                    }
                    how.large = true;
                }
                _ => return Err(lines.unknown_option(&option.name, OPTIONS)),
            }
        }
        if (how.delay > 0 || how.truncate > 0) && !drop {
            how.drop = 0;
        }
        Ok(how)
    }

    fn compile(self, site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        let seen = Arc::new(Seen::default());
        site.ready(Self::NAME, Arc::clone(&seen) as Arc<dyn super::Ready>);
        Ok(Compiled::link(Link { how: self, seen }))
    }
}

fn amount(lines: &Lines<'_>, word: &Token) -> Result<u64, CorefileError> {
    match word.text.parse::<i32>() {
        Ok(number) => u64::try_from(number)
            .map_err(|_| lines.err(word, format!("illegal amount value given {:?}", word.text))),
        Err(_) => lines.number(word, 0..=i32::MAX as u64),
    }
}

/// Whether query `number` is one in `amount`.
fn is_one_in(amount: u64, number: u64) -> bool {
    number.checked_rem(amount) == Some(0)
}

impl Link {
    fn answer(&self, cx: &mut Cx<'_>, truncated: bool) {
        let rtype = cx.question().rtype;
        if !matches!(rtype, rtype::A | rtype::AAAA | rtype::AXFR) {
            cx.fail(rcode::SERVFAIL, format_args!(""));
            return;
        }
        let (question, reply) = cx.answer(true);
        // All fits into any buffer, but for a zone whose name leaves no room for a label.
        let _ = match rtype {
            rtype::A => {
                let count = if self.how.large { LARGE_RECORDS } else { 1 };
                (0..count).try_for_each(|_| {
                    reply.push_address(Section::Answer, question.name, ADDRESS.into(), 0)
                })
            }
            rtype::AAAA => reply.push_address(Section::Answer, question.name, ADDRESS6.into(), 0),
            _ => transfer(question, reply, truncated),
        };
        if truncated && rtype != rtype::AXFR {
            reply.set_flags(reply.flags().with_tc(true));
        }
    }
}

/// A zone of five records in one message (RFC 5936 section 2.2), `truncated`: without its end.
fn transfer(question: Question<'_>, reply: &mut Reply, truncated: bool) -> Result<(), Full> {
    let name = |text: &str| NameBuf::parse(text).map_err(|_| Full);
    let (mname, rname) = (name("sns.dns.icann.org.")?, name("noc.dns.icann.org.")?);
    let numbers = [2_018_050_825, 7200, 3600, 1_209_600, 3600];
    let soa = Soa { mname: mname.as_name(), rname: rname.as_name(), numbers };
    let mut zone = NameBuf::root();
    zone.set(question.name);
    let (a, b) = (zone.prepend(b"a").map_err(|_| Full)?, zone.prepend(b"b").map_err(|_| Full)?);
    let (a, b) = (a.as_name(), b.as_name());
    let answer = Section::Answer;
    reply.push_soa(answer, question.name, &soa, 0)?;
    reply.push_name(answer, question.name, rtype::NS, b, 0)?;
    reply.push_name(answer, question.name, rtype::NS, a, 0)?;
    let addresses = [[0x2001, 0xbd8, 0, 0, 0, 0, 0, 0x53], [0x2001, 0x500, 0, 0, 0, 0, 0, 0x54]];
    for (name, address) in [a, b].into_iter().zip(addresses) {
        reply.push_address(answer, name, Ipv6Addr::from(address).into(), 0)?;
    }
    if truncated { Ok(()) } else { reply.push_soa(answer, question.name, &soa, 0) }
}

impl Plugin for Link {
    /// Whether the reply is to be truncated.
    type Frame = bool;
    type Local = ();

    fn search_path(self: &Arc<Self>) -> Option<SearchPath> {
        let elements = SEARCH.iter().filter_map(|text| NameBuf::parse(text).ok());
        Some(SearchPath::Same(elements.collect()))
    }

    fn local(&self, _core: u16) {}

    fn serve(&self, (): &mut (), cx: &mut Cx<'_>) -> Step<bool> {
        let number = self.seen.0.fetch_add(1, Relaxed);
        let truncated = self.how.truncate > 0 && number & self.how.truncate == 0;
        if is_one_in(self.how.drop, number) {
            cx.drop_reply();
        } else if is_one_in(self.how.delay, number) {
            let nanos = u64::try_from(self.how.duration.as_nanos()).unwrap_or(u64::MAX / 2);
            return Step::Fetch(truncated, Fetch::Sleep(nanos.min(u64::MAX / 2)));
        } else {
            self.answer(cx, truncated);
        }
        Step::Up
    }

    fn resume(&self, (): &mut (), cx: &mut Cx<'_>, truncated: bool) -> Step<bool> {
        self.answer(cx, truncated);
        Step::Up
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Ready, parse_block};
    use super::*;

    fn parse(block: &str) -> Result<[u64; 3], String> {
        parse_block::<Erratic>(block).map(|how| [how.drop, how.truncate, how.delay])
    }

    #[test]
    fn reads_amounts_and_their_defaults() {
        for (options, amounts) in [
            ("", [2, 0, 0]),
            ("drop", [2, 0, 0]),
            ("drop 0", [0, 0, 0]),
            ("drop 3\ntruncate 5\ndelay 7 1s", [3, 5, 7]),
            ("truncate", [0, 2, 0]),
            ("delay\ndrop", [0, 0, 2]),
            ("delay 4\ndrop 2\nlarge", [2, 0, 4]),
        ] {
            assert_eq!(parse(&format!("erratic {{\n{options}\n}}")), Ok(amounts), "{options}");
        }
        assert_eq!(parse("erratic"), Ok([2, 0, 0]));
        let how = parse_block::<Erratic>("erratic {\ndelay 1 50ms\n}").unwrap();
        assert_eq!(how.duration, Duration::from_millis(50));
    }

    #[test]
    fn refuses_in_coredns_s_words() {
        for (option, words) in [
            ("drop -1", "illegal amount value given \"-1\""),
            ("drop x", "parsing \"x\": invalid syntax"),
            ("drop 1 2", "Wrong argument count or unexpected line ending after '2'"),
            ("truncate 99999999999", "99999999999"),
            ("delay 1 2s 3", "Wrong argument count"),
            ("delay 1 x", "time: invalid duration \"x\""),
            ("slow", "unknown property 'slow'"),
        ] {
            let error = parse(&format!("erratic {{\n{option}\n}}")).expect_err(option);
            assert!(error.contains(words), "{option}: {error}");
        }
    }

    #[test]
    fn one_in_so_many() {
        let hit = |amount| (0..6).map(|number| is_one_in(amount, number)).collect::<Vec<_>>();
        assert_eq!(hit(0), [false; 6]);
        assert_eq!(hit(1), [true; 6]);
        assert_eq!(hit(3), [true, false, false, true, false, false]);
    }

    #[test]
    fn ready_after_three_and_until_five_queries() {
        let seen = Seen::default();
        let ready = (0..7).map(|count| {
            seen.0.store(count, Relaxed);
            seen.is_ready()
        });
        assert_eq!(ready.collect::<Vec<_>>(), [false, false, false, true, true, false, false]);
    }
}
