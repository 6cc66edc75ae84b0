//! Whole Corefiles of caching forwarders as clusters have them, over real sockets: that of node-local
//! DNS, and that of a cluster with a stub domain; and a thousand clients that ask for one cold name.
//!
//! The upstreams are this program's own: each counts what it is asked, and over what.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "not the query path")]

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

mod message;
mod ports;

use message::{name, query};
use ports::Port;

/// How long anything may take that happens at all.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

const A: u16 = 1;
const PTR: u16 = 12;
/// What every PTR leads to.
const NAME: &[u8] = b"\x03ptr\x04test\x00";

/// The Corefile of node-local DNS as Kubernetes installs it, before its values are filled in.
const NODE_LOCAL: &str = "\
__PILLAR__DNS__DOMAIN__:53 {
    errors
    cache {
            success 9984 30
            denial 9984 5
    }
    reload
    loop
    bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__
    forward . __PILLAR__CLUSTER__DNS__ {
            force_tcp
    }
    prometheus :9253
    health __PILLAR__LOCAL__DNS__:8080
    }
in-addr.arpa:53 {
    errors
    cache 30
    reload
    loop
    bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__
    forward . __PILLAR__CLUSTER__DNS__ {
            force_tcp
    }
    prometheus :9253
    }
ip6.arpa:53 {
    errors
    cache 30
    reload
    loop
    bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__
    forward . __PILLAR__CLUSTER__DNS__ {
            force_tcp
    }
    prometheus :9253
    }
.:53 {
    errors
    cache 30
    reload
    loop
    bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__
    forward . __PILLAR__UPSTREAM__SERVERS__
    prometheus :9253
    }
";

/// The chain of a cluster's DNS service, and the block of a stub domain.
const STOCK: &str = "\
.:53 {
    errors
    health 127.0.0.1:8080 {
       lameduck 5s
    }
    ready 127.0.0.1:8181
    prometheus 127.0.0.1:9153
    forward . UPSTREAM {
       max_concurrent 1000
    }
    cache 30
    loop
    reload
    loadbalance
}
corp.example:53 {
    errors
    cache 30
    forward . STUB
}
";

/// A query that an upstream was asked.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    name: Vec<u8>,
    rtype: u16,
    tcp: bool,
}

/// Answers every A with its own address, every PTR with a name, and denies what else is asked.
struct Upstream {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Upstream {
    /// One that answers with 10.0.0.`last`, after so long.
    fn start(last: u8, delay: Duration) -> Self {
        let (udp, tcp) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
            // The kernel chose the port for TCP only.
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()) {
                break (udp, tcp);
            }
        };
        let address = tcp.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let asked = Arc::clone(&seen);
        spawn(move || {
            let mut query = [0; 4096];
            while let Ok((len, from)) = udp.recv_from(&mut query) {
                let reply = answer(&query[..len], last, false, &asked);
                sleep(delay);
                let _ = udp.send_to(&reply, from);
            }
        });
        let asked = Arc::clone(&seen);
        spawn(move || {
            for mut stream in tcp.incoming().flatten() {
                let asked = Arc::clone(&asked);
                spawn(move || {
                    while let Ok(query) = message::receive(&mut stream) {
                        let reply = answer(&query, last, true, &asked);
                        sleep(delay);
                        let _ = message::send(&mut stream, &reply);
                    }
                });
            }
        });
        Self { address, seen }
    }

    /// What was asked for this name, type, and over TCP or not.
    fn asked(&self, text: &str) -> Vec<(u16, bool)> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let own = seen.iter().filter(|seen| seen.name.eq_ignore_ascii_case(&name(text)));
        own.map(|seen| (seen.rtype, seen.tcp)).collect()
    }
}

fn answer(query: &[u8], last: u8, tcp: bool, seen: &Mutex<Vec<Seen>>) -> Vec<u8> {
    let name_len = query[12..].iter().position(|octet| *octet == 0).expect("a name") + 1;
    let end = 12 + name_len;
    let rtype = u16::from_be_bytes([query[end], query[end + 1]]);
    let name = query[12..end].to_vec();
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(Seen { name, rtype, tcp });
    let mut reply = query[..end + 4].to_vec();
    let rdata: &[u8] = match rtype {
        A => &[10, 0, 0, last],
        PTR => NAME,
        _ => &[],
    };
    let answers = u8::from(!rdata.is_empty());
    // QR and AA; RA, and NXDOMAIN to what has no answer.
    (reply[2], reply[3]) = (0x84 | query[2] & 1, 0x80 | if answers == 0 { 3 } else { 0 });
    reply[4..12].copy_from_slice(&[0, 1, 0, answers, 0, 0, 0, 0]);
    if answers > 0 {
        reply.extend([0xc0, 12, 0, rtype as u8, 0, 1, 0, 0, 1, 0, 0, rdata.len() as u8]);
        reply.extend(rdata);
    }
    reply
}

