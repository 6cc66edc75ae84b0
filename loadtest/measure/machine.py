"""What the machine did in a window of load: who took the CPUs, who waited for them, where datagrams
found no room. And with that, to what a loss is put down.

The kernel's counters are read before and after a window; while there is load only `flood --watch` looks
(a thread on each CPU that wakes every 5 ms, a few µs each).
"""

import os
from pathlib import Path

from . import words
from .arithmetic import spread

TICK_MS = 10.0
# In a window that is calm neither the host nor the client was away for longer (`LATE` of flood).
CALM_MS = 1.0
# Windows that are told one by one.
TOLD_MAX = 3
# Programs beside server and client that are told, and how long one ran at least.
OTHERS_MAX = 5
OTHER_MS_MIN = 1.0


def steal_ms(text):
    """{CPU: milliseconds that the host kept it from this machine}, of /proc/stat."""
    found = {}
    for line in text.splitlines():
        name, *times = line.split()
        if name.startswith("cpu") and name != "cpu" and len(times) > 7:
            found[int(name[3:])] = TICK_MS * int(times[7])
    return found


def dropped(text, port):
    """Datagrams for which sockets of a port had no room, of /proc/net/udp or udp6."""
    total = 0
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 2 and int(fields[1].rpartition(":")[2], 16) == port:
            total += int(fields[-1])
    return total


def programs():
    """{process: (name, how long its threads that live ran (ns))} of everybody, the kernel's threads too."""
    found = {}
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                tasks = [task / "schedstat" for task in (process / "task").iterdir()]
                ran = sum(int(task.read_text(encoding="ascii").split()[0]) for task in tasks)
                found[int(process.name)] = (process / "comm").read_text().strip(), ran
            except (OSError, ValueError, IndexError):
                continue
    return found


def others(before, after, own):
    """[(name, ms)] of those that ran for the longest time, without the processes `own`."""
    ran = []
    for process, (name, ns) in after.items():
        ms = (ns - before.get(process, (name, 0))[1]) / 1e6
        if process not in own and ms >= OTHER_MS_MIN:
            ran.append((name, round(ms, 1)))
    return sorted(ran, key=lambda one: -one[1])[:OTHERS_MAX]


def look(server):
    """What the counters of the machine and of a server stand at."""
    tables = (Path("/proc/net", name) for name in ("udp", "udp6"))
    texts = [table.read_text(encoding="ascii") for table in tables if table.exists()]
    return {
        "steal_ms": steal_ms(Path("/proc/stat").read_text(encoding="ascii")),
        "dropped": sum(dropped(text, server.port) for text in texts),
        "threads": server.threads(),
        "major_faults": server.major_faults(),
        "programs": programs(),
    }


def busiest(threads):
    """The key of the thread that ran for the longest time, of `Server.threads`."""
    return max(threads, key=lambda key: threads[key]["ran_ns"])


def between(before, after, report):
    """The record of a window, from two looks and what flood saw. Times are in milliseconds."""
    earlier = before["threads"]

    def grown(key, what):
        return after["threads"][key][what] - earlier.get(key, {}).get(what, 0)

    threads = after["threads"]
    first = busiest(threads)
    client, watched = report["client"], report["watched"]
    wait_us = report["longest_wait_us"]
    own = {process for process, _ in threads} | {os.getpid()}
    return {
        "steal_ms": {
            cpu: ms - before["steal_ms"].get(cpu, 0.0) for cpu, ms in after["steal_ms"].items()
        },
        "late_ms": {cpu: beats["latest_us"] / 1e3 for cpu, beats in watched.items()},
        "real_time": bool(watched) and all(beats["real_time"] for beats in watched.values()),
        "worker": threads[first]["name"],
        "worker_ran_ms": grown(first, "ran_ns") / 1e6,
        "worker_waited_ms": grown(first, "waited_ns") / 1e6,
        "worker_longest_wait_ms": None if wait_us is None else wait_us / 1e3,
        "waited_ms": sum(grown(key, "waited_ns") for key in threads) / 1e6,
        "switched_out": sum(grown(key, "switched_out") for key in threads),
        "major_faults": after["major_faults"] - before["major_faults"],
        "dropped": after["dropped"] - before["dropped"],
        "client_gap_ms": client["gap_us"] / 1e3,
        "client_waited_ms": client["waited_us"] / 1e3,
        "client_dropped": client["dropped"],
        "silence_ms": client["silence_us"] / 1e3,
        "others": others(before["programs"], after["programs"], own),
    }


def host_ms(record):
    """The longest time for which the host had a CPU, as far as this is known: by beats that no program
    can hold up; without them as much as was stolen in all."""
    if record["real_time"]:
        return max(record["late_ms"].values())
    return max(record["steal_ms"].values(), default=0.0)


def is_calm(record):
    """Whether neither the host nor the client was away."""
    return max(host_ms(record), record["client_gap_ms"]) <= CALM_MS


