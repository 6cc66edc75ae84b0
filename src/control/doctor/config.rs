//! The Corefile in the cluster's ConfigMap: whether it is one, serves the cluster, and leads nowhere back.

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use super::super::compile;
use super::super::corefile::{self, Corefile, Input};
use super::super::kube::Trouble;
use super::super::lint::{lints, upstream};
use super::super::resolver::{self, Origin};
use super::super::source;
use super::cluster::{Patient, of_trouble, word};
use super::{Cause, Chart};

impl Patient {
    /// The Corefile, through `check`; gives the upstreams that it names by address.
    pub(super) async fn config_map(&self, chart: &mut Chart) -> Result<Vec<SocketAddr>, Cause> {
        let (namespace, name) = (&self.namespace, &self.map);
        let path = format!("/api/v1/namespaces/{namespace}/configmaps/{name}");
        let map = self.look(&path, chart).await.map_err(|trouble| match trouble {
            Trouble::Missing(_) => Cause::new(
                format!("there is no ConfigMap {name} in namespace {namespace}"),
                "apply deploy/kubernetes, or name it with --config-map",
            ),
            other => of_trouble(&other),
        })?;
        let Some(map) = map else { return Ok(Vec::new()) };
        let Some(text) = map.pointer("/data/Corefile").and_then(Value::as_str) else {
            return Err(Cause::new(
                format!("the ConfigMap {name} has no Corefile"),
                "add the key Corefile to its data",
            ));
        };
        let input = Input::Text { name: "Corefile".into(), text: text.into() };
        let read = corefile::load(input, source::directives(), &|_| None, 53);
        let planned = read.and_then(|read| compile::plan(&read).map(|_| read));
        let corefile = planned.map_err(|errors| {
            let first = errors.first().map_or(String::new(), ToString::to_string);
            Cause::new(first, format!("kubectl -n {namespace} edit configmap {name}"))
        })?;
        for lint in lints(&corefile) {
            chart.note(lint.to_string());
        }
        self.serves_zone(&corefile)?;
        chart.ok(format!("the Corefile of {name} is valid"));
        let upstreams = self.upstreams(&corefile);
        self.loops(&corefile, &upstreams)?;
        Ok(upstreams)
    }

    /// Whether the cluster's zone is served by `kubernetes`.
    fn serves_zone(&self, corefile: &Corefile) -> Result<(), Cause> {
        let stanzas = corefile
            .blocks
            .iter()
            .flat_map(|block| block.uses("kubernetes").map(move |stanza| (block, stanza)));
        let zones: Vec<String> = stanzas
            .flat_map(|(block, stanza)| {
                let keys = block.zones.iter().map(ToString::to_string);
                let words = stanza.args.iter().map(|word| word.text.to_lowercase());
                if stanza.args.is_empty() { keys.collect::<Vec<_>>() } else { words.collect() }
            })
            .map(|zone| zone.trim_end_matches('.').to_owned())
            .collect();
        if zones.is_empty() {
            return Err(Cause::new(
                "the Corefile has no `kubernetes`: nobody knows the cluster's names",
                format!("add: kubernetes {} in-addr.arpa ip6.arpa", self.zone),
            ));
        }
        if !zones.contains(&self.zone) {
            return Err(Cause::new(
                format!(
                    "pods ask for names in {}, `kubernetes` serves {}",
                    self.zone,
                    zones.join(" ")
                ),
                "let the kubelet's clusterDomain and the zone of `kubernetes` agree",
            ));
        }
        Ok(())
    }

    /// Upstreams that speak plain DNS: those named by address, and those of the node's resolv.conf where
    /// a file is named and the node's is known.
    fn upstreams(&self, corefile: &Corefile) -> Vec<SocketAddr> {
        let mut all: Vec<SocketAddr> = forwards(corefile).filter_map(upstream).collect();
        if names_file(corefile) {
            all.extend(self.node_servers.iter().map(|ip| SocketAddr::new(*ip, 53)));
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whether what the DNS pods ask are the DNS pods.
    fn loops(&self, corefile: &Corefile, upstreams: &[SocketAddr]) -> Result<(), Cause> {
        let is_service = |ip: IpAddr| self.addresses.iter().any(|one| one.parse() == Ok(ip));
        if let Some(own) = upstreams.iter().find(|one| one.port() == 53 && is_service(one.ip())) {
            return Err(Cause::new(
                format!("`forward` names {own}, the Service of these very pods: a loop"),
                "have it name the servers outside of the cluster",
            ));
        }
        let Some(pod) = self.own.as_ref().filter(|_| names_file(corefile)) else { return Ok(()) };
        // An API server fills in what was left out.
        let is_told = pod.pointer("/spec/dnsPolicy").is_some();
        let origin = resolver::of_pod(pod, &self.given, &self.zone);
        if is_told && matches!(origin, Origin::Cluster(_)) {
            return Err(Cause::new(
                format!(
                    "{} has the cluster's resolv.conf, which `forward` reads: it asks itself",
                    word(pod, "/metadata/name")
                ),
                "set dnsPolicy: Default in the pod template of the DNS pods",
            ));
        }
        Ok(())
    }
}

/// The words of `forward` that name upstreams.
fn forwards(corefile: &Corefile) -> impl Iterator<Item = &corefile::Token> {
    let uses = corefile.blocks.iter().flat_map(|block| block.uses("forward"));
    uses.flat_map(|stanza| stanza.args.iter().skip(1))
}

/// Whether an upstream is a file of servers.
fn names_file(corefile: &Corefile) -> bool {
    forwards(corefile).any(|word| word.text.starts_with('/'))
}
