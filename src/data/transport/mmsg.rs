//! The `gso` and `mmsg` engines: `recvmmsg` and `sendmmsg` on readiness, 64 datagrams at a time.
//!
//! Two system calls carry a batch in and out. With `gso`, replies of a batch that go to one port of
//! one client are handed to the kernel as one buffer, to be cut into datagrams as late as possible
//! (UDP_SEGMENT, udp(7)): routes, filters and queues are passed once for all of them. Resolvers that
//! ask for A and AAAA at once, and forwarders, get such replies. Where a way has no such thing, as the
//! kernel then says, they go one by one, and it is tried again later.
//!
//! On sockets bound to a wildcard address the address
//! that was asked comes with each datagram (PKTINFO) and goes back with the reply, so that replies
//! leave from the address that was asked. Guarantees: no allocation after [`Batch::new`]; a
//! datagram that the kernel refuses to send is dropped, as networks do, and counted.

use std::cmp::Reverse;
use std::io;
use std::mem::zeroed;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::null_mut;

use super::Lane;
use super::stamps::{self, Stamps};
use crate::data::clock::Nanos;
use crate::limits::{BATCH_DATAGRAMS, GSO_REST_BATCHES, SEGMENT_BYTES_MAX};

/// Octets of control messages a datagram: one PKTINFO of either family, one UDP_SEGMENT or
/// one time stamp.
pub(super) const CONTROL_BYTES: usize = 128;

/// Memory for the control messages of a datagram, aligned as their headers must be.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(super) struct Control(pub [u8; CONTROL_BYTES]);

/// The headers of one batch, in and out.
pub struct Batch {
    // The kernel follows pointers from `headers` into the three vectors below and into lanes; they
    // are written anew before each call, from borrows that last over the call.
    headers: Vec<libc::mmsghdr>,
    iovecs: Vec<libc::iovec>,
    addresses: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
    /// Batches until replies leave together again.
    resting: u32,
    stamps: Stamps,
}

// SAFETY: the raw pointers inside are only followed during a call that borrows the batch mutably,
// and are written anew before it.
unsafe impl Send for Batch {}

/// How a batch was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Datagrams that went out.
    pub sent: usize,
    /// Datagrams that the kernel refused.
    pub refused: usize,
}

impl Batch {
    /// Headers for a batch.
    pub fn new() -> Self {
        // SAFETY: plain C structs, for which all zeroes (null pointers, no lengths) is valid.
        unsafe {
            Self {
                headers: vec![zeroed(); BATCH_DATAGRAMS],
                iovecs: vec![zeroed(); BATCH_DATAGRAMS],
                addresses: vec![zeroed(); BATCH_DATAGRAMS],
                controls: vec![Control([0; CONTROL_BYTES]); BATCH_DATAGRAMS],
                stamps: Stamps::off(),
                resting: 0,
            }
        }
    }

    /// Has one receive in `STAMPED_RECEIVES` tell how long its datagrams have waited in the kernel.
    pub fn stamped(mut self) -> Self {
        self.stamps = Stamps::on();
        self
    }

    /// How long the datagrams of the last `receive` had waited in the socket's queue; empty unless it
    /// was one with time stamps.
    pub fn waits(&self) -> &[Nanos] {
        self.stamps.waits()
    }

