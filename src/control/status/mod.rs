//! What people ask of a running server: `/status`, `/status.json`, and the ranks that metrics show.
//!
//! The page is one file with everything in it; it asks for `/status.json` every two seconds and makes
//! rates and percentiles of the differences. So the server keeps nothing for who looks, and a page that
//! nobody looks at costs nothing. What came from outside (names, clients, log lines, the Corefile) goes
//! into the page as text, never as markup: the script sets `textContent` only, and the page's policy
//! forbids everything that is not its own.
//!
//! Who may read it is said by `status` in `health`. What must stay secret is left out before
//! anybody sees it (see `shown`).
//!
//! Cost: a request is a scrape and a pass over it, on the admin thread.

mod document;
mod figures;
mod shown;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use serde::Serialize;
use tokio::time::Instant;

use super::admin::{Request, Response, Route};
use super::compile::Graph;
use super::corefile::Corefile;
use crate::data::clock;
use crate::data::counters::Counters;
use crate::data::tally::top::{ALL, By, Ranking, Who};
use crate::data::tally::{Family, Format, Gauge, Kind, Page, Tally};
use crate::limits::TOP_RANKS;
use shown::Shown;

/// The page: what it shows it asks for.
const PAGE: &str = include_str!("page.html");

static LOADED: Family = Family::gauge(
    "corelane_configuration_timestamp_seconds",
    &[],
    "When the configuration that serves was loaded.",
);

static OUTDATED: Family = Family::gauge(
    "corelane_configuration_outdated",
    &[],
    "1 while the Corefile does not load, so that an older one serves.",
);
static SUCCEEDED: Family = Family::gauge(
    "corelane_hand_over_timestamp_seconds",
    &[],
    "When this process took over from another.",
);

/// Knows clients by their addresses.
pub trait Census: Send + Sync {
    /// Who has this address, as far as it is known. Control side.
    fn owner(&self, client: IpAddr) -> Option<Owner>;
}

/// Who has an address; what is not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Owner {
    /// The namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// A service that has the address among its endpoints.
    pub service: String,
}

/// What is known of the process, for people. One for its life.
pub struct Status {
    tally: Arc<Tally>,
    counters: Counters,
    workers: usize,
    engine: &'static str,
    started: Instant,
    running: ArcSwap<Running>,
    /// When what serves was loaded.
    loaded: Gauge,
    /// When another process handed over to this one.
    succeeded: OnceLock<Gauge>,
    /// What serves is not what the operator wants now: that does not load.
    outdated: Gauge,
}

/// What serves now.
struct Running {
    /// 0: nothing yet.
    generation: u64,
    since: Instant,
    hash: [u8; 64],
    blocks: Vec<Block>,
    censuses: Vec<Arc<dyn Census>>,
}

/// A server block as it is shown.
struct Block {
    keys: Vec<String>,
    /// Its labels in metrics: server, zone, view.
    servers: Vec<[String; 3]>,
    directives: Vec<Shown>,
}

/// One of the top, as people read it.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The address or the name.
    pub what: String,
    /// Who has the address.
    #[serde(flatten)]
    pub owner: Owner,
    /// Queries a second.
    pub queries_per_second: f64,
    /// Queries that wait at a time, where that is ranked.
    pub waiting: f64,
}

impl Status {
    /// Of a process that serves nothing yet.
    pub fn new(tally: &Arc<Tally>, workers: usize, engine: &'static str) -> Arc<Self> {
        let now = Instant::now();
        let running = Running {
            generation: 0,
            since: now,
            hash: [0; 64],
            blocks: Vec::new(),
            censuses: Vec::new(),
        };
        Arc::new(Self {
            loaded: tally.gauge(&LOADED, &[]),
            succeeded: OnceLock::new(),
            outdated: tally.gauge(&OUTDATED, &[]),
            counters: Counters::new(tally),
            tally: Arc::clone(tally),
            workers,
            engine,
            started: now,
            running: ArcSwap::from_pointee(running),
        })
    }

