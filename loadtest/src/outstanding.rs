//! The queries of one link that wait for their answers, and what an answer is to them.
//!
//! Ids run through all 65,536 values in order, so that an answer that comes after its time-out
//! is known for late, and not taken for that of a younger query. Every operation is O(1).

use crate::source::{Expected, NO_LOOKUP, question_hash};
use std::collections::HashMap;

/// Places of the table: at most so many queries are outstanding on a link.
pub const OUTSTANDING_MAX: usize = 1 << 14;
/// Room for lost queries that still hold their places, as a multiple of the window.
const SPARE: usize = 4;

/// What an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It answers the query that was due at this time (ns), with this rcode.
    Answer {
        /// When the query was due.
        due_ns: u64,
        /// Whether the rcode is the expected one.
        as_expected: bool,
        /// The look-up that asked, or [`NO_LOOKUP`].
        lookup: u32,
    },
    /// It answers a query that had timed out, and stays lost.
    Late,
    /// It answers no query: wrong id, wrong question, no response, or a second answer.
    Mismatched,
}

#[derive(Clone, Copy)]
struct Slot {
    expected: Expected,
    due_ns: u64,
    sent_ns: u64,
    id: u16,
    waits: bool,
}

/// A table of outstanding queries.
pub struct Outstanding {
    slots: Vec<Slot>,
    /// Ids from `oldest` up to `next` (wrapping) may be outstanding; no others are.
    oldest: u16,
    next: u16,
    waiting: usize,
    time_out_ns: u64,
    /// Hashes of the questions of timed-out queries, by id, until the id is used again.
    timed_out: HashMap<u16, u64>,
    lost: u64,
    /// The look-ups of lost queries, until they are taken.
    lost_lookups: Vec<u32>,
}

impl Outstanding {
    /// A table for `window` outstanding queries, each lost after `time_out_ns`.
    pub fn new(window: usize, time_out_ns: u64) -> Self {
        let places = (window * SPARE).next_power_of_two().clamp(64, OUTSTANDING_MAX);
        let expected =
            Expected { question_hash: 0, question_len: 0, rcode: None, lookup: NO_LOOKUP };
        let empty = Slot { expected, due_ns: 0, sent_ns: 0, id: 0, waits: false };
        Self {
            slots: vec![empty; places],
            oldest: 0,
            next: 0,
            waiting: 0,
            time_out_ns,
            timed_out: HashMap::new(),
            lost: 0,
            lost_lookups: Vec::new(),
        }
    }

    /// How many queries wait.
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// How many queries timed out or were given up.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The look-up of a lost query; each is told once.
    pub fn take_lost_lookup(&mut self) -> Option<u32> {
        self.lost_lookups.pop()
    }

    fn slot(&mut self, id: u16) -> &mut Slot {
        let mask = self.slots.len() - 1;
        &mut self.slots[usize::from(id) & mask]
    }

    /// The id for the next query, to be given to [`Self::insert`]. `None`: the table is full.
    pub fn next_id(&mut self) -> Option<u16> {
        for _ in 0..self.slots.len() {
            let id = self.next;
            if id.wrapping_add(1) == self.oldest {
                // 65,535 younger queries were sent since: it will not be answered.
                self.pass_oldest();
            }
            self.next = id.wrapping_add(1);
            if !self.slot(id).waits {
                return Some(id);
            }
        }
        None
    }

    /// Notes that query `id` was due and sent at these times.
    pub fn insert(&mut self, id: u16, expected: Expected, due_ns: u64, sent_ns: u64) {
        if !self.timed_out.is_empty() {
            self.timed_out.remove(&id);
        }
        *self.slot(id) = Slot { expected, due_ns, sent_ns, id, waits: true };
        self.waiting += 1;
    }

    /// Forgets query `id`, which was not sent after all. To its look-up it is lost.
    pub fn cancel(&mut self, id: u16) {
        let slot = self.slot(id);
        if slot.waits && slot.id == id {
            slot.waits = false;
            let lookup = slot.expected.lookup;
            self.waiting -= 1;
            self.tell_lost(lookup);
        }
    }

