#!/usr/bin/env python3
"""Writes the Grafana dashboards beside this file. They are code here and JSON there:

    deploy/observability/dashboards.py            writes dashboards/*.json
    deploy/observability/dashboards.py --check    fails if they are not what this file makes
"""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent / "dashboards"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
PICK = 'job=~"$job",instance=~"$instance"'


def targets(*pairs):
    return [
        {"refId": chr(65 + n), "datasource": SOURCE, "expr": expr.replace("PICK", PICK), "legendFormat": legend}
        for n, (expr, legend) in enumerate(pairs)
    ]


def graph(title, *pairs, unit="short", about="", width=12, stack=False, low=0):
    custom = {"fillOpacity": 10, "showPoints": "never"}
    if stack:
        custom["stacking"] = {"mode": "normal"}
    return {
        "type": "timeseries", "title": title, "description": about, "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": unit, "min": low, "custom": custom}, "overrides": []},
        "options": {"legend": {"displayMode": "table", "calcs": ["lastNotNull", "max"]}, "tooltip": {"mode": "multi"}},
        "targets": targets(*pairs), "_width": width, "_height": 8,
    }


def number(title, expr, unit="short", steps=((None, "green"),), about="", width=4):
    """A number that turns colour at its thresholds."""
    thresholds = {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in steps]}
    return {
        "type": "stat", "title": title, "description": about, "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": unit, "thresholds": thresholds}, "overrides": []},
        "options": {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "background"},
        "targets": targets((expr, "")), "_width": width, "_height": 4,
    }


def heat(title, expr, width=24, about=""):
    panel = {
        "type": "heatmap", "title": title, "description": about, "datasource": SOURCE,
        "options": {"calculate": False, "yAxis": {"unit": "s"}},
        "targets": targets((expr, "{{le}}")), "_width": width, "_height": 9,
    }
    panel["targets"][0]["format"] = "heatmap"
    return panel


def ranks(title, by, columns, width=12):
    """Who or what has the first ranks now."""
    rate, info = (f'corelane_top_{word}{{PICK,by="{by}"}}' for word in ("queries_per_second", "info"))
    on = "job, instance, by, rank"
    names = {"what": title, "Value": "queries/s"}
    hidden = {"Time", "by", "job", "rank", "namespace", "pod", "service"} - set(columns)
    panel = {
        "type": "table", "title": title, "datasource": SOURCE,
        "description": "shown where the Corefile says `top` in prometheus; corelane top and /status always know",
        "fieldConfig": {"defaults": {}, "overrides": []},
        "options": {"sortBy": [{"displayName": "queries/s", "desc": True}]},
        "transformations": [{"id": "organize", "options": {
            "excludeByName": {name: True for name in sorted(hidden)}, "renameByName": names}}],
        "targets": targets((f"{rate} * on ({on}) group_left (what, namespace, pod, service) {info}", "")),
        "_width": width, "_height": 9,
    }
    panel["targets"][0] |= {"format": "table", "instant": True}
    return panel


def events(name, series, color):
    """Marks the time that a series tells, on all graphs."""
    return {
        "name": name, "datasource": SOURCE, "enable": True, "iconColor": color, "useValueForTime": True,
        "titleFormat": name, "textFormat": "{{instance}}",
        "target": {"refId": "A", "expr": f"{series}{{{PICK}}} * 1000", "interval": "60s"},
    }


EVENTS = [
    events("start", "process_start_time_seconds", "blue"),
    events("configuration loaded", "corelane_configuration_timestamp_seconds", "purple"),
    events("hand-over", "corelane_hand_over_timestamp_seconds", "orange"),
]


def board(uid, title, *panels):
    x = y = tallest = 0
    for number_, panel in enumerate(panels, 1):
        width, height = panel.pop("_width"), panel.pop("_height")
        if x + width > 24:
            x, y, tallest = 0, y + tallest, 0
        panel["id"], panel["gridPos"] = number_, {"x": x, "y": y, "w": width, "h": height}
        x, tallest = x + width, max(tallest, height)

    def variable(name, query):
        return {
            "name": name, "type": "query", "datasource": SOURCE, "query": query, "refresh": 2,
            "includeAll": True, "multi": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"},
        }

    return {
        "uid": uid, "title": title, "tags": ["dns", "corelane"], "schemaVersion": 39, "editable": True,
        "refresh": "30s", "time": {"from": "now-3h", "to": "now"}, "panels": list(panels),
        "annotations": {"list": EVENTS}, "graphTooltip": 1,
        "links": [{"type": "dashboards", "title": "corelane", "tags": ["corelane"], "asDropdown": True,
                   "includeVars": True, "keepTime": True}],
        "templating": {"list": [
            {"name": "datasource", "type": "datasource", "query": "prometheus"},
            variable("job", "label_values(coredns_build_info, job)"),
            variable("instance", 'label_values(coredns_build_info{job=~"$job"}, instance)'),
        ]},
    }


