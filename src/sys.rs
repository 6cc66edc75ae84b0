//! What the kernel tells and does that the standard library does not cover: safe, small wrappers.
//!
//! With `data/transport` the only module that may hold `unsafe`. Nothing here is on the way of a
//! query except [`EventFd::ring`] and [`EventFd::clear`], one system call each, made only for a
//! worker that sleeps.

#![allow(unsafe_code, reason = "system calls; each block says why it is sound")]

use std::ffi::{CStr, CString, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use socket2::Socket;
use tokio::io::unix::AsyncFd;

use crate::limits::BACKGROUND_NICE;

/// Turns the −1 of a system call into `errno`.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A counter in the kernel that makes its descriptor readable: how one thread wakes another's
/// reactor. Nonblocking, closed on exec.
#[derive(Debug)]
pub struct EventFd(OwnedFd);

impl EventFd {
    /// A quiet one.
    ///
    /// # Errors
    /// The process or the system has no descriptor left.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked before it is used.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: the kernel has just given us this descriptor, and nobody else holds it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Makes the descriptor readable. Never waits.
    pub fn ring(&self) {
        let one = 1u64.to_ne_bytes();
        // A full counter (EAGAIN) is readable already: nothing to do, and nothing else can fail.
        // SAFETY: `one` is eight readable octets for the length of the call.
        let _ = unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Makes the descriptor unreadable until the next ring; whether it had been rung.
    pub fn clear(&self) -> bool {
        let mut count = [0u8; 8];
        // SAFETY: `count` is eight writable octets for the length of the call.
        let got = unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
        got == 8
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// How many workers to run: the floor of the cgroup's CPU quota, at least 1, at most the CPUs that
/// the process may run on. A worker more than the quota would be throttled in the middle of a turn.
pub fn worker_count() -> usize {
    let cpus = affinity().len().max(1);
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    match quota_cpus(Path::new("/sys/fs/cgroup"), &groups) {
        Some(quota) => quota.clamp(1, cpus),
        None => cpus,
    }
}

/// The smallest CPU quota between our cgroup and the root of `mount`, in whole CPUs rounded down;
/// `None` without one. `groups` is the text of `/proc/self/cgroup`.
fn quota_cpus(mount: &Path, groups: &str) -> Option<usize> {
    groups.lines().filter_map(|line| group_quota(mount, line)).min()
}

/// The quota of one line `ID:CONTROLLERS:PATH`; version 2 has no controllers.
fn group_quota(mount: &Path, line: &str) -> Option<usize> {
    let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
    let path = Path::new(path.trim_start_matches('/'));
    let second = controllers.is_empty();
    if !second && !controllers.split(',').any(|controller| controller == "cpu") {
        return None;
    }
    let roots = if second { [".", "unified"] } else { ["cpu", "cpu,cpuacct"] };
    let read = if second { quota_v2 } else { quota_v1 };
    // In a container the path may lie above what is mounted: then only its upper directories are
    // there, at last the mount's root, which is the container's own group.
    let roots = roots.iter().map(|root| mount.join(root));
    roots.flat_map(|root| path.ancestors().filter_map(|group| read(&root.join(group))).min()).min()
}

/// `cpu.max`: quota and period in µs, or `max`.
fn quota_v2(group: &Path) -> Option<usize> {
    let text = std::fs::read_to_string(group.join("cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    quota.parse::<usize>().ok()?.checked_div(period.parse().ok()?)
}

/// `cpu.cfs_quota_us`, −1 for none, over `cpu.cfs_period_us`.
fn quota_v1(group: &Path) -> Option<usize> {
    let number = |file: &str| -> Option<usize> {
        std::fs::read_to_string(group.join(file)).ok()?.trim().parse().ok()
    };
    number("cpu.cfs_quota_us")?.checked_div(number("cpu.cfs_period_us")?)
}

/// The CPUs that the calling thread may run on, ascending; empty if the kernel does not tell
/// (machines of more than 1,024 CPUs).
pub fn affinity() -> Vec<usize> {
    // SAFETY: all zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: `set` is writable and as long as we say; 0 is the calling thread.
    let result = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) };
    if result != 0 {
        return Vec::new();
    }
    let all = 0..libc::CPU_SETSIZE as usize;
    // SAFETY: `cpu` is below CPU_SETSIZE, the number of bits in the set.
    all.filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect()
}

/// Keeps the calling thread on one CPU.
///
/// # Errors
/// There is no such CPU, or the process may not use it.
pub fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: all zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: `cpu` is below CPU_SETSIZE, checked above.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: `set` is readable and as long as we say; 0 is the calling thread.
    check(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) }).map(drop)
}

/// Has the calling thread leave the CPU to the others of this process, as far as `nice(2)` goes: for what
/// computes for long beside workers that may have no other CPU. Who wants to and is not let goes on as
/// it is. Linux has a niceness for each thread.
pub fn give_way() {
    // SAFETY: plain numbers. The first is that of the thread `main` runs on, which never gives way: however
    // threads start each other, they give way once.
    unsafe {
        let usual = libc::getpriority(libc::PRIO_PROCESS, std::process::id());
        libc::setpriority(libc::PRIO_PROCESS, 0, usual + BACKGROUND_NICE);
    }
}

/// Has the kernel give this process pages of the usual size only.
///
/// A huge page is 2 MiB resident from its first octet on: an idle server held 15 MiB in them.
extern "C" fn disable_huge_pages() {
    set_huge_pages(false);
}

// Before `main`, and so before the allocator has touched its first pages.
// SAFETY: the section holds functions of no arguments that are called once, on the only thread
// there is; this one makes a system call and touches nothing.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = disable_huge_pages;

/// Allows huge pages again: for tables so large that the walk through page tables is what a look-up
/// costs.
pub fn allow_huge_pages() {
    set_huge_pages(true);
}

fn set_huge_pages(on: bool) {
    // SAFETY: `prctl` with plain numbers. A kernel that refuses leaves everything as it was.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, libc::c_ulong::from(!on), 0, 0, 0) };
}

/// Raises the soft limit of open descriptors to the hard one; gives the limit then in force.
/// A container's default of 1,024 would be used up by a thousand connections.
pub fn raise_descriptor_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is writable for the length of the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return 0;
    }
    let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
    // SAFETY: `raised` is readable for the length of the call.
    match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raised) } {
        0 => raised.rlim_cur,
        _ => limit.rlim_cur,
    }
}

