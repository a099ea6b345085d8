# SPDX-License-Identifier: MIT
"""
No block of a file is seen half written.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings, strategies
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from scstd import allocation
from scstd.attributes import parse_values
from scstd.handlers import fileio
from scstd.handlers.overlaps import Ranges
from scstd.pagecache import PageCache
from scstd.results import settled

_PLACES = strategies.tuples(
    strategies.integers(0, 1 << 24),
    strategies.one_of(strategies.integers(1, 300), strategies.integers(1, 1 << 23)),
)

OLD, NEW = b"o" * 4096, b"n" * 4096


class RangesTests(SynchronousTestCase):
    """
    What is known of ranges.
    """

    @settings(max_examples=200, deadline=None)
    @given(strategies.lists(_PLACES, max_size=12), _PLACES)
    def test_meets(self, places: list[tuple[int, int]], asked: tuple[int, int]) -> None:
        """A range meets those with which it has bytes in common, and no other."""
        ranges = Ranges()
        offset, length = asked
        for start, size in places:
            ranges.enter(start, size)
        while places:
            wanted = any(
                start < offset + length and offset < start + size
                for start, size in places
            )
            self.assertEqual(ranges.meets(offset, length), wanted)
            self.assertTrue(ranges)
            ranges.leave(*places.pop())
        self.assertFalse(ranges)
        self.assertFalse(ranges.meets(offset, length))

    def test_apart(self) -> None:
        """Who waits goes on when nothing meets it any more, and not before."""
        ranges = Ranges()
        ranges.enter(0, 4096)
        ranges.enter(1024, 1 << 30)
        waiting = Deferred.fromCoroutine(ranges.apart(4000, 8))
        ranges.leave(0, 4096)
        self.assertNoResult(waiting)
        ranges.leave(1024, 1 << 30)
        self.successResultOf(waiting)


class Halves:
    """
    A system call that moves the first half, then waits in its thread for `go`.
    """

    def __init__(self, call: Callable[..., Any], cut: Callable[..., Any]) -> None:
        self._call = call
        self._cut = cut
        self._half = threading.Event()
        self._go = threading.Event()

    def __call__(self, *args: Any) -> Any:
        """Make the call, the first time in two steps."""
        if self._half.is_set():
            return self._call(*args)
        moved = self._call(*self._cut(*args))
        self._half.set()
        self._go.wait(60)
        return moved

    def halfway(self) -> Deferred[bool]:
        """Return a Deferred that fires when the first half is moved."""
        return deferToThread(self._half.wait, 60)

    def go(self) -> None:
        """Let it go on."""
        self._go.set()


class TornTests(TestCase):
    """
    A read and a change of the same block, at the same time.
    """

    async def disk(self) -> Any:
        """Open a disk whose first block is old."""
        path = os.path.realpath(self.mktemp())
        values = parse_values(
            fileio.PARAMETERS, {"filename": path, "size": "1M"}.items()
        )
        store: Any = await settled(fileio.open(reactor, "disk", values))
        self.addCleanup(store.close)
        await settled(store.write(0, OLD, False))
        return store

    def halves(self, name: str, cut: Callable[..., Any]) -> Halves:
        """Have a system call made in two steps, once."""
        made = Halves(getattr(os, name), cut)
        self.addCleanup(made.go)
        self.patch(os, name, made)
        return made

    async def test_read_during_write(self) -> None:
        """What is being written is read when it is written; the rest at once."""
        store = await self.disk()
        write = self.halves("pwrite", lambda fd, data, at: (fd, data[:1000], at))
        written = store.write(0, NEW, False)
        await write.halfway()
        read = store.read(0, 4096)
        self.assertIsInstance(read, Deferred)
        self.assertNoResult(read)
        # Its neighbours in the same 64 KiB need not wait.
        self.assertEqual(await settled(store.read(4096, 4096)), bytes(4096))
        write.go()
        await written
        self.assertEqual(bytes(await read), NEW)

    async def test_write_during_read(self) -> None:
        """What was written to while a thread read it is read again."""
        self.patch(PageCache, "read", lambda *_args: None)
        store = await self.disk()
        read = self.halves("pread", lambda fd, length, at: (fd, 1000, at))
        found = store.read(0, 4096)
        await read.halfway()
        await settled(store.write(8192, NEW, False))
        await settled(store.write(0, NEW, False))
        self.assertNoResult(found)
        read.go()
        self.assertEqual(bytes(await found), NEW)

    async def test_many_writes_during_read(self) -> None:
        """After more writes than are remembered it is read again, too."""
        self.patch(PageCache, "read", lambda *_args: None)
        store = await self.disk()
        read = self.halves("pread", lambda fd, length, at: (fd, 1000, at))
        found = store.read(0, 4096)
        await read.halfway()
        await settled(store.write(0, NEW, False))
        for _write in range(300):
            last = store.write(8192, NEW, False)
        await settled(last)
        read.go()
        self.assertEqual(bytes(await found), NEW)

    async def test_read_during_zeroes(self) -> None:
        """What is being made zeros is read when it is."""
        store = await self.disk()
        began, go = threading.Event(), threading.Event()
        self.addCleanup(go.set)
        real = allocation.fallocate

        def fallocate(*args: Any) -> Any:
            began.set()
            go.wait(60)
            return real(*args)

        self.patch(allocation, "fallocate", fallocate)
        zeroed = store.write_zeroes(0, 65536, False)
        await deferToThread(began.wait, 60)
        read = store.read(0, 4096)
        self.assertNoResult(read)
        go.set()
        await settled(zeroed)
        self.assertEqual(bytes(await read), bytes(4096))

    async def test_zeroes_during_read(self) -> None:
        """Zeros wait for what a thread is reading there."""
        self.patch(PageCache, "read", lambda *_args: None)
        store = await self.disk()
        read = self.halves("pread", lambda fd, length, at: (fd, 1000, at))
        found = store.read(0, 4096)
        await read.halfway()
        zeroed = store.write_zeroes(0, 4096, False)
        # A thread of its own would have made them long before these are written.
        for _write in range(50):
            await settled(store.write(8192, NEW, False))
        self.assertNoResult(zeroed)
        read.go()
        self.assertEqual(bytes(await found), OLD)
        await zeroed
        self.assertEqual(bytes(await settled(store.read(0, 4096))), bytes(4096))
