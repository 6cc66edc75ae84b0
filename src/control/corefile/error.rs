//! What is wrong with a Corefile, where, and what was probably meant.
//!
//! An error prints in three ways: one line with the place (`Display`), CoreDNS's own line
//! (`coredns_line`, for tools that match it), and a report with the source line and a caret
//! (`report`). The message always holds CoreDNS's short words for the fault, since those are what
//! operators search for. All three escape control characters: text of a Corefile must not steer the
//! terminal that shows it.

use std::fmt::{self, Write as _};
use std::sync::Arc;

/// Where a token begins. Lines and columns count from 1; columns count characters, not octets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The path as the operator gave it; the absolute path for an imported file.
    pub file: Arc<str>,
    /// Line of the file.
    pub line: u32,
    /// Character of the line.
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Which of CoreDNS's three line shapes an error has in `coredns_line`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// `MESSAGE`, or `plugin/NAME: MESSAGE`.
    #[default]
    Plain,
    /// `FILE:LINE - Error during parsing: MESSAGE`, after `plugin/NAME: ` if it is a plugin's.
    Parsing,
    /// `FILE:LINE - Syntax error: MESSAGE`.
    Syntax,
    /// `error inspecting server blocks: MESSAGE`: a fault of a key.
    Inspecting,
}

/// One fault of a Corefile, to be blamed on its author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorefileError {
    /// The token at fault; none if the fault is of no single place (a file that cannot be read).
    pub place: Option<Place>,
    /// The plugin that refused.
    pub plugin: Option<&'static str>,
    /// One sentence without a final stop, holding CoreDNS's words.
    pub message: String,
    /// The word that was probably meant.
    pub suggestion: Option<String>,
    /// How CoreDNS would frame the message.
    pub shape: Shape,
}

impl CorefileError {
    /// An error that CoreDNS prints without its place.
    pub fn plain(place: Option<Place>, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { place, plugin: None, message, suggestion: None, shape: Shape::Plain }
    }

    /// An error that CoreDNS prints as `Error during parsing`.
    pub fn parsing(place: &Place, message: impl Into<String>) -> Self {
        Self { shape: Shape::Parsing, ..Self::plain(Some(place.clone()), message) }
    }

    /// `Unexpected token 'FOUND', expecting 'WANTED'`.
    pub(super) fn syntax(place: &Place, found: &str, wanted: &str) -> Self {
        let message = format!("Unexpected token '{found}', expecting '{wanted}'");
        Self { shape: Shape::Syntax, ..Self::plain(Some(place.clone()), message) }
    }

    /// The same error, blamed by `plugin`.
    pub fn of(mut self, plugin: &'static str) -> Self {
        self.plugin = Some(plugin);
        self
    }

    /// The same error with the word of `known` that comes closest to `word`, if one comes close.
    pub fn suggesting(mut self, word: &str, known: &[&str]) -> Self {
        self.suggestion = closest(word, known).map(str::to_owned);
        self
    }

    /// The line that CoreDNS would print, without place columns and suggestions.
    pub fn coredns_line(&self) -> String {
        let mut line = String::new();
        if let Some(plugin) = self.plugin {
            let _ = write!(line, "plugin/{plugin}: ");
        }
        let frame = match self.shape {
            Shape::Plain => None,
            Shape::Inspecting => {
                line.push_str("error inspecting server blocks: ");
                None
            }
            Shape::Parsing => Some("Error during parsing"),
            Shape::Syntax => Some("Syntax error"),
        };
        if let (Some(frame), Some(place)) = (frame, &self.place) {
            let _ = write!(line, "{}:{} - {frame}: ", place.file, place.line);
        }
        line.push_str(&self.message);
        printable(&line)
    }

    /// Several lines: the message, the place, the source line with a caret below the token, the
    /// suggestion.
    pub fn report(&self, sources: &Sources) -> String {
        let mut out = String::from("error: ");
        if let Some(plugin) = self.plugin {
            let _ = write!(out, "{plugin}: ");
        }
        let _ = writeln!(out, "{}", printable(&self.message));
        if let Some(place) = &self.place {
            let number = place.line.to_string();
            let margin = " ".repeat(number.len());
            let _ = writeln!(out, "{margin}--> {}", printable(&place.to_string()));
            if let Some(text) = sources.line(place) {
                let (lead, carets) = underline(text, place.column);
                let _ = writeln!(out, "{margin} |");
                let _ = writeln!(out, "{number} | {}", shown(text));
                let _ = writeln!(out, "{margin} | {lead}{carets}");
            }
        }
        if let Some(word) = &self.suggestion {
            let _ = writeln!(out, "  help: did you mean \"{word}\"?");
        }
        out
    }
}

