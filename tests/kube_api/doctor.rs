//! `corelane doctor` beside an API server, each trouble by itself.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

use std::io::{Read as _, Write as _};

use serde_json::{Value, json};
use tokio::process::Command;

use super::certs::Authority;
use super::server::{Fault, Server};
use super::{folder, run, service};

const SERVICE: &str = "/api/v1/namespaces/kube-system/services/kube-dns";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices";
const PODS: &str = "/api/v1/namespaces/kube-system/pods";
const KUBELET: &str = "/api/v1/nodes/node-1/proxy/configz";
const CONFIG: &str = "/api/v1/namespaces/kube-system/configmaps/coredns";
const POD: &str = "/api/v1/namespaces/shop/pods/web";

/// A DNS server of two sockets that answers every question with this rcode, by TCP if it does that.
fn dns(rcode: u8, has_tcp: bool) -> SocketAddr {
    let (udp, tcp) = loop {
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
        // The same port by TCP may be taken.
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().expect("bound")) {
            break (udp, tcp);
        }
    };
    let address = udp.local_addr().expect("bound");
    let reply = move |query: &[u8]| {
        let mut reply = query.to_vec();
        reply[2] |= 0x80;
        reply[3] = rcode;
        reply
    };
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((len, client)) = udp.recv_from(&mut query) {
            let _ = udp.send_to(&reply(&query[..len]), client);
        }
    });
    if has_tcp {
        std::thread::spawn(move || {
            for mut stream in tcp.incoming().flatten() {
                let mut query = [0; 512];
                let Ok(len @ 3..) = stream.read(&mut query) else { continue };
                let reply = reply(&query[2..len]);
                let _ =
                    stream.write_all(&[&(reply.len() as u16).to_be_bytes()[..], &reply].concat());
            }
        });
    }
    address
}

fn corefile(upstream: impl std::fmt::Display) -> Value {
    let text = format!(
        ".:53 {{\n  kubernetes cluster.local in-addr.arpa\n  forward . {upstream}\n  cache 30\n}}\n"
    );
    json!({"data": {"Corefile": text}})
}

fn slice(endpoints: &[SocketAddr], ready: bool) -> Value {
    let slice = |at: &SocketAddr| {
        json!({"ports": [{"name": "dns", "port": at.port(), "protocol": "UDP"}],
            "endpoints": [{"addresses": [at.ip()], "conditions": {"ready": ready}}]})
    };
    json!({"items": endpoints.iter().map(slice).collect::<Vec<_>>()})
}

fn pods(status: Value) -> Value {
    json!({"items": [{"metadata": {"name": "coredns-1"}, "spec": {"serviceAccountName": "coredns"},
        "status": status}]})
}

/// A cluster in which nothing is wrong.
async fn healthy() -> Server {
    let server = Server::start().await;
    let endpoint = dns(0, true);
    server.at("/version", json!({"gitVersion": "v1.33.1"}));
    server.at("/api/v1/nodes", json!({"items": [{"metadata": {"name": "node-1"}}]}));
    let port = |protocol: &str| json!({"port": 53, "protocol": protocol});
    server.at(
        SERVICE,
        json!({"spec": {"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"],
            "ports": [port("UDP"), port("TCP")], "selector": {"k8s-app": "kube-dns"}}}),
    );
    server.at(KUBELET, kubelet("10.96.0.10"));
    server.at(SLICES, slice(&[endpoint], true));
    server.at(PODS, pods(json!({})));
    server.at(CONFIG, corefile(endpoint));
    server.at(POD, pod(json!({"dnsPolicy": "ClusterFirst"})));
    server
}

fn kubelet(dns: &str) -> Value {
    json!({"kubeletconfig": {"clusterDNS": [dns], "clusterDomain": "cluster.local",
        "resolvConf": "/etc/resolv.conf"}})
}

fn pod(mut spec: Value) -> Value {
    spec["nodeName"] = "node-1".into();
    json!({"metadata": {"namespace": "shop", "name": "web"}, "spec": spec,
        "status": {"phase": "Running"}})
}

