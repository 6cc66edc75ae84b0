//! A source file as the rules see it: its lines, which of them are code, its syntax tree, its tokens.

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::spanned::Spanned as _;

pub struct Source {
    /// Relative to the repository's top, with slashes.
    pub path: String,
    pub lines: Vec<String>,
    pub tree: syn::File,
    /// By line: inside an item under `#[cfg(test)]`.
    test: Vec<bool>,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Result<Self, String> {
        let tree = syn::parse_file(text).map_err(|error| format!("{path}: {error}"))?;
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        // `#[cfg(test)] mod tests;` stands in another file than its code.
        let test = vec![path.starts_with("src/") && path.ends_with("/tests.rs"); lines.len()];
        let mut source = Self { path: path.to_owned(), test, lines, tree };
        for item in source.tree.items.iter().filter(|item| is_test(attributes(item))) {
            for line in lines_of(item.span()) {
                source.test[line - 1] = true;
            }
        }
        Ok(source)
    }

    /// Line `number` (from 1), without its indentation.
    pub fn line(&self, number: usize) -> &str {
        self.lines[number - 1].trim()
    }

    /// Neither blank nor a comment on its own.
    pub fn is_code(&self, number: usize) -> bool {
        let line = self.line(number);
        !line.is_empty() && !line.starts_with("//")
    }

    pub fn is_test(&self, number: usize) -> bool {
        self.test[number - 1]
    }

    /// Every token, those inside macros' arguments too.
    pub fn tokens(&self) -> Vec<TokenTree> {
        let text: String = self.lines.join("\n");
        let mut flat = Vec::new();
        flatten(text.parse().expect("it was parsed before"), &mut flat);
        flat
    }

    /// The module that the file is: `src/data/transport/mod.rs` is `data`, `transport`.
    pub fn module(&self) -> Vec<&str> {
        let inner = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        let mut path: Vec<&str> = inner.split('/').collect();
        if matches!(path.last(), Some(&("mod" | "lib" | "main"))) {
            path.pop();
        }
        path
    }
}

fn flatten(stream: TokenStream, flat: &mut Vec<TokenTree>) {
    for token in stream {
        flat.push(token.clone());
        if let TokenTree::Group(group) = token {
            flatten(group.stream(), flat);
        }
    }
}

pub fn lines_of(span: Span) -> std::ops::RangeInclusive<usize> {
    span.start().line..=span.end().line
}

/// `#[cfg(test)]`, or `#[cfg(all(test, …))]`, or `#[test]`.
pub fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::Path(path) => path.is_ident("test"),
        syn::Meta::List(list) if list.path.is_ident("cfg") => {
            let words = list.tokens.to_string();
            words == "test" || words.starts_with("all") && words.contains("test")
        }
        _ => false,
    })
}

/// Whether there is a doc comment.
pub fn is_documented(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| attribute.path().is_ident("doc"))
}

pub fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    use syn::Item::*;
    match item {
        Const(item) => &item.attrs,
        Enum(item) => &item.attrs,
        Fn(item) => &item.attrs,
        Impl(item) => &item.attrs,
        Macro(item) => &item.attrs,
        Mod(item) => &item.attrs,
        Static(item) => &item.attrs,
        Struct(item) => &item.attrs,
        Trait(item) => &item.attrs,
        Type(item) => &item.attrs,
        Use(item) => &item.attrs,
        _ => &[],
    }
}
