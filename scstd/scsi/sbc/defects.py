# SPDX-License-Identifier: MIT
"""
Bad blocks (SBC-4 section 5): READ DEFECT DATA and REASSIGN BLOCKS.

Whatever is below the store deals with its own defects: we know of none.  A block that
cannot be read is written again: that is what makes a disk below replace it.  READ LONG
and WRITE LONG are absent, as there are no bytes of a block but its data.
"""

from __future__ import annotations

from struct import pack

from twisted.internet.defer import Deferred

from scstd.results import settled
from scstd.scsi.allow import Allow
from scstd.scsi.command import CommandSet, Outcome
from scstd.scsi.locks import exclusive
from scstd.scsi.sam import Task
from scstd.scsi.sbc.steps import go_on, read_store
from scstd.scsi.sense import (
    ASC,
    CheckCondition,
    SenseKey,
    illegal_field,
    list_length_error,
)
from scstd.scsi.unit import LogicalUnit

COMMANDS = CommandSet()

_LISTS = 0x18  # REQ_PLIST, REQ_GLIST; in the answer PLISTV, GLISTV


def _asked(flags: int, byte: int) -> int:
    """
    Return the header's byte 1: the lists and the format that were asked for.  An empty
    list has any format; two codes are vendor's and reserved.
    """
    if flags & 7 > 5:
        raise illegal_field(byte, 2)
    return flags & (_LISTS | 7)


@COMMANDS.command(
    0x37,
    "READ DEFECT DATA(10)",
    "37 00 1f 00 00 00 00 ff ff 00",
    allow=Allow.WRITE_EXCLUSIVE,
)
def read_defect_data_10(unit: LogicalUnit, task: Task) -> bytes:  # noqa: ARG001
    """READ DEFECT DATA(10) (SBC-4 section 5.22): no defects."""
    data = pack(">xBH", _asked(task.cdb[2], 2), 0)
    return data[: int.from_bytes(task.cdb[7:9], "big")]


@COMMANDS.command(
    0xB7,
    "READ DEFECT DATA(12)",
    "b7 1f ff ff ff ff ff ff ff ff 00 00",
    allow=Allow.WRITE_EXCLUSIVE,
)
def read_defect_data_12(unit: LogicalUnit, task: Task) -> bytes:  # noqa: ARG001
    """READ DEFECT DATA(12) (SBC-4 section 5.23): no defects, behind any index."""
    data = pack(">xBHI", _asked(task.cdb[1], 1), 0, 0)
    return data[: int.from_bytes(task.cdb[6:10], "big")]


def _list(unit: LogicalUnit, task: Task) -> int:  # noqa: ARG001 - as DataOut
    """
    Return the Data-Out of REASSIGN BLOCKS: its CDB does not say, so what is sent.
    """
    return min(task.expected_length, 4 + 8 * 1024)


@COMMANDS.command(
    0x07, "REASSIGN BLOCKS", "07 03 00 00 00 00", writes=True, data_out=_list
)
def reassign_blocks(unit: LogicalUnit, task: Task) -> Outcome:
    """
    REASSIGN BLOCKS (SBC-4 section 5.24): each block is written again, with its data, or
    with zeros if it cannot be read.  If that fails there is no spare location.
    """
    # Alone, or what others write meanwhile would be undone.
    return exclusive(unit, task, lambda: Deferred.fromCoroutine(_reassign(unit, task)))


async def _reassign(unit: LogicalUnit, task: Task) -> None:
    for lba in _defects(unit, task):
        go_on(task)
        offset = lba << unit.block_shift
        try:
            data = await read_store(unit, offset, unit.block_size)
        except OSError:
            data = bytes(unit.block_size)
        go_on(task)
        try:
            await settled(unit.store.write(offset, data, True))
        except OSError as error:
            raise CheckCondition(
                SenseKey.HARDWARE_ERROR,
                ASC.NO_DEFECT_SPARE_LOCATION_AVAILABLE,
                information=lba,
                specific=lba,
            ) from error


def _defects(unit: LogicalUnit, task: Task) -> list[int]:
    """
    Return the LBAs of a parameter list: all are checked before anything is done.
    """
    data = bytes(task.data_out)
    size = 8 if task.cdb[1] & 2 else 4
    if len(data) < 4:
        raise list_length_error()
    length = int.from_bytes(data[0 if task.cdb[1] & 1 else 2 : 4], "big")
    if length % size or length > len(data) - 4:
        raise list_length_error()
    found = [
        int.from_bytes(data[at : at + size], "big") for at in range(4, 4 + length, size)
    ]
    if any(lba >= unit.blocks for lba in found):
        raise CheckCondition(
            SenseKey.ILLEGAL_REQUEST, ASC.LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE
        )
    return found
