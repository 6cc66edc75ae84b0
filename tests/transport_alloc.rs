//! Messages go in and out without an allocation: a counting allocator watches a worker's thread,
//! on every engine that the machine has.

use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::rc::Rc;
use std::sync::mpsc::{Sender, channel};
use std::task::Poll;

use corelane::data::tally::Tally;
use corelane::data::transport::Lane;
use corelane::data::transport::engine::{Datagrams, Engine};
use corelane::data::transport::mmsg::Batch;
use corelane::data::transport::stream::{StreamCounters, Streams};
use corelane::limits::BATCH_DATAGRAMS;
use corelane::mail::Ending;
use corelane::snapshot::{Service, Timeouts};

mod counting;

use counting::allocated;

/// Messages of one round of a client.
const ROUND: u64 = 24;
/// Messages after which all buffers are there.
const WARM: u64 = 100 * ROUND;
/// Messages of a test.
const ALL: u64 = 1_000 * ROUND;

/// Counts a worker's messages and, between the first and the last of the warm ones, allocations.
#[derive(Default)]
struct Watch {
    messages: u64,
    before: Option<u64>,
}

impl Watch {
    /// The allocations, once all messages have come.
    fn count(&mut self, messages: u64) -> Option<u64> {
        self.messages += messages;
        if self.before.is_none() && self.messages >= WARM {
            self.before = Some(allocated());
        }
        (self.messages >= ALL).then(|| allocated() - self.before.unwrap_or(0))
    }
}

/// Runs a worker and a client on threads of their own; gives the worker's allocations.
fn watch<F: Future<Output = u64>>(
    engine: Engine,
    worker: impl FnOnce(Engine, Sender<SocketAddr>) -> F + Send + 'static,
    client: impl FnOnce(SocketAddr),
) -> u64 {
    let (tell, told) = channel();
    let worker = std::thread::spawn(move || engine.block_on(worker(engine, tell)).unwrap());
    client(told.recv().unwrap());
    worker.join().unwrap()
}

fn engines() -> impl Iterator<Item = Engine> {
    [Some(Engine::Gso), Some(Engine::Mmsg), Engine::uring().ok()].into_iter().flatten()
}

async fn echo_streams(_: Engine, tell: Sender<SocketAddr>) -> u64 {
    let tally = Tally::new(1);
    let (counters, _gauge) = StreamCounters::register(&tally);
    let streams = Streams::new(Rc::new(tally.core(0)), counters);
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    streams.open(0, socket, &Service::Dns, Timeouts::default(), Ending::Closed).unwrap();
    tell.send(address).unwrap();
    let mut watch = Watch::default();
    loop {
        poll_fn(|cx| streams.poll_ready(cx)).await;
        let mut taken = 0;
        while let Some(query) = streams.take() {
            assert!(streams.deliver(query.client.connection, &query.message[..query.len]));
            streams.recycle(query.message);
            taken += 1;
        }
        streams.flush();
        if let Some(allocations) = watch.count(taken) {
            return allocations;
        }
    }
}

#[test]
fn a_query_on_a_stream_allocates_nothing() {
    for engine in engines() {
        let allocations = watch(engine, echo_streams, |address| {
            let mut streams: Vec<TcpStream> =
                (0..4).map(|_| TcpStream::connect(address).unwrap()).collect();
            let each = ROUND as usize / streams.len();
            // The last message in two parts: parts are held without an allocation, too.
            let messages = [&[0, 40][..], &[1; 40]].concat().repeat(each);
            let (most, rest) = messages.split_at(messages.len() - 20);
            for _ in 0..ALL / ROUND {
                for stream in &mut streams {
                    stream.write_all(most).unwrap();
                }
                for stream in &mut streams {
                    stream.write_all(rest).unwrap();
                }
                for stream in &mut streams {
                    stream.read_exact(&mut vec![0; messages.len()]).unwrap();
                }
            }
        });
        assert_eq!(allocations, 0, "{engine:?}");
    }
}

async fn echo_datagrams(engine: Engine, tell: Sender<SocketAddr>) -> u64 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    let mut datagrams = Datagrams::open(engine, socket, address).unwrap();
    tell.send(address).unwrap();
    let mut batch = Batch::new();
    let mut lanes: Vec<Lane> = (0..BATCH_DATAGRAMS).map(|_| Lane::new()).collect();
    let mut watch = Watch::default();
    loop {
        poll_fn(|cx| if datagrams.poll_ready(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
        let count = datagrams.receive(&mut batch, &mut lanes);
        for lane in &mut lanes[..count] {
            std::mem::swap(&mut lane.input, &mut lane.output);
            lane.output_len = lane.input_len;
        }
        datagrams.send(&mut batch, &lanes[..count]);
        engine.pause().await;
        if let Some(allocations) = watch.count(count as u64) {
            return allocations;
        }
    }
}

#[test]
fn a_datagram_allocates_nothing() {
    for engine in engines() {
        let allocations = watch(engine, echo_datagrams, |address| {
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.connect(address).unwrap();
            for _ in 0..ALL / ROUND {
                for n in 0..ROUND {
                    client.send(&[n as u8; 40]).unwrap();
                }
                for _ in 0..ROUND {
                    client.recv(&mut [0; 64]).unwrap();
                }
            }
        });
        assert_eq!(allocations, 0, "{engine:?}");
    }
}
