//! An endpoint that asks itself once a second and counts how long the answer took, as CoreDNS's
//! `health` does: a process that is starved of CPU shows it here before its clients complain.
//!
//! It asks over the address's own socket; where a web configuration file demands a certificate or a
//! password, which the process has not, over a stream that never leaves the process.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::server::{Asker, Sign, Tables, converse};
use crate::data::tally::{Counter, Histogram, Tally};

const EVERY: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(3);
/// A local answer that takes longer is worth a line in the log.
const SLOW: Duration = Duration::from_secs(1);
/// Octets that a stream within the process holds: more than a request's head.
const STREAM_BYTES: usize = 1 << 10;

/// What to ask for, and what counts it.
#[derive(Clone)]
pub struct SelfPoll {
    /// The address as in the Corefile, for the log.
    pub address: String,
    /// The path.
    pub path: &'static str,
    /// Where counts go.
    pub tally: Arc<Tally>,
    /// Durations, in nanoseconds, those of failures included.
    pub duration: Histogram,
    /// Requests without an answer.
    pub failures: Counter,
}

/// Polls as long as the address is open and its table holds a poll.
pub(super) async fn run(bound: SocketAddr, tables: Tables, mut gone: watch::Receiver<Sign>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    // The first tick is at once: nothing to learn from it.
    ticks.tick().await;
    let mut client = None;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = gone.changed() => return,
        }
        let Some(poll) = tables.load().poll.clone() else { continue };
        let by = match tables.load().web.is_some() {
            true => By::Itself(Arc::clone(&tables), gone.clone()),
            false => By::Socket(local(bound)),
        };
        tokio::select! {
            () = once(&poll, by, &mut client) => {}
            _ = gone.changed() => return,
        }
    }
}

/// Where to reach what is bound there.
fn local(bound: SocketAddr) -> SocketAddr {
    match bound.ip().is_unspecified() {
        true => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), bound.port()),
        false => bound,
    }
}

/// What a request goes by.
enum By {
    /// A connection to this address.
    Socket(SocketAddr),
    /// A stream within the process, to these tables, until this sign.
    Itself(Tables, watch::Receiver<Sign>),
}

type Client = SendRequest<Empty<Bytes>>;

async fn once(poll: &SelfPoll, by: By, client: &mut Option<Client>) {
    let start = Instant::now();
    let asked = timeout(TIMEOUT, ask(poll.path, by, client)).await;
    let took = start.elapsed();
    poll.tally.observe(poll.duration, took.as_nanos() as u64);
    let (address, path) = (&poll.address, poll.path);
    let failure = match asked {
        Ok(Ok(())) if took > SLOW => {
            return tracing::warn!(
                target: "plugin/health",
                "Local health request to \"http://{address}{path}\" took more than 1s: {took:?}"
            );
        }
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {TIMEOUT:?}"),
    };
    *client = None;
    poll.tally.add(poll.failures, 1);
    tracing::warn!(
        target: "plugin/health",
        "Local health request to \"http://{address}{path}\" failed: {failure}"
    );
}

/// One request, on the connection of the last one if that is still there.
async fn ask(path: &str, by: By, client: &mut Option<Client>) -> io::Result<()> {
    let alive = client.take().filter(|client| !client.is_closed());
    let mut sender = match (alive, by) {
        (Some(sender), _) => sender,
        (None, By::Socket(at)) => open(TcpStream::connect(at).await?).await?,
        (None, By::Itself(tables, gone)) => {
            let (near, far) = tokio::io::duplex(STREAM_BYTES);
            tokio::spawn(converse(far, tables, gone, Asker::Itself));
            open(near).await?
        }
    };
    sender.ready().await.map_err(io::Error::other)?;
    let request = hyper::Request::get(path)
        .header(HOST, "localhost")
        .body(Empty::new())
        .map_err(io::Error::other)?;
    let response = sender.send_request(request).await.map_err(io::Error::other)?;
    drop(response);
    *client = Some(sender);
    Ok(())
}

async fn open(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> io::Result<Client> {
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    Ok(sender)
}
