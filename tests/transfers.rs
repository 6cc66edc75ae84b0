//! Signed zone transfers (RFC 5936, RFC 8945) to clients that take their time, over real sockets, with
//! a reload after each has begun. Every message's MAC is computed here, by another code than the
//! server's, and every record is looked at. There are more transfers than generations that may live at
//! once: were each to hold the generation that it began in, the last reloads would not come.
#![allow(clippy::disallowed_methods, reason = "not the query path")]

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use corelane::limits::GENERATIONS_MAX;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use socket2::{Domain, Socket, Type};

mod message;
mod ports;

use message::{query, receive, send};

/// How long anything may take that happens at all.
const PATIENCE: Duration = Duration::from_secs(120);
/// Names of the zone, each with a text of `TEXT_BYTES`: more octets together than the kernel holds
/// for a client that does not read.
const NAMES: u32 = 24_000;
const TEXT_BYTES: usize = 250;
const TRANSFERS: u32 = GENERATIONS_MAX as u32 + 1;
/// How long a client waits before it takes the next message, as long as there are reloads to come.
const PACE: Duration = Duration::from_millis(100);

const KEY: &[u8] = b"\x08transfer\x07example\x00";
const ALGORITHM: &[u8] = b"\x0bhmac-sha256\x00";
const MAC_BYTES: usize = 32;
/// `c2VjcmV0` in the Corefile.
const SECRET: &[u8] = b"secret";
const ZONE: &str = "example.org";
const AXFR: u16 = 252;
const TSIG: u16 = 250;

struct Server {
    child: Child,
    folder: PathBuf,
    address: SocketAddr,
    _port: ports::Port,
}

