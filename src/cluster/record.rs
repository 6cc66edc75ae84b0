//! Services and slices as they are held: a few octets an endpoint.
//!
//! An address takes 4 or 16 octets; a generated endpoint name is computed, not held; equal lists of
//! ports are shared. Names and labels are in wire form and, where they are compared with a question,
//! in lower case.

use std::io::Write as _;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use super::object;
use super::object::EndpointSlice;
use crate::limits::LABEL_BYTES_MAX;
use crate::wire::{Name, NameBuf};

/// Where traffic goes: an address, or another name (uncompressed wire form).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Host<'a> {
    /// An IPv4 address.
    V4([u8; 4]),
    /// An IPv6 address.
    V6([u8; 16]),
    /// A name.
    Name(&'a [u8]),
}

impl Host<'_> {
    /// The address, if it is one.
    pub fn address(self) -> Option<IpAddr> {
        match self {
            Host::V4(octets) => Some(octets.into()),
            Host::V6(octets) => Some(octets.into()),
            Host::Name(_) => None,
        }
    }
}

impl From<IpAddr> for Host<'_> {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Host::V4(address.octets()),
            IpAddr::V6(address) => Host::V6(address.octets()),
        }
    }
}

/// A host that owns its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostBuf {
    /// An IPv4 address.
    V4([u8; 4]),
    /// An IPv6 address.
    V6([u8; 16]),
    /// A name in wire form, in the letters that it was given.
    Name(Box<[u8]>),
}

impl HostBuf {
    /// Reads an address or else a name; what is empty is the root.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(match Host::from(address) {
                Host::V4(octets) => Self::V4(octets),
                Host::V6(octets) => Self::V6(octets),
                Host::Name(_) => return None,
            });
        }
        let name = NameBuf::parse(if text.is_empty() { "." } else { text }).ok()?;
        Some(Self::Name(name.as_name().as_bytes().into()))
    }

    /// The host.
    pub fn as_host(&self) -> Host<'_> {
        match self {
            Self::V4(octets) => Host::V4(*octets),
            Self::V6(octets) => Host::V6(*octets),
            Self::Name(name) => Host::Name(name),
        }
    }
}

/// A port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Port {
    /// Its name, empty for the only port of a service.
    pub name: Box<str>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Box<str>,
    /// Its number; negative: there is none.
    pub number: i32,
}

impl Port {
    /// Whether it is meant by a name and a protocol in lower case, each empty for any.
    pub fn is(&self, name: &[u8], protocol: &[u8]) -> bool {
        (name.is_empty() || self.name.as_bytes().eq_ignore_ascii_case(name))
            && (protocol.is_empty() || self.protocol.as_bytes().eq_ignore_ascii_case(protocol))
    }
}

/// The ports of an object.
pub fn ports_of(ports: &[object::Port]) -> Vec<Port> {
    let held = |port: &object::Port| Port {
        name: port.name.clone(),
        protocol: port.protocol.clone(),
        number: port.port.unwrap_or(-1),
    };
    ports.iter().map(held).collect()
}

/// What stands for the ports of a service or slice that has none.
pub fn no_port() -> Port {
    Port { name: "".into(), protocol: "".into(), number: -1 }
}

/// What a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// It has addresses of its own.
    Cluster,
    /// It is its endpoints.
    Headless,
    /// It is another name.
    External,
}

/// A service, or one that is imported from a cluster set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its label and its namespace's, in lower case.
    pub key: Box<[u8]>,
    /// What it is.
    pub nature: Nature,
    /// Its own addresses, or the name that it stands for.
    pub hosts: Box<[HostBuf]>,
    /// Its ports.
    pub ports: Arc<[Port]>,
    /// Addresses and names by which it is reached from outside.
    pub outside: Box<[HostBuf]>,
    /// Numbers of its slices, in the order in which they came.
    pub slices: Box<[u32]>,
}

/// An endpoint of a slice.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint<'s> {
    /// Its address.
    pub host: Host<'s>,
    /// Its label; empty: made from the address.
    pub label: &'s [u8],
    /// Its topology zone in lower case, empty if it has none or none is held.
    pub zone: &'s str,
}

/// The ready endpoints of a slice: IPv4, then IPv6, then names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Its service's label and namespace's, in lower case; empty if it has no service.
    pub key: Box<[u8]>,
    /// The addresses of the IPv4 endpoints.
    pub v4: Box<[[u8; 4]]>,
    /// The addresses of the IPv6 endpoints.
    pub v6: Box<[[u8; 16]]>,
    /// What few slices have.
    pub rare: Option<Box<Rare>>,
    /// The ports of each endpoint.
    pub ports: Arc<[Port]>,
    /// Whether an address of it may stand in it, or in another slice of its service, once more.
    pub overlaps: bool,
}

