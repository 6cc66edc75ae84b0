//! Queries are answered without an allocation: Corefiles as an operator writes them, compiled as the
//! server compiles them, turned by hand under a counting allocator.
//!
//! A lock that nobody contends cannot be seen by counting; that workers make no futex call, and
//! hardly any other, tests/saturation.rs sees under strace(1).

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use corelane::cells::Flights;
use corelane::control::compile::{Graph, Ground, Numbers, compile, plan};
use corelane::control::corefile::{Input, load};
use corelane::control::crew::Crew;
use corelane::control::source::directives;
use corelane::control::status::Status;
use corelane::data::chain::Marking;
use corelane::data::chain::cx::{Client, Core, Event};
use corelane::data::counters::Counters;
use corelane::data::large::Large;
use corelane::data::rng::Rng;
use corelane::data::transport::{Lane, engine::Engine};
use corelane::data::turn::{Outlet, Turn};
use corelane::data::upstream::network::{ChannelId, Network, Queries};
use corelane::data::upstream::table::Upstreams;
use corelane::data::upstream::{Unreached, Upstream};
use corelane::limits::{BATCH_DATAGRAMS, DETACHED_MAX, EVENTS_MAX, LANE_BYTES, SPENT_MAX};
use corelane::wire::{NameBuf, rcode, records, rtype};
use crossbeam::queue::ArrayQueue;

mod counting;
mod ports;

use counting::allocated;
use ports::Port;

const ZONE: &str = "\
$TTL 300
@ IN SOA ns hostmaster 1 7200 3600 1209600 60
@ IN NS ns
ns IN A 192.0.2.53
www IN A 192.0.2.1
www IN A 192.0.2.2
www IN AAAA 2001:db8::1
alias IN CNAME www
*.wild IN TXT \"from the wildcard\"
deep.er IN A 192.0.2.3
mail IN MX 10 www
";

const CLUSTER: &str = "\
kind: Namespace
metadata: {name: shop}
---
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIPs: [10.96.0.20, 'fd00:96::20'], ports: [{name: http, port: 80, protocol: TCP}]}
---
kind: Service
metadata: {name: one, namespace: shop}
spec: {clusterIP: 10.96.0.21, ports: [{port: 80, protocol: TCP}]}
---
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, ports: [{name: pg, port: 5432, protocol: TCP}]}
---
kind: EndpointSlice
metadata: {name: db-1, namespace: shop, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: pg, port: 5432, protocol: TCP}]
endpoints: [{addresses: [10.1.0.21], hostname: db-0}, {addresses: [10.1.0.22]}]
---
kind: Service
metadata: {name: ext, namespace: shop}
spec: {type: ExternalName, externalName: one.shop.svc.cluster.local}
---
kind: Service
metadata: {name: lb, namespace: shop}
spec: {clusterIP: 10.96.0.22, ports: [{name: http, port: 80, protocol: TCP}]}
status: {loadBalancer: {ingress: [{ip: 203.0.113.5}, {ip: 203.0.113.6}]}}
---
kind: Pod
metadata: {name: front, namespace: shop}
status: {phase: Running, podIP: 192.0.2.99}
";

/// Rounds after which everything is there that is made once.
const WARM: usize = 5;
/// Rounds in which nothing may be allocated.
const ROUNDS: usize = 50;

/// A question, and what must come back: rcode and records in the answer section.
struct Ask {
    name: &'static str,
    rtype: u16,
    class: u16,
    dnssec_ok: bool,
    nsid: bool,
    expected: (u8, usize),
}

const fn ask(name: &'static str, rtype: u16, rcode: u16, answers: usize) -> Ask {
    let expected = (rcode as u8, answers);
    Ask { name, rtype, class: 1, dnssec_ok: false, nsid: false, expected }
}

