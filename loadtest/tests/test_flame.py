"""What is made of stacks that perf has sampled."""

import unittest
from collections import Counter

from measure import flame

SCRIPT = """
\tffffffff81000001 udp_sendmsg ([kernel.kallsyms])
\tffffffff81000002 __x64_sys_sendmmsg ([kernel.kallsyms])
\t          2010 server::send (/bin/server)
\tffffffffffffffff [unknown] ([unknown])

\t          2000 server::walk (/bin/server)
\t          2010 server::turn::h0123456789abcdef (/bin/server)

"""
HEADERS = """
  LOAD           0x000000 0x0000000000000000 0x0000000000000000 0x001000 0x001000 R   0x1000
  LOAD           0x002000 0x0000000000003000 0x0000000000003000 0x000800 0x000800 R E 0x1000
"""


class Stacks(unittest.TestCase):
    def test_frames_of_the_program_are_places_and_callers_are_at_their_calls(self):
        first, second = flame.parse(SCRIPT, "/bin/server")
        self.assertEqual(first, ["[unknown]", 0x200F, "__x64_sys_sendmmsg", "udp_sendmsg"])
        self.assertEqual(second, [0x200F, 0x2000])

    def test_segments_tell_where_a_file_is_loaded(self):
        self.assertEqual(flame.segments(HEADERS), [(0, 0, 0x1000), (0x2000, 0x3000, 0x800)])

    def test_functions_inside_others_are_frames_of_their_own(self):
        found = {0x200F: ["turn [src/turn.rs]", "next"], 0x2000: ["walk [src/walk.rs]"]}
        folded = flame.fold(flame.parse(SCRIPT, "/bin/server"), found)
        sent = ("turn [src/turn.rs]", "next", "__x64_sys_sendmmsg", "udp_sendmsg")
        walked = ("turn [src/turn.rs]", "next", "walk [src/walk.rs]")
        self.assertEqual(folded, Counter({sent: 1, walked: 1}))


class Names(unittest.TestCase):
    def test_hashes_and_types_are_left_out(self):
        self.assertEqual(flame.plain("a::b::h0123456789abcdef"), "a::b")
        self.assertEqual(flame.plain("<a::B<C<D>> as e::F>::g"), "a::B::g")
        self.assertEqual(flame.plain("a::b::{{closure}}"), "a::b")

    def test_only_files_of_the_project_are_named(self):
        self.assertEqual(flame.behind("/any/where/src/data/turn.rs:12"), " [src/data/turn.rs]")
        self.assertEqual(flame.behind("/x/registry/src/some-1.0/src/lib.rs:1"), "")
        self.assertEqual(flame.behind("/rustc/abc/library/core/src/iter.rs:1"), "")
        self.assertEqual(flame.behind("??:0"), "")


class Parts(unittest.TestCase):
    STACKS = Counter(
        {
            ("turn [src/turn.rs]", "do_syscall_64", "__x64_sys_sendmmsg", "udp_sendmsg"): 50,
            ("turn [src/turn.rs]", "__x64_sys_sendmmsg", "net_rx_action", "enqueue"): 25,
            ("turn [src/turn.rs]", "walk [src/walk.rs]", "memcpy"): 24,
            ("somebody",): 1,
        }
    )

    def test_shares_are_told_in_nanoseconds_of_an_answer(self):
        told = flame.parts(self.STACKS, 2.0)
        wanted = [
            ("kernel: sendmmsg", 0.5, 1000),
            ("kernel: sendmmsg, delivery to the other side", 0.25, 500),
            ("src/walk.rs", 0.24, 480),
            ("somebody", 0.01, 20),
        ]
        self.assertEqual(told, wanted)

    def test_what_is_small_is_told_together(self):
        stacks = Counter({("a [src/a.rs]",): 998, ("b",): 1, ("c",): 1})
        self.assertEqual([part for part, _, _ in flame.parts(stacks, 1.0)], ["src/a.rs", "the rest"])

    def test_the_graph_shows_each_frame_in_its_width(self):
        drawn = flame.draw("title", self.STACKS)
        self.assertIn("<title>turn [src/turn.rs]: 99.0 %</title>", drawn)
        self.assertIn("<title>memcpy: 24.0 %</title>", drawn)


if __name__ == "__main__":
    unittest.main()
