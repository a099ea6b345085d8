# SPDX-License-Identifier: MIT
"""
Command priority (RFC 7144's PRI field; SAM-5, Command priority): which of the SIMPLE
commands that wait is next, and that it never comes before the rules of the attributes.
"""

from __future__ import annotations

import struct
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.commands import read10
from scstd.interfaces import Buffer, Result, command_priority
from scstd.protocols.engine.node import TargetSettings
from scstd.protocols.wire.codes import TaskManagementCode
from scstd.protocols.wire.pdu import SCSIResponse
from scstd.scsi.aca import FaultedTaskSet
from scstd.scsi.holds import Holds
from scstd.test.initiator import INITIATOR, Initiator, serve
from scstd.test.stores import ManualStore
from scstd.test.test_allegiance import BEYOND, with_naca

UNTAGGED, SIMPLE, ORDERED, HEAD_OF_QUEUE, ACA = range(5)


class Recording(ManualStore):
    """
    A store that notes the LBA and the priority of each read.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[tuple[int, int]] = []

    def read(self, offset: int, length: int) -> Result[Buffer]:
        """Read, later."""
        self.reads.append((offset // 512, command_priority.get()))
        return super().read(offset, length)


class PriorityBench(SynchronousTestCase):
    """
    An initiator at iSCSIProtocolLevel 2.
    """

    def begin(self, level: int = 2, **settings: Any) -> None:
        """Log in."""
        self.store = Recording()
        self.node, _target, (self.unit,) = serve(
            self.store, limits=TargetSettings(queued_commands=64), **settings
        )
        self.one = Initiator(self.node)
        self.one.ready(iSCSIProtocolLevel=str(level))

    def read(
        self,
        lba: int,
        priority: int = 0,
        attribute: int = SIMPLE,
        who: Initiator | None = None,
    ) -> None:
        """Send a read with a priority."""
        who = who or self.one
        pdu = bytearray(
            who.encode(who.command(read10(lba, 1), read=512, attribute=attribute))
        )
        # The other four bits are reserved.
        pdu[2] = priority << 4 | 0x0F
        who.feed(bytes(pdu))

    def started(self) -> list[int]:
        """Return the LBAs of the reads that have started since this was asked last."""
        found = [lba for lba, _priority in self.store.reads]
        self.store.reads.clear()
        return found


class TaskSetTests(PriorityBench):
    """
    Commands that wait in the task set.
    """

    def test_behind_ordered(self) -> None:
        """What an ORDERED command has held up goes on by priority, 1 first."""
        self.begin()
        self.read(0, attribute=ORDERED)
        for lba, priority in ((1, 15), (2, 0), (3, 8), (4, 9), (5, 1), (6, 7), (7, 1)):
            self.read(lba, priority)
        self.assertEqual(self.started(), [0])
        self.store.go()
        self.assertEqual(self.started(), [5, 7, 6, 2, 3, 4, 1])

    def test_every_priority(self) -> None:
        """All of them, in order; none is in the middle."""
        self.begin()
        self.read(100, attribute=HEAD_OF_QUEUE)
        for priority in reversed(range(16)):
            self.read(priority, priority)
        self.store.go()
        self.assertEqual(
            self.started(), [100, 1, 2, 3, 4, 5, 6, 7, 8, 0, *range(9, 16)]
        )

    def test_untagged(self) -> None:
        """Untagged commands are as SIMPLE ones."""
        self.begin()
        self.read(0, attribute=ORDERED)
        self.read(1)
        self.read(2, 1, UNTAGGED)
        self.store.go()
        self.assertEqual(self.started(), [0, 2, 1])

    def test_not_across_ordered(self) -> None:
        """No priority gets a command past an ORDERED one."""
        self.begin()
        self.read(0, attribute=ORDERED)
        self.read(1, 15)
        self.read(2, attribute=ORDERED)
        self.read(3, 1)
        for expected in ([0], [1], [2], [3]):
            self.assertEqual(self.started(), expected)
            self.store.go()

    def test_not_of_others(self) -> None:
        """ORDERED and HEAD OF QUEUE commands have none, and keep their places."""
        self.begin()
        self.read(0)
        self.read(1, 15, ORDERED)
        self.read(2, 1, ORDERED)
        self.assertEqual(self.started(), [0])
        for expected in ([1], [2]):
            self.store.go()
            self.assertEqual(self.started(), expected)
        self.read(3, 15, HEAD_OF_QUEUE)
        self.read(4, 1)
        self.assertEqual(self.started(), [3])
        self.store.go(2)
        self.assertEqual(self.started(), [4])

    def test_of_several(self) -> None:
        """In one task set the commands of all nexuses are in one order."""
        self.begin(tst=0)
        other = Initiator(self.node, name=INITIATOR + "2")
        other.ready(iSCSIProtocolLevel="2")
        self.read(0, attribute=ORDERED)
        self.read(1, 2)
        self.read(2, 1, who=other)
        self.read(3, who=other)
        self.store.go()
        self.assertEqual(self.started(), [0, 2, 1, 3])

    def test_restricted(self) -> None:
        """With QUEUE ALGORITHM MODIFIER 0 the order of arrival stands."""
        self.begin()
        self.unit.restricted_reordering = True
        for lba, priority in ((0, 0), (1, 9), (2, 1)):
            self.read(lba, priority)
        for expected in ([0], [1], [2]):
            self.assertEqual(self.started(), expected)
            self.store.go()

    def test_after_allegiance(self) -> None:
        """What auto contingent allegiance has blocked goes on by priority."""
        self.begin()
        self.read(0, attribute=ORDERED)
        self.read(1, 9)
        self.read(2, 1)
        fails = self.one.command(with_naca(BEYOND), attribute=HEAD_OF_QUEUE)
        self.one.send(fails)
        self.assertEqual(self.one.one(SCSIResponse).status, 2)
        self.store.go()
        # The attribute counts, and has no priority.
        self.read(3, 5, ACA)
        self.assertEqual(self.started(), [0, 3])
        self.store.go()
        itl = self.one.connection.session.nexus.itls[0]  # type: ignore[union-attr]
        self.assertIsInstance(itl.task_set, FaultedTaskSet)
        self.one.manage(TaskManagementCode.CLEAR_ACA)
        self.assertEqual(self.started(), [2, 1])

    def test_held(self) -> None:
        """What waits at a unit that is suspended goes on by priority."""
        self.begin()
        holds = Holds()
        holds.hold(self.unit, "me")
        for lba, priority in ((0, 0), (1, 9), (2, 1)):
            self.read(lba, priority)
        holds.release(self.unit, "me")
        self.assertEqual(self.started(), [2, 0, 1])

    def test_limited(self) -> None:
        """A limited task set counts it once."""
        self.begin(max_tgt_dev_commands=2)
        self.read(0, 1)
        self.read(1, 2)
        self.read(2, 3)
        self.assertEqual(self.started(), [0, 1])
        self.assertEqual(self.one.one(SCSIResponse).status, 0x28)
        self.store.go(2)
        self.read(3, 1)
        self.assertEqual(self.started(), [3])


class StoreTests(PriorityBench):
    """
    What the store is told of it.
    """

    def test_told(self) -> None:
        """A store is called with the priority of the command, and else with none."""
        self.begin()
        self.read(0)
        self.read(1, 3)
        self.read(2)
        self.read(3, 3, ORDERED)
        self.assertEqual(self.store.reads, [(0, 0), (1, 3), (2, 0)])
        self.assertEqual(command_priority.get(), 0)
        self.store.go(3)
        self.assertEqual(self.store.reads[3:], [(3, 0)])

    def test_long_cdb(self) -> None:
        """A command with an additional header segment may have one too."""
        self.begin(long_cdbs=1)
        cdb = struct.pack(">B6xBHxxQ8xI", 0x7F, 24, 0x09, 5, 1)
        pdu = self.one.command(cdb, read=512)
        pdu.ahs = struct.pack(">HBx", 17, 1) + cdb[16:]
        whole = bytearray(self.one.encode(pdu))
        whole[2] = 0x40
        self.one.feed(bytes(whole))
        self.assertEqual(self.store.reads, [(5, 4)])

    def test_fails(self) -> None:
        """Nor is anything left of it when the command fails at once."""
        self.begin()

        def broken(offset: int, length: int) -> Buffer:
            del offset, length
            raise OSError(5, "broken")

        self.store.read = broken  # type: ignore[method-assign]
        self.read(0, 3)
        self.assertEqual(self.one.one(SCSIResponse).status, 2)
        self.assertEqual(command_priority.get(), 0)

    def test_unknown_command(self) -> None:
        """A command that is not there may have one too."""
        self.begin()
        pdu = bytearray(self.one.encode(self.one.command(b"\xc1" + bytes(9))))
        pdu[2] = 0x10
        self.one.feed(bytes(pdu))
        self.assertEqual(self.one.one(SCSIResponse).status, 2)

    def test_level(self) -> None:
        """Without iSCSIProtocolLevel 2 the field is reserved, and not looked at."""
        self.begin(level=1)
        self.assertIsNone(self.one.connection.tapped)
        self.read(0, 3)
        self.assertEqual(self.store.reads, [(0, 0)])

    def test_byte_by_byte(self) -> None:
        """The field is found also where a header comes in pieces, with digests."""
        self.store = Recording()
        node, _target, _units = serve(self.store)
        self.one = Initiator(node)
        self.one.ready(iSCSIProtocolLevel="2", HeaderDigest="None", DataDigest="CRC32C")
        self.one.byte_by_byte()
        self.read(7, 6)
        self.assertEqual(self.store.reads, [(7, 6)])

    def test_reported(self) -> None:
        """Extended INQUIRY Data says PRIOR_SUP."""
        self.begin()
        page = self.one.do(b"\x12\1\x86\0\xff\0", read=255).data
        self.assertEqual(page[5], 0x0F)
