# SPDX-License-Identifier: MIT
"""
Tests for space: what can be deallocated, a file system that is full, thresholds; and
what happens when a file is not what it was.

As root they use a real tmpfs and a real loop device; without, those are skipped.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import subprocess
import unittest
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet import reactor, task
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import alsoProvides

from scstd import allocation
from scstd.attributes import parse_values
from scstd.filters.base import Filtered
from scstd.handlers import fileio
from scstd.interfaces import ISpace, IUnmap, MediumError
from scstd.management.monitor.thin_space import INTERVAL, SpaceWatch
from scstd.results import settled
from scstd.scsi.device import open_disk
from scstd.test.clients import find
from scstd.test.initiator import Initiator, serve
from scstd.test.stores import memory
from scstd.testing.contracts import BackstoreContract


def program(*command: str) -> str:
    """
    Run a program as root, or skip the test that runs.
    """
    found = find(command[0])
    if os.geteuid() or found is None:
        raise unittest.SkipTest(f"{command[0]} takes root")
    done = subprocess.run(
        [found, *command[1:]], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise unittest.SkipTest(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout.strip()


def status(path: str) -> os.stat_result:
    """
    Return what the file system says of a file.
    """
    return Path(path).stat()


class FileCase(TestCase):
    """
    What they need: files, and what comes of calls.
    """

    async def open(self, path: str, **given: str) -> Any:
        """Open a file; it is closed after the test."""
        values = parse_values(fileio.PARAMETERS, {"filename": path, **given}.items())
        store: Any = await fileio.open(reactor, "test", values)
        self.addCleanup(lambda: Deferred.fromCoroutine(settled(store.close())))
        return store

    def file(self, size: int) -> str:
        """Return the path of a file full of letters."""
        path: str = self.mktemp()
        Path(path).write_bytes(b"x" * size)
        return path

    async def failure(self, call: Callable[[], Any]) -> Any:
        """Return what a call fails with."""
        try:
            await settled(call())
        except OSError as failed:
            return failed
        raise AssertionError("it did not fail")

    def tmpfs(self, size: str) -> Path:
        """Mount a tmpfs, for this test."""
        path = Path(self.mktemp()).absolute()
        path.mkdir()
        program("mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(path))
        self.addCleanup(program, "umount", "-l", str(path))
        return path


class ShorterTests(FileCase):
    """
    A file that was cut off behind our back.
    """

    async def test_read(self) -> None:
        """What is gone is an error at its place, whatever else is read with it."""
        path = self.file(65536)
        store = await self.open(path)
        await settled(store.read(0, 65536))
        os.truncate(path, 20000)
        for offset, length, at in (
            (32768, 4096, 32768),
            (16384, 4096, 20000),
            (0, 65536, 20000),
            (19968, 512, 20000),
        ):
            failed = await self.failure(partial(store.read, offset, length))
            self.assertIsInstance(failed, MediumError)
            self.assertEqual((failed.errno, failed.offset), (errno.EIO, at))
        self.assertEqual(bytes(await settled(store.read(16384, 512))), b"x" * 512)

    async def test_write(self) -> None:
        """It is not made longer again: zeros would stand for what is lost."""
        path = self.file(65536)
        store = await self.open(path)
        os.truncate(path, 20000)
        calls: list[tuple[Callable[[], Any], int]] = [
            (lambda: store.write(32768, bytes(4096), False), 32768),
            (lambda: store.write(16384, bytes(4096), True), 20000),
            (lambda: store.unmap(16384, 32768), 20000),
            (lambda: store.write_zeroes(32768, 4096, False), 32768),
            (lambda: store.copy_from(*store.place(0, 8192), 16384, 8192, False), 20000),
        ]
        for call, at in calls:
            failed = await self.failure(call)
            self.assertEqual((failed.errno, failed.offset), (errno.EIO, at))
        self.assertEqual(status(path).st_size, 20000)
        await settled(store.write(0, bytes(4096), False))

    async def test_bad_page(self) -> None:
        """Of a range with a page that cannot be read the place of that is told."""
        store = await self.open(self.file(65536))
        pread = os.pread

        def bad(fd: int, length: int, offset: int) -> bytes:
            if offset >= 12288:
                raise OSError(errno.EIO, "bad page")
            return pread(fd, min(length, 12288 - offset), offset)

        self.patch(store._cache, "_flags", None)
        self.patch(os, "pread", bad)
        failed = await self.failure(lambda: store.read(4096, 16384))
        self.assertEqual((failed.errno, failed.offset), (errno.EIO, 12288))


class FlushTests(FileCase):
    """
    A flush that fails.
    """

    async def test_stays_failed(self) -> None:
        """Linux tells of a lost page once; we do until the file is opened again."""
        given = parse_values(fileio.PARAMETERS, [("filename", self.file(65536))])
        store: Any = await fileio.open(reactor, "test", given)
        sync = os.fdatasync

        def broken(fd: int) -> None:
            self.patch(os, "fdatasync", sync)
            raise OSError(errno.EIO, "lost")

        self.patch(os, "fdatasync", broken)
        for call in (
            store.flush,
            store.flush,
            lambda: store.write(0, bytes(4096), True),
        ):
            failed = await self.failure(call)
            self.assertEqual(failed.errno, errno.EIO)
        await settled(store.write(0, bytes(4096), False))
        await settled(store.close())
        again: Any = await fileio.open(reactor, "again", given)
        await settled(again.flush())
        await settled(again.close())


class FullTests(FileCase):
    """
    No space left.
    """

    async def test_full(self) -> None:
        """On a real tmpfs that is full a write fails, and works when there is space."""
        path = self.tmpfs("1M")
        store = await self.open(str(path / "disk.img"), size="4M")
        self.assertTrue(IUnmap.providedBy(store))
        node, _target, (unit,) = serve(store)
        one = Initiator(node).ready()
        piece = b"f" * 65536
        written = 0
        with contextlib.suppress(OSError):
            while True:
                await settled(store.write(written, piece, False))
                written += len(piece)
        self.assertLess(written, 2 << 20)
        command = one.command(
            b"\x2a\0" + (written // 512).to_bytes(4, "big") + b"\0\0\x10\0",
            write=8192,
            data=piece[:8192],
        )
        one.send(command)
        done = await self.answer(one, command)
        self.assertEqual((done.key, done.asc), (7, 0x2707))
        self.assertEqual(bytes(await settled(store.read(0, 65536))), piece)
        await settled(store.unmap(0, 65536))
        command = one.command(
            b"\x2a\0" + (written // 512).to_bytes(4, "big") + b"\0\0\x10\0",
            write=8192,
            data=piece[:8192],
        )
        one.send(command)
        done = await self.answer(one, command)
        self.assertEqual(done.status, 0)
        found = bytes(await settled(store.read(written, 8192)))
        self.assertEqual(found, piece[:8192])
        self.assertEqual(unit.tasks(), [])

    async def answer(self, one: Initiator, command: Any) -> Any:
        """Wait for the answer to a command whose store has threads."""
        while not one.connection.output:
            await task.deferLater(reactor, 0.002, lambda: None)
        return one.finish(command)

    async def test_limit(self) -> None:
        """A file that may not be so large says so at the place."""
        store = await self.open(self.file(65536))
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (32768, limits[1]))
            failed = await self.failure(lambda: store.write(16384, bytes(32768), False))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, ignored)
        self.assertEqual((failed.errno, failed.offset), (errno.EFBIG, 32768))


class LimitTests(FileCase):
    """
    What can be deallocated.
    """

    def queue(self, path: Path, **values: int) -> None:
        """Make a queue's attributes."""
        (path / "queue").mkdir(parents=True)
        for name, number in values.items():
            (path / "queue" / name).write_text(f"{number}\n")

    def test_device(self) -> None:
        """A block device's are those of its queue; a partition's those of its disk."""
        root = Path(self.mktemp())
        disk = root / "sda"
        self.queue(
            disk,
            discard_granularity=1 << 20,
            discard_max_bytes=1 << 30,
            write_zeroes_max_bytes=1 << 25,
        )
        part = disk / "sda1"
        part.mkdir()
        (part / "discard_alignment").write_text("4096")
        found = allocation._device_limits(part)
        self.assertEqual(found, allocation.DiscardLimits(True, 1 << 20, 4096))
        self.assertEqual(allocation._device_limits(disk).alignment, 0)

    def test_no_discard(self) -> None:
        """A device that cannot forget, or leaves no zeros, is not thin."""
        root = Path(self.mktemp())
        self.queue(root / "a", discard_granularity=0, discard_max_bytes=0)
        self.queue(root / "b", discard_granularity=4096, discard_max_bytes=1 << 30)
        for name in "abc":
            self.assertFalse(allocation._device_limits(root / name).frees)

    async def test_no_holes(self) -> None:
        """A file system without holes makes no thin disk."""
        self.patch(allocation, "_fallocate", None)
        store = await self.open(self.file(8192))
        self.assertFalse(IUnmap.providedBy(store))
        self.assertFalse(open_disk("d", store).volume.thin)

    async def test_read_only(self) -> None:
        """A file that is only read is thin nevertheless: its holes are told."""
        store = await self.open(self.file(8192), read_only="1")
        self.assertTrue(open_disk("d", store).volume.thin)

    def test_told(self) -> None:
        """The Block Limits page has granularity and alignment of the store."""
        store: Any = memory(1 << 20)
        store.unmap_granularity, store.unmap_alignment = 65536, 3584
        node, _target, _units = serve(store)
        page = Initiator(node).ready().do(b"\x12\1\xb0\0\xff\0", read=255).data
        self.assertEqual(int.from_bytes(page[28:32], "big"), 128)
        self.assertEqual(int.from_bytes(page[32:36], "big"), 0x80000007)


