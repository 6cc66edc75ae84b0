//! The `mmsg` engine: `recvmmsg` and `sendmmsg` on readiness, 64 datagrams at a time.
//!
//! Two system calls carry a batch in and out. On sockets bound to a wildcard address the address
//! that was asked comes with each datagram (PKTINFO) and goes back with the reply, so that replies
//! leave from the address that was asked. Guarantees: no allocation after [`Batch::new`]; a
//! datagram that the kernel refuses to send is dropped, as networks do, and counted.

use std::io;
use std::mem::zeroed;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::null_mut;

use super::Lane;
use crate::limits::BATCH_DATAGRAMS;

/// Octets of control messages a datagram: one PKTINFO of either family.
pub(super) const CONTROL_BYTES: usize = 64;

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
            }
        }
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
        for (index, lane) in lanes[..count].iter_mut().enumerate() {
            let name = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            self.point(index, into(lane), name, if wildcard { CONTROL_BYTES } else { 0 });
        }
        // SAFETY: the headers point into `lanes`, which are borrowed mutably.
        let received = unsafe { self.receive_headers(socket, count) }?;
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

    /// Sends the replies of those lanes that have one.
    pub fn send(&mut self, socket: BorrowedFd<'_>, lanes: &[Lane], wildcard: bool) -> Sent {
        let mut count = 0;
        for lane in lanes.iter().filter(|lane| lane.output_len != 0).take(BATCH_DATAGRAMS) {
            let name_len = write_peer(&mut self.addresses[count], lane.client.peer);
            let control_len = match wildcard {
                true => write_source(&mut self.controls[count], lane.client.local.ip()),
                false => 0,
            };
            self.point(count, from(&lane.output[..lane.output_len]), name_len, control_len);
            count += 1;
        }
        let mut done = Sent::default();
        while done.sent + done.refused < count {
            // SAFETY: the headers point into `lanes`, which are borrowed.
            match unsafe { self.send_headers(socket, done.sent + done.refused, count) } {
                Ok(sent) => done.sent += sent,
                // The first of them was refused: a full buffer, or an address without a route.
                Err(_) => done.refused += 1,
            }
        }
        done
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
            self.point(index, into(lane), 0, 0);
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

    /// Sends messages by a connected socket, at most a batch of them. What the kernel has no room
    /// for is dropped.
    ///
    /// # Errors
    /// The peer cannot be reached, said twice: the first time may be about an earlier datagram.
    pub fn send_connected<'m>(
        &mut self,
        socket: BorrowedFd<'_>,
        messages: impl Iterator<Item = &'m [u8]>,
    ) -> io::Result<()> {
        let mut count = 0;
        for message in messages.take(BATCH_DATAGRAMS) {
            self.point(count, from(message), 0, 0);
            count += 1;
        }
        let (mut done, mut refused) = (0, false);
        while done < count {
            // SAFETY: the headers point to messages, which outlive the iterator that gave them.
            match unsafe { self.send_headers(socket, done, count) } {
                Ok(sent) => done += sent,
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => return Ok(()),
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

    /// Has a header point to one buffer, and to so many octets of its address and control messages.
    fn point(
        &mut self,
        index: usize,
        iovec: libc::iovec,
        name_len: libc::socklen_t,
        control_len: usize,
    ) {
        self.iovecs[index] = iovec;
        let (name, control) = (&raw mut self.addresses[index], &raw mut self.controls[index]);
        let header = &mut self.headers[index].msg_hdr;
        header.msg_name = if name_len == 0 { null_mut() } else { name.cast() };
        header.msg_namelen = name_len;
        header.msg_iov = &raw mut self.iovecs[index];
        header.msg_iovlen = 1;
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

/// The buffer that a lane's datagram is received into.
fn into(lane: &mut Lane) -> libc::iovec {
    libc::iovec { iov_base: lane.input.as_mut_ptr().cast(), iov_len: lane.input.len() }
}

/// A message to send: the kernel only reads through the pointer.
fn from(message: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: message.as_ptr().cast_mut().cast(), iov_len: message.len() }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
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

const _: () = assert!(
    size_of::<libc::cmsghdr>() + size_of::<libc::in6_pktinfo>().next_multiple_of(8)
        <= CONTROL_BYTES
);
