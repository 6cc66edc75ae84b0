//! Clients that ask without a pause, and expect an answer to each question that they ask once.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, spawn};

use crate::message::{self, query};
use crate::server::{PATIENCE, ask, is_answer, name_of, wait_for};

#[derive(Default)]
struct Tally {
    stop: AtomicBool,
    udp: AtomicU64,
    tcp: AtomicU64,
    lost: Mutex<Vec<String>>,
}

pub struct Load {
    tally: Arc<Tally>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Two that ask over UDP, each time from a new port; one that connects for each question; one that
    /// keeps its connection.
    pub fn start(server: SocketAddr) -> Self {
        let tally = Arc::new(Tally::default());
        type Client = fn(SocketAddr, &Tally);
        let clients: [Client; 4] = [over_udp, over_udp, over_connections, over_a_connection];
        let start = |client: Client| {
            let tally = Arc::clone(&tally);
            spawn(move || client(server, &tally))
        };
        let threads = clients.into_iter().map(start).collect();
        Self { tally, threads }
    }

    /// Waits for so many answers more over UDP, and a tenth as many over TCP.
    pub fn answers(&self, count: u64) {
        let (udp, tcp) = (self.tally.udp.load(Relaxed), self.tally.tcp.load(Relaxed));
        wait_for("answers", || {
            let lost = self.tally.lost.lock().unwrap();
            assert!(lost.is_empty(), "lost: {lost:?}");
            self.tally.udp.load(Relaxed) >= udp + count
                && self.tally.tcp.load(Relaxed) >= tcp + count / 10
        });
    }

    /// Ends it: nothing was lost.
    pub fn end(self) {
        self.tally.stop.store(true, Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        let lost = self.tally.lost.lock().unwrap();
        assert!(lost.is_empty(), "lost: {lost:?}");
    }
}

impl Tally {
    fn lose(&self, what: String) {
        self.lost.lock().unwrap().push(what);
    }
}

fn over_udp(server: SocketAddr, tally: &Tally) {
    let mut number = 0;
    while !tally.stop.load(Relaxed) {
        number += 1;
        match ask(server, &name_of(number)) {
            Some(_) => drop(tally.udp.fetch_add(1, Relaxed)),
            None => return tally.lose(format!("{} over UDP", name_of(number))),
        }
    }
}

fn over_connections(server: SocketAddr, tally: &Tally) {
    let mut number = 0;
    while !tally.stop.load(Relaxed) {
        number += 1;
        match connect(server).and_then(|mut stream| ask_by(&mut stream, number)) {
            Ok(()) => drop(tally.tcp.fetch_add(1, Relaxed)),
            Err(error) => return tally.lose(format!("{} by TCP: {error}", name_of(number))),
        }
    }
}

/// Keeps a connection for a second or so, as clients do, and leaves by itself.
fn over_a_connection(server: SocketAddr, tally: &Tally) {
    let mut number = 0;
    while !tally.stop.load(Relaxed) {
        let asked = connect(server).and_then(|mut stream| {
            for _ in 0..50 {
                number += 1;
                ask_by(&mut stream, number)?;
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            Ok(())
        });
        if let Err(error) = asked {
            return tally.lose(format!("{} by a kept connection: {error}", name_of(number)));
        }
    }
}

fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn ask_by(stream: &mut TcpStream, number: u64) -> io::Result<()> {
    let query = query(number as u16, &name_of(number), 1);
    message::send(stream, &query)?;
    let reply = message::receive(stream)?;
    match is_answer(&query, &reply) {
        true => Ok(()),
        false => Err(io::Error::other(format!("{reply:02x?}"))),
    }
}
