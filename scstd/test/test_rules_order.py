# SPDX-License-Identifier: MIT
"""
Single sentences of RFC 7143 sections 4 and 7 about the order of commands over several
connections, what arrives before its turn, and what task management makes of it: a test
each, beside those of `scstd.test.test_rules`.
"""

from __future__ import annotations

from typing import Any

from scstd.initiator.commands import read10, write10
from scstd.protocols.engine import ordering as ordering_module
from scstd.protocols.engine import retransmission as recovery_module
from scstd.protocols.engine.ordering import IMMEDIATE_LIMIT
from scstd.protocols.wire.codes import FINAL, IMMEDIATE, RejectReason
from scstd.protocols.wire.codes import TaskManagementCode as F
from scstd.protocols.wire.pdu import (
    AsynchronousMessage,
    DataIn,
    DataOut,
    NOPIn,
    Reject,
    SCSICommand,
    SCSIResponse,
    TaskManagementRequest,
    TaskManagementResponse,
)
from scstd.test.initiator import Initiator, corrupted
from scstd.test.test_fencing import acknowledge, kinds
from scstd.test.test_rules import Sessions

DATA = b"d" * 1024


class Pair(Sessions):
    """
    A session of two connections that may send unsolicited data.
    """

    keys: dict[str, str] = {}

    def setUp(self) -> None:
        """Log in twice."""
        super().setUp()
        offered = {
            "MaxConnections": "4",
            "InitialR2T": "No",
            "FirstBurstLength": "1024",
            "DefaultTime2Wait": "0",
            "DefaultTime2Retain": "20",
            "ErrorRecoveryLevel": str(self.level),
            **self.keys,
        }
        self.one = Initiator(self.node).ready(**offered)
        (self.session,) = self.node.sessions()
        self.two = self.join(1)
        checked: Any = self.session.nexus.itls[1].unit.store
        self.disk: Any = checked.inner

    def next(self, who: Initiator, cdb: bytes, **fields: Any) -> SCSICommand:
        """Return a command with the session's next CmdSN."""
        who.cmd_sn = max(self.one.cmd_sn, self.two.cmd_sn)
        pdu = who.command(cdb, **fields)
        self.one.cmd_sn = self.two.cmd_sn = who.cmd_sn
        return pdu

    def announced(self) -> tuple[SCSICommand, SCSICommand]:
        """Return a command for one connection, and a write after it for the other."""
        first = self.next(self.one, bytes(6), lun=1)
        write = self.next(self.two, write10(0, 2), write=1024, lun=1, final=False)
        return first, write

    def settle(self, who: Initiator) -> None:
        """Acknowledge everything on both connections, the fence in between too."""
        for _round in range(2):
            for one in (self.one, self.two):
                one.unread = one.receive()
                acknowledge(one)
        who.unread = [pdu for pdu in who.receive() if type(pdu) is not NOPIn]


