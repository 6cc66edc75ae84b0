//! Lists and watches, and what becomes of them.

use std::time::{Duration, Instant};

use corelane::cluster::object::{Kind, Object};
use corelane::control::kube::{Limits, Settings, Times};
use corelane::plugin::Ready;

use super::server::{End, Fault, Server, Streaming};
use super::{Client, run, service, settings, until};

/// A server with two services, and a client that is in sync with it.
async fn synced(streaming: Streaming) -> (Server, Client) {
    let server = Server::start().await;
    server.streaming(streaming);
    server.put("services", service("a", "10.96.0.1"));
    server.put("services", service("b", "10.96.0.2"));
    let client = Client::of(&server);
    client.synced().await;
    client.serves(&["shop/a", "shop/b"]).await;
    (server, client)
}

/// Requests for services that have this in their query.
fn asked(server: &Server, what: &str) -> Vec<String> {
    let all = server.requests().into_iter();
    all.filter(|target| target.contains("/services?") && target.contains(what)).collect()
}

#[test]
fn a_streaming_list_goes_over_into_its_watch() {
    run(async {
        let (server, client) = synced(Streaming::Yes).await;
        server.put("services", service("c", "10.96.0.3"));
        server.delete("services", "shop", "a");
        server.put("services", service("b", "10.96.0.9"));
        client.serves(&["shop/b", "shop/c"]).await;
        until("the change of b is there", || {
            let object = client.model.object(Kind::Services, "shop", "b");
            matches!(object, Some(Object::Service(b)) if &*b.spec.cluster_ip == "10.96.0.9")
        })
        .await;
        assert_eq!(asked(&server, "").len(), 1, "one request did it all");
        assert_eq!(client.counted("corelane_kubernetes_events_total{kind=\"services\"}"), 3.0);
    });
}

#[test]
fn without_streaming_lists_there_are_pages() {
    run(async {
        for how in [Streaming::Refused, Streaming::Error] {
            let server = Server::start().await;
            server.streaming(how);
            server.page(2);
            let names: Vec<String> = (0..5).map(|n| format!("s{n}")).collect();
            names.iter().for_each(|name| server.put("services", service(name, "10.0.0.1")));
            let client = Client::of(&server);
            client.synced().await;
            assert_eq!(client.model.names(Kind::Services).len(), 5, "{how:?}");
            server.put("services", service("new", "10.96.0.3"));
            until("the watch goes on from the list", || {
                client.model.object(Kind::Services, "shop", "new").is_some()
            })
            .await;
            assert_eq!(asked(&server, "limit=500").len(), 3);
            assert_eq!(asked(&server, "continue=").len(), 2);
            assert!(asked(&server, "resourceVersion=0").is_empty());
        }
    });
}

#[test]
fn a_server_that_does_not_know_streaming_lists_is_asked_for_pages() {
    run(async {
        let (server, _client) = synced(Streaming::Unknown).await;
        assert_eq!(asked(&server, "limit=500").len(), 1);
    });
}

#[test]
fn a_watch_is_taken_up_where_it_ended() {
    run(async {
        for how in [End::Close, End::Reset] {
            let (server, client) = synced(Streaming::Yes).await;
            server.put("services", service("c", "10.96.0.3"));
            client.serves(&["shop/a", "shop/b", "shop/c"]).await;
            server.end(how);
            server.put("services", service("d", "10.96.0.4"));
            server.delete("services", "shop", "a");
            client.serves(&["shop/b", "shop/c", "shop/d"]).await;
            assert_eq!(asked(&server, "resourceVersion=103"), asked(&server, "resourceVersion="));
            assert_eq!(client.model.lists(), 2, "nothing was listed again");
        }
    });
}

#[test]
fn bookmarks_move_the_place_to_take_up() {
    run(async {
        let (server, client) = synced(Streaming::Yes).await;
        server.put("pods", service("of-another-kind", ""));
        server.bookmark();
        server.expire();
        server.put("services", service("c", "10.96.0.3"));
        client.serves(&["shop/a", "shop/b", "shop/c"]).await;
        server.bookmark();
        server.end(End::Close);
        server.put("services", service("d", "10.96.0.4"));
        client.serves(&["shop/a", "shop/b", "shop/c", "shop/d"]).await;
        assert_eq!(client.model.lists(), 2, "no history was missing");
    });
}

#[test]
fn a_forgotten_history_means_a_new_list() {
    run(async {
        for how in [End::Gone, End::Close] {
            let (server, client) = synced(Streaming::Yes).await;
            server.delete_unseen("services", "shop", "a");
            server.put_unseen("services", service("c", "10.96.0.3"));
            server.expire();
            server.end(how);
            client.serves(&["shop/b", "shop/c"]).await;
            until("both kinds are listed again", || client.model.lists() == 4).await;
            let lists = "corelane_kubernetes_lists_total{kind=\"services\",reason=\"gone\"}";
            assert_eq!(client.counted(lists), 1.0);
        }
    });
}

