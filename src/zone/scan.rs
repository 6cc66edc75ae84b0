//! Reads zone files (RFC 1035 section 5): entries, `$ORIGIN`, `$TTL` (RFC 2308 section 4),
//! `$INCLUDE` and `$GENERATE`.
//!
//! Every record is handed to a sink as octets, owner in lower case. Files are read whole; nothing is
//! allocated for a record. Records of a class other than IN are passed over.
//! Faults carry file, line and column, in the words that CoreDNS's parser uses.

use super::generate::Template;
use super::lex::{Fault, Lexer, Token, Word};
use super::rdata::{self, Case};
use crate::limits::ZONE_INCLUDE_DEPTH_MAX;
use std::fmt;
use std::path::{Path, PathBuf};

/// One record as the file gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Owner name in wire form, lower case.
    pub owner: &'a [u8],
    /// Type.
    pub rtype: u16,
    /// TTL in seconds.
    pub ttl: u32,
    /// RDATA, uncompressed.
    pub rdata: &'a [u8],
}

/// Takes the records; an error text stops the scan at that place.
pub type Sink<'s> = dyn FnMut(&Entry<'_>) -> Result<(), &'static str> + 's;

/// Gives what a file that is included holds.
pub type Opener<'o> = dyn FnMut(&Path) -> std::io::Result<Vec<u8>> + 'o;

/// Why a zone file could not be read.
#[derive(Debug)]
pub enum ScanError {
    /// The file could not be opened or read.
    Read(PathBuf, std::io::Error),
    /// Something in the file is wrong.
    Fault(PathBuf, Fault),
}

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScanError::Read(path, error) => {
                write!(f, "open {}: {}", path.display(), reason(error))
            }
            ScanError::Fault(path, fault) => write!(f, "{}: {fault}", path.display()),
        }
    }
}

impl std::error::Error for ScanError {}

/// The system's words for an error, as Go prints them.
pub(super) fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map(|c| c.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// Reads the file at `path`, whose names are relative to `origin` (wire form).
pub fn scan_file(path: &Path, origin: &[u8], sink: &mut Sink<'_>) -> Result<(), ScanError> {
    let text = std::fs::read(path).map_err(|error| ScanError::Read(path.to_owned(), error))?;
    scan(&text, path, origin, sink)
}

/// Reads `text`; `path` is what faults call it, and what `$INCLUDE` is relative to.
pub fn scan(text: &[u8], path: &Path, origin: &[u8], sink: &mut Sink<'_>) -> Result<(), ScanError> {
    scan_with(text, path, origin, &mut |path| std::fs::read(path), sink)
}

/// As [`scan`], with the files that are included from elsewhere than the disk.
pub fn scan_with(
    text: &[u8],
    path: &Path,
    origin: &[u8],
    open: &mut Opener<'_>,
    sink: &mut Sink<'_>,
) -> Result<(), ScanError> {
    let mut scanner = Scanner { open, sink, owner: Vec::new(), rdata: Vec::new() };
    let mut scope = Scope {
        path: path.to_owned(),
        origin: origin.to_ascii_lowercase(),
        ttl: None,
        ttl_is_fixed: false,
        depth: 0,
        generated: false,
    };
    scanner.run(text, 1, &mut scope)
}

/// What a file (or a `$GENERATE`) may change for its own lines only.
struct Scope {
    path: PathBuf,
    origin: Vec<u8>,
    /// TTL of records that state none.
    ttl: Option<u32>,
    /// Whether it came from `$TTL`: then the TTLs of records do not change it.
    ttl_is_fixed: bool,
    depth: usize,
    generated: bool,
}

struct Scanner<'s, 'k, 'o> {
    open: &'s mut Opener<'o>,
    sink: &'s mut Sink<'k>,
    owner: Vec<u8>,
    rdata: Vec<u8>,
}

const IN: u16 = 1;

