//! Cuts a template's text into items, whole and once: the parser then looks ahead as far as it likes.
//!
//! Trim markers (`{{- ` and ` -}}`) and comments are settled here; the parser never sees them.
//! Cost: linear in the text; allocates the list of items. A fault ends the list as an item of its
//! own, so that the parser reports it where it meets it.

/// What an item is. Words that steer (`if`, `nil`, `.`) are items of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The text cannot be cut further; says why. The last item of its list.
    Fault(String),
    Eof,
    Text,
    LeftDelim,
    RightDelim,
    LeftParen,
    RightParen,
    Space,
    Pipe,
    Assign,
    Declare,
    /// A printable ASCII character without a meaning of its own, such as a comma.
    Char,
    CharConstant,
    Number,
    Bool,
    Quoted,
    RawQuoted,
    /// `.name`, the dot included.
    Field,
    /// `$name` or `$`, the dollar sign included.
    Variable,
    Identifier,
    Word(Word),
}

/// The reserved words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Dot,
    Nil,
    If,
    Else,
    End,
    Range,
    With,
    Break,
    Continue,
    Define,
    Template,
    Block,
}

/// One item: its kind, where it stands and what it says.
#[derive(Clone, Debug)]
pub(super) struct Item<'t> {
    pub(super) kind: Kind,
    /// Octets from the start of the template.
    pub(super) at: usize,
    pub(super) text: &'t str,
    /// 1-based line of its first octet.
    pub(super) line: u32,
}

impl Item<'_> {
    /// The offset after the item.
    pub(super) fn end(&self) -> usize {
        self.at + self.text.len()
    }

    /// The item as an error text names it: reserved words in angle brackets, others quoted and cut.
    pub(super) fn shown(&self) -> String {
        match &self.kind {
            Kind::Eof => "EOF".to_owned(),
            Kind::Fault(why) => why.clone(),
            Kind::Word(_) => format!("<{}>", self.text),
            _ if self.text.len() > 10 => {
                format!("{:?}...", self.text.chars().take(10).collect::<String>())
            }
            _ => format!("{:?}", self.text),
        }
    }
}

/// Cuts `text` into items; the last one is `Eof` or `Fault`.
pub(super) fn items(text: &str) -> Vec<Item<'_>> {
    let mut lexer = Lexer { text, at: 0, line: 1, line_at: 0, parens: 0, list: Vec::new() };
    if let Err(fault) = lexer.run() {
        lexer.push(Kind::Fault(fault.why), fault.at, fault.at);
    }
    lexer.list
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
    /// The line of the octet at `line_at`: lines are counted forward from there, each octet once.
    line: u32,
    line_at: usize,
    /// Parentheses open in this action.
    parens: u32,
    list: Vec<Item<'t>>,
}

struct Fault {
    at: usize,
    why: String,
}

const SPACES: [char; 4] = [' ', '\t', '\r', '\n'];

fn is_space(c: char) -> bool {
    SPACES.contains(&c)
}

