"""A server as Prometheus sees it: the rules that are shipped, an outage that an alert tells of, and every
series that a rule or a dashboard names.

    python tests/observe/prometheus.py PATH-OF-CORELANE

The rules are loaded as they are shipped, but for one thing: a minute of theirs is a second here. Exit
status 1 and a line for each fault.
"""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

from others import Upstream, api
from server import Server, free_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
OBSERVABILITY = ROOT / "deploy/observability"
PATIENCE = 120  # seconds until something is taken to hang
faults = []

# Counted when something happens that this test does not bring about. That the program exports a family
# of this name tests/deploy/check.py finds in its source.
ONLY_WHEN = {
    "corelane_dnstap_dropped_total": "the collector of *dnstap* is slow",
    "corelane_forward_breaker_trips_total": "an upstream fails in bursts",
    "corelane_hand_over_timestamp_seconds": "another process hands over to this one",
    "corelane_kubernetes_checks_total": "ten minutes have gone by",
    "corelane_kubernetes_malformed_total": "the API server sends what cannot be read",
    "corelane_kubernetes_refused_total": "an object cannot have records",
    "corelane_kubernetes_repaired_total": "the comparison of every ten minutes finds lost events",
    "corelane_kubernetes_top_level_namespaces_total": "a namespace is named like a top-level domain",
    "corelane_kubernetes_trouble_total": "a request to the API server fails",
    "corelane_kubernetes_watch_restarts_total": "a watch ends",
    "corelane_tcp_refused_total": "there are more connections than may be",
    "corelane_trace_dropped_total": "the collector of *trace* is slow",
    "corelane_upstream_bounds_total": "too many queries wait for an upstream",
    "corelane_upstream_hedged_total": "an upstream is slow and `hedge` asks another",
    "corelane_upstream_ignored_total": "somebody forges replies of an upstream",
    "corelane_upstream_repeated_total": "a query to an upstream, or its reply, is lost",
    "coredns_cache_evictions_total": "a cache is full",
    "coredns_cache_prefetch_total": "a popular entry nears its end",
    "coredns_cache_served_stale_total": "an upstream is down and the cache serves what is old",
    "coredns_shed_dropped_total": "the server is behind",
}
# What the community's dashboards for CoreDNS ask for (grafana.com 12539 and 14981, kube-prometheus-stack's,
# dotdc's, coredns-mixin's), with the labels that they choose and add up by. All that CoreDNS 1.14.7 exports
# itself: of what they name besides, `coredns_forward_*_total{to}` and names of before 1.7 are its own past,
# and `go_*` is Go's.
SERVER = {"server", "zone", "view"}
CACHE = {"server", "zones", "view"}
COMMUNITY = {
    "coredns_build_info": {"version", "revision", "goversion"},
    "coredns_cache_entries": CACHE | {"type"},
    "coredns_cache_hits_total": CACHE | {"type"},
    "coredns_cache_misses_total": CACHE,
    "coredns_cache_requests_total": CACHE,
    "coredns_dns_do_requests_total": SERVER,
    "coredns_dns_request_duration_seconds_bucket": SERVER | {"le"},
    "coredns_dns_request_duration_seconds_count": SERVER,
    "coredns_dns_request_duration_seconds_sum": SERVER,
    "coredns_dns_request_size_bytes_bucket": SERVER | {"proto", "le"},
    "coredns_dns_request_size_bytes_count": SERVER | {"proto"},
    "coredns_dns_request_size_bytes_sum": SERVER | {"proto"},
    "coredns_dns_requests_total": SERVER | {"proto", "family", "type"},
    "coredns_dns_response_size_bytes_bucket": SERVER | {"proto", "le"},
    "coredns_dns_response_size_bytes_count": SERVER | {"proto"},
    "coredns_dns_response_size_bytes_sum": SERVER | {"proto"},
    "coredns_dns_responses_total": SERVER | {"rcode", "plugin"},
    "coredns_forward_healthcheck_broken_total": set(),
    "coredns_forward_max_concurrent_rejects_total": set(),
    "coredns_health_request_duration_seconds_bucket": {"le"},
    "coredns_health_request_failures_total": set(),
    "coredns_kubernetes_dns_programming_duration_seconds_bucket": {"service_kind", "le"},
    "coredns_panics_total": set(),
    "coredns_plugin_enabled": SERVER | {"name"},
    "coredns_proxy_conn_cache_hits_total": {"proxy_name", "to", "proto"},
    "coredns_proxy_conn_cache_misses_total": {"proxy_name", "to", "proto"},
    "coredns_proxy_healthcheck_failures_total": {"proxy_name", "to"},
    "coredns_proxy_request_duration_seconds_bucket": {"proxy_name", "to", "rcode", "le"},
    "coredns_proxy_request_duration_seconds_count": {"proxy_name", "to", "rcode"},
    "coredns_reload_failed_total": set(),
    "process_cpu_seconds_total": set(),
    "process_open_fds": set(),
    "process_resident_memory_bytes": set(),
    "process_start_time_seconds": set(),
}


