//! The sockets of one listener: for each worker a TCP listener, and where datagrams are served a UDP
//! socket.
//!
//! All of an address's sockets share it by SO_REUSEPORT, so that the kernel spreads flows over
//! workers and no worker touches another's socket. Control binds them all before anything else is
//! started; the number of sockets in a group never changes in a process's life. A wildcard is one
//! `[::]` socket for both families, or `0.0.0.0` where the machine has no IPv6.
//!
//! A process that takes another's place is given that one's sockets, with what waits in them: then
//! there are at least as many as it was given, and a worker may read several.
//!
//! Sockets that a third party keeps (systemd, by a socket unit) outlive the process: what they hold when
//! it ends waits for the next. None is bound beside them, since what that held would be lost with it, nor
//! would the kernel allow one of another user. Where there are fewer of them than workers, the workers read
//! the same sockets: each datagram then wakes all that sleep, and one gets it.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::limits::{SOCKET_BYTES_WANTED, TCP_BACKLOG_CONNECTIONS};
use crate::sys;

/// How datagrams are steered to the sockets of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Steering {
    /// By a hash of the flow: the kernel's own way.
    #[default]
    Hash,
    /// A random socket per datagram: few clients then still use every core.
    Spread,
    /// The socket of the CPU that received the datagram: for workers of which each stays on one, in
    /// the order of the affinity mask.
    Cpu,
}

/// The sockets of one listener.
#[derive(Debug)]
pub struct Sockets {
    /// The address that was asked for.
    pub address: SocketAddr,
    /// The address that is bound: another family's wildcard on a machine without IPv6.
    pub local: SocketAddr,
    /// Workers that they are for.
    pub workers: usize,
    /// One for each worker, or none; more if more were given, fewer if what was given is not shared.
    pub udp: Vec<UdpSocket>,
    /// One for each worker, likewise, not blocking.
    pub tcp: Vec<TcpListener>,
    /// Which of them somebody else has, too.
    pub kept: Kept,
    /// Octets of receive buffer that the kernel granted to each UDP socket.
    pub receive_bytes: usize,
}

/// Sockets of one address that are bound already, in the order of their group.
#[derive(Debug, Default)]
pub struct Given {
    /// For datagrams.
    pub udp: Vec<UdpSocket>,
    /// Listening for streams.
    pub tcp: Vec<TcpListener>,
    /// Which of them somebody else has, too.
    pub kept: Kept,
}

/// Which sockets of an address somebody else has, too, and keeps when the process ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Those for datagrams.
    pub udp: bool,
    /// Those for streams.
    pub tcp: bool,
}

