//! Real sockets on the loopback, a turn that answers as each test wants, all on one runtime.

use super::*;
use crate::data::clock::{MILLISECOND, SECOND};
use crate::data::transport::engine::Engine;
use crate::limits::{STREAM_IN_FLIGHT_MAX, STREAM_OUT_BYTES_MAX, STREAM_READ_BYTES};
use crate::mail::Ending;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const LISTENER: u32 = 7;

fn counters() -> (Arc<Tally>, Rc<CoreTally>, StreamCounters) {
    let tally = Tally::new(1);
    let (counters, _gauge) = StreamCounters::register(&tally);
    let core = Rc::new(tally.core(0));
    (tally, core, counters)
}

/// A worker's streams, and the address where they listen.
struct Bench {
    streams: Rc<Streams>,
    address: SocketAddr,
    tally: Arc<Tally>,
    counters: StreamCounters,
}

impl Bench {
    /// Streams whose turn does with each query what `answer` does.
    fn new(timeouts: Timeouts, mut answer: impl FnMut(&Streams, StreamQuery) + 'static) -> Self {
        let bench = Self::without_turn(timeouts);
        let streams = Rc::clone(&bench.streams);
        tokio::task::spawn_local(async move {
            loop {
                poll_fn(|cx| streams.poll_ready(cx)).await;
                while let Some(query) = streams.take() {
                    answer(&streams, query);
                }
                streams.flush();
                tokio::task::yield_now().await;
            }
        });
        bench
    }

