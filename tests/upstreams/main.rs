//! `forward` and `loop` against upstreams that keep to the rules, upstreams that do not, and real
//! ones: a server process, asked over real sockets.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::disallowed_macros,
    reason = "the bans guard the query path: this program waits for another"
)]

#[path = "../certs/mod.rs"]
mod certs;
mod choosing;
mod client;
mod looping;
mod lying;
#[path = "../message/mod.rs"]
mod message;
#[path = "../ports/mod.rs"]
mod ports;
mod secure;
#[path = "../cases/server.rs"]
#[allow(dead_code, reason = "conversations do more with a server")]
mod server;
mod streams;
mod tracing;
mod unbound;
mod upstream;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use client::Client;
use server::Server;

/// Starts a server with this Corefile, and the files that it names, in a folder of the test's own.
pub fn serve(test: &str, corefile: &str) -> Server {
    serve_with(test, corefile, &[])
}

/// Likewise with other files beside the Corefile.
pub fn serve_with(test: &str, corefile: &str, files: &[(&str, &str)]) -> Server {
    let mut server = begin(test, corefile, files);
    if let Err(fault) = server.ready() {
        panic!("{fault}\n{}", server.output());
    }
    server
}

/// Starts a server that may not come to serve.
pub fn begin(test: &str, corefile: &str, files: &[(&str, &str)]) -> Server {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("upstreams").join(test);
    let own = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
    let mut all: Vec<_> = files.iter().map(own).collect();
    all.push(("Corefile".to_owned(), corefile.to_owned()));
    Server::start(&folder, &all).expect("a process")
}

/// A Corefile of one block that logs errors, counts, and forwards everything so.
pub fn corefile(to: &str, options: &str) -> String {
    format!(
        ". {{\n errors\n prometheus 127.0.0.1:{{$P1}}\n forward . {to} {{\n {options}\n }}\n}}\n"
    )
}

/// A server that forwards everything so, and a client of it.
pub fn forwarding(test: &str, to: &str, options: &str) -> (Server, Client) {
    let server = serve(test, &corefile(to, options));
    let client = Client::of(&server);
    (server, client)
}

/// The value of a metric, its labels in the order in which they are exposed; 0 if it is not there.
pub fn metric(server: &Server, name: &str) -> f64 {
    let address = server.address(Some("P1")).expect("a port");
    let mut stream = TcpStream::connect(address).expect("metrics");
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("a response");
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
    text.lines().find_map(value).unwrap_or(0.0)
}