/// What the doctor prints, and its status.
async fn doctor(args: &[&str]) -> (String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    let output = command.arg("doctor").args(args).output().await.expect("a process");
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let said = text(&output.stdout) + &text(&output.stderr);
    (said, output.status.code().expect("no signal ended it"))
}

/// Says the cause and the remedy, at the end, and nothing of what would follow from it.
#[track_caller]
fn stops_at(found: &(String, i32), look: &str, what: &str, remedy: &str) {
    let (said, status) = found;
    let lines: Vec<&str> = said.lines().collect();
    let [.., cause, advice] = &lines[..] else { panic!("{said}") };
    assert!(cause.starts_with(&format!("cause {look}: ")) && cause.contains(what), "{said}");
    assert!(advice.starts_with("      remedy: ") && advice.contains(remedy), "{said}");
    assert_eq!(*status, 1, "{said}");
}

#[test]
fn a_healthy_cluster_is_found_well() {
    run(async {
        let server = healthy().await;
        let (said, status) = doctor(&["--endpoint", &server.url(), "shop/web"]).await;
        assert_eq!(status, 0, "{said}");
        assert!(!said.contains("cause ") && !said.contains("note "), "{said}");
        for line in [
            "ok    API server: answers, version v1.33.1",
            "ok    pod: shop/web is Running on node-1",
            "ok    Service: kube-dns has 10.96.0.10, port 53 by UDP and TCP",
            "ok    kubelet: node-1 gives pods 10.96.0.10 and cluster.local",
            "ok    resolv.conf: nameserver 10.96.0.10, search shop.svc.cluster.local \
             svc.cluster.local cluster.local, ndots 5",
            "ok    ConfigMap: the Corefile of coredns is valid",
            "ok    RBAC: all 6 verbs are granted",
        ] {
            assert!(said.lines().any(|one| one == line), "{line}\n{said}");
        }
        assert!(said.contains("answers kubernetes.default.svc.cluster.local. by UDP and TCP"));
        let end = "nothing is wrong with: API server, pod, Service, kubelet, resolv.conf, \
                   endpoints, ConfigMap, RBAC, questions, upstreams\n";
        assert!(said.ends_with(end), "{said}");
        let reviews = server.requests();
        let of_account = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        assert_eq!(reviews.iter().filter(|one| *one == of_account).count(), 6);
        let (json, _) = doctor(&["--endpoint", &server.url(), "--json"]).await;
        let found: Value = serde_json::from_str(&json).expect("JSON");
        assert!(found.as_array().is_some_and(|all| all.iter().all(|one| one["verdict"] == "ok")));
    });
}

