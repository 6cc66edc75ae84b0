//! Rules as they are read, and what they make of names.

use proptest::prelude::*;

use super::names::{Changed, Names, Part, Patterns, Replacement, Subject, Texts};
use super::rule::Does;
use super::*;
use crate::plugin::parse_block;

fn read(text: &str) -> Result<Rewrite, String> {
    parse_block::<Rewrite>(text)
}

fn name(text: &str) -> NameBuf {
    NameBuf::parse(text).expect(text)
}

/// What the only rule, a name rule, makes of a name.
fn renamed(rule: &str, from: &str) -> Result<Option<String>, ()> {
    let read = read(&format!("rewrite name {rule}")).expect(rule);
    let Does::Name(rule) = &read.words.rules[0].does else { panic!("a name rule") };
    let own = |one: &Regex| (one.clone(), one.capture_locations());
    let mut patterns: Patterns = read.words.patterns.iter().map(own).collect();
    let mut texts = Texts::new();
    let mut subject = Subject::new(name(from), &mut texts);
    match rule.change.apply(&mut subject, &mut patterns) {
        Changed::Not => Ok(None),
        Changed::To(name) => Ok(Some(name.to_string())),
        Changed::Illegal => Err(()),
    }
}

#[test]
fn names_are_changed_as_coredns_changes_them() {
    for (rule, from, to) in [
        ("a.test b.test", "a.test.", Some("b.test.")),
        ("A.test B.test", "a.test.", Some("b.test.")),
        ("a.test b.test", "x.a.test.", None),
        ("prefix pre post", "pre.a.test.", Some("post.a.test.")),
        ("prefix pre post", "pre-a.test.", None),
        ("suffix .a.test. .b.test.", "x.y.a.test.", Some("x.y.b.test.")),
        ("suffix .a.test .b.test", "a.test.", None),
        ("suffix a.test b.test", "a.test.", Some("b.test.")),
        ("suffix a.test b.test", "xa.test.", Some("xb.test.")),
        ("suffix .a.test .", "x.a.test.", Some("x.")),
        ("suffix .a.test -x.b.test", "x.a.test.", Some("x-x.b.test.")),
        ("substring middle core", "middle.middle.test.", Some("core.core.test.")),
        ("substring middle core", "a-middle.test.", Some("a-core.test.")),
        ("substring middle core", "middle-a.test.", None),
        (r"regex ^(.*)-(.*)\.a\.test\.$ {2}-{1}.b.test", "x-y.a.test.", Some("y-x.b.test.")),
        (r"regex (a)|(b) x{2}.test", "a.", Some("x.test.")),
        (r"regex (a) {9}.test", "a.", Some("{9}.test.")),
    ] {
        assert_eq!(renamed(rule, from), Ok(to.map(str::to_owned)), "{rule} of {from}");
    }
}

#[test]
fn what_is_no_name_is_known() {
    let long = "abcdefghi.".repeat(25);
    for (rule, from) in [
        ("a.test b..test".to_owned(), "a.test."),
        (format!("suffix .test .{long}test"), "aaaaaaaa.test."),
        (format!("substring a. {long}"), "a.a.a.a.a.a.a.a."),
        ("prefix a. .".to_owned(), "a.test."),
        (format!("regex (.*)\\.test {{1}}{{1}}{}", "x".repeat(60)), "aaaaaaaa.test."),
    ] {
        assert_eq!(renamed(&rule, from), Err(()), "{rule} of {from}");
    }
}

#[test]
fn groups_are_told_from_text() {
    let parts = |text: &str| Part::parse(text, 2);
    let text = |text: &str| Part::Text(text.into());
    assert_eq!(*parts("{1}.a.{0}."), [Part::Group(1), text(".a."), Part::Group(0), text(".")]);
    for plain in ["{2}", "{01}", "{}", "{a}", "{", "{1", "}"] {
        assert_eq!(*parts(plain), [text(plain)], "{plain}");
    }
    assert_eq!(*parts("{{1}}"), [text("{"), Part::Group(1), text("}")]);
    assert!(parts("").is_empty());
}

#[test]
fn suffixes_are_compared_by_labels_where_that_is_the_same() {
    let kind = |rule: &str| {
        let read = read(&format!("rewrite name {rule}")).expect(rule);
        let Does::Name(rule) = &read.words.rules[0].does else { panic!("a name rule") };
        let is_name = matches!(rule.change.to, Replacement::Name(Some(_)));
        (matches!(rule.change.from, Names::Below(_)), is_name)
    };
    assert_eq!(kind("suffix .a.test .b.test"), (true, true));
    assert_eq!(kind("suffix a.test b.test"), (false, false));
    assert_eq!(kind("suffix .a.test b.test"), (false, false));
}

proptest! {
    #[test]
    fn labels_and_text_agree(
        whole in "([a-c]{1,2}\\.){1,5}",
        from in "(\\.[a-c]{1,2}){1,2}\\.",
        to in "(\\.[a-c]{1,2}){1,2}\\.",
    ) {
        let by_labels = renamed(&format!("suffix {from} {to}"), &whole);
        let by_text = whole.strip_suffix(&from).map(|rest| format!("{rest}{to}"));
        // An empty label is none: nothing stands before the suffix's dot.
        let by_text = by_text.filter(|text| !text.starts_with('.'));
        prop_assert_eq!(by_labels, Ok(by_text));
    }
}

