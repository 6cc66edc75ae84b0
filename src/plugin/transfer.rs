//! # transfer
//!
//! Hands out whole zones (AXFR, RFC 5936), and tells secondaries when they change (NOTIFY, RFC 1996).
//!
//! ## Syntax
//!
//! ```corefile
//! transfer [ZONES...] {
//!     to ADDRESS...
//!     source ADDRESS
//! }
//! ```
//!
//! * **ZONES**: the zones that may be transferred, by default the block's. Of several `transfer`
//!   directives in a block the one with the longest zone counts. The zone itself comes from a plugin
//!   below in the same block that has one of that very name.
//! * `to`: who may have them: addresses, with or without a port, or `*` for everybody. Each address,
//!   but not `*`, is sent a NOTIFY at the start and when a zone's serial changes, up to three times
//!   until it accepts it. Required; may be given more than once.
//! * `source`: the address that NOTIFYs are sent from.
//!
//! A query of type AXFR or IXFR that comes in a datagram is REFUSED, and so is one from who is not
//! listed. An IXFR is answered with the SOA record if the client's serial is as new as ours, else with
//! the whole zone. A transfer goes on with the zone that it began with, whatever is loaded meanwhile,
//! as fast as its client takes it. Where the query was signed (`tsig`), every message is.
//!
//! ## Examples
//!
//! ```corefile
//! example.org {
//!     file db.example.org
//!     transfer {
//!         to *
//!         to 192.0.2.53 [2001:db8::53]:5353
//!     }
//! }
//! ```
//!
//! ## Differences from CoreDNS
//!
//! * A client whose serial is newer than ours gets the SOA record alone as well (RFC 1995 section 2).
//! * When a Corefile is loaded again NOTIFYs are sent as at the start; a zone that was loaded again
//!   with the serial that it had is not told of: it is the same for a secondary.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use super::outgoing::{Cursor, Envelope, Offer, Outgoing, Transferer};
use super::{Compiled, CorefileError, Cx, Directive, Event, Lines, Plugin};
use super::{SetupError, Sink, Site, Step, registry};
use crate::control::corefile::Token;
use crate::wire::{
    Name, NameBuf, Record, Section, Suffixes, opcode, rclass, rcode, records, rtype,
};

const OPTIONS: &[&str] = &["to", "source"];
/// The port of a secondary whose port is not said.
const PORT: u16 = 53;
/// How often a NOTIFY is sent to one secondary.
const NOTIFIES_MAX: usize = 3;
/// How long its reply is waited for.
const NOTIFY_WAIT: Duration = Duration::from_secs(2);

/// The directive: all its uses in a block.
pub struct Transfer {
    rules: Vec<Rule>,
}

/// One use of it.
#[derive(Clone, Debug)]
struct Rule {
    zones: Vec<NameBuf>,
    anyone: bool,
    to: Vec<SocketAddr>,
    source: Option<IpAddr>,
}

impl Rule {
    fn allows(&self, client: IpAddr) -> bool {
        self.anyone || self.to.iter().any(|to| to.ip().to_canonical() == client)
    }
}

/// An address with or without a port.
fn host_port(lines: &Lines<'_>, token: &Token) -> Result<SocketAddr, CorefileError> {
    let text = &token.text;
    let parsed = text.parse().or_else(|_| text.parse().map(|ip| SocketAddr::new(ip, PORT)));
    parsed.map_err(|_| lines.err(token, format!("must specify an IP address: `{text}'")))
}

impl Directive for Transfer {
    const NAME: &'static str = "transfer";

