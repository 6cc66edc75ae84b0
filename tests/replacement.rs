//! Two replicas behind a balancer that knows of them what kube-proxy does, replaced one after the other
//! by a new version, under load: every query is answered.
//!
//! A replica gets queries once its `ready` says so, and none any more some time after it was told to
//! end, as word of that has a way to go; until then its `lameduck` has it go on.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "not the query path")]

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

mod message;
mod ports;

use ports::Port;

/// Long enough that only a hang, or a query that is lost, takes it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at something, and between a client's queries.
const PAUSE: Duration = Duration::from_millis(20);
const PACE: Duration = Duration::from_millis(1);
/// How long it takes until the balancer hears that a replica ends.
const NEWS: Duration = Duration::from_millis(500);
/// Queries of a client from one port, and on one connection.
const QUERIES_OF_A_PORT: usize = 50;
const QUERIES_OF_A_CONNECTION: usize = 5;
/// Answers that show that a change has met load.
const MANY: usize = 500;

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        sleep(PAUSE);
    }
}

/// What all replicas have in common: ports, which each has at an address of its own.
struct Ports {
    dns: Port,
    health: Port,
    ready: Port,
}

/// A server, ended when it is dropped.
struct Replica {
    child: Child,
    address: Ipv4Addr,
    folder: PathBuf,
}

impl Replica {
    /// Starts one at 127.0.0.`number`, which answers with 192.0.2.`version`.
    fn start(number: u8, version: u8, ports: &Ports) -> Self {
        let address = Ipv4Addr::new(127, 0, 0, number);
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("replica-{number}"));
        fs::create_dir_all(&folder).expect("a folder");
        let [dns, health, ready] =
            [&ports.dns, &ports.health, &ports.ready].map(|port| port.number);
        let corefile = format!(
            ".:{dns} {{\n bind {address}\n errors\n health {address}:{health} {{\n lameduck 2s\n \
             }}\n ready {address}:{ready}\n hosts {{\n 192.0.2.{version} www.example\n }}\n}}\n"
        );
        fs::write(folder.join("Corefile"), corefile).expect("a Corefile");
        let output = fs::File::create(folder.join("output")).expect("a file");
        let errors = output.try_clone().expect("an open file");
        let child = Command::new(env!("CARGO_BIN_EXE_corelane"))
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .expect("the server starts");
        Self { child, address, folder }
    }

    /// Tells it to end.
    fn terminate(&self) {
        let id = self.child.id().to_string();
        let done = Command::new("kill").args(["-s", "TERM", &id]).status();
        assert!(done.is_ok_and(|status| status.success()));
    }

    /// Waits for its end.
    fn ended(mut self) {
        let mut status = None;
        eventually("it ends", || {
            status = self.child.try_wait().expect("a child of ours");
            status.is_some()
        });
        let said = fs::read_to_string(self.folder.join("output")).unwrap_or_default();
        assert!(status.is_some_and(|status| status.success()), "{status:?}: {said}");
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What the balancer knows.
#[derive(Default)]
struct Endpoints {
    /// Of each replica, whether it is ready.
    known: Mutex<Vec<(Ipv4Addr, bool)>>,
    turn: AtomicUsize,
}

impl Endpoints {
    fn known(&self) -> MutexGuard<'_, Vec<(Ipv4Addr, bool)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ready(&self) -> Vec<Ipv4Addr> {
        self.known().iter().filter(|(_, ready)| *ready).map(|(address, _)| *address).collect()
    }

    fn add(&self, address: Ipv4Addr) {
        self.known().push((address, false));
    }

    fn remove(&self, address: Ipv4Addr) {
        self.known().retain(|(other, _)| *other != address);
    }

    /// The next in turn.
    fn pick(&self) -> Option<Ipv4Addr> {
        let ready = self.ready();
        let turn = self.turn.fetch_add(1, SeqCst);
        ready.get(turn % ready.len().max(1)).copied()
    }

    /// Asks every replica whether it is ready, as the kubelet does.
    fn probe(&self, port: u16) {
        let all: Vec<_> = self.known().iter().map(|(address, _)| *address).collect();
        for address in all {
            let ready = is_ready((address, port).into()).unwrap_or(false);
            let mut known = self.known();
            let found = known.iter_mut().find(|(other, _)| *other == address);
            if let Some((_, known)) = found {
                *known = ready;
            }
        }
    }
}