fn is_word_char(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// `U+0026 '&'`, as error texts name a character; one that cannot be printed by its number alone.
fn code_point(c: char) -> String {
    let shown = if c.is_control() { String::new() } else { format!(" '{c}'") };
    format!("U+{:04X}{shown}", u32::from(c))
}

/// Whether `- ` with one space character follows: the marker after a left delimiter.
fn has_left_marker(rest: &str) -> bool {
    let mut chars = rest.chars();
    chars.next() == Some('-') && chars.next().is_some_and(is_space)
}

/// The length of a right delimiter at the start of `rest`, and of the trim marker before it.
fn right_delim(rest: &str) -> Option<(usize, bool)> {
    let mut chars = rest.chars();
    if chars.next().is_some_and(is_space) && rest[1..].starts_with("-}}") {
        return Some((4, true));
    }
    rest.starts_with("}}").then_some((2, false))
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn accept(&mut self, set: &str) -> bool {
        let hit = self.peek().is_some_and(|c| set.contains(c));
        self.at += usize::from(hit);
        hit
    }

    fn push(&mut self, kind: Kind, from: usize, to: usize) {
        let passed = &self.text.as_bytes()[self.line_at..from];
        self.line += passed.iter().filter(|&&b| b == b'\n').count() as u32;
        self.line_at = from;
        self.list.push(Item { kind, at: from, text: &self.text[from..to], line: self.line });
    }

    fn fault<T>(&self, at: usize, why: impl Into<String>) -> Result<T, Fault> {
        Err(Fault { at, why: why.into() })
    }

    /// Text, comment and action in turn, until the end.
    fn run(&mut self) -> Result<(), Fault> {
        while let Some(found) = self.rest().find("{{") {
            let (start, open) = (self.at, self.at + found);
            let mut inner = open + 2;
            let trims = has_left_marker(&self.text[inner..]);
            let text = &self.text[start..open];
            let kept = if trims { text.trim_end_matches(SPACES).len() } else { text.len() };
            if kept > 0 {
                self.push(Kind::Text, start, start + kept);
            }
            if trims {
                inner += 2;
            }
            if self.text[inner..].starts_with("/*") {
                self.at = inner;
                self.comment()?;
            } else {
                self.push(Kind::LeftDelim, open, open + 2);
                self.at = inner;
                self.parens = 0;
                self.action()?;
            }
        }
        if !self.rest().is_empty() {
            self.push(Kind::Text, self.at, self.text.len());
        }
        self.push(Kind::Eof, self.text.len(), self.text.len());
        Ok(())
    }

    fn comment(&mut self) -> Result<(), Fault> {
        let start = self.at;
        let Some(length) = self.text[start + 2..].find("*/") else {
            return self.fault(start, "unclosed comment");
        };
        self.at = start + 2 + length + 2;
        let Some((delim, trims)) = right_delim(self.rest()) else {
            return self.fault(start, "comment ends before closing delimiter");
        };
        self.close(delim, trims);
        Ok(())
    }

    /// Steps over a right delimiter, and over the space after it when it trims.
    fn close(&mut self, delim: usize, trims: bool) {
        self.at += delim;
        if trims {
            self.at = self.text.len() - self.rest().trim_start_matches(SPACES).len();
        }
    }

    /// The items of one action, up to and including its right delimiter.
    fn action(&mut self) -> Result<(), Fault> {
        loop {
            let start = self.at;
            if let Some((delim, trims)) = right_delim(self.rest()) {
                if self.parens > 0 {
                    return self.fault(start, "unclosed left paren");
                }
                self.push(Kind::RightDelim, start + delim - 2, start + delim);
                self.close(delim, trims);
                return Ok(());
            }
            let Some(c) = self.bump() else { return self.fault(start, "unclosed action") };
            let kind = self.item(start, c)?;
            self.push(kind, start, self.at);
        }
    }

    /// The item that begins with `c`, which has been stepped over.
    fn item(&mut self, start: usize, c: char) -> Result<Kind, Fault> {
        match c {
            _ if is_space(c) => Ok(self.space()),
            '=' => Ok(Kind::Assign),
            ':' if self.bump() == Some('=') => Ok(Kind::Declare),
            ':' => self.fault(start, "expected :="),
            '|' => Ok(Kind::Pipe),
            '"' => self.quoted(start, '"', "unterminated quoted string").map(|()| Kind::Quoted),
            '\'' => self
                .quoted(start, '\'', "unterminated character constant")
                .map(|()| Kind::CharConstant),
            '`' => self.raw_quoted(start),
            '$' => self.name(Kind::Variable),
            '.' if self.peek().is_some_and(|d| !d.is_ascii_digit()) => self.field(),
            '.' | '+' | '-' | '0'..='9' => self.number(start),
            _ if is_word_char(c) => self.identifier(start),
            '(' => {
                self.parens += 1;
                Ok(Kind::LeftParen)
            }
            ')' if self.parens == 0 => self.fault(start, "unexpected right paren"),
            ')' => {
                self.parens -= 1;
                Ok(Kind::RightParen)
            }
            _ if c.is_ascii_graphic() => Ok(Kind::Char),
            _ => self.fault(start, format!("unrecognized character in action: {}", code_point(c))),
        }
    }

    /// A run of space, without the one that belongs to a trimming right delimiter.
    fn space(&mut self) -> Kind {
        while right_delim(self.rest()).is_none() && self.accept(" \t\r\n") {}
        Kind::Space
    }

    fn quoted(&mut self, start: usize, end: char, why: &str) -> Result<(), Fault> {
        loop {
            match self.bump() {
                Some('\\') if self.bump().is_some_and(|c| c != '\n') => {}
                Some('\\' | '\n') | None => return self.fault(start, why),
                Some(c) if c == end => return Ok(()),
                Some(_) => {}
            }
        }
    }

    fn raw_quoted(&mut self, start: usize) -> Result<Kind, Fault> {
        let Some(length) = self.rest().find('`') else {
            return self.fault(start, "unterminated raw quoted string");
        };
        self.at += length + 1;
        Ok(Kind::RawQuoted)
    }

    /// A lone dot is the cursor, `.name` a field.
    fn field(&mut self) -> Result<Kind, Fault> {
        if self.at_terminator() {
            return Ok(Kind::Word(Word::Dot));
        }
        self.name(Kind::Field)
    }

    fn name(&mut self, kind: Kind) -> Result<Kind, Fault> {
        let start = self.at;
        while self.peek().is_some_and(is_word_char) {
            self.bump();
        }
        match self.peek() {
            Some(c) if !self.at_terminator() => {
                self.fault(start, format!("bad character {}", code_point(c)))
            }
            _ => Ok(kind),
        }
    }

    fn identifier(&mut self, start: usize) -> Result<Kind, Fault> {
        self.name(Kind::Identifier)?;
        Ok(match &self.text[start..self.at] {
            "true" | "false" => Kind::Bool,
            "nil" => Kind::Word(Word::Nil),
            "if" => Kind::Word(Word::If),
            "else" => Kind::Word(Word::Else),
            "end" => Kind::Word(Word::End),
            "range" => Kind::Word(Word::Range),
            "with" => Kind::Word(Word::With),
            "break" => Kind::Word(Word::Break),
            "continue" => Kind::Word(Word::Continue),
            "define" => Kind::Word(Word::Define),
            "template" => Kind::Word(Word::Template),
            "block" => Kind::Word(Word::Block),
            _ => Kind::Identifier,
        })
    }

    /// What may follow a name at once. The end of the text may too: it has an error of its own.
    fn at_terminator(&self) -> bool {
        match self.peek() {
            None => true,
            Some(c) => is_space(c) || ".,|:()".contains(c) || self.rest().starts_with("}}"),
        }
    }

    /// Takes what may be a number; whether it is one, the parser finds out.
    fn number(&mut self, start: usize) -> Result<Kind, Fault> {
        self.at = start;
        self.accept("+-");
        let mut digits = "0123456789_";
        if self.accept("0") {
            if self.accept("xX") {
                digits = "0123456789abcdefABCDEF_";
            } else if self.accept("oO") {
                digits = "01234567_";
            } else if self.accept("bB") {
                digits = "01_";
            }
        }
        while self.accept(digits) {}
        if self.accept(".") {
            while self.accept(digits) {}
        }
        if digits.len() == 11 && self.accept("eE") {
            self.accept("+-");
            while self.accept("0123456789_") {}
        }
        if self.peek().is_some_and(|c| is_word_char(c) || c == '+' || c == '-') {
            self.bump();
            let text = &self.text[start..self.at];
            return self.fault(start, format!("bad number syntax: {text:?}"));
        }
        Ok(Kind::Number)
    }
}
