//! What stands at a name.

use std::net::IpAddr;

use super::{Pods, Rules, namespace_label};
use crate::cluster::index::{Index, Realm};
use crate::cluster::record::{Endpoint, Host, Nature, Service, Slice, as_name, of_generated};
use crate::cluster::request::{Request, Scope, is_topology};
use crate::limits::LABEL_BYTES_MAX;
use crate::wire::Name;

/// What stands at a name.
pub enum Found<'i, 'n> {
    /// Nothing: there is no such name.
    Missing,
    /// The name is there, and has no records.
    Nothing,
    /// A service with addresses of its own, or that is another name, by some of its ports.
    Hosts(&'i Service, Scope<'n>),
    /// Endpoints.
    Ends(Ends<'i, 'n>),
    /// A pod: its label, its namespace's, its address.
    Pod(&'n [u8], &'n [u8], Host<'static>),
}

/// The endpoints of a service that a name means.
pub struct Ends<'i, 'n> {
    realm: &'i Realm,
    /// Their service.
    pub service: &'i Service,
    scope: Scope<'n>,
    /// The address of the endpoint that is meant, if its label is one that is made from an address.
    address: Option<Host<'static>>,
    is_imported: bool,
    /// Whether the name exists though there may be none.
    is_there: bool,
}

impl<'i, 'n> Ends<'i, 'n> {
    fn new(realm: &'i Realm, service: &'i Service, scope: Scope<'n>, is_imported: bool) -> Self {
        let address = of_generated(scope.endpoint);
        Self { realm, service, scope, address, is_imported, is_there: false }
    }

    /// Their slices: those with a port that is meant.
    pub fn slices(&self) -> impl Iterator<Item = &'i Slice> {
        let Scope { port, protocol, endpoint, cluster, .. } = self.scope;
        let by_cluster = self.is_imported && !endpoint.is_empty();
        self.realm.slices_of(self.service).filter(move |slice| {
            slice.ports.iter().any(|one| one.is(port, protocol))
                && (!by_cluster || slice.cluster().eq_ignore_ascii_case(cluster))
        })
    }

    /// Whether all endpoints of these slices are meant.
    pub fn are_all(&self) -> bool {
        self.scope.endpoint.is_empty() && self.scope.topology.is_empty()
    }

    /// Whether an endpoint is meant.
    fn is_meant(&self, one: &Endpoint<'_>) -> bool {
        let Scope { endpoint, topology, .. } = self.scope;
        let is_called = || match one.label {
            [] => self.address == Some(one.host),
            label => label.eq_ignore_ascii_case(endpoint),
        };
        (endpoint.is_empty() || is_called())
            && (topology.is_empty() || is_topology(topology, one.zone))
    }

    /// Those of a slice.
    pub fn of(&self, slice: &'i Slice) -> impl Iterator<Item = Endpoint<'i>> {
        slice.endpoints().filter(|one| self.is_meant(one))
    }

    /// All of them, each with its slice.
    pub fn all(&self) -> impl Iterator<Item = (&'i Slice, Endpoint<'i>)> {
        self.slices().flat_map(|slice| self.of(slice).map(move |one| (slice, one)))
    }

    /// The ports of a slice that are meant.
    pub fn ports(&self, slice: &'i Slice) -> impl Iterator<Item = i32> {
        let Scope { port, protocol, .. } = self.scope;
        slice.ports.iter().filter(move |one| one.is(port, protocol)).map(|one| one.number)
    }

    fn exist(&self) -> bool {
        match self.are_all() {
            _ if self.is_there => true,
            true => self.slices().any(|slice| !slice.is_empty()),
            false => self.all().next().is_some(),
        }
    }
}

impl<'i> Found<'i, '_> {
    /// Whether the name is there.
    pub fn exists(&self) -> bool {
        match self {
            Self::Missing => false,
            Self::Ends(ends) => ends.exist(),
            _ => true,
        }
    }

    /// The name that it stands for, if it is an alias: no addresses, and a name.
    pub fn alias(&self) -> Option<Name<'i>> {
        let name = |host| match host {
            Host::Name(wire) => Some(as_name(wire)),
            _ => None,
        };
        match self {
            Self::Hosts(service, _) => name(service.hosts.first()?.as_host()),
            // Endpoints that are names; beside addresses they cannot stand (RFC 1034 section 3.6.2).
            Self::Ends(ends) if ends.slices().any(|slice| slice.rare.is_some()) => {
                let mut hosts = ends.all().map(|(_, one)| one.host);
                let first = name(hosts.next()?)?;
                hosts.all(|host| matches!(host, Host::Name(_))).then_some(first)
            }
            _ => None,
        }
    }
}

