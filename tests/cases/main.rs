//! Conversations with a real server, one a file: README.md in this folder tells their format.
//!
//! A runner of its own, so that every case is a test by name: `cargo test --test cases file/wildcard`.
#![allow(
    clippy::disallowed_methods,
    reason = "the bans guard the query path: this program waits for another"
)]

mod client;
mod format;
#[path = "../ports/mod.rs"]
mod ports;
mod script;
mod server;

use std::fs;
use std::path::{Path, PathBuf};

use libtest_mimic::{Arguments, Failed, Trial};
use script::{Action, Ask, Case, Step};
use server::{Server, eventually};

fn main() {
    let mut arguments = Arguments::from_args();
    // A case waits more than it works.
    arguments.test_threads.get_or_insert(8);
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let cases = cases(&top).into_iter().map(|path| {
        let name = path.strip_prefix(&top).expect("it is below").with_extension("");
        let name = name.to_string_lossy().into_owned();
        Trial::test(name.clone(), move || run(&name, &path).map_err(Failed::from))
    });
    libtest_mimic::run(&arguments, cases.chain(format::trials()).collect()).exit();
}

/// The case files below `folder`.
fn cases(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of cases").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(cases(&path));
        } else if path.extension().is_some_and(|extension| extension == "case") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn run(name: &str, path: &Path) -> Result<(), String> {
    let shown = path.display();
    let text = fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"))?;
    let case = script::parse(&text).map_err(|fault| format!("{shown}: {fault}"))?;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cases").join(name);
    let mut server = Server::start(&folder, &case.files)?;
    converse(&mut server, &case)
        .map_err(|fault| format!("{shown}{fault}\n--- output of the server\n{}", server.output()))
}

fn converse(server: &mut Server, case: &Case) -> Result<(), String> {
    if !matches!(case.steps[0].action, Action::Fails(_)) {
        server.ready().map_err(|fault| format!(": {fault}"))?;
    }
    // All of them: one change often shows in several answers.
    let faults: Vec<String> = case
        .steps
        .iter()
        .filter_map(|step| Some(format!(":{}: {}", step.line, take(server, step).err()?)))
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}

fn take(server: &mut Server, step: &Step) -> Result<(), String> {
    match &step.action {
        Action::Ask(ask) => answered(server, ask, &step.expected),
        Action::Copy { from, to } => server.copy(from, to),
        Action::Signal(name) => server.signal(name),
        Action::Log(text) => server.says(text),
        Action::Fails(status) => {
            let ended = server.ended()?;
            if ended != *status {
                return Err(format!("the server ended with status {ended}, not {status}"));
            }
            step.expected.iter().try_for_each(|text| server.says(text))
        }
    }
}

/// Asks, once or until the reply fits.
fn answered(server: &Server, ask: &Ask, expected: &[String]) -> Result<(), String> {
    let address = server.address(ask.port.as_deref())?;
    let mut last = Ok(());
    let mut once = || {
        last = client::ask(address, ask, expected == ["silence"])
            .and_then(|got| compare(ask, expected, got));
        last.is_ok()
    };
    if ask.eventually {
        eventually(once)
    } else {
        once()
    };
    last
}

fn compare(ask: &Ask, expected: &[String], mut got: Vec<String>) -> Result<(), String> {
    let names_edns = expected.iter().any(|line| line.starts_with("edns "));
    if ask.edns.is_some() && !names_edns {
        let before = got.len();
        got.retain(|line| !line.starts_with("edns "));
        if got.len() == before && got != ["silence"] {
            // RFC 6891 section 6.1.1: an OPT in the query wants one in the reply.
            return Err("a reply without OPT to a query with one".to_owned());
        }
    }
    if script::fits(expected, &got, ask.ordered) {
        return Ok(());
    }
    let listed =
        |lines: &[String]| lines.iter().map(|l| format!("\n    < {l}")).collect::<String>();
    Err(format!("{} {}: expected{}\n  got{}", ask.name, ask.rtype, listed(expected), listed(&got)))
}
