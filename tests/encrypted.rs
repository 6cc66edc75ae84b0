//! DNS over TLS (RFC 7858) as clients meet it: a real server, real sockets, rustls on the other side.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "not the query path")]

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};

mod certs;
mod message;
mod ports;

use certs::{Authority, Identity};
use message::{framed, query, receive, send};
use ports::Port;

/// How long anything may take that happens at all.
const PATIENCE: Duration = Duration::from_secs(60);

const A: u16 = 1;
const TXT: u16 = 16;

/// A server of the zone example.org over TLS, plain DNS beside it, and metrics.
struct Server {
    child: Child,
    folder: PathBuf,
    port: Port,
    plain: Port,
    metrics: Port,
    authority: Authority,
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

impl Server {
    /// `more`: what follows `tls cert.pem key.pem`.
    fn start(name: &str, more: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("corelane-encrypted-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (port, plain, metrics) = (Port::free(), Port::free(), Port::free());
        let authority = Authority::new();
        let records = (0..200).map(|n| format!("big TXT {}\n", format!("{n:03}").repeat(80)));
        let zone =
            "$ORIGIN example.org.\n$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\n\
                    * A 192.0.2.1\n"
                .to_owned()
                + &records.collect::<String>();
        std::fs::write(folder.join("db"), zone).unwrap();
        std::fs::write(folder.join("ca.pem"), &authority.pem).unwrap();
        let corefile = format!(
            "tls://example.org:{} dns://example.org:{} {{\n bind 127.0.0.1\n \
             tls cert.pem key.pem {more}\n file db\n prometheus 127.0.0.1:{}\n}}\n",
            port.number, plain.number, metrics.number
        );
        std::fs::write(folder.join("Corefile"), corefile).unwrap();
        certify(&folder, &authority.identity(&["dns.example"], 2100));
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        command.args(["-conf", "Corefile"]).current_dir(&folder).stdout(Stdio::null());
        let child = command.spawn().unwrap();
        let server = Self { child, folder, port, plain, metrics, authority };
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", server.port.number)).is_err() {
            assert!(began.elapsed() < PATIENCE, "the server does not listen");
            sleep(Duration::from_millis(20));
        }
        server
    }

