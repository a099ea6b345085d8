# SPDX-License-Identifier: MIT
"""
Tests for bidirectional commands that wait, and for what is lost of their data and their
answers (RFC 7143 section 7).
"""

from __future__ import annotations

from typing import Any

from scstd.initiator.commands import read10
from scstd.protocols.wire.codes import (
    ACKNOWLEDGE,
    BIDI_UNDERFLOW,
    FINAL,
    UNDERFLOW,
    RejectReason,
    SNACKType,
    TaskManagementCode,
)
from scstd.protocols.wire.pdu import (
    R2T,
    DataIn,
    SCSIResponse,
    SNACKRequest,
    TaskManagementResponse,
)
from scstd.test.initiator import Initiator
from scstd.test.stores import ManualStore
from scstd.test.test_bidirectional import LENGTH, NEW, OLD, XORED, Bench, xdwriteread


class WaitingTests(Bench):
    """
    A bidirectional command at a store that waits.
    """

    kind = ManualStore

    def test_alone(self) -> None:
        """Nothing gets between what it reads and what it writes."""
        self.begin()
        self.one.send(self.command(data=NEW[:LENGTH]))
        pdu = self.one.command(read10(0, 1), read=512)
        self.one.send(pdu)
        self.assertEqual([call[0] for call in self.store.calls], ["read"])
        self.store.go()
        self.assertEqual([call[0] for call in self.store.calls], ["write"])
        self.store.go()
        self.store.go()
        _data, response, read = self.one.receive()
        self.assertEqual(response.status, 0)
        self.assertEqual((read.itt, bytes(read.data)), (pdu.itt, NEW[:512]))

    def test_aborted(self) -> None:
        """One that is aborted between reading and writing writes nothing."""
        self.begin()
        pdu = self.command(data=NEW[:LENGTH])
        self.one.send(pdu)
        self.one.manage(TaskManagementCode.ABORT_TASK, tag=pdu.itt)
        self.assertEqual(self.one.receive(), [])
        self.store.go()
        self.assertFalse(self.store.calls)
        self.assertEqual(self.one.one(TaskManagementResponse).response, 0)
        self.assertEqual(self.on_disk(), OLD[:LENGTH])

    def test_reassigned(self) -> None:
        """At level 2 it is answered on the connection to which it was reassigned."""
        self.begin(
            ErrorRecoveryLevel="2",
            MaxConnections="4",
            DefaultTime2Wait="0",
            DefaultTime2Retain="20",
        )
        session = self.one.connection.session
        assert session is not None
        two = Initiator(self.node)
        two.cmd_sn = self.one.cmd_sn
        two.login(tsih=session.tsih, cid=1)
        two.itt = 1000
        pdu = self.command(data=NEW[:LENGTH])
        self.one.send(pdu)
        self.one.connection.disconnected()
        two.cmd_sn = self.one.cmd_sn
        two.logout(2, cid=0)
        two.manage(TaskManagementCode.TASK_REASSIGN, tag=pdu.itt)
        self.assertEqual(two.one(TaskManagementResponse).response, 0)
        self.store.go()
        self.store.go()
        data, response = two.receive()
        self.assertEqual((data.itt, response.itt), (pdu.itt, pdu.itt))
        self.assertEqual(response.exp_data_sn, 1)


