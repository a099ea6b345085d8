# SPDX-License-Identifier: MIT
"""
The device handler vdisk_nullio: reads are zeros, writes are forgotten.

It measures everything but the store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zope.interface import alsoProvides, implementer

from scstd.attributes import Attribute, Flag, Numbers, Size, check_blocks
from scstd.interfaces import (
    BLOCK_SIZES,
    Buffer,
    IBackstore,
    IPrefetch,
    IReadOnly,
    IResize,
    IResizeNotice,
    IUnmap,
    IWriteZeroes,
)

PARAMETERS: Sequence[Attribute[Any]] = (
    Attribute("size", Size(512), 5 << 39, "Capacity."),
    Attribute(
        "blocksize",
        Numbers(BLOCK_SIZES),
        512,
        "Logical block length in bytes.",
    ),
    Attribute("read_only", Flag(), False, "Refuse writes."),
)

_ZEROS = memoryview(bytes(1 << 20))


@implementer(IBackstore, IPrefetch, IUnmap, IWriteZeroes, IResizeNotice, IResize)
class NullStore:
    """
    *size* bytes that are always zero.
    """

    unmap_granularity = 4096

    def __init__(self, size: int, block_size: int) -> None:
        self.size = size
        self.prefetch_limit = size
        self.block_size = block_size
        self._resized: Any = None

    def read(self, offset: int, length: int) -> Buffer:  # noqa: ARG002
        """Return zeros."""
        return _ZEROS[:length] if length <= len(_ZEROS) else bytes(length)

    def write(self, offset: int, data: Buffer, fua: bool) -> None:
        """Forget *data*."""

    def prefetch(self, offset: int, length: int) -> None:
        """Do nothing."""

    def unmap(self, offset: int, length: int) -> None:
        """Do nothing."""

    def write_zeroes(self, offset: int, length: int, fua: bool) -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing."""

    def on_resize(self, call: Any) -> None:
        """Note who is to be told."""
        self._resized = call

    def resync_size(self) -> None:
        """Do nothing: it is always as it was said to be."""

    def resize(self, size: int) -> None:
        """Be larger or smaller."""
        check_blocks(size, self.block_size)
        self.size = size
        if self._resized is not None:
            self._resized(size)

    def close(self) -> None:
        """Do nothing."""


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
    Return the store.

    :raises ConfigurationError: the size is not a multiple of the block length.
    """
    size, block_size = parameters["size"], parameters["blocksize"]
    check_blocks(size, block_size)
    store = NullStore(size, block_size)
    if parameters["read_only"]:
        alsoProvides(store, IReadOnly)
    return store
