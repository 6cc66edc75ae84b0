//! One request to the API server: sent, counted, bounded in time, its refusal understood.
//!
//! The client is `kube`'s: it connects, checks certificates and adds credentials. It is made when it
//! is first needed, and anew after the server did not accept it or we did not accept the server:
//! tokens, kubeconfig and authorities are read again then. Bodies are handed on as they arrive.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, RETRY_AFTER, USER_AGENT};
use hyper::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde::Deserialize;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, sleep_until, timeout};

use super::config::Connect;
use super::metrics::Requests;
use super::trouble::Trouble;
use crate::limits::KUBE_ENVELOPE_BYTES_MAX;
use crate::plugin::site::blocking;

/// How hard the API server may be asked; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// `apiserver_qps`: lists a second.
    pub qps: f32,
    /// `apiserver_burst`: lists at once before `qps` counts.
    pub burst: usize,
    /// `apiserver_max_inflight`: requests that may wait for their answer.
    pub inflight: usize,
}

/// What client-go takes where only the other of `qps` and `burst` is given.
const USUAL_QPS: f32 = 5.0;
const USUAL_BURST: usize = 10;

/// The API server.
pub struct Api {
    connect: Connect,
    limits: Limits,
    /// How long an answer may take to begin.
    patience: Duration,
    requests: Requests,
    live: Mutex<Option<Live>>,
    /// Turns on the `qps`, as the time at which the next free one was used up.
    next: Mutex<Option<Instant>>,
    inflight: Option<Semaphore>,
}

/// A client that has been made.
#[derive(Clone)]
struct Live {
    client: Client,
    host: Arc<str>,
}

/// A refusal's body.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub code: u16,
    pub message: String,
    pub reason: String,
    pub details: Details,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Details {
    retry_after_seconds: u64,
}

impl Status {
    /// What it means. `after` is the header that says when to come back, in seconds.
    pub fn trouble(self, after: Option<u64>) -> Trouble {
        let after = after.or(Some(self.details.retry_after_seconds).filter(|after| *after > 0));
        match (self.code, after) {
            (401, _) => Trouble::Unauthorized,
            (403, _) => Trouble::Forbidden(self.message),
            (404, _) => Trouble::Missing(self.message),
            (410, _) => Trouble::Gone,
            (429, after) => Trouble::TooMany(Duration::from_secs(after.unwrap_or(1))),
            // It wants to be asked again too; but waiting does not help where versions began anew.
            (504, _) if self.message.starts_with("Too large resource version") => Trouble::TooNew,
            (503 | 504, Some(after)) => Trouble::TooMany(Duration::from_secs(after)),
            (code, _) => Trouble::Status(code, self.message),
        }
    }
}

/// An answer whose body is still to come.
pub struct Answer {
    body: Response<Body>,
    host: Arc<str>,
    began: Instant,
}

