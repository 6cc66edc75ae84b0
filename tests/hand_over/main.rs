//! One server takes the place of another under load, and no query is lost: by a folder, by SIGUSR2, with
//! another Corefile and another number of workers; and a successor that fails changes nothing.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "not the query path")]

mod bad_days;
mod end_points;
mod load;
#[path = "../message/mod.rs"]
mod message;
mod node_local;
mod pid_one;
#[path = "../ports/mod.rs"]
mod ports;
mod server;
mod stock;
mod systemd;

use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use corelane::data::transport::engine::Engine;
use corelane::sys;
use load::Load;
use ports::Port;
use server::{Folder, is_refused, name_of, wait_for};
use socket2::{Domain, SockAddr, Socket, Type};

/// A Corefile that answers on a port for what the load asks.
fn corefile(port: u16, more: &str) -> String {
    let answer = "answer \"{{ .Name }} 60 IN A 192.0.2.1\"";
    format!(".:{port} {{\n bind 127.0.0.1\n {more}\n template IN A {{\n  {answer}\n }}\n}}\n")
}

fn replaced(name: &str, first: &str, second: &str, arguments: &[&str]) {
    let port = Port::free();
    let folder = Folder::new(name);
    folder.write("Corefile", &corefile(port.number, first));
    let arguments = [&["-hand-over", "."], arguments].concat();
    let mut old = folder.start("old", &arguments);
    old.says("corelane-");
    let load = Load::start(([127, 0, 0, 1], port.number).into());
    load.answers(500);
    folder.write("Corefile", &corefile(port.number, second));
    let mut new = folder.start("new", &arguments);
    new.says("Succeeding process");
    assert_eq!(old.ended(), Some(0), "{}", old.output());
    load.answers(500);
    let mut third = folder.start("third", &arguments);
    assert_eq!(new.ended(), Some(0), "{}", new.output());
    load.answers(500);
    load.end();
    third.signal("TERM");
    assert_eq!(third.ended(), Some(0), "{}", third.output());
}

#[test]
fn a_server_is_replaced_under_load() {
    replaced("replaced", "", "", &[]);
}

#[test]
fn workers_become_fewer_and_more() {
    replaced("fewer", "", "multisocket 1", &[]);
    replaced("more", "multisocket 1 {\n  steering spread\n }", "", &[]);
}

#[test]
fn rings_are_handed_over() {
    match Engine::uring() {
        Ok(_) => replaced("rings", "", "", &["-io-engine", "uring"]),
        Err(error) => server::skipped(&format!("io_uring cannot be had here: {error}")),
    }
}

#[test]
fn a_server_starts_its_own_successor() {
    let port = Port::free();
    let folder = Folder::new("usr2");
    folder.write("Corefile", &corefile(port.number, ""));
    let mut old = folder.start("old", &["-pidfile", "pid"]);
    let number = || folder.read("pid").trim().parse::<u32>().unwrap_or_default();
    wait_for("a pid file", || number() == old.id());
    let load = Load::start(([127, 0, 0, 1], port.number).into());
    load.answers(500);
    old.signal("USR2");
    assert_eq!(old.ended(), Some(0), "{}", old.output());
    wait_for("a successor", || number() != old.id() && number() != 0);
    load.answers(500);
    load.end();
    server::signal(number(), "TERM");
    wait_for("its end", || is_refused(port.number));
}

