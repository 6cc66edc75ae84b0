//! Functions that every expression has.

use super::value::{Kind, Value};
use super::{Cause, Memory};
use Kind::{Any, Bool, Float, Int, List, Map, Text};

/// A function that computes with values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Builtin {
    Len,
    Abs,
    Ceil,
    Floor,
    Round,
    Int,
    Float,
    String,
    Trim,
    TrimPrefix,
    TrimSuffix,
    Upper,
    Lower,
    Split,
    SplitAfter,
    Replace,
    Repeat,
    Join,
    IndexOf,
    LastIndexOf,
    HasPrefix,
    HasSuffix,
    Max,
    Min,
    Mean,
    First,
    Last,
    Get,
    Take,
    Reverse,
    Concat,
    Keys,
    Values,
    BitAnd,
    BitOr,
    BitXor,
    BitNand,
    BitNot,
    BitShl,
    BitShr,
}

/// A function that goes through a list with a predicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loop {
    All,
    None,
    Any,
    One,
    Filter,
    Map,
    Count,
    Sum,
    Find,
    FindIndex,
    FindLast,
    FindLastIndex,
    Reduce,
}

/// Kinds of arguments: those that must be there, and how many; the last may repeat up to `most`.
pub(super) struct Shape {
    pub(super) takes: &'static [Kind],
    pub(super) least: usize,
    pub(super) most: usize,
    pub(super) gives: Kind,
}

const MANY: usize = 32;

const fn shape(takes: &'static [Kind], least: usize, most: usize, gives: Kind) -> Shape {
    Shape { takes, least, most, gives }
}

const BUILTINS: &[(&str, Builtin, Shape)] = &[
    ("len", Builtin::Len, shape(&[Any], 1, 1, Int)),
    ("abs", Builtin::Abs, shape(&[Any], 1, 1, Any)),
    ("ceil", Builtin::Ceil, shape(&[Any], 1, 1, Float)),
    ("floor", Builtin::Floor, shape(&[Any], 1, 1, Float)),
    ("round", Builtin::Round, shape(&[Any], 1, 1, Float)),
    ("int", Builtin::Int, shape(&[Any], 1, 1, Int)),
    ("float", Builtin::Float, shape(&[Any], 1, 1, Float)),
    ("string", Builtin::String, shape(&[Any], 1, 1, Text)),
    ("trim", Builtin::Trim, shape(&[Text, Text], 1, 2, Text)),
    ("trimPrefix", Builtin::TrimPrefix, shape(&[Text, Text], 1, 2, Text)),
    ("trimSuffix", Builtin::TrimSuffix, shape(&[Text, Text], 1, 2, Text)),
    ("upper", Builtin::Upper, shape(&[Text], 1, 1, Text)),
    ("lower", Builtin::Lower, shape(&[Text], 1, 1, Text)),
    ("split", Builtin::Split, shape(&[Text, Text, Int], 2, 3, List)),
    ("splitAfter", Builtin::SplitAfter, shape(&[Text, Text, Int], 2, 3, List)),
    ("replace", Builtin::Replace, shape(&[Text, Text, Text, Int], 3, 4, Text)),
    ("repeat", Builtin::Repeat, shape(&[Text, Int], 2, 2, Text)),
    ("join", Builtin::Join, shape(&[List, Text], 1, 2, Text)),
    ("indexOf", Builtin::IndexOf, shape(&[Text, Text], 2, 2, Int)),
    ("lastIndexOf", Builtin::LastIndexOf, shape(&[Text, Text], 2, 2, Int)),
    ("hasPrefix", Builtin::HasPrefix, shape(&[Text, Text], 2, 2, Bool)),
    ("hasSuffix", Builtin::HasSuffix, shape(&[Text, Text], 2, 2, Bool)),
    ("max", Builtin::Max, shape(&[Any], 1, MANY, Any)),
    ("min", Builtin::Min, shape(&[Any], 1, MANY, Any)),
    ("mean", Builtin::Mean, shape(&[Any], 1, MANY, Any)),
    ("first", Builtin::First, shape(&[List], 1, 1, Any)),
    ("last", Builtin::Last, shape(&[List], 1, 1, Any)),
    ("get", Builtin::Get, shape(&[Any, Any], 2, 2, Any)),
    ("take", Builtin::Take, shape(&[List, Int], 2, 2, List)),
    ("reverse", Builtin::Reverse, shape(&[List], 1, 1, List)),
    ("concat", Builtin::Concat, shape(&[List], 1, MANY, List)),
    ("keys", Builtin::Keys, shape(&[Map], 1, 1, List)),
    ("values", Builtin::Values, shape(&[Map], 1, 1, List)),
    ("bitand", Builtin::BitAnd, shape(&[Int, Int], 2, 2, Int)),
    ("bitor", Builtin::BitOr, shape(&[Int, Int], 2, 2, Int)),
    ("bitxor", Builtin::BitXor, shape(&[Int, Int], 2, 2, Int)),
    ("bitnand", Builtin::BitNand, shape(&[Int, Int], 2, 2, Int)),
    ("bitnot", Builtin::BitNot, shape(&[Int], 1, 1, Int)),
    ("bitshl", Builtin::BitShl, shape(&[Int, Int], 2, 2, Int)),
    ("bitshr", Builtin::BitShr, shape(&[Int, Int], 2, 2, Int)),
];

