# SPDX-License-Identifier: MIT
"""
Tests for the data of a disk, by what initiators see: `scstd.scsi.sbc`.

Who it is, its pages and its tray: `scstd.test.test_disk_pages`.
"""

from __future__ import annotations

import struct
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides, noLongerProvides

from scstd.filters.base import Filtered
from scstd.handlers.memory import MemoryStore
from scstd.initiator.commands import CommandResult, read10, write10
from scstd.interfaces import IReadOnly, IUnmap
from scstd.scsi.device import close_disk
from scstd.test.initiator import Initiator, serve
from scstd.test.stores import ManualStore, memory


def unmap_list(*ranges: tuple[int, int]) -> bytes:
    """Return an UNMAP parameter list."""
    body = b"".join(struct.pack(">QIxxxx", lba, blocks) for lba, blocks in ranges)
    return struct.pack(">HHxxxx", 6 + len(body), len(body)) + body


def unmap(data: bytes) -> bytes:
    """Return the CDB of an UNMAP with this parameter list."""
    return struct.pack(">BBxxxxxHx", 0x42, 0, len(data))


class DiskTests(SynchronousTestCase):
    """
    What all of them need: a disk and an initiator.
    """

    store: MemoryStore

    def connect(self, store: Any = None, **settings: Any) -> None:
        """Serve a store and log in."""
        self.store = store if store is not None else memory()
        self.node, self.target, (self.unit,) = serve(self.store, **settings)
        self.one = Initiator(self.node).ready()

    def setUp(self) -> None:
        """Serve a plain store."""
        self.connect()

    def check(self, done: CommandResult, key: int, asc: int) -> None:
        """The command has to have failed with this sense data."""
        self.assertEqual(done.status, 2)
        self.assertEqual((done.key, f"{done.asc:04x}"), (key, f"{asc:04x}"))


