//! A Kubernetes API server for tests: LIST and WATCH over HTTP or HTTPS, and everything that goes
//! wrong with them.
//!
//! Objects are JSON values under their plural; each write takes the next `resourceVersion` and makes
//! an event, unless it is told to lose it. Faults are queued by plural and verb, and each is used up
//! by one request.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_rustls::TlsAcceptor;

/// How the server takes streaming lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Streaming {
    /// As it should.
    #[default]
    Yes,
    /// 422, as a server without the feature.
    Refused,
    /// 200 and an ERROR event, as a server on an old etcd.
    Error,
    /// The parameters are not known: all objects, and no end of them.
    Unknown,
}

/// What becomes of one request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// A status, with the seconds of Retry-After if there are any.
    Status(u16, Option<u64>),
    /// The version to watch from is refused as one that is still to come.
    TooNew,
    /// Taken, and never answered.
    Hang,
    /// Answered one octet at a time.
    Slow,
    /// The body is cut off after so many octets.
    Torn(usize),
    /// Answered when [`Server::release`] says so.
    Held,
}

/// How watches end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The body ends.
    Close,
    /// The connection breaks.
    Reset,
    /// An ERROR event with status 410, then the end.
    Gone,
    /// Nothing more is sent, and nothing ends.
    Silence,
}

type Key = (String, String, String);

#[derive(Default)]
struct State {
    version: u64,
    /// Watches from below this version are refused.
    floor: u64,
    objects: BTreeMap<Key, Value>,
    /// Version, plural, line.
    events: Vec<(u64, String, Bytes)>,
    watches: Vec<(String, UnboundedSender<io::Result<Bytes>>)>,
    faults: HashMap<(String, &'static str), VecDeque<Fault>>,
    pages: HashMap<String, (Vec<Value>, u64)>,
    requests: Vec<String>,
    tokens: Vec<Option<String>>,
    wanted_token: Option<String>,
    /// What is answered at paths of their own.
    paths: HashMap<String, String>,
    /// `VERB RESOURCE` that access reviews deny.
    denied: Vec<String>,
    streaming: Streaming,
    /// Plurals that are not served.
    lacking: Vec<String>,
    /// Requests that are held, and the most that ever were at once.
    held: Vec<oneshot::Sender<()>>,
    held_most: usize,
    /// Objects of a page, whatever is asked for.
    page: usize,
    connections: Vec<AbortHandle>,
}

/// A running server; gone when it is dropped.
pub struct Server {
    state: Arc<Mutex<State>>,
    pub address: SocketAddr,
    tls: Option<TlsAcceptor>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Server {
    pub async fn start() -> Self {
        Self::with_tls(None).await
    }

    pub async fn with_tls(tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let state = State { version: 100, page: usize::MAX, ..State::default() };
        let server = Self {
            state: Arc::new(Mutex::new(state)),
            address: listener.local_addr().expect("a bound socket"),
            tls: tls.map(TlsAcceptor::from),
            accepting: Mutex::new(None),
        };
        server.accept(listener);
        server
    }

    fn accept(&self, listener: TcpListener) {
        let (state, tls) = (Arc::clone(&self.state), self.tls.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = tokio::spawn(connection(stream, tls.clone(), Arc::clone(&state)));
                lock(&state).connections.push(connection.abort_handle());
            }
        });
        *self.accepting.lock().expect("not poisoned") = Some(accepting);
    }

    /// Closes the port and cuts every connection.
    pub fn stop(&self) {
        if let Some(accepting) = self.accepting.lock().expect("not poisoned").take() {
            accepting.abort();
        }
        let mut state = lock(&self.state);
        state.connections.drain(..).for_each(|connection| connection.abort());
        state.watches.clear();
    }

    /// Opens the port again.
    pub async fn resume(&self) {
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        self.accept(listener);
    }

    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    pub fn streaming(&self, how: Streaming) {
        lock(&self.state).streaming = how;
    }

    pub fn page(&self, objects: usize) {
        lock(&self.state).page = objects;
    }

    /// The bearer token without which everything is refused with 401.
    pub fn token(&self, token: &str) {
        lock(&self.state).wanted_token = Some(token.into());
    }

    /// Serves no such objects, as a server that is older than they are.
    pub fn lack(&self, plural: &str) {
        lock(&self.state).lacking.push(plural.into());
    }

    /// How many requests are held now, and the most that were at once.
    pub fn held(&self) -> (usize, usize) {
        let state = lock(&self.state);
        (state.held.len(), state.held_most)
    }

