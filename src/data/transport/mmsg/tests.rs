//! Replies that leave together, over loopback.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::time::Duration;

use super::*;

/// A server's socket, and clients to whom it replies.
struct Bench {
    server: UdpSocket,
    clients: Vec<UdpSocket>,
}

impl Bench {
    fn new(clients: usize, address: &str) -> Self {
        let bind = || {
            let socket = UdpSocket::bind((address, 0)).expect("bound");
            socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
            socket
        };
        Self { server: bind(), clients: (0..clients).map(|_| bind()).collect() }
    }

    /// A lane with a reply of `len` octets, filled with `fill`, to a client.
    fn lane(&self, client: usize, len: usize, fill: u8) -> Lane {
        let mut lane = Lane::new();
        lane.client.peer = self.clients[client].local_addr().expect("an address");
        lane.client.local = self.server.local_addr().expect("an address");
        lane.output[..len].fill(fill);
        lane.output_len = len;
        lane
    }

    /// Sends, and gives how many headers the kernel was given first.
    fn send(&self, batch: &mut Batch, lanes: &[Lane], gso: bool) -> Sent {
        batch.send(self.server.as_fd(), lanes, false, gso)
    }

    /// What `count` datagrams are that come to a client: lengths by what they are filled with.
    fn received(&self, client: usize, count: usize) -> BTreeMap<u8, usize> {
        let mut message = [0; 2_048];
        let received = (0..count).map(|_| {
            let len = self.clients[client].recv(&mut message).expect("a reply");
            assert!(message[..len].iter().all(|octet| *octet == message[0]), "one reply each");
            (message[0], len)
        });
        received.collect()
    }
}

/// Octets of the replies of each header.
fn spans(batch: &Batch, headers: usize) -> Vec<Vec<usize>> {
    let mut iovecs = batch.iovecs.iter();
    let header = |header: &libc::mmsghdr| {
        let some = iovecs.by_ref().take(header.msg_hdr.msg_iovlen);
        some.map(|iovec| iovec.iov_len).collect()
    };
    batch.headers[..headers].iter().map(header).collect()
}

fn laid(lanes: &[Lane], wildcard: bool) -> Vec<Vec<usize>> {
    let mut batch = Batch::new();
    let mut keys: Vec<u64> = lanes.iter().enumerate().map(|(n, lane)| key(n, lane)).collect();
    keys.sort_unstable();
    let headers = batch.lay(lanes, &keys, wildcard, true);
    spans(&batch, headers)
}

#[test]
fn together_are_equals_and_one_that_is_shorter() {
    let bench = Bench::new(2, "127.0.0.1");
    let lanes =
        |lens: &[usize]| -> Vec<Lane> { lens.iter().map(|len| bench.lane(0, *len, 1)).collect() };
    for (lens, expected) in [
        (&[60][..], &[&[60][..]][..]),
        (&[60, 60, 60], &[&[60, 60, 60]]),
        (&[50, 60, 60, 40], &[&[60, 60, 50], &[40]]),
        (&[1, 2, 3, 4], &[&[4, 3], &[2, 1]]),
        (&[512, 512, 513, 600, 600], &[&[600], &[600], &[513], &[512, 512]]),
    ] {
        assert_eq!(laid(&lanes(lens), false), expected, "{lens:?}");
    }
    let mut mixed = lanes(&[60, 60, 60]);
    mixed[1] = bench.lane(1, 60, 1);
    let mut spans = laid(&mixed, false);
    spans.sort();
    assert_eq!(spans, [vec![60], vec![60, 60]], "each client by itself");
    let mut asked = lanes(&[60, 60]);
    asked[1].client.local.set_ip([127, 0, 0, 2].into());
    assert_eq!(laid(&asked, true), [[60], [60]], "each from the address that was asked");
}

