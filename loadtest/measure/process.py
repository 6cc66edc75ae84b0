"""Processes of servers: started on one CPU, asked until they answer, accounted for, ended."""

import ctypes
import os
import random
import shutil
import signal
import socket
import ssl
import stat
import struct
import subprocess
import time
from pathlib import Path

from .scenario import Failure, command_line, substitute

TICKS = os.sysconf("SC_CLK_TCK")
# Where peers are that Debian's packages install.
SYSTEM_PATH = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1
PIDFD_GETFD = 438
SO_RCVBUFFORCE = 33
# Below the ports that Linux gives to clients (from 32768), above those of tests (to 31500): a server
# that is not there yet is asked again and again, and whoever had its port would be asked instead.
PORTS = range(31500, 32768)
PORTS_OF_A_SERVER = 4
FURTHER_PORTS = range(1, PORTS_OF_A_SERVER)
# Two servers that open their port for others, too (SO_REUSEPORT), would share it and its load.
GIVEN = set()
STOP_SECONDS = 3.0
NOERROR, NXDOMAIN = 0, 3
TYPES = {"A": 1, "NS": 2, "SOA": 6, "TXT": 16, "AAAA": 28}


def on_cpus(cpus):
    """What a new process does first: it moves to `cpus`, and will end with this one."""

    def prepare():
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.sched_setaffinity(0, cpus)

    return prepare


def free_ports():
    """The first of some ports that nobody has, neither UDP nor TCP, and nobody was given before."""
    for _ in range(1000):
        first = random.randrange(PORTS.start, PORTS.stop - PORTS_OF_A_SERVER)
        ports = range(first, first + PORTS_OF_A_SERVER)
        if not GIVEN.isdisjoint(ports):
            continue
        try:
            for port in ports:
                for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                    with socket.socket(socket.AF_INET, kind) as probe:
                        probe.bind(("127.0.0.1", port))
            GIVEN.update(ports)
            return first
        except OSError:
            continue
    raise Failure("no free ports")


def ask(name, kind, port, transport, seconds=0.2):
    """The rcode of the answer of 127.0.0.1:`port`; None without one in time."""
    labels = [label.encode("ascii") for label in name.split(".") if label]
    encoded = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    message_id = random.randrange(1 << 16)
    query = struct.pack(">6H", message_id, 0x0100, 1, 0, 0, 0) + encoded
    query += struct.pack(">2H", TYPES[kind], 1)
    is_tcp = transport in ("tcp", "tls")
    try:
        with socket.socket(type=socket.SOCK_STREAM if is_tcp else socket.SOCK_DGRAM) as link:
            link.settimeout(seconds)
            link.connect(("127.0.0.1", port))
            if transport == "tls":
                link = unchecked_tls().wrap_socket(link)
            link.sendall(struct.pack(">H", len(query)) + query if is_tcp else query)
            answer = link.recv(65537)
            if transport == "tls" and len(answer) == 2:
                # Some servers write the length of a message in a record of its own.
                answer += link.recv(65537)
            answer = answer[2 if is_tcp else 0 :]
    except OSError:
        return None
    if len(answer) < 12 or answer[:2] != query[:2]:
        return None
    return answer[3] & 15


def unchecked_tls():
    """TLS to whoever answers: it is only asked whether somebody does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def has_ended(pid):
    """Whether child `pid` ended; it is not reaped, so its id stays its own."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def cpu_ns(pid):
    """CPU time of all threads of a process, those that ended too; exact to the nanosecond,
    where /proc counts hundredths of seconds (the clock of clock_getcpuclockid(3))."""
    scheduler_clock = 2
    return time.clock_gettime_ns((~pid << 3) | scheduler_clock)


def stat_fields(pid):
    """Fields of /proc/PID/stat from the third on (state, parent, group, session, ...)."""
    text = Path("/proc", str(pid), "stat").read_text(errors="replace")
    return text.rpartition(")")[2].split()


