//! # tls
//!
//! Gives the listeners of a server block a certificate: for keys with `tls://` (DNS over TLS, RFC 7858).
//!
//! ## Syntax
//!
//! ```corefile
//! tls CERT KEY [CA] {
//!     client_auth nocert|request|require|verify_if_given|require_and_verify
//!     keylog FILE
//! }
//! ```
//!
//! **CERT** and **KEY** are PEM files, relative ones below the `root` of the block: the certificate with
//! those that it needs after it, and its private key. **CA** holds the authorities of clients'
//! certificates (default: those that the system trusts).
//!
//! * `client_auth`: whether clients have to show a certificate.
//!   * `nocert` (default): they are not asked for one.
//!   * `request`: they are asked, and may have none; nobody verifies who signed it.
//!   * `require`: they must have one; nobody verifies who signed it.
//!   * `verify_if_given`: one that they show must be signed by an authority.
//!   * `require_and_verify`: they must have one that is signed by an authority.
//! * `keylog`: writes the secrets of all connections to a file, for programs that open what was
//!   captured. Whoever has it can read everything: only for looking for faults.
//!
//! TLS 1.2 and 1.3 are spoken; sessions are resumed by tickets. The files are looked at every 30 s and at
//! every reload: connections that come later see a renewed certificate. One that cannot be used is told
//! in the log, and what was read before is shown. **CA** is read with the Corefile.
//!
//! Of several `tls` in a block the last one decides, and of blocks that share an address the first with a
//! certificate. Keys with `dns://` in the same block are not touched. On a connection, which takes some
//! 9 KiB of memory, everything is as over TCP: time-outs and bounds are those of `timeouts`. Handshakes
//! take turns, so that queries by UDP are not kept waiting by many who connect.
//!
//! ## Metrics
//!
//! * `corelane_tls_handshakes_total{result}`: handshakes that clients have begun: `full`, `resumed`,
//!   `failed`. The connections are counted with those of TCP.
//!
//! ## Examples
//!
//! DNS over TLS for clients that have a certificate of ours, plain DNS for all:
//!
//! ```corefile
//! tls://. {
//!     tls cert.pem key.pem ca.pem {
//!         client_auth require_and_verify
//!     }
//!     forward . 192.0.2.53
//! }
//! . {
//!     forward . 192.0.2.53
//! }
//! ```
//!
//! ## Differences from CoreDNS
//!
//! * A `tls://` listener without a certificate is an error: CoreDNS serves plain DNS there, which RFC 7858
//!   section 3.1 forbids.
//! * Certificates are renewed without a reload.
//! * Keys of different transports on one TCP or UDP port are an error: CoreDNS listens for both there, and the
//!   kernel gives each connection to either.
//! * The two cipher suites of TLS 1.2 without AEAD are not spoken.
//! * Certificates by ACME (`acme`) are not built in yet.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::{KeyLog, ServerConfig};

use super::site::Watched;
use super::{Compiled, CorefileError, Directive, Facts, Lines, SetupError, Site};
use crate::control::corefile::{OptionLine, Stanza};
use crate::control::identity::{self, Authorities, ClientAuth, Identity};
use crate::limits::TLS_LOOK_SECONDS;

/// The directive.
pub struct Tls {
    identity: Arc<Identity>,
    config: Arc<ServerConfig>,
    keys: Option<Arc<Keys>>,
    repeated: bool,
}

