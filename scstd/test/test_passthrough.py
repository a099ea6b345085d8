# SPDX-License-Identifier: MIT
"""
Tests for devices that take whole commands (`ICommandDevice`): what goes to them as it
came, what the target keeps, and what becomes of lies.
"""

from __future__ import annotations

import struct
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.commands import CommandResult, read10, write10
from scstd.interfaces import CommandAnswer
from scstd.protocols.wire.ahs import bidirectional
from scstd.protocols.wire.codes import READ, TaskManagementCode
from scstd.scsi.device import close_disk
from scstd.test.devices import CHECK, ManualDevice, sense
from scstd.test.initiator import INITIATOR, Initiator, serve

RESERVE, RELEASE = bytes((0x16, *bytes(5))), bytes((0x17, *bytes(5)))
INQUIRY = b"\x12\0\0\0\xff\0"
REQUEST_SENSE = b"\x03\0\0\0\xff\0"
VENDOR = b"\xc1" + bytes(9)
UNTAGGED, SIMPLE, ORDERED = range(3)


class PassThroughBench(SynchronousTestCase):
    """
    A device in memory, and an initiator that is logged in.
    """

    def connect(self, answer: Any = None, kind: int = 3, **settings: Any) -> None:
        """Serve it."""
        self.device = ManualDevice(answer, kind)
        served: Any = self.device
        self.node, self.target, (self.unit,) = serve(served, **settings)
        self.one = Initiator(self.node).ready()
        self.device.calls.clear()

    def second(self) -> Initiator:
        """Return another initiator."""
        return Initiator(self.node, name=INITIATOR + ".two").ready()

    def check(self, done: CommandResult, key: int, asc: int) -> None:
        """A command has to have failed with this sense data."""
        self.assertEqual(done.status, CHECK, done)
        self.assertEqual((done.key, f"{done.asc:04x}"), (key, f"{asc:04x}"))