/// What few slices have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rare {
    /// Endpoints that are names, in wire form.
    pub names: Box<[Box<[u8]>]>,
    /// For each endpoint the length of its label and the label; empty if none has one.
    pub labels: Box<[u8]>,
    /// The topology zones that there are, in lower case.
    pub zones: Box<[Box<str>]>,
    /// For each endpoint the number of its zone plus one; empty if none has one.
    pub zone_of: Box<[u8]>,
    /// For imported slices: the label of the cluster, as it is spelled.
    pub cluster: Box<[u8]>,
}

impl Slice {
    /// How many endpoints it has.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len() + self.rare.as_ref().map_or(0, |rare| rare.names.len())
    }

    /// Whether it has no endpoints.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The label of the cluster that it is imported from, empty for none.
    pub fn cluster(&self) -> &[u8] {
        self.rare.as_ref().map_or(&[], |rare| &rare.cluster)
    }

    /// Whether endpoints have labels of their own.
    pub fn has_labels(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| !rare.labels.is_empty())
    }

    /// Its endpoints.
    pub fn endpoints(&self) -> impl Iterator<Item = Endpoint<'_>> {
        let rare = self.rare.as_deref();
        let mut labels = rare.map_or(&[][..], |rare| &rare.labels);
        let names = rare.map_or(&[][..], |rare| &rare.names);
        let hosts = self.v4.iter().map(|octets| Host::V4(*octets));
        let hosts = hosts.chain(self.v6.iter().map(|octets| Host::V6(*octets)));
        let hosts = hosts.chain(names.iter().map(|name| Host::Name(name)));
        hosts.enumerate().map(move |(number, host)| {
            let mut label = &[][..];
            if let Some((len, rest)) = labels.split_first() {
                (label, labels) = rest.split_at(*len as usize);
            }
            let zone = rare.and_then(|rare| {
                let zone = rare.zone_of.get(number)?.checked_sub(1)?;
                rare.zones.get(zone as usize)
            });
            Endpoint { host, label, zone: zone.map_or("", |zone| zone) }
        })
    }

    /// Octets on the heap.
    pub fn bytes(&self) -> usize {
        let rare = self.rare.as_ref().map_or(0, |rare| {
            let names: usize = rare.names.iter().map(|name| name.len() + 16).sum();
            size_of::<Rare>() + names + rare.labels.len() + rare.zone_of.len() + rare.cluster.len()
        });
        size_of::<Self>() + 16 + self.key.len() + self.v4.len() * 4 + self.v6.len() * 16 + rare
    }
}

/// Which slices are read how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Whether endpoints without a host name are called after what they refer to.
    pub pod_names: bool,
    /// Whether topology zones are held.
    pub zonal: bool,
}

/// What a slice holds besides its service and ports, and how many endpoints were left out.
pub fn read_endpoints(slice: &EndpointSlice, cluster: &str, reading: Reading) -> (Slice, usize) {
    let (mut four, mut six, mut names) = (Vec::new(), Vec::new(), Vec::new());
    let mut bad = 0;
    for endpoint in slice.endpoints.iter().filter(|one| one.conditions.ready.unwrap_or(true)) {
        let zone = if reading.zonal { endpoint.zone.to_ascii_lowercase() } else { String::new() };
        for text in &endpoint.addresses {
            let host = HostBuf::parse(text).filter(|host| {
                // Only slices of that type have names for endpoints.
                host.as_host().address().is_some()
                    || (&*slice.address_type == "FQDN" && !text.is_empty())
            });
            let label = host.as_ref().and_then(|host| label_for(endpoint, text, host, reading));
            match (host, label) {
                (Some(HostBuf::V4(octets)), Some(label)) => {
                    four.push((octets, label, zone.clone()))
                }
                (Some(HostBuf::V6(octets)), Some(label)) => six.push((octets, label, zone.clone())),
                (Some(HostBuf::Name(name)), Some(label)) => names.push((name, label, zone.clone())),
                _ => bad += 1,
            }
        }
    }
    let all = || {
        let first = four.iter().map(|(_, label, zone)| (label, zone));
        let second = six.iter().map(|(_, label, zone)| (label, zone));
        first.chain(second).chain(names.iter().map(|(_, label, zone)| (label, zone)))
    };
    let mut rare = Rare { cluster: cluster.as_bytes().into(), ..Rare::default() };
    if all().any(|(label, _)| !label.is_empty()) {
        let labels = all().flat_map(|(label, _)| [&[label.len() as u8][..], label].concat());
        rare.labels = labels.collect();
    }
    if all().any(|(_, zone)| !zone.is_empty()) {
        let mut zones: Vec<Box<str>> = all().map(|(_, zone)| zone.as_str().into()).collect();
        zones.sort_unstable();
        zones.dedup();
        // A slice has at most a thousand endpoints; zones beyond what an octet counts are not told
        // apart from none.
        zones.truncate(usize::from(u8::MAX));
        let number = |zone: &String| zones.binary_search_by(|one| (**one).cmp(zone));
        rare.zone_of = all().map(|(_, zone)| number(zone).map_or(0, |at| at as u8 + 1)).collect();
        rare.zones = zones.into();
    }
    rare.names = names.into_iter().map(|(name, ..)| name).collect();
    let held = Slice {
        key: Box::default(),
        v4: four.into_iter().map(|(octets, ..)| octets).collect(),
        v6: six.into_iter().map(|(octets, ..)| octets).collect(),
        rare: (rare != Rare::default()).then(|| Box::new(rare)),
        ports: Arc::default(),
        overlaps: false,
    };
    (held, bad)
}

