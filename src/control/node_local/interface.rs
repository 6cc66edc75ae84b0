//! The interface of a node's addresses.
//!
//! A TUN device that is not persistent, where the process may open one: the kernel removes it with its
//! addresses when the last descriptor is closed, however a process ends. Where it may not (Kubernetes'
//! own manifest mounts no /dev/net/tun), an interface that lasts, a dummy as that manifest's server has
//! it: it outlives its process, so its addresses are given for [`NODE_LOCAL_LEASE_SECONDS`] at a time,
//! and the kernel removes those that nobody renews. Who holds it holds a Unix socket of its name, which
//! nobody else can have, and which goes to a successor in the place of a device's descriptor.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use super::netlink::{Batch, CREATE, EXCLUSIVE, Netlink, REPLACE, attribute, find, nested, text};
use super::retried;
use crate::limits::NODE_LOCAL_LEASE_SECONDS;
use crate::sys;

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
/// Kinds of interfaces that last and lead nowhere: where the kernel has no dummy, a bridge without ports.
const KINDS: [&str; 2] = ["dummy", "bridge"];
/// Octets of `ifinfomsg`, which stands before a link's attributes.
const LINK_HEAD_BYTES: usize = 16;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
/// IN6_ADDR_GEN_MODE_NONE: the kernel gives the interface no address by itself.
const NO_ADDRESS: u8 = 1;

/// What stands on it, and how it is held.
pub struct Interface {
    name: String,
    held: OwnedFd,
    is_leased: bool,
    /// Whether it is to be removed with this value: nobody goes on with it.
    pub is_ours: bool,
    /// Addresses that were found elsewhere, and are left there.
    elsewhere: Vec<IpAddr>,
}

impl Interface {
    /// Goes on with the one that was inherited, or makes one.
    ///
    /// # Errors
    /// A line for the operator.
    pub async fn take(name: &str, inherited: Option<OwnedFd>) -> Result<Self, String> {
        let new = |held, is_leased, is_ours| Self {
            name: name.to_owned(),
            held,
            is_leased,
            is_ours,
            elsewhere: Vec::new(),
        };
        // One of another name goes with whoever has it.
        if let Some(held) = inherited.filter(|_| sys::interface_index(name).is_ok()) {
            let is_leased = sys::is_socket(held.as_fd());
            return Ok(new(held, is_leased, false));
        }
        let device = retried(&[libc::EBUSY], || sys::open_interface(name)).await;
        let why = match device {
            Ok(held) => return Ok(new(held, false, true)),
            Err(error) if is_no_device(&error) => error,
            Err(error) => return Err(explained(name, &error)),
        };
        let held = retried(&[libc::EADDRINUSE], || claim(name)).await.map_err(|error| {
            let busy = io::Error::from_raw_os_error(libc::EBUSY);
            explained(name, if error.kind() == io::ErrorKind::AddrInUse { &busy } else { &error })
        })?;
        let kind = make_lasting(name).map_err(|error| match error.raw_os_error() {
            Some(libc::EEXIST) => explained(name, &io::Error::from_raw_os_error(libc::EINVAL)),
            _ => explained(name, &why),
        })?;
        tracing::info!(
            "-localip: interface {name} is a {kind}, as there is no TUN device ({why}): after a \
             crash its addresses go within {NODE_LOCAL_LEASE_SECONDS} s"
        );
        Ok(new(held, true, true))
    }

    /// What a successor goes on with.
    pub fn held(&self) -> &OwnedFd {
        &self.held
    }

    /// Whether its addresses go if nobody renews them.
    pub fn is_leased(&self) -> bool {
        self.is_leased
    }

    /// Whether an address was found on another interface.
    pub fn is_incomplete(&self) -> bool {
        !self.elsewhere.is_empty()
    }