class EarlyDataTests(Pair):
    """
    Unsolicited Data-Out of a command that waits for its turn (section 4.2.5.2).
    """

    def written(self) -> bytes:
        """Return what is on the disk."""
        return bytes(self.disk.read(0, 1024))

    def test_data_before_its_turn(self) -> None:
        """It waits with its command, and is written when the turn has come."""
        first, write = self.announced()
        one, other = DATA[:512], DATA[512:]
        self.two.send(
            write,
            DataOut(flags=0, itt=write.itt, data=one),
            DataOut(itt=write.itt, data_sn=1, buffer_offset=512, data=other),
        )
        self.assertEqual(self.two.receive(), [])
        self.one.send(first)
        self.assertEqual(self.two.one(SCSIResponse).status, 0)
        self.assertEqual(self.written(), DATA)
        self.assertFalse(self.session.ordering.early_data_out)

    def test_rest_after_its_turn(self) -> None:
        """What has not come by then comes as ever."""
        first, write = self.announced()
        self.two.send(write, DataOut(flags=0, itt=write.itt, data=DATA[:512]))
        self.one.send(first)
        self.assertEqual(self.two.receive(), [])
        self.two.send(
            DataOut(itt=write.itt, data_sn=1, buffer_offset=512, data=DATA[512:])
        )
        self.assertEqual(self.two.one(SCSIResponse).status, 0)
        self.assertEqual(self.written(), DATA)

    def test_too_much(self) -> None:
        """More of it than FirstBurstLength is not kept, and ends the command."""
        self.patch(ordering_module, "MAX_EARLY_DATA_OUT", 4)
        first, write = self.announced()
        self.two.send(write)
        for number in range(9):
            self.two.send(
                DataOut(
                    flags=0,
                    itt=write.itt,
                    data_sn=number,
                    buffer_offset=1024 * number,
                    data=bytes(1024),
                )
            )
        (there,) = self.session.ordering.early_data_out.values()
        self.assertEqual(len(there.pieces), 2)
        self.two.send(DataOut(itt=write.itt, data_sn=9))
        self.one.send(first)
        response = self.two.one(SCSIResponse)
        self.assertEqual(bytes(response.data)[14:16], b"\x0c\x0c")

    def test_many_pieces(self) -> None:
        """However short its pieces are, no more than so many of them are kept."""
        self.patch(ordering_module, "MAX_EARLY_DATA_OUT", 4)
        first, write = self.announced()
        self.two.send(write)
        for number in range(9):
            self.two.send(DataOut(flags=0, itt=write.itt, data_sn=number))
        (there,) = self.session.ordering.early_data_out.values()
        self.assertEqual(len(there.pieces), 4)
        self.two.send(DataOut(itt=write.itt, data_sn=9, data=DATA))
        self.one.send(first)
        response = self.two.one(SCSIResponse)
        self.assertEqual(bytes(response.data)[14:16], b"\x47\x05")

    def test_after_the_end(self) -> None:
        """What comes after the end of the burst is rejected; so is what is of none."""
        first, write = self.announced()
        last = DataOut(itt=write.itt, data=DATA)
        self.two.send(write, last, last)
        reject = self.two.one(Reject)
        self.assertEqual(reject.reason, RejectReason.INVALID_PDU_FIELD)
        self.one.send(DataOut(itt=write.itt, data=DATA))
        reject = self.one.one(Reject)
        self.assertEqual(reject.reason, RejectReason.INVALID_PDU_FIELD)
        self.one.send(first)
        self.assertEqual(self.two.one(SCSIResponse).status, 0)

    def test_aborted(self) -> None:
        """That of a command which is aborted before its turn is dropped (7.11)."""
        first, write = self.announced()
        self.two.send(write, DataOut(flags=0, itt=write.itt, data=DATA[:512]))
        self.one.cmd_sn = self.two.cmd_sn
        self.two.manage(F.ABORT_TASK, tag=write.itt, ref_cmd_sn=write.cmd_sn)
        self.assertEqual(self.two.one(TaskManagementResponse).response, 0)
        self.two.send(
            DataOut(itt=write.itt, data_sn=1, buffer_offset=512, data=DATA[512:])
        )
        self.one.send(first)
        self.assertEqual(self.two.receive(), [])
        self.assertEqual(self.written(), bytes(1024))
        self.assertFalse(self.session.ordering.early_data_out)

    def test_connection_goes(self) -> None:
        """It goes with its connection."""
        _first, write = self.announced()
        self.two.send(write, DataOut(flags=0, itt=write.itt, data=DATA[:512]))
        self.two.connection.disconnected()
        self.assertFalse(self.session.ordering.early_data_out)


