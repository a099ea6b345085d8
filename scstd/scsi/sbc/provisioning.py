# SPDX-License-Identifier: MIT
"""
Filling and deallocating (SBC-4 section 5): WRITE SAME, UNMAP.
"""

from __future__ import annotations

from struct import unpack_from

from scstd.results import settled
from scstd.scsi.command import (
    CommandSet,
    extent_10,
    extent_16,
    extent_32,
    flags_byte,
    list_out,
)
from scstd.scsi.sam import Task
from scstd.scsi.sbc.steps import PIECE, go_on, pieces, steps
from scstd.scsi.sense import (
    ASC,
    CheckCondition,
    SenseKey,
    illegal_field,
    list_length_error,
)
from scstd.scsi.unit import LogicalUnit

COMMANDS = CommandSet()

_UNMAP = 0x08
_NDOB = 0x01

_COUNT = {0x41: 7, 0x93: 10, 0x7F: 28}
"""Where WRITE SAME has the number of blocks."""


def _one_block(unit: LogicalUnit, task: Task) -> int:
    """
    Return the Data-Out of WRITE SAME: a block, or none with NDOB.
    """
    return 0 if task.cdb[0] != 0x41 and task.flags & _NDOB else unit.block_size


@COMMANDS.command(
    0x41,
    "WRITE SAME(10)",
    "41 08 ff ff ff ff 1f ff ff 00",
    writes=True,
    extent=extent_10,
    data_out=_one_block,
    exact=True,
)
@COMMANDS.command(
    0x93,
    "WRITE SAME(16)",
    "93 09 ff ff ff ff ff ff ff ff ff ff ff ff 1f 00",
    writes=True,
    extent=extent_16,
    data_out=_one_block,
    exact=True,
)
@COMMANDS.command(
    0x7F,
    "WRITE SAME(32)",
    "7f 00 00 00 00 00 1f ff ff ff 09 00 ff ff ff ff ff ff ff ff"
    " 00 00 00 00 00 00 00 00 ff ff ff ff",
    service_action=0x000D,
    writes=True,
    extent=extent_32,
    data_out=_one_block,
    exact=True,
)
@steps
async def write_same(unit: LogicalUnit, task: Task) -> None:
    """
    WRITE SAME (SBC-4 sections 5.48 to 5.50): one block everywhere; 0 blocks says to
    the end.  With UNMAP the range is deallocated instead, whatever the block says, as
    SCST and others do: initiators send zeros.  ANCHOR is refused: what is deallocated
    is not kept.
    """
    unmap, no_data = bool(task.flags & _UNMAP), not task.data_out_length
    if unmap and not unit.volume.thin:
        raise illegal_field(flags_byte(task.cdb), 3)
    blocks = task.blocks or unit.blocks - task.lba
    if blocks > unit.volume.limits.max_same:
        raise illegal_field(_COUNT[task.cdb[0]], 7)
    pattern = bytes(unit.block_size) if no_data else bytes(task.data_out)
    zeros = not any(pattern)
    fua = not unit.write_cache
    offset, length = task.lba << unit.block_shift, blocks << unit.block_shift
    if unmap and unit.volume.can.unmaps is not None:
        await settled(unit.volume.can.unmaps.unmap(offset, length))
        if fua:
            await settled(unit.store.flush())
    elif zeros and unit.volume.can.zeroes is not None:
        await settled(unit.volume.can.zeroes.write_zeroes(offset, length, fua))
    else:
        filled = pattern * (min(PIECE, length) // unit.block_size)
        async for at, size in pieces(unit, task, blocks):
            await settled(unit.store.write(at, memoryview(filled)[:size], fua))


@COMMANDS.command(
    0x42,
    "UNMAP",
    "42 00 00 00 00 00 1f ff ff 00",
    writes=True,
    data_out=list_out(7, 2),
    exists=lambda unit: unit.volume.thin,
)
@steps
async def unmap(unit: LogicalUnit, task: Task) -> None:
    """UNMAP (SBC-4 section 5.35): all of it is checked before any is done."""
    data = bytes(task.data_out)
    if not task.data_out_length:
        return
    if len(data) < 8:
        raise list_length_error()
    described = int.from_bytes(data[2:4], "big")
    count = min(described, len(data) - 8) // 16
    if described > len(data) - 8:
        raise list_length_error()
    ranges = [unpack_from(">QI", data, 8 + 16 * at) for at in range(count)]
    for lba, blocks in ranges:
        if lba + blocks > unit.blocks:
            raise CheckCondition(
                SenseKey.ILLEGAL_REQUEST, ASC.LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE
            )
    total = sum(blocks for _lba, blocks in ranges)
    if (
        count > unit.volume.limits.max_descriptors
        or total > unit.volume.limits.max_unmapped
    ):
        raise CheckCondition(
            SenseKey.ILLEGAL_REQUEST, ASC.INVALID_FIELD_IN_PARAMETER_LIST
        )
    assert unit.volume.can.unmaps is not None
    shift = unit.block_shift
    for lba, blocks in ranges:
        go_on(task)
        if blocks:
            await settled(unit.volume.can.unmaps.unmap(lba << shift, blocks << shift))
    if not unit.write_cache:
        await settled(unit.store.flush())