impl Scanner<'_, '_, '_> {
    fn run(&mut self, text: &[u8], line: u32, scope: &mut Scope) -> Result<(), ScanError> {
        let mut lexer = Lexer::new(text, line);
        while !lexer.is_done() {
            lexer.begin();
            let blank = lexer.at_blank();
            let done = match lexer.next() {
                Ok(Token::End) => Ok(()),
                Ok(Token::Word(word)) if !blank && word.text.first() == Some(&b'$') => {
                    self.directive(&word, &mut lexer, scope)?
                }
                Ok(Token::Word(word)) => self.record(word, blank, &mut lexer, scope),
                Err(fault) => Err(fault),
            };
            done.map_err(|fault| ScanError::Fault(scope.path.clone(), fault))?;
        }
        Ok(())
    }

    /// A line that begins with `$`. The inner result is a fault in this file, the outer one is in
    /// another file.
    fn directive(
        &mut self,
        word: &Word<'_>,
        lexer: &mut Lexer<'_>,
        scope: &mut Scope,
    ) -> Result<Result<(), Fault>, ScanError> {
        if word.is("$INCLUDE") {
            return self.include(lexer, scope);
        }
        if word.is("$GENERATE") {
            return self.generate(word, lexer, scope);
        }
        Ok(if word.is("$TTL") {
            default_ttl(lexer, scope)
        } else if word.is("$ORIGIN") {
            new_origin(lexer, scope)
        } else {
            Err(Fault::new("unknown directive", word))
        })
    }

    /// `$INCLUDE file [origin]`: the file has a scope of its own and starts without an owner.
    fn include(
        &mut self,
        lexer: &mut Lexer<'_>,
        scope: &Scope,
    ) -> Result<Result<(), Fault>, ScanError> {
        let (word, origin) = match include_words(lexer, scope) {
            Ok(words) => words,
            Err(fault) => return Ok(Err(fault)),
        };
        let name = String::from_utf8_lossy(word.text).into_owned();
        let path = scope.path.parent().unwrap_or(Path::new("")).join(&name);
        let text = match (self.open)(&path) {
            Ok(text) => text,
            Err(error) => {
                let (path, reason) = (path.display(), reason(&error));
                let what = format!("failed to open `{name}': open {path}: {reason}");
                return Ok(Err(Fault::new(what, &word)));
            }
        };
        let mut inner = Scope {
            path,
            origin,
            ttl: scope.ttl,
            ttl_is_fixed: scope.ttl_is_fixed,
            depth: scope.depth + 1,
            generated: false,
        };
        let owner = std::mem::take(&mut self.owner);
        self.run(&text, 1, &mut inner)?;
        self.owner = owner;
        Ok(Ok(()))
    }

    /// `$GENERATE range template`: the template's lines are read like a file of their own, whose
    /// default TTL is an hour (as in CoreDNS; no standard says anything).
    fn generate(
        &mut self,
        word: &Word<'_>,
        lexer: &mut Lexer<'_>,
        scope: &Scope,
    ) -> Result<Result<(), Fault>, ScanError> {
        if scope.generated {
            return Ok(Err(Fault::new("nested $GENERATE directive not allowed", word)));
        }
        let template = match Template::parse(lexer) {
            Ok(template) => template,
            Err(fault) => return Ok(Err(fault)),
        };
        let mut inner = Scope {
            path: scope.path.clone(),
            origin: scope.origin.clone(),
            ttl: Some(3600),
            ttl_is_fixed: false,
            depth: scope.depth,
            generated: true,
        };
        let owner = std::mem::take(&mut self.owner);
        let mut text = Vec::new();
        for step in template.steps() {
            text.clear();
            if let Err(what) = template.expand(step, &mut text) {
                return Ok(Err(Fault::new(what, word)));
            }
            self.run(&text, word.line, &mut inner)?;
        }
        self.owner = owner;
        Ok(Ok(()))
    }

    fn record<'a>(
        &mut self,
        first: Word<'a>,
        blank: bool,
        lexer: &mut Lexer<'a>,
        scope: &mut Scope,
    ) -> Result<(), Fault> {
        let mut word = first;
        if !blank {
            self.owner.clear();
            rdata::name(word.text, &scope.origin, true, &mut self.owner)
                .ok_or_else(|| Fault::new("bad owner name", &word))?;
            word = lexer.word("unexpected newline")?;
        } else if self.owner.is_empty() {
            self.owner.extend_from_slice(&scope.origin);
        }
        let place = word;
        let (ttl, class, rtype) = head(word, lexer)?;
        if let Some(stated) = ttl.filter(|_| !scope.ttl_is_fixed) {
            scope.ttl = Some(stated);
        }
        let ttl = ttl.or(scope.ttl);
        if ttl.is_none() && class.is_none() && !blank {
            return Err(Fault::new("missing TTL with no previous value", &word));
        }
        self.rdata.clear();
        rdata::parse(lexer, rtype, &scope.origin, Case::Lower, &mut self.rdata)?;
        if self.rdata.len() > usize::from(u16::MAX) {
            return Err(Fault::new("rdata is longer than 65535 octets", &word));
        }
        if class.is_some_and(|class| class != IN) {
            return Ok(());
        }
        let ttl = ttl.unwrap_or(0);
        let entry = Entry { owner: &self.owner, rtype, ttl, rdata: &self.rdata };
        (self.sink)(&entry).map_err(|what| Fault::new(what, &place))
    }
}

