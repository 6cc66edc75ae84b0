//! Registration of a worker's descriptors with its runtime.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::mail::Mailbox;

/// Watches a socket for datagrams.
///
/// # Errors
/// The runtime cannot watch it.
pub fn watch_socket(socket: UdpSocket) -> io::Result<AsyncFd<UdpSocket>> {
    // SAFETY: a `UdpSocket` gives the same descriptor every time, and keeps it open as long as it
    // lives, which is as long as the registration.
    unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }.map_err(io::Error::from)
}

/// As `watch_socket`, and an ICMP error counts as something to receive.
///
/// # Errors
/// The runtime cannot watch it.
pub fn watch_connected(socket: UdpSocket) -> io::Result<AsyncFd<UdpSocket>> {
    let on: libc::c_int = 1;
    // An error alone is no readiness to read for the runtime; with this option it is urgent as well.
    // SAFETY: the kernel reads one int, which outlives the call.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_SELECT_ERR_QUEUE,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if set != 0 {
        return Err(io::Error::last_os_error());
    }
    let interest = Interest::READABLE.add(Interest::PRIORITY);
    // SAFETY: as above.
    unsafe { AsyncFd::register_with_interest(socket, interest) }.map_err(io::Error::from)
}

/// Watches a mailbox for mail.
///
/// # Errors
/// The runtime cannot watch it.
pub fn watch_mailbox(mailbox: Arc<Mailbox>) -> io::Result<AsyncFd<Arc<Mailbox>>> {
    // SAFETY: a `Mailbox` keeps its one eventfd open as long as it lives, and the `Arc` is held as
    // long as the registration.
    unsafe { AsyncFd::register_with_interest(mailbox, Interest::READABLE) }.map_err(io::Error::from)
}
