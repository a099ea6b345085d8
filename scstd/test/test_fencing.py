# SPDX-License-Identifier: MIT
"""
Tests for TaskReporting (RFC 7143 section 13.23): `scstd.protocols.engine.response_fence` and
`terminating`.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.commands import read10, write10
from scstd.protocols.engine import draining
from scstd.protocols.engine.session import Session
from scstd.protocols.wire.codes import FINAL, IMMEDIATE, RESERVED_TAG
from scstd.protocols.wire.codes import TaskManagementCode as F
from scstd.protocols.wire.pdu import (
    R2T,
    AsynchronousMessage,
    DataIn,
    LogoutRequest,
    LogoutResponse,
    NOPIn,
    NOPOut,
    SCSIResponse,
    TaskManagementResponse,
)
from scstd.test.initiator import INITIATOR, Initiator, serve
from scstd.test.stores import ManualStore, memory
from scstd.test.test_connections import limits

READY = bytes(6)


WAITING = [NOPIn]


def kinds(found: list[Any]) -> list[type[Any]]:
    """Return the types of PDUs."""
    return [type(pdu) for pdu in found]


def acknowledge(who: Initiator, *, lun: int = 0, ttt: int = RESERVED_TAG) -> None:
    """Send a NOP-Out that wants no answer: it says by its ExpStatSN what has come."""
    who.send(
        NOPOut(
            first=IMMEDIATE,
            lun=lun,
            ttt=ttt,
            cmd_sn=who.cmd_sn,
            exp_stat_sn=who.exp_stat_sn,
        )
    )


class Bench(SynchronousTestCase):
    """
    Sessions of two connections at a store that waits, and at one that does not.
    """

    def begin(self, reporting: str = "ResponseFence", **keys: Any) -> None:
        """Log in on two connections."""
        self.store = ManualStore()
        self.limits = limits(ErrorRecoveryLevel=2)
        self.node, self.target, self.units = serve(
            self.store, memory(), limits=self.limits, tst=0
        )
        self.one, self.two = self.pair(reporting, **keys)
        self.session = self.session_of(self.one)

    def pair(
        self, reporting: str, name: str = INITIATOR, **keys: Any
    ) -> tuple[Initiator, Initiator]:
        """Return both connections of a new session."""
        one = Initiator(self.node, name=name).ready(
            MaxConnections="4", TaskReporting=reporting, **keys
        )
        two = Initiator(self.node, name=name)
        two.cmd_sn = one.cmd_sn
        two.login(tsih=self.session_of(one).tsih, cid=1)
        two.itt = 1000
        # So far everything has come.
        acknowledge(one)
        acknowledge(two)
        return one, two

    def session_of(self, one: Initiator) -> Session:
        """Return a connection's session."""
        session = one.connection.session
        assert session is not None
        return session

    def send(self, who: Initiator, cdb: bytes = READY, **fields: Any) -> int:
        """Send a command with the session's next CmdSN; return its tag."""
        cmd_sn = max(self.one.cmd_sn, self.two.cmd_sn)
        who.cmd_sn = cmd_sn
        pdu = who.command(cdb, **fields)
        self.one.cmd_sn = self.two.cmd_sn = who.cmd_sn
        who.send(pdu)
        return pdu.itt

    def collect(self, who: Initiator, lun: int = 0) -> R2T:
        """Begin a write, as far as its R2T."""
        pdu = who.command(write10(0, 8), write=4096, lun=lun)
        who.send(pdu)
        r2t: R2T = who.one(R2T)
        return r2t


class NegotiationTests(Bench):
    def test_first_of_theirs(self) -> None:
        """The first value of the initiator's list; RFC3720 when there is none."""
        for offered, answer in (
            ("FastAbort,ResponseFence,RFC3720", "FastAbort"),
            ("ResponseFence,RFC3720", "ResponseFence"),
            ("Other,RFC3720,FastAbort", "RFC3720"),
            ("RFC3720", "RFC3720"),
            ("Other", "Reject"),
        ):
            node, _target, _units = serve(memory())
            one = Initiator(node)
            one.login(TaskReporting=offered)
            self.assertEqual(one.keys["TaskReporting"], answer)

    def test_who_has_a_fence(self) -> None:
        """Only sessions that may have several connections; always, if they asked for it."""
        for reporting, connections, has, always in (
            ("RFC3720", "1", False, False),
            ("RFC3720", "4", True, False),
            ("ResponseFence", "1", False, False),
            ("ResponseFence", "4", True, True),
            ("FastAbort", "4", True, True),
        ):
            node, _target, _units = serve(memory(), limits=limits())
            one = Initiator(node).ready(
                TaskReporting=reporting, MaxConnections=connections
            )
            session = self.session_of(one)
            self.assertEqual(session.fence is not None, has)
            self.assertEqual(one.connection.tapped is not None, always)


