//! `corelane help [PLUGIN]` and `-plugins`: the manuals that stand at the head of each plugin's file.

use std::process::ExitCode;

use super::logging;
use crate::plugin::registry::{NAMES, Parsed, SOURCES};

/// The manual of a plugin that is built in.
pub fn of(plugin: &str) -> Option<String> {
    let (_, source) = SOURCES.iter().find(|(name, _)| *name == plugin)?;
    let head = source.lines().take_while(|line| line.starts_with("//!"));
    let lines = head.map(|line| line.trim_start_matches("//!"));
    Some(lines.map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line))).collect())
}

/// The list of `-plugins`: the names of what is built in, sorted.
pub fn list() -> String {
    let mut names: Vec<&str> =
        NAMES.iter().copied().filter(|name| Parsed::is_built(name)).collect();
    names.sort_unstable();
    names.iter().map(|name| format!("{name}\n")).collect()
}

/// Prints a manual, or the usage and the list of manuals.
pub fn run(plugin: Option<&str>) -> ExitCode {
    let Some(plugin) = plugin else {
        logging::print(&format!("{}\n\nPlugins:\n", super::args::usage("corelane")));
        let first = |name: &str| of(name).and_then(|text| text.lines().nth(2).map(str::to_owned));
        for (name, _) in SOURCES {
            logging::print(&format!("  {name:<14} {}\n", first(name).unwrap_or_default()));
        }
        return ExitCode::SUCCESS;
    };
    match of(plugin) {
        Some(text) => {
            logging::print(&text);
            ExitCode::SUCCESS
        }
        None => {
            logging::fatal(&format!("corelane: no manual of {plugin:?}: see `corelane help`"));
            ExitCode::from(1)
        }
    }
}
