//! What may be said of a query, and the text that a format makes of it: `log`'s lines, `dnstap`'s extra.
//!
//! The worker writes fixed fields, the name and the values of labels ([`Line::write`]); control makes the
//! text ([`Format::render`]). A worker's part allocates nothing and formats nothing but labels.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::kind::Kind;
use crate::data::chain::Text;
use crate::data::chain::level::OptExtra;
use crate::data::clock::{MILLISECOND, SECOND};
use crate::plugin::{Client, Cx, Event, ReplyState, Site};
use crate::snapshot::MetaRef;
use crate::wire::{
    Field, Flags, Name, NameBuf, Record, rclass, rcode, rdata_names, rtype, skip_name,
};

const COMMON: &str = "{remote}:{port} - {>id} \"{type} {class} {name} {proto} {size} {>do} \
                      {>bufsize}\" {rcode} {>rflags} {rsize} {duration}";

/// Octets of a metadata value in a line.
const META_BYTES_MAX: usize = 128;
/// In place of its length: there is no value.
const NO_META: u8 = u8::MAX;

/// A text with places for what is known of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    pieces: Vec<Piece>,
}

impl Format {
    /// Reads a format; `{common}` and `{combined}` stand for CoreDNS's own.
    pub fn parse(text: &str) -> Self {
        let combined = format!("{COMMON} \"{{>opcode}}\"");
        let text = text.replace("{common}", COMMON);
        Self { pieces: pieces(&text.replace("{combined}", &combined)) }
    }

    /// Metadata labels in it, in their order: what [`Line::write`] is given.
    pub fn labels(&self, site: &mut Site<'_>) -> Vec<Label> {
        let label = |piece: &Piece| match piece {
            Piece::Label(label) => Some(Label::of(label, site)),
            Piece::Slowest => Some(Label::Slowest),
            _ => None,
        };
        self.pieces.iter().filter_map(label).collect()
    }

    /// The text, from what [`Line::write`] wrote; none if that was cut.
    pub fn render(&self, bytes: &[u8], client: &Client) -> Option<String> {
        let (line, rest) = Line::read(bytes)?;
        let (name, mut values) = Name::from_wire(rest).ok()?;
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Field(field) => out.push_str(&field.text(&line, name, client)),
                Piece::Label(_) | Piece::Slowest => {
                    let (value, rest) = match values {
                        [NO_META, rest @ ..] => (&b"-"[..], rest),
                        [len, rest @ ..] => rest.split_at((*len as usize).min(rest.len())),
                        [] => (&b"-"[..], &[][..]),
                    };
                    values = rest;
                    out.push_str(&String::from_utf8_lossy(value));
                }
            }
        }
        Some(out)
    }
}

impl Format {
    /// What is known of the query, as fields of a JSON record; `msg` is the text.
    pub fn record(&self, bytes: &[u8], client: &Client) -> Option<Map<String, Value>> {
        let text = self.render(bytes, client)?;
        let (line, rest) = Line::read(bytes)?;
        let (name, _) = Name::from_wire(rest).ok()?;
        let known = line.rcode != u16::MAX;
        let fields = json!({
            "msg": text,
            "plugin": "log",
            "client_ip": client.ip().to_string(),
            "client_port": client.peer.port(),
            "proto": client.transport.as_str(),
            "id": line.id,
            "opcode": line.opcode,
            "qname": name.to_string(),
            "qtype": rtype::text(line.rtype).to_string(),
            "qclass": rclass::text(line.rclass).to_string(),
            "dnssec_ok": line.dnssec_ok,
            "bufsize": line.bufsize,
            "request_size": line.size,
            "rcode": known.then(|| Placeholder::Rcode.text(&line, name, client)),
            "rflags": flags(Flags(line.flags)),
            "response_size": line.rsize,
            "duration_seconds": line.took as f64 / SECOND as f64,
        });
        if let Value::Object(fields) = fields { Some(fields) } else { None }
    }
}

