//! TO: the words that name upstreams, and what they come to.
//!
//! A word is an address with or without a port, the path of a file like `/etc/resolv.conf`, or a
//! host name, with `dns://`, `tls://` or `https://` before it. Which of the last two it is, is known
//! when it is expanded: what exists as a file is one.

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::resolve;
use crate::control::corefile::Place;
use crate::limits::FORWARD_UPSTREAMS_MAX;
use crate::wire::NameBuf;

/// What an upstream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// UDP and TCP.
    Dns,
    /// TLS (RFC 7858).
    Tls,
    /// HTTPS (RFC 8484).
    Https,
}

impl Scheme {
    fn port(self) -> u16 {
        match self {
            Self::Dns => 53,
            Self::Tls => 853,
            Self::Https => 443,
        }
    }
}

/// The part of TO that says where.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Address(IpAddr),
    /// A file or a host name, and all that stands after the scheme.
    Word {
        host: String,
        whole: String,
    },
}

/// One TO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    text: String,
    scheme: Scheme,
    host: Host,
    port: Option<u16>,
    server_name: Option<String>,
}

/// An upstream that a TO comes to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// What it speaks.
    pub scheme: Scheme,
    /// Where it listens.
    pub socket: SocketAddr,
    /// The name in its certificate, if TO says one.
    pub server_name: Option<Box<str>>,
}

/// Reads a word. `server_name` is what `tls_servername` says.
pub fn parse(text: &str, server_name: Option<&str>) -> Result<Target, String> {
    const SCHEMES: [&str; 7] = ["dns", "tls", "quic", "grpc", "https3", "https", "unix"];
    let split = text.split_once("://").filter(|(scheme, _)| SCHEMES.contains(scheme));
    let (word, rest) = split.unwrap_or(("dns", text));
    let scheme = match word {
        "dns" => Some(Scheme::Dns),
        "tls" => Some(Scheme::Tls),
        "https" => Some(Scheme::Https),
        _ => None,
    };
    if rest.is_empty() {
        return Err(format!("invalid address: {text:?}"));
    }
    if scheme == Some(Scheme::Https) && rest.contains('/') {
        let words = "paths are not allowed in HTTPS upstream addresses \
                     (the /dns-query path is used by default)";
        return Err(format!("{words}: {text}"));
    }
    let (host, port) = split_port(rest);
    let (host, zone) = host.rsplit_once('%').map_or((host, None), |(h, zone)| (h, Some(zone)));
    let address = host.parse::<IpAddr>().ok();
    let Some(scheme) = scheme else {
        return Err(match address {
            None if word != "unix" => {
                format!("not an IP address, file, or valid domain: {text:?}")
            }
            _ => format!("'{word}' is not supported as a destination protocol in forward: {text}"),
        });
    };
    // A colon without a port names the usual one.
    let port = port.filter(|port| !port.is_empty()).map(str::parse).transpose();
    let port = match (port, address) {
        (Ok(port), _) => port,
        (Err(_), Some(_)) => return Err(format!("address {text}: invalid port")),
        // A path may hold a colon.
        (Err(_), None) => None,
    };
    // What stands after the `%` of a plain address is an interface, which CoreDNS leaves out too.
    let zone = zone.filter(|zone| scheme != Scheme::Dns && !zone.is_empty());
    if let (Scheme::Tls, Some(zone), Some(name)) = (scheme, zone, server_name) {
        return Err(format!(
            "both forward ('{name}') and proxy level ('{zone}') TLS servernames are set for \
             upstream proxy '{text}'"
        ));
    }
    let word = || Host::Word { host: host.to_owned(), whole: rest.to_owned() };
    Ok(Target {
        text: text.to_owned(),
        scheme,
        host: address.map_or_else(word, Host::Address),
        port,
        server_name: zone.map(str::to_owned),
    })
}

/// Host and port of `HOST`, `HOST:PORT`, `[HOST]`, `[HOST]:PORT` or a bare IPv6 address.
fn split_port(text: &str) -> (&str, Option<&str>) {
    if let Some((host, after)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (host, after.strip_prefix(':'));
    }
    match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => (host, Some(port)),
        _ => (text, None),
    }
}

