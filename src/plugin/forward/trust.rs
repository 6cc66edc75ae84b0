//! Which certificates of upstreams are trusted where the Corefile names an authority's file.
//!
//! Beside those that an authority in the file has signed, a certificate that itself stands in the file
//! is trusted: a server with a certificate of its own making, marked as an authority as such ones
//! often are. webpki refuses it as a server's (it follows RFC 5280 section 4.2.1.9 strictly), CoreDNS
//! does not. Dates, name and the signature of the handshake are verified all the same.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::control::trust::is_marked_as_authority;

/// Verifies by roots, and by the very certificates.
#[derive(Debug)]
pub struct Trust {
    roots: Arc<WebPkiServerVerifier>,
    certificates: Vec<CertificateDer<'static>>,
}

impl Trust {
    /// Trusts what these roots have signed, and these certificates.
    ///
    /// # Errors
    /// There is no root.
    pub fn new(
        roots: RootCertStore,
        certificates: Vec<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<Self>, String> {
        let roots = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Arc::new(Self { roots, certificates }))
    }
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let roots = &self.roots;
        match roots.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(error)
                if is_marked_as_authority(&error) && self.certificates.contains(end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.roots.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.roots.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.roots.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};

    use super::*;

    /// A certificate that signs itself and is marked as an authority's.
    fn own_made(last_year: i32) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["dns.example".into()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.not_before, params.not_after) =
            (date_time_ymd(2020, 1, 1), date_time_ymd(last_year, 1, 1));
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn only_the_very_certificate_with_its_name_in_its_time_is_trusted() {
        let (one, old, other) = (own_made(2100), own_made(2024), own_made(2100));
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates([one.clone(), old.clone()]);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let trust = Trust::new(roots, vec![one.clone(), old.clone()], provider).unwrap();
        let is_trusted = |certificate: &CertificateDer<'_>, name: &'static str| {
            let name = ServerName::try_from(name).unwrap();
            // 2025.
            let now = UnixTime::since_unix_epoch(Duration::from_secs(1_750_000_000));
            trust.verify_server_cert(certificate, &[], &name, &[], now).is_ok()
        };
        assert!(is_trusted(&one, "dns.example"));
        assert!(!is_trusted(&one, "other.example"), "another name");
        assert!(!is_trusted(&old, "dns.example"), "its time is over");
        assert!(!is_trusted(&other, "dns.example"), "another certificate of that name");
    }
}
