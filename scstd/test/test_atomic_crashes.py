# SPDX-License-Identifier: MIT
"""
Atomic writes and others, on a medium that loses its power, with a state's disk that
fails: after each system call, of which anything not synced is left or lost.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from scstd.block.persistence import Volatile
from scstd.filters.base import Filtered
from scstd.initiator.commands import write10
from scstd.management.state.device_memory import DeviceMemory
from scstd.management.state.state import StateDirectory
from scstd.protocols.wire.pdu import SCSIResponse
from scstd.scsi.device import open_disk
from scstd.test.crashing import CHOICES, CUT, Disk, PowerCut
from scstd.test.initiator import Initiator, serve
from scstd.test.stores import memory
from scstd.test.test_block import atomic
from scstd.test.test_crashes import EVER, CrashTests, Fault, faults
from scstd.test.test_management import UUID, AtOnce

SECTORS = 8
FUA = 8


class Medium(Filtered):
    """
    A store whose writes are in a cache until they are flushed; the power of *disk* is
    its own, too.
    """

    def __init__(self, disk: Disk, content: bytes) -> None:
        super().__init__(memory())
        self.disk = disk
        self.durable = content
        self.inner.write(0, content, False)

    def content(self) -> bytes:
        """Return what is in the cache, and on the medium where it is not."""
        return bytes(self.inner.read(0, SECTORS * 512))

    def _step(self) -> bool:
        """Say whether the power fails during this."""
        if self.disk.off:
            raise PowerCut(errno.EIO, "the power is off")
        self.disk.count += 1
        return self.disk.fault(self.disk.count, "store") == CUT

    def write(self, offset: int, data: Any, fua: bool) -> Any:
        """Write; half of it if the power fails."""
        if self._step():
            self.inner.write(offset, bytes(data)[: len(data) // 1024 * 512], False)
            self.disk.off = True
            raise PowerCut(errno.EIO, "the power is off")
        super().write(offset, data, False)
        if fua:
            self.durable = self.content()

    def flush(self) -> Any:
        """Flush."""
        if self._step():
            self.disk.off = True
            raise PowerCut(errno.EIO, "the power is off")
        self.durable = self.content()

    def left(self) -> Iterator[bytes]:
        """Yield what there may be after a loss of power."""
        now, before = self.content(), self.durable
        yield before
        yield now
        for odd in (0, 1):
            yield b"".join(
                (now if at % 2 == odd else before)[at * 512 : at * 512 + 512]
                for at in range(SECTORS)
            )


class Story:
    """
    Commands, and what there has to be on the medium: each sector one of *possible*.
    """

    def __init__(self, disk: Disk, fault: Fault | None) -> None:
        self.disk, self.clock = disk, Clock()
        self.medium: Any
        self.medium = Medium(disk, b"o" * 512 * SECTORS)
        self.memory = opened(disk.root)
        self.memory.retry_with(self.clock.callLater)
        self.memory.update("uuid", UUID)
        node, target, _units = serve(self.medium)
        self.unit = open_disk("disk", self.medium, memory=self.memory)
        target.luns.clear()
        target.add_lun(0, self.unit)
        self.one = Initiator(node).ready()
        self.possible: list[set[bytes]] = [{b"o" * 512} for _ in range(SECTORS)]
        self.under_way: tuple[int, bytes] | None = None
        self.good = 0
        disk.count = 0
        if fault is not None:
            disk.fault = fault

    def tell(self) -> None:
        """Write this and that."""
        self.write(0, b"a" * 2048)
        self.atomic(0, b"b" * 2048)
        self.write(1, b"c" * 512, FUA)
        self.write(3, b"e" * 512)
        self.atomic(2, b"d" * 2048)
        # What was there before, again.
        self.write(2, b"b" * 512, FUA)
        self.atomic(0, b"f" * 4096)

    def atomic(self, lba: int, data: bytes) -> None:
        """Write atomically: it is durable."""
        if self._done(atomic(lba, len(data) // 512), data):
            self._settle(lba, data)
        elif self.disk.off and self.under_way is None:
            self.under_way = lba, data

    def write(self, lba: int, data: bytes, flags: int = 0) -> None:
        """Write, and perhaps durably."""
        cdb = bytearray(write10(lba, len(data) // 512))
        cdb[1] |= flags
        if self._done(bytes(cdb), data) and flags:
            self._settle(lba, data)
            return
        if self.under_way is None:
            for at in range(len(data) // 512):
                if self.disk.off or not flags:
                    self.possible[lba + at].add(data[:512])

    def _settle(self, lba: int, data: bytes) -> None:
        """Take in that this is durable, and all that was before."""
        content = self.medium.content()
        self.possible = [{content[at * 512 : at * 512 + 512]} for at in range(SECTORS)]
        for at in range(len(data) // 512):
            self.possible[lba + at] = {data[:512]}

    def _done(self, cdb: bytes, data: bytes) -> bool:
        """Carry out a command; say whether it was answered GOOD, with the power on."""
        if self.disk.off:
            return False
        self.one.send(self.one.command(cdb, write=len(data), data=data))
        status = self.one.one(SCSIResponse).status
        good = status == 0 and not self.disk.off
        self.good += good
        return good

    def explains(self, content: bytes) -> bool:
        """Say whether this may be there."""
        found = [content[at * 512 : at * 512 + 512] for at in range(SECTORS)]
        wanted = [list(one) for one in self.possible]
        if self.under_way is not None:
            lba, data = self.under_way
            new = list(wanted)
            for at in range(len(data) // 512):
                new[lba + at] = [data[:512]]
            if all(one in some for one, some in zip(found, new, strict=True)):
                return True
        return all(one in some for one, some in zip(found, wanted, strict=True))


def opened(root: Path) -> DeviceMemory:
    """Open what the device remembers."""
    return StateDirectory(root / "state").device("disk", AtOnce())


class AtomicCrashTests(CrashTests):
    """
    A medium, and a state's disk.
    """

    def told(self, fault: Fault | None) -> Story:
        """Tell the story, with a fault."""
        story = Story(self.disk(), fault)
        story.tell()
        return story

    def check(self, story: Story, what: str) -> None:
        """Whatever is left of either: all or nothing, and nothing lost."""
        for choice in CHOICES:
            root = self.again(story.disk, choice)
            kept = opened(root)
            record = kept.record
            kept.close()
            for content in story.medium.left():
                store = memory()
                store.write(0, content, False)
                again = Volatile({"uuid": UUID}, record=record, durable=True)
                unit = open_disk("disk", store, memory=again)
                self.assertEqual(unit.conditions, [])
                found = bytes(store.read(0, SECTORS * 512))
                self.assertTrue(
                    story.explains(found), (what, choice, content[::512], found[::512])
                )

    def test_well(self) -> None:
        """Without a fault all is GOOD, and no record is left."""
        story = self.told(None)
        self.assertEqual(story.good, 7)
        self.check(story, "none")
        self.assertEqual(opened(story.disk.root).record, b"")
        story.memory.close()

    def test_every_fault(self) -> None:
        """With every one."""
        calls = self.told(None).disk.count
        self.assertGreater(calls, 20)
        for name, fault in faults(calls, (1, 4, EVER)):
            story = self.told(fault)
            self.check(story, name)
            if not story.disk.off:
                story.disk.fault = lambda _number, _name: None
                story.clock.pump([2.0, 4.0, 8.0, 16.0, 32.0, 64.0])
                self.assertEqual((name, story.unit.conditions), (name, []))
                self.check(story, f"{name}, then well")
            self.successResultOf(Deferred.fromCoroutine(story.memory.finish()))
            story.memory.close()
