# SPDX-License-Identifier: MIT
"""
Tests for what filters are made of: what they let through, and that no byte passes by.
"""

from __future__ import annotations

import struct
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import Interface, alsoProvides

from scstd.filters.base import RULES, Filtered, Transforming
from scstd.filters.delay import Delayed
from scstd.filters.error import Failing
from scstd.initiator.commands import read10, write10
from scstd.interfaces import (
    Buffer,
    IBackstore,
    IBlockStatus,
    ICompareAndWrite,
    ICopySource,
    ICopyTarget,
    IPrefetch,
    IRemovableMedium,
    IResizeNotice,
    ISpace,
    IUnmap,
    IWriteZeroes,
)
from scstd.test.initiator import Initiator, serve
from scstd.test.lying import LyingStore, store_interfaces
from scstd.test.stores import MemoryDrive, memory

EVERYTHING = (
    IBlockStatus,
    ICompareAndWrite,
    ICopySource,
    ICopyTarget,
    IPrefetch,
    IResizeNotice,
    ISpace,
    IUnmap,
    IWriteZeroes,
)


class Scrambled(Transforming):
    """
    Each byte is another one on the store, depending on where it is.
    """

    def __init__(self, inner: Any, key: int = 0x5A) -> None:
        super().__init__(inner)
        self._key = key

    def to_store(self, offset: int, data: Buffer) -> Any:
        """Scramble."""
        blocks = []
        for at in range(0, len(data), 512):
            key = self._key ^ (offset + at) // 512 & 0xFF
            table = bytes(one ^ key for one in range(256))
            blocks.append(bytes(data[at : at + 512]).translate(table))
        return b"".join(blocks)

    from_store = to_store


class Later(Scrambled):
    """
    The same, later: one way by a Deferred, the other by a coroutine.
    """

    def to_store(self, offset: int, data: Buffer) -> Any:
        """Scramble, later."""
        return succeed(super().to_store(offset, data))

    async def from_store(  # type: ignore[override]
        self, offset: int, data: Buffer
    ) -> Any:
        """Scramble, as a coroutine."""
        return Scrambled.to_store(self, offset, data)


def provided(store: Any) -> set[Any]:
    """Return what a store provides of what the lying one does."""
    return {one for one in EVERYTHING if one.providedBy(store)}


class FilteredTests(SynchronousTestCase):
    """
    What is announced.
    """

    def test_nothing_changed(self) -> None:
        """A filter that overrides nothing provides everything, and passes it on."""
        self.assertEqual(provided(Filtered(LyingStore())), set(EVERYTHING))

    def test_one_overridden(self) -> None:
        """One that overrides read or write alone provides nothing that passes it by."""

        class Reading(Filtered):
            def read(self, offset: int, length: int) -> Any:
                return super().read(offset, length)

        class Writing(Filtered):
            def write(self, offset: int, data: Buffer, fua: bool) -> Any:
                return super().write(offset, data, fua)

        for kind in (Reading, Writing, Scrambled):
            self.assertEqual(
                provided(kind(LyingStore())), {IPrefetch, IResizeNotice, ISpace}
            )

    def test_said(self) -> None:
        """What it overrides too, and what it says to be transparent for, it provides."""

        class Counting(Filtered):
            transparent = (IBlockStatus,)

            def read(self, offset: int, length: int) -> Any:
                return super().read(offset, length)

            def unmap(self, offset: int, length: int) -> Any:
                return super().unmap(offset, length)

        found = provided(Counting(LyingStore()))
        self.assertEqual(
            found, {IBlockStatus, IUnmap, IPrefetch, IResizeNotice, ISpace}
        )

    def test_size(self) -> None:
        """One that has another size tells nobody of the store's."""

        class Half(Filtered):
            @property
            def size(self) -> int:
                return int(self.inner.size) // 2

        self.assertNotIn(IResizeNotice, provided(Half(LyingStore())))

    def test_unknown(self) -> None:
        """What it does not know how to pass on it does not announce."""

        class IOther(Interface):
            pass

        store = LyingStore()
        alsoProvides(store, IOther)
        self.assertFalse(IOther.providedBy(Filtered(store)))

    def test_drives(self) -> None:
        """The medium of a drive may change below any filter."""
        drive: Any = Scrambled(MemoryDrive({"a": bytes(2048)}))
        self.assertTrue(IRemovableMedium.providedBy(drive))
        drive.change("a")
        self.assertEqual((drive.medium, drive.size), ("a", 2048))

    def test_every_interface(self) -> None:
        """Each interface of a store is in the table, with a method for each."""
        tables = {*RULES, IBackstore}
        for name, one in store_interfaces().items():
            self.assertIn(one, tables)
            for method in one.names():
                self.assertTrue(hasattr(Filtered, method), (name, method))

    def test_ours(self) -> None:
        """Our own filters see all that touches bytes, and keep what they announced."""
        clock: Any = None
        settings = {"read": 1, "write": 1, "flush": 0}
        never = dict.fromkeys(("offset", "length", "after", "count"), 0)
        errors = {"on": "any", "errno": "EIO", **never}
        expected = set(EVERYTHING) - {ICopySource, ICopyTarget}
        for store in (
            Delayed(LyingStore(), clock, settings),
            Failing(LyingStore(), errors),
        ):
            self.assertEqual(provided(store), expected)

    def test_partly_late(self) -> None:
        """A delay of reads alone lets what is written pass, and the other way round."""
        clock: Any = None
        for late, passes in (("read", ICopyTarget), ("write", ICopySource)):
            settings = {"read": 0, "write": 0, "flush": 1, late: 1}
            found = provided(Delayed(LyingStore(), clock, settings))
            self.assertEqual(found & {ICopySource, ICopyTarget}, {passes})