    fn parse(lines: &Lines<'_>) -> Result<Self, CorefileError> {
        let mut rules = Vec::new();
        for stanza in lines.stanzas() {
            let zones = lines.zones_of(&stanza.args);
            let mut rule = Rule { zones, anyone: false, to: Vec::new(), source: None };
            for option in &stanza.options {
                match option.name.text.as_str() {
                    "to" => {
                        for host in lines.some_args(option)? {
                            match host.text.as_str() {
                                "*" => rule.anyone = true,
                                _ => rule.to.push(host_port(lines, host)?),
                            }
                        }
                    }
                    "source" => {
                        let address = lines.one_arg(option)?;
                        if rule.source.is_some() {
                            return Err(lines.parse_err(&option.name, "source already specified"));
                        }
                        let bad = format!("invalid source address {:?}", address.text);
                        let parsed = address.text.parse();
                        rule.source = Some(parsed.map_err(|_| lines.parse_err(address, bad))?);
                    }
                    word => {
                        let unknown = format!("unknown property {word:?}");
                        let fault = lines.parse_err(&option.name, unknown);
                        return Err(fault.suggesting(word, OPTIONS));
                    }
                }
            }
            if !rule.anyone && rule.to.is_empty() {
                return Err(lines.parse_err(&stanza.last, "'to' is required"));
            }
            rules.push(rule);
        }
        Ok(Self { rules })
    }

    fn compile(self, site: &mut Site<'_>) -> Result<Compiled, SetupError> {
        let zones = self.rules.into_iter().flat_map(|rule| {
            let rule = Arc::new(rule);
            let zones = rule.zones.clone();
            zones.into_iter().map(move |zone| (zone, Arc::clone(&rule)))
        });
        let rules = Arc::new(Suffixes::new(zones));
        site.spawn(tell_changes(Arc::clone(&rules), site.transferers()));
        let sink = site.sink(Told);
        Ok(Compiled::link(Link { rules, sink }))
    }
}

/// The zone of a transfer that goes on: what its walk carries.
struct Sending(Arc<dyn Outgoing>);

/// The link. It holds none of those below it: a transfer that goes on keeps its zone alone.
pub struct Link {
    rules: Arc<Suffixes<Arc<Rule>>>,
    sink: u32,
}

/// How far a transfer has come.
#[derive(Clone, Copy)]
pub struct Sent {
    cursor: Cursor,
    records: u32,
}

impl Plugin for Link {
    type Frame = Sent;
    type Local = ();

    fn local(&self, _core: u16) {}

    fn serve(&self, (): &mut (), cx: &mut Cx<'_>) -> Step<Sent> {
        let question = cx.question();
        if !matches!(question.rtype, rtype::AXFR | rtype::IXFR) {
            return Step::Next;
        }
        if !cx.client().transport.is_stream() {
            cx.fail(rcode::REFUSED, format_args!(""));
            return Step::Up;
        }
        let Some((_, rule)) = self.rules.find(question.lower) else { return Step::Next };
        if !rule.allows(cx.client().ip()) {
            let (_, reply) = cx.answer(false);
            reply.set_rcode(rcode::REFUSED);
            return Step::Up;
        }
        let is_incremental = question.rtype == rtype::IXFR;
        let have = if is_incremental { known_serial(cx.request()) } else { None };
        if is_incremental && have.is_none() {
            cx.fail(rcode::SERVFAIL, format_args!(""));
            return Step::Up;
        }
        let below = cx.block().chain.iter().skip(usize::from(cx.link()) + 1);
        let offers = below.filter_map(registry::Link::transferer);
        let mut offers = offers.map(|source| source.outgoing(cx.question().lower));
        let offer = offers.find(|offer| !matches!(offer, Offer::NotMine));
        match offer {
            None | Some(Offer::NotMine) => Step::Next,
            Some(Offer::NotReady) => {
                cx.fail(rcode::SERVFAIL, format_args!("no SOA"));
                Step::Up
            }
            // A serial of 0 is no serial, as in CoreDNS.
            Some(Offer::Zone(zone)) if have.is_some_and(|have| is_new(have, zone.serial())) => {
                up_to_date(&*zone, cx);
                Step::Up
            }
            Some(Offer::Zone(zone)) => {
                let sent = Sent { cursor: Cursor::default(), records: 0 };
                let step = self.send(&*zone, cx, sent);
                if matches!(step, Step::Send(_)) {
                    cx.carry(Arc::new(Sending(zone)));
                }
                step
            }
        }
    }

