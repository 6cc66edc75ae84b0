//! What a Corefile says that is accepted, and probably not what its author means.
//!
//! [`lints`] looks at the words of the Corefile alone: nothing is opened, looked up or asked. Each
//! finding has its place and one line that says what will happen. None changes what the server does;
//! `corelane check` prints them as warnings.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use super::corefile::{
    Corefile, CorefileError, Key, OptionLine, ServerBlock, Stanza, Token, Transport, zones_of_text,
};
use crate::cluster::top_level::is_top_level;
use crate::plugin::registry::NAMES;
use crate::wire::{Name, NameBuf};

/// The TTL in seconds below which `cache` lets none fall, unless it says so.
const CACHE_TTL_MIN: u64 = 5;
/// The port of an upstream that names none.
const PORT: u16 = 53;
/// Words that older versions of CoreDNS took for outputs.
const OUTPUTS: [&str; 3] = ["stdout", "stderr", "syslog"];

/// All findings, in no order.
pub fn lints(corefile: &Corefile) -> Vec<CorefileError> {
    let mut found = Vec::new();
    let served = Served::of(corefile);
    for (index, block) in corefile.blocks.iter().enumerate() {
        let claims = claims(block);
        shadowed(&claims, block, &mut found);
        served_elsewhere(&served, index, &claims, &mut found);
        judged_late(block, &mut found);
        leaks(&claims, block, &mut found);
        raised_ttls(block, &mut found);
        outputs(block, &mut found);
        top_levels(block, &mut found);
        loops(&served, index, &claims, &mut found);
    }
    found
}

fn finding(at: &Token, plugin: &'static str, message: String) -> CorefileError {
    CorefileError::plain(Some(at.place.clone()), message).of(plugin)
}

/// A plugin that answers names, as one use of its directive says it.
struct Claim<'c> {
    stanza: &'c Stanza,
    plugin: &'static str,
    /// The zones whose names it is asked for in this block.
    zones: Vec<NameBuf>,
    /// Those of them whose names it never hands on.
    kept: Vec<NameBuf>,
}

/// How many words stand before the zones of a plugin that answers names; none of others.
fn words_before_zones(plugin: &str) -> Option<usize> {
    match plugin {
        "hosts" | "file" => Some(1),
        "template" => Some(2),
        "k8s_external" | "kubernetes" | "auto" | "secondary" | "etcd" | "forward" | "grpc" => {
            Some(0)
        }
        _ => None,
    }
}

/// Those who answer in a block, in the order in which they are asked.
fn claims(block: &ServerBlock) -> Vec<Claim<'_>> {
    let mut claims = Vec::new();
    for &plugin in NAMES {
        let Some(before) = words_before_zones(plugin) else { continue };
        for stanza in block.uses(plugin) {
            if plugin == "template" && is_of_some_types(&stanza.args) {
                continue;
            }
            let words = match (plugin, &stanza.args[..]) {
                ("forward" | "grpc", [from, ..]) => std::slice::from_ref(from),
                (_, args) => args.get(before..).unwrap_or_default(),
            };
            let mut zones: Vec<NameBuf> =
                words.iter().flat_map(|word| zones_of_text(&word.text)).collect();
            if words.is_empty() {
                zones.clone_from(&block.zones);
            }
            let zones = within(&zones, &block.zones);
            let kept = zones.iter().filter(|zone| keeps(stanza, zone.as_name())).copied();
            let kept = kept.collect();
            claims.push(Claim { stanza, plugin, zones, kept });
        }
    }
    claims
}

/// Whether a template leaves other types or classes to those below.
fn is_of_some_types(args: &[Token]) -> bool {
    let words: Vec<String> = args.iter().map(|word| word.text.to_ascii_uppercase()).collect();
    let [class, rtype, ..] = &words[..] else { return true };
    rtype != "ANY" || !matches!(&**class, "IN" | "ANY")
}

/// The parts of `zones` that are in the zones of a block.
fn within(zones: &[NameBuf], block: &[NameBuf]) -> Vec<NameBuf> {
    let mut parts = Vec::new();
    for (zone, key) in zones.iter().flat_map(|zone| block.iter().map(move |key| (zone, key))) {
        if zone.as_name().is_under(key.as_name()) {
            parts.push(*zone);
        } else if key.as_name().is_under(zone.as_name()) {
            parts.push(*key);
        }
    }
    parts
}

