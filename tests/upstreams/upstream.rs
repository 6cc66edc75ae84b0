//! An upstream that does what a test says: drops, delays, lies, closes, over UDP, TCP, TLS and HTTPS.
//!
//! It listens on one port for datagrams and connections. What it was asked is noted, and for each
//! query a script says what it does, step by step; queries do not wait for each other.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::{HandshakeKind, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, WriteHalf};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::oneshot;
use tokio::task::{LocalSet, spawn_local};
use tokio_rustls::TlsAcceptor;

use crate::message::framed;

/// What an upstream does about a query, one after the other.
#[derive(Clone, Debug)]
pub enum Act {
    /// Sends this message.
    Say(Vec<u8>),
    /// Sends it from another port (UDP).
    FromElsewhere(Vec<u8>),
    /// Waits.
    Wait(Duration),
    /// Sends these octets as they are (streams).
    Raw(Vec<u8>),
    /// Closes the connection.
    Close,
    /// Answers with this status (HTTP).
    Status(u16),
}

/// By what a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Udp,
    Stream,
    Post,
    Get,
}

/// A query as it came.
#[derive(Clone, Debug)]
pub struct Heard {
    pub by: By,
    pub from: SocketAddr,
    pub octets: Vec<u8>,
}

impl Heard {
    /// The name, lower-cased, without the last dot.
    pub fn name(&self) -> String {
        self.cased_name().to_ascii_lowercase()
    }

    /// The name as it was sent.
    pub fn cased_name(&self) -> String {
        let mut labels = Vec::new();
        let mut rest = &self.octets[12..];
        while let [len @ 1..=63, after @ ..] = rest {
            let (label, next) = after.split_at(usize::from(*len));
            labels.push(String::from_utf8_lossy(label).into_owned());
            rest = next;
        }
        labels.join(".")
    }

    fn question_end(&self) -> usize {
        let name = &self.octets[12..];
        let mut at = 0;
        while name[at] != 0 {
            at += usize::from(name[at]) + 1;
        }
        12 + at + 1 + 4
    }

    pub fn rtype(&self) -> u16 {
        let end = self.question_end();
        u16::from_be_bytes([self.octets[end - 4], self.octets[end - 3]])
    }

    /// A reply without records.
    pub fn reply(&self, rcode: u8) -> Vec<u8> {
        let mut reply = self.octets[..self.question_end()].to_vec();
        reply[2] |= 0x80;
        reply[3] = 0x80 | rcode;
        reply[6..12].fill(0);
        reply
    }

    /// A reply with one address, 192.0.2.`last`, or several.
    pub fn answer(&self, last: &[u8]) -> Vec<u8> {
        let mut reply = self.reply(0);
        reply[6..8].copy_from_slice(&(last.len() as u16).to_be_bytes());
        for last in last {
            reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, *last]);
        }
        reply
    }

    /// That it is truncated.
    pub fn truncated(&self) -> Vec<u8> {
        let mut reply = self.reply(0);
        reply[2] |= 2;
        reply
    }
}

type Script = Arc<dyn Fn(&Heard) -> Vec<Act> + Send + Sync>;

/// What it has seen.
#[derive(Default)]
pub struct Seen {
    pub heard: Vec<Heard>,
    /// Connections, and for TLS whether a session was resumed.
    pub connections: Vec<Option<bool>>,
    /// Connections that are open.
    pub open: usize,
}

pub struct Upstream {
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// The steps of an honest upstream, which says that it is the one with this number.
pub fn honest(last: u8) -> impl Fn(&Heard) -> Vec<Act> + Send + Sync + 'static {
    move |heard| vec![Act::Say(heard.answer(&[last]))]
}

impl Upstream {
    /// One on a free port.
    pub fn new(script: impl Fn(&Heard) -> Vec<Act> + Send + Sync + 'static) -> Self {
        Self::start("127.0.0.1:0".parse().expect("an address"), None, Arc::new(script))
    }