/// A part of a format.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field(Placeholder),
    Label(String),
    /// The longest wait, which the worker writes as it does a label.
    Slowest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placeholder {
    Type,
    Class,
    Name,
    Proto,
    Remote,
    Port,
    Local,
    Size,
    Rcode,
    Rsize,
    Duration,
    Id,
    Opcode,
    Do,
    Bufsize,
    Rflags,
}

impl Placeholder {
    fn of(word: &str) -> Option<Self> {
        Some(match word {
            "{type}" => Self::Type,
            "{class}" => Self::Class,
            "{name}" => Self::Name,
            "{proto}" => Self::Proto,
            "{remote}" => Self::Remote,
            "{port}" => Self::Port,
            "{local}" => Self::Local,
            "{size}" => Self::Size,
            "{rcode}" => Self::Rcode,
            "{rsize}" => Self::Rsize,
            "{duration}" => Self::Duration,
            "{>id}" => Self::Id,
            "{>opcode}" => Self::Opcode,
            "{>do}" => Self::Do,
            "{>bufsize}" => Self::Bufsize,
            "{>rflags}" => Self::Rflags,
            _ => return None,
        })
    }
}

/// Reads a format: a placeholder is what stands between a closing brace and the last opening one
/// before it.
fn pieces(format: &str) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let text = |pieces: &mut Vec<Piece>, more: &str| match pieces.last_mut() {
        Some(Piece::Text(text)) => text.push_str(more),
        _ if more.is_empty() => {}
        _ => pieces.push(Piece::Text(more.to_owned())),
    };
    let mut rest = format;
    while let Some(close) = rest.find('}') {
        let (head, tail) = rest.split_at(close + 1);
        rest = tail;
        let word = head.rfind('{').map_or("", |open| &head[open..]);
        let label = word.strip_prefix("{/").and_then(|label| label.strip_suffix('}'));
        let piece = match (Placeholder::of(word), label) {
            (Some(field), _) => Piece::Field(field),
            (None, Some(label)) => Piece::Label(label.to_owned()),
            (None, None) if word == "{slowest}" => Piece::Slowest,
            (None, None) => {
                text(&mut pieces, head);
                continue;
            }
        };
        text(&mut pieces, &head[..head.len() - word.len()]);
        pieces.push(piece);
    }
    text(&mut pieces, rest);
    pieces
}

/// A metadata label that lines show.
pub enum Label {
    /// The reply's class: known here alone, since there is none before the reply.
    Class,
    /// Likewise its kind.
    Kind,
    /// Who had the query wait longest.
    Slowest,
    /// What another plugin knows.
    Other(MetaRef),
}

impl Label {
    fn of(label: &str, site: &mut Site<'_>) -> Self {
        match label {
            "log/class" if site.facts.metadata => Self::Class,
            "log/type" if site.facts.metadata => Self::Kind,
            label => Self::Other(site.meta(label)),
        }
    }
}

/// What a worker tells of a query: fixed fields, then the name, then metadata.
#[derive(Default)]
pub struct Line {
    id: u16,
    opcode: u8,
    dnssec_ok: bool,
    /// The query is a datagram to a wildcard socket.
    wildcard: bool,
    rtype: u16,
    rclass: u16,
    size: u16,
    bufsize: u16,
    /// `u16::MAX`: there was no reply.
    rcode: u16,
    flags: u16,
    rsize: u32,
    took: u64,
}

/// In [`Line::took`]: the line is not of a reply.
const NO_REPLY: u64 = u64::MAX;

