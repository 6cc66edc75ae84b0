//! Executes a tree into a fixed buffer.
//!
//! The interpreter recurses as deep as the tree is, which the parser bounds. Work is bounded in
//! steps (nodes, commands, arguments, rounds of a `range`); composed text in octets. No allocation.

use super::functions::{self, Function};
use super::print::{self, FormatFault, TextBuf};
use super::tree::{Command, Control, Node, Number, Operand, Pipe, Span, Term};
use super::value::{Fields, Value};
use super::{ExecError, Fault, Full};
use crate::limits::{TEMPLATE_ARGUMENTS_MAX, TEMPLATE_STEPS_MAX, TEMPLATE_VARIABLES_MAX};

type Done<T> = Result<T, ExecError>;

/// What a list of nodes ended with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

/// One execution: variables, room for composed text, and what is left to do.
pub(super) struct Execution<'a, 'o, 'b> {
    /// `$` first, the latest last; `depth` of them are in use.
    variables: [(&'a str, Value<'a>); TEMPLATE_VARIABLES_MAX],
    depth: usize,
    /// What is left of the memory for composed text (`printf`, methods).
    scratch: &'a mut [u8],
    out: &'o mut TextBuf<'b>,
    steps: u32,
}

/// Room for the arguments of one call, and for the value from the stage before.
struct Arguments<'a> {
    values: [Value<'a>; TEMPLATE_ARGUMENTS_MAX + 1],
    count: usize,
}

impl<'a> Arguments<'a> {
    fn as_slice(&self) -> &[Value<'a>] {
        &self.values[..self.count]
    }

    fn push(&mut self, value: Value<'a>) {
        self.values[self.count] = value;
        self.count += 1;
    }
}

/// Executes `nodes` over `data`, appending to `out`.
pub(super) fn execute<'a>(
    nodes: &'a [Node],
    data: &'a dyn Fields,
    scratch: &'a mut [u8],
    out: &mut TextBuf<'_>,
) -> Result<(), ExecError> {
    let dot = Value::Object(data);
    let mut variables = [("", Value::Nil); TEMPLATE_VARIABLES_MAX];
    variables[0] = ("$", dot);
    let mut execution = Execution { variables, depth: 1, scratch, out, steps: TEMPLATE_STEPS_MAX };
    execution.list(dot, nodes).map(|_| ())
}

impl<'a> Execution<'a, '_, '_> {
    fn step(&mut self, span: Span) -> Done<()> {
        self.steps = self.steps.checked_sub(1).ok_or(ExecError { span, fault: Fault::Steps })?;
        Ok(())
    }