FAILED = ',rcode="SERVFAIL"'
GOOD_BAD = ((None, "green"), (1, "red"))
RATE = "[$__rate_interval]"


def rate(series, by="", more=""):
    total = f"sum by ({by})" if by else "sum"
    return f"{total} (rate({series}{{PICK{more}}}{RATE}))"


def within(quantile, series, by=""):
    """A quantile of a histogram, by labels."""
    by = f"{by}, le" if by else "le"
    return f"histogram_quantile({quantile}, sum by ({by}) (rate({series}_bucket{{PICK}}{RATE})))"


def latency(quantile):
    return within(quantile, "coredns_dns_request_duration_seconds")


def slowest(series, by, quantile):
    """A quantile that the instances tell, of the slowest one."""
    return f'max by ({by}) ({series}{{PICK,quantile="{quantile}"}})'


LOST = rate("corelane_upstream_failed_total", "to")
REPLIED = rate("corelane_upstream_duration_seconds_count", "to")

BUSY = rate("corelane_worker_busy_seconds_total", "instance, worker")

OVERVIEW = board(
    "corelane-overview", "corelane: is DNS well?",
    # The alert that there is no instance has no job.
    number("alerts", 'count(ALERTS{alertname=~"Corelane.*",alertstate="firing",job=~"$job|"}) or vector(0)', steps=GOOD_BAD,
           about="those of corelane.rules.yaml that fire; what each means: runbook.md"),
    number("failures now", f'100 * ({rate("coredns_dns_responses_total", more=FAILED)} or vector(0)) / {rate("coredns_dns_responses_total")}',
           "percent", ((None, "green"), (0.1, "orange"), (1, "red")), "SERVFAIL among all replies"),
    number("p99", latency(0.99), "s", ((None, "green"), (0.064, "orange"), (0.5, "red")), "upstreams included"),
    number("p99 in the kernel", within(0.99, "corelane_receive_wait_seconds"), "s",
           ((None, "green"), (0.002, "orange"), (0.01, "red")), "what queries wait in the receive queues, before any server sees them"),
    number("lost, shed, refused", " + ".join(f"({rate(name)} or vector(0))" for name in (
        "corelane_udp_receive_drops_total", "coredns_shed_dropped_total", "corelane_parked_refused_total")), "cps", ((None, "green"), (0.01, "orange"), (1, "red")),
           "datagrams that the kernel dropped, queries that were shed or found no room to wait"),
    number("Corefile does not load", "max(corelane_configuration_outdated{PICK})", steps=GOOD_BAD, about="an older one serves"),
    number("instances", "count(coredns_build_info{PICK}) or vector(0)", steps=((None, "red"), (1, "orange"), (2, "green"))),
    number("queries", rate("coredns_dns_requests_total"), "reqps"),
    number("slowest upstream, p99", 'max(corelane_upstream_duration_seconds{PICK,quantile="0.99"})', "s",
           ((None, "green"), (0.2, "orange"), (1, "red"))),
    number("upstreams without a reply", f"100 * max({LOST} / ({LOST} + ({REPLIED} or 0 * {LOST}))) or vector(0)",
           "percent", ((None, "green"), (1, "orange"), (5, "red")), "of the queries to the worst upstream"),
    number("kinds not in sync", "count(corelane_kubernetes_synced{PICK} == 0) or vector(0)", steps=GOOD_BAD),
    number("silence of the API server", "max(corelane_kubernetes_last_event_age_seconds{PICK})", "s",
           ((None, "green"), (300, "orange"), (600, "red"))),
    graph("queries by zone", (rate("coredns_dns_requests_total", "zone"), "{{zone}}"), unit="reqps", stack=True),
    graph("replies by rcode", (rate("coredns_dns_responses_total", "rcode"), "{{rcode}}"), unit="reqps", stack=True),
    graph("latency", (latency(0.5), "p50"), (latency(0.9), "p90"), (latency(0.99), "p99"), (latency(0.999), "p99.9"), unit="s"),
    graph("who wrote the replies", (rate("coredns_dns_responses_total", "plugin"), "{{plugin}}"), unit="reqps", stack=True),
    graph("CPU", (rate("process_cpu_seconds_total", "instance"), "{{instance}}"), width=8),
    graph("the busiest worker", (f"max by (instance) ({BUSY})", "{{instance}}"), unit="percentunit", width=8,
          about="the share of time in which it has work, running or waiting for a CPU: near 100 % it is time for more replicas"),
    graph("resident memory", ("process_resident_memory_bytes{PICK}", "{{instance}}"), unit="bytes", width=8),
    graph("queries by type", (rate("coredns_dns_requests_total", "type"), "{{type}}"), unit="reqps"),
    graph("by transport and family", (rate("coredns_dns_requests_total", "proto, family"), "{{proto}} {{family}}"), unit="reqps"),
    graph("not answered as asked", (rate("corelane_unserved_total"), "for names that no block serves"),
          (rate("corelane_gate_refused_total"), "no query, or one that is not understood"),
          (rate("corelane_walk_bounds_total"), "past a bound of questions and waits"),
          (rate("corelane_unsent_total"), "the kernel did not send the reply"),
          (rate("coredns_panics_total"), "a fault of the server"), unit="cps"),
    graph("TCP connections", ("sum by (instance) (corelane_tcp_connections{PICK})", "{{instance}}: open"),
          (rate("corelane_tcp_connections_opened_total"), "opened, a second"),
          (rate("corelane_tcp_refused_total", "reason"), "refused, a second: {{reason}}")),
)

