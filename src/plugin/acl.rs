//! # acl
//!
//! Lets queries through, refuses them, empties them or drops them, by who asks for what.
//!
//! ## Syntax
//!
//! ```text
//! acl [ZONES...] {
//!     ACTION [type QTYPE...] [net SOURCE...]
//! }
//! ```
//!
//! * **ZONES**: names at and below which the rules hold, by default the zones of the server block.
//! * **ACTION** is one of
//!   * `allow`: the query goes on to the plugins below;
//!   * `block`: the reply is REFUSED, with the extended error 15, Blocked, for clients with EDNS
//!     (RFC 8914 section 4.16);
//!   * `filter`: the reply is NOERROR without records, with the extended error 17, Filtered
//!     (RFC 8914 section 4.18);
//!   * `drop`: there is no reply.
//! * `type` **QTYPE**: types of the question that the rule is for, in capital letters; `*`, and no
//!   `type` at all, mean every type. `ANY` is the type of that name only.
//! * `net` **SOURCE**: addresses and networks (`192.0.2.0/24`) that the query may come from; `*`, and
//!   no `net` at all, mean every address.
//!
//! Rules are read from the top, and the first that fits decides. *acl* may be used several times: where
//! no rule of one fits, the next one is read. A query that no rule fits is allowed.
//!
//! The address is that of the datagram or connection: behind a resolver or a NAT it is theirs.
//! *acl* stands before *cache* and after *rewrite*, wherever it stands in the Corefile: nothing that is
//! stored gets past it, and names are compared as they were rewritten.
//!
//! ## Metrics
//!
//! * `coredns_acl_blocked_requests_total{server, zone, view}`: queries that were blocked.
//! * `coredns_acl_filtered_requests_total{server, zone, view}`: queries that were filtered.
//! * `coredns_acl_dropped_requests_total{server, zone, view}`: queries that were dropped.
//! * `coredns_acl_allowed_requests_total{server, view}`: queries that went on.
//!
//! `zone` is the one of **ZONES** that the name is in.
//!
//! ## Examples
//!
//! Answer two networks only:
//!
//! ```corefile
//! . {
//!     acl {
//!         allow net 192.0.2.0/24 2001:db8::/32
//!         block
//!     }
//!     whoami
//! }
//! ```
//!
//! No reply to 198.51.100.0/24, except to one address, and no addresses of `a.example.org`:
//!
//! ```corefile
//! example.org {
//!     acl {
//!         allow net 198.51.100.7
//!         drop net 198.51.100.0/24
//!     }
//!     acl a.example.org {
//!         filter type A AAAA
//!     }
//!     whoami
//! }
//! ```
//!
//! ## Differences from CoreDNS
//!
//! * Clients without EDNS get no OPT record (RFC 6891 section 7).
//! * A network in `::ffff:0:0/96` is one of IPv4 addresses; in CoreDNS no client is in it.
//!
//! ## Cost
//!
//! A comparison of the name with the zones, and for each rule up to the one that fits a binary search
//! among its types and its networks. Nothing is allocated.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Compiled, CorefileError, Cx, Directive, Lines, Plugin, SetupError, Site, Step};
use crate::control::corefile::{OptionLine, Token};
use crate::data::tally::{Counter, Family};
use crate::wire::{NameBuf, Rtype, Suffixes, edns, rcode, rtype};

const ACTIONS: &[&str] = &["allow", "block", "filter", "drop"];
const SECTIONS: &[&str] = &["type", "net"];

/// INFO-CODEs of the extended error as they stand in the option (RFC 8914 section 5.2).
const BLOCKED_CODE: [u8; 2] = [0, 15];
const FILTERED_CODE: [u8; 2] = [0, 17];

static BLOCKED: Family = Family::counter(
    "coredns_acl_blocked_requests_total",
    &["server", "zone", "view"],
    "Counter of DNS requests being blocked.",
);
static FILTERED: Family = Family::counter(
    "coredns_acl_filtered_requests_total",
    &["server", "zone", "view"],
    "Counter of DNS requests being filtered.",
);
static DROPPED: Family = Family::counter(
    "coredns_acl_dropped_requests_total",
    &["server", "zone", "view"],
    "Counter of DNS requests being dropped.",
);
static ALLOWED: Family = Family::counter(
    "coredns_acl_allowed_requests_total",
    &["server", "view"],
    "Counter of DNS requests being allowed.",
);

