# SPDX-License-Identifier: MIT
"""
Tests for commands that move data in both directions: `scstd.protocols.wire.ahs`,
`scstd.protocols.engine.bidirectional` and `scstd.scsi.sbc.xor`.
"""

from __future__ import annotations

import struct
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from scstd.block.limits import Limits
from scstd.initiator.commands import read10, write10
from scstd.protocols.engine.report import report
from scstd.protocols.engine.response import respond
from scstd.protocols.wire.ahs import (
    Additions,
    AHSError,
    ReservedTypeError,
    additions,
    bidirectional,
)
from scstd.protocols.wire.codes import (
    BIDI_OVERFLOW,
    BIDI_UNDERFLOW,
    FINAL,
    OVERFLOW,
    READ,
    STATUS,
    UNDERFLOW,
    WRITE,
    RejectReason,
)
from scstd.protocols.wire.pdu import (
    R2T,
    DataIn,
    DataOut,
    Reject,
    SCSICommand,
    SCSIResponse,
)
from scstd.scsi.kinds import DISK
from scstd.test.initiator import Initiator, serve
from scstd.test.stores import memory
from scstd.test.test_connections import limits

BLOCKS = 16


LENGTH = BLOCKS * 512


OLD = bytes(range(1, 251)) * 33


NEW = bytes(range(250, 0, -1)) * 33


XORED = bytes(a ^ b for a, b in zip(OLD, NEW, strict=True))


READY = bytes(6)


def xdwriteread(lba: int, blocks: int, flags: int = 0) -> bytes:
    """Return the CDB of an XDWRITEREAD(10)."""
    return struct.pack(">BBIBHB", 0x53, flags, lba, 0, blocks, 0)


class AHSTests(SynchronousTestCase):
    """
    Additional Header Segments.
    """

    def test_known(self) -> None:
        """An Extended CDB and a length, in any order."""
        cdb = b"\0\5\1\0" + b"cdb." + b""
        both = bidirectional(0x12345678)
        self.assertEqual(additions(b""), Additions())
        self.assertEqual(additions(cdb), Additions(b"cdb."))
        self.assertEqual(additions(both), Additions(b"", 0x12345678))
        self.assertEqual(additions(both + cdb), Additions(b"cdb.", 0x12345678))
        # The upper two bits of the type are reserved.
        self.assertEqual(additions(b"\0\5\xc2\0\0\0\0\1"), Additions(b"", 1))
        # Padding is no part of a CDB.
        self.assertEqual(additions(b"\0\2\1\0c\0\0\0"), Additions(b"c"))

    def test_malformed(self) -> None:
        """What is cut off, of a wrong length, or there twice is an error."""
        both = bidirectional(1)
        for wrong in (
            both[:4],
            b"\0\5",
            b"\0\0\2\0",
            b"\0\4\2\0\0\0\0\1",
            b"\0\x09\2\0" + bytes(8),
            both + both,
            b"\0\x05\1\0abcd" * 2,
            # A CDB of 16 bytes needs none.
            b"\0\1\1\0",
        ):
            self.assertRaises(AHSError, additions, wrong)
        for reserved in (0, 7, 63):
            wrong = bytes((0, 2, reserved, 0)) + bytes(4)
            self.assertRaises(ReservedTypeError, additions, wrong)


