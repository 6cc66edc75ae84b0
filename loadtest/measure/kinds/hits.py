"""What caches of the same size hold of the same queries: hits, as the servers count them."""

from .. import plot, words
from ..arithmetic import counts_of, of_all, spread

HITS, MISSES = "coredns_cache_hits_total", "coredns_cache_misses_total"


def prepare(bench, _progress):
    """The warm-up has filled the caches; who does not say how often its own missed is left out."""
    for server in bench.servers[:]:
        if bench.metric(server, MISSES) is None:
            server.stop()
            bench.servers.remove(server)
            bench.leave_out(server.label, f"it has no {MISSES}")


def counted(bench, server):
    """(hits, misses) so far. A series that was never counted may not be there."""
    return tuple(bench.metric(server, name) or 0 for name in (HITS, MISSES))


def visit(bench, server):
    """One burst, and what was counted of it."""
    before = counted(bench, server)
    found = bench.measured(server, bench.scenario.seconds)
    hits, misses = (now - then for now, then in zip(counted(bench, server), before))
    entries = bench.metric(server, "coredns_cache_entries", 'type="success"')
    return found | {"hit_share": hits / (hits + misses), "entries": entries}


def steps(scenario, servers):
    """Every server in every round."""
    return scenario.rounds * servers, scenario.seconds + 0.3


def figures(rounds, names, _base):
    """Figures of bursts, by server."""
    found = {}
    for name in names:
        keys = ("hit_share", "entries", "cpu_us", "rss_mb")
        found[name] = {key: spread(of_all(rounds, name, key)) for key in keys}
        found[name]["counts"] = counts_of(of_all(rounds, name, "flood"))
    return found


def tables(result):
    """One row a server."""
    heads = ["server", "hits %", "quartiles", "entries", "µs/query", "RSS MB", "lost %", "answers"]
    rows = []
    for name, row in result["figures"].items():
        share = words.scaled(row["hit_share"], 100)
        cells = [name, words.number(share, ".2f"), words.quartiles(share, ".2f")]
        cells += [words.number(row["entries"], ".0f"), words.number(row["cpu_us"], ".2f")]
        cells += [words.number(row["rss_mb"], ".1f"), words.loss(row["counts"])]
        rows.append(cells + [words.answers(row["counts"], result["scenario"]["expected_odd"])])
    return [(heads, rows)]


def plots(result):
    """Hits."""
    rows = [
        (name, [words.scaled(row["hit_share"], 100)]) for name, row in result["figures"].items()
    ]
    return {"hits": plot.bars(f"{result['scenario']['name']}: hits", "%", rows)}


def verdicts(_scenario, ours, found):
    """Ours hits at least as often as any other."""
    shares = {name: row["hit_share"]["median"] for name, row in found.items() if row["hit_share"]}
    others = [share for name, share in shares.items() if name not in ours]
    said = []
    for name in ours:
        if name in shares and others:
            sentence = f"{name}: {shares[name]:.2%} hits; the best other {max(others):.2%}"
            said.append((shares[name] >= max(others), sentence))
    return said
