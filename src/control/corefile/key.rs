//! Server-block keys, `[SCHEME://]ZONE[:PORT]`, and what may not stand twice.
//!
//! Zones are lower-cased and fully qualified. A CIDR names reverse zones: IPv4 prefixes are rounded
//! up to octets, IPv6 ones to nibbles, and a prefix between two of them gives several zones
//! (`10.0.0.0/23` two, at most 128).

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::net::{IpAddr, SocketAddr};

use super::ServerBlock;
use super::error::{CorefileError, Place, Shape};
use super::lexer::Token;
use crate::limits::NAME_BYTES_MAX;
use crate::wire::NameBuf;

/// What a key's listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// UDP and TCP (RFC 1035).
    Dns,
    /// TLS (RFC 7858).
    Tls,
    /// HTTPS over HTTP/1.1 and HTTP/2 (RFC 8484).
    Https,
    /// HTTPS over HTTP/3 (RFC 8484, RFC 9114).
    Https3,
    /// QUIC (RFC 9250).
    Quic,
    /// CoreDNS's gRPC service.
    Grpc,
}

impl Transport {
    const ALL: [Self; 6] =
        [Self::Dns, Self::Tls, Self::Https, Self::Https3, Self::Quic, Self::Grpc];

    /// The word before `://`.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Tls => "tls",
            Self::Https => "https",
            Self::Https3 => "https3",
            Self::Quic => "quic",
            Self::Grpc => "grpc",
        }
    }

    /// The port of a key that names none; `dns` is the port of plain DNS.
    pub fn default_port(self, dns: u16) -> u16 {
        match self {
            Self::Dns => dns,
            Self::Tls | Self::Quic => 853,
            Self::Https | Self::Https3 | Self::Grpc => 443,
        }
    }

    /// Whether it is spoken over TCP, or (`false`) over UDP.
    fn is_over(self, tcp: bool) -> bool {
        match self {
            Self::Dns => true,
            Self::Tls | Self::Https | Self::Grpc => tcp,
            Self::Quic | Self::Https3 => !tcp,
        }
    }

    /// The transport that `text` begins with (plain DNS if with none), and the rest.
    pub fn split(text: &str) -> (Self, &str) {
        Self::ALL
            .into_iter()
            .find_map(|t| Some((t, text.strip_prefix(t.scheme())?.strip_prefix("://")?)))
            .unwrap_or((Self::Dns, text))
    }
}

/// One zone of a server block, on one port, over one transport.
#[derive(Clone, Debug)]
pub struct Key {
    /// The key as written, variables replaced.
    pub text: String,
    /// Where it stands.
    pub place: Place,
    /// What its listener speaks.
    pub transport: Transport,
    /// Lower case, fully qualified.
    pub zone: NameBuf,
    /// The port, if the key names one.
    pub port: Option<u16>,
}

impl Key {
    /// The port that the key is served on; `dns` is the port of plain DNS without one.
    pub fn port_or(&self, dns: u16) -> u16 {
        self.port.unwrap_or_else(|| self.transport.default_port(dns))
    }

    /// `dns://example.org.:53`, as messages and the banner name it.
    pub fn address(&self, dns: u16) -> String {
        format!("{}://{}:{}", self.transport.scheme(), self.zone, self.port_or(dns))
    }
}

/// The keys that one word means: several if it is a CIDR off its boundary.
pub(super) fn parse(token: &Token) -> Result<Vec<Key>, CorefileError> {
    let plain = |message: String| CorefileError::plain(Some(token.place.clone()), message);
    let refuse = |message: String| CorefileError { shape: Shape::Inspecting, ..plain(message) };
    if token.text.starts_with("unix://") {
        return Err(refuse(format!(
            "unix:// is not a transport of a server block: {}",
            token.text
        )));
    }
    let (transport, rest) = Transport::split(&token.text);
    let (zones, port) = split(rest).map_err(refuse)?;
    let port = match port.map(u16::try_from) {
        None => None,
        Some(Ok(port)) => Some(port),
        Some(Err(_)) => {
            return Err(plain(format!("address {}: invalid port", port.unwrap_or_default())));
        }
    };
    let key =
        |zone| Key { text: token.text.clone(), place: token.place.clone(), transport, zone, port };
    Ok(zones.into_iter().map(key).collect())
}

