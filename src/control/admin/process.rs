//! What the process is and uses: `process_*` as CoreDNS's exporter (client_golang) has them on Linux,
//! `coredns_build_info`, datagrams that the kernel dropped at our sockets, and how busy workers are.
//!
//! Read from /proc while a page is made: a few files, and a link for each descriptor. What cannot be
//! read is left out. `go_*` and `promhttp_*` are not exported: there is no Go here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::workers;
use crate::control::version;
use crate::data::tally::{Family, Gauge, Kind, Page, Tally, families};

/// Clock ticks of /proc a second: fixed to 100 for user space on Linux, whatever the kernel's HZ.
const TICKS: f64 = 100.0;

/// Shows which build this is, as long as the gauge lives.
pub fn build_info(tally: &Tally) -> Gauge {
    let labels = [version::COREDNS, version::COMMIT, version::COMPILER];
    let gauge = tally.gauge(&families::BUILD_INFO, &labels);
    gauge.set(1.0);
    gauge
}

/// Writes the families of this module; `coredns_build_info` is the registry's.
pub fn write(page: &mut Page<'_>) {
    let sockets = sockets();
    let drops = receive_drops(&sockets.inodes);
    page.family(DROPS.name, DROPS.help, DROPS.kind, |page| {
        for (listen, count) in &drops {
            page.integer("", &format!("listen=\"{listen}\""), *count);
        }
    });
    let stat = Stat::read();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let netstat = fs::read_to_string("/proc/self/net/netstat").unwrap_or_default();
    let counter = Kind::Counter;
    let gauge = Kind::Gauge;
    let values = [
        ("process_cpu_seconds_total", counter, CPU, stat.as_ref().map(|stat| stat.cpu)),
        ("process_max_fds", gauge, MAX_FDS, limit(&limits, "Max open files")),
        ("process_network_receive_bytes_total", counter, RECEIVED, octets(&netstat, "InOctets")),
        ("process_network_transmit_bytes_total", counter, SENT, octets(&netstat, "OutOctets")),
        ("process_open_fds", gauge, OPEN_FDS, Some(sockets.descriptors as f64)),
        ("process_resident_memory_bytes", gauge, RESIDENT, kilobytes(&status, "VmRSS:")),
        ("process_start_time_seconds", gauge, START, stat.and_then(|stat| stat.started())),
        ("process_virtual_memory_bytes", gauge, VIRTUAL, kilobytes(&status, "VmSize:")),
        (
            "process_virtual_memory_max_bytes",
            gauge,
            VIRTUAL_MAX,
            limit(&limits, "Max address space"),
        ),
    ];
    for (name, kind, help, value) in values {
        page.family(name, help, kind, |page| {
            if let Some(value) = value {
                page.float("", "", value);
            }
        });
    }
    workers::write(page);
}

static DROPS: Family = Family::counter(
    "corelane_udp_receive_drops_total",
    &["listen"],
    "Datagrams that found the receive buffer of a listening socket full.",
);

const CPU: &str = "User and system CPU time spent, in seconds.";
const MAX_FDS: &str = "Descriptors that may be open.";
const RECEIVED: &str = "Octets received by the process's network namespace.";
const SENT: &str = "Octets sent by the process's network namespace.";
const OPEN_FDS: &str = "Descriptors that are open.";
const RESIDENT: &str = "Resident memory in bytes.";
const START: &str = "When the process started, in seconds since 1970.";
const VIRTUAL: &str = "Virtual memory in bytes.";
const VIRTUAL_MAX: &str = "Virtual memory that may be had, in bytes.";

/// Of /proc/self/stat: CPU time in seconds, start in ticks since boot.
struct Stat {
    cpu: f64,
    start: f64,
}

impl Stat {
    fn read() -> Option<Stat> {
        Stat::parse(&fs::read_to_string("/proc/self/stat").ok()?)
    }

    /// Fields 14, 15 and 22 of proc(5), counted after the name, which may hold anything.
    fn parse(text: &str) -> Option<Stat> {
        let (_, rest) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at - 3)?.parse::<f64>().ok();
        Some(Stat { cpu: (number(14)? + number(15)?) / TICKS, start: number(22)? })
    }

    fn started(&self) -> Option<f64> {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        let boot = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
        Some(boot.trim().parse::<f64>().ok()? + self.start / TICKS)
    }
}

fn kilobytes(status: &str, key: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<f64>().ok()? * 1024.0)
}

/// The soft limit; none is shown as 2^64 - 1, as client_golang does.
fn limit(limits: &str, key: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(key))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(u64::MAX as f64),
        number => number.parse().ok(),
    }
}

