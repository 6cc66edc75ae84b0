//! What a worker tells of a traced query, in one event, and the spans that control makes of it.
//!
//! A worker writes fixed fields and eight octets a mark; which marks belong together is found here. A
//! plugin's span begins when it is served and ends when the walk has come up past it, so that it
//! holds the spans of those below it, as a nested call would.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::data::chain::marks::{Act, Mark};
use crate::data::clock::{self, Nanos};
use crate::limits::EVENT_BYTES_MAX;
use crate::plugin::registry::NAMES;
use crate::plugin::{Client, Cx, Event};
use crate::wire::{Name, NameBuf};

/// Nanoseconds that a mark's time is told in: 32 bits of them are 34 s, longer than a walk lasts.
const UNIT_NANOS: Nanos = 8;
/// Octets of a mark, and of the address behind it where it has one.
const MARK_BYTES: usize = 8;
const ADDRESS_BYTES: usize = 18;

/// Kinds of marks, as they are written.
const SERVE: u8 = 0;
const RESUME: u8 = 1;
const WAIT: u8 = 2;
const CONNECT: u8 = 3;

/// A span of a plugin or of a wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub name: &'static str,
    /// The place of the span that it lies in; none: the query's.
    pub parent: Option<usize>,
    /// Since the query's span began.
    pub began: Nanos,
    pub ended: Nanos,
    /// The upstream that was waited for.
    pub peer: Option<SocketAddr>,
}

/// A traced query.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    pub id: [u8; 16],
    /// Monotonic.
    pub began: Nanos,
    pub nanos: Nanos,
    pub client: Client,
    pub name: NameBuf,
    pub rtype: u16,
    pub rcode: u16,
    /// Why it failed; empty: it has not.
    pub reason: String,
    pub parts: Vec<Part>,
}

/// Writes what is known of the query whose way up has come back to `trace`.
pub(super) fn write(event: &mut Event, cx: &Cx<'_>, id: [u8; 16], began: Nanos) {
    let level = cx.level();
    let reason = level.reason.as_str().as_bytes();
    event.push(&id);
    event.push(&began.to_be_bytes());
    event.push(&clock::now().saturating_sub(began).to_be_bytes());
    event.push(&level.question().rtype.to_be_bytes());
    event.push(&level.rcode().to_be_bytes());
    event.push(&(reason.len() as u16).to_be_bytes());
    event.push(reason);
    event.push(level.question().lower.as_bytes());
    let Some(marks) = cx.marks() else { return };
    let first = marks.traced().map_or(0, |(first, _)| first as usize);
    for mark in marks.as_slice().get(first..).unwrap_or_default() {
        // The last marks are left out where there is no room.
        if EVENT_BYTES_MAX - event.bytes().len() < MARK_BYTES + ADDRESS_BYTES {
            return;
        }
        write_mark(event, cx, mark, began);
    }
}

fn write_mark(event: &mut Event, cx: &Cx<'_>, mark: &Mark, began: Nanos) {
    let block = cx.snapshot().blocks.get(mark.place.block as usize);
    let server = block.and_then(|block| block.servers.get(mark.place.zone as usize));
    let times = server.and_then(|server| server.times.get(mark.link as usize));
    let plugin = times.map_or(u8::MAX, |times| times.plugin);
    let (act, peer) = match mark.act {
        Act::Serve => (SERVE, None),
        Act::Resume => (RESUME, None),
        Act::Wait(upstream) => match cx.core.upstreams.address(upstream) {
            Some(address) => (CONNECT, Some(address)),
            None => (WAIT, None),
        },
        Act::Past | Act::Send | Act::End => return,
    };
    let since = mark.at.saturating_sub(began) / UNIT_NANOS;
    event.push(&[act, plugin, mark.level, 0]);
    event.push(&u32::try_from(since).unwrap_or(u32::MAX).to_be_bytes());
    if let Some(peer) = peer {
        let ip = match peer.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        event.push(&ip.octets());
        event.push(&peer.port().to_be_bytes());
    }
}

/// Reads what [`write`] wrote; none if that was cut.
pub(super) fn read(event: &Event) -> Option<Trace> {
    let (id, rest) = event.bytes().split_first_chunk::<16>()?;
    let (began, rest) = rest.split_first_chunk::<8>()?;
    let (nanos, rest) = rest.split_first_chunk::<8>()?;
    let (rtype, rest) = rest.split_first_chunk::<2>()?;
    let (rcode, rest) = rest.split_first_chunk::<2>()?;
    let (len, rest) = rest.split_first_chunk::<2>()?;
    let (reason, rest) = rest.split_at_checked(u16::from_be_bytes(*len) as usize)?;
    let (name, marks) = Name::from_wire(rest).ok()?;
    let mut known = NameBuf::root();
    known.set(name);
    let nanos = u64::from_be_bytes(*nanos);
    Some(Trace {
        id: *id,
        began: u64::from_be_bytes(*began),
        nanos,
        client: event.client,
        name: known,
        rtype: u16::from_be_bytes(*rtype),
        rcode: u16::from_be_bytes(*rcode),
        reason: String::from_utf8_lossy(reason).into_owned(),
        parts: parts(marks, nanos),
    })
}

