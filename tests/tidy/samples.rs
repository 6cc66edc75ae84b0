//! Small bad files, one for each way to break a rule, and good ones that only look bad.

use crate::rules::{self, Fault};
use crate::source::Source;

/// The lines at which `rule` finds a fault.
fn found(rule: fn(&Source) -> Vec<Fault>, path: &str, text: &str) -> Vec<usize> {
    let source = Source::new(path, text).expect("the sample parses");
    rule(&source).into_iter().map(|fault| fault.line).collect()
}

#[test]
fn a_file_without_a_head_is_found() {
    assert_eq!(found(rules::head, "src/a.rs", "// a\nfn f() {}"), [1]);
    assert_eq!(found(rules::head, "src/a.rs", "/// f\nfn f() {}"), [1]);
    assert!(found(rules::head, "src/a.rs", "//! What it is.\nfn f() {}").is_empty());
}

#[test]
fn long_files_are_found_without_their_manual_and_their_tests() {
    let code = "const A: u8 = 1;\n".repeat(rules::FILE_CODE_LINES_MAX);
    let manual = "//! Manual.\n".repeat(300);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "fn f() {}\n".repeat(200));
    let fits = format!("{manual}{code}{tests}");
    assert!(found(rules::file_size, "src/a.rs", &fits).is_empty());
    assert_eq!(found(rules::file_size, "src/a.rs", &format!("{fits}fn g() {{}}\n")), [1]);
    let together = format!("{manual}{code}{tests}{}", "// why\n".repeat(200));
    assert_eq!(found(rules::file_size, "src/a.rs", &together), [1]);
    let tests = "fn f() {}\n".repeat(rules::FILE_CODE_LINES_MAX + 1);
    assert_eq!(found(rules::file_size, "src/a.rs", &tests), [1]);
    assert!(found(rules::file_size, "src/a/tests.rs", &tests).is_empty());
}

#[test]
fn long_lines_of_code_are_found() {
    let text = format!("//! {0}\n// {0}\nconst A: &str = \"{0}\";\nfn f() {{}}", "x".repeat(99));
    assert_eq!(found(rules::line_length, "src/a.rs", &text), [3]);
}

