"""What all measurements of a run have in common: binaries, CPUs, seed."""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

from .scenario import HERE, Failure


@dataclass
class Setting:
    """Where things are, and on which CPUs they run."""

    binaries: Path
    target: Path
    server_cpus: frozenset
    client_cpus: frozenset
    seed: int


def cpus(text):
    """The CPUs of a list such as `0,2-3`."""
    found = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    if not found:
        raise argparse.ArgumentTypeError(f"{text}: no CPU")
    return frozenset(found)


cpus.__name__ = "list of CPUs"


def add_options(parser):
    """The options that `setting_of` reads."""
    add = parser.add_argument
    add("--bin", type=Path, metavar="DIR", help="with reflect and flood; target/release")
    add("--server-cpus", type=cpus, default="0", metavar="LIST", help="0; as 0,2-3")
    add("--client-cpus", type=cpus, default="1", metavar="LIST", help="1")
    add("--seed", type=int, default=1, help="of data and mixes")


def setting_of(arguments):
    """The setting that the command line asks for, checked."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent / "target")).resolve()
    binaries = (arguments.bin or target / "release").resolve()
    for program in ("reflect", "flood"):
        if not (binaries / program).exists():
            raise Failure(f"no {program} in {binaries}: cargo build --release --workspace")
    chosen = (arguments.server_cpus, arguments.client_cpus)
    if missing := (chosen[0] | chosen[1]) - os.sched_getaffinity(0):
        words = ", ".join(map(str, sorted(missing)))
        raise Failure(f"CPU {words} is not there: see --server-cpus")
    if chosen[0] == chosen[1]:
        raise Failure("the client needs a CPU of its own")
    (target / "loadtest").mkdir(parents=True, exist_ok=True)
    return Setting(binaries, target, *chosen, arguments.seed)
