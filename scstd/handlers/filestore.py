# SPDX-License-Identifier: MIT
"""
A file, or a block device, as a backstore.

Nothing here waits in the reactor.  What the page cache has is read from it at once
(`scstd.pagecache`); everything else that touches the file goes to threads: reads of
what is not cached to several, writes to one (`scstd.handlers.writer`), flushes to one
of their own, where one fdatasync makes all writes durable that were asked to be.  Where
the file system is nothing but memory, writes of some length are made at once, too.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from zope.interface import alsoProvides, implementer

from scstd import allocation
from scstd.allocation import PUNCH_HOLE, UNSUPPORTED, ZERO_RANGE
from scstd.attributes import ConfigurationError
from scstd.blocking import GroupCommit, Lane
from scstd.handlers.mapped import Mapped
from scstd.handlers.openfile import OpenFile, see_blocks, size_of
from scstd.handlers.overlaps import Ranges
from scstd.handlers.writer import Writer, check_end, read_all, write_all
from scstd.interfaces import (
    Buffer,
    Extent,
    IBackstore,
    IBlockStatus,
    ICopySource,
    ICopyTarget,
    IExtents,
    IGivenBuffers,
    IMediumIdentity,
    IPrefetch,
    IResize,
    IResizeNotice,
    ISpace,
    IUnmap,
    IWriteThrough,
    IWriteZeroes,
    Result,
)
from scstd.pagecache import PageCache

T = TypeVar("T")

_READERS = 4
_COPIERS = 2

_LONGEST_PROMPT = 131072
"""Bytes of the longest write made at once: a longer copy is better made by a thread."""

_MOST_EXTENTS = 4096

_NO_COPY = {
    errno.EXDEV,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.EINVAL,
    errno.EBADF,
    errno.ETXTBSY,
}
"""What copy_file_range says where it cannot: bytes are read and written then."""

_PREFETCH = 32 << 20
"""Bytes that are read ahead at most, when an initiator asks for it."""


@implementer(
    IBackstore,
    IWriteZeroes,
    IBlockStatus,
    IExtents,
    IPrefetch,
    IResizeNotice,
    IResize,
    ICopySource,
    ICopyTarget,
    IGivenBuffers,
    IMediumIdentity,
)
class FileStore:
    """
    An open file as a backstore, which is its own from now on.

    It provides IUnmap where the file system, or the device, can deallocate.

    Once a flush has failed each later one fails, until the file is opened again: Linux
    reports a lost page once, then takes it for clean, and nobody can say which it was.
    """

    unmap_granularity: int
    unmap_alignment: int
    prefetch_limit = _PREFETCH

    def __init__(
        self, reactor: Any, name: str, opened: OpenFile, block_size: int
    ) -> None:
        self.size = opened.size
        self.block_size = block_size
        self.unmap_granularity = max(opened.can.granularity, block_size)
        self.unmap_alignment = opened.can.alignment
        if opened.can.frees:
            alsoProvides(self, IUnmap)
        if opened.is_file:
            alsoProvides(self, ISpace)
        self._opened = opened
        self._fd = opened.fd
        self._lost: int | None = None
        self._through = False
        self._reads = Lane(reactor, f"{name} read", _READERS)
        self._writes = Lane(reactor, f"{name} write")
        self._finds = Lane(reactor, f"{name} status")
        self._copies = Lane(reactor, f"{name} copy", _COPIERS)
        self._frees = Lane(reactor, f"{name} free")
        self._flushes = Lane(reactor, f"{name} flush")
        self._commit = GroupCommit(lambda: self._flushes.call(self._sync))
        self._cache = PageCache(opened.fd, prompt=opened.prompt)
        self._longest = _LONGEST_PROMPT if opened.prompt else 0
        self._changing, self._remade, self._reading = Ranges(), Ranges(), Ranges()
        self._writer = Writer(
            self._writes, opened.fd, self._changing, is_file=opened.is_file
        )
        self._mapped = Mapped()
        self._resized: Any = None

    def write_through(self) -> None:
        """
        Make every write durable from now on.
        """
        self._through = True
        alsoProvides(self, IWriteThrough)

    def medium_identity(self) -> str | None:
        """Return what tells the file from every other."""
        return self._opened.identity

    # Reading.

    def read(self, offset: int, length: int) -> Result[Buffer]:
        """Read from the page cache, or in a thread."""
        if not self._changing or not self._changing.meets(offset, length):
            data = self._cache.read(offset, length)
            if data is not None:
                return data
        return Deferred.fromCoroutine(self._read(offset, length))

    async def _read(self, offset: int, length: int) -> Buffer:
        """
        Read in a thread, while nothing changes there.
        """
        await self._remade.apart(offset, length)
        self._reading.enter(offset, length)
        try:
            return await self._writer.between(
                offset,
                length,
                lambda: self._reads.call(read_all, self._fd, offset, length),
            )
        finally:
            self._reading.leave(offset, length)

    # Writing.

    def write(self, offset: int, data: Buffer, fua: bool) -> Result[None]:
        """Write in a thread, or at once to memory; with *fua* flush then."""
        if len(data) <= self._longest:
            check_end(self._fd, offset, len(data))
            write_all(self._fd, offset, data)
            return self._commit() if fua or self._through else None
        written = self._writer(offset, data)
        if fua or self._through:
            written.addCallback(lambda _: self._commit())
        return written

    def _check_end(self, offset: int, length: int) -> None:
        if self._opened.is_file:
            check_end(self._fd, offset, length)

    def _sync(self) -> None:
        if self._lost is not None:
            raise OSError(self._lost, "an earlier flush failed: data may be lost")
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            self._lost = error.errno
            raise

    def place(self, offset: int, length: int) -> tuple[int, int] | None:
        """Return where bytes are: in the file, at the same offset."""
        del length
        return self._fd, offset

    def copy_from(
        self, fd: int, source_offset: int, offset: int, length: int, fua: bool
    ) -> Result[bool]:
        """Have the kernel copy, or clone, in a thread."""
        if not hasattr(os, "copy_file_range"):
            return False
        copied = self._remake(
            offset,
            length,
            lambda: self._copies.call(self._copy, fd, source_offset, offset, length),
        )
        if fua or self._through:
            copied.addCallback(lambda done: self._commit().addCallback(lambda _: done))
        return copied

    def _copy(self, fd: int, source_offset: int, offset: int, length: int) -> bool:
        self._check_end(offset, length)
        done = 0
        while done < length:
            try:
                count = os.copy_file_range(
                    fd, self._fd, length - done, source_offset + done, offset + done
                )
            except OSError as error:
                if error.errno in _NO_COPY:
                    return False
                raise
            if not count:
                # The source has become shorter: a read says so better.
                return False
            done += count
        return True

    def flush(self) -> Deferred[None]:
        """Make durable what was written."""
        return self._commit()

    def unmap(self, offset: int, length: int) -> Result[None]:
        """Punch a hole."""
        return self._zeroed(PUNCH_HOLE, offset, length, False)

    def write_zeroes(self, offset: int, length: int, fua: bool) -> Result[None]:
        """Make a range zeros without writing them where the file system can."""
        return self._zeroed(ZERO_RANGE, offset, length, fua)

    def space(self) -> Deferred[tuple[int, int]]:
        """Ask the file system."""
        found: Deferred[tuple[int, int]] = self._frees.call(self._space)
        return found

    def _space(self) -> tuple[int, int]:
        status = os.fstatvfs(self._fd)
        used = status.f_blocks - status.f_bfree
        return used * status.f_frsize, (used + status.f_bavail) * status.f_frsize

    def _zeroed(self, mode: int, offset: int, length: int, fua: bool) -> Deferred[None]:
        done = self._remake(
            offset, length, lambda: self._frees.call(self._zero, mode, offset, length)
        )
        if fua or self._through:
            done.addCallback(lambda _: self._commit())
        return done

    def _remake(
        self, offset: int, length: int, call: Callable[[], Deferred[T]]
    ) -> Deferred[T]:
        """
        Have a range changed in another way than by writing, apart from what is read by
        threads there; what comes later waits.
        """
        self._remade.enter(offset, length)
        self._changing.enter(offset, length)
        return Deferred.fromCoroutine(self._remake_apart(offset, length, call))

    async def _remake_apart(
        self, offset: int, length: int, call: Callable[[], Deferred[T]]
    ) -> T:
        try:
            await self._reading.apart(offset, length)
            self._mapped.forget(offset, offset + length)
            return await call()
        finally:
            # Again: for what was found out while there was both, or neither.
            self._mapped.forget(offset, offset + length)
            self._changing.leave(offset, length)
            self._remade.leave(offset, length)

    def _zero(self, mode: int, offset: int, length: int) -> None:
        self._check_end(offset, length)
        if allocation.fallocate(self._fd, mode, offset, length):
            return
        zeros = bytes(min(length, 1 << 20))
        end = offset + length
        while offset < end:
            piece = memoryview(zeros)[: min(len(zeros), end - offset)]
            write_all(self._fd, offset, piece)
            offset += len(piece)

    def prefetch(self, offset: int, length: int) -> Deferred[None]:
        """Have the kernel read ahead."""
        wanted: Deferred[None] = self._reads.call(
            os.posix_fadvise, self._fd, offset, length, os.POSIX_FADV_WILLNEED
        )
        return wanted

    # What it is made of.

    def block_status(self, offset: int, length: int) -> Result[Sequence[Extent]]:
        """Tell data from holes."""
        return self.extents(offset, length, _MOST_EXTENTS)

    def extents(self, offset: int, length: int, most: int) -> Result[Sequence[Extent]]:
        """Tell of some: at once what is known to be data."""
        end = min(self._mapped.end(offset), offset + length)
        if end > offset and (most == 1 or end == offset + length):
            return [Extent(offset, end - offset, True)]
        found: Deferred[Sequence[Extent]] = self._finds.call(
            self._status, offset, length, most
        )
        return found.addCallback(self._found, self._mapped.epoch)

    def _found(self, extents: Sequence[Extent], epoch: int) -> Sequence[Extent]:
        if epoch == self._mapped.epoch:
            for one in extents:
                if one.mapped:
                    self._mapped.add(one.offset, one.offset + one.length)
        return extents

    def _status(self, offset: int, length: int, most: int) -> Sequence[Extent]:
        extents: list[Extent] = []
        seeks, end = self._opened.seeks, offset + length
        while offset < end and len(extents) < most:
            try:
                data = min(os.lseek(seeks, offset, os.SEEK_DATA), end)
                if data == offset:
                    hole = min(os.lseek(seeks, offset, os.SEEK_HOLE), end)
                    if hole > offset:
                        extents.append(Extent(offset, hole - offset, True))
                    offset = hole
                    continue
            except OSError as error:
                if error.errno in UNSUPPORTED:
                    return [Extent(offset, length, True)]
                if error.errno != errno.ENXIO:
                    raise
                # No data from here on.
                data = min(size_of(seeks), end)
                if data <= offset:
                    # The file was cut off: not a hole, for reading it is an error.
                    extents.append(Extent(offset, end - offset, True))
                    break
            extents.append(Extent(offset, data - offset, False))
            offset = data
        return extents

    def on_resize(self, call: Any) -> None:
        """Note who is to be told."""
        self._resized = call

    def resync_size(self) -> Deferred[None]:
        """Look at the file's size again."""
        return Deferred.fromCoroutine(self._resync())

    async def _resync(self) -> None:
        self._take(await self._frees.call(size_of, self._fd))

    def _take(self, size: int) -> None:
        """
        Have another size, if the file has.
        """
        see_blocks("the file", size, self.block_size)
        if size != self.size:
            self.size = size
            if self._resized is not None:
                self._resized(size)

    def resize(self, size: int | None) -> Deferred[None]:
        """Make the file larger: with nothing said, take it as it is."""
        return Deferred.fromCoroutine(self._resize(size))

    async def _resize(self, size: int | None) -> None:
        self._take(await self._frees.call(self._grow, size))

    def _grow(self, size: int | None) -> int:
        """
        Make the file so large; return how large it is then.
        """
        now = size_of(self._fd)
        if size is None or size == now:
            return now
        if size < now:
            raise ConfigurationError(
                f"the file has {now} bytes, more than size={size}: it is not cut off"
            )
        if not self._opened.is_file:
            raise ConfigurationError(f"the block device has {now} bytes")
        see_blocks("the file", size, self.block_size)
        try:
            os.ftruncate(self._fd, size)
            os.fsync(self._fd)
        except OSError as error:
            raise ConfigurationError(f"size: {error.strerror}") from error
        return size

    def close(self) -> Deferred[None]:
        """Wait for the threads, then close the file."""
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        for lane in (
            self._reads,
            self._writes,
            self._finds,
            self._copies,
            self._flushes,
        ):
            await lane.close()
        # It may wait as well: for a server to whom the last pages are sent.
        await self._frees.call(self._opened.close)
        await self._frees.close()