/// What breaks a healthy cluster; where the doctor stops, with what cause and what remedy.
type Trouble = (fn(&Server), &'static str, &'static str, &'static str);

fn each(troubles: &[Trouble]) {
    for (break_it, look, what, remedy) in troubles {
        run(async {
            let server = healthy().await;
            break_it(&server);
            let found = doctor(&["--endpoint", &server.url()]).await;
            stops_at(&found, look, what, remedy);
        });
    }
}

#[test]
fn services_and_kubelets_that_do_not_agree() {
    each(&[
        (
            |server| server.at(KUBELET, kubelet("10.0.0.99")),
            "kubelet",
            "clusterDNS 10.0.0.99, and the Service has 10.96.0.10",
            "clusterDNS in the kubelet's configuration",
        ),
        (
            |server| {
                server.forget(SERVICE);
                server.fault("kube-dns", "list", Fault::Status(404, None));
            },
            "Service",
            "no Service kube-dns in namespace kube-system",
            "deploy/kubernetes",
        ),
        (
            |server| {
                let ports = json!([{"port": 53, "protocol": "UDP"}]);
                server.at(SERVICE, json!({"spec": {"clusterIP": "10.96.0.10", "ports": ports}}));
            },
            "Service",
            "no port 53 by TCP",
            "protocol: TCP",
        ),
        (
            |server| {
                server.at(SERVICE, json!({"spec": {"clusterIP": "None"}}));
            },
            "Service",
            "no cluster IP",
            "clusterIP",
        ),
    ]);
}

#[test]
fn endpoints_that_are_not_there() {
    each(&[
        (
            |server| {
                server.at(SLICES, json!({"items": []}));
                server.at(PODS, json!({"items": []}));
            },
            "endpoints",
            "has the labels k8s-app=kube-dns",
            "get deployments",
        ),
        (
            |server| {
                server.at(SLICES, slice(&["127.0.0.1:53".parse().expect("an address")], false));
            },
            "endpoints",
            "no endpoint that is ready",
            "/ready",
        ),
        (
            |server| {
                server.at(SLICES, json!({"items": []}));
                let state = json!({"waiting": {"reason": "CrashLoopBackOff"}});
                server.at(PODS, pods(json!({"containerStatuses": [{"state": state}]})));
                let log = "[INFO] x\n[FATAL] plugin/loop: Loop (127.0.0.1:1 -> :53) detected\n";
                server.at("/api/v1/namespaces/kube-system/pods/coredns-1/log", log);
            },
            "endpoints",
            "its questions come back to it: [FATAL] plugin/loop: Loop (127.0.0.1:1",
            "let `forward` name real servers",
        ),
        (
            |server| {
                server.at(SLICES, json!({"items": []}));
                let last = json!({"terminated": {"reason": "OOMKilled"}});
                server.at(PODS, pods(json!({"containerStatuses": [{"lastState": last}]})));
            },
            "endpoints",
            "killed for want of memory",
            "memory limit",
        ),
        (
            |server| {
                server.at(SLICES, json!({"items": []}));
                let state = json!({"waiting": {"reason": "ImagePullBackOff", "message": "no x:1"}});
                server.at(PODS, pods(json!({"containerStatuses": [{"state": state}]})));
            },
            "endpoints",
            "coredns-1 does not start: ImagePullBackOff no x:1",
            "describe pod coredns-1",
        ),
        (
            |server| {
                server.at(SLICES, json!({"items": []}));
                let condition = json!({"type": "PodScheduled", "status": "False",
                    "message": "0/1 nodes are available"});
                server.at(PODS, pods(json!({"conditions": [condition]})));
            },
            "endpoints",
            "coredns-1 is on no node: 0/1 nodes are available",
            "make room",
        ),
    ]);
}

#[test]
fn corefiles_and_rights() {
    each(&[
        (
            |server| server.at(CONFIG, json!({"data": {"Corefile": ". {\n  cahce\n}\n"}})),
            "ConfigMap",
            "Corefile:2:3: Unknown directive 'cahce' (did you mean \"cache\"?)",
            "edit configmap coredns",
        ),
        (
            |server| {
                server.at(CONFIG, json!({"data": {"Corefile": ". {\n kubernetes k.test\n}\n"}}))
            },
            "ConfigMap",
            "pods ask for names in cluster.local, `kubernetes` serves k.test",
            "agree",
        ),
        (
            |server| server.at(CONFIG, json!({"data": {"Corefile": ". {\n whoami\n}\n"}})),
            "ConfigMap",
            "the Corefile has no `kubernetes`",
            "add: kubernetes cluster.local in-addr.arpa ip6.arpa",
        ),
        (
            |server| server.at(CONFIG, json!({"data": {"corefile": ""}})),
            "ConfigMap",
            "the ConfigMap coredns has no Corefile",
            "add the key Corefile",
        ),
        (
            |server| {
                server.forget(CONFIG);
                server.fault("coredns", "list", Fault::Status(404, None));
            },
            "ConfigMap",
            "there is no ConfigMap coredns in namespace kube-system",
            "--config-map",
        ),
        (
            |server| server.at(CONFIG, corefile("10.96.0.10:53")),
            "ConfigMap",
            "`forward` names 10.96.0.10:53, the Service of these very pods: a loop",
            "outside of the cluster",
        ),
        (
            |server| {
                server.at(CONFIG, corefile("/etc/resolv.conf"));
                let spec = json!({"dnsPolicy": "ClusterFirst", "serviceAccountName": "coredns"});
                let pod = json!({"metadata": {"name": "coredns-1"}, "spec": spec});
                server.at(PODS, json!({"items": [pod]}));
            },
            "ConfigMap",
            "coredns-1 has the cluster's resolv.conf, which `forward` reads: it asks itself",
            "dnsPolicy: Default",
        ),
        (
            |server| server.deny("watch", "endpointslices"),
            "RBAC",
            "kube-system:coredns may not watch endpointslices.discovery.k8s.io",
            "system:coredns",
        ),
    ]);
}

#[test]
fn servers_that_do_not_answer() {
    each(&[
        (
            |server| server.at(SLICES, slice(&[dns(2, true)], true)),
            "questions",
            "by UDP, asked for kubernetes.default.svc.cluster.local., answers SERVFAIL",
            "not in sync with the API server",
        ),
        (
            |server| server.at(SLICES, slice(&[dns(3, true)], true)),
            "questions",
            "answers NXDOMAIN",
            "clusterDomain",
        ),
        (
            |server| {
                // Closed, after the address was free.
                let closed = UdpSocket::bind("127.0.0.1:0").and_then(|one| one.local_addr());
                server.at(SLICES, slice(&[dns(0, true), closed.expect("bound")], true));
            },
            "questions",
            "by UDP, asked for kubernetes.default.svc.cluster.local., gives no answer",
            "NetworkPolicies",
        ),
        (
            |server| server.at(SLICES, slice(&[dns(0, false)], true)),
            "questions",
            "by TCP, asked for kubernetes.default.svc.cluster.local., gives no answer",
            "by TCP is open",
        ),
        (
            |server| server.at(SLICES, slice(&[dns(5, true)], true)),
            "questions",
            "answers REFUSED",
            "corelane explain",
        ),
        (
            |server| {
                let closed = UdpSocket::bind("127.0.0.1:0").and_then(|one| one.local_addr());
                server.at(CONFIG, corefile(closed.expect("bound")));
            },
            "upstreams",
            "gives no answer",
            "forward",
        ),
    ]);
}

#[test]
fn each_trouble_of_a_pod_has_its_remedy() {
    let own = json!({"nameservers": ["192.0.2.1"]});
    for (spec, what, remedy) in [
        (
            json!({"dnsPolicy": "ClusterFirst", "hostNetwork": true}),
            "it is on the host's network, where dnsPolicy ClusterFirst means Default",
            "ClusterFirstWithHostNet",
        ),
        (json!({"dnsPolicy": "Default"}), "its dnsPolicy is Default", "dnsPolicy: ClusterFirst"),
        (
            json!({"dnsPolicy": "None", "dnsConfig": own}),
            "the pod asks 192.0.2.1, not the cluster's DNS",
            "add 10.96.0.10 to dnsConfig.nameservers",
        ),
    ] {
        run(async {
            let server = healthy().await;
            server.at(POD, pod(spec));
            let found = doctor(&["--endpoint", &server.url(), "shop/web"]).await;
            stops_at(&found, "resolv.conf", what, remedy);
        });
    }
    run(async {
        let server = healthy().await;
        let options = json!({"options": [{"name": "ndots", "value": "1"}]});
        server.at(POD, pod(json!({"dnsPolicy": "ClusterFirst", "dnsConfig": options})));
        let (said, status) = doctor(&["--endpoint", &server.url(), "shop/web"]).await;
        assert!(status == 0 && said.contains("note  resolv.conf: ndots is 1"), "{said}");
    });
}

#[test]
fn a_namespace_may_be_a_top_level_domain() {
    run(async {
        let server = healthy().await;
        server.put("namespaces", json!({"metadata": {"name": "com"}}));
        let (said, status) = doctor(&["--endpoint", &server.url()]).await;
        let note = "note  namespaces: namespace com is a top-level domain, too";
        assert!(status == 0 && said.contains(note), "{said}");
    });
}

#[test]
fn a_node_s_resolv_conf_may_lead_back() {
    run(async {
        let (server, folder) = (healthy().await, folder("doctor-loop"));
        let file = folder.join("resolv.conf");
        let path = file.to_string_lossy().into_owned();
        for (text, loops) in [
            ("nameserver 127.0.0.53\n", true),
            ("search a\nnameserver 10.96.0.10\n", true),
            ("nameserver 192.0.2.1\n", false),
        ] {
            std::fs::write(&file, text).expect("a file");
            let found = doctor(&["--endpoint", &server.url(), "--resolv-conf", &path]).await;
            match loops {
                true => stops_at(&found, "node", "a loop", "/run/systemd/resolve/resolv.conf"),
                false => assert!(found.0.contains("leads to no loop"), "{}", found.0),
            }
        }
        // Whoever the node asks is an upstream of those that read its file.
        server.at(CONFIG, corefile("/etc/resolv.conf"));
        std::fs::write(&file, "nameserver 192.0.2.1\n").expect("a file");
        let found = doctor(&["--endpoint", &server.url(), "--resolv-conf", &path]).await;
        stops_at(&found, "upstreams", "the upstream 192.0.2.1:53 gives no answer", "`forward`");
        // What the kubelet says may not be seen: the file is looked at all the same.
        server.fault("configz", "list", Fault::Status(403, None));
        server.forget(KUBELET);
        std::fs::write(&file, "nameserver 127.0.0.53\n").expect("a file");
        let found = doctor(&["--endpoint", &server.url(), "--resolv-conf", &path]).await;
        stops_at(&found, "node", "a loop", "it is unset");
    });
}

#[test]
fn what_may_not_be_seen_is_said_and_passed_over() {
    run(async {
        let server = healthy().await;
        for plural in ["subjectaccessreviews", "nodes"] {
            server.fault(plural, "list", Fault::Status(403, None));
        }
        server.forget("/api/v1/nodes");
        let (said, status) = doctor(&["--endpoint", &server.url()]).await;
        assert_eq!(status, 0, "{said}");
        for line in ["note  kubelet: not looked at: ", "note  RBAC: not looked at: "] {
            assert!(said.lines().any(|one| one.starts_with(line)), "{line}\n{said}");
        }
        let end = "nothing is wrong with: API server, Service, endpoints, ConfigMap, questions, \
                   upstreams\n";
        assert!(said.ends_with(end), "{said}");
        server.fault("gone", "list", Fault::Status(404, None));
        let found = doctor(&["--endpoint", &server.url(), "shop/gone"]).await;
        stops_at(&found, "pod", "there is no pod gone in namespace shop", "-n shop get pods");
    });
}

/// A kubeconfig of a server with a certificate.
fn kubeconfig(folder: &Path, server: &Server, ca: &str, token: &str) -> String {
    std::fs::write(folder.join("ca.crt"), ca).expect("a file");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: main\n\
         clusters: [{{name: c, cluster: {{server: '{}', certificate-authority: ca.crt}}}}]\n\
         users: [{{name: u, user: {{token: {token}}}}}]\n\
         contexts: [{{name: main, context: {{cluster: c, user: u}}}}]\n",
        server.url(),
    );
    let file = folder.join("kubeconfig");
    std::fs::write(&file, text).expect("a file");
    file.to_string_lossy().into_owned()
}