    /// One at this address.
    pub fn at(
        address: SocketAddr,
        script: impl Fn(&Heard) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        Self::start(address, None, Arc::new(script))
    }

    /// One that speaks TLS, and HTTP above it where the ALPN says so.
    pub fn secure(
        config: Arc<ServerConfig>,
        script: impl Fn(&Heard) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        let address = "127.0.0.1:0".parse().expect("an address");
        Self::start(address, Some(TlsAcceptor::from(config)), Arc::new(script))
    }

    fn start(address: SocketAddr, tls: Option<TlsAcceptor>, script: Script) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let shared = Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let set = LocalSet::new();
            set.block_on(&runtime.expect("a runtime"), async move {
                let (listener, socket) = bind(address).await;
                tell.send(listener.local_addr().expect("bound")).expect("somebody waits");
                let one = Rc::new(One { script, seen: shared, tls });
                spawn_local(Rc::clone(&one).datagrams(Rc::new(socket)));
                spawn_local(one.connections(listener));
                // Ends when whoever holds the other end is dropped.
                drop(stopped.await);
            });
        });
        let address = told.recv().expect("an upstream that listens");
        Self { address, seen, stop: Some(stop), thread: Some(thread) }
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no panic")
    }

    /// How often it was asked for names that a test asks for: probes ask for others.
    pub fn asked(&self) -> usize {
        self.seen().heard.iter().filter(|heard| heard.name().ends_with("test")).count()
    }

    /// How often it was probed.
    pub fn probed(&self) -> usize {
        self.seen().heard.iter().filter(|heard| heard.rtype() == 2).count()
    }
}

/// The same port for both.
async fn bind(address: SocketAddr) -> (TcpListener, UdpSocket) {
    for _ in 0..100 {
        let listener = TcpListener::bind(address).await.expect("a port");
        let local = listener.local_addr().expect("bound");
        if let Ok(socket) = UdpSocket::bind(local).await {
            return (listener, socket);
        }
    }
    panic!("no port is free for both");
}

/// An upstream, as its tasks share it.
struct One {
    script: Script,
    seen: Arc<Mutex<Seen>>,
    tls: Option<TlsAcceptor>,
}

impl One {
    fn hear(&self, by: By, from: SocketAddr, octets: Vec<u8>) -> Vec<Act> {
        let heard = Heard { by, from, octets };
        let acts = (self.script)(&heard);
        self.seen.lock().expect("no panic").heard.push(heard);
        acts
    }

    async fn datagrams(self: Rc<Self>, socket: Rc<UdpSocket>) {
        let mut buffer = vec![0; 65_535];
        loop {
            let Ok((len, from)) = socket.recv_from(&mut buffer).await else { continue };
            let acts = self.hear(By::Udp, from, buffer[..len].to_vec());
            let socket = Rc::clone(&socket);
            spawn_local(async move {
                for act in acts {
                    match act {
                        Act::Say(message) => drop(socket.send_to(&message, from).await),
                        Act::FromElsewhere(message) => {
                            let other = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
                            drop(other.send_to(&message, from).await);
                        }
                        Act::Wait(time) => tokio::time::sleep(time).await,
                        Act::Raw(_) | Act::Close | Act::Status(_) => return,
                    }
                }
            });
        }
    }

    async fn connections(self: Rc<Self>, listener: TcpListener) {
        loop {
            let Ok((stream, from)) = listener.accept().await else { continue };
            let this = Rc::clone(&self);
            spawn_local(async move {
                this.seen.lock().expect("no panic").open += 1;
                this.connection(stream, from).await;
                this.seen.lock().expect("no panic").open -= 1;
            });
        }
    }

