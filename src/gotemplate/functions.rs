//! The functions that templates may call: Go's built-in ones, and `parseInt`.
//!
//! Missing of Go's: `html`, `js`, `urlquery` and `call`, of which DNS records have no need.

use std::cmp::Ordering;

use super::Fault;
use super::literal::{self, IntegerFault};
use super::value::Value;

/// A function. `and`, `or` and the `print` family are the interpreter's own: the former do not
/// evaluate all their arguments, the latter need room for their text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    And,
    Or,
    Not,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Index,
    Slice,
    Len,
    Print,
    Printf,
    Println,
    ParseInt,
}

use Function::*;

/// The functions, with the number of arguments that they take at least and at most.
const FUNCTIONS: [(Function, &str, usize, usize); 16] = [
    (And, "and", 1, usize::MAX),
    (Or, "or", 1, usize::MAX),
    (Not, "not", 1, 1),
    (Eq, "eq", 1, usize::MAX),
    (Ne, "ne", 2, 2),
    (Lt, "lt", 2, 2),
    (Le, "le", 2, 2),
    (Gt, "gt", 2, 2),
    (Ge, "ge", 2, 2),
    (Index, "index", 1, usize::MAX),
    (Slice, "slice", 1, usize::MAX),
    (Len, "len", 1, 1),
    (Print, "print", 0, usize::MAX),
    (Printf, "printf", 1, usize::MAX),
    (Println, "println", 0, usize::MAX),
    (ParseInt, "parseInt", 3, 3),
];

impl Function {
    /// The function called `name`, or why there is none.
    pub(super) fn named(name: &str) -> Result<Function, &'static str> {
        match FUNCTIONS.iter().find(|(_, known, ..)| *known == name) {
            Some(&(function, ..)) => Ok(function),
            None if ["html", "js", "urlquery", "call"].contains(&name) => Err("not supported"),
            None => Err("not defined"),
        }
    }

    /// Its name in templates.
    pub(super) fn name(self) -> &'static str {
        self.signature().1
    }

    /// Checks the number of arguments.
    pub(super) fn accepts(self, count: usize) -> Result<(), Fault> {
        let (_, name, least, most) = self.signature();
        if count < least || count > most {
            return Err(Fault::ArgumentCount { name, want: least, got: count });
        }
        Ok(())
    }

    fn signature(self) -> (Function, &'static str, usize, usize) {
        FUNCTIONS[self as usize]
    }
}

// The table is in the order of the enumeration: `signature` relies on it.
const _: () = {
    let mut i = 0;
    while i < FUNCTIONS.len() {
        assert!(FUNCTIONS[i].0 as usize == i);
        i += 1;
    }
};

/// Go's kinds of values that can be compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Basic {
    None,
    Bool,
    Int,
    Uint,
    Float,
    Text,
}

fn basic(value: &Value<'_>) -> Basic {
    match value {
        Value::Bool(_) => Basic::Bool,
        Value::Int(_) => Basic::Int,
        Value::Uint(_) => Basic::Uint,
        Value::Float(_) => Basic::Float,
        Value::Text(_) => Basic::Text,
        _ => Basic::None,
    }
}