/// Whether no name of a zone is handed on to the plugins below.
fn keeps(stanza: &Stanza, zone: Name<'_>) -> bool {
    !stanza.options.iter().any(|option| match option.name.text.as_str() {
        "fallthrough" if option.args.is_empty() => true,
        "fallthrough" => option.args.iter().flat_map(|word| zones_of_text(&word.text)).any(|to| {
            let to = to.as_name();
            zone.is_under(to) || to.is_under(zone)
        }),
        "except" | "next" | "next_on_nodata" => true,
        _ => false,
    })
}

/// The position of a stanza in the file.
fn position(block: &ServerBlock, stanza: &Stanza) -> usize {
    block.stanzas.iter().position(|one| std::ptr::eq(one, stanza)).unwrap_or_default()
}

/// A plugin that is never asked, since those that are asked before it keep all names to themselves:
/// the order of plugins is not that of the file, and of two uses of `forward` the first counts.
fn shadowed(claims: &[Claim<'_>], block: &ServerBlock, found: &mut Vec<CorefileError>) {
    for (index, claim) in claims.iter().enumerate() {
        let above = &claims[..index];
        // Uses of one plugin are one link, which knows the longest zone; only those of these two are
        // asked one by one.
        let in_turn = matches!(claim.plugin, "forward" | "grpc");
        let keeper = |zone: &NameBuf| {
            let is_kept = |one: &&Claim<'_>| {
                (in_turn || one.plugin != claim.plugin)
                    && one.kept.iter().any(|kept| zone.as_name().is_under(kept.as_name()))
            };
            above.iter().find(is_kept)
        };
        let keepers: Option<Vec<&Claim<'_>>> = claim.zones.iter().map(keeper).collect();
        let Some(&[first, ..]) = keepers.as_deref() else { continue };
        let zones: Vec<String> = claim.zones.iter().map(ToString::to_string).collect();
        let mut message = format!(
            "is never asked: {}, which is asked first, hands no name of {} on",
            first.plugin,
            zones.join(" ")
        );
        if first.plugin != claim.plugin
            && position(block, claim.stanza) < position(block, first.stanza)
        {
            message += "; the order of plugins is fixed, whatever their order here";
        }
        found.push(finding(&claim.stanza.name, claim.plugin, message));
    }
}

/// Rules of `acl` that stand above a `rewrite` and see what that has made of the question.
fn judged_late(block: &ServerBlock, found: &mut Vec<CorefileError>) {
    let rewrites = block.uses("rewrite").filter(|stanza| {
        let mut words = stanza.args.iter().map(|word| word.text.as_str());
        let first = words.find(|word| !matches!(*word, "continue" | "stop"));
        matches!(first, Some("name" | "type" | "class"))
    });
    let last = rewrites.map(|stanza| position(block, stanza)).max();
    for stanza in block.uses("acl") {
        let by_type = |option: &OptionLine| option.args.iter().any(|word| word.text == "type");
        let judges = !stanza.args.is_empty() || stanza.options.iter().any(by_type);
        if judges && last.is_some_and(|last| position(block, stanza) < last) {
            let message = "judges names and types as rewrite has made them: rewrite comes first, \
                           whatever their order here";
            found.push(finding(&stanza.name, "acl", message.into()));
        }
    }
}

/// Whether two keys are served by the same listeners.
fn is_beside(one: &Key, other: &Key, dns: u16) -> bool {
    one.transport == other.transport && one.port_or(dns) == other.port_or(dns)
}

/// The keys of all blocks by their zones, in the order of the file: a Corefile of thousands of blocks is
/// looked through once.
struct Served<'c> {
    corefile: &'c Corefile,
    by_zone: HashMap<String, Vec<(usize, &'c Key)>>,
}

impl<'c> Served<'c> {
    fn of(corefile: &'c Corefile) -> Self {
        let mut by_zone: HashMap<String, Vec<_>> = HashMap::new();
        for (index, block) in corefile.blocks.iter().enumerate() {
            for key in &block.keys {
                by_zone.entry(text_of(key.zone.as_name())).or_default().push((index, key));
            }
        }
        Self { corefile, by_zone }
    }

