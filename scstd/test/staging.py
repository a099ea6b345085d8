# SPDX-License-Identifier: MIT
"""
Stages that do what a test says, and a unit to put them on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.commands import read10
from scstd.scsi.pipeline import GoOn, Rank, Stage
from scstd.scsi.sam import Task
from scstd.scsi.sense import ASC, CheckCondition, SenseKey
from scstd.test.initiator import Initiator, serve
from scstd.test.stores import ManualStore

POINTS = ("arrive", "run", "execute", "finish")
TUR = bytes(6)
NACA_READ = read10(1 << 30, 1)[:9] + b"\x04"
"""A READ(10) with NACA=1 of blocks that are not there."""
BROKEN = CheckCondition(SenseKey.MEDIUM_ERROR, ASC.UNRECOVERED_READ_ERROR)

Does = Callable[[Task, GoOn], None]


class DefectError(Exception):
    """
    What a stage fails with.
    """


class Scripted(Stage):
    """
    A stage that does *does* at *points*, and writes down what comes by.
    """

    def __init__(
        self,
        name: str,
        does: Does = lambda _task, go_on: go_on(),
        points: tuple[str, ...] = POINTS,
        rank: int = Rank.RULES,
        seen: list[str] | None = None,
    ) -> None:
        self.name = name
        self.rank = rank
        self.seen = [] if seen is None else seen
        for point in points:
            self._wrap(point, does)

    def _wrap(self, point: str, does: Does) -> None:
        def wrapped(task: Task, go_on: GoOn) -> None:
            self.seen.append(f"{self.name} {point}")
            does(task, go_on)

        setattr(self, point, wrapped)


class Keeps(Scripted):
    """
    A stage that holds what comes by.
    """

    def __init__(self, name: str, *points: str, rank: int = Rank.RULES) -> None:
        self.kept: dict[Task, GoOn] = {}
        super().__init__(name, self.kept.__setitem__, points, rank)

    def go(self) -> None:
        """Let go on what is there."""
        for task, go_on in list(self.kept.items()):
            del self.kept[task]
            go_on()


def raises(_task: Task, _go_on: GoOn) -> None:
    """Fail before the task has gone on."""
    raise DefectError


def raises_behind(_task: Task, go_on: GoOn) -> None:
    """Fail when the task has gone on."""
    go_on()
    raise DefectError


class PipelineBench(SynchronousTestCase):
    """
    An initiator at a unit whose store waits.
    """

    def setUp(self) -> None:
        """Log in."""
        self.store = ManualStore()
        node, _target, (self.unit,) = serve(self.store)
        self.one = Initiator(node).ready()
        self.other = Initiator(node, name="iqn.2026-11.org.other:x").ready()

    def add(self, *stages: Any) -> None:
        """Put stages there."""
        for stage in stages:
            self.unit.pipeline.add(stage)

    def remove(self, *stages: Any) -> None:
        """Take stages away."""
        for stage in stages:
            self.unit.pipeline.remove(stage)

    def read(self, lba: int = 0, **fields: Any) -> int:
        """Send a read of a block; return its tag."""
        pdu = self.one.command(read10(lba, 1), read=512, **fields)
        self.one.send(pdu)
        return pdu.itt

    def abort(self, tag: int) -> Any:
        """Abort a task; return the response, or None."""
        self.one.manage(1, tag=tag)
        found = self.one.receive()
        return found[0].response if found else None

    def hears(self) -> list[str]:
        """Return a list that has what is logged from now on."""
        heard: list[str] = []
        observer: Any = lambda event: heard.append(formatEvent(event))  # noqa: E731
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        return heard

    def logged(self, count: int) -> None:
        """Check that so many defects are in the log, and nothing else is."""
        self.assertEqual(len(self.flushLoggedErrors(DefectError)), count)