/// The label of an endpoint: empty if it is made from the address; none if it would be no label.
fn label_for(
    endpoint: &object::Endpoint,
    text: &str,
    host: &HostBuf,
    reading: Reading,
) -> Option<Box<[u8]>> {
    let refers = &endpoint.target_ref.name;
    let label = if !endpoint.hostname.is_empty() {
        endpoint.hostname.to_string()
    } else if reading.pod_names && !refers.is_empty() && refers.len() <= LABEL_BYTES_MAX {
        refers.to_string()
    } else {
        let address = host.as_host().address();
        if address.is_some_and(|address| address.to_string() == text) {
            return Some(Box::default());
        }
        // Another spelling of an address gives another name.
        let mark = if text.contains('.') { '.' } else { ':' };
        let label = text.replace(mark, "-");
        if mark == ':' && label.ends_with('-') { label + "0" } else { label }
    };
    let label = label.into_bytes();
    // A dot here would be two labels.
    let fits = (1..=LABEL_BYTES_MAX).contains(&label.len()) && !label.contains(&b'.');
    fits.then(|| label.into())
}

/// The label of an endpoint that has none of its own: its address with dashes.
pub fn generated<'r>(host: Host<'_>, room: &'r mut [u8; LABEL_BYTES_MAX]) -> &'r [u8] {
    let size = room.len();
    let mut out = &mut room[..];
    let written = match host {
        Host::V4([a, b, c, d]) => write!(out, "{a}-{b}-{c}-{d}"),
        Host::V6(octets) => write!(out, "{}", Ipv6Addr::from(octets)),
        // Names have labels of their own.
        Host::Name(_) => Ok(()),
    };
    debug_assert!(written.is_ok(), "an address has at most 39 octets");
    let mut len = size - out.len();
    if matches!(host, Host::V6(_)) {
        room[..len].iter_mut().filter(|octet| **octet == b':').for_each(|octet| *octet = b'-');
        // No label ends in a dash.
        if room[..len].ends_with(b"-") {
            room[len] = b'0';
            len += 1;
        }
    }
    &room[..len]
}

/// The address whose generated label this is, in lower case.
pub fn of_generated(label: &[u8]) -> Option<Host<'static>> {
    let text = std::str::from_utf8(label).ok().filter(|text| text.contains('-'))?;
    let mut room = [0; LABEL_BYTES_MAX];
    let with = |mark: u8, text: &str, room: &mut [u8; LABEL_BYTES_MAX]| -> Option<IpAddr> {
        let spelled = room.get_mut(..text.len())?;
        spelled.copy_from_slice(text.as_bytes());
        spelled.iter_mut().filter(|octet| **octet == b'-').for_each(|octet| *octet = mark);
        std::str::from_utf8(spelled).ok()?.parse().ok()
    };
    let shorter = text.strip_suffix('0').unwrap_or(text);
    let address = with(b'.', text, &mut room)
        .or_else(|| with(b':', text, &mut room))
        .or_else(|| with(b':', shorter, &mut room))?;
    let host = Host::from(address);
    (generated(host, &mut room) == label).then_some(host)
}