/// A number of /proc/net/netstat: a line of names and one of values, both after `IpExt:`.
fn octets(netstat: &str, key: &str) -> Option<f64> {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("IpExt: "));
    let at = lines.next()?.split(' ').position(|name| name == key)?;
    lines.next()?.split(' ').nth(at)?.parse().ok()
}

struct Sockets {
    descriptors: usize,
    inodes: BTreeSet<u64>,
}

fn sockets() -> Sockets {
    let mut sockets = Sockets { descriptors: 0, inodes: BTreeSet::new() };
    for entry in fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
        sockets.descriptors += 1;
        let target = fs::read_link(entry.path()).unwrap_or_default();
        let inode = target.to_str().and_then(|text| text.strip_prefix("socket:["));
        sockets
            .inodes
            .extend(inode.and_then(|text| text.trim_end_matches(']').parse::<u64>().ok()));
    }
    // The descriptor that reads the folder is not there any more.
    sockets.descriptors = sockets.descriptors.saturating_sub(1);
    sockets
}

/// Datagrams dropped at our unconnected UDP sockets, by address; those of a group are added up.
fn receive_drops(inodes: &BTreeSet<u64>) -> BTreeMap<SocketAddr, u64> {
    let mut drops = BTreeMap::new();
    for file in ["/proc/self/net/udp", "/proc/self/net/udp6"] {
        let text = fs::read_to_string(file).unwrap_or_default();
        for socket in text.lines().skip(1).filter_map(udp_socket) {
            if inodes.contains(&socket.inode) && !socket.connected {
                *drops.entry(socket.local).or_default() += socket.drops;
            }
        }
    }
    drops
}

/// A line of /proc/net/udp or udp6.
#[derive(Debug, PartialEq, Eq)]
struct UdpSocket {
    local: SocketAddr,
    connected: bool,
    inode: u64,
    drops: u64,
}

fn udp_socket(line: &str) -> Option<UdpSocket> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let remote = hex_address(fields.get(2)?)?;
    Some(UdpSocket {
        local: hex_address(fields.get(1)?)?,
        connected: remote.port() != 0,
        inode: fields.get(9)?.parse().ok()?,
        drops: fields.get(12)?.parse().ok()?,
    })
}

/// `0100007F:0035`: words of the address as the machine reads them, then the port.
fn hex_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::with_capacity(16);
    for at in (0..address.len()).step_by(8) {
        let word = u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let ip = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(v4) => IpAddr::V4(Ipv4Addr::from(v4)),
        Err(_) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?)),
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tally::Format;

    #[test]
    fn a_page_has_all_families_of_the_process() {
        let mut out = String::new();
        write(&mut Page::new(&mut out, Format::Text004));
        for name in [
            "cpu_seconds_total",
            "max_fds",
            "network_receive_bytes_total",
            "network_transmit_bytes_total",
            "open_fds",
            "resident_memory_bytes",
            "start_time_seconds",
            "virtual_memory_bytes",
            "virtual_memory_max_bytes",
        ] {
            let start = format!("process_{name} ");
            let line = out.lines().find_map(|line| line.strip_prefix(&start));
            let value: f64 = line.and_then(|value| value.parse().ok()).expect(name);
            assert!(value >= 0.0, "{name} {value}");
        }
    }

    #[test]
    fn reads_stat_past_a_hostile_name() {
        let text = "7 (a) R 1) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 1234 1 1";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.cpu, stat.start), (2.0, 1234.0));
    }

    #[test]
    fn reads_limits_and_netstat() {
        let limits = "Max open files            1024                 4096                 files\n\
                      Max address space         unlimited            unlimited            bytes\n";
        assert_eq!(limit(limits, "Max open files"), Some(1024.0));
        assert_eq!(limit(limits, "Max address space"), Some(u64::MAX as f64));
        let netstat = "TcpExt: A\nTcpExt: 1\nIpExt: X InOctets OutOctets\nIpExt: 1 20 30\n";
        assert_eq!(octets(netstat, "OutOctets"), Some(30.0));
        assert_eq!(octets(netstat, "None"), None);
    }

    #[test]
    fn finds_the_drops_of_its_own_sockets() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = socket.local_addr().unwrap();
        let drops = receive_drops(&sockets().inodes);
        assert_eq!(drops.get(&at), Some(&0));
        // Datagrams of 60,000 octets until the buffer is full.
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        (0..2000).for_each(|_| drop(sender.send_to(&[0; 60_000], at)));
        assert!(receive_drops(&sockets().inodes)[&at] > 0);
    }
}
