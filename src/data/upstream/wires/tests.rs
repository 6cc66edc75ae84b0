//! Sockets and connections against servers that keep to the rules and servers that do not.

use std::future::{Future, poll_fn};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::{LocalSet, spawn_local};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::data::clock::SECOND;
use crate::data::tally::Tally;
use crate::data::upstream::{Carrier, HttpsMethod, HttpsTarget, TlsTarget, UpstreamSpec};

/// Long enough that only a hang takes it.
const PATIENCE: Duration = Duration::from_secs(30);
const CHANNEL: ChannelId = ChannelId { index: 3, use_count: 9 };

/// Runs on a runtime like a worker's.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let limited = async { tokio::time::timeout(PATIENCE, test).await.expect("no hang") };
    LocalSet::new().block_on(&runtime, limited);
}

fn upstream(address: SocketAddr, carrier: Carrier) -> Arc<Upstream> {
    let spec = UpstreamSpec {
        proxy: "test",
        label: "test".into(),
        address,
        carrier,
        source: Some(address.ip()),
        expire: SECOND,
        max_age: 0,
        max_idle: 0,
    };
    Upstream::new(spec, &Tally::new(1))
}

/// A server on a free port of ours; `serve` gets its first connection.
async fn server<F: Future<Output = ()> + 'static>(
    serve: impl FnOnce(tokio::net::TcpStream) -> F + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn_local(async move { serve(listener.accept().await.unwrap().0).await });
    address
}

/// What comes next by a stream.
async fn arrival(wires: &mut Wires) -> Arrival {
    poll_fn(|cx| match wires.poll_ready(cx, |_| true) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
    wires.take().expect("something has come")
}

/// Opens a stream and asks.
fn asking(upstream: &Arc<Upstream>, queries: &[&[u8]]) -> Wires {
    let mut wires = Wires::new(true);
    wires.open(CHANNEL, upstream, true).expect("a connection on its way");
    queries.iter().for_each(|query| wires.ask(CHANNEL, query).expect("room"));
    wires
}

async fn message(wires: &mut Wires) -> Vec<u8> {
    match arrival(wires).await {
        Arrival::Message(CHANNEL, memory, len) => memory[..len].to_vec(),
        other => panic!("{other:?}"),
    }
}

async fn cause(wires: &mut Wires) -> Unreached {
    match arrival(wires).await {
        Arrival::Lost(CHANNEL, cause) => cause,
        other => panic!("{other:?}"),
    }
}

async fn read_one(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let len = stream.read_u16().await.unwrap();
    let mut query = vec![0; usize::from(len)];
    stream.read_exact(&mut query).await.unwrap();
    query
}

async fn write_one(stream: &mut (impl AsyncWrite + Unpin), message: &[u8]) {
    stream.write_u16(message.len() as u16).await.unwrap();
    stream.write_all(message).await.unwrap();
    stream.flush().await.unwrap();
}

#[test]
fn replies_on_a_connection_come_in_any_order_and_any_size() {
    run(async {
        let address = server(|mut stream| async move {
            let (one, two) = (read_one(&mut stream).await, read_one(&mut stream).await);
            write_one(&mut stream, &[&two[..], &[7; 65_000]].concat()).await;
            write_one(&mut stream, &one).await;
            // Octet by octet.
            for octet in [0, 3, 1, 2, 3] {
                stream.write_all(&[octet]).await.unwrap();
                tokio::task::yield_now().await;
            }
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "closed by the turn");
        });
        let upstream = upstream(address.await, Carrier::Dns);
        let mut wires = asking(&upstream, &[b"one", b"two"]);
        assert_eq!(message(&mut wires).await.len(), 65_003);
        assert_eq!(message(&mut wires).await, b"one");
        assert_eq!(message(&mut wires).await, [1, 2, 3]);
        wires.close(CHANNEL);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(wires.take().is_none(), "a closed channel says nothing");
        assert_eq!(wires.ask(CHANNEL, b"more"), Err(Unreached::NoRoom));
    });
}

#[test]
fn an_end_tells_its_cause() {
    run(async {
        for (octets, expected) in [
            (&b""[..], Unreached::Closed),
            (b"\0", Unreached::Malformed),
            (b"\0\x05abc", Unreached::Malformed),
            (b"\0\0abc", Unreached::Malformed),
        ] {
            let address = server(move |mut stream| async move {
                read_one(&mut stream).await;
                stream.write_all(octets).await.unwrap();
            });
            let upstream = upstream(address.await, Carrier::Dns);
            assert_eq!(cause(&mut asking(&upstream, &[b"one"])).await, expected, "{octets:?}");
        }
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = nobody.local_addr().unwrap();
        drop(nobody);
        let upstream = upstream(address, Carrier::Dns);
        assert_eq!(cause(&mut asking(&upstream, &[b"one"])).await, Unreached::Refused);
    });
}

