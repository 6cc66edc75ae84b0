//! The whole server as a process, asked over its sockets.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::time::sleep;

use super::ports::Port;
use super::{PATIENCE, until};

/// A server process in a folder of its own.
pub struct Process {
    child: Child,
    folder: PathBuf,
    address: SocketAddr,
    _port: Port,
    metrics: Port,
}

/// What came back: the rcode, the addresses, and the codes of extended errors.
pub type Answer = (ResponseCode, Vec<Ipv4Addr>, Vec<u16>);

impl Process {
    /// Starts with these options of `kubernetes`; it need not serve yet.
    pub fn start(folder: &Path, options: &str) -> Self {
        Self::with(folder, &corefile(options))
    }

    /// Starts on a Corefile, whose `$METRICS` is a free port; it need not serve yet.
    pub fn with(folder: &Path, corefile: &str) -> Self {
        std::fs::write(folder.join("Corefile"), corefile).expect("a Corefile");
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

    /// Asks; none if nothing comes back.
    fn exchange(&self, name: &str, rtype: RecordType) -> Option<Message> {
        let mut query = Message::new(7, MessageType::Query, OpCode::Query);
        query.add_query(Query::query(Name::from_ascii(name).expect("a name"), rtype));
        query.set_edns(Edns::new());
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(2))).expect("set");
        socket.send_to(&query.to_vec().expect("a message"), self.address).ok()?;
        let mut octets = [0; 4096];
        let (len, _) = socket.recv_from(&mut octets).ok()?;
        Some(Message::from_vec(&octets[..len]).expect("a message"))
    }

    /// Asks for the addresses of a name; none if nothing comes back.
    pub fn ask(&self, name: &str) -> Option<Answer> {
        let reply = self.exchange(name, RecordType::A)?;
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
    pub async fn answers(
        &self,
        name: &str,
        rcode: ResponseCode,
        addresses: &[&str],
        errors: &[u16],
    ) {
        let addresses: Vec<Ipv4Addr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let wanted = Some((rcode, addresses, errors.to_vec()));
        self.comes_to(name, &wanted, || self.ask(name)).await;
    }

    /// Waits until a name has these records, whatever their order, each as its type and its text.
    pub async fn gives(
        &self,
        name: &str,
        rtype: RecordType,
        rcode: ResponseCode,
        records: &[&str],
    ) {
        let mut sorted: Vec<String> = records.iter().map(|one| (*one).to_owned()).collect();
        sorted.sort();
        let ask = || {
            let reply = self.exchange(name, rtype)?;
            let text =
                reply.answers.iter().map(|one| format!("{} {}", one.record_type(), one.data));
            let mut records: Vec<String> = text.collect();
            records.sort();
            Some((reply.metadata.response_code, records))
        };
        self.comes_to(name, &Some((rcode, sorted)), ask).await;
    }

    async fn comes_to<T: PartialEq + std::fmt::Debug>(
        &self,
        name: &str,
        wanted: &Option<T>,
        ask: impl Fn() -> Option<T>,
    ) {
        let mut last = None;
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            last = ask();
            if last == *wanted {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("{name}: {last:?} instead of {wanted:?}\n{}", self.output());
    }

    /// Waits until the log has these words.
    pub async fn says(&self, words: &str) {
        let began = Instant::now();
        while !self.output().contains(words) {
            assert!(began.elapsed() < PATIENCE, "no {words:?} in\n{}", self.output());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The value of a series of the metrics, if it is there.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.metrics.number)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").ok()?;
        let mut page = String::new();
        stream.read_to_string(&mut page).ok()?;
        let mut values = page.lines().filter_map(|line| line.strip_prefix(series));
        values.next()?.trim().parse().ok()
    }

    /// What it has logged.
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.folder.join("output")).unwrap_or_default()
    }

    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let done = Command::new("kill").args(["-s", name, &id]).status();
        assert!(done.is_ok_and(|status| status.success()));
    }

    /// Ends it as an operator does.
    pub async fn stop(&mut self) {
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

/// One block with `kubernetes` and these options.
pub fn corefile(options: &str) -> String {
    format!(". {{\n    bind 127.0.0.1\n    kubernetes cluster.local {{\n{options}\n    }}\n}}\n")
}
