//! Node-local mode: a cache on each node, asked at addresses that only the node has.
//!
//! `-localip` names them: a link-local one and, where the node's proxy works by rules (iptables,
//! nftables), the address of the cluster's DNS Service, which the node's pods ask already. They stand
//! on an [`interface`] of our own, and packets to and from them are not tracked ([`rules`]). Both are the
//! kernel's to remove when the process ends, crashes included; a successor is handed the descriptors,
//! and rules and addresses stay without a gap.
//!
//! The addresses come just before sockets are bound, when all else is ready: until then whoever asks
//! is served by the Service. From then on they are looked at every so often, by a thread of its own, and
//! put back if somebody has taken them away. To serve comes first: where the kernel or another process
//! is in the way of rules, the server says so, serves without, and tries again at every look.
//!
//! The flags are those of Kubernetes' node-local DNS cache ([`flags`]), as is what is replaced in its
//! Corefile ([`corefile`], [`kube_dns`]).

pub mod corefile;
pub mod flags;
pub mod interface;
pub mod kube_dns;
pub mod netlink;
pub mod rules;

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::admin::split_host_port;
use super::hand_over::{Held, Inherited};
use crate::data::tally::{Counter, Family, Tally};
use crate::limits::{NODE_LOCAL_RENEW_SECONDS, NODE_LOCAL_SECONDS_MAX};
use crate::sys;
use interface::Interface;
use netlink::Netlink;

#[allow(clippy::disallowed_types, reason = "control's: held for a few system calls")]
type Locked<T> = std::sync::Mutex<T>;

static SETUP_ERRORS: Family = Family::counter(
    "coredns_nodecache_setup_errors_total",
    &["errortype"],
    "The number of errors during periodic network setup for node-cache",
);

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
    /// The Corefile with words to replace, if there is one.
    pub base: Option<PathBuf>,
    /// The folder of the ConfigMap `kube-dns`, if it is not the usual one.
    pub kube_dns: Option<PathBuf>,
    /// Where metrics are served beside the Corefile's; may be empty.
    pub metrics: String,
    /// What stands for the address of `prometheus` in the Corefile.
    pub prometheus: String,
    /// Between two looks at interface and rules.
    pub looks_every: Duration,
    /// Between two looks at the Corefile, if that does not say.
    pub reloads_every: Option<Duration>,
    /// What to tell of flags that change nothing.
    pub remarks: Vec<&'static str>,
}

impl Wanted {
    /// Whether an address (`HOST:PORT`) can be listened on only once ours are there.
    pub fn makes(&self, address: &str) -> bool {
        let host = split_host_port(address).ok().and_then(|(host, _)| host.parse().ok());
        self.makes_interface && host.is_some_and(|host| self.addresses.contains(&host))
    }
}

/// What the process has of the node.
pub struct NodeLocal {
    kept: Arc<Locked<Kept>>,
    faults: Faults,
    /// Ends when its sender is gone.
    keeper: Option<(Sender<()>, JoinHandle<()>)>,
}

/// What is looked at again and again.
struct Kept {
    wanted: Wanted,
    interface: Option<Interface>,
    rules: Option<Netlink>,
    /// What was told last.
    told: String,
}

/// Counters of what went wrong, under the names that Kubernetes' cache gives them.
#[derive(Clone)]
struct Faults {
    tally: Arc<Tally>,
    rules: Counter,
    interface: Counter,
    config: Counter,
}

