"""What is done with the servers of a scenario: one module for each value of `kind`.

A kind has, in this order:

    prepare(bench, progress)        before the first round (may do nothing)
    visit(bench, server)            what is measured of one server in one round
    steps(scenario, servers)        (visits in all, about how many seconds one takes)
    figures(rounds, names, base)    from the rounds to the numbers of the report, by server
    tables(result)                  [(heads, rows)] in Markdown
    plots(result)                   {name: SVG text, or None where there is nothing to see}
    verdicts(scenario, ours, found) [(whether it holds, a sentence)]: the scenario's own limits

A kind whose scenarios have goals has `goals(scenario, ours, rounds, found)` besides, which are told in the
same way and change no exit status; one that has something to add in words has `remarks(result)`.
"""

from . import burst, cluster, disturbed, hits, idle, overload, slo, workers

KINDS = {
    "burst": burst,
    "reload": disturbed,
    "churn": disturbed,
    "hits": hits,
    "idle": idle,
    "cluster": cluster,
    "overload": overload,
    "slo": slo,
    "workers": workers,
}