    /// Receives at most a batch into `lanes` without waiting, and says how many there are.
    /// `local` is the socket's own address; where it is a wildcard, PKTINFO tells which was asked.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; what the kernel says otherwise.
    pub fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        lanes: &mut [Lane],
        local: SocketAddr,
    ) -> io::Result<usize> {
        let count = lanes.len().min(BATCH_DATAGRAMS);
        let wildcard = local.ip().is_unspecified();
        let stamped = self.stamps.is_due();
        for (index, lane) in lanes[..count].iter_mut().enumerate() {
            let name = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            self.iovecs[index] = into(lane);
            let control_len = if wildcard || stamped { CONTROL_BYTES } else { 0 };
            self.point(index, index..index + 1, name, control_len);
        }
        if stamped {
            stamps::ask(socket, true);
        }
        // SAFETY: the headers point into `lanes`, which are borrowed mutably.
        let received = unsafe { self.receive_headers(socket, count) };
        if stamped {
            stamps::ask(socket, false);
        }
        let received = received?;
        if stamped {
            // SAFETY: the kernel has just filled in these headers' control messages.
            unsafe { self.stamps.read(&self.headers[..received]) };
        }
        for (index, lane) in lanes[..received].iter_mut().enumerate() {
            let header = &self.headers[index];
            let whole = header.msg_hdr.msg_flags & libc::MSG_TRUNC == 0;
            lane.input_len = if whole { header.msg_len as usize } else { 0 };
            lane.output_len = 0;
            lane.client.peer = peer(&self.addresses[index]);
            lane.client.local = match wildcard {
                // SAFETY: the kernel has just filled in this header's control messages.
                true => unsafe { asked(&header.msg_hdr, local) },
                false => local,
            };
        }
        Ok(received)
    }

    /// Sends the replies of those lanes that have one; with `gso`, those to one client together.
    pub fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        lanes: &[Lane],
        wildcard: bool,
        gso: bool,
    ) -> Sent {
        let mut keys = [0; BATCH_DATAGRAMS];
        let mut count = 0;
        let replies = lanes.iter().take(BATCH_DATAGRAMS).enumerate();
        for (index, lane) in replies.filter(|(_, lane)| lane.output_len != 0) {
            keys[count] = key(index, lane);
            count += 1;
        }
        self.resting = self.resting.saturating_sub(1);
        let mut together = gso && self.resting == 0 && count > 1;
        if together {
            keys[..count].sort_unstable();
        }
        let mut done = Sent::default();
        let mut refused = false;
        loop {
            let left = &keys[done.sent + done.refused..count];
            if left.is_empty() {
                return done;
            }
            let headers = self.lay(lanes, left, wildcard, together);
            let error = self.send_laid(socket, headers, refused, &mut done);
            together &= error.is_none();
            refused = error.is_some_and(|error| !is_lack_of_room(&error));
        }
    }

    /// Writes headers for the replies that `keys` name, in this order; gives how many.
    fn lay(&mut self, lanes: &[Lane], keys: &[u64], wildcard: bool, together: bool) -> usize {
        let lane = |key: &u64| &lanes[(key & INDEX) as usize];
        let (mut headers, mut at) = (0, 0);
        while let Some(first) = keys.get(at).map(lane) {
            let size = first.output_len;
            let beside = |other: &&Lane| {
                other.client.peer == first.client.peer
                    && (!wildcard || other.client.local == first.client.local)
            };
            let others = keys[at + 1..].iter().map(lane).take_while(beside);
            let others = others.map(|lane| lane.output_len);
            let next = at + 1 + if together { segments_behind(size, others) } else { 0 };
            for (iovec, key) in self.iovecs[at..next].iter_mut().zip(&keys[at..next]) {
                let reply = lane(key);
                *iovec = from(&reply.output[..reply.output_len]);
            }
            let name_len = write_peer(&mut self.addresses[headers], first.client.peer);
            let control = &mut self.controls[headers];
            let mut control_len = match wildcard {
                true => write_source(control, first.client.local.ip()),
                false => 0,
            };
            if next - at > 1 {
                control_len += write_segment(control, control_len, size as u16);
            }
            self.point(headers, at..next, name_len, control_len);
            (headers, at) = (headers + 1, next);
        }
        headers
    }

    /// Sends what was laid out. An error: replies that should have left together could not, and they
    /// and what is behind them is left. `refused` says that this was so of the first: if it leaves by
    /// itself, then what refuses is not who it goes to (an address without a route, port 0) but the
    /// way, for which it is not tried again soon: no checksums in its device, IPsec.
    fn send_laid(
        &mut self,
        socket: BorrowedFd<'_>,
        headers: usize,
        refused: bool,
        done: &mut Sent,
    ) -> Option<io::Error> {
        let mut at = 0;
        while at < headers {
            // SAFETY: the headers point into lanes, which the caller borrows.
            match unsafe { self.send_headers(socket, at, headers) } {
                Ok(sent) => {
                    if refused && at == 0 {
                        self.resting = GSO_REST_BATCHES;
                    }
                    done.sent += datagrams(&self.headers[at..at + sent]);
                    at += sent;
                }
                Err(error) if self.headers[at].msg_hdr.msg_iovlen > 1 => return Some(error),
                // The first of them was refused: a full buffer, or an address without a route.
                Err(_) => {
                    done.refused += 1;
                    at += 1;
                }
            }
        }
        None
    }

    /// Receives at most a batch from a connected socket, as `receive` does. A datagram that is longer
    /// than its lane has an `input_len` beyond the lane's memory.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; `ConnectionRefused` and the like if ICMP says so.
    pub fn receive_connected(
        &mut self,
        socket: BorrowedFd<'_>,
        lanes: &mut [Lane],
    ) -> io::Result<usize> {
        let count = lanes.len().min(BATCH_DATAGRAMS);
        for (index, lane) in lanes[..count].iter_mut().enumerate() {
            self.iovecs[index] = into(lane);
            self.point(index, index..index + 1, 0, 0);
        }
        // SAFETY: the headers point into `lanes`, which are borrowed mutably.
        let received = unsafe { self.receive_headers(socket, count) }?;
        for (header, lane) in self.headers.iter().zip(&mut lanes[..received]) {
            let cut = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            lane.input_len = if cut { lane.input.len() + 1 } else { header.msg_len as usize };
            lane.output_len = 0;
        }
        Ok(received)
    }

    /// Sends messages by a connected socket, at most a batch of them, with `gso` together. What the
    /// kernel has no room for is dropped.
    ///
    /// # Errors
    /// The peer cannot be reached, said twice: the first time may be about an earlier datagram.
    pub fn send_connected<'m>(
        &mut self,
        socket: BorrowedFd<'_>,
        messages: impl Iterator<Item = &'m [u8]>,
        gso: bool,
    ) -> io::Result<()> {
        let mut count = 0;
        for message in messages.take(BATCH_DATAGRAMS) {
            self.iovecs[count] = from(message);
            count += 1;
        }
        self.resting = self.resting.saturating_sub(1);
        let mut together = gso && self.resting == 0 && count > 1;
        if together {
            self.iovecs[..count].sort_unstable_by_key(|iovec| Reverse(iovec.iov_len));
        }
        let (mut done, mut refused) = (0, false);
        while done < count {
            let headers = self.lay_connected(done..count, together);
            // SAFETY: the headers point to messages, which outlive the iterator that gave them.
            match unsafe { self.send_headers(socket, 0, headers) } {
                Ok(sent) => done += datagrams(&self.headers[..sent]),
                Err(error) if is_lack_of_room(&error) => return Ok(()),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE) if together => {
                        together = false;
                        self.resting = GSO_REST_BATCHES;
                    }
                    // Longer than a datagram can be: this one only.
                    Some(libc::EMSGSIZE) => done += 1,
                    Some(libc::EINTR) => {}
                    _ if !refused => refused = true,
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }

    /// Writes headers for the messages of these `iovecs`; gives how many.
    fn lay_connected(&mut self, iovecs: Range<usize>, together: bool) -> usize {
        let (mut headers, mut at) = (0, iovecs.start);
        while at < iovecs.end {
            let size = self.iovecs[at].iov_len;
            let others = self.iovecs[at + 1..iovecs.end].iter().map(|iovec| iovec.iov_len);
            let next = at + 1 + if together { segments_behind(size, others) } else { 0 };
            let control_len = match next - at {
                1 => 0,
                _ => write_segment(&mut self.controls[headers], 0, size as u16),
            };
            self.point(headers, at..next, 0, control_len);
            (headers, at) = (headers + 1, next);
        }
        headers
    }

    /// Has a header point to its buffers, and to so many octets of its address and control messages.
    fn point(
        &mut self,
        index: usize,
        iovecs: Range<usize>,
        name_len: libc::socklen_t,
        control_len: usize,
    ) {
        let (name, control) = (&raw mut self.addresses[index], &raw mut self.controls[index]);
        let header = &mut self.headers[index].msg_hdr;
        header.msg_name = if name_len == 0 { null_mut() } else { name.cast() };
        header.msg_namelen = name_len;
        header.msg_iovlen = iovecs.len();
        header.msg_iov = self.iovecs[iovecs].as_mut_ptr();
        header.msg_control = if control_len == 0 { null_mut() } else { control.cast() };
        header.msg_controllen = control_len;
        header.msg_flags = 0;
    }

    /// Receives into what the first `count` headers point to.
    ///
    /// # Safety
    /// The buffers that they point to are the caller's alone.
    unsafe fn receive_headers(
        &mut self,
        socket: BorrowedFd<'_>,
        count: usize,
    ) -> io::Result<usize> {
        // SAFETY: the vectors that the headers point to are `self`'s, the buffers the caller's;
        // lengths are those of the buffers.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers[..count].as_mut_ptr(),
                count as libc::c_uint,
                libc::MSG_DONTWAIT,
                null_mut(),
            )
        };
        usize::try_from(received).map_err(|_| io::Error::last_os_error())
    }

    /// Sends what headers `done..count` point to; gives how many went out, at least one. The error is
    /// the first one's.
    ///
    /// # Safety
    /// Nobody writes to the messages that they point to.
    unsafe fn send_headers(
        &mut self,
        socket: BorrowedFd<'_>,
        done: usize,
        count: usize,
    ) -> io::Result<usize> {
        let headers = &mut self.headers[done..count];
        // SAFETY: as in `receive_headers`; the kernel only reads.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                headers.len() as libc::c_uint,
                libc::MSG_DONTWAIT,
            )
        };
        match usize::try_from(sent) {
            Ok(sent) if sent > 0 => Ok(sent),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Where a reply stands when replies that can leave together are put beside each other: by whom they
/// go to (a hash), the longest first; and which lane it is in.
fn key(index: usize, lane: &Lane) -> u64 {
    let ip = match lane.client.peer.ip() {
        IpAddr::V4(ip) => ip.to_bits(),
        IpAddr::V6(ip) => {
            let bits = ip.to_bits();
            (bits ^ bits >> 32 ^ bits >> 64 ^ bits >> 96) as u32
        }
    };
    let whom = ip.wrapping_mul(0x9e37_79b1) ^ u32::from(lane.client.peer.port());
    u64::from(whom) << 32 | (!lane.output_len as u64 & 0xffff) << 16 | index as u64 & INDEX
}

/// How many of those that come next can leave with a datagram of `size` octets: all segments are as
/// long as the first, but the last, which may be shorter.
fn segments_behind(size: usize, others: impl Iterator<Item = usize>) -> usize {
    let mut count = 0;
    if size <= SEGMENT_BYTES_MAX {
        for other in others {
            count += 1;
            if other < size {
                break;
            }
        }
    }
    count
}

/// Whether the kernel has no memory for a datagram now.
fn is_lack_of_room(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM))
}

