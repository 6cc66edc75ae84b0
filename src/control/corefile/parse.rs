//! Tokens into server blocks and the tokens of their directives, splicing imports on the way.
//!
//! This decides as CoreDNS's parser does, token for token, including where that is surprising: `{`
//! may stand on the line after the keys, a block without keys is read and dropped, and the brace
//! that closes a last directive's options also closes the block. Nothing recurses: imported tokens
//! are pushed onto the stack of those to come, so depth costs nothing, and expansions and tokens
//! are counted against limits.
//!
//! A wrong directive name or import is noted and parsing goes on; an error of braces ends it.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use super::Directives;
use super::env;
use super::error::{CorefileError, Place};
use super::import::Files;
use super::lexer::Token;
use crate::limits::{
    COREFILE_ERRORS_MAX, COREFILE_FILE_EXPANSIONS_MAX, COREFILE_SNIPPET_EXPANSIONS_MAX,
    COREFILE_TOKENS_MAX,
};

/// All uses of a directive in a block: how CoreDNS hands them to the plugin.
pub(super) struct Directive {
    pub(super) name: String,
    /// Each use in file order: its name (as written) and all tokens up to its end, braces included.
    pub(super) uses: Vec<(usize, Vec<Token>)>,
}

/// A server block before its keys are understood.
pub(super) struct RawBlock {
    /// Variables replaced, commas cut off.
    pub(super) keys: Vec<Token>,
    pub(super) directives: Vec<Directive>,
    pub(super) place: Place,
}

/// What a Corefile holds, as far as it could be read.
#[derive(Default)]
pub(super) struct Parsed {
    pub(super) blocks: Vec<RawBlock>,
    pub(super) errors: Vec<CorefileError>,
}

/// Reads `tokens` to the end, or to an error of syntax.
pub(super) fn parse(
    tokens: Vec<Token>,
    files: &mut Files,
    directives: Directives<'_>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Parsed {
    let mut parser = Parser {
        read: tokens.len(),
        to_come: tokens.into_iter().rev().collect(),
        last: None,
        files,
        directives,
        env,
        snippets: BTreeMap::new(),
        snippet_expansions: 0,
        file_expansions: 0,
        errors: Vec::new(),
        uses: 0,
    };
    let mut blocks = Vec::new();
    while !parser.to_come.is_empty() {
        match parser.block() {
            Ok(block) => blocks.extend(block.filter(|block| !block.keys.is_empty())),
            Err(error) => {
                parser.errors.push(error);
                break;
            }
        }
    }
    Parsed { blocks, errors: parser.errors }
}

/// The token read last, as far as the next one's place is compared with it.
struct Last {
    place: Place,
    text: String,
    last_line: u32,
}

