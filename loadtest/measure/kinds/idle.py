"""A stretch of time without queries: memory, and how often a server wakes."""

import time

from .. import plot, words
from ..arithmetic import of_all, spread
from ..process import usage_between

MEASURES = ("rss_mb", "context_switches", "cpu_ms", "threads")


def prepare(_bench, _progress):
    """Nothing."""


def visit(bench, server):
    """One server, left alone. Servers are visited in turn: what one does, another does not see."""
    switches, _ = server.switches()
    before = server.usage()
    time.sleep(bench.scenario.seconds)
    after, threads = server.switches()
    cpu, _, _ = usage_between(before, server.usage())
    resident, peak = server.resident()
    return {
        "rss_mb": resident / 1e6,
        "peak_rss_mb": peak / 1e6,
        "context_switches": after - switches,
        "cpu_ms": cpu * 1e3,
        "threads": threads,
    }


def steps(scenario, servers):
    """Every server in every round."""
    return scenario.rounds * servers, scenario.seconds


def figures(rounds, names, _base):
    """Figures of stretches without queries."""
    return {name: {key: spread(of_all(rounds, name, key)) for key in MEASURES} for name in names}


def tables(result):
    """One row a server."""
    heads = ["server", "RSS MB", "context switches", "quartiles", "CPU ms", "threads", "ready s"]
    rows = [
        [
            name,
            words.number(row["rss_mb"], ".1f"),
            words.number(row["context_switches"], ".0f"),
            words.quartiles(row["context_switches"], ".0f"),
            words.number(row["cpu_ms"], ".2f"),
            words.number(row["threads"], ".0f"),
            f"{result['servers'][name]['ready_seconds']:.2f}",
        ]
        for name, row in result["figures"].items()
    ]
    return [(heads, rows)]


def plots(result):
    """Memory."""
    rows = [(name, [row["rss_mb"]]) for name, row in result["figures"].items()]
    return {"memory": plot.bars(f"{result['scenario']['name']}: resident", "MB", rows)}


def verdicts(_scenario, _ours, _found):
    """None."""
    return []