#[test]
fn systemd_is_told_who_serves() {
    let port = Port::free();
    let folder = Folder::new("notify");
    folder.write("Corefile", &corefile(port.number, ""));
    let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    socket.set_read_timeout(Some(server::PATIENCE)).unwrap();
    let told = || {
        let mut text = [0; 256];
        let len = socket.recv(&mut text).expect("a word");
        String::from_utf8_lossy(&text[..len]).into_owned()
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.env("NOTIFY_SOCKET", folder.path().join("notify"));
    let mut old = folder.start_by(&mut command, "old", &[]);
    assert_eq!(told(), format!("READY=1\nMAINPID={}", old.id()));
    for (corefile, status) in [
        (corefile(port.number, "debug"), "STATUS=the Corefile is loaded"),
        (corefile(port.number, "nonsense"), "STATUS=an older Corefile serves: Corefile:3:2: "),
        (corefile(port.number, ""), "STATUS=the Corefile is loaded"),
    ] {
        folder.write("Corefile", &corefile);
        old.signal("USR1");
        let words = told();
        assert!(words.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{words}");
        let words = told();
        assert!(words.starts_with(&format!("READY=1\n{status}")), "{words}");
    }
    old.signal("USR2");
    let words = told();
    let number = words.strip_prefix("READY=1\nMAINPID=").and_then(|text| text.parse().ok());
    let number: u32 = number.unwrap_or_else(|| panic!("{words}"));
    assert_ne!(number, old.id());
    assert_eq!(old.ended(), Some(0), "{}", old.output());
    server::signal(number, "TERM");
    assert_eq!(told(), "STOPPING=1");
    wait_for("its end", || is_refused(port.number));
}

#[test]
fn a_successor_may_listen_elsewhere() {
    let (one, two) = (Port::free(), Port::free());
    let folder = Folder::new("elsewhere");
    folder.write("Corefile", &corefile(one.number, ""));
    let mut old = folder.start("old", &["-hand-over", "."]);
    old.says("corelane-");
    folder.write("Corefile", &corefile(two.number, ""));
    let _new = folder.start("new", &["-hand-over", "."]);
    assert_eq!(old.ended(), Some(0), "{}", old.output());
    assert!(server::ask(([127, 0, 0, 1], two.number).into(), &name_of(1)).is_some());
    assert!(is_refused(one.number), "the old address is closed");
}

#[test]
fn a_successor_that_fails_changes_nothing() {
    let port = Port::free();
    let folder = Folder::new("fails");
    folder.write("Corefile", &corefile(port.number, ""));
    let mut old = folder.start("old", &["-hand-over", "."]);
    old.says("corelane-");
    let load = Load::start(([127, 0, 0, 1], port.number).into());
    // One that ends before it asks for anything.
    folder.write("Corefile", &corefile(port.number, "nonsense"));
    let mut new = folder.start("new", &["-hand-over", "."]);
    assert_eq!(new.ended(), Some(1), "{}", new.output());
    // One that has the sockets, and then ends.
    let link = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
    link.connect(&SockAddr::unix(folder.path().join("corelane.sock")).unwrap()).unwrap();
    let say = |words: &str| sys::send_with(link.as_fd(), words.as_bytes(), &[]).unwrap();
    let hear = || {
        let (mut text, mut heard) = ([0; 65_536], None);
        wait_for("a word", || {
            heard = sys::receive_with(link.as_fd(), &mut text, 200).ok();
            heard.is_some()
        });
        let (len, descriptors) = heard.unwrap();
        (String::from_utf8_lossy(&text[..len]).into_owned(), descriptors)
    };
    say(r#"{"hello":{"version":1}}"#);
    assert_eq!(hear().0, r#"{"welcome":{"version":1}}"#);
    say(r#""take""#);
    let (words, descriptors) = hear();
    let address = format!("127.0.0.1:{}", port.number);
    assert!(words.contains(&format!(r#"{{"udp":"{address}"}}"#)), "{words}");
    assert!(words.contains(&format!(r#"{{"tcp":"{address}"}}"#)), "{words}");
    assert!(!descriptors.is_empty());
    drop((link, descriptors));
    old.says("it has ended. Serving goes on");
    load.answers(500);
    // One that works.
    folder.write("Corefile", &corefile(port.number, ""));
    let _new = folder.start("new", &["-hand-over", "."]);
    assert_eq!(old.ended(), Some(0), "{}", old.output());
    load.answers(500);
    load.end();
}

#[test]
fn another_protocol_is_refused() {
    let port = Port::free();
    let folder = Folder::new("protocol");
    folder.write("Corefile", &corefile(port.number, ""));
    let mut old = folder.start("old", &["-hand-over", "."]);
    old.says("corelane-");
    let link = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
    link.connect(&SockAddr::unix(folder.path().join("corelane.sock")).unwrap()).unwrap();
    sys::send_with(link.as_fd(), br#"{"hello":{"version":99}}"#, &[]).unwrap();
    old.says("protocol 99");
    assert!(server::ask(([127, 0, 0, 1], port.number).into(), &name_of(1)).is_some());
}