def cause(record):
    """Whose the longest time without an answer was: (who, milliseconds of it that are theirs). Whoever was
    away for half of it or more: the host, which holds up everybody; else who was so for longer."""
    wait = record["worker_longest_wait_ms"]
    scheduler = record["worker_waited_ms"] if wait is None else wait
    away = [("the host", host_ms(record))]
    away.append(max(("the client", record["client_gap_ms"]), ("the scheduler", scheduler), key=last))
    for who, ms in away:
        if ms >= max(record["silence_ms"] / 2, CALM_MS):
            return who, ms
    return "the server", record["silence_ms"]


def last(pair):
    """The second of two."""
    return pair[1]


def places(lost, record):
    """Where queries and answers were lost, in words."""
    known = {
        "the server's receive buffers": record["dropped"],
        "the client's": record["client_dropped"],
    }
    said = [f"{count} in {where}" for where, count in known.items() if count]
    rest = lost - sum(known.values())
    if rest > 0:
        said.append(f"{rest} elsewhere")
    return ", ".join(said)


def evidence(record):
    """The figures that a cause was found by, in words."""
    stolen = " and ".join(f"{ms:.0f}" for ms in record["steal_ms"].values())
    late = " and ".join(f"{ms:.1f}" for ms in record["late_ms"].values())
    kind = "" if record["real_time"] else ", held up by programs too"
    wait = record["worker_longest_wait_ms"]
    longest = "" if wait is None else f", {wait:.1f} at once"
    return (
        f"CPUs late by {late or '?'} ms{kind}, {stolen} ms stolen; client away for"
        f" {record['client_gap_ms']:.1f} ms; {record['worker']} ran {record['worker_ran_ms']:.0f} ms,"
        f" waited {record['worker_waited_ms']:.1f} ms{longest}, {record['switched_out']} times switched"
        f" out, {record['major_faults']} major faults; others ran {listed(record['others'])}"
    )


def listed(ran):
    """Programs with their milliseconds, in words."""
    return ", ".join(f"{name} {ms:g} ms" for name, ms in ran) or "less than 1 ms each"


def most(records):
    """Who ran beside server and client, over all windows, in milliseconds a window."""
    total = {}
    for record in records:
        for name, ms in record["others"]:
            total[name] = total.get(name, 0.0) + ms / len(records)
    ran = sorted(total.items(), key=lambda one: -one[1])[:TOLD_MAX]
    return listed([(name, round(ms, 1)) for name, ms in ran])


def told(name, windows):
    """A sentence about the loss of a server, of [(what it is called, flood's report)]; None without any."""
    lossy = [(what, one) for what, one in windows if one["lost"] and "machine" in one]
    if not lossy:
        return None
    lost = sum(report["lost"] for _, report in lossy)
    said = []
    for what, report in sorted(lossy, key=lambda pair: -pair[1]["lost"])[:TOLD_MAX]:
        record = report["machine"]
        who, ms = cause(record)
        said.append(
            f"{what}, {report['lost']} lost ({places(report['lost'], record)}),"
            f" {record['silence_ms']:.1f} ms without an answer: put down to {who}, {ms:.1f} ms"
            f" ({evidence(record)})"
        )
    more = f"; and {len(lossy) - TOLD_MAX} more" if len(lossy) > TOLD_MAX else ""
    return f"{name}: {lost} lost in {len(lossy)} of {len(windows)} windows: {'; '.join(said)}{more}."


def table(rows):
    """What the machine did, of {label: [flood's reports]}: medians over windows, the highest in
    parentheses. None where nobody watched."""
    heads = ["machine", "no answer for ms", "CPUs late ms", "stolen ms", "worker waited ms"]
    heads += ["longest wait ms", "switched out", "client away ms", "dropped", "calm windows"]
    heads += ["their p99 µs", "quartiles", "others, a window"]
    lines = []
    for label, reports in rows.items():
        watched = [report for report in reports if "machine" in report]
        records = [report["machine"] for report in watched]
        if not records:
            continue

        def cell(of, form=".1f"):
            values = [value for value in map(of, records) if value is not None]
            return f"{spread(values)['median']:{form}} ({max(values):{form}})" if values else "–"

        calm = [one["latency_us"]["p99"] for one in watched if is_calm(one["machine"])]
        cells = [label, cell(lambda record: record["silence_ms"])]
        cells += [cell(lambda record: max(record["late_ms"].values(), default=None))]
        cells += [cell(lambda record: sum(record["steal_ms"].values()), ".0f")]
        cells += [cell(lambda record: record["worker_waited_ms"])]
        cells += [cell(lambda record: record["worker_longest_wait_ms"])]
        cells += [cell(lambda record: record["switched_out"], ".0f")]
        cells += [cell(lambda record: record["client_gap_ms"])]
        cells += [str(sum(record["dropped"] for record in records))]
        cells += [f"{len(calm)} of {len(records)}", words.number(spread(calm), ".0f")]
        lines.append(cells + [words.quartiles(spread(calm), ".0f"), most(records)])
    return (heads, lines) if lines else None