/// What a zone is asked: hits, what does not exist, no data, wildcards, aliases, DO.
const OF_THE_ZONE: &[Ask] = &[
    ask("www.example.org.", rtype::A, rcode::NOERROR, 2),
    ask("WWW.Example.ORG.", rtype::AAAA, rcode::NOERROR, 1),
    Ask { dnssec_ok: true, ..ask("www.example.org.", rtype::A, rcode::NOERROR, 2) },
    ask("alias.example.org.", rtype::A, rcode::NOERROR, 3),
    ask("any.wild.example.org.", rtype::TXT, rcode::NOERROR, 1),
    ask("er.example.org.", rtype::A, rcode::NOERROR, 0),
    ask("www.example.org.", rtype::TXT, rcode::NOERROR, 0),
    ask("mail.example.org.", rtype::MX, rcode::NOERROR, 1),
    ask("example.org.", rtype::SOA, rcode::NOERROR, 1),
    ask("none.example.org.", rtype::A, rcode::NXDOMAIN, 0),
    Ask { dnssec_ok: true, ..ask("none.example.org.", rtype::A, rcode::NXDOMAIN, 0) },
    ask("elsewhere.example.", rtype::A, rcode::REFUSED, 0),
];

impl Ask {
    fn message(&self, id: u16) -> Vec<u8> {
        let edns = self.dnssec_ok || self.nsid;
        let [high, low] = id.to_be_bytes();
        let mut message = vec![high, low, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns)];
        let name = NameBuf::parse(self.name).expect("a name");
        message.extend(name.as_name().as_bytes());
        message.extend([self.rtype.to_be_bytes(), self.class.to_be_bytes()].concat());
        if edns {
            let options: &[u8] = if self.nsid { &[0, 3, 0, 0] } else { &[] };
            let dnssec_ok = u8::from(self.dnssec_ok) << 7;
            message.extend([0, 0, 41, 4, 208, 0, 0, dnssec_ok, 0, 0, options.len() as u8]);
            message.extend(options);
        }
        message
    }

    fn check(&self, id: u16, reply: &[u8]) {
        let what = format!("{} {} of {}", self.name, self.rtype, self.class);
        assert!(reply.len() >= 12, "{what}: no reply");
        assert_eq!(reply[..2], id.to_be_bytes(), "{what}");
        let answers = u16::from_be_bytes([reply[6], reply[7]]) as usize;
        assert_eq!((reply[3] & 15, answers), self.expected, "{what}: {reply:02x?}");
        records(reply).expect("a valid reply");
    }
}

/// Nothing waits on these chains.
struct Nowhere;

impl Outlet for Nowhere {
    fn deliver(&mut self, _: &Client, _: &[u8], _: bool) -> bool {
        panic!("a query waited");
    }

    fn pass(&mut self, _: &Client) {
        panic!("a query was passed over");
    }
}

/// Upstreams that reply to everything at once, and the clients that are answered.
#[derive(Default)]
struct Echo {
    replies: Vec<(ChannelId, Box<[u8]>, usize)>,
    used: usize,
    answered: usize,
}

impl Outlet for Echo {
    fn deliver(&mut self, _: &Client, message: &[u8], _: bool) -> bool {
        assert_eq!((message[3] & 15, message[7]), (0, 1), "an answer");
        self.answered += 1;
        true
    }

    fn pass(&mut self, _: &Client) {
        panic!("a query was passed over");
    }

    fn network(&mut self) -> Option<&mut dyn Network> {
        Some(self)
    }
}

impl Network for Echo {
    fn open(&mut self, _: ChannelId, _: &Arc<Upstream>, _: bool) -> Result<(), Unreached> {
        Ok(())
    }

    fn send(&mut self, channel: ChannelId, queries: &Queries) -> Result<(), Unreached> {
        for query in queries.iter() {
            if self.replies.len() == self.used {
                let memory = vec![0; LANE_BYTES].into_boxed_slice();
                self.replies.push((channel, memory, 0));
            }
            let (by, memory, len) = &mut self.replies[self.used];
            // The question, whatever came behind it, and one address.
            let name = query[12..].iter().position(|octet| *octet == 0).expect("a name");
            let end = 12 + name + 5;
            memory[..end].copy_from_slice(&query[..end]);
            memory[2] |= 0x80;
            memory[6..12].copy_from_slice(&[0, 1, 0, 0, 0, 0]);
            let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1];
            memory[end..end + record.len()].copy_from_slice(&record);
            (*by, *len) = (channel, end + record.len());
            self.used += 1;
        }
        Ok(())
    }

    fn ask(&mut self, _: ChannelId, _: &[u8]) -> Result<(), Unreached> {
        Err(Unreached::NoRoom)
    }

    fn close(&mut self, _: ChannelId) {}
}

