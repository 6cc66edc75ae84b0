//! Which upstream is asked next.
//!
//! A [`Round`] of a query asks every upstream that is up once, in the order of the policy, before it
//! asks one again. Of those that are up, the ones nothing is held against come first: neither a
//! failure that no probe has cleared yet, nor a burst of SERVFAIL or of lost queries
//! ([`super::breaker`]), nor that queries wait there and nothing comes any more. So one dead upstream
//! among several costs the queries of its first tenth of a second a timeout, and hardly any other.
//! `sequential` keeps to its order until something has failed: its upstreams may know different names.
//! Costs a look at each upstream's cells, with no lock and no allocation.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::set::{Member, Set};
use crate::data::clock::Nanos;
use crate::data::rng::Rng;
use crate::limits::{FORWARD_UPSTREAMS_MAX, SHARED_LINE_BYTES};

/// In what order upstreams are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Any.
    Random,
    /// In turn.
    RoundRobin,
    /// As they stand in the Corefile.
    Sequential,
    /// The one with the shortest expected wait, and sometimes another, to learn of it.
    Fastest,
}

/// Of so many choices by `fastest` one goes to any upstream: few enough that a slow one is not seen in
/// the 99th percentile.
const EXPLORE_ONE_OF: u32 = 128;

/// Indices of upstreams in their set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round(u64);

const _: () = assert!(FORWARD_UPSTREAMS_MAX <= 64);

impl Round {
    /// All of the first `count`.
    fn first(count: usize) -> Self {
        Self(if count >= 64 { u64::MAX } else { (1 << count) - 1 })
    }

    /// Adds one.
    pub fn add(&mut self, index: usize) {
        self.0 |= 1 << index;
    }

    fn has(self, index: usize) -> bool {
        self.0 & 1 << index != 0
    }

    fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn lowest(self) -> Option<usize> {
        (self.0 != 0).then(|| self.0.trailing_zeros() as usize)
    }

    fn any(self, rng: &mut Rng) -> Option<usize> {
        let count = self.0.count_ones();
        let skip = if count > 1 { rng.below(count) } else { 0 };
        let mut rest = self.0;
        for _ in 0..skip {
            rest &= rest - 1;
        }
        Self(rest).lowest()
    }

    fn indices(self) -> impl Iterator<Item = usize> {
        (0..64).filter(move |index| self.has(*index))
    }
}

/// What a choice came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Ask this one.
    One(usize),
    /// All are down; ask this one, in case it is the probes that are broken.
    Blind(usize),
    /// There is none to ask.
    None,
}

/// A policy with what it remembers.
pub struct Chooser {
    /// The policy.
    pub policy: Policy,
    /// Failed probes that are borne; 0: nobody is ever down.
    pub max_fails: u32,
    turn: Turn,
}

/// Shared by all workers, as the turn is: on a cache line of its own.
#[repr(align(128))]
struct Turn(AtomicU32);

const _: () = assert!(align_of::<Turn>() >= SHARED_LINE_BYTES);

impl Chooser {
    /// A policy that has chosen nothing yet.
    pub fn new(policy: Policy, max_fails: u32) -> Self {
        Self { policy, max_fails, turn: Turn(AtomicU32::new(0)) }
    }

    /// Chooses who is asked first or next; `tried` are those that this round has asked, and a new
    /// round begins when nobody is left.
    pub fn choose(&self, set: &Set, tried: &mut Round, rng: &mut Rng, now: Nanos) -> Choice {
        let (up, clear) = self.judge(set, now);
        if up.is_empty() {
            return Round::first(set.members.len()).any(rng).map_or(Choice::None, Choice::Blind);
        }
        if up.without(*tried).is_empty() {
            *tried = Round::default();
        }
        let left = up.without(*tried);
        let best = clear.without(*tried);
        let among = if best.is_empty() { left } else { best };
        let chosen = self.pick(set, among, *tried, rng);
        chosen.map_or(Choice::None, |index| {
            tried.add(index);
            Choice::One(index)
        })
    }

    /// Another than those tried, if one is up that nothing is held against: for a second question
    /// beside the first.
    pub fn second(&self, set: &Set, tried: Round, rng: &mut Rng, now: Nanos) -> Option<usize> {
        let (_, clear) = self.judge(set, now);
        self.pick(set, clear.without(tried), tried, rng)
    }

    /// Those that are up, and those of them that nothing is held against.
    fn judge(&self, set: &Set, now: Nanos) -> (Round, Round) {
        let (mut up, mut clear) = (Round::default(), Round::default());
        for (index, member) in set.members.iter().enumerate() {
            if self.is_down(member) {
                continue;
            }
            up.add(index);
            let quiet = self.policy != Policy::Sequential && member.is_quiet(now);
            if !quiet && !member.is_ill(now) {
                clear.add(index);
            }
        }
        (up, clear)
    }

    /// Whether so many probes failed that it is not asked any more.
    pub fn is_down(&self, member: &Member) -> bool {
        self.max_fails != 0 && member.upstream.cells.fails.load(Relaxed) > self.max_fails
    }