TIME = board(
    "corelane-time", "corelane: where the time goes, and who asks",
    graph("plugins, p99.9", (slowest("corelane_plugin_duration_seconds", "plugin", 0.999), "{{plugin}}"), unit="s", width=8,
          about="a plugin's own time, without those below it and without waits; of the last minutes, of the slowest instance"),
    graph("plugins, p99", (slowest("corelane_plugin_duration_seconds", "plugin", 0.99), "{{plugin}}"), unit="s", width=8),
    graph("plugins, p50", (slowest("corelane_plugin_duration_seconds", "plugin", 0.5), "{{plugin}}"), unit="s", width=8),
    graph("share of the time", (rate("corelane_plugin_duration_seconds_sum", "plugin"), "{{plugin}}"), unit="s", stack=True,
          about="seconds of a core, a second"),
    graph("what plugins wait for, p99", (within(0.99, "corelane_plugin_wait_seconds", "plugin"), "{{plugin}}"), unit="s",
          about="upstreams, other queries for the same"),
    graph("from taking a query up to its finished reply", *((slowest("corelane_walk_seconds", "instance", q), "{{instance}} " + word)
          for q, word in ((0.5, "p50"), (0.99, "p99"), (0.999, "p99.9"))), unit="s"),
    graph("in the kernel, p99", (within(0.99, "corelane_receive_wait_seconds", "instance"), "{{instance}}"), unit="s",
          about="what datagrams wait in the receive queue before this server takes them up"),
    heat("in the kernel", f"sum by (le) (increase(corelane_receive_wait_seconds_bucket{{PICK}}{RATE}))"),
    graph("of the time, a worker on average", (
        f'avg by (instance, state) (rate(corelane_worker_busy_seconds_total{{PICK}}{RATE}))', "{{instance}} {{state}}"), unit="percentunit", width=8,
          about="running, or waiting for a CPU: the latter is the cgroup's quota, or neighbours"),
    graph("turns held back", (rate("corelane_held_turns_total", "instance"), "{{instance}}"), unit="cps", width=8,
          about="a worker took no datagrams for a turn, since upstreams were behind: queries wait in the kernel meanwhile"),
    graph("what was not told", (rate("corelane_events_dropped_total"), "lines of the log and messages of dnstap: no room in the ring"),
          (rate("corelane_dnstap_dropped_total"), "messages of dnstap: the collector is slow"),
          (rate("corelane_trace_dropped_total"), "spans"), unit="cps", width=8),
    graph("queries waiting, first ten names", ("sum by (instance) (corelane_top_waiting_queries{PICK})", "{{instance}}")),
    graph("slow queries", (rate("corelane_slow_queries_total", "instance"), "{{instance}}"), unit="cps", about="those that `slow` of log counts"),
    graph("the busiest client, and names that do not exist", ('max by (instance) (corelane_top_queries_per_second{PICK,by="client",rank="1"})', "first client of {{instance}}"),
          ('sum by (instance) (corelane_top_queries_per_second{PICK,by="nxdomain"})', "first ten missing names of {{instance}}"), unit="reqps", width=24),
    ranks("client", "client", ("namespace", "pod", "service")),
    ranks("name", "name", ()),
    ranks("name that does not exist", "nxdomain", ()),
    ranks("name that is waited for", "waiting", ()),
)

