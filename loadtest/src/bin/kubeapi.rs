//! `kubeapi`: the API server of a synthetic cluster, for what a DNS server costs beside it.
//!
//! It serves LIST (with pages) and WATCH (with streaming lists and bookmarks) of namespaces, services
//! and endpoint slices over plain HTTP, in JSON, on loopback. By `GET /synthetic/expire` all history
//! is forgotten (410) and every client lists again; `/synthetic/churn?rate=N` changes N slices a
//! second; `/synthetic/stats` tells how often what was asked.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use http_body_util::channel::{Channel, Sender};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use loadtest::synthetic::{Cluster, Kind, Size};
use tokio::sync::broadcast::{self, error::RecvError};

/// Octets that are handed to a connection at a time.
const CHUNK_LEN: usize = 64 << 10;
/// Events that a slow watch may fall behind; then its history is gone (410).
const EVENTS_MAX: usize = 65_536;
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(10);
/// Changes are told in so many steps a second.
const CHURN_STEPS: u32 = 100;

/// Serves a synthetic cluster as a Kubernetes API server would.
#[derive(Parser)]
struct Options {
    /// Where to listen.
    address: SocketAddr,
    #[arg(long, default_value_t = 10_000)]
    services: u32,
    /// Endpoints of each service.
    #[arg(long, default_value_t = 10)]
    endpoints: u32,
    /// Share of services that are headless.
    #[arg(long, default_value_t = 0.1)]
    headless: f64,
    #[arg(long, default_value_t = 100)]
    per_slice: u32,
    #[arg(long, default_value_t = 20)]
    namespaces: u32,
}

/// What a watch is told.
#[derive(Clone)]
enum Event {
    /// A slice changed: the line of the event.
    Slice(Bytes),
    /// All history is forgotten.
    Expired,
}

struct Api {
    cluster: Mutex<Cluster>,
    /// Versions below are forgotten.
    oldest: Mutex<u64>,
    events: broadcast::Sender<Event>,
    churn: tokio::sync::watch::Sender<u32>,
    asked: Mutex<HashMap<String, u64>>,
}

type Body = BoxBody<Bytes, Infallible>;

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map(|runtime| runtime.block_on(serve(&options))) {
        Ok(Ok(never)) => match never {},
        Ok(Err(error)) | Err(error) => {
            eprintln!("kubeapi: {}: {error}", options.address);
            ExitCode::FAILURE
        }
    }
}

async fn serve(options: &Options) -> std::io::Result<Infallible> {
    let size = Size {
        namespaces: options.namespaces.max(1),
        services: options.services,
        headless: (f64::from(options.services) * options.headless) as u32,
        endpoints: options.endpoints,
        per_slice: options.per_slice.max(1),
    };
    let api = Arc::new(Api {
        cluster: Mutex::new(Cluster::new(size)),
        oldest: Mutex::new(0),
        events: broadcast::channel(EVENTS_MAX).0,
        churn: tokio::sync::watch::channel(0).0,
        asked: Mutex::default(),
    });
    tokio::spawn(change(Arc::clone(&api)));
    let listener = tokio::net::TcpListener::bind(options.address).await?;
    println!("kubeapi: {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let api = Arc::clone(&api);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(Arc::clone(&api), request));
            let io = TokioIo::new(stream);
            // A client that goes away in the middle is no event.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
        });
    }
}

/// Changes slices at the rate that was asked for.
async fn change(api: Arc<Api>) {
    let mut rate = api.churn.subscribe();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / CHURN_STEPS);
    let (mut due, mut random) = (0.0, 0x9e37_79b9_u32);
    loop {
        if *rate.borrow() == 0 && rate.changed().await.is_err() {
            return;
        }
        ticks.tick().await;
        due += f64::from(*rate.borrow()) / f64::from(CHURN_STEPS);
        while due >= 1.0 {
            due -= 1.0;
            let mut cluster = api.cluster.lock().expect("nobody panics with it");
            let mut next = || {
                random ^= random << 13;
                random ^= random >> 17;
                random ^= random << 5;
                random
            };
            let slice = next() % cluster.count(Kind::Slices);
            cluster.flip(slice, next());
            let mut line = String::from(r#"{"type":"MODIFIED","object":"#);
            cluster.write(Kind::Slices, slice, &jiff::Timestamp::now().to_string(), &mut line);
            line.push_str("}\n");
            // No watch is no error.
            let _ = api.events.send(Event::Slice(line.into()));
        }
    }
}

