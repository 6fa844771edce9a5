"""How a peer is measured: with the loosest of its settings that brings every problem to the gap, and with no other.

A worker here is anything with `settings` (labels, from loose to tight), `setup_seconds`, `first` (problems of the first
try), `solve(problems, setting, limit_seconds)` and `latency(calls, setting, limit_seconds)`; see workers.py. A judge of
codes is `gaps_of(codes)`: relative gaps of the first len(codes) problems.
"""

import math
import time
from dataclasses import dataclass

import numpy as np

REACHED, MISSED, SLOWER, MISSING = "reached", "missed", "slower", "missing"
LIMIT_BUDGETS = 4  # one try may take this many budgets
MISSED_BUDGETS = 8  # and all tries together that miss the gap, so many
LATENCY_FIRST = 16  # single problems of the first try
GROWTH = 8  # at most, from one try to the next
REPEATS = 3
SLOWER_TIMES = 2  # a way that the first try says is this many times slower than another of the same peer is left


@dataclass
class Rate:
    """What N problems cost: set-up, and `solve_seconds` for `solved` of them, the best of `repeats` runs.

    crowded: the share of that run in which something on the machine waited for a processor
    """

    status: str
    setting: str = ""
    setup_seconds: float = math.nan
    solve_seconds: float = math.nan
    solved: int = 0
    problems: int = 0
    repeats: int = 0
    worst_gap: float = math.nan
    crowded: float = math.nan
    reason: str = ""

    @property
    def total_seconds(self):
        """Of all N, extrapolated from those that were solved; the set-up is made once."""
        return self.setup_seconds + self.solve_seconds * self.problems / self.solved if self.solved else math.nan


@dataclass
class Latency:
    """What one problem costs by itself, the set-up being made."""

    status: str
    setting: str = ""
    setup_seconds: float = math.nan
    calls: int = 0
    median_seconds: float = math.nan
    p99_seconds: float = math.nan
    worst_gap: float = math.nan
    crowded: float = math.nan
    reason: str = ""


class Ladder:
    """Settings from loose to tight; steps up when codes miss the gap."""

    def __init__(self, worker, gaps_of, gap, budget):
        self.worker, self.gaps_of, self.gap = worker, gaps_of, gap
        self.step = 0
        self.seconds_left = MISSED_BUDGETS * budget
        self.worst = math.nan  # of the last codes
        self.first_missed = 0  # the problem
        self.least_missed = math.inf
        self.reason = ""

    @property
    def setting(self):
        return self.worker.settings[self.step]

    def holds(self, codes, began):
        """Judges codes of a try that began at `began`. False: the next setting is up, or `reason` says why none is."""
        spent = time.perf_counter() - began
        gaps = self.gaps_of(codes)
        self.worst = float(np.max(gaps))
        if self.worst <= self.gap:
            return True
        self.first_missed = int(np.argmax(gaps > self.gap))
        self.least_missed = min(self.least_missed, self.worst)
        self.seconds_left -= spent
        self.step += 1
        if self.step == len(self.worker.settings):
            self.step -= 1
            self.reason = "its tightest setting misses the gap"
        elif self.seconds_left <= 0:
            self.reason = "the gap was missed until its time was up"
        return False


def measure_rate(worker, gaps_of, problems, gap, budget, rival_seconds=math.inf):
    """A Rate.

    budget         seconds that the run which is reported should take, less where all problems take less
    rival_seconds  for all problems, of the fastest other way of the same peer
    """
    ladder = Ladder(worker, gaps_of, gap, budget)
    rate = Rate(MISSED, setup_seconds=worker.setup_seconds, problems=problems)
    count = min(worker.first, problems)
    while True:
        began = time.perf_counter()
        solved = worker.solve(count, ladder.step, LIMIT_BUDGETS * budget)
        if not ladder.holds(solved.codes, began):
            if ladder.reason:
                rate.status, rate.reason = MISSED, ladder.reason
                rate.setting, rate.worst_gap = ladder.setting, ladder.least_missed
                rate.solve_seconds, rate.solved, rate.repeats = math.nan, 0, 0
                return rate
            # The next setting is tried on few problems, that which has just missed the gap among them.
            count = min(count, max(ladder.first_missed + 1, worker.first))
            continue
        fill(rate, ladder, solved)
        if rate.total_seconds > SLOWER_TIMES * rival_seconds:
            rate.status = SLOWER
            return rate
        if solved.count < count or count == problems or solved.seconds >= budget / 2:
            break
        grown = 0.8 * budget / max(solved.seconds, 1e-6)
        count = min(problems, math.ceil(count * min(GROWTH, max(grown, 1))))
    rate.status = REACHED
    left = budget - rate.solve_seconds
    while rate.repeats < REPEATS and left >= rate.solve_seconds:
        again = worker.solve(rate.solved, ladder.step, LIMIT_BUDGETS * budget)
        left -= again.seconds
        if again.count < rate.solved or np.max(gaps_of(again.codes)) > gap:
            break  # what was judged stays
        rate.repeats += 1
        if again.seconds < rate.solve_seconds:
            rate.solve_seconds, rate.crowded = again.seconds, again.crowded
    return rate


def fill(rate, ladder, solved):
    rate.setting, rate.worst_gap = ladder.setting, ladder.worst
    rate.solve_seconds, rate.solved, rate.repeats, rate.crowded = solved.seconds, solved.count, 1, solved.crowded


def measure_latency(worker, gaps_of, calls, gap, budget):
    """A Latency over up to `calls` problems, each in a call of its own, within some `budget` seconds."""
    ladder = Ladder(worker, gaps_of, gap, budget)
    count = min(LATENCY_FIRST, calls)
    while True:
        began = time.perf_counter()
        solved = worker.latency(count, ladder.step, budget)
        if not ladder.holds(solved.codes, began):
            if ladder.reason:
                return Latency(MISSED, ladder.setting, worker.setup_seconds, worst_gap=ladder.least_missed,
                               reason=ladder.reason)
            count = min(count, max(ladder.first_missed + 1, LATENCY_FIRST))
        elif count == calls or solved.count < count:
            return Latency(REACHED, ladder.setting, worker.setup_seconds, solved.count,
                           float(np.median(solved.seconds)), float(np.quantile(solved.seconds, 0.99)), ladder.worst,
                           solved.crowded)
        else:
            count = calls
