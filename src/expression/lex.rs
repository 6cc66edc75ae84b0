//! Words of an expression: names, numbers, strings, operators, each with its place.

use super::Error;

/// One word.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Word {
    /// A name, also `true`, `false` and `nil`.
    Name(String),
    Int(i64),
    Float(f64),
    Text(String),
    /// An operator or a bracket, also those that are letters: `in`, `not`.
    Sign(&'static str),
    End,
}

/// Operators that are letters.
const LETTERS: &[&str] = &[
    "not",
    "in",
    "or",
    "and",
    "matches",
    "contains",
    "startsWith",
    "endsWith",
    "let",
    "if",
    "else",
];
/// The other signs, longer ones before those that they begin with.
const SIGNS: &[&str] = &[
    "&&", "||", "==", "!=", "<=", ">=", "**", "..", "?.", "??", "::", "+", "-", "*", "/", "%", "^",
    "<", ">", "!", "?", ":", ".", ",", ";", "=", "|", "#", "(", ")", "[", "]", "{", "}",
];

/// All words of `text`, each with the octet at which it begins; the last is the end.
pub(super) fn words(text: &str) -> Result<Vec<(Word, usize)>, Error> {
    let mut words = Vec::new();
    let mut at = 0;
    loop {
        at += space(&text[at..]).ok_or_else(|| Error::new(text, at, "unclosed comment"))?;
        let rest = &text[at..];
        let Some(first) = rest.chars().next() else { break };
        let (word, len) = match first {
            '\'' | '"' => quoted(rest, first).map_err(|why| Error::new(text, at, why))?,
            '`' => raw(rest).ok_or_else(|| Error::new(text, at, "literal not terminated"))?,
            '0'..='9' => number(rest).map_err(|why| Error::new(text, at, why))?,
            '.' if rest[1..].starts_with(|next: char| next.is_ascii_digit()) => {
                number(rest).map_err(|why| Error::new(text, at, why))?
            }
            _ if is_letter(first) => name(rest),
            _ => match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
                Some(sign) => (Word::Sign(sign), sign.len()),
                None => {
                    let why = format!("unrecognized character: {first:?}");
                    return Err(Error::new(text, at, why));
                }
            },
        };
        words.push((word, at));
        at += len;
    }
    words.push((Word::End, text.len()));
    Ok(words)
}

fn is_letter(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

/// Octets of white space and comments before the next word; nothing if a comment has no end.
fn space(text: &str) -> Option<usize> {
    let mut rest = text.trim_start();
    loop {
        rest = if let Some(comment) = rest.strip_prefix("//") {
            comment.find('\n').map_or("", |end| &comment[end..])
        } else if let Some(comment) = rest.strip_prefix("/*") {
            &comment[comment.find("*/")? + 2..]
        } else {
            return Some(text.len() - rest.len());
        }
        .trim_start();
    }
}

fn name(text: &str) -> (Word, usize) {
    let len = text.find(|c| !is_letter(c)).unwrap_or(text.len());
    let word = &text[..len];
    let sign = LETTERS.iter().find(|letters| **letters == word);
    (sign.map_or_else(|| Word::Name(word.to_owned()), |sign| Word::Sign(sign)), len)
}

fn number(text: &str) -> Result<(Word, usize), String> {
    let octets = text.as_bytes();
    let is_digit = |c: u8, radix| c == b'_' || (c as char).is_digit(radix);
    let run = |from: usize, radix| {
        from + octets[from..].iter().take_while(|c| is_digit(**c, radix)).count()
    };
    let radix = match octets {
        [b'0', b'x' | b'X', ..] => 16,
        [b'0', b'o' | b'O', ..] => 8,
        [b'0', b'b' | b'B', ..] => 2,
        _ => 10,
    };
    let mut end = run(if radix == 10 { 0 } else { 2 }, radix);
    let mut is_float = false;
    if radix == 10 {
        if octets.get(end) == Some(&b'.') && octets.get(end + 1) != Some(&b'.') {
            (is_float, end) = (true, run(end + 1, 10));
        }
        if matches!(octets.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(octets.get(end + 1), Some(b'+' | b'-')));
            (is_float, end) = (true, run(end + 1 + sign, 10));
        }
    }
    let bad = || format!("bad number syntax: {:?}", &text[..end]);
    if text[end..].starts_with(is_letter) {
        return Err(bad());
    }
    let digits = text[..end].replace('_', "");
    let word = if is_float {
        Word::Float(digits.parse().ok().filter(|value: &f64| value.is_finite()).ok_or_else(bad)?)
    } else {
        let digits = if radix == 10 { &digits[..] } else { &digits[2..] };
        Word::Int(i64::from_str_radix(digits, radix).map_err(|_| bad())?)
    };
    Ok((word, end))
}

fn raw(text: &str) -> Option<(Word, usize)> {
    let end = text[1..].find('`')? + 1;
    Some((Word::Text(text[1..end].to_owned()), end + 1))
}

fn quoted(text: &str, quote: char) -> Result<(Word, usize), String> {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            _ if c == quote => return Ok((Word::Text(value), at + 1)),
            '\n' => break,
            '\\' => {
                let (at, escape) = chars.next().ok_or("literal not terminated")?;
                let digits = match escape {
                    'x' => 2,
                    'u' => 4,
                    'U' => 8,
                    '0'..='3' => 3,
                    _ => 0,
                };
                let c = match (escape, digits) {
                    ('0'..='3', _) => text.get(at..at + 3).and_then(|it| character(it, 8)),
                    (_, 0) => simple(escape),
                    _ => text.get(at + 1..at + 1 + digits).and_then(|it| character(it, 16)),
                };
                value.push(c.ok_or("unable to unescape string")?);
                let skipped = if escape.is_ascii_digit() { digits - 1 } else { digits };
                if let Some(last) = skipped.checked_sub(1) {
                    chars.nth(last);
                }
            }
            c => value.push(c),
        }
    }
    Err("literal not terminated".to_owned())
}

fn simple(escape: char) -> Option<char> {
    Some(match escape {
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        '\\' | '\'' | '"' | '`' | '?' => escape,
        _ => return None,
    })
}

fn character(digits: &str, radix: u32) -> Option<char> {
    if !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    char::from_u32(u32::from_str_radix(digits, radix).ok()?)
}
