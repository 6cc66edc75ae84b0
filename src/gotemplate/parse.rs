//! Makes a tree of a template's items.
//!
//! Faults are Go's, in its words: `template: answer:1: unexpected "}" in operand`. What Go has and
//! this engine has not (`define`, `template`, `block`; complex numbers) is refused by name.
//! Nesting, variables and arguments are bounded here, so that execution needs no check of its own.

use super::TemplateError;
use super::functions::Function;
use super::lex::{self, Item, Kind, Word};
use super::literal;
use super::tree::{Command, Control, Node, Operand, Pipe, Span, Term};
use crate::limits::{
    TEMPLATE_ARGUMENTS_MAX, TEMPLATE_BYTES_MAX, TEMPLATE_DEPTH_MAX, TEMPLATE_VARIABLES_MAX,
};

/// Parses `text`; `name` is what errors call it.
pub(super) fn parse(name: &str, text: &str) -> Result<Vec<Node>, TemplateError> {
    if text.len() > TEMPLATE_BYTES_MAX {
        let why = format!("template of {} octets is too long", text.len());
        return Err(TemplateError(format!("template: {name}:1: {why}")));
    }
    let mut parser = Parser {
        name,
        items: lex::items(text),
        at: 0,
        seen: 0,
        variables: vec!["$".into()],
        declared: 0,
        ranges: 0,
        depth: 0,
        action_line: 0,
    };
    match parser.list()? {
        (nodes, Stop::Eof) => Ok(nodes),
        (_, Stop::End) => parser.fail("unexpected {{end}}"),
        (_, Stop::Else) => parser.fail("unexpected {{else}}"),
    }
}

/// What ended a list of nodes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    Eof,
    End,
    Else,
}

/// One thing of a list: a node, or what ends the list.
enum Piece {
    Node(Node),
    Stop(Stop),
}

/// Where a pipeline stands: what its errors say, and what ends it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Command,
    If,
    With,
    Range,
    Parens,
}

impl Place {
    fn words(self) -> &'static str {
        match self {
            Place::Command => "command",
            Place::If => "if",
            Place::With => "with",
            Place::Range => "range",
            Place::Parens => "parenthesized pipeline",
        }
    }

    fn end(self) -> Kind {
        if self == Place::Parens { Kind::RightParen } else { Kind::RightDelim }
    }
}

struct Parser<'t> {
    name: &'t str,
    items: Vec<Item<'t>>,
    at: usize,
    /// The furthest item looked at: errors name its line, as Go's do.
    seen: usize,
    /// Variables in scope, `$` first.
    variables: Vec<Box<str>>,
    /// Declarations in the whole text: no execution holds more variables at once.
    declared: usize,
    /// `range` blocks open here.
    ranges: u32,
    /// Control blocks and parentheses open here.
    depth: usize,
    /// The line on which the current action began, 0 outside of actions.
    action_line: u32,
}

type Parsed<T> = Result<T, TemplateError>;

impl<'t> Parser<'t> {
    fn fail<T>(&self, why: impl AsRef<str>) -> Parsed<T> {
        let line = self.items[self.seen].line;
        let (name, why) = (self.name, why.as_ref());
        Err(TemplateError(format!("template: {name}:{line}: {why}")))
    }

    fn unexpected<T>(&self, item: &Item<'_>, place: &str) -> Parsed<T> {
        let Kind::Fault(why) = &item.kind else {
            return self.fail(format!("unexpected {} in {place}", item.shown()));
        };
        if self.action_line == 0 || self.action_line == item.line {
            return self.fail(why);
        }
        let action = if why.ends_with(" action") { "" } else { " in action" };
        self.fail(format!("{why}{action} started at {}:{}", self.name, self.action_line))
    }