#[test]
fn what_stands_between_us_and_the_api_server() {
    run(async {
        let folder = folder("doctor-api");
        let (ours, other) = (Authority::new(), Authority::new());
        for (names, last_year, ca, token, what, remedy) in [
            (
                &["localhost", "kubernetes.default.svc"][..],
                2120,
                &ours,
                "good",
                "is valid for localhost, kubernetes.default.svc, not 127.0.0.1",
                "certSANs",
            ),
            (&["127.0.0.1"], 2120, &other, "good", "unknown authority", "authority"),
            (&["127.0.0.1"], 2021, &ours, "good", "has expired", "renew"),
            (&["127.0.0.1"], 2120, &ours, "bad", "401 Unauthorized", "credentials"),
        ] {
            let server = Server::with_tls(Some(ours.identity(names, last_year).config(&[]))).await;
            server.token("good");
            let file = kubeconfig(&folder, &server, &ca.pem, token);
            let found = doctor(&["--kubeconfig", &file]).await;
            stops_at(&found, "API server", what, remedy);
        }
        let server = Server::start().await;
        server.stop();
        let found = doctor(&["--endpoint", &server.url()]).await;
        stops_at(&found, "API server", "connection refused", "the API server runs");
        let found = doctor(&["--kubeconfig", "no-such-file"]).await;
        stops_at(&found, "API server", "no-such-file", "--kubeconfig");
    });
}