/// What a list of TOs comes to.
#[derive(Debug, Default)]
pub struct Expanded {
    /// The upstreams, in order, each once.
    pub addresses: Vec<Address>,
    /// How soon host names are to be looked up again; none: there are none.
    pub again: Option<Duration>,
    /// Whether a file was read.
    pub files: bool,
}

/// Reads files and looks up host names. Waits for both: not on a query's way.
///
/// # Errors
/// What is wrong with which TO.
pub fn expand(
    targets: &[(Target, Place)],
    resolvers: &[SocketAddr],
) -> Result<Expanded, (Place, String)> {
    let mut all = Expanded::default();
    for (target, place) in targets {
        all.add(target, resolvers).map_err(|message| (place.clone(), message))?;
    }
    if all.addresses.len() > FORWARD_UPSTREAMS_MAX {
        let count = all.addresses.len();
        tracing::warn!(
            target: "plugin/forward",
            "{count} upstreams: only the first {FORWARD_UPSTREAMS_MAX} are used"
        );
        all.addresses.truncate(FORWARD_UPSTREAMS_MAX);
    }
    Ok(all)
}

impl Expanded {
    fn add(&mut self, target: &Target, resolvers: &[SocketAddr]) -> Result<(), String> {
        let port = target.port.unwrap_or(target.scheme.port());
        let server_name = target.server_name.clone().map(String::into_boxed_str);
        let (host, whole) = match &target.host {
            Host::Address(ip) => {
                let socket = SocketAddr::new(*ip, port);
                self.push(Address { scheme: target.scheme, socket, server_name });
                return Ok(());
            }
            Host::Word { host, whole } => (host, whole),
        };
        if let Some(servers) = resolv_conf(whole)? {
            self.files = true;
            for socket in servers {
                // As in CoreDNS, a file's servers are asked in plain DNS whatever the scheme.
                self.push(Address { scheme: Scheme::Dns, socket, server_name: None });
            }
            return Ok(());
        }
        let Ok(name) = NameBuf::parse(host) else {
            let text = &target.text;
            return Err(format!("not an IP address, file, or valid domain: {text:?}"));
        };
        let found = resolve::look_up(host, name.as_name(), resolvers)
            .map_err(|why| format!("failed to resolve {host:?}: {why}"))?;
        self.again = Some(self.again.map_or(found.again, |again| again.min(found.again)));
        let server_name = server_name.or_else(|| {
            let host = host.trim_end_matches('.');
            (target.scheme != Scheme::Dns).then(|| host.into())
        });
        for ip in found.addresses {
            let socket = SocketAddr::new(ip, port);
            let server_name = server_name.clone();
            self.push(Address { scheme: target.scheme, socket, server_name });
        }
        Ok(())
    }

    /// As in CoreDNS, the first of those with the same address and port counts.
    fn push(&mut self, address: Address) {
        if !self.addresses.iter().any(|other| other.socket == address.socket) {
            self.addresses.push(address);
        }
    }
}

/// The name servers of a file like resolv.conf(5); none if there is no such file.
fn resolv_conf(path: &str) -> Result<Option<Vec<SocketAddr>>, String> {
    let text = match fs::read(path) {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            return Err(format!("not an IP address or file {path:?}: {error}"));
        }
        // No file of that name, or a folder: maybe a host.
        Err(_) => return Ok(None),
    };
    let servers = name_servers(&text);
    if servers.is_empty() {
        tracing::warn!(target: "plugin/forward", "{path}: no nameservers found");
    }
    Ok(Some(servers))
}

