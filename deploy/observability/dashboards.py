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


def graph(title, *pairs, unit="short", about="", width=12, stack=False):
    custom = {"fillOpacity": 10, "showPoints": "never"}
    if stack:
        custom["stacking"] = {"mode": "normal"}
    return {
        "type": "timeseries", "title": title, "description": about, "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": custom}, "overrides": []},
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


def heat(title, expr, width=24):
    panel = {
        "type": "heatmap", "title": title, "datasource": SOURCE,
        "options": {"calculate": False, "yAxis": {"unit": "s"}},
        "targets": targets((expr, "{{le}}")), "_width": width, "_height": 9,
    }
    panel["targets"][0]["format"] = "heatmap"
    return panel


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
        "templating": {"list": [
            {"name": "datasource", "type": "datasource", "query": "prometheus"},
            variable("job", "label_values(coredns_build_info, job)"),
            variable("instance", 'label_values(coredns_build_info{job=~"$job"}, instance)'),
        ]},
    }


GOOD_BAD = ((None, "green"), (1, "red"))
RATE = "[$__rate_interval]"


def latency(quantile, by=""):
    by = f"{by}, le" if by else "le"
    return (f"histogram_quantile({quantile}, sum by ({by}) "
            f"(rate(coredns_dns_request_duration_seconds_bucket{{PICK}}{RATE})))")


OVERVIEW = board(
    "corelane-overview", "corelane: is DNS well?",
    number("failures now", f'100 * (sum(rate(coredns_dns_responses_total{{PICK,rcode="SERVFAIL"}}{RATE})) or vector(0)) / sum(rate(coredns_dns_responses_total{{PICK}}{RATE}))',
           "percent", ((None, "green"), (0.1, "orange"), (1, "red")), "SERVFAIL among all replies"),
    number("p99", latency(0.99), "s", ((None, "green"), (0.064, "orange"), (0.5, "red")), "upstreams included"),
    number("kinds not in sync", "count(corelane_kubernetes_synced{PICK} == 0) or vector(0)", steps=GOOD_BAD),
    number("silence of the API server", "max(corelane_kubernetes_last_event_age_seconds{PICK})", "s",
           ((None, "green"), (300, "orange"), (600, "red"))),
    number("datagrams lost", f"sum(rate(corelane_udp_receive_drops_total{{PICK}}{RATE})) or vector(0)", "cps", GOOD_BAD),
    number("instances", "count(coredns_build_info{PICK})"),
    graph("queries by zone", (f"sum by (zone) (rate(coredns_dns_requests_total{{PICK}}{RATE}))", "{{zone}}"), unit="reqps", stack=True),
    graph("replies by rcode", (f"sum by (rcode) (rate(coredns_dns_responses_total{{PICK}}{RATE}))", "{{rcode}}"), unit="reqps", stack=True),
    graph("latency", (latency(0.5), "p50"), (latency(0.9), "p90"), (latency(0.99), "p99"), (latency(0.999), "p99.9"), unit="s"),
    graph("who wrote the replies", (f"sum by (plugin) (rate(coredns_dns_responses_total{{PICK}}{RATE}))", "{{plugin}}"), unit="reqps", stack=True),
    graph("CPU", (f"sum by (instance) (rate(process_cpu_seconds_total{{PICK}}{RATE}))", "{{instance}}"), unit="short"),
    graph("resident memory", ("process_resident_memory_bytes{PICK}", "{{instance}}"), unit="bytes"),
    graph("queries by type", (f"sum by (type) (rate(coredns_dns_requests_total{{PICK}}{RATE}))", "{{type}}"), unit="reqps"),
    graph("the busiest client, and names that do not exist", ('max by (instance) (corelane_top_queries_per_second{PICK,by="client",rank="1"})', "first client of {{instance}}"),
          ('sum by (instance) (corelane_top_queries_per_second{PICK,by="nxdomain"})', "first ten missing names of {{instance}}"), unit="reqps",
          about="who they are: /status of the health port, or corelane top"),
    graph("queries waiting, first ten names", ("sum by (instance) (corelane_top_waiting_queries{PICK})", "{{instance}}")),
    graph("by transport and family", (f"sum by (proto, family) (rate(coredns_dns_requests_total{{PICK}}{RATE}))", "{{proto}} {{family}}"), unit="reqps"),
)

SLO = board(
    "corelane-slo", "corelane: objectives",
    number("availability, 3 days", '100 * (1 - job:corelane_errors:ratio_rate3d{job=~"$job"})', "percent",
           ((None, "red"), (99.9, "green")), "objective: 99.9 %", 6),
    number("fast enough, 3 days", '100 * (1 - job:corelane_slow:ratio_rate3d{job=~"$job"})', "percent",
           ((None, "red"), (99, "green")), "objective: 99 % within 64 ms", 6),
    number("burn rate, 1 h", 'job:corelane_errors:ratio_rate1h{job=~"$job"} / 0.001', "short",
           ((None, "green"), (1, "orange"), (14.4, "red")), "1 uses the budget up in 30 days", 6),
    number("burn rate of latency, 1 h", 'job:corelane_slow:ratio_rate1h{job=~"$job"} / 0.01', "short",
           ((None, "green"), (1, "orange"), (14.4, "red")), "", 6),
    graph("burn rate, availability", *((f'job:corelane_errors:ratio_rate{w}{{job=~"$job"}} / 0.001', w) for w in ("5m", "1h", "6h", "3d"))),
    graph("burn rate, latency", *((f'job:corelane_slow:ratio_rate{w}{{job=~"$job"}} / 0.01', w) for w in ("5m", "1h", "6h", "3d"))),
    heat("latency", f"sum by (le) (increase(coredns_dns_request_duration_seconds_bucket{{PICK}}{RATE}))"),
    graph("p99 by zone", ('job_zone:corelane_latency_seconds:p99_5m{job=~"$job"}', "{{zone}}"), unit="s"),
    graph("programming latency, p99 over a day", ('job_kind:corelane_dns_programming_seconds:p99_1d{job=~"$job"}', "{{service_kind}}"), unit="s"),
)

