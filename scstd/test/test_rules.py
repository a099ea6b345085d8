# SPDX-License-Identifier: MIT
"""
Single sentences of RFC 7143 with a MUST for a target that belong to no larger story: a
test each.  `scstd.test.sections` says where the others are.
"""

from __future__ import annotations

import struct
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.commands import read10, write10
from scstd.protocols.engine.node import TargetSettings
from scstd.protocols.engine.ordering import IMMEDIATE_LIMIT
from scstd.protocols.wire.codes import (
    FINAL,
    RESERVED_TAG,
    RejectReason,
    SNACKType,
)
from scstd.protocols.wire.keys import LOCAL
from scstd.protocols.wire.pdu import (
    R2T,
    AsynchronousMessage,
    DataOut,
    LogoutRequest,
    NOPIn,
    NOPOut,
    Reject,
    SCSICommand,
    SCSIResponse,
    SNACKRequest,
    TaskManagementResponse,
    TextRequest,
    TextResponse,
)
from scstd.test.initiator import Initiator, serve
from scstd.test.stores import ManualStore, memory


def limits(level: int = 0) -> TargetSettings:
    """Return limits with several connections and a level."""
    local = {
        **LOCAL,
        "MaxConnections": 4,
        "DefaultTime2Retain": 20,
        "ErrorRecoveryLevel": level,
    }
    return TargetSettings(local=local)


class Sessions(SynchronousTestCase):
    """
    A session at a store that waits.
    """

    level = 0

    def setUp(self) -> None:
        """Log in."""
        self.store = ManualStore()
        self.limits = limits(self.level)
        self.node, self.target, _units = serve(self.store, memory(), limits=self.limits)
        self.one = Initiator(self.node).ready(
            MaxConnections="4",
            DefaultTime2Wait="0",
            DefaultTime2Retain="20",
            ErrorRecoveryLevel=str(self.level),
        )
        (self.session,) = self.node.sessions()

    def join(self, cid: int) -> Initiator:
        """Return a further connection of the session."""
        more = Initiator(self.node)
        more.cmd_sn, more.itt = self.one.cmd_sn, 1000 * (cid + 1)
        response = more.login(tsih=self.session.tsih, cid=cid)
        self.assertEqual(response.status_class, 0)
        return more

    def start(self, *, immediate: bool = False) -> SCSICommand:
        """Begin a read that waits for the store."""
        pdu = self.one.command(read10(0, 1), read=512, immediate=immediate)
        self.one.send(pdu)
        return pdu

    def function(self, who: Initiator, function: int, tag: int) -> int:
        """Send a function that is answered at once; return the response."""
        who.manage(function, tag=tag)
        response: int = who.one(TaskManagementResponse).response
        return response


class CommandTests(Sessions):
    """
    CmdSN, the window, immediate commands.
    """

    def test_rejected_command_leaves_a_gap(self) -> None:
        """The CmdSN of a rejected command is not taken (section 7.3)."""
        one = self.one
        text = TextRequest(itt=70, data=b"no text")
        wrong: list[Any] = [
            text,
            LogoutRequest(flags=FINAL | 5, itt=71),
            one.login_request([]),
        ]
        wrong[-1].first = 0x03
        for pdu in wrong:
            pdu.cmd_sn = one.cmd_sn
            one.send(pdu)
            reject = one.one(Reject)
            self.assertEqual(reject.reason, RejectReason.PROTOCOL_ERROR)
            self.assertEqual(reject.exp_cmd_sn, one.cmd_sn)
            one.send(NOPOut(itt=72, cmd_sn=one.cmd_sn))
            one.cmd_sn += 1
            self.assertEqual(one.one(NOPIn).exp_cmd_sn, one.cmd_sn)

    def test_rejected_in_its_turn(self) -> None:
        """So it is where the rejected one had waited for its turn."""
        one = self.one
        first, bad, last = one.cmd_sn, one.cmd_sn + 1, one.cmd_sn + 2
        one.send(NOPOut(itt=73, cmd_sn=last))
        one.send(TextRequest(itt=74, cmd_sn=bad, data=b"no text"))
        self.assertEqual(one.receive(), [])
        one.send(NOPOut(itt=75, cmd_sn=first))
        self.assertEqual([type(pdu) for pdu in one.receive()], [NOPIn, Reject])
        one.send(NOPOut(itt=76, cmd_sn=bad))
        self.assertEqual([pdu.itt for pdu in one.receive()], [76, 73])

    def test_rejected_out_of_the_window(self) -> None:
        """Out of the window there is no answer, not even that (section 4.2.2.1)."""
        request = self.one.login_request([])
        request.first = 0x03
        for wrong in (-1, 1000):
            request.cmd_sn = self.one.cmd_sn + wrong
            self.one.send(request)
            self.assertEqual(self.one.receive(), [])

    def test_max_cmd_sn_is_told(self) -> None:
        """A MaxCmdSN that no answer tells is told in a NOP-In (section 11.4.11)."""
        self.limits.queued_commands = 48
        for target in self.node.targets.values():
            target.settings_changed()
        told = self.one.one(NOPIn)
        self.assertEqual((told.itt, told.ttt), (RESERVED_TAG, RESERVED_TAG))
        self.assertEqual(told.max_cmd_sn, self.session.window.max_cmd_sn)

    def test_room_for_a_function(self) -> None:
        """However many immediate commands are under way, one function more is taken,
        and however many functions, one command more (section 4.2.2.1).
        """
        for _number in range(IMMEDIATE_LIMIT):
            self.start(immediate=True)
        self.start(immediate=True)
        reject = self.one.one(Reject)
        self.assertEqual(reject.reason, RejectReason.TOO_MANY_IMMEDIATE_COMMANDS)
        self.one.manage(2)
        self.assertEqual(self.one.receive(), [])
        self.store.go(1)
        while self.store.calls:
            self.store.go()
        self.one.one(TaskManagementResponse)
        ordering = self.session.ordering
        self.assertEqual((ordering.immediate, ordering.functions), (0, 0))
        self.start()
        for _number in range(IMMEDIATE_LIMIT):
            self.one.manage(2)
        self.one.send(self.one.ping())
        self.one.one(NOPIn)