impl Rules {
    /// What stands at a name: `request` is what was read of it, `lower` the name itself.
    pub fn find<'i, 'n>(
        &self,
        index: &'i Index,
        request: Request<'n>,
        is_imported: bool,
        lower: Name<'_>,
    ) -> Found<'i, 'n> {
        match request {
            Request::Empty => return Found::Nothing,
            Request::Invalid => return Found::Missing,
            _ if is_reverse(lower) => return Found::Missing,
            _ => {}
        }
        match request {
            Request::Namespace(label, is_pod) => {
                let is_off = is_pod && self.pods == Pods::Disabled;
                match !is_off && index.has_namespace(label) {
                    true => Found::Nothing,
                    false => Found::Missing,
                }
            }
            Request::Pod(label, namespace, _) => self.pod(index, label, namespace),
            Request::Service(key, scope) => self.service(index, key, scope, is_imported),
            Request::Empty | Request::Invalid => Found::Missing,
        }
    }

    fn pod<'i, 'n>(&self, index: &'i Index, label: &'n [u8], namespace: &'n [u8]) -> Found<'i, 'n> {
        let Some(host) = pod_address(label) else { return Found::Missing };
        let is_there = match self.pods {
            Pods::Disabled => false,
            Pods::Insecure => index.has_namespace(namespace),
            // As the API spells the address, and no other way.
            Pods::Verified => {
                is_spelled(label, host)
                    && index.has_namespace(namespace)
                    && host.address().is_some_and(|address| index.has_pod(address, namespace))
            }
        };
        if is_there { Found::Pod(label, namespace, host) } else { Found::Missing }
    }

    fn service<'i, 'n>(
        &self,
        index: &'i Index,
        key: &'n [u8],
        scope: Scope<'n>,
        is_imported: bool,
    ) -> Found<'i, 'n> {
        let realm = if is_imported { &index.imported } else { &index.local };
        if !index.has_namespace(namespace_label(key)) {
            return Found::Missing;
        }
        let Some(named) = realm.find(key) else { return Found::Missing };
        let service = &*named.service;
        let is_zonal = !scope.topology.is_empty();
        match service.nature {
            Nature::External => {
                let is_plain = scope == Scope::default();
                match is_plain && !service.hosts.is_empty() {
                    true => Found::Hosts(service, scope),
                    false => Found::Missing,
                }
            }
            Nature::Cluster if self.ignore_empty && is_empty(realm, service) => Found::Missing,
            Nature::Cluster if is_zonal => Found::Missing,
            Nature::Cluster if scope.endpoint.is_empty() => {
                let Scope { port, protocol, .. } = scope;
                match service.ports.iter().any(|one| one.is(port, protocol)) {
                    true => Found::Hosts(service, scope),
                    false => Found::Missing,
                }
            }
            Nature::Cluster | Nature::Headless => {
                let mut ends = Ends::new(realm, service, scope, is_imported);
                ends.is_there = is_zonal;
                if is_zonal && scope.prefer && ends.all().next().is_none() {
                    ends.scope.topology = &[];
                }
                match ends.exist() {
                    true => Found::Ends(ends),
                    false => Found::Missing,
                }
            }
        }
    }
}

/// Whether a service has no ready endpoint.
fn is_empty(realm: &Realm, service: &Service) -> bool {
    realm.slices_of(service).all(Slice::is_empty)
}

/// The reverse zones (RFC 1035 section 3.5, RFC 3596 section 2.5).
const REVERSE: [&[u8]; 2] = [b"\x07in-addr\x04arpa\x00", b"\x03ip6\x04arpa\x00"];

/// Whether a name is that of a reverse zone or lies below one.
pub(super) fn is_in_reverse(lower: Name<'_>) -> bool {
    // A label that ends like the first of these two is no name in a cluster either.
    REVERSE.iter().any(|zone| lower.as_bytes().ends_with(zone))
}

/// Whether a name lies below one of the reverse zones.
fn is_reverse(lower: Name<'_>) -> bool {
    is_in_reverse(lower) && lower.label_count() > 2
}

/// The address that the label of a pod stands for: exactly three single dashes are dots, others
/// colons.
fn pod_address(label: &[u8]) -> Option<Host<'static>> {
    let text = std::str::from_utf8(label).ok()?;
    let is_four = text.matches('-').count() == 3 && !text.contains("--");
    let mark = if is_four { b'.' } else { b':' };
    let mut room = [0; LABEL_BYTES_MAX];
    let spelled = room.get_mut(..label.len())?;
    spelled.copy_from_slice(label);
    spelled.iter_mut().filter(|octet| **octet == b'-').for_each(|octet| *octet = mark);
    let address: IpAddr = std::str::from_utf8(spelled).ok()?.parse().ok()?;
    Some(Host::from(address))
}

/// Whether a label is how an address is written.
fn is_spelled(label: &[u8], host: Host<'_>) -> bool {
    use std::io::Write as _;
    let Some(address) = host.address() else { return false };
    let mut room = [0_u8; LABEL_BYTES_MAX];
    let mut out = &mut room[..];
    if write!(out, "{address}").is_err() {
        return false;
    }
    let len = LABEL_BYTES_MAX - out.len();
    room[..len].iter_mut().filter(|o| matches!(o, b'.' | b':')).for_each(|o| *o = b'-');
    room[..len] == *label
}
