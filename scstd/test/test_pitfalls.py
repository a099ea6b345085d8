# SPDX-License-Identifier: MIT
"""
What other targets got wrong, one test each: logins, sequences, digests, task management.

A test's name and sentence say the mistake; where it has a number in a tracker, that is
there too.  What needs several connections, recovery, or real initiators is in
`test_connections`, `test_recovery` and `test_real_initiators`.
"""

from __future__ import annotations

import struct
from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.commands import read10, write10
from scstd.protocols.engine.node import TargetSettings
from scstd.protocols.iscsi_server import ISCSITargetFactory
from scstd.protocols.wire.codes import RejectReason
from scstd.protocols.wire.pdu import (
    R2T,
    DataIn,
    DataOut,
    NOPIn,
    Reject,
    SCSIResponse,
)
from scstd.scsi.device import open_disk
from scstd.test.initiator import INITIATOR, TARGET, Initiator, corrupted, serve
from scstd.test.stores import memory

NAMES = [("InitiatorName", INITIATOR), ("TargetName", TARGET)]


PATTERN = bytes(range(256)) * 256


def sense_of(response: SCSIResponse) -> tuple[int, int]:
    """Return sense key and additional sense code."""
    sense = bytes(response.data)[2:]
    return sense[2] & 0xF, int.from_bytes(sense[12:14], "big")


class LoginPitfallTests(SynchronousTestCase):
    """
    Logins and sessions.
    """

    def setUp(self) -> None:
        """Make a node."""
        self.limits = TargetSettings()
        self.node, self.target, _units = serve(memory(), limits=self.limits)

    def test_unknown_key(self) -> None:
        """A misspelt key is NotUnderstood, and so is an extension (spdk#2416)."""
        one = Initiator(self.node)
        keys: dict[str, Any] = {"ImmediateDataa": "Yes", "X-org.example": "1"}
        one.login(**keys)
        self.assertEqual(one.keys["ImmediateDataa"], "NotUnderstood")
        self.assertEqual(one.keys["X-org.example"], "NotUnderstood")

    def test_irrelevant_or_reject_as_a_value(self) -> None:
        """A value that is no value of the key is rejected, and the key stays as it was;
        an answer that is offered as a value ends the login, with a status.
        """
        for value in ("Irrelevant", "Reject", "NotUnderstood"):
            one = Initiator(self.node)
            response = one.login(InitialR2T=value)
            self.assertEqual((response.status_class, response.status_detail), (2, 0))
        for value in ("Maybe", ""):
            one = Initiator(self.node)
            response = one.login(InitialR2T=value)
            self.assertEqual(response.status_class, 0)
            self.assertEqual(one.keys["InitialR2T"], "Reject")
            self.assertTrue(one.connection.parameters.initial_r2t)

    def test_name_repeated(self) -> None:
        """InitiatorName in each request of a login does no harm (libiscsi#196)."""
        one = Initiator(self.node)
        for flags in (0x00, 0x81, 0x87):
            one.send(one.login_request(NAMES, flags=flags))
            self.assertEqual(one.receive()[0].status_class, 0)
        self.assertEqual(len(self.node.sessions()), 1)

    def test_another_name_in_the_same_login(self) -> None:
        """A name that changes within a login is an error with a status."""
        one = Initiator(self.node)
        one.send(one.login_request(NAMES, flags=0x00))
        one.send(one.login_request([("InitiatorName", INITIATOR + "2")], flags=0x81))
        self.assertEqual(one.receive()[-1].status_class, 2)

    def test_no_session_type(self) -> None:
        """Without SessionType it is a normal session (iscsi-osx#84)."""
        one = Initiator(self.node)
        one.send(one.login_request(NAMES))
        self.assertEqual(one.receive()[0].status_class, 0)
        self.assertEqual(len(self.node.sessions()), 1)

    def test_login_loop_of_a_dead_initiator(self) -> None:
        """A login takes a session over that its initiator has lost; it is not refused."""
        first = Initiator(self.node).ready()
        for _again in range(3):
            again = Initiator(self.node)
            self.assertEqual(again.login().status_class, 0)
            self.assertTrue(first.connection.over)
            first = again
        self.assertEqual(len(self.node.sessions()), 1)

    def test_two_hosts_with_one_name(self) -> None:
        """Two hosts that take each other's session over are logged (rancher/os#2446)."""
        told: list[str] = []
        self.node.report = lambda _name, /, **fields: told.append(str(fields))
        for _again in range(3):
            Initiator(self.node).login()
        told = [one for one in told if "its initiator logged in again" in one]
        self.assertEqual(len(told), 2)

    def test_invalid_next_stage(self) -> None:
        """The T bit with a stage that there is not, or backwards, is refused."""
        for flags in (0x82, 0x86, 0x84, 0x85, 0x80):
            one = Initiator(self.node)
            one.send(one.login_request(NAMES, flags=flags))
            self.assertEqual(one.receive()[0].status_class, 2, hex(flags))

    def test_half_open_connections(self) -> None:
        """Connections on which nobody logs in are bounded: the oldest ones go."""
        self.node.max_connections = 2
        factory = ISCSITargetFactory(self.node, Clock())
        transports = [StringTransport() for _one in range(5)]
        for one in transports:
            factory.buildProtocol(one.getPeer()).makeConnection(one)
        gone = [one.disconnected for one in transports]
        self.assertEqual(gone, [True, True, True, False, False])

    def test_target_removed_during_login(self) -> None:
        """A target that goes while a login is under way: 0204h, no session."""
        one = Initiator(self.node)
        one.send(one.login_request(NAMES, flags=0x00))
        one.receive()
        del self.node.targets[TARGET]
        one.send(one.login_request([], flags=0x83))
        response = one.receive()[0]
        self.assertEqual((response.status_class, response.status_detail), (2, 4))

    def test_lun_added_later(self) -> None:
        """Without a LUN a target is not there; with one that came later it is."""
        del self.target.luns[0]
        response = Initiator(self.node).login()
        self.assertEqual((response.status_class, response.status_detail), (2, 3))
        self.target.add_lun(0, open_disk("late", memory()))
        self.assertEqual(Initiator(self.node).login().status_class, 0)

    def test_nop_during_login(self) -> None:
        """A ping during the login is refused with 020Bh."""
        one = Initiator(self.node)
        one.send(one.login_request(NAMES, flags=0x00))
        one.receive()
        one.send(one.ping())
        response = one.receive()[0]
        self.assertEqual((response.status_class, response.status_detail), (2, 0x0B))


