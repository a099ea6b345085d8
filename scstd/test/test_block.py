# SPDX-License-Identifier: MIT
"""
Tests for the block commands that have rules of their own: 32-byte CDBs, atomic writes,
allocation, prefetching, flushing later, defects.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides, noLongerProvides

from scstd.filters.base import Filtered
from scstd.interfaces import Extent, IBlockStatus, IPrefetch, MediumError
from scstd.protocols.wire.pdu import SCSIResponse
from scstd.scsi.device import open_disk
from scstd.scsi.memory import Forgetful
from scstd.test.initiator import INITIATOR, Done, Initiator, read10, serve, write10
from scstd.test.stores import ManualStore, memory


def long_cdb(action: int, lba: int, blocks: int, flags: int = 0, **at: int) -> bytes:
    """Return a 32-byte CDB; ``b20=1`` sets byte 20."""
    cdb = bytearray(struct.pack(">B6xBHBxQ8xI", 0x7F, 24, action, flags, lba, blocks))
    for name, value in at.items():
        cdb[int(name[1:])] = value
    return bytes(cdb)


def atomic(lba: int, blocks: int, boundary: int = 0, flags: int = 0) -> bytes:
    """Return the CDB of a WRITE ATOMIC(16)."""
    return struct.pack(">BBQHHxx", 0x9C, flags, lba, boundary, blocks)


class BlockTests(SynchronousTestCase):
    """
    What they need: a disk and an initiator.
    """

    def connect(self, store: Any = None, **settings: Any) -> None:
        """Serve a store and log in."""
        self.store = memory() if store is None else store
        self.node, self.target, (self.unit,) = serve(
            self.store, long_cdbs=True, **settings
        )
        self.one = Initiator(self.node).ready()

    def setUp(self) -> None:
        """Serve a plain store."""
        self.connect()

    def check(self, done: Done, key: int, asc: int) -> None:
        """The command has to have failed with this sense data."""
        self.assertEqual(done.status, 2)
        self.assertEqual((done.key, f"{done.asc:04x}"), (key, f"{asc:04x}"))

    def do(self, cdb: bytes, *, read: int = 0, data: bytes = b"") -> Done:
        """Carry out a command with a CDB of any length."""
        if len(cdb) <= 16:
            return self.one.do(cdb, read=read, data=data)
        pdu = self.one.command(cdb, read=read, write=len(data), data=data[:8192])
        pdu.ahs = struct.pack(">HBx", len(cdb) - 15, 1) + cdb[16:]
        self.one.send(pdu)
        return self.one.finish(pdu, data)


class LongTests(BlockTests):
    """
    Commands of 32 bytes.
    """

    def test_write_read_verify(self) -> None:
        """WRITE, READ, VERIFY and WRITE AND VERIFY do what the others do."""
        data = bytes(range(256)) * 4
        self.assertEqual(self.do(long_cdb(0x0B, 9, 2), data=data).status, 0)
        self.assertEqual(self.do(long_cdb(0x09, 9, 2), read=1024).data, data)
        self.assertEqual(self.do(long_cdb(0x0A, 9, 2)).status, 0)
        self.assertEqual(self.do(long_cdb(0x0A, 9, 2, 2), data=data).status, 0)
        self.check(self.do(long_cdb(0x0A, 9, 2, 2), data=bytes(1024)), 0xE, 0x1D00)
        done = self.do(long_cdb(0x0A, 9, 2, 4), data=data)
        self.check(done, 5, 0x2400)
        self.assertEqual(int.from_bytes(done.sense[16:18], "big"), 10)
        self.assertEqual(self.do(long_cdb(0x0C, 0, 2, 2), data=data).status, 0)
        self.assertEqual(self.store.read(0, 1024), data)

    def test_write_same(self) -> None:
        """WRITE SAME fills, deallocates, and needs no data with NDOB."""
        block = b"same" * 128
        self.assertEqual(self.do(long_cdb(0x0D, 2, 3), data=block).status, 0)
        self.assertEqual(self.store.read(1024, 1536), block * 3)
        self.assertEqual(self.do(long_cdb(0x0D, 2, 1, 1)).status, 0)
        self.assertEqual(self.do(long_cdb(0x0D, 3, 1, 8), data=bytes(512)).status, 0)
        self.assertEqual(self.store.read(1024, 1536), bytes(1024) + block)
        done = self.do(long_cdb(0x0D, 3, 1, 0x18), data=bytes(512))
        self.check(done, 5, 0x2400)
        self.assertEqual(int.from_bytes(done.sense[16:18], "big"), 10)

    def test_orwrite(self) -> None:
        """ORWRITE sets bits in generation 0, which is the only one."""
        self.store.write(0, b"\x0f" * 512, False)
        cdb = long_cdb(0x0E, 0, 1)
        self.assertEqual(self.do(cdb, data=b"\xf0" * 512).status, 0)
        self.assertEqual(self.store.read(0, 512), b"\xff" * 512)
        self.check(self.do(long_cdb(0x0E, 0, 1, b23=1), data=bytes(512)), 5, 0x2C0C)
        self.check(self.do(long_cdb(0x0E, 0, 1, b2=1), data=bytes(512)), 5, 0x2400)

    def test_atomic(self) -> None:
        """WRITE ATOMIC writes."""
        self.assertEqual(self.do(long_cdb(0x0F, 3, 1), data=b"a" * 512).status, 0)
        self.assertEqual(self.store.read(1536, 512), b"a" * 512)

    def test_range(self) -> None:
        """Behind the last block there is nothing."""
        for action in (0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x0F):
            cdb = long_cdb(action, 2048, 1)
            self.check(self.do(cdb), 5, 0x2100)

    def test_asked_for(self) -> None:
        """They are there only if somebody wants them."""
        _node, _target, (unit,) = serve(memory())
        self.assertNotIn(0x7F, unit.commands)
        self.check(self.do(long_cdb(0x77, 0, 1)), 5, 0x2400)
        self.check(self.one.do(long_cdb(0x09, 0, 1)[:16]), 5, 0x2400)


class AtomicTests(BlockTests):
    """
    WRITE ATOMIC.
    """

    def test_limits(self) -> None:
        """The Block Limits page has the limits, and they hold."""
        self.connect(memory(4 << 20))
        page = self.one.do(b"\x12\1\xb0\0\xff\0", read=255).data
        self.assertEqual(struct.unpack_from(">5I", page, 44), (2048, 0, 0, 2048, 2048))
        data = b"m" * (2048 * 512)
        self.assertEqual(self.one.do(atomic(0, 2048), data=data).status, 0)
        self.check(self.one.do(atomic(0, 2049), data=data + bytes(512)), 5, 0x2400)
        self.assertEqual(self.one.do(atomic(0, 2048, 2048), data=data).status, 0)
        done = self.one.do(atomic(0, 1, 2049), data=bytes(512))
        self.check(done, 5, 0x2400)
        self.assertEqual(int.from_bytes(done.sense[16:18], "big"), 10)
        self.assertEqual(self.store.read(0, len(data)), data)

    def test_length(self) -> None:
        """It has to have all of its data; none is none."""
        self.check(self.one.do(atomic(0, 2), data=bytes(512)), 5, 0x2400)
        self.check(self.one.do(atomic(0, 1), data=bytes(1024)), 5, 0x2400)
        self.assertEqual(self.one.do(atomic(0, 0)).status, 0)

    def test_alone(self) -> None:
        """Who reads meanwhile waits; who read before is waited for."""
        store = ManualStore()
        self.connect(store)
        other = Initiator(self.node, name=INITIATOR + "2").ready()
        before = other.command(read10(1, 1), read=512)
        other.send(before)
        writing = self.one.command(atomic(0, 4), write=2048, data=b"n" * 2048)
        self.one.send(writing)
        self.assertEqual([name for name, *_ in store.calls], ["read"])
        meanwhile = other.command(read10(2, 4), read=2048)
        other.send(meanwhile)
        store.go()
        self.assertEqual(other.finish(before).data, bytes(512))
        store.go(2)
        self.assertEqual(self.one.one(SCSIResponse).status, 0)
        store.go()
        self.assertEqual(other.finish(meanwhile).data, b"n" * 1024 + bytes(1024))

    def test_nothing_after_an_error(self) -> None:
        """If it fails in the middle, what was there is there again."""
        inner = memory()
        inner.write(0, b"o" * 2048, False)

        class Half(Filtered):
            broken = True

            def write(self, offset: int, data: Any, fua: bool) -> Any:
                if self.broken:
                    self.broken = False
                    self.inner.write(offset, data[: len(data) // 2], fua)
                    raise OSError(errno.EIO, "halfway")
                return super().write(offset, data, fua)

        self.connect(Half(inner))
        self.check(self.one.do(atomic(0, 4), data=b"n" * 2048), 3, 0x0C00)
        self.assertEqual(inner.read(0, 2048), b"o" * 2048)


class Durable(Forgetful):
    """
    A memory whose record needs a while.
    """

    def __init__(self) -> None:
        super().__init__(durable=True)
        self.waiting: list[tuple[bytes, Deferred[None]]] = []

    def keep(self, record: bytes) -> Any:
        """Replace the record, later."""
        self.waiting.append((record, Deferred()))
        return self.waiting[-1][1]

    def go(self) -> None:
        """Let the oldest record be kept."""
        self.record, deferred = self.waiting.pop(0)
        deferred.callback(None)


class JournalTests(SynchronousTestCase):
    """
    Atomic writes over a crash.
    """

    def open(self, store: Any, kept: Forgetful) -> Initiator:
        """Serve a disk that remembers."""
        self.node, target, _units = serve(store)
        self.unit = open_disk("d", store, memory=kept)
        target.luns.clear()
        target.add_lun(0, self.unit)
        return Initiator(self.node).ready()

    def test_order(self) -> None:
        """A write is kept, written through, let go, and answered then."""
        kept, store = Durable(), ManualStore()
        one = self.open(store, kept)
        one.send(one.command(atomic(1, 2), write=1024, data=b"j" * 1024))
        store.go()
        self.assertEqual(store.calls, [])
        kept.go()
        self.assertEqual(kept.record, bytes((0, 0, 0, 0, 0, 0, 2, 0)) + b"j" * 1024)
        self.assertEqual([name for name, *_ in store.calls], ["write"])
        self.assertEqual(one.receive(), [])
        store.go()
        self.assertEqual(one.receive(), [])
        kept.go()
        self.assertEqual(kept.record, b"")
        self.assertEqual(one.one(SCSIResponse).status, 0)

    def test_one_at_a_time(self) -> None:
        """There is one record: the second write waits for the first one's end."""
        kept, store = Durable(), ManualStore()
        one = self.open(store, kept)
        for lba in (0, 8):
            one.send(one.command(atomic(lba, 1), write=512, data=b"j" * 512))
        store.go(2)
        self.assertEqual(len(kept.waiting), 1)
        kept.go()
        store.go()
        self.assertEqual(len(kept.waiting), 1)
        kept.go()
        self.assertEqual(one.one(SCSIResponse).status, 0)
        kept.go()
        store.go()
        kept.go()
        self.assertEqual(one.one(SCSIResponse).status, 0)
        self.assertEqual(store.inner.read(4096, 512), b"j" * 512)

    def test_not_kept(self) -> None:
        """What cannot be kept is not written; what could not be written is let go."""
        kept, store = Durable(), ManualStore()
        one = self.open(store, kept)
        one.send(one.command(atomic(0, 1), write=512, data=b"j" * 512))
        store.go()
        kept.waiting.pop(0)[1].errback(OSError(errno.ENOSPC, "full"))
        self.assertEqual(store.calls, [])
        sense = bytes(one.one(SCSIResponse).data)[2:]
        self.assertEqual((sense[2] & 15, sense[12:14]), (7, b"\x27\7"))
        one.send(one.command(atomic(0, 1), write=512, data=b"j" * 512))
        store.go()
        kept.go()
        store.fail(OSError(errno.EIO, "broken"))
        store.go()
        kept.go()
        self.assertEqual(kept.record, b"")
        self.assertEqual(one.one(SCSIResponse).status, 2)
        self.assertEqual(store.inner.read(0, 512), bytes(512))

    def test_recovery(self) -> None:
        """What was under way is finished before anybody can read it."""
        record = bytes((0, 0, 0, 0, 0, 0, 2, 0)) + b"j" * 1024
        kept, store = Forgetful(record=record), ManualStore()
        store.inner.write(512, b"j" * 512 + b"torn" * 128, False)
        one = self.open(store, kept)
        done = one.do(read10(1, 2), read=1024)
        self.assertEqual((done.key, done.asc), (2, 0x0401))
        store.go()
        self.assertEqual(store.inner.read(512, 1024), b"j" * 1024)
        self.assertEqual(kept.record, b"")
        self.assertEqual(one.do(bytes(6)).status, 0)

    def test_no_recovery(self) -> None:
        """If it cannot be finished the disk stays away: what is there is torn."""
        kept, store = Forgetful(record=bytes(8) + b"j" * 512), ManualStore()
        one = self.open(store, kept)
        store.fail(OSError(errno.EIO, "broken"))
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        done = one.do(read10(0, 1), read=512)
        self.assertEqual((done.key, done.asc), (2, 0x0403))
        self.assertTrue(kept.record)


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
        cdb = long_cdb(0x12, 0, 64, b27=1)
        self.check(self.do(cdb, read=64), 5, 0x2400)

    def test_range(self) -> None:
        """Behind the last block there is nothing."""
        cdb = struct.pack(">BBQIBx", 0x9E, 0x12, 128, 64, 0)
        self.check(self.do(cdb, read=64), 5, 0x2100)


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
