//! # bind
//!
//! Says on which addresses a block listens.
//!
//! ## Syntax
//!
//! ```corefile
//! bind ADDRESS|IFACE... {
//!     except ADDRESS|IFACE...
//! }
//! ```
//!
//! Without `bind` a block listens on all addresses. **IFACE** stands for every address that the
//! interface has when the Corefile is loaded; link-local IPv6 addresses keep their interface. What
//! `except` names is left out. Several `bind` lines add up.
//!
//! ## Examples
//!
//! ```corefile
//! . {
//!     bind 127.0.0.1 ::1
//!     whoami
//! }
//! ```

use std::net::{IpAddr, SocketAddr};

use super::{Compiled, CorefileError, Directive, Facts, Lines, SetupError, Site};
use crate::control::corefile::Token;
use crate::sys;

/// The directive.
pub struct Bind {
    addresses: Vec<SocketAddr>,
}

impl Directive for Bind {
    const NAME: &'static str = "bind";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let mut addresses = Vec::new();
        for stanza in lines.stanzas() {
            if stanza.args.is_empty() {
                let words = "at least one address or interface name is expected";
                return Err(lines.err(&stanza.name, words));
            }
            let mut except = Vec::new();
            for option in &stanza.options {
                if option.name.text != "except" {
                    let words = format!("invalid option {:?}", option.name.text);
                    let error = lines.err(&option.name, words);
                    return Err(error.suggesting(&option.name.text, &["except"]));
                }
                if option.args.is_empty() {
                    let words =
                        "at least one address or interface must be given to except subdirective";
                    return Err(lines.err(&option.name, words));
                }
                except = resolve(lines, &option.args)?;
            }
            let wanted = resolve(lines, &stanza.args)?;
            addresses.extend(wanted.into_iter().filter(|address| !except.contains(address)));
        }
        Ok(Self { addresses })
    }

    fn facts(&self, facts: &mut Facts) {
        facts.binds = self.addresses.clone();
    }

    fn compile(self, _site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        Ok(Compiled::nothing())
    }
}

fn resolve(lines: &Lines<'_>, words: &[Token]) -> Result<Vec<SocketAddr>, CorefileError> {
    let mut addresses = Vec::new();
    for word in words {
        let interface = sys::addresses_of(&word.text).unwrap_or_default();
        if !interface.is_empty() {
            addresses.extend(interface);
            continue;
        }
        let Ok(ip) = word.text.parse::<IpAddr>() else {
            let words = format!("not a valid IP address or interface name: {:?}", word.text);
            return Err(lines.err(word, words));
        };
        addresses.push(SocketAddr::new(ip, 0));
    }
    Ok(addresses)
}