impl Line {
    /// Writes what a format may ask for; `took` in nanoseconds. None: there is nothing to be said of a
    /// reply.
    pub fn write(event: &mut Event, cx: &Cx<'_>, took: Option<u64>, labels: &[Label]) {
        let level = cx.level();
        let (question, asked) = (level.question(), &level.asked);
        let (rcode, flags, rsize) = match level.state {
            _ if took.is_none() => (u16::MAX, 0, 0),
            ReplyState::Written => {
                let reply = &level.reply;
                let len = plain_len(reply.bytes(), question.name) + opt_len(&level.extra);
                (reply.rcode(), reply.flags().0, len)
            }
            ReplyState::Failed(rcode) => {
                let flags = Flags::default().with_qr(true).with_rd(asked.flags.rd());
                let len = 16 + question.name.len();
                (rcode, flags.with_cd(asked.flags.cd()).0, len)
            }
            ReplyState::Empty | ReplyState::Dropped => (u16::MAX, 0, 0),
        };
        let stream = cx.client().transport.is_stream();
        let bufsize = if stream { u16::MAX } else { asked.udp_size.max(512) };
        event.push(&asked.id.to_be_bytes());
        let wildcard =
            !stream && cx.listener().is_some_and(|one| one.address.ip().is_unspecified());
        let bits = u8::from(asked.dnssec_ok) | u8::from(wildcard) << 1;
        event.push(&[asked.flags.opcode(), bits]);
        for number in [question.rtype, question.rclass, cx.request().len() as u16, bufsize] {
            event.push(&number.to_be_bytes());
        }
        event.push(&rcode.to_be_bytes());
        event.push(&flags.to_be_bytes());
        event.push(&(rsize as u32).to_be_bytes());
        event.push(&took.unwrap_or(NO_REPLY).to_be_bytes());
        event.push(question.lower.as_bytes());
        for label in labels {
            let mut value = Text::<META_BYTES_MAX>::new();
            let has = match label {
                Label::Class => {
                    value.push(Kind::of(level).class().as_str());
                    true
                }
                Label::Kind => {
                    value.push(Kind::of(level).as_str());
                    true
                }
                Label::Slowest => write_slowest(&mut value, cx),
                Label::Other(label) => cx.meta(*label, &mut value),
            };
            event.push(&[if has { value.as_str().len() as u8 } else { NO_META }]);
            event.push(value.as_str().as_bytes());
        }
    }

    fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (fixed, rest) = bytes.split_first_chunk::<28>()?;
        let word = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
        let long = |at: usize| u32::from(word(at)) << 16 | u32::from(word(at + 2));
        let line = Self {
            id: word(0),
            opcode: fixed[2],
            dnssec_ok: fixed[3] & 1 != 0,
            wildcard: fixed[3] & 2 != 0,
            rtype: word(4),
            rclass: word(6),
            size: word(8),
            bufsize: word(10),
            rcode: word(12),
            flags: word(14),
            rsize: long(16),
            took: u64::from(long(20)) << 32 | u64::from(long(24)),
        };
        Some((line, rest))
    }
}

/// `forward 192.0.2.1:53 0.120s`; `false`: the query has waited for nothing.
fn write_slowest(value: &mut Text<META_BYTES_MAX>, cx: &Cx<'_>) -> bool {
    let Some((plugin, upstream, nanos)) = cx.longest_wait() else { return false };
    // A text that is full is cut.
    let _ = write!(value, "{plugin} ");
    if let Some(upstream) = upstream {
        let _ = write!(value, "{upstream} ");
    }
    let (seconds, millis) = (nanos / SECOND, nanos % SECOND / MILLISECOND);
    let _ = write!(value, "{seconds}.{millis:03}s");
    true
}

/// Octets of the OPT record that came with an upstream's reply.
fn opt_len(extra: &OptExtra) -> usize {
    if extra.is_whole() { 11 + extra.as_bytes().len() } else { 0 }
}

/// Octets of a message if its names were written in full: what CoreDNS calls its size.
fn plain_len(message: &[u8], question: Name<'_>) -> usize {
    let mut len = 12 + question.len() + 4;
    let Ok(records) = crate::wire::records(message) else { return message.len() };
    for record in records.flatten() {
        len += record.owner(message).map_or(1, |owner| owner.as_name().len()) + 10;
        len += plain_rdata_len(message, &record);
    }
    len
}

fn plain_rdata_len(message: &[u8], record: &Record) -> usize {
    let (mut at, mut len) = (record.rdata_at, 0);
    for field in rdata_names(record.rtype) {
        match field {
            Field::Name | Field::PlainName => {
                let (Ok((name, _)), Ok(end)) = (NameBuf::read(message, at), skip_name(message, at))
                else {
                    return record.rdata_len;
                };
                len += name.as_name().len();
                at = end;
            }
            Field::Octets(count) => {
                len += count;
                at += count;
            }
            Field::Text => {
                let count = 1 + usize::from(message.get(at).copied().unwrap_or_default());
                len += count;
                at += count;
            }
            Field::Texts | Field::Rest => return len + record.end().saturating_sub(at),
        }
    }
    len
}