UPSTREAMS = board(
    "corelane-upstreams", "corelane: upstreams and cache",
    graph("queries to upstreams", (f"sum by (to, rcode) (rate(coredns_proxy_request_duration_seconds_count{{PICK}}{RATE}))", "{{to}} {{rcode}}"), unit="reqps"),
    graph("latency of upstreams, p99", (f"histogram_quantile(0.99, sum by (to, le) (rate(coredns_proxy_request_duration_seconds_bucket{{PICK}}{RATE})))", "{{to}}"), unit="s"),
    graph("failed health checks", (f"sum by (to) (rate(coredns_proxy_healthcheck_failures_total{{PICK}}{RATE}))", "{{to}}"),
          (f"sum(rate(coredns_forward_healthcheck_broken_total{{PICK}}{RATE}))", "none healthy"), unit="cps"),
    graph("hedged, repeated, ignored", (f"sum(rate(corelane_upstream_hedged_total{{PICK}}{RATE}))", "hedged"),
          (f"sum(rate(corelane_upstream_repeated_total{{PICK}}{RATE}))", "repeated"),
          (f"sum(rate(corelane_upstream_ignored_total{{PICK}}{RATE}))", "replies ignored"), unit="cps"),
    graph("hit ratio of the cache", ('job:corelane_cache_hits:ratio_rate5m{job=~"$job"}', "{{job}}"), unit="percentunit"),
    graph("entries", ("sum by (type, zones) (coredns_cache_entries{PICK})", "{{type}} {{zones}}")),
    graph("evictions, prefetches, stale", (f"sum(rate(coredns_cache_evictions_total{{PICK}}{RATE}))", "evicted"),
          (f"sum(rate(coredns_cache_prefetch_total{{PICK}}{RATE}))", "prefetched"),
          (f"sum(rate(coredns_cache_served_stale_total{{PICK}}{RATE}))", "served stale"), unit="cps"),
    graph("waiting queries", (f"sum(rate(corelane_parked_total{{PICK}}{RATE}))", "began to wait"),
          (f"sum(rate(corelane_parked_refused_total{{PICK}}{RATE}))", "refused: no place"), unit="cps"),
)

KUBERNETES = board(
    "corelane-kubernetes", "corelane: Kubernetes",
    graph("events", (f"sum by (kind) (rate(corelane_kubernetes_events_total{{PICK}}{RATE}))", "{{kind}}"), unit="cps"),
    graph("time since the last word of the API server", ("max by (kind) (corelane_kubernetes_last_event_age_seconds{PICK})", "{{kind}}"), unit="s"),
    graph("programming latency, p99", (f"histogram_quantile(0.99, sum by (service_kind, le) (rate(coredns_kubernetes_dns_programming_duration_seconds_bucket{{PICK}}{RATE})))", "{{service_kind}}"), unit="s"),
    graph("from event to served, p99", ('max by (instance) (corelane_kubernetes_event_to_served_seconds{PICK,quantile="0.99"})', "{{instance}}"), unit="s"),
    graph("lists and watches taken up again", (f"sum by (kind, reason) (rate(corelane_kubernetes_lists_total{{PICK}}{RATE}))", "list {{kind}} {{reason}}"),
          (f"sum by (kind, reason) (rate(corelane_kubernetes_watch_restarts_total{{PICK}}{RATE}))", "watch {{kind}} {{reason}}"), unit="cps"),
    graph("trouble", (f"sum by (kind, reason) (rate(corelane_kubernetes_trouble_total{{PICK}}{RATE}))", "{{kind}} {{reason}}"),
          (f"sum by (kind) (rate(corelane_kubernetes_malformed_total{{PICK}}{RATE}))", "malformed {{kind}}"),
          (f"sum by (kind) (rate(corelane_kubernetes_repaired_total{{PICK}}{RATE}))", "repaired {{kind}}"), unit="cps"),
)


def main():
    check = "--check" in sys.argv[1:]
    HERE.mkdir(exist_ok=True)
    stale = []
    for name, made in (("overview", OVERVIEW), ("slo", SLO), ("upstreams", UPSTREAMS), ("kubernetes", KUBERNETES)):
        path, text = HERE / f"{name}.json", json.dumps(made, indent=1) + "\n"
        if check and (not path.exists() or path.read_text() != text):
            stale.append(path.name)
        elif not check:
            path.write_text(text)
    if stale:
        sys.exit(f"not what dashboards.py makes: {' '.join(stale)}")


main()
