//! The admin thread: listeners, connections, deadlines.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arc_swap::ArcSwap;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT, CONTENT_TYPE, HOST, HeaderValue, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;

use super::password::Admission;
use super::web::Web;
use super::{Request, Response, Route, SelfPoll, poll};
use crate::limits::{
    ADMIN_CONNECTIONS_MAX, ADMIN_HEAD_BYTES_MAX, ADMIN_HEADERS_MAX, ADMIN_TIMEOUT_SECONDS,
};
use crate::sys;

const TIMEOUT: Duration = Duration::from_secs(ADMIN_TIMEOUT_SECONDS);

/// What one address serves.
#[derive(Clone, Default)]
pub(super) struct Table {
    pub(super) routes: Vec<(&'static str, Arc<dyn Route>)>,
    pub(super) poll: Option<SelfPoll>,
    /// What it asks of its clients.
    pub(super) web: Option<Arc<Web>>,
}

impl Table {
    pub(super) fn route(&self, path: &str) -> Option<&Arc<dyn Route>> {
        self.routes.iter().find(|(known, _)| *known == path).map(|(_, route)| route)
    }
}

pub(super) type Tables = Arc<ArcSwap<Table>>;

/// What the thread shall do: open first, then close.
#[derive(Default)]
pub(super) struct Command {
    pub(super) open: Vec<(SocketAddr, TcpListener, Tables)>,
    pub(super) close: Vec<SocketAddr>,
    /// Another process accepts from now on what comes to them; is told when what has come is answered.
    pub(super) handed_on: Option<oneshot::Sender<()>>,
}

type Sent = (Command, SyncSender<io::Result<()>>);

/// The thread, as seen from control.
pub(super) struct Server {
    commands: mpsc::UnboundedSender<Sent>,
}

impl Server {
    pub(super) fn start() -> io::Result<Server> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .on_thread_start(sys::give_way)
            .build()?;
        let (commands, mut receiver) = mpsc::unbounded_channel::<Sent>();
        std::thread::Builder::new().name("admin".into()).spawn(move || {
            runtime.block_on(async move {
                let mut open = Opened::new();
                while let Some((command, done)) = receiver.recv().await {
                    drop(done.send(run(&mut open, command).await));
                }
            });
        })?;
        Ok(Server { commands })
    }

    /// Runs a command; when this returns, what was opened accepts and what was closed does not.
    pub(super) fn run(&self, command: Command) -> io::Result<()> {
        let (done, wait) = sync_channel(1);
        let gone = || io::Error::other("the admin thread has ended");
        self.commands.send((command, done)).map_err(|_| gone())?;
        wait.recv().map_err(|_| gone())?
    }
}

/// What keeps an address open: the task that accepts, and the sign at which its connections end.
type Opened = BTreeMap<SocketAddr, (JoinHandle<()>, watch::Sender<Sign>)>;

/// What becomes of an address's connections.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// They go on.
    Open,
    /// They end with what is being answered.
    Closed,
    /// They end likewise, but first one that has not asked yet is heard: its client was not refused.
    HandedOn,
}

async fn run(open: &mut Opened, command: Command) -> io::Result<()> {
    let mut listeners = Vec::with_capacity(command.open.len());
    for (at, listener, tables) in command.open {
        listeners.push((at, tokio::net::TcpListener::from_std(listener)?, tables));
    }
    for (at, listener, tables) in listeners {
        let (sign, gone) = watch::channel(Sign::Open);
        let bound = listener.local_addr()?;
        tokio::spawn(poll::run(bound, Arc::clone(&tables), gone.clone()));
        open.insert(at, (tokio::spawn(accept(listener, tables, gone)), sign));
    }
    let mut last = Vec::new();
    for at in command.close {
        if let Some((accepting, sign)) = open.remove(&at) {
            accepting.abort();
            // Awaited, so that the socket is closed when control goes on.
            drop(accepting.await);
            let handed_on = command.handed_on.is_some();
            sign.send_replace(if handed_on { Sign::HandedOn } else { Sign::Closed });
            last.push(sign);
        }
    }
    if let Some(done) = command.handed_on {
        tokio::spawn(async move {
            let all = async {
                for sign in &last {
                    sign.closed().await;
                }
            };
            drop(timeout(TIMEOUT, all).await);
            let _ = done.send(());
        });
    }
    Ok(())
}

