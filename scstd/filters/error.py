# SPDX-License-Identifier: MIT
"""
The filter error: a store that fails where it is told to, to see what initiators do.

It is deterministic: the calls that match are counted, the first *after* of them
succeed, the next *count* fail (0: all of them).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from typing import Any

from scstd.attributes import Attribute, Choice, Integer, Size
from scstd.filters.base import Filtered
from scstd.interfaces import (
    Buffer,
    IBackstore,
    IBlockStatus,
    IExtents,
    IGivenBuffers,
    IWriteThrough,
    MediumError,
    Result,
)

PARAMETERS: Sequence[Attribute[Any]] = (
    Attribute(
        "on", Choice(("read", "write", "flush", "any")), "any", "Calls that fail."
    ),
    Attribute(
        "errno",
        Choice(("EIO", "ENOSPC", "EROFS", "ENOMEDIUM", "ETIMEDOUT")),
        "EIO",
        "What they fail with.",
    ),
    Attribute("offset", Size(), 0, "Where the range begins that fails, in bytes."),
    Attribute("length", Size(), 0, "How long it is; 0: to the end."),
    Attribute("after", Integer(), 0, "Calls that succeed first."),
    Attribute("count", Integer(), 0, "Calls that fail then; 0: all."),
)


class Failing(Filtered):
    """
    A store that fails.
    """

    transparent = (IBlockStatus, IExtents, IGivenBuffers, IWriteThrough)

    def __init__(self, inner: IBackstore, parameters: Mapping[str, Any]) -> None:
        super().__init__(inner)
        self._on = parameters["on"]
        self._errno = getattr(errno, parameters["errno"])
        self._start = parameters["offset"]
        self._end = self._start + (parameters["length"] or 1 << 64)
        self._after = parameters["after"]
        self._count = parameters["count"]
        self._seen = 0

    def _check(self, kind: str, offset: int = 0, length: int = 1 << 64) -> None:
        if self._on not in {kind, "any"}:
            return
        if offset >= self._end or offset + length <= self._start:
            return
        self._seen += 1
        failing = self._seen - self._after
        if failing > 0 and (not self._count or failing <= self._count):
            text = f"{os.strerror(self._errno)} (as configured)"
            raise MediumError(max(offset, self._start), self._errno, text)

    def read(self, offset: int, length: int) -> Result[Buffer]:
        """Read, or fail."""
        self._check("read", offset, length)
        return super().read(offset, length)

    def write(self, offset: int, data: Buffer, fua: bool) -> Result[None]:
        """Write, or fail."""
        self._check("write", offset, len(data))
        return super().write(offset, data, fua)

    def unmap(self, offset: int, length: int) -> Result[None]:
        """Unmap, or fail."""
        self._check("write", offset, length)
        return super().unmap(offset, length)

    def write_zeroes(self, offset: int, length: int, fua: bool) -> Result[None]:
        """Write zeros, or fail."""
        self._check("write", offset, length)
        return super().write_zeroes(offset, length, fua)

    def compare_and_write(
        self, offset: int, expected: Buffer, data: Buffer, fua: bool
    ) -> Result[int]:
        """Compare and write, or fail: it reads, too."""
        self._check("read" if self._on == "read" else "write", offset, len(data))
        return super().compare_and_write(offset, expected, data, fua)

    def flush(self) -> Result[None]:
        """Flush, or fail."""
        self._check("flush")
        return super().flush()


def wrap(
    reactor: Any,  # noqa: ARG001
    device: str,  # noqa: ARG001
    store: IBackstore,
    parameters: Mapping[str, Any],
) -> IBackstore:
    """
    Put the errors before *store*.
    """
    return Failing(store, parameters)
