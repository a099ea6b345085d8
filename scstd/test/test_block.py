# SPDX-License-Identifier: MIT
"""
Tests for the block commands that have rules of their own: 32-byte CDBs, atomic writes.
"""

from __future__ import annotations

import errno
import struct
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from scstd.filters.base import Filtered
from scstd.initiator.commands import CommandResult, read10
from scstd.protocols.wire.pdu import SCSIResponse
from scstd.test.initiator import INITIATOR, Initiator, serve
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

    def check(self, done: CommandResult, key: int, asc: int) -> None:
        """The command has to have failed with this sense data."""
        self.assertEqual(done.status, 2)
        self.assertEqual((done.key, f"{done.asc:04x}"), (key, f"{asc:04x}"))

    def do(self, cdb: bytes, *, read: int = 0, data: bytes = b"") -> CommandResult:
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
