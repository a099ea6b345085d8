# SPDX-License-Identifier: MIT
"""
The connections with an iSNS server: ours to it, and those that it makes to us.
"""

from __future__ import annotations

from typing import Any
from typing import Protocol as Structural

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from scstd.protocols.wire.isns import (
    CLIENT,
    RESPONSE,
    Attributes,
    ISNSError,
    Message,
    Messages,
    encode,
)

_log = Logger()

RESPONSE_TIMEOUT = 30.0
"""Seconds in which the server has to answer."""

MAX_INBOUND = 8
"""Connections that servers make to us: with one more the oldest goes."""


class Owner(Structural):
    """
    Whose connections they are (`scstd.protocols.isns.client.ISNSClient`).
    """

    reactor: Any
    listeners: dict[Listener, None]
    """Connections that the server has made, the oldest first."""

    def connected(self, protocol: ISNSProtocol) -> None:
        """
        Begin: there is a connection to the server now.
        """

    def disconnected(self, protocol: ISNSProtocol) -> None:
        """
        Take it that a connection to the server is no more.
        """

    def take(self, message: Message, transport: Any) -> None:
        """
        Answer what the server asks, on the transport on which it did.
        """


class Conversation(Protocol):
    """
    A connection with the server: who does not read our answers is not read from.
    """

    def __init__(self, client: Owner) -> None:
        self._client = client
        self._messages = Messages()

    def connectionMade(self) -> None:
        """Have the transport stop to read while what it sends is not read."""
        transport: Any = self.transport
        transport.registerProducer(transport, True)

    def abort(self) -> None:
        """
        End it, whatever is still to be sent.
        """
        transport: Any = self.transport
        transport.abortConnection()


class ISNSProtocol(Conversation):
    """
    The connection to the server: questions, and their answers by transaction; and what
    the server asks.
    """

    def __init__(self, client: Owner) -> None:
        super().__init__(client)
        self._reactor = client.reactor
        self._waiting: dict[int, Deferred[Message]] = {}
        self._transaction = 0

    def ask(
        self, function: int, attributes: Attributes, flags: int = 0
    ) -> Deferred[Message]:
        """
        Send a request; fire with its response.
        """
        self._transaction = (self._transaction + 1) % 65536
        number_ = self._transaction
        answer: Deferred[Message] = Deferred()
        answer.addTimeout(RESPONSE_TIMEOUT, self._reactor)
        self._waiting[number_] = answer

        def forget(result: Any) -> Any:
            self._waiting.pop(number_, None)
            return result

        answer.addBoth(forget)
        message = Message(function, number_, attributes, flags | CLIENT)
        self.transport.write(encode(message))  # type: ignore[union-attr]
        return answer

    def dataReceived(self, data: bytes) -> None:
        """Take answers."""
        try:
            for message in self._messages.feed(data):
                if not message.function & RESPONSE:
                    self._client.take(message, self.transport)
                    continue
                waiting = self._waiting.get(message.transaction)
                if waiting is not None:
                    waiting.callback(message)
        except ISNSError as error:
            _log.warn("the iSNS server sent no iSNS: {error}", error=error)
            self.abort()

    def connectionMade(self) -> None:
        """Register."""
        super().connectionMade()
        self._client.connected(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Let the questions fail."""
        for waiting in list(self._waiting.values()):
            waiting.errback(reason)
        self._client.disconnected(self)


class Listener(Conversation):
    """
    A connection that the server makes: entity status inquiries, change notices.
    """

    def connectionMade(self) -> None:
        """Be one of a few."""
        super().connectionMade()
        listeners = self._client.listeners
        listeners[self] = None
        if len(listeners) > MAX_INBOUND:
            next(iter(listeners)).abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002
        """Be none of them any more."""
        self._client.listeners.pop(self, None)

    def dataReceived(self, data: bytes) -> None:
        """Answer."""
        try:
            for message in self._messages.feed(data):
                self._client.take(message, self.transport)
        except ISNSError:
            self.abort()
