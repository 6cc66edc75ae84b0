//! The command line: CoreDNS's flags, read as Go reads them, and the sub-commands of our own.
//!
//! A flag may stand with one dash or two, its value after `=` or as the next argument; the last one wins;
//! the first argument that is no flag ends them. A fault ends the process as Go's flag package does:
//! what is wrong and the usage on standard error, status 2; a word beside the flags is status 1.
//! A sub-command (`check`, `diff`, `doctor`, `explain`, `queries`, `top`, `migrate`, `help`, `try`) is
//! one only as the very first argument.
//!
//! The flags stand once, in [`Flags`]: clap reads them, and the usage text and the rewriting of Go's
//! spelling are derived from clap's own list.

use std::ffi::OsString;
use std::path::PathBuf;

use super::check::Format;
use super::node_local;
use super::top::Top;
use clap::builder::ValueParser;
use clap::{Arg, CommandFactory as _, Parser, ValueEnum};

/// Names the engine where no flag does.
pub const IO_ENGINE_VARIABLE: &str = "CORELANE_IO_ENGINE";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Start the server.
    Serve(Serve),
    /// `check`: read a Corefile, tell all its faults, start nothing.
    Check(Check),
    /// `queries`: make queries for a load test from what a cluster has.
    Queries(Queries),
    /// `top`: show who asks a running server.
    Top(Top),
    /// `diff`: what a change of a Corefile means.
    Diff(Diff),
    /// `explain`: the way of a question.
    Explain(Explain),
    /// `doctor`: why names do not resolve.
    Doctor(Doctor),
    /// `migrate`: an older Corefile as today's.
    Migrate(PathBuf),
    /// `help`: a plugin's manual or a sub-command's arguments; without a word the usage and the list of
    /// plugins.
    Help(Option<String>),
    /// `-version`: print [`super::version::text`].
    Version,
    /// `-plugins`: print the names of the plugins that are built in.
    Plugins,
}

/// How to start the server.
#[derive(Debug, PartialEq, Eq)]
pub struct Serve {
    /// Where the configuration comes from.
    pub source: Source,
    /// The port of `dns://` keys that name none.
    pub port: u16,
    /// Where to write the process id.
    pub pidfile: Option<PathBuf>,
    /// Leave out the banner.
    pub quiet: bool,
    /// What carries plain UDP and TCP.
    pub io_engine: IoEngine,
    /// Whether the kernel's time stamps of datagrams are looked at now and then.
    pub receive_stamps: bool,
    /// Where a server and its successor find each other.
    pub hand_over: Option<PathBuf>,
    /// The node's addresses and rules.
    pub node_local: Option<node_local::Wanted>,
    /// How log lines are written.
    pub log_format: LogFormat,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// `[INFO] plugin/NAME: message`.
    #[default]
    Text,
    /// JSON objects.
    Json,
}

/// Where a configuration comes from.
#[derive(Debug, PartialEq, Eq)]
pub enum Source {
    /// `Corefile` in the working directory; where there is none, CoreDNS's own `whoami` and `log`.
    Default,
    /// `-conf FILE`.
    File(PathBuf),
    /// `-conf stdin`.
    Stdin,
    /// `try`: the built-in sample configuration and zone, with lines to try.
    Sample,
}

/// What carries plain UDP and TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IoEngine {
    /// Readiness, `recvmmsg` and `sendmmsg`; replies to one client leave together.
    Gso,
    /// The same, and each reply leaves by itself.
    Mmsg,
    /// io_uring.
    Uring,
}

/// What `check` reads, and how it tells.
#[derive(Debug, PartialEq, Eq, clap::Args)]
pub struct Check {
    /// The Corefile; - is standard input
    #[arg(default_value = "Corefile")]
    pub file: PathBuf,
    /// How faults are told: report, line or coredns
    #[arg(long, default_value = "report", value_parser = format)]
    pub format: Format,
    /// Default port
    #[arg(short = 'p', long = "dns.port", value_name = "PORT", default_value_t = 53)]
    pub port: u16,
}