fn name_servers(text: &str) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with([';', '#'])) {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        let Some(word) = words.next() else { continue };
        match word.split('%').next().unwrap_or_default().parse() {
            Ok(ip) => servers.push(SocketAddr::new(ip, 53)),
            Err(_) => {
                tracing::warn!(
                    target: "plugin/forward",
                    "nameserver {word:?} is not an IP address: left out"
                );
            }
        }
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str, name: Option<&str>) -> String {
        parse(text, name).expect_err(text)
    }

    fn address(text: &str) -> Address {
        let place = Place { file: "Corefile".into(), line: 1, column: 1 };
        let target = parse(text, None).expect(text);
        let all = expand(&[(target, place)], &[]).expect(text);
        all.addresses.into_iter().next().expect(text)
    }

    #[test]
    fn addresses_ports_and_names() {
        for (text, scheme, socket, name) in [
            ("10.0.0.1", Scheme::Dns, "10.0.0.1:53", None),
            ("10.0.0.1:1053", Scheme::Dns, "10.0.0.1:1053", None),
            ("dns://10.0.0.1", Scheme::Dns, "10.0.0.1:53", None),
            ("2003::1", Scheme::Dns, "[2003::1]:53", None),
            ("[2003::1]", Scheme::Dns, "[2003::1]:53", None),
            ("[2003::1]:54", Scheme::Dns, "[2003::1]:54", None),
            ("fe80::1%eth0", Scheme::Dns, "[fe80::1]:53", None),
            ("tls://9.9.9.9", Scheme::Tls, "9.9.9.9:853", None),
            ("tls://9.9.9.9%dns.quad9.net", Scheme::Tls, "9.9.9.9:853", Some("dns.quad9.net")),
            ("tls://9.9.9.9%q.net:8853", Scheme::Tls, "9.9.9.9:8853", Some("q.net")),
            ("tls://[2620:fe::fe%q.net]:8853", Scheme::Tls, "[2620:fe::fe]:8853", Some("q.net")),
            ("https://9.9.9.9", Scheme::Https, "9.9.9.9:443", None),
            ("https://9.9.9.9:8443", Scheme::Https, "9.9.9.9:8443", None),
        ] {
            let expected = Address {
                scheme,
                socket: socket.parse().expect(socket),
                server_name: name.map(Into::into),
            };
            assert_eq!(address(text), expected, "{text}");
        }
    }

    #[test]
    fn faults_in_coredns_words() {
        for (text, words) in [
            ("tls://", "invalid address: \"tls://\""),
            ("https://9.9.9.9/dns-query", "paths are not allowed in HTTPS upstream addresses"),
            ("quic://9.9.9.9", "'quic' is not supported as a destination protocol in forward"),
            ("unix:///a", "'unix' is not supported as a destination protocol in forward"),
            ("grpc://name", "not an IP address, file, or valid domain: \"grpc://name\""),
            ("1.1.1.1:x", "address 1.1.1.1:x: invalid port"),
            ("1.1.1.1:65536", "address 1.1.1.1:65536: invalid port"),
        ] {
            assert!(fault(text, None).contains(words), "{text}: {}", fault(text, None));
        }
        let both = fault("tls://9.9.9.9%a.net", Some("b.net"));
        assert!(both.starts_with("both forward ('b.net') and proxy level ('a.net')"), "{both}");
        assert!(parse("9.9.9.9%a.net", Some("b.net")).is_ok());
    }

    #[test]
    fn name_servers_of_a_file() {
        let text = "# nameserver 1.1.1.1\nnameserver 10.0.0.1\n search x\nnameserver\n\
                    nameserver fe80::1%eth0 # x\n nameserver 10.0.0.2\nnameserver a.b\n";
        let servers: Vec<String> = name_servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.1:53", "[fe80::1]:53", "10.0.0.2:53"]);
    }

    #[test]
    fn an_address_counts_once() {
        let mut all = Expanded::default();
        for text in ["1.1.1.1", "tls://1.1.1.1:53", "1.1.1.1:53", "1.1.1.2"] {
            all.push(address(text));
        }
        let sockets: Vec<_> = all.addresses.iter().map(|one| one.socket.to_string()).collect();
        assert_eq!(sockets, ["1.1.1.1:53", "1.1.1.2:53"]);
        assert_eq!(all.addresses[0].scheme, Scheme::Dns);
    }
}
