# SPDX-License-Identifier: MIT
"""
Tests for what a front decides of a connection, byte by byte
(`scstd.protocols.handover`).
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.connection import on_the_wire
from scstd.protocols import handover
from scstd.protocols.adoption import Adopted, Handed
from scstd.protocols.handover import Door
from scstd.protocols.iscsi_server import ISCSITargetFactory
from scstd.protocols.wire.codes import CONTINUE
from scstd.protocols.wire.framing import Framer
from scstd.protocols.wire.login_status import LoginStatus
from scstd.protocols.wire.pdu import LoginRequest, LoginResponse, NOPOut
from scstd.protocols.wire.text import encode
from scstd.test.initiator import INITIATOR, TARGET, serve
from scstd.test.stores import memory

NAMES = encode([("InitiatorName", INITIATOR), ("TargetName", TARGET)])


def request(data: bytes = NAMES, **fields: Any) -> bytes:
    """Return a Login Request that asks for all in one step."""
    made = LoginRequest(isid=b"\x80\0\0\0\0\1", itt=7, data=data)
    made.flags = fields.pop("flags", 0x87)
    for name, value in fields.items():
        setattr(made, name, value)
    return on_the_wire(made, False, False)


class FakeRelay:
    """
    Stands for a pair of sockets.
    """

    def __init__(self, outside: Any, over: Callable[[bool], None]) -> None:
        self.over = over
        self.done: list[Any] = []

    def begin(self) -> None:
        """Note it."""
        self.done.append("begin")

    def write(self, data: bytes) -> None:
        """Note it."""
        self.done.append(data)

    def end(self, *, clean: bool) -> None:
        """Note it."""
        self.done.append(clean)

    def drop(self) -> None:
        """Note it."""
        self.done.append("drop")


class DecidingTests(SynchronousTestCase):
    """
    Who is handed over, with which bytes, and who is answered here.
    """

    def setUp(self) -> None:
        """Have a front whose worker answers when it is told to."""
        self.clock = Clock()
        self.node, self.target, _units = serve(memory())
        self.given: list[tuple[str, Handed]] = []
        self.answer: Deferred[None] = Deferred()
        self.relays: list[FakeRelay] = []
        self.failure: Exception | None = None

        def pair(
            _reactor: Any, outside: Any, over: Callable[[bool], None]
        ) -> tuple[Any, socket.socket]:
            if self.failure is not None:
                raise self.failure
            self.relays.append(FakeRelay(outside, over))
            ours, other = socket.socketpair()
            ours.close()
            return self.relays[-1], other

        self.patch(handover, "pair", pair)
        self.door = Door(self.give)
        self.factory = ISCSITargetFactory(
            self.node, self.clock, protocol=self.door.doorman
        )
        self.factory.startFactory()
        self.addCleanup(self.factory.stopFactory)
        self.connect()

    def give(self, target: str, handed: Handed, descriptor: int) -> Deferred[None]:
        """Note what is given."""
        self.given.append((target, handed))
        return self.answer

    def connect(self) -> None:
        """Have somebody connect."""
        self.protocol = self.factory.buildProtocol(None)
        self.transport = StringTransport()
        self.protocol.makeConnection(self.transport)

    def send(self, data: bytes, step: int = 1) -> None:
        """Have bytes come, few at a time."""
        for at in range(0, len(data), step):
            self.protocol.dataReceived(data[at : at + step])

    def said(self) -> list[Any]:
        """Return the PDUs that were sent."""
        while self.transport.producer is not None:
            self.transport.producer.resumeProducing()
        framer, found = Framer(), []
        framer.feed(self.transport.value())
        while (pdu := framer.next()) is not None:
            found.append(pdu)
        self.transport.clear()
        return found

    def status(self) -> int:
        """Return the status of the one Login Response that was sent."""
        (response,) = self.said()
        assert isinstance(response, LoginResponse)
        return response.status_class << 8 | response.status_detail

    def test_byte_by_byte(self) -> None:
        """Nothing is given before the request is whole, and then every byte of it."""
        data = request()
        self.send(data[:-1])
        self.assertEqual(self.given, [])
        self.send(data[-1:])
        ((target, handed),) = self.given
        self.assertEqual(target, TARGET)
        self.assertEqual(handed.data, data)
        self.assertEqual(handed.answered, ())
        self.assertEqual(self.said(), [])
        self.assertEqual(self.transport.producerState, "paused")

    def test_more_behind(self) -> None:
        """What an initiator has sent behind its request goes along."""
        data = request() + NOPOut(itt=9).encode() + b"\x01\x02"
        self.send(data, len(data))
        self.assertEqual(self.given[0][1].data, data)

    def test_relayed(self) -> None:
        """What came before the worker had it is passed on first, then all else."""
        self.send(request())
        self.protocol.dataReceived(b"late")
        self.answer.callback(None)
        self.protocol.dataReceived(b"later")
        self.assertEqual(self.relays[0].done, ["begin", b"late", b"later"])
        self.assertEqual(self.said(), [])

    def test_discovery(self) -> None:
        """Discovery is answered here."""
        names = [("InitiatorName", INITIATOR), ("SessionType", "Discovery")]
        self.send(request(encode(names)))
        self.assertEqual(self.given, [])
        self.assertEqual(self.status(), 0)

    def test_wrong(self) -> None:
        """What is wrong is refused here, with the status it always has."""
        other = TARGET + "0"
        cases: list[tuple[bytes, int]] = [
            (b"", LoginStatus.MISSING_PARAMETER),
            (encode([("InitiatorName", INITIATOR)]), LoginStatus.MISSING_PARAMETER),
            (encode([("TargetName", TARGET)]), LoginStatus.MISSING_PARAMETER),
            (
                encode([("InitiatorName", INITIATOR), ("TargetName", other)]),
                LoginStatus.NOT_FOUND,
            ),
            (NAMES[:-1], LoginStatus.INITIATOR_ERROR),
            (b"\xff\0", LoginStatus.INITIATOR_ERROR),
            (
                NAMES + encode([("SessionType", "Other")]),
                LoginStatus.SESSION_TYPE_NOT_SUPPORTED,
            ),
        ]
        for data, status in cases:
            self.connect()
            self.send(request(data), 5)
            self.assertEqual(self.status(), status, data)
            self.assertTrue(self.transport.disconnecting)
        self.assertEqual(self.given, [])

    def test_too_long(self) -> None:
        """A request that is longer than may be is not waited for."""
        self.send(request(bytes(8193))[:48])
        self.assertEqual(self.given, [])
        self.assertTrue(self.transport.disconnecting)

    def test_not_a_login(self) -> None:
        """What does not begin with a Login Request is hung up on."""
        self.send(NOPOut(itt=9).encode())
        self.assertEqual(self.said(), [])
        self.assertTrue(self.transport.disconnecting)

    def test_text_in_parts(self) -> None:
        """A text that goes on is answered here part by part, and goes along so."""
        parts = [
            request(NAMES[:10], flags=CONTINUE | 4),
            request(NAMES[10:-3], flags=CONTINUE | 4),
        ]
        for number, part in enumerate(parts):
            self.send(part)
            (answer,) = self.said()
            self.assertEqual((answer.stat_sn, bytes(answer.data)), (number, b""))
        self.assertEqual(self.given, [])
        last = request(NAMES[-3:])
        self.send(last)
        ((target, handed),) = self.given
        self.assertEqual(target, TARGET)
        self.assertEqual(handed.answered, tuple(parts))
        self.assertEqual(handed.data, last)

    def test_endless_text(self) -> None:
        """A text without end is refused when it is longer than may be."""
        for _number in range(20):
            self.send(request(bytes(8192), flags=CONTINUE | 4), 1000)
            if self.transport.disconnecting:
                break
        self.assertEqual(self.said()[-1].status_class, 2)
        self.assertEqual(self.given, [])

    def test_much_beside_the_text(self) -> None:
        """What is kept of requests that say next to nothing has an end."""
        for _number in range(200):
            self.send(request(b"", flags=CONTINUE | 4, ahs=bytes(1020)), 2000)
        kept = self.protocol._answered
        self.assertLess(sum(map(len, kept)), 140_000)
        self.said()
        self.send(request())
        self.assertEqual(self.status(), LoginStatus.SERVICE_UNAVAILABLE)
        self.assertEqual(self.given, [])

    def test_no_worker(self) -> None:
        """A worker that is not there is a service that is not: come again."""
        self.send(request())
        self.answer.errback(ConnectionError("it was killed"))
        self.assertEqual(self.status(), LoginStatus.SERVICE_UNAVAILABLE)
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(self.relays[0].done, ["drop"])

    def test_no_descriptors(self) -> None:
        """Without descriptors the target is out of resources: come again."""
        self.failure = OSError(errno.EMFILE, "none")
        self.send(request())
        self.assertEqual(self.status(), LoginStatus.OUT_OF_RESOURCES)

    def test_parts_without_worker(self) -> None:
        """A text in parts is answered to its end when there is no worker."""
        self.send(request(NAMES[:10], flags=CONTINUE | 4))
        self.send(request(NAMES[10:]))
        self.answer.errback(ConnectionError("it was killed"))
        _first, last = self.said()
        self.assertEqual((last.status_class, last.status_detail), (3, 1))
        self.assertEqual(last.stat_sn, 1)

    def hold(self) -> None:
        """Have a login wait for a worker."""
        self.send(request())
        self.absent()

    def absent(self) -> None:
        """Have the worker not be there."""
        waiting, self.answer = self.answer, Deferred()
        waiting.errback(OSError(errno.EAGAIN, "it is not there"))

    def test_held(self) -> None:
        """A login waits for a worker that is not there, and all of it goes then."""
        self.hold()
        self.assertEqual(self.said(), [])
        self.assertEqual(self.transport.producerState, "producing")
        self.protocol.dataReceived(b"late")
        self.door.again()
        self.assertEqual(self.given[1][1].data, request() + b"late")
        self.answer.callback(None)
        self.assertEqual(self.relays[1].done, ["begin"])
        self.assertEqual(self.door.held, {})

    def test_held_again(self) -> None:
        """One that has ended is waited for too, and looked for every second."""
        self.send(request())
        waiting, self.answer = self.answer, Deferred()
        waiting.errback(OSError(errno.ECONNRESET, "it has ended"))
        self.clock.pump([0.5] * 2)
        self.assertEqual(len(self.given), 2)
        self.absent()
        self.clock.pump([0.5] * 2)
        self.assertEqual([one.data for _name, one in self.given], [request()] * 3)

    def test_held_too_long(self) -> None:
        """It waits no longer than a login may take, and is told to come again."""
        self.node.login_timeout = 3.0
        self.hold()
        for _second in range(2):
            self.clock.advance(1)
            self.absent()
        self.assertEqual(self.said(), [])
        self.clock.advance(1)
        self.assertEqual(self.status(), LoginStatus.SERVICE_UNAVAILABLE)
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(self.door.held, {})

    def test_too_many_held(self) -> None:
        """No more wait than half the places for logins, so that others get in."""
        self.node.max_logins = 4
        for _each in range(2):
            self.hold()
            self.connect()
        self.hold()
        self.assertEqual(self.status(), LoginStatus.SERVICE_UNAVAILABLE)
        self.assertEqual(len(self.door.held), 2)

    def test_held_gives_up(self) -> None:
        """Who hangs up, or is to end, while it waits is not given to anybody."""
        self.hold()
        self.protocol.connectionLost()
        self.assertEqual(self.door.held, {})
        self.connect()
        self.hold()
        self.protocol.connection.fail("the target stops")
        self.clock.advance(0)
        self.assertTrue(self.transport.disconnecting)
        self.door.again()
        self.assertEqual(len(self.given), 2)
        self.assertEqual(self.factory.slots.closing, {self.protocol: None})

    def test_held_gives_way(self) -> None:
        """Who has to give way while it waits is told to come again."""
        self.hold()
        self.protocol.give_way()
        self.assertEqual(self.status(), LoginStatus.SERVICE_UNAVAILABLE)
        self.assertTrue(self.transport.disconnecting)

    def test_held_target_gone(self) -> None:
        """A target that goes while it is waited for is not found."""
        self.hold()
        self.node.remove_target(TARGET)
        self.door.again()
        self.assertEqual(self.status(), LoginStatus.NOT_FOUND)

    def test_held_talks(self) -> None:
        """Who says much while it waits is not read from."""
        self.hold()
        self.protocol.dataReceived(bytes(200_000))
        self.assertEqual(self.transport.producerState, "paused")

    def test_passed_on(self) -> None:
        """It is known when nobody's bytes are passed on any more."""
        self.successResultOf(self.door.passed_on())
        self.send(request())
        self.answer.callback(None)
        over = self.door.passed_on()
        self.relays[0].over(True)
        self.assertNoResult(over)
        self.protocol.connectionLost()
        self.successResultOf(over)

    def test_suspended(self) -> None:
        """While nobody is let in nothing is handed over."""
        self.node.suspended = True
        self.send(request())
        self.assertEqual(self.status(), LoginStatus.SERVICE_UNAVAILABLE)
        self.assertEqual(self.given, [])

    def test_not_allowed(self) -> None:
        """Whom the iSNS server does not let see a target does not get to it."""
        self.node.initiator_allowed = lambda _target, initiator: initiator != INITIATOR
        self.send(request())
        self.assertEqual(self.status(), LoginStatus.NOT_FOUND)
        self.assertEqual(self.given, [])

    def test_hung_up(self) -> None:
        """Who hangs up during the handover is gone for the worker, too."""
        self.send(request())
        self.protocol.connectionLost()
        self.answer.callback(None)
        self.assertIn(True, self.relays[0].done)
        self.assertNotIn("begin", self.relays[0].done)
        self.assertEqual(self.factory.protocols, {})
        self.assertEqual(self.factory.slots.taken, {})

    def test_never_logs_in(self) -> None:
        """Who says nothing is given up as ever; so is who is never taken."""
        self.node.login_timeout = 3.0
        self.connect()
        self.send(request()[:47])
        self.clock.pump([1.0] * 4)
        self.assertTrue(self.transport.disconnecting)
        self.connect()
        self.send(request())
        self.clock.pump([1.0] * 4)
        self.assertTrue(self.transport.disconnected or self.transport.disconnecting)

    def test_too_many_logins(self) -> None:
        """One login too many is refused here."""
        self.node.max_logins = 1
        self.send(request(NAMES[:10], flags=CONTINUE | 4))
        first, self.protocol = self.protocol, self.factory.buildProtocol(None)
        self.protocol.makeConnection(StringTransport())
        self.send(request())
        self.assertEqual(self.given, [])
        self.assertIn("too many logins", self.protocol.connection.why)
        self.assertFalse(first.connection.over)

    def test_worker_closes(self) -> None:
        """What the worker closes is closed in order, or aborted, as it was."""
        self.send(request())
        self.answer.callback(None)
        self.relays[0].over(True)
        self.assertTrue(self.transport.disconnecting)
        self.clock.pump([1.0] * 31)
        self.assertTrue(self.transport.disconnected)


