# SPDX-License-Identifier: MIT
"""
iSCSI on Twisted: the transport of one connection, and nothing of the protocol.

All that is received in one read is worked through by the sans-IO `Connection`, and all
of its output goes out in one system call (`backpressure`).

Answers that come later (a slow read, a write that a thread made) wake the connection:
all that come in one turn of the reactor go out together at its end.

The socket of a connection without TLS is watched by the factory's poller, where there
is one (`scstd.protocols.poller`): then what is received comes by `receive`, and what
there is to answer goes out at the end of the turn, unless it is much.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet import tcp, unix
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from scstd.drivers.addresses import address_name
from scstd.protocols.backpressure import BackPressure
from scstd.protocols.closing import Closing, unread
from scstd.protocols.engine.connection import Connection
from scstd.protocols.engine.outlet import OUTPUT_BATCH
from scstd.protocols.tls import names_of

if TYPE_CHECKING:
    from scstd.protocols.connection_slots import ConnectionSlots
    from scstd.protocols.engine.node import Node
    from scstd.protocols.poller import Poller
    from scstd.protocols.turns import Turns
    from scstd.protocols.wire.login_status import LoginError

_log = Logger()

_USUAL = 65536
"""Bytes received at once."""

_LARGE = 262144
"""
The same from an initiator that fills that, while it does: the memory for it costs as
much as a few commands.
"""


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
    turns: Turns
    """Those that have more to do than they may at once."""
    poller: Poller | None
    """Who watches their sockets, if it is not the reactor itself."""

    def flush(self) -> None:
        """
        Send the answers of every connection that was woken.
        """


class ISCSITargetProtocol(BackPressure):
    """
    One connection's transport.
    """

    _receive_size = _USUAL

    def __init__(self, factory: Server) -> None:
        self.factory: Server = factory
        super().__init__(factory.reactor, factory.turns)

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
        elif self._direct is not None and self.factory.poller is not None:
            self.factory.poller.take(self)

    def receive(self, now: float) -> Exception | None:
        """
        Receive what there is, at time *now*, and work through it; what there is to
        answer is sent at the end of the turn, unless it is much or nobody else has
        anything.  Return why the connection is lost, if it is.
        """
        sock = self._direct
        if sock is None:
            found: Exception | None = self.transport.doRead()  # type: ignore[union-attr]
            return found
        size = self._receive_size
        try:
            data = sock.recv(size)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        length = len(data)
        if not length:
            return CONNECTION_DONE
        if length == size:
            self._receive_size = _LARGE
        elif length <= _USUAL:
            self._receive_size = _USUAL
        connection = self.connection
        connection.receive_data(data, now)
        if connection.output or connection.over:
            factory = self.factory
            poller = factory.poller
            if poller is None or poller.turning == 1:
                self.flush()
            elif connection.output_bytes >= OUTPUT_BATCH:
                poller.slow[sock.fileno()] = None
                self.flush()
            else:
                factory.woken[self] = None
        return None

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
        self.connection.receive_data(data, self._seconds())
        if self.connection.output:
            self._flush()
        if self.connection.over:
            self._close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002
        """Let the session go."""
        self.connected = 0
        self.factory.protocols.pop(self, None)
        self.factory.woken.pop(self, None)
        self.factory.turns.leave(self)
        self.factory.slots.leave(self)
        if self.factory.poller is not None:
            self.factory.poller.leave(self)
        self._direct = None
        self.stopProducing()
        self.connection.disconnected()
        self.connection.forget_output()
        if self.connection.why:
            _log.debug(
                "{peer}: {why}", peer=self.connection.peer, why=self.connection.why
            )

    # Output.

    def _wake(self) -> None:
        """
        Have the output sent at the end of this turn of the reactor.
        """
        factory = self.factory
        poller = factory.poller
        if not factory.woken and (poller is None or not poller.turning):
            factory.reactor.callLater(0, factory.flush)
        factory.woken[self] = None

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
