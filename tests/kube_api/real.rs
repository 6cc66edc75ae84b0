//! The whole server beside a real API server, where there is one (`cluster`).

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use hickory_proto::op::ResponseCode::{NXDomain, NoError, ServFail};
use hickory_proto::rr::RecordType::{A, AAAA, PTR, SRV};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::cluster::{Cluster, program};
use super::process::Process;
use super::{folder, run, until};

/// How long all of a test may take.
const WHOLE: Duration = Duration::from_secs(600);

/// Runs a test where there is an API server.
fn beside<F: Future<Output = ()>>(test: impl FnOnce(std::path::PathBuf) -> F) {
    if let Some(program) = program() {
        run(async { timeout(WHOLE, test(program)).await.expect("the end of the test") });
    }
}

/// A Corefile that reads the cluster by a kubeconfig.
fn corefile(kubeconfig: &Path) -> String {
    format!(
        ". {{\n    bind 127.0.0.1\n    prometheus 127.0.0.1:{{$METRICS}}\n    \
         kubernetes cluster.local in-addr.arpa ip6.arpa {{\n        kubeconfig {}\n        \
         pods verified\n        startup_timeout 100ms\n    }}\n}}\n",
        kubeconfig.display()
    )
}

fn port(name: &str, number: u16) -> Value {
    json!({"name": name, "port": number, "protocol": "TCP"})
}

/// A service of the namespace `shop` with addresses of its own.
fn service(name: &str, addresses: &[&str]) -> Value {
    let families: Vec<&str> =
        addresses.iter().map(|one| if one.contains(':') { "IPv6" } else { "IPv4" }).collect();
    let policy = if families.len() > 1 { "RequireDualStack" } else { "SingleStack" };
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"clusterIP": addresses[0], "clusterIPs": addresses, "ipFamilies": families,
            "ipFamilyPolicy": policy, "ports": [port("http", 80), port("metrics", 9100)]}})
}

/// A slice of a service: endpoints as they are in the API.
fn slice(service: &str, name: &str, family: &str, endpoints: Value) -> Value {
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata":
        {"name": name, "namespace": "shop", "labels": {"kubernetes.io/service-name": service}},
        "addressType": family, "endpoints": endpoints, "ports": [port("http", 8080)]})
}

fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

/// What the tests ask for.
async fn fill(cluster: &Cluster) {
    cluster.permit().await;
    cluster.token("account").await;
    cluster.create("namespaces", namespace("shop")).await;
    cluster.create("services", service("web", &["10.96.0.50", "fd00:96::50"])).await;
    let mut headless = service("sets", &["None"]);
    headless["spec"]["ipFamilies"] = json!(["IPv4"]);
    cluster.create("services", headless).await;
    let ends = json!([{"addresses": ["10.1.0.1"], "hostname": "one"},
        {"addresses": ["10.1.0.2"], "conditions": {"ready": false}}]);
    cluster.create("endpointslices", slice("sets", "sets-4", "IPv4", ends)).await;
    let ends = json!([{"addresses": ["fd00:1::3"]}]);
    cluster.create("endpointslices", slice("sets", "sets-6", "IPv6", ends)).await;
    let alias = json!({"apiVersion": "v1", "kind": "Service", "metadata":
        {"name": "alias", "namespace": "shop"}, "spec":
        {"type": "ExternalName", "externalName": "web.shop.svc.cluster.local"}});
    cluster.create("services", alias).await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata":
        {"name": "pod", "namespace": "shop"}, "spec":
        {"nodeName": "node", "containers": [{"name": "a", "image": "a"}]}});
    cluster.create("pods", pod).await;
    pod_is(cluster, "Running").await;
}

async fn pod_is(cluster: &Cluster, phase: &str) {
    let status = json!({"status": {"phase": phase, "podIP": "10.1.0.9",
        "podIPs": [{"ip": "10.1.0.9"}]}});
    cluster.change("pods", "shop", "pod/status", status).await;
}

const WEB: &str = "web.shop.svc.cluster.local.";
const SETS: &str = "sets.shop.svc.cluster.local.";
const POD: &str = "10-1-0-9.shop.pod.cluster.local.";
const LATER: &str = "later.shop.svc.cluster.local.";