    /// The longest key that names of a zone are served by, and its block. Of equal ones the first:
    /// views choose among them.
    fn longest(
        &self,
        zone: Name<'_>,
        is_here: impl Fn(&ServerBlock, &Key) -> bool,
    ) -> Option<(usize, &'c Key)> {
        (0..=zone.label_count()).rev().find_map(|labels| {
            let mut keys = self.by_zone.get(&text_of(zone.suffix(labels)))?.iter().copied();
            keys.find(|(index, key)| is_here(&self.corefile.blocks[*index], key))
        })
    }
}

/// Names that are equal have equal texts.
fn text_of(zone: Name<'_>) -> String {
    zone.to_string().to_ascii_lowercase()
}

/// A zone that a plugin is given and another block serves.
fn served_elsewhere(
    served: &Served<'_>,
    index: usize,
    claims: &[Claim<'_>],
    found: &mut Vec<CorefileError>,
) {
    let (block, dns) = (&served.corefile.blocks[index], served.corefile.default_port);
    for claim in claims {
        for zone in &claim.zones {
            let name = zone.as_name();
            let mine = block.keys.iter().filter(|key| name.is_under(key.zone.as_name()));
            let elsewhere = |key: &Key| {
                let beside = |_: &ServerBlock, other: &Key| is_beside(key, other, dns);
                let (_, server) = served.longest(name, beside)?;
                let labels = |key: &Key| key.zone.as_name().label_count();
                (labels(server) > labels(key)).then_some(server)
            };
            // A longer key of its own is as good.
            let others: Option<Vec<&Key>> = mine.map(elsewhere).collect();
            let Some(&[server, ..]) = others.as_deref() else { continue };
            if block.keys.iter().any(|key| std::ptr::eq(key, server)) {
                continue;
            }
            let message = format!(
                "is never asked for {zone}: the server block at {} serves {}",
                server.place, server.zone
            );
            found.push(finding(&claim.stanza.name, claim.plugin, message));
        }
    }
}

/// Names of a cluster that leave it.
fn leaks(claims: &[Claim<'_>], block: &ServerBlock, found: &mut Vec<CorefileError>) {
    let forwards = |zone: &NameBuf| {
        let takes = |claim: &Claim<'_>| {
            claim.plugin == "forward" && within(&[*zone], &claim.zones).contains(zone)
        };
        claims.iter().any(takes)
    };
    for stanza in block.uses("kubernetes") {
        let Some(claim) = claims.iter().find(|claim| std::ptr::eq(claim.stanza, stanza)) else {
            continue;
        };
        // The last one counts. Zones within the cluster's are handed on by intent.
        let mut options = stanza.options.iter().rev();
        let Some(option) = options.find(|option| option.name.text == "fallthrough") else {
            continue;
        };
        let leaked = |zone: &&NameBuf| {
            let whole = |to: &NameBuf| zone.as_name().is_under(to.as_name());
            let mut named = option.args.iter().flat_map(|word| zones_of_text(&word.text));
            let is_whole = option.args.is_empty() || named.any(|to| whole(&to));
            is_whole && !is_reverse(zone.as_name()) && forwards(zone)
        };
        if let Some(zone) = claim.zones.iter().find(leaked) {
            let message = format!(
                "hands names of {zone} that do not exist on to forward: they leave the cluster; \
                 name the zones that are to be handed on, such as in-addr.arpa ip6.arpa"
            );
            found.push(finding(&option.name, "kubernetes", message));
        }
    }
}

/// Whether a zone is one of addresses.
fn is_reverse(zone: Name<'_>) -> bool {
    matches!(zone.suffix(2).as_bytes(), b"\x07in-addr\x04arpa\0" | b"\x03ip6\x04arpa\0")
}

/// A TTL that no client will see, since `cache` raises it.
fn raised_ttls(block: &ServerBlock, found: &mut Vec<CorefileError>) {
    let Some(cache) = block.uses("cache").next() else { return };
    let least = |option: &OptionLine| option.args.get(2)?.text.parse::<u64>().ok();
    let mut said = cache.options.iter().filter(|option| option.name.text == "success");
    let least = said.find_map(least).unwrap_or(CACHE_TTL_MIN);
    for plugin in ["hosts", "k8s_external", "kubernetes"] {
        let options = block.uses(plugin).flat_map(|stanza| &stanza.options);
        for option in options.filter(|option| option.name.text == "ttl") {
            let Some(ttl) = option.args.first() else { continue };
            if ttl.text.parse::<u64>().is_ok_and(|ttl| ttl < least) {
                let words = format!("ttl {} beneath cache, which gives {least} at least", ttl.text);
                found.push(finding(&option.name, plugin, words));
            }
        }
    }
}

/// A name that is logged and looks like a place to log to.
fn outputs(block: &ServerBlock, found: &mut Vec<CorefileError>) {
    for word in block.uses("log").flat_map(|stanza| &stanza.args) {
        let text = word.text.as_str();
        let is_path = text.starts_with('/') || text.starts_with("./") || text.ends_with(".log");
        if OUTPUTS.contains(&text) || is_path {
            let message = format!(
                "{text:?} is taken for a name whose queries are logged, not for an output: lines \
                 always go to standard output"
            );
            found.push(finding(word, "log", message));
        }
    }
}

/// Namespaces that are served and have the names of top-level domains.
fn top_levels(block: &ServerBlock, found: &mut Vec<CorefileError>) {
    let options = block.uses("kubernetes").flat_map(|stanza| &stanza.options);
    let named = options.filter(|option| option.name.text == "namespaces");
    for word in named.flat_map(|option| &option.args).filter(|word| is_top_level(&word.text)) {
        let name = &word.text;
        let message = format!(
            "namespace {name} is a top-level domain, too: whoever makes a service EXAMPLE in it \
             gets what pods ask of EXAMPLE.{name}, which the search path brings here first"
        );
        found.push(finding(word, "kubernetes", message));
    }
}

/// The address of an upstream that speaks plain DNS, where it is one.
pub(super) fn upstream(word: &Token) -> Option<SocketAddr> {
    let text = word.text.strip_prefix("dns://").unwrap_or(&word.text);
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    text.parse().ok().or_else(|| Some(SocketAddr::new(bare.parse().ok()?, PORT)))
}

/// Whether a block listens on an address.
fn listens(block: &ServerBlock, ip: IpAddr) -> bool {
    let mut binds = block.uses("bind").flat_map(|stanza| &stanza.args).peekable();
    match binds.peek() {
        // On all addresses: of which only these are known to be our own.
        None => ip.is_loopback() || ip.is_unspecified(),
        Some(_) => binds.any(|word| {
            let is_at = |bound: IpAddr| bound == ip || bound.is_unspecified() && ip.is_loopback();
            word.text.parse().is_ok_and(is_at)
        }),
    }
}

/// An upstream that is this very server, whose block for the name hands it on here again.
fn loops(served: &Served<'_>, index: usize, claims: &[Claim<'_>], found: &mut Vec<CorefileError>) {
    let forwards = claims.iter().filter(|claim| claim.plugin == "forward");
    for claim in forwards {
        let words = claim.stanza.args.get(1..).unwrap_or_default();
        for (word, address) in words.iter().filter_map(|word| Some((word, upstream(word)?))) {
            let back = claim.zones.iter().find(|zone| leads_back(served, index, **zone, address));
            let Some(zone) = back else { continue };
            let message = format!(
                "{address} is this server, which forwards names of {zone} to itself: a loop"
            );
            found.push(finding(word, "forward", message));
        }
    }
}

