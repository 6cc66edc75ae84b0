//! Literals of Go: numbers, characters and strings, read into values.

use super::tree::Number;

/// Reads an integer or a float, as Go types untyped constants: a `.` or an exponent makes a float.
pub(super) fn number(text: &str) -> Result<Number, String> {
    let (negative, unsigned) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    if let Ok(magnitude) = parse_uint(unsigned, 0) {
        let value = if negative { -i128::from(magnitude) } else { i128::from(magnitude) };
        return match i64::try_from(value) {
            Ok(value) => Ok(Number::Int(value)),
            Err(_) if text.len() == unsigned.len() => Ok(Number::TooBig),
            Err(_) => Err(format!("integer overflow: {text:?}")),
        };
    }
    let is_prefixed = matches!(unsigned.as_bytes(), [b'0', b'x' | b'X' | b'o' | b'O' | b'b', ..]);
    let plain: String = unsigned.chars().filter(|&c| c != '_').collect();
    match plain.parse::<f64>() {
        Ok(float) if !is_prefixed && float.is_finite() && underscores_separate(unsigned) => {
            if unsigned.contains(['.', 'e', 'E']) {
                Ok(Number::Float(if negative { -float } else { float }))
            } else {
                Err(format!("integer overflow: {text:?}"))
            }
        }
        _ => Err(format!("illegal number syntax: {text:?}")),
    }
}

/// Why [`parse_uint`] refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IntegerFault {
    /// No number of that base.
    Syntax,
    /// More than 64 bits.
    Range,
}

/// Go's `strconv.ParseUint` for 64 bits: digits of `base` (2 to 36); base 0 reads the base from a
/// prefix (`0x`, `0o`, `0b`, `0`) and lets underscores separate digits.
pub(super) fn parse_uint(text: &str, base: u32) -> Result<u64, IntegerFault> {
    if base != 0 {
        return digits(text, base, false);
    }
    let (base, rest) = match text.as_bytes() {
        [b'0', b'x' | b'X', _, ..] => (16, &text[2..]),
        [b'0', b'o' | b'O', _, ..] => (8, &text[2..]),
        [b'0', b'b' | b'B', _, ..] => (2, &text[2..]),
        [b'0', _, ..] => (8, &text[1..]),
        _ => (10, text),
    };
    if !underscores_separate(text) {
        return Err(IntegerFault::Syntax);
    }
    digits(rest, base, true)
}

fn digits(text: &str, base: u32, underscores: bool) -> Result<u64, IntegerFault> {
    let mut value: Result<u64, IntegerFault> = Err(IntegerFault::Syntax);
    for c in text.chars().filter(|&c| !(underscores && c == '_')) {
        let digit = u64::from(c.to_digit(base).ok_or(IntegerFault::Syntax)?);
        let sum = match value {
            Err(IntegerFault::Syntax) => Some(digit),
            Err(IntegerFault::Range) => None,
            Ok(sum) => sum.checked_mul(u64::from(base)).and_then(|sum| sum.checked_add(digit)),
        };
        value = sum.ok_or(IntegerFault::Range);
    }
    value
}

/// Whether each underscore stands between digits, or between a base prefix and a digit.
fn underscores_separate(text: &str) -> bool {
    let rest = match text.as_bytes() {
        [b'0', b'x' | b'X' | b'o' | b'O' | b'b' | b'B', ..] => &text.as_bytes()[1..],
        _ => text.as_bytes(),
    };
    (0..rest.len()).filter(|&i| rest[i] == b'_').all(|i| {
        let before = i.checked_sub(1).and_then(|i| rest.get(i));
        let prefix = i == 1 && rest.len() < text.len();
        let is_digit = |b: Option<&u8>| b.is_some_and(u8::is_ascii_hexdigit);
        (prefix || is_digit(before)) && is_digit(rest.get(i + 1))
    })
}

/// Reads `'a'`, `'\n'`, `'\x41'`: a character is an integer.
pub(super) fn character(quoted: &str) -> Result<Number, String> {
    let body = quoted.strip_prefix('\'').and_then(|body| body.strip_suffix('\''));
    let mut rest = body.unwrap_or_default();
    let value = match unquote_one(&mut rest, '\'').ok_or("invalid syntax")? {
        Unquoted::Char(c) => i64::from(u32::from(c)),
        Unquoted::Octet(octet) => i64::from(octet),
    };
    if !rest.is_empty() {
        return Err(format!("malformed character constant: {quoted}"));
    }
    Ok(Number::Int(value))
}

/// Reads `"…"` with its escapes or `` `…` `` without any.
pub(super) fn string(quoted: &str) -> Option<Box<[u8]>> {
    if let Some(raw) = quoted.strip_prefix('`') {
        return Some(raw.strip_suffix('`')?.replace('\r', "").into_bytes().into());
    }
    let mut rest = quoted.strip_prefix('"')?.strip_suffix('"')?;
    let mut out = Vec::with_capacity(rest.len());
    while !rest.is_empty() {
        match unquote_one(&mut rest, '"')? {
            Unquoted::Char(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            Unquoted::Octet(octet) => out.push(octet),
        }
    }
    Some(out.into())
}

enum Unquoted {
    Char(char),
    /// `\x80`, `\200`: an octet, not a character.
    Octet(u8),
}

/// Takes one character or escape from `rest`; `quote` may stand in it only after a `\`.
fn unquote_one(rest: &mut &str, quote: char) -> Option<Unquoted> {
    let mut chars = rest.chars();
    let c = chars.next()?;
    let unquoted = match c {
        '\\' => {
            let escape = chars.next()?;
            unquote_escape(escape, &mut chars, quote)?
        }
        '\n' => return None,
        c if c == quote => return None,
        c => Unquoted::Char(c),
    };
    *rest = chars.as_str();
    Some(unquoted)
}

fn unquote_escape(escape: char, chars: &mut std::str::Chars<'_>, quote: char) -> Option<Unquoted> {
    let mut take = |count: usize, base: u32, first: u32| {
        let mut value = first;
        for _ in 0..count {
            value = value.checked_mul(base)? + chars.next()?.to_digit(base)?;
        }
        Some(value)
    };
    let c = match escape {
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        '\\' => '\\',
        c if c == quote => c,
        'x' => return Some(Unquoted::Octet(take(2, 16, 0)? as u8)),
        'u' => char::from_u32(take(4, 16, 0)?)?,
        'U' => char::from_u32(take(8, 16, 0)?)?,
        '0'..='7' => {
            return Some(Unquoted::Octet(take(2, 8, escape.to_digit(8)?)?.try_into().ok()?));
        }
        _ => return None,
    };
    Some(Unquoted::Char(c))
}