#[test]
fn long_functions_are_found() {
    let body = |lines: usize| "    g();\n".repeat(lines);
    let named = |text: &str| {
        let source = Source::new("src/a.rs", text).expect("the sample parses");
        rules::long_functions(&source).into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert!(named(&format!("fn f() {{\n{}}}", body(68))).is_empty());
    assert_eq!(named(&format!("fn f() {{\n{}}}", body(69))), ["f"]);
    assert!(named(&format!("fn f() {{\n{}{}}}", body(68), "    // why\n\n".repeat(9))).is_empty());
    assert_eq!(named(&format!("impl A {{ fn m() {{\n{}}} }}", body(69))), ["m"]);
    assert_eq!(named(&format!("trait A {{ fn t() {{\n{}}} }}", body(69))), ["t"]);
}

#[test]
fn names_across_layers_are_found() {
    let lines = |path, text| found(rules::layers, path, text);
    assert_eq!(lines("src/wire/name.rs", "use crate::data::walk;"), [1]);
    assert_eq!(lines("src/wire/mod.rs", "use crate::{limits, sys::Pin};"), [1]);
    assert_eq!(lines("src/wire/name.rs", "use super::super::control;"), [1]);
    assert_eq!(lines("src/wire/name.rs", "fn f() { crate::data::walk(); }"), [1]);
    assert_eq!(lines("src/wire/name.rs", "fn f() { let _: crate::mail::Box; }"), [1]);
    assert_eq!(lines("src/wire/name.rs", "fn f() { println!(\"{}\", crate::data::A); }"), [1]);
    assert_eq!(lines("src/wire/mod.rs", "mod a { use super::super::data::A; }"), [1]);
    assert_eq!(lines("src/data/route.rs", "use crate::control as c;"), [1]);
    assert_eq!(lines("src/data/chain/cx.rs", "pub use crate::control::*;"), [1]);
    assert_eq!(lines("src/control/corefile/lines.rs", "use crate::plugin::file;"), [1]);
    assert!(
        lines("src/wire/name.rs", "use super::header::Flags; use crate::limits as l;").is_empty()
    );
    assert!(lines("src/wire/name.rs", "use std::fmt; use tokio::data::x;").is_empty());
    assert!(lines("src/wire/mod.rs", "mod a { use super::Name; }").is_empty());
    assert!(lines("src/wire/name.rs", "#[cfg(test)]\nmod tests { use crate::data; }").is_empty());
    assert!(lines("src/data/route.rs", "use crate::{wire::Name, plugin::Link};").is_empty());
    assert!(lines("src/control/compile.rs", "use crate::plugin::Link;").is_empty());
    assert!(lines("src/plugin/file.rs", "use crate::control::corefile::Lines;").is_empty());
}

#[test]
fn unsafe_code_is_found() {
    let lines = |path: &str, text: &str| found(rules::unsafe_code, path, text);
    let reasoned = "fn f() {\n    // SAFETY: p is ours.\n    unsafe { *p }\n}";
    let spread =
        "fn f() {\n    // SAFETY: p is\n    // ours.\n    let a =\n        unsafe { *p };\n}";
    assert_eq!(lines("src/data/route.rs", reasoned), [3]);
    assert!(lines("src/sys.rs", reasoned).is_empty());
    assert!(lines("src/data/transport/udp.rs", spread).is_empty());
    assert!(lines("tests/alloc.rs", reasoned).is_empty());
    assert_eq!(lines("src/sys.rs", "fn f() {\n    unsafe { *p }\n}"), [2]);
    assert_eq!(lines("src/sys.rs", "// SAFETY: no.\nfn f() {\n    unsafe { *p }\n}"), [3]);
    assert_eq!(lines("src/sys.rs", "fn f() {\n// SAFETY: p.\nlet a = 1;\nunsafe { *p }\n}"), [4]);
    assert_eq!(lines("src/sys.rs", "fn f() {\n    assert!(unsafe { *p });\n}"), [2]);
    assert_eq!(lines("src/sys.rs", "unsafe impl Send for A {}"), [1]);
    assert!(lines("src/sys.rs", "// SAFETY: plain data.\nunsafe impl Send for A {}").is_empty());
    let method = "// SAFETY: as System.\nunsafe impl G for A {\n\n    unsafe fn g() {}\n}";
    assert!(lines("tests/alloc.rs", method).is_empty());
    assert_eq!(lines("tests/alloc.rs", &method.replace("impl G for", "impl")), [4]);
    assert!(lines("src/sys.rs", "/// # Safety\n/// p is ours.\npub unsafe fn f() {}").is_empty());
    assert!(lines("src/wire/name.rs", "const A: &str = \"unsafe\"; // unsafe").is_empty());
}

#[test]
fn names_that_say_nothing_are_found() {
    let lines = |path, text| found(rules::words, path, text);
    assert_eq!(lines("src/a.rs", "struct CacheManager;"), [1]);
    assert_eq!(lines("src/a.rs", "\nenum Utils { A }"), [2]);
    assert_eq!(lines("src/a.rs", "impl A { fn query_handler(&self) {} }"), [1]);
    assert_eq!(lines("src/a.rs", "trait A { fn helper2(); }"), [1]);
    assert_eq!(lines("src/a.rs", "mod util { }"), [1]);
    assert_eq!(lines("src/util.rs", "fn f() {}"), [1]);
    assert!(lines("src/a.rs", "use hyper::Handler; struct Futile; fn handled() {}").is_empty());
}

#[test]
fn unfinished_code_is_found() {
    let lines = |text| found(rules::unfinished, "src/a.rs", text);
    assert_eq!(lines("fn f() {\n    todo!()\n}"), [2]);
    assert_eq!(lines("fn f() { g(vec![unimplemented!(\"later\")]) }"), [1]);
    assert!(lines("fn todo() { let dbg = a != b; } // todo!").is_empty());
}

#[test]
fn bounds_without_a_reason_are_found() {
    let text =
        "/// Why.\npub const A: u8 = 1;\npub const B: u8 = 2;\nconst _: () = assert!(A < B);";
    assert_eq!(found(rules::bounds, "src/limits.rs", text), [3]);
    assert!(found(rules::bounds, "src/a.rs", text).is_empty());
}

#[test]
fn places_of_one_machine_are_found() {
    let lines = |text: &str| {
        rules::machine_places(text).into_iter().map(|fault| fault.line).collect::<Vec<_>>()
    };
    assert_eq!(lines(&format!("a\ncd /{}/me", "home")), [2]);
    assert_eq!(lines(&format!("source = \"registry+https://{}/\"", "mirror.example")), [1]);
    assert!(lines("source = \"registry+https://github.com/rust-lang/crates.io-index\"").is_empty());
    assert!(lines("see /etc/hosts, /var/run/secrets").is_empty());
}
