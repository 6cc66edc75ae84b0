"""The arithmetic: from what was counted to the figures of a report. No I/O.

A burst is a dictionary of numbers about one server over one stretch of time; a round is a
dictionary from the names of servers to their bursts. Machines that are shared are slow together,
so a figure is a ratio within a round; of the ratios of all rounds, the median and the quartiles.
"""

import statistics

# Counters of flood that are zero when all is well.
ODD = (
    "late",
    "mismatched",
    "truncated",
    "unexpected_rcode",
    "unsent",
    "refused_by_kernel",
    "socket_errors",
)


def spread(values):
    """{median, q1, q3, n} of the numbers that are there; None without any."""
    values = [value for value in values if value is not None]
    if not values:
        return None
    if len(values) == 1:
        q1 = median = q3 = values[0]
    else:
        q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "q1": q1, "q3": q3, "n": len(values)}


def of_all(rounds, name, key):
    """The values that `key` had for `name`, over all rounds that have it."""
    bursts = (bursts.get(name, {}) for bursts in rounds)
    return [burst[key] for burst in bursts if key in burst]


def ratios(rounds, name, base, key):
    """The ratios of `name` to `base` within each round that has both, and neither is 0."""
    found = []
    for bursts in rounds:
        if name in bursts and base in bursts:
            own, other = bursts[name].get(key), bursts[base].get(key)
            if own and other:
                found.append(own / other)
    return found


def good_rate(report):
    """Answers a second, less those whose rcode was not the expected one."""
    return (report["answered"] - report["unexpected_rcode"]) / report["seconds"]


def per_answer_us(seconds, answered):
    """Microseconds an answer; None without answers."""
    return seconds * 1e6 / answered if answered else None


def counts_of(reports):
    """Sums over reports of flood: sent, answered, lost, what is odd, and rcodes as shares."""
    total = {key: sum(r[key] for r in reports) for key in ("sent", "answered", "lost")}
    total["lost_share"] = total["lost"] / total["sent"] if total["sent"] else None
    total["odd"] = {key: n for key in ODD if (n := sum(r[key] for r in reports))}
    rcodes = {}
    for report in reports:
        for rcode, count in report["rcodes"].items():
            rcodes[rcode] = rcodes.get(rcode, 0) + count
    answered = total["answered"]
    total["rcodes"] = {rcode: count / answered for rcode, count in sorted(rcodes.items())}
    return total


def judge_ratios(limits, figures):
    """[(whether it holds, a sentence)] for each {name: highest CPU ratio}."""
    verdicts = []
    for name, limit in limits.items():
        ratio = figures.get(name, {}).get("cpu_ratio")
        if ratio is None:
            verdicts.append((False, f"{name}: no ratio; at most {limit:g} was asked"))
        else:
            holds = ratio["median"] <= limit
            verdicts.append(
                (holds, f"{name}: CPU ratio {ratio['median']:.2f}, at most {limit:g} was asked")
            )
    return verdicts
