//! # autopath
//!
//! Follows a client's search path on its behalf: one question in the place of four.
//!
//! ## Syntax
//!
//! ```text
//! autopath [ZONES...] RESOLV-CONF
//! ```
//!
//! * **ZONES**: the zones whose names are completed, by default the block's.
//! * **RESOLV-CONF**: a file like `/etc/resolv.conf`, read when the Corefile is loaded, whose `search`
//!   (or `domain`) line is the search path of every client; or `@PLUGIN`, a plugin of the same block
//!   that knows those of clients: `@kubernetes`. Without that plugin in the block nothing is completed.
//!
//! Where a question's name ends in the first element of the search path, the plugins below are asked
//! for it, then for the name with each further element in that one's place, and last for the name
//! without any. The first reply that is not NXDOMAIN is the client's, with a CNAME record from the name
//! that was asked to the one that was found. Where there is none, the reply to the first is the
//! client's, which goes on by itself. Names with other elements are not touched: the client that asks
//! for them has been told of the first.
//!
//! With `@kubernetes` the path of a pod is `NAMESPACE.svc.ZONE`, `svc.ZONE`, `ZONE`, and then that of the
//! server's own `/etc/resolv.conf`. Pods are known by their addresses, which takes `pods verified` in
//! *kubernetes*; a client that is no pod of the cluster gets no completion.
//!
//! At most 32 elements are followed, as many as Kubernetes allows.
//!
//! ## Metrics
//!
//! * `coredns_autopath_success_total{server}`: questions for which the path led to a reply, its first
//!   element included.
//!
//! ## Examples
//!
//! ```corefile
//! cluster.local {
//!     autopath @kubernetes
//!     forward . 192.0.2.53
//! }
//! ```
//!
//! ## Differences from CoreDNS
//!
//! * The first element by itself is a name like any other; CoreDNS answers it with SERVFAIL.
//! * A reply to the very name that was asked is not given a second CNAME record where it has one
//!   (RFC 2181 section 10.1), as that of an ExternalName service has.
//! * An address that pods of several namespaces have, as those on their node's network, has no search
//!   path; CoreDNS takes one of the namespaces.
//! * The question of a reply has the letters in which it was asked; CoreDNS's are in lower case.
//! * A name that would be longer than 255 octets is passed over.

use std::fs;
use std::io::ErrorKind;

use super::search::{ClientReader, Clients, OWN_ELEMENTS, SearchPath};
use super::{
    Compiled, CorefileError, Cx, Directive, Entry, Level, Lines, Plugin, ReplyState, SetupError,
    Site, Step,
};
use crate::control::corefile::{Place, Token};
use crate::data::tally::{Counter, Family};
use crate::limits::SEARCH_ELEMENTS_MAX;
use crate::wire::{Name, NameBuf, Section, Suffixes, WireError, rcode, rtype};
use std::sync::Arc;

/// The search path of the server's own host.
const HOST_FILE: &str = "/etc/resolv.conf";

static SUCCESSES: Family = Family::counter(
    "coredns_autopath_success_total",
    &["server"],
    "Counter of requests that did autopath.",
);

/// The directive.
pub struct Autopath {
    zones: Vec<NameBuf>,
    /// The elements of the file that is named, if one is.
    search: Vec<NameBuf>,
    /// The plugin that is named, if one is, and where.
    plugin: Option<(String, Place)>,
}

