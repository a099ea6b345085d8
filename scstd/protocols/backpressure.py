# SPDX-License-Identifier: MIT
"""
Output to a socket, and back-pressure: an initiator that does not read its answers is
not read from.

All of the output of a connection goes out in one system call.  While nothing is waiting
in the transport's buffer, that call is made at once on the socket (`sendmsg`, without
joining the pieces); what the socket does not take goes the usual way, through the
transport.  A write that must wait costs a turn of the reactor and two changes of what
it watches: at a queue depth of one that is half of the time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from twisted.internet.interfaces import IPullProducer
from twisted.internet.protocol import Protocol
from zope.interface import implementer

from scstd.interfaces import Buffer
from scstd.protocols.closing import Closing
from scstd.protocols.engine.connection import Connection
from scstd.protocols.engine.read_budget import READ_BUDGET
from scstd.protocols.turns import Turns

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

_TURN = 2 << 20
"""
Bytes of answers to what was received at once after which it is others' turn: a few
requests may have answers without end, if they are read as fast as we write.
"""

_PIECE_COST = 2048
"""What making and sending a piece of the output costs, as bytes of `_TURN`."""

_IOV_MAX = 512
"""Pieces in one `sendmsg` (POSIX promises 16, Linux and the BSDs take 1024)."""


@implementer(IPullProducer)
class BackPressure(Protocol):
    """
    The sending half of one connection's transport.
    """

    connection: Connection
    _direct: Any = None
    """The socket, while it may be written to directly."""
    _backlog: deque[Buffer]
    _backlog_bytes: int = 0
    _producing = False
    _registering = False
    _closing: Closing | None = None

    def __init__(self, reactor: Any, turns: Turns) -> None:
        self._turns = turns
        self._seconds: Callable[[], float] = reactor.seconds
        self._backlog = deque()

    def _start_closing(self) -> None:
        """
        Close: everything is sent.
        """
        raise NotImplementedError

    def flush(self) -> None:
        """
        Send what answers there are.
        """
        raise NotImplementedError

    def _flush(self) -> None:
        connection = self.connection
        room = _TURN
        while True:
            stalled = connection.stalled
            size = connection.output_bytes
            output = connection.take_output()
            room -= size - connection.output_bytes + _PIECE_COST * len(output)
            if self._producing or self._direct is None:
                # The transport has bytes that must go first.
                self._append(output)
            else:
                self._send(output)
            connection.sent()
            if connection.over:
                # There is no other time.
                if connection.output:
                    continue
                return
            if self._backlog_bytes >= self._max_backlog():
                self._pause()
                return
            if connection.paused or not (stalled or connection.output):
                return
            if room < 0:
                # It is others' turn.
                self._pause()
                self._turns.wait(self)
                return
            connection.pump()
            if not connection.output:
                return

    def go_on(self) -> None:
        """
        Go on with what was received, after others have had their turn.
        """
        if self.connected and not self.connection.paused:
            self.flush()
        elif self.connected and not self._producing:
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
            if self._direct is None or self._turns.waiting:
                self._turns.wait(self)
            else:
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
        self.connection.forget_output()
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
