//! TLS on an endpoint, by a web configuration file as Prometheus's exporters take it (YAML).
//!
//! The file and what it names are read at every connection, as in CoreDNS, so that new certificates
//! need no reload; keys are only parsed again when something has changed. While what is there now
//! cannot be used, what was read before is, and the log says so once.
//!
//! What would be less protection than was asked for is refused: basic authentication, headers, a rate
//! limit, names of clients.
//! Cost: a connection reads up to four small files. TLS 1.2 and 1.3 (RFC 5246, RFC 8446).

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{NamedGroup, RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use serde::Deserialize;

use super::unverified::Unverified;

/// The whole file. Names and defaults are the exporter toolkit's.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Web {
    tls_server_config: Files,
    http_server_config: Http,
    rate_limit: Rate,
    basic_auth_users: Option<std::collections::BTreeMap<String, String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Files {
    cert: String,
    key: String,
    client_ca: String,
    cert_file: String,
    key_file: String,
    client_auth_type: String,
    client_ca_file: String,
    cipher_suites: Vec<String>,
    curve_preferences: Vec<String>,
    min_version: Option<String>,
    max_version: Option<String>,
    /// Read only: the preference is the server's.
    #[serde(rename = "prefer_server_cipher_suites")]
    _prefer: Option<bool>,
    client_allowed_sans: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Http {
    /// Read only: HTTP/1.1 is spoken whatever it says.
    #[serde(rename = "http2")]
    _http2: Option<bool>,
    headers: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Rate {
    #[serde(rename = "burst")]
    _burst: u64,
    interval: String,
}

/// Why TLS cannot be served, in CoreDNS's words.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TlsError {
    /// There is no such file.
    Missing(PathBuf),
    /// The file, or one that it names, cannot be used.
    Bad(String),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::Missing(path) => {
                write!(f, "TLS config file does not exist: {}", path.display())
            }
            TlsError::Bad(why) => write!(f, "Failed to start HTTPS metrics server: {why}"),
        }
    }
}

/// The configuration of an address, as new as its files.
pub(super) struct WebTls {
    path: PathBuf,
    current: ArcSwap<Current>,
}

/// What was read last.
struct Current {
    /// What the files held.
    texts: Vec<Vec<u8>>,
    config: Arc<ServerConfig>,
    /// Why what is there now cannot be used.
    trouble: Option<String>,
}

impl WebTls {
    /// Reads the file; None where it says nothing about TLS: then HTTP is served in clear text.
    pub(super) fn load(path: &Path) -> Result<Option<Self>, TlsError> {
        let (web, text) = match read_web(path) {
            Ok(read) => read,
            Err((ErrorKind::NotFound, _)) => return Err(TlsError::Missing(path.to_owned())),
            Err((_, why)) => return Err(TlsError::Bad(why)),
        };
        let files = usable(&web).map_err(TlsError::Bad)?;
        if !says_anything(files) {
            return Ok(None);
        }
        let texts = read_files(path, files, text).map_err(TlsError::Bad)?;
        let config = configure(files, &texts).map_err(TlsError::Bad)?;
        let current = ArcSwap::from_pointee(Current { texts, config, trouble: None });
        Ok(Some(Self { path: path.to_owned(), current }))
    }

    /// For a connection that comes now.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        let current = self.current.load_full();
        let next = match self.renew(&current) {
            Ok(None) => return Arc::clone(&current.config),
            Ok(Some(next)) => next,
            Err(why) if current.trouble.as_ref() == Some(&why) => {
                return Arc::clone(&current.config);
            }
            Err(why) => {
                tracing::error!("{}: {why}: the certificate in use is kept", self.path.display());
                let (texts, config) = (current.texts.clone(), Arc::clone(&current.config));
                Current { texts, config, trouble: Some(why) }
            }
        };
        let config = Arc::clone(&next.config);
        self.current.store(Arc::new(next));
        config
    }

    /// What is there now, unless it is what was read last.
    fn renew(&self, current: &Current) -> Result<Option<Current>, String> {
        let (web, text) = read_web(&self.path).map_err(|(_, why)| why)?;
        let files = usable(&web)?;
        if !says_anything(files) {
            return Err("TLS config is not present".into());
        }
        let texts = read_files(&self.path, files, text)?;
        if texts == current.texts && current.trouble.is_none() {
            return Ok(None);
        }
        let config = match texts == current.texts {
            true => Arc::clone(&current.config),
            false => configure(files, &texts)?,
        };
        Ok(Some(Current { texts, config, trouble: None }))
    }
}