impl Answer {
    /// The next octets; none at the end of the body.
    ///
    /// # Errors
    /// The connection broke, or nothing came within `patience`.
    pub async fn chunk(&mut self, patience: Duration) -> Result<Option<Bytes>, Trouble> {
        loop {
            let frame = timeout(patience, self.body.body_mut().frame()).await;
            match frame.map_err(|_| Trouble::TimedOut)? {
                None => return Ok(None),
                Some(Err(error)) => return Err(Trouble::of_error(&error)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

impl Api {
    /// Not connected yet.
    pub fn new(connect: Connect, limits: Limits, patience: Duration, requests: Requests) -> Self {
        Self {
            connect,
            limits,
            patience,
            requests,
            live: Mutex::new(None),
            next: Mutex::new(None),
            inflight: (limits.inflight > 0).then(|| Semaphore::new(limits.inflight)),
        }
    }

    /// Has the client made anew, with what the files say then, before the next request.
    pub async fn forget(&self) {
        *self.live.lock().await = None;
    }

    /// The client; everybody waits for the one that makes it.
    async fn live(&self) -> Result<Live, Trouble> {
        let mut live = self.live.lock().await;
        if let Some(live) = &*live {
            return Ok(live.clone());
        }
        let connect = self.connect.clone();
        // Reads files, may run a credential plugin: not on control's thread.
        let made = blocking(move || {
            let config = connect.config().map_err(Trouble::Config)?;
            let host = config.cluster_url.authority().map_or("", |authority| authority.as_str());
            let host = Arc::from(host);
            let client =
                Client::try_from(config).map_err(|error| match Trouble::of_error(&error) {
                    Trouble::Broken(_) => Trouble::Config(error.to_string()),
                    other => other,
                })?;
            Ok(Live { client, host })
        });
        let made = made.await.map_err(|_| Trouble::Config("no client could be made".into()))??;
        *live = Some(made.clone());
        Ok(made)
    }

    /// Asks for `target`, a path with its query.
    ///
    /// # Errors
    /// There was no answer in time, or it was no 200.
    pub async fn get(&self, target: &str) -> Result<Answer, Trouble> {
        let live = self.live().await?;
        let request = Request::get(target)
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("corelane/", env!("CARGO_PKG_VERSION")))
            .body(Body::empty())
            .map_err(|error| Trouble::Config(format!("{target}: {error}")))?;
        let turn = match &self.inflight {
            Some(inflight) => inflight.acquire().await.ok(),
            None => None,
        };
        let began = Instant::now();
        let sent = timeout(self.patience, live.client.send(request)).await;
        drop(turn);
        let body = match sent {
            Ok(Ok(body)) => body,
            Ok(Err(error)) => {
                self.requests.done(None, &live.host);
                return Err(Trouble::of_error(&error));
            }
            Err(_) => {
                self.requests.done(None, &live.host);
                return Err(Trouble::TimedOut);
            }
        };
        let status = body.status();
        self.requests.done(Some(status.as_u16()), &live.host);
        let answer = Answer { body, host: live.host, began };
        if status.is_success() { Ok(answer) } else { Err(refusal(answer, self.patience).await) }
    }

    /// Waits until `qps` lets a list through, and asks for it.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_list(&self, target: &str) -> Result<Answer, Trouble> {
        let waited = self.turn().await;
        let answer = self.get(target).await?;
        self.requests.limited(waited, &answer.host);
        Ok(answer)
    }

    /// The whole of a list has arrived.
    pub fn listed(&self, answer: &Answer) {
        self.requests.listed(answer.began.elapsed(), &answer.host);
    }

    /// Waits for a turn on the `qps`; gives how long it took.
    async fn turn(&self) -> Duration {
        let Limits { qps, burst, .. } = self.limits;
        if qps <= 0.0 && burst == 0 {
            return Duration::ZERO;
        }
        let qps = if qps > 0.0 { qps } else { USUAL_QPS };
        let burst = if burst > 0 { burst } else { USUAL_BURST };
        let gap = Duration::from_secs_f32(1.0 / qps.max(1e-3));
        let now = Instant::now();
        let due = {
            let mut next = self.next.lock().await;
            let earliest = now.checked_sub(gap * (burst as u32 - 1)).unwrap_or(now);
            let due = next.map_or(earliest, |next| next.max(earliest));
            *next = Some(due + gap);
            due
        };
        sleep_until(due).await;
        now.elapsed()
    }
}

/// What a status other than 200 means.
async fn refusal(mut answer: Answer, patience: Duration) -> Trouble {
    let code = answer.body.status().as_u16();
    let after = answer.body.headers().get(RETRY_AFTER);
    let after = after.and_then(|after| after.to_str().ok()?.trim().parse().ok());
    let mut text = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk(patience).await {
        text.extend_from_slice(&chunk);
        if text.len() > KUBE_ENVELOPE_BYTES_MAX {
            break;
        }
    }
    let status: Result<Status, _> = serde_json::from_slice(&text);
    let mut status = status.unwrap_or_else(|_| {
        // No Status: a proxy's page. Its first line says enough.
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().next().unwrap_or_default();
        Status { message: line.chars().take(200).collect(), ..Status::default() }
    });
    status.code = code;
    status.trouble(after)
}
