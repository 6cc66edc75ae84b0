"""The same rate, answered by one worker and by as many as there are CPUs for servers: what a worker
costs the others. Each server starts anew for each visit.

Where the client has none of these CPUs for itself, its own share of one is in the figure, which is an
upper bound then.
"""

import random

from .. import plot, words
from ..arithmetic import counts_of, of_all, ratios, spread
from ..scenario import Failure

STARTS_BY_ITSELF = True
SECONDS_OF_A_START = 0.5


def prepare(bench, _progress):
    """There is something to compare only with two CPUs."""
    if len(bench.setting.server_cpus) < 2:
        raise Failure("several workers need several CPUs: --server-cpus 0,1")


def visit(bench, server):
    """A burst with one worker and a burst with all, in random order."""
    every = bench.setting.server_cpus
    found = {}
    for cpus in random.sample((frozenset({min(every)}), every), 2):
        server.move_to(cpus)
        server.start()
        try:
            bench.flood(server, bench.scenario.warm_up_seconds)
            found[str(len(cpus))] = bench.measured(server, bench.scenario.seconds)
        finally:
            server.stop()
    return found


def steps(scenario, servers):
    """Every server in every round, with one worker and with all."""
    of_a_burst = SECONDS_OF_A_START + scenario.warm_up_seconds + scenario.seconds
    return scenario.rounds * servers, 2 * of_a_burst


def figures(rounds, names, _base):
    """{server: figures by number of workers, and the ratio of all to one}."""
    found = {}
    for name in names:
        visits = [bursts[name] for bursts in rounds if name in bursts]
        counts = sorted(visits[0], key=int) if visits else []
        row = {"workers": {}, "cpu_ratio": None}
        if counts:
            row["cpu_ratio"] = spread(ratios(visits, counts[-1], counts[0], "cpu_us"))
        for workers in counts:
            keys = ("cpu_us", "user_us", "system_us", "qps", "p50_us", "p99_us", "rss_mb")
            own = {key: spread(of_all(visits, workers, key)) for key in keys}
            reports = of_all(visits, workers, "flood")
            own["counts"] = counts_of(reports)
            own["client_busy"] = spread([report["client"]["busy"] for report in reports])
            row["workers"][workers] = own
        found[name] = row
    return found


def tables(result):
    """One row a server and number of workers."""
    heads = ["server", "workers", "µs/query", "user", "system", "÷ one worker", "quartiles"]
    heads += ["kq/s", "p50 µs", "p99 µs", "RSS MB", "client %", "lost %", "answers"]
    expected = result["scenario"]["expected_odd"]
    rows = []
    for name, row in result["figures"].items():
        for workers, own in row["workers"].items():
            ratio = row["cpu_ratio"] if workers == max(row["workers"], key=int) else None
            cells = [name, workers]
            cells += [words.number(own[key], ".2f") for key in ("cpu_us", "user_us", "system_us")]
            cells += [words.number(ratio, ".2f"), words.quartiles(ratio, ".2f")]
            cells += [words.number(words.scaled(own["qps"], 1e-3), ".1f")]
            cells += [words.number(own[key], ".0f") for key in ("p50_us", "p99_us")]
            cells += [words.number(own["rss_mb"], ".1f")]
            cells += [words.number(words.scaled(own["client_busy"], 100), ".0f")]
            rows.append(cells + [words.loss(own["counts"]), words.answers(own["counts"], expected)])
    return [(heads, rows)]


def plots(result):
    """CPU per query by number of workers."""
    found = result["figures"]
    counts = sorted({count for row in found.values() for count in row["workers"]}, key=int)
    rows = [
        (name, [row["workers"].get(count, {}).get("cpu_us") for count in counts])
        for name, row in found.items()
    ]
    keys = tuple(f"workers: {count}" for count in counts)
    title = f"{result['scenario']['name']}: CPU per query"
    return {"cpu": plot.bars(title, "µs", rows, keys)}


def verdicts(_scenario, _ours, _found):
    """None."""
    return []


def remarks(result):
    """What the ratio says, in words."""
    machine = result["machine"]
    is_shared = not set(machine["client_cpus"]) - set(machine["server_cpus"])
    why = ", an upper bound: the client's share of its CPU is in it" if is_shared else ""
    for name, row in result["figures"].items():
        if row["cpu_ratio"] is None:
            continue
        most, ratio = max(row["workers"], key=int), row["cpu_ratio"]["median"]
        yield f"{name}: a query costs {most} workers {ratio:.2f} times what it costs one{why}."