class DataTests(Sessions):
    """
    Data-Out, Data-In and their numbers.
    """

    def test_lun_of_data_out(self) -> None:
        """Data-Out for an R2T has the LUN of its command (section 4.2.5.3)."""
        pdu = self.one.command(write10(0, 1), write=512, lun=1)
        self.one.send(pdu)
        r2t = self.one.one(R2T)
        self.assertEqual(r2t.lun, pdu.lun)
        (data,) = self.one.data_out(r2t, b"d" * 512)
        data.lun = 0
        self.one.send(data)
        self.assertEqual(self.one.one(Reject).reason, RejectReason.INVALID_PDU_FIELD)
        data.lun = r2t.lun
        self.one.send(data)
        self.assertEqual(self.one.one(SCSIResponse).status, 0)

    def test_exp_data_sn_of_a_write(self) -> None:
        """ExpDataSN counts Data-In: a write's is 0, also if it fails (section 11.4.8)."""
        pdu = self.one.command(write10(0, 1), write=512)
        self.one.send(pdu)
        (data,) = self.one.data_out(self.one.one(R2T), b"d" * 512)
        data.data_sn = 3
        self.one.send(data)
        response = self.one.one(SCSIResponse)
        self.assertEqual((response.status, response.exp_data_sn), (2, 0))

    def test_unsolicited_data_beyond_first_burst(self) -> None:
        """More unsolicited data than FirstBurstLength ends the command (section 13.14)."""
        one = Initiator(self.node, isid=b"\x80\0\0\0\0\2")
        one.ready(FirstBurstLength="512", InitialR2T="No")
        for at_once, after, asc in (
            (1024, 0, b"\x0c\x0c"),
            (512, 512, b"\x0c\x0d"),
            (0, 1024, b"\x0c\x0d"),
        ):
            pdu = one.command(
                write10(0, 4), write=2048, lun=1, data=bytes(at_once), final=not after
            )
            one.send(pdu)
            if after:
                one.send(DataOut(itt=pdu.itt, buffer_offset=at_once, data=bytes(after)))
            response = one.one(SCSIResponse)
            self.assertEqual(response.status, 2)
            self.assertEqual(bytes(response.data)[14:16], asc)

    def test_unsolicited_data_short_of_first_burst(self) -> None:
        """Unsolicited Data-Out brings all that may come unasked, if there is more than
        that; else the rest is asked for (section 11.4.7.2).
        """
        one = Initiator(self.node, isid=b"\x80\0\0\0\0\2")
        one.ready(FirstBurstLength="2048", InitialR2T="No")
        for blocks, at_once, after in ((8, 512, 512), (8, 0, 0), (4, 512, 512)):
            pdu = one.command(
                write10(0, blocks),
                write=blocks * 512,
                lun=1,
                data=bytes(at_once),
                final=False,
            )
            one.send(pdu)
            one.send(DataOut(itt=pdu.itt, buffer_offset=at_once, data=bytes(after)))
            if blocks == 8:
                response = one.one(SCSIResponse)
                self.assertEqual(bytes(response.data)[14:16], b"\x0c\x0d")
            else:
                r2t = one.one(R2T)
                self.assertEqual(r2t.desired_data_transfer_length, 1024)
                one.send(*one.data_out(r2t, bytes(2048)))
                self.assertEqual(one.one(SCSIResponse).status, 0)

    def test_unsolicited_data_short_of_first_burst_with_recovery(self) -> None:
        """At a level that recovers the rest is asked for (appendix D.2.3)."""
        for target in self.node.targets.values():
            local = {**LOCAL, "ErrorRecoveryLevel": 1}
            target.settings.local = local
        one = Initiator(self.node, isid=b"\x80\0\0\0\0\2")
        one.ready(FirstBurstLength="2048", InitialR2T="No", ErrorRecoveryLevel="1")
        pdu = one.command(write10(0, 8), write=4096, lun=1, final=False)
        one.send(pdu, DataOut(itt=pdu.itt, data=bytes(512)))
        self.assertEqual(one.one(R2T).buffer_offset, 512)

    def test_immediate_data_beyond_first_burst(self) -> None:
        """So does more of it with the command, even if that is all there is."""
        one = Initiator(self.node, isid=b"\x80\0\0\0\0\2")
        one.ready(FirstBurstLength="512")
        for blocks, status in ((1, 0), (2, 2)):
            data = b"z" * (blocks * 512)
            one.send(one.command(write10(0, blocks), write=len(data), lun=1, data=data))
            response = one.one(SCSIResponse)
            self.assertEqual(response.status, status)
            self.assertEqual(bytes(response.data)[14:16], b"\x0c\x0c"[:status])

    def test_format_error(self) -> None:
        """A format error ends every connection of the session (section 7.7)."""
        two = self.join(1)
        self.one.feed(struct.pack(">BBxxI40x", 0x01, 0x80, 0xFFFFFF))
        self.assertEqual(self.one.one(Reject).reason, RejectReason.PROTOCOL_ERROR)
        self.assertTrue(self.one.connection.over)
        self.assertTrue(two.connection.over)
        self.assertEqual(self.node.sessions(), [])

    def test_connection_lost(self) -> None:
        """A lost connection is told of on another (section 7.1.4.3)."""
        two = self.join(7)
        two.connection.disconnected()
        message = self.one.one(AsynchronousMessage)
        self.assertEqual((message.async_event, message.parameter1), (2, 7))

    def test_words(self) -> None:
        """A Data-In that is not the last of its sequence has whole words (section
        11.7.7).
        """
        for digest in ("None", "CRC32C"):
            one = Initiator(self.node, isid=b"\x80\0\0\0\0\2")
            one.ready(
                MaxRecvDataSegmentLength="513", MaxBurstLength="1023", DataDigest=digest
            )
            one.send(one.command(read10(0, 4), read=2048, lun=1))
            found = one.receive()
            lengths = [len(pdu.data) for pdu in found]
            self.assertEqual(lengths, [512, 511, 512, 511, 2])
            self.assertEqual([pdu.flags >> 7 for pdu in found], [0, 1, 0, 1, 1])

    def test_no_data(self) -> None:
        """A Data-Out without data is no error (section 11.7.7)."""
        pdu = self.one.command(write10(0, 1), write=512, lun=1)
        self.one.send(pdu)
        r2t = self.one.one(R2T)
        (data,) = self.one.data_out(r2t, b"d" * 512)
        data.data_sn = 1
        empty = DataOut(flags=0, lun=r2t.lun, itt=r2t.itt, ttt=r2t.ttt)
        self.one.send(empty, data)
        self.assertEqual(self.one.one(SCSIResponse).status, 0)

    def test_time_to_reassign(self) -> None:
        """A lost connection's Time2Retain is for how long it is kept (section 11.9.1)."""
        for kept in (20, 7, 0):
            self.limits.local = {**self.limits.local, "DefaultTime2Retain": kept}
            two = self.join(7)
            two.connection.disconnected()
            message = self.one.one(AsynchronousMessage)
            self.assertEqual((message.parameter2, message.parameter3), (0, kept))

    def test_reserved_fields(self) -> None:
        """Where there is no Target Transfer Tag the LUN field is reserved, and 0
        (sections 11.11.4 and 11.19.3).
        """
        ping = self.one.ping()
        ping.lun = 1 << 48
        text = self.one.text(("X-scstd.test", "1"), lun=1 << 48)
        for pdu in (ping, text):
            self.one.send(pdu)
            (answer,) = self.one.receive()
            self.assertEqual((answer.ttt, answer.lun), (RESERVED_TAG, 0))
        text = self.one.text(("X-scstd.test", "1"), lun=1 << 48, flags=0)
        self.one.send(text)
        answer = self.one.one(TextResponse)
        self.assertNotEqual(answer.ttt, RESERVED_TAG)
        self.assertEqual(answer.lun, 1 << 48)

    def test_reserved_attribute(self) -> None:
        """A reserved task attribute is a protocol error (section 11); what comes with it
        is dropped, and its CmdSN is not taken.
        """
        one = Initiator(self.node, isid=b"\x80\0\0\0\0\2")
        one.ready(InitialR2T="No", iSCSIProtocolLevel="2")
        for attribute in (5, 6, 7):
            pdu = one.command(
                write10(0, 2), write=1024, lun=1, attribute=attribute, final=False
            )
            one.send(pdu)
            reject = one.one(Reject)
            self.assertEqual(reject.reason, RejectReason.PROTOCOL_ERROR)
            self.assertEqual(reject.exp_cmd_sn, pdu.cmd_sn)
            one.send(DataOut(itt=pdu.itt, data=bytes(1024)))
            self.assertEqual(one.receive(), [])
            one.cmd_sn -= 1
        self.assertEqual(one.do(read10(0, 1), read=512, lun=1).status, 0)

    def test_isid(self) -> None:
        """An ISID of the reserved format is refused (section 11.12.5)."""
        one = Initiator(self.node, isid=b"\xc0\0\0\0\0\2")
        response = one.login()
        self.assertEqual((response.status_class, response.status_detail), (2, 0))