/// With the kind of what they give.
const LOOPS: &[(&str, Loop, Kind)] = &[
    ("all", Loop::All, Bool),
    ("none", Loop::None, Bool),
    ("any", Loop::Any, Bool),
    ("one", Loop::One, Bool),
    ("filter", Loop::Filter, List),
    ("map", Loop::Map, List),
    ("count", Loop::Count, Int),
    ("sum", Loop::Sum, Any),
    ("find", Loop::Find, Any),
    ("findIndex", Loop::FindIndex, Any),
    ("findLast", Loop::FindLast, Any),
    ("findLastIndex", Loop::FindLastIndex, Any),
    ("reduce", Loop::Reduce, Any),
];

/// Functions of the language that are not built in here.
const OTHERS: &[&str] = &[
    "type",
    "toJSON",
    "fromJSON",
    "toBase64",
    "fromBase64",
    "now",
    "duration",
    "date",
    "timezone",
    "toPairs",
    "fromPairs",
    "uniq",
    "flatten",
    "sort",
    "median",
    "bitushr",
    "groupBy",
    "sortBy",
];

pub(super) fn builtin(name: &str) -> Option<(Builtin, &'static Shape)> {
    BUILTINS.iter().find(|(known, ..)| *known == name).map(|(_, builtin, shape)| (*builtin, shape))
}

pub(super) fn predicate(name: &str) -> Option<(Loop, Kind)> {
    LOOPS.iter().find(|(known, ..)| *known == name).map(|(_, kind, gives)| (*kind, *gives))
}

/// Whether the language has a function `name` that is not built in.
pub(super) fn is_other(name: &str) -> bool {
    OTHERS.contains(&name)
}

/// Whether the language has a function `name`.
pub(super) fn is_name(name: &str) -> bool {
    builtin(name).is_some() || predicate(name).is_some() || is_other(name)
}