    fn tell_lost(&mut self, lookup: u32) {
        if lookup != NO_LOOKUP {
            self.lost_lookups.push(lookup);
        }
    }

    /// Says what `message` is, and ends the wait of the query that it answers.
    pub fn settle(&mut self, message: &[u8]) -> Verdict {
        let [id_high, id_low, flags, rcode, 0, 1, ..] = *message else {
            return Verdict::Mismatched;
        };
        let id = u16::from_be_bytes([id_high, id_low]);
        let is_response = flags & 0x80 != 0;
        let slot = self.slot(id);
        let Expected { question_hash: expected_hash, question_len, rcode: expected_rcode, lookup } =
            slot.expected;
        if !slot.waits || slot.id != id || !is_response {
            return self.late_or_mismatched(id, message);
        }
        let asked = message.get(12..12 + usize::from(question_len));
        if asked.is_none_or(|asked| question_hash(asked) != expected_hash) {
            return Verdict::Mismatched;
        }
        slot.waits = false;
        let due_ns = slot.due_ns;
        self.waiting -= 1;
        let as_expected = expected_rcode.is_none_or(|expected| expected == rcode & 15);
        Verdict::Answer { due_ns, as_expected, lookup }
    }

    fn late_or_mismatched(&mut self, id: u16, message: &[u8]) -> Verdict {
        let Some(expected) = self.timed_out.get(&id) else { return Verdict::Mismatched };
        // The length of the question is not kept: walk its name (never compressed here).
        let mut end = 12;
        while let Some(&len @ 1..=63) = message.get(end) {
            end += 1 + usize::from(len);
        }
        match message.get(12..end + 5) {
            Some(asked) if question_hash(asked) == *expected => {
                self.timed_out.remove(&id);
                Verdict::Late
            }
            _ => Verdict::Mismatched,
        }
    }

    /// Counts as lost what was sent a time-out ago or earlier.
    pub fn expire(&mut self, now_ns: u64) {
        while self.oldest != self.next {
            let (oldest, time_out_ns) = (self.oldest, self.time_out_ns);
            let slot = self.slot(oldest);
            let waits = slot.waits && slot.id == oldest;
            if waits && now_ns.saturating_sub(slot.sent_ns) < time_out_ns {
                return;
            }
            self.pass_oldest();
        }
    }

    /// Ends the wait of `oldest`, if it waits, as a loss, and goes on to the next.
    fn pass_oldest(&mut self) {
        let id = self.oldest;
        self.oldest = id.wrapping_add(1);
        let slot = self.slot(id);
        if slot.waits && slot.id == id {
            slot.waits = false;
            let Expected { question_hash, lookup, .. } = slot.expected;
            self.timed_out.insert(id, question_hash);
            self.waiting -= 1;
            self.lost += 1;
            self.tell_lost(lookup);
        }
    }

