//! Label selectors: `app=web,tier in (front, back),!old`.
//!
//! The grammar is that of the Kubernetes API ("Labels and Selectors"), less what a selector of an
//! object cannot say: `!=`, `<` and `>` are refused, as CoreDNS refuses them. What has been read is
//! given to the API server in one spelling, and applied here to objects from files.

use std::collections::BTreeMap;
use std::fmt;

use crate::limits::LABEL_BYTES_MAX;

/// What one label must be like.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    /// One of these values.
    In(Vec<Box<str>>),
    /// None of these values; also where there is no such label.
    NotIn(Vec<Box<str>>),
    /// There, with whatever value.
    Exists,
    /// Not there.
    Missing,
}

/// Which objects are wanted, by their labels: those that pass all tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(Vec<(Box<str>, Test)>);

impl Selector {
    /// Reads a selector.
    ///
    /// # Errors
    /// What is wrong, in one line.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::tests(text).map_err(|why| match why {
            Fault::Syntax(why) => format!("couldn't parse the selector string {text:?}: {why}"),
            Fault::Operator(why) => why,
        })
    }

    fn tests(text: &str) -> Result<Self, Fault> {
        let mut rest = Words(text);
        let mut tests = Vec::new();
        if rest.peek().is_none() {
            return Ok(Self(tests));
        }
        loop {
            tests.push(requirement(&mut rest, tests.is_empty())?);
            match rest.next() {
                None => return Ok(Self(tests)),
                Some(",") => {}
                Some(other) => {
                    let why = format!("found '{other}', expected: ',' or 'end of string'");
                    return Err(Fault::Syntax(why));
                }
            }
        }
    }

    /// Whether an object with these labels is wanted.
    pub fn matches(&self, labels: &BTreeMap<Box<str>, Box<str>>) -> bool {
        self.0.iter().all(|(key, test)| {
            let value = labels.get(key);
            match test {
                Test::In(values) => value.is_some_and(|value| values.contains(value)),
                Test::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
                Test::Exists => value.is_some(),
                Test::Missing => value.is_none(),
            }
        })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (key, test)) in self.0.iter().enumerate() {
            f.write_str(if number > 0 { "," } else { "" })?;
            match test {
                Test::In(values) if values.len() == 1 => write!(f, "{key}={}", values[0])?,
                Test::In(values) => write!(f, "{key} in ({})", values.join(","))?,
                Test::NotIn(values) => write!(f, "{key} notin ({})", values.join(","))?,
                Test::Exists => f.write_str(key)?,
                Test::Missing => write!(f, "!{key}")?,
            }
        }
        Ok(())
    }
}

/// Words and marks of a selector.
struct Words<'t>(&'t str);

impl<'t> Words<'t> {
    fn split(&self) -> Option<(&'t str, &'t str)> {
        let text = self.0.trim_start();
        let is_mark = |c: char| matches!(c, '(' | ')' | ',' | '!' | '=' | '<' | '>');
        let first = text.chars().next()?;
        let end = match first {
            '=' | '!' if text[1..].starts_with('=') => 2,
            c if is_mark(c) => 1,
            _ => text.find(|c: char| is_mark(c) || c.is_whitespace()).unwrap_or(text.len()),
        };
        Some(text.split_at(end))
    }

    fn peek(&self) -> Option<&'t str> {
        self.split().map(|(word, _)| word)
    }

    fn next(&mut self) -> Option<&'t str> {
        let (word, rest) = self.split()?;
        self.0 = rest;
        Some(word)
    }
}

/// What is wrong with a selector, in the words of Kubernetes' own library.
enum Fault {
    /// It cannot be read.
    Syntax(String),
    /// It can, but not be asked for.
    Operator(String),
}

impl From<String> for Fault {
    fn from(why: String) -> Self {
        Self::Syntax(why)
    }
}

/// One test; `first`: nothing stands left of it.
fn requirement(rest: &mut Words<'_>, first: bool) -> Result<(Box<str>, Test), Fault> {
    let mut key = rest.next().unwrap_or_default();
    let missing = key == "!";
    if missing {
        key = rest.next().unwrap_or_default();
    }
    if !is_key(key) {
        let expected = match first {
            true => "!, identifier, or 'end of string'",
            false => "identifier after ','",
        };
        return Err(format!("found '{key}', expected: {expected}").into());
    }
    let test = match rest.peek() {
        None | Some(",") if missing => Test::Missing,
        None | Some(",") => Test::Exists,
        Some(mark @ ("=" | "==" | "in" | "notin")) if !missing => {
            rest.next();
            match mark {
                "in" => Test::In(values(rest)?),
                "notin" => Test::NotIn(values(rest)?),
                _ => Test::In(vec![value(rest)?]),
            }
        }
        Some("!=") if !missing => {
            return Err(Fault::Operator("\"!=\" is not a valid label selector operator".into()));
        }
        Some(mark @ ("<" | ">")) if !missing => {
            let word = if mark == "<" { "lt" } else { "gt" };
            return Err(Fault::Operator(format!("{word:?} isn't supported in label selectors")));
        }
        Some(other) => {
            return Err(format!("found '{other}', expected: in, notin, =, ==, !=, gt, lt").into());
        }
    };
    Ok((key.into(), test))
}

