//! Runs: the tree walked, values computed in the memory.

use super::builtins::{self, Builtin, Loop, float};
use super::tree::{Id, Ids, Node, Operator, Program};
use super::value::{Mark, Memory, Place, Value};
use super::{Cause, Environment};

/// Arguments of one call.
const ARGUMENTS_MAX: usize = 32;

/// A run of a program.
pub(super) struct Run<'r> {
    program: &'r Program,
    environment: &'r dyn Environment,
    memory: &'r mut Memory,
    /// `#`, `#index` and `#acc` of the innermost predicate.
    item: Value,
    index: i64,
    total: Value,
}

impl<'r> Run<'r> {
    pub(super) fn new(
        program: &'r Program,
        environment: &'r dyn Environment,
        memory: &'r mut Memory,
    ) -> Self {
        Self { program, environment, memory, item: Value::Nil, index: 0, total: Value::Nil }
    }

    pub(super) fn set(&mut self, variable: usize, value: Value) {
        if let Some(slot) = self.memory.variables.get_mut(variable) {
            *slot = value;
        }
    }

    pub(super) fn mark(&self) -> Mark {
        self.memory.mark()
    }

    pub(super) fn rewind(&mut self, mark: Mark) {
        self.memory.rewind(mark);
    }

    /// Computes a node.
    pub(super) fn value(&mut self, id: Id) -> Result<Value, Cause> {
        self.memory.step()?;
        Ok(match self.program.nodes[id as usize] {
            Node::Value(value) => value,
            Node::Variable(slot) => self.memory.variable(slot as usize),
            Node::Item => self.item,
            Node::ItemIndex => Value::Int(self.index),
            Node::Total => self.total,
            Node::Not(of) => Value::Bool(!self.truth(of)?),
            Node::Negate(of) => match self.value(of)? {
                Value::Int(value) => Value::Int(value.wrapping_neg()),
                Value::Float(value) => Value::Float(-value),
                _ => return Err(Cause::Kind),
            },
            Node::Number(of) => match self.value(of)? {
                value @ (Value::Int(_) | Value::Float(_)) => value,
                _ => return Err(Cause::Kind),
            },
            Node::And(one, other) => Value::Bool(self.truth(one)? && self.truth(other)?),
            Node::Or(one, other) => Value::Bool(self.truth(one)? || self.truth(other)?),
            Node::Coalesce(one, other) => match self.value(one)? {
                Value::Nil => self.value(other)?,
                value => value,
            },
            Node::Binary(operator, one, other) => self.binary(operator, one, other)?,
            Node::Matches(of, pattern) => {
                let Value::Text(text) = self.value(of)? else { return Err(Cause::Kind) };
                let pattern = &self.program.patterns[pattern as usize];
                Value::Bool(pattern.is_match(self.memory.text(text)))
            }
            Node::Choice(condition, yes, no) => {
                let chosen = if self.truth(condition)? { yes } else { no };
                self.value(chosen)?
            }
            Node::List(ids) => Value::List(self.list(ids)?),
            Node::Map(ids) => Value::Map(self.list(ids)?),
            Node::Member(of, which, optional) => {
                let of = self.value(of)?;
                if optional && matches!(of, Value::Nil) {
                    return Ok(Value::Nil);
                }
                let which = self.value(which)?;
                self.member(of, which)?
            }
            Node::Slice(of, from, to) => self.slice(of, from, to)?,
            Node::Call(function, ids) => self.call(function, ids)?,
            Node::Builtin(builtin, ids) => self.builtin(builtin, ids)?,
            Node::Loop(kind, list, body, start) => self.repeat(kind, list, body, start)?,
            Node::Let(slot, value, body) => {
                let value = self.value(value)?;
                self.set(slot as usize, value);
                self.value(body)?
            }
            Node::Sequence(first, rest) => {
                self.value(first)?;
                self.value(rest)?
            }
        })
    }

    fn truth(&mut self, id: Id) -> Result<bool, Cause> {
        match self.value(id)? {
            Value::Bool(value) => Ok(value),
            _ => Err(Cause::Kind),
        }
    }

