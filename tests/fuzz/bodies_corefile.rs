//! What the fuzz targets of the Corefile check of any octets; `tests/fuzz_replay_corefile.rs` runs
//! the same on the seeds.

use std::sync::Arc;

use corelane::control::corefile::{
    Binding, CorefileError, Directives, Fallthrough, Input, Lines, Reading, check_overlaps,
    format_duration, lex, parse_duration, read,
};

const NAMES: [&str; 6] = ["errors", "log", "cache", "template", "forward", "whoami"];

/// Tokens stand where they say, in order, and a token written in quotes reads as itself.
pub fn corefile_lex(data: &[u8]) {
    let file: Arc<str> = "Corefile".into();
    let tokens = lex(data, &file);
    assert!(tokens.len() <= data.len());
    let lines = 1 + data.iter().filter(|&&b| b == b'\n').count();
    let mut written = String::new();
    let mut expected = Vec::new();
    let mut before = (1, 0);
    for token in &tokens {
        let at = (token.place.line, token.place.column);
        assert!(at > before, "{at:?} follows {before:?}");
        assert!(token.place.line as usize <= lines);
        assert!(token.quoted || !token.text.is_empty());
        before = at;
        // A backslash before a quote or at the end cannot be written in a Corefile.
        if !token.text.contains('\\') {
            written += &format!("\"{}\" ", token.text.replace('"', "\\\""));
            expected.push(&token.text);
        }
    }
    let again = lex(written.as_bytes(), &file);
    assert!(again.iter().map(|token| &token.text).eq(expected), "{written:?}");
    if let Ok(Ok(duration)) = std::str::from_utf8(data).map(parse_duration) {
        assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
    }
}

/// Reading ends, says the same twice, and either gives blocks or says why not.
pub fn corefile_parse(data: &[u8]) {
    // Only the text itself is under test, so nothing of this machine may be imported.
    if data.windows(6).any(|word| word == b"import") && data.contains(&b'/') {
        return;
    }
    let Reading { corefile, errors } = reading(data);
    let again = reading(data);
    assert_eq!(corefile.hash, again.corefile.hash);
    assert_eq!(errors, again.errors);
    assert!(!errors.is_empty() || !corefile.blocks.is_empty());
    let one_line = |error: &CorefileError| {
        for line in [error.to_string(), error.coredns_line()] {
            assert!(!line.is_empty() && !line.chars().any(char::is_control), "{line:?}");
        }
        assert!(error.report(&corefile.sources).starts_with("error: "));
        if let Some(place) = &error.place {
            assert!(corefile.sources.line(place).is_some(), "{place}");
        }
    };
    errors.iter().chain(&corefile.warnings).for_each(one_line);
    for block in &corefile.blocks {
        assert!(!block.keys.is_empty() && block.keys.len() == block.zones.len());
        for name in NAMES {
            let lines = Lines::new(block, name, None);
            for stanza in lines.stanzas() {
                let options = stanza.options.iter().map(|line| &line.args);
                for args in options.chain([&stanza.args]) {
                    args.iter().for_each(|arg| values(&lines, arg));
                    assert!(lines.zones_of(args).len() >= usize::from(args.is_empty()));
                }
                let falls: Vec<Fallthrough> =
                    stanza.options.iter().map(|line| lines.fallthrough(line)).collect();
                assert!(falls.iter().all(Fallthrough::is_on));
            }
        }
    }
    let binding = |block| Binding { block, addresses: Vec::new(), filtered: false };
    let bindings: Vec<_> = corefile.blocks.iter().map(binding).collect();
    check_overlaps(&bindings, 53).iter().for_each(one_line);
}

/// Every reader takes every word.
fn values(lines: &Lines<'_>, arg: &corelane::control::corefile::Token) {
    let _ = lines.duration(arg);
    let _ = lines.seconds_or_duration(arg);
    let _ = lines.number(arg, 0..=u16::MAX);
    let _ = lines.cidr(arg);
    let _ = lines.ip(arg);
    let _ = lines.on_off(arg);
    let _ = lines.name(arg);
    assert!(lines.unknown_option(arg, &NAMES).place.is_some());
}

fn reading(data: &[u8]) -> Reading {
    let input = Input::Text { name: "/nowhere/Corefile".into(), text: data.to_vec() };
    let env = |name: &str| match name {
        "A" => Some("whoami".to_owned()),
        "B" => Some("{$A}\n{".to_owned()),
        "C" => Some("x{$C}".to_owned()),
        _ => None,
    };
    read(input, Directives { known: &NAMES, built: &NAMES[..5] }, &env, 53)
}
