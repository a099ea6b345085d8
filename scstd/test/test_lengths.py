# SPDX-License-Identifier: MIT
"""
Lengths are looked at before work is done, and what is kept of what a peer sends takes
about as much as it has sent: names, texts, early commands and their data, pieces of
PDUs.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.commands import write10
from scstd.initiator.connection import on_the_wire
from scstd.protocols.engine import ordering
from scstd.protocols.wire import names
from scstd.protocols.wire.chap import LONGEST, binary
from scstd.protocols.wire.codes import FINAL, RESERVED_TAG, RejectReason
from scstd.protocols.wire.framing import Framer, own
from scstd.protocols.wire.login_status import LoginError
from scstd.protocols.wire.names import MAX_NAME_LENGTH, normal_name
from scstd.protocols.wire.pdu import (
    DataOut,
    LoginRequest,
    LoginResponse,
    NOPOut,
    Reject,
    SCSIResponse,
    TextRequest,
)
from scstd.protocols.wire.text import (
    MAX_KEYS,
    MAX_VALUE_LENGTH,
    Pairs,
    TextError,
    decode,
    encode,
    split,
)
from scstd.test.initiator import INITIATOR, TARGET, Initiator, serve
from scstd.test.stores import memory

NAMES = [("InitiatorName", INITIATOR), ("TargetName", TARGET)]


def keys(count: int) -> Pairs:
    """Return so many keys that nobody knows."""
    return [(f"X-{number}", "") for number in range(count)]


class TextTests(SynchronousTestCase):
    """
    Texts of a login and of the full feature phase.
    """

    def setUp(self) -> None:
        """Serve a disk."""
        self.node, _target, _units = serve(memory())
        self.one = Initiator(self.node)

    def say(self, pairs: Pairs) -> LoginResponse:
        """Send one text of a login, in as many requests as it takes."""
        parts = split(encode(pairs), 8192)
        for part in parts[:-1]:
            self.one.send(LoginRequest(flags=0x44, isid=b"\x80\0\0\0\0\1", data=part))
            self.one.one(LoginResponse)
        self.one.send(LoginRequest(flags=4, isid=b"\x80\0\0\0\0\1", data=parts[-1]))
        response: LoginResponse = self.one.one(LoginResponse)
        return response

    def test_name_is_measured_first(self) -> None:
        """A name that is too long is refused without being prepared."""
        self.patch(names, "folded", lambda _name: self.fail("it was prepared"))
        for letter in "a\ufdfa\u0345":
            with self.assertRaises(LoginError):
                normal_name("iqn.2026-11.org:" + letter * MAX_NAME_LENGTH)

    def test_name_of_a_discovery(self) -> None:
        """The target that a discovery session names is measured, too."""
        self.say(
            [
                ("InitiatorName", INITIATOR),
                ("SessionType", "Discovery"),
                ("TargetName", TARGET + "\u0345" * 2000),
            ]
        )
        self.one.send(LoginRequest(flags=0x87, isid=b"\x80\0\0\0\0\1"))
        self.assertEqual(self.one.one(LoginResponse).status_class, 0)

    def test_value(self) -> None:
        """A value that is longer than any is malformed."""
        longest = ("X-a", "v" * MAX_VALUE_LENGTH)
        self.assertEqual(decode(encode([longest])), [longest])
        with self.assertRaises(TextError):
            decode(encode([("X-a", "v" * (MAX_VALUE_LENGTH + 1))]))
        response = self.say([*NAMES, ("InitiatorAlias", "v" * 60000)])
        self.assertEqual((response.status_class, response.status_detail), (2, 0))

    def test_binary(self) -> None:
        """A binary value is measured before it is decoded."""
        self.assertEqual(len(binary("0x" + "00" * LONGEST)), LONGEST)
        for prefix in ("0x", "0b"):
            with self.assertRaisesRegex(ValueError, "longer than"):
                binary(prefix + "!" * (2 * LONGEST + 1))

    def test_keys_of_a_login(self) -> None:
        """A login with more keys than are remembered is refused."""
        response = self.say([*NAMES, *keys(MAX_KEYS)])
        self.assertEqual(response.status_class, 0)
        other = TextTests("say")
        other.setUp()
        response = other.say([*NAMES, *keys(MAX_KEYS + 1)])
        self.assertEqual((response.status_class, response.status_detail), (2, 0))

    def test_keys_of_an_exchange(self) -> None:
        """A text exchange with more keys than are remembered is rejected."""
        self.one.ready()
        self.one.send(
            TextRequest(
                itt=7,
                ttt=RESERVED_TAG,
                cmd_sn=self.one.cmd_sn,
                data=encode(keys(MAX_KEYS + 1))[:8192],
            )
        )
        self.assertEqual(self.one.one(Reject).reason, RejectReason.PROTOCOL_ERROR)


class Counted(bytes):
    """
    Data whose length is counted when somebody asks for it.
    """

    asked = 0

    def __len__(self) -> int:
        """Count."""
        Counted.asked += 1
        return super().__len__()


class EarlyTests(SynchronousTestCase):
    """
    What comes before its turn.
    """

    def setUp(self) -> None:
        """Log in, and leave a command out."""
        node, _target, _units = serve(memory())
        self.one = Initiator(node).ready(InitialR2T="No", FirstBurstLength="65536")
        (self.session,) = node.sessions()
        self.ordering = self.session.ordering
        self.one.cmd_sn += 1

    def fill(self) -> list[Any]:
        """Bring the command that is missing; return what comes after its answer."""
        first = self.one.command(bytes(6))
        first.cmd_sn = self.ordering.window.exp_cmd_sn
        self.one.send(first)
        found = self.one.receive()
        self.assertEqual(found[0].itt, first.itt)
        return found[1:]

    def announce(self) -> Any:
        """Send a write with unsolicited data behind it."""
        write = self.one.command(write10(0, 128), write=65536)
        write.flags &= ~FINAL
        self.one.send(write)
        return write

    def test_linear(self) -> None:
        """Data-Out that waits costs the same for each piece, however many there are."""
        self.patch(Counted, "asked", 0)
        write = self.announce()
        run = self.session.writes.data_out
        for number in range(ordering.MAX_EARLY_DATA_OUT):
            pdu = DataOut(flags=0, itt=write.itt, data_sn=number, data=Counted(b"d"))
            self.assertTrue(self.ordering.hold_data_out(self.one.connection, run, pdu))
        self.assertLess(Counted.asked, 4 * ordering.MAX_EARLY_DATA_OUT)

    def test_account(self) -> None:
        """What waits is counted, and taken out of the account when it is run."""
        write = self.announce()
        self.one.send(DataOut(flags=0, itt=write.itt, data=b"d" * 4096))
        self.assertGreater(self.ordering.held_bytes, 4096)
        self.fill()
        self.assertEqual(self.ordering.held_bytes, 0)
        self.assertFalse(self.ordering.held)

    def test_account_of_a_connection(self) -> None:
        """A connection that goes takes what it had brought out of the account."""
        write = self.announce()
        self.one.send(DataOut(flags=0, itt=write.itt, data=b"d" * 4096))
        self.one.connection.disconnected()
        self.assertEqual(self.ordering.held_bytes, 0)

    def test_budget_of_data(self) -> None:
        """Data-Out over the budget is dropped; its command fails in its turn."""
        self.patch(ordering, "HELD_BUDGET", 8192)
        write = self.announce()
        for number in range(64):
            self.one.send(
                DataOut(
                    flags=0,
                    itt=write.itt,
                    data_sn=number,
                    buffer_offset=1024 * number,
                    data=b"d" * 1024,
                )
            )
        self.assertLess(self.ordering.held_bytes, 8192 + 2048)
        self.one.send(DataOut(itt=write.itt, data_sn=64))
        (response,) = self.fill()
        self.assertEqual(response.status, 2)
        self.assertEqual(self.ordering.held_bytes, 0)

    def test_budget_of_commands(self) -> None:
        """A command over the budget has not come: its initiator may send it again."""
        self.patch(ordering, "HELD_BUDGET", 1000)
        early = self.one.command(write10(0, 2), write=1024, data=b"d" * 1024)
        self.one.send(early)
        self.assertEqual(self.one.one(Reject).reason, RejectReason.DATA_DIGEST_ERROR)
        self.assertEqual(self.fill(), [])
        self.one.send(early)
        self.assertEqual(self.one.one(SCSIResponse).status, 0)


class ChunkTests(SynchronousTestCase):
    """
    What a small part of a received chunk keeps alive.
    """

    def test_own(self) -> None:
        """A small part is copied, a large one, and bytes, are not."""
        chunk = bytes(65536)
        small, large = memoryview(chunk)[:16000], memoryview(chunk)[:16384]
        self.assertIs(type(own(small)), bytes)
        self.assertIs(own(large), large)
        self.assertIs(own(chunk), chunk)

    def test_rest_of_a_chunk(self) -> None:
        """The beginning of a PDU does not keep the chunk that it came in."""
        framer = Framer(max_segment=1 << 20)
        ping = on_the_wire(NOPOut(data=bytes(200000)), False, False)
        framer.feed(ping + ping[:60])
        self.assertIsNotNone(framer.next())
        self.assertIsNone(framer.next())
        (rest,) = framer._pending
        self.assertIs(type(rest), bytes)
        framer.feed(ping[60:])
        self.assertIsNotNone(framer.next())

    def test_early_data(self) -> None:
        """A command that waits does not keep the chunk that it came in."""
        node, _target, _units = serve(memory())
        one = Initiator(node).ready(FirstBurstLength="65536")
        (session,) = node.sessions()
        one.cmd_sn += 1
        early = one.command(write10(0, 40), write=20480, data=b"d" * 20480)
        pings = [NOPOut(itt=RESERVED_TAG, cmd_sn=0, data=bytes(8000))] * 30
        one.send(early, *pings)
        (held,) = session.ordering.held.values()
        self.assertIs(type(held.pdu.data), bytes)

    def test_bytes_one_by_one(self) -> None:
        """A PDU that comes byte by byte is kept as bytes, not as an object a byte."""
        framer = Framer()
        ping = on_the_wire(NOPOut(itt=5, data=b"x" * 4000), False, False)
        for at in range(len(ping) - 1):
            framer.feed(ping[at : at + 1])
            self.assertIsNone(framer.next())
        self.assertLess(len(framer._pending), 4)
        framer.feed(ping[-1:])
        pdu: Any = framer.next()
        self.assertEqual((pdu.itt, bytes(pdu.data)), (5, b"x" * 4000))