class TransformingTests(SynchronousTestCase):
    """
    Filters that change bytes.
    """

    def connect(self, kind: Any = Scrambled) -> None:
        """Serve a store in memory behind one."""
        self.store = memory(1 << 20)
        self.filter = kind(self.store)
        self.filter.write(0, bytes(1 << 20), False)
        node, _target, (self.unit,) = serve(self.filter)
        self.one = Initiator(node).ready()

    def found(self, lba: int, blocks: int) -> bytes:
        """Return what an initiator reads; below it is other bytes."""
        data = self.one.do(read10(lba, blocks), read=blocks * 512).data
        below = bytes(self.store.read(lba * 512, blocks * 512))
        self.assertNotEqual(below, data)
        self.assertEqual(Scrambled(memory()).from_store(lba * 512, below), data)
        return data

    def test_commands(self) -> None:
        """Every way of changing bytes goes through it: none shows what is below."""
        for kind in (Scrambled, Later):
            self.connect(kind)
            one = self.one
            one.do(write10(4, 4), data=b"w" * 2048)
            self.assertEqual(self.found(4, 4), b"w" * 2048)
            zeros = struct.pack(">BBQIxx", 0x93, 0x01, 5, 2)
            self.assertEqual(one.do(zeros).status, 0)
            self.assertEqual(self.found(4, 4), b"w" * 512 + bytes(1024) + b"w" * 512)
            swap = struct.pack(">BxQxxxBxx", 0x89, 4, 1)
            done = one.do(swap, data=b"w" * 512 + b"n" * 512)
            self.assertEqual(done.status, 0)
            self.assertEqual(self.found(4, 1), b"n" * 512)
            done = one.do(swap, data=b"w" * 512 + b"n" * 512)
            self.assertEqual(done.key, 0x0E)
            ored = struct.pack(">BxQIxx", 0x8B, 4, 1)
            self.assertEqual(one.do(ored, data=b"\x81" * 512).status, 0)
            self.assertEqual(self.found(4, 1), bytes((ord("n") | 0x81,)) * 512)
            atomic = struct.pack(">BBQHHxx", 0x9C, 0, 6, 0, 2)
            self.assertEqual(one.do(atomic, data=b"a" * 1024).status, 0)
            self.assertEqual(self.found(6, 2), b"a" * 1024)

    def test_no_unmap(self) -> None:
        """It is not thin, whatever its store is."""
        self.connect()
        self.assertFalse(self.unit.volume.thin)
        capacity = self.one.do(b"\x9e\x10" + bytes(8) + b"\0\0\0\x20", read=32).data
        self.assertEqual(capacity[14] & 0xC0, 0)

    def test_length(self) -> None:
        """What changes the length changes nothing."""

        class Longer(Scrambled):
            def to_store(self, offset: int, data: Buffer) -> bytes:
                return bytes(data) + b"!"

        self.connect()
        longer: Any = Longer(self.store)
        node, _target, _units = serve(longer)
        before = bytes(self.store.read(0, 1 << 20))
        done = Initiator(node).ready().do(write10(0, 1), data=bytes(512))
        self.assertEqual((done.key, done.asc), (4, 0x4400))
        self.assertEqual(bytes(self.store.read(0, 1 << 20)), before)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_deferred(self) -> None:
        """A store that answers later is transformed later."""
        waiting: Deferred[bytes] = Deferred()
        found: Any = Scrambled(LyingStore(read=lambda: waiting)).read(0, 512)
        self.assertNoResult(found)
        waiting.callback(b"\x5a" * 512)
        self.assertEqual(self.successResultOf(found), bytes(512))
