//! The whole server beside an API server: what is asked over real sockets while the cluster changes,
//! while the API server is away, and over restarts and reloads.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{Name, RData, RecordType};
use serde_json::json;
use tokio::time::sleep;

use super::ports::Port;
use super::server::Server;
use super::{PATIENCE, folder, run, service, until};

/// A server process in a folder of its own.
struct Process {
    child: Child,
    folder: PathBuf,
    address: SocketAddr,
    _port: Port,
    metrics: Port,
}

/// What came back: the rcode, the addresses, and the codes of extended errors.
type Answer = (ResponseCode, Vec<Ipv4Addr>, Vec<u16>);

impl Process {
    /// Starts on a Corefile; it need not serve yet.
    fn start(folder: &Path, options: &str) -> Self {
        std::fs::write(folder.join("Corefile"), corefile(options)).expect("a Corefile");
        let [port, metrics] = [Port::free(), Port::free()];
        let output = std::fs::File::create(folder.join("output")).expect("a file");
        let child = Command::new(env!("CARGO_BIN_EXE_corelane"))
            .args(["-conf", "Corefile", "-dns.port", &port.number.to_string()])
            .env("METRICS", metrics.number.to_string())
            .current_dir(folder)
            .stdin(Stdio::null())
            .stderr(output.try_clone().expect("an open file"))
            .stdout(output)
            .spawn()
            .expect("a server");
        let address = SocketAddr::from(([127, 0, 0, 1], port.number));
        Self { child, folder: folder.to_owned(), address, _port: port, metrics }
    }