    /// What a client trusts and, if it has it, shows.
    fn client(&self, shown: Option<&Identity>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match shown {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain.map(Result::unwrap).collect(), key).unwrap()
            }
        })
    }

    fn connect(&self, client: &Arc<ClientConfig>) -> Stream {
        let socket = TcpStream::connect(("127.0.0.1", self.port.number)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let name = ServerName::try_from("dns.example").unwrap();
        StreamOwned::new(ClientConnection::new(Arc::clone(client), name).unwrap(), socket)
    }

    /// The value of a sample on `/metrics`; 0 where there is none.
    fn metric(&self, sample: &str) -> u64 {
        let mut socket = TcpStream::connect(("127.0.0.1", self.metrics.number)).unwrap();
        socket.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(sample));
        lines.next().map_or(0, |value| value.trim().parse().unwrap())
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
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn certify(folder: &std::path::Path, identity: &Identity) {
    for (name, text) in [("cert.pem", &identity.certificate), ("key.pem", &identity.key)] {
        let fresh = folder.join(format!("{name}.new"));
        std::fs::write(&fresh, text).unwrap();
        std::fs::rename(fresh, folder.join(name)).unwrap();
    }
}

/// One query and its reply.
fn ask(stream: &mut Stream, id: u16) -> io::Result<Vec<u8>> {
    send(stream, &query(id, "a.example.org", A))?;
    let reply = receive(stream)?;
    assert_eq!(reply[..2], id.to_be_bytes());
    assert_eq!(reply[6..8], [0, 1], "one record");
    Ok(reply)
}

/// The certificate that the server has shown.
fn shown(stream: &Stream) -> Vec<u8> {
    stream.conn.peer_certificates().unwrap()[0].to_vec()
}

#[test]
fn queries_in_a_row_are_answered_and_a_long_answer_comes_whole() {
    let server = Server::start("row", "");
    let mut stream = server.connect(&server.client(None));
    let wanted: BTreeSet<u16> = (0..300).collect();
    let all: Vec<u8> = wanted
        .iter()
        .flat_map(|id| framed(&query(*id, &format!("n{id}.example.org"), A)))
        .collect();
    stream.write_all(&all).unwrap();
    let ids = (0..300).map(|_| receive(&mut stream).unwrap());
    let ids: BTreeSet<u16> = ids.map(|reply| u16::from_be_bytes([reply[0], reply[1]])).collect();
    assert_eq!(ids, wanted);
    // Several records of TLS.
    send(&mut stream, &query(7, "big.example.org", TXT)).unwrap();
    let reply = receive(&mut stream).unwrap();
    assert_eq!((reply[2] & 2, &reply[6..8]), (0, &[0, 200][..]), "not cut, all records");
    assert!(reply.len() > 48_000, "{}", reply.len());
    let labels = format!(
        "server=\"tls://127.0.0.1:{}\",zone=\"example.org.\",view=\"\",\
         proto=\"tcp\",family=\"1\",type=\"A\"",
        server.port.number
    );
    assert_eq!(server.metric(&format!("coredns_dns_requests_total{{{labels}}}")), 300);
    assert_eq!(server.metric("corelane_tls_handshakes_total{result=\"full\"}"), 1);
    assert_eq!(server.metric("corelane_tcp_connections "), 1);
}

#[test]
fn a_reply_that_is_not_taken_waits_and_others_are_answered_meanwhile() {
    let server = Server::start("jam", "");
    let client = server.client(None);
    let mut slow = server.connect(&client);
    // Far more than buffers hold: the server stops reading from this one.
    let asked = 200;
    for id in 0..asked {
        send(&mut slow, &query(id, "big.example.org", TXT)).unwrap();
    }
    let mut other = server.connect(&client);
    for id in 0..50 {
        ask(&mut other, id).unwrap();
    }
    let replies = (0..asked).map(|_| receive(&mut slow).unwrap());
    let ids: BTreeSet<u16> =
        replies.map(|reply| u16::from_be_bytes([reply[0], reply[1]])).collect();
    assert_eq!(ids, (0..asked).collect());
}

#[test]
fn who_speaks_no_tls_gets_nothing_and_plain_dns_stands_beside_it() {
    let server = Server::start("plain", "");
    let mut socket = TcpStream::connect(("127.0.0.1", server.port.number)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    send(&mut socket, &query(1, "a.example.org", A)).unwrap();
    let mut said = Vec::new();
    // An alert of TLS (RFC 8446 section 6), and the end.
    let _ = socket.read_to_end(&mut said);
    assert!(said.is_empty() || said[0] == 21, "{said:?}");
    let began = Instant::now();
    while server.metric("corelane_tls_handshakes_total{result=\"failed\"}") == 0 {
        assert!(began.elapsed() < PATIENCE, "it is not counted");
        sleep(Duration::from_millis(20));
    }
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(&query(2, "a.example.org", A), ("127.0.0.1", server.plain.number)).unwrap();
    assert!(socket.recv(&mut [0; 512]).unwrap() > 12);
}

#[test]
fn clients_show_what_client_auth_asks_for() {
    // Asks for: who has none is served, a stranger, one of ours.
    let modes = [
        ("nocert", [true, true, true]),
        ("request", [true, true, true]),
        ("require", [false, true, true]),
        ("verify_if_given", [true, false, true]),
        ("require_and_verify", [false, false, true]),
    ];
    for (mode, served) in modes {
        let server = Server::start(mode, &format!("ca.pem {{\n client_auth {mode}\n }}"));
        let stranger = Authority::new().identity(&["client.example"], 2100);
        let ours = server.authority.identity(&["client.example"], 2100);
        let clients = [None, Some(&stranger), Some(&ours)].map(|shown| {
            // In TLS 1.3 a client learns of its refusal when it reads.
            ask(&mut server.connect(&server.client(shown)), 1).is_ok()
        });
        assert_eq!(clients, served, "{mode}: nobody, a stranger, one of ours");
    }
}

#[test]
fn sessions_are_resumed_and_a_renewed_certificate_is_shown_to_who_comes_later() {
    let server = Server::start("renewed", "");
    let client = server.client(None);
    let mut first = server.connect(&client);
    ask(&mut first, 1).unwrap();
    let mut second = server.connect(&client);
    ask(&mut second, 2).unwrap();
    assert_eq!(second.conn.handshake_kind(), Some(HandshakeKind::Resumed));
    assert_eq!(server.metric("corelane_tls_handshakes_total{result=\"resumed\"}"), 1);

    let old = shown(&first);
    certify(&server.folder, &server.authority.identity(&["dns.example"], 2101));
    server.signal("USR1");
    let began = Instant::now();
    loop {
        let mut later = server.connect(&server.client(None));
        ask(&mut later, 3).unwrap();
        if shown(&later) != old {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "the old certificate is still shown");
        sleep(Duration::from_millis(20));
    }
    // The connection that was made before is as it was.
    ask(&mut first, 4).unwrap();
    assert_eq!(shown(&first), old);
}

#[test]
fn secrets_are_written_where_they_are_wanted() {
    let server = Server::start("keys", "{\n keylog secrets\n }");
    ask(&mut server.connect(&server.client(None)), 1).unwrap();
    let text = std::fs::read_to_string(server.folder.join("secrets")).unwrap();
    assert!(text.lines().any(|line| line.starts_with("SERVER_TRAFFIC_SECRET_0 ")), "{text}");
    assert!(text.lines().all(|line| line.split(' ').count() == 3), "{text}");
}

#[test]
fn many_who_connect_at_once_are_all_served() {
    let server = Arc::new(Server::start("many", ""));
    let client = server.client(None);
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (server, client) = (Arc::clone(&server), Arc::clone(&client));
            spawn(move || {
                let mut all: Vec<Stream> = (0..25).map(|_| server.connect(&client)).collect();
                for stream in &mut all {
                    ask(stream, 9).unwrap();
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|one| one.join().unwrap());
    let shaken =
        |result| server.metric(&format!("corelane_tls_handshakes_total{{result=\"{result}\"}}"));
    assert_eq!(shaken("full") + shaken("resumed"), 200);
}
