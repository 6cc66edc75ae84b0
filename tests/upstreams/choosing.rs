//! Which upstream is asked: policies, health, failover, hedges, bounds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::op::ResponseCode;

use crate::client::{Client, Reply};
use crate::server::eventually;
use crate::upstream::{Act, Heard, Upstream, honest};
use crate::{corefile, forwarding, metric, serve};

/// A reply with a rcode, and nothing in it.
fn says(rcode: u8) -> impl Fn(&Heard) -> Vec<Act> + Send + Sync + 'static {
    move |heard| vec![Act::Say(heard.reply(rcode))]
}

fn silent() -> Upstream {
    Upstream::new(|_| Vec::new())
}

/// A port that is closed, and kept from others: bound for TCP, not for UDP, and not listening.
fn nobody_listens() -> (socket2::Socket, String) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.expect("a socket");
    let any: std::net::SocketAddr = ([127, 0, 0, 1], 0).into();
    socket.bind(&any.into()).expect("a port");
    let address = socket.local_addr().expect("bound").as_socket().expect("IPv4").to_string();
    (socket, address)
}

/// How many replies came from each upstream.
fn counted(replies: &[Reply]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for reply in replies {
        *counts.entry(reply.addresses.join(" ")).or_default() += 1;
    }
    counts
}

fn is_good(reply: &Reply) -> bool {
    reply.rcode == ResponseCode::NoError && reply.answers == 1
}

#[test]
fn policies_choose_as_they_say() {
    let slow = Upstream::new(|heard| {
        vec![Act::Wait(Duration::from_millis(60)), Act::Say(heard.answer(&[1]))]
    });
    let (two, three) = (Upstream::new(honest(2)), Upstream::new(honest(3)));
    let to = format!("{} {} {}", slow.address, two.address, three.address);
    let block = |zone: &str, policy: &str| {
        format!("{zone} {{\n forward . {to} {{\n policy {policy}\n }}\n}}\n")
    };
    let text = block("seq.test", "sequential")
        + &block("rr.test", "round_robin")
        + &block("any.test", "random")
        + &block("fast.test", "fastest");
    let server = serve("policies", &text);
    let client = Client::of(&server);
    let ask = |count: usize, zone: &str| -> Vec<Reply> {
        (0..count).map(|number| client.ask(&format!("n{number}.{zone}.test."))).collect()
    };
    let by = |last: &str| format!("192.0.2.{last}");
    assert_eq!(counted(&ask(4, "seq")), BTreeMap::from([(by("1"), 4)]));
    let turns = ask(9, "rr");
    let each = BTreeMap::from([(by("1"), 3), (by("2"), 3), (by("3"), 3)]);
    assert_eq!(counted(&turns), each);
    let same = turns.windows(2).any(|pair| pair[0].addresses == pair[1].addresses);
    assert!(!same, "turns are taken query by query");
    assert_eq!(counted(&ask(60, "any")).len(), 3, "any of them");
    let fast = counted(&ask(60, "fast"));
    assert!(fast.get(&by("1")).is_none_or(|slow| *slow < 10), "{fast:?}");
}

#[test]
fn dead_upstreams_among_several_are_nobodys_failure() {
    let (dead, (_held, closed)) = (silent(), nobody_listens());
    let good = Upstream::new(honest(3));
    let to = format!("{} {closed} {}", dead.address, good.address);
    for policy in ["sequential", "round_robin", "random", "fastest"] {
        let options = format!("policy {policy}\n read_timeout 300ms\n health_check 20ms");
        let (server, client) = forwarding(&format!("dead_{policy}"), &to, &options);
        let replies = client.ask_many(50, "first");
        assert!(replies.iter().all(is_good), "{policy}: {replies:?}\n{}", server.output());
        // From now on it costs nobody anything.
        let asked = dead.asked();
        let replies = client.ask_many(50, "second");
        assert!(replies.iter().all(is_good), "{policy}: {replies:?}");
        assert_eq!(dead.asked(), asked, "{policy}");
    }
}

#[test]
fn a_lossy_upstream_loses_no_query() {
    let lost = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&lost);
    let lossy = Upstream::new(move |heard| match count.fetch_add(1, Ordering::Relaxed) % 5 {
        0 => Vec::new(),
        _ => vec![Act::Say(heard.answer(&[1]))],
    });
    let good = Upstream::new(honest(2));
    let to = format!("{} {}", lossy.address, good.address);
    let options = "read_timeout 200ms\n health_check 20ms";
    let (server, client) = forwarding("lossy", &to, options);
    for round in 0..4 {
        let replies = client.ask_many(50, &format!("round{round}x"));
        assert!(replies.iter().all(is_good), "{replies:?}\n{}", server.output());
    }
    assert!(lost.load(Ordering::Relaxed) > 5, "some were lost");
}

