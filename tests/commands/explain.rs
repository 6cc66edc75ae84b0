//! `corelane explain` of a Corefile.

use std::net::UdpSocket;

use serde_json::Value;

use super::{Ran, corelane, file};

const COREFILE: &str = ".:53 {
    errors
    cache 30
    rewrite stop name exact old.test new.test
    hosts {
        192.0.2.7 new.test
        fallthrough
    }
    forward . UPSTREAM
}
corp.test:53 {
    acl {
        block net 10.0.0.0/8
    }
    whoami
}
inner.test {
    view inside {
        expr incidr(client_ip(), '10.0.0.0/8')
    }
    whoami
}
inner.test {
    erratic {
        drop 1
    }
}
";

fn explain(name: &str, upstream: &str, args: &[&str]) -> Ran {
    let corefile = file(name, &COREFILE.replace("UPSTREAM", upstream));
    let mut all = vec!["explain", "--corefile", &corefile];
    all.extend(args);
    corelane(&all)
}

/// What the plugins of a report did, as `plugin said`.
fn said(report: &Value) -> Vec<String> {
    let steps = report["steps"].as_array().expect("steps").iter();
    let word = |step: &Value, key: &str| step[key].as_str().expect("a word").to_owned();
    let steps = steps.filter(|step| step["act"] != "end");
    steps.map(|step| format!("{} {} {}", word(step, "plugin"), step["act"], step["said"])).collect()
}

fn json(ran: &Ran) -> Value {
    let reports: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}", ran.err));
    reports["reports"][0].clone()
}

#[test]
fn the_way_through_a_rewrite_is_told_in_order() {
    let ran = explain("rewrite", "192.0.2.1", &["old.test", "A", "--json"]);
    let report = json(&ran);
    let expected = [
        r#"errors "serve" "watch""#,
        r#"rewrite "serve" "ask""#,
        r#"cache "serve" "watch""#,
        r#"hosts "serve" "up""#,
        r#"cache "resume" "up""#,
        r#"rewrite "resume" "up""#,
        r#"errors "resume" "up""#,
    ];
    assert_eq!((ran.status, said(&report)), (0, expected.map(str::to_owned).to_vec()));
    assert_eq!(report["steps"][1]["words"], "asks new.test. A");
    assert_eq!(report["steps"][3]["question"], "new.test. A");
    assert_eq!(report["steps"][3]["words"], "answers NOERROR, 1 record");
    let record = &report["reply"]["records"][0];
    assert_eq!((&record["name"], &record["rdata"]), (&"old.test.".into(), &"192.0.2.7".into()));
    let text = explain("rewrite", "192.0.2.1", &["old.test"]).out;
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "old.test. A from 127.0.0.1:40000, by udp at :53");
    assert_eq!(lines[1], "block: .: the longest zone there that the name is in");
    assert!(lines[3].trim_start().starts_with("rewrite        asks new.test. A ("), "{text}");
    assert!(lines.last().unwrap().ends_with("old.test. 30 A 192.0.2.7"), "{text}");
}

#[test]
fn whoever_asks_decides() {
    let told = |from: &str| explain("acl", "192.0.2.1", &["a.corp.test", "--from", from]).out;
    assert!(
        told("10.1.2.3").contains("\n  acl            answers REFUSED"),
        "{}",
        told("10.1.2.3")
    );
    assert!(told("[2001:db8::1]:99").contains("\n  whoami         answers NOERROR"));
    let inside = explain("acl", "192.0.2.1", &["inner.test", "--from", "10.0.0.9"]).out;
    assert!(inside.contains("(view inside): the longest zone"), "{inside}");
    let outside = explain("acl", "192.0.2.1", &["inner.test"]);
    let words = "not: inner.test. (view inside): its view does not admit the query\n\
                 block: inner.test.: the longest zone that is left\n";
    assert!(outside.out.contains(words), "{}", outside.out);
    assert!(outside.out.contains("erratic        drops the query"), "{}", outside.out);
    assert!(outside.status == 1 && outside.out.contains("reply: none is sent"), "no reply");
}

