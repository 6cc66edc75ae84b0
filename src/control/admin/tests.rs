//! The endpoints over real sockets: merging, changes, errors, bounds, the poll.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::*;
use crate::data::tally::{Tally, families};

struct Fixed(&'static str);

impl Route for Fixed {
    fn answer(&self, request: &Request<'_>) -> Response {
        match request.query {
            "panic" => panic!("asked to"),
            "big" => Response::text(200, "x".repeat(64 << 20)),
            _ => Response::text(200, self.0),
        }
    }

    fn yields(&self) -> bool {
        self.0.starts_with("less")
    }
}

fn endpoint(address: &str, path: &'static str, body: &'static str) -> Endpoint {
    Endpoint {
        name: "test",
        address: address.to_string(),
        routes: vec![(path, Arc::new(Fixed(body)))],
        required: true,
        poll: None,
        web: None,
    }
}

fn connect(at: SocketAddr) -> io::Result<TcpStream> {
    let ip = if at.ip().is_unspecified() { "127.0.0.1".parse().unwrap() } else { at.ip() };
    let stream = TcpStream::connect((ip, at.port()))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}

/// Status and body of one request on a connection of its own.
fn get(at: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = connect(at)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok((head[9..12].parse().unwrap(), body.to_string()))
}

/// Whether it happens while the test has patience.
#[allow(clippy::disallowed_methods, reason = "a test's thread may sleep")]
pub(super) fn patiently(mut happens: impl FnMut() -> bool) -> bool {
    (0..2000).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        happens()
    })
}

/// A free port: what `set` needs to be told twice.
fn free() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn endpoints_of_one_address_are_merged() {
    let admin = Admin::start().unwrap();
    let address = free();
    let other = address.replace("127.0.0.1", "localhost");
    admin
        .set(vec![
            endpoint(&address, "/health", "OK"),
            endpoint(&other, "/metrics", "less"),
            endpoint(&address, "/metrics", "m 1"),
            endpoint(&address, "/metrics", "less"),
            endpoint(&address, "/health", "second"),
        ])
        .unwrap();
    let [at] = admin.addresses()[..] else { panic!("one listener") };
    assert_eq!(get(at, "/health").unwrap(), (200, "OK".into()));
    assert_eq!(get(at, "/metrics?x=1").unwrap(), (200, "m 1".into()));
    assert_eq!(get(at, "/other").unwrap(), (404, "404 page not found\n".into()));
}

#[test]
fn a_wildcard_answers_both_families() {
    let admin = Admin::start().unwrap();
    admin.set(vec![endpoint(":0", "/health", "OK")]).unwrap();
    let port = admin.addresses()[0].port();
    for ip in ["127.0.0.1", "::1"] {
        let at = SocketAddr::new(ip.parse().unwrap(), port);
        match get(at, "/health") {
            Ok(got) => assert_eq!(got, (200, "OK".into())),
            // A machine without IPv6.
            Err(error) => {
                assert_eq!((ip, error.raw_os_error()), ("::1", Some(libc::EADDRNOTAVAIL)))
            }
        }
    }
}