#[test]
fn what_an_upstream_does_not_take_is_bounded() {
    run(async {
        let address = server(|stream| async move {
            std::future::pending::<()>().await;
            drop(stream);
        });
        let upstream = upstream(address.await, Carrier::Dns);
        let mut wires = asking(&upstream, &[]);
        let mut taken = 0;
        while wires.ask(CHANNEL, &[1; 60_000]).is_ok() {
            taken += 1;
            assert!(taken < 1_000, "no bound");
            tokio::task::yield_now().await;
        }
        assert!(taken > 2);
    });
}

/// A certificate for `dns.example`, who trusts it, and who presents it.
fn certified(protocols: &[&[u8]]) -> (Arc<ClientConfig>, TlsAcceptor) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["dns.example".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    server.alpn_protocols = protocols.iter().map(|one| one.to_vec()).collect();
    client.alpn_protocols.clone_from(&server.alpn_protocols);
    (Arc::new(client), TlsAcceptor::from(Arc::new(server)))
}

fn tls(config: &Arc<ClientConfig>, name: &'static str) -> TlsTarget {
    TlsTarget { server_name: ServerName::try_from(name).unwrap(), config: Arc::clone(config) }
}

#[test]
fn tls_carries_what_tcp_does_and_refuses_another_name() {
    run(async {
        let (client, acceptor) = certified(&[]);
        let accept = acceptor.clone();
        let address = server(move |stream| async move {
            let mut stream = accept.accept(stream).await.unwrap();
            let (one, two) = (read_one(&mut stream).await, read_one(&mut stream).await);
            write_one(&mut stream, &two).await;
            write_one(&mut stream, &one).await;
        });
        let good = upstream(address.await, Carrier::Tls(tls(&client, "dns.example")));
        let mut wires = asking(&good, &[b"one", b"two"]);
        assert_eq!(message(&mut wires).await, b"two");
        assert_eq!(message(&mut wires).await, b"one");
        let address = server(move |stream| async move { drop(acceptor.accept(stream).await) });
        let other = upstream(address.await, Carrier::Tls(tls(&client, "other.example")));
        assert_eq!(cause(&mut asking(&other, &[b"one"])).await, Unreached::Tls);
        // Not TLS at all.
        let address = server(|mut stream| async move {
            let _ = stream.write_all(b"220 ready\r\n").await;
        });
        let plain = upstream(address.await, Carrier::Tls(tls(&client, "dns.example")));
        assert_eq!(cause(&mut asking(&plain, &[b"one"])).await, Unreached::Tls);
    });
}

#[test]
fn a_query_by_tls_is_a_record_of_its_own() {
    run(async {
        let (client, acceptor) = certified(&[]);
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let address = server(move |stream| async move {
            let mut stream = acceptor.accept(stream).await.unwrap();
            loop {
                // What one record holds.
                let record = stream.fill_buf().await.unwrap().to_vec();
                stream.consume(record.len());
                if record.is_empty() || tell.send(record).is_err() {
                    return;
                }
            }
        });
        let good = upstream(address.await, Carrier::Tls(tls(&client, "dns.example")));
        let long = [7; 20_000];
        let mut wires = asking(&good, &[b"one", b"three", &long, b"two"]);
        for expected in [&b"\0\x03one"[..], b"\0\x05three"] {
            assert_eq!(told.recv().await.unwrap(), expected);
        }
        let (first, second) = (told.recv().await.unwrap(), told.recv().await.unwrap());
        assert_eq!([first, second].concat()[..], [&20_000u16.to_be_bytes()[..], &long].concat());
        assert_eq!(told.recv().await.unwrap(), b"\0\x03two");
        // As those that come while the connection is there.
        for query in [b"four", b"five"] {
            wires.ask(CHANNEL, query).expect("room");
        }
        for expected in [b"\0\x04four", b"\0\x04five"] {
            assert_eq!(told.recv().await.unwrap(), expected);
        }
        wires.close(CHANNEL);
        assert_eq!(told.recv().await, None);
    });
}

/// Echoes a query as its reply; `teapot` gets another status.
async fn echo(
    request: hyper::Request<hyper::body::Incoming>,
) -> Result<hyper::Response<Full<Bytes>>, hyper::Error> {
    use base64::Engine as _;
    assert_eq!(request.uri().path(), "/ask");
    let query = request.uri().query().and_then(|query| query.strip_prefix("dns="));
    let message = match query {
        Some(text) => base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap().into(),
        None => request.into_body().collect().await?.to_bytes(),
    };
    assert_eq!(message[..2], [0, 0], "the id on the way");
    let status = if message.ends_with(b"teapot") { 418 } else { 200 };
    let body = if message.ends_with(b"long") { vec![1; 70_000].into() } else { message };
    Ok(hyper::Response::builder().status(status).body(Full::new(body)).unwrap())
}

