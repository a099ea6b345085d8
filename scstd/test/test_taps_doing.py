# SPDX-License-Identifier: MIT
"""
What taps do to PDUs: drop, change, hold and add them, and raise.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from scstd.initiator.commands import read10, write10
from scstd.protocols.engine.connection import Connection
from scstd.protocols.engine.tapped import Digest, TappedPDU
from scstd.protocols.wire.codes import FINAL
from scstd.protocols.wire.pdu import (
    AsynchronousMessage,
    DataIn,
    LoginResponse,
    NOPIn,
    NOPOut,
    Reject,
    SCSICommand,
    SCSIResponse,
    SNACKRequest,
)
from scstd.test.initiator import INITIATOR, TARGET, Initiator
from scstd.test.tapping import PATTERN, READY, Bench, GoOn, passes


class DoingTests(Bench):
    """
    What a tap does to a PDU.
    """

    def test_drop_incoming(self) -> None:
        """What is dropped has not come: its CmdSN is not taken."""
        self.begin()
        self.script.on_incoming = lambda _passing, _go_on: None
        self.one.send(self.one.command(READY))
        self.assertEqual(self.one.receive(), [])
        self.script.on_incoming = passes
        self.one.cmd_sn -= 1
        self.assertEqual(self.one.do(READY).status, 0)

    def test_drop_outgoing(self) -> None:
        """What is dropped was sent: it has its StatSN, and the next has the next."""
        self.begin()
        self.script.on_outgoing = lambda _passing, _go_on: None
        expected = self.one.exp_stat_sn
        self.one.send(self.one.command(READY))
        self.assertEqual(self.one.receive(), [])
        self.script.on_outgoing = passes
        self.one.send(self.one.command(READY))
        self.assertEqual(self.one.one(SCSIResponse).stat_sn, expected + 1)

    def test_change(self) -> None:
        """What is changed goes on so, in both directions, with right digests."""
        self.begin(HeaderDigest="CRC32C", DataDigest="CRC32C")

        def change(passing: TappedPDU, go_on: GoOn) -> None:
            pdu: Any = passing.pdu
            if isinstance(pdu, NOPOut):
                pdu.data = b"changed"
            else:
                passing.pdu = NOPIn(itt=pdu.itt, stat_sn=pdu.stat_sn, data=b"twice")
                passing.pdu.data = bytes(pdu.data) + b" twice"
            go_on(passing)

        self.script.on_incoming = self.script.on_outgoing = change
        self.one.send(self.one.ping(b"as it was"))
        self.assertEqual(bytes(self.one.one(NOPIn).data), b"changed twice")
        self.assertFalse(self.one.link.framer.data_digest_failed)

    def test_wrong_digests(self) -> None:
        """A tap can have what comes be damaged, and what leaves have wrong digests."""
        self.begin(HeaderDigest="CRC32C", DataDigest="CRC32C")
        self.script.on_incoming = self.spoil
        self.one.send(self.one.command(write10(0, 1), data=bytes(512)))
        self.assertEqual(self.one.one(SCSIResponse).status, 2)
        self.assertEqual(self.connection.framer.damaged, 1)
        self.script.on_incoming, self.script.on_outgoing = passes, self.spoil
        self.one.send(self.one.ping(b"x"))
        self.one.receive()
        self.assertTrue(self.one.link.framer.data_digest_failed)

    @staticmethod
    def spoil(passing: TappedPDU, go_on: GoOn) -> None:
        """Damage the data of a PDU."""
        if passing.data_digest is Digest.RIGHT:
            passing.data_digest = Digest.WRONG
        go_on(passing)

    def test_wrong_header_digest(self) -> None:
        """One that comes with a wrong header digest ends its connection."""
        self.begin(HeaderDigest="CRC32C")

        def spoil(passing: TappedPDU, go_on: GoOn) -> None:
            passing.header_digest = Digest.WRONG
            go_on(passing)

        self.script.on_incoming = spoil
        self.one.send(self.one.command(READY))
        self.assertTrue(self.connection.over)
        self.assertIn("header digest", self.connection.why)

    def test_hold_incoming(self) -> None:
        """What is held goes on later, is answered then, and its connection is woken."""
        self.begin()
        held: list[Any] = []
        self.script.on_incoming = lambda passing, _go_on: held.append(passing)
        go_on = self.hold_one(self.one.command(READY))
        self.assertEqual(self.one.receive(), [])
        wakes = self.wakes
        go_on()
        self.assertEqual(self.wakes, wakes + 1)
        self.assertEqual(self.one.one(SCSIResponse).status, 0)

    def hold_one(self, pdu: Any) -> Callable[[], None]:
        """Send a PDU that a tap holds; return what has it go on."""
        held: list[tuple[TappedPDU, GoOn]] = []
        self.script.on_incoming = lambda *both: held.append(both)
        self.one.send(pdu)
        self.script.on_incoming = passes
        ((passing, go_on),) = held
        return lambda: go_on(passing)

    def test_hold_what_is_rejected(self) -> None:
        """A Reject of what was held repeats its header, and no other's."""
        self.begin()
        pdu = SNACKRequest(itt=77)
        go_on = self.hold_one(pdu)
        self.one.do(READY)
        go_on()
        self.assertEqual(bytes(self.one.one(Reject).data), pdu.encode())

    def test_hold_outgoing(self) -> None:
        """Others overtake what is held, which goes on when the tap says so."""
        self.begin()
        held: list[tuple[TappedPDU, GoOn]] = []
        self.script.on_outgoing = lambda *both: held.append(both)
        first = self.one.command(READY)
        self.one.send(first)
        self.script.on_outgoing = passes
        second = self.one.command(READY)
        self.one.send(second)
        self.assertEqual(self.one.one(SCSIResponse).itt, second.itt)
        ((passing, go_on),) = held
        wakes = self.wakes
        go_on(passing)
        self.assertEqual(self.wakes, wakes + 1)
        self.assertEqual(self.one.one(SCSIResponse).itt, first.itt)

    def test_held_by_one_that_is_gone(self) -> None:
        """What is held goes on when the tap is detached, by those that are there then."""
        self.begin()
        go_on = self.hold_one(self.one.command(READY))
        assert self.attached is not None
        self.attached.detach()
        self.connection.taps.attach(self.make)
        go_on()
        self.assertEqual(self.scripts[1].kinds(), [SCSICommand, SCSIResponse])
        self.assertEqual(self.one.one(SCSIResponse).status, 0)

    def test_held_to_the_end(self) -> None:
        """What is held when the connection ends is lost, in both directions."""
        self.begin()
        held: list[tuple[TappedPDU, GoOn]] = []
        self.script.on_outgoing = lambda *both: held.append(both)
        self.one.send(self.one.command(READY))
        go_on = self.hold_one(self.one.command(READY))
        self.connection.disconnected()
        go_on()
        ((passing, send_on),) = held
        send_on(passing)
        self.assertEqual(self.connection.output, [])

    def test_twice(self) -> None:
        """A PDU that goes on twice has come twice: the second is a duplicate."""
        self.begin()

        def twice(passing: TappedPDU, go_on: GoOn) -> None:
            go_on(passing)
            go_on(passing)

        self.script.on_incoming = twice
        self.one.send(self.one.command(READY))
        self.assertEqual(len(self.one.receive()), 1)
        self.script.on_incoming, self.script.on_outgoing = passes, twice
        self.one.send(self.one.command(READY))
        self.assertEqual(len(self.one.receive()), 2)

    def test_login_response_held(self) -> None:
        """A Login Response that is held has no digest: they begin after it."""
        self.node.taps.attach(self.make)
        one = Initiator(self.node)
        (script,) = self.scripts
        held: list[tuple[TappedPDU, GoOn]] = []
        script.on_outgoing = lambda *both: held.append(both)
        offers = [
            ("InitiatorName", INITIATOR),
            ("TargetName", TARGET),
            ("HeaderDigest", "CRC32C"),
        ]
        one.send(one.login_request(offers))
        self.assertTrue(one.connection.header_digest)
        ((passing, go_on),) = held
        go_on(passing)
        self.assertEqual(one.one(LoginResponse).status_class, 0)


