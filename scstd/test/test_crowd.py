# SPDX-License-Identifier: MIT
"""
Who gives way when all places are taken: `scstd.crowd`, and `scstd.protocols.connection_slots`.
"""

from __future__ import annotations

import resource
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from scstd.crowd import neighbourhood, who_gives_way
from scstd.initiator.connection import on_the_wire
from scstd.protocols.connection_slots import ConnectionSlots, max_descriptors
from scstd.protocols.iscsi_server import ISCSITargetFactory
from scstd.protocols.wire.framing import Framer
from scstd.protocols.wire.pdu import LoginRequest, LoginResponse
from scstd.protocols.wire.text import encode
from scstd.test.initiator import INITIATOR, TARGET, serve
from scstd.test.stores import memory

NAMES = encode([("InitiatorName", INITIATOR), ("TargetName", TARGET)])


class WhoTests(SynchronousTestCase):
    """
    The choice.
    """

    def choice(self, *there: str) -> str | None:
        """
        Return who of these goes: a letter for the address, a number, and ``!`` for one
        that has said something.
        """
        return who_gives_way(there, lambda one: one[0], lambda one: "!" not in one)

    def test_oldest_silent_of_most(self) -> None:
        """Of those that say nothing, the oldest of the address with most places."""
        self.assertEqual(self.choice("a1", "b1", "b2", "a2!", "b3"), "b1")
        self.assertEqual(self.choice("a1!", "a2!", "a3!", "b1"), "b1")
        self.assertEqual(self.choice("a1", "b1"), "a1")

    def test_all_have_spoken(self) -> None:
        """Of those that have all said something, the oldest of that address."""
        self.assertEqual(self.choice("a1!", "b1!", "b2!"), "b1!")

    def test_all_equal(self) -> None:
        """Of those that are one an address and have said something, nobody."""
        self.assertIsNone(self.choice("a1!", "b1!", "c1!"))
        self.assertIsNone(self.choice())

    def test_neighbourhood(self) -> None:
        """64 bits of IPv6 are one address, one of IPv4 is, and a mapped one is that."""
        self.assertEqual(
            neighbourhood("2001:db8::1"), neighbourhood("2001:db8:0:0:ffff::2")
        )
        self.assertNotEqual(
            neighbourhood("2001:db8::1"), neighbourhood("2001:db8:0:1::1")
        )
        self.assertEqual(neighbourhood("::ffff:192.0.2.1"), "192.0.2.1")
        self.assertEqual(neighbourhood("fe80::1%eth0"), neighbourhood("fe80::2"))
        self.assertEqual(neighbourhood("somewhere"), "somewhere")


class Reader(StringTransport):
    """
    A transport whose peer reads all at once.
    """

    def registerProducer(  # noqa: N802 - Twisted's name
        self, producer: Any, streaming: bool
    ) -> None:
        """Ask until there is nothing left."""
        super().registerProducer(producer, streaming)
        while self.producer is not None:
            producer.resumeProducing()