/// The folder with what the Corefiles name: written once, since other tests read it meanwhile.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("alloc");
        std::fs::create_dir_all(&folder).expect("a folder for tests");
        for (name, text) in [
            ("db", ZONE),
            ("cluster.yaml", CLUSTER),
            ("hosts", "192.0.2.7 host.example.org\n"),
            ("resolv.conf", "search a.example.org example.org\n"),
        ] {
            std::fs::write(folder.join(name), text).expect("a file");
        }
        folder
    })
}

/// A Corefile that serves, in this thread.
struct Served {
    turn: Turn,
    events: Arc<ArrayQueue<Event>>,
    listener: u32,
    lanes: Vec<Lane>,
    /// Events that plugins have told.
    told: usize,
    _graph: Graph,
    _port: Port,
}

impl Served {
    /// `lines` are the directives of one block for everything.
    fn new(key: &str, lines: &str) -> Self {
        let port = Port::free();
        let (number, root) = (port.number, folder().display());
        let text = format!("{key}:{number} {{\n bind 127.0.0.1\n root {root}\n {lines}\n}}\n");
        let input = Input::Text { name: "Corefile".into(), text: text.into() };
        let corefile = load(input, directives(), &|_| None, 53).expect("a Corefile");
        let planned = plan(&corefile).expect("directives that can be read");
        let crew = Crew::of(1, false, Engine::Mmsg).expect("descriptors");
        let tally = Arc::clone(&crew.tally);
        let (status, readiness) = (Status::new(&tally, 1, "mmsg"), Arc::default());
        let mut numbers = Numbers::default();
        let mut ground = Ground::of(&crew, &status, &readiness, None, &mut numbers);
        let graph = compile(planned, [0; 64], &mut ground);
        let mut graph = graph.map_err(|error| error.to_string()).expect("a graph");
        graph.bind(&mut ground).expect("a free port");
        // What a cluster holds is published once its block is about to serve.
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let entered = runtime.enter();
        for hook in std::mem::take(&mut graph.at_start) {
            hook().expect("a start");
        }
        drop(entered);
        let counters = Counters::new(&tally);
        let events = Arc::new(ArrayQueue::new(EVENTS_MAX));
        let core = Core {
            index: 0,
            tally: Rc::new(tally.core(0)),
            rng: Rng::from_seed(1),
            now: 1_000_000_000,
            events: Arc::clone(&events),
            events_dropped: counters.events_dropped,
            flights: Arc::new(Flights::new(Vec::new())),
            large: Large::new(),
            upstreams: Upstreams::new(),
            detached: Vec::with_capacity(DETACHED_MAX),
            spent: Arc::new(ArrayQueue::new(SPENT_MAX)),
            marking: Marking::new(),
        };
        let listener = graph.snapshot.listeners[0].id;
        let turn = Turn::new(core, counters, Arc::clone(&graph.snapshot));
        let lanes = (0..BATCH_DATAGRAMS).map(|_| Lane::new()).collect();
        Self { turn, events, listener, lanes, told: 0, _graph: graph, _port: port }
    }

    /// Asks everything once, in batches as they would be received; gives the allocations.
    fn round(&mut self, messages: &[Vec<u8>]) -> u64 {
        let mut allocations = 0;
        for messages in messages.chunks(BATCH_DATAGRAMS) {
            let lanes = received(&mut self.lanes, self.listener, messages);
            let before = allocated();
            self.turn.core.now += 1_000_000;
            self.turn.batch(lanes, &mut Nowhere);
            self.turn.count_walks(lanes, self.turn.core.now + 1_000);
            self.take_events();
            allocations += allocated() - before;
        }
        allocations
    }

    fn take_events(&mut self) {
        while self.events.pop().is_some() {
            self.told += 1;
        }
    }