/// The zones that a word of a Corefile names, scheme and port cut off; none if it names no valid
/// zone, as CoreDNS has it.
pub fn zones_of_text(text: &str) -> Vec<NameBuf> {
    split(Transport::split(text).1).map_or_else(|_| Vec::new(), |(zones, _)| zones)
}

/// Zones and port of `ZONE[:PORT]` or `CIDR[:PORT]`. The error is CoreDNS's message.
fn split(text: &str) -> Result<(Vec<NameBuf>, Option<i64>), String> {
    let mut host = text;
    let mut port = None;
    match text.rfind(':') {
        _ if text.is_empty() => return Err(format!("expecting data after last colon: {text:?}")),
        Some(colon) if colon + 1 == text.len() => {
            return Err(format!("expecting data after last colon: {text:?}"));
        }
        Some(colon) => {
            // Only a number is a port; `foo:bar` is a name.
            port = text[colon + 1..].parse::<i64>().ok();
            if port.is_some() {
                host = &text[..colon];
            }
        }
        None => {}
    }
    // CoreDNS measures the text, with its final dot.
    let length = host.len() + usize::from(!host.ends_with('.'));
    if length > NAME_BYTES_MAX {
        return Err(format!("specified zone is too long: {length} > {NAME_BYTES_MAX}"));
    }
    let zone = NameBuf::parse(&host.to_lowercase())
        .map_err(|_| format!("zone is not a valid domain name: {host}"))?;
    let Some((address, bits)) = cidr(host) else {
        return Ok((vec![NameBuf::lowered(zone.as_name())], port));
    };
    if host.starts_with(':') || (host.starts_with('0') && host.contains(':')) {
        return Err(format!("invalid CIDR {host}"));
    }
    let zones = reverse_zones(address, bits)
        .iter()
        .map(|name| NameBuf::parse(name).map_err(|_| format!("invalid CIDR {host}")))
        .collect::<Result<_, _>>()?;
    Ok((zones, port))
}

/// `ADDRESS/BITS`, as Go's `net.ParseCIDR`: no zone, no sign, not more bits than the address has.
pub(super) fn cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    if bits.is_empty() || !bits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // Zeros in front count for nothing, in Go too.
    let bits: u8 = match bits.trim_start_matches('0') {
        "" => 0,
        bits => bits.parse().ok()?,
    };
    let most = if address.is_ipv4() { 32 } else { 128 };
    (bits <= most).then_some((address, bits))
}

/// Names of the reverse zones (RFC 1035 section 3.5, RFC 3596 section 2.5) that together cover a
/// prefix.
fn reverse_zones(address: IpAddr, bits: u8) -> Vec<String> {
    let (octets, step): (Vec<u8>, u8) = match address {
        IpAddr::V4(address) => (address.octets().to_vec(), 8),
        IpAddr::V6(address) => (address.octets().to_vec(), 4),
    };
    // Whole digits (octets or nibbles) of the prefix, the last one maybe cut.
    let digit = |i: u8| match step {
        8 => octets[usize::from(i)],
        _ => (octets[usize::from(i / 2)] >> (4 * (1 - i % 2))) & 0xf,
    };
    let digits = bits.div_ceil(step);
    let free = digits * step - bits;
    let first = match digits.checked_sub(1) {
        Some(last) => digit(last) & (0xff_u8.checked_shl(free.into()).unwrap_or(0)),
        None => return vec![suffix(step).to_owned()],
    };
    (0..1_u16 << free)
        .map(|i| {
            let mut name = String::new();
            let cut = u16::from(first) + i;
            let whole = (0..digits - 1).rev().map(|i| u16::from(digit(i)));
            for value in std::iter::once(cut).chain(whole) {
                let _ =
                    if step == 8 { write!(name, "{value}.") } else { write!(name, "{value:x}.") };
            }
            name + suffix(step)
        })
        .collect()
}