/// Calls a function; the arguments are as many as its shape says, their kinds may be others.
pub(super) fn call(
    builtin: Builtin,
    arguments: &[Value],
    memory: &mut Memory,
) -> Result<Value, Cause> {
    use Builtin as B;
    match (builtin, arguments) {
        (B::Len, [Value::Text(text)]) => Ok(Value::Int(memory.text(*text).chars().count() as i64)),
        (B::Len, [Value::List(list)]) => Ok(Value::Int(list.len.into())),
        (B::Len, [Value::Map(map)]) => Ok(Value::Int((map.len / 2).into())),
        (B::String, [value]) => memory.print(*value),
        (B::Join, [Value::List(list), rest @ ..]) => {
            let glue = match rest {
                [Value::Text(glue)] => *glue,
                _ => Default::default(),
            };
            join(memory, *list, glue)
        }
        (B::Max | B::Min | B::Mean, _) => {
            let from = memory.values.len();
            for argument in arguments {
                numbers(memory, *argument)?;
            }
            let list = memory.list_from(from);
            aggregate(builtin, memory.list(list))
        }
        (B::First, [Value::List(list)]) => {
            Ok(memory.list(*list).first().copied().unwrap_or(Value::Nil))
        }
        (B::Last, [Value::List(list)]) => {
            Ok(memory.list(*list).last().copied().unwrap_or(Value::Nil))
        }
        (B::Take, [Value::List(list), Value::Int(count)]) => {
            let count = u32::try_from(*count).map_err(|_| Cause::Index)?;
            Ok(Value::List(super::Place { len: list.len.min(count), ..*list }))
        }
        (B::Reverse, [Value::List(list)]) => {
            let from = memory.values.len();
            for at in list.range().rev() {
                memory.push(memory.values[at])?;
            }
            Ok(Value::List(memory.list_from(from)))
        }
        (B::Concat, _) => {
            let from = memory.values.len();
            for argument in arguments {
                let Value::List(list) = argument else { return Err(Cause::Kind) };
                for at in list.range() {
                    memory.push(memory.values[at])?;
                }
            }
            Ok(Value::List(memory.list_from(from)))
        }
        (B::Keys | B::Values, [Value::Map(map)]) => {
            let from = memory.values.len();
            for at in map.range().skip(usize::from(builtin == B::Values)).step_by(2) {
                memory.push(memory.values[at])?;
            }
            Ok(Value::List(memory.list_from(from)))
        }
        _ => match arguments {
            [Value::Text(text), rest @ ..] => text_call(builtin, *text, rest, memory),
            _ => number_call(builtin, arguments),
        },
    }
}

fn join(memory: &mut Memory, list: super::Place, glue: super::Place) -> Result<Value, Cause> {
    let start = memory.text.len();
    for (count, at) in list.range().enumerate() {
        let Value::Text(text) = memory.values[at] else { return Err(Cause::Kind) };
        for part in [glue, text].into_iter().skip(usize::from(count == 0)) {
            copy(memory, part.range())?;
        }
    }
    made(memory, start)
}

/// Appends a part of the memory's text to its end.
fn copy(memory: &mut Memory, range: std::ops::Range<usize>) -> Result<(), Cause> {
    if memory.text.len() + range.len() > crate::limits::EXPRESSION_MEMORY_BYTES_MAX {
        return Err(Cause::Memory);
    }
    memory.text.extend_from_within(range);
    Ok(())
}

fn made(memory: &Memory, start: usize) -> Result<Value, Cause> {
    let len = memory.text.len() - start;
    Ok(Value::Text(super::Place { at: start as u32, len: len as u32 }))
}

/// Appends the numbers of `value` to the values: itself, or what is in it.
fn numbers(memory: &mut Memory, value: Value) -> Result<(), Cause> {
    match value {
        Value::Int(_) | Value::Float(_) => memory.push(value),
        Value::List(list) => {
            for at in list.range() {
                memory.step()?;
                match memory.values[at] {
                    number @ (Value::Int(_) | Value::Float(_)) => memory.push(number)?,
                    _ => return Err(Cause::Kind),
                }
            }
            Ok(())
        }
        _ => Err(Cause::Kind),
    }
}

pub(super) fn float(value: Value) -> Result<f64, Cause> {
    match value {
        Value::Int(value) => Ok(value as f64),
        Value::Float(value) => Ok(value),
        _ => Err(Cause::Kind),
    }
}