/// The address or name that a reply without an error ends with.
fn answered(reply: &[u8], id: u16, rtype: u16) -> &[u8] {
    assert_eq!(reply[..2], id.to_be_bytes());
    assert_eq!((reply[3] & 15, reply[7]), (0, 1), "an answer: {reply:?}");
    let len = if rtype == A { 4 } else { NAME.len() };
    &reply[reply.len() - len..]
}

struct Server {
    child: Child,
    folder: PathBuf,
}

impl Server {
    /// Starts it, and waits until it listens at `address`.
    fn start(test: &str, corefile: &str, address: SocketAddr) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("Corefile"), corefile).unwrap();
        let output = std::fs::File::create(folder.join(".output")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_corelane"))
            .args(["-conf", "Corefile"])
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let mut server = Self { child, folder };
        let began = Instant::now();
        while !server.output().contains("CoreDNS-") || TcpStream::connect(address).is_err() {
            let ended = server.child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended: {}", server.output());
            assert!(began.elapsed() < PATIENCE, "it does not listen: {}", server.output());
            sleep(PAUSE);
        }
        server
    }

    fn output(&self) -> String {
        std::fs::read_to_string(self.folder.join(".output")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn udp(address: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(address).unwrap();
    socket
}

/// Asks over UDP; what the reply ends with.
fn ask(address: SocketAddr, text: &str, rtype: u16) -> Vec<u8> {
    let socket = udp(address);
    socket.send(&query(7, text, rtype)).unwrap();
    let mut reply = [0; 4096];
    let len = socket.recv(&mut reply).unwrap();
    answered(&reply[..len], 7, rtype).to_vec()
}

/// The body of a page.
fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    page
}

/// The value of a metric whose line starts so.
fn metric(page: &str, start: &str) -> f64 {
    let line = page.lines().find(|line| line.starts_with(start));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(f64::NAN)
}

fn at(host: [u8; 4], port: &Port) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from(host)), port.number)
}

#[test]
fn the_corefile_of_node_local_dns_works_as_it_is() {
    let (cluster, outside) = (Upstream::start(1, PAUSE), Upstream::start(2, PAUSE));
    let [dns, metrics, health] = [(); 3].map(|()| Port::free());
    let (link_local, service) = (at([127, 0, 20, 10], &dns), at([127, 0, 20, 11], &dns));
    let corefile = NODE_LOCAL
        .replace(":53 {", &format!(":{} {{", dns.number))
        .replace(":9253", &format!(":{}", metrics.number))
        .replace(":8080", &format!(":{}", health.number))
        .replace("__PILLAR__DNS__DOMAIN__", "cluster.local")
        .replace("__PILLAR__LOCAL__DNS__", &link_local.ip().to_string())
        .replace("__PILLAR__DNS__SERVER__", &service.ip().to_string())
        .replace("__PILLAR__CLUSTER__DNS__", &cluster.address.to_string())
        .replace("__PILLAR__UPSTREAM__SERVERS__", &outside.address.to_string());
    let server = Server::start("node_local", &corefile, service);

    let name = "api.default.svc.cluster.local";
    assert_eq!(ask(link_local, name, A), [10, 0, 0, 1]);
    // The same entry, whichever of its addresses is asked, and whatever the letters.
    assert_eq!(ask(service, name, A), [10, 0, 0, 1]);
    assert_eq!(ask(link_local, "API.default.svc.cluster.local", A), [10, 0, 0, 1]);
    assert_eq!(cluster.asked(name), [(A, true)], "once, over TCP");
    for reverse in ["1.0.0.10.in-addr.arpa", "1.0.0.0.ip6.arpa"] {
        assert_eq!(ask(service, reverse, PTR), NAME);
        assert_eq!(cluster.asked(reverse), [(PTR, true)]);
    }
    assert_eq!(ask(service, "www.example.org", A), [10, 0, 0, 2]);
    assert_eq!(ask(link_local, "www.example.org", A), [10, 0, 0, 2]);
    assert_eq!(outside.asked("www.example.org"), [(A, false)]);
    assert_eq!(outside.asked(name), []);

    let page = get(at([127, 0, 0, 1], &metrics), "/metrics");
    let zone = |family: &str, address: SocketAddr, zone: &str| {
        let labels = format!("server=\"dns://{address}\",type=\"success\",zones=\"{zone}\"");
        metric(&page, &format!("{family}{{{labels}"))
    };
    let hits = "coredns_cache_hits_total";
    assert_eq!(zone(hits, service, "cluster.local."), 1.0, "{page}");
    assert_eq!(zone(hits, link_local, "cluster.local."), 1.0);
    assert_eq!(zone(hits, link_local, "."), 1.0);
    assert_eq!(zone("coredns_cache_entries", service, "cluster.local."), 1.0);
    assert!(get(at([127, 0, 20, 10], &health), "/health").ends_with("OK"));
    assert!(!server.output().contains("Loop"), "{}", server.output());
}

