//! What a worker has told of a question's way, in words; also as JSON.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::asked::Asked;
use crate::data::chain::marks::{Act, Said, Stood};
use crate::data::chain::{ReplyState, Source};
use crate::data::demand::{Passed, Tried, Walked};
use crate::wire::{
    self, Flags, HEADER_BYTES, OptView, Section, edns, options, rcode, rdata_text, records, rtype,
};

/// The way of a question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub rtype: String,
    /// Who asked.
    pub from: String,
    /// `udp` or `tcp`.
    pub transport: String,
    /// Where it was asked.
    pub listener: String,
    /// Blocks that were tried, in order.
    pub blocks: Vec<Block>,
    /// What happened, in order.
    pub steps: Vec<Step>,
    /// Steps at the end that are not told, since there were too many.
    pub lost: u32,
    /// The reply; none was sent if there is none.
    pub reply: Option<Reply>,
    /// How long it took, microseconds.
    pub micros: f64,
}

/// A block that the route has tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Block {
    /// Its zone that the name is in.
    pub zone: String,
    /// Its view; empty without one.
    pub view: String,
    /// Whether it serves the question.
    pub chosen: bool,
    /// Why, or why not.
    pub why: String,
}

/// A step of the way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// When it began, microseconds since the first.
    pub at: f64,
    /// How long it took, microseconds.
    pub micros: f64,
    /// 0 for the client's question, more for those that plugins ask.
    pub depth: u8,
    /// The zone of the block; empty where no block serves the question.
    pub zone: String,
    /// The plugin; empty at the end of the chain.
    pub plugin: String,
    /// The question that it was about.
    pub question: String,
    /// `serve`, `resume`, `wait`, `past`, `send` or `end`.
    pub act: String,
    /// What the plugin said: `next`, `watch`, `ask`, `fetch`, `send` or `up`; empty if it was not asked.
    pub said: String,
    /// Who was waited for; empty if nobody.
    pub upstream: String,
    /// All that in words.
    pub words: String,
}

/// A reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// Its rcode.
    pub rcode: String,
    /// Flags that are set.
    pub flags: Vec<String>,
    /// Its length in octets.
    pub bytes: usize,
    /// What OPT says, if it is there: the octets of a datagram that are taken, `do`, the options.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edns: Vec<String>,
    /// Its records, but for OPT.
    pub records: Vec<Record>,
}

/// A record of a reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// `answer`, `authority` or `additional`.
    pub section: String,
    /// Whose it is.
    pub name: String,
    /// Seconds.
    pub ttl: u32,
    /// Its type.
    #[serde(rename = "type")]
    pub rtype: String,
    /// What it says.
    pub rdata: String,
}

impl Report {
    /// Puts the way of a question into words.
    pub fn new(asked: &Asked, walked: &Walked) -> Self {
        let steps = walked.steps.iter().enumerate();
        Self {
            name: asked.name.to_string(),
            rtype: rtype::text(asked.rtype).to_string(),
            from: asked.from.to_string(),
            transport: asked.transport.as_str().into(),
            listener: listener(walked.listener),
            blocks: blocks(&walked.tried),
            steps: steps
                .map(|(at, one)| step(one, at.checked_sub(1).map(|at| &walked.steps[at])))
                .collect(),
            lost: walked.lost,
            reply: walked.reply.as_deref().map(reply),
            micros: micros(walked.nanos),
        }
    }
}

/// `:53`, `127.0.0.1:53`: an address as a Corefile has it.
pub fn listener(address: SocketAddr) -> String {
    match address.ip().is_unspecified() {
        true => format!(":{}", address.port()),
        false => address.to_string(),
    }
}

fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1_000.0
}

fn blocks(tried: &[Tried]) -> Vec<Block> {
    let block = |(index, one): (usize, &Tried)| {
        let why = match (one.chosen, index, one.view.is_empty()) {
            (true, 0, true) => "the longest zone there that the name is in",
            (true, 0, false) => {
                "the longest zone there that the name is in; its view admits the query"
            }
            (true, _, true) => "the longest zone that is left",
            (true, _, false) => "its view admits the query",
            (false, _, true) => "passed over",
            (false, ..) => "its view does not admit the query",
        };
        let (zone, view) = (one.zone.to_string(), one.view.to_string());
        Block { zone, view, chosen: one.chosen, why: why.into() }
    };
    tried.iter().enumerate().map(block).collect()
}

fn step(one: &Passed, last: Option<&Passed>) -> Step {
    let act = match one.act {
        Act::Serve => "serve",
        Act::Resume => "resume",
        Act::Past => "past",
        Act::Wait(_) => "wait",
        Act::Send => "send",
        Act::End => "end",
    };
    let said = one.said.map_or("", |said| match said {
        Said::Next => "next",
        Said::Watch => "watch",
        Said::Ask => "ask",
        Said::Fetch => "fetch",
        Said::Send => "send",
        Said::Up => "up",
    });
    Step {
        at: micros(one.at),
        micros: micros(one.nanos),
        depth: one.depth,
        zone: one.zone.map_or(String::new(), |zone| zone.to_string()),
        plugin: one.plugin.into(),
        question: format!("{} {}", one.question.name, rtype::text(one.question.rtype)),
        act: act.into(),
        said: said.into(),
        upstream: one.upstream.as_deref().unwrap_or_default().into(),
        words: words(one, last),
    }
}

