//! Sockets that somebody else holds, as systemd does for a socket unit: a server is started anew, and what
//! was asked meanwhile is answered.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};

use corelane::data::transport::engine::Engine;

use crate::corefile;
use crate::load::Load;
use crate::message::query;
use crate::ports::Port;
use crate::server::{self, Folder, PATIENCE, Server, ask, is_answer, name_of, skipped, wait_for};

/// The sockets of a unit, one of each kind.
struct Unit {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Unit {
    fn bind(address: SocketAddr) -> Self {
        Self { udp: UdpSocket::bind(address).unwrap(), tcp: TcpListener::bind(address).unwrap() }
    }

    /// Starts a server with the sockets where systemd would leave them: descriptors 3 and 4.
    fn start(&self, folder: &Folder, name: &str, arguments: &[&str]) -> Server {
        let left = "LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=udp:tcp; \
                    export LISTEN_PID LISTEN_FDS LISTEN_FDNAMES; \
                    exec \"$@\" 3<&0 4<&1 0</dev/null 1>&2";
        let mut command = Command::new("sh");
        command.args(["-c", left, "sh", env!("CARGO_BIN_EXE_corelane"), "-conf", "Corefile"]);
        command.args(arguments).current_dir(folder.path());
        command.stdin(Stdio::from(OwnedFd::from(self.udp.try_clone().unwrap())));
        command.stdout(Stdio::from(OwnedFd::from(self.tcp.try_clone().unwrap())));
        let output = folder.path().join(name);
        command.stderr(File::create(&output).unwrap());
        Server::new(command, output)
    }
}

fn local(port: &Port) -> SocketAddr {
    ([127, 0, 0, 1], port.number).into()
}

fn restarted(name: &str, arguments: &[&str]) {
    let port = Port::free();
    let folder = Folder::new(name);
    folder.write("Corefile", &corefile(port.number, ""));
    let unit = Unit::bind(local(&port));
    let mut first = unit.start(&folder, "first", arguments);
    first.says("corelane-");
    let load = Load::start(local(&port));
    load.answers(500);
    first.signal("TERM");
    assert_eq!(first.ended(), Some(0), "{}", first.output());
    let arguments = [arguments, &["-pidfile", "pid"]].concat();
    let mut second = unit.start(&folder, "second", &arguments);
    load.answers(500);
    // Whoever succeeds leaves the sockets to systemd, too.
    second.signal("USR2");
    assert_eq!(second.ended(), Some(0), "{}", second.output());
    load.answers(500);
    let third = folder.read("pid").trim().parse().unwrap();
    server::signal(third, "TERM");
    wait_for("its end", || !Path::new(&format!("/proc/{third}/exe")).exists());
    let mut last = unit.start(&folder, "last", &arguments);
    load.answers(500);
    load.end();
    last.signal("TERM");
    assert_eq!(last.ended(), Some(0), "{}", last.output());
    assert!(!last.output().contains("[WARN"), "{}", last.output());
}

#[test]
fn queries_wait_while_the_server_is_started_anew() {
    restarted("restarted", &[]);
}

#[test]
fn queries_wait_while_rings_are_started_anew() {
    match Engine::uring() {
        Ok(_) => restarted("restarted-rings", &["-io-engine", "uring"]),
        Err(error) => skipped(&format!("io_uring cannot be had here: {error}")),
    }
}

#[test]
fn a_reload_may_listen_on_what_was_left_over() {
    let (served, left) = (Port::free(), Port::free());
    let folder = Folder::new("left-over");
    folder.write("Corefile", &corefile(served.number, ""));
    let unit = Unit::bind(local(&left));
    let mut server = unit.start(&folder, "server", &[]);
    server.says(&format!("holds {}, where the Corefile does not listen", local(&left)));
    assert!(ask(local(&served), &name_of(1)).is_some());
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let (query, mut reply) = (query(9, &name_of(2), 1), [0; 512]);
    client.send_to(&query, local(&left)).unwrap();
    let both = [&served, &left].map(|port| corefile(port.number, ""));
    folder.write("Corefile", &both.concat());
    server.signal("USR1");
    let len = client.recv(&mut reply).expect("an answer to what was asked before");
    assert!(is_answer(&query, &reply[..len]));
    let load = Load::start(local(&left));
    load.answers(100);
    load.end();
}

#[test]
fn the_query_that_systemd_has_started_the_server_for_is_answered() {
    let program = "systemd-socket-activate";
    if Command::new(program).arg("--version").output().is_err() {
        return skipped(&format!("{program} is not here"));
    }
    let port = Port::free();
    let folder = Folder::new("activated");
    folder.write("Corefile", &corefile(port.number, ""));
    let mut command = Command::new(program);
    let address = local(&port).to_string();
    command.args(["--datagram", "--listen", &address, env!("CARGO_BIN_EXE_corelane")]);
    let mut server = folder.start_by(&mut command, "server", &[]);
    server.says("Listening on");
    assert!(ask(local(&port), &name_of(1)).is_some(), "{}", server.output());
    server.signal("TERM");
    assert_eq!(server.ended(), Some(0), "{}", server.output());
}
