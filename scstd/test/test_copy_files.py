# SPDX-License-Identifier: MIT
"""
Tests for copies between files: by the kernel where it can, through the filters where
there are any.
"""

from __future__ import annotations

import errno
import os
from functools import partial
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from scstd.attributes import parse_values
from scstd.filters import delay, error
from scstd.filters.base import Filtered
from scstd.handlers import fileio
from scstd.interfaces import ICopySource, ICopyTarget
from scstd.results import settled
from scstd.scsi.sam import ITL, Task
from scstd.test.copying import (
    list_1,
    naa,
    offload,
    populate,
    segment,
    write_using,
    xcopy,
)
from scstd.test.initiator import Initiator, serve
from scstd.test.test_copy import pattern

SIZE = 16 << 20
BLOCKS = SIZE >> 9


def _same(over: Deferred[None]) -> Deferred[None]:
    return over


class FileCopyTests(TestCase):
    """
    Two files as disks.
    """

    async def open(self) -> Any:
        """Return a store on a new file."""
        values = parse_values(
            fileio.PARAMETERS, {"filename": self.mktemp(), "size": str(SIZE)}.items()
        )
        store: Any = await fileio.open(reactor, "disk", values)
        self.addCleanup(store.close)
        return store

    def setUp(self) -> None:
        """Count what the kernel copies."""
        self.kernel: list[int] = []
        inner = os.copy_file_range

        def counted(*args: Any) -> int:
            count = inner(*args)
            self.kernel.append(count)
            return count

        self.patch(os, "copy_file_range", counted)

    def connect(self, *stores: Any) -> list[ITL]:
        """Serve stores; return the nexus at each."""
        node, _target, self.units = serve(*stores)
        self.one = Initiator(node).ready()
        session = self.one.connection.session
        assert session is not None
        return list(session.nexus.itls.values())

    async def copy(self, itls: list[ITL], *segments: bytes) -> Task:
        """Carry out an EXTENDED COPY; return its task."""
        data = list_1([naa(unit) for unit in self.units], segments)
        return await itls[0].unit.perform(itls[0], xcopy(data), data)

    async def test_by_the_kernel(self) -> None:
        """The kernel copies all of it, and holes stay holes."""
        source, target = await self.open(), await self.open()
        await settled(source.write(0, pattern(3 << 20), False))
        await settled(source.write(9 << 20, pattern(5 << 20, 2), False))
        await settled(target.write(4 << 20, pattern(1 << 20, 3), False))
        task = await self.copy(self.connect(source, target), segment(BLOCKS))
        self.assertEqual(task.status, 0, task.sense)
        self.assertEqual(sum(self.kernel), 8 << 20)
        whole = bytes(await settled(target.read(0, SIZE)))
        self.assertEqual(whole, bytes(await settled(source.read(0, SIZE))))
        self.assertEqual(os.fstat(target.place(0, 1)[0]).st_blocks * 512, 8 << 20)

    async def test_filters_see_the_data(self) -> None:
        """What passes a filter that reads or writes is not copied by the kernel."""
        seen: list[int] = []

        class Seeing(Filtered):
            def write(self, offset: int, data: Any, fua: bool) -> Any:
                seen.append(len(data))
                return super().write(offset, data, fua)

        class Looking(Filtered):
            def read(self, offset: int, length: int) -> Any:
                seen.append(length)
                return super().read(offset, length)

        def late(store: Any) -> Any:
            values = parse_values(delay.PARAMETERS, {"write": "0.001"}.items())
            return delay.wrap(reactor, "disk", store, values)

        def failing(store: Any) -> Any:
            values = parse_values(error.PARAMETERS, {"after": "99999"}.items())
            return error.wrap(reactor, "disk", store, values)

        for wrap, counted in ((Seeing, True), (late, False), (failing, False)):
            source, target = await self.open(), await self.open()
            await settled(source.write(0, pattern(1 << 20), False))
            itls = self.connect(source, wrap(target))
            self.assertEqual((await self.copy(itls, segment(2048))).status, 0)
            self.assertEqual((self.kernel, sum(seen)), ([], 1 << 20 if counted else 0))
            seen.clear()
        itls = self.connect(Looking(source), target)
        self.assertEqual((await self.copy(itls, segment(2048))).status, 0)
        self.assertEqual((self.kernel, sum(seen)), ([], 1 << 20))
        itls = self.connect(Filtered(source), Filtered(target))
        self.assertEqual((await self.copy(itls, segment(2048))).status, 0)
        self.assertEqual(sum(self.kernel), 1 << 20)

    async def test_withdrawn(self) -> None:
        """A filter withdraws what would let bytes pass it by."""
        store = await self.open()

        class Reading(Filtered):
            def read(self, offset: int, length: int) -> Any:
                return super().read(offset, length)

        class Writing(Filtered):
            def write(self, offset: int, data: Any, fua: bool) -> Any:
                return super().write(offset, data, fua)

        for kind, expected in (
            (Filtered, (True, True)),
            (Reading, (False, False)),
            (Writing, (False, False)),
        ):
            one = kind(store)
            provided = ICopySource.providedBy(one), ICopyTarget.providedBy(one)
            self.assertEqual(provided, expected, kind)

    async def test_where_it_cannot(self) -> None:
        """Another file system: bytes are read and written, all the same."""

        def refuse(*_args: Any) -> int:
            self.kernel.append(0)
            raise OSError(errno.EXDEV, "another file system")

        self.patch(os, "copy_file_range", refuse)
        source, target = await self.open(), await self.open()
        await settled(source.write(0, pattern(SIZE), False))
        task = await self.copy(self.connect(source, target), segment(BLOCKS))
        self.assertEqual(task.status, 0, task.sense)
        self.assertLessEqual(len(self.kernel), 4)
        self.assertEqual(bytes(await settled(target.read(0, SIZE))), pattern(SIZE))

    async def test_no_place(self) -> None:
        """A source that has no place for these bytes now is read, all the same."""

        class Nowhere(Filtered):
            def place(self, offset: int, length: int) -> Any:
                return None

        source, target = await self.open(), await self.open()
        await settled(source.write(0, pattern(1 << 20), False))
        itls = self.connect(Nowhere(source), target)
        self.assertIsNotNone(self.units[0].volume.can.copy_source)
        self.assertEqual((await self.copy(itls, segment(2048))).status, 0)
        self.assertEqual(self.kernel, [])
        found = bytes(await settled(target.read(0, 1 << 20)))
        self.assertEqual(found, pattern(1 << 20))

    async def test_it_fails(self) -> None:
        """An error of the kernel's copy is one of the destination."""

        def refuse(*_args: Any) -> int:
            raise OSError(errno.ENOSPC, "full")

        self.patch(os, "copy_file_range", refuse)
        source, target = await self.open(), await self.open()
        await settled(source.write(0, pattern(1 << 20), False))
        task = await self.copy(self.connect(source, target), segment(2048))
        sense = task.sense
        self.assertEqual((sense[2] & 0xF, sense[12:14]), (0xA, b"\x0d\1"))
        self.assertEqual((sense[9], sense[31:33]), (18, b"\x27\7"))

    async def test_truncated_source(self) -> None:
        """A source whose file has become shorter is a medium error of the source."""
        source, target = await self.open(), await self.open()
        await settled(source.write(0, pattern(4 << 20), False))
        itls = self.connect(source, target)
        source._cache._flags = None
        volume = self.units[0].volume
        volume.can = attrs.evolve(volume.can, block_status=None)
        os.ftruncate(source.place(0, 1)[0], 1 << 20)
        task = await self.copy(itls, segment(8192))
        sense = task.sense
        self.assertEqual((sense[2] & 0xF, sense[8]), (0xA, 18))
        self.assertEqual((sense[21] & 0xF, sense[31]), (3, 0x11))

    async def test_within_a_file(self) -> None:
        """Ranges of one file, apart and overlapping."""
        store = await self.open()
        await settled(store.write(0, pattern(SIZE), False))
        itls = self.connect(store)
        model = bytearray(pattern(SIZE))
        for source, target, blocks in ((0, 16384, 10000), (0, 100, 20000)):
            moved = segment(blocks, source, target, target=0)
            self.assertEqual((await self.copy(itls, moved)).status, 0)
            model[target << 9 : (target + blocks) << 9] = model[
                source << 9 : (source + blocks) << 9
            ]
        self.assertEqual(bytes(await settled(store.read(0, SIZE))), model)
        self.assertGreater(len(self.kernel), 0)

    async def test_not_while_locked(self) -> None:
        """While a command is alone on blocks of either unit, there is no such copy."""
        source, target = await self.open(), await self.open()
        await settled(source.write(0, pattern(1 << 20), False))
        itls = self.connect(source, target)
        for unit in self.units:
            alone = Task(itls[0], 0, 0, bytes(16), 0, lambda _task: None)
            over: Deferred[None] = Deferred()
            held = unit.volume.locks.exclusive(
                alone, 30000, 30001, partial(_same, over)
            )
            self.assertEqual((await self.copy(itls, segment(2048))).status, 0)
            self.assertEqual(self.kernel, [])
            over.callback(None)
            self.assertIsInstance(held, Deferred)
        self.assertEqual((await self.copy(itls, segment(2048))).status, 0)
        self.assertEqual(sum(self.kernel), 1 << 20)

    async def test_tokens(self) -> None:
        """WRITE USING TOKEN by the kernel; such a copy onto a token's blocks ends it."""
        source, target = await self.open(), await self.open()
        await settled(source.write(0, pattern(2 << 20), False))
        one, two = self.connect(source, target)
        data = populate((0, 4096))
        task = await one.unit.perform(one, offload(0x10, data), data)
        self.assertEqual(task.status, 0)
        token = one.copies[7].token
        data = write_using(token, (8192, 4096))
        task = await two.unit.perform(two, offload(0x11, data), data)
        self.assertEqual(task.status, 0)
        self.assertEqual(sum(self.kernel), 2 << 20)
        found = bytes(await settled(target.read(4 << 20, 2 << 20)))
        self.assertEqual(found, pattern(2 << 20))
        moved = segment(8, 8192, 4000, source=1, target=0)
        self.assertEqual((await self.copy([one, two], moved)).status, 0)
        task = await two.unit.perform(two, offload(0x11, data), data)
        self.assertEqual(task.sense[12:14], b"\x23\x08")

    async def test_written_through(self) -> None:
        """Without a volatile cache a copy is durable when it is answered."""
        source, target = await self.open(), await self.open()
        await settled(source.write(0, pattern(1 << 20), False))
        itls = self.connect(source, target)
        flushed: list[int] = []
        inner = os.fdatasync

        def fdatasync(fd: int) -> None:
            flushed.append(fd)
            inner(fd)

        self.patch(os, "fdatasync", fdatasync)
        self.assertEqual((await self.copy(itls, segment(2048))).status, 0)
        self.assertEqual(flushed, [])
        self.units[1].write_cache = False
        self.assertEqual((await self.copy(itls, segment(2048))).status, 0)
        self.assertEqual(set(flushed), {target.place(0, 1)[0]})