/// What becomes of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Allow,
    Deny(Denial),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Denial {
    Block,
    Filter,
    Drop,
}

impl Denial {
    /// In the order of their numbers.
    const ALL: [Self; 3] = [Self::Block, Self::Filter, Self::Drop];

    fn family(self) -> &'static Family {
        match self {
            Self::Block => &BLOCKED,
            Self::Filter => &FILTERED,
            Self::Drop => &DROPPED,
        }
    }
}

/// First and last address of a network, both of one family.
type Network = (IpAddr, IpAddr);

/// One line of the block.
#[derive(Debug, PartialEq, Eq)]
struct Rule {
    action: Action,
    /// In ascending order; none: every type.
    types: Option<Box<[Rtype]>>,
    /// In ascending order, none within another; none: every address.
    networks: Option<Box<[Network]>>,
}

impl Rule {
    fn parse(lines: &Lines<'_>, option: &OptionLine) -> Result<Self, CorefileError> {
        let action = action(lines, &option.name)?;
        let (mut types, mut every_type) = (Vec::new(), false);
        let (mut networks, mut everywhere) = (Vec::new(), false);
        let mut rest = &option.args[..];
        while let Some((word, after)) = rest.split_first() {
            let Some(section) = section(word) else {
                let words = format!("unexpected token {:?}; expect 'type | net'", word.text);
                return Err(lines.parse_err(word, words).suggesting(&word.text, SECTIONS));
            };
            let end = after.iter().position(|word| self::section(word).is_some());
            let (values, next) = after.split_at(end.unwrap_or(after.len()));
            if values.is_empty() {
                let words = format!("no token specified in {section:?} section");
                return Err(lines.parse_err(word, words));
            }
            // What stands behind the star of a section is not read, as in CoreDNS.
            let star = values.iter().position(|value| value.text == "*");
            let values = &values[..star.unwrap_or(values.len())];
            if section == "type" {
                every_type |= star.is_some();
                for value in values {
                    types.push(qtype(lines, value)?);
                }
            } else {
                everywhere |= star.is_some();
                for value in values {
                    networks.push(network(lines, value)?);
                }
            }
            rest = next;
        }
        types.sort_unstable();
        types.dedup();
        // No values at all: there is no such section.
        let every_type = every_type || types.is_empty();
        let everywhere = everywhere || networks.is_empty();
        Ok(Self {
            action,
            types: (!every_type).then(|| types.into()),
            networks: (!everywhere).then(|| disjoint(networks)),
        })
    }

    fn fits(&self, qtype: Rtype, address: IpAddr) -> bool {
        let of_type = |types: &[Rtype]| types.binary_search(&qtype).is_ok();
        self.types.as_deref().is_none_or(of_type)
            && self.networks.as_deref().is_none_or(|networks| contain(networks, address))
    }
}

fn action(lines: &Lines<'_>, word: &Token) -> Result<Action, CorefileError> {
    let lower = word.text.to_lowercase();
    Ok(match lower.as_str() {
        "allow" => Action::Allow,
        "block" => Action::Deny(Denial::Block),
        "filter" => Action::Deny(Denial::Filter),
        "drop" => Action::Deny(Denial::Drop),
        _ => {
            let words = format!(
                "unexpected token {:?}; expect 'allow', 'block', 'filter' or 'drop'",
                word.text
            );
            return Err(lines.parse_err(word, words).suggesting(&lower, ACTIONS));
        }
    })
}

/// The section that a word begins, if it does.
fn section(word: &Token) -> Option<&'static str> {
    SECTIONS.iter().copied().find(|section| section.eq_ignore_ascii_case(&word.text))
}

/// A type by its very name; neither other cases nor numbers, as in CoreDNS.
fn qtype(lines: &Lines<'_>, word: &Token) -> Result<Rtype, CorefileError> {
    let found = rtype::parse(&word.text).filter(|qtype| *qtype != rtype::NONE);
    found.filter(|qtype| rtype::name(*qtype) == Some(&word.text)).ok_or_else(|| {
        let words = format!("unexpected token {:?}; expect legal QTYPE", word.text);
        let error = lines.parse_err(word, words);
        match found.and_then(rtype::name) {
            Some(name) => error.suggesting(&word.text, &[name]),
            None => error,
        }
    })
}

