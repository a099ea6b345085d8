# SPDX-License-Identifier: MIT
"""
Commands that are alone on their blocks (SBC-4 section 5): COMPARE AND WRITE, ORWRITE,
WRITE ATOMIC.
"""

from __future__ import annotations

import contextlib

from twisted.internet.defer import Deferred

from scstd.interfaces import Buffer
from scstd.results import settled
from scstd.scsi.command import (
    VARIABLE,
    CommandSet,
    Outcome,
    blocks_out,
    extent_16,
    extent_32,
)
from scstd.scsi.locks import exclusive
from scstd.scsi.sam import Task
from scstd.scsi.sbc.journal import Journal
from scstd.scsi.sbc.steps import FUA, difference, go_on, miscompare, pieces, read_store
from scstd.scsi.sense import ASC, CheckCondition, SenseKey, illegal_field
from scstd.scsi.unit import LogicalUnit

COMMANDS = CommandSet()


@COMMANDS.command(
    0x89,
    "COMPARE AND WRITE",
    "89 18 ff ff ff ff ff ff ff ff 00 00 00 ff 1f 00",
    writes=True,
    extent=lambda cdb: (cdb[1], int.from_bytes(cdb[2:10], "big"), cdb[13]),
    longest="max_compared",
    data_out=lambda unit, task: 2 * task.blocks << unit.block_shift,
    exact=True,
)
def compare_and_write(unit: LogicalUnit, task: Task) -> Outcome:
    """
    COMPARE AND WRITE (SBC-4 section 5.3): atomic among the commands of this unit.
    """
    if not task.blocks:
        return None
    return exclusive(
        unit,
        task,
        lambda: Deferred.fromCoroutine(_compare_and_write(unit, task)),
    )


async def _compare_and_write(unit: LogicalUnit, task: Task) -> None:
    view = memoryview(task.data_out)
    half = task.blocks << unit.block_shift
    expected, data = view[:half], view[half:]
    offset = task.lba << unit.block_shift
    fua = bool(task.flags & FUA) or not unit.write_cache
    go_on(task)
    if unit.volume.can.compares is not None:
        at = await settled(
            unit.volume.can.compares.compare_and_write(offset, expected, data, fua)
        )
    else:
        at = difference(await read_store(unit, offset, half), expected)
        if at < 0:
            go_on(task)
            await settled(unit.store.write(offset, data, fua))
    if at >= 0:
        raise miscompare(at)


def _check_generation(task: Task) -> None:
    """
    See that ORWRITE(32) expects generation 0: it is the only one there is, as the
    operation that makes another (BMOP 001b, change generation and clear) is refused.
    """
    if task.cdb[0] == VARIABLE and any(task.cdb[20:24]):
        raise CheckCondition(
            SenseKey.ILLEGAL_REQUEST, ASC.ORWRITE_GENERATION_DOES_NOT_MATCH
        )


@COMMANDS.command(
    0x8B,
    "ORWRITE(16)",
    "8b 18 ff ff ff ff ff ff ff ff ff ff ff ff 1f 00",
    writes=True,
    extent=extent_16,
    longest="max_blocks",
    data_out=blocks_out,
)
@COMMANDS.command(
    0x7F,
    "ORWRITE(32)",
    "7f 00 00 00 00 00 1f ff ff ff 18 00 ff ff ff ff ff ff ff ff"
    " ff ff ff ff ff ff ff ff ff ff ff ff",
    service_action=0x000E,
    writes=True,
    extent=extent_32,
    longest="max_blocks",
    data_out=blocks_out,
)
def orwrite(unit: LogicalUnit, task: Task) -> Outcome:
    """
    ORWRITE (SBC-4 sections 5.9 and 5.10): set bits, atomically among this unit's
    commands.
    """
    _check_generation(task)
    data = task.data_out
    if not data or len(data) < task.data_out_length:
        return None
    return exclusive(unit, task, lambda: Deferred.fromCoroutine(_orwrite(unit, task)))


async def _orwrite(unit: LogicalUnit, task: Task) -> None:
    data = memoryview(task.data_out)
    fua = bool(task.flags & FUA) or not unit.write_cache
    done = 0
    async for offset, length in pieces(unit, task, task.blocks):
        found: Buffer = await read_store(unit, offset, length)
        bits = int.from_bytes(data[done : done + length], "big")
        both = (int.from_bytes(found, "big") | bits).to_bytes(length, "big")
        go_on(task)
        await settled(unit.store.write(offset, both, fua))
        done += length


def _extent_atomic_16(cdb: bytes) -> tuple[int, int, int]:
    """
    Decode WRITE ATOMIC(16): 16 bits of transfer length, behind the atomic boundary.
    """
    return (
        cdb[1],
        int.from_bytes(cdb[2:10], "big"),
        int.from_bytes(cdb[12:14], "big"),
    )


@COMMANDS.command(
    0x9C,
    "WRITE ATOMIC(16)",
    "9c 18 ff ff ff ff ff ff ff ff ff ff ff ff 1f 00",
    writes=True,
    extent=_extent_atomic_16,
    longest="max_atomic",
    data_out=blocks_out,
    exact=True,
)
@COMMANDS.command(
    0x7F,
    "WRITE ATOMIC(32)",
    "7f 00 00 00 ff ff 1f ff ff ff 18 00 ff ff ff ff ff ff ff ff"
    " 00 00 00 00 00 00 00 00 ff ff ff ff",
    service_action=0x000F,
    writes=True,
    extent=extent_32,
    longest="max_atomic",
    data_out=blocks_out,
    exact=True,
)
def write_atomic(unit: LogicalUnit, task: Task) -> Outcome:
    """
    WRITE ATOMIC (SBC-4 section 5.43): all of it or nothing, for whoever reads
    meanwhile, after an error, and after a crash.  With an atomic boundary it might be
    made of several atomic writes; it is one.
    """
    at = 4 if task.cdb[0] == VARIABLE else 10
    boundary = int.from_bytes(task.cdb[at : at + 2], "big")
    if boundary > unit.volume.limits.max_atomic:
        raise illegal_field(at, 7)
    if not task.blocks:
        return None
    return exclusive(
        unit, task, lambda: Deferred.fromCoroutine(_write_atomic(unit, task))
    )


async def _write_atomic(unit: LogicalUnit, task: Task) -> None:
    go_on(task)
    data = task.data_out
    offset = task.lba << unit.block_shift
    before: Buffer | None = None
    with contextlib.suppress(OSError):
        # What cannot be read can be written nevertheless.
        before = await read_store(unit, offset, len(data))
    durable = unit.memory.durable
    fua = durable or bool(task.flags & FUA) or not unit.write_cache

    async def write() -> None:
        go_on(task)
        try:
            # An abort does not stop it any more: it waits for the end.
            await settled(unit.store.write(offset, data, fua))
        except BaseException:
            if before is not None and task.error is None:
                # Else the medium is another one by now, and this is none of its data.
                await settled(unit.store.write(offset, before, fua))
            raise

    if not durable:
        await write()
        return
    await unit.part(Journal).around(offset, before, data, write)
