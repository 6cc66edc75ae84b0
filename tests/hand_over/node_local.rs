//! Node-local mode, in a network namespace of its own: the test runs itself again inside of one.

use std::net::{SocketAddr, SocketAddrV6};
use std::process::Command;

use corelane::sys;

use crate::load::Load;
use crate::server::{Folder, ask, name_of, signal, skipped, wait_for};

const INSIDE: &str = "CORELANE_TEST_NAMESPACE";
pub const FLAGS: &[&str] =
    &["-localip", "169.254.20.10,10.96.0.10", "-hand-over", ".", "-basecorefile", "none"];
pub const ADDRESS: &str = "169.254.20.10:53";
pub const SERVICE: &str = "10.96.0.10:53";
const COREFILE: &str = ".:53 {
 bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__
 health 169.254.20.10:8080
 template IN A {
  answer \"{{ .Name }} 60 IN A 192.0.2.1\"
 }
}
";

/// Whether this process is in a namespace that is its own; if not, has the test run in one.
pub fn is_inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        run("ip", &["link", "set", "lo", "up"]);
        return true;
    }
    let works = |program: &str, args: &[&str]| {
        Command::new(program).args(args).output().is_ok_and(|done| done.status.success())
    };
    let can = sys::user() == 0
        && works("unshare", &["-nm", "nft", "list", "ruleset"])
        && works("unshare", &["-nm", "ip", "tuntap", "add", "x", "mode", "tun"]);
    if !can {
        skipped("node-local mode: needs root, unshare, ip, nft and /dev/net/tun");
        return false;
    }
    let mut inner = Command::new("unshare");
    inner.arg("-nm").arg(std::env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]);
    let done = inner.env(INSIDE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
    false
}

