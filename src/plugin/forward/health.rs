//! Probes of upstreams that have failed: control's side.
//!
//! A worker that finds an upstream failing tells it here, once in a while. From then on the upstream
//! is asked for NS records every `health_check` until it replies, whatever it replies; a probe that
//! fails counts against it. Probes go the way of queries: UDP, or TCP with `force_tcp`, TLS, HTTPS.
//! One probe at a time for each upstream, each within a second.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::options::Probing;
use super::resolve::{is_reply, query};
use super::set::{Member, Set};
use crate::data::tally::Tally;
use crate::data::upstream::{Carrier, HttpsTarget, TlsTarget, Upstream};
use crate::limits::{
    FORWARD_FAILURES_MAX, FORWARD_PROBE_MILLIS_MIN, FORWARD_PROBE_SECONDS_MAX, MESSAGE_BYTES_MAX,
};
use crate::plugin::{Event, Sink};
use crate::publish::Published;
use crate::wire::rtype;

/// What workers tell: which use of the directive, which upstream.
pub fn failure(which: u8, upstream: u32) -> [u8; 5] {
    let [a, b, c, d] = upstream.to_be_bytes();
    [which, a, b, c, d]
}

/// Takes what workers tell.
pub struct Alarm(mpsc::Sender<[u8; 5]>);

impl Sink for Alarm {
    fn take(&mut self, event: &Event) {
        if let Ok(failure) = event.bytes().try_into() {
            // A full queue is all failures: the next one tells the same.
            let _ = self.0.try_send(failure);
        }
    }
}

/// One use of the directive, as whoever probes sees it.
pub struct Probed {
    /// Its upstreams.
    pub set: Arc<Published<Set>>,
    /// How they are probed.
    pub probing: Probing,
    /// Whether by TCP where they speak plain DNS.
    pub force_tcp: bool,
    /// Failed probes that are borne.
    pub max_fails: u32,
}

/// Who takes what workers tell, and the task that probes.
pub fn start(
    probed: Vec<Probed>,
    tally: Arc<Tally>,
) -> (Alarm, impl Future<Output = ()> + Send + 'static) {
    let (send, receive) = mpsc::channel(FORWARD_FAILURES_MAX);
    let probed = probed.into_iter().map(Arc::new).collect();
    (Alarm(send), watch(probed, tally, receive))
}

async fn watch(probed: Vec<Arc<Probed>>, tally: Arc<Tally>, mut receive: mpsc::Receiver<[u8; 5]>) {
    let mut running = BTreeSet::new();
    let mut probes = JoinSet::new();
    loop {
        tokio::select! {
            failure = receive.recv() => {
                let Some([which, id @ ..]) = failure else { return };
                let id = u32::from_be_bytes(id);
                let Some(one) = probed.get(usize::from(which)) else { continue };
                let set = one.set.get();
                let Some((_, member)) = set.find(id) else { continue };
                if running.insert(id) {
                    let (one, member) = (Arc::clone(one), Arc::clone(member));
                    let tally = Arc::clone(&tally);
                    probes.spawn(async move {
                        one.revive(&member, &tally).await;
                        id
                    });
                }
            }
            Some(ended) = probes.join_next() => {
                if let Ok(id) = ended {
                    running.remove(&id);
                }
            }
        }
    }
}

impl Probed {
    /// Probes until there is a reply, or the upstream is none of ours any more.
    async fn revive(&self, member: &Member, tally: &Tally) {
        let upstream = &*member.upstream;
        let (fails, label) = (&upstream.cells.fails, &upstream.label);
        let least = Duration::from_millis(FORWARD_PROBE_MILLIS_MIN);
        while let Err(error) = self.probe(upstream).await {
            let failed = fails.load(Relaxed).saturating_add(1);
            fails.store(failed, Relaxed);
            tally.add(member.probes_failed, 1);
            if failed == self.max_fails.saturating_add(1) {
                tracing::warn!(target: "plugin/forward", "upstream {label} is down: {error}");
            }
            tokio::time::sleep(self.probing.interval.max(least)).await;
            if self.set.get().find(upstream.id).is_none() {
                return;
            }
        }
        if member.revive(self.max_fails) {
            tracing::info!(target: "plugin/forward", "upstream {label} is up again");
        }
    }

