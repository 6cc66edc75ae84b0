//! A question that a running server walks: the path `/explain` beside `/health`, and who asks there.
//!
//! Who may name a client's address sees what that client sees, so it answers only who comes by the
//! loopback interface and names it by an address or as `localhost` (a page in a browser that has another
//! name resolve to us does not). The worker walks one such question at a time: nothing is multiplied.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::asked::{Asked, Edns, address, client};
use super::report::Report;
use super::walk;
use crate::control::admin::{Later, Request, Response, Route};
use crate::data::chain::Transport;
use crate::limits::{EXPLAIN_BYTES_MAX, WALK_NANOS_MAX};
use crate::mail::Mailbox;
use crate::wire::{NameBuf, rtype};

/// Where it is.
pub const PATH: &str = "/explain";

/// What may be said there.
const KEYS: &str = "name, type, from, at, transport, cd, bufsize, do, nsid, subnet";

/// Has a worker walk what is asked for.
pub struct Walking {
    /// The worker's.
    pub mailbox: Arc<Mailbox>,
}

impl Route for Walking {
    /// Refuses what [`later`](Route::later) does not take up.
    fn answer(&self, request: &Request<'_>) -> Response {
        let (status, words) = read(request).err().unwrap_or((500, "no answer".into()));
        Response::text(status, words + "\n")
    }

    fn later(&self, request: &Request<'_>) -> Option<Later> {
        let asked = read(request).ok()?;
        let mailbox = Arc::clone(&self.mailbox);
        Some(Box::pin(async move {
            let walked = walk(&mailbox, &asked).await;
            let json = walked.map(|walked| serde_json::to_string(&Report::new(&asked, &walked)));
            match json {
                Ok(Ok(body)) => Response { status: 200, content_type: "application/json", body },
                Ok(Err(error)) => Response::text(500, format!("{error}\n")),
                Err(words) => Response::text(503, words + "\n"),
            }
        }))
    }
}

/// What a request asks for, or the status and the words of its refusal.
fn read(request: &Request<'_>) -> Result<Asked, (u16, String)> {
    if !request.is_local || !is_of_this_host(request.host) {
        let words = "only from this host: forward a port to it, or run corelane explain beside it";
        return Err((403, words.into()));
    }
    let wrong = |words: String| (400, words);
    let mut name = Err("no name".to_owned());
    let (mut kind, mut from) = (rtype::A, client("127.0.0.1").map_err(wrong)?);
    let (mut at, mut transport) = (None, Transport::Udp);
    let (mut cd, mut edns) = (false, None::<Edns>);
    for pair in request.query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decode(value).ok_or_else(|| wrong(format!("{key}: not UTF-8")))?;
        match key {
            "name" => name = NameBuf::parse(&value).map_err(|error| format!("{value}: {error}")),
            "type" => {
                let parsed = rtype::parse(&value);
                kind = parsed.ok_or_else(|| wrong(format!("{value}: not a type")))?;
            }
            "from" => from = client(&value).map_err(wrong)?,
            "at" => at = Some(address(&value).map_err(wrong)?),
            "transport" if value == "tcp" => transport = Transport::Tcp,
            "transport" if value == "udp" => transport = Transport::Udp,
            "cd" => cd = true,
            "bufsize" => {
                let size = value.parse().map_err(|_| wrong(format!("{value}: not octets")))?;
                edns.get_or_insert_default().bufsize = size;
            }
            "do" => edns.get_or_insert_default().dnssec = true,
            "nsid" => edns.get_or_insert_default().nsid = true,
            "subnet" => {
                edns.get_or_insert_default().subnet = Some(value.parse().map_err(wrong)?);
            }
            _ => return Err(wrong(format!("{key}: {KEYS}"))),
        }
    }
    Ok(Asked { name: name.map_err(wrong)?, rtype: kind, from, at, transport, cd, edns })
}

