//! # debug
//!
//! Has the process log at level debug, and lets a panic end it.
//!
//! ## Syntax
//!
//! ```corefile
//! debug
//! ```
//!
//! One block with `debug` turns debug lines on for the whole process. A panic in a walk of such a
//! block is not turned into SERVFAIL: it ends the process with its trace. Do not use it in production.
//!
//! ## Examples
//!
//! ```corefile
//! . {
//!     debug
//!     whoami
//! }
//! ```

use super::{Compiled, CorefileError, Directive, Facts, Lines, SetupError, Site};

/// The directive.
pub struct Debug;

impl Directive for Debug {
    const NAME: &'static str = "debug";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        for stanza in lines.stanzas() {
            lines.no_args(*stanza)?;
            lines.no_block(stanza)?;
        }
        Ok(Self)
    }

    fn facts(&self, facts: &mut Facts) {
        facts.debug = true;
    }

    fn compile(self, _site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        Ok(Compiled::nothing())
    }
}
