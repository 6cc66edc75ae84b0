//! `corelane help [PLUGIN | SUB-COMMAND]` and `-plugins`: the manuals that stand at the head of each plugin's file.

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

/// What a manual says first, up to the end of the sentence or a colon.
fn first_sentence(manual: &str) -> String {
    let paragraph: Vec<&str> = manual.lines().skip(2).take_while(|line| !line.is_empty()).collect();
    let paragraph = paragraph.join(" ");
    let ends = [". ", ": "].iter().filter_map(|end| paragraph.find(end));
    let end = ends.min().unwrap_or(paragraph.trim_end_matches('.').len());
    paragraph[..end].to_owned()
}

/// Prints a manual or a sub-command's arguments, or the usage and the list of manuals.
pub fn run(plugin: Option<&str>) -> ExitCode {
    let Some(plugin) = plugin else {
        logging::print(&format!("{}\n\nPlugins:\n", super::args::usage("corelane")));
        let first = |name: &str| of(name).map(|text| first_sentence(&text));
        for (name, _) in SOURCES {
            logging::print(&format!("  {name:<14} {}\n", first(name).unwrap_or_default()));
        }
        return ExitCode::SUCCESS;
    };
    match of(plugin).or_else(|| super::args::usage_of(plugin)) {
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
