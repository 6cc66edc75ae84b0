//! What waits: across blocks and reloads, for a slow client, for a flight of another core.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::channel;

use super::probe::Probe;
use super::*;
use crate::cells::FlightKey;
use crate::data::chain::step::{Entry, Fetch, Fetched, Step};
use crate::data::clock::{MILLISECOND, SECOND};
use crate::data::transport::readiness::watch_mailbox;
use crate::limits::{PARKED_BYTES_MAX, WALK_MEMORY_BYTES_MAX, WALK_NANOS_MAX};
use crate::wire::rcode;

/// Blocks `a.` and `b.`: `a.` asks `b.`, which answers 192.0.2.`last` after 10 ms.
fn across(ground: &Ground, generation: u64, last: u8) -> Arc<crate::snapshot::Snapshot> {
    let asking = Probe::serving(|cx| {
        let target = NameBuf::parse("x.b.").expect("a name");
        cx.ask(target.as_name(), rtype::A, 1);
        Step::Ask([7; 4], Entry::Top)
    })
    .resuming(|cx, note| {
        assert_eq!(note, [7; 4], "a frame survives");
        cx.answer(true);
        let (level, side) = cx.both();
        level.reply.append(side.reply.bytes(), |_| true).expect("room for a record");
        Step::Up
    });
    let slow = Probe::serving(|_| Step::Fetch([0; 4], Fetch::Sleep(10 * MILLISECOND))).resuming(
        move |cx, _| {
            answer(cx, last);
            Step::Up
        },
    );
    ground.snapshot(generation, vec![("a.", vec![asking.into()]), ("b.", vec![slow.into()])])
}

#[test]
fn a_parked_ask_over_a_reload_is_answered_by_the_generation_that_it_began_in() {
    let ground = Ground::new(1);
    let first = across(&ground, 1, 1);
    let weak = Arc::downgrade(&first);
    let mut bench = ground.worker(0, first);
    bench.ask(&[(udp(1), query(1, "www.a."))]);
    assert!(bench.is_silent() && bench.turn.parked() == 1);
    bench.turn.adopt(across(&ground, 2, 2));
    assert_eq!((bench.turn.retire(), weak.strong_count()), (1, 1), "held for what is parked");
    bench.ask(&[(udp(2), query(2, "www.a."))]);
    bench.advance(9 * MILLISECOND);
    assert!(bench.is_silent());
    bench.advance(MILLISECOND);
    let replies = std::mem::take(&mut bench.out.replies);
    let told = replies.iter().map(|(to, reply, _)| (to.peer.port(), addresses(reply)));
    let mut told: Vec<_> = told.collect();
    told.sort();
    assert_eq!(told, [(1, vec![address(1)]), (2, vec![address(2)])]);
    assert_eq!((bench.turn.retire(), weak.strong_count()), (2, 0), "released");
    assert_eq!((bench.turn.parked(), bench.turn.next_deadline()), (0, None));
}

/// A transfer of `messages` messages, each with its number; it reads a zone that it holds.
fn transfer(zone: Arc<u64>) -> Probe {
    let send = move |cx: &mut Cx<'_>, number: u64| {
        answer(cx, number as u8);
        if number == *zone { Step::Up } else { Step::Send([number + 1, 0, 0, 0]) }
    };
    let again = send.clone();
    Probe::serving(move |cx| send(cx, 1)).resuming(move |cx, note| again(cx, note[0]))
}