/// The addresses of a network interface, in the kernel's order, with port 0; link-local IPv6
/// addresses carry their scope. Empty: there is no such interface, or it has no address.
///
/// # Errors
/// The kernel has no memory for the list.
pub fn addresses_of(interface: &str) -> io::Result<Vec<SocketAddr>> {
    addresses_where(|name| name == interface.as_bytes())
}

/// The addresses of all network interfaces, likewise.
///
/// # Errors
/// The kernel has no memory for the list.
pub fn addresses() -> io::Result<Vec<SocketAddr>> {
    addresses_where(|_| true)
}

/// The first network interface that has the address.
///
/// # Errors
/// The kernel has no memory for the list.
pub fn interface_with(ip: IpAddr) -> io::Result<Option<String>> {
    let mut found = None;
    each_address(|name, address| {
        if address.ip() == ip && found.is_none() {
            found = Some(String::from_utf8_lossy(name).into_owned());
        }
    })?;
    Ok(found)
}

fn addresses_where(wanted: impl Fn(&[u8]) -> bool) -> io::Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    each_address(|name, address| addresses.extend(wanted(name).then_some(address)))?;
    Ok(addresses)
}

/// Calls `found` with the name of an interface and an address of it, for each there is.
fn each_address(mut found: impl FnMut(&[u8], SocketAddr)) -> io::Result<()> {
    let mut list = std::ptr::null_mut();
    // SAFETY: `list` is writable; what it points to afterwards is freed below, once.
    check(unsafe { libc::getifaddrs(&mut list) })?;
    let mut at = list;
    // SAFETY: getifaddrs gives a list that ends in null, each entry valid until it is freed.
    while let Some(entry) = unsafe { at.as_ref() } {
        at = entry.ifa_next;
        // SAFETY: the name is a valid C string for as long as the entry.
        let name = unsafe { CStr::from_ptr(entry.ifa_name) };
        // SAFETY: the address is null or that of a sockaddr of its family.
        if let Some(address) = unsafe { socket_address(entry.ifa_addr) } {
            found(name.to_bytes(), address);
        }
    }
    // SAFETY: the list is getifaddrs's and nothing borrows from it any more.
    unsafe { libc::freeifaddrs(list) };
    Ok(())
}

