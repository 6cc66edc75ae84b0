//! Reports as text.

use std::io::{self, Write};

use super::super::resolver::Resolver;
use super::Explained;
use super::report::{Report, Step};

/// Columns of the plugins' names.
const PLUGIN_CHARS: usize = 14;

pub(super) fn print(explained: &Explained, out: &mut dyn Write) -> io::Result<()> {
    for (index, report) in explained.reports.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        print_report(report, out)?;
    }
    if let Some(Resolver { servers, search, ndots }) = &explained.resolver {
        let listed = |name: &str, words: &[String]| match words {
            [] => String::new(),
            words => format!("{name} {}, ", words.join(" ")),
        };
        let (servers, search) = (listed("nameserver", servers), listed("search", search));
        writeln!(out, "\nresolv.conf: {servers}{search}ndots {ndots}")?;
    }
    for way in &explained.ways {
        writeln!(out, "\n{} asks for", way.libc)?;
        way.names.iter().try_for_each(|(name, ended)| writeln!(out, "  {name} ({ended})"))?;
    }
    Ok(())
}

fn print_report(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let Report { name, rtype, from, transport, listener, .. } = report;
    writeln!(out, "{name} {rtype} from {from}, by {transport} at {listener}")?;
    if report.blocks.is_empty() {
        writeln!(out, "block: none serves the name there")?;
    }
    for block in &report.blocks {
        let view = match &*block.view {
            "" => String::new(),
            view => format!(" (view {view})"),
        };
        let sign = if block.chosen { "block" } else { "not" };
        writeln!(out, "{sign}: {}{view}: {}", block.zone, block.why)?;
    }
    let mut question = None;
    for step in report.steps.iter().filter(|step| step.act != "end") {
        // What is asked in between stands further in, under its question.
        let indent = "    ".repeat(step.depth.into());
        if step.depth > 0
            && step.act == "serve"
            && question.replace(&step.question) != Some(&step.question)
        {
            writeln!(out, "  {indent}{} in {}", step.question, step.zone)?;
        }
        writeln!(out, "  {indent}{}", line(step))?;
    }
    if report.lost > 0 {
        writeln!(out, "  and {} steps more", report.lost)?;
    }
    let took = duration(report.micros);
    let Some(reply) = &report.reply else {
        return writeln!(out, "reply: none is sent, after {took}");
    };
    let flags = reply.flags.iter().map(|flag| format!(" {flag}")).collect::<String>();
    writeln!(out, "reply: {}{flags}, {} octets, after {took}", reply.rcode, reply.bytes)?;
    if !reply.edns.is_empty() {
        writeln!(out, "  EDNS: {}", reply.edns.join(", "))?;
    }
    for record in &reply.records {
        let note = if record.section == "answer" { "" } else { &*record.section };
        let note = if note.is_empty() { String::new() } else { format!("  ; {note}") };
        writeln!(out, "  {} {} {} {}{note}", record.name, record.ttl, record.rtype, record.rdata)?;
    }
    Ok(())
}

fn line(step: &Step) -> String {
    let plugin = if step.plugin.is_empty() { "-" } else { &step.plugin };
    // Padded but for what is longer; its time at the end, where there is nothing to line up.
    format!("{plugin:<PLUGIN_CHARS$} {} ({})", step.words, duration(step.micros))
}

fn duration(micros: f64) -> String {
    match micros {
        short if short < 1_000.0 => format!("{short:.1} µs"),
        middle if middle < 1_000_000.0 => format!("{:.1} ms", middle / 1_000.0),
        long => format!("{:.2} s", long / 1_000_000.0),
    }
}
