# SPDX-License-Identifier: MIT
"""
Answers that are very many PDUs: they are made as they are sent, for all at once would
keep everybody waiting (`scstd.protocols.engine.outlet`).
"""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.commands import read10, write10
from scstd.initiator.connection import on_the_wire
from scstd.protocols.engine.outlet import OUTPUT_BATCH
from scstd.protocols.iscsi_server import ISCSITargetFactory
from scstd.protocols.wire.codes import FINAL, STATUS
from scstd.protocols.wire.framing import Framer
from scstd.protocols.wire.pdu import DataIn, LoginRequest, NOPIn, SCSICommand
from scstd.protocols.wire.text import encode
from scstd.test.initiator import INITIATOR, TARGET, Initiator, serve
from scstd.test.stores import ManualStore, memory

BLOCKS = 2048
"""Of 512 bytes, each in a PDU of its own."""

SHORT = "512"
CONTENT = b"".join(number.to_bytes(4, "big") * 128 for number in range(BLOCKS))


def filled() -> Any:
    """Return a store whose blocks differ."""
    store = memory(size=len(CONTENT))
    store.write(0, CONTENT, False)
    return store


class LongAnswerTests(SynchronousTestCase):
    """
    A session whose initiator takes 512 bytes a PDU.
    """

    keys: dict[str, str] = {}

    def setUp(self) -> None:
        """Log in."""
        self.node, _target, _units = serve(filled())
        self.one = Initiator(self.node).ready(
            MaxRecvDataSegmentLength=SHORT, MaxBurstLength="8192", **self.keys
        )
        self.connection = self.one.connection

    def read(self, blocks: int = BLOCKS) -> SCSICommand:
        """Return a READ."""
        return self.one.command(read10(0, blocks), read=blocks << 9)

    def test_a_part_at_a_time(self) -> None:
        """There is never much more than a batch of it."""
        self.one.send(self.read())
        turns = most = 0
        while self.connection.output:
            output = self.connection.take_output()
            most = max(most, sum(map(len, output)))
            turns += 1
        self.assertGreater(turns, 10)
        self.assertLess(most, 2 * OUTPUT_BATCH)
        self.assertEqual(self.connection.output_bytes, 0)

    def test_whole(self) -> None:
        """All of it comes, numbered, in sequences, and with the status at its end."""
        self.one.send(self.read())
        found = self.one.receive()
        self.assertEqual(b"".join(bytes(pdu.data) for pdu in found), CONTENT)
        self.assertEqual([pdu.data_sn for pdu in found], list(range(BLOCKS)))
        self.assertEqual(
            [pdu.buffer_offset for pdu in found], list(range(0, BLOCKS << 9, 512))
        )
        ends = [number for number, pdu in enumerate(found) if pdu.flags & FINAL]
        self.assertEqual(ends, list(range(15, BLOCKS, 16)))
        self.assertEqual(
            [bool(pdu.flags & STATUS) for pdu in found], [False] * 2047 + [True]
        )

    def test_order(self) -> None:
        """What is answered meanwhile comes behind it, and StatSN in order."""
        first, last = self.read(), self.read(4)
        self.one.send(first)
        self.connection.take_output()
        # Nothing more is taken in, but there may be something to say.
        self.connection.send_pdu(NOPIn(), advance=False)
        self.one.send(self.one.ping(b"later"), last)
        found = self.one.receive()
        kinds = [type(pdu) for pdu in found]
        behind = kinds.index(NOPIn)
        self.assertEqual(set(kinds[:behind]), {DataIn})
        self.assertTrue(found[behind - 1].flags & STATUS)
        self.assertEqual(kinds[behind:], [NOPIn, NOPIn] + [DataIn] * 4)
        numbers = [found[at].stat_sn for at in (behind - 1, behind + 1, -1)]
        self.assertEqual(numbers, list(range(numbers[0], numbers[0] + 3)))

    def test_ends_meanwhile(self) -> None:
        """A connection that is over sends the rest of it."""
        self.one.send(self.read())
        self.connection.fail("enough")
        found = b"".join(
            bytes(pdu.data) for pdu in self.one.receive() if type(pdu) is DataIn
        )
        self.assertEqual(found, CONTENT)