fn https(config: &Arc<ClientConfig>, method: HttpsMethod) -> Carrier {
    Carrier::Https(HttpsTarget {
        tls: tls(config, "dns.example"),
        authority: "dns.example".into(),
        path: "/ask".into(),
        method,
    })
}

#[test]
fn https_carries_messages_by_both_methods_and_both_versions() {
    run(async {
        for (protocol, method) in [
            (&b"h2"[..], HttpsMethod::Post),
            (b"h2", HttpsMethod::Get),
            (b"http/1.1", HttpsMethod::Post),
            (b"http/1.1", HttpsMethod::Get),
        ] {
            let (client, acceptor) = certified(&[protocol]);
            let address = server(move |stream| async move {
                let stream = TokioIo::new(acceptor.accept(stream).await.unwrap());
                let service = service_fn(echo);
                let _ = match protocol {
                    b"h2" => {
                        let executor = hyper_util::rt::TokioExecutor::new();
                        let server = hyper::server::conn::http2::Builder::new(executor);
                        server.serve_connection(stream, service).await
                    }
                    _ => {
                        let server = hyper::server::conn::http1::Builder::new();
                        server.serve_connection(stream, service).await
                    }
                };
            });
            let upstream = upstream(address.await, https(&client, method));
            let mut wires =
                asking(&upstream, &[b"\x12\x34one", b"\x12\x35teapot", b"\x12\x36long"]);
            let mut seen = Vec::new();
            while seen.len() < 3 {
                match arrival(&mut wires).await {
                    Arrival::Serial(CHANNEL) => assert_eq!(protocol, b"http/1.1"),
                    Arrival::Message(CHANNEL, memory, len) => {
                        seen.push(Ok(memory[..len].to_vec()));
                    }
                    Arrival::Failed(CHANNEL, id, cause) => seen.push(Err((id, cause))),
                    other => panic!("{other:?}"),
                }
            }
            assert!(seen.contains(&Ok(b"\x12\x34one".to_vec())), "{seen:?}");
            assert!(seen.contains(&Err((0x1235, Unreached::Status(418)))), "{seen:?}");
            assert!(seen.contains(&Err((0x1236, Unreached::Malformed))), "{seen:?}");
            wires.close(CHANNEL);
        }
    });
}

#[test]
fn datagrams_come_in_batches_and_a_refusal_at_once() {
    run(async {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        let upstream = upstream(server.local_addr().unwrap(), Carrier::Dns);
        let mut wires = Wires::new(true);
        wires.open(CHANNEL, &upstream, false).unwrap();
        let mut queries = Queries::default();
        for number in 0..64u8 {
            queries.bytes.extend([number, 1]);
            let at = u32::from(number) * 2;
            queries.parts.push(at..at + 2);
        }
        wires.send(CHANNEL, &queries).unwrap();
        let mut memory = [0; 16];
        for number in 0..64u8 {
            let (len, peer) = server.recv_from(&mut memory).unwrap();
            assert_eq!(memory[..len], [number, 1]);
            let long = if number == 0 { 9_000 } else { 2 };
            server.send_to(&vec![number; long], peer).unwrap();
        }
        let mut lanes: Vec<_> = (0..BATCH_DATAGRAMS).map(|_| Lane::new()).collect();
        let mut got = 0;
        while got < 64 {
            poll_fn(|cx| match wires.poll_ready(cx, |_| true) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            })
            .await;
            match wires.receive(&mut lanes) {
                Some(Received::Datagrams(CHANNEL, count)) => {
                    for lane in &lanes[..count] {
                        let cut = lane.input_len > lane.input.len();
                        assert_eq!((lane.input[0], cut), (got, got == 0));
                        got += 1;
                    }
                }
                Some(other) => panic!("{other:?}"),
                None => {}
            }
        }
        // Nobody listens there any more: ICMP says so, to the next who looks or sends.
        drop(server);
        let sent = wires.send(CHANNEL, &queries);
        let told = match sent {
            Err(cause) => cause,
            Ok(()) => loop {
                poll_fn(|cx| match wires.poll_ready(cx, |_| true) {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                })
                .await;
                if let Some(Received::Lost(CHANNEL, cause)) = wires.receive(&mut lanes) {
                    break cause;
                }
            },
        };
        assert_eq!(told, Unreached::Refused);
        wires.close(CHANNEL);
        assert!(wires.receive(&mut lanes).is_none() && !wires.is_ready());
    });
}