    /// Answers the requests that are held.
    pub fn release(&self) {
        for held in lock(&self.state).held.drain(..) {
            let _ = held.send(());
        }
    }

    /// What is answered at a path, whatever its query.
    pub fn at(&self, path: &str, body: impl ToString) {
        lock(&self.state).paths.insert(path.into(), body.to_string());
    }

    /// Nothing of its own is answered at a path any more.
    pub fn forget(&self, path: &str) {
        lock(&self.state).paths.remove(path);
    }

    /// Has access reviews deny this.
    pub fn deny(&self, verb: &str, resource: &str) {
        lock(&self.state).denied.push(format!("{verb} {resource}"));
    }

    pub fn fault(&self, plural: &str, verb: &'static str, fault: Fault) {
        lock(&self.state).faults.entry((plural.into(), verb)).or_default().push_back(fault);
    }

    /// Paths with their queries, in the order in which they came.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.state).requests.clone()
    }

    /// Credentials of the requests.
    pub fn tokens(&self) -> Vec<Option<String>> {
        lock(&self.state).tokens.clone()
    }

    pub fn watches(&self) -> usize {
        let mut state = lock(&self.state);
        state.watches.retain(|(_, sender)| !sender.is_closed());
        state.watches.len()
    }

    /// Writes an object and tells the watches.
    pub fn put(&self, plural: &str, object: Value) {
        lock(&self.state).put(plural, object, true);
    }

    /// Writes an object and tells nobody, now or later.
    pub fn put_unseen(&self, plural: &str, object: Value) {
        lock(&self.state).put(plural, object, false);
    }

    pub fn delete(&self, plural: &str, namespace: &str, name: &str) {
        lock(&self.state).delete(plural, namespace, name, true);
    }

    pub fn delete_unseen(&self, plural: &str, namespace: &str, name: &str) {
        lock(&self.state).delete(plural, namespace, name, false);
    }

    /// Sends a bookmark to every watch.
    pub fn bookmark(&self) {
        let state = lock(&self.state);
        for (plural, sender) in &state.watches {
            let _ = sender.send(Ok(bookmark(plural, state.version, false)));
        }
    }

    /// Sends raw octets to every watch of a plural.
    pub fn raw(&self, plural: &str, octets: &'static [u8]) {
        let state = lock(&self.state);
        for (_, sender) in state.watches.iter().filter(|(of, _)| of == plural) {
            let _ = sender.send(Ok(Bytes::from_static(octets)));
        }
    }

    /// Ends every watch.
    pub fn end(&self, how: End) {
        let mut state = lock(&self.state);
        let watches = std::mem::take(&mut state.watches);
        for (plural, sender) in watches {
            match how {
                End::Close => {}
                End::Reset => drop(sender.send(Err(io::ErrorKind::ConnectionReset.into()))),
                End::Gone => drop(sender.send(Ok(line("ERROR", &status(410, "too old"))))),
                End::Silence => std::mem::forget((plural, sender)),
            }
        }
    }

    /// Forgets the history: watches from before now are refused.
    pub fn expire(&self) {
        let mut state = lock(&self.state);
        state.version += 1;
        state.floor = state.version;
        state.events.clear();
        state.pages.clear();
    }

    /// Begins another history, with versions from 1 on, as after a restored backup.
    pub fn rewind(&self) {
        let mut state = lock(&self.state);
        (state.version, state.floor) = (0, 0);
        state.events.clear();
        let mut objects = std::mem::take(&mut state.objects);
        for object in objects.values_mut() {
            state.version += 1;
            object["metadata"]["resourceVersion"] = state.version.to_string().into();
        }
        state.objects = objects;
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("not poisoned")
}

fn line(kind: &str, object: &Value) -> Bytes {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n").into()
}

fn bookmark(plural: &str, version: u64, end: bool) -> Bytes {
    let mut object = json!({
        "kind": kind_of(plural), "apiVersion": "v1",
        "metadata": {"resourceVersion": version.to_string()},
    });
    if end {
        object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    }
    line("BOOKMARK", &object)
}

fn status(code: u16, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "code": code})
}

fn kind_of(plural: &str) -> &'static str {
    match plural {
        "services" => "Service",
        "namespaces" => "Namespace",
        "pods" => "Pod",
        "endpointslices" => "EndpointSlice",
        _ => "ServiceImport",
    }
}

