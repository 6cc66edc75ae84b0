//! Where load may go: to this machine; within a network namespace that a test made, to its links; from
//! a pod of a Kubernetes cluster, to private addresses. Load generators that can be pointed at anybody
//! are a hazard.

use std::fs;
use std::net::{IpAddr, SocketAddr};

/// What the command line permits beside loopback.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permit {
    /// The links of a network namespace that a test made.
    pub netns: bool,
    /// From a pod, private addresses.
    pub cluster: bool,
}

/// Whether `target` may be put under load; if not, why.
pub fn check(target: SocketAddr, permit: Permit) -> Result<(), String> {
    let is_pod = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    let ip = match target.ip() {
        IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4),
        ip => ip,
    };
    if ip.is_loopback() {
        return Ok(());
    }
    if permit.cluster {
        return check_in_cluster(ip, is_pod);
    }
    if !permit.netns {
        return Err(format!("{ip} is not a loopback address (see --netns-ok, --cluster-ok)"));
    }
    if is_first_namespace() {
        return Err(format!("{ip}: --netns-ok needs a network namespace made for the test"));
    }
    let routes = ["/proc/self/net/route", "/proc/self/net/ipv6_route"].map(fs::read_to_string);
    if routes.iter().flatten().any(|table| has_default_route(table)) {
        return Err(format!("{ip}: --netns-ok: this namespace has a default route"));
    }
    Ok(())
}

fn check_in_cluster(ip: IpAddr, is_pod: bool) -> Result<(), String> {
    if !is_pod {
        return Err(format!("{ip}: --cluster-ok: this is no pod of a cluster"));
    }
    let is_private = match ip {
        // RFC 1918; RFC 6598, which some providers give to services.
        IpAddr::V4(ip) => ip.is_private() || u32::from(ip) >> 22 == 0x6440_0000 >> 22,
        IpAddr::V6(ip) => ip.is_unique_local(),
    };
    match is_private || ip.is_loopback() {
        true => Ok(()),
        false => Err(format!("{ip}: --cluster-ok: not a private address")),
    }
}

/// Whether this is the network namespace of process 1; also where that cannot be told.
fn is_first_namespace() -> bool {
    match (fs::read_link("/proc/self/ns/net"), fs::read_link("/proc/1/ns/net")) {
        (Ok(own), Ok(first)) => own == first,
        _ => true,
    }
}

/// Whether a routing table of `/proc/net` leads out: destination 0 with an empty mask or prefix,
/// on an interface other than loopback (where IPv6 keeps its "unreachable").
fn has_default_route(table: &str) -> bool {
    table.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            // route: Iface Destination Gateway Flags RefCnt Use Metric Mask ...
            [interface, "00000000", _, _, _, _, _, "00000000", ..] => interface != "lo",
            // ipv6_route: destination, prefix length, ..., interface
            [destination, "00", _, _, _, _, _, _, _, interface] => {
                destination.bytes().all(|byte| byte == b'0') && interface != "lo"
            }
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_only() {
        for good in ["127.0.0.1:53", "127.1.2.3:53", "[::1]:53", "[::ffff:127.0.0.1]:53"] {
            assert_eq!(check(good.parse().unwrap(), Permit::default()), Ok(()), "{good}");
        }
        for bad in ["192.0.2.1:53", "[2001:db8::1]:53", "0.0.0.0:53", "[::ffff:192.0.2.1]:53"] {
            assert!(check(bad.parse().unwrap(), Permit::default()).is_err(), "{bad}");
        }
    }

    #[test]
    fn private_addresses_only_and_from_pods_only() {
        for good in ["10.96.0.10", "172.20.0.10", "192.168.1.1", "100.127.255.255", "fd00::a"] {
            let ip = good.parse().unwrap();
            assert_eq!(check_in_cluster(ip, true), Ok(()), "{good}");
            assert!(check_in_cluster(ip, false).is_err(), "{good}");
        }
        for bad in ["8.8.8.8", "100.128.0.0", "100.63.255.255", "172.32.0.1", "2001:db8::1"] {
            assert!(check_in_cluster(bad.parse().unwrap(), true).is_err(), "{bad}");
        }
    }

    #[test]
    fn default_routes_are_seen() {
        let head = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n";
        let link = "veth0 0002000A 00000000 0001 0 0 0 00FFFFFF 0 0 0\n";
        let default = "eth0 00000000 0100000A 0003 0 0 0 00000000 0 0 0\n";
        assert!(!has_default_route(&format!("{head}{link}")));
        assert!(has_default_route(&format!("{head}{link}{default}")));
        let zero = "0".repeat(32);
        let v6 = |interface: &str| {
            format!("{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200 {interface}\n")
        };
        assert!(has_default_route(&v6("eth0")) && !has_default_route(&v6("lo")));
    }
}
