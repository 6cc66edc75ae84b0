//! # kubernetes
//!
//! Answers the names of a cluster's services, endpoints and pods (Kubernetes DNS specification
//! 1.1.0).
//!
//! ## Syntax
//!
//! ```text
//! kubernetes [ZONES...] {
//!     endpoint URL
//!     tls CERT KEY CACERT
//!     kubeconfig FILE [CONTEXT]
//!     apiserver_qps QPS
//!     apiserver_burst BURST
//!     apiserver_max_inflight MAX
//!     manifests PATH...
//!     namespaces NAMESPACE...
//!     namespace_labels EXPRESSION
//!     labels EXPRESSION
//!     pods disabled|insecure|verified
//!     endpoint_pod_names
//!     ttl SECONDS
//!     noendpoints
//!     fallthrough [ZONES...]
//!     ignore empty_service
//!     multicluster [ZONES...]
//!     zonal
//!     startup_timeout DURATION
//!     corelane_state DIRECTORY
//! }
//! ```
//!
//! * **ZONES** are the zones of the cluster, by default the block's; networks such as 10.0.0.0/16
//!   stand for their reverse zones. The first that is no reverse zone is the one that PTR records
//!   lead to.
//!
//! Where the cluster is; without any of these options it is the one that the server runs in, by its
//! service account, whose token is read again as it rotates:
//!
//! * `endpoint`: **URL** of the API server; without a scheme plain HTTP, or HTTPS where there is
//!   `tls`. `tls` has our certificate, its key and the authorities of the server, as PEM files.
//! * `kubeconfig`: connect as **FILE** says, in its current context or in **CONTEXT**. It wins over
//!   `endpoint`.
//! * `apiserver_qps`, `apiserver_burst`: lists a second, and so many at once before that counts.
//!   `apiserver_max_inflight`: requests that may wait for an answer. 0 is no limit.
//! * `manifests`: read the objects from files of YAML or JSON instead, or from all files in a
//!   directory that end in `.yaml`, `.yml` or `.json`; documents and items of a `List` count one by
//!   one. Changes are followed: files are looked at every second; a
//!   broken one is told, and the cluster stays as it was.
//!
//! What is answered:
//!
//! * `namespaces`: show these only. `namespace_labels`: show namespaces whose labels match.
//!   `labels`: know services, slices and pods whose labels match. An **EXPRESSION** is a label
//!   selector: `app=web,tier in (front, back),!old`.
//! * `pods`: whether `10-1-2-3.NAMESPACE.pod.ZONE` is answered: `disabled` (the default) never,
//!   `insecure` for any address in a namespace that exists, `verified` if a pod of the namespace has
//!   the address; for that all pods are watched.
//! * `endpoint_pod_names`: an endpoint without a hostname is called after its pod, not after its
//!   address.
//! * `ttl`: of records, 0 to 3600 seconds, by default 5.
//! * `noendpoints`: do not watch endpoints; headless services then have no names.
//! * `fallthrough`: hand names that do not exist to the plugins below, for all zones or for **ZONES**.
//! * `ignore empty_service`: a service without ready endpoints does not exist.
//! * `multicluster`: **ZONES** are of the cluster set (KEP-1645); they must be among the zones.
//! * `zonal`: `TOPOLOGYZONE.pin._zone.SERVICE.NAMESPACE.svc.ZONE` are the endpoints of a headless
//!   service in that topology zone; with `prefer` instead of `pin` all of them if it has none.
//!
//! Starting:
//!
//! * `startup_timeout`: how long to wait for the API server before the block serves, by default 5s.
//!   Until everything is known, names are answered SERVFAIL, with an extended error that says so.
//! * `corelane_state`: keep what is known in **DIRECTORY**, at most every 30 seconds and at the end.
//!   It is served at the next start, marked as stale (RFC 8914, code 3), until the API server
//!   answers. A file that is not whole is passed over.
//!
//! While the API server is away, what is known is served on.
//!
//! Metadata: `kubernetes/endpoint`, `kubernetes/kind`, `kubernetes/namespace`, `kubernetes/service`,
//! `kubernetes/port-name`, `kubernetes/protocol`, `kubernetes/cluster`, `kubernetes/zone`,
//! `kubernetes/parse-error`; with `pods verified` of the client `kubernetes/client-namespace`,
//! `kubernetes/client-pod-name` and `kubernetes/client-label/KEY`.
//!
//! ## Metrics
//!
//! * `coredns_kubernetes_dns_programming_duration_seconds{service_kind}`: time from a change of
//!   endpoints, as the slice tells it, to its being answered.
//! * `coredns_kubernetes_rest_client_requests_total{code, method, host}`,
//!   `coredns_kubernetes_rest_client_request_duration_seconds{verb, host}`,
//!   `coredns_kubernetes_rest_client_rate_limiter_duration_seconds{verb, host}`: requests to the API
//!   server; the latter two of lists.
//! * `corelane_kubernetes_event_to_served_seconds`: time from an event of a watch to its being
//!   answered by every worker. `corelane_kubernetes_publish_seconds`: time that publishing took.
//! * `corelane_kubernetes_objects{kind}`, `corelane_kubernetes_index_bytes{kind}`: what is held.
//! * `corelane_kubernetes_synced{kind}`, `corelane_kubernetes_stale`,
//!   `corelane_kubernetes_last_event_age_seconds{kind}`: how true it is.
//! * `corelane_kubernetes_events_total{kind}`, `corelane_kubernetes_lists_total{kind, reason}`,
//!   `corelane_kubernetes_watch_restarts_total{kind, reason}`,
//!   `corelane_kubernetes_trouble_total{kind, reason}`,
//!   `corelane_kubernetes_malformed_total{kind}`, `corelane_kubernetes_refused_total{kind}`,
//!   `corelane_kubernetes_checks_total{kind}`, `corelane_kubernetes_repaired_total{kind}`: watching.
//! * `corelane_kubernetes_top_level_namespaces_total`: namespaces that appeared with the name of a
//!   top-level domain, of which names are taken for those of services (CVE-2022-2835).
//!
//! ## Examples
//!
//! ```corefile
//! .:53 {
//!     errors
//!     health
//!     ready
//!     kubernetes cluster.local in-addr.arpa ip6.arpa {
//!         pods insecure
//!         fallthrough in-addr.arpa ip6.arpa
//!         ttl 30
//!     }
//!     prometheus :9153
//!     reload
//!     loadbalance
//! }
//! ```
//!
//! ```corefile
//! cluster.local 10.0.0.0/16 {
//!     kubernetes {
//!         endpoint https://192.0.2.10:6443
//!         tls client.crt client.key ca.crt
//!         namespaces shop staging
//!         corelane_state /var/lib/corelane
//!     }
//! }
//! ```
//!
//! ```corefile
//! cluster.local {
//!     kubernetes {
//!         manifests cluster.yaml more/
//!     }
//! }
//! ```
//!
//! ## Differences from CoreDNS
//!
//! * Before everything is known, names are SERVFAIL and never handed on by `fallthrough`: a name of
//!   the cluster does not leave it.
//! * Lists are paged, and never asked for whole; what is held is compared with what the API server
//!   holds every 10 minutes.
//! * A slice whose endpoints are as they were is not counted in the programming duration.
//! * What is denied is never cached: a `cache` above sees a new service at once.
//! * Only the cluster's zones themselves are transferred, not names below them, nor reverse zones.
//!   What has no port has no SRV record in a transfer; CoreDNS sends one with port 65535.
//! * Where the first zone is the root, PTR records are answered. A slice that belongs to no service
//!   has none.
//! * The addresses of `bind` are known for NS records, whatever form they have.
//! * Endpoints that are names are an alias only where there are no addresses beside them.
//! * `ns.dns.ZONE` and the zone's NS records are there whatever the letters of the zone in the
//!   question; CoreDNS knows them in lower case only.
//! * A reverse name of an IPv6 address has exactly 32 digits (RFC 3596 section 2.5); with labels left
//!   of them it does not exist. CoreDNS answers with up to three more.
//! * Of several services with the same address, the PTR record names always the same one; CoreDNS
//!   names any of them.

