# SPDX-License-Identifier: MIT
"""
Tests for handing real sockets over, and for passing TLS on (`scstd.protocols.handover`,
`scstd.protocols.adoption`, `scstd.protocols.relay`).
"""

from __future__ import annotations

import errno
import socket
import ssl as stdlib_ssl
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from OpenSSL.crypto import X509, PKey
from twisted.internet import reactor, ssl
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from scstd.initiator.commands import read10, write10
from scstd.initiator.login import LoginOptions, LoginRefused
from scstd.initiator.twisted import SessionClient
from scstd.protocols import handover
from scstd.protocols.engine import async_message
from scstd.protocols.wire.framing import Framer
from scstd.protocols.wire.login_status import LoginStatus
from scstd.test.handing import Divided
from scstd.test.initiator import INITIATOR, TARGET
from scstd.test.test_handover import NAMES, request
from scstd.test.test_tls import certificate


async def until(true: Callable[[], Any]) -> None:
    """Wait until something is true."""
    while not true():
        await deferLater(reactor, 0.005)


class Cases(TestCase):
    """
    What holds for a socket that is handed over, and one whose bytes are passed on.
    """

    timeout = 120

    def setUp(self) -> None:
        """Listen."""
        self.divided = Divided()
        self.addCleanup(self.divided.worker.doStop)
        port = self.listen()
        self.addCleanup(port.stopListening)
        self.address = ("127.0.0.1", port.getHost().port)

    def listen(self) -> Any:
        """Return a port of the front's."""
        listener: Any = reactor
        return listener.listenTCP(0, self.divided.front, interface="127.0.0.1")

    def endpoint(self) -> Any:
        """Return the way there."""
        return HostnameEndpoint(reactor, *self.address)

    def client(self, **more: Any) -> SessionClient:
        """Return an initiator."""
        options = LoginOptions(TARGET, more.pop("keys", ()))
        return SessionClient(reactor, self.endpoint(), options, name=INITIATOR, **more)

    async def ready(self, **more: Any) -> SessionClient:
        """Return one that has logged in."""
        client = await self.client(**more).connect()
        await client.execute(bytes(6))
        return client

    async def all_gone(self) -> None:
        """Wait until neither has a connection, nor counts one."""
        await until(lambda: not self.divided.worker.protocols)
        await until(lambda: not self.divided.front.protocols)
        for one in (self.divided.front, self.divided.worker):
            self.assertEqual(one.slots.taken, {})
            self.assertEqual(one.node.connections, {})

    async def test_session(self) -> None:
        """A session is in the worker, and reads there what it has written."""
        client = await self.ready()
        (session,) = self.divided.node.sessions()
        self.assertEqual(self.divided.front_node.sessions(), [])
        self.assertEqual(session.connection.portal, ":".join(map(str, self.address)))
        data = bytes(range(256)) * 512
        await client.execute(write10(0, 256), data=data)
        found = await client.execute(read10(0, 256), read=len(data))
        self.assertEqual(bytes(found.data), data)
        await client.logout()
        await self.all_gone()

    async def test_end_by_the_target(self) -> None:
        """What the worker closes is closed for the initiator."""
        client = await self.ready()
        (session,) = self.divided.node.sessions()
        async_message.drop_session(session, "by hand")
        await until(lambda: not client.protocols)
        await self.all_gone()

    async def test_end_by_the_initiator(self) -> None:
        """Who hangs up is gone in the worker."""
        client = await self.ready()
        await client.abort()
        await self.all_gone()
        self.assertEqual(self.divided.node.sessions(), [])

    async def test_two_connections(self) -> None:
        """Both connections of a session meet in the worker."""
        self.divided.node.targets[TARGET].settings.local = {
            **self.divided.node.targets[TARGET].settings.local,
            "MaxConnections": 2,
        }
        client = await self.ready(keys=[("MaxConnections", "2")])
        await client.connect()
        (session,) = self.divided.node.sessions()
        self.assertEqual(len(session.connections), 2)
        await client.logout()
        await self.all_gone()

    async def test_no_worker(self) -> None:
        """While there is no worker it is said that there will be one; then there is."""
        for error, status in (
            (ConnectionError("it was killed"), LoginStatus.SERVICE_UNAVAILABLE),
            (OSError(errno.EMFILE, "none"), LoginStatus.OUT_OF_RESOURCES),
        ):
            self.divided.refusal = error
            done = self.client().connect()
            refused: Any = await self.assertFailure(done, LoginRefused)
            self.assertEqual(refused.status, status)
        self.divided.refusal = None
        client = await self.ready()
        await client.logout()
        await self.all_gone()

    async def test_held(self) -> None:
        """A login waits for a worker that is not there, and then there is one."""
        self.divided.refusal = OSError(errno.EAGAIN, "it is not there")
        done = self.client().connect()
        await until(lambda: self.divided.door.held)
        self.divided.refusal = None
        self.divided.door.again()
        client = await done
        await client.logout()
        await self.all_gone()

    async def test_held_hangs_up(self) -> None:
        """Who hangs up while it waits is seen to be gone."""
        self.divided.refusal = OSError(errno.EAGAIN, "it is not there")
        raw = await deferToThread(self.begun)
        await until(lambda: self.divided.door.held)
        raw.close()
        await self.all_gone()
        self.assertEqual(self.divided.door.held, {})

    async def test_hung_up_meanwhile(self) -> None:
        """One that resets its connection during the handover is nobody's problem."""
        self.divided.hold = True
        raw = await deferToThread(self.begun)
        await until(lambda: self.divided.pending)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.close()
        (waiting,) = self.divided.pending
        await deferLater(reactor, 0.05)
        waiting.callback(None)
        await self.all_gone()

    def begun(self) -> Any:
        """Return a socket on which a login was sent; in a thread."""
        raw = socket.create_connection(self.address, 30)
        raw.sendall(request())
        return raw

    async def test_text_in_parts(self) -> None:
        """A login whose text comes in parts goes on in the worker."""
        answers = await deferToThread(self.in_parts)
        self.assertEqual([one.status_class for one in answers], [0, 0, 0])
        self.assertEqual([one.stat_sn for one in answers], [0, 1, 2])
        await self.all_gone()

    def in_parts(self) -> list[Any]:
        """Log in so; in a thread."""
        return self.converse(
            request(NAMES[:10], flags=0x44),
            request(NAMES[10:-3], flags=0x44),
            request(NAMES[-3:]),
        )

    def wrapped(self, raw: socket.socket) -> socket.socket:
        """Return what is to be spoken to."""
        return raw

    def converse(self, *parts: bytes) -> list[Any]:
        """Send requests, and return the answer to each."""
        framer, answers = Framer(), []
        with self.wrapped(socket.create_connection(self.address, 30)) as sock:
            for part in parts:
                sock.sendall(part)
                while (pdu := framer.next()) is None:
                    piece = sock.recv(65536)
                    assert piece, "closed"
                    framer.feed(piece)
                answers.append(pdu)
        return answers

    async def test_nothing_left(self) -> None:
        """Neither process keeps a descriptor of those that have come and gone."""
        before: int | None = None
        for number in range(40):
            client = await self.client().connect()
            await (client.abort() if number % 2 else client.logout())
            await self.all_gone()
            found = len(list(Path("/proc/self/fd").iterdir()))
            # The first may have opened what stays: a poller, a thread's.
            if number == 2:
                before = found
        self.assertEqual(found, before)

    async def test_little_room(self) -> None:
        """A worker that has no place for it closes it, and says so."""
        told: list[str] = []

        def report(name: str, /, **fields: Any) -> None:
            told.append(name)

        self.divided.node.report = report
        self.divided.node.max_connections = 0
        done = self.client().connect()
        await self.assertFailure(done, Exception)
        await self.all_gone()
        self.assertEqual(told, ["CONNECTION_REFUSED"])

    async def test_much_both_ways(self) -> None:
        """Who reads slowly is not read from, and gets every byte."""
        client = await self.ready()
        data = bytes(range(256)) * 4096
        blocks = len(data) // 512
        await client.execute(write10(0, blocks), data=data)
        (link,) = client.protocols.values()
        transport: Any = link.transport
        transport.pauseProducing()
        reads = [client.execute(read10(0, blocks), read=len(data)) for _ in range(12)]
        await deferLater(reactor, 0.2)
        transport.resumeProducing()
        for one in reads:
            self.assertEqual(bytes((await one).data), data)
        await client.logout()
        await self.all_gone()


