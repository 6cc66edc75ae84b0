//! # health
//!
//! Tells over HTTP that the process is alive, and delays its end.
//!
//! ## Syntax
//!
//! ```corefile
//! health [ADDRESS] {
//!     lameduck DURATION
//!     status on|local|off
//! }
//! ```
//!
//! Serves `/health` on **ADDRESS** (`:8080` unless it is given): always `200` and `OK`. It is the
//! process that is healthy, so one *health* in one block is enough.
//!
//! * `lameduck` makes a process that was told to stop go on answering for **DURATION**, so that
//!   those who still send queries to it can learn better.
//!
//! * `status` says who may read the status page, `/status`, and what it shows as JSON,
//!   `/status.json`: queries and latency by core, zone and upstream, caches, watches, the clients and
//!   names that come most often, the last errors, the Corefile that serves (its secrets left out) with
//!   the times of its plugins, and what an operator should look at first.
//!   `local`, the default: who is on this host or in this pod, and who has a port forwarded to it
//!   (`kubectl port-forward`); others get `403`. `on`: whoever reaches the port, which in a cluster is
//!   every pod unless a NetworkPolicy says otherwise. `off`: there is none. With it goes `/explain`, by
//!   which `corelane explain --server` has a question walked as if a client of any address had asked it:
//!   whatever `status` says, only who is on this host is answered there, and one at a time.
//!
//! Once a second the endpoint is asked by the process itself; a warning is logged if that fails
//! or takes longer than a second.
//!
//! ## Metrics
//!
//! * `coredns_health_request_duration_seconds{}`: how long an answer to that took.
//! * `coredns_health_request_failures_total{}`: how often there was none.
//!
//! ## Examples
//!
//! ```corefile
//! . {
//!     health localhost:0 {
//!         lameduck 1s
//!         status off
//!     }
//!     whoami
//! }
//! ```
//!
//! ## Differences from CoreDNS
//!
//! * The port stays open over a reload, and nothing changes if the reload fails.
//! * A port must be a number.
//! * `status` is only here.

use std::sync::Arc;
use std::time::Duration;

use super::{Compiled, CorefileError, Directive, Facts, Lines, SetupError, Site};
use crate::control::admin::{Endpoint, Request, Response, Route, SelfPoll, split_host_port};
use crate::control::corefile::{Token, parse_duration};
use crate::control::status::{self, Readers};
use crate::data::tally::families::{HEALTH_DURATION, HEALTH_FAILURES};

/// `health`.
pub struct Health {
    address: String,
    lameduck: Duration,
    status: Readers,
}

impl Directive for Health {
    const NAME: &'static str = "health";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let mut health =
            Self { address: ":8080".into(), lameduck: Duration::ZERO, status: Readers::default() };
        // Several uses in a block are not refused by CoreDNS: the last word counts.
        for stanza in lines.stanzas() {
            if let Some(address) = lines.at_most_one(*stanza)? {
                split_host_port(&address.text).map_err(|error| lines.err(address, error))?;
                health.address = address.text.clone();
            }
            for option in &stanza.options {
                match option.name.text.as_str() {
                    "lameduck" => health.lameduck = lameduck(lines, lines.one_arg(option)?)?,
                    "status" => health.status = readers(lines, lines.one_arg(option)?)?,
                    _ => return Err(lines.unknown_option(&option.name, &["lameduck", "status"])),
                }
            }
        }
        Ok(health)
    }

    fn facts(&self, facts: &mut Facts) {
        facts.lameduck = Some(self.lameduck).filter(|lameduck| !lameduck.is_zero());
    }

    fn compile(self, site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        let poll = SelfPoll {
            address: self.address.clone(),
            path: "/health",
            tally: Arc::clone(site.tally),
            duration: site.tally.histogram(&HEALTH_DURATION, &[]),
            failures: site.tally.counter(&HEALTH_FAILURES, &[]),
        };
        let mut routes: Vec<(_, Arc<dyn Route>)> = vec![("/health", Arc::new(Alive))];
        routes.extend(status::routes(site.status, self.status));
        site.endpoint(Endpoint {
            name: "health",
            address: self.address,
            routes,
            required: true,
            poll: Some(poll),
            web: None,
        });
        Ok(Compiled::nothing())
    }
}

fn lameduck(lines: &Lines<'_>, given: &Token) -> Result<Duration, CorefileError> {
    parse_duration(&given.text).map_err(|error| {
        let what = "unable to parse lameduck duration value";
        lines.err(given, format!("{what}: '{}' : {error}", given.text))
    })
}

fn readers(lines: &Lines<'_>, given: &Token) -> Result<Readers, CorefileError> {
    match given.text.as_str() {
        "off" => Ok(Readers::Nobody),
        "local" => Ok(Readers::Local),
        "on" => Ok(Readers::Everybody),
        other => {
            let error = lines.err(given, format!("status is on, local or off, not '{other}'"));
            Err(error.suggesting(other, &["on", "local", "off"]))
        }
    }
}

/// Answers that the process is alive: that it answers says it.
struct Alive;

impl Route for Alive {
    fn answer(&self, _: &Request<'_>) -> Response {
        Response::text(200, "OK")
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse_block;
    use super::*;

    fn parse(block: &str) -> Result<(String, Duration), String> {
        parse_block::<Health>(block).map(|health| (health.address, health.lameduck))
    }

    #[test]
    fn reads_address_and_lameduck() {
        assert_eq!(parse("health"), Ok((":8080".into(), Duration::ZERO)));
        let lameduck = "health [::1]:1 {\nlameduck 1.5s\n}";
        assert_eq!(parse(lameduck), Ok(("[::1]:1".into(), Duration::from_millis(1500))));
        let status = |word| {
            let block = format!("health {{\nstatus {word}\n}}");
            parse_block::<Health>(&block).map(|health| health.status)
        };
        assert_eq!(status("on"), Ok(Readers::Everybody));
        assert_eq!(status("off"), Ok(Readers::Nobody));
        assert!(status("of").is_err_and(|error| error.contains("did you mean \"off\"")));
        assert_eq!(parse("health :1\nhealth :2"), Ok((":2".into(), Duration::ZERO)));
    }

    #[test]
    fn a_lameduck_of_nothing_is_none() {
        let lameduck = |block| {
            let mut facts = Facts::default();
            parse_block::<Health>(block).expect(block).facts(&mut facts);
            facts.lameduck
        };
        assert_eq!(lameduck("health"), None);
        assert_eq!(lameduck("health {\nlameduck 0s\n}"), None);
        assert_eq!(lameduck("health {\nlameduck 1s\n}"), Some(Duration::from_secs(1)));
    }

    #[test]
    fn refuses_in_coredns_s_words() {
        let duration = "unable to parse lameduck duration value: 'a' : time: invalid duration";
        for (block, words) in [
            ("health bla", "address bla: missing port in address"),
            ("health a:b:c", "address a:b:c: too many colons in address"),
            ("health a:1 b", "Wrong argument count or unexpected line ending after 'b'"),
            ("health {\nlameduck a\n}", duration),
            ("health {\nlameduck\n}", "Wrong argument count"),
            ("health {\nlamedudk 4\n}", "unknown property 'lamedudk'"),
        ] {
            let error = parse(block).expect_err(block);
            assert!(error.contains(words), "{error}");
        }
    }
}
