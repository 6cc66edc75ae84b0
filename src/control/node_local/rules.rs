//! The table of rules that keep a node's DNS out of connection tracking.
//!
//! One table of the family `inet`, owned by the socket that makes it: nobody else may change it, a
//! `flush ruleset` leaves it alone, and the kernel removes it when the last descriptor of that socket is
//! closed, however a process ends (Linux 5.12). It is changed in one transaction: there is no moment
//! without rules.
//!
//! What comes for the addresses (`prerouting`) and what this node sends to them or from them (`output`)
//! is not tracked: DNS, and what probes ask of the health port. A query to the address of a Service is
//! then not redirected either, and reaches the server of the node.

use std::io;
use std::net::IpAddr;

use super::netlink::{APPEND, Batch, CREATE, Netlink, attribute, find, nested, number, text};

/// The name of the table.
pub const TABLE: &str = "corelane_node_local";

const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NFTABLES: u16 = 10;
const NEW_TABLE: u16 = NFTABLES << 8;
const GET_TABLE: u16 = NFTABLES << 8 | 1;
const DELETE_TABLE: u16 = NFTABLES << 8 | 2;
const NEW_CHAIN: u16 = NFTABLES << 8 | 3;
const NEW_RULE: u16 = NFTABLES << 8 | 6;
const DELETE_RULE: u16 = NFTABLES << 8 | 8;
/// NFT_TABLE_F_OWNER.
const OWNER: u32 = 2;
/// NFPROTO_INET, version 0, no resource.
const INET: [u8; 4] = [1, 0, 0, 0];
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Where a packet is looked at: the name of the chain, and the kernel's number of the hook.
const PREROUTING: (&str, u32) = ("prerouting", 0);
const OUTPUT: (&str, u32) = ("output", 3);
/// Before connection tracking.
const RAW: i32 = -300;

/// Which end of a packet is ours.
#[derive(Clone, Copy)]
enum End {
    Source,
    Destination,
}

/// Makes the table what is wanted, whatever it was.
///
/// # Errors
/// The kernel's: see [`super::explained`].
pub fn set(netlink: &Netlink, addresses: &[IpAddr], port: u16, health: u16) -> io::Result<()> {
    netlink.run(&transaction(false, addresses, port, health))
}

/// As `set`, in the place of a table that is not ours.
///
/// # Errors
/// As `set`.
pub fn replace(netlink: &Netlink, addresses: &[IpAddr], port: u16, health: u16) -> io::Result<()> {
    netlink.run(&transaction(true, addresses, port, health))
}

/// Whether there is such a table that no process owns: one that was saved and restored.
pub fn is_ownerless(netlink: &Netlink) -> bool {
    let mut batch = Batch::default();
    batch.add(GET_TABLE, 0, &INET, &text(1, TABLE));
    let said = netlink.ask(&batch).unwrap_or_default();
    let flags = said.first().and_then(|body| find(body.get(INET.len()..)?, 2));
    let flags = flags.and_then(|flags| flags.try_into().ok()).map(u32::from_be_bytes);
    flags.is_some_and(|flags| flags & OWNER == 0)
}

fn transaction(anew: bool, addresses: &[IpAddr], port: u16, health: u16) -> Batch {
    let mut batch = Batch::default();
    let whole = [0, 0, 0, NFTABLES as u8];
    batch.frame(BATCH_BEGIN, &whole);
    if anew {
        batch.add(DELETE_TABLE, 0, &INET, &text(1, TABLE));
    }
    batch.add(NEW_TABLE, CREATE, &INET, &[text(1, TABLE), number(2, OWNER)].concat());
    for (name, hook) in [PREROUTING, OUTPUT] {
        let hook = nested(4, &[number(1, hook), number(2, RAW as u32)]);
        let chain = [text(1, TABLE), text(3, name), hook, text(7, "filter")];
        batch.add(NEW_CHAIN, CREATE, &INET, &chain.concat());
    }
    batch.add(DELETE_RULE, 0, &INET, &text(1, TABLE));
    let mut add = |chain: (&str, u32), expressions: Vec<Vec<u8>>| {
        let rule = [text(1, TABLE), text(2, chain.0), nested(4, &expressions)];
        batch.add(NEW_RULE, CREATE | APPEND, &INET, &rule.concat());
    };
    for address in addresses {
        for protocol in [UDP, TCP] {
            add(PREROUTING, untracked(*address, End::Destination, protocol, port));
            add(OUTPUT, untracked(*address, End::Destination, protocol, port));
            add(OUTPUT, untracked(*address, End::Source, protocol, port));
        }
        add(OUTPUT, untracked(*address, End::Destination, TCP, health));
        add(OUTPUT, untracked(*address, End::Source, TCP, health));
    }
    batch.frame(BATCH_END, &whole);
    batch
}

/// A rule: what has this address and port at this end is counted, and not tracked.
fn untracked(address: IpAddr, end: End, protocol: u8, port: u16) -> Vec<Vec<u8>> {
    let (family, octets, at) = match (address, end) {
        (IpAddr::V4(ip), End::Source) => (2, ip.octets().to_vec(), 12),
        (IpAddr::V4(ip), End::Destination) => (2, ip.octets().to_vec(), 16),
        (IpAddr::V6(ip), End::Source) => (10, ip.octets().to_vec(), 8),
        (IpAddr::V6(ip), End::Destination) => (10, ip.octets().to_vec(), 24),
    };
    let port_at = match end {
        End::Source => 0,
        End::Destination => 2,
    };
    let (network, transport) = (1, 2);
    vec![
        meta(15),
        equals(&[family]),
        payload(network, at, octets.len() as u32),
        equals(&octets),
        meta(16),
        equals(&[protocol]),
        payload(transport, port_at, 2),
        equals(&port.to_be_bytes()),
        expression("counter", Some(&[])),
        expression("notrack", None),
    ]
}

fn expression(name: &str, data: Option<&[Vec<u8>]>) -> Vec<u8> {
    let data = data.map(|data| nested(2, data)).unwrap_or_default();
    nested(1, &[text(1, name), data])
}

/// Loads what the kernel knows of a packet: 15 the family of its addresses, 16 its protocol.
fn meta(key: u32) -> Vec<u8> {
    expression("meta", Some(&[number(1, 1), number(2, key)]))
}

/// Loads octets of a packet's header.
fn payload(base: u32, offset: u32, len: u32) -> Vec<u8> {
    let data = [number(1, 1), number(2, base), number(3, offset), number(4, len)];
    expression("payload", Some(&data))
}

/// Goes on with the rule if what was loaded is this.
fn equals(value: &[u8]) -> Vec<u8> {
    let data = nested(3, &[attribute(1, value)]);
    expression("cmp", Some(&[number(1, 1), number(2, 0), data]))
}
