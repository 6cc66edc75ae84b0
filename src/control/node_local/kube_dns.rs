//! The ConfigMap `kube-dns` as a mounted folder: `stubDomains`, domains with servers of their own, and
//! `upstreamNameservers`, whom else to ask.
//!
//! Only what Kubernetes' own cache takes is taken, and nothing that could say something else in a
//! Corefile: names of hosts, addresses, ports. What cannot be taken is refused whole.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use crate::limits::{COREFILE_BYTES_MAX, KUBE_DNS_UPSTREAMS_MAX};

/// How often files are read anew that were replaced while they were read.
const TRIES: usize = 3;

/// What it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KubeDns {
    /// Servers by domain.
    stubs: BTreeMap<String, Vec<String>>,
    /// Servers for all else; empty: the node's.
    upstreams: Vec<String>,
}

impl KubeDns {
    /// Reads a folder. What is not there says nothing.
    ///
    /// # Errors
    /// Of which file, and why.
    pub fn read(folder: &Path) -> Result<Self, String> {
        let [stubs, upstreams] = read_all(folder, ["stubDomains", "upstreamNameservers"])?;
        Self::parse(stubs.as_deref(), upstreams.as_deref())
            .map_err(|error| format!("{}/{error}", folder.display()))
    }

    fn parse(stubs: Option<&str>, upstreams: Option<&str>) -> Result<Self, String> {
        let stubs: BTreeMap<String, Vec<String>> = match stubs {
            Some(text) => serde_json::from_str(text).map_err(|e| format!("stubDomains: {e}"))?,
            None => BTreeMap::new(),
        };
        for (domain, servers) in &stubs {
            if !is_domain(domain) {
                return Err(format!("stubDomains: invalid domain name: {domain:?}"));
            }
            if servers.is_empty() {
                return Err(format!("stubDomains: {domain}: no nameserver"));
            }
            all_servers(servers).map_err(|error| format!("stubDomains: {domain}: {error}"))?;
        }
        let upstreams: Vec<String> = match upstreams {
            Some(text) => {
                serde_json::from_str(text).map_err(|e| format!("upstreamNameservers: {e}"))?
            }
            None => Vec::new(),
        };
        all_servers(&upstreams).map_err(|error| format!("upstreamNameservers: {error}"))?;
        if upstreams.len() > KUBE_DNS_UPSTREAMS_MAX {
            let words = "upstreamNameservers: cannot have more than three entries";
            return Err(words.to_owned());
        }
        Ok(Self { stubs, upstreams })
    }

    /// The servers for what is not the cluster's, as in a line of `forward`.
    pub fn upstreams(&self) -> Option<String> {
        (!self.upstreams.is_empty()).then(|| self.upstreams.join(" "))
    }

    /// A server block for each domain. `addresses`: those that are bound.
    pub fn blocks(&self, port: u16, addresses: &str) -> String {
        let mut text = String::new();
        for (domain, servers) in &self.stubs {
            let servers = servers.join(" ");
            // Of a string, so that nothing fails.
            let _ = write!(
                text,
                "\n{domain}:{port} {{\n    errors\n    cache 30\n    bind {addresses}\n    \
                 forward . {servers}\n}}\n"
            );
        }
        text
    }
}