    async fn probe(&self, upstream: &Upstream) -> io::Result<()> {
        let Probing { recursion, domain, .. } = &self.probing;
        let query = query(domain.as_name(), rtype::NS, *recursion)?;
        let within = Duration::from_secs(FORWARD_PROBE_SECONDS_MAX);
        let reply = async {
            match &upstream.carrier {
                Carrier::Dns if !self.force_tcp => by_udp(upstream, &query).await,
                Carrier::Dns => on_stream(connect(upstream).await?, &query).await,
                Carrier::Tls(target) => on_stream(secure(upstream, target).await?, &query).await,
                Carrier::Https(target) => by_https(upstream, target, query).await,
            }
        };
        tokio::time::timeout(within, reply)
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "i/o timeout")))
    }
}

/// Where probes of an upstream leave from.
fn local(upstream: &Upstream) -> SocketAddr {
    let any = match upstream.address {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(upstream.source.unwrap_or(any), 0)
}

async fn by_udp(upstream: &Upstream, query: &[u8]) -> io::Result<()> {
    let socket = UdpSocket::bind(local(upstream)).await?;
    socket.connect(upstream.address).await?;
    socket.send(query).await?;
    let mut reply = [0; 512];
    loop {
        let len = socket.recv(&mut reply).await?;
        if reply[..2] == query[..2] && is_reply(&reply[..len]) {
            return Ok(());
        }
    }
}

async fn connect(upstream: &Upstream) -> io::Result<TcpStream> {
    let socket = match upstream.address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if upstream.source.is_some() {
        socket.bind(local(upstream))?;
    }
    socket.connect(upstream.address).await
}

async fn secure(upstream: &Upstream, target: &TlsTarget) -> io::Result<TlsStream<TcpStream>> {
    let connector = TlsConnector::from(Arc::clone(&target.config));
    connector.connect(target.server_name.clone(), connect(upstream).await?).await
}

/// RFC 1035 section 4.2.2: the message after its length.
async fn on_stream<S>(mut stream: S, query: &[u8]) -> io::Result<()>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut framed = (query.len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(query);
    stream.write_all(&framed).await?;
    stream.flush().await?;
    // The header says all that is to be known.
    let mut head = [0; 2 + 12];
    stream.read_exact(&mut head).await?;
    if head[2..4] == query[..2] && is_reply(&head[2..]) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "no reply to the question"))
}

