//! # loadbalance
//!
//! Changes the order of addresses (A, AAAA) and mail exchangers (MX) in replies.
//!
//! ## Syntax
//!
//! ```corefile
//! loadbalance [round_robin] {
//!     prefer CIDR...
//! }
//! ```
//!
//! ```corefile
//! loadbalance weighted FILE {
//!     reload DURATION
//! }
//! ```
//!
//! Clients mostly take the first address of a reply. A section's CNAME records come first, then the
//! others as they were, then addresses, then MX records.
//!
//! * `round_robin` (the default): addresses and MX records in random order, every order as likely.
//! * `weighted`: one address is put first, chosen at random by the weights in **FILE**, the others
//!   stay; only in replies to A, AAAA and SRV queries.
//! * `prefer`: addresses in the first **CIDR** come before those in the second, and those in none come
//!   last; MX and other records follow them. Only with `round_robin`.
//! * `reload`: how often **FILE** is looked at (a Go duration, default 30s, 0 for never). A file that
//!   does not exist at the start is waited for, but with `reload 0` it is an error.
//!
//! Replies with an error and zone transfers stay as they are. What `cache` below answers is reordered
//! like all else.
//!
//! ## Weights
//!
//! A line of **FILE** is a name, or an address and its weight from 1 to 255 under the last name. Empty
//! lines and those that start with `#` do not count. An address that is not named has weight 1.
//!
//! ```txt
//! www.example.org
//! 192.0.2.1   3
//! 192.0.2.2   1
//! 2001:db8::1 2
//! ```
//!
//! ## Examples
//!
//! ```corefile
//! example.org {
//!     loadbalance round_robin {
//!         prefer 10.0.0.0/8 2001:db8::/32
//!     }
//!     whoami
//! }
//! ```
//!
//! ## Differences from CoreDNS
//!
//! * Names in **FILE** are compared without regard to the letters' case (RFC 4343).
//! * A word in **FILE** that can be no domain name is an error.

mod order;
mod weights;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Compiled, CorefileError, Cx, Directive, Lines, Plugin, SetupError, Site, Step};
use crate::control::corefile::{Line, Stanza};
use crate::plugin::ReplyState;
use crate::publish::{Published, Reader};
use crate::wire::{AddressRows, Section, rcode, rtype};
use order::{Group, Order, network_of, weight_of};
use weights::{Watched, Weights};

/// The directive.
#[derive(Debug, PartialEq)]
pub enum Loadbalance {
    /// Random order, these networks first.
    RoundRobin(Vec<(IpAddr, u8)>),
    /// Weights from a file, and how often it is looked at.
    Weighted(PathBuf, Duration),
}

/// The link.
pub struct Link {
    /// Networks whose addresses come first.
    networks: Vec<(IpAddr, u8)>,
    /// The weights, where the policy goes by them.
    weights: Option<Arc<Published<Weights>>>,
}

/// What a worker needs: room for an order, and its view of the weights.
pub struct Local {
    order: Order,
    weights: Option<Reader<Weights>>,
}

impl Directive for Loadbalance {
    const NAME: &'static str = "loadbalance";
    const CARRIED: bool = true;

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        // The last use's policy holds; networks of several uses add up.
        let mut policy = Self::RoundRobin(Vec::new());
        for stanza in lines.stanzas() {
            match stanza.args.first().map(|word| word.text.as_str()) {
                None | Some("round_robin") => {
                    let mut networks = match policy {
                        Self::RoundRobin(networks) => networks,
                        Self::Weighted(..) => Vec::new(),
                    };
                    round_robin(lines, stanza, &mut networks)?;
                    policy = Self::RoundRobin(networks);
                }
                Some("weighted") => policy = weighted(lines, stanza)?,
                Some(other) => {
                    let known = &["round_robin", "weighted"];
                    let error = lines.err(&stanza.args[0], format!("unknown policy: {other}"));
                    return Err(error.suggesting(other, known));
                }
            }
        }
        Ok(policy)
    }

    fn compile(self, site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        let link = match self {
            Self::RoundRobin(networks) => Link { networks, weights: None },
            Self::Weighted(path, reload) => {
                let mut file = Watched::new(path, reload);
                let first = file.load_first().map_err(|message| site.err(message))?;
                let weights = Arc::new(Published::new(first));
                let shown = Arc::clone(&weights);
                site.watch(file, move |turns, fresh| shown.set(turns, fresh));
                Link { networks: Vec::new(), weights: Some(weights) }
            }
        };
        Ok(Compiled::link(link))
    }
}

fn round_robin(
    lines: &Lines<'_>,
    stanza: &Stanza,
    networks: &mut Vec<(IpAddr, u8)>,
) -> Result<(), CorefileError> {
    if let Some(extra) = stanza.args.get(1) {
        return Err(lines.parse_err(extra, "unknown property for round_robin"));
    }
    for option in &stanza.options {
        if option.name.text != "prefer" {
            return Err(lines.unknown_option(&option.name, &["prefer"]));
        }
        for word in option.args() {
            let network = lines.cidr(word).map_err(|error| {
                lines.parse_err(word, format!("invalid CIDR {:?}: {}", word.text, error.message))
            })?;
            networks.push(network);
        }
    }
    Ok(())
}