#[test]
fn a_slow_client_gets_every_message_when_it_can_take_it() {
    let ground = Ground::new(1);
    let zone = Arc::new(40);
    let held = Arc::downgrade(&zone);
    let first = ground.snapshot(1, vec![("a.", vec![transfer(zone).into()])]);
    let mut bench = ground.worker(0, first);
    bench.ask(&[(tcp(5), query(9, "a."))]);
    for number in 1..40 {
        let (_, message, more) = bench.out.replies.pop().expect("the next message");
        assert_eq!((addresses(&message), more), (vec![address(number)], true));
        assert_eq!(message[..2], [0, 9], "each message has the query's id");
        bench.advance(SECOND);
        bench.writable((5, 2));
        bench.writable((6, 1));
        assert!(bench.is_silent(), "not before its client can take it");
        if number == 20 {
            bench.turn.adopt(ground.snapshot(2, vec![("b.", vec![])]));
            assert_eq!(held.strong_count(), 2, "the transfer goes on from its zone");
        }
        bench.writable((5, 1));
    }
    let (_, message, more) = bench.out.replies.pop().expect("the last message");
    assert_eq!((addresses(&message), more), (vec![address(40)], false));
    bench.writable((5, 1));
    assert!(bench.is_silent());
    assert_eq!((bench.turn.retire(), held.strong_count()), (2, 2), "left to control");
    while bench.turn.core.spent.pop().is_some() {}
    assert_eq!(held.strong_count(), 0);
}

#[test]
fn a_transfer_ends_with_its_connection_and_one_without_room_to_wait_in_servfail() {
    let ground = Ground::new(1);
    let chain = |messages| vec![transfer(Arc::new(messages)).into()];
    let keeping = Probe::serving(|cx| {
        assert!(cx.keep(&[7; WALK_MEMORY_BYTES_MAX]).is_some());
        answer(cx, 1);
        Step::Send([0; 4])
    });
    let blocks = vec![("a.", chain(40)), ("b.", vec![keeping.into()])];
    let mut bench = ground.worker(0, ground.snapshot(1, blocks));
    bench.out.gone.push((5, 1));
    bench.ask(&[(tcp(5), query(1, "a."))]);
    assert_eq!((bench.turn.parked(), bench.out.passed.len()), (0, 1), "nobody to wait for");
    // Two on one connection: one goes on for each message that it can take.
    bench.ask(&[(tcp(6), query(1, "a.")), (tcp(6), query(2, "a."))]);
    assert_eq!((bench.turn.parked(), bench.out.replies.len()), (2, 2));
    bench.writable((6, 1));
    bench.writable((6, 1));
    bench.writable((5, 1));
    assert_eq!((bench.turn.parked(), bench.out.replies.len()), (2, 4));
    bench.out.replies.clear();
    // Until nothing more can wait: who has got one message gets an error as the last.
    let mut cut = None;
    for number in 0..PARKED_BYTES_MAX / WALK_MEMORY_BYTES_MAX + 1 {
        bench.ask(&[(tcp(7 + number as u32), query(1, "b."))]);
        let last = bench.out.replies.pop().expect("a message");
        if !last.2 {
            cut = Some(last);
            break;
        }
    }
    let (client, last, _) = cut.expect("room for so many only");
    let (first, message, more) = bench.out.replies.pop().expect("its first message");
    assert_eq!((client.connection, more), (first.connection, true));
    assert_eq!((rcode_of(&message), rcode_of(&last)), (rcode::NOERROR, rcode::SERVFAIL));
    assert!(ground.tally.value(ground.counters.no_slot) == 1 && bench.out.passed.len() == 1);
}

#[test]
fn a_transfer_without_progress_ends_and_a_datagram_holds_its_first_message() {
    let ground = Ground::new(1);
    let chain = vec![transfer(Arc::new(3)).into()];
    let mut bench = ground.worker(0, ground.snapshot(1, vec![("a.", chain)]));
    bench.ask(&[(udp(1), query(1, "a."))]);
    assert_eq!((bench.one_reply(), bench.turn.parked()), (vec![address(1)], 0));
    bench.ask(&[(tcp(5), query(1, "a."))]);
    assert!(bench.out.replies.pop().is_some_and(|(_, _, more)| more));
    bench.advance(WALK_NANOS_MAX);
    assert_eq!((bench.out.passed.len(), bench.turn.parked()), (1, 0));
}

const KEY: FlightKey = FlightKey(77);