async fn answer(api: Arc<Api>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let query: HashMap<&str, &str> = request
        .uri()
        .query()
        .into_iter()
        .flat_map(|query| query.split('&'))
        .filter_map(|pair| pair.split_once('='))
        .collect();
    let path = request.uri().path();
    if let Some(kind) = Kind::of_path(path) {
        let is_watch = matches!(query.get("watch"), Some(&("1" | "true")));
        let verb = if is_watch { "watch" } else { "list" };
        let mut asked = api.asked.lock().expect("nobody panics with it");
        *asked.entry(format!("{verb} {}", kind.names().1)).or_default() += 1;
        drop(asked);
        return Ok(if is_watch { watch(api, kind, &query) } else { list(api, kind, &query) });
    }
    Ok(match path {
        "/version" => json(StatusCode::OK, r#"{"major":"1","minor":"34","gitVersion":"v1.34.0"}"#),
        "/synthetic/expire" => {
            let version = {
                let mut cluster = api.cluster.lock().expect("nobody panics with it");
                cluster.version += 1;
                cluster.version
            };
            *api.oldest.lock().expect("nobody panics with it") = version;
            let _ = api.events.send(Event::Expired);
            json(StatusCode::OK, "{}")
        }
        "/synthetic/churn" => {
            let rate = query.get("rate").and_then(|rate| rate.parse().ok()).unwrap_or(0);
            let _ = api.churn.send(rate);
            json(StatusCode::OK, "{}")
        }
        "/synthetic/stats" => {
            let asked = api.asked.lock().expect("nobody panics with it");
            json(StatusCode::OK, &serde_json::to_string(&*asked).unwrap_or_default())
        }
        _ => json(StatusCode::NOT_FOUND, &status(404, "NotFound")),
    })
}

fn json(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", "application/json".parse().expect("ASCII"));
    response
}

fn status(code: u16, reason: &str) -> String {
    format!(
        "{{\"apiVersion\":\"v1\",\"kind\":\"Status\",\"status\":\"Failure\",\"code\":{code},\
         \"reason\":\"{reason}\",\"message\":\"{reason}\"}}"
    )
}

/// A body that a task writes piece by piece.
fn streamed() -> (Sender<Bytes>, Response<Body>) {
    let (sender, channel) = Channel::new(4);
    let mut response = Response::new(channel.boxed());
    response.headers_mut().insert("content-type", "application/json".parse().expect("ASCII"));
    (sender, response)
}

/// A page of a list; all of it with `resourceVersion=0`, as from an API server's watch cache.
fn list(api: Arc<Api>, kind: Kind, query: &HashMap<&str, &str>) -> Response<Body> {
    let oldest = *api.oldest.lock().expect("nobody panics with it");
    let (count, version) = {
        let cluster = api.cluster.lock().expect("nobody panics with it");
        (cluster.count(kind), cluster.version)
    };
    let token = query.get("continue").and_then(|token| token.split_once('-'));
    let (version, first) = match token {
        Some((version, first)) => (version.parse().unwrap_or(0), first.parse().unwrap_or(0)),
        None => (version, 0),
    };
    if version < oldest {
        return json(StatusCode::GONE, &status(410, "Expired"));
    }
    let whole = token.is_none() && query.get("resourceVersion") == Some(&"0");
    let limit: Option<u32> = query.get("limit").and_then(|limit| limit.parse().ok());
    let end = match limit {
        Some(limit) if limit > 0 && !whole => count.min(limit.saturating_add(first)),
        _ => count,
    };
    let (mut sender, response) = streamed();
    tokio::spawn(async move {
        let (group, name) = kind.names();
        let more = if end < count {
            format!(r#","continue":"{version}-{end}","remainingItemCount":{}"#, count - end)
        } else {
            String::new()
        };
        let mut text = format!(
            "{{\"kind\":\"{name}List\",\"apiVersion\":\"{group}\",\
             \"metadata\":{{\"resourceVersion\":\"{version}\"{more}}},\"items\":["
        );
        for index in first..end {
            if index > first {
                text.push(',');
            }
            write(&api, kind, index, &mut text);
            if text.len() > CHUNK_LEN && flush(&mut sender, &mut text).await.is_err() {
                return;
            }
        }
        text.push_str("]}");
        let _ = flush(&mut sender, &mut text).await;
    });
    response
}

fn write(api: &Api, kind: Kind, index: u32, text: &mut String) {
    let cluster = api.cluster.lock().expect("nobody panics with it");
    cluster.write(kind, index, "2024-01-02T03:04:05Z", text);
}

async fn flush(
    sender: &mut Sender<Bytes>,
    text: &mut String,
) -> Result<(), http_body_util::channel::SendError> {
    sender.send_data(std::mem::take(text).into()).await
}

/// Events of a kind from a version on, after the objects themselves where they are asked for.
fn watch(api: Arc<Api>, kind: Kind, query: &HashMap<&str, &str>) -> Response<Body> {
    let initial = query.get("sendInitialEvents") == Some(&"true");
    let from: u64 = query.get("resourceVersion").and_then(|text| text.parse().ok()).unwrap_or(0);
    // Before anything is written, so that no change is lost between the two.
    let mut events = api.events.subscribe();
    if !initial && from != 0 && from < *api.oldest.lock().expect("nobody panics with it") {
        return json(StatusCode::GONE, &status(410, "Expired"));
    }
    let (mut sender, response) = streamed();
    tokio::spawn(async move {
        if initial && send_all(&api, kind, &mut sender).await.is_err() {
            return;
        }
        let mut bookmarks = tokio::time::interval(BOOKMARK_INTERVAL);
        bookmarks.reset();
        loop {
            let line = tokio::select! {
                _ = bookmarks.tick() => bookmark(&api, kind, "").into(),
                event = events.recv() => match event {
                    Ok(Event::Slice(line)) if kind == Kind::Slices => line,
                    Ok(Event::Slice(_)) => continue,
                    Ok(Event::Expired) | Err(RecvError::Lagged(_)) => {
                        let gone = status(410, "Expired");
                        let line = format!("{{\"type\":\"ERROR\",\"object\":{gone}}}\n");
                        let _ = sender.send_data(line.into()).await;
                        return;
                    }
                    Err(RecvError::Closed) => return,
                },
            };
            if sender.send_data(line).await.is_err() {
                return;
            }
        }
    });
    response
}

/// A streaming list: every object, and a bookmark that says that it was the last one.
async fn send_all(
    api: &Api,
    kind: Kind,
    sender: &mut Sender<Bytes>,
) -> Result<(), http_body_util::channel::SendError> {
    let count = api.cluster.lock().expect("nobody panics with it").count(kind);
    let mut text = String::new();
    for index in 0..count {
        text.push_str(r#"{"type":"ADDED","object":"#);
        write(api, kind, index, &mut text);
        text.push_str("}\n");
        if text.len() > CHUNK_LEN {
            flush(sender, &mut text).await?;
        }
    }
    text.push_str(&bookmark(api, kind, r#","annotations":{"k8s.io/initial-events-end":"true"}"#));
    flush(sender, &mut text).await
}

fn bookmark(api: &Api, kind: Kind, more: &str) -> String {
    let version = api.cluster.lock().expect("nobody panics with it").version;
    let (group, name) = kind.names();
    format!(
        "{{\"type\":\"BOOKMARK\",\"object\":{{\"kind\":\"{name}\",\"apiVersion\":\"{group}\",\
         \"metadata\":{{\"resourceVersion\":\"{version}\"{more}}}}}}}\n"
    )
}
