//! Who we are to those that connect: a certificate with its key, and which clients may.
//!
//! An [`Identity`] is read from files and may be read again: connections that come later see the new
//! certificate, those that are made keep theirs. Reading waits for the disk; nothing else does.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
};

use super::trust::{self, Unverified};

/// Which certificates clients have to show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are asked for none.
    #[default]
    None,
    /// They are asked for one, and need not have it; who signed it does not matter.
    Request,
    /// Any.
    Require,
    /// One that an authority has signed, if any.
    VerifyIfGiven,
    /// One that an authority has signed.
    RequireAndVerify,
}

/// Whose certificates clients may have.
pub struct Authorities {
    roots: RootCertStore,
    /// Each as it is: one of them that a client shows, though it is marked as that of an authority, is
    /// that client's own.
    certificates: Vec<CertificateDer<'static>>,
}

impl Authorities {
    /// Those of a text of PEM.
    pub fn parse(text: &[u8]) -> Self {
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(text).flatten().collect();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates.iter().cloned());
        Self { roots, certificates }
    }

    /// Those of a PEM file.
    ///
    /// # Errors
    /// It cannot be read, or has none.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read(path).map_err(|error| {
            format!("error reading {}: {}", path.display(), opened(path, &error))
        })?;
        let found = Self::parse(&text);
        match found.roots.is_empty() {
            true => Err(format!("could not read root certs: {} has none", path.display())),
            false => Ok(found),
        }
    }
}

/// Who verifies the certificates of clients, if they are asked for any; without `authorities` those
/// that the system trusts are.
///
/// # Errors
/// There is no authority among them.
pub fn verifier(
    auth: ClientAuth,
    authorities: Option<Authorities>,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    let is_optional = match auth {
        ClientAuth::None => return Ok(None),
        ClientAuth::Request => return Ok(Some(Unverified::new(provider, false))),
        ClientAuth::Require => return Ok(Some(Unverified::new(provider, true))),
        ClientAuth::VerifyIfGiven => true,
        ClientAuth::RequireAndVerify => false,
    };
    let Authorities { roots, certificates } = authorities
        .unwrap_or_else(|| Authorities { roots: trust::of_system().0, certificates: Vec::new() });
    let builder = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(provider));
    let builder = if is_optional { builder.allow_unauthenticated() } else { builder };
    let roots = builder.build().map_err(|error| format!("client CA's: {error}"))?;
    Ok(Some(Arc::new(Clients { roots, certificates })))
}

/// Verifies clients by roots, and by the very certificates.
#[derive(Debug)]
struct Clients {
    roots: Arc<dyn ClientCertVerifier>,
    certificates: Vec<CertificateDer<'static>>,
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.roots.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.roots.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        match self.roots.verify_client_cert(end_entity, intermediates, now) {
            Err(error)
                if trust::is_marked_as_authority(&error)
                    && self.certificates.contains(end_entity) =>
            {
                Ok(ClientCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.roots.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.roots.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.roots.supported_verify_schemes()
    }
}

/// A chain of certificates and its key (PEM), as it is shown.
///
/// # Errors
/// What of them cannot be used.
pub fn certified(
    chain: &[u8],
    key: &[u8],
    provider: &CryptoProvider,
) -> Result<CertifiedKey, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
    let chain = chain.map_err(|error| error.to_string())?;
    if chain.is_empty() {
        return Err("tls: failed to find any PEM data in certificate input".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| "tls: failed to find any PEM data in key input".to_owned())?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => "tls: private key does not match public key".into(),
        error => error.to_string(),
    })
}

/// A certificate and its key in two files.
#[derive(Debug)]
pub struct Identity {
    chain: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
    current: ArcSwap<Shown>,
}

/// What was read last.
struct Shown {
    texts: [Vec<u8>; 2],
    certified: Arc<CertifiedKey>,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown")
    }
}

impl Identity {
    /// Reads the files.
    ///
    /// # Errors
    /// What of them cannot be used.
    pub fn read(chain: PathBuf, key: PathBuf) -> Result<Arc<Self>, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let current = Shown::read(&chain, &key, None, &provider)?;
        let current = current.ok_or("nothing was read")?;
        Ok(Arc::new(Self { chain, key, provider, current: ArcSwap::from_pointee(current) }))
    }

    /// Reads the files again; whether there is something else in them, which is shown from now on.
    ///
    /// # Errors
    /// What of them cannot be used: what was shown before still is.
    pub fn renew(&self) -> Result<bool, String> {
        let last = self.current.load();
        let fresh = Shown::read(&self.chain, &self.key, Some(&last.texts), &self.provider)?;
        let is_fresh = fresh.is_some();
        if let Some(fresh) = fresh {
            self.current.store(Arc::new(fresh));
        }
        Ok(is_fresh)
    }

    /// How connections are accepted by those who have it: TLS 1.2 and 1.3, sessions are resumed by
    /// tickets that any worker can read.
    ///
    /// # Errors
    /// The clients' authorities cannot be used.
    pub fn accept(
        self: &Arc<Self>,
        auth: ClientAuth,
        authorities: Option<Authorities>,
    ) -> Result<ServerConfig, String> {
        let clients = verifier(auth, authorities, &self.provider)?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = match clients {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::clone(self) as _);
        // A ticketer of its own: a ticket of one listener must not open another, whose clients may
        // have to show more.
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| error.to_string())?;
        Ok(config)
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.load().certified))
    }
}

impl Shown {
    /// `None`: the files hold what they did.
    fn read(
        chain: &Path,
        key: &Path,
        last: Option<&[Vec<u8>; 2]>,
        provider: &CryptoProvider,
    ) -> Result<Option<Self>, String> {
        let read = |path: &Path| std::fs::read(path).map_err(|error| opened(path, &error));
        let texts = [read(chain)?, read(key)?];
        if last == Some(&texts) {
            return Ok(None);
        }
        let certified = Arc::new(certified(&texts[0], &texts[1], provider)?);
        Ok(Some(Self { texts, certified }))
    }
}

/// The words of CoreDNS for a file that cannot be opened.
pub fn opened(path: &Path, error: &std::io::Error) -> String {
    let why = match error.kind() {
        ErrorKind::NotFound => "no such file or directory".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    };
    format!("open {}: {why}", path.display())
}
