//! Metadata: what a query asks of the cluster, and whose pod asks.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::cluster::answer::Rules;
use crate::cluster::index::Index;
use crate::cluster::request::{Request, Scope};
use crate::data::chain::Cx;
use crate::wire::labels_of;

/// The labels by their keys.
const NAMES: &[&str] = &[
    "kubernetes/kind",
    "kubernetes/namespace",
    "kubernetes/service",
    "kubernetes/endpoint",
    "kubernetes/port-name",
    "kubernetes/protocol",
    "kubernetes/cluster",
    "kubernetes/zone",
    "kubernetes/parse-error",
    "kubernetes/client-namespace",
    "kubernetes/client-pod-name",
];
const CLUSTER: usize = 6;
const ZONE: usize = 7;
const PARSE_ERROR: usize = 8;
const CLIENT_NAMESPACE: usize = 9;
const CLIENT_NAME: usize = 10;
/// Before the key of a label of the client's pod.
const CLIENT_LABEL: &str = "kubernetes/client-label/";

/// The labels that are read.
#[derive(Default)]
pub struct Labels {
    /// Keys of labels of pods, in the order of their numbers after those of `NAMES`. Only grows, on
    /// the control side.
    of_pods: ArcSwap<Vec<Box<str>>>,
}

impl Labels {
    /// The number of a label, if it is one of these.
    pub fn number(&self, label: &str) -> Option<u16> {
        if let Some(at) = NAMES.iter().position(|name| *name == label) {
            return Some(at as u16);
        }
        let key = label.strip_prefix(CLIENT_LABEL)?;
        let known = self.of_pods.load_full();
        let at = known.iter().position(|one| **one == *key).unwrap_or_else(|| {
            let mut more = known.to_vec();
            more.push(key.into());
            self.of_pods.store(Arc::new(more));
            known.len()
        });
        u16::try_from(NAMES.len() + at).ok()
    }

    /// Writes the value that a query has for the label of this number; `false`: it has none.
    pub fn write(
        &self,
        rules: &Rules,
        index: &Index,
        cx: &Cx<'_>,
        number: u16,
        out: &mut dyn fmt::Write,
    ) -> bool {
        let number = usize::from(number);
        if number >= CLIENT_NAMESPACE {
            let Some(pod) = index.pod_at(cx.client().ip()) else { return false };
            let value = match number {
                CLIENT_NAMESPACE => Some(&pod.namespace),
                CLIENT_NAME => Some(&pod.name),
                _ => {
                    let keys = self.of_pods.load();
                    let key = keys.get(number - NAMES.len());
                    let labels = pod.labels.iter();
                    let mut found = labels.filter(|(one, _)| Some(one) == key);
                    found.next().map(|(_, value)| value)
                }
            };
            return value.is_some_and(|value| out.write_str(value).is_ok());
        }
        let lower = cx.question().lower;
        let Some((apex, grammar)) = rules.zone_of(lower) else { return false };
        if (number == CLUSTER && !grammar.multicluster) || (number == ZONE && !grammar.zonal) {
            return false;
        }
        let request = Request::read(lower, apex, grammar);
        if number == PARSE_ERROR || request == Request::Invalid {
            let is_error = number == PARSE_ERROR && request == Request::Invalid;
            return is_error && out.write_str("invalid query name").is_ok();
        }
        // Whoever reads it bounds it.
        let _ = write_part(request, number, out);
        true
    }
}

/// Writes a part of what is asked for.
fn write_part(request: Request<'_>, number: usize, out: &mut dyn fmt::Write) -> fmt::Result {
    let (kind, namespace, service, scope): (_, &[u8], &[u8], _) = match request {
        Request::Empty | Request::Invalid => ("", &[], &[], Scope::default()),
        Request::Namespace(label, true) => ("pod", label, &[], Scope::default()),
        Request::Namespace(label, false) => ("svc", label, &[], Scope::default()),
        Request::Pod(label, namespace, scope) => ("pod", namespace, label, scope),
        Request::Service(key, scope) => {
            let mut labels = labels_of(key);
            let service = labels.next().unwrap_or_default();
            ("svc", labels.next().unwrap_or_default(), service, scope)
        }
    };
    match number {
        0 => out.write_str(kind),
        1 => write_label(namespace, out),
        2 => write_label(service, out),
        3 => write_label(scope.endpoint, out),
        4 => write_label(scope.port, out),
        5 => write_label(scope.protocol, out),
        CLUSTER => write_label(scope.cluster, out),
        _ => labels_of(scope.topology).enumerate().try_for_each(|(at, label)| {
            out.write_str(if at > 0 { "." } else { "" })?;
            write_label(label, out)
        }),
    }
}

/// Writes a label as in presentation form (RFC 1035 section 5.1).
fn write_label(label: &[u8], out: &mut dyn fmt::Write) -> fmt::Result {
    label.iter().try_for_each(|octet| match octet {
        b'.' | b'\\' => write!(out, "\\{}", char::from(*octet)),
        0x21..=0x7e => out.write_char(char::from(*octet)),
        _ => write!(out, "\\{octet:03}"),
    })
}
