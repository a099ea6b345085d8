# SPDX-License-Identifier: MIT
"""
READ and WRITE (SBC-4 sections 5.15 to 5.19 and 5.40 to 5.44).

The sizes of READ and WRITE share one function each, which does nothing but call the
store: the row has decoded and checked the LBA range.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from scstd.interfaces import Buffer, carried
from scstd.scsi.allow import Allow
from scstd.scsi.command import (
    CommandSet,
    Outcome,
    blocks_out,
    extent_6,
    extent_10,
    extent_12,
    extent_16,
    extent_32,
)
from scstd.scsi.locks import guarded
from scstd.scsi.sam import Task
from scstd.scsi.sbc.steps import go_on
from scstd.scsi.sense import ASC, CheckCondition, SenseKey
from scstd.scsi.unit import LogicalUnit

COMMANDS = CommandSet()

_READS = Allow.WRITE_EXCLUSIVE
_FUA = 0x08


@COMMANDS.command(0x08, "READ(6)", "08 1f ff ff ff 00", allow=_READS, extent=extent_6)
@COMMANDS.command(
    0x28,
    "READ(10)",
    "28 18 ff ff ff ff 1f ff ff 00",
    allow=_READS,
    extent=extent_10,
    longest="max_blocks",
)
@COMMANDS.command(
    0xA8,
    "READ(12)",
    "a8 18 ff ff ff ff ff ff ff ff 1f 00",
    allow=_READS,
    extent=extent_12,
    longest="max_blocks",
)
@COMMANDS.command(
    0x88,
    "READ(16)",
    "88 18 ff ff ff ff ff ff ff ff ff ff ff ff 1f 00",
    allow=_READS,
    extent=extent_16,
    longest="max_blocks",
)
@COMMANDS.command(
    0x7F,
    "READ(32)",
    "7f 00 00 00 00 00 1f ff ff ff 18 00 ff ff ff ff ff ff ff ff"
    " 00 00 00 00 00 00 00 00 ff ff ff ff",
    service_action=0x0009,
    allow=_READS,
    extent=extent_32,
    longest="max_blocks",
)
def read(unit: LogicalUnit, task: Task) -> Outcome:
    """READ (SBC-4 sections 5.15 to 5.19)."""
    volume = unit.volume
    shift = volume.block_shift
    length = task.blocks << shift
    if task.expected_length < length:
        # No more is read than will be sent; the residual counts from the whole.
        task.data_in_length = length
        length = -(-task.expected_length >> shift) << shift
    if not length:
        return b""
    if task.flags & _FUA:
        return _written_first(unit, task, length)
    if volume.locks.held:
        return _read(unit, task, length)
    return volume.store.read(task.lba << shift, length)


def _read(unit: LogicalUnit, task: Task, length: int) -> Outcome:
    offset = task.lba << unit.block_shift
    return guarded(unit, task, lambda: unit.store.read(offset, length))


def _written_first(unit: LogicalUnit, task: Task, length: int) -> Outcome:
    """
    Read what is on the medium: what a cache has that is newer goes there first (FUA,
    SBC-4 section 5.16), and what cannot go there is not the medium's.
    """
    flushed = unit.store.flush()
    if not isinstance(flushed, Deferred):
        return _read(unit, task, length)

    def read(_flushed: None) -> Any:
        go_on(task)
        return _read(unit, task, length)

    found: Deferred[Any] = flushed.addCallback(carried(read))
    return found


@COMMANDS.command(
    0x0A,
    "WRITE(6)",
    "0a 1f ff ff ff 00",
    writes=True,
    extent=extent_6,
    data_out=blocks_out,
)
@COMMANDS.command(
    0x2A,
    "WRITE(10)",
    "2a 18 ff ff ff ff 1f ff ff 00",
    writes=True,
    extent=extent_10,
    longest="max_blocks",
    data_out=blocks_out,
)
@COMMANDS.command(
    0xAA,
    "WRITE(12)",
    "aa 18 ff ff ff ff ff ff ff ff 1f 00",
    writes=True,
    extent=extent_12,
    longest="max_blocks",
    data_out=blocks_out,
)
@COMMANDS.command(
    0x8A,
    "WRITE(16)",
    "8a 18 ff ff ff ff ff ff ff ff ff ff ff ff 1f 00",
    writes=True,
    extent=extent_16,
    longest="max_blocks",
    data_out=blocks_out,
)
@COMMANDS.command(
    0x7F,
    "WRITE(32)",
    "7f 00 00 00 00 00 1f ff ff ff 18 00 ff ff ff ff ff ff ff ff"
    " 00 00 00 00 00 00 00 00 ff ff ff ff",
    service_action=0x000B,
    writes=True,
    extent=extent_32,
    longest="max_blocks",
    data_out=blocks_out,
)
def write(unit: LogicalUnit, task: Task) -> Outcome:
    """WRITE (SBC-4 sections 5.40 to 5.44)."""
    data = task.data_out
    if len(data) < task.data_out_length:
        # Less came than the CDB says: that much of it is written.
        see_whole_blocks(unit, data)
    if not data:
        return None
    volume = unit.volume
    offset = task.lba << volume.block_shift
    fua = bool(task.flags & _FUA) or not unit.write_cache
    if volume.locks.held:
        return guarded(unit, task, lambda: volume.store.write(offset, data, fua))
    return volume.store.write(offset, data, fua)


def see_whole_blocks(unit: LogicalUnit, data: Buffer) -> None:
    """
    Refuse data that ends inside a block, because its initiator said so (in the length
    that it expects): GOOD would be a lie about that block.
    """
    if len(data) % unit.block_size:
        raise CheckCondition(
            SenseKey.ILLEGAL_REQUEST, ASC.INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT
        )
