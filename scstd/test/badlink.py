# SPDX-License-Identifier: MIT
"""
A link that drops, damages and duplicates PDUs in both directions, and cuts connections,
by a seeded schedule; and a store that ends its calls in any order.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer

from scstd.handlers.memory import MemoryStore
from scstd.initiator.connection import InitiatorConnection
from scstd.interfaces import Buffer, IBackstore, Result
from scstd.protocols.engine.node import Node
from scstd.protocols.wire.pdu import PDU
from scstd.test.pairing import PairedConnection

BLOCK = 512
SLOT = 48
"""Blocks of one piece of the disk: a command moves as many or fewer."""


@attrs.frozen
class Rates:
    """
    How often the link does what, of each PDU.
    """

    drop: float = 0.0
    damage: float = 0.0
    duplicate: float = 0.0
    cut: float = 0.0
    header: float = 0.0


@implementer(IBackstore)
class SlowStore:
    """
    A store in memory whose calls end in any order, when `some` is called.
    """

    def __init__(self, size: int, rng: random.Random) -> None:
        self.inner = MemoryStore(size, BLOCK)
        self.size, self.block_size = size, BLOCK
        self.calls: list[tuple[Deferred[Any], Callable[[], Any]]] = []
        self.rng = rng

    def _later(self, call: Callable[[], Any]) -> Deferred[Any]:
        deferred: Deferred[Any] = Deferred()
        self.calls.append((deferred, call))
        return deferred

    def some(self, count: int) -> None:
        """
        Let so many calls end, or all there are.
        """
        for _number in range(min(count, len(self.calls))):
            deferred, call = self.calls.pop(self.rng.randrange(len(self.calls)))
            deferred.callback(call())

    def read(self, offset: int, length: int) -> Result[Buffer]:
        """Read, later."""
        return self._later(lambda: self.inner.read(offset, length))

    def write(self, offset: int, data: Buffer, fua: bool) -> Result[None]:
        """Write, later."""
        return self._later(lambda: self.inner.write(offset, bytes(data), fua))

    def flush(self) -> None:
        """There is nothing to be flushed."""

    def close(self) -> None:
        """There is nothing to be closed."""


class BadLink(InitiatorConnection):
    """
    One connection: what is sent waits in a queue until the schedule delivers it.
    """

    def __init__(self, node: Node, cid: int, now: float) -> None:
        super().__init__(cid)
        self.target_side = PairedConnection(node, now)
        self.queue: list[PDU] = []

    def send(self, *pdus: PDU) -> None:
        """Put PDUs into the queue."""
        self.queue.extend(pdus)


@attrs.define(eq=False)
class Weather:
    """
    What the links do, by chance; nothing while it is *faithful*.

    What would not be noticed at error recovery level 0 does not happen there: TCP is
    as good as it is believed to be.
    """

    rng: random.Random
    rates: Rates
    level: int
    counts: Counter[str]
    faithful: bool = False

    def _chance(self, name: str) -> bool:
        if self.faithful or self.rng.random() >= getattr(self.rates, name):
            return False
        self.counts[name] += 1
        return True

    def deliver(self, link: BadLink, now: float) -> bool:
        """
        Deliver the first PDU of a link's queue to the target, or do what links do;
        return whether the link is still there.
        """
        pdu: Any = link.queue.pop(0)
        if hasattr(pdu, "exp_stat_sn"):
            pdu.exp_stat_sn = link.exp_stat_sn
        side = link.target_side
        if self._chance("cut"):
            side.connection.disconnected()
            return False
        if self.level and self._chance("drop"):
            return True
        data = bytearray(link.encode(pdu))
        if self._chance("header"):
            data[self.rng.choice((1, 9, 18, 30))] ^= 1 << self.rng.randrange(8)
        elif self.level and pdu.data and self._chance("damage"):
            data[len(data) - 5 - self.rng.randrange(len(pdu.data))] ^= 4
        side.feed(bytes(data), now)
        if self.level and not side.connection.over and self._chance("duplicate"):
            side.feed(bytes(data), now)
        return True

    def arrive(self, link: BadLink, take: Callable[[PDU], None]) -> bool:
        """
        Have what the target has sent *take*n, or not, or twice; return whether there
        was anything.
        """
        moved = False
        for pdu in link.received(link.target_side.take()):
            moved = True
            if self.level and not link.login:
                # What is damaged has a wrong data digest, and is discarded (section
                # 7.8).
                if self._chance("drop") or (pdu.data and self._chance("damage")):
                    continue
                if self._chance("duplicate"):
                    take(pdu)
            take(pdu)
        return moved