LEFT = ((None, "red"), (0, "orange"), (25, "green"))
SLO = board(
    "corelane-slo", "corelane: objectives",
    number("error budget left, 30 days", '100 * job:corelane_error_budget:left30d{job=~"$job"}', "percent", LEFT, "objective: 99.9 % without SERVFAIL"),
    number("availability, 3 days", '100 * (1 - job:corelane_errors:ratio_rate3d{job=~"$job"})', "percent",
           ((None, "red"), (99.9, "green")), "objective: 99.9 %"),
    number("burn rate, 1 h", 'job:corelane_errors:ratio_rate1h{job=~"$job"} / 0.001', "short",
           ((None, "green"), (1, "orange"), (14.4, "red")), "1 uses the budget up in 30 days"),
    number("latency budget left, 30 days", '100 * job:corelane_latency_budget:left30d{job=~"$job"}', "percent", LEFT, "objective: 99 % within 64 ms"),
    number("fast enough, 3 days", '100 * (1 - job:corelane_slow:ratio_rate3d{job=~"$job"})', "percent",
           ((None, "red"), (99, "green")), "objective: 99 % within 64 ms"),
    number("burn rate of latency, 1 h", 'job:corelane_slow:ratio_rate1h{job=~"$job"} / 0.01', "short",
           ((None, "green"), (1, "orange"), (14.4, "red"))),
    graph("error budget left", ('100 * job:corelane_error_budget:left30d{job=~"$job"}', "{{job}}"), unit="percent", low=None),
    graph("latency budget left", ('100 * job:corelane_latency_budget:left30d{job=~"$job"}', "{{job}}"), unit="percent", low=None),
    graph("burn rate, availability", *((f'job:corelane_errors:ratio_rate{w}{{job=~"$job"}} / 0.001', w) for w in ("5m", "1h", "6h", "3d"))),
    graph("burn rate, latency", *((f'job:corelane_slow:ratio_rate{w}{{job=~"$job"}} / 0.01', w) for w in ("5m", "1h", "6h", "3d"))),
    heat("latency", f"sum by (le) (increase(coredns_dns_request_duration_seconds_bucket{{PICK}}{RATE}))"),
    graph("p99 by zone", ('job_zone:corelane_latency_seconds:p99_5m{job=~"$job"}', "{{zone}}"), unit="s"),
    graph("programming latency, p99 over a day", ('job_kind:corelane_dns_programming_seconds:p99_1d{job=~"$job"}', "{{service_kind}}"), unit="s"),
)

UPSTREAMS = board(
    "corelane-upstreams", "corelane: upstreams and cache",
    graph("queries to upstreams", (rate("coredns_proxy_request_duration_seconds_count", "to, rcode"), "{{to}} {{rcode}}"), unit="reqps"),
    graph("without a reply", (rate("corelane_upstream_failed_total", "to, reason"), "{{to}} {{reason}}"), unit="cps"),
    graph("upstreams, p99.9", (slowest("corelane_upstream_duration_seconds", "to", 0.999), "{{to}}"), unit="s", width=8,
          about="of every reply of the last minutes, of the slowest instance"),
    graph("upstreams, p99", (slowest("corelane_upstream_duration_seconds", "to", 0.99), "{{to}}"), unit="s", width=8),
    graph("upstreams, p50", (slowest("corelane_upstream_duration_seconds", "to", 0.5), "{{to}}"), unit="s", width=8),
    heat("replies of upstreams", f"sum by (le) (increase(coredns_proxy_request_duration_seconds_bucket{{PICK}}{RATE}))"),
    graph("failed health checks", (rate("coredns_proxy_healthcheck_failures_total", "to"), "{{to}}"),
          (rate("coredns_forward_healthcheck_broken_total"), "none healthy"), unit="cps"),
    graph("hedged, repeated, ignored, bounded", (rate("corelane_upstream_hedged_total"), "hedged"),
          (rate("corelane_upstream_repeated_total"), "repeated"),
          (rate("corelane_upstream_ignored_total", "reason"), "replies ignored: {{reason}}"),
          (rate("corelane_upstream_bounds_total"), "not sent: past a bound"),
          (rate("corelane_forward_breaker_trips_total"), "an upstream was left out (breaker)"), unit="cps"),
    graph("hit ratio of the cache", ('job:corelane_cache_hits:ratio_rate5m{job=~"$job"}', "{{job}}"), unit="percentunit"),
    graph("memory of caches", ("sum by (instance) (corelane_cache_used_bytes{PICK})", "{{instance}}"),
          ("max(corelane_cache_budget_bytes{PICK})", "budget of each"), unit="bytes"),
    graph("entries", ("sum by (type, zones) (coredns_cache_entries{PICK})", "{{type}} {{zones}}")),
    graph("evictions, prefetches, stale", (rate("coredns_cache_evictions_total"), "evicted"),
          (rate("coredns_cache_prefetch_total"), "prefetched"),
          (rate("coredns_cache_served_stale_total"), "served stale"), unit="cps"),
    graph("waiting queries", (rate("corelane_parked_total"), "began to wait"),
          (rate("corelane_parked_refused_total"), "refused: no place"),
          (rate("corelane_held_turns_total"), "turns that took no queries"), unit="cps", width=24,
          about="where upstreams are behind, a worker takes no queries for a turn, rather than give them up"),
)

