"""What tools that watch a process say of a server under load: system calls by strace, and what the
processor counts by perf. Both slow it down, so they get bursts of their own, after the rounds."""

import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from .scenario import Failure

ATTACH_SECONDS = 10.0
COUNTERS = "instructions:u,instructions:k,cycles,cache-misses,branch-misses"


def parse_counts(text):
    """{system call: calls} of the summary of `strace -c -U name,calls`."""
    counts = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 2 and words[1].isdigit() and words[0] != "total":
            counts[words[0]] = int(words[1])
    return counts


def count(bench, server, seconds):
    """System calls an answer of one server under load, and which are the most. strace is attached
    before the load begins and detached after it has ended: every call and every answer counts."""
    if shutil.which("strace") is None:
        raise Failure("strace is not there (Debian: strace)")
    summary = bench.directory / f"{server.label}.counts"
    words = ["strace", "-c", "-f", "-U", "name,calls", "-o", str(summary)]
    pids = sorted(server.pids())
    for pid in pids:
        words += ["-p", str(pid)]
    with tempfile.NamedTemporaryFile("w+", dir=bench.directory) as errors:
        tracer = subprocess.Popen(words, stderr=errors, start_new_session=True)
        try:
            deadline = time.monotonic() + ATTACH_SECONDS
            said = ""
            while said.count(" attached") < len(pids):
                if tracer.poll() is not None or time.monotonic() > deadline:
                    raise Failure(f"strace cannot attach to {server.label}: {said.strip()}")
                time.sleep(0.05)
                said = Path(errors.name).read_text(encoding="utf-8")
            report = bench.flood(server, seconds)
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(timeout=ATTACH_SECONDS)
    calls, most = per_answer(parse_counts(summary.read_text(encoding="utf-8")), report)
    return {"per_answer": calls, "most": most}


def per_answer(counts, report):
    """(calls an answer, words that name the most frequent ones)."""
    answered = max(report["answered"], 1)
    most = sorted(counts.items(), key=lambda item: -item[1])[:5]
    calls = ", ".join(f"{name} {calls / answered:.3f}" for name, calls in most)
    return sum(counts.values()) / answered, calls


def parse_perf(text):
    """{event: count} of `perf stat -x,`; events that the machine does not count are left out."""
    found = {}
    for line in text.splitlines():
        fields = line.split(",")
        if len(fields) > 2 and re.fullmatch(r"\d+", fields[0]):
            found[fields[2]] = int(fields[0])
    return found


def counters(bench, server, seconds):
    """{event: how often an answer} of one server under load; `Failure` without counters."""
    if shutil.which("perf") is None:
        raise Failure("perf is not there (Debian: linux-perf)")
    output = bench.directory / f"{server.label}.perf"
    words = ["perf", "stat", "-x,", "-e", COUNTERS, "-o", str(output)]
    words += ["-p", ",".join(map(str, sorted(server.pids())))]
    watcher = subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        # There is no sign that it counts; what it misses of the burst is a few milliseconds.
        time.sleep(0.2)
        report = bench.flood(server, seconds)
    finally:
        watcher.send_signal(signal.SIGINT)
        watcher.wait(timeout=ATTACH_SECONDS)
    found = parse_perf(output.read_text(encoding="utf-8")) if output.exists() else {}
    if not found:
        raise Failure("this machine has no hardware counters: bench/count counts instructions")
    answered = max(report["answered"], 1)
    return {event: number / answered for event, number in found.items()}
