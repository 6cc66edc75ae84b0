"""What is left of a run: a folder with one JSON file for each scenario, and, made from these at any
time, `report.md` with its plots (SVG)."""

import datetime
import json
import os
import platform
from pathlib import Path

from . import flame
from .kinds import KINDS
from .words import markdown

REPORT = "report.md"


def machine(setting):
    """What the figures were taken on."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    sizes = Path("/proc/meminfo").read_text(errors="replace").split()
    return {
        "cpu": model or platform.machine(),
        "cpus": os.cpu_count(),
        "memory_mb": int(sizes[1]) // 1000,
        "kernel": platform.release(),
        "hypervisor": setting_of_kernel("/sys/hypervisor/type"),
        "rmem_default": setting_of_kernel("/proc/sys/net/core/rmem_default"),
        "rmem_max": setting_of_kernel("/proc/sys/net/core/rmem_max"),
        "load_average": os.getloadavg(),
        "server_cpus": sorted(setting.server_cpus),
        "client_cpus": sorted(setting.client_cpus),
    }


def setting_of_kernel(path):
    """The content of a file of one line, or "" where there is none."""
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def now():
    """This moment, as it stands in reports."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def write(path, text):
    """Replaces a file at once: readers never see half of it."""
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)


def section(result):
    """The part of a report that is about one scenario: lines of Markdown, without its plots."""
    scenario = result["scenario"]
    rounds = sum(1 for bursts in result["rounds"] if bursts)
    lines = [f"## {scenario['name']}: {scenario['about']}", ""]
    what = "windows" if "--rate" in scenario["pace"] else "rounds"
    about = f"{rounds} {what} of {scenario['seconds']:g} s"
    if scenario["kind"] == "burst":
        about += f"; ratios to {result['base']} within one of them: median, quartiles"
    lines += [about + ("." if result["complete"] else "; **not complete**.")]
    for heads, rows in KINDS[scenario["kind"]].tables(result):
        lines += ["", *markdown(heads, rows)]
    if remarks := getattr(KINDS[scenario["kind"]], "remarks", None):
        lines += [f"\n{sentence}" for sentence in remarks(result)]
    lines += watched(result)
    lines += [f"\nleft out: {name}: {why}" for name, why in result["left_out"].items()]
    for holds, sentence in result["verdicts"]:
        lines.append(f"\n{'holds' if holds else '**BROKEN**'}: {sentence}")
    for met, sentence in result.get("goals", []):
        lines.append(f"\n{'goal met' if met else '**goal missed**'}: {sentence}")
    return lines


def watched(result):
    """What strace, perf and valgrind said, where they were asked."""
    lines = []
    if calls := result.get("syscalls"):
        rows = [[name, f"{one['per_answer']:.3f}", one["most"]] for name, one in calls.items()]
        lines += ["", *markdown(["server", "system calls per answer", "most of them"], rows)]
    for tool in ("counters", "callgrind"):
        if counted := result.get(tool):
            events = list(dict.fromkeys(event for one in counted.values() for event in one))
            rows = [
                [name, *(f"{one[event]:.1f}" if event in one else "–" for event in events)]
                for name, one in counted.items()
            ]
            heads = [f"server ({tool})", *(f"{event} per answer" for event in events)]
            lines += ["", *markdown(heads, rows)]
    for heads, rows in flame.tables(result):
        lines += ["", *markdown(heads, rows)]
    return lines


def details(result):
    """Versions and commands, folded away."""
    lines = ["", "<details><summary>versions and commands</summary>", "", "```text"]
    lines += [result["command"]]
    for name, server in result["servers"].items():
        lines += ["", f"{name}: {server['version'] or 'says no version'}", server["command"]]
        if server["flood"]:
            lines.append(server["flood"])
    return lines + ["```", "", "</details>"]


def head(results):
    """What all scenarios of a report have in common."""
    last = results[-1]
    found = last["machine"]
    loads = [one["machine"]["load_average"][0] for one in results]
    kernel = f"Linux {found['kernel']}, receive buffers {found['rmem_default']}"
    kernel += f" (at most {found['rmem_max']}) octets"
    words = {
        "machine": f"{found['cpu']}, {found['cpus']} CPUs, {found['memory_mb'] / 1000:.0f} GB",
        "kernel": kernel,
        "CPUs": f"servers {listed(found['server_cpus'])}, client {listed(found['client_cpus'])}",
        "load before": f"{min(loads):.2f} to {max(loads):.2f}",
        "begun": f"{results[0]['started']}",
        "command": f"`{last['command']}`",
    }
    lines = ["# Load test", ""]
    lines += [f"- {key}: {value}" for key, value in words.items()]
    lines += ["", "How to read this: loadtest/README.md. Ratios are what counts; absolute times are"]
    return lines + ["of this machine.", ""]


def listed(numbers):
    """Numbers, with commas."""
    return ",".join(map(str, numbers))


def results_of(directory):
    """The results in a folder, in the order in which they began."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in directory.glob("*.json")]
    return sorted(found, key=lambda result: (result["started"], result["scenario"]["name"]))


def make(directory):
    """Writes the report of a folder, from what is there; says where. None without any result."""
    results = results_of(directory)
    if not results:
        return None
    lines = head(results)
    for result in results:
        lines += section(result)
        name = result["scenario"]["name"]
        pictures = KINDS[result["scenario"]["kind"]].plots(result) | flame.plots(result)
        for what, picture in pictures.items():
            if picture:
                write(directory / f"{name}-{what}.svg", picture)
                lines += ["", f"![{name}: {what}]({name}-{what}.svg)"]
        lines += details(result) + [""]
    write(directory / REPORT, "\n".join(lines))
    return directory / REPORT


def save(result, directory):
    """Writes a result, and the report of its folder anew."""
    directory.mkdir(parents=True, exist_ok=True)
    name = f"{result['scenario']['name']}.json"
    write(directory / name, json.dumps(result, indent=1, default=str) + "\n")
    return make(directory)
