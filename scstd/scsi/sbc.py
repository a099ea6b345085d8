# SPDX-License-Identifier: MIT
"""
Block commands (SBC-4 section 5): reading, writing, flushing, and the medium.

The four sizes of READ and WRITE share one function each, which does nothing but call
the store: the row has decoded and checked the LBA range.  What takes several steps
(comparing, filling, unmapping) is in `ranges`.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import pack

from twisted.internet.defer import Deferred

from scstd.interfaces import Buffer, Extent
from scstd.scsi.command import (
    Allow,
    CommandSet,
    Outcome,
    blocks_out,
    extent_6,
    extent_10,
    extent_12,
    extent_16,
)
from scstd.scsi.sam import Status, Task
from scstd.scsi.sense import (
    ASC,
    CheckCondition,
    SenseKey,
    illegal_field,
)
from scstd.scsi.spc import SPC
from scstd.scsi.unit import LogicalUnit

SBC = CommandSet(SPC)

_READS = Allow.WRITE_EXCLUSIVE
_FUA = 0x08


@SBC.command(0x08, "READ(6)", "08 1f ff ff ff 00", allow=_READS, extent=extent_6)
@SBC.command(
    0x28,
    "READ(10)",
    "28 18 ff ff ff ff 1f ff ff 00",
    allow=_READS,
    extent=extent_10,
    longest="most_blocks",
)
@SBC.command(
    0xA8,
    "READ(12)",
    "a8 18 ff ff ff ff ff ff ff ff 1f 00",
    allow=_READS,
    extent=extent_12,
    longest="most_blocks",
)
@SBC.command(
    0x88,
    "READ(16)",
    "88 18 ff ff ff ff ff ff ff ff ff ff ff ff 1f 00",
    allow=_READS,
    extent=extent_16,
    longest="most_blocks",
)
def read(unit: LogicalUnit, task: Task) -> Outcome:
    """READ (SBC-4 sections 5.15 to 5.18)."""
    shift = unit.block_shift
    length = task.blocks << shift
    if task.expected_length < length:
        # No more is read than will be sent; the residual counts from the whole.
        task.data_in_length = length
        length = -(-task.expected_length >> shift) << shift
    if not length:
        return b""
    return unit.store.read(task.lba << shift, length)


@SBC.command(
    0x0A,
    "WRITE(6)",
    "0a 1f ff ff ff 00",
    writes=True,
    extent=extent_6,
    data_out=blocks_out,
)
@SBC.command(
    0x2A,
    "WRITE(10)",
    "2a 18 ff ff ff ff 1f ff ff 00",
    writes=True,
    extent=extent_10,
    longest="most_blocks",
    data_out=blocks_out,
)
@SBC.command(
    0xAA,
    "WRITE(12)",
    "aa 18 ff ff ff ff ff ff ff ff 1f 00",
    writes=True,
    extent=extent_12,
    longest="most_blocks",
    data_out=blocks_out,
)
@SBC.command(
    0x8A,
    "WRITE(16)",
    "8a 18 ff ff ff ff ff ff ff ff ff ff ff ff 1f 00",
    writes=True,
    extent=extent_16,
    longest="most_blocks",
    data_out=blocks_out,
)
def write(unit: LogicalUnit, task: Task) -> Outcome:
    """WRITE (SBC-4 sections 5.40 to 5.43)."""
    data = task.data_out
    if len(data) < task.data_out_length:
        # Less came than the CDB says: the whole blocks of it are written.
        data = data[: len(data) >> unit.block_shift << unit.block_shift]
    if not data:
        return None
    if unit.locks:
        return unit.locks.guarded(task, lambda: _write(unit, task, data))
    return _write(unit, task, data)


def _write(unit: LogicalUnit, task: Task, data: Buffer) -> Outcome:
    fua = bool(task.flags & _FUA) or not unit.write_cache
    return unit.store.write(task.lba << unit.block_shift, data, fua)


@SBC.command(0x25, "READ CAPACITY(10)", "25 00 ff ff ff ff 00 00 01 00", allow=_READS)
def read_capacity_10(unit: LogicalUnit, task: Task) -> bytes:
    """READ CAPACITY(10) (SBC-4 section 5.20)."""
    if task.cdb[2:6] != b"\0\0\0\0" and not task.cdb[8] & 1:
        raise illegal_field(2, 7)
    return pack(">II", min(unit.blocks - 1, 0xFFFFFFFF), unit.block_size)


@SBC.command(
    0x9E,
    "READ CAPACITY(16)",
    "9e 1f ff ff ff ff ff ff ff ff ff ff ff ff 01 00",
    service_action=0x10,
    allow=_READS,
)
def read_capacity_16(unit: LogicalUnit, task: Task) -> bytes:
    """READ CAPACITY(16) (SBC-4 section 5.21)."""
    if task.cdb[2:10] != bytes(8) and not task.cdb[14] & 1:
        raise illegal_field(2, 7)
    thin = 0xC0 if unit.thin else 0  # LBPME, LBPRZ
    data = pack(
        ">QIBBBx16x",
        unit.blocks - 1,
        unit.block_size,
        0,
        unit.physical_exponent,
        thin,
    )
    return data[: int.from_bytes(task.cdb[10:14], "big")]


@SBC.command(
    0x35,
    "SYNCHRONIZE CACHE(10)",
    "35 06 ff ff ff ff 1f ff ff 00",
    extent=extent_10,
    allow=_READS,
)
@SBC.command(
    0x91,
    "SYNCHRONIZE CACHE(16)",
    "91 06 ff ff ff ff ff ff ff ff ff ff ff ff 1f 00",
    extent=extent_16,
    allow=_READS,
)
def synchronize_cache(unit: LogicalUnit, task: Task) -> Outcome:
    """
    SYNCHRONIZE CACHE (SBC-4 sections 5.33 and 5.34): the whole of it, before the answer
    even with IMMED, so that an error is never lost.
    """
    del task
    return unit.store.flush()


@SBC.command(
    0x34,
    "PRE-FETCH(10)",
    "34 02 ff ff ff ff 1f ff ff 00",
    extent=extent_10,
    allow=_READS,
)
@SBC.command(
    0x90,
    "PRE-FETCH(16)",
    "90 02 ff ff ff ff ff ff ff ff ff ff ff ff 1f 00",
    extent=extent_16,
    allow=_READS,
)
def pre_fetch(unit: LogicalUnit, task: Task) -> None:  # noqa: ARG001
    """
    PRE-FETCH (SBC-4 sections 5.11 and 5.12): CONDITION MET says that the cache could
    hold all of it; the operating system's read-ahead does the rest.
    """
    task.status = Status.CONDITION_MET


@SBC.command(0x1B, "START STOP UNIT", "1b 01 00 0f f7 00", allow=Allow.NO_MEDIUM)
def start_stop_unit(unit: LogicalUnit, task: Task) -> Outcome:
    """
    START STOP UNIT (SBC-4 section 5.31).

    There is nothing to spin down: stopping flushes, and the medium stays ready, as in
    SCST.  A removable medium can be ejected and loaded again, which is told with a unit
    attention, unless a nexus prevents it.
    """
    condition, flags = task.cdb[4] >> 4, task.cdb[4]
    if condition:
        return None
    start, eject, no_flush = flags & 1, flags & 2, flags & 4
    if eject:
        if not unit.removable:
            raise illegal_field(4, 1)
        if any(itl.prevents_removal for itl in unit.itls):
            raise CheckCondition(SenseKey.ILLEGAL_REQUEST, ASC.MEDIUM_REMOVAL_PREVENTED)
        if not start:
            unit.stop(ASC.MEDIUM_NOT_PRESENT)
        elif unit.stopped:
            unit.stop(0)
            unit.attention(
                ASC.NOT_READY_TO_READY_CHANGE_MEDIUM_MAY_HAVE_CHANGED, but=task.itl
            )
    if start or no_flush:
        return None
    return unit.store.flush()


@SBC.command(
    0x1E,
    "PREVENT ALLOW MEDIUM REMOVAL",
    "1e 00 00 00 03 00",
    allow=Allow.NO_MEDIUM,
    exists=lambda unit: unit.removable,
)
def prevent_allow(unit: LogicalUnit, task: Task) -> None:
    """PREVENT ALLOW MEDIUM REMOVAL (SBC-4 section 5.13), for each nexus of its own."""
    del unit
    task.itl.prevents_removal = bool(task.cdb[4] & 1)


@SBC.command(
    0x9E,
    "GET LBA STATUS",
    "9e 1f ff ff ff ff ff ff ff ff ff ff ff ff 00 00",
    service_action=0x12,
    allow=_READS,
    exists=lambda unit: unit.thin,
)
def get_lba_status(unit: LogicalUnit, task: Task) -> Outcome:
    """GET LBA STATUS (SBC-4 section 5.5)."""
    lba = int.from_bytes(task.cdb[2:10], "big")
    length = int.from_bytes(task.cdb[10:14], "big")
    if lba >= unit.blocks:
        raise CheckCondition(
            SenseKey.ILLEGAL_REQUEST, ASC.LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE
        )
    most = max(1, (length - 8) // 16)
    shift = unit.block_shift

    def render(extents: list[tuple[int, int, bool]]) -> bytes:
        body = b"".join(
            pack(">QIB3x", start, min(blocks, 0xFFFFFFFF), 0 if mapped else 1)
            for start, blocks, mapped in extents[:most]
        )
        return (pack(">Ixxxx", 4 + len(body)) + body)[:length]

    status = unit.block_status
    if status is None:
        return render([(lba, unit.blocks - lba, True)])
    found = status.block_status(lba << shift, (unit.blocks - lba) << shift)
    if isinstance(found, Deferred):
        status_data: Deferred[Buffer] = found.addCallback(
            lambda extents: render(_in_blocks(extents, shift))
        )
        return status_data
    return render(_in_blocks(found, shift))


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
