"""A server from its start: until it is ready, at rest, through a re-list of everything, and under
churn. It has its CPU for itself; it starts anew in each round."""

import time

from .. import plot, words
from ..arithmetic import of_all, spread
from ..process import usage_between
from ..scenario import Failure

# What a server gets to come to rest, and to have listed everything again.
SETTLE_SECONDS = 3.0
RELIST_SECONDS_MAX = 90.0
MEASURES = (
    "ready_seconds",
    "steady_mb",
    "start_peak_mb",
    "relist_peak_mb",
    "after_mb",
    "relist_ratio",
    "churn_cpu_share",
    "served_p99_ms",
)
STARTS_BY_ITSELF = True


def prepare(_bench, _progress):
    """Nothing."""


def visit(bench, server):
    """One life of a server."""
    server.start()
    try:
        time.sleep(SETTLE_SECONDS)
        steady, start_peak = server.resident()
        server.forget_peak()
        asked = bench.kube_asked()
        bench.kube("expire")
        deadline = time.monotonic() + RELIST_SECONDS_MAX
        while not all(n > asked.get(what, 0) for what, n in bench.kube_asked().items()):
            if time.monotonic() > deadline:
                raise Failure(f"{server.label} has not listed again")
            time.sleep(0.1)
        rest(server)
        after, peak = server.resident()
        before = server.usage()
        bench.kube(f"churn?rate={bench.scenario.churn}")
        time.sleep(bench.scenario.seconds)
        bench.kube("churn?rate=0")
        cpu, _, _ = usage_between(before, server.usage())
        told = bench.metric(
            server, "corelane_kubernetes_event_to_served_seconds", 'quantile="0.99"'
        )
    finally:
        server.stop()
    return {
        "ready_seconds": server.ready_seconds,
        "steady_mb": steady / 1e6,
        "start_peak_mb": start_peak / 1e6,
        "relist_peak_mb": peak / 1e6,
        "after_mb": after / 1e6,
        "relist_ratio": peak / steady,
        "churn_cpu_share": cpu / bench.scenario.seconds,
        "served_p99_ms": told and 1000 * told,
    }


def rest(server):
    """Waits until a server has nothing to do any more."""
    deadline = time.monotonic() + RELIST_SECONDS_MAX
    while time.monotonic() < deadline:
        before = server.usage()
        time.sleep(SETTLE_SECONDS)
        cpu, _, _ = usage_between(before, server.usage())
        if cpu < 0.05 * SETTLE_SECONDS:
            return
    raise Failure(f"{server.label} does not come to rest")


def steps(scenario, servers):
    """Every server in every round."""
    return scenario.rounds * servers, 4 * SETTLE_SECONDS + scenario.seconds


def figures(rounds, names, _base):
    """Figures of lives."""
    return {name: {key: spread(of_all(rounds, name, key)) for key in MEASURES} for name in names}


def tables(result):
    """One row a server."""
    heads = ["server", "ready s", "RSS MB", "peak at start", "peak of re-list", "ratio"]
    heads += ["RSS after", "CPU under churn %", "event to served p99 ms"]
    rows = []
    for name, row in result["figures"].items():
        cells = [name, words.number(row["ready_seconds"], ".2f")]
        cells += [words.number(row[key], ".1f") for key in ("steady_mb", "start_peak_mb")]
        cells += [words.number(row["relist_peak_mb"], ".1f")]
        cells += [words.number(row["relist_ratio"], ".2f"), words.number(row["after_mb"], ".1f")]
        cells += [words.number(words.scaled(row["churn_cpu_share"], 100), ".1f")]
        rows.append(cells + [words.number(row["served_p99_ms"], ".2f")])
    return [(heads, rows)]


def plots(result):
    """Memory at rest, and at its highest."""
    rows = [
        (name, [row["steady_mb"], row["relist_peak_mb"]])
        for name, row in result["figures"].items()
    ]
    title = f"{result['scenario']['name']}: resident"
    return {"memory": plot.bars(title, "MB", rows, ("at rest", "peak of a re-list"))}


def verdicts(_scenario, _ours, _found):
    """None."""
    return []
