//! From a Corefile to what is published: parse, compile, wait, bind.
//!
//! [`plan`] reads every directive of every block and collects all errors; [`compile`] makes the
//! links, bottom of the chain first. What they have to have before anybody asks them is fetched and
//! waited for ([`Graph::start_early`]); then [`Graph::bind`] binds what is new. None of it touches
//! what is serving: a [`Graph`] that is dropped before it is published leaves nothing behind. A link whose directive,
//! keys and options are the same as before is carried over with its tasks, if its plugin allows it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

use super::admin::Endpoint;
use super::corefile::{
    Binding, Corefile, CorefileError, Lines, Place as At, ServerBlock, Transport, check_overlaps,
    check_ports, check_transports,
};
use super::crew::Crew;
use super::hand_over::Inherited;
use super::ready::Readiness;
use super::status::{Census, Status};
use crate::data::counters::{LinkTimes, ShedCounters};
use crate::data::tally::Tally;
use crate::data::tally::families::DROPPED;
use crate::data::tally::query::QueryCells;
use crate::data::transport::sockets::{BindError, Given, Sockets, Steering};
use crate::plugin::dnstap;
use crate::plugin::registry::{Link, NAMES, Parsed};
use crate::plugin::site::{Hook, Task, Wanted};
use crate::plugin::{Facts, Ready, SetupError, Sink, Site};
use crate::snapshot::{Block, Listener, Place, Server, Service, Snapshot};
use crate::wire::{NameBuf, Suffixes, TsigKey, TsigKeys};

/// One directive of one block, compiled: its link and what came with it.
pub struct Part {
    /// Directive, keys, words and root: what has to be equal for it to be carried over.
    key: String,
    carried: bool,
    link: Option<Link>,
    /// Numbers of its sinks.
    pub sinks: Vec<u32>,
    /// Who has to be ready.
    pub ready: Vec<(&'static str, Arc<dyn Ready>)>,
    /// Its HTTP end points.
    pub endpoints: Vec<Endpoint>,
    /// Who knows clients.
    pub censuses: Vec<Arc<dyn Census>>,
    /// What is to be done before the process ends.
    pub at_stop: Mutex<Vec<Hook>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    carried_over: Option<Arc<Notify>>,
}

impl Part {
    /// Runs tasks for as long as the part lives.
    fn run(&self, tasks: Vec<Task>) {
        if let Ok(mut running) = self.tasks.lock() {
            running.extend(tasks.into_iter().map(tokio::spawn));
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        for task in self.tasks.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            task.abort();
        }
    }
}

/// A new part, and the tasks that it asks for.
type Tasks = (Arc<Part>, Vec<Task>);

/// A compiled Corefile.
pub struct Graph {
    /// What workers get.
    pub snapshot: Arc<Snapshot>,
    /// All its directives.
    pub parts: Vec<Arc<Part>>,
    /// Facts of each block.
    pub facts: Vec<Facts>,
    /// Zones and addresses, as the banner shows them.
    pub banner: Vec<String>,
    /// SHA-512 of the Corefile's tokens.
    pub hash: [u8; 64],
    /// To be run once it is published.
    fresh: Vec<Tasks>,
    /// To be run before anything is bound.
    early: Vec<Tasks>,
    waits: Vec<Task>,
    /// What [`bind`](Self::bind) makes the snapshot from.
    unbound: (BTreeMap<Spot, Route>, Vec<Block>),
    /// To be run before it is published.
    pub at_start: Vec<Hook>,
    /// What is bound already, by another process: binding takes from it.
    pub inherited: Inherited,
    /// Sinks that are new.
    pub sinks: Vec<(u32, Box<dyn Sink>)>,
}

impl Graph {
    /// Starts the tasks that are to run before anything is bound, and gives what has to be over
    /// before that. Called on control's runtime.
    pub fn start_early(&mut self) -> JoinSet<()> {
        for (part, tasks) in self.early.drain(..) {
            part.run(tasks);
        }
        self.waits.drain(..).collect()
    }

    /// Binds the listeners that are new, and makes the snapshot whole.
    ///
    /// # Errors
    /// The first address that could not be bound.
    pub fn bind(&mut self, ground: &mut Ground<'_>) -> Result<(), BuildError> {
        self.bind_by(ground, Sockets::complete)
    }