/// Datagrams that headers send.
fn datagrams(headers: &[libc::mmsghdr]) -> usize {
    headers.iter().map(|header| header.msg_hdr.msg_iovlen).sum()
}

/// The bits of a key that tell the lane.
const INDEX: u64 = 0xffff;

/// Whether the kernel cuts a buffer into datagrams: Linux 4.18 or later. Older ones would send it whole.
pub fn has_gso(socket: BorrowedFd<'_>) -> bool {
    let (mut size, mut len) = (0_i32, size_of::<i32>() as libc::socklen_t);
    // SAFETY: the kernel writes at most `len` octets into `size`.
    let said = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            (&raw mut size).cast(),
            &raw mut len,
        )
    };
    said == 0
}

/// The buffer that a lane's datagram is received into.
fn into(lane: &mut Lane) -> libc::iovec {
    libc::iovec { iov_base: lane.input.as_mut_ptr().cast(), iov_len: lane.input.len() }
}

/// A message to send: the kernel only reads through the pointer.
fn from(message: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: message.as_ptr().cast_mut().cast(), iov_len: message.len() }
}

/// The address that a datagram was sent to, from PKTINFO; `local` where it does not tell.
///
/// # Safety
/// `msg_control` points to `msg_controllen` octets of well-formed control messages, as recvmsg(2)
/// leaves them, or is null.
pub(super) unsafe fn asked(header: &libc::msghdr, local: SocketAddr) -> SocketAddr {
    // SAFETY: by the caller's word; each message is read only if its length holds its type.
    let ip = unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        loop {
            let Some(found) = message.as_ref() else { return local };
            let data = libc::CMSG_DATA(message);
            let len = found.cmsg_len - (data as usize - message as usize);
            match (found.cmsg_level, found.cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) if len >= size_of::<libc::in_pktinfo>() => {
                    let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                    break IpAddr::from(info.ipi_addr.s_addr.to_ne_bytes());
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO)
                    if len >= size_of::<libc::in6_pktinfo>() =>
                {
                    let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    break IpAddr::from(info.ipi6_addr.s6_addr);
                }
                _ => message = libc::CMSG_NXTHDR(header, message),
            }
        }
    };
    SocketAddr::new(ip, local.port())
}

