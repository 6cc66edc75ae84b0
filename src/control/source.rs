//! Where the Corefile comes from: a file, standard input, the built-in one, the sample.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::args::{Serve, Source};
use super::corefile::{Corefile, CorefileError, Directives, Input, load as load_corefile};
use super::node_local::{self, kube_dns::KubeDns};
use crate::limits::COREFILE_BYTES_MAX;
use crate::plugin::registry::{NAMES, Parsed};

/// Where Kubernetes' manifest mounts the ConfigMap `kube-dns`.
const USUAL_KUBE_DNS: &str = "/etc/kube-dns";

/// Names of the directives that are built in.
pub fn built() -> &'static [&'static str] {
    static BUILT: OnceLock<Vec<&'static str>> = OnceLock::new();
    BUILT.get_or_init(|| NAMES.iter().copied().filter(|name| Parsed::is_built(name)).collect())
}

/// Every directive, and those that are built in.
pub fn directives() -> Directives<'static> {
    Directives { known: NAMES, built: built() }
}

/// Reads the Corefile that the command line names, with the process's environment.
///
/// # Errors
/// Everything that is wrong with it, or with the ConfigMap `kube-dns` of a node's server.
pub fn load(serve: &Serve) -> Result<Corefile, Vec<CorefileError>> {
    let kube_dns = kube_dns(serve);
    load_with(serve, &kube_dns.map_err(|error| vec![CorefileError::plain(None, error)])?)
}

/// As [`load`], for the first time: what is wrong with the ConfigMap `kube-dns` is told, and the
/// Corefile served without it.
///
/// # Errors
/// Everything that is wrong with the Corefile.
pub fn load_first(serve: &Serve) -> Result<Corefile, Vec<CorefileError>> {
    let kube_dns = kube_dns(serve).unwrap_or_else(|error| {
        tracing::error!("{error}: serving without the ConfigMap kube-dns");
        KubeDns::default()
    });
    load_with(serve, &kube_dns)
}

/// Settles which file a node's server reads, for as long as it runs: the one with words to replace, if
/// it is there.
pub fn settle(serve: &mut Serve) {
    let Some(wanted) = &mut serve.node_local else { return };
    if let Some(base) = wanted.base.take_if(|base| !base.exists()) {
        tracing::info!("-basecorefile: {} is not there: -conf is read", base.display());
    }
}

fn load_with(serve: &Serve, kube_dns: &KubeDns) -> Result<Corefile, Vec<CorefileError>> {
    let env = |name: &str| std::env::var(name).ok();
    let input = input(serve, kube_dns).map_err(|error| vec![error])?;
    load_corefile(input, directives(), &env, serve.port)
}

fn kube_dns(serve: &Serve) -> Result<KubeDns, String> {
    let Some(wanted) = &serve.node_local else { return Ok(KubeDns::default()) };
    let usual = || Some(PathBuf::from(USUAL_KUBE_DNS)).filter(|folder| folder.exists());
    match wanted.kube_dns.clone().or_else(usual) {
        Some(folder) => KubeDns::read(&folder).map_err(|error| format!("-kubednscm: {error}")),
        None => Ok(KubeDns::default()),
    }
}

/// A file; in node-local mode with its words replaced, and then one that says nothing is refused: what
/// CoreDNS serves in its place is nothing that a node could use.
fn file(path: &Path, serve: &Serve, kube_dns: &KubeDns) -> Result<Input, CorefileError> {
    let Some(wanted) = &serve.node_local else { return Ok(Input::File(path.to_owned())) };
    let path = wanted.base.as_deref().unwrap_or(path);
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => {
            let message = format!("open {}: the file is empty", path.display());
            Err(CorefileError::plain(None, message))
        }
        Ok(text) if text.len() <= COREFILE_BYTES_MAX => {
            let env = |name: &str| std::env::var(name).ok();
            let text = node_local::corefile::replaced(&text, wanted, kube_dns, env);
            Ok(Input::Text { name: path.to_string_lossy().into_owned(), text: text.into() })
        }
        // The usual way has the words for it.
        _ => Ok(Input::File(path.to_owned())),
    }
}

/// Standard input is read once: a reload sees the same text again.
fn input(serve: &Serve, kube_dns: &KubeDns) -> Result<Input, CorefileError> {
    static STDIN: OnceLock<Vec<u8>> = OnceLock::new();
    match &serve.source {
        Source::Stdin => {
            let text = STDIN.get_or_init(|| {
                use std::io::Read;
                let mut text = Vec::new();
                let bound = COREFILE_BYTES_MAX as u64;
                let _ = std::io::stdin().lock().take(bound).read_to_end(&mut text);
                text
            });
            Ok(Input::Text { name: "/dev/stdin".into(), text: text.clone() })
        }
        Source::File(path) => file(path, serve, kube_dns),
        Source::Default if is_based(serve) => file(Path::new("Corefile"), serve, kube_dns),
        Source::Default => Ok(Input::of_flag("")),
        Source::Sample => Ok(Input::File(super::sample::corefile())),
    }
}

fn is_based(serve: &Serve) -> bool {
    serve.node_local.as_ref().is_some_and(|wanted| wanted.base.is_some())
}
