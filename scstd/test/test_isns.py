# SPDX-License-Identifier: MIT
"""
Tests for iSNS: messages as bytes, and the client with the real server (open-isns).
"""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from scstd.attributes import ConfigurationError
from scstd.protocols import isns
from scstd.protocols.isns import ISNSClient, ISNSProtocol, Listener, Registration
from scstd.protocols.settings import ISNSServer
from scstd.protocols.wire.isns import (
    RESPONSE,
    SCN_BITMAP,
    Function,
    ISNSError,
    Message,
    Messages,
    Tag,
    address,
    encode,
    string_of,
    text,
)
from scstd.test.clients import find, need
from scstd.test.generating import examples
from scstd.test.serving import Server
from scstd.test.test_real_initiators import call

TARGET = "iqn.2026-11.org.scstd:isns"
INITIATOR = "iqn.2026-11.org.scstd:initiator"

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


class MessageTests(SynchronousTestCase):
    """
    Bytes.
    """

    @examples()
    @given(
        st.lists(
            st.tuples(st.integers(0, 3000), st.binary(max_size=40000)), max_size=5
        ),
        st.one_of(st.none(), st.integers(0, 30)),
        st.integers(1, 5000),
    )
    def test_round(
        self, attributes: list[tuple[int, bytes]], status: int | None, step: int
    ) -> None:
        """A message of any length comes out as it went in, in any pieces."""
        padded = [(tag, value + bytes(-len(value) % 4)) for tag, value in attributes]
        function = 1 if status is None else 1 | RESPONSE
        data = encode(Message(function, 77, padded, status=status)) * 2
        messages = Messages()
        found = [
            one
            for at in range(0, len(data), step)
            for one in messages.feed(data[at : at + step])
        ]
        self.assertEqual([one.attributes for one in found], [padded] * 2)
        self.assertEqual([one.status for one in found], [status] * 2)

    def test_malformed(self) -> None:
        """What is no iSNS is refused."""
        good = encode(Message(1, 1, [(32, b"abcd")]))
        for bad in (
            b"\0\2" + good[2:],
            good[:-4].replace(b"\0\x0c", b"\0\x08", 1),
            good[:16] + b"\0\0\0\x44" + good[20:],
            encode(Message(1 | RESPONSE, 1, [])),
        ):
            self.assertRaises(ISNSError, lambda data: list(Messages().feed(data)), bad)

    def test_values(self) -> None:
        """Strings end with a NUL and are padded; IPv4 is mapped to IPv6."""
        self.assertEqual(text("abc"), b"abc\0")
        self.assertEqual(text("abcd"), b"abcd\0\0\0\0")
        self.assertEqual(string_of(text("name")), "name")
        self.assertEqual(address("192.0.2.1")[10:], b"\xff\xff\xc0\0\2\1")
        self.assertEqual(address("::1"), bytes(15) + b"\1")

    def test_settings(self) -> None:
        """An address, a port, access control."""
        kind = ISNSServer()
        for words, value in (
            ("192.0.2.1", ("192.0.2.1", 3205, False)),
            ("192.0.2.1:99 AccessControl", ("192.0.2.1", 99, True)),
            ("[2001:db8::1]:99", ("2001:db8::1", 99, False)),
            ("", None),
        ):
            self.assertEqual(kind.parse(words), value)
            self.assertEqual(kind.parse(kind.render(value)), value)
        self.assertRaises(ConfigurationError, kind.parse, "a b c")


class ListenerTests(SynchronousTestCase):
    """
    What the server asks.
    """

    def test_inquiry(self) -> None:
        """A status inquiry and a notice are answered; a notice has us ask again."""
        client = ISNSClient(None, "", 0, lambda _host: Registration("e", [], []))
        asked: list[int] = []
        client.changed = lambda: asked.append(1)  # type: ignore[method-assign]
        attributes = [
            (Tag.ENTITY_IDENTIFIER, text("e")),
            (Tag.PORTAL_TCP_UDP_PORT, b"\0\0\x0c\xbc"),
        ]
        # On its connection, or on ours.
        for protocol in (Listener(client), ISNSProtocol(client)):
            transport = StringTransport()
            protocol.makeConnection(transport)
            asked.clear()
            for function, count, told in ((Function.ESI, 0, 2), (Function.SCN, 1, 1)):
                transport.clear()
                protocol.dataReceived(encode(Message(function, 5, list(attributes))))
                (answer,) = Messages().feed(transport.value())
                self.assertEqual(answer.function, function | RESPONSE)
                self.assertEqual((answer.transaction, answer.status), (5, 0))
                self.assertEqual(answer.attributes, attributes[:told])
                self.assertEqual(len(asked), count)
            protocol.dataReceived(b"GET / HTTP/1.0\r\n\r\n")
            self.assertTrue(transport.disconnecting)

    def test_notices_of_a_storage_node(self) -> None:
        """We ask for no notices that are for nodes that manage (section 6.4.4)."""
        self.assertEqual(SCN_BITMAP & (0x20 | 0x02 | 0x01), 0)
        self.assertEqual(SCN_BITMAP, 0x9C)

    def test_nobody_yet(self) -> None:
        """With access control nobody is let in before the server has said who."""
        client = ISNSClient(None, "", 0, lambda _host: Registration("e", [], []))
        self.assertTrue(client.allows(TARGET, INITIATOR))
        client.access_control = True
        self.assertFalse(client.allows(TARGET, INITIATOR))


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

    async def test_stopped(self) -> None:
        """The client can stop while the server lets it wait."""
        self.patch(isns, "LEAVING", 0.05)
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
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
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
        self.addCleanup(process.wait, 10)
        self.addCleanup(process.kill)

    def adm(self, *words: str) -> str:
        """Return what isnsadm says; nothing while the server is not there."""
        program = find("isnsadm")
        assert program is not None
        done = subprocess.run(
            [program, "-c", str(self.directory / "isnsadm.conf"), *words],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        return done.stdout + done.stderr

    def until(self, true: Callable[[], bool]) -> None:
        """Ask until it is so."""
        end = time.monotonic() + 30
        while not true():
            self.assertLess(time.monotonic(), end)

    def registered(self) -> bool:
        """Say whether the server lists our target."""
        return TARGET in self.adm("--local", "--list", "nodes")

    def sees(self, server: Server) -> bool:
        """Say whether the initiator gets in."""
        try:
            call("iscsi-inq", "-i", INITIATOR, server.url, timeout=20)
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
            self.isnsd.wait(10)
            (self.directory / "db").rename(self.directory / "old")
            self.assertTrue(self.sees(server))
            self.start()
            self.until(self.registered)
        self.assertFalse(self.registered())
        self.assertNotIn("Traceback", server.log())
