//! The words of a zone file (RFC 1035 section 5.1): blanks, comments, parentheses, quotes, escapes.
//!
//! Works on a whole file in memory and hands out slices of it; nothing is copied and nothing is
//! decoded here, so a backslash is still in a word (`unescape` and the name parser take it out).
//! Bytes above 127 are ordinary characters. Cost: one pass, one table look-up an octet.

use std::fmt;

/// What is wrong with a zone file, and where. `file` is added by whoever knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What was wrong, in the words of the DNS libraries that operators know.
    pub what: String,
    /// The word at which it was noticed, as it stands in the file.
    pub token: String,
    /// Line, from 1.
    pub line: u32,
    /// Column of the word's first octet, from 1.
    pub column: u32,
}

impl Fault {
    pub(super) fn new(what: impl Into<String>, word: &Word<'_>) -> Self {
        let token = String::from_utf8_lossy(word.text).into_owned();
        Fault { what: what.into(), token, line: word.line, column: word.column }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { what, token, line, column } = self;
        write!(f, "dns: {what}: \"{}\" at line: {line}:{column}", token.escape_default())
    }
}

/// A word of a line: bare, or what stood between quotes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Word<'a> {
    /// The octets as they stand in the file, escapes included, quotes left out.
    pub text: &'a [u8],
    /// Whether it stood in quotes.
    pub quoted: bool,
    /// Line, from 1.
    pub line: u32,
    /// Column of the first octet, from 1.
    pub column: u32,
}

impl Word<'_> {
    /// Whether the bare word is this one, without regard to case.
    pub fn is(&self, other: &str) -> bool {
        !self.quoted && self.text.eq_ignore_ascii_case(other.as_bytes())
    }
}

/// What comes next in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token<'a> {
    /// A word.
    Word(Word<'a>),
    /// The end of an entry: a newline outside of parentheses and quotes, or the end of the file.
    End,
}

/// The scanner itself: a position in the text.
#[derive(Debug, Clone)]
pub struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    line: u32,
    line_at: usize,
    depth: u32,
    ended: bool,
}

/// Octets that end a bare word.
const ENDS_WORD: [bool; 256] = {
    let mut table = [false; 256];
    let ends = b" \t\r\n;()\"";
    let mut i = 0;
    while i < ends.len() {
        table[ends[i] as usize] = true;
        i += 1;
    }
    table
};

impl<'a> Lexer<'a> {
    /// Starts at the beginning of `text`, which is called line `line` in faults.
    pub fn new(text: &'a [u8], line: u32) -> Self {
        Lexer { text, at: 0, line, line_at: 0, depth: 0, ended: false }
    }

    /// Begins the next entry, once the last one has ended.
    pub fn begin(&mut self) {
        self.ended = false;
    }

    /// Whether everything was read.
    pub fn is_done(&self) -> bool {
        self.at >= self.text.len()
    }

    /// Whether the next octet is a blank. At the start of a line that means "same owner".
    pub fn at_blank(&self) -> bool {
        matches!(self.text.get(self.at), Some(b' ' | b'\t'))
    }

    /// Whether the next octet opens a quoted string (`key="value"`).
    pub fn at_quote(&self) -> bool {
        self.text.get(self.at) == Some(&b'"')
    }