impl State {
    fn tell(&mut self, plural: &str, line: Bytes) {
        for (_, sender) in self.watches.iter().filter(|(of, _)| of == plural) {
            let _ = sender.send(Ok(line.clone()));
        }
        self.events.push((self.version, plural.into(), line));
    }

    fn put(&mut self, plural: &str, mut object: Value, seen: bool) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let part = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
        let key = (plural.to_owned(), part("namespace"), part("name"));
        let old = self.objects.insert(key, object.clone());
        if seen {
            let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
            self.tell(plural, line(kind, &object));
        }
    }

    fn delete(&mut self, plural: &str, namespace: &str, name: &str, seen: bool) {
        self.version += 1;
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        let mut object = self.objects.remove(&key).expect("an object");
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        if seen {
            self.tell(plural, line("DELETED", &object));
        }
    }

    fn of(&self, plural: &str) -> Vec<Value> {
        let all = self.objects.iter().filter(|((of, ..), _)| of == plural);
        all.map(|(_, object)| object.clone()).collect()
    }

    fn list(&mut self, plural: &str, query: &HashMap<String, String>) -> Reply {
        let asked: usize = query.get("limit").map_or(usize::MAX, |limit| limit.parse().unwrap());
        let limit = if query.get("resourceVersion").is_some_and(|version| version == "0") {
            usize::MAX
        } else {
            asked.min(self.page)
        };
        let (items, version) = match query.get("continue") {
            None => (self.of(plural), self.version),
            Some(token) => match self.pages.remove(token) {
                Some(rest) => rest,
                None => return Reply::of_status(410, "the continue token is too old", None),
            },
        };
        let rest = items.len().saturating_sub(limit);
        let (now, later) = items.split_at(items.len() - rest);
        let mut meta = json!({"resourceVersion": version.to_string()});
        if !later.is_empty() {
            let token = format!("{plural}+{}=", later.len());
            meta["continue"] = token.clone().into();
            self.pages.insert(token, (later.to_vec(), version));
        }
        let kind = format!("{}List", kind_of(plural));
        let body = json!({"kind": kind, "apiVersion": "v1", "metadata": meta, "items": now});
        Reply::whole(200, body.to_string())
    }

    fn watch(&mut self, plural: &str, query: &HashMap<String, String>) -> Reply {
        let (sender, receiver) = unbounded_channel();
        let streams = query.get("sendInitialEvents").is_some_and(|yes| yes == "true");
        let version = query.get("resourceVersion").map(|version| version.parse().unwrap_or(0));
        match (streams, self.streaming) {
            (true, Streaming::Refused) => {
                return Reply::of_status(422, "sendInitialEvents is forbidden", None);
            }
            (true, Streaming::Error) => {
                drop(sender.send(Ok(line("ERROR", &status(500, "RequestWatchProgress")))));
                return Reply::frames(receiver);
            }
            (true, how) => {
                let all = self.of(plural);
                all.iter().for_each(|object| drop(sender.send(Ok(line("ADDED", object)))));
                if how == Streaming::Yes {
                    drop(sender.send(Ok(bookmark(plural, self.version, true))));
                }
            }
            (false, _) => {
                let version: u64 = version.expect("a version to begin at");
                if version < self.floor {
                    return Reply::of_status(410, "too old resource version", None);
                }
                let since = self.events.iter().filter(|(at, of, _)| *at > version && of == plural);
                since.for_each(|(.., line)| drop(sender.send(Ok(line.clone()))));
            }
        }
        self.watches.push((plural.into(), sender));
        Reply::frames(receiver)
    }

    fn hold(&mut self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.held.push(sender);
        self.held_most = self.held_most.max(self.held.len());
        receiver
    }

    /// The answer to an access review.
    fn review(&self, body: &[u8]) -> Reply {
        let mut review: Value = serde_json::from_slice(body).expect("a review");
        let asked = &review["spec"]["resourceAttributes"];
        let word = |key: &str| asked[key].as_str().expect("a word");
        let asked = format!("{} {}", word("verb"), word("resource"));
        review["status"] = json!({"allowed": !self.denied.contains(&asked)});
        Reply::whole(201, review.to_string())
    }

    fn answer(&mut self, request: &Parts, body: &[u8]) -> Reply {
        let target = request.uri.to_string();
        let query: HashMap<String, String> = pairs(request.uri.query().unwrap_or_default());
        let plural = request.uri.path().rsplit('/').next().unwrap_or_default().to_owned();
        let watch = query.get("watch").is_some_and(|watch| watch == "true");
        let token = request.headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap());
        self.requests.push(target);
        self.tokens.push(token.map(str::to_owned));
        if self.lacking.contains(&plural) {
            return Reply::whole(404, "404 page not found\n".into());
        }
        let faults = self.faults.get_mut(&(plural.clone(), if watch { "watch" } else { "list" }));
        let fault = faults.and_then(VecDeque::pop_front);
        if let Some(Fault::Status(code, after)) = fault {
            return Reply::of_status(code, "made to fail", after);
        }
        if let Some(Fault::TooNew) = fault {
            let words = "Too large resource version: 102, current: 1";
            return Reply::of_status(504, words, Some(0));
        }
        let wanted = self.wanted_token.as_ref().map(|token| format!("Bearer {token}"));
        if wanted.is_some() && token != wanted.as_deref() {
            return Reply::of_status(401, "Unauthorized", None);
        }
        if request.method == Method::POST {
            return self.review(body);
        }
        if let Some(body) = self.paths.get(request.uri.path()) {
            return Reply::whole(200, body.clone());
        }
        let mut reply =
            if watch { self.watch(&plural, &query) } else { self.list(&plural, &query) };
        match fault {
            Some(Fault::Slow) => reply.piece = 1,
            Some(Fault::Torn(after)) => reply.tear(after),
            Some(Fault::Hang) => reply.hangs = true,
            Some(Fault::Held) => reply.held = Some(self.hold()),
            _ => {}
        }
        reply
    }
}