impl Directive for Autopath {
    const NAME: &'static str = "autopath";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let mut this = Self { zones: Vec::new(), search: Vec::new(), plugin: None };
        for stanza in lines.stanzas() {
            let Some((path, zones)) = stanza.args.split_last() else {
                return Err(lines.err(&stanza.name, "no resolv-conf specified"));
            };
            // What stands in a block is read as another use, without arguments.
            if let Some(option) = stanza.options.first() {
                return Err(lines.err(&option.name, "no resolv-conf specified"));
            }
            match path.text.strip_prefix('@') {
                Some(plugin) => this.plugin = Some((plugin.into(), path.place.clone())),
                None => this.search = read_file(lines, path)?,
            }
            this.zones = lines.zones_of(zones);
        }
        Ok(this)
    }

    fn compile(self, site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        let counter = |server: &crate::snapshot::Server| {
            site.tally.counter(&SUCCESSES, &[&server.server_label])
        };
        let successes = site.servers.iter().map(counter).collect();
        let mut search = self.search;
        let mut clients = None;
        if let Some((plugin, place)) = self.plugin {
            match site.search_path(&plugin) {
                Some(SearchPath::Same(path)) => search = path,
                Some(SearchPath::OfClient(known)) => {
                    search = of_host();
                    clients = Some(known);
                }
                None if site.directives.contains(&plugin.as_str()) => {
                    let words = format!("{plugin} does not implement the AutoPather interface");
                    return Err(SetupError { place: Some(place), message: words });
                }
                None => {
                    tracing::warn!(
                        target: "plugin/autopath",
                        "{place}: no {plugin} in this server block: only a file's path is followed"
                    );
                }
            }
        }
        search.truncate(SEARCH_ELEMENTS_MAX);
        let zones = Suffixes::new(self.zones.into_iter().map(|zone| (zone, ())));
        Ok(Compiled::link(Link { zones, search, clients, successes }))
    }
}

/// The elements of a file's search path.
fn read_file(lines: &Lines<'_>, path: &Token) -> Result<Vec<NameBuf>, CorefileError> {
    let name = &path.text;
    let fault = |why: String| lines.err(path, format!("failed to parse {name:?}: {why}"));
    let text = fs::read(name).map_err(|error| {
        fault(match error.kind() {
            ErrorKind::NotFound => format!("open {name}: no such file or directory"),
            _ => format!("open {name}: {error}"),
        })
    })?;
    let text = String::from_utf8_lossy(&text);
    let words = search_words(&text);
    if words.len() > SEARCH_ELEMENTS_MAX {
        let count = words.len();
        tracing::warn!(
            target: "plugin/autopath",
            "{name}: {count} elements: only the first {SEARCH_ELEMENTS_MAX} are followed"
        );
    }
    let element = |word: &&str| {
        let name = NameBuf::parse(word).map_err(|why| fault(format!("{word:?}: {why}")))?;
        Ok(NameBuf::lowered(name.as_name()))
    };
    words.iter().map(element).collect()
}

/// The search path of the host; what is no name is left out.
fn of_host() -> Vec<NameBuf> {
    let text = fs::read(HOST_FILE).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let words = search_words(&text).into_iter();
    words
        .filter_map(|word| NameBuf::parse(word).ok())
        .map(|name| NameBuf::lowered(name.as_name()))
        .collect()
}

/// What the last `search` or `domain` line says (resolv.conf(5)).
fn search_words(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("search") => found = words.collect(),
            Some("domain") => found = words.take(1).collect(),
            _ => {}
        }
    }
    found
}

/// The link.
pub struct Link {
    zones: Suffixes<()>,
    /// The elements of the path, or those after the client's own.
    search: Vec<NameBuf>,
    clients: Option<Arc<dyn Clients>>,
    /// For each server of the block.
    successes: Vec<Counter>,
}

/// A search that goes on.
#[derive(Clone, Copy)]
pub struct Frame {
    /// Octets of the question's name before the first element.
    base: u8,
    /// Elements that the question's name itself holds.
    own: u8,
    /// The element that the plugins below are asked with.
    element: u8,
}

/// What a reply means for the search.
enum Verdict {
    /// It is the client's.
    Found,
    /// The name is not there.
    Missing,
    /// The search is over.
    Over,
}

impl Verdict {
    fn of(level: &Level) -> Self {
        match level.state {
            ReplyState::Written if level.reply.rcode() == rcode::NXDOMAIN => Self::Missing,
            ReplyState::Written => Self::Found,
            // Nobody had an answer, and nothing went wrong: another element may have one.
            ReplyState::Failed(_) if level.reason.is_empty() => Self::Missing,
            ReplyState::Failed(_) | ReplyState::Dropped | ReplyState::Empty => Self::Over,
        }
    }
}

