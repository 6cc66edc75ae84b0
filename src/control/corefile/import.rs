//! What an `import` brings in: the tokens of a file, or of every file that a pattern matches.
//!
//! A pattern is relative to the directory of the file it stands in and may hold one `*` and one
//! `?`. Every file is read and lexed once a load, however often it is imported, so a file that
//! imports itself costs its size once.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::error::{CorefileError, Sources};
use super::lexer::{self, Token};
use crate::limits::{COREFILE_BYTES_MAX, COREFILE_IMPORT_FILES_MAX};

/// The files of one load.
#[derive(Default)]
pub(super) struct Files {
    lexed: BTreeMap<PathBuf, Rc<[Token]>>,
    pub(super) sources: Sources,
    pub(super) warnings: Vec<CorefileError>,
    bytes: usize,
}

impl Files {
    /// Tokens of `text`, which is what `name` holds.
    pub(super) fn lex(&mut self, name: &str, bytes: &[u8]) -> Vec<Token> {
        let name: Arc<str> = name.into();
        let text: Arc<str> = lexer::decode(bytes).into();
        let lexed = lexer::lex(&text, &name);
        for glued in &lexed.glued {
            let message =
                "a comment glued to a word ends at the next blank: this is not commented out";
            self.warnings.push(CorefileError::parsing(&glued.place, message));
        }
        self.sources.add(name, text);
        self.bytes = self.bytes.saturating_add(bytes.len());
        lexed.tokens
    }

    /// The tokens of the files that `pattern`, written in the file `from`, matches; in the order of
    /// their names. The error is CoreDNS's message.
    pub(super) fn import(&mut self, pattern: &str, from: &str) -> Result<Imported, String> {
        let absolute = std::path::absolute(from)
            .map_err(|e| format!("Failed to get absolute path of file: {from}: {e}"))?;
        let directory = absolute.parent().unwrap_or(Path::new("/"));
        let full = clean(&directory.join(pattern));
        let shown = full.to_string_lossy();
        let wild = |c| shown.matches(c).count();
        if wild('*') > 1 || wild('?') > 1 || (wild('[') > 0 && wild(']') > 0) {
            let why = "Glob pattern may only contain one wildcard (*), but has others";
            return Err(format!("{why}: {shown}"));
        }
        let escapes = shown.chars().rev().take_while(|&c| c == '\\').count();
        if wild('[') > 0 || escapes % 2 == 1 {
            return Err(format!("Failed to use import pattern {pattern}: syntax error in pattern"));
        }
        let matches = if shown.contains(['*', '?', '\\']) { glob(&full) } else { existing(full) };
        if matches.len() > COREFILE_IMPORT_FILES_MAX {
            return Err(format!("more than {COREFILE_IMPORT_FILES_MAX} files match {pattern}"));
        }
        if matches.is_empty() && !pattern.contains(['*', '?', ']']) {
            return Err(format!("File to import not found: {pattern}"));
        }
        let nothing_matched = matches.is_empty();
        let lexed = matches.iter().map(|file| self.file(file)).collect::<Result<_, _>>()?;
        Ok(Imported { lexed, nothing_matched })
    }

    fn file(&mut self, path: &Path) -> Result<Rc<[Token]>, String> {
        if let Some(tokens) = self.lexed.get(path) {
            return Ok(tokens.clone());
        }
        let could_not = |why: &str| format!("Could not import {}: {why}", path.display());
        // Opening a pipe would wait for its writer, and a device may never end.
        let kind = path.metadata().map_err(|e| could_not(&reason(&e)))?;
        if !kind.is_dir() && !kind.is_file() {
            return Err(could_not("not a regular file"));
        }
        let left = COREFILE_BYTES_MAX.saturating_sub(self.bytes);
        let bytes = read(path, left).map_err(|why| could_not(&why))?;
        let tokens: Rc<[Token]> = self.lex(&path.to_string_lossy(), &bytes).into();
        self.lexed.insert(path.to_owned(), tokens.clone());
        Ok(tokens)
    }
}