class ScopeTests(Pair):
    """
    Which commands a function is about (sections 4.2.2.1, 4.2.3.3 and 4.6.1.3).
    """

    def late(self, who: Initiator, function: int = F.ABORT_TASK_SET) -> None:
        """Send an immediate function with the session's next CmdSN."""
        who.cmd_sn = max(self.one.cmd_sn, self.two.cmd_sn)
        who.manage(function)

    def test_waits_for_all(self) -> None:
        """A function waits for every command before it, not for the next one alone."""
        first = self.next(self.one, read10(0, 1), read=512)
        second = self.next(self.one, read10(0, 1), read=512)
        self.late(self.two)
        self.one.send(first)
        self.store.go()
        self.assertEqual(self.two.receive(), [])
        self.one.send(second)
        self.store.go()
        self.settle(self.two)
        self.assertEqual(self.two.one(TaskManagementResponse).response, 0)
        self.assertEqual([pdu.itt for pdu in self.one.receive()[:1]], [first.itt])

    def test_before_what_follows(self) -> None:
        """It comes before a command after it that had to wait for the same."""
        first = self.next(self.one, read10(0, 1), read=512)
        self.late(self.two)
        after = self.next(self.two, read10(1, 1), read=512)
        self.two.send(after)
        self.one.send(first)
        self.store.go(2)
        self.settle(self.two)
        answers = [pdu for pdu in self.two.receive() if type(pdu) is DataIn]
        self.assertEqual([pdu.itt for pdu in answers], [after.itt])

    def test_commands_after_it(self) -> None:
        """
        A command that was sent after it, and came before it on another connection, is
        not aborted.
        """
        for function in (F.ABORT_TASK_SET, F.CLEAR_TASK_SET):
            mine = self.next(self.two, read10(0, 1), read=512)
            self.two.send(mine)
            cmd_sn = self.two.cmd_sn
            after = self.next(self.one, read10(1, 1), read=512)
            self.one.send(after)
            self.two.cmd_sn = cmd_sn
            self.two.manage(function)
            self.store.go(2)
            self.settle(self.two)
            (managed,) = [pdu for pdu in self.two.receive() if type(pdu) is not DataIn]
            self.assertIsInstance(managed, TaskManagementResponse)
            answers = [pdu for pdu in self.one.receive() if type(pdu) is DataIn]
            self.assertEqual([pdu.itt for pdu in answers], [after.itt])

    def test_immediate_commands_with_its_number(self) -> None:
        """An immediate command has the number of the next one: it is aborted."""
        pdu = self.two.command(read10(0, 1), read=512, immediate=True)
        self.two.send(pdu)
        self.two.manage(F.ABORT_TASK_SET)
        self.store.go()
        self.settle(self.two)
        self.assertEqual(kinds(self.two.receive()), [TaskManagementResponse])

    def test_abort_out_of_the_window(self) -> None:
        """A RefCmdSN that is not in the window is that of no task (7.11)."""
        number = self.session.window.max_cmd_sn + 1
        self.one.cmd_sn = number + 5
        self.one.manage(F.ABORT_TASK, tag=4711, ref_cmd_sn=number)
        self.assertEqual(self.one.one(TaskManagementResponse).response, 1)
        self.assertFalse(self.session.ordering.held)

    def test_room_on_each_connection(self) -> None:
        """
        However many immediate commands and functions another connection has under way,
        there is room for one of each on this one (section 4.2.2.1).
        """
        for _number in range(IMMEDIATE_LIMIT):
            self.start(immediate=True)
        for _try in range(2):
            self.two.send(self.two.command(read10(0, 1), read=512, immediate=True))
        reject = self.two.one(Reject)
        self.assertEqual(reject.reason, RejectReason.TOO_MANY_IMMEDIATE_COMMANDS)
        self.one.cmd_sn += 1
        for _number in range(IMMEDIATE_LIMIT):
            self.one.manage(F.ABORT_TASK_SET)
        self.two.cmd_sn = self.one.cmd_sn
        for _try in range(2):
            self.two.manage(F.ABORT_TASK_SET)
        reject = self.two.one(Reject)
        self.assertEqual(reject.reason, RejectReason.TOO_MANY_IMMEDIATE_COMMANDS)
        self.two.send(self.two.ping())
        self.assertIsInstance(self.two.one(Reject), Reject)
        ordering = self.session.ordering
        self.assertEqual(ordering.functions, IMMEDIATE_LIMIT + 1)
        self.assertEqual(ordering.immediate, IMMEDIATE_LIMIT + 1)


class DamagedTests(Pair):
    """
    Damaged Data-Out that belongs to nothing (section 7.8).
    """

    keys = {"DataDigest": "CRC32C"}

    def join(self, cid: int) -> Initiator:
        """Return a further connection, with digests too."""
        more = Initiator(self.node)
        more.cmd_sn, more.itt = self.one.cmd_sn, 1000
        more.login(tsih=self.session.tsih, cid=cid, DataDigest="CRC32C")
        return more

    def test_damaged_data_of_an_aborted_task(self) -> None:
        """It is rejected as damaged, whatever else would become of it."""
        pdu = self.one.command(write10(0, 2), write=1024, final=False)
        self.one.send(pdu)
        self.one.manage(F.ABORT_TASK, tag=pdu.itt)
        self.one.one(TaskManagementResponse)
        data = self.one.encode(DataOut(itt=pdu.itt, data=DATA))
        for _time in range(2):
            self.one.feed(corrupted(data, 60))
            reject = self.one.one(Reject)
            self.assertEqual(reject.reason, RejectReason.DATA_DIGEST_ERROR)
        self.assertFalse(self.session.writes.abandoned)

    def test_damaged_before_its_turn(self) -> None:
        """Before the turn of its command, too: then its command fails at level 0."""
        first, write = self.announced()
        self.two.send(write)
        data = self.two.encode(DataOut(itt=write.itt, data=DATA))
        self.two.feed(corrupted(data, 60))
        self.one.send(first)
        reject, response = self.two.receive()
        self.assertEqual(reject.reason, RejectReason.DATA_DIGEST_ERROR)
        self.assertEqual(bytes(reject.data), data[:48])
        self.assertEqual(bytes(response.data)[14:16], b"\x47\x05")