class CommandsTests(PassThroughBench):
    """
    What goes through.
    """

    def test_as_it_came(self) -> None:
        """CDBs of every operation code get there with their data, answers back."""
        self.connect(
            lambda _cdb, out, most: CommandAnswer(data_in=b"d" * (0 if out else most))
        )
        kept = {0x16, 0x17, 0x56, 0x57, 0x5E, 0x5F, 0xA0, 0x7F}
        for opcode in sorted(set(range(256)) - kept):
            cdb = bytes((opcode, *range(1, 16)))
            done = self.one.do(cdb, read=100)
            self.assertEqual((done.status, done.data), (0, b"d" * 100), hex(opcode))
            seen, out, length, asker = self.device.calls.pop()
            self.assertEqual((seen, out, length), (cdb, b"", 100))
            self.assertEqual(
                (asker.opcode, asker.session.initiator), (opcode, INITIATOR)
            )
        done = self.one.do(VENDOR, data=b"o" * 20000)
        self.assertEqual((done.status, done.residual), (0, 0))
        self.assertEqual(self.device.calls.pop()[1:3], (b"o" * 20000, 0))
        self.assertEqual(self.one.do(VENDOR).status, 0)
        self.assertEqual(self.device.calls.pop()[1:3], (b"", 0))

    def test_kept(self) -> None:
        """REPORT LUNS and reservations are the target's."""
        self.connect()
        luns = self.one.do(b"\xa0" + bytes(8) + b"\x20\0\0", read=32)
        self.assertEqual(luns.data[:4], b"\0\0\0\x08")
        keys = self.one.do(b"\x5e" + bytes(6) + b"\0\x20\0", read=32)
        self.assertEqual(keys.status, 0)
        self.assertEqual(self.one.do(RESERVE).status, 0)
        self.assertEqual(self.device.calls, [])

    def test_statuses(self) -> None:
        """Whatever status the device has, the initiator has it."""
        for status in (0x04, 0x08, 0x18, 0x28, 0x30, 0x40):
            self.connect(lambda *_command, status=status: CommandAnswer(status))
            self.assertEqual(self.one.do(VENDOR, read=10).status, status)

    def test_sense(self) -> None:
        """Sense data of both formats, byte for byte; of any code."""
        for said in (
            sense(5, 0x2400),
            sense(3, 0x1100, descriptor=True),
            sense(0xC, 0x8001) + b"vendor specific",
        ):
            self.connect(lambda *_command, said=said: CommandAnswer(CHECK, said))
            done = self.one.do(VENDOR, read=10)
            self.assertEqual((done.status, done.sense), (CHECK, said))

    def test_data_and_sense(self) -> None:
        """Data-In goes to the initiator before CHECK CONDITION, at every level."""
        said = sense(0, 0)
        data = bytes(range(250)) * 100
        keys = {"MaxRecvDataSegmentLength": "8192", "DataDigest": "CRC32C"}
        for level in "012":
            self.connect(lambda *_command: CommandAnswer(CHECK, said, data))
            self.one.logout()
            self.device.answer = lambda *_command: CommandAnswer()
            one = Initiator(self.node, isid=b"\x80\0\0\0\0\2")
            one.ready(ErrorRecoveryLevel=level, **keys)
            self.device.answer = lambda *_command: CommandAnswer(CHECK, said, data)
            pdu = one.command(VENDOR, read=30000)
            one.send(pdu)
            *pieces, response = one.receive()
            self.assertEqual([piece.data_sn for piece in pieces], [0, 1, 2, 3])
            self.assertFalse(any(piece.flags & 1 for piece in pieces))
            self.assertEqual(b"".join(bytes(one.data) for one in pieces), data)
            self.assertEqual((response.status, response.exp_data_sn), (CHECK, 4))
            self.assertEqual(bytes(response.data)[2:], said)
            self.assertEqual((response.flags & 6, response.residual_count), (2, 5000))
            self.assertEqual(one.do(INQUIRY, read=25000).data, data)

    def test_residuals(self) -> None:
        """What was not moved is told, and what would have been."""
        for answer, fields, expected in (
            (CommandAnswer(data_in=b"1234"), {"read": 10}, (2, 6)),
            (CommandAnswer(data_in=b"1234567890", residual=-5), {"read": 10}, (4, 5)),
            (CommandAnswer(residual=6), {"data": bytes(10)}, (2, 6)),
            (CommandAnswer(residual=-6), {"data": bytes(10)}, (4, 6)),
            (CommandAnswer(), {}, (0, 0)),
        ):
            self.connect(lambda *_command, answer=answer: answer)
            given: Any = fields
            done = self.one.do(VENDOR, **given)
            self.assertEqual((done.flags, done.residual), expected, answer)

    def test_both_ways(self) -> None:
        """A command with data both ways, and a CDB of 32 bytes."""
        self.connect(lambda _cdb, out, most: CommandAnswer(data_in=out[:most]))
        for more in (b"", b"x" * 16):
            pdu = self.one.command(VENDOR, write=512, data=b"o" * 512)
            pdu.flags |= READ
            pdu.ahs = bidirectional(100)
            if more:
                pdu.ahs += struct.pack(">HBx", len(more) + 1, 1) + more
            self.one.send(pdu)
            data, response = self.one.receive()
            self.assertEqual(bytes(data.data), b"o" * 100)
            self.assertEqual((response.status, response.residual_count), (0, 0))
            cdb, out, length, _asker = self.device.calls.pop()
            self.assertEqual((cdb[16:], out, length), (more, b"o" * 512, 100))

    def test_later(self) -> None:
        """Deferreds and coroutines are as good."""

        async def coroutine() -> CommandAnswer:
            return CommandAnswer(data_in=b"c")

        for made in (lambda: succeed(CommandAnswer(data_in=b"c")), coroutine):
            self.connect(lambda *_command, made=made: made())
            self.assertEqual(self.one.do(VENDOR, read=1).data, b"c")