    fn resume(&self, (): &mut (), cx: &mut Cx<'_>, sent: Sent) -> Step<Sent> {
        let carried = cx.carried().cloned();
        match carried.as_ref().and_then(|carried| carried.downcast_ref::<Sending>()) {
            Some(Sending(zone)) => self.send(&**zone, cx, sent),
            None => Step::Up,
        }
    }
}

impl Link {
    /// Makes the next message.
    fn send(&self, zone: &dyn Outgoing, cx: &mut Cx<'_>, mut sent: Sent) -> Step<Sent> {
        // Without a large buffer the messages are small, and more.
        cx.enlarge();
        cx.answer(true);
        let room = cx.room();
        let mut message = Envelope::new(&mut cx.level_mut().reply, room);
        let filled = zone.fill(&mut sent.cursor, &mut message);
        sent.records += message.records();
        match filled {
            Ok(false) => Step::Send(sent),
            Ok(true) => {
                self.tell(zone.serial(), sent.records, cx);
                Step::Up
            }
            Err(_) => {
                cx.fail(rcode::SERVFAIL, format_args!("a record has no room in a message"));
                Step::Up
            }
        }
    }

    fn tell(&self, serial: u32, records: u32, cx: &mut Cx<'_>) {
        cx.tell(self.sink, |event, cx| {
            event.push(&serial.to_be_bytes());
            event.push(&records.to_be_bytes());
            event.push(cx.question().name.as_bytes());
        });
    }
}

/// The serial in the authority section of an IXFR query (RFC 1995 section 3).
fn known_serial(request: &[u8]) -> Option<u32> {
    let authority = |record: &Record| record.section == Section::Authority;
    let soa = records(request).ok()?.flatten().find(authority)?;
    let serial = soa.rdata(request).rchunks_exact(4).nth(4)?;
    (soa.rtype == rtype::SOA)
        .then(|| u32::from_be_bytes([serial[0], serial[1], serial[2], serial[3]]))
}

/// Whether `have` is as new as `ours` (RFC 1982); 0 is no serial.
fn is_new(have: u32, ours: u32) -> bool {
    have != 0 && have.wrapping_sub(ours) < 1 << 31
}

/// Answers with the SOA record alone.
fn up_to_date(zone: &dyn Outgoing, cx: &mut Cx<'_>) {
    cx.answer(false);
    let room = cx.room();
    // A SOA record fits behind any question.
    let _ = zone.soa(&mut Envelope::new(&mut cx.level_mut().reply, room));
}

/// Writes the log line of a transfer that was sent.
struct Told;

impl Sink for Told {
    fn take(&mut self, event: &Event) {
        let bytes = event.bytes();
        let Some((head, zone)) = bytes.split_first_chunk::<8>() else { return };
        let [s1, s2, s3, s4, r1, r2, r3, r4] = *head;
        let serial = u32::from_be_bytes([s1, s2, s3, s4]);
        let records = u32::from_be_bytes([r1, r2, r3, r4]);
        let zone = Name::from_wire(zone).map_or(Name::ROOT, |(zone, _)| zone).to_string();
        let client = event.client.ip();
        tracing::info!(
            target: "plugin/transfer",
            "Outgoing transfer of {records} records of zone {zone:?} to {client} for {serial} \
             SOA serial"
        );
    }
}

/// Sends NOTIFYs: of all zones now, and of those whose serial changes.
async fn tell_changes(rules: Arc<Suffixes<Arc<Rule>>>, sources: Vec<Arc<dyn Transferer>>) {
    let watches = sources.into_iter().filter_map(|source| Some((source.changes()?, source)));
    let tasks = watches.map(|(mut changes, source)| {
        let rules = Arc::clone(&rules);
        async move {
            let mut told: Vec<(NameBuf, u32)> = Vec::new();
            loop {
                let now = source.serials();
                for (zone, _) in now.iter().filter(|one| !told.contains(one)) {
                    if let Some((_, rule)) = rules.find(zone.as_name()) {
                        notify_all(zone, rule).await;
                    }
                }
                told = now;
                if changes.changed().await.is_err() {
                    return;
                }
            }
        }
    });
    let mut running = tokio::task::JoinSet::new();
    tasks.for_each(|task| {
        running.spawn(task);
    });
    while running.join_next().await.is_some() {}
}

