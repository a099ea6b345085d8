# SPDX-License-Identifier: MIT
"""
Links in memory: two ends whose bytes go over when a test says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from scstd.workers.link import Link


class Pipe:
    """
    The transport of one end; what is written waits until it is `carry`'d.
    """

    def __init__(self) -> None:
        self.waiting = bytearray()
        self.disconnecting = False
        self.over = False

    def write(self, data: bytes) -> None:
        """Keep bytes."""
        self.waiting += data

    def writeSequence(self, parts: list[bytes]) -> None:  # noqa: N802 - Twisted's name
        """Keep bytes."""
        self.waiting += b"".join(parts)

    def registerProducer(self, _producer: Any, _streams: bool) -> None:  # noqa: N802
        """Never be full."""

    def loseConnection(self) -> None:  # noqa: N802 - Twisted's name
        """End when all has gone over."""
        self.disconnecting = True

    def abortConnection(self) -> None:  # noqa: N802 - Twisted's name
        """End now."""
        self.waiting.clear()
        self.disconnecting = True


class Pair:
    """
    A link of two ends, *front* and *worker*, that answer to what is given.
    """

    def __init__(
        self,
        front: Mapping[str, Callable[..., Any]] | Link,
        worker: Mapping[str, Callable[..., Any]] | Link,
    ) -> None:
        self.front = front if isinstance(front, Link) else Link(front)
        self.worker = worker if isinstance(worker, Link) else Link(worker)
        self._pipes = (Pipe(), Pipe())
        for end, pipe in zip(self._ends, self._pipes, strict=True):
            end.makeConnection(pipe)

    @property
    def _ends(self) -> tuple[Link, Link]:
        return self.front, self.worker

    def carry(self, size: int = 1 << 30) -> None:
        """
        Have everything go over, in pieces of a size, and what is answered to it.
        """
        while any(pipe.waiting for pipe in self._pipes):
            for pipe, other in zip(self._pipes, reversed(self._ends), strict=True):
                data = bytes(pipe.waiting[:size])
                del pipe.waiting[:size]
                if data:
                    other.dataReceived(data)
        if any(pipe.disconnecting for pipe in self._pipes):
            self.cut(ConnectionDone())

    def cut(self, why: Exception | None = None) -> None:
        """
        End the link at both ends; what is under way is lost.
        """
        for end, pipe in zip(self._ends, self._pipes, strict=True):
            pipe.waiting.clear()
            if not pipe.over:
                pipe.over = True
                end.connectionLost(Failure(why or ConnectionLost()))
