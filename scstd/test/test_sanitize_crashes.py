# SPDX-License-Identifier: MIT
"""
A sanitize operation, on a state's disk whose every system call fails once, from then on,
or is the last: what was promised is done, what was refused is not, and nothing that was
written after it is lost.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from scstd.block.remembered import pending
from scstd.initiator.commands import write10
from scstd.protocols.wire.pdu import SCSIResponse
from scstd.scsi.device import open_disk
from scstd.scsi.sbc.steps import PIECE
from scstd.test.crashing import CHOICES, Disk
from scstd.test.initiator import Initiator, serve
from scstd.test.stores import memory
from scstd.test.test_atomic_crashes import opened
from scstd.test.test_crashes import EVER, CrashTests, Fault, faults
from scstd.test.test_erase import IMMED, OVERWRITE, Turns, pattern, sanitize
from scstd.test.test_management import UUID

OLD, CLEAN, NEW = b"o", b"z", b"w"

SIZE = 2 * PIECE


class Story:
    """
    A sanitize operation and a write after it; *sanitized* says whether that has to be
    so after a restart, None that it may or may not, and *written* the same of the write.
    """

    def __init__(self, disk: Disk, fault: Fault | None) -> None:
        self.disk, self.clock, self.turns = disk, Clock(), Turns()
        self.store = memory(SIZE)
        self.store.write(0, OLD * SIZE, False)
        self.memory = opened(disk.root)
        self.memory.retry_with(self.clock.callLater)
        self.memory.update("uuid", UUID)
        node, target, _units = serve(self.store)
        self.unit = open_disk(
            "disk", self.store, memory=self.memory, later=self.turns.later
        )
        target.luns.clear()
        target.add_lun(0, self.unit)
        self.one = Initiator(node).ready()
        self.sanitized: bool | None = False
        self.written: bool | None = False
        disk.count = 0
        if fault is not None:
            disk.fault = fault

    def tell(self, turns: int) -> None:
        """Sanitize, for so many turns, or to the end and write then."""
        data = pattern(CLEAN)
        cdb = sanitize(OVERWRITE, IMMED, len(data))
        status = self.do(cdb, data)
        self.sanitized = {0: True, 2: False, None: None}[status]
        for _turn in range(turns):
            self.turns.one()
        if turns > 2:
            self.write()

    def write(self) -> None:
        """Write to the first block."""
        status = self.do(write10(0, 1), NEW * 512)
        if status == 0:
            self.written = True

    def do(self, cdb: bytes, data: bytes) -> int | None:
        """Carry out a command; return its status, None if there is none."""
        if self.disk.off:
            return None
        self.one.send(self.one.command(cdb, write=len(data), data=data))
        for pdu in self.one.receive():
            assert isinstance(pdu, SCSIResponse)
            return None if self.off() else pdu.status
        return None

    def off(self) -> bool:
        """Say whether the power has failed."""
        return self.disk.off


class SanitizeCrashTests(CrashTests):
    """
    A sanitize operation, and a state's disk.
    """

    def told(self, fault: Fault | None, turns: int) -> Story:
        """Tell the story."""
        story = Story(self.disk(), fault)
        story.tell(turns)
        return story

    def check(self, story: Story, what: Any) -> None:
        """After a restart, when all has ended, there has to be what was promised."""
        for choice in CHOICES[:2]:
            kept = opened(self.again(story.disk, choice))
            store, turns = memory(SIZE), Turns()
            store.write(0, story.store.read(0, SIZE), False)
            unit = open_disk("disk", store, memory=kept, later=turns.later)
            turns.all()
            self.assertEqual(unit.conditions, [])
            self.assertIsNone(pending(kept.load()))
            first, rest = store.read(0, 512)[:1], store.read(512, SIZE - 512)
            found = bytes(rest[:1])
            self.assertEqual(rest, found * (SIZE - 512), (what, choice))
            self.assertIn(
                found, {True: CLEAN, False: OLD, None: CLEAN + OLD}[story.sanitized]
            )
            if story.written:
                self.assertEqual(first, NEW, (what, choice))
            else:
                self.assertEqual(first, found, (what, choice))
            kept.close()

    def test_every_fault(self) -> None:
        """With every fault, in the middle and after its end."""
        for turns, counts in ((1, (EVER,)), (5, (1, EVER))):
            calls = self.told(None, turns).disk.count
            self.assertGreater(calls, 7)
            for name, fault in faults(calls, counts):
                what = turns, name
                story = self.told(fault, turns)
                self.check(story, what)
                if not story.disk.off:
                    story.disk.fault = lambda _number, _name: None
                    story.clock.pump([2.0, 4.0, 8.0, 16.0, 32.0, 64.0])
                    story.turns.all()
                    if story.sanitized is None:
                        # It was accepted, and waited for being remembered.
                        self.assertEqual(story.one.one(SCSIResponse).status, 0)
                        story.sanitized = True
                    story.written = story.written or False
                    story.write()
                    self.assertTrue(story.written, what)
                    self.check(story, what)
                story.memory.close()
