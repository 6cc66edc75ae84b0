//! Servers under test, each with its folder and what it prints; questions by hand.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::message::query;

/// How long anything may take that happens at all.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something is so.
pub fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "in vain: {what}");
        sleep(Duration::from_millis(10));
    }
}

/// Says what is not tested, and why.
pub fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// Sends a signal.
pub fn signal(pid: u32, name: &str) {
    let id = pid.to_string();
    assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
}

/// A working directory.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        // Short: the path of a Unix socket has at most 107 octets.
        let path = std::env::temp_dir().join(format!("corelane-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn write(&self, file: &str, text: &str) {
        std::fs::write(self.0.join(file), text).unwrap();
    }

    pub fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.0.join(file)).unwrap_or_default()
    }

    /// Starts a server here, whose output goes to a file of that name.
    pub fn start(&self, name: &str, arguments: &[&str]) -> Server {
        self.start_by(&mut Command::new(env!("CARGO_BIN_EXE_corelane")), name, arguments)
    }

    /// Starts a server by a command that ends in its program.
    pub fn start_by(&self, command: &mut Command, name: &str, arguments: &[&str]) -> Server {
        self.spawn(command.args(["-conf", "Corefile"]).args(arguments), name)
    }

    /// Starts a server by a whole command.
    pub fn spawn(&self, command: &mut Command, name: &str) -> Server {
        let output = self.0.join(name);
        let file = File::create(&output).unwrap();
        command.current_dir(&self.0);
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        Server { child: command.spawn().unwrap(), output }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server, which ends with the test.
pub struct Server {
    child: Child,
    output: PathBuf,
}

impl Server {
    /// Starts one by a command whose output goes to this file.
    pub fn new(mut command: Command, output: PathBuf) -> Self {
        Self { child: command.spawn().unwrap(), output }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All that it has printed.
    pub fn output(&self) -> String {
        let mut text = String::new();
        let _ = File::open(&self.output).and_then(|mut file| file.read_to_string(&mut text));
        text
    }

    /// Waits until it prints something.
    pub fn says(&mut self, words: &str) {
        let began = Instant::now();
        while !self.output().contains(words) {
            let ended = self.child.try_wait().unwrap();
            let late = began.elapsed() > PATIENCE || ended.is_some();
            assert!(!late || self.output().contains(words), "no {words:?} in: {}", self.output());
            sleep(Duration::from_millis(10));
        }
    }

    pub fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// Waits for its end; `None` if a signal has ended it.
    pub fn ended(&mut self) -> Option<i32> {
        let began = Instant::now();
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) => return status.code(),
                None => assert!(began.elapsed() < PATIENCE, "it does not end: {}", self.output()),
            }
            sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A name of the load's.
pub fn name_of(number: u64) -> String {
    format!("n{number}.example.org")
}

/// Whether this is the query's answer, with an address.
pub fn is_answer(query: &[u8], reply: &[u8]) -> bool {
    reply.len() > query.len()
        && reply[..2] == query[..2]
        && reply[3] & 15 == 0
        && reply[4..8] == [0, 1, 0, 1]
        && reply[12..query.len()] == query[12..]
}

/// Asks once over UDP, from a new port.
pub fn ask(server: SocketAddr, name: &str) -> Option<Vec<u8>> {
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(server).unwrap();
    let (query, mut reply) = (query(7, name, 1), [0; 1500]);
    socket.send(&query).ok()?;
    let len = socket.recv(&mut reply).ok()?;
    is_answer(&query, &reply[..len]).then(|| reply[..len].to_vec())
}

/// Whether nobody listens on a port.
pub fn is_refused(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_err()
}