fn suffix(step: u8) -> &'static str {
    if step == 8 { "in-addr.arpa." } else { "ip6.arpa." }
}

/// Refuses keys of different transports that want the same TCP or UDP port of the same address: the
/// kernel would spread clients over both. `addresses` are those that a block is served at.
pub fn check_ports<'a>(
    blocks: impl Iterator<Item = (&'a ServerBlock, &'a [SocketAddr])>,
    dns: u16,
) -> Vec<CorefileError> {
    let mut errors = Vec::new();
    let mut taken: BTreeMap<(SocketAddr, bool), Transport> = BTreeMap::new();
    for (block, addresses) in blocks {
        for (key, address) in block.keys.iter().flat_map(|k| addresses.iter().map(move |a| (k, a)))
        {
            let at = SocketAddr::new(address.ip(), key.port_or(dns));
            for over_tcp in [true, false] {
                if !key.transport.is_over(over_tcp) {
                    continue;
                }
                let first = *taken.entry((at, over_tcp)).or_insert(key.transport);
                if first != key.transport {
                    let message = format!(
                        "cannot serve {} - {}:// is served on port {} already",
                        key.address(dns),
                        first.scheme(),
                        at.port()
                    );
                    errors.push(CorefileError::plain(Some(key.place.clone()), message));
                    break;
                }
            }
        }
    }
    errors
}

/// Refuses the keys whose transport is not among `served`.
pub fn check_transports(blocks: &[ServerBlock], served: &[Transport]) -> Vec<CorefileError> {
    let refuse = |key: &Key| {
        let message =
            format!("transport {}:// is not built into this version yet", key.transport.scheme());
        CorefileError::plain(Some(key.place.clone()), message)
    };
    let keys = blocks.iter().flat_map(|block| &block.keys);
    keys.filter(|key| !served.contains(&key.transport)).map(refuse).collect()
}

/// What of a block's directives decides whether its keys clash with others.
#[derive(Clone, Debug)]
pub struct Binding<'a> {
    /// The block.
    pub block: &'a ServerBlock,
    /// The addresses that `bind` names, interfaces resolved; empty: all addresses.
    pub addresses: Vec<String>,
    /// `view` restricts the block: it may share its zones with others.
    pub filtered: bool,
}

/// What may be served once: zone, port, transport, address (empty: all).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Served {
    transport: Transport,
    zone: String,
    port: u16,
    address: String,
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.transport.scheme(), self.zone, self.port)?;
        if self.address.is_empty() { Ok(()) } else { write!(f, " on {}", self.address) }
    }
}

