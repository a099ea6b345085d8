# SPDX-License-Identifier: MIT
"""
Tests for `scstd.protocols.engine.session`, `writes`, `transfer` and `response`: data and tasks.
"""

from __future__ import annotations

import errno
import struct

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.commands import read10, write10
from scstd.protocols.engine import writes
from scstd.protocols.engine.node import TargetSettings
from scstd.protocols.wire.codes import FINAL, RESERVED_TAG, STATUS
from scstd.protocols.wire.pdu import (
    R2T,
    DataIn,
    DataOut,
    Reject,
    SCSIResponse,
    TaskManagementResponse,
)
from scstd.test.generating import examples
from scstd.test.initiator import INITIATOR, Initiator, serve
from scstd.test.stores import ManualStore, memory

PATTERN = bytes(range(256)) * 1024
OVERFLOW, UNDERFLOW = 4, 2


class WriteTests(SynchronousTestCase):
    """
    Data-Out: immediate, unsolicited, asked for.
    """

    def ready(self, **keys: str) -> Initiator:
        """Return an initiator that is logged in with these keys."""
        self.store = memory()
        node, _target, _units = serve(self.store)
        return Initiator(node).ready(**keys)

    def test_only_asked_for(self) -> None:
        """Without immediate data all of it is asked for, in bursts."""
        one = self.ready(
            ImmediateData="No", MaxBurstLength="8192", MaxOutstandingR2T="3"
        )
        pdu = one.command(write10(0, 80), write=40960)
        one.send(pdu)
        found = one.receive()
        self.assertEqual([type(r2t) for r2t in found], [R2T] * 3)
        self.assertEqual([r2t.buffer_offset for r2t in found], [0, 8192, 16384])
        self.assertEqual([r2t.r2t_sn for r2t in found], [0, 1, 2])
        self.assertEqual(len({r2t.ttt for r2t in found}), 3)
        for r2t in found:
            one.send(*one.data_out(r2t, PATTERN, 3000))
        for r2t in one.receive():
            one.send(*one.data_out(r2t, PATTERN, 3000))
        response = one.one(SCSIResponse)
        self.assertEqual((response.itt, response.status), (pdu.itt, 0))
        self.assertEqual(response.exp_data_sn, 0)
        self.assertEqual(self.store.read(0, 40960), PATTERN[:40960])

    def test_one_at_a_time(self) -> None:
        """With MaxOutstandingR2T=1, the default, one burst is asked for at a time."""
        one = self.ready(ImmediateData="No", MaxBurstLength="8192")
        one.send(one.command(write10(0, 80), write=40960))
        one.one(R2T)

    def test_unsolicited(self) -> None:
        """Unsolicited data up to FirstBurstLength, the rest asked for."""
        one = self.ready(InitialR2T="No", FirstBurstLength="12288")
        pdu = one.command(write10(0, 64), write=32768, data=PATTERN[:4096], final=False)
        one.send(pdu)
        self.assertEqual(one.receive(), [])
        for number, at in enumerate((4096, 8192)):
            one.send(
                DataOut(
                    flags=FINAL if at == 8192 else 0,
                    itt=pdu.itt,
                    data_sn=number,
                    buffer_offset=at,
                    data=PATTERN[at : at + 4096],
                )
            )
        r2t = one.one(R2T)
        self.assertEqual(
            (r2t.buffer_offset, r2t.desired_data_transfer_length), (12288, 20480)
        )
        one.send(*one.data_out(r2t, PATTERN))
        self.assertEqual(one.finish(pdu).status, 0)
        self.assertEqual(self.store.read(0, 32768), PATTERN[:32768])

    @examples(40)
    @given(
        st.sampled_from(["Yes", "No"]),
        st.sampled_from(["Yes", "No"]),
        st.integers(512, 70000),
        st.integers(512, 70000),
        st.integers(1, 8),
        st.integers(1, 200),
    )
    def test_any_parameters(
        self, r2t: str, immediate: str, first: int, burst: int, most: int, blocks: int
    ) -> None:
        """Whatever was agreed on, what is written is what is there."""
        one = self.ready(
            InitialR2T=r2t,
            ImmediateData=immediate,
            FirstBurstLength=str(first),
            MaxBurstLength=str(burst),
            MaxOutstandingR2T=str(most),
        )
        data = PATTERN[: blocks * 512]
        self.assertEqual(one.do(write10(3, blocks), data=data).status, 0)
        self.assertEqual(self.store.read(3 * 512, len(data)), data)

    def test_too_much(self) -> None:
        """More unsolicited data than FirstBurstLength ends the command, not more."""
        one = self.ready(InitialR2T="No", FirstBurstLength="512")
        done = self.unsolicited(one, at=512, data_sn=0, length=1024)
        self.assertEqual((done.status, one_sense(done)), (2, (0xB, 0x0C0D)))
        self.assertEqual(self.store.read(0, 1024), bytes(1024))

    def unsolicited(
        self, one: Initiator, at: int, data_sn: int, length: int
    ) -> SCSIResponse:
        """Send a write with 512 immediate bytes and one odd Data-Out."""
        pdu = one.command(write10(0, 4), write=2048, data=PATTERN[:512], final=False)
        one.send(pdu)
        one.send(
            DataOut(itt=pdu.itt, data_sn=data_sn, buffer_offset=at, data=bytes(length))
        )
        response: SCSIResponse = one.one(SCSIResponse)
        return response

    def test_wrong_order(self) -> None:
        """Data-Out with a wrong DataSN or offset ends the command."""
        for at, data_sn in ((1024, 0), (512, 1)):
            one = self.ready(InitialR2T="No", FirstBurstLength="2048")
            done = self.unsolicited(one, at, data_sn, 512)
            self.assertEqual((done.status, one_sense(done)), (2, (0xB, 0x4705)))
            self.assertEqual(one.do(read10(0, 1), read=512).data, bytes(512))

    def test_burst_too_short(self) -> None:
        """An answer to an R2T that stops too early ends the command."""
        one = self.ready(ImmediateData="No")
        one.send(one.command(write10(0, 4), write=2048))
        r2t = one.one(R2T)
        one.send(DataOut(itt=r2t.itt, ttt=r2t.ttt, data=bytes(512)))
        done = one.one(SCSIResponse)
        self.assertEqual(one_sense(done), (0xB, 0x0C0D))

    def test_not_agreed(self) -> None:
        """Immediate or unsolicited data that was not agreed on ends the command."""
        one = self.ready(ImmediateData="No")
        one.send(one.command(write10(0, 1), write=512, data=bytes(512)))
        self.assertEqual(one_sense(one.one(SCSIResponse)), (0xB, 0x0C0C))
        one = self.ready(InitialR2T="Yes")
        pdu = one.command(write10(0, 1), write=512, final=False)
        one.send(pdu)
        one.send(DataOut(itt=pdu.itt, data=bytes(512)))
        self.assertEqual(one_sense(one.one(SCSIResponse)), (0xB, 0x0C0C))

    def test_data_for_a_read(self) -> None:
        """Data with a command that writes nothing ends the command."""
        one = self.ready()
        one.send(one.command(read10(0, 1), read=512, data=bytes(512)))
        self.assertEqual(one_sense(one.one(SCSIResponse)), (0xB, 0x0C0C))

    def test_budget(self) -> None:
        """What a session may hold is bounded: further writes wait for their R2T."""
        self.patch(writes, "WRITE_BUDGET", 100_000)
        store = ManualStore()
        node, _target, _units = serve(store)
        one = Initiator(node).ready(ImmediateData="No", MaxOutstandingR2T="8")
        pdus = [one.command(write10(0, 128), write=65536) for _number in range(3)]
        one.send(*pdus)
        first, second = one.receive()
        self.assertEqual((first.itt, second.itt), (pdus[0].itt, pdus[1].itt))
        one.send(*one.data_out(first, PATTERN))
        store.go()
        found = one.receive()
        self.assertEqual([type(pdu) for pdu in found], [R2T, SCSIResponse])
        self.assertEqual(found[0].itt, pdus[2].itt)


