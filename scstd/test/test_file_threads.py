# SPDX-License-Identifier: MIT
"""
Stores of files make no call in the reactor that a file system can hold.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from scstd import allocation, filesystems
from scstd.attributes import ConfigurationError, parse_values
from scstd.handlers import cdrom, fileio, writer
from scstd.handlers.overlaps import Ranges
from scstd.handlers.writer import Writer
from scstd.interfaces import MediumError
from scstd.results import settled

_CALLS = (
    (
        os,
        "open close lseek fstat stat lstat ftruncate pread pwrite pwritev fdatasync"
        " fsync posix_fadvise copy_file_range fstatvfs sendfile",
    ),
    (fcntl, "flock ioctl"),
    (allocation, "fallocate limits"),
    (filesystems, "prompt"),
)
"""What may stand still in the kernel; `preadv` is asked not to."""


class ThreadTests(TestCase):
    """
    In which thread each call on the file is made.
    """

    def setUp(self) -> None:
        """Have it told when one is made in the reactor's."""
        self.here = threading.get_ident()
        self.wrong: list[str] = []
        self.made: set[str] = set()
        self.path = Path(self.mktemp()).absolute()
        for module, names in _CALLS:
            for name in names.split():
                self.patch(module, name, self.watched(name, getattr(module, name)))

    def watched(self, name: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that tells in which thread it is called."""

        def call(*args: Any, **given: Any) -> Any:
            self.made.add(name)
            if threading.get_ident() == self.here:
                self.wrong.append(f"{name}{args}")
            return inner(*args, **given)

        return call

    def values(self, module: Any, **given: str) -> Any:
        """Return parameters of a handler."""
        return parse_values(module.PARAMETERS, given.items())

    async def test_disk(self) -> None:
        """A disk: from opening a file that is made to closing it."""
        values = self.values(fileio, filename=str(self.path), size="1M")
        store: Any = await fileio.open(reactor, "disk", values)
        await settled(store.write(0, b"a" * 4096, False))
        await settled(store.write(512, b"b" * 512, True))
        await settled(store.write(65536, bytes(300000), False))
        await settled(store.read(0, 4096))
        await settled(store.prefetch(0, 1 << 20))
        await settled(store.write_zeroes(0, 8192, True))
        await settled(store.unmap(65536, 65536))
        await settled(store.copy_from(*store.place(0, 4096), 131072, 4096, False))
        await settled(store.block_status(0, 1 << 20))
        await settled(store.space())
        await settled(store.flush())
        await settled(store.resize(2 << 20))
        await settled(store.resync_size())
        await settled(store.close())
        self.assertEqual((store.size, self.wrong), (2 << 20, []))
        for name in ("open", "pwrite", "lseek", "fdatasync", "ftruncate", "close"):
            self.assertIn(name, self.made)

    async def test_refused(self) -> None:
        """A disk that is refused, too."""
        values = self.values(fileio, filename=str(self.path))
        with self.assertRaises(ConfigurationError):
            await fileio.open(reactor, "disk", values)
        self.assertEqual(self.wrong, [])

    async def test_drive(self) -> None:
        """A CD drive: opening, reading, changing, closing."""
        self.path.mkdir()
        discs = [str(self.path / name) for name in ("a.iso", "b.iso")]
        for disc in discs:
            _written(disc, 100 * 2048)
        self.wrong.clear()
        values = self.values(cdrom, filename=discs[0])
        drive: Any = await settled(cdrom.open(reactor, "cd", values))
        await settled(drive.read(0, 65536))
        await settled(drive.change(discs[1]))
        drive.eject()
        await settled(drive.load())
        await settled(drive.read(0, 2048))
        await settled(drive.close())
        self.assertEqual(self.wrong, [])

    async def test_new_file_is_kept(self) -> None:
        """A file that was made is named durably before it is served."""
        synced: list[str] = []
        fsync = os.fsync

        def noted(fd: int) -> None:
            synced.append(str(Path(f"/proc/self/fd/{fd}").readlink()))
            fsync(fd)

        self.patch(os, "fsync", noted)
        values = self.values(fileio, filename=str(self.path), size="1M")
        # The second time, too: who made it may have been killed before that.
        for expected in (
            [str(self.path), str(self.path.parent)],
            [str(self.path.parent)],
        ):
            synced.clear()
            store: Any = await fileio.open(reactor, "disk", values)
            self.assertEqual(synced, expected)
            await settled(store.close())


def _written(path: str, size: int) -> None:
    Path(path).write_bytes(bytes(size))


class ManualLane:
    """
    A lane whose calls are made when the test says so.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[Callable[[], Any], Any]] = []

    def call(self, function: Callable[[], Any]) -> Any:
        """Note a call."""
        deferred: Deferred[Any] = Deferred()
        self.calls.append((function, deferred))
        return deferred

    def go(self) -> None:
        """Make the first."""
        function, deferred = self.calls.pop(0)
        deferred.callback(function())


