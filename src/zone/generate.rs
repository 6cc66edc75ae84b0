//! `$GENERATE start-stop[/step] template` (from BIND; no standard).
//!
//! In the template `$` is the number, `$$` and `\$` are a dollar, and `${offset[,width[,base]]}` is
//! the number plus an offset, padded with zeros, in base d, o, x or X.

use super::lex::{Fault, Lexer, Word};
use super::rdata::number;
use crate::limits::ZONE_GENERATE_STEPS_MAX;
use std::io::Write;

/// One directive, ready to be expanded.
#[derive(Debug)]
pub(super) struct Template<'a> {
    start: u32,
    stop: u32,
    step: u32,
    text: &'a [u8],
}

impl<'a> Template<'a> {
    /// Reads what stands behind the directive, up to the end of the line.
    pub fn parse(lexer: &mut Lexer<'a>) -> Result<Self, Fault> {
        let word = lexer.word("expecting $GENERATE value, not this...")?;
        let (start, stop, step) = range(&word)?;
        let text = lexer.rest_of_line().text;
        if text.is_empty() {
            return Err(Fault::new("garbage after $GENERATE range", &word));
        }
        Ok(Template { start, stop, step, text })
    }

    /// The numbers, in order.
    pub fn steps(&self) -> impl Iterator<Item = u32> + use<> {
        (self.start..=self.stop).step_by(self.step as usize)
    }

    /// The line for one number, with its newline.
    pub fn expand(&self, value: u32, out: &mut Vec<u8>) -> Result<(), &'static str> {
        let mut rest = self.text;
        while let Some((&octet, after)) = rest.split_first() {
            rest = after;
            match (octet, rest.first()) {
                (b'\\', Some(b'$')) | (b'$', Some(b'$')) => {
                    out.push(b'$');
                    rest = &rest[1..];
                }
                (b'\\', Some(&escaped)) => {
                    out.extend_from_slice(&[b'\\', escaped]);
                    rest = &rest[1..];
                }
                (b'$', Some(b'{')) => {
                    let end = rest.iter().position(|&o| o == b'}');
                    let end = end.ok_or("bad modifier in $GENERATE")?;
                    self.modified(value, &rest[1..end], out)?;
                    rest = &rest[end + 1..];
                }
                (b'$', _) => put(out, value, 0, b'd'),
                _ => out.push(octet),
            }
        }
        out.push(b'\n');
        Ok(())
    }

    fn modified(&self, value: u32, text: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
        let text = std::str::from_utf8(text).map_err(|_| "bad modifier in $GENERATE")?;
        let mut parts = text.split(',');
        let offset = parts.next().unwrap_or_default();
        let offset: i64 = offset.parse().map_err(|_| "bad offset in $GENERATE")?;
        let width = parts.next().unwrap_or("0");
        let width: u8 = width.parse().map_err(|_| "bad width in $GENERATE")?;
        let base = match parts.next().unwrap_or("d") {
            base @ ("d" | "o" | "x" | "X") => base.as_bytes()[0],
            _ => return Err("bad base in $GENERATE"),
        };
        if parts.next().is_some() {
            return Err("bad modifier in $GENERATE");
        }
        let last = i64::from(self.stop) + offset;
        if i64::from(self.start) + offset < 0 || last > i64::from(i32::MAX) {
            return Err("bad offset in $GENERATE");
        }
        put(out, (i64::from(value) + offset) as u32, usize::from(width), base);
        Ok(())
    }
}

fn put(out: &mut Vec<u8>, value: u32, width: usize, base: u8) {
    // Writing to a vector cannot fail.
    let _ = match base {
        b'o' => write!(out, "{value:0width$o}"),
        b'x' => write!(out, "{value:0width$x}"),
        b'X' => write!(out, "{value:0width$X}"),
        _ => write!(out, "{value:0width$}"),
    };
}

fn range(word: &Word<'_>) -> Result<(u32, u32, u32), Fault> {
    let bad = |what: &str| Fault::new(format!("bad {what} in $GENERATE range"), word);
    let mut halves = word.text.splitn(2, |&o| o == b'/');
    let range = halves.next().unwrap_or_default();
    let step = match halves.next() {
        Some(step) => {
            number(step, i32::MAX as u32).filter(|&s| s > 0).ok_or_else(|| bad("step"))?
        }
        None => 1,
    };
    let dash = range.iter().position(|&o| o == b'-').ok_or_else(|| bad("start-stop"))?;
    let start = number(&range[..dash], i32::MAX as u32).ok_or_else(|| bad("start"))?;
    let stop = number(&range[dash + 1..], i32::MAX as u32).ok_or_else(|| bad("stop"))?;
    if stop < start || (stop - start) / step > ZONE_GENERATE_STEPS_MAX {
        return Err(bad("range"));
    }
    Ok((start, stop, step))
}
