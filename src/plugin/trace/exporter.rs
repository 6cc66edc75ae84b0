//! The way of spans to their collector: a bounded queue, batches, HTTP/1.1 over one connection.
//!
//! What finds the queue full is left out and counted, and so is a batch that the collector does not
//! take. All this runs on control's thread, in a task that ends with its link. RFC 9112.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::Uri;
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use super::encode::{Encoder, Kind};
use super::record::Trace;
use crate::control::trust;
use crate::data::clock;
use crate::data::tally::{Counter, Tally};
use crate::limits::{TRACE_ANSWER_BYTES_MAX, TRACE_SECONDS_MAX};

const TIMEOUT: Duration = Duration::from_secs(TRACE_SECONDS_MAX);

/// Where spans go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    secure: bool,
    host: String,
    port: u16,
    /// `host:port` as it was written.
    authority: String,
    path: String,
}

impl Endpoint {
    /// Reads a URL, or a host, which has the kind's path then; nothing: the kind's own place.
    pub(super) fn of(kind: Kind, text: &str) -> Result<Self, String> {
        let (place, path) = kind.place();
        let text = if text.is_empty() { place } else { text };
        let is_url = text.starts_with("http://") || text.starts_with("https://");
        let url = if is_url { text.to_owned() } else { format!("http://{text}{path}") };
        // What is wrong with it is told without it: it may hold a password.
        let uri: Uri = url.parse().map_err(|error| format!("invalid endpoint: {error}"))?;
        let authority = uri.authority().ok_or("invalid endpoint: no host")?;
        if authority.as_str().contains('@') {
            return Err("an endpoint has no user name or password".into());
        }
        let secure = uri.scheme_str() == Some("https");
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err("invalid endpoint: no host".into());
        }
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { secure, host, port, authority: authority.to_string(), path })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        // A query of the URL may hold a key.
        let path = self.path.split('?').next().unwrap_or_default();
        write!(f, "{scheme}://{}{path}", self.authority)
    }
}

/// How many spans wait, go together, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    pub backlog: usize,
    pub batch: usize,
    pub interval: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { backlog: 1000, batch: 100, interval: Duration::from_secs(1) }
    }
}

/// The near end of the queue.
pub(super) struct Exporter {
    traces: Sender<Trace>,
    /// Spans in it, in permits that travel with their trace.
    tally: Arc<Tally>,
    dropped: Counter,
}

impl Exporter {
    /// A queue, and the task that empties it.
    pub(super) fn new(
        endpoint: Endpoint,
        encoder: Encoder,
        pace: Pace,
        (spans, dropped): (Counter, Counter),
        tally: &Arc<Tally>,
    ) -> (Self, Result<impl Future<Output = ()> + Send + use<>, String>) {
        let (traces, waiting) = channel(pace.backlog);
        let tls = endpoint.secure.then(|| trust::client(false)).transpose();
        let run = tls.map_err(|error| error.to_string()).map(|tls| {
            let client = Client { endpoint, tls, requests: None };
            let counted = Counted { tally: Arc::clone(tally), spans, dropped };
            run(waiting, encoder, pace, client, counted)
        });
        (Self { traces, tally: Arc::clone(tally), dropped }, run)
    }

    /// Puts a trace into the queue, or counts its spans as dropped.
    pub(super) fn send(&self, trace: Trace) {
        let spans = trace.parts.len() + 1;
        if self.traces.try_send(trace).is_err() {
            self.tally.add(self.dropped, spans as u64);
        }
    }
}

struct Counted {
    tally: Arc<Tally>,
    spans: Counter,
    dropped: Counter,
}

/// Sends what comes until nobody sends any more.
async fn run(
    mut waiting: Receiver<Trace>,
    mut encoder: Encoder,
    pace: Pace,
    mut client: Client,
    counted: Counted,
) {
    let mut told = false;
    while let Some(first) = waiting.recv().await {
        let due = Instant::now() + pace.interval;
        let mut traces = vec![encoder.spans(&first, wall(first.began))];
        let mut spans = traces[0].len();
        while spans < pace.batch {
            let Ok(Some(next)) = timeout_at(due, waiting.recv()).await else { break };
            let next = encoder.spans(&next, wall(next.began));
            spans += next.len();
            traces.push(next);
        }
        let body = encoder.body(traces);
        let sent = timeout(TIMEOUT, client.send(encoder.kind, body)).await;
        match sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(()) => {
                told = false;
                counted.tally.add(counted.spans, spans as u64);
            }
            Err(error) => {
                client.requests = None;
                counted.tally.add(counted.dropped, spans as u64);
                if !std::mem::replace(&mut told, true) {
                    let endpoint = &client.endpoint;
                    tracing::warn!(target: "plugin/trace", "spans not sent: {endpoint}: {error}");
                }
            }
        }
    }
}

/// Since 1970 in UTC, of a reading of the data plane's clock.
#[allow(clippy::disallowed_methods, reason = "control's: spans tell the time of day")]
fn wall(at: clock::Nanos) -> Duration {
    use std::time::{SystemTime, UNIX_EPOCH};
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.saturating_sub(Duration::from_nanos(clock::now().saturating_sub(at)))
}

/// The connection to the collector.
struct Client {
    endpoint: Endpoint,
    tls: Option<Arc<ClientConfig>>,
    requests: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    /// Sends one request: by the connection that is there, else by a new one.
    async fn send(&mut self, kind: Kind, body: String) -> io::Result<()> {
        let body = Bytes::from(body);
        if let Some(mut requests) = self.requests.take()
            && requests.ready().await.is_ok()
            && self.ask(&mut requests, kind, body.clone()).await.is_ok()
        {
            self.requests = Some(requests);
            return Ok(());
        }
        let mut requests = self.connect().await?;
        self.ask(&mut requests, kind, body).await?;
        self.requests = Some(requests);
        Ok(())
    }

    async fn connect(&self) -> io::Result<SendRequest<Full<Bytes>>> {
        let Endpoint { host, port, .. } = &self.endpoint;
        let stream = TcpStream::connect((host.as_str(), *port)).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return spoken(stream).await };
        let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
        spoken(TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?).await
    }

    async fn ask(
        &self,
        requests: &mut SendRequest<Full<Bytes>>,
        kind: Kind,
        body: Bytes,
    ) -> io::Result<()> {
        let request = hyper::Request::builder()
            .method(kind.method())
            .uri(&self.endpoint.path)
            .header("host", &self.endpoint.authority)
            .header("user-agent", concat!("corelane/", env!("CARGO_PKG_VERSION")))
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(io::Error::other)?;
        let answer = requests.send_request(request).await.map_err(io::Error::other)?;
        let status = answer.status();
        // Read to its end, so that the connection can be used again.
        let rest = Limited::new(answer.into_body(), TRACE_ANSWER_BYTES_MAX).collect().await;
        rest.map_err(io::Error::other)?;
        match status.is_success() {
            true => Ok(()),
            false => Err(io::Error::other(format!("HTTP status {status}"))),
        }
    }
}

/// Speaks HTTP/1.1 by a stream, in a task that ends with its requests.
async fn spoken(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> io::Result<SendRequest<Full<Bytes>>> {
    let (requests, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    drop(tokio::spawn(connection));
    Ok(requests)
}