/// The address that the kernel wrote.
pub(super) fn peer(storage: &libc::sockaddr_storage) -> SocketAddr {
    let storage = &raw const *storage;
    // SAFETY: `sockaddr_storage` is large and aligned enough for either, and the family, which the
    // kernel wrote, says which it is.
    unsafe {
        if i32::from((*storage).ss_family) == libc::AF_INET {
            let v4 = &*storage.cast::<libc::sockaddr_in>();
            let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
            SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into()
        } else {
            let v6 = &*storage.cast::<libc::sockaddr_in6>();
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let port = u16::from_be(v6.sin6_port);
            SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into()
        }
    }
}

/// Writes an address; gives its length.
pub(super) fn write_peer(
    storage: &mut libc::sockaddr_storage,
    peer: SocketAddr,
) -> libc::socklen_t {
    let storage = &raw mut *storage;
    // SAFETY: as in `peer`; every field is written.
    unsafe {
        match peer {
            SocketAddr::V4(peer) => {
                storage.cast::<libc::sockaddr_in>().write(libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: peer.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(peer.ip().octets()) },
                    sin_zero: [0; 8],
                });
                size_of::<libc::sockaddr_in>() as libc::socklen_t
            }
            SocketAddr::V6(peer) => {
                storage.cast::<libc::sockaddr_in6>().write(libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: peer.port().to_be(),
                    sin6_flowinfo: peer.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: peer.ip().octets() },
                    sin6_scope_id: peer.scope_id(),
                });
                size_of::<libc::sockaddr_in6>() as libc::socklen_t
            }
        }
    }
}