#[test]
fn another_history_means_a_new_list() {
    run(async {
        let (server, client) = synced(Streaming::Refused).await;
        server.delete_unseen("services", "shop", "a");
        server.rewind();
        server.end(End::Reset);
        until("the watches are back", || server.watches() == 2).await;
        // The first event has a version that was over long ago.
        server.put("services", service("c", "10.96.0.3"));
        client.serves(&["shop/b", "shop/c"]).await;
        let lists = "corelane_kubernetes_lists_total{kind=\"services\",reason=\"new_history\"}";
        assert_eq!(client.counted(lists), 1.0);
    });
}

#[test]
fn another_history_is_seen_without_an_event_of_it() {
    run(async {
        let (server, client) = synced(Streaming::Yes).await;
        server.delete_unseen("services", "shop", "a");
        server.rewind();
        server.end(End::Reset);
        client.serves(&["shop/b"]).await;
        let lists = "corelane_kubernetes_lists_total{kind=\"services\",reason=\"new_history\"}";
        assert_eq!(client.counted(lists), 1.0);
        assert_eq!(asked(&server, "limit=1").len(), 1);
    });
}

#[test]
fn versions_that_the_server_never_reaches_mean_a_new_list() {
    run(async {
        let (server, client) = synced(Streaming::Yes).await;
        server.delete_unseen("services", "shop", "a");
        for _ in 0..3 {
            server.fault("services", "watch", Fault::TooNew);
        }
        server.end(End::Close);
        client.serves(&["shop/b"]).await;
        let lists = "corelane_kubernetes_lists_total{kind=\"services\",reason=\"new_history\"}";
        assert_eq!(client.counted(lists), 1.0);
    });
}

#[test]
fn a_busy_server_is_not_asked_for_everything() {
    run(async {
        let (server, client) = synced(Streaming::Yes).await;
        for _ in 0..6 {
            server.fault("services", "watch", Fault::Status(429, Some(0)));
        }
        server.end(End::Close);
        server.put("services", service("c", "10.96.0.3"));
        client.serves(&["shop/a", "shop/b", "shop/c"]).await;
        assert_eq!(client.model.lists(), 2, "the history was there all the time");
    });
}

#[test]
fn a_silent_watch_is_cut() {
    run(async {
        let server = Server::start().await;
        server.put("services", service("a", "10.96.0.1"));
        let times = Times { silence: Duration::from_millis(300), ..Times::default() };
        let client = Client::start(Settings { times, ..settings(&server.url()) });
        client.synced().await;
        server.end(End::Silence);
        server.put("services", service("b", "10.96.0.2"));
        client.serves(&["shop/a", "shop/b"]).await;
        let restarts =
            "corelane_kubernetes_watch_restarts_total{kind=\"services\",reason=\"silent\"}";
        assert!(client.counted(restarts) >= 1.0);
        assert_eq!(client.model.lists(), 2);
    });
}

#[test]
fn an_event_that_cannot_be_read_is_asked_for_again_and_then_left_out() {
    run(async {
        let (server, client) = synced(Streaming::Yes).await;
        server.raw("services", b"this is not json\n{\"type\":\"ADDED\",\"object\":{\"me\n");
        until("the watch is taken up", || asked(&server, "resourceVersion=102").len() == 1).await;
        until("it is there", || server.watches() == 2).await;
        server.raw("services", b"{\"type\":\"EXPLODED\",\"object\":{}}\n");
        server.raw("services", b"{\"type\":\"ADDED\",\"object\":{\"metadata\":\"no object\"}}\n");
        server.put("services", service("c", "10.96.0.3"));
        client.serves(&["shop/a", "shop/b", "shop/c"]).await;
        assert_eq!(
            asked(&server, "resourceVersion=").len(),
            1,
            "the second time it is passed over"
        );
        assert_eq!(client.counted("corelane_kubernetes_malformed_total{kind=\"services\"}"), 3.0);
    });
}

#[test]
fn an_object_that_cannot_be_read_hides_no_other() {
    run(async {
        for how in [Streaming::Yes, Streaming::Refused] {
            let server = Server::start().await;
            server.streaming(how);
            server.put("services", service("a", "10.96.0.1"));
            server.put(
                "services",
                serde_json::json!({"metadata": {"name": "bad", "namespace": "shop"}, "spec": 5}),
            );
            server.put("services", service("z", "10.96.0.3"));
            let client = Client::of(&server);
            client.serves(&["shop/a", "shop/z"]).await;
            client.synced().await;
        }
    });
}

#[test]
fn a_torn_or_slow_body_is_no_end() {
    run(async {
        let server = Server::start().await;
        server.streaming(Streaming::Refused);
        server.put("services", service("a", "10.96.0.1"));
        server.fault("services", "list", Fault::Torn(120));
        server.fault("services", "list", Fault::Slow);
        let client = Client::of(&server);
        client.serves(&["shop/a"]).await;
        client.synced().await;
        assert_eq!(asked(&server, "limit=500").len(), 2);
    });
}