    /// Asks for the addresses of a name; none if nothing comes back.
    fn ask(&self, name: &str) -> Option<Answer> {
        let mut query = Message::new(7, MessageType::Query, OpCode::Query);
        query.add_query(Query::query(Name::from_ascii(name).expect("a name"), RecordType::A));
        query.set_edns(Edns::new());
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(2))).expect("set");
        socket.send_to(&query.to_vec().expect("a message"), self.address).ok()?;
        let mut octets = [0; 4096];
        let (len, _) = socket.recv_from(&mut octets).ok()?;
        let reply = Message::from_vec(&octets[..len]).expect("a message");
        let mut addresses: Vec<Ipv4Addr> = Vec::new();
        for record in &reply.answers {
            if let RData::A(address) = &record.data {
                addresses.push(address.0);
            }
        }
        let options = reply.edns.iter().flat_map(|edns| edns.options().as_ref());
        let errors = options.filter_map(|(_, option)| match option {
            // Extended DNS Error (RFC 8914 section 2).
            EdnsOption::Unknown(15, data) => Some(u16::from_be_bytes([data[0], data[1]])),
            _ => None,
        });
        Some((reply.metadata.response_code, addresses, errors.collect()))
    }

    /// Waits until a name is answered like this.
    async fn answers(&self, name: &str, rcode: ResponseCode, addresses: &[&str], errors: &[u16]) {
        let addresses: Vec<Ipv4Addr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let wanted = Some((rcode, addresses, errors.to_vec()));
        let mut last = None;
        let began = std::time::Instant::now();
        while began.elapsed() < PATIENCE {
            last = self.ask(name);
            if last == wanted {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("{name}: {last:?} instead of {wanted:?}\n{}", self.output());
    }

    /// The value of a series of the metrics, if it is there.
    fn metric(&self, series: &str) -> Option<f64> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.metrics.number)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").ok()?;
        let mut page = String::new();
        stream.read_to_string(&mut page).ok()?;
        let mut values = page.lines().filter_map(|line| line.strip_prefix(series));
        values.next()?.trim().parse().ok()
    }

    fn output(&self) -> String {
        std::fs::read_to_string(self.folder.join("output")).unwrap_or_default()
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let done = Command::new("kill").args(["-s", name, &id]).status();
        assert!(done.is_ok_and(|status| status.success()));
    }

    /// Ends it as an operator does.
    async fn stop(&mut self) {
        self.signal("TERM");
        until("the server has ended", || self.child.try_wait().is_ok_and(|s| s.is_some())).await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn corefile(options: &str) -> String {
    format!(". {{\n    bind 127.0.0.1\n    kubernetes cluster.local {{\n{options}\n    }}\n}}\n")
}

fn endpoint(server: &Server) -> String {
    format!("        endpoint {}", server.url())
}

async fn cluster() -> Server {
    let server = Server::start().await;
    server.put("namespaces", json!({"metadata": {"name": "shop"}}));
    server.put("services", service("web", "10.96.0.1"));
    server
}

const WEB: &str = "web.shop.svc.cluster.local.";
const NEW: &str = "new.shop.svc.cluster.local.";
use ResponseCode::{NXDomain, NoError, ServFail};

#[test]
fn what_changes_is_answered() {
    run(async {
        let server = cluster().await;
        let process = Process::start(&folder("changes"), &endpoint(&server));
        process.answers(WEB, NoError, &["10.96.0.1"], &[]).await;
        process.answers(NEW, NXDomain, &[], &[]).await;
        server.put("services", service("new", "10.96.0.2"));
        process.answers(NEW, NoError, &["10.96.0.2"], &[]).await;
        server.delete("services", "shop", "web");
        process.answers(WEB, NXDomain, &[], &[]).await;
        server.put(
            "services",
            json!({"metadata": {"name": "web", "namespace": "shop"},
            "spec": {"clusterIP": "None"}}),
        );
        let slice = |addresses: &[&str]| {
            let ends: Vec<_> = addresses.iter().map(|one| json!({"addresses": [one]})).collect();
            json!({"metadata": {"name": "web-1", "namespace": "shop",
                "labels": {"kubernetes.io/service-name": "web"}},
                "addressType": "IPv4", "endpoints": ends})
        };
        server.put("endpointslices", slice(&["10.1.0.1"]));
        process.answers(WEB, NoError, &["10.1.0.1"], &[]).await;
        server.put("endpointslices", slice(&["10.1.0.2"]));
        process.answers(WEB, NoError, &["10.1.0.2"], &[]).await;
    });
}

#[test]
fn what_is_held_and_how_fresh_it_is_are_counted() {
    run(async {
        let server = cluster().await;
        let options =
            format!("{}\n    }}\n    prometheus 127.0.0.1:{{$METRICS}} {{", endpoint(&server));
        let process = Process::start(&folder("counted"), &options);
        process.answers(WEB, NoError, &["10.96.0.1"], &[]).await;
        let services = "corelane_kubernetes_objects{kind=\"services\"}";
        until("what was listed is counted", || process.metric(services) == Some(1.0)).await;
        let served = "corelane_kubernetes_event_to_served_seconds";
        assert_eq!(process.metric(&format!("{served}_count")), Some(0.0), "a list is no event");
        server.put("services", service("new", "10.96.0.2"));
        process.answers(NEW, NoError, &["10.96.0.2"], &[]).await;
        until("the event is counted", || process.metric(&format!("{served}_count")) == Some(1.0))
            .await;
        let middle = process.metric(&format!("{served}{{quantile=\"0.5\"}}"));
        assert!(middle.is_some_and(|seconds| seconds > 0.0), "{middle:?}");
        assert_eq!(process.metric(services), Some(2.0));
        assert!(process.metric("corelane_kubernetes_index_bytes{kind=\"services\"}") > Some(0.0));
        assert_eq!(process.metric("corelane_kubernetes_stale"), Some(0.0));
        let slice = json!({"metadata": {"name": "web-1", "namespace": "shop",
            "labels": {"kubernetes.io/service-name": "web"}, "annotations":
            {"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:00Z"}},
            "addressType": "IPv4", "endpoints": [{"addresses": ["10.1.0.1"]}]});
        let programmed = "coredns_kubernetes_dns_programming_duration_seconds_count\
                          {service_kind=\"cluster_ip\"}";
        server.put("endpointslices", slice.clone());
        until("the change is counted", || process.metric(programmed) == Some(1.0)).await;
        server.put("endpointslices", slice);
        server.delete("endpointslices", "shop", "web-1");
        until("only what changes is", || process.metric(programmed) == Some(2.0)).await;
    });
}

#[test]
fn a_lost_server_is_answered_for() {
    run(async {
        let server = cluster().await;
        let process = Process::start(&folder("lost"), &endpoint(&server));
        process.answers(WEB, NoError, &["10.96.0.1"], &[]).await;
        server.stop();
        let refused = || process.output().contains("connection refused");
        until("the server is told to be away", refused).await;
        process.answers(WEB, NoError, &["10.96.0.1"], &[]).await;
        process.answers(NEW, NXDomain, &[], &[]).await;
        server.put("services", service("new", "10.96.0.2"));
        server.resume().await;
        process.answers(NEW, NoError, &["10.96.0.2"], &[]).await;
    });
}

#[test]
fn a_restart_serves_what_was_known_and_says_so() {
    run(async {
        let server = cluster().await;
        let place = folder("restart");
        let options = format!("{}\n        corelane_state state", endpoint(&server));
        let mut process = Process::start(&place, &options);
        process.answers(WEB, NoError, &["10.96.0.1"], &[]).await;
        server.put("services", service("new", "10.96.0.2"));
        process.answers(NEW, NoError, &["10.96.0.2"], &[]).await;
        process.stop().await;
        server.stop();
        let process = Process::start(&place, &options);
        process.answers(WEB, NoError, &["10.96.0.1"], &[3]).await;
        process.answers(NEW, NoError, &["10.96.0.2"], &[3]).await;
        server.delete("services", "shop", "web");
        server.resume().await;
        process.answers(WEB, NXDomain, &[], &[]).await;
        process.answers(NEW, NoError, &["10.96.0.2"], &[]).await;
    });
}

#[test]
fn without_a_state_nothing_is_known() {
    run(async {
        let server = cluster().await;
        server.stop();
        let options = format!("{}\n        startup_timeout 10ms", endpoint(&server));
        let process = Process::start(&folder("unknown"), &options);
        process.answers(WEB, ServFail, &[], &[14]).await;
        server.resume().await;
        process.answers(WEB, NoError, &["10.96.0.1"], &[]).await;
    });
}

#[test]
fn a_reload_keeps_the_watch_of_a_block_that_stays() {
    run(async {
        let server = cluster().await;
        let place = folder("reloaded");
        let process = Process::start(&place, &endpoint(&server));
        process.answers(WEB, NoError, &["10.96.0.1"], &[]).await;
        let asked = server.requests().len();
        let more = corefile(&endpoint(&server)) + "other {\n    bind 127.0.0.1\n    whoami\n}\n";
        std::fs::write(place.join("Corefile"), more).expect("a Corefile");
        process.signal("USR1");
        until("the Corefile is another", || process.output().contains("Reloading complete")).await;
        process.answers(WEB, NoError, &["10.96.0.1"], &[]).await;
        assert_eq!(server.requests().len(), asked, "nothing is listed or watched anew");
        server.put("services", service("new", "10.96.0.2"));
        process.answers(NEW, NoError, &["10.96.0.2"], &[]).await;
        // Another choice is another watch: the old one serves until it is there.
        let options = format!("{}\n        ttl 7", endpoint(&server));
        std::fs::write(place.join("Corefile"), corefile(&options)).expect("a Corefile");
        process.signal("USR1");
        let twice = || process.output().matches("Reloading complete").count() == 2;
        until("the Corefile is a third", || {
            let answer = process.ask(WEB).expect("an answer");
            assert_eq!(answer, (NoError, vec![Ipv4Addr::new(10, 96, 0, 1)], vec![]));
            twice()
        })
        .await;
        assert!(server.requests().len() > asked);
        process.answers(NEW, NoError, &["10.96.0.2"], &[]).await;
    });
}
