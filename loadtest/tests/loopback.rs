//! Both programs, as they are run: `flood` against `reflect`, and against servers that err.

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::process::{Child, Command, Output, Stdio};

/// A reflector on a port of its own, ended when dropped.
struct Reflect {
    process: Child,
    address: String,
}

impl Reflect {
    fn start(options: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_reflect"))
            .arg("127.0.0.1:0")
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split_whitespace().last().unwrap().to_owned();
        Self { process, address }
    }
}

impl Drop for Reflect {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run_flood(target: &str, options: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_flood")).arg(target).args(options).output().unwrap()
}

fn flood(target: &str, options: &[&str]) -> Value {
    let mut all = vec!["--random-labels", "example.org", "--seconds", "0.3", "--json"];
    all.extend(options);
    let output = run_flood(target, &all);
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{output:?}"))
}

fn count(report: &Value, key: &str) -> u64 {
    report[key].as_u64().unwrap_or_else(|| panic!("{key}: {report}"))
}

#[test]
fn udp_and_tcp_lose_nothing() {
    for options in [&[][..], &["--tcp"]] {
        let server = Reflect::start(options);
        let report = flood(
            &server.address,
            &[options, &["--expect", "noerror", "--time-out", "5s"]].concat(),
        );
        assert!(count(&report, "answered") > 100, "{report}");
        assert_eq!(count(&report, "answered"), count(&report, "sent"), "{report}");
        for key in ["lost", "late", "mismatched", "unexpected_rcode", "socket_errors"] {
            assert_eq!(count(&report, key), 0, "{key}: {report}");
        }
    }
}

#[test]
fn a_fixed_rate_is_sent_in_full_and_timed() {
    let server = Reflect::start(&[]);
    let report = flood(&server.address, &["--rate", "1000", "--time-out", "5s"]);
    assert_eq!(count(&report, "sent") + count(&report, "unsent"), 300, "{report}");
    assert!(report["latency_us"]["p50"].as_f64().unwrap() > 0.0, "{report}");
}

#[test]
fn an_rcode_that_is_not_expected_is_counted() {
    let server = Reflect::start(&[]);
    let report = flood(&server.address, &["--expect", "nxdomain"]);
    assert_eq!(count(&report, "unexpected_rcode"), count(&report, "answered"), "{report}");
    assert_eq!(count(&report["rcodes"], "NOERROR"), count(&report, "answered"), "{report}");
}

/// A server that answers every query with what `answer` makes of it.
fn erring_server(answer: fn(&mut Vec<u8>)) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((len, peer)) = socket.recv_from(&mut buffer) {
            let mut message = buffer[..len].to_vec();
            message[2] |= 0x80;
            answer(&mut message);
            let _ = socket.send_to(&message, peer);
        }
    });
    address
}

#[test]
fn wrong_answers_are_no_answers() {
    let wrong_question = erring_server(|message| message[13] ^= 1);
    let wrong_id = erring_server(|message| message[0] ^= 0x80);
    let no_response = erring_server(|message| message[2] &= 0x7f);
    for server in [wrong_question, wrong_id, no_response] {
        let report = flood(&server, &["--time-out", "50ms"]);
        assert_eq!(count(&report, "answered"), 0, "{report}");
        assert!(count(&report, "mismatched") > 0, "{report}");
        assert_eq!(count(&report, "lost"), count(&report, "sent"), "{report}");
    }
    let truncating = erring_server(|message| message[2] |= 2);
    let report = flood(&truncating, &[]);
    assert_eq!(count(&report, "truncated"), count(&report, "answered"), "{report}");
}

#[test]
fn nobody_there_is_a_failure() {
    let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let source = ["--random-labels", "example.org", "--seconds", "0.1"];
    let output = run_flood(&free, &source);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn only_loopback_is_put_under_load() {
    for options in [&[][..], &["--netns-ok"]] {
        let source = ["--random-labels", "example.org", "--seconds", "0.1"];
        let output = run_flood("192.0.2.1:53", &[&source, options].concat());
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("192.0.2.1"), "{output:?}");
    }
}

#[test]
fn an_objective_finds_a_rate() {
    let server = Reflect::start(&[]);
    // An objective that any machine keeps at some rate, and loses at no rate that it reaches.
    let found = flood(&server.address, &["--slo", "p50=30s,loss=100%", "--slo-from", "500000"]);
    assert!(!found["steps"].as_array().unwrap().is_empty(), "{found}");
    assert!(found["rate"].is_number() || found["client_bound"] == true, "{found}");
}
