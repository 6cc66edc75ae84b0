//! Kubernetes' own manifest of its node-local DNS cache, with nothing but another image: its arguments,
//! its ConfigMaps where it mounts them, the user of the image, the rights of the manifest, no
//! /dev/net/tun. Beside it a cluster's DNS, a node's resolver and the server of a stub domain.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::end_points::get;
use crate::node_local::{addresses, is_inside, is_served, rules, run};
use crate::server::{Folder, Server, ask, skipped, wait_for};

const CLUSTER: &str = "10.96.7.7";
const NODE: &str = "127.0.0.53";
const STUB: &str = "127.0.0.54";
const ADDRESS: &str = "169.254.20.10:53";
const SERVICE: &str = "10.96.0.10:53";

/// What the manifest's container is started with, its words replaced as its manual says.
const ARGUMENTS: &[&str] = &[
    "-localip",
    "169.254.20.10,10.96.0.10",
    "-conf",
    "/etc/Corefile",
    "-upstreamsvc",
    "kube-dns-upstream",
    "-pidfile",
    "/tmp/node-cache.pid",
];

/// The Corefile of its ConfigMap.
fn base() -> String {
    let block = |zone: &str, cache: &str, forward: &str, more: &str| {
        format!(
            "{zone}:53 {{\n    errors\n    cache {cache}\n    reload\n    loop\n    \
             bind 169.254.20.10 10.96.0.10\n    forward . {forward}\n    prometheus :9253\n\
             {more}    }}\n"
        )
    };
    let cluster = "__PILLAR__CLUSTER__DNS__ {\n            force_tcp\n    }";
    let cache = "{\n            success 9984 30\n            denial 9984 5\n    }";
    [
        block("cluster.local", cache, cluster, "    health 169.254.20.10:8080\n"),
        block("in-addr.arpa", "30", cluster, ""),
        block("ip6.arpa", "30", cluster, ""),
        block(".", "30", "__PILLAR__UPSTREAM__SERVERS__", ""),
    ]
    .concat()
}

/// A pod of the manifest: the image's file and user, the rights of a container and NET_ADMIN.
struct Pod {
    folder: Folder,
    starts: usize,
}

impl Pod {
    /// None: a program that it needs is not here.
    fn new() -> Option<Self> {
        let folder = Folder::new("stock");
        let program = folder.path().join("coredns");
        fs::copy(env!("CARGO_BIN_EXE_corelane"), &program).unwrap();
        let capabilities = "cap_net_bind_service,cap_net_admin=p";
        let set = Command::new("setcap").arg(capabilities).arg(&program).status();
        if !set.is_ok_and(|status| status.success()) {
            skipped("the stock manifest: needs setcap");
            return None;
        }
        run("mount", &["-t", "tmpfs", "tmpfs", "/dev/net"]);
        run("mount", &["-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/run"]);
        ["/run/upper", "/run/work"].iter().for_each(|path| fs::create_dir(path).unwrap());
        let layers = "lowerdir=/etc,upperdir=/run/upper,workdir=/run/work";
        run("mount", &["-t", "overlay", "-o", layers, "overlay", "/etc"]);
        for path in ["/etc/coredns", "/etc/kube-dns"] {
            fs::create_dir_all(path).unwrap();
        }
        fs::write("/etc/coredns/Corefile.base", base()).unwrap();
        fs::write("/etc/resolv.conf", format!("nameserver {NODE}\n")).unwrap();
        run("ip", &["address", "add", &format!("{CLUSTER}/32"), "dev", "lo"]);
        Some(Self { folder, starts: 0 })
    }

    fn start(&mut self) -> Server {
        self.starts += 1;
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65532", "--regid=65532", "--clear-groups"]);
        let rights = "-all,+net_admin,+net_bind_service,+chown,+kill,+net_raw";
        command.args(["--bounding-set", rights, "--inh-caps=-all"]);
        command.arg(self.folder.path().join("coredns"));
        command.env("KUBE_DNS_UPSTREAM_SERVICE_HOST", CLUSTER).args(ARGUMENTS);
        self.folder.spawn(&mut command, &format!("pod {}", self.starts))
    }
}

/// A server beside it, which says that every name has one address.
fn other(folder: &Folder, at: &str, address: &str) -> Server {
    let answer = format!("answer \"{{{{ .Name }}}} 60 IN A {address}\"");
    let text = format!(".:53 {{\n bind {at}\n template IN A {{\n  {answer}\n }}\n}}\n");
    folder.write(at, &text);
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    let mut server = folder.spawn(command.args(["-conf", at]), &format!("log {at}"));
    server.says("corelane-");
    server
}

fn address_of(name: &str) -> Option<[u8; 4]> {
    let reply = ask(SERVICE.parse().unwrap(), name)?;
    reply.last_chunk().copied()
}

