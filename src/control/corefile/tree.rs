//! The tokens of a directive as stanzas: its arguments, and the option lines of its block.
//!
//! This is what CoreDNS's plugins see through their dispenser when they read arguments to the end
//! of the line, laid out once: a block opens with `{` on the directive's line and is not nested; a
//! `{` further in is an option's name (which every plugin refuses); what follows a closing brace on
//! its line is read as one more use.

use super::lexer::Token;
use super::parse::Directive;

/// One line inside a directive's block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionLine {
    /// The option's word.
    pub name: Token,
    /// What follows it on its line.
    pub args: Vec<Token>,
}

/// One use of a directive in a server block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stanza {
    /// The directive's name, variables replaced.
    pub directive: String,
    /// The token that begins the use: the directive's name as written.
    pub name: Token,
    /// What follows it on its line, up to a `{`.
    pub args: Vec<Token>,
    /// The lines of its block.
    pub options: Vec<OptionLine>,
    /// A `{` opened a block, maybe an empty one.
    pub has_block: bool,
    /// The token that ends the use: what is missing is noticed there.
    pub last: Token,
}

/// All stanzas of a server block, in file order.
pub(super) fn stanzas(directives: Vec<Directive>) -> Vec<Stanza> {
    let mut ordered: Vec<(usize, Stanza)> = Vec::new();
    for Directive { name, uses } in directives {
        for (order, tokens) in uses {
            let mut tokens = Tokens { rest: tokens.into_iter().peekable(), last: None };
            while let Some(stanza) = stanza(&name, &mut tokens) {
                ordered.push((order, stanza));
            }
        }
    }
    ordered.sort_by_key(|(order, _)| *order);
    ordered.into_iter().map(|(_, stanza)| stanza).collect()
}

/// Tokens to come, and the last one.
struct Tokens {
    rest: std::iter::Peekable<std::vec::IntoIter<Token>>,
    last: Option<Token>,
}

impl Tokens {
    fn next(&mut self) -> Option<Token> {
        let token = self.rest.next()?;
        self.last = Some(token.clone());
        Some(token)
    }

    /// The next token, if it stands on the line of the last one.
    fn same_line(&mut self) -> Option<&Token> {
        let last = self.last.as_ref()?;
        let (file, line) = (&last.place.file, last.last_line());
        self.rest.peek().filter(|next| next.place.file == *file && next.place.line == line)
    }

    /// Up to the end of the line, or to a `{`.
    fn args(&mut self) -> Vec<Token> {
        let mut args = Vec::new();
        while self.same_line().is_some_and(|next| next.text != "{") {
            args.extend(self.next());
        }
        args
    }
}

fn stanza(directive: &str, tokens: &mut Tokens) -> Option<Stanza> {
    let name = tokens.next()?;
    let args = tokens.args();
    let has_block = tokens.same_line().is_some();
    let mut options = Vec::new();
    if has_block {
        tokens.next();
        while let Some(name) = tokens.next() {
            if name.text == "}" {
                break;
            }
            let mut args = tokens.args();
            // `{ option }`: without arguments between, the brace closes the block; after arguments
            // CoreDNS takes it for one more.
            let closes = matches!(args.as_slice(), [only] if only.text == "}");
            if closes {
                args.clear();
            }
            options.push(OptionLine { name, args });
            if closes {
                break;
            }
        }
    }
    let last = tokens.last.clone().unwrap_or_else(|| name.clone());
    Some(Stanza { directive: directive.to_owned(), name, args, options, has_block, last })
}