/// A network, or an address alone.
fn network(lines: &Lines<'_>, word: &Token) -> Result<Network, CorefileError> {
    let text = &word.text;
    if text.contains('/') {
        let found = lines.cidr(word).map(|(address, bits)| range(address, bits));
        return found.map_err(|_| lines.parse_err(word, format!("illegal CIDR notation {text:?}")));
    }
    let bits = if text.contains(':') { 128 } else { 32 };
    text.parse().map(|address| range(address, bits)).map_err(|_| {
        let whole = format!("{text}/{bits}");
        lines.parse_err(word, format!("illegal CIDR notation {whole:?}"))
    })
}

/// First and last address of the network of `bits` bits, at most the family's, that `address` is in.
fn range(address: IpAddr, bits: u8) -> Network {
    match address {
        IpAddr::V4(address) => {
            let host = u32::MAX.checked_shr(bits.into()).unwrap_or(0);
            let first = Ipv4Addr::from_bits(address.to_bits() & !host);
            (first.into(), Ipv4Addr::from_bits(first.to_bits() | host).into())
        }
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            // Clients' addresses are compared unmapped.
            Some(address) if bits >= 96 => range(address.into(), bits - 96),
            _ => {
                let host = u128::MAX.checked_shr(bits.into()).unwrap_or(0);
                let first = Ipv6Addr::from_bits(address.to_bits() & !host);
                (first.into(), Ipv6Addr::from_bits(first.to_bits() | host).into())
            }
        },
    }
}

/// Networks in ascending order, without those that are within others. Two networks are never
/// partly the same, and addresses of IPv4 come before those of IPv6.
fn disjoint(mut networks: Vec<Network>) -> Box<[Network]> {
    networks.sort_unstable_by_key(|(first, last)| (*first, std::cmp::Reverse(*last)));
    networks.dedup_by(|next, kept| next.1 <= kept.1);
    networks.into()
}

/// Whether one of `networks`, as `disjoint` gives them, has the address.
fn contain(networks: &[Network], address: IpAddr) -> bool {
    let after = networks.partition_point(|(first, _)| *first <= address);
    after.checked_sub(1).is_some_and(|at| address <= networks[at].1)
}

/// The directive: its uses, in the order of the Corefile.
pub struct Acl(Vec<Use>);

struct Use {
    zones: Vec<NameBuf>,
    rules: Vec<Rule>,
}

impl Directive for Acl {
    const NAME: &'static str = "acl";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let mut uses = Vec::new();
        for stanza in lines.stanzas() {
            let rules = stanza.options.iter().map(|option| Rule::parse(lines, option));
            let rules = rules.collect::<Result<_, _>>()?;
            uses.push(Use { zones: lines.zones_of(&stanza.args), rules });
        }
        Ok(Self(uses))
    }

    fn compile(self, site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        // Zones of one listener have the same labels here: theirs is not among them.
        let mut labels: Vec<(&str, &str)> = Vec::new();
        let mut places = Vec::with_capacity(site.servers.len());
        for server in site.servers {
            let own = (&*server.server_label, &*server.view_label);
            places.push(labels.iter().position(|other| *other == own).unwrap_or_else(|| {
                labels.push(own);
                labels.len() - 1
            }));
        }
        let allowed = labels.iter().map(|(at, view)| site.tally.counter(&ALLOWED, &[at, view]));
        let allowed = allowed.collect();
        let list = |one: Use| List::new(one, &labels, site);
        let lists = self.0.into_iter().map(list).collect();
        Ok(Compiled::link(Link { lists, places, allowed }))
    }
}

/// The rules of one use.
struct List {
    zones: Suffixes<()>,
    rules: Vec<Rule>,
    /// For each denial, by pair of labels and zone; empty where no rule has that denial.
    denied: [Vec<Counter>; 3],
}