#[test]
fn a_busy_server_says_when_to_come_back() {
    run(async {
        let server = Server::start().await;
        server.put("services", service("a", "10.96.0.1"));
        server.fault("services", "watch", Fault::Status(429, Some(1)));
        server.fault("services", "watch", Fault::Status(500, None));
        let began = tokio::time::Instant::now();
        let client = Client::of(&server);
        client.says("asked again after 1s").await;
        client.synced().await;
        assert!(began.elapsed() >= Duration::from_secs(1), "it was asked too early");
        assert_eq!(asked(&server, "").len(), 3);
        let host = server.address;
        let requests = |code| {
            format!(
                "coredns_kubernetes_rest_client_requests_total\
                 {{code=\"{code}\",method=\"GET\",host=\"{host}\"}}"
            )
        };
        assert_eq!(client.counted(&requests(429)), 1.0);
        assert_eq!(client.counted(&requests(500)), 1.0);
        assert_eq!(client.counted(&requests(200)), 2.0);
    });
}

#[test]
fn a_check_repairs_lost_events() {
    run(async {
        let server = Server::start().await;
        for name in ["a", "b", "c", "e"] {
            server.put("services", service(name, "10.96.0.1"));
        }
        let times = Times {
            check: Duration::from_millis(400),
            silence: Duration::from_millis(300),
            ..Times::default()
        };
        let client = Client::start(Settings { times, ..settings(&server.url()) });
        client.synced().await;
        server.put_unseen("services", service("a", "10.96.0.7"));
        server.put_unseen("services", service("d", "10.96.0.4"));
        server.delete_unseen("services", "shop", "b");
        server.delete_unseen("services", "shop", "e");
        client.serves(&["shop/a", "shop/c", "shop/d"]).await;
        let repaired = "corelane_kubernetes_repaired_total{kind=\"services\"}";
        // The two objects that were put, and the two that were swept.
        until("the repair is counted", || client.counted(repaired) == 4.0).await;
        let checks = client.counted("corelane_kubernetes_checks_total{kind=\"services\"}");
        until("another check finds nothing", || {
            client.counted("corelane_kubernetes_checks_total{kind=\"services\"}") > checks
        })
        .await;
        assert_eq!(client.counted(repaired), 4.0);
    });
}

#[test]
fn a_server_that_does_not_answer_is_asked_again() {
    run(async {
        let server = Server::start().await;
        server.put("services", service("a", "10.96.0.1"));
        server.fault("services", "watch", Fault::Hang);
        let times = Times { answer: Duration::from_millis(300), ..Times::default() };
        let client = Client::start(Settings { times, ..settings(&server.url()) });
        client.says("services: timed out: no answer").await;
        client.serves(&["shop/a"]).await;
        client.synced().await;
    });
}

#[test]
fn lists_wait_for_their_turns() {
    run(async {
        let server = Server::start().await;
        server.streaming(Streaming::Refused);
        server.page(1);
        for name in ["a", "b", "c", "d"] {
            server.put("services", service(name, "10.96.0.1"));
        }
        let limits = Limits { qps: 20.0, burst: 2, inflight: 1 };
        let kinds = vec![Kind::Services];
        let began = Instant::now();
        let client = Client::start(Settings { limits, kinds, ..settings(&server.url()) });
        client.synced().await;
        // Of four lists two are asked for at once, and two wait for a twentieth of a second each.
        assert!(began.elapsed() >= Duration::from_millis(100), "{:?}", began.elapsed());
        let waited = "coredns_kubernetes_rest_client_rate_limiter_duration_seconds";
        let of_host = format!("{{verb=\"GET\",host=\"{}\"}}", server.address);
        assert_eq!(client.counted(&format!("{waited}_count{of_host}")), 4.0);
    });
}

#[test]
fn so_many_requests_wait_at_once_as_may() {
    run(async {
        for (inflight, most) in [(0, 2), (1, 1)] {
            let server = Server::start().await;
            server.put("services", service("a", "10.96.0.1"));
            server.fault("services", "watch", Fault::Held);
            server.fault("endpointslices", "watch", Fault::Held);
            let limits = Limits { inflight, ..Limits::default() };
            let client = Client::start(Settings { limits, ..settings(&server.url()) });
            for _ in 0..2 / most {
                until("requests wait", || server.held().0 == most).await;
                server.release();
            }
            client.synced().await;
            assert_eq!(server.held(), (0, most));
        }
    });
}

#[test]
fn a_lost_server_leaves_what_was_known() {
    run(async {
        let (server, client) = synced(Streaming::Yes).await;
        server.stop();
        client.says("connection refused").await;
        assert!(client.sync.is_ready(), "once in sync, always in sync");
        assert_eq!(client.model.names(Kind::Services).len(), 2);
        let age = "corelane_kubernetes_last_event_age_seconds{kind=\"services\"}";
        until("the age grows", || client.counted(age) > 0.5).await;
        server.resume().await;
        server.put("services", service("c", "10.96.0.3"));
        client.serves(&["shop/a", "shop/b", "shop/c"]).await;
        // The other kinds come back in their own time.
        until("nothing is missing", || client.sync.why_not().is_empty()).await;
    });
}
