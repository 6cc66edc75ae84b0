//! DNS over TLS and over HTTPS: names, certificates, sessions, methods, statuses.

use hickory_proto::op::ResponseCode;

use crate::certs::Authority;
use crate::client::Client;
use crate::server::{Server, eventually};
use crate::upstream::{Act, By, Upstream, honest};
use crate::{corefile, serve_with};

const DOH: &[&str] = &["h2", "http/1.1"];

/// A server that forwards to `to`, whose certificates this authority signs.
fn forwarding(test: &str, to: &str, options: &str, authority: &Authority) -> (Server, Client) {
    let options = format!("tls ca.pem\n {options}");
    let files = [("ca.pem", authority.pem.as_str())];
    let server = serve_with(test, &corefile(to, &options), &files);
    let client = Client::of(&server);
    (server, client)
}

#[test]
fn tls_asks_who_has_the_name_and_resumes_its_sessions() {
    let authority = Authority::new();
    let identity = authority.identity(&["dns.test"], 2100);
    let upstream = Upstream::secure(identity.config(&[]), honest(1));
    let to = format!("tls://{}", upstream.address);
    let options = "tls_servername dns.test\n expire 100ms";
    let (_server, client) = forwarding("tls", &to, options, &authority);
    let replies = client.ask_many(20, "n");
    assert!(replies.iter().all(|reply| reply.addresses == ["192.0.2.1"]), "{replies:?}");
    for _ in 0..3 {
        assert!(eventually(|| upstream.seen().open == 0), "idle ones are closed");
        assert_eq!(client.ask("later.test.").answers, 1);
    }
    let connections = upstream.seen().connections.clone();
    assert_eq!(connections[0], Some(false), "the first handshake is a whole one");
    let last = &connections[connections.len() - 3..];
    assert_eq!(last, [Some(true); 3], "the others are resumed");
}

#[test]
fn certificates_that_are_not_good_are_said_so_and_passed_over() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let good = Upstream::secure(authority.identity(&["dns.test"], 2100).config(&[]), honest(2));
    for (test, identity, words) in [
        ("other_name", authority.identity(&["other.test"], 2100), "not valid for name"),
        ("expired", authority.identity(&["dns.test"], 2021), "expired"),
        ("stranger", stranger.identity(&["dns.test"], 2100), "invalid peer certificate"),
    ] {
        let bad = Upstream::secure(identity.config(&[]), honest(1));
        let options = "tls_servername dns.test\n health_check 20ms\n policy sequential";
        let to = format!("tls://{}", bad.address);
        let (server, client) = forwarding(&format!("tls_{test}"), &to, options, &authority);
        let reply = client.ask_edns("a.test.");
        assert_eq!((reply.rcode, reply.ede), (ResponseCode::ServFail, Some(23)));
        server.says("TLS handshake failed").expect("a reason");
        server.says(&format!("upstream {} is down: ", bad.address)).expect("a line");
        let output = server.output();
        let line = output.lines().find(|line| line.contains("is down: ")).expect("a line");
        assert!(line.contains(words), "{test}: {line}");
        assert_eq!(bad.asked(), 0, "it never saw a name");
        // Beside another it costs nobody a reply.
        let to = format!("{to} tls://{}", good.address);
        let (_server, client) = forwarding(&format!("tls_{test}_two"), &to, options, &authority);
        let replies = client.ask_many(10, "n");
        assert!(replies.iter().all(|reply| reply.addresses == ["192.0.2.2"]), "{replies:?}");
    }
}

#[test]
fn servers_that_want_to_know_us_get_our_certificate() {
    let authority = Authority::new();
    let server_side = authority.identity(&["127.0.0.1"], 2100);
    let upstream = Upstream::secure(server_side.config_for(&[], Some(&authority)), honest(1));
    let ours = authority.identity(&["client.test"], 2100);
    let files = [
        ("ca.pem", authority.pem.as_str()),
        ("cert.pem", ours.certificate.as_str()),
        ("key.pem", ours.key.as_str()),
    ];
    let to = format!("tls://{}", upstream.address);
    let server = serve_with("tls_ours", &corefile(&to, "tls cert.pem key.pem ca.pem"), &files);
    assert_eq!(Client::of(&server).ask("a.test.").answers, 1, "{}", server.output());
    let server = serve_with("tls_nobody", &corefile(&to, "tls ca.pem"), &files);
    assert_eq!(Client::of(&server).ask("b.test.").rcode, ResponseCode::ServFail);
    assert_eq!(upstream.asked(), 1);
}

#[test]
fn a_server_of_plain_dns_is_no_server_of_tls() {
    let authority = Authority::new();
    let plain = Upstream::new(honest(1));
    let to = format!("tls://{}", plain.address);
    let options = "read_timeout 300ms";
    let (server, client) = forwarding("tls_plain", &to, options, &authority);
    assert_eq!(client.ask("a.test.").rcode, ResponseCode::ServFail, "{}", server.output());
    assert!(eventually(|| plain.seen().open == 0), "no connection is left");
}