class LoopContract(BackstoreContract, FileCase):
    """
    A real block device: a loop device on a sparse file.
    """

    async def open(self) -> Any:  # type: ignore[override]
        """Return a store on a new one."""
        self.image = self.mktemp()
        with open(self.image, "wb") as file:  # noqa: PTH123, ASYNC230
            file.truncate(4 << 20)
        self.device = program("losetup", "--show", "-f", self.image)
        self.addCleanup(program, "losetup", "-d", self.device)
        return await FileCase.open(self, self.device)

    async def _opened(self) -> Any:
        return await self.open()

    async def test_frees(self) -> None:
        """What is unmapped is freed below, and reads as zeros."""
        store = await self.open()
        self.assertTrue(IUnmap.providedBy(store))
        self.assertFalse(ISpace.providedBy(store))
        self.assertFalse(store._opened.prompt, "/dev is memory, but not its devices")
        await settled(store.write(0, b"d" * (1 << 20), True))
        before = status(self.image).st_blocks
        await settled(store.unmap(0, 1 << 20))
        self.assertEqual(bytes(await settled(store.read(0, 1 << 20))), bytes(1 << 20))
        await settled(store.flush())
        self.assertLess(status(self.image).st_blocks, before - 1000)


class Spacious(Filtered):
    """
    A store in a space of a hundred bytes.
    """

    used = 10

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        alsoProvides(self, ISpace)

    def space(self) -> tuple[int, int]:
        """Return what is used."""
        return self.used, 100


