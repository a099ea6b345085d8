# SPDX-License-Identifier: MIT
"""
A store that can do everything, and answers what it is told to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zope.interface import implementer
from zope.interface.interface import InterfaceClass

import scstd.interfaces
from scstd.interfaces import (
    Extent,
    IBackstore,
    IBlockStatus,
    ICompareAndWrite,
    ICopySource,
    ICopyTarget,
    IPrefetch,
    IResizeNotice,
    ISpace,
    IUnmap,
    IWriteZeroes,
)

SIZE = 1 << 20

_MODULES = {"stores", "media", "markers", "asking"}
"""Of `scstd.interfaces`, those that say what a store may provide."""


def store_interfaces() -> dict[str, Any]:
    """
    Return what a store may provide, of `scstd.interfaces`.
    """
    return {
        name: one
        for name, one in vars(scstd.interfaces).items()
        if isinstance(one, InterfaceClass)
        and one.__module__.rpartition(".")[2] in _MODULES
    }


@implementer(
    IBackstore,
    IBlockStatus,
    ICompareAndWrite,
    ICopySource,
    ICopyTarget,
    IPrefetch,
    IResizeNotice,
    ISpace,
    IUnmap,
    IWriteZeroes,
)
class LyingStore:
    """
    Zeros, and good answers but for what `lies` has: a function without arguments, by
    the name of the call.
    """

    size = SIZE
    block_size = 512
    unmap_granularity = 4096
    prefetch_limit = SIZE

    def __init__(self, **lies: Callable[[], Any]) -> None:
        self.lies = lies
        self.calls: list[str] = []

    def _answer(self, name: str, right: Any) -> Any:
        self.calls.append(name)
        return self.lies[name]() if name in self.lies else right

    def read(self, offset: int, length: int) -> Any:
        """Return zeros."""
        return self._answer("read", bytes(length))

    def write(self, offset: int, data: Any, fua: bool) -> Any:
        """Do nothing."""
        return self._answer("write", None)

    def flush(self) -> Any:
        """Do nothing."""
        return self._answer("flush", None)

    def close(self) -> Any:
        """Do nothing."""
        return self._answer("close", None)

    def unmap(self, offset: int, length: int) -> Any:
        """Do nothing."""
        return self._answer("unmap", None)

    def write_zeroes(self, offset: int, length: int, fua: bool) -> Any:
        """Do nothing."""
        return self._answer("write_zeroes", None)

    def compare_and_write(
        self, offset: int, expected: Any, data: Any, fua: bool
    ) -> Any:
        """Find what is expected."""
        return self._answer("compare_and_write", -1)

    def block_status(self, offset: int, length: int) -> Any:
        """Have all of it mapped."""
        return self._answer("block_status", [Extent(offset, length, True)])

    def prefetch(self, offset: int, length: int) -> Any:
        """Do nothing."""
        return self._answer("prefetch", None)

    def space(self) -> Any:
        """Have much."""
        return self._answer("space", (SIZE, 1 << 40))

    def place(self, offset: int, length: int) -> Any:
        """Have no file."""
        return self._answer("place", None)

    def copy_from(
        self, fd: int, source_offset: int, offset: int, length: int, fua: bool
    ) -> Any:
        """Leave it to others."""
        return self._answer("copy_from", False)

    def on_resize(self, call: Any) -> None:
        """Note who is told."""
        self.told = call

    def resync_size(self) -> Any:
        """Do nothing."""
        return self._answer("resync_size", None)
