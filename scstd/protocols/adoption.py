# SPDX-License-Identifier: MIT
"""
The worker's side of a handover: a connection whose first bytes another process has
read.

Its socket is the initiator's own, or, where the front speaks TLS, one end of a pair
through which the front passes bytes on.  So where the initiator is, and what its
certificate says, it is told.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory

from scstd.protocols.engine.access_control import host_of
from scstd.protocols.iscsi import ISCSITargetProtocol
from scstd.protocols.iscsi_server import ISCSITargetFactory


@attrs.frozen
class Handed:
    """
    What is told of a connection that is handed over.
    """

    peer: str
    """Where the initiator is, ``host:port``."""
    portal: str
    """Where it has come to, ``host:port``."""
    certificate_names: frozenset[str] | None
    """The initiators that its certificate is good for; None: any."""
    answered: tuple[bytes, ...]
    """The Login Requests, whole, that have an answer already: the parts of a text that
    goes on in the next (the C bit)."""
    data: bytes = attrs.field(repr=False)
    """What has come after those."""


def adopt(factory: ISCSITargetFactory, handed: Handed, descriptor: int) -> None:
    """
    Go on with a connection; the descriptor is ours to close.

    :raises OSError: there is none left for the copy that is needed.
    """
    reactor: Any = factory.reactor
    with socket.socket(fileno=descriptor) as sock:
        try:
            sock.getpeername()
        except OSError:
            # It has hung up meanwhile, and nobody waits for an answer.
            return
        sock.setblocking(False)
        reactor.adoptStreamConnection(
            descriptor, sock.family, _Adopting(factory, handed)
        )


@attrs.define(eq=False, slots=False)
class _Adopting(Factory):
    """
    Makes the protocol of one connection, if there is a place for it.
    """

    into: ISCSITargetFactory
    handed: Handed

    def buildProtocol(self, addr: IAddress | None) -> Any:  # noqa: ARG002
        """Return it, or None when there are too many connections."""
        peer = self.handed.peer
        if not self.into.has_room(host_of(peer), peer):
            return None
        return Adopted(self.into, self.handed)


class Adopted(ISCSITargetProtocol):
    """
    One connection's transport, from where the front has left it.
    """

    def __init__(self, factory: ISCSITargetFactory, handed: Handed) -> None:
        super().__init__(factory)
        names = handed.certificate_names
        self._ends = handed.peer, handed.portal, lambda: names
        self._paused = bool(handed.answered)
        self._answered = deque(handed.answered)
        self._rest = handed.data
        """What is to be taken when all those have been."""

    def ends(self) -> tuple[str, str, Callable[[], frozenset[str] | None]]:
        """Return what the front has found."""
        return self._ends

    def connectionMade(self) -> None:
        """Take what has come."""
        super().connectionMade()
        if self._paused:
            # What comes now comes after that.
            self.transport.pauseProducing()  # type: ignore[union-attr]
        self._repeat()

    def _repeat(self) -> None:
        """
        Take what was answered, one after the other, and do not answer it again: the
        login, and StatSN, are then where they were.
        """
        connection = self.connection
        while self._answered and not connection.over:
            connection.receive_data(self._answered.popleft(), self._seconds())
            if not connection.output:
                # It comes when the files of hosts have been looked at.
                return
            if not connection.over:
                connection.take_output()
        rest, self._rest = self._rest, b""
        if self._paused and not connection.over:
            self.transport.resumeProducing()  # type: ignore[union-attr]
        self.dataReceived(rest)

    def flush(self) -> None:
        """Send answers, but for those that were sent."""
        connection = self.connection
        if not self._rest or connection.over:
            super().flush()
        elif connection.output:
            connection.take_output()
            self._repeat()
