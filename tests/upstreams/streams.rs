//! TCP: when it is used, how connections are shared, and how they end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::op::ResponseCode;

use crate::server::eventually;
use crate::upstream::{Act, By, Upstream, honest};
use crate::{forwarding, metric};

/// By what the queries came that it was asked.
fn carriers(upstream: &Upstream) -> Vec<By> {
    let seen = upstream.seen();
    seen.heard.iter().filter(|one| one.rtype() == 1).map(|one| one.by).collect()
}

/// It says by UDP that its replies are truncated.
fn cutting() -> Upstream {
    Upstream::new(|heard| match heard.by {
        By::Udp => vec![Act::Say(heard.truncated())],
        _ => vec![Act::Say(heard.answer(&[1]))],
    })
}

#[test]
fn the_upstream_is_asked_by_what_the_client_came_by() {
    let upstream = cutting();
    let (_server, client) = forwarding("carrier", &upstream.address.to_string(), "");
    assert!(client.ask("a.test.").truncated, "the client is to come again");
    assert_eq!(client.ask_tcp("a.test.").addresses, ["192.0.2.1"]);
    assert_eq!(carriers(&upstream), [By::Udp, By::Stream]);
}

#[test]
fn prefer_udp_asks_again_by_tcp() {
    let upstream = cutting();
    let options = "prefer_udp";
    let (_server, client) = forwarding("prefer_udp", &upstream.address.to_string(), options);
    assert_eq!(client.ask("a.test.").addresses, ["192.0.2.1"]);
    assert_eq!(client.ask_tcp("b.test.").addresses, ["192.0.2.1"]);
    assert_eq!(carriers(&upstream), [By::Udp, By::Stream, By::Udp, By::Stream]);
}

#[test]
fn force_tcp_asks_by_tcp_alone_and_from_the_source_address() {
    let upstream = Upstream::new(honest(1));
    let options = "force_tcp\n prefer_udp\n source_address 127.0.0.9";
    let (_server, client) = forwarding("force_tcp", &upstream.address.to_string(), options);
    for number in 0..5 {
        assert_eq!(client.ask(&format!("n{number}.test.")).addresses, ["192.0.2.1"]);
    }
    assert_eq!(carriers(&upstream), [By::Stream; 5]);
    let seen = upstream.seen();
    assert_eq!(seen.connections.len(), 1, "one connection for all");
    assert!(seen.heard.iter().all(|one| one.from.ip().to_string() == "127.0.0.9"));
}

#[test]
fn datagrams_leave_from_the_source_address_too() {
    let upstream = Upstream::new(honest(1));
    let options = "source_address 127.0.0.9";
    let (_server, client) = forwarding("source", &upstream.address.to_string(), options);
    client.ask("a.test.");
    assert_eq!(upstream.seen().heard[0].from.ip().to_string(), "127.0.0.9");
    // Not one of ours: a reason, and no end.
    let options = "source_address 192.0.2.77";
    let (server, client) = forwarding("no_source", &upstream.address.to_string(), options);
    let reply = client.ask_edns("a.test.");
    assert_eq!((reply.rcode, reply.ede), (ResponseCode::ServFail, Some(23)));
    server.says("cannot assign requested address").expect("a reason");
}

#[test]
fn queries_share_a_connection_and_are_answered_in_any_order() {
    let upstream = Upstream::new(|heard| {
        let mut acts = vec![Act::Say(heard.answer(&[1]))];
        if heard.name().starts_with("slow") {
            acts.insert(0, Act::Wait(Duration::from_millis(300)));
        }
        acts
    });
    let (_server, client) = forwarding("pipeline", &upstream.address.to_string(), "force_tcp");
    client.ask("first.test.");
    let slow = client.send("slow.test.");
    let fast: Vec<u16> = (0..5).map(|number| client.send(&format!("n{number}.test."))).collect();
    let order: Vec<u16> = (0..6).map(|_| client.receive().id).collect();
    assert_eq!(order[5], slow);
    assert!(fast.iter().all(|id| order[..5].contains(id)));
    assert_eq!(upstream.seen().connections.len(), 1);
}

#[test]
fn many_queries_use_some_connections_and_surplus_ones_are_closed() {
    let upstream = Upstream::new(|heard| {
        vec![Act::Wait(Duration::from_millis(200)), Act::Say(heard.answer(&[1]))]
    });
    let options = "force_tcp\n max_idle_conns 1\n expire 60s";
    let (_server, client) = forwarding("idle_conns", &upstream.address.to_string(), options);
    let replies = client.ask_many(100, "n");
    assert!(replies.iter().all(|reply| reply.answers == 1));
    let opened = upstream.seen().connections.len();
    assert!((2..=32).contains(&opened), "{opened}");
    // One for each worker: the client has met one.
    assert!(eventually(|| upstream.seen().open == 1), "{} are open", upstream.seen().open);
}