class TransferTests(DiskTests):
    """
    Reading and writing.
    """

    def test_all_sizes(self) -> None:
        """READ and WRITE 6, 10, 12 and 16 do the same."""
        for read, write in (
            (b"\x08\0\0\x09\x02\0", b"\x0a\0\0\x09\x02\0"),
            (read10(9, 2), write10(9, 2)),
            (
                struct.pack(">BBIIxx", 0xA8, 0, 9, 2),
                struct.pack(">BBIIxx", 0xAA, 0, 9, 2),
            ),
            (
                struct.pack(">BBQIxx", 0x88, 0, 9, 2),
                struct.pack(">BBQIxx", 0x8A, 0, 9, 2),
            ),
        ):
            data = bytes((read[0],)) * 1024
            self.assertEqual(self.one.do(write, data=data).status, 0)
            self.assertEqual(self.one.do(read, read=1024).data, data)

    def test_six_means_256(self) -> None:
        """A transfer length of 0 in READ(6) is 256 blocks."""
        self.assertEqual(len(self.one.do(b"\x08\0\0\0\0\0", read=131072).data), 131072)

    def test_range(self) -> None:
        """Blocks behind the last one are refused, also none of them."""
        last = self.unit.blocks - 1
        self.assertEqual(self.one.do(read10(last, 1), read=512).status, 0)
        self.check(self.one.do(read10(last, 2), read=1024), 5, 0x2100)
        self.check(self.one.do(read10(last + 1, 0), read=512), 5, 0x2100)
        self.check(self.one.do(write10(last + 1, 1), data=bytes(512)), 5, 0x2100)

    def test_reserved_bits(self) -> None:
        """A reserved bit is refused, and the field pointer names it."""
        for cdb, byte, bit in (
            (b"\x28\x60" + bytes(8), 1, 6),
            (b"\x28\x04" + bytes(8), 1, 2),
            (b"\x28\0\0\0\0\0\0\0\1\x08", 9, 3),
            (b"\x28\0\0\0\0\0\0\0\1\x40", 9, 6),
            (b"\x00\0\0\0\x80\0", 4, 7),
        ):
            done = self.one.do(cdb)
            self.check(done, 5, 0x2400)
            self.assertEqual(done.sense[15] & 0xC0, 0xC0)
            self.assertEqual(done.sense[15] & 7, bit)
            self.assertEqual(int.from_bytes(done.sense[16:18], "big"), byte)

    def test_too_long(self) -> None:
        """More blocks than the Block Limits page allows are refused."""
        self.connect(memory(32 << 20))
        most = self.unit.volume.limits.max_blocks
        cdb = struct.pack(">BBQIxx", 0x88, 0, 0, most + 1)
        self.check(self.one.do(cdb, read=512), 5, 0x2400)

    def test_fua(self) -> None:
        """FUA reaches the store, and so does WCE=0."""
        seen: list[bool] = []

        class Watching(Filtered):
            def write(self, offset: int, data: Any, fua: bool) -> Any:
                seen.append(fua)
                return super().write(offset, data, fua)

        self.connect(Watching(memory()))
        self.one.do(write10(0, 1), data=bytes(512))
        self.one.do(write10(0, 1, fua=True), data=bytes(512))
        self.unit.set_mode("write_cache", 0)
        self.one.do(write10(0, 1), data=bytes(512))
        self.assertEqual(seen, [False, True, True])

    def test_read_only(self) -> None:
        """A write-protected disk refuses writes and says so."""
        for how in ("store", "setting", "lun"):
            store = memory()
            if how == "store":
                alsoProvides(store, IReadOnly)
            self.connect(store, read_only=how == "setting")
            if how == "lun":
                self.target.add_lun(0, self.unit, read_only=True)
                self.one = Initiator(self.node).ready()
            self.check(self.one.do(write10(0, 1), data=bytes(512)), 7, 0x2700)
            sense = self.one.do(b"\x1a\0\x3f\0\xff\0", read=255).data
            self.assertTrue(sense[2] & 0x80)
            self.assertEqual(self.one.do(read10(0, 1), read=512).status, 0)

    def test_capacity(self) -> None:
        """READ CAPACITY 10 and 16 agree."""
        short = self.one.do(b"\x25" + bytes(9), read=8).data
        self.assertEqual(struct.unpack(">II", short), (2047, 512))
        cdb = struct.pack(">BBQIxx", 0x9E, 0x10, 0, 32)
        long = self.one.do(cdb, read=32).data
        self.assertEqual(struct.unpack_from(">QI", long), (2047, 512))
        self.assertEqual((long[13], long[14]), (3, 0xC0))
        self.check(self.one.do(b"\x25\0\0\0\0\1\0\0\0\0", read=8), 5, 0x2400)

    def test_four_kilobytes(self) -> None:
        """Blocks of 4096 bytes."""
        self.connect(memory(1 << 20, 4096))
        data = bytes(range(256)) * 16
        self.assertEqual(self.one.do(write10(3, 1), data=data).status, 0)
        self.assertEqual(self.one.do(read10(3, 1), read=4096).data, data)
        self.assertEqual(self.store.read(12288, 4096), data)

    def test_resize(self) -> None:
        """A new size is told, and holds."""
        self.store.size = 512 * 1024
        self.unit.volume.resized()
        self.check(self.one.do(bytes(6)), 6, 0x2A09)
        self.check(self.one.do(read10(1024, 1), read=512), 5, 0x2100)

    def test_flush(self) -> None:
        """SYNCHRONIZE CACHE and START STOP UNIT flush."""
        seen: list[str] = []

        class Watching(Filtered):
            def flush(self) -> None:
                seen.append("flush")

        self.connect(Watching(memory()))
        for cdb in (
            b"\x35" + bytes(9),
            b"\x91" + bytes(15),
            b"\x1b\0\0\0\0\0",
            b"\x1b\0\0\0\4\0",
        ):
            self.assertEqual(self.one.do(cdb).status, 0)
        self.assertEqual(seen, ["flush"] * 3)
        self.successResultOf(close_disk(self.unit))
        self.assertEqual(seen, ["flush"] * 4)

    def test_closed_after_the_lost(self) -> None:
        """A store is not closed while it works for a session that is gone."""
        store = ManualStore()
        self.connect(store)
        self.one.send(self.one.command(write10(0, 1), write=512, data=bytes(512)))
        self.one.connection.disconnected()
        closing = close_disk(self.unit)
        self.assertEqual([name for name, _done, _call in store.calls], ["write"])
        store.go()
        self.assertFalse(store.closed)
        store.go()
        self.successResultOf(closing)
        self.assertTrue(store.closed)

    def test_pre_fetch(self) -> None:
        """PRE-FETCH: CONDITION MET."""
        self.assertEqual(self.one.do(b"\x34" + bytes(9)).status, 4)


