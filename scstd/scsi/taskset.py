# SPDX-License-Identifier: MIT
"""
The task set: which of the tasks that have arrived may run (SAM-5 section 8).

A HEAD OF QUEUE task is enabled at once; a SIMPLE task when no HEAD OF QUEUE task and no
older ORDERED one is in the set; an ORDERED task when no HEAD OF QUEUE task and no older
task at all is.  Nearly all tasks are SIMPLE and nearly always nothing blocks, so the
set counts what can block and does no more while that is zero.

Internal tasks, the target's own, are enabled at once, and nothing waits for them: they
are part of a command that is at work already, here or at another logical unit.
"""

from __future__ import annotations

import attrs

from scstd.scsi.sam import Task, TaskAttribute


@attrs.define(eq=False)
class TaskSet:
    """
    Tasks in order of arrival: one set a logical unit, or one an I_T nexus (TST=1).
    """

    tasks: dict[Task, None] = attrs.field(factory=dict)
    blocking: int = 0

    def enter(self, task: Task) -> None:
        """
        Add a task that has arrived; ``task.enabled`` says whether it may run now.
        """
        attribute = task.attribute
        if attribute <= TaskAttribute.SIMPLE and not self.blocking:
            task.enabled = True
        elif attribute == TaskAttribute.HEAD_OF_QUEUE:
            task.enabled = True
            self.blocking += 1
        elif attribute <= TaskAttribute.SIMPLE:
            task.enabled = task.internal
        else:  # ORDERED; reserved codes are treated as the safest attribute
            task.enabled = all(other.internal for other in self.tasks)
            self.blocking += 1
        self.tasks[task] = None

    def leave(self, task: Task) -> list[Task]:
        """
        Remove a task that is over; return the tasks that may run because of that.
        """
        del self.tasks[task]
        if not self.blocking:
            return []
        if task.attribute > TaskAttribute.SIMPLE:
            self.blocking -= 1
        return self._enable()

    def _enable(self) -> list[Task]:
        enabled: list[Task] = []
        if any(task.attribute == TaskAttribute.HEAD_OF_QUEUE for task in self.tasks):
            return enabled
        first = True
        for task in self.tasks:
            if task.internal:
                continue
            ordered = task.attribute > TaskAttribute.SIMPLE
            if ordered and not first:
                break
            first = False
            if not task.enabled:
                task.enabled = True
                enabled.append(task)
            if ordered:
                break
        return enabled
