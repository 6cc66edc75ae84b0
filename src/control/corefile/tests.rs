//! The grammar as a whole, against what CoreDNS 1.14.7 was seen to do with the same text.

use super::*;

const KNOWN: [&str; 9] =
    ["root", "errors", "log", "cache", "template", "hosts", "forward", "whoami", "nomad"];

fn env(name: &str) -> Option<String> {
    let value = match name {
        "ZONE" => "example.org",
        "PORT" => "5300",
        "DIRECTIVE" => "whoami",
        "LINES" => "a\nb",
        "BRACE" => "{",
        _ => return None,
    };
    Some(value.to_owned())
}

fn load(text: &str) -> Result<Corefile, Vec<CorefileError>> {
    let input = Input::Text { name: "Corefile".into(), text: text.into() };
    let directives = Directives { known: &KNOWN, built: &KNOWN[..8] };
    super::load(input, directives, &env, 53)
}

/// One line for a block: `KEYS: DIRECTIVE ARGS {OPTION ARGS; …}, …`.
fn outline(text: &str) -> Vec<String> {
    let words =
        |tokens: &[Token]| tokens.iter().map(|t| format!(" {}", t.text)).collect::<String>();
    let stanza = |stanza: &Stanza| {
        let mut line = format!("{}{}", stanza.name.text, words(&stanza.args));
        if stanza.has_block {
            let options = stanza.options.iter().map(|o| o.name.text.clone() + &words(&o.args));
            line += &format!(" {{{}}}", options.collect::<Vec<_>>().join("; "));
        }
        line
    };
    let block = |block: &ServerBlock| {
        let keys: Vec<_> = block.keys.iter().map(|key| key.address(53)).collect();
        let stanzas: Vec<_> = block.stanzas.iter().map(stanza).collect();
        format!("{}: {}", keys.join(" "), stanzas.join(", "))
    };
    match load(text) {
        Ok(corefile) => corefile.blocks.iter().map(block).collect(),
        Err(errors) => panic!("{text:?}: {errors:?}"),
    }
}