/// An address could not be listened on.
#[derive(Debug)]
pub struct BindError {
    /// `tcp` or `udp`.
    pub network: &'static str,
    /// As CoreDNS shows it: `:53` for a wildcard.
    pub address: String,
    /// Why.
    pub cause: io::Error,
    /// What holds the port, if it can be told.
    pub holder: Option<String>,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self.cause.kind() {
            io::ErrorKind::AddrInUse => "address already in use".to_owned(),
            io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            io::ErrorKind::AddrNotAvailable => "cannot assign requested address".to_owned(),
            _ => self.cause.to_string(),
        };
        write!(f, "listen {} {}: bind: {words}", self.network, self.address)?;
        match &self.holder {
            Some(holder) => write!(f, " (held by {holder})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for BindError {}

impl Sockets {
    /// None at all: of a listener that only its address is known of any more.
    pub fn none(address: SocketAddr) -> Self {
        let (udp, tcp) = (Vec::new(), Vec::new());
        let kept = Kept::default();
        Self { address, local: address, workers: 1, udp, tcp, kept, receive_bytes: 0 }
    }

    /// Binds `workers` pairs of sockets to `address`.
    ///
    /// # Errors
    /// The first address that could not be bound; nothing stays bound then.
    pub fn bind(
        address: SocketAddr,
        workers: usize,
        steering: Steering,
    ) -> Result<Self, BindError> {
        Self::complete(address, workers, Some(steering), Given::default())
    }

    /// Takes what is bound to `address` already, and binds what is missing for so many workers.
    /// `steering`: of datagrams; `None`: none are served.
    ///
    /// # Errors
    /// As [`bind`](Self::bind). Given sockets that let no others share their address are served alone.
    pub fn complete(
        address: SocketAddr,
        workers: usize,
        steering: Option<Steering>,
        given: Given,
    ) -> Result<Self, BindError> {
        let Given { mut udp, tcp, mut kept } = given;
        if steering.is_none() {
            udp.clear();
            kept.udp = false;
        }
        let alone = |bound: usize, e: &io::Error| bound > 0 && e.kind() == io::ErrorKind::AddrInUse;
        let adopted = !udp.is_empty();
        let udp_wanted = match steering {
            None => 0,
            Some(_) if kept.udp => udp.len(),
            Some(_) => workers,
        };
        let tcp_wanted = if kept.tcp { tcp.len() } else { workers };
        let mut sockets = Self { workers, udp, tcp, kept, ..Self::none(address) };
        while sockets.tcp.len() < tcp_wanted {
            match listen(address, Type::STREAM).and_then(|tcp| {
                tcp.listen(TCP_BACKLOG_CONNECTIONS)?;
                Ok(tcp)
            }) {
                Ok(tcp) => sockets.tcp.push(tcp.into()),
                Err(error) if alone(sockets.tcp.len(), &error) => break,
                Err(error) => return Err(failed("tcp", address, error)),
            }
        }
        while sockets.udp.len() < udp_wanted {
            match listen(address, Type::DGRAM) {
                Ok(udp) => sockets.udp.push(udp.into()),
                Err(error) if alone(sockets.udp.len(), &error) => break,
                Err(error) => return Err(failed("udp", address, error)),
            }
        }
        if let Some(first) = sockets.tcp.first() {
            sockets.local = first.local_addr().unwrap_or(address);
        }
        if let Some(first) = sockets.udp.first() {
            sockets.local = first.local_addr().unwrap_or(address);
            sockets.receive_bytes = SockRef::from(first).recv_buffer_size().unwrap_or_default();
        }
        if adopted {
            unsteer(&sockets.udp);
        }
        let steering = steering.unwrap_or_default();
        steer(&sockets.udp, steering, workers).map_err(|e| failed("udp", address, e))?;
        Ok(sockets)
    }

    /// What a worker receives datagrams from.
    pub fn udp_of(&self, worker: usize) -> impl Iterator<Item = &UdpSocket> {
        let (first, step) = self.share(worker, &self.udp, UdpSocket::local_addr);
        self.udp.iter().skip(first).step_by(step)
    }

    /// What a worker accepts connections from.
    pub fn tcp_of(&self, worker: usize) -> impl Iterator<Item = &TcpListener> {
        let (first, step) = self.share(worker, &self.tcp, TcpListener::local_addr);
        self.tcp.iter().skip(first).step_by(step)
    }

    /// A worker's first socket, and how far the next is: its own where each address has one for every
    /// worker (there are two where the families of a wildcard are apart), otherwise all.
    fn share<S>(
        &self,
        worker: usize,
        sockets: &[S],
        local: impl Fn(&S) -> io::Result<SocketAddr>,
    ) -> (usize, usize) {
        let locals: BTreeSet<_> = sockets.iter().filter_map(|one| local(one).ok()).collect();
        match sockets.len() < locals.len() * self.workers {
            true => (0, 1),
            false => (worker, self.workers.max(1)),
        }
    }
}

/// Makes sockets that somebody else has bound what [`Sockets::bind`] would have made them.
///
/// # Errors
/// The kernel refuses an option that is needed.
pub fn prepare(given: &Given) -> io::Result<()> {
    for tcp in &given.tcp {
        tcp.set_nonblocking(true)?;
    }
    for udp in &given.udp {
        udp.set_nonblocking(true)?;
        let (socket, local) = (SockRef::from(udp), udp.local_addr()?);
        // A unit's ReceiveBuffer may be more than this process would be granted.
        let fresh = Socket::new(Domain::for_address(local), Type::DGRAM, None)?;
        widen(&SockRef::from(&fresh), SOCKET_BYTES_WANTED);
        if fresh.recv_buffer_size()? > socket.recv_buffer_size()? {
            widen(&socket, SOCKET_BYTES_WANTED);
        }
        if local.ip().is_unspecified() {
            set_pktinfo(udp, local.is_ipv6())?;
        }
    }
    Ok(())
}

fn failed(network: &'static str, address: SocketAddr, cause: io::Error) -> BindError {
    let shown = match address.ip().is_unspecified() {
        true => format!(":{}", address.port()),
        false => address.to_string(),
    };
    let in_use = cause.kind() == io::ErrorKind::AddrInUse;
    let holder = in_use.then(|| sys::port_holder(network, address.port())).flatten();
    BindError { network, address: shown, cause, holder }
}

fn listen(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    match open(address, kind) {
        Err(error)
            if address.is_ipv6()
                && address.ip().is_unspecified()
                && error.raw_os_error() == Some(libc::EAFNOSUPPORT) =>
        {
            open((Ipv4Addr::UNSPECIFIED, address.port()).into(), kind)
        }
        result => result,
    }
}

fn open(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let stream = kind == Type::STREAM;
    let protocol = if stream { Protocol::TCP } else { Protocol::UDP };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    let wildcard = address.ip().is_unspecified();
    if address.is_ipv6() {
        socket.set_only_v6(!wildcard)?;
    }
    if stream {
        socket.set_reuse_address(true)?;
    } else {
        widen(&SockRef::from(&socket), SOCKET_BYTES_WANTED);
        if wildcard {
            set_pktinfo(&socket, address.is_ipv6())?;
        }
    }
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&sys::scoped(address).into())?;
    Ok(socket)
}

/// Asks for large buffers. Best effort: past net.core.rmem_max with CAP_NET_ADMIN, else what that
/// allows.
pub fn widen(socket: &SockRef<'_>, wanted_bytes: usize) {
    let wanted = wanted_bytes as libc::c_int;
    if set_option(&**socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &wanted).is_err() {
        let _ = socket.set_recv_buffer_size(wanted_bytes);
    }
    let _ = socket.set_send_buffer_size(wanted_bytes);
}

fn set_option<T>(socket: &impl AsRawFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    // SAFETY: the pointer and length are those of a live value that the kernel copies.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const *value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn set_pktinfo(socket: &impl AsRawFd, v6: bool) -> io::Result<()> {
    let on: libc::c_int = 1;
    match v6 {
        true => set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, &on),
        false => set_option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, &on),
    }
}