    /// Makes the snapshot whole without binding anything: for questions that control asks itself.
    pub fn bind_nothing(&mut self, ground: &mut Ground<'_>) {
        // Nothing is bound, so nothing fails.
        drop(self.bind_by(ground, |address, _, _, _| Ok(Sockets::none(address))));
    }

    fn bind_by(&mut self, ground: &mut Ground<'_>, bind: Bind) -> Result<(), BuildError> {
        let (routes, blocks) = std::mem::take(&mut self.unbound);
        let listeners =
            listeners(routes, &mut self.inherited, ground, bind).map_err(BuildError::Bind)?;
        let generation = self.snapshot.generation;
        let local = self.facts.iter().flat_map(|facts| &facts.local_options);
        let local_options = local.copied().collect();
        self.snapshot = Arc::new(Snapshot { generation, listeners, blocks, local_options });
        Ok(())
    }

    /// Starts the tasks of what is new. Called on control's runtime, after publication.
    pub fn start_tasks(&mut self) {
        for part in &self.parts {
            let Some(looked) = &part.carried_over else { continue };
            if !self.fresh.iter().any(|(other, _)| Arc::ptr_eq(part, other)) {
                looked.notify_one();
            }
        }
        for (part, tasks) in self.fresh.drain(..) {
            part.run(tasks);
        }
    }
}

/// A server block whose directives have been read.
pub struct Planned {
    servers: Vec<(Spot, Server)>,
    facts: Facts,
    parsed: Vec<(&'static str, At, String, Parsed)>,
    zones: Vec<NameBuf>,
    /// Each once, in the order of the keys, those of plain DNS first.
    addresses: Vec<SocketAddr>,
}

/// Where a zone is served: at which address, by which transport.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Spot {
    address: SocketAddr,
    transport: Transport,
}

impl Spot {
    /// `dns://:53`, `tls://[::1]:853`: how metrics name it.
    fn label(&self) -> String {
        let ip = self.address.ip();
        let host = if ip.is_unspecified() { String::new() } else { ip.to_string() };
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        format!("{}://{host}:{}", self.transport.scheme(), self.address.port())
    }
}

impl Planned {
    /// What its directives told of the block.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Its zones, each with an address that it is served at.
    pub fn served(&self) -> impl Iterator<Item = (SocketAddr, NameBuf)> {
        self.servers.iter().map(|(spot, server)| (spot.address, server.zone))
    }
}

/// A directive of a block, and what decides whether a reload takes its link over.
pub struct Standing {
    /// Index of the block.
    pub block: usize,
    /// The directive.
    pub directive: &'static str,
    /// Whether its link is one that may be taken over: it holds something of its own.
    pub carried: bool,
    key: String,
}

impl Standing {
    /// By what its link is known to a reload, if that takes it over: equal ones are kept.
    pub fn held(&self) -> Option<&str> {
        self.carried.then_some(self.key.as_str())
    }
}

/// The directives of all blocks, in the order of their chains, as a reload looks at them.
pub fn standings(planned: &[Planned]) -> Vec<Standing> {
    let mut all = Vec::new();
    for (block, plan) in planned.iter().enumerate() {
        let (mut beneath, first) = (String::new(), all.len());
        for (directive, _, own, parsed) in plan.parsed.iter().rev() {
            let key = standing_on(&mut beneath, own.clone(), parsed.rests_on_below());
            let carried = parsed.is_carried();
            all.push(Standing { block, directive, carried, key });
        }
        all[first..].reverse();
    }
    all
}

/// Why a Corefile could not be compiled.
#[derive(Debug)]
pub enum BuildError {
    /// Its author is to blame.
    Corefile(Vec<CorefileError>),
    /// An address could not be listened on.
    Bind(BindError),
}

impl std::fmt::Display for BuildError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Corefile(errors) => {
                for (index, error) in errors.iter().enumerate() {
                    write!(f, "{}{error}", if index == 0 { "" } else { "\n" })?;
                }
                Ok(())
            }
            Self::Bind(error) => write!(f, "Listen: {error}"),
        }
    }
}

