//! Bytes of a Corefile into tokens, with exactly CoreDNS's rules.
//!
//! Tokens end at Unicode white space. A `"` at the start of a token opens a quoted one, which may
//! span lines and in which only `\"` is an escape. `#` outside quotes starts a comment, to the end
//! of the line; a `#` glued to the end of a word starts one that ends at the next blank (`a#b c` is
//! `a` and `c`: so CoreDNS reads it). `\r` is dropped wherever it stands outside quotes, a byte
//! order mark at the start of a file, and every octet that is not UTF-8 becomes U+FFFD. Costs one
//! pass and one allocation a token.

use std::borrow::Cow;
use std::iter::Peekable;
use std::str::Chars;
use std::sync::Arc;

use super::error::Place;

/// One word of a Corefile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The word, without quotes and escapes; environment variables are replaced by the parser.
    pub text: String,
    /// The word as it is written, if a variable has been replaced in it.
    pub written: Option<Box<str>>,
    /// Where it begins (at its quote, if it has one).
    pub place: Place,
    /// It stood in quotes. CoreDNS makes no difference between `"{"` and `{`, so neither does the
    /// parser.
    pub quoted: bool,
}

impl Token {
    /// The line on which the token ends, as CoreDNS reckons it: by the line ends in its text.
    pub(super) fn last_line(&self) -> u32 {
        let breaks = self.text.bytes().filter(|&b| b == b'\n').count();
        self.place.line.saturating_add(u32::try_from(breaks).unwrap_or(u32::MAX))
    }
}

/// A comment which is not what its author means: `a#b c` leaves `c` standing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GluedComment {
    /// The token that stands although it looks commented out.
    pub(super) place: Place,
}

/// What a file holds: its tokens, and what looks like a mistake.
pub(super) struct Lexed {
    pub(super) tokens: Vec<Token>,
    pub(super) glued: Vec<GluedComment>,
}

/// The text of a file: its octets as UTF-8, one U+FFFD for each octet that is not.
pub(super) fn decode(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    Cow::Owned(text)
}

/// All tokens of `text`. Never fails: a quote that is not closed ends with the file.
pub(super) fn lex(text: &str, file: &Arc<str>) -> Lexed {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lexer = Lexer { chars: text.chars().peekable(), file, line: 1, column: 1 };
    let mut lexed = Lexed { tokens: Vec::new(), glued: Vec::new() };
    let mut glued_line = None;
    while let Some((token, glued)) = lexer.next_token() {
        if glued_line == Some(token.place.line) {
            lexed.glued.push(GluedComment { place: token.place.clone() });
        }
        glued_line = glued.then_some(token.place.line);
        lexed.tokens.push(token);
    }
    lexed
}

struct Lexer<'t> {
    chars: Peekable<Chars<'t>>,
    file: &'t Arc<str>,
    line: u32,
    column: u32,
}

