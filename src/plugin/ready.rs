//! # ready
//!
//! Tells over HTTP whether all plugins are ready.
//!
//! ## Syntax
//!
//! ```corefile
//! ready [ADDRESS] {
//!     monitor until-ready|continuously
//! }
//! ```
//!
//! Serves `/ready` on **ADDRESS** (`:8181` unless it is given): `200` and `OK` when every plugin that
//! reports its readiness is ready, else `503` and the names of those that are not, with commas. The
//! plugins of all server blocks count together, each by its name. They are
//! *erratic*, *kubernetes* and *nomad*; without them the answer is always `OK`.
//!
//! * `monitor` **until-ready** (the default) does not ask a plugin again that has been ready;
//!   **continuously** asks at every request.
//!
//! While the server waits out a `lameduck` before it stops, the port is closed.
//!
//! ## Examples
//!
//! ```corefile
//! . {
//!     ready localhost:0
//!     whoami
//! }
//! ```
//!
//! ## Differences from CoreDNS
//!
//! * The port stays open over a reload, and nothing changes if the reload fails.
//! * An address that cannot be had is logged; CoreDNS says nothing.

use std::sync::Arc;

use super::{Compiled, CorefileError, Directive, Lines, SetupError, Site};
use crate::control::admin::{Endpoint, Request, Response, Route, split_host_port};
use crate::control::ready::Readiness;

/// `ready`.
pub struct Ready {
    address: String,
    continuously: bool,
}

impl Directive for Ready {
    const NAME: &'static str = "ready";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let stanza = lines.only_one()?;
        let mut ready = Self { address: ":8181".into(), continuously: false };
        if let Some(address) = lines.at_most_one(stanza)? {
            split_host_port(&address.text).map_err(|error| lines.err(address, error))?;
            ready.address = address.text.clone();
        }
        for option in &stanza.options {
            if option.name.text != "monitor" {
                return Err(lines.unknown_option(&option.name, &["monitor"]));
            }
            let kind = lines.one_arg(option)?;
            ready.continuously = match kind.text.as_str() {
                "until-ready" => false,
                "continuously" => true,
                other => {
                    let message = format!("monitor type '{other}' not supported");
                    return Err(lines.parse_err(kind, message));
                }
            };
        }
        Ok(ready)
    }

    fn compile(self, site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        let readiness = Arc::clone(site.readiness);
        let answers = Answers { readiness, continuously: self.continuously };
        site.endpoint(Endpoint {
            name: "ready",
            address: self.address,
            routes: vec![("/ready", Arc::new(answers))],
            required: false,
            poll: None,
            web: None,
        });
        Ok(Compiled::nothing())
    }
}

/// Answers whether all are ready, or who is not.
struct Answers {
    readiness: Arc<Readiness>,
    continuously: bool,
}

impl Route for Answers {
    fn answer(&self, _: &Request<'_>) -> Response {
        let waiting = self.readiness.waiting(self.continuously).join(",");
        if waiting.is_empty() {
            return Response::text(200, "OK");
        }
        let why = self.readiness.why_not();
        let why = if why.is_empty() { why } else { format!(" ({why})") };
        tracing::info!(target: "plugin/ready", "Plugins not ready: {waiting:?}{why}");
        Response::text(503, waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse_block;
    use super::*;

    fn parse(block: &str) -> Result<(String, bool), String> {
        parse_block::<Ready>(block).map(|ready| (ready.address, ready.continuously))
    }

    #[test]
    fn reads_address_and_monitor() {
        assert_eq!(parse("ready"), Ok((":8181".into(), false)));
        assert_eq!(parse("ready localhost:1"), Ok(("localhost:1".into(), false)));
        let continuously = "ready {\nmonitor continuously\n}";
        assert_eq!(parse(continuously), Ok((":8181".into(), true)));
        assert_eq!(parse("ready {\nmonitor until-ready\n}"), Ok((":8181".into(), false)));
    }

    #[test]
    fn refuses_in_coredns_s_words() {
        for (block, words) in [
            ("ready bla", "address bla: missing port in address"),
            ("ready a:1 b", "Wrong argument count or unexpected line ending after 'b'"),
            ("ready\nready", "this plugin can only be used once per Server Block"),
            ("ready {\nmonitor x\n}", "monitor type 'x' not supported"),
            ("ready {\nmonitor\n}", "Wrong argument count"),
            ("ready {\nwatch\n}", "unknown property 'watch'"),
        ] {
            let error = parse(block).expect_err(block);
            assert!(error.contains(words), "{error}");
        }
    }
}