KUBERNETES = board(
    "corelane-kubernetes", "corelane: Kubernetes",
    graph("events", (rate("corelane_kubernetes_events_total", "kind"), "{{kind}}"), unit="cps"),
    graph("time since the last word of the API server", ("max by (kind) (corelane_kubernetes_last_event_age_seconds{PICK})", "{{kind}}"), unit="s"),
    graph("programming latency, p99", (within(0.99, "coredns_kubernetes_dns_programming_duration_seconds", "service_kind"), "{{service_kind}}"), unit="s",
          about="from a change of endpoints to its being served: the SLI of Kubernetes"),
    graph("from event to served, p99", (slowest("corelane_kubernetes_event_to_served_seconds", "instance", 0.99), "{{instance}}"),
          (slowest("corelane_kubernetes_publish_seconds", "instance", 0.99), "publishing, {{instance}}"), unit="s",
          about="the share of this server; publishing is what it takes to build the answers and give them to all workers"),
    graph("lists and watches taken up again", (rate("corelane_kubernetes_lists_total", "kind, reason"), "list {{kind}} {{reason}}"),
          (rate("corelane_kubernetes_watch_restarts_total", "kind, reason"), "watch {{kind}} {{reason}}"), unit="cps"),
    graph("trouble", (rate("corelane_kubernetes_trouble_total", "kind, reason"), "{{kind}} {{reason}}"),
          (rate("corelane_kubernetes_malformed_total", "kind"), "malformed {{kind}}"),
          (rate("corelane_kubernetes_refused_total", "kind"), "without records {{kind}}"),
          (rate("corelane_kubernetes_repaired_total", "kind"), "repaired {{kind}}"), unit="cps"),
    graph("in sync", ("min by (kind) (corelane_kubernetes_synced{PICK})", "{{kind}}"),
          ("max(corelane_kubernetes_stale{PICK})", "served from an earlier run"), about="1 is yes"),
    graph("comparisons with the API server", (rate("corelane_kubernetes_checks_total", "kind"), "{{kind}}"), unit="cps",
          about="every ten minutes for each kind; what they find is under trouble"),
    graph("objects", ("max by (kind) (corelane_kubernetes_objects{PICK})", "{{kind}}")),
    graph("memory of their answers", ("max by (kind) (corelane_kubernetes_index_bytes{PICK})", "{{kind}}"), unit="bytes"),
)

BOARDS = {"overview": OVERVIEW, "slo": SLO, "time": TIME, "upstreams": UPSTREAMS, "kubernetes": KUBERNETES}


def main():
    check = "--check" in sys.argv[1:]
    HERE.mkdir(exist_ok=True)
    stale = []
    for name, made in BOARDS.items():
        path, text = HERE / f"{name}.json", json.dumps(made, indent=1) + "\n"
        if check and (not path.exists() or path.read_text() != text):
            stale.append(path.name)
        elif not check:
            path.write_text(text)
    if stale:
        sys.exit(f"not what dashboards.py makes: {' '.join(stale)}")


main()
