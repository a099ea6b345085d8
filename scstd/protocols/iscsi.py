# SPDX-License-Identifier: MIT
"""
iSCSI on Twisted: the transport of one connection, and nothing of the protocol.

All that is received in one read is worked through by the sans-IO `Connection`, and all
of its output goes out in one system call (`backpressure`).

Answers that come later (a slow read, a write that a thread made) wake the connection:
all that come in one turn of the reactor go out together at its end.

An initiator that waits for each answer sends its next command within microseconds;
going to sleep and being woken costs more than that.  So a connection on which commands
come one by one looks for the next for a moment before the reactor is asked
(`_busy_poll`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet import tcp, unix
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from scstd.drivers.addresses import address_name
from scstd.protocols.backpressure import BackPressure
from scstd.protocols.closing import Closing, unread
from scstd.protocols.engine.connection import Connection
from scstd.protocols.tls import names_of

if TYPE_CHECKING:
    from scstd.protocols.connection_slots import ConnectionSlots
    from scstd.protocols.engine.node import Node
    from scstd.protocols.wire.login_status import LoginError

_log = Logger()

_LARGE_READ = 262144
"""Bytes read at once from an initiator that fills the usual 64 KiB."""

_BUSY_POLL = 50e-6
"""Seconds for which a connection looks for the next command."""

_BUSY_POLL_TURNS = 32
"""Commands found so in a row before others get their turn."""

_MAX_SKIPPED = 64
"""Turns without a look after looks that found nothing."""

_ALONE = len(os.sched_getaffinity(0)) == 1
"""With one processor to run on, looking keeps the initiator from running."""


_DIRECT = (tcp.Server, unix.Server)
"""The transports whose sockets take the bytes as they are."""


class Server(Protocol):
    """
    What the transports of one node share (`scstd.protocols.iscsi_server`).
    """

    node: Node
    reactor: Any
    slots: ConnectionSlots
    protocols: dict[ISCSITargetProtocol, None]
    """All of them, in the order in which they came."""
    woken: dict[ISCSITargetProtocol, None]
    """Those that have something to send at the end of this turn of the reactor."""
    last_active: ISCSITargetProtocol | None
    """Who received last."""

    def flush(self) -> None:
        """
        Send the answers of every connection that was woken.
        """


class ISCSITargetProtocol(BackPressure):
    """
    One connection's transport.
    """

    _skip = 0
    """Turns left without such a look."""
    _skipped = 0
    """How many they were last time."""

    def __init__(self, factory: Server) -> None:
        self.factory: Server = factory
        super().__init__(factory.reactor)

    def connectionMade(self) -> None:
        """Start a connection."""
        transport: Any = self.transport
        if type(transport) in _DIRECT:
            self._direct = transport.getHandle()
        if type(transport) is tcp.Server:
            transport.setTcpNoDelay(True)
        peer, portal, names = self.ends()
        slots, node = self.factory.slots, self.factory.node
        room = slots.has_descriptors(transport)
        self.connection = Connection(
            node,
            self._wake,
            self._seconds(),
            peer=peer,
            portal=portal,
            certificate_names=names,
            over_login_limit=not slots.has_room_for_login(node.max_logins),
            elsewhere=self.elsewhere,
        )
        self.factory.protocols[self] = None
        slots.take(self, peer)
        if not room:
            self.connection.fail("no descriptors are left")
            transport.abortConnection()

    def ends(self) -> tuple[str, str, Callable[[], frozenset[str] | None]]:
        """
        Return where the initiator is, and where it has come to, as ``host:port``; and
        what returns the names its certificate is good for.
        """
        transport: Any = self.transport
        return (
            address_name(transport.getPeer()),
            address_name(transport.getHost()),
            partial(names_of, transport),
        )

    def elsewhere(self) -> LoginError | None:
        """
        Return why it can be in no session here (`Connection.elsewhere`).
        """
        return None

    def dataReceived(self, data: bytes) -> None:
        """Work through everything received, then send every answer at once."""
        connection = self.connection
        session = connection.session
        before = session.commands if session is not None else 0
        connection.receive_data(data, self._seconds())
        if connection.output:
            self._flush()
        if connection.over:
            self._close()
            return
        if len(data) == 65536:
            self.transport.bufferSize = _LARGE_READ  # type: ignore[union-attr]
        factory = self.factory
        if factory.last_active is not self:
            factory.last_active = self
        elif self._skip:
            self._skip -= 1
        elif (
            session is not None
            and session.commands == before + 1
            and self._direct is not None
            and not _ALONE
        ):
            self._busy_poll()

    def _idle(self) -> bool:
        """
        Whether nothing is under way here but the initiator's next command.
        """
        connection = self.connection
        session = connection.session
        return (
            session is not None
            and not session.tasks
            and not self._producing
            and not connection.paused
            and not self.factory.woken
        )

    def _busy_poll(self) -> None:
        """
        Look for further commands, for a moment each; the fewer the longer none came.
        """
        connection, sock = self.connection, self._direct
        size = self.transport.bufferSize  # type: ignore[union-attr]
        for _turn in range(_BUSY_POLL_TURNS):
            if not self._idle():
                return
            until = perf_counter() + _BUSY_POLL
            data = b""
            while not data:
                try:
                    data = sock.recv(size)
                except BlockingIOError:
                    if perf_counter() < until:
                        continue
                    self._skip = self._skipped = min(
                        2 * self._skipped + 1, _MAX_SKIPPED
                    )
                    return
                except OSError:
                    # The transport will find the same, and say so.
                    return
                if not data:
                    return
            self._skipped = 0
            connection.receive_data(data, self._seconds())
            if connection.output:
                self._flush()
            if connection.over:
                self._close()
                return

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002
        """Let the session go."""
        self.factory.protocols.pop(self, None)
        self.factory.slots.leave(self)
        if self.factory.last_active is self:
            self.factory.last_active = None
        self._direct = None
        self.stopProducing()
        self.connection.disconnected()
        self.connection.output.clear()
        if self.connection.why:
            _log.debug(
                "{peer}: {why}", peer=self.connection.peer, why=self.connection.why
            )

    # Output.

    def _wake(self) -> None:
        """
        Have the output sent at the end of this turn of the reactor.
        """
        woken = self.factory.woken
        if not woken:
            self.factory.reactor.callLater(0, self.factory.flush)
        woken[self] = None

    def flush(self) -> None:
        """
        Send what answers there are, and close if that was the end.
        """
        if not self.connected:
            return
        if self.connection.output:
            self._flush()
        else:
            self.connection.sent()
        if self.connection.over:
            self._close()

    def _close(self) -> None:
        if self._closing is not None:
            return
        self.factory.slots.ends(self)
        self._closing = Closing(self.transport, self._seconds())
        self.connection.unpause()
        if self._producing:
            # When all is sent; and nothing is read until then.
            self.transport.pauseProducing()  # type: ignore[union-attr]
        else:
            self._start_closing()

    def _start_closing(self) -> None:
        assert self._closing is not None
        linger = self._direct is not None and (
            bool(self.connection.framer.buffered) or unread(self.transport)
        )
        self._closing.start(linger=linger)

    def give_way(self) -> None:
        """
        Be gone at once, for others: they wait for the place.
        """
        if not self.connection.over:
            self.connection.login_phase.give_way()
            if self.connection.output:
                self._flush()
                if not self._producing:
                    # All of it is on its way: nothing is waited for.
                    self._close()
                    return
        self.transport.abortConnection()  # type: ignore[union-attr]

    def tick(self, now: float) -> None:
        """
        Look at what is to happen by a time; to be called every second or so.
        """
        connection = self.connection
        if self._closing is not None:
            self._closing.look(now, connection.blocked_since)
        else:
            connection.tick(now)