#[test]
fn it_runs_with_nothing_but_another_image() {
    if !is_inside("stock::it_runs_with_nothing_but_another_image") {
        return;
    }
    let Some(mut pod) = Pod::new() else { return };
    let beside = Folder::new("beside");
    let _others = [(CLUSTER, "192.0.2.1"), (NODE, "192.0.2.53"), (STUB, "192.0.2.54")]
        .map(|(at, address)| other(&beside, at, address));
    let mut server = pod.start();
    server.says("corelane-");
    assert!(server.output().contains("interface nodelocaldns is a "), "{}", server.output());
    assert_eq!(addresses(), ["169.254.20.10", "10.96.0.10"]);
    assert_eq!(rules().0, 16);
    assert!(Path::new("/tmp/node-cache.pid").exists() && !Path::new("/etc/Corefile").exists());
    fs::remove_file("/tmp/node-cache.pid").unwrap();
    assert_eq!(address_of("a.default.svc.cluster.local"), Some([192, 0, 2, 1]));
    assert_eq!(address_of("www.example.org"), Some([192, 0, 2, 53]));
    for (at, path) in [
        ("169.254.20.10:8080", "/health"),
        ("127.0.0.1:9253", "/metrics"),
        ("127.0.0.1:9353", "/metrics"),
    ] {
        let said = get(at.parse().unwrap(), path).unwrap();
        assert!(said.starts_with("HTTP/1.1 200"), "{at}{path}: {said}");
        assert!(said.contains("coredns_build_info{") || path == "/health", "{said}");
    }
    // The ConfigMap kube-dns comes later.
    fs::write("/etc/kube-dns/stubDomains", format!("{{\"corp.test\": [\"{STUB}\"]}}")).unwrap();
    fs::write("/etc/kube-dns/upstreamNameservers", format!("[\"{CLUSTER}\"]")).unwrap();
    server.signal("USR1");
    server.says("Reloading complete");
    assert_eq!(address_of("www.corp.test"), Some([192, 0, 2, 54]));
    wait_for("the other upstream", || address_of("else.example.org") == Some([192, 0, 2, 1]));
    // A crash: rules go at once, addresses when nobody has renewed them.
    server.signal("KILL");
    server.ended();
    wait_for("no rule", || rules().0 == 0);
    assert_eq!(addresses().len(), 2);
    wait_for("no address", || addresses().is_empty());
    // What was left is taken up; an end leaves nothing.
    let mut server = pod.start();
    server.says("corelane-");
    assert!(is_served(ADDRESS) && is_served(SERVICE));
    server.signal("TERM");
    assert_eq!(server.ended(), Some(0), "{}", server.output());
    assert_eq!((rules().0, sys_has_interface()), (0, false));
}

fn sys_has_interface() -> bool {
    corelane::sys::interface_index("nodelocaldns").is_ok()
}

#[test]
fn addresses_without_a_device_are_handed_over_and_kept() {
    if !is_inside("stock::addresses_without_a_device_are_handed_over_and_kept") {
        return;
    }
    run("mount", &["-t", "tmpfs", "tmpfs", "/dev/net"]);
    // As the other cache leaves it when it crashes.
    let kind = ["dummy", "bridge"].into_iter().find(|kind| {
        let made = Command::new("ip").args(["link", "add", "nodelocaldns", "type", kind]).status();
        made.is_ok_and(|status| status.success())
    });
    assert!(kind.is_some());
    run("ip", &["address", "add", "169.254.20.10/32", "dev", "nodelocaldns"]);
    let folder = crate::node_local::folder("leased");
    let mut old = folder.start("old", crate::node_local::FLAGS);
    old.says("corelane-");
    let load = crate::load::Load::start(SERVICE.parse().unwrap());
    load.answers(300);
    let mut new = folder.start("new", crate::node_local::FLAGS);
    assert_eq!(old.ended(), Some(0), "{}", old.output());
    load.answers(300);
    let lasting = || run("ip", &["-4", "address", "show", "nodelocaldns"]);
    let seconds = || {
        let text = lasting();
        let mut words = text.split_whitespace().skip_while(|word| *word != "valid_lft");
        words.nth(1)?.strip_suffix("sec")?.parse::<u64>().ok()
    };
    // It runs down, and is renewed.
    let first = seconds().unwrap_or_else(|| panic!("for good: {}", lasting()));
    assert!(first <= 20);
    wait_for("a second less", || seconds().is_some_and(|left| left <= 16));
    wait_for("a renewal", || seconds().is_some_and(|left| left >= 19));
    // Somebody else's process does not get it.
    let mut second = folder.start("second", &["-localip", "169.254.20.10"]);
    assert_eq!(second.ended(), Some(1));
    assert!(second.output().contains("another process holds it"), "{}", second.output());
    load.answers(300);
    load.end();
    new.signal("TERM");
    assert_eq!(new.ended(), Some(0), "{}", new.output());
    assert_eq!((rules().0, sys_has_interface()), (0, false));
}
