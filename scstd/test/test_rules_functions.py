# SPDX-License-Identifier: MIT
"""
Rules of RFC 7143 that are tested nowhere else: task management functions, and discovery
sessions.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.commands import read10
from scstd.protocols.wire.codes import (
    FINAL,
    IMMEDIATE,
    RejectReason,
    SNACKType,
)
from scstd.protocols.wire.pdu import (
    AsynchronousMessage,
    DataIn,
    LoginResponse,
    LogoutRequest,
    Reject,
    SNACKRequest,
    TaskManagementRequest,
    TaskManagementResponse,
    TextResponse,
)
from scstd.protocols.wire.text import decode
from scstd.test.initiator import INITIATOR, TARGET, Initiator, serve
from scstd.test.stores import memory
from scstd.test.test_rules import Sessions, limits


class FunctionTests(Sessions):
    """
    Task management.
    """

    level = 2

    def test_abort_out_of_the_window(self) -> None:
        """ABORT TASK of a CmdSN outside the window finds no task, and that CmdSN is not
        kept in mind (section 11.6.1).
        """
        one = self.one
        far = self.session.window.max_cmd_sn + 1
        for ref_cmd_sn, expected in ((far, 1), (one.cmd_sn - 1, 1), (far - 1, 0)):
            request = TaskManagementRequest(
                first=0x02 | IMMEDIATE,
                flags=FINAL | 1,
                itt=one.next_itt(),
                referenced_task_tag=999,
                cmd_sn=far + 5,
                ref_cmd_sn=ref_cmd_sn,
            )
            one.send(request)
            self.assertEqual(one.one(TaskManagementResponse).response, expected)
        self.assertEqual(list(self.session.ordering.held), [far - 1])

    def test_abort_of_a_text(self) -> None:
        """A text negotiation is a task that can be aborted (section 11.5.1)."""
        request = self.one.text(("MaxRecvDataSegmentLength", "1024"), flags=0)
        self.one.send(request)
        ttt = self.one.one(TextResponse).ttt
        self.assertEqual(self.function(self.one, 1, request.itt), 0)
        self.one.send(self.one.text(itt=request.itt, ttt=ttt))
        self.assertEqual(self.one.one(Reject).reason, RejectReason.INVALID_PDU_FIELD)
        parameters = self.one.connection.parameters
        self.assertEqual(parameters.max_xmit_data_segment_length, 8192)

    def test_logout_is_no_task(self) -> None:
        """A logout is neither aborted nor reassigned: function rejected."""
        two = self.join(1)
        two.send(two.command(read10(0, 1), read=512))
        self.one.cmd_sn = two.cmd_sn
        logout = LogoutRequest(
            first=0x06 | IMMEDIATE,
            flags=FINAL | 1,
            itt=self.one.next_itt(),
            cid=1,
            cmd_sn=self.one.cmd_sn,
        )
        self.one.send(logout)
        self.assertEqual(self.one.receive(), [])
        for function in (1, 8):
            self.assertEqual(self.function(self.one, function, logout.itt), 255)
        self.store.go()
        (answer,) = self.one.receive()
        self.assertEqual((answer.itt, answer.response), (logout.itt, 0))
        # The connection is closed with all that belonged to it (section 11.15.4).
        self.assertEqual(answer.time2retain, 0)
        self.assertEqual(self.function(self.one, 8, logout.itt), 1)

    def test_time_to_reassign_after_a_logout(self) -> None:
        """What was removed for recovery is kept for Time2Retain (section 11.15.4)."""
        two = self.join(1)
        self.assertEqual(two.logout(reason=2, cid=0).time2retain, 20)

    def test_abort_of_a_function(self) -> None:
        """A function is not aborted: function rejected (section 11.5.1)."""
        self.start()
        self.one.manage(2)
        waiting = self.one.itt
        self.assertEqual(self.one.receive(), [])
        self.assertEqual(self.function(self.one, 1, waiting), 255)
        self.store.go()
        self.assertEqual(self.one.one(TaskManagementResponse).itt, waiting)

    def test_reassigned_function(self) -> None:
        """Neither a function nor a text is reassigned: function rejected."""
        self.start()
        self.one.manage(2)
        waiting = self.one.itt
        self.assertEqual(self.function(self.one, 8, waiting), 255)
        request = self.one.text(("MaxRecvDataSegmentLength", "1024"))
        request.flags = 0
        self.one.send(request)
        self.one.one(TextResponse)
        self.assertEqual(self.function(self.one, 8, request.itt), 255)

    def lose(self) -> Initiator:
        """Have the connection fail, and logged out; return another."""
        two = self.join(1)
        self.one.connection.disconnected()
        two.one(AsynchronousMessage)
        self.assertEqual(two.logout(reason=2, cid=0).response, 0)
        return two

    def test_immediate_commands_are_lost(self) -> None:
        """Immediate commands do not outlive their connection (section 7.14)."""
        running, kept = self.start(immediate=True), self.start()
        done = self.one.command(bytes(6), immediate=True, lun=1)
        self.one.send(done)
        two = self.lose()
        self.store.go()
        self.assertEqual(self.function(two, 8, running.itt), 1)
        self.assertEqual(self.function(two, 8, done.itt), 1)
        self.assertEqual(self.function(two, 8, kept.itt), 0)
        self.store.go()
        self.assertEqual(two.one(DataIn).itt, kept.itt)

    def test_snack_tag_of_a_reassigned_command(self) -> None:
        """The SNACK Tag of the old connection does not hold (section 7.2.2)."""
        pdu = self.start()
        self.store.go()
        self.one.one(DataIn)
        self.one.send(SNACKRequest(flags=FINAL | SNACKType.R_DATA, itt=pdu.itt, ttt=77))
        self.assertEqual(self.one.receive()[-1].snack_tag, 77)
        two = self.lose()
        request = TaskManagementRequest(
            first=0x02 | IMMEDIATE,
            flags=FINAL | 8,
            itt=two.next_itt(),
            referenced_task_tag=pdu.itt,
            cmd_sn=two.cmd_sn,
        )
        two.send(request)
        self.assertEqual(two.receive()[-1].snack_tag, 0)


class DiscoveryTests(SynchronousTestCase):
    """
    Discovery sessions.
    """

    def setUp(self) -> None:
        """Make a node whose targets have level 2."""
        self.node, _target, _units = serve(memory(), limits=limits(2))
        self.one = Initiator(self.node)

    def test_only_the_session_is_closed(self) -> None:
        """A Logout for another reason is rejected (section 4.3)."""
        self.one.login(None)
        for reason in (1, 2):
            self.assertIsInstance(self.one.logout(reason=reason), Reject)
        self.assertEqual(self.one.logout().response, 0)

    def test_level(self) -> None:
        """ErrorRecoveryLevel is 0, whatever targets have (section 7.4.1)."""
        self.one.login(None, ErrorRecoveryLevel="2")
        self.assertEqual(self.one.keys["ErrorRecoveryLevel"], "0")

    def test_named(self) -> None:
        """Discovery that names a target is told its portal group (section 6.3.1)."""
        self.one.login(None, TargetName=TARGET)
        self.assertEqual(self.one.keys["TargetPortalGroupTag"], "1")
        other = Initiator(self.node)
        other.login(None)
        self.assertNotIn("TargetPortalGroupTag", other.keys)

    def test_reinstatement(self) -> None:
        """A discovery takes the place of the same initiator's, on the same portal, or
        for the same target (section 7.4.2).
        """
        self.one.login(None)
        other = Initiator(self.node, isid=b"\x80\0\0\0\0\2")
        other.login(None)
        elsewhere = Initiator(self.node)
        elsewhere.connection.portal = "127.0.0.2:3260"
        elsewhere.login(None)
        named = Initiator(self.node)
        named.login(None, TargetName=TARGET)
        self.assertFalse(self.one.connection.over)
        again = Initiator(self.node)
        again.login(None)
        self.assertTrue(self.one.connection.over)
        for one in (other, elsewhere, named, again):
            self.assertFalse(one.connection.over)
        Initiator(self.node).login()
        self.assertTrue(named.connection.over)
        self.assertEqual(len(self.node.sessions()), 1)
        Initiator(self.node).login(None, TargetName=TARGET)
        self.assertEqual(len(self.node.sessions()), 1)
        for one in (other, elsewhere, again):
            one.logout()
        self.assertEqual(len(self.node.discoveries), 1)

    def test_no_session_to_join(self) -> None:
        """A TSIH is none of a discovery session's (section 6.3.1)."""
        one = self.one
        names = [("InitiatorName", INITIATOR), ("SessionType", "Discovery")]
        one.send(one.login_request(names, tsih=5))
        response = one.one(LoginResponse)
        self.assertEqual((response.status_class, response.status_detail), (2, 0x0A))
        self.assertEqual(decode(bytes(response.data)), [])
