//! A compiled program: nodes in one list, each naming those below it by their numbers.

use regex::Regex;

use super::builtins::{Builtin, Loop};
use super::value::Value;
use super::{Cause, Environment, Function, Memory};

/// Number of a node.
pub(super) type Id = u16;

/// Several nodes, as a part of the list of children.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ids {
    pub(super) at: u16,
    pub(super) len: u16,
}

/// An operator with two operands that are both computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    Unequal,
    Less,
    More,
    AtMost,
    AtLeast,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Power,
    In,
    Contains,
    StartsWith,
    EndsWith,
    Range,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Node {
    /// A literal, or a list of them: it lies at the start of every run's memory.
    Value(Value),
    Variable(u16),
    /// `#`, `#index`, `#acc`.
    Item,
    ItemIndex,
    Total,
    Not(Id),
    Negate(Id),
    Number(Id),
    And(Id, Id),
    Or(Id, Id),
    Coalesce(Id, Id),
    Binary(Operator, Id, Id),
    /// Against a pattern of the program.
    Matches(Id, u16),
    Choice(Id, Id, Id),
    List(Ids),
    /// Keys and values by turns.
    Map(Ids),
    /// Of what, which; nothing may be there (`?.`).
    Member(Id, Id, bool),
    Slice(Id, Option<Id>, Option<Id>),
    Call(u16, Ids),
    Builtin(Builtin, Ids),
    /// Over a list; the predicate; where `reduce` begins.
    Loop(Loop, Id, Option<Id>, Option<Id>),
    /// Sets a variable for the expression after it.
    Let(u16, Id, Id),
    /// The last counts.
    Sequence(Id, Id),
}

/// Variables and conditions, compiled.
#[derive(Debug, Default)]
pub struct Program {
    pub(super) functions: &'static [Function],
    pub(super) nodes: Vec<Node>,
    pub(super) children: Vec<Id>,
    /// The texts of all literals.
    pub(super) text: String,
    /// The values of all lists of literals.
    pub(super) values: Vec<Value>,
    pub(super) patterns: Vec<Regex>,
    /// Names of the variables, in order.
    pub(super) names: Vec<Box<str>>,
    /// For each of them its expression.
    pub(super) definitions: Vec<Id>,
    pub(super) conditions: Vec<Id>,
    /// Variables of `let` at the same time.
    pub(super) locals: usize,
    /// The literals that are texts.
    pub(super) literals: Vec<Box<str>>,
}

impl Program {
    /// Computes the variables, then tells whether all conditions are `true`. What the variables
    /// hold stays in `memory` until the next run.
    ///
    /// # Errors
    /// Why something could not be computed.
    pub fn run(&self, environment: &dyn Environment, memory: &mut Memory) -> Result<bool, Cause> {
        memory.text.clear();
        memory.text.push_str(&self.text);
        memory.values.clear();
        memory.values.extend_from_slice(&self.values);
        memory.variables.clear();
        // Grows in the first run only.
        memory.variables.resize(self.names.len() + self.locals, Value::Nil);
        memory.steps = 0;
        let mut run = super::evaluate::Run::new(self, environment, memory);
        for (at, definition) in self.definitions.iter().enumerate() {
            let value = run.value(*definition)?;
            run.set(at, value);
        }
        for condition in &self.conditions {
            let mark = run.mark();
            if !matches!(run.value(*condition)?, Value::Bool(true)) {
                return Ok(false);
            }
            run.rewind(mark);
        }
        Ok(true)
    }

    /// Whether there is nothing to compute.
    pub fn is_empty(&self) -> bool {
        self.definitions.is_empty() && self.conditions.is_empty()
    }

    /// The number of the variable `name`.
    pub fn variable(&self, name: &[u8]) -> Option<usize> {
        self.names.iter().position(|known| known.as_bytes() == name)
    }

    /// The names of the variables, in the order in which they were declared.
    pub fn names(&self) -> &[Box<str>] {
        &self.names
    }

    /// The number of the variable that is the `at`th in the order of names.
    pub fn sorted(&self, at: usize) -> usize {
        let rank = |name: &str| self.names.iter().filter(|other| &***other < name).count();
        self.names.iter().position(|name| rank(name) == at).unwrap_or(0)
    }

    /// The literals that are texts: metadata labels are among them.
    pub fn literals(&self) -> impl Iterator<Item = &str> {
        self.literals.iter().map(|text| &**text)
    }
}
