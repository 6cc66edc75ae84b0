//! # prometheus
//!
//! Counts queries and serves all counters over HTTP.
//!
//! ## Syntax
//!
//! ```corefile
//! prometheus [ADDRESS] {
//!     runtime_metrics
//!     tls WEB_CONFIG_FILE
//!     top
//! }
//! ```
//!
//! Serves `/metrics` on **ADDRESS** (`localhost:9153` unless it is given) in Prometheus's text
//! format 0.0.4, or in OpenMetrics 1.0 for those who prefer it. Blocks may name the same address:
//! every endpoint shows the counters of the whole process. Queries are counted for the blocks that
//! have *prometheus*.
//!
//! * `runtime_metrics` is taken and changes nothing: there is no Go runtime to look into.
//! * `tls` serves over TLS as **WEB_CONFIG_FILE** says, a web configuration file as Prometheus's
//!   exporters have (YAML). Its `tls_server_config` takes `cert_file` and `key_file` (or `cert` and
//!   `key` with the PEM text itself), `client_auth_type`, `client_ca_file` (or `client_ca`),
//!   `min_version`, `max_version`, `cipher_suites` and `curve_preferences`; its `basic_auth_users`
//!   bcrypt hashes of passwords by user name. Files it names are relative to its own folder. All are
//!   read again at every connection and request, so a new certificate or password needs no reload.
//!   If they cannot be used at the start, that is logged, metrics are not served and everything else
//!   works. Without `tls_server_config` metrics are served in clear text.
//! * `top` adds who and what has the first ranks (`corelane_top_info`, below), of the whole process if
//!   one block with the address says so: 40 series at most at a time, but a new one whenever somebody
//!   else comes to a rank, which a Prometheus keeps. Whoever may read the metrics learns names and
//!   addresses from it.
//!
//! ## Metrics
//!
//! * `coredns_build_info{version, revision, goversion}`: always 1.
//! * `coredns_panics_total{}`: queries whose walk ended in a panic.
//! * `coredns_plugin_enabled{server, zone, view, name}`: 1 for every plugin of a block.
//! * `coredns_dns_requests_total{server, zone, view, proto, family, type}`: queries.
//! * `coredns_dns_request_duration_seconds{server, zone, view}`: from a query to its reply.
//! * `coredns_dns_request_size_bytes{server, zone, view, proto}`: octets of queries.
//! * `coredns_dns_response_size_bytes{server, zone, view, proto}`: octets of replies.
//! * `coredns_dns_do_requests_total{server, zone, view}`: queries with the DO bit.
//! * `coredns_dns_responses_total{server, zone, view, rcode, plugin}`: replies.
//!
//! `server` is where a query came in (`dns://:53`), `zone` the zone that matched, `proto` "udp" or
//! "tcp" (all streams), `family` "1" for IPv4 and "2" for IPv6, `type` a usual type or "other".
//! `plugin` is, as in CoreDNS, the plugin next below *prometheus* if any plugin wrote the reply,
//! and empty if the server did. Queries that no block serves are counted with the zone "dropped".
//!
//! * `corelane_top_queries_per_second{by, rank}`: queries a second of the first 10 clients
//!   (`by="client"`), names (`"name"`), names that do not exist (`"nxdomain"`) and names whose
//!   queries wait (`"waiting"`): as many series as ranks, always. An estimate from a sample, of the last
//!   half minute; what is sure of it.
//! * `corelane_top_waiting_queries{by, rank}`: queries that wait at a time, of the last of these.
//! * `corelane_top_info{by, rank, what, namespace, pod, service}`: with `top`, who or what it is. Clients
//!   are named where *kubernetes* knows them: the pod with `pods verified` and *metadata*, the
//!   namespace with `pods verified`, and the service whose endpoint has the address.
//!
//! * `corelane_walk_seconds{}`: from taking up a query to its finished reply.
//! * `corelane_plugin_duration_seconds{server, plugin}`: what a plugin takes of that by itself, without
//!   those below it and without waits; `corelane_plugin_wait_seconds{server, plugin}` is what it has
//!   queries wait. Of a sample, which stands for all.
//! * `corelane_receive_wait_seconds{}`: how long datagrams waited in the kernel. Of a sample.
//! * `corelane_worker_busy_seconds_total{worker, state}`: time in which a worker had work, running or
//!   waiting for a CPU. A rate near 1 is one that has no more to give.
//! * `corelane_configuration_timestamp_seconds{}`: when what serves was loaded.
//! * `corelane_configuration_outdated{}`: 1 while the Corefile does not load and an older one serves.
//! * `corelane_hand_over_timestamp_seconds{}`: when another process handed over to this one.
//!
//! Families with the label `quantile` (`corelane_walk_seconds`, the plugins' own times, those of
//! upstreams) tell percentiles of the last five to ten minutes, to a sixteenth; their `_sum` and
//! `_count` are of all.
//!
//! What no plugin counts, since it happens before any or to all of them:
//!
//! * `corelane_queries_total{}`: messages received; by `corelane_batches_total{}`, which counts receives
//!   of datagrams, how many came at once. For ad-hoc use, as `corelane_io_engine{engine}` is, 1 for the
//!   engine in use.
//! * `corelane_udp_receive_drops_total{listen}`: datagrams that the kernel dropped, a socket being full.
//! * `corelane_gate_refused_total{}`: messages that are no query, or not understood: an error, or silence.
//! * `corelane_unserved_total{}`: queries for names that no block serves; they get REFUSED.
//! * `corelane_walk_bounds_total{}`: queries past a bound of questions, waits or frames: SERVFAIL.
//! * `corelane_unsent_total{}`: replies that the kernel refused to send.
//! * `corelane_parked_total{}`, `corelane_parked_refused_total{}`: queries that had to wait, and those
//!   that found no place to.
//! * `corelane_held_turns_total{}`: turns of workers that took no datagrams, since upstreams were behind:
//!   rather than be given up, queries wait in the kernel.
//! * `corelane_events_dropped_total{}`: lines of the log and messages of *dnstap* that found their ring
//!   full.
//! * `corelane_tcp_connections{}`, `corelane_tcp_connections_opened_total{}`,
//!   `corelane_tcp_connections_closed_total{}`: connections open now, and since the start.
//! * `corelane_tcp_refused_total{reason}`: connections not accepted or not kept, for want of a place
//!   (`connections`; `address`: for one client), of `descriptors` or of `memory`.
//! * `coredns_nodecache_setup_errors_total{errortype}`: node-local mode could not set up what it needs.
//! * `process_cpu_seconds_total{}`, `process_max_fds{}`, `process_open_fds{}`,
//!   `process_resident_memory_bytes{}`, `process_start_time_seconds{}`, `process_virtual_memory_bytes{}`,
//!   `process_virtual_memory_max_bytes{}`, `process_network_receive_bytes_total{}`,
//!   `process_network_transmit_bytes_total{}`: the process, as every exporter of Prometheus tells it.
//!
//! Beside these stand the families of the plugins in use; their manuals tell of them.
//!
//! ## Examples
//!
//! ```corefile
//! . {
//!     prometheus localhost:0
//!     whoami
//! }
//! ```
//!
//! ## Differences from CoreDNS
//!
//! * The port stays open over a reload, and nothing changes if the reload fails.
//! * Over TLS too HTTP/1.1 is spoken, whatever `http2` says. TLS 1.0 and 1.1 and suites with CBC are
//!   not spoken, even where the file names them.
//! * `headers`, `rate_limit` and `client_allowed_sans` are refused: with them metrics are not served.
//! * If a file is unusable when it is read again, the certificate and the passwords in use are kept.
//! * An address is served over TLS, and for a password, if any block asks for it there, not only if
//!   the first does. Other endpoints on that address are, too.
//! * Whoever guesses passwords is slowed down, and gets `429` when too many wait.
//! * The size of a reply is that of its message as it is, with names compressed and without OPT;
//!   CoreDNS counts names in full, and an upstream's OPT.
//! * There are no `go_*` and `promhttp_*` families and no native histograms.
//!
//! ## Cost
//!
//! Seven additions to counters of the worker's own, about 20 ns a query.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Compiled, CorefileError, Cx, Directive, Lines, Plugin, ReplyState, SetupError};
use super::{Site, Step};
use crate::control::admin::{Endpoint, Request, Response, Route, split_host_port};
use crate::control::status::Status;
use crate::data::clock::Nanos;
use crate::data::tally::families::PLUGIN_ENABLED;
use crate::data::tally::query::{QueryCells, Seen};
use crate::data::tally::{Format, Gauge};

