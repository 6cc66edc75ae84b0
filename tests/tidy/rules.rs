//! The house rules, each a function from a file to its faults, and below them the proof that each finds
//! what it looks for.

use proc_macro2::{Span, TokenTree};
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

use crate::source::{Source, attributes, is_documented, is_test, lines_of};

/// Lines of code of a file: the manual at its head, comments and tests do not count.
pub const FILE_CODE_LINES_MAX: usize = 600;
/// Lines of a file, all together.
pub const FILE_LINES_MAX: usize = 1_200;
/// Lines of code of a function.
pub const FUNCTION_LINES_MAX: usize = 70;
/// Characters of a line of code.
pub const LINE_CHARS_MAX: usize = 100;

/// Words that say nothing: name the thing.
const EMPTY_WORDS: &[&str] =
    &["manager", "managers", "handler", "handlers", "helper", "helpers", "util", "utils"];

/// Where `unsafe` may stand in the program.
const UNSAFE_PLACES: &[&str] = &["src/data/transport/", "src/sys.rs"];

/// What the modules below a path may name of the crate: `Only` these top modules, or all `But` some.
enum May {
    Only(&'static [&'static str]),
    But(&'static [&'static str]),
}

const LAYERS: &[(&str, May)] = &[
    ("limits", May::Only(&[])),
    ("wire", May::Only(&["limits", "wire"])),
    ("sys", May::Only(&["limits", "sys"])),
    ("data", May::But(&["control"])),
    ("snapshot", May::But(&["control"])),
    ("publish", May::But(&["control"])),
    ("mail", May::But(&["control"])),
    ("cells", May::But(&["control"])),
    ("control/corefile", May::But(&["plugin", "data", "snapshot"])),
];

/// One thing that breaks a rule.
#[derive(Debug)]
pub struct Fault {
    pub line: usize,
    pub what: String,
}

fn fault(line: usize, what: impl Into<String>) -> Fault {
    Fault { line, what: what.into() }
}

/// Every rule that reads one Rust file.
pub const ALL: &[fn(&Source) -> Vec<Fault>] =
    &[head, file_size, line_length, layers, unsafe_code, words, unfinished, bounds];

/// A file says at its head what it is.
pub fn head(source: &Source) -> Vec<Fault> {
    let first = source.lines.first().map_or("", |line| line.trim());
    if first.starts_with("//!") { Vec::new() } else { vec![fault(1, "no `//!` at its head")] }
}

pub fn file_size(source: &Source) -> Vec<Fault> {
    let all = source.lines.len();
    let code = (1..=all).filter(|&line| source.is_code(line) && !source.is_test(line)).count();
    let mut faults = Vec::new();
    if code > FILE_CODE_LINES_MAX {
        faults.push(fault(1, format!("{code} lines of code (at most {FILE_CODE_LINES_MAX})")));
    }
    if all > FILE_LINES_MAX {
        faults.push(fault(1, format!("{all} lines (at most {FILE_LINES_MAX})")));
    }
    faults
}

pub fn line_length(source: &Source) -> Vec<Fault> {
    let long = |&line: &usize| source.lines[line - 1].chars().count() > LINE_CHARS_MAX;
    (1..=source.lines.len())
        .filter(|&line| source.is_code(line))
        .filter(long)
        .map(|line| fault(line, format!("longer than {LINE_CHARS_MAX} characters")))
        .collect()
}

/// Functions that are too long, by name.
pub fn long_functions(source: &Source) -> Vec<(String, Fault)> {
    struct Functions<'a>(&'a Source, Vec<(String, Fault)>);
    impl Functions<'_> {
        fn measure(&mut self, signature: &syn::Signature, whole: Span) {
            let from = signature.span().start().line;
            let code = (from..=whole.end().line).filter(|&line| self.0.is_code(line)).count();
            if code > FUNCTION_LINES_MAX {
                let name = signature.ident.to_string();
                let what = format!("fn {name}: {code} lines (at most {FUNCTION_LINES_MAX})");
                self.1.push((name, fault(from, what)));
            }
        }
    }
    impl<'ast> Visit<'ast> for Functions<'_> {
        fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
            self.measure(&item.sig, item.span());
            visit::visit_item_fn(self, item);
        }
        fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
            self.measure(&item.sig, item.span());
            visit::visit_impl_item_fn(self, item);
        }
        fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
            self.measure(&item.sig, item.span());
            visit::visit_trait_item_fn(self, item);
        }
    }
    let mut functions = Functions(source, Vec::new());
    functions.visit_file(&source.tree);
    functions.1
}