/// What is worth knowing of directives that have been read, and not wrong.
pub fn warnings(planned: &[Planned]) -> Vec<CorefileError> {
    let all = planned.iter().flat_map(|plan| &plan.parsed);
    let of_one = |(name, place, _, parsed): &(&'static str, At, String, Parsed)| {
        let words = parsed.warnings().into_iter();
        let warning = |words| CorefileError::plain(Some(place.clone()), words).of(name);
        words.map(warning).collect::<Vec<_>>()
    };
    all.flat_map(of_one).collect()
}

/// Reads the directives of all blocks.
///
/// # Errors
/// Everything that is wrong with them.
pub fn plan(corefile: &Corefile) -> Result<Vec<Planned>, Vec<CorefileError>> {
    let mut errors = check_transports(&corefile.blocks, &[Transport::Dns, Transport::Tls]);
    let mut planned = Vec::new();
    for block in &corefile.blocks {
        planned.push(plan_block(block, corefile.default_port, &mut errors));
    }
    let bindings = corefile.blocks.iter().zip(&planned).map(|(block, plan)| Binding {
        block,
        addresses: plan.facts.binds.iter().map(|bind| bind.ip().to_string()).collect(),
        filtered: plan.facts.view.is_some(),
    });
    errors.extend(check_overlaps(&bindings.collect::<Vec<_>>(), corefile.default_port));
    let bound = corefile.blocks.iter().zip(&planned);
    let bound = bound.map(|(block, plan)| (block, bound_to(&plan.facts)));
    errors.extend(check_ports(bound, corefile.default_port));
    errors.extend(check_certificates(corefile, &planned));
    if errors.is_empty() { Ok(planned) } else { Err(errors) }
}

/// The addresses that a block is served at; their ports are those of its keys.
fn bound_to(facts: &Facts) -> &[SocketAddr] {
    const EVERYWHERE: [SocketAddr; 1] = [SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0)];
    if facts.binds.is_empty() { &EVERYWHERE } else { &facts.binds }
}

/// Refuses keys that want TLS where no block of their listener names a certificate.
fn check_certificates(corefile: &Corefile, planned: &[Planned]) -> Vec<CorefileError> {
    let blocks = || corefile.blocks.iter().zip(planned);
    // One that could not be read is an error of its own.
    let named = blocks().filter(|(block, _)| block.uses("tls").next().is_some());
    let certified: BTreeSet<Spot> =
        named.flat_map(|(_, plan)| plan.servers.iter().map(|(spot, _)| *spot)).collect();
    let mut errors = Vec::new();
    for (block, plan) in blocks() {
        let lacks = |spot: &Spot| spot.transport == Transport::Tls && !certified.contains(spot);
        let bare = plan.servers.iter().any(|(spot, _)| lacks(spot));
        let key = block.keys.iter().find(|key| key.transport == Transport::Tls);
        if let Some(key) = key.filter(|_| bare) {
            let message = format!(
                "{} has no certificate: add `tls CERT KEY`, or serve plain DNS with dns://",
                key.address(corefile.default_port)
            );
            errors.push(CorefileError::plain(Some(key.place.clone()), message));
        }
    }
    errors
}

fn plan_block(block: &ServerBlock, port: u16, errors: &mut Vec<CorefileError>) -> Planned {
    let mut facts = Facts::default();
    let mut parsed = Vec::new();
    for name in NAMES {
        let Some(stanza) = block.uses(name).next() else { continue };
        let lines = Lines::new(block, name, facts.root.as_deref());
        match Parsed::parse(name, &lines) {
            Some(Ok(one)) => {
                one.facts(&mut facts);
                let key = words(block, name, &facts);
                parsed.push((*name, stanza.name.place.clone(), key, one));
            }
            Some(Err(error)) => errors.push(error),
            None => {}
        }
    }
    let mut servers = Vec::new();
    let mut addresses = Vec::new();
    for key in &block.keys {
        for bind in bound_to(&facts) {
            let mut address = *bind;
            address.set_port(key.port_or(port));
            let spot = Spot { address, transport: key.transport };
            if !addresses.contains(&spot.address) {
                addresses.push(spot.address);
            }
            servers.push((spot, server(key.zone, &spot, &facts)));
        }
    }
    // Who asks the block something, asks plainly where that can be.
    let is_plain = |address: &SocketAddr| {
        servers.iter().any(|(spot, _): &(Spot, Server)| {
            spot.address == *address && spot.transport == Transport::Dns
        })
    };
    addresses.sort_by_key(|address| !is_plain(address));
    Planned { servers, facts, parsed, zones: block.zones.clone(), addresses }
}