/// The order of two values of one kind, and of signed and unsigned integers.
fn order(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Uint(a), Value::Uint(b)) => Some(a.cmp(b)),
        (Value::Int(a), Value::Uint(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Value::Uint(a), Value::Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

fn are_integers(a: Basic, b: Basic) -> bool {
    matches!((a, b), (Basic::Int, Basic::Uint) | (Basic::Uint, Basic::Int))
}

/// `eq a b c`: whether `a` equals `b` or `c`. Nothing equals only nothing.
pub(super) fn equals(first: &Value<'_>, others: &[Value<'_>]) -> Result<bool, Fault> {
    if others.is_empty() {
        return Err(Fault::Words("error calling eq: missing argument for comparison"));
    }
    for other in others {
        let (a, b) = (basic(first), basic(other));
        let both_nil = matches!((first, other), (Value::Nil, Value::Nil));
        let one_nil = matches!(first, Value::Nil) || matches!(other, Value::Nil);
        if a == Basic::None && b == Basic::None {
            if !one_nil {
                return Err(Fault::NotComparable(first.type_name()));
            }
        } else if a != b && !are_integers(a, b) && !one_nil {
            return Err(Fault::Incompatible(first.type_name(), other.type_name()));
        }
        if both_nil || order(first, other) == Some(Ordering::Equal) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `lt`, for strings and numbers of one kind.
pub(super) fn less(a: &Value<'_>, b: &Value<'_>) -> Result<bool, Fault> {
    let (left, right) = (basic(a), basic(b));
    if left == Basic::None || right == Basic::None {
        let odd = if left == Basic::None { a } else { b };
        return Err(Fault::NotComparable(odd.type_name()));
    }
    if left != right && !are_integers(left, right) {
        return Err(Fault::Incompatible(a.type_name(), b.type_name()));
    }
    if left == Basic::Bool {
        return Err(Fault::NotComparable("bool"));
    }
    Ok(order(a, b) == Some(Ordering::Less))
}

/// `index a b c`: `a[b][c]`. An absent key of a map is the zero value, an absent place fails.
pub(super) fn index<'a>(item: Value<'a>, places: &[Value<'_>]) -> Result<Value<'a>, Fault> {
    if matches!(item, Value::Nil) {
        return Err(Fault::Words("error calling index: index of untyped nil"));
    }
    let mut item = item;
    for place in places {
        item = match item {
            Value::List(list) => {
                let at = offset("index", place, list.len())?;
                list.get(at).ok_or(Fault::OutOfRange { name: "index", at: at as i64 })?
            }
            Value::Text(text) => {
                let at = offset("index", place, text.len())?;
                let octet =
                    text.get(at).ok_or(Fault::OutOfRange { name: "index", at: at as i64 })?;
                Value::Uint(u64::from(*octet))
            }
            Value::Map(map) => match place {
                Value::Text(key) => map.get(key).unwrap_or_else(|| map.zero()),
                _ => {
                    let got = place.type_name();
                    return Err(Fault::ArgumentType { name: "index", want: "string", got });
                }
            },
            Value::Nil => return Err(Fault::Words("error calling index: index of nil pointer")),
            _ => return Err(Fault::Unfit { name: "index", got: item.type_name() }),
        };
    }
    Ok(item)
}

/// An index from 0 up to `most`, which itself is allowed.
fn offset(name: &'static str, place: &Value<'_>, most: usize) -> Result<usize, Fault> {
    let at = match place {
        Value::Int(at) => *at,
        Value::Uint(at) => i64::try_from(*at).unwrap_or(-1),
        _ => return Err(Fault::ArgumentType { name, want: "int", got: place.type_name() }),
    };
    match usize::try_from(at) {
        Ok(offset) if offset <= most => Ok(offset),
        _ => Err(Fault::OutOfRange { name, at }),
    }
}

/// `slice a 1 2`: `a[1:2]`.
pub(super) fn slice<'a>(item: Value<'a>, places: &[Value<'_>]) -> Result<Value<'a>, Fault> {
    const NAME: &str = "slice";
    let (len, capacity) = match item {
        Value::Text(_) if places.len() == 3 => {
            return Err(Fault::Words("error calling slice: cannot 3-index slice a string"));
        }
        Value::Text(text) => (text.len(), text.len()),
        Value::List(list) => (list.len(), list.capacity()),
        _ => return Err(Fault::Unfit { name: NAME, got: item.type_name() }),
    };
    if places.len() > 3 {
        return Err(Fault::Words("error calling slice: too many slice indexes"));
    }
    let mut bounds = [0, len, capacity];
    for (bound, place) in bounds.iter_mut().zip(places) {
        *bound = offset(NAME, place, capacity)?;
    }
    let [from, to, end] = bounds;
    if from > to || to > end {
        return Err(Fault::Words("error calling slice: invalid slice index"));
    }
    Ok(match item {
        Value::Text(text) => Value::Text(&text[from..to]),
        Value::List(list) => Value::List(list.cut(from, to)),
        other => other,
    })
}

/// `len`: octets of a string, entries of a list or map.
pub(super) fn length(item: &Value<'_>) -> Result<usize, Fault> {
    match item {
        Value::Text(text) => Ok(text.len()),
        Value::List(list) => Ok(list.len()),
        Value::Map(map) => Ok(map.len()),
        _ => Err(Fault::Unfit { name: "len", got: item.type_name() }),
    }
}

/// `parseInt text base bits`: Go's `strconv.ParseUint`.
pub(super) fn parse_int(arguments: &[Value<'_>]) -> Result<u64, Fault> {
    const NAME: &str = "parseInt";
    let unfit =
        |want, value: &Value<'_>| Fault::ArgumentType { name: NAME, want, got: value.type_name() };
    let [text, base, bits] = arguments else {
        return Err(Fault::ArgumentCount { name: NAME, want: 3, got: arguments.len() });
    };
    let Value::Text(text) = text else { return Err(unfit("string", text)) };
    let Value::Int(base) = base else { return Err(unfit("int", base)) };
    let Value::Int(bits) = bits else { return Err(unfit("int", bits)) };
    let text = std::str::from_utf8(text).map_err(|_| Fault::NotANumber)?;
    let base = match u32::try_from(*base) {
        Ok(base @ (0 | 2..=36)) => base,
        _ => return Err(Fault::Words("error calling parseInt: invalid base")),
    };
    let value = match literal::parse_uint(text, base) {
        Ok(value) => value,
        Err(IntegerFault::Syntax) => return Err(Fault::NotANumber),
        Err(IntegerFault::Range) => return Err(Fault::NumberTooBig),
    };
    match *bits {
        0 | 64 => Ok(value),
        1..=63 if value >> bits == 0 => Ok(value),
        1..=63 => Err(Fault::NumberTooBig),
        _ => Err(Fault::Words("error calling parseInt: invalid bit size")),
    }
}

/// `le`: less or equal. (Not the opposite of greater: nothing compares with NaN.)
pub(super) fn less_or_equal(a: &Value<'_>, b: &Value<'_>) -> Result<bool, Fault> {
    Ok(less(a, b)? || equals(a, std::slice::from_ref(b))?)
}