/// A cache of one answer, 192.0.2.`cell`, that is refreshed within 500 ms and verified for 100 ms.
fn verifying(cell: &Arc<AtomicU8>) -> Probe {
    let (stale, fresh) = (Arc::clone(cell), Arc::clone(cell));
    Probe::serving(|cx| {
        if cx.lead(KEY) {
            assert!(cx.detach(3));
        }
        Step::Fetch([0; 4], Fetch::Join(KEY, cx.core.now + 100 * MILLISECOND))
    })
    .detached_by(|cx, note| {
        assert!(note == 3 && cx.request().is_empty(), "no client");
        Step::Fetch([1; 4], Fetch::Sleep(500 * MILLISECOND))
    })
    .resuming(move |cx, note| {
        if note[0] == 1 {
            fresh.store(2, Relaxed);
            cx.land(KEY, Some(Arc::from(&[2][..])));
        } else {
            let landed = cx.landed().first().copied();
            assert_eq!(landed.is_some(), cx.fetched() == Fetched::Landed);
            answer(cx, landed.unwrap_or(stale.load(Relaxed)));
        }
        Step::Up
    })
}

#[test]
fn a_stream_over_a_reload_keeps_its_own_links_and_no_others() {
    let ground = Ground::new(1);
    let big = Arc::new([0_u8; 64]);
    let (held, zone) = (Arc::downgrade(&big), Arc::new(3));
    // Wants the last message: it is resumed when the transfer is done.
    let above = Probe::serving(|_| Step::Watch([5; 4])).resuming(|cx, note| {
        assert_eq!((note, cx.server().zone_label.as_ref()), ([5; 4], "a."));
        cx.edit().1.set_aa(false);
        Step::Up
    });
    let passing = |big: &Arc<[u8; 64]>| {
        let big = Arc::clone(big);
        Probe::serving(move |cx| match (cx.question().lower.as_bytes()[1], big[0]) {
            (b's', 0) => Step::Fetch([0; 4], Fetch::Sleep(2 * SECOND)),
            _ => Step::Next,
        })
    };
    let chain = vec![above.into(), passing(&big).into(), transfer(zone).into()];
    let first = ground.snapshot(1, vec![("b.", vec![passing(&big).into()]), ("a.", chain)]);
    let weak = Arc::downgrade(&first);
    drop(big);
    let mut bench = ground.worker(0, first);
    bench.ask(&[(tcp(5), query(9, "a.")), (udp(1), query(1, "s.b."))]);
    assert_eq!(bench.one_reply(), [address(1)]);
    bench.turn.adopt(ground.snapshot(2, vec![("b.", vec![])]));
    assert_eq!((bench.turn.retire(), weak.strong_count()), (1, 1), "held for who is no stream");
    bench.writable((5, 1));
    assert_eq!(bench.one_reply(), [address(2)]);
    bench.advance(2 * SECOND);
    assert_eq!((bench.turn.retire(), weak.strong_count()), (2, 0), "released");
    assert_eq!((held.strong_count(), bench.turn.oldest(), bench.turn.parked()), (0, 1, 1));
    bench.turn.adopt(ground.snapshot(3, vec![("b.", vec![])]));
    assert_eq!((bench.turn.retire(), bench.turn.oldest()), (3, 1));
    bench.out.replies.clear();
    bench.writable((5, 1));
    let (_, message, more) = bench.out.replies.pop().expect("the last message");
    assert_eq!((addresses(&message), more), (vec![address(3)], false));
    assert_eq!(message[2] & 4, 0, "the link above has seen it");
    assert_eq!((bench.turn.retire(), bench.turn.oldest()), (3, 3));
    assert_eq!(bench.turn.core.spent.len(), 1, "control drops what was left");
}

