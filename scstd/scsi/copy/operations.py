# SPDX-License-Identifier: MIT
"""
Copy operations: how far they are, how they ended, and how they are stopped.

A third-party copy command originates an operation (SPC-5 section 5.17.4.3), which its
I_T nexus can ask about by a list identifier, and abort.  With IMMED the command ends at
once and the operation goes on in the background.

While it runs, an operation has a task of the target's own standing in the task set of
every logical unit that it reads or writes (`CopyOperation.hold`).  Whatever aborts
tasks there (a logical unit reset, ABORT TASK SET, the loss of the nexus, a preemption)
aborts that one too, and waits for it: it ends when the operation has stopped.  So no
abort is answered before the last write, whichever end of the copy it was sent to, also
in a moment when no single read or write is under way there.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from scstd.scsi.allow import Allow
from scstd.scsi.command import CommandSet, Outcome
from scstd.scsi.copy.limits import MOST_COPIES, MOST_RESULTS
from scstd.scsi.copy.manager import CopyManager
from scstd.scsi.sam import ITL, Status, Task
from scstd.scsi.sense import (
    ASC,
    CheckCondition,
    SenseKey,
    encode,
    illegal_parameter,
)
from scstd.scsi.unit import LogicalUnit

_log = Logger()

DONE, FAILED, PARTIAL, FOREGROUND, BACKGROUND, TERMINATED = 1, 2, 3, 0x11, 0x12, 0x60
"""Values of the COPY OPERATION STATUS field (SPC-5 table 249)."""

EXTENDED_COPIES = (0x00, 0x01)
"""The service actions of EXTENDED COPY: LID1 and LID4."""

_HOLDS = CommandSet()


@_HOLDS.command(0x83, "copy under way", "83" + " ff" * 15, allow=Allow.ANY)
def _hold(unit: LogicalUnit, task: Task) -> Outcome:
    """Stand there until the operation is over."""
    del unit
    over: Deferred[None] = task.context
    return over


class Stopped(CheckCondition):
    """
    Ends an operation that was told to stop.
    """


@attrs.define(eq=False)
class CopyOperation:
    """
    One copy operation.
    """

    itl: ITL
    task: Task | None
    """The task that waits for its end, if one does."""
    service_action: int
    list_id: int
    manager: CopyManager
    state: int = FOREGROUND
    aborted: bool = False
    commands: int = 0
    """What was sent to sources and destinations."""
    segments: int = 0
    """The number of the segment descriptor that it is at, from 1."""
    transferred: int = 0
    """Bytes written so far without a gap from the beginning."""
    in_blocks: int = 0
    """How long a block of the destination is, where *transferred* is told in these."""
    status: int = 0
    sense: bytes = b""
    token: bytes = b""
    told: set[int] = attrs.field(factory=set)
    """The service actions of 84h that have nothing more to tell."""
    _holds: dict[ITL, Task] = attrs.field(factory=dict)
    _watchers: list[Deferred[None]] = attrs.field(factory=list)

    @property
    def running(self) -> bool:
        """Whether it is not over yet."""
        return self.state in {FOREGROUND, BACKGROUND}

    def hold(self, itl: ITL) -> None:
        """
        Be told from now on of whatever aborts tasks of this nexus at this unit.

        :raises CheckCondition: the nexus has ended.
        """
        if itl in self._holds:
            return
        if itl not in itl.unit.itls:
            raise Stopped(SenseKey.COPY_ABORTED, ASC.COPY_TARGET_DEVICE_NOT_REACHABLE)
        over: Deferred[None] = Deferred()
        row = _HOLDS.rows[0]
        self._holds[itl] = itl.unit.employ(
            itl, row, bytes((row.opcode,)).ljust(16, b"\0"), over, lambda _task: None
        )

    def check(self) -> None:
        """
        Let the operation go on, unless it was aborted.

        :raises CheckCondition: it was.
        """
        if self.task is not None and self.task.aborted:
            # Nobody sees this: an aborted task is not answered.
            raise Stopped(SenseKey.ABORTED_COMMAND, 0)
        if self.aborted:
            raise Stopped(SenseKey.COPY_ABORTED, ASC.COMMANDS_CLEARED_BY_DEVICE_SERVER)
        for hold in self._holds.values():
            if hold.aborted or hold.error is not None:
                # Tasks were aborted there, or the medium is another one.
                raise Stopped(SenseKey.COPY_ABORTED, ASC.THIRD_PARTY_DEVICE_FAILURE)

    def abort(self) -> Deferred[None]:
        """
        Stop it; fire when it can touch data no more.
        """
        self.aborted = True
        gone: Deferred[None] = Deferred()
        self._watchers.append(gone)
        return gone

    async def carry_out(
        self, work: Callable[[CopyOperation], Coroutine[Any, Any, None]]
    ) -> None:
        """
        Do *work*, and note how it ended.
        """
        try:
            if self.task is None:
                self.hold(self.itl)
            await work(self)
            self.state = DONE
        except CheckCondition as error:
            self._failed(error)
            raise
        except BaseException:
            self._failed(
                CheckCondition(SenseKey.HARDWARE_ERROR, ASC.INTERNAL_TARGET_FAILURE)
            )
            raise
        finally:
            self.manager.running -= 1
            self.task = None
            holds, self._holds = self._holds, {}
            for hold in holds.values():
                if not hold.finished:
                    hold.context.callback(None)
            watchers, self._watchers = self._watchers, []
            for watcher in watchers:
                watcher.callback(None)

    def _failed(self, error: CheckCondition) -> None:
        stopped = isinstance(error, Stopped)
        partial = error.asc == ASC.COPY_TARGET_DEVICE_DATA_UNDERRUN
        self.state = TERMINATED if stopped else PARTIAL if partial else FAILED
        self.status = Status.TASK_ABORTED if stopped else Status.CHECK_CONDITION
        if not stopped:
            self.sense = encode(error, descriptor=self.itl.unit.descriptor_sense)


def originate(
    task: Task,
    list_id: int | None,
    work: Callable[[CopyOperation], Coroutine[Any, Any, None]],
    *,
    immediate: bool = False,
    in_blocks: int = 0,
) -> Outcome:
    """
    Begin the operation of a third-party copy command; *list_id* is None where it has no
    name.

    :raises CheckCondition: its name is in use, or there are too many operations.
    """
    itl, action = task.itl, task.cdb[1] & 0x1F
    manager = itl.unit.copies
    assert manager is not None
    if list_id is not None:
        _make_room(itl, list_id, action)
    if manager.running >= MOST_COPIES:
        raise CheckCondition(SenseKey.ABORTED_COMMAND, ASC.INSUFFICIENT_RESOURCES)
    operation = CopyOperation(
        itl=itl,
        task=None if immediate else task,
        service_action=action,
        list_id=list_id or 0,
        manager=manager,
        state=BACKGROUND if immediate else FOREGROUND,
        in_blocks=in_blocks,
    )
    if list_id is not None:
        itl.copies[list_id] = operation
    manager.running += 1
    done = Deferred.fromCoroutine(operation.carry_out(work))
    if not immediate:
        return done
    # How it ended is asked for; there are no deferred errors (section 5.17.4.3).
    done.addErrback(
        lambda failure: (
            None
            if failure.check(CheckCondition)
            else _log.failure("a copy in the background failed", failure=failure)
        )
    )
    return None


def _make_room(itl: ITL, list_id: int, action: int) -> None:
    """
    Forget what an earlier operation of this name left, and the oldest of too many.

    :raises CheckCondition: one of this name is at work.
    """
    before = itl.copies.get(list_id)
    if before is not None and before.running:
        formats = {before.service_action, action}
        if formats == set(EXTENDED_COPIES):
            # The same name in the other format (SPC-5 section 6.4.3.2).
            raise illegal_parameter(20 if action else 0)
        raise CheckCondition(SenseKey.ILLEGAL_REQUEST, ASC.OPERATION_IN_PROGRESS)
    itl.copies.pop(list_id, None)
    if len(itl.copies) >= MOST_RESULTS:
        over = [name for name, one in itl.copies.items() if not one.running]
        for name in over[: len(itl.copies) - MOST_RESULTS + 1]:
            del itl.copies[name]