#[test]
fn who_is_down_is_probed_until_it_comes_back() {
    let lives = Arc::new(AtomicBool::new(false));
    let alive = Arc::clone(&lives);
    let first = Upstream::new(move |heard| match alive.load(Ordering::Relaxed) {
        true => vec![Act::Say(heard.answer(&[1]))],
        false => Vec::new(),
    });
    let second = Upstream::new(honest(2));
    let to = format!("{} {}", first.address, second.address);
    let options = "policy sequential\n read_timeout 200ms\n max_fails 1\n \
                   health_check 30ms no_rec domain probe.example";
    let (server, client) = forwarding("comes_back", &to, options);
    assert_eq!(client.ask("a.test.").addresses, ["192.0.2.2"]);
    let down = format!("upstream {} is down: ", first.address);
    server.says(&down).expect("two probes have failed");
    let probe = first.seen().heard.iter().find(|heard| heard.rtype() == 2).cloned();
    let probe = probe.expect("a probe");
    assert_eq!((probe.name().as_str(), probe.octets[2] & 1), ("probe.example", 0));
    assert_eq!(second.probed(), 0, "nobody probes who is well");
    let failures = format!(
        "coredns_proxy_healthcheck_failures_total{{proxy_name=\"forward\",to=\"{}\"}}",
        first.address
    );
    assert!(metric(&server, &failures) >= 2.0);
    lives.store(true, Ordering::Relaxed);
    assert!(eventually(|| client.ask("b.test.").addresses == ["192.0.2.1"]), "it is back");
    server.says("is up again").expect("a line");
}

#[test]
fn max_fails_0_probes_nobody_and_gives_up_nobody() {
    let dead = silent();
    let good = Upstream::new(honest(2));
    let to = format!("{} {}", dead.address, good.address);
    let options = "policy sequential\n read_timeout 60ms\n max_fails 0\n health_check 10ms";
    let (_server, client) = forwarding("max_fails_0", &to, options);
    for number in 0..5 {
        assert!(is_good(&client.ask(&format!("n{number}.test."))));
    }
    assert_eq!((dead.asked(), dead.probed()), (5, 0));
}

#[test]
fn when_all_are_down_any_is_tried_unless_failfast() {
    // It answers no probe, and no query at first.
    let lives = Arc::new(AtomicBool::new(false));
    let alive = Arc::clone(&lives);
    let one = Upstream::new(move |heard| match heard.rtype() {
        2 => Vec::new(),
        _ if alive.load(Ordering::Relaxed) => vec![Act::Say(heard.answer(&[1]))],
        _ => Vec::new(),
    });
    let options = "read_timeout 60ms\n max_fails 1\n health_check 10ms";
    let (server, client) = forwarding("all_down", &one.address.to_string(), options);
    let late = client.ask_edns("a.test.");
    assert_eq!((late.rcode, late.ede), (ResponseCode::ServFail, Some(22)));
    server.says(" is down: i/o timeout").expect("its probes have failed");
    lives.store(true, Ordering::Relaxed);
    assert!(is_good(&client.ask("b.test.")), "probes may be what is broken");
    assert!(metric(&server, "coredns_forward_healthcheck_broken_total") >= 1.0);

    lives.store(false, Ordering::Relaxed);
    let options = format!("{options}\n failfast_all_unhealthy_upstreams");
    let (server, client) = forwarding("failfast", &one.address.to_string(), &options);
    client.ask("a.test.");
    server.says(" is down: i/o timeout").expect("its probes have failed");
    let asked = one.asked();
    let refused = client.ask_edns("b.test.");
    assert_eq!((refused.rcode, refused.ede), (ResponseCode::ServFail, Some(22)));
    assert_eq!(one.asked(), asked, "nobody was asked");
    server.says("no healthy proxies").expect("a reason");
}

#[test]
fn failover_asks_each_once() {
    let (one, two) = (Upstream::new(says(2)), Upstream::new(says(5)));
    let three = Upstream::new(honest(3));
    let options = "policy sequential\n failover SERVFAIL REFUSED";
    let to = format!("{} {} {}", one.address, two.address, three.address);
    let (_server, client) = forwarding("failover", &to, options);
    assert_eq!(client.ask("a.test.").addresses, ["192.0.2.3"]);
    assert_eq!((one.asked(), two.asked(), three.asked()), (1, 1, 1));
    // All fail: the last one's reply is handed on.
    let to = format!("{} {}", one.address, two.address);
    let (_server, client) = forwarding("failover_all", &to, options);
    assert_eq!(client.ask("a.test.").rcode, ResponseCode::Refused);
    assert_eq!((one.asked(), two.asked()), (2, 2));
    // Without it a reply is a reply.
    let (_server, client) = forwarding("no_failover", &to, "policy sequential");
    assert_eq!(client.ask("a.test.").rcode, ResponseCode::ServFail);
}