class AddingTests(Bench):
    """
    What a tap adds.
    """

    def test_send(self) -> None:
        """What a tap sends is numbered, and seen by those nearer to the wire alone."""
        self.begin()
        self.node.taps.attach(self.make)
        expected = self.one.exp_stat_sn
        self.script.tapped.send(AsynchronousMessage(async_event=255))
        self.assertEqual(self.wakes, 1)
        message = self.one.one(AsynchronousMessage)
        self.assertEqual(message.stat_sn, expected)
        self.assertEqual(self.script.kinds(), [])
        self.assertEqual(self.scripts[1].kinds(), [AsynchronousMessage])
        self.script.tapped.send(NOPIn(), False)
        self.assertEqual(self.one.one(NOPIn).stat_sn, expected + 1)

    def test_send_bytes(self) -> None:
        """Bytes go out as they are."""
        self.begin()
        self.script.tapped.send_bytes(b"no PDU at all")
        self.assertEqual(b"".join(self.connection.output), b"no PDU at all")
        self.assertEqual(self.wakes, 1)

    def test_receive(self) -> None:
        """What a tap has come in is as if the initiator had sent it."""
        self.begin()
        self.script.tapped.receive(self.one.command(READY))
        self.assertEqual(self.script.kinds(), [SCSIResponse])
        self.assertEqual(self.one.one(SCSIResponse).status, 0)

    def test_receive_while_sending(self) -> None:
        """What comes in while the engine sends waits until it has ended with that."""
        self.begin()
        order: list[str] = []
        more = self.one.command(READY)

        def reply(passing: TappedPDU, go_on: GoOn) -> None:
            self.script.on_outgoing = passes
            self.script.tapped.receive(more)
            order.append("received")
            go_on(passing)

        self.script.on_outgoing = reply
        self.one.cmd_sn -= 1
        first = self.one.command(READY)
        more.cmd_sn = first.cmd_sn + 1
        self.one.send(first)
        found = [pdu.itt for pdu in self.one.receive()]
        self.assertEqual(found, [first.itt, more.itt])

    def test_receive_at_the_end_of_a_task(self) -> None:
        """The same where a store ends a task: the connection is woken, and goes on."""
        self.begin()
        self.one.send(self.one.command(read10(0, 1), read=512))
        more = self.one.command(READY)

        def reply(passing: TappedPDU, go_on: GoOn) -> None:
            self.script.on_outgoing = passes
            self.script.tapped.receive(more)
            go_on(passing)

        self.script.on_outgoing = reply
        wakes = self.wakes
        self.store.go()
        self.assertGreater(self.wakes, wakes)
        self.flush()
        data, response = self.one.receive()
        self.assertEqual((type(data), type(response)), (DataIn, SCSIResponse))
        self.assertEqual(response.itt, more.itt)

    def test_close(self) -> None:
        """A connection is closed after what was sent."""
        self.begin()

        def close(passing: TappedPDU, go_on: GoOn) -> None:
            self.script.tapped.close("enough")
            go_on(passing)

        self.script.on_outgoing = close
        self.one.send(self.one.command(READY))
        self.assertEqual(self.one.one(SCSIResponse).status, 0)
        self.assertEqual((self.connection.over, self.connection.why), (True, "enough"))
        self.assertEqual(self.script.ends, 1)


