# SPDX-License-Identifier: MIT
"""
The filter delay: a store that takes its time, to see what a slow disk does to others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from scstd.attributes import Attribute, Seconds
from scstd.filters.base import Filtered
from scstd.interfaces import (
    Buffer,
    IBackstore,
    IBlockStatus,
    ICopySource,
    ICopyTarget,
    IExtents,
    IGivenBuffers,
    IWriteThrough,
    Result,
    carried,
)

T = TypeVar("T")

PARAMETERS: Sequence[Attribute[Any]] = (
    Attribute("read", Seconds(0, 3600), 0.0, "Seconds before each read."),
    Attribute("write", Seconds(0, 3600), 0.0, "Seconds before each write or unmap."),
    Attribute("flush", Seconds(0, 3600), 0.0, "Seconds before each flush."),
)


class Delayed(Filtered):
    """
    A store whose calls begin late; what is not to be late passes by.
    """

    transparent: tuple[Any, ...] = (
        IBlockStatus,
        IExtents,
        IGivenBuffers,
        IWriteThrough,
    )

    def __init__(
        self, inner: IBackstore, clock: Any, seconds: Mapping[str, float]
    ) -> None:
        if not seconds["read"]:
            self.transparent += (ICopySource,)
        if not seconds["write"]:
            self.transparent += (ICopyTarget,)
        super().__init__(inner)
        self._clock = clock
        self._seconds = seconds

    def _late(self, kind: str, call: Callable[[], Result[T]]) -> Result[T]:
        seconds = self._seconds[kind]
        if not seconds:
            return call()
        later: Deferred[Any] = deferLater(self._clock, seconds, carried(call))
        return later

    def read(self, offset: int, length: int) -> Result[Buffer]:
        """Read later."""
        return self._late("read", lambda: self.inner.read(offset, length))

    def write(self, offset: int, data: Buffer, fua: bool) -> Result[None]:
        """Write later."""
        return self._late("write", lambda: self.inner.write(offset, data, fua))

    def unmap(self, offset: int, length: int) -> Result[None]:
        """Unmap later."""
        return self._late("write", lambda: self.inner.unmap(offset, length))

    def write_zeroes(self, offset: int, length: int, fua: bool) -> Result[None]:
        """Write zeros later."""
        return self._late("write", lambda: self.inner.write_zeroes(offset, length, fua))

    def compare_and_write(
        self, offset: int, expected: Buffer, data: Buffer, fua: bool
    ) -> Result[int]:
        """Compare and write later."""
        return self._late(
            "write", lambda: self.inner.compare_and_write(offset, expected, data, fua)
        )

    def flush(self) -> Result[None]:
        """Flush later."""
        return self._late("flush", self.inner.flush)


def wrap(
    reactor: Any,
    device: str,  # noqa: ARG001
    store: IBackstore,
    parameters: Mapping[str, Any],
) -> IBackstore:
    """
    Put the delays before *store*; where there are none nothing is before it.
    """
    if not any(parameters.values()):
        return store
    return Delayed(store, reactor, parameters)
