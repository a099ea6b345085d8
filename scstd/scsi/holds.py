# SPDX-License-Identifier: MIT
"""
Holding the commands of logical units.

A held unit starts no task.  Tasks arrive, collect their data and wait, enabled, where
they can be aborted as before they have started; the target's own (copies, self-tests)
go on, for they are part of commands that have begun.  What formats or sanitizes in the
background stands between two of its pieces.  `hold` fires when no command that had
begun is left, and that stands: from then on until `release` nothing of an initiator
writes to the medium.  Several may hold a unit, each under a name; it goes on when the
last one lets go, and then by command priority, and in the order of arrival.
"""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred

from scstd.scsi.pipeline import GoOn, Rank, Stage
from scstd.scsi.sam import Task
from scstd.scsi.taskset import by_priority, settle
from scstd.scsi.unit import LogicalUnit


@attrs.define(eq=False)
class _Held:
    """
    One unit that is held.
    """

    names: set[str] = attrs.field(factory=set)
    waiting: dict[Task, GoOn] = attrs.field(factory=dict)


@attrs.define(eq=False, slots=False)
class Holds(Stage):
    """
    The logical units that are held, by whom, and their tasks that wait.
    """

    name = "hold"
    rank = Rank.HOLD

    _held: dict[LogicalUnit, _Held] = attrs.field(factory=dict)

    def by(self, unit: LogicalUnit) -> frozenset[str]:
        """
        Return the names under which a unit is held.
        """
        return frozenset(self._held[unit].names if unit in self._held else ())

    def waiting(self, unit: LogicalUnit) -> int:
        """
        Return how many tasks wait for the unit to be released.
        """
        if unit not in self._held:
            return 0
        return sum(not task.finished for task in self._held[unit].waiting)

    def hold(self, unit: LogicalUnit, name: str) -> Deferred[None]:
        """
        Start no further command at a unit; fire when none that has begun is left.
        """
        if unit not in self._held:
            self._held[unit] = _Held()
            unit.pipeline.add(self)
        self._held[unit].names.add(name)
        quiet: Deferred[None] = Deferred()
        if unit.background is not None:
            paused = unit.background.pause()
            quiet.addCallback(lambda _: paused)
        # What only waits (`Task.abandon`) touches nothing: for the background, which
        # waits for longer now, or for its answer to be let through.
        begun = [one for one in unit.tasks() if one.started and one.abandon is None]
        settle(begun, lambda: quiet.callback(None))
        return quiet

    def execute(self, task: Task, go_on: GoOn) -> None:
        """
        Take a task that would start.
        """
        held = self._held.get(task.itl.unit)
        if held is None or task.internal:
            go_on()
        else:
            held.waiting[task] = go_on
            task.when_over(lambda over: held.waiting.pop(over, None))

    def release(self, unit: LogicalUnit, name: str) -> None:
        """
        Hold a unit under this name no more; if nobody else does its tasks go on.
        """
        if unit not in self._held:
            return
        held = self._held[unit]
        held.names.discard(name)
        if held.names:
            return
        del self._held[unit]
        unit.pipeline.remove(self)
        if unit.background is not None:
            unit.background.go_on()
        waiting = dict(held.waiting)
        for task in by_priority(waiting):
            # Held again by the end of one before: it waits with the others.  Blocked by
            # an auto contingent allegiance: it goes on when that is cleared.
            waiting[task]()