class Bench(SynchronousTestCase):
    """
    An initiator at a disk with a pattern on it.
    """

    kind: Any = staticmethod(memory)

    def begin(self, settings: dict[str, Any] | None = None, **keys: str) -> None:
        """Log in."""
        self.store = self.kind()
        self.limits = limits(ErrorRecoveryLevel=2)
        self.node, _target, (self.unit,) = serve(
            self.store, limits=self.limits, **(settings or {})
        )
        getattr(self.store, "inner", self.store).write(0, OLD[:LENGTH], False)
        self.one = Initiator(self.node).ready(**keys)

    def command(
        self,
        cdb: bytes = xdwriteread(0, BLOCKS),
        *,
        write: int = LENGTH,
        read: int | None = LENGTH,
        flags: int = READ | WRITE,
        data: bytes = b"",
        final: bool = True,
        ahs: bytes | None = None,
    ) -> SCSICommand:
        """Return a bidirectional command."""
        pdu = self.one.command(cdb, write=write, data=data, final=final)
        pdu.flags = pdu.flags & ~(READ | WRITE) | flags
        pdu.ahs = bidirectional(read) if read is not None else b""
        if ahs is not None:
            pdu.ahs = ahs
        if len(cdb) > 16:
            pdu.cdb = cdb[:16]
            more = cdb[16:]
            pdu.ahs += struct.pack(">HBx", len(more) + 1, 1) + more
        return pdu

    def finish(self, data: bytes = NEW) -> tuple[list[DataIn], SCSIResponse]:
        """Answer R2Ts; return the Data-In PDUs and the response."""
        self.r2ts: list[R2T] = []
        ins: list[DataIn] = []
        while True:
            found = self.one.receive()
            assert found, "the command did not end"
            for pdu in found:
                if isinstance(pdu, R2T):
                    self.assertFalse(ins)
                    self.r2ts.append(pdu)
                    self.one.send(*self.one.data_out(pdu, data))
                elif isinstance(pdu, DataIn):
                    ins.append(pdu)
                else:
                    self.assertIsInstance(pdu, SCSIResponse)
                    return ins, pdu

    def joined(self, ins: list[DataIn]) -> bytes:
        """Return the data of Data-In PDUs, which are in order and have no status."""
        at = 0
        for pdu in ins:
            self.assertEqual(pdu.buffer_offset, at)
            self.assertFalse(pdu.flags & STATUS)
            self.assertEqual((pdu.stat_sn, pdu.residual_count), (0, 0))
            at += len(pdu.data)
        return b"".join(bytes(pdu.data) for pdu in ins)

    def on_disk(self) -> bytes:
        """Return what the disk has."""
        inner = getattr(self.store, "inner", self.store)
        return bytes(inner.read(0, LENGTH))

    def sense(self, response: SCSIResponse) -> tuple[int, int]:
        """Return the sense key and the additional sense code."""
        data = bytes(response.data)
        return data[4] & 15, int.from_bytes(data[14:16], "big")


class WireTests(Bench):
    """
    A bidirectional command on the wire.
    """

    def test_counted(self) -> None:
        """Commands are counted by the direction of their data."""
        self.begin()
        (session,) = self.node.sessions()
        names = [f"{kind}_cmd_count" for kind in ("read", "write", "bidi", "none")]
        before = report(session)
        self.one.do(read10(0, 1), read=512)
        self.one.do(write10(0, 1), data=bytes(512))
        self.one.do(write10(0, 1), data=bytes(512))
        self.one.do(READY)
        self.one.send(self.command())
        self.finish()
        after = report(session)
        self.assertEqual([after[one] - before[one] for one in names], [1, 2, 1, 1])

    def test_immediate_data(self) -> None:
        """Data with the command, Data-In without status, then a response."""
        self.begin()
        self.one.send(self.command(data=NEW[:LENGTH]))
        ins, response = self.finish()
        self.assertEqual(self.joined(ins), XORED[:LENGTH])
        self.assertEqual(self.on_disk(), NEW[:LENGTH])
        self.assertEqual((ins[0].data_sn, ins[0].flags), (0, FINAL))
        self.assertEqual((response.status, response.flags), (0, FINAL))
        self.assertEqual(
            (response.residual_count, response.bidi_residual_count), (0, 0)
        )
        self.assertEqual(response.exp_data_sn, 1)
        # Its StatSN is the next one, and so is that of the command after it.
        self.assertEqual(self.one.do(READY).status, 0)

    def test_one_numbering(self) -> None:
        """R2Ts and Data-In share their numbers, and ExpDataSN counts the latter alone;
        sequences end at MaxBurstLength.
        """
        self.begin(
            MaxBurstLength="3072",
            MaxRecvDataSegmentLength="1024",
            MaxOutstandingR2T="2",
        )
        self.one.send(self.command())
        ins, response = self.finish()
        self.assertEqual([pdu.r2t_sn for pdu in self.r2ts], [0, 1, 2])
        self.assertEqual([pdu.data_sn for pdu in ins], list(range(3, 11)))
        finals = [bool(pdu.flags & FINAL) for pdu in ins]
        self.assertEqual(finals, [False, False, True] * 2 + [False, True])
        self.assertEqual(response.exp_data_sn, 8)
        self.assertEqual(self.joined(ins), XORED[:LENGTH])
        self.assertEqual(self.on_disk(), NEW[:LENGTH])

    def test_digests(self) -> None:
        """With digests, and byte by byte."""
        self.begin(HeaderDigest="CRC32C", DataDigest="CRC32C")
        self.one.byte_by_byte()
        self.one.send(self.command(data=NEW[:1024]))
        ins, response = self.finish()
        self.assertEqual((self.joined(ins), response.status), (XORED[:LENGTH], 0))

    def test_unsolicited(self) -> None:
        """Unsolicited Data-Out counts as in a write."""
        self.begin(InitialR2T="No")
        pdu = self.command(data=NEW[:512], final=False)
        rest = DataOut(itt=pdu.itt, buffer_offset=512, data=NEW[512:LENGTH])
        self.one.send(pdu, rest)
        ins, response = self.finish()
        self.assertEqual((self.joined(ins), response.status), (XORED[:LENGTH], 0))

    def test_residuals(self) -> None:
        """Both directions have a residual of their own."""
        for write, read, flags, residual, residual_in, length in (
            (LENGTH, LENGTH - 512, BIDI_OVERFLOW, 0, 512, LENGTH - 512),
            (LENGTH, LENGTH + 512, BIDI_UNDERFLOW, 0, 512, LENGTH),
            (LENGTH, 0, BIDI_OVERFLOW, 0, LENGTH, 0),
            (LENGTH + 100, LENGTH, UNDERFLOW, 100, 0, LENGTH),
            (LENGTH - 600, LENGTH, OVERFLOW, 600, 0, LENGTH - 1024),
            (LENGTH + 9, LENGTH - 9, UNDERFLOW | BIDI_OVERFLOW, 9, 9, LENGTH - 9),
        ):
            self.begin()
            self.one.send(self.command(write=write, read=read))
            ins, response = self.finish(NEW.ljust(write, b"z"))
            self.assertEqual(response.flags, FINAL | flags)
            self.assertEqual(response.residual_count, residual)
            self.assertEqual(response.bidi_residual_count, residual_in)
            self.assertEqual(self.joined(ins), XORED[:length])

    def test_error(self) -> None:
        """A command that fails has moved nothing, in either direction."""
        self.begin()
        self.one.send(self.command(xdwriteread(self.unit.blocks - 1, 2), read=1024))
        ins, response = self.finish()
        self.assertEqual(ins, [])
        self.assertEqual(self.sense(response), (5, 0x2100))
        self.assertEqual(response.flags, FINAL | UNDERFLOW | BIDI_UNDERFLOW)
        self.assertEqual(
            (response.residual_count, response.bidi_residual_count), (LENGTH, 1024)
        )

    def test_others_on_the_connection(self) -> None:
        """What is not bidirectional is answered as before, then and afterwards."""
        self.begin()
        self.assertIs(self.one.connection.responder, respond)
        self.one.send(self.command())
        read = self.one.command(read10(64, 2), read=1024)
        self.one.send(read)
        data, *more = self.one.receive()[::-1]
        self.assertEqual((data.itt, data.flags), (read.itt, FINAL | STATUS))
        self.one.unread = more
        _ins, response = self.finish()
        self.assertEqual(response.status, 0)
        done = self.one.do(read10(0, BLOCKS), read=LENGTH)
        self.assertEqual((done.status, done.data), (0, NEW[:LENGTH]))
        other = Initiator(self.node, isid=b"\x80\0\0\0\0\2").ready()
        self.assertIs(other.connection.responder, respond)


