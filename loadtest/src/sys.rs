//! The system calls that no safe crate offers as they are needed here: batches of datagrams
//! (`recvmmsg(2)`, `sendmmsg(2)`), this process's own CPU time, and on which CPU a thread runs, and
//! before whom.
//!
//! The one module of this crate with `unsafe` code.
#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// Datagrams that one system call receives or sends, each in a buffer of its own.
///
/// The kernel's descriptors are linked to the buffers once. That memory is never given back: a
/// process makes its batches once, at its start.
pub struct Datagrams {
    /// `capacity * stride` bytes.
    bytes: *mut u8,
    /// Bytes of one buffer.
    stride: usize,
    /// `capacity` entries each; header i points to iovec i, and that to buffer i.
    iovecs: *mut libc::iovec,
    headers: *mut libc::mmsghdr,
    capacity: usize,
    /// Bytes that `recvmmsg` may write as the sender's address; 0 for connected sockets.
    address_len: libc::socklen_t,
    /// Entries that may differ from their state as new: the next `receive` restores them.
    used: usize,
}

/// Whose datagrams a batch carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peers {
    /// Each has the address it came from, and is sent back there.
    Any,
    /// The socket is connected.
    Connected,
}

impl Datagrams {
    /// Room for `capacity` datagrams of `stride` bytes.
    pub fn new(capacity: usize, stride: usize, peers: Peers) -> Self {
        assert!(capacity > 0 && stride > 0);
        let bytes = Box::leak(vec![0u8; capacity * stride].into_boxed_slice()).as_mut_ptr();
        // SAFETY: all three are plain C structures for which zeroed memory is valid.
        let (iovec, address, header) = unsafe {
            (
                std::mem::zeroed::<libc::iovec>(),
                std::mem::zeroed::<libc::sockaddr_storage>(),
                std::mem::zeroed::<libc::mmsghdr>(),
            )
        };
        let iovecs = Box::leak(vec![iovec; capacity].into_boxed_slice()).as_mut_ptr();
        let headers = Box::leak(vec![header; capacity].into_boxed_slice()).as_mut_ptr();
        let (addresses, address_len) = match peers {
            Peers::Connected => (std::ptr::null_mut(), 0),
            Peers::Any => (
                Box::leak(vec![address; capacity].into_boxed_slice()).as_mut_ptr(),
                size_of::<libc::sockaddr_storage>() as libc::socklen_t,
            ),
        };
        for index in 0..capacity {
            // SAFETY: `index` is below the length of all of them.
            unsafe {
                let iovec = iovecs.add(index);
                (*iovec).iov_base = bytes.add(index * stride).cast();
                (*iovec).iov_len = stride;
                let header = &mut (*headers.add(index)).msg_hdr;
                header.msg_iov = iovec;
                header.msg_iovlen = 1;
                if !addresses.is_null() {
                    header.msg_name = addresses.add(index).cast();
                    header.msg_namelen = address_len;
                }
            }
        }
        Self { bytes, stride, iovecs, headers, capacity, address_len, used: 0 }
    }