#[test]
fn https_posts_and_gets_many_at_a_time() {
    let authority = Authority::new();
    for (method, by) in [("POST", By::Post), ("GET", By::Get)] {
        let identity = authority.identity(&["127.0.0.1"], 2100);
        let upstream = Upstream::secure(identity.config(DOH), |heard| {
            vec![Act::Wait(std::time::Duration::from_millis(100)), Act::Say(heard.answer(&[1]))]
        });
        let options = format!("doh_method {method}\n expire 100ms");
        let to = format!("https://{}", upstream.address);
        let (server, client) = forwarding(&format!("doh_{method}"), &to, &options, &authority);
        let replies = client.ask_many(50, "n");
        let bad = replies.iter().find(|reply| reply.addresses != ["192.0.2.1"]);
        assert!(bad.is_none(), "{bad:?}\n{}", server.output());
        {
            let seen = upstream.seen();
            assert_eq!(seen.connections.len(), 1, "HTTP/2: one connection for all");
            assert!(seen.heard.iter().all(|one| one.by == by));
            // RFC 8484 section 4.1: for caches on the way.
            assert!(seen.heard.iter().all(|one| one.octets[..2] == [0, 0]));
        }
        assert!(eventually(|| upstream.seen().open == 0), "idle ones are closed");
        assert_eq!(client.ask("later.test.").answers, 1);
        assert_eq!(upstream.seen().connections.last(), Some(&Some(true)), "resumed");
    }
}

#[test]
fn servers_of_http_1_get_one_query_at_a_time() {
    let authority = Authority::new();
    let identity = authority.identity(&["127.0.0.1"], 2100);
    let upstream = Upstream::secure(identity.config(&["http/1.1"]), |heard| {
        match heard.name().starts_with("mute") {
            // Never, as far as anybody here waits.
            true => vec![Act::Wait(std::time::Duration::from_secs(3600))],
            false => vec![Act::Say(heard.answer(&[1]))],
        }
    });
    let to = format!("https://{}", upstream.address);
    let options = "read_timeout 300ms\n max_connect_attempts 1\n expire 100ms";
    let (server, client) = forwarding("doh_http1", &to, options, &authority);
    client.ask("first.test.");
    let replies = client.ask_many(20, "n");
    let good = replies.iter().filter(|reply| reply.answers == 1).count();
    assert!(good >= 10, "{replies:?}\n{}", server.output());
    // What is never answered holds no connection for ever.
    for number in 0..4 {
        let late = client.ask(&format!("mute{number}.test."));
        assert_eq!(late.rcode, ResponseCode::ServFail);
    }
    assert_eq!(client.ask("again.test.").answers, 1);
    assert!(eventually(|| upstream.seen().open == 0), "{} are open", upstream.seen().open);
}

#[test]
fn streams_that_are_never_answered_starve_nobody() {
    let authority = Authority::new();
    let identity = authority.identity(&["127.0.0.1"], 2100);
    let upstream =
        Upstream::secure(identity.config(DOH), |heard| match heard.name().starts_with("mute") {
            true => vec![Act::Wait(std::time::Duration::from_secs(3600))],
            false => vec![Act::Say(heard.answer(&[1]))],
        });
    let to = format!("https://{}", upstream.address);
    let options = "read_timeout 1s\n max_connect_attempts 1\n max_fails 0";
    let (server, client) = forwarding("doh_mute", &to, options, &authority);
    // Far more than the streams of one connection, by which others are answered all the time.
    for round in 0..8 {
        (0..40).for_each(|number| {
            client.send(&format!("mute{round}x{number}.test."));
        });
        assert_eq!(client.ask(&format!("between{round}.test.")).answers, 1);
        (0..40).for_each(|number| {
            client.send(&format!("good{round}x{number}.test."));
        });
        let replies: Vec<_> = (0..80).map(|_| client.receive()).collect();
        let good = replies.iter().filter(|reply| reply.answers == 1).count();
        assert_eq!(good, 40, "round {round}\n{}", server.output());
    }
}

#[test]
fn statuses_and_bodies_that_are_no_replies_fail() {
    let authority = Authority::new();
    let good = Upstream::secure(authority.identity(&["127.0.0.1"], 2100).config(DOH), honest(2));
    for (test, act) in [("status", Act::Status(503)), ("body", Act::Say(b"<html>".to_vec()))] {
        let identity = authority.identity(&["127.0.0.1"], 2100);
        let bad = Upstream::secure(identity.config(DOH), move |_| vec![act.clone()]);
        let to = format!("https://{}", bad.address);
        let options = "policy sequential\n read_timeout 1s";
        let (server, client) = forwarding(&format!("doh_{test}"), &to, options, &authority);
        let reply = client.ask_edns("a.test.");
        assert_eq!((reply.rcode, reply.ede), (ResponseCode::ServFail, Some(23)), "{reply:?}");
        server.says(if test == "status" { "HTTP status" } else { "malformed" }).expect("a reason");
        let to = format!("{to} https://{}", good.address);
        let (_server, client) = forwarding(&format!("doh_{test}_two"), &to, options, &authority);
        assert_eq!(client.ask("a.test.").addresses, ["192.0.2.2"]);
    }
}

#[test]
fn what_tls_names_must_be_there_and_fit() {
    let authority = Authority::new();
    let identity = authority.identity(&["dns.test"], 2100);
    let (one, other) = (&identity, authority.identity(&["dns.test"], 2100));
    let files = [
        ("cert.pem", one.certificate.as_str()),
        ("other.key", other.key.as_str()),
        ("nothing.pem", "no certificate\n"),
    ];
    for (test, options, words) in [
        ("roots", "tls nothing.pem", "could not read root certs"),
        ("key", "tls cert.pem nothing.pem", "could not load TLS cert"),
        ("pair", "tls cert.pem other.key", "could not load TLS cert"),
    ] {
        let text = corefile("tls://127.0.0.1:1", options);
        let mut server = crate::begin(&format!("tls_bad_{test}"), &text, &files);
        assert_eq!(server.ended(), Ok(1), "{test}: {}", server.output());
        server.says(words).expect(test);
        let output = server.output();
        let lines = output.lines().filter(|line| line.contains("forward: ")).count();
        assert_eq!(lines, 1, "one line: {output}");
    }
}
