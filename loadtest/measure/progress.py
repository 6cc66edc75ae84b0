"""How far a run is, and how long it will take."""

import sys
import time

BAR = 24


class Progress:
    """A bar on standard error: where it is a terminal, at every step; else now and then a line."""

    def __init__(self, seconds_by_scenario):
        self.estimates = dict(seconds_by_scenario)
        self.is_terminal = sys.stderr.isatty()
        self.said = 0.0
        self.begin("", 0, 0.0)

    def begin(self, what, steps, seconds_of_a_step):
        """A scenario of so many steps begins."""
        self.what = what
        self.steps = steps
        self.estimate = seconds_of_a_step
        self.done = 0
        self.start = time.monotonic()
        self.estimates.pop(what, None)

    def step(self, name):
        """One more step is done."""
        self.done += 1
        left = self.seconds_left(time.monotonic() - self.start)
        filled = BAR * self.done // max(self.steps, 1)
        bar = "#" * filled + "." * (BAR - filled)
        more = f", {len(self.estimates)} scenarios after it" if self.estimates else ""
        line = f"{self.what} [{bar}] {self.done} of {self.steps} ({name}){more}: {clock(left)} left"
        if self.is_terminal:
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self.said > 10 or self.done == self.steps:
            self.said = time.monotonic()
            print(line, file=sys.stderr, flush=True)

    def seconds_left(self, elapsed):
        """Of this scenario from the pace so far, before there is one from the estimate; of those
        that come after it from their estimates."""
        pace = elapsed / self.done if self.done else self.estimate
        return (self.steps - self.done) * pace + sum(self.estimates.values())

    def end(self):
        """Leaves the line to others."""
        if self.is_terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def clock(seconds):
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