fn server(zone: NameBuf, spot: &Spot, facts: &Facts) -> Server {
    Server {
        zone,
        server_label: spot.label().into(),
        zone_label: zone.to_string().into(),
        view_label: facts.view.clone().unwrap_or_default().into(),
        times: Box::default(),
    }
}

/// All that decides what a directive's link is like.
fn words(block: &ServerBlock, name: &str, facts: &Facts) -> String {
    let Facts { root, binds, metadata, .. } = facts;
    let mut text = format!("{name}\u{0}{root:?}\u{0}{binds:?}\u{0}{metadata}");
    let mut add = |word: &str| {
        text.push('\u{0}');
        text.push_str(word);
    };
    for key in &block.keys {
        add(&key.text);
    }
    // Blocks of the same keys differ by their views.
    for view in block.uses("view") {
        view.args.iter().for_each(|arg| add(&arg.text));
    }
    for stanza in block.uses(name) {
        add("\n");
        stanza.args.iter().for_each(|arg| add(&arg.text));
        for option in &stanza.options {
            add("\n ");
            add(&option.name.text);
            option.args.iter().for_each(|arg| add(&arg.text));
        }
    }
    text
}

/// What compiling needs of the process.
pub struct Ground<'a> {
    /// Counters.
    pub tally: &'a Arc<Tally>,
    /// What is known of the process, for people.
    pub status: &'a Arc<Status>,
    /// Who has to be ready.
    pub readiness: &'a Arc<Readiness>,
    /// Everybody's turn numbers.
    pub turns: &'a Arc<crate::publish::Turns>,
    /// Sockets a listener gets.
    pub workers: usize,
    /// Whether each worker stays on a CPU.
    pub pinned: bool,
    /// What serves now.
    pub old: Option<&'a Graph>,
    /// The last numbers given.
    pub numbers: &'a mut Numbers,
}

/// The last numbers given to what graphs have: no two in a process's life are the same.
#[derive(Default)]
pub struct Numbers {
    sink: u32,
    listener: u32,
}

impl<'a> Ground<'a> {
    /// What a crew and its process give, beside what serves now.
    pub fn of(
        crew: &'a Crew,
        status: &'a Arc<Status>,
        readiness: &'a Arc<Readiness>,
        old: Option<&'a Graph>,
        numbers: &'a mut Numbers,
    ) -> Self {
        let Crew { tally, turns, workers, pinned, .. } = crew;
        let (workers, pinned) = (*workers, *pinned);
        Self { tally, status, readiness, turns, workers, pinned, old, numbers }
    }
}

/// Makes the graph; its snapshot is whole once it is bound.
///
/// # Errors
/// The first link that could not be set up.
pub fn compile(
    planned: Vec<Planned>,
    hash: [u8; 64],
    ground: &mut Ground<'_>,
) -> Result<Graph, BuildError> {
    let generation = ground.old.map_or(1, |old| old.snapshot.generation + 1);
    let mut graph = Graph {
        snapshot: Arc::new(Snapshot {
            generation,
            listeners: Vec::new(),
            blocks: Vec::new(),
            local_options: Box::default(),
        }),
        parts: Vec::new(),
        facts: Vec::new(),
        banner: Vec::new(),
        hash,
        fresh: Vec::new(),
        early: Vec::new(),
        waits: Vec::new(),
        unbound: Default::default(),
        at_start: Vec::new(),
        inherited: Inherited::default(),
        sinks: Vec::new(),
    };
    let mut blocks = Vec::new();
    let mut routes: BTreeMap<Spot, Route> = BTreeMap::new();
    for (index, plan) in planned.into_iter().enumerate() {
        for (zone, (spot, server)) in plan.servers.iter().enumerate() {
            let route = routes
                .entry(*spot)
                .or_insert_with(|| Route { timeouts: plan.facts.timeouts, ..Route::default() });
            route.any_class |= plan.facts.any_class;
            route.shed |= plan.facts.shed;
            route.keys.extend(plan.facts.tsig_keys.iter().cloned());
            route.steering = route.steering.or(plan.facts.steering);
            route.tls = route.tls.take().or_else(|| plan.facts.tls.clone());
            let place = Place { block: index as u16, zone: zone as u16 };
            route
                .zones
                .entry(server.zone.to_string())
                .or_insert((server.zone, vec![]))
                .1
                .push(place);
            graph.banner.push(banner(server, spot));
        }
        graph.facts.push(plan.facts.clone());
        blocks.push(compile_block(plan, &mut graph, ground).map_err(BuildError::Corefile)?);
    }
    graph.unbound = (routes, blocks);
    Ok(graph)
}

