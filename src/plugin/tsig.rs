//! # tsig
//!
//! Keys for signed queries: verifies them, signs the replies, and may refuse what is not signed
//! (TSIG, RFC 8945).
//!
//! ## Syntax
//!
//! ```corefile
//! tsig [ZONES...] {
//!     secret NAME SECRET
//!     secrets FILE
//!     require TYPES...
//!     require_opcode OPCODES...
//! }
//! ```
//!
//! * **ZONES**: the names that the plugin is for, by default the block's. Queries for other names go
//!   by, signed or not, and their replies are not signed.
//! * `secret`: a key: its name, and the secret in base64. May be given more than once; a name may not.
//! * `secrets`: keys from a file, in the form of `named.conf`:
//!
//!   ```text
//!   key "example." {
//!       algorithm hmac-sha256;
//!       secret "X28hl0BOfAL5G0jsmJWSacrwn7YRm2f6U5brnzwWEus=";
//!   };
//!   ```
//!
//!   The algorithm is not looked at: a key is good for every one.
//! * `require`: queries of these types must be signed: REFUSED if they are not. `all` or `none` (the
//!   default) may stand instead; `all` stays, whatever `require` comes after it.
//! * `require_opcode`: likewise by opcode: `QUERY`, `IQUERY`, `STATUS`, `NOTIFY`, `UPDATE`.
//!
//! Keys are those of the listener: a query may be signed with a key of any block that listens at the
//! same address. HMAC with SHA-1, SHA-224, SHA-256, SHA-384 and SHA-512 is known. Every query with a
//! TSIG record is verified over its octets as they were received, whatever it came by, before any
//! plugin sees it.
//!
//! A query whose signature is not good is answered NOTAUTH, with the TSIG error BADKEY (key or
//! algorithm not known), BADSIG, BADTIME or BADTRUNC. Replies are signed with the key of the query,
//! each message of a zone transfer by itself; so are failures. A message whose TSIG record is
//! malformed, or not the last, is FORMERR.
//!
//! A secret that is not base64 is told in the log at the start; what is signed with it is BADSIG.
//!
//! ## Examples
//!
//! Transfers only for who knows the key:
//!
//! ```corefile
//! example.org {
//!     tsig {
//!         secret transfer.example.org. NoTCJU+DMqFWywaPyxSijrDEA/eC3nK0xi3AMEZuPVk=
//!         require AXFR IXFR
//!     }
//!     file db.example.org
//! }
//! ```
//!
//! ## Differences from CoreDNS
//!
//! * Names of keys are compared without regard to case, as names are (RFC 8945 section 5.2.1).
//! * An unknown algorithm is BADKEY (RFC 8945 section 5.2.1), a MAC that is good but cut short is
//!   BADTRUNC (section 5.2.4), one of a length that no MAC has is FORMERR (section 5.2.2.1): CoreDNS
//!   says BADSIG to all.
//! * A TSIG record before others, or a second one, is FORMERR (RFC 8945 section 5.1); CoreDNS takes
//!   such a query for one that is not signed.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Compiled, CorefileError, Cx, Directive, Facts, Lines, Plugin, SetupError, Site, Step};
use crate::control::corefile::{OptionLine, Token};
use crate::wire::{NameBuf, Opcode, Rtype, Suffixes, TsigKey, TsigStatus, opcode, rcode, rtype};

const OPTIONS: &[&str] = &["secret", "secrets", "require", "require_opcode"];

/// The directive.
pub struct Tsig {
    zones: Vec<NameBuf>,
    keys: Vec<TsigKey>,
    types: Required<Rtype>,
    opcodes: Required<Opcode>,
}

/// What has to be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Required<T> {
    All,
    Some(Vec<T>),
}

impl<T: PartialEq> Required<T> {
    fn covers(&self, one: &T) -> bool {
        match self {
            Self::All => true,
            Self::Some(some) => some.contains(one),
        }
    }

    /// Reads `all`, `none` or a list of names, of which `number` knows the numbers. Once `all` was
    /// said it stays, as in CoreDNS.
    fn read(
        self,
        lines: &Lines<'_>,
        option: &OptionLine,
        what: &str,
        number: impl Fn(&str) -> Option<T>,
    ) -> Result<Self, CorefileError> {
        let read = match lines.some_args(option)? {
            [all, ..] if all.text == "all" => Self::All,
            [none, ..] if none.text == "none" => Self::Some(Vec::new()),
            names => {
                let read = |name: &Token| {
                    let unknown = || fault(lines, name, &format!("unknown {what} '{}'", name.text));
                    number(&name.text).ok_or_else(unknown)
                };
                Self::Some(names.iter().map(read).collect::<Result<_, _>>()?)
            }
        };
        Ok(if matches!(self, Self::All) { self } else { read })
    }
}