/// What `diff` compares.
#[derive(Debug, PartialEq, Eq, clap::Args)]
pub struct Diff {
    /// The Corefile as it was; - is standard input
    pub old: PathBuf,
    /// The Corefile as it shall be
    pub new: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Default port
    #[arg(short = 'p', long = "dns.port", value_name = "PORT", default_value_t = 53)]
    pub port: u16,
}

/// What `explain` asks, of whom.
#[derive(Debug, PartialEq, Eq, clap::Args)]
pub struct Explain {
    /// The name
    pub name: String,
    /// The type (default "A")
    #[arg(value_name = "TYPE")]
    pub rtype: Option<String>,
    /// The client's address, with or without a port (default: the pod's, or 127.0.0.1)
    #[arg(long, value_name = "ADDR")]
    pub from: Option<String>,
    /// Have a running server walk it: the address of its port of health
    #[arg(long, value_name = "ADDR", conflicts_with = "corefile")]
    pub server: Option<String>,
    /// Ask as this pod's resolver would, NAMESPACE/NAME
    #[arg(long, value_name = "POD", conflicts_with_all = ["policy", "namespace"])]
    pub pod: Option<String>,
    /// Ask as the resolver of a pod with this dnsPolicy would
    #[arg(long)]
    pub policy: Option<String>,
    /// That pod's namespace
    #[arg(long, default_value = "default")]
    pub namespace: String,
    /// Its search path instead
    #[arg(long, value_name = "ZONE", value_delimiter = ',')]
    pub search: Vec<String>,
    /// Its ndots instead
    #[arg(long)]
    pub ndots: Option<u32>,
    /// The cluster's zone, in its search path
    #[arg(long, default_value = "cluster.local")]
    pub zone: String,
    /// The API server's URL, without credentials: for --pod
    #[arg(long, value_name = "URL", conflicts_with = "kubeconfig")]
    pub endpoint: Option<String>,
    /// The Corefile; - is standard input
    #[arg(long, value_name = "FILE", default_value = "Corefile")]
    pub corefile: PathBuf,
    /// Where it is asked, :PORT or ADDR:PORT (default: the first address that is listened on)
    #[arg(long, value_name = "ADDR")]
    pub at: Option<String>,
    /// Ask by TCP
    #[arg(long)]
    pub tcp: bool,
    /// Ask for DNSSEC records: by EDNS, with the bit DO
    #[arg(long)]
    pub dnssec: bool,
    /// Say by EDNS how many octets of a datagram are taken (default: no EDNS; with it 1232)
    #[arg(long, value_name = "OCTETS")]
    pub bufsize: Option<u16>,
    /// Ask by EDNS for the server's name
    #[arg(long)]
    pub nsid: bool,
    /// Say by EDNS that it is asked for this network
    #[arg(long, value_name = "ADDR/BITS")]
    pub subnet: Option<String>,
    /// Set CD: signatures are not to be checked
    #[arg(long)]
    pub cd: bool,
    /// Have the plugin kubernetes look at the cluster of this file, whatever the Corefile says
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Default port
    #[arg(short = 'p', long = "dns.port", value_name = "PORT", default_value_t = 53)]
    pub port: u16,
}

/// Where `doctor` looks.
#[derive(Debug, PartialEq, Eq, clap::Args)]
pub struct Doctor {
    /// The pod that cannot resolve, NAMESPACE/NAME
    pub pod: Option<String>,
    /// The cluster's kubeconfig (default: KUBECONFIG, the cluster around, ~/.kube/config)
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The API server's URL, without credentials
    #[arg(long, value_name = "URL", conflicts_with = "kubeconfig")]
    pub endpoint: Option<String>,
    /// The namespace of the DNS pods
    #[arg(long, default_value = "kube-system")]
    pub namespace: String,
    /// Their Service
    #[arg(long, default_value = "kube-dns")]
    pub service: String,
    /// The ConfigMap with the Corefile
    #[arg(long, value_name = "NAME", default_value = "coredns")]
    pub config_map: String,
    /// The cluster's zone (default: the kubelet's clusterDomain)
    #[arg(long)]
    pub zone: Option<String>,
    /// A node's resolv.conf, to look for loops in
    #[arg(long, value_name = "FILE")]
    pub resolv_conf: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Which cluster `queries` looks at, and what it prints.
#[derive(Debug, PartialEq, Eq, clap::Args)]
pub struct Queries {
    /// Ask the API server of the cluster that this runs in: so it is where nothing else is said
    #[arg(long)]
    pub from_cluster: bool,
    /// Ask the API server that this file names
    #[arg(long, value_name = "FILE", conflicts_with = "from_cluster")]
    pub kubeconfig: Option<PathBuf>,
    /// Ask the API server at this URL
    #[arg(long, value_name = "URL", conflicts_with_all = ["from_cluster", "kubeconfig"])]
    pub endpoint: Option<String>,
    /// Read manifests instead, files or directories
    #[arg(
        long, value_name = "PATH", num_args = 1..,
        conflicts_with_all = ["from_cluster", "kubeconfig", "endpoint"]
    )]
    pub manifests: Vec<PathBuf>,
    /// The cluster's zone
    #[arg(long, default_value = "cluster.local")]
    pub zone: String,
    /// Instead: what search paths make of these names, which are not in the cluster
    #[arg(long, value_name = "NAME", num_args = 1..)]
    pub outside: Vec<String>,
}