async fn notify_all(zone: &NameBuf, rule: &Rule) {
    for to in &rule.to {
        if let Err(why) = notify(zone, *to, rule.source).await {
            tracing::warn!(
                target: "plugin/transfer",
                "Failed sending notifies: notify for zone {:?} was not accepted by {:?}: {why}",
                zone.to_string(),
                to.to_string()
            );
        }
    }
}

/// Tells one secondary, until it accepts it (RFC 1996 section 3.6).
async fn notify(zone: &NameBuf, to: SocketAddr, source: Option<IpAddr>) -> Result<(), String> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let mut why = String::new();
    for _ in 0..NOTIFIES_MAX {
        match notify_once(zone, to, source.unwrap_or(any)).await {
            Ok(rcode::NOERROR) => return Ok(()),
            Ok(code) => why = format!("rcode was {:?}", rcode::text(code).to_string()),
            Err(error) => why = format!("{:?}", error.to_string()),
        }
    }
    Err(why)
}

/// Sends one NOTIFY; the rcode of its reply.
async fn notify_once(zone: &NameBuf, to: SocketAddr, from: IpAddr) -> std::io::Result<u16> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(|error| std::io::Error::other(error.to_string()))?;
    let mut message = vec![id[0], id[1], opcode::NOTIFY << 3 | 4, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(zone.as_name().as_bytes());
    message.extend_from_slice(&rtype::SOA.to_be_bytes());
    message.extend_from_slice(&rclass::IN.to_be_bytes());
    let socket = UdpSocket::bind((from, 0)).await?;
    socket.connect(to).await?;
    let late = wait_until();
    socket.send(&message).await?;
    let mut reply = [0; 512];
    loop {
        let received = timeout_at(late, socket.recv(&mut reply)).await;
        let len = received.map_err(|_| std::io::Error::other("i/o timeout"))??;
        // The socket is connected: only the secondary can have sent it.
        if len >= 12 && reply[..2] == id && reply[2] & 0x80 != 0 {
            return Ok(u16::from(reply[3] & 15));
        }
    }
}

fn wait_until() -> Instant {
    Instant::now() + NOTIFY_WAIT
}

#[cfg(test)]
mod tests {
    use super::super::parse_block;
    use super::*;

    #[test]
    fn options() {
        let transfer = parse_block::<Transfer>(
            "transfer a.org {\n to 192.0.2.1 [2001:db8::1]:54 2001:db8::2\n source 192.0.2.9\n}\n\
             transfer {\n to *\n}",
        )
        .expect("accepted");
        let to: Vec<_> = transfer.rules[0].to.iter().map(ToString::to_string).collect();
        assert_eq!(to, ["192.0.2.1:53", "[2001:db8::1]:54", "[2001:db8::2]:53"]);
        assert_eq!(transfer.rules[0].source, Some([192, 0, 2, 9].into()));
        let allows = |rule: usize, last| transfer.rules[rule].allows([192, 0, 2, last].into());
        assert!(allows(0, 1) && !allows(0, 2) && allows(1, 2));
        assert_eq!(transfer.rules[1].zones[0].to_string(), "example.org.", "the block's");
    }

    #[test]
    fn faults_in_coredns_words() {
        for (block, words) in [
            ("transfer", "'to' is required"),
            ("transfer {\n to\n}", "Wrong argument count"),
            ("transfer {\n to a.org\n}", "must specify an IP address: `a.org'"),
            ("transfer {\n to *\n source x\n}", "invalid source address \"x\""),
            ("transfer {\n source ::1\n source ::1\n to *\n}", "source already specified"),
            ("transfer {\n from *\n}", "unknown property \"from\""),
        ] {
            let fault = parse_block::<Transfer>(block).map(|_| ()).expect_err(block);
            assert!(fault.contains(words), "{block}: {fault}");
        }
    }

    #[test]
    fn serials_are_compared_on_their_circle() {
        assert!(is_new(7, 7) && is_new(8, 7) && !is_new(6, 7) && !is_new(0, 0));
        assert!(is_new(1, u32::MAX) && !is_new(u32::MAX, 1));
    }
}
