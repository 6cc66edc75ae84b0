"""Bursts of load, saturated or at a fixed rate: CPU per query, rates, latencies."""

from .. import machine, plot, words
from ..arithmetic import counts_of, of_all, ratios, spread

MEASURES = ("cpu_us", "user_us", "system_us", "qps", "rss_mb", "switches")
LATENCIES = ("p50", "p90", "p99", "p999", "max")
CATEGORIES = ("p50", "p90", "p99", "p99.9", "max")


def prepare(_bench, _progress):
    """Nothing."""


def visit(bench, server):
    """One burst; with --dnsperf, one of dnsperf's after it."""
    found = bench.measured(server, bench.scenario.seconds)
    if bench.dnsperf:
        found["dnsperf"] = bench.dnsperf.visit(server, bench.scenario.seconds)
    return found


def steps(scenario, servers):
    """Every server in every round."""
    return scenario.rounds * servers, scenario.seconds + 0.3


def figures(rounds, names, base):
    """Figures of bursts, by server."""
    found = {}
    for name in names:
        reports = of_all(rounds, name, "flood")
        row = {
            "cpu_ratio": spread(ratios(rounds, name, base, "cpu_us")),
            "p50_ratio": spread(ratios(rounds, name, base, "p50_us")),
        }
        keys = MEASURES + tuple(f"{latency}_us" for latency in LATENCIES)
        row |= {key: spread(of_all(rounds, name, key)) for key in keys}
        row["client_bound"] = sum(report["client"]["bound"] for report in reports)
        row["client_busy"] = spread([report["client"]["busy"] for report in reports])
        row["counts"] = counts_of(reports)
        if any(report.get("lookups") for report in reports):
            row["lookups"] = lookups_of(reports)
        peer = [report for report in of_all(rounds, name, "dnsperf") if report]
        if peer:
            row["dnsperf"] = {key: spread([r[key] for r in peer]) for key in peer[0]}
        found[name] = row
    return found


def lookups_of(reports):
    """Look-ups a second, and how they ended."""
    ends = {key: sum(r["lookups"][key] for r in reports) for key in ("found", "not_found", "failed")}
    rates = [sum(report["lookups"].values()) / report["seconds"] for report in reports]
    return ends | {"rate": spread(rates)}


def tables(result):
    """CPU and rates; latencies of fixed rates; what dnsperf says."""
    found = [cpu_table(result)]
    rows = result["figures"]
    if any(row["p50_us"] for row in rows.values()):
        found.append(latency_table(rows))
        windows = {name: [one for _, one in windows_of(result, name)] for name in rows}
        found += [table for table in [machine.table(windows)] if table]
    if any("lookups" in row for row in rows.values()):
        found.append(lookup_table(rows))
    if any("dnsperf" in row for row in rows.values()):
        found.append(dnsperf_table(rows))
    return found


def windows_of(result, name):
    """[(what it is called, flood's report)] of all windows of a server."""
    return [
        (f"window {number}", bursts[name]["flood"])
        for number, bursts in enumerate(result["rounds"], 1)
        if name in bursts
    ]


def remarks(result):
    """What a loss is put down to, of windows at a fixed rate."""
    said = (machine.told(name, windows_of(result, name)) for name in result["figures"])
    return [sentence for sentence in said if sentence]


def cpu_table(result):
    """What a query costs each server."""
    heads = ["server", "CPU ratio", "quartiles", "µs/query", "user", "system", "kq/s"]
    heads += ["switches", "RSS MB", "ready s", "client %", "lost %", "answers"]
    rows = []
    expected = result["scenario"]["expected_odd"]
    for name, row in result["figures"].items():
        rate = words.number(row["qps"] and words.scaled(row["qps"], 1e-3), ".1f")
        if row["client_bound"]:
            rate = f"≥ {rate}"
        cells = [name, words.number(row["cpu_ratio"], ".2f")]
        cells += [words.quartiles(row["cpu_ratio"], ".2f")]
        cells += [words.number(row[key], ".2f") for key in ("cpu_us", "user_us", "system_us")]
        cells += [rate, words.number(row["switches"], ".3f"), words.number(row["rss_mb"], ".1f")]
        cells += [f"{result['servers'][name]['ready_seconds']:.2f}"]
        cells += [words.number(words.scaled(row["client_busy"], 100), ".0f")]
        rows.append(
            cells + [words.loss(row["counts"]), words.answers(row["counts"], expected)]
        )
    return heads, rows


