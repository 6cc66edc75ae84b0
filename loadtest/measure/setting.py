"""What all measurements of a run have in common: binaries, CPUs, seed."""

import os
from dataclasses import dataclass
from pathlib import Path

from .scenario import HERE, Failure


@dataclass
class Setting:
    """Where things are, and on which CPUs they run."""

    binaries: Path
    target: Path
    server_cpu: int
    client_cpu: int
    seed: int


def add_options(parser):
    """The options that `setting_of` reads."""
    add = parser.add_argument
    add("--bin", type=Path, metavar="DIR", help="with reflect and flood; target/release")
    add("--server-cpu", type=int, default=0)
    add("--client-cpu", type=int, default=1)
    add("--seed", type=int, default=1, help="of data and mixes")


def setting_of(arguments):
    """The setting that the command line asks for, checked."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent / "target")).resolve()
    binaries = (arguments.bin or target / "release").resolve()
    for program in ("reflect", "flood"):
        if not (binaries / program).exists():
            raise Failure(f"no {program} in {binaries}: cargo build --release --workspace")
    cpus = (arguments.server_cpu, arguments.client_cpu)
    if missing := set(cpus) - os.sched_getaffinity(0):
        raise Failure(f"CPU {', '.join(map(str, missing))} is not there: see --server-cpu")
    if cpus[0] == cpus[1]:
        raise Failure("server and client need a CPU each")
    (target / "loadtest").mkdir(parents=True, exist_ok=True)
    return Setting(binaries, target, *cpus, arguments.seed)
