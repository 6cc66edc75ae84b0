//! What templates compute with: values borrowed from the caller's data, typed as in Go.

use super::Full;
use super::print::TextBuf;

/// A value. Copied freely: it borrows what is large.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    /// Nothing: an absent field of a map, or `nil`. False; printed as `<no value>` by an action.
    Nil,
    /// `bool`.
    Bool(bool),
    /// `int` and every other signed type.
    Int(i64),
    /// `uint64` and every other unsigned type.
    Uint(u64),
    /// `float64`.
    Float(f64),
    /// A string: octets, usually UTF-8.
    Text(&'a [u8]),
    /// A slice.
    List(Slice<'a>),
    /// A map with keys that are strings.
    Map(&'a dyn Map),
    /// A struct.
    Object(&'a dyn Fields),
    /// A method: called as soon as it is named.
    Method(&'a dyn Method),
}

/// A struct: `.Name` asks it for a field. The names are fixed; asking for another one fails.
pub trait Fields {
    /// Its type, for error texts and `%T`.
    fn type_name(&self) -> &'static str;
    /// The value of a field or a method, `None` where there is none of that name.
    fn field(&self, name: &str) -> Option<Value<'_>>;
    /// Writes the whole as an action prints it.
    fn print(&self, out: &mut TextBuf<'_>) -> Result<(), Full>;
}

/// A slice of values.
pub trait List {
    /// Its type, for error texts and `%T`.
    fn type_name(&self) -> &'static str {
        "[]string"
    }
    /// How many values it holds.
    fn len(&self) -> usize;
    /// The value at `at`, which is below [`List::len`].
    fn get(&self, at: usize) -> Value<'_>;
    /// Whether it holds none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A map from strings to values.
pub trait Map {
    /// Its type, for error texts and `%T`.
    fn type_name(&self) -> &'static str {
        "map[string]string"
    }
    /// How many entries it holds.
    fn len(&self) -> usize;
    /// The entry at `at` (below [`Map::len`]) in the order of the keys' octets.
    fn entry(&self, at: usize) -> (&[u8], Value<'_>);
    /// The value under `key`.
    fn get(&self, key: &[u8]) -> Option<Value<'_>>;
    /// What `index` says for an absent key: the zero value of the map's value type.
    fn zero(&self) -> Value<'_> {
        Value::Text(b"")
    }
    /// Whether it holds none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A method from one string to one string.
pub trait Method {
    /// Writes the result for `argument`.
    fn call(&self, argument: &[u8], out: &mut TextBuf<'_>) -> Result<(), Full>;
}

/// Part of a [`List`].
#[derive(Clone, Copy)]
pub struct Slice<'a> {
    items: &'a dyn List,
    from: u32,
    to: u32,
}

impl<'a> Slice<'a> {
    /// The whole list. Lists of more than 2³² values are cut there.
    pub fn of(items: &'a dyn List) -> Self {
        Slice { items, from: 0, to: u32::try_from(items.len()).unwrap_or(u32::MAX) }
    }

    /// Values `from..to` of a list.
    pub fn part(items: &'a dyn List, from: usize, to: usize) -> Self {
        Slice { items, from: from as u32, to: to as u32 }
    }

    pub(super) fn len(self) -> usize {
        (self.to - self.from) as usize
    }

    /// What it may be sliced up to: as in Go, the end of the list behind it.
    pub(super) fn capacity(self) -> usize {
        self.items.len().saturating_sub(self.from as usize)
    }

    pub(super) fn get(self, at: usize) -> Option<Value<'a>> {
        (at < self.len()).then(|| self.items.get(self.from as usize + at))
    }

    /// Values `from..to`; the caller has checked `from <= to <= capacity`.
    pub(super) fn cut(self, from: usize, to: usize) -> Self {
        Slice { from: self.from + from as u32, to: self.from + to as u32, ..self }
    }

    pub(super) fn type_name(self) -> &'static str {
        self.items.type_name()
    }
}

impl<'a> Value<'a> {
    /// A string.
    pub fn text(text: &'a str) -> Self {
        Value::Text(text.as_bytes())
    }

    /// A whole list.
    pub fn list(items: &'a dyn List) -> Self {
        Value::List(Slice::of(items))
    }

    /// The name of its type in Go.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Value::Nil => "<nil>",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint64",
            Value::Float(_) => "float64",
            Value::Text(_) => "string",
            Value::List(list) => list.type_name(),
            Value::Map(map) => map.type_name(),
            Value::Object(object) => object.type_name(),
            Value::Method(_) => "func(string) string",
        }
    }

    /// Go's truth: false is what is zero, empty or nothing; a struct is true.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Value::Nil => false,
            Value::Bool(value) => *value,
            Value::Int(value) => *value != 0,
            Value::Uint(value) => *value != 0,
            Value::Float(value) => *value != 0.0,
            Value::Text(text) => !text.is_empty(),
            Value::List(list) => list.len() > 0,
            Value::Map(map) => !map.is_empty(),
            Value::Object(_) | Value::Method(_) => true,
        }
    }
}