    /// Asks all at once what an upstream is asked, which replies a millisecond later; gives the
    /// allocations.
    fn fetched_round(&mut self, messages: &[Vec<u8>], echo: &mut Echo) -> u64 {
        let lanes = received(&mut self.lanes, self.listener, messages);
        let before = allocated();
        self.turn.core.now += 1_000_000;
        self.turn.batch(lanes, echo);
        self.turn.flush_upstreams(echo);
        self.turn.core.now += 1_000_000;
        for index in 0..std::mem::take(&mut echo.used) {
            let (channel, len) = (echo.replies[index].0, echo.replies[index].2);
            let mut memory = std::mem::take(&mut echo.replies[index].1);
            self.turn.arrived(channel, &mut memory, len, echo);
            echo.replies[index].1 = memory;
        }
        self.take_events();
        allocated() - before
    }
}

/// Lanes as they are when these messages have been received.
fn received<'l>(lanes: &'l mut [Lane], listener: u32, messages: &[Vec<u8>]) -> &'l mut [Lane] {
    let lanes = &mut lanes[..messages.len()];
    for (lane, message) in lanes.iter_mut().zip(messages) {
        lane.client.listener = listener;
        lane.client.peer = ([192, 0, 2, 99], 40_000).into();
        lane.input[..message.len()].copy_from_slice(message);
        lane.input_len = message.len();
    }
    lanes
}

/// Proves that a block of these directives asks its upstreams and allocates nothing; gives the events
/// that it told a query.
fn prove_asking(lines: &str) -> usize {
    let mut served = Served::new(".", lines);
    let names: Vec<String> = (0..BATCH_DATAGRAMS).map(|n| format!("n{n}.example.")).collect();
    let asks = names.iter().map(|name| (NameBuf::parse(name).expect("a name"), name.len() % 2));
    let messages: Vec<Vec<u8>> = asks
        .map(|(name, edns)| {
            let mut message = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, edns as u8];
            message.extend(name.as_name().as_bytes());
            message.extend([0, 1, 0, 1]);
            message.extend(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0][..11 * edns]);
            message
        })
        .collect();
    let mut echo = Echo::default();
    // Sockets are opened one a turn, and tables of what is in flight grow with chance.
    for _ in 0..60 {
        served.fetched_round(&messages, &mut echo);
    }
    (echo.answered, served.told) = (0, 0);
    let allocations: u64 = (0..ROUNDS).map(|_| served.fetched_round(&messages, &mut echo)).sum();
    assert_eq!(echo.answered, ROUNDS * BATCH_DATAGRAMS);
    assert_eq!(allocations, 0, "in {} queries that waited", echo.answered);
    served.told / echo.answered
}

const FORWARD: &str = "prometheus 127.0.0.1:0\n errors\n forward . 192.0.2.1 192.0.2.2";

#[test]
fn what_upstreams_are_asked() {
    assert_eq!(prove_asking(FORWARD), 0);
}

/// Two collectors, of which nobody is there.
const TAPS: &str = "dnstap unix:///nowhere full {\n extra \"{name} {rcode} {duration}\"\n }\n \
                    dnstap tcp://127.0.0.1:9\n";

#[test]
fn what_collectors_are_told() {
    let told = prove(".", &format!("{TAPS} {FILE}"), OF_THE_ZONE);
    assert!(told >= 4, "a query and its reply, to two: {told}");
    let told = prove_asking(&format!("{TAPS} {FORWARD}"));
    assert!(told >= 8, "what an upstream was asked and replied besides: {told}");
}

/// Proves that a block of these directives answers `asks`, and allocates nothing; gives the events that
/// it told a query.
fn prove(key: &str, lines: &str, asks: &[Ask]) -> usize {
    assert!(asks.len() <= BATCH_DATAGRAMS, "replies of one batch are looked at");
    let mut served = Served::new(key, lines);
    let messages: Vec<Vec<u8>> = asks.iter().zip(1..).map(|(ask, id)| ask.message(id)).collect();
    for _ in 0..WARM {
        served.round(&messages);
    }
    for ((ask, id), lane) in asks.iter().zip(1..).zip(&served.lanes) {
        ask.check(id, &lane.output[..lane.output_len]);
    }
    served.told = 0;
    let allocations: u64 = (0..ROUNDS).map(|_| served.round(&messages)).sum();
    let queries = ROUNDS * asks.len();
    assert_eq!(allocations, 0, "in {queries} queries of\n{lines}");
    served.told / queries
}