/// `prometheus`.
pub struct Prometheus {
    address: String,
    /// The web configuration file.
    tls: Option<PathBuf>,
    /// Whether ranks are told with names.
    top: bool,
}

impl Directive for Prometheus {
    const NAME: &'static str = "prometheus";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let stanza = lines.only_one()?;
        let mut prometheus = Self { address: "localhost:9153".into(), tls: None, top: false };
        if let Some(address) = lines.at_most_one(stanza)? {
            split_host_port(&address.text).map_err(|error| lines.err(address, error))?;
            prometheus.address = address.text.clone();
        }
        for option in &stanza.options {
            match option.name.text.as_str() {
                "runtime_metrics" => lines.no_args(option)?,
                "top" => {
                    lines.no_args(option)?;
                    prometheus.top = true;
                }
                "tls" => {
                    if prometheus.tls.is_some() {
                        return Err(lines.parse_err(&option.name, "tls block already specified"));
                    }
                    // Not relative to `root`: it is none of the zones' data.
                    prometheus.tls = Some(PathBuf::from(&lines.one_arg(option)?.text));
                }
                other => {
                    let message = format!("unknown option: {other}");
                    let error = lines.parse_err(&option.name, message);
                    return Err(error.suggesting(other, &["runtime_metrics", "tls", "top"]));
                }
            }
        }
        Ok(prometheus)
    }

    fn compile(self, site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        let handlers: Vec<&'static str> =
            site.directives.iter().copied().filter(|name| is_named(name)).collect();
        let here = handlers.iter().position(|name| *name == Self::NAME);
        let below = here.and_then(|here| handlers.get(here + 1)).copied().unwrap_or("");
        let tally = site.tally;
        let mut shown = Vec::new();
        let mut cells = Vec::with_capacity(site.servers.len());
        for server in site.servers {
            let (at, view) = (&*server.server_label, &*server.view_label);
            cells.push(QueryCells::new(tally, at, &server.zone_label, view, below));
            // As in CoreDNS for the block's first zone, on each of its listeners.
            if Some(&server.zone) == site.zones.first() {
                shown.extend(handlers.iter().map(|name| {
                    let labels = [at, &*server.zone_label, view, name];
                    let gauge = tally.gauge(&PLUGIN_ENABLED, &labels);
                    gauge.set(1.0);
                    gauge
                }));
            }
        }
        let metrics = Metrics { status: Arc::clone(site.status), with_names: self.top };
        site.endpoint(Endpoint {
            name: "metrics",
            address: self.address,
            routes: vec![("/metrics", Arc::new(metrics))],
            required: false,
            poll: None,
            web: self.tls,
        });
        Ok(Compiled::link(Counting { cells, _shown: shown }))
    }
}

