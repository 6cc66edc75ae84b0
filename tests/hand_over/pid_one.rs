//! The server as the first process of a space of its own, as in a container: it may not end when another
//! takes its place, answers for all that is left behind there, and ends as whoever serves does.

use std::fs;
use std::process::Command;

use corelane::sys;

use crate::corefile;
use crate::load::Load;
use crate::ports::Port;
use crate::server::{self, Folder, Server, ask, name_of, skipped, wait_for};

/// A server that is the first process of its space, and its number outside of that.
struct Container {
    /// `unshare`, which waits for it and ends with its status.
    outside: Server,
    first: u32,
}

impl Container {
    /// `None`, and a line: it cannot be had here.
    fn start(folder: &Folder) -> Option<Self> {
        let apart = ["--pid", "--mount-proc", "--fork", "--kill-child"];
        let works = |program: &str, arguments: &[&str]| {
            let done = Command::new(program).args(arguments).output();
            done.is_ok_and(|done| done.status.success())
        };
        let can = sys::user() == 0
            && works("unshare", &[&apart[..], &["true"]].concat())
            && works("nsenter", &["--version"]);
        if !can {
            skipped("the first process of a space: needs root, unshare and nsenter");
            return None;
        }
        let mut command = Command::new("unshare");
        command.args(apart).arg(env!("CARGO_BIN_EXE_corelane"));
        let mut outside = folder.start_by(&mut command, "output", &[]);
        outside.says("corelane-");
        let first = children(outside.id())[0].0;
        Some(Self { outside, first })
    }

    /// Has a new server take the place of the one that serves; gives its number.
    fn succeed(&mut self) -> u32 {
        let before = children(self.first);
        let handed = || self.outside.output().matches("Handed over to process").count();
        let times = handed();
        server::signal(self.first, "USR2");
        wait_for("a successor", || handed() > times);
        let mut now = Vec::new();
        wait_for("one child", || {
            now = children(self.first);
            now.len() == 1 && now != before && !now[0].1
        });
        now[0].0
    }

    /// Leaves a process behind, as one does who looks into a container.
    fn leave_behind(&self, command: &str) {
        let into = ["--target", &self.first.to_string(), "--pid", "--mount"];
        let both = format!("{command} >/dev/null 2>&1 &");
        let done = Command::new("nsenter").args(into).args(["sh", "-c", &both]).status();
        assert!(done.unwrap().success());
    }
}

/// The children of a process, each with whether it has ended and is not waited for.
fn children(process: u32) -> Vec<(u32, bool)> {
    let list = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
    let list = list.unwrap_or_default();
    let numbers = list.split_whitespace().map(|number| number.parse().unwrap());
    let is_over = |number: u32| {
        let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
    };
    numbers.map(|number| (number, is_over(number))).collect()
}

#[test]
fn the_first_process_stays_and_ends_as_its_successors_do() {
    let port = Port::free();
    let folder = Folder::new("first");
    folder.write("Corefile", &corefile(port.number, ""));
    let Some(mut container) = Container::start(&folder) else { return };
    let load = Load::start(([127, 0, 0, 1], port.number).into());
    load.answers(300);
    let second = container.succeed();
    load.answers(300);
    let third = container.succeed();
    assert_ne!(second, third);
    load.answers(300);
    // Nobody waits for these but the first process.
    (0..3).for_each(|_| container.leave_behind("true"));
    wait_for("no others", || children(container.first) == [(third, false)]);
    // A reload is for who serves.
    server::signal(container.first, "USR1");
    container.outside.says("Reloading complete");
    load.answers(300);
    load.end();
    // One that stays keeps nobody from the end.
    container.leave_behind("sleep 1000");
    wait_for("another", || children(container.first).len() == 2);
    server::signal(container.first, "TERM");
    assert_eq!(container.outside.ended(), Some(0), "{}", container.outside.output());
    assert!(server::is_refused(port.number));
}

#[test]
fn the_first_process_ends_when_its_successor_crashes() {
    let port = Port::free();
    let folder = Folder::new("crashes");
    folder.write("Corefile", &corefile(port.number, ""));
    let Some(mut container) = Container::start(&folder) else { return };
    let second = container.succeed();
    assert!(ask(([127, 0, 0, 1], port.number).into(), &name_of(1)).is_some());
    container.leave_behind("sleep 1000");
    wait_for("another", || children(container.first).len() == 2);
    server::signal(second, "KILL");
    assert_eq!(container.outside.ended(), Some(128 + 9), "{}", container.outside.output());
    assert!(server::is_refused(port.number));
}

#[test]
fn a_successor_that_fails_leaves_the_first_process_serving() {
    let port = Port::free();
    let folder = Folder::new("first-fails");
    folder.write("Corefile", &corefile(port.number, ""));
    let Some(mut container) = Container::start(&folder) else { return };
    folder.write("Corefile", &corefile(port.number, "nonsense"));
    server::signal(container.first, "USR2");
    container.outside.says("Serving goes on");
    wait_for("no child", || children(container.first).is_empty());
    assert!(ask(([127, 0, 0, 1], port.number).into(), &name_of(1)).is_some());
    server::signal(container.first, "TERM");
    assert_eq!(container.outside.ended(), Some(0), "{}", container.outside.output());
}
