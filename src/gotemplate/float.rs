//! Floats as Go's `strconv` writes them.

use std::fmt::Write as _;

use super::Full;
use super::print::TextBuf;

/// Octets that a float may take: 309 digits before the point of the largest, and the precision.
pub(super) const TEXT_BYTES_MAX: usize = 1024;
/// Digits after the point that may be asked for.
const PRECISION_MAX: usize = 500;

/// Writes `value`, which is not negative, as `verb` asks: `e` and `f` with six digits, `g` and `v`
/// with as many as tell it from its neighbours, unless `precision` says else.
pub(super) fn write(
    out: &mut TextBuf<'_>,
    value: f64,
    verb: char,
    precision: Option<usize>,
) -> Result<(), Full> {
    if precision.is_some_and(|digits| digits > PRECISION_MAX) {
        return Err(Full);
    }
    if value.is_nan() {
        return out.push(b"NaN");
    }
    if value.is_infinite() {
        return out.push(b"Inf");
    }
    match verb {
        'e' | 'E' => scientific(out, value, Some(precision.unwrap_or(6)), verb),
        'f' | 'F' => Ok(write!(out, "{value:.*}", precision.unwrap_or(6))?),
        _ => general(out, value, precision, if verb == 'G' { 'E' } else { 'e' }),
    }
}

/// `1.5e+06`: an exponent with a sign and at least two digits.
fn scientific(
    out: &mut TextBuf<'_>,
    value: f64,
    precision: Option<usize>,
    letter: char,
) -> Result<(), Full> {
    let mut buffer = [0; TEXT_BYTES_MAX];
    let (mantissa, exponent) = split(&mut buffer, value, precision)?;
    out.push(mantissa)?;
    Ok(write!(out, "{letter}{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())?)
}

/// Without an exponent where it is from -4 up to the precision (6 where none is asked for), else
/// with one.
fn general(
    out: &mut TextBuf<'_>,
    value: f64,
    precision: Option<usize>,
    letter: char,
) -> Result<(), Full> {
    let precision = precision.map(|digits| digits.max(1));
    let mut buffer = [0; TEXT_BYTES_MAX];
    let (mantissa, exponent) = split(&mut buffer, value, precision.map(|digits| digits - 1))?;
    let significant = mantissa.len().saturating_sub(trailing(mantissa)).max(1);
    let digits = significant - usize::from(significant > 1);
    let limit = match precision {
        None => 6,
        Some(most) if most > digits && digits as i32 > exponent => digits as i32,
        Some(most) => most as i32,
    };
    if exponent < -4 || exponent >= limit {
        return scientific(out, value, Some(digits - 1), letter);
    }
    let decimals = (digits as i32 - 1 - exponent).max(0) as usize;
    Ok(write!(out, "{value:.decimals$}")?)
}

/// Octets at the end of a mantissa that say nothing: zeros after the point, and the point.
fn trailing(mantissa: &[u8]) -> usize {
    if !mantissa.contains(&b'.') {
        return 0;
    }
    let zeros = mantissa.iter().rev().take_while(|&&b| b == b'0').count();
    zeros + usize::from(mantissa[mantissa.len() - zeros - 1] == b'.')
}

/// The mantissa's text and the exponent.
fn split(buffer: &mut [u8], value: f64, precision: Option<usize>) -> Result<(&[u8], i32), Full> {
    let mut text = TextBuf::new(&mut *buffer);
    match precision {
        Some(digits) => write!(text, "{value:.digits$e}")?,
        None => write!(text, "{value:e}")?,
    }
    let len = text.len();
    let text = &buffer[..len];
    let e = text.iter().position(|&b| b == b'e').unwrap_or(len);
    let exponent = std::str::from_utf8(text.get(e + 1..).unwrap_or_default());
    Ok((&text[..e], exponent.ok().and_then(|digits| digits.parse().ok()).unwrap_or(0)))
}