    /// An empty word at the current place, for faults that have no word to show.
    pub fn here(&self) -> Word<'a> {
        let column = (self.at.saturating_sub(self.line_at) + 1) as u32;
        Word { text: &[], quoted: false, line: self.line, column }
    }

    /// The next word of this entry, or its end; the end again and again until `begin`.
    pub fn next(&mut self) -> Result<Token<'a>, Fault> {
        while !self.ended {
            let Some(&octet) = self.text.get(self.at) else {
                if self.depth > 0 {
                    return Err(Fault::new("unbalanced brace", &self.here()));
                }
                break;
            };
            match octet {
                b' ' | b'\t' | b'\r' => self.at += 1,
                b'\n' => {
                    self.newline();
                    self.ended = self.depth == 0;
                }
                b';' => self.skip_comment(),
                b'(' => {
                    self.depth += 1;
                    self.at += 1;
                }
                b')' => {
                    if self.depth == 0 {
                        return Err(Fault::new("extra closing brace", &self.here()));
                    }
                    self.depth -= 1;
                    self.at += 1;
                }
                b'"' => return self.quoted(),
                _ => return Ok(Token::Word(self.bare())),
            }
        }
        self.ended = true;
        Ok(Token::End)
    }

    /// The next word, which the entry must have; `what` is the fault if it ends instead.
    pub fn word(&mut self, what: &str) -> Result<Word<'a>, Fault> {
        let here = self.here();
        match self.next()? {
            Token::Word(word) => Ok(word),
            Token::End => Err(Fault::new(what, &here)),
        }
    }

    /// The entry must end here.
    pub fn end(&mut self) -> Result<(), Fault> {
        match self.next()? {
            Token::End => Ok(()),
            Token::Word(word) => Err(Fault::new("garbage after rdata", &word)),
        }
    }

    /// The rest of the line as it stands, without a comment and without the newline.
    pub fn rest_of_line(&mut self) -> Word<'a> {
        while self.at_blank() {
            self.at += 1;
        }
        let mut word = self.here();
        let start = self.at;
        let mut quoted = false;
        while let Some(&octet) = self.text.get(self.at) {
            match octet {
                b'\n' => break,
                b';' if !quoted => break,
                b'\\' => self.at += 1,
                b'"' => quoted = !quoted,
                _ => {}
            }
            self.at += 1;
        }
        self.at = self.at.min(self.text.len());
        word.text = self.text[start..self.at].trim_ascii_end();
        self.skip_comment();
        if self.at < self.text.len() {
            self.newline();
        }
        self.ended = true;
        word
    }

    fn newline(&mut self) {
        self.at += 1;
        self.line += 1;
        self.line_at = self.at;
    }

    fn skip_comment(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.iter().position(|&o| o == b'\n').unwrap_or(rest.len());
    }

    fn bare(&mut self) -> Word<'a> {
        let mut word = self.here();
        let start = self.at;
        while let Some(&octet) = self.text.get(self.at) {
            if ENDS_WORD[octet as usize] {
                break;
            }
            // An escaped blank, quote or semicolon is part of the word; a newline never is.
            let skips = octet == b'\\' && self.text.get(self.at + 1).is_some_and(|&o| o != b'\n');
            self.at += if skips { 2 } else { 1 };
        }
        word.text = &self.text[start..self.at];
        word
    }

    fn quoted(&mut self) -> Result<Token<'a>, Fault> {
        let mut word = self.here();
        word.quoted = true;
        self.at += 1;
        let start = self.at;
        loop {
            match self.text.get(self.at) {
                None => {
                    word.text = &self.text[start..self.text.len().min(start + 32)];
                    return Err(Fault::new("unterminated quoted string", &word));
                }
                Some(b'"') => {
                    word.text = &self.text[start..self.at];
                    self.at += 1;
                    return Ok(Token::Word(word));
                }
                Some(b'\\') if self.text.get(self.at + 1).is_some_and(|&o| o != b'\n') => {
                    self.at += 2;
                }
                Some(b'\n') => self.newline(),
                Some(_) => self.at += 1,
            }
        }
    }
}

/// One octet of a word whose backslash was just seen: `\DDD` or `\X` (RFC 1035 section 5.1).
/// Gives the octet and how many octets of `rest` (what follows the backslash) it took.
pub fn escaped(rest: &[u8]) -> Option<(u8, usize)> {
    match rest {
        [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', ..] => {
            let digit = |d: &u8| u16::from(d - b'0');
            let value = digit(a) * 100 + digit(b) * 10 + digit(c);
            u8::try_from(value).ok().map(|octet| (octet, 3))
        }
        [b'0'..=b'9', ..] | [] => None,
        [octet, ..] => Some((*octet, 1)),
    }
}

/// The octets a word stands for, appended to `out`; None on a bad escape.
pub fn unescape(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut at = 0;
    while let Some(&octet) = text.get(at) {
        at += 1;
        if octet == b'\\' {
            let (octet, used) = escaped(&text[at..])?;
            out.push(octet);
            at += used;
        } else {
            out.push(octet);
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Result<Vec<Vec<String>>, Fault> {
        let mut lexer = Lexer::new(text.as_bytes(), 1);
        let mut lines = Vec::new();
        while !lexer.is_done() {
            let mut line = Vec::new();
            lexer.begin();
            while let Token::Word(word) = lexer.next()? {
                line.push(String::from_utf8_lossy(word.text).into_owned());
            }
            lines.push(line);
        }
        Ok(lines)
    }

    #[test]
    fn parentheses_join_lines_and_comments_vanish() {
        let text = "a ( b ; one )\n c) d ; x\n\"q ;(\" e\\;f\n";
        let want = [vec!["a", "b", "c", "d"], vec!["q ;(", "e\\;f"]];
        assert_eq!(words(text).unwrap(), want);
    }

    #[test]
    fn faults_name_the_place() {
        assert_eq!(words("a\nb )\n").unwrap_err().what, "extra closing brace");
        let fault = words("a (\nb\n").unwrap_err();
        assert_eq!((fault.what.as_str(), fault.line), ("unbalanced brace", 3));
        let fault = words("x\n  \"abc").unwrap_err();
        assert_eq!((fault.line, fault.column), (2, 3));
        assert!(fault.to_string().ends_with("\"abc\" at line: 2:3"));
    }

    #[test]
    fn escapes_are_octets() {
        let mut out = Vec::new();
        unescape(br#"a\032\"\255b"#, &mut out).unwrap();
        assert_eq!(out, b"a \"\xffb");
        assert!(unescape(br"\256", &mut out).is_none());
        assert!(unescape(br"\25", &mut out).is_none());
        assert!(unescape(br"\", &mut out).is_none());
    }

    #[test]
    fn rest_of_line_keeps_the_template() {
        let mut lexer = Lexer::new(b"  1-2 a$ TXT \"x;$\" ; note\nnext", 1);
        assert_eq!(lexer.rest_of_line().text, b"1-2 a$ TXT \"x;$\"");
        assert_eq!(lexer.next(), Ok(Token::End));
        lexer.begin();
        assert_eq!(lexer.word("").unwrap().text, b"next");
    }
}