const FILE: &str = "file db example.org";

#[test]
fn file_alone() {
    prove(".", FILE, OF_THE_ZONE);
}

#[test]
fn file_with_metrics_and_errors() {
    prove(".", &format!("prometheus 127.0.0.1:0\n errors\n {FILE}"), OF_THE_ZONE);
}

#[test]
fn every_query_logged() {
    prove(".", &format!("prometheus 127.0.0.1:0\n errors\n log\n {FILE}"), OF_THE_ZONE);
    let long = "{remote}:{port} {type} {class} {name} {proto} {size} {>do} {rcode} {>rflags} \
                {rsize} {duration} {>id} {>opcode}";
    prove(".", &format!("log . \"{long}\" {{\n class all\n }}\n {FILE}"), OF_THE_ZONE);
}

#[test]
fn what_edits_queries_and_replies() {
    let lines = "bufsize 1232\n header {\n response set ra\n query set rd\n }\n minimal\n";
    prove(".", &format!("{lines} {FILE}"), OF_THE_ZONE);
    prove(".", &format!("metadata\n cancel 1s\n {FILE}"), OF_THE_ZONE);
}

#[test]
fn who_may_ask_for_what() {
    let rules = "acl {\n block type MX net 10.0.0.0/8 192.0.2.0/24 2001:db8::/32\n \
                 allow net 192.0.2.99\n drop\n }\n acl {\n filter\n }\n";
    let asks = [
        ask("www.example.org.", rtype::A, rcode::NOERROR, 2),
        ask("mail.example.org.", rtype::MX, rcode::REFUSED, 0),
        Ask { dnssec_ok: true, ..ask("mail.example.org.", rtype::MX, rcode::REFUSED, 0) },
    ];
    prove(".", &format!("prometheus 127.0.0.1:0\n {rules} {FILE}"), &asks);
    let emptied = [Ask { dnssec_ok: true, ..ask("www.example.org.", rtype::A, rcode::NOERROR, 0) }];
    prove(".", &format!("acl {{\n filter type A\n }}\n {FILE}"), &emptied);
}

#[test]
fn what_a_search_path_leads_to() {
    let search = folder().join("resolv.conf");
    let asks = [
        ask("www.a.example.org.", rtype::A, rcode::NOERROR, 3),
        ask("alias.a.example.org.", rtype::A, rcode::NOERROR, 4),
        ask("none.a.example.org.", rtype::A, rcode::NXDOMAIN, 0),
        ask("www.example.org.", rtype::A, rcode::NOERROR, 2),
    ];
    let lines = format!("prometheus 127.0.0.1:0\n autopath {}\n {FILE}", search.display());
    prove(".", &lines, &asks);
}

#[test]
fn what_answers_by_itself() {
    let asks = [
        ask("localhost.", rtype::A, rcode::NOERROR, 1),
        ask("1.0.0.127.in-addr.arpa.", rtype::PTR, rcode::NOERROR, 1),
        ask("www.example.org.", rtype::ANY, rcode::NOERROR, 1),
        Ask { class: 3, ..ask("version.bind.", rtype::TXT, rcode::NOERROR, 1) },
        Ask { nsid: true, ..ask("www.example.org.", rtype::A, rcode::NOERROR, 2) },
    ];
    prove(".", &format!("nsid here\n local\n any\n chaos v1 somebody\n {FILE}"), &asks);
    prove(".", "whoami", &[ask("who.example.", rtype::A, rcode::NOERROR, 0)]);
}

#[test]
fn plugins_of_answers() {
    for (directive, lines, asks) in [
        ("loadbalance", FILE, OF_THE_ZONE),
        ("hosts", "", &[ask("host.example.org.", rtype::A, rcode::NOERROR, 1)][..]),
    ] {
        if !directives().built.contains(&directive) {
            continue;
        }
        let own = if directive == "hosts" { "hosts hosts" } else { directive };
        prove(".", &format!("{own}\n {lines}"), asks);
    }
}