impl List {
    fn new(one: Use, labels: &[(&str, &str)], site: &Site<'_>) -> Self {
        let zones = Suffixes::new(one.zones.into_iter().map(|zone| (zone, ())));
        let names: Vec<String> = zones.iter().map(|(zone, ())| zone.to_string()).collect();
        let denied = Denial::ALL.map(|denial| {
            let action = Action::Deny(denial);
            let used = one.rules.iter().any(|rule| rule.action == action);
            let pairs = labels.iter().filter(|_| used);
            pairs
                .flat_map(|(at, view)| names.iter().map(move |zone| [*at, zone.as_str(), *view]))
                .map(|values| site.tally.counter(denial.family(), &values))
                .collect()
        });
        Self { zones, rules: one.rules, denied }
    }

    fn judge(&self, qtype: Rtype, address: IpAddr) -> Option<Action> {
        self.rules.iter().find(|rule| rule.fits(qtype, address)).map(|rule| rule.action)
    }
}

/// The link.
pub struct Link {
    lists: Vec<List>,
    /// For each server of the block, its pair of labels, `server` and `view`.
    places: Vec<usize>,
    /// By pair of labels.
    allowed: Vec<Counter>,
}

impl Link {
    /// What denies the query, and the counter of it; none if it is allowed.
    fn denial(&self, cx: &Cx<'_>, place: usize) -> Option<(Denial, Option<Counter>)> {
        let (question, address) = (cx.question(), cx.client().ip());
        for list in &self.lists {
            let Some(zone) = list.zones.position(question.lower) else { continue };
            match list.judge(question.rtype, address) {
                None => {}
                Some(Action::Allow) => return None,
                Some(Action::Deny(denial)) => {
                    let counters = &list.denied[denial as usize];
                    let counter = counters.get(place * list.zones.len() + zone);
                    return Some((denial, counter.copied()));
                }
            }
        }
        None
    }
}

impl Plugin for Link {
    type Frame = ();
    type Local = ();

    fn local(&self, _core: u16) {}