class WrongTests(Bench):
    """
    Headers that contradict themselves, and commands that are none.
    """

    def rejected(self, pdu: SCSICommand) -> None:
        """See that a PDU is rejected, and nothing else has happened."""
        self.one.send(pdu)
        reject = self.one.receive()[0]
        self.assertIsInstance(reject, Reject)
        self.assertEqual(reject.reason, RejectReason.INVALID_PDU_FIELD)
        self.assertFalse(self.unit.tasks())
        session = self.one.connection.session
        assert session is not None
        self.assertFalse(
            session.tasks or session.writes.transfers or session.writes.held
        )
        # It counts as one that has not come (section 7.3): its initiator fills the gap.
        self.assertEqual(reject.exp_cmd_sn, pdu.cmd_sn)
        self.one.cmd_sn = pdu.cmd_sn
        self.assertEqual(self.one.do(READY).status, 0)
        self.assertEqual(self.on_disk(), OLD[:LENGTH])
        window = session.window
        self.assertEqual(window.max_cmd_sn - window.exp_cmd_sn, 31)

    def test_no_expected_length(self) -> None:
        """R and W without the segment that belongs to them: Reject."""
        self.begin()
        self.rejected(self.command(read=None))
        self.rejected(self.command(read=None, data=NEW[:LENGTH]))

    def test_no_expected_length_unsolicited(self) -> None:
        """The data that a rejected command has announced is dropped."""
        for ahs in (b"", b"\0\4\2\0\0\0\0\1"):
            self.begin(InitialR2T="No")
            pdu = self.command(data=NEW[:512], final=False, ahs=ahs)
            self.one.send(pdu)
            self.assertIsInstance(self.one.receive()[0], Reject)
            self.one.send(DataOut(itt=pdu.itt, buffer_offset=512, data=NEW[512:LENGTH]))
            self.assertEqual(self.one.receive(), [])

    def test_expected_length_alone(self) -> None:
        """The segment without R and W: Reject; so are segments that are malformed."""
        self.begin()
        self.rejected(self.command(flags=WRITE))
        self.rejected(self.command(flags=READ))
        self.rejected(self.command(ahs=b"\0\x09\2\0" + bytes(4)))

    def test_not_bidirectional(self) -> None:
        """A command that moves data in one direction only is refused, untouched."""
        for cdb, data in (
            (struct.pack(">BBIBHB", 0x2A, 0, 0, 0, BLOCKS, 0), NEW[:LENGTH]),
            (struct.pack(">BBIBHB", 0x2A, 0, 0, 0, BLOCKS, 0), b""),
            (read10(0, BLOCKS), b""),
            (READY, b""),
        ):
            self.begin()
            self.one.send(self.command(cdb, data=data))
            ins, response = self.finish()
            self.assertEqual(ins, [])
            self.assertFalse(self.r2ts)
            self.assertEqual(self.sense(response), (5, 0x4900))
            self.assertEqual(self.on_disk(), OLD[:LENGTH])

    def test_unknown_command(self) -> None:
        """What is wrong with the command itself comes first."""
        self.begin()
        self.one.send(self.command(b"\xc5".ljust(16, b"\0")))
        _ins, response = self.finish()
        self.assertEqual(self.sense(response), (5, 0x2000))
        self.one.send(self.command(read10(self.unit.blocks, 1)))
        _ins, response = self.finish()
        self.assertEqual(self.sense(response), (5, 0x2100))

    def test_one_direction(self) -> None:
        """XDWRITEREAD needs both; with no blocks it needs none."""
        self.begin()
        done = self.one.do(xdwriteread(0, BLOCKS), data=NEW[:LENGTH])
        self.assertEqual((done.status, done.key, done.asc), (2, 5, 0x4900))
        done = self.one.do(xdwriteread(0, BLOCKS), read=LENGTH)
        self.assertEqual((done.status, done.asc), (2, 0x4900))
        self.assertEqual(self.on_disk(), OLD[:LENGTH])
        self.assertEqual(self.one.do(xdwriteread(0, 0)).status, 0)