class FenceTests(Bench):
    """
    Responses that must not be overtaken (RFC 7143 section 4.2.2.3.3).
    """

    def test_function(self) -> None:
        """
        The response to a reset waits for what was sent before on each connection, and
        what comes after it for its own acknowledgment.
        """
        self.begin()
        self.send(self.one)
        self.send(self.two)
        self.one.receive()
        self.two.receive()
        self.one.manage(F.LOGICAL_UNIT_RESET)
        self.assertEqual(kinds(self.one.receive()), WAITING)
        self.assertEqual(kinds(self.two.receive()), WAITING)
        acknowledge(self.one)
        self.assertEqual(self.one.receive(), [])
        acknowledge(self.two)
        self.assertEqual(
            kinds(self.one.receive()), [TaskManagementResponse, NOPIn], "with a ping"
        )
        # An answer on the other connection must not come before it.
        self.send(self.two, lun=1)
        self.assertEqual(self.two.receive(), [])
        acknowledge(self.one)
        self.assertEqual(kinds(self.two.receive()), [SCSIResponse])

    def test_nothing_to_wait_for(self) -> None:
        """Where everything was acknowledged a fenced response goes out at once."""
        self.begin()
        self.one.manage(F.LOGICAL_UNIT_RESET)
        self.assertEqual(kinds(self.one.receive()), [TaskManagementResponse, NOPIn])

    def test_old_acknowledgment(self) -> None:
        """A ping whose answer acknowledges less does not count."""
        self.begin()
        self.send(self.two)
        before = self.two.exp_stat_sn
        self.two.receive()
        self.one.manage(F.LOGICAL_UNIT_RESET)
        self.one.receive()
        after, self.two.exp_stat_sn = self.two.exp_stat_sn, before
        acknowledge(self.two)
        self.assertEqual(self.one.receive(), [])
        self.two.exp_stat_sn = after
        acknowledge(self.two)
        self.assertEqual(kinds(self.one.receive())[:1], [TaskManagementResponse])

    def test_unit_attention(self) -> None:
        """The unit attention that a reset leaves is fenced; others are not."""
        self.begin()
        self.units[0].reset(lambda: None)
        self.send(self.two, lun=1)
        self.assertEqual(kinds(self.two.receive()), [SCSIResponse])
        self.send(self.one)
        self.assertEqual(kinds(self.one.receive()), [], "the other one is waited for")
        acknowledge(self.two)
        self.assertEqual(kinds(self.one.receive()), [SCSIResponse, NOPIn])
        acknowledge(self.one)
        self.units[0].attention(0x2A01)  # type: ignore[arg-type]
        self.send(self.two)
        self.assertEqual(kinds(self.two.receive()), [NOPIn, SCSIResponse])
        self.send(self.one)
        self.assertEqual(kinds(self.one.receive()), [SCSIResponse])

    def test_preempt_and_abort(self) -> None:
        """The response to PREEMPT AND ABORT is fenced; that to REGISTER is not."""
        self.begin()
        key = (1).to_bytes(8, "big")
        register = bytes(8) + key + bytes(8)
        self.send(self.two)
        self.two.receive()
        cdb = bytes.fromhex("5f00 0000 0000 0000 1800")
        self.send(self.one, cdb, write=24, data=register)
        self.assertEqual(kinds(self.one.receive()), [SCSIResponse])
        cdb = bytes.fromhex("5f05 0300 0000 0000 1800")
        self.send(self.one, cdb, write=24, data=key + key + bytes(8))
        self.assertEqual(kinds(self.one.receive()), [])
        acknowledge(self.two)
        self.assertEqual(kinds(self.one.receive()), [SCSIResponse, NOPIn])

    def test_auto_contingent_allegiance(self) -> None:
        """What establishes it is fenced, and so is what it refuses, and CLEAR ACA."""
        self.begin()
        wrong = read10(1 << 31, 1)[:9] + b"\x04"
        for status, cdb in ((0x02, wrong), (0x30, READY)):
            self.send(self.two, lun=1)
            self.assertEqual(self.two.receive()[-1].status, 0)
            self.send(self.one, cdb)
            self.assertEqual(self.one.receive(), [])
            acknowledge(self.two)
            response, _ping = self.one.receive()
            self.assertEqual(response.status, status)
            acknowledge(self.one)
        self.send(self.two, lun=1)
        self.two.receive()
        self.one.manage(F.CLEAR_ACA)
        self.assertEqual(self.one.receive(), [])
        acknowledge(self.two)
        self.assertEqual(kinds(self.one.receive()), [TaskManagementResponse, NOPIn])
        # Without NACA, and without the condition, nothing is.
        acknowledge(self.one)
        self.send(self.two, lun=1)
        self.two.receive()
        self.send(self.one, wrong[:9])
        self.assertEqual(kinds(self.one.receive()), [SCSIResponse])

    def test_one_connection(self) -> None:
        """With one connection left nothing waits."""
        self.begin()
        self.two.connection.disconnected()
        self.send(self.one)
        self.one.receive()
        self.one.manage(F.LOGICAL_UNIT_RESET)
        self.assertEqual(kinds(self.one.receive()), [TaskManagementResponse])

    def test_rfc3720(self) -> None:
        """
        With RFC3720 only the response to a function that aborts several tasks is fenced
        (section 4.2.3.3), and until there is one nothing looks for it.
        """
        self.begin("RFC3720")
        here, there = self.one.connection, self.two.connection
        for again in range(2):
            self.assertEqual((here.tapped, there.tapped), (None, None))
            self.assertEqual(here.responder, here.unfenced_responder)
            self.send(self.two)
            self.two.receive()
            self.one.manage(F.ABORT_TASK_SET)
            self.assertEqual(kinds(self.one.receive()), WAITING, again)
            self.assertIsNotNone(there.tapped)
            acknowledge(self.one)
            self.assertEqual(self.one.receive(), [])
            acknowledge(self.two)
            wanted = [TaskManagementResponse, NOPIn]
            self.assertEqual(kinds(self.one.receive()), wanted)
            self.two.receive()
            self.send(self.two, lun=1)
            self.assertEqual(self.two.receive(), [], "it waits for the function's")
            acknowledge(self.one)
            self.assertEqual(kinds(self.two.receive()), [SCSIResponse])
        self.one.manage(F.CLEAR_ACA)
        self.assertEqual(kinds(self.one.receive()), [TaskManagementResponse])
        self.units[0].reset(lambda: None)
        self.send(self.two)
        self.send(self.one)
        self.assertEqual(kinds(self.one.receive()), [SCSIResponse], "no attention is")

    def test_rfc3720_joined(self) -> None:
        """A connection that joins while a response waits comes through the fence too."""
        self.begin("RFC3720")
        self.send(self.two)
        self.one.manage(F.ABORT_TASK_SET)
        self.one.receive()
        three = Initiator(self.node)
        three.cmd_sn, three.itt = self.one.cmd_sn, 2000
        three.login(tsih=self.session.tsih, cid=2)
        three.send(three.command(READY, lun=1))
        self.assertEqual(three.receive(), [])
        self.two.receive()
        acknowledge(self.one)
        acknowledge(self.two)
        self.one.receive()
        acknowledge(self.one)
        self.assertEqual(kinds(three.receive()), [SCSIResponse])
        self.assertIsNone(three.connection.tapped)

    def test_order(self) -> None:
        """What waits goes out in order; the data of a read waits with its status."""
        self.begin()
        self.send(self.two)
        self.two.receive()
        first = self.send(self.one, read10(0, 1), read=512, lun=1)
        self.assertEqual(self.one.one(DataIn).itt, first)
        self.one.manage(F.ABORT_TASK_SET)
        self.assertEqual(kinds(self.one.receive()), WAITING)
        second = self.send(self.one, read10(0, 1), read=512, lun=1)
        self.one.manage(F.ABORT_TASK, tag=77)
        self.assertEqual(self.one.receive(), [])
        acknowledge(self.two)
        acknowledge(self.one)
        self.assertEqual(kinds(self.one.receive()), [TaskManagementResponse, NOPIn])
        acknowledge(self.one)
        data, managed = self.one.receive()
        self.assertEqual((data.itt, managed.response), (second, 1))

    def test_window(self) -> None:
        """A command whose answer waits is in the window still; immediate ones, too."""
        self.begin()
        window = self.session.window
        self.send(self.two)
        self.two.receive()
        self.one.manage(F.ABORT_TASK_SET)
        room = window.max_cmd_sn - window.exp_cmd_sn
        for _number in range(8):
            self.send(self.one, lun=1)
        # The first to finish gave its room back before it was clear that it waits.
        self.assertEqual(window.max_cmd_sn - window.exp_cmd_sn, room - 8 + 1)
        self.assertEqual(self.session.ordering.functions, 1)
        self.one.receive()
        acknowledge(self.one)
        acknowledge(self.two)
        self.assertEqual(self.session.ordering.functions, 0)
        self.one.receive()
        acknowledge(self.one)
        self.assertEqual(len(self.one.receive()), 8)
        self.assertEqual(window.max_cmd_sn - window.exp_cmd_sn, room)

    def test_connection_goes(self) -> None:
        """A connection that goes is not waited for any more, nor is its answer sent."""
        self.begin()
        self.send(self.two)
        self.one.manage(F.LOGICAL_UNIT_RESET)
        self.one.receive()
        acknowledge(self.one)
        self.send(self.two, lun=1)
        self.two.connection.disconnected()
        wanted = [TaskManagementResponse, AsynchronousMessage]
        self.assertEqual(kinds(self.one.receive()), wanted)
        assert self.session.fence is not None
        self.assertFalse(self.session.fence.held)
        self.assertFalse(self.session.fence.awaited)

    def test_answerer_goes(self) -> None:
        """Where the connection of the fenced response goes the others go on."""
        self.begin()
        self.send(self.one)
        self.send(self.two)
        self.one.manage(F.LOGICAL_UNIT_RESET)
        self.send(self.two, lun=1)
        self.two.receive()
        acknowledge(self.two)
        self.assertEqual(self.two.receive(), [])
        self.one.connection.disconnected()
        wanted = [SCSIResponse, AsynchronousMessage]
        self.assertEqual(kinds(self.two.receive()), wanted)

    def test_never_acknowledged(self) -> None:
        """Who acknowledges nothing for RspTimeout is let go."""
        self.begin()
        self.send(self.two)
        self.one.manage(F.LOGICAL_UNIT_RESET)
        for second in range(0, 101, 10):
            # It answers, but says that nothing has come.
            self.two.connection.now = float(second)
            acknowledge(self.two)
            self.two.connection.tick(float(second))
        self.assertTrue(self.two.connection.over)
        wanted = [TaskManagementResponse, AsynchronousMessage]
        self.assertEqual(kinds(self.one.receive()), wanted)

    def test_reassigned(self) -> None:
        """At level 2 an answer that waits outlives its connection."""
        self.begin(
            ErrorRecoveryLevel="2", DefaultTime2Wait="0", DefaultTime2Retain="20"
        )
        self.send(self.one)
        self.one.manage(F.LOGICAL_UNIT_RESET)
        tag = self.send(self.two, read10(0, 1), read=512, lun=1)
        self.assertEqual(kinds(self.two.receive()), [])
        self.two.connection.disconnected()
        self.one.receive()
        self.one.logout(2, cid=1)
        self.one.manage(F.TASK_REASSIGN, tag=tag)
        managed, data = self.one.receive()
        self.assertEqual((managed.response, data.itt), (0, tag))

    def test_cold_reset(self) -> None:
        """A cold reset is answered before it closes the connections."""
        self.begin()
        self.send(self.two)
        self.two.receive()
        self.one.manage(F.TARGET_COLD_RESET)
        self.assertFalse(self.one.connection.over)
        self.one.receive()
        acknowledge(self.one)
        acknowledge(self.two)
        self.assertEqual(kinds(self.one.receive())[0], TaskManagementResponse)
        self.assertTrue(self.one.connection.over and self.two.connection.over)
        # Or closes them all the same when who asked for it has gone.
        self.begin()
        self.send(self.two)
        self.one.manage(F.TARGET_COLD_RESET)
        self.send(self.one, lun=1)
        self.one.connection.disconnected()
        self.assertTrue(self.two.connection.over)
        self.assertFalse(self.session.ordering.immediate)

    def test_logout(self) -> None:
        """A logout is answered after what waits."""
        self.begin()
        self.send(self.two)
        self.one.manage(F.LOGICAL_UNIT_RESET)
        self.send(self.one, lun=1)
        self.assertEqual(self.one.receive(), [])
        self.one.send(
            LogoutRequest(first=0x06 | IMMEDIATE, flags=FINAL, cmd_sn=self.one.cmd_sn)
        )
        self.assertEqual(
            kinds(self.one.receive()),
            [TaskManagementResponse, SCSIResponse, LogoutResponse],
        )
        self.assertTrue(self.one.connection.over)

    def test_logout_of_one(self) -> None:
        """A connection that logs out is not waited for."""
        self.begin()
        self.send(self.two)
        self.one.manage(F.LOGICAL_UNIT_RESET)
        self.one.receive()
        acknowledge(self.one)
        self.two.receive()
        self.assertIsInstance(self.two.logout(1, cid=1), LogoutResponse)
        self.assertEqual(kinds(self.one.receive()), [TaskManagementResponse])

    def test_draining(self) -> None:
        """A target that stops waits for what waits here, and still takes no command."""
        self.begin()
        self.send(self.two)
        self.one.manage(F.ABORT_TASK_SET)
        draining.begin(self.session)
        self.assertFalse(draining.drained([self.session]))
        self.session.settings_changed()
        self.send(self.one)
        self.assertFalse(self.session.tasks)
        self.one.receive()
        self.two.receive()
        acknowledge(self.one)
        acknowledge(self.two)
        self.assertEqual(kinds(self.one.receive())[:1], [TaskManagementResponse])
        self.assertTrue(draining.drained([self.session]))
