"""What the machine did in a window, and to what a loss is put down."""

import unittest

from measure import machine
from measure.kinds import burst, disturbed

STAT = """\
cpu  3827059 619849 1046076 3893949 16372 0 157604 3555 0 0
cpu0 1866410 292878 445546 2088172 4845 0 74579 1949 0 0
cpu1 1960648 326970 600530 1805776 11527 0 83025 1605 0 0
intr 47185202 0
"""
UDP = """\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  101: 0100007F:7B0C 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2 0 30
  102: 0100007F:7B0C 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 2 2 0 4
  103: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 3 2 0 9
"""


def thread(name, ran_ms, waited_ms, switched_out=0):
    """What `Server.threads` tells of a thread."""
    ran_ns, waited_ns = round(ran_ms * 1e6), round(waited_ms * 1e6)
    return {"name": name, "ran_ns": ran_ns, "waited_ns": waited_ns, "switched_out": switched_out}


def flood(silence=1.0, gap=0.1, late=(0.1, 0.1), wait=0.5, lost=0, client_dropped=0, real_time=True):
    """A report of flood with what it saw of the machine; times are in milliseconds."""
    client = {"gap_us": 1e3 * gap, "silence_us": 1e3 * silence, "waited_us": 0.0}
    beats = ({"latest_us": 1e3 * ms, "late": 0, "real_time": real_time} for ms in late)
    return {
        "client": client | {"dropped": client_dropped},
        "watched": {str(cpu): seen for cpu, seen in enumerate(beats)},
        "longest_wait_us": None if wait is None else 1e3 * wait,
        "lost": lost,
        "sent": 1000,
        "latency_us": {"p99": 500.0 + 1000 * max(late)},
    }


def record(dropped=0, stolen=0.0, waited=0.0, **seen):
    """The record of a window."""
    before = {"steal_ms": {0: 10.0, 1: 0.0}, "dropped": 7, "major_faults": 2}
    before["threads"] = {(9, 9): thread("control", 1, 1), (9, 10): thread("worker-0", 50, 2, 3)}
    before["programs"] = {3: ("kswapd0", 10_000_000), 9: ("corelane", 50_000_000)}
    after = {"steal_ms": {0: 10.0 + stolen, 1: 0.0}, "dropped": 7 + dropped, "major_faults": 2}
    after["threads"] = {
        (9, 9): thread("control", 2, 2),
        (9, 10): thread("worker-0", 950, 2 + waited, 8),
        (9, 11): thread("new", 1, 1),
    }
    after["programs"] = {3: ("kswapd0", 12_500_000), 9: ("corelane", 950_000_000), 4: ("sh", 10_000)}
    return machine.between(before, after, flood(**seen))


class Counters(unittest.TestCase):
    def test_stolen_time_is_told_by_cpu(self):
        self.assertEqual(machine.steal_ms(STAT), {0: 19490.0, 1: 16050.0})

    def test_drops_are_those_of_all_sockets_of_a_port(self):
        self.assertEqual(machine.dropped(UDP, 0x7B0C), 34)
        self.assertEqual(machine.dropped(UDP, 53), 9)
        self.assertEqual(machine.dropped(UDP, 54), 0)

    def test_a_record_is_what_grew_within_the_window(self):
        found = record(dropped=5, stolen=20.0, waited=4.0, gap=2.0)
        self.assertEqual((found["worker"], found["worker_ran_ms"]), ("worker-0", 900.0))
        self.assertEqual((found["worker_waited_ms"], found["waited_ms"]), (4.0, 6.0))
        self.assertEqual((found["dropped"], found["switched_out"]), (5, 5))
        self.assertEqual(found["others"], [("kswapd0", 2.5)])
        self.assertEqual((found["steal_ms"], found["client_gap_ms"]), ({0: 20.0, 1: 0.0}, 2.0))


class Causes(unittest.TestCase):
    def cause(self, **seen):
        return machine.cause(record(silence=100.0, **seen))[0]

    def test_who_was_away_for_half_of_the_silence_is_the_cause(self):
        self.assertEqual(self.cause(late=(98.0, 0.1)), "the host")
        self.assertEqual(self.cause(late=(0.1, 98.0), gap=98.0), "the host")
        self.assertEqual(self.cause(gap=60.0), "the client")
        self.assertEqual(self.cause(wait=60.0, waited=60.0), "the scheduler")
        self.assertEqual(self.cause(wait=60.0, gap=55.0), "the scheduler")
        self.assertEqual(self.cause(wait=60.0, gap=65.0), "the client")
        self.assertEqual(self.cause(late=(40.0, 0.1), gap=40.0, wait=40.0), "the server")

    def test_many_short_waits_are_no_long_one(self):
        self.assertEqual(self.cause(waited=90.0, wait=3.0), "the server")
        self.assertEqual(self.cause(waited=90.0, wait=None), "the scheduler")

    def test_stolen_time_counts_where_programs_hold_beats_up(self):
        self.assertEqual(self.cause(late=(98.0, 0.1), real_time=False), "the server")
        self.assertEqual(self.cause(late=(98.0, 0.1), real_time=False, stolen=60.0), "the host")
        self.assertEqual(self.cause(stolen=60.0), "the server")

    def test_losses_are_told_by_place(self):
        self.assertEqual(
            machine.places(50, record(dropped=30, client_dropped=5)),
            "30 in the server's receive buffers, 5 in the client's, 15 elsewhere",
        )


def result(kind, rounds):
    """As much of a result as the tables of windows need."""
    return {"scenario": {"kind": kind}, "figures": {"corelane": {}}, "rounds": rounds}


class Reports(unittest.TestCase):
    def window(self, **seen):
        report = flood(**{key: value for key, value in seen.items() if key != "dropped"})
        return report | {"machine": record(**seen)}

    def test_a_loss_is_told_with_its_window_and_its_cause(self):
        lossy = self.window(silence=100.0, late=(98.0, 0.2), lost=30, dropped=30)
        rounds = [
            {"corelane": {"quiet": self.window(), "disturbed": self.window()}},
            {"corelane": {"quiet": self.window(), "disturbed": lossy}},
        ]
        said = disturbed.remarks(result("reload", rounds))
        self.assertEqual(len(said), 1)
        start = (
            "corelane: 30 lost in 1 of 4 windows: window 2 (reload), 30 lost (30 in the server's"
            " receive buffers), 100.0 ms without an answer: put down to the host, 98.0 ms"
        )
        self.assertTrue(said[0].startswith(start), said[0])

    def test_without_loss_there_is_nothing_to_tell(self):
        rounds = [{"corelane": {"flood": self.window()}}] * 3
        self.assertEqual(burst.remarks(result("burst", rounds)), [])

    def test_what_nobody_watched_has_no_row(self):
        self.assertIsNone(machine.table({"corelane": [flood()]}))

    def test_calm_windows_have_a_p99_of_their_own(self):
        windows = [self.window(), self.window(late=(0.1, 30.0)), self.window(gap=3.0)]
        heads, lines = machine.table({"corelane": windows})
        row = dict(zip(heads, lines[0]))
        self.assertEqual((row["calm windows"], row["their p99 µs"]), ("1 of 3", "600"))
        self.assertEqual(row["CPUs late ms"], "0.1 (30.0)")
        self.assertEqual(row["others, a window"], "kswapd0 2.5 ms")


if __name__ == "__main__":
    unittest.main()
