//! Who the server is, who we are, and what is said when that does not fit.

use std::path::Path;

use corelane::control::kube::{Connect, Settings, Tls};
use corelane::plugin::Ready;

use super::certs::Authority;
use super::server::{Fault, Server};
use super::{Client, folder, run, service, settings, until};

/// `endpoint URL` with `tls "" "" CA`.
fn trusting(server: &Server, host: &str, ca: &Path) -> Settings {
    let url = format!("https://{host}:{}", server.address.port());
    let tls = Some(Tls { ca: ca.to_owned(), ..Tls::default() });
    Settings { connect: Connect::Endpoint { url: url.clone(), tls }, ..settings(&url) }
}

#[test]
fn certificates_are_checked_and_what_is_wrong_is_said() {
    run(async {
        let folder = folder("certificates");
        let (ours, other) = (Authority::new(), Authority::new());
        let ca = folder.join("ca.crt");
        std::fs::write(&ca, &ours.pem).expect("a file");
        for (server, words) in [
            (ours.identity(&["127.0.0.1"], 2120).config(&[]), None),
            (
                other.identity(&["127.0.0.1"], 2120).config(&[]),
                Some("x509: certificate signed by unknown authority"),
            ),
            (
                ours.identity(&["127.0.0.1"], 2021).config(&[]),
                Some("x509: certificate has expired or is not yet valid"),
            ),
            (
                ours.identity(&["localhost", "kubernetes.default.svc"], 2120).config(&[]),
                Some("is valid for localhost, kubernetes.default.svc, not 127.0.0.1"),
            ),
        ] {
            let server = Server::with_tls(Some(server)).await;
            let client = Client::start(trusting(&server, "127.0.0.1", &ca));
            match words {
                None => client.synced().await,
                Some(words) => {
                    client.says(words).await;
                    assert!(!client.sync.is_ready() && server.requests().is_empty());
                }
            }
        }
    });
}

#[test]
fn without_an_authority_nobody_is_trusted() {
    run(async {
        let server = Authority::new().identity(&["127.0.0.1"], 2120).config(&[]);
        let server = Server::with_tls(Some(server)).await;
        let client = Client::of(&server);
        client.says("services: ").await;
        assert!(server.requests().is_empty());
    });
}

/// A kubeconfig with a token from a file.
fn kubeconfig(folder: &Path, server: &Server) -> Settings {
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: none\n\
         clusters: [{{name: c, cluster: {{server: '{}', certificate-authority: ca.crt}}}}]\n\
         users: [{{name: u, user: {{tokenFile: {}}}}}]\n\
         contexts: [{{name: main, context: {{cluster: c, user: u}}}}]\n",
        server.url(),
        folder.join("token").display()
    );
    let file = folder.join("kubeconfig");
    std::fs::write(&file, text).expect("a file");
    let connect = Connect::Kubeconfig { file, context: Some("main".into()) };
    Settings { connect, ..settings("unused") }
}

#[test]
fn a_token_that_is_refused_is_read_again() {
    run(async {
        let (folder, ours) = (folder("token"), Authority::new());
        std::fs::write(folder.join("ca.crt"), &ours.pem).expect("a file");
        std::fs::write(folder.join("token"), "stale").expect("a file");
        let server = Server::with_tls(Some(ours.identity(&["127.0.0.1"], 2120).config(&[]))).await;
        server.token("fresh");
        server.put("services", service("a", "10.96.0.1"));
        let client = Client::start(kubeconfig(&folder, &server));
        client.says("services: 401 Unauthorized: the token is stale").await;
        std::fs::write(folder.join("token"), "fresh").expect("a file");
        client.synced().await;
        client.serves(&["shop/a"]).await;
        assert_eq!(client.sync.why_not(), "");
    });
}

#[test]
fn a_token_never_travels_in_the_clear() {
    run(async {
        let folder = folder("clear");
        std::fs::write(folder.join("token"), "secret").expect("a file");
        std::fs::write(folder.join("ca.crt"), Authority::new().pem).expect("a file");
        let server = Server::start().await;
        let client = Client::start(kubeconfig(&folder, &server));
        client.synced().await;
        assert!(server.tokens().iter().all(Option::is_none));
    });
}

#[test]
fn what_is_forbidden_is_one_kind_s_trouble() {
    run(async {
        let server = Server::start().await;
        server.put("services", service("a", "10.96.0.1"));
        for _ in 0..2 {
            server.fault("endpointslices", "watch", Fault::Status(403, None));
        }
        let client = Client::of(&server);
        client.says("endpointslices: 403 Forbidden: made to fail").await;
        client.serves(&["shop/a"]).await;
        assert!(!client.sync.is_ready(), "one kind is missing");
        client.synced().await;
        let series = "corelane_kubernetes_trouble_total\
                      {kind=\"endpointslices\",reason=\"forbidden\"}";
        assert_eq!(client.counted(series), 2.0);
    });
}

#[test]
fn a_server_that_comes_late_is_waited_for() {
    run(async {
        let server = Server::start().await;
        server.put("services", service("a", "10.96.0.1"));
        server.stop();
        let client = Client::of(&server);
        client.says("services: connect: connection refused").await;
        server.resume().await;
        client.serves(&["shop/a"]).await;
        until("nothing is wrong any more", || client.sync.why_not().is_empty()).await;
    });
}

#[test]
fn what_is_missing_is_an_error_of_the_operator_s() {
    for (connect, words) in [
        (Connect::Kubeconfig { file: "nosuchfile".into(), context: None }, "nosuchfile"),
        (
            Connect::Endpoint { url: "http://".into(), tls: None },
            "endpoint: host must be a URL or a host:port pair: \"http://\"",
        ),
        (
            Connect::Endpoint {
                url: "https://10.0.0.1".into(),
                tls: Some(Tls { ca: "nosuchca".into(), ..Tls::default() }),
            },
            "unable to read certificate-authority nosuchca due to open nosuchca: \
             no such file or directory",
        ),
        (Connect::InCluster, "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must be defined"),
    ] {
        let error = connect.config().expect_err(words);
        assert!(error.contains(words), "{error}");
    }
}