/// Whether names of a zone that are asked of an address come to block `index` again.
fn leads_back(served: &Served<'_>, index: usize, zone: NameBuf, address: SocketAddr) -> bool {
    let dns = served.corefile.default_port;
    let mut seen = HashSet::new();
    let mut asked = vec![address];
    while let Some(address) = asked.pop() {
        let is_here = |block: &ServerBlock, key: &Key| {
            key.transport == Transport::Dns
                && key.port_or(dns) == address.port()
                && listens(block, address.ip())
        };
        let Some((server, _)) = served.longest(zone.as_name(), is_here) else { continue };
        if server == index {
            return true;
        }
        if !seen.insert(server) {
            continue;
        }
        let claims = claims(&served.corefile.blocks[server]);
        let takes = |claim: &&Claim<'_>| {
            claim.zones.iter().any(|one| zone.as_name().is_under(one.as_name()))
        };
        // Whoever is asked first for the zone, if that is `forward`.
        if let Some(claim) = claims.iter().find(takes).filter(|claim| claim.plugin == "forward") {
            asked.extend(claim.stanza.args.iter().skip(1).filter_map(upstream));
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::corefile::{Directives, Input, load};

    fn found(text: &str) -> Vec<String> {
        let input = Input::Text { name: "Corefile".into(), text: text.into() };
        let names = Directives { known: NAMES, built: NAMES };
        let corefile = load(input, names, &|_| None, 53).expect("a Corefile");
        lints(&corefile).iter().map(ToString::to_string).collect()
    }

    /// What is found in a block of the root, without its file.
    fn in_root(lines: &str) -> Vec<String> {
        let all = found(&format!(". {{\n{lines}\n}}\n"));
        all.into_iter().map(|line| line.replacen("Corefile:", "", 1)).collect()
    }

    const STOCK: &str = "errors\nhealth {\nlameduck 5s\n}\nready\n\
        kubernetes cluster.local in-addr.arpa ip6.arpa {\npods insecure\n\
        fallthrough in-addr.arpa ip6.arpa\nttl 30\n}\nprometheus :9153\n\
        forward . /etc/resolv.conf {\nmax_concurrent 1000\n}\ncache 30\nloop\nreload\nloadbalance";

    #[test]
    fn nothing_is_said_of_what_is_usual() {
        for lines in [
            STOCK,
            "forward . 192.0.2.1\nhosts {\n192.0.2.7 a.test\nfallthrough\n}",
            "log . \"{common}\"\nforward corp.test 192.0.2.1\nforward . 192.0.2.2 127.0.0.1:5353",
            "cache {\nsuccess 100 60 1\n}\nkubernetes cluster.local {\nttl 2\n}",
            "forward . 192.0.2.1 {\nexcept a.test\n}\nforward a.test 192.0.2.2",
            "file db a.test\nfile other b.a.test",
            "kubernetes a.test {\nfallthrough b.a.test\n}\nforward . 192.0.2.1",
            "template IN AAAA {\nrcode NOERROR\n}\nforward . 192.0.2.1",
            "template ANY ANY a.test {\nmatch ^x\nfallthrough\n}\nfile db a.test",
        ] {
            assert_eq!(in_root(lines), [""; 0], "{lines}");
        }
        let node_local = "cluster.local {\n bind 169.254.20.10\n \
             forward . 10.96.0.10 {\n  force_tcp\n }\n}\n\
             . {\n bind 169.254.20.10\n forward . /etc/resolv.conf\n}\n";
        assert_eq!(found(node_local), [""; 0]);
    }

    #[test]
    fn a_plugin_that_is_never_asked() {
        let fixed = "; the order of plugins is fixed, whatever their order here";
        for (lines, expected) in [
            (
                "forward . 192.0.2.1\nhosts {\n192.0.2.7 a.test\n}",
                "2:1: forward: is never asked: hosts, which is asked first, \
                 hands no name of . on"
                    .to_owned()
                    + fixed,
            ),
            (
                "kubernetes cluster.local\nforward a.cluster.local 192.0.2.1",
                "3:1: forward: is never asked: kubernetes, which is asked first, \
                 hands no name of a.cluster.local. on"
                    .into(),
            ),
            (
                "hosts {\n192.0.2.7 a.test\nfallthrough\n}\ntemplate ANY ANY {\nrcode NXDOMAIN\n}",
                "2:1: hosts: is never asked: template, which is asked first, \
                 hands no name of . on"
                    .to_owned()
                    + fixed,
            ),
            (
                "forward . 192.0.2.1\nforward corp.test 192.0.2.2",
                "3:1: forward: is never asked: forward, which is asked first, \
                 hands no name of corp.test. on"
                    .into(),
            ),
        ] {
            assert_eq!(in_root(lines), [expected], "{lines}");
        }
        let text = "a.test b.test {\n file db a.test\n file db b.test\n forward . 192.0.2.1\n}\n";
        let expected = "Corefile:4:2: forward: is never asked: file, which is asked first, \
                        hands no name of a.test. b.test. on";
        assert_eq!(found(text), [expected]);
    }

    #[test]
    fn a_zone_that_another_block_serves() {
        let text = ". {\n kubernetes cluster.local\n forward . 192.0.2.1\n}\n\
                    cluster.local {\n forward . 192.0.2.2\n}\n";
        let expected = "Corefile:2:2: kubernetes: is never asked for cluster.local.: \
                        the server block at Corefile:5:1 serves cluster.local.";
        assert_eq!(found(text), [expected]);
        assert_eq!(found(&text.replace("\ncluster.local {", "\ncluster.local:54 {")), [""; 0]);
    }

    #[test]
    fn rules_that_see_what_was_rewritten() {
        let rewrite = "rewrite stop name exact a.test b.test";
        let expected = "2:1: acl: judges names and types as rewrite has made them: \
                        rewrite comes first, whatever their order here";
        for acl in ["acl a.test {\nblock\n}", "acl {\nblock type ANY net 192.0.2.0/24\n}"] {
            assert_eq!(in_root(&format!("{acl}\n{rewrite}")), [expected], "{acl}");
            assert_eq!(in_root(&format!("{rewrite}\n{acl}")), [""; 0], "{acl}");
        }
        let by_client = "acl {\nblock net 192.0.2.0/24\n}";
        assert_eq!(in_root(&format!("{by_client}\n{rewrite}")), [""; 0]);
    }

    #[test]
    fn names_that_leave_the_cluster() {
        let lines = "kubernetes cluster.local in-addr.arpa {\nfallthrough\n}\nforward . 192.0.2.1";
        let all = in_root(lines);
        let start =
            "3:1: kubernetes: hands names of cluster.local. that do not exist on to forward";
        assert!(matches!(&all[..], [only] if only.starts_with(start)), "{all:?}");
    }

    #[test]
    fn ttls_that_no_client_sees() {
        let lines = "cache\nkubernetes cluster.local {\nttl 0\n}";
        assert_eq!(
            in_root(lines),
            ["4:1: kubernetes: ttl 0 beneath cache, which gives 5 at least"]
        );
    }

    #[test]
    fn names_that_look_like_outputs() {
        for word in ["stdout", "/var/log/dns", "./dns", "dns.log"] {
            let all = in_root(&format!("log {word}"));
            let start = format!("2:5: log: {word:?} is taken for a name");
            assert!(matches!(&all[..], [only] if only.starts_with(&start)), "{all:?}");
        }
    }

    #[test]
    fn namespaces_that_are_top_level_domains() {
        let lines = "kubernetes cluster.local {\nnamespaces till com\n}";
        let all = in_root(lines);
        let start = "3:17: kubernetes: namespace com is a top-level domain, too";
        assert!(matches!(&all[..], [only] if only.starts_with(start)), "{all:?}");
        assert_eq!(in_root(&lines.replace("com", "coms")), [""; 0]);
    }

    #[test]
    fn upstreams_that_are_this_server() {
        let start = "2:11: forward: 127.0.0.1:53 is this server, which forwards names of .";
        for lines in ["forward . 127.0.0.1", "forward . dns://127.0.0.1:53\nbind 127.0.0.1"] {
            let all = in_root(lines);
            assert!(matches!(&all[..], [only] if only.starts_with(start)), "{all:?}");
        }
        assert_eq!(in_root("bind 192.0.2.1\nforward . 127.0.0.1"), [""; 0]);
        let two = ". {\n forward . 127.0.0.1:54\n}\n.:54 {\n forward . 127.0.0.1:53\n}\n";
        assert_eq!(found(two).len(), 2);
        let ends = ". {\n forward . 127.0.0.1:54\n}\n.:54 {\n forward . 192.0.2.1\n}\n";
        assert_eq!(found(ends), [""; 0]);
        let other = ". {\n forward . 127.0.0.1\n}\na.test {\n whoami\n}\n";
        assert_eq!(found(other).len(), 1, "the root is its own");
        let stub = "b.test {\n forward . 127.0.0.1\n}\n. {\n forward . 192.0.2.1\n}\n";
        assert_eq!(found(stub).len(), 1, "names of b.test come to its block again");
    }
}
