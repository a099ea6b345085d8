# SPDX-License-Identifier: MIT
"""
Tests for the lowest layers of `scstd.protocols`: pdu, framing, digest, serial, states.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from scstd.protocols.wire.digest import digest
from scstd.protocols.wire.framing import Framer, FramingError, append
from scstd.protocols.wire.pdu import (
    PDU,
    PDU_TYPES,
    DataOut,
    NOPOut,
    SCSICommand,
    UnknownPDU,
)
from scstd.protocols.wire.serial import CommandWindow, add, less
from scstd.protocols.wire.states import (
    TRANSITIONS,
    ConnectionEvent,
    ConnectionState,
    after,
)
from scstd.test.generating import examples


def framed(
    pdu: PDU, *, header_digest: bool = False, data_digest: bool = False
) -> bytes:
    """Return a PDU as it is sent."""
    output: list[bytes] = []
    append(
        output,  # type: ignore[arg-type]
        pdu.encode(),
        pdu.data,
        header_digest=header_digest,
        data_digest=data_digest,
    )
    return b"".join(output)


class PDUTests(SynchronousTestCase):
    """
    Layouts of all PDUs.
    """

    def test_every_type(self) -> None:
        """Each PDU parses to what it was made of, for any content of its 48 bytes."""
        self.assertEqual(len(PDU_TYPES), 18)
        for opcode, kind in PDU_TYPES.items():
            header = bytes(range(1, 49))
            pdu = kind.parse(header)
            pdu.ahs, pdu.data = b"", b""
            again = kind.parse(pdu.encode())
            self.assertEqual(pdu.encode(), again.encode(), opcode)

    def test_fields(self) -> None:
        """Fields stand where RFC 7143 section 11.3 (SCSI Command) puts them."""
        header = bytes.fromhex(
            "01c1 0000 00000000 0001000000000000 00000007 00001000"
            "0000002a 00000003 28000000000800000800000000000000"
        )
        pdu = SCSICommand.parse(header)
        self.assertEqual(
            (pdu.flags, pdu.lun, pdu.itt, pdu.expected_data_transfer_length),
            (0xC1, 1 << 48, 7, 4096),
        )
        self.assertEqual((pdu.cmd_sn, pdu.exp_stat_sn), (42, 3))
        self.assertEqual(pdu.cdb[:10].hex(), "28000000000800000800")
        self.assertEqual(pdu.encode(), header)


class FramingTests(SynchronousTestCase):
    """
    Bytes to PDUs.
    """

    @examples()
    @given(
        st.lists(st.binary(max_size=70), min_size=1, max_size=5),
        st.lists(st.integers(1, 60), max_size=20),
        st.booleans(),
        st.booleans(),
    )
    def test_any_chunks(
        self, segments: list[bytes], cuts: list[int], header: bool, data: bool
    ) -> None:
        """However the stream is cut, the same PDUs come out."""
        pdus = [NOPOut(itt=at, data=one) for at, one in enumerate(segments)]
        stream = b"".join(
            framed(pdu, header_digest=header, data_digest=data) for pdu in pdus
        )
        framer = Framer(header_digest=header, data_digest=data)
        found: list[tuple[int, bytes]] = []
        at = 0
        for length in (*cuts, len(stream)):
            framer.feed(stream[at : at + length])
            at += length
            while (pdu := framer.next()) is not None:
                self.assertFalse(framer.data_digest_failed)
                found.append((pdu.itt, bytes(pdu.data)))  # type: ignore[attr-defined]
        self.assertEqual(found, list(enumerate(segments)))
        self.assertEqual(framer.buffered, 0)

    def test_ahs(self) -> None:
        """Additional header segments are kept apart from the data."""
        pdu = SCSICommand(ahs=bytes(range(8)), data=b"hello")
        framer = Framer()
        framer.feed(framed(pdu))
        found = framer.next()
        assert isinstance(found, SCSICommand)
        self.assertEqual((found.ahs, found.data), (bytes(range(8)), b"hello"))

    def test_unknown(self) -> None:
        """A PDU of an unknown opcode is taken off the stream as a whole."""
        framer = Framer()
        stream = bytearray(framed(NOPOut(itt=5, data=b"12345678")))
        stream[0] = 0x1D
        framer.feed(bytes(stream) + framed(NOPOut(itt=6)))
        found = framer.next()
        assert isinstance(found, UnknownPDU)
        self.assertEqual((found.first, found.itt, found.data), (0x1D, 5, b"12345678"))
        self.assertIsInstance(framer.next(), NOPOut)

    def test_wrong_data_digest(self) -> None:
        """A wrong data digest marks its own PDU and no other."""
        stream = bytearray(framed(NOPOut(data=b"1234"), data_digest=True))
        stream[50] ^= 0x10
        framer = Framer(data_digest=True)
        framer.feed(bytes(stream) + framed(NOPOut()) + bytes(stream))
        framer.next()
        self.assertTrue(framer.data_digest_failed)
        framer.next()
        self.assertFalse(framer.data_digest_failed)
        framer.next()
        self.assertTrue(framer.data_digest_failed)

    def test_wrong_header_digest(self) -> None:
        """A wrong header digest is the end."""
        stream = bytearray(framed(NOPOut(), header_digest=True))
        stream[49] ^= 1
        framer = Framer(header_digest=True)
        framer.feed(bytes(stream))
        self.assertRaises(FramingError, framer.next)

    def test_too_long(self) -> None:
        """A segment that is too long is refused by its header alone."""
        framer = Framer(max_segment=512)
        framer.feed(framed(DataOut(data=bytes(513)))[:48])
        self.assertRaises(FramingError, framer.next)


class DigestTests(SynchronousTestCase):
    """
    CRC32C.
    """

    def test_examples(self) -> None:
        """The examples of RFC 7143 appendix A.4."""
        for data, expected in (
            (bytes(32), "aa36918a"),
            (b"\xff" * 32, "43aba862"),
            (bytes(range(32)), "4e79dd46"),
            (bytes(range(31, -1, -1)), "5cdb3f11"),
        ):
            self.assertEqual(digest(data).hex(), expected)

    @examples()
    @given(st.binary(), st.binary())
    def test_parts(self, one: bytes, other: bytes) -> None:
        """The digest of parts is that of the whole."""
        self.assertEqual(digest(one, other), digest(one + other))


class SerialTests(SynchronousTestCase):
    """
    RFC 1982.
    """

    @examples()
    @given(st.integers(0, 0xFFFFFFFF), st.integers(1, 0x7FFFFFFF))
    def test_order(self, number: int, count: int) -> None:
        """What is less than half the circle ahead is greater."""
        self.assertTrue(less(number, add(number, count)))
        self.assertFalse(less(add(number, count), number))
        self.assertFalse(less(number, number))
        self.assertEqual(add(add(number, count), -count), number)

    def test_window(self) -> None:
        """The window is what RFC 7143 section 4.2.2.1 says, over the end too."""
        window = CommandWindow(0xFFFFFFFE, 4)
        self.assertEqual(window.max_cmd_sn, 1)
        self.assertTrue(
            all(window.accepts(sn) for sn in (0xFFFFFFFE, 0xFFFFFFFF, 0, 1))
        )
        self.assertFalse(window.accepts(2) or window.accepts(0xFFFFFFFD))
        self.assertFalse(window.take(0))
        for number in (0xFFFFFFFE, 0xFFFFFFFF, 0, 1):
            self.assertTrue(window.take(number))
        self.assertFalse(window.take(2))
        window.finished()
        self.assertTrue(window.take(2))

    def test_resize(self) -> None:
        """A narrower window takes effect as commands finish; MaxCmdSN never goes back."""
        window = CommandWindow(10, 8)
        window.resize(4)
        self.assertEqual(window.max_cmd_sn, 17)
        for number in range(10, 18):
            window.take(number)
        for _number in range(4):
            window.finished()
        self.assertEqual(window.max_cmd_sn, 17)
        window.finished()
        self.assertEqual(window.max_cmd_sn, 18)
        window.resize(8)
        self.assertEqual(window.max_cmd_sn, 22)


class StateTests(SynchronousTestCase):
    """
    The table of states.
    """

    def test_missing(self) -> None:
        """What is not in the table cannot happen."""
        self.assertRaises(
            KeyError, after, ConnectionState.FREE, ConnectionEvent.LOGIN_DONE
        )

    def test_all_leads_to_free(self) -> None:
        """From every state there is a way to FREE."""
        reached = {ConnectionState.FREE}
        while True:
            more = {
                a for (a, _event), (b, _number) in TRANSITIONS.items() if b in reached
            }
            if more <= reached:
                break
            reached |= more
        self.assertEqual(reached, set(ConnectionState))

    def test_transport_can_fail(self) -> None:
        """In every state in which it is there the transport connection can go."""
        for state in set(ConnectionState) - {
            ConnectionState.FREE,
            ConnectionState.CLEANUP_WAIT,
            ConnectionState.IN_CLEANUP,
        }:
            self.assertIn((state, ConnectionEvent.DISCONNECTED), TRANSITIONS)