/// A mark as it was written.
struct Read {
    act: u8,
    plugin: u8,
    level: u8,
    at: Nanos,
    peer: Option<SocketAddr>,
}

fn read_mark(bytes: &[u8]) -> Option<(Read, &[u8])> {
    let ([act, plugin, level, _, at @ ..], rest) = bytes.split_first_chunk::<MARK_BYTES>()?;
    let at = Nanos::from(u32::from_be_bytes(*at)) * UNIT_NANOS;
    let mut read = Read { act: *act, plugin: *plugin, level: *level, at, peer: None };
    if read.act != CONNECT {
        return Some((read, rest));
    }
    let (ip, rest) = rest.split_first_chunk::<16>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let ip = Ipv6Addr::from(*ip).to_canonical();
    read.peer = Some(SocketAddr::new(ip, u16::from_be_bytes(*port)));
    Some((read, rest))
}

/// Puts the spans together.
fn parts(mut marks: &[u8], nanos: Nanos) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    // Spans that have not ended: level, plugin, place.
    let mut open: Vec<(u8, u8, usize)> = Vec::new();
    let mut waiting: Option<usize> = None;
    while let Some((mark, rest)) = read_mark(marks) {
        marks = rest;
        if let Some(wait) = waiting.take() {
            parts[wait].ended = mark.at;
        }
        let parent = open.last().map(|(.., place)| *place);
        let part = |name| Part { name, parent, began: mark.at, ended: nanos, peer: mark.peer };
        match mark.act {
            SERVE => {
                let name = NAMES.get(mark.plugin as usize).copied().unwrap_or("unknown");
                open.push((mark.level, mark.plugin, parts.len()));
                parts.push(part(name));
            }
            // What `trace` itself has waited for is nothing.
            WAIT | CONNECT if open.is_empty() => {}
            WAIT | CONNECT => {
                waiting = Some(parts.len());
                parts.push(part(if mark.act == CONNECT { "connect" } else { "wait" }));
            }
            _ => {
                let is_it = |(level, plugin, _): &(u8, u8, usize)| {
                    (*level, *plugin) == (mark.level, mark.plugin)
                };
                // None of these: the walk has come back to `trace`.
                let kept = open.iter().rposition(is_it).map_or(0, |at| at + 1);
                for (.., place) in open.drain(kept..) {
                    parts[place].ended = mark.at;
                }
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(act: u8, plugin: &str, level: u8, at: u32) -> Vec<u8> {
        let plugin = NAMES.iter().position(|name| *name == plugin).expect("a plugin") as u8;
        [&[act, plugin, level, 0][..], &(at / 8).to_be_bytes()].concat()
    }

    fn of(marks: &[Vec<u8>]) -> Vec<(&'static str, Option<usize>, Nanos, Nanos)> {
        let parts = parts(&marks.concat(), 800);
        parts.into_iter().map(|p| (p.name, p.parent, p.began, p.ended)).collect()
    }

    #[test]
    fn spans_lie_within_each_other() {
        let mut connect = mark(CONNECT, "forward", 0, 240);
        connect.extend(Ipv6Addr::LOCALHOST.octets());
        connect.extend([0, 53]);
        let spans = of(&[
            mark(WAIT, "trace", 0, 0),
            mark(RESUME, "trace", 0, 0),
            mark(SERVE, "errors", 0, 80),
            mark(SERVE, "rewrite", 0, 160),
            mark(SERVE, "forward", 0, 200),
            connect,
            mark(RESUME, "forward", 0, 640),
            mark(RESUME, "errors", 0, 720),
            mark(RESUME, "trace", 0, 760),
        ]);
        assert_eq!(
            spans,
            [
                ("errors", None, 80, 760),
                ("rewrite", Some(0), 160, 720),
                ("forward", Some(1), 200, 720),
                ("connect", Some(2), 240, 640),
            ]
        );
    }

    #[test]
    fn a_question_of_a_plugin_lies_within_its_span() {
        let spans = of(&[
            mark(SERVE, "autopath", 0, 8),
            mark(SERVE, "cache", 1, 16),
            mark(SERVE, "kubernetes", 1, 24),
            mark(RESUME, "cache", 1, 32),
            mark(RESUME, "autopath", 0, 40),
            mark(SERVE, "cache", 1, 48),
        ]);
        assert_eq!(
            spans,
            [
                ("autopath", None, 8, 800),
                ("cache", Some(0), 16, 40),
                ("kubernetes", Some(1), 24, 32),
                ("cache", Some(0), 48, 800),
            ]
        );
    }

    #[test]
    fn nothing_is_made_of_half_a_mark() {
        assert_eq!(of(&[vec![CONNECT, 1, 0, 0, 0, 0, 0, 1, 9, 9]]), []);
        assert_eq!(of(&[vec![SERVE, 255, 0, 0, 0, 0, 0, 1]]), [("unknown", None, 8, 800)]);
    }
}
