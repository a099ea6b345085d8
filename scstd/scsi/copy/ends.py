# SPDX-License-Identifier: MIT
"""
Commands of the copy manager to the source and the destination of a copy.

They are tasks of the nexus that asked for the copy (`LogicalUnit.perform`), and pass
the gate: reservations, write protection and a stopped medium hold for a copy as for
anybody.
"""

from __future__ import annotations

from struct import pack

from twisted.internet.defer import Deferred

from scstd.interfaces import Buffer
from scstd.scsi.copy.operations import CopyOperation
from scstd.scsi.sam import ITL, Task

SOURCE, DESTINATION = 1, 2
"""The ends, as forwarded sense data names them (SPC-5 section 4.4.2.7)."""


class EndFailed(Exception):  # noqa: N818 - what happened
    """
    A command to one end of the copy failed, or was aborted there.
    """

    def __init__(self, end: int, task: Task) -> None:
        super().__init__(f"{'source' if end == SOURCE else 'destination'} failed")
        self.end = end
        self.task = task


async def done(operation: CopyOperation, end: int, asked: Deferred[Task]) -> Task:
    """
    Return the task when it is over and was good.
    """
    task = await asked
    operation.commands += 1
    if task.aborted or task.status:
        raise EndFailed(end, task)
    return task


async def read(operation: CopyOperation, itl: ITL, offset: int, length: int) -> Buffer:
    """
    Return bytes, whole blocks; with no *length* only see whether they may be read.
    """
    shift = itl.unit.block_shift
    cdb = pack(">BBQIxx", 0x88, 0, offset >> shift, length >> shift)
    operation.check()
    asked = itl.unit.perform(itl, cdb, expected=length)
    return (await done(operation, SOURCE, asked)).data_in


async def write(operation: CopyOperation, itl: ITL, offset: int, data: Buffer) -> None:
    """
    Write bytes, whole blocks; with no *data* only see whether they may be written.
    """
    shift = itl.unit.block_shift
    cdb = pack(">BBQIxx", 0x8A, 0, offset >> shift, len(data) >> shift)
    operation.check()
    await done(operation, DESTINATION, itl.unit.perform(itl, cdb, data))


async def zero(operation: CopyOperation, itl: ITL, offset: int, length: int) -> None:
    """
    Make bytes zeros, and deallocate them where the unit is thin.
    """
    unit = itl.unit
    flags = 0x01 | (0x08 if unit.volume.thin else 0)  # NDOB, UNMAP
    shift = unit.block_shift
    cdb = pack(">BBQIxx", 0x93, flags, offset >> shift, length >> shift)
    operation.check()
    await done(operation, DESTINATION, unit.perform(itl, cdb))
