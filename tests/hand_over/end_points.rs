//! Health, readiness and metrics over a hand-over: whoever asks is answered, whichever process has the
//! socket; and processes of a version that hands over none of them are succeeded, and succeed.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, spawn};

use corelane::sys;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::ports::Port;
use crate::server::{Folder, PATIENCE, ask, name_of, wait_for};
use crate::{corefile, load::Load};

/// The family that tells of a hand-over.
const SUCCEEDED: &str = "\ncorelane_hand_over_timestamp_seconds ";

/// Clients that connect, ask and expect an answer, without a pause.
pub struct Probes {
    stop: Arc<AtomicBool>,
    answers: Vec<Arc<AtomicU64>>,
    failures: Arc<Mutex<Vec<String>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Probes {
    pub fn start(targets: &[(SocketAddr, &'static str)]) -> Self {
        let (stop, failures) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<_>>>::default());
        let answers: Vec<Arc<AtomicU64>> = targets.iter().map(|_| Arc::default()).collect();
        let thread = |((at, path), count): (&(SocketAddr, &'static str), &Arc<AtomicU64>)| {
            let (at, path, stop) = (*at, *path, Arc::clone(&stop));
            let (failures, count) = (Arc::clone(&failures), Arc::clone(count));
            spawn(move || {
                while !stop.load(Relaxed) {
                    match get(at, path) {
                        Ok(said) if said.starts_with("HTTP/1.1 200") => count.fetch_add(1, Relaxed),
                        other => {
                            return failures.lock().unwrap().push(format!("{path}: {other:?}"));
                        }
                    };
                }
            })
        };
        let threads = targets.iter().zip(&answers).map(thread).collect();
        Self { stop, answers, failures, threads }
    }

    fn assert_all_well(&self) {
        let failures = self.failures.lock().unwrap();
        assert!(failures.is_empty(), "{failures:?}");
    }

    /// Waits for so many answers more of each.
    pub fn answers(&self, count: u64) {
        let before: Vec<u64> = self.answers.iter().map(|one| one.load(Relaxed)).collect();
        wait_for("answers to probes", || {
            self.assert_all_well();
            let mut both = self.answers.iter().zip(&before);
            both.all(|(now, before)| now.load(Relaxed) >= before + count)
        });
    }

    /// Ends it: none was refused, none was cut off.
    pub fn end(mut self) {
        self.stop.store(true, Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
        self.assert_all_well();
    }
}

pub fn get(at: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}

#[test]
fn probes_and_scrapes_are_answered_all_the_time() {
    let [port, health, ready, metrics] = [(); 4].map(|()| Port::free());
    let at = |port: &Port| SocketAddr::from(([127, 0, 0, 1], port.number));
    let folder = Folder::new("probes");
    let more =
        format!("health {}\n ready {}\n prometheus {}", at(&health), at(&ready), at(&metrics));
    folder.write("Corefile", &corefile(port.number, &more));
    let arguments = ["-hand-over", "."];
    let mut servers = vec![folder.start("0", &arguments)];
    servers[0].says("corelane-");
    let probes = Probes::start(&[
        (at(&health), "/health"),
        (at(&ready), "/ready"),
        (at(&metrics), "/metrics"),
    ]);
    let load = Load::start(at(&port));
    probes.answers(20);
    let tells = || get(at(&metrics), "/metrics").unwrap().contains(SUCCEEDED);
    assert!(!tells(), "it has succeeded to nobody");
    for number in 1..4 {
        servers.push(folder.start(&number.to_string(), &arguments));
        let old = &mut servers[number - 1];
        assert_eq!(old.ended(), Some(0), "{}", old.output());
        probes.answers(20);
        wait_for("word of the hand-over", tells);
    }
    load.end();
    probes.end();
}

#[test]
fn a_client_that_has_not_asked_yet_is_heard() {
    let (port, health) = (Port::free(), Port::free());
    let at = SocketAddr::from(([127, 0, 0, 1], health.number));
    let folder = Folder::new("unheard");
    folder.write("Corefile", &corefile(port.number, &format!("health {at}")));
    let mut old = folder.start("old", &["-hand-over", "."]);
    old.says("corelane-");
    let mut early = TcpStream::connect(at).unwrap();
    early.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut new = folder.start("new", &["-hand-over", "."]);
    new.says("corelane-");
    old.says("finishing what has begun");
    early.write_all(b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    let mut said = String::new();
    early.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("HTTP/1.1 200"), "{said:?}");
    assert_eq!(old.ended(), Some(0), "{}", old.output());
}

/// Words of a process of the first version, by hand.
struct Former(Socket);

impl Former {
    fn say(&self, words: &str) {
        sys::send_with(self.0.as_fd(), words.as_bytes(), &[]).unwrap();
    }

    fn hear(&self) -> String {
        let (mut text, mut heard) = ([0; 65_536], None);
        wait_for("a word", || {
            heard = sys::receive_with(self.0.as_fd(), &mut text, 200).ok();
            heard.is_some()
        });
        String::from_utf8_lossy(&text[..heard.unwrap().0]).into_owned()
    }
}

#[test]
fn an_earlier_version_is_given_what_it_knows() {
    let (port, health) = (Port::free(), Port::free());
    let folder = Folder::new("former");
    let more = format!("health 127.0.0.1:{}", health.number);
    folder.write("Corefile", &corefile(port.number, &more));
    let mut old = folder.start("old", &["-hand-over", "."]);
    old.says("corelane-");
    for (hello, http) in [("{\"version\":1}", false), ("{\"version\":1,\"http\":true}", true)] {
        let link = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        link.connect(&SockAddr::unix(folder.path().join("corelane.sock")).unwrap()).unwrap();
        let former = Former(link);
        former.say(&format!("{{\"hello\":{hello}}}"));
        assert_eq!(former.hear(), r#"{"welcome":{"version":1}}"#);
        former.say(r#""take""#);
        let words = former.hear();
        assert!(words.contains(r#"{"udp":"#), "{words}");
        assert_eq!(words.contains(r#"{"http":"#), http, "{words}");
        drop(former);
        let lost = if http { 2 } else { 1 };
        wait_for("it is missed", || old.output().matches("Serving goes on").count() == lost);
    }
}

#[test]
fn an_earlier_version_is_succeeded() {
    let (port, health) = (Port::free(), Port::free());
    let folder = Folder::new("earlier");
    let at = SocketAddr::from(([127, 0, 0, 1], health.number));
    folder.write("Corefile", &corefile(port.number, &format!("health {at}")));
    let door = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
    door.bind(&SockAddr::unix(folder.path().join("corelane.sock")).unwrap()).unwrap();
    door.listen(1).unwrap();
    door.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut new = folder.start("new", &["-hand-over", "."]);
    let former = Former(door.accept().unwrap().0);
    assert!(former.hear().starts_with(r#"{"hello":{"version":1"#));
    former.say(r#"{"welcome":{"version":1}}"#);
    assert_eq!(former.hear(), r#""take""#);
    former.say(r#"{"given":{"held":[],"more":false}}"#);
    assert_eq!(former.hear(), r#""serving""#);
    new.says("corelane-");
    assert!(get(at, "/health").unwrap().starts_with("HTTP/1.1 200"));
    assert!(ask(([127, 0, 0, 1], port.number).into(), &name_of(1)).is_some());
}