class SocketTests(Cases):
    """
    A socket that is handed over itself.
    """

    async def test_direct(self) -> None:
        """The front has nothing left of it, and the worker has the socket itself."""
        client = await self.ready()
        await until(lambda: not self.divided.front.protocols)
        (protocol,) = self.divided.worker.protocols
        self.assertIsNotNone(protocol._direct)
        self.assertEqual(self.divided.front.slots.taken, {})
        await client.logout()
        await self.all_gone()

    async def test_login_too_long(self) -> None:
        """A worker that never answers takes nothing away from one it may have."""
        self.divided.front_node.login_timeout = 0.5
        self.divided.hold = True
        done = self.client().connect()
        await until(lambda: self.divided.pending)
        await until(lambda: not self.divided.front.protocols)
        (waiting,) = self.divided.pending
        waiting.callback(None)
        client = await done
        (protocol,) = self.divided.worker.protocols
        sock: Any = protocol._direct
        # Nor is it reset when the worker closes it, for the front has.
        lingers = sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
        self.assertEqual(lingers, bytes(8))
        await client.logout()
        await self.all_gone()


class TLSTests(Cases):
    """
    A front that keeps the keys.
    """

    def listen(self) -> Any:
        """Return a port with TLS."""
        made, key = certificate("localhost")
        options = ssl.CertificateOptions(
            privateKey=PKey.from_cryptography_key(key),
            certificate=X509.from_cryptography(made),
        )
        listener: Any = reactor
        return listener.listenSSL(0, self.divided.front, options, interface="127.0.0.1")

    def endpoint(self) -> Any:
        """Return the way there."""
        return wrapClientTLS(ssl.CertificateOptions(verify=False), super().endpoint())

    def wrapped(self, raw: socket.socket) -> socket.socket:
        """Shake hands."""
        context = stdlib_ssl.SSLContext(stdlib_ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = stdlib_ssl.CERT_NONE
        return context.wrap_socket(raw)

    def begun(self) -> Any:
        """Return a socket on which a login was sent; in a thread."""
        sock = self.wrapped(socket.create_connection(self.address, 30))
        sock.sendall(request())
        return sock

    async def test_names(self) -> None:
        """The worker is told whom the certificate is good for."""
        handed: Any
        client = await self.ready()
        (handed,) = self.divided.given
        self.assertIsNone(handed.certificate_names)
        await client.logout()
        await self.all_gone()

    async def test_bounded(self) -> None:
        """What an initiator does not read fills no memory of the front."""
        client = await self.ready()
        data = bytes(1 << 20)
        await client.execute(write10(0, 2048), data=data)
        (link,) = client.protocols.values()
        (front,) = self.divided.front.protocols
        transport: Any = link.transport
        transport.pauseProducing()
        reads = [client.execute(read10(0, 2048), read=1 << 20) for _ in range(20)]
        (worker,) = self.divided.worker.protocols
        await until(lambda: worker._producing)
        await deferLater(reactor, 0.2)
        outside: Any = front.transport
        waiting = outside.transport._tempDataLen + len(outside.transport.dataBuffer)
        self.assertLess(waiting, 1 << 20)
        transport.resumeProducing()
        for one in reads:
            await one
        await client.logout()
        await self.all_gone()

    async def test_bounded_in(self) -> None:
        """What a worker does not read fills no memory of the front, either."""
        client = await self.ready()
        (front,) = self.divided.front.protocols
        (worker,) = self.divided.worker.protocols
        worker.transport.pauseProducing()  # type: ignore[union-attr]
        (link,) = client.protocols.values()
        link.transport.write(bytes(16 << 20))  # type: ignore[union-attr]
        any_reactor: Any = reactor
        outside: Any = front.transport
        await until(lambda: outside.transport not in any_reactor.getReaders())
        inside: Any = front._relay.transport  # type: ignore[attr-defined]
        self.assertLess(inside._tempDataLen + len(inside.dataBuffer), 1 << 20)
        await client.abort()
        worker.transport.resumeProducing()  # type: ignore[union-attr]
        await self.all_gone()

    async def test_worker_killed(self) -> None:
        """A worker that is gone takes its initiators' connections with it."""
        client = await self.ready()
        (protocol,) = self.divided.worker.protocols
        protocol.transport.abortConnection()  # type: ignore[union-attr]
        await until(lambda: not client.protocols)
        await self.all_gone()

    async def test_never_reads_the_end(self) -> None:
        """One that takes no close_notify is hung up on."""
        self.patch(handover, "LONGEST", 0.5)
        sock = await deferToThread(self.begun)
        await until(self.divided.node.sessions)
        (session,) = self.divided.node.sessions()
        session.end("by hand")
        await self.all_gone()
        sock.close()


del Cases
