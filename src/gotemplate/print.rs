//! Printing of values as Go's `fmt` does, into a fixed buffer.
//!
//! `print`, `println` and `printf` with the verbs `%v %s %q %x %X %d %b %o %O %c %U %t %T %e %E %f
//! %F %g %G` and their flags, width and precision. Verbs that do not fit a value print what Go
//! prints (`%!d(string=x)`). Arguments by number (`%[1]d`), `*`, `%p` and `%#v` are refused.
//! Cost: linear in what is written. Nothing is allocated; what does not fit fails.

use std::fmt::{self, Write as _};

use super::Full;
use super::float;
use super::value::Value;

/// Text under way in a fixed buffer.
pub struct TextBuf<'b> {
    bytes: &'b mut [u8],
    len: usize,
}

impl<'b> TextBuf<'b> {
    /// An empty text that may grow to the size of `bytes`.
    pub fn new(bytes: &'b mut [u8]) -> Self {
        TextBuf { bytes, len: 0 }
    }

    /// Appends `text` whole, or nothing of it.
    pub fn push(&mut self, text: &[u8]) -> Result<(), Full> {
        let end = self.len + text.len();
        self.bytes.get_mut(self.len..end).ok_or(Full)?.copy_from_slice(text);
        self.len = end;
        Ok(())
    }

    /// What has been written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Octets written.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn repeat(&mut self, octet: u8, count: usize) -> Result<(), Full> {
        let end = self.len.checked_add(count).ok_or(Full)?;
        self.bytes.get_mut(self.len..end).ok_or(Full)?.fill(octet);
        self.len = end;
        Ok(())
    }

    fn push_char(&mut self, c: char) -> Result<(), Full> {
        self.push(c.encode_utf8(&mut [0; 4]).as_bytes())
    }
}

impl fmt::Write for TextBuf<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes()).map_err(|Full| fmt::Error)
    }
}

impl From<fmt::Error> for Full {
    /// Formatting into a [`TextBuf`] fails only when it is full.
    fn from(_: fmt::Error) -> Self {
        Full
    }
}

/// Why `printf` fails. (A verb that does not fit its value is no failure in Go.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FormatFault {
    Full,
    /// A part of Go's format language that this engine does not have.
    Unsupported,
}

impl From<Full> for FormatFault {
    fn from(_: Full) -> Self {
        FormatFault::Full
    }
}

/// Flags, width and precision of one verb.
#[derive(Clone, Copy, Default)]
pub(super) struct Spec {
    pub(super) width: usize,
    pub(super) precision: Option<usize>,
    pub(super) minus: bool,
    pub(super) plus: bool,
    pub(super) sharp: bool,
    pub(super) space: bool,
    pub(super) zero: bool,
}

impl Spec {
    fn without_zeros(&self) -> Self {
        Spec { zero: false, ..*self }
    }
}

/// `print`: values as `%v`, with a space between two neighbours that are both no strings.
pub(super) fn print(out: &mut TextBuf<'_>, values: &[Value<'_>]) -> Result<(), Full> {
    let mut after_text = true;
    for (i, value) in values.iter().enumerate() {
        let is_text = matches!(value, Value::Text(_));
        if i > 0 && !is_text && !after_text {
            out.push(b" ")?;
        }
        show(out, value, 'v', &Spec::default(), 0)?;
        after_text = is_text;
    }
    Ok(())
}

/// `println`: values as `%v`, a space between all of them, a line feed after them.
pub(super) fn println(out: &mut TextBuf<'_>, values: &[Value<'_>]) -> Result<(), Full> {
    for (i, value) in values.iter().enumerate() {
        out.push(if i > 0 { b" " } else { b"" })?;
        show(out, value, 'v', &Spec::default(), 0)?;
    }
    out.push(b"\n")
}

