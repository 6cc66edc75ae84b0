//! Marks: what they tell of a walk, that they go where it goes, and that their boxes come back.

use std::sync::Arc;

use super::probe::Probe;
use super::*;
use crate::data::chain::marks::{Act, Said};
use crate::data::chain::step::{Entry, Fetch, Step};
use crate::data::clock::MILLISECOND;
use crate::data::counters::LinkTimes;
use crate::limits::{MARK_STRIDE_MAX, MARKED_KEPT, MARKED_WALKS_MAX};
use crate::snapshot::Snapshot;

/// Block `a.`: a link that watches, one that hands on, one that asks `b.`; block `b.` answers after
/// 10 ms.
fn waiting(ground: &Ground, generation: u64) -> Arc<Snapshot> {
    let watching = Probe::serving(|_| Step::Watch([0; 4]));
    let handing_on = Probe::serving(|_| Step::Next);
    let asking = Probe::serving(|cx| {
        cx.ask(NameBuf::parse("x.b.").expect("a name").as_name(), rtype::A, 1);
        Step::Ask([0; 4], Entry::Top)
    })
    .resuming(|cx, _| {
        answer(cx, 1);
        Step::Up
    });
    let slow = Probe::serving(|_| Step::Fetch([0; 4], Fetch::Sleep(10 * MILLISECOND))).resuming(
        |cx, _| {
            answer(cx, 2);
            Step::Up
        },
    );
    let a = vec![watching.into(), handing_on.into(), asking.into()];
    ground.snapshot(generation, vec![("a.", a), ("b.", vec![slow.into()])])
}

#[test]
fn marks_tell_what_each_link_said_over_a_wait_and_a_reload() {
    let ground = Ground::new(1);
    let mut bench = ground.worker(0, waiting(&ground, 1));
    bench.turn.core.marking.demand();
    bench.ask(&[(udp(1), query(1, "www.a.")), (udp(2), query(2, "www.a."))]);
    bench.turn.adopt(waiting(&ground, 2));
    assert!(bench.turn.core.marking.take_demanded().is_none(), "it still waits");
    bench.advance(10 * MILLISECOND);
    assert_eq!(bench.out.replies.len(), 2);
    let marks = bench.turn.core.marking.take_demanded().expect("the marks of the first");
    let told = marks.taken().map(|taken| {
        let mark = taken.mark;
        ((mark.place.block, mark.link, mark.level), mark.act, taken.said)
    });
    let expected = [
        ((0, 0, 0), Act::Serve, Some(Said::Watch)),
        ((0, 1, 0), Act::Serve, Some(Said::Next)),
        ((0, 2, 0), Act::Serve, Some(Said::Ask)),
        ((1, 0, 1), Act::Serve, Some(Said::Fetch)),
        ((1, 0, 1), Act::Wait(0), None),
        ((1, 0, 1), Act::Resume, Some(Said::Up)),
        ((0, 2, 0), Act::Resume, Some(Said::Up)),
        ((0, 0, 0), Act::Resume, Some(Said::Up)),
    ];
    assert_eq!(told.collect::<Vec<_>>(), expected);
    assert_eq!(marks.as_slice().last().map(|mark| mark.act), Some(Act::End));
    assert!(marks.as_slice().is_sorted_by_key(|mark| mark.at));
    bench.turn.core.marking.done_with(marks);
}

#[test]
fn the_end_of_a_chain_is_told() {
    let ground = Ground::new(1);
    let handing_on = Probe::serving(|_| Step::Next);
    let snapshot = ground.snapshot(1, vec![("a.", vec![handing_on.into()])]);
    let mut bench = ground.worker(0, snapshot);
    bench.turn.core.marking.demand();
    bench.ask(&[(udp(1), query(1, "www.a."))]);
    let marks = bench.turn.core.marking.take_demanded().expect("marks");
    let acts: Vec<_> = marks.as_slice().iter().map(|mark| mark.act).collect();
    assert_eq!(acts, [Act::Serve, Act::Past, Act::End]);
    assert_eq!(marks.taken().next().and_then(|taken| taken.said), Some(Said::Next));
}