class PlacesTests(SynchronousTestCase):
    """
    The places of a node.
    """

    def setUp(self) -> None:
        """Have four places for logins, and ten for all."""
        self.clock = Clock()
        self.node, _target, _units = serve(memory())
        self.node.max_logins = 4
        self.node.max_connections = 10
        self.factory = ISCSITargetFactory(self.node, self.clock)

    def connect(self, host: str = "192.0.2.1") -> Any:
        """Return the transport of a new connection; None if it is not taken."""
        peer = IPv4Address("TCP", host, 9)
        protocol: Any = self.factory.buildProtocol(peer)
        if protocol is None:
            return None
        transport: Any = Reader(peerAddress=peer)
        transport.protocol = protocol
        protocol.makeConnection(transport)
        return transport

    def say(self, transport: Any, isid: int, flags: int = 0x87) -> LoginResponse:
        """Send a login request; return the answer."""
        request = LoginRequest(
            flags=flags, isid=b"\x80\0\0\0\0" + bytes((isid,)), data=NAMES
        )
        transport.clear()
        transport.protocol.dataReceived(on_the_wire(request, False, False))
        framer = Framer()
        framer.feed(transport.value())
        answer = framer.next()
        assert isinstance(answer, LoginResponse)
        return answer

    def test_one_silent_peer(self) -> None:
        """However many silent connections there are, who speaks at once gets in."""
        silent = [self.connect() for _one in range(50)]
        for isid, host in enumerate(("192.0.2.1", "192.0.2.2")):
            self.assertEqual(self.say(self.connect(host), isid).status_class, 0)
        self.assertTrue(all(one.disconnected for one in silent[:46]))

    def test_byte_by_byte(self) -> None:
        """A beginning of a first PDU is nothing said."""
        slow = [self.connect() for _one in range(4)]
        for one in slow:
            one.protocol.dataReceived(b"\x43" * 40)
        self.assertEqual(self.say(self.connect("192.0.2.2"), 1).status_class, 0)

    def test_logins_that_do_not_end(self) -> None:
        """Of logins that are begun and go on for ever the oldest is told to go."""
        slow = [self.connect() for _one in range(4)]
        for isid, one in enumerate(slow):
            self.say(one, isid, flags=0x04)
            one.clear()
        good = self.connect("192.0.2.2")
        self.assertEqual(self.say(good, 9).status_class, 0)
        framer = Framer()
        framer.feed(slow[0].value())
        answer = framer.next()
        assert isinstance(answer, LoginResponse)
        self.assertEqual((answer.status_class, answer.status_detail), (3, 2))
        self.assertTrue(slow[0].disconnecting)
        self.assertFalse(slow[1].disconnecting)

    def test_all_different(self) -> None:
        """With one begun login an address, the newcomer is told to come later."""
        for number in range(4):
            self.say(self.connect(f"192.0.2.{number}"), number, flags=0x04)
        answer = self.say(self.connect("192.0.2.9"), 9)
        self.assertEqual((answer.status_class, answer.status_detail), (3, 2))

    def test_sessions_stay(self) -> None:
        """Sessions do not give way; logins give way to them."""
        for isid in range(9):
            self.say(self.connect(), isid)
        login = self.connect()
        last = self.connect("192.0.2.2")
        self.assertTrue(login.disconnected)
        self.assertEqual(self.say(last, 9).status_class, 0)
        self.assertEqual(len(self.node.sessions()), 10)
        self.assertIsNone(self.connect("192.0.2.3"))

    def test_closing_ones_go_first(self) -> None:
        """A connection that is over, but not read, gives way first."""
        for isid in range(9):
            one = self.connect()
            self.say(one, isid)
        one.protocol.connection.fail("a reason")
        self.clock.advance(0)
        self.assertTrue(one.disconnecting)
        self.assertIsNotNone(self.connect())
        self.assertIsNotNone(self.connect())
        self.assertTrue(one.disconnected)

    def test_share(self) -> None:
        """One address has no more than three quarters of many places."""
        self.node.max_connections = 64
        for isid in range(48):
            self.say(self.connect(), isid)
        self.assertIsNone(self.connect())
        self.assertIsNotNone(self.connect("192.0.2.2"))

    def test_share_of_silent_ones(self) -> None:
        """Within its share an address's own silent connections give way."""
        self.node.max_connections = self.node.max_logins = 64
        for _one in range(60):
            self.assertIsNotNone(self.connect())
        self.assertEqual(len(self.factory.slots.taken), 48)
        self.assertEqual(self.say(self.connect(), 1).status_class, 0)

    def test_share_comes_back(self) -> None:
        """What has gone counts no more."""
        self.node.max_connections = 64
        every = []
        for isid in range(48):
            every.append(self.connect())
            self.say(every[-1], isid)
        every[7].protocol.connectionLost()
        self.assertIsNotNone(self.connect())
        every[8].protocol.connectionLost()
        self.assertEqual(sum(self.factory.slots.counts.values()), 47)

    def test_descriptors(self) -> None:
        """The last descriptors are not for connections."""
        self.patch(resource, "getrlimit", lambda _which: (1024, 4096))
        self.assertEqual(max_descriptors(), 992)
        self.patch(resource, "getrlimit", lambda _which: (40, 40))
        self.assertEqual(max_descriptors(), 30)
        self.patch(resource, "getrlimit", lambda _which: (-1, -1))
        self.assertGreater(max_descriptors(), 1 << 20)

        class Handle:
            """A socket's end of a transport."""

            def getHandle(self) -> Any:  # noqa: N802 - Twisted's name
                """Return it."""
                return self

            def fileno(self) -> int:
                """Return its number."""
                return 30

        self.assertFalse(ConnectionSlots(descriptors=30).has_descriptors(Handle()))
        self.assertTrue(ConnectionSlots(descriptors=31).has_descriptors(Handle()))

    def test_descriptors_stay_free(self) -> None:
        """However numbers are used again, there are no more connections than fitted."""
        self.node.max_connections = self.node.max_logins = 1000
        found = self.factory.slots
        found.descriptors = 30
        numbers: list[int] = [*range(10, 32), *([11, 12, 13] * 10)]

        class Numbered(Reader):
            """A transport with a descriptor."""

            def getHandle(self) -> Any:  # noqa: N802 - Twisted's name
                """Return it."""
                return self

            def fileno(self) -> int:
                """Return its number."""
                number: int = numbers.pop(0)
                return number

        peer = IPv4Address("TCP", "192.0.2.1", 9)
        while numbers:
            protocol: Any = self.factory.buildProtocol(peer)
            protocol.makeConnection(Numbered(peerAddress=peer))
        self.assertEqual(len(found.taken), 20)
        taken: list[Any] = list(found.taken)
        for one in taken[:10]:
            one.connectionLost()
        numbers.append(12)
        protocol = self.factory.buildProtocol(peer)
        protocol.makeConnection(Numbered(peerAddress=peer))
        self.assertEqual(len(found.taken), 11)