#[test]
fn a_stale_answer_goes_out_at_the_deadline_and_the_refresh_goes_on() {
    let ground = Ground::new(1);
    let cell = Arc::new(AtomicU8::new(1));
    let chain = vec![verifying(&cell).into()];
    let mut bench = ground.worker(0, ground.snapshot(1, vec![("a.", chain)]));
    bench.ask(&[(udp(1), query(1, "a."))]);
    assert_eq!((bench.turn.parked(), bench.is_silent()), (2, true), "client and refresh");
    bench.advance(100 * MILLISECOND);
    assert_eq!((bench.one_reply(), bench.turn.parked()), (vec![address(1)], 1));
    bench.advance(350 * MILLISECOND);
    bench.ask(&[(udp(2), query(2, "a."))]);
    bench.advance(50 * MILLISECOND);
    bench.read_mail();
    assert_eq!(bench.one_reply(), [address(2)], "joined the refresh");
    assert_eq!((cell.load(Relaxed), bench.turn.parked(), ground.flights.len()), (2, 0, 0));
    assert!(bench.is_silent(), "a refresh sends nothing");
}

#[test]
fn a_refresh_that_a_reload_overtakes_is_done_nevertheless() {
    let ground = Ground::new(1);
    let cell = Arc::new(AtomicU8::new(1));
    // Waits above the cache: it is met only after the reload.
    let wait = Probe::serving(|_| Step::Fetch([0; 4], Fetch::Sleep(MILLISECOND)))
        .resuming(|_, _| Step::Next);
    let chain = vec![wait.into(), verifying(&cell).into()];
    let mut bench = ground.worker(0, ground.snapshot(1, vec![("a.", chain)]));
    bench.ask(&[(udp(1), query(1, "a."))]);
    bench.turn.adopt(ground.snapshot(2, vec![("a.", vec![])]));
    bench.advance(MILLISECOND);
    bench.advance(100 * MILLISECOND);
    assert_eq!(bench.one_reply(), [address(1)]);
    bench.advance(500 * MILLISECOND);
    assert_eq!((cell.load(Relaxed), bench.turn.parked(), ground.flights.len()), (2, 0, 0));
    assert_eq!(bench.turn.retire(), 2);
}

/// Leads or joins; a leader is done after 50 ms. It answers .1 itself, .9 late, and what landed.
fn flying() -> Probe {
    let wait = |cx: &mut Cx<'_>| match cx.lead(KEY) {
        true => Step::Fetch([1; 4], Fetch::Sleep(50 * MILLISECOND)),
        false => Step::Fetch([0; 4], Fetch::Join(KEY, cx.core.now + SECOND)),
    };
    Probe::serving(wait).resuming(move |cx, note| {
        match (note[0], cx.fetched()) {
            (1, _) => {
                cx.land(KEY, Some(Arc::from(&[5][..])));
                answer(cx, 1);
            }
            (_, Fetched::Landed) => {
                let landed = cx.landed()[0];
                answer(cx, landed);
            }
            (_, Fetched::Failed) => return wait(cx),
            _ => answer(cx, 9),
        }
        Step::Up
    })
}

#[test]
fn a_miss_joined_from_a_sleeping_core_is_answered_by_the_leaders_bell() {
    let ground = Arc::new(Ground::new(2));
    let here = |ground: &Ground| ground.snapshot(1, vec![("a.", vec![flying().into()])]);
    let mut leader = ground.worker(0, here(&ground));
    leader.ask(&[(udp(1), query(1, "a."))]);
    let (tell, told) = channel();
    let other = Arc::clone(&ground);
    let sleeper = std::thread::spawn(move || {
        let mut bench = other.worker(1, here(&other));
        bench.ask(&[(udp(2), query(2, "a."))]);
        assert!(bench.is_silent() && bench.mailbox.sleep(), "no mail yet");
        tell.send(()).expect("somebody listens");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let bell = watch_mailbox(Arc::clone(&bench.mailbox)).expect("an eventfd");
            let woken = tokio::time::timeout(std::time::Duration::from_secs(30), bell.readable());
            assert!(woken.await.is_ok(), "the bell rings");
        });
        bench.mailbox.clear();
        bench.read_mail();
        assert_eq!((bench.one_reply(), bench.turn.parked()), (vec![address(5)], 0));
    });
    told.recv().expect("the other has joined");
    leader.advance(50 * MILLISECOND);
    assert_eq!(leader.one_reply(), [address(1)]);
    sleeper.join().expect("answered");
}

