//! `corelane queries` beside an API server.

use tokio::process::Command;

use super::server::Server;
use super::{run, service};

/// What it prints, and whether it ended well.
async fn queries(server: &Server) -> (String, String, bool) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    let output = command.args(["queries", "--endpoint", &server.url()]).output().await;
    let output = output.expect("a process");
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.success())
}

#[test]
fn all_pages_of_a_list_are_read() {
    run(async {
        let server = Server::start().await;
        server.page(2);
        for number in 1..6 {
            let address = format!("10.96.0.{number}");
            server.put("services", service(&format!("web-{number}"), &address));
        }
        let (lines, said, is_well) = queries(&server).await;
        assert!(is_well, "{said}");
        assert_eq!(lines.lines().count(), 15, "{lines}");
        for line in ["web-5.shop.svc.cluster.local AAAA", "1.0.96.10.in-addr.arpa PTR"] {
            assert!(lines.lines().any(|one| one == line), "{lines}");
        }
        assert!(server.requests().iter().any(|request| request.contains("continue=")));
    });
}

#[test]
fn a_refusal_is_told_in_one_line() {
    run(async {
        let server = Server::start().await;
        server.token("secret");
        let (lines, said, is_well) = queries(&server).await;
        assert!(!is_well && lines.is_empty(), "{lines}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.starts_with("queries: namespaces: "), "{said}");
    });
}
