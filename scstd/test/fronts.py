# SPDX-License-Identifier: MIT
"""
A command set of four commands on a volume, for tests: read, write, flush and trim, as a
network block device has them, and a compare-and-write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs
from twisted.internet.defer import Deferred, maybeDeferred

from scstd.block.counters import IOKind
from scstd.block.volume import Volume
from scstd.interfaces import Buffer
from scstd.results import settled


@attrs.define(eq=False)
class Request:
    """
    One request, of so many *blocks* from *first* on; *reply* fires with its answer.
    """

    first: int
    blocks: int
    call: Callable[[], Any]
    kind: IOKind = IOKind.OTHER
    reply: Deferred[Any] = attrs.field(factory=Deferred)
    watchers: list[Callable[[Request], object]] = attrs.field(factory=list)


@attrs.define(eq=False)
class BlockFront:
    """
    Serves a volume; `requests` are those that are not answered yet, `told` is what
    changed.
    """

    volume: Volume
    requests: dict[Request, None] = attrs.field(factory=dict)
    told: list[str] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.volume.join(self)

    # What clients ask for.

    def read(self, first: int, blocks: int = 1) -> Request:
        """Read blocks."""
        offset, length = self._bytes(first, blocks)
        return self._do(
            IOKind.READ, first, blocks, lambda: self.volume.store.read(offset, length)
        )

    def write(self, first: int, data: Buffer) -> Request:
        """Write blocks."""
        blocks, offset = len(data) >> self.volume.block_shift, self._bytes(first, 0)[0]
        return self._do(
            IOKind.WRITE,
            first,
            blocks,
            lambda: self.volume.store.write(offset, data, False),
        )

    def trim(self, first: int, blocks: int) -> Request:
        """
        Deallocate blocks.

        :raises OSError: what is to be trimmed cannot be.
        """
        unmaps = self.volume.can.unmaps
        if unmaps is None:
            raise OSError("it is not thin")
        offset, length = self._bytes(first, blocks)
        return self._do(
            IOKind.OTHER, first, blocks, lambda: unmaps.unmap(offset, length)
        )

    def flush(self) -> Deferred[Any]:
        """Make durable what was written."""
        return maybeDeferred(self.volume.store.flush)

    def compare_and_write(self, first: int, expected: bytes, data: bytes) -> Request:
        """Write a block if it is what is expected; answer whether it was."""
        store, (offset, length) = self.volume.store, self._bytes(first, 1)

        async def steps() -> bool:
            found: Buffer = await settled(store.read(offset, length))
            if bytes(found) != expected:
                return False
            await settled(store.write(offset, data, False))
            return True

        request = Request(first, 1, lambda: Deferred.fromCoroutine(steps()))
        return self._begin(request, self.volume.locks.exclusive)

    def forget(self, request: Request) -> None:
        """Forget a request whose client has gone."""
        self.volume.locks.drop(request)

    def close(self) -> None:
        """Serve nobody any more."""
        self.volume.leave(self)

    def _bytes(self, first: int, blocks: int) -> tuple[int, int]:
        shift = self.volume.block_shift
        return first << shift, blocks << shift

    def _do(
        self, kind: IOKind, first: int, blocks: int, call: Callable[[], Any]
    ) -> Request:
        request = Request(first, blocks, call, kind)
        return self._begin(request, self.volume.locks.guarded)

    def _begin(self, request: Request, begin: Callable[..., Any]) -> Request:
        first, end = request.first, request.first + request.blocks
        self.requests[request] = None

        def over(result: Any) -> None:
            del self.requests[request]
            request.reply.callback(result)
            for one in request.watchers:
                one(request)

        counter = self.volume.counters.by_kind[request.kind]
        counter.requests += 1
        counter.blocks += request.blocks
        maybeDeferred(begin, request, first, end, request.call).addBoth(over)
        return request

    # As a frontend of the volume.

    def at_work(self) -> Iterator[tuple[Request, int, int]]:
        """Return what is under way."""
        for one in self.requests:
            yield one, one.first, one.first + one.blocks

    def when_over(self, owner: Request, call: Callable[[Any], object]) -> None:
        """Have something called when a request is over."""
        owner.watchers.append(call)

    def resized(self) -> None:
        """Note it."""
        self.told.append(f"resized {self.volume.blocks}")

    def medium_changed(self) -> None:
        """Note it."""
        self.told.append(f"medium {self.volume.blocks}")
