//! `corelane check FILE`: every fault of a Corefile at once, without serving anything.
//!
//! Nothing is opened but the Corefile, what it imports and what a plugin's parsing reads. Faults
//! come in the order of the file, after warnings of what is accepted and probably not meant. Ends with
//! status 0 for a Corefile that would be accepted, with 1 for any other.

use std::io::{self, Write};

use super::corefile::{
    self, Corefile, CorefileError, Directives, Input, ServerBlock, Sources, Stanza,
};
use super::lint::lints;
use super::migrate;

/// How faults are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Several lines each, with the source line and a caret.
    #[default]
    Report,
    /// `[warning: ]FILE:LINE:COL: [plugin: ]MESSAGE`.
    Line,
    /// CoreDNS's lines.
    CoreDns,
}

impl Format {
    /// The format that `--format=NAME` names.
    pub fn of_name(name: &str) -> Option<Self> {
        match name {
            "report" => Some(Self::Report),
            "line" => Some(Self::Line),
            "coredns" => Some(Self::CoreDns),
            _ => None,
        }
    }

    fn print(self, error: &CorefileError, sources: &Sources) -> String {
        match self {
            Self::Report => error.report(sources),
            Self::Line => format!("{error}\n"),
            Self::CoreDns => error.coredns_line() + "\n",
        }
    }
}

/// What is found in a Corefile.
type Found = Vec<CorefileError>;

/// Prints every fault of the Corefile to `out`, or that there is none, and returns the exit status.
///
/// `plugins` gives the faults that the plugins' own parsing finds, or else what they warn of; it is
/// asked even if there are others, with the blocks that could be read, in which directives may be
/// unknown.
///
/// # Errors
/// If `out` cannot be written to.
pub fn check(
    input: Input,
    format: Format,
    directives: Directives<'_>,
    default_port: u16,
    plugins: &mut dyn FnMut(&Corefile) -> Result<Found, Found>,
    out: &mut dyn Write,
) -> io::Result<u8> {
    let env = |name: &str| std::env::var_os(name).map(|v| v.to_string_lossy().into_owned());
    let corefile::Reading { corefile, mut errors } =
        corefile::read(input, directives, &env, default_port);
    let mut warnings = corefile.warnings.clone();
    match plugins(&corefile) {
        Ok(more) => warnings.extend(more),
        Err(more) => errors.extend(more),
    }
    let sources = &corefile.sources;
    let order = |error: &CorefileError| {
        let place = error.place.as_ref();
        place.map(|p| (sources.files().position(|file| *file == *p.file), p.line, p.column))
    };
    errors.sort_by_key(order);
    errors.dedup();
    // What a Corefile means can be told of a whole one only.
    if errors.is_empty() {
        warnings.extend(lints(&corefile));
    }
    warnings.sort_by_key(order);
    for warning in &warnings {
        match format {
            Format::Report => {
                write!(out, "{}", warning.report(sources).replacen("error", "warning", 1))?;
            }
            Format::Line => writeln!(out, "warning: {warning}")?,
            // CoreDNS has no such lines.
            Format::CoreDns => {}
        }
    }
    for error in &errors {
        out.write_all(format.print(error, sources).as_bytes())?;
    }
    match errors.len() {
        0 => writeln!(out, "valid: {}", count(corefile.blocks.len(), "server block"))?,
        faults if format == Format::Report => {
            writeln!(out, "{}", count(faults, "error"))?;
            if corefile.blocks.iter().any(is_older) {
                writeln!(
                    out,
                    "it is of an older CoreDNS: `corelane migrate` writes it as today's"
                )?;
            }
        }
        _ => {}
    }
    Ok(u8::from(!errors.is_empty()))
}

