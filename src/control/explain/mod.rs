//! `corelane explain NAME [TYPE]`: the way of a question, told step by step.
//!
//! The question goes through the real gate, route and chain, and is asked of the real upstreams: the code
//! that serves clients, with marks ([`data::demand`](crate::data::demand)). Nothing is interpreted a second
//! time. [`offline`] compiles a Corefile and walks the question in this process; nothing is listened on,
//! no command of `on` runs, nothing is logged. [`live`] has a running server walk it. [`pod`] asks as a pod's
//! resolver would, name by name. [`asked`] is what a question is and how it is asked, [`report`] puts what a worker has told into words, [`print`]
//! lays them out.

pub mod asked;
pub mod live;
mod offline;
pub mod pod;
mod print;
pub mod report;

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::args::Explain;
use super::logging;
use super::resolver::Resolver;
use crate::data::demand::{Demand, Unwalked, Walked};
use crate::limits::WALK_NANOS_MAX;
use crate::mail::{Mail, Mailbox};
use asked::Asked;
use pod::Way;
use report::Report;

/// All that is told.
#[derive(Debug, Serialize)]
pub struct Explained {
    /// Questions, in the order in which they were walked.
    pub reports: Vec<Report>,
    /// The resolver of the pod that asks: where one was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolver: Option<Resolver>,
    /// Which of them each C library asks there.
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
    let asked = Asked::new(wanted)?;
    let asking = match &wanted.server {
        Some(server) => Asking::There(server.clone()),
        None => Asking::Here(Box::new(offline::Server::start(wanted).await?)),
    };
    if pod::is_wanted(wanted) {
        return pod::ask(wanted, &asking).await;
    }
    let reports = vec![asking.ask(&asked).await?];
    Ok(Explained { reports, resolver: None, ways: Vec::new() })
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
        message: asked.message().into(),
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