/// What a cluster is asked: services of both kinds, ports, addresses, search paths.
const OF_THE_CLUSTER: &[Ask] = &[
    ask("one.shop.svc.cluster.local.", rtype::A, rcode::NOERROR, 1),
    ask("One.Shop.svc.cluster.local.", rtype::AAAA, rcode::NOERROR, 0),
    Ask { dnssec_ok: true, ..ask("one.shop.svc.cluster.local.", rtype::A, rcode::NOERROR, 1) },
    ask("web.shop.svc.cluster.local.", rtype::A, rcode::NOERROR, 1),
    ask("web.shop.svc.cluster.local.", rtype::HTTPS, rcode::NOERROR, 0),
    ask("_http._tcp.web.shop.svc.cluster.local.", rtype::SRV, rcode::NOERROR, 1),
    ask("db.shop.svc.cluster.local.", rtype::A, rcode::NOERROR, 2),
    ask("db-0.db.shop.svc.cluster.local.", rtype::A, rcode::NOERROR, 1),
    ask("_pg._tcp.db.shop.svc.cluster.local.", rtype::SRV, rcode::NOERROR, 2),
    ask("ext.shop.svc.cluster.local.", rtype::A, rcode::NOERROR, 2),
    ask("10-1-2-3.shop.pod.cluster.local.", rtype::A, rcode::NOERROR, 1),
    ask("21.0.96.10.in-addr.arpa.", rtype::PTR, rcode::NOERROR, 1),
    ask("22.0.1.10.in-addr.arpa.", rtype::PTR, rcode::NOERROR, 1),
    ask("dns-version.cluster.local.", rtype::TXT, rcode::NOERROR, 1),
    ask("cluster.local.", rtype::SOA, rcode::NOERROR, 1),
    ask("www.example.com.shop.svc.cluster.local.", rtype::A, rcode::NXDOMAIN, 0),
    ask("www.example.com.svc.cluster.local.", rtype::A, rcode::NXDOMAIN, 0),
    ask("www.example.com.cluster.local.", rtype::AAAA, rcode::NXDOMAIN, 0),
];

/// Services from outside, and what a pod looks for.
#[test]
fn names_for_others_and_for_pods() {
    let cluster = "kubernetes cluster.local {\n manifests cluster.yaml\n pods verified\n }\n";
    let lines = format!("k8s_external example.org 203.0.113.0/24 {{\n headless\n }}\n {cluster}");
    let asks = [
        ask("lb.shop.example.org.", rtype::A, rcode::NOERROR, 2),
        ask("_http._tcp.lb.shop.example.org.", rtype::SRV, rcode::NOERROR, 1),
        ask("db.shop.example.org.", rtype::A, rcode::NOERROR, 2),
        ask("db-0.db.shop.example.org.", rtype::A, rcode::NOERROR, 1),
        ask("_pg._tcp.db.shop.example.org.", rtype::SRV, rcode::NOERROR, 2),
        ask("5.113.0.203.in-addr.arpa.", rtype::PTR, rcode::NOERROR, 1),
        ask("no.shop.example.org.", rtype::A, rcode::NXDOMAIN, 0),
        ask("example.org.", rtype::SOA, rcode::NOERROR, 1),
    ];
    prove(".", &lines, &asks);
    let asks = [
        ask("one.shop.svc.cluster.local.", rtype::A, rcode::NOERROR, 1),
        ask("one.shop.shop.svc.cluster.local.", rtype::A, rcode::NOERROR, 2),
        ask("www.example.org.shop.svc.cluster.local.", rtype::A, rcode::NOERROR, 3),
        ask("one.other.svc.cluster.local.", rtype::A, rcode::NXDOMAIN, 0),
    ];
    prove(".", &format!("autopath @kubernetes\n {cluster} {FILE}"), &asks);
}