impl Lexer<'_> {
    fn advance(&mut self) -> Option<char> {
        let c = self.chars.next()?;
        if c == '\n' {
            self.line = self.line.saturating_add(1);
            self.column = 1;
        } else {
            self.column = self.column.saturating_add(1);
        }
        Some(c)
    }

    fn place(&self) -> Place {
        Place { file: self.file.clone(), line: self.line, column: self.column }
    }

    /// The next token, and whether a comment is glued to its end.
    fn next_token(&mut self) -> Option<(Token, bool)> {
        self.skip_blanks();
        let place = self.place();
        if *self.chars.peek()? == '"' {
            self.advance();
            let text = self.quoted()?;
            return Some((Token { text, written: None, place, quoted: true }, false));
        }
        let (text, glued) = self.word();
        Some((Token { text, written: None, place, quoted: false }, glued))
    }

    /// White space and comments.
    fn skip_blanks(&mut self) {
        let mut comment = false;
        while let Some(&c) = self.chars.peek() {
            if c == '\n' {
                comment = false;
            } else if c == '#' {
                comment = true;
            } else if !comment && !c.is_whitespace() {
                return;
            }
            self.advance();
        }
    }

    /// Up to the closing quote. None at the end of the file, if there is nothing in between.
    fn quoted(&mut self) -> Option<String> {
        let mut text = String::new();
        let mut escaped = false;
        while let Some(c) = self.advance() {
            match c {
                '\\' if !escaped => {
                    escaped = true;
                    continue;
                }
                '"' if !escaped => return Some(text),
                '"' => {}
                _ if escaped => text.push('\\'),
                _ => {}
            }
            text.push(c);
            escaped = false;
        }
        (!text.is_empty()).then_some(text)
    }

    /// Up to white space. The blank itself is consumed, as CoreDNS does, which matters to nothing
    /// but a glued comment.
    fn word(&mut self) -> (String, bool) {
        let mut text = String::new();
        let mut comment = false;
        while let Some(c) = self.chars.peek().copied() {
            if c.is_whitespace() && c != '\r' {
                // A line end ends the comment as well, then nothing is glued.
                comment &= c != '\n';
                self.advance();
                break;
            }
            self.advance();
            comment |= c == '#';
            if !comment && c != '\r' {
                text.push(c);
            }
        }
        (text, comment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(text: &str) -> Vec<(String, u32, u32)> {
        lex(text, &"Corefile".into())
            .tokens
            .into_iter()
            .map(|t| (t.text, t.place.line, t.place.column))
            .collect()
    }

    fn texts(text: &str) -> Vec<String> {
        words(text).into_iter().map(|(text, ..)| text).collect()
    }

    #[test]
    fn words_lines_and_columns() {
        assert_eq!(
            words(". {\n  cache\t30 {\r\n  }\n}"),
            [
                (".".into(), 1, 1),
                ("{".into(), 1, 3),
                ("cache".into(), 2, 3),
                ("30".into(), 2, 9),
                ("{".into(), 2, 12),
                ("}".into(), 3, 3),
                ("}".into(), 4, 1),
            ]
        );
    }

    #[test]
    fn quotes() {
        assert_eq!(texts(r#"a "b c" "d\"e" "f\n\\g" """#), ["a", "b c", "d\"e", r"f\n\\g", ""]);
        assert_eq!(texts("a\"b c\""), ["a\"b", "c\""]);
        assert_eq!(texts("\"a\"b"), ["a", "b"]);
        assert_eq!(texts("`a b`"), ["`a", "b`"]);
        assert_eq!(
            words("\"a\nb\" c\nd"),
            [("a\nb".into(), 1, 1), ("c".into(), 2, 4), ("d".into(), 3, 1)]
        );
        assert_eq!(texts("\"never closed\nx"), ["never closed\nx"]);
        assert!(texts("\"").is_empty());
        assert_eq!(texts("\"a\r\nb\""), ["a\r\nb"]);
    }

    #[test]
    fn comments() {
        assert_eq!(texts("# one\na # two \" three\nb"), ["a", "b"]);
        assert_eq!(texts("a#b\nc"), ["a", "c"]);
        assert_eq!(texts("\"#\" b"), ["#", "b"]);
        let lexed = lex("a#b c\nd#e\nf", &"Corefile".into());
        let texts: Vec<_> = lexed.tokens.iter().map(|t| &*t.text).collect();
        assert_eq!(texts, ["a", "c", "d", "f"]);
        assert_eq!(lexed.glued.len(), 1);
        assert_eq!(lexed.glued[0].place.column, 5);
    }

    #[test]
    fn marks_blanks_and_octets() {
        assert_eq!(words("\u{feff}a"), [("a".into(), 1, 1)]);
        assert_eq!(texts("a\u{feff}"), ["a\u{feff}"]);
        assert_eq!(texts("a\u{a0}b\u{2003}c\u{85}d\u{b}e"), ["a", "b", "c", "d", "e"]);
        assert_eq!(texts("a\rb"), ["ab"]);
        assert_eq!(decode(b"a\xff\xfeb\xe2\x82"), "a\u{fffd}\u{fffd}b\u{fffd}\u{fffd}");
    }

    proptest! {
        #[test]
        fn places_point_at_the_text(text in "[a-c\"\\\\# \t\r\n{}é\u{feff}]{0,80}") {
            let plain = text.strip_prefix('\u{feff}').unwrap_or(&text);
            let lines: Vec<Vec<char>> = plain.split('\n').map(|l| l.chars().collect()).collect();
            for token in lex(&text, &"Corefile".into()).tokens {
                let line = &lines[token.place.line as usize - 1];
                let start = &line[token.place.column as usize - 1..];
                if token.quoted {
                    prop_assert_eq!(start[0], '"');
                } else {
                    let visible = start.iter().filter(|&&c| c != '\r');
                    let seen: String = visible.take(token.text.chars().count()).collect();
                    prop_assert_eq!(seen, token.text);
                }
            }
        }

        #[test]
        fn any_octets_lex(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let text = decode(&bytes);
            let lexed = lex(&text, &"Corefile".into());
            prop_assert!(lexed.tokens.len() <= bytes.len());
        }
    }
}
