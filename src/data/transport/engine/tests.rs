//! The same sockets and the same tests for every engine that the machine has.

use super::*;
use crate::data::transport::sockets::{Sockets, Steering};
use crate::limits::LANE_BYTES;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::UdpSocket as Client;

/// Runs a test on each engine; one that hangs fails. What the machine refuses is left out.
fn on_each_engine<F: Future<Output = ()>>(test: impl Fn(Engine) -> F) {
    let ring = Engine::uring().inspect_err(|error| assert!(is_refusal(error), "{error}"));
    for engine in [Some(Engine::Gso), Some(Engine::Mmsg), ring.ok()].into_iter().flatten() {
        let within = async {
            let limit = Duration::from_secs(60);
            tokio::time::timeout(limit, test(engine)).await.expect("the test hangs");
        };
        engine.block_on(within).unwrap();
    }
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported)
        || error.raw_os_error() == Some(libc::ENOSYS)
}

/// A turn of a kind: answers each datagram with itself, until the bench is dropped.
struct Bench {
    address: SocketAddr,
    served: Rc<Cell<usize>>,
    turn: tokio::task::JoinHandle<()>,
}

impl Bench {
    fn new(engine: Engine, address: &str) -> Self {
        let sockets = Sockets::bind(address.parse().unwrap(), 1, Steering::Hash).unwrap();
        let local = sockets.local;
        let udp = sockets.udp.into_iter().next().unwrap();
        let served = Rc::new(Cell::new(0));
        let count = Rc::clone(&served);
        let turn = tokio::task::spawn_local(async move {
            let mut datagrams = Datagrams::open(engine, udp, local).unwrap();
            let (mut batch, mut lanes) = (Batch::new(), lanes());
            loop {
                poll_fn(|cx| match datagrams.poll_ready(cx) {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                })
                .await;
                let got = datagrams.receive(&mut batch, &mut lanes);
                echo(&mut datagrams, &mut batch, &mut lanes[..got]);
                count.set(count.get() + got);
                engine.pause().await;
            }
        });
        Self { address: local, served, turn }
    }

    async fn client(&self, ip: &str) -> Client {
        let client = Client::bind((ip.parse::<IpAddr>().unwrap(), 0)).await.unwrap();
        client.connect((ip.parse::<IpAddr>().unwrap(), self.address.port())).await.unwrap();
        client
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.turn.abort();
    }
}

fn lanes() -> Vec<Lane> {
    (0..BATCH_DATAGRAMS).map(|_| Lane::new()).collect()
}

fn echo(datagrams: &mut Datagrams, batch: &mut Batch, lanes: &mut [Lane]) {
    for lane in lanes.iter_mut() {
        // A datagram that was cut has no length; the client learns of it by one octet.
        lane.output_len = lane.input_len.max(1);
        lane.output[..lane.output_len].copy_from_slice(&lane.input[..lane.output_len]);
        if lane.input_len == 0 {
            lane.output[0] = 0xff;
        }
    }
    let sent = datagrams.send(batch, lanes);
    assert_eq!((sent.sent, sent.refused), (lanes.len(), 0));
}

async fn answer(client: &Client) -> Vec<u8> {
    let mut message = vec![0; 65_535];
    let len = client.recv(&mut message).await.unwrap();
    message.truncate(len);
    message
}

#[test]
fn every_client_gets_its_own_replies() {
    on_each_engine(|engine| async move {
        let bench = Bench::new(engine, "127.0.0.1:0");
        let mut clients = Vec::new();
        for _ in 0..20 {
            clients.push(bench.client("127.0.0.1").await);
        }
        for round in 0..50u8 {
            for (n, client) in clients.iter().enumerate() {
                for part in 0..5u8 {
                    client.send(&[&[round, n as u8, part][..], &[7; 40]].concat()).await.unwrap();
                }
            }
            for (n, client) in clients.iter().enumerate() {
                let mut parts = BTreeSet::new();
                for _ in 0..5 {
                    let message = answer(client).await;
                    assert_eq!((message.len(), &message[..2]), (43, &[round, n as u8][..]));
                    parts.insert(message[2]);
                }
                assert_eq!(parts.len(), 5);
            }
        }
        assert_eq!(bench.served.get(), 5_000);
    });
}

