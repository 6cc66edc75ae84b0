//! Asks as a case says, and tells the reply in the words of a case.

use std::io;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::str::FromStr as _;
use std::time::Duration;

use corelane::control::trust;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use crate::script::Ask;

/// How long a reply may take where one is expected.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long silence is listened to.
const SILENCE: Duration = Duration::from_secs(1);

const EDE: u16 = 15;

/// Asks `server`; the reply's lines, or `silence`.
pub fn ask(server: SocketAddr, ask: &Ask, expect_silence: bool) -> Result<Vec<String>, String> {
    let query = message(ask)?;
    let bytes = query.to_vec().map_err(|error| error.to_string())?;
    let patience = if expect_silence { SILENCE } else { PATIENCE };
    let reply = if ask.tls {
        over_tls(server, &bytes, patience)
    } else if ask.tcp {
        over_tcp(server, &bytes, patience)
    } else {
        over_udp(server, &bytes, patience)
    };
    match reply {
        Ok(reply) => tell(&query, &reply),
        Err(error) if is_silence(&error) => Ok(vec!["silence".to_owned()]),
        Err(error) => Err(error.to_string()),
    }
}

fn is_silence(error: &io::Error) -> bool {
    use io::ErrorKind::{TimedOut, UnexpectedEof, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | UnexpectedEof)
}

fn message(ask: &Ask) -> Result<Message, String> {
    let opcode = match ask.opcode.as_deref().unwrap_or("QUERY") {
        "QUERY" => OpCode::Query,
        "STATUS" => OpCode::Status,
        "NOTIFY" => OpCode::Notify,
        "UPDATE" => OpCode::Update,
        other => return Err(format!("opcode {other}")),
    };
    let name = Name::from_ascii(&ask.name).map_err(|error| format!("{}: {error}", ask.name))?;
    let mut query = Query::query(name, rtype(&ask.rtype)?);
    if let Some(class) = &ask.class {
        query.set_query_class(DNSClass::from_str(class).map_err(|error| error.to_string())?);
    }
    let mut message = Message::new(std::process::id() as u16, MessageType::Query, opcode);
    message.metadata.recursion_desired = !ask.norec;
    message.metadata.checking_disabled = ask.cd;
    message.metadata.authentic_data = ask.ad;
    message.add_query(query);
    if let Some(wanted) = &ask.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(wanted.size).set_dnssec_ok(wanted.dnssec_ok);
        if wanted.nsid {
            let empty = EdnsOption::Unknown(u16::from(EdnsCode::NSID), Vec::new());
            edns.options_mut().insert(empty);
        }
        message.set_edns(edns);
    }
    Ok(message)
}

fn rtype(text: &str) -> Result<RecordType, String> {
    match text.strip_prefix("TYPE").map(str::parse::<u16>) {
        Some(Ok(number)) => Ok(RecordType::from(number)),
        _ => RecordType::from_str(text).map_err(|error| format!("{text}: {error}")),
    }
}

fn over_udp(server: SocketAddr, query: &[u8], patience: Duration) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(patience))?;
    socket.send(query)?;
    let mut buffer = vec![0; 65_535];
    // A socket with a time-out is not restarted after a signal, not even one that stops the process.
    let length = loop {
        match socket.recv(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            received => break received?,
        }
    };
    buffer.truncate(length);
    Ok(buffer)
}

fn over_tcp(server: SocketAddr, query: &[u8], patience: Duration) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, patience)?;
    stream.set_read_timeout(Some(patience))?;
    on_stream(&mut stream, query)
}

/// Whoever answers is trusted: who may be is another test's.
fn over_tls(server: SocketAddr, query: &[u8], patience: Duration) -> io::Result<Vec<u8>> {
    let config = trust::client(true).map_err(io::Error::other)?;
    let session = ClientConnection::new(config, ServerName::from(server.ip()));
    let socket = TcpStream::connect_timeout(&server, patience)?;
    socket.set_read_timeout(Some(patience))?;
    on_stream(&mut StreamOwned::new(session.map_err(io::Error::other)?, socket), query)
}

fn on_stream(stream: &mut (impl io::Read + io::Write), query: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(query.len()).expect("a query is short");
    stream.write_all(&[&length.to_be_bytes(), query].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut reply)?;
    Ok(reply)
}

