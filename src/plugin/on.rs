//! # on
//!
//! Runs a command when the server starts or stops.
//!
//! ## Syntax
//!
//! ```corefile
//! on EVENT COMMAND [ARGUMENTS...] [&]
//! ```
//!
//! * **EVENT** is `startup` (whenever a Corefile has been loaded and is served, reloads included),
//!   `shutdown` (SIGTERM or SIGINT, before the lameduck time) or `certrenew`, which never happens.
//! * **COMMAND** is looked for along `$PATH` and gets the **ARGUMENTS** as they are: there is no
//!   shell, but quotes and backslashes are understood. Its output is the server's.
//!
//! Commands of a block run one after the other; with `&` at the end the next one does not wait. One
//! that fails is told in the log, and the server goes on.
//!
//! ## Examples
//!
//! ```corefile
//! . {
//!     on startup touch /tmp/dns-is-up
//!     on shutdown rm -f /tmp/dns-is-up
//!     whoami
//! }
//! ```
//!
//! ## Differences from CoreDNS
//!
//! * A long command at the start holds up neither a reload nor the banner.
//! * Words may hold any character.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus};

use super::{Compiled, CorefileError, Directive, Lines, SetupError, Site};
use crate::control::corefile::Stanza;
use crate::control::logging;

/// The directive: all its uses in a block.
pub struct On {
    orders: Vec<Order>,
}

/// When.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Startup,
    Shutdown,
    CertRenew,
}

/// A command to be run.
#[derive(Debug, PartialEq, Eq)]
struct Order {
    when: When,
    command: String,
    args: Vec<String>,
    background: bool,
}

impl Directive for On {
    const NAME: &'static str = "on";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let orders = lines.stanzas().iter().map(|stanza| order(lines, stanza));
        Ok(Self { orders: orders.collect::<Result<_, _>>()? })
    }

    fn compile(self, site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        let (at_start, others): (Vec<_>, Vec<_>) =
            self.orders.into_iter().partition(|order| order.when == When::Startup);
        if !at_start.is_empty() {
            // A thread of its own: commands may take long, and control must not.
            site.spawn(async move {
                let run = move || at_start.iter().for_each(Order::run);
                if let Err(error) = std::thread::Builder::new().name("on".into()).spawn(run) {
                    logging::print(&format!("error on 'on-startup' hook: {error}\n"));
                }
            });
        }
        for order in others.into_iter().filter(|order| order.when == When::Shutdown) {
            site.at_stop(move || {
                order.run();
                Ok(())
            });
        }
        Ok(Compiled::nothing())
    }
}

fn order(lines: &Lines<'_>, stanza: &Stanza) -> Result<Order, CorefileError> {
    let Some((event, words)) = stanza.args.split_first() else {
        return Err(lines.arg_err(&stanza.name));
    };
    let when = match event.text.to_lowercase().as_str() {
        "startup" => When::Startup,
        "shutdown" => When::Shutdown,
        "certrenew" => When::CertRenew,
        _ => {
            let message = format!("Wrong event name or event not supported: '{}'", event.text);
            let known = &["startup", "shutdown", "certrenew"];
            return Err(lines.parse_err(event, message).suggesting(&event.text, known));
        }
    };
    lines.no_block(stanza)?;
    let text = words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ");
    let mut args = split(&text).map_err(|message| lines.parse_err(event, message))?;
    if args.is_empty() {
        return Err(lines.parse_err(event, format!("no command contained in '{text}'")));
    }
    let command = args.remove(0);
    let background = args.pop_if(|last| last == "&").is_some();
    Ok(Order { when, command, args, background })
}

/// Words as a shell would split them: quotes, backslashes, a comment from `#` at a word's start.
fn split(text: &str) -> Result<Vec<String>, String> {
    let open = |what: &str| format!("error parsing command: EOF found {what}");
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '#' if word.is_none() => break,
            '\\' => {
                let next = letters.next().ok_or_else(|| open("after escape character"))?;
                word.get_or_insert_default().push(next);
            }
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                loop {
                    let end = || open("when expecting closing quote.");
                    match letters.next().ok_or_else(end)? {
                        quote if quote == letter => break,
                        '\\' if letter == '"' => word.push(letters.next().ok_or_else(end)?),
                        other => word.push(other),
                    }
                }
            }
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    Ok(words)
}

impl Order {
    /// Runs the command, and waits for its end unless it belongs into the background.
    fn run(&self) {
        let id = id();
        let how = if self.background { "Nonblocking" } else { "Blocking" };
        let args = self.args.join(" ");
        tracing::info!("{how} Command \"{} {args}\" with ID {id}", self.command);
        if let Err(fault) = self.start() {
            logging::print(&format!("error on 'on-{id}' hook: {fault}\n"));
        }
    }

