# SPDX-License-Identifier: MIT
"""
Connections that are over close, whatever their peers do (`scstd.protocols.closing`).
"""

from __future__ import annotations

import socket
import ssl as stdlib_ssl
import threading
from typing import Any

from OpenSSL.crypto import X509, PKey
from twisted.internet import reactor, ssl
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from scstd.initiator.connection import on_the_wire
from scstd.management.control.amp_server import GRACE as BOXES_GRACE
from scstd.management.control.amp_server import Boxes
from scstd.protocols import closing
from scstd.protocols.closing import GRACE, LINGER, LONGEST, Closing
from scstd.protocols.iscsi_server import ISCSITargetFactory
from scstd.protocols.wire.framing import Framer
from scstd.protocols.wire.pdu import LoginRequest, LoginResponse, NOPOut
from scstd.protocols.wire.text import encode
from scstd.test.initiator import INITIATOR, TARGET, serve
from scstd.test.stores import memory
from scstd.test.test_tls import certificate

NAMES = encode([("InitiatorName", INITIATOR), ("TargetName", TARGET)])


class Transport(StringTransport):
    """
    A transport that closes when its peer lets it, and says what was asked of it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def loseConnection(self) -> None:  # noqa: N802 - Twisted's name
        """Close when all is sent."""
        self.asked.append("close")

    def loseWriteConnection(self) -> None:  # noqa: N802 - Twisted's name
        """Close for sending when all is sent."""
        self.asked.append("half")

    def abortConnection(self) -> None:  # noqa: N802 - Twisted's name
        """Close."""
        self.asked.append("abort")

    def resumeProducing(self) -> None:
        """Read."""


class ClosingTests(SynchronousTestCase):
    """
    One close after the other.
    """

    def close(self, *, linger: bool = False) -> tuple[Closing, list[str]]:
        """Begin to close at time 100."""
        transport = Transport()
        closing = Closing(transport, 100.0)
        closing.start(linger=linger)
        return closing, transport.asked

    def test_peer_that_reads(self) -> None:
        """One whose peer takes what there is has its time."""
        closing, asked = self.close()
        for second in range(1, int(LONGEST)):
            closing.look(100.0 + second, 100.0 + second - 1)
        self.assertEqual(asked, ["close"])
        closing.look(100.0 + LONGEST, 100.0 + LONGEST - 1)
        self.assertEqual(asked, ["close", "abort"])

    def test_not_begun(self) -> None:
        """One whose peer takes nothing is aborted before it could be closed."""
        transport = Transport()
        closing = Closing(transport, 100.0)
        closing.look(100.0 + GRACE, 99.0)
        self.assertEqual(transport.asked, ["abort"])

    def test_peer_that_stops(self) -> None:
        """One whose peer takes nothing is aborted."""
        closing, asked = self.close()
        closing.look(99.9 + GRACE, 100.0)
        self.assertEqual(asked, ["close"])
        closing.look(100.0 + GRACE, 100.0)
        self.assertEqual(asked, ["close", "abort"])

    def test_peer_that_had_stopped(self) -> None:
        """One whose peer has taken nothing for long has a second more."""
        closing, asked = self.close()
        closing.look(100.5, 10.0)
        self.assertEqual(asked, ["close"])
        closing.look(101.0, 10.0)
        self.assertEqual(asked, ["close", "abort"])

    def test_no_close_notify(self) -> None:
        """One that is only waited for by its peer's silence is aborted."""
        closing, asked = self.close()
        closing.look(99.9 + GRACE, None)
        closing.look(100.0 + GRACE, None)
        self.assertEqual(asked, ["close", "abort"])

    def test_lingering(self) -> None:
        """One whose peer may be sending is closed for sending first."""
        closing, asked = self.close(linger=True)
        closing.look(99.9 + LINGER, None)
        self.assertEqual(asked, ["half"])
        closing.look(100.0 + LINGER, None)
        self.assertEqual(asked, ["half", "close"])
        closing.look(100.0 + GRACE, None)
        self.assertEqual(asked, ["half", "close", "abort"])