/// Writes a PKTINFO which has the reply leave from `source`; gives the octets of control.
pub(super) fn write_source(control: &mut Control, source: IpAddr) -> usize {
    let base = control.0.as_mut_ptr();
    // SAFETY: `Control` is aligned for `cmsghdr` and holds CMSG_SPACE of either type (asserted
    // below); data is written unaligned behind the header.
    unsafe {
        let header = base.cast::<libc::cmsghdr>();
        match source {
            _ if source.is_unspecified() => 0,
            IpAddr::V4(ip) => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                (*header).cmsg_level = libc::IPPROTO_IP;
                (*header).cmsg_type = libc::IP_PKTINFO;
                (*header).cmsg_len = libc::CMSG_LEN(size_of_val(&info) as u32) as _;
                libc::CMSG_DATA(header).cast::<libc::in_pktinfo>().write_unaligned(info);
                libc::CMSG_SPACE(size_of_val(&info) as u32) as usize
            }
            IpAddr::V6(ip) => {
                let info = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr { s6_addr: ip.octets() },
                    ipi6_ifindex: 0,
                };
                (*header).cmsg_level = libc::IPPROTO_IPV6;
                (*header).cmsg_type = libc::IPV6_PKTINFO;
                (*header).cmsg_len = libc::CMSG_LEN(size_of_val(&info) as u32) as _;
                libc::CMSG_DATA(header).cast::<libc::in6_pktinfo>().write_unaligned(info);
                libc::CMSG_SPACE(size_of_val(&info) as u32) as usize
            }
        }
    }
}

/// Writes behind `at` octets that a message is to be cut into datagrams of `size` octets; gives the
/// octets of control.
fn write_segment(control: &mut Control, at: usize, size: u16) -> usize {
    // SAFETY: `at` is what `write_source` gave, so that there is room for this as well (asserted
    // below) where a header may stand; data is written unaligned behind the header.
    unsafe {
        let header = control.0.as_mut_ptr().add(at).cast::<libc::cmsghdr>();
        (*header).cmsg_level = libc::SOL_UDP;
        (*header).cmsg_type = libc::UDP_SEGMENT;
        (*header).cmsg_len = libc::CMSG_LEN(size_of_val(&size) as u32) as _;
        libc::CMSG_DATA(header).cast::<u16>().write_unaligned(size);
        libc::CMSG_SPACE(size_of_val(&size) as u32) as usize
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

const _: () = assert!(
    2 * size_of::<libc::cmsghdr>()
        + size_of::<libc::in6_pktinfo>().next_multiple_of(8)
        + size_of::<libc::timespec>()
        <= CONTROL_BYTES
);

#[cfg(test)]
mod tests;