impl fmt::Display for CorefileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{}: ", printable(&place.to_string()))?;
        }
        if let Some(plugin) = self.plugin {
            write!(f, "{plugin}: ")?;
        }
        f.write_str(&printable(&self.message))?;
        match &self.suggestion {
            Some(word) => write!(f, " (did you mean \"{word}\"?)"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for CorefileError {}

/// The text of every file that took part, for reports.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<(Arc<str>, Arc<str>)>,
}

impl Sources {
    /// Keeps `text` as what `file` holds.
    pub(super) fn add(&mut self, file: Arc<str>, text: Arc<str>) {
        self.files.push((file, text));
    }

    /// Names of the files, the Corefile itself first.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|(file, _)| &**file)
    }

    /// The line that `place` lies on, without its line end.
    pub fn line(&self, place: &Place) -> Option<&str> {
        let (_, text) = self.files.iter().find(|(file, _)| *file == place.file)?;
        let line = text.split('\n').nth(place.line.checked_sub(1)? as usize)?;
        Some(line.trim_end_matches('\r'))
    }
}

/// Control characters as escapes, everything else as it is.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// A source line for a terminal: tabs stay, other control characters become U+FFFD (which keeps
/// columns right).
fn shown(line: &str) -> String {
    let keep = |c: char| if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c };
    line.chars().map(keep).collect()
}

/// What stands left of the caret (tabs kept, so that it lines up) and the carets, one a character
/// of the token.
fn underline(line: &str, column: u32) -> (String, String) {
    let before = column.saturating_sub(1) as usize;
    let lead = line.chars().take(before).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    let mut rest = line.chars().skip(before).peekable();
    let quoted = rest.peek() == Some(&'"');
    let mut width = 0;
    let mut escaped = false;
    for c in rest {
        if !quoted && c.is_whitespace() {
            break;
        }
        width += 1;
        if quoted && width > 1 && c == '"' && !escaped {
            break;
        }
        escaped = c == '\\' && !escaped;
    }
    (lead, "^".repeat(width.max(1)))
}

/// The word of `known` with the least edit distance to `word`: at most a third of its length, and
/// less than half of the word that it would replace.
pub fn closest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let length = word.chars().count();
    if length > crate::limits::SUGGESTION_CHARS_MAX {
        return None;
    }
    let most = length.div_ceil(3);
    known
        .iter()
        .map(|candidate| (distance(word, candidate), *candidate))
        .filter(|(d, candidate)| *d <= most && *d * 2 < candidate.chars().count().max(2))
        .min_by_key(|(d, _)| *d)
        .map(|(_, candidate)| candidate)
}

/// Edits (insert, delete, replace, swap of neighbours) that make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut older: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(older[j - 2] + 1);
            }
            row.push(least);
        }
        older = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: u32, column: u32) -> Place {
        Place { file: "Corefile".into(), line, column }
    }

    #[test]
    fn one_line_with_place_plugin_and_suggestion() {
        let error = CorefileError::parsing(&at(12, 9), "unknown property 'servfale'")
            .of("cache")
            .suggesting("servfale", &["success", "servfail", "denial"]);
        assert_eq!(
            error.to_string(),
            "Corefile:12:9: cache: unknown property 'servfale' (did you mean \"servfail\"?)"
        );
        assert_eq!(
            error.coredns_line(),
            "plugin/cache: Corefile:12 - Error during parsing: unknown property 'servfale'"
        );
    }

    #[test]
    fn coredns_shapes() {
        let syntax = CorefileError::syntax(&at(3, 1), "whoami", "}");
        let words = "Unexpected token 'whoami', expecting '}'";
        assert_eq!(syntax.coredns_line(), format!("Corefile:3 - Syntax error: {words}"));
        let plain = CorefileError::plain(Some(at(2, 2)), "interval too short").of("reload");
        assert_eq!(plain.coredns_line(), "plugin/reload: interval too short");
    }

    #[test]
    fn report_puts_the_caret_below_the_token() {
        let mut sources = Sources::default();
        sources.add("Corefile".into(), ". {\r\n\tcache \"a b\" {\r\n}\n".into());
        let report = CorefileError::parsing(&at(2, 8), "no").report(&sources);
        let expected =
            "error: no\n --> Corefile:2:8\n  |\n2 | \tcache \"a b\" {\n  | \t      ^^^^^\n";
        assert_eq!(report, expected);
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        let mut sources = Sources::default();
        sources.add("Corefile".into(), "a\u{1b}[2J".into());
        let error = CorefileError::parsing(&at(1, 1), "bad 'a\u{1b}[2J\n'");
        for text in [error.to_string(), error.coredns_line()] {
            assert!(!text.chars().any(char::is_control), "{text:?}");
        }
        assert!(!error.report(&sources).contains('\u{1b}'));
    }

    #[test]
    fn suggestions_are_close_or_absent() {
        let known = ["forward", "file", "cache", "log", "loop", "on"];
        assert_eq!(closest("forwrad", &known), Some("forward"));
        assert_eq!(closest("cahce", &known), Some("cache"));
        assert_eq!(closest("frobnicate", &known), None);
        assert_eq!(closest("x", &known), None);
        assert_eq!(closest(&"c".repeat(1000), &known), None);
    }

    #[test]
    fn distances() {
        for (a, b, d) in [("", "abc", 3), ("abc", "", 3), ("abc", "abc", 0), ("ab", "ba", 1)] {
            assert_eq!(distance(a, b), d, "{a} {b}");
        }
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
