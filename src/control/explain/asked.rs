//! A question and how it is asked: as the command line says it, and as octets.
//!
//! Without an option that needs EDNS it is asked without, as the C libraries do by default.
//!
//! RFC 1035 section 4.1, RFC 6891 section 6.1, RFC 3225 (DO), RFC 5001 (NSID), RFC 7871 section 6
//! (the client's network).

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use super::super::args::Explain;
use crate::data::chain::Transport;
use crate::limits::EXPLAIN_BUFSIZE_BYTES;
use crate::wire::{Flags, HEADER_BYTES, NameBuf, OptView, Rtype, edns, rclass, rtype};

/// The port of a client that names none.
const CLIENT_PORT: u16 = 40_000;

/// A question, and how it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The name, as it is written.
    pub name: NameBuf,
    /// The type.
    pub rtype: Rtype,
    /// Who asks.
    pub from: SocketAddr,
    /// Where; none: at the first listener.
    pub at: Option<SocketAddr>,
    /// How.
    pub transport: Transport,
    /// Whether CD is set: the client checks signatures itself.
    pub cd: bool,
    /// What stands in OPT; none: there is no such record.
    pub edns: Option<Edns>,
}

/// What a client says by EDNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edns {
    /// The octets of a datagram that it takes.
    pub bufsize: u16,
    /// Whether it wants DNSSEC records.
    pub dnssec: bool,
    /// Whether it asks for the server's name.
    pub nsid: bool,
    /// The network for which it asks.
    pub subnet: Option<Subnet>,
}

impl Default for Edns {
    fn default() -> Self {
        Self { bufsize: EXPLAIN_BUFSIZE_BYTES, dnssec: false, nsid: false, subnet: None }
    }
}

/// A network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    address: IpAddr,
    bits: u8,
}

impl FromStr for Subnet {
    type Err = String;

    /// `ADDRESS/BITS`, or an address alone.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text}: not a network, such as 192.0.2.0/24");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), str::parse).map_err(|_| wrong())?;
        if bits > most { Err(wrong()) } else { Ok(Self { address, bits }) }
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl Subnet {
    /// The data of the option: only the octets that count, bits beyond them zero (RFC 7871
    /// section 6).
    fn octets(self) -> Vec<u8> {
        let (family, mut octets) = match self.address {
            IpAddr::V4(ip) => (1, ip.octets().to_vec()),
            IpAddr::V6(ip) => (2, ip.octets().to_vec()),
        };
        octets.truncate(usize::from(self.bits).div_ceil(8));
        if let (Some(last), rest @ 1..) = (octets.last_mut(), self.bits % 8) {
            *last &= 0xff << (8 - rest);
        }
        [&[0, family, self.bits, 0], &octets[..]].concat()
    }
}

impl Edns {
    /// The OPT record.
    fn push(&self, message: &mut Vec<u8>) {
        let mut options = Vec::new();
        let mut option = |code: u16, data: &[u8]| {
            options.extend_from_slice(&code.to_be_bytes());
            options.extend_from_slice(&(data.len() as u16).to_be_bytes());
            options.extend_from_slice(data);
        };
        if self.nsid {
            option(edns::NSID, &[]);
        }
        if let Some(subnet) = self.subnet {
            option(edns::SUBNET, &subnet.octets());
        }
        let flags = if self.dnssec { OptView::DO } else { 0 };
        message.push(0);
        for number in [rtype::OPT, self.bufsize, 0, flags, options.len() as u16] {
            message.extend_from_slice(&number.to_be_bytes());
        }
        message.extend_from_slice(&options);
    }
}

impl Asked {
    /// What the command line asks for.
    ///
    /// # Errors
    /// One line: a word is not what it should be.
    pub fn new(wanted: &Explain) -> Result<Self, String> {
        let name = NameBuf::parse(&wanted.name);
        let name = name.map_err(|error| format!("{}: not a name: {error}", wanted.name))?;
        let kind = wanted.rtype.as_deref().unwrap_or("A");
        let rtype = rtype::parse(kind).ok_or_else(|| format!("{kind}: not a type"))?;
        let from = client(wanted.from.as_deref().unwrap_or("127.0.0.1"))?;
        let at = wanted.at.as_deref().map(address).transpose()?;
        let transport = if wanted.tcp { Transport::Tcp } else { Transport::Udp };
        let subnet = wanted.subnet.as_deref().map(str::parse).transpose()?;
        let is_edns = wanted.dnssec || wanted.nsid || wanted.bufsize.is_some() || subnet.is_some();
        let edns = is_edns.then(|| Edns {
            bufsize: wanted.bufsize.unwrap_or(EXPLAIN_BUFSIZE_BYTES),
            dnssec: wanted.dnssec,
            nsid: wanted.nsid,
            subnet,
        });
        Ok(Self { name, rtype, from, at, transport, cd: wanted.cd, edns })
    }

