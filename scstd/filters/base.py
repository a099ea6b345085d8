# SPDX-License-Identifier: MIT
"""
What a filter is made of: a store that passes everything on to the next.

`Filtered` provides the interfaces that the inner store provides.  Override the methods
you change; to hide a capability, say so with ``zope.interface.noLongerProvides``.

Some capabilities let bytes pass by a filter: who overrides `read` provides no
`ICopySource`, and who overrides `write` no `ICopyTarget`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from zope.interface import directlyProvides, noLongerProvides, providedBy

from scstd.interfaces import (
    Buffer,
    Extent,
    IBackstore,
    ICopySource,
    ICopyTarget,
    Result,
)


class Filtered:
    """
    A store before *inner*.
    """

    inner: Any

    def __init__(self, inner: IBackstore) -> None:
        self.inner = inner
        directlyProvides(self, providedBy(inner))
        for method, capability in (
            ("read", ICopySource),
            ("write", ICopyTarget),
        ):
            overridden = getattr(type(self), method) is not getattr(Filtered, method)
            if overridden and capability.providedBy(self):
                noLongerProvides(self, capability)

    @property
    def size(self) -> int:
        """The inner store's size."""
        size: int = self.inner.size
        return size

    @property
    def block_size(self) -> int:
        """The inner store's block length."""
        block_size: int = self.inner.block_size
        return block_size

    @property
    def unmap_granularity(self) -> int:
        """The inner store's granularity."""
        granularity: int = self.inner.unmap_granularity
        return granularity

    @property
    def unmap_alignment(self) -> int:
        """The inner store's alignment."""
        alignment: int = getattr(self.inner, "unmap_alignment", 0)
        return alignment

    @property
    def prefetch_limit(self) -> int:
        """The inner store's limit."""
        limit: int = self.inner.prefetch_limit
        return limit

    def prefetch(self, offset: int, length: int) -> Result[None]:
        """As `IPrefetch.prefetch`."""
        result: Result[None] = self.inner.prefetch(offset, length)
        return result

    @property
    def medium(self) -> str:
        """The inner store's medium."""
        medium: str = self.inner.medium
        return medium

    def read(self, offset: int, length: int) -> Result[Buffer]:
        """As `IBackstore.read`."""
        result: Result[Buffer] = self.inner.read(offset, length)
        return result

    def write(self, offset: int, data: Buffer, fua: bool) -> Result[None]:
        """As `IBackstore.write`."""
        result: Result[None] = self.inner.write(offset, data, fua)
        return result

    def flush(self) -> Result[None]:
        """As `IBackstore.flush`."""
        result: Result[None] = self.inner.flush()
        return result

    def close(self) -> Result[None]:
        """As `IBackstore.close`."""
        result: Result[None] = self.inner.close()
        return result

    def unmap(self, offset: int, length: int) -> Result[None]:
        """As `IUnmap.unmap`."""
        result: Result[None] = self.inner.unmap(offset, length)
        return result

    def write_zeroes(self, offset: int, length: int, fua: bool) -> Result[None]:
        """As `IWriteZeroes.write_zeroes`."""
        result: Result[None] = self.inner.write_zeroes(offset, length, fua)
        return result

    def block_status(self, offset: int, length: int) -> Result[Sequence[Extent]]:
        """As `IBlockStatus.block_status`."""
        result: Result[Sequence[Extent]] = self.inner.block_status(offset, length)
        return result

    def compare_and_write(
        self, offset: int, expected: Buffer, data: Buffer, fua: bool
    ) -> Result[int]:
        """As `ICompareAndWrite.compare_and_write`."""
        result: Result[int] = self.inner.compare_and_write(offset, expected, data, fua)
        return result

    def place(self, offset: int, length: int) -> tuple[int, int] | None:
        """As `ICopySource.place`."""
        place: tuple[int, int] | None = self.inner.place(offset, length)
        return place

    def copy_from(
        self, fd: int, source_offset: int, offset: int, length: int, fua: bool
    ) -> Result[bool]:
        """As `ICopyTarget.copy_from`."""
        result: Result[bool] = self.inner.copy_from(
            fd, source_offset, offset, length, fua
        )
        return result

    def space(self) -> Result[tuple[int, int]]:
        """As `ISpace.space`."""
        result: Result[tuple[int, int]] = self.inner.space()
        return result

    def on_resize(self, call: Any) -> None:
        """As `IResizeNotice.on_resize`."""
        self.inner.on_resize(call)

    def change(self, medium: str) -> Result[None]:
        """As `IRemovableMedium.change`."""
        result: Result[None] = self.inner.change(medium)
        return result

    def eject(self) -> Result[None]:
        """As `IRemovableMedium.eject`."""
        result: Result[None] = self.inner.eject()
        return result

    def load(self) -> Result[None]:
        """As `IRemovableMedium.load`."""
        result: Result[None] = self.inner.load()
        return result

    def on_medium(self, call: Callable[[], None]) -> None:
        """As `IRemovableMedium.on_medium`."""
        self.inner.on_medium(call)

    def resync_size(self) -> Result[None]:
        """As `IResizeNotice.resync_size`."""
        result: Result[None] = self.inner.resync_size()
        return result

    def resize(self, size: int) -> Result[None]:
        """As `IResize.resize`."""
        result: Result[None] = self.inner.resize(size)
        return result
