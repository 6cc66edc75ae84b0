//! What goes wrong on a node: each has a line that says what to do, and queries are answered all the same
//! where that can be.

use std::fs;
use std::os::unix::fs::symlink;

use crate::end_points::get;
use crate::load::Load;
use crate::node_local::{
    ADDRESS, FLAGS, SERVICE, addresses, folder, is_inside, is_served, rules, run,
};
use crate::server::{Server, ask, name_of, wait_for};

const ALONE: &[&str] = &["-localip", "169.254.20.10,10.96.0.10", "-basecorefile", "none"];

#[test]
fn an_address_of_another_interface_is_served_there() {
    if !is_inside("bad_days::an_address_of_another_interface_is_served_there") {
        return;
    }
    let folder = folder("taken");
    run("ip", &["address", "add", "10.96.0.10/32", "dev", "lo"]);
    let mut server = folder.start("server", FLAGS);
    server.says("corelane-");
    let line =
        "10.96.0.10 is on interface lo already, and served there: stop what has put it there";
    assert!(server.output().contains(line), "{}", server.output());
    assert!(is_served(ADDRESS) && is_served(SERVICE));
    assert_eq!((addresses().as_slice(), rules().0), (&["169.254.20.10".to_owned()][..], 16));
    run("ip", &["address", "del", "10.96.0.10/32", "dev", "lo"]);
    server.says("had lost 10.96.0.10: put back");
    assert!(is_served(SERVICE));
    // A successor may call its interface something else.
    let mut other = folder.start("other", &[FLAGS, &["-interfacename", "dns0"]].concat());
    other.says("corelane-");
    assert_eq!(server.ended(), Some(0), "{}", server.output());
    let stand = || corelane::sys::addresses_of("dns0").unwrap().len();
    wait_for("both addresses", || stand() == 2 && addresses().is_empty());
    assert!(is_served(ADDRESS) && is_served(SERVICE));
}

#[test]
fn a_table_that_was_restored_is_replaced() {
    if !is_inside("bad_days::a_table_that_was_restored_is_replaced") {
        return;
    }
    let folder = folder("restored");
    run("nft", &["add", "table", "inet", "corelane_node_local"]);
    run("nft", &["add", "chain", "inet", "corelane_node_local", "output"]);
    let mut server = folder.start("server", FLAGS);
    server.says("corelane-");
    let line = "a table corelane_node_local that nobody owns is replaced";
    assert!(server.output().contains(line), "{}", server.output());
    assert_eq!(rules().0, 16);
    server.signal("KILL");
    server.ended();
    wait_for("no table", || !run("nft", &["list", "ruleset"]).contains("table"));
}

#[test]
fn of_two_servers_at_once_the_first_serves_on() {
    if !is_inside("bad_days::of_two_servers_at_once_the_first_serves_on") {
        return;
    }
    let folder = folder("two");
    let mut first = folder.start("first", ALONE);
    first.says("corelane-");
    let load = Load::start(SERVICE.parse().unwrap());
    load.answers(300);
    let mut second = folder.start("second", ALONE);
    assert_eq!(second.ended(), Some(1), "{}", second.output());
    let line = "interface nodelocaldns: Device or resource busy (os error 16): another process \
                holds it: stop that, or give both the same -hand-over directory";
    assert!(second.output().contains(line), "{}", second.output());
    load.answers(300);
    // One that leaves the interface alone serves beside the first, and has rules when that is gone.
    let beside = [ALONE, &["-setupinterface=false", "-syncinterval", "1"]].concat();
    let mut third = folder.start("third", &beside);
    third.says("corelane-");
    let line = "serving without rules of table corelane_node_local";
    assert!(third.output().contains(line), "{}", third.output());
    load.answers(300);
    load.end();
    first.signal("TERM");
    assert_eq!(first.ended(), Some(0));
    third.says("rules of table corelane_node_local are made");
    assert_eq!(rules().0, 16);
}

