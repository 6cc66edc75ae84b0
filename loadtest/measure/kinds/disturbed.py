"""Windows in which something happens beside the load (`reload`: the configuration is read again;
`churn`: endpoints of the cluster change), beside windows in which nothing does."""

import random
import time

from .. import machine, plot, words
from ..arithmetic import counts_of, spread


def prepare(bench, progress):
    """Finds out what each server answers when saturated."""
    bench.find_capacity(progress)


def visit(bench, server):
    """A window with, one without, in random order, at the same rate."""
    rate = round(bench.capacity[server.label] * bench.scenario.load_share)
    pair = {"rate": rate}
    for kind in random.sample(("quiet", "disturbed"), 2):
        if kind == "quiet":
            pair[kind] = window(bench, server, rate)
        elif bench.scenario.kind == "churn":
            bench.kube(f"churn?rate={bench.scenario.churn}")
            pair[kind] = window(bench, server, rate)
            bench.kube("churn?rate=0")
        else:
            due = Reloads(server, bench.scenario)
            before = server.reloads_done()
            pair[kind] = window(bench, server, rate, due.tick)
            pair["reloads_asked"] = due.asked
            pair["reloads_done"] = server.reloads_done() - before
    return pair


def window(bench, server, rate, meanwhile=None):
    """One stretch of load."""
    return bench.watched(server, bench.scenario.seconds, ("--rate", str(rate)), meanwhile)


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


def steps(scenario, servers):
    """A step to find each server's capacity, and one for each pair."""
    return (scenario.rounds + 1) * servers, 2 * (scenario.seconds + 0.2)


def figures(rounds, names, _base):
    """Figures of windows with (`disturbed`) beside windows without (`quiet`)."""
    found = {}
    for name in names:
        pairs = [r[name] for r in rounds if name in r]
        windows = {kind: [pair[kind] for pair in pairs] for kind in ("quiet", "disturbed")}
        row = {
            "rate": pairs[0]["rate"] if pairs else None,
            "reloads_asked": sum(pair.get("reloads_asked", 0) for pair in pairs),
            "reloads_done": sum(pair.get("reloads_done", 0) for pair in pairs),
            "p50_ratio": spread(
                [
                    disturbed["latency_us"]["p50"] / quiet["latency_us"]["p50"]
                    for disturbed, quiet in zip(windows["disturbed"], windows["quiet"])
                    if quiet["latency_us"]["p50"]
                ]
            ),
        }
        for kind, reports in windows.items():
            for key in ("p50", "p99", "p999", "max"):
                row[f"{kind}_{key}_us"] = spread([r["latency_us"][key] for r in reports])
            row[f"{kind}_counts"] = counts_of(reports)
        found[name] = row
    return found


def tables(result):
    """One row a server."""
    kind = result["scenario"]["kind"]
    heads = ["server", "q/s"] + (["reloads"] if kind == "reload" else [])
    heads += [f"lost, {kind}", "lost, quiet", "p50 ratio", "quartiles"]
    heads += [f"p99 µs, {kind}", "quartiles", "p99 µs, quiet", "quartiles", "answers"]
    rows = []
    for name, row in result["figures"].items():
        counts = row["disturbed_counts"]
        cells = [name, "–" if row["rate"] is None else f"{row['rate']}"]
        if kind == "reload":
            cells += [f"{row['reloads_done']} of {row['reloads_asked']}"]
        cells += [f"{counts['lost']} of {counts['sent']}", str(row["quiet_counts"]["lost"])]
        for key, form in (("p50_ratio", ".2f"), ("disturbed_p99_us", ".0f"), ("quiet_p99_us", ".0f")):
            cells += [words.number(row[key], form), words.quartiles(row[key], form)]
        expected = result["scenario"]["expected_odd"]
        rows.append(cells + [words.answers(counts, expected)])
    windows = {
        f"{name}, {called}": [one for what, one in windows_of(result, name) if called in what]
        for name in result["figures"]
        for called in (kind, "quiet")
    }
    return [(heads, rows)] + [found for found in [machine.table(windows)] if found]


def windows_of(result, name):
    """[(what it is called, flood's report)] of all windows of a server."""
    called = {"disturbed": result["scenario"]["kind"], "quiet": "quiet"}
    return [
        (f"window {number} ({called[kind]})", bursts[name][kind])
        for number, bursts in enumerate(result["rounds"], 1)
        for kind in called
        if name in bursts
    ]


def remarks(result):
    """What a loss is put down to."""
    said = (machine.told(name, windows_of(result, name)) for name in result["figures"])
    return [sentence for sentence in said if sentence]


def plots(result):
    """Both windows' p99."""
    kind, rows = result["scenario"]["kind"], result["figures"]
    parts = [(name, [r["disturbed_p99_us"], r["quiet_p99_us"]]) for name, r in rows.items()]
    title = f"{result['scenario']['name']}: p99"
    return {"p99": plot.bars(title, "µs", parts, (kind, "quiet"))}


def verdicts(scenario, ours, found):
    """What may be lost at most, of the servers that are ours."""
    said = []
    for name in ours:
        row = found.get(name)
        if row is None or not row["disturbed_counts"]["answered"]:
            said.append((False, f"{name}: no answers"))
            continue
        lost = row["disturbed_counts"]["lost"]
        holds = lost <= scenario.lost_max
        sentence = f"{name}: {lost} lost (at most {scenario.lost_max})"
        if scenario.kind == "reload":
            done, asked = row["reloads_done"], row["reloads_asked"]
            holds = holds and 0 < done <= asked
            sentence += f" over {done} of {asked} reloads"
        said.append((holds, sentence))
    return said