/// Takes the program of the group away that another process has attached, if it has.
fn unsteer(sockets: &[UdpSocket]) {
    let nothing: libc::c_int = 0;
    if let Some(first) = sockets.first() {
        let _ = set_option(first, libc::SOL_SOCKET, libc::SO_DETACH_REUSEPORT_BPF, &nothing);
    }
}

/// Attaches a classic BPF program that picks the socket of the group.
fn steer(sockets: &[UdpSocket], steering: Steering, workers: usize) -> io::Result<()> {
    let (Some(first), count @ 2..) = (sockets.first(), sockets.len()) else { return Ok(()) };
    let mut code = match steering {
        Steering::Hash => return Ok(()),
        Steering::Spread => vec![load(libc::SKF_AD_RANDOM)],
        Steering::Cpu => {
            let mut code = vec![load(libc::SKF_AD_CPU)];
            for (index, cpu) in (0..).zip(sys::affinity().into_iter().take(workers.min(count))) {
                code.push(instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, cpu as u32, 1));
                code.push(instruction(libc::BPF_RET | libc::BPF_K, index, 0));
            }
            code
        }
    };
    // What no worker's CPU has received goes to any.
    code.push(instruction(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, count as u32, 0));
    code.push(instruction(libc::BPF_RET | libc::BPF_A, 0, 0));
    let program = libc::sock_fprog { len: code.len() as u16, filter: code.as_mut_ptr() };
    set_option(first, libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF, &program)
}

