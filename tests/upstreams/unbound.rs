//! Unbound as the upstream, by everything that it speaks.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use hickory_proto::op::ResponseCode;

use crate::certs::Authority;
use crate::client::Client;
use crate::ports::Port;
use crate::server::eventually;
use crate::{corefile, serve_with};

/// Unbound with a zone of its own; ended when it is dropped.
struct Unbound {
    child: Child,
    plain: Port,
    tls: Port,
    https: Port,
}

impl Drop for Unbound {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Unbound {
    /// `None`: it is not installed.
    fn start(authority: &Authority) -> Option<Self> {
        let path = ["/usr/sbin/unbound", "/usr/local/sbin/unbound"];
        let path = path.into_iter().find(|path| Path::new(path).exists())?;
        let [plain, tls, https] = [(); 3].map(|()| Port::free());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("upstreams/unbound");
        std::fs::create_dir_all(&folder).expect("a folder");
        let identity = authority.identity(&["dns.test"], 2100);
        let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        std::fs::write(&cert, identity.certificate).expect("a file");
        std::fs::write(&key, identity.key).expect("a file");
        let config = format!(
            "server:\n do-daemonize: no\n username: \"\"\n chroot: \"\"\n use-syslog: no\n \
             directory: \"{folder}\"\n pidfile: \"\"\n logfile: \"log\"\n \
             interface: 127.0.0.1@{plain}\n interface: 127.0.0.1@{tls}\n \
             interface: 127.0.0.1@{https}\n tls-port: {tls}\n https-port: {https}\n \
             tls-service-key: \"{key}\"\n tls-service-pem: \"{cert}\"\n \
             http-endpoint: \"/dns-query\"\n \
             module-config: \"iterator\"\n local-zone: \"test.\" static\n \
             local-data: \"a.test. 60 A 192.0.2.1\"\n {long}\n\
             remote-control:\n control-enable: no\n",
            folder = folder.display(),
            plain = plain.number,
            tls = tls.number,
            https = https.number,
            key = key.display(),
            cert = cert.display(),
            long = (0..200)
                .map(|last| format!("local-data: \"long.test. 60 A 192.0.2.{last}\"\n "))
                .collect::<String>(),
        );
        let file = folder.join("unbound.conf");
        std::fs::write(&file, config).expect("a file");
        let child = Command::new(path)
            .args(["-d", "-c"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a process");
        let this = Self { child, plain, tls, https };
        let ports = [&this.plain, &this.tls, &this.https];
        let listens = eventually(|| {
            ports.iter().all(|port| TcpStream::connect(("127.0.0.1", port.number)).is_ok())
        });
        let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
        assert!(listens, "unbound does not listen\n{log}");
        Some(this)
    }
}

#[test]
fn unbound_is_asked_by_udp_tcp_tls_and_https() {
    let authority = Authority::new();
    let Some(unbound) = Unbound::start(&authority) else {
        println!("skipped: unbound is not installed");
        return;
    };
    let address = |scheme: &str, port: &Port| format!("{scheme}127.0.0.1:{}", port.number);
    let tls = "tls ca.pem\n tls_servername dns.test";
    for (test, to, options) in [
        ("udp", address("", &unbound.plain), "prefer_udp".to_owned()),
        ("tcp", address("", &unbound.plain), "force_tcp".to_owned()),
        ("tls", address("tls://", &unbound.tls), tls.to_owned()),
        ("post", address("https://", &unbound.https), tls.to_owned()),
        ("get", address("https://", &unbound.https), format!("{tls}\n doh_method GET")),
    ] {
        let files = [("ca.pem", authority.pem.as_str())];
        let name = format!("unbound_{test}");
        let server = serve_with(&name, &corefile(&to, &options), &files);
        let client = Client::of(&server);
        for _ in 0..20 {
            let reply = client.ask_edns("A.test.");
            assert_eq!(reply.addresses, ["192.0.2.1"], "{test}\n{}", server.output());
            assert_eq!(reply.name, "A.test.");
        }
        let replies = client.ask_many(64, "nx");
        let missing = |reply: &&_| is_missing(reply);
        assert_eq!(replies.iter().filter(missing).count(), 64, "{test}: {replies:?}");
        assert!(client.ask("long.test.").truncated, "{test}");
        let long = client.ask_tcp("long.test.");
        assert_eq!(long.answers, 200, "{test}: {}", server.output());
    }
}

fn is_missing(reply: &crate::client::Reply) -> bool {
    reply.rcode == ResponseCode::NXDomain
}
