//! The HTTP side doors: health, readiness, metrics. One small thread of its own serves them all.
//!
//! Control says with [`Admin::set`] which addresses are wanted with which routes; the rest follows:
//! what is new is bound first and all or nothing, what stays keeps its socket (no moment without
//! a listener), what is gone is closed last. Endpoints on the same address are one listener with the
//! routes of all; of equal paths the first one's route answers.
//!
//! Guarantees: a stuck or hostile client holds up nobody: every read of a request head, every
//! write and every idle connection ends after `ADMIN_TIMEOUT_SECONDS`, heads and connections are
//! bounded. A route that panics costs its connection only. Neither workers nor control wait for
//! this thread but in `set`. HTTP/1.0 and 1.1 (RFC 9112). What an endpoint's web configuration file
//! asks for (TLS, a password) holds for all endpoints on its address.
//!
//! Cost: nothing while nobody asks. Addresses are read as Go reads them: every wildcard (`:8080`,
//! `0.0.0.0:8080`) takes both families, a name the first of its addresses, IPv4 before IPv6.

mod address;
mod password;
mod poll;
pub mod process;
mod server;
mod tls;
mod web;
mod workers;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

pub use address::split_host_port;
pub use poll::SelfPoll;
use server::{Command, Server, Table};
use tokio::sync::oneshot;
use web::Web;

#[allow(clippy::disallowed_types, reason = "control's: held while addresses are bound")]
type Live = std::sync::Mutex<BTreeMap<SocketAddr, Open>>;

/// The handle to the admin thread, which ends with it.
pub struct Admin {
    server: Server,
    live: Live,
}

/// What is open on an address.
struct Open {
    /// Where the socket is: the address, its port chosen by the kernel if that was 0.
    bound: SocketAddr,
    /// The socket, which is what a successor is given.
    socket: TcpListener,
    table: Arc<arc_swap::ArcSwap<Table>>,
}

/// What shall be served on one address.
#[derive(Clone)]
pub struct Endpoint {
    /// For the log: "metrics", "health".
    pub name: &'static str,
    /// As in the Corefile: `:8080`, `localhost:9153`, `[::1]:8080`.
    pub address: String,
    /// Paths, each with what answers there. All others are 404.
    pub routes: Vec<(&'static str, Arc<dyn Route>)>,
    /// Whether it is an error if the address cannot be had. If not, that is logged, the rest works.
    pub required: bool,
    /// Asks the endpoint itself once a second, if that is wanted.
    pub poll: Option<SelfPoll>,
    /// The web configuration file, if it has one: TLS, passwords. One that cannot be used is logged,
    /// and nothing is served on the address.
    pub web: Option<PathBuf>,
}

/// An answer to come.
pub type Later = std::pin::Pin<Box<dyn Future<Output = Response> + Send>>;

/// Answers requests for one path.
pub trait Route: Send + Sync {
    /// The answer. Runs on the admin thread: it may take a lock that control holds briefly, not wait.
    fn answer(&self, request: &Request<'_>) -> Response;

    /// An answer that has to be waited for, instead of `answer`'s.
    fn later(&self, _request: &Request<'_>) -> Option<Later> {
        None
    }

    /// Whether another one for the same path on the same address, which does not, answers instead.
    fn yields(&self) -> bool {
        false
    }
}

/// What a route may look at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// Path, `/metrics`.
    pub path: &'a str,
    /// Query without its question mark, empty if there is none.
    pub query: &'a str,
    /// The Accept header, empty if there is none.
    pub accept: &'a str,
    /// The Host header, empty if there is none.
    pub host: &'a str,
    /// Whether the client is on this host, or in this pod: it comes by the loopback interface.
    pub is_local: bool,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Content-Type.
    pub content_type: &'static str,
    /// Content.
    pub body: String,
}

impl Response {
    /// Plain text.
    pub fn text(status: u16, body: impl Into<String>) -> Response {
        Response { status, content_type: "text/plain; charset=utf-8", body: body.into() }
    }
}

/// An address that could not be had.
#[derive(Debug)]
pub struct AdminError {
    /// The address as it is in the Corefile.
    pub address: String,
    /// What is wrong, in the words of Go: `listen tcp 127.0.0.1:9153: bind: address already in use`.
    pub message: String,
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for AdminError {}

/// One address of what is wanted: everything that was asked for on it.
struct Wanted {
    first: Endpoint,
    web: Option<PathBuf>,
    required: bool,
    table: Table,
}

impl Wanted {
    /// Reads its web configuration file; false if that cannot be used, which is logged.
    fn configure(&mut self) -> bool {
        let Some(path) = &self.web else { return true };
        match Web::load(path) {
            Ok(web) => self.table.web = Some(Arc::new(web)),
            Err(error) => {
                tracing::error!("{error}");
                return false;
            }
        }
        true
    }
}

impl Admin {
    /// Starts the thread; it listens nowhere yet.
    pub fn start() -> io::Result<Admin> {
        Ok(Admin { server: Server::start()?, live: Live::default() })
    }