class Stuck(StringTransport):
    """
    A transport whose peer reads nothing: it never asks for more than the first piece.
    """

    aborting = False

    def registerProducer(  # noqa: N802 - Twisted's name
        self, producer: Any, streaming: bool
    ) -> None:
        """Ask once."""
        super().registerProducer(producer, streaming)
        if not streaming:
            producer.resumeProducing()

    def loseConnection(self) -> None:  # noqa: N802 - Twisted's name
        """Wait for what is to be sent."""
        self.disconnecting = True

    def abortConnection(self) -> None:  # noqa: N802 - Twisted's name
        """End."""
        self.aborting = True


class UnreadTests(SynchronousTestCase):
    """
    Peers in memory that read nothing.
    """

    def setUp(self) -> None:
        """Serve a disk."""
        self.clock = Clock()
        node, _target, _units = serve(memory())
        node.login_timeout = 3.0
        self.factory = ISCSITargetFactory(node, self.clock)
        self.factory.startFactory()
        self.addCleanup(self.factory.stopFactory)
        self.transport = Stuck()
        self.protocol: Any = self.factory.buildProtocol(self.transport.getPeer())
        self.protocol.makeConnection(self.transport)

    def pass_time(self, seconds: float) -> None:
        """Let time go by, second by second."""
        self.clock.pump([0.5] * int(seconds * 2))

    def log_in(self, flags: int) -> None:
        """Send a login request."""
        request = LoginRequest(flags=flags, isid=b"\x80\0\0\0\0\1", data=NAMES)
        self.protocol.dataReceived(on_the_wire(request, False, False))

    def test_login_that_takes_too_long(self) -> None:
        """A login's time-out ends the connection, though its answer is not read."""
        self.log_in(0x04)
        self.pass_time(2.5)
        self.assertFalse(self.protocol.connection.over)
        self.pass_time(GRACE + 3)
        self.assertTrue(self.transport.aborting)

    def test_refused(self) -> None:
        """So does a refusal that is not read."""
        self.log_in(0x86)
        self.assertTrue(self.protocol.connection.over)
        self.assertFalse(self.transport.aborting)
        self.pass_time(GRACE + 1)
        self.assertTrue(self.transport.aborting)

    def test_session(self) -> None:
        """So does the time-out of a session, which is gone from the target by then."""
        self.log_in(0x87)
        self.assertEqual(len(self.factory.node.sessions()), 1)
        self.pass_time(92)
        self.assertEqual(self.factory.node.sessions(), [])
        self.pass_time(GRACE)
        self.assertTrue(self.transport.aborting)

    def test_memory(self) -> None:
        """Nothing of what was not read is kept after the end."""
        self.log_in(0x87)
        ping = NOPOut(first=0x40, itt=1, cmd_sn=0, data=b"p" * 8000)
        for _number in range(10):
            self.protocol.dataReceived(on_the_wire(ping, False, False))
        self.assertGreater(self.protocol._backlog_bytes, 70000)
        self.protocol.connectionLost()
        self.assertEqual(self.protocol._backlog_bytes, 0)
        self.assertFalse(self.protocol._backlog)
        self.assertEqual(self.protocol.connection.output, [])
        self.assertEqual(self.factory.protocols, {})


class BoxesTests(SynchronousTestCase):
    """
    The control socket.
    """

    def test_hung_up_on(self) -> None:
        """A client that is hung up on, and takes nothing, is gone all the same."""
        transport: Any = Stuck()
        transport.reactor = clock = Clock()
        boxes = Boxes()
        boxes.makeConnection(transport)
        boxes.dataReceived(b"\xff\xff no box")
        self.assertTrue(transport.disconnecting)
        clock.advance(BOXES_GRACE - 0.1)
        self.assertFalse(transport.aborting)
        clock.advance(0.2)
        self.assertTrue(transport.aborting)
        boxes.connectionLost()

    def test_gone_in_time(self) -> None:
        """One that goes by itself leaves nothing behind."""
        transport: Any = Stuck()
        transport.reactor = clock = Clock()
        boxes = Boxes()
        boxes.makeConnection(transport)
        boxes.hang_up("a reason")
        boxes.connectionLost()
        self.assertEqual(clock.getDelayedCalls(), [])