class SequencePitfallTests(SynchronousTestCase):
    """
    CmdSN, DataSN, R2Ts, residuals, lengths.
    """

    def setUp(self) -> None:
        """Log in."""
        self.store = memory()
        self.node, _target, _units = serve(self.store)
        self.one = Initiator(self.node).ready(InitialR2T="No", FirstBurstLength="8192")

    def test_cmd_sn_too_low_or_too_high(self) -> None:
        """CmdSN outside the window: no answer, no close (libiscsi#342, spdk#2416)."""
        for wrong in (-1, -1000, 32, 1000, 1 << 31):
            pdu = self.one.command(write10(0, 1), write=512, data=b"x" * 512)
            self.one.cmd_sn = pdu.cmd_sn
            pdu.cmd_sn = (pdu.cmd_sn + wrong) & 0xFFFFFFFF
            self.one.send(pdu)
            self.assertEqual(self.one.receive(), [], wrong)
            self.assertEqual(self.one.connection.ordering.held, {}, wrong)
        self.assertEqual(self.one.do(read10(0, 1), read=512).data, bytes(512))

    def test_immediate_is_not_counted(self) -> None:
        """An immediate command does not take a CmdSN."""
        before = self.one.connection.window.exp_cmd_sn
        self.one.send(self.one.command(bytes(6), immediate=True))
        self.assertEqual(self.one.one(SCSIResponse).exp_cmd_sn, before)

    def solicited(self, **fields: Any) -> SCSIResponse:
        """Write 4 KiB with an answer to the R2T that is wrong in some field."""
        pdu = self.one.command(write10(0, 8), write=4096)
        self.one.send(pdu)
        r2t = self.one.one(R2T)
        (data,) = self.one.data_out(r2t, PATTERN)
        for name, value in fields.items():
            setattr(data, name, value)
        self.one.send(data)
        response: SCSIResponse = self.one.one(SCSIResponse)
        return response

    def test_invalid_data_sn(self) -> None:
        """A wrong DataSN ends the command, and nothing hangs (openebs#1319)."""
        for data_sn in (1, 27, 0xFFFFFFFF):
            response = self.solicited(data_sn=data_sn)
            self.assertEqual((response.status, sense_of(response)), (2, (0xB, 0x4705)))
            self.assertEqual(self.one.do(bytes(6)).status, 0)

    def test_offset_beyond_the_buffer(self) -> None:
        """A buffer offset beyond what was asked for writes nothing."""
        for offset in (512, 4096, 0xFFFFFE00):
            self.assertEqual(self.solicited(buffer_offset=offset).status, 2)
        self.assertEqual(self.store.read(0, 16384), bytes(16384))

    def test_more_than_the_r2t_asked_for(self) -> None:
        """More data than an R2T asked for ends the command (spdk#1098)."""
        response = self.solicited(data=bytes(8192))
        self.assertEqual((response.status, sense_of(response)), (2, (0xB, 0x0C0D)))
        self.assertEqual(self.store.read(0, 8192), bytes(8192))

    def test_unknown_transfer_tag(self) -> None:
        """Data-Out with a tag that nobody gave out is rejected (spdk#788)."""
        pdu = self.one.command(write10(0, 8), write=4096)
        self.one.send(pdu)
        r2t = self.one.one(R2T)
        self.one.send(DataOut(itt=pdu.itt, ttt=r2t.ttt + 7, data=bytes(512)))
        self.assertEqual(self.one.one(Reject).reason, RejectReason.INVALID_PDU_FIELD)
        self.one.send(*self.one.data_out(r2t, PATTERN))
        self.assertEqual(self.one.one(SCSIResponse).status, 0)

    def test_first_burst_edge(self) -> None:
        """34 blocks: 8 KiB immediate, the rest asked for (spdk#405); no residual."""
        pdu = self.one.command(write10(0, 34), write=34 * 512, data=PATTERN[:8192])
        self.one.send(pdu)
        r2t = self.one.one(R2T)
        self.assertEqual(
            (r2t.buffer_offset, r2t.desired_data_transfer_length), (8192, 9216)
        )
        self.one.send(*self.one.data_out(r2t, PATTERN))
        response = self.one.one(SCSIResponse)
        self.assertEqual((response.status, response.flags & 6), (0, 0))
        self.assertEqual(self.store.read(0, 17408), PATTERN[:17408])

    def test_expected_length_of_zero(self) -> None:
        """A read that expects nothing, or less than there is, gets no more, and is told
        how much there was.
        """
        done = self.one.do(read10(0, 4))
        self.assertEqual(
            (done.status, done.data, done.flags, done.residual), (0, b"", 4, 2048)
        )
        for expected, data in ((0, b""), (512, bytes(512))):
            pdu = self.one.command(read10(0, 4), read=512)
            pdu.expected_data_transfer_length = expected
            self.one.send(pdu)
            (answer,) = self.one.receive()
            self.assertEqual((answer.flags & 6, bytes(answer.data)), (4, data))
            self.assertEqual(answer.residual_count, 2048 - expected)

    def test_overflow_writes_no_more_than_expected(self) -> None:
        """A CDB for more than is expected writes what is expected, no byte more."""
        done = self.one.do(write10(0, 8), data=b"w" * 1024)
        self.assertEqual((done.flags, done.residual), (4, 3072))
        self.assertEqual(self.store.read(0, 2048), b"w" * 1024 + bytes(1024))

    def test_duplicate_tag(self) -> None:
        """A tag that is in use is rejected, and its task is not harmed (open-iscsi#56)."""
        pdu = self.one.command(write10(0, 8), write=4096)
        self.one.send(pdu)
        r2t = self.one.one(R2T)
        again = self.one.command(write10(64, 8), write=4096)
        again.itt = pdu.itt
        self.one.send(again)
        self.assertEqual(self.one.one(Reject).reason, RejectReason.TASK_IN_PROGRESS)
        self.one.send(*self.one.data_out(r2t, PATTERN))
        self.assertEqual(self.one.one(SCSIResponse).status, 0)
        self.assertEqual(self.store.read(0, 4096), PATTERN[:4096])

    def test_echo_is_limited(self) -> None:
        """An echo is no longer than the initiator takes."""
        one = Initiator(self.node, isid=b"\x80\0\0\0\0\2")
        one.ready(MaxRecvDataSegmentLength="512")
        one.send(one.ping(bytes(4096)))
        self.assertEqual(len(one.one(NOPIn).data), 512)

    def test_limits_of_both_directions(self) -> None:
        """What is sent fits the initiator's limit, what is received ours."""
        one = Initiator(self.node, isid=b"\x80\0\0\0\0\2")
        one.ready(MaxRecvDataSegmentLength="512")
        one.send(one.command(read10(0, 4), read=2048))
        self.assertEqual([len(pdu.data) for pdu in one.receive()], [512] * 4)
        self.assertEqual(one.do(write10(0, 16), data=PATTERN[:8192]).status, 0)

    def test_sequence_is_no_longer_than_max_burst(self) -> None:
        """A Data-In sequence is as long as MaxBurstLength, whatever fits a segment."""
        for digest in ("None", "CRC32C"):
            one = Initiator(self.node, isid=b"\x80\0\0\0\0\2")
            one.ready(
                MaxRecvDataSegmentLength="65536",
                MaxBurstLength="1024",
                DataDigest=digest,
            )
            one.send(one.command(read10(0, 5), read=2560))
            found = one.receive()
            self.assertEqual([len(pdu.data) for pdu in found], [1024, 1024, 512])
            self.assertEqual([pdu.flags for pdu in found], [0x80, 0x80, 0x81])

    def test_oversized_segment(self) -> None:
        """A length that is refused costs no memory for what it announces, and is told of
        by its own header.
        """
        ping = self.one.encode(self.one.ping())
        self.one.feed(ping + struct.pack(">BBxxI40x", 0x01, 0x80, 0xFFFFFF))
        _pong, reject = self.one.receive()
        self.assertEqual(reject.reason, RejectReason.PROTOCOL_ERROR)
        self.assertEqual(bytes(reject.data)[:8], b"\1\x80\0\0\0\xff\xff\xff")
        self.assertLessEqual(self.one.connection.framer.buffered, 48)

    def test_header_segments(self) -> None:
        """An AHS of a reserved type is a protocol error, whatever its length (RFC 7143
        section 11), told by the whole header (section 11.17.4); and the next PDU is
        found.
        """
        for ahs in (bytes((0, 5, 63, 0)) + bytes(4), bytes((0, 1, 63, 0))):
            pdu = self.one.command(read10(0, 1), read=512)
            pdu.ahs = ahs
            self.one.send(pdu)
            reject = self.one.one(Reject)
            self.assertEqual(reject.reason, RejectReason.PROTOCOL_ERROR)
            self.assertEqual(bytes(reject.data)[48:], ahs)
            self.one.cmd_sn -= 1
            self.one.send(self.one.command(read10(0, 1), read=512))
            self.assertEqual(len(self.one.one(DataIn).data), 512)