/// What is there when the watches begin.
async fn is_listed(process: &Process) {
    process.gives(WEB, A, NoError, &["A 10.96.0.50"]).await;
    process.gives(WEB, AAAA, NoError, &["AAAA fd00:96::50"]).await;
    process.gives("kubernetes.default.svc.cluster.local.", A, NoError, &["A 10.96.0.1"]).await;
    process.gives(SETS, A, NoError, &["A 10.1.0.1"]).await;
    process.gives(SETS, AAAA, NoError, &["AAAA fd00:1::3"]).await;
    process.gives(&format!("one.{SETS}"), A, NoError, &["A 10.1.0.1"]).await;
    process
        .gives(&format!("_http._tcp.{WEB}"), SRV, NoError, &[&format!("SRV 0 50 80 {WEB}")])
        .await;
    let alias = "alias.shop.svc.cluster.local.";
    process.gives(alias, A, NoError, &[&format!("CNAME {WEB}"), "A 10.96.0.50"]).await;
    process.gives(POD, A, NoError, &["A 10.1.0.9"]).await;
    let of_web = format!("PTR {WEB}");
    process.gives("50.0.96.10.in-addr.arpa.", PTR, NoError, &[&of_web]).await;
    process.gives("1.0.1.10.in-addr.arpa.", PTR, NoError, &[&format!("PTR one.{SETS}")]).await;
    process.gives(LATER, A, NXDomain, &[]).await;
}

/// What happens while they go on.
async fn is_watched(cluster: &Cluster, process: &Process) {
    cluster.create("services", service("later", &["10.96.0.51"])).await;
    process.gives(LATER, A, NoError, &["A 10.96.0.51"]).await;
    cluster.delete("services", "shop", "later").await;
    process.gives(LATER, A, NXDomain, &[]).await;
    process.gives("51.0.96.10.in-addr.arpa.", PTR, NXDomain, &[]).await;
    let ready = json!({"endpoints": [{"addresses": ["10.1.0.1"], "conditions": {"ready": false}},
        {"addresses": ["10.1.0.2"]}]});
    cluster.change("endpointslices", "shop", "sets-4", ready).await;
    process.gives(SETS, A, NoError, &["A 10.1.0.2"]).await;
    cluster.delete("endpointslices", "shop", "sets-6").await;
    process.gives(SETS, AAAA, NoError, &[]).await;
    // A pod that has ended is no longer among those that are watched.
    pod_is(cluster, "Succeeded").await;
    process.gives(POD, A, NXDomain, &[]).await;
    cluster.create("namespaces", namespace("brief")).await;
    process.gives("brief.svc.cluster.local.", A, NoError, &[]).await;
    cluster.delete_namespace("brief").await;
    process.gives("brief.svc.cluster.local.", A, NXDomain, &[]).await;
    for kind in ["services", "endpointslices", "namespaces", "pods"] {
        let lists = |reason: &str| {
            let labels = format!("{{kind=\"{kind}\",reason=\"{reason}\"}}");
            process.metric(&format!("corelane_kubernetes_lists_total{labels}"))
        };
        assert_eq!(lists("start"), Some(1.0), "{}", process.output());
        let again = ["gone", "malformed", "new_history", "ended"].into_iter().find_map(lists);
        assert_eq!(again, None, "{kind}");
    }
}

/// How many lists in pages there were.
fn pages(cluster: &Cluster, process: &Process) -> f64 {
    let labels = format!("{{verb=\"GET\",host=\"{}\"}}", cluster.host());
    let series = "coredns_kubernetes_rest_client_request_duration_seconds_count";
    process.metric(&format!("{series}{labels}")).unwrap_or(0.0)
}

#[test]
fn a_cluster_is_listed_in_a_stream_and_watched() {
    beside(async |program| {
        let cluster =
            Cluster::start(program, "real-stream", &["--feature-gates=WatchList=true"]).await;
        fill(&cluster).await;
        let config = corefile(&cluster.kubeconfig("account"));
        let process = Process::with(&folder("real-stream-server"), &config);
        is_listed(&process).await;
        is_watched(&cluster, &process).await;
        // What an old etcd cannot do is asked for in pages, one for each kind.
        assert_eq!(pages(&cluster, &process), if cluster.streams() { 0.0 } else { 4.0 });
        connecting(&cluster).await;
        imported(&cluster).await;
        forbidden(&cluster, if cluster.streams() { "watch" } else { "list" }).await;
    });
}

