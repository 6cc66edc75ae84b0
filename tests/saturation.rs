//! A saturated UDP socket starves nobody: TCP goes on, a reload completes, no answer is wrong; and
//! the workers make hardly a system call for an answer. On every engine that the machine has.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "not the query path")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use corelane::data::transport::engine::Engine;

mod message;

use message::query;

/// How long anything may take that happens at all.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the socket is saturated at least.
const SATURATED: Duration = Duration::from_secs(2);
/// Queries of one socket of a client that wait for their answers.
const WINDOW: u16 = 64;
/// Names of the zone: `n0` has the address 192.0.2.0, and so on.
const NAMES: u8 = 200;

/// One saturated server at a time.
static ALONE: Mutex<()> = Mutex::new(());

struct Server {
    child: Child,
    folder: PathBuf,
    address: SocketAddr,
}

impl Server {
    fn start(name: &str, arguments: &[&str]) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let mut zone = String::from("$TTL 60\n@ IN SOA ns host 1 2 3 4 5\n@ IN NS ns\n");
        for n in 0..NAMES {
            zone += &format!("n{n} IN A 192.0.2.{n}\n");
        }
        std::fs::write(folder.join("db"), zone).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        write_corefile(&folder, address, "");
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        command.args(["-conf", "Corefile"]).args(arguments).current_dir(&folder);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let server = Self { child, folder, address };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(began.elapsed() < PATIENCE, "the server does not listen");
            sleep(Duration::from_millis(20));
        }
        server
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write_corefile(folder: &Path, address: SocketAddr, more: &str) {
    let port = address.port();
    let text = format!(
        "example.org:{port} {{\n bind 127.0.0.1\n file db\n}}\n{}",
        more.replace("PORT", &port.to_string())
    );
    std::fs::write(folder.join("Corefile"), text).unwrap();
}

fn name_of(id: u16) -> String {
    format!("n{}.example.org", id % u16::from(NAMES))
}

/// Whether `reply` is the one answer to the query with this id.
fn is_right(id: u16, reply: &[u8]) -> bool {
    let asked = query(id, &name_of(id), 1);
    let address = [192, 0, 2, (id % u16::from(NAMES)) as u8];
    reply.len() > asked.len()
        && reply[..2] == asked[..2]
        && reply[3] & 15 == 0
        && reply[4..8] == [0, 1, 0, 1]
        && reply[12..asked.len()] == asked[12..]
        && reply[asked.len() + 12..asked.len() + 16] == address
}

/// Clients that keep the UDP sockets full until they are told to stop.
struct Flood {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    wrong: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Flood {
    fn start(server: SocketAddr) -> Self {
        let (stop, answers, wrong) = <(Arc<AtomicBool>, Arc<AtomicU64>, Arc<AtomicU64>)>::default();
        let threads = (0..2).map(|_| {
            let (stop, answers, wrong) = (stop.clone(), answers.clone(), wrong.clone());
            spawn(move || {
                let sockets: Vec<_> = (0..8).map(|_| Self::socket(server)).collect();
                let mut reply = [0; 1500];
                let mut next = 0u16;
                while !stop.load(Relaxed) {
                    for socket in &sockets {
                        for _ in 0..WINDOW {
                            next = next.wrapping_add(1);
                            let _ = socket.send(&query(next, &name_of(next), 1));
                        }
                    }
                    for socket in &sockets {
                        // Fewer come back when a buffer was full: datagrams may be lost.
                        while let Ok(len) = socket.recv(&mut reply) {
                            let id = u16::from_be_bytes([reply[0], reply[1]]);
                            wrong.fetch_add(u64::from(!is_right(id, &reply[..len])), Relaxed);
                            answers.fetch_add(1, Relaxed);
                        }
                    }
                }
            })
        });
        let threads = threads.collect();
        Self { stop, answers, wrong, threads }
    }