    fn without_turn(timeouts: Timeouts) -> Self {
        let (tally, core, counters) = counters();
        let streams = Streams::new(core, counters);
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        streams.open(LISTENER, socket, &Service::Dns, timeouts, Ending::Closed).unwrap();
        Self { streams, address, tally, counters }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Lets the tasks run until `done`.
    async fn until(&self, mut done: impl FnMut(&Streams) -> bool) {
        while !done(&self.streams) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Runs a test on the runtime of each engine that the machine has; a test that hangs fails.
fn on_worker<F: Future<Output = ()>>(test: impl Fn() -> F) {
    for engine in [Some(Engine::Mmsg), Engine::uring().ok()].into_iter().flatten() {
        let within = async {
            let limit = Duration::from_secs(60);
            tokio::time::timeout(limit, test()).await.expect("the test hangs");
        };
        engine.block_on(within).unwrap();
    }
}

fn echo(streams: &Streams, query: StreamQuery) {
    streams.deliver(query.client.connection, &query.message[..query.len]);
    streams.recycle(query.message);
}

fn framed(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    assert!(crate::data::transport::framing::append(&mut out, message));
    out
}

async fn read_message(stream: &mut TcpStream) -> Vec<u8> {
    let len = stream.read_u16().await.unwrap();
    let mut message = vec![0; usize::from(len)];
    stream.read_exact(&mut message).await.unwrap();
    message
}

async fn assert_closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(rest.is_empty(), "{} octets instead of the end", rest.len());
}

#[test]
fn queries_of_one_write_are_all_answered() {
    on_worker(|| async {
        let bench = Bench::new(Timeouts::default(), echo);
        let mut client = bench.connect().await;
        let messages: Vec<Vec<u8>> = (0..=255u8).map(|n| vec![n; 20 + n as usize]).collect();
        let all: Vec<u8> = messages.iter().flat_map(|message| framed(message)).collect();
        client.write_all(&all).await.unwrap();
        for message in &messages {
            assert_eq!(read_message(&mut client).await, *message);
        }
        assert_eq!(bench.streams.connections(), 1);
        assert_eq!(bench.streams.bytes(), 0);
    });
}

#[test]
fn replies_leave_in_the_order_in_which_they_are_made() {
    on_worker(|| async {
        let mut waiting = Vec::new();
        let bench = Bench::new(Timeouts::default(), move |streams, query| {
            waiting.push(query);
            if waiting.len() == 3 {
                waiting.drain(..).rev().for_each(|query| echo(streams, query));
            }
        });
        let mut client = bench.connect().await;
        for n in 1..=3u8 {
            client.write_all(&framed(&[n; 12])).await.unwrap();
        }
        for n in [3u8, 2, 1] {
            assert_eq!(read_message(&mut client).await, [n; 12]);
        }
    });
}

#[test]
fn a_message_may_come_octet_by_octet() {
    on_worker(|| async {
        let bench = Bench::new(Timeouts::default(), echo);
        let mut client = bench.connect().await;
        client.set_nodelay(true).unwrap();
        for octet in [framed(&[1, 2, 3]), framed(&[4])].concat() {
            client.write_all(&[octet]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(read_message(&mut client).await, [1, 2, 3]);
        assert_eq!(read_message(&mut client).await, [4]);
        assert_eq!(bench.streams.bytes(), 0, "what was held is given back");
    });
}

#[test]
fn messages_of_every_size_pass() {
    on_worker(|| async {
        let bench = Bench::new(Timeouts::default(), echo);
        let client = bench.connect().await;
        let (mut from, mut to) = client.into_split();
        let sizes = [1, 512, 4096, 4097, STREAM_READ_BYTES - 2, STREAM_READ_BYTES, 65_535, 3];
        let writer = tokio::task::spawn_local(async move {
            for (n, size) in sizes.into_iter().enumerate() {
                to.write_all(&framed(&vec![n as u8; size])).await.unwrap();
            }
            to
        });
        for (n, size) in sizes.into_iter().enumerate() {
            assert_eq!(usize::from(from.read_u16().await.unwrap()), size);
            let mut message = vec![0; size];
            from.read_exact(&mut message).await.unwrap();
            assert!(message.iter().all(|octet| *octet == n as u8));
        }
        drop(writer.await.unwrap());
        bench.until(|streams| streams.connections() == 0).await;
        assert_eq!(bench.streams.bytes(), 0);
    });
}

#[test]
fn a_length_of_zero_is_passed_over() {
    on_worker(|| async {
        let bench = Bench::new(Timeouts::default(), echo);
        let mut client = bench.connect().await;
        client.write_all(&[framed(&[9; 12]), vec![0, 0], framed(&[8; 12])].concat()).await.unwrap();
        assert_eq!(read_message(&mut client).await, [9; 12]);
        assert_eq!(read_message(&mut client).await, [8; 12]);
        drop(client);
        bench.until(|streams| streams.connections() == 0).await;
        assert_eq!(bench.streams.bytes(), 0);
    });
}

#[test]
fn a_client_that_closes_in_the_middle_of_a_message_is_forgotten() {
    on_worker(|| async {
        let bench = Bench::new(Timeouts::default(), echo);
        let mut client = bench.connect().await;
        client.write_all(&[0, 50, 1, 2, 3]).await.unwrap();
        bench.until(|streams| streams.bytes() == 5).await;
        drop(client);
        bench.until(|streams| streams.connections() == 0).await;
        assert_eq!(bench.streams.bytes(), 0);
        assert_eq!(bench.tally.value(bench.counters.closed), 1);
    });
}

#[test]
fn who_closes_its_side_still_gets_its_replies() {
    on_worker(|| async {
        let bench = Bench::without_turn(Timeouts::default());
        let mut client = bench.connect().await;
        let asked = [framed(&[1; 12]), framed(&[2; 12]), vec![0, 9, 1]].concat();
        client.write_all(&asked).await.unwrap();
        client.shutdown().await.unwrap();
        bench.until(|streams| streams.shared.has_work()).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(bench.streams.connections(), 1);
        while let Some(query) = bench.streams.take() {
            echo(&bench.streams, query);
        }
        bench.streams.flush();
        assert_eq!(read_message(&mut client).await, [1; 12]);
        assert_eq!(read_message(&mut client).await, [2; 12]);
        assert_closed(&mut client).await;
    });
}

#[test]
fn reading_stops_while_too_many_queries_are_in_flight() {
    on_worker(|| async {
        let waiting = Rc::new(RefCell::new(Vec::new()));
        let taken = Rc::clone(&waiting);
        let bench = Bench::new(Timeouts::default(), move |_, query| taken.borrow_mut().push(query));
        let mut client = bench.connect().await;
        let many = 4 * STREAM_IN_FLIGHT_MAX as usize;
        client.write_all(&framed(&[5; 12]).repeat(many)).await.unwrap();
        let most = STREAM_IN_FLIGHT_MAX as usize;
        bench.until(|_| waiting.borrow().len() == most).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(waiting.borrow().len(), most);
        // Half of them passed over, half answered: the rest is taken bit by bit.
        let (mut passed, mut answered) = (0, 0);
        while passed + answered < many {
            let Some(query) = waiting.borrow_mut().pop() else {
                tokio::time::sleep(Duration::from_millis(1)).await;
                continue;
            };
            if passed < answered {
                passed += 1;
                bench.streams.pass(query.client.connection);
                bench.streams.recycle(query.message);
            } else {
                answered += 1;
                echo(&bench.streams, query);
                bench.streams.flush();
            }
        }
        for _ in 0..answered {
            assert_eq!(read_message(&mut client).await, [5; 12]);
        }
    });
}

#[test]
fn a_client_that_does_not_read_is_not_read_from() {
    on_worker(|| async {
        let most = Rc::new(Cell::new(0));
        let seen = Rc::clone(&most);
        let bench = Bench::new(Timeouts::default(), move |streams, query| {
            streams.deliver(query.client.connection, &[query.message[0]; 8_000]);
            streams.recycle(query.message);
            seen.set(streams.bytes().max(seen.get()));
        });
        let client = bench.connect().await;
        let (mut from, mut to) = client.into_split();
        const COUNT: usize = 20_000;
        let writer = tokio::task::spawn_local(async move {
            for n in 0..COUNT {
                to.write_all(&framed(&[n as u8; 600])).await.unwrap();
            }
            to
        });
        // All buffers fill, then nothing moves.
        let mut before = usize::MAX;
        while before != bench.streams.bytes() || bench.streams.bytes() == 0 {
            before = bench.streams.bytes();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(!writer.is_finished());
        let bound = STREAM_OUT_BYTES_MAX + STREAM_IN_FLIGHT_MAX as usize * 8_002;
        assert!(most.get() <= bound + STREAM_READ_BYTES, "{}", most.get());
        for n in 0..COUNT {
            assert_eq!(from.read_u16().await.unwrap(), 8_000);
            let mut message = [0; 8_000];
            from.read_exact(&mut message).await.unwrap();
            assert_eq!(message[0], n as u8);
        }
        drop(writer.await.unwrap());
    });
}

#[test]
fn the_inbox_is_bounded_and_nobody_is_forgotten() {
    on_worker(|| async {
        let bench = Bench::without_turn(Timeouts::default());
        let mut clients = Vec::new();
        for _ in 0..30 {
            let mut client = bench.connect().await;
            client.write_all(&framed(&[3; 12]).repeat(100)).await.unwrap();
            clients.push(client);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut taken = 0;
        while taken < 3_000 {
            let mut batch = 0;
            while let Some(query) = bench.streams.take() {
                echo(&bench.streams, query);
                batch += 1;
            }
            assert!(batch <= crate::limits::STREAM_INBOX_QUERIES_MAX);
            taken += batch;
            bench.streams.flush();
            tokio::task::yield_now().await;
        }
        for client in &mut clients {
            for _ in 0..100 {
                assert_eq!(read_message(client).await, [3; 12]);
            }
        }
    });
}

fn quick() -> Timeouts {
    Timeouts { read: SECOND, write: SECOND, idle: 100 * MILLISECOND, queries: 0 }
}

#[test]
fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    on_worker(|| async {
        let bench = Bench::new(quick(), echo);
        let (mut idle, mut busy) = (bench.connect().await, bench.connect().await);
        idle.write_all(&framed(&[1; 12])).await.unwrap();
        assert_eq!(read_message(&mut idle).await, [1; 12]);
        let ended = tokio::task::spawn_local(async move { assert_closed(&mut idle).await });
        let mut asked = 0;
        while !ended.is_finished() || asked < 20 {
            busy.write_all(&framed(&[2; 12])).await.unwrap();
            assert_eq!(read_message(&mut busy).await, [2; 12]);
            asked += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        ended.await.unwrap();
        assert_eq!(bench.streams.connections(), 1);
    });
}

#[test]
fn the_first_message_and_the_rest_of_one_have_the_read_time_out() {
    on_worker(|| async {
        let timeouts = Timeouts { read: 100 * MILLISECOND, idle: 3_600 * SECOND, ..quick() };
        let bench = Bench::new(timeouts, echo);
        let (mut mute, mut slow) = (bench.connect().await, bench.connect().await);
        slow.write_all(&[framed(&[1; 12]), vec![0, 12, 1]].concat()).await.unwrap();
        assert_eq!(read_message(&mut slow).await, [1; 12]);
        let mut patient = bench.connect().await;
        patient.write_all(&framed(&[1; 12])).await.unwrap();
        assert_eq!(read_message(&mut patient).await, [1; 12]);
        assert_closed(&mut mute).await;
        assert_closed(&mut slow).await;
        assert_eq!(bench.streams.connections(), 1, "between messages it is the idle time-out");
    });
}

#[test]
fn a_slow_walk_is_no_reason_to_close() {
    on_worker(|| async {
        let timeouts = Timeouts { read: MILLISECOND, idle: MILLISECOND, ..quick() };
        let bench = Bench::without_turn(timeouts);
        let mut client = bench.connect().await;
        client.write_all(&framed(&[1; 12])).await.unwrap();
        bench.until(|streams| streams.shared.has_work()).await;
        let query = bench.streams.take().unwrap();
        let other = bench.connect().await;
        bench.until(|streams| streams.connections() == 2).await;
        bench.until(|streams| streams.connections() == 1).await;
        drop(other);
        echo(&bench.streams, query);
        bench.streams.flush();
        assert_eq!(read_message(&mut client).await, [1; 12]);
    });
}

#[test]
fn replies_that_nobody_takes_end_the_connection() {
    on_worker(|| async {
        let timeouts = Timeouts { write: 100 * MILLISECOND, ..Timeouts::default() };
        let bench = Bench::new(timeouts, |streams, query| {
            streams.deliver(query.client.connection, &[1; 60_000]);
            streams.recycle(query.message);
        });
        let mut client = bench.connect().await;
        client.write_all(&framed(&[1; 12]).repeat(1_000)).await.unwrap();
        bench.until(|streams| streams.bytes() > STREAM_OUT_BYTES_MAX).await;
        bench.until(|streams| streams.connections() == 0).await;
        assert_eq!(bench.streams.bytes(), 0);
    });
}

#[test]
fn a_connection_may_ask_only_so_much() {
    on_worker(|| async {
        let bench = Bench::new(Timeouts { queries: 2, ..Timeouts::default() }, echo);
        let mut client = bench.connect().await;
        client.write_all(&framed(&[1; 12]).repeat(3)).await.unwrap();
        for _ in 0..2 {
            assert_eq!(read_message(&mut client).await, [1; 12]);
        }
        assert_closed(&mut client).await;
    });
}

#[test]
fn one_address_has_only_so_many_connections() {
    crate::sys::raise_descriptor_limit();
    on_worker(|| async {
        let bench = Bench::new(Timeouts { read: 3_600 * SECOND, ..Timeouts::default() }, echo);
        let mut clients = Vec::new();
        for _ in 0..STREAM_CONNECTIONS_PER_ADDRESS_MAX {
            clients.push(bench.connect().await);
        }
        bench.until(|streams| streams.connections() == clients.len()).await;
        let mut refused = bench.connect().await;
        assert_closed(&mut refused).await;
        assert_eq!(bench.tally.value(bench.counters.address), 1);
        // Another address is another matter, and so is this one when a connection has ended.
        let other = tokio::net::TcpSocket::new_v4().unwrap();
        other.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let mut other = other.connect(bench.address).await.unwrap();
        bench.until(|streams| streams.connections() == clients.len() + 1).await;
        clients.pop();
        bench.until(|streams| streams.connections() == clients.len() + 1).await;
        let mut again = bench.connect().await;
        for client in [&mut other, &mut again] {
            client.write_all(&framed(&[1; 12])).await.unwrap();
            assert_eq!(read_message(client).await, [1; 12]);
        }
    });
}

#[test]
fn a_thousand_connections_are_served_and_leave_nothing() {
    crate::sys::raise_descriptor_limit();
    on_worker(|| async {
        let bench = Bench::new(Timeouts::default(), echo);
        let mut clients = Vec::new();
        for _ in 0..1_000 {
            clients.push(bench.connect().await);
        }
        for round in 0..3u8 {
            for client in &mut clients {
                client.write_all(&framed(&[round; 12]).repeat(2)).await.unwrap();
            }
            for client in &mut clients {
                assert_eq!(read_message(client).await, [round; 12]);
                assert_eq!(read_message(client).await, [round; 12]);
            }
        }
        assert_eq!(bench.streams.connections(), 1_000);
        drop(clients);
        bench.until(|streams| streams.connections() == 0).await;
        assert_eq!(bench.streams.bytes(), 0);
        assert!(bench.streams.addresses.borrow().is_empty());
        assert_eq!(bench.tally.value(bench.counters.opened), 1_000);
        assert_eq!(bench.tally.value(bench.counters.closed), 1_000);
    });
}

#[test]
fn draining_answers_what_was_asked_and_refuses_new_connections() {
    on_worker(|| async {
        let bench = Bench::without_turn(Timeouts::default());
        let (mut asking, mut idle) = (bench.connect().await, bench.connect().await);
        for client in [&mut asking, &mut idle] {
            client.write_all(&framed(&[1; 12])).await.unwrap();
            bench.until(|streams| streams.shared.has_work()).await;
            echo(&bench.streams, bench.streams.take().unwrap());
            bench.streams.flush();
            assert_eq!(read_message(client).await, [1; 12]);
        }
        asking.write_all(&framed(&[2; 12])).await.unwrap();
        // One that has just come, and asks when it is already too late for a new connection.
        let mut fresh = bench.connect().await;
        bench.streams.drain(Ending::Closed);
        assert_closed(&mut idle).await;
        fresh.write_all(&framed(&[3; 12])).await.unwrap();
        bench.until(|streams| streams.accepting.get() == 0).await;
        assert!(TcpStream::connect(bench.address).await.is_err());
        assert!(!bench.streams.is_idle());
        while !bench.streams.is_idle() {
            while let Some(query) = bench.streams.take() {
                echo(&bench.streams, query);
            }
            bench.streams.flush();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(read_message(&mut asking).await, [2; 12]);
        assert_closed(&mut asking).await;
        assert_eq!(read_message(&mut fresh).await, [3; 12]);
        assert_closed(&mut fresh).await;
    });
}

#[test]
fn a_reply_to_a_connection_that_is_gone_reaches_nobody() {
    on_worker(|| async {
        let bench = Bench::without_turn(Timeouts::default());
        let mut first = bench.connect().await;
        first.write_all(&framed(&[1; 12])).await.unwrap();
        bench.until(|streams| streams.shared.has_work()).await;
        let query = bench.streams.take().unwrap();
        SockRef::from(&first).set_linger(Some(Duration::ZERO)).unwrap();
        drop(first);
        bench.until(|streams| streams.connections() == 0).await;
        let mut second = bench.connect().await;
        bench.until(|streams| streams.connections() == 1).await;
        let old = query.client.connection;
        assert!(!bench.streams.deliver(old, &[1; 12]));
        assert!(!bench.streams.partial(old, &[1; 12]));
        bench.streams.pass(old);
        second.write_all(&framed(&[2; 12])).await.unwrap();
        bench.until(|streams| streams.shared.has_work()).await;
        let query = bench.streams.take().unwrap();
        assert_eq!(query.client.connection.0, old.0, "the place is used again");
        echo(&bench.streams, query);
        bench.streams.flush();
        assert_eq!(read_message(&mut second).await, [2; 12]);
    });
}

#[test]
fn one_of_many_replies_waits_until_there_is_room() {
    const COUNT: usize = 300;
    on_worker(|| async {
        let bench = Bench::without_turn(Timeouts::default());
        let mut client = bench.connect().await;
        client.write_all(&framed(&[1; 12])).await.unwrap();
        bench.until(|streams| streams.shared.has_work()).await;
        let id = bench.streams.take().unwrap().client.connection;
        let streams = Rc::clone(&bench.streams);
        let sender = tokio::task::spawn_local(async move {
            let mut most = 0;
            for n in 0..COUNT - 1 {
                assert!(streams.partial(id, &vec![n as u8; 30_000]));
                most = streams.bytes().max(most);
                poll_fn(|cx| streams.poll_ready(cx)).await;
                assert_eq!(streams.take_writable(), Some(id));
            }
            assert!(streams.deliver(id, &[(COUNT - 1) as u8; 30_000]));
            streams.flush();
            most
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!sender.is_finished(), "all buffers are full, nothing was read yet");
        for n in 0..COUNT {
            let message = read_message(&mut client).await;
            assert_eq!((message.len(), message[0]), (30_000, n as u8));
        }
        assert!(sender.await.unwrap() <= STREAM_OUT_BYTES_MAX);
        assert_eq!(bench.streams.take_writable(), None);
    });
}

#[test]
fn who_streams_learns_that_the_connection_is_gone() {
    on_worker(|| async {
        let bench = Bench::without_turn(Timeouts::default());
        let mut client = bench.connect().await;
        client.write_all(&framed(&[1; 12])).await.unwrap();
        bench.until(|streams| streams.shared.has_work()).await;
        let id = bench.streams.take().unwrap().client.connection;
        let mut sent = 0;
        while bench.streams.take_writable().is_some() || sent == 0 {
            assert!(bench.streams.partial(id, &[1; 60_000]));
            sent += 1;
            bench.streams.flush();
        }
        drop(client);
        bench.until(|streams| streams.connections() == 0).await;
        assert_eq!(bench.streams.take_writable(), Some(id));
        assert!(!bench.streams.partial(id, &[1; 60_000]));
        assert_eq!(bench.streams.take_writable(), None);
    });
}

#[test]
fn time_outs_can_change_under_a_connection() {
    on_worker(|| async {
        let bench = Bench::new(Timeouts { idle: 3_600 * SECOND, ..quick() }, echo);
        let mut client = bench.connect().await;
        client.write_all(&framed(&[1; 12])).await.unwrap();
        assert_eq!(read_message(&mut client).await, [1; 12]);
        bench.streams.reconfigure(LISTENER, &Service::Dns, quick());
        assert_closed(&mut client).await;
    });
}