    fn children(&self, ids: Ids) -> &'r [Id] {
        &self.program.children[ids.at as usize..][..ids.len as usize]
    }

    /// Room for so many values that stand one after the other.
    fn room(&mut self, len: usize) -> Result<Place, Cause> {
        let at = self.memory.values.len();
        for _ in 0..len {
            self.memory.push(Value::Nil)?;
        }
        Ok(self.memory.list_from(at))
    }

    fn list(&mut self, ids: Ids) -> Result<Place, Cause> {
        let place = self.room(ids.len as usize)?;
        for (at, child) in place.range().zip(self.children(ids)) {
            self.memory.values[at] = self.value(*child)?;
        }
        Ok(place)
    }

    #[inline(never)]
    fn call(&mut self, function: u16, ids: Ids) -> Result<Value, Cause> {
        let mut arguments = [Value::Nil; ARGUMENTS_MAX];
        let takes = self.program.functions[function as usize].takes;
        for ((slot, child), kind) in arguments.iter_mut().zip(self.children(ids)).zip(takes) {
            *slot = self.value(*child)?;
            if !slot.kind().may_be(*kind) {
                return Err(Cause::Kind);
            }
        }
        let arguments = &arguments[..ids.len as usize];
        self.environment.call(function as usize, arguments, self.memory)
    }

    #[inline(never)]
    fn builtin(&mut self, builtin: Builtin, ids: Ids) -> Result<Value, Cause> {
        let mut arguments = [Value::Nil; ARGUMENTS_MAX];
        for (slot, child) in arguments.iter_mut().zip(self.children(ids)) {
            *slot = self.value(*child)?;
        }
        match (builtin, arguments) {
            (Builtin::Get, [of, which, ..]) => match self.member(of, which) {
                Err(Cause::Index | Cause::Kind) => Ok(Value::Nil),
                found => found,
            },
            _ => builtins::call(builtin, &arguments[..ids.len as usize], self.memory),
        }
    }

    fn member(&mut self, of: Value, which: Value) -> Result<Value, Cause> {
        match (of, which) {
            (Value::List(list), Value::Int(at)) => {
                let at = place_of(at, list.len).ok_or(Cause::Index)?;
                self.memory.list(list).get(at).copied().ok_or(Cause::Index)
            }
            (Value::Text(text), Value::Int(at)) => {
                let at = place_of(at, text.len).ok_or(Cause::Index)?;
                self.memory.part(text, at, at + 1)
            }
            (Value::Map(map), key) => {
                for at in map.range().step_by(2) {
                    let known = self.memory.values[at];
                    if self.memory.equal(known, key)? {
                        return Ok(self.memory.values[at + 1]);
                    }
                }
                Ok(Value::Nil)
            }
            _ => Err(Cause::Kind),
        }
    }

    fn slice(&mut self, of: Id, from: Option<Id>, to: Option<Id>) -> Result<Value, Cause> {
        let of = self.value(of)?;
        let (Value::List(place) | Value::Text(place)) = of else { return Err(Cause::Kind) };
        let mut end = |id: Option<Id>, usual: u32| match id {
            None => Ok(usual as usize),
            Some(id) => match self.value(id)? {
                // What lies beyond the ends is the ends.
                Value::Int(at) if at < 0 => Ok((at + i64::from(place.len)).max(0) as usize),
                Value::Int(at) => Ok(at.min(place.len.into()) as usize),
                _ => Err(Cause::Kind),
            },
        };
        let (from, to) = (end(from, 0)?, end(to, place.len)?);
        let from = from.min(to);
        Ok(match of {
            Value::Text(text) => self.memory.part(text, from, to)?,
            _ => Value::List(Place { at: place.at + from as u32, len: (to - from) as u32 }),
        })
    }

    fn binary(&mut self, operator: Operator, one: Id, other: Id) -> Result<Value, Cause> {
        use Operator as O;
        let one = self.value(one)?;
        if let (O::In, Node::Binary(O::Range, from, to), Value::Int(one)) =
            (operator, self.program.nodes[other as usize], one)
        {
            // Without the list.
            let (from, to) = (self.value(from)?, self.value(to)?);
            let (Value::Int(from), Value::Int(to)) = (from, to) else { return Err(Cause::Kind) };
            return Ok(Value::Bool((from..=to).contains(&one)));
        }
        let other = self.value(other)?;
        Ok(match (operator, one, other) {
            (O::Equal, ..) => Value::Bool(self.memory.equal(one, other)?),
            (O::Unequal, ..) => Value::Bool(!self.memory.equal(one, other)?),
            (O::In, _, Value::List(list)) => {
                let mut found = false;
                for at in list.range() {
                    let item = self.memory.values[at];
                    found = self.memory.equal(one, item)?;
                    if found {
                        break;
                    }
                }
                Value::Bool(found)
            }
            (O::In, _, Value::Map(map)) => {
                let mut found = false;
                for at in map.range().step_by(2) {
                    let key = self.memory.values[at];
                    found |= self.memory.equal(one, key)?;
                }
                Value::Bool(found)
            }
            (O::Range, Value::Int(from), Value::Int(to)) => {
                let at = self.memory.values.len();
                for value in from..=to {
                    self.memory.step()?;
                    self.memory.push(Value::Int(value))?;
                }
                Value::List(self.memory.list_from(at))
            }
            (_, Value::Text(one), Value::Text(other)) => self.texts(operator, one, other)?,
            (_, Value::Int(one), Value::Int(other)) => integers(operator, one, other)?,
            _ => floats(operator, float(one)?, float(other)?)?,
        })
    }

    fn texts(&mut self, operator: Operator, one: Place, other: Place) -> Result<Value, Cause> {
        use Operator as O;
        if operator == O::Add {
            let both = [Value::Text(one), Value::Text(other)];
            let from = self.memory.values.len();
            both.into_iter().try_for_each(|part| self.memory.push(part))?;
            let list = self.memory.list_from(from);
            return builtins::call(Builtin::Join, &[Value::List(list)], self.memory);
        }
        let (one, other) = (self.memory.text(one), self.memory.text(other));
        Ok(Value::Bool(match operator {
            O::Contains => one.contains(other),
            O::StartsWith => one.starts_with(other),
            O::EndsWith => one.ends_with(other),
            O::Less => one < other,
            O::More => one > other,
            O::AtMost => one <= other,
            O::AtLeast => one >= other,
            _ => return Err(Cause::Kind),
        }))
    }

    /// Goes through a list with a predicate.
    fn repeat(
        &mut self,
        kind: Loop,
        list: Id,
        body: Option<Id>,
        start: Option<Id>,
    ) -> Result<Value, Cause> {
        let Value::List(list) = self.value(list)? else { return Err(Cause::Kind) };
        let outer = (self.item, self.index, self.total);
        let start = start.map(|start| self.value(start)).transpose()?;
        let made = match kind {
            Loop::Filter | Loop::Map => self.room(list.len as usize)?,
            _ => Place::default(),
        };
        let mut round = Round { kind, made, kept: 0, sum: Value::Int(0), found: None };
        self.total = start.unwrap_or(Value::Nil);
        let is_last = matches!(kind, Loop::FindLast | Loop::FindLastIndex);
        for count in 0..list.len as usize {
            let at = if is_last { list.len as usize - 1 - count } else { count };
            (self.item, self.index) = (self.memory.list(list)[at], at as i64);
            if kind == Loop::Reduce && start.is_none() && at == 0 {
                self.total = self.item;
                continue;
            }
            let mark = self.memory.mark();
            let value = body.map_or(Ok(self.item), |body| self.value(body))?;
            if !matches!(kind, Loop::Map | Loop::Reduce) {
                self.memory.rewind(mark);
            }
            if self.take(&mut round, value)? {
                break;
            }
        }
        let result = round.result(self.total, list);
        (self.item, self.index, self.total) = outer;
        result
    }

    /// Takes what the predicate says of an item; `true`: that is enough.
    fn take(&mut self, round: &mut Round, value: Value) -> Result<bool, Cause> {
        let truth = match value {
            Value::Bool(truth) => Ok(truth),
            _ => Err(Cause::Kind),
        };
        match round.kind {
            Loop::Map => {
                self.memory.values[round.made.range()][round.kept] = value;
                round.kept += 1;
            }
            Loop::Filter => {
                if truth? {
                    self.memory.values[round.made.range()][round.kept] = self.item;
                    round.kept += 1;
                }
            }
            Loop::Count | Loop::One => round.kept += usize::from(truth?),
            Loop::Sum => {
                round.sum = match (round.sum, value) {
                    (Value::Int(sum), Value::Int(value)) => Value::Int(sum.wrapping_add(value)),
                    (sum, value) => Value::Float(float(sum)? + float(value)?),
                };
            }
            Loop::Reduce => self.total = value,
            Loop::All => {
                if !truth? {
                    round.found = Some((self.item, self.index));
                }
            }
            _ => {
                if truth? {
                    round.found = Some((self.item, self.index));
                }
            }
        }
        Ok(round.found.is_some())
    }
}

