//! What stands after an operand, and whether operands fit their operator.

use super::{Binding, Error, Id, Kind, Node, Operator, Parser, Value, Word, regexp};
use crate::limits::EXPRESSION_PATTERNS_MAX;

impl Parser<'_> {
    /// `.name`, `?.name`, `[index]`, `[from:to]`.
    pub(super) fn postfix(&mut self, id: Id) -> Result<Id, Error> {
        let mut id = id;
        // Once one link of a chain may be nothing, so may those after it.
        let mut optional = false;
        loop {
            let at = self.at;
            match self.sign() {
                "." | "?." => {
                    optional |= self.sign() == "?.";
                    self.next();
                    if optional && self.sign() == "[" {
                        id = self.bracket(id, optional)?;
                        continue;
                    }
                    let name = match self.word() {
                        Word::Name(name) => name.clone(),
                        Word::Sign(sign) if sign.starts_with(char::is_alphabetic) => {
                            (*sign).to_owned()
                        }
                        _ => return Err(self.error(self.at, "expected name")),
                    };
                    self.next();
                    if !self.kind(id).may_be(Kind::Map) {
                        let kind = self.kind(id).name();
                        let why = format!("type {kind} has no field {name}");
                        return Err(self.error(at, why));
                    }
                    let key = self.text(at, &name)?;
                    id = self.add(at, Node::Member(id, key, optional), Kind::Any, &[id, key])?;
                }
                "[" => id = self.bracket(id, optional)?,
                _ => return Ok(id),
            }
        }
    }

    fn bracket(&mut self, of: Id, optional: bool) -> Result<Id, Error> {
        let at = self.at;
        self.next();
        let from = if self.sign() == ":" { None } else { Some(self.expression(0)?) };
        let kind = self.kind(of);
        if self.accept(":") {
            let to = if self.sign() == "]" { None } else { Some(self.expression(0)?) };
            self.expect("]")?;
            if !matches!(kind, Kind::Any | Kind::List | Kind::Text) {
                return Err(self.error(at, format!("cannot slice {}", kind.name())));
            }
            for end in [from, to].into_iter().flatten() {
                if !self.kind(end).may_be(Kind::Int) {
                    let kind = self.kind(end).name();
                    return Err(self.error(at, format!("non-integer slice index {kind}")));
                }
            }
            let below: Vec<Id> = [Some(of), from, to].into_iter().flatten().collect();
            return self.add(at, Node::Slice(of, from, to), kind, &below);
        }
        self.expect("]")?;
        let Some(which) = from else { return Err(self.unexpected()) };
        let fits = match kind {
            Kind::List | Kind::Text => self.kind(which).may_be(Kind::Int),
            Kind::Any | Kind::Map => true,
            _ => false,
        };
        if !fits {
            let (kind, which) = (kind.name(), self.kind(which).name());
            return Err(self.error(at, format!("type {kind} cannot be indexed by {which}")));
        }
        let gives = if kind == Kind::Text { Kind::Text } else { Kind::Any };
        self.add(at, Node::Member(of, which, optional), gives, &[of, which])
    }

    /// Two operands under their operator, told at word `at`.
    pub(super) fn bind(
        &mut self,
        at: usize,
        binding: &Binding,
        left: Id,
        right: Id,
    ) -> Result<Id, Error> {
        let (one, other) = (self.kind(left), self.kind(right));
        let both = |kind: Kind| one.may_be(kind) && other.may_be(kind);
        let (node, gives) = match binding {
            Binding::And => (Node::And(left, right), both(Kind::Bool).then_some(Kind::Bool)),
            Binding::Or => (Node::Or(left, right), both(Kind::Bool).then_some(Kind::Bool)),
            Binding::Coalesce => {
                let gives = if one == other { one } else { Kind::Any };
                (Node::Coalesce(left, right), Some(gives))
            }
            Binding::Matches => {
                let pattern = self.pattern(at, right)?;
                (Node::Matches(left, pattern), both(Kind::Text).then_some(Kind::Bool))
            }
            Binding::Operator(operator) => {
                (Node::Binary(*operator, left, right), gives(*operator, one, other))
            }
            Binding::Pipe => return Err(self.unexpected()),
        };
        let Some(gives) = gives else {
            let sign = match &self.words[at].0 {
                Word::Sign(sign) => *sign,
                _ => "",
            };
            let (one, other) = (one.name(), other.name());
            let why = format!("invalid operation: {sign} (mismatched types {one} and {other})");
            return Err(self.error(at, why));
        };
        self.add(at, node, gives, &[left, right])
    }

    /// The pattern of `matches`, which has to be a literal.
    fn pattern(&mut self, at: usize, id: Id) -> Result<u16, Error> {
        let program = &self.draft.program;
        let Node::Value(Value::Text(place)) = program.nodes[id as usize] else {
            return Err(self.error(at, "the pattern of matches has to be a string literal"));
        };
        if program.patterns.len() == EXPRESSION_PATTERNS_MAX {
            return Err(self.error(at, "too many patterns"));
        }
        let text = &program.text[place.range()];
        let pattern = regexp::compile(text).map_err(|why| self.error(at, why))?;
        self.draft.program.patterns.push(pattern);
        Ok((self.draft.program.patterns.len() - 1) as u16)
    }
}

/// What an operator gives for operands of these kinds; nothing where they do not fit.
fn gives(operator: Operator, one: Kind, other: Kind) -> Option<Kind> {
    use Operator as O;
    let both = |kind: Kind| one.may_be(kind) && other.may_be(kind);
    let numbers = one.may_count() && other.may_count();
    let is_any = one == Kind::Any || other == Kind::Any;
    let number = match (one, other) {
        (Kind::Int, Kind::Int) => Kind::Int,
        _ if is_any => Kind::Any,
        _ => Kind::Float,
    };
    match operator {
        O::Equal | O::Unequal => {
            let is_nil = one == Kind::Nil || other == Kind::Nil;
            (numbers || is_nil || one.may_be(other)).then_some(Kind::Bool)
        }
        O::Less | O::More | O::AtMost | O::AtLeast => {
            (numbers || both(Kind::Text)).then_some(Kind::Bool)
        }
        O::Add if both(Kind::Text) => Some(if is_any { Kind::Any } else { Kind::Text }),
        O::Add | O::Subtract | O::Multiply => numbers.then_some(number),
        O::Divide | O::Power => numbers.then_some(Kind::Float),
        O::Remainder => both(Kind::Int).then_some(Kind::Int),
        O::In => matches!(other, Kind::Any | Kind::List | Kind::Map).then_some(Kind::Bool),
        O::Contains | O::StartsWith | O::EndsWith => both(Kind::Text).then_some(Kind::Bool),
        O::Range => both(Kind::Int).then_some(Kind::List),
    }
}
