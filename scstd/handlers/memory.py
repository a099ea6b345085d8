# SPDX-License-Identifier: MIT
"""
The device handler memory: a disk in anonymous memory, gone when the device is closed.

Pages are allocated when they are first written and given back by UNMAP; GET LBA STATUS
tells which are, in pages.  It can change its size while it is open.  Nothing here
survives a power failure, so a flush has nothing to do.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Mapping, Sequence
from secrets import token_hex
from typing import Any

from zope.interface import implementer

from scstd.attributes import (
    Attribute,
    ConfigurationError,
    Numbers,
    Size,
    check_blocks,
)
from scstd.interfaces import (
    BLOCK_SIZES,
    Buffer,
    Extent,
    IBackstore,
    IBlockStatus,
    IExtents,
    IMediumIdentity,
    IPrefetch,
    IResize,
    IResizeNotice,
    IUnmap,
    IVolatile,
    IWriteZeroes,
)

PARAMETERS: Sequence[Attribute[Any]] = (
    Attribute("size", Size(512), None, "Capacity.", required=True),
    Attribute(
        "blocksize",
        Numbers(BLOCK_SIZES),
        512,
        "Logical block length in bytes.",
    ),
)

_PAGE = mmap.PAGESIZE


_MOST_EXTENTS = 4096

_FAR = (1 << 30) // _PAGE
"""Pages of the longest extent that is told: the reactor is not to look for longer."""


@implementer(
    IBackstore,
    IMediumIdentity,
    IPrefetch,
    IUnmap,
    IVolatile,
    IWriteZeroes,
    IBlockStatus,
    IExtents,
    IResize,
    IResizeNotice,
)
class MemoryStore:
    """
    *size* bytes of zeros, to begin with.

    Which pages were written is noted for each in a byte: the kernel does not tell it of
    anonymous memory.
    """

    def __init__(self, size: int, block_size: int) -> None:
        self.size = size
        self.block_size = block_size
        self.unmap_granularity = _PAGE
        self._identity = token_hex(16)
        self._map = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._written = bytearray(-(-size // _PAGE))
        self._resized: Callable[[int], None] = lambda _size: None

    @property
    def prefetch_limit(self) -> int:
        """All of it."""
        return self.size

    def medium_identity(self) -> str:
        """Return another one each time: what is there is new."""
        return f"memory {self._identity}"

    def read(self, offset: int, length: int) -> bytes:
        """Return a copy."""
        return self._map[offset : offset + length]

    def write(self, offset: int, data: Buffer, fua: bool) -> None:  # noqa: ARG002
        """Keep a copy."""
        end = offset + len(data)
        self._map[offset:end] = data
        first, last = offset // _PAGE, -(-end // _PAGE)
        self._written[first:last] = b"\1" * (last - first)

    def flush(self) -> None:
        """Do nothing."""

    def prefetch(self, offset: int, length: int) -> None:
        """Do nothing: it is all in memory."""

    def unmap(self, offset: int, length: int) -> None:
        """Give whole pages back, and zero the rest."""
        end = offset + length
        first, last = -(-offset // _PAGE) * _PAGE, end // _PAGE * _PAGE
        if first >= last:
            self._map[offset:end] = bytes(length)
            return
        self._map[offset:first] = bytes(first - offset)
        self._map.madvise(mmap.MADV_DONTNEED, first, last - first)
        self._map[last:end] = bytes(end - last)
        self._written[first // _PAGE : last // _PAGE] = bytes((last - first) // _PAGE)

    def write_zeroes(self, offset: int, length: int, fua: bool) -> None:  # noqa: ARG002
        """Do what unmap does."""
        self.unmap(offset, length)

    def block_status(self, offset: int, length: int) -> Sequence[Extent]:
        """Tell which pages were written."""
        return self.extents(offset, length, _MOST_EXTENTS)

    def extents(self, offset: int, length: int, most: int) -> Sequence[Extent]:
        """Tell of some."""
        found: list[Extent] = []
        written, end = self._written, offset + length
        while offset < end and len(found) < most:
            page = offset // _PAGE
            mapped = written[page]
            until = written.find(not mapped, page, page + _FAR)
            stop = min((until if until >= 0 else page + _FAR) * _PAGE, end)
            found.append(Extent(offset, stop - offset, bool(mapped)))
            offset = stop
        return found

    def on_resize(self, call: Callable[[int], None]) -> None:
        """Note who is to be told."""
        self._resized = call

    def resync_size(self) -> None:
        """Do nothing: it is always as it was said to be."""

    def resize(self, size: int) -> None:
        """Be larger, or smaller: what is behind the end is gone then."""
        check_blocks(size, self.block_size)
        pages = -(-size // _PAGE)
        if size < self.size:
            # The last page stays whole: were it to grow again, it is of zeros.
            end = min(pages * _PAGE, self.size)
            self._map[size:end] = bytes(end - size)
        try:
            self._map.resize(size)
        except OSError as error:
            raise ConfigurationError(f"size: {error.strerror}") from error
        del self._written[pages:]
        self._written += bytes(pages - len(self._written))
        self.size = size
        self._resized(size)

    def close(self) -> None:
        """Give the memory back."""
        self._map.close()


def check(device: str, parameters: Mapping[str, Any]) -> None:
    """
    See what `open` would find.

    :raises ConfigurationError: the size is not a multiple of the block length.
    """
    del device
    check_blocks(parameters["size"], parameters["blocksize"])


def open(  # noqa: A001 - the name of the interface
    reactor: Any,  # noqa: ARG001
    device: str,  # noqa: ARG001
    parameters: Mapping[str, Any],
) -> IBackstore:
    """
    Allocate the memory.

    :raises ConfigurationError: the size is not a multiple of the block length.
    """
    size, block_size = parameters["size"], parameters["blocksize"]
    check_blocks(size, block_size)
    return MemoryStore(size, block_size)
