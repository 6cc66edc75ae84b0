//! A node's Corefile: the words that Kubernetes' manifests leave in it, replaced.
//!
//! `__PILLAR__LOCAL__DNS__` are the addresses (before a port the first of them), `__PILLAR__DNS__SERVER__`
//! nothing, as it is among them; `__PILLAR__CLUSTER__DNS__` is the cluster's DNS by another Service,
//! which the pod has in its environment; `__PILLAR__UPSTREAM__SERVERS__` are the node's own resolvers or
//! those of the ConfigMap `kube-dns`, which are then asked over UDP; `__PILLAR__DNS__DOMAIN__`, if nobody
//! has put the cluster's domain there, is `cluster.local`; `__PROMETHEUS__ENDPOINT__` is a flag's. Stub
//! domains stand behind. Lines keep their numbers.

use std::net::{IpAddr, SocketAddr};

use super::Wanted;
use super::kube_dns::KubeDns;

const LOCAL: &str = "__PILLAR__LOCAL__DNS__";
const SERVER: &str = "__PILLAR__DNS__SERVER__";
const CLUSTER: &str = "__PILLAR__CLUSTER__DNS__";
const UPSTREAM: &str = "__PILLAR__UPSTREAM__SERVERS__";
const DOMAIN: &str = "__PILLAR__DNS__DOMAIN__";
const PROMETHEUS: &str = "__PROMETHEUS__ENDPOINT__";

/// The text with its words replaced. `env`: the environment.
pub fn replaced(
    text: &str,
    wanted: &Wanted,
    kube_dns: &KubeDns,
    env: impl Fn(&str) -> Option<String>,
) -> String {
    let addresses: Vec<String> = wanted.addresses.iter().map(IpAddr::to_string).collect();
    let addresses = addresses.join(" ");
    let mut text = match kube_dns.upstreams() {
        Some(upstreams) => without_tcp(text).replace(UPSTREAM, &upstreams),
        None => text.replace(UPSTREAM, "/etc/resolv.conf"),
    };
    if let Some(first) = wanted.addresses.first() {
        // `169.254.20.10:`, `[fd00::10]:`: what stands before a port.
        let before = SocketAddr::new(*first, 0).to_string();
        text = text.replace(&format!("{LOCAL}:"), before.trim_end_matches('0'));
    }
    text = text.replace(LOCAL, &addresses).replace(SERVER, "");
    text = text.replace(DOMAIN, "cluster.local").replace(PROMETHEUS, &wanted.prometheus);
    if text.contains(CLUSTER) {
        let name = wanted.upstream.replace('-', "_").to_uppercase() + "_SERVICE_HOST";
        match env(&name).filter(|address| address.parse::<IpAddr>().is_ok()) {
            Some(upstream) => text = text.replace(CLUSTER, &upstream),
            None => tracing::error!(
                "-upstreamsvc: no {name} in the environment: the Service {} has to be there \
                 before the pod",
                wanted.upstream
            ),
        }
    }
    text + &kube_dns.blocks(wanted.port, &addresses)
}

/// Without the block `{ force_tcp }` behind the upstreams; its lines stay, empty.
fn without_tcp(text: &str) -> String {
    let (first, others) = text.split_once(UPSTREAM).map_or((text, None), |(a, b)| (a, Some(b)));
    let mut whole = first.to_owned();
    for part in others.into_iter().flat_map(|others| others.split(UPSTREAM)) {
        whole.push_str(UPSTREAM);
        let block = part.trim_start().strip_prefix('{').map(str::trim_start);
        let inside = block.and_then(|block| block.strip_prefix("force_tcp")).map(str::trim_start);
        match inside.and_then(|inside| inside.strip_prefix('}')) {
            Some(rest) => {
                let gone = &part[..part.len() - rest.len()];
                whole.extend(gone.chars().filter(|c| *c == '\n'));
                whole.push_str(rest);
            }
            None => whole.push_str(part),
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::super::tests::wanted;
    use super::*;

    fn env(name: &str) -> Option<String> {
        (name == "KUBE_DNS_UPSTREAM_SERVICE_HOST").then(|| "10.96.7.7".to_owned())
    }

    fn made(text: &str) -> String {
        replaced(text, &wanted(), &KubeDns::default(), env)
    }

    #[test]
    fn words_are_replaced() {
        let text = "bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__\n\
                    forward . __PILLAR__CLUSTER__DNS__\nforward . __PILLAR__UPSTREAM__SERVERS__\n\
                    health __PILLAR__LOCAL__DNS__:8080\nprometheus __PROMETHEUS__ENDPOINT__\n\
                    __PILLAR__DNS__DOMAIN__:53";
        assert_eq!(
            made(text),
            "bind 169.254.20.10 10.96.0.10 \nforward . 10.96.7.7\nforward . /etc/resolv.conf\n\
             health 169.254.20.10:8080\nprometheus :9253\ncluster.local:53"
        );
        let nothing = replaced(text, &wanted(), &KubeDns::default(), |_| None);
        assert!(nothing.contains("__PILLAR__CLUSTER__DNS__"));
        let mut six = wanted();
        six.addresses = vec!["fd00::10".parse().unwrap()];
        let text = replaced("health __PILLAR__LOCAL__DNS__:8080", &six, &KubeDns::default(), env);
        assert_eq!(text, "health [fd00::10]:8080");
    }

    #[test]
    fn upstreams_of_one_s_own_are_asked_over_udp() {
        let folder = std::env::temp_dir().join(format!("corelane-kube-dns-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("upstreamNameservers"), r#"["192.0.2.1"]"#).unwrap();
        std::fs::write(folder.join("stubDomains"), r#"{"a.test": ["192.0.2.2"]}"#).unwrap();
        let kube_dns = KubeDns::read(&folder);
        std::fs::remove_dir_all(&folder).unwrap();
        let text = ". {\n forward . __PILLAR__UPSTREAM__SERVERS__ {\n   force_tcp\n }\n errors\n}\n\
                    b {\n forward . __PILLAR__UPSTREAM__SERVERS__ {\n   max_fails 1\n }\n}\n";
        assert_eq!(
            replaced(text, &wanted(), &kube_dns.unwrap(), env),
            ". {\n forward . 192.0.2.1\n\n\n errors\n}\n\
             b {\n forward . 192.0.2.1 {\n   max_fails 1\n }\n}\n\
             \na.test:53 {\n    errors\n    cache 30\n    bind 169.254.20.10 10.96.0.10\n    \
             forward . 192.0.2.2\n}\n"
        );
    }
}