#[test]
fn the_next_use_is_asked_after_some_replies() {
    let nx = Upstream::new(|heard| {
        let rcode = if heard.name().starts_with("refused") { 5 } else { 3 };
        vec![Act::Say(heard.reply(rcode))]
    });
    let (empty, last) = (Upstream::new(says(0)), Upstream::new(honest(3)));
    let (of, at, end) = (nx.address, empty.address, last.address);
    let text = format!(
        ". {{\n forward test {of} {{\n except no.test\n next NXDOMAIN\n }}\n \
         forward . {at} {{\n next_on_nodata\n next NXDOMAIN\n }}\n forward . {end}\n}}\n"
    );
    let server = serve("next", &text);
    let client = Client::of(&server);
    assert_eq!(client.ask("a.test.").addresses, ["192.0.2.3"]);
    assert_eq!((nx.asked(), empty.asked(), last.asked()), (1, 1, 1));
    assert_eq!(client.ask("refused.test.").rcode, ResponseCode::Refused);
    assert_eq!((nx.asked(), empty.asked(), last.asked()), (2, 1, 1));
    // Excepted: not for the first use, which is as if it were not there.
    assert_eq!(client.ask("a.no.test.").addresses, ["192.0.2.3"]);
    assert_eq!((nx.asked(), empty.asked(), last.asked()), (2, 2, 2));
}

#[test]
fn the_last_use_hands_its_reply_on() {
    let nx = Upstream::new(says(3));
    let options = "next NXDOMAIN\n next_on_nodata";
    let (_server, client) = forwarding("last_use", &nx.address.to_string(), options);
    assert_eq!(client.ask("a.test.").rcode, ResponseCode::NXDomain);
    assert_eq!(nx.asked(), 1);
}

#[test]
fn no_more_queries_wait_than_may() {
    let slow = Upstream::new(|heard| {
        vec![Act::Wait(Duration::from_millis(400)), Act::Say(heard.answer(&[1]))]
    });
    let options = "max_concurrent 10";
    let (server, client) = forwarding("max_concurrent", &slow.address.to_string(), options);
    let replies = client.ask_many(25, "n");
    let refused = |reply: &&Reply| reply.rcode == ResponseCode::Refused;
    assert_eq!(replies.iter().filter(refused).count(), 15, "{replies:?}");
    assert_eq!(replies.iter().filter(|reply| is_good(reply)).count(), 10);
    assert!(replies[..15].iter().all(|reply| reply.rcode == ResponseCode::Refused), "at once");
    assert_eq!(metric(&server, "coredns_forward_max_concurrent_rejects_total"), 15.0);
    assert!(is_good(&client.ask("again.test.")), "the permits came back");
    server.says("concurrent queries exceeded maximum 10").expect("a reason");
}

#[test]
fn upstreams_that_are_far_behind_hold_nobody_up_for_long() {
    let silent = silent();
    let text = corefile(&silent.address.to_string(), "") + "here.test {\n whoami\n}\n";
    let server = serve("behind", &text);
    let (many, one) = (Client::of(&server), Client::of(&server));
    for round in 0..20 {
        // Each time more than it gets ahead of its upstreams by.
        (0..300).for_each(|number| {
            many.send(&format!("n{number}.round{round}.test."));
        });
        assert_eq!(one.ask("at.here.test.").rcode, ResponseCode::NoError);
    }
    assert!(metric(&server, "corelane_held_turns_total") > 0.0, "it was far ahead");
}

#[test]
fn a_query_that_is_cancelled_fails_and_holds_nothing_against_the_upstream() {
    let upstream = Upstream::new(|heard| match heard.name().starts_with("slow") {
        true => Vec::new(),
        false => vec![Act::Say(heard.answer(&[1]))],
    });
    let to = upstream.address;
    let server = serve("cancelled", &format!(". {{\n cancel 80ms\n forward . {to}\n}}\n"));
    let client = Client::of(&server);
    for number in 0..5 {
        let late = client.ask_edns(&format!("slow{number}.test."));
        assert_eq!((late.rcode, late.ede), (ResponseCode::ServFail, Some(22)));
        assert!(is_good(&client.ask(&format!("n{number}.test."))));
    }
    assert_eq!((upstream.asked(), upstream.probed()), (10, 0));
}

