"""The life of the service on a machine of its own: systemd is its first process, and the Debian package is
installed, reloaded, started anew and handed over under load, killed, upgraded and purged.

    unshare --net --mount python tests/deploy/service.py PATH-OF-CORELANE

The machine is this one: an overlay of its files in memory, with processes, cgroups and a network of its own. Needs
root, a kernel with overlayfs and cgroup2, and systemd and dpkg installed. A line for each fault, and exit status 1.
"""

import fcntl
import json
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

from image import IFF_UP, SIOCSIFFLAGS, ask

ROOT = pathlib.Path(__file__).resolve().parents[2]
SECONDS = 60
ENGINES = ("gso", "mmsg", "uring")
COREFILE = """. {
    errors
    health
    ready
    prometheus
    reload 2s
    cache
    hosts {
        192.0.2.1 www.example
        no_reverse
    }
}
"""
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
# What becomes the first process: its files are those of the folder, and it knows that it is in a container.
FIRST = """
cd "$1" && mount -t proc proc proc && mount -t cgroup2 cgroup2 sys/fs/cgroup &&
pivot_root . . && umount -l . && cd / &&
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin "$2" --unit=sysinit.target
"""


def run(*command, **kwargs):
    done = subprocess.run(command, capture_output=True, text=True, **kwargs)
    if done.returncode:
        raise SystemExit(f"service: {' '.join(map(str, command))}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def until(what, done):
    end = time.monotonic() + SECONDS
    while not done():
        if time.monotonic() > end:
            raise SystemExit(f"service: in vain: {what}")
        time.sleep(0.02)


class Machine:
    """The machine: `start` gives it life, `run` is a command on it."""

    def __init__(self, folder, systemd):
        self.folder, self.root, self.systemd = folder, folder / "root", systemd
        self.group = folder / "cgroup" / f"corelane-test-{os.getpid()}"
        self.process = None

    def mounts(self):
        """Its file systems. `OSError` where one cannot be had."""

        def mount(kind, where, *options):
            where.mkdir(parents=True, exist_ok=True)
            words = [word for option in options for word in ("-o", option)]
            done = subprocess.run(["mount", "-t", kind, *words, kind, where], capture_output=True, text=True)
            if done.returncode:
                raise OSError(done.stderr.strip())

        mount("cgroup2", self.folder / "cgroup")
        self.group.mkdir()
        upper, work = self.folder / "upper", self.folder / "work"
        upper.mkdir()
        work.mkdir()
        mount("overlay", self.root, f"lowerdir=/,upperdir={upper},workdir={work}")
        mount("sysfs", self.root / "sys", "ro")
        for name in ("run", "tmp", "dev"):
            mount("tmpfs", self.root / name, "mode=755")
        for name in DEVICES:
            (self.root / "dev" / name).touch()
            run("mount", "--bind", f"/dev/{name}", self.root / "dev" / name)
        mount("devpts", self.root / "dev/pts", "newinstance,ptmxmode=0666")
        (self.root / "dev/ptmx").symlink_to("pts/ptmx")

    def start(self):
        # What keeps packages of a container from starting services would keep this one, too.
        (self.root / "usr/sbin/policy-rc.d").unlink(missing_ok=True)
        for name, text in (("resolv.conf", "nameserver 192.0.2.1\n"), ("machine-id", "0" * 31 + "1\n")):
            path = self.root / "etc" / name
            path.unlink(missing_ok=True)
            path.write_text(text)
        flags = [f"--{name}" for name in ("pid", "mount", "uts", "ipc", "cgroup", "fork", "kill-child")]
        join = lambda: (self.group / "cgroup.procs").write_text("0")
        command = ["unshare", *flags, "sh", "-c", FIRST, "sh", self.root, self.systemd]
        self.process = subprocess.Popen(command, preexec_fn=join, stdin=subprocess.DEVNULL, cwd="/")
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        until("a first process", children.read_text)
        names = [f"--{name}" for name in ("mount", "pid", "uts", "ipc", "cgroup", "root")]
        self.enter = ["nsenter", "--target", children.read_text().split()[0], *names, "--wd=/"]

        def is_up():
            done = self.tries("systemctl", "is-active", "sysinit.target")
            if self.process.poll() is not None:
                raise SystemExit(f"service: systemd ends with {self.process.returncode}")
            return done.returncode == 0

        until("a machine that is up", is_up)

    def tries(self, *words):
        return subprocess.run([*self.enter, *words], capture_output=True, text=True)

    def run(self, *words):
        return run(*self.enter, *words)

    def shows(self, name):
        return self.run("systemctl", "show", "--property", name, "--value", "corelane.service").strip()

    def main(self):
        return self.shows("MainPID")

    def write(self, path, text):
        path = self.root / path.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def journal(self):
        """Its lines, each with its priority."""
        lines = self.run("journalctl", "--unit", "corelane.service", "--output", "json").splitlines()
        return [(line["PRIORITY"], line["MESSAGE"]) for line in map(json.loads, lines)]

    def installs(self, package):
        # Without other packages' triggers, which take most of the time.
        self.run("dpkg", "--no-triggers", "--install", package)

    def end(self):
        if self.process:
            self.process.kill()
            self.process.wait()
        if self.group.exists():
            for folder, _, _ in os.walk(self.group, topdown=False):
                until("an empty cgroup", lambda: self.is_empty(folder))
                os.rmdir(folder)
        run("umount", "--recursive", "--lazy", self.folder)

    @staticmethod
    def is_empty(folder):
        return "populated 0" in pathlib.Path(folder, "cgroup.events").read_text()


class Load:
    """Clients that ask one question after the other, each of which is to be answered: it is asked once."""

    def __init__(self):
        self.going, self.answers, self.faults = True, 0, []
        asks = (self.by_datagram, self.by_datagram, self.by_datagram, self.by_stream)
        self.threads = [threading.Thread(target=self.goes, args=(one,)) for one in asks]
        for thread in self.threads:
            thread.start()
        self.more(200)

    def goes(self, one):
        number = 0
        while self.going and not self.faults:
            number = number % 65535 + 1
            try:
                reply = one(struct.pack(">H", number) + QUESTION)
            except OSError as error:
                self.faults.append(f"{one.__name__}: {error}")
                return
            if reply[:2] + reply[-4:] != struct.pack(">H", number) + bytes([192, 0, 2, 1]):
                self.faults.append(f"{one.__name__}: {reply!r}")
            self.answers += 1

    def by_datagram(self, query):
        with socket.socket(type=socket.SOCK_DGRAM) as link:
            link.settimeout(SECONDS)
            link.connect(("127.0.0.1", 53))
            link.send(query)
            return link.recv(512)

    def by_stream(self, query):
        with socket.create_connection(("127.0.0.1", 53), SECONDS) as link:
            link.sendall(struct.pack(">H", len(query)) + query)
            return link.recv(512)[2:]

    def more(self, count):
        until_count = self.answers + count
        until("answers", lambda: self.answers >= until_count or self.faults)

    def end(self, what):
        self.more(200)
        self.going = False
        for thread in self.threads:
            thread.join()
        for fault in self.faults:
            yield f"{what}: {fault}"


QUESTION = b"\1\0\0\1\0\0\0\0\0\0\3www\7example\0\0\1\0\1"


def under_load(what, act):
    load = Load()
    act()
    yield from load.end(what)


def answers(what):
    until(f"an answer {what}", lambda: ask("www.example", 53) == "192.0.2.1")


def confined(machine):
    """The service has the rights that the unit says, and no others."""
    lines = machine.run("cat", f"/proc/{machine.main()}/status")
    status = dict(line.split(":\t", 1) for line in lines.splitlines() if ":\t" in line)
    if "0" in status["Uid"].split() or status["NoNewPrivs"] != "1" or status["Seccomp"] != "2":
        yield f"runs as {status['Uid']}, NoNewPrivs {status['NoNewPrivs']}, Seccomp {status['Seccomp']}"
    if {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")} != {1 << 10}:
        yield f"has the capabilities {status['CapEff']}, and not NET_BIND_SERVICE alone"


def reloads(machine):
    """`systemctl reload` takes a new Corefile, and says of a faulty one why it is not."""
    main = machine.main()
    for text, word in (
        (COREFILE.replace("192.0.2.1", "192.0.2.7"), "the Corefile is loaded"),
        (COREFILE.replace("cache", "cash"), "an older Corefile serves: /etc/corelane/Corefile:7:5: "),
        (COREFILE, "the Corefile is loaded"),
    ):
        machine.write("/etc/corelane/Corefile", text)
        machine.run("systemctl", "reload", "corelane")
        until(f"the word {word}", lambda: machine.shows("StatusText").startswith(word))
        if machine.tries("systemctl", "is-active", "corelane").returncode or word not in machine.run(
            "systemctl", "status", "--full", "corelane"
        ):
            yield f"a reload: the status does not say: {word}"
    answers("after a reload")
    if machine.main() != main:
        yield "a reload: another process"


def hands_over(machine):
    """SIGUSR2: a new main process, which systemd watches as it did the old one."""
    main = machine.main()

    def act():
        machine.run("systemctl", "kill", "--signal=USR2", "--kill-whom=main", "corelane")
        until("another main process", lambda: machine.main() not in (main, "0"))
        gone = lambda: machine.tries("test", "-e", f"/proc/{main}").returncode
        until("the end of the old process", gone)

    yield from under_load("handed over", act)
    if machine.shows("ActiveState") != "active" or machine.shows("NRestarts") != "0":
        yield f"handed over, and is {machine.shows('ActiveState')}"


def is_watched(machine):
    """Whatever ends the process, as often as it does: it comes again."""
    for times in range(1, 7):
        main = machine.main()
        machine.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", "corelane")
        until("a process anew", lambda: machine.shows("NRestarts") == str(times) and machine.main() not in (main, "0"))
        answers("after the process was killed")


def engines(machine):
    for engine in ENGINES:
        text = f"[Service]\nEnvironment=CORELANE_IO_ENGINE={engine}\n"
        machine.write("/etc/systemd/system/corelane.service.d/engine.conf", text)
        machine.run("systemctl", "daemon-reload")
        yield from under_load(engine, lambda: machine.run("systemctl", "restart", "corelane"))
        files = machine.run("ls", "-l", f"/proc/{machine.main()}/fd")
        if ("[io_uring]" in files) != (engine == "uring"):
            yield f"{engine} is not what runs"
        yield from hands_over(machine)
    shutil.rmtree(machine.root / "etc/systemd/system/corelane.service.d")
    machine.run("systemctl", "daemon-reload")


def is_gone(machine):
    """A purge leaves nothing: no process, no file, no unit."""
    machine.run("dpkg", "--no-triggers", "--purge", "corelane")
    names = "/etc/corelane /etc/systemd /var/lib/corelane /var/lib/private /var/lib/systemd /usr/bin /run"
    places = names.split()
    left = machine.tries("find", *places, "-xdev", "-name", "*corelane*").stdout.split()
    if left:
        yield f"a purge leaves {left}"
    units = machine.run("systemctl", "list-units", "--all", "--no-legend", "corelane*").strip()
    if units or ask("www.example", 53):
        yield f"a purge leaves units, or a server: {units}"


def life(machine, package):
    machine.installs(package)
    until("the resolver of the package", lambda: ask("localhost", 53) == "127.0.0.1")
    yield from confined(machine)
    machine.write("/etc/corelane/Corefile", COREFILE)
    machine.run("systemctl", "restart", "corelane")
    answers("with another Corefile")
    yield from reloads(machine)
    yield from hands_over(machine)
    machine.run("systemctl", "stop", "corelane")
    machine.run("systemctl", "enable", "--now", "corelane.socket")
    # The first question is what starts the service.
    answers("by the socket unit")
    yield from under_load("restarted", lambda: machine.run("systemctl", "restart", "corelane"))
    yield from engines(machine)
    yield from under_load("upgraded", lambda: machine.installs(package))
    # A successor as well as whom systemd itself has started.
    yield from hands_over(machine)
    is_watched(machine)
    journal = machine.journal()
    # Of the faulty Corefile, and of the signal.
    for start, priority in (("[ERROR] ", "3"), ("[INFO] SIGUSR1", "6")):
        if not any(line.startswith(start) and level == priority for level, line in journal):
            yield f"the journal has no line {start} of priority {priority}"
    for _, line in journal:
        if "not permitted" in line or "denied" in line or "cannot be had" in line or "does not listen" in line:
            yield f"the journal says: {line}"
    yield from is_gone(machine)


def main():
    places = (pathlib.Path(folder, "systemd/systemd") for folder in ("/lib", "/usr/lib"))
    systemd = next((path for path in places if path.exists()), None)
    if not (systemd and shutil.which("deb-systemd-invoke")):
        print("skipped: deploy: the service where systemd is the first process: it is not installed")
        return False
    run("mount", "--make-rprivate", "/")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        fcntl.ioctl(link, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder)
        machine = Machine(folder, systemd)
        try:
            machine.mounts()
        except OSError as error:
            print(f"skipped: deploy: the service where systemd is the first process: {error}")
            machine.end()
            return False
        try:
            env = os.environ | {"DEBFULLNAME": "corelane", "DEBEMAIL": "corelane@debian.org"}
            run(ROOT / "deploy/deb", "--binary", sys.argv[1], folder / "built", env=env)
            (package,) = (folder / "built").glob("corelane_*.deb")
            shutil.copy(package, machine.root / "opt/corelane.deb")
            machine.start()
            found = list(life(machine, "/opt/corelane.deb"))
        finally:
            machine.end()
    for line in found:
        print(f"service: {line}")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
