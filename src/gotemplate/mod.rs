//! Go's `text/template`, as far as DNS records need it.
//!
//! ```text
//! {{ .Name }} 60 IN A 10.{{ parseInt .Group.b 16 8 }}.{{ if eq .Type "A" }}1{{ else }}2{{ end }}.9
//! ```
//!
//! A template is compiled once ([`Template::parse`]) and executed often, over data that the caller
//! lends ([`Fields`]), into a buffer that the caller owns ([`TextBuf`]).
//!
//! **What there is**: fields and chains of fields, `$` and variables, pipelines, parentheses,
//! `if`/`else if`/`else`, `with`, `range` (lists, maps in the order of their keys, numbers), `break`,
//! `continue`, comments, trim markers, all of Go's literals but complex and hexadecimal floating
//! ones, and the functions `and or not eq ne lt le gt ge index slice len print printf println
//! parseInt`. Truth, comparison, absent keys and printing are Go's. **What there is not**: `define`,
//! `template` and `block`; `html`, `js`, `urlquery` and `call`; `*`, `%[1]d`, `%p` and `%#v` in
//! formats. They are refused with a clear error, when the template is compiled where that can be.
//!
//! **Guarantees**: neither parsing nor executing panics, whatever the text and the data. Nesting,
//! variables, arguments, steps and octets are bounded (`limits.rs`); past a bound it is an error.
//! **Cost**: parsing allocates; executing does not, and takes its room from the stack.

mod execute;
mod float;
mod functions;
mod lex;
mod literal;
mod parse;
mod print;
mod tree;
mod value;

#[cfg(test)]
mod tests;

use std::fmt;

use crate::limits::TEMPLATE_SCRATCH_BYTES;
use tree::{Node, Shown, Span};

pub use print::TextBuf;
pub use value::{Fields, List, Map, Method, Slice, Value};

/// A compiled template.
pub struct Template {
    name: Box<str>,
    text: Box<str>,
    nodes: Vec<Node>,
}

/// Why a text is no template, in one line and in Go's words: `template: answer:1: unexpected EOF`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError(String);

/// Why an execution failed. Plain data; [`Template::describe`] makes a sentence of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecError {
    span: Span,
    fault: Fault,
}

/// The text does not fit into its buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// What is wrong where an execution failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The output, or the text composed on the way, exceeds its buffer.
    Full,
    /// More than `TEMPLATE_STEPS_MAX` steps.
    Steps,
    /// A type without such a field; the field is this many from the end of its chain.
    NoField {
        kind: &'static str,
        from_end: usize,
    },
    NotARange(&'static str),
    NotComparable(&'static str),
    Incompatible(&'static str, &'static str),
    ArgumentCount {
        name: &'static str,
        want: usize,
        got: usize,
    },
    ArgumentType {
        name: &'static str,
        want: &'static str,
        got: &'static str,
    },
    OutOfRange {
        name: &'static str,
        at: i64,
    },
    /// A function that has no answer for this type.
    Unfit {
        name: &'static str,
        got: &'static str,
    },
    NotANumber,
    NumberTooBig,
    Words(&'static str),
}

impl Template {
    /// Compiles `text`. `name` is what errors call the template.
    pub fn parse(name: &str, text: &str) -> Result<Template, TemplateError> {
        let nodes = parse::parse(name, text)?;
        Ok(Template { name: name.into(), text: text.into(), nodes })
    }

    /// Executes the template over `data`, appending to `out`. After an error `out` holds what was
    /// written before it.
    pub fn execute(&self, data: &dyn Fields, out: &mut TextBuf<'_>) -> Result<(), ExecError> {
        let mut scratch = [0; TEMPLATE_SCRATCH_BYTES];
        execute::execute(&self.nodes, data, &mut scratch, out)
    }

    /// The strings that stand in the template, in its order; those that are UTF-8.
    pub fn strings(&self) -> Vec<&str> {
        let mut strings = Vec::new();
        tree::strings(&self.nodes, &mut strings);
        strings
    }

    /// The sentence for an error of this template, as Go says it: `template: answer:1:3: executing
    /// "answer" at <.Grup>: can't evaluate field Grup in type …`. Allocates: not for the query path.
    pub fn describe(&self, error: &ExecError) -> String {
        let (from, to) = (error.span.from as usize, error.span.to as usize);
        let before = self.text.get(..from).unwrap_or_default();
        let place = self.text.get(from..to).unwrap_or_default();
        let line = 1 + before.matches('\n').count();
        let column = before.rfind('\n').map_or(from, |at| from - at - 1);
        let (name, mut words) = (&self.name, error.to_string());
        if let Fault::NoField { kind, from_end } = error.fault {
            let field = place.rsplit('.').nth(from_end).unwrap_or_default();
            words = format!("can't evaluate field {field} in type {kind}");
        }
        format!("template: {name}:{line}:{column}: executing {name:?} at <{place}>: {words}")
    }
}

/// Appends a float as Go's `%v` writes it.
///
/// # Errors
/// There is no room for it.
pub fn print_float(value: f64, out: &mut TextBuf<'_>) -> Result<(), Full> {
    if value < 0.0 {
        out.push(b"-")?;
    }
    float::write(out, value.abs(), 'v', None)
}

impl fmt::Display for Template {
    /// The template in Go's normal form; metrics name it so.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Shown(&self.nodes).fmt(f)
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Template({}: {self})", self.name)
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TemplateError {}

impl fmt::Display for ExecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault.fmt(f)
    }
}

impl std::error::Error for ExecError {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Fault::Full => f.write_str("output is too long"),
            Fault::Steps => f.write_str("too much work"),
            Fault::NoField { kind, .. } => write!(f, "can't evaluate field in type {kind}"),
            Fault::NotARange(kind) => write!(f, "range can't iterate over {kind}"),
            Fault::NotComparable(kind) => write!(f, "invalid type for comparison: {kind}"),
            Fault::Incompatible(a, b) => {
                write!(f, "incompatible types for comparison: {a} and {b}")
            }
            Fault::ArgumentCount { name, want, got } => {
                write!(f, "wrong number of args for {name}: want {want} got {got}")
            }
            Fault::ArgumentType { name, want, got } => {
                write!(f, "wrong type for value in {name}; expected {want}; got {got}")
            }
            Fault::OutOfRange { name, at } => {
                write!(f, "error calling {name}: index out of range: {at}")
            }
            Fault::Unfit { name, got } => {
                write!(f, "error calling {name}: can't {name} item of type {got}")
            }
            Fault::NotANumber => f.write_str("error calling parseInt: invalid syntax"),
            Fault::NumberTooBig => f.write_str("error calling parseInt: value out of range"),
            Fault::Words(words) => f.write_str(words),
        }
    }
}