class RepeatingTests(SynchronousTestCase):
    """
    A worker goes on where the front has left a login.
    """

    def adopted(
        self, *answered: bytes, data: bytes, names: frozenset[str] | None = None
    ) -> Any:
        """Return the protocol that takes this, and what it has sent."""
        clock = Clock()
        node, _target, _units = serve(memory())
        looks: list[Callable[[], None]] = []
        node.look = looks.append
        factory = ISCSITargetFactory(node, clock)
        handed = Handed("192.0.2.1:9", "192.0.2.2:3260", names, answered, data)
        protocol = Adopted(factory, handed)
        transport = StringTransport()
        protocol.makeConnection(transport)
        self.assertEqual(transport.value(), b"")
        for look in looks:
            look()
        for _turn in range(4):
            clock.advance(0)
        while transport.producer is not None:
            transport.producer.resumeProducing()
        return protocol, transport.value()

    def test_parts(self) -> None:
        """What was answered is not again, and StatSN goes on."""
        parts = [
            request(NAMES[:10], flags=CONTINUE | 4, exp_stat_sn=5),
            request(NAMES[10:-3], flags=CONTINUE | 4, exp_stat_sn=6),
        ]
        last = request(NAMES[-3:], exp_stat_sn=7)
        protocol, said = self.adopted(*parts, data=last)
        response = LoginResponse.parse(said)
        self.assertEqual((response.status_class, response.stat_sn), (0, 7))
        (session,) = protocol.factory.node.sessions()
        self.assertEqual(session.connection.peer, "192.0.2.1:9")
        self.assertEqual(session.connection.portal, "192.0.2.2:3260")

    def test_whole(self) -> None:
        """A request that was not answered is."""
        _protocol, said = self.adopted(data=request())
        self.assertEqual(LoginResponse.parse(said).status_class, 0)

    def test_certificate(self) -> None:
        """Whom the front's certificate is not good for stays out."""
        for names, status in (
            (frozenset({INITIATOR}), 0),
            (frozenset({INITIATOR + "0"}), LoginStatus.AUTHORIZATION_FAILURE),
        ):
            _protocol, said = self.adopted(data=request(), names=names)
            response = LoginResponse.parse(said)
            found = response.status_class << 8 | response.status_detail
            self.assertEqual(found, status)