/// Zones that are defined twice for the same port and address, or for all addresses and for one of
/// them. Blocks in file order; `dns` is the port of plain DNS. Errors are in file order.
pub fn check_overlaps(bindings: &[Binding<'_>], dns: u16) -> Vec<CorefileError> {
    let mut errors = Vec::new();
    let mut defined: BTreeMap<Served, Served> = BTreeMap::new();
    // By the same zone and port on all addresses: one of those that define it on some.
    let mut on_some: BTreeMap<Served, Served> = BTreeMap::new();
    for binding in bindings {
        let all = [String::new()];
        let addresses =
            if binding.addresses.is_empty() { &all[..] } else { &binding.addresses[..] };
        for key in &binding.block.keys {
            for address in addresses {
                let served = Served {
                    transport: key.transport,
                    zone: key.zone.to_string(),
                    port: key.port_or(dns),
                    address: address.clone(),
                };
                let everywhere = Served { address: String::new(), ..served.clone() };
                let clash = if defined.contains_key(&served) {
                    (!binding.filtered).then(|| "it is already defined".to_owned())
                } else {
                    let other = match (address.is_empty(), on_some.get(&everywhere)) {
                        (true, Some(other)) => Some(other),
                        (false, Some(_)) => defined.get(&everywhere),
                        (_, None) => None,
                    };
                    other.map(|other| format!("zone overlap listener capacity with {other}"))
                };
                if let Some(why) = clash {
                    let message = format!("cannot serve {served} - {why}");
                    errors.push(CorefileError::plain(Some(key.place.clone()), message));
                } else if !binding.filtered {
                    on_some.insert(everywhere, served.clone());
                    defined.insert(served.clone(), served);
                }
            }
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;

    fn token(text: &str) -> Token {
        let place = Place { file: "Corefile".into(), line: 1, column: 1 };
        Token { text: text.to_owned(), written: None, place, quoted: false }
    }

    fn addresses(text: &str) -> Vec<String> {
        match parse(&token(text)) {
            Ok(keys) => keys.iter().map(|key| key.address(53)).collect(),
            Err(error) => vec![error.message],
        }
    }

    #[test]
    fn schemes_ports_and_names() {
        for (text, expected) in [
            (".", "dns://.:53"),
            ("Example.ORG", "dns://example.org.:53"),
            ("example.org.:1053", "dns://example.org.:1053"),
            ("dns://a:+5", "dns://a.:5"),
            ("tls://a", "tls://a.:853"),
            ("quic://a:007", "quic://a.:7"),
            ("https://.", "https://.:443"),
            ("https3://.", "https3://.:443"),
            ("grpc://a:0", "grpc://a.:0"),
            ("foo:bar", "dns://foo:bar.:53"),
            ("10.1.2.3", "dns://10.1.2.3.:53"),
            ("10.0.0.0/33", "dns://10.0.0.0/33.:53"),
            ("10.0.0.0/24.", "dns://10.0.0.0/24.:53"),
            (".:", "expecting data after last colon: \".:\""),
            ("dns://", "expecting data after last colon: \"\""),
            ("a..b", "zone is not a valid domain name: a..b"),
            (".a", "zone is not a valid domain name: .a"),
            ("a:65536", "address 65536: invalid port"),
            ("a:-1", "address -1: invalid port"),
            ("unix://a", "unix:// is not a transport of a server block: unix://a"),
            ("::/8", "invalid CIDR ::/8"),
            ("0::/8", "invalid CIDR 0::/8"),
        ] {
            assert_eq!(addresses(text), [expected], "{text}");
        }
        assert_eq!(
            addresses(&"a.".repeat(128)),
            ["specified zone is too long: 256 > 255"],
            "its final dot counts"
        );
    }

    #[test]
    fn reverse_zones_cover_the_prefix() {
        for (text, count, first, last) in [
            ("10.1.2.0/24", 1, "2.1.10.in-addr.arpa.", "2.1.10.in-addr.arpa."),
            ("10.1.2.99/024:54", 1, "2.1.10.in-addr.arpa.", "2.1.10.in-addr.arpa."),
            ("10.1.2.3/32", 1, "3.2.1.10.in-addr.arpa.", "3.2.1.10.in-addr.arpa."),
            ("10.0.0.0/27", 32, "0.0.0.10.in-addr.arpa.", "31.0.0.10.in-addr.arpa."),
            ("10.5.5.130/27", 32, "128.5.5.10.in-addr.arpa.", "159.5.5.10.in-addr.arpa."),
            ("192.168.128.0/17", 128, "128.168.192.in-addr.arpa.", "255.168.192.in-addr.arpa."),
            ("128.0.0.0/1", 128, "128.in-addr.arpa.", "255.in-addr.arpa."),
            ("0.0.0.0/0", 1, "in-addr.arpa.", "in-addr.arpa."),
            ("2001:db8::/32", 1, "8.b.d.0.1.0.0.2.ip6.arpa.", "8.b.d.0.1.0.0.2.ip6.arpa."),
            ("2001:db8::/33", 8, "0.8.b.d.0.1.0.0.2.ip6.arpa.", "7.8.b.d.0.1.0.0.2.ip6.arpa."),
            (
                "2001:db8:ff00::/39",
                2,
                "e.f.8.b.d.0.1.0.0.2.ip6.arpa.",
                "f.f.8.b.d.0.1.0.0.2.ip6.arpa.",
            ),
        ] {
            let zones = zones_of_text(text);
            let text_of =
                |zone: Option<&NameBuf>| zone.map(ToString::to_string).unwrap_or_default();
            assert_eq!(zones.len(), count, "{text}");
            assert_eq!(text_of(zones.first()), first, "{text}");
            assert_eq!(text_of(zones.last()), last, "{text}");
        }
    }

    #[test]
    fn words_that_name_no_zone_give_none() {
        assert!(zones_of_text("a..b").is_empty());
        assert!(zones_of_text("").is_empty());
        assert_eq!(zones_of_text("dns://A:53")[0].to_string(), "a.");
    }

    fn block(keys: &[&str]) -> ServerBlock {
        let keys: Vec<Key> =
            keys.iter().flat_map(|text| parse(&token(text)).expect("a key")).collect();
        let zones = keys.iter().map(|key| key.zone).collect();
        ServerBlock { place: keys[0].place.clone(), zones, keys, stanzas: Vec::new() }
    }

    fn overlaps(blocks: &[(&[&str], &[&str], bool)]) -> Vec<String> {
        let blocks: Vec<_> =
            blocks.iter().map(|(keys, addresses, view)| (block(keys), *addresses, *view)).collect();
        let mut bindings = Vec::new();
        for (block, addresses, filtered) in &blocks {
            let addresses = addresses.iter().map(ToString::to_string).collect();
            bindings.push(Binding { block, addresses, filtered: *filtered });
        }
        check_overlaps(&bindings, 53).into_iter().map(|error| error.message).collect()
    }

    #[test]
    fn a_zone_is_served_once_a_port_and_address() {
        assert_eq!(
            overlaps(&[(&["example.org"], &[], false), (&["Example.ORG."], &[], false)]),
            ["cannot serve dns://example.org.:53 - it is already defined"]
        );
        assert_eq!(
            overlaps(&[(&["a", "b"], &[], false), (&["a:54", "tls://a"], &[], false)]),
            [""; 0]
        );
        assert_eq!(
            overlaps(&[(&["a"], &["127.0.0.1"], false), (&["a"], &["127.0.0.2"], false)]),
            [""; 0]
        );
        assert_eq!(
            overlaps(&[(&["a"], &["127.0.0.1"], false), (&["a"], &[], false)]),
            ["cannot serve dns://a.:53 - zone overlap listener capacity with \
                 dns://a.:53 on 127.0.0.1"]
        );
        assert_eq!(
            overlaps(&[(&["a"], &[], false), (&["a"], &["127.0.0.1"], false)]),
            ["cannot serve dns://a.:53 on 127.0.0.1 - zone overlap listener capacity with \
                 dns://a.:53"]
        );
    }

    #[test]
    fn a_port_speaks_one_language_over_tcp_and_one_over_udp() {
        let all = [SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))];
        let said = |keys: &[&str]| -> Vec<String> {
            let blocks: Vec<ServerBlock> = keys.iter().map(|key| block(&[key])).collect();
            let bound = blocks.iter().map(|block| (block, &all[..]));
            check_ports(bound, 53).into_iter().map(|error| error.message).collect()
        };
        assert_eq!(
            said(&["a", "tls://a", "tls://b", "quic://a", "https://a", "https3://a"]),
            [""; 0]
        );
        let words = "cannot serve tls://b.:53 - dns:// is served on port 53 already";
        assert_eq!(said(&["a", "tls://b:53"]), [words]);
        let words = "cannot serve grpc://b.:443 - https:// is served on port 443 already";
        assert_eq!(said(&["https://a", "grpc://b"]), [words]);
    }

    #[test]
    fn views_may_share_a_zone() {
        assert_eq!(
            overlaps(&[(&["a"], &[], true), (&["a"], &[], true), (&["a"], &[], false)]),
            [""; 0]
        );
        assert_eq!(
            overlaps(&[(&["a"], &[], false), (&["a"], &["127.0.0.1"], true)]).len(),
            1,
            "not one of all addresses and one of them"
        );
    }

    #[test]
    fn transports_that_are_not_served_are_named() {
        let errors = check_transports(&[block(&["a", "tls://a"])], &[Transport::Dns]);
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].message, "transport tls:// is not built into this version yet");
    }
}