/// Whether it is a name as Kubernetes has them (RFC 1123 section 2.1, in small letters).
fn is_domain(name: &str) -> bool {
    let inside = |c: u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-');
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(inside)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

fn all_servers(servers: &[String]) -> Result<(), String> {
    let is_server = |text: &&String| {
        let host = text.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
        text.parse::<IpAddr>().is_ok()
            || text.parse::<SocketAddr>().is_ok()
            || host.is_some_and(|(host, _)| host.parse::<std::net::Ipv4Addr>().is_ok())
    };
    match servers.iter().find(|server| !is_server(server)) {
        Some(wrong) => Err(format!("invalid nameserver: {wrong:?}")),
        None => Ok(()),
    }
}

/// Reads files of a mounted ConfigMap, all of the same moment: they lie in a folder of which `..data` is
/// the name, and that name is given to another when something changes.
fn read_all<const N: usize>(
    folder: &Path,
    names: [&str; N],
) -> Result<[Option<String>; N], String> {
    let link = folder.join("..data");
    let mut left = TRIES;
    loop {
        left -= 1;
        let target = std::fs::read_link(&link).ok();
        let from = target.as_ref().map_or(folder.to_owned(), |target| folder.join(target));
        let all = names.map(|name| {
            let path = from.join(name);
            read(&path).map_err(|error| format!("{}: {error}", folder.join(name).display()))
        });
        if left == 0 || std::fs::read_link(&link).ok() == target {
            let mut texts = [const { None }; N];
            for (text, one) in texts.iter_mut().zip(all) {
                *text = one?;
            }
            return Ok(texts);
        }
    }
}

/// The text of a file; `None`: it is not there.
fn read(path: &Path) -> io::Result<Option<String>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(COREFILE_BYTES_MAX as u64).read_to_string(&mut text)?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_become_blocks_and_upstreams_a_line() {
        let stubs = r#"{"corp.example": ["10.0.0.1", "10.0.0.2:5353"], "v6.test": ["fd00::1"]}"#;
        let all = KubeDns::parse(Some(stubs), Some(r#"["8.8.8.8", "[2001:db8::1]:53"]"#)).unwrap();
        assert_eq!(all.upstreams().unwrap(), "8.8.8.8 [2001:db8::1]:53");
        assert_eq!(
            all.blocks(53, "169.254.20.10 10.96.0.10"),
            "\ncorp.example:53 {\n    errors\n    cache 30\n    bind 169.254.20.10 10.96.0.10\n    \
             forward . 10.0.0.1 10.0.0.2:5353\n}\n\
             \nv6.test:53 {\n    errors\n    cache 30\n    bind 169.254.20.10 10.96.0.10\n    \
             forward . fd00::1\n}\n"
        );
        let nothing = KubeDns::parse(None, None).unwrap();
        assert_eq!((nothing.upstreams(), nothing.blocks(53, "")), (None, String::new()));
    }

    #[test]
    fn what_is_no_name_and_no_address_is_refused() {
        for (stubs, upstreams, words) in [
            (Some("{"), None, "stubDomains: EOF"),
            (Some(""), None, "stubDomains: EOF"),
            (Some(r#"{"a b": ["1.1.1.1"]}"#), None, "invalid domain name: \"a b\""),
            (Some(r#"{"a.b {": ["1.1.1.1"]}"#), None, "invalid domain name"),
            (Some(r#"{"a.b": []}"#), None, "a.b: no nameserver"),
            (Some(r#"{"a.b": ["ns.example"]}"#), None, "invalid nameserver: \"ns.example\""),
            (Some(r#"{"a.b": ["1.1.1.1:99999"]}"#), None, "invalid nameserver"),
            (Some(r#"{"a.b": ["1.1.1.1 }"]}"#), None, "invalid nameserver"),
            (None, Some(r#"["/etc/resolv.conf"]"#), "upstreamNameservers: invalid nameserver"),
            (None, Some(r#"["1.1.1.1","1.1.1.2","1.1.1.3","1.1.1.4"]"#), "more than three"),
        ] {
            let error = KubeDns::parse(stubs, upstreams).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    /// What `deploy/deploy.sh` makes of the same texts: the servers of domains, and of all else. `None`: it
    /// refuses them.
    fn by_the_script(folder: &Path, stubs: &str, upstreams: &str) -> Option<KubeDns> {
        for (name, text) in [("stubDomains", stubs), ("upstreamNameservers", upstreams)] {
            std::fs::write(folder.join(name), text).unwrap();
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/deploy.sh");
        let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
        let mut command = std::process::Command::new(script);
        let done = command.args(["-i", "10.96.0.10"]).env("PATH", path).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        let text = String::from_utf8(done.stdout).unwrap();
        if done.status.code() == Some(2) {
            assert!(text.is_empty() && said.contains("the ConfigMap kube-dns: "), "{said}");
            return None;
        }
        assert!(done.status.success(), "{said}");
        let (mut found, mut zone) = (KubeDns::default(), "");
        for line in text.lines().skip_while(|line| !line.contains("Corefile: |")) {
            let servers =
                line.trim().strip_prefix("forward . ").map(|rest| rest.trim_end_matches(" {"));
            let servers = servers.map(|text| text.split(' ').map(str::to_owned).collect());
            let key = line.trim().strip_suffix(":53 {").filter(|key| !key.contains(' '));
            match (key, servers) {
                (Some(key), _) => zone = key,
                (None, Some(servers)) if zone == "." => found.upstreams = servers,
                (None, Some(servers)) => drop(found.stubs.insert(zone.to_owned(), servers)),
                (None, None) => {}
            }
        }
        found.upstreams.retain(|server| server != "/etc/resolv.conf");
        Some(found)
    }

    #[test]
    fn the_script_that_deploys_translates_alike() {
        const KUBECTL: &str = "#!/bin/sh\ncase $* in *.data.*) name=${*##*.data.}; \
                               cat \"${0%/*}/${name%?}\" 2>/dev/null ;; esac; true\n";
        let folder = std::env::temp_dir().join(format!("corelane-script-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("kubectl"), KUBECTL).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.join("kubectl"), mode).unwrap();
        for (stubs, upstreams, is_taken) in [
            ("{}", "[]", true),
            (r#"{"corp.example": ["10.0.0.1"]}"#, r#"["192.0.2.1"]"#, true),
            (
                "{\n  \"b.test\" : [ \"10.0.0.1\" , \"10.0.0.2:5353\" ] ,\n  \
                 \"a.test\":[\"fd00::1\",\"[2001:db8::1]:53\"]\n}\n",
                " [\"192.0.2.1\",\n\"::ffff:192.0.2.2\", \"[fd00::2]:5300\"]\n",
                true,
            ),
            (r#"{"a.test": ["10.0.0.1"], "a.test": ["10.0.0.2"]}"#, "[]", true),
            (r#"{"1.10.in-addr.arpa": ["1:2:3:4:5:6:7:8", "1::", "::"]}"#, "[]", true),
            ("{", "[]", false),
            ("[]", "[]", false),
            ("{}", "{}", false),
            ("{},", "[]", false),
            (r#"{"a.test": ["10.0.0.1"],}"#, "[]", false),
            (r#"{"a.test": ["10.0.0.1"] "b.test": ["10.0.0.1"]}"#, "[]", false),
            (r#"{"a.test": ["10.0.0.1",]}"#, "[]", false),
            (r#"{"a.test": "10.0.0.1"}"#, "[]", false),
            (r#"{"a.test": []}"#, "[]", false),
            (r#"{"a b": ["10.0.0.1"]}"#, "[]", false),
            (r#"{"a..test": ["10.0.0.1"]}"#, "[]", false),
            (r#"{"-a.test": ["10.0.0.1"]}"#, "[]", false),
            (r#"{"A.test": ["10.0.0.1"]}"#, "[]", false),
            (r#"{"a.test": ["ns.example"]}"#, "[]", false),
            (r#"{"a.test": ["10.0.0.1 }"]}"#, "[]", false),
            (r#"{"a.test": ["10.0.0.1:65536"]}"#, "[]", false),
            (r#"{"a.test": ["10.0.0.256"]}"#, "[]", false),
            (r#"{"a.test": ["1::2::3"]}"#, "[]", false),
            (r#"{"a.test": ["1:2:3:4:5:6:7"]}"#, "[]", false),
            (r#"{"a.test": [":1::2"]}"#, "[]", false),
            (r#"{"a.test": ["[fd00::1]"]}"#, "[]", false),
            ("{}", r#"["/etc/resolv.conf"]"#, false),
            ("{}", r#"["192.0.2.1" "192.0.2.2"]"#, false),
            ("{}", r#"["192.0.2.1"] more"#, false),
            ("{}", r#"["192.0.2.1","192.0.2.2","192.0.2.3","192.0.2.4"]"#, false),
        ] {
            let here = KubeDns::parse(Some(stubs), Some(upstreams)).ok();
            assert_eq!(here.is_some(), is_taken, "{stubs} {upstreams}");
            assert_eq!(by_the_script(&folder, stubs, upstreams), here, "{stubs} {upstreams}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
