# SPDX-License-Identifier: MIT
"""
What a command that failed ends with: every exception becomes sense data.

A `CheckCondition` says it itself.  An OSError is the store's: its errno tells what
happened, and its place, if it knows it, where.  Anything else is a defect, of the store
or of our own, and is logged with its traceback: HARDWARE ERROR, INTERNAL TARGET
FAILURE, never a dead session and never a silent success.
"""

from __future__ import annotations

from twisted.logger import Logger
from twisted.python.failure import Failure

from scstd.scsi.sam import Task
from scstd.scsi.sense import ASC, CheckCondition, SenseKey, from_oserror
from scstd.scsi.traits import Traits

_log = Logger()


def condition_of(
    unit: Traits, error: Exception, task: Task, failure: Failure | None = None
) -> CheckCondition:
    """
    Return what *task* ends with at *unit* because of *error*; *failure* has the
    traceback of that, if it is not the one being handled.
    """
    if isinstance(error, CheckCondition):
        return error
    command = task.row.name if task.row else "?"
    if isinstance(error, OSError):
        writing = task.row is not None and task.row.writes
        at = getattr(error, "offset", None)
        lba = task.lba if at is None else at >> unit.block_shift
        _log.warn(
            "{unit}: {command}: {error}", unit=unit.name, command=command, error=error
        )
        return from_oserror(error, writing=writing, lba=lba)
    _log.failure(
        "{unit}: {command} failed",
        failure=failure or Failure(error),
        unit=unit.name,
        command=command,
    )
    return CheckCondition(SenseKey.HARDWARE_ERROR, ASC.INTERNAL_TARGET_FAILURE)


def clears_queue(task: Task, condition: CheckCondition) -> bool:
    """
    Say whether QERR minds how a task ended.  Not a unit attention: that one nexus is
    told of would abort the tasks of all, which tells these, and so on for ever.
    """
    told = condition.key is SenseKey.UNIT_ATTENTION
    return not (told or task.aborted or task.internal)
