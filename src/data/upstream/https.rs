//! DNS over HTTPS to an upstream (RFC 8484), by HTTP/2 on one connection.
//!
//! A task for each query in flight; the ids in messages are 0 on the way (section 4.1) and put back
//! in the reply. A status other than 200 and a body that is no message fail that query alone; when the
//! connection ends, its queries end with it. A body has at most 64 KiB.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::header::{ACCEPT, CONTENT_TYPE};
use hyper::rt::Executor;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::inbox::{Arrival, Inbox};
use super::network::ChannelId;
use super::stream::Connection;
use super::{HttpsMethod, HttpsTarget, Unreached};
use crate::limits::MESSAGE_BYTES_MAX;
use crate::wire::HEADER_BYTES;

const MEDIA_TYPE: &str = "application/dns-message";

/// Runs hyper's tasks on the worker's runtime.
#[derive(Clone, Copy)]
struct Here;

impl<F: Future<Output: 'static> + 'static> Executor<F> for Here {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

/// Carries queries until the connection is over.
pub(super) async fn carry(
    connection: &Connection,
    stream: TlsStream<TcpStream>,
    target: &HttpsTarget,
    inbox: &Rc<Inbox>,
) -> Unreached {
    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Unreached::Tls;
    }
    let Ok((sender, driver)) = handshake::<_, _, Full<Bytes>>(Here, TokioIo::new(stream)).await
    else {
        return Unreached::Closed;
    };
    let mut driver = pin!(driver);
    poll_fn(|cx| {
        if connection.poll_closed(cx) || driver.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Unreached::Closed);
        }
        let mut asked = false;
        while let Some(query) = connection.next_query() {
            asked = true;
            let Some(id) = query.first_chunk::<2>().map(|id| u16::from_be_bytes(*id)) else {
                continue;
            };
            match request(target, query) {
                Some(request) => {
                    let (sender, inbox) = (sender.clone(), Rc::clone(inbox));
                    let channel = connection.channel;
                    tokio::task::spawn_local(ask(sender, request, channel, id, inbox));
                }
                None => inbox.put(Arrival::Failed(connection.channel, id, Unreached::Malformed)),
            }
        }
        if asked && driver.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Unreached::Closed);
        }
        Poll::Pending
    })
    .await
}

/// The request for a query; `None` where the target makes no URI.
fn request(target: &HttpsTarget, mut query: Vec<u8>) -> Option<Request<Full<Bytes>>> {
    query[..2].fill(0);
    let HttpsTarget { authority, path, method, .. } = target;
    let request = Request::builder().header(ACCEPT, MEDIA_TYPE);
    let request = match method {
        HttpsMethod::Post => request
            .method(Method::POST)
            .uri(format!("https://{authority}{path}"))
            .header(CONTENT_TYPE, MEDIA_TYPE)
            .body(Full::from(query)),
        HttpsMethod::Get => {
            let text = URL_SAFE_NO_PAD.encode(&query);
            let mark = if path.contains('?') { '&' } else { '?' };
            request.uri(format!("https://{authority}{path}{mark}dns={text}")).body(Full::default())
        }
    };
    request.ok()
}

/// Asks one query and hands over its reply.
async fn ask(
    mut sender: SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
    channel: ChannelId,
    id: u16,
    inbox: Rc<Inbox>,
) {
    let failed = |cause| inbox.put(Arrival::Failed(channel, id, cause));
    let reply = match sender.send_request(request).await {
        Ok(reply) => reply,
        // The connection is over, or will take no more: its end tells all who wait.
        Err(error) if error.is_canceled() || error.is_closed() || error.is_incomplete_message() => {
            return inbox.put(Arrival::Lost(channel, Unreached::Closed));
        }
        Err(_) => return failed(Unreached::Closed),
    };
    if reply.status() != StatusCode::OK {
        return failed(Unreached::Status(reply.status().as_u16()));
    }
    match Limited::new(reply.into_body(), MESSAGE_BYTES_MAX).collect().await {
        Ok(body) => {
            let mut message = body.to_bytes().to_vec();
            if message.len() < HEADER_BYTES {
                return failed(Unreached::Malformed);
            }
            message[..2].copy_from_slice(&id.to_be_bytes());
            poll_fn(|cx| inbox.poll_room(cx)).await;
            inbox.put_message(channel, &message);
        }
        Err(_) => failed(Unreached::Malformed),
    }
}