/// `printf`.
pub(super) fn printf(
    out: &mut TextBuf<'_>,
    format: &[u8],
    values: &[Value<'_>],
) -> Result<(), FormatFault> {
    let (mut rest, mut used) = (format, 0);
    while let Some(percent) = rest.iter().position(|&b| b == b'%') {
        out.push(&rest[..percent])?;
        rest = &rest[percent + 1..];
        let spec = read_spec(&mut rest)?;
        let Some(verb) = take_char(&mut rest) else {
            out.push(b"%!(NOVERB)")?;
            break;
        };
        match values.get(used) {
            _ if verb == '%' => out.push(b"%")?,
            None => write!(out, "%!{verb}(MISSING)").map_err(Full::from)?,
            Some(value) => {
                used += 1;
                show_verb(out, value, verb, spec)?;
            }
        }
    }
    out.push(rest)?;
    if used < values.len() {
        out.push(b"%!(EXTRA ")?;
        for (i, value) in values[used..].iter().enumerate() {
            out.push(if i > 0 { b", " } else { b"" })?;
            if !matches!(value, Value::Nil) {
                write!(out, "{}=", value.type_name()).map_err(Full::from)?;
            }
            show(out, value, 'v', &Spec::default(), 0)?;
        }
        out.push(b")")?;
    }
    Ok(())
}

fn show_verb(
    out: &mut TextBuf<'_>,
    value: &Value<'_>,
    verb: char,
    mut spec: Spec,
) -> Result<(), FormatFault> {
    let is_float = matches!(value, Value::Float(_));
    let float_only = is_float && (spec.sharp || matches!(verb, 'b' | 'x' | 'X'));
    if verb == 'p' || (verb == 'v' && spec.sharp) || float_only {
        return Err(FormatFault::Unsupported);
    }
    // `%+v` asks for the names of a struct's fields, not for signs.
    spec.plus &= verb != 'v';
    Ok(show(out, value, verb, &spec, 0)?)
}

fn read_spec(rest: &mut &[u8]) -> Result<Spec, FormatFault> {
    let mut spec = Spec::default();
    while let [flag, after @ ..] = *rest {
        match flag {
            b'-' => spec.minus = true,
            b'+' => spec.plus = true,
            b'#' => spec.sharp = true,
            b' ' => spec.space = true,
            b'0' => spec.zero = true,
            _ => break,
        }
        *rest = after;
    }
    spec.width = read_count(rest)?.unwrap_or(0);
    // A dot that ends the format is taken for the verb.
    if let [b'.', after @ ..] = *rest
        && !after.is_empty()
    {
        *rest = after;
        spec.precision = Some(read_count(rest)?.unwrap_or(0));
    }
    match rest.first() {
        Some(b'*' | b'[') => Err(FormatFault::Unsupported),
        _ => Ok(spec),
    }
}

/// A decimal number; one that no buffer could hold is refused as such.
fn read_count(rest: &mut &[u8]) -> Result<Option<usize>, FormatFault> {
    let mut count = None;
    while let [digit @ b'0'..=b'9', after @ ..] = *rest {
        let sum = count.unwrap_or(0) * 10 + usize::from(digit - b'0');
        if sum > 1_000_000 {
            return Err(FormatFault::Full);
        }
        (count, *rest) = (Some(sum), after);
    }
    Ok(count)
}

/// The first character; an octet that is not UTF-8 counts as U+FFFD.
fn take_char(rest: &mut &[u8]) -> Option<char> {
    let chunk = rest.utf8_chunks().next()?;
    let c = chunk.valid().chars().next();
    *rest = &rest[c.map_or(1, char::len_utf8)..];
    Some(c.unwrap_or(char::REPLACEMENT_CHARACTER))
}

/// Writes one value. `depth` is 0 for an argument, more for what lies within one.
fn show(
    out: &mut TextBuf<'_>,
    value: &Value<'_>,
    verb: char,
    spec: &Spec,
    depth: u32,
) -> Result<(), Full> {
    if verb == 'T' && depth == 0 {
        return show_text(out, value.type_name().as_bytes(), 's', spec);
    }
    match (value, verb) {
        (Value::Nil, 'v') => pad(out, spec, b"<nil>"),
        (Value::Nil, _) if depth > 0 => out.push(b"<nil>"),
        (Value::Nil, _) => Ok(write!(out, "%!{verb}(<nil>)")?),
        (Value::Bool(value), 'v' | 't') => pad(out, spec, if *value { b"true" } else { b"false" }),
        (Value::Int(int), 'v' | 'd' | 'b' | 'o' | 'O' | 'x' | 'X' | 'c' | 'q' | 'U') => {
            show_integer(out, int.unsigned_abs(), *int < 0, verb, spec)
        }
        (Value::Uint(uint), 'v' | 'd' | 'b' | 'o' | 'O' | 'x' | 'X' | 'c' | 'q' | 'U') => {
            show_integer(out, *uint, false, verb, spec)
        }
        (Value::Float(float), 'v' | 'e' | 'E' | 'f' | 'F' | 'g' | 'G') => {
            show_float(out, *float, verb, spec)
        }
        (Value::Text(text), 'v' | 's' | 'q' | 'x' | 'X') => show_text(out, text, verb, spec),
        (Value::List(list), _) => {
            out.push(b"[")?;
            for i in 0..list.len() {
                out.push(if i > 0 { b" " } else { b"" })?;
                show(out, &list.get(i).unwrap_or(Value::Nil), verb, spec, depth + 1)?;
            }
            out.push(b"]")
        }
        (Value::Map(map), _) => {
            out.push(b"map[")?;
            for i in 0..map.len() {
                let (key, value) = map.entry(i);
                out.push(if i > 0 { b" " } else { b"" })?;
                show(out, &Value::Text(key), verb, spec, depth + 1)?;
                out.push(b":")?;
                show(out, &value, verb, spec, depth + 1)?;
            }
            out.push(b"]")
        }
        (Value::Object(object), 'v' | 's') => padded(out, spec, |out| object.print(out)),
        _ => {
            write!(out, "%!{verb}({}", value.type_name())?;
            if !matches!(value, Value::Method(_)) {
                out.push(b"=")?;
                show(out, value, 'v', spec, depth + 1)?;
            }
            out.push(b")")
        }
    }
}

fn pad(out: &mut TextBuf<'_>, spec: &Spec, text: &[u8]) -> Result<(), Full> {
    padded(out, spec, |out| out.push(text))
}

/// Writes what `write` writes, filled to the width in characters, on the left unless `-` says else.
fn padded(
    out: &mut TextBuf<'_>,
    spec: &Spec,
    write: impl FnOnce(&mut TextBuf<'_>) -> Result<(), Full>,
) -> Result<(), Full> {
    let start = out.len;
    write(out)?;
    let end = out.len;
    let missing = spec.width.saturating_sub(count_chars(&out.bytes[start..end]));
    let fill = if spec.zero && !spec.minus { b'0' } else { b' ' };
    out.repeat(fill, missing)?;
    if missing > 0 && !spec.minus {
        out.bytes.copy_within(start..end, start + missing);
        out.bytes[start..start + missing].fill(fill);
    }
    Ok(())
}

/// Characters of `text`, each octet that is not UTF-8 counted as one.
fn count_chars(text: &[u8]) -> usize {
    text.utf8_chunks().map(|chunk| chunk.valid().chars().count() + chunk.invalid().len()).sum()
}

/// The first `precision` characters of `text`.
fn cut<'t>(text: &'t [u8], spec: &Spec) -> &'t [u8] {
    let Some(count) = spec.precision else { return text };
    let mut rest = text;
    for _ in 0..count {
        if take_char(&mut rest).is_none() {
            break;
        }
    }
    &text[..text.len() - rest.len()]
}

