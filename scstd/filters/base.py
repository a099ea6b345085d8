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

from scstd.block.around import Around
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

_BYTES = ("read", "write")

RULES: dict[Any, tuple[tuple[str, ...], tuple[str, ...]]] = {
    ICopySource: (("place",), _BYTES),
    ICopyTarget: (("copy_from",), _BYTES),
    IUnmap: (("unmap",), _BYTES),
    IWriteZeroes: (("write_zeroes",), _BYTES),
    ICompareAndWrite: (("compare_and_write",), _BYTES),
    IBlockStatus: (("block_status",), (*_BYTES, "extents")),
    IExtents: (("extents",), (*_BYTES, "block_status")),
    IGivenBuffers: ((), _BYTES),
    IWriteThrough: ((), _BYTES),
    IResizeNotice: (("on_resize",), ("size",)),
    IResize: (("resize",), ("size",)),
    **dict.fromkeys(
        (
            IKnowsAsker,
            IMediumIdentity,
            IOpticalDrive,
            IPrefetch,
            IReadOnly,
            IRemovableMedium,
            ISessions,
            ISpace,
            IVolatile,
        ),
        ((), ()),
    ),
}
"""
What a filter passes on: an interface, with the methods that do what it says, and those
of which a filter that overrides one would be passed by: it provides the interface no
more then, unless it overrides all of the former.  Nothing passes by what tells nothing
of bytes.
"""


@implementer(IBackstore)
class Filtered(Around):
    """
    A store before *inner*.

    It provides what *inner* does, of `scstd.interfaces` and but for what would let
    bytes pass it by.  *transparent* are the interfaces of which a subclass says that
    they may, for it changes no byte and no place of one.  To hide another capability
    use ``zope.interface.noLongerProvides``.
    """

    transparent: tuple[Any, ...] = ()

    def __init__(self, inner: IBackstore) -> None:
        super().__init__(inner)
        shown = [one for one in RULES if one.providedBy(inner) and self._passes(one)]
        directlyProvides(self, *shown)

    def _passes(self, interface: Any) -> bool:
        """
        Say whether the filter passes an interface on.
        """
        methods, changed = RULES[interface]
        if interface in self.transparent or not any(map(self._overrides, changed)):
            return True
        return bool(methods) and all(map(self._overrides, methods))

    def _overrides(self, name: str) -> bool:
        return getattr(type(self), name) is not getattr(Filtered, name)

    @property
    def size(self) -> int:
        """The inner store's size."""
        size: int = self.inner.size
        return size

    def prefetch(self, offset: int, length: int) -> Result[None]:
        """As `IPrefetch.prefetch`."""
        result: Result[None] = self.inner.prefetch(offset, length)
        return result

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
