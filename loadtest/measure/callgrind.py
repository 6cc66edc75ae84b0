"""Instructions and cache misses of a server under load, counted by callgrind (Debian: valgrind): what
it does between system calls, whatever else the machine does. The kernel's part is not in it.

The server starts once more, under valgrind, and is some fifty times slower; what is counted is a burst
of load after a warm-up, from the moment at which counting begins to that of the dump.
"""

import dataclasses
import shutil
import subprocess
from pathlib import Path

from .scenario import Failure

# How much longer a server may take to be ready, and to end.
SLOWER = 20
CONTROL_SECONDS = 60.0
# What is told, by the events of callgrind's simulated caches.
EVENTS = {
    "instructions": ("Ir",),
    "D1 misses": ("D1mr", "D1mw"),
    "LL misses": ("DLmr", "DLmw"),
}
WORDS = ["--tool=callgrind", "--cache-sim=yes", "--instr-atstart=no"]


def parse(text):
    """{event: count} of a dump of callgrind, all of its parts together."""
    found = {}
    events = []
    for line in text.splitlines():
        key, _, rest = line.partition(":")
        if key == "events":
            events = rest.split()
        elif key == "totals":
            for event, count in zip(events, rest.split()):
                found[event] = found.get(event, 0) + int(count)
    return found


def per_answer(counted, answered):
    """{what: how often an answer}."""
    return {
        what: sum(counted.get(event, 0) for event in events) / max(answered, 1)
        for what, events in EVENTS.items()
    }


def control(pid, word):
    """Tells callgrind to do something in a process."""
    command = ["callgrind_control", word, str(pid)]
    said = subprocess.run(
        command, capture_output=True, text=True, timeout=CONTROL_SECONDS, check=False
    )
    if said.returncode != 0:
        raise Failure(f"{' '.join(command)}: {(said.stderr or said.stdout).strip()}")


def count(bench, server, seconds):
    """{what: how often an answer} of one server."""
    if shutil.which("valgrind") is None:
        raise Failure("valgrind is not there (Debian: valgrind)")
    contender = dataclasses.replace(
        server.contender, label=f"{server.label}-callgrind", path=server.values["path"]
    )
    patient = dataclasses.replace(
        bench.scenario, ready_seconds=SLOWER * bench.scenario.ready_seconds
    )
    watched = bench.server_of(contender, patient)
    output = watched.directory / "callgrind"
    valgrind = ["valgrind", *WORDS, f"--callgrind-out-file={output}.%p"]
    command = [*valgrind, *watched.definition["command"]]
    watched.definition = watched.definition | {"command": command}
    try:
        watched.start()
        if len(watched.pids()) != 1:
            # It hears nothing in those that a process has made.
            raise Failure("callgrind can be told to count in one process alone")
        pid = watched.process.pid
        # A rate that is set would be more than a server keeps that is so much slower.
        pace = ("--window", "4", "--time-out", "5s")
        bench.flood(watched, bench.scenario.warm_up_seconds, pace)
        control(pid, "--instr=on")
        report = bench.flood(watched, seconds, pace)
        control(pid, "--dump")
    finally:
        watched.stop()
    counted = {}
    for path in Path(watched.directory).glob("callgrind.*"):
        for event, number in parse(path.read_text(encoding="utf-8", errors="replace")).items():
            counted[event] = counted.get(event, 0) + number
    if not counted.get("Ir"):
        raise Failure(f"callgrind counted nothing of {server.label}")
    return per_answer(counted, report["answered"])
