# SPDX-License-Identifier: MIT
"""
Tests for `scstd.handlers`, `scstd.filters`, `scstd.blocking` and `scstd.pagecache`.
"""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import providedBy

from scstd import allocation, filesystems
from scstd.attributes import ConfigurationError, parse_values
from scstd.blocking import GroupCommit, Lane
from scstd.filters import delay, error
from scstd.filters.base import Filtered
from scstd.handlers import fileio, memory, nullio
from scstd.handlers.writer import read_all, write_all
from scstd.interfaces import (
    IBackstore,
    IReadOnly,
    IWriteThrough,
    MediumError,
    command_priority,
)
from scstd.pagecache import Buffers, PageCache
from scstd.results import settled
from scstd.test.serving import PATIENCE
from scstd.test.stores import ManualStore
from scstd.testing.contracts import BackstoreContract


def opened(module: Any, **given: str) -> Any:
    """Return a store of a handler's module, or a Deferred of it."""
    return module.open(reactor, "test", parse_values(module.PARAMETERS, given.items()))


class MemoryContract(BackstoreContract, TestCase):
    async def open(self) -> IBackstore:
        """Return a store in memory."""
        store: IBackstore = opened(memory, size="2M")
        return store


class FileContract(BackstoreContract, TestCase):
    async def open(self) -> IBackstore:
        """Return a store in a file."""
        return IBackstore(await opened(fileio, filename=self.mktemp(), size="2M"))


class FileOf4KBlocksContract(BackstoreContract, TestCase):
    async def open(self) -> IBackstore:
        """Return a store in a file, of blocks of 4096 bytes."""
        return IBackstore(
            await opened(
                fileio,
                filename=self.mktemp(),
                size="2M",
                blocksize="4096",
                write_through="1",
            )
        )


class ThreadedFileContract(BackstoreContract, TestCase):
    async def open(self) -> IBackstore:
        """Return a store that leaves everything to threads."""
        store: Any = await opened(fileio, filename=self.mktemp(), size="2M")
        store._cache._flags = None
        return IBackstore(store)


class FileInMemoryContract(BackstoreContract, TestCase):
    async def open(self) -> IBackstore:
        """Return a store in a file of a file system that is memory."""
        fd = os.memfd_create("disk")
        self.addCleanup(os.close, fd)
        path = f"/proc/self/fd/{fd}"
        store: Any = await opened(fileio, filename=path, size="2M")
        assert store._opened.prompt
        return IBackstore(store)


class FilteredContract(BackstoreContract, TestCase):
    async def open(self) -> IBackstore:
        """Return a store behind a filter that changes nothing."""
        store = await opened(fileio, filename=self.mktemp(), size="2M")
        return IBackstore(Filtered(store))


