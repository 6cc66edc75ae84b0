"""Where a server's time goes under load: stacks that perf has sampled (Debian: linux-perf), told as a
table of parts and drawn as a flame graph. Frames that the compiler has put into others are told apart
by addr2line (Debian: binutils), where the program carries line tables."""

import os
import re
import shutil
import subprocess
import time
from collections import Counter
from html import escape

from . import plot
from .scenario import Failure

SAMPLES_A_SECOND = 1999
SECONDS_MAX = 4.0
PERF_SECONDS = 120.0
STACK_BYTES = 4096
# What a system call does for its caller, and what loopback has it do for the receiver.
SOFTIRQ = "net_rx_action"
# Parts with less are told together.
SHARE_MIN = 0.003
ROW, WIDTH_MIN = 17, 0.6


def parse(text, program):
    """Stacks, outermost frame first, of `perf script -F ip,sym,dso --no-inline`: a frame is a name, or
    where an instruction of `program` is in its file."""
    stacks, frames = [], []
    for line in text.splitlines() + [""]:
        words = line.split(None, 1)
        if not words:
            if frames:
                stacks.append(frames[::-1])
            frames = []
        elif len(words) == 2 and (found := re.fullmatch(r"(.+?) \((.+)\)", words[1])):
            name, place = found.groups()
            # A caller's is where its call returns to.
            at = int(words[0], 16) - (len(frames) > 0)
            frames.append(at if place == program else name)
    return stacks


def segments(text):
    """[(offset, address, octets)] of `readelf -lW`: what of a file is loaded where."""
    found = re.findall(r"^ +LOAD +(0x\w+) +(0x\w+) +0x\w+ +(0x\w+)", text, re.MULTILINE)
    return [tuple(int(number, 16) for number in one) for one in found]


def inlined(program, offsets):
    """{offset: names of the functions there, outermost first}; a function of the project's own has
    its file behind its name."""
    if not offsets or shutil.which("addr2line") is None:
        return {}
    loaded = segments(said(["readelf", "-lW", program]))
    places = {}
    for offset in offsets:
        for start, address, octets in loaded:
            if start <= offset < start + octets:
                places[offset - start + address] = offset
    words = ["addr2line", "-a", "-i", "-f", "-C", "-e", program]
    found, names = {}, []
    lines = iter(said(words, "".join(f"{place:#x}\n" for place in places)).splitlines())
    for line in lines:
        if line.startswith("0x"):
            names = found.setdefault(places[int(line, 16)], [])
        else:
            names.insert(0, plain(line) + behind(next(lines, "")))
    return found


def behind(place):
    """" [FILE]" for a line of the project's own, nothing for one of a library."""
    path = place.rpartition(":")[0]
    is_own = "/src/" in path and not re.search(r"/rustc/|/registry/|/library/", path)
    return f" [src/{path.rpartition('/src/')[2]}]" if is_own else ""


def said(words, given=""):
    """What a command writes."""
    return subprocess.run(words, input=given, capture_output=True, text=True, check=False).stdout


def plain(name):
    """A function's name without what its types are made of."""
    name = re.sub(r"::h[0-9a-f]{16}$", "", name)
    if found := re.match(r"<(.+?) as .+?>::(.+)", name):
        name = f"{found[1]}::{found[2]}"
    while (shorter := re.sub(r"<[^<>]*>", "", name)) != name:
        name = shorter
    return name.replace("::{{closure}}", "").replace("::{closure#0}", "") or "?"


def fold(stacks, found):
    """Counter of stacks as tuples of names."""
    folded = Counter()
    for stack in stacks:
        names = []
        for frame in stack:
            names += found.get(frame, ["?"]) if isinstance(frame, int) else [plain(frame)]
        folded[tuple(name for name in names if name != "[unknown]")] += 1
    return folded


def part_of(stack):
    """What a sample is told as: a system call, or the file of the innermost of our functions."""
    call = next((name for name in stack if name.startswith("__x64_sys_")), None)
    if call:
        call = call.removeprefix("__x64_sys_")
        return f"kernel: {call}" + (", delivery to the other side" if SOFTIRQ in stack else "")
    if any(name in stack for name in ("entry_SYSCALL_64_after_hwframe", "do_syscall_64")):
        return "kernel: the way in and out"
    if any(name.startswith("asm_") for name in stack):
        return "kernel: interrupts"
    files = [name.partition(" [")[2][:-1] for name in stack if name.endswith("]")]
    return files[-1] if files else stack[-1] if stack else "?"


