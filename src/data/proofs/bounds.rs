//! Every walk ends: bounds of questions, waits, frames and memory; a panic; a rewritten reply; a
//! query that is a header alone.

use hickory_proto::op::Message;
use hickory_proto::rr::{Name as TheirName, RData};

use super::probe::Probe;
use super::*;
use crate::data::chain::step::{Entry, Fetch, Step};
use crate::data::clock::{MILLISECOND, SECOND};
use crate::data::slot::Slot;
use crate::limits::{
    ASKS_MAX, FETCHES_MAX, FRAMES_MAX, PARKED_BLOCK_BYTES, PARKED_BYTES_MAX, PARKED_SLOT_BYTES_MAX,
    WALK_MEMORY_BYTES_MAX,
};
use crate::wire::{Name, rcode};

/// Asks a block of this chain once; gives the rcode, and how often a bound was passed.
fn asked(chain: Vec<Link>) -> (u16, u64) {
    let ground = Ground::new(1);
    let mut bench = ground.worker(0, ground.snapshot(1, vec![("a.", chain)]));
    bench.ask(&[(udp(1), query(1, "x.a."))]);
    while bench.turn.parked() != 0 {
        bench.advance(MILLISECOND);
    }
    let (_, reply, more) = bench.out.replies.pop().expect("a reply");
    assert!(bench.is_silent() && !more, "one reply");
    (rcode_of(&reply), ground.over())
}

fn ask_again(cx: &mut Cx<'_>, count: u64) -> Step<[u64; 4]> {
    let name = NameBuf::parse("y.a.").expect("a name");
    cx.ask(name.as_name(), rtype::A, 1);
    Step::Ask([count, 0, 0, 0], Entry::Below)
}

fn answering(last: u8) -> Probe {
    Probe::serving(move |cx| {
        answer(cx, last);
        Step::Up
    })
}

#[test]
fn a_bare_header_gets_one_back() {
    let ground = Ground::new(1);
    let mut bench = ground.worker(0, ground.snapshot(1, vec![("a.", vec![answering(1).into()])]));
    bench.ask(&[(udp(1), vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0])]);
    let (_, reply, _) = bench.out.replies.pop().expect("a reply");
    assert_eq!(reply, [7, 7, 0x81, 2, 0, 0, 0, 0, 0, 0, 0, 0], "SERVFAIL, and no question");
}

#[test]
fn a_walk_past_a_bound_is_servfail_and_counted() {
    let within = |bound: u64| {
        let ask = Probe::serving(|cx| ask_again(cx, 1)).resuming(move |cx, [count, ..]| {
            if count < bound {
                return ask_again(cx, count + 1);
            }
            answer(cx, 1);
            Step::Up
        });
        vec![ask.into(), answering(1).into()]
    };
    assert_eq!(asked(within(u64::from(ASKS_MAX))), (rcode::NOERROR, 0));
    assert_eq!(asked(within(u64::from(ASKS_MAX) + 1)), (rcode::SERVFAIL, 1));

    let sleep = |count| Step::Fetch([count, 0, 0, 0], Fetch::Sleep(MILLISECOND));
    let waits = |bound: u64| {
        Probe::serving(move |_| sleep(1)).resuming(move |cx, [count, ..]| {
            if count < bound {
                return sleep(count + 1);
            }
            answer(cx, 1);
            Step::Up
        })
    };
    assert_eq!(asked(vec![waits(u64::from(FETCHES_MAX)).into()]), (rcode::NOERROR, 0));
    assert_eq!(asked(vec![waits(u64::from(FETCHES_MAX) + 1).into()]), (rcode::SERVFAIL, 1));

    let watched = |frames: usize| {
        let watching = || Probe::serving(|_| Step::Watch([0; 4])).into();
        let mut chain: Vec<Link> = (0..frames).map(|_| watching()).collect();
        chain.push(answering(1).into());
        chain
    };
    assert_eq!(asked(watched(FRAMES_MAX)), (rcode::NOERROR, 0));
    assert_eq!(asked(watched(FRAMES_MAX + 1)), (rcode::SERVFAIL, 1));

    // For ever one level deeper: what is asked asks the same.
    let deeper = Probe::serving(|cx| {
        let name = NameBuf::parse("x.a.").expect("a name");
        cx.ask(name.as_name(), rtype::A, 1);
        Step::Ask([0; 4], Entry::Top)
    })
    .resuming(|cx, _| {
        let code = if cx.depth() == crate::limits::ASK_DEPTH_MAX { cx.level().rcode() } else { 2 };
        cx.fail(code, format_args!("too deep"));
        Step::Up
    });
    assert_eq!(asked(vec![deeper.into()]), (rcode::SERVFAIL, 1));
}