/// `wire` imports nothing of ours but `limits`, `data` never `control`, and so on (tests may).
pub fn layers(source: &Source) -> Vec<Fault> {
    if !source.path.starts_with("src/") || source.path.ends_with("/tests.rs") {
        return Vec::new();
    }
    let module = source.module();
    let here = module.join("/");
    let below = |place: &str| here == place || here.starts_with(&format!("{place}/"));
    let mut faults = Vec::new();
    for (place, may) in LAYERS.iter().filter(|(place, _)| below(place)) {
        for (line, name) in crate_names(source, &module) {
            let allowed = match may {
                May::Only(names) => names.contains(&name.as_str()),
                May::But(names) => !names.contains(&name.as_str()),
            };
            if !allowed {
                faults.push(fault(line, format!("{place} must not name crate::{name}")));
            }
        }
    }
    faults
}

/// The top modules of the crate that a file's code names, with the lines.
fn crate_names(source: &Source, module: &[&str]) -> Vec<(usize, String)> {
    let mut names = Names { module: module.iter().map(|&m| m.to_owned()).collect(), found: vec![] };
    names.visit_file(&source.tree);
    names.found
}

struct Names {
    /// The module that the visitor is in.
    module: Vec<String>,
    found: Vec<(usize, String)>,
}

impl Names {
    /// Notes the path `parts` if it leads into this crate from its top.
    fn path(&mut self, line: usize, parts: &[String]) {
        let mut at = match parts.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("super" | "self") => self.module.clone(),
            _ => return,
        };
        for part in parts {
            match part.as_str() {
                "crate" | "self" => {}
                "super" => drop(at.pop()),
                name => at.push(name.to_owned()),
            }
        }
        if let Some(top) = at.first() {
            self.found.push((line, top.clone()));
        }
    }

    fn tree(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |ident: &syn::Ident| [before, &[ident.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.tree(&with(&path.ident), &path.tree),
            syn::UseTree::Group(group) => group.items.iter().for_each(|t| self.tree(before, t)),
            syn::UseTree::Name(name) => self.path(name.span().start().line, &with(&name.ident)),
            syn::UseTree::Rename(name) => self.path(name.span().start().line, &with(&name.ident)),
            syn::UseTree::Glob(glob) => self.path(glob.span().start().line, before),
        }
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree(&[], &item.tree);
    }
    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<String> = path.segments.iter().map(|part| part.ident.to_string()).collect();
        self.path(path.span().start().line, &parts);
        visit::visit_path(self, path);
    }
    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        // A macro's arguments are only tokens: `crate :: name` is what can be seen in them.
        let tokens: Vec<TokenTree> = call.tokens.clone().into_iter().collect();
        self.macro_tokens(&tokens);
        visit::visit_macro(self, call);
    }
}

impl Names {
    fn macro_tokens(&mut self, tokens: &[TokenTree]) {
        for (at, token) in tokens.iter().enumerate() {
            match token {
                TokenTree::Ident(word) if word == "crate" => {
                    if let Some(TokenTree::Ident(name)) = tokens.get(at + 3) {
                        self.found.push((word.span().start().line, name.to_string()));
                    }
                }
                TokenTree::Group(group) => {
                    self.macro_tokens(&group.stream().into_iter().collect::<Vec<_>>());
                }
                _ => {}
            }
        }
    }
}

/// `unsafe` stands where it may, with the reason why it is sound.
pub fn unsafe_code(source: &Source) -> Vec<Fault> {
    let program = source.path.starts_with("src/");
    let allowed = !program || UNSAFE_PLACES.iter().any(|place| source.path.starts_with(place));
    let mut faults = Vec::new();
    let contracts = contract_lines(source);
    for token in source.tokens() {
        let TokenTree::Ident(word) = token else { continue };
        let line = word.span().start().line;
        if word == "unsafe" && !allowed {
            faults.push(fault(line, "unsafe code belongs in data/transport/ or sys.rs"));
        } else if word == "unsafe" && !contracts.contains(&line) && !is_reasoned(source, line) {
            faults.push(fault(line, "unsafe without a SAFETY comment right above"));
        }
    }
    faults
}

/// The lines of `unsafe fn` in implementations of traits: there the trait states the contract.
fn contract_lines(source: &Source) -> Vec<usize> {
    struct Methods(Vec<usize>);
    impl<'ast> Visit<'ast> for Methods {
        fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
            let methods = item.items.iter().filter(|_| item.trait_.is_some());
            self.0.extend(methods.filter_map(|method| match method {
                syn::ImplItem::Fn(method) => {
                    Some(method.sig.unsafety.as_ref()?.span().start().line)
                }
                _ => None,
            }));
        }
    }
    let mut methods = Methods(Vec::new());
    methods.visit_file(&source.tree);
    methods.0
}

