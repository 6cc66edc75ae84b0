"""What people and programs read: progress while it runs, a table in Markdown, a JSON file."""

import datetime
import json
import os
import platform
import sys
import time
from pathlib import Path


class Progress:
    """How far it is, and how long it will take, on standard error."""

    def __init__(self, what, steps, seconds_of_a_step):
        self.what = what
        self.steps = steps
        self.estimate = seconds_of_a_step
        self.done = 0
        self.start = time.monotonic()
        self.is_terminal = sys.stderr.isatty()
        self.said = 0.0

    def step(self, name):
        """One more is done."""
        self.done += 1
        left = self.seconds_left(time.monotonic() - self.start)
        line = f"{self.what}: {self.done} of {self.steps} ({name}), {left:.0f} s left"
        if self.is_terminal:
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self.said > 10 or self.done == self.steps:
            self.said = time.monotonic()
            print(line, file=sys.stderr, flush=True)

    def seconds_left(self, elapsed):
        """From the pace so far; before there is one, from the estimate."""
        pace = elapsed / self.done if self.done else self.estimate
        return (self.steps - self.done) * pace

    def end(self):
        """Leaves the line to others."""
        if self.is_terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def number(spread, form, key="median"):
    """A number of a spread, or a dash."""
    return "–" if spread is None else format(spread[key], form)


def quartiles(spread, form):
    """The quartiles of a spread, or a dash."""
    if spread is None:
        return "–"
    return f"{spread['q1']:{form}}–{spread['q3']:{form}}"


def answers(counts, with_rcodes=True):
    """What kinds of answers there were, and whatever was not as it should be."""
    notes = []
    if with_rcodes:
        notes += [f"{rcode} {share:.0%}" for rcode, share in counts["rcodes"].items()]
    notes += [f"**{key.replace('_', ' ')} {count}**" for key, count in counts["odd"].items()]
    return ", ".join(notes) or "as expected"


def loss(counts):
    """Loss in percent."""
    share = counts["lost_share"]
    return "–" if share is None else f"{100 * share:.3f}"


def burst_table(figures, servers):
    """(heads, rows) of saturated and of fixed-rate bursts."""
    has_latency = any(row["p50_us"] for row in figures.values())
    heads = ["server", "CPU ratio", "quartiles", "µs/query", "user", "system", "kq/s"]
    heads += ["p50 ratio", "p50 µs", "p99 µs"] if has_latency else []
    heads += ["RSS MB", "ready s", "lost %", "answers"]
    rows = []
    for name, row in figures.items():
        kqps = "–" if row["qps"] is None else f"{row['qps']['median'] / 1000:.1f}"
        if row["client_bound"]:
            kqps = f"≥ {kqps}"
        cells = [name, number(row["cpu_ratio"], ".2f"), quartiles(row["cpu_ratio"], ".2f")]
        cells += [number(row[key], ".2f") for key in ("cpu_us", "user_us", "system_us")] + [kqps]
        if has_latency:
            cells += [number(row["p50_ratio"], ".2f")]
            cells += [number(row[key], ".0f") for key in ("p50_us", "p99_us")]
        cells += [number(row["rss_mb"], ".1f"), f"{servers[name]['ready_seconds']:.2f}"]
        rows.append(cells + [loss(row["counts"]), answers(row["counts"])])
    return heads, rows


def reload_table(figures, _):
    """(heads, rows) of windows with and without reloads."""
    heads = ["server", "q/s", "reloads", "lost, reloads", "lost, quiet", "p50 ratio", "quartiles"]
    heads += ["p99 µs, reloads", "quartiles", "p99 µs, quiet", "quartiles", "answers"]
    rows = []
    for name, row in figures.items():
        counts = row["reload_counts"]
        rows.append(
            [
                name,
                "–" if row["rate"] is None else f"{row['rate']}",
                f"{row['reloads_done']} of {row['reloads_asked']}",
                f"{counts['lost']} of {counts['sent']}",
                str(row["quiet_counts"]["lost"]),
                number(row["p50_ratio"], ".2f"),
                quartiles(row["p50_ratio"], ".2f"),
                number(row["reload_p99_us"], ".0f"),
                quartiles(row["reload_p99_us"], ".0f"),
                number(row["quiet_p99_us"], ".0f"),
                quartiles(row["quiet_p99_us"], ".0f"),
                answers(counts),
            ]
        )
    return heads, rows