impl Faults {
    fn new(tally: &Arc<Tally>) -> Self {
        let counter = |kind| tally.counter(&SETUP_ERRORS, &[kind]);
        Self {
            rules: counter("iptables"),
            interface: counter("interface_check"),
            config: counter("configmap"),
            tally: Arc::clone(tally),
        }
    }
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
        tally: &Arc<Tally>,
    ) -> Result<Option<Self>, String> {
        let Some(wanted) = wanted else { return Ok(None) };
        wanted.remarks.iter().for_each(|line| tracing::info!("{line}"));
        if !sys::may_administer_network() {
            return Err("-localip: this process lacks CAP_NET_ADMIN: \
                        add NET_ADMIN to the container's capabilities"
                .to_owned());
        }
        let faults = Faults::new(tally);
        let mut kept = Kept { wanted, interface: None, rules: None, told: String::new() };
        if kept.wanted.makes_interface {
            let name = &kept.wanted.interface;
            let mut interface = Interface::take(name, inherited.interface.take()).await?;
            interface
                .ensure(&kept.wanted.addresses)
                .map_err(|error| format!("-localip: interface {name}: {error}"))?;
            kept.interface = Some(interface);
        }
        if kept.wanted.makes_rules {
            let given = inherited.rules.take().map(Netlink::from);
            let all = kept.all_addresses();
            let made = retried(&[libc::EPERM], || kept.make_rules(given.as_ref(), &all)).await;
            match made {
                Ok(made) => kept.rules = made.or(given),
                Err(error) => kept.without_rules(&faults, &error),
            }
        }
        Ok(Some(Self { kept: Arc::new(Locked::new(kept)), faults, keeper: None }))
    }

    /// Takes away what is there and not wanted, and looks after the rest from now on: called once
    /// nobody else serves.
    pub fn settle(&mut self) {
        let mut every = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.settle();
            kept.every()
        };
        let (sender, ended) = channel();
        let (kept, faults) = (Arc::clone(&self.kept), self.faults.clone());
        let keeper = std::thread::Builder::new().name("node-local".into()).spawn(move || {
            while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.look(&faults);
                every = kept.every();
            }
        });
        match keeper {
            Ok(keeper) => self.keeper = Some((sender, keeper)),
            Err(error) => tracing::error!("-localip: nobody looks after the addresses: {error}"),
        }
    }

    /// What a successor goes on with.
    pub fn held(&self) -> Vec<(Held, OwnedFd)> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let rules = kept.rules.as_ref().map(|netlink| (Held::Rules, netlink.socket().as_fd()));
        let interface = kept.interface.as_ref();
        let interface = interface.map(|one| (Held::Interface, one.held().as_fd()));
        let both = rules.into_iter().chain(interface);
        both.filter_map(|(held, one)| Some((held, one.try_clone_to_owned().ok()?))).collect()
    }

    /// Leaves everything to a successor that serves.
    pub fn hand_on(mut self) {
        self.rest();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.interface.iter_mut().for_each(|interface| interface.is_ours = false);
    }

    /// Counts a Corefile, or a ConfigMap beside it, that cannot be served.
    pub fn count_refused(&self) {
        self.faults.tally.add(self.faults.config, 1);
    }

    fn rest(&mut self) {
        if let Some((sender, keeper)) = self.keeper.take() {
            drop(sender);
            let _ = keeper.join();
        }
    }
}

impl Drop for NodeLocal {
    fn drop(&mut self) {
        self.rest();
    }
}

impl Kept {
    /// Between two looks: often enough to renew what is leased, and at once where another interface
    /// has an address, of which nobody says when it goes.
    fn every(&self) -> Duration {
        let most = match &self.interface {
            Some(interface) if interface.is_incomplete() => 1,
            Some(interface) if interface.is_leased() => NODE_LOCAL_RENEW_SECONDS,
            _ => return self.wanted.looks_every,
        };
        self.wanted.looks_every.min(Duration::from_secs(most))
    }

    /// Mends what is broken, as far as it can be.
    fn look(&mut self, faults: &Faults) {
        if let Some(interface) = &mut self.interface {
            let name = &self.wanted.interface;
            let line = match interface.ensure(&self.wanted.addresses) {
                Ok(lacked) if lacked.is_empty() => None,
                Ok(lacked) => {
                    self.told.clear();
                    let lacked: Vec<String> = lacked.iter().map(IpAddr::to_string).collect();
                    let lacked = lacked.join(", ");
                    Some(format!("-localip: interface {name} had lost {lacked}: put back"))
                }
                Err(error) => Some(format!("-localip: interface {name}: {error}")),
            };
            if let Some(line) = line {
                faults.tally.add(faults.interface, 1);
                self.tell(line);
            }
        }
        if self.wanted.makes_rules && self.rules.is_none() {
            match self.make_rules(None, &self.wanted.addresses) {
                Ok(rules) => {
                    self.rules = rules;
                    tracing::info!("-localip: rules of table {} are made", rules::TABLE);
                }
                Err(error) => self.without_rules(faults, &error),
            }
        }
    }

