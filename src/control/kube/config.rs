//! Where the API server is, who it must be, and who we are.
//!
//! Three ways, as in CoreDNS: a kubeconfig file, which wins; an end point with or without
//! certificates; or what a pod is given (`KUBERNETES_SERVICE_HOST`, `KUBERNETES_SERVICE_PORT` and the
//! service account's files). Credentials are read again whenever a client is made, which is at every
//! new attempt after the server did not accept them; the service account's token and authorities are
//! read again every minute besides (they rotate).
//!
//! A bearer token never travels over plain HTTP: it is left out.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{Config, Kubeconfig, KubeconfigError};

use crate::control::identity::opened;
use crate::limits::KUBE_CONNECT_SECONDS_MAX;

/// How to reach the API server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Connect {
    /// As a pod of the cluster.
    #[default]
    InCluster,
    /// `kubeconfig FILE [CONTEXT]`.
    Kubeconfig {
        /// The file.
        file: PathBuf,
        /// The context, if it is not the file's current one.
        context: Option<String>,
    },
    /// `endpoint URL`, with or without `tls CERT KEY CA`.
    Endpoint {
        /// `http://10.0.0.1:8080`; without a scheme `http`, or `https` with certificates.
        url: String,
        /// What it must be, and what we are.
        tls: Option<Tls>,
    },
}

/// The files of `tls`; an empty path is a file that was not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Our certificate, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// The authorities that the server's certificate may come from, PEM.
    pub ca: PathBuf,
}

impl Connect {
    /// Where a user's tools look: the kubeconfig of the environment, the cluster around, the user's own.
    pub fn usual() -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|text| !text.is_empty());
        let file = |file: PathBuf| Self::Kubeconfig { file, context: None };
        match (variable("KUBECONFIG"), variable("KUBERNETES_SERVICE_HOST"), variable("HOME")) {
            (Some(path), ..) => file(path.into()),
            (None, None, Some(home)) => file(PathBuf::from(home).join(".kube/config")),
            _ => Self::InCluster,
        }
    }

    /// Reads what the way needs: files and the environment. Blocks on the disk.
    ///
    /// # Errors
    /// One line: what is missing or cannot be understood.
    pub fn config(&self) -> Result<Config, String> {
        let mut config = match self {
            Self::InCluster => in_cluster()?,
            Self::Kubeconfig { file, context } => from_file(file, context.as_deref())?,
            Self::Endpoint { url, tls } => endpoint(url, tls.as_ref())?,
        };
        config.connect_timeout = Some(Duration::from_secs(KUBE_CONNECT_SECONDS_MAX));
        // Tries again by itself otherwise, which neither the log nor the counters would see.
        config.default_retry = false;
        if config.cluster_url.scheme_str() != Some("https") {
            let who = &mut config.auth_info;
            (who.token, who.token_file) = (None, None);
            (who.exec, who.auth_provider) = (None, None);
            (who.username, who.password) = (None, None);
        }
        Ok(config)
    }
}

/// Has the server's certificate checked against the authorities of a file, read again as it changes.
fn authorities(config: &mut Config, file: String) {
    config.root_cert_file = Some(file.into());
    // Instead of those of the system, which an image need not have.
    config.root_cert = Some(Vec::new());
}

/// What a pod is given.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

fn in_cluster() -> Result<Config, String> {
    let variable = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
    let place = (variable("KUBERNETES_SERVICE_HOST"), variable("KUBERNETES_SERVICE_PORT"));
    let (Some(host), Some(port)) = place else {
        let words = "unable to load in-cluster configuration, KUBERNETES_SERVICE_HOST and \
                     KUBERNETES_SERVICE_PORT must be defined";
        return Err(words.into());
    };
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let url = format!("https://{host}:{port}");
    let uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
    let mut config = Config::new(uri);
    let token = format!("{ACCOUNT}/token");
    std::fs::metadata(&token).map_err(|error| format!("{token}: {error}"))?;
    config.auth_info.token_file = Some(token);
    authorities(&mut config, format!("{ACCOUNT}/ca.crt"));
    Ok(config)
}

fn from_file(file: &Path, context: Option<&str>) -> Result<Config, String> {
    let failed = |words: &str| format!("kubeconfig {}: {words}", file.display());
    let mut read = Kubeconfig::read_from(file).map_err(|error| match &error {
        KubeconfigError::ReadConfig(error, _) if error.kind() == ErrorKind::NotFound => {
            failed("no such file or directory")
        }
        KubeconfigError::ReadConfig(error, _) => failed(&error.to_string()),
        // Of YAML it shows the place, too, in more lines.
        other => failed(other.to_string().lines().next().unwrap_or_default()),
    })?;
    if let Some(context) = context {
        read.current_context = Some(context.to_owned());
    }
    Config::try_from(read).map_err(|error| failed(&error.to_string()))
}

fn endpoint(url: &str, tls: Option<&Tls>) -> Result<Config, String> {
    let whole = match (url.contains("://"), tls) {
        (true, _) => url.to_owned(),
        (false, None) => format!("http://{url}"),
        (false, Some(_)) => format!("https://{url}"),
    };
    let fault = |_| format!("endpoint: host must be a URL or a host:port pair: {url:?}");
    let uri = whole.parse().map_err(fault)?;
    let mut config = Config::new(uri);
    if config.cluster_url.host().is_none() {
        return Err(format!("endpoint {url}: no host"));
    }
    if let Some(tls) = tls {
        let files = [
            ("client-cert", &tls.cert),
            ("client-key", &tls.key),
            ("certificate-authority", &tls.ca),
        ];
        let missing = files.iter().filter(|(_, path)| !path.as_os_str().is_empty());
        let missing = missing.filter_map(|(what, path)| {
            let error = std::fs::File::open(path).err()?;
            let why = opened(path, &error);
            Some(format!("unable to read {what} {} due to {why}", path.display()))
        });
        let missing: Vec<_> = missing.collect();
        if !missing.is_empty() {
            return Err(format!("invalid configuration: {}", missing.join(", ")));
        }
        let path = |path: &Path| path.to_str().filter(|path| !path.is_empty()).map(String::from);
        config.auth_info.client_certificate = path(&tls.cert);
        config.auth_info.client_key = path(&tls.key);
        if let Some(ca) = path(&tls.ca) {
            authorities(&mut config, ca);
        }
        for path in [&tls.cert, &tls.key, &tls.ca] {
            if !path.as_os_str().is_empty() {
                std::fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
            }
        }
    }
    Ok(config)
}