    /// Gives it the addresses that it lacks, and renews those that go otherwise; tells which it lacked.
    /// One that another interface has is left there, since it can be served all the same.
    ///
    /// # Errors
    /// The kernel's.
    pub fn ensure(&mut self, addresses: &[IpAddr]) -> io::Result<Vec<IpAddr>> {
        if sys::interface_index(&self.name).is_err() {
            match self.is_leased {
                true => drop(make_lasting(&self.name)?),
                false => self.held = sys::open_interface(&self.name)?,
            }
        }
        let index = sys::interface_index(&self.name)?;
        let netlink = Netlink::open(libc::NETLINK_ROUTE)?;
        let mode = attribute(IFLA_INET6_ADDR_GEN_MODE, &[NO_ADDRESS]);
        let mode = nested(IFLA_AF_SPEC, &[nested(libc::AF_INET6 as u16, &[mode])]);
        let mut batch = Batch::default();
        batch.add(NEW_LINK, 0, &link_head(index, 0), &mode);
        // Fails where there is no IPv6: then there is no such address either.
        let _ = netlink.run(&batch);
        let mut batch = Batch::default();
        batch.add(NEW_LINK, 0, &link_head(index, libc::IFF_UP as u32), &[]);
        netlink.run(&batch)?;
        let there = self.addresses();
        let mut lacked = Vec::new();
        for address in addresses {
            if there.contains(address) {
                if self.is_leased {
                    change(&netlink, index, *address, Some(self.is_leased))?;
                }
                continue;
            }
            if let Some(holder) = sys::interface_with(*address)? {
                if !self.elsewhere.contains(address) {
                    self.elsewhere.push(*address);
                    tracing::error!(
                        "-localip: {address} is on interface {holder} already, and served there: \
                         stop what has put it there, remove it (ip address del {address} dev \
                         {holder}), or leave it out"
                    );
                }
                continue;
            }
            change(&netlink, index, *address, Some(self.is_leased))
                .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))?;
            self.elsewhere.retain(|other| other != address);
            lacked.push(*address);
        }
        Ok(lacked)
    }

    /// Its addresses.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let there = sys::addresses_of(&self.name).unwrap_or_default();
        there.iter().map(std::net::SocketAddr::ip).collect()
    }

    /// Takes an address off.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove(&self, address: IpAddr) -> io::Result<()> {
        let index = sys::interface_index(&self.name)?;
        change(&Netlink::open(libc::NETLINK_ROUTE)?, index, address, None)
    }
}

impl Drop for Interface {
    fn drop(&mut self) {
        // The kernel does as much for a device.
        if self.is_ours && self.is_leased {
            let done = sys::interface_index(&self.name).and_then(|index| {
                let mut batch = Batch::default();
                batch.add(DELETE_LINK, 0, &link_head(index, 0), &[]);
                Netlink::open(libc::NETLINK_ROUTE)?.run(&batch)
            });
            if let Err(error) = done {
                tracing::error!("-localip: interface {} stays: {error}", self.name);
            }
        }
    }
}

/// Whether it says that there is no TUN device for this process: not there, not allowed, or the name is
/// that of another kind of interface.
fn is_no_device(error: &io::Error) -> bool {
    let codes = [libc::ENOENT, libc::ENODEV, libc::ENXIO, libc::EPERM, libc::EACCES, libc::EINVAL];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// Holds an interface that no descriptor holds. A name of this kind belongs to the network namespace.
fn claim(name: &str) -> io::Result<OwnedFd> {
    let address = SocketAddr::from_abstract_name(format!("corelane.{name}"))?;
    Ok(UnixDatagram::bind_addr(&address)?.into())
}

/// Makes an interface that leads nowhere, or finds one; tells its kind.
///
/// # Errors
/// `AlreadyExists`: there is one of another kind.
fn make_lasting(name: &str) -> io::Result<&'static str> {
    let netlink = Netlink::open(libc::NETLINK_ROUTE)?;
    if let Ok(index) = sys::interface_index(name) {
        let found = kind(&netlink, index)?;
        let known = KINDS.iter().find(|kind| found.strip_suffix(b"\0") == Some(kind.as_bytes()));
        return known.copied().ok_or_else(|| io::Error::from_raw_os_error(libc::EEXIST));
    }
    let make = |kind: &'static str| {
        let mut batch = Batch::default();
        let info = nested(IFLA_LINKINFO, &[text(IFLA_INFO_KIND, kind)]);
        let attributes = [text(IFLA_IFNAME, name), info].concat();
        batch.add(NEW_LINK, CREATE | EXCLUSIVE, &[0; LINK_HEAD_BYTES], &attributes);
        netlink.run(&batch).map(|()| kind)
    };
    let [first, second] = KINDS;
    make(first).or_else(|error| match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => make(second),
        _ => Err(error),
    })
}

