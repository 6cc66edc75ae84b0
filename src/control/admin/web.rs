//! A web configuration file (YAML), as Prometheus's exporters take it: TLS and passwords of an address.
//!
//! The file and what it names are read at every connection and request, as in CoreDNS, so that a new
//! certificate or password needs no reload; keys are only parsed again when something has changed.
//! While what is there now cannot be used, what was read before is, and the log says so once. An
//! address that was served over TLS stays so, whatever the file says later.
//!
//! What would be less protection than was asked for is refused: headers, a rate limit, names of
//! clients. Cost: up to four small files are read.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use hyper::header::HeaderMap;
use rustls::ServerConfig;
use serde::Deserialize;

use super::password::{self, Admission, Passwords};
use super::tls::{Texts, configure};
use crate::control::identity::opened;

/// The whole file. Names and defaults are the exporter toolkit's.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct File {
    tls_server_config: Files,
    http_server_config: Http,
    rate_limit: Rate,
    basic_auth_users: Option<BTreeMap<String, String>>,
}

/// What it says of TLS.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Files {
    cert: String,
    key: String,
    pub(super) client_ca: String,
    cert_file: String,
    key_file: String,
    pub(super) client_auth_type: String,
    pub(super) client_ca_file: String,
    pub(super) cipher_suites: Vec<String>,
    pub(super) curve_preferences: Vec<String>,
    pub(super) min_version: Option<String>,
    pub(super) max_version: Option<String>,
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
    headers: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Rate {
    #[serde(rename = "burst")]
    _burst: u64,
    interval: String,
}

/// Why an address cannot be served as its file says, in CoreDNS's words.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WebError {
    /// There is no such file.
    Missing(PathBuf),
    /// The file, or one that it names, cannot be used.
    Bad(String),
}

impl fmt::Display for WebError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WebError::Missing(path) => {
                write!(f, "TLS config file does not exist: {}", path.display())
            }
            WebError::Bad(why) => write!(f, "Failed to start HTTPS metrics server: {why}"),
        }
    }
}

/// What an address asks of its clients, as new as its file.
pub(super) struct Web {
    path: PathBuf,
    current: ArcSwap<Current>,
    passwords: Passwords,
}

/// What was read last.
#[derive(Clone)]
struct Current {
    texts: Texts,
    /// None: clear text.
    tls: Option<Arc<ServerConfig>>,
    /// Bcrypt hashes of passwords by user; empty: everybody may ask.
    users: BTreeMap<String, String>,
    /// Why what is there now cannot be used.
    trouble: Option<String>,
}

impl Web {
    /// Reads the file and what it names.
    pub(super) fn load(path: &Path) -> Result<Self, WebError> {
        let current = read(path).and_then(|(file, texts)| Current::new(file, texts));
        let current = match current {
            Ok(current) => ArcSwap::from_pointee(current),
            Err(_) if !path.exists() => return Err(WebError::Missing(path.to_owned())),
            Err(why) => return Err(WebError::Bad(why)),
        };
        Ok(Self { path: path.to_owned(), current, passwords: Passwords::default() })
    }

    /// How a connection that comes now is to be encrypted, if it is.
    pub(super) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.now().tls.clone()
    }

    /// Whether a request with these headers may be answered.
    pub(super) async fn admits(&self, headers: &HeaderMap) -> Admission {
        self.passwords.admits(&self.now().users, headers).await
    }

    fn now(&self) -> Arc<Current> {
        let last = self.current.load_full();
        let next = match self.renew(&last) {
            Ok(None) => return last,
            Ok(Some(next)) => next,
            Err(why) if last.trouble.as_ref() == Some(&why) => return last,
            Err(why) => {
                tracing::error!("{}: {why}: what was read before is kept", self.path.display());
                Current { trouble: Some(why), ..Current::clone(&last) }
            }
        };
        let next = Arc::new(next);
        self.current.store(Arc::clone(&next));
        next
    }

    /// What is there now, unless it is what was read last.
    fn renew(&self, last: &Current) -> Result<Option<Current>, String> {
        let (file, texts) = read(&self.path)?;
        if last.tls.is_some() && texts.cert.is_empty() {
            return Err("TLS config is not present".into());
        }
        if texts != last.texts {
            return Current::new(file, texts).map(Some);
        }
        let is_mended = last.trouble.is_some();
        Ok(is_mended.then(|| Current { trouble: None, ..last.clone() }))
    }
}

impl Current {
    fn new(file: File, texts: Texts) -> Result<Self, String> {
        let is_secure = !texts.cert.is_empty();
        let tls = is_secure.then(|| configure(&file.tls_server_config, &texts)).transpose()?;
        let users = file.basic_auth_users.unwrap_or_default();
        Ok(Self { texts, tls, users, trouble: None })
    }
}

/// The file, and what the files hold that it names.
fn read(path: &Path) -> Result<(File, Texts), String> {
    let text = std::fs::read(path).map_err(|error| opened(path, &error))?;
    let bad = |why: String| format!("{}: {why}", path.display());
    let letters = std::str::from_utf8(&text).map_err(|error| bad(error.to_string()))?;
    let file: Option<File> = serde_saphyr::from_str(letters).map_err(|error| {
        let error = error.to_string();
        bad(format!("yaml: {}", error.lines().next().unwrap_or_default()))
    })?;
    let file = file.unwrap_or_default();
    usable(&file)?;
    let texts = match says_anything(&file.tls_server_config) {
        true => read_files(path, &file.tls_server_config, text)?,
        false => Texts { web: text, ..Texts::default() },
    };
    Ok((file, texts))
}

/// Whether it asks for nothing that would not be done.
fn usable(file: &File) -> Result<(), String> {
    let refused = [
        ("headers", !file.http_server_config.headers.is_empty()),
        ("rate_limit", !matches!(file.rate_limit.interval.as_str(), "" | "0" | "0s")),
        ("client_allowed_sans", file.tls_server_config.client_allowed_sans.is_some()),
    ];
    if let Some((name, _)) = refused.iter().find(|(_, is_asked)| *is_asked) {
        return Err(format!("{name} is not supported"));
    }
    file.basic_auth_users.iter().flatten().try_for_each(|(_, hash)| password::is_hash(hash))
}

fn says_anything(files: &Files) -> bool {
    let Files { cert, key, client_ca, cert_file, key_file, .. } = files;
    let words = [cert, key, client_ca, cert_file, key_file, &files.client_ca_file];
    words.iter().any(|word| !word.is_empty()) || !files.client_auth_type.is_empty()
}

fn read_files(path: &Path, files: &Files, web: Vec<u8>) -> Result<Texts, String> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let read = |name: &str| {
        let path = folder.join(name);
        std::fs::read(&path).map_err(|error| (opened(&path, &error), path))
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
    Ok(Texts { web, cert, key, roots })
}
