# SPDX-License-Identifier: MIT
"""
The device handler vdisk_fileio: a disk in a file or on a block device.

What the page cache can do at once is done at once (`scstd.pagecache`); the rest goes to
threads: reads of what is not cached to several, writes to one, flushes to one of their
own, where one fdatasync makes all writes durable that were asked to be.

The file is locked (flock) for as long as it is open: two writers of one image destroy
it.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import ReferenceType, ref

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import alsoProvides, implementer

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
    IReadOnly,
    IResize,
    IResizeNotice,
    IUnmap,
    IWriteThrough,
    IWriteZeroes,
    IZeroCopySource,
    Result,
)
from scstd.pagecache import PageCache, flushing

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

_MOST_PARTS = 64
"""Parts of the file that may have been handed out before the list is looked through."""

# The mode bits of fallocate(2), which os.posix_fallocate does not have.
_KEEP_SIZE, _PUNCH_HOLE, _ZERO_RANGE = 0x01, 0x02, 0x10
_libc = ctypes.CDLL(None, use_errno=True)
_fallocate = getattr(_libc, "fallocate64", None) or getattr(_libc, "fallocate", None)
if _fallocate is not None:
    _fallocate.argtypes = (
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int64,
        ctypes.c_int64,
    )
_NO_COPY = {
    errno.EXDEV,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.EINVAL,
    errno.EBADF,
    errno.ETXTBSY,
}
"""What copy_file_range says where it cannot: bytes are read and written then."""

_UNSUPPORTED = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


def fallocate(fd: int, mode: int, offset: int, length: int) -> bool:
    """
    Allocate or deallocate a range; return False where the file system cannot.

    :raises OSError: it can, and failed.
    """
    if _fallocate is None:
        return False
    while _fallocate(fd, mode | _KEEP_SIZE, offset, length):
        error = ctypes.get_errno()
        if error in _UNSUPPORTED:
            return False
        if error != errno.EINTR:
            raise OSError(error, os.strerror(error))
    return True


@implementer(
    IBackstore,
    IUnmap,
    IWriteZeroes,
    IBlockStatus,
    IResizeNotice,
    IResize,
    IZeroCopySource,
    ICopySource,
    ICopyTarget,
)
class FileStore:
    """
    An open file as a backstore; *fd* is its own from now on.
    """

    unmap_granularity: int

    def __init__(
        self, reactor: Any, name: str, fd: int, size: int, block_size: int
    ) -> None:
        self.size = size
        self.block_size = block_size
        self.unmap_granularity = max(4096, block_size)
        self._fd = fd
        self._through = False
        self._reads = Lane(reactor, f"{name} read", _READERS)
        self._writes = Lane(reactor, f"{name} write")
        self._copies = Lane(reactor, f"{name} copy", _COPIERS)
        self._flushes = Lane(reactor, f"{name} flush")
        self._commit = GroupCommit(
            lambda: flushing(lambda: self._flushes.call(os.fdatasync, fd))
        )
        self._cache = PageCache(fd)
        self._resized: Any = None
        self._parts: list[ReferenceType[FilePart]] = []

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
        data = os.pread(self._fd, length, offset)
        if len(data) == length:
            return data
        pieces = [data]
        got = len(data)
        while got < length:
            data = os.pread(self._fd, length - got, offset + got)
            if not data:
                raise OSError(errno.EIO, "the file has become shorter")
            pieces.append(data)
            got += len(data)
        return b"".join(pieces)

    def locate(self, offset: int, length: int) -> FilePart | None:
        """Return a part of the file, if it is cached."""
        if not self._cache.cached(offset, length):
            return None
        part = FilePart(self._fd, offset, length)
        if len(self._parts) >= _MOST_PARTS:
            self._parts = [one for one in self._parts if one() is not None]
        self._parts.append(ref(part))
        return part

    def _load_parts(self) -> None:
        """
        Read what is still to be sent from the file, for the file is to change.
        """
        parts, self._parts = self._parts, []
        for one in parts:
            part = one()
            if part is not None:
                part.load()

    # Writing.

    def write(self, offset: int, data: Buffer, fua: bool) -> Result[None]:
        """Write to the page cache, at once or in a thread; with *fua* flush then."""
        if self._parts:
            self._load_parts()
        if self._cache.write(offset, data):
            return self._commit() if fua or self._through else None
        written: Deferred[None] = self._writes.call(self._write, offset, data)
        if fua or self._through:
            written.addCallback(lambda _: self._commit())
        return written

    def _write(self, offset: int, data: Buffer) -> None:
        done = os.pwrite(self._fd, data, offset)
        if done == len(data):
            return
        view = memoryview(data)
        while done < len(view):
            done += os.pwrite(self._fd, view[done:], offset + done)

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
            self._load_parts()
        copied: Deferred[bool] = self._copies.call(
            self._copy, fd, source_offset, offset, length
        )
        if fua or self._through:
            copied.addCallback(lambda done: self._commit().addCallback(lambda _: done))
        return copied

    def _copy(self, fd: int, source_offset: int, offset: int, length: int) -> bool:
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
        return self._zeroed(_PUNCH_HOLE, offset, length, False)

    def write_zeroes(self, offset: int, length: int, fua: bool) -> Result[None]:
        """Make a range zeros without writing them where the file system can."""
        return self._zeroed(_ZERO_RANGE, offset, length, fua)

    def _zeroed(self, mode: int, offset: int, length: int, fua: bool) -> Deferred[None]:
        if self._parts:
            self._load_parts()
        done: Deferred[None] = self._writes.call(self._zero, mode, offset, length)
        if fua or self._through:
            done.addCallback(lambda _: self._commit())
        return done

    def _zero(self, mode: int, offset: int, length: int) -> None:
        if fallocate(self._fd, mode, offset, length):
            return
        zeros = bytes(min(length, 1 << 20))
        end = offset + length
        while offset < end:
            piece = memoryview(zeros)[: min(len(zeros), end - offset)]
            self._write(offset, piece)
            offset += len(piece)

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
                data = os.lseek(self._fd, offset, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    data = end
                elif error.errno in _UNSUPPORTED:
                    return [Extent(offset, length, True)]
                else:
                    raise
            if data > offset:
                hole = min(data, end)
                extents.append(Extent(offset, hole - offset, False))
                offset = hole
            else:
                hole = min(os.lseek(self._fd, offset, os.SEEK_HOLE), end)
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
        for lane in (self._reads, self._writes, self._copies, self._flushes):
            await lane.close()
        # The number of the descriptor may be another file's soon.
        self._load_parts()
        os.close(self._fd)


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
        return f"{path} does not exist; with a size it would be made"
    return f"{path}: {error.strerror or error}"


def _open(path: Path, *, read_only: bool, create: bool) -> int:
    flags = os.O_CLOEXEC | (os.O_RDONLY if read_only else os.O_RDWR)
    try:
        if not read_only and stat.S_ISBLK(path.stat().st_mode):
            # Refused while it is mounted, or part of something else.
            flags |= os.O_EXCL
    except FileNotFoundError:
        if create and not read_only:
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