#[test]
fn a_change_keeps_what_stays_and_closes_what_is_gone() {
    let admin = Admin::start().unwrap();
    let (stays, goes, comes) = (free(), free(), free());
    admin.set(vec![endpoint(&stays, "/a", "1"), endpoint(&goes, "/a", "1")]).unwrap();
    // A connection that was there before the change is still served after it, by the new routes.
    let mut kept = connect(stays.parse().unwrap()).unwrap();
    write!(kept, "GET /a HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut read = [0u8; 512];
    let mut length = kept.read(&mut read).unwrap();
    assert!(read[..length].ends_with(b"\r\n\r\n1"));

    admin.set(vec![endpoint(&comes, "/a", "2"), endpoint(&stays, "/a", "2")]).unwrap();
    assert_eq!(get(comes.parse().unwrap(), "/a").unwrap().1, "2");
    assert_eq!(get(stays.parse().unwrap(), "/a").unwrap().1, "2");
    let refused = get(goes.parse().unwrap(), "/a").unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    write!(kept, "GET /a HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    length = kept.read(&mut read).unwrap();
    assert!(read[..length].ends_with(b"\r\n\r\n2"));
}

#[test]
fn a_connection_to_what_is_gone_ends() {
    let admin = Admin::start().unwrap();
    let address = free();
    admin.set(vec![endpoint(&address, "/a", "1")]).unwrap();
    let mut kept = connect(address.parse().unwrap()).unwrap();
    write!(kept, "GET /a HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut read = [0u8; 512];
    assert!(kept.read(&mut read).unwrap() > 0);
    admin.set(vec![]).unwrap();
    assert_eq!(kept.read(&mut read).unwrap(), 0, "closed");
}

#[test]
fn all_or_nothing() {
    let admin = Admin::start().unwrap();
    let (stays, new) = (free(), free());
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().to_string();
    admin.set(vec![endpoint(&stays, "/a", "1")]).unwrap();
    let wanted = vec![endpoint(&stays, "/a", "2"), endpoint(&new, "/a", "2")];
    let error = admin.set([wanted.clone(), vec![endpoint(&taken, "/a", "2")]].concat());
    let error = error.unwrap_err();
    assert_eq!(error.address, taken);
    assert!(error.to_string().ends_with(": bind: address already in use"), "{error}");
    assert_eq!(get(stays.parse().unwrap(), "/a").unwrap().1, "1");
    assert!(get(new.parse().unwrap(), "/a").is_err());
    // What is not required is left out, the rest works.
    let optional = Endpoint { required: false, ..endpoint(&taken, "/a", "2") };
    admin.set([wanted, vec![optional]].concat()).unwrap();
    assert_eq!(get(new.parse().unwrap(), "/a").unwrap().1, "2");
    assert_eq!(admin.addresses().len(), 2);
}

#[test]
fn a_route_that_panics_costs_its_connection() {
    let admin = Admin::start().unwrap();
    admin.set(vec![endpoint("127.0.0.1:0", "/a", "1")]).unwrap();
    let at = admin.addresses()[0];
    assert!(get(at, "/a?panic").is_err());
    assert_eq!(get(at, "/a").unwrap().1, "1");
}

#[test]
fn heads_are_bounded() {
    let admin = Admin::start().unwrap();
    admin.set(vec![endpoint("127.0.0.1:0", "/a", "1")]).unwrap();
    let at = admin.addresses()[0];
    let long = format!("/a?{}", "x".repeat(64 << 10));
    assert!(!matches!(get(at, &long), Ok((200, _))));
    let mut stream = connect(at).unwrap();
    let many = "A: b\r\n".repeat(crate::limits::ADMIN_HEADERS_MAX + 1);
    write!(stream, "GET /a HTTP/1.1\r\n{many}\r\n").unwrap();
    let mut text = Vec::new();
    drop(stream.read_to_end(&mut text));
    assert!(text.starts_with(b"HTTP/1.1 431 "), "{}", String::from_utf8_lossy(&text));
}

#[test]
fn slow_clients_are_cut_off_and_hold_up_nobody() {
    let admin = Admin::start().unwrap();
    admin.set(vec![endpoint("127.0.0.1:0", "/a", "1")]).unwrap();
    let at = admin.addresses()[0];
    let mut silent = connect(at).unwrap();
    let mut half = connect(at).unwrap();
    write!(half, "GET /a HTTP/1.1\r\nHo").unwrap();
    let mut deaf = connect(at).unwrap();
    write!(deaf, "GET /a?big HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(get(at, "/a").unwrap().1, "1");
    let mut read = Vec::new();
    assert_eq!(silent.read_to_end(&mut read).unwrap(), 0);
    drop(half.read_to_end(&mut read));
    // The one that does not read: what it sends meets a closed socket at last.
    assert!(patiently(|| deaf.write_all(b"x").is_err()), "cut off");
}

#[test]
fn an_endpoint_polls_itself() {
    let admin = Admin::start().unwrap();
    let tally = Tally::new(1);
    let poll = SelfPoll {
        address: ":0".into(),
        path: "/a",
        tally: Arc::clone(&tally),
        duration: tally.histogram(&families::HEALTH_DURATION, &[]),
        failures: tally.counter(&families::HEALTH_FAILURES, &[]),
    };
    let failures = poll.failures;
    admin.set(vec![Endpoint { poll: Some(poll), ..endpoint(":0", "/a", "1") }]).unwrap();
    let observed = || {
        let mut out = String::new();
        tally.scrape(&mut out, crate::data::tally::Format::Text004);
        !out.contains("\ncoredns_health_request_duration_seconds_count 0\n")
    };
    assert!(patiently(observed), "polled");
    assert_eq!(tally.value(failures), 0);
}
