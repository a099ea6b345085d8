# SPDX-License-Identifier: MIT
"""
iSCSI on Twisted: transports, timers and back-pressure, and nothing of the protocol.

All that is received in one read is worked through by the sans-IO `Connection`, and all
of its output goes out in one system call.  While nothing is waiting in the transport's
buffer, that call is made at once on the socket (`sendmsg`, without joining the pieces);
what the socket does not take goes the usual way, through the transport.  A write that
must wait costs a turn of the reactor and two changes of what it watches: at a queue
depth of one that is half of the time.

Answers that come later (a slow read, a write that a thread made) wake the connection:
all that come in one turn of the reactor go out together at its end.

An initiator that waits for each answer sends its next command within microseconds;
going to sleep and being woken costs more than that.  So a connection on which commands
come one by one looks for the next for a moment before the reactor is asked (`_linger`).

Back-pressure: an initiator that does not read its answers is not read from.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from time import perf_counter
from typing import Any

import attrs
from twisted.internet import tcp
from twisted.internet.interfaces import IAddress, IPullProducer, IReactorTime
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from scstd.drivers.addresses import address_name
from scstd.interfaces import Buffer
from scstd.protocols.closing import Closing, unread
from scstd.protocols.connection_slots import Places
from scstd.protocols.engine.connection import Connection
from scstd.protocols.engine.node import Node
from scstd.protocols.engine.phase import Phase
from scstd.protocols.engine.read_budget import READ_BUDGET
from scstd.protocols.tls import names_of

_log = Logger()

_PIECE = 4096
"""
How much is handed to the transport when the socket is full: little, for the transport
copies it; what it is good for is that the transport says when there is room again.
"""

_BACKLOG_LIMIT = READ_BUDGET + (4 << 20)
"""
Bytes of unsent output after which an initiator is not read from: its reads wait before
it is, and while they do other things go on.
"""

_BACKLOG_LIMIT_AT_WORST = 64 << 10
"""
The same of one that has no session, and of all when they have as much as they may
together.
"""

_TURN = 4 << 20
"""
Bytes of answers to what was received at once after which it is others' turn: a few
requests may have answers without end, if they are read as fast as we write.
"""

_IOV_MAX = 512
"""Pieces in one `sendmsg` (POSIX promises 16, Linux and the BSDs take 1024)."""

_LARGE_READ = 262144
"""Bytes read at once from an initiator that fills the usual 64 KiB."""

_LINGER = 50e-6
"""Seconds for which a connection looks for the next command."""

_LINGER_TURNS = 32
"""Commands found so in a row before others get their turn."""

_MOST_SKIPPED = 64
"""Turns without a look after looks that found nothing."""

_ALONE = len(os.sched_getaffinity(0)) == 1
"""With one processor to run on, looking keeps the initiator from running."""


@implementer(IPullProducer)
class ISCSITargetProtocol(Protocol):
    """
    One connection's transport.
    """

    connection: Connection
    _direct: Any = None
    """The socket, while it may be written to directly."""
    _backlog: deque[Buffer]
    _backlog_bytes: int = 0
    _producing = False
    _registering = False
    _closing: Closing | None = None
    _skip = 0
    """Turns left without lingering."""
    _skipped = 0
    """How many they were last time."""

    def __init__(self, factory: ISCSITargetFactory) -> None:
        self.factory: ISCSITargetFactory = factory
        self._seconds: Callable[[], float] = factory.reactor.seconds
        self._backlog = deque()

    def connectionMade(self) -> None:
        """Start a connection."""
        transport: Any = self.transport
        if type(transport) is tcp.Server:
            self._direct = transport.getHandle()
            transport.setTcpNoDelay(True)
        peer = address_name(transport.getPeer())
        places, node = self.factory.places, self.factory.node
        room = places.has_descriptors(transport)
        self.connection = Connection(
            node,
            self._wake,
            self._seconds(),
            peer=peer,
            portal=address_name(transport.getHost()),
            certificate_names=partial(names_of, transport),
            over_login_limit=not places.has_room_for_login(node.max_logins),
        )
        self.factory.protocols[self] = None
        places.take(self, peer)
        if not room:
            self.connection.fail("no descriptors are left")
            transport.abortConnection()

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
        if factory.lively is not self:
            factory.lively = self
        elif self._skip:
            self._skip -= 1
        elif (
            session is not None
            and session.commands == before + 1
            and self._direct is not None
            and not _ALONE
        ):
            self._linger()

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
            and not self.factory.dirty
        )

    def _linger(self) -> None:
        """
        Look for further commands, for a moment each; the fewer the longer none came.
        """
        connection, sock = self.connection, self._direct
        size = self.transport.bufferSize  # type: ignore[union-attr]
        for _turn in range(_LINGER_TURNS):
            if not self._idle():
                return
            until = perf_counter() + _LINGER
            data = b""
            while not data:
                try:
                    data = sock.recv(size)
                except BlockingIOError:
                    if perf_counter() < until:
                        continue
                    self._skip = self._skipped = min(
                        2 * self._skipped + 1, _MOST_SKIPPED
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
        self.factory.places.leave(self)
        if self.factory.lively is self:
            self.factory.lively = None
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
        dirty = self.factory.dirty
        if not dirty:
            self.factory.reactor.callLater(0, self.factory.flush)
        dirty[self] = None

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

    def _flush(self) -> None:
        connection = self.connection
        room = _TURN
        while True:
            stalled = connection.stalled
            room -= connection.output_bytes
            output = connection.take_output()
            if self._producing or self._direct is None:
                # The transport has bytes that must go first.
                self._append(output)
            else:
                self._send(output)
            connection.sent()
            if self._backlog_bytes >= self._max_backlog():
                self._pause()
                return
            if not stalled or connection.paused:
                return
            if room < 0:
                # It is others' turn.
                self._pause()
                self.factory.reactor.callLater(0, self._go_on)
                return
            connection.pump()
            if not connection.output:
                return

    def _go_on(self) -> None:
        """
        Go on with what was received, after others have had their turn.
        """
        if self.connected and self.connection.paused and not self._producing:
            self._resume()

    def _max_backlog(self) -> int:
        """
        Return after how many bytes of unsent output the initiator is not read from.
        """
        connection = self.connection
        if connection.session is None or connection.node.unsent.exhausted:
            return _BACKLOG_LIMIT_AT_WORST
        return _BACKLOG_LIMIT

    def _send(self, output: Sequence[Buffer]) -> None:
        """
        Send directly; what the socket does not take becomes the backlog.
        """
        sock = self._direct
        at = 0
        while at < len(output):
            pieces = output[at : at + _IOV_MAX]
            try:
                sent = sock.sendmsg(pieces)
            except BlockingIOError:
                sent = 0
            except OSError:
                # The transport will find the same, and say that the connection is lost.
                self._direct = None
                self._append(output[at:])
                return
            for one in pieces:
                size = len(one)
                if sent < size:
                    rest = memoryview(one)[sent:] if sent else one
                    self._append([rest, *output[at + 1 :]])
                    return
                sent -= size
                at += 1

    def _send_backlog(self) -> None:
        """
        Send directly as much as the socket takes of the backlog.
        """
        backlog, sock = self._backlog, self._direct
        while backlog:
            try:
                sent = sock.sendmsg(list(islice(backlog, _IOV_MAX)))
            except BlockingIOError:
                return
            except OSError:
                # As above.
                self._direct = None
                return
            self._backlog_bytes -= sent
            while backlog and sent >= len(backlog[0]):
                sent -= len(backlog.popleft())
            if sent:
                backlog[0] = memoryview(backlog[0])[sent:]
                return

    def _append(self, output: Sequence[Buffer]) -> None:
        """
        Put pieces behind the backlog, and see that the transport asks for them.
        """
        self._backlog.extend(output)
        self._backlog_bytes += sum(map(len, output))
        connection = self.connection
        connection.hold_back(self._backlog_bytes)
        if connection.blocked_since is None:
            connection.note_blocked(self._seconds())
        if not self._producing:
            self._producing = True
            # The transport calls resumeProducing now and whenever its buffer is empty.
            self._registering = True
            self.transport.registerProducer(self, False)  # type: ignore[union-attr]
            self._registering = False

    def resumeProducing(self) -> None:
        """The transport's buffer is empty."""
        connection = self.connection
        connection.note_blocked(self._seconds())
        # While registering the socket is known to be full.
        if self._direct is not None and not self._registering:
            self._send_backlog()
        if self._backlog:
            self._hand_over()
            connection.hold_back(self._backlog_bytes)
            connection.sent()
            return
        self._producing = False
        connection.note_blocked(None)
        self.transport.unregisterProducer()  # type: ignore[union-attr]
        connection.hold_back(0)
        connection.sent()
        if self._closing is not None:
            self._start_closing()
        elif connection.paused:
            self._resume()

    def _hand_over(self) -> None:
        """
        Give the transport a piece of the backlog to send when the socket can.
        """
        size = 0
        taken: list[Buffer] = []
        backlog = self._backlog
        while backlog and size < _PIECE:
            piece = backlog.popleft()
            room = _PIECE - size
            if len(piece) > room:
                view = memoryview(piece)
                backlog.appendleft(view[room:])
                piece = view[:room]
            taken.append(piece)
            size += len(piece)
        self._backlog_bytes -= size
        self.transport.write(b"".join(taken))  # type: ignore[union-attr]

    def stopProducing(self) -> None:
        """The transport is gone."""
        self._backlog.clear()
        self._backlog_bytes = 0
        self.connection.hold_back(0)

    def _pause(self) -> None:
        self.connection.pause()
        self.transport.pauseProducing()  # type: ignore[union-attr]

    def _resume(self) -> None:
        connection = self.connection
        connection.unpause()
        self.transport.resumeProducing()  # type: ignore[union-attr]
        connection.pump()
        self.flush()

    def _close(self) -> None:
        if self._closing is not None:
            return
        self.factory.places.ends(self)
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


@attrs.define(eq=False, slots=False)
class ISCSITargetFactory(ServerFactory):
    """
    Makes a connection of one node for each initiator that connects.
    """

    node: Node
    reactor: IReactorTime | Any
    protocols: dict[ISCSITargetProtocol, None] = attrs.field(factory=dict, init=False)
    dirty: dict[ISCSITargetProtocol, None] = attrs.field(factory=dict, init=False)
    places: Places = attrs.field(factory=Places, init=False)
    noisy = False
    lively: ISCSITargetProtocol | None = attrs.field(default=None, init=False)
    """Who received last."""
    _ticks: LoopingCall | None = attrs.field(default=None, init=False)

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
        if not self.places.has_room(host, self.node.max_connections):
            self.node.report(
                "CONNECTION_REFUSED",
                peer=address_name(addr),
                reason="too many connections",
            )
            return None
        return ISCSITargetProtocol(self)

    def flush(self) -> None:
        """
        Send the answers of every connection that was woken.
        """
        dirty, self.dirty = self.dirty, {}
        for protocol in dirty:
            protocol.flush()

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