/// The kind of an interface, as the kernel names it; empty for one that has none.
fn kind(netlink: &Netlink, index: u32) -> io::Result<Vec<u8>> {
    let mut batch = Batch::default();
    batch.add(GET_LINK, 0, &link_head(index, 0), &[]);
    let said = netlink.ask(&batch)?;
    let link = said.iter().find_map(|body| find(body.get(LINK_HEAD_BYTES..)?, IFLA_LINKINFO));
    Ok(link.and_then(|info| find(info, IFLA_INFO_KIND)).unwrap_or_default().to_vec())
}

/// `ifinfomsg`: which interface, and the flags that are to be set.
fn link_head(index: u32, flags: u32) -> Vec<u8> {
    [[0; 4], index.to_ne_bytes(), flags.to_ne_bytes(), flags.to_ne_bytes()].concat()
}

/// Gives an interface an address, for a while or for good, or takes it off.
fn change(netlink: &Netlink, index: u32, address: IpAddr, leased: Option<bool>) -> io::Result<()> {
    let (family, octets) = match address {
        IpAddr::V4(ip) => (libc::AF_INET, ip.octets().to_vec()),
        IpAddr::V6(ip) => (libc::AF_INET6, ip.octets().to_vec()),
    };
    // The whole address, no flags, valid everywhere; no route to others, no probing for a double.
    let mut head = vec![family as u8, 8 * octets.len() as u8, 0, 0];
    head.extend(index.to_ne_bytes());
    let flags = libc::IFA_F_NOPREFIXROUTE | libc::IFA_F_NODAD;
    let mut attributes = vec![
        attribute(libc::IFA_LOCAL, &octets),
        attribute(libc::IFA_ADDRESS, &octets),
        attribute(libc::IFA_FLAGS, &flags.to_ne_bytes()),
    ];
    let mut batch = Batch::default();
    let Some(leased) = leased else {
        batch.add(DELETE_ADDRESS, 0, &head, &attributes.concat());
        return netlink.run(&batch);
    };
    if leased {
        // `ifa_cacheinfo`: how long it is preferred, and valid; the rest is the kernel's.
        let seconds = (NODE_LOCAL_LEASE_SECONDS as u32).to_ne_bytes();
        let times = [seconds, seconds, [0; 4], [0; 4]].concat();
        attributes.push(attribute(libc::IFA_CACHEINFO, &times));
    }
    batch.add(NEW_ADDRESS, CREATE | REPLACE, &head, &attributes.concat());
    netlink.run(&batch)
}

fn explained(name: &str, error: &io::Error) -> String {
    let remedy = match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
            "mount the node's /dev/net/tun into the container, or load the module tun or dummy"
        }
        Some(libc::EBUSY) => {
            "another process holds it: stop that, or give both the same -hand-over directory"
        }
        Some(libc::EPERM | libc::EACCES) => {
            "the container runtime forbids /dev/net/tun (runc 1.2.0 to 1.2.3 do), and there is no \
             dummy interface either: load the module dummy"
        }
        Some(libc::EINVAL) => "another interface has this name: choose one by -interfacename",
        _ => "say -setupinterface=false and give the addresses to an interface yourself",
    };
    format!("-localip: interface {name}: {error}: {remedy}")
}
