//! The whole server beside an API server: what is asked over real sockets while the cluster changes,
//! while the API server is away, and over restarts and reloads.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use serde_json::json;

use super::process::{Process, corefile};
use super::server::Server;
use super::{folder, run, service, until};

fn endpoint(server: &Server) -> String {
    format!("        endpoint {}", server.url())
}

async fn cluster() -> Server {
    let server = Server::start().await;
    server.put("namespaces", json!({"metadata": {"name": "shop"}}));
    server.put("services", service("web", "10.96.0.1"));
    server
}

const WEB: &str = "web.shop.svc.cluster.local.";
const NEW: &str = "new.shop.svc.cluster.local.";
use ResponseCode::{NXDomain, NoError, ServFail};

#[test]
fn what_changes_is_answered() {
    run(async {
        let server = cluster().await;
        let process = Process::start(&folder("changes"), &endpoint(&server));
        process.answers(WEB, NoError, &["10.96.0.1"], &[]).await;
        process.answers(NEW, NXDomain, &[], &[]).await;
        server.put("services", service("new", "10.96.0.2"));
        process.answers(NEW, NoError, &["10.96.0.2"], &[]).await;
        server.delete("services", "shop", "web");
        process.answers(WEB, NXDomain, &[], &[]).await;
        server.put(
            "services",
            json!({"metadata": {"name": "web", "namespace": "shop"},
            "spec": {"clusterIP": "None"}}),
        );
        let slice = |addresses: &[&str]| {
            let ends: Vec<_> = addresses.iter().map(|one| json!({"addresses": [one]})).collect();
            json!({"metadata": {"name": "web-1", "namespace": "shop",
                "labels": {"kubernetes.io/service-name": "web"}},
                "addressType": "IPv4", "endpoints": ends})
        };
        server.put("endpointslices", slice(&["10.1.0.1"]));
        process.answers(WEB, NoError, &["10.1.0.1"], &[]).await;
        server.put("endpointslices", slice(&["10.1.0.2"]));
        process.answers(WEB, NoError, &["10.1.0.2"], &[]).await;
    });
}

#[test]
fn endpoints_that_move_between_slices_leave_no_gap() {
    run(async {
        let server = cluster().await;
        server.put(
            "services",
            json!({"metadata": {"name": "web", "namespace": "shop"},
                "spec": {"clusterIP": "None"}}),
        );
        // One endpoint is always in one slice at least; each slice has another one besides.
        let slice = |name: &str, last: u8| {
            let own = format!("10.1.0.{last}");
            json!({"metadata": {"name": name, "namespace": "shop",
                "labels": {"kubernetes.io/service-name": "web"}}, "addressType": "IPv4",
                "endpoints": [{"addresses": [own]},
                    {"addresses": ["10.1.0.9"], "hostname": "nine"}]})
        };
        server.put("endpointslices", slice("one", 1));
        let process = Arc::new(Process::start(&folder("moving"), &endpoint(&server)));
        let is_over = Arc::new(AtomicBool::new(false));
        process.answers("nine.web.shop.svc.cluster.local.", NoError, &["10.1.0.9"], &[]).await;
        let asking = {
            let (process, is_over) = (Arc::clone(&process), Arc::clone(&is_over));
            std::thread::spawn(move || {
                let mut met = BTreeSet::new();
                while !is_over.load(Relaxed) {
                    let (rcode, mut addresses, _) = process.ask(WEB).expect("an answer");
                    addresses.sort();
                    let last: Vec<u8> = addresses.iter().map(|one| one.octets()[3]).collect();
                    let whole: [&[u8]; 5] = [&[1, 9], &[2, 9], &[3, 9], &[1, 3, 9], &[2, 3, 9]];
                    assert!(rcode == NoError && whole.contains(&&*last), "{rcode} {addresses:?}");
                    let nine = process.ask("nine.web.shop.svc.cluster.local.").expect("an answer");
                    assert_eq!((nine.0, nine.1.len()), (NoError, 1));
                    met.insert(last);
                }
                met
            })
        };
        let pause = || tokio::time::sleep(Duration::from_millis(10));
        for _ in 0..20 {
            server.put("endpointslices", slice("one", 2));
            pause().await;
            server.put("endpointslices", slice("two", 3));
            pause().await;
            server.delete("endpointslices", "shop", "one");
            pause().await;
            server.put("endpointslices", slice("one", 1));
            server.delete("endpointslices", "shop", "two");
            pause().await;
        }
        is_over.store(true, Relaxed);
        let met = asking.join().expect("no gap");
        assert!(met.len() > 2, "it was asked while they moved: {met:?}");
    });
}

