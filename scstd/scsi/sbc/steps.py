# SPDX-License-Identifier: MIT
"""
What block commands of several steps are made of.

They are coroutines; between two steps they see whether their task was aborted, so that
nothing is written after the abort has been answered.  Memory stays bounded: they work
through a range in pieces of at most `PIECE` bytes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred

from scstd.interfaces import Buffer
from scstd.scsi.command import Outcome
from scstd.scsi.locks import guarded
from scstd.scsi.sam import Task
from scstd.scsi.sense import ASC, CheckCondition, SenseKey
from scstd.scsi.unit import LogicalUnit

PIECE = 1 << 20
"""Longest piece worked on at once, in bytes."""

FUA = 0x08

_CHUNK = 16384
"""Bytes compared at once."""

Steps = Callable[[LogicalUnit, Task], Coroutine[Any, Any, None]]


async def read_store(unit: LogicalUnit, offset: int, length: int) -> Buffer:
    """
    Return what the store holds.
    """
    result = unit.store.read(offset, length)
    return await result if isinstance(result, Deferred) else result


async def yield_to_reactor(unit: LogicalUnit) -> None:
    """
    Let everything else have a turn: work that goes on and on does this now and then,
    for its store may never make it wait.
    """
    if unit.later is not None:
        turn: Deferred[None] = Deferred()
        unit.later(lambda: turn.callback(None))
        await turn


class _Aborted(CheckCondition):
    """Ends the steps of a task that was aborted; nobody sees it."""


def go_on(task: Task) -> None:
    """
    Let the steps of a task go on, unless it was aborted or its medium is gone.
    """
    if task.aborted:
        raise _Aborted(SenseKey.ABORTED_COMMAND, 0)
    if task.error is not None:
        raise task.error


def returning(coroutine: Coroutine[Any, Any, bytes]) -> Deferred[Buffer]:
    """
    Return the Deferred of a coroutine that returns Data-In.
    """
    started: Deferred[Any] = Deferred.fromCoroutine(coroutine)
    return started


def steps(function: Steps) -> Callable[[LogicalUnit, Task], Outcome]:
    """
    Make a command's function of a coroutine, run under the unit's range locks.
    """

    def run(unit: LogicalUnit, task: Task) -> Outcome:
        return guarded(unit, task, lambda: Deferred.fromCoroutine(function(unit, task)))

    run.__doc__ = function.__doc__
    return run


async def pieces(
    unit: LogicalUnit, task: Task, blocks: int
) -> AsyncIterator[tuple[int, int]]:
    """
    Yield (offset, length) of each piece of a task's range.
    """
    offset = task.lba << unit.block_shift
    end = offset + (blocks << unit.block_shift)
    while offset < end:
        go_on(task)
        length = min(PIECE, end - offset)
        yield offset, length
        offset += length


def difference(one: Buffer, other: Buffer) -> int:
    """
    Return the offset of the first byte that differs, -1 if none does.
    """
    views = memoryview(one), memoryview(other)
    for start in range(0, len(views[0]), _CHUNK):
        # As bytes: views are compared one item at a time.
        left, right = (bytes(view[start : start + _CHUNK]) for view in views)
        if left != right:
            pairs = zip(left, right, strict=True)
            return start + next(at for at, (a, b) in enumerate(pairs) if a != b)
    return -1


def miscompare(offset: int) -> CheckCondition:
    """
    Return MISCOMPARE with the offset of the first byte that differs.
    """
    return CheckCondition(
        SenseKey.MISCOMPARE,
        ASC.MISCOMPARE_DURING_VERIFY_OPERATION,
        information=offset,
    )