    fn pick(&self, set: &Set, among: Round, tried: Round, rng: &mut Rng) -> Option<usize> {
        match self.policy {
            Policy::Random => among.any(rng),
            Policy::Sequential => among.lowest(),
            Policy::RoundRobin if tried.is_empty() => {
                let turn = self.turn.0.fetch_add(1, Relaxed).wrapping_add(1);
                let index = turn as usize % set.members.len();
                if among.has(index) { Some(index) } else { among.lowest() }
            }
            // Who is next after the first stands in CoreDNS's order too.
            Policy::RoundRobin => among.lowest(),
            Policy::Fastest if rng.below(EXPLORE_ONE_OF) == 0 => among.any(rng),
            Policy::Fastest => among.indices().min_by_key(|index| set.members[*index].cost()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::set::tests::set_of;
    use super::*;

    fn rng() -> Rng {
        Rng::from_seed(5)
    }

    /// Who is asked, one round or more.
    fn order(chooser: &Chooser, set: &Set, count: usize) -> Vec<usize> {
        let (mut tried, mut rng) = (Round::default(), rng());
        (0..count)
            .filter_map(|_| match chooser.choose(set, &mut tried, &mut rng, 1) {
                Choice::One(index) => Some(index),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn sequential_is_the_order_of_the_corefile_and_begins_again() {
        let set = set_of(3);
        let chooser = Chooser::new(Policy::Sequential, 2);
        assert_eq!(order(&chooser, &set, 7), [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn round_robin_takes_turns_and_then_the_others_in_order() {
        let set = set_of(3);
        let chooser = Chooser::new(Policy::RoundRobin, 2);
        let orders: Vec<_> = (0..4).map(|_| order(&chooser, &set, 3)).collect();
        assert_eq!(orders, [[1, 0, 2], [2, 0, 1], [0, 1, 2], [1, 0, 2]]);
    }

    #[test]
    fn random_asks_all_of_them_once_a_round() {
        let set = set_of(5);
        let chooser = Chooser::new(Policy::Random, 2);
        let mut firsts = [0; 5];
        let mut rng = rng();
        for _ in 0..5_000 {
            let mut tried = Round::default();
            let mut round: Vec<usize> = (0..5)
                .map(|_| match chooser.choose(&set, &mut tried, &mut rng, 1) {
                    Choice::One(index) => index,
                    other => panic!("{other:?}"),
                })
                .collect();
            firsts[round[0]] += 1;
            round.sort_unstable();
            assert_eq!(round, [0, 1, 2, 3, 4]);
        }
        assert!(firsts.iter().all(|count| (850..1_150).contains(count)), "{firsts:?}");
    }

    #[test]
    fn who_is_down_is_not_asked_and_who_is_suspect_is_asked_last() {
        let set = set_of(3);
        let chooser = Chooser::new(Policy::Sequential, 2);
        set.members[0].suspect();
        assert_eq!(order(&chooser, &set, 4), [1, 2, 0, 1]);
        set.members[1].upstream.cells.fails.store(2, Relaxed);
        assert_eq!(order(&chooser, &set, 3), [1, 2, 0], "more than max_fails, not as many");
        set.members[1].upstream.cells.fails.store(3, Relaxed);
        assert_eq!(order(&chooser, &set, 3), [2, 0, 2]);
        set.members[0].clear();
        assert_eq!(order(&chooser, &set, 2), [0, 2]);
        let patient = Chooser::new(Policy::Sequential, 0);
        assert_eq!(order(&patient, &set, 3), [0, 1, 2], "max_fails 0: nobody is down");
    }

    #[test]
    fn when_all_are_down_any_is_asked_blindly() {
        let set = set_of(2);
        for member in &set.members {
            member.upstream.cells.fails.store(9, Relaxed);
        }
        let chooser = Chooser::new(Policy::Sequential, 2);
        let mut rng = rng();
        let mut seen = [false; 2];
        for _ in 0..100 {
            match chooser.choose(&set, &mut Round::default(), &mut rng, 1) {
                Choice::Blind(index) => seen[index] = true,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(seen, [true, true]);
        assert_eq!(chooser.second(&set, Round::default(), &mut rng, 1), None);
        let none = chooser.choose(&set_of(0), &mut Round::default(), &mut rng, 1);
        assert_eq!(none, Choice::None);
    }

    #[test]
    fn fastest_prefers_the_shorter_wait_and_still_looks_at_the_others() {
        let set = set_of(3);
        for (member, latency) in set.members.iter().zip([9_000_000, 1_000_000, 5_000_000]) {
            member.upstream.cells.observe(latency, 1);
        }
        let chooser = Chooser::new(Policy::Fastest, 2);
        let mut rng = rng();
        let mut firsts = [0; 3];
        for _ in 0..12_800 {
            if let Choice::One(index) = chooser.choose(&set, &mut Round::default(), &mut rng, 1) {
                firsts[index] += 1;
            }
        }
        assert!(firsts[1] > 12_600, "{firsts:?}");
        assert!(firsts[0] > 10 && firsts[2] > 10, "{firsts:?}");
        // Six that wait there make it no faster than the next.
        set.members[1].upstream.cells.in_flight.store(6, Relaxed);
        let among = Round::first(3);
        let picks: Vec<_> = (0..100)
            .filter_map(|_| chooser.pick(&set, among, Round::default(), &mut rng))
            .collect();
        assert!(picks.iter().filter(|index| **index == 2).count() > 90, "{picks:?}");
    }
}
