"""The arithmetic of reports, on numbers that can be checked by hand."""

import unittest

from measure import figures


def flood(answered=100, sent=100, p50=None, **more):
    """A report of flood with little in it."""
    report = {"answered": answered, "sent": sent, "lost": sent - answered, "rcodes": {}}
    report |= {key: 0 for key in figures.ODD}
    report["client"] = {"bound": False}
    report["latency_us"] = None if p50 is None else {"p50": p50, "p99": 10 * p50}
    return report | more


def burst(cpu_us, p50_us=None, report=None):
    """A burst with little in it."""
    found = {key: 1.0 for key in ("user_us", "system_us", "qps", "rss_mb")}
    found |= {"cpu_us": cpu_us, "p50_us": p50_us, "p99_us": None}
    return found | {"flood": report or flood()}


class Spread(unittest.TestCase):
    def test_median_and_quartiles_lie_between_values(self):
        self.assertEqual(
            figures.spread([4, 1, 3, 2]), {"median": 2.5, "q1": 1.75, "q3": 3.25, "n": 4}
        )

    def test_one_value_is_all_of_them(self):
        self.assertEqual(figures.spread([7, None]), {"median": 7, "q1": 7, "q3": 7, "n": 1})

    def test_nothing_has_no_spread(self):
        self.assertIsNone(figures.spread([]))
        self.assertIsNone(figures.spread([None]))


class Ratios(unittest.TestCase):
    def test_a_ratio_is_taken_within_its_round(self):
        # The machine is three times slower in the second round; the ratio is not.
        rounds = [
            {"reflect": burst(2.0), "knot": burst(3.0)},
            {"reflect": burst(6.0), "knot": burst(9.0)},
        ]
        self.assertEqual(figures.ratios(rounds, "knot", "reflect", "cpu_us"), [1.5, 1.5])

    def test_rounds_without_either_are_left_out(self):
        rounds = [
            {"reflect": burst(2.0), "knot": burst(4.0)},
            {"reflect": burst(2.0)},
            {"knot": burst(2.0)},
            {"reflect": burst(None), "knot": burst(2.0)},
            {"reflect": burst(0.0), "knot": burst(2.0)},
        ]
        self.assertEqual(figures.ratios(rounds, "knot", "reflect", "cpu_us"), [2.0])

    def test_per_answer(self):
        self.assertEqual(figures.per_answer_us(0.5, 100_000), 5.0)
        self.assertIsNone(figures.per_answer_us(0.5, 0))


class Counts(unittest.TestCase):
    def test_sums_shares_and_what_is_odd(self):
        reports = [
            flood(answered=90, sent=100, rcodes={"NOERROR": 90}),
            flood(answered=100, sent=100, late=3, rcodes={"NOERROR": 60, "NXDOMAIN": 40}),
        ]
        counts = figures.counts_of(reports)
        self.assertEqual((counts["lost"], counts["lost_share"]), (10, 0.05))
        self.assertEqual(counts["odd"], {"late": 3})
        self.assertAlmostEqual(counts["rcodes"]["NXDOMAIN"], 40 / 190)

    def test_nothing(self):
        self.assertIsNone(figures.counts_of([])["lost_share"])


class Bursts(unittest.TestCase):
    def test_an_interrupted_round_counts_where_it_is_complete(self):
        rounds = [
            {"reflect": burst(2.0, 10.0), "knot": burst(3.0, 20.0)},
            {"knot": burst(8.0, 30.0)},
        ]
        found = figures.burst_figures(rounds, ["reflect", "knot"], "reflect")
        self.assertEqual(found["knot"]["cpu_ratio"]["n"], 1)
        self.assertEqual(found["knot"]["cpu_ratio"]["median"], 1.5)
        self.assertEqual(found["knot"]["p50_ratio"]["median"], 2.0)
        self.assertEqual(found["knot"]["cpu_us"]["n"], 2)
        self.assertEqual(found["reflect"]["cpu_ratio"]["q3"], 1.0)


class Reloads(unittest.TestCase):
    def rounds(self, lost=0, done=2):
        report = flood(answered=100 - lost, p50=12.0)
        pair = {"rate": 50, "quiet": flood(p50=10.0), "reload": report}
        return [{"corelane": pair | {"reloads_asked": 2, "reloads_done": done}}] * 3

    def test_windows_are_compared_in_pairs(self):
        row = figures.reload_figures(self.rounds(), ["corelane"])["corelane"]
        self.assertAlmostEqual(row["p50_ratio"]["median"], 1.2)
        self.assertEqual(row["reload_p99_us"]["median"], 120.0)
        self.assertEqual((row["reloads_asked"], row["reloads_done"]), (6, 6))

    def verdict(self, **changes):
        found = figures.reload_figures(self.rounds(**changes), ["corelane"])
        return figures.judge_losses(["corelane"], 0, found)[0][0]

    def test_a_lost_answer_is_one_too_many(self):
        self.assertTrue(self.verdict())
        self.assertFalse(self.verdict(lost=1))

    def test_a_server_that_does_not_reload_proves_nothing(self):
        self.assertFalse(self.verdict(done=0))
        self.assertFalse(figures.judge_losses(["corelane"], 0, {})[0][0])


class Limits(unittest.TestCase):
    def test_a_ratio_is_held_against_its_limit(self):
        rounds = [{"reflect": burst(2.0), "corelane": burst(2.4)}]
        found = figures.burst_figures(rounds, ["reflect", "corelane"], "reflect")
        self.assertTrue(figures.judge_ratios({"corelane": 1.2}, found)[0][0])
        self.assertFalse(figures.judge_ratios({"corelane": 1.19}, found)[0][0])
        self.assertFalse(figures.judge_ratios({"absent": 2.0}, found)[0][0])


if __name__ == "__main__":
    unittest.main()