def fault(text):
    faults.append(text)


COREFILE = """
. {{
    errors
    log {{
        slow 1us
    }}
    health 127.0.0.1:{health}
    prometheus 127.0.0.1:{metrics} {{
        top
    }}
    shed
    kubernetes cluster.local {{
        endpoint http://127.0.0.1:{api}
    }}
    cache 30 cached.test
    forward . 127.0.0.1:{upstream} {{
        health_check 200ms
    }}
}}
down.test {{
    prometheus 127.0.0.1:{metrics}
    forward . 127.0.0.1:{nobody} {{
        health_check 200ms
    }}
}}
"""


class Load:
    """Queries of all kinds, some fifty a second."""

    def __init__(self, server):
        self.server, self.over, self.down_too = server, False, False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        number = 0
        while not self.over:
            number += 1
            for name in (f"n{number}.test", "a.cached.test", "web.team-a.svc.cluster.local", "none.team-a.svc.cluster.local",
                         f"n{number}.other.test"):
                self.server.ask(name, 1, 0.5)
            self.server.ask("signed.test", 1, 0.5, dnssec_ok=True)
            if self.down_too:
                self.server.ask("x.down.test", 1, 0.1)
            time.sleep(0.05)

    def end(self):
        self.over = True
        self.thread.join()


def rendered(text):
    """The rules with every minute a second."""
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86400}

    def shorter(match):
        return f"{int(match[1]) * seconds[match[2]] * 1000 // 60}ms"

    text = re.sub(r"(?<=\[)(\d+)([smhd])(?=\])", shorter, text)
    return re.sub(r"(?<=for: )(\d+)([smhd])\b", shorter, text)


class Prometheus:
    def __init__(self, folder, metrics):
        folder = pathlib.Path(folder)
        (folder / "rules.yaml").write_text(rendered((OBSERVABILITY / "corelane.rules.yaml").read_text()))
        (folder / "prometheus.yml").write_text(f"""
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [rules.yaml]
scrape_configs:
  - job_name: dns
    static_configs: [{{targets: ["127.0.0.1:{metrics}"]}}]
""")
        self.port = free_port()
        self.log = open(folder / "log", "wb+")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address=127.0.0.1:{self.port}"], stdout=self.log, stderr=subprocess.STDOUT)

    def api(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}", timeout=10) as answer:
            return json.load(answer)["data"]

    def until(self, what, condition):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                if condition():
                    return
            except OSError:  # it starts
                pass
            if self.process.poll() is not None:
                break
            time.sleep(0.3)
        self.log.seek(0)
        alerts = self.firing() if self.process.poll() is None else self.log.read().decode()[-2000:]
        fault(f"never: {what}; firing: {alerts}")

    def firing(self):
        alerts = self.api("alerts")["alerts"]
        return {(a["labels"]["alertname"], a["labels"]["severity"]) for a in alerts if a["state"] == "firing"}

    def end(self):
        self.process.terminate()
        self.process.wait()


