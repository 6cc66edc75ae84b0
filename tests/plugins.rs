//! What the program says of its plugins, the README says too, and each is proved by a conversation.
#![allow(clippy::disallowed_methods, reason = "the bans guard the query path")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// CoreDNS's directives, by its plugin.cfg; `import` is the parser's.
const DIRECTIVES: &str = "\
    root metadata geoip cancel proxyproto quic grpc_server https https3 timeouts multisocket \
    reload nsid bufsize bind debug trace ready health pprof shed prometheus errors log \
    dnstap local dns64 any chaos loadbalance tsig rewrite autopath acl cache header dnssec \
    tls minimal template transfer hosts route53 azure clouddns k8s_external kubernetes file \
    auto secondary etcd loop forward grpc erratic whoami on sign view nomad";

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What the program prints.
fn said(args: &[&str]) -> String {
    said_in(top(), args)
}

/// Likewise, started in a folder.
fn said_in(folder: &Path, args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    let output = command.args(args).current_dir(folder).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{args:?}: {}\n{text}", output.status);
    text
}

fn built_in() -> BTreeSet<String> {
    said(&["-plugins"]).lines().map(str::to_owned).collect()
}

/// The words between backticks of the README's tables of plugins: those built in, those not yet.
fn readme() -> [Vec<String>; 2] {
    let readme = std::fs::read_to_string(top().join("README.md")).unwrap();
    let (_, rest) = readme.split_once("<!-- plugins").unwrap();
    let (tables, _) = rest.split_once("<!-- end of plugins -->").unwrap();
    let (built, later) = tables.split_once("| not yet |").unwrap();
    [built, later].map(|table| table.split('`').skip(1).step_by(2).map(str::to_owned).collect())
}

#[test]
fn the_readme_s_tables_are_true() {
    let [built, later] = readme();
    assert_eq!(built.iter().cloned().collect::<BTreeSet<_>>(), built_in());
    let mut named = [built, later].concat();
    named.sort_unstable();
    let mut known: Vec<_> = DIRECTIVES.split_whitespace().collect();
    known.sort_unstable();
    assert_eq!(named, known, "each directive once");
}

#[test]
fn the_readme_asks_what_try_asks() {
    let readme = std::fs::read_to_string(top().join("README.md")).unwrap();
    let lines = corelane::control::sample::lines_to_try(1053);
    for line in lines.lines().filter(|line| line.starts_with(' ')) {
        assert!(readme.contains(&format!("    {}\n", line.trim())), "{line}");
    }
}

#[test]
fn every_plugin_has_conversations() {
    for plugin in built_in() {
        let folder = top().join("tests/cases").join(&plugin);
        let cases = std::fs::read_dir(&folder).map_or(0, |entries| {
            let cases = entries.flatten().map(|entry| entry.path());
            cases.filter(|path| path.extension().is_some_and(|e| e == "case")).count()
        });
        assert!(cases > 0, "{}: no conversation", folder.display());
    }
}

/// Manuals have `## Syntax`, with a synopsis, and `## Examples`, with whole Corefiles.
#[test]
fn every_manual_s_examples_are_accepted() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("manuals");
    std::fs::create_dir_all(&folder).unwrap();
    let ours = rcgen::generate_simple_self_signed(["dns.example".to_owned()]).unwrap();
    std::fs::write(folder.join("cert.pem"), ours.cert.pem()).unwrap();
    std::fs::write(folder.join("ca.pem"), ours.cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), ours.signing_key.serialize_pem()).unwrap();
    for plugin in built_in() {
        let manual = said(&["help", &plugin]);
        assert!(manual.starts_with(&format!("# {plugin}\n")), "{plugin}: {manual}");
        let (_, examples) = manual.split_once("## Examples").expect(&plugin);
        let examples: Vec<_> = examples.split("```corefile\n").skip(1).collect();
        assert!(!examples.is_empty(), "{plugin}: no example");
        for (at, example) in examples.into_iter().enumerate() {
            let (text, _) = example.split_once("```").unwrap();
            let file = folder.join(format!("{plugin}.{at}"));
            std::fs::write(&file, text).unwrap();
            said_in(&folder, &["check", file.to_str().unwrap()]);
        }
    }
}

#[test]
fn the_version_is_said_as_scripts_read_it() {
    let version = said(&["-version"]);
    assert!(version.starts_with("CoreDNS-1.14.7\nlinux/"), "{version}");
}
