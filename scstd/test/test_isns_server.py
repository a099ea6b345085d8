# SPDX-License-Identifier: MIT
"""
Tests for `scstd.protocols.isns` with servers: one that will not, and a real one.
"""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from scstd.protocols.isns import client as isns
from scstd.protocols.isns.client import ISNSClient
from scstd.protocols.isns.registration import Registration
from scstd.protocols.wire.isns import (
    RESPONSE,
    Function,
    Message,
    Messages,
    encode,
)
from scstd.test.clients import find, need
from scstd.test.serving import PATIENCE, Server, free_port
from scstd.test.test_isns import INITIATOR, TARGET
from scstd.test.test_real_initiators import call

CONFIGURATION = """\
HANDLER memory {{
    DEVICE d {{
        size 8M
    }}
}}
TARGET_DRIVER iscsi {{
    enabled 1
    iSNSServer "127.0.0.1:{port} AccessControl"
    TARGET {target} {{
        enabled 1
        LUN 0 d
    }}
}}
"""


class FakeServer(Protocol):
    """
    An iSNS server that does the next of what it was told for each connection: "drop"
    it at the first request, "refuse" that, "hold" it without an answer, or be "good".
    """

    def __init__(self, case: UnwillingTests) -> None:
        self.case = case
        self.kind = case.kinds.pop(0)
        self.messages = Messages()

    def dataReceived(self, data: bytes) -> None:
        """Take requests."""
        if self.transport not in self.case.servers:
            self.case.servers.append(self.transport)
        for message in self.messages.feed(data):
            if self.kind == "drop":
                self.transport.loseConnection()  # type: ignore[union-attr]
                continue
            if self.kind != "hold":
                answer = Message(
                    message.function | RESPONSE,
                    message.transaction,
                    [],
                    status=9 if self.kind == "refuse" else 0,
                )
                self.transport.write(encode(answer))  # type: ignore[union-attr]
            self.case.asked(message.function)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Count those that are over."""
        self.case.over += 1


class UnwillingTests(TestCase):
    """
    Servers that take a connection and do not register us.
    """

    timeout = 60

    async def client(self, *kinds: str) -> ISNSClient:
        """Start a client and a server that does these for its connections."""
        self.kinds = list(kinds)
        self.over = 0
        self.servers: list[Any] = []
        self.heard: list[int] = []
        self.wanted: tuple[int, Deferred[None]] = (0, Deferred())
        factory: Any = Factory.forProtocol(lambda: FakeServer(self))
        port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.pauses: list[int] = []

        def pause(failures: int) -> float:
            self.pauses.append(failures)
            return 0.0

        told = Registration("e", [("127.0.0.1", 3260)], [(TARGET, "")])
        client = ISNSClient(
            reactor, "127.0.0.1", port.getHost().port, lambda _host: told, pause=pause
        )
        await client.start()
        return client

    def asked(self, function: int) -> None:
        """Hear of a request."""
        self.heard.append(function)
        if self.wanted[0] == function and not self.wanted[1].called:
            self.wanted[1].callback(None)

    async def until(self, function: int) -> None:
        """Wait until this is asked."""
        if function not in self.heard:
            self.wanted = (function, Deferred())
            await self.wanted[1]

    async def test_again(self) -> None:
        """It is tried again, with longer and longer pauses, and what failed is closed."""
        client = await self.client("drop", "refuse", "drop", "refuse", "good")
        await self.until(Function.DEV_ATTR_QRY)
        self.assertEqual((self.pauses, self.over), ([1, 2, 3, 4], 4))
        await client.stop()
        self.assertIn(Function.DEV_DEREG, self.heard)

    async def test_stopped_unread(self) -> None:
        """The client can stop while the server reads nothing, not even the end."""
        self.patch(isns, "DEREGISTRATION_TIMEOUT", 0.05)
        client = await self.client("hold")
        await self.until(Function.DEV_ATTR_REG)
        assert client._protocol is not None
        assert client._listening is not None
        where: Any = client._listening.getHost()
        with socket.create_connection(("127.0.0.1", where.port)) as silent:
            while not client.listeners:
                await deferLater(reactor, 0)
            self.servers[0].pauseProducing()
            client._protocol.transport.write(bytes(16 << 20))  # type: ignore[union-attr]
            await client.stop()
            while client.listeners:
                await deferLater(reactor, 0)
            silent.settimeout(PATIENCE)
            self.assertRaises(ConnectionResetError, silent.recv, 1)
        self.servers[0].abortConnection()
        while not self.over:
            await deferLater(reactor, 0)

    async def test_stopped(self) -> None:
        """The client can stop while the server lets it wait."""
        self.patch(isns, "DEREGISTRATION_TIMEOUT", 0.05)
        client = await self.client("hold")
        await self.until(Function.DEV_ATTR_REG)
        await client.stop()
        self.assertEqual(self.heard, [Function.DEV_ATTR_REG, Function.DEV_DEREG])


class RealServerTests(TestCase):
    """
    With isnsd.
    """

    timeout = 120

    def setUp(self) -> None:
        """Write the configuration of all three programs."""
        need("isnsd", "isnsadm", "iscsi-inq")
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.port = free_port()
        # The path of a socket may not be long.
        short = tempfile.TemporaryDirectory()
        self.addCleanup(short.cleanup)
        control = f"{short.name}/control"
        common = f"ControlSocket = {control}\nSecurity = 0\n"
        (self.directory / "isnsd.conf").write_text(
            f"{common}SourceName = iqn.2026-11.org.scstd:isnsd\n"
            f"Database = {self.directory}/db\nPIDFile = {self.directory}/pid\n"
            f"BindAddress = 127.0.0.1:{self.port}\nSLPRegister = 0\n"
            "DefaultDiscoveryDomain = 1\n"
        )
        (self.directory / "isnsadm.conf").write_text(
            f"{common}SourceName = {INITIATOR}\nServerAddress = 127.0.0.1:{self.port}\n"
        )
        (self.directory / "scst.conf").write_text(
            CONFIGURATION.format(port=self.port, target=TARGET)
        )
        self.start()

    def start(self) -> None:
        """Start isnsd."""
        program = find("isnsd")
        assert program is not None
        process = subprocess.Popen(
            [program, "-f", "-c", str(self.directory / "isnsd.conf")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.isnsd = process
        self.addCleanup(process.wait, PATIENCE)
        self.addCleanup(process.kill)

    def adm(self, *words: str) -> str:
        """Return what isnsadm says; nothing while the server is not there."""
        program = find("isnsadm")
        assert program is not None
        done = subprocess.run(
            [program, "-c", str(self.directory / "isnsadm.conf"), *words],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return done.stdout + done.stderr

    def until(self, true: Callable[[], bool]) -> None:
        """Ask until it is so."""
        end = time.monotonic() + PATIENCE
        while not true():
            self.assertLess(time.monotonic(), end)

    def registered(self) -> bool:
        """Say whether the server lists our target."""
        return TARGET in self.adm("--local", "--list", "nodes")

    def sees(self, server: Server) -> bool:
        """Say whether the initiator gets in."""
        try:
            call("iscsi-inq", "-i", INITIATOR, server.url, timeout=PATIENCE)
        except AssertionError:
            return False
        return True

    def test_access_control(self) -> None:
        """Registered, seen by those of its domains alone; again after the server died."""
        with Server("--config", "scst.conf", directory=str(self.directory)) as server:
            self.until(self.registered)
            self.assertIn(
                server.portal.partition(":")[2],
                self.adm("--local", "--list", "portals"),
            )
            self.assertFalse(self.sees(server))
            self.assertIn("Success", self.adm("--register", "initiator"))
            self.until(lambda: self.sees(server))
            self.isnsd.kill()
            self.isnsd.wait(PATIENCE)
            (self.directory / "db").rename(self.directory / "old")
            self.assertTrue(self.sees(server))
            self.start()
            self.until(self.registered)
        self.assertFalse(self.registered())
        self.assertNotIn("Traceback", server.log())