impl Link {
    /// The octets before the first element, and how many elements the name itself holds.
    fn begin(&self, clients: Option<&dyn ClientReader>, cx: &Cx<'_>) -> Option<Frame> {
        let lower = cx.question().lower;
        self.zones.find(lower)?;
        let (first, own) = match clients {
            Some(clients) => {
                let labels = clients.first_element(lower, cx.client().ip())?;
                (lower.suffix(labels).len(), OWN_ELEMENTS)
            }
            None => {
                let first = self.search.first()?.as_name();
                lower.is_under(first).then_some((first.len(), 1))?
            }
        };
        let base = lower.len() - first;
        (base > 0).then_some(Frame { base: base as u8, own, element: 0 })
    }

    /// The name that is asked for with an element; none after the last.
    fn name(&self, question: Name<'_>, frame: Frame) -> Option<Option<NameBuf>> {
        let (base, first) = question.as_bytes().split_at(frame.base as usize);
        if frame.element < frame.own {
            let (first, _) = Name::from_wire(first).ok()?;
            let labels = first.label_count().saturating_sub(frame.element as usize);
            return Some(NameBuf::join(base, first.suffix(labels)).ok());
        }
        // The first of a fixed path is what the question ends in.
        let skip = usize::from(self.clients.is_none());
        let rest = self.search.get(skip..).unwrap_or_default();
        let at = usize::from(frame.element - frame.own);
        if at > rest.len() {
            return None;
        }
        let element = rest.get(at).map_or(Name::ROOT, NameBuf::as_name);
        Some(NameBuf::join(base, element).ok())
    }

    /// Asks for the name with the next element, or ends the search with the first reply.
    fn go_on(&self, cx: &mut Cx<'_>, mut frame: Frame) -> Step<Frame> {
        loop {
            frame.element += 1;
            let question = cx.question();
            let Some(name) = self.name(question.name, frame) else { break };
            if let Some(name) = name {
                let (rtype, rclass) = (question.rtype, question.rclass);
                cx.ask(name.as_name(), rtype, rclass);
                return Step::Ask(frame, Entry::Below);
            }
        }
        Step::Up
    }

    fn count(&self, cx: &mut Cx<'_>) {
        let zone = cx.level().place().zone;
        if let Some(counter) = self.successes.get(zone as usize) {
            cx.core.tally.add(*counter, 1);
        }
    }
}

/// Makes the reply to another name the client's.
fn take(cx: &mut Cx<'_>) {
    if cx.side().reply.capacity() > cx.reply().capacity() {
        cx.enlarge();
    }
    let (here, side) = cx.both();
    let asked = NameBuf::from(here.question().name);
    here.clear_reply();
    here.start_reply();
    here.reply.set_flags(side.reply.flags());
    here.reply.set_rcode(side.reply.rcode());
    (here.by, here.source, here.extra) = (side.by, side.source, side.extra);
    let from = side.reply.bytes();
    let mut alias = || -> Result<(), WireError> {
        for record in side.reply.records().flatten() {
            if record.section != Section::Answer {
                break;
            }
            let owner = record.owner(from)?;
            if !owner.as_name().eq_fold(asked.as_name()) {
                let (owner, target) = (asked.as_name(), owner.as_name());
                let ttl = record.ttl;
                here.reply.push_name(Section::Answer, owner, rtype::CNAME, target, ttl)?;
                break;
            }
        }
        here.reply.append(from, |_| true)
    };
    if alias().is_err() {
        // What has no room is left out, and the client asks again over TCP.
        let flags = here.reply.flags().with_tc(true);
        here.reply.set_flags(flags);
    }
}

/// Makes the failure of a question on the way the client's.
fn give_up(cx: &mut Cx<'_>) {
    let (here, side) = cx.both();
    here.clear_reply();
    (here.state, here.by, here.reason) = (side.state, side.by, side.reason);
}

impl Plugin for Link {
    type Frame = Frame;
    type Local = Option<Box<dyn ClientReader>>;

    fn local(&self, _core: u16) -> Self::Local {
        self.clients.as_ref().map(|clients| clients.reader())
    }

    fn refresh(&self, clients: &mut Self::Local) {
        if let Some(clients) = clients {
            clients.refresh();
        }
    }

    fn serve(&self, clients: &mut Self::Local, cx: &mut Cx<'_>) -> Step<Frame> {
        match self.begin(clients.as_deref(), cx) {
            Some(frame) => Step::Watch(frame),
            None => Step::Next,
        }
    }