class OrderTests(PassThroughBench):
    """
    What the target sees to.
    """

    def start(self, attribute: int = SIMPLE, who: Initiator | None = None) -> int:
        """Send a command; return its tag."""
        who = who or self.one
        pdu = who.command(VENDOR, read=8, attribute=attribute)
        who.send(pdu)
        return pdu.itt

    def test_attributes(self) -> None:
        """An ORDERED command waits for those before it, and those behind for it."""
        self.connect()
        self.device.slow = True
        self.start()
        self.start()
        self.start(ORDERED)
        self.start()
        self.assertEqual(len(self.device.waiting), 2)
        self.device.end()
        self.assertEqual(len(self.device.waiting), 1)
        self.device.end()
        self.assertEqual(len(self.device.calls), 3)
        self.device.end()
        self.assertEqual(len(self.device.calls), 4)

    def test_abort(self) -> None:
        """
        The device is told once which command is aborted, and the abort is answered when
        it has ended; what it answers is dropped.
        """
        self.connect()
        self.device.slow = True
        tag = self.start()
        other = self.start()
        self.one.receive()
        self.one.manage(TaskManagementCode.ABORT_TASK, tag=tag)
        self.assertEqual(self.one.receive(), [])
        self.assertEqual([one.tag for one in self.device.aborted], [tag])
        self.assertIs(self.device.aborted[0], self.device.calls[0][3])
        self.device.end(CommandAnswer(data_in=b"x" * 8))
        (response,) = self.one.receive()
        self.assertEqual(response.response, 0)
        self.device.end()
        (answer,) = self.one.receive()
        self.assertEqual(answer.itt, other)

    def test_aborted_twice(self) -> None:
        """Of one command it is told once, whatever comes then."""
        self.connect()
        self.device.slow = True
        tag = self.start()
        self.one.manage(TaskManagementCode.ABORT_TASK, tag=tag)
        self.one.manage(TaskManagementCode.ABORT_TASK_SET)
        self.one.connection.disconnected()
        self.assertEqual(len(self.device.aborted), 1)
        self.device.end()

    def test_too_much(self) -> None:
        """Nobody has it keep gigabytes: that is refused, and not asked for."""
        self.connect()
        for fields in ({"write": 1 << 31}, {"read": 1 << 31}):
            given: Any = fields
            self.check(self.one.do(VENDOR, **given), 5, 0x0E03)
        self.assertEqual(self.device.calls, [])

    def test_not_begun(self) -> None:
        """What has not begun is never told of to the device."""
        self.connect()
        self.device.slow = True
        self.start(ORDERED)
        tag = self.start(ORDERED)
        self.one.manage(TaskManagementCode.ABORT_TASK, tag=tag)
        self.assertEqual(self.one.receive()[-1].response, 0)
        self.assertEqual(self.device.aborted, [])
        self.device.end()
        self.assertEqual(len(self.device.calls), 1)

    def test_reset(self) -> None:
        """A reset aborts, resets the device, and is answered when both are done."""
        self.connect()
        two = self.second()
        self.device.slow = True
        over: Deferred[None] = Deferred()
        self.device.reset_over = over
        self.start()
        self.start(who=two)
        self.one.manage(TaskManagementCode.LOGICAL_UNIT_RESET)
        self.assertEqual((self.device.resets, len(self.device.aborted)), (1, 2))
        self.device.end()
        self.device.end()
        self.assertEqual(self.one.receive(), [])
        over.callback(None)
        self.assertEqual(self.one.receive()[-1].response, 0)
        self.device.slow = False
        self.check(two.do(VENDOR), 6, 0x2903)

    def test_session_ends(self) -> None:
        """A session that ends has its commands aborted, and is closed after them."""
        self.connect()
        self.device.slow = True
        self.start()
        self.one.connection.disconnected()
        self.assertEqual(len(self.device.aborted), 1)
        self.assertEqual([what for what, _who in self.device.sessions], ["opened"])
        self.device.end()
        self.assertEqual(
            [what for what, _who in self.device.sessions], ["opened", "closed"]
        )
        self.assertIs(self.device.sessions[0][1], self.device.calls[0][3].session)

    def test_reservations(self) -> None:
        """Another's reservation stops what is not known to be harmless."""
        self.connect()
        two = self.second()
        self.assertEqual(self.one.do(RESERVE).status, 0)
        self.device.calls.clear()
        for cdb, status in (
            (VENDOR, 0x18),
            (bytes(6), 0x18),
            (read10(0, 1), 0x18),
            (INQUIRY, 0),
            (REQUEST_SENSE, 0),
        ):
            self.assertEqual(two.do(cdb, read=8).status, status, cdb)
        self.assertEqual(self.device.opcodes, [0x12, 0x03])
        self.assertEqual(self.one.do(VENDOR).status, 0)
        self.one.do(RELEASE)
        self.assertEqual(two.do(VENDOR).status, 0)

    def test_read_only(self) -> None:
        """At a LUN that is read only nothing goes that may write."""
        self.connect(kind=1)
        self.target.add_lun(1, self.unit, read_only=True)
        self.one.receive()
        for _attention in range(2):
            self.one.do(bytes(6), lun=1)
            self.one.do(bytes(6))
        for cdb in (VENDOR, write10(0, 1), b"\x19\0\0\0\0\0"):
            self.check(self.one.do(cdb, lun=1), 7, 0x2700)
            self.assertEqual(self.one.do(cdb).status, 0)
        for cdb in (b"\x08\0\0\0\x08\0", b"\x01\0\0\0\0\0", INQUIRY, bytes(6)):
            self.assertEqual(self.one.do(cdb, lun=1).status, 0)
        self.connect(kind=1, read_only=True)
        self.check(self.one.do(VENDOR), 7, 0x2700)
        self.assertEqual(self.one.do(INQUIRY, read=8).status, 0)

    def test_unit_attentions(self) -> None:
        """
        Ours come first, where they belong; the device's is told to all, to each once.
        """
        self.connect()
        two = self.second()
        said = sense(6, 0x2800)
        self.device.answer = lambda *_command: CommandAnswer(CHECK, said)
        self.assertEqual(self.one.do(VENDOR).sense, said)
        self.device.answer = lambda *_command: CommandAnswer()
        self.assertEqual(self.one.do(VENDOR).status, 0)
        calls = len(self.device.calls)
        found = two.do(REQUEST_SENSE, read=18).data
        self.assertEqual((found[2], found[12:14]), (6, b"\x28\0"))
        self.assertEqual(len(self.device.calls), calls)
        self.assertEqual(two.do(REQUEST_SENSE, read=18).status, 0)
        self.assertEqual(self.device.opcodes[-1], 0x03)
        three = Initiator(self.node, name=INITIATOR + ".three")
        three.login()
        self.check(three.do(VENDOR), 6, 0x2900)
        self.assertEqual(three.do(INQUIRY, read=255).status, 0)

    def test_closed(self) -> None:
        """The device is closed, once, after the last of its commands."""
        self.connect()
        self.device.slow = True
        self.start()
        closing = close_disk(self.unit)
        self.assertNoResult(closing)
        self.device.end()
        self.successResultOf(closing)
        self.assertEqual(self.device.closed, 1)