#[test]
fn a_panic_is_servfail_for_its_query_only() {
    let ground = Ground::new(1);
    let touchy = Probe::serving(|cx| {
        assert!(cx.question().lower.as_bytes()[1] != b'p', "on purpose");
        answer(cx, 1);
        Step::Up
    });
    let watching = Probe::serving(|_| Step::Watch([0; 4]));
    let chain = vec![watching.into(), touchy.into()];
    let mut bench = ground.worker(0, ground.snapshot(1, vec![("a.", chain)]));
    let names = ["x.a.", "panic.a.", "y.a.", "p.a.", "z.a."];
    bench.ask(&(1..).zip(names).map(|(n, name)| (udp(n), query(n, name))).collect::<Vec<_>>());
    let rcodes: Vec<_> = bench.out.replies.iter().map(|(_, reply, _)| rcode_of(reply)).collect();
    assert_eq!(rcodes, [0, 2, 0, 2, 0]);
    assert_eq!(ground.tally.value(ground.counters.panics), 2);
}

#[test]
fn a_panic_of_a_hint_or_beyond_the_walk_is_one_querys_too() {
    let ground = Ground::new(1);
    let touchy = Probe::serving(|cx| match cx.question().lower.as_bytes()[1] {
        b'd' => {
            cx.drop_reply();
            Step::Up
        }
        b's' => Step::Fetch([0; 4], Fetch::Sleep(SECOND)),
        _ => {
            answer(cx, 1);
            Step::Up
        }
    })
    .resuming(|cx, _| {
        answer(cx, 1);
        Step::Up
    })
    .hinted_by(|question, next| {
        let first = question.lower.as_bytes()[1];
        assert!(first != if next { b'n' } else { b'h' }, "on purpose");
    });
    let mut bench = ground.worker(0, ground.snapshot(1, vec![("a.", vec![touchy.into()])]));
    // A hint, a second touch, and the way out of one that is dropped.
    let names = ["x.a.", "hint.a.", "y.a.", "next.a.", "drop.a.", "z.a.", "hint.a."];
    bench.out.is_broken = true;
    bench.ask(&(1..).zip(names).map(|(n, name)| (udp(n), query(n, name))).collect::<Vec<_>>());
    let told = |(to, reply, _): &(Client, Vec<u8>, bool)| (to.peer.port(), rcode_of(reply));
    let rcodes: Vec<_> = bench.out.replies.iter().map(told).collect();
    assert_eq!(rcodes, [(1, 0), (2, 2), (3, 0), (4, 2), (5, 2), (6, 0), (7, 2)]);
    for (_, reply, _) in bench.out.replies.drain(..) {
        assert_eq!((reply[2] & 0x80, reply[5]), (0x80, 1), "header and question");
    }
    assert_eq!(ground.tally.value(ground.counters.panics), 4);
    // The way out of one that waited.
    bench.ask(&[(tcp(1), query(8, "s.a."))]);
    bench.out.is_broken = true;
    bench.advance(SECOND);
    assert_eq!((bench.out.replies.len(), bench.turn.parked()), (0, 0));
    bench.ask(&[(udp(1), query(9, "x.a."))]);
    assert_eq!((bench.one_reply(), bench.out.passed.len()), (vec![address(1)], 1));
    assert_eq!(ground.tally.value(ground.counters.panics), 5);
}

#[test]
fn a_hundred_thousand_wait_within_the_stated_octets_and_are_answered_once() {
    const QUERIES: usize = 100_000;
    let ground = Ground::new(1);
    let slow =
        Probe::serving(|_| Step::Fetch([1, 2, 3, 4], Fetch::Sleep(SECOND))).resuming(|cx, note| {
            assert_eq!(note, [1, 2, 3, 4]);
            answer(cx, 1);
            Step::Up
        });
    let mut bench = ground.worker(0, ground.snapshot(1, vec![("a.", vec![slow.into()])]));
    let each = |n: usize| (udp((n >> 16) as u16 + 1), query(n as u16, "waits.a."));
    let queries: Vec<_> = (0..QUERIES).map(each).collect();
    let mut held = 0;
    for round in 0..2 {
        bench.ask(&queries);
        assert!(bench.is_silent() && bench.turn.parked() == QUERIES);
        if round == 0 {
            held = bench.turn.parked_bytes();
            assert!(held <= QUERIES * PARKED_SLOT_BYTES_MAX, "{held}");
            assert!(held >= QUERIES * size_of::<Slot>(), "{held}");
        }
        assert_eq!(bench.turn.parked_bytes(), held, "the same memory again");
        bench.advance(SECOND);
        let replies = std::mem::take(&mut bench.out.replies);
        let who = |(client, reply, _): &(Client, Vec<u8>, bool)| {
            assert_eq!(addresses(reply), [address(1)]);
            (client.peer.port(), reply[0], reply[1])
        };
        let mut answered: Vec<_> = replies.iter().map(who).collect();
        answered.sort_unstable();
        answered.dedup();
        assert_eq!((answered.len(), replies.len()), (QUERIES, QUERIES), "each once");
        assert_eq!((bench.turn.parked(), bench.turn.next_deadline()), (0, None));
    }
}

