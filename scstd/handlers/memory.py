# SPDX-License-Identifier: MIT
"""
The device handler memory: a disk in anonymous memory, gone when the device is closed.

Pages are allocated when they are first written and given back by UNMAP.  Nothing here
survives a power failure, so a flush has nothing to do.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from typing import Any

from zope.interface import implementer

from scstd.attributes import Attribute, Choice, Size, check_blocks
from scstd.interfaces import Buffer, IBackstore, IPrefetch, IUnmap, IWriteZeroes

PARAMETERS: Sequence[Attribute[Any]] = (
    Attribute("size", Size(512), None, "Capacity.", required=True),
    Attribute(
        "blocksize",
        Choice(("512", "1024", "2048", "4096")),
        "512",
        "Logical block length in bytes.",
    ),
)

_PAGE = mmap.PAGESIZE


@implementer(IBackstore, IPrefetch, IUnmap, IWriteZeroes)
class MemoryStore:
    """
    *size* bytes of zeros, to begin with.
    """

    def __init__(self, size: int, block_size: int) -> None:
        self.size = size
        self.block_size = block_size
        self.prefetch_limit = size
        self.unmap_granularity = _PAGE
        self._map = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    def read(self, offset: int, length: int) -> bytes:
        """Return a copy."""
        return self._map[offset : offset + length]

    def write(self, offset: int, data: Buffer, fua: bool) -> None:  # noqa: ARG002
        """Keep a copy."""
        self._map[offset : offset + len(data)] = data

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

    def write_zeroes(self, offset: int, length: int, fua: bool) -> None:  # noqa: ARG002
        """Do what unmap does."""
        self.unmap(offset, length)

    def close(self) -> None:
        """Give the memory back."""
        self._map.close()


def open(  # noqa: A001 - the name of the interface
    reactor: Any,  # noqa: ARG001
    device: str,  # noqa: ARG001
    parameters: Mapping[str, Any],
) -> IBackstore:
    """
    Allocate the memory.

    :raises ConfigurationError: the size is not a multiple of the block length.
    """
    size, block_size = parameters["size"], int(parameters["blocksize"])
    check_blocks(size, block_size)
    return MemoryStore(size, block_size)
