"""The arithmetic of reports, on numbers that can be checked by hand."""

import unittest

from measure import arithmetic
from measure.kinds import burst, disturbed, overload, slo, workers
from measure.scenario import Scenario


def flood(answered=100, sent=100, p50=None, **more):
    """A report of flood with little in it."""
    report = {"answered": answered, "sent": sent, "lost": sent - answered, "rcodes": {}}
    report |= {key: 0 for key in arithmetic.ODD}
    report["client"] = {"bound": False, "busy": 0.5}
    report["latency_us"] = None
    if p50 is not None:
        report["latency_us"] = {key: 10 * p50 for key in burst.LATENCIES} | {"p50": p50}
    return report | more


def visit(cpu_us, p50_us=None, report=None):
    """A burst with little in it."""
    found = {key: 1.0 for key in burst.MEASURES}
    found |= {f"{key}_us": None for key in burst.LATENCIES}
    found |= {"cpu_us": cpu_us, "p50_us": p50_us}
    return found | {"flood": report or flood()}


RELOAD = Scenario("x", "", "reload", "", 1, 1.0, [], lost_max=0)


class Spread(unittest.TestCase):
    def test_median_and_quartiles_lie_between_values(self):
        self.assertEqual(
            arithmetic.spread([4, 1, 3, 2]), {"median": 2.5, "q1": 1.75, "q3": 3.25, "n": 4}
        )

    def test_one_value_is_all_of_them(self):
        self.assertEqual(arithmetic.spread([7, None]), {"median": 7, "q1": 7, "q3": 7, "n": 1})

    def test_nothing_has_no_spread(self):
        self.assertIsNone(arithmetic.spread([]))
        self.assertIsNone(arithmetic.spread([None]))


class Ratios(unittest.TestCase):
    def test_a_ratio_is_taken_within_its_round(self):
        # The machine is three times slower in the second round; the ratio is not.
        rounds = [
            {"reflect": visit(2.0), "knot": visit(3.0)},
            {"reflect": visit(6.0), "knot": visit(9.0)},
        ]
        self.assertEqual(arithmetic.ratios(rounds, "knot", "reflect", "cpu_us"), [1.5, 1.5])

    def test_rounds_without_either_are_left_out(self):
        rounds = [
            {"reflect": visit(2.0), "knot": visit(4.0)},
            {"reflect": visit(2.0)},
            {"knot": visit(2.0)},
            {"reflect": visit(None), "knot": visit(2.0)},
            {"reflect": visit(0.0), "knot": visit(2.0)},
        ]
        self.assertEqual(arithmetic.ratios(rounds, "knot", "reflect", "cpu_us"), [2.0])

    def test_per_answer(self):
        self.assertEqual(arithmetic.per_answer_us(0.5, 100_000), 5.0)
        self.assertIsNone(arithmetic.per_answer_us(0.5, 0))


class Counts(unittest.TestCase):
    def test_sums_shares_and_what_is_odd(self):
        reports = [
            flood(answered=90, sent=100, rcodes={"NOERROR": 90}),
            flood(answered=100, sent=100, late=3, rcodes={"NOERROR": 60, "NXDOMAIN": 40}),
        ]
        counts = arithmetic.counts_of(reports)
        self.assertEqual((counts["lost"], counts["lost_share"]), (10, 0.05))
        self.assertEqual(counts["odd"], {"late": 3})
        self.assertAlmostEqual(counts["rcodes"]["NXDOMAIN"], 40 / 190)

    def test_nothing(self):
        self.assertIsNone(arithmetic.counts_of([])["lost_share"])


class Bursts(unittest.TestCase):
    def test_an_interrupted_round_counts_where_it_is_complete(self):
        rounds = [
            {"reflect": visit(2.0, 10.0), "knot": visit(3.0, 20.0)},
            {"knot": visit(8.0, 30.0)},
        ]
        found = burst.figures(rounds, ["reflect", "knot"], "reflect")
        self.assertEqual(found["knot"]["cpu_ratio"]["n"], 1)
        self.assertEqual(found["knot"]["cpu_ratio"]["median"], 1.5)
        self.assertEqual(found["knot"]["p50_ratio"]["median"], 2.0)
        self.assertEqual(found["knot"]["cpu_us"]["n"], 2)
        self.assertEqual(found["reflect"]["cpu_ratio"]["q3"], 1.0)


    def test_goals_are_told_of_ours_beside_the_base_and_beside_peers(self):
        rounds = [{"reflect": visit(2.0), "corelane": visit(2.2), "knot": visit(2.0)}]
        found = burst.figures(rounds, ["reflect", "corelane", "knot"], "reflect")
        wanted = {"cpu_ratio": 1.12, "knot": 0.85, "coredns": 0.2, "p50_ratio": 1.15}
        chosen = Scenario("x", "", "burst", "", 1, 1.0, [], goals=wanted)
        said = burst.goals(chosen, ["corelane"], rounds, found)
        self.assertEqual([met for met, _ in said], [True, False], "of what was not measured, none")
        self.assertIn("÷ knot 1.10", said[1][1])


