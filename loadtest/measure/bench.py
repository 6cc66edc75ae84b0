"""A scenario under way: all its servers up, and rounds in which load visits each in turn."""

import hashlib
import json
import random
import subprocess
import sys
import time
import urllib.request

from . import figures
from .process import Server, on_cpu, usage_between
from .scenario import HERE, Contender, Failure, definition, substitute

BASE = "reflect"
# Bursts that find out what a server answers when saturated (kind `reload`), and their seconds.
CAPACITY_BURSTS = 3
CAPACITY_SECONDS = 1.0
# Kind `cluster`: what a server gets to come to rest, and to have listed everything again.
SETTLE_SECONDS = 3.0
RELIST_SECONDS_MAX = 90.0


def make_data(kind, directory, seed):
    """The folder with the data of `kind`; made when missing, or of another `mkdata` or seed."""
    mkdata = HERE / "mkdata"
    version = f"{hashlib.sha256(mkdata.read_bytes()).hexdigest()} {seed}"
    stamp = directory / f"{kind}.stamp"
    if not stamp.exists() or stamp.read_text() != version:
        print(f"making the data of {kind}", file=sys.stderr)
        words = [sys.executable, mkdata, directory, kind, "--seed", str(seed)]
        if subprocess.run(words).returncode != 0:
            raise Failure(f"mkdata cannot make {kind}")
        stamp.write_text(version)
    return directory


