# SPDX-License-Identifier: MIT
"""
Makes a connection of one node for each initiator that connects, looks at their timers,
and sends what those that were woken have to say.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import attrs
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import ServerFactory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from scstd.drivers.addresses import address_name
from scstd.protocols.connection_slots import ConnectionSlots
from scstd.protocols.engine.connection import Connection
from scstd.protocols.engine.node import Node
from scstd.protocols.engine.outlet import OUTPUT_BATCH
from scstd.protocols.engine.phase import Phase
from scstd.protocols.iscsi import ISCSITargetProtocol
from scstd.protocols.poller import Poller
from scstd.protocols.turns import BUDGET, Turns

_log = Logger()


@attrs.define(eq=False, slots=False)
class ISCSITargetFactory(ServerFactory):
    """
    Makes a connection of one node for each initiator that connects.
    """

    node: Node
    reactor: IReactorTime | Any
    protocols: dict[ISCSITargetProtocol, None] = attrs.field(factory=dict, init=False)
    woken: dict[ISCSITargetProtocol, None] = attrs.field(factory=dict, init=False)
    slots: ConnectionSlots = attrs.field(factory=ConnectionSlots, init=False)
    protocol: Callable[[ISCSITargetFactory], Any] = attrs.field(
        default=ISCSITargetProtocol, kw_only=True
    )
    """Makes one of a connection."""
    noisy = False
    turns: Turns = attrs.field(init=False)
    poller: Poller | None = attrs.field(init=False)
    """Who watches the sockets of connections without TLS."""
    _ticks: LoopingCall | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.turns = Turns(self.reactor)
        self.poller = Poller.of(self.reactor, self.flush, self.turns)

    def startFactory(self) -> None:
        """Look at every connection's timers each second."""
        self._ticks = LoopingCall(self._tick)
        self._ticks.clock = self.reactor
        self._ticks.start(1.0, now=False)

    def stopFactory(self) -> None:
        """Stop looking at timers."""
        if self._ticks is not None and self._ticks.running:
            self._ticks.stop()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Return a protocol, or None when there are too many connections."""
        host = getattr(addr, "host", None) or str(addr)
        return self.protocol(self) if self.has_room(host, address_name(addr)) else None

    def has_room(self, host: str, peer: str) -> bool:
        """
        Say whether one more connection may come from an address.
        """
        if self.slots.has_room(host, self.node.max_connections):
            return True
        self.node.report("CONNECTION_REFUSED", peer=peer, reason="too many connections")
        return False

    def flush(self) -> None:
        """
        Send the answers of every connection that was woken; when it takes long, those
        that have much to say go on in turns.
        """
        woken = self.woken
        if not woken:
            return
        self.woken = {}
        until = perf_counter() + BUDGET
        protocol: Any
        for protocol in woken:
            try:
                if (
                    protocol.connection.output_bytes >= OUTPUT_BATCH
                    and perf_counter() > until
                ):
                    self.turns.wait(protocol)
                    continue
                protocol.flush()
            except BaseException:  # noqa: BLE001 - logged
                _log.failure("an error ends {connection}", connection=protocol)
                protocol.transport.abortConnection()

    def _tick(self) -> None:
        now = self.reactor.seconds()
        for protocol in list(self.protocols):
            protocol.tick(now)
        self.node.tick(now)

    def connections(self) -> list[Connection]:
        """
        Return the connections there are, those in login too.
        """
        return [protocol.connection for protocol in self.protocols]

    def logged_in(self) -> list[Connection]:
        """
        Return the connections in the full feature phase.
        """
        phases = Phase.NORMAL | Phase.DISCOVERY
        return [one for one in self.connections() if one.phase & phases]