    /// Makes the rules, with the socket that owns them or with one that is given back.
    fn make_rules(
        &self,
        owner: Option<&Netlink>,
        addresses: &[IpAddr],
    ) -> io::Result<Option<Netlink>> {
        let (port, health) = (self.wanted.port, self.wanted.health_port);
        let opened = match owner {
            Some(_) => None,
            None => Some(Netlink::open(libc::NETLINK_NETFILTER)?),
        };
        if let Some(netlink) = owner.or(opened.as_ref()) {
            match rules::set(netlink, addresses, port, health) {
                Err(error) if rules::is_ownerless(netlink) => {
                    tracing::warn!(
                        "-localip: a table {} that nobody owns is replaced ({error}): leave it \
                         out of what nft restores",
                        rules::TABLE
                    );
                    rules::replace(netlink, addresses, port, health)?;
                }
                done => done?,
            }
        }
        Ok(opened)
    }

    fn without_rules(&mut self, faults: &Faults, error: &io::Error) {
        faults.tally.add(faults.rules, 1);
        self.tell(explained(error));
    }

    /// Logs a line, once until there is another.
    fn tell(&mut self, line: String) {
        if self.told != line {
            tracing::error!("{line}");
            self.told = line;
        }
    }

    /// The addresses that stand on the interface, and those that are wanted.
    fn all_addresses(&self) -> Vec<IpAddr> {
        let mut all = self.wanted.addresses.clone();
        let there = self.interface.iter().flat_map(Interface::addresses);
        there.for_each(|ip| all.extend((!all.contains(&ip)).then_some(ip)));
        all
    }

    fn settle(&mut self) {
        if let Some(interface) = &mut self.interface {
            interface.is_ours = true;
            let surplus = interface.addresses();
            for address in surplus.into_iter().filter(|ip| !self.wanted.addresses.contains(ip)) {
                if let Err(error) = interface.remove(address) {
                    tracing::error!("-localip: {address} stays: {error}");
                }
            }
        }
        if self.rules.is_some()
            && let Err(error) = self.make_rules(self.rules.as_ref(), &self.wanted.addresses)
        {
            tracing::error!("{}", explained(&error));
        }
    }
}

/// Tries again while another process, which is about to end, holds it: as long as the kernel says one
/// of `held`.
async fn retried<T>(held: &[i32], mut tried: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let latest = Instant::now() + Duration::from_secs(NODE_LOCAL_SECONDS_MAX);
    loop {
        match tried() {
            Err(error)
                if error.raw_os_error().is_some_and(|code| held.contains(&code))
                    && Instant::now() < latest =>
            {
                sleep(Duration::from_millis(20)).await;
            }
            done => return done,
        }
    }
}

/// Why there are no rules, and the remedy.
fn explained(error: &io::Error) -> String {
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
    format!("-localip: serving without rules of table {}: {error}: {remedy}", rules::TABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn wanted() -> Wanted {
        Wanted {
            addresses: ["169.254.20.10", "10.96.0.10"].map(|text| text.parse().unwrap()).into(),
            interface: "nodelocaldns".into(),
            makes_interface: true,
            makes_rules: true,
            port: 53,
            health_port: 8080,
            upstream: "kube-dns-upstream".into(),
            base: None,
            kube_dns: None,
            metrics: String::new(),
            prometheus: ":9253".into(),
            looks_every: Duration::from_secs(60),
            reloads_every: None,
            remarks: Vec::new(),
        }
    }

    #[test]
    fn an_end_point_on_an_address_of_ours_waits_for_it() {
        assert!(wanted().makes("169.254.20.10:8080"));
        assert!(!wanted().makes(":9253") && !wanted().makes("127.0.0.1:8080"));
    }
}