/// A value, which may be empty.
fn value(rest: &mut Words<'_>) -> Result<Box<str>, String> {
    match rest.peek() {
        None | Some("," | ")") => Ok("".into()),
        Some(word) if is_word(word) => Ok(rest.next().unwrap_or_default().into()),
        Some(other) => Err(format!("found '{other}', expected: a label value")),
    }
}

fn values(rest: &mut Words<'_>) -> Result<Vec<Box<str>>, String> {
    let open = rest.next().unwrap_or_default();
    if open != "(" {
        return Err(format!("found '{open}' expected: '('"));
    }
    let mut all = vec![value(rest)?];
    loop {
        match rest.next() {
            Some(")") => break,
            Some(",") => all.push(value(rest)?),
            other => {
                let other = other.unwrap_or_default();
                return Err(format!("found '{other}', expected: ',' or ')'"));
            }
        }
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// Whether this may be the value, or the last part of the key, of a label.
fn is_word(text: &str) -> bool {
    let octets = text.as_bytes();
    let ends = [octets.first(), octets.last()];
    text.len() <= LABEL_BYTES_MAX
        && ends.iter().all(|end| end.is_some_and(u8::is_ascii_alphanumeric))
        && octets.iter().all(|o| o.is_ascii_alphanumeric() || matches!(o, b'-' | b'_' | b'.'))
}

/// Whether this may be the key of a label: a word, after a domain name and a slash if there are any.
fn is_key(text: &str) -> bool {
    let (prefix, word) = text.rsplit_once('/').unwrap_or(("a", text));
    let is_legal = |o: u8| matches!(o, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    is_word(word) && (1..=253).contains(&prefix.len()) && prefix.bytes().all(is_legal)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Selector {
        Selector::parse(text).expect(text)
    }

    #[test]
    fn spelled_in_one_way() {
        for (text, spelled) in [
            ("", ""),
            ("app=web", "app=web"),
            (" app == web , tier in (front, back,front)", "app=web,tier in (back,front)"),
            ("a.b/c notin (x),!old,new", "a.b/c notin (x),!old,new"),
            ("a=,b in ()", "a=,b="),
            (
                "environment in (staging, qa),application=nginx",
                "environment in (qa,staging),application=nginx",
            ),
        ] {
            assert_eq!(read(text).to_string(), spelled, "{text}");
        }
    }

    #[test]
    fn what_is_no_selector() {
        for (text, words) in [
            ("a!=b", "\"!=\" is not a valid label selector operator"),
            ("a>1", "\"gt\" isn't supported in label selectors"),
            ("a in b", "found 'b' expected: '('"),
            ("a in (b", "expected: ',' or ')'"),
            (
                "=b",
                "couldn't parse the selector string \"=b\": \
                 found '=', expected: !, identifier, or 'end of string'",
            ),
            ("a b", "found 'b', expected"),
            ("a,", "found '', expected: identifier after ','"),
            ("!a=b", "found '=', expected"),
            ("a=-", "found '-', expected: a label value"),
            ("A/b", "found 'A/b', expected: !, identifier"),
        ] {
            let why = Selector::parse(text).expect_err(text);
            assert!(why.contains(words), "{text}: {why}");
        }
    }

    #[test]
    fn objects_that_match() {
        let labels: BTreeMap<Box<str>, Box<str>> =
            [("app".into(), "web".into()), ("empty".into(), "".into())].into();
        for (text, matches) in [
            ("", true),
            ("app=web", true),
            ("app=db", false),
            ("app in (db,web),empty=", true),
            ("other notin (x)", true),
            ("app notin (web)", false),
            ("app,!other", true),
            ("other", false),
            ("!app", false),
        ] {
            assert_eq!(read(text).matches(&labels), matches, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_spelled_reads_the_same(text in "[ab=!(),in ]{0,20}") {
            if let Ok(selector) = Selector::parse(&text) {
                prop_assert_eq!(Selector::parse(&selector.to_string()), Ok(selector));
            }
        }
    }
}