class DigestPitfallTests(SynchronousTestCase):
    """
    CRC32C in every place.
    """

    def setUp(self) -> None:
        """Log in with both digests."""
        self.store = memory()
        self.node, _target, _units = serve(self.store)
        self.one = Initiator(self.node)
        self.one.login(HeaderDigest="CRC32C", DataDigest="CRC32C")

    def test_from_the_first_pdu_on(self) -> None:
        """The login's last response has no digest, the PDU after it has."""
        # The initiator's framer has taken the response without, and takes this with.
        self.one.send(self.one.ping(b"abc"))
        self.assertEqual(self.one.one(NOPIn).data, b"abc")

    def test_padding(self) -> None:
        """The padding belongs to the data digest: any length of data is taken."""
        for length in range(9):
            self.one.send(self.one.ping(PATTERN[:length]))
            self.assertEqual(bytes(self.one.one(NOPIn).data), PATTERN[:length])

    def test_reject(self) -> None:
        """A Reject has its digests too."""
        self.one.send(DataOut(itt=1, ttt=1, data=bytes(5)))
        self.assertEqual(len(self.one.one(Reject).data), 48)

    def test_header_segments(self) -> None:
        """The header digest covers the AHS."""
        self.one.do(bytes(6))
        pdu = self.one.command(read10(0, 1), read=512)
        pdu.ahs = bytes((0, 5, 63, 0)) + bytes(4)
        self.one.send(pdu)
        self.assertEqual(bytes(self.one.one(Reject).data)[48:], pdu.ahs)
        pdu = self.one.command(read10(0, 1), read=512)
        pdu.ahs = bytes((0, 5, 63, 0)) + bytes(4)
        self.one.feed(corrupted(self.one.encode(pdu), 53))
        self.assertTrue(self.one.connection.over)

    def test_no_digest_for_no_data(self) -> None:
        """A PDU without data has no data digest."""
        self.one.do(bytes(6))
        pdu = self.one.command(bytes(6))
        self.assertEqual(len(self.one.encode(pdu)), 52)
        self.one.send(pdu)
        self.one.one(SCSIResponse)
