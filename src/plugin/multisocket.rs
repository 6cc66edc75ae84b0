//! # multisocket
//!
//! Bounds how many sockets an address gets, and so how many workers serve.
//!
//! ## Syntax
//!
//! ```corefile
//! multisocket [N]
//! ```
//!
//! Every worker has sockets of its own for each address, which the kernel spreads queries over: that
//! is how this server always works. There are as many workers as cores may be used (the CPU quota
//! and the affinity mask are respected). **N**, from 1 to 1024, makes them fewer; more than there are
//! cores would gain nothing and is taken for all of them. The first block with `multisocket` decides,
//! when the process starts; a reload does not change the number.
//!
//! ## Examples
//!
//! ```corefile
//! . {
//!     multisocket 2
//!     whoami
//! }
//! ```

use super::{Compiled, CorefileError, Directive, Facts, Lines, SetupError, Site};

const SOCKETS_MAX: usize = 1024;

/// The directive.
pub struct Multisocket {
    count: Option<usize>,
}

impl Directive for Multisocket {
    const NAME: &'static str = "multisocket";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let stanza = match lines.stanzas() {
            [only] => only,
            [_, second, ..] => return Err(lines.arg_err(&second.name)),
            [] => return Ok(Self { count: None }),
        };
        let Some(arg) = lines.at_most_one(*stanza)? else { return Ok(Self { count: None }) };
        let text = &arg.text;
        let words = match text.parse::<i64>() {
            Ok(count) if count < 1 => format!("num sockets can not be zero or negative: {count}"),
            Ok(count) if count > SOCKETS_MAX as i64 => {
                format!("num sockets exceeds maximum ({SOCKETS_MAX}): {count}")
            }
            Ok(count) => return Ok(Self { count: Some(count as usize) }),
            Err(_) => format!("invalid num sockets: parsing {text:?}: invalid syntax"),
        };
        Err(lines.err(arg, words))
    }

    fn facts(&self, facts: &mut Facts) {
        facts.multisocket = self.count;
    }

    fn compile(self, _site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        Ok(Compiled::nothing())
    }
}
