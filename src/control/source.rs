//! Where the Corefile comes from: a file, standard input, the built-in one, the sample.

use std::sync::OnceLock;

use super::args::{Serve, Source};
use super::corefile::{Corefile, CorefileError, Directives, Input, load as load_corefile};
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
        Source::File(path) => Input::File(path.clone()),
        Source::Default => Input::of_flag(""),
        Source::Sample => Input::File(super::sample::corefile()),
    }
}