/// The reply in the words of a case.
fn tell(query: &Message, reply: &[u8]) -> Result<Vec<String>, String> {
    let message = Message::from_vec(reply)
        .map_err(|error| format!("a reply that does not parse: {error}"))?;
    if message.metadata.id != query.metadata.id {
        return Err("a reply with another id".to_owned());
    }
    if message.metadata.message_type != MessageType::Response {
        return Err("a reply without QR".to_owned());
    }
    let mut lines = vec![header(&message)];
    let sections = [
        ("answer", &message.answers),
        ("authority", &message.authorities),
        ("additional", &message.additionals),
    ];
    for (section, records) in sections {
        lines.extend(records.iter().map(|record| format!("{section} {}", present(record))));
    }
    lines.extend(message.edns.as_ref().map(edns));
    Ok(lines)
}

fn header(message: &Message) -> String {
    let meta = &message.metadata;
    let flags = [
        ("aa", meta.authoritative),
        ("tc", meta.truncation),
        ("rd", meta.recursion_desired),
        ("ra", meta.recursion_available),
        ("ad", meta.authentic_data),
        ("cd", meta.checking_disabled),
    ];
    let mut line = rcode(meta.response_code);
    for (flag, _) in flags.iter().filter(|(_, set)| *set) {
        line.push(' ');
        line.push_str(flag);
    }
    line
}

fn rcode(code: ResponseCode) -> String {
    let known = match code {
        ResponseCode::NoError => "NOERROR",
        ResponseCode::FormErr => "FORMERR",
        ResponseCode::ServFail => "SERVFAIL",
        ResponseCode::NXDomain => "NXDOMAIN",
        ResponseCode::NotImp => "NOTIMP",
        ResponseCode::Refused => "REFUSED",
        ResponseCode::NotAuth => "NOTAUTH",
        ResponseCode::BADVERS => "BADVERS",
        other => return format!("RCODE{}", u16::from(other)),
    };
    known.to_owned()
}

/// `edns SIZE [do] [nsid=TEXT] [ede=CODE] [option=CODE]`
fn edns(edns: &Edns) -> String {
    let mut line = format!("edns {}", edns.max_payload());
    if edns.flags().dnssec_ok {
        line.push_str(" do");
    }
    for (code, option) in edns.options().as_ref() {
        match option {
            EdnsOption::NSID(id) => {
                line.push_str(&format!(" nsid={}", String::from_utf8_lossy(id.as_ref())));
            }
            EdnsOption::Unknown(EDE, data) if data.len() >= 2 => {
                line.push_str(&format!(" ede={}", u16::from_be_bytes([data[0], data[1]])));
            }
            _ => line.push_str(&format!(" option={}", u16::from(*code))),
        }
    }
    line
}

fn present(record: &Record) -> String {
    let rdata = match &record.data {
        RData::TXT(text) => {
            text.txt_data.iter().map(|part| quoted(part)).collect::<Vec<_>>().join(" ")
        }
        RData::HINFO(info) => format!("{} {}", quoted(&info.cpu), quoted(&info.os)),
        RData::Unknown { rdata, .. } => {
            let hex: String = rdata.anything.iter().map(|octet| format!("{octet:02x}")).collect();
            format!("\\# {} {hex}", rdata.anything.len())
        }
        other => other.to_string(),
    };
    let rtype = match record.record_type() {
        RecordType::Unknown(number) => format!("TYPE{number}"),
        known => known.to_string(),
    };
    let (owner, ttl, class) = (record.name.to_ascii(), record.ttl, record.dns_class);
    format!("{owner} {ttl} {class} {rtype} {rdata}").trim_end().to_owned()
}

/// A character-string between quotes, octets that do not print as `\DDD` (RFC 1035 section 5.1).
fn quoted(octets: &[u8]) -> String {
    let mut text = String::from("\"");
    for &octet in octets {
        match octet {
            b'"' | b'\\' => text.extend(['\\', octet as char]),
            b' '..=b'~' => text.push(octet as char),
            _ => text.push_str(&format!("\\{octet:03}")),
        }
    }
    text + "\""
}