class RaisingTests(Bench):
    """
    Taps that raise.
    """

    @staticmethod
    def boom(*_anything: Any) -> None:
        """Raise."""
        raise ValueError("boom")

    def check(self) -> None:
        """Only the connection of the tap that raised is closed, and the log has it."""
        (failure,) = self.flushLoggedErrors(ValueError)
        self.assertEqual(failure.getErrorMessage(), "boom")
        self.assertTrue(self.connection.over)
        self.assertEqual(self.connection.why, "the PDU tap script has raised")
        self.assertEqual(self.one.receive(), [])

    def test_incoming(self) -> None:
        """One that raises at what comes: its connection ends, another does not."""
        self.begin()
        other = Initiator(self.node, isid=b"\x80\0\0\0\0\2").ready()
        self.script.on_incoming = self.boom
        self.one.send(self.one.command(READY), self.one.command(READY))
        self.check()
        self.assertEqual(other.do(READY).status, 0)

    def test_outgoing(self) -> None:
        """One that raises at what leaves: nothing of it leaves."""
        self.begin()
        self.script.on_outgoing = self.boom
        self.one.send(self.one.command(READY))
        self.check()

    def test_outgoing_later(self) -> None:
        """The same where a store ends a task: when the transport comes to it."""
        self.begin()
        self.one.send(self.one.command(read10(0, 1), read=512))
        self.script.on_outgoing = self.boom
        wakes = self.wakes
        self.store.go()
        self.assertGreater(self.wakes, wakes)
        self.flush()
        self.check()

    def test_login(self) -> None:
        """One that raises at the last response of a login ends it cleanly."""
        self.node.taps.attach(self.make)
        self.one = Initiator(self.node)
        self.connection = self.one.connection
        self.scripts[0].on_outgoing = self.boom
        self.one.send(
            self.one.login_request(
                [("InitiatorName", INITIATOR), ("TargetName", TARGET)]
            )
        )
        self.check()
        self.assertEqual(self.node.sessions(), [])

    def test_logout(self) -> None:
        """One that raises at the response to a logout: the session ends as it would."""
        self.begin()
        self.script.on_outgoing = self.boom
        self.one.logout_sent()
        self.flushLoggedErrors(ValueError)
        self.assertTrue(self.connection.over)
        self.assertEqual(self.node.sessions(), [])

    def test_making(self) -> None:
        """What raises when a tap is to be made is logged: the login goes on."""
        self.node.taps.attach(self.boom)
        self.node.targets[TARGET].taps.attach(self.boom)
        one = Initiator(self.node).ready()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)
        self.assertIsNone(one.connection.tapped)

    def test_not_to_be_sent(self) -> None:
        """What a tap makes and can not be encoded closes the connection, later."""
        self.begin()
        self.one.send(self.one.command(read10(0, 1), read=512))

        def spoil(passing: TappedPDU, go_on: GoOn) -> None:
            passing.pdu.flags = 4711
            go_on(passing)

        self.script.on_outgoing = spoil
        self.store.go()
        self.flush()
        self.assertEqual(len(self.flushLoggedErrors(struct.error)), 1)
        self.assertTrue(self.connection.over)
        self.assertEqual(self.one.receive(), [])

    def test_raising_while_another_goes_on(self) -> None:
        """Only the tap that raised is taken for it, whoever had it go on."""
        self.begin()
        self.connection.taps.attach(self.make)
        self.scripts[1].name = "inner"
        self.scripts[1].on_incoming = self.boom
        self.one.send(self.one.command(READY))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(self.connection.why, "the PDU tap inner has raised")

    def test_closed(self) -> None:
        """One that raises when it is told of the end is logged, and changes nothing."""
        self.begin()
        self.script.closed = self.boom  # type: ignore[method-assign]
        self.one.logout()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(self.node.sessions(), [])

    def test_not_its_own(self) -> None:
        """What the engine raises behind a tap is not the tap's, and goes up."""
        self.begin()
        self.patch(Connection, "run", self.boom)
        with self.assertRaises(ValueError):
            self.one.send(self.one.command(READY))
        self.assertFalse(self.connection.over)
        self.assertEqual(self.script.ends, 0)


