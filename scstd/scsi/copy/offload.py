# SPDX-License-Identifier: MIT
"""
POPULATE TOKEN and WRITE USING TOKEN (SBC-4 sections 5.12 and 5.59): Windows' offloaded
data transfer.

What kind of token there is, and why, is told in `scstd.scsi.copy.tokens`.  One can be
used in any session of the initiator that made it, and of any other that sees the unit
whose data it stands for: the data is read as the one who asks may read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from struct import unpack_from

from twisted.internet.defer import Deferred

from scstd.scsi.allow import Allow
from scstd.scsi.command import CommandSet, Outcome
from scstd.scsi.copy.ends import DESTINATION, EndFailed
from scstd.scsi.copy.extended import bounded, managed
from scstd.scsi.copy.limits import (
    DEFAULT_INACTIVITY,
    MOST_INACTIVITY,
    MOST_RANGES,
    MOST_TOKEN_BYTES,
)
from scstd.scsi.copy.mover import Mover, Stream
from scstd.scsi.copy.operations import CopyOperation, originate
from scstd.scsi.copy.tokens import (
    ANY_POINT_IN_TIME,
    CHANGE_VULNERABLE,
    POINT_IN_TIME,
    TOKEN_LENGTH,
    ZERO,
    Blocks,
    Token,
    invalid,
    written,
)
from scstd.scsi.sam import ITL, Status, Task
from scstd.scsi.sense import (
    ASC,
    CheckCondition,
    FieldPointer,
    Forwarded,
    SenseKey,
    illegal_parameter,
    list_length_error,
)
from scstd.scsi.unit import LogicalUnit

COMMANDS = CommandSet()

_USAGE = "83 1f 00 00 00 00 ff ff ff ff ff ff ff ff 1f 00"
_POPULATE_HEADER, _WRITE_HEADER = 16, 536
_MOST_LIST = 2 + 0xFFFF
"""Bytes that a parameter list can say it has."""

_ROD_TYPES = {
    POINT_IN_TIME: POINT_IN_TIME,
    CHANGE_VULNERABLE: CHANGE_VULNERABLE,
    ANY_POINT_IN_TIME: CHANGE_VULNERABLE,
}
"""By the ROD type asked for, the one that is made."""


def _ranges(unit: LogicalUnit, data: bytes, at: int) -> Sequence[Blocks]:
    """
    Return the block device range descriptors (SBC-4 section 5.12.3); their length is
    in the two bytes before *at*.
    """
    length = int.from_bytes(data[at - 2 : at], "big")
    if length < 16:
        raise illegal_parameter(at - 2)
    count = min(length, len(data) - at) // 16
    if count > MOST_RANGES:
        raise CheckCondition(
            SenseKey.ILLEGAL_REQUEST,
            ASC.TOO_MANY_SEGMENT_DESCRIPTORS,
            FieldPointer(at - 2, in_cdb=False),
        )
    found = [unpack_from(">QI", data, at + 16 * one) for one in range(count)]
    for number, (lba, blocks) in enumerate(found):
        if lba + blocks > unit.blocks:
            raise CheckCondition(
                SenseKey.ILLEGAL_REQUEST,
                ASC.LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE,
                FieldPointer(at + 16 * number, in_cdb=False),
            )
    ranges = [one for one in found if one[1]]
    ordered = sorted(ranges)
    for (lba, blocks), (following, _blocks) in pairwise(ordered):
        if lba + blocks > following:
            raise illegal_parameter(at)
    if sum(blocks for _lba, blocks in ranges) << unit.block_shift > MOST_TOKEN_BYTES:
        raise illegal_parameter(at)
    return ranges


@COMMANDS.command(
    0x83,
    "POPULATE TOKEN",
    _USAGE,
    service_action=0x10,
    allow=Allow.WRITE_EXCLUSIVE,
    data_out=bounded(_MOST_LIST),
    exists=managed,
)
def populate_token(unit: LogicalUnit, task: Task) -> Outcome:
    """POPULATE TOKEN (SBC-4 section 5.12)."""
    if not task.data_out_length:
        return None
    data = bytes(task.data_out)
    if len(data) < _POPULATE_HEADER:
        raise list_length_error()
    length, flags, inactivity, rod_type = unpack_from(">HBxII", data)
    if length < 30:
        raise illegal_parameter(0)
    if inactivity > MOST_INACTIVITY:
        raise illegal_parameter(4)
    if not flags & 2:
        rod_type = CHANGE_VULNERABLE
    elif rod_type not in _ROD_TYPES:
        raise illegal_parameter(8)
    blocks = _ranges(unit, data, _POPULATE_HEADER)

    async def work(operation: CopyOperation) -> None:
        if not blocks:
            return
        token = operation.manager.tokens.create(
            operation.itl,
            _ROD_TYPES[rod_type],
            blocks,
            inactivity or DEFAULT_INACTIVITY,
        )
        await _writers(unit, token)
        operation.check()
        operation.token = token.data
        total = sum(count for _lba, count in blocks)
        operation.transferred = total << unit.block_shift

    return _originate(unit, task, work, immediate=bool(flags & 1))


async def _writers(unit: LogicalUnit, token: Token) -> None:
    """
    Wait for the writes to the token's blocks that had begun before there was a token:
    those after it cancel it.
    """
    busy = {
        task
        for task in unit.tasks()
        if task.started
        and not task.finished
        and any(token.touched_by(first, end) for first, end in written(task))
    }
    if not busy:
        return
    over: Deferred[None] = Deferred()

    def gone(task: Task) -> None:
        busy.discard(task)
        if not busy:
            over.callback(None)

    for task in busy:
        task.when_over(gone)
    await over


def _originate(
    unit: LogicalUnit, task: Task, work: object, *, immediate: bool
) -> Outcome:
    list_id = int.from_bytes(task.cdb[6:10], "big")
    return originate(
        task,
        list_id,
        work,  # type: ignore[arg-type]
        immediate=immediate,
        in_blocks=unit.block_size,
    )


@COMMANDS.command(
    0x83,
    "WRITE USING TOKEN",
    _USAGE,
    service_action=0x11,
    data_out=bounded(_MOST_LIST),
    exists=managed,
)
def write_using_token(unit: LogicalUnit, task: Task) -> Outcome:
    """WRITE USING TOKEN (SBC-4 section 5.59)."""
    if unit.write_protected or task.itl.read_only:
        raise CheckCondition(SenseKey.DATA_PROTECT, ASC.WRITE_PROTECTED)
    if not task.data_out_length:
        return None
    data = bytes(task.data_out)
    if len(data) < _WRITE_HEADER:
        raise list_length_error()
    length, flags, offset = unpack_from(">HB5xQ", data)
    if length < 550 or length != int.from_bytes(data[534:536], "big") + 534:
        raise illegal_parameter(0)
    ranges = _ranges(unit, data, _WRITE_HEADER)
    copy = _Offload(unit, task.itl, data[16 : 16 + TOKEN_LENGTH], ranges)
    copy.begin(offset << unit.block_shift, delete=bool(flags & 2))
    return _originate(unit, task, copy.work, immediate=bool(flags & 1))


class _Offload:
    """
    One WRITE USING TOKEN.
    """

    def __init__(
        self, unit: LogicalUnit, itl: ITL, data: bytes, ranges: Sequence[Blocks]
    ) -> None:
        assert unit.copies is not None
        self.unit = unit
        self.itl = itl
        self.tokens = unit.copies.tokens
        self.token: Token | None = None
        self.stream = Stream(None, [])
        self.data = data
        shift = unit.block_shift
        self.ranges = [(lba << shift, count << shift) for lba, count in ranges]
        self.wanted = sum(count for _at, count in self.ranges)
        self.offset = 0
        self.delete = False

    def begin(self, offset: int, *, delete: bool) -> None:
        """
        Find the token; *offset* is where to begin in what it stands for.

        :raises CheckCondition: it is none, or not there.
        """
        self.offset, self.delete = offset, delete
        if int.from_bytes(self.data[:4], "big") == ZERO:
            if int.from_bytes(self.data[6:8], "big") != TOKEN_LENGTH - 8:
                raise invalid(ASC.INVALID_TOKEN_LENGTH)
            return
        token = self.tokens.find(self.data)
        shift = token.unit.block_shift
        source = _source(self.itl, token)
        ranges = [(lba << shift, count << shift) for lba, count in token.blocks]
        self.stream = Stream(source, ranges)
        if offset >= self.stream.length:
            raise illegal_parameter(8)
        self.token = token

    def valid(self) -> None:
        """
        :raises CheckCondition: what was read is not what the token stands for.
        """
        if self.token is not None:
            self.token.check()

    async def work(self, operation: CopyOperation) -> None:
        """
        Write what there is, whole blocks, zeros behind the last byte.

        :raises CheckCondition: it failed, or there was less than asked for.
        """
        if self.token is not None:
            self.tokens.use(self.token)
        try:
            await self._move(operation)
        finally:
            if self.token is not None:
                self.tokens.used(self.token, delete=self.delete)

    async def _move(self, operation: CopyOperation) -> None:
        ranges, total = self.ranges, self.wanted
        if self.stream.itl is not None:
            left = self.stream.length - self.offset
            block = self.unit.block_size
            total = min(total, -(-left // block) * block)
            ranges = list(_first(ranges, total))
            operation.hold(self.stream.itl)
        mover = Mover(operation, self.stream, self.itl, self.valid)
        try:
            await mover.move(self.offset, ranges)
        except EndFailed as failed:
            raise _failure(failed) from None
        if total < self.wanted:
            raise CheckCondition(
                SenseKey.COPY_ABORTED if total else SenseKey.ILLEGAL_REQUEST,
                ASC.COPY_TARGET_DEVICE_DATA_UNDERRUN,
                information=total >> self.unit.block_shift,
            )


def _first(ranges: Sequence[Blocks], length: int) -> Sequence[Blocks]:
    """
    Return the first *length* bytes of some ranges.
    """
    found = []
    for offset, size in ranges:
        if length <= 0:
            break
        found.append((offset, min(size, length)))
        length -= size
    return found


def _source(itl: ITL, token: Token) -> ITL:
    """
    Return the nexus through which *itl* reads the data of a token: its own, or one of
    another session of the same initiator.

    :raises CheckCondition: it may not see the unit at all.
    """
    nexus = itl.nexus
    found = [
        one
        for one in token.unit.itls
        if one.nexus is nexus or one.nexus.initiator == nexus.initiator
    ]
    if not found:
        raise invalid(ASC.INVALID_TOKEN_CAUSE_NOT_REPORTABLE)
    return min(found, key=lambda one: one.nexus is not nexus)


def _failure(failed: EndFailed) -> CheckCondition:
    """
    Return what the command ends with: what its own unit said, or COPY ABORTED with what
    the source said.
    """
    task = failed.task
    if failed.end == DESTINATION and task.failure is not None and not task.aborted:
        return task.failure
    status = Status.TASK_ABORTED if task.aborted else task.status
    return CheckCondition(
        SenseKey.COPY_ABORTED,
        ASC.THIRD_PARTY_DEVICE_FAILURE,
        forwarded=Forwarded(failed.end, status, b"" if task.aborted else task.sense),
    )
