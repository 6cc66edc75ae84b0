//! From texts to a program: precedence climbing, names and kinds checked on the way.

mod checks;
mod several;

use super::builtins::{self, Builtin, Loop};
use super::lex::{Word, words};
use super::tree::{Id, Ids, Node, Operator, Program};
use super::value::{Kind, Place, Value};
use super::{Error, Function};
use crate::limits::{
    EXPRESSION_BYTES_MAX, EXPRESSION_DEPTH_MAX, EXPRESSION_HEIGHT_MAX, EXPRESSION_MEMORY_BYTES_MAX,
    EXPRESSION_NODES_MAX, EXPRESSION_VARIABLES_MAX,
};
use crate::regexp;

/// A program under way.
pub struct Draft {
    program: Program,
    /// Of each node, what is known of its value, and how high the tree is that it is the top of.
    known: Vec<(Kind, usize)>,
    variables: Vec<Kind>,
}

/// A text under way.
struct Parser<'d> {
    draft: &'d mut Draft,
    text: &'d str,
    words: Vec<(Word, usize)>,
    at: usize,
    depth: usize,
    /// Predicates around.
    loops: usize,
    /// Variables of `let` that can be seen: name, slot, kind.
    locals: Vec<(String, u16, Kind)>,
}

/// What binds two operands.
enum Binding {
    Operator(Operator),
    And,
    Or,
    Coalesce,
    Matches,
    Pipe,
}

/// Precedence of an operator between two operands, whether it binds to the right, what it is.
fn binding(sign: &str) -> Option<(u16, bool, Binding)> {
    use Binding::Operator as B;
    Some(match sign {
        "|" => (0, false, Binding::Pipe),
        "or" | "||" => (10, false, Binding::Or),
        "and" | "&&" => (15, false, Binding::And),
        "==" => (20, false, B(Operator::Equal)),
        "!=" => (20, false, B(Operator::Unequal)),
        "<" => (20, false, B(Operator::Less)),
        ">" => (20, false, B(Operator::More)),
        "<=" => (20, false, B(Operator::AtMost)),
        ">=" => (20, false, B(Operator::AtLeast)),
        "in" => (20, false, B(Operator::In)),
        "matches" => (20, false, Binding::Matches),
        "contains" => (20, false, B(Operator::Contains)),
        "startsWith" => (20, false, B(Operator::StartsWith)),
        "endsWith" => (20, false, B(Operator::EndsWith)),
        ".." => (25, false, B(Operator::Range)),
        "+" => (30, false, B(Operator::Add)),
        "-" => (30, false, B(Operator::Subtract)),
        "*" => (60, false, B(Operator::Multiply)),
        "/" => (60, false, B(Operator::Divide)),
        "%" => (60, false, B(Operator::Remainder)),
        "**" | "^" => (100, true, B(Operator::Power)),
        "??" => (500, false, Binding::Coalesce),
        _ => return None,
    })
}

fn can_be_negated(sign: &str) -> bool {
    matches!(sign, "in" | "matches" | "contains" | "startsWith" | "endsWith")
}

fn is_comparison(sign: &str) -> bool {
    matches!(sign, "<" | ">" | "<=" | ">=")
}

impl Draft {
    /// A program that may call `functions`.
    pub fn new(functions: &'static [Function]) -> Self {
        let program = Program { functions, ..Program::default() };
        Self { program, known: Vec::new(), variables: Vec::new() }
    }

    /// A variable for the expressions after it. A later one of the same name is another.
    ///
    /// # Errors
    /// Why `text` is no expression.
    pub fn variable(&mut self, name: &str, text: &str) -> Result<(), Error> {
        if self.variables.len() == EXPRESSION_VARIABLES_MAX {
            return Err(Error::new(text, 0, "too many variables"));
        }
        let id = self.parse(text)?;
        self.program.definitions.push(id);
        self.program.names.push(name.into());
        self.variables.push(self.known[id as usize].0);
        Ok(())
    }

    /// Whether there is a variable `name`.
    pub fn has(&self, name: &str) -> bool {
        self.program.names.iter().any(|known| **known == *name)
    }

    /// A condition.
    ///
    /// # Errors
    /// Why `text` is no expression.
    pub fn condition(&mut self, text: &str) -> Result<(), Error> {
        let id = self.parse(text)?;
        self.program.conditions.push(id);
        Ok(())
    }

