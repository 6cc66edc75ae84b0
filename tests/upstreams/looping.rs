//! `loop`: what ends the process, and what does not.

use std::net::UdpSocket;
use std::time::Duration;

use crate::client::Client;
use crate::message::query;
use crate::serve;
use crate::server::Server;
use crate::upstream::{Heard, Upstream, honest};

const HINFO: u16 = 13;

fn looking(test: &str, upstream: &Upstream) -> Server {
    let to = upstream.address;
    serve(test, &format!(". {{\n errors\n loop\n forward . {to}\n}}\n"))
}

/// The name that the server asked itself for, as it came to its upstream.
fn probe(upstream: &Upstream) -> String {
    let mut name = None;
    let found = crate::server::eventually(|| {
        let seen = upstream.seen();
        name = seen.heard.iter().find(|one| one.rtype() == HINFO).map(Heard::name);
        name.is_some()
    });
    assert!(found, "a probe");
    name.unwrap_or_default()
}

#[test]
fn names_are_new_at_every_start_and_none_that_is_guessed_ends_the_process() {
    let upstream = Upstream::new(honest(1));
    let mut names = Vec::new();
    for start in ["loop_one", "loop_two", "loop_three"] {
        let before = upstream.seen().heard.len();
        let server = looking(start, &upstream);
        let client = Client::of(&server);
        // While it looks for a loop: numbers like its own, the names of other starts, and names
        // above and below, many times.
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.connect(server.address(None).expect("a port")).expect("an address");
        let mut guesses: Vec<String> = names.clone();
        let number = |seed: u64| seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 2;
        guesses.extend((0..500).map(|seed| format!("{}.{}.", number(seed), number(seed + 1_000))));
        for guess in &guesses {
            for id in 0..4 {
                socket.send(&query(id, guess, HINFO)).expect("a datagram");
            }
        }
        assert_eq!(client.ask("after.test.").answers, 1, "{}", server.output());
        assert!(!server.output().contains("FATAL"));
        upstream.seen().heard.drain(..before);
        let asked = upstream.seen().heard.iter().filter(|one| one.rtype() == HINFO).count();
        assert!(asked > 0);
        let name = probe(&upstream);
        let labels: Vec<&str> = name.split('.').collect();
        assert_eq!(labels.len(), 2);
        assert!(labels.iter().all(|label| label.parse::<u64>().is_ok()), "{name}");
        assert!(!names.contains(&format!("{name}.")), "{name} came twice");
        names.push(format!("{name}."));
    }
}

#[test]
fn a_resolver_that_asks_us_again_is_a_loop() {
    // It hands every query on to whoever asked, at the port that the server listens on.
    let upstream = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    upstream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    let to = upstream.local_addr().expect("bound");
    let text = format!(".:{{$P2}} {{\n loop\n forward . {to}\n}}\n");
    let mut server = crate::begin("loop_resolver", &text, &[]);
    let listener = server.address(Some("P2")).expect("a port");
    let onward = std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((len, from)) = upstream.recv_from(&mut buffer) {
            if from.port() == listener.port() {
                continue;
            }
            drop(upstream.send_to(&buffer[..len], listener));
            if buffer[..len].ends_with(b"end") {
                return;
            }
        }
    });
    assert_eq!(server.ended(), Ok(1), "{}", server.output());
    server.says("detected for zone \".\"").expect("a reason");
    let last = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    last.send_to(b"the end", to).expect("a datagram");
    onward.join().expect("no panic");
}
