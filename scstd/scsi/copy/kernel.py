# SPDX-License-Identifier: MIT
"""
Copies that the destination's store makes by itself: in the kernel, or as a clone.

Two tasks stand for it, a read at the source and a write at the destination: both pass
the gate, and commands that have to be alone on their blocks wait for them.  It is done
only while neither unit has a range lock.  Else the task at one end could hold its range
while the one at the other end waits for its own, and two such copies for each other.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import pack

import attrs
from twisted.internet.defer import Deferred

from scstd.interfaces import Result
from scstd.scsi.allow import Allow
from scstd.scsi.asking import for_copy
from scstd.scsi.command import CommandSet, Outcome, extent_16
from scstd.scsi.copy.ends import DESTINATION, SOURCE, EndFailed, done
from scstd.scsi.copy.operations import CopyOperation
from scstd.scsi.sam import ITL, Task
from scstd.scsi.unit import LogicalUnit

_ROWS = CommandSet()
_ANY = "83" + " ff" * 15


@_ROWS.command(0x83, "copy from", _ANY, allow=Allow.WRITE_EXCLUSIVE, extent=extent_16)
def _from(unit: LogicalUnit, task: Task) -> Outcome:
    """Stand for a read until the copy is over."""
    del unit
    over: Deferred[None] = task.context
    return over


@attrs.define(eq=False)
class _Job:
    """
    What is asked of the destination's store, and whether it did it.
    """

    call: Callable[[], Result[bool]]
    copied: bool = False

    def note(self, copied: bool) -> None:
        """Note what the store has said."""
        self.copied = copied


@_ROWS.command(0x83, "copy to", _ANY, writes=True, extent=extent_16)
def _to(unit: LogicalUnit, task: Task) -> Outcome:
    """Have the store copy."""
    del unit
    job: _Job = task.context
    outcome = job.call()
    if isinstance(outcome, Deferred):
        noted: Deferred[None] = outcome.addCallback(job.note)
        return noted
    job.note(outcome)
    return None


_FROM, _TO = _ROWS.rows


def possible(source: ITL | None, target: ITL) -> bool:
    """
    Say whether the stores of two units have what it takes.
    """
    return (
        source is not None
        and source.unit.volume.can.copy_source is not None
        and target.unit.volume.can.copy_target is not None
    )


async def copy(
    operation: CopyOperation,
    source: ITL,
    source_offset: int,
    target: ITL,
    offset: int,
    length: int,
) -> bool:
    """
    Copy a range, while there are no range locks; return False if it has to be read and
    written instead.
    """
    unit = target.unit
    store, file = unit.volume.can.copy_target, source.unit.volume.can.copy_source
    assert store is not None
    assert file is not None
    place = for_copy(source, lambda: file.place(source_offset, length))
    if place is None:
        return False
    fd, at = place
    operation.check()
    over: Deferred[None] = Deferred()
    reading = source.unit.employ(
        source,
        _FROM,
        _blocks(source.unit, source_offset, length),
        over,
        lambda _task: None,
    )
    if reading.finished:
        raise EndFailed(SOURCE, reading)
    fua = not unit.write_cache
    job = _Job(lambda: store.copy_from(fd, at, offset, length, fua))
    written: Deferred[Task] = Deferred()
    try:
        unit.employ(target, _TO, _blocks(unit, offset, length), job, written.callback)
        await done(operation, DESTINATION, written)
    finally:
        over.callback(None)
    if job.copied:
        operation.commands += 1
    return job.copied


def _blocks(unit: LogicalUnit, offset: int, length: int) -> bytes:
    """
    Return a CDB that names the blocks of a range.
    """
    shift = unit.block_shift
    first, end = offset >> shift, -(-(offset + length) >> shift)
    return pack(">BBQIxx", 0x83, 0, first, end - first)