class Bench:
    """The servers of a scenario, and the measurements of its kind.

    `rounds` grows while `measure` runs: after an interruption it holds what is complete.
    """

    def __init__(self, scenario, contenders, directory, setting):
        self.scenario = scenario
        self.setting = setting
        self.left_out = {}
        self.servers = []
        self.capacity = {}
        self.rounds = []
        values = {"bin": setting.binaries, "target": setting.target}
        if scenario.data:
            values["data"] = make_data(scenario.data, setting.target / "loadtest", setting.seed)
        values |= scenario.define
        self.backends = {}
        for kind, own in scenario.backend.items():
            words = definition(kind, own)
            place = directory / f"backend-{kind}"
            backend = Server(
                Contender(kind, kind), words, scenario, place, values, setting.client_cpu
            )
            self.backends[kind] = backend
            values |= {f"port_{kind}": backend.port}
        for contender in contenders:
            try:
                words = definition(contender.kind, scenario.server.get(contender.kind, {}))
                place = directory / contender.label
                server = Server(contender, words, scenario, place, values, setting.server_cpu)
                self.servers.append(server)
            except Failure as why:
                self.leave_out(contender.label, why)

    def leave_out(self, label, why):
        """Goes on without a server, and says so."""
        print(f"left out: {label}: {why}", file=sys.stderr)
        self.left_out[label] = str(why)

    def start(self):
        """Starts one server after the other, so that the time until it is ready is its own."""
        for backend in self.backends.values():
            backend.start()
        if self.scenario.kind == "cluster":
            # Each has the machine for itself while it is measured.
            return
        for server in self.servers[:]:
            try:
                if self.scenario.kind == "reload" and "reload" not in server.definition:
                    raise Failure("it cannot reload")
                server.start()
            except Failure as why:
                server.stop()
                self.servers.remove(server)
                self.leave_out(server.label, why)
        if not self.servers:
            raise Failure("nothing to measure")

    def stop(self):
        """Ends all servers, and what stands behind them."""
        for server in [*self.servers, *self.backends.values()]:
            server.stop()

    # --- Load ---

    def flood_words(self, server, seconds, pace):
        """The command line of flood."""
        words = [str(self.setting.binaries / "flood"), f"127.0.0.1:{server.port}"]
        words += [substitute(word, server.values) for word in self.scenario.flood]
        if expected := server.definition.get("expect", self.scenario.expect):
            words += ["--expect", expected]
        words += ["--seed", str(self.setting.seed + len(self.rounds))]
        return words + [*pace, "--seconds", str(seconds), "--json"]

    def flood(self, server, seconds, pace=(), meanwhile=None):
        """One run of flood, and what it reports. `meanwhile` is called over and over."""
        process = subprocess.Popen(
            self.flood_words(server, seconds, pace),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=on_cpu(self.setting.client_cpu),
        )
        try:
            while meanwhile and process.poll() is None:
                meanwhile()
                time.sleep(0.01)
            output, errors = process.communicate(timeout=seconds + 30)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if not output:
            raise Failure(f"flood against {server.label}: {errors.strip()}")
        return json.loads(output)

    def measured(self, server, seconds, pace=()):
        """One burst of load, as numbers about `server`."""
        before = server.usage()
        report = self.flood(server, seconds, pace)
        cpu, user, system = usage_between(before, server.usage())
        resident, peak = server.resident()
        latency = report["latency_us"] or {}
        return {
            "cpu_us": figures.per_answer_us(cpu, report["answered"]),
            "user_us": figures.per_answer_us(user, report["answered"]),
            "system_us": figures.per_answer_us(system, report["answered"]),
            "qps": report["qps"],
            "p50_us": latency.get("p50"),
            "p99_us": latency.get("p99"),
            "rss_mb": resident / 1e6,
            "peak_rss_mb": peak / 1e6,
            "flood": report,
        }

    def warm_up(self):
        """Visits each server once, unmeasured: caches fill, threads and heaps settle."""
        if self.scenario.kind in ("burst", "reload"):
            for server in self.servers:
                self.flood(server, self.scenario.warm_up_seconds)

    # --- Rounds ---

    def measure(self, progress):
        """All rounds of the scenario."""
        visits = {
            "burst": self.burst,
            "reload": self.reload_pair,
            "cluster": self.cluster,
            "idle": None,
        }
        visit = visits[self.scenario.kind]
        if visit is None:
            for _ in range(self.scenario.rounds):
                self.rounds.append(self.idle(progress))
            return
        if self.scenario.kind == "reload":
            self.find_capacity(progress)
        for _ in range(self.scenario.rounds):
            bursts = {}
            self.rounds.append(bursts)
            for server in random.sample(self.servers, len(self.servers)):
                bursts[server.label] = visit(server)
                progress.step(server.label)

    def steps(self):
        """(how often `progress.step` will be called, about how long a step takes)."""
        seconds = self.scenario.seconds
        if self.scenario.kind == "idle":
            return self.scenario.rounds, seconds
        count = self.scenario.rounds * len(self.servers)
        if self.scenario.kind == "reload":
            return count + len(self.servers), 2 * (seconds + 0.2)
        if self.scenario.kind == "cluster":
            return count, 4 * SETTLE_SECONDS + seconds
        return count, seconds + 0.2

    def burst(self, server):
        """Saturated, or at the rate of the scenario."""
        return self.measured(server, self.scenario.seconds)

    def find_capacity(self, progress):
        """What each server answers a second when saturated."""
        for server in self.servers:
            qps = [
                self.flood(server, CAPACITY_SECONDS)["qps"] for _ in range(CAPACITY_BURSTS)
            ]
            self.capacity[server.label] = figures.spread(qps)["median"]
            progress.step(server.label)

    def reload_pair(self, server):
        """A window with reloads and one without, in random order, at the same rate."""
        rate = round(self.capacity[server.label] * self.scenario.load_share)
        pair = {"rate": rate}
        for kind in random.sample(("quiet", "reload"), 2):
            due = Reloads(server, self.scenario) if kind == "reload" else None
            done_before = server.reloads_done()
            pair[kind] = self.flood(
                server, self.scenario.seconds, ("--rate", str(rate)), due and due.tick
            )
            if due:
                pair["reloads_asked"] = due.asked
                pair["reloads_done"] = server.reloads_done() - done_before
        return pair

    def cluster(self, server):
        """One server from its start: until ready, at rest, through a forced re-list of everything,
        and under churn."""
        server.start()
        try:
            time.sleep(SETTLE_SECONDS)
            steady, start_peak = server.resident()
            server.forget_peak()
            asked = self.kube_asked()
            self.kube("expire")
            deadline = time.monotonic() + RELIST_SECONDS_MAX
            while not all(n > asked.get(what, 0) for what, n in self.kube_asked().items()):
                if time.monotonic() > deadline:
                    raise Failure(f"{server.label} has not listed again")
                time.sleep(0.1)
            self.rest(server)
            after, peak = server.resident()
            before = server.usage()
            self.kube(f"churn?rate={self.scenario.churn}")
            time.sleep(self.scenario.seconds)
            self.kube("churn?rate=0")
            cpu, _, _ = usage_between(before, server.usage())
            told = self.told(server)
        finally:
            server.stop()
        return {
            "ready_seconds": server.ready_seconds,
            "steady_mb": steady / 1e6,
            "start_peak_mb": start_peak / 1e6,
            "relist_peak_mb": peak / 1e6,
            "after_mb": after / 1e6,
            "relist_ratio": peak / steady,
            "churn_cpu_share": cpu / self.scenario.seconds,
            "served_p99_ms": told,
        }

    def rest(self, server):
        """Waits until a server has nothing to do any more."""
        while True:
            before = server.usage()
            time.sleep(SETTLE_SECONDS)
            cpu, _, _ = usage_between(before, server.usage())
            if cpu < 0.05 * SETTLE_SECONDS:
                return

    def told(self, server):
        """The p99 from an event's arrival to its being served, in ms, of a server that tells it."""
        url = f"http://127.0.0.1:{server.values['port1']}/metrics"
        try:
            with urllib.request.urlopen(url, timeout=5) as page:
                lines = page.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return None
        for line in lines:
            if line.startswith("corelane_kubernetes_event_to_served_seconds{"):
                if 'quantile="0.99"' in line:
                    return 1000 * float(line.rsplit(" ", 1)[1])
        return None

    def kube(self, what):
        """What the synthetic API server says to a request."""
        url = f"http://127.0.0.1:{self.backends['kubeapi'].port}/synthetic/{what}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)

    def kube_asked(self):
        """{kind: how often it was listed or watched}."""
        asked = {}
        for what, count in self.kube("stats").items():
            kind = what.split()[1]
            asked[kind] = asked.get(kind, 0) + count
        return asked

    def idle(self, progress):
        """All servers at once over one stretch of time without queries."""
        servers = {server.label: server for server in self.servers}
        before = {name: (s.switches()[0], s.usage()) for name, s in servers.items()}
        time.sleep(self.scenario.seconds)
        found = {}
        for name, server in servers.items():
            switches, threads = server.switches()
            cpu, _, _ = usage_between(before[name][1], server.usage())
            resident, peak = server.resident()
            found[name] = {
                "rss_mb": resident / 1e6,
                "peak_rss_mb": peak / 1e6,
                "context_switches": switches - before[name][0],
                "cpu_ms": cpu * 1e3,
                "threads": threads,
            }
        progress.step("all")
        return found

    def figures(self):
        """The figures of all rounds so far."""
        names = [server.label for server in self.servers]
        if self.scenario.kind == "idle":
            return figures.idle_figures(self.rounds, names)
        if self.scenario.kind == "reload":
            return figures.reload_figures(self.rounds, names)
        if self.scenario.kind == "cluster":
            return figures.cluster_figures(self.rounds, names)
        return figures.burst_figures(self.rounds, names, self.base())

    def base(self):
        """The server that ratios are taken to: the reflector, or else the first one."""
        names = [server.label for server in self.servers]
        return BASE if BASE in names else names[0]


class Reloads:
    """Reloads at their times, the first one half an interval after the start."""

    def __init__(self, server, scenario):
        self.server = server
        self.interval = scenario.reload_every
        # None falls due so late that the load might be over before the reload is.
        self.until = time.monotonic() + scenario.seconds - self.interval / 4
        self.next = time.monotonic() + self.interval / 2
        self.asked = 0

    def tick(self):
        """Asks for a reload if one is due."""
        now = time.monotonic()
        if self.next <= now < self.until:
            self.server.reload()
            self.asked += 1
            self.next += self.interval