/// The errors of a Corefile, as one line each.
fn faults(text: &str) -> Vec<String> {
    match load(text) {
        Ok(corefile) => panic!("{text:?} is accepted: {:?}", corefile.blocks),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn blocks_keys_and_options() {
    assert_eq!(
        outline(
            ". {\n  errors\n  cache 30 example.org {\n    success 100\n    denial 10 5\n  }\n}\n"
        ),
        ["dns://.:53: errors, cache 30 example.org {success 100; denial 10 5}"]
    );
    assert_eq!(
        outline("a.org, b.org,\nc.org d.org:54 {\n}\ne.org {\n whoami\n}"),
        [
            "dns://a.org.:53 dns://b.org.:53 dns://c.org.:53 dns://d.org.:54: ",
            "dns://e.org.:53: whoami"
        ]
    );
}

#[test]
fn braces_may_be_missing_or_on_the_next_line() {
    assert_eq!(outline("a.org\nwhoami\nlog\n"), ["dns://a.org.:53: whoami, log"]);
    assert_eq!(outline("a.org\n{\n whoami\n}\n"), ["dns://a.org.:53: whoami"]);
    assert_eq!(outline("a.org b.org"), ["dns://a.org.:53 dns://b.org.:53: "]);
    // The brace of the last directive's options also closes the block.
    assert_eq!(outline(". {\n cache {\n }\n"), ["dns://.:53: cache {}"]);
    // Without an opening brace, a closing one ends the block all the same.
    assert_eq!(outline("a\nwhoami\n}\nb"), ["dns://a.:53: whoami", "dns://b.:53: "]);
}

#[test]
fn an_empty_file_or_a_block_without_keys_gives_the_built_in_block() {
    for text in ["", "# nothing\n", "{\n errors\n}\n", "\"\" {\n errors\n}", "{$UNSET} {\n}\n"] {
        assert_eq!(outline(text), ["dns://.:53: whoami, log"], "{text:?}");
    }
}

#[test]
fn a_brace_too_many_is_a_key() {
    assert_eq!(outline(". {\n whoami\n}\n}\n"), ["dns://.:53: whoami", "dns://}.:53: "]);
}

#[test]
fn variables() {
    assert_eq!(
        outline("{$ZONE}:{%PORT%} {\n {$DIRECTIVE} {$UNSET} x{$ZONE}\n log {$BRACE}\n}"),
        ["dns://example.org.:5300: {$DIRECTIVE}  xexample.org, log {}"]
    );
    // Text of a variable is not split, but its lines count.
    let corefile = load(". {\n cache {$LINES} b\n}").expect("accepted");
    assert_eq!(corefile.blocks[0].stanzas[0].args[0].text, "a\nb");
    // CoreDNS compares the text of a key with `{` after variables, the brace before: the same word
    // is neither.
    assert_eq!(faults("a {$BRACE}\n whoami\n}"), ["Corefile:1:3: Unknown directive '{'"]);
}

#[test]
fn stanzas_keep_the_order_of_the_file() {
    assert_eq!(
        outline(". {\n log a\n errors\n log b {\n  class x\n } trailing\n}"),
        ["dns://.:53: log a, errors, log b {class x}, trailing"]
    );
    let corefile =
        load(". {\n log a\n errors\n log b {\n  class x\n } trailing\n}").expect("accepted");
    let block = &corefile.blocks[0];
    assert_eq!(Lines::new(block, "log", None).stanzas().len(), 3);
}

#[test]
fn blocks_on_one_line() {
    assert_eq!(outline(". {\n hosts { no_reverse }\n}"), ["dns://.:53: hosts {no_reverse}"]);
    // CoreDNS reads the brace as one more argument.
    assert_eq!(outline(". {\n cache { success 100 }\n}"), ["dns://.:53: cache {success 100 }}"]);
    assert_eq!(
        faults(". { whoami }"),
        ["Corefile:1:12: Unexpected '}' because no matching opening brace"]
    );
}

#[test]
fn nested_braces_are_names_of_options() {
    assert_eq!(
        outline(". {\n cache {\n  a b {\n  c\n }\n }\n}"),
        ["dns://.:53: cache {a b; {; c}, }"]
    );
}

#[test]
fn faults_of_syntax_end_the_reading() {
    for (text, fault) in [
        (". {\n whoami", "Corefile:2:2: Unexpected token 'whoami', expecting '}'"),
        (". {", "Corefile:1:3: Unexpected token '{', expecting '}'"),
        (". {\n cache {\n", "Corefile:2:8: Unexpected EOF"),
        ("a,", "Corefile:1:1: Unexpected EOF"),
        ("a, {\n}", "Corefile:1:4: Expected another address but had '{' - check for extra comma"),
        ("(a)\nlog", "Corefile:2:1: Unexpected token 'log', expecting '{'"),
        ("(a) {\n log", "Corefile:2:2: Unexpected token 'log', expecting '}'"),
        ("(a) {\n}\n(a) {\n}", "Corefile:3:5: redeclaration of previously declared snippet a"),
        (
            ". {\n import\n}",
            "Corefile:2:2: Wrong argument count or unexpected line ending after 'import'",
        ),
        (
            ". {\n import a b\n}",
            "Corefile:2:11: Import takes only one argument (glob pattern or file)",
        ),
        (". {\n import \"\"\n}", "Corefile:2:9: Import requires a non-empty filepath"),
        ("(a) {\n import a\n}", "Corefile:2:9: maximum snippet import depth (10000) exceeded"),
    ] {
        assert_eq!(faults(text), [fault], "{text:?}");
    }
}

#[test]
fn every_wrong_directive_import_and_key_is_reported() {
    assert_eq!(
        faults("a..b {\n cahce 3\n}\n.: x:70000 {\n nomad\n import nowhere.conf\n frobnicate\n}"),
        [
            "Corefile:2:2: Unknown directive 'cahce' (did you mean \"cache\"?)",
            "Corefile:5:2: directive 'nomad' is not built into this version yet",
            "Corefile:6:9: File to import not found: nowhere.conf",
            "Corefile:7:2: Unknown directive 'frobnicate'",
            "Corefile:1:1: zone is not a valid domain name: a..b",
            "Corefile:4:1: expecting data after last colon: \".:\"",
            "Corefile:4:4: address 70000: invalid port",
        ]
    );
}

#[test]
fn snippets() {
    assert_eq!(
        outline(
            "(s) {\n errors\n cache {\n  success 1\n }\n}\n\
             . {\n log\n import s\n whoami\n}\nx {\n import s\n}"
        ),
        [
            "dns://.:53: log, errors, cache {success 1}, whoami",
            "dns://x.:53: errors, cache {success 1}"
        ]
    );
    assert_eq!(
        outline("(o) {\n success 1\n denial 2\n}\n. {\n cache {\n  import o\n  prefetch 1\n }\n}"),
        ["dns://.:53: cache {success 1; denial 2; prefetch 1}"]
    );
    assert_eq!(outline("(b) {\n a.org {\n  log\n }\n}\nimport b\n"), ["dns://a.org.:53: log"]);
}

#[test]
fn cycles_end() {
    let cycle = "(a) {\n import b\n}\n(b) {\n import a\n}\n. {\n import a\n}";
    assert_eq!(faults(cycle), ["Corefile:5:9: maximum snippet import depth (10000) exceeded"]);
    let bomb = "(a) {\n x y z\n import b\n import b\n}\n\
                (b) {\n x y z\n import a\n import a\n}\n. {\n log {\n import a\n }\n}";
    assert_eq!(faults(bomb).len(), 1);
}

#[test]
fn warnings_are_kept() {
    let corefile = load(". {\n whoami#x log\n import /none/*.conf\n}").expect("accepted");
    let warnings: Vec<_> = corefile.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 2);
    let warning = |text: &str| load(text).expect("accepted").warnings[0].to_string();
    assert_eq!(
        warning(". {\n cache {\n }\n"),
        "Corefile:3:2: the server block has no closing brace of its own"
    );
    assert_eq!(warning("{\n log\n}"), "Corefile:1:1: a server block without keys serves nothing");
    assert!(warnings[0].starts_with("Corefile:2:11: a comment"));
    assert!(warnings[1].ends_with("No files matching import glob pattern: /none/*.conf"));
}
