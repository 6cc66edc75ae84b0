"""dnsperf beside our own generator: the figures that people know (Debian: dnsperf)."""

import random
import re
import shutil
import subprocess

from .process import SYSTEM_PATH, on_cpus
from .scenario import Failure, substitute

# Queries in the file that it is given; names that must never repeat are made up in this number.
QUERIES = 200_000


class Dnsperf:
    """Runs dnsperf with the queries of a scenario."""

    def __init__(self, bench):
        self.bench = bench
        self.program = shutil.which("dnsperf", path=SYSTEM_PATH)
        if self.program is None:
            raise Failure("dnsperf is not there (Debian: dnsperf)")
        self.file = bench.directory / "dnsperf.queries"
        self.file.write_text(self.queries(), encoding="ascii")

    def queries(self):
        """The scenario's queries, as one text."""
        options = options_of([substitute(w, self.bench.values) for w in self.bench.scenario.flood])
        choice = random.Random(self.bench.setting.seed)
        if zone := options.get("--random-labels"):
            return "".join(f"{choice.getrandbits(64):016x}.{zone} A\n" for _ in range(QUERIES))
        if "--queries" not in options:
            raise Failure("dnsperf cannot ask what this scenario asks")
        with open(options["--queries"], encoding="ascii") as file:
            lines = file.readlines()
        if "--misses" in options:
            share = float(options.get("--miss-share", "0.2"))
            with open(options["--misses"], encoding="ascii") as file:
                misses = file.readlines()
            lines = [choice.choice(misses) if choice.random() < share else line for line in lines]
        return "".join(lines)

    def visit(self, server, seconds):
        """One run; None where it says nothing."""
        scenario = self.bench.scenario
        words = [self.program, "-s", "127.0.0.1", "-p", str(server.port), "-d", str(self.file)]
        words += ["-l", str(max(1, round(seconds))), "-t", "1", "-T", "1", "-c", "16"]
        words += ["-m", "dot" if scenario.transport == "tls" else scenario.transport]
        pace = options_of(scenario.pace)
        if "--rate" in pace:
            words += ["-Q", pace["--rate"], "-q", "4096"]
        else:
            words += ["-q", str(16 * int(pace.get("--window", "16")))]
        try:
            said = subprocess.run(
                words,
                capture_output=True,
                text=True,
                timeout=seconds + 30,
                preexec_fn=on_cpus(self.bench.setting.client_cpus),
            )
        except subprocess.TimeoutExpired:
            return None
        return parse(said.stdout)


def options_of(words):
    """{option: value} of the words of a command line; switches have "" for a value."""
    found = {}
    for place, word in enumerate(words):
        if word.startswith("--"):
            following = words[place + 1 : place + 2]
            found[word] = following[0] if following and following[0][:2] != "--" else ""
    return found


def parse(text):
    """{qps, mean_us, lost_share} of what dnsperf prints at its end; None without these."""
    numbers = {}
    for key, pattern in {
        "qps": r"Queries per second:\s+([0-9.]+)",
        "mean_us": r"Average Latency \(s\):\s+([0-9.]+)",
        "sent": r"Queries sent:\s+(\d+)",
        "lost": r"Queries lost:\s+(\d+)",
    }.items():
        found = re.search(pattern, text)
        if not found:
            return None
        numbers[key] = float(found[1])
    lost = numbers["lost"] / numbers["sent"] if numbers["sent"] else None
    return {"qps": numbers["qps"], "mean_us": 1e6 * numbers["mean_us"], "lost_share": lost}