class RecoveryTests(Bench):
    """
    Taps where what is lost is sent again.
    """

    level = 2

    def test_sent_again(self) -> None:
        """What a tap dropped can be asked for, and comes by the tap again."""
        self.begin(ErrorRecoveryLevel="2")
        self.script.on_outgoing = lambda _passing, _go_on: None
        self.one.send(self.one.command(read10(0, 1), read=512))
        self.store.go()
        self.assertEqual(self.one.receive(), [])
        self.script.on_outgoing = passes
        self.script.kinds()
        self.one.send(SNACKRequest(flags=FINAL | 1, exp_stat_sn=self.one.exp_stat_sn))
        self.assertEqual(self.one.one(DataIn).data, PATTERN[:512])
        self.assertEqual(self.script.kinds(), [SNACKRequest, DataIn])

    def test_dropped_acknowledgment(self) -> None:
        """What is dropped acknowledges nothing: the taps of the engine are behind."""
        self.begin(ErrorRecoveryLevel="2")
        self.one.do(READY)
        recovery = self.connection.recovery
        assert recovery is not None
        self.script.on_incoming = lambda _passing, _go_on: None
        kept = len(recovery.statuses)
        self.assertGreater(kept, 0)
        ping = self.one.ping()
        ping.exp_stat_sn = self.one.exp_stat_sn
        self.one.send(ping)
        self.assertEqual(len(recovery.statuses), kept)
        self.script.on_incoming = passes
        self.one.send(ping)
        self.assertEqual(len(recovery.statuses), 1)
