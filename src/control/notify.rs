//! Tells systemd, or whatever has started the process with `NOTIFY_SOCKET`, how it goes (sd_notify(3)).

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::sys;

/// This process serves, and is the one to watch: a successor says it in the place of the one before.
pub fn ready() {
    tell(&format!("READY=1\nMAINPID={}", std::process::id()));
}

/// A reload has begun.
pub fn reloading() {
    tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", sys::monotonic_micros()));
}

/// The reload has ended, well or not: the words are what `systemctl status` shows, up to their first line's
/// end.
pub fn reloaded(words: &str) {
    tell(&format!("READY=1\nSTATUS={}", words.lines().next().unwrap_or_default()));
}

/// This process has begun to stop.
pub fn stopping() {
    tell("STOPPING=1");
}

fn tell(state: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let send = || -> io::Result<()> {
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.send_to_addr(state.as_bytes(), &address).map(drop)
    };
    if let Err(error) = send() {
        tracing::warn!("NOTIFY_SOCKET {}: {error}", name.to_string_lossy());
    }
}
