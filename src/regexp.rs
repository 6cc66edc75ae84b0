//! Go's regular expressions, as Corefiles have them, on the `regex` crate.
//!
//! Both are automata with Perl's syntax and leftmost-first matches, linear in the text. [`compile`]
//! rewrites what they read differently: `\d \s \w \b` are ASCII, a `{` that begins no repetition and
//! a `[` within a class are themselves, `\Q…\E` quotes, `\<` is `<`. What Go refuses (repetitions
//! above 1,000) is refused; so is, beyond Go, a name that two groups have.
//! Cost: compiling allocates; a pattern and the machine made of it are bounded.

use regex::{Regex, RegexBuilder};

use crate::limits::{REGEXP_BYTES_MAX, REGEXP_MACHINE_BYTES_MAX, REGEXP_REPEATS_MAX};

/// Compiles a pattern of Go's `regexp`.
///
/// # Errors
/// Why it is none, in one line: `regex pattern too long: 10001 > 10000`, as CoreDNS says it, or
/// `error parsing regexp: …`.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > REGEXP_BYTES_MAX {
        return Err(format!("regex pattern too long: {} > {REGEXP_BYTES_MAX}", pattern.len()));
    }
    let fault = |what: &str| format!("error parsing regexp: {what}: `{pattern}`");
    let translated = translate(pattern).map_err(fault)?;
    let mut builder = RegexBuilder::new(&translated);
    builder.size_limit(REGEXP_MACHINE_BYTES_MAX);
    builder.build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => fault("expression too large"),
        // Its last line says what is wrong, those before show where.
        error => {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            fault(last.strip_prefix("error: ").unwrap_or(last))
        }
    })
}

/// Names that may stand between `[:` and `:]`, or after `[:^`.
const NAMED_CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

/// A pattern under way: what is left of Go's, and the crate's so far.
struct Translation<'p> {
    rest: &'p str,
    out: String,
}

fn translate(pattern: &str) -> Result<String, &'static str> {
    let mut work = Translation { rest: pattern, out: String::with_capacity(pattern.len() + 16) };
    while let Some(c) = work.next() {
        match c {
            '\\' => work.escape(false)?,
            '[' => work.class()?,
            '{' => work.repetition()?,
            c => work.out.push(c),
        }
    }
    Ok(work.out)
}

