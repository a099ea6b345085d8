# SPDX-License-Identifier: MIT
"""
Block commands of several steps: VERIFY, WRITE AND VERIFY, COMPARE AND WRITE, WRITE
SAME, UNMAP (SBC-4 section 5).

These are coroutines; between two steps they see whether their task was aborted, so that
nothing is written after the abort has been answered.  Memory stays bounded: they work
through a range in pieces of at most `PIECE` bytes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from struct import unpack_from
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from scstd.interfaces import Buffer, Result
from scstd.scsi.command import (
    Allow,
    Outcome,
    blocks_out,
    extent_10,
    extent_12,
    extent_16,
    list_out,
)
from scstd.scsi.sam import Task
from scstd.scsi.sbc import SBC
from scstd.scsi.sense import (
    ASC,
    CheckCondition,
    SenseKey,
    illegal_field,
    list_length_error,
)
from scstd.scsi.unit import LogicalUnit

PIECE = 1 << 20
"""Longest piece worked on at once, in bytes."""

_FUA = 0x08
_UNMAP = 0x08
_NDOB = 0x01

ALL = SBC
"""Every row of a direct access block device: with those of this module."""

T = TypeVar("T")
Steps = Callable[[LogicalUnit, Task], Coroutine[Any, Any, None]]


async def _now(result: Result[T]) -> T:
    """
    Return a value, waiting for it if it is a Deferred.
    """
    return await result if isinstance(result, Deferred) else result


async def _read(unit: LogicalUnit, offset: int, length: int) -> Buffer:
    """
    Return what the store holds.
    """
    result = unit.store.read(offset, length)
    return await result if isinstance(result, Deferred) else result


class _Aborted(CheckCondition):
    """Ends the steps of a task that was aborted; nobody sees it."""


def _go_on(task: Task) -> None:
    if task.aborted:
        raise _Aborted(SenseKey.ABORTED_COMMAND, 0)


def steps(function: Steps) -> Callable[[LogicalUnit, Task], Outcome]:
    """
    Make a command's function of a coroutine, run under the unit's range locks.
    """

    def run(unit: LogicalUnit, task: Task) -> Outcome:
        return unit.locks.guarded(
            task, lambda: Deferred.fromCoroutine(function(unit, task))
        )

    run.__doc__ = function.__doc__
    return run


async def _pieces(
    unit: LogicalUnit, task: Task, blocks: int
) -> AsyncIterator[tuple[int, int]]:
    """
    Yield (offset, length) of each piece of a task's range.
    """
    offset = task.lba << unit.block_shift
    end = offset + (blocks << unit.block_shift)
    while offset < end:
        _go_on(task)
        length = min(PIECE, end - offset)
        yield offset, length
        offset += length


def _difference(one: Buffer, other: Buffer) -> int:
    """
    Return the offset of the first byte that differs, -1 if none does.
    """
    if one == other:
        return -1
    pairs = zip(one, other, strict=True)
    return next(at for at, pair in enumerate(pairs) if pair[0] != pair[1])


def _miscompare(offset: int) -> CheckCondition:
    return CheckCondition(
        SenseKey.MISCOMPARE,
        ASC.MISCOMPARE_DURING_VERIFY_OPERATION,
        information=offset,
    )


async def _compare(
    unit: LogicalUnit, task: Task, data: Buffer, *, repeat: bool = False
) -> None:
    """
    Read a task's range and compare it with *data*, or with *data* again and again.
    """
    done = 0
    view = memoryview(data)
    async for offset, length in _pieces(unit, task, task.blocks):
        found = await _read(unit, offset, length)
        expected = (
            bytes(data) * (length // len(data))
            if repeat
            else view[done : done + length]
        )
        at = _difference(found, expected)
        if at >= 0:
            raise _miscompare(done + at)
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


@SBC.command(
    0x2F,
    "VERIFY(10)",
    "2f 16 ff ff ff ff 1f ff ff 00",
    allow=Allow.WRITE_EXCLUSIVE,
    extent=extent_10,
    longest="most_blocks",
    data_out=_verified,
)
@SBC.command(
    0xAF,
    "VERIFY(12)",
    "af 16 ff ff ff ff ff ff ff ff 1f 00",
    allow=Allow.WRITE_EXCLUSIVE,
    extent=extent_12,
    longest="most_blocks",
    data_out=_verified,
)
@SBC.command(
    0x8F,
    "VERIFY(16)",
    "8f 16 ff ff ff ff ff ff ff ff ff ff ff ff 1f 00",
    allow=Allow.WRITE_EXCLUSIVE,
    extent=extent_16,
    longest="most_blocks",
    data_out=_verified,
)
@steps
async def verify(unit: LogicalUnit, task: Task) -> None:
    """VERIFY (SBC-4 sections 5.36 to 5.39): the medium is read, compared if asked."""
    check = task.flags >> 1 & 3
    if check == 2:
        raise illegal_field(1, 2)
    if not task.blocks:
        return
    if check == 0:
        async for offset, length in _pieces(unit, task, task.blocks):
            await _read(unit, offset, length)
        return
    if len(task.data_out) < task.data_out_length:
        return
    await _compare(unit, task, task.data_out, repeat=check == 3)


@SBC.command(
    0x2E,
    "WRITE AND VERIFY(10)",
    "2e 16 ff ff ff ff 1f ff ff 00",
    writes=True,
    extent=extent_10,
    longest="most_blocks",
    data_out=blocks_out,
)
@SBC.command(
    0xAE,
    "WRITE AND VERIFY(12)",
    "ae 16 ff ff ff ff ff ff ff ff 1f 00",
    writes=True,
    extent=extent_12,
    longest="most_blocks",
    data_out=blocks_out,
)
@SBC.command(
    0x8E,
    "WRITE AND VERIFY(16)",
    "8e 16 ff ff ff ff ff ff ff ff ff ff ff ff 1f 00",
    writes=True,
    extent=extent_16,
    longest="most_blocks",
    data_out=blocks_out,
)
@steps
async def write_and_verify(unit: LogicalUnit, task: Task) -> None:
    """
    WRITE AND VERIFY (SBC-4 sections 5.44 to 5.46): on the medium, then read back.
    """
    check = task.flags >> 1 & 3
    if check > 1:
        raise illegal_field(1, 2)
    data = task.data_out
    data = data[: len(data) >> unit.block_shift << unit.block_shift]
    if not data:
        return
    offset = task.lba << unit.block_shift
    await _now(unit.store.write(offset, data, True))
    _go_on(task)
    found = await _read(unit, offset, len(data))
    if check == 1:
        at = _difference(found, data)
        if at >= 0:
            raise _miscompare(at)


@SBC.command(
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
    fua = bool(task.flags & _FUA) or not unit.write_cache
    _go_on(task)
    if unit.compares is not None:
        at = await _now(unit.compares.compare_and_write(offset, expected, data, fua))
    else:
        at = _difference(await _read(unit, offset, half), expected)
        if at < 0:
            _go_on(task)
            await _now(unit.store.write(offset, data, fua))
    if at >= 0:
        raise _miscompare(at)


@SBC.command(
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
    found: Buffer = await _read(unit, offset, len(data))
    both = int.from_bytes(found, "big") | int.from_bytes(data, "big")
    _go_on(task)
    fua = bool(task.flags & _FUA) or not unit.write_cache
    await _now(unit.store.write(offset, both.to_bytes(len(data), "big"), fua))


def _one_block(unit: LogicalUnit, task: Task) -> int:
    """
    Return the Data-Out of WRITE SAME: a block, or none with NDOB.
    """
    return 0 if task.cdb[0] == 0x93 and task.flags & _NDOB else unit.block_size


@SBC.command(
    0x41,
    "WRITE SAME(10)",
    "41 08 ff ff ff ff 1f ff ff 00",
    writes=True,
    extent=extent_10,
    data_out=_one_block,
    exact=True,
)
@SBC.command(
    0x93,
    "WRITE SAME(16)",
    "93 09 ff ff ff ff ff ff ff ff ff ff ff ff 1f 00",
    writes=True,
    extent=extent_16,
    data_out=_one_block,
    exact=True,
)
@steps
async def write_same(unit: LogicalUnit, task: Task) -> None:
    """
    WRITE SAME (SBC-4 sections 5.48 and 5.49): one block everywhere; 0 blocks says to
    the end.  With UNMAP the range is deallocated instead, whatever the block says, as
    SCST and others do: initiators send zeros.
    """
    unmap, no_data = bool(task.flags & _UNMAP), not task.data_out_length
    if unmap and not unit.thin:
        raise illegal_field(1, 3)
    blocks = task.blocks or unit.blocks - task.lba
    if blocks > unit.most_same:
        raise illegal_field(2 + 8 * (task.cdb[0] == 0x93), 7)
    pattern = bytes(unit.block_size) if no_data else bytes(task.data_out)
    zeros = not any(pattern)
    fua = not unit.write_cache
    offset, length = task.lba << unit.block_shift, blocks << unit.block_shift
    if unmap and unit.unmaps is not None:
        await _now(unit.unmaps.unmap(offset, length))
    elif zeros and unit.zeroes is not None:
        await _now(unit.zeroes.write_zeroes(offset, length, fua))
    else:
        filled = pattern * (min(PIECE, length) // unit.block_size)
        async for at, size in _pieces(unit, task, blocks):
            await _now(unit.store.write(at, memoryview(filled)[:size], fua))


@SBC.command(
    0x42,
    "UNMAP",
    "42 00 00 00 00 00 1f ff ff 00",
    writes=True,
    data_out=list_out(7, 2),
    exists=lambda unit: unit.thin,
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
    if count > unit.most_descriptors or total > unit.most_unmapped:
        raise CheckCondition(
            SenseKey.ILLEGAL_REQUEST, ASC.INVALID_FIELD_IN_PARAMETER_LIST
        )
    assert unit.unmaps is not None
    shift = unit.block_shift
    for lba, blocks in ranges:
        _go_on(task)
        if blocks:
            await _now(unit.unmaps.unmap(lba << shift, blocks << shift))