/// What a predicate has said so far.
struct Round {
    kind: Loop,
    /// Room for the list that is made.
    made: Place,
    kept: usize,
    sum: Value,
    /// What ended it.
    found: Option<(Value, i64)>,
}

impl Round {
    fn result(&self, total: Value, list: Place) -> Result<Value, Cause> {
        Ok(match self.kind {
            Loop::Filter | Loop::Map => Value::List(Place { len: self.kept as u32, ..self.made }),
            Loop::Count => Value::Int(self.kept as i64),
            Loop::One => Value::Bool(self.kept == 1),
            Loop::Sum => self.sum,
            Loop::Reduce if list.len == 0 && matches!(total, Value::Nil) => {
                return Err(Cause::Index);
            }
            Loop::Reduce => total,
            Loop::All | Loop::None => Value::Bool(self.found.is_none()),
            Loop::Any => Value::Bool(self.found.is_some()),
            Loop::Find | Loop::FindLast => self.found.map_or(Value::Nil, |(item, _)| item),
            Loop::FindIndex | Loop::FindLastIndex => {
                self.found.map_or(Value::Nil, |(_, at)| Value::Int(at))
            }
        })
    }
}

/// Index `at` of `len`, counted from the end where it is negative.
fn place_of(at: i64, len: u32) -> Option<usize> {
    let at = if at < 0 { at + i64::from(len) } else { at };
    usize::try_from(at).ok().filter(|at| *at < len as usize)
}

