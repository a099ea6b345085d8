# SPDX-License-Identifier: MIT
"""
What a command that failed ends with: every exception becomes sense data.

A `CheckCondition` says it itself.  An OSError is the store's: its errno tells what
happened, and its place, if it knows it, where.  A `StoreFault` is in the log already
(`scstd.block.checked`).  Anything else is a defect of our own, and is logged with its
traceback.  Both: HARDWARE ERROR, INTERNAL TARGET FAILURE, never a dead session and
never a silent success.
"""

from __future__ import annotations

import errno

from twisted.logger import Logger
from twisted.python.failure import Failure

from scstd.block.checked import StoreFault
from scstd.block.range_locks import DroppedError
from scstd.scsi.sam import Status, Task
from scstd.scsi.sense import ASC, CheckCondition, Refused, SenseKey, from_oserror
from scstd.scsi.traits import Traits

_log = Logger()

_ONCE = frozenset((0x04, 0x48, 0x50, 0x51, 0x52, 0x53, 0x7F, 0x83, 0x84, 0x89))
"""
What may not be the same when it is carried out again, a part of it having been done:
FORMAT UNIT, SANITIZE, XOR commands, copies, COMPARE AND WRITE, and the long CDBs.
"""


def refusal_of(unit: Traits, error: Exception, task: Task) -> Refused | None:
    """
    Return what to refuse *task* with if *error* says that the store can do nothing now,
    a moment later perhaps (EAGAIN): BUSY, with which initiators come again, however
    often it takes (SAM-5 section 5.3.1).  A command that must not be carried out twice
    is not refused but fails.
    """
    if isinstance(error, Refused):
        return error
    again = isinstance(error, OSError) and error.errno == errno.EAGAIN
    if not again or task.cdb[0] in _ONCE:
        return None
    _log.debug(
        "{unit}: {command}: busy: {error}",
        unit=unit.name,
        command=task.row.name if task.row else "?",
        error=error,
    )
    return Refused(Status.BUSY)


def condition_of(
    unit: Traits, error: Exception, task: Task, failure: Failure | None = None
) -> CheckCondition:
    """
    Return what *task* ends with at *unit* because of *error*; *failure* has the
    traceback of that, if it is not the one being handled.
    """
    if isinstance(error, CheckCondition):
        return error
    if isinstance(error, DroppedError):
        # Nobody sees this: it was aborted while it waited for its blocks.
        return CheckCondition(SenseKey.ABORTED_COMMAND, 0)
    if isinstance(error, StoreFault):
        return internal_failure()
    command = task.row.name if task.row else "?"
    if isinstance(error, OSError):
        writing = task.row is not None and task.row.writes
        at = getattr(error, "offset", None)
        lba = task.lba if at is None else at >> unit.block_shift
        condition = from_oserror(error, writing=writing, lba=lba)
        tell(task, error, condition, lba)
        return condition
    _log.failure(
        "{unit}: {command} failed",
        failure=failure or Failure(error),
        unit=unit.name,
        command=command,
    )
    return internal_failure()


def internal_failure() -> CheckCondition:
    """
    Return HARDWARE ERROR, INTERNAL TARGET FAILURE.
    """
    return CheckCondition(SenseKey.HARDWARE_ERROR, ASC.INTERNAL_TARGET_FAILURE)


def tell(task: Task, error: OSError, condition: CheckCondition, lba: int) -> None:
    """
    Tell that a command failed at the medium, at *lba*: for whom, where, and why.
    """
    nexus, row = task.itl.nexus, task.row
    named = f": {error.filename}" if error.filename else ""
    task.itl.unit.report(
        "IO_ERROR",
        device=task.itl.unit.name,
        command=row.name if row else f"opcode {task.cdb[0]:02x}h",
        lba=lba,
        blocks=task.blocks,
        error=f"{error.strerror or error}{named}",
        sense=f"{condition.key:x}/{condition.asc >> 8:02x}/{condition.asc & 0xFF:02x}",
        initiator=nexus.initiator,
        target=nexus.target.qualified_name,
        lun=task.itl.lun,
    )


def clears_queue(task: Task, condition: CheckCondition) -> bool:
    """
    Say whether QERR minds how a task ended.  Not a unit attention: that one nexus is
    told of would abort the tasks of all, which tells these, and so on for ever.
    """
    told = condition.key is SenseKey.UNIT_ATTENTION
    return not (told or task.aborted or task.internal)
