//! What is known from an earlier run, before the API server answers.

use std::path::{Path, PathBuf};

use corelane::cluster::object::Kind;
use corelane::control::kube::{Connect, Selectors, Settings};
use corelane::plugin::Ready;

use super::server::Server;
use super::{Client, folder, run, service, settings, until};

fn kept(server: &Server, folder: &Path) -> Settings {
    Settings { state: Some(folder.to_owned()), ..settings(&server.url()) }
}

/// A server that is gone, and the file that a client of it has left.
async fn gone(name: &str) -> (Server, PathBuf, PathBuf) {
    let (server, folder) = (Server::start().await, folder(name));
    server.put("services", service("a", "10.96.0.1"));
    server.put("services", service("b", "10.96.0.2"));
    let client = Client::start(kept(&server, &folder));
    client.synced().await;
    let file = || std::fs::read_dir(&folder).expect("a folder").flatten().map(|file| file.path());
    until("the state is on disk", || file().any(|path| path.extension() == Some("state".as_ref())))
        .await;
    let path = file().next().expect("a file");
    drop(client);
    server.stop();
    (server, folder, path)
}

#[test]
fn what_was_known_is_recalled_until_the_server_answers() {
    run(async {
        let (server, folder, _) = gone("recalled").await;
        let client = Client::start(kept(&server, &folder));
        client.serves(&["shop/a", "shop/b"]).await;
        assert_eq!(client.model.recalled(), [Kind::Services, Kind::Slices]);
        client.says("connection refused").await;
        assert!(!client.sync.is_ready(), "what is recalled is not in sync");
        server.delete("services", "shop", "a");
        server.resume().await;
        client.serves(&["shop/b"]).await;
        client.synced().await;
    });
}

#[test]
fn changes_are_kept_when_the_process_ends() {
    run(async {
        let (server, folder, path) = gone("changed").await;
        server.resume().await;
        let mut client = Client::start(kept(&server, &folder));
        client.synced().await;
        server.put("services", service("c", "10.96.0.3"));
        client.serves(&["shop/a", "shop/b", "shop/c"]).await;
        let before = std::fs::read(&path).expect("a file");
        client.running.shutdown().await;
        client.state.as_ref().expect("a state").save();
        let after = std::fs::read(&path).expect("a file");
        assert!(after.len() > before.len());
        server.stop();
        let client = Client::start(kept(&server, &folder));
        client.serves(&["shop/a", "shop/b", "shop/c"]).await;
    });
}

#[test]
fn a_file_that_is_not_whole_is_passed_over() {
    run(async {
        let (server, folder, path) = gone("broken").await;
        let whole = std::fs::read(&path).expect("a file");
        let mut turned = whole.clone();
        turned[40] ^= 1;
        let other = [b"corelane-cluster-0".as_slice(), &whole[18..]].concat();
        for broken in [&whole[..whole.len() - 1], &whole[1..], &turned, &other, b"", b"\n"] {
            std::fs::write(&path, broken).expect("a file");
            let client = Client::start(kept(&server, &folder));
            client.says("connection refused").await;
            assert!(client.model.names(Kind::Services).is_empty());
            assert!(client.model.recalled().is_empty());
        }
        server.resume().await;
        let client = Client::start(kept(&server, &folder));
        client.synced().await;
        until("the file is whole again", || std::fs::read(&path).unwrap().len() >= whole.len())
            .await;
    });
}

#[test]
fn another_cluster_or_choice_has_another_file() {
    run(async {
        let (server, folder, _) = gone("others").await;
        let some = Selectors { labels: "a=b".into(), ..Selectors::default() };
        let elsewhere = Connect::Endpoint { url: "127.0.0.1:1".into(), tls: None };
        for settings in [
            Settings { selectors: some, ..kept(&server, &folder) },
            Settings { connect: elsewhere, ..kept(&server, &folder) },
        ] {
            let client = Client::start(settings);
            client.says("connection refused").await;
            assert!(client.model.recalled().is_empty());
        }
    });
}