class WriterTests(TestCase):
    """
    Writes that wait are made together, and each has its own outcome.
    """

    def setUp(self) -> None:
        """Open a file."""
        path = self.mktemp()
        Path(path).write_bytes(bytes(65536))
        self.fd = os.open(path, os.O_RDWR)
        self.addCleanup(os.close, self.fd)
        self.lane = ManualLane()
        lane: Any = self.lane
        self.writer = Writer(lane, self.fd, Ranges(), is_file=True)

    async def test_together(self) -> None:
        """One call for all that wait; what is contiguous goes in one."""
        calls: list[tuple[str, int]] = []
        pwrite, pwritev = os.pwrite, os.pwritev

        def one(fd: int, data: Any, offset: int) -> int:
            calls.append(("one", offset))
            return pwrite(fd, data, offset)

        def several(fd: int, data: Any, offset: int) -> int:
            calls.append(("several", offset))
            return pwritev(fd, data, offset)

        self.patch(os, "pwrite", one)
        self.patch(os, "pwritev", several)
        written = [
            self.writer(offset, bytes([65 + offset // 4096]) * 4096)
            for offset in (0, 4096, 8192, 40960, 36864)
        ]
        self.assertEqual(len(self.lane.calls), 1)
        self.lane.go()
        await gatherResults(written)
        self.assertEqual(calls, [("several", 0), ("one", 40960), ("one", 36864)])
        found = os.pread(self.fd, 12288, 0)
        self.assertEqual(found, b"A" * 4096 + b"B" * 4096 + b"C" * 4096)

    async def test_many_together(self) -> None:
        """Of very many that are contiguous no more go in one call than it takes."""
        calls: list[int] = []
        pwritev = os.pwritev

        def several(fd: int, data: Any, offset: int) -> int:
            calls.append(len(data))
            return pwritev(fd, data, offset)

        self.patch(os, "pwritev", several)
        self.patch(writer, "_IOV_MAX", 3)
        written = [self.writer(16 * at, b"%016d" % at) for at in range(7)]
        read = self.writer.read(0, 48)
        written.append(self.writer(112, b"%016d" % 7))
        self.lane.go()
        await gatherResults(written)
        self.assertEqual(calls, [3, 3])
        found = os.pread(self.fd, 128, 0)
        self.assertEqual(found, b"".join(b"%016d" % at for at in range(8)))
        self.assertEqual(await read, found[:48])

    async def test_short(self) -> None:
        """A write that the kernel makes a piece at a time goes on where that ended."""
        pwrite = os.pwrite

        def short(fd: int, data: Any, offset: int) -> int:
            if offset + len(data) > 16384 and offset >= 10000:
                raise OSError(errno.ENOSPC, "full")
            return pwrite(fd, bytes(data)[:1000], offset)

        self.patch(os, "pwrite", short)
        data = bytes(range(256)) * 16
        whole, part = self.writer(0, data), self.writer(8192, data * 3)
        self.lane.go()
        await whole
        self.assertEqual(os.pread(self.fd, 4096, 0), data)
        with self.assertRaises(MediumError) as failed:
            await part
        raised = failed.exception
        self.assertEqual((raised.errno, raised.offset), (errno.ENOSPC, 10192))

    async def test_order(self) -> None:
        """What was asked for last is what is there."""
        written = [self.writer(0, bytes([number]) * 4096) for number in range(9)]
        self.lane.go()
        await gatherResults(written)
        self.assertEqual(os.pread(self.fd, 1, 0), b"\x08")

    async def test_own_outcome(self) -> None:
        """Of several contiguous writes that fails which cannot be made, no other."""
        pwritev, pwrite = os.pwritev, os.pwrite

        def full(fd: int, data: Any, offset: int) -> int:
            if offset <= 8192 < offset + sum(map(len, data)):
                raise OSError(errno.ENOSPC, "full")
            return pwritev(fd, data, offset)

        def also_full(fd: int, data: Any, offset: int) -> int:
            if offset == 8192:
                raise OSError(errno.ENOSPC, "full")
            return pwrite(fd, data, offset)

        self.patch(os, "pwritev", full)
        self.patch(os, "pwrite", also_full)
        first, bad, last, behind = (
            self.writer(offset, b"x" * 4096) for offset in (4096, 8192, 12288, 65536)
        )
        self.lane.go()
        await first
        await last
        for write, number, at in (
            (bad, errno.ENOSPC, 8192),
            (behind, errno.EIO, 65536),
        ):
            with self.assertRaises(MediumError) as failed:
                await write
            raised = failed.exception
            self.assertEqual((raised.errno, raised.offset), (number, at))
        self.assertEqual(os.pread(self.fd, 4096, 12288), b"x" * 4096)

    async def test_no_thread(self) -> None:
        """Where no thread can be had all that wait fail, and later ones are tried."""
        first, second = self.writer(0, bytes(512)), self.writer(512, bytes(512))
        _call, deferred = self.lane.calls.pop()
        deferred.errback(OSError(errno.EAGAIN, "no thread"))
        for write in (first, second):
            with self.assertRaises(OSError):
                await write
        third = self.writer(0, b"3" * 512)
        self.lane.go()
        await third
        self.assertEqual(os.pread(self.fd, 512, 0), b"3" * 512)