#[test]
fn upstreams_are_asked_and_named() {
    let upstream = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = upstream.local_addr().expect("bound").to_string();
    let answering = std::thread::spawn(move || {
        let mut query = [0; 512];
        let (len, client) = upstream.recv_from(&mut query).expect("a query");
        query[2] |= 0x80;
        query[3] = 3;
        upstream.send_to(&query[..len], client).expect("sent");
    });
    let report = json(&explain("upstream", &address, &["far.test", "AAAA", "--json"]));
    answering.join().expect("answered");
    let steps = report["steps"].as_array().expect("steps");
    let waited = steps.iter().find(|step| step["act"] == "wait").expect("a wait");
    assert_eq!((&waited["plugin"], &waited["upstream"]), (&"forward".into(), &address.into()));
    let words = "answers NXDOMAIN, 0 records, from an upstream";
    assert!(steps.iter().any(|step| step["words"] == words), "{report}");
    assert_eq!(report["reply"]["rcode"], "NXDOMAIN");
}

#[test]
fn nothing_is_listened_on_and_no_command_is_run() {
    let mark = file("ran", "");
    std::fs::remove_file(&mark).expect("a file");
    // An address that is not ours, and an end point's port that is taken.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let text = format!(
        ". {{\n bind 192.0.2.1\n health {}\n on startup touch {mark}\n whoami\n}}\n",
        taken.local_addr().expect("bound")
    );
    let corefile = file("nothing", &text);
    let ran = corelane(&["explain", "a.test", "--corefile", &corefile]);
    assert!(ran.status == 0 && ran.out.contains("at 192.0.2.1:53\n"), "{}{}", ran.out, ran.err);
    assert!(!std::path::Path::new(&mark).exists());
}

#[test]
fn faults_are_one_line_each() {
    for (args, words) in [
        (&["a..b"][..], "explain: a..b: not a name: "),
        (&["a.test", "FROB"][..], "explain: FROB: not a type"),
        (&["a.test", "--from", "here"][..], "explain: here: not an IP address"),
        (&["a.test", "--at", ":5353"][..], "explain: nothing listens there; it is listened on :53"),
    ] {
        let ran = explain("faults", "192.0.2.1", args);
        assert!(ran.status == 1 && ran.err.starts_with(words), "{}", ran.err);
        assert_eq!((ran.err.lines().count(), &*ran.out), (1, ""), "{}", ran.err);
    }
    let ran = corelane(&["explain", "a.test", "--corefile", "no-such-file"]);
    assert!(ran.err.starts_with("explain: open no-such-file: "), "{}", ran.err);
}

#[test]
fn what_edns_says_decides_and_what_it_answers_is_told() {
    let text = ". {\n nsid here\n acl blocked.test {\n  block net 127.0.0.1\n }\n \
                view of-resolvers {\n  expr bufsize() > 1000 && do()\n }\n \
                hosts {\n  192.0.2.5 a.test\n }\n}\n\
                . {\n hosts {\n  192.0.2.6 a.test\n }\n}\n";
    let corefile = file("edns", text);
    let reply = |args: &[&str]| {
        let mut all = vec!["explain", "a.test", "--json", "--corefile", &corefile];
        all.extend(args);
        json(&corelane(&all))["reply"].clone()
    };
    let address = |reply: &Value| reply["records"][0]["rdata"].as_str().map(str::to_owned);
    let plain = reply(&[]);
    assert_eq!((address(&plain).as_deref(), &plain["edns"]), (Some("192.0.2.6"), &Value::Null));
    let signed = reply(&["--dnssec", "--nsid"]);
    assert_eq!(address(&signed).as_deref(), Some("192.0.2.5"));
    let edns: Vec<_> = signed["edns"].as_array().expect("words").iter().collect();
    assert!(edns.contains(&&"do".into()) && edns.contains(&&"NSID here".into()), "{signed}");
    let small = reply(&["--dnssec", "--bufsize", "512"]);
    assert_eq!(address(&small).as_deref(), Some("192.0.2.6"));
    let checked = reply(&["--cd"]);
    assert!(checked["flags"].as_array().is_some_and(|all| all.contains(&"cd".into())), "{checked}");
    let text = corelane(&["explain", "blocked.test", "--dnssec", "--corefile", &corefile]).out;
    assert!(text.contains("\n  EDNS: ") && text.contains(" octets, do, EDE 15"), "{text}");
    let subnet = corelane(&["explain", "a", "--subnet", "a/8", "--corefile", &corefile]);
    assert_eq!(subnet.err, "explain: a/8: not a network, such as 192.0.2.0/24\n");
}

