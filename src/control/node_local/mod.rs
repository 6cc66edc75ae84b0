//! Node-local mode: a cache on each node, asked at addresses that only the node has.
//!
//! `-localip` names them: a link-local one and, where the node's proxy works by rules (iptables,
//! nftables), the address of the cluster's DNS Service, which the node's pods ask already. They stand
//! on an interface of our own, and packets to and from them are not tracked ([`rules`]). Both hang on a
//! descriptor of the process, and are the kernel's to remove when it ends, crashes included; a
//! successor is handed the descriptors, and rules and addresses stay without a gap.
//!
//! The addresses come just before sockets are bound, when all else is ready: until then whoever asks
//! is served by the Service. The flags are those of Kubernetes' node-local DNS cache, as is what is
//! replaced in its Corefile; two of its duties fall away, since nothing is left behind and nothing has to
//! be looked after.

pub mod netlink;
pub mod rules;

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::admin::split_host_port;
use super::hand_over::{Held, Inherited};
use crate::limits::NODE_LOCAL_SECONDS_MAX;
use crate::sys;
use netlink::{Batch, CREATE, EXCLUSIVE, Netlink, attribute};

const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;

/// What the flags say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The addresses, at least one.
    pub addresses: Vec<IpAddr>,
    /// The interface that they stand on.
    pub interface: String,
    /// Whether it is ours to make.
    pub makes_interface: bool,
    /// Whether rules are ours to make.
    pub makes_rules: bool,
    /// DNS's port.
    pub port: u16,
    /// Where `health` is asked by probes.
    pub health_port: u16,
    /// The Service of the cluster's DNS beside the one whose address is taken.
    pub upstream: String,
    /// The Corefile with words to replace, if it is there.
    pub base: PathBuf,
}

impl Wanted {
    /// Whether an address (`HOST:PORT`) can be listened on only once ours are there.
    pub fn makes(&self, address: &str) -> bool {
        let host = split_host_port(address).ok().and_then(|(host, _)| host.parse().ok());
        self.makes_interface && host.is_some_and(|host| self.addresses.contains(&host))
    }
}

/// Reads `-localip`.
///
/// # Errors
/// The first that is no address.
pub fn addresses(list: &str) -> Result<Vec<IpAddr>, String> {
    let one = |text: &str| {
        text.trim().parse().map_err(|_| format!("invalid localip specified - {text:?}"))
    };
    list.split(',').map(one).collect()
}

/// A node's Corefile with its words replaced. `env`: the environment.
pub fn replaced(text: &str, wanted: &Wanted, env: impl Fn(&str) -> Option<String>) -> String {
    let addresses: Vec<String> = wanted.addresses.iter().map(IpAddr::to_string).collect();
    let name = wanted.upstream.replace('-', "_").to_uppercase() + "_SERVICE_HOST";
    let mut text = text
        .replace("__PILLAR__UPSTREAM__SERVERS__", "/etc/resolv.conf")
        .replace("__PILLAR__LOCAL__DNS__", &addresses.join(" "))
        .replace("__PILLAR__DNS__SERVER__", "");
    match env(&name).filter(|address| !address.is_empty()) {
        Some(upstream) => text = text.replace("__PILLAR__CLUSTER__DNS__", &upstream),
        None if text.contains("__PILLAR__CLUSTER__DNS__") => tracing::error!(
            "-upstreamsvc: no {name} in the environment: the Service {} has to be there before \
             the pod",
            wanted.upstream
        ),
        None => {}
    }
    text
}

/// What the process has of the node.
pub struct NodeLocal {
    wanted: Wanted,
    interface: Option<OwnedFd>,
    rules: Option<Netlink>,
}

