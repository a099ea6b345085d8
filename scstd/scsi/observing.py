# SPDX-License-Identifier: MIT
"""
Looking at the commands of a logical unit, and holding them; at no cost when nobody
does.

Both put functions of their own before those of the class, for one unit: while nothing
is put there a command takes the same steps as if this file did not exist.

**Holding.**  A held unit starts no task.  Tasks arrive, collect their data and wait,
enabled, where they can be aborted as before they have started; the target's own
(copies, self-tests) go on, for they are part of commands that have begun.  What formats
or sanitizes in the background stands between two of its pieces.  `hold` fires when no
command that had begun is left, and that stands: from then on until `release` nothing of
an initiator writes to the medium.  Several may hold a unit, each under a name; it goes
on when the last one lets go, and then by command priority, and in the order of arrival.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred

from scstd.scsi.sam import Task
from scstd.scsi.taskset import by_priority, settle
from scstd.scsi.unit import LogicalUnit

Over = Callable[[Task, float, float], None]
"""Takes a task that is over, the seconds in which its data came, and those in all."""


def observe(unit: LogicalUnit, clock: Callable[[], float], over: Over) -> None:
    """
    Have *over* called for each command that arrives from now on, when it is over.
    """
    kind = type(unit)
    times: dict[Task, tuple[float, float]] = {}

    def begin(task: Task) -> None:
        began = clock()
        kind.begin(unit, task)
        times[task] = began, began
        if task.watchers is None:
            task.watchers = []
        task.watchers.append(ended)

    def run(task: Task) -> None:
        if task in times:
            times[task] = times[task][0], clock()
        kind.run(unit, task)

    def ended(task: Task) -> None:
        began, complete = times.pop(task)
        over(task, complete - began, clock() - began)

    vars(unit).update(begin=begin, run=run)


def forget(unit: LogicalUnit) -> None:
    """
    Look at no more commands; those that were seen arriving are still told of.
    """
    for name in ("begin", "run"):
        vars(unit).pop(name, None)


@attrs.define(eq=False)
class Holds:
    """
    The logical units that are held, by whom, and their tasks that wait.
    """

    _held: dict[LogicalUnit, tuple[set[str], dict[Task, None]]] = attrs.field(
        factory=dict
    )

    def by(self, unit: LogicalUnit) -> frozenset[str]:
        """
        Return the names under which a unit is held.
        """
        return frozenset(self._held[unit][0] if unit in self._held else ())

    def waiting(self, unit: LogicalUnit) -> int:
        """
        Return how many tasks wait for the unit to be released.
        """
        if unit not in self._held:
            return 0
        return sum(not task.finished for task in self._held[unit][1])

    def hold(self, unit: LogicalUnit, name: str) -> Deferred[None]:
        """
        Start no further command at a unit; fire when none that has begun is left.
        """
        if unit not in self._held:
            self._held[unit] = set(), {}
            self._stop(unit, self._held[unit][1])
        self._held[unit][0].add(name)
        quiet: Deferred[None] = Deferred()
        if unit.background is not None:
            paused = unit.background.pause()
            quiet.addCallback(lambda _: paused)
        # What only waits for the background (`Task.abandon`) waits for longer now.
        begun = [one for one in unit.tasks() if one.started and one.abandon is None]
        settle(begun, lambda: quiet.callback(None))
        return quiet

    @staticmethod
    def _stop(unit: LogicalUnit, waiting: dict[Task, None]) -> None:
        kind = type(unit)

        def execute(task: Task) -> None:
            if task.internal:
                kind._execute(unit, task)  # noqa: SLF001 - it stands in for it
            else:
                waiting[task] = None
                if task.watchers is None:
                    task.watchers = []
                task.watchers.append(left)

        def left(task: Task) -> None:
            waiting.pop(task, None)

        vars(unit)["_execute"] = execute

    def release(self, unit: LogicalUnit, name: str) -> None:
        """
        Hold a unit under this name no more; if nobody else does its tasks go on.
        """
        if unit not in self._held:
            return
        names, waiting = self._held[unit]
        names.discard(name)
        if names:
            return
        del self._held[unit]
        vars(unit).pop("_execute", None)
        if unit.background is not None:
            unit.background.go_on()
        for task in by_priority(waiting):
            # Held again by the end of one before: it waits with the others.  Blocked by
            # an auto contingent allegiance: it goes on when that is cleared.
            if task.enabled and not task.started and not task.aborted:
                unit._execute(task)  # noqa: SLF001 - as `LogicalUnit.run` would
