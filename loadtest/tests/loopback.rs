//! Both programs, as they are run: `flood` against `reflect`, and against servers that err.

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

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
fn a_stall_is_told_as_a_time_without_an_answer() {
    let server = erring_server(|message| {
        // Once, after the first answers.
        static STALLED: std::sync::Once = std::sync::Once::new();
        if message[1] == 100 {
            STALLED.call_once(|| std::thread::sleep(std::time::Duration::from_millis(150)));
        }
    });
    let schedstat = "/proc/self/task/self/schedstat".to_owned();
    let missing = run_flood(&server, &["--random-labels", "x", "--watch-thread", &schedstat]);
    assert_eq!(missing.status.code(), Some(2), "{missing:?}");
    let own = format!("/proc/{}/schedstat", std::process::id());
    let options = ["--rate", "2000", "--sockets", "1", "--time-out", "5s", "--watch", "0"];
    let report = flood(&server, &[&options[..], &["--watch-thread", &own]].concat());
    assert!(report["client"]["silence_us"].as_f64().unwrap() >= 150e3, "{report}");
    assert!(report["watched"]["0"]["latest_us"].as_f64().unwrap() > 0.0, "{report}");
    assert!(report["longest_wait_us"].is_number(), "{report}");
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
    for options in [&[][..], &["--netns-ok"], &["--cluster-ok", "--rate", "10"]] {
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

/// A file with this content, of a name that no other test uses.
fn file(name: &str, content: &str) -> String {
    let name = format!("{name}-{}", std::process::id());
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, content).unwrap();
    path.display().to_string()
}

fn flood_with(target: &str, options: &[&str]) -> Value {
    let output = run_flood(target, &[options, &["--json"]].concat());
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{output:?}"))
}

#[test]
fn look_ups_follow_the_search_list() {
    // Only names of three labels exist: the whole list is asked before the name as it is.
    let server = erring_server(|message| match message[12..].iter().filter(|b| **b < 10).count() {
        0..=8 => message[7] = 1,
        _ => message[3] |= 3,
    });
    let names = file("names", "www.example.org A\n");
    let options = ["--queries", &names, "--search", "a.b.c.d.e.f.g", "--expect", "noerror"];
    for resolver in ["libc", "musl"] {
        let more =
            ["--resolver", resolver, "--rate", "200", "--seconds", "0.2", "--time-out", "5s"];
        let report = flood_with(&server, &[&options[..], &more].concat());
        let found = count(&report["lookups"], "found");
        assert!(found > 0 && count(&report["lookups"], "failed") == 0, "{report}");
        assert_eq!(count(&report, "answered"), 4 * found, "{report}");
        assert_eq!(count(&report["rcodes"], "NXDOMAIN"), 2 * found, "{report}");
        assert_eq!(count(&report, "unexpected_rcode"), 0, "{report}");
        assert!(report["latency_us"]["p50"].as_f64().unwrap() > 0.0, "{report}");
    }
}

#[test]
fn look_ups_that_nobody_answers_fail() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let names = file("silent", "x A\n");
    let options = ["--queries", &names, "--resolver", "libc", "--seconds", "0.1"];
    let target = silent.local_addr().unwrap().to_string();
    let report = flood_with(&target, &[&options[..], &["--time-out", "50ms"]].concat());
    assert!(count(&report["lookups"], "failed") > 0, "{report}");
    assert_eq!(count(&report, "lost"), count(&report, "sent"), "{report}");
}

#[test]
fn a_trace_is_replayed_at_its_pace() {
    let server = Reflect::start(&[]);
    let text: String =
        (0..50).map(|n| format!("{:.3} n{n}.example A\n", 9.0 + f64::from(n) / 500.0)).collect();
    let trace = file("trace", &text);
    let options = ["--replay", &trace, "--seconds", "0.5", "--time-out", "5s"];
    let report = flood_with(&server.address, &options);
    assert_eq!((count(&report, "sent"), count(&report, "answered")), (50, 50), "{report}");
    assert_eq!(report["pace"]["times"], 50, "{report}");
    assert!(report["latency_us"]["p50"].as_f64().is_some(), "{report}");
}

#[test]
fn malformed_messages_disturb_no_count() {
    let server = Reflect::start(&[]);
    let report = flood(&server.address, &["--malformed-share", "0.2", "--time-out", "5s"]);
    let (sent, malformed) = (count(&report, "sent"), count(&report, "malformed_sent"));
    assert!(malformed * 5 > sent / 2 && malformed * 3 < sent, "{report}");
    assert_eq!(count(&report, "answered"), sent, "{report}");
    assert_eq!(count(&report, "mismatched"), 0, "{report}");
}

/// A server that answers every query over TLS with itself, and its certificate (PEM).
fn tls_server() -> (String, String) {
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let chain = vec![certified.cert.der().clone()];
    let config = Arc::new(builder.with_single_cert(chain, key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(session, stream);
            std::thread::spawn(move || {
                let mut prefix = [0; 2];
                while stream.read_exact(&mut prefix).is_ok() {
                    let mut message = vec![0; usize::from(u16::from_be_bytes(prefix))];
                    if stream.read_exact(&mut message).is_err() {
                        break;
                    }
                    message[2] |= 0x80;
                    let _ = stream.write_all(&[&prefix[..], &message].concat());
                }
            });
        }
    });
    (address, certified.cert.pem())
}

#[test]
fn tls_loses_nothing_and_checks_who_answers() {
    let (server, certificate) = tls_server();
    let known = file("known.pem", &certificate);
    let options = ["--tcp", "--tls-ca", &known, "--connections", "4", "--time-out", "5s"];
    let report = flood(&server, &options);
    assert!(count(&report, "answered") > 100, "{report}");
    assert_eq!(count(&report, "answered"), count(&report, "sent"), "{report}");
    assert_eq!(report["transport"], "tls");
    let (_, another) = tls_server();
    let another = file("another.pem", &another);
    let options = ["--random-labels", "example.org", "--tcp", "--tls-ca", &another];
    let output = run_flood(&server, &options);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