impl Directive for Tls {
    const NAME: &'static str = "tls";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let stanza = match lines.stanzas() {
            // As in CoreDNS.
            [.., last] => *last,
            [] => lines.only_one()?,
        };
        let (cert, key, ca) = match &stanza.args[..] {
            [] => return Err(acme(lines, stanza)),
            [cert, key] => (cert, key, None),
            [cert, key, ca] => (cert, key, Some(ca)),
            [.., last] => return Err(lines.arg_err(last)),
        };
        let (mut auth, mut keys) = (ClientAuth::None, None);
        for option in &stanza.options {
            match option.name.text.as_str() {
                "client_auth" => auth = client_auth(lines, option)?,
                "keylog" => {
                    let path = lines.path(&lines.one_arg(option)?.text);
                    keys = Some(Arc::new(Keys { path, file: OnceLock::new() }));
                }
                other => {
                    let words = format!("unknown option '{other}'");
                    let error = lines.parse_err(&option.name, words);
                    return Err(error.suggesting(other, &["client_auth", "keylog"]));
                }
            }
        }
        let identity = Identity::read(lines.path(&cert.text), lines.path(&key.text))
            .map_err(|why| lines.err(cert, format!("could not load TLS cert: {why}")))?;
        let roots =
            ca.map(|ca| Authorities::read(&lines.path(&ca.text)).map_err(|why| lines.err(ca, why)));
        let config = identity.accept(auth, roots.transpose()?);
        let mut config = config.map_err(|why| lines.err(ca.unwrap_or(cert), why))?;
        if let Some(keys) = &keys {
            config.key_log = Arc::clone(keys) as _;
        }
        let repeated = lines.stanzas().len() > 1;
        Ok(Self { identity, config: Arc::new(config), keys, repeated })
    }

    fn warnings(&self) -> Vec<String> {
        let words = || "stands more than once in this block: the last one decides".to_owned();
        self.repeated.then(words).into_iter().collect()
    }

    fn facts(&self, facts: &mut Facts) {
        facts.tls = Some(Arc::clone(&self.config));
    }

    fn compile(self, site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        if let Some(keys) = self.keys {
            let file = open(&keys.path).map_err(|error| {
                let why = identity::opened(&keys.path, &error);
                site.err(format!("unable to write TLS Key Log to {:?}: {why}", keys.path))
            })?;
            let _ = keys.file.set(file);
            tracing::warn!("plugin/tls: Writing TLS Key Log to {:?}", keys.path);
        }
        site.watch(Renewal { identity: self.identity, trouble: None }, |_, ()| {});
        Ok(Compiled::nothing())
    }
}

/// Why a certificate by ACME is not to be had.
fn acme(lines: &Lines<'_>, stanza: &Stanza) -> CorefileError {
    const OPTIONS: [&str; 6] = ["acme", "email", "ca", "storage", "ca_root", "resolver"];
    for option in &stanza.options {
        let name = option.name.text.as_str();
        if !OPTIONS.contains(&name) {
            let error = lines.parse_err(&option.name, format!("unknown ACME option {name:?}"));
            return error.suggesting(name, &OPTIONS);
        }
    }
    match stanza.options.iter().find(|option| option.name.text == "acme") {
        None => lines.err(&stanza.name, "ACME requires at least one domain; or give CERT and KEY"),
        Some(option) => {
            let words =
                "certificates by ACME are not built into this version yet: give CERT and KEY";
            lines.err(&option.name, words)
        }
    }
}

fn client_auth(lines: &Lines<'_>, option: &OptionLine) -> Result<ClientAuth, CorefileError> {
    let arg = lines.one_arg(option)?;
    let known = ["nocert", "request", "require", "verify_if_given", "require_and_verify"];
    match arg.text.as_str() {
        "nocert" => Ok(ClientAuth::None),
        "request" => Ok(ClientAuth::Request),
        "require" => Ok(ClientAuth::Require),
        "verify_if_given" => Ok(ClientAuth::VerifyIfGiven),
        "require_and_verify" => Ok(ClientAuth::RequireAndVerify),
        other => {
            let error = lines.parse_err(arg, format!("unknown authentication type '{other}'"));
            Err(error.suggesting(other, &known))
        }
    }
}

/// Looks whether the certificate has been renewed.
struct Renewal {
    identity: Arc<Identity>,
    /// Why what is there now cannot be used, once it has been told.
    trouble: Option<String>,
}

impl Watched for Renewal {
    type Table = ();

    fn wait(&self) -> Option<Duration> {
        Some(Duration::from_secs(TLS_LOOK_SECONDS))
    }

    fn look(&mut self, _all: bool) -> Option<()> {
        match self.identity.renew() {
            Ok(true) => tracing::info!("plugin/tls: The certificate has been renewed"),
            Ok(false) => {}
            Err(why) => {
                if self.trouble.as_ref() != Some(&why) {
                    tracing::error!("plugin/tls: {why}: the certificate read before is kept");
                }
                self.trouble = Some(why);
                return None;
            }
        }
        self.trouble = None;
        None
    }
}

/// Where the secrets of connections are written.
#[derive(Debug)]
struct Keys {
    path: PathBuf,
    file: OnceLock<File>,
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

impl KeyLog for Keys {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let hex = |octets: &[u8]| octets.iter().map(|o| format!("{o:02x}")).collect::<String>();
        let line = format!("{label} {} {}\n", hex(client_random), hex(secret));
        // Appended by one write: lines of several workers do not mix.
        if let Some(mut file) = self.file.get() {
            let _ = file.write_all(line.as_bytes());
        }
    }
}