/// Whether a block has a word of earlier releases.
fn is_older(block: &ServerBlock) -> bool {
    let is_former = |stanza: &Stanza| {
        let mut options = stanza.options.iter().map(|option| option.name.text.as_str());
        migrate::FORMER.contains(&&*stanza.directive)
            || stanza.directive == "kubernetes"
                && options.any(|option| matches!(option, "upstream" | "resyncperiod" | "transfer"))
    };
    block.stanzas.iter().any(is_former)
}

/// `1 error`, `2 errors`.
fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::super::corefile::Lines;
    use super::*;

    fn run(text: &str, format: Format) -> (u8, String) {
        let input = Input::Text { name: "Corefile".into(), text: text.into() };
        let names = ["errors", "log", "cache", "whoami"];
        let directives = Directives { known: &names, built: &names };
        let mut out = Vec::new();
        let mut plugins = |corefile: &Corefile| {
            let mut faults = Vec::new();
            for block in &corefile.blocks {
                let lines = Lines::new(block, "whoami", None);
                let uses = lines.stanzas().iter();
                faults.extend(uses.clone().filter_map(|stanza| lines.no_args(*stanza).err()));
                // Found twice, told once.
                faults.extend(uses.filter_map(|stanza| lines.no_args(*stanza).err()));
            }
            Err(faults)
        };
        let status = check(input, format, directives, 53, &mut plugins, &mut out);
        (status.expect("written"), String::from_utf8(out).expect("text"))
    }

    #[test]
    fn a_valid_corefile() {
        assert_eq!(run(". {\n whoami\n}\n", Format::Report), (0, "valid: 1 server block\n".into()));
    }

    #[test]
    fn all_faults_in_the_order_of_the_file() {
        let text = "a {\n whoami x\n cahce\n}\nb..c {\n}\n";
        let (status, out) = run(text, Format::Line);
        assert_eq!(status, 1);
        assert_eq!(
            out,
            "Corefile:2:9: whoami: Wrong argument count or unexpected line ending after 'x'\n\
             Corefile:3:2: Unknown directive 'cahce' (did you mean \"cache\"?)\n\
             Corefile:5:1: zone is not a valid domain name: b..c\n"
        );
        let (_, out) = run(text, Format::CoreDns);
        let args = "Wrong argument count or unexpected line ending after 'x'";
        assert_eq!(
            out,
            format!(
                "plugin/whoami: Corefile:2 - Error during parsing: {args}\n\
                 Corefile:3 - Error during parsing: Unknown directive 'cahce'\n\
                 error inspecting server blocks: zone is not a valid domain name: b..c\n"
            )
        );
        let (_, out) = run(text, Format::Report);
        assert!(out.contains("3 |  cahce\n  |  ^^^^^\n  help: did you mean \"cache\"?\n"), "{out}");
        assert!(out.ends_with("3 errors\n"));
    }

    #[test]
    fn warnings_change_nothing() {
        let text = ". {\n log stdout\n}\n";
        let (status, out) = run(text, Format::Line);
        let start = "warning: Corefile:2:6: log: \"stdout\" is taken for a name";
        assert!(status == 0 && out.starts_with(start), "{out}");
        assert!(out.ends_with("\nvalid: 1 server block\n"), "{out}");
        let (_, out) = run(text, Format::Report);
        assert!(out.starts_with("warning: log: \"stdout\" is taken for a name"), "{out}");
        assert_eq!(run(text, Format::CoreDns), (0, "valid: 1 server block\n".into()));
        let (_, out) = run(". {\n log stdout\n whoami x\n}\n", Format::Line);
        assert!(!out.contains("warning"), "nothing is told of what is not whole: {out}");
    }

    #[test]
    fn a_file_that_is_not_there() {
        let directives = Directives { known: &[], built: &[] };
        let mut out = Vec::new();
        let input = Input::File("no such Corefile".into());
        let status = check(input, Format::Line, directives, 53, &mut |_| Ok(Vec::new()), &mut out);
        assert_eq!(status.expect("written"), 1);
        assert_eq!(out, b"open no such Corefile: no such file or directory\n");
    }
}