class WaitingTests(Pair):
    """
    A write whose data is damaged at level 0 (section 7.8).
    """

    keys = {"DataDigest": "CRC32C", "MaxOutstandingR2T": "2", "MaxBurstLength": "512"}

    def begin(self) -> list[Any]:
        """Have the first of two bursts damaged; return the R2Ts."""
        self.one.send(self.one.command(write10(0, 2), write=1024, lun=1))
        asked = self.one.receive()
        (data,) = self.one.data_out(asked[0], DATA)
        self.one.feed(corrupted(self.one.encode(data), 60))
        reject = self.one.one(Reject)
        self.assertEqual(reject.reason, RejectReason.DATA_DIGEST_ERROR)
        return asked

    def test_waits_for_the_rest(self) -> None:
        """It fails when everything has come that was asked for, and not before."""
        asked = self.begin()
        self.assertEqual(len(asked), 2)
        self.one.send(*self.one.data_out(asked[1], DATA))
        response = self.one.one(SCSIResponse)
        self.assertEqual(bytes(response.data)[14:16], b"\x47\x05")

    def test_aborted_meanwhile(self) -> None:
        """Or it is aborted before that."""
        asked = self.begin()
        self.one.manage(F.ABORT_TASK, tag=asked[0].itt, lun=1)
        self.assertEqual(self.one.one(TaskManagementResponse).response, 0)
        self.one.send(*self.one.data_out(asked[1], DATA))
        self.assertEqual(self.one.receive(), [])


class ReassignTests(Pair):
    """
    TASK REASSIGN (section 7.2.2).
    """

    level = 2
    keys = {"TaskReporting": "ResponseFence"}

    def reassign(self, tag: int) -> None:
        """Send TASK REASSIGN on the second connection."""
        self.two.send(
            TaskManagementRequest(
                first=0x02 | IMMEDIATE,
                flags=FINAL | F.TASK_REASSIGN,
                itt=self.two.next_itt(),
                referenced_task_tag=tag,
                cmd_sn=self.two.cmd_sn,
            )
        )

    def test_data_was_given_up(self) -> None:
        """A task whose data is not there any more ends all the same, with a status."""
        self.patch(recovery_module, "RETAINED_BYTES", 100)
        old = self.start()
        new = self.start()
        self.store.go(2)
        self.one.connection.disconnected()
        self.two.one(AsynchronousMessage)
        self.two.logout(reason=2, cid=0)
        self.reassign(old.itt)
        managed, response = self.two.receive()
        self.assertEqual((managed.response, response.itt), (0, old.itt))
        self.assertEqual((response.status, response.residual_count), (2, 512))
        self.assertEqual(bytes(response.data)[4] & 0xF, 0xB)
        self.assertEqual(bytes(response.data)[14:16], b"\x11\x13")
        self.assertFalse(self.two.connection.over)
        self.reassign(new.itt)
        self.assertEqual(kinds(self.two.receive()), [TaskManagementResponse, DataIn])

    def test_answer_comes_first(self) -> None:
        """Where the answer has to wait the task goes on after it."""
        three = self.join(2)
        pdu = self.start()
        self.store.go()
        self.one.connection.disconnected()
        self.two.one(AsynchronousMessage)
        self.two.logout(reason=2, cid=0)
        three.cmd_sn = self.two.cmd_sn = self.session.window.exp_cmd_sn
        three.manage(F.ABORT_TASK_SET)
        self.two.receive()
        self.reassign(pdu.itt)
        self.assertEqual(self.two.receive(), [])
        for _round in range(2):
            for one in (self.two, three):
                one.unread = one.receive()
                acknowledge(one)
        found = [pdu for pdu in self.two.receive() if type(pdu) is not NOPIn]
        self.assertEqual(kinds(found), [TaskManagementResponse, DataIn])