#[test]
fn a_failed_leader_is_followed_and_a_late_one_is_not_waited_for() {
    let ground = Ground::new(2);
    let snapshot = || ground.snapshot(1, vec![("a.", vec![flying().into()])]);
    let (mut leader, mut waiter) = (ground.worker(0, snapshot()), ground.worker(1, snapshot()));
    leader.ask(&[(udp(1), query(1, "a."))]);
    waiter.ask(&[(udp(2), query(2, "a.")), (udp(3), query(3, "a."))]);
    ground.flights.land(KEY, None);
    waiter.read_mail();
    assert!(waiter.is_silent() && waiter.turn.parked() == 2, "one leads, one joins it");
    waiter.advance(50 * MILLISECOND);
    waiter.read_mail();
    let mut got: Vec<_> = waiter.out.replies.drain(..).map(|(_, r, _)| addresses(&r)).collect();
    got.sort();
    assert_eq!(got, [[address(1)], [address(5)]]);
    // Late: the leader's core is stuck for longer than the waiter waits.
    leader.advance(50 * MILLISECOND);
    assert_eq!(leader.one_reply(), [address(1)]);
    leader.ask(&[(udp(1), query(1, "a."))]);
    waiter.ask(&[(udp(2), query(2, "a."))]);
    waiter.advance(SECOND);
    assert_eq!(waiter.one_reply(), [address(9)]);
    leader.advance(2 * SECOND);
    assert_eq!(leader.one_reply(), [address(1)]);
    waiter.read_mail();
    assert!(waiter.is_silent(), "mail for a slot that has moved on is ignored");
    assert!(ground.flights.is_empty());
}

#[test]
fn a_leader_that_ends_before_its_time_fails_its_flight() {
    static PANICS: AtomicU64 = AtomicU64::new(0);
    let ground = Ground::new(1);
    let early = Probe::serving(|cx| {
        if cx.lead(KEY) {
            let cancelled = cx.question().lower.as_bytes()[1] == b'c';
            if cancelled {
                cx.cancel_after(5 * MILLISECOND);
            }
            return Step::Fetch([1; 4], Fetch::Sleep(10 * MILLISECOND));
        }
        Step::Fetch([0; 4], Fetch::Join(KEY, cx.core.now + SECOND))
    })
    .resuming(|cx, note| {
        if note[0] == 1 {
            PANICS.fetch_add(1, Relaxed);
            panic!("on purpose");
        }
        assert_eq!(cx.fetched(), Fetched::Failed);
        answer(cx, 4);
        Step::Up
    });
    let mut bench = ground.worker(0, ground.snapshot(1, vec![("a.", vec![early.into()])]));
    for (leader, panics) in [("p.a.", 1), ("c.a.", 1)] {
        bench.ask(&[(udp(1), query(1, leader)), (udp(2), query(2, "w.a."))]);
        bench.advance(5 * MILLISECOND);
        bench.advance(5 * MILLISECOND);
        bench.read_mail();
        assert_eq!(PANICS.load(Relaxed), panics, "{leader}");
        let last = bench.out.replies.pop().expect("a reply to who joined");
        assert_eq!((last.0.peer.port(), addresses(&last.1)), (2, vec![address(4)]), "{leader}");
        assert!(ground.flights.is_empty(), "{leader}");
    }
    let failed = bench.out.replies.iter().map(|(_, reply, _)| rcode_of(reply));
    assert_eq!(failed.collect::<Vec<_>>(), [rcode::SERVFAIL; 2]);
    assert!(bench.out.passed.is_empty());
}
