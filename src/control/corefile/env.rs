//! `{$NAME}` and `{%NAME%}`: environment variables inside a token.
//!
//! An unset variable is empty text; the text of a variable is searched again, never split into
//! tokens. As in CoreDNS a reference without a name (`{$}`) ends the search in its token. CoreDNS
//! loops for ever over a variable that names itself; here replacements of a token are bounded in
//! number and size.

use crate::limits::{COREFILE_TOKEN_BYTES_MAX, ENV_REPLACEMENTS_MAX};

/// A token whose variables do not come to an end, or grow past the limit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Endless;

/// `text` with its variables replaced by what `env` says.
pub(super) fn replace(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, Endless> {
    if !text.contains("{$") && !text.contains("{%") {
        return Ok(text.to_owned());
    }
    let text = replace_kind(text.to_owned(), "{%", "%}", env)?;
    replace_kind(text, "{$", "}", env)
}

fn replace_kind(
    mut text: String,
    open: &str,
    close: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<String, Endless> {
    for _ in 0..ENV_REPLACEMENTS_MAX {
        let Some(start) = text.find(open) else { return Ok(text) };
        let Some(length) = text[start..].find(close) else { return Ok(text) };
        if length <= open.len() {
            return Ok(text);
        }
        let reference = text[start..start + length + close.len()].to_owned();
        let value = env(&reference[open.len()..length]).unwrap_or_default();
        let uses = text.matches(&reference).count();
        if text.len().saturating_add(uses.saturating_mul(value.len())) > COREFILE_TOKEN_BYTES_MAX {
            return Err(Endless);
        }
        text = text.replace(&reference, &value);
    }
    Err(Endless)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        let value = match name {
            "A" => "one",
            "B C" => "two three",
            "NEST" => "{$A}",
            "SELF" => "x{$SELF}",
            "BIG" => return Some("{$BIG}{$BIG}".repeat(1000)),
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[test]
    fn references_are_replaced() {
        for (text, expected) in [
            ("plain", "plain"),
            ("{$A}", "one"),
            ("{%A%}", "one"),
            ("x{$A}-{$A}y{%A%}", "xone-oneyone"),
            ("{$B C}", "two three"),
            ("{$NOT_SET}", ""),
            ("{$}{$A}", "{$}{$A}"),
            ("{%}{%A%}", "{%}{%A%}"),
            ("{$A", "{$A"),
            ("{ $A}", "{ $A}"),
            ("{$NEST}", "one"),
            ("{%NEST%}", "one"),
            ("{{ .Name }}", "{{ .Name }}"),
        ] {
            assert_eq!(replace(text, &env).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn endless_variables_are_refused() {
        assert_eq!(replace("{$SELF}", &env), Err(Endless));
        assert_eq!(replace("{$BIG}", &env), Err(Endless));
    }
}
