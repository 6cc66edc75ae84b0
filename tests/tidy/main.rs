//! The house rules of this repository, kept by a test.
//!
//! What is checked, over every Rust file that git knows (or would add):
//! 1. layering: `wire` names nothing of ours but `limits`, `data` never `control` (rules.rs has the table);
//! 2. sizes: a file 600 lines of code, 1,200 in all; a function 70; a line of code 100 characters;
//! 3. every file opens with what it is; every bound in `limits.rs` says why;
//! 4. `unsafe` only in `data/transport/` and `sys.rs`, each with a SAFETY comment;
//! 5. no name that says nothing (Manager, Handler, Helper, Util), nothing unfinished;
//! 6. no path and no registry of one machine in any tracked file.
//!
//! samples.rs proves that each rule finds what it looks for.

mod rules;
mod samples;
mod source;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use source::Source;

/// Functions that are one `match` over a wire or syntax enumeration, and may be long: (file, function).
const LONG_MATCHES: &[(&str, &str)] = &[];

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files of the repository: those that git tracks or would, or all in a tree without git.
fn files() -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(top())
        .output();
    let mut files: Vec<String> = match listed {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
        }
        _ => walk(top()),
    };
    files.retain(|file| top().join(file).is_file());
    files
}

fn walk(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder of the repository").flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if name.to_string_lossy().starts_with('.') && name != ".ci" || name == "target" {
            continue;
        }
        if path.is_dir() {
            found.extend(walk(&path));
        } else if let Ok(inner) = path.strip_prefix(top()) {
            found.push(inner.to_string_lossy().into_owned());
        }
    }
    found
}

fn sources() -> Vec<Source> {
    let rust = files().into_iter().filter(|file| file.ends_with(".rs"));
    rust.map(|file| {
        let text = std::fs::read_to_string(top().join(&file)).expect("a readable file");
        Source::new(&file, &text).expect("Rust that parses")
    })
    .collect()
}

/// Fails with every fault, a line each.
fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_file_keeps_the_rules() {
    let sources = sources();
    assert!(sources.iter().any(|source| source.path == "src/lib.rs"), "the files were found");
    let mut faults = Vec::new();
    for source in &sources {
        for fault in rules::ALL.iter().flat_map(|rule| rule(source)) {
            faults.push(format!("{}:{}: {}", source.path, fault.line, fault.what));
        }
    }
    assert_none(&faults);
}

#[test]
fn functions_are_short() {
    let mut faults = Vec::new();
    let mut unused: BTreeSet<_> =
        LONG_MATCHES.iter().map(|(file, name)| ((*file).to_owned(), (*name).to_owned())).collect();
    for source in sources() {
        for (name, fault) in rules::long_functions(&source) {
            if !unused.remove(&(source.path.clone(), name)) {
                faults.push(format!("{}:{}: {}", source.path, fault.line, fault.what));
            }
        }
    }
    faults.extend(unused.iter().map(|entry| format!("{entry:?} is short: take it off the list")));
    assert_none(&faults);
}

#[test]
fn no_file_knows_a_machine() {
    let mut faults = Vec::new();
    for file in files() {
        let Ok(text) = std::fs::read_to_string(top().join(&file)) else { continue };
        for fault in rules::machine_places(&text) {
            faults.push(format!("{file}:{}: {}", fault.line, fault.what));
        }
    }
    assert_none(&faults);
}