    /// The program.
    pub fn finish(mut self) -> Program {
        // Slots of `let` come after the variables, whose number is known only now.
        let first = self.program.names.len() as u16;
        for node in &mut self.program.nodes {
            match node {
                Node::Let(slot, ..) => *slot += first,
                Node::Variable(slot) if *slot >= LOCAL => *slot = *slot - LOCAL + first,
                _ => {}
            }
        }
        self.program
    }

    fn parse(&mut self, text: &str) -> Result<Id, Error> {
        if text.len() > EXPRESSION_BYTES_MAX {
            return Err(Error::new(text, 0, "expression too long"));
        }
        let words = words(text)?;
        let locals = Vec::new();
        let mut parser = Parser { draft: self, text, words, at: 0, depth: 0, loops: 0, locals };
        let id = parser.sequence()?;
        match parser.word() {
            Word::End => Ok(id),
            _ => Err(parser.unexpected()),
        }
    }
}

/// Slots of `let` are told from those of variables until the program is finished.
const LOCAL: u16 = 1 << 15;

impl Parser<'_> {
    fn word(&self) -> &Word {
        &self.words[self.at].0
    }

    fn sign(&self) -> &'static str {
        match self.word() {
            Word::Sign(sign) => sign,
            _ => "",
        }
    }

    fn next(&mut self) {
        if self.at + 1 < self.words.len() {
            self.at += 1;
        }
    }

    fn accept(&mut self, sign: &str) -> bool {
        let is_there = self.sign() == sign;
        if is_there {
            self.next();
        }
        is_there
    }

    fn expect(&mut self, sign: &str) -> Result<(), Error> {
        if self.accept(sign) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn error(&self, at: usize, message: impl Into<String>) -> Error {
        Error::new(self.text, self.words[at.min(self.words.len() - 1)].1, message)
    }

    fn unexpected(&self) -> Error {
        let shown = match self.word() {
            Word::Name(name) => format!("Identifier({name:?})"),
            Word::Int(_) | Word::Float(_) => "Number".to_owned(),
            Word::Text(text) => format!("String({text:?})"),
            Word::Sign(sign) if "()[]{}".contains(sign) => format!("Bracket({sign:?})"),
            Word::Sign(sign) => format!("Operator({sign:?})"),
            Word::End => "EOF".to_owned(),
        };
        self.error(self.at, format!("unexpected token {shown}"))
    }

    /// Adds a node that stands above `below`, told at word `at`.
    fn add(&mut self, at: usize, node: Node, kind: Kind, below: &[Id]) -> Result<Id, Error> {
        let heights = below.iter().map(|id| self.draft.known[*id as usize].1);
        let height = heights.max().unwrap_or(0) + 1;
        if height > EXPRESSION_HEIGHT_MAX {
            return Err(self.error(at, "expression is nested too deeply"));
        }
        if self.draft.program.nodes.len() == EXPRESSION_NODES_MAX {
            let why = "compilation failed: expression exceeds maximum allowed nodes";
            return Err(self.error(at, why));
        }
        self.draft.program.nodes.push(node);
        self.draft.known.push((kind, height));
        Ok((self.draft.program.nodes.len() - 1) as Id)
    }

    fn kind(&self, id: Id) -> Kind {
        self.draft.known[id as usize].0
    }

    fn text(&mut self, at: usize, text: &str) -> Result<Id, Error> {
        let program = &mut self.draft.program;
        if program.text.len() + text.len() > EXPRESSION_MEMORY_BYTES_MAX / 2 {
            return Err(self.error(at, "too much text"));
        }
        let place = Place { at: program.text.len() as u32, len: text.len() as u32 };
        program.text.push_str(text);
        program.literals.push(text.into());
        self.add(at, Node::Value(Value::Text(place)), Kind::Text, &[])
    }

    /// Expressions with `;` between them.
    fn sequence(&mut self) -> Result<Id, Error> {
        let at = self.at;
        let first = self.expression(0)?;
        if !self.accept(";") || matches!(self.word(), Word::End) {
            return Ok(first);
        }
        let rest = self.sequence()?;
        let kind = self.kind(rest);
        self.add(at, Node::Sequence(first, rest), kind, &[first, rest])
    }

    /// An expression of operators that bind at least as `least`.
    fn expression(&mut self, least: u16) -> Result<Id, Error> {
        self.depth += 1;
        if self.depth > EXPRESSION_DEPTH_MAX {
            return Err(self.error(self.at, "expression is nested too deeply"));
        }
        let seen = self.locals.len();
        let id = match self.sign() {
            "let" if least == 0 => self.declaration()?,
            "if" if least == 0 => self.choice()?,
            _ => self.operations(least)?,
        };
        self.locals.truncate(seen);
        self.depth -= 1;
        Ok(id)
    }

    fn operations(&mut self, least: u16) -> Result<Id, Error> {
        let mut left = self.operand()?;
        let mut before = "";
        loop {
            let negated = self.sign() == "not";
            let place = self.at + usize::from(negated);
            let Some((Word::Sign(sign), _)) = self.words.get(place) else { break };
            let sign = *sign;
            if negated && !can_be_negated(sign) {
                return Err(self.unexpected());
            }
            let Some((precedence, is_right, binding)) = binding(sign) else { break };
            if precedence < least {
                break;
            }
            if before == "??" && sign != "??" {
                let why = format!(
                    "Operator ({sign}) and coalesce expressions (??) cannot be mixed. \
                     Wrap either by parentheses."
                );
                return Err(self.error(place, why));
            }
            self.at = place;
            self.next();
            left = match binding {
                Binding::Pipe => self.piped(left)?,
                _ if is_comparison(sign) => self.comparison(place, left, precedence)?,
                _ => {
                    let right = self.expression(precedence + u16::from(!is_right))?;
                    self.bind(place, &binding, left, right)?
                }
            };
            if negated {
                left = self.add(place, Node::Not(left), Kind::Bool, &[left])?;
            }
            before = sign;
        }
        if least == 0 { self.conditional(left) } else { Ok(left) }
    }

    /// `a < b <= c`: each with its neighbour.
    fn comparison(&mut self, mut at: usize, left: Id, precedence: u16) -> Result<Id, Error> {
        let mut left = left;
        let mut all = None;
        loop {
            let right = self.expression(precedence + 1)?;
            let Some((_, _, binding)) = self.words.get(at).and_then(|(word, _)| match word {
                Word::Sign(sign) => binding(sign),
                _ => None,
            }) else {
                return Err(self.unexpected());
            };
            let one = self.bind(at, &binding, left, right)?;
            all = Some(match all {
                Some(all) => self.add(at, Node::And(all, one), Kind::Bool, &[all, one])?,
                None => one,
            });
            if !is_comparison(self.sign()) {
                return Ok(all.unwrap_or(one));
            }
            (left, at) = (right, self.at);
            self.next();
        }
    }

    fn conditional(&mut self, id: Id) -> Result<Id, Error> {
        let mut id = id;
        while self.sign() == "?" {
            let at = self.at;
            self.next();
            let yes = if self.accept(":") {
                id
            } else {
                let yes = self.expression(0)?;
                self.expect(":")?;
                yes
            };
            let no = self.expression(0)?;
            id = self.chosen(at, id, yes, no)?;
        }
        Ok(id)
    }

    fn chosen(&mut self, at: usize, condition: Id, yes: Id, no: Id) -> Result<Id, Error> {
        if !self.kind(condition).may_be(Kind::Bool) {
            let kind = self.kind(condition).name();
            let why = format!("non-bool expression (type {kind}) used as condition");
            return Err(self.error(at, why));
        }
        let kind = if self.kind(yes) == self.kind(no) { self.kind(yes) } else { Kind::Any };
        self.add(at, Node::Choice(condition, yes, no), kind, &[condition, yes, no])
    }

    /// `let NAME = VALUE; EXPRESSION`.
    fn declaration(&mut self) -> Result<Id, Error> {
        self.next();
        let at = self.at;
        let Word::Name(name) = self.word().clone() else { return Err(self.unexpected()) };
        self.next();
        let known = self.locals.iter().any(|(local, ..)| *local == name);
        if known || self.named(&name).is_some() || self.function(&name).is_some() {
            return Err(self.error(at, format!("cannot redeclare variable {name}")));
        }
        if builtins::is_name(&name) {
            return Err(self.error(at, format!("cannot redeclare builtin {name}")));
        }
        self.expect("=")?;
        let value = self.expression(0)?;
        self.expect(";")?;
        // A variable that is out of sight may still be needed: no slot is used twice.
        let slot = self.draft.program.locals as u16;
        if slot as usize == EXPRESSION_VARIABLES_MAX {
            return Err(self.error(at, "too many variables"));
        }
        self.draft.program.locals += 1;
        self.locals.push((name, slot + LOCAL, self.kind(value)));
        let body = self.sequence()?;
        let kind = self.kind(body);
        self.add(at, Node::Let(slot, value, body), kind, &[value, body])
    }

    /// `if CONDITION { … } else { … }`.
    fn choice(&mut self) -> Result<Id, Error> {
        let at = self.at;
        self.next();
        let condition = self.expression(0)?;
        self.expect("{")?;
        let yes = self.sequence()?;
        self.expect("}")?;
        self.expect("else")?;
        let no = if self.sign() == "if" {
            self.expression(0)?
        } else {
            self.expect("{")?;
            let no = self.sequence()?;
            self.expect("}")?;
            no
        };
        self.chosen(at, condition, yes, no)
    }

    /// What stands between operators.
    fn operand(&mut self) -> Result<Id, Error> {
        let at = self.at;
        let unary = match self.sign() {
            "not" | "!" => Some(50),
            "-" | "+" => Some(90),
            _ => None,
        };
        if let Some(precedence) = unary {
            let sign = self.sign();
            self.next();
            let of = self.expression(precedence)?;
            let kind = self.kind(of);
            let (node, fits, kind) = match sign {
                "-" => (Node::Negate(of), kind.may_count(), kind),
                "+" => (Node::Number(of), kind.may_count(), kind),
                _ => (Node::Not(of), kind.may_be(Kind::Bool), Kind::Bool),
            };
            if !fits {
                let kind = self.kind(of).name();
                let why = format!("invalid operation: {sign} (mismatched type {kind})");
                return Err(self.error(at, why));
            }
            let id = self.add(at, node, kind, &[of])?;
            return self.postfix(id);
        }
        let id = match self.sign() {
            "(" => {
                self.next();
                let id = self.sequence()?;
                self.expect(")")?;
                id
            }
            "#" | "." if self.loops > 0 => self.item()?,
            "[" => self.list()?,
            "{" => self.map()?,
            "::" => {
                self.next();
                self.primary()?
            }
            _ => self.primary()?,
        };
        self.postfix(id)
    }

    /// `#`, `#index`, `#acc`; before a dot, it may be left out.
    fn item(&mut self) -> Result<Id, Error> {
        let at = self.at;
        if !self.accept("#") {
            return self.add(at, Node::Item, Kind::Any, &[]);
        }
        let (node, kind) = match self.word() {
            Word::Name(name) => match name.as_str() {
                "index" => (Node::ItemIndex, Kind::Int),
                "acc" => (Node::Total, Kind::Any),
                name => {
                    let why = format!("unknown pointer #{name}");
                    return Err(self.error(at, why));
                }
            },
            _ => return self.add(at, Node::Item, Kind::Any, &[]),
        };
        self.next();
        self.add(at, node, kind, &[])
    }

    /// A literal, a variable or a call.
    fn primary(&mut self) -> Result<Id, Error> {
        let at = self.at;
        let word = self.word().clone();
        let (value, kind) = match word {
            Word::Int(value) => (Value::Int(value), Kind::Int),
            Word::Float(value) => (Value::Float(value), Kind::Float),
            Word::Text(text) => {
                self.next();
                return self.text(at, &text);
            }
            Word::Name(name) => match name.as_str() {
                "true" => (Value::Bool(true), Kind::Bool),
                "false" => (Value::Bool(false), Kind::Bool),
                "nil" => (Value::Nil, Kind::Nil),
                name => {
                    self.next();
                    return self.name(at, name);
                }
            },
            _ => return Err(self.unexpected()),
        };
        self.next();
        self.add(at, Node::Value(value), kind, &[])
    }

    fn named(&self, name: &str) -> Option<(u16, Kind)> {
        let local = self.locals.iter().rev().find(|(local, ..)| local == name);
        local.map(|(_, slot, kind)| (*slot, *kind)).or_else(|| {
            let at = self.draft.program.names.iter().rposition(|known| **known == *name)?;
            Some((at as u16, self.draft.variables[at]))
        })
    }

    fn function(&self, name: &str) -> Option<(u16, Function)> {
        let functions = self.draft.program.functions;
        let at = functions.iter().position(|function| function.name == name)?;
        Some((at as u16, functions[at]))
    }

    fn name(&mut self, at: usize, name: &str) -> Result<Id, Error> {
        if self.sign() == "(" {
            return self.call(at, name, None);
        }
        match self.named(name) {
            Some((slot, kind)) => self.add(at, Node::Variable(slot), kind, &[]),
            None => Err(self.error(at, format!("unknown name {name}"))),
        }
    }

    fn piped(&mut self, left: Id) -> Result<Id, Error> {
        let at = self.at;
        let Word::Name(name) = self.word().clone() else { return Err(self.unexpected()) };
        self.next();
        let id = self.call(at, &name, Some(left))?;
        self.postfix(id)
    }

    /// The call of `name`, whose arguments are next; `first` is the argument before a pipe.
    fn call(&mut self, at: usize, name: &str, first: Option<Id>) -> Result<Id, Error> {
        if let Some((slot, function)) = self.function(name) {
            let ids = self.arguments(first)?;
            let (takes, gives) = (function.takes, function.gives);
            self.check(at, name, &ids, takes, takes.len()..=takes.len())?;
            let children = self.children(&ids);
            return self.add(at, Node::Call(slot, children), gives, &ids);
        }
        if let Some((kind, gives)) = builtins::predicate(name) {
            return self.predicate(at, kind, gives, first);
        }
        let Some((builtin, shape)) = builtins::builtin(name) else {
            let why = match builtins::is_other(name) {
                true => format!("function {name} is not built in"),
                false => format!("unknown name {name}"),
            };
            return Err(self.error(at, why));
        };
        let ids = self.arguments(first)?;
        self.check(at, name, &ids, shape.takes, shape.least..=shape.most)?;
        let gives = match (builtin, &ids[..]) {
            (Builtin::Abs, [one]) => self.kind(*one),
            _ => shape.gives,
        };
        let children = self.children(&ids);
        self.add(at, Node::Builtin(builtin, children), gives, &ids)
    }

    fn arguments(&mut self, first: Option<Id>) -> Result<Vec<Id>, Error> {
        let mut ids: Vec<Id> = first.into_iter().collect();
        self.expect("(")?;
        let offset = ids.len();
        while self.sign() != ")" {
            if ids.len() > offset {
                self.expect(",")?;
                if self.sign() == ")" {
                    break;
                }
            }
            ids.push(self.expression(0)?);
        }
        self.next();
        Ok(ids)
    }

    /// Whether a call's arguments are as many as it takes, and may be of the kinds.
    fn check(
        &self,
        at: usize,
        name: &str,
        ids: &[Id],
        takes: &[Kind],
        count: std::ops::RangeInclusive<usize>,
    ) -> Result<(), Error> {
        if ids.len() < *count.start() {
            return Err(self.error(at, format!("not enough arguments to call {name}")));
        }
        if ids.len() > *count.end() {
            return Err(self.error(at, format!("too many arguments to call {name}")));
        }
        for (place, id) in ids.iter().enumerate() {
            let wanted = takes.get(place).or(takes.last()).copied().unwrap_or(Kind::Any);
            let given = self.kind(*id);
            if !given.may_be(wanted) {
                let (given, wanted) = (given.name(), wanted.name());
                let why = format!("cannot use {given} as argument (type {wanted}) to call {name}");
                return Err(self.error(at, why));
            }
        }
        Ok(())
    }

    fn children(&mut self, ids: &[Id]) -> Ids {
        let children = &mut self.draft.program.children;
        let at = children.len() as u16;
        children.extend_from_slice(ids);
        Ids { at, len: ids.len() as u16 }
    }

    /// `all(LIST, PREDICATE)` and its like.
    fn predicate(
        &mut self,
        at: usize,
        kind: Loop,
        gives: Kind,
        first: Option<Id>,
    ) -> Result<Id, Error> {
        self.expect("(")?;
        let is_piped = first.is_some();
        let list = match first {
            Some(list) => list,
            None => self.expression(0)?,
        };
        if !self.kind(list).may_be(Kind::List) {
            let why = format!("builtin takes only array (got {})", self.kind(list).name());
            return Err(self.error(at, why));
        }
        let is_optional = matches!(kind, Loop::Count | Loop::Sum);
        let mut body = None;
        if !(is_optional && self.sign() == ")") {
            if !is_piped {
                self.expect(",")?;
            }
            self.loops += 1;
            let braces = self.accept("{");
            let id = if braces { self.sequence()? } else { self.expression(0)? };
            if braces {
                self.expect("}")?;
            }
            self.loops -= 1;
            let is_free = matches!(kind, Loop::Map | Loop::Sum | Loop::Reduce);
            if !is_free && !self.kind(id).may_be(Kind::Bool) {
                let why = format!("predicate should return boolean (got {})", self.kind(id).name());
                return Err(self.error(at, why));
            }
            body = Some(id);
        }
        let mut start = None;
        if kind == Loop::Reduce && self.accept(",") && self.sign() != ")" {
            start = Some(self.expression(0)?);
        }
        self.accept(",");
        self.expect(")")?;
        let below: Vec<Id> = [Some(list), body, start].into_iter().flatten().collect();
        self.add(at, Node::Loop(kind, list, body, start), gives, &below)
    }
}
