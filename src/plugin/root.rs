//! # root
//!
//! Says where relative paths of the block start.
//!
//! ## Syntax
//!
//! ```corefile
//! root PATH
//! ```
//!
//! **PATH** is a folder; without `root` relative paths start at the working directory. A folder that
//! does not exist is a warning only: it may appear later. Every plugin of the block that reads a
//! file keeps to it.
//!
//! ## Examples
//!
//! ```corefile
//! . {
//!     root /etc/coredns/zones
//!     whoami
//! }
//! ```

use std::io::ErrorKind;
use std::path::PathBuf;

use super::{Compiled, CorefileError, Directive, Facts, Lines, SetupError, Site};

/// The directive.
pub struct Root {
    path: PathBuf,
}

impl Directive for Root {
    const NAME: &'static str = "root";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let mut path = PathBuf::new();
        for stanza in lines.stanzas() {
            let arg = lines.one_arg(*stanza)?;
            lines.no_block(stanza)?;
            path = PathBuf::from(&arg.text);
            match path.metadata() {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    tracing::warn!(target: "plugin/root", "Root path does not exist: {}", arg.text);
                }
                Err(error) => {
                    let message = format!("unable to access root path '{}': {error}", arg.text);
                    return Err(lines.parse_err(arg, message));
                }
                Ok(_) => {}
            }
        }
        Ok(Self { path })
    }

    fn facts(&self, facts: &mut Facts) {
        facts.root = Some(self.path.clone());
    }

    fn compile(self, _site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        Ok(Compiled::nothing())
    }
}