def idle_table(figures, servers):
    """(heads, rows) of stretches without queries."""
    heads = ["server", "RSS MB", "context switches", "quartiles", "CPU ms", "threads", "ready s"]
    rows = [
        [
            name,
            number(row["rss_mb"], ".1f"),
            number(row["context_switches"], ".0f"),
            quartiles(row["context_switches"], ".0f"),
            number(row["cpu_ms"], ".2f"),
            number(row["threads"], ".0f"),
            f"{servers[name]['ready_seconds']:.2f}",
        ]
        for name, row in figures.items()
    ]
    return heads, rows


def cluster_table(figures, _):
    """(heads, rows) of servers from their start through a re-list and churn."""
    heads = ["server", "ready s", "RSS MB", "peak at start", "peak of re-list", "ratio"]
    heads += ["RSS after", "CPU under churn %", "event to served p99 ms"]
    rows = []
    for name, row in figures.items():
        share = row["churn_cpu_share"]
        percent = share and {key: 100 * share[key] for key in ("median", "q1", "q3")}
        cells = [name, number(row["ready_seconds"], ".2f")]
        cells += [number(row[key], ".1f") for key in ("steady_mb", "start_peak_mb")]
        cells += [number(row["relist_peak_mb"], ".1f"), number(row["relist_ratio"], ".2f")]
        cells += [number(row["after_mb"], ".1f"), number(percent, ".1f")]
        rows.append(cells + [number(row["served_p99_ms"], ".2f")])
    return heads, rows


TABLES = {
    "burst": burst_table,
    "reload": reload_table,
    "idle": idle_table,
    "cluster": cluster_table,
}


def markdown(heads, rows):
    """The lines of a table whose columns are aligned in the source, too."""
    widths = [max(map(len, column)) for column in zip(heads, *rows)]

    def line(cells):
        padded = (
            cell.ljust(width) if index in (0, len(cells) - 1) else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(cells, widths))
        )
        return f"| {' | '.join(padded)} |"

    last = len(widths) - 1
    ends = ("-" if index in (0, last) else ":" for index in range(last + 1))
    rule = ["-" * (width - 1) + end for width, end in zip(widths, ends)]
    return [line(heads), f"| {' | '.join(rule)} |", *map(line, rows)]


def document(report):
    """A report as Markdown."""
    scenario = report["scenario"]
    rounds = sum(1 for bursts in report["rounds"] if bursts)
    lines = [f"### {scenario['name']}: {scenario['about']}", ""]
    about = f"{rounds} rounds of {scenario['seconds']:g} s"
    if scenario["kind"] == "burst":
        about += f"; ratios to {report['base']} within a round: median, quartiles"
    lines += [about + ("." if report["complete"] else "; **interrupted**."), ""]
    lines += markdown(*TABLES[scenario["kind"]](report["figures"], report["servers"]))
    lines += [f"\nleft out: {name}: {why}" for name, why in report["left_out"].items()]
    for holds, sentence in report["verdicts"]:
        lines.append(f"\n{'holds' if holds else '**BROKEN**'}: {sentence}")
    return "\n".join(lines) + "\n"


def machine():
    """What the figures were taken on."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "cpu": model or platform.machine(),
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "load_average": os.getloadavg(),
    }


def now():
    """This moment, as it stands in reports."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def write(path, text):
    """Replaces a file at once: readers never see half of it."""
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)


def save(report, directory):
    """Writes a report as JSON and as Markdown; says where."""
    directory.mkdir(parents=True, exist_ok=True)
    stamp = report["started"].replace(":", "").replace("-", "")
    path = directory / f"{report['scenario']['name']}-{stamp}.json"
    write(path, json.dumps(report, indent=1, default=str) + "\n")
    write(path.with_suffix(".md"), document(report))
    return path