impl Server {
    fn start() -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("transfers");
        std::fs::create_dir_all(&folder).unwrap();
        let port = ports::Port::free();
        let address = SocketAddr::from(([127, 0, 0, 1], port.number));
        (1..3).for_each(|serial| write_zone(&folder, serial));
        write_corefile(&folder, address, 1);
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        command.args(["-conf", "Corefile"]).current_dir(&folder);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let server = Self { child, folder, address, _port: port };
        server.wait_for(1);
        server
    }

    /// Has it load the Corefile with this number.
    fn reload(&self, number: u32) {
        write_corefile(&self.folder, self.address, number);
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", "USR1", &id]).status().unwrap().success());
        self.wait_for(number);
    }

    /// Until the block of this number is served.
    fn wait_for(&self, number: u32) {
        let began = Instant::now();
        while !self.is_served(&format!("g.{number}.test")) {
            assert!(began.elapsed() < PATIENCE, "generation {number} is not served");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn is_served(&self, name: &str) -> bool {
        let Ok(mut stream) = TcpStream::connect(self.address) else { return false };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        send(&mut stream, &query(1, name, 1)).unwrap();
        receive(&mut stream).expect("a whole message")[3] & 15 == 0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write_zone(folder: &Path, serial: u32) {
    let text = "x".repeat(TEXT_BYTES);
    let mut zone = format!("$TTL 60\n@ IN SOA ns host {serial} 2 3 4 5\n@ IN NS ns\n");
    (0..NAMES).for_each(|n| zone += &format!("n{n} TXT {text}\n"));
    std::fs::write(folder.join(format!("db.{serial}")), zone).unwrap();
}

/// Serial of the zone that the Corefile with this number has.
fn serial_of(number: u32) -> u32 {
    number.min(2)
}

fn write_corefile(folder: &Path, address: SocketAddr, number: u32) {
    let (port, serial) = (address.port(), serial_of(number));
    let text = format!(
        "example.org:{port} {{\n bind 127.0.0.1\n log\n tsig {{\n  secret transfer.example. \
         c2VjcmV0\n  require AXFR\n }}\n transfer {{\n  to *\n }}\n file db.{serial}\n}}\n\
         g.{number}.test:{port} {{\n bind 127.0.0.1\n whoami\n}}\n"
    );
    std::fs::write(folder.join("Corefile"), text).unwrap();
}

fn mac(parts: &[&[u8]]) -> Vec<u8> {
    let mut hmac = Hmac::<Sha256>::new_from_slice(SECRET).unwrap();
    parts.iter().for_each(|part| hmac.update(part));
    hmac.finalize().into_bytes().to_vec()
}

/// Time and fudge, as the digest has them.
fn timers() -> Vec<u8> {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    [&now.to_be_bytes()[2..], &[1, 44]].concat()
}

/// A TSIG record with this MAC.
fn record(timers: &[u8], mac: &[u8], id: u16) -> Vec<u8> {
    let rdata = [
        ALGORITHM,
        timers,
        &(mac.len() as u16).to_be_bytes(),
        mac,
        &id.to_be_bytes(),
        &[0, 0, 0, 0],
    ]
    .concat();
    let head = [&TSIG.to_be_bytes()[..], &[0, 255, 0, 0, 0, 0]].concat();
    [KEY, &head, &(rdata.len() as u16).to_be_bytes(), &rdata].concat()
}

/// Key, class, TTL, algorithm, timers, error and other data: the variables (RFC 8945 section 4.3.3).
fn variables(timers: &[u8]) -> Vec<u8> {
    [KEY, &[0, 255, 0, 0, 0, 0], ALGORITHM, timers, &[0, 0, 0, 0]].concat()
}

/// A transfer, as its client sees it.
struct Transfer {
    stream: TcpStream,
    id: u16,
    /// MAC of the message before, the query's at first.
    prior: Vec<u8>,
    messages: u32,
    records: u32,
    /// Serials of the SOA records.
    serials: Vec<u32>,
}

impl Transfer {
    fn begin(server: SocketAddr, id: u16) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        // Small: what the client has not read yet, the server still holds.
        socket.set_recv_buffer_size(16 << 10).unwrap();
        socket.connect(&server.into()).unwrap();
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut message = query(id, ZONE, AXFR);
        let timers = timers();
        let prior = mac(&[&message, &variables(&timers)]);
        message.extend(record(&timers, &prior, id));
        message[11] = 1;
        send(&mut stream, &message).unwrap();
        Self { stream, id, prior, messages: 0, records: 0, serials: Vec::new() }
    }

    /// Takes one message, verifies it, and counts its records. `false`: it was the last.
    fn take(&mut self) -> bool {
        let mut message = receive(&mut self.stream).expect("a whole message");
        assert_eq!(message[..2], self.id.to_be_bytes(), "the query's id");
        assert_eq!(message[3] & 15, 0, "NOERROR");
        let tsig_bytes = record(&[0; 8], &[0; MAC_BYTES], 0).len();
        let tsig = message.split_off(message.len() - tsig_bytes);
        assert_eq!(message[10..12], [0, 1], "the TSIG record alone is additional");
        message[11] = 0;
        let at = KEY.len() + 10 + ALGORITHM.len();
        let (timers, found) = (&tsig[at..at + 8], &tsig[at + 10..][..MAC_BYTES]);
        assert_eq!(tsig, record(timers, found, self.id), "a TSIG record, without an error");
        // The first message is signed with all variables, those after it with the timers
        // (section 5.3.1).
        let last = match self.messages {
            0 => variables(timers),
            _ => timers.to_vec(),
        };
        let len = (self.prior.len() as u16).to_be_bytes();
        let right = mac(&[&len, &self.prior, &message, &last]);
        assert_eq!(found, right, "the MAC of message {}", self.messages);
        self.prior = right;
        self.messages += 1;
        self.count(&message);
        self.serials.len() < 2
    }

    fn count(&mut self, message: &[u8]) {
        let all = corelane::wire::records(message).expect("a valid message");
        for record in all.map(|record| record.expect("a valid record")) {
            let rdata = record.rdata(message);
            match record.rtype {
                6 => {
                    let serial = rdata[rdata.len() - 20..].first_chunk().expect("four octets");
                    self.serials.push(u32::from_be_bytes(*serial));
                }
                16 => assert_eq!(rdata.len(), TEXT_BYTES + 1, "the whole text"),
                other => assert_eq!(other, 2, "the NS record"),
            }
            self.records += 1;
        }
    }
}

#[test]
fn slow_signed_transfers_go_on_over_reloads_and_hold_up_none() {
    let server = Server::start();
    let reloaded = Arc::new(AtomicBool::new(false));
    let mut clients = Vec::new();
    for number in 1..=TRANSFERS {
        let mut transfer = Transfer::begin(server.address, number as u16);
        assert!(transfer.take(), "there is more");
        let reloaded = Arc::clone(&reloaded);
        clients.push(std::thread::spawn(move || {
            while transfer.take() {
                if !reloaded.load(Relaxed) {
                    std::thread::sleep(PACE);
                }
            }
            transfer
        }));
        server.reload(number + 1);
    }
    reloaded.store(true, Relaxed);
    for (number, client) in (1..).zip(clients) {
        let transfer = client.join().expect("every message is right");
        assert_eq!(transfer.serials, [serial_of(number); 2], "the zone that it began with");
        assert_eq!(transfer.records, NAMES + 3);
        assert!(transfer.messages > 2, "{} messages", transfer.messages);
    }
}
