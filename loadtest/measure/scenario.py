"""Scenarios and definitions of servers: TOML files, and what they become for one run."""

import re
import shlex
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
SCENARIOS = HERE / "scenarios"

class Failure(Exception):
    """What makes a measurement impossible, in words for the person who asked for it."""


@dataclass
class Scenario:
    """One workload; its file explains each of the values."""

    name: str
    about: str
    kind: str
    ready: str
    rounds: int
    seconds: float
    against: list
    absent: str = ""
    data: str = ""
    flood: list = field(default_factory=list)
    pace: list = field(default_factory=list)
    warm_up_pace: list = field(default_factory=list)
    expect: str = ""
    transport: str = "udp"
    ready_seconds: float = 30.0
    warm_up_seconds: float = 1.0
    load_share: float = 0.5
    reload_every: float = 1.0
    lost_max: int = 0
    churn: int = 0
    capacity_seconds: float = 1.0
    backend_cpu: str = "client"
    overload: float = 2.0
    receive_buffers: list = field(default_factory=list)
    goodput_min: float = 0.0
    goals: dict = field(default_factory=dict)
    objective: str = ""
    expected_odd: list = field(default_factory=list)
    is_long: bool = False
    define: dict = field(default_factory=dict)
    server: dict = field(default_factory=dict)
    backend: dict = field(default_factory=dict)


def read_toml(path):
    """The content of a file."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Failure(f"{path}: {error}") from error


def tables(directory, name):
    """The content of scenario `name`, over that of its `base`, whose goals are its own."""
    path = directory / f"{name}.toml"
    if not path.exists():
        known = ", ".join(names(directory))
        raise Failure(f"no scenario {name}; there are {known}")
    own = read_toml(path)
    if "base" not in own:
        return own
    content = tables(directory, own.pop("base"))
    content.pop("goals", None)
    for key in ("define", "server", "backend"):
        content[key] = content.get(key, {}) | own.pop(key, {})
    return content | own


def load(name, directory=SCENARIOS):
    """Scenario `name`, checked."""
    content = tables(directory, name)
    try:
        scenario = Scenario(name=name, **content)
    except TypeError as error:
        raise Failure(f"scenario {name}: {error}") from error
    return scenario


def names(directory=SCENARIOS):
    """All scenarios, in the order of their files' names."""
    return sorted(path.stem for path in directory.glob("*.toml"))


@dataclass(frozen=True)
class Contender:
    """A server to be measured, as `--against` names it."""

    kind: str
    label: str
    path: str = ""
    arguments: tuple = ()


def contenders(text):
    """`KIND[:LABEL][=PATH [ARGUMENT...]]`, separated by commas."""
    found = []
    for item in text.split(","):
        name, _, command = item.strip().partition("=")
        kind, _, label = name.partition(":")
        path, *arguments = shlex.split(command) or [""]
        found.append(Contender(kind, label or kind, path, tuple(arguments)))
    labels = [contender.label for contender in found]
    if twice := {label for label in labels if labels.count(label) > 1}:
        raise Failure(f"{', '.join(sorted(twice))}: named twice; tell them apart: KIND:LABEL=PATH")
    return found


def definition(kind, own):
    """How a server of `kind` is started, where `own` are the scenario's words about it."""
    known = read_toml(HERE / "servers.toml")
    if kind not in known:
        raise Failure(f"no server {kind}; there are {', '.join(known)}")
    return known[kind] | own


def substitute(text, values):
    """`text` with every {name} replaced by its value, and those within values too."""

    def value(match):
        if match[1] not in values:
            raise Failure(f"nothing is known as {match[0]}")
        return substitute(str(values[match[1]]), values)

    return re.sub(r"\{([a-z][a-z0-9_]*)\}", value, text)


def command_line(words, values, arguments):
    """The words of a command, where the word `{args}` stands for any number of words."""
    line = []
    for word in words:
        line += arguments if word == "{args}" else [substitute(word, values)]
    return line
