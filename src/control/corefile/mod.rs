//! The Corefile: from bytes to server blocks, with every fault in its place.
//!
//! `load` reads a Corefile and everything it imports and gives its server blocks: keys understood,
//! directives as stanzas in file order. It accepts and refuses what CoreDNS 1.14.7 does (its quirks
//! are named where they are kept), reports all faults of a file at once where parsing can go on,
//! and ends on every input within the bounds of `limits`.
//!
//! In the order that a file passes through: `lexer` (words) → `parse` (blocks; with `env` and
//! `import`) → `tree` (stanzas) and `key` (zones, ports, transports) → `hash`. `lines` is what a
//! plugin reads its directive from. Costs one pass over the tokens; runs at start and at reload
//! only.

mod duration;
mod env;
mod error;
mod hash;
mod import;
#[cfg(test)]
mod import_tests;
mod key;
mod lexer;
mod lines;
mod parse;
#[cfg(test)]
mod tests;
mod tree;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use duration::{format_duration, parse_duration};
pub use error::{CorefileError, Place, Shape, Sources, closest};
pub use key::{
    Binding, Key, Transport, check_overlaps, check_ports, check_transports, zones_of_text,
};
pub use lexer::Token;
pub use lines::{Fallthrough, Line, Lines, no_number};
pub use tree::{OptionLine, Stanza};

use crate::limits::COREFILE_BYTES_MAX;
use crate::wire::NameBuf;
use parse::RawBlock;

/// All tokens of a file, whatever it holds; environment variables are not replaced.
pub fn lex(bytes: &[u8], file: &Arc<str>) -> Vec<Token> {
    lexer::lex(&lexer::decode(bytes), file).tokens
}

/// A directive that is refused or not: the names of all, and of those that are built in.
#[derive(Clone, Copy, Debug)]
pub struct Directives<'a> {
    /// Every name that a Corefile may hold, in the order of the chain.
    pub known: &'a [&'a str],
    /// Those of them that this build can run; the others are refused by name.
    pub built: &'a [&'a str],
}

impl Directives<'_> {
    /// Why `name`, written as `token`, cannot be used; none if it can.
    fn fault(self, token: &Token, name: &str) -> Option<CorefileError> {
        if self.built.contains(&name) {
            return None;
        }
        if self.known.contains(&name) {
            let message = format!("directive '{name}' is not built into this version yet");
            return Some(CorefileError::parsing(&token.place, message));
        }
        let message = format!("Unknown directive '{name}'");
        Some(CorefileError::parsing(&token.place, message).suggesting(name, self.known))
    }
}

/// Where a Corefile comes from.
#[derive(Clone, Debug)]
pub enum Input {
    /// A file, named as the operator named it.
    File(PathBuf),
    /// Standard input, read to its end.
    Stdin,
    /// Text that is there already, and the name that places in it bear.
    Text {
        /// What `Place::file` says, and what imports are relative to.
        name: String,
        /// The octets of the file.
        text: Vec<u8>,
    },
    /// No Corefile: `.:PORT` with `whoami` and `log`.
    BuiltIn,
}

impl Input {
    /// What `-conf CONF` means: `stdin`, a path, or (empty) `Corefile` if there is one.
    pub fn of_flag(conf: &str) -> Self {
        match conf {
            "" if PathBuf::from("Corefile").exists() => Self::File("Corefile".into()),
            "" => Self::BuiltIn,
            "stdin" => Self::Stdin,
            path => Self::File(path.into()),
        }
    }

    /// What the argument of a sub-command names: a file, or by `-` standard input.
    pub fn of_argument(path: &Path) -> Self {
        if path.as_os_str() == "-" { Self::Stdin } else { Self::File(path.to_owned()) }
    }

    /// Name and octets.
    ///
    /// # Errors
    /// It cannot be read, or is too large.
    pub fn read(self, default_port: u16) -> Result<(String, Vec<u8>), CorefileError> {
        let refuse =
            |name: &str, why: String| CorefileError::plain(None, format!("open {name}: {why}"));
        match self {
            Self::File(path) => {
                let name = path.to_string_lossy().into_owned();
                let text = import::read(&path, COREFILE_BYTES_MAX).map_err(|e| refuse(&name, e))?;
                Ok((name, text))
            }
            Self::Stdin => {
                let text = import::read_all(std::io::stdin().lock(), COREFILE_BYTES_MAX)
                    .map_err(|e| refuse("/dev/stdin", e))?;
                Ok(("/dev/stdin".to_owned(), text))
            }
            Self::Text { name, text } => Ok((name, text)),
            Self::BuiltIn => {
                let text = format!(".:{default_port} {{\nwhoami\nlog\n}}\n");
                Ok(("Corefile".to_owned(), text.into_bytes()))
            }
        }
    }
}