    /// How many datagrams fit.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Receives what waits on `socket`, and says how many datagrams came. With `wait` it sleeps
    /// until there is one; without, none is [`io::ErrorKind::WouldBlock`].
    pub fn receive(&mut self, socket: BorrowedFd<'_>, wait: bool) -> io::Result<usize> {
        for index in 0..std::mem::take(&mut self.used) {
            // SAFETY: `used` is at most `capacity`.
            unsafe {
                (*self.iovecs.add(index)).iov_len = self.stride;
                (*self.headers.add(index)).msg_hdr.msg_namelen = self.address_len;
            }
        }
        let flags = if wait { libc::MSG_WAITFORONE } else { libc::MSG_DONTWAIT };
        // SAFETY: the headers and what they point to live for ever, no reference into them exists
        // while `self` is borrowed mutably, and every length is that of its buffer.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers,
                self.capacity as libc::c_uint,
                flags,
                std::ptr::null_mut(),
            )
        };
        self.used = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        Ok(self.used)
    }

    /// The bytes of received datagram `index`, and whether these are all.
    pub fn received(&self, index: usize) -> (&[u8], bool) {
        assert!(index < self.used);
        // SAFETY: `index` is below `capacity`.
        let header = unsafe { &*self.headers.add(index) };
        let len = (header.msg_len as usize).min(self.stride);
        let whole = header.msg_hdr.msg_flags & libc::MSG_TRUNC == 0;
        // SAFETY: the buffer has `stride` bytes, and `self` is borrowed as long as the slice.
        (unsafe { std::slice::from_raw_parts(self.bytes.add(index * self.stride), len) }, whole)
    }

    /// The buffer of datagram `index`, whole.
    pub fn buffer(&mut self, index: usize) -> &mut [u8] {
        assert!(index < self.capacity);
        // SAFETY: as in `received`; the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.bytes.add(index * self.stride), self.stride) }
    }

    /// Sets how many bytes of buffer `index` are to be sent.
    pub fn set_len(&mut self, index: usize, len: usize) {
        assert!(index < self.capacity && len <= self.stride);
        // SAFETY: `index` is below `capacity`.
        unsafe { (*self.iovecs.add(index)).iov_len = len };
        self.used = self.used.max(index + 1);
    }

    /// How many bytes of buffer `index` are to be sent, or may be received.
    pub fn len_of(&self, index: usize) -> usize {
        assert!(index < self.capacity);
        // SAFETY: `index` is below `capacity`.
        unsafe { (*self.iovecs.add(index)).iov_len }
    }

    /// Sends the datagrams of `range` in order; says how many the kernel took. An error is that
    /// of the first one.
    pub fn send(&mut self, socket: BorrowedFd<'_>, range: Range<usize>) -> io::Result<usize> {
        assert!(range.start <= range.end && range.end <= self.capacity);
        // SAFETY: as in `receive`; `set_len` keeps every length within its buffer.
        let count = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                self.headers.add(range.start),
                range.len() as libc::c_uint,
                0,
            )
        };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }
}

/// CPU time of this process so far, user and system together.
pub fn own_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` outlives the call.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    assert_eq!(status, 0, "Linux has this clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The CPUs that the calling thread may run on, in order.
pub fn cpus() -> Vec<usize> {
    // SAFETY: a set of CPUs is plain bits, for which zeroes are valid; the kernel writes no more than
    // the size that it is told.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        let status = libc::sched_getaffinity(0, size_of_val(&set), &mut set);
        let has = |cpu: &usize| status == 0 && libc::CPU_ISSET(*cpu, &set);
        (0..libc::CPU_SETSIZE as usize).filter(has).collect()
    }
}

/// Keeps the calling thread on one CPU.
pub fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: as in `cpus`; `cpu` is within the set.
    let status = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set)
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Puts the calling thread before all others that have no real-time priority (SCHED_FIFO).
pub fn come_first() -> io::Result<()> {
    let lowest = libc::sched_param { sched_priority: 1 };
    // SAFETY: `lowest` is readable for the length of the call.
    let status = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &lowest) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    #[test]
    fn datagrams_go_and_come_back_in_one_call_each() {
        let server = UdpSocket::bind("[::1]:0").unwrap();
        let client = UdpSocket::bind("[::1]:0").unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();
        let mut queries = Datagrams::new(4, 16, Peers::Connected);
        for index in 0..3 {
            queries.buffer(index)[..2].copy_from_slice(&[7, index as u8]);
            queries.set_len(index, 2 + index);
        }
        assert_eq!(queries.send(client.as_fd(), 0..3).unwrap(), 3);
        client.send(&[1; 17]).unwrap();

        let mut batch = Datagrams::new(8, 16, Peers::Any);
        assert_eq!(batch.receive(server.as_fd(), true).unwrap(), 4);
        assert_eq!(batch.received(2), (&[7, 2, 0, 0][..], true));
        assert_eq!(batch.received(3), (&[1; 16][..], false));
        batch.set_len(2, 1);
        assert_eq!(batch.send(server.as_fd(), 2..3).unwrap(), 1);
        let mut answer = [0; 16];
        assert_eq!(client.recv(&mut answer).unwrap(), 1);

        client.send(&[5; 9]).unwrap();
        assert_eq!(batch.receive(server.as_fd(), true).unwrap(), 1);
        assert_eq!(batch.received(0), (&[5; 9][..], true), "entries are as good as new");
        let error = batch.receive(server.as_fd(), false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_thread_stays_on_the_cpu_it_is_pinned_to() {
        let last = *cpus().last().unwrap();
        let seen = std::thread::spawn(move || pin(last).map(|()| cpus())).join().unwrap();
        assert_eq!(seen.unwrap(), [last]);
        assert!(pin(1 << 20).is_err());
    }

    #[test]
    fn own_cpu_grows_with_work() {
        let before = own_cpu();
        let mut sum = 0u64;
        while own_cpu() == before {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(own_cpu() > before);
    }
}