/// Takes connections, as many at a time as are allowed; the rest waits in the kernel.
async fn accept(listener: tokio::net::TcpListener, tables: Tables, gone: watch::Receiver<Sign>) {
    let places = Arc::new(Semaphore::new(ADMIN_CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let (tables, gone) = (Arc::clone(&tables), gone.clone());
                let asker = Asker::Client { is_local: peer.ip().to_canonical().is_loopback() };
                tokio::spawn(async move {
                    serve(stream, tables, gone, asker).await;
                    drop(place);
                });
            }
            // Out of descriptors, or the client left already: nothing that hurrying would mend.
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}

/// One connection.
async fn serve(stream: TcpStream, tables: Tables, gone: watch::Receiver<Sign>, asker: Asker) {
    let paced = Paced { stream, late: None };
    let tls = tables.load().web.as_ref().and_then(|web| web.tls());
    let Some(tls) = tls else { return converse(paced, tables, gone, asker).await };
    let handshake = TlsAcceptor::from(tls).accept(paced);
    if let Ok(Ok(stream)) = timeout(TIMEOUT, handshake).await {
        converse(stream, tables, gone, asker).await;
    }
}

/// Who asks on a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    /// Anybody; `is_local`: by the loopback interface.
    Client { is_local: bool },
    /// This process, which needs no password.
    Itself,
}

/// Answers requests. After the sign it ends with the one that is being answered.
pub(super) async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    tables: Tables,
    mut gone: watch::Receiver<Sign>,
    asker: Asker,
) {
    let (heard, mut first) = watch::channel(false);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        heard.send_replace(true);
        let table = tables.load_full();
        async move {
            let admission = match &table.web {
                Some(web) if asker != Asker::Itself => web.admits(request.headers()).await,
                _ => Admission::Granted,
            };
            Ok::<_, Infallible>(match admission {
                Admission::Granted => answer(&table, &request, asker).await,
                Admission::Refused => {
                    let mut response = refusal(401, "Unauthorized\n");
                    let challenge = HeaderValue::from_static("Basic");
                    response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
                    response
                }
                Admission::Busy => refusal(429, "Too Many Requests\n"),
            })
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(TIMEOUT)
        .max_headers(ADMIN_HEADERS_MAX)
        .max_buf_size(ADMIN_HEAD_BYTES_MAX);
    let io = TokioIo::new(stream);
    let mut connection = std::pin::pin!(http.serve_connection(io, service));
    let end = async {
        let sign = gone.wait_for(|sign| *sign != Sign::Open).await.map(|sign| *sign);
        if sign.is_ok_and(|sign| sign == Sign::HandedOn) {
            // Ends at the latest when the time for a request's head is over.
            drop(first.wait_for(|heard| *heard).await);
        }
    };
    // A client's mistakes end its connection and concern nobody else.
    tokio::select! {
        ended = connection.as_mut() => return drop(ended),
        () = end => connection.as_mut().graceful_shutdown(),
    }
    drop(connection.await);
}

async fn answer(
    table: &Table,
    request: &hyper::Request<Incoming>,
    asker: Asker,
) -> hyper::Response<Full<Bytes>> {
    let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
    let host = request.headers().get(HOST).and_then(|value| value.to_str().ok());
    let asked = Request {
        path: request.uri().path(),
        query: request.uri().query().unwrap_or(""),
        accept: accept.unwrap_or(""),
        host: host.unwrap_or(""),
        is_local: asker != Asker::Client { is_local: false },
    };
    let Some(route) = table.route(asked.path) else {
        return refusal(404, "404 page not found\n");
    };
    match route.later(&asked) {
        Some(later) => response(later.await),
        None => response(route.answer(&asked)),
    }
}

/// What Go's `http.Error` makes.
fn refusal(status: u16, text: &str) -> hyper::Response<Full<Bytes>> {
    let mut response = response(Response::text(status, text));
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn response(given: Response) -> hyper::Response<Full<Bytes>> {
    let mut response = hyper::Response::new(Full::new(Bytes::from(given.body)));
    *response.status_mut() = hyper::StatusCode::from_u16(given.status)
        .unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    let kind = HeaderValue::from_static(given.content_type);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// A stream on which a write that makes no progress fails after the time-out.
struct Paced {
    stream: TcpStream,
    /// Runs while a write waits.
    late: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    fn paced<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(done) = write(Pin::new(&mut self.stream), cx) {
            self.late = None;
            return Poll::Ready(done);
        }
        let late = self.late.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + TIMEOUT)));
        ready!(late.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Paced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Paced {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.paced(cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.paced(cx, |stream, cx| stream.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.paced(cx, |stream, cx| stream.poll_shutdown(cx))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.paced(cx, |stream, cx| stream.poll_write_vectored(cx, pieces))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