/// Reads a sockaddr; `None` for null and for families other than IP.
///
/// # Safety
/// `address` is null, or points to a socket address that is as long as its family's.
unsafe fn socket_address(address: *const libc::sockaddr) -> Option<SocketAddr> {
    // SAFETY: null, or a sockaddr by the caller's word.
    match i32::from(unsafe { address.as_ref() }?.sa_family) {
        libc::AF_INET => {
            // SAFETY: an AF_INET address is a sockaddr_in; it may be unaligned.
            let v4 = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddrV4::new(ip, 0).into())
        }
        libc::AF_INET6 => {
            // SAFETY: an AF_INET6 address is a sockaddr_in6; it may be unaligned.
            let v6 = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(ip, 0, 0, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// Who holds a `tcp` or `udp` port, as `NAME (pid N)`: the first socket of either family that is
/// bound to it and whose process we may look into. Reads all of `/proc`: for error messages.
pub fn port_holder(network: &str, port: u16) -> Option<String> {
    let inodes = ["", "6"].iter().flat_map(|family| {
        let table = std::fs::read_to_string(format!("/proc/net/{network}{family}"));
        bound_inodes(&table.unwrap_or_default(), port)
    });
    let targets: Vec<String> = inodes.map(|inode| format!("socket:[{inode}]")).collect();
    if targets.is_empty() {
        return None;
    }
    let holds = |process: &Path| {
        let descriptors = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        descriptors
            .filter_map(|descriptor| std::fs::read_link(descriptor.path()).ok())
            .any(|link| targets.iter().any(|target| link.as_os_str() == target.as_str()))
    };
    let mut processes = std::fs::read_dir("/proc").ok()?.flatten();
    processes.find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        holds(&process.path()).then(|| {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            format!("{} (pid {pid})", name.trim())
        })
    })
}

/// The inodes of the sockets of a `/proc/net` table that are bound to `port` and connected to
/// nobody. Fields: 1 is ADDRESS:PORT in hexadecimal, 2 the peer's, 9 the inode.
fn bound_inodes(table: &str, port: u16) -> Vec<u64> {
    let port_of = |field: &str| u16::from_str_radix(field.rsplit_once(':')?.1, 16).ok();
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let bound = port_of(fields.get(1)?)? == port && port_of(fields.get(2)?)? == 0;
        bound.then(|| fields.get(9)?.parse().ok()).flatten()
    };
    table.lines().filter_map(inode).collect()
}

/// The machine's host name, as the kernel has it; empty if it cannot be told.
pub fn hostname() -> OsString {
    // Linux's names have at most 64 octets; one more for the NUL.
    let mut name = [0u8; 65];
    // SAFETY: `name` is writable for the length that we say.
    if unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len()) } != 0 {
        return OsString::new();
    }
    let len = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    OsString::from_vec(name[..len].to_vec())
}