#[test]
fn a_link_may_have_the_rest_of_the_walk_marked() {
    let ground = Ground::new(1);
    let picking = Probe::serving(|cx| match cx.mark([9; 16]) {
        Some(false) => Step::Fetch([0; 4], Fetch::Sleep(0)),
        _ => Step::Watch([1; 4]),
    })
    .resuming(|cx, note| {
        if note == [0; 4] {
            return Step::Watch([1; 4]);
        }
        let marks = cx.marks().expect("marks");
        let (first, id) = marks.traced().expect("a trace");
        let last = marks.as_slice()[first as usize..].iter().rev();
        let links: Vec<_> = last.map(|mark| (mark.link, mark.act)).collect();
        assert_eq!((links[0], links[1]), ((0, Act::Resume), (1, Act::Serve)));
        assert_eq!(id, [9; 16]);
        Step::Up
    });
    let leaf = Probe::serving(|cx| {
        answer(cx, 3);
        Step::Up
    });
    let chain = vec![picking.into(), leaf.into()];
    let mut bench = ground.worker(0, ground.snapshot(1, vec![("a.", chain)]));
    for id in 0..200 {
        bench.ask(&[(udp(id), query(id, "www.a."))]);
        assert_eq!(bench.one_reply(), [address(3)]);
    }
}

#[test]
fn boxes_come_back_from_walks_that_panic_and_from_too_many() {
    let ground = Ground::new(1);
    let chain = vec![
        Probe::serving(|cx| match cx.question().lower.to_string().as_str() {
            "panic.a." => panic!("on purpose"),
            "wait.a." => {
                assert!(cx.mark([1; 16]).is_some() || cx.core.now > 1);
                Step::Fetch([0; 4], Fetch::Sleep(MILLISECOND))
            }
            _ => Step::Up,
        })
        .into(),
    ];
    let mut bench = ground.worker(0, ground.snapshot(1, vec![("a.", chain)]));
    for id in 0..3 * MARKED_KEPT as u16 {
        bench.turn.core.marking.demand();
        bench.ask(&[(udp(1), query(id, "panic.a."))]);
        let marks = bench.turn.core.marking.take_demanded().expect("the box of the panic");
        bench.turn.core.marking.done_with(marks);
    }
    for _ in 0..2 {
        let many = (0..MARKED_WALKS_MAX as u16).map(|id| (udp(1), query(id, "wait.a.")));
        bench.ask(&many.collect::<Vec<_>>());
        assert_eq!(bench.turn.parked(), MARKED_WALKS_MAX, "all marked");
        bench.turn.core.now += 1;
        bench.ask(&[(udp(1), query(1, "wait.a."))]);
        bench.advance(2 * MILLISECOND);
        assert_eq!(bench.turn.parked(), 0);
        bench.turn.core.now = 1;
    }
}

#[test]
fn samples_stand_for_all_walks() {
    let ground = Ground::new(1);
    let leaf = Probe::serving(|cx| {
        answer(cx, 1);
        Step::Up
    });
    let mut snapshot = ground.snapshot(1, vec![("a.", vec![leaf.into()])]);
    let times = LinkTimes::new(&ground.tally, "dns://:53", "probe");
    let mine = Arc::get_mut(&mut snapshot).expect("nobody else's");
    mine.blocks[0].servers[0].times = [times].into();
    let mut bench = ground.worker(0, snapshot);
    let walks = 20 * MARK_STRIDE_MAX as usize;
    let batch: Vec<_> = (0..64).map(|id| (udp(1), query(id, "www.a."))).collect();
    for _ in 0..walks / 64 {
        bench.ask(&batch);
        bench.out.replies.clear();
    }
    let mut page = String::new();
    ground.tally.scrape(&mut page, crate::data::tally::Format::Text004);
    let labels = "corelane_plugin_duration_seconds_count{server=\"dns://:53\",plugin=\"probe\"} ";
    let count = page.split(labels).nth(1).and_then(|rest| rest.lines().next());
    let count: usize = count.expect("the series").parse().expect("a number");
    assert!(count <= walks && walks - count < 2 * MARK_STRIDE_MAX as usize, "{count} of {walks}");
}