    /// Takes note of what serves from now on; the graph is bound.
    pub fn set(&self, corefile: &Corefile, graph: &Graph) {
        let blocks = corefile.blocks.iter().zip(&graph.snapshot.blocks).map(|(read, compiled)| {
            let (keys, directives) = shown::block(read);
            let labels = compiled.servers.iter().map(|server| {
                [&server.server_label, &server.zone_label, &server.view_label]
                    .map(|l| l.to_string())
            });
            Block { keys, servers: labels.collect(), directives }
        });
        let censuses = graph.parts.iter().flat_map(|part| part.censuses.iter().cloned());
        self.loaded.set(clock::unix_seconds() as f64);
        self.set_outdated(false);
        self.running.store(Arc::new(Running {
            generation: graph.snapshot.generation,
            since: Instant::now(),
            hash: graph.hash,
            blocks: blocks.collect(),
            censuses: censuses.collect(),
        }));
    }

    /// Takes note whether what serves is older than what the operator wants, which does not load.
    pub fn set_outdated(&self, outdated: bool) {
        self.outdated.set(f64::from(u8::from(outdated)));
    }

    /// Takes note that another process has handed over to this one.
    pub fn succeed(&self) {
        let gauge = self.succeeded.get_or_init(|| self.tally.gauge(&SUCCEEDED, &[]));
        gauge.set(clock::unix_seconds() as f64);
    }

    /// The ranking by `by`, with the names of who asks.
    pub fn top(&self, by: By) -> (Vec<Row>, f64) {
        let Ranking { top, queries } = self.tally.top(by, clock::now(), TOP_RANKS);
        let running = self.running.load();
        let rows = top.into_iter().map(|ranked| {
            let (what, owner) = match ranked.who {
                Who::Name(name) => (name.to_string(), None),
                Who::Client(client) => {
                    let owner = running.censuses.iter().find_map(|census| census.owner(client));
                    (client.to_string(), owner)
                }
            };
            Row {
                what,
                owner: owner.unwrap_or_default(),
                queries_per_second: ranked.queries,
                waiting: ranked.waiting,
            }
        });
        (rows.collect(), queries)
    }

    /// Writes the families of the ranks: as many series at any time as there are ranks.
    /// `with_names`: who has each rank, too, in series that change with it.
    pub fn write_ranks(&self, page: &mut Page<'_>, with_names: bool) {
        let tops = ALL.map(|(by, word)| (by, word, self.top(by).0));
        let labels = |by: &str, rank: usize| format!("by=\"{by}\",rank=\"{}\"", rank + 1);
        let mut write = |name, help, shown: &dyn Fn(By) -> bool, value: &dyn Fn(&Row) -> f64| {
            page.family(name, help, Kind::Gauge, |page| {
                for (by, word, rows) in tops.iter().filter(|(by, ..)| shown(*by)) {
                    for rank in 0..TOP_RANKS {
                        let _ = by;
                        let number = rows.get(rank).map_or(0.0, value);
                        page.float("", &labels(word, rank), number);
                    }
                }
            });
        };
        let rates = "Queries a second of the clients and names that have the first ranks.";
        write("corelane_top_queries_per_second", rates, &|_| true, &|row| row.queries_per_second);
        let waits = "Queries that wait at a time, of the names for which most wait.";
        write("corelane_top_waiting_queries", waits, &|by| by == By::Waiting, &|row| row.waiting);
        if !with_names {
            return;
        }
        let help = "Always 1: who or what has a rank now.";
        page.family("corelane_top_info", help, Kind::Gauge, |page| {
            for (_, word, rows) in &tops {
                for (rank, row) in rows.iter().enumerate() {
                    let mut text = labels(word, rank);
                    let Owner { namespace, pod, service } = &row.owner;
                    let named = [
                        ("what", row.what.as_str()),
                        ("namespace", namespace),
                        ("pod", pod),
                        ("service", service),
                    ];
                    Page::push_labels(&mut text, &named);
                    page.integer("", &text, 1);
                }
            }
        });
    }

    /// The page of metrics, with the ranks.
    pub fn metrics(&self, format: Format, with_names: bool) -> String {
        let mut body = String::new();
        let mut page = Page::new(&mut body, format);
        self.tally.write(&mut page);
        self.write_ranks(&mut page, with_names);
        super::admin::process::write(&mut page);
        page.finish();
        body
    }
}

/// Who may read the status page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Readers {
    /// Nobody: there is none.
    Nobody,
    /// Who is on this host or in this pod, and who has a port forwarded there.
    #[default]
    Local,
    /// Whoever reaches the port.
    Everybody,
}

/// The routes of the status page.
pub fn routes(status: &Arc<Status>, readers: Readers) -> Vec<(&'static str, Arc<dyn Route>)> {
    if readers == Readers::Nobody {
        return Vec::new();
    }
    let page = Answers { status: Arc::clone(status), readers, is_page: true };
    let json = Answers { status: Arc::clone(status), readers, is_page: false };
    vec![("/status", Arc::new(page)), ("/status.json", Arc::new(json))]
}