fn show_text(out: &mut TextBuf<'_>, text: &[u8], verb: char, spec: &Spec) -> Result<(), Full> {
    match verb {
        'q' => {
            let text = cut(text, spec);
            if spec.sharp && fits_backquotes(text) {
                return padded(out, spec, |out| {
                    out.push(b"`")?;
                    out.push(text)?;
                    out.push(b"`")
                });
            }
            padded(out, spec, |out| quote(out, text, spec.plus))
        }
        'x' | 'X' => {
            let text = &text[..spec.precision.map_or(text.len(), |most| most.min(text.len()))];
            padded(out, spec, |out| hex(out, text, verb == 'X', spec))
        }
        _ => pad(out, spec, cut(text, spec)),
    }
}

fn hex(out: &mut TextBuf<'_>, text: &[u8], upper: bool, spec: &Spec) -> Result<(), Full> {
    for (i, octet) in text.iter().enumerate() {
        if spec.space && i > 0 {
            out.push(b" ")?;
        }
        if spec.sharp && (i == 0 || spec.space) {
            out.push(if upper { b"0X" } else { b"0x" })?;
        }
        if upper { write!(out, "{octet:02X}")? } else { write!(out, "{octet:02x}")? }
    }
    Ok(())
}

fn fits_backquotes(text: &[u8]) -> bool {
    let odd = |c: char| (c < ' ' && c != '\t') || matches!(c, '`' | '\x7f' | '\u{feff}');
    std::str::from_utf8(text).is_ok_and(|text| !text.contains(odd))
}

/// A string literal of Go that means `text`.
fn quote(out: &mut TextBuf<'_>, text: &[u8], ascii: bool) -> Result<(), Full> {
    out.push(b"\"")?;
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            quote_char(out, c, '"', ascii)?;
        }
        for octet in chunk.invalid() {
            write!(out, "\\x{octet:02x}")?;
        }
    }
    out.push(b"\"")
}