    fn list(&mut self, dot: Value<'a>, nodes: &'a [Node]) -> Done<Flow> {
        for node in nodes {
            let flow = match node {
                Node::Text(text) => {
                    self.step(Span { from: 0, to: 0 })?;
                    self.write(Span { from: 0, to: 0 }, |out| out.push(text.as_bytes()))?;
                    Flow::Next
                }
                Node::Action(pipe) => {
                    let value = self.pipe(dot, pipe)?;
                    if pipe.variables.is_empty() {
                        self.write(pipe.span, |out| match value {
                            Value::Nil => out.push(b"<no value>"),
                            value => print::print(out, &[value]),
                        })?;
                    }
                    Flow::Next
                }
                Node::If(control) => self.choose(dot, control, false)?,
                Node::With(control) => self.choose(dot, control, true)?,
                Node::Range(control) => {
                    let mark = self.depth;
                    let flow = self.range(dot, control)?;
                    self.depth = mark;
                    flow
                }
                Node::Break => Flow::Break,
                Node::Continue => Flow::Continue,
            };
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn write(
        &mut self,
        span: Span,
        write: impl FnOnce(&mut TextBuf<'_>) -> Result<(), Full>,
    ) -> Done<()> {
        write(self.out).map_err(|Full| ExecError { span, fault: Fault::Full })
    }

    /// `if` and `with`; the latter makes the value the dot of its body.
    fn choose(&mut self, dot: Value<'a>, control: &'a Control, binds: bool) -> Done<Flow> {
        let mark = self.depth;
        let value = self.pipe(dot, &control.pipe)?;
        let flow = match &control.otherwise {
            _ if value.is_true() => self.list(if binds { value } else { dot }, &control.body)?,
            Some(nodes) => self.list(dot, nodes)?,
            None => Flow::Next,
        };
        self.depth = mark;
        Ok(flow)
    }

    fn range(&mut self, dot: Value<'a>, control: &'a Control) -> Done<Flow> {
        let value = self.pipe(dot, &control.pipe)?;
        let pipe = &control.pipe;
        let refuse = |fault| Err(ExecError { span: pipe.span, fault });
        let rounds = match value {
            Value::Nil => 0,
            Value::Int(_) | Value::Uint(_) if pipe.variables.len() > 1 => {
                return refuse(Fault::Words("can't use a number to iterate over two variables"));
            }
            Value::Int(count) => u64::try_from(count).unwrap_or(0),
            Value::Uint(count) => count,
            Value::List(list) => list.len() as u64,
            Value::Map(map) => map.len() as u64,
            other => return refuse(Fault::NotARange(other.type_name())),
        };
        if rounds == 0 {
            return match &control.otherwise {
                Some(nodes) => self.list(dot, nodes),
                None => Ok(Flow::Next),
            };
        }
        let mark = self.depth;
        for round in 0..rounds {
            self.step(pipe.span)?;
            let at = round as usize;
            let (key, item) = match value {
                Value::List(list) => (Value::Int(round as i64), list.get(at).unwrap_or(Value::Nil)),
                Value::Map(map) => {
                    let (key, item) = map.entry(at);
                    (Value::Text(key), item)
                }
                Value::Uint(_) => (Value::Nil, Value::Uint(round)),
                _ => (Value::Nil, Value::Int(round as i64)),
            };
            self.bind(pipe, key, item)?;
            let flow = self.list(item, &control.body)?;
            self.depth = mark;
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::Next)
    }

    /// Gives a round's key and value to the variables of its `range`; one variable takes the value.
    fn bind(&mut self, pipe: &'a Pipe, key: Value<'a>, item: Value<'a>) -> Done<()> {
        let values = [key, item];
        let skipped = values.len() - pipe.variables.len().min(values.len());
        for (i, name) in pipe.variables.iter().enumerate() {
            let value = values[(i + skipped).min(1)];
            if pipe.assigns {
                self.assign(pipe.span, name, value)?;
            } else {
                // The pipeline declared them, last of all.
                let top = self.depth - pipe.variables.len();
                self.variables[top + i].1 = value;
            }
        }
        Ok(())
    }

    fn assign(&mut self, span: Span, name: &str, value: Value<'a>) -> Done<()> {
        match self.variables[..self.depth].iter_mut().rev().find(|(known, _)| *known == name) {
            Some(variable) => {
                variable.1 = value;
                Ok(())
            }
            None => Err(ExecError { span, fault: Fault::Words("undefined variable") }),
        }
    }

    fn pipe(&mut self, dot: Value<'a>, pipe: &'a Pipe) -> Done<Value<'a>> {
        let mut value = None;
        for command in &pipe.commands {
            self.step(command.span)?;
            value = Some(self.command(dot, command, value)?);
        }
        let value = value.unwrap_or(Value::Nil);
        for name in &pipe.variables {
            if pipe.assigns {
                self.assign(pipe.span, name, value)?;
            } else {
                // The parser has counted the declarations; none is repeated within its scope.
                let room = ExecError { span: pipe.span, fault: Fault::Words("too many variables") };
                *self.variables.get_mut(self.depth).ok_or(room)? = (name, value);
                self.depth += 1;
            }
        }
        Ok(value)
    }

    /// `last` is the value from the stage before: one more argument.
    fn command(
        &mut self,
        dot: Value<'a>,
        command: &'a Command,
        last: Option<Value<'a>>,
    ) -> Done<Value<'a>> {
        let (first, arguments) = (&command.words[0], &command.words[1..]);
        let call = Call { span: command.span, dot, arguments, last };
        match &first.term {
            Term::Function(function) => self.call(*function, call),
            Term::Field(path) => self.fields(dot, path, Call { span: first.span, ..call }),
            Term::Variable(name, path) if !path.is_empty() => {
                let value = self.variable(first.span, name)?;
                self.fields(value, path, Call { span: first.span, ..call })
            }
            Term::Chain(operand, path) => {
                let value = self.operand(dot, operand)?;
                self.fields(value, path, Call { span: first.span, ..call })
            }
            _ if !call.is_empty() => {
                let fault = Fault::Words("can't give argument to non-function");
                Err(ExecError { span: first.span, fault })
            }
            Term::Nil => {
                Err(ExecError { span: first.span, fault: Fault::Words("nil is not a command") })
            }
            _ => self.operand(dot, first),
        }
    }

    /// An operand by itself: an argument, or a command without any.
    fn operand(&mut self, dot: Value<'a>, operand: &'a Operand) -> Done<Value<'a>> {
        self.step(operand.span)?;
        let call = Call { span: operand.span, dot, arguments: &[], last: None };
        match &operand.term {
            Term::Dot => Ok(dot),
            Term::Nil => Ok(Value::Nil),
            Term::Bool(value) => Ok(Value::Bool(*value)),
            Term::Number { number, .. } => match *number {
                Number::Int(value) => Ok(Value::Int(value)),
                Number::Float(value) => Ok(Value::Float(value)),
                Number::TooBig => {
                    let fault = Fault::Words("number overflows int");
                    Err(ExecError { span: operand.span, fault })
                }
            },
            Term::Text { text, .. } => Ok(Value::Text(text)),
            Term::Field(path) => self.fields(dot, path, call),
            Term::Variable(name, path) => {
                let value = self.variable(operand.span, name)?;
                self.fields(value, path, call)
            }
            Term::Function(function) => self.call(*function, call),
            Term::Pipe(pipe) => self.pipe(dot, pipe),
            Term::Chain(inner, path) => {
                let value = self.operand(dot, inner)?;
                self.fields(value, path, call)
            }
        }
    }