pub mod answers;
mod clients;
mod counters;
mod held;
mod labels;
mod manifests;
pub mod settings;
mod transfer;

use std::fmt;
use std::sync::Arc;

use super::outgoing::Offer;
use super::{
    Compiled, CorefileError, Cx, Directive, Lines, Plugin, SearchPath, SetupError, Site, Step,
    Transferer,
};
use crate::cluster::index::Index;
use crate::cluster::top_level::is_top_level;
use crate::control::kube;
use crate::publish::Reader;
use crate::wire::{Name, NameBuf, Question};
use answers::Answers;
use counters::AS_TOP_LEVEL;
pub use held::Held;
use labels::Labels;
use manifests::Manifests;
pub use manifests::objects as manifest_objects;
use settings::{Objects, Settings};

/// The directive.
pub struct Kubernetes(Settings);

impl Directive for Kubernetes {
    const NAME: &'static str = "kubernetes";
    const CARRIED: bool = true;

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        Settings::parse(lines).map(Self)
    }

    fn warnings(&self) -> Vec<String> {
        let Objects::Manifests(paths, _) = &self.0.objects else { return Vec::new() };
        let names = manifests::namespaces(paths).into_iter();
        let names = names.filter(|name| is_top_level(name));
        names.map(|name| format!("namespace {name} {AS_TOP_LEVEL}")).collect()
    }

    fn compile(self, site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        let settings = self.0;
        let held = Held::new(settings.holding(site.facts.metadata), site.turns, site.tally);
        match &settings.objects {
            Objects::Api(connect) => {
                let watched = settings.watched(connect.clone(), site.facts.metadata);
                let feed = Arc::clone(&held);
                kube::start(site, watched, feed)?;
            }
            Objects::Manifests(paths, place) => {
                let mut files = Manifests::new(paths, &settings, &held);
                let fault = |message| SetupError { place: Some(place.clone()), message };
                files.load().map_err(fault)?;
                site.watch(files, |_, ()| ());
            }
        }
        site.spawn_early(Arc::clone(&held).run());
        site.census(Arc::<Held>::clone(&held));
        let opened = Arc::clone(&held);
        site.at_start(move || {
            opened.open();
            Ok(())
        });
        let own = answers::own_addresses(site.addresses);
        let answers = Arc::new(Answers::new(&settings, own));
        Ok(Compiled::link(Link { answers, labels: Labels::default(), settings, held }))
    }
}

