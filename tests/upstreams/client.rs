//! A client with one socket: one worker of the server gets all of its datagrams.

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RData;
use hickory_proto::rr::rdata::opt::EdnsOption;

use crate::message::{self, query, with_edns};
use crate::server::Server;

/// How long a reply may take: only what hangs takes so long.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Client {
    server: SocketAddr,
    socket: UdpSocket,
    next: AtomicU16,
}

/// A reply, as far as tests look at it.
#[derive(Debug)]
pub struct Reply {
    pub id: u16,
    pub rcode: ResponseCode,
    pub truncated: bool,
    pub name: String,
    /// The addresses of all A records in the answer.
    pub addresses: Vec<String>,
    pub answers: usize,
    /// The code of the first Extended DNS Error.
    pub ede: Option<u16>,
}

impl Client {
    pub fn of(server: &Server) -> Self {
        Self::at(server.address(None).expect("a port"))
    }

    pub fn at(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.connect(server).expect("an address");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        Self { server, socket, next: AtomicU16::new(1) }
    }

    /// Sends a query for A records, and tells its id.
    pub fn send(&self, name: &str) -> u16 {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.socket.send(&query(id, name, 1)).expect("a datagram");
        id
    }

    /// The next reply, whatever it is to.
    pub fn receive(&self) -> Reply {
        let mut buffer = vec![0; 65_535];
        let len = loop {
            match self.socket.recv(&mut buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                received => break received.expect("a reply in time"),
            }
        };
        read(&buffer[..len])
    }

    /// The reply to a query for A records.
    pub fn ask(&self, name: &str) -> Reply {
        self.exchange(|id| query(id, name, 1))
    }

    /// Likewise with EDNS.
    pub fn ask_edns(&self, name: &str) -> Reply {
        self.exchange(|id| with_edns(query(id, name, 1)))
    }

    /// The reply to the query that `make` makes with an id.
    pub fn exchange(&self, make: impl Fn(u16) -> Vec<u8>) -> Reply {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.socket.send(&make(id)).expect("a datagram");
        let reply = self.receive();
        assert_eq!(reply.id, id, "a reply to another query");
        reply
    }

    /// The reply to a query for A records over TCP.
    pub fn ask_tcp(&self, name: &str) -> Reply {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let query = query(id, name, 1);
        let mut stream = TcpStream::connect(self.server).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        message::send(&mut stream, &query).expect("sent");
        let reply = read(&message::receive(&mut stream).expect("a whole reply in time"));
        assert_eq!(reply.id, id);
        reply
    }

    /// Asks for so many names at once, all different, and gives the replies as they come.
    pub fn ask_many(&self, count: usize, stem: &str) -> Vec<Reply> {
        (0..count).for_each(|number| {
            self.send(&format!("{stem}{number}.test."));
        });
        (0..count).map(|_| self.receive()).collect()
    }
}

fn read(octets: &[u8]) -> Reply {
    let message = Message::from_vec(octets).expect("a message");
    let ede = message.edns.as_ref().and_then(|edns| {
        edns.options().as_ref().iter().find_map(|(_, option)| match option {
            EdnsOption::Unknown(15, data) => Some(u16::from_be_bytes([data[0], data[1]])),
            _ => None,
        })
    });
    let address = |data: &RData| match data {
        RData::A(address) => Some(address.to_string()),
        _ => None,
    };
    Reply {
        id: message.metadata.id,
        rcode: message.metadata.response_code,
        truncated: message.metadata.truncation,
        name: message.queries.first().map(|query| query.name().to_ascii()).unwrap_or_default(),
        addresses: message.answers.iter().filter_map(|record| address(&record.data)).collect(),
        answers: message.answers.len(),
        ede,
    }
}
