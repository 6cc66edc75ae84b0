//! Values, and the memory that they lie in.
//!
//! A value is a few octets: texts and lists are places in the [`Memory`] of the run that made them.
//! The memory is taken once and used again; a run that needs more than it may hold fails.

use std::fmt::{self, Write as _};

use super::Cause;
use crate::gotemplate::{TextBuf, print_float};
use crate::limits::{EXPRESSION_MEMORY_BYTES_MAX, EXPRESSION_STEPS_MAX, EXPRESSION_VALUES_MAX};

/// What is known of a value before it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing is known.
    Any,
    /// `nil`.
    Nil,
    /// `true` or `false`.
    Bool,
    /// A signed number of 64 bits.
    Int,
    /// A number with a fraction.
    Float,
    /// A string.
    Text,
    /// An array.
    List,
    /// A map.
    Map,
}

impl Kind {
    /// What Go calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Any => "unknown",
            Self::Nil => "nil",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Float => "float64",
            Self::Text => "string",
            Self::List => "[]interface {}",
            Self::Map => "map[string]interface {}",
        }
    }

    /// Whether a value of this kind may be one of `other`.
    pub(super) fn may_be(self, other: Self) -> bool {
        self == other || self == Self::Any || other == Self::Any
    }

    /// Whether it may be a number.
    pub(super) fn may_count(self) -> bool {
        matches!(self, Self::Any | Self::Int | Self::Float)
    }
}

/// A place in a memory: of texts in octets, of lists in values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub(super) at: u32,
    pub(super) len: u32,
}

impl Place {
    /// As a range.
    pub fn range(self) -> std::ops::Range<usize> {
        self.at as usize..self.at as usize + self.len as usize
    }
}

/// A value.
#[derive(Clone, Copy, Debug)]
pub enum Value {
    /// `nil`.
    Nil,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// A string: see [`Memory::text`].
    Text(Place),
    /// An array: see [`Memory::list`].
    List(Place),
    /// A map: keys and values by turns.
    Map(Place),
}

impl Value {
    /// Its kind.
    pub fn kind(self) -> Kind {
        match self {
            Self::Nil => Kind::Nil,
            Self::Bool(_) => Kind::Bool,
            Self::Int(_) => Kind::Int,
            Self::Float(_) => Kind::Float,
            Self::Text(_) => Kind::Text,
            Self::List(_) => Kind::List,
            Self::Map(_) => Kind::Map,
        }
    }
}

/// How much of a memory is in use.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    text: usize,
    values: usize,
}

/// What runs need: room for texts and lists, and the values of variables.
#[derive(Debug)]
pub struct Memory {
    pub(super) text: String,
    pub(super) values: Vec<Value>,
    /// Variables: those of the program, then those of `let`.
    pub(super) variables: Vec<Value>,
    pub(super) steps: u32,
}

impl Memory {
    /// Takes the room.
    pub fn new() -> Self {
        Self {
            text: String::with_capacity(EXPRESSION_MEMORY_BYTES_MAX),
            values: Vec::with_capacity(EXPRESSION_VALUES_MAX),
            variables: Vec::new(),
            steps: 0,
        }
    }

    /// The octets of a text.
    pub fn text(&self, place: Place) -> &str {
        self.text.get(place.range()).unwrap_or_default()
    }

    /// The values of a list, or keys and values of a map.
    pub fn list(&self, place: Place) -> &[Value] {
        self.values.get(place.range()).unwrap_or_default()
    }

    /// All values: the places of lists are within it.
    pub fn all(&self) -> &[Value] {
        &self.values
    }

    /// The value of the program's variable number `at`, in the order in which they were declared.
    pub fn variable(&self, at: usize) -> Value {
        self.variables.get(at).copied().unwrap_or(Value::Nil)
    }

    /// A text as `write` writes it.
    ///
    /// # Errors
    /// There is no room for it.
    pub fn make(
        &mut self,
        write: impl FnOnce(&mut Writer<'_>) -> fmt::Result,
    ) -> Result<Value, Cause> {
        let at = self.text.len();
        if write(&mut Writer(&mut self.text)).is_err() {
            self.text.truncate(at);
            return Err(Cause::Memory);
        }
        Ok(Value::Text(Place { at: at as u32, len: (self.text.len() - at) as u32 }))
    }

    /// A part of a text, in octets from its start.
    pub(super) fn part(&self, text: Place, from: usize, to: usize) -> Result<Value, Cause> {
        let whole = self.text(text);
        whole.get(from..to).ok_or(Cause::Index)?;
        Ok(Value::Text(Place { at: text.at + from as u32, len: (to - from) as u32 }))
    }

    /// Appends to the list that is under way at the end of the values.
    pub(super) fn push(&mut self, value: Value) -> Result<(), Cause> {
        if self.values.len() >= EXPRESSION_VALUES_MAX {
            return Err(Cause::Memory);
        }
        self.values.push(value);
        Ok(())
    }

    /// The list of the values from `at` on.
    pub(super) fn list_from(&self, at: usize) -> Place {
        Place { at: at as u32, len: (self.values.len() - at) as u32 }
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { text: self.text.len(), values: self.values.len() }
    }

    /// Forgets what was made since.
    pub(super) fn rewind(&mut self, mark: Mark) {
        self.text.truncate(mark.text);
        self.values.truncate(mark.values);
    }

    /// Counts a step of the run.
    pub(super) fn step(&mut self) -> Result<(), Cause> {
        self.steps += 1;
        if self.steps > EXPRESSION_STEPS_MAX { Err(Cause::Steps) } else { Ok(()) }
    }

    /// Whether two values are the same: numbers by what they count, lists one by one.
    pub(super) fn equal(&mut self, one: Value, other: Value) -> Result<bool, Cause> {
        self.step()?;
        Ok(match (one, other) {
            (Value::Nil, Value::Nil) => true,
            (Value::Bool(one), Value::Bool(other)) => one == other,
            (Value::Int(one), Value::Int(other)) => one == other,
            (Value::Float(one), Value::Float(other)) => one == other,
            (Value::Int(one), Value::Float(other)) | (Value::Float(other), Value::Int(one)) => {
                one as f64 == other
            }
            (Value::Text(one), Value::Text(other)) => self.text(one) == self.text(other),
            (Value::List(one), Value::List(other)) | (Value::Map(one), Value::Map(other)) => {
                let mut same = one.len == other.len;
                let mut at = 0;
                while same && at < one.len as usize {
                    let (one, other) = (self.list(one)[at], self.list(other)[at]);
                    same = self.equal(one, other)?;
                    at += 1;
                }
                same
            }
            _ => false,
        })
    }

    /// Writes a value as Go's `%v` does.
    pub(super) fn print(&mut self, value: Value) -> Result<Value, Cause> {
        match value {
            Value::Text(_) => Ok(value),
            Value::Nil => self.make(|out| out.write_str("<nil>")),
            Value::Bool(value) => self.make(|out| write!(out, "{value}")),
            Value::Int(value) => self.make(|out| write!(out, "{value}")),
            Value::Float(value) => {
                let mut room = [0; 32];
                let mut text = TextBuf::new(&mut room);
                print_float(value, &mut text).map_err(|_| Cause::Memory)?;
                let text = std::str::from_utf8(text.as_bytes()).unwrap_or_default();
                self.make(|out| out.write_str(text))
            }
            Value::List(_) | Value::Map(_) => Err(Cause::Kind),
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

/// Writes a text into a memory; fails when it is full.
pub struct Writer<'m>(&'m mut String);

impl fmt::Write for Writer<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > EXPRESSION_MEMORY_BYTES_MAX {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}