/// What one `import` brings in.
pub(super) struct Imported {
    pub(super) lexed: Vec<Rc<[Token]>>,
    pub(super) nothing_matched: bool,
}

/// A file, or what a pipe gives, of at most `bytes_max` octets, whole.
pub(super) fn read(path: &Path, bytes_max: usize) -> Result<Vec<u8>, String> {
    let file = std::fs::File::open(path).map_err(|e| reason(&e))?;
    let metadata = file.metadata().map_err(|e| reason(&e))?;
    if metadata.is_dir() {
        return Err("is a directory".to_owned());
    }
    read_all(file, bytes_max)
}

/// All that `source` gives, at most `bytes_max` octets.
pub(super) fn read_all(source: impl std::io::Read, bytes_max: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let most = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    source.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| reason(&e))?;
    if bytes.len() > bytes_max {
        return Err(format!(
            "the Corefile and its imports hold more than {COREFILE_BYTES_MAX} bytes"
        ));
    }
    Ok(bytes)
}

/// Why a file cannot be read, in the words of Go (and of `perror`).
pub(super) fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

/// `path` without `.` and `..`, by the text alone, as Go's `filepath.Clean`.
fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

fn existing(path: PathBuf) -> Vec<PathBuf> {
    if path.symlink_metadata().is_ok() { vec![path] } else { Vec::new() }
}

/// Every path that matches, sorted by name at each level. What cannot be listed matches nothing.
fn glob(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("/")];
    for component in pattern.components() {
        let Component::Normal(name) = component else { continue };
        let name = name.to_string_lossy();
        if name.contains(['*', '?', '\\']) {
            found = found.iter().flat_map(|directory| listed(directory, &name)).collect();
            found.truncate(COREFILE_IMPORT_FILES_MAX + 1);
        } else {
            found.iter_mut().for_each(|path| path.push(&*name));
        }
    }
    found.retain(|path| path.symlink_metadata().is_ok());
    found
}

/// Entries of `directory` whose name matches `pattern`, sorted.
fn listed(directory: &Path, pattern: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let pattern: Vec<char> = pattern.chars().collect();
    let mut names: Vec<_> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| matches(&pattern, &name.chars().collect::<Vec<_>>()))
        .collect();
    names.sort_unstable();
    names.iter().map(|name| directory.join(name)).collect()
}

/// `*` is any run of characters, `?` is one, `\` makes the next character plain; a pattern has at
/// most one `*` and one `?`, so this branches little.
fn matches(pattern: &[char], name: &[char]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some(('*', rest)) => (0..=name.len()).any(|skip| matches(rest, &name[skip..])),
        Some((c, rest)) => {
            let (wanted, rest) = match (c, rest.split_first()) {
                ('?', _) => (None, rest),
                ('\\', Some((plain, rest))) => (Some(plain), rest),
                _ => (Some(c), rest),
            };
            let Some((first, left)) = name.split_first() else { return false };
            wanted.is_none_or(|wanted| wanted == first) && matches(rest, left)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_match(pattern: &str, name: &str) -> bool {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        matches(&chars(pattern), &chars(name))
    }

    #[test]
    fn patterns() {
        assert!(is_match("*.conf", "a.conf") && is_match("*.conf", ".conf"));
        assert!(!is_match("*.conf", "a.conf~") && !is_match("*.conf", "a.cnf"));
        assert!(is_match("a?c*", "abc") && is_match("a?c*", "abcd") && !is_match("a?c*", "ac"));
        assert!(is_match("a\\?b", "a?b") && !is_match("a\\?b", "acb"));
        assert!(is_match("*", "") && !is_match("?", ""));
    }

    #[test]
    fn paths_are_cleaned_by_text() {
        for (path, expected) in [("/a/./b/../c", "/a/c"), ("/../a", "/a"), ("/a//b/", "/a/b")] {
            assert_eq!(clean(Path::new(path)), Path::new(expected));
        }
    }
}