class ThresholdTests(SynchronousTestCase):
    """
    The soft threshold.
    """

    def test_told_once(self) -> None:
        """Passing it is told to every nexus, once each time; nonsense is passed over."""
        clock = task.Clock()
        store: Any = Spacious(memory())
        node, _target, (unit,) = serve(store)
        one = Initiator(node).ready()
        watch = SpaceWatch(clock)
        watch.watch(unit, 80)
        self.assertEqual(one.do(bytes(6)).status, 0)
        for used, told in (
            (79, 0),
            ("much", 0),
            (80, 1),
            (95, 0),
            (None, 0),
            (70, 0),
            (81, 1),
        ):
            store.used = used
            clock.advance(INTERVAL)
            done = one.do(bytes(6))
            self.assertEqual(done.status, 2 if told else 0)
            if told:
                self.assertEqual((done.key, done.asc), (6, 0x3807))
        watch.forget(unit)
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_not_asked(self) -> None:
        """Without a threshold, or a file system, nothing is asked."""
        clock = task.Clock()
        unit = open_disk("d", memory())
        watch = SpaceWatch(clock)
        watch.watch(unit, None)
        watch.watch(unit, 50)
        self.assertEqual(clock.getDelayedCalls(), [])
        watch.forget(unit)


class FileSpaceTests(FileCase):
    """
    The space of a real file system.
    """

    async def test_space(self) -> None:
        """What is used grows with what is written."""
        path = self.tmpfs("1M")
        store = await self.open(str(path / "disk.img"), size="512K")
        self.assertTrue(ISpace.providedBy(store))
        before, total = await settled(store.space())
        self.assertEqual(total, 1 << 20)
        await settled(store.write(0, b"x" * 262144, False))
        after, _total = await settled(store.space())
        self.assertEqual(after - before, 262144)