/// What is known of a listener before it is bound.
#[derive(Default)]
struct Route {
    zones: BTreeMap<String, (NameBuf, Vec<Place>)>,
    any_class: bool,
    shed: bool,
    keys: Vec<TsigKey>,
    steering: Option<Steering>,
    timeouts: crate::snapshot::Timeouts,
    /// Of its first block that has one.
    tls: Option<Arc<ServerConfig>>,
}

impl Route {
    /// What is spoken; `None` where that lacks a certificate.
    fn service(&self, transport: Transport) -> Option<Service> {
        match transport {
            Transport::Dns => Some(Service::Dns),
            Transport::Tls => self.tls.clone().map(Service::Tls),
            Transport::Https | Transport::Https3 | Transport::Quic | Transport::Grpc => None,
        }
    }
}

fn banner(server: &Server, spot: &Spot) -> String {
    let Spot { address, transport } = spot;
    let scheme = match transport {
        Transport::Dns => String::new(),
        other => format!("{}://", other.scheme()),
    };
    let mut line = format!("{scheme}{}:{}", server.zone_label, address.port());
    if !address.ip().is_unspecified() {
        line += &format!(" on {}", address.ip());
    }
    line
}

/// What binds an address: with how many sockets, steered how, beside which that are bound.
type Bind = fn(SocketAddr, usize, Option<Steering>, Given) -> Result<Sockets, BindError>;

fn listeners(
    routes: BTreeMap<Spot, Route>,
    inherited: &mut Inherited,
    ground: &mut Ground<'_>,
    bind: Bind,
) -> Result<Vec<Listener>, BindError> {
    let mut listeners = Vec::new();
    for (spot, route) in routes {
        // `plan` has refused those.
        let Some(service) = route.service(spot.transport) else { continue };
        let address = spot.address;
        let is_it = |listener: &&Listener| {
            listener.address == address && listener.service.is_like(&service)
        };
        let old = ground.old.and_then(|old| old.snapshot.listeners.iter().find(is_it));
        let (id, sockets) = match old {
            Some(old) => (old.id, Arc::clone(&old.sockets)),
            None => {
                ground.numbers.listener += 1;
                let steering = match route.steering.unwrap_or_default() {
                    Steering::Cpu if !ground.pinned => Steering::Hash,
                    steering => steering,
                };
                let steering = matches!(service, Service::Dns).then_some(steering);
                let given = inherited.take(address);
                let sockets = bind(address, ground.workers, steering, given)?;
                (ground.numbers.listener, Arc::new(sockets))
            }
        };
        let label = spot.label();
        listeners.push(Listener {
            id,
            address,
            service,
            sockets,
            zones: Suffixes::new(route.zones.into_values()),
            any_class: route.any_class,
            timeouts: route.timeouts,
            tsig_keys: TsigKeys::new(route.keys),
            shed: route.shed.then(|| ShedCounters::new(ground.tally, &label)),
            unserved: QueryCells::new(ground.tally, &label, DROPPED, "", ""),
        });
    }
    Ok(listeners)
}

/// What has to be equal for a directive to be carried over: its own words, and where it rests on those
/// below it, theirs. Adds it to what is beneath the next one.
fn standing_on(beneath: &mut String, own: String, rests: bool) -> String {
    let key = if rests { format!("{own}\u{0}above\u{0}{beneath}") } else { own.clone() };
    beneath.push('\u{0}');
    beneath.push_str(&own);
    key
}

