# SPDX-License-Identifier: MIT
"""
Copies of bytes that begin and end inside blocks: from a block device with offset to a
block device with offset (SPC-4, segment descriptor type 0Ah).

What is read is whole blocks, of which a part is taken.  What is written is whole blocks
too, but for the first and the last of the destination: of these the other bytes are
kept, by a task that is alone on its block while it reads, changes and writes it.
"""

from __future__ import annotations

from struct import pack

from twisted.internet.defer import Deferred

from scstd.interfaces import Buffer
from scstd.results import settled
from scstd.scsi.command import CommandSet, Outcome, extent_16
from scstd.scsi.copy.ends import DESTINATION, done, read, write
from scstd.scsi.copy.mover import PIECE
from scstd.scsi.copy.operations import CopyOperation
from scstd.scsi.locks import exclusive
from scstd.scsi.sam import ITL, Task
from scstd.scsi.sbc.steps import go_on, read_store, returning
from scstd.scsi.unit import LogicalUnit

_ROWS = CommandSet()


@_ROWS.command(0x83, "copy into", "83" + " ff" * 15, writes=True, extent=extent_16)
def _into(unit: LogicalUnit, task: Task) -> Outcome:
    """Change a part of a block, alone there."""
    return exclusive(unit, task, lambda: returning(_changed(unit, task)))


async def _changed(unit: LogicalUnit, task: Task) -> bytes:
    within, data = task.context
    offset = task.lba << unit.block_shift
    block = bytearray(await read_store(unit, offset, unit.block_size))
    block[within : within + len(data)] = data
    go_on(task)
    await settled(unit.store.write(offset, bytes(block), not unit.write_cache))
    return b""


async def change(operation: CopyOperation, itl: ITL, offset: int, data: Buffer) -> None:
    """
    Write bytes inside one block.
    """
    shift = itl.unit.block_shift
    lba = offset >> shift
    cdb = pack(">BBQIxx", 0x83, 0, lba, 1)
    written: Deferred[Task] = Deferred()
    operation.check()
    context = (offset - (lba << shift), data)
    itl.unit.employ(itl, _ROWS.rows[0], cdb, context, written.callback)
    await done(operation, DESTINATION, written)


async def get(operation: CopyOperation, itl: ITL, offset: int, length: int) -> Buffer:
    """
    Return bytes, wherever they begin and end.
    """
    block = itl.unit.block_size
    first = offset // block * block
    end = -(-(offset + length) // block) * block
    data = await read(operation, itl, first, end - first)
    return memoryview(data)[offset - first : offset - first + length]


async def put(operation: CopyOperation, itl: ITL, offset: int, data: Buffer) -> None:
    """
    Write bytes, wherever they begin and end.
    """
    block = itl.unit.block_size
    view = memoryview(data)
    head = min(-offset % block, len(view))
    tail = (len(view) - head) % block
    whole = len(view) - head - tail
    if head:
        await change(operation, itl, offset, view[:head])
    if whole:
        await write(operation, itl, offset + head, view[head : head + whole])
    if tail:
        await change(operation, itl, offset + head + whole, view[head + whole :])


def pieces(source: ITL, target: ITL, to: int, length: int) -> list[tuple[int, int]]:
    """
    Return where pieces begin, and their sizes: all but the first begin with a block of
    the destination, and no unit is asked for more than it takes.
    """
    takes = [
        max(unit.volume.limits.max_blocks - 2, 1) << unit.block_shift
        for unit in (source.unit, target.unit)
        if unit.volume.limits.max_blocks
    ]
    block = target.unit.block_size
    most = max(min([PIECE, *takes]) // block * block, block)
    ends = [*range(most - to % block, length, most), length]
    return [(at, end - at) for at, end in zip([0, *ends], ends, strict=False)]
