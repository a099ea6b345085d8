# SPDX-License-Identifier: MIT
"""
Moving data from one logical unit to another: in bounded pieces, several under way.

A piece is a read of the source and a write of the destination, or one copy that the
destination's store makes by itself (`scstd.scsi.copy.kernel`).  Holes of a source that
knows them are not read, and become holes of a destination that is thin.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from itertools import accumulate
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from scstd.interfaces import Buffer
from scstd.scsi.asking import for_copy
from scstd.scsi.copy import kernel
from scstd.scsi.copy.ends import read, write, zero
from scstd.scsi.copy.operations import CopyOperation
from scstd.scsi.sam import ITL

PIECE = 1 << 20
"""Bytes that are read and written at once."""

KERNEL_PIECE = 4 << 20
"""Bytes that a store is asked to copy at once: no abort waits for more."""

ZEROED = 16 << 20
"""Bytes that are made zeros at once."""

CHART = 64 << 20
"""Bytes whose holes are asked for at once."""

DEPTH = 4
"""Pieces of one operation under way."""

Range = tuple[int, int]
"""Offset and length in bytes."""


@attrs.frozen(eq=False)
class Stream:
    """
    The bytes of some ranges of a logical unit, one after another; of no unit: zeros.
    """

    itl: ITL | None
    ranges: Sequence[Range]
    _starts: Sequence[int] = attrs.field(init=False)

    @_starts.default
    def _sum(self) -> Sequence[int]:
        return list(accumulate((length for _at, length in self.ranges), initial=0))

    @property
    def length(self) -> int:
        """How many there are."""
        return self._starts[-1]

    def locate(self, position: int) -> Range:
        """
        Return where the byte at *position* is, and how many there are from it on.
        """
        number = bisect_right(self._starts, position) - 1
        offset, length = self.ranges[number]
        skipped = position - self._starts[number]
        return offset + skipped, length - skipped


@attrs.frozen
class Piece:
    """
    *length* bytes for *target*: from *source* where they are in one run, from
    *position* of the stream where they are not, else zeros.
    """

    target: int
    length: int
    source: int | None = None
    position: int | None = None


class _Window:
    """
    Pieces under way, so many at most; the first failure is kept.
    """

    def __init__(self, depth: int) -> None:
        self.failure: Failure | None = None
        self._free = depth
        self._depth = depth
        self._waiting: Deferred[None] | None = None

    def add(self, work: Coroutine[Any, Any, None]) -> None:
        """
        Start one.
        """
        self._free -= 1
        Deferred.fromCoroutine(work).addErrback(self._failed).addCallback(self._over)

    def _failed(self, failure: Failure) -> None:
        if self.failure is None:
            self.failure = failure

    def _over(self, _result: None) -> None:
        self._free += 1
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    async def room(self, pieces: int = 1) -> None:
        """
        Wait until so many more may be started.
        """
        while self._free < pieces:
            self._waiting = Deferred()
            await self._waiting

    async def empty(self) -> None:
        """
        Wait until none is under way.
        """
        await self.room(self._depth)


@attrs.define(eq=False)
class Mover:
    """
    Moves a stream, or part of it, to ranges of a logical unit.
    """

    operation: CopyOperation
    stream: Stream
    target: ITL
    valid: Callable[[], None] = lambda: None
    """Asked before what was read is written; it raises if it may not be."""
    moved: int = attrs.field(default=0, init=False)
    """Bytes moved without a gap."""
    written: bool = attrs.field(default=False, init=False)
    """Whether any were."""
    _kernel: bool = attrs.field(init=False)
    _over: dict[int, int] = attrs.field(factory=dict, init=False)
    """Lengths of pieces that are moved behind a gap, by their numbers."""
    _next: int = attrs.field(default=0, init=False)
    """The number of the first piece that is not moved."""

    @_kernel.default
    def _possible(self) -> bool:
        return kernel.possible(self.stream.itl, self.target)

    async def move(self, position: int, ranges: Sequence[Range]) -> None:
        """
        Move the bytes from *position* on to *ranges*: zeros behind the last one.

        :raises EndFailed: a command failed.
        :raises CheckCondition: the operation was aborted, or *valid* raised.
        """
        window = _Window(DEPTH)
        number = 0
        try:
            async for piece in self._plan(position, ranges):
                await window.room()
                if window.failure is not None:
                    break
                window.add(self._one(number, piece))
                number += 1
                await self.operation.manager.yield_to_reactor()
        finally:
            await window.empty()
        if window.failure is not None:
            window.failure.raiseException()

    async def shift(self, source: int, target: int, length: int) -> None:
        """
        Move bytes to a range of the same unit that overlaps: one piece after another,
        from that end where nothing is overwritten that is still to be read.
        """
        forwards = target <= source
        piece = self._piece
        starts = range(0, length, piece)
        for start in starts if forwards else reversed(starts):
            size = min(piece, length - start)
            await self._move(Piece(target + start, size, source=source + start))
            if forwards:
                self._progress(size)
            await self.operation.manager.yield_to_reactor()
        if not forwards:
            # There was a gap at the beginning until now.
            self._progress(length)

    @property
    def _piece(self) -> int:
        """How much is read and written at once: as much as both units take."""
        ends = [self.target, self.stream.itl or self.target]
        most = [
            itl.unit.volume.limits.max_blocks << itl.unit.block_shift
            for itl in ends
            if itl.unit.volume.limits.max_blocks
        ]
        block = max(4096, *(itl.unit.block_size for itl in ends))
        return max(min([PIECE, *most]) // block * block, block)

    # What is to be done.

    async def _plan(
        self, position: int, ranges: Sequence[Range]
    ) -> AsyncIterator[Piece]:
        source, block = self.stream.itl, self.target.unit.block_size
        if source is None:
            for offset, length in ranges:
                for piece in self._zeros(offset, length):
                    yield piece
            return
        theirs = source.unit.block_size
        grain = max(block, theirs)
        for offset, length in ranges:
            at, end = offset, offset + length
            while at < end:
                found = run = 0
                if position < self.stream.length:
                    found, run = self.stream.locate(position)
                size = min(run, end - at, CHART) // grain * grain
                if size and not found % theirs:
                    async for piece in self._chart(source, found, at, size, grain):
                        yield piece
                else:
                    # No whole block of both in one run: gathered.
                    size = min(max(block, run // block * block), self._piece, end - at)
                    yield Piece(at, size, position=position)
                at += size
                position += size

    async def _chart(
        self, itl: ITL, source: int, target: int, length: int, grain: int
    ) -> AsyncIterator[Piece]:
        """
        Yield the pieces of one run: the holes, and what is between them.
        """
        at = 0
        while at < length:
            for size, mapped in await self._extents(
                itl, source + at, length - at, grain
            ):
                pieces = (
                    self._data(source + at, target + at, size)
                    if mapped
                    else self._zeros(target + at, size)
                )
                for piece in pieces:
                    yield piece
                at += size

    async def _extents(
        self, itl: ITL, offset: int, length: int, grain: int
    ) -> Sequence[tuple[int, bool]]:
        """
        Return the lengths of data (True) and holes from *offset* on, in units of
        *grain*; one that is partly mapped is data.
        """
        status = itl.unit.volume.can.block_status
        if status is None:
            return [(length, True)]
        self.operation.check()
        try:
            found = for_copy(itl, lambda: status.block_status(offset, length))
            extents = await found if isinstance(found, Deferred) else found
        except OSError:
            # Whatever it is, a read says it better.
            return [(length, True)]
        runs: list[tuple[int, bool]] = []
        at = 0
        for extent in extents:
            end = min(extent.offset + extent.length - offset, length)
            end = (-(-end // grain) if extent.mapped else end // grain) * grain
            if end > at:
                runs.append((end - at, extent.mapped))
                at = end
        return runs or [(length, True)]

    def _zeros(self, target: int, length: int) -> Sequence[Piece]:
        unit = self.target.unit
        most = min(ZEROED, unit.volume.limits.max_same << unit.block_shift) or PIECE
        return [
            Piece(target + at, min(most, length - at)) for at in range(0, length, most)
        ]

    def _data(self, source: int, target: int, length: int) -> Sequence[Piece]:
        size = KERNEL_PIECE if self._kernel else self._piece
        return [
            Piece(target + at, min(size, length - at), source=source + at)
            for at in range(0, length, size)
        ]

    # Doing it.

    async def _one(self, number: int, piece: Piece) -> None:
        await self._move(piece)
        self._over[number] = piece.length
        while self._next in self._over:
            self._progress(self._over.pop(self._next))
            self._next += 1

    def _progress(self, length: int) -> None:
        self.moved += length
        self.operation.transferred += length

    async def _move(self, piece: Piece) -> None:
        itl = self.stream.itl
        operation, target = self.operation, self.target
        if piece.position is not None:
            await self._write(piece.target, await self._gather(piece))
            return
        if piece.source is None or itl is None:
            self.valid()
            await zero(operation, target, piece.target, piece.length)
            self.written = True
            return
        if self._kernel and not (itl.unit.volume.locks or target.unit.volume.locks):
            copied = await kernel.copy(
                operation, itl, piece.source, target, piece.target, piece.length
            )
            if copied:
                self.written = True
                self.valid()
                return
            self._kernel = False
        most = self._piece
        for at in range(0, piece.length, most):
            size = min(most, piece.length - at)
            data = await read(operation, itl, piece.source + at, size)
            await self._write(piece.target + at, data)

    async def _write(self, offset: int, data: Buffer) -> None:
        self.valid()
        await write(self.operation, self.target, offset, data)
        self.written = True

    async def _gather(self, piece: Piece) -> Buffer:
        """
        Return the bytes of a piece that are not in one run; zeros behind the last.
        """
        itl, position = self.stream.itl, piece.position
        assert itl is not None
        assert position is not None
        block = itl.unit.block_size
        parts: list[Buffer] = []
        left = piece.length
        while left and position < self.stream.length:
            found, run = self.stream.locate(position)
            size = min(run, left)
            first = found // block * block
            whole = -(-(found + size) // block) * block - first
            data = await read(self.operation, itl, first, whole)
            parts.append(memoryview(data)[found - first : found - first + size])
            position += size
            left -= size
        return b"".join((*parts, bytes(left)))