fn compile_block(
    plan: Planned,
    graph: &mut Graph,
    ground: &mut Ground<'_>,
) -> Result<Block, Vec<CorefileError>> {
    let mut servers: Vec<Server> = plan.servers.into_iter().map(|(_, server)| server).collect();
    let directives: Vec<&'static str> = plan.parsed.iter().map(|(name, ..)| *name).collect();
    let mut labels = Vec::new();
    let mut below: Vec<Link> = Vec::new();
    let mut errors = Vec::new();
    let mut beneath = String::new();
    for (name, place, own, parsed) in plan.parsed.into_iter().rev() {
        let key = standing_on(&mut beneath, own, parsed.rests_on_below());
        let carried = parsed.is_carried();
        let mut parts = ground.old.filter(|_| carried).into_iter().flat_map(|old| &old.parts);
        if let Some(old) = parts.find(|part| part.carried && part.key == key) {
            below.extend(old.link.clone());
            graph.parts.push(Arc::clone(old));
            continue;
        }
        let mut wanted = Wanted::default();
        let mut site = Site {
            servers: &servers,
            zones: &plan.zones,
            addresses: &plan.addresses,
            facts: &plan.facts,
            directives: &directives,
            tally: ground.tally,
            status: ground.status,
            readiness: ground.readiness,
            turns: ground.turns,
            below: &below,
            labels: &mut labels,
            next_sink: &mut ground.numbers.sink,
            wanted: &mut wanted,
            place: place.clone(),
        };
        match parsed.compile(&mut site) {
            Ok(compiled) => {
                below.extend(compiled.link.clone());
                graph.add(key, carried, compiled.link, wanted);
            }
            Err(error) => errors.push(blamed(error, place, name)),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    below.reverse();
    time_links(&mut servers, &below, ground.tally);
    let hinting = below.iter().rposition(Link::has_hint);
    let dnstap = below.iter().find_map(|link| link.any().downcast::<dnstap::Link>().ok());
    Ok(Block {
        servers,
        metadata: providers(&labels, &below, plan.facts.metadata),
        hinting: hinting.map(|index| index as u16),
        view: below.iter().position(Link::judges).map(|index| index as u16),
        taps: dnstap.map(|link| link.taps()),
        debug: plan.facts.debug,
        chain: below,
    })
}

/// Who in a chain provides each of the metadata labels: link and key. Without `metadata` nobody does.
fn providers(labels: &[Box<str>], chain: &[Link], metadata: bool) -> Vec<Option<(u16, u16)>> {
    let provider = |label: &str| {
        let mut links = chain.iter().enumerate().filter(|_| metadata);
        links.find_map(|(index, link)| Some((index as u16, link.meta_key(label)?)))
    };
    labels.iter().map(|label| provider(label)).collect()
}

/// The error of a directive, at its place unless it has a better one.
fn blamed(error: SetupError, place: At, directive: &'static str) -> CorefileError {
    let at = error.place.unwrap_or(place);
    CorefileError::plain(Some(at), error.message).of(directive)
}

/// Finds where the times of a chain's links are counted.
fn time_links(servers: &mut [Server], chain: &[Link], tally: &Tally) {
    for server in servers {
        let times = |link: &Link| LinkTimes::new(tally, &server.server_label, link.name());
        server.times = chain.iter().map(times).collect();
    }
}

impl Graph {
    fn add(&mut self, key: String, carried: bool, link: Option<Link>, wanted: Wanted) {
        let part = Arc::new(Part {
            key,
            carried,
            link,
            sinks: wanted.sinks.iter().map(|(number, _)| *number).collect(),
            ready: wanted.ready,
            endpoints: wanted.endpoints,
            censuses: wanted.censuses,
            at_stop: Mutex::new(wanted.at_stop),
            tasks: Mutex::new(Vec::new()),
            carried_over: wanted.carried,
        });
        self.fresh.push((Arc::clone(&part), wanted.tasks));
        self.early.push((Arc::clone(&part), wanted.early));
        self.waits.extend(wanted.waits);
        self.parts.push(part);
        self.at_start.extend(wanted.at_start);
        self.sinks.extend(wanted.sinks);
    }
}