/// The key of a service: two labels with their lengths. None: that is no name.
pub fn key_of(name: &str, namespace: &str) -> Option<Box<[u8]>> {
    let mut key = Vec::with_capacity(name.len() + namespace.len() + 2);
    for label in [name, namespace] {
        push_label(&mut key, label)?;
    }
    Some(key.into())
}

/// Appends a label that the name of an object may be: such are in lower case.
pub fn push_label(out: &mut Vec<u8>, label: &str) -> Option<()> {
    let legal = |octet: u8| matches!(octet, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    if !(1..=LABEL_BYTES_MAX).contains(&label.len()) || !label.bytes().all(legal) {
        return None;
    }
    out.push(label.len() as u8);
    out.extend(label.as_bytes());
    Some(())
}

/// The namespace of a service's key, with its length.
pub fn namespace_of(key: &[u8]) -> &[u8] {
    key.first().and_then(|len| key.get(*len as usize + 1..)).unwrap_or_default()
}

/// A name that is held in wire form.
pub fn as_name(wire: &[u8]) -> Name<'_> {
    Name::from_wire(wire).map_or(Name::ROOT, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn label(address: &str) -> String {
        let host = Host::from(address.parse::<IpAddr>().unwrap());
        String::from_utf8(generated(host, &mut [0; LABEL_BYTES_MAX]).to_vec()).unwrap()
    }

    #[test]
    fn labels_of_addresses() {
        assert_eq!(label("10.0.0.1"), "10-0-0-1");
        assert_eq!(label("fd00::1"), "fd00--1");
        assert_eq!(label("fd00:1::"), "fd00-1--0");
        assert_eq!(label("::1"), "--1");
        assert_eq!(of_generated(b"10-0-0-01"), None);
        assert_eq!(of_generated(b"fd00-0--1"), None, "not as it is generated");
        assert_eq!(of_generated(b"web-0"), None);
        assert_eq!(of_generated(&[b'-'; 63]), None);
    }

    proptest! {
        #[test]
        fn a_generated_label_leads_back(address: IpAddr) {
            let host = Host::from(address);
            let mut room = [0; LABEL_BYTES_MAX];
            prop_assert_eq!(of_generated(generated(host, &mut room)), Some(host));
        }

        #[test]
        fn any_label_is_read(label in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut room = [0; LABEL_BYTES_MAX];
            if let Some(host) = of_generated(&label) {
                prop_assert_eq!(generated(host, &mut room), &label[..]);
            }
        }
    }

    #[test]
    fn endpoints_as_they_are_held() {
        let json = r#"{"addressType":"FQDN","endpoints":[
            {"addresses":["10.0.0.1","10.0.0.2"],"hostname":"web-0","zone":"EU-1"},
            {"addresses":["10.0.0.3"],"targetRef":{"name":"pod-x"}},
            {"addresses":["10.0.0.4"],"conditions":{"ready":false}},
            {"addresses":["fd00:0::1","10.0.0.300","a..b",""]},
            {"addresses":["Host.example.org"],"hostname":"a.b"},
            {"addresses":["Host.example.org"]}]}"#;
        let slice: EndpointSlice = serde_json::from_str(json).unwrap();
        let reading = Reading { pod_names: false, zonal: true };
        let (held, bad) = read_endpoints(&slice, "", reading);
        let texts: Vec<String> = held
            .endpoints()
            .map(|one| {
                let host = match one.host {
                    Host::Name(name) => as_name(name).to_string(),
                    other => other.address().unwrap().to_string(),
                };
                format!("{host} {} {}", String::from_utf8_lossy(one.label), one.zone)
            })
            .collect();
        let expected = [
            "10.0.0.1 web-0 eu-1",
            "10.0.0.2 web-0 eu-1",
            "10.0.0.3  ",
            "fd00::1 fd00-0--1 ",
            "10.0.0.300. 10-0-0-300 ",
            "Host.example.org. Host-example-org ",
        ];
        assert_eq!(texts, expected);
        assert_eq!(bad, 3, "a..b, nothing, and a host name of two labels");
        let slice = EndpointSlice { address_type: "IPv4".into(), ..slice };
        let (held, bad) = read_endpoints(&slice, "", Reading { pod_names: true, zonal: false });
        assert_eq!((held.len(), bad), (4, 5), "names are no endpoints of such a slice");
        let labels: Vec<&[u8]> = held.endpoints().map(|one| one.label).collect();
        assert_eq!(labels[2], b"pod-x");
        assert!(held.endpoints().all(|one| one.zone.is_empty()));
    }
}