/// Answers with the page, or with what it shows.
struct Answers {
    status: Arc<Status>,
    readers: Readers,
    is_page: bool,
}

impl Route for Answers {
    fn answer(&self, request: &Request<'_>) -> Response {
        if self.readers == Readers::Local && !request.is_local {
            let how = "only from this host: forward a port to it, or say `status on` in health\n";
            return Response::text(403, how);
        }
        let (content_type, body) = match self.is_page {
            true => ("text/html; charset=utf-8", PAGE.to_owned()),
            false => ("application/json", self.status.document().to_string()),
        };
        Response { status: 200, content_type, body }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Shop;

    impl Census for Shop {
        fn owner(&self, client: IpAddr) -> Option<Owner> {
            let owner = |pod: &str| Owner {
                namespace: "shop".into(),
                pod: pod.into(),
                service: "\"web\"".into(),
            };
            (client.to_string() == "192.0.2.1").then(|| owner("web-0"))
        }
    }

    fn status() -> Arc<Status> {
        let tally = Tally::new(2);
        let status = Status::new(&tally, 1, "mmsg");
        let running = Running {
            generation: 1,
            since: Instant::now(),
            hash: [0xab; 64],
            blocks: Vec::new(),
            censuses: vec![Arc::new(Shop)],
        };
        status.running.store(Arc::new(running));
        let core = tally.core(0);
        core.asks("192.0.2.1".parse().unwrap(), 3);
        core.asks("192.0.2.2".parse().unwrap(), 1);
        let name = crate::wire::NameBuf::parse("<b>.example").unwrap();
        core.waited(name.as_name(), 2_000_000_000, true);
        status
    }

    #[test]
    fn ranks_are_series_of_fixed_number() {
        let status = status();
        let series =
            |text: &str| text.lines().filter(|line| line.contains("corelane_top_")).count();
        let text = status.metrics(Format::Text004, false);
        // Head and help of two families; four rankings of one, one of the other.
        assert_eq!(series(&text), 4 + 5 * TOP_RANKS, "{text}");
        assert!(text.contains("corelane_top_queries_per_second{by=\"client\",rank=\"1\"} 3\n"));
        assert!(text.contains("corelane_top_waiting_queries{by=\"waiting\",rank=\"1\"} 2\n"));
        assert!(text.contains("corelane_top_queries_per_second{by=\"name\",rank=\"10\"} 0\n"));
        assert!(!text.contains("192.0.2.1"));
        let named = status.metrics(Format::Text004, true);
        let line = "corelane_top_info{by=\"client\",rank=\"1\",what=\"192.0.2.1\",\
                    namespace=\"shop\",pod=\"web-0\",service=\"\\\"web\\\"\"} 1\n";
        assert!(named.contains(line), "{named}");
        assert!(named.contains("rank=\"2\",what=\"192.0.2.2\",namespace=\"\""));
    }

    #[test]
    fn who_is_not_here_is_refused() {
        let status = status();
        let ask = |readers, path: &str, is_local| {
            let routes = routes(&status, readers);
            let route = routes.iter().find(|(known, _)| *known == path);
            let request = Request { is_local, ..Request::default() };
            route.map(|(_, route)| route.answer(&request).status)
        };
        for path in ["/status", "/status.json"] {
            assert_eq!(ask(Readers::Nobody, path, true), None);
            assert_eq!(ask(Readers::Local, path, true), Some(200));
            assert_eq!(ask(Readers::Local, path, false), Some(403));
            assert_eq!(ask(Readers::Everybody, path, false), Some(200));
        }
    }

    #[test]
    fn the_document_tells_who_asks() {
        let document = status().document();
        assert_eq!(document["generation"]["number"], 1);
        assert_eq!(document["top"]["client"]["rows"][0]["pod"], "web-0");
        assert_eq!(document["top"]["nxdomain"]["rows"][0]["what"], "<b>.example.");
        assert_eq!(document["cores"].as_array().map(Vec::len), Some(1));
    }

    #[test]
    fn the_page_asks_nobody_else() {
        // The one address in it would be another server's.
        assert!(!PAGE.contains("://"), "no address of anything");
        assert!(PAGE.contains("default-src 'none'") && !PAGE.contains("innerHTML"));
    }
}
