# SPDX-License-Identifier: MIT
"""
Tests for `scstd.handlers`, `scstd.filters`, `scstd.blocking` and `scstd.pagecache`.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import providedBy

from scstd import allocation
from scstd.attributes import ConfigurationError, parse_values
from scstd.filters import delay, error
from scstd.filters.base import Filtered
from scstd.handlers import fileio, memory, nullio
from scstd.handlers.writer import read_all, write_all
from scstd.interfaces import (
    IBackstore,
    IReadOnly,
    IWriteThrough,
    MediumError,
)
from scstd.results import settled
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
