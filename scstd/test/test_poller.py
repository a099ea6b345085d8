# SPDX-License-Identifier: MIT
"""
The sockets of iSCSI connections in a reactor: by the epoll of their factory, or by the
reactor itself (`scstd.protocols.poller`).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any, ClassVar

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.pollreactor import PollReactor
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.commands import read10
from scstd.initiator.connection import on_the_wire
from scstd.protocols import backpressure, iscsi, iscsi_server, poller
from scstd.protocols.engine.connection import Connection
from scstd.protocols.iscsi_server import ISCSITargetFactory
from scstd.protocols.poller import Poller
from scstd.protocols.turns import Turns
from scstd.protocols.wire.codes import STATUS
from scstd.protocols.wire.framing import Framer
from scstd.protocols.wire.pdu import LoginRequest, NOPIn, NOPOut, SCSICommand
from scstd.protocols.wire.text import encode
from scstd.test.initiator import INITIATOR, TARGET, serve
from scstd.test.stores import memory

_PIECE = NOPIn(data=bytes(4096)).encode(), bytes(4096)
"""Header and data of a PDU."""

_TURNS = 20_000
"""Turns of a reactor after which what has not happened does not happen."""


class Client:
    """
    The socket of an initiator that is logged in, in the thread of the reactor.
    """

    def __init__(self, case: SocketTests, number: int) -> None:
        self.case = case
        self.framer = Framer()
        self.tag = 0
        names = [("InitiatorName", INITIATOR), ("TargetName", TARGET)]
        isid = b"\x80\0\0\0\0" + bytes((number,))
        self.socket = socket.create_connection(case.address)
        self.socket.setblocking(False)
        self.send(LoginRequest(flags=0x87, isid=isid, data=encode(names)))
        assert not self.receive().status_class

    def send(self, *pdus: Any) -> None:
        """Send PDUs in one piece."""
        data = b"".join(on_the_wire(pdu, False, False) for pdu in pdus)
        while data:
            try:
                data = data[self.socket.send(data) :]
            except BlockingIOError:
                self.case.reactor.iterate(0)

    def ping(self, data: bytes = b"ping") -> NOPOut:
        """Return an immediate NOP-Out."""
        self.tag += 1
        return NOPOut(first=0x40, itt=self.tag, data=data)

    def read(self, blocks: int) -> SCSICommand:
        """Return an immediate READ."""
        self.tag += 1
        return SCSICommand(
            first=0x41,
            flags=0xC1,
            itt=self.tag,
            expected_data_transfer_length=blocks << 9,
            cdb=read10(0, blocks).ljust(16, b"\0"),
        )

    def look(self) -> Any:
        """Return the next PDU; None if there is none yet."""
        pdu = self.framer.next()
        if pdu is None:
            try:
                data = self.socket.recv(65536)
            except BlockingIOError:
                return None
            if not data:
                raise ConnectionError("closed")
            self.framer.feed(data)
            pdu = self.framer.next()
        return pdu

    def receive(self) -> Any:
        """Return the next PDU, when it has come."""
        found: list[Any] = []

        def came() -> bool:
            found.append(self.look())
            return found[-1] is not None

        self.case.until(came)
        return found[-1]

    def is_closed(self) -> bool:
        """Whether the target has closed the connection; what comes is dropped."""
        try:
            return not self.socket.recv(65536)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True


class SocketTests(SynchronousTestCase):
    """
    Real sockets in a reactor of its own.
    """

    kind: ClassVar[Any] = EPollReactor
    polled = True
    """Whether the sockets are in an epoll of their own."""

    def setUp(self) -> None:
        """Listen."""
        self.reactor: Any = self.kind()
        self.addCleanup(self.end)
        self.node, _target, self.units = serve(memory(size=1 << 20))
        self.factory = ISCSITargetFactory(self.node, self.reactor)
        self.port = self.reactor.listenTCP(0, self.factory, interface="127.0.0.1")
        self.address = ("127.0.0.1", self.port.getHost().port)
        self.clients: list[Client] = []

    def end(self) -> None:
        """Have the reactor be at its end."""
        self.reactor.fireSystemEvent("shutdown")
        for one in self.clients:
            one.socket.close()
        self.reactor.disconnectAll()
        self.assertEqual(self.factory.protocols, {})
        if self.factory.poller is not None:
            self.assertEqual(self.factory.poller.fileno(), -1)
        for one in self.reactor._internalReaders:
            one.connectionLost(None)

    def until(self, happened: Callable[[], bool]) -> None:
        """Let the reactor turn until something has happened."""
        for _turn in range(_TURNS):
            if happened():
                return
            self.reactor.iterate(0.001)
        self.fail("it has not happened")

    def client(self) -> Client:
        """Return a new client that is logged in."""
        self.clients.append(Client(self, len(self.clients)))
        return self.clients[-1]

    def protocol(self, number: int) -> Any:
        """Return the transport of the connection that came as this one."""
        return list(self.factory.protocols)[number]

    def works(self, client: Client) -> None:
        """See that a client is answered."""
        client.send(client.ping())
        self.assertEqual(client.receive().itt, client.tag)


class AnyReactorTests(SocketTests):
    """
    What holds whoever watches the sockets.
    """

    def test_answers(self) -> None:
        """Each of several connections is answered."""
        clients = [self.client() for _one in range(3)]
        self.assertEqual(self.factory.poller is not None, self.polled)
        for turn in range(3):
            for client in clients:
                client.send(client.ping(b"%d" % turn))
            for client in clients:
                answer = client.receive()
                self.assertIsInstance(answer, NOPIn)
                self.assertEqual(answer.itt, client.tag)
                self.assertEqual(bytes(answer.data), b"%d" % turn)

    def test_closed_by_the_peer(self) -> None:
        """A peer that closes is gone, and the other stays."""
        one, other = self.client(), self.client()
        one.socket.close()
        self.until(lambda: len(self.factory.protocols) == 1)
        self.assertEqual(len(self.node.sessions()), 1)
        self.works(other)

    def test_reset_by_the_peer(self) -> None:
        """So is one that resets the connection."""
        one, other = self.client(), self.client()
        one.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        one.socket.close()
        self.until(lambda: len(self.factory.protocols) == 1)
        self.works(other)

    def test_closed_for_sending(self) -> None:
        """A peer that closes its sending half is closed on, as ever."""
        one, other = self.client(), self.client()
        one.socket.shutdown(socket.SHUT_WR)
        self.until(one.is_closed)
        self.works(other)

    def test_aborted(self) -> None:
        """A connection that is aborted while it has something receives no more."""
        one, other = self.client(), self.client()
        one.send(one.ping())
        self.protocol(0).transport.abortConnection()
        self.until(one.is_closed)
        self.assertEqual(len(self.factory.protocols), 1)
        self.works(other)

    def test_error(self) -> None:
        """What is raised for one connection is logged, and ends that one alone."""
        one, other = self.client(), self.client()
        before = Connection.receive_data
        broken = self.protocol(0).connection

        def receive(connection: Connection, chunk: bytes, now: float) -> None:
            if connection is broken:
                raise ZeroDivisionError
            before(connection, chunk, now)

        self.patch(Connection, "receive_data", receive)
        one.send(one.ping())
        other.send(other.ping())
        self.until(one.is_closed)
        self.assertEqual(other.receive().itt, other.tag)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(len(self.node.sessions()), 1)
        self.works(other)

    def test_error_at_sending(self) -> None:
        """So is what is raised when answers are sent."""
        one, other = self.client(), self.client()
        broken = self.protocol(0).connection
        before = Connection.sent

        def sent(connection: Connection) -> None:
            if connection is broken:
                raise ZeroDivisionError
            before(connection)

        self.patch(Connection, "sent", sent)
        one.send(one.ping())
        other.send(other.ping())
        self.until(one.is_closed)
        self.assertEqual(other.receive().itt, other.tag)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.works(other)

    def test_peer_that_does_not_read(self) -> None:
        """
        A peer that takes nothing is not read from after a while, and its neighbour is
        answered; when it takes its answers, all come.
        """
        self.patch(backpressure, "_BACKLOG_LIMIT", 1 << 20)
        deaf, good = self.client(), self.client()
        deaf.send(deaf.read(1))
        deaf.receive()
        protocol = self.protocol(0)
        asked = 0
        while not protocol.connection.paused:
            deaf.send(*[deaf.ping(b"x" * 8000) for _number in range(16)])
            asked += 16
            self.works(good)
        self.assertGreater(protocol._backlog_bytes, 1 << 20)
        # What is more is not received.
        deaf.send(deaf.ping(b"x" * 8000))
        asked += 1
        self.works(good)
        self.assertTrue(protocol.connection.paused)
        for number in range(asked):
            self.assertEqual(deaf.receive().itt, number + 2)
        self.until(lambda: not protocol.connection.paused)
        self.works(deaf)

    def test_close_with_unread_data(self) -> None:
        """The last answer comes whole, though there is data that nobody reads."""
        one = self.client()
        # The target's MaxRecvDataSegmentLength is not so long: the connection ends.
        one.send(one.ping())
        with contextlib.suppress(OSError):
            one.socket.send(b"\0\0\0\0\0\xff\xff\xff" + bytes(300_000))
        self.assertEqual(one.receive().itt, one.tag)
        self.until(one.is_closed)
        one.socket.close()
        self.until(lambda: not self.factory.protocols)

    def test_turns(self) -> None:
        """Who asks for much at once leaves its neighbours their turns."""
        self.patch(backpressure, "_TURN", 100_000)
        greedy, good = self.client(), self.client()
        greedy.send(*[greedy.ping(b"x" * 8000) for _number in range(100)])
        good.send(good.ping())
        self.assertEqual(good.receive().itt, good.tag)
        self.assertIsNotNone(greedy.look())
        for number in range(1, 100):
            self.assertEqual(greedy.receive().itt, number + 1)


class PollReactorTests(AnyReactorTests):
    """
    The same in the reactor of poll(2).
    """

    kind = PollReactor


class SelectReactorTests(AnyReactorTests):
    """
    The same in the reactor of select(2).
    """

    kind = SelectReactor


def _asyncio_reactor() -> AsyncioSelectorReactor:
    return AsyncioSelectorReactor(asyncio.new_event_loop())


class AsyncioReactorTests(AnyReactorTests):
    """
    The same in the reactor of asyncio.
    """

    kind = staticmethod(_asyncio_reactor)


class UnpolledTests(AnyReactorTests):
    """
    The same where there is no epoll.
    """

    polled = False

    def setUp(self) -> None:
        """Listen."""
        self.patch(poller, "_IN", 0)
        super().setUp()


class PollerTests(SocketTests):
    """
    The epoll of a factory.
    """

    def test_one_descriptor(self) -> None:
        """The reactor has one descriptor for all connections, and none without any."""
        before = set(self.reactor.getReaders())
        clients = [self.client() for _one in range(3)]
        found: Any = self.factory.poller
        self.assertEqual(set(self.reactor.getReaders()) - before, {found})
        self.assertEqual(self.reactor.getWriters(), [])
        for client in clients:
            client.socket.close()
        self.until(lambda: not self.factory.protocols)
        self.assertEqual(set(self.reactor.getReaders()), before)
        self.assertEqual(found.fileno(), -1)
        self.works(self.client())

    def test_together(self) -> None:
        """What was received in one turn is answered at its end."""
        clients = [self.client() for _one in range(3)]
        for client in clients:
            client.send(client.ping())
        order: list[str] = []
        before = Connection.receive_data
        send = iscsi.ISCSITargetProtocol._flush

        def receive(connection: Connection, chunk: bytes, now: float) -> None:
            order.append("received")
            before(connection, chunk, now)

        def flush(protocol: iscsi.ISCSITargetProtocol) -> None:
            order.append("sent")
            send(protocol)

        self.patch(Connection, "receive_data", receive)
        self.patch(iscsi.ISCSITargetProtocol, "_flush", flush)
        for client in clients:
            self.assertEqual(client.receive().itt, client.tag)
        self.assertEqual(order, ["received"] * 3 + ["sent"] * 3)

    def test_slow_ones(self) -> None:
        """
        Who has much to say comes last in a turn, and who was not reached is first in
        the next: one in a turn, when each takes longer than all may.
        """
        self.patch(poller, "BUDGET", -1.0)
        self.patch(poller, "_ALONE", True)
        clients = [self.client() for _one in range(4)]
        names = dict(zip(self.factory.protocols, "abcd", strict=True))
        found: Any = self.factory.poller
        turns: list[str] = []
        turn, receive = Poller._turn, iscsi.ISCSITargetProtocol.receive

        def turned(one: Poller, events: list[tuple[int, int]]) -> None:
            turns.append("")
            turn(one, events)

        def received(one: iscsi.ISCSITargetProtocol, now: float) -> Exception | None:
            turns[-1] += names[one]
            return receive(one, now)

        self.patch(Poller, "_turn", turned)
        self.patch(iscsi.ISCSITargetProtocol, "receive", received)
        # All have much to say once, which makes them slow; the last one has not.
        for client in clients:
            # What it is told first: the unit attention.
            client.send(client.read(1))
            client.receive()
        for client in clients:
            client.send(client.read(1 if client is clients[3] else 128))
        for client in clients:
            while not client.receive().flags & STATUS:
                pass
        self.assertEqual(len(found.slow), 3)
        turns.clear()
        for client in clients:
            client.send(client.ping())
        for client in clients:
            self.assertEqual(client.receive().itt, client.tag)
        self.assertEqual([one for one in turns if one], ["da", "b", "c"])
        # They have been quick since.
        self.assertEqual(len(found.slow), 1)

    def test_much_at_once(self) -> None:
        """What is woken with much to say goes on in turns, and all of it comes."""
        self.patch(iscsi_server, "BUDGET", -1.0)
        one, other = self.client(), self.client()
        for number in range(2):
            connection = self.protocol(number).connection
            for _one in range(40):
                connection.send(*_PIECE)
            connection.wake()
        self.assertEqual(self.factory.turns.waiting, {})
        self.factory.flush()
        self.assertEqual(len(self.factory.turns.waiting), 2)
        for client in (one, other):
            for _one in range(40):
                self.assertIsInstance(client.receive(), NOPIn)
        self.assertEqual(self.factory.turns.waiting, {})

    def test_adopted(self) -> None:
        """A socket that another process has accepted is one of them."""
        before = set(self.reactor.getReaders())
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.address = server.getsockname()
            ours = socket.create_connection(self.address)
            theirs, _peer = server.accept()
            theirs.setblocking(False)
            self.reactor.adoptStreamConnection(
                theirs.fileno(), socket.AF_INET, self.factory
            )
            theirs.close()
        self.addCleanup(ours.close)
        self.assertEqual(set(self.reactor.getReaders()) - before, {self.factory.poller})

    def test_clock(self) -> None:
        """There is none without a reactor that has descriptors."""
        self.assertIsNone(Poller.of(Clock(), lambda: None, Turns(Clock())))