impl Translation<'_> {
    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next()?;
        self.rest = chars.as_str();
        Some(c)
    }

    fn accept(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// What follows a backslash.
    fn escape(&mut self, in_class: bool) -> Result<(), &'static str> {
        let c = self.next().ok_or("trailing backslash at end of expression")?;
        let text = match (c, in_class) {
            ('d', true) => "0-9",
            ('w', true) => "0-9A-Za-z_",
            ('s', true) => r"\t\n\f\r ",
            ('d', false) => "[0-9]",
            ('w', false) => "[0-9A-Za-z_]",
            ('s', false) => r"[\t\n\f\r ]",
            ('D', _) => "[^0-9]",
            ('W', _) => "[^0-9A-Za-z_]",
            ('S', _) => r"[^\t\n\f\r ]",
            ('b', false) => r"(?-u:\b)",
            // An assertion within the pattern, not a class of octets: valid on text.
            ('B', false) => r"(?-u:\B)",
            ('Q', false) => {
                let (quoted, rest) = self.rest.split_once(r"\E").unwrap_or((self.rest, ""));
                self.out.push_str(&regex::escape(quoted));
                self.rest = rest;
                return Ok(());
            }
            ('<' | '>', _) => {
                self.out.push(c);
                return Ok(());
            }
            _ => {
                self.out.push('\\');
                self.out.push(c);
                return Ok(());
            }
        };
        self.out.push_str(text);
        Ok(())
    }

    /// What follows a `[`.
    fn class(&mut self) -> Result<(), &'static str> {
        self.out.push('[');
        if self.accept("^") {
            self.out.push('^');
        }
        // A `]` or `-` that comes first is itself.
        if self.accept("]") {
            self.out.push_str(r"\]");
        } else if self.accept("-") {
            self.out.push_str(r"\-");
        }
        while let Some(c) = self.next() {
            match c {
                ']' => {
                    self.out.push(']');
                    return Ok(());
                }
                '\\' => self.escape(true)?,
                '[' if self.named_class().is_some() => {
                    let (name, rest) = self.rest.split_at(self.named_class().unwrap_or(0));
                    let word = name.trim_start_matches([':', '^']).trim_end_matches(":]");
                    if !NAMED_CLASSES.contains(&word) {
                        return Err("invalid character class range");
                    }
                    self.out.push('[');
                    self.out.push_str(name);
                    self.rest = rest;
                }
                // The crate has classes within classes, and operators between them.
                '[' | '&' | '~' => {
                    self.out.push('\\');
                    self.out.push(c);
                }
                c => self.out.push(c),
            }
        }
        Err("missing closing ]")
    }

    /// The length of `:name:]`, if that comes next.
    fn named_class(&self) -> Option<usize> {
        let name = self.rest.strip_prefix(':')?;
        name.find(":]").map(|at| at + 3)
    }

    /// What follows a `{`: counts of a repetition, or it is itself.
    fn repetition(&mut self) -> Result<(), &'static str> {
        let counts = self.rest.split_once('}').map(|(counts, _)| counts);
        let pair = counts.map(|counts| counts.split_once(',').unwrap_or((counts, "")));
        let (least, most) = pair.unwrap_or_default();
        let is_count = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        if least.is_empty() || !is_count(least) || !is_count(most) {
            self.out.push_str(r"\{");
            return Ok(());
        }
        for count in [least, most].into_iter().filter(|count| !count.is_empty()) {
            if !count.parse().is_ok_and(|count: u32| count <= REGEXP_REPEATS_MAX) {
                return Err("invalid repeat count");
            }
        }
        self.out.push('{');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The text of the first match, as Go 1.26 finds it, or `None` where it finds none.
    const MATCHES: &[(&str, &str, Option<&str>)] = &[
        (r"^ip-(?P<a>\d+)[.]", "ip-10.example.", Some("ip-10.")),
        (r"\d+", "a٣1", Some("1")),
        (r"\w+", "é_a1", Some("_a1")),
        (r"[\d\w]+", "-a1-", Some("a1")),
        (r"[^\d.]+", "1.ab2", Some("ab")),
        (r"[\D]+", "12ab", Some("ab")),
        (r"\S+", " ab ", Some("ab")),
        (r"\bb\b", "a b c", Some("b")),
        (r"a{", "a{", Some("a{")),
        (r"a{,2}", "a{,2}", Some("a{,2}")),
        (r"a{2}", "aaa", Some("aa")),
        (r"a{2,}", "aaa", Some("aaa")),
        (r"a{1,2}b", "aab", Some("aab")),
        (r"{{x}}", "{{x}}", Some("{{x}}")),
        (r"\Qa.b\E.", "axb a.bc", Some("a.bc")),
        (r"\Qa.b", "a.b", Some("a.b")),
        (r"\<a\>", "<a>", Some("<a>")),
        (r"[[]", "[", Some("[")),
        (r"[a[.]+", "[.a", Some("[.a")),
        (r"[]a]+", "]a", Some("]a")),
        (r"[^]a]+", "]ab", Some("b")),
        (r"[-a]+", "-a", Some("-a")),
        (r"[a-]+", "-a", Some("-a")),
        (r"[--/]+", "-./", Some("-./")),
        (r"[a&&b]+", "a&b", Some("a&b")),
        (r"[~a]+", "a~", Some("a~")),
        (r"[[:alpha:]]+", "1ab", Some("ab")),
        (r"[[:^alpha:]]+", "1ab", Some("1")),
        (r"[[:]+", "[:", Some("[:")),
        (r"a|ab", "ab", Some("a")),
        (r"a$", "a\n", None),
        (r"(?i)abc", "xABC", Some("ABC")),
        (r"(?s)a.b", "a\nb", Some("a\nb")),
        (r"a.b", "a\nb", None),
        (r"(?U)a+", "aaa", Some("a")),
        (r"\x41\x{42}", "AB", Some("AB")),
        (r"\-\_\.", "-_.", Some("-_.")),
        (r"\z", "a", Some("")),
    ];

    #[test]
    fn matches_as_go_does() {
        for &(pattern, text, found) in MATCHES {
            let regexp = compile(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
            assert_eq!(regexp.find(text).map(|hit| hit.as_str()), found, "{pattern} in {text:?}");
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        for pattern in [
            "(",
            ")",
            "[",
            "[a",
            "a{1001}",
            "a{2,1}",
            "*a",
            "+",
            "\\",
            "(?P<a",
            "[b-a]",
            "\\8",
            "[[:nope:]]",
            "(?z)",
            "\\pX",
            "a{99999999999}",
        ] {
            let error = compile(pattern).expect_err(pattern);
            assert!(error.starts_with("error parsing regexp: "), "{pattern}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn patterns_and_machines_are_bounded() {
        assert!(compile(&"a".repeat(REGEXP_BYTES_MAX)).is_ok());
        let error = compile(&"a".repeat(REGEXP_BYTES_MAX + 1)).expect_err("too long");
        assert_eq!(error, "regex pattern too long: 10001 > 10000");
        assert!(compile("((a{1000}){1000}){1000}").is_err_and(|e| e.contains("too large")));
    }

    proptest! {
        #[test]
        fn any_pattern_is_refused_or_compiled(
            pattern in "[\\\\\\[\\]{}()a-dQEwsb0-3,|*+?^$.:&~<>é-]{0,16}",
        ) {
            if let Ok(regexp) = compile(&pattern) {
                let _ = regexp.find("ab-3.[x]");
            }
        }
    }
}
