"""More queries than a server can answer: what still gets answered in time, and when, by the size
of the receive buffers that the queries wait in.

Goodput is what is answered as it should be, in time; a refusal (SERVFAIL, say) is told by itself. The
maximum that it is a share of is the server's goodput when it gets only as much as it can take.
"""

from .. import plot, words
from ..arithmetic import counts_of, good_rate, of_all, spread


REFUSAL = "SERVFAIL"


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
        good = good_rate(burst["flood"])
        found[str(size)] = burst | {"rate": rate, "good": good, "goodput": good / capacity}
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
            keys = ("rate", "good", "goodput", "cpu_us", "p50_us", "p99_us", "max_us")
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
    heads = ["server", "receive buffers", "maximum q/s", "offered q/s", "answered q/s"]
    heads += ["of its maximum %", "quartiles", "SERVFAIL %", "no answer %", "p50 ms", "quartiles"]
    heads += ["p99 ms", "quartiles", "other answers"]
    expected = [*result["scenario"]["expected_odd"], "late", "unexpected_rcode"]
    rows = []
    for name, sizes in result["figures"].items():
        for size, row in sizes.items():
            counts = row["counts"]
            share = words.scaled(row["goodput"], 100)
            cells = [name, kib(size), f"{result['capacity_qps'].get(name, 0):.0f}"]
            cells += [words.number(row[key], ".0f") for key in ("rate", "good")]
            cells += [words.number(share, ".0f"), words.quartiles(share, ".0f")]
            cells += [f"{refused(counts):.1f}", words.loss(counts)]
            for key in ("p50_us", "p99_us"):
                time = words.scaled(row[key], 1e-3)
                cells += [words.number(time, ".1f"), words.quartiles(time, ".1f")]
            others = {r: part for r, part in counts["rcodes"].items() if r != REFUSAL}
            rows.append(cells + [words.answers(counts | {"rcodes": others}, expected)])
    return [(heads, rows)]


def refused(counts):
    """The share of what was sent, in percent, that got SERVFAIL."""
    answered = counts["rcodes"].get(REFUSAL, 0.0) * counts["answered"]
    return 100 * answered / counts["sent"] if counts["sent"] else 0.0


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

    title = f"{name}: answered in time, as a share of the maximum"
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