/// A command line that ends the process at once: the text for standard error and the exit status.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    /// Whole lines, without the last line's end.
    pub message: String,
    /// The exit status.
    pub status: u8,
}

/// CoreDNS's flags and ours: the one list.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true, args_override_self = true)]
struct Flags {
    /// Corefile to load; stdin reads it from standard input (default "Corefile")
    #[arg(long)]
    conf: Option<String>,
    /// Default port
    #[arg(long = "dns.port", alias = "p", default_value_t = 53)]
    port: u16,
    /// Directory in which a server that serves already is found, and succeeded without a gap
    #[arg(long)]
    hand_over: Option<PathBuf>,
    #[command(flatten)]
    node_local: node_local::flags::Flags,
    /// What carries plain UDP and TCP: gso, mmsg or uring (default "gso")
    #[arg(long)]
    io_engine: Option<IoEngine>,
    /// How log lines are written: text or json (default "text")
    #[arg(long)]
    log_format: Option<LogFormat>,
    /// Path to write pid file
    #[arg(long)]
    pidfile: Option<PathBuf>,
    /// List installed plugins
    #[arg(long, action = clap::ArgAction::Set, default_value_t = false)]
    plugins: bool,
    /// Quiet mode (no initialization output)
    #[arg(long, action = clap::ArgAction::Set, default_value_t = false)]
    quiet: bool,
    /// Measure how long datagrams wait in the kernel
    #[arg(long, action = clap::ArgAction::Set, default_value_t = true)]
    receive_stamps: bool,
    /// Show version
    #[arg(long, action = clap::ArgAction::Set, default_value_t = false)]
    version: bool,
}

// How each ends.
const CHECKED: &str = "Exit status 0: the Corefile would be loaded, 1: not, 2: wrong arguments";
const COMPARED: &str = "Exit status 0: both mean the same, 1: not, 2: one cannot be loaded";
const EXPLAINED: &str = "Exit status 0: a reply was sent, 1: none was, 2: wrong arguments. \
                         A server that does not answer is given up after two minutes";
const EXAMINED: &str = "Exit status 0: no cause was found, 1: one was, 2: wrong arguments";
const MADE: &str = "Exit status 0: queries were printed, 1: there are none, 2: wrong arguments";
const SHOWN: &str = "Exit status 0, or 1: no answer within ten seconds, 2: wrong arguments";
const MIGRATED: &str = "Exit status 0: nothing is left to do, 1: something is, 2: wrong arguments";

