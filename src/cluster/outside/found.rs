//! What stands at a name below one of the zones.

use super::Rules;
use crate::cluster::index::Index;
use crate::cluster::record::{Endpoint, Host, Nature, Port, Service, Slice, of_generated};
use crate::wire::Name;

/// Labels of the longest name: port, protocol, service, namespace.
const LABELS_MAX: usize = 4;

/// Which ports and endpoints are meant; each empty for all.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scope<'n> {
    port: &'n [u8],
    protocol: &'n [u8],
    endpoint: &'n [u8],
}

impl Scope<'_> {
    /// The ports of `all` that are meant.
    pub(super) fn ports<'p>(&self, all: &'p [Port]) -> impl Iterator<Item = &'p Port> {
        let Self { port, protocol, .. } = *self;
        all.iter().filter(move |one| one.is(port, protocol))
    }
}

/// What stands at a name.
pub(super) enum Found<'i> {
    /// There is no such name.
    Missing,
    /// The name is there, and has no records.
    Nothing,
    /// A service by what it is reached by from outside.
    Hosts(&'i Service, Scope<'i>),
    /// Endpoints.
    Ends(Ends<'i>),
}

/// The endpoints of a service that a name means.
pub(super) struct Ends<'i> {
    index: &'i Index,
    pub(super) service: &'i Service,
    pub(super) scope: Scope<'i>,
    /// The address of the endpoint that is meant, if its label is made from one.
    address: Option<Host<'static>>,
}

impl<'i> Ends<'i> {
    pub(super) fn new(index: &'i Index, service: &'i Service, scope: Scope<'i>) -> Self {
        Self { index, service, scope, address: of_generated(scope.endpoint) }
    }

    /// Their slices: those with a port that is meant.
    pub(super) fn slices(&self) -> impl Iterator<Item = &'i Slice> {
        let scope = self.scope;
        let slices = self.index.local.slices_of(self.service);
        slices.filter(move |slice| scope.ports(&slice.ports).next().is_some())
    }

    /// Whether an address may come twice.
    pub(super) fn overlap(&self) -> bool {
        self.slices().any(|slice| slice.overlaps)
    }

    /// Those of a slice.
    pub(super) fn of(&self, slice: &'i Slice) -> impl Iterator<Item = Endpoint<'i>> {
        let (endpoint, address) = (self.scope.endpoint, self.address);
        slice.endpoints().filter(move |one| match one.label {
            _ if endpoint.is_empty() => true,
            [] => address == Some(one.host),
            label => label.eq_ignore_ascii_case(endpoint),
        })
    }

    /// All of them, each with its slice.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'i Slice, Endpoint<'i>)> {
        self.slices().flat_map(|slice| self.of(slice).map(move |one| (slice, one)))
    }
}

/// A label without a leading underscore.
fn bare(label: &[u8]) -> &[u8] {
    label.strip_prefix(b"_").unwrap_or(label)
}

impl Rules {
    /// What stands at `lower`, a name below the zone `apex`.
    pub(super) fn find<'i>(&self, index: &'i Index, lower: Name<'i>, apex: Name<'_>) -> Found<'i> {
        let prefix = &lower.as_bytes()[..lower.len() - apex.len()];
        // Where the labels start, the leftmost first.
        let mut starts = [0; LABELS_MAX];
        let (mut count, mut at) = (0, 0);
        while at < prefix.len() {
            let Some(start) = starts.get_mut(count) else { return Found::Missing };
            *start = at;
            count += 1;
            at += prefix[at] as usize + 1;
        }
        let label = |number: usize| -> &'i [u8] {
            let start = starts[number];
            &prefix[start + 1..=start + prefix[start] as usize]
        };
        if count == 0 || !index.has_namespace(label(count - 1)) {
            return Found::Missing;
        }
        let scope = match count {
            1 => return Found::Nothing,
            3 => Scope { endpoint: bare(label(0)), ..Scope::default() },
            4 => Scope { port: bare(label(0)), protocol: bare(label(1)), ..Scope::default() },
            _ => Scope::default(),
        };
        let Some(named) = index.local.find(&prefix[starts[count - 2]..]) else {
            return Found::Missing;
        };
        let service = &*named.service;
        if self.stands_for_ends(service, !scope.endpoint.is_empty()) {
            let ends = Ends::new(index, service, scope);
            let is_there = ends.all().next().is_some();
            return if is_there { Found::Ends(ends) } else { Found::Missing };
        }
        let is_reached = !service.outside.is_empty();
        match is_reached && scope.ports(&service.ports).next().is_some() {
            true => Found::Hosts(service, scope),
            false => Found::Missing,
        }
    }

    /// Whether a service has its endpoints for addresses, or those at which it is reached.
    pub(super) fn stands_for_ends(&self, service: &Service, is_endpoint: bool) -> bool {
        self.headless
            && service.outside.is_empty()
            && (service.nature == Nature::Headless || is_endpoint)
    }
}
