//! How long datagrams wait in the kernel, by its time stamps (SO_TIMESTAMPNS), of one receive in many.
//!
//! The stamps are asked for around that one receive, so that no other one carries them. The first
//! time has the kernel stamp whatever the machine receives from then on, some 20 ns a packet; it goes
//! on until the socket is closed. What is still in the queue without a stamp then counts as just come.
//! The io_uring engine keeps a receive in flight all the time and has none of this.

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::data::clock::{self, Nanos, SECOND};
use crate::limits::{BATCH_DATAGRAMS, STAMP_NANOS_MAX, STAMPED_RECEIVES};

/// Which receives have stamps, and what they said.
pub(super) struct Stamps {
    /// Receives until one has; none: none has.
    until: Option<u32>,
    waits: Vec<Nanos>,
}

impl Stamps {
    /// None are asked for.
    pub fn off() -> Self {
        Self { until: None, waits: Vec::new() }
    }

    /// The first receive has stamps, and one in so many.
    pub fn on() -> Self {
        Self { until: Some(1), waits: Vec::with_capacity(BATCH_DATAGRAMS) }
    }

    /// Whether the receive that comes is to have stamps.
    #[inline]
    pub fn is_due(&mut self) -> bool {
        let Some(until) = &mut self.until else { return false };
        self.waits.clear();
        *until -= 1;
        if *until != 0 {
            return false;
        }
        *until = STAMPED_RECEIVES;
        true
    }

    /// How long the datagrams of the last receive had waited, if it had stamps.
    pub fn waits(&self) -> &[Nanos] {
        &self.waits
    }

    /// Reads the stamps of a receive.
    ///
    /// # Safety
    /// The headers' control messages are as recvmsg(2) left them.
    #[cold]
    pub unsafe fn read(&mut self, headers: &[libc::mmsghdr]) {
        let now = clock::unix_nanos();
        // SAFETY: by the caller's word.
        let stamps = headers.iter().filter_map(|header| unsafe { stamp(&header.msg_hdr) });
        // The clock of the day may have been set meanwhile.
        let waits = stamps.map(|stamp| now.saturating_sub(stamp));
        self.waits.extend(waits.filter(|waited| *waited < STAMP_NANOS_MAX).take(BATCH_DATAGRAMS));
    }
}

/// Has receives from a socket tell when each datagram came, or not. What the kernel refuses leaves
/// receives without stamps.
pub(super) fn ask(socket: BorrowedFd<'_>, on: bool) {
    let value = libc::c_int::from(on);
    // SAFETY: the pointer and length are those of a live value that the kernel copies.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        );
    }
}

/// When a datagram came, in nanoseconds since 1970.
///
/// # Safety
/// `msg_control` points to `msg_controllen` octets of well-formed control messages, or is null.
unsafe fn stamp(header: &libc::msghdr) -> Option<Nanos> {
    // SAFETY: by the caller's word; the message is read only if its length holds its type.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        loop {
            let found = message.as_ref()?;
            let data = libc::CMSG_DATA(message);
            let len = found.cmsg_len - (data as usize - message as usize);
            let kind = (found.cmsg_level, found.cmsg_type);
            if kind == (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS)
                && len >= size_of::<libc::timespec>()
            {
                let time = data.cast::<libc::timespec>().read_unaligned();
                return Some(time.tv_sec as Nanos * SECOND + time.tv_nsec as Nanos);
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, UdpSocket};
    use std::os::fd::AsFd as _;
    use std::time::Duration;

    use super::super::Lane;
    use super::super::mmsg::Batch;
    use super::*;

    /// Sends three datagrams, lets them lie, and gives what a receive says of their waits.
    fn wait(batch: &mut Batch, socket: &UdpSocket, local: SocketAddr) -> Vec<Nanos> {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = ([127, 0, 0, 1], local.port());
        for _ in 0..3 {
            client.send_to(b"x", SocketAddr::from(to)).unwrap();
        }
        #[allow(clippy::disallowed_methods, reason = "a test that waits")]
        std::thread::sleep(Duration::from_millis(20));
        let mut lanes: Vec<_> = (0..8).map(|_| Lane::new()).collect();
        assert_eq!(batch.receive(socket.as_fd(), &mut lanes, local).unwrap(), 3);
        batch.waits().to_vec()
    }

    #[test]
    fn one_receive_in_many_tells_how_long_its_datagrams_lay() {
        for address in ["127.0.0.1:0", "0.0.0.0:0"] {
            let socket = UdpSocket::bind(address).unwrap();
            let local = socket.local_addr().unwrap();
            // The kernel begins to stamp when it finds time for that.
            let lay = |waits: &[Nanos]| {
                assert_eq!(waits.len(), 3);
                waits.iter().all(|wait| (19_000_000..STAMP_NANOS_MAX).contains(wait))
            };
            let fresh = |_| {
                let mut batch = Batch::new().stamped();
                lay(&wait(&mut batch, &socket, local)).then_some(batch)
            };
            let mut batch = (0..500).find_map(fresh).expect("stamps");
            for _ in 1..STAMPED_RECEIVES {
                assert!(batch.receive(socket.as_fd(), &mut [Lane::new()], local).is_err());
                assert!(batch.waits().is_empty());
            }
            assert_eq!(wait(&mut batch, &socket, local).len(), 3);
            assert!(wait(&mut Batch::new(), &socket, local).is_empty());
        }
    }
}
