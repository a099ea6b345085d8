# SPDX-License-Identifier: MIT
"""
Tests for `scstd.protocols.engine.fast_abort`: TaskReporting=FastAbort (RFC 7143 section
4.2.3.4).
"""

from __future__ import annotations

from scstd.initiator.commands import write10
from scstd.protocols.wire.codes import FINAL, IMMEDIATE, RESERVED_TAG, AsyncEvent
from scstd.protocols.wire.codes import TaskManagementCode as F
from scstd.protocols.wire.pdu import (
    R2T,
    AsynchronousMessage,
    NOPIn,
    Reject,
    SCSIResponse,
    TaskManagementRequest,
    TaskManagementResponse,
)
from scstd.test.initiator import INITIATOR, Initiator, serve
from scstd.test.stores import ManualStore
from scstd.test.test_connections import limits
from scstd.test.test_fencing import Bench, acknowledge, kinds


class FastAbortTests(Bench):
    """
    Tasks of others, and of other connections, that a function aborts.
    """

    def message(self, who: Initiator) -> AsynchronousMessage:
        """Return the message that has come, and nothing else."""
        message: AsynchronousMessage = who.one(AsynchronousMessage)
        self.assertEqual(message.async_event, AsyncEvent.TASK_TERMINATION)
        return message

    def rejected(self, who: Initiator, r2t: R2T) -> bool:
        """Send Data-Out for an R2T; say whether it is rejected, not dropped."""
        who.send(who.data_out(r2t, bytes(4096), 512)[0])
        found = who.receive()
        self.assertIn(kinds(found), ([], [Reject]))
        return bool(found)

    def other(
        self, reporting: str = "FastAbort", function: int = F.CLEAR_TASK_SET
    ) -> None:
        """Have another initiator abort everything."""
        other = Initiator(self.node, name=INITIATOR + "2").ready(
            TaskReporting=reporting
        )
        other.manage(function)
        self.assertEqual(other.one(TaskManagementResponse).response, 0)

    def test_third_party(self) -> None:
        """
        Each connection with affected tasks is told; their tags are valid until it has
        acknowledged.
        """
        self.begin("FastAbort")
        r2t = self.collect(self.two)
        self.other("RFC3720")
        self.assertEqual(self.one.receive(), [])
        before = self.two.exp_stat_sn
        message = self.message(self.two)
        self.assertEqual((message.stat_sn, message.lun), (before, 0))
        self.assertFalse(self.rejected(self.two, r2t))
        acknowledge(self.two, lun=1 << 48)
        acknowledge(self.two, ttt=5)
        self.two.exp_stat_sn -= 1
        acknowledge(self.two)
        self.two.exp_stat_sn += 1
        acknowledge(self.one)
        self.assertFalse(self.rejected(self.two, r2t))
        acknowledge(self.two)
        self.assertFalse(self.session.writes.abandoned)
        self.assertFalse(self.session.terminations)
        self.assertTrue(self.rejected(self.two, r2t))

    def test_completed_before(self) -> None:
        """Data-Out that comes to its end before the acknowledgment is no trouble."""
        self.begin("FastAbort")
        r2t = self.collect(self.two)
        self.other()
        self.message(self.two)
        self.two.send(*self.two.data_out(r2t, bytes(4096)))
        self.assertEqual(self.two.receive(), [])
        acknowledge(self.two)
        self.assertFalse(self.session.writes.abandoned)

    def test_unsolicited(self) -> None:
        """Data that nobody asked for is not covered by a message about tags."""
        self.begin("FastAbort", InitialR2T="No")
        pdu = self.two.command(write10(0, 8), write=4096, final=False)
        self.two.send(pdu)
        self.other()
        self.message(self.two)
        acknowledge(self.two)
        self.assertEqual(self.session.writes.abandoned, {pdu.itt: {RESERVED_TAG}})

    def test_no_tasks(self) -> None:
        """Who has nothing to be aborted hears nothing but the unit attention."""
        self.begin("FastAbort")
        self.other(function=F.LOGICAL_UNIT_RESET)
        self.assertEqual(self.one.receive() + self.two.receive(), [])

    def test_not_agreed_on(self) -> None:
        """A session without FastAbort is never told so; its tags stay valid."""
        for reporting in ("RFC3720", "ResponseFence"):
            self.begin(reporting)
            r2t = self.collect(self.two)
            self.other()
            self.assertEqual(self.two.receive(), [])
            self.assertFalse(self.rejected(self.two, r2t))

    def test_own_connections(self) -> None:
        """The connection that asks is not told; another one of its session is."""
        self.begin("FastAbort")
        self.collect(self.one)
        self.two.cmd_sn = self.one.cmd_sn
        self.collect(self.two)
        self.one.cmd_sn = self.two.cmd_sn
        self.one.manage(F.ABORT_TASK_SET)
        (message,) = self.two.receive()[:1]
        self.assertEqual(message.async_event, AsyncEvent.TASK_TERMINATION)
        self.assertEqual(kinds(self.one.receive()), [], "it is fenced")
        acknowledge(self.two)
        self.assertEqual(kinds(self.one.receive())[:1], [TaskManagementResponse])

    def test_several_luns(self) -> None:
        """A target reset sends one message for each LUN on each connection."""
        self.begin("FastAbort")
        self.collect(self.one)
        self.collect(self.one)
        self.collect(self.one, lun=1)
        self.other(function=F.TARGET_WARM_RESET)
        found = self.one.receive()
        self.assertEqual([pdu.lun >> 48 for pdu in found], [0, 1])
        acknowledge(self.one, lun=1 << 48)
        self.assertEqual(len(self.session.terminations), 1)
        self.assertEqual(len(self.session.writes.abandoned), 2)
        acknowledge(self.one)
        self.assertFalse(self.session.writes.abandoned)

    def test_lun_as_it_was_named(self) -> None:
        """The message names the LUN as the tasks did (flat space addressing)."""
        self.begin("FastAbort")
        pdu = self.one.command(write10(0, 8), write=4096)
        pdu.lun = 0x4000 << 48
        self.one.send(pdu)
        self.one.one(R2T)
        self.other()
        self.assertEqual(self.message(self.one).lun, 0x4000 << 48)

    def test_next_response_is_fenced(self) -> None:
        """The first response after it is fenced, whatever it says."""
        self.begin("FastAbort")
        self.units[0].task_aborted_status = True
        self.collect(self.two)
        self.other()
        told, message = self.two.receive()
        self.assertEqual(told.status, 0x40)
        self.assertIsInstance(message, AsynchronousMessage)
        tag = self.send(self.one)
        self.assertEqual(self.one.receive(), [])
        acknowledge(self.two)
        response, ping = self.one.receive()
        self.assertEqual((response.itt, response.status), (tag, 0))
        self.assertIsInstance(ping, NOPIn)
        acknowledge(self.one)
        self.send(self.two)
        self.two.receive()
        self.send(self.one)
        self.assertEqual(kinds(self.one.receive()), [SCSIResponse])

    def test_separate_task_sets(self) -> None:
        """With TST=1 CLEAR TASK SET is about nobody else."""
        store = ManualStore()
        self.node, _target, _units = serve(store, limits=limits(), tst=1)
        one = Initiator(self.node).ready(TaskReporting="FastAbort")
        self.collect(one)
        self.other()
        self.assertEqual(one.receive(), [])

    def test_connection_goes(self) -> None:
        """What a connection owed is forgotten with it; who is gone is not told."""
        self.begin("FastAbort")
        self.collect(self.two)
        self.other()
        self.assertEqual(len(self.session.terminations), 1)
        self.two.connection.disconnected()
        self.assertFalse(self.session.terminations)

    def test_function_that_waited(self) -> None:
        """Who is told is decided when the function is carried out, not when it came."""
        self.begin("FastAbort")
        late = TaskManagementRequest(
            first=0x02 | IMMEDIATE,
            flags=FINAL | F.ABORT_TASK_SET,
            itt=900,
            cmd_sn=self.one.cmd_sn + 1,
        )
        self.one.send(late)
        self.assertEqual(self.one.receive(), [])
        pdu = self.two.command(write10(0, 8), write=4096)
        self.two.send(pdu)
        self.assertEqual(kinds(self.two.receive()), [R2T, AsynchronousMessage, NOPIn])