def one_sense(response: SCSIResponse) -> tuple[int, int]:
    """Return sense key and additional sense code of a response."""
    sense = bytes(response.data)[2:]
    return sense[2] & 0xF, int.from_bytes(sense[12:14], "big")


class ReadTests(SynchronousTestCase):
    """
    Data-In: cut, ended, counted.
    """

    def ready(self, **keys: str) -> Initiator:
        """Return an initiator at a LUN with the pattern in it."""
        store = memory()
        store.write(0, PATTERN, False)
        node, _target, _units = serve(store)
        return Initiator(node).ready(**keys)

    def test_cut(self) -> None:
        """Data-In is cut at the initiator's limit and at MaxBurstLength."""
        one = self.ready(MaxRecvDataSegmentLength="3072", MaxBurstLength="8192")
        one.send(one.command(read10(0, 40), read=20480))
        found = one.receive()
        self.assertTrue(all(isinstance(pdu, DataIn) for pdu in found))
        self.assertEqual(b"".join(bytes(pdu.data) for pdu in found), PATTERN[:20480])
        self.assertEqual([pdu.data_sn for pdu in found], list(range(len(found))))
        ends = [pdu.buffer_offset + len(pdu.data) for pdu in found if pdu.flags & FINAL]
        self.assertEqual(ends, [8192, 16384, 20480])
        self.assertEqual(
            [bool(pdu.flags & STATUS) for pdu in found][-2:], [False, True]
        )

    def test_residuals(self) -> None:
        """Expected and actual lengths that differ give a residual count."""
        one = self.ready()
        for blocks, expected, flag, residual in (
            (2, 1024, 0, 0),
            (2, 2048, UNDERFLOW, 1024),
            (2, 512, OVERFLOW, 512),
            (2, 300, OVERFLOW, 724),
            (0, 512, UNDERFLOW, 512),
        ):
            done = one.do(read10(0, blocks), read=expected)
            self.assertEqual(
                (done.status, done.flags, done.residual), (0, flag, residual)
            )
            self.assertEqual(done.data, PATTERN[: min(blocks * 512, expected)])

    def test_write_residuals(self) -> None:
        """The same for a write."""
        one = self.ready()
        for blocks, expected, flag, residual in (
            (2, 2048, UNDERFLOW, 1024),
            (4, 1024, OVERFLOW, 1024),
            (0, 512, UNDERFLOW, 512),
        ):
            done = one.do(write10(0, blocks), data=b"x" * expected)
            self.assertEqual(
                (done.status, done.flags, done.residual), (0, flag, residual)
            )
        self.assertEqual(
            one.do(read10(0, 4), read=2048).data, b"x" * 1024 + PATTERN[1024:2048]
        )

    def test_part_of_a_block(self) -> None:
        """A write of a part of a block is refused, and writes nothing of it."""
        one = self.ready()
        verified = b"\x2e" + write10(0, 2)[1:]
        for cdb in (write10(0, 2), verified):
            for expected in (200, 700):
                done = one.do(cdb, data=b"x" * expected)
                self.assertEqual(
                    (done.status, done.key, done.asc), (2, 5, 0x0E03), expected
                )
                self.assertEqual(
                    (done.flags, done.residual), (OVERFLOW, 1024 - expected)
                )
        self.assertEqual(one.do(read10(0, 2), read=1024).data, PATTERN[:1024])

    def test_no_read_bit(self) -> None:
        """A command that reads without the R bit says how much there was."""
        one = self.ready()
        done = one.do(read10(0, 1))
        self.assertEqual((done.data, done.flags, done.residual), (b"", OVERFLOW, 512))

    def test_error_residual(self) -> None:
        """A command that fails moved nothing."""
        one = self.ready()
        done = one.do(read10(0xFFFFFFF0, 1), read=512)
        self.assertEqual((done.status, done.flags, done.residual), (2, UNDERFLOW, 512))
        self.assertEqual((done.key, done.asc), (5, 0x2100))


