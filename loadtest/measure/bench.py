"""A scenario under way: all its servers up, and rounds in which load visits each in turn."""

import hashlib
import json
import os
import random
import subprocess
import sys
import time
import urllib.request

from . import arithmetic, machine
from .kinds import KINDS
from .process import FURTHER_PORTS, Server, on_cpus, usage_between
from .scenario import HERE, Contender, Failure, definition, substitute

BASE = "reflect"
# Bursts that find out what a server answers when saturated.
CAPACITY_BURSTS = 3


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
    """The servers of a scenario, and what is done with them.

    `rounds` grows while `measure` runs: after an interruption it holds what is complete.
    """

    def __init__(self, scenario, contenders, directory, setting):
        self.scenario = scenario
        self.kind = KINDS[scenario.kind]
        self.setting = setting
        self.directory = directory
        self.dnsperf = None
        self.left_out = {}
        self.servers = []
        self.capacity = {}
        self.rounds = []
        # The command lines of one burst each, by server: the report shows them.
        self.commands = {}
        self.values = {"bin": setting.binaries, "target": setting.target}
        self.values |= {"workers": len(setting.server_cpus), "origin": "example.org", "nsd_more": ""}
        self.values |= {"knot_zone": "{zone}", "knot_origin": "{origin}"}
        if scenario.data:
            place = setting.target / "loadtest"
            self.values["data"] = make_data(scenario.data, place, setting.seed)
        self.values |= scenario.define
        self.backends = {}
        cpus = setting.server_cpus if scenario.backend_cpu == "server" else setting.client_cpus
        for kind, own in scenario.backend.items():
            contender = Contender(kind, kind)
            place = directory / f"backend-{kind}"
            words = definition(kind, own)
            backend = Server(contender, words, scenario, place, self.values, cpus)
            self.backends[kind] = backend
            self.values |= {f"port_{kind}": backend.port}
            self.values |= {f"port{i}_{kind}": backend.values[f"port{i}"] for i in FURTHER_PORTS}
        for contender in contenders:
            try:
                self.servers.append(self.server_of(contender, scenario))
            except Failure as why:
                self.leave_out(contender.label, why)

    def server_of(self, contender, scenario):
        """A server that is to be measured, not started yet."""
        words = definition(contender.kind, scenario.server.get(contender.kind, {}))
        place = self.directory / contender.label
        cpus = self.setting.server_cpus
        return Server(contender, words, scenario, place, self.values, cpus)

    def leave_out(self, label, why):
        """Goes on without a server, and says so."""
        print(f"left out: {label}: {why}", file=sys.stderr)
        self.left_out[label] = str(why)

    def start(self):
        """Starts one server after the other, so that the time until it is ready is its own."""
        for backend in self.backends.values():
            backend.start()
        if self.starts_by_itself():
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

    def starts_by_itself(self):
        """Whether the kind starts a server for each visit, and ends it."""
        return getattr(self.kind, "STARTS_BY_ITSELF", False)

    def stop(self):
        """Ends all servers, and what stands behind them."""
        for server in [*self.servers, *self.backends.values()]:
            server.stop()

    # --- Load ---

    def flood_words(self, server, seconds, pace):
        """The command line of flood; `pace` takes the place of the scenario's."""
        words = [str(self.setting.binaries / "flood"), f"127.0.0.1:{server.port}"]
        words += [substitute(word, server.values) for word in self.scenario.flood]
        if expected := server.definition.get("expect", self.scenario.expect):
            words += ["--expect", expected]
        words += ["--seed", str(self.setting.seed + len(self.rounds))]
        return words + [*(pace or self.scenario.pace), "--seconds", str(seconds), "--json"]

    def flood(self, server, seconds, pace=(), meanwhile=None, seconds_in_all=None):
        """One run of flood, and what it reports. `meanwhile` is called over and over."""
        words = self.flood_words(server, seconds, pace)
        self.commands[server.label] = " ".join(words)
        process = subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=on_cpus(self.setting.client_cpus),
        )
        try:
            while meanwhile and process.poll() is None:
                meanwhile()
                time.sleep(0.01)
            output, errors = process.communicate(timeout=(seconds_in_all or seconds) + 30)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if not output:
            raise Failure(f"flood against {server.label}: {errors.strip()}")
        return json.loads(output)

    def watched(self, server, seconds, pace=(), meanwhile=None):
        """As `flood`; where queries have their times, with what the machine did meanwhile."""
        if "--rate" not in (pace or self.scenario.pace):
            return self.flood(server, seconds, pace, meanwhile)
        before = machine.look(server)
        process, thread = machine.busiest(before["threads"])
        cpus = sorted(self.setting.server_cpus | self.setting.client_cpus)
        watch = ["--watch", ",".join(map(str, cpus))]
        watch += ["--watch-thread", f"/proc/{process}/task/{thread}/schedstat"]
        report = self.flood(server, seconds, [*(pace or self.scenario.pace), *watch], meanwhile)
        report["machine"] = machine.between(before, machine.look(server), report)
        return report

    def measured(self, server, seconds, pace=()):
        """One burst of load, as numbers about `server`."""
        switches, _ = server.switches()
        before = server.usage()
        report = self.watched(server, seconds, pace)
        cpu, user, system = usage_between(before, server.usage())
        switches = server.switches()[0] - switches
        resident, peak = server.resident()
        latency = report["latency_us"] or {}
        answered = report["answered"]
        found = {f"{key}_us": latency.get(key) for key in ("p50", "p90", "p99", "p999", "max")}
        return found | {
            "cpu_us": arithmetic.per_answer_us(cpu, answered),
            "user_us": arithmetic.per_answer_us(user, answered),
            "system_us": arithmetic.per_answer_us(system, answered),
            "switches": switches / answered if answered else None,
            "qps": report["qps"],
            "rss_mb": resident / 1e6,
            "peak_rss_mb": peak / 1e6,
            "flood": report,
        }

    def warm_up(self):
        """Visits each server once, unmeasured: caches fill, threads and heaps settle."""
        if self.scenario.kind != "idle" and not self.starts_by_itself():
            for server in self.servers:
                self.flood(server, self.scenario.warm_up_seconds, self.scenario.warm_up_pace)

    def find_capacity(self, progress):
        """What each server answers a second when saturated, as it should."""
        for server in self.servers:
            seconds = self.scenario.capacity_seconds
            bursts = [self.flood(server, seconds) for _ in range(CAPACITY_BURSTS)]
            rates = [arithmetic.good_rate(report) for report in bursts]
            self.capacity[server.label] = arithmetic.spread(rates)["median"]
            progress.step(server.label)

    # --- Rounds ---

    def measure(self, progress):
        """All rounds of the scenario. What this process does meanwhile costs the client, not the servers."""
        own = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self.setting.client_cpus)
        try:
            self.kind.prepare(self, progress)
            for _ in range(self.scenario.rounds):
                bursts = {}
                self.rounds.append(bursts)
                for server in random.sample(self.servers, len(self.servers)):
                    bursts[server.label] = self.kind.visit(self, server)
                    progress.step(server.label)
        finally:
            os.sched_setaffinity(0, own)

    def figures(self):
        """The figures of all rounds so far."""
        names = [server.label for server in self.servers]
        return self.kind.figures(self.rounds, names, self.base())

    def base(self):
        """The server that ratios are taken to: the reflector, or else the first one."""
        names = [server.label for server in self.servers]
        return BASE if BASE in names or not names else names[0]

    # --- What stands beside the servers ---

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

    def metric(self, server, name, label=""):
        """The sum of the series of a metric with `label` of a server that exports them at its first
        extra port; None without any."""
        url = f"http://127.0.0.1:{server.values['port1']}/metrics"
        try:
            with urllib.request.urlopen(url, timeout=5) as page:
                lines = page.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return None
        own = [line for line in lines if line.startswith(f"{name}{{") and label in line]
        return sum(float(line.rsplit(" ", 1)[1]) for line in own) if own else None
