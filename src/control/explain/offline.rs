//! A Corefile that is compiled to be asked by this process alone.

use std::path::Path;
use std::sync::Arc;

use super::super::args::{self, Source};
use super::super::compile::{self, Graph, Ground, Numbers};
use super::super::corefile::{Corefile, CorefileError, OptionLine, Stanza, Token};
use super::super::crew::Crew;
use super::super::ready::Readiness;
use super::super::source;
use super::super::status::Status;
use super::asked::Asked;
use super::report::Report;
use super::walk;
use crate::data::transport::engine::Engine;

/// One worker with a compiled Corefile. It is not shut down: it ends with the process.
pub(super) struct Server {
    crew: Crew,
    /// What the worker holds is dropped last by control.
    _graph: Graph,
}

impl Server {
    /// Compiles the Corefile and waits for what its plugins wait for before they serve.
    pub(super) async fn start(wanted: &args::Explain) -> Result<Self, String> {
        let mut corefile = load(wanted).map_err(lines)?;
        if let Some(file) = &wanted.kubeconfig {
            kubernetes_by(&mut corefile, file);
        }
        let planned = compile::plan(&corefile).map_err(lines)?;
        let mut crew = Crew::of(1, false, Engine::Mmsg)?;
        let readiness = Arc::new(Readiness::default());
        let mut numbers = Numbers::default();
        let status = Status::new(&crew.tally, 1, crew.engine.as_str());
        let mut ground = Ground::of(&crew, &status, &readiness, None, &mut numbers);
        let compiled = compile::compile(planned, corefile.hash, &mut ground);
        let mut graph = compiled.map_err(|error| error.to_string())?;
        graph.start_early().join_all().await;
        graph.bind_nothing(&mut ground);
        // What is held of a cluster is published; commands of `on` are tasks, which are never started.
        graph.at_start.drain(..).try_for_each(|hook| hook())?;
        crew.spawn(Arc::clone(&graph.snapshot))?;
        Ok(Self { crew, _graph: graph })
    }

    pub(super) async fn ask(&self, asked: &Asked) -> Result<Report, String> {
        let walked = walk(&self.crew.first_mailbox(), asked).await?;
        Ok(Report::new(asked, &walked))
    }
}

fn load(wanted: &args::Explain) -> Result<Corefile, Vec<CorefileError>> {
    let source = match wanted.corefile.to_str() {
        Some("-") => Source::Stdin,
        _ => Source::File(wanted.corefile.clone()),
    };
    source::load(&args::Serve {
        source,
        port: wanted.port,
        pidfile: None,
        quiet: true,
        receive_stamps: false,
        hand_over: None,
        node_local: None,
        io_engine: args::IoEngine::Mmsg,
        log_format: args::LogFormat::Text,
    })
}

fn lines(errors: Vec<CorefileError>) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Has `kubernetes` look at the cluster of a kubeconfig, wherever the Corefile says that it is.
fn kubernetes_by(corefile: &mut Corefile, file: &Path) {
    let stanzas = corefile.blocks.iter_mut().flat_map(|block| &mut block.stanzas);
    for stanza in stanzas.filter(|stanza| stanza.directive == "kubernetes") {
        let Stanza { name, options, has_block, .. } = stanza;
        let elsewhere = ["endpoint", "tls", "kubeconfig", "manifests", "state"];
        options.retain(|option| !elsewhere.contains(&option.name.text.as_str()));
        let word = |text: &str| Token { text: text.to_owned(), ..name.clone() };
        let args = vec![word(&file.to_string_lossy())];
        options.push(OptionLine { name: word("kubeconfig"), args });
        *has_block = true;
    }
}
