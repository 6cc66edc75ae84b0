//! `corelane doctor [NAMESPACE/POD]`: what an operator checks by hand when names do not resolve, in order.
//!
//! Each look at something gives what is well, or the cause of the trouble with its remedy, at which the
//! doctor stops: what comes after it would only be its consequences. In this order: the API
//! server ([`cluster`]), the pod's resolv.conf, the Service and what the kubelet tells pods of it, the
//! endpoints and their pods, the ConfigMap ([`config`]), RBAC, and then questions over UDP and TCP ([`asking`]) to the
//! endpoints and to their upstreams.
//!
//! It reads and asks; it changes nothing. Of the API server it needs `get` and `list` in the namespace of
//! the DNS pods; what it may not see it says and passes over. Status 0: all is well; 1: a cause was found.

mod asking;
mod cluster;
mod config;

use std::io::{self, Write};

use serde::Serialize;

use super::args::Doctor;
use super::kube::Connect;
use super::logging;
use cluster::Patient;

/// What was found.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub look: &'static str,
    /// `ok`, `note` or `cause`.
    pub verdict: &'static str,
    /// What is so.
    pub what: String,
    /// What to do about it: of a cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// The cause of a trouble, and its remedy.
#[derive(Debug)]
struct Cause {
    what: String,
    remedy: String,
}

impl Cause {
    fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }
}

/// What a look gives: what is well or worth a note, up to the cause.
#[derive(Default)]
struct Chart {
    look: &'static str,
    findings: Vec<Finding>,
}

impl Chart {
    fn add(&mut self, verdict: &'static str, what: String, remedy: Option<String>) {
        self.findings.push(Finding { look: self.look, verdict, what, remedy });
    }

    fn ok(&mut self, what: impl Into<String>) {
        self.add("ok", what.into(), None);
    }

    fn note(&mut self, what: impl Into<String>) {
        self.add("note", what.into(), None);
    }
}

/// Looks, and prints what is found; gives the exit status.
///
/// # Errors
/// `out` cannot be written to.
pub async fn run(wanted: &Doctor, out: &mut dyn Write) -> io::Result<u8> {
    logging::to_stderr();
    let mut chart = Chart::default();
    let cause = examine(wanted, &mut chart).await.err();
    if let Some(Cause { what, remedy }) = cause {
        chart.add("cause", what, Some(remedy));
    }
    let is_well = chart.findings.iter().all(|finding| finding.verdict != "cause");
    if wanted.json {
        serde_json::to_writer_pretty(&mut *out, &chart.findings)?;
        writeln!(out)?;
    } else {
        for Finding { look, verdict, what, remedy } in &chart.findings {
            writeln!(out, "{verdict:<5} {look}: {what}")?;
            if let Some(remedy) = remedy {
                writeln!(out, "      remedy: {remedy}")?;
            }
        }
        if is_well {
            // Not what could not be looked at.
            let well = chart.findings.iter().filter(|finding| finding.verdict == "ok");
            let mut looks: Vec<&str> = well.map(|finding| finding.look).collect();
            looks.dedup();
            writeln!(out, "nothing is wrong with: {}", looks.join(", "))?;
        }
    }
    Ok(u8::from(!is_well))
}

async fn examine(wanted: &Doctor, chart: &mut Chart) -> Result<(), Cause> {
    chart.look = "API server";
    let mut patient = Patient::reach(&connect(wanted), wanted, chart).await?;
    chart.look = "pod";
    let pod = patient.pod(chart).await?;
    chart.look = "Service";
    patient.service(chart).await?;
    chart.look = "kubelet";
    patient.kubelet(pod.as_ref(), chart).await?;
    chart.look = "node";
    patient.node_loop(chart)?;
    if let Some(pod) = &pod {
        chart.look = "resolv.conf";
        patient.resolv_conf(pod, chart)?;
    }
    chart.look = "endpoints";
    let endpoints = patient.endpoints(chart).await?;
    chart.look = "ConfigMap";
    let upstreams = patient.config_map(chart).await?;
    chart.look = "namespaces";
    patient.namespaces(chart).await?;
    chart.look = "RBAC";
    patient.access(chart).await?;
    chart.look = "questions";
    let is_reached = asking::endpoints(&endpoints, &patient.zone, chart).await?;
    chart.look = "upstreams";
    // From where no endpoint can be reached, an upstream that cannot be proves nothing.
    if is_reached { asking::upstreams(&upstreams, chart).await } else { Ok(()) }
}

/// The cluster that is named, or that a user's tools would look at.
fn connect(wanted: &Doctor) -> Connect {
    match (&wanted.endpoint, &wanted.kubeconfig) {
        (Some(url), _) => Connect::Endpoint { url: url.clone(), tls: None },
        (None, Some(file)) => Connect::Kubeconfig { file: file.clone(), context: None },
        (None, None) => Connect::usual(),
    }
}
