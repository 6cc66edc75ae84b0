"""The highest rate at which a server keeps an objective, such as p99=1ms."""

from .. import plot, words
from ..arithmetic import of_all, spread

# Rates that are tried in one search, about.
TRIES = 14


def prepare(_bench, _progress):
    """Nothing."""


def visit(bench, server):
    """One search."""
    pace = ("--slo", bench.scenario.objective, "--slo-from", "4000")
    found = bench.flood(server, bench.scenario.seconds, pace, seconds_in_all=125)
    return {
        "rate": found["rate"],
        "client_bound": found["client_bound"],
        "out_of_time": found["out_of_time"],
        "steps": found["steps"],
    }


def steps(scenario, servers):
    """Every server in every round."""
    return scenario.rounds * servers, TRIES * scenario.seconds


def figures(rounds, names, _base):
    """Rates, by server."""
    found = {}
    for name in names:
        found[name] = {"rate": spread(of_all(rounds, name, "rate"))}
        for key in ("client_bound", "out_of_time"):
            found[name][key] = sum(of_all(rounds, name, key))
        found[name]["missed"] = of_all(rounds, name, "rate").count(None)
    return found


def tables(result):
    """One row a server."""
    heads = ["server", f"highest q/s with {result['scenario']['objective']}", "quartiles", "notes"]
    rows = []
    for name, row in result["figures"].items():
        notes = []
        if row["client_bound"]:
            notes.append(f"**client-bound in {row['client_bound']} searches**")
        if row["out_of_time"]:
            notes.append(f"out of time in {row['out_of_time']}: a lower bound")
        if row["missed"]:
            notes.append(f"**no rate kept it in {row['missed']}**")
        cells = [name, words.number(row["rate"], ".0f"), words.quartiles(row["rate"], ".0f")]
        rows.append(cells + [", ".join(notes) or "–"])
    return [(heads, rows)]


def plots(result):
    """Rates."""
    rows = [(name, [row["rate"]]) for name, row in result["figures"].items()]
    title = f"{result['scenario']['name']}: highest rate with {result['scenario']['objective']}"
    return {"rate": plot.bars(title, "q/s", rows)}


def verdicts(_scenario, _ours, _found):
    """None."""
    return []
