//! `corelane explain --server` beside a running server, and who is answered there.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::ports::Port;
use super::{corelane, file};

/// A running server; gone when it is dropped.
struct Server {
    child: Child,
    health: String,
    _ports: [Port; 2],
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Serves these lines in a block of the root.
    fn start(name: &str, option: &str, lines: &str) -> Self {
        let ports = [Port::free(), Port::free()];
        let health = format!("127.0.0.1:{}", ports[1].number);
        let text = format!(
            ".:{} {{\nbind 127.0.0.1\nhealth {health} {{\n{option}\n}}\n{lines}\n}}\n",
            ports[0].number
        );
        let corefile = file(name, &text);
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        let command = command.args(["-quiet", "-conf", &corefile]).stdout(Stdio::null());
        let server = Self { child: command.spawn().expect("a process"), health, _ports: ports };
        let began = Instant::now();
        while server.get("/health", "localhost").is_none_or(|answer| !answer.contains("OK")) {
            assert!(began.elapsed() < Duration::from_secs(60), "it does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        server
    }

    /// The answer to a request, head and body.
    fn get(&self, target: &str, host: &str) -> Option<String> {
        let mut stream = TcpStream::connect(&self.health).ok()?;
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    fn explain(&self, args: &[&str]) -> super::Ran {
        let mut all = vec!["explain", "--server", &self.health];
        all.extend(args);
        corelane(&all)
    }
}

#[test]
fn a_running_server_walks_the_question() {
    let lines = "cache 30\nhosts {\n192.0.2.8 host.test\nfallthrough\n}\n\
                 erratic {\ndrop 0\ndelay 1 20ms\n}";
    let server = Server::start("live", "", lines);
    let ran = server.explain(&["host.test", "--from", "10.0.0.7", "--json"]);
    let json: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}", ran.err));
    let report = &json["reports"][0];
    assert_eq!(report["from"], "10.0.0.7:40000");
    let plugins: Vec<_> = report["steps"].as_array().expect("steps").iter().collect();
    assert!(plugins.iter().any(|step| step["words"] == "answers NOERROR, 1 record"), "{report}");
    assert_eq!(report["reply"]["records"][0]["rdata"], "192.0.2.8");
    // What it has asked is in the cache of the server: the next is answered from there.
    let again = server.explain(&["host.test"]).out;
    assert!(again.contains("answers NOERROR, 1 record, from what it has stored"), "{again}");
    // One that waits is told when it is over.
    let late = server.explain(&["late.test"]);
    assert!(
        late.status == 0 && late.out.contains("erratic        waits ("),
        "{}{}",
        late.out,
        late.err
    );
    let nowhere = server.explain(&["host.test", "--at", ":1"]);
    assert!(
        nowhere.status == 1 && nowhere.err.contains("nothing listens there"),
        "{}",
        nowhere.err
    );
    let subnet = server.explain(&["host.test", "--subnet", "192.0.2.0/24", "--json"]);
    assert!(subnet.out.contains("\"1232 octets\""), "{}{}", subnet.out, subnet.err);
    let tcp = server.explain(&["host.test", "--tcp"]);
    assert!(tcp.out.contains("by tcp at 127.0.0.1:"), "{}", tcp.out);
}

#[test]
fn many_at_once_are_refused_and_none_is_lost() {
    let server = Server::start("many", "", "erratic {\ndrop 0\ndelay 1 100ms\n}");
    let answers: Vec<String> = std::thread::scope(|scope| {
        let ask = || server.get("/explain?name=a.test", "localhost").expect("an answer");
        let asking: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        asking.into_iter().map(|one| one.join().expect("no panic")).collect()
    });
    let with = |status: &str| answers.iter().filter(|one| one.starts_with(status)).count();
    let (walked, busy) = (with("HTTP/1.1 200"), with("HTTP/1.1 503"));
    assert!(walked >= 1 && walked + busy == 8, "{answers:?}");
    assert!(server.explain(&["b.test"]).status == 0, "it goes on");
}

#[test]
fn only_this_host_is_answered() {
    let server = Server::start("local", "", "whoami");
    let status = |target: &str, host: &str| {
        let answer = server.get(target, host).expect("an answer");
        answer.split(' ').nth(1).expect("a status").to_owned()
    };
    assert_eq!(status("/explain?name=a.test", "localhost:80"), "200");
    assert_eq!(status("/explain?name=a.test", "rebound.test"), "403");
    assert_eq!(status("/explain?name=a..b", "127.0.0.1"), "400");
    let off = Server::start("off", "status off", "whoami");
    let ran = off.explain(&["a.test"]);
    assert!(ran.status == 1 && ran.err.contains("no /explain there"), "{}", ran.err);
    let gone = corelane(&["explain", "a.test", "--server", "127.0.0.1:1"]);
    assert_eq!((gone.status, gone.err.lines().count()), (1, 1), "{}", gone.err);
}