fn read_web(path: &Path) -> Result<(Web, Vec<u8>), (ErrorKind, String)> {
    let text = std::fs::read(path).map_err(|error| (error.kind(), unreadable(path, &error)))?;
    let bad = |why: String| (ErrorKind::InvalidData, format!("{}: {why}", path.display()));
    let letters = std::str::from_utf8(&text).map_err(|error| bad(error.to_string()))?;
    let web: Option<Web> = serde_saphyr::from_str(letters).map_err(|error| {
        let error = error.to_string();
        bad(format!("yaml: {}", error.lines().next().unwrap_or_default()))
    })?;
    Ok((web.unwrap_or_default(), text))
}

/// What it says about TLS, if it asks for nothing that would not be done.
fn usable(web: &Web) -> Result<&Files, String> {
    let refused = [
        ("basic_auth_users", web.basic_auth_users.as_ref().is_some_and(|users| !users.is_empty())),
        ("headers", !web.http_server_config.headers.is_empty()),
        ("rate_limit", !matches!(web.rate_limit.interval.as_str(), "" | "0" | "0s")),
        ("client_allowed_sans", web.tls_server_config.client_allowed_sans.is_some()),
    ];
    match refused.iter().find(|(_, is_asked)| *is_asked) {
        Some((name, _)) => Err(format!("{name} is not supported")),
        None => Ok(&web.tls_server_config),
    }
}

fn says_anything(files: &Files) -> bool {
    let Files { cert, key, client_ca, cert_file, key_file, .. } = files;
    let words = [cert, key, client_ca, cert_file, key_file, &files.client_ca_file];
    words.iter().any(|word| !word.is_empty()) || !files.client_auth_type.is_empty()
}

/// The file itself, chain, key, and the authorities of clients (empty without).
fn read_files(path: &Path, files: &Files, web: Vec<u8>) -> Result<Vec<Vec<u8>>, String> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let read = |name: &str| {
        let path = folder.join(name);
        std::fs::read(&path).map_err(|error| (unreadable(&path, &error), path))
    };
    let pem = |what: &str, file: &str, text: &str| match (file, text) {
        ("", "") => Err(format!("missing one of {what} or {what}_file")),
        ("", text) => Ok(text.as_bytes().to_vec()),
        (file, _) => read(file).map_err(|(why, path)| {
            format!("failed to read {what}_file ({}): {why}", path.display())
        }),
    };
    // Both are looked for before one is read.
    if files.key.is_empty() && files.key_file.is_empty() && !files.cert_file.is_empty() {
        return Err("missing one of key or key_file".into());
    }
    let cert = pem("cert", &files.cert_file, &files.cert)?;
    let key = pem("key", &files.key_file, &files.key)?;
    let roots = match files.client_ca_file.as_str() {
        "" => files.client_ca.as_bytes().to_vec(),
        file => read(file).map_err(|(why, _)| why)?,
    };
    Ok(vec![web, cert, key, roots])
}

fn unreadable(path: &Path, error: &std::io::Error) -> String {
    let why = match error.kind() {
        ErrorKind::NotFound => "no such file or directory".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    };
    format!("open {}: {why}", path.display())
}

