# SPDX-License-Identifier: MIT
"""
XDWRITEREAD (SBC-3): the one bidirectional command of a disk.

It writes blocks, and returns the exclusive or of what they were and what they are: what
a disk array adds to its parity.  SBC-4 has it no more.
"""

from __future__ import annotations

from scstd.results import settled
from scstd.scsi.command import (
    CommandSet,
    Outcome,
    blocks_out,
    extent_10,
    extent_32,
    wrong_direction,
)
from scstd.scsi.locks import exclusive
from scstd.scsi.sam import BidirectionalTask, Task
from scstd.scsi.sbc.steps import FUA, go_on, pieces, read_store, returning
from scstd.scsi.unit import LogicalUnit

COMMANDS = CommandSet()

_DISABLE_WRITE = 0x04


@COMMANDS.command(
    0x53,
    "XDWRITEREAD(10)",
    "53 1c ff ff ff ff 1f ff ff 00",
    writes=True,
    extent=extent_10,
    longest="max_blocks",
    data_out=blocks_out,
    bidirectional=True,
)
@COMMANDS.command(
    0x7F,
    "XDWRITEREAD(32)",
    "7f 00 00 00 00 00 1f ff ff ff 1c 00 ff ff ff ff ff ff ff ff"
    " 00 00 00 00 00 00 00 00 ff ff ff ff",
    service_action=0x0007,
    writes=True,
    extent=extent_32,
    longest="max_blocks",
    data_out=blocks_out,
    bidirectional=True,
)
def xdwriteread(unit: LogicalUnit, task: Task) -> Outcome:
    """
    XDWRITEREAD (SBC-3), atomically among this unit's commands; with DISABLE WRITE
    nothing is written.
    """
    if not task.blocks:
        return None
    if not isinstance(task, BidirectionalTask):
        raise wrong_direction()
    task.data_in_length = task.data_out_length
    return exclusive(unit, task, lambda: returning(_xdwriteread(unit, task)))


async def _xdwriteread(unit: LogicalUnit, task: Task) -> bytes:
    data = memoryview(task.data_out)
    writes = not task.flags & _DISABLE_WRITE
    fua = bool(task.flags & FUA) or not unit.write_cache
    results: list[bytes] = []
    done = 0
    # Of less than the CDB says the whole blocks are taken.
    async for offset, length in pieces(unit, task, len(data) >> unit.block_shift):
        piece = data[done : done + length]
        found = await read_store(unit, offset, length)
        bits = int.from_bytes(found, "big") ^ int.from_bytes(piece, "big")
        results.append(bits.to_bytes(length, "big"))
        if writes:
            go_on(task)
            await settled(unit.store.write(offset, piece, fua))
        done += length
    return b"".join(results)