class FileTests(TestCase):
    """
    What vdisk_fileio makes of files.
    """

    def file(self, size: int) -> str:
        """Return the path of a file of this size."""
        path: str = self.mktemp()
        Path(path).write_bytes(bytes(size))
        return path

    async def open(self, path: str, **given: str) -> Any:
        """Open a file; it is closed after the test."""
        store = await opened(fileio, filename=path, **given)
        self.addCleanup(lambda: value_of(store.close()))
        return store

    async def refused(self, path: str, **given: str) -> str:
        """Return why a file is refused."""
        with self.assertRaises(ConfigurationError) as refused:
            await opened(fileio, filename=path, **given)
        return str(refused.exception)

    async def test_made(self) -> None:
        """With a size a file that is not there is made, sparse; one that is, grows."""
        path = self.mktemp()
        await self.open(path, size="64M")
        self.assertEqual(Path(path).stat().st_size, 64 << 20)
        self.assertLess(Path(path).stat().st_blocks, 100)
        small = self.file(4096)
        self.assertEqual((await self.open(small, size="8K")).size, 8192)

    async def test_never_cut(self) -> None:
        """A file is never made shorter."""
        path = self.file(8192)
        self.assertEqual((await self.open(path, size="4K")).size, 8192)
        self.assertEqual(Path(path).stat().st_size, 8192)

    async def test_refused(self) -> None:
        """What cannot be a disk is refused with the reason."""
        self.assertIn("does not exist", await self.refused(self.mktemp()))
        nowhere = self.mktemp()
        self.assertIn(
            f"no directory {nowhere}", await self.refused(f"{nowhere}/d", size="1M")
        )
        self.assertIn("neither a file", await self.refused("/dev/null"))
        self.assertIn("not one block", await self.refused(self.file(100)))
        self.assertIn("irectory", await self.refused("/"))

    async def test_rest(self) -> None:
        """A file that ends inside a block is refused: that block would be cut off."""
        whole = 64 << 10
        for size, given, rest in (
            (whole + 476, {}, 476),
            (whole + 512, {"blocksize": "4096"}, 512),
            (whole + 3584, {"blocksize": "4096", "read_only": "1"}, 3584),
        ):
            why = await self.refused(self.file(size), **given)
            self.assertIn(f"the last {rest} are no whole block", why)
        path = self.mktemp()
        self.assertIn("not a multiple", await self.refused(path, size="1000"))
        self.assertFalse(Path(path).exists())
        self.assertEqual(
            (await self.open(self.file(whole + 512))).size,
            whole + 512,
            "blocks that do not fill a page are served",
        )

    async def test_locked(self) -> None:
        """A file that is open for writing is not opened again; readers may share."""
        path = self.file(8192)
        await self.open(path)
        self.assertIn("in use", await self.refused(path))
        self.assertIn("in use", await self.refused(path, read_only="1"))
        shared = self.file(8192)
        await self.open(shared, read_only="1")
        self.assertTrue(IReadOnly.providedBy(await self.open(shared, read_only="1")))

    async def test_write_through(self) -> None:
        """write_through is a promise that the store makes."""
        store = await self.open(self.file(8192), write_through="1")
        self.assertTrue(IWriteThrough.providedBy(store))

    async def test_truncated(self) -> None:
        """A file that was cut off behind our back is an error, not zeros."""
        path = self.file(16384)
        store = await self.open(path)
        os.truncate(path, 4096)
        failure = await self.failure(store.read(8192, 4096))
        self.assertEqual(failure.errno, errno.EIO)

    async def failure(self, result: Any) -> OSError:
        """Return what a call fails with."""
        try:
            await settled(result)
        except OSError as failed:
            return failed
        raise AssertionError("it did not fail")

    async def test_durable(self) -> None:
        """FUA and flush call fdatasync; several together call it once or twice."""
        calls: list[int] = []
        sync = os.fdatasync

        def counted(fd: int) -> None:
            calls.append(fd)
            sync(fd)

        self.patch(os, "fdatasync", counted)
        store = await self.open(self.file(1 << 20))
        await settled(store.write(0, b"x" * 4096, False))
        self.assertEqual(calls, [])
        await settled(store.write(0, b"x" * 4096, True))
        self.assertEqual(len(calls), 1)
        flushes = [store.flush() for _flush in range(50)]
        for flush in flushes:
            await flush
        self.assertLessEqual(len(calls), 3)

    async def test_resized(self) -> None:
        """A file that has grown is noticed when asked."""
        path = self.file(8192)
        store = await self.open(path)
        told: list[int] = []
        store.on_resize(told.append)
        os.truncate(path, 16384)
        await store.resync_size()
        self.assertEqual((store.size, told), (16384, [16384]))
        os.truncate(path, 16500)
        with self.assertRaises(ConfigurationError):
            await store.resync_size()
        self.assertEqual((store.size, told), (16384, [16384]))

    async def test_no_hole_punching(self) -> None:
        """Where the file system cannot punch holes, zeros are written."""
        self.patch(allocation, "_fallocate", None)
        store = await self.open(self.file(1 << 20))
        write_all(store._fd, 4096, b"x" * 8192)
        store._zero(2, 5000, 4000)
        found = read_all(store._fd, 4096, 8192)
        self.assertEqual(found, b"x" * 904 + bytes(4000) + b"x" * 3288)


def value_of(result: Any) -> Any:
    """Return a Deferred of a result."""
    return Deferred.fromCoroutine(settled(result))