#[test]
fn a_wildcard_answers_from_the_address_that_was_asked() {
    on_each_engine(|engine| async move {
        // Clients are connected: a reply from another address would never reach them.
        let bench = Bench::new(engine, "0.0.0.0:0");
        for ip in ["127.0.0.1", "127.0.0.2", "127.8.9.10"] {
            let client = bench.client(ip).await;
            client.send(ip.as_bytes()).await.unwrap();
            assert_eq!(answer(&client).await, ip.as_bytes());
        }
    });
}

#[test]
fn one_wildcard_serves_both_families() {
    on_each_engine(|engine| async move {
        let bench = Bench::new(engine, "[::]:0");
        let mut ips = vec!["127.0.0.1", "127.0.0.3"];
        if bench.address.is_ipv6() {
            ips.push("::1");
        }
        for ip in ips {
            let client = bench.client(ip).await;
            client.send(ip.as_bytes()).await.unwrap();
            assert_eq!(answer(&client).await, ip.as_bytes());
        }
    });
}

#[test]
fn a_datagram_longer_than_a_lane_has_no_length() {
    on_each_engine(|engine| async move {
        let bench = Bench::new(engine, "127.0.0.1:0");
        let client = bench.client("127.0.0.1").await;
        client.send(&[1; LANE_BYTES + 1]).await.unwrap();
        assert_eq!(answer(&client).await, [0xff]);
        client.send(&[1; LANE_BYTES]).await.unwrap();
        assert_eq!(answer(&client).await, [1; LANE_BYTES]);
        client.send(&[]).await.unwrap();
        assert_eq!(answer(&client).await, [0xff]);
    });
}

#[test]
fn a_reply_may_be_longer_than_a_lane() {
    on_each_engine(|engine| async move {
        let sockets = Sockets::bind("127.0.0.1:0".parse().unwrap(), 1, Steering::Hash).unwrap();
        let (local, udp) = (sockets.local, sockets.udp.into_iter().next().unwrap());
        let mut datagrams = Datagrams::open(engine, udp, local).unwrap();
        let client = Client::bind("127.0.0.1:0").await.unwrap();
        let mut lane = Lane::new();
        lane.client.peer = client.local_addr().unwrap();
        lane.output = vec![5; 9_000].into_boxed_slice();
        for len in [9_000, 1] {
            lane.output_len = len;
            datagrams.send(&mut Batch::new(), std::slice::from_ref(&lane));
            assert_eq!(answer(&client).await, vec![5; len]);
        }
    });
}

#[test]
fn a_closed_socket_takes_nothing_more() {
    on_each_engine(|engine| async move {
        let bench = Bench::new(engine, "127.0.0.1:0");
        let client = bench.client("127.0.0.1").await;
        client.send(&[1]).await.unwrap();
        assert_eq!(answer(&client).await, [1]);
        let address = bench.address;
        drop(bench);
        // The port is free as soon as nothing in the kernel holds the socket any more.
        while UdpSocket::bind(address).is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn what_came_before_the_close_can_still_be_read() {
    on_each_engine(|engine| async move {
        let sockets = Sockets::bind("127.0.0.1:0".parse().unwrap(), 1, Steering::Hash).unwrap();
        let (local, udp) = (sockets.local, sockets.udp.into_iter().next().unwrap());
        let mut datagrams = Datagrams::open(engine, udp, local).unwrap();
        let client = Client::bind("127.0.0.1:0").await.unwrap();
        client.connect(local).await.unwrap();
        for n in 0..200u8 {
            client.send(&[n]).await.unwrap();
        }
        let (mut batch, mut lanes) = (Batch::new(), lanes());
        let mut seen = BTreeSet::new();
        // As a worker does that drains: what is ready, then what is left.
        if engine != Engine::Mmsg {
            engine.pause().await;
            poll_fn(|cx| {
                datagrams.poll_ready(cx);
                Poll::Ready(())
            })
            .await;
        }
        loop {
            let got = datagrams.receive_last(&mut batch, &mut lanes);
            seen.extend(lanes[..got].iter().map(|lane| lane.input[0]));
            if got == 0 {
                break;
            }
        }
        // The ring may have taken a batch that it has not told of.
        let least = if engine == Engine::Mmsg { 200 } else { 200 - BATCH_DATAGRAMS };
        assert!(seen.len() >= least, "{} of 200", seen.len());
    });
}