#[test]
fn a_cluster_is_listed_in_pages_and_watched() {
    beside(async |program| {
        let more = ["--feature-gates=WatchList=false"];
        let mut cluster = Cluster::start(program, "real-pages", &more).await;
        fill(&cluster).await;
        for number in 0..600 {
            let ends = json!([{"addresses": [format!("10.2.{}.{}", number / 200, number % 200)]}]);
            let name = format!("many-{number}");
            cluster.create("endpointslices", slice("web", &name, "IPv4", ends)).await;
        }
        let config = corefile(&cluster.kubeconfig("account"));
        let process = Process::with(&folder("real-pages-server"), &config);
        is_listed(&process).await;
        let slices = "corelane_kubernetes_objects{kind=\"endpointslices\"}";
        until("all pages are there", || process.metric(slices) >= Some(602.0)).await;
        // One each, but two for the slices.
        assert_eq!(pages(&cluster, &process), 5.0);
        is_watched(&cluster, &process).await;
        forbidden(&cluster, "list").await;
        away(&mut cluster, &process).await;
    });
}

/// Another account, another authority, another name.
async fn connecting(cluster: &Cluster) {
    let start = |name: &str, host: &str, ca: &str| {
        let config = corefile(&cluster.kubeconfig_of(name, host, ca));
        Process::with(&folder(&format!("real-{name}-{host}-{ca}")), &config)
    };
    let process = start("account", "127.0.0.1", "other.crt");
    process.says("x509: certificate signed by unknown authority").await;
    process.answers(WEB, ServFail, &[], &[14]).await;
    let ours = std::fs::read(cluster.folder.join("ca.crt")).expect("a file");
    std::fs::write(cluster.folder.join("other.crt"), ours).expect("a file");
    process.answers(WEB, NoError, &["10.96.0.50"], &[]).await;

    let process = start("account", "localhost", "ca.crt");
    process.says("is valid for 127.0.0.1, kubernetes.default.svc, not localhost").await;

    std::fs::write(cluster.folder.join("stale"), "of.no.account").expect("a file");
    let process = start("stale", "127.0.0.1", "ca.crt");
    process.says("401 Unauthorized: the token is stale").await;
    process.answers(WEB, ServFail, &[], &[14]).await;
    cluster.token("stale").await;
    process.answers(WEB, NoError, &["10.96.0.50"], &[]).await;
}

/// Services of a cluster set: before what defines them is installed, and after.
async fn imported(cluster: &Cluster) {
    let rule = |group: &str, resources: &[&str]| {
        let verbs = ["list", "watch"];
        json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
    };
    let rules = json!({"rules": [rule("", &["services", "pods", "namespaces"]),
        rule("discovery.k8s.io", &["endpointslices"]),
        rule("multicluster.x-k8s.io", &["serviceimports"])]});
    cluster.change("clusterroles", "", "system:coredns", rules).await;
    let config = corefile(&cluster.kubeconfig("account"));
    let zones = "kubernetes cluster.local clusterset.local in-addr.arpa";
    let config = config.replace("kubernetes cluster.local in-addr.arpa", zones);
    let config = config.replace("pods verified", "multicluster clusterset.local");
    let process = Process::with(&folder("real-imported"), &config);
    process.says("(ServiceImport of multicluster.x-k8s.io is not installed)").await;
    process.answers(WEB, NoError, &["10.96.0.50"], &[]).await;
    cluster.define_imports().await;
    let import = json!({"apiVersion": "multicluster.x-k8s.io/v1alpha1", "kind": "ServiceImport",
        "metadata": {"name": "far", "namespace": "shop"}, "spec": {"type": "ClusterSetIP",
            "ips": ["10.97.0.1"], "ports": [port("http", 80)]}});
    cluster.create("serviceimports", import).await;
    process.answers("far.shop.svc.clusterset.local.", NoError, &["10.97.0.1"], &[]).await;
    cluster.delete("serviceimports", "shop", "far").await;
    process.answers("far.shop.svc.clusterset.local.", NXDomain, &[], &[]).await;
}