fn quote_char(out: &mut TextBuf<'_>, c: char, quote: char, ascii: bool) -> Result<(), Full> {
    let escape: &[u8] = match c {
        '\x07' => b"\\a",
        '\x08' => b"\\b",
        '\x0c' => b"\\f",
        '\n' => b"\\n",
        '\r' => b"\\r",
        '\t' => b"\\t",
        '\x0b' => b"\\v",
        '\\' => b"\\\\",
        _ if c == quote => {
            out.push(b"\\")?;
            return out.push_char(c);
        }
        ' '..='~' => return out.push_char(c),
        _ if c < ' ' || c == '\x7f' => return Ok(write!(out, "\\x{:02x}", u32::from(c))?),
        // Go prints letters, marks, numbers, punctuation and symbols; `escape_debug` agrees but for
        // marks that stand alone.
        _ if !ascii && c.escape_debug().len() == 1 => return out.push_char(c),
        _ if u32::from(c) < 0x1_0000 => return Ok(write!(out, "\\u{:04x}", u32::from(c))?),
        _ => return Ok(write!(out, "\\U{:08x}", u32::from(c))?),
    };
    out.push(escape)
}

fn show_integer(
    out: &mut TextBuf<'_>,
    magnitude: u64,
    negative: bool,
    verb: char,
    spec: &Spec,
) -> Result<(), Full> {
    let point = u32::try_from(magnitude).ok().filter(|_| !negative).and_then(char::from_u32);
    let c = point.unwrap_or(char::REPLACEMENT_CHARACTER);
    match verb {
        'c' => padded(out, spec, |out| out.push_char(c)),
        'q' => padded(out, spec, |out| {
            out.push(b"'")?;
            quote_char(out, c, '\'', spec.plus)?;
            out.push(b"'")
        }),
        'U' => {
            let bits = if negative { magnitude.wrapping_neg() } else { magnitude };
            let digits = spec.precision.unwrap_or(0).max(4);
            padded(out, &spec.without_zeros(), |out| {
                let mut buffer = [0; 16];
                let mut text = TextBuf::new(&mut buffer);
                write!(text, "{bits:X}")?;
                out.push(b"U+")?;
                out.repeat(b'0', digits.saturating_sub(text.len))?;
                out.push(text.as_bytes())?;
                match point {
                    Some(c) if spec.sharp && c.escape_debug().len() == 1 => {
                        Ok(write!(out, " '{c}'")?)
                    }
                    _ => Ok(()),
                }
            })
        }
        _ => show_number(out, magnitude, negative, verb, spec),
    }
}

fn show_number(
    out: &mut TextBuf<'_>,
    magnitude: u64,
    negative: bool,
    verb: char,
    spec: &Spec,
) -> Result<(), Full> {
    if spec.precision == Some(0) && magnitude == 0 {
        return out.repeat(b' ', spec.width);
    }
    let mut buffer = [0; 64];
    let mut digits = TextBuf::new(&mut buffer);
    match verb {
        'b' => write!(digits, "{magnitude:b}")?,
        'o' | 'O' => write!(digits, "{magnitude:o}")?,
        'x' => write!(digits, "{magnitude:x}")?,
        'X' => write!(digits, "{magnitude:X}")?,
        _ => write!(digits, "{magnitude}")?,
    }
    let sign: &[u8] = match () {
        () if negative => b"-",
        () if spec.plus => b"+",
        () if spec.space => b" ",
        () => b"",
    };
    // Zeros on the left: by precision, or else by the flag, up to the width.
    let wanted = match spec.precision {
        Some(precision) => precision,
        None if spec.zero && !spec.minus => spec.width.saturating_sub(sign.len()),
        None => 0,
    };
    let zeros = wanted.saturating_sub(digits.len);
    let begins_with_zero = zeros > 0 || digits.as_bytes().starts_with(b"0");
    let prefix: &[u8] = match verb {
        'O' => b"0o",
        'b' if spec.sharp => b"0b",
        'o' if spec.sharp && !begins_with_zero => b"0",
        'x' if spec.sharp => b"0x",
        'X' if spec.sharp => b"0X",
        _ => b"",
    };
    padded(out, &spec.without_zeros(), |out| {
        out.push(sign)?;
        out.push(prefix)?;
        out.repeat(b'0', zeros)?;
        out.push(digits.as_bytes())
    })
}

fn show_float(out: &mut TextBuf<'_>, value: f64, verb: char, spec: &Spec) -> Result<(), Full> {
    let mut buffer = [0; float::TEXT_BYTES_MAX];
    let mut text = TextBuf::new(&mut buffer);
    float::write(&mut text, value.abs(), verb, spec.precision)?;
    let sign: &[u8] = match () {
        () if value.is_nan() => b"",
        () if value.is_sign_negative() => b"-",
        () if spec.plus || value.is_infinite() => b"+",
        () if spec.space => b" ",
        () => b"",
    };
    if value.is_finite() && spec.zero && !spec.minus {
        out.push(sign)?;
        out.repeat(b'0', spec.width.saturating_sub(sign.len() + text.len))?;
        return out.push(text.as_bytes());
    }
    padded(out, &spec.without_zeros(), |out| {
        out.push(sign)?;
        out.push(text.as_bytes())
    })
}