/// The sub-commands that take arguments of their own.
#[derive(Debug, Parser)]
#[command(name = "corelane", no_binary_name = true, disable_help_subcommand = true)]
enum SubCommand {
    /// Read a Corefile and tell all its faults; status 1 if there are some
    #[command(after_help = CHECKED)]
    Check(Check),
    /// Tell what a change of a Corefile means; status 1 if it means something
    #[command(after_help = COMPARED)]
    Diff(Diff),
    /// Tell the way of a question: which block, which plugin said what, who was asked, how long it took
    #[command(after_help = EXPLAINED)]
    Explain(Explain),
    /// Find out why pods cannot resolve names, step by step; status 1 if there is a cause
    #[command(after_help = EXAMINED)]
    Doctor(Doctor),
    /// Print queries for a load test, made from the services of a cluster
    #[command(after_help = MADE)]
    Queries(Queries),
    /// Show who asks a running server, and for what
    #[command(after_help = SHOWN)]
    Top(Top),
    /// Print a Corefile of an older CoreDNS as today's; tell each change
    #[command(after_help = MIGRATED)]
    Migrate {
        /// The Corefile; - is standard input
        #[arg(default_value = "Corefile")]
        file: PathBuf,
    },
    /// Print a plugin's manual, or the arguments of a sub-command
    Help {
        /// The name of either
        #[arg(value_name = "PLUGIN")]
        subject: Option<String>,
    },
}

/// Reads the command line. `args` begins with the program's name; `io_engine` is the value of
/// [`IO_ENGINE_VARIABLE`].
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    io_engine: Option<&str>,
) -> Result<Command, Ended> {
    let mut args = args.into_iter().map(|arg| arg.to_string_lossy().into_owned());
    let program = args.next().unwrap_or_else(|| "corelane".to_owned());
    let args: Vec<String> = args.collect();
    match args.first().map(String::as_str) {
        Some("check" | "diff" | "doctor" | "explain" | "queries" | "top" | "migrate" | "help") => {
            match SubCommand::try_parse_from(&args) {
                Ok(SubCommand::Check(check)) => Ok(Command::Check(check)),
                Ok(SubCommand::Diff(diff)) => Ok(Command::Diff(diff)),
                Ok(SubCommand::Doctor(doctor)) => Ok(Command::Doctor(doctor)),
                Ok(SubCommand::Explain(explain)) => Ok(Command::Explain(explain)),
                Ok(SubCommand::Queries(queries)) => Ok(Command::Queries(queries)),
                Ok(SubCommand::Top(top)) => Ok(Command::Top(top)),
                Ok(SubCommand::Migrate { file }) => Ok(Command::Migrate(file)),
                Ok(SubCommand::Help { subject }) => Ok(Command::Help(subject)),
                Err(error) => Err(Ended {
                    message: error.to_string().trim_end().to_owned(),
                    status: u8::try_from(error.exit_code()).unwrap_or(2),
                }),
            }
        }
        Some("try") => flags(&program, &args[1..], io_engine).map(|command| match command {
            Command::Serve(serve) => Command::Serve(Serve { source: Source::Sample, ..serve }),
            other => other,
        }),
        _ => flags(&program, &args, io_engine),
    }
}

/// The usage text: flags as Go prints them, then the sub-commands.
pub fn usage(program: &str) -> String {
    let mut text = format!("Usage of {program}:");
    let command = Flags::command();
    let mut entries: Vec<(&str, &Arg)> = command.get_arguments().flat_map(names_of).collect();
    entries.sort_unstable_by_key(|(name, _)| *name);
    for (name, arg) in entries {
        let kind = if is_bool(arg) { "" } else { " string" };
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        text.push_str(&format!("\n  -{name}{kind}\n    \t{help}"));
        if let (false, [default]) = (is_bool(arg), arg.get_default_values()) {
            text.push_str(&format!(" (default \"{}\")", default.to_string_lossy()));
        }
    }
    text.push_str(
        "\nSub-commands:\n  try [FLAG...]\n    \tServe a built-in zone, to try the server",
    );
    for sub in SubCommand::command().get_subcommands() {
        let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
        let name = sub.get_name();
        let operand = match name {
            "check" => "[FILE] [--format=coredns]",
            "diff" => "OLD NEW [--json]",
            "doctor" => "[NAMESPACE/POD] [--kubeconfig FILE]",
            "explain" => "NAME [TYPE] [--from ADDR] [--corefile FILE | --server ADDR] [--pod POD]",
            "queries" => "[--from-cluster | --manifests PATH...] [--outside NAME...]",
            "top" => "[--server ADDRESS]",
            "migrate" => "[FILE]",
            _ => "[PLUGIN | SUB-COMMAND]",
        };
        text.push_str(&format!("\n  {name} {operand}\n    \t{about}"));
    }
    text
}