    fn variable(&self, span: Span, name: &str) -> Done<Value<'a>> {
        let found = self.variables[..self.depth].iter().rev().find(|(known, _)| *known == name);
        let fault = Fault::Words("undefined variable");
        found.map(|(_, value)| *value).ok_or(ExecError { span, fault })
    }

    /// Walks `.a.b.c` from `value`; the arguments are the last field's.
    fn fields(
        &mut self,
        value: Value<'a>,
        path: &'a [Box<str>],
        call: Call<'a>,
    ) -> Done<Value<'a>> {
        let mut value = value;
        for (i, name) in path.iter().enumerate() {
            let call = if i + 1 == path.len() { call } else { call.without_arguments() };
            let from_end = path.len() - 1 - i;
            value = self.field(value, name, from_end, call)?;
        }
        Ok(value)
    }

    fn field(
        &mut self,
        value: Value<'a>,
        name: &'a str,
        from_end: usize,
        call: Call<'a>,
    ) -> Done<Value<'a>> {
        let refuse = |fault| Err(ExecError { span: call.span, fault });
        let field = match value {
            // What a map does not hold has no fields either, and no fault.
            Value::Nil => return Ok(Value::Nil),
            Value::Object(object) => object.field(name),
            Value::Map(map) => Some(map.get(name.as_bytes()).unwrap_or(Value::Nil)),
            _ => None,
        };
        match field {
            Some(Value::Method(method)) => {
                let arguments = self.arguments(call)?;
                match arguments.as_slice() {
                    [Value::Text(argument)] => {
                        let argument = *argument;
                        self.compose(call.span, |out| Ok(method.call(argument, out)?))
                    }
                    [other] => refuse(Fault::ArgumentType {
                        name: "method",
                        want: "string",
                        got: other.type_name(),
                    }),
                    others => {
                        let got = others.len();
                        refuse(Fault::ArgumentCount { name: "method", want: 1, got })
                    }
                }
            }
            Some(_) if !call.is_empty() => {
                refuse(Fault::Words("has arguments but cannot be invoked as function"))
            }
            Some(field) => Ok(field),
            None => refuse(Fault::NoField { kind: value.type_name(), from_end }),
        }
    }

    fn arguments(&mut self, call: Call<'a>) -> Done<Arguments<'a>> {
        let values = [Value::Nil; TEMPLATE_ARGUMENTS_MAX + 1];
        let mut arguments = Arguments { values, count: 0 };
        for operand in call.arguments {
            let value = self.operand(call.dot, operand)?;
            arguments.push(value);
        }
        if let Some(last) = call.last {
            arguments.push(last);
        }
        Ok(arguments)
    }

    fn call(&mut self, function: Function, call: Call<'a>) -> Done<Value<'a>> {
        let fail = |fault| ExecError { span: call.span, fault };
        let count = call.arguments.len() + usize::from(call.last.is_some());
        function.accepts(count).map_err(fail)?;
        if matches!(function, Function::And | Function::Or) {
            return self.and_or(function == Function::Or, call);
        }
        let arguments = self.arguments(call)?;
        let arguments = arguments.as_slice();
        let value = match (function, arguments) {
            (Function::Print, _) => {
                return self.compose(call.span, |out| Ok(print::print(out, arguments)?));
            }
            (Function::Println, _) => {
                return self.compose(call.span, |out| Ok(print::println(out, arguments)?));
            }
            (Function::Printf, [Value::Text(format), values @ ..]) => {
                return self.compose(call.span, |out| print::printf(out, format, values));
            }
            (Function::Printf, [format, ..]) => {
                Err(Fault::ArgumentType { name: "printf", want: "string", got: format.type_name() })
            }
            (Function::Eq, [a, others @ ..]) => functions::equals(a, others).map(Value::Bool),
            (Function::Ne, [a, b]) => {
                functions::equals(a, std::slice::from_ref(b)).map(|equal| Value::Bool(!equal))
            }
            (Function::Lt, [a, b]) => functions::less(a, b).map(Value::Bool),
            (Function::Le, [a, b]) => functions::less_or_equal(a, b).map(Value::Bool),
            (Function::Gt, [a, b]) => {
                functions::less_or_equal(a, b).map(|within| Value::Bool(!within))
            }
            (Function::Ge, [a, b]) => functions::less(a, b).map(|less| Value::Bool(!less)),
            (Function::Not, [a]) => Ok(Value::Bool(!a.is_true())),
            (Function::Index, [item, places @ ..]) => functions::index(*item, places),
            (Function::Slice, [item, places @ ..]) => functions::slice(*item, places),
            (Function::Len, [item]) => functions::length(item).map(|len| Value::Int(len as i64)),
            (Function::ParseInt, _) => functions::parse_int(arguments).map(Value::Uint),
            // `accepts` and the early return above leave nothing else.
            _ => Err(Fault::Words("wrong number of arguments")),
        };
        value.map_err(fail)
    }

    /// The first argument that decides, or the last one; those after it are not evaluated.
    fn and_or(&mut self, decides: bool, call: Call<'a>) -> Done<Value<'a>> {
        let mut value = Value::Nil;
        for operand in call.arguments {
            value = self.operand(call.dot, operand)?;
            if value.is_true() == decides {
                return Ok(value);
            }
        }
        Ok(call.last.unwrap_or(value))
    }

    /// Text made by `write`, kept until the execution ends.
    fn compose(
        &mut self,
        span: Span,
        write: impl FnOnce(&mut TextBuf<'_>) -> Result<(), FormatFault>,
    ) -> Done<Value<'a>> {
        let room = std::mem::take(&mut self.scratch);
        let mut text = TextBuf::new(&mut *room);
        let written = write(&mut text);
        let (used, rest) = {
            let len = text.len();
            room.split_at_mut(len)
        };
        self.scratch = rest;
        match written {
            Ok(()) => Ok(Value::Text(used)),
            Err(FormatFault::Full) => Err(ExecError { span, fault: Fault::Full }),
            Err(FormatFault::Unsupported) => {
                Err(ExecError { span, fault: Fault::Words("format is not supported") })
            }
        }
    }
}

/// How something is called: with which arguments, and where that is written.
#[derive(Clone, Copy)]
struct Call<'a> {
    span: Span,
    dot: Value<'a>,
    arguments: &'a [Operand],
    last: Option<Value<'a>>,
}

impl Call<'_> {
    fn is_empty(&self) -> bool {
        self.arguments.is_empty() && self.last.is_none()
    }

    fn without_arguments(self) -> Self {
        Call { arguments: &[], last: None, ..self }
    }
}
