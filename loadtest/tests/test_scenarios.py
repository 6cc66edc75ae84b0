"""Scenarios, definitions of servers, command lines, data, and tables."""

import importlib.machinery
import importlib.util
import itertools
import unittest
import xml.etree.ElementTree
from pathlib import Path

from measure import callgrind, dnsperf, plot, progress, scenario, syscalls, words
from measure.kinds import KINDS
from measure.scenario import Contender, Failure

HERE = Path(__file__).resolve().parent.parent


def script(name):
    """A script without suffix, as a module."""
    loader = importlib.machinery.SourceFileLoader(name.replace("-", "_"), str(HERE / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


class Scenarios(unittest.TestCase):
    def test_all_load(self):
        self.assertIn("auth", scenario.names())
        for name in scenario.names():
            loaded = scenario.load(name)
            self.assertIn(loaded.kind, KINDS, name)
            self.assertFalse({"--window", "--rate", "--slo"} & set(loaded.flood), f"{name}: pace")
            count, seconds = KINDS[loaded.kind].steps(loaded, len(loaded.against))
            self.assertGreater(count * seconds, 0, name)
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


class Cluster(unittest.TestCase):
    def test_names_are_those_of_the_synthetic_cluster(self):
        mkdata = script("mkdata")
        self.assertEqual(mkdata.service(45), "svc-45.ns-5.svc.cluster.local")
        self.assertEqual(mkdata.reverse(mkdata.FIRST_SERVICE + 258), "2.1.128.10.in-addr.arpa")
        self.assertEqual(mkdata.reverse(mkdata.FIRST_ENDPOINT), "1.0.0.11.in-addr.arpa")


class Watching(unittest.TestCase):
    def test_the_summary_is_read(self):
        summary = "syscall           calls\n--------- ------\nrecvmmsg   12\nsendmmsg 11\n"
        summary += "---- ---\ntotal 23\n"
        counts = syscalls.parse_counts(summary)
        self.assertEqual(counts, {"recvmmsg": 12, "sendmmsg": 11})
        calls, most = syscalls.per_answer(counts, {"answered": 10})
        self.assertEqual((calls, most), (2.3, "recvmmsg 1.200, sendmmsg 1.100"))

    def test_events_that_are_not_counted_are_left_out(self):
        text = "# started\n\n12345,,instructions:u,99,100.00,,\n<not supported>,,cycles,0,,\n"
        self.assertEqual(syscalls.parse_perf(text), {"instructions:u": 12345})


class Callgrind(unittest.TestCase):
    def test_all_parts_of_a_dump_are_counted(self):
        part = "desc: x\nevents: Ir Dr Dw I1mr D1mr D1mw ILmr DLmr DLmw\nfn=a\n1 2\n"
        text = part + "totals: 100 1 1 1 6 4 1 2 1\n" + part + "totals: 50 1 1 1 0 0 1 0 0\n"
        counted = callgrind.parse(text)
        found = callgrind.per_answer(counted, 10)
        self.assertEqual(found, {"instructions": 15.0, "D1 misses": 1.0, "LL misses": 0.3})


class Variant(unittest.TestCase):
    def test_one_constant_is_changed(self):
        variant = script("variant")
        limits = (HERE.parent / "src" / "limits.rs").read_text(encoding="utf-8")
        new = variant.changed(limits, "BATCH_DATAGRAMS", "16")
        differ = [(a, b) for a, b in zip(limits.splitlines(), new.splitlines()) if a != b]
        self.assertEqual([b for _, b in differ], ["pub const BATCH_DATAGRAMS: usize = 16;"])
        with self.assertRaisesRegex(variant.Failure, "no constant BATCH"):
            variant.changed(limits, "BATCH", "16")


class Yardstick(unittest.TestCase):
    def test_reflectors_differ_under_one_generator_and_generators_at_one_reflector(self):
        yardstick = script("yardstick")
        cost = {"ours": 2.0, "theirs": 4.0}
        speed = {"ours": 90.0, "theirs": 100.0}
        bursts = {
            (generator, reflector): {"cpu_us": cost[reflector], "qps": speed[generator]}
            for generator in yardstick.BOTH
            for reflector in yardstick.BOTH
        }
        found = yardstick.ratios("udp", [bursts, bursts])
        self.assertEqual([ratio["median"] for _, ratio, _ in found], [0.5, 0.5, 0.9, 0.9])


class Dnsperf(unittest.TestCase):
    def test_its_last_lines_are_read(self):
        text = "  Queries sent:  1000\n  Queries lost: 10 (1.00%)\n  Queries per second:   990.5\n"
        self.assertIsNone(dnsperf.parse(text))
        said = dnsperf.parse(text + "  Average Latency (s):  0.000123 (min 0.1, max 0.2)\n")
        self.assertEqual((said["qps"], said["lost_share"]), (990.5, 0.01))
        self.assertAlmostEqual(said["mean_us"], 123)

    def test_options_are_found_among_words(self):
        found = dnsperf.options_of(["--tcp", "--queries", "a", "--miss-share", "0.2"])
        self.assertEqual(found, {"--tcp": "", "--queries": "a", "--miss-share": "0.2"})


class Plots(unittest.TestCase):
    SPREAD = {"median": 2.0, "q1": 1.5, "q3": 2.5, "n": 7}

    def test_pictures_are_well_formed_and_name_what_they_show(self):
        bars = plot.bars("a < b", "µs", [("knot", [self.SPREAD, None])], ("user", "system"))
        lines = plot.lines("t", "µs", ["p50", "p99"], [("knot", [12.0, 4000.0]), ("x", [None, 1.0])])
        for picture in (bars, lines):
            xml.etree.ElementTree.fromstring(picture)
            self.assertIn(">knot<", picture)
        self.assertIn("a &lt; b", bars)

    def test_nothing_is_no_picture(self):
        self.assertIsNone(plot.bars("t", "", [("knot", [None])]))
        self.assertIsNone(plot.lines("t", "", ["p50"], [("knot", [None])]))

    def test_marks_are_round_and_reach_the_highest(self):
        for highest in (0.013, 1.0, 7.3, 99, 421_000):
            marks = plot.ticks(highest)
            self.assertGreaterEqual(marks[-1] * 1.000001, highest)
            self.assertLess(len(marks), 9)


class Tables(unittest.TestCase):
    def test_columns_are_aligned(self):
        lines = words.markdown(["server", "x", "notes"], [["a", "1.00", "b"]])
        self.assertEqual(
            lines,
            ["| server |    x | notes |", "| ------ | ---: | ----- |", "| a      | 1.00 | b     |"],
        )

    def test_what_is_not_there_is_a_dash(self):
        self.assertEqual((words.number(None, ".2f"), words.quartiles(None, ".2f")), ("–", "–"))

    def test_time_left_follows_the_pace(self):
        bar = progress.Progress({"auth": 99.0, "tcp": 30.0})
        bar.begin("auth", 10, 1.0)
        self.assertEqual(bar.seconds_left(0.0), 40.0)
        bar.done = 4
        self.assertEqual(bar.seconds_left(8.0), 42.0)


if __name__ == "__main__":
    unittest.main()