    async fn connection(self: &Rc<Self>, stream: tokio::net::TcpStream, from: SocketAddr) {
        drop(stream.set_nodelay(true));
        let Some(tls) = &self.tls else {
            self.seen.lock().expect("no panic").connections.push(None);
            return self.carry(stream, from).await;
        };
        // Who does not like our certificate goes away.
        let Ok(stream) = tls.accept(stream).await else { return };
        let (kind, protocol) = {
            let (_, session) = stream.get_ref();
            (session.handshake_kind(), session.alpn_protocol().map(<[u8]>::to_vec))
        };
        let resumed = Some(kind == Some(HandshakeKind::Resumed));
        self.seen.lock().expect("no panic").connections.push(resumed);
        match protocol.as_deref() {
            Some(b"h2") => {
                let this = Rc::clone(self);
                let service = service_fn(move |request| Rc::clone(&this).http(request, from));
                let connection = hyper::server::conn::http2::Builder::new(Here)
                    .serve_connection(TokioIo::new(stream), service);
                drop(connection.await);
            }
            Some(b"http/1.1") => {
                let service = service_fn(|request| Rc::clone(self).http(request, from));
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                drop(connection.await);
            }
            _ => self.carry(stream, from).await,
        }
    }

    /// RFC 1035 section 4.2.2.
    async fn carry<S>(&self, stream: S, from: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let (mut reading, writing) = tokio::io::split(stream);
        let writing = Rc::new(tokio::sync::Mutex::new(writing));
        let closing = Rc::new(tokio::sync::Notify::new());
        loop {
            let query = async {
                let len = reading.read_u16().await.ok()?;
                let mut octets = vec![0; usize::from(len)];
                reading.read_exact(&mut octets).await.ok()?;
                Some(octets)
            };
            let octets = tokio::select! {
                octets = query => octets,
                () = closing.notified() => return,
            };
            let Some(octets) = octets else { return };
            let acts = self.hear(By::Stream, from, octets);
            let (writing, closing) = (Rc::clone(&writing), Rc::clone(&closing));
            spawn_local(async move {
                for act in acts {
                    match act {
                        Act::Say(message) => write(&writing, &framed(&message)).await,
                        Act::Raw(octets) => write(&writing, &octets).await,
                        Act::Wait(time) => tokio::time::sleep(time).await,
                        Act::Close => {
                            drop(writing.lock().await.shutdown().await);
                            closing.notify_one();
                        }
                        Act::FromElsewhere(_) | Act::Status(_) => return,
                    }
                }
            });
        }
    }

    async fn http(
        self: Rc<Self>,
        request: Request<Incoming>,
        from: SocketAddr,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let text = request.uri().query().and_then(|query| query.strip_prefix("dns="));
        let from_uri = text.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        let right = request.uri().path() == "/dns-query";
        let (by, octets) = match from_uri {
            Some(octets) => (By::Get, octets),
            None => {
                let body = request.into_body().collect().await;
                (By::Post, body.map(|body| body.to_bytes().to_vec()).unwrap_or_default())
            }
        };
        assert!(right && octets.len() > 12, "what RFC 8484 says");
        let mut status = 200;
        let mut body = Vec::new();
        for act in self.hear(by, from, octets) {
            match act {
                Act::Say(message) | Act::Raw(message) => body = message,
                Act::Wait(time) => tokio::time::sleep(time).await,
                Act::Status(other) => status = other,
                Act::Close | Act::FromElsewhere(_) => {}
            }
        }
        let response = Response::builder().status(status);
        let response = response.header("content-type", "application/dns-message");
        Ok(response.body(Full::new(Bytes::from(body))).expect("a response"))
    }
}

async fn write<S: AsyncWrite + Unpin>(stream: &tokio::sync::Mutex<WriteHalf<S>>, octets: &[u8]) {
    let mut stream = stream.lock().await;
    // Who has gone away gets nothing.
    drop(stream.write_all(octets).await);
    drop(stream.flush().await);
}

/// Runs hyper's tasks on the upstream's thread.
#[derive(Clone, Copy)]
struct Here;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for Here {
    fn execute(&self, task: F) {
        spawn_local(task);
    }
}
