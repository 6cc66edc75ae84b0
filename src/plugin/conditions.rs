//! What expressions may ask of a query: the functions of *view* and *template*.
//!
//! They are CoreDNS's, by name, kinds and values: names in lower case with their final dot, types and
//! classes as text, addresses without brackets. Nothing allocates.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::{Cx, Site, Transport};
use crate::expression::{Cause, Environment, Function, Kind, Memory, Value};
use crate::limits::{MESSAGE_BYTES_MAX, UDP_BYTES_MIN};
use crate::snapshot::MetaRef;
use crate::wire::{rclass, rtype};

const fn function(name: &'static str, takes: &'static [Kind], gives: Kind) -> Function {
    Function { name, takes, gives }
}

const ALL: &[Function] = &[
    function("bufsize", &[], Kind::Int),
    function("class", &[], Kind::Text),
    function("client_ip", &[], Kind::Text),
    function("do", &[], Kind::Bool),
    function("id", &[], Kind::Int),
    function("name", &[], Kind::Text),
    function("opcode", &[], Kind::Int),
    function("port", &[], Kind::Text),
    function("proto", &[], Kind::Text),
    function("server_ip", &[], Kind::Text),
    function("server_port", &[], Kind::Text),
    function("size", &[], Kind::Int),
    function("type", &[], Kind::Text),
    function("incidr", &[Kind::Text, Kind::Text], Kind::Bool),
    function("metadata", &[Kind::Text], Kind::Text),
    function("group", &[Kind::Any], Kind::Text),
];

/// What may be asked of a query.
pub(super) const OF_A_QUERY: &[Function] = ALL.split_at(ALL.len() - 1).0;
/// What may be asked of a query that a pattern has matched: `group` as well.
pub(super) const OF_A_MATCH: &[Function] = ALL;

/// Metadata labels, by which one reads them.
pub(super) type Labels = Vec<(Box<str>, MetaRef)>;

/// Adds those of `texts` that may be metadata labels.
pub(super) fn add_labels<'t>(
    labels: &mut Labels,
    site: &mut Site<'_>,
    texts: impl Iterator<Item = &'t str>,
) {
    for text in texts.filter(|text| text.contains('/')) {
        if !labels.iter().any(|(known, _)| **known == *text) {
            labels.push((text.into(), site.meta(text)));
        }
    }
}

/// A query, as expressions see it.
pub(super) struct Query<'q> {
    pub(super) cx: &'q Cx<'q>,
    pub(super) labels: &'q [(Box<str>, MetaRef)],
    /// The text of a group of the match, by its name or number.
    pub(super) group: &'q dyn Fn(&str) -> &'q str,
}

impl Environment for Query<'_> {
    fn call(
        &self,
        function: usize,
        arguments: &[Value],
        memory: &mut Memory,
    ) -> Result<Value, Cause> {
        let (cx, question) = (self.cx, self.cx.question());
        let (client, asked) = (cx.client(), cx.asked());
        Ok(match (ALL[function].name, arguments) {
            ("bufsize", _) if client.transport != Transport::Udp => {
                Value::Int(MESSAGE_BYTES_MAX as i64)
            }
            ("bufsize", _) => Value::Int(asked.udp_size.max(UDP_BYTES_MIN as u16).into()),
            ("class", _) => memory.make(|out| write!(out, "{}", rclass::text(question.rclass)))?,
            ("client_ip", _) => memory.make(|out| write!(out, "{}", client.ip()))?,
            ("do", _) => Value::Bool(asked.dnssec_ok),
            ("id", _) => Value::Int(asked.id.into()),
            ("name", _) => memory.make(|out| write!(out, "{}", question.lower))?,
            ("opcode", _) => Value::Int(asked.flags.opcode().into()),
            ("port", _) => memory.make(|out| write!(out, "{}", client.peer.port()))?,
            ("proto", _) => memory.make(|out| out.write_str(client.transport.as_str()))?,
            ("server_ip", _) => {
                let local = client.local.ip().to_canonical();
                memory.make(|out| write!(out, "{local}"))?
            }
            ("server_port", _) => memory.make(|out| write!(out, "{}", client.local.port()))?,
            ("size", _) => Value::Int(cx.request().len() as i64),
            ("type", _) => memory.make(|out| write!(out, "{}", rtype::text(question.rtype)))?,
            ("incidr", [Value::Text(address), Value::Text(network)]) => {
                Value::Bool(is_in(memory.text(*address), memory.text(*network))?)
            }
            ("metadata", [Value::Text(label)]) => {
                let text = memory.text(*label);
                let known = self.labels.iter().find(|(known, _)| **known == *text);
                let known = known.map(|(_, label)| *label);
                memory.make(|out| {
                    // What has no value is empty.
                    let _ = known.is_some_and(|label| cx.meta(label, out));
                    Ok(())
                })?
            }
            ("group", [Value::Text(name)]) => {
                let group = (self.group)(memory.text(*name));
                memory.make(|out| out.write_str(group))?
            }
            ("group", [Value::Int(number)]) => {
                let Value::Text(name) = memory.make(|out| write!(out, "{number}"))? else {
                    return Err(Cause::Kind);
                };
                let group = (self.group)(memory.text(name));
                memory.make(|out| out.write_str(group))?
            }
            ("group", _) => memory.make(|_| Ok(()))?,
            _ => return Err(Cause::Kind),
        })
    }
}

