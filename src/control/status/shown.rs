//! A Corefile as the status page shows it: what is served, without what must stay secret.
//!
//! Shown is what was understood, line by line, not the file: comments do not appear. Hidden are the
//! arguments of options whose names speak of secrets, whatever plugin they are of, passwords in URLs,
//! words that look like a key in base64; and where a variable of the environment stands in a word, that
//! word is shown as it is written, since deployments put secrets there. The names of files with keys
//! are shown: who may read them is the file system's matter.

use crate::control::corefile::{ServerBlock, Stanza, Token};

/// What stands for what is hidden.
const HIDDEN: &str = "[hidden]";

/// Parts of names of options whose arguments are secrets (or files with them, among others).
const SECRET_WORDS: [&str; 8] =
    ["secret", "password", "passphrase", "passwd", "token", "credential", "access_key", "auth_key"];

/// Octets from which on a word of base64 with padding is taken for a key.
const KEY_BYTES_MIN: usize = 16;

/// A directive in a server block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its name.
    pub directive: String,
    /// The lines that it is written in, with the options of its block indented.
    pub lines: Vec<String>,
}

/// The keys of a block, and its directives in the order of the file.
pub fn block(block: &ServerBlock) -> (Vec<String>, Vec<Shown>) {
    let keys = block.keys.iter().map(|key| key.text.clone()).collect();
    let directive =
        |stanza: &Stanza| Shown { directive: stanza.directive.clone(), lines: lines(stanza) };
    (keys, block.stanzas.iter().map(directive).collect())
}

fn lines(stanza: &Stanza) -> Vec<String> {
    let mut first = line(&stanza.directive, &stanza.args, false);
    if !stanza.has_block {
        return vec![first];
    }
    first.push_str(" {");
    let options = stanza.options.iter().map(|option| line(&option.name.text, &option.args, true));
    let options = options.map(|option| format!("    {option}"));
    [first].into_iter().chain(options).chain(["}".to_owned()]).collect()
}

/// A name and its arguments; `option`: it may speak of secrets.
fn line(name: &str, args: &[Token], option: bool) -> String {
    let lower = name.to_ascii_lowercase();
    if option && !args.is_empty() && SECRET_WORDS.iter().any(|word| lower.contains(word)) {
        return format!("{name} {HIDDEN}");
    }
    let args = args.iter().map(|arg| quoted(&word(arg.written.as_deref().unwrap_or(&arg.text))));
    [name.to_owned()].into_iter().chain(args).collect::<Vec<_>>().join(" ")
}

/// The word, or what may be shown of it.
fn word(text: &str) -> String {
    if is_key(text) {
        return HIDDEN.to_owned();
    }
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{HIDDEN}{}", &rest[at..]),
        None => text.to_owned(),
    }
}

/// Whether a word looks like a key in base64: long, padded, nothing else in it.
fn is_key(word: &str) -> bool {
    let inner = word.trim_end_matches('=');
    let octet = |octet: u8| octet.is_ascii_alphanumeric() || b"+/-_".contains(&octet);
    word.len() >= KEY_BYTES_MIN && inner.len() < word.len() && inner.bytes().all(octet)
}