/// `libc: name end, …` of a report.
fn ways(json: &Value) -> Vec<String> {
    let of = |way: &Value| {
        let names = way["names"].as_array().expect("names").iter();
        let names = names.map(|one| format!("{} {}", one[0], one[1]).replace('"', ""));
        format!(
            "{}: {}",
            way["libc"].as_str().expect("a word"),
            names.collect::<Vec<_>>().join(", ")
        )
    };
    json["ways"].as_array().expect("ways").iter().map(of).collect()
}

#[test]
fn a_pod_s_resolver_asks_name_by_name() {
    // Under svc.cluster.local the name exists without an address.
    let text = ". {\n hosts {\n  192.0.2.9 api.test\n }\n}\n\
                svc.cluster.local {\n template IN ANY {\n  rcode NOERROR\n }\n}\n\
                cluster.local {\n template IN ANY {\n  rcode NXDOMAIN\n }\n}\n";
    let corefile = file("pod", text);
    let asked = |args: &[&str]| {
        let mut all = vec!["explain", "--corefile", &corefile, "--json"];
        all.extend(args);
        let ran = corelane(&all);
        let json: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}", ran.err));
        json
    };
    let json = asked(&["api.test", "--policy", "ClusterFirst", "--namespace", "shop"]);
    let empty = "exists, without what is asked for";
    let expected = [
        format!(
            "glibc: api.test.shop.svc.cluster.local. {empty}, api.test.svc.cluster.local. {empty}, \
             api.test.cluster.local. does not exist, api.test. answered"
        ),
        format!("musl: api.test.shop.svc.cluster.local. {empty}"),
    ];
    assert_eq!(ways(&json), expected);
    // A and AAAA of four names, each walked once.
    assert_eq!(json["reports"].as_array().map(Vec::len), Some(8));
    let json = asked(&["api.test", "A", "--ndots", "1"]);
    assert_eq!(ways(&json), ["glibc: api.test. answered", "musl: api.test. answered"]);
    let json = asked(&["api", "A", "--search", "a.test,cluster.local,test"]);
    assert!(ways(&json)[1].starts_with("musl: api.a.test. "), "{json}");
    // A pod on its host's network has the cluster's search path only where it says so; one with a
    // policy of its own has none.
    for (policy, names) in [("ClusterFirstWithHostNet", 4), ("None", 1)] {
        let json = asked(&["api.test", "A", "--policy", policy]);
        assert_eq!(json["ways"][0]["names"].as_array().map(Vec::len), Some(names), "{json}");
    }
    let text = corelane(&["explain", "api.test", "--policy", "None", "--corefile", &corefile]).out;
    assert!(text.contains("\nresolv.conf: ndots 1\n\nglibc asks for\n"), "{text}");
    let node = corelane(&["explain", "api.test", "--policy", "Default", "--corefile", &corefile]);
    assert!(node.status == 1 && node.err.contains("asks what its node asks"), "{}", node.err);
    let json = asked(&["api", "A", "--policy", "Default", "--search", "test"]);
    assert_eq!(ways(&json)[0], "glibc: api.test. answered");
    let ran = corelane(&["explain", "a", "--corefile", &corefile, "--policy", "Cluster"]);
    assert!(ran.err.starts_with("explain: Cluster: a dnsPolicy is ClusterFirst, "), "{}", ran.err);
}