struct Parser<'a> {
    /// The next token is at the end.
    to_come: Vec<Token>,
    last: Option<Last>,
    files: &'a mut Files,
    directives: Directives<'a>,
    env: &'a dyn Fn(&str) -> Option<String>,
    snippets: BTreeMap<String, Rc<[Token]>>,
    snippet_expansions: usize,
    file_expansions: usize,
    /// Tokens seen so far, imports counted as often as they are spliced in.
    read: usize,
    errors: Vec<CorefileError>,
    uses: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.to_come.last()
    }

    fn peek_is(&self, text: &str) -> bool {
        self.peek().is_some_and(|token| token.text == text)
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.to_come.pop()?;
        self.seen(&token);
        Some(token)
    }

    fn seen(&mut self, token: &Token) {
        self.last = Some(Last {
            place: token.place.clone(),
            text: token.text.clone(),
            last_line: token.last_line(),
        });
    }

    /// The next token stands on a later line than the one before it, or in another file.
    fn at_new_line(&self) -> bool {
        match (&self.last, self.peek()) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(last), Some(next)) => {
                last.place.file != next.place.file || last.last_line < next.place.line
            }
        }
    }

    /// The token at which an error is blamed: the next one, at the end of the file the last one.
    fn here(&self) -> (Place, String) {
        match (self.peek(), &self.last) {
            (Some(next), _) => (next.place.clone(), next.text.clone()),
            (None, Some(last)) => (last.place.clone(), last.text.clone()),
            (None, None) => (Place { file: Arc::from(""), line: 0, column: 0 }, String::new()),
        }
    }

    fn error(&self, message: impl Into<String>) -> CorefileError {
        CorefileError::parsing(&self.here().0, message)
    }

    /// At the end of the file: the last token was read, another was wanted.
    fn expecting(&self, wanted: &str) -> CorefileError {
        let (place, found) = self.here();
        CorefileError::syntax(&place, &found, wanted)
    }

    /// Notes an error after which parsing can go on; past the limit it cannot.
    fn note(&mut self, error: CorefileError) -> Result<(), CorefileError> {
        if self.errors.len() + 1 >= COREFILE_ERRORS_MAX {
            return Err(error);
        }
        self.errors.push(error);
        Ok(())
    }

    fn replaced(&self, token: &Token) -> Result<String, CorefileError> {
        env::replace(&token.text, self.env).map_err(|env::Endless| {
            let message = "environment variables expand without end";
            CorefileError::parsing(&token.place, message)
        })
    }

    /// One server block, or none: a snippet, or nothing but imports of empty files.
    fn block(&mut self) -> Result<Option<RawBlock>, CorefileError> {
        let place = self.here().0;
        let keys = self.keys()?;
        let mut block = RawBlock { keys, directives: Vec::new(), place };
        if self.peek().is_none() {
            // A file of keys and nothing else.
            return Ok(Some(block));
        }
        if let Some(name) = snippet_name(&block.keys) {
            self.snippet(name)?;
            return Ok(None);
        }
        let braced = self.peek_is("{");
        if braced {
            self.take();
        }
        let closed = self.directives(&mut block)?;
        if braced && !closed {
            // CoreDNS looks at the last token only, which may be the brace of a directive's options.
            if self.last.as_ref().is_none_or(|last| last.text != "}") {
                return Err(self.unclosed());
            }
            self.warn("the server block has no closing brace of its own");
        }
        if block.keys.is_empty() {
            let message = "a server block without keys serves nothing";
            self.files.warnings.push(CorefileError::parsing(&block.place, message));
        }
        Ok(Some(block))
    }

    fn warn(&mut self, message: &str) {
        let warning = self.error(message);
        self.files.warnings.push(warning);
    }

    fn unclosed(&self) -> CorefileError {
        match &self.last {
            Some(last) => CorefileError::syntax(&last.place, &last.text, "}"),
            None => self.expecting("}"),
        }
    }

    /// The keys before a block's brace, or on the first line of a file without braces.
    fn keys(&mut self) -> Result<Vec<Token>, CorefileError> {
        let mut keys = Vec::new();
        let mut another = false;
        loop {
            let text = match self.peek() {
                Some(token) => self.replaced(token)?,
                None => String::new(),
            };
            if text == "import" && self.at_new_line() {
                self.import()?;
                continue;
            }
            if text == "{" {
                if another {
                    let message = "Expected another address but had '{' - check for extra comma";
                    return Err(self.error(message));
                }
                return Ok(keys);
            }
            if let Some(token) = self.take()
                && !text.is_empty()
            {
                let cut = text.strip_suffix(',');
                another = cut.is_some();
                let text = cut.unwrap_or(&text).to_owned();
                keys.push(Token { text, ..token });
            }
            if self.peek().is_none() {
                return if another { Err(self.error("Unexpected EOF")) } else { Ok(keys) };
            }
            if !another && self.at_new_line() {
                return Ok(keys);
            }
        }
    }

    /// Lines of a block up to its closing brace (consumed: true) or the end of the file.
    fn directives(&mut self, block: &mut RawBlock) -> Result<bool, CorefileError> {
        while let Some(token) = self.peek() {
            match token.text.as_str() {
                "}" => {
                    self.take();
                    return Ok(true);
                }
                "import" => self.import()?,
                _ => self.directive(block)?,
            }
        }
        Ok(false)
    }

    /// One use of a directive: its line, and its block if one opens.
    fn directive(&mut self, block: &mut RawBlock) -> Result<(), CorefileError> {
        let Some(token) = self.peek() else { return Ok(()) };
        let name = self.replaced(token)?;
        if let Some(error) = self.directives.fault(token, &name) {
            self.note(error)?;
        }
        let mut tokens: Vec<Token> = self.take().into_iter().collect();
        let mut nesting = 0_usize;
        while let Some(next) = self.peek() {
            let new_line = self.at_new_line();
            match next.text.as_str() {
                "{" => nesting += 1,
                _ if new_line && nesting == 0 => break,
                "}" if nesting > 0 => nesting -= 1,
                "}" => {
                    return Err(self.error("Unexpected '}' because no matching opening brace"));
                }
                "import" if new_line => {
                    self.import()?;
                    continue;
                }
                _ => {}
            }
            let text = self.replaced(next)?;
            if let Some(mut token) = self.to_come.pop() {
                // The lines of the replaced text decide what stands on the same line as the next
                // token.
                if token.text != text {
                    token.written = Some(std::mem::replace(&mut token.text, text).into());
                }
                self.seen(&token);
                tokens.push(token);
            }
        }
        if nesting > 0 {
            return Err(self.error("Unexpected EOF"));
        }
        let order = self.uses;
        self.uses += 1;
        match block.directives.iter_mut().find(|directive| directive.name == name) {
            Some(directive) => directive.uses.push((order, tokens)),
            None => block.directives.push(Directive { name, uses: vec![(order, tokens)] }),
        }
        Ok(())
    }

    /// Keeps the tokens between the braces of a snippet.
    fn snippet(&mut self, name: String) -> Result<(), CorefileError> {
        if self.snippets.contains_key(&name) {
            let message = format!("redeclaration of previously declared snippet {name}");
            return Err(self.error(message));
        }
        if !self.peek_is("{") {
            return Err(self.expecting("{"));
        }
        self.take();
        let mut tokens: Vec<Token> = Vec::new();
        let mut open = 1_usize;
        while let Some(token) = self.take() {
            match token.text.as_str() {
                "}" => open -= 1,
                "{" => open += 1,
                _ => {}
            }
            if open == 0 {
                break;
            }
            tokens.push(token);
        }
        if open > 0 {
            return Err(self.unclosed());
        }
        for (i, pair) in tokens.windows(2).enumerate() {
            let starts_line = i == 0 || {
                let before = &tokens[i - 1].place;
                before.file != pair[0].place.file || before.line != pair[0].place.line
            };
            if pair[0].text == "import" && starts_line && self.replaced(&pair[1])? == name {
                return Err(CorefileError::parsing(&pair[1].place, too_deep("snippet")));
            }
        }
        self.snippets.insert(name, tokens.into());
        Ok(())
    }

    /// Puts what `import PATTERN` names in its place. The next token is `import`.
    fn import(&mut self) -> Result<(), CorefileError> {
        let Some(word) = self.to_come.pop() else { return Ok(()) };
        let same_line = |a: &Token, b: Option<&Token>| {
            b.is_some_and(|b| a.place.file == b.place.file && a.last_line() == b.place.line)
        };
        if !same_line(&word, self.peek()) {
            let message =
                format!("Wrong argument count or unexpected line ending after '{}'", word.text);
            return Err(CorefileError::parsing(&word.place, message));
        }
        let Some(argument) = self.to_come.pop() else { return Ok(()) };
        let pattern = self.replaced(&argument)?;
        let refuse = |message: &str| Err(CorefileError::parsing(&argument.place, message));
        if pattern.is_empty() {
            return refuse("Import requires a non-empty filepath");
        }
        if same_line(&argument, self.peek()) {
            return Err(self.error("Import takes only one argument (glob pattern or file)"));
        }
        if let Some(tokens) = self.snippets.get(&pattern).cloned() {
            self.snippet_expansions += 1;
            if self.snippet_expansions > COREFILE_SNIPPET_EXPANSIONS_MAX {
                return refuse(&too_deep("snippet"));
            }
            return self.splice(&[tokens], &argument.place);
        }
        self.file_expansions += 1;
        if self.file_expansions > COREFILE_FILE_EXPANSIONS_MAX {
            return refuse(&too_deep("file"));
        }
        match self.files.import(&pattern, &argument.place.file) {
            Ok(imported) => {
                if imported.nothing_matched {
                    let message = format!("No files matching import glob pattern: {pattern}");
                    let warning = CorefileError::parsing(&argument.place, message);
                    self.files.warnings.push(warning);
                }
                self.splice(&imported.lexed, &argument.place)
            }
            Err(message) => {
                let names: Vec<&str> = self.snippets.keys().map(String::as_str).collect();
                let error = CorefileError::parsing(&argument.place, message);
                self.note(error.suggesting(&pattern, &names))
            }
        }
    }

    fn splice(&mut self, lists: &[Rc<[Token]>], at: &Place) -> Result<(), CorefileError> {
        self.read += lists.iter().map(|tokens| tokens.len()).sum::<usize>();
        if self.read > COREFILE_TOKENS_MAX {
            let message = format!("imports expand to more than {COREFILE_TOKENS_MAX} tokens");
            return Err(CorefileError::parsing(at, message));
        }
        for tokens in lists.iter().rev() {
            self.to_come.extend(tokens.iter().rev().cloned());
        }
        Ok(())
    }
}

fn too_deep(what: &str) -> String {
    let most = match what {
        "file" => COREFILE_FILE_EXPANSIONS_MAX,
        _ => COREFILE_SNIPPET_EXPANSIONS_MAX,
    };
    format!("maximum {what} import depth ({most}) exceeded")
}

/// `(name)`, alone, makes a block a snippet.
fn snippet_name(keys: &[Token]) -> Option<String> {
    match keys {
        [key] => Some(key.text.strip_prefix('(')?.strip_suffix(')')?.to_owned()),
        _ => None,
    }
}