/// The link.
pub struct Link {
    answers: Arc<Answers>,
    labels: Labels,
    settings: Settings,
    held: Arc<Held>,
}

impl Link {
    /// What the directive says.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What is answered.
    pub fn answers(&self) -> &Answers {
        &self.answers
    }

    /// What is held of the cluster.
    pub fn held(&self) -> &Arc<Held> {
        &self.held
    }
}

impl Plugin for Link {
    type Frame = ();
    type Local = Reader<Index>;

    const HINTS: bool = true;

    fn local(&self, _core: u16) -> Reader<Index> {
        self.held.reader()
    }

    fn refresh(&self, index: &mut Reader<Index>) {
        index.refresh();
    }

    fn search_path(self: &Arc<Self>) -> Option<SearchPath> {
        Some(SearchPath::OfClient(Arc::new(clients::PodsOf(Arc::clone(self)))))
    }

    fn transferer(self: &Arc<Self>) -> Option<Arc<dyn Transferer>> {
        Some(Arc::<Self>::clone(self))
    }

    fn hint(&self, index: &Reader<Index>, question: Question<'_>) -> u64 {
        self.answers.hint(index.get(), question.lower)
    }

    fn hint_next(&self, index: &Reader<Index>, _question: Question<'_>, place: u64) {
        self.answers.hint_next(index.get(), place);
    }

    fn memory_zones(&self) -> &[NameBuf] {
        self.answers.memory_zones()
    }

    fn meta_key(&self, label: &str) -> Option<u16> {
        self.labels.number(label)
    }

    fn meta(&self, index: &Reader<Index>, cx: &Cx<'_>, key: u16, out: &mut dyn fmt::Write) -> bool {
        self.labels.write(&self.answers.rules, index.get(), cx, key, out)
    }

    fn serve(&self, index: &mut Reader<Index>, cx: &mut Cx<'_>) -> Step<()> {
        self.answers.serve(index.get(), cx)
    }

    fn resume(&self, index: &mut Reader<Index>, cx: &mut Cx<'_>, (): ()) -> Step<()> {
        self.answers.resume(index.get(), cx)
    }
}

impl Transferer for Link {
    fn outgoing(&self, zone: Name<'_>) -> Offer {
        transfer::offer(&self.answers, self.held.index(), zone)
    }
}