/// RFC 8484 section 4.1, by POST as CoreDNS probes whatever `doh_method` says.
async fn by_https(upstream: &Upstream, target: &HttpsTarget, mut query: Vec<u8>) -> io::Result<()> {
    query[..2].fill(0);
    let stream = secure(upstream, &target.tls).await?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let (stream, body) = (TokioIo::new(stream), Full::new(Bytes::from(query)));
    let HttpsTarget { authority, path, .. } = target;
    let request = hyper::Request::post(if http2 {
        format!("https://{authority}{path}")
    } else {
        path.to_string()
    })
    .header("content-type", "application/dns-message")
    .header("accept", "application/dns-message");
    if http2 {
        let (mut requests, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
                .await
                .map_err(io::Error::other)?;
        let request = request.body(body).map_err(io::Error::other)?;
        return answer_of(requests.send_request(request), connection).await;
    }
    let (mut requests, connection) =
        hyper::client::conn::http1::handshake(stream).await.map_err(io::Error::other)?;
    let request = request.header("host", &**authority).body(body).map_err(io::Error::other)?;
    answer_of(requests.send_request(request), connection).await
}

/// Waits for the response that the connection brings, and judges it.
async fn answer_of(
    response: impl Future<Output = hyper::Result<hyper::Response<Incoming>>>,
    connection: impl Future<Output = hyper::Result<()>>,
) -> io::Result<()> {
    let answer = async {
        let response = response.await.map_err(io::Error::other)?;
        let status = response.status();
        if status != 200 {
            return Err(io::Error::other(format!("HTTP status {status}")));
        }
        let body = Limited::new(response.into_body(), MESSAGE_BYTES_MAX);
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        match is_reply(&body) {
            true => Ok(()),
            false => Err(io::Error::new(io::ErrorKind::InvalidData, "no DNS message")),
        }
    };
    let (mut answer, mut connection) = (pin!(answer), pin!(connection));
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // What it has brought before its end is still to be read.
        ended = &mut connection => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(io::Error::other(error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::set::tests::set_of_addresses;
    use super::*;
    use crate::wire::NameBuf;

    fn probed(set: Set, force_tcp: bool) -> Probed {
        let probing = Probing {
            interval: Duration::from_millis(20),
            recursion: false,
            domain: NameBuf::parse("probe.test.").unwrap(),
        };
        Probed { set: Arc::new(Published::new(set)), probing, force_tcp, max_fails: 1 }
    }

    /// Waits for what must come, not for how long it takes.
    async fn until(done: impl Fn() -> bool) {
        let waited = async {
            while !done() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), waited).await.expect("it never came");
    }

    #[tokio::test]
    async fn an_upstream_is_probed_until_it_replies() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        drop(server);
        let one = probed(set_of_addresses(&[&address.to_string()]), false);
        let member = Arc::clone(&one.set.get().members[0]);
        let tally = Tally::new(1);
        let (alarm, task) = start(vec![one], Arc::clone(&tally));
        let task = tokio::spawn(task);
        member.suspect();
        // Twice the same and one that is not ours: one probe.
        for id in [member.upstream.id, member.upstream.id, 0] {
            alarm.0.try_send(failure(0, id)).unwrap();
        }
        until(|| member.upstream.cells.fails.load(Relaxed) > 2).await;
        assert!(tally.value(member.probes_failed) > 2 && member.is_suspect());
        let server = UdpSocket::bind(address).await.unwrap();
        let mut query = [0; 512];
        let (len, client) = server.recv_from(&mut query).await.unwrap();
        let view = crate::wire::parse_query(&query[..len]).expect("a query");
        assert_eq!(view.question.map(|question| question.rtype), Some(rtype::NS));
        assert_eq!(query[2] & 1, 0, "no RD");
        query[2] |= 0x80;
        // Not to this one.
        query[0] ^= 1;
        server.send_to(&query[..len], client).await.unwrap();
        query[0] ^= 1;
        query[3] = 5;
        server.send_to(&query[..len], client).await.unwrap();
        until(|| member.upstream.cells.fails.load(Relaxed) == 0 && !member.is_suspect()).await;
        alarm.0.try_send(failure(0, member.upstream.id)).unwrap();
        let (len, _) = server.recv_from(&mut query).await.unwrap();
        assert!(len > 12, "probed anew after another failure");
        task.abort();
    }

    #[tokio::test]
    async fn probes_by_tcp_want_a_reply() {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap().to_string();
        let one = probed(set_of_addresses(&[&address]), true);
        let upstream = Arc::clone(&one.set.get().members[0].upstream);
        let answer = |reply: bool| {
            let server = &server;
            async move {
                let (mut stream, _) = server.accept().await.unwrap();
                let mut query = [0; 512];
                let len = stream.read(&mut query).await.unwrap();
                if reply {
                    query[4] |= 0x80;
                    stream.write_all(&query[..len]).await.unwrap();
                }
            }
        };
        let (good, ()) = tokio::join!(one.probe(&upstream), answer(true));
        good.unwrap();
        let (closed, ()) = tokio::join!(one.probe(&upstream), answer(false));
        assert_eq!(closed.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
