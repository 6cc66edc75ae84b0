//! `flood`: puts load on a DNS server, checks every answer, and says what came of it.

use clap::{ArgGroup, Parser};
use loadtest::carrier::{self, Buffers};
use loadtest::cli::{parse_duration, within};
use loadtest::drive::{self, Asking, Load, Pace};
use loadtest::lookup::{Lookups, Resolver};
use loadtest::machine::{Beats, Pulse, Waits};
use loadtest::message::{Edns, rcode};
use loadtest::slo::{self, Found, Objective};
use loadtest::source::{self, Source};
use loadtest::tally::Report;
use loadtest::target::{self, Permit};
use loadtest::trace::{self, Trace};
use serde_json::json;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Longest time that this program runs.
const RUN_MAX: Duration = Duration::from_secs(120);
/// UDP payload size of queries with the DO bit where none is given.
const UDP_SIZE: u16 = 1232;
const NOERROR: u8 = 0;
const NXDOMAIN: u8 = 3;

/// Puts load on a DNS server, checks every answer (id, question, rcode), and reports.
///
/// Exit status: 0; 1 without any answer, or where no rate keeps the objective; 2 for a mistake
/// on the command line or a failure.
#[derive(Parser)]
#[command(group(
    ArgGroup::new("source").required(true).args(["queries", "random_labels", "replay"])
))]
#[command(group(ArgGroup::new("pace").args(["window", "rate", "slo"])))]
struct Options {
    /// The server; a loopback address (see --netns-ok).
    target: SocketAddr,
    /// Lines of `name type` (dnsperf's format), used in turn, in a circle.
    #[arg(long, value_name = "FILE")]
    queries: Option<PathBuf>,
    /// A queries for names of ZONE that never repeat.
    #[arg(long, value_name = "ZONE")]
    random_labels: Option<String>,
    /// --random-labels: so many names, the same in every run; the nth is asked for 1/n times as often
    /// as the first.
    #[arg(
        long, value_name = "NAMES", requires = "random_labels",
        value_parser = within::<u32>(1, 100_000_000)
    )]
    zipf: Option<u32>,
    /// A capture of tcpdump, lines of `[seconds] name type`, or a log of CoreDNS's: at its own pace,
    /// if it has one, unless another is asked for.
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// --replay: so many times as fast as it was.
    #[arg(
        long, value_name = "FACTOR", default_value_t = 1.0,
        value_parser = within::<f64>(1e-3, 1e6)
    )]
    speed: f64,
    /// Make whole look-ups of the names in --queries, A and AAAA, as this C library does.
    #[arg(long, requires = "queries", conflicts_with = "misses")]
    resolver: Option<Resolver>,
    /// --resolver: the search list, separated by spaces.
    #[arg(
        long,
        value_name = "SUFFIXES",
        default_value = "default.svc.cluster.local svc.cluster.local cluster.local"
    )]
    search: String,
    /// --resolver: names of so many dots are tried as they are first.
    #[arg(long, default_value_t = 5)]
    ndots: usize,
    /// Share of malformed messages among all that is sent, over a socket of their own. UDP only.
    #[arg(
        long, value_name = "SHARE", default_value_t = 0.0, conflicts_with = "tcp",
        value_parser = within::<f64>(0.0, 0.9)
    )]
    malformed_share: f64,
    /// Lines of `name type` that are mixed into the queries.
    #[arg(long, value_name = "FILE")]
    misses: Option<PathBuf>,
    /// Share of queries that come from --misses.
    #[arg(
        long, value_name = "SHARE", default_value_t = 0.2,
        value_parser = within::<f64>(0.0, 1.0)
    )]
    miss_share: f64,
    /// The rcode that answers must have; those to --misses then NXDOMAIN. Not given: any.
    #[arg(long, value_name = "RCODE", value_parser = parse_rcode)]
    expect: Option<u8>,
    /// Of the mix and of names that are made up.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Closed loop: queries, or look-ups, outstanding on every socket (the default, with 16).
    #[arg(long, value_parser = within::<usize>(1, 4096))]
    window: Option<usize>,
    /// Open loop: queries, or look-ups, a second, at fixed times; latencies count from these.
    #[arg(long, value_parser = within::<f64>(1.0, 1e7))]
    rate: Option<f64>,
    /// Find the highest rate that keeps this, such as p99=1ms,loss=0.1% (loss: 0 if not given).
    #[arg(long, value_name = "OBJECTIVE")]
    slo: Option<Objective>,
    /// --slo: the first rate that is tried.
    #[arg(
        long, value_name = "QPS", default_value_t = 1000.0,
        value_parser = within::<f64>(1.0, 1e7)
    )]
    slo_from: f64,
    /// How long to send; --slo: at each rate. At most 120.
    #[arg(long, default_value_t = 5.0, value_parser = within::<f64>(0.01, 120.0))]
    seconds: f64,
    /// When a query without an answer is lost.
    #[arg(long, value_name = "TIME", default_value = "250ms", value_parser = parse_duration)]
    time_out: Duration,
    /// UDP sockets, each with a port of its own.
    #[arg(long, default_value_t = 16, value_parser = within::<usize>(1, 1024))]
    sockets: usize,
    /// TCP over connections that persist.
    #[arg(long)]
    tcp: bool,
    /// DNS over TLS: as --tcp, to a server whose certificate comes from one in FILE (PEM) and names
    /// its address.
    #[arg(long, value_name = "FILE", requires = "tcp")]
    tls_ca: Option<PathBuf>,
    /// TCP connections.
    #[arg(long, default_value_t = 16, value_parser = within::<usize>(1, 1024))]
    connections: usize,
    /// Most queries of one system call.
    #[arg(long, default_value_t = 32, value_parser = within::<usize>(1, 1024))]
    batch: usize,
    /// Add OPT with this UDP payload size.
    #[arg(long, value_name = "SIZE")]
    edns: Option<u16>,
    /// Add OPT with the DO bit.
    #[arg(long = "do")]
    dnssec_ok: bool,
    /// Tell how late these CPUs came back to a thread that wakes every 5 ms and that nothing of the load
    /// holds up: what a host took, unseen. As root; otherwise other programs are in it.
    #[arg(long, value_name = "CPU,...", value_delimiter = ',', conflicts_with = "slo")]
    watch: Vec<usize>,
    /// Tell the longest wait for a CPU of the thread whose /proc/PID/task/TID/schedstat this is.
    #[arg(long, value_name = "FILE", conflicts_with = "slo")]
    watch_thread: Option<PathBuf>,
    /// Report as JSON.
    #[arg(long)]
    json: bool,
    /// In a network namespace made for a test, without default route: also targets on its links.
    #[arg(long)]
    netns_ok: bool,
    /// From a pod of a Kubernetes cluster: also targets with private addresses, at a --rate or --slo.
    #[arg(long)]
    cluster_ok: bool,
}

