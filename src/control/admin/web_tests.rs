//! TLS and passwords on an endpoint, with certificates made here and over real sockets.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::web::WebError;
use super::*;
use crate::data::tally::{Format, Tally, families};

type Pair = CertifiedKey<KeyPair>;

fn pair() -> Pair {
    generate_simple_self_signed(vec!["localhost".into()]).unwrap()
}

/// A folder of its own, which goes when the test does.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = format!("corelane-admin-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn write_pair(&self, pair: &Pair) {
        self.write("cert.pem", &pair.cert.pem());
        self.write("key.pem", &pair.signing_key.serialize_pem());
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

const FILES: &str = "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n";

struct Fixed;

impl Route for Fixed {
    fn answer(&self, _: &Request<'_>) -> Response {
        Response::text(200, "m 1")
    }
}

fn endpoint(web: &Path) -> Endpoint {
    Endpoint {
        name: "metrics",
        address: "127.0.0.1:0".into(),
        routes: vec![("/metrics", Arc::new(Fixed))],
        required: false,
        poll: None,
        web: Some(web.to_owned()),
    }
}

fn connect(at: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// What a client that trusts `server` and shows `own` is answered.
fn get(at: SocketAddr, server: &Pair, own: Option<&Pair>) -> io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(server.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match own {
        Some(own) => {
            let key = PrivateKeyDer::from_pem_slice(own.signing_key.serialize_pem().as_bytes());
            let chain: Vec<CertificateDer<'static>> = vec![own.cert.der().clone()];
            builder.with_client_auth_cert(chain, key.unwrap()).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    let name = "localhost".try_into().unwrap();
    let client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(client, connect(at));
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    Ok(text.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[test]
fn certificates_are_read_again_when_they_change() {
    let folder = Folder::new("renew");
    let (first, second) = (pair(), pair());
    folder.write_pair(&first);
    let admin = Admin::start().unwrap();
    admin.set(vec![endpoint(&folder.write("web.yml", FILES))]).unwrap();
    let at = admin.addresses()[0];
    assert_eq!(get(at, &first, None).unwrap(), "m 1");
    assert!(get(at, &second, None).is_err(), "another certificate");
    // In clear text nobody gets anything.
    let mut clear = connect(at);
    write!(clear, "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut read = Vec::new();
    drop(clear.read_to_end(&mut read));
    assert!(!String::from_utf8_lossy(&read).contains("m 1"));

    folder.write_pair(&second);
    assert_eq!(get(at, &second, None).unwrap(), "m 1");
    assert!(get(at, &first, None).is_err(), "the one before");
    // What cannot be used changes nothing, and what can be used again does.
    folder.write("key.pem", "half of a k");
    assert_eq!(get(at, &second, None).unwrap(), "m 1");
    folder.write("web.yml", "tls_server_config: [");
    assert_eq!(get(at, &second, None).unwrap(), "m 1");
    folder.write("web.yml", FILES);
    folder.write_pair(&first);
    assert_eq!(get(at, &first, None).unwrap(), "m 1");
}

#[test]
fn clients_are_asked_for_what_the_file_says() {
    let folder = Folder::new("clients");
    let (server, known, stranger) = (pair(), pair(), pair());
    folder.write_pair(&server);
    folder.write("ca.pem", &known.cert.pem());
    let admin = Admin::start().unwrap();
    admin.set(vec![endpoint(&folder.write("web.yml", FILES))]).unwrap();
    let at = admin.addresses()[0];
    for (policy, ca, nobody, known_one, other) in [
        ("NoClientCert", false, true, true, true),
        ("RequestClientCert", false, true, true, true),
        ("RequireAnyClientCert", false, false, true, true),
        ("VerifyClientCertIfGiven", true, true, true, false),
        ("RequireAndVerifyClientCert", true, false, true, false),
    ] {
        let ca = if ca { "  client_ca_file: ca.pem\n" } else { "" };
        folder.write("web.yml", &format!("{FILES}  client_auth_type: {policy}\n{ca}"));
        assert_eq!(get(at, &server, None).is_ok(), nobody, "{policy}: none");
        assert_eq!(get(at, &server, Some(&known)).is_ok(), known_one, "{policy}: known");
        assert_eq!(get(at, &server, Some(&stranger)).is_ok(), other, "{policy}: a stranger");
    }
}

#[test]
fn what_cannot_be_used_is_said_in_coredns_s_words_and_not_served() {
    let folder = Folder::new("errors");
    let own = pair();
    folder.write_pair(&own);
    folder.write("other.pem", &pair().signing_key.serialize_pem());
    let both = |more: &str| format!("{FILES}{more}");
    for (text, words) in [
        ("tls_server_config:\n  cert_file: cert.pem\n".into(), "missing one of key or key_file"),
        ("tls_server_config:\n  key_file: key.pem\n".into(), "missing one of cert or cert_file"),
        (FILES.replace("cert.pem", "no.pem"), "failed to read cert_file ("),
        (FILES.replace("key.pem", "no.pem"), "no.pem: no such file or directory"),
        (FILES.replace("cert.pem", "web.yml"), "failed to load X509KeyPair: "),
        (FILES.replace("key.pem", "other.pem"), "private key does not match public key"),
        (both("  client_auth_type: x\n"), "invalid ClientAuth: x"),
        (both("  client_ca_file: cert.pem\n"), "client CA's have been configured without a"),
        (both("  min_version: TLS14\n"), "unknown TLS version: TLS14"),
        (both("  max_version: TLS11\n"), "no supported versions satisfy"),
        (both("  cipher_suites: [x]\n"), "unknown cipher: x"),
        (both("  curve_preferences: [x]\n"), "unknown curve: x"),
        (both("  cert_fiel: x\n"), "cert_fiel"),
        (both("basic_auth_users:\n  a: b\n"), "hashedSecret too short to be a bcrypted password"),
        (both(&user(&HASH.replacen('$', "x", 1))), "must start with '$', but hashedSecret"),
        (both(&user(&HASH.replace("$2y", "$3y"))), "version '3' requested is newer"),
        (both(&user(&HASH.replace("$04", "$33"))), "cost 33 is outside allowed inclusive range"),
        (both(&user(&HASH.replace("$04", "$ab"))), "parsing \"ab\": invalid syntax"),
        (both(&user(&HASH.replace("$04", "$04$"))), "malformed hash"),
        (both("  client_allowed_sans: [a]\n"), "client_allowed_sans is not supported"),
    ] {
        let path = folder.write("web.yml", &text);
        let error = Web::load(&path).err().expect(&text).to_string();
        assert!(error.starts_with("Failed to start HTTPS metrics server: "), "{error}");
        assert!(error.contains(words) && !error.contains('\n'), "{text}: {error}");
        let admin = Admin::start().unwrap();
        admin.set(vec![endpoint(&path)]).unwrap();
        assert!(admin.addresses().is_empty(), "{text}");
    }
    let gone = folder.0.join("none.yml");
    assert_eq!(Web::load(&gone).err(), Some(WebError::Missing(gone)));
}

#[test]
fn every_option_that_is_known_is_taken() {
    let folder = Folder::new("options");
    let own = pair();
    folder.write_pair(&own);
    let text = format!(
        "{FILES}  min_version: TLS12\n  max_version: TLS13\n  prefer_server_cipher_suites: true\n  \
         cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, \
         TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, TLS_AES_128_GCM_SHA256]\n  \
         curve_preferences: [X25519, CurveP256]\nhttp_server_config:\n  http2: false\n"
    );
    let admin = Admin::start().unwrap();
    admin.set(vec![endpoint(&folder.write("web.yml", &text))]).unwrap();
    assert_eq!(get(admin.addresses()[0], &own, None).unwrap(), "m 1");
    // A file that says nothing of TLS: clear text.
    for text in ["", "# nothing\n", "http_server_config:\n  http2: true\n"] {
        let path = folder.write("plain.yml", text);
        assert!(matches!(Web::load(&path), Ok(web) if web.tls().is_none()), "{text:?}");
    }
}

/// A line of users: `scraper` with this hash.
fn user(hash: &str) -> String {
    format!("basic_auth_users:\n  scraper: {hash}\n")
}

/// Of the password `secret`, at the least cost there is.
const HASH: &str = "$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";

/// Status and headers of what a request in clear text is answered.
fn status(at: SocketAddr, credentials: Option<&str>) -> (u16, String) {
    let mut stream = connect(at);
    let encoded = credentials.map(|text| STANDARD.encode(text));
    let header = encoded.map_or(String::new(), |text| format!("Authorization: basic {text}\r\n"));
    let rest = "Host: a\r\nConnection: close\r\n\r\n";
    write!(stream, "GET /metrics HTTP/1.1\r\n{header}{rest}").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    (text[9..12].parse().unwrap(), text.to_ascii_lowercase())
}

#[test]
fn only_users_with_their_passwords_are_answered() {
    let folder = Folder::new("users");
    let path = folder.write("web.yml", &user(HASH));
    let admin = Admin::start().unwrap();
    admin.set(vec![endpoint(&path)]).unwrap();
    let at = admin.addresses()[0];
    let (code, text) = status(at, None);
    assert_eq!(code, 401);
    assert!(text.contains("www-authenticate: basic\r\n"), "{text}");
    assert!(text.ends_with("\r\n\r\nunauthorized\n"), "{text}");
    for _ in 0..2 {
        // The second time it is known to be right.
        assert_eq!(status(at, Some("scraper:secret")).0, 200);
    }
    for wrong in ["scraper:secre", "scraper:", "scraper", "other:secret", ":secret", ""] {
        assert_eq!(status(at, Some(wrong)).0, 401, "{wrong:?}");
    }
    // Who is no user any more is not answered, whatever was known of him.
    folder.write("web.yml", &user(HASH).replace("scraper", "other"));
    assert_eq!(status(at, Some("scraper:secret")).0, 401);
    assert_eq!(status(at, Some("other:secret")).0, 200);
    // A file that cannot be used changes nothing: nobody comes in who could not before.
    folder.write("web.yml", "basic_auth_users: [");
    assert_eq!(status(at, None).0, 401);
    assert_eq!(status(at, Some("other:secret")).0, 200);
    folder.write("web.yml", "");
    assert_eq!(status(at, None).0, 200);
}

#[test]
fn an_endpoint_that_asks_for_keys_and_passwords_polls_itself() {
    let folder = Folder::new("poll");
    let own = pair();
    folder.write_pair(&own);
    folder.write("ca.pem", &own.cert.pem());
    let strict = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n";
    let path = folder.write("web.yml", &format!("{FILES}{strict}{}", user(HASH)));
    let tally = Tally::new(1);
    let poll = SelfPoll {
        address: ":0".into(),
        path: "/metrics",
        tally: Arc::clone(&tally),
        duration: tally.histogram(&families::HEALTH_DURATION, &[]),
        failures: tally.counter(&families::HEALTH_FAILURES, &[]),
    };
    let failures = poll.failures;
    let admin = Admin::start().unwrap();
    admin.set(vec![Endpoint { poll: Some(poll), ..endpoint(&path) }]).unwrap();
    let observed = || {
        let mut out = String::new();
        tally.scrape(&mut out, Format::Text004);
        !out.contains("\ncoredns_health_request_duration_seconds_count 0\n")
    };
    assert!(super::tests::patiently(observed), "polled");
    assert_eq!(tally.value(failures), 0);
    // The way in for the process is none for others.
    assert!(get(admin.addresses()[0], &own, None).is_err());
}
