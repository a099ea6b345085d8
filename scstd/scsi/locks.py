# SPDX-License-Identifier: MIT
"""
Range locks: what makes COMPARE AND WRITE atomic (SBC-4 section 4.29).

A command that must be alone on its blocks takes a lock at once, so that no later one
gets in, then waits for the commands that are at work there already: writers, for theirs
would be lost, and readers, which would see half of each.  Commands look for a lock on
their blocks before they start (`RangeLocks.guarded`), and park until it is gone. While
no lock is held, which is nearly always, that look is one test for truth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.defer import Deferred

from scstd.interfaces import carried
from scstd.scsi.sam import Task
from scstd.scsi.sense import CheckCondition, SenseKey

if TYPE_CHECKING:
    from scstd.scsi.command import Outcome

_END = 1 << 65
"""Behind the last block of any unit."""


def _range(task: Task) -> tuple[int, int]:
    """
    Return the (first, behind the last) LBA that a task may touch.

    What has no range in its CDB may touch everything, what names 0 blocks all behind.
    """
    if task.row is None or task.row.extent is None:
        return 0, _END
    return task.lba, task.lba + task.blocks if task.blocks else _END


def _overlap(one: Task, other: Task) -> bool:
    start, end = _range(one)
    first, last = _range(other)
    return start < last and first < end


def _unless_over(task: Task, call: Callable[[], Outcome]) -> Outcome:
    if task.aborted:
        # Nobody sees this: an aborted task is not answered.
        raise CheckCondition(SenseKey.ABORTED_COMMAND, 0)
    if task.error is not None:
        raise task.error  # the medium has changed
    return call()


@attrs.define(eq=False)
class _Lock:
    """
    The range of *task*, who waits for it, and what begins *task* while it waits itself
    for those that were there.
    """

    task: Task
    begun: Deferred[Any] | None = None
    waiting: dict[Task, Deferred[Any]] = attrs.field(factory=dict)


@attrs.define(eq=False)
class RangeLocks:
    """
    The locks of one logical unit; true while there are any.
    """

    _held: list[_Lock] = attrs.field(factory=list)
    _parked: dict[Task, Deferred[Any]] = attrs.field(factory=dict)
    _awaited: dict[Task, list[Callable[[Task], None]]] = attrs.field(factory=dict)

    def __bool__(self) -> bool:
        return bool(self._held)

    def guarded(self, task: Task, call: Callable[[], Outcome]) -> Outcome:
        """
        Return what *call* returns, called when no lock overlaps the task's range.
        """
        for lock in self._held:
            if _overlap(lock.task, task):
                return self._park(lock, task, lambda: self.guarded(task, call))
        return call()

    def exclusive(
        self,
        task: Task,
        tasks: Callable[[], Iterable[Task]],
        call: Callable[[], Outcome],
    ) -> Outcome:
        """
        Return what *call* returns, called when *task* is alone on its range; *tasks*
        returns all those of the unit.
        """
        for lock in self._held:
            if _overlap(lock.task, task):
                return self._park(lock, task, lambda: self.exclusive(task, tasks, call))
        own = _Lock(task)
        self._held.append(own)
        busy = [
            other
            for other in self._busy(tasks())
            if other is not task and _overlap(task, other)
        ]
        begun = own.begun = self._after(busy)
        begin: Callable[[Any], Outcome] = lambda _: _unless_over(task, call)  # noqa: E731
        begun.addCallback(carried(begin) if busy else begin)
        begun.addBoth(self._release, own)
        return begun

    def alone(self, tasks: Callable[[], Iterable[Task]]) -> Deferred[None]:
        """
        Return a Deferred that fires when no task is at work on any block: only what
        waits for a lock, and sees the unit's conditions before it goes on.
        """
        return self._after(self._busy(tasks()))

    def _busy(self, tasks: Iterable[Task]) -> list[Task]:
        """
        Return those of the tasks that may be touching blocks now.
        """
        return [
            task
            for task in tasks
            if task.started
            and not task.finished
            and task.row is not None
            and (task.row.writes or task.row.extent is not None)
            and task.abandon is None
            and task not in self._parked
        ]

    def _after(self, busy: list[Task]) -> Deferred[Any]:
        """
        Return a Deferred that fires when all these tasks are over.
        """
        begun: Deferred[Any] = Deferred()
        left = set(busy)

        def over(other: Task) -> None:
            self._awaited.pop(other, None)
            left.discard(other)
            if not left and not begun.called:
                begun.callback(None)

        for other in busy:
            other.when_over(over)
            self._awaited.setdefault(other, []).append(over)
        if not busy:
            begun.callback(None)
        return begun

    def passed(self, task: Task) -> None:
        """
        Take in that a task touches no data any more, though it is not over.
        """
        for over in self._awaited.pop(task, ()):
            over(task)

    def drop(self, task: Task) -> None:
        """
        Let a task go that was aborted while it waits: it touches no data.
        """
        waiting = self._parked.get(task)
        for lock in self._held:
            if lock.task is task:
                waiting = lock.begun
        if waiting is not None and not waiting.called:
            waiting.callback(None)

    def _park(
        self, lock: _Lock, task: Task, again: Callable[[], Outcome]
    ) -> Deferred[Any]:
        deferred: Deferred[Any] = Deferred()
        self._parked[task] = lock.waiting[task] = deferred

        def go_on(_: object) -> Outcome:
            del self._parked[task], lock.waiting[task]
            # A format may have begun while it waited.
            for condition in task.itl.unit.conditions:
                condition.check(task, task.row.allow)  # type: ignore[union-attr]
            return _unless_over(task, again)

        # Whoever lets it go on is not who asks.
        deferred.addCallback(carried(go_on))
        return deferred

    def _release(self, result: Any, lock: _Lock) -> Any:
        self._held.remove(lock)
        for waiting in list(lock.waiting.values()):
            if not waiting.called:
                waiting.callback(None)
        return result