    fn resume(&self, _clients: &mut Self::Local, cx: &mut Cx<'_>, frame: Frame) -> Step<Frame> {
        let is_first = frame.element == 0;
        match Verdict::of(if is_first { cx.level() } else { cx.side() }) {
            Verdict::Missing => return self.go_on(cx, frame),
            Verdict::Found => {
                if !is_first {
                    take(cx);
                }
                self.count(cx);
            }
            Verdict::Over if is_first => {}
            Verdict::Over => give_up(cx),
        }
        Step::Up
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::parse_block;
    use proptest::prelude::*;

    #[test]
    fn the_last_line_counts() {
        assert_eq!(search_words("domain a.b c\nnameserver 1.2.3.4\n"), ["a.b"]);
        assert_eq!(search_words("domain a.b\n search\tx y \noptions ndots:5"), ["x", "y"]);
        assert!(search_words("search a\ndomain\n# search b\nsearching c").is_empty());
    }

    #[test]
    fn faults_in_coredns_words() {
        for (args, words) in [
            ("", "no resolv-conf specified"),
            ("\"\"", "failed to parse \"\": open : no such file or directory"),
            ("@kubernetes {\nx\n}", "no resolv-conf specified"),
            ("a.test nowhere", "failed to parse \"nowhere\": open nowhere: no such file"),
        ] {
            let fault =
                parse_block::<Autopath>(&format!("autopath {args}")).err().expect("refused");
            assert!(fault.contains(words), "{args}: {fault}");
        }
        let parsed = parse_block::<Autopath>("autopath a.test @kubernetes").expect("accepted");
        assert_eq!(parsed.plugin.expect("a plugin").0, "kubernetes");
        assert_eq!(parsed.zones.len(), 1);
    }

    fn names(link: &Link, question: &str, mut frame: Frame) -> Vec<String> {
        let question = NameBuf::parse(question).expect("a name");
        let mut all = Vec::new();
        while let Some(name) = link.name(question.as_name(), frame) {
            all.extend(name.map(|name| name.to_string()));
            frame.element += 1;
        }
        all
    }

    fn link(search: &[&str], clients: Option<Arc<dyn Clients>>) -> Link {
        let search = search.iter().map(|name| NameBuf::parse(name).expect("a name")).collect();
        let zones = Suffixes::new([(NameBuf::root(), ())]);
        Link { zones, search, clients, successes: Vec::new() }
    }

    struct Nobody;

    impl Clients for Nobody {
        fn reader(&self) -> Box<dyn ClientReader> {
            unreachable!("names are made without")
        }
    }

    #[test]
    fn the_names_of_a_search() {
        let fixed = link(&["a.test.", "test.", "b."], None);
        let frame = Frame { base: 4, own: 1, element: 0 };
        let all = ["www.a.test.", "www.test.", "www.b.", "www."];
        assert_eq!(names(&fixed, "www.a.test.", frame), all);
        let pod = link(&["host.test."], Some(Arc::new(Nobody)));
        let frame = Frame { base: 4, own: OWN_ELEMENTS, element: 0 };
        let all = ["www.ns.svc.c.", "www.svc.c.", "www.c.", "www.host.test.", "www."];
        assert_eq!(names(&pod, "www.ns.svc.c.", frame), all);
        let all = ["www.ns.svc.", "www.svc.", "www.", "www.host.test.", "www."];
        assert_eq!(names(&pod, "www.ns.svc.", frame), all);
    }

    proptest! {
        /// Every search ends, with the name alone, and what is too long is passed over.
        #[test]
        fn every_search_ends(
            lens in prop::collection::vec(1_usize..64, 1..5),
            search in 0_usize..40,
        ) {
            let base: String = lens.iter().map(|len| "x".repeat(*len) + ".").collect();
            let Ok(question) = NameBuf::parse(&(base.clone() + "a.")) else { return Ok(()) };
            let elements = vec!["a.long.element.of.a.search.path."; search];
            let fixed = link(&[&["a."][..], &elements].concat(), None);
            let frame = Frame { base: base.len() as u8, own: 1, element: 0 };
            let all = names(&fixed, &question.to_string(), frame);
            prop_assert_eq!(all.last(), Some(&base));
            prop_assert!(all.len() == 2 || all.len() == search + 2);
        }
    }
}