pub fn run(program: &str, args: &[&str]) -> String {
    let done = Command::new(program).args(args).output().unwrap();
    assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// Rules that there are, and the packets that they have counted.
pub fn rules() -> (usize, u64) {
    let listed: serde_json::Value =
        serde_json::from_str(&run("nft", &["-j", "list", "ruleset"])).unwrap();
    let all = listed["nftables"].as_array().unwrap().clone();
    let rules = all.iter().filter_map(|one| one.get("rule"));
    let (mut count, mut packets) = (0, 0);
    for rule in rules {
        let expressions = rule["expr"].as_array().unwrap();
        assert!(expressions.iter().any(|one| one.get("notrack").is_some()), "{rule}");
        count += 1;
        packets +=
            expressions.iter().filter_map(|one| one["counter"]["packets"].as_u64()).sum::<u64>();
    }
    (count, packets)
}

/// Addresses of the interface; none without it.
pub fn addresses() -> Vec<String> {
    let found = sys::addresses_of("nodelocaldns").unwrap();
    found.iter().map(|one| one.ip().to_string()).collect()
}

pub fn folder(name: &str) -> Folder {
    let folder = Folder::new(name);
    folder.write("Corefile", COREFILE);
    folder
}

pub fn is_served(address: &str) -> bool {
    ask(address.parse().unwrap(), &name_of(1)).is_some()
}

#[test]
fn rules_and_addresses_end_with_the_process() {
    if !is_inside("node_local::rules_and_addresses_end_with_the_process") {
        return;
    }
    let folder = folder("ends");
    for end in ["TERM", "KILL"] {
        let mut server = folder.start(end, FLAGS);
        server.says("corelane-");
        assert!(is_served(ADDRESS) && is_served(SERVICE));
        assert_eq!(addresses(), ["169.254.20.10", "10.96.0.10"]);
        let (count, packets) = rules();
        assert_eq!(count, 16, "{}", run("nft", &["list", "ruleset"]));
        // A question and its answer, each on its way out and in.
        assert!(packets >= 4, "{}", run("nft", &["list", "ruleset"]));
        server.signal(end);
        server.ended();
        wait_for("no rule and no address", || addresses().is_empty() && rules().0 == 0);
        assert!(!run("nft", &["list", "ruleset"]).contains("table"));
    }
}

#[test]
fn a_node_s_server_is_replaced_under_load() {
    if !is_inside("node_local::a_node_s_server_is_replaced_under_load") {
        return;
    }
    let folder = folder("node");
    let mut old = folder.start("old", &[FLAGS, &["-pidfile", "pid"]].concat());
    old.says("corelane-");
    let service: SocketAddr = SERVICE.parse().unwrap();
    let load = Load::start(service);
    load.answers(300);
    // Rules are looked at all the time: 16 of them, whoever serves.
    let done = std::sync::atomic::AtomicBool::new(false);
    let relaxed = std::sync::atomic::Ordering::Relaxed;
    std::thread::scope(|scope| {
        let looks = scope.spawn(|| {
            while !done.load(relaxed) {
                assert_eq!(rules().0, 16);
            }
        });
        let mut new = folder.start("new", &[FLAGS, &["-pidfile", "pid"]].concat());
        assert_eq!(old.ended(), Some(0), "{}", old.output());
        load.answers(300);
        new.signal("USR2");
        assert_eq!(new.ended(), Some(0), "{}", new.output());
        load.answers(300);
        done.store(true, relaxed);
        looks.join().unwrap();
    });
    load.end();
    assert_eq!(addresses().len(), 2);
    // One with another address: the one that is gone goes, with its rules.
    let number: u32 = folder.read("pid").trim().parse().unwrap();
    let changed = ["-localip", "169.254.20.10", "-hand-over", ".", "-basecorefile", "none"];
    let mut last = folder.start("last", &changed);
    last.says("corelane-");
    assert_ne!(number, last.id());
    wait_for("one address", || addresses() == ["169.254.20.10"] && rules().0 == 8);
    wait_for("the end of the old", || sys::signal(number, 0).is_err());
    assert!(is_served(ADDRESS));
    signal(last.id(), "KILL");
    last.ended();
    wait_for("no rule and no address", || addresses().is_empty() && rules().0 == 0);
}

#[test]
fn both_families_are_served() {
    if !is_inside("node_local::both_families_are_served") {
        return;
    }
    let folder = folder("families");
    let list = "169.254.20.10,fd00:20::10,fe80::20:10";
    let flags = ["-localip", list, "-hand-over", ".", "-basecorefile", "none"];
    let mut server = folder.start("server", &flags);
    server.says("corelane-");
    let mut stand = addresses();
    stand.sort();
    assert_eq!(stand, ["169.254.20.10", "fd00:20::10", "fe80::20:10"]);
    assert_eq!(rules().0, 24, "{}", run("nft", &["list", "ruleset"]));
    let link = sys::addresses_of("nodelocaldns").unwrap().into_iter().find_map(|one| match one {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => Some(v6.scope_id()),
        _ => None,
    });
    let local = SocketAddrV6::new("fe80::20:10".parse().unwrap(), 53, 0, link.unwrap());
    let all = [ADDRESS.parse().unwrap(), "[fd00:20::10]:53".parse().unwrap(), local.into()];
    for address in all {
        let before = rules().1;
        assert!(ask(address, &name_of(1)).is_some(), "{address}");
        // The question and the answer, on their way out and in: none is tracked.
        assert!(rules().1 >= before + 3, "{address}: {}", run("nft", &["list", "ruleset"]));
    }
    let load = Load::start("[fd00:20::10]:53".parse().unwrap());
    load.answers(300);
    let mut new = folder.start("new", &flags);
    assert_eq!(server.ended(), Some(0), "{}", server.output());
    load.answers(300);
    load.end();
    assert!(all.iter().all(|address| ask(*address, &name_of(1)).is_some()));
    new.signal("KILL");
    new.ended();
    wait_for("no rule and no address", || addresses().is_empty() && rules().0 == 0);
}

#[test]
fn what_somebody_takes_away_is_put_back() {
    if !is_inside("node_local::what_somebody_takes_away_is_put_back") {
        return;
    }
    let folder = folder("mended");
    let mut server = folder.start("server", &[FLAGS, &["-syncinterval", "1"]].concat());
    server.says("corelane-");
    run("ip", &["address", "del", "10.96.0.10/32", "dev", "nodelocaldns"]);
    server.says("interface nodelocaldns had lost 10.96.0.10: put back");
    assert!(is_served(SERVICE));
    run("ip", &["link", "del", "nodelocaldns"]);
    server.says("had lost 169.254.20.10, 10.96.0.10: put back");
    assert!(is_served(ADDRESS) && is_served(SERVICE));
    // Rules have an owner: nobody takes them away.
    run("nft", &["flush", "ruleset"]);
    assert_eq!(rules().0, 16);
    let metrics = crate::end_points::get("127.0.0.1:9353".parse().unwrap(), "/metrics").unwrap();
    let counted = "coredns_nodecache_setup_errors_total{errortype=\"interface_check\"} 2\n";
    assert!(metrics.contains(counted), "{metrics}");
}
