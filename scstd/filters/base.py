# SPDX-License-Identifier: MIT
"""
What a filter is made of: a store that passes everything on to the next.

`Filtered` is the base of all: override the methods you change.  `Transforming` is for
filters that change bytes: two functions, and all the rest follows.

**Nothing passes by.**  Much of what a store can do besides reading and writing touches
its bytes: zeroing, unmapping, comparing and writing, copying, saying what is mapped.
A filter that overrides `read` or `write` would not see that, so it provides none of
it, but what it overrides itself or says to be `transparent` for; the device server
then reads and writes instead, through the filter.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import directlyProvides, implementer

from scstd.interfaces import (
    Buffer,
    Extent,
    IBackstore,
    IBlockStatus,
    ICompareAndWrite,
    ICopySource,
    ICopyTarget,
    IExtents,
    IGivenBuffers,
    IKnowsAsker,
    IMediumIdentity,
    IOpticalDrive,
    IPrefetch,
    IReadOnly,
    IRemovableMedium,
    IResize,
    IResizeNotice,
    ISessions,
    ISpace,
    IUnmap,
    IVolatile,
    IWriteThrough,
    IWriteZeroes,
    LunSession,
    Result,
    carried,
)

PAST: dict[Any, tuple[str, ...]] = {
    ICopySource: ("place",),
    ICopyTarget: ("copy_from",),
    IUnmap: ("unmap",),
    IWriteZeroes: ("write_zeroes",),
    ICompareAndWrite: ("compare_and_write",),
    IBlockStatus: ("block_status",),
    IGivenBuffers: (),
    IWriteThrough: (),
}
"""
What is about bytes, with the methods that do it: not for a filter that overrides `read`
or `write`, unless it overrides all of these methods too.
"""

SIZED: dict[Any, tuple[str, ...]] = {
    IResizeNotice: ("on_resize",),
    IResize: ("resize",),
}
"""The same for one that overrides `size`."""

FOUND: dict[Any, tuple[str, ...]] = {IExtents: ("extents",)}
"""The same for one that overrides `read`, `write` or `block_status`."""

ALWAYS: tuple[Any, ...] = (
    IKnowsAsker,
    IMediumIdentity,
    IOpticalDrive,
    IPrefetch,
    IReadOnly,
    IRemovableMedium,
    ISessions,
    ISpace,
    IVolatile,
)
"""What every filter passes on: it tells nothing of bytes."""


@implementer(IBackstore)
class Filtered:
    """
    A store before *inner*.

    It provides what *inner* does, of `scstd.interfaces` and but for what would let
    bytes pass it by.  *transparent* are the interfaces of which a subclass says that
    they may, for it changes no byte and no place of one.  To hide another capability
    use ``zope.interface.noLongerProvides``.
    """

    transparent: tuple[Any, ...] = ()

    inner: Any

    def __init__(self, inner: IBackstore) -> None:
        self.inner = inner
        shown = [
            *ALWAYS,
            *_passed(type(self), PAST, "read", "write"),
            *_passed(type(self), SIZED, "size"),
            *_passed(type(self), FOUND, "read", "write", "block_status"),
        ]
        directlyProvides(self, *(one for one in shown if one.providedBy(inner)))

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

    def medium_identity(self) -> Result[str | None]:
        """As `IMediumIdentity.medium_identity`."""
        identity: Result[str | None] = self.inner.medium_identity()
        return identity

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

    def extents(self, offset: int, length: int, most: int) -> Result[Sequence[Extent]]:
        """As `IExtents.extents`."""
        result: Result[Sequence[Extent]] = self.inner.extents(offset, length, most)
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

    def session_opened(self, session: LunSession) -> None:
        """As `ISessions.session_opened`; what is behind may not want to know."""
        if ISessions.providedBy(self.inner):
            self.inner.session_opened(session)

    def session_closed(self, session: LunSession) -> None:
        """As `ISessions.session_closed`."""
        if ISessions.providedBy(self.inner):
            self.inner.session_closed(session)


def _passed(
    kind: type[Filtered], table: dict[Any, tuple[str, ...]], *changed: str
) -> list[Any]:
    """
    Return the interfaces of a table by which nothing passes a kind of filter, when it
    overrides one of the methods that are *changed* there.
    """

    def overrides(name: str) -> bool:
        return getattr(kind, name) is not getattr(Filtered, name)

    if not any(overrides(name) for name in changed):
        return list(table)
    return [
        interface
        for interface, methods in table.items()
        if interface in kind.transparent
        or (methods and all(overrides(name) for name in methods))
    ]


class Transforming(Filtered):
    """
    A store whose bytes are others than those of *inner*: encrypted, scrambled, marked.

    Say how with `to_store` and `from_store`.  They may return Deferreds and be ``async
    def``: what takes long belongs into a thread (`scstd.blocking`).

    Zeros are written as what `to_store` makes of them, a comparison is one of what
    `from_store` makes, copies are read and written.  Unmapping is not provided: what is
    not mapped reads as zeros, which `from_store` would make something else of.
    """

    transparent = (IWriteThrough,)

    def to_store(self, offset: int, data: Buffer) -> Result[Buffer]:
        """
        Return what *inner* gets for *data* at *offset*: as many bytes, others.
        """
        raise NotImplementedError

    def from_store(self, offset: int, data: Buffer) -> Result[Buffer]:
        """
        Return what `to_store` was given when it made *data*.
        """
        raise NotImplementedError

    def read(self, offset: int, length: int) -> Result[Buffer]:
        """Read, and transform."""
        result: Result[Buffer] = _then(
            self.inner.read(offset, length),
            lambda data: self.from_store(offset, data),
        )
        return result

    def write(self, offset: int, data: Buffer, fua: bool) -> Result[None]:
        """Transform, and write."""

        def write(transformed: Buffer) -> Any:
            if len(transformed) != len(data):
                raise ValueError(f"{len(data)} bytes became {len(transformed)}")
            return self.inner.write(offset, transformed, fua)

        result: Result[None] = _then(self.to_store(offset, data), write)
        return result


def _then(value: Any, function: Callable[[Any], Any]) -> Any:
    """
    Return what a function makes of a value, when that is there.
    """
    if inspect.iscoroutine(value):
        value = Deferred.fromCoroutine(value)
    if isinstance(value, Deferred):
        return value.addCallback(carried(lambda found: _awaited(function(found))))
    return _awaited(function(value))


def _awaited(value: Any) -> Any:
    return Deferred.fromCoroutine(value) if inspect.iscoroutine(value) else value
