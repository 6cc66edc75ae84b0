"""Scenarios, definitions of servers, command lines, data, and tables."""

import importlib.machinery
import importlib.util
import itertools
import unittest
from pathlib import Path

from measure import report, scenario
from measure.scenario import Contender, Failure

HERE = Path(__file__).resolve().parent.parent


def script(name):
    """A script without suffix, as a module."""
    loader = importlib.machinery.SourceFileLoader(name.replace("-", "_"), str(HERE / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


class Scenarios(unittest.TestCase):
    def test_all_are_in_the_list_and_load(self):
        files = {path.stem for path in scenario.SCENARIOS.glob("*.toml")}
        self.assertEqual(files, set(scenario.ORDER))
        for name in scenario.ORDER:
            loaded = scenario.load(name)
            for kind in loaded.against:
                scenario.definition(kind, loaded.server.get(kind, {}))
            for kind, own in loaded.backend.items():
                scenario.definition(kind, own)

    def test_a_scenario_overrides_its_base(self):
        tcp, auth = scenario.load("tcp"), scenario.load("auth")
        self.assertEqual((tcp.transport, tcp.define), ("tcp", auth.define))
        self.assertIn("--tcp", scenario.definition("reflect", tcp.server["reflect"])["command"])
        self.assertNotIn("--tcp", scenario.definition("reflect", {})["command"])
        self.assertEqual(scenario.load("auth-1m").define["corefile"], auth.define["corefile"])

    def test_mistakes_are_told(self):
        with self.assertRaisesRegex(Failure, "no scenario nope; there are auth, "):
            scenario.load("nope")
        with self.assertRaisesRegex(Failure, "no server nope"):
            scenario.definition("nope", {})


class Contenders(unittest.TestCase):
    def test_kinds_labels_paths_and_arguments(self):
        found = scenario.contenders("knot,corelane=/a/b,corelane:uring=/a/b --io-engine uring")
        self.assertEqual(
            found,
            [
                Contender("knot", "knot"),
                Contender("corelane", "corelane", "/a/b"),
                Contender("corelane", "uring", "/a/b", ("--io-engine", "uring")),
            ],
        )

    def test_two_of_the_same_name_need_labels(self):
        with self.assertRaisesRegex(Failure, "corelane: named twice"):
            scenario.contenders("corelane=/a,corelane=/b")


class Substitution(unittest.TestCase):
    def test_values_may_hold_names(self):
        values = {"zone": "{data}/x.zone", "data": "/d"}
        self.assertEqual(scenario.substitute("file {zone} { }", values), "file /d/x.zone { }")

    def test_unknown_names_are_told(self):
        with self.assertRaisesRegex(Failure, "nothing is known as {nope}"):
            scenario.substitute("{nope}", {})

    def test_arguments_are_words_of_their_own(self):
        words = scenario.command_line(["{path}", "{args}", "x"], {"path": "p"}, ["-a", "b c"])
        self.assertEqual(words, ["p", "-a", "b c", "x"])


class Data(unittest.TestCase):
    def setUp(self):
        self.mkdata = script("mkdata")

    def test_the_zones_have_their_size(self):
        names = {owner for owner, _, _ in self.mkdata.first_names(10_000)}
        self.assertEqual(len(names), 10_000)
        of_the_head = self.mkdata.HEAD.count("\n") - 2
        count = sum(1 for _ in self.mkdata.first_records(1_000_000))
        self.assertEqual(count + of_the_head, 1_000_000)

    def test_owners_of_aliases_have_nothing_else(self):
        records = list(itertools.islice(self.mkdata.records(), 1000))
        aliases = {owner for owner, kind, _ in records if kind == "CNAME"}
        others = {owner for owner, kind, _ in records if kind != "CNAME"}
        self.assertTrue(aliases)
        self.assertFalse(aliases & others)
        self.assertTrue(all(data in others for _, kind, data in records if kind == "CNAME"))


class StraceCounts(unittest.TestCase):
    def test_the_summary_is_read(self):
        summary = "syscall           calls\n--------- ------\nrecvmmsg   12\nsendmmsg 11\n"
        parse = script("strace-count").parse_counts
        self.assertEqual(parse(summary + "---- ---\ntotal 23\n"), {"recvmmsg": 12, "sendmmsg": 11})


class Tables(unittest.TestCase):
    def test_columns_are_aligned(self):
        lines = report.markdown(["server", "x", "notes"], [["a", "1.00", "b"]])
        self.assertEqual(
            lines,
            ["| server |    x | notes |", "| ------ | ---: | ----- |", "| a      | 1.00 | b     |"],
        )

    def test_what_is_not_there_is_a_dash(self):
        self.assertEqual((report.number(None, ".2f"), report.quartiles(None, ".2f")), ("–", "–"))

    def test_time_left_follows_the_pace(self):
        progress = report.Progress("auth", 10, 1.0)
        self.assertEqual(progress.seconds_left(0.0), 10.0)
        progress.done = 4
        self.assertEqual(progress.seconds_left(8.0), 12.0)


if __name__ == "__main__":
    unittest.main()
