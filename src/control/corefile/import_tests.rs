//! Imports of files, in a directory of its own.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

struct Directory(PathBuf);

impl Directory {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let path = std::env::temp_dir().join(format!("corelane-{name}-{}", std::process::id()));
        for (file, text) in files {
            let file = path.join(file);
            fs::create_dir_all(file.parent().expect("a directory")).expect("created");
            fs::write(file, text).expect("written");
        }
        Self(path)
    }

    fn load(&self) -> Result<Corefile, Vec<CorefileError>> {
        let names = ["log", "errors", "whoami", "cache"];
        let directives = Directives { known: &names, built: &names };
        load(Input::File(self.0.join("Corefile")), directives, &|_| None, 53)
    }

    /// Directives of each block, with the file that each comes from.
    fn outline(&self) -> Vec<String> {
        let file = |stanza: &Stanza| {
            let file = Path::new(&*stanza.name.place.file).strip_prefix(&self.0).expect("inside");
            format!("{} of {}:{}", stanza.directive, file.display(), stanza.name.place.line)
        };
        let block =
            |block: &ServerBlock| block.stanzas.iter().map(file).collect::<Vec<_>>().join(", ");
        self.load().expect("accepted").blocks.iter().map(block).collect()
    }

    fn faults(&self) -> Vec<String> {
        let prefix = format!("{}/", self.0.display());
        let errors = self.load().expect_err("refused");
        errors.iter().map(|error| error.to_string().replace(&prefix, "")).collect()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn files_and_globs_are_relative_to_the_importing_file() {
    let directory = Directory::new(
        "globs",
        &[
            ("Corefile", ". {\n import d/one.conf\n whoami\n}\nimport d/z?.conf\nimport d/b*\n"),
            ("d/one.conf", "import e/two.conf\nlog\n"),
            ("d/e/two.conf", "\u{feff}errors\r\n"),
            ("d/z2.conf", "z2 {\n log\n}\n"),
            ("d/z1.conf", "z1 {\n log\n}\n"),
            ("d/b.conf", "b {\n import ../d/./e/two.conf\n}\n"),
        ],
    );
    assert_eq!(
        directory.outline(),
        [
            "errors of d/e/two.conf:1, log of d/one.conf:2, whoami of Corefile:3",
            "log of d/z1.conf:2",
            "log of d/z2.conf:2",
            "errors of d/e/two.conf:1",
        ]
    );
    let corefile = directory.load().expect("accepted");
    assert_eq!(corefile.sources.files().count(), 6, "each file once");
}

#[test]
fn patterns_that_cannot_be_imported() {
    for (pattern, fault) in [
        ("missing", "File to import not found: missing"),
        ("d*/x*", "Glob pattern may only contain one wildcard (*), but has others: d*/x*"),
        ("[a]", "Glob pattern may only contain one wildcard (*), but has others: [a]"),
        ("[a", "Failed to use import pattern [a: syntax error in pattern"),
        ("d", "Could not import d: is a directory"),
        ("/dev/zero", "Could not import /dev/zero: not a regular file"),
        ("d*", "Could not import d: is a directory"),
    ] {
        let text = format!(". {{\n import {pattern}\n}}\n");
        let directory = Directory::new("patterns", &[("Corefile", &text), ("d/x", "")]);
        assert_eq!(directory.faults(), [format!("Corefile:2:9: {fault}")], "{pattern}");
    }
}

#[test]
fn snippets_go_before_files_and_may_come_from_them() {
    let directory = Directory::new(
        "snippets",
        &[
            ("Corefile", "import lib\n(log) {\n errors\n}\n. {\n import log\n import shared\n}\n"),
            ("lib", "(shared) {\n whoami\n}\n"),
            ("log", "cache\n"),
        ],
    );
    assert_eq!(directory.outline(), ["errors of Corefile:3, whoami of lib:2"]);
}

#[test]
fn a_file_that_imports_itself_ends() {
    let directory = Directory::new("itself", &[("Corefile", "import Corefile\n")]);
    assert_eq!(directory.faults(), ["Corefile:1:8: maximum file import depth (100000) exceeded"]);
    let directory = Directory::new("itself", &[("Corefile", "a {\n import Corefile\n}\n")]);
    // CoreDNS stops at the first; here the reading goes on until the second.
    assert_eq!(
        directory.faults(),
        [
            "Corefile:1:1: Unknown directive 'a'",
            "Corefile:2:9: maximum file import depth (100000) exceeded"
        ]
    );
}