fn parse_rcode(text: &str) -> Result<u8, String> {
    rcode(text).ok_or_else(|| "not a response code, such as NOERROR".into())
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("flood: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether there were answers, or a rate that keeps the objective.
fn run(options: &Options) -> Result<bool, String> {
    let permit = Permit { netns: options.netns_ok, cluster: options.cluster_ok };
    target::check(options.target, permit)?;
    if options.cluster_ok && options.rate.is_none() && options.slo.is_none() {
        return Err("--cluster-ok: say how much: --rate, or --slo".into());
    }
    let (mut asking, own_pace) = asking_of(options)?;
    let mut buffers = Buffers::new(options.batch);
    let mut load = Load {
        target: options.target,
        tcp: options.tcp,
        tls: options.tls_ca.as_deref().map(carrier::tls).transpose()?,
        links: if options.tcp { options.connections } else { options.sockets },
        batch: options.batch,
        pace: match (options.rate, options.window, own_pace) {
            (Some(rate), ..) => Pace::Rate(rate),
            (None, Some(window), _) => Pace::Window(window),
            (None, None, own_pace) => own_pace.unwrap_or(Pace::Window(16)),
        },
        duration: Duration::from_secs_f64(options.seconds),
        time_out: options.time_out.min(RUN_MAX),
        malformed_share: options.malformed_share,
    };
    let fail = |error| format!("{}: {error}", options.target);
    let Some(objective) = &options.slo else {
        let waits = options.watch_thread.as_deref().map(Waits::start).transpose();
        let waits = waits.map_err(|error| format!("--watch-thread: {error}"))?;
        let pulse = Pulse::start(&options.watch);
        let outcome = drive::run(&load, &mut asking, &mut buffers).map_err(fail)?;
        let watched = Watched { cpus: pulse.stop(), longest_wait: waits.and_then(Waits::stop) };
        print_report(options, &load, &outcome.report(), &watched);
        return Ok(outcome.counts.answered > 0);
    };
    let start = Instant::now();
    let time_of_a_run = load.duration + load.time_out;
    let may_run = || start.elapsed() + time_of_a_run <= RUN_MAX;
    let found = slo::search(objective, options.slo_from, may_run, |rate| {
        load.pace = Pace::Rate(rate);
        drive::run(&load, &mut asking, &mut buffers)
    });
    let found = found.map_err(fail)?;
    print_found(options, &found);
    Ok(found.rate.is_some())
}

/// What is asked, and the pace that it has of itself.
fn asking_of(options: &Options) -> Result<(Asking, Option<Pace>), String> {
    let in_file = |path: &PathBuf| {
        let path = path.display().to_string();
        move |error: String| format!("{path}: {error}")
    };
    let has_opt = options.edns.is_some() || options.dnssec_ok;
    let edns = has_opt
        .then(|| Edns { udp_size: options.edns.unwrap_or(UDP_SIZE), dnssec_ok: options.dnssec_ok });
    let mut pace = None;
    let mut source = match (&options.queries, &options.random_labels, &options.replay) {
        (Some(path), ..) => {
            let text = source::read(path)?;
            if let Some(resolver) = options.resolver {
                let lookups = Lookups::new(&text, &options.search, options.ndots, resolver);
                let lookups = lookups.map_err(in_file(path))?;
                let must_find = options.expect == Some(NOERROR);
                return Ok((Asking::Lookups { lookups, edns, must_find }, None));
            }
            Source::listed(&text, options.seed).map_err(in_file(path))?
        }
        (None, Some(zone), _) => match options.zipf {
            Some(names) => Source::zipf(zone, names, options.seed)?,
            None => Source::random_labels(zone, options.seed)?,
        },
        (None, None, Some(path)) => {
            let bytes = std::fs::read(path).map_err(|error| in_file(path)(error.to_string()))?;
            let Trace { entries, is_timed } = trace::parse(&bytes).map_err(in_file(path))?;
            pace = is_timed.then(|| {
                let time = |due_ns| (due_ns as f64 / options.speed) as u64;
                Pace::Times(entries.iter().map(|entry| time(entry.due_ns)).collect())
            });
            Source::traced(entries, options.seed)
        }
        (None, None, None) => return Err("--queries, --random-labels or --replay".into()),
    };
    if let Some(path) = &options.misses {
        let text = source::read(path)?;
        source = source.with_misses(&text, options.miss_share).map_err(in_file(path))?;
    }
    if let Some(rcode) = options.expect {
        source = source.expecting(rcode, NXDOMAIN);
    }
    Ok((Asking::Queries(source.with_edns(edns)), pace))
}

/// What was seen beside the load.
struct Watched {
    cpus: BTreeMap<usize, Beats>,
    longest_wait: Option<Duration>,
}

fn print_report(options: &Options, load: &Load, report: &Report, watched: &Watched) {
    if !options.json {
        println!("{report}");
        for (cpu, Beats { latest_us, late, real_time }) in &watched.cpus {
            let hold = if *real_time { "" } else { " (or held up by programs: not root)" };
            let ms = latest_us / 1e3;
            println!("CPU {cpu:<4} late by {ms:.1} ms at most, {late} times by 1 ms{hold}");
        }
        if let Some(longest) = watched.longest_wait {
            println!("thread   waited for a CPU for {:.1} ms at most", longest.as_secs_f64() * 1e3);
        }
        return;
    }
    let mut value = serde_json::to_value(report).expect("a report is plain data");
    value["target"] = json!(load.target);
    value["transport"] = json!(match (&load.tls, load.tcp) {
        (Some(_), _) => "tls",
        (None, true) => "tcp",
        (None, false) => "udp",
    });
    value["links"] = json!(load.links);
    value["watched"] = json!(watched.cpus);
    value["longest_wait_us"] = json!(watched.longest_wait.map(|time| time.as_nanos() as f64 / 1e3));
    value["pace"] = match &load.pace {
        Pace::Window(window) => json!({ "window": window }),
        Pace::Rate(rate) => json!({ "rate": rate }),
        Pace::Times(times) => json!({ "times": times.len() }),
    };
    println!("{value}");
}

fn print_found(options: &Options, found: &Found) {
    if options.json {
        println!("{}", serde_json::to_value(found).expect("a report is plain data"));
        return;
    }
    for step in &found.steps {
        let verdict = match &step.broken_by[..] {
            [] => "kept".into(),
            why => why.join(", "),
        };
        println!("{:>10.0} a second: {verdict}", step.rate);
    }
    match found.rate {
        Some(rate) => println!("highest rate that keeps it: {rate:.0} a second"),
        None => println!("no rate keeps it"),
    }
    if found.client_bound {
        println!("CLIENT-BOUND: the server would do more");
    }
    if found.out_of_time {
        println!("out of time: the rate is a lower bound");
    }
}
