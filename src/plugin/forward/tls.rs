//! The client side of TLS to upstreams: whom to trust and who we are.
//!
//! What `tls` names is read here, off the way of a query. Without a file for roots the system's are
//! trusted; a system without any is told of once, and no certificate will be good enough.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::options::TlsFiles;
use super::trust::Trust;
use crate::control::trust;

/// What is spoken above TLS (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    /// DNS over TLS, which needs none and is refused by some that are told one.
    Dot,
    /// HTTP/2.
    H2,
}

/// Certificates as they were read, ready for both kinds of upstream.
#[derive(Clone)]
pub struct Tls {
    dot: Arc<ClientConfig>,
    h2: Arc<ClientConfig>,
    /// What the files held.
    texts: Arc<Vec<Vec<u8>>>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// In CoreDNS's words.
    pub fn load(files: &TlsFiles) -> Result<Self, String> {
        let texts = read(files)?;
        let mut left = texts.iter();
        let client = match &files.client {
            Some(_) => Some(client(left.next(), left.next())?),
            None => None,
        };
        let (roots, named) = match &files.roots {
            Some(path) => from_pem(left.next(), path)?,
            None => (of_system(), Vec::new()),
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let config = match named.is_empty() {
            true => config.with_root_certificates(roots),
            false => {
                let trust = Trust::new(roots, named, provider)?;
                config.dangerous().with_custom_certificate_verifier(trust)
            }
        };
        let dot = match client {
            Some((chain, key)) => config
                .with_client_auth_cert(chain, key)
                .map_err(|error| format!("could not load TLS cert: {error}"))?,
            None => config.with_no_client_auth(),
        };
        let mut h2 = dot.clone();
        h2.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { dot: Arc::new(dot), h2: Arc::new(h2), texts: Arc::new(texts) })
    }

    /// Whether the files hold the same as when they were read; one that cannot be read now counts
    /// as the same, since what it held is all there is.
    pub fn is_current(&self, files: &TlsFiles) -> bool {
        read(files).map_or(true, |texts| texts == *self.texts)
    }

    /// For an upstream of this kind. Sessions are resumed among all of a kind.
    pub fn config(&self, alpn: Alpn) -> Arc<ClientConfig> {
        Arc::clone(match alpn {
            Alpn::Dot => &self.dot,
            Alpn::H2 => &self.h2,
        })
    }

    /// Whether `config` is one of these.
    pub fn has(&self, config: &Arc<ClientConfig>) -> bool {
        Arc::ptr_eq(config, &self.dot) || Arc::ptr_eq(config, &self.h2)
    }
}

/// Chain and key of ours, then roots: those that are named.
fn read(files: &TlsFiles) -> Result<Vec<Vec<u8>>, String> {
    let one = |path: &Path| {
        fs::read(path).map_err(|error| {
            let why = match error.kind() {
                ErrorKind::NotFound => "no such file or directory".to_owned(),
                _ => error.to_string(),
            };
            (path.display().to_string(), why)
        })
    };
    let mut texts = Vec::new();
    if let Some((chain, key)) = &files.client {
        for path in [chain, key] {
            let words = |(path, error)| format!("could not load TLS cert: open {path}: {error}");
            texts.push(one(path).map_err(words)?);
        }
    }
    if let Some(roots) = &files.roots {
        let words = |(path, error)| format!("error reading {path}: open {path}: {error}");
        texts.push(one(roots).map_err(words)?);
    }
    Ok(texts)
}

type Client = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn client(chain: Option<&Vec<u8>>, key: Option<&Vec<u8>>) -> Result<Client, String> {
    let words = |why: String| format!("could not load TLS cert: {why}");
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(chain.map_or(&[], Vec::as_slice)).collect();
    let chain = chain.map_err(|error| words(error.to_string()))?;
    if chain.is_empty() {
        return Err(words("no certificate in the file".into()));
    }
    let key = PrivateKeyDer::from_pem_slice(key.map_or(&[], Vec::as_slice));
    Ok((chain, key.map_err(|error| words(error.to_string()))?))
}

type Roots = (RootCertStore, Vec<CertificateDer<'static>>);

/// The roots in a file, and the certificates that they were made from.
fn from_pem(text: Option<&Vec<u8>>, path: &Path) -> Result<Roots, String> {
    let mut roots = RootCertStore::empty();
    let found = CertificateDer::pem_slice_iter(text.map_or(&[], Vec::as_slice));
    let found: Vec<_> = found.flatten().collect();
    let (added, _) = roots.add_parsable_certificates(found.iter().cloned());
    if added == 0 {
        return Err(format!("could not read root certs: none in {}", path.display()));
    }
    Ok((roots, found))
}

fn of_system() -> RootCertStore {
    let (roots, why) = trust::of_system();
    if roots.is_empty() {
        let why = why.map_or_else(String::new, |error| format!(": {error}"));
        tracing::warn!(
            target: "plugin/forward",
            "the system has no root certificates{why}: no TLS upstream can be verified"
        );
    }
    roots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_not_there_or_hold_nothing_are_faults() {
        let folder = std::env::temp_dir().join(format!("corelane-tls-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let empty = folder.join("empty.pem");
        fs::write(&empty, "nothing\n").unwrap();
        let missing = folder.join("missing.pem");
        let fault = |client, roots| {
            let files = TlsFiles { client, roots, place: None };
            Tls::load(&files).err().expect("refused")
        };
        let text = fault(None, Some(missing.clone()));
        assert!(text.starts_with("error reading ") && text.contains("missing.pem"), "{text}");
        let text = fault(None, Some(empty.clone()));
        assert!(text.starts_with("could not read root certs: "), "{text}");
        let text = fault(Some((empty.clone(), missing)), None);
        assert!(text.starts_with("could not load TLS cert: open "), "{text}");
        let text = fault(Some((empty.clone(), empty)), None);
        assert!(text.starts_with("could not load TLS cert: "), "{text}");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn certificates_are_read_again_when_their_files_change() {
        let folder = std::env::temp_dir().join(format!("corelane-roots-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("roots.pem");
        let certificate = || rcgen::generate_simple_self_signed(["a.test".into()]).unwrap().cert;
        fs::write(&path, certificate().pem()).unwrap();
        let files = TlsFiles { roots: Some(path.clone()), ..TlsFiles::default() };
        let tls = Tls::load(&files).unwrap();
        assert!(tls.is_current(&files));
        assert!(tls.config(Alpn::Dot).alpn_protocols.is_empty());
        assert_eq!(tls.config(Alpn::H2).alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
        assert!(tls.has(&tls.config(Alpn::H2)) && !Tls::load(&files).unwrap().has(&tls.dot));
        fs::write(&path, certificate().pem()).unwrap();
        assert!(!tls.is_current(&files));
        fs::remove_file(&path).unwrap();
        assert!(tls.is_current(&files));
        fs::remove_dir_all(folder).unwrap();
    }
}