class RangeTests(DiskTests):
    """
    VERIFY, WRITE SAME, UNMAP, COMPARE AND WRITE, ORWRITE.
    """

    def test_verify(self) -> None:
        """VERIFY reads, and compares when asked; a difference has its offset."""
        self.store.write(0, b"a" * 2048, False)
        self.assertEqual(self.one.do(b"\x2f\0\0\0\0\0\0\0\4\0").status, 0)
        same = b"\x2f\2\0\0\0\0\0\0\4\0"
        self.assertEqual(self.one.do(same, data=b"a" * 2048).status, 0)
        done = self.one.do(same, data=b"a" * 700 + b"b" * 1348)
        self.check(done, 0xE, 0x1D00)
        self.assertEqual(int.from_bytes(done.sense[3:7], "big"), 700)
        one_block = b"\x2f\6\0\0\0\0\0\0\4\0"
        self.assertEqual(self.one.do(one_block, data=b"a" * 512).status, 0)
        self.check(self.one.do(one_block, data=b"b" * 512), 0xE, 0x1D00)
        self.check(self.one.do(b"\x2f\4\0\0\0\0\0\0\4\0"), 5, 0x2400)

    def test_write_and_verify(self) -> None:
        """WRITE AND VERIFY writes."""
        cdb = b"\x2e\2\0\0\0\1\0\0\1\0"
        self.assertEqual(self.one.do(cdb, data=b"v" * 512).status, 0)
        self.assertEqual(self.store.read(512, 512), b"v" * 512)

    def test_write_same(self) -> None:
        """WRITE SAME fills, to the end with 0 blocks."""
        data = bytes(range(256)) * 2
        self.assertEqual(self.one.do(b"\x41\0\0\0\0\2\0\0\3\0", data=data).status, 0)
        self.assertEqual(self.store.read(512, 2560), bytes(512) + data * 3 + bytes(512))
        cdb = struct.pack(">BBQIxx", 0x93, 0, 2040, 0)
        self.assertEqual(self.one.do(cdb, data=data).status, 0)
        self.assertEqual(self.store.read(2040 * 512, 4096), data * 8)

    def test_write_same_zeros(self) -> None:
        """WRITE SAME with UNMAP deallocates; NDOB needs no data."""
        self.store.write(0, b"x" * 8192, False)
        cdb = struct.pack(">BBQIxx", 0x93, 8, 0, 8)
        self.assertEqual(self.one.do(cdb, data=bytes(512)).status, 0)
        cdb = struct.pack(">BBQIxx", 0x93, 1, 8, 4)
        self.assertEqual(self.one.do(cdb).status, 0)
        self.assertEqual(self.store.read(0, 8192), bytes(6144) + b"x" * 2048)

    def test_write_same_wrong(self) -> None:
        """Too many blocks, or not one block of data, are refused."""
        self.connect(memory(64 << 20))
        cdb = struct.pack(">BBQIxx", 0x93, 0, 0, self.unit.volume.limits.max_same + 1)
        self.check(self.one.do(cdb, data=bytes(512)), 5, 0x2400)
        cdb = struct.pack(">BBQIxx", 0x93, 0, 0, 1)
        self.check(self.one.do(cdb, data=bytes(1024)), 5, 0x2400)
        self.connect(thin_provisioned=False)
        cdb = struct.pack(">BBQIxx", 0x93, 8, 0, 1)
        self.check(self.one.do(cdb, data=bytes(512)), 5, 0x2400)

    def test_unmap(self) -> None:
        """UNMAP zeros its ranges, to the byte."""
        self.store.write(0, b"x" * 32768, False)
        data = unmap_list((1, 2), (10, 20), (40, 0))
        self.assertEqual(self.one.do(unmap(data), data=data).status, 0)
        expected = bytearray(b"x" * 32768)
        expected[512:1536] = bytes(1024)
        expected[5120:15360] = bytes(10240)
        self.assertEqual(self.store.read(0, 32768), expected)

    def test_unmap_wrong(self) -> None:
        """Nothing is done when anything is wrong."""
        self.store.write(0, b"x" * 512, False)
        for data, key, asc in (
            (unmap_list((0, 1), (2048, 1)), 5, 0x2100),
            (unmap_list((0, 1), (1 << 63, 1)), 5, 0x2100),
            (unmap_list(*[(0, 1)] * 257), 5, 0x2600),
            (unmap_list((0, 1))[:20], 5, 0x1A00),
            (b"\0\0\0\0", 5, 0x1A00),
        ):
            self.check(self.one.do(unmap(data), data=data), key, asc)
        self.assertEqual(self.store.read(0, 512), b"x" * 512)
        self.assertEqual(self.one.do(unmap(b"")).status, 0)

    def test_thick(self) -> None:
        """Without IUnmap there is no UNMAP, and nothing says there is."""
        store: Any = Filtered(memory())
        noLongerProvides(store, IUnmap)
        self.connect(store)
        self.check(self.one.do(unmap(b"")), 5, 0x2000)
        cdb = struct.pack(">BBQIxx", 0x9E, 0x10, 0, 32)
        self.assertEqual(self.one.do(cdb, read=32).data[14], 0)
        self.check(self.one.do(b"\x12\1\xb2\0\xff\0", read=255), 5, 0x2400)

    def test_compare_and_write(self) -> None:
        """COMPARE AND WRITE writes if it finds what it expects."""
        cdb = struct.pack(">BBQxxxBxx", 0x89, 0, 4, 2)
        done = self.one.do(cdb, data=bytes(1024) + b"n" * 1024)
        self.assertEqual(done.status, 0)
        self.assertEqual(self.store.read(2048, 1024), b"n" * 1024)
        done = self.one.do(cdb, data=b"n" * 1000 + b"x" * 24 + b"z" * 1024)
        self.check(done, 0xE, 0x1D00)
        self.assertEqual(int.from_bytes(done.sense[3:7], "big"), 1000)
        self.assertEqual(self.store.read(2048, 1024), b"n" * 1024)
        self.check(self.one.do(cdb, data=bytes(512)), 5, 0x2400)

    def test_orwrite(self) -> None:
        """ORWRITE sets bits."""
        self.store.write(0, b"\x0f" * 512, False)
        cdb = struct.pack(">BBQIxx", 0x8B, 0, 0, 1)
        self.assertEqual(self.one.do(cdb, data=b"\xf0" * 512).status, 0)
        self.assertEqual(self.store.read(0, 512), b"\xff" * 512)