#[test]
fn what_coredns_refuses_is_refused_in_its_words() {
    let long = format!("rewrite name regex {} b", "a".repeat(10_001));
    for (text, words) in [
        ("rewrite", "no rule type specified for rewrite"),
        ("rewrite name a b {\n c\n}", "no rule type specified for rewrite"),
        ("rewrite stop", "stop rule must begin with a rule type"),
        ("rewrite continue", "continue rule must begin with a rule type"),
        ("rewrite nome a b", "invalid rule type \"nome\" (did you mean \"name\"?)"),
        ("rewrite answer name a b", "response rewrites must begin with a name rule"),
        ("rewrite name a", "too few arguments for a name rule"),
        ("rewrite name sufix a b", "name rule supports only exact, prefix, suffix, substring"),
        ("rewrite name regex ( b", "invalid regex matching pattern: ("),
        ("rewrite name regex a {1}", "uses more subexpressions than its corresponding matching"),
        (&long, "regex pattern too long: 10001 > 10000"),
        ("rewrite name exact a b answer", "invalid arguments for exact rule"),
        ("rewrite name exact a b c d", "exceeded the number of arguments for a non-answer rule"),
        ("rewrite name regex a b answer name", "2 arguments required"),
        ("rewrite name regex a b answer auto answer", "type missing for answer rule"),
        ("rewrite name regex a b answer what c d", "invalid type \"what\" for answer rule"),
        (
            "rewrite name regex a b answer auto name c d",
            "auto name answer rule cannot be combined with explicit name anwer rules",
        ),
        ("rewrite type A", "type rules must have exactly two arguments"),
        ("rewrite type A QQ", "invalid type \"QQ\""),
        ("rewrite type A TYPE1", "invalid type \"TYPE1\""),
        ("rewrite type none A", "invalid type \"NONE\""),
        ("rewrite class IN XX", "invalid class \"XX\""),
        ("rewrite ttl a", "too few (1) arguments for a ttl rule"),
        ("rewrite ttl a -", "invalid TTL '-' for a ttl rule"),
        ("rewrite ttl a 5-4", "invalid TTL '5-4' for a ttl rule"),
        ("rewrite ttl a 1-2-3", "invalid TTL '1-2-3' for a ttl rule"),
        ("rewrite ttl like a 5", "ttl rule supports only exact, prefix, suffix, substring"),
        ("rewrite ttl regex ( 5", "invalid regex pattern in a ttl rule: ("),
        ("rewrite ttl exact a 5 6", "invalid TTL '' for a ttl rule"),
        ("rewrite rcode a NXDOMAIN", "too few (2) arguments for a rcode rule"),
        ("rewrite rcode a 24 0", "invalid matching RCODE '24' for a rcode rule"),
        ("rewrite rcode a 3 RCODE0", "invalid replacement RCODE 'RCODE0' for a rcode rule"),
        ("rewrite cname a", "too few (1) arguments for a cname rule"),
        ("rewrite cname like a b", "unknown cname rewrite type: like"),
        ("rewrite cname regex ( b", "invalid cname rewrite regex pattern"),
        ("rewrite edns0 local", "too few arguments for an EDNS0 rule"),
        ("rewrite edns0 local add 1 2", "invalid action: \"add\""),
        ("rewrite edns0 other set 1 2", "invalid rule type \"other\""),
        ("rewrite edns0 local set 1", "EDNS0 local rules require three or four args"),
        ("rewrite edns0 local set x 2", "strconv.ParseUint: parsing \"x\": invalid syntax"),
        ("rewrite edns0 local set 0x10000 2", "value out of range"),
        ("rewrite edns0 local set 1 0xabc", "encoding/hex: odd length hex string"),
        ("rewrite edns0 local set 1 0xxy", "encoding/hex: invalid byte: U+0078 'x'"),
        ("rewrite edns0 local set 1 {nothing}", "unsupported variable name \"{nothing}\""),
        ("rewrite edns0 local set 1 {/a}", "unsupported variable name \"{/a}\""),
        ("rewrite edns0 nsid set 1", "EDNS0 NSID rules can accept no more than one arg"),
        ("rewrite edns0 subnet set 24", "EDNS0 subnet rules require three or four args"),
        ("rewrite edns0 subnet set 33 56", "invalid IPv4 bit mask length 33"),
        ("rewrite edns0 subnet set 24 129", "invalid IPv6 bit mask length 129"),
        ("rewrite edns0 local unset", "local unset action requires exactly two arguments"),
        ("rewrite edns0 nsid unset 1", "nsid unset action requires exactly one argument"),
    ] {
        let error = read(text).err().unwrap_or_else(|| panic!("accepted: {text}"));
        assert!(error.contains(words), "{text}: {error}");
    }
}

#[test]
fn rules_are_read_from_lines_and_blocks() {
    for (text, rules) in [
        ("rewrite name a b\nrewrite STOP Name EXACT a b", 2),
        ("rewrite {\n name a b\n}", 1),
        ("rewrite continue {\n ttl a\n 5\n}", 1),
        ("rewrite stop {\n name regex (a) b{1}\n answer auto\n answer value (a) {1}\n}", 1),
        ("rewrite name exact a b answer auto answer value (a) {1} value (b) {1}", 1),
        ("rewrite ttl a 0-4294967295\nrewrite ttl a 5-\nrewrite ttl a -5", 3),
        ("rewrite rcode a notimpl 11\nrewrite class ch in\nrewrite type any hinfo", 3),
        ("rewrite edns0 LOCAL Set 0xffee 0x\nrewrite edns0 local append 017 {a/b} revert", 2),
    ] {
        let count = read(text).map(|read| read.words.rules.len());
        assert_eq!(count, Ok(rules), "{text}");
    }
}