impl Placeholder {
    fn text(self, line: &Line, name: Name<'_>, client: &Client) -> String {
        match self {
            Self::Rcode | Self::Rsize | Self::Duration | Self::Rflags if line.took == NO_REPLY => {
                "-".to_owned()
            }
            Self::Type => rtype::text(line.rtype).to_string(),
            Self::Class => rclass::text(line.rclass).to_string(),
            Self::Name => name.to_string(),
            Self::Proto => client.transport.as_str().to_owned(),
            Self::Remote => bracketed(client.ip()),
            Self::Port => client.peer.port().to_string(),
            Self::Local => match line.wildcard {
                // CoreDNS does not know which address a datagram was sent to.
                true => "[::]".to_owned(),
                false => bracketed(client.local.ip().to_canonical()),
            },
            Self::Size => line.size.to_string(),
            Self::Rcode if line.rcode == u16::MAX => "-".to_owned(),
            Self::Rcode => match rcode::name(line.rcode) {
                Some(name) => name.to_owned(),
                None => line.rcode.to_string(),
            },
            Self::Rsize => line.rsize.to_string(),
            Self::Duration => seconds(line.took),
            Self::Id => line.id.to_string(),
            Self::Opcode => line.opcode.to_string(),
            Self::Do => line.dnssec_ok.to_string(),
            Self::Bufsize => line.bufsize.to_string(),
            Self::Rflags => flags(Flags(line.flags)),
        }
    }
}

fn bracketed(ip: std::net::IpAddr) -> String {
    if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() }
}

/// Seconds with as many digits as there are nanoseconds: `0.000123456s`.
fn seconds(nanos: u64) -> String {
    let text = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
}

fn flags(flags: Flags) -> String {
    let all = [
        (flags.qr(), "qr"),
        (flags.aa(), "aa"),
        (flags.tc(), "tc"),
        (flags.rd(), "rd"),
        (flags.ra(), "ra"),
        (flags.z(), "z"),
        (flags.ad(), "ad"),
        (flags.cd(), "cd"),
    ];
    all.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        let text = |text: &str| Piece::Text(text.to_owned());
        assert_eq!(
            pieces("a {name}{/x/y} {unknown} } {{type} end"),
            [
                text("a "),
                Piece::Field(Placeholder::Name),
                Piece::Label("x/y".into()),
                text(" {unknown} } {"),
                Piece::Field(Placeholder::Type),
                text(" end"),
            ]
        );
    }

    #[test]
    fn what_is_not_of_a_reply_says_nothing_of_one() {
        let mut fixed = [0; 28];
        fixed[13] = 2;
        fixed[20..].copy_from_slice(&NO_REPLY.to_be_bytes());
        let text = |fixed: &[u8]| {
            let (line, _) = Line::read(fixed).expect("whole");
            let all = [
                Placeholder::Rcode,
                Placeholder::Rsize,
                Placeholder::Duration,
                Placeholder::Rflags,
                Placeholder::Id,
            ];
            let root = crate::wire::NameBuf::root();
            all.map(|one| one.text(&line, root.as_name(), &Client::NOBODY)).join(" ")
        };
        assert_eq!(text(&fixed), "- - - - 0");
        fixed[20..].copy_from_slice(&SECOND.to_be_bytes());
        assert_eq!(text(&fixed), "SERVFAIL 0 1s  0");
    }

    #[test]
    fn durations_and_flags() {
        assert_eq!(seconds(123_456), "0.000123456s");
        assert_eq!(seconds(1_500_000_000), "1.5s");
        assert_eq!(seconds(2_000_000_000), "2s");
        assert_eq!(flags(Flags(0x8580)), "qr,aa,rd,ra");
    }
}