/// The arguments and the exit status of a sub-command.
pub fn usage_of(name: &str) -> Option<String> {
    let mut command = SubCommand::command();
    let command = command.find_subcommand_mut(name)?;
    Some(command.render_help().to_string())
}

fn format(name: &str) -> Result<Format, String> {
    Format::of_name(name).ok_or_else(|| "report, line or coredns".to_owned())
}

fn flags(program: &str, args: &[String], io_engine: Option<&str>) -> Result<Command, Ended> {
    let wrong =
        |fault: String| Ended { message: format!("{fault}\n{}", usage(program)), status: 2 };
    let (spelled, rest) = match from_go(&Flags::command(), args) {
        Ok(both) => both,
        Err(None) => return Err(Ended { message: usage(program), status: 0 }),
        Err(Some(fault)) => return Err(wrong(fault)),
    };
    let flags = Flags::try_parse_from(spelled).map_err(|error| wrong(clap_fault(&error)))?;
    if !rest.is_empty() {
        let message = format!("extra command line arguments: [{}]", rest.join(" "));
        return Err(Ended { message, status: 1 });
    }
    if flags.version {
        return Ok(Command::Version);
    }
    if flags.plugins {
        return Ok(Command::Plugins);
    }
    let node_local = flags.node_local.wanted(flags.port).map_err(wrong)?;
    let from_environment = || match io_engine.unwrap_or_default() {
        "" => Ok(IoEngine::Gso),
        name => IoEngine::from_str(name, false)
            .map_err(|_| wrong(format!("invalid value {name:?} for {IO_ENGINE_VARIABLE}"))),
    };
    Ok(Command::Serve(Serve {
        source: match flags.conf.as_deref() {
            None | Some("") => Source::Default,
            Some("stdin") => Source::Stdin,
            Some(file) => Source::File(file.into()),
        },
        port: flags.port,
        pidfile: flags.pidfile.filter(|path| !path.as_os_str().is_empty()),
        quiet: flags.quiet,
        receive_stamps: flags.receive_stamps,
        io_engine: flags.io_engine.map_or_else(from_environment, Ok)?,
        hand_over: flags.hand_over.filter(|path| !path.as_os_str().is_empty()),
        log_format: flags.log_format.unwrap_or_default(),
        node_local,
    }))
}

/// Respells Go's flags as clap reads them (`-quiet` becomes `--quiet=true`), and gives what follows them.
/// `Err(None)`: help was asked for.
fn from_go(
    command: &clap::Command,
    args: &[String],
) -> Result<(Vec<String>, Vec<String>), Option<String>> {
    let mut spelled = Vec::new();
    let mut left = args.iter();
    while let Some(arg) = left.as_slice().first() {
        let Some(dashed) = arg.strip_prefix('-').filter(|rest| !rest.is_empty()) else { break };
        left.next();
        if dashed == "-" {
            break;
        }
        let text = dashed.strip_prefix('-').unwrap_or(dashed);
        if text.starts_with(['-', '=']) {
            return Err(Some(format!("bad flag syntax: {arg}")));
        }
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let mut known = command.get_arguments().flat_map(names_of);
        let Some((_, known)) = known.find(|(known, _)| *known == name) else {
            let help = matches!(name, "h" | "help");
            return Err((!help).then(|| format!("flag provided but not defined: -{name}")));
        };
        let value = match (value, is_bool(known)) {
            (value, true) => go_bool(name, value.unwrap_or("true"))?.to_string(),
            (Some(value), false) => value.to_owned(),
            (None, false) => match left.next() {
                Some(value) => value.clone(),
                None => return Err(Some(format!("flag needs an argument: -{name}"))),
            },
        };
        spelled.push(format!("--{name}={value}"));
    }
    Ok((spelled, left.cloned().collect()))
}

/// The spellings of Go's strconv.ParseBool.
fn go_bool(name: &str, value: &str) -> Result<bool, Option<String>> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Some(format!("invalid boolean value {value:?} for -{name}: parse error"))),
    }
}

/// A value that clap refused, in Go's words.
fn clap_fault(error: &clap::Error) -> String {
    use clap::error::{ContextKind, ContextValue};
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let (flag, value) = (context(ContextKind::InvalidArg), context(ContextKind::InvalidValue));
    let name = flag.trim_start_matches('-').split(' ').next().unwrap_or_default();
    format!("invalid value {value:?} for flag -{name}: parse error")
}