#[test]
fn a_folder_that_cannot_be_written_keeps_nobody_from_serving() {
    if !is_inside("bad_days::a_folder_that_cannot_be_written_keeps_nobody_from_serving") {
        return;
    }
    let folder = folder("unwritable");
    let run_folder = folder.path().join("run");
    fs::create_dir(&run_folder).unwrap();
    let path = run_folder.to_str().unwrap();
    run("mount", &["--bind", path, path]);
    run("mount", &["-o", "remount,bind,ro", path]);
    let mut server = folder.start("server", &[ALONE, &["-hand-over", "run"]].concat());
    server.says("corelane-");
    let line = "-hand-over run: Read-only file system (os error 30): no successor will find this";
    assert!(server.output().contains(line), "{}", server.output());
    assert!(is_served(SERVICE));
    let mut wrong = folder.start("wrong", &[ALONE, &["-hand-over", "nowhere"]].concat());
    assert_eq!(wrong.ended(), Some(1));
    assert!(wrong.output().contains("name a directory that is there"), "{}", wrong.output());
    drop(server);
    run("umount", &[path]);
}

/// The address that a name has.
fn address_of(name: &str) -> Option<Vec<u8>> {
    let reply = ask(ADDRESS.parse().unwrap(), name)?;
    Some(reply[reply.len() - 4..].to_vec())
}

fn wait_for_count(server: &Server, words: &str, count: usize) {
    wait_for(words, || server.output().matches(words).count() >= count);
}

#[test]
fn a_config_map_that_is_half_written_changes_nothing() {
    if !is_inside("bad_days::a_config_map_that_is_half_written_changes_nothing") {
        return;
    }
    let folder = folder("half");
    let base = |number: u8| {
        format!(
            ". {{\n bind __PILLAR__LOCAL__DNS__\n reload 2s 1s\n template IN A {{\n  \
             answer \"{{{{ .Name }}}} 60 IN A 192.0.2.{number}\"\n }}\n}}\n"
        )
    };
    // As the kubelet has it: a folder under a name, and names of files that lead through it.
    let swap = |version: &str, base: Option<&str>, stubs: Option<&str>| {
        let new = folder.path().join(format!("..{version}"));
        fs::create_dir(&new).unwrap();
        let files = [("Corefile.base", base), ("stubDomains", stubs)];
        for (name, text) in files.iter().filter_map(|(name, text)| Some((name, (*text)?))) {
            fs::write(new.join(name), text).unwrap();
        }
        let link = folder.path().join("..new");
        symlink(new.file_name().unwrap(), &link).unwrap();
        fs::rename(link, folder.path().join("..data")).unwrap();
    };
    swap("1", Some(&base(1)), Some("{\"half\": [\"127.0.0"));
    symlink("..data/Corefile.base", folder.path().join("Corefile.base")).unwrap();
    let flags = [&FLAGS[..4], &["-basecorefile", "Corefile.base", "-kubednscm", "."]].concat();
    let mut server = folder.start("server", &flags);
    server.says("corelane-");
    // It begins without what cannot be read; it does not change to it later.
    server.says("-kubednscm: ./stubDomains: ");
    server.says("serving without the ConfigMap kube-dns");
    let load = Load::start(ADDRESS.parse().unwrap());
    assert_eq!(address_of(&name_of(1)), Some(vec![192, 0, 2, 1]));
    let failed = "Corefile changed but reload failed";
    wait_for_count(&server, failed, 1);
    let half = base(2);
    swap("2", Some(&half[..half.len() / 2]), None);
    wait_for_count(&server, failed, 2);
    swap("3", Some(""), None);
    wait_for_count(&server, "Corefile.base: the file is empty", 1);
    swap("4", None, None);
    wait_for_count(&server, "open Corefile.base", 2);
    assert_eq!(address_of(&name_of(1)), Some(vec![192, 0, 2, 1]));
    swap("5", Some(&base(5)), Some("{\"stub.test\": [\"127.0.0.1:1\"]}"));
    wait_for_count(&server, "Reloading complete", 1);
    wait_for("the new one", || address_of(&name_of(1)) == Some(vec![192, 0, 2, 5]));
    assert_eq!(address_of("www.stub.test"), None);
    let metrics = get("127.0.0.1:9353".parse().unwrap(), "/metrics").unwrap();
    let counted = "coredns_nodecache_setup_errors_total{errortype=\"configmap\"} ";
    assert!(metrics.contains(counted), "{metrics}");
    load.end();
}