    fn serve(&self, (): &mut (), cx: &mut Cx<'_>) -> Step<()> {
        let server = cx.level().place().zone as usize;
        let place = self.places.get(server).copied().unwrap_or(0);
        let Some((denial, counter)) = self.denial(cx, place) else {
            if let Some(counter) = self.allowed.get(place) {
                cx.core.tally.add(*counter, 1);
            }
            return Step::Next;
        };
        if let Some(counter) = counter {
            cx.core.tally.add(counter, 1);
        }
        let (code, extended) = match denial {
            Denial::Block => (rcode::REFUSED, BLOCKED_CODE),
            Denial::Filter => (rcode::NOERROR, FILTERED_CODE),
            Denial::Drop => {
                cx.drop_reply();
                return Step::Up;
            }
        };
        let (_, reply) = cx.answer(false);
        reply.set_rcode(code);
        cx.level_mut().extra.push(edns::EDE, &extended);
        Step::Up
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plugin::parse_block;

    fn rules(lines: &str) -> Result<Vec<Rule>, String> {
        let acl = parse_block::<Acl>(&format!("acl {{\n{lines}\n}}"))?;
        Ok(acl.0.into_iter().flat_map(|one| one.rules).collect())
    }

    fn rule(line: &str) -> Rule {
        rules(line).expect(line).pop().expect("a rule")
    }

    fn fits(rule: &Rule, qtype: Rtype, address: &str) -> bool {
        rule.fits(qtype, address.parse().expect(address))
    }

    #[test]
    fn actions_and_sections_in_any_case() {
        for (line, action) in [
            ("allow", Action::Allow),
            ("Block", Action::Deny(Denial::Block)),
            ("FILTER type *", Action::Deny(Denial::Filter)),
            ("drop NET *", Action::Deny(Denial::Drop)),
        ] {
            assert_eq!(rule(line), Rule { action, types: None, networks: None }, "{line}");
        }
    }

    #[test]
    fn every_denial_has_its_counters() {
        for denial in Denial::ALL {
            assert_eq!(Denial::ALL[denial as usize], denial);
        }
    }

    #[test]
    fn types_and_networks_both_have_to_fit() {
        let rule = rule("block type MX A net 192.0.2.77/24 2001:db8::/32 Type TXT NET ::1");
        for qtype in [rtype::A, rtype::MX, rtype::TXT] {
            assert!(fits(&rule, qtype, "192.0.2.0") && fits(&rule, qtype, "192.0.2.255"));
            assert!(fits(&rule, qtype, "2001:db8:ffff::1") && fits(&rule, qtype, "::1"));
        }
        assert!(!fits(&rule, rtype::AAAA, "192.0.2.1"));
        for address in ["192.0.1.255", "192.0.3.0", "::", "::2", "2001:db9::", "2001:db7::"] {
            assert!(!fits(&rule, rtype::A, address), "{address}");
        }
    }

    #[test]
    fn the_star_of_a_section_is_everything() {
        assert_eq!(rule("block type A *").types, None);
        assert_eq!(rule("block type * type A").types, None);
        assert_eq!(rule("block net 192.0.2.1 * nonsense").networks, None);
        // Every address of a family is not every address.
        let rule = rule("block net 0.0.0.0/0");
        assert!(fits(&rule, rtype::A, "255.255.255.255") && !fits(&rule, rtype::A, "::1"));
    }

    #[test]
    fn networks_of_mapped_addresses_are_of_ipv4() {
        let rule = rule("block net ::ffff:192.0.2.0/120 ::ffff:198.51.100.1");
        assert!(fits(&rule, rtype::A, "192.0.2.9") && fits(&rule, rtype::A, "198.51.100.1"));
        assert!(!fits(&rule, rtype::A, "198.51.100.2"));
    }

    #[test]
    fn refuses_in_coredns_s_words() {
        for (line, words) in [
            ("deny", "unexpected token \"deny\"; expect 'allow', 'block', 'filter' or 'drop'"),
            ("block A", "unexpected token \"A\"; expect 'type | net'"),
            ("block type", "no token specified in \"type\" section"),
            ("block type A NET", "no token specified in \"net\" section"),
            ("block net type A", "no token specified in \"net\" section"),
            ("block type ABC", "unexpected token \"ABC\"; expect legal QTYPE"),
            ("block type a", "unexpected token \"a\"; expect legal QTYPE"),
            ("block type TYPE1", "unexpected token \"TYPE1\"; expect legal QTYPE"),
            ("block type None", "unexpected token \"None\"; expect legal QTYPE"),
            ("block net 1.2.3.400", "illegal CIDR notation \"1.2.3.400/32\""),
            ("block net 10.0.0.0/33", "illegal CIDR notation \"10.0.0.0/33\""),
            ("block net fe80::1%eth0", "illegal CIDR notation \"fe80::1%eth0/128\""),
            ("block net 10.0.0.0-10.0.0.9", "illegal CIDR notation \"10.0.0.0-10.0.0.9/32\""),
            ("block net nonsense *", "illegal CIDR notation \"nonsense/32\""),
        ] {
            let error = rules(line).expect_err(line);
            assert!(error.contains(words), "{line}: {error}");
        }
    }

    proptest! {
        /// Bits compared one by one say the same, with networks within each other.
        #[test]
        fn searching_finds_what_comparing_finds(
            nets in prop::collection::vec((0_u32..1 << 10, 20_u8..=32), 1..20),
            wide in prop::collection::vec((0_u128..1 << 10, 116_u8..=128), 0..20),
            at in 0_u32..1 << 10,
        ) {
            let mut ranges = Vec::new();
            ranges.extend(nets.iter().map(|(net, bits)| {
                range(Ipv4Addr::from_bits(*net).into(), *bits)
            }));
            ranges.extend(wide.iter().map(|(net, bits)| {
                range(Ipv6Addr::from_bits(*net).into(), *bits)
            }));
            let ranges = disjoint(ranges);
            let same = |one: u128, other: u128, free: u8| one >> free == other >> free;
            let of_4 = nets.iter().any(|(net, bits)| same((*net).into(), at.into(), 32 - bits));
            let of_6 = wide.iter().any(|(net, bits)| same(*net, at.into(), 128 - bits));
            prop_assert_eq!(contain(&ranges, Ipv4Addr::from_bits(at).into()), of_4);
            prop_assert_eq!(contain(&ranges, Ipv6Addr::from_bits(at.into()).into()), of_6);
        }
    }
}