/// The Corefile of a stock cluster.
#[test]
fn names_of_a_cluster() {
    let cluster = "kubernetes cluster.local in-addr.arpa ip6.arpa {\n manifests cluster.yaml\n \
                   pods insecure\n fallthrough in-addr.arpa ip6.arpa\n ttl 30\n }\n";
    prove(".", cluster, OF_THE_CLUSTER);
    let ends = "health 127.0.0.1:0 {\n lameduck 5s\n }\n ready 127.0.0.1:0\n";
    let rest = "prometheus 127.0.0.1:0\n forward . 192.0.2.1\n cache 30\n loop\n reload\n";
    let stock = format!("errors\n {ends} {cluster} {rest} loadbalance");
    prove(".", &stock, OF_THE_CLUSTER);
}

#[test]
fn what_the_cache_has() {
    // Not what the chain refuses: that is asked for anew each time.
    let (_, stored) = OF_THE_ZONE.split_last().expect("something is asked");
    prove(".", &format!("cache\n {FILE}"), stored);
    let options = "success 2000 3600 60\n prefetch 1000000\n serve_stale\n keepttl\n budget 16MiB";
    let lines = format!("errors\n loadbalance\n cache {{\n {options}\n }}\n {FILE}");
    prove(".", &lines, stored);
}

#[test]
fn what_is_rewritten() {
    let rules = "rewrite continue {\n name suffix .old.example .example.org answer auto\n }\n \
                 rewrite continue name regex ^(.*)\\.older\\.example\\.$ {1}.example.org \
                 answer name ^(.*)\\.example\\.org\\.$ {1}.older.example value (w+)(.*) {1}{2}\n \
                 rewrite continue ttl suffix .example.org 30-60\n \
                 rewrite continue rcode regex .*none.* NXDOMAIN NOERROR\n \
                 rewrite continue edns0 local set 0xffee {qname} revert\n \
                 rewrite continue edns0 subnet set 24 56\n \
                 rewrite continue cname www.example.org. mail.example.org.\n \
                 rewrite continue type ANY A\n \
                 rewrite stop name substring small.example example.org";
    let asks = [
        ask("www.old.example.", rtype::A, rcode::NOERROR, 2),
        ask("WWW.older.example.", rtype::ANY, rcode::NOERROR, 2),
        ask("alias.old.example.", rtype::A, rcode::NOERROR, 1),
        ask("www.small.example.", rtype::AAAA, rcode::NOERROR, 1),
        Ask { nsid: true, ..ask("mail.old.example.", rtype::MX, rcode::NOERROR, 1) },
        ask("none.older.example.", rtype::A, rcode::NOERROR, 0),
        ask("www.example.org.", rtype::A, rcode::NOERROR, 2),
        Ask { dnssec_ok: true, ..ask("none.example.org.", rtype::A, rcode::NOERROR, 0) },
    ];
    prove(".", &format!("prometheus 127.0.0.1:0\n errors\n {rules}\n {FILE}"), &asks);
}

#[test]
fn expressions_of_views_and_templates() {
    let view = "metadata\n view those {\n \
                expr name() matches '^(www|mail)[.]' && port() == '40000'\n \
                expr incidr(client_ip(), '192.0.2.0/24') and len(split(name(), '.')) > 2\n \
                expr \"any(map(1..9, # * #), # == 49) && metadata('view/name') == 'those'\"\n }\n";
    let asks = [
        ask("www.example.org.", rtype::A, rcode::NOERROR, 2),
        ask("mail.example.org.", rtype::MX, rcode::NOERROR, 1),
        ask("none.example.org.", rtype::A, rcode::REFUSED, 0),
    ];
    prove(".", &format!("{view} {FILE}"), &asks);
    // An address, since reading a text's record from its text may allocate.
    let template = "template IN A example.org {\n match \"^(?P<host>[^.]+)[.]\"\n \
                    var labels split(name(), '.')\n \
                    var both upper(labels[0]) + '-' + type()\n \
                    expr len(labels) == 4 and group('host') != 'none' && both != 'WWW-A'\n \
                    answer \"{{ .Name }} 60 IN A 192.0.2.{{ len .Var.both }}\"\n fallthrough\n }\n";
    let asks = [
        ask("deep.example.org.", rtype::A, rcode::NOERROR, 1),
        ask("none.example.org.", rtype::A, rcode::NXDOMAIN, 0),
        ask("www.example.org.", rtype::A, rcode::NOERROR, 2),
    ];
    prove(".", &format!("{template} {FILE}"), &asks);
}
