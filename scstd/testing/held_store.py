# SPDX-License-Identifier: MIT
"""
A store in memory whose calls can be held: what a command under way waits for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from scstd.interfaces import Buffer, IBackstore, Result

SIZE = 1 << 20
"""Bytes that it has."""

BLOCK = 512
"""Bytes of its blocks."""


@implementer(IBackstore)
class HeldStore:
    """
    A store in memory; while it is *held*, calls wait.
    """

    def __init__(self) -> None:
        self.size = SIZE
        self.block_size = BLOCK
        self.data = bytearray(SIZE)
        self.held = False
        self.waiting: list[tuple[Deferred[Any], Callable[[], Any]]] = []

    def _later(self, call: Callable[[], Any]) -> Any:
        if not self.held:
            return call()
        waiting: Deferred[Any] = Deferred()
        self.waiting.append((waiting, call))
        return waiting

    def release(self) -> None:
        """
        Let what waits happen, and hold nothing any more.
        """
        self.held = False
        waiting, self.waiting = self.waiting, []
        for one, call in waiting:
            one.callback(call())

    def read(self, offset: int, length: int) -> Result[Buffer]:
        """Return bytes."""
        found: Result[Buffer] = self._later(
            lambda: bytes(self.data[offset : offset + length])
        )
        return found

    def write(self, offset: int, data: Buffer, fua: bool) -> Result[None]:  # noqa: ARG002 - memory
        """Store bytes."""
        kept = bytes(data)

        def put() -> None:
            self.data[offset : offset + len(kept)] = kept

        done: Result[None] = self._later(put)
        return done

    def flush(self) -> Result[None]:
        """Do nothing, if not held."""
        done: Result[None] = self._later(lambda: None)
        return done

    def close(self) -> Result[None]:
        """Do nothing."""
        return None