/// Whether an address is in a network, both as text.
fn is_in(address: &str, network: &str) -> Result<bool, Cause> {
    let address: IpAddr = address.parse().map_err(|_| Cause::Text)?;
    let (first, bits) = network.split_once('/').ok_or(Cause::Text)?;
    let first: IpAddr = first.parse().map_err(|_| Cause::Text)?;
    let bits = Some(bits).filter(|bits| bits.bytes().all(|digit| digit.is_ascii_digit()));
    let bits: u32 = bits.and_then(|bits| bits.parse().ok()).ok_or(Cause::Text)?;
    // An IPv4 network may be written as a part of ::ffff:0:0/96; an address is one or the other.
    let mapped = matches!(first, IpAddr::V6(v6) if bits >= 96 && v6.to_ipv4_mapped().is_some());
    let (first, bits) = if mapped { (first.to_canonical(), bits - 96) } else { (first, bits) };
    match (address.to_canonical(), first) {
        (_, IpAddr::V4(_)) if bits > 32 => Err(Cause::Text),
        (_, IpAddr::V6(_)) if bits > 128 => Err(Cause::Text),
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            Ok((one.to_bits() ^ other.to_bits()) & mask == 0)
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            Ok((one.to_bits() ^ other.to_bits()) & mask == 0)
        }
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_addresses() {
        for (address, network, held) in [
            ("1.2.3.4", "1.2.0.0/16", Ok(true)),
            ("10.2.3.4", "1.2.0.0/16", Ok(false)),
            ("1.2.3.4", "0.0.0.0/0", Ok(true)),
            ("1:2::3:4", "1:2::/64", Ok(true)),
            ("A:2::3:4", "1:2::/64", Ok(false)),
            ("::1", "::/0", Ok(true)),
            ("::1", "0.0.0.0/0", Ok(false)),
            ("1.2.3.4", "::ffff:1.2.0.0/112", Ok(true)),
            ("1.2.3.4", "invalid", Err(Cause::Text)),
            ("1.2.3.4", "1.2.3.4", Err(Cause::Text)),
            ("1.2.3.4", "1.2.3.4/33", Err(Cause::Text)),
            ("1.2.3.4", "1.2.3.4/+8", Err(Cause::Text)),
            ("invalid", "1.2.0.0/16", Err(Cause::Text)),
        ] {
            assert_eq!(is_in(address, network), held, "{address} {network}");
        }
    }

    #[test]
    fn a_query_without_a_match_has_no_groups() {
        assert!(OF_A_QUERY.iter().all(|function| function.name != "group"));
        assert_eq!(OF_A_MATCH.len(), OF_A_QUERY.len() + 1);
    }
}