/// Whether CoreDNS has the directive's plugin in the chain, where it is named and counted.
fn is_named(directive: &str) -> bool {
    const NOT: [&str; 19] = [
        "root",
        "proxyproto",
        "quic",
        "grpc_server",
        "https",
        "https3",
        "timeouts",
        "multisocket",
        "reload",
        "bind",
        "debug",
        "ready",
        "health",
        "pprof",
        "tls",
        "on",
        "sign",
        "import",
        "deprecated",
    ];
    !NOT.contains(&directive)
}

/// The page with the counters of the process, for another address.
pub fn page(status: &Arc<Status>) -> Arc<dyn Route> {
    Arc::new(Metrics { status: Arc::clone(status), with_names: false })
}

/// The page with the counters of the process.
struct Metrics {
    status: Arc<Status>,
    with_names: bool,
}

impl Route for Metrics {
    fn answer(&self, request: &Request<'_>) -> Response {
        let format = Format::accepted(request.accept);
        let body = self.status.metrics(format, self.with_names);
        Response { status: 200, content_type: format.content_type(), body }
    }

    fn yields(&self) -> bool {
        !self.with_names
    }
}

/// The link: counts a query when its reply comes up.
pub struct Counting {
    /// By zone of the block, as [`Site::servers`].
    cells: Vec<QueryCells>,
    /// Shown as long as the link lives.
    _shown: Vec<Gauge>,
}

/// What is known on the way down only.
#[derive(Clone, Copy)]
pub struct Arrival {
    at: Nanos,
    bytes: u16,
    dnssec_ok: bool,
}

impl Plugin for Counting {
    type Frame = Arrival;
    type Local = ();

    fn local(&self, _core: u16) {}