    fn socket(server: SocketAddr) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    /// Ends it; gives the answers, and those among them that were wrong.
    fn end(self) -> (u64, u64) {
        self.stop.store(true, Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        (self.answers.load(Relaxed), self.wrong.load(Relaxed))
    }
}

/// Asks on a stream and waits for the answer.
fn ask(stream: &mut TcpStream, query: &[u8]) -> Vec<u8> {
    message::send(stream, query).unwrap();
    message::receive(stream).expect("a whole answer")
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// TCP makes 100 answers and a reload completes while UDP is saturated.
fn nobody_starves(name: &str, arguments: &[&str]) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let server = Server::start(name, arguments);
    let flood = Flood::start(server.address);
    let began = Instant::now();
    let mut stream = connect(server.address);
    let (mut answers, mut reloaded) = (0u16, false);
    while answers < 100 || !reloaded || began.elapsed() < SATURATED {
        assert!(began.elapsed() < PATIENCE, "{answers} answers over TCP, reloaded: {reloaded}");
        if answers == 50 {
            let block = "new.example:PORT {\n bind 127.0.0.1\n whoami\n}\n";
            write_corefile(&server.folder, server.address, block);
            server.signal("USR1");
        }
        let reply = ask(&mut stream, &query(answers, &name_of(answers), 1));
        assert!(is_right(answers, &reply), "over TCP: {reply:02x?}");
        answers = answers.saturating_add(1);
        // REFUSED until the new block is served.
        if answers % 16 == 0 && !reloaded {
            let reply = ask(&mut stream, &query(answers, "who.new.example", 1));
            reloaded = reply[3] & 15 == 0;
        }
    }
    let (over_udp, wrong) = flood.end();
    assert!(over_udp > 1_000, "{over_udp} answers over UDP");
    assert_eq!(wrong, 0, "of {over_udp}");
}

#[test]
fn a_saturated_socket_starves_neither_tcp_nor_a_reload() {
    nobody_starves("saturated.mmsg", &[]);
}

#[test]
fn a_saturated_ring_starves_neither_tcp_nor_a_reload() {
    if let Err(error) = Engine::uring() {
        let mut out = std::io::stderr();
        let _ = writeln!(out, "skipped: io_uring cannot be had here: {error}");
        return;
    }
    nobody_starves("saturated.uring", &["-io-engine", "uring"]);
}

/// The threads of the workers.
fn workers(server: &Server) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.child.id())).unwrap();
    let is_worker = |path: &PathBuf| {
        std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name.starts_with("worker-"))
    };
    let tasks = tasks.flatten().map(|task| task.path()).filter(is_worker);
    tasks.map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

/// Counts workers' calls under strace(1): by name, and all together.
fn counted(summary: &str) -> Vec<(String, u64)> {
    let rows = summary.lines().filter_map(|line| {
        let (count, name) = line.trim().split_once(char::is_whitespace)?;
        Some((name.trim().to_owned(), count.parse().ok()?))
    });
    rows.filter(|(name, _)| name != "total").collect()
}

#[test]
fn a_saturated_worker_makes_hardly_a_call_for_an_answer_and_waits_for_no_lock() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let server = Server::start("saturated.calls", &[]);
    let summary = server.folder.join("calls");
    let mut strace = Command::new("strace");
    strace.args(["-c", "-U", "calls,name", "-o"]).arg(&summary);
    let workers = workers(&server);
    assert!(!workers.is_empty(), "a server has workers");
    for task in &workers {
        strace.args(["-p", task]);
    }
    let said = Stdio::piped();
    let Ok(mut strace) = strace.stdout(Stdio::null()).stderr(said).spawn() else {
        let _ = writeln!(std::io::stderr(), "skipped: there is no strace");
        return;
    };
    // strace says on standard error that it is attached, or why it cannot be.
    let mut first = [0; 128];
    let len = strace.stderr.as_mut().unwrap().read(&mut first).unwrap_or(0);
    if !String::from_utf8_lossy(&first[..len]).contains("attached") {
        let _ = (strace.kill(), strace.wait());
        let _ = writeln!(std::io::stderr(), "skipped: strace may not attach here");
        return;
    }
    let flood = Flood::start(server.address);
    sleep(SATURATED);
    let (answers, wrong) = flood.end();
    let id = strace.id().to_string();
    assert!(Command::new("kill").args(["-s", "INT", &id]).status().unwrap().success());
    strace.wait().unwrap();
    let calls = counted(&std::fs::read_to_string(&summary).unwrap());
    let all: u64 = calls.iter().map(|(_, count)| count).sum();
    assert!(answers > 1_000 && wrong == 0 && all > 0, "{answers} answers, {calls:?}");
    assert!(all * 10 <= answers, "{all} calls for {answers} answers: {calls:?}");
    assert!(!calls.iter().any(|(name, _)| name == "futex"), "{calls:?}");
}
