# SPDX-License-Identifier: MIT
"""
The device handlers vdisk_fileio and vdisk_blockio: a disk in a file or on a device.

They are the same: SCST passes the page cache by with the second; here what is flushed
is as durable with it.

What the page cache can do at once is done at once (`scstd.pagecache`); the rest goes to
threads: reads of what is not cached to several, writes to one, flushes to one of their
own, where one fdatasync makes all writes durable that were asked to be.

The file is locked (flock) for as long as it is open: two writers of one image destroy
it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import alsoProvides, implementer

from scstd import allocation
from scstd.allocation import PUNCH_HOLE, UNSUPPORTED, ZERO_RANGE
from scstd.attributes import Attribute, Choice, ConfigurationError, Flag, Size, Text
from scstd.blocking import GroupCommit, Lane
from scstd.interfaces import (
    Buffer,
    Extent,
    FilePart,
    IBackstore,
    IBlockStatus,
    ICopySource,
    ICopyTarget,
    IPrefetch,
    IReadOnly,
    IResize,
    IResizeNotice,
    ISpace,
    IUnmap,
    IWriteThrough,
    IWriteZeroes,
    IZeroCopySource,
    MediumError,
    Result,
)
from scstd.pagecache import PageCache, Parts, flushing

_log = Logger()

PARAMETERS: Sequence[Attribute[Any]] = (
    Attribute("filename", Text(), None, "File or block device.", required=True),
    Attribute(
        "size",
        Size(512),
        None,
        "A file that is not there is made, sparse, of this size; a smaller one grows.",
    ),
    Attribute(
        "blocksize",
        Choice(("512", "1024", "2048", "4096")),
        "512",
        "Logical block length in bytes.",
    ),
    Attribute("read_only", Flag(), False, "Refuse writes."),
    Attribute(
        "write_through",
        Flag(),
        False,
        "Make each write durable before it is answered (WCE=0).",
    ),
)

_READERS = 4
_COPIERS = 2

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
    IPrefetch,
    IResizeNotice,
    IResize,
    IZeroCopySource,
    ICopySource,
    ICopyTarget,
)
class FileStore:
    """
    An open file as a backstore; *fd* is its own from now on.

    It provides IUnmap where the file system, or the device, can deallocate.

    Once a flush has failed each later one fails, until the file is opened again: Linux
    reports a lost page once, then takes it for clean, and nobody can say which it was.
    """

    unmap_granularity: int
    unmap_alignment: int
    prefetch_limit = _PREFETCH

    def __init__(
        self, reactor: Any, name: str, fd: int, size: int, block_size: int
    ) -> None:
        self.size = size
        self.block_size = block_size
        can = allocation.limits(fd)
        self.unmap_granularity = max(can.granularity, block_size)
        self.unmap_alignment = can.alignment
        self._is_file = stat.S_ISREG(os.fstat(fd).st_mode)
        if can.frees:
            alsoProvides(self, IUnmap)
        if self._is_file:
            alsoProvides(self, ISpace)
        self._fd = fd
        # Of its own, for a search in it may take its time and holds the position.
        self._seeks = _again(fd)
        self._lost: int | None = None
        self._through = False
        self._reads = Lane(reactor, f"{name} read", _READERS)
        self._writes = Lane(reactor, f"{name} write")
        self._copies = Lane(reactor, f"{name} copy", _COPIERS)
        self._frees = Lane(reactor, f"{name} free")
        self._flushes = Lane(reactor, f"{name} flush")
        self._commit = GroupCommit(
            lambda: flushing(lambda: self._flushes.call(self._sync))
        )
        self._cache = PageCache(fd)
        self._resized: Any = None
        self._parts = Parts()

    def write_through(self) -> None:
        """
        Make every write durable from now on.
        """
        self._through = True
        alsoProvides(self, IWriteThrough)

    # Reading.

    def read(self, offset: int, length: int) -> Result[Buffer]:
        """Read from the page cache, or in a thread."""
        data = self._cache.read(offset, length)
        if data is not None:
            return data
        return self._reads.call(self._read, offset, length)

    def _read(self, offset: int, length: int) -> Buffer:
        data = self._pread(length, offset)
        if len(data) == length:
            return data
        pieces = [data]
        got = len(data)
        while got < length:
            data = self._pread(length - got, offset + got)
            if not data:
                raise _shorter(offset + got)
            pieces.append(data)
            got += len(data)
        return b"".join(pieces)

    def _pread(self, length: int, offset: int) -> bytes:
        try:
            return os.pread(self._fd, length, offset)
        except OSError as error:
            # What comes before the first page that cannot be read was read before.
            raise MediumError(offset, error.errno or errno.EIO) from error

    def locate(self, offset: int, length: int) -> FilePart | None:
        """Return a part of the file, if it is cached."""
        if not self._cache.cached(offset, length):
            return None
        return self._parts.hand_out(self._fd, offset, length)

    # Writing.

    def write(self, offset: int, data: Buffer, fua: bool) -> Result[None]:
        """Write to the page cache, at once or in a thread; with *fua* flush then."""
        if self._is_file and os.lseek(self._fd, 0, os.SEEK_END) < offset + len(data):
            raise _shorter(max(offset, os.lseek(self._fd, 0, os.SEEK_END)))
        if self._parts:
            self._parts.load()
        if self._cache.write(offset, data):
            return self._commit() if fua or self._through else None
        written: Deferred[None] = self._writes.call(self._write, offset, data)
        if fua or self._through:
            written.addCallback(lambda _: self._commit())
        return written

    def _check_end(self, offset: int, length: int) -> None:
        """
        :raises MediumError: the file has become shorter: with a write behind its end it
            would be longer again, with zeros for what was lost.
        """
        size = os.fstat(self._fd).st_size
        if self._is_file and size < offset + length:
            raise _shorter(max(offset, size))

    def _write(self, offset: int, data: Buffer) -> None:
        view = memoryview(data)
        done = 0
        try:
            while done < len(view):
                done += os.pwrite(self._fd, view[done:], offset + done)
        except OSError as error:
            raise MediumError(offset + done, error.errno or errno.EIO) from error

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
        if self._parts:
            self._parts.load()
        copied: Deferred[bool] = self._copies.call(
            self._copy, fd, source_offset, offset, length
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
        if self._parts:
            self._parts.load()
        done: Deferred[None] = self._frees.call(self._zero, mode, offset, length)
        if fua or self._through:
            done.addCallback(lambda _: self._commit())
        return done

    def _zero(self, mode: int, offset: int, length: int) -> None:
        self._check_end(offset, length)
        if allocation.fallocate(self._fd, mode, offset, length):
            return
        zeros = bytes(min(length, 1 << 20))
        end = offset + length
        while offset < end:
            piece = memoryview(zeros)[: min(len(zeros), end - offset)]
            self._write(offset, piece)
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
        status: Deferred[Sequence[Extent]] = self._reads.call(
            self._status, offset, length
        )
        return status

    def _status(self, offset: int, length: int) -> Sequence[Extent]:
        extents: list[Extent] = []
        end = offset + length
        while offset < end and len(extents) < 4096:
            try:
                data = os.lseek(self._seeks, offset, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    data = end
                elif error.errno in UNSUPPORTED:
                    return [Extent(offset, length, True)]
                else:
                    raise
            if data > offset:
                hole = min(data, end)
                extents.append(Extent(offset, hole - offset, False))
                offset = hole
            else:
                hole = min(os.lseek(self._seeks, offset, os.SEEK_HOLE), end)
                extents.append(Extent(offset, hole - offset, True))
                offset = hole
        return extents

    def on_resize(self, call: Any) -> None:
        """Note who is to be told."""
        self._resized = call

    def resync_size(self) -> None:
        """
        Look at the file's size again.
        """
        size = _size_of(self._fd) // self.block_size * self.block_size
        if size and size != self.size:
            self.size = size
            if self._resized is not None:
                self._resized(size)

    def resize(self, size: int | None) -> None:
        """Make the file larger: with nothing said, take it as it is."""
        now = _size_of(self._fd)
        if size is not None and size < now:
            raise ConfigurationError(
                f"the file has {now} bytes, more than size={size}: it is not cut off"
            )
        if size is not None and size > now:
            if stat.S_ISBLK(os.fstat(self._fd).st_mode):
                raise ConfigurationError(f"the block device has {now} bytes")
            try:
                os.ftruncate(self._fd, size)
            except OSError as error:
                raise ConfigurationError(f"size: {error.strerror}") from error
        self.resync_size()

    def close(self) -> Deferred[None]:
        """Wait for the threads, then close the file."""
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        lanes = (self._reads, self._writes, self._copies, self._frees, self._flushes)
        for lane in lanes:
            await lane.close()
        # The number of the descriptor may be another file's soon.
        self._parts.load()
        os.close(self._seeks)
        os.close(self._fd)


def _again(fd: int) -> int:
    """
    Return another descriptor of an open file, with a position of its own if it can.
    """
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return os.dup(fd)


def _shorter(offset: int) -> MediumError:
    return MediumError(offset, errno.EIO, "the file has become shorter")


def _size_of(fd: int) -> int:
    return os.lseek(fd, 0, os.SEEK_END)


def open(  # noqa: A001 - the name of the interface
    reactor: Any, device: str, parameters: Mapping[str, Any]
) -> IBackstore:
    """
    Open the file, or make it.

    :raises ConfigurationError: it cannot be used as configured.
    """
    path = Path(parameters["filename"])
    read_only = parameters["read_only"]
    block_size = int(parameters["blocksize"])
    try:
        fd = _open(path, read_only=read_only, create=parameters["size"] is not None)
    except OSError as error:
        raise ConfigurationError(_explain(path, error)) from error
    try:
        size = _prepare(fd, path, read_only, parameters["size"])
    except OSError as error:
        os.close(fd)
        raise ConfigurationError(_explain(path, error)) from error
    except ConfigurationError:
        os.close(fd)
        raise
    usable = size // block_size * block_size
    if not usable:
        os.close(fd)
        raise ConfigurationError(
            f"{path} has {size} bytes: not one block of {block_size};"
            " give it a size to make it larger"
        )
    if usable != size:
        _log.warn(
            "{path}: the last {rest} bytes are no whole block and are not served",
            path=str(path),
            rest=size - usable,
        )
    store = FileStore(reactor, device, fd, usable, block_size)
    if read_only:
        alsoProvides(store, IReadOnly)
    elif parameters["write_through"]:
        store.write_through()
    return store


def _explain(path: Path, error: OSError) -> str:
    if error.errno in {errno.EWOULDBLOCK, errno.EACCES, errno.EBUSY} and (
        error.filename is None
    ):
        return f"{path} is in use by another device or program"
    if error.errno == errno.ENOENT:
        if not path.parent.exists():
            return f"{path}: there is no directory {path.parent}"
        made = "" if _is_device_name(path) else "; with a size it would be made"
        return f"{path} does not exist{made}"
    return f"{path}: {error.strerror or error}"


def _is_device_name(path: Path) -> bool:
    """
    Say whether a name is one of a device: a file of that name would be in memory, and
    hide the device when it comes.
    """
    where = path.absolute()
    return where.is_relative_to("/dev") and not where.is_relative_to("/dev/shm")  # noqa: S108


def _open(path: Path, *, read_only: bool, create: bool) -> int:
    flags = os.O_CLOEXEC | (os.O_RDONLY if read_only else os.O_RDWR)
    try:
        if not read_only and stat.S_ISBLK(path.stat().st_mode):
            # Refused while it is mounted, or part of something else.
            flags |= os.O_EXCL
    except FileNotFoundError:
        if create and not read_only and not _is_device_name(path):
            flags |= os.O_CREAT
    return os.open(path, flags, 0o600)


def _prepare(fd: int, path: Path, read_only: bool, wanted: int | None) -> int:
    """
    Lock the file, see that it is one, and give it its size; return that.
    """
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise ConfigurationError(f"{path} is neither a file nor a block device")
    fcntl.flock(fd, (fcntl.LOCK_SH if read_only else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    size = _size_of(fd)
    if wanted is None or wanted == size:
        return size
    if wanted < size:
        raise ConfigurationError(
            f"{path} has {size} bytes, more than size={wanted}: it is not cut off"
        )
    if read_only or stat.S_ISBLK(mode):
        raise ConfigurationError(f"{path} has {size} bytes and cannot grow")
    os.ftruncate(fd, wanted)
    return wanted
