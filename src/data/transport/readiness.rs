//! Registration of a worker's descriptors with its runtime.

use std::io;
use std::net::UdpSocket;
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

/// Watches a mailbox for mail.
///
/// # Errors
/// The runtime cannot watch it.
pub fn watch_mailbox(mailbox: Arc<Mailbox>) -> io::Result<AsyncFd<Arc<Mailbox>>> {
    // SAFETY: a `Mailbox` keeps its one eventfd open as long as it lives, and the `Arc` is held as
    // long as the registration.
    unsafe { AsyncFd::register_with_interest(mailbox, Interest::READABLE) }.map_err(io::Error::from)
}