#[test]
fn a_connection_that_ends_with_queries_on_it_fails_none_of_them() {
    let count = AtomicUsize::new(0);
    let upstream = Upstream::new(move |heard| {
        // Every third query ends the connection that it came by.
        match count.fetch_add(1, Ordering::Relaxed) % 3 {
            2 => vec![Act::Close],
            _ => vec![Act::Say(heard.answer(&[1]))],
        }
    });
    let (server, client) = forwarding("mid_flight", &upstream.address.to_string(), "force_tcp");
    for number in 0..12 {
        let reply = client.ask(&format!("n{number}.test."));
        assert_eq!(reply.addresses, ["192.0.2.1"], "{}", server.output());
    }
    let again = format!(
        "corelane_upstream_repeated_total{{proxy_name=\"forward\",to=\"{}\",reason=\"closed\"}}",
        upstream.address
    );
    assert!(metric(&server, &again) >= 4.0);
}

#[test]
fn a_server_that_begins_anew_is_still_asked_several_queries_at_a_time() {
    let stopped = AtomicUsize::new(0);
    let upstream = Upstream::new(move |heard| {
        let say = Act::Say(heard.answer(&[1]));
        match heard.name() {
            // All that the connection carries goes with it, once.
            name if name.starts_with("stop") && stopped.fetch_add(1, Ordering::Relaxed) == 0 => {
                vec![Act::Close]
            }
            name if name.starts_with("slow") => vec![Act::Wait(Duration::from_millis(300)), say],
            _ => vec![say],
        }
    });
    let (server, client) = forwarding("anew", &upstream.address.to_string(), "force_tcp");
    for number in 0..20 {
        client.ask(&format!("n{number}.test."));
    }
    for name in ["slow1.test.", "slow2.test.", "slow3.test.", "stop.test."] {
        client.send(name);
    }
    let lost: Vec<_> =
        (0..4).map(|_| client.receive()).filter(|reply| reply.answers != 1).collect();
    assert!(lost.is_empty(), "{lost:?}\n{}", server.output());
    let before = upstream.seen().connections.len();
    let replies = client.ask_many(6, "slow");
    assert!(replies.iter().all(|reply| reply.answers == 1), "{replies:?}");
    assert!(upstream.seen().connections.len() <= before + 1, "one each");
}

#[test]
fn a_server_of_one_query_a_connection_answers_bursts_too() {
    let upstream = Upstream::new(|heard| vec![Act::Say(heard.answer(&[1])), Act::Close]);
    let (server, client) = forwarding("one_each", &upstream.address.to_string(), "force_tcp");
    for round in 0..3 {
        let replies = client.ask_many(20, &format!("round{round}x"));
        let bad = replies.iter().find(|reply| reply.answers != 1);
        assert!(bad.is_none(), "{bad:?}\n{}", server.output());
    }
}

#[test]
fn what_breaks_off_or_says_nothing_is_passed_over() {
    let good = Upstream::new(honest(2));
    let torn = || vec![Act::Raw(vec![0, 40, 1, 2, 3]), Act::Close];
    let acts: [(&str, Vec<Act>); 4] = [
        ("torn", torn()),
        ("empty", vec![Act::Raw(vec![0, 0])]),
        ("closed", vec![Act::Close]),
        ("mute", Vec::new()),
    ];
    for (test, acts) in acts {
        let bad = Upstream::new(move |_| acts.clone());
        let options = "policy sequential\n force_tcp\n read_timeout 200ms";
        let to = format!("{} {}", bad.address, good.address);
        let (server, client) = forwarding(&format!("stream_{test}"), &to, options);
        let replies = client.ask_many(10, "n");
        let failed = replies.iter().find(|reply| reply.addresses != ["192.0.2.2"]);
        assert!(failed.is_none(), "{test}: {failed:?}\n{}", server.output());
        assert!(eventually(|| bad.seen().open == 0), "{test}: a connection is left");
    }
}

#[test]
fn connections_go_when_they_are_idle_or_old() {
    let upstream = Upstream::new(honest(1));
    let options = "force_tcp\n expire 100ms";
    let (_server, client) = forwarding("expire", &upstream.address.to_string(), options);
    client.ask("a.test.");
    assert!(eventually(|| upstream.seen().open == 0), "it is idle");
    // However busy: it is not kept to one server behind a balancer for ever.
    let upstream = Upstream::new(honest(1));
    let options = "force_tcp\n expire 150ms\n max_age 150ms";
    let (_server, client) = forwarding("max_age", &upstream.address.to_string(), options);
    let renewed = eventually(|| {
        client.ask("a.test.");
        upstream.seen().connections.len() > 2
    });
    assert!(renewed);
}