class OtherCommandsTests(SynchronousTestCase):
    """
    What ends while such an answer is on its way.
    """

    def test_behind(self) -> None:
        """A command that the store ends meanwhile is answered behind it."""
        store = ManualStore(size=len(CONTENT))
        node, _target, _units = serve(store)
        one = Initiator(node).ready(MaxRecvDataSegmentLength=SHORT)
        data = bytes(512)
        one.send(one.command(read10(0, BLOCKS), read=len(CONTENT)))
        write = one.command(write10(BLOCKS - 1, 1), write=512)
        write.data = data
        read = one.command(read10(0, 1), read=512)
        one.send(write, read)
        # The store ends all three before a byte of the first is sent.
        store.go(3)
        one.connection.take_output()
        found = one.receive()
        self.assertTrue(all(type(pdu) is DataIn for pdu in found[:-2]))
        self.assertEqual(found[-3].data_sn, BLOCKS - 1)
        self.assertEqual([pdu.itt for pdu in found[-2:]], [write.itt, read.itt])
        numbers = [pdu.stat_sn for pdu in found[-3:]]
        self.assertEqual(numbers, list(range(numbers[0], numbers[0] + 3)))


class DigestTests(LongAnswerTests):
    """
    The same with digests.
    """

    keys = {"HeaderDigest": "CRC32C", "DataDigest": "CRC32C"}


class TransportTests(SynchronousTestCase):
    """
    The transport of such a session.
    """

    def setUp(self) -> None:
        """Log in."""
        self.node, _target, _units = serve(filled())
        self.clock = Clock()
        self.factory = ISCSITargetFactory(self.node, self.clock)
        self.transport: Any = StringTransport()
        self.protocol: Any = self.factory.buildProtocol(self.transport.getPeer())
        self.protocol.makeConnection(self.transport)
        keys = [
            ("InitiatorName", INITIATOR),
            ("TargetName", TARGET),
            ("MaxRecvDataSegmentLength", SHORT),
        ]
        self.send(LoginRequest(flags=0x87, isid=b"\x80\0\0\0\0\1", data=encode(keys)))
        (session,) = self.node.sessions()
        session.nexus.itls[0].attentions.clear()
        self.take()
        self.transport.clear()

    def send(self, pdu: Any) -> None:
        """Send a PDU."""
        self.protocol.dataReceived(on_the_wire(pdu, False, False))

    def read(self) -> SCSICommand:
        """Return an immediate READ of all."""
        return SCSICommand(
            first=0x41,
            flags=0xC1,
            itt=1,
            expected_data_transfer_length=len(CONTENT),
            cdb=read10(0, BLOCKS).ljust(16, b"\0"),
        )

    def take(self) -> None:
        """Have the transport take what there is."""
        while self.transport.producer is not None:
            self.transport.producer.resumeProducing()

    def test_in_turns(self) -> None:
        """Others have their turn before all of it is sent."""
        self.send(self.read())
        self.assertLess(self.protocol._backlog_bytes, len(CONTENT) // 2)
        self.assertTrue(self.protocol.connection.paused)
        for _turn in range(10):
            self.clock.advance(0)
            self.take()
        framer = Framer()
        framer.feed(self.transport.value())
        found = b"".join(bytes(pdu.data) for pdu in iter(framer.next, None))
        self.assertEqual(found, CONTENT)
        self.assertFalse(self.protocol.connection.paused)
        self.assertEqual(self.node.unsent.total, 0)

    def test_counted(self) -> None:
        """What is not made yet counts as unsent, until the connection is gone."""
        self.send(self.read())
        self.assertGreater(self.node.unsent.total, len(CONTENT) - 2 * OUTPUT_BATCH)
        self.protocol.connectionLost()
        self.assertEqual(self.node.unsent.total, 0)
        self.assertEqual(self.protocol.connection.later_bytes, 0)

    def test_closed_meanwhile(self) -> None:
        """It is sent before the connection is closed."""
        self.send(self.read())
        self.protocol.connection.fail("enough")
        self.clock.advance(0)
        self.take()
        self.assertGreater(len(self.transport.value()), len(CONTENT))
        self.assertTrue(self.transport.disconnecting)
