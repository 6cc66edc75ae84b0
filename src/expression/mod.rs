//! Expressions, as CoreDNS has them from Go's package `expr`: conditions on a query.
//!
//! A [`Draft`] reads texts, checks names and kinds, and becomes a [`Program`]: variables, each of
//! which those after it may use, and conditions. What a program may ask of its surroundings is a list
//! of [`Function`]s, which an [`Environment`] carries out. A run computes the variables, then the
//! conditions until one is false, in a [`Memory`] that is used again and again: nothing is allocated.
//!
//! Built in are all operators (`and or not in matches contains startsWith endsWith ?: ?? ?. .. |`,
//! comparisons, arithmetic, slices), arrays, maps, `let`, `if`, predicates with `#`, `#index` and
//! `#acc`, and the functions in `builtins.rs`. Not: dates, JSON, sorting and grouping, patterns of
//! `matches` that are no literals. Texts are sliced where characters begin.
//!
//! Guarantees: no text or value makes it panic; depth, nodes, steps and memory of a run are bounded.

mod builtins;
mod evaluate;
mod lex;
mod parse;
#[cfg(test)]
mod tests;
mod tree;
mod value;

use std::fmt;

pub use parse::Draft;
pub use tree::Program;
pub use value::{Kind, Memory, Place, Value, Writer};

/// A function of the surroundings, by its name in expressions.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// Kinds of its arguments.
    pub takes: &'static [Kind],
    /// The kind of what it gives.
    pub gives: Kind,
}

/// Carries out functions of the surroundings.
pub trait Environment {
    /// Calls function number `function` of those that the program was compiled with. The arguments
    /// are as many as it takes, and of its kinds.
    ///
    /// # Errors
    /// Why it cannot be computed.
    fn call(
        &self,
        function: usize,
        arguments: &[Value],
        memory: &mut Memory,
    ) -> Result<Value, Cause>;
}

/// Whether `name` means something in every expression, so that nothing else can be called so.
pub fn is_reserved(name: &str) -> bool {
    const WORDS: &[&str] = &["true", "false", "nil", "env"];
    let is_sign = !matches!(lex::words(name).as_deref(), Ok([(lex::Word::Name(_), 0), _]));
    is_sign || WORDS.contains(&name) || builtins::is_name(name)
}

/// Why a text is no expression, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The character at which it is told, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

impl Error {
    /// At octet `at` of `text`.
    fn new(text: &str, at: usize, message: impl Into<String>) -> Self {
        let before = text.get(..at).unwrap_or(text);
        Self { column: before.chars().count() + 1, message: message.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (1:{})", self.message, self.column)
    }
}

/// Why a run failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A value is of a kind that cannot be used so.
    Kind,
    /// A place that a list or a text does not have.
    Index,
    /// A text that is no number, address or the like.
    Text,
    /// An integer divided by zero.
    Zero,
    /// More steps than a run may take.
    Steps,
    /// More memory than a run may hold.
    Memory,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kind => "a value is of the wrong type",
            Self::Index => "index out of range",
            Self::Text => "a string is not what is wanted here",
            Self::Zero => "integer divide by zero",
            Self::Steps => "too many steps",
            Self::Memory => "memory budget exceeded",
        })
    }
}