def scraped(metrics):
    """The names on the page, each with the labels that all of its series have."""
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    names = {}
    for name, labels in re.findall(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? [^ ]+$", text, re.M):
        labels = set(re.findall(r'(\w+)="(?:[^"\\]|\\.)*"', labels))
        names[name] = names.get(name, labels) & labels
    return names


def boards():
    """Every expression of the dashboards, with where it stands."""
    asks = []
    for path in sorted((OBSERVABILITY / "dashboards").glob("*.json")):
        board = json.loads(path.read_text())
        for panel in board["panels"]:
            asks += [(f"{path.name}: {panel['title']}", target["expr"]) for target in panel["targets"]]
        asks += [(f"{path.name}: {mark['name']}", mark["target"]["expr"]) for mark in board["annotations"]["list"]]
    return asks


def named():
    """Each series that a rule or a dashboard asks for, with who asks."""
    text = (OBSERVABILITY / "corelane.rules.yaml").read_text()
    asks = [("a rule", line) for line in text.splitlines() if not line.lstrip().startswith("#")] + boards()
    names = {}
    for who, text in asks:
        for name in re.findall(r"(?<![\w:])(?:coredns|corelane|process)_[a-z0-9_]+", text):
            names.setdefault(name, who)
    names.update((name, "a dashboard of the community") for name in COMMUNITY)
    return names


def series(metrics):
    wanted = {name: who for name, who in named().items() if name not in ONLY_WHEN}
    deadline = time.monotonic() + PATIENCE / 2
    while True:
        there = scraped(metrics)
        missing = {name: who for name, who in wanted.items() if name not in there}
        if not missing or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    for name, who in sorted(missing.items()):
        fault(f"{who} asks for {name}, which is not on /metrics")
    for name, labels in sorted(COMMUNITY.items()):
        if labels - there.get(name, labels):
            fault(f"{name} lacks labels of CoreDNS's: {sorted(labels - there[name])}")
    for name in sorted(ONLY_WHEN.keys() - named().keys()):
        fault(f"nobody asks for {name}: take it off ONLY_WHEN")


def panels(prometheus):
    """Each panel shows something, unless it is of what does not happen here."""
    for where, text in boards():
        for variable, value in (("$__rate_interval", "10s"), ("$job", ".*"), ("$instance", ".*")):
            text = text.replace(variable, value)
        may_be_empty = any(name in text for name in ONLY_WHEN)
        query = f"query?query={urllib.parse.quote(text)}"
        try:
            deadline = time.monotonic() + PATIENCE / 4
            while not prometheus.api(query)["result"] and not may_be_empty:
                if time.monotonic() > deadline:
                    fault(f"{where} shows nothing: {text}")
                    break
                time.sleep(0.5)
        except urllib.error.HTTPError as error:
            fault(f"{where}: {error.read().decode()}")


def owner(health):
    """The client of this test is an endpoint of a service: the status page says of which."""
    with urllib.request.urlopen(f"http://127.0.0.1:{health}/status.json", timeout=10) as answer:
        rows = json.load(answer)["top"]["client"]["rows"]
    first = rows[0] if rows else {}
    if [first.get(key) for key in ("what", "namespace", "service")] != ["127.0.0.1", "team-a", "web"]:
        fault(f"who asks is not known: {rows}")


def outage(prometheus, upstream):
    burn = ("CorelaneErrorBudgetBurn", "page")
    healthy = "sum(up{job='dns'})"
    prometheus.until("a scrape", lambda: prometheus.api(f"query?query={healthy}")["result"])
    groups = prometheus.api("rules")["groups"]
    prometheus.until("every rule evaluated", lambda: all(
        rule["health"] == "ok" for group in prometheus.api("rules")["groups"] for rule in group["rules"]))
    if {group["name"] for group in groups} != {"corelane-slo", "corelane-alerts"}:
        fault(f"not the groups that are shipped: {[group['name'] for group in groups]}")
    rate = "job:corelane_queries:rate5m%3E5"
    prometheus.until("load", lambda: prometheus.api(f"query?query={rate}")["result"])
    prometheus.until("calm before", lambda: burn not in prometheus.firing())
    upstream.outage = True
    prometheus.until("an alert", lambda: burn in prometheus.firing())
    upstream.outage = False
    prometheus.until("its end", lambda: burn not in prometheus.firing())


def main():
    if not shutil.which("prometheus"):
        print("skipped: Prometheus is not here")
        return
    upstream = Upstream()
    metrics = free_port()
    health = free_port()
    corefile = COREFILE.format(health=health, metrics=metrics, api=api(), upstream=upstream.port,
                               nobody=free_port())
    with tempfile.TemporaryDirectory() as folder:
        server = Server(sys.argv[1], corefile)
        load = Load(server)
        prometheus = Prometheus(folder, metrics)
        try:
            outage(prometheus, upstream)
            load.down_too = True
            series(metrics)
            panels(prometheus)
            owner(health)
        finally:
            prometheus.end()
            load.end()
            server.end()


main()
for line in faults:
    print(line)
sys.exit(bool(faults))
