# SPDX-License-Identifier: MIT
"""
EXTENDED COPY and COPY OPERATION ABORT (SPC-5 sections 6.3 to 6.5): VMware's clones.

Copies are made between the logical units that the nexus sees through its own LUN map,
and as it may use them; whoever cannot see a unit cannot copy from or to it.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from scstd.scsi.allow import Allow
from scstd.scsi.command import CommandSet, DataOut, Outcome
from scstd.scsi.copy.descriptors import (
    CSCD,
    LID1_HEADER,
    LID4_HEADER,
    NO_LIST_ID,
    CopyList,
    Segment,
    parse,
)
from scstd.scsi.copy.ends import SOURCE, EndFailed, read, write
from scstd.scsi.copy.limits import MOST_LIST, MOST_SEGMENT_BYTES
from scstd.scsi.copy.mover import Mover, Stream
from scstd.scsi.copy.offsets import get, pieces, put
from scstd.scsi.copy.operations import CopyOperation, Stopped, originate
from scstd.scsi.nexus import Nexus
from scstd.scsi.sam import ITL, Status, Task
from scstd.scsi.sense import (
    ASC,
    CheckCondition,
    FieldPointer,
    Forwarded,
    SenseKey,
    illegal_field,
    list_length_error,
)
from scstd.scsi.spc import vpd
from scstd.scsi.unit import LogicalUnit

COMMANDS = CommandSet()

_ITSELF = 0xFFFF
"""The CSCD descriptor ID of the unit that the command was sent to."""


def bounded(most: int) -> DataOut:
    """
    Return the Data-Out of a command with a PARAMETER LIST LENGTH in bytes 10 to 13, of
    *most* bytes.
    """

    def length(unit: LogicalUnit, task: Task) -> int:
        del unit
        found = int.from_bytes(task.cdb[10:14], "big")
        if found > most:
            raise list_length_error()
        return found

    return length


def managed(unit: LogicalUnit) -> bool:
    """
    Say whether a unit has a copy manager.
    """
    return unit.copies is not None


@COMMANDS.command(
    0x83,
    "EXTENDED COPY(LID1)",
    "83 1f 00 00 00 00 00 00 00 00 ff ff ff ff 00 00",
    service_action=0x00,
    data_out=bounded(LID1_HEADER + MOST_LIST),
    exists=managed,
)
@COMMANDS.command(
    0x83,
    "EXTENDED COPY(LID4)",
    "83 1f 00 00 00 00 00 00 00 00 ff ff ff ff 00 00",
    service_action=0x01,
    data_out=bounded(LID4_HEADER + MOST_LIST),
    exists=managed,
)
def extended_copy(unit: LogicalUnit, task: Task) -> Outcome:
    """EXTENDED COPY (SPC-5 sections 6.4 and 6.5)."""
    del unit
    if not task.data_out_length:
        return None
    data = bytes(task.data_out)
    if len(data) < task.data_out_length:
        raise list_length_error()
    copy = parse(data, lid4=bool(task.cdb[1] & 1))

    async def work(operation: CopyOperation) -> None:
        ends: dict[int, _End] = {}
        for number, segment in enumerate(copy.segments):
            operation.segments = number + 1
            await _Segment(operation, copy, ends, segment, number).carry_out()

    named = None if copy.usage == NO_LIST_ID else copy.list_id
    return originate(task, named, work, immediate=copy.immediate)


@COMMANDS.command(
    0x83,
    "COPY OPERATION ABORT",
    "83 1f ff ff ff ff 00 00 00 00 00 00 00 00 00 00",
    service_action=0x1C,
    exists=managed,
    allow=Allow.READY,
)
def copy_operation_abort(unit: LogicalUnit, task: Task) -> Outcome:
    """COPY OPERATION ABORT (SPC-5 section 6.3): answered when it has stopped."""
    del unit
    operation = task.itl.copies.get(int.from_bytes(task.cdb[2:6], "big"))
    if operation is None or not operation.running:
        raise illegal_field(2)
    return operation.abort()


def designators(itl: ITL) -> Iterator[tuple[int, int, int, bytes]]:
    """
    Yield the designators of a unit, as VPD page 83h shows them to its nexus: code set,
    association, type, and the designator.
    """
    page = vpd.page(itl.unit, 0x83, itl)
    at = 4
    while at + 4 <= len(page):
        end = at + 4 + page[at + 3]
        first, second = page[at], page[at + 1]
        yield first & 0x0F, second >> 4 & 3, second & 0x0F, page[at + 4 : end]
        at = end


def find_unit(nexus: Nexus, cscd: CSCD) -> ITL | None:
    """
    Return the unit that a CSCD descriptor names, as *nexus* sees it: where it does so
    several times, there where it may write.
    """
    wanted = (cscd.code_set, 0, cscd.designator_type, cscd.designator)
    if cscd.association or not cscd.designator:
        return None
    itls = sorted(nexus.itls.values(), key=lambda itl: itl.read_only)
    return next((itl for itl in itls if wanted in designators(itl)), None)


@attrs.frozen
class _End:
    """
    One end of a segment; *at* is where the list describes it, or None.
    """

    itl: ITL
    at: int | None


@attrs.define
class _Segment:
    """
    One segment of an EXTENDED COPY at work; *ends* are those found so far, by CSCD
    descriptor ID.
    """

    operation: CopyOperation
    copy: CopyList
    ends: dict[int, _End]
    segment: Segment
    number: int
    left: int = 0
    written: bool = False

    def _wrong(self, asc: int, at: int | None = None) -> CheckCondition:
        """Return COPY ABORTED with the number of the segment and a field pointer."""
        field = None if at is None else FieldPointer(at, in_cdb=False)
        return CheckCondition(SenseKey.COPY_ABORTED, asc, field, specific=self.number)

    def _end(self, name: int, at: int) -> _End:
        """
        Return the unit that a CSCD descriptor ID names; *at* is where that is.
        """
        if name == _ITSELF:
            return _End(self.operation.itl, None)
        if name in self.ends:
            return self.ends[name]
        index = name - self.copy.first_id
        if not 0 <= index < len(self.copy.cscds):
            raise self._wrong(ASC.UNREACHABLE_COPY_TARGET, at)
        cscd = self.copy.cscds[index]
        itl = None if cscd.null else find_unit(self.operation.itl.nexus, cscd)
        if itl is None:
            raise self._wrong(ASC.COPY_TARGET_DEVICE_NOT_REACHABLE, cscd.at)
        if cscd.device_type != itl.unit.device_type:
            raise self._wrong(ASC.INCORRECT_COPY_TARGET_DEVICE_TYPE, cscd.at)
        if cscd.block_length not in {0, itl.unit.block_size}:
            raise self._wrong(ASC.INVALID_FIELD_IN_PARAMETER_LIST, cscd.at + 29)
        end = self.ends[name] = _End(itl, cscd.at)
        return end

    async def carry_out(self) -> None:
        """
        Copy it.

        :raises CheckCondition: COPY ABORTED.
        """
        segment = self.segment
        source = self._end(segment.source, segment.at + 4)
        target = self._end(segment.destination, segment.at + 6)
        counted = target if segment.destination_count else source
        length = segment.length
        if length is None:
            length = segment.blocks << counted.itl.unit.block_shift
        if not length:
            return
        if segment.length is None:
            offset = self._range(source, segment.source_lba, length, segment.at + 12)
            to = self._range(target, segment.destination_lba, length, segment.at + 20)
        else:
            offset, to = self._places(source, target, length)
        self.left = length
        try:
            self.operation.hold(source.itl)
            self.operation.hold(target.itl)
            block = max(source.itl.unit.block_size, target.itl.unit.block_size)
            if (offset | to | length) % block and segment.length is not None:
                await self._bytes(source, offset, target, to, length)
            else:
                await self._blocks(source, offset, target, to, length)
        except EndFailed as failed:
            end = source if failed.end == SOURCE else target
            # Bytes, or blocks, as the segment counts.
            left = self.left
            if segment.length is None:
                left >>= target.itl.unit.block_shift
            raise self._failed(failed, end, left if self.written else None) from None
        except Stopped as stopped:
            stopped.specific = self.number
            raise

    async def _blocks(
        self, source: _End, offset: int, target: _End, to: int, length: int
    ) -> None:
        mover = Mover(
            self.operation, Stream(source.itl, [(offset, length)]), target.itl
        )
        try:
            await read(self.operation, source.itl, offset, 0)
            await write(self.operation, target.itl, to, b"")
            same = source.itl.unit is target.itl.unit
            if same and abs(to - offset) < length:
                await mover.shift(offset, to, length)
            else:
                await mover.move(0, [(to, length)])
        finally:
            self.left, self.written = length - mover.moved, mover.written

    async def _bytes(
        self, source: _End, offset: int, target: _End, to: int, length: int
    ) -> None:
        operation = self.operation
        same = source.itl.unit is target.itl.unit
        backwards = same and offset < to < offset + length
        found = pieces(source.itl, target.itl, to, length)
        for start, size in reversed(found) if backwards else found:
            data = await get(operation, source.itl, offset + start, size)
            await put(operation, target.itl, to + start, data)
            self.written = True
            if not backwards:
                # Else there is a gap at the beginning until it is all there.
                self.left -= size
                operation.transferred += size
            await operation.manager.yield_to_reactor()
        operation.transferred += length if backwards else 0

    def _places(self, source: _End, target: _End, length: int) -> tuple[int, int]:
        """
        Return the offsets of the bytes that a segment with offsets moves.
        """
        segment = self.segment
        if length > MOST_SEGMENT_BYTES:
            raise self._wrong(ASC.INVALID_FIELD_IN_PARAMETER_LIST, segment.at + 8)
        found = []
        for end, lba, offset, at in (
            (source, segment.source_lba, segment.source_offset, 12),
            (target, segment.destination_lba, segment.destination_offset, 20),
        ):
            unit = end.itl.unit
            if offset >= unit.block_size:
                where = segment.at + (28 if end is source else 30)
                raise self._wrong(ASC.INVALID_FIELD_IN_PARAMETER_LIST, where)
            first = (lba << unit.block_shift) + offset
            if first + length > unit.blocks << unit.block_shift:
                raise self._wrong(ASC.NO_ADDITIONAL_SENSE_INFORMATION, segment.at + at)
            found.append(first)
        return found[0], found[1]

    def _range(self, end: _End, lba: int, length: int, at: int) -> int:
        """
        Return the offset of a range that is there, in whole blocks.
        """
        unit = end.itl.unit
        if length % unit.block_size:
            raise self._wrong(ASC.UNEXPECTED_INEXACT_SEGMENT, self.segment.at + 10)
        if lba + (length >> unit.block_shift) > unit.blocks:
            # The field pointer says it: no code of SPC-5 section 5.17.7.4 fits, and
            # initiators look for those.
            raise self._wrong(ASC.NO_ADDITIONAL_SENSE_INFORMATION, at)
        return lba << unit.block_shift

    def _failed(
        self, failed: EndFailed, end: _End, residual: int | None
    ) -> CheckCondition:
        """
        Return what the operation ends with because a command to one end failed (SPC-5
        section 5.17.7.4).
        """
        task = failed.task
        status = Status.TASK_ABORTED if task.aborted else task.status
        error = self._wrong(ASC.THIRD_PARTY_DEVICE_FAILURE, end.at)
        error.information = residual
        sense = b"" if task.aborted else task.sense
        error.forwarded = Forwarded(failed.end, status, sense)
        return error