/// A flag under each of its names.
fn names_of(arg: &Arg) -> impl Iterator<Item = (&str, &Arg)> {
    let aliases = arg.get_all_aliases().unwrap_or_default();
    arg.get_long().into_iter().chain(aliases).map(move |name| (name, arg))
}

fn is_bool(arg: &Arg) -> bool {
    arg.get_value_parser().type_id() == ValueParser::bool().type_id()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Command, Ended> {
        let args = std::iter::once("corelane").chain(line.split_whitespace());
        parse(args.map(OsString::from), None)
    }

    fn serve(line: &str) -> Serve {
        match read(line) {
            Ok(Command::Serve(serve)) => serve,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn without_arguments_the_corefile_here_is_served_on_port_53() {
        let expected = Serve {
            source: Source::Default,
            port: 53,
            pidfile: None,
            quiet: false,
            receive_stamps: true,
            io_engine: IoEngine::Gso,
            hand_over: None,
            log_format: LogFormat::Text,
            node_local: None,
        };
        assert_eq!(serve(""), expected);
        assert_eq!(serve("-log-format=json").log_format, LogFormat::Json);
    }

    #[test]
    fn flags_take_one_dash_or_two_and_values_either_way() {
        for line in [
            "-conf F -dns.port 1053 -pidfile P -quiet -io-engine uring",
            "--conf=F --dns.port=1053 --pidfile=P --quiet=true --io-engine=uring",
            "-quiet=T -p 99 -conf=F -p=1053 --pidfile P --io-engine uring",
        ] {
            let got = serve(line);
            assert_eq!(got.source, Source::File("F".into()), "{line}");
            assert_eq!((got.port, got.quiet), (1053, true), "{line}");
            assert_eq!(got.pidfile, Some("P".into()), "{line}");
            assert_eq!(got.io_engine, IoEngine::Uring, "{line}");
        }
        assert!(!serve("-quiet -quiet=false").quiet);
        assert_eq!(serve("-conf stdin").source, Source::Stdin);
        assert_eq!(serve("-conf=").source, Source::Default);
        assert_eq!(serve("-conf -quiet").source, Source::File("-quiet".into()));
    }

    #[test]
    fn flags_of_the_node_that_change_nothing_are_remarked_on() {
        let line = "-localip 10.0.0.1 -setupebtables -initialdelay 10s -corefile /x -tls-enabled \
                    -skipteardown -syncinterval=60ns -tls-cert-file /y";
        let wanted = serve(line).node_local.expect("node-local mode");
        assert_eq!((wanted.remarks.len(), wanted.metrics.as_str()), (5, ""));
        let plain = serve("-localip 10.0.0.1").node_local.expect("node-local mode");
        assert_eq!((plain.remarks.len(), plain.metrics.as_str()), (0, "0.0.0.0:9353"));
        assert_eq!(serve("-setupebtables -corefile /x").node_local, None);
    }

    #[test]
    fn faults_have_go_s_words_and_statuses() {
        for (line, status, first) in [
            ("-frobnicate", 2, "flag provided but not defined: -frobnicate"),
            ("--frob=1", 2, "flag provided but not defined: -frob"),
            ("-conf", 2, "flag needs an argument: -conf"),
            ("-quiet=xyz", 2, "invalid boolean value \"xyz\" for -quiet: parse error"),
            ("-=x", 2, "bad flag syntax: -=x"),
            ("---x", 2, "bad flag syntax: ---x"),
            ("-dns.port x", 2, "invalid value \"x\" for flag -dns.port: parse error"),
            ("-p 65536", 2, "invalid value \"65536\" for flag -dns.port: parse error"),
            ("-io-engine=epoll", 2, "invalid value \"epoll\" for flag -io-engine: parse error"),
            ("-h", 0, "Usage of corelane:"),
            ("--help", 0, "Usage of corelane:"),
            ("-version foo", 1, "extra command line arguments: [foo]"),
            ("-quiet true -x", 1, "extra command line arguments: [true -x]"),
            ("-", 1, "extra command line arguments: [-]"),
            ("-- -version", 1, "extra command line arguments: [-version]"),
            ("-quiet check", 1, "extra command line arguments: [check]"),
        ] {
            let ended = read(line).expect_err(line);
            assert_eq!(ended.message.lines().next(), Some(first), "{line}");
            assert_eq!(ended.status, status, "{line}");
            let usage = ended.message.contains("Usage of corelane:\n  -basecorefile string\n");
            assert_eq!(usage, status != 1, "{line}: {}", ended.message);
        }
    }

    #[test]
    fn version_comes_before_plugins() {
        assert_eq!(read("-plugins -version"), Ok(Command::Version));
        assert_eq!(read("--plugins"), Ok(Command::Plugins));
        assert!(!matches!(read("-version=false"), Ok(Command::Version)));
    }

    #[test]
    fn sub_commands_are_the_first_argument() {
        let check = |file: &str, format, port| {
            Ok(Command::Check(Check { file: file.into(), format, port }))
        };
        assert_eq!(read("check F"), check("F", Format::Report, 53));
        assert_eq!(
            read("check --format=coredns -p 1053"),
            check("Corefile", Format::CoreDns, 1053)
        );
        assert_eq!(read("help"), Ok(Command::Help(None)));
        assert_eq!(read("help file"), Ok(Command::Help(Some("file".into()))));
        assert_eq!(serve("try -p 1053"), Serve { source: Source::Sample, ..serve("-p 1053") });
        assert_eq!(read("check F G").expect_err("two files").status, 2);
        for sub in SubCommand::command().get_subcommands().filter(|sub| sub.get_name() != "help") {
            let usage = usage_of(sub.get_name()).expect("its arguments");
            assert!(usage.contains("\nUsage: ") && usage.contains("\nExit status 0"), "{usage}");
        }
        let top = |server: &str| Ok(Command::Top(Top { server: server.into() }));
        assert_eq!(read("top"), top("127.0.0.1:8080"));
        assert_eq!(read("top --server 10.0.0.1:80"), top("10.0.0.1:80"));
        let Ok(Command::Queries(queries)) = read("queries --manifests a b --zone x") else {
            panic!("queries")
        };
        assert_eq!((queries.manifests.len(), &*queries.zone), (2, "x"));
        assert_eq!(read("queries --from-cluster --manifests a").expect_err("both").status, 2);
    }

    #[test]
    fn the_environment_names_an_engine_where_no_flag_does() {
        let engine = |line: &str, variable| {
            let args = std::iter::once("corelane").chain(line.split_whitespace());
            parse(args.map(OsString::from), variable)
        };
        let is = |got, want| matches!(got, Ok(Command::Serve(serve)) if serve.io_engine == want);
        assert!(is(engine("", Some("uring")), IoEngine::Uring));
        assert!(is(engine("", Some("")), IoEngine::Gso));
        assert!(is(engine("-io-engine mmsg", Some("uring")), IoEngine::Mmsg));
        assert_eq!(engine("", Some("dpdk")).expect_err("no engine").status, 2);
    }

    #[test]
    fn the_usage_names_every_flag_once() {
        let usage = usage("corelane");
        let flags = [
            "basecorefile",
            "conf",
            "corefile",
            "dns.port",
            "hand-over",
            "health-port",
            "initialdelay",
            "interfacename",
            "io-engine",
            "kubednscm",
            "localip",
            "log-format",
            "metrics-listen-address",
            "p",
            "pidfile",
            "plugins",
            "prometheus-listen-address",
            "quiet",
            "receive-stamps",
            "reloadwithsignal",
            "setupebtables",
            "setupinterface",
            "setupiptables",
            "skipteardown",
            "syncinterval",
            "tls-cert-file",
            "tls-client-auth-type",
            "tls-client-ca-file",
            "tls-enabled",
            "tls-min-version",
            "tls-private-key-file",
            "upstreamsvc",
            "version",
        ];
        let named: Vec<_> =
            usage.lines().filter_map(|line| line.strip_prefix("  -")?.split(' ').next()).collect();
        assert_eq!(named, flags);
        assert!(usage.contains("  -p string\n    \tDefault port (default \"53\")"), "{usage}");
    }
}