/// Sends octets and descriptors (SCM_RIGHTS) by a connected Unix socket, without waiting; on a socket
/// of packets they are one.
///
/// # Errors
/// `WouldBlock`: the socket's buffer is full. Else the peer is gone, or something is too long.
pub fn send_with(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let mut iovec =
        libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: plain C struct, for which all zeroes (null pointers, no lengths) is valid.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_iov = &raw mut iovec;
    header.msg_iovlen = 1;
    let size = size_of_val(&raw[..]);
    // SAFETY: arithmetic on a length that fits: descriptors are 32-bit numbers.
    let space = unsafe { libc::CMSG_SPACE(size as u32) } as usize;
    // Of eight octets each, so that it is aligned for `cmsghdr`.
    let mut control = vec![0u64; space.div_ceil(8)];
    if !raw.is_empty() {
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = space as _;
        // SAFETY: `control` is aligned for a `cmsghdr` and holds CMSG_SPACE of the descriptors, which
        // are copied behind it.
        unsafe {
            let message = libc::CMSG_FIRSTHDR(&header);
            (*message).cmsg_level = libc::SOL_SOCKET;
            (*message).cmsg_type = libc::SCM_RIGHTS;
            (*message).cmsg_len = libc::CMSG_LEN(size as u32) as _;
            libc::CMSG_DATA(message)
                .cast::<RawFd>()
                .copy_from_nonoverlapping(raw.as_ptr(), raw.len());
        }
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the header points to `iovec`, `bytes` and `control`, all alive and of the lengths said.
    match unsafe { libc::sendmsg(socket.as_raw_fd(), &header, flags) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Receives what [`send_with`] sends: octets into `bytes`, at most `most` descriptors. No octets and
/// no descriptors: the peer has closed.
///
/// # Errors
/// `WouldBlock`: nothing is there. `InvalidData`: it was longer than there is room for.
pub fn receive_with(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
    most: usize,
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut iovec = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: plain C struct, for which all zeroes (null pointers, no lengths) is valid.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: arithmetic on a length that fits: `most` is a bound of ours.
    let space = unsafe { libc::CMSG_SPACE((most * size_of::<RawFd>()) as u32) } as usize;
    let mut control = vec![0u64; space.div_ceil(8)];
    header.msg_iov = &raw mut iovec;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = space as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header points to `iovec`, `bytes` and `control`, all writable for the lengths said.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut header, flags) };
    let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
    let mut descriptors = Vec::new();
    // SAFETY: the kernel has written well-formed control messages; one of SCM_RIGHTS holds descriptors
    // that are ours now, as many as fit its length.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(&header);
        while let Some(found) = message.as_ref() {
            if (found.cmsg_level, found.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                let data = libc::CMSG_DATA(message);
                let octets = found.cmsg_len - (data as usize - message as usize);
                for index in 0..octets / size_of::<RawFd>() {
                    let raw = data.cast::<RawFd>().add(index).read_unaligned();
                    descriptors.push(OwnedFd::from_raw_fd(raw));
                }
            }
            message = libc::CMSG_NXTHDR(&header, message);
        }
    }
    match header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) {
        0 => Ok((len, descriptors)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Has the runtime watch a socket.
///
/// # Errors
/// The runtime cannot: no descriptor, no memory.
pub fn watch(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: a `Socket` gives the same descriptor every time, and keeps it open as long as it lives,
    // which is as long as the registration.
    unsafe { AsyncFd::register(socket) }.map_err(io::Error::from)
}

/// Who is at the other end of a Unix socket, as the kernel knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Process id, as this process sees it; 0 if it is in a space of processes that we do not see.
    pub pid: u32,
    /// Effective user id when it connected.
    pub uid: u32,
}

/// Asks the kernel who is at the other end (SO_PEERCRED).
///
/// # Errors
/// It is no connected Unix socket.
pub fn peer_of(socket: BorrowedFd<'_>) -> io::Result<Peer> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = size_of_val(&peer) as libc::socklen_t;
    // SAFETY: `peer` is writable for the length that we say.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &mut len,
        )
    })?;
    Ok(Peer { pid: u32::try_from(peer.pid).unwrap_or_default(), uid: peer.uid })
}

/// The effective user id of this process.
pub fn user() -> u32 {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::geteuid() }
}

/// The descriptors that whoever started this process has left open for it, from number 3 on. To be
/// called at most once, before anything else is opened.
pub fn descriptors_left(count: usize) -> Vec<OwnedFd> {
    let all = (3..).take(count);
    // SAFETY: a question about a number; FD_CLOEXEC concerns nobody else.
    let open = |fd: &RawFd| unsafe { libc::fcntl(*fd, libc::F_SETFD, libc::FD_CLOEXEC) } == 0;
    // SAFETY: it is open, it was opened before this process began, and so nobody in it owns it.
    all.filter(open).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect()
}

/// Opens a network interface that exists for as long as its descriptor is open (a TUN device that is
/// not persistent). Nothing is read from it: it is there for its addresses.
///
/// # Errors
/// `NotFound`: there is no /dev/net/tun. `PermissionDenied`: no CAP_NET_ADMIN, or the device may not be
/// opened. `ResourceBusy`: another process has an interface of this name. `InvalidInput`: the name.
pub fn open_interface(name: &str) -> io::Result<OwnedFd> {
    let device = std::fs::File::options().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: plain C struct, for which all zeroes is valid.
    let mut request: libc::ifreq = unsafe { MaybeUninit::zeroed().assume_init() };
    // One is left for the NUL.
    if name.is_empty() || name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: `request` is an ifreq, readable and writable for the length of the call.
    check(unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF as _, &mut request) })?;
    Ok(device.into())
}

/// Whether a descriptor is a socket.
pub fn is_socket(descriptor: BorrowedFd<'_>) -> bool {
    // SAFETY: plain C struct, for which all zeroes is valid.
    let mut stat: libc::stat = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: `stat` is writable for the length of the call.
    let result = unsafe { libc::fstat(descriptor.as_raw_fd(), &mut stat) };
    result == 0 && stat.st_mode & libc::S_IFMT == libc::S_IFSOCK
}