fn weighted(lines: &Lines<'_>, stanza: &Stanza) -> Result<Loadbalance, CorefileError> {
    let file = match &stanza.args[1..] {
        [] => return Err(lines.parse_err(&stanza.name, "missing weight file argument")),
        [file] => file,
        [_, extra, ..] => return Err(lines.parse_err(extra, "unexpected argument(s)")),
    };
    let mut reload = Duration::from_secs(30);
    for option in &stanza.options {
        if option.name.text != "reload" {
            return Err(lines.unknown_option(&option.name, &["reload"]));
        }
        let time = match option.args() {
            [] => return Err(lines.parse_err(&option.name, "reload duration value is missing")),
            [time] => time,
            [_, extra, ..] => return Err(lines.parse_err(extra, "unexpected argument")),
        };
        reload = lines.duration(time).map_err(|_| {
            lines.parse_err(time, format!("invalid reload duration '{}'", time.text))
        })?;
    }
    Ok(Loadbalance::Weighted(lines.path(&file.text), reload))
}

impl Link {
    /// Puts the records of one section into the order that the policy wants.
    fn arrange(&self, local: &mut Local, cx: &mut Cx<'_>, section: Section) {
        if cx.reply().counts().of(section) < 2 {
            return;
        }
        let Local { order, weights } = local;
        if weights.is_none() && self.networks.is_empty() && section == Section::Answer {
            let (reply, rng) = cx.edit_with_rng();
            match reply.address_rows() {
                Some(AddressRows::V4(rows)) => return rng.shuffle(rows),
                Some(AddressRows::V6(rows)) => return rng.shuffle(rows),
                None => {}
            }
        }
        match weights {
            None => {
                let networks = &self.networks[..];
                order.read(cx.reply(), section, |record, message| {
                    network_of(networks, record.rdata(message))
                });
                cx.core.rng.shuffle(order.group(Group::Address));
                cx.core.rng.shuffle(order.group(Group::Mx));
                if !networks.is_empty() && section != Section::Authority {
                    order.sort_by_rank();
                }
            }
            Some(weights) => {
                order.read(cx.reply(), section, |record, message| {
                    weight_of(weights.get(), record, message)
                });
                let sum = order.sum();
                if sum == 0 {
                    return;
                }
                order.put_first(cx.core.rng.below(sum));
            }
        }
        let (_, reply, scratch) = cx.edit_with_scratch();
        // A reply without room to be built again is as good in its own order.
        let _ = reply.permute(section, order.indices(), scratch);
    }
}

impl Plugin for Link {
    type Frame = ();
    type Local = Local;

    fn local(&self, _core: u16) -> Local {
        Local {
            order: Order::new(),
            weights: self.weights.as_ref().map(|weights| weights.reader()),
        }
    }

    fn refresh(&self, local: &mut Local) {
        local.weights.iter_mut().for_each(Reader::refresh);
    }

    fn serve(&self, _local: &mut Local, _cx: &mut Cx<'_>) -> Step<()> {
        Step::Watch(())
    }

    fn resume(&self, local: &mut Local, cx: &mut Cx<'_>, (): ()) -> Step<()> {
        let level = cx.level();
        let qtype = level.question().rtype;
        let answered = level.state == ReplyState::Written && level.reply.rcode() == rcode::NOERROR;
        if !answered || matches!(qtype, rtype::AXFR | rtype::IXFR) {
            return Step::Up;
        }
        let sections = match self.weights {
            None => &Section::ALL[..],
            Some(_) if matches!(qtype, rtype::A | rtype::AAAA | rtype::SRV) => {
                &[Section::Answer, Section::Additional]
            }
            Some(_) => &[],
        };
        for section in sections {
            self.arrange(local, cx, *section);
        }
        Step::Up
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse_block;
    use super::*;

    #[test]
    fn reads_policies_and_their_options() {
        let net = |text: &str, bits| (text.parse::<IpAddr>().unwrap(), bits);
        let second = Duration::from_secs(1);
        for (block, policy) in [
            ("loadbalance", Loadbalance::RoundRobin(vec![])),
            ("loadbalance round_robin", Loadbalance::RoundRobin(vec![])),
            (
                "loadbalance {\nprefer 10.0.0.0/8 2001:db8::/32\nprefer 127.0.0.1/32\n}",
                Loadbalance::RoundRobin(vec![
                    net("10.0.0.0", 8),
                    net("2001:db8::", 32),
                    net("127.0.0.1", 32),
                ]),
            ),
            ("loadbalance weighted w", Loadbalance::Weighted("w".into(), 30 * second)),
            (
                "loadbalance weighted w {\nreload 0s\n}",
                Loadbalance::Weighted("w".into(), Duration::ZERO),
            ),
            ("loadbalance\nloadbalance weighted w", Loadbalance::Weighted("w".into(), 30 * second)),
        ] {
            assert_eq!(parse_block::<Loadbalance>(block), Ok(policy), "{block}");
        }
    }

    #[test]
    fn refuses_in_coredns_s_words() {
        for (block, words) in [
            ("loadbalance fastest", "unknown policy: fastest"),
            ("loadbalance round_robin x", "unknown property for round_robin"),
            ("loadbalance weighted", "missing weight file argument"),
            ("loadbalance weighted a b", "unexpected argument(s)"),
            ("loadbalance weighted a {\nreload\n}", "reload duration value is missing"),
            ("loadbalance weighted a {\nreload 1s 2s\n}", "unexpected argument"),
            ("loadbalance weighted a {\nreload x\n}", "invalid reload duration 'x'"),
            ("loadbalance weighted a {\nprefer 10.0.0.0/8\n}", "unknown property 'prefer'"),
            ("loadbalance {\nreload 1s\n}", "unknown property 'reload'"),
            (
                "loadbalance {\nprefer 10.0.0.0\n}",
                "invalid CIDR \"10.0.0.0\": invalid CIDR address",
            ),
        ] {
            let error = parse_block::<Loadbalance>(block).expect_err(block);
            assert!(error.contains(words), "{block}: {error}");
        }
    }
}