fn is_ready(address: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /ready HTTP/1.0\r\n\r\n")?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said.split(' ').nth(1) == Some("200"))
}

/// Carries what comes to 127.0.0.1 to the replicas, until the process ends.
fn balance(endpoints: &Arc<Endpoints>, ports: &Ports) {
    let [dns, ready] = [&ports.dns, &ports.ready].map(|port| port.number);
    let datagrams = UdpSocket::bind((Ipv4Addr::LOCALHOST, dns)).expect("a free port");
    let streams = TcpListener::bind((Ipv4Addr::LOCALHOST, dns)).expect("a free port");
    let own = Arc::clone(endpoints);
    spawn(move || {
        loop {
            own.probe(ready);
            sleep(PAUSE);
        }
    });
    let own = Arc::clone(endpoints);
    spawn(move || carry_datagrams(&Arc::new(datagrams), &own, dns));
    let own = Arc::clone(endpoints);
    spawn(move || {
        for client in streams.incoming().flatten() {
            let endpoint = own.pick();
            spawn(move || endpoint.map(|address| carry_stream(client, (address, dns).into())));
        }
    });
}

/// All datagrams of a client's port go to the replica that the first went to, while that is known: as
/// the kernel's table of connections has it, of which kube-proxy takes those of an endpoint that is gone.
fn carry_datagrams(front: &Arc<UdpSocket>, endpoints: &Endpoints, port: u16) {
    let mut flows: HashMap<SocketAddr, (Ipv4Addr, Arc<UdpSocket>)> = HashMap::new();
    let mut query = [0; 512];
    while let Ok((len, client)) = front.recv_from(&mut query) {
        let flow = match flows.get(&client) {
            Some((address, flow)) if endpoints.ready().contains(address) => Arc::clone(flow),
            _ => {
                let Some(address) = endpoints.pick() else { continue };
                let flow = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"));
                flow.connect((address, port)).expect("an address");
                flow.set_read_timeout(Some(PATIENCE)).expect("a time");
                flows.insert(client, (address, Arc::clone(&flow)));
                let (front, back) = (Arc::clone(front), Arc::clone(&flow));
                spawn(move || {
                    let mut reply = [0; 512];
                    while let Ok(len) = back.recv(&mut reply) {
                        let _ = front.send_to(&reply[..len], client);
                    }
                });
                flow
            }
        };
        let _ = flow.send(&query[..len]);
    }
}

/// A connection stays with its replica, whatever becomes of that.
fn carry_stream(client: TcpStream, endpoint: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect(endpoint)?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_server);
        to_server.shutdown(Shutdown::Write)
    });
    io::copy(&mut &server, &mut &client)?;
    client.shutdown(Shutdown::Write)
}

fn query(id: u16) -> Vec<u8> {
    message::query(id, "www.example", 1)
}

/// The version that answered; `None`: it is no answer to the query with this id.
fn version(id: u16, reply: &[u8]) -> Option<u8> {
    let fits = reply.get(..2) == Some(&id.to_be_bytes()[..])
        && reply.get(3)? & 15 == 0
        && reply.get(7) == Some(&1);
    fits.then(|| reply.last().copied())?
}

/// Clients that ask and wait, each of one thread, until they are told to end.
struct Load {
    over: Arc<AtomicBool>,
    /// Answers of both versions so far.
    answers: Arc<[AtomicUsize; 2]>,
    clients: Vec<JoinHandle<Result<(), String>>>,
}