#[test]
fn what_is_held_and_how_fresh_it_is_are_counted() {
    run(async {
        let server = cluster().await;
        let options =
            format!("{}\n    }}\n    prometheus 127.0.0.1:{{$METRICS}} {{", endpoint(&server));
        let process = Process::start(&folder("counted"), &options);
        process.answers(WEB, NoError, &["10.96.0.1"], &[]).await;
        let services = "corelane_kubernetes_objects{kind=\"services\"}";
        until("what was listed is counted", || process.metric(services) == Some(1.0)).await;
        let served = "corelane_kubernetes_event_to_served_seconds";
        assert_eq!(process.metric(&format!("{served}_count")), Some(0.0), "a list is no event");
        server.put("services", service("new", "10.96.0.2"));
        process.answers(NEW, NoError, &["10.96.0.2"], &[]).await;
        until("the event is counted", || process.metric(&format!("{served}_count")) == Some(1.0))
            .await;
        let middle = process.metric(&format!("{served}{{quantile=\"0.5\"}}"));
        assert!(middle.is_some_and(|seconds| seconds > 0.0), "{middle:?}");
        assert_eq!(process.metric(services), Some(2.0));
        assert!(process.metric("corelane_kubernetes_index_bytes{kind=\"services\"}") > Some(0.0));
        assert_eq!(process.metric("corelane_kubernetes_stale"), Some(0.0));
        let slice = json!({"metadata": {"name": "web-1", "namespace": "shop",
            "labels": {"kubernetes.io/service-name": "web"}, "annotations":
            {"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:00Z"}},
            "addressType": "IPv4", "endpoints": [{"addresses": ["10.1.0.1"]}]});
        let programmed = "coredns_kubernetes_dns_programming_duration_seconds_count\
                          {service_kind=\"cluster_ip\"}";
        server.put("endpointslices", slice.clone());
        until("the change is counted", || process.metric(programmed) == Some(1.0)).await;
        server.put("endpointslices", slice);
        server.delete("endpointslices", "shop", "web-1");
        until("only what changes is", || process.metric(programmed) == Some(2.0)).await;
    });
}

#[test]
fn a_lost_server_is_answered_for() {
    run(async {
        let server = cluster().await;
        let process = Process::start(&folder("lost"), &endpoint(&server));
        process.answers(WEB, NoError, &["10.96.0.1"], &[]).await;
        server.stop();
        let refused = || process.output().contains("connection refused");
        until("the server is told to be away", refused).await;
        process.answers(WEB, NoError, &["10.96.0.1"], &[]).await;
        process.answers(NEW, NXDomain, &[], &[]).await;
        server.put("services", service("new", "10.96.0.2"));
        server.resume().await;
        process.answers(NEW, NoError, &["10.96.0.2"], &[]).await;
    });
}

#[test]
fn a_restart_serves_what_was_known_and_says_so() {
    run(async {
        let server = cluster().await;
        let place = folder("restart");
        let options = format!("{}\n        corelane_state state", endpoint(&server));
        let mut process = Process::start(&place, &options);
        process.answers(WEB, NoError, &["10.96.0.1"], &[]).await;
        server.put("services", service("new", "10.96.0.2"));
        process.answers(NEW, NoError, &["10.96.0.2"], &[]).await;
        process.stop().await;
        server.stop();
        let process = Process::start(&place, &options);
        process.answers(WEB, NoError, &["10.96.0.1"], &[3]).await;
        process.answers(NEW, NoError, &["10.96.0.2"], &[3]).await;
        server.delete("services", "shop", "web");
        server.resume().await;
        process.answers(WEB, NXDomain, &[], &[]).await;
        process.answers(NEW, NoError, &["10.96.0.2"], &[]).await;
    });
}

#[test]
fn a_server_without_slices_is_told_to_be_too_old() {
    run(async {
        let server = cluster().await;
        server.lack("endpointslices");
        let options = format!("{}\n        startup_timeout 10ms", endpoint(&server));
        let process = Process::start(&folder("too-old"), &options);
        process.answers(WEB, NoError, &["10.96.0.1"], &[]).await;
        process.answers(NEW, ServFail, &[], &[14]).await;
        let words = "failed to watch endpointslices: 404 Not Found: 404 page not found (the server \
                     is older than Kubernetes 1.21, the first with EndpointSlice of \
                     discovery.k8s.io/v1)";
        process.says(words).await;
        let asked =
            || server.requests().iter().filter(|one| one.contains("/endpointslices?")).count();
        until("it is asked again and again", || asked() > 3).await;
        let said = process.output().matches(words).count();
        assert!(said < 3, "{said} lines for {} requests", asked());
    });
}

#[test]
fn without_a_state_nothing_is_known() {
    run(async {
        let server = cluster().await;
        server.stop();
        let options = format!("{}\n        startup_timeout 10ms", endpoint(&server));
        let process = Process::start(&folder("unknown"), &options);
        process.answers(WEB, ServFail, &[], &[14]).await;
        server.resume().await;
        process.answers(WEB, NoError, &["10.96.0.1"], &[]).await;
    });
}

#[test]
fn a_reload_keeps_the_watch_of_a_block_that_stays() {
    run(async {
        let server = cluster().await;
        let place = folder("reloaded");
        let process = Process::start(&place, &endpoint(&server));
        process.answers(WEB, NoError, &["10.96.0.1"], &[]).await;
        let asked = server.requests().len();
        let more = corefile(&endpoint(&server)) + "other {\n    bind 127.0.0.1\n    whoami\n}\n";
        std::fs::write(place.join("Corefile"), more).expect("a Corefile");
        process.signal("USR1");
        until("the Corefile is another", || process.output().contains("Reloading complete")).await;
        process.answers(WEB, NoError, &["10.96.0.1"], &[]).await;
        assert_eq!(server.requests().len(), asked, "nothing is listed or watched anew");
        server.put("services", service("new", "10.96.0.2"));
        process.answers(NEW, NoError, &["10.96.0.2"], &[]).await;
        // Another choice is another watch: the old one serves until it is there.
        let options = format!("{}\n        ttl 7", endpoint(&server));
        std::fs::write(place.join("Corefile"), corefile(&options)).expect("a Corefile");
        process.signal("USR1");
        let twice = || process.output().matches("Reloading complete").count() == 2;
        until("the Corefile is a third", || {
            let answer = process.ask(WEB).expect("an answer");
            assert_eq!(answer, (NoError, vec![Ipv4Addr::new(10, 96, 0, 1)], vec![]));
            twice()
        })
        .await;
        assert!(server.requests().len() > asked);
        process.answers(NEW, NoError, &["10.96.0.2"], &[]).await;
    });
}