fn configure(files: &Files, texts: &[Vec<u8>]) -> Result<Arc<ServerConfig>, String> {
    let [_, cert, key, roots] = texts else {
        return Err("missing one of cert or cert_file".into());
    };
    let words = |why: &dyn fmt::Display| format!("failed to load X509KeyPair: {why}");
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(cert).collect();
    let chain = chain.map_err(|error| words(&error))?;
    if chain.is_empty() {
        return Err(words(&"tls: failed to find any PEM data in certificate input"));
    }
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| words(&"tls: failed to find any PEM data in key input"))?;
    let provider = Arc::new(provider(files)?);
    let clients = clients(files, roots, &provider)?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(files)?)
        .map_err(|error| error.to_string())?;
    let config = match clients {
        Some(verifier) => config.with_client_cert_verifier(verifier),
        None => config.with_no_client_auth(),
    };
    let mut config = config.with_single_cert(chain, key).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => words(&"tls: private key does not match public key"),
        error => words(&error),
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Versions between those that are named; 1.0 and 1.1 are known words, but nobody speaks them.
fn versions(files: &Files) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    let number = |word: &Option<String>, default| match word.as_deref() {
        None => Ok(default),
        Some("TLS10") => Ok(10),
        Some("TLS11") => Ok(11),
        Some("TLS12") => Ok(12),
        Some("TLS13") => Ok(13),
        Some(other) => Err(format!("unknown TLS version: {other}")),
    };
    let allowed = number(&files.min_version, 12)?..=number(&files.max_version, 13)?;
    let known = [(13, &version::TLS13), (12, &version::TLS12)];
    let kept: Vec<_> =
        known.iter().filter(|(number, _)| allowed.contains(number)).map(|(_, v)| *v).collect();
    match kept.is_empty() {
        true => Err("tls: no supported versions satisfy MinVersion and MaxVersion".into()),
        false => Ok(kept),
    }
}

/// Cipher suites of TLS 1.2 and groups: those that are named, in that order, if any are.
fn provider(files: &Files) -> Result<CryptoProvider, String> {
    let mut provider = aws_lc_rs::default_provider();
    if !files.cipher_suites.is_empty() {
        let all = std::mem::take(&mut provider.cipher_suites);
        provider.cipher_suites.extend(all.iter().filter(|suite| suite.tls13().is_some()));
        for name in &files.cipher_suites {
            let suite = all.iter().find(|suite| go_name(suite.suite()) == *name);
            match suite {
                Some(suite) if suite.tls13().is_none() => provider.cipher_suites.push(*suite),
                Some(_) => {}
                None if WITHOUT_AEAD.contains(&name.as_str()) => {}
                None => return Err(format!("unknown cipher: {name}")),
            }
        }
    }
    if !files.curve_preferences.is_empty() {
        let all = std::mem::take(&mut provider.kx_groups);
        for name in &files.curve_preferences {
            let group = match name.as_str() {
                "CurveP256" => NamedGroup::secp256r1,
                "CurveP384" => NamedGroup::secp384r1,
                "CurveP521" => NamedGroup::secp521r1,
                "X25519" => NamedGroup::X25519,
                other => return Err(format!("unknown curve: {other}")),
            };
            provider.kx_groups.extend(all.iter().filter(|known| known.name() == group));
        }
        if provider.kx_groups.is_empty() {
            return Err("none of the curve_preferences is supported".into());
        }
    }
    Ok(provider)
}

/// Suites that the exporter toolkit knows and nobody has here: they are left out.
const WITHOUT_AEAD: [&str; 4] = [
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
];

/// The IANA name: those of TLS 1.3 have another beginning in rustls.
fn go_name(suite: rustls::CipherSuite) -> String {
    let name = suite.as_str().unwrap_or_default();
    name.strip_prefix("TLS13_").map_or_else(|| name.to_owned(), |rest| format!("TLS_{rest}"))
}

/// Who verifies the certificates of clients, if they are asked for any.
fn clients(
    files: &Files,
    roots: &[u8],
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    let has_roots = !(files.client_ca.is_empty() && files.client_ca_file.is_empty());
    let is_optional = match files.client_auth_type.as_str() {
        "" | "NoClientCert" if has_roots => {
            return Err("client CA's have been configured without a Client Auth Policy".into());
        }
        "" | "NoClientCert" => return Ok(None),
        "RequestClientCert" => return Ok(Some(Unverified::new(provider, false))),
        "RequireAnyClientCert" | "RequireClientCert" => {
            return Ok(Some(Unverified::new(provider, true)));
        }
        "VerifyClientCertIfGiven" => true,
        "RequireAndVerifyClientCert" => false,
        other => return Err(format!("invalid ClientAuth: {other}")),
    };
    let mut store = RootCertStore::empty();
    if has_roots {
        store.add_parsable_certificates(CertificateDer::pem_slice_iter(roots).flatten());
    } else {
        // As in CoreDNS: whoever the system trusts.
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let builder = WebPkiClientVerifier::builder_with_provider(store.into(), Arc::clone(provider));
    let builder = if is_optional { builder.allow_unauthenticated() } else { builder };
    let verifier = builder.build().map_err(|error| format!("client CA's: {error}"))?;
    Ok(Some(verifier))
}