    /// Makes the endpoints those `wanted`, and only those. On an error everything is as it was.
    pub fn set(&self, wanted: Vec<Endpoint>) -> Result<(), AdminError> {
        self.adopt(wanted, &mut Vec::new())
    }

    /// As `set`, with sockets that another process has opened: those of the addresses that are wanted
    /// are taken, and what waits in them is answered here.
    pub fn adopt(
        &self,
        wanted: Vec<Endpoint>,
        given: &mut Vec<(SocketAddr, TcpListener)>,
    ) -> Result<(), AdminError> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wanted = merge(wanted)?;
        wanted.retain(|_, want| want.configure());
        let mut command = Command::default();
        let mut opened = Vec::new();
        for (at, want) in &wanted {
            if live.contains_key(at) {
                continue;
            }
            let had = given.iter().position(|(other, _)| other == at);
            let had = had.map(|index| Ok(given.swap_remove(index).1));
            let listener = had.unwrap_or_else(|| address::bind(*at, &want.first.address));
            let both = listener.and_then(|listener| {
                let socket = listener.try_clone();
                socket.map(|socket| (listener, socket)).map_err(|error| AdminError {
                    address: want.first.address.clone(),
                    message: format!("listen tcp {at}: {error}"),
                })
            });
            match both {
                Ok((listener, socket)) => {
                    let bound = listener.local_addr().unwrap_or(*at);
                    let table = Arc::new(arc_swap::ArcSwap::from_pointee(want.table.clone()));
                    command.open.push((*at, listener, Arc::clone(&table)));
                    opened.push((*at, Open { bound, socket, table }));
                }
                Err(error) if want.required => return Err(error),
                Err(error) => {
                    tracing::error!("Failed to start {} handler: {error}", want.first.name);
                }
            }
        }
        command.close = live.keys().copied().filter(|at| !wanted.contains_key(at)).collect();
        let close = command.close.clone();
        self.server.run(command).map_err(|error| AdminError {
            address: opened.first().map_or(String::new(), |(at, _)| at.to_string()),
            message: format!("listen tcp: {error}"),
        })?;
        close.iter().for_each(|at| drop(live.remove(at)));
        for (at, want) in wanted {
            if let Some(open) = live.get(&at) {
                open.table.store(Arc::new(want.table));
            }
        }
        live.extend(opened);
        Ok(())
    }

    /// What is listened on: the address as the Corefile has it, and another descriptor of its socket.
    pub fn sockets(&self) -> Vec<(SocketAddr, TcpListener)> {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let all = live.iter().map(|(at, open)| Some((*at, open.socket.try_clone().ok()?)));
        all.flatten().collect()
    }

    /// Leaves what comes from now on to the process that has the sockets; returns when what has come
    /// is answered, or takes too long.
    pub async fn hand_on(&self) {
        let (handed_on, answered) = oneshot::channel();
        {
            let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
            let close = std::mem::take(&mut *live).into_keys().collect();
            let command = Command { close, handed_on: Some(handed_on), ..Command::default() };
            if self.server.run(command).is_err() {
                return;
            }
        }
        drop(answered.await);
    }

    /// Where it listens now.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.values().map(|open| open.bound).collect()
    }
}

/// Endpoints by address, those of the same address as one.
fn merge(wanted: Vec<Endpoint>) -> Result<BTreeMap<SocketAddr, Wanted>, AdminError> {
    let mut merged: BTreeMap<SocketAddr, Wanted> = BTreeMap::new();
    for endpoint in wanted {
        let at = match address::resolve(&endpoint.address) {
            Ok(at) => at,
            Err(error) if endpoint.required => return Err(error),
            Err(error) => {
                tracing::error!("Failed to start {} handler: {error}", endpoint.name);
                continue;
            }
        };
        let (routes, poll) = (endpoint.routes.clone(), endpoint.poll.clone());
        let web = endpoint.web.clone();
        let want = merged.entry(at).or_insert_with(|| Wanted {
            web: None,
            required: false,
            table: Table::default(),
            first: endpoint.clone(),
        });
        want.required |= endpoint.required;
        for (path, route) in routes {
            match want.table.routes.iter_mut().find(|(known, _)| *known == path) {
                None => want.table.routes.push((path, route)),
                Some((_, held)) if held.yields() && !route.yields() => *held = route,
                Some(_) => {}
            }
        }
        want.table.poll = want.table.poll.take().or(poll);
        want.web = want.web.take().or(web);
    }
    Ok(merged)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod web_tests;
