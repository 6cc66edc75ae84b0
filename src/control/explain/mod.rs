//! `corelane explain NAME [TYPE]`: the way of a question, told step by step.
//!
//! The question goes through the real gate, route and chain, and is asked of the real upstreams: the code
//! that serves clients, with marks ([`data::demand`](crate::data::demand)). Nothing is interpreted a second
//! time. [`offline`] compiles a Corefile and walks the question in this process; nothing is listened on,
//! no command of `on` runs, nothing is logged. [`live`] has a running server walk it. [`pod`] asks as a pod's
//! resolver would, name by name. [`report`] puts what a worker has told into words, [`print`]
//! lays them out.

pub mod live;
mod offline;
pub mod pod;
mod print;
pub mod report;

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::args::Explain;
use super::logging;
use crate::data::chain::Transport;
use crate::data::demand::{Demand, Unwalked, Walked};
use crate::limits::WALK_NANOS_MAX;
use crate::mail::{Mail, Mailbox};
use crate::wire::{Flags, HEADER_BYTES, NameBuf, Rtype, rclass, rtype};
use pod::Way;
use report::Report;

/// The port of a client that names none.
const CLIENT_PORT: u16 = 40_000;

/// A question, and how it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The name, as it is written.
    pub name: NameBuf,
    /// The type.
    pub rtype: Rtype,
    /// Who asks.
    pub from: SocketAddr,
    /// Where; none: at the first listener.
    pub at: Option<SocketAddr>,
    /// How.
    pub transport: Transport,
}

/// All that is told.
#[derive(Debug, Serialize)]
pub struct Explained {
    /// Questions, in the order in which they were walked.
    pub reports: Vec<Report>,
    /// Which of them each C library asks: where a pod's resolver was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ways: Vec<Way>,
}

/// Who walks the questions.
enum Asking {
    /// This process, by a Corefile.
    Here(Box<offline::Server>),
    /// The server with health at this address.
    There(String),
}

impl Asking {
    async fn ask(&self, asked: &Asked) -> Result<Report, String> {
        match self {
            Self::Here(server) => server.ask(asked).await,
            Self::There(server) => live::ask(server, asked).await,
        }
    }
}

/// Explains what is wanted; gives the exit status: 0 if a reply was sent, 1 if none was or nothing could
/// be asked.
///
/// # Errors
/// `out` cannot be written to.
pub async fn run(wanted: &Explain, out: &mut dyn Write) -> io::Result<u8> {
    logging::to_stderr();
    let explained = match explain(wanted).await {
        Ok(explained) => explained,
        Err(message) => {
            logging::fatal(&format_args!("explain: {message}"));
            return Ok(1);
        }
    };
    if wanted.json {
        serde_json::to_writer_pretty(&mut *out, &explained)?;
        writeln!(out)?;
    } else {
        print::print(&explained, out)?;
    }
    let is_answered = explained.reports.last().is_some_and(|report| report.reply.is_some());
    Ok(u8::from(!is_answered))
}

async fn explain(wanted: &Explain) -> Result<Explained, String> {
    let asked = asked(wanted)?;
    let asking = match &wanted.server {
        Some(server) => Asking::There(server.clone()),
        None => Asking::Here(Box::new(offline::Server::start(wanted).await?)),
    };
    if pod::is_wanted(wanted) {
        let (reports, ways) = pod::ask(wanted, &asking).await?;
        return Ok(Explained { reports, ways });
    }
    Ok(Explained { reports: vec![asking.ask(&asked).await?], ways: Vec::new() })
}

/// What the command line asks for.
fn asked(wanted: &Explain) -> Result<Asked, String> {
    let name = NameBuf::parse(&wanted.name);
    let name = name.map_err(|error| format!("{}: not a name: {error}", wanted.name))?;
    let kind = wanted.rtype.as_deref().unwrap_or("A");
    let rtype = rtype::parse(kind).ok_or_else(|| format!("{kind}: not a type"))?;
    let from = client(wanted.from.as_deref().unwrap_or("127.0.0.1"))?;
    let at = wanted.at.as_deref().map(address).transpose()?;
    let transport = if wanted.tcp { Transport::Tcp } else { Transport::Udp };
    Ok(Asked { name, rtype, from, at, transport })
}

/// `ADDRESS` or `ADDRESS:PORT` of a client.
fn client(text: &str) -> Result<SocketAddr, String> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let alone = bare.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, CLIENT_PORT));
    alone.or_else(|_| text.parse()).map_err(|_| format!("{text}: not an IP address"))
}

/// `:PORT` or `ADDRESS:PORT` of a listener.
fn address(text: &str) -> Result<SocketAddr, String> {
    let whole = if text.starts_with(':') { format!("[::]{text}") } else { text.to_owned() };
    whole.parse().map_err(|_| format!("{text}: not :PORT or ADDRESS:PORT"))
}

/// Has a worker walk the question.
///
/// # Errors
/// One line: it could not be walked.
pub async fn walk(mailbox: &Mailbox, asked: &Asked) -> Result<Walked, String> {
    let (done, told) = oneshot::channel();
    let demand = Demand {
        peer: asked.from,
        transport: asked.transport,
        at: asked.at,
        message: query(&asked.name, asked.rtype).into(),
        done,
    };
    let busy = || "the server is busy with another question; try again".to_owned();
    if !mailbox.send(Mail::Demand(Box::new(demand))) {
        return Err(busy());
    }
    let patience = Duration::from_nanos(3 * WALK_NANOS_MAX);
    match timeout(patience, told).await {
        Ok(Ok(Ok(walked))) => Ok(walked),
        Ok(Ok(Err(Unwalked::NoListener(all)))) => {
            let all: Vec<String> = all.into_iter().map(report::listener).collect();
            Err(format!("nothing listens there; it is listened on {}", all.join(", ")))
        }
        Ok(Ok(Err(Unwalked::Busy))) | Ok(Err(_)) => Err(busy()),
        Err(_) => Err("the question has not come to its end".into()),
    }
}

/// A query as a resolver in a pod sends it: recursion desired, no EDNS.
pub fn query(name: &NameBuf, rtype: Rtype) -> Vec<u8> {
    let mut message = vec![0; HEADER_BYTES];
    message[2..4].copy_from_slice(&Flags::default().with_rd(true).0.to_be_bytes());
    message[5] = 1;
    message.extend_from_slice(name.as_name().as_bytes());
    message.extend_from_slice(&rtype.to_be_bytes());
    message.extend_from_slice(&rclass::IN.to_be_bytes());
    message
}
