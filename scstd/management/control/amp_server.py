# SPDX-License-Identifier: MIT
"""
AMP for a server that cannot rely on its clients.

Twisted's AMP takes it that both ends mean well: a box that makes no sense is a
traceback in the log, a wrong argument too, and what a client does not read is kept for
ever.  Here a client that speaks something else is hung up on, in one line of the log;
what is wrong with an argument is the command's own error; and a client that does not
read, or asks for too much at a time, is not read from until that has changed: others,
initiators above all, have the same reactor.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.amp import (
    AMP,
    ANSWER,
    COMMAND,
    ERROR,
    UNHANDLED_ERROR_CODE,
    AmpBox,
    CommandLocator,
    RemoteAmpError,
    StartTLS,
)
from twisted.python.failure import Failure
from zope.interface import implementer

_log = Logger()

MAX_KEYS = 32
"""Keys of one box: several times what any command has."""

MAX_AT_ONCE = 64
"""Commands of one client that may be under way."""

MAX_IN_A_TURN = 16
"""Commands of one client in one turn of the reactor: then it is others' turn."""

GRACE = 5.0
"""Seconds that a client has to take what it was sent before it was hung up on."""

_SHOWN = 60
"""Characters of what a client sent that a message repeats."""


@implementer(IPushProducer)
class Boxes(AMP):
    """
    The server's end of a connection: it answers, and asks nothing.

    It is the producer of what its transport sends: `pauseProducing` stops reading.
    """

    _under_way = 0
    _in_this_turn = 0
    _unread = False
    """Whether the client leaves unread what it was sent."""
    _gone = False
    _late: IDelayedCall | None = None
    begun = False
    """Whether a command has come."""

    def connectionMade(self) -> None:
        """Begin."""
        super().connectionMade()
        transport: Any = self.transport
        transport.registerProducer(self, True)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Take nothing more."""
        self._gone = True
        if self._late is not None and self._late.active():
            self._late.cancel()
        super().connectionLost(reason)

    # What may be read.

    def pauseProducing(self) -> None:
        """Read no more: what was sent is not read."""
        self._unread = True
        self._pace()

    def resumeProducing(self) -> None:
        """Go on: it was."""
        self._unread = False
        self._pace()

    def stopProducing(self) -> None:
        """Take nothing more: there is nobody to answer to."""
        self._gone = True

    def _pace(self) -> None:
        if self._gone:
            return
        transport: Any = self.transport
        if transport.disconnecting:
            # Else the transport waits for more to send before it closes.
            transport.unregisterProducer()
            return
        pause = (
            self._unread
            or self._under_way >= MAX_AT_ONCE
            or self._in_this_turn >= MAX_IN_A_TURN
        )
        if pause and not self.paused:
            super().pauseProducing()
        elif self.paused and not pause:
            super().resumeProducing()

    # What is read.

    def dataReceived(self, data: bytes) -> None:
        """Take bytes; nothing after the end."""
        if not self._gone:
            super().dataReceived(data)

    def hang_up(self, why: str) -> None:
        """
        End a connection on which something else than AMP is spoken.
        """
        _log.warn("control socket: {why}: hung up", why=why)
        self._gone = True
        self.paused = True
        transport: Any = self.transport
        transport.unregisterProducer()
        transport.loseConnection()
        # Who reads has what it was sent by then.
        self._late = transport.reactor.callLater(GRACE, transport.abortConnection)

    def lengthLimitExceeded(self, length: int) -> None:
        """Hang up: keys have at most 255 bytes."""
        self.hang_up(f"expected an AMP box, found a key of {length} bytes")

    def proto_value(self, string: bytes) -> str:
        """Take a value, if there may be so many."""
        if len(self._currentBox or ()) >= MAX_KEYS:
            self.hang_up(f"expected at most {MAX_KEYS} keys in an AMP box")
        state: str = super().proto_value(string)
        return state

    def ampBoxReceived(self, box: AmpBox) -> None:
        """Take a command; nothing else is expected."""
        if COMMAND not in box or ANSWER in box or ERROR in box:
            self.hang_up("expected an AMP box with a command")
        else:
            super().ampBoxReceived(box)

    def locateResponder(self, name: bytes) -> Any:
        """
        Return what carries out a command.

        :raises RemoteAmpError: there is none of this name.
        """
        # AMP has one of its own, which starts TLS.
        found = CommandLocator.locateResponder(self, name)
        if found is None or name == StartTLS.commandName:
            shown = ascii(name[:_SHOWN])
            raise RemoteAmpError(UNHANDLED_ERROR_CODE, f"unknown command {shown}")
        return found

    def dispatchCommand(self, box: AmpBox) -> Deferred[AmpBox]:
        """Carry a command out; with many under way the next is not read."""
        self.begun = True
        self._under_way += 1
        self._in_this_turn += 1
        if self._in_this_turn == MAX_IN_A_TURN:
            transport: Any = self.transport
            transport.reactor.callLater(0, self._next_turn)
        try:
            done: Deferred[AmpBox] = super().dispatchCommand(box)
        except RemoteAmpError:
            done = fail()
        done.addBoth(self._done)
        self._pace()
        return done

    def _next_turn(self) -> None:
        self._in_this_turn = 0
        self._pace()

    def _done(self, result: Any) -> Any:
        self._under_way -= 1
        self._pace()
        return result

    def unhandledError(self, failure: Failure) -> None:
        """Log why a command failed that wanted no answer."""
        error = failure.value
        if isinstance(error, RemoteAmpError):
            _log.info("control socket: {why}", why=error.description)
        else:
            super().unhandledError(failure)
