# SPDX-License-Identifier: MIT
"""
Tests for error recovery level 2: tasks of a lost connection that are reassigned to
another, or end (RFC 7143 section 7.2.2).
"""

from __future__ import annotations

from typing import Any

from scstd.initiator.commands import read10, write10
from scstd.protocols.wire.codes import (
    FINAL,
    IMMEDIATE,
    RESERVED_TAG,
    STATUS,
)
from scstd.protocols.wire.pdu import (
    R2T,
    AsynchronousMessage,
    DataIn,
    LogoutRequest,
    LogoutResponse,
    NOPIn,
    SCSIResponse,
    TaskManagementRequest,
)
from scstd.protocols.wire.states import ConnectionState
from scstd.test.initiator import Initiator
from scstd.test.levels import PATTERN, Level
from scstd.test.stores import ManualStore
from scstd.test.test_fencing import acknowledge


class ReassignTests(Level):
    """
    Level 2: the tasks of a connection that is gone go on, on another.
    """

    level = "2"

    def make_store(self) -> Any:
        """Return a store that waits."""
        store = ManualStore()
        store.inner.write(0, PATTERN, False)
        return store

    def join(self, cid: int = 1) -> Initiator:
        """Return another connection of the session."""
        more = Initiator(self.node)
        more.cmd_sn, more.itt = self.one.cmd_sn, 1000
        response = more.login(
            tsih=self.session.tsih, cid=cid, MaxRecvDataSegmentLength="1024"
        )
        self.assertEqual(response.status_class, 0)
        return more

    def remove(self, who: Initiator, cid: int = 0) -> int:
        """Log a connection out for recovery; return the response."""
        who.send(
            LogoutRequest(
                first=0x06 | IMMEDIATE,
                flags=FINAL | 2,
                itt=who.next_itt(),
                cid=cid,
                cmd_sn=who.cmd_sn,
            )
        )
        response = who.one(LogoutResponse)
        self.assertEqual(response.time2retain, 20)
        code: int = response.response
        return code

    def reassign(
        self, who: Initiator, tag: int, exp_data_sn: int = 0, *, function: int = 8
    ) -> list[Any]:
        """Send TASK REASSIGN, or another function; return what comes."""
        who.send(
            TaskManagementRequest(
                first=0x02 | IMMEDIATE,
                flags=FINAL | function,
                itt=who.next_itt(),
                referenced_task_tag=tag,
                cmd_sn=who.cmd_sn,
                exp_data_sn=exp_data_sn,
            )
        )
        return who.receive()

    def reassigned_read(self, exp_data_sn: int = 0) -> list[Any]:
        """
        Have a read of 4096 bytes end, and its connection fail; reassign it to another;
        return what comes.
        """
        pdu = self.one.command(read10(0, 8), read=4096)
        self.one.send(pdu)
        self.store.go()
        self.one.connection.disconnected()
        two = self.join()
        self.remove(two)
        return self.reassign(two, pdu.itt, exp_data_sn)

    def test_running(self) -> None:
        """A task that runs is answered on the connection to which it was reassigned."""
        pdu = self.one.command(read10(0, 2), read=1024)
        self.one.send(pdu)
        self.one.connection.disconnected()
        two = self.join()
        self.assertEqual(self.remove(two), 0)
        (response,) = self.reassign(two, pdu.itt)
        self.assertEqual(response.response, 0)
        self.store.go()
        self.assertEqual(bytes(two.one(DataIn).data), PATTERN[:1024])
        self.assertIs(self.one.connection.state, ConnectionState.FREE)
        self.assertEqual(self.session.lost, {})

    def test_over(self) -> None:
        """A task that ended meanwhile, or whose answer was lost, is answered again."""
        response, *data = self.reassigned_read()
        self.assertEqual(response.response, 0)
        self.assertEqual(b"".join(bytes(one.data) for one in data), PATTERN[:4096])
        self.assertTrue(data[-1].flags & STATUS)

    def test_exp_data_sn(self) -> None:
        """Data-In is sent from ExpDataSN on."""
        _response, *data = self.reassigned_read(3)
        self.assertEqual([one.data_sn for one in data], [3])
        self.assertEqual(bytes(data[0].data), PATTERN[3072:4096])

    def test_only_status(self) -> None:
        """When all data is there the status comes alone."""
        _response, status = self.reassigned_read(4)
        self.assertIsInstance(status, SCSIResponse)
        self.assertEqual((status.status, status.exp_data_sn), (0, 4))

    def test_write(self) -> None:
        """A write asks again for what it has not got, on its new connection."""
        pdu = self.one.command(write10(0, 8), write=4096)
        self.one.send(pdu)
        r2t = self.one.one(R2T)
        self.one.send(*self.one.data_out(r2t, PATTERN[::-1], 1024)[:2])
        self.one.connection.disconnected()
        two = self.join()
        self.remove(two)
        response, again = self.reassign(two, pdu.itt)
        self.assertEqual(response.response, 0)
        self.assertEqual(again.buffer_offset, 2048)
        two.send(*two.data_out(again, PATTERN[::-1]))
        self.store.go()
        self.assertEqual(two.one(SCSIResponse).status, 0)
        self.assertEqual(self.store.inner.read(0, 4096), PATTERN[::-1][:4096])

    def test_query(self) -> None:
        """QUERY TASK moves a task whose connection was logged out (RFC 7144 section 6.3)."""
        pdu = self.one.command(read10(0, 2), read=1024)
        self.one.send(pdu)
        self.one.connection.disconnected()
        two = self.join()
        two.connection.parameters.iscsi_protocol_level = 2
        for logged_out in (False, True):
            if logged_out:
                self.remove(two)
            found = self.reassign(two, pdu.itt, function=9)
            self.assertEqual(found[-1].response, 7)
            self.assertEqual(bool(self.session.lost), not logged_out)
        self.store.go()
        self.assertEqual(bytes(two.one(DataIn).data), PATTERN[:1024])

    def test_nexus_reset(self) -> None:
        """
        I_T NEXUS RESET drops every connection of a session, which is not retained (RFC
        7144 section 6.3).
        """
        self.one.connection.parameters.iscsi_protocol_level = 2
        two = self.join()
        found = self.reassign(self.one, RESERVED_TAG, function=11)
        for who in (self.one, two):
            # Its response is fenced.
            acknowledge(who)
            found += self.one.receive()
        self.assertIn(
            (0x22, 0), [(pdu.first, getattr(pdu, "response", 0)) for pdu in found]
        )
        self.assertTrue(self.one.connection.over)
        self.assertTrue(two.connection.over)
        self.assertEqual(self.node.sessions(), [])

    def test_still_allegiant(self) -> None:
        """A task of a connection that is not logged out: still allegiant."""
        pdu = self.one.command(read10(0, 1), read=512)
        self.one.send(pdu)
        two = self.join()
        self.assertEqual(self.reassign(two, pdu.itt)[0].response, 3)
        self.one.connection.disconnected()
        self.assertEqual(two.one(AsynchronousMessage).parameter1, 0)
        self.assertEqual(self.reassign(two, pdu.itt)[0].response, 3)
        self.remove(two)
        self.assertEqual(self.reassign(two, pdu.itt)[0].response, 0)

    def test_no_such_task(self) -> None:
        """A task that there is not does not exist."""
        two = self.join()
        self.assertEqual(self.reassign(two, 4711)[0].response, 1)

    def test_not_at_level_1(self) -> None:
        """Below level 2 reassignment is not supported, nor removal for recovery."""
        one = Initiator(self.node, isid=b"\x80\0\0\0\0\2").ready(ErrorRecoveryLevel="1")
        self.assertEqual(self.reassign(one, 1)[0].response, 4)
        self.assertEqual(one.logout(reason=2).response, 2)

    def test_reinstatement(self) -> None:
        """A login with the same CID logs the old connection out for recovery."""
        pdu = self.one.command(read10(0, 1), read=512)
        self.one.send(pdu)
        again = self.join(cid=0)
        self.assertTrue(self.one.connection.over)
        self.assertEqual(self.reassign(again, pdu.itt)[0].response, 0)
        self.store.go()
        self.assertEqual(again.one(DataIn).itt, pdu.itt)

    def test_own_removal(self) -> None:
        """A connection removes itself for recovery; the session waits for another."""
        pdu = self.one.command(read10(0, 1), read=512)
        self.one.send(pdu)
        self.assertEqual(self.remove(self.one), 0)
        self.assertTrue(self.one.connection.over)
        two = self.join()
        self.assertEqual(self.reassign(two, pdu.itt)[0].response, 0)
        self.store.go()
        two.one(DataIn)

    def test_live_removal(self) -> None:
        """A connection that still works is removed by another, and is closed."""
        two = self.join()
        pdu = self.one.command(read10(0, 1), read=512)
        self.one.send(pdu)
        two.cmd_sn = self.one.cmd_sn
        self.assertEqual(self.remove(two), 0)
        self.assertTrue(self.one.connection.over)
        self.assertEqual(self.reassign(two, pdu.itt)[0].response, 0)

    def test_unknown_cid(self) -> None:
        """A connection that there is not cannot be removed."""
        self.assertEqual(self.remove(self.one, cid=9), 1)

    def test_timed_out(self) -> None:
        """What nobody reassigns in time is terminated."""
        two = self.join()
        pdu = self.one.command(read10(0, 1), read=512)
        self.one.send(pdu)
        two.cmd_sn = self.one.cmd_sn
        self.one.connection.disconnected()
        two.one(AsynchronousMessage)
        self.node.tick(20)
        self.assertEqual(len(self.session.lost), 1)
        self.node.tick(21)
        self.assertEqual(len(self.session.tasks), 1)
        self.store.go()
        self.assertEqual(self.session.tasks, {})
        self.assertIs(self.one.connection.state, ConnectionState.FREE)
        # The window has opened, and nothing else tells that.
        self.assertEqual(two.one(NOPIn).max_cmd_sn, self.session.window.max_cmd_sn)
        self.assertEqual(self.reassign(two, pdu.itt)[0].response, 1)
        done = two.do(bytes(6))
        self.assertEqual((done.key, done.asc), (6, 0x477F))

    def test_session_ends_before(self) -> None:
        """With its session what was kept for a lost connection goes, when its tasks have."""
        two = self.join()
        self.one.send(self.one.command(read10(0, 4), read=2048))
        self.store.go()
        self.one.send(self.one.command(read10(0, 1), read=512))
        self.one.connection.disconnected()
        two.one(AsynchronousMessage)
        self.assertEqual(self.node.unsent.kept, 2048)
        self.session.end("it is over")
        self.assertIs(self.one.connection.state, ConnectionState.CLEANUP_WAIT)
        self.store.go()
        self.assertEqual(self.session.lost, {})
        self.assertIs(self.one.connection.state, ConnectionState.FREE)
        self.assertEqual(self.node.unsent.kept, 0)

    def test_closed_instead(self) -> None:
        """Logging a lost connection out with reason 1 ends its tasks."""
        two = self.join()
        self.one.send(self.one.command(read10(0, 1), read=512))
        two.cmd_sn = self.one.cmd_sn
        self.one.connection.disconnected()
        two.one(AsynchronousMessage)
        two.send(
            LogoutRequest(first=0x46, flags=FINAL | 1, itt=7, cid=0, cmd_sn=two.cmd_sn)
        )
        self.assertEqual(two.receive(), [])
        self.store.go()
        self.assertEqual(two.one(LogoutResponse).response, 0)
        self.assertEqual(self.session.lost, {})
