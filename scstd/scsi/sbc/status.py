# SPDX-License-Identifier: MIT
"""
What is allocated (SBC-4 section 5): GET LBA STATUS.

The store tells runs of bytes (`scstd.interfaces.IBlockStatus`), each mapped or not,
some at a time.  They become runs of blocks; a report type leaves out those of another
kind, so that the search goes on behind them until there are as many as fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import pack
from typing import Any

from twisted.internet.defer import Deferred

from scstd.interfaces import Extent, Result
from scstd.results import settled
from scstd.scsi.allow import Allow
from scstd.scsi.command import CommandSet, Outcome
from scstd.scsi.sam import Task
from scstd.scsi.sbc.steps import go_on, returning
from scstd.scsi.sense import ASC, CheckCondition, SenseKey, illegal_field
from scstd.scsi.unit import LogicalUnit

COMMANDS = CommandSet()

_MAPPED, _DEALLOCATED = 0, 1

_WANTED: dict[int, tuple[bool, ...]] = {
    0x00: (True, False),  # all
    0x01: (False,),  # not mapped
    0x02: (True,),  # mapped
    0x03: (False,),  # deallocated
    0x04: (),  # anchored
    0x10: (),  # may have unrecovered errors
}
"""By report type, the runs that are reported: mapped ones, those that are not."""

_BY_LENGTH, _BY_SCAN, _BY_END = 1, 2, 3
"""Why no more is reported (COMPLETION CONDITION)."""

_MOST_RUNS = 65536
"""Runs that one command looks at."""

_MOST_AT_ONCE = 4096
"""Runs that a store is asked for at once."""

_WINDOW = 1 << 20
"""Bytes that a store is asked about that cannot be told how many runs are wanted."""

_ONE = 8 + 2 * 16
"""Bytes of an answer with two runs: with less there is room for one."""

_Run = tuple[int, int, bool]


@COMMANDS.command(
    0x9E,
    "GET LBA STATUS(16)",
    "9e 1f ff ff ff ff ff ff ff ff ff ff ff ff ff 00",
    service_action=0x12,
    allow=Allow.WRITE_EXCLUSIVE,
    exists=lambda unit: unit.volume.thin,
)
def get_lba_status_16(unit: LogicalUnit, task: Task) -> Outcome:
    """GET LBA STATUS(16) (SBC-4 section 5.6)."""
    cdb = task.cdb
    lba = int.from_bytes(cdb[2:10], "big")
    length = int.from_bytes(cdb[10:14], "big")
    return _status(unit, task, (lba, 0, length), cdb[14], 14)


@COMMANDS.command(
    0x7F,
    "GET LBA STATUS(32)",
    "7f 00 00 00 00 00 00 ff ff ff ff 00 ff ff ff ff ff ff ff ff"
    " ff ff ff ff ff ff ff ff ff ff ff ff",
    service_action=0x0012,
    allow=Allow.WRITE_EXCLUSIVE,
    exists=lambda unit: unit.volume.thin,
)
def get_lba_status_32(unit: LogicalUnit, task: Task) -> Outcome:
    """GET LBA STATUS(32) (SBC-4 section 5.7); the only storage element is 0, all."""
    cdb = task.cdb
    lba = int.from_bytes(cdb[12:20], "big")
    scan = int.from_bytes(cdb[20:24], "big")
    length = int.from_bytes(cdb[28:32], "big")
    if any(cdb[24:28]):
        raise illegal_field(24, 7)
    return _status(unit, task, (lba, scan, length), cdb[10], 10)


def _status(
    unit: LogicalUnit, task: Task, where: tuple[int, int, int], kind: int, byte: int
) -> Outcome:
    """
    Answer for (first LBA, blocks to look at or 0, bytes to answer with) and a report
    type, found in *byte* of the CDB.
    """
    if where[0] >= unit.blocks:
        raise CheckCondition(
            SenseKey.ILLEGAL_REQUEST, ASC.LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE
        )
    if kind not in _WANTED:
        raise illegal_field(byte, 7)
    if where[2] < _ONE and kind == 0 and not where[1]:
        # What is asked for is one run, whatever it is: some initiators do so before
        # each of their reads.
        extents: Any = _extents(unit, where[0], unit.blocks, 1)
        if isinstance(extents, Deferred):
            answer: Deferred[Any] = extents.addCallback(
                lambda found: _first(unit, where, found)
            )
            return answer
        return _first(unit, where, extents)
    return returning(_search(unit, task, where, kind))


def _first(
    unit: LogicalUnit, where: tuple[int, int, int], extents: Sequence[Extent]
) -> bytes:
    """
    Answer with the first of some runs.
    """
    runs = _in_blocks(extents, unit.block_shift)
    return _answer(unit, where, runs[:1] or [(where[0], unit.blocks - where[0], True)])


async def _search(
    unit: LogicalUnit, task: Task, where: tuple[int, int, int], kind: int
) -> bytes:
    lba, scan, length = where
    most = max(1, (length - 8) // 16)
    end = min(lba + scan, unit.blocks) if scan else unit.blocks
    why = _BY_END if end == unit.blocks else _BY_SCAN
    found: list[_Run] = []
    wanted = _WANTED[kind]
    seen = 0
    while lba < end:
        # One more shows that there are more; of two every other one may be wanted.
        ask = min(most - len(found) + 1 << (len(wanted) != 2), _MOST_AT_ONCE)
        extents = await settled(_extents(unit, lba, end, ask))
        go_on(task)
        runs = _in_blocks(extents, unit.block_shift) or [(lba, end - lba, True)]
        seen += len(runs)
        _join(found, [run for run in runs if run[2] in wanted])
        lba = runs[-1][0] + runs[-1][1]
        if len(found) > most or seen >= _MOST_RUNS:
            if lba < end or len(found) > most:
                why = _BY_LENGTH
            break
    return _answer(unit, where, found[:most], why)


def _join(runs: list[_Run], others: list[_Run]) -> None:
    """
    Put others behind runs; what is one run in two pieces becomes one.
    """
    if runs and others:
        (start, blocks, mapped), (at, more, same) = runs[-1], others[0]
        if start + blocks == at and mapped == same:
            runs[-1] = (start, blocks + more, mapped)
            del others[0]
    runs += others


def _answer(
    unit: LogicalUnit, where: tuple[int, int, int], runs: list[_Run], why: int = 0
) -> bytes:
    """
    Return the parameter data: runs, and *why* there are no more; 0 for as many as fit.
    """
    if not why:
        whole = runs[-1][0] + runs[-1][1] == unit.blocks
        why = _BY_END if whole else _BY_LENGTH
    body = b"".join(
        pack(
            ">QIB3x",
            start,
            min(blocks, 0xFFFFFFFF),
            _MAPPED if mapped else _DEALLOCATED,
        )
        for start, blocks, mapped in runs
    )
    # RTP says that the report type was heeded.
    return (pack(">I3xB", 4 + len(body), why << 1 | 1) + body)[: where[2]]


def _extents(
    unit: LogicalUnit, lba: int, end: int, most: int
) -> Result[Sequence[Extent]]:
    """
    Return extents of bytes for the blocks from *lba* on: some, at least one.
    """
    shift = unit.block_shift
    offset, length = lba << shift, (end - lba) << shift
    if unit.volume.can.extents is not None:
        return unit.volume.can.extents.extents(offset, length, most)
    if unit.volume.can.block_status is not None:
        # It finds all there are in what it is asked about: not much, for one of them.
        some = min(length, _WINDOW) if most == 1 else length
        return unit.volume.can.block_status.block_status(offset, some)
    return [Extent(offset, length, True)]


def _in_blocks(extents: Sequence[Extent], shift: int) -> list[tuple[int, int, bool]]:
    """
    Return extents of bytes as runs of blocks; a block partly mapped is mapped.
    """
    runs: list[tuple[int, int, bool]] = []
    for extent in extents:
        start = extent.offset >> shift
        end = -(-(extent.offset + extent.length) >> shift)
        if runs:
            before, blocks, mapped = runs[-1]
            if extent.mapped == mapped:
                runs[-1] = (before, end - before, mapped)
                continue
            if before + blocks > start:
                # The runs share a block: it belongs to the mapped one.
                if mapped:
                    start += 1
                else:
                    runs[-1] = (before, start - before, mapped)
        if end > start:
            runs.append((start, end - start, extent.mapped))
    return [run for run in runs if run[1] > 0]