#[test]
fn who_finds_no_room_to_wait_is_answered_servfail_at_once() {
    let ground = Ground::new(1);
    let keeping = Probe::serving(|cx| {
        assert!(cx.keep(&[7; WALK_MEMORY_BYTES_MAX]).is_some());
        Step::Fetch([0; 4], Fetch::Sleep(SECOND))
    })
    .resuming(|cx, _| {
        answer(cx, 1);
        Step::Up
    });
    let mut bench = ground.worker(0, ground.snapshot(1, vec![("a.", vec![keeping.into()])]));
    let blocks = WALK_MEMORY_BYTES_MAX / PARKED_BLOCK_BYTES;
    let room = PARKED_BYTES_MAX / PARKED_BLOCK_BYTES / blocks;
    let queries: Vec<_> = (0..room + 64).map(|n| (udp(1), query(n as u16, "x.a."))).collect();
    bench.ask(&queries);
    assert!(bench.turn.parked() <= room && bench.turn.parked() > room * 9 / 10);
    let refused = bench.out.replies.len();
    assert_eq!(refused + bench.turn.parked(), queries.len());
    assert!(refused >= 64 && bench.out.replies.iter().all(|(_, r, _)| rcode_of(r) == 2));
    assert_eq!(ground.tally.value(ground.counters.no_slot), refused as u64);
    bench.advance(SECOND);
    assert_eq!((bench.out.replies.len(), bench.turn.parked()), (queries.len(), 0));
}

/// Answers `y.a.` with an alias, a mail exchange and a service, all names compressed.
fn compressed() -> Probe {
    Probe::serving(|cx| {
        let name = |text| NameBuf::parse(text).expect("a name");
        let (target, mail) = (name("target.y.a."), name("mail.other."));
        let (question, reply) = cx.answer(true);
        let (owner, target) = (question.name, target.as_name());
        let answer = Section::Answer;
        let mut exchange = vec![0, 10];
        exchange.extend(target.as_bytes());
        let written = reply
            .push_name(answer, owner, rtype::CNAME, target, 60)
            .and_then(|()| reply.push_address(answer, target, address(6).into(), 60))
            .and_then(|()| {
                let exchange = crate::wire::Rdata::Wire(&exchange);
                reply.push(Section::Additional, mail.as_name(), rtype::MX, 1, 60, exchange)
            });
        written.expect("room for three records");
        Step::Up
    })
}

#[test]
fn a_compressed_reply_is_rebuilt_for_the_name_that_was_asked() {
    let ground = Ground::new(1);
    let rewriting = Probe::serving(|cx| ask_again(cx, 0)).resuming(|cx, _| {
        let mut asked = NameBuf::root();
        asked.set(cx.question().name);
        let inner = NameBuf::parse("y.a.").expect("a name");
        let back = |name: &mut NameBuf| {
            if let Some(labels) = name.as_name().strip(inner.as_name()) {
                *name = NameBuf::join(labels, asked.as_name()).expect("a name that fits");
            }
        };
        cx.answer(true);
        let (level, side) = cx.both();
        let (rtype, rclass) = (side.question().rtype, side.question().rclass);
        let name: Name<'_> = asked.as_name();
        let question = crate::wire::Question { name, lower: name, rtype, rclass };
        let rebuilt = level.reply.rebuild(side.reply.bytes(), Some(question), |draft| {
            back(&mut draft.owner);
            draft.names_mut().iter_mut().for_each(back);
            true
        });
        rebuilt.expect("a valid reply");
        level.reply.set_id(level.asked.id);
        Step::Up
    });
    let chain = vec![rewriting.into(), compressed().into()];
    let mut bench = ground.worker(0, ground.snapshot(1, vec![("a.", chain)]));
    let long = "a-much-longer-name.than-the-one.which-was-asked.a.";
    bench.ask(&[(udp(1), query(258, long))]);
    let (_, reply, _) = bench.out.replies.pop().expect("a reply");
    let message = Message::from_vec(&reply).expect("hickory reads it");
    let theirs = |text: &str| TheirName::from_ascii(text).expect("a name");
    assert_eq!((reply[0], reply[1], message.queries[0].name()), (1, 2, &theirs(long)));
    let target = theirs(&format!("target.{long}"));
    let alias = &message.answers[0];
    assert!(matches!(&alias.data, RData::CNAME(to) if to.0 == target), "{alias}");
    assert_eq!((&alias.name, &message.answers[1].name), (&theirs(long), &target));
    let mail = &message.additionals[0];
    assert!(matches!(&mail.data, RData::MX(to) if to.exchange == target), "{mail}");
    assert_eq!(mail.name, theirs("mail.other."));
    assert!(reply.len() < 12 + 3 * long.len(), "and is compressed again");
}