impl NodeLocal {
    /// Makes the interface, its addresses and the rules, or goes on with those that were inherited:
    /// adds what they lack, and takes nothing away yet. `None`: it is not wanted.
    ///
    /// # Errors
    /// What is missing, and its remedy.
    pub async fn raise(
        wanted: Option<Wanted>,
        inherited: &mut Inherited,
    ) -> Result<Option<Self>, String> {
        let Some(wanted) = wanted else { return Ok(None) };
        if !sys::may_administer_network() {
            return Err("-localip: this process lacks CAP_NET_ADMIN: \
                        add NET_ADMIN to the container's capabilities, and run it as root"
                .to_owned());
        }
        let mut this = Self { wanted, interface: None, rules: None };
        if this.wanted.makes_interface {
            let name = &this.wanted.interface;
            this.interface = Some(match inherited.interface.take() {
                Some(interface) => interface,
                None => retried(|| sys::open_interface(name))
                    .await
                    .map_err(|error| no_interface(name, &error))?,
            });
            this.add_addresses()?;
        }
        if this.wanted.makes_rules {
            let netlink = match inherited.rules.take() {
                Some(rules) => Netlink::from(rules),
                None => Netlink::open(libc::NETLINK_NETFILTER).map_err(|e| explained(&e))?,
            };
            let all = this.all_addresses();
            retried(|| this.set_rules(&netlink, &all)).await.map_err(|error| explained(&error))?;
            this.rules = Some(netlink);
        }
        Ok(Some(this))
    }

    fn set_rules(&self, netlink: &Netlink, addresses: &[IpAddr]) -> io::Result<()> {
        rules::set(netlink, addresses, self.wanted.port, self.wanted.health_port)
    }

    /// The addresses that stand on the interface, and those that are wanted.
    fn all_addresses(&self) -> Vec<IpAddr> {
        let mut all = self.wanted.addresses.clone();
        if self.interface.is_some() {
            let there = sys::addresses_of(&self.wanted.interface).unwrap_or_default();
            let ours = there.iter().map(|address| address.ip()).filter(|ip| !is_automatic(ip));
            ours.for_each(|ip| all.extend((!all.contains(&ip)).then_some(ip)));
        }
        all
    }

    fn add_addresses(&self) -> Result<(), String> {
        let name = &self.wanted.interface;
        let failed = |error: io::Error| format!("-localip: interface {name}: {error}");
        let index = sys::interface_index(name).map_err(failed)?;
        let netlink = Netlink::open(libc::NETLINK_ROUTE).map_err(failed)?;
        let up = libc::IFF_UP as u32;
        let head = [[0; 4], index.to_ne_bytes(), up.to_ne_bytes(), up.to_ne_bytes()].concat();
        let mut batch = Batch::default();
        batch.add(NEW_LINK, 0, &head, &[]);
        netlink.run(&batch).map_err(failed)?;
        for address in &self.wanted.addresses {
            match sys::interface_with(*address).map_err(failed)? {
                Some(holder) if holder == *name => {}
                Some(holder) => {
                    return Err(format!(
                        "-localip: {address} is on interface {holder} already: stop what holds it, \
                         remove it (ip address del {address} dev {holder}), or say \
                         -setupinterface=false"
                    ));
                }
                None => change(&netlink, index, *address, true).map_err(failed)?,
            }
        }
        Ok(())
    }

    /// Takes away what is there and not wanted: called once nobody else serves.
    pub fn settle(&self) {
        let surplus: Vec<IpAddr> = self.all_addresses();
        let surplus = surplus.into_iter().filter(|ip| !self.wanted.addresses.contains(ip));
        for address in surplus {
            let index = sys::interface_index(&self.wanted.interface);
            let netlink = Netlink::open(libc::NETLINK_ROUTE);
            let done = index.and_then(|index| change(&netlink?, index, address, false));
            if let Err(error) = done {
                tracing::error!("-localip: {address} stays: {error}");
            }
        }
        if let Some(netlink) = &self.rules
            && let Err(error) = self.set_rules(netlink, &self.wanted.addresses)
        {
            tracing::error!("{}", explained(&error));
        }
    }

    /// What a successor goes on with.
    pub fn held(&self) -> Vec<(Held, BorrowedFd<'_>)> {
        let rules = self.rules.as_ref().map(|netlink| (Held::Rules, netlink.socket().as_fd()));
        let interface = self.interface.as_ref().map(|one| (Held::Interface, one.as_fd()));
        rules.into_iter().chain(interface).collect()
    }
}

