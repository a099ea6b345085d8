# SPDX-License-Identifier: MIT
"""
What `recovering.Recoverer` is made of: how bad the link is, a connection of it, a command
under way, and a store that ends its calls in any order.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer

from scstd.handlers.memory import MemoryStore
from scstd.initiator.connection import octets, on_the_wire
from scstd.interfaces import Buffer, IBackstore, Result
from scstd.protocols.engine.connection import Connection
from scstd.protocols.engine.node import Node
from scstd.protocols.wire.framing import Framer
from scstd.protocols.wire.pdu import PDU, SCSICommand
from scstd.protocols.wire.serial import add

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


@attrs.define(eq=False)
class Work:
    """
    One command and what has come of it.
    """

    slot: int
    blocks: int
    data: bytes
    writes: bool
    pdu: SCSICommand
    path: Path
    got: dict[int, tuple[int, bytes]] = attrs.field(factory=dict)
    count: int = -1
    status: int = -1
    r2ts: set[int] = attrs.field(factory=set)

    def contiguous(self) -> int:
        """
        Return the first DataSN that has not come.
        """
        number = 0
        while number in self.got:
            number += 1
        return number

    @property
    def over(self) -> bool:
        """Whether the status is there, and all data."""
        if self.status < 0:
            return False
        return self.status != 0 or self.writes or self.contiguous() >= self.count

    def value(self) -> bytes:
        """
        Return the data read.
        """
        whole = bytearray(self.blocks * BLOCK)
        for at, piece in self.got.values():
            whole[at : at + len(piece)] = piece
        return bytes(whole)


class Path:
    """
    One connection, as the initiator sees it.
    """

    def __init__(self, node: Node, cid: int, now: float) -> None:
        self.cid = cid
        self.connection = Connection(
            node, lambda: None, now, peer="test:1", portal="127.0.0.1:3260"
        )
        self.framer = Framer(max_segment=1 << 24)
        self.digests = False
        self.queue: list[PDU] = []
        self.exp_stat_sn = 0
        self.stat_sns: dict[int, Work | None] = {}
        self.tsih = 0

    def encode(self, pdu: PDU) -> bytes:
        """
        Return a PDU as it is sent.
        """
        return on_the_wire(pdu, self.digests, self.digests)

    def acknowledge(self) -> None:
        """
        Move ExpStatSN on, but not past the status of a read whose data has gaps: that
        would acknowledge the data too.
        """
        while self.exp_stat_sn in self.stat_sns:
            work = self.stat_sns[self.exp_stat_sn]
            if work is not None and work.path is self and not work.over:
                return
            del self.stat_sns[self.exp_stat_sn]
            self.exp_stat_sn = add(self.exp_stat_sn, 1)

    def missing(self) -> int:
        """
        Return the first StatSN that has not come.
        """
        stat_sn = self.exp_stat_sn
        while stat_sn in self.stat_sns:
            stat_sn = add(stat_sn, 1)
        return stat_sn

    def output(self) -> list[Any]:
        """
        Return the PDUs that the target has sent.
        """
        connection = self.connection
        found: list[Any] = []
        while connection.output:
            output, connection.output = connection.output, []
            connection.output_bytes = 0
            self.framer.feed(octets(output))
            while (pdu := self.framer.next()) is not None:
                found.append(pdu)
            connection.pump()
        return found
