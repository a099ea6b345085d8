# SPDX-License-Identifier: MIT
"""
Latency figures: how long commands take, by session and kind (SCST: measure_latency).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from weakref import WeakKeyDictionary

import attrs

from scstd.block.counters import IOKind
from scstd.scsi.nexus import Nexus
from scstd.scsi.pipeline import GoOn, Rank, Stage
from scstd.scsi.sam import Task

STATES = ("data", "work", "total")
"""Collecting Data-Out; from then on until it is answered; both."""


@attrs.define
class Figures:
    """
    Durations in seconds: how many, the shortest, the longest, their sum.
    """

    count: int = 0
    least: float = float("inf")
    most: float = 0.0
    total: float = 0.0

    def add(self, seconds: float) -> None:
        """
        Take one in.
        """
        self.count += 1
        self.total += seconds
        self.least = min(self.least, seconds)
        self.most = max(self.most, seconds)

    def __str__(self) -> str:
        """Return count, min, max and avg; in microseconds."""
        micro = [self.least, self.most, self.total / self.count]
        return " ".join([str(self.count), *(f"{one * 1e6:.0f}" for one in micro)])


@attrs.define(eq=False, slots=False)
class Latency(Stage):
    """
    Measures the commands of initiators that arrive while it is there.
    """

    name = "latency"
    rank = Rank.LATENCY

    clock: Callable[[], float] = time.perf_counter
    _times: dict[Task, tuple[float, float]] = attrs.field(factory=dict)
    """When each came, and when its data had come; in seconds."""
    _figures: WeakKeyDictionary[Nexus, dict[tuple[str, str], Figures]] = attrs.field(
        factory=WeakKeyDictionary
    )

    def arrive(self, task: Task, go_on: GoOn) -> None:
        """Take a command that has come."""
        began = self.clock()
        go_on()
        if not task.internal:
            self._times[task] = began, began
            task.when_over(self._over)

    def run(self, task: Task, go_on: GoOn) -> None:
        """Take a task whose data has come."""
        if task in self._times:
            self._times[task] = self._times[task][0], self.clock()
        go_on()

    def _over(self, task: Task) -> None:
        if task not in self._times:
            # What was measured is forgotten.
            return
        began, complete = self._times.pop(task)
        total = self.clock() - began
        kind = IOKind.OTHER if task.row is None else IOKind(task.row.kind)
        found = self._figures.setdefault(task.itl.nexus, {})
        durations = complete - began, total - (complete - began), total
        for state, seconds in zip(STATES, durations, strict=True):
            found.setdefault((kind.name.lower(), state), Figures()).add(seconds)

    def forget(self) -> None:
        """
        Forget what was measured, and what is being.
        """
        self._figures.clear()
        self._times.clear()

    def of(self, nexus: Nexus) -> dict[str, str]:
        """
        Return the figures of a nexus, by kind of command: a line a state.
        """
        figures = self._figures.get(nexus, {})
        kinds = {kind for kind, _state in figures}
        return {
            kind: "\n".join(f"{state} {figures[kind, state]}" for state in STATES)
            for kind in sorted(kinds)
        }