/// A step as a sentence without its subject.
fn words(one: &Passed, last: Option<&Passed>) -> String {
    match (one.act, one.said) {
        (Act::Wait(_), _) => match &one.upstream {
            Some(upstream) => format!("waits for {upstream}"),
            None => "waits".into(),
        },
        (Act::Past, _) if one.zone.is_none() => "no block serves the question".into(),
        (Act::Past, _) => "the chain ends: nobody has answered".into(),
        (Act::Send, _) => "the message is sent, others follow".into(),
        (Act::End, _) => "is over".into(),
        (_, Some(Said::Ask)) => {
            let asks = one.asks.map_or_else(String::new, |asks| {
                format!("{} {}", asks.name, rtype::text(asks.rtype))
            });
            format!("asks {asks}")
        }
        (_, Some(Said::Fetch)) => "has something to wait for".into(),
        (_, Some(Said::Send)) => {
            format!("sends one message of many: {}", stood(one.after.as_ref()))
        }
        (Act::Serve, Some(Said::Next)) => "hands the question on".into(),
        (_, Some(Said::Next)) => "hands the question on after all".into(),
        (Act::Serve, Some(Said::Watch)) => "hands the question on, to see the reply".into(),
        (_, Some(Said::Watch)) => "hands the question on once more, to see the reply".into(),
        (act, Some(Said::Up) | None) => {
            let waited = last.is_some_and(|last| matches!(last.act, Act::Wait(_)));
            let is_same = one.after.is_some_and(|after| {
                (after.state, after.print) == (one.before.state, one.before.print)
            });
            match act {
                Act::Serve => stood(one.after.as_ref()),
                _ if waited || one.before.state == ReplyState::Empty => stood(one.after.as_ref()),
                _ if is_same => "leaves the reply as it is".into(),
                _ => format!("changes the reply: {}", stood(one.after.as_ref())),
            }
        }
    }
}

/// What has become of a reply.
fn stood(reply: Option<&Stood>) -> String {
    let Some(reply) = reply else { return "ends it".into() };
    let code = rcode::text(reply.rcode);
    let reason = match reply.reason.as_str() {
        "" => String::new(),
        reason => format!(": {}", reason.escape_debug()),
    };
    match reply.state {
        ReplyState::Empty => "ends it without a reply".into(),
        ReplyState::Dropped => "drops the query: no reply is sent".into(),
        ReplyState::Failed(_) => format!("fails with {code}{reason}"),
        ReplyState::Written => {
            let records = match reply.answers {
                1 => "1 record".to_owned(),
                many => format!("{many} records"),
            };
            let whence = match reply.source {
                Source::Stored => ", from what it has stored",
                Source::Fetched => ", from an upstream",
                Source::Snapshot => "",
            };
            format!("answers {code}, {records}{whence}{reason}")
        }
    }
}

fn reply(message: &[u8]) -> Reply {
    let mut reply = Reply {
        rcode: String::new(),
        flags: Vec::new(),
        bytes: message.len(),
        edns: Vec::new(),
        records: Vec::new(),
    };
    if message.len() < HEADER_BYTES {
        return reply;
    }
    let flags = Flags::read(message);
    reply.rcode = rcode::text(flags.rcode_low().into()).to_string();
    let set = [
        ("aa", flags.aa()),
        ("tc", flags.tc()),
        ("rd", flags.rd()),
        ("ra", flags.ra()),
        ("ad", flags.ad()),
        ("cd", flags.cd()),
    ];
    reply.flags = set.iter().filter(|(_, set)| *set).map(|(name, _)| (*name).into()).collect();
    for record in records(message).into_iter().flatten().flatten() {
        if record.rtype == rtype::OPT {
            // Its TTL has eight more bits of the rcode (RFC 6891 section 6.1.3).
            let code = (record.ttl >> 20) as u16 & 0xff0 | u16::from(flags.rcode_low());
            reply.rcode = rcode::text(code).to_string();
            reply.edns = opt(message, &record);
            continue;
        }
        let section = match record.section {
            Section::Answer => "answer",
            Section::Authority => "authority",
            Section::Additional => "additional",
        };
        let name = record.owner(message).map_or(String::new(), |name| name.to_string());
        reply.records.push(Record {
            section: section.into(),
            name,
            ttl: record.ttl,
            rtype: rtype::text(record.rtype).to_string(),
            rdata: rdata_text(message, &record),
        });
    }
    reply
}

/// What an OPT record says, in words.
fn opt(message: &[u8], record: &wire::Record) -> Vec<String> {
    let mut words = vec![format!("{} octets", record.rclass)];
    if record.ttl as u16 & OptView::DO != 0 {
        words.push("do".into());
    }
    words.extend(options(record.rdata(message)).map(|(code, data)| match (code, data) {
        // RFC 8914 section 2.
        (edns::EDE, [high, low, text @ ..]) => {
            let code = u16::from_be_bytes([*high, *low]);
            let text = String::from_utf8_lossy(text);
            format!("EDE {code} {}", text.escape_debug()).trim_end().to_owned()
        }
        (edns::NSID, data) => format!("NSID {}", data.escape_ascii()).trim_end().to_owned(),
        (code, data) => {
            let digits: String = data.iter().map(|octet| format!("{octet:02x}")).collect();
            format!("{} {digits}", edns::text(code)).trim_end().to_owned()
        }
    }));
    words
}
