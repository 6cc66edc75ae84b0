//! The hash that says whether a Corefile changed.
//!
//! CoreDNS logs it and exports it as `reload_version_info`, so it is made of the same octets: the
//! JSON that Go's encoder writes for the server blocks,
//! `[{"Keys":[…],"Tokens":{"NAME":[{"File":…,"Line":…,"Text":…}]}}]`, directives sorted by name,
//! `null` if there is no block. Tokens of the Corefile itself have an empty file name.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha512};

use super::lexer::Token;
use super::parse::RawBlock;

/// SHA-512 of the blocks of the Corefile `main`.
pub(super) fn of_blocks(blocks: &[RawBlock], main: &str) -> [u8; 64] {
    Sha512::digest(json(blocks, main)).into()
}

fn json(blocks: &[RawBlock], main: &str) -> String {
    if blocks.is_empty() {
        return "null".to_owned();
    }
    let mut out = String::from("[");
    for (i, block) in blocks.iter().enumerate() {
        out.push_str(if i == 0 { "{\"Keys\":[" } else { ",{\"Keys\":[" });
        for (i, key) in block.keys.iter().enumerate() {
            separate(&mut out, i);
            string(&mut out, &key.text);
        }
        out.push_str("],\"Tokens\":{");
        let mut directives: Vec<_> = block.directives.iter().collect();
        directives.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        for (i, directive) in directives.into_iter().enumerate() {
            separate(&mut out, i);
            string(&mut out, &directive.name);
            out.push_str(":[");
            for (i, t) in directive.uses.iter().flat_map(|(_, tokens)| tokens).enumerate() {
                separate(&mut out, i);
                token(&mut out, t, main);
            }
            out.push(']');
        }
        out.push_str("}}");
    }
    out.push(']');
    out
}

fn separate(out: &mut String, i: usize) {
    if i > 0 {
        out.push(',');
    }
}

fn token(out: &mut String, token: &Token, main: &str) {
    let file = if *token.place.file == *main { "" } else { &token.place.file };
    out.push_str("{\"File\":");
    string(out, file);
    let _ = write!(out, ",\"Line\":{},\"Text\":", token.place.line);
    string(out, &token.text);
    out.push('}');
}

/// A JSON string as Go's encoder escapes it, HTML-safe.
fn string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::super::{Directives, Input, load};

    #[test]
    fn the_hash_is_coredns_s() {
        let text = "(s) {\n errors\n}\nExample.org, {$UNSET}b:54 {\n\
                    \x20 log . \"a<b>&\\\"\u{2028}\t\" {\n\
                    \x20   class all\n  }\n  import s\n  log\n}\n";
        let input = Input::Text { name: "Corefile".into(), text: text.into() };
        let names = ["log", "errors"];
        let directives = Directives { known: &names, built: &names };
        let corefile = load(input, directives, &|_| None, 53).expect("accepted");
        let hash: String = corefile.hash.iter().map(|octet| format!("{octet:02x}")).collect();
        // As CoreDNS's `reload` logs it for this text.
        assert_eq!(
            hash,
            "fe05d5f2026c44378fcbbd8104dbaf84cb40586d9ba98db55dd28f45199d1b16\
             cde3570ea373e82edb3b4e79e0ca6ec7c4006cf8aa66d168ed1d731c9ba018f5"
        );
    }
}