/// Whether the kernel gives interfaces such addresses by itself.
fn is_automatic(ip: &IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// Adds an address to an interface, or takes it off.
fn change(netlink: &Netlink, index: u32, address: IpAddr, add: bool) -> io::Result<()> {
    let (family, octets) = match address {
        IpAddr::V4(ip) => (libc::AF_INET, ip.octets().to_vec()),
        IpAddr::V6(ip) => (libc::AF_INET6, ip.octets().to_vec()),
    };
    // The whole address, no flags, valid everywhere; no route to others, no probing for a double.
    let mut head = vec![family as u8, 8 * octets.len() as u8, 0, 0];
    head.extend(index.to_ne_bytes());
    let flags = libc::IFA_F_NOPREFIXROUTE | libc::IFA_F_NODAD;
    let attributes = [
        attribute(libc::IFA_LOCAL, &octets),
        attribute(libc::IFA_ADDRESS, &octets),
        attribute(libc::IFA_FLAGS, &flags.to_ne_bytes()),
    ];
    let mut batch = Batch::default();
    match add {
        true => batch.add(NEW_ADDRESS, CREATE | EXCLUSIVE, &head, &attributes.concat()),
        false => batch.add(DELETE_ADDRESS, 0, &head, &attributes.concat()),
    }
    netlink.run(&batch)
}

/// Tries again while another process, which is about to end, holds it.
async fn retried<T>(mut tried: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let latest = Instant::now() + Duration::from_secs(NODE_LOCAL_SECONDS_MAX);
    loop {
        match tried() {
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EPERM))
                    && Instant::now() < latest =>
            {
                sleep(Duration::from_millis(20)).await;
            }
            done => return done,
        }
    }
}

fn no_interface(name: &str, error: &io::Error) -> String {
    let remedy = match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
            "mount the node's /dev/net/tun into the container, or load the module tun"
        }
        Some(libc::EBUSY) => {
            "another process holds it: stop that, or give both the same -hand-over directory"
        }
        Some(libc::EPERM | libc::EACCES) => {
            "the container runtime forbids /dev/net/tun (runc 1.2.0 to 1.2.3 do)"
        }
        Some(libc::EINVAL) => "another interface has this name: choose one by -interfacename",
        _ => "say -setupinterface=false and give the addresses to an interface yourself",
    };
    format!("-localip: interface {name}: {error}: {remedy}")
}

/// Why there are no rules, and the remedy.
pub fn explained(error: &io::Error) -> String {
    let remedy = match error.raw_os_error() {
        Some(libc::EPERM) => {
            "another process owns the table: stop that, or give both the same -hand-over directory"
        }
        Some(libc::EOPNOTSUPP | libc::EINVAL) => {
            "tables with an owner need Linux 5.12: say -setupiptables=false"
        }
        Some(libc::EPROTONOSUPPORT | libc::ENOENT) => {
            "the kernel is without nf_tables or nft_ct: load them, or say -setupiptables=false"
        }
        _ => "say -setupiptables=false to go without rules",
    };
    format!("-localip: rules of table {}: {error}: {remedy}", rules::TABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Wanted {
        Wanted {
            addresses: addresses("169.254.20.10,10.96.0.10").unwrap(),
            interface: "nodelocaldns".into(),
            makes_interface: true,
            makes_rules: true,
            port: 53,
            health_port: 8080,
            upstream: "kube-dns-upstream".into(),
            base: PathBuf::new(),
        }
    }

    #[test]
    fn words_of_the_corefile_are_replaced() {
        let text = "bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__\n\
                    forward . __PILLAR__CLUSTER__DNS__\nforward . __PILLAR__UPSTREAM__SERVERS__\n";
        let env =
            |name: &str| (name == "KUBE_DNS_UPSTREAM_SERVICE_HOST").then(|| "10.96.7.7".to_owned());
        assert_eq!(
            replaced(text, &wanted(), env),
            "bind 169.254.20.10 10.96.0.10 \nforward . 10.96.7.7\nforward . /etc/resolv.conf\n"
        );
        assert!(replaced(text, &wanted(), |_| None).contains("__PILLAR__CLUSTER__DNS__"));
    }

    #[test]
    fn an_end_point_on_an_address_of_ours_waits_for_it() {
        assert!(wanted().makes("169.254.20.10:8080"));
        assert!(!wanted().makes(":9253") && !wanted().makes("127.0.0.1:8080"));
    }

    #[test]
    fn what_is_no_address_is_named() {
        let error = addresses("169.254.20.10,ten").unwrap_err();
        assert_eq!(error, "invalid localip specified - \"ten\"");
        assert!(addresses("").is_err());
    }
}