class TaskManagementTests(SynchronousTestCase):
    """
    Functions that answer only when the affected tasks can no longer touch data.
    """

    def setUp(self) -> None:
        """Log in twice to a store that waits."""
        self.store = ManualStore()
        self.limits = TargetSettings()
        self.node, _target, (self.unit,) = serve(self.store, limits=self.limits)
        self.one = Initiator(self.node).ready()
        self.other = Initiator(self.node, name=INITIATOR + "2").ready()

    def start(self, who: Initiator) -> int:
        """Start a read; return its tag."""
        pdu = who.command(read10(0, 1), read=512)
        who.send(pdu)
        return pdu.itt

    def test_abort_task(self) -> None:
        """ABORT TASK waits for the store; the task is never answered."""
        tag = self.start(self.one)
        self.one.manage(1, tag=tag)
        self.assertEqual(self.one.receive(), [])
        self.store.go()
        self.assertEqual(self.one.one(TaskManagementResponse).response, 0)

    def test_abort_unknown(self) -> None:
        """ABORT TASK of a task that is over: task does not exist."""
        self.one.manage(1, tag=99, ref_cmd_sn=self.one.cmd_sn - 3)
        self.assertEqual(self.one.one(TaskManagementResponse).response, 1)

    def test_abort_on_its_way(self) -> None:
        """ABORT TASK of a command that has not arrived: it counts as arrived."""
        lost = self.one.command(read10(0, 1), read=512)
        self.one.manage(1, tag=lost.itt, ref_cmd_sn=lost.cmd_sn)
        self.assertEqual(self.one.one(TaskManagementResponse).response, 0)
        self.one.send(lost)
        self.assertEqual(self.store.calls, [])
        self.start(self.one)
        self.assertEqual(len(self.store.calls), 1)

    def test_abort_during_data(self) -> None:
        """A write aborted while its data is on the way drops what still comes."""
        pdu = self.one.command(write10(0, 32), write=16384)
        self.one.send(pdu)
        r2t = self.one.one(R2T)
        self.one.manage(1, tag=pdu.itt)
        self.assertEqual(self.one.one(TaskManagementResponse).response, 0)
        self.one.send(*self.one.data_out(r2t, PATTERN))
        self.assertEqual(self.one.receive(), [])
        self.assertEqual(self.store.calls, [])

    def test_abort_task_set(self) -> None:
        """ABORT TASK SET aborts the nexus's own tasks, and no other's."""
        self.start(self.one)
        self.start(self.one)
        theirs = self.start(self.other)
        self.one.manage(2)
        self.store.go(2)
        self.assertEqual(self.one.one(TaskManagementResponse).response, 0)
        self.store.go()
        self.assertEqual(self.other.one(DataIn).itt, theirs)

    def test_lun_reset(self) -> None:
        """LOGICAL UNIT RESET aborts all tasks and tells everybody."""
        self.start(self.one)
        self.start(self.other)
        self.one.manage(5)
        self.store.go()
        self.assertEqual(self.one.receive(), [])
        self.store.go()
        self.assertEqual(self.one.one(TaskManagementResponse).response, 0)
        self.assertEqual(self.other.receive(), [])
        for who in (self.one, self.other):
            done = who.do(bytes(6))
            self.assertEqual((done.key, done.asc), (6, 0x2903))
            self.assertEqual(who.do(bytes(6)).status, 0)

    def test_task_aborted_status(self) -> None:
        """With TAS=1 the tasks of others end with TASK ABORTED."""
        self.unit.task_aborted_status = True
        self.start(self.one)
        theirs = self.start(self.other)
        self.one.manage(5)
        self.store.go(2)
        answer = self.other.one(SCSIResponse)
        self.assertEqual((answer.itt, answer.status), (theirs, 0x40))
        self.one.one(TaskManagementResponse)

    def test_warm_reset(self) -> None:
        """TARGET WARM RESET resets every logical unit."""
        self.start(self.other)
        self.one.manage(6)
        self.store.go()
        self.assertEqual(self.one.one(TaskManagementResponse).response, 0)
        self.assertEqual(self.other.do(bytes(6)).asc, 0x2903)

    def test_cold_reset(self) -> None:
        """TARGET COLD RESET closes every connection of the target, after its answer."""
        self.one.manage(7)
        self.assertEqual(self.one.one(TaskManagementResponse).response, 0)
        self.assertTrue(self.one.connection.over)
        self.assertTrue(self.other.connection.over)

    def test_refused(self) -> None:
        """Functions that are not there, and LUNs that are not."""
        for function, lun, expected in (
            (3, 7, 2),
            (8, 0, 4),
            (9, 0, 5),
            (77, 0, 5),
            (5, 7, 2),
            (2, 7, 2),
        ):
            self.one.manage(function, lun=lun)
            answer = self.one.one(TaskManagementResponse)
            self.assertEqual(answer.response, expected, function)

    def test_waits_for_order(self) -> None:
        """A function waits for the commands that were sent before it."""
        late = self.one.command(read10(0, 1), read=512)
        self.one.manage(2)
        self.assertEqual(self.one.receive(), [])
        self.one.send(late)
        self.store.go()
        self.assertEqual(self.one.one(TaskManagementResponse).response, 0)

    def test_store_fails(self) -> None:
        """An error of the store is sense data, and the session goes on."""
        self.start(self.one)
        self.store.fail(OSError(errno.EIO, "broken"))
        self.assertEqual(one_sense(self.one.one(SCSIResponse)), (3, 0x1100))
        self.start(self.one)
        self.store.fail(RuntimeError("a defect"))
        self.assertEqual(one_sense(self.one.one(SCSIResponse)), (4, 0x4400))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_extended_cdb(self) -> None:
        """An Extended CDB in an AHS belongs to the CDB: READ(32)."""
        node, _target, _units = serve(self.store, long_cdbs=True)
        self.one = Initiator(node).ready()
        cdb = struct.pack(">B6xBHxxQ8xI", 0x7F, 24, 9, 5, 1)
        pdu = self.one.command(cdb[:16], read=512)
        pdu.ahs = bytes((0, 17, 1, 0)) + cdb[16:]
        self.one.send(pdu)
        self.store.inner.write(5 * 512, b"5" * 512, False)
        self.store.go()
        self.assertEqual(bytes(self.one.one(DataIn).data), b"5" * 512)
        self.one.send(self.one.command(cdb[:16], read=512))
        self.assertEqual(one_sense(self.one.one(SCSIResponse)), (5, 0x2400))

    def test_reserved_tags(self) -> None:
        """Target Transfer Tags are never the reserved one."""
        session = self.one.connection.session
        assert session is not None
        session.writes._ttt = RESERVED_TAG - 2
        self.assertEqual(session.writes.next_ttt(), RESERVED_TAG - 1)
        self.assertEqual(session.writes.next_ttt(), 0)

    def test_reject_keeps_window(self) -> None:
        """A rejected duplicate takes no place in the window, and its CmdSN is to be
        used again (RFC 7143 section 7.3).
        """
        for _number in range(40):
            first = self.one.command(read10(0, 1), read=512)
            again = self.one.command(read10(0, 1), read=512)
            again.itt = first.itt
            self.one.send(first, again)
            self.assertEqual(self.one.one(Reject).exp_cmd_sn, again.cmd_sn)
            self.one.cmd_sn = again.cmd_sn
            self.store.go()
            self.one.one(DataIn)
