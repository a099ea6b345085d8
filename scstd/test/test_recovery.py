# SPDX-License-Identifier: MIT
"""
Tests for error recovery levels 1 and 2: `scstd.protocols.engine.retransmission`, `snack` and
`write_recovery` (RFC 7143 sections 7 and 11.16), PDU by PDU; then schedules of a bad
link.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.commands import read10, write10
from scstd.protocols.engine import retransmission as recovery_module
from scstd.protocols.wire.codes import (
    ACKNOWLEDGE,
    FINAL,
    RESERVED_TAG,
    STATUS,
    RejectReason,
    SNACKType,
)
from scstd.protocols.wire.pdu import (
    R2T,
    AsynchronousMessage,
    DataOut,
    Reject,
    SCSIResponse,
    SNACKRequest,
    TextRequest,
)
from scstd.test.initiator import Initiator, corrupted
from scstd.test.levels import PATTERN, Level
from scstd.test.schedules import run, shape


class SNACKTests(Level):
    """
    What is asked for again comes again.
    """

    def test_data(self) -> None:
        """A run of Data-In comes again as it was."""
        pdu, first = self.read(8)
        self.assertEqual(len(first), 4)
        again = self.snack(SNACKType.DATA, 1, 2, itt=pdu.itt)
        self.assertEqual([one.data_sn for one in again], [1, 2])
        self.assertEqual(
            [bytes(one.data) for one in again], [bytes(one.data) for one in first[1:3]]
        )

    def test_all_data(self) -> None:
        """RunLength 0 is all from BegRun, with the status that was on the last."""
        pdu, first = self.read(8)
        again = self.snack(SNACKType.DATA, 2, itt=pdu.itt)
        self.assertEqual([one.data_sn for one in again], [2, 3])
        self.assertEqual(again[-1].stat_sn, first[-1].stat_sn)
        self.assertTrue(again[-1].flags & STATUS)

    def test_exact_replica(self) -> None:
        """Only ExpCmdSN and MaxCmdSN are new."""
        pdu, first = self.read(4)
        other = self.one.command(bytes(6))
        other.exp_stat_sn = self.known
        self.one.send(other)
        self.one.receive()
        again = self.snack(SNACKType.DATA, 0, itt=pdu.itt)
        for old, new in zip(first, again, strict=True):
            self.assertEqual(new.exp_cmd_sn, old.exp_cmd_sn + 1)
            new.exp_cmd_sn, new.max_cmd_sn = old.exp_cmd_sn, old.max_cmd_sn
            self.assertEqual(new, old)

    def test_status(self) -> None:
        """A status that was lost comes again, and those after it."""
        self.known = self.one.exp_stat_sn
        for _number in range(3):
            self.one.send(self.one.command(bytes(6)))
        first = self.one.receive()
        self.assertEqual(len(self.snack(SNACKType.STATUS, self.known, 1)), 1)
        again = self.snack(SNACKType.STATUS, self.known)
        self.assertEqual([one.stat_sn for one in again], [one.stat_sn for one in first])
        self.assertEqual([one.itt for one in again], [one.itt for one in first])

    def test_status_with_numbers_of_now(self) -> None:
        """A status that comes again tells ExpCmdSN and MaxCmdSN as they are now."""
        self.known = self.one.exp_stat_sn
        for _number in range(2):
            pdu = self.one.command(bytes(6))
            pdu.exp_stat_sn = self.known
            self.one.send(pdu)
        (again,) = [
            one
            for one in self.snack(SNACKType.STATUS, self.known, 1)
            if one.exp_cmd_sn == self.one.cmd_sn and one.stat_sn == self.known
        ]
        self.assertEqual(again.max_cmd_sn, self.session.window.max_cmd_sn)

    def test_nothing_yet(self) -> None:
        """A SNACK for the status that comes next finds nothing, and that is no error."""
        self.known = self.one.exp_stat_sn
        self.assertEqual(self.snack(SNACKType.STATUS, self.known), [])

    def test_acknowledged_status(self) -> None:
        """A status that ExpStatSN has acknowledged is gone, and its data too."""
        pdu, _first = self.read(8)
        self.assertEqual(len(self.kept.answers), 1)
        self.assertEqual(self.kept.retained, 4096)
        before, self.known = self.known, self.one.exp_stat_sn
        (reject,) = self.snack(SNACKType.DATA, 0, itt=pdu.itt)
        self.assertEqual(reject.reason, RejectReason.PROTOCOL_ERROR)
        self.assertEqual((len(self.kept.answers), self.kept.retained), (0, 0))
        (reject,) = self.snack(SNACKType.STATUS, before)
        self.assertEqual(reject.reason, RejectReason.PROTOCOL_ERROR)

    def test_data_ack(self) -> None:
        """The A bit ends each burst; DataACK moves what can be asked for."""
        pdu, first = self.read(16)
        asks = [one for one in first if one.flags & ACKNOWLEDGE]
        self.assertEqual([one.data_sn for one in asks], [3])
        self.assertNotEqual(asks[0].ttt, RESERVED_TAG)
        self.assertEqual(self.snack(SNACKType.DATA_ACK, 4, ttt=asks[0].ttt), [])
        (reject,) = self.snack(SNACKType.DATA, 3, 1, itt=pdu.itt)
        self.assertEqual(reject.reason, RejectReason.PROTOCOL_ERROR)
        self.assertEqual(len(self.snack(SNACKType.DATA, 4, itt=pdu.itt)), 4)

    def test_wrong_data_ack(self) -> None:
        """A DataACK for more than was sent, or for less than before, is rejected."""
        _pdu, first = self.read(16)
        ttt = first[3].ttt
        (reject,) = self.snack(SNACKType.DATA_ACK, 9, ttt=ttt)
        self.assertEqual(reject.reason, RejectReason.INVALID_DATA_ACK)
        self.snack(SNACKType.DATA_ACK, 4, ttt=ttt)
        (reject,) = self.snack(SNACKType.DATA_ACK, 2, ttt=ttt)
        self.assertEqual(reject.reason, RejectReason.INVALID_DATA_ACK)

    def test_r_data(self) -> None:
        """R-Data cuts anew for a limit that has changed; the status comes apart."""
        pdu, first = self.read(8)
        text = self.one.text(("MaxRecvDataSegmentLength", "512"))
        text.exp_stat_sn = self.known
        self.one.send(text)
        self.one.receive()
        again = self.snack(SNACKType.R_DATA, itt=pdu.itt, ttt=77)
        response = again.pop()
        self.assertEqual([len(one.data) for one in again], [512] * 8)
        self.assertEqual(b"".join(bytes(one.data) for one in again), PATTERN[:4096])
        self.assertEqual(response.snack_tag, 77)
        self.assertEqual(response.stat_sn, first[-1].stat_sn)
        self.assertEqual(response.exp_data_sn, 8)

    def test_unknown_type(self) -> None:
        """A SNACK of a type that there is not is a protocol error."""
        self.one.send(SNACKRequest(flags=FINAL | 7))
        self.assertEqual(self.one.one(Reject).reason, RejectReason.PROTOCOL_ERROR)

    def test_given_up_is_gone(self) -> None:
        """What is given up is not kept alive by its status."""
        self.patch(recovery_module, "RETAINED_BYTES", 10_000)
        self.known = self.one.exp_stat_sn
        for _number in range(4):
            pdu = self.one.command(read10(0, 8), read=4096)
            pdu.exp_stat_sn = self.known
            self.one.send(pdu)
        self.one.receive()
        kept = [data for _header, data, _answer in self.kept.statuses.values()]
        self.assertFalse([one for one in kept if isinstance(one, memoryview)])
        self.assertEqual(self.node.unsent.kept, self.kept.retained)
        self.one.connection.disconnected()
        self.assertEqual(self.node.unsent.kept, 0)

    def test_bounded_for_all(self) -> None:
        """All connections of a node keep no more than so much, and their last answers."""
        self.patch(recovery_module, "NODE_RETAINED", 10_000)
        self.node.unsent.kept += 8000
        self.known = self.one.exp_stat_sn
        for _number in range(3):
            pdu = self.one.command(read10(0, 8), read=4096)
            pdu.exp_stat_sn = self.known
            self.one.send(pdu)
        self.assertEqual(self.kept.retained, 4096)

    def test_echoes_are_bounded(self) -> None:
        """An initiator that acknowledges no echo of its pings is let go at last."""
        self.patch(recovery_module, "MAX_STATUS_BYTES", 10_000)
        connection = self.one.connection
        for number in range(12):
            ping = self.one.ping()
            ping.data = b"p" * 1000
            ping.exp_stat_sn = 0
            self.one.send(ping)
            if number < 3:
                self.assertIsNone(connection.timers.pinged)
            if number == 6:
                self.assertIsNotNone(connection.timers.pinged)
                self.assertFalse(connection.over)
        self.assertTrue(connection.over)

    def test_bounded(self) -> None:
        """Of the data that is kept the oldest goes first; its SNACK is rejected."""
        self.patch(recovery_module, "RETAINED_BYTES", 10_000)
        pdus = []
        self.known = self.one.exp_stat_sn
        for _number in range(4):
            pdus.append(self.one.command(read10(0, 8), read=4096))
            pdus[-1].exp_stat_sn = self.known
            self.one.send(pdus[-1])
        self.one.receive()
        self.assertLessEqual(self.kept.retained, 10_000)
        (reject,) = self.snack(SNACKType.DATA, 0, itt=pdus[0].itt)
        self.assertEqual(reject.reason, RejectReason.SNACK_REJECT)
        # Its status had the last of that data.
        (reject,) = self.snack(SNACKType.STATUS, self.known, 1)
        self.assertEqual(reject.reason, RejectReason.SNACK_REJECT)
        self.assertEqual(len(self.snack(SNACKType.DATA, 0, itt=pdus[3].itt)), 4)

    def test_never_acknowledged(self) -> None:
        """An initiator that acknowledges nothing is pinged, and then let go."""
        self.patch(recovery_module, "MAX_STATUSES", 20)
        known = self.one.exp_stat_sn
        pinged = 0
        for _number in range(25):
            ping = self.one.ping()
            ping.exp_stat_sn = known
            self.one.send(ping)
            found = self.one.receive()
            pinged += sum(one.itt == RESERVED_TAG for one in found)
            if self.one.connection.over:
                break
        self.assertEqual(pinged, 1)
        self.assertTrue(self.one.connection.over)

    def test_snack_at_level_0(self) -> None:
        """At level 0 nothing is kept, and a SNACK is rejected."""
        one = Initiator(self.node, isid=b"\x80\0\0\0\0\2").ready()
        self.assertIsNone(one.connection.recovery)
        one.send(SNACKRequest(flags=FINAL))
        self.assertEqual(one.one(Reject).reason, RejectReason.SNACK_REJECT)


class DataOutTests(Level):
    """
    Data-Out that is lost or damaged.
    """

    def asked(self, blocks: int = 20) -> tuple[Any, R2T]:
        """Begin a write; return the command and its first R2T."""
        pdu = self.one.command(write10(0, blocks), write=blocks * 512)
        self.one.send(pdu)
        return pdu, self.one.one(R2T)

    def send_damaged(self, pdu: DataOut) -> None:
        """Send Data-Out with a byte of its data changed."""
        self.one.feed(corrupted(self.one.encode(pdu), 60))

    def test_damaged(self) -> None:
        """A wrong data digest: Reject, and a recovery R2T for what is missing."""
        pdu, r2t = self.asked(8)
        data = PATTERN[::-1]
        first, second, third, last = self.one.data_out(r2t, data, 1024)
        self.one.send(first)
        self.send_damaged(second)
        self.assertEqual(self.one.one(Reject).reason, RejectReason.DATA_DIGEST_ERROR)
        self.one.send(third, last)
        again = self.one.one(R2T)
        self.assertEqual(
            (again.buffer_offset, again.desired_data_transfer_length), (1024, 3072)
        )
        self.assertEqual(again.r2t_sn, 1)
        self.assertNotEqual(again.ttt, r2t.ttt)
        self.one.send(*self.one.data_out(again, data, 1024))
        self.assertEqual(self.one.finish(pdu).status, 0)
        self.assertEqual(self.store.read(0, 4096), data[:4096])

    def test_lost(self) -> None:
        """A gap in DataSN: a recovery R2T at the end of the sequence."""
        pdu, r2t = self.asked(8)
        pdus = self.one.data_out(r2t, PATTERN[::-1], 1024)
        self.one.send(pdus[0], *pdus[2:])
        again = self.one.one(R2T)
        self.assertEqual(again.buffer_offset, 1024)
        self.one.send(*self.one.data_out(again, PATTERN[::-1], 1024))
        self.assertEqual(self.one.finish(pdu).status, 0)
        self.assertEqual(self.store.read(0, 4096), PATTERN[::-1][:4096])

    def test_last_lost(self) -> None:
        """The end of a sequence never comes: it is asked for again after a while."""
        pdu, r2t = self.asked(8)
        pdus = self.one.data_out(r2t, PATTERN[::-1], 1024)
        self.one.send(*pdus[:3])
        self.one.connection.tick(2)
        self.assertEqual(self.one.receive(), [])
        self.one.connection.tick(4)
        again = self.one.one(R2T)
        self.assertEqual(again.buffer_offset, 3072)
        # What comes for the old one after all is dropped.
        self.one.send(pdus[3])
        self.assertEqual(self.one.receive(), [])
        self.one.send(*self.one.data_out(again, PATTERN[::-1]))
        self.assertEqual(self.one.finish(pdu).status, 0)

    def test_twice(self) -> None:
        """Data-Out that comes twice changes nothing."""
        pdu, r2t = self.asked(8)
        pdus = self.one.data_out(r2t, PATTERN[::-1], 1024)
        self.one.send(pdus[0], pdus[0], pdus[1], pdus[0], *pdus[2:])
        self.assertEqual(self.one.finish(pdu).status, 0)
        self.assertEqual(self.store.read(0, 4096), PATTERN[::-1][:4096])

    def test_r2t_snack(self) -> None:
        """An R2T that was lost comes again as it was; one that is answered does not."""
        pdu, r2t = self.asked(8)
        self.known = self.one.exp_stat_sn
        (again,) = self.snack(SNACKType.DATA, 0, itt=pdu.itt)
        self.assertEqual(again, r2t)
        (reject,) = self.snack(SNACKType.DATA, 9, itt=pdu.itt)
        self.assertEqual(reject.reason, RejectReason.PROTOCOL_ERROR)
        self.one.send(*self.one.data_out(r2t, PATTERN))
        self.assertEqual(self.one.finish(pdu).status, 0)

    def test_r2ts_are_not_counted(self) -> None:
        """ExpDataSN of a write's response is 0, however many R2Ts there were."""
        pdu, r2t = self.asked(20)
        self.assertEqual(r2t.desired_data_transfer_length, 4096)
        for _number in range(2):
            self.one.send(*self.one.data_out(r2t, PATTERN))
            r2t = self.one.one(R2T)
        self.one.send(*self.one.data_out(r2t, PATTERN))
        self.assertEqual(self.one.one(SCSIResponse).exp_data_sn, 0)
        self.assertEqual(self.kept.asked_for, {})
        self.assertNotIn(pdu.itt, self.session.tasks)

    def test_damaged_immediate_data(self) -> None:
        """A command whose data is damaged has not come; it is repeated as it was."""
        pdu = self.one.command(write10(0, 1), write=512, data=b"n" * 512)
        self.send_damaged(pdu)  # type: ignore[arg-type]
        reject = self.one.one(Reject)
        self.assertEqual(reject.reason, RejectReason.DATA_DIGEST_ERROR)
        self.assertEqual(reject.exp_cmd_sn, pdu.cmd_sn)
        self.one.send(pdu)
        self.assertEqual(self.one.one(SCSIResponse).status, 0)
        self.assertEqual(self.store.read(0, 512), b"n" * 512)

    def test_repeated_command(self) -> None:
        """A command that is repeated although it came is ignored."""
        pdu = self.one.command(write10(0, 1), write=512, data=b"n" * 512)
        self.one.send(pdu)
        self.one.one(SCSIResponse)
        self.one.send(pdu)
        self.assertEqual(self.one.receive(), [])

    def test_too_often(self) -> None:
        """Data that never comes whole ends the command, not the session."""
        pdu, r2t = self.asked(2)
        for _try in range(100):
            (data,) = self.one.data_out(r2t, PATTERN)
            self.send_damaged(data)
            found = self.one.receive()
            if isinstance(found[-1], SCSIResponse):
                break
            r2t = found[-1]
        self.assertEqual(found[-1].itt, pdu.itt)
        self.assertEqual(found[-1].status, 2)
        self.assertEqual(self.one.do(read10(0, 1), read=512).data, PATTERN[:512])

    def test_wrong_header_digest(self) -> None:
        """A wrong header digest ends the connection at every level."""
        one = Initiator(self.node, isid=b"\x80\0\0\0\0\2")
        one.ready(HeaderDigest="CRC32C", ErrorRecoveryLevel="1")
        one.feed(corrupted(one.encode(one.command(bytes(6))), 20))
        self.assertTrue(one.connection.over)
        self.assertEqual(one.one(AsynchronousMessage).async_event, 2)

    def test_damaged_text(self) -> None:
        """A PDU without a task whose data is damaged is rejected, and repeated."""
        text = self.one.text(("X-scstd.test", "1"))
        self.send_damaged(text)  # type: ignore[arg-type]
        self.assertEqual(self.one.one(Reject).reason, RejectReason.DATA_DIGEST_ERROR)
        self.assertIsInstance(text, TextRequest)


class ScheduleTests(SynchronousTestCase):
    """
    Blocks written and read back over a link that drops, damages, duplicates and cuts.
    """

    def schedules(self, level: int) -> None:
        """Run 20 schedules of a level; the long run is `make soak`."""
        counts: dict[str, int] = {}
        seeds = [seed for seed in range(60) if shape(seed)[0] == level]
        for seed in seeds:
            outcome = run(seed, *shape(seed), blocks=500)
            self.assertGreaterEqual(outcome.read, 500)
            for name, number in outcome.counts.items():
                counts[name] = counts.get(name, 0) + number
        # The link was bad indeed.
        wanted = (
            ("cut", "header") if not level else ("drop", "damage", "duplicate", "cut")
        )
        for name in wanted:
            self.assertGreater(counts[name], 5, name)
        if level == 2:
            self.assertGreater(counts["reassign"], 20)

    def test_level_0(self) -> None:
        """Level 0: connections are cut, sessions begin anew."""
        self.schedules(0)

    def test_level_1(self) -> None:
        """Level 1: PDUs are lost, damaged and doubled, connections cut."""
        self.schedules(1)

    def test_level_2(self) -> None:
        """Level 2: the same, and tasks move to other connections."""
        self.schedules(2)
