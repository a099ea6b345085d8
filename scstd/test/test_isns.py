# SPDX-License-Identifier: MIT
"""
Tests for iSNS: messages as bytes, and the client with the real server (open-isns).
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock, LoopingCall
from twisted.internet.testing import MemoryReactor, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from scstd.attributes import ConfigurationError
from scstd.protocols.attributes.kinds import EntityName, ISNSServer
from scstd.protocols.driver import ATTRIBUTES, ISCSIDriver
from scstd.protocols.isns import client as isns
from scstd.protocols.isns import connections
from scstd.protocols.isns.client import ISNSClient
from scstd.protocols.isns.connections import ISNSProtocol, Listener
from scstd.protocols.isns.registration import Registration
from scstd.protocols.wire.isns import (
    FIRST,
    HEADER,
    LAST,
    MAX_MESSAGE_LENGTH,
    REPLACE,
    RESPONSE,
    SCN_BITMAP,
    Function,
    ISNSError,
    ISNSStatus,
    Message,
    Messages,
    Tag,
    address,
    encode,
    string_of,
    text,
)
from scstd.test.generating import examples

TARGET = "iqn.2026-11.org.scstd:isns"


INITIATOR = "iqn.2026-11.org.scstd:initiator"


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

    def test_parts(self) -> None:
        """A part belongs to the message before it; all parts are not too long."""
        first = HEADER.pack(1, 1, 4, FIRST, 7, 0) + b"abcd"
        part = HEADER.pack(1, 1, 4, 0, 7, 1) + b"abcd"
        for bad in (
            part,
            first + HEADER.pack(1, 1, 4, LAST, 8, 1) + b"abcd",
            first + HEADER.pack(1, 2, 4, LAST, 7, 1) + b"abcd",
            first + part * (MAX_MESSAGE_LENGTH // 4),
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

    def test_not_read(self) -> None:
        """Who does not read our answers is not read from."""
        client = ISNSClient(None, "", 0, lambda _host: Registration("e", [], []))
        for protocol in (Listener(client), ISNSProtocol(client)):
            transport = StringTransport()
            protocol.makeConnection(transport)
            self.assertIs(transport.producer, transport)
            self.assertTrue(transport.streaming)

    def test_few(self) -> None:
        """Of the connections that are made to us the oldest goes when there are many."""
        client = ISNSClient(None, "", 0, lambda _host: Registration("e", [], []))
        transports = []
        for _number in range(connections.MAX_INBOUND + 1):
            transports.append(StringTransport())
            Listener(client).makeConnection(transports[-1])
        ended = [one.disconnecting for one in transports]
        self.assertEqual(ended, [True] + [False] * connections.MAX_INBOUND)

    async def asked_of(self, count: int) -> list[int]:
        """Return when somebody who is told of so many notices has asked."""
        clock, asked = Clock(), list[int]()
        client = ISNSClient(clock, "", 0, lambda _host: Registration("e", [], []))
        protocol = ISNSProtocol(client)
        protocol.makeConnection(StringTransport())
        client.registered, client._protocol = True, protocol

        async def ask(*_given: Any) -> None:
            asked.append(int(clock.seconds()))

        client._ask_initiators = ask  # type: ignore[method-assign, assignment]
        for _number in range(count):
            client.changed()
        clock.pump([0.5] * 20)
        self.assertEqual(clock.getDelayedCalls(), [])
        return asked

    def test_notices(self) -> None:
        """However many notices come, it is asked once at once, and once more."""
        for count, asked in ((1, [0]), (2, [0, 1]), (5000, [0, 1])):
            found = self.successResultOf(Deferred.fromCoroutine(self.asked_of(count)))
            self.assertEqual(found, asked)

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


class ClientTests(SynchronousTestCase):
    """
    What the client says, message by message (RFC 4171).
    """

    def setUp(self) -> None:
        """Connect a client with two targets."""
        self.clock = Clock()
        self.what = Registration(
            "e",
            [("192.0.2.1", 3260), ("192.0.2.1", 3260)],
            [(TARGET + "1", "disks"), (TARGET + "2", "")],
        )
        self.client = ISNSClient(self.clock, "", 0, lambda _host: self.what)
        self.client._listening = MemoryReactor().listenTCP(4242, Factory())
        refresh = LoopingCall(self.client.changed)
        refresh.clock = self.clock
        refresh.start(isns.QUERY_INTERVAL, now=False)
        self.client._refresh = refresh
        self.connect()

    def connect(self) -> None:
        """Connect it, anew."""
        self.transport = StringTransport(IPv4Address("TCP", "192.0.2.9", 5000))
        self.protocol = ISNSProtocol(self.client)
        self.protocol.makeConnection(self.transport)

    def next(self, status: int = 0, *attributes: tuple[int, bytes]) -> Message:
        """Return the one request that there is, and answer it."""
        (request,) = Messages().feed(self.transport.value())
        self.transport.clear()
        answer = Message(
            request.function | RESPONSE,
            request.transaction,
            list(attributes),
            status=status,
        )
        self.protocol.dataReceived(encode(answer))
        return request

    def rest(self, *functions: int) -> None:
        """See that these are asked, and then nothing."""
        self.assertEqual([self.next().function for _one in functions], [*functions])
        self.assertEqual(self.transport.value(), b"")

    QUERIES = (Function.DEV_ATTR_QRY,) * 2
    NOTICES = (Function.SCN_REG,) * 2

    def test_registration(self) -> None:
        """The source is a node, the key the entity; objects in the order of what they
        contain, each once, its keys first (sections 5.6.4 and 5.6.5.1).
        """
        request = self.next()
        self.assertEqual(request.flags & REPLACE, REPLACE)
        where = [(16, address("192.0.2.1")), (17, b"\0\0\x0c\xbc")]
        port = b"\0\0\x10\x92"
        self.assertEqual(
            request.attributes,
            [
                *((32, text(TARGET + "1")), (1, text("e")), (0, b"")),
                *((1, text("e")), (2, b"\0\0\0\2")),
                *(*where, (20, port), (23, port)),
                *((32, text(TARGET + "1")), (33, b"\0\0\0\1"), (34, text("disks"))),
                *((32, text(TARGET + "2")), (33, b"\0\0\0\1")),
            ],
        )
        self.rest(*self.NOTICES, *self.QUERIES)
        self.assertTrue(self.client.registered)

    def test_without_inquiries(self) -> None:
        """A server that has no status inquiries registers us without (section 6.3.4)."""
        self.next(ISNSStatus.ESI_NOT_AVAILABLE)
        tags = [tag for tag, _value in self.next().attributes]
        self.assertNotIn(Tag.ESI_PORT, tags)
        self.assertIn(Tag.SCN_PORT, tags)
        self.rest(*self.NOTICES, *self.QUERIES)

    def test_registration_period(self) -> None:
        """The server hears of us before the registration expires (section 6.2.6)."""
        self.next(0, (Tag.REGISTRATION_PERIOD, b"\0\0\0\x0a"))
        self.rest(*self.NOTICES, *self.QUERIES)
        for _time in range(3):
            self.clock.advance(5)
            self.rest(*self.QUERIES)
        self.client.register_again()
        self.next(0, (Tag.REGISTRATION_PERIOD, b"\0\1\0\0"))
        self.rest(*self.NOTICES, *self.QUERIES)
        self.clock.advance(isns.QUERY_INTERVAL - 1)
        self.rest()
        self.clock.advance(1)
        self.rest(*self.QUERIES)

    def test_forgotten(self) -> None:
        """Who may see a target is known until the server says so; what it does not know
        any more is registered again (sections 5.4 and 6.3.4).
        """
        self.client.access_control = True
        self.next()
        self.next()
        self.next()
        self.next(0, (Tag.ISCSI_NAME, text(INITIATOR)))
        self.next()
        self.assertTrue(self.client.allows(TARGET + "1", INITIATOR))
        for status in (
            ISNSStatus.SOURCE_UNKNOWN,
            ISNSStatus.NO_SUCH_ENTRY,
            ISNSStatus.BUSY,
        ):
            self.clock.advance(isns.QUERY_INTERVAL)
            self.next(status)
            self.assertTrue(self.transport.disconnecting)
            self.assertTrue(self.client.allows(TARGET + "1", INITIATOR))
            self.protocol.connectionLost(Failure(ConnectionDone()))
            self.connect()
            self.next()
            self.next()
            self.next()
            self.next(0, (Tag.ISCSI_NAME, text(INITIATOR)))
            self.next()
        self.clock.advance(isns.NOTICE_INTERVAL)
        self.client.changed()
        self.next()
        self.next()
        # Nobody may, says the server.
        self.assertFalse(self.client.allows(TARGET + "1", INITIATOR))

    def test_source_that_goes(self) -> None:
        """Only a node that is registered may change the entity (section 5.6.1); if the
        server knows it no more, one that comes may.
        """
        self.next()
        self.rest(*self.NOTICES, *self.QUERIES)
        for status, sources in ((0, "1"), (ISNSStatus.SOURCE_UNKNOWN, "23")):
            other = "2" if not status else "3"
            self.what = Registration("e", [], [(TARGET + other, "")])
            self.client.register_again()
            found = [self.next(one) for one in (status, 0)[-len(sources) :]]
            told = [one.attributes[0] for one in found]
            self.assertEqual(told, [(32, text(TARGET + one)) for one in sources])
            self.rest(Function.SCN_REG, Function.DEV_ATTR_QRY)

    def test_no_target(self) -> None:
        """Without a target nothing is registered, and what was is taken back."""
        self.next()
        self.rest(*self.NOTICES, *self.QUERIES)
        full, self.what = self.what, Registration("e", [("192.0.2.1", 3260)], [])
        self.client.register_again()
        request = self.next()
        self.assertEqual(request.function, Function.DEV_DEREG)
        self.assertEqual(
            request.attributes,
            [(32, text(TARGET + "1")), (0, b""), (1, text("e"))],
        )
        self.client.register_again()
        self.clock.advance(isns.QUERY_INTERVAL)
        self.rest()
        self.what = full
        self.client.register_again()
        self.rest(Function.DEV_ATTR_REG, *self.NOTICES, *self.QUERIES)

    def test_another_entity(self) -> None:
        """A new name of the entity: the old one goes first."""
        self.next()
        self.rest(*self.NOTICES, *self.QUERIES)
        self.what = Registration("f", [], [(TARGET, "")])
        self.client.register_again()
        self.assertEqual(self.next().attributes[-1], (1, text("e")))
        self.assertEqual(self.next().attributes[1], (1, text("f")))

    def test_portal_that_goes(self) -> None:
        """The server is told of a portal that is closed, too."""
        defaults = {row.name: () if row.repeats else row.default for row in ATTRIBUTES}
        driver = ISCSIDriver(self.clock, defaults)
        driver.isns = self.client
        self.next()
        self.rest(*self.NOTICES, *self.QUERIES)
        port = MemoryReactor().listenTCP(3260, Factory())
        driver.ports.append(port)
        driver.unlisten(port)
        self.rest(Function.DEV_ATTR_REG, *self.NOTICES, *self.QUERIES)

    def test_names(self) -> None:
        """An entity's name is in small letters, and never as servers make them; an
        alias is no longer than it may be (sections 6.2.1 and 6.4.3).
        """
        defaults = {row.name: () if row.repeats else row.default for row in ATTRIBUTES}
        driver = ISCSIDriver(self.clock, {**defaults, "isns_entity_name": "Host.ORG"})
        self.assertEqual(driver._registration("192.0.2.1").entity, "host.org")
        kind = EntityName()
        for wrong in ("isns:5", "iSNS:5", "x" * 256, "\xe4" * 128):
            self.assertRaises(ConfigurationError, kind.parse, wrong)
        self.assertEqual(kind.parse("Host"), "Host")
        alias = Registration("e", [], [(TARGET, "\xe4" * 200)]).attributes(1)[-1]
        self.assertEqual(alias, (Tag.ISCSI_ALIAS, ("\xe4" * 127).encode() + bytes(2)))