fn integers(operator: Operator, one: i64, other: i64) -> Result<Value, Cause> {
    use Operator as O;
    Ok(match operator {
        O::Less => Value::Bool(one < other),
        O::More => Value::Bool(one > other),
        O::AtMost => Value::Bool(one <= other),
        O::AtLeast => Value::Bool(one >= other),
        O::Add => Value::Int(one.wrapping_add(other)),
        O::Subtract => Value::Int(one.wrapping_sub(other)),
        O::Multiply => Value::Int(one.wrapping_mul(other)),
        O::Remainder if other == 0 => return Err(Cause::Zero),
        O::Remainder => Value::Int(one.wrapping_rem(other)),
        _ => floats(operator, one as f64, other as f64)?,
    })
}

fn floats(operator: Operator, one: f64, other: f64) -> Result<Value, Cause> {
    use Operator as O;
    Ok(match operator {
        O::Less => Value::Bool(one < other),
        O::More => Value::Bool(one > other),
        O::AtMost => Value::Bool(one <= other),
        O::AtLeast => Value::Bool(one >= other),
        O::Add => Value::Float(one + other),
        O::Subtract => Value::Float(one - other),
        O::Multiply => Value::Float(one * other),
        O::Divide => Value::Float(one / other),
        O::Power => Value::Float(one.powf(other)),
        _ => return Err(Cause::Kind),
    })
}