#[test]
fn a_stub_domain_stands_beside_the_stock_corefile() {
    let (outside, stub) = (Upstream::start(3, PAUSE), Upstream::start(4, PAUSE));
    let [dns, metrics, health, ready] = [(); 4].map(|()| Port::free());
    let address = at([127, 0, 0, 1], &dns);
    let corefile = STOCK
        .replace(":53 {", &format!(":{} {{\n    bind 127.0.0.1", dns.number))
        .replace(":9153", &format!(":{}", metrics.number))
        .replace(":8080", &format!(":{}", health.number))
        .replace(":8181", &format!(":{}", ready.number))
        .replace("UPSTREAM", &outside.address.to_string())
        .replace("STUB", &stub.address.to_string());
    let server = Server::start("stock", &corefile, address);
    for _ in 0..3 {
        assert_eq!(ask(address, "db.corp.example", A), [10, 0, 0, 4]);
        assert_eq!(ask(address, "www.example.org", A), [10, 0, 0, 3]);
    }
    assert_eq!(stub.asked("db.corp.example"), [(A, false)]);
    assert_eq!(outside.asked("www.example.org"), [(A, false)]);
    assert_eq!((outside.asked("db.corp.example"), stub.asked("www.example.org")), (vec![], vec![]));
    let page = get(at([127, 0, 0, 1], &metrics), "/metrics");
    let hits = format!("coredns_cache_hits_total{{server=\"dns://{address}\",type=\"success\"");
    assert_eq!(metric(&page, &format!("{hits},zones=\".\"")), 2.0, "{page}");
    assert!(get(at([127, 0, 0, 1], &ready), "/ready").ends_with("OK"));
    assert!(!server.output().contains("[ERROR]"), "{}", server.output());
}

#[test]
fn a_thousand_clients_that_ask_for_a_cold_name_cost_one_query() {
    // Long enough for most of them to have asked; who comes later finds the entry.
    let upstream = Upstream::start(5, Duration::from_secs(1));
    let dns = Port::free();
    let address = at([127, 0, 0, 1], &dns);
    let corefile = format!(
        ".:{} {{\n bind 127.0.0.1\n errors\n cache 30\n forward . {}\n}}\n",
        dns.number, upstream.address
    );
    let _server = Server::start("cold_name", &corefile, address);
    // Sockets of their own, so that all workers are asked.
    let clients: Vec<_> = (0..100).map(|_| udp(address)).collect();
    for id in 0..10 {
        for client in &clients {
            client.send(&query(id, "cold.test", A)).unwrap();
        }
    }
    let mut reply = [0; 4096];
    for client in &clients {
        let mut ids: Vec<u16> = (0..10)
            .map(|_| {
                let len = client.recv(&mut reply).unwrap();
                let id = u16::from_be_bytes([reply[0], reply[1]]);
                assert_eq!(answered(&reply[..len], id, A), [10, 0, 0, 5]);
                id
            })
            .collect();
        ids.sort_unstable();
        assert!(ids.iter().copied().eq(0..10), "each query has its own reply");
    }
    assert_eq!(upstream.asked("cold.test"), [(A, false)]);
}