/// Whether a Host header names an address, or this host itself.
fn is_of_this_host(host: &str) -> bool {
    let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let name = match host.rsplit_once(':') {
        Some((name, port)) if is_port(port) && (!name.contains(':') || name.ends_with(']')) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        bytes.push(match byte {
            b'%' => (digit(rest.next())? * 16 + digit(rest.next())?) as u8,
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn encode(text: &str) -> String {
    let octet = |byte: u8| match byte {
        // RFC 3986 section 2.3.
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(octet).collect()
}

/// The path and query of a question, as [`read`] reads it.
fn target(asked: &Asked) -> String {
    let Asked { name, rtype, from, at, transport, cd, edns } = asked;
    let mut target = format!(
        "{PATH}?name={}&type={}&from={}&transport={}",
        encode(&name.to_string()),
        rtype::text(*rtype),
        encode(&from.to_string()),
        transport.as_str(),
    );
    if let Some(at) = at {
        target += &format!("&at={}", encode(&at.to_string()));
    }
    if *cd {
        target += "&cd";
    }
    if let Some(Edns { bufsize, dnssec, nsid, subnet }) = edns {
        target += &format!("&bufsize={bufsize}");
        target += if *dnssec { "&do" } else { "" };
        target += if *nsid { "&nsid" } else { "" };
        if let Some(subnet) = subnet {
            target += &format!("&subnet={}", encode(&subnet.to_string()));
        }
    }
    target
}

/// Asks a running server.
///
/// # Errors
/// One line: it cannot be reached, or refuses.
pub async fn ask(server: &str, asked: &Asked) -> Result<Report, String> {
    let patience = Duration::from_nanos(4 * WALK_NANOS_MAX);
    let failed = |error: &dyn std::fmt::Display| format!("{server}: {error}");
    let exchange = async {
        let stream = TcpStream::connect(server).await.map_err(|error| failed(&error))?;
        let made = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = made.map_err(|error| failed(&error))?;
        let target = target(asked);
        let request = hyper::Request::get(target).header(HOST, server);
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| failed(&error))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), EXPLAIN_BYTES_MAX).collect().await;
            let body = body.map_err(|error| failed(&error))?.to_bytes();
            Ok::<_, String>((status, body))
        };
        tokio::pin!(answer);
        // The connection is driven as long as the answer is waited for.
        tokio::select! {
            answer = &mut answer => answer,
            ended = connection => match answer.await {
                Err(error) => Err(ended.err().map_or(error, |ended| failed(&ended))),
                good => good,
            },
        }
    };
    let answer = timeout(patience, exchange).await;
    let (status, body) = answer.unwrap_or_else(|_| Err(failed(&"no answer in time")))?;
    let text = String::from_utf8_lossy(&body);
    match status.as_u16() {
        200 => serde_json::from_str(&text).map_err(|error| failed(&error)),
        404 => Err(failed(&"no /explain there: it is beside /health, unless `status off` is said")),
        _ => Err(failed(&text.trim().escape_debug())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str, host: &str, is_local: bool) -> Result<Asked, u16> {
        let request = Request { query, host, is_local, ..Request::default() };
        read(&request).map_err(|(status, _)| status)
    }

    #[test]
    fn only_this_host_is_answered_by_its_own_name() {
        for host in ["localhost:8080", "LOCALHOST", "127.0.0.1:8080", "[::1]:8080", "::1"] {
            assert!(asked("name=a.test", host, true).is_ok(), "{host}");
            assert_eq!(asked("name=a.test", host, false), Err(403), "{host}");
        }
        for host in ["evil.test:8080", "localhost.evil.test", ""] {
            assert_eq!(asked("name=a.test", host, true), Err(403), "{host}");
        }
    }

    #[test]
    fn what_is_asked_comes_through() {
        let one = asked(
            "name=a%5C032b.test.&type=AAAA&from=%5B2001%3Adb8%3A%3A1%5D%3A9&at=%3A53&transport=tcp",
            "localhost",
            true,
        );
        let one = one.expect("a question");
        assert_eq!((one.name.to_string().as_str(), one.rtype), ("a\\ b.test.", rtype::AAAA));
        assert_eq!(one.from, "[2001:db8::1]:9".parse().unwrap());
        assert_eq!((one.at, one.transport), (Some("[::]:53".parse().unwrap()), Transport::Tcp));
        assert_eq!(decode(&encode(&one.name.to_string())), Some(one.name.to_string()));
        // What the one side writes the other reads.
        let subnet = Some("2001:db8::/32".parse().expect("a network"));
        let edns = Edns { bufsize: 512, dnssec: true, nsid: true, subnet };
        for (cd, edns) in [(true, Some(edns)), (false, Some(Edns::default())), (false, None)] {
            let one = Asked { cd, edns, ..one.clone() };
            let target = target(&one);
            let (_, query) = target.split_once('?').expect("a query");
            assert_eq!(asked(query, "localhost", true), Ok(one));
        }
        for query in [
            "",
            "name=a..b",
            "name=a&type=X",
            "name=a&x=1",
            "name=%zz",
            "name=a&from=x",
            "name=a&subnet=x",
        ] {
            assert_eq!(asked(query, "localhost", true), Err(400), "{query}");
        }
    }
}
