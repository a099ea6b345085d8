# SPDX-License-Identifier: MIT
"""
Bytes of a connection of TLS, passed on to the process that has its session.

The front keeps the keys; what it has decrypted goes through one end of a pair of
sockets, whose other end is handed over, and what comes back is encrypted.  Each side
reads only while the other takes what it is given.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer


class Relay(Protocol):
    """
    Our end of the pair: *outside* is the transport of the initiator, *over* is called
    when the other end is closed, with whether that was in order.
    """

    def __init__(self, outside: Any, over: Callable[[bool], None]) -> None:
        self.outside = outside
        self.over = over
        self.begun = self.closed = False

    def begin(self) -> None:
        """
        Pass on what comes, from now on.
        """
        transport: Any = self.transport
        self.begun = True
        self.outside.registerProducer(transport, True)
        transport.registerProducer(_Reading(self.outside), True)
        # Both were paused, or might have been.
        transport.resumeProducing()
        self.outside.resumeProducing()

    def write(self, data: bytes) -> None:
        """
        Pass something on to the other process.
        """
        self.transport.write(data)  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        """Pass it on to the initiator."""
        self.outside.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Have the initiator's connection end too, when it has got all."""
        self.closed = True
        if self.begun:
            self.outside.unregisterProducer()
        self.over(reason.check(ConnectionDone) is not None)

    def end(self, *, clean: bool) -> None:
        """
        Have the other process see the end: *clean* if it is to get all that came.
        """
        transport: Any = self.transport
        if self.closed or transport is None:
            return
        transport.unregisterProducer()
        if clean:
            transport.loseConnection()
        else:
            transport.abortConnection()

    def drop(self) -> None:
        """
        Have the end of it be nobody's concern: the other process has never had it.
        """
        self.over = _nobody
        self.end(clean=False)


def _nobody(_clean: bool) -> None:
    """
    Tell nobody.
    """


@implementer(IPushProducer)
@attrs.frozen
class _Reading:
    """
    What comes from the initiator, as the producer of what goes to the other process.
    """

    outside: Any

    def pauseProducing(self) -> None:
        """Read no more."""
        self.outside.pauseProducing()

    def resumeProducing(self) -> None:
        """Read on."""
        self.outside.resumeProducing()

    def stopProducing(self) -> None:
        """Do nothing: what is on its way to the initiator is still sent."""


def pair(
    reactor: Any, outside: Any, over: Callable[[bool], None]
) -> tuple[Relay, socket.socket]:
    """
    Return our end of a new pair, which does not read yet, and the other.

    :raises OSError: there are no descriptors left.
    """
    ours, other = socket.socketpair()
    relay = Relay(outside, over)
    factory = Factory.forProtocol(lambda: relay)
    factory.noisy = False
    with ours:
        try:
            ours.setblocking(False)
            other.setblocking(False)
            transport = reactor.adoptStreamConnection(
                ours.fileno(), ours.family, factory
            )
        except BaseException:
            other.close()
            raise
    transport.pauseProducing()
    return relay, other