/// The pairs of a query, decoded.
fn pairs(query: &str) -> HashMap<String, String> {
    let decode = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            bytes.push(match byte {
                b'%' => {
                    let hex = [rest.next().unwrap(), rest.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap()
                }
                other => other,
            });
        }
        String::from_utf8(bytes).unwrap()
    };
    let split = query.split('&').filter_map(|pair| pair.split_once('='));
    split.map(|(key, value)| (decode(key), decode(value))).collect()
}

struct Reply {
    code: u16,
    after: Option<u64>,
    frames: UnboundedReceiver<io::Result<Bytes>>,
    /// Octets of a piece.
    piece: usize,
    /// Octets that are sent before the connection breaks.
    torn: Option<usize>,
    rest: Bytes,
    /// Whether not even its head is sent.
    hangs: bool,
    /// Told when its head may be sent.
    held: Option<oneshot::Receiver<()>>,
}

impl Reply {
    fn frames(frames: UnboundedReceiver<io::Result<Bytes>>) -> Self {
        let rest = Bytes::new();
        let (hangs, held) = (false, None);
        Self { code: 200, after: None, frames, piece: usize::MAX, torn: None, rest, hangs, held }
    }

    fn whole(code: u16, body: String) -> Self {
        let (sender, receiver) = unbounded_channel();
        drop(sender.send(Ok(body.into())));
        Self { code, ..Self::frames(receiver) }
    }

    fn of_status(code: u16, message: &str, after: Option<u64>) -> Self {
        Self { after, ..Self::whole(code, status(code, message).to_string()) }
    }

    fn tear(&mut self, after: usize) {
        self.torn = Some(after);
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.torn == Some(0) {
            return Poll::Ready(Some(Err(io::ErrorKind::BrokenPipe.into())));
        }
        if self.rest.is_empty() {
            match std::task::ready!(self.frames.poll_recv(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(more)) => self.rest = more,
            }
        }
        let most = self.piece.min(self.torn.unwrap_or(usize::MAX)).min(self.rest.len());
        let piece = self.rest.split_to(most);
        if let Some(torn) = &mut self.torn {
            *torn -= most;
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, state: Arc<Mutex<State>>) {
    let _ = stream.set_nodelay(true);
    match tls {
        None => serve(stream, state).await,
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                serve(stream, state).await;
            }
        }
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, state: Arc<Mutex<State>>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let state = Arc::clone(&state);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map_or_else(|_| Bytes::new(), |body| body.to_bytes());
            let mut reply = lock(&state).answer(&head, &body);
            if let Some(held) = reply.held.take() {
                drop(held.await);
            }
            if reply.hangs {
                std::future::pending::<()>().await;
            }
            let mut response =
                Response::builder().status(reply.code).header(CONTENT_TYPE, "application/json");
            if let Some(after) = reply.after {
                response = response.header(RETRY_AFTER, after);
            }
            Ok::<_, Infallible>(response.body(reply).expect("a response"))
        }
    });
    let http = hyper::server::conn::http1::Builder::new();
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}