fn aggregate(builtin: Builtin, numbers: &[Value]) -> Result<Value, Cause> {
    let Some((first, rest)) = numbers.split_first() else {
        return if builtin == Builtin::Mean { Ok(Value::Int(0)) } else { Err(Cause::Index) };
    };
    let mut best = *first;
    let mut sum = float(*first)?;
    for value in rest {
        sum += float(*value)?;
        let more = float(*value)? > float(best)?;
        if more == (builtin == Builtin::Max) {
            best = *value;
        }
    }
    match builtin {
        Builtin::Mean => Ok(Value::Float(sum / numbers.len() as f64)),
        _ => Ok(best),
    }
}

fn text_call(
    builtin: Builtin,
    text: super::Place,
    rest: &[Value],
    memory: &mut Memory,
) -> Result<Value, Cause> {
    use Builtin as B;
    let whole = memory.text(text);
    let second = match rest.first() {
        Some(Value::Text(second)) => memory.text(*second),
        _ => " ",
    };
    let place = |found: Option<usize>| Ok(Value::Int(found.map_or(-1, |at| at as i64)));
    let kept = match (builtin, rest) {
        (B::Int, []) => return number(whole).map(Value::Int),
        (B::Float, []) => {
            let parsed = whole.parse().map_err(|_| Cause::Text)?;
            return Ok(Value::Float(parsed));
        }
        (B::Trim, []) => whole.trim(),
        (B::Trim, [Value::Text(_)]) => whole.trim_matches(|c| second.contains(c)),
        (B::TrimPrefix, _) => whole.strip_prefix(second).unwrap_or(whole),
        (B::TrimSuffix, _) => whole.strip_suffix(second).unwrap_or(whole),
        (B::IndexOf, [Value::Text(_)]) => return place(whole.find(second)),
        (B::LastIndexOf, [Value::Text(_)]) => return place(whole.rfind(second)),
        (B::HasPrefix, [Value::Text(_)]) => return Ok(Value::Bool(whole.starts_with(second))),
        (B::HasSuffix, [Value::Text(_)]) => return Ok(Value::Bool(whole.ends_with(second))),
        (B::Upper | B::Lower, []) => return turn(builtin == B::Upper, text, memory),
        (B::Split | B::SplitAfter, [Value::Text(by), most @ ..]) => {
            let most = match most {
                [Value::Int(most)] => *most,
                _ => -1,
            };
            return split(text, *by, most, builtin == B::SplitAfter, memory);
        }
        (B::Replace, [Value::Text(from), Value::Text(to), most @ ..]) => {
            let most = match most {
                [Value::Int(most)] => *most,
                _ => -1,
            };
            return replace(text, *from, *to, most, memory);
        }
        (B::Repeat, [Value::Int(count)]) => {
            let count = usize::try_from(*count).map_err(|_| Cause::Index)?;
            let start = memory.text.len();
            for _ in 0..count {
                memory.step()?;
                copy(memory, text.range())?;
            }
            return made(memory, start);
        }
        _ => return Err(Cause::Kind),
    };
    let from = kept.as_ptr() as usize - whole.as_ptr() as usize;
    let to = from + kept.len();
    memory.part(text, from, to)
}

/// A number as Go's `strconv.Atoi` reads it.
fn number(text: &str) -> Result<i64, Cause> {
    text.parse().map_err(|_| Cause::Text)
}

fn turn(upper: bool, text: super::Place, memory: &mut Memory) -> Result<Value, Cause> {
    let start = memory.text.len();
    if memory.text(text).is_ascii() {
        copy(memory, text.range())?;
        let copied = &mut memory.text[start..];
        if upper {
            copied.make_ascii_uppercase()
        } else {
            copied.make_ascii_lowercase()
        }
        return made(memory, start);
    }
    let mut at = text.at as usize;
    while let Some(c) = memory.text[at..text.range().end].chars().next() {
        at += c.len_utf8();
        let mut octets = [0; 4];
        let turned: &mut dyn Iterator<Item = char> =
            if upper { &mut c.to_uppercase() } else { &mut c.to_lowercase() };
        for c in turned {
            memory.make(|out| std::fmt::Write::write_str(out, c.encode_utf8(&mut octets)))?;
        }
    }
    made(memory, start)
}

