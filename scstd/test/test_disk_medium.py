# SPDX-License-Identifier: MIT
"""
Tests for the medium: what is allocated, prefetching, flushing later, defects, and errors
with their place.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import alsoProvides, noLongerProvides

from scstd.filters.base import Filtered
from scstd.initiator.commands import read10, write10
from scstd.interfaces import Extent, IBlockStatus, IExtents, IPrefetch, MediumError
from scstd.test.initiator import INITIATOR, Initiator
from scstd.test.stores import ManualStore, memory
from scstd.test.test_block import BlockTests, long_cdb


class Holes(Filtered):
    """
    A store with a hole in its every other 4 KiB.
    """

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        alsoProvides(self, IBlockStatus)

    def block_status(self, offset: int, length: int) -> Sequence[Extent]:
        """Tell of one extent."""
        at = offset // 4096
        end = min((at + 1) * 4096, offset + length)
        return [Extent(offset, end - offset, mapped=not at % 2)]


class StatusTests(BlockTests):
    """
    GET LBA STATUS.
    """

    def setUp(self) -> None:
        """Serve a store with holes."""
        self.connect(Holes(memory(65536)))

    def status(self, lba: int, length: int, kind: int = 0, scan: int = 0) -> Any:
        """Return header byte 7 and (first, blocks, state) of each descriptor."""
        if scan:
            cdb = long_cdb(0x12, lba, length, kind, b23=scan)
        else:
            cdb = struct.pack(">BBQIBx", 0x9E, 0x12, lba, length, kind)
        data = self.do(cdb, read=length).data
        self.assertEqual(int.from_bytes(data[:4], "big"), len(data) - 4)
        rows = [struct.unpack_from(">QIB", data, at) for at in range(8, len(data), 16)]
        return data[7], rows

    def test_all(self) -> None:
        """All runs, as many as fit, and why there are no more."""
        self.assertEqual(self.status(3, 40), (3, [(3, 5, 0), (8, 8, 1)]))
        why, rows = self.status(0, 4096)
        self.assertEqual((why, len(rows)), (7, 16))
        self.assertEqual(sum(blocks for _lba, blocks, _state in rows), 128)

    def test_report_types(self) -> None:
        """Some runs, found behind the others."""
        self.assertEqual(self.status(0, 40, 3), (3, [(8, 8, 1), (24, 8, 1)]))
        self.assertEqual(self.status(0, 40, 2), (3, [(0, 8, 0), (16, 8, 0)]))
        self.assertEqual(self.status(8, 4096, 1)[1][0], (8, 8, 1))
        for none in (4, 0x10):
            self.assertEqual(self.status(0, 4096, none), (7, []))
        cdb = struct.pack(">BBQIBx", 0x9E, 0x12, 0, 64, 5)
        self.check(self.do(cdb, read=64), 5, 0x2400)

    def test_scan_length(self) -> None:
        """GET LBA STATUS(32) looks no further than it is asked to."""
        found = self.status(4, 4096, 0, scan=10)
        self.assertEqual(found, (5, [(4, 4, 0), (8, 6, 1)]))
        self.assertEqual(self.status(4, 4096, 3, scan=10)[1], [(8, 6, 1)])
        self.assertEqual(self.status(4, 4096, 2, scan=10)[1], [(4, 4, 0)])
        cdb = long_cdb(0x12, 0, 64, b27=1)
        self.check(self.do(cdb, read=64), 5, 0x2400)

    def test_range(self) -> None:
        """Behind the last block there is nothing."""
        cdb = struct.pack(">BBQIBx", 0x9E, 0x12, 128, 64, 0)
        self.check(self.do(cdb, read=64), 5, 0x2100)


class AllTests(BlockTests):
    """
    GET LBA STATUS of a store that tells all extents of what it is asked about.
    """

    def test_one(self) -> None:
        """With room for one descriptor it is asked about little."""
        asked: list[int] = []

        class Telling(Holes):
            def block_status(self, offset: int, length: int) -> Sequence[Extent]:
                asked.append(length)
                return super().block_status(offset, length)

        self.connect(Telling(memory(8 << 20)))
        data = self.do(struct.pack(">BBQIxx", 0x9E, 0x12, 3, 24), read=24).data
        self.assertEqual(struct.unpack_from(">QIB", data, 8), (3, 5, 0))
        self.assertEqual(asked, [1 << 20])


class Counting(Filtered):
    """
    A store of which many extents can be told, and that notes how many are wanted.
    """

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        alsoProvides(self, IBlockStatus, IExtents)
        self.wanted: list[int] = []

    def extents(self, offset: int, length: int, most: int) -> Sequence[Extent]:
        """Tell of as many as are wanted, each of 512 bytes."""
        self.wanted.append(most)
        end = min(offset + length, offset + 512 * most)
        return [
            Extent(at, 512, mapped=not at >> 9 & 1) for at in range(offset, end, 512)
        ]

    def block_status(self, offset: int, length: int) -> Sequence[Extent]:
        """Be told what nobody wants."""
        raise AssertionError("all extents were asked for")


class WantedTests(StatusTests):
    """
    GET LBA STATUS of a store that can be told how many extents are wanted.
    """

    def setUp(self) -> None:
        """Serve one."""
        self.counting = Counting(memory(65536))
        self.connect(self.counting)

    def test_one(self) -> None:
        """With room for one descriptor one extent is asked for, none without room."""
        for length in (0, 8, 24, 39):
            data = self.do(struct.pack(">BBQIxx", 0x9E, 0x12, 5, length), read=40).data
            expected = struct.pack(">I3xBQIB3x", 20, 3, 5, 1, 1)[:length]
            self.assertEqual(data, expected)
        self.assertEqual(self.counting.wanted, [1] * 4)

    def test_last(self) -> None:
        """The last run is told as such."""
        self.assertEqual(self.status(127, 24), (7, [(127, 1, 1)]))

    def test_all(self) -> None:
        """Of several one more is asked for, which shows that there is more."""
        self.assertEqual(self.status(0, 40), (3, [(0, 1, 0), (1, 1, 1)]))
        self.assertEqual(self.counting.wanted, [3])

    def test_report_types(self) -> None:
        """Where every other one is wanted more is asked for at once."""
        self.assertEqual(self.status(0, 40, 3), (3, [(1, 1, 1), (3, 1, 1)]))
        self.assertEqual(self.counting.wanted, [6])

    def test_scan_length(self) -> None:
        """It is looked no further than asked."""
        self.assertEqual(self.status(4, 4096, 0, scan=2), (5, [(4, 1, 0), (5, 1, 1)]))


class Unflushed(Filtered):
    """
    A store that notes what it is asked for; its flush fails once it is *lost*.
    """

    lost = False

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.seen: list[str] = []

    def read(self, offset: int, length: int) -> Any:
        """Note it."""
        self.seen.append("read")
        return super().read(offset, length)

    def flush(self) -> Any:
        """Note it, and fail."""
        self.seen.append("flush")
        if self.lost:
            raise OSError(errno.EIO, "an earlier flush failed")


class FromMediumTests(BlockTests):
    """
    Commands that say what is on the medium, not in a cache.
    """

    COMMANDS = (
        struct.pack(">BBIBHx", 0x28, 8, 4, 0, 2),
        struct.pack(">BBIIxx", 0xA8, 8, 4, 2),
        struct.pack(">BBQIxx", 0x88, 8, 4, 2),
        struct.pack(">BBIBHx", 0x2F, 0, 4, 0, 2),
        struct.pack(">BBQIxx", 0x8F, 0, 4, 2),
    )

    def test_flushed_first(self) -> None:
        """What the cache has goes to the medium before it is read from there."""
        store = Unflushed(memory())
        self.connect(store)
        for cdb in self.COMMANDS:
            store.seen.clear()
            self.assertEqual(self.one.do(cdb, read=1024).status, 0, cdb.hex())
            self.assertEqual(store.seen, ["flush", "read"])
        store.seen.clear()
        self.do(read10(4, 2), read=1024)
        self.assertEqual(store.seen, ["read"])

    def test_flush_failed(self) -> None:
        """After a flush that failed nobody can say what is there, and nobody does."""
        store = Unflushed(memory())
        self.connect(store)
        self.do(write10(4, 2), data=b"c" * 1024)
        store.lost = True
        for cdb in self.COMMANDS:
            self.assertEqual(self.one.do(cdb, read=1024).key, 3, cdb.hex())
        self.assertNotIn("read", store.seen)
        self.assertEqual(self.do(read10(4, 2), read=1024).data, b"c" * 1024)


class PrefetchTests(BlockTests):
    """
    PRE-FETCH.
    """

    def test_condition_met(self) -> None:
        """CONDITION MET where all of it fits, GOOD where it does not."""
        seen: list[tuple[int, int]] = []

        class Watching(Filtered):
            prefetch_limit = 4096

            def prefetch(self, offset: int, length: int) -> None:
                seen.append((offset, length))

        self.connect(Watching(memory()))
        for cdb, status in (
            (b"\x34\0\0\0\0\4\0\0\x08\0", 4),
            (b"\x34\0\0\0\0\4\0\0\x09\0", 0),
            (struct.pack(">BBQIxx", 0x90, 2, 4, 0), 0),
        ):
            self.assertEqual(self.one.do(cdb).status, status)
        self.assertEqual(seen, [(2048, 4096)] * 3)

    def test_not_there(self) -> None:
        """A store that cannot prefetch does not say that it did."""
        store: Any = Filtered(memory())
        noLongerProvides(store, IPrefetch)
        self.connect(store)
        self.assertEqual(self.one.do(b"\x34" + bytes(9)).status, 0)

    def test_immediate(self) -> None:
        """With IMMED it is not waited for."""
        waiting: list[Deferred[None]] = []

        class Slow(Filtered):
            def prefetch(self, offset: int, length: int) -> Any:
                waiting.append(Deferred())
                return waiting[-1]

        self.connect(Slow(memory()))
        self.assertEqual(self.one.do(b"\x34\2" + bytes(8)).status, 4)
        pdu = self.one.command(b"\x34" + bytes(9))
        self.one.send(pdu)
        self.assertEqual(self.one.receive(), [])
        for one in waiting:
            one.callback(None)
        self.assertEqual(self.one.finish(pdu).status, 4)


class FlushTests(BlockTests):
    """
    SYNCHRONIZE CACHE.
    """

    def test_immediate(self) -> None:
        """With IMMED the answer comes first; an error is told at the next one."""
        store = ManualStore()
        self.connect(store)
        self.assertEqual(self.one.do(b"\x35\2" + bytes(8)).status, 0)
        other = Initiator(self.node, name=INITIATOR + "2").ready()
        store.fail(OSError(errno.EIO, "lost"))
        pdu = other.command(b"\x35" + bytes(9))
        other.send(pdu)
        store.go()
        self.assertEqual(other.finish(pdu).status, 0)
        self.check(self.one.do(b"\x35" + bytes(9)), 3, 0x0C00)
        self.assertEqual(store.calls, [])

    def test_range(self) -> None:
        """The range is checked, and 0 blocks go to the end."""
        self.assertEqual(self.one.do(b"\x35\0\0\0\7\xff\0\0\1\0").status, 0)
        self.check(self.one.do(b"\x35\0\0\0\7\xff\0\0\2\0"), 5, 0x2100)
        cdb = struct.pack(">BBQIxx", 0x91, 0, 5, 0)
        self.assertEqual(self.one.do(cdb).status, 0)

    def test_error(self) -> None:
        """A flush that fails is a write error, of no block in particular."""

        class Broken(Filtered):
            def flush(self) -> None:
                raise OSError(errno.EIO, "broken")

        self.connect(Broken(memory()))
        for cdb in (b"\x35" + bytes(9), b"\x1b\0\0\0\0\0"):
            done = self.one.do(cdb)
            self.check(done, 3, 0x0C00)
            self.assertFalse(done.sense[0] & 0x80)


class DefectTests(BlockTests):
    """
    READ DEFECT DATA, REASSIGN BLOCKS.
    """

    def test_no_defects(self) -> None:
        """The lists are there, and empty, in whatever format."""
        for kind in range(6):
            cdb = struct.pack(">BBB4xHx", 0x37, 0, 0x18 | kind, 32)
            self.assertEqual(self.do(cdb, read=32).data, bytes((0, 0x18 | kind, 0, 0)))
            cdb = struct.pack(">BBIIxx", 0xB7, 0x10 | kind, 7, 32)
            data = bytes((0, 0x10 | kind)) + bytes(6)
            self.assertEqual(self.do(cdb, read=32).data, data)
        self.check(self.do(b"\x37\0\7\0\0\0\0\0\x20\0", read=32), 5, 0x2400)

    def test_reassign(self) -> None:
        """Blocks are written again: with their data, or zeros if they have none."""
        inner = memory()
        inner.write(0, b"k" * 2048, False)
        seen: list[tuple[int, bytes, bool]] = []

        class Worn(Filtered):
            def read(self, offset: int, length: int) -> Any:
                if offset == 1024:
                    raise MediumError(offset)
                return super().read(offset, length)

            def write(self, offset: int, data: Any, fua: bool) -> Any:
                if offset == 5120:
                    raise MediumError(offset)
                seen.append((offset, bytes(data[:1]), fua))
                return super().write(offset, data, fua)

        self.connect(Worn(inner))
        data = struct.pack(">xxHII", 8, 1, 2)
        self.assertEqual(self.do(b"\7\0\0\0\0\0", data=data).status, 0)
        self.assertEqual(seen, [(512, b"k", True), (1024, b"\0", True)])
        data = struct.pack(">IQQ", 16, 3, 10)
        done = self.do(b"\7\3\0\0\0\0", data=data)
        self.check(done, 4, 0x3200)
        self.assertEqual(int.from_bytes(done.sense[8:12], "big"), 10)

    def test_alone(self) -> None:
        """What others write meanwhile is not undone."""
        store = ManualStore()
        self.connect(store)
        data = struct.pack(">xxHI", 4, 1)
        pdu = self.one.command(b"\7\0\0\0\0\0", write=8, data=data)
        self.one.send(pdu)
        other = Initiator(self.node, name=INITIATOR + "2").ready()
        writing = other.command(write10(1, 1), write=512, data=b"n" * 512)
        other.send(writing)
        store.go(2)
        self.assertEqual(self.one.finish(pdu).status, 0)
        store.go()
        self.assertEqual(other.finish(writing).status, 0)
        self.assertEqual(store.inner.read(512, 512), b"n" * 512)

    def test_wrong(self) -> None:
        """A list that is wrong changes nothing."""
        for data, asc in (
            (b"", 0x1A00),
            (struct.pack(">xxHI", 8, 1), 0x1A00),
            (struct.pack(">xxHIH", 6, 1, 1), 0x1A00),
            (struct.pack(">xxHII", 8, 1, 2048), 0x2100),
        ):
            self.check(self.do(b"\7\0\0\0\0\0", data=data), 5, asc)
        self.assertEqual(self.do(b"\7\0\0\0\0\0", data=bytes(4)).status, 0)


class PlaceTests(BlockTests):
    """
    Errors of the store, as the initiator sees them.
    """

    def failing(self, error: Exception) -> None:
        """Serve a store that fails."""

        class Broken(Filtered):
            def read(self, offset: int, length: int) -> Any:
                raise error

            def write(self, offset: int, data: Any, fua: bool) -> Any:
                raise error

        self.connect(Broken(memory()))

    def test_information(self) -> None:
        """INFORMATION is the LBA that failed, in both formats."""
        self.failing(MediumError(7 * 512))
        for descriptor in (False, True):
            self.unit.descriptor_sense = descriptor
            done = self.one.do(read10(2, 16), read=8192)
            self.check(done, 3, 0x1100)
            at = slice(12, 20) if descriptor else slice(3, 7)
            self.assertEqual(int.from_bytes(done.sense[at], "big"), 7)
            done = self.one.do(write10(2, 16), data=bytes(8192))
            self.check(done, 3, 0x0C00)
            self.assertEqual(int.from_bytes(done.sense[at], "big"), 7)

    def test_table(self) -> None:
        """Each error has its sense data; what is no OSError is ours."""
        for number, key, asc in (
            (errno.EIO, 3, 0x0C00),
            (errno.ENOSPC, 7, 0x2707),
            (errno.EDQUOT, 7, 0x2707),
            (errno.EFBIG, 7, 0x2707),
            (errno.EROFS, 7, 0x2700),
            (errno.EACCES, 7, 0x2700),
            (errno.ENOMEDIUM, 2, 0x3A00),
            (errno.ESTALE, 2, 0x0403),
            (errno.ENODEV, 2, 0x0403),
            (errno.ETIMEDOUT, 0xB, 0x0801),
            (errno.ECONNRESET, 0xB, 0x0800),
            (errno.EHOSTUNREACH, 0xB, 0x0800),
            (errno.ENOMEM, 0xB, 0x5503),
        ):
            self.failing(OSError(number, "as told"))
            self.check(self.one.do(write10(2, 1), data=bytes(512)), key, asc)
        self.failing(KeyError("whoops"))
        self.check(self.one.do(write10(2, 1), data=bytes(512)), 4, 0x4400)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