#[test]
fn each_reply_is_a_datagram_of_its_own() {
    for (address, gso) in [("127.0.0.1", true), ("127.0.0.1", false), ("::1", true)] {
        let bench = Bench::new(3, address);
        assert!(has_gso(bench.server.as_fd()), "Linux 4.18 or later");
        let mut lens = [[0; 16]; 3];
        let mut lanes = Vec::new();
        for number in 0..48_usize {
            let (client, fill) = (number % 3, number / 3);
            lens[client][fill] = 40 + number * 37 % 5 * 150;
            lanes.push(bench.lane(client, lens[client][fill], fill as u8));
        }
        // Nobody waits for this one.
        lanes[0].output_len = 0;
        let mut batch = Batch::new();
        assert_eq!(bench.send(&mut batch, &lanes, gso), Sent { sent: 47, refused: 0 });
        for (client, lens) in lens.iter().enumerate() {
            let expected = lens.iter().enumerate().map(|(fill, len)| (fill as u8, *len));
            let expected = expected.filter(|(fill, _)| (client, *fill) != (0, 0));
            let expected: BTreeMap<u8, usize> = expected.collect();
            assert_eq!(bench.received(client, expected.len()), expected, "{address} {gso}");
        }
        assert_eq!(batch.resting, 0);
    }
}

#[test]
fn what_cannot_leave_together_leaves_one_by_one() {
    let bench = Bench::new(1, "127.0.0.1");
    let on = 1_i32;
    // SAFETY: the kernel reads one int. Without checksums there is no UDP_SEGMENT.
    let set = unsafe {
        libc::setsockopt(
            bench.server.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NO_CHECK,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    assert_eq!(set, 0);
    let lanes: Vec<Lane> = (0..5).map(|fill| bench.lane(0, 60, fill)).collect();
    let mut batch = Batch::new();
    for _ in 0..3 {
        assert_eq!(bench.send(&mut batch, &lanes, true), Sent { sent: 5, refused: 0 });
        assert_eq!(bench.received(0, 5).len(), 5);
        // It is not tried again for long.
        assert!(batch.resting > GSO_REST_BATCHES - 3);
    }
}

#[test]
fn whom_nothing_can_be_sent_to_keeps_nobody_from_leaving_together() {
    let bench = Bench::new(1, "127.0.0.1");
    let mut lanes: Vec<Lane> = (0..6).map(|fill| bench.lane(0, 60, fill)).collect();
    // Anybody can pretend to ask from there; the kernel sends nothing to it.
    lanes[2..4].iter_mut().for_each(|lane| lane.client.peer.set_port(0));
    let mut batch = Batch::new();
    assert_eq!(bench.send(&mut batch, &lanes, true), Sent { sent: 4, refused: 2 });
    assert_eq!(bench.received(0, 4).len(), 4);
    assert_eq!(batch.resting, 0);
}

#[test]
fn queries_to_one_upstream_leave_together_and_arrive_one_by_one() {
    for gso in [true, false] {
        let bench = Bench::new(1, "127.0.0.1");
        bench
            .server
            .connect(bench.clients[0].local_addr().expect("an address"))
            .expect("connected");
        let lens = [70, 40, 70, 900, 33, 70, 40];
        let queries: Vec<Vec<u8>> = (0..).zip(lens).map(|(fill, len)| vec![fill; len]).collect();
        let mut batch = Batch::new();
        let queries = queries.iter().map(Vec::as_slice);
        batch.send_connected(bench.server.as_fd(), queries, gso).expect("sent");
        let expected: BTreeMap<u8, usize> = (0..).zip(lens).collect();
        assert_eq!(bench.received(0, lens.len()), expected);
        let headers = if gso { vec![1, 4, 2] } else { vec![1; 7] };
        let laid = batch.headers[..headers.len()].iter().map(|header| header.msg_hdr.msg_iovlen);
        assert_eq!(laid.collect::<Vec<_>>(), headers);
        assert_eq!(batch.resting, 0);
    }
}