class OtherHandlerTests(SynchronousTestCase):
    """
    memory and vdisk_nullio.
    """

    def test_null(self) -> None:
        """A null store forgets."""
        store = opened(nullio, size="4M")
        store.write(0, b"x" * 512, False)
        self.assertEqual(bytes(store.read(0, 512)), bytes(512))
        self.assertEqual(len(store.read(0, 2 << 20)), 2 << 20)
        self.assertTrue(IReadOnly.providedBy(opened(nullio, read_only="1")))

    def test_memory_status(self) -> None:
        """What was written is told, in pages, and what was unmapped is not."""
        store = opened(memory, size="1M")
        store.write(4096, bytes(8192), False)
        store.write(20480 - 512, b"x" * 512, False)
        store.write(65536, b"x" * 4096, False)
        store.unmap(65536, 4096)
        self.assertEqual(
            [
                (one.offset, one.length, one.mapped)
                for one in store.block_status(512, 65536)
            ],
            [
                (512, 3584, False),
                (4096, 8192, True),
                (12288, 4096, False),
                (16384, 4096, True),
                (20480, 45568, False),
            ],
        )

    def test_memory_far(self) -> None:
        """Of a large disk no more is looked at than 1 GiB an extent."""
        store = opened(memory, size="3G")
        store.write(2 << 30, b"x" * 4096, False)
        (one,) = store.extents(4096, (3 << 30) - 4096, 1)
        self.assertEqual((one.offset, one.length, one.mapped), (4096, 1 << 30, False))
        found = store.block_status(0, 3 << 30)
        self.assertEqual([one.mapped for one in found], [False, False, True, False])
        self.assertEqual(sum(one.length for one in found), 3 << 30)

    def test_memory_resized(self) -> None:
        """A disk in memory can be made larger or smaller, and keeps what it has."""
        store = opened(memory, size="10K", blocksize="1024")
        told: list[int] = []
        store.on_resize(told.append)
        store.write(9 << 10, b"x" * 1024, False)
        store.resize(4 << 20)
        self.assertEqual(
            (store.size, store.prefetch_limit, told), (4 << 20, 4 << 20, [4 << 20])
        )
        self.assertEqual(store.read(9 << 10, 2048), b"x" * 1024 + bytes(1024))
        store.write((4 << 20) - 1024, b"y" * 1024, False)
        self.assertEqual(store.read((4 << 20) - 1024, 1024), b"y" * 1024)
        self.assertRaises(ConfigurationError, store.resize, (4 << 20) + 512)
        self.assertEqual((store.size, told), (4 << 20, [4 << 20]))
        store.write(0, b"z" * 8192, False)
        store.resize(5 << 10)
        store.resize(1 << 20)
        self.assertEqual(store.read(0, 8192), b"z" * 5120 + bytes(3072))
        self.assertEqual(
            [one.length for one in store.block_status(0, 1 << 20)],
            [8192, (1 << 20) - 8192],
        )

    def test_sizes(self) -> None:
        """A size that is no multiple of the block length is refused."""
        for module in (memory, nullio):
            self.assertRaises(
                ConfigurationError, opened, module, size="1000", blocksize="512"
            )


class FilterTests(SynchronousTestCase):
    """
    delay and error.
    """

    def wrap(self, module: Any, **given: str) -> Any:
        """Put a filter before a store in memory."""
        self.clock = Clock()
        values = parse_values(module.PARAMETERS, given.items())
        return module.wrap(self.clock, "test", opened(memory, size="1M"), values)

    def test_provides_the_same(self) -> None:
        """A filter provides what its store provides."""
        store = self.wrap(delay, read="1")
        self.assertEqual(
            set(providedBy(store)), set(providedBy(opened(memory, size="1M")))
        )

    def test_delay(self) -> None:
        """Calls begin late; those without a delay do not."""
        store = self.wrap(delay, read="2", flush="0.5")
        read, flush = store.read(0, 512), store.flush()
        self.assertIsNone(store.write(0, b"x" * 512, False))
        self.clock.advance(0.5)
        self.successResultOf(flush)
        self.assertNoResult(read)
        self.clock.advance(1.5)
        self.assertEqual(self.successResultOf(read), b"x" * 512)

    def test_no_delay(self) -> None:
        """Where no call is to be late there is nothing before the store."""
        store = self.wrap(delay)
        self.assertIsInstance(store, memory.MemoryStore)
        self.assertIs(delay.wrap(self.clock, "", store, {"read": 0.0}), store)

    def test_error(self) -> None:
        """Calls fail where, when and as often as told."""
        store = self.wrap(
            error,
            on="write",
            errno="ENOSPC",
            offset="4K",
            length="4K",
            after="1",
            count="2",
        )
        outcomes: list[Any] = []
        for offset in (0, 4096, 8192, 4096, 7680, 4096):
            try:
                store.write(offset, b"x" * 512, False)
                outcomes.append(0)
            except OSError as failed:
                outcomes.append(failed.errno)
        space = errno.ENOSPC
        self.assertEqual(outcomes, [0, 0, 0, space, space, 0])
        self.assertEqual(len(store.read(4096, 512)), 512)

    def test_place(self) -> None:
        """A call that reaches into the range fails where that begins."""
        store = self.wrap(error, on="read", offset="4K", length="4K")
        for offset, at in ((0, 4096), (4096, 4096), (7680, 7680)):
            failed = self.assertRaises(MediumError, store.read, offset, 8192)
            self.assertEqual((failed.offset, failed.errno), (at, errno.EIO))

    def test_any_error(self) -> None:
        """Without limits everything fails."""
        store = self.wrap(error)
        for call in (
            lambda: store.read(0, 512),
            lambda: store.write(0, bytes(512), False),
            lambda: store.unmap(0, 512),
            lambda: store.write_zeroes(0, 512, False),
            store.flush,
        ):
            self.assertRaises(OSError, call)
        store.close()


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