/// A line of the log without words that look like keys: errors quote what they refuse.
pub fn log_line(line: &str) -> String {
    let hide = |part: &str| {
        let word = part.trim_matches(|c: char| !c.is_ascii_alphanumeric() && !"+/-_=".contains(c));
        if is_key(word) { part.replace(word, HIDDEN) } else { part.to_owned() }
    };
    line.split(' ').map(hide).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = !word.is_empty() && !word.contains([' ', '\t', '\n', '"', '#', '{', '}']);
    // Variables are no blocks.
    match plain || word.starts_with("{$") || word.starts_with("{%") {
        true => word.to_owned(),
        false => format!("\"{}\"", word.replace('"', "\\\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::corefile::{Input, load};
    use crate::control::{manual, source};
    use crate::plugin::registry;

    fn shown(text: &str) -> String {
        let input = Input::Text { name: "Corefile".into(), text: text.into() };
        let env = |name: &str| (name == "KEY").then(|| "from-the-environment".to_owned());
        let known =
            crate::control::corefile::Directives { known: registry::NAMES, built: registry::NAMES };
        let corefile = load(input, known, &env, 53).expect("a Corefile");
        let mut out = String::new();
        for one in &corefile.blocks {
            let (keys, directives) = block(one);
            out += &format!("{}\n", keys.join(" "));
            for line in directives.iter().flat_map(|shown| &shown.lines) {
                out += &format!("{line}\n");
            }
        }
        out
    }

    #[test]
    fn a_corefile_is_shown_as_it_is_understood() {
        let text = "example.org:5300 . {\n# a comment\nforward . tls://9.9.9.9 {\n\
                     health_check 5s\n}\n\
                    template IN A {\n answer \"{{ .Name }} 60 IN A 10.0.0.1\"\n}\n}\n";
        assert_eq!(
            shown(text),
            "example.org:5300 .\nforward . tls://9.9.9.9 {\n    health_check 5s\n}\n\
             template IN A {\n    answer \"{{ .Name }} 60 IN A 10.0.0.1\"\n}\n"
        );
    }

    #[test]
    fn secrets_are_hidden() {
        let text = ". {\ntsig {\n secret key. c2VjcmV0\n secrets /etc/keys\n}\n\
                    route53 example.org.:Z1 {\n aws_access_key AKIA wJalr\n aws_endpoint x\n}\n\
                    azure g:example.org {\n secret hunter2\n tenant t\n}\n\
                    etcd {\n credentials user hunter2\n endpoint http://u:hunter2@e:1/p@q\n}\n\
                    nomad {\n token hunter2\n}\n\
                    acl {\n allow net {$KEY} \"{%KEY%}\"\n}\n\
                    erratic NoTCJU+DMqFWywaPyxSijrDEA/eC3nK0xi3AMEZuPVk=\n}\n";
        let out = shown(text);
        for secret in ["c2VjcmV0", "/etc/keys", "AKIA", "wJalr", "hunter2", "from-the", "NoTCJU"] {
            assert!(!out.contains(secret), "{secret} in\n{out}");
        }
        for line in [
            "    secret [hidden]",
            "    aws_endpoint x",
            "    tenant t",
            "    endpoint http://[hidden]@e:1/p@q",
            "    allow net {$KEY} {%KEY%}",
            "erratic [hidden]",
        ] {
            assert!(out.lines().any(|one| one == line), "{line} in\n{out}");
        }
    }

    #[test]
    fn manuals_name_no_secret_that_is_shown() {
        // Wherever a manual's syntax has a place for a secret, that place is hidden.
        for name in source::built() {
            let Some(manual) = manual::of(name) else { continue };
            for option in manual.lines().map(str::trim) {
                let mut words = option.split_whitespace();
                let Some(first) = words.next().filter(|first| !first.starts_with('*')) else {
                    continue;
                };
                let is_place =
                    |word: &str| matches!(word, "SECRET" | "PASSWORD" | "TOKEN" | "PASSPHRASE");
                if words.any(is_place) {
                    let hidden = SECRET_WORDS.iter().any(|word| first.contains(word));
                    assert!(hidden, "{name}: {option}");
                }
            }
        }
    }

    #[test]
    fn keys_in_log_lines_are_hidden() {
        let line =
            "Corefile:3:9: tsig: bad secret \"NoTCJU+DMqFWywaPyxSijrDEA/eC3nK0xi3AMEZuPVk=\"";
        assert_eq!(log_line(line), "Corefile:3:9: tsig: bad secret \"[hidden]\"");
        let plain = "2 example.org. A: read udp 10.0.0.1:1->10.0.0.2:53: i/o timeout";
        assert_eq!(log_line(plain), plain);
    }
}
