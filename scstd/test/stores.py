# SPDX-License-Identifier: MIT
"""
Backstores for tests: one that waits until it is told to go on, one that breaks, a
drive.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import alsoProvides, implementer

from scstd.attributes import ConfigurationError
from scstd.filters.base import Filtered
from scstd.handlers.memory import MemoryStore
from scstd.interfaces import Buffer, IBackstore, IRemovableMedium, ISpace, Result


def memory(size: int = 1 << 20, block_size: int = 512) -> MemoryStore:
    """
    Return a store in memory.
    """
    return MemoryStore(size, block_size)


def full(size: int) -> MemoryStore:
    """
    Return a store in memory of which each block was written.
    """
    store = memory(size)
    store.write(0, bytes(size), False)
    return store


class Shared(Filtered):
    """
    A store in a space of so many bytes, of which so many are used; it is asked later
    with *wait*.
    """

    def __init__(
        self, used: int, total: int, wait: Deferred[Any] | None = None
    ) -> None:
        super().__init__(memory())
        alsoProvides(self, ISpace)
        self.answer, self.wait = (used, total), wait

    def space(self) -> Result[tuple[int, int]]:
        """Return them."""
        if self.wait is None:
            return self.answer
        return self.wait.addCallback(lambda _: self.answer)


@implementer(IBackstore)
class ManualStore:
    """
    A store whose every call waits until `go` makes it; ``calls`` are those that wait.
    """

    def __init__(self, size: int = 1 << 20, block_size: int = 512) -> None:
        self.inner = memory(size, block_size)
        self.size = size
        self.block_size = block_size
        self.calls: list[tuple[str, Deferred[Any], Callable[[], Any]]] = []
        self.closed = False

    def _wait(self, name: str, call: Callable[[], Any]) -> Deferred[Any]:
        deferred: Deferred[Any] = Deferred()
        self.calls.append((name, deferred, call))
        return deferred

    def go(self, count: int = 1) -> None:
        """
        Let the oldest calls happen.
        """
        for _one in range(count):
            _name, deferred, call = self.calls.pop(0)
            deferred.callback(call())

    def fail(self, error: Exception) -> None:
        """
        Let the oldest call fail.
        """
        _name, deferred, _call = self.calls.pop(0)
        deferred.errback(error)

    def read(self, offset: int, length: int) -> Result[Buffer]:
        """Read, later."""
        return self._wait("read", lambda: self.inner.read(offset, length))

    def write(self, offset: int, data: Buffer, fua: bool) -> Result[None]:
        """Write, later."""
        kept = bytes(data)
        return self._wait("write", lambda: self.inner.write(offset, kept, fua))

    def flush(self) -> Result[None]:
        """Flush, later."""
        return self._wait("flush", lambda: None)

    def close(self) -> None:
        """Close at once."""
        self.closed = True


@implementer(IBackstore, IRemovableMedium)
class MemoryDrive:
    """
    A drive whose media are bytes by name.  While it is *slow* a read waits in ``reads``
    until it is called, with the bytes of the medium that it was made for.
    """

    def __init__(
        self, media: Mapping[str, bytes], medium: str = "", block_size: int = 2048
    ) -> None:
        self.media = dict(media)
        self.medium = medium
        self.block_size = block_size
        self.slow = False
        self.reads: list[Callable[[], None]] = []
        self._data = self.media.get(medium, b"")
        self._call: Callable[[], None] = lambda: None

    @property
    def size(self) -> int:
        """The length of the medium that is in."""
        return len(self._data)

    def read(self, offset: int, length: int) -> Result[Buffer]:
        """Read, at once or when told."""
        found = self._data[offset : offset + length]
        if not self.slow:
            return found
        deferred: Deferred[Buffer] = Deferred()
        self.reads.append(lambda: deferred.callback(found))
        return deferred

    def write(self, offset: int, data: Buffer, fua: bool) -> None:
        """Write."""
        whole = bytearray(self._data)
        whole[offset : offset + len(data)] = data
        self._data = self.media[self.medium] = bytes(whole)

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def _put(self, data: bytes) -> None:
        was, self._data = self._data, data
        if was or data:
            self._call()

    def change(self, medium: str) -> None:
        """Put another one in."""
        if medium and medium not in self.media:
            raise ConfigurationError(f"there is no {medium}")
        self.medium = medium
        self._put(self.media.get(medium, b""))

    def eject(self) -> None:
        """Take it out."""
        self._put(b"")

    def load(self) -> None:
        """Put it in."""
        if not self.medium:
            raise OSError(errno.ENOMEDIUM, "there is nothing to put in")
        if not self._data:
            self._put(self.media[self.medium])

    def on_medium(self, call: Callable[[], None]) -> None:
        """Note who is told."""
        self._call = call
