//! Replies that are none, and what of a reply reaches the client.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use hickory_proto::op::ResponseCode;

use crate::forwarding;
use crate::message::{query, with_edns};
use crate::metric;
use crate::upstream::{Act, Heard, Upstream, honest};

/// What an upstream may say before it says the truth, each of it a lie.
fn lies(heard: &Heard) -> Vec<Act> {
    let truth = heard.answer(&[66]);
    let spoilt = |at: usize, bits: u8| {
        let mut message = truth.clone();
        message[at] ^= bits;
        Act::Say(message)
    };
    let mut two_questions = truth.clone();
    two_questions[5] = 2;
    vec![
        spoilt(0, 0x55),
        spoilt(14, 0x01),
        spoilt(2, 0x80),
        spoilt(2, 0x20),
        Act::Say(two_questions),
        Act::Say(truth[..11].to_vec()),
        Act::Say(truth[..14].to_vec()),
        Act::Say(vec![0xff; 40]),
        Act::Say(Vec::new()),
        Act::FromElsewhere(truth),
        Act::Wait(Duration::from_millis(30)),
    ]
}

fn ignored(upstream: &Upstream, reason: &str) -> String {
    let to = upstream.address;
    format!(
        "corelane_upstream_ignored_total{{proxy_name=\"forward\",to=\"{to}\",reason=\"{reason}\"}}"
    )
}

#[test]
fn the_wait_goes_on_until_the_truth_comes() {
    let liar = Upstream::new(|heard| {
        let mut acts = lies(heard);
        acts.push(Act::Say(heard.answer(&[1])));
        // Once more: nobody waits for it any longer.
        acts.push(Act::Say(heard.answer(&[66])));
        acts
    });
    let (server, client) = forwarding("liar", &liar.address.to_string(), "");
    for number in 0..20 {
        let reply = client.ask(&format!("n{number}.test."));
        assert_eq!(reply.addresses, ["192.0.2.1"], "{reply:?}");
    }
    assert_eq!(liar.asked(), 20, "asked once each");
    let at_least = |reason: &str, count: f64| {
        let found = metric(&server, &ignored(&liar, reason));
        assert!(found >= count, "{reason}: {found}");
    };
    at_least("unasked", 20.0);
    at_least("question", 60.0);
    at_least("garbage", 20.0);
}

#[test]
fn who_only_lies_is_passed_over() {
    let (liar, good) = (Upstream::new(lies), Upstream::new(honest(2)));
    let to = format!("{} {}", liar.address, good.address);
    let options = "policy sequential\n read_timeout 150ms";
    let (_server, client) = forwarding("only_lies", &to, options);
    assert_eq!(client.ask("a.test.").addresses, ["192.0.2.2"]);
    // Alone with replies to other questions, it makes the client's a bad one, as CoreDNS has it.
    let alone = Upstream::new(|heard| {
        let mut other = heard.answer(&[66]);
        other[14] ^= 1;
        vec![Act::Say(other)]
    });
    let (_server, client) = forwarding("lies_alone", &alone.address.to_string(), options);
    assert_eq!(client.ask("b.test.").rcode, ResponseCode::FormErr);
}

#[test]
fn ids_and_ports_cannot_be_guessed_and_ports_are_few() {
    let upstream = Upstream::new(honest(1));
    let (_server, client) = forwarding("ids", &upstream.address.to_string(), "");
    for number in 0..400 {
        client.ask(&format!("n{number}.test."));
    }
    let seen = upstream.seen();
    let ids: Vec<u16> =
        seen.heard.iter().map(|one| u16::from_be_bytes([one.octets[0], one.octets[1]])).collect();
    let ports: BTreeSet<u16> = seen.heard.iter().map(|one| one.from.port()).collect();
    // 400 of 65,536 at random: 1.2 doubles are expected, and no order.
    assert!(ids.iter().collect::<BTreeSet<_>>().len() > 385, "{ids:?}");
    let rises = ids.windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!((140..260).contains(&rises), "{rises}");
    let near = ids.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) < 16).count();
    assert!(near < 8, "{near}");
    // Many to guess from, and few entries in a table of connections (conntrack).
    assert!((8..=64).contains(&ports.len()), "{ports:?}");
    let changes = seen.heard.windows(2).filter(|pair| pair[0].from != pair[1].from).count();
    assert!(changes > 300, "{changes}: a port is chosen for each");
}