    fn start(&self) -> Result<(), String> {
        let mut command = Command::new(&self.command);
        command.args(&self.args);
        let mut child = command.spawn().map_err(|error| self.not_started(&error))?;
        if self.background {
            // Somebody has to take its status when it ends.
            drop(std::thread::Builder::new().name("on".into()).spawn(move || child.wait()));
            return Ok(());
        }
        let status = child.wait().map_err(|error| error.to_string())?;
        if status.success() { Ok(()) } else { Err(ended(status)) }
    }

    /// In Go's words.
    fn not_started(&self, error: &io::Error) -> String {
        let command = &self.command;
        match error.kind() {
            io::ErrorKind::NotFound if !command.contains('/') => {
                format!("exec: {command:?}: executable file not found in $PATH")
            }
            io::ErrorKind::NotFound => format!("fork/exec {command}: no such file or directory"),
            io::ErrorKind::PermissionDenied => format!("fork/exec {command}: permission denied"),
            _ => format!("fork/exec {command}: {error}"),
        }
    }
}

/// How a command ended that failed, in Go's words.
fn ended(status: ExitStatus) -> String {
    let signal = match (status.code(), status.signal()) {
        (Some(code), _) => return format!("exit status {code}"),
        (None, Some(signal)) => signal,
        (None, None) => return status.to_string(),
    };
    match signal {
        libc::SIGHUP => "signal: hangup".into(),
        libc::SIGINT => "signal: interrupt".into(),
        libc::SIGKILL => "signal: killed".into(),
        libc::SIGTERM => "signal: terminated".into(),
        libc::SIGSEGV => "signal: segmentation fault".into(),
        other => format!("signal: signal {other}"),
    }
}

/// A random identifier (RFC 9562 section 5.4): ties a command's lines in the log together.
fn id() -> String {
    let mut octets = [0; 16];
    // Without randomness all have the same: nothing but the log looks at it.
    let _ = getrandom::fill(&mut octets);
    octets[6] = octets[6] & 0x0f | 0x40;
    octets[8] = octets[8] & 0x3f | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(octets));
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::super::parse_block;
    use super::*;

    fn parse(block: &str) -> Result<Vec<Order>, String> {
        parse_block::<On>(block).map(|on| on.orders)
    }

    #[test]
    fn reads_event_command_and_ampersand() {
        let orders = parse("on Startup echo 'a b'\non shutdown sleep 3 &\non certrenew x").unwrap();
        let seen = |order: &Order| (order.when, order.command.clone(), order.background);
        assert_eq!(
            orders.iter().map(seen).collect::<Vec<_>>(),
            [
                (When::Startup, "echo".to_owned(), false),
                (When::Shutdown, "sleep".to_owned(), true),
                (When::CertRenew, "x".to_owned(), false),
            ]
        );
        assert_eq!(orders[1].args, ["3"]);
    }

    #[test]
    fn refuses_in_coredns_s_words() {
        for (block, words) in [
            ("on", "Wrong argument count or unexpected line ending after 'on'"),
            ("on xyz cmd", "Wrong event name or event not supported: 'xyz'"),
            ("on startup", "no command contained in ''"),
            ("on startup echo 'x", "EOF found when expecting closing quote."),
        ] {
            let error = parse(block).map(|_| ()).expect_err(block);
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn splits_as_a_shell_does() {
        for (text, words) in [
            ("a  b\tc", &["a", "b", "c"][..]),
            ("sh -c 'echo \"x\" \\n' \"a\\\"b\"", &["sh", "-c", "echo \"x\" \\n", "a\"b"]),
            ("a'b c'd e\\ f", &["ab cd", "e f"]),
            ("a# # b", &["a#"]),
            ("'' \"\"", &["", ""]),
        ] {
            assert_eq!(split(text).unwrap(), words, "{text}");
        }
        assert!(split("a\\").is_err() && split("\"a").is_err());
    }

    #[test]
    fn a_failure_is_told_in_go_s_words() {
        let start = |command: &str, args: &[&str]| {
            let args = args.iter().map(|arg| (*arg).to_owned()).collect();
            let command = command.to_owned();
            Order { when: When::Startup, command, args, background: false }.start()
        };
        assert_eq!(start("true", &[]), Ok(()));
        assert_eq!(start("sh", &["-c", "exit 3"]), Err("exit status 3".into()));
        assert_eq!(start("sh", &["-c", "kill -9 $$"]), Err("signal: killed".into()));
        let missing = "exec: \"no-such-command\": executable file not found in $PATH";
        assert_eq!(start("no-such-command", &[]), Err(missing.into()));
        let missing = "fork/exec /no/such: no such file or directory";
        assert_eq!(start("/no/such", &[]), Err(missing.into()));
    }

    #[test]
    fn ids_are_those_of_version_4() {
        let (one, two) = (id(), id());
        assert_ne!(one, two);
        assert_eq!((one.len(), &one[14..15]), (36, "4"));
    }
}
