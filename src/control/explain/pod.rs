//! A name as a pod's resolver asks for it: each name that it makes, by each C library.

use serde::Serialize;
use serde_json::Value;

use super::asked::{self, Asked};
use super::report::Report;
use super::{Asking, Explained};
use crate::control::args::Explain;
use crate::control::kube::{Connect, Once};
use crate::control::resolver::{self, Ended, Libc, Origin, Resolver};
use crate::wire::{NameBuf, Rtype, rtype};

/// What one C library makes of the name.
#[derive(Debug, Serialize)]
pub struct Way {
    /// `glibc` or `musl`.
    pub libc: &'static str,
    /// The names that it asks for, in order, each with how that ends.
    pub names: Vec<(String, &'static str)>,
}

/// Whether what is wanted is what a pod would ask.
pub(super) fn is_wanted(wanted: &Explain) -> bool {
    wanted.pod.is_some()
        || wanted.policy.is_some()
        || wanted.ndots.is_some()
        || !wanted.search.is_empty()
}

/// Asks as the pod's resolver would; each question is walked once.
pub(super) async fn ask(wanted: &Explain, asking: &Asking) -> Result<Explained, String> {
    let (resolver, address) = resolver(wanted).await?;
    let mut base = Asked::new(wanted)?;
    if let (Some(address), None) = (address, &wanted.from) {
        base.from = asked::client(&address)?;
    }
    let types = match wanted.rtype {
        Some(_) => vec![base.rtype],
        // As getaddrinfo does for either family.
        None => vec![rtype::A, rtype::AAAA],
    };
    let (mut reports, mut ways) = (Vec::new(), Vec::new());
    for libc in [Libc::Glibc, Libc::Musl] {
        let mut names = Vec::new();
        for name in resolver.names(&wanted.name, libc) {
            // What is too long is not asked for.
            let Ok(parsed) = NameBuf::parse(&name) else { continue };
            let ended = one(asking, &base, parsed, &types, &mut reports).await?;
            names.push((name, words(ended)));
            if !libc.goes_on(ended) {
                break;
            }
        }
        ways.push(Way { libc: libc.name(), names });
    }
    Ok(Explained { reports, resolver: Some(resolver), ways })
}

/// Asks for one name, unless that was done already.
async fn one(
    asking: &Asking,
    base: &Asked,
    name: NameBuf,
    types: &[Rtype],
    reports: &mut Vec<Report>,
) -> Result<Ended, String> {
    let mut ends = Vec::new();
    for &rtype in types {
        let text = (name.to_string(), rtype::text(rtype).to_string());
        let known = reports.iter().position(|one| (&one.name, &one.rtype) == (&text.0, &text.1));
        let at = match known {
            Some(at) => at,
            None => {
                reports.push(asking.ask(&Asked { name, rtype, ..base.clone() }).await?);
                reports.len() - 1
            }
        };
        ends.push(ended(&reports[at]));
    }
    // One address is enough; else the first question counts.
    let answered = ends.iter().find(|end| **end == Ended::Answered);
    Ok(answered.or(ends.first()).copied().unwrap_or(Ended::Failed))
}

fn ended(report: &Report) -> Ended {
    let Some(reply) = &report.reply else { return Ended::Failed };
    let of_type =
        |record: &super::report::Record| record.section == "answer" && record.rtype == report.rtype;
    match &*reply.rcode {
        "NOERROR" if reply.records.iter().any(of_type) => Ended::Answered,
        "NOERROR" => Ended::Empty,
        "NXDOMAIN" => Ended::Missing,
        _ => Ended::Failed,
    }
}

fn words(ended: Ended) -> &'static str {
    match ended {
        Ended::Answered => "answered",
        Ended::Empty => "exists, without what is asked for",
        Ended::Missing => "does not exist",
        Ended::Failed => "failed",
    }
}

/// The resolver that is meant, and the pod's address.
async fn resolver(wanted: &Explain) -> Result<(Resolver, Option<String>), String> {
    for zone in wanted.search.iter().chain([&wanted.zone]) {
        NameBuf::parse(zone).map_err(|error| format!("{zone}: not a name: {error}"))?;
    }
    let mut address = None;
    let mut resolver = match &wanted.pod {
        None => {
            let policy = wanted.policy.as_deref().unwrap_or("ClusterFirst");
            if !["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"].contains(&policy) {
                let known = "ClusterFirst, ClusterFirstWithHostNet, Default or None";
                return Err(format!("{policy}: a dnsPolicy is {known}"));
            }
            if policy == "Default" && wanted.search.is_empty() {
                let words = "such a pod asks what its node asks, not this server";
                return Err(format!("dnsPolicy Default: {words}; give its --search"));
            }
            resolver::of_policy(policy, &wanted.namespace, &[], &wanted.zone)
        }
        Some(name) => {
            let pod = pod(wanted, name).await?;
            address = pod.pointer("/status/podIP").and_then(Value::as_str).map(str::to_owned);
            match resolver::of_pod(&pod, &[], &wanted.zone) {
                Origin::Node(_, why) => {
                    return Err(format!("{name} asks what its node asks, not this server: {why}"));
                }
                origin => origin.resolver().clone(),
            }
        }
    };
    if !wanted.search.is_empty() {
        resolver.search.clone_from(&wanted.search);
    }
    resolver.ndots = wanted.ndots.unwrap_or(resolver.ndots);
    Ok((resolver, address))
}

/// The pod's object.
async fn pod(wanted: &Explain, pod: &str) -> Result<Value, String> {
    let (namespace, name) = pod.split_once('/').unwrap_or(("default", pod));
    let connect = match (&wanted.endpoint, &wanted.kubeconfig) {
        (Some(url), _) => Connect::Endpoint { url: url.clone(), tls: None },
        (None, Some(file)) => Connect::Kubeconfig { file: file.clone(), context: None },
        (None, None) => Connect::usual(),
    };
    let once = Once::new(&connect).map_err(|trouble| trouble.to_string())?;
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
    once.get(&path).await.map_err(|trouble| format!("{pod}: {trouble}"))
}