#[test]
fn explain_answers_from_the_cluster_of_a_corefile() {
    run(async {
        let server = Server::start().await;
        server.put("namespaces", json!({"metadata": {"name": "shop"}}));
        server.put("services", service("web", "10.96.0.1"));
        let corefile = folder("explain-cluster").join("Corefile");
        let text = format!(
            ". {{\n kubernetes cluster.local {{\n  endpoint {}\n  pods insecure\n }}\n}}\n",
            server.url()
        );
        std::fs::write(&corefile, text).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        let command = command.args(["explain", "web.shop.svc.cluster.local", "--corefile"]);
        let output = command.arg(&corefile).output().await.expect("a process");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("kubernetes     answers NOERROR, 1 record ("), "{said}");
        assert!(said.ends_with("web.shop.svc.cluster.local. 5 A 10.96.0.1\n"), "{said}");
    });
}

#[test]
fn explain_asks_as_a_pod_does() {
    run(async {
        let server = healthy().await;
        let mut object = pod(json!({"dnsPolicy": "ClusterFirst"}));
        object["status"]["podIP"] = "10.1.0.7".into();
        server.at(POD, object);
        let corefile = folder("explain-pod").join("Corefile");
        let text = ". {\n hosts {\n  10.96.0.1 db.shop.svc.cluster.local\n }\n}\n";
        std::fs::write(&corefile, text).expect("a file");
        let path = corefile.to_string_lossy().into_owned();
        let explain = |name: &'static str| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
            let args = ["explain", name, "A", "--pod", "shop/web", "--corefile", &path];
            command.args(args).args(["--endpoint", &server.url()]);
            async move { command.output().await.expect("a process") }
        };
        let output = explain("db").await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.starts_with("db.shop.svc.cluster.local. A from 10.1.0.7:40000"), "{said}");
        assert!(
            said.contains("\nmusl asks for\n  db.shop.svc.cluster.local. (answered)\n"),
            "{said}"
        );
        // Each policy: what its resolver asks for, or that it does not ask here.
        let own = json!({"nameservers": ["192.0.2.1"], "searches": ["shop.svc.cluster.local"]});
        for (spec, words) in [
            (json!({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true}), "ndots 5\n"),
            (
                json!({"dnsPolicy": "None", "dnsConfig": own}),
                "\nresolv.conf: nameserver 192.0.2.1, search shop.svc.cluster.local, ndots 1\n",
            ),
            (
                json!({"dnsPolicy": "ClusterFirst", "dnsConfig":
                    {"options": [{"name": "ndots", "value": "2"}]}}),
                ", ndots 2\n",
            ),
            (
                json!({"dnsPolicy": "ClusterFirst", "hostNetwork": true}),
                "explain: shop/web asks what its node asks, not this server: it is on the host's",
            ),
            (
                json!({"dnsPolicy": "Default"}),
                "explain: shop/web asks what its node asks, not this server: its dnsPolicy",
            ),
        ] {
            server.at(POD, pod(spec));
            let output = explain("db").await;
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            assert!(said.contains(words), "{words}: {said}");
        }
    });
}