fn load(extension: i32) -> libc::sock_filter {
    let at = (libc::SKF_AD_OFF + extension) as u32;
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at, 0)
}

/// `skip`: instructions to leave out where a comparison fails.
fn instruction(code: u32, k: u32, skip: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: skip, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two sockets on a port that is free.
    fn bound(steering: Steering) -> Sockets {
        for _ in 0..100 {
            let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            match Sockets::bind(free, 2, steering) {
                Ok(sockets) => return sockets,
                Err(error) => assert_eq!(error.cause.kind(), io::ErrorKind::AddrInUse, "{error}"),
            }
        }
        panic!("no port is free");
    }

    /// How many of 64 datagrams of one flow each socket gets.
    fn flow(sockets: &Sockets) -> Vec<usize> {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..64 {
            client.send_to(b"x", sockets.local).unwrap();
        }
        let got =
            |socket: &UdpSocket| std::iter::from_fn(|| socket.recv_from(&mut [0; 8]).ok()).count();
        sockets.udp.iter().map(got).collect()
    }

    #[test]
    fn a_flow_stays_on_one_socket_by_hash_and_is_spread_over_all() {
        let mut hashed = flow(&bound(Steering::Hash));
        hashed.sort_unstable();
        assert_eq!(hashed, [0, 64]);
        let spread = flow(&bound(Steering::Spread));
        assert!(spread[0] > 0 && spread[1] > 0 && spread[0] + spread[1] == 64, "{spread:?}");
    }

    /// Sockets of two workers, of which somebody else has bound the first so many.
    fn kept(udp: usize, tcp: usize) -> Sockets {
        let mut bound = bound(Steering::Hash);
        bound.udp.truncate(udp);
        bound.tcp.truncate(tcp);
        let kept = Kept { udp: udp > 0, tcp: tcp > 0 };
        let given = Given { udp: bound.udp, tcp: bound.tcp, kept };
        Sockets::complete(bound.local, 2, Some(Steering::Hash), given).unwrap()
    }

    #[test]
    fn workers_share_what_is_kept_and_nothing_is_bound_beside_it() {
        let one = kept(1, 0);
        assert_eq!((one.udp.len(), one.tcp.len()), (1, 2));
        assert_eq!([0, 1].map(|worker| one.udp_of(worker).count()), [1, 1]);
        assert_eq!([0, 1].map(|worker| one.tcp_of(worker).count()), [1, 1]);
        let all: Vec<_> = (0..2).flat_map(|worker| one.tcp_of(worker)).collect();
        assert_ne!(all[0].as_raw_fd(), all[1].as_raw_fd());
        let two = kept(2, 1);
        let all: Vec<_> = (0..2).flat_map(|worker| two.udp_of(worker)).collect();
        assert_ne!(all[0].as_raw_fd(), all[1].as_raw_fd());
        assert_eq!([0, 1].map(|worker| two.tcp_of(worker).count()), [1, 1]);
    }

    #[test]
    fn a_datagram_goes_to_the_socket_of_its_cpu() {
        let sockets = bound(Steering::Cpu);
        for (index, cpu) in sys::affinity().into_iter().take(2).enumerate() {
            // What comes over the loopback interface is received on the CPU that sends it.
            let got = std::thread::scope(|scope| {
                let sender = scope.spawn(|| sys::pin(cpu).map(|()| flow(&sockets)));
                sender.join().unwrap().unwrap()
            });
            assert_eq!((got[index], got.iter().sum::<usize>()), (64, 64), "{got:?}");
        }
    }
}