#[test]
fn attempts_are_as_many_as_the_corefile_says() {
    let (dead, good) = (silent(), Upstream::new(honest(2)));
    let to = format!("{} {}", dead.address, good.address);
    let options = "policy sequential\n read_timeout 60ms\n max_connect_attempts 1";
    let (server, client) = forwarding("attempts", &to, options);
    assert_eq!(client.ask("a.test.").rcode, ResponseCode::ServFail);
    assert_eq!((dead.asked(), good.asked()), (1, 0));
    server.says(&format!("read udp {}: i/o timeout", dead.address)).expect("a reason");
}

#[test]
fn an_end_where_a_reply_was_due_is_told_as_one() {
    let upstream = Upstream::new(|_| vec![Act::Close]);
    let options = "force_tcp\n max_connect_attempts 1";
    let (server, client) = forwarding("eof", &upstream.address.to_string(), options);
    assert_eq!(client.ask("a.test.").rcode, ResponseCode::ServFail);
    server.says("plugin/errors: 2 a.test. A: EOF").expect("a reason");
}

#[test]
fn bursts_of_servfail_open_a_breaker() {
    let (ill, well) = (Upstream::new(says(2)), Upstream::new(honest(2)));
    let to = format!("{} {}", ill.address, well.address);
    let (server, client) = forwarding("breaker", &to, "policy round_robin");
    client.ask_many(100, "first");
    let trips = format!("corelane_forward_breaker_trips_total{{to=\"{}\"}}", ill.address);
    assert!(metric(&server, &trips) >= 1.0);
    let (ill_before, well_before) = (ill.asked(), well.asked());
    client.ask_many(100, "second");
    let (ill, well) = (ill.asked() - ill_before, well.asked() - well_before);
    assert!(ill <= 20 && ill + well == 100, "{ill} and {well}");
    // Alone it is asked whatever it says.
    let alone = Upstream::new(says(2));
    let (_server, client) = forwarding("breaker_alone", &alone.address.to_string(), "");
    assert_eq!(client.ask_many(100, "n").len(), 100);
    assert_eq!(alone.asked(), 100);
}

#[test]
fn a_hedge_is_sent_when_an_upstream_is_slower_than_it_was() {
    let hangs = Arc::new(AtomicBool::new(false));
    let hung = Arc::clone(&hangs);
    let first = Upstream::new(move |heard| match hung.load(Ordering::Relaxed) {
        true => Vec::new(),
        false => vec![Act::Say(heard.answer(&[1]))],
    });
    let second = Upstream::new(honest(2));
    let to = format!("{} {}", first.address, second.address);
    // Nothing times out before the client gives up.
    let options = "policy sequential\n read_timeout 60s\n hedge 10%";
    let (server, client) = forwarding("hedge", &to, options);
    for number in 0..100 {
        assert!(is_good(&client.ask(&format!("n{number}.test."))));
    }
    let hedged = format!(
        "corelane_upstream_hedged_total{{proxy_name=\"forward\",to=\"{}\"}}",
        second.address
    );
    let before = metric(&server, &hedged);
    assert!(before <= 10.0, "a tenth at most, and {before} were");
    hangs.store(true, Ordering::Relaxed);
    assert!(eventually(|| metric(&server, &hedged) >= 0.0 && {
        // As many as have been saved up for: at least one.
        client.ask("hedged.test.").addresses == ["192.0.2.2"]
    }));
    assert!(metric(&server, &hedged) > before);
}

#[test]
fn host_names_are_looked_up_again() {
    let first = Upstream::at("127.0.0.2:0".parse().expect("an address"), honest(1));
    let port = first.address.port();
    let second = Upstream::at(([127, 0, 0, 3], port).into(), honest(2));
    let moved = Arc::new(AtomicBool::new(false));
    let now = Arc::clone(&moved);
    let names = Upstream::new(move |heard| {
        let last = if now.load(Ordering::Relaxed) { 3 } else { 2 };
        let mut reply = heard.reply(0);
        if heard.rtype() == 1 {
            reply[7] = 1;
            reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, last]);
        }
        vec![Act::Say(reply)]
    });
    let options = format!("resolver {}", names.address);
    let (server, client) = forwarding("look_up", &format!("dns.example:{port}"), &options);
    assert_eq!(client.ask("a.test.").addresses, ["192.0.2.1"]);
    moved.store(true, Ordering::Relaxed);
    server.says(&format!("upstreams are now {}", second.address)).expect("a look-up");
    assert!(eventually(|| client.ask("b.test.").addresses == ["192.0.2.2"]));
    assert_eq!(names.seen().heard[0].name(), "dns.example");
}
