# SPDX-License-Identifier: MIT
"""
The task set: which of the tasks that have arrived may run (SAM-5 section 8).

A HEAD OF QUEUE task is enabled at once; a SIMPLE task when no HEAD OF QUEUE task and no
older ORDERED one is in the set; an ORDERED task when no HEAD OF QUEUE task and no older
task at all is.  Nearly all tasks are SIMPLE and nearly always nothing blocks, so the
set counts what can block and does no more while that is zero.  What becomes enabled at
the same time starts by command priority (SAM-5, Command priority).

Internal tasks, the target's own, are enabled at once, and nothing waits for them: they
are part of a command that is at work already, here or at another logical unit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

import attrs

from scstd.scsi.command import prioritized
from scstd.scsi.sam import (
    ITL,
    NO_PRIORITY,
    PRIORITY_SHIFT,
    Status,
    Task,
    TaskAttribute,
)
from scstd.scsi.sense import ASC, CheckCondition, Refused, SenseKey

# Plain numbers: each command is compared with them.
_SIMPLE = int(TaskAttribute.SIMPLE)
_ORDERED = int(TaskAttribute.ORDERED)
_HEAD_OF_QUEUE = int(TaskAttribute.HEAD_OF_QUEUE)
_ACA = int(TaskAttribute.ACA)
_PLAIN = (1 << PRIORITY_SHIFT) - 1
"""The greatest attribute without a priority."""


def take_priority(task: Task) -> None:
    """
    Take the command priority of a task out of its attribute, if it is there: it is the
    SIMPLE tasks' alone (SAM-5, Command priority).
    """
    priority = task.attribute >> PRIORITY_SHIFT
    task.attribute &= _PLAIN
    if priority and task.attribute <= _SIMPLE:
        task.priority = priority
        if task.row is not None:
            task.row = prioritized(task.row, priority)


def by_priority(tasks: Iterable[Task]) -> list[Task]:
    """
    Return tasks that may all run now in the order in which they do: by priority, and
    among equals by arrival.
    """
    return sorted(tasks, key=lambda task: task.priority or NO_PRIORITY)


def _doom(task: Task, error: CheckCondition | Refused) -> None:
    """
    Have a task end with *error*, without data; it is not looked at by its attribute.
    """
    task.error = error
    task.data_out_length = 0
    task.attribute = _SIMPLE


class ReservedAttributeError(Exception):
    """
    A command has come with a task attribute that is reserved: it is no task, and how
    that is told is the transport's.
    """


@attrs.define(eq=False)
class TaskSet:
    """
    Tasks in order of arrival: one set a logical unit, or one an I_T nexus (TST=1).
    """

    tasks: dict[Task, None] = attrs.field(factory=dict)
    """In order of arrival."""
    blocking: int = 0
    """How many of them can have others wait."""
    heads: int = 0
    """How many are HEAD OF QUEUE."""

    def enter(self, task: Task) -> None:
        """
        Add a task that has arrived; ``task.enabled`` says whether it may run now.

        :raises ReservedAttributeError: it has none that there is.
        """
        attribute = task.attribute
        if attribute <= _SIMPLE and not self.blocking:
            task.enabled = True
        elif attribute == _HEAD_OF_QUEUE:
            task.enabled = True
            self.blocking += 1
            self.heads += 1
        elif attribute <= _SIMPLE:
            task.enabled = task.internal
        elif attribute == _ACA:
            # There is no auto contingent allegiance (`scstd.scsi.aca`).
            error = CheckCondition(SenseKey.ILLEGAL_REQUEST, ASC.INVALID_MESSAGE_ERROR)
            _doom(task, error)
            task.enabled = True
        elif attribute > _PLAIN:
            take_priority(task)
            TaskSet.enter(self, task)
            return
        elif attribute != _ORDERED:
            raise ReservedAttributeError(attribute)
        else:
            task.itl.unit.calling.reveal()
            task.enabled = all(other.internal for other in self.tasks)
            self.blocking += 1
        self.tasks[task] = None

    def admit(self, task: Task) -> None:
        """
        Add a task that may run at once whatever else is there; it has been looked at.
        """
        task.enabled = True
        if task.attribute > _SIMPLE:
            self.blocking += 1
        if task.attribute == _HEAD_OF_QUEUE:
            self.heads += 1
        self.tasks[task] = None

    def refuse(self, task: Task, error: CheckCondition | Refused) -> None:
        """
        Add a task that is to end with *error*: it waits for nobody, not for its data
        either, and nobody for it.
        """
        _doom(task, error)
        self.admit(task)

    def leave(self, task: Task) -> list[Task]:
        """
        Remove a task that is over; return the tasks that may run because of that.
        """
        del self.tasks[task]
        if not self.blocking:
            return []
        if task.attribute > _SIMPLE:
            self.blocking -= 1
        if task.attribute == _HEAD_OF_QUEUE:
            self.heads -= 1
        return [] if self.heads else self._enable()

    def resume(self) -> list[Task]:
        """
        Return the tasks that may run now, whatever has kept them from it.
        """
        enabled = [
            task
            for task in self.tasks
            if task.attribute == _HEAD_OF_QUEUE and not task.enabled
        ]
        for task in enabled:
            task.enabled = True
        return enabled if self.heads else self._enable()

    def _enable(self) -> list[Task]:
        enabled: list[Task] = []
        first = True
        for task in self.tasks:
            if task.internal:
                continue
            ordered = task.attribute > _SIMPLE
            if ordered and not first:
                break
            first = False
            if not task.enabled:
                task.enabled = True
                enabled.append(task)
            if ordered:
                break
        return by_priority(enabled)


@attrs.define(eq=False)
class LimitedTaskSet(TaskSet):
    """
    A task set that takes at most *most* tasks of each I_T_L nexus.

    It is a kind of its own because nearly no logical unit has a limit: those of the
    session (the CmdSN window) are enough.
    """

    most: int = 1 << 31
    _counts: Counter[ITL] = attrs.field(factory=Counter)

    def enter(self, task: Task) -> None:
        """
        Add a task that has arrived; one too many may run at once, and is refused then
        with TASK SET FULL (SAM-5 section 5.3.1).
        """
        if self._counts[task.itl] >= self.most and not task.internal:
            self.refuse(task, Refused(Status.TASK_SET_FULL))
            return
        self._counts[task.itl] += 1
        super().enter(task)

    def admit(self, task: Task) -> None:
        """
        Add a task that may run at once whatever else is there; it is counted.
        """
        super().admit(task)
        self._counts[task.itl] += 1

    def leave(self, task: Task) -> list[Task]:
        """
        Remove a task that is over; return the tasks that may run because of that.
        """
        self._counts[task.itl] -= 1
        if not self._counts[task.itl]:
            del self._counts[task.itl]
        return super().leave(task)


def task_set(most: int) -> TaskSet:
    """
    Return an empty task set that takes *most* tasks of each nexus, or any number (0).
    """
    return LimitedTaskSet(most=most) if most else TaskSet()


def settle(tasks: Iterable[Task], gone: Callable[[], None]) -> None:
    """
    Call *gone* when these tasks are over, however they end.
    """
    waiting = {task for task in tasks if not task.finished}

    def left(task: Task) -> None:
        waiting.discard(task)
        if not waiting:
            gone()

    for task in waiting:
        task.when_over(left)
    if not waiting:
        gone()


def when_all(
    calls: Iterable[Callable[[Callable[[], None]], object]], done: Callable[[], None]
) -> None:
    """
    Start every call with a callback; call *done* when all of them have called back.
    """
    left = 1

    def one() -> None:
        nonlocal left
        left -= 1
        if not left:
            done()

    for call in calls:
        left += 1
        call(one)
    one()