class XDWRITEREADTests(Bench):
    """
    The command itself.
    """

    def test_disable_write(self) -> None:
        """With DISABLE WRITE the disk stays as it is."""
        self.begin()
        self.one.send(self.command(xdwriteread(0, BLOCKS, 0x04)))
        ins, _response = self.finish()
        self.assertEqual(self.joined(ins), XORED[:LENGTH])
        self.assertEqual(self.on_disk(), OLD[:LENGTH])

    def test_reserved(self) -> None:
        """Protection information is not there: its bits are refused."""
        self.begin()
        for flags in (0x01, 0x20):
            self.one.send(self.command(xdwriteread(0, BLOCKS, flags)))
            _ins, response = self.finish()
            self.assertEqual(self.sense(response), (5, 0x2400))

    def test_read_only(self) -> None:
        """It writes: a read only LUN refuses it."""
        self.begin({"read_only": True})
        self.one.send(self.command())
        _ins, response = self.finish()
        self.assertEqual(self.sense(response), (7, 0x2700))

    def test_too_long(self) -> None:
        """What it returns is bounded as what a READ returns is."""
        self.begin()
        self.unit.volume.limits = Limits(max_blocks=8)
        self.one.send(self.command())
        _ins, response = self.finish()
        self.assertEqual(self.sense(response), (5, 0x2400))

    def test_32(self) -> None:
        """The CDB of 32 bytes, where those are wanted, with two segments."""
        cdb = struct.pack(">B6xBHBxQ8xI", 0x7F, 0x18, 0x0007, 0x00, 0, BLOCKS)
        self.begin({"long_cdbs": True})
        self.one.send(self.command(cdb))
        ins, response = self.finish()
        self.assertEqual((self.joined(ins), response.status), (XORED[:LENGTH], 0))
        self.begin()
        self.one.send(self.command(cdb))
        _ins, response = self.finish()
        self.assertEqual(self.sense(response), (5, 0x2000))

    def test_reported(self) -> None:
        """REPORT SUPPORTED OPERATION CODES has it, with its usage map."""
        self.begin()
        cdb = bytes.fromhex("a30c 0153 0000 0000 00ff 0000")
        done = self.one.do(cdb, read=255)
        self.assertEqual(done.data[4:], bytes.fromhex("531cffffffff1fffff04"))

    def test_declared(self) -> None:
        """The table says of each command whether it is bidirectional."""
        self.begin({"long_cdbs": True})
        names = [row.name for one in DISK.sets for row in one.rows if row.bidirectional]
        self.assertEqual(sorted(names), ["XDWRITEREAD(10)", "XDWRITEREAD(32)"])