class SocketTests(TestCase):
    """
    Real sockets.
    """

    timeout = 60

    def setUp(self) -> None:
        """Listen."""
        node, _target, _units = serve(memory())
        self.factory = ISCSITargetFactory(node, reactor)
        listener: Any = reactor
        port: Any = listener.listenTCP(0, self.factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.address = ("127.0.0.1", port.getHost().port)

    async def gone(self) -> None:
        """Wait until there is no connection left."""
        while self.factory.protocols:
            await deferLater(reactor, 0.01)

    def converse(self, junk: int, stay: threading.Event | None = None) -> bytes:
        """
        Log in wrongly with much behind it that nobody will read; return the answer, and
        close; not before *stay* is set.
        """
        request = LoginRequest(flags=0x86, isid=b"\x80\0\0\0\0\1", data=NAMES)
        found = b""
        with socket.create_connection(self.address, 30) as sock:
            sock.sendall(on_the_wire(request, False, False) + b"\x03" * junk)
            while True:
                piece = sock.recv(65536)
                if not piece:
                    break
                found += piece
            if stay is not None:
                stay.wait(30)
            return found

    async def test_last_answer(self) -> None:
        """A peer that sends more than is read gets the last answer whole."""
        for junk in (0, 100, 300_000):
            data = await deferToThread(self.converse, junk)
            framer = Framer()
            framer.feed(data)
            answer = framer.next()
            assert isinstance(answer, LoginResponse)
            self.assertEqual(answer.status_class, 2)
            await self.gone()

    async def test_peer_that_stays(self) -> None:
        """A peer that does not close is closed on."""
        stay = threading.Event()
        conversing = deferToThread(self.converse, 300_000, stay)
        while not self.factory.protocols:
            await deferLater(reactor, 0.01)
        await self.gone()
        stay.set()
        self.assertTrue(await conversing)


class TLSTests(TestCase):
    """
    Real sockets with TLS.
    """

    timeout = 60

    def setUp(self) -> None:
        """Listen."""
        self.patch(closing, "GRACE", 1.0)
        node, _target, _units = serve(memory())
        node.login_timeout = 1.0
        self.factory = ISCSITargetFactory(node, reactor)
        made, key = certificate("localhost")
        options = ssl.CertificateOptions(
            privateKey=PKey.from_cryptography_key(key),
            certificate=X509.from_cryptography(made),
        )
        listener: Any = reactor
        port: Any = listener.listenSSL(0, self.factory, options, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.address = ("127.0.0.1", port.getHost().port)

    def end_of(self, sock: socket.socket) -> bytes:
        """Return what comes on a socket until it is closed."""
        sock.settimeout(30)
        found = b""
        try:
            while True:
                piece = sock.recv(65536)
                if not piece:
                    return found
                found += piece
        except ConnectionResetError:
            return found

    def refused(self) -> int:
        """
        Log in wrongly, and never say close_notify; return how much comes before the end.
        """
        context = stdlib_ssl.SSLContext(stdlib_ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = stdlib_ssl.CERT_NONE
        request = LoginRequest(flags=0x86, isid=b"\x80\0\0\0\0\1", data=NAMES)
        raw = socket.create_connection(self.address, 30)
        with context.wrap_socket(raw, suppress_ragged_eofs=True) as wrapped:
            wrapped.sendall(on_the_wire(request, False, False))
            answer = wrapped.recv(65536)
            with socket.socket(fileno=wrapped.detach()) as bare:
                # What comes now is the server's close_notify, which is not answered.
                self.end_of(bare)
        return len(answer)

    def silent(self) -> bytes:
        """Begin no handshake at all; return what comes before the end."""
        with socket.create_connection(self.address, 30) as sock:
            return self.end_of(sock)

    async def gone(self) -> None:
        """Wait until there is no connection left."""
        while self.factory.protocols:
            await deferLater(reactor, 0.01)

    async def test_no_close_notify(self) -> None:
        """A peer that gets its answer and never says close_notify is hung up on."""
        self.assertEqual(await deferToThread(self.refused), 48)
        await self.gone()

    async def test_no_handshake(self) -> None:
        """A peer that never shakes hands is hung up on when its login is overdue."""
        self.assertEqual(await deferToThread(self.silent), b"")
        await self.gone()