def parts(folded, cpu_us):
    """[(part, share, nanoseconds an answer)], the largest first."""
    counts = Counter()
    for stack, count in folded.items():
        counts[part_of(stack)] += count
    total = max(sum(counts.values()), 1)
    rows = [(part, count / total) for part, count in counts.most_common()]
    small = sum(share for _, share in rows if share < SHARE_MIN)
    rows = [row for row in rows if row[1] >= SHARE_MIN] + [("the rest", small)] * (small > 0)
    return [(part, share, 1000 * cpu_us * share) for part, share in rows]


def draw(title, folded):
    """The flame graph: callers below, as wide as their share; names on hovering."""
    total = sum(folded.values())
    deepest = max(map(len, folded), default=0)
    height = plot.TOP + ROW * deepest + 10
    scale = (plot.WIDTH - 20) / max(total, 1)
    drawn = [plot.text(8, 20, title, weight="bold")]

    def place(rows, depth, x):
        """The frames at one depth of stacks with the same callers."""
        by_name = Counter()
        for stack, count in rows:
            if len(stack) > depth:
                by_name[stack[depth]] += count
        for name in sorted(by_name):
            width = by_name[name] * scale
            if width < WIDTH_MIN:
                continue
            y = height - 10 - ROW * (depth + 1)
            colour = plot.COLOURS[sum(name.partition(" [")[2].encode() or b"k") % len(plot.COLOURS)]
            words = f"{name}: {100 * by_name[name] / total:.1f} %"
            short = name.partition(" [")[0].rsplit("::", 1)[-1][: int(width / 6)]
            drawn.append(f"<g><title>{escape(words)}</title>")
            drawn.append(plot.box(x, y, width - 0.3, ROW - 1, colour))
            drawn.append((plot.text(x + 2, y + 12, short) if len(short) > 2 else "") + "</g>")
            above = [row for row in rows if len(row[0]) > depth and row[0][depth] == name]
            place(above, depth + 1, x)
            x += width

    place(list(folded.items()), 0, 10)
    return plot.svg(height, drawn)


def count(bench, server, seconds):
    """What one server does under load: {"stacks": {names with ";" between: samples}, "cpu_us": …}."""
    if shutil.which("perf") is None:
        raise Failure("perf is not there (Debian: linux-perf)")
    output = bench.directory / f"{server.label}.samples"
    words = ["perf", "record", "-q", "-e", "cpu-clock", "-F", str(SAMPLES_A_SECOND), "-o", str(output)]
    words += ["--call-graph", f"dwarf,{STACK_BYTES}", "-p", ",".join(map(str, sorted(server.pids())))]
    words += ["--", "sleep", f"{min(seconds, SECONDS_MAX):g}"]
    watcher = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.1)
        bench.flood(server, min(seconds, SECONDS_MAX) + 0.5)
    finally:
        watcher.wait(timeout=PERF_SECONDS)
    program = os.readlink(f"/proc/{server.process.pid}/exe")
    words = ["perf", "script", "-i", str(output), "-F", "ip,sym,dso", "--no-inline"]
    told = subprocess.run(
        words, capture_output=True, text=True, timeout=PERF_SECONDS, check=False
    )
    stacks = parse(told.stdout, program)
    if not stacks:
        raise Failure("perf has no samples of it")
    offsets = sorted({frame for stack in stacks for frame in stack if isinstance(frame, int)})
    folded = fold(stacks, inlined(program, offsets))
    return {
        "stacks": {";".join(stack): samples for stack, samples in folded.items()},
        "cpu_us": bench.figures()[server.label]["cpu_us"]["median"],
    }


def of_result(result):
    """For each server that was looked at: (name, what `count` found with its stacks as tuples)."""
    for name, found in result.get("flame", {}).items():
        stacks = {tuple(stack.split(";")): samples for stack, samples in found["stacks"].items()}
        yield name, found | {"stacks": stacks}


def tables(result):
    """(heads, rows) of the parts for each server."""
    for name, found in of_result(result):
        told = parts(found["stacks"], found["cpu_us"])
        heads = [f"where the time of {name} goes", "share", "ns an answer"]
        yield heads, [[part, f"{100 * share:.1f} %", f"{ns:.0f}"] for part, share, ns in told]


def plots(result):
    """{what: flame graph}."""
    about = result["scenario"]["name"]
    return {
        f"flame-{name}": draw(f"{about}: {name}, {found['cpu_us']:.2f} µs a query", found["stacks"])
        for name, found in of_result(result)
    }
