//! A parsed template, as a tree, and its text again.
//!
//! The depth of a tree is bounded by the parser, so walking or dropping it may recurse.
//! `Display` writes it as Go prints a parsed template (one space between words, no comments, trimmed
//! text): metrics name a template so.

use std::fmt;

use super::functions::Function;

/// A piece of the template's text: octets `from..to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: u32,
    pub(super) to: u32,
}

#[derive(Debug)]
pub(super) enum Node {
    Text(Box<str>),
    Action(Pipe),
    If(Control),
    With(Control),
    Range(Control),
    Break,
    Continue,
}

/// `if`, `with` or `range`: a pipeline and what it decides about.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) pipe: Pipe,
    pub(super) body: Vec<Node>,
    pub(super) otherwise: Option<Vec<Node>>,
}

/// `$x, $y := command | command`.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) span: Span,
    /// Variables that take the value, at most two; empty for most pipelines.
    pub(super) variables: Vec<Box<str>>,
    /// `=` and not `:=`.
    pub(super) assigns: bool,
    /// At least one.
    pub(super) commands: Vec<Command>,
}

/// An operand and its arguments.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) span: Span,
    /// At least one.
    pub(super) words: Vec<Operand>,
}

#[derive(Debug)]
pub(super) struct Operand {
    pub(super) span: Span,
    pub(super) term: Term,
}

#[derive(Debug)]
pub(super) enum Term {
    Dot,
    Nil,
    Bool(bool),
    Number {
        text: Box<str>,
        number: Number,
    },
    Text {
        quoted: Box<str>,
        text: Box<[u8]>,
    },
    /// `.a.b`: at least one name.
    Field(Vec<Box<str>>),
    /// `$x.a.b`: perhaps no names.
    Variable(Box<str>, Vec<Box<str>>),
    Function(Function),
    Pipe(Box<Pipe>),
    /// `(pipeline).a.b` or `function.a.b`: at least one name.
    Chain(Box<Operand>, Vec<Box<str>>),
}

/// A number, typed by its syntax as Go's untyped constants are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Int(i64),
    Float(f64),
    /// An integer that fits only an unsigned type: an error when it is evaluated.
    TooBig,
}

/// Collects the string literals in `nodes`.
pub(super) fn strings<'t>(nodes: &'t [Node], out: &mut Vec<&'t str>) {
    for node in nodes {
        match node {
            Node::Action(pipe) => pipe.strings(out),
            Node::If(control) | Node::With(control) | Node::Range(control) => {
                control.pipe.strings(out);
                strings(&control.body, out);
                strings(control.otherwise.as_deref().unwrap_or_default(), out);
            }
            Node::Text(_) | Node::Break | Node::Continue => {}
        }
    }
}

impl Pipe {
    fn strings<'t>(&'t self, out: &mut Vec<&'t str>) {
        for word in self.commands.iter().flat_map(|command| &command.words) {
            let mut term = &word.term;
            while let Term::Chain(inner, _) = term {
                term = &inner.term;
            }
            match term {
                Term::Text { text, .. } => out.extend(std::str::from_utf8(text)),
                Term::Pipe(pipe) => pipe.strings(out),
                _ => {}
            }
        }
    }
}

pub(super) struct Shown<'t>(pub(super) &'t [Node]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|node| node.fmt(f))
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Text(text) => f.write_str(text),
            Node::Action(pipe) => write!(f, "{{{{{pipe}}}}}"),
            Node::If(control) => control.show("if", f),
            Node::With(control) => control.show("with", f),
            Node::Range(control) => control.show("range", f),
            Node::Break => f.write_str("{{break}}"),
            Node::Continue => f.write_str("{{continue}}"),
        }
    }
}

impl Control {
    fn show(&self, word: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{{{word} {}}}}}{}", self.pipe, Shown(&self.body))?;
        if let Some(nodes) = &self.otherwise {
            write!(f, "{{{{else}}}}{}", Shown(nodes))?;
        }
        f.write_str("{{end}}")
    }
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.variables.is_empty() {
            f.write_str(&self.variables.join(", "))?;
            f.write_str(if self.assigns { " = " } else { " := " })?;
        }
        for (i, command) in self.commands.iter().enumerate() {
            f.write_str(if i > 0 { " | " } else { "" })?;
            for (j, word) in command.words.iter().enumerate() {
                f.write_str(if j > 0 { " " } else { "" })?;
                word.fmt(f)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |f: &mut fmt::Formatter<'_>, names: &[Box<str>]| {
            names.iter().try_for_each(|name| write!(f, ".{name}"))
        };
        match &self.term {
            Term::Dot => f.write_str("."),
            Term::Nil => f.write_str("nil"),
            Term::Bool(value) => write!(f, "{value}"),
            Term::Number { text, .. } => f.write_str(text),
            Term::Text { quoted, .. } => f.write_str(quoted),
            Term::Field(path) => names(f, path),
            Term::Variable(name, path) => {
                f.write_str(name)?;
                names(f, path)
            }
            Term::Function(function) => f.write_str(function.name()),
            Term::Pipe(pipe) => write!(f, "({pipe})"),
            Term::Chain(operand, path) => {
                operand.fmt(f)?;
                names(f, path)
            }
        }
    }
}
