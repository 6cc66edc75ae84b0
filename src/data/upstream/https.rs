//! DNS over HTTPS to an upstream (RFC 8484): HTTP/2 on one connection, a task for each query in flight;
//! HTTP/1.1 with servers that speak nothing newer, a query at a time on each connection.
//!
//! The ids in messages are 0 on the way (section 4.1) and put back in the reply. A status other than
//! 200 and a body that is no message fail that query alone; when the connection ends, its queries end
//! with it. A body has at most 64 KiB.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper::rt::Executor;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::inbox::{Arrival, Inbox};
use super::network::ChannelId;
use super::stream::Connection;
use super::{HttpsMethod, HttpsTarget, Unreached};
use crate::limits::MESSAGE_BYTES_MAX;

const MEDIA_TYPE: &str = "application/dns-message";

type Body = Full<Bytes>;

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
    match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => carry_together(connection, stream, target, inbox).await,
        _ => {
            inbox.put(Arrival::Serial(connection.channel));
            carry_in_turn(connection, stream, target, inbox).await
        }
    }
}

/// HTTP/2: all at the same time.
async fn carry_together(
    connection: &Connection,
    stream: TlsStream<TcpStream>,
    target: &HttpsTarget,
    inbox: &Rc<Inbox>,
) -> Unreached {
    let Ok((sender, driver)) = http2::handshake::<_, _, Body>(Here, TokioIo::new(stream)).await
    else {
        return Unreached::Closed;
    };
    let mut driver = pin!(driver);
    poll_fn(|cx| {
        if connection.poll_closed(cx) || driver.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Unreached::Closed);
        }
        let mut asked = false;
        while let Some(asking) = Asking::next(connection, target, true, inbox) {
            asked = true;
            let mut sender = sender.clone();
            tokio::task::spawn_local(async move {
                let Asking { request, place } = asking;
                place.end(sender.send_request(request).await).await;
            });
        }
        if asked && driver.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Unreached::Closed);
        }
        Poll::Pending
    })
    .await
}

/// HTTP/1.1, of servers that speak nothing newer: one after the other.
async fn carry_in_turn(
    connection: &Connection,
    stream: TlsStream<TcpStream>,
    target: &HttpsTarget,
    inbox: &Rc<Inbox>,
) -> Unreached {
    let Ok((mut sender, driver)) = http1::handshake::<_, Body>(TokioIo::new(stream)).await else {
        return Unreached::Closed;
    };
    let asking = async {
        while let Some(Asking { request, place }) =
            poll_fn(|cx| next_in_turn(connection, &mut sender, target, inbox, cx)).await
        {
            if sender.ready().await.is_err() {
                break;
            }
            place.end(sender.send_request(request).await).await;
        }
        Unreached::Closed
    };
    let (mut asking, mut driver) = (pin!(asking), pin!(driver));
    tokio::select! {
        biased;
        cause = &mut asking => cause,
        // What the connection brought before its end is still to be handed over.
        _ = &mut driver => asking.await,
    }
}

/// The next query, once the one before has been answered; none: the connection is over.
fn next_in_turn(
    connection: &Connection,
    sender: &mut http1::SendRequest<Body>,
    target: &HttpsTarget,
    inbox: &Rc<Inbox>,
    cx: &mut Context<'_>,
) -> Poll<Option<Asking>> {
    if connection.poll_closed(cx) || matches!(sender.poll_ready(cx), Poll::Ready(Err(_))) {
        return Poll::Ready(None);
    }
    match Asking::next(connection, target, false, inbox) {
        Some(asking) => Poll::Ready(Some(asking)),
        None => Poll::Pending,
    }
}

/// A query on its way.
struct Asking {
    request: Request<Body>,
    place: Place,
}

/// Whose reply is awaited.
struct Place {
    channel: ChannelId,
    id: u16,
    inbox: Rc<Inbox>,
}

impl Asking {
    /// The next query to be sent, if there is one.
    fn next(
        connection: &Connection,
        target: &HttpsTarget,
        http2: bool,
        inbox: &Rc<Inbox>,
    ) -> Option<Self> {
        while let Some(query) = connection.next_query() {
            let Some(id) = query.first_chunk::<2>().map(|id| u16::from_be_bytes(*id)) else {
                continue;
            };
            let place = Place { channel: connection.channel, id, inbox: Rc::clone(inbox) };
            match request(target, query, http2) {
                Some(request) => return Some(Self { request, place }),
                None => place.fail(Unreached::Malformed),
            }
        }
        None
    }
}

/// The request for a query; `None` where the target makes no URI.
fn request(target: &HttpsTarget, mut query: Vec<u8>, http2: bool) -> Option<Request<Body>> {
    query[..2].fill(0);
    let HttpsTarget { authority, path, method, .. } = target;
    // HTTP/2 takes the authority from the URI, HTTP/1.1 from a header (RFC 9112 section 3.2.1).
    let origin = if http2 { format!("https://{authority}") } else { String::new() };
    let mut request = Request::builder().header(ACCEPT, MEDIA_TYPE);
    if !http2 {
        request = request.header(HOST, &**authority);
    }
    let request = match method {
        HttpsMethod::Post => request
            .method(Method::POST)
            .uri(format!("{origin}{path}"))
            .header(CONTENT_TYPE, MEDIA_TYPE)
            .body(Full::from(query)),
        HttpsMethod::Get => {
            let text = URL_SAFE_NO_PAD.encode(&query);
            let mark = if path.contains('?') { '&' } else { '?' };
            request.uri(format!("{origin}{path}{mark}dns={text}")).body(Full::default())
        }
    };
    request.ok()
}

impl Place {
    fn fail(&self, cause: Unreached) {
        self.inbox.put(Arrival::Failed(self.channel, self.id, cause));
    }

    /// Hands over the reply.
    async fn end(self, reply: Result<Response<Incoming>, hyper::Error>) {
        let reply = match reply {
            Ok(reply) => reply,
            // The connection is over, or takes no more: all who wait are told.
            Err(_) => return self.inbox.put(Arrival::Lost(self.channel, Unreached::Closed)),
        };
        let status = reply.status();
        let body = Limited::new(reply.into_body(), MESSAGE_BYTES_MAX).collect().await;
        let Ok(body) = body else { return self.fail(Unreached::Malformed) };
        let mut message = body.to_bytes().to_vec();
        if status != StatusCode::OK {
            return self.fail(Unreached::Status(status.as_u16()));
        }
        let Some(id) = message.get_mut(..2) else { return self.fail(Unreached::Malformed) };
        id.copy_from_slice(&self.id.to_be_bytes());
        poll_fn(|cx| self.inbox.poll_room(cx)).await;
        self.inbox.put_message(self.channel, &message);
    }
}