/// A role without a verb for slices: they are missing, the rest is there, and it comes by itself.
async fn forbidden(cluster: &Cluster, verb: &str) {
    let rules = |verbs: &[&str]| {
        json!({"rules": [
            {"apiGroups": [""], "resources": ["services", "pods", "namespaces"],
                "verbs": ["list", "watch"]},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": verbs}]})
    };
    let other = if verb == "list" { "watch" } else { "list" };
    cluster.change("clusterroles", "", "system:coredns", rules(&[other])).await;
    let config = corefile(&cluster.kubeconfig("account"));
    let process = Process::with(&folder(&format!("real-no-{verb}")), &config);
    let denied = format!(
        "failed to {verb} endpointslices: 403 Forbidden: endpointslices.discovery.k8s.io is \
         forbidden: User \"system:serviceaccount:kube-system:coredns\" cannot {verb} resource"
    );
    process.says(&denied).await;
    let lacks = format!(
        "(the role lacks verb \"{verb}\" for resource \"endpointslices\" in API group \
         \"discovery.k8s.io\")"
    );
    process.says(&lacks).await;
    process.answers(WEB, NoError, &["10.96.0.50"], &[]).await;
    process.answers(SETS, ServFail, &[], &[14]).await;
    cluster.change("clusterroles", "", "system:coredns", rules(&["list", "watch"])).await;
    process.answers(SETS, NoError, &["10.1.0.2"], &[]).await;
}

/// The API server goes, history is lost, the token ends, and it comes back.
async fn away(cluster: &mut Cluster, process: &Process) {
    // Tokens are of an account: they end with it.
    cluster.delete("serviceaccounts", "kube-system", "coredns").await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "coredns", "namespace": "kube-system"}});
    cluster.create("serviceaccounts", account).await;
    cluster.create("services", service("later", &["10.96.0.52"])).await;
    process.gives(LATER, A, NoError, &["A 10.96.0.52"]).await;
    cluster.stop();
    process.says("connect: connection refused").await;
    process.gives(WEB, A, NoError, &["A 10.96.0.50"]).await;
    cluster.lose("services/specs/shop/later");
    cluster.resume().await;
    process.says("401 Unauthorized: the token is stale").await;
    process.gives(LATER, A, NoError, &["A 10.96.0.52"]).await;
    cluster.token("account").await;
    process.gives(LATER, A, NXDomain, &[]).await;
    let gone = "corelane_kubernetes_lists_total{kind=\"services\",reason=\"gone\"}";
    assert_eq!(process.metric(gone), Some(1.0), "{}", process.output());
    cluster.create("services", service("later", &["10.96.0.53"])).await;
    process.gives(LATER, A, NoError, &["A 10.96.0.53"]).await;
    assert!(!process.output().contains("another history"), "{}", process.output());
}

#[test]
fn the_job_of_a_load_test_may_read_what_its_queries_are_made_of() {
    beside(async |program| {
        let cluster = Cluster::start(program, "job", &[]).await;
        fill(&cluster).await;
        cluster.apply("loadtest/job.yaml").await;
        cluster.token_of("job", "dns-loadtest", "dns-loadtest").await;
        let queries = async |more: &[&str]| {
            let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_corelane"));
            command.args(["queries", "--kubeconfig"]).arg(cluster.kubeconfig("job")).args(more);
            let output = command.output().await.expect("a process");
            assert!(output.status.success(), "{output:?}");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let inside = queries(&[]).await;
        for line in [
            "web.shop.svc.cluster.local AAAA",
            "_http._tcp.web.shop.svc.cluster.local SRV",
            "50.0.96.10.in-addr.arpa PTR",
            "one.sets.shop.svc.cluster.local A",
        ] {
            assert!(inside.lines().any(|one| one == line), "no {line}: {inside}");
        }
        let outside = queries(&["--outside", "example.com"]).await;
        let line = "example.com.shop.svc.cluster.local A";
        assert!(outside.lines().any(|one| one == line), "{outside}");
    });
}