def status_values(path):
    """{key: value} of a /proc status file."""
    lines = path.read_text(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def listens(port):
    """Whether somebody accepts connections at 127.0.0.1:`port`."""
    try:
        with socket.create_connection(("127.0.0.1", port), 0.2):
            return True
    except OSError:
        return False


def set_receive_buffer(handle, number, port, octets):
    """Sets the buffer of descriptor `number` of a process, if it is the UDP socket of `port`;
    says whether it was."""
    copy = LIBC.syscall(PIDFD_GETFD, handle, number, 0)
    if copy < 0:
        return False
    if not stat.S_ISSOCK(os.fstat(copy).st_mode):
        os.close(copy)
        return False
    with socket.socket(fileno=copy) as link:
        is_udp = link.family in (socket.AF_INET, socket.AF_INET6)
        is_udp = is_udp and link.type == socket.SOCK_DGRAM
        if not is_udp or link.getsockname()[1] != port:
            return False
        # The kernel doubles what it is told, for its own book-keeping, as with every program.
        try:
            link.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, octets)
        except PermissionError:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, octets)
        if link.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) < 2 * octets:
            raise Failure(f"receive buffers of {octets} octets need root, or more rmem_max")
        return True


class Server:
    """A contender in a scenario, or what stands behind all of them (a backend): its folder, its
    ports, and, once started, its processes."""

    def __init__(self, contender, definition, scenario, directory, values, cpus):
        self.contender = contender
        self.label = contender.label
        self.kind = contender.kind
        self.arguments = list(contender.arguments)
        self.definition = definition
        self.scenario = scenario
        self.directory = directory
        self.cpus = cpus
        self.port = free_ports()
        self.process = None
        self.started = None
        self.ready_seconds = None
        self.values = values | {"dir": directory, "port": self.port}
        self.values |= {f"port{i}": self.port + i for i in FURTHER_PORTS}
        named = contender.path or substitute(self.definition["path"], self.values)
        found = shutil.which(named, path=SYSTEM_PATH)
        if found is None:
            raise Failure(f"{named} is not there")
        self.values["path"] = str(Path(found).resolve())

    def move_to(self, cpus):
        """Has it run on other CPUs, with as many workers, from its next start on."""
        self.cpus = cpus
        self.values["workers"] = len(cpus)

    def version(self):
        """What the binary says of itself, in one line; "" where it says nothing."""
        words = self.definition.get("version")
        if not words:
            return ""
        command = command_line(words, self.values, [])
        try:
            said = subprocess.run(command, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return " ".join((said.stdout + said.stderr).split("\n")[:2]).strip()

    def command_line(self):
        """How it is started, in one line."""
        words = command_line(self.definition["command"], self.values, self.arguments)
        own = [f"{name}={text}" for name, text in self.environment().items()]
        return " ".join([*own, *words])

    def start(self):
        """Writes its files and runs it, then asks until it is ready (where its definition says
        `ready = "connect"`: until it accepts a connection)."""
        self.directory.mkdir(exist_ok=True)
        for name, text in self.definition.get("files", {}).items():
            content = substitute(text, self.values)
            (self.directory / name).write_text(content, encoding="utf-8")
        command = command_line(self.definition["command"], self.values, self.arguments)
        self.started = time.monotonic()
        with open(self.directory / "log", "wb") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env=os.environ | self.environment(),
                start_new_session=True,
                preexec_fn=on_cpus(self.cpus),
            )
        while (waited := time.monotonic() - self.started) < self.scenario.ready_seconds:
            if has_ended(self.process.pid):
                break
            if self.is_ready():
                self.ready_seconds = waited
                return
            time.sleep(0.005)
        raise Failure(f"no answer after {waited:.1f} s: {self.log()[-400:] or 'an empty log'}")

    def environment(self):
        """What its definition adds to the environment."""
        own = self.definition.get("env", {})
        return {name: substitute(text, self.values) for name, text in own.items()}

    def is_ready(self):
        """Whether it answers, asked once: NOERROR to the scenario's `ready`, or anything where that is
        empty, and NXDOMAIN to its `absent`, which servers say only once they know all that there is."""
        if self.definition.get("ready") == "connect":
            return listens(self.port)
        if not self.scenario.ready:
            return ask(".", "NS", self.port, self.scenario.transport) is not None
        if self.rcode_of(self.scenario.ready) != NOERROR:
            return False
        absent = self.scenario.absent
        knows_rcodes = self.definition.get("expect", self.scenario.expect) != ""
        return not (absent and knows_rcodes) or self.rcode_of(absent) == NXDOMAIN

    def rcode_of(self, question):
        """The rcode of its answer to `name type`."""
        name, kind = question.split()
        return ask(name, kind, self.port, self.scenario.transport)

    def set_receive_buffers(self, octets):
        """Gives its UDP sockets receive buffers of this size, whatever it asked for itself: what
        the system's default would be, without changing that for everybody."""
        done = 0
        for pid in self.pids():
            handle = os.pidfd_open(pid)
            try:
                for entry in os.listdir(f"/proc/{pid}/fd"):
                    done += set_receive_buffer(handle, int(entry), self.port, octets)
            finally:
                os.close(handle)
        if not done:
            raise Failure(f"{self.label}: no UDP socket at its port")

    def log(self):
        """All that it wrote so far."""
        return (self.directory / "log").read_text(errors="replace").strip()

    def pids(self):
        """Its processes: those of its session, and all descendants of its first one."""
        processes = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    processes[int(entry)] = stat_fields(entry)
                except OSError:
                    continue
        first = self.process.pid
        own = {first} | {pid for pid, fields in processes.items() if int(fields[3]) == first}
        while more := {p for p, f in processes.items() if int(f[1]) in own} - own:
            own |= more
        return own & processes.keys()

    def usage(self):
        """{pid: (CPU ns, user ticks, system ticks)} of its processes."""
        if has_ended(self.process.pid):
            raise Failure(f"{self.label} ended: {self.log()[-400:]}")
        found = {}
        for pid in self.pids():
            try:
                fields = stat_fields(pid)
                found[pid] = (cpu_ns(pid), int(fields[11]), int(fields[12]))
            except OSError:
                continue
        return found

    def resident(self):
        """(resident bytes now, the highest they ever were), over its processes."""
        now = peak = 0
        for pid in self.pids():
            try:
                status = status_values(Path("/proc", str(pid), "status"))
            except OSError:
                continue
            now += int(status["VmRSS"].split()[0]) * 1024
            peak += int(status["VmHWM"].split()[0]) * 1024
        return now, peak

    def forget_peak(self):
        """Counts the highest resident size anew from here."""
        for pid in self.pids():
            Path("/proc", str(pid), "clear_refs").write_text("5", encoding="ascii")

    def switches(self):
        """(context switches so far, threads) over all threads of its processes."""
        total = threads = 0
        for pid in self.pids():
            for status in Path("/proc", str(pid), "task").glob("*/status"):
                try:
                    values = status_values(status)
                except OSError:
                    continue
                threads += 1
                total += int(values["voluntary_ctxt_switches"])
                total += int(values["nonvoluntary_ctxt_switches"])
        return total, threads

    def threads(self):
        """{(process, thread): its name, how long it ran and waited for a CPU (ns), and how often it had to
        leave one} of all its threads."""
        found = {}
        for pid in self.pids():
            for task in Path("/proc", str(pid), "task").glob("*"):
                try:
                    ran, waited, _ = (task / "schedstat").read_text(encoding="ascii").split()
                    values = status_values(task / "status")
                except (OSError, ValueError):
                    continue
                found[pid, int(task.name)] = {
                    "name": values["Name"].strip(),
                    "ran_ns": int(ran),
                    "waited_ns": int(waited),
                    "switched_out": int(values["nonvoluntary_ctxt_switches"]),
                }
        return found

    def major_faults(self):
        """How often its processes waited for a page to be read, so far."""
        total = 0
        for pid in self.pids():
            try:
                total += int(stat_fields(pid)[9])
            except OSError:
                continue
        return total

    def reload(self):
        """Makes it read its configuration again."""
        os.kill(self.process.pid, getattr(signal, f"SIG{self.definition['reload']}"))

    def reloads_done(self):
        """How often it said that it read its configuration again."""
        return self.log().count(self.definition["reloaded"])

    def stop(self):
        """Ends its process group: politely, then surely. Only then is its id given up."""
        if self.process is None:
            return
        for sign in (signal.SIGTERM, signal.SIGKILL):
            if has_ended(self.process.pid) and sign == signal.SIGTERM:
                continue
            try:
                os.killpg(self.process.pid, sign)
            except (ProcessLookupError, PermissionError):
                pass
            deadline = time.monotonic() + STOP_SECONDS
            while not has_ended(self.process.pid) and time.monotonic() < deadline:
                time.sleep(0.01)
        self.process.wait()
        self.process = None


def usage_between(before, after):
    """(CPU, user, system) seconds from one `usage` to a later one. CPU is exact; user and
    system share it as the ticks of /proc say."""
    total = user = system = 0
    for pid, (ns, user_ticks, system_ticks) in after.items():
        earlier = before.get(pid, (0, 0, 0))
        total += ns - earlier[0]
        user += user_ticks - earlier[1]
        system += system_ticks - earlier[2]
    seconds = total / 1e9
    user_share = user / (user + system) if user + system else 0.0
    return seconds, seconds * user_share, seconds * (1 - user_share)
