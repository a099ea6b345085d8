# SPDX-License-Identifier: MIT
"""
Auto contingent allegiance: a task set that stands still after a CHECK CONDITION, until
its initiator has found out what happened (SAM-5, Auto contingent allegiance).

A command that has NACA=1 in its CONTROL byte and ends with CHECK CONDITION establishes
the condition: in its task set, for its nexus, the faulted one.  What is in the task set
is blocked.  It does not start; where it has started its answer is held, for a call of
the store cannot be stopped.  What arrives is refused, but for one command at a time
with the ACA attribute from the faulted nexus, and for another nexus' PREEMPT AND ABORT.
CLEAR ACA, a reset, the loss of the nexus, its preemption, and an ACA command that ends
with CHECK CONDITION and NACA=0 clear it; then what was blocked goes on.

The condition is a task set of a kind of its own in the place of the one before, and a
stage of the logical unit: while there is none, nothing is on the path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

import attrs

from scstd.scsi.command import naca
from scstd.scsi.pipeline import GoOn, Rank, Stage
from scstd.scsi.sam import ITL, ServiceResponse, Status, Task, TaskAttribute
from scstd.scsi.sense import Refused
from scstd.scsi.sense_mapping import clears_queue
from scstd.scsi.taskset import ReservedAttributeError, TaskSet, take_priority

if TYPE_CHECKING:
    from scstd.scsi.sense import CheckCondition
    from scstd.scsi.unit import LogicalUnit

_ACA = TaskAttribute.ACA
_PREEMPT_AND_ABORT = (0x5F, 0x05)


@attrs.define(eq=False, kw_only=True)
class FaultedTaskSet(TaskSet):
    """
    A task set while an auto contingent allegiance is in effect.
    """

    unit: LogicalUnit
    inner: TaskSet
    """The one in whose place it is, and whose tasks it has."""
    faulted: ITL
    """The nexus whose command has established the condition."""
    blocked: dict[Task, None]
    """The tasks that were there before."""
    held: dict[Task, Callable[[], None]] = attrs.field(factory=dict)
    """What ends those that are over and not answered."""
    command: Task | None = None
    """The ACA command that there is."""

    def enter(self, task: Task) -> None:
        """
        Add a task that has arrived, and enable it; it may be enabled only to end.

        :raises ReservedAttributeError: it has no attribute that there is.
        """
        take_priority(task)
        if task.attribute > _ACA:
            raise ReservedAttributeError(task.attribute)
        status = None if task.internal else self._refusal(task)
        if status is not None:
            self.inner.refuse(task, Refused(status))
            return
        if task.itl is self.faulted and not task.internal:
            self.command = task
        self.inner.admit(task)

    def _refusal(self, task: Task) -> Status | None:
        """
        Return what a new command ends with (SAM-5, tables of the handling of commands
        during ACA: from the faulted nexus, and from others).
        """
        aca = task.attribute == _ACA
        if task.itl is self.faulted:
            taken = aca and self.command is None and not self.unit.tmf_only
            return None if taken else Status.ACA_ACTIVE
        if aca:
            return Status.ACA_ACTIVE
        if (task.cdb[0], task.cdb[1] & 0x1F) == _PREEMPT_AND_ABORT:
            return None
        return self.refusal(task)

    @staticmethod
    def refusal(task: Task) -> Status:
        """
        Return what a command without the ACA attribute from another nexus ends with.
        """
        return Status.ACA_ACTIVE if naca(task.cdb) else Status.BUSY

    def leave(self, task: Task) -> list[Task]:
        """
        Remove a task that is over; nothing may run because of that.
        """
        enabled = self.inner.leave(task)
        self.blocked.pop(task, None)
        self.held.pop(task, None)
        if task is self.command:
            self.command = None
        for one in enabled:
            one.enabled = False
        return []

    def blocks(self, task: Task) -> bool:
        """
        Say whether a task that is over may not be answered.
        """
        return task in self.blocked and not task.aborted

    def clear(self, gone: Callable[[], None], *, but: Task | None = None) -> None:
        """
        Clear the condition, and let go on what it has blocked; call *gone* when the
        ACA command that there may be, *but* one that clears it itself, is aborted.
        """
        unit, inner = self.unit, self.inner
        doomed = [] if self.command in {None, but} else [self.command]
        unit.abort(doomed, gone)
        unit.replace_task_set(self, inner)
        # It may have left the unit.
        self.faulted.have_tasks_in(inner)
        unit.faults.remove(self)
        if not unit.faults:
            unit.pipeline.remove(_BLOCKING)
        for task, end in list(self.held.items()):
            if not task.finished:
                # If one establishes the condition again, those after it are held again.
                end()
        if all(one.inner is not inner for one in unit.faults):
            unit.enable(inner.resume())


def _establish(unit: LogicalUnit, task: Task) -> None:
    """
    Establish the condition because of how *task* ends.
    """
    inner = task.itl.task_set
    blocked = {one: None for one in inner.tasks if one is not task and not one.internal}
    for one in blocked:
        if not one.started:
            one.enabled = False
    faulted = FaultedTaskSet(
        unit=unit, inner=inner, faulted=task.itl, blocked=blocked, tasks=inner.tasks
    )
    unit.replace_task_set(inner, faulted)
    unit.pipeline.add(_BLOCKING)
    unit.faults.append(faulted)


class _Blocking(Stage):
    """
    Holds the answers of tasks that were there when the condition was established.
    """

    name = "auto contingent allegiance"
    rank = Rank.ACA

    def finish(self, task: Task, go_on: GoOn) -> None:
        """Take a task that is over."""
        where = task.itl.task_set
        if isinstance(where, FaultedTaskSet) and where.blocks(task):
            # It is looked at again then: there may be another condition.
            where.held[task] = partial(self.finish, task, go_on)
        else:
            go_on()


_BLOCKING = _Blocking()


def fault(unit: LogicalUnit, task: Task, condition: CheckCondition) -> None:
    """
    Do to others what a CHECK CONDITION does to them, by NACA and QERR, before its task
    ends.
    """
    itl = task.itl
    where = itl.task_set
    if task.aborted or task.internal:
        return
    if isinstance(where, FaultedTaskSet):
        if task is where.command and not naca(task.cdb):
            task.when_over(lambda _task: where.clear(_nothing, but=task))
    elif itl is not itl.nexus.absent and naca(task.cdb):
        _establish(unit, task)
    if unit.queue_error and clears_queue(task, condition):
        # Before it leaves the task set: that would let the next one run.
        _clear_queue(unit, task)


def _clear_queue(unit: LogicalUnit, task: Task) -> None:
    """
    Abort the other tasks when one ends with CHECK CONDITION, as QERR asks for: those of
    the nexus (11b), or all of the task set (01b) (SPC-5, Control mode page).
    """
    itl = task.itl
    everybody = unit.queue_error == 1 and not unit.separate_task_sets
    doomed = unit.tasks() if everybody else unit.tasks_of(itl)
    doomed.remove(task)
    unit.clear(doomed, _nothing, by=itl)


def clear_aca(itl: ITL, done: Callable[[ServiceResponse], None]) -> None:
    """
    Perform CLEAR ACA for a nexus (SAM-5, CLEAR ACA): without the condition there is
    nothing to do; where it is another's it is rejected.
    """
    where = itl.task_set
    if isinstance(where, FaultedTaskSet) and where.faulted is not itl:
        done(ServiceResponse.FUNCTION_REJECTED)
        return
    end(itl, lambda: done(ServiceResponse.FUNCTION_COMPLETE))


def end(
    itl: ITL, gone: Callable[[], None] | None = None, *, but: Task | None = None
) -> None:
    """
    Clear the condition of a nexus, if there is one: `FaultedTaskSet.clear`.
    """
    where = itl.task_set
    if isinstance(where, FaultedTaskSet) and where.faulted is itl:
        where.clear(gone or _nothing, but=but)
    elif gone is not None:
        gone()


def depart(itl: ITL) -> None:
    """
    Clear the condition of a nexus whose LUN is gone: nobody could do so any more.  What
    it blocks is let finish, and so is its ACA command.
    """
    where = itl.task_set
    if isinstance(where, FaultedTaskSet):
        end(itl, but=where.command)


def check_preempting(task: Task, preempted: Iterable[ITL]) -> None:
    """
    Let a PREEMPT AND ABORT through that preempts the faulted nexus (SPC-5, Preempting
    and aborting).

    :raises Refused: it preempts others, and comes from another nexus than that.
    """
    where = task.itl.task_set
    if (
        isinstance(where, FaultedTaskSet)
        and where.faulted not in {task.itl, *preempted}
        and task not in where.blocked
    ):
        raise Refused(where.refusal(task))


def end_all(unit: LogicalUnit, *, but: Task | None = None) -> None:
    """
    Clear every such condition of a unit.
    """
    for one in list(unit.faults):
        one.clear(_nothing, but=but)


def _nothing() -> None:
    pass