/// Reads what stands between owner and RDATA, whose first word is `word`: TTL and class in any order,
/// both perhaps missing, and the type.
pub(super) fn head<'a>(
    mut word: Word<'a>,
    lexer: &mut Lexer<'a>,
) -> Result<(Option<u32>, Option<u16>, u16), Fault> {
    let (mut ttl, mut class) = (None, None);
    loop {
        if ttl.is_none() && word.text.first().is_some_and(u8::is_ascii_digit) {
            ttl = Some(rdata::ttl(word.text).ok_or_else(|| Fault::new("not a TTL", &word))?);
        } else if let (None, Some(found)) = (class, parse_class(word.text)) {
            class = Some(found);
        } else if let Some(rtype) = rdata::parse_type(word.text) {
            return Ok((ttl, class, rtype));
        } else {
            return Err(Fault::new(expected(ttl.is_some(), class.is_some()), &word));
        }
        word = lexer.word("unexpected newline")?;
    }
}

/// What a record may still have between its owner and its RDATA.
fn expected(ttl: bool, class: bool) -> &'static str {
    match (ttl, class) {
        (false, false) => "expecting RR type, TTL or class, not this...",
        (true, false) => "expecting RR type or class, not this...",
        (false, true) => "expecting RR type or TTL, not this...",
        (true, true) => "unknown RR type",
    }
}

fn default_ttl(lexer: &mut Lexer<'_>, scope: &mut Scope) -> Result<(), Fault> {
    let what = "expecting $TTL value, not this...";
    let word = lexer.word(what)?;
    lexer.end()?;
    scope.ttl = Some(rdata::ttl(word.text).ok_or_else(|| Fault::new(what, &word))?);
    scope.ttl_is_fixed = true;
    Ok(())
}

fn new_origin(lexer: &mut Lexer<'_>, scope: &mut Scope) -> Result<(), Fault> {
    let word = lexer.word("expecting $ORIGIN value, not this...")?;
    lexer.end()?;
    scope.origin = absolute(&word, scope)?;
    Ok(())
}

fn absolute(word: &Word<'_>, scope: &Scope) -> Result<Vec<u8>, Fault> {
    let mut name = Vec::new();
    rdata::name(word.text, &scope.origin, true, &mut name)
        .ok_or_else(|| Fault::new("bad origin name", word))?;
    Ok(name)
}

fn include_words<'a>(lexer: &mut Lexer<'a>, scope: &Scope) -> Result<(Word<'a>, Vec<u8>), Fault> {
    let word = lexer.word("expecting $INCLUDE value, not this...")?;
    let origin = match lexer.next()? {
        Token::End => scope.origin.clone(),
        Token::Word(origin) => {
            let origin = absolute(&origin, scope)?;
            lexer.end()?;
            origin
        }
    };
    if scope.depth >= ZONE_INCLUDE_DEPTH_MAX {
        return Err(Fault::new("too deeply nested $INCLUDE", &word));
    }
    Ok((word, origin))
}

/// A class by its mnemonic or as `CLASS123`, in any case.
fn parse_class(text: &[u8]) -> Option<u16> {
    const CLASSES: [(&str, u16); 6] =
        [("IN", 1), ("CS", 2), ("CH", 3), ("HS", 4), ("NONE", 254), ("ANY", 255)];
    let named = CLASSES.iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(text));
    named.map(|&(_, class)| class).or_else(|| {
        let (word, digits) = text.split_at_checked(5)?;
        word.eq_ignore_ascii_case(b"CLASS").then_some(())?;
        rdata::number(digits, 65_535).map(|class| class as u16)
    })
}