class Workers(unittest.TestCase):
    def test_all_workers_are_held_against_one(self):
        rounds = [{"corelane": {"1": visit(2.0), "2": visit(2.1)}}] * 3
        found = workers.figures(rounds, ["corelane"], None)
        self.assertAlmostEqual(found["corelane"]["cpu_ratio"]["median"], 1.05)
        machine = {"server_cpus": [0, 1], "client_cpus": [1]}
        said = list(workers.remarks({"figures": found, "machine": machine}))
        self.assertIn("costs 2 workers 1.05 times what it costs one, an upper bound", said[0])
        alone = {"server_cpus": [0, 1], "client_cpus": [2]}
        said = list(workers.remarks({"figures": found, "machine": alone}))
        self.assertNotIn("upper bound", said[0])


class Reloads(unittest.TestCase):
    def rounds(self, lost=0, done=2):
        report = flood(answered=100 - lost, p50=12.0)
        pair = {"rate": 50, "quiet": flood(p50=10.0), "disturbed": report}
        return [{"corelane": pair | {"reloads_asked": 2, "reloads_done": done}}] * 3

    def test_windows_are_compared_in_pairs(self):
        row = disturbed.figures(self.rounds(), ["corelane"], None)["corelane"]
        self.assertAlmostEqual(row["p50_ratio"]["median"], 1.2)
        self.assertEqual(row["disturbed_p99_us"]["median"], 120.0)
        self.assertEqual((row["reloads_asked"], row["reloads_done"]), (6, 6))

    def verdict(self, **changes):
        found = disturbed.figures(self.rounds(**changes), ["corelane"], None)
        return disturbed.verdicts(RELOAD, ["corelane"], found)[0][0]

    def test_a_lost_answer_is_one_too_many(self):
        self.assertTrue(self.verdict())
        self.assertFalse(self.verdict(lost=1))

    def test_a_server_that_does_not_reload_proves_nothing(self):
        self.assertFalse(self.verdict(done=0))
        self.assertFalse(disturbed.verdicts(RELOAD, ["corelane"], {})[0][0])


class Limits(unittest.TestCase):
    def test_a_ratio_is_held_against_its_limit(self):
        rounds = [{"reflect": visit(2.0), "corelane": visit(2.4)}]
        found = burst.figures(rounds, ["reflect", "corelane"], "reflect")
        self.assertTrue(arithmetic.judge_ratios({"corelane": 1.2}, found)[0][0])
        self.assertFalse(arithmetic.judge_ratios({"corelane": 1.19}, found)[0][0])
        self.assertFalse(arithmetic.judge_ratios({"absent": 2.0}, found)[0][0])


class Overload(unittest.TestCase):
    def test_refusals_are_no_goodput(self):
        report = flood(answered=90, unexpected_rcode=40, seconds=2.0)
        self.assertEqual(arithmetic.good_rate(report), 25.0)
        counts = {"rcodes": {"NOERROR": 0.5, "SERVFAIL": 0.5}, "answered": 80, "sent": 100}
        self.assertEqual(overload.refused(counts), 40.0)

    def test_goodput_is_held_against_the_least_that_was_asked(self):
        burst_of = {"rate": 200, "good": 95.0, "goodput": 0.95, "flood": flood(answered=95)}
        burst_of |= {"cpu_us": 1.0, "p50_us": 1.0, "p99_us": 2.0, "max_us": 3.0}
        rounds = [{"corelane": {"1024": burst_of, "2048": burst_of | {"goodput": 0.8}}}]
        found = overload.figures(rounds, ["corelane"], None)
        self.assertEqual(found["corelane"]["1024"]["goodput"]["median"], 0.95)

        def verdict(least):
            chosen = Scenario("x", "", "overload", "", 1, 1.0, [], goodput_min=least)
            return overload.verdicts(chosen, ["corelane"], found)[0][0]

        self.assertTrue(verdict(0.8))
        self.assertFalse(verdict(0.81))
        self.assertEqual((overload.kib("212992"), overload.kib(4 << 20)), ("208 KiB", "4 MiB"))


class Objectives(unittest.TestCase):
    def test_searches_without_a_rate_are_told(self):
        one = {"rate": 1000.0, "client_bound": False, "out_of_time": True}
        rounds = [{"knot": one}, {"knot": one | {"rate": None}}]
        found = slo.figures(rounds, ["knot"], None)["knot"]
        self.assertEqual((found["rate"]["n"], found["missed"], found["out_of_time"]), (1, 1, 2))


if __name__ == "__main__":
    unittest.main()