/// Whether the statement that holds line `number` has a SAFETY comment right above it.
fn is_reasoned(source: &Source, number: usize) -> bool {
    let says = |line: &str| line.contains("SAFETY:") || line.contains("# Safety");
    if source.line(number).split_once("//").is_some_and(|(_, comment)| says(comment)) {
        return true;
    }
    for above in (1..number).rev() {
        let line = source.line(above);
        let ends = line.is_empty() || line.ends_with([';', '{', '}', ',']);
        if !line.starts_with("//") && !line.starts_with("#[") && ends {
            return false;
        }
        if line.starts_with("//") && says(line) {
            return true;
        }
    }
    false
}

/// No declared name holds a word that says nothing; neither does the file's.
pub fn words(source: &Source) -> Vec<Fault> {
    struct Declared(Vec<(usize, String)>);
    impl Declared {
        fn note(&mut self, ident: &syn::Ident) {
            self.0.push((ident.span().start().line, ident.to_string()));
        }
    }
    impl<'ast> Visit<'ast> for Declared {
        fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
            self.note(&item.ident);
        }
        fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
            self.note(&item.ident);
        }
        fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
            self.note(&item.ident);
            visit::visit_item_trait(self, item);
        }
        fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
            self.note(&item.ident);
        }
        fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
            self.note(&item.ident);
            visit::visit_item_mod(self, item);
        }
        fn visit_signature(&mut self, signature: &'ast syn::Signature) {
            self.note(&signature.ident);
        }
    }
    let mut declared = Declared(vec![(1, source.path.trim_end_matches(".rs").replace('/', "_"))]);
    declared.visit_file(&source.tree);
    let empty = |name: &str| words_of(name).into_iter().find(|w| EMPTY_WORDS.contains(&w.as_str()));
    let found = declared.0.into_iter();
    found
        .filter_map(|(line, name)| empty(&name).map(|word| (line, name, word)))
        .map(|(line, name, word)| fault(line, format!("{name}: `{word}` says nothing")))
        .collect()
}

/// `TcpHandler2` and `tcp_handler` are `tcp`, `handler`.
fn words_of(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for c in name.chars() {
        if !c.is_alphabetic() || c.is_uppercase() && before.is_lowercase() {
            words.push(String::new());
        }
        if c.is_alphabetic() {
            words.last_mut().expect("never empty").extend(c.to_lowercase());
        }
        before = c;
    }
    words
}

/// Nothing is left for later.
pub fn unfinished(source: &Source) -> Vec<Fault> {
    let tokens = source.tokens();
    let called = |pair: &[TokenTree]| match pair {
        [TokenTree::Ident(name), TokenTree::Punct(mark)] if mark.as_char() == '!' => {
            let named = ["todo", "unimplemented", "dbg"].iter().any(|banned| name == banned);
            named.then(|| fault(name.span().start().line, format!("{name}!")))
        }
        _ => None,
    };
    tokens.windows(2).filter_map(called).collect()
}

/// Every bound has its reason.
pub fn bounds(source: &Source) -> Vec<Fault> {
    if source.path != "src/limits.rs" {
        return Vec::new();
    }
    let mut faults = Vec::new();
    for item in &source.tree.items {
        let syn::Item::Const(bound) = item else { continue };
        if bound.ident != "_" && !is_documented(&bound.attrs) {
            let line = *lines_of(bound.span()).start();
            faults.push(fault(line, format!("{}: a bound without its reason", bound.ident)));
        }
    }
    faults
}

/// Places of one machine, in any tracked file.
pub fn machine_places(text: &str) -> Vec<Fault> {
    // In two pieces, so that this file is clean.
    let places = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/Us", "ers/"),
        concat!("index", "-url"),
        concat!("replace", "-with"),
    ];
    let foreign_registry = |line: &str| {
        let source = line.strip_prefix("source = \"registry+");
        source.is_some_and(|url| !url.starts_with("https://github.com/rust-lang/crates.io-index"))
    };
    let mut faults = Vec::new();
    for (at, line) in text.lines().enumerate() {
        for place in places.iter().filter(|place| line.contains(**place)) {
            faults.push(fault(at + 1, format!("`{place}`: a place of one machine")));
        }
        if foreign_registry(line) {
            faults.push(fault(at + 1, "a registry of one machine"));
        }
    }
    faults
}