    /// The query.
    pub fn message(&self) -> Vec<u8> {
        let mut message = query(&self.name, self.rtype);
        let flags = Flags::default().with_rd(true).with_cd(self.cd);
        message[2..4].copy_from_slice(&flags.0.to_be_bytes());
        if let Some(edns) = &self.edns {
            message[HEADER_BYTES - 1] = 1;
            edns.push(&mut message);
        }
        message
    }
}

/// `ADDRESS` or `ADDRESS:PORT` of a client.
///
/// # Errors
/// One line: it is neither.
pub fn client(text: &str) -> Result<SocketAddr, String> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let alone = bare.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, CLIENT_PORT));
    alone.or_else(|_| text.parse()).map_err(|_| format!("{text}: not an IP address"))
}

/// `:PORT` or `ADDRESS:PORT` of a listener.
///
/// # Errors
/// One line: it is neither.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let whole = if text.starts_with(':') { format!("[::]{text}") } else { text.to_owned() };
    whole.parse().map_err(|_| format!("{text}: not :PORT or ADDRESS:PORT"))
}

/// A query as a resolver in a pod sends it: recursion desired, no EDNS.
pub fn query(name: &NameBuf, rtype: Rtype) -> Vec<u8> {
    let mut message = vec![0; HEADER_BYTES];
    message[2..4].copy_from_slice(&Flags::default().with_rd(true).0.to_be_bytes());
    message[5] = 1;
    message.extend_from_slice(name.as_name().as_bytes());
    message.extend_from_slice(&rtype.to_be_bytes());
    message.extend_from_slice(&rclass::IN.to_be_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{options, parse_query};

    #[test]
    fn options_stand_in_the_message_as_they_are_said() {
        let edns = Edns {
            bufsize: 4_096,
            dnssec: true,
            nsid: true,
            subnet: Some("192.0.2.255/20".parse().expect("a network")),
        };
        let from = client("192.0.2.1").expect("an address");
        let name = NameBuf::parse("a.test").expect("a name");
        let (rtype, transport) = (rtype::A, Transport::Udp);
        let mut asked = Asked { name, rtype, from, at: None, transport, cd: true, edns: None };
        let view = parse_query(&asked.message()).expect("a query");
        assert!(view.opt.is_none() && view.flags.cd() && view.flags.rd());
        asked.edns = Some(edns);
        let message = asked.message();
        let view = parse_query(&message).expect("a query");
        let opt = view.opt.expect("an OPT record");
        assert_eq!((opt.udp_size, opt.dnssec_ok(), opt.version), (4_096, true, 0));
        let all: Vec<(u16, &[u8])> = options(opt.options(&message)).collect();
        // Bits beyond the prefix are zero.
        let network: &[u8] = &[0, 1, 20, 0, 192, 0, 0];
        assert_eq!(all, [(edns::NSID, &[][..]), (edns::SUBNET, network)]);
        assert_eq!(usize::from(view.end), message.len());
    }

    #[test]
    fn networks_are_read_with_care() {
        for (text, octets) in [
            ("192.0.2.1", &[0, 1, 32, 0, 192, 0, 2, 1][..]),
            ("0.0.0.0/0", &[0, 1, 0, 0]),
            ("2001:db8::/33", &[0, 2, 33, 0, 0x20, 1, 0xd, 0xb8, 0]),
        ] {
            assert_eq!(text.parse::<Subnet>().expect(text).octets(), octets, "{text}");
        }
        for text in ["192.0.2.0/33", "2001:db8::/129", "a.test/8", "192.0.2.0/", "/8", ""] {
            assert!(text.parse::<Subnet>().is_err(), "{text}");
        }
    }
}
