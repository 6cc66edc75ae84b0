//! The `corelane` program: flags, sub-commands, control, workers, drain.

use std::path::Path;
use std::process::ExitCode;

use corelane::control::args::{self, Command, Serve, Source};
use corelane::control::corefile::{Corefile, Input};
use corelane::control::hand_over::listen;
use corelane::control::signals::Signals;
use corelane::control::supervisor::Supervisor;
use corelane::control::{
    check, compile, diff, doctor, explain, logging, manual, migrate, queries, sample, source, top,
    version,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    logging::start();
    let engine = std::env::var(args::IO_ENGINE_VARIABLE).ok();
    let command = match args::parse(std::env::args_os(), engine.as_deref()) {
        Ok(command) => command,
        Err(ended) => {
            logging::fatal(&ended.message);
            return ExitCode::from(ended.status);
        }
    };
    match command {
        Command::Serve(serve) => {
            logging::set_json(serve.log_format == args::LogFormat::Json);
            run(serve)
        }
        Command::Check(wanted) => tell_faults(&wanted),
        Command::Diff(wanted) => {
            let status = diff::run(&wanted, &mut std::io::stdout().lock());
            ExitCode::from(status.unwrap_or(2))
        }
        Command::Doctor(wanted) => {
            once(|| async move { doctor::run(&wanted, &mut std::io::stdout().lock()).await })
        }
        Command::Explain(wanted) => {
            once(|| async move { explain::run(&wanted, &mut std::io::stdout().lock()).await })
        }
        Command::Queries(wanted) => ask("queries", queries::run(&wanted)),
        Command::Top(wanted) => ask("top", top::run(&wanted)),
        Command::Migrate(file) => print_migrated(&file),
        Command::Help(plugin) => manual::run(plugin.as_deref()),
        Command::Version => {
            logging::print(&format!("{}\n", version::text().trim_end()));
            ExitCode::SUCCESS
        }
        Command::Plugins => {
            logging::print(&manual::list());
            ExitCode::SUCCESS
        }
    }
}

/// `corelane check`: all faults of a Corefile on standard output.
fn tell_faults(wanted: &args::Check) -> ExitCode {
    let input = Input::of_argument(&wanted.file);
    let mut plugins =
        |corefile: &Corefile| compile::plan(corefile).map(|plan| compile::warnings(&plan));
    let mut out = std::io::stdout().lock();
    let directives = source::directives();
    let status =
        check::check(input, wanted.format, directives, wanted.port, &mut plugins, &mut out);
    ExitCode::from(status.unwrap_or(1))
}

/// Runs a sub-command that waits for others, on a runtime of its own.
fn once<F: Future<Output = std::io::Result<u8>>>(command: impl FnOnce() -> F) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else {
        logging::fatal(&"no runtime: the kernel refuses descriptors");
        return ExitCode::from(1);
    };
    ExitCode::from(runtime.block_on(command()).unwrap_or(1))
}

/// `corelane queries` and `corelane top`: what they print, or why they cannot.
fn ask(name: &str, asking: impl Future<Output = Result<(), String>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else {
        logging::fatal(&"no runtime: the kernel refuses descriptors");
        return ExitCode::from(1);
    };
    match runtime.block_on(asking) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            logging::fatal(&format_args!("{name}: {message}"));
            ExitCode::from(1)
        }
    }
}

/// `corelane migrate`: the new text on standard output, the changes on standard error; status 1 if
/// something is left to do.
fn print_migrated(file: &Path) -> ExitCode {
    let (name, text) = match Input::of_argument(file).read(53) {
        Ok((name, text)) => (name, String::from_utf8_lossy(&text).into_owned()),
        Err(error) => {
            logging::fatal(&error);
            return ExitCode::from(1);
        }
    };
    let env = |name: &str| std::env::var_os(name).map(|v| v.to_string_lossy().into_owned());
    let known = source::directives().known;
    let migration = migrate::migrate(&name, &text, known, &env);
    logging::print(&migration.text);
    for change in &migration.changes {
        logging::fatal(change);
    }
    for left in &migration.left {
        logging::fatal(&format_args!("left to do: {left}"));
    }
    ExitCode::from(u8::from(!migration.left.is_empty()))
}

/// Serves until a signal; control runs on this thread.
fn run(serve: Serve) -> ExitCode {
    // Before anything is opened.
    let kept = listen::take();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(corelane::limits::BLOCKING_THREADS_MAX)
        .on_thread_start(corelane::sys::give_way)
        .build();
    let Ok(runtime) = runtime else {
        logging::fatal(&"no runtime: the kernel refuses descriptors");
        return ExitCode::from(1);
    };
    corelane::sys::use_capabilities(serve.node_local.is_some());
    corelane::sys::raise_descriptor_limit();
    let sample = serve.source == Source::Sample;
    let (pidfile, port) = (serve.pidfile.clone(), serve.port);
    let status = runtime.block_on(async {
        let mut signals = match Signals::new() {
            Ok(signals) => signals,
            Err(error) => {
                logging::fatal(&format_args!("no signals: {error}"));
                return ExitCode::from(1);
            }
        };
        let supervisor = match Supervisor::start(serve, kept, &mut signals).await {
            Ok(Some(supervisor)) => supervisor,
            Ok(None) => return ExitCode::SUCCESS,
            Err(message) => {
                logging::fatal(&message);
                return ExitCode::from(1);
            }
        };
        if let Some(path) = pidfile
            && let Err(error) = std::fs::write(&path, format!("{}\n", std::process::id()))
        {
            tracing::error!("Could not write pidfile: {error}");
        }
        supervisor.banner();
        if sample {
            logging::print(&sample::lines_to_try(port));
        }
        supervisor.run(signals).await
    });
    if sample {
        sample::clean_up();
    }
    status
}