impl Load {
    fn start(target: SocketAddr) -> Self {
        let (over, answers) = (Arc::default(), Arc::<[AtomicUsize; 2]>::default());
        let mut load = Self { over, answers, clients: Vec::new() };
        for _ in 0..4 {
            load.client(move || over_udp(target));
        }
        for _ in 0..2 {
            load.client(move || over_tcp(target));
        }
        load
    }

    /// A client that asks some queries at a time and gives the versions that answered.
    fn client(&mut self, some: impl Fn() -> Result<Vec<u8>, String> + Send + 'static) {
        let (over, answers) = (Arc::clone(&self.over), Arc::clone(&self.answers));
        self.clients.push(spawn(move || {
            while !over.load(SeqCst) {
                for version in some()? {
                    answers[usize::from(version) - 1].fetch_add(1, SeqCst);
                }
            }
            Ok(())
        }));
    }

    fn answers(&self, version: usize) -> usize {
        self.answers[version - 1].load(SeqCst)
    }

    /// Waits for many more answers of a version.
    fn meets(&self, version: usize) {
        let before = self.answers(version);
        let over = || self.clients.iter().any(JoinHandle::is_finished);
        eventually("the load goes on", || over() || self.answers(version) >= before + MANY);
    }

    /// Ends it: every query must have been answered.
    fn end(self) {
        self.over.store(true, SeqCst);
        for client in self.clients {
            assert_eq!(client.join().expect("a client that goes on"), Ok(()));
        }
    }
}

fn over_udp(target: SocketAddr) -> Result<Vec<u8>, String> {
    let lost = |id: usize, error: &dyn std::fmt::Display| format!("UDP, query {id}: {error}");
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    socket.connect(target).expect("an address");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time");
    let one = |id: usize| {
        sleep(PACE);
        let mut reply = [0; 512];
        socket.send(&query(id as u16)).map_err(|error| lost(id, &error))?;
        let len = socket.recv(&mut reply).map_err(|error| lost(id, &error))?;
        version(id as u16, &reply[..len]).ok_or_else(|| lost(id, &format!("{:?}", &reply[..len])))
    };
    (0..QUERIES_OF_A_PORT).map(one).collect()
}

fn over_tcp(target: SocketAddr) -> Result<Vec<u8>, String> {
    let lost = |id: usize, error: &dyn std::fmt::Display| format!("TCP, query {id}: {error}");
    let mut stream = TcpStream::connect(target).map_err(|error| lost(0, &error))?;
    stream.set_read_timeout(Some(PATIENCE)).expect("a time");
    let mut one = |id: usize| {
        sleep(PACE);
        let query = query(id as u16);
        let sent = message::send(&mut stream, &query);
        let reply = sent.and_then(|()| message::receive(&mut stream));
        let reply = reply.map_err(|error| lost(id, &error))?;
        version(id as u16, &reply).ok_or_else(|| lost(id, &format!("{reply:?}")))
    };
    (0..QUERIES_OF_A_CONNECTION).map(&mut one).collect()
}

#[test]
fn replicas_are_replaced_one_after_the_other_and_no_query_is_lost() {
    let ports = Ports { dns: Port::free(), health: Port::free(), ready: Port::free() };
    let endpoints = Arc::new(Endpoints::default());
    balance(&endpoints, &ports);
    let old = [2, 3].map(|number| Replica::start(number, 1, &ports));
    for replica in &old {
        endpoints.add(replica.address);
    }
    eventually("both are ready", || endpoints.ready().len() == 2);
    let load = Load::start((Ipv4Addr::LOCALHOST, ports.dns.number).into());
    load.meets(1);
    let mut new = Vec::new();
    for (replica, number) in old.into_iter().zip(4..) {
        let next = Replica::start(number, 2, &ports);
        endpoints.add(next.address);
        eventually("the new one is ready", || endpoints.ready().contains(&next.address));
        new.push(next);
        load.meets(2);
        replica.terminate();
        sleep(NEWS);
        endpoints.remove(replica.address);
        load.meets(2);
        replica.ended();
    }
    let before = load.answers(1);
    load.meets(2);
    assert_eq!(load.answers(1), before, "the old version is gone");
    load.end();
}