    /// Counts all as lost: their connection is gone.
    pub fn give_up(&mut self) {
        while self.oldest != self.next {
            self.pass_oldest();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const QUESTION: &[u8] = b"\x01a\0\0\x01\0\x01";

    fn expected() -> Expected {
        let question_hash = question_hash(QUESTION);
        Expected { question_hash, question_len: 7, rcode: Some(0), lookup: NO_LOOKUP }
    }

    fn answer(id: u16, question: &[u8], rcode: u8) -> Vec<u8> {
        let [high, low] = id.to_be_bytes();
        [&[high, low, 0x84, rcode, 0, 1, 0, 0, 0, 0, 0, 0], question].concat()
    }

    fn ask(table: &mut Outstanding, at_ns: u64) -> u16 {
        let id = table.next_id().unwrap();
        table.insert(id, expected(), at_ns, at_ns);
        id
    }

    #[test]
    fn an_answer_is_checked_in_full() {
        let mut table = Outstanding::new(4, 100);
        let id = ask(&mut table, 5);
        assert_eq!(table.settle(&answer(id + 1, QUESTION, 0)), Verdict::Mismatched);
        assert_eq!(table.settle(&answer(id, b"\x01b\0\0\x01\0\x01", 0)), Verdict::Mismatched);
        assert_eq!(table.settle(&answer(id, &QUESTION[..5], 0)), Verdict::Mismatched);
        let mut query = answer(id, QUESTION, 0);
        query[2] = 1;
        assert_eq!(table.settle(&query), Verdict::Mismatched);
        assert_eq!(table.settle(b""), Verdict::Mismatched);
        let good = answer(id, QUESTION, 0);
        let answered =
            |due_ns, as_expected| Verdict::Answer { due_ns, as_expected, lookup: NO_LOOKUP };
        assert_eq!(table.settle(&good), answered(5, true));
        assert_eq!(table.settle(&good), Verdict::Mismatched, "a second answer");
        let id = ask(&mut table, 6);
        assert_eq!(table.settle(&answer(id, QUESTION, 3)), answered(6, false));
        assert!(table.is_empty() && table.lost() == 0);
    }

    #[test]
    fn late_answers_are_known_as_such_once() {
        let mut table = Outstanding::new(4, 100);
        let id = ask(&mut table, 0);
        table.expire(99);
        assert_eq!((table.len(), table.lost()), (1, 0));
        table.expire(100);
        assert_eq!((table.len(), table.lost()), (0, 1));
        for _ in 0..1000 {
            let id = ask(&mut table, 100);
            table.settle(&answer(id, QUESTION, 0));
        }
        assert_eq!(table.settle(&answer(id, QUESTION, 0)), Verdict::Late);
        assert_eq!(table.settle(&answer(id, QUESTION, 0)), Verdict::Mismatched);
    }

    #[test]
    fn lost_queries_neither_block_nor_leak() {
        let mut table = Outstanding::new(16, u64::MAX);
        ask(&mut table, 0);
        for _ in 0..200_000 {
            let id = ask(&mut table, 1);
            assert!(matches!(table.settle(&answer(id, QUESTION, 0)), Verdict::Answer { .. }));
        }
        assert_eq!((table.len(), table.lost()), (0, 1), "the id space came round");
        for _ in 0..64 {
            ask(&mut table, 2);
        }
        assert_eq!(table.next_id(), None, "full");
        table.give_up();
        assert_eq!((table.len(), table.lost()), (0, 65));
    }

    #[test]
    fn look_ups_hear_of_their_lost_queries_once() {
        let mut table = Outstanding::new(4, 100);
        for lookup in [7, NO_LOOKUP, 9] {
            let id = table.next_id().unwrap();
            table.insert(id, Expected { lookup, ..expected() }, 0, 0);
        }
        table.cancel(2);
        table.expire(100);
        assert_eq!((table.take_lost_lookup(), table.take_lost_lookup()), (Some(7), Some(9)));
        assert_eq!((table.take_lost_lookup(), table.lost()), (None, 2));
    }

    proptest! {
        /// Whatever happens, each query is answered, cancelled, lost or waits.
        #[test]
        fn every_query_is_accounted_for(
            steps in prop::collection::vec((0..5u8, 0..40u64), 1..400),
        ) {
            let mut table = Outstanding::new(8, 100);
            let (mut now, mut asked, mut ended, mut open) = (0, 0u64, 0u64, Vec::new());
            for (step, value) in steps {
                match step {
                    0 | 1 => if let Some(id) = table.next_id() {
                        table.insert(id, expected(), now, now);
                        open.push(id);
                        asked += 1;
                    },
                    2 if !open.is_empty() => {
                        let id = open.swap_remove(value as usize % open.len());
                        let verdict = table.settle(&answer(id, QUESTION, 0));
                        ended += u64::from(matches!(verdict, Verdict::Answer { .. }));
                        prop_assert!(verdict != Verdict::Mismatched);
                    }
                    3 => { now += value; table.expire(now); }
                    _ => if let Some(id) = open.pop() {
                        let before = table.len();
                        table.cancel(id);
                        ended += (before - table.len()) as u64;
                    },
                }
                prop_assert_eq!(asked, ended + table.lost() + table.len() as u64);
            }
        }
    }
}