class LyingTests(PassThroughBench):
    """
    Devices that do not keep their word.
    """

    def test_answers(self) -> None:
        """What is no answer is INTERNAL TARGET FAILURE, and the session goes on."""
        wrong: tuple[Any, ...] = (
            None,
            b"data",
            CommandAnswer(status=0x01),
            CommandAnswer(status=None),  # type: ignore[arg-type]
            CommandAnswer(status=True),
            CommandAnswer(data_in=b"x" * 9),
            CommandAnswer(data_in="text"),  # type: ignore[arg-type]
            CommandAnswer(CHECK),
            CommandAnswer(CHECK, b"\x70\0\5"),
            CommandAnswer(CHECK, b"no sense data of any kind"),
            CommandAnswer(sense=sense(5, 0x2400)),
            CommandAnswer(0x08, sense(5, 0x2400)),
            CommandAnswer(residual=1),
            CommandAnswer(residual="much"),  # type: ignore[arg-type]
        )
        for answer in wrong:
            for made in (
                lambda answer=answer: answer,
                lambda answer=answer: succeed(answer),
            ):
                self.connect(lambda *_command, made=made: made())
                self.check(self.one.do(VENDOR, read=8), 4, 0x4400)
                self.device.answer = lambda *_command: CommandAnswer()
                self.assertEqual(self.one.do(VENDOR).status, 0)

    def test_exceptions(self) -> None:
        """What is raised is logged; an OSError is what it says, and BUSY for EAGAIN."""
        for error, key, asc in (
            (KeyError("k"), 4, 0x4400),
            (SystemExit(3), 4, 0x4400),
            (OSError(19, "gone"), 2, 0x0403),
            (OSError(5, "broken"), 3, 0x0C00),
        ):

            def throw(*_command: Any, error: BaseException = error) -> Any:
                raise error

            for answer in (throw, lambda *_command, error=error: fail(error)):
                self.connect(answer)
                self.check(self.one.do(VENDOR, read=8), key, asc)
                logged = self.flushLoggedErrors(type(error))
                self.assertEqual(len(logged), 0 if isinstance(error, OSError) else 1)
        self.connect(lambda *_command: fail(OSError(11, "later")))
        self.assertEqual(self.one.do(VENDOR, read=8).status, 0x08)

    def test_management(self) -> None:
        """What abort, reset and close raise hinders nobody."""
        self.connect()
        device: Any = self.device

        def throw(*_more: Any) -> None:
            raise KeyError

        for name in ("abort", "reset", "session_closed"):
            setattr(device, name, throw)
        device.slow = True
        self.one.send(self.one.command(VENDOR, read=8))
        self.one.manage(TaskManagementCode.LOGICAL_UNIT_RESET)
        device.end()
        self.assertEqual(self.one.receive()[-1].response, 0)
        self.one.logout()
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 3)

    def test_fires_twice(self) -> None:
        """A Deferred that somebody else has taken ends its command all the same."""
        same: Deferred[Any] = succeed(CommandAnswer())
        self.connect(lambda *_command: same)
        self.assertEqual(self.one.do(VENDOR).status, 0)
        self.check(self.one.do(VENDOR), 4, 0x4400)

    def test_refused(self) -> None:
        """What does not have what it says is refused when it is opened."""

        class Partial(ManualDevice):
            execute: Any = None

        for device, said in (
            (ManualDevice(kind=32), "device_type is 32, not 0 to 1Fh"),
            (Partial(), "execute"),
        ):
            served: Any = device
            error = self.assertRaises(ValueError, serve, served)
            self.assertIn(said, str(error))
