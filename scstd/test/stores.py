# SPDX-License-Identifier: MIT
"""
Backstores for tests: one that waits until it is told to go on, one that breaks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from scstd.handlers.memory import MemoryStore
from scstd.interfaces import Buffer, IBackstore, Result


def memory(size: int = 1 << 20, block_size: int = 512) -> MemoryStore:
    """
    Return a store in memory.
    """
    return MemoryStore(size, block_size)


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
