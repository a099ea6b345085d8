# SPDX-License-Identifier: MIT
"""
Commands that are alone on their blocks (SBC-4 section 5): COMPARE AND WRITE, ORWRITE.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from scstd.interfaces import Buffer
from scstd.scsi.command import (
    CommandSet,
    Outcome,
    blocks_out,
    extent_16,
)
from scstd.scsi.sam import Task
from scstd.scsi.sbc.steps import (
    FUA,
    difference,
    go_on,
    miscompare,
    read_store,
    settled,
)
from scstd.scsi.unit import LogicalUnit

COMMANDS = CommandSet()


@COMMANDS.command(
    0x89,
    "COMPARE AND WRITE",
    "89 18 ff ff ff ff ff ff ff ff 00 00 00 ff 1f 00",
    writes=True,
    extent=lambda cdb: (cdb[1], int.from_bytes(cdb[2:10], "big"), cdb[13]),
    longest="most_compared",
    data_out=lambda unit, task: 2 * task.blocks << unit.block_shift,
    exact=True,
)
def compare_and_write(unit: LogicalUnit, task: Task) -> Outcome:
    """
    COMPARE AND WRITE (SBC-4 section 5.3): atomic among the commands of this unit.
    """
    if not task.blocks:
        return None
    return unit.locks.exclusive(
        task,
        unit.tasks,
        lambda: Deferred.fromCoroutine(_compare_and_write(unit, task)),
    )


async def _compare_and_write(unit: LogicalUnit, task: Task) -> None:
    view = memoryview(task.data_out)
    half = task.blocks << unit.block_shift
    expected, data = view[:half], view[half:]
    offset = task.lba << unit.block_shift
    fua = bool(task.flags & FUA) or not unit.write_cache
    go_on(task)
    if unit.compares is not None:
        at = await settled(unit.compares.compare_and_write(offset, expected, data, fua))
    else:
        at = difference(await read_store(unit, offset, half), expected)
        if at < 0:
            go_on(task)
            await settled(unit.store.write(offset, data, fua))
    if at >= 0:
        raise miscompare(at)


@COMMANDS.command(
    0x8B,
    "ORWRITE(16)",
    "8b 18 ff ff ff ff ff ff ff ff ff ff ff ff 1f 00",
    writes=True,
    extent=extent_16,
    longest="most_blocks",
    data_out=blocks_out,
)
def orwrite(unit: LogicalUnit, task: Task) -> Outcome:
    """
    ORWRITE(16) (SBC-4 section 5.9): set bits, atomically among this unit's commands.
    """
    data = task.data_out
    if not data or len(data) < task.data_out_length:
        return None
    return unit.locks.exclusive(
        task, unit.tasks, lambda: Deferred.fromCoroutine(_orwrite(unit, task))
    )


async def _orwrite(unit: LogicalUnit, task: Task) -> None:
    data = task.data_out
    offset = task.lba << unit.block_shift
    found: Buffer = await read_store(unit, offset, len(data))
    both = int.from_bytes(found, "big") | int.from_bytes(data, "big")
    go_on(task)
    fua = bool(task.flags & FUA) or not unit.write_cache
    await settled(unit.store.write(offset, both.to_bytes(len(data), "big"), fua))
