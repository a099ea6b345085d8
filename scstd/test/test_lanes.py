# SPDX-License-Identifier: MIT
"""
Tests for `scstd.blocking`, `scstd.pagecache` and the writer of files: threads for what
may block.
"""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from scstd import filesystems
from scstd.blocking import GroupCommit, Lane
from scstd.interfaces import (
    command_priority,
)
from scstd.pagecache import Buffers, PageCache
from scstd.test.serving import PATIENCE
from scstd.test.stores import ManualStore
from scstd.test.test_handlers import value_of


class LaneTests(TestCase):
    """
    Threads of a store.
    """

    async def test_in_order(self) -> None:
        """One thread makes the calls one after the other, off the reactor's thread."""
        lane = Lane(reactor, "test")
        seen: list[int] = []
        here = threading.get_ident()

        def call(number: int) -> bool:
            seen.append(number)
            return threading.get_ident() != here

        calls = [lane.call(call, number) for number in range(100)]
        self.assertEqual([await one for one in calls], [True] * 100)
        self.assertEqual(seen, list(range(100)))
        await lane.close()

    async def test_together(self) -> None:
        """Several threads make calls at the same time."""
        lane = Lane(reactor, "test", 3)
        meeting = threading.Barrier(3, timeout=PATIENCE)
        for one in [lane.call(meeting.wait) for _thread in range(3)]:
            await one
        await lane.close()

    async def busy(self, lane: Lane, threads: int) -> list[threading.Event]:
        """Have every thread of a lane at work; return what lets each go on."""
        begun = threading.Barrier(threads + 1, timeout=PATIENCE)
        events = [threading.Event() for _thread in range(threads)]

        def work(event: threading.Event) -> None:
            begun.wait()
            event.wait(PATIENCE)

        for event in events:
            lane.call(work, event)
        await deferToThread(begun.wait)
        return events

    @staticmethod
    def ask(lane: Lane, seen: list[str], name: str, priority: int) -> Deferred[None]:
        """Have a name noted, by a call of this priority."""
        before = command_priority.set(priority)
        try:
            return lane.call(seen.append, name)
        finally:
            command_priority.reset(before)

    async def test_priority(self) -> None:
        """Of those that wait for a thread the one of the highest priority is next."""
        lane = Lane(reactor, "test", 2)
        for _round in range(2):
            seen: list[str] = []
            first, second = await self.busy(lane, 2)
            # The first are there before the lane has seen any priority.
            calls = [self.ask(lane, seen, name, 0) for name in ("a", "b")]
            await deferLater(reactor, 0, lambda: None)
            calls += [
                self.ask(lane, seen, name, priority)
                for name, priority in (
                    ("last", 15),
                    ("none", 0),
                    ("as none", 8),
                    ("second", 2),
                    ("first", 1),
                    ("also first", 1),
                )
            ]
            await deferLater(reactor, 0, lambda: None)
            first.set()
            for call in calls:
                await call
            second.set()
            ranked = ["first", "also first", "second"]
            rest = ["none", "as none", "last"]
            expected = (
                [*ranked, "a", "b", *rest] if _round else ["a", "b", *ranked, *rest]
            )
            self.assertEqual(seen, expected)
        await lane.close()

    async def test_priority_in_order(self) -> None:
        """With one thread the order stays: something may be meant by it."""
        lane = Lane(reactor, "test")
        seen: list[str] = []
        (event,) = await self.busy(lane, 1)
        calls = [self.ask(lane, seen, str(number), number) for number in (9, 0, 1)]
        event.set()
        for call in calls:
            await call
        self.assertEqual(seen, ["9", "0", "1"])
        await lane.close()

    async def test_close_by_priority(self) -> None:
        """What waits is called before the threads end, whatever its priority."""
        lane = Lane(reactor, "test", 2)
        seen: list[str] = []
        events = await self.busy(lane, 2)
        self.ask(lane, seen, "one", 15)
        self.ask(lane, seen, "two", 0)
        closed = lane.close()
        for event in events:
            event.set()
        await closed
        self.assertEqual(sorted(seen), ["one", "two"])

    async def test_failure(self) -> None:
        """What a call raises its Deferred fails with."""
        lane = Lane(reactor, "test")
        with self.assertRaises(ZeroDivisionError):
            await lane.call(lambda: 1 // 0)
        await lane.close()

    async def test_close(self) -> None:
        """Closing waits for the calls asked for, and leaves no thread."""
        lane = Lane(reactor, "test", 2)
        done: list[int] = []
        for number in range(20):
            lane.call(done.append, number)
        await lane.close()
        self.assertEqual(sorted(done), list(range(20)))
        await Lane(reactor, "never used").close()


class GroupCommitTests(SynchronousTestCase):
    """
    One flush for many.
    """

    def test_groups(self) -> None:
        """What is asked for during a flush is served by the next one, not by it."""
        running: list[Deferred[None]] = []

        def flush() -> Deferred[None]:
            running.append(Deferred())
            return running[-1]

        commit = GroupCommit(flush)
        first = commit()
        second, third = commit(), commit()
        self.assertEqual(len(running), 1)
        running[0].callback(None)
        self.successResultOf(first)
        self.assertNoResult(second)
        self.assertEqual(len(running), 2)
        running[1].errback(OSError(errno.EIO, "broken"))
        self.failureResultOf(second, OSError)
        self.failureResultOf(third, OSError)
        fourth = commit()
        running[2].callback(None)
        self.successResultOf(fourth)


class PageCacheTests(SynchronousTestCase):
    """
    What is done at once, and what is left to threads.
    """

    def test_read(self) -> None:
        """What is cached is read at once; what is behind the end is not."""
        path = self.mktemp()
        Path(path).write_bytes(b"y" * 8192)
        fd = os.open(path, os.O_RDONLY)
        self.addCleanup(os.close, fd)
        cache = PageCache(fd)
        data = cache.read(0, 4096)
        if data is not None:
            self.assertEqual(data, b"y" * 4096)
        self.assertIsNone(cache.read(8192 - 512, 1024))

    def test_prompt(self) -> None:
        """Where nothing waits everything is read at once."""
        fd = os.memfd_create("disk")
        self.addCleanup(os.close, fd)
        os.truncate(fd, 1 << 20)
        os.pwrite(fd, b"m" * 4096, 8192)
        cache = PageCache(fd, prompt=filesystems.prompt(fd))
        self.assertEqual(cache.read(4096, 8192), bytes(4096) + b"m" * 4096)
        self.assertIsNone(cache.read((1 << 20) - 512, 1024))

    def test_not_prompt(self) -> None:
        """A device may wait, though the file system of its name is memory."""
        fd = os.open("/dev/zero", os.O_RDONLY)
        self.addCleanup(os.close, fd)
        self.assertFalse(filesystems.prompt(fd))

    def test_buffers(self) -> None:
        """A buffer is used again when nobody refers to it, and not before."""
        buffers = Buffers(smallest=1024, most=65536)
        first = buffers.get(4096)
        where = id(first)
        second = buffers.get(4096)
        self.assertIsNot(first, second)
        view = memoryview(first)[10:20]
        del first, second
        third = buffers.get(4096)
        self.assertNotEqual(id(third), where)
        del view, third
        kept = [buffers.get(4096) for _one in range(3)]
        self.assertIn(where, map(id, kept))
        self.assertEqual(len(set(map(id, kept))), 3)
        self.assertIsNot(buffers.get(512), buffers.get(512))


class StuckTests(SynchronousTestCase):
    """
    The helper store of these tests.
    """

    def test_manual(self) -> None:
        """A manual store does nothing until it is told to."""
        store = ManualStore()
        write = value_of(store.write(0, b"x" * 512, False))
        self.assertEqual(store.inner.read(0, 512), bytes(512))
        store.go()
        self.successResultOf(write)
        self.assertEqual(store.inner.read(0, 512), b"x" * 512)
