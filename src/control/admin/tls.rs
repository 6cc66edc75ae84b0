//! TLS on an endpoint: what a web configuration file says, as rustls is told it (TLS 1.2 and 1.3,
//! RFC 5246, RFC 8446). Errors are in CoreDNS's words. It reads no files: `web.rs` does.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::SingleCertAndKey;
use rustls::{NamedGroup, ServerConfig, SupportedProtocolVersion, version};

use super::web::Files;
use crate::control::identity::{self, Authorities, ClientAuth};

/// What a web configuration file, and those that it names, hold.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Texts {
    pub(super) web: Vec<u8>,
    /// The chain and its key (PEM); empty where TLS is not spoken.
    pub(super) cert: Vec<u8>,
    pub(super) key: Vec<u8>,
    /// The authorities of clients (PEM), if any are named.
    pub(super) roots: Vec<u8>,
}

/// Rustls's configuration for what `files` say and `texts` hold.
pub(super) fn configure(files: &Files, texts: &Texts) -> Result<Arc<ServerConfig>, String> {
    let Texts { cert, key, roots, .. } = texts;
    let provider = Arc::new(provider(files)?);
    let certified = identity::certified(cert, key, &provider)
        .map_err(|why| format!("failed to load X509KeyPair: {why}"))?;
    let clients = clients(files, roots, &provider)?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(files)?)
        .map_err(|error| error.to_string())?;
    let config = match clients {
        Some(verifier) => config.with_client_cert_verifier(verifier),
        None => config.with_no_client_auth(),
    };
    let mut config = config.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
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
    let auth = match files.client_auth_type.as_str() {
        "" | "NoClientCert" if has_roots => {
            return Err("client CA's have been configured without a Client Auth Policy".into());
        }
        "" | "NoClientCert" => ClientAuth::None,
        "RequestClientCert" => ClientAuth::Request,
        "RequireAnyClientCert" | "RequireClientCert" => ClientAuth::Require,
        "VerifyClientCertIfGiven" => ClientAuth::VerifyIfGiven,
        "RequireAndVerifyClientCert" => ClientAuth::RequireAndVerify,
        other => return Err(format!("invalid ClientAuth: {other}")),
    };
    let authorities = has_roots.then(|| Authorities::parse(roots));
    identity::verifier(auth, authorities, provider)
}