/// An address of this machine that is not on the loopback interface.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: the kernel only looks for the way.
    socket.connect("192.0.2.1:53").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback())
}

#[test]
fn the_case_of_names_is_random_and_may_be_lost() {
    let Some(ip) = own_address() else {
        println!("skipped: this machine has no address but its loopback's");
        return;
    };
    // Half of its replies have lost the case.
    let upstream = Upstream::at(SocketAddr::new(ip, 0), |heard| {
        let mut reply = heard.answer(&[1]);
        if heard.name().starts_with("lost") {
            let end = reply.len() - 16 - 4;
            reply[12..end].make_ascii_lowercase();
        }
        vec![Act::Say(reply)]
    });
    let (server, client) = forwarding("case", &upstream.address.to_string(), "");
    let mut cased = 0;
    for number in 0..20 {
        let name = format!("Kept{number}.AbcdefghijklmnopqrstuvwxyZ.test.");
        let reply = client.ask(&name);
        assert_eq!((&reply.name, reply.addresses.len()), (&name, 1));
        let heard = upstream.seen().heard.last().expect("a query").cased_name();
        cased += usize::from(heard != name.trim_end_matches('.'));
    }
    assert_eq!((cased, upstream.asked()), (20, 20), "mixed, and asked once");
    let name = "Lost.AbcdefghijklmnopqrstuvwxyZ.test.";
    let reply = client.ask(name);
    assert_eq!((reply.name.as_str(), reply.addresses.len()), (name, 1));
    assert_eq!(upstream.asked(), 22, "asked again, plainly");
    assert_eq!(metric(&server, &ignored(&upstream, "case")), 1.0);
    let again = format!(
        "corelane_upstream_repeated_total{{proxy_name=\"forward\",to=\"{}\",reason=\"case\"}}",
        upstream.address
    );
    assert_eq!(metric(&server, &again), 1.0);
}

#[test]
fn what_is_too_long_is_cut_for_the_client_and_whole_over_tcp() {
    let long: Vec<u8> = (0..=255).collect();
    let upstream = Upstream::new(move |heard| vec![Act::Say(heard.answer(&long))]);
    let (_server, client) = forwarding("long", &upstream.address.to_string(), "");
    let short = client.ask("a.test.");
    assert!(short.truncated && short.answers < 256, "{short:?}");
    let whole = client.ask_tcp("a.test.");
    assert!(!whole.truncated && whole.answers == 256);
}

#[test]
fn a_reply_that_breaks_off_is_truncated_over_udp_and_a_failure_over_tcp() {
    let upstream = Upstream::new(|heard| {
        let mut reply = heard.answer(&[1]);
        reply.truncate(reply.len() - 3);
        vec![Act::Say(reply)]
    });
    let (_server, client) = forwarding("broken", &upstream.address.to_string(), "");
    let reply = client.ask("a.test.");
    assert!(reply.truncated && reply.answers == 0, "{reply:?}");
    assert_eq!(client.ask_tcp("a.test.").rcode, ResponseCode::ServFail);
}

#[test]
fn the_soa_of_an_incremental_transfer_goes_with_its_question() {
    let upstream = Upstream::new(|heard| vec![Act::Say(heard.reply(0))]);
    let (_server, client) = forwarding("ixfr", &upstream.address.to_string(), "");
    let soa: &[u8] = &[0xc0, 12, 0, 6, 0, 1, 0, 0, 0, 0, 0, 22, 0, 0, 0, 0, 0, 7];
    let ixfr = |id| {
        let mut message = with_edns(query(id, "zone.test.", 251));
        message[9] = 1;
        let opt = message.split_off(message.len() - 11);
        [&message[..], soa, &[0; 16], &opt].concat()
    };
    let reply = client.exchange(ixfr);
    assert_eq!(reply.rcode, ResponseCode::NoError);
    let heard = upstream.seen().heard[0].octets.clone();
    assert_eq!(heard[2..], ixfr(0)[2..], "as it came, but for the id");
}