/// A server block: the zones it serves and the directives that say how.
#[derive(Clone, Debug)]
pub struct ServerBlock {
    /// At least one. A CIDR that covers several reverse zones gives as many keys.
    pub keys: Vec<Key>,
    /// Zones of the keys, in their order.
    pub zones: Vec<NameBuf>,
    /// In file order, all directives together.
    pub stanzas: Vec<Stanza>,
    /// Where its first key stands.
    pub place: Place,
}

impl ServerBlock {
    /// Every use of the directive `name`, in file order.
    pub fn uses<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Stanza> {
        self.stanzas.iter().filter(move |stanza| stanza.directive == name)
    }
}

/// A Corefile that can be compiled.
#[derive(Clone, Debug)]
pub struct Corefile {
    /// In file order; at least one (an empty file gives the built-in block).
    pub blocks: Vec<ServerBlock>,
    /// The text of every file that took part.
    pub sources: Sources,
    /// SHA-512 of what CoreDNS's `reload` hashes: the tokens, with files and lines.
    pub hash: [u8; 64],
    /// What is accepted but probably not meant.
    pub warnings: Vec<CorefileError>,
    /// The port of `dns://` keys without one.
    pub default_port: u16,
}

/// What could be understood of a Corefile, and what could not.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The blocks before the first error of syntax that have a valid key; all of them if there are
    /// no errors.
    pub corefile: Corefile,
    /// Every fault that was found, in the order of finding; at most `COREFILE_ERRORS_MAX` before
    /// those of the keys.
    pub errors: Vec<CorefileError>,
}

/// Reads a Corefile and all that it imports; all or nothing.
///
/// # Errors
/// Every fault that was found.
pub fn load(
    input: Input,
    directives: Directives<'_>,
    env: &dyn Fn(&str) -> Option<String>,
    default_port: u16,
) -> Result<Corefile, Vec<CorefileError>> {
    let reading = read(input, directives, env, default_port);
    if reading.errors.is_empty() { Ok(reading.corefile) } else { Err(reading.errors) }
}

/// As `load`, and gives what could be read even if there are errors: for reports, which quote the
/// sources, and for checks that go on.
pub fn read(
    input: Input,
    directives: Directives<'_>,
    env: &dyn Fn(&str) -> Option<String>,
    default_port: u16,
) -> Reading {
    let mut files = import::Files::default();
    let mut parse = |input: Input| -> Result<_, CorefileError> {
        let (name, text) = input.read(default_port)?;
        let tokens = files.lex(&name, &text);
        let parsed = parse::parse(tokens, &mut files, directives, env);
        let hash = hash::of_blocks(&parsed.blocks, &name);
        Ok((parsed, hash))
    };
    let nothing = || (parse::Parsed::default(), [0; 64]);
    let mut errors = Vec::new();
    let (mut parsed, hash) = parse(input).unwrap_or_else(|error| {
        errors.push(error);
        nothing()
    });
    if parsed.blocks.is_empty() && parsed.errors.is_empty() && errors.is_empty() {
        (parsed, _) = parse(Input::BuiltIn).unwrap_or_else(|_| nothing());
    }
    errors.append(&mut parsed.errors);
    let blocks = parsed.blocks.into_iter().filter_map(|raw| server_block(raw, &mut errors));
    let blocks = blocks.collect();
    let import::Files { sources, warnings, .. } = files;
    Reading { corefile: Corefile { blocks, sources, hash, warnings, default_port }, errors }
}

/// The block, unless none of its keys is valid.
fn server_block(raw: RawBlock, errors: &mut Vec<CorefileError>) -> Option<ServerBlock> {
    let mut keys: Vec<Key> = Vec::new();
    for token in &raw.keys {
        match key::parse(token) {
            Ok(parsed) => keys.extend(parsed),
            Err(error) => errors.push(error),
        }
    }
    let zones = keys.iter().map(|key| key.zone).collect();
    let stanzas = tree::stanzas(raw.directives);
    (!keys.is_empty()).then_some(ServerBlock { keys, zones, stanzas, place: raw.place })
}