/// CoreDNS says the same words to whatever is wrong; why goes before them.
fn fault(lines: &Lines<'_>, at: &Token, why: &str) -> CorefileError {
    let text = &at.text;
    let words = "Wrong argument count or unexpected line ending after";
    lines.parse_err(at, format!("{why}: {words} '{text}'"))
}

impl Directive for Tsig {
    const NAME: &'static str = "tsig";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let stanza = match lines.stanzas() {
            [_, second, ..] => {
                let why = "this plugin can only be used once per Server Block";
                return Err(fault(lines, &second.name, why));
            }
            _ => lines.only_one()?,
        };
        let mut tsig = Self {
            zones: lines.zones_of(&stanza.args),
            keys: Vec::new(),
            types: Required::Some(Vec::new()),
            opcodes: Required::Some(Vec::new()),
        };
        for option in &stanza.options {
            match option.name.text.as_str() {
                "secret" => {
                    let [name, secret] = &option.args[..] else {
                        return Err(lines.arg_err(option.args.last().unwrap_or(&option.name)));
                    };
                    let key = NameBuf::parse(&name.text)
                        .map_err(|why| fault(lines, name, &why.to_string()))?;
                    tsig.add(&key, &secret.text).map_err(|why| fault(lines, name, &why))?;
                }
                "secrets" => {
                    let file = lines.one_arg(option)?;
                    // As CoreDNS: `root` does not say where.
                    let read = read_keys(Path::new(&file.text));
                    for (key, secret) in read.map_err(|why| fault(lines, file, &why))? {
                        tsig.add(&key, &secret).map_err(|why| fault(lines, file, &why))?;
                    }
                }
                "require" => {
                    let known = |text: &str| rtype::parse(text).filter(|_| is_upper(text));
                    tsig.types = tsig.types.read(lines, option, "query type", known)?;
                }
                "require_opcode" => {
                    let known = |text: &str| opcode::parse(text).filter(|_| is_upper(text));
                    tsig.opcodes = tsig.opcodes.read(lines, option, "opcode", known)?;
                }
                word => {
                    let why = format!("unknown property '{word}'");
                    return Err(fault(lines, &option.name, &why).suggesting(word, OPTIONS));
                }
            }
        }
        Ok(tsig)
    }

    fn facts(&self, facts: &mut Facts) {
        facts.tsig_keys.extend(self.keys.iter().cloned());
    }

    fn compile(self, _site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        let Self { zones, types, opcodes, .. } = self;
        let zones = Suffixes::new(zones.into_iter().map(|zone| (zone, ())));
        Ok(Compiled::link(Link { zones, types, opcodes }))
    }
}

impl Tsig {
    fn add(&mut self, name: &NameBuf, secret: &str) -> Result<(), String> {
        let lower = NameBuf::lowered(name.as_name());
        if self.keys.iter().any(|key| key.name() == lower.as_name()) {
            return Err(format!("key {:?} redefined", lower.to_string()));
        }
        let decoded = STANDARD.decode(secret).ok().map(Vec::into_boxed_slice);
        if decoded.is_none() {
            tracing::warn!(
                target: "plugin/tsig",
                "The secret of key {:?} is not base64: nothing that is signed with it is good",
                lower.to_string()
            );
        }
        self.keys.push(TsigKey::new(lower.as_name(), decoded));
        Ok(())
    }
}

/// Types and opcodes are written in capitals.
fn is_upper(text: &str) -> bool {
    !text.bytes().any(|octet| octet.is_ascii_lowercase())
}

/// Reads a file of keys: their names and secrets.
fn read_keys(path: &Path) -> Result<Vec<(NameBuf, String)>, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("open {}: {error}", path.display()))?;
    parse_keys(&text)
}

fn parse_keys(text: &str) -> Result<Vec<(NameBuf, String)>, String> {
    let mut keys: Vec<(NameBuf, String)> = Vec::new();
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    while let Some(line) = lines.next() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("key") | None => {}
            Some(other) => return Err(format!("unexpected token {other:?}")),
        }
        let name = words.next().unwrap_or_default().trim_matches(['"', '{']);
        if name.is_empty() {
            return Err(format!("expected key name {line:?}"));
        }
        let name = NameBuf::parse(name).map_err(|why| format!("key {name:?}: {why}"))?;
        let name = NameBuf::lowered(name.as_name());
        if keys.iter().any(|(other, _)| *other == name) {
            return Err(format!("key {:?} redefined", name.to_string()));
        }
        let secret = parse_secret(&mut lines)?;
        let missing = || format!("expected secret for key {:?}", name.to_string());
        keys.push((name, secret.ok_or_else(missing)?));
    }
    Ok(keys)
}