class RecoveryTests(Bench):
    """
    Its Data-In can be asked for again (RFC 7143 section 11.16); *kept* is the StatSN
    that is not acknowledged.
    """

    kept = 0

    def done(self, level: str = "1") -> tuple[list[DataIn], SCSIResponse]:
        """Carry one out at a level that keeps answers: three R2Ts, eight Data-In."""
        self.begin(
            ErrorRecoveryLevel=level,
            MaxBurstLength="3072",
            MaxRecvDataSegmentLength="1024",
            MaxConnections="4",
            DefaultTime2Wait="0",
            DefaultTime2Retain="20",
        )
        self.one.send(self.command(read=LENGTH + 512))
        ins, response = self.finish()
        self.assertEqual([pdu.data_sn for pdu in ins], list(range(3, 11)))
        self.assertEqual(self.joined(ins), XORED[:LENGTH])
        self.assertEqual(response.flags, FINAL | BIDI_UNDERFLOW)
        self.assertEqual(response.bidi_residual_count, 512)
        self.assertEqual(response.exp_data_sn, 8)
        self.kept = response.stat_sn
        return ins, response

    def snack(
        self, kind: int, begin: int = 0, length: int = 0, **more: Any
    ) -> list[Any]:
        """Send a SNACK; return what comes."""
        pdu = SNACKRequest(flags=FINAL | kind, begin_run=begin, run_length=length)
        pdu.exp_stat_sn = self.kept
        for name, value in more.items():
            setattr(pdu, name, value)
        self.one.send(pdu)
        return self.one.receive()

    def test_data(self) -> None:
        """Data-In by its numbers; a run that begins at the R2Ts is Data-In alone."""
        ins, response = self.done()
        itt = response.itt
        for begin, length, first, end in (
            (5, 2, 2, 4),
            (3, 0, 0, 8),
            (10, 1, 7, 8),
            (0, 0, 0, 8),
            (1, 3, 0, 1),
            (0, 3, 0, 0),
            (9, 2, 6, 8),
        ):
            found = self.snack(SNACKType.DATA, begin, length, itt=itt)
            again = [(pdu.data_sn, bytes(pdu.data), pdu.flags) for pdu in found]
            wanted = [(pdu.data_sn, bytes(pdu.data), pdu.flags) for pdu in ins]
            self.assertEqual(again, wanted[first:end])
        for begin, length in ((11, 1), (11, 0), (9, 3)):
            (reject,) = self.snack(SNACKType.DATA, begin, length, itt=itt)
            self.assertEqual(reject.reason, RejectReason.PROTOCOL_ERROR)
            self.assertEqual(reject.data_sn, 11)

    def test_acknowledged(self) -> None:
        """A DataACK speaks of the same numbers."""
        ins, response = self.done()
        asks = [pdu for pdu in ins if pdu.flags & ACKNOWLEDGE]
        self.assertEqual([pdu.data_sn for pdu in asks], [5, 8])
        ttt = asks[0].ttt
        self.assertEqual(self.snack(SNACKType.DATA_ACK, 6, ttt=ttt), [])
        found = self.snack(SNACKType.DATA, 6, itt=response.itt)
        self.assertEqual([pdu.data_sn for pdu in found], [6, 7, 8, 9, 10])
        (reject,) = self.snack(SNACKType.DATA, 5, 1, itt=response.itt)
        self.assertEqual(reject.reason, RejectReason.PROTOCOL_ERROR)
        (reject,) = self.snack(SNACKType.DATA_ACK, 2, ttt=ttt)
        self.assertEqual(reject.reason, RejectReason.INVALID_DATA_ACK)

    def test_status(self) -> None:
        """The response comes again as it was, with both residuals."""
        _ins, response = self.done()
        (again,) = self.snack(SNACKType.STATUS, response.stat_sn, 1)
        self.assertEqual(
            (again.flags, again.stat_sn), (response.flags, response.stat_sn)
        )
        self.assertEqual(again.bidi_residual_count, 512)

    def test_r_data(self) -> None:
        """Cut anew, the Data-In begins with the same number."""
        _ins, response = self.done()
        *found, again = self.snack(SNACKType.R_DATA, itt=response.itt, ttt=77)
        self.assertEqual([pdu.data_sn for pdu in found], list(range(3, 11)))
        self.assertEqual((again.snack_tag, again.exp_data_sn), (77, 8))

    def test_r2t(self) -> None:
        """A lost R2T can be asked for while its data is waited for."""
        self.begin(ErrorRecoveryLevel="1")
        pdu = self.command()
        self.one.send(pdu)
        r2t = self.one.one(R2T)
        (again,) = self.snack(SNACKType.DATA, 0, 1, itt=pdu.itt)
        self.assertEqual((again.r2t_sn, again.ttt), (r2t.r2t_sn, r2t.ttt))
        self.one.send(*self.one.data_out(r2t, NEW))
        ins, response = self.finish()
        self.assertEqual((ins[0].data_sn, response.exp_data_sn), (1, 1))

    def test_lost_data_out(self) -> None:
        """A recovery R2T is numbered, too, before its Data-In."""
        self.begin(ErrorRecoveryLevel="1", ImmediateData="No")
        self.one.send(self.command())
        pdus = self.one.data_out(self.one.one(R2T), NEW, 1024)
        self.one.send(pdus[0], *pdus[2:])
        ins, response = self.finish()
        self.assertEqual([again.r2t_sn for again in self.r2ts], [1])
        self.assertEqual((ins[0].data_sn, response.exp_data_sn), (2, 1))
        self.assertEqual(self.joined(ins), XORED[:LENGTH])

    def test_reassigned(self) -> None:
        """What is missing of its Data-In comes on another connection."""
        _ins, response = self.done("2")
        session = self.one.connection.session
        assert session is not None
        two = Initiator(self.node)
        two.cmd_sn = self.one.cmd_sn
        two.login(tsih=session.tsih, cid=1, MaxRecvDataSegmentLength="1024")
        two.itt = 1000
        self.one.connection.disconnected()
        two.logout(2, cid=0)
        request = TaskManagementCode.TASK_REASSIGN
        two.manage(request, tag=response.itt, exp_data_sn=9)
        managed, *found, again = two.receive()
        self.assertEqual(managed.response, 0)
        self.assertEqual([pdu.data_sn for pdu in found], [9, 10])
        self.assertEqual((again.exp_data_sn, again.bidi_residual_count), (8, 512))

    def test_error(self) -> None:
        """One that fails is answered so at this level, too."""
        self.begin(ErrorRecoveryLevel="1")
        self.one.send(self.command(xdwriteread(self.unit.blocks, 1)))
        _ins, response = self.finish()
        self.assertEqual(self.sense(response), (5, 0x2100))
        self.assertEqual(response.flags, FINAL | UNDERFLOW | BIDI_UNDERFLOW)

    def test_fenced(self) -> None:
        """Behind a fence it waits as others do."""
        self.begin(TaskReporting="ResponseFence", MaxConnections="2")
        session = self.one.connection.session
        assert session is not None
        two = Initiator(self.node)
        two.cmd_sn = self.one.cmd_sn
        two.login(tsih=session.tsih, cid=1)
        self.one.manage(TaskManagementCode.ABORT_TASK_SET)
        self.one.receive()
        self.one.send(self.command(data=NEW[:LENGTH]))
        assert session.fence is not None
        self.assertEqual(len(session.fence.held), 2)
        for who in (self.one, two):
            who.send(who.ping())
            who.receive()
        for who in (self.one, two):
            pdu = who.ping()
            pdu.exp_stat_sn = who.exp_stat_sn
            who.send(pdu)
        found = self.one.receive()
        pdu = self.one.ping()
        pdu.exp_stat_sn = self.one.exp_stat_sn
        self.one.send(pdu)
        found += self.one.receive()
        kinds = [type(pdu) for pdu in found]
        self.assertEqual(kinds.count(DataIn), 1)
        self.assertEqual(kinds.count(SCSIResponse), 1)