class SNACKTests(Sessions):
    """
    Runs of a SNACK.
    """

    level = 1

    def snack(self, kind: SNACKType, **fields: int) -> list[Any]:
        """Send one that acknowledges nothing; return what comes."""
        pdu = SNACKRequest(flags=FINAL | kind, itt=RESERVED_TAG)
        pdu.exp_stat_sn = self.known
        for name, value in fields.items():
            setattr(pdu, name, value)
        self.one.send(pdu)
        return self.one.receive()

    def read(self) -> tuple[SCSICommand, list[Any]]:
        """Read sixteen segments in sequences of four."""
        self.known = self.one.exp_stat_sn
        pdu = self.one.command(read10(0, 16), read=8192, lun=1)
        self.one.send(pdu)
        return pdu, self.one.receive()

    known = 0

    def setUp(self) -> None:
        """Have short segments."""
        super().setUp()
        parameters = self.one.connection.parameters
        parameters.max_xmit_data_segment_length = 512
        parameters.max_burst_length = 2048
        parameters.settle()

    def test_all_data(self) -> None:
        """BegRun and RunLength 0: all that is not acknowledged (section 11.16)."""
        pdu, found = self.read()
        self.assertEqual(len(found), 16)
        for acknowledged in (4, 16):
            self.assertEqual(
                self.snack(
                    SNACKType.DATA_ACK, begin_run=acknowledged, ttt=found[3].ttt
                ),
                [],
            )
            again = self.snack(SNACKType.DATA, itt=pdu.itt)
            numbers = [one.data_sn for one in again]
            self.assertEqual(numbers, list(range(acknowledged, 16)))

    def test_all_statuses(self) -> None:
        """So it is with statuses, whatever their numbers."""
        self.known = self.one.exp_stat_sn
        self.assertEqual(self.snack(SNACKType.STATUS), [])
        _pdu, found = self.read()
        more = self.one.command(bytes(6), lun=1)
        more.exp_stat_sn = self.known
        self.one.send(more)
        self.one.target_side.take()
        again = self.snack(SNACKType.STATUS)
        known = found[-1].stat_sn
        self.assertEqual([one.stat_sn for one in again], [known, known + 1])

    def test_wrong_r_data(self) -> None:
        """R-Data has a tag, and no run (sections 11.16.5 to 11.16.7)."""
        pdu, _found = self.read()
        for ttt, begin, length in (
            (0, 0, 0),
            (RESERVED_TAG, 0, 0),
            (7, 1, 0),
            (7, 0, 1),
        ):
            (reject,) = self.snack(
                SNACKType.R_DATA,
                itt=pdu.itt,
                ttt=ttt,
                begin_run=begin,
                run_length=length,
            )
            self.assertEqual(reject.reason, RejectReason.INVALID_PDU_FIELD)

    def test_never_sent(self) -> None:
        """A run that was not sent is a protocol error; the Reject tells which number is
        the next one (sections 11.16 and 11.17.2).
        """
        pdu, _found = self.read()
        for begin, length in ((0, 17), (16, 1), (15, 2), (16, 0)):
            (reject,) = self.snack(
                SNACKType.DATA, itt=pdu.itt, begin_run=begin, run_length=length
            )
            self.assertEqual(reject.reason, RejectReason.PROTOCOL_ERROR)
            self.assertEqual(reject.data_sn, 16)
        pdu = self.one.command(write10(0, 1), write=512, lun=1)
        self.one.send(pdu)
        self.one.one(R2T)
        for begin, length in ((0, 2), (1, 1), (2, 0)):
            (reject,) = self.snack(
                SNACKType.DATA, itt=pdu.itt, begin_run=begin, run_length=length
            )
            self.assertEqual(reject.reason, RejectReason.PROTOCOL_ERROR)
            self.assertEqual(reject.data_sn, 1)