/// Reads the lines of one key, up to its closing brace.
fn parse_secret<'l>(lines: &mut impl Iterator<Item = &'l str>) -> Result<Option<String>, String> {
    let mut found = None;
    for line in lines {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("algorithm") | None => {}
            Some("secret") => {
                let secret = words.next().unwrap_or_default().trim_matches(['"', ';']);
                if secret.is_empty() {
                    return Err(format!("expected secret key {line:?}"));
                }
                found = Some(secret.to_owned());
            }
            Some("}" | "};") => break,
            Some(other) => return Err(format!("unexpected token {other:?}")),
        }
    }
    Ok(found)
}

/// The link.
pub struct Link {
    zones: Suffixes<()>,
    types: Required<Rtype>,
    opcodes: Required<Opcode>,
}

impl Plugin for Link {
    type Frame = ();
    type Local = ();

    fn local(&self, _core: u16) {}

    fn serve(&self, (): &mut (), cx: &mut Cx<'_>) -> Step<()> {
        let (status, question) = (cx.signature(), cx.question());
        let required = || {
            let opcode = cx.asked().flags.opcode();
            self.types.covers(&question.rtype) || self.opcodes.covers(&opcode)
        };
        let passes = status == TsigStatus::Unsigned && !required();
        if passes || self.zones.find(question.lower).is_none() {
            return Step::Next;
        }
        let code = match status {
            TsigStatus::Verified => {
                cx.sign();
                return Step::Next;
            }
            TsigStatus::Unsigned => rcode::REFUSED,
            TsigStatus::Failed(_) => {
                cx.sign();
                rcode::NOTAUTH
            }
        };
        let (_, reply) = cx.answer(false);
        reply.set_rcode(code);
        Step::Up
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse_block;
    use super::*;

    #[test]
    fn options() {
        let tsig = parse_block::<Tsig>(
            "tsig a.org {\n secret K.A. c2VjcmV0\n secret b c2VjcmV0\n require AXFR IXFR\n \
             require_opcode NOTIFY\n}",
        )
        .expect("accepted");
        let names: Vec<_> = tsig.keys.iter().map(|key| key.name().to_string()).collect();
        assert_eq!(names, ["k.a.", "b."]);
        assert_eq!(tsig.types, Required::Some(vec![rtype::AXFR, rtype::IXFR]));
        assert_eq!(tsig.opcodes, Required::Some(vec![opcode::NOTIFY]));
        assert_eq!(tsig.zones[0].to_string(), "a.org.");
        let tsig =
            parse_block::<Tsig>("tsig {\n require A\n require all x\n require_opcode none\n}");
        let tsig = tsig.expect("accepted");
        assert_eq!((tsig.types, tsig.opcodes), (Required::All, Required::Some(vec![])));
        assert_eq!(tsig.zones[0].to_string(), "example.org.", "the block's");
    }

    #[test]
    fn faults_in_coredns_words() {
        for (block, why) in [
            ("tsig {\n secret k\n}", ""),
            ("tsig {\n secret k s s\n}", ""),
            ("tsig {\n secret k s\n secret K. s\n}", "key \"k.\" redefined"),
            ("tsig {\n secrets\n}", ""),
            ("tsig {\n secrets /nowhere/at/all\n}", "open /nowhere/at/all"),
            ("tsig {\n require\n}", ""),
            ("tsig {\n require FOO\n}", "unknown query type 'FOO'"),
            ("tsig {\n require axfr\n}", "unknown query type 'axfr'"),
            ("tsig {\n require_opcode FOO\n}", "unknown opcode 'FOO'"),
            ("tsig {\n requires A\n}", "unknown property 'requires'"),
            ("tsig\ntsig", "this plugin can only be used once per Server Block"),
        ] {
            let fault = parse_block::<Tsig>(block).map(|_| ()).expect_err(block);
            assert!(fault.contains(why), "{block}: {fault}");
            assert!(fault.contains("Wrong argument count or unexpected line ending"), "{fault}");
        }
    }

    #[test]
    fn files_of_keys() {
        let text = "\nkey \"A.\" {\n algorithm hmac-sha256;\n secret \"c2VjcmV0\";\n};\n\
                    key b{\nsecret x\n}\n";
        let keys = parse_keys(text).expect("accepted");
        let keys: Vec<_> = keys.iter().map(|(key, secret)| (key.to_string(), &**secret)).collect();
        assert_eq!(keys, [("a.".to_owned(), "c2VjcmV0"), ("b.".to_owned(), "x")]);
        for (text, why) in [
            ("foo \"a.\" {", "unexpected token \"foo\""),
            ("key", "expected key name \"key\""),
            ("key {", "expected key name"),
            ("key a {\n}", "expected secret for key \"a.\""),
            ("key a {\n secret ;\n}", "expected secret key"),
            ("key a {\n secret\n}", "expected secret key"),
            ("key a {\n x\n}", "unexpected token \"x\""),
            ("key a {\n secret x\n}\nkey A. {\n secret x\n}", "key \"a.\" redefined"),
        ] {
            let fault = parse_keys(text).expect_err(text);
            assert!(fault.contains(why), "{text}: {fault}");
        }
    }
}
