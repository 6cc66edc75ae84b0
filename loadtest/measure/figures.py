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
    return [burst[key] for burst in (r.get(name) for r in rounds) if burst is not None]


def ratios(rounds, name, base, key):
    """The ratios of `name` to `base` within each round that has both, and neither is 0."""
    found = []
    for bursts in rounds:
        if name in bursts and base in bursts:
            own, other = bursts[name].get(key), bursts[base].get(key)
            if own and other:
                found.append(own / other)
    return found


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


def burst_figures(rounds, names, base):
    """Figures of saturated and of fixed-rate bursts, by server."""
    figures = {}
    for name in names:
        reports = of_all(rounds, name, "flood")
        row = {
            "cpu_ratio": spread(ratios(rounds, name, base, "cpu_us")),
            "p50_ratio": spread(ratios(rounds, name, base, "p50_us")),
        }
        for key in ("cpu_us", "user_us", "system_us", "qps", "p50_us", "p99_us", "rss_mb"):
            row[key] = spread(of_all(rounds, name, key))
        row["client_bound"] = sum(report["client"]["bound"] for report in reports)
        row["counts"] = counts_of(reports)
        figures[name] = row
    return figures


def reload_figures(rounds, names):
    """Figures of windows with reloads (`reload`) beside windows without (`quiet`)."""
    figures = {}
    for name in names:
        pairs = [r[name] for r in rounds if name in r]
        windows = {kind: [pair[kind] for pair in pairs] for kind in ("quiet", "reload")}
        row = {
            "rate": pairs[0]["rate"] if pairs else None,
            "reloads_asked": sum(pair["reloads_asked"] for pair in pairs),
            "reloads_done": sum(pair["reloads_done"] for pair in pairs),
            "p50_ratio": spread(
                [
                    reload["latency_us"]["p50"] / quiet["latency_us"]["p50"]
                    for reload, quiet in zip(windows["reload"], windows["quiet"])
                    if quiet["latency_us"]["p50"]
                ]
            ),
        }
        for kind, reports in windows.items():
            row[f"{kind}_p50_us"] = spread([r["latency_us"]["p50"] for r in reports])
            row[f"{kind}_p99_us"] = spread([r["latency_us"]["p99"] for r in reports])
            row[f"{kind}_counts"] = counts_of(reports)
        figures[name] = row
    return figures


def idle_figures(rounds, names):
    """Figures of stretches without queries."""
    keys = ("rss_mb", "context_switches", "cpu_ms", "threads")
    return {
        name: {key: spread(of_all(rounds, name, key)) for key in keys} for name in names
    }


def cluster_figures(rounds, names):
    """Figures of a server from its start through a re-list and churn."""
    keys = ("ready_seconds", "steady_mb", "start_peak_mb", "relist_peak_mb", "after_mb")
    keys += ("relist_ratio", "churn_cpu_share", "served_p99_ms")
    return {
        name: {key: spread(of_all(rounds, name, key)) for key in keys} for name in names
    }


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


def judge_losses(names, lost_max, figures):
    """[(whether it holds, a sentence)]: what each server may lose while it reloads."""
    verdicts = []
    for name in names:
        row = figures.get(name)
        if row is None or not row["reload_counts"]["answered"]:
            verdicts.append((False, f"{name}: no answers"))
            continue
        lost = row["reload_counts"]["lost"]
        done, asked = row["reloads_done"], row["reloads_asked"]
        holds = lost <= lost_max and 0 < done <= asked
        verdicts.append(
            (holds, f"{name}: {lost} lost (at most {lost_max}) over {done} of {asked} reloads")
        )
    return verdicts