def latency_table(rows):
    """Latencies of an open loop, from when a query was due."""
    heads = ["server", "p50 ratio", "quartiles", "p50 µs", "p90 µs", "p99 µs", "quartiles"]
    heads += ["p99.9 µs", "max µs"]
    lines = []
    for name, row in rows.items():
        cells = [name, words.number(row["p50_ratio"], ".2f")]
        cells += [words.quartiles(row["p50_ratio"], ".2f")]
        cells += [words.number(row[key], ".0f") for key in ("p50_us", "p90_us", "p99_us")]
        cells += [words.quartiles(row["p99_us"], ".0f")]
        lines.append(cells + [words.number(row[key], ".0f") for key in ("p999_us", "max_us")])
    return heads, lines


def lookup_table(rows):
    """Whole look-ups; latencies, where there are any, are theirs."""
    heads = ["server", "look-ups a second", "quartiles", "found", "not found", "failed"]
    lines = []
    for name, row in rows.items():
        if made := row.get("lookups"):
            cells = [name, words.number(made["rate"], ".0f"), words.quartiles(made["rate"], ".0f")]
            lines.append(cells + [str(made[key]) for key in ("found", "not_found", "failed")])
    return heads, lines


def dnsperf_table(rows):
    """The figures that people know."""
    heads = ["dnsperf", "q/s", "quartiles", "mean latency µs", "lost %"]
    lines = []
    for name, row in rows.items():
        said = row.get("dnsperf")
        if said:
            cells = [name, words.number(said["qps"], ".0f"), words.quartiles(said["qps"], ".0f")]
            cells += [words.number(said["mean_us"], ".0f")]
            lines.append(cells + [words.number(words.scaled(said["lost_share"], 100), ".3f")])
    return heads, lines


def plots(result):
    """CPU ratios; user and system time; latencies by percentile."""
    name, rows = result["scenario"]["name"], result["figures"]
    ratio = f"{name}: CPU per query, as a multiple of {result['base']}"
    parts = [(label, [row["user_us"], row["system_us"]]) for label, row in rows.items()]
    series = [
        (label, [row[f"{key}_us"] and row[f"{key}_us"]["median"] for key in LATENCIES])
        for label, row in rows.items()
    ]
    return {
        "cpu": plot.bars(ratio, "×", [(label, [r["cpu_ratio"]]) for label, r in rows.items()]),
        "time": plot.bars(f"{name}: CPU per query", "µs", parts, ("user", "system")),
        "latency": plot.lines(f"{name}: latency", "µs", CATEGORIES, series),
    }


def verdicts(_scenario, _ours, _found):
    """Limits of bursts come from the command line (--max)."""
    return []


def goals(scenario, ours, rounds, found):
    """What the project wants to reach: `cpu_ratio` and `p50_ratio` are at most so many times the base's,
    and, by the name of a peer, CPU per query at most so many times that of the peer."""
    said = []
    for name in ours:
        for goal, most in scenario.goals.items():
            if goal in ("cpu_ratio", "p50_ratio"):
                what, ratio = goal.replace("_", " "), found[name][goal]
            else:
                what, ratio = f"CPU, ÷ {goal}", spread(ratios(rounds, name, goal, "cpu_us"))
            if ratio is not None:
                sentence = f"{name}: {what} {ratio['median']:.2f} ({words.quartiles(ratio, '.2f')})"
                said.append((ratio["median"] <= most, f"{sentence}, at most {most:.2f} is wanted"))
    return said
