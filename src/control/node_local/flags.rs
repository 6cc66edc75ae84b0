//! The flags of node-local mode: those of Kubernetes' node-local DNS cache, each with what it means
//! here. Those that mean nothing say so in the usage, and in a line of the log where they are given.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::Wanted;
use crate::control::corefile::parse_duration;
use crate::limits::NODE_LOCAL_RELOAD_SECONDS;

/// The list.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Flags {
    /// Node-local mode: addresses to make and serve on this node only, with commas between them
    #[arg(long)]
    localip: Option<String>,
    /// Node-local mode: interface that the addresses stand on
    #[arg(long, default_value = "nodelocaldns")]
    interfacename: String,
    /// Node-local mode: make the interface and its addresses (default "true")
    #[arg(long, action = clap::ArgAction::Set, default_value_t = true)]
    setupinterface: bool,
    /// Node-local mode: keep DNS out of connection tracking, by rules of nftables (default "true")
    #[arg(long, action = clap::ArgAction::Set, default_value_t = true)]
    setupiptables: bool,
    /// Has no effect: no rules of ebtables are made, as in the cache's later versions
    #[arg(long, action = clap::ArgAction::Set, default_value_t = false)]
    setupebtables: bool,
    /// Has no effect: rules and addresses are never left behind
    #[arg(long, action = clap::ArgAction::Set, default_value_t = false)]
    skipteardown: bool,
    /// Node-local mode: seconds between two looks at interface and addresses, to mend them
    #[arg(long, default_value = "60", value_parser = interval)]
    syncinterval: Duration,
    /// Has no effect: rules are made just before the addresses are served
    #[arg(long)]
    initialdelay: Option<String>,
    /// Node-local mode: port of the health plugin, kept out of connection tracking too
    #[arg(long, default_value_t = 8080)]
    health_port: u16,
    /// Node-local mode: Service that stands for __PILLAR__CLUSTER__DNS__ in the Corefile
    #[arg(long, default_value = "kube-dns")]
    upstreamsvc: String,
    /// Node-local mode: Corefile with such words, read instead of the other if it is there
    #[arg(long, default_value = "/etc/coredns/Corefile.base")]
    basecorefile: PathBuf,
    /// Has no effect: no Corefile is written
    #[arg(long)]
    corefile: Option<String>,
    /// Node-local mode: directory with stubDomains and upstreamNameservers of the ConfigMap kube-dns
    /// (default "/etc/kube-dns", if it is there)
    #[arg(long)]
    kubednscm: Option<PathBuf>,
    /// Node-local mode: address of metrics beside those of the Corefile; empty for none
    #[arg(long, default_value = "0.0.0.0:9353")]
    metrics_listen_address: String,
    /// Node-local mode: what stands for __PROMETHEUS__ENDPOINT__ in the Corefile
    #[arg(long, default_value = ":9253")]
    prometheus_listen_address: String,
    /// Node-local mode: look for changes every 10 s even where the Corefile is without reload
    #[arg(long, action = clap::ArgAction::Set, default_value_t = false)]
    reloadwithsignal: bool,
    /// Node-local mode: not with -metrics-listen-address, which is then not served; see prometheus, tls
    #[arg(long, action = clap::ArgAction::Set, default_value_t = false)]
    tls_enabled: bool,
    /// Has no effect: see -tls-enabled
    #[arg(long)]
    tls_cert_file: Option<String>,
    /// Has no effect: see -tls-enabled
    #[arg(long)]
    tls_private_key_file: Option<String>,
    /// Has no effect: see -tls-enabled
    #[arg(long)]
    tls_client_auth_type: Option<String>,
    /// Has no effect: see -tls-enabled
    #[arg(long)]
    tls_client_ca_file: Option<String>,
    /// Has no effect: see -tls-enabled
    #[arg(long)]
    tls_min_version: Option<String>,
}

impl Flags {
    /// What they ask for; `None` without `-localip`. `port`: DNS's.
    ///
    /// # Errors
    /// An address that is none.
    pub fn wanted(self, port: u16) -> Result<Option<Wanted>, String> {
        let Some(list) = self.localip.as_deref().filter(|list| !list.is_empty()) else {
            return Ok(None);
        };
        let remarks = self.remarks();
        let kube_dns = self.kubednscm.filter(|folder| !folder.as_os_str().is_empty());
        let again = Duration::from_secs(NODE_LOCAL_RELOAD_SECONDS);
        Ok(Some(Wanted {
            addresses: addresses(list)?,
            interface: self.interfacename,
            makes_interface: self.setupinterface,
            makes_rules: self.setupiptables,
            port,
            health_port: self.health_port,
            upstream: self.upstreamsvc,
            base: Some(self.basecorefile).filter(|path| !path.as_os_str().is_empty()),
            kube_dns,
            metrics: if self.tls_enabled { String::new() } else { self.metrics_listen_address },
            prometheus: self.prometheus_listen_address,
            looks_every: self.syncinterval,
            reloads_every: self.reloadwithsignal.then_some(again),
            remarks,
        }))
    }

    /// A line for each flag that is given and changes nothing.
    fn remarks(&self) -> Vec<&'static str> {
        let given = [
            (self.setupebtables, "-setupebtables: no rules of ebtables are made"),
            (
                self.skipteardown,
                "-skipteardown: nothing is left behind: a successor is handed what there is",
            ),
            (
                self.initialdelay.is_some(),
                "-initialdelay: rules are made just before the addresses are served",
            ),
            (
                self.corefile.is_some(),
                "-corefile: nothing is written: the Corefile is made in memory",
            ),
            (
                self.tls_enabled,
                "-tls-enabled: -metrics-listen-address is not served: give prometheus a \
                 web configuration file in the Corefile (tls)",
            ),
        ];
        given.into_iter().filter_map(|(given, line)| given.then_some(line)).collect()
    }
}

/// Reads `-localip`: each address once.
fn addresses(list: &str) -> Result<Vec<IpAddr>, String> {
    let mut all = Vec::new();
    for text in list.split(',') {
        let wrong = |_| format!("invalid localip specified - {text:?}");
        let address: IpAddr = text.trim().parse().map_err(wrong)?;
        all.extend((!all.contains(&address)).then_some(address));
    }
    Ok(all)
}

/// Seconds, or a duration with units. Kubernetes' cache takes what it reads as nanoseconds for as many
/// seconds, so that its users write `60ns`.
fn interval(text: &str) -> Result<Duration, String> {
    let seconds = text.strip_suffix("ns").unwrap_or(text).parse().map(Duration::from_secs);
    let interval = seconds.or_else(|_| parse_duration(text))?;
    Ok(interval.max(Duration::from_secs(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_is_named_and_none_comes_twice() {
        let error = addresses("169.254.20.10,ten").unwrap_err();
        assert_eq!(error, "invalid localip specified - \"ten\"");
        assert!(addresses("").is_err());
        assert_eq!(addresses("::1, 10.0.0.1,::1").unwrap().len(), 2);
    }

    #[test]
    fn intervals_are_seconds_however_they_are_written() {
        for (text, seconds) in [("60", 60), ("60ns", 60), ("60s", 60), ("2m", 120), ("0", 1)] {
            assert_eq!(interval(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert!(interval("soon").is_err());
    }
}
