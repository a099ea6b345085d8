# SPDX-License-Identifier: MIT
"""
VERIFY and WRITE AND VERIFY (SBC-4 section 5): what is on the medium is read back.
"""

from __future__ import annotations

from scstd.interfaces import Buffer
from scstd.results import settled
from scstd.scsi.allow import Allow
from scstd.scsi.command import (
    CommandSet,
    blocks_out,
    extent_10,
    extent_12,
    extent_16,
    extent_32,
    flags_byte,
)
from scstd.scsi.sam import Task
from scstd.scsi.sbc.steps import (
    difference,
    go_on,
    miscompare,
    pieces,
    read_store,
    steps,
)
from scstd.scsi.sbc.transfer import see_whole_blocks
from scstd.scsi.sense import (
    illegal_field,
)
from scstd.scsi.unit import LogicalUnit

COMMANDS = CommandSet()


async def compare(
    unit: LogicalUnit, task: Task, data: Buffer, *, repeat: bool = False
) -> None:
    """
    Read a task's range and compare it with *data*, or with *data* again and again.
    """
    done = 0
    view = memoryview(data)
    async for offset, length in pieces(unit, task, task.blocks):
        found = await read_store(unit, offset, length)
        expected = (
            bytes(data) * (length // len(data))
            if repeat
            else view[done : done + length]
        )
        at = difference(found, expected)
        if at >= 0:
            raise miscompare(done + at)
        done += length


def _verified(unit: LogicalUnit, task: Task) -> int:
    """
    Return the Data-Out of VERIFY: none, the blocks, or one block (BYTCHK).
    """
    check = task.flags >> 1 & 3
    if check == 1:
        return task.blocks << unit.block_shift
    if check == 3:
        return unit.block_size if task.blocks else 0
    return 0


@COMMANDS.command(
    0x2F,
    "VERIFY(10)",
    "2f 16 ff ff ff ff 1f ff ff 00",
    allow=Allow.WRITE_EXCLUSIVE,
    extent=extent_10,
    longest="max_blocks",
    data_out=_verified,
)
@COMMANDS.command(
    0xAF,
    "VERIFY(12)",
    "af 16 ff ff ff ff ff ff ff ff 1f 00",
    allow=Allow.WRITE_EXCLUSIVE,
    extent=extent_12,
    longest="max_blocks",
    data_out=_verified,
)
@COMMANDS.command(
    0x8F,
    "VERIFY(16)",
    "8f 16 ff ff ff ff ff ff ff ff ff ff ff ff 1f 00",
    allow=Allow.WRITE_EXCLUSIVE,
    extent=extent_16,
    longest="max_blocks",
    data_out=_verified,
)
@COMMANDS.command(
    0x7F,
    "VERIFY(32)",
    "7f 00 00 00 00 00 1f ff ff ff 16 00 ff ff ff ff ff ff ff ff"
    " 00 00 00 00 00 00 00 00 ff ff ff ff",
    service_action=0x000A,
    allow=Allow.WRITE_EXCLUSIVE,
    extent=extent_32,
    longest="max_blocks",
    data_out=_verified,
)
@steps
async def verify(unit: LogicalUnit, task: Task) -> None:
    """VERIFY (SBC-4 sections 5.36 to 5.39): the medium is read, compared if asked."""
    check = task.flags >> 1 & 3
    if check == 2:
        raise illegal_field(flags_byte(task.cdb), 2)
    if not task.blocks:
        return
    # What a cache has that is newer goes to the medium first.
    await settled(unit.store.flush())
    go_on(task)
    if check == 0:
        async for offset, length in pieces(unit, task, task.blocks):
            await read_store(unit, offset, length)
        return
    if len(task.data_out) < task.data_out_length:
        return
    await compare(unit, task, task.data_out, repeat=check == 3)


@COMMANDS.command(
    0x2E,
    "WRITE AND VERIFY(10)",
    "2e 16 ff ff ff ff 1f ff ff 00",
    writes=True,
    extent=extent_10,
    longest="max_blocks",
    data_out=blocks_out,
)
@COMMANDS.command(
    0xAE,
    "WRITE AND VERIFY(12)",
    "ae 16 ff ff ff ff ff ff ff ff 1f 00",
    writes=True,
    extent=extent_12,
    longest="max_blocks",
    data_out=blocks_out,
)
@COMMANDS.command(
    0x8E,
    "WRITE AND VERIFY(16)",
    "8e 16 ff ff ff ff ff ff ff ff ff ff ff ff 1f 00",
    writes=True,
    extent=extent_16,
    longest="max_blocks",
    data_out=blocks_out,
)
@COMMANDS.command(
    0x7F,
    "WRITE AND VERIFY(32)",
    "7f 00 00 00 00 00 1f ff ff ff 16 00 ff ff ff ff ff ff ff ff"
    " 00 00 00 00 00 00 00 00 ff ff ff ff",
    service_action=0x000C,
    writes=True,
    extent=extent_32,
    longest="max_blocks",
    data_out=blocks_out,
)
@steps
async def write_and_verify(unit: LogicalUnit, task: Task) -> None:
    """
    WRITE AND VERIFY (SBC-4 sections 5.44 to 5.46): on the medium, then read back.
    """
    check = task.flags >> 1 & 3
    if check > 1:
        raise illegal_field(flags_byte(task.cdb), 2)
    data = task.data_out
    see_whole_blocks(unit, data)
    if not data:
        return
    offset = task.lba << unit.block_shift
    await settled(unit.store.write(offset, data, True))
    go_on(task)
    found = await read_store(unit, offset, len(data))
    if check == 1:
        at = difference(found, data)
        if at >= 0:
            raise miscompare(at)
