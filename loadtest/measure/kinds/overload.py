"""More queries than a server can answer: what still gets answered in time, and when, by the size
of the receive buffers that the queries wait in."""

from .. import plot, words
from ..arithmetic import counts_of, of_all, spread


def prepare(bench, progress):
    """Finds out what each server answers when saturated."""
    bench.find_capacity(progress)


def visit(bench, server):
    """One burst for each size of receive buffers, at a multiple of the server's capacity."""
    scenario = bench.scenario
    capacity = bench.capacity[server.label]
    rate = round(capacity * scenario.overload)
    found = {}
    for size in scenario.receive_buffers:
        server.set_receive_buffers(size)
        burst = bench.measured(server, scenario.seconds, ("--rate", str(rate)))
        found[str(size)] = burst | {"rate": rate, "goodput": burst["qps"] / capacity}
    return found


def steps(scenario, servers):
    """A step to find each server's capacity, and one for all sizes of buffers."""
    seconds = len(scenario.receive_buffers) * (scenario.seconds + 0.3)
    return (scenario.rounds + 1) * servers, seconds


def figures(rounds, names, _base):
    """{server: {octets: figures}}."""
    found = {}
    for name in names:
        visits = [bursts[name] for bursts in rounds if name in bursts]
        sizes = list(visits[0]) if visits else []
        found[name] = {}
        for size in sizes:
            of_size = [{name: one[size]} for one in visits if size in one]
            keys = ("rate", "qps", "goodput", "cpu_us", "p50_us", "p99_us", "max_us")
            row = {key: spread(of_all(of_size, name, key)) for key in keys}
            row["counts"] = counts_of(of_all(of_size, name, "flood"))
            found[name][size] = row
    return found


def kib(size):
    """Octets as people write them."""
    size = int(size)
    return f"{size >> 20} MiB" if size % (1 << 20) == 0 else f"{size >> 10} KiB"


def tables(result):
    """One row a server and size."""
    heads = ["server", "receive buffers", "offered q/s", "answered q/s", "of its maximum"]
    heads += ["quartiles", "p50 µs", "p99 µs", "quartiles", "max µs", "lost %", "answers"]
    rows = []
    for name, sizes in result["figures"].items():
        for size, row in sizes.items():
            cells = [name, kib(size)]
            cells += [words.number(row[key], ".0f") for key in ("rate", "qps")]
            cells += [words.number(row["goodput"], ".2f"), words.quartiles(row["goodput"], ".2f")]
            cells += [words.number(row[key], ".0f") for key in ("p50_us", "p99_us")]
            cells += [words.quartiles(row["p99_us"], ".0f"), words.number(row["max_us"], ".0f")]
            expected = result["scenario"]["expected_odd"] + ["late"]
            rows.append(
                cells + [words.loss(row["counts"]), words.answers(row["counts"], expected)]
            )
    return [(heads, rows)]


def plots(result):
    """Goodput and p50 by buffer."""
    name, found = result["scenario"]["name"], result["figures"]
    sizes = [str(size) for size in result["scenario"]["receive_buffers"]]
    keys = tuple(kib(size) for size in sizes)

    def rows(key):
        return [
            (label, [by_size.get(size, {}).get(key) for size in sizes])
            for label, by_size in found.items()
        ]

    title = f"{name}: answered, as a share of the maximum"
    return {
        "goodput": plot.bars(title, "", rows("goodput"), keys),
        "p50": plot.bars(f"{name}: p50 of what is answered", "µs", rows("p50_us"), keys),
    }


def verdicts(scenario, ours, found):
    """The lowest share of its maximum that ours may fall to."""
    said = []
    for name in ours:
        shares = [row["goodput"]["median"] for row in found.get(name, {}).values()]
        lowest = min(shares, default=0.0)
        sentence = f"{name}: answers {lowest:.2f} of its maximum (at least {scenario.goodput_min})"
        said.append((lowest >= scenario.goodput_min, sentence))
    return said