/// An address to bind, a link-local one of IPv6 with its interface, which the kernel wants to know.
pub fn scoped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() && v6.scope_id() == 0 => {
            let all = addresses().unwrap_or_default();
            let mut found = all.into_iter().find(|one| one.ip() == address.ip());
            found.iter_mut().for_each(|one| one.set_port(address.port()));
            found.unwrap_or(address)
        }
        _ => address,
    }
}

/// Takes the rights that the program's file gives it (capabilities(7)) into use: to bind ports below
/// 1024, and, if `network`, to change interfaces and rules. Before the process has other threads.
pub fn use_capabilities(network: bool) {
    const VERSION_3: u32 = 0x2008_0522;
    const CAP_NET_BIND_SERVICE: u32 = 10;
    /// `struct __user_cap_data_struct`: effective, permitted, inheritable.
    type Sets = [u32; 3];
    let mut header = [VERSION_3, 0];
    let mut sets: [Sets; 2] = [[0; 3]; 2];
    // SAFETY: header and sets are laid out as the kernel reads and writes them, for the length of the
    // call; 0 is the calling thread.
    let got = unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr()) };
    let wanted = 1 << CAP_NET_BIND_SERVICE | u32::from(network) << CAP_NET_ADMIN;
    let missing = sets[0][1] & wanted & !sets[0][0];
    // Where nothing is missing, nothing is asked for that a filter of system calls may refuse.
    if got != 0 || missing == 0 {
        return;
    }
    sets[0][0] |= missing;
    // What is refused leaves everything as it was: whoever needs the right says what is missing.
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_capset, header.as_mut_ptr(), sets.as_ptr()) };
}

const CAP_NET_ADMIN: u32 = 12;

/// Whether this process may change interfaces and rules (CAP_NET_ADMIN).
pub fn may_administer_network() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    bits.is_some_and(|bits| bits & 1 << CAP_NET_ADMIN != 0)
}

/// The kernel's number of a network interface.
///
/// # Errors
/// There is none of this name.
pub fn interface_index(name: &str) -> io::Result<u32> {
    let name = CString::new(name).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: `name` is a C string for the length of the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// Microseconds of the clock by which systemd orders what it is told (CLOCK_MONOTONIC).
pub fn monotonic_micros() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable for the length of the call; the clock is one that Linux always has.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1_000
}

/// Sends a signal to a process.
///
/// # Errors
/// There is no such process, or it is another user's.
pub fn signal(pid: u32, signal: i32) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: plain numbers.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// A look at the children of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaped {
    /// One has ended: which, and its exit status, or 128 and the signal that ended it.
    Ended(u32, u8),
    /// There are some, none has ended.
    Alive,
    /// There are none.
    Childless,
}

