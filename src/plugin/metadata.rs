//! # metadata
//!
//! Lets plugins read what other plugins know of a query.
//!
//! ## Syntax
//!
//! ```corefile
//! metadata [ZONES...]
//! ```
//!
//! Some plugins have labels such as `kubernetes/namespace`; others, such as `log`, can show them:
//! `{/kubernetes/namespace}`. Without `metadata` in the block every label is empty. **ZONES** is
//! accepted for CoreDNS's sake: a value is computed only when somebody reads it.
//!
//! ## Examples
//!
//! ```corefile
//! . {
//!     metadata
//!     log . "{name} {/kubernetes/namespace}"
//!     whoami
//! }
//! ```

use super::{Compiled, CorefileError, Directive, Facts, Lines, SetupError, Site};

/// The directive.
pub struct Metadata;

impl Directive for Metadata {
    const NAME: &'static str = "metadata";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        match lines.stanzas() {
            [_, second, ..] => Err(lines.arg_err(&second.name)),
            [only] if !only.options.is_empty() => Err(lines.arg_err(&only.options[0].name)),
            _ => Ok(Self),
        }
    }

    fn facts(&self, facts: &mut Facts) {
        facts.metadata = true;
    }

    fn compile(self, _site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        Ok(Compiled::nothing())
    }
}
