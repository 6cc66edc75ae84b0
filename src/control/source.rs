//! Where the Corefile comes from: a file, standard input, the built-in one, the sample.

use std::path::Path;
use std::sync::OnceLock;

use super::args::{Serve, Source};
use super::corefile::{Corefile, CorefileError, Directives, Input, load as load_corefile};
use super::node_local;
use crate::plugin::registry::{NAMES, Parsed};

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
/// Everything that is wrong with it.
pub fn load(serve: &Serve) -> Result<Corefile, Vec<CorefileError>> {
    let env = |name: &str| std::env::var(name).ok();
    load_corefile(input(serve), directives(), &env, serve.port)
}

/// A file; in node-local mode the one with words to replace, if it is there, and the words replaced.
fn file(path: &Path, serve: &Serve) -> Input {
    let Some(wanted) = &serve.node_local else { return Input::File(path.to_owned()) };
    let path = if wanted.base.exists() { &wanted.base } else { path };
    match std::fs::read_to_string(path) {
        Ok(text) if text.len() <= crate::limits::COREFILE_BYTES_MAX => Input::Text {
            name: path.to_string_lossy().into_owned(),
            text: node_local::replaced(&text, wanted, |name| std::env::var(name).ok()).into(),
        },
        // The usual way has the words for it.
        _ => Input::File(path.to_owned()),
    }
}

/// Standard input is read once: a reload sees the same text again.
fn input(serve: &Serve) -> Input {
    static STDIN: OnceLock<Vec<u8>> = OnceLock::new();
    match &serve.source {
        Source::Stdin => {
            let text = STDIN.get_or_init(|| {
                use std::io::Read;
                let mut text = Vec::new();
                let bound = crate::limits::COREFILE_BYTES_MAX as u64;
                let _ = std::io::stdin().lock().take(bound).read_to_end(&mut text);
                text
            });
            Input::Text { name: "/dev/stdin".into(), text: text.clone() }
        }
        Source::File(path) => file(path, serve),
        Source::Default => Input::of_flag(""),
        Source::Sample => Input::File(super::sample::corefile()),
    }
}