/// Takes a child that has ended off the kernel's list, without waiting.
pub fn reap() -> Reaped {
    let mut status = 0;
    // SAFETY: `status` is writable for the length of the call.
    match unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) } {
        0 => Reaped::Alive,
        -1 => Reaped::Childless,
        child if libc::WIFSIGNALED(status) => {
            Reaped::Ended(child as u32, 128 | libc::WTERMSIG(status) as u8)
        }
        child => Reaped::Ended(child as u32, libc::WEXITSTATUS(status) as u8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_eventfd_counts_rings_until_it_is_cleared() {
        let bell = EventFd::new().unwrap();
        assert!(!bell.clear());
        bell.ring();
        bell.ring();
        assert!(bell.clear());
        assert!(!bell.clear());
    }

    #[test]
    fn an_eventfd_that_is_rung_is_readable() {
        let bell = EventFd::new().unwrap();
        let readable = || {
            let mut poll = libc::pollfd { fd: bell.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one pollfd, writable for the length of the call.
            unsafe { libc::poll(&mut poll, 1, 0) == 1 }
        };
        assert!(!readable());
        bell.ring();
        assert!(readable());
    }

    fn group(root: &Path, path: &str, files: &[(&str, &str)]) {
        let path = root.join(path);
        std::fs::create_dir_all(&path).unwrap();
        for (file, text) in files {
            std::fs::write(path.join(file), text).unwrap();
        }
    }

    /// A directory of this test's own, removed at its end.
    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("corelane-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_tightest_quota_on_the_way_up_counts() {
        let scratch = Scratch::new("cgroup2");
        let root = &scratch.0;
        group(root, "pod/box", &[("cpu.max", "max 100000\n")]);
        group(root, "pod", &[("cpu.max", "250000 100000\n")]);
        assert_eq!(quota_cpus(root, "0::/pod/box\n"), Some(2));
        group(root, "pod/box", &[("cpu.max", "50000 100000\n")]);
        assert_eq!(quota_cpus(root, "0::/pod/box\n"), Some(0));
        // Seen from inside, the path does not exist and the mount is our own group.
        group(root, "", &[("cpu.max", "400000 100000\n")]);
        assert_eq!(quota_cpus(root, "0::/kubepods/elsewhere\n"), Some(4));
    }

    #[test]
    fn cgroup_version_1_has_a_quota_per_controller() {
        let scratch = Scratch::new("cgroup1");
        let root = &scratch.0;
        let quota = |quota| [("cpu.cfs_quota_us", quota), ("cpu.cfs_period_us", "100000\n")];
        group(root, "cpu,cpuacct/pod", &quota("300000\n"));
        group(root, "cpu,cpuacct", &quota("-1\n"));
        assert_eq!(quota_cpus(root, "7:memory:/pod\n5:cpu,cpuacct:/pod\n"), Some(3));
        group(root, "cpu,cpuacct/pod", &quota("-1\n"));
        assert_eq!(quota_cpus(root, "7:memory:/pod\n5:cpu,cpuacct:/pod\n"), None);
    }

    #[test]
    fn nonsense_in_the_cgroup_files_is_no_quota() {
        let scratch = Scratch::new("cgroup-nonsense");
        let root = &scratch.0;
        group(root, "", &[("cpu.max", "100000 0\n")]);
        assert_eq!(quota_cpus(root, "0::/\n"), None);
        group(root, "", &[("cpu.max", "many\n")]);
        assert_eq!(quota_cpus(root, "0::/\nnot a line\n"), None);
    }

    #[test]
    fn there_is_at_least_one_worker_and_a_cpu_for_each() {
        assert!((1..=affinity().len()).contains(&worker_count()));
    }

    #[test]
    fn a_pinned_thread_stays_on_its_cpu() {
        let cpu = *affinity().last().unwrap();
        let seen = std::thread::spawn(move || pin(cpu).map(|()| affinity())).join().unwrap();
        assert_eq!(seen.unwrap(), [cpu]);
        assert!(pin(usize::MAX).is_err());
    }

    #[test]
    fn a_thread_gives_way_once_and_the_others_do_not() {
        // SAFETY: plain numbers.
        let nice = || unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        let usual = nice();
        let of_thread = move || {
            give_way();
            let first = nice();
            let second = std::thread::spawn(move || (give_way(), nice()).1).join().unwrap();
            (first, second)
        };
        let given = std::thread::spawn(of_thread).join().unwrap();
        let lowest = 19;
        let wanted = (usual + BACKGROUND_NICE).min(lowest);
        assert_eq!((given, nice()), ((wanted, wanted), usual));
    }

    #[test]
    fn the_loopback_interface_has_the_loopback_address() {
        let addresses = addresses_of("lo").unwrap();
        assert!(addresses.iter().any(|address| address.ip() == Ipv4Addr::LOCALHOST));
        assert!(addresses_of("no-such-interface").unwrap().is_empty());
    }

    #[test]
    fn a_port_is_held_by_the_process_that_bound_it() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let holder = port_holder("tcp", port).unwrap();
        assert!(holder.ends_with(&format!("(pid {})", std::process::id())), "{holder}");
        drop(socket);
        assert_eq!(port_holder("tcp", port), None);
    }

    #[test]
    fn a_connection_from_a_port_does_not_hold_it() {
        let table = "  sl  local_address rem_address st\n\
             0: 0100007F:0035 00000000:0000 0A 0:0 0:0 0 0 0 77 1\n\
             1: 0100007F:0035 0100007F:ABCD 01 0:0 0:0 0 0 0 78 1\n";
        assert_eq!(bound_inodes(table, 53), [77]);
        assert!(bound_inodes(table, 54).is_empty());
    }

    #[test]
    fn the_descriptor_limit_does_not_sink() {
        let first = raise_descriptor_limit();
        assert!(first > 0);
        assert_eq!(raise_descriptor_limit(), first);
    }

    #[test]
    fn the_host_has_a_name() {
        assert!(!hostname().is_empty());
    }
}
