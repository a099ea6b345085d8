# SPDX-License-Identifier: MIT
"""
Range locks for tasks: what makes COMPARE AND WRITE atomic (SBC-4 section 4.29).

The locks are the volume's (`scstd.block.range_locks`), and a task is the owner of one.
Here is which blocks a task may touch, and what it has to see again when it has waited.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from scstd.block.range_locks import END
from scstd.scsi.sam import Task
from scstd.scsi.sense import CheckCondition, SenseKey

if TYPE_CHECKING:
    from scstd.scsi.command import Outcome
    from scstd.scsi.unit import LogicalUnit


def blocks_of(task: Task) -> tuple[int, int]:
    """
    Return the first block that a task may touch, and the one behind the last.

    What has no range in its CDB may touch everything, what names 0 blocks all behind.
    """
    if task.row is None or task.row.extent is None:
        return 0, END
    return task.lba, task.lba + task.blocks if task.blocks else END


def is_at_work(task: Task) -> bool:
    """
    Say whether a task may be touching blocks now.
    """
    return (
        task.started
        and not task.finished
        and task.row is not None
        and (task.row.writes or task.row.extent is not None)
        and task.abandon is None
    )


def guarded(unit: LogicalUnit, task: Task, call: Callable[[], Outcome]) -> Outcome:
    """
    Return what *call* returns, called when no lock of others is on the task's blocks.
    """
    outcome: Outcome = unit.volume.locks.guarded(
        task, *blocks_of(task), call, lambda: _see_again(task)
    )
    return outcome


def exclusive(unit: LogicalUnit, task: Task, call: Callable[[], Outcome]) -> Outcome:
    """
    Return what *call* returns, called when *task* is alone on its blocks.
    """

    def begin() -> Outcome:
        _see_not_over(task)
        return call()

    outcome: Outcome = unit.volume.locks.exclusive(
        task, *blocks_of(task), begin, lambda: _see_again(task)
    )
    return outcome


def _see_again(task: Task) -> None:
    """
    See what may have happened while a task waited: a format may have begun.
    """
    for condition in task.itl.unit.conditions:
        condition.check(task, task.row.allow)  # type: ignore[union-attr]
    _see_not_over(task)


def _see_not_over(task: Task) -> None:
    if task.aborted:
        # Nobody sees this: an aborted task is not answered.
        raise CheckCondition(SenseKey.ABORTED_COMMAND, 0)
    if task.error is not None:
        raise task.error  # the medium has changed