/// Octets of the first part of `rest` before `by`, if that is in it; the empty text is between
/// characters.
fn cut(rest: &str, by: &str) -> Option<usize> {
    if by.is_empty() {
        let first = rest.chars().next()?.len_utf8();
        return (first < rest.len()).then_some(first);
    }
    rest.find(by)
}

fn split(
    text: super::Place,
    by: super::Place,
    most: i64,
    after: bool,
    memory: &mut Memory,
) -> Result<Value, Cause> {
    let start = memory.values.len();
    let (mut at, end) = (text.range().start, text.range().end);
    let mut parts = 0;
    if most == 0 || by.len == 0 && text.len == 0 {
        return Ok(Value::List(memory.list_from(start)));
    }
    // It ends with the text, or with what a run may take.
    loop {
        memory.step()?;
        parts += 1;
        let found = cut(&memory.text[at..end], memory.text(by)).filter(|_| parts != most);
        let len = found.map_or(end - at, |len| len + if after { by.len as usize } else { 0 });
        memory.push(Value::Text(super::Place { at: at as u32, len: len as u32 }))?;
        let Some(found) = found else { break };
        at += found + by.len as usize;
    }
    Ok(Value::List(memory.list_from(start)))
}

fn replace(
    text: super::Place,
    from: super::Place,
    to: super::Place,
    most: i64,
    memory: &mut Memory,
) -> Result<Value, Cause> {
    let start = memory.text.len();
    let (mut at, end) = (text.range().start, text.range().end);
    let mut done = 0;
    if from.len == 0 && most != 0 {
        copy(memory, to.range())?;
        done = 1;
    }
    while done != most {
        memory.step()?;
        let Some(len) = cut(&memory.text[at..end], memory.text(from)) else { break };
        copy(memory, at..at + len)?;
        copy(memory, to.range())?;
        at += len + from.len as usize;
        done += 1;
    }
    copy(memory, at..end)?;
    if from.len == 0 && done != most && text.len != 0 {
        copy(memory, to.range())?;
    }
    made(memory, start)
}

fn number_call(builtin: Builtin, arguments: &[Value]) -> Result<Value, Cause> {
    use Builtin as B;
    match (builtin, arguments) {
        (B::Abs, [Value::Int(value)]) => Ok(Value::Int(value.wrapping_abs())),
        (B::Abs, [Value::Float(value)]) => Ok(Value::Float(value.abs())),
        (B::Ceil, [value]) => Ok(Value::Float(float(*value)?.ceil())),
        (B::Floor, [value]) => Ok(Value::Float(float(*value)?.floor())),
        (B::Round, [value]) => Ok(Value::Float(float(*value)?.round())),
        (B::Int, [Value::Int(value)]) => Ok(Value::Int(*value)),
        (B::Int, [Value::Float(value)]) => Ok(Value::Int(*value as i64)),
        (B::Float, [value]) => Ok(Value::Float(float(*value)?)),
        (B::BitNot, [Value::Int(value)]) => Ok(Value::Int(!value)),
        (_, [Value::Int(one), Value::Int(other)]) => {
            let shift = || u32::try_from(*other).map_err(|_| Cause::Index);
            Ok(Value::Int(match builtin {
                B::BitAnd => one & other,
                B::BitOr => one | other,
                B::BitXor => one ^ other,
                B::BitNand => one & !other,
                B::BitShl => one.checked_shl(shift()?).unwrap_or(0),
                B::BitShr => one.checked_shr(shift()?).unwrap_or(one >> 63),
                _ => return Err(Cause::Kind),
            }))
        }
        _ => Err(Cause::Kind),
    }
}