    /// The item `ahead` of the next one; the last item for ever after it.
    fn look(&mut self, ahead: usize) -> Item<'t> {
        let at = (self.at + ahead).min(self.items.len() - 1);
        self.seen = self.seen.max(at);
        self.items[at].clone()
    }

    fn peek(&mut self) -> Item<'t> {
        self.look(0)
    }

    fn next(&mut self) -> Item<'t> {
        let item = self.peek();
        self.at += 1;
        item
    }

    fn next_after_space(&mut self) -> Item<'t> {
        self.skip_space();
        self.next()
    }

    fn skip_space(&mut self) {
        while self.peek().kind == Kind::Space {
            self.at += 1;
        }
    }

    fn expect_close(&mut self, place: &str) -> Parsed<()> {
        match self.next_after_space() {
            Item { kind: Kind::RightDelim, .. } => Ok(()),
            item => self.unexpected(&item, place),
        }
    }

    fn deeper(&mut self) -> Parsed<()> {
        self.depth += 1;
        if self.depth > TEMPLATE_DEPTH_MAX { self.fail("nested too deeply") } else { Ok(()) }
    }

    /// Nodes up to the end of the text, `{{end}}` or `{{else}}`.
    fn list(&mut self) -> Parsed<(Vec<Node>, Stop)> {
        let mut nodes = Vec::new();
        loop {
            match self.piece()? {
                Piece::Node(node) => nodes.push(node),
                Piece::Stop(stop) => return Ok((nodes, stop)),
            }
        }
    }

    fn piece(&mut self) -> Parsed<Piece> {
        let item = self.next();
        match item.kind {
            Kind::Eof => Ok(Piece::Stop(Stop::Eof)),
            Kind::Text => Ok(Piece::Node(Node::Text(item.text.into()))),
            Kind::LeftDelim => {
                self.action_line = item.line;
                let piece = self.action()?;
                self.action_line = 0;
                Ok(piece)
            }
            _ => self.unexpected(&item, "input"),
        }
    }

    /// What stands between delimiters; the left one has been taken.
    fn action(&mut self) -> Parsed<Piece> {
        self.skip_space();
        let Kind::Word(word) = self.peek().kind else { return self.command_action() };
        let node = match word {
            Word::Dot | Word::Nil => return self.command_action(),
            Word::End => {
                self.at += 1;
                self.expect_close("end")?;
                return Ok(Piece::Stop(Stop::End));
            }
            Word::Else => {
                self.at += 1;
                return self.else_action();
            }
            Word::If => {
                self.at += 1;
                Node::If(self.control(Place::If)?)
            }
            Word::With => {
                self.at += 1;
                Node::With(self.control(Place::With)?)
            }
            Word::Range => {
                self.at += 1;
                Node::Range(self.control(Place::Range)?)
            }
            Word::Break => self.jump("{{break}}", Node::Break)?,
            Word::Continue => self.jump("{{continue}}", Node::Continue)?,
            Word::Define | Word::Template | Word::Block => {
                return self.fail(format!("{{{{{}}}}} is not supported", self.peek_text()));
            }
        };
        Ok(Piece::Node(node))
    }

    fn peek_text(&self) -> &'t str {
        self.items[self.at].text
    }

    fn command_action(&mut self) -> Parsed<Piece> {
        self.pipeline(Place::Command).map(|pipe| Piece::Node(Node::Action(pipe)))
    }

    /// `{{else}}`, or the `{{else` before an `if` or a `with`, which the caller then takes.
    fn else_action(&mut self) -> Parsed<Piece> {
        self.skip_space();
        if !matches!(self.peek().kind, Kind::Word(Word::If | Word::With)) {
            self.expect_close("else")?;
        }
        Ok(Piece::Stop(Stop::Else))
    }

    fn jump(&mut self, shown: &str, node: Node) -> Parsed<Node> {
        self.at += 1;
        self.expect_close(shown)?;
        if self.ranges == 0 {
            return self.fail(format!("{shown} outside {{{{range}}}}"));
        }
        Ok(node)
    }

    /// The rest of an `if`, `with` or `range`, up to and including its `{{end}}`. What follows
    /// `{{else if` or `{{else with` is a control of its own that shares this one's `{{end}}`.
    fn control(&mut self, place: Place) -> Parsed<Control> {
        self.deeper()?;
        let scope = self.variables.len();
        let pipe = self.pipeline(place)?;
        self.ranges += u32::from(place == Place::Range);
        let (body, stop) = self.list()?;
        self.ranges -= u32::from(place == Place::Range);
        let otherwise = match stop {
            Stop::Eof => return self.fail("unexpected EOF"),
            Stop::End => None,
            Stop::Else => Some(self.otherwise(place)?),
        };
        self.variables.truncate(scope);
        self.depth -= 1;
        Ok(Control { pipe, body, otherwise })
    }

    fn otherwise(&mut self, place: Place) -> Parsed<Vec<Node>> {
        let next = self.peek().kind;
        if place == Place::If && next == Kind::Word(Word::If) {
            self.at += 1;
            return Ok(vec![Node::If(self.control(Place::If)?)]);
        }
        if place == Place::With && next == Kind::Word(Word::With) {
            self.at += 1;
            return Ok(vec![Node::With(self.control(Place::With)?)]);
        }
        match self.list()? {
            (nodes, Stop::End) => Ok(nodes),
            (_, Stop::Else) => self.fail("expected end; found {{else}}"),
            (_, Stop::Eof) => self.fail("unexpected EOF"),
        }
    }

    /// `$x := command | command`, and what ends it.
    fn pipeline(&mut self, place: Place) -> Parsed<Pipe> {
        self.skip_space();
        let from = self.peek().at;
        let (variables, assigns) = self.declarations(place)?;
        let mut commands = Vec::new();
        loop {
            let item = self.next_after_space();
            if item.kind == place.end() {
                break;
            }
            match item.kind {
                Kind::Bool
                | Kind::CharConstant
                | Kind::Word(Word::Dot | Word::Nil)
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::RawQuoted
                | Kind::Quoted
                | Kind::Variable
                | Kind::LeftParen => {
                    self.at -= 1;
                    commands.push(self.command()?);
                }
                _ => return self.unexpected(&item, place.words()),
            }
        }
        if commands.is_empty() {
            return self.fail(format!("missing value for {}", place.words()));
        }
        for (stage, command) in commands.iter().enumerate().skip(1) {
            if command.words[0].is_constant() {
                let stage = stage + 1;
                return self.fail(format!("non executable command in pipeline stage {stage}"));
            }
        }
        let to = commands.last().map_or(from, |last| last.span.to as usize);
        Ok(Pipe { span: span(from, to), variables, assigns, commands })
    }

    /// The variables before `:=` or `=`: one, or two in a `range`.
    fn declarations(&mut self, place: Place) -> Parsed<(Vec<Box<str>>, bool)> {
        let mut names: Vec<Box<str>> = Vec::new();
        loop {
            self.skip_space();
            let (item, mut after) = (self.peek(), 1);
            if item.kind != Kind::Variable {
                return Ok((names, false));
            }
            if self.look(after).kind == Kind::Space {
                after += 1;
            }
            let next = self.look(after);
            let assigns = next.kind == Kind::Assign;
            let comma = next.kind == Kind::Char && next.text == ",";
            if !assigns && !comma && next.kind != Kind::Declare {
                return Ok((names, false));
            }
            self.at += after + 1;
            names.push(item.text.into());
            self.declare(item.text)?;
            if !comma {
                return Ok((names, assigns));
            }
            if place != Place::Range || names.len() > 1 {
                return self.fail(format!("too many declarations in {}", place.words()));
            }
            self.skip_space();
            if !matches!(self.peek().kind, Kind::Variable | Kind::RightDelim | Kind::RightParen) {
                return self.fail("range can only initialize variables");
            }
        }
    }

    fn declare(&mut self, name: &str) -> Parsed<()> {
        self.declared += 1;
        if self.declared >= TEMPLATE_VARIABLES_MAX {
            return self.fail("too many variables");
        }
        self.variables.push(name.into());
        Ok(())
    }

    /// Operands up to a `|`, which is taken, or to what ends the pipeline, which is not.
    fn command(&mut self) -> Parsed<Command> {
        let mut words = Vec::new();
        loop {
            self.skip_space();
            if let Some(operand) = self.operand()? {
                words.push(operand);
            }
            let item = self.next();
            match item.kind {
                Kind::Space => continue,
                Kind::RightDelim | Kind::RightParen => self.at -= 1,
                Kind::Pipe => {}
                _ => return self.unexpected(&item, "operand"),
            }
            break;
        }
        let (Some(first), Some(last)) = (words.first(), words.last()) else {
            return self.fail("empty command");
        };
        if words.len() > TEMPLATE_ARGUMENTS_MAX {
            return self.fail("too many arguments");
        }
        Ok(Command { span: Span { from: first.span.from, to: last.span.to }, words })
    }

    /// A term and the fields that follow it at once.
    fn operand(&mut self) -> Parsed<Option<Operand>> {
        let from = self.peek().at;
        let Some(term) = self.term()? else { return Ok(None) };
        let mut operand = Operand { span: span(from, self.items[self.at - 1].end()), term };
        let mut names: Vec<Box<str>> = Vec::new();
        while self.peek().kind == Kind::Field {
            names.push(self.next().text[1..].into());
        }
        if names.is_empty() {
            return Ok(Some(operand));
        }
        if operand.is_constant() {
            return self.fail(format!("unexpected . after term {:?}", operand.to_string()));
        }
        let whole = span(from, self.items[self.at - 1].end());
        if let Term::Field(path) | Term::Variable(_, path) = &mut operand.term {
            path.append(&mut names);
            return Ok(Some(Operand { span: whole, ..operand }));
        }
        Ok(Some(Operand { span: whole, term: Term::Chain(Box::new(operand), names) }))
    }

    fn term(&mut self) -> Parsed<Option<Term>> {
        let item = self.next();
        let text = item.text;
        Ok(Some(match item.kind {
            Kind::Identifier => match Function::named(text) {
                Ok(function) => Term::Function(function),
                Err(why) => return self.fail(format!("function {text:?} {why}")),
            },
            Kind::Word(Word::Dot) => Term::Dot,
            Kind::Word(Word::Nil) => Term::Nil,
            Kind::Variable if self.variables.iter().any(|known| **known == *text) => {
                Term::Variable(text.into(), Vec::new())
            }
            Kind::Variable => return self.fail(format!("undefined variable {text:?}")),
            Kind::Field => Term::Field(vec![text[1..].into()]),
            Kind::Bool => Term::Bool(text == "true"),
            Kind::Number | Kind::CharConstant => {
                let is_number = item.kind == Kind::Number;
                let read = if is_number { literal::number } else { literal::character };
                match read(text) {
                    Ok(number) => Term::Number { text: text.into(), number },
                    Err(why) => return self.fail(why),
                }
            }
            Kind::LeftParen => {
                self.deeper()?;
                let pipe = self.pipeline(Place::Parens)?;
                self.depth -= 1;
                Term::Pipe(Box::new(pipe))
            }
            Kind::Quoted | Kind::RawQuoted => match literal::string(text) {
                Some(unquoted) => Term::Text { quoted: text.into(), text: unquoted },
                None => return self.fail("invalid syntax"),
            },
            _ => {
                self.at -= 1;
                return Ok(None);
            }
        }))
    }
}

impl Operand {
    /// Whether nothing can be asked of it: neither fields nor a value from the stage before.
    fn is_constant(&self) -> bool {
        let term = &self.term;
        matches!(
            term,
            Term::Dot | Term::Nil | Term::Bool(_) | Term::Number { .. } | Term::Text { .. }
        )
    }
}

/// Offsets are below `TEMPLATE_BYTES_MAX`, which fits.
fn span(from: usize, to: usize) -> Span {
    Span { from: from as u32, to: to as u32 }
}