    fn serve(&self, (): &mut (), cx: &mut Cx<'_>) -> Step<Arrival> {
        let client = cx.depth() == 0;
        Step::Watch(Arrival {
            at: if client { cx.arrived() } else { cx.core.now },
            bytes: if client { cx.request().len() as u16 } else { asked_bytes(cx) },
            dnssec_ok: cx.asked().dnssec_ok,
        })
    }

    fn resume(&self, (): &mut (), cx: &mut Cx<'_>, arrival: Arrival) -> Step<Arrival> {
        let level = cx.level();
        let Some(cells) = self.cells.get(level.place().zone as usize) else { return Step::Up };
        let written = level.state == ReplyState::Written;
        let silent = matches!(level.state, ReplyState::Empty | ReplyState::Dropped);
        // What goes back to a client is timed when it has been sent.
        let timed_later = cx.depth() == 0 && !silent;
        let seen = Seen {
            stream: cx.client().transport.is_stream(),
            ipv6: cx.client().family() == 2,
            qtype: level.question().rtype,
            dnssec_ok: arrival.dnssec_ok,
            request_bytes: arrival.bytes.into(),
            response_bytes: if written { level.reply.len() as u64 } else { 0 },
            rcode: level.rcode(),
            by_plugin: written,
            duration_ns: (!timed_later).then(|| cx.core.now.saturating_sub(arrival.at)),
        };
        cells.count(&cx.core.tally, &seen);
        if timed_later {
            cx.time(cells.duration());
        }
        Step::Up
    }
}

/// Octets that a question of the walk's own would have as a message: header, question, and OPT
/// without options.
fn asked_bytes(cx: &Cx<'_>) -> u16 {
    let opt = if cx.asked().edns { 11 } else { 0 };
    12 + cx.question().name.as_bytes().len() as u16 + 4 + opt
}

#[cfg(test)]
mod tests {
    use super::super::parse_block;
    use super::super::registry::NAMES;
    use super::*;
    use crate::data::tally::Tally;

    fn parse(block: &str) -> Result<String, String> {
        parse_block::<Prometheus>(block).map(|prometheus| prometheus.address)
    }

    #[test]
    fn reads_the_address() {
        assert_eq!(parse("prometheus"), Ok("localhost:9153".into()));
        assert_eq!(parse("prometheus :1 {\nruntime_metrics\n}"), Ok(":1".into()));
    }

    #[test]
    fn refuses_in_coredns_s_words() {
        for (block, words) in [
            ("prometheus bla", "address bla: missing port in address"),
            ("prometheus a:1 b", "Wrong argument count or unexpected line ending after 'b'"),
            ("prometheus\nprometheus", "this plugin can only be used once per Server Block"),
            ("prometheus {\nfoo\n}", "unknown option: foo"),
            ("prometheus {\nruntime_metrics x\n}", "Wrong argument count"),
            ("prometheus {\ntls\n}", "Wrong argument count"),
            ("prometheus {\ntls a b\n}", "Wrong argument count"),
            ("prometheus {\ntls a\ntls b\n}", "tls block already specified"),
        ] {
            let error = parse(block).expect_err(block);
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn chains_hold_what_coredns_has_in_them() {
        let named = |name: &&str| ["errors", "bufsize", "view", "loop"].contains(name);
        assert!(NAMES.iter().filter(|name| named(name)).all(|name| is_named(name)));
        let outside = NAMES.iter().filter(|name| !is_named(name)).count();
        // The parser's own two words are no directives here.
        assert_eq!(outside, 17);
    }

    #[test]
    fn the_page_has_counters_and_process_in_the_format_asked_for() {
        let status = Status::new(&Tally::new(1), 1, "mmsg");
        let route = Metrics { status, with_names: false };
        let text = route.answer(&Request::default());
        assert_eq!(text.content_type, Format::Text004.content_type());
        assert!(text.body.contains("\n# TYPE coredns_panics_total counter\n"));
        assert!(text.body.contains("\n# TYPE process_open_fds gauge\n"));
        let accept = "application/openmetrics-text; version=1.0.0";
        let open = route.answer(&Request { accept, ..Request::default() });
        assert_eq!(open.content_type, Format::OpenMetrics1.content_type());
        assert!(open.body.contains("\n# TYPE coredns_panics counter\n"));
        assert!(open.body.ends_with("\n# EOF\n"));
    }
}
