# SPDX-License-Identifier: MIT
"""
Tests for `scstd.scsi.spc.mode` and `pages`: every page, every page control, every bit
that can be changed, and that what can be changed acts.
"""

from __future__ import annotations

import errno
import struct
from typing import Any

from twisted.internet.defer import fail
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides

from scstd.block.persistence import Volatile
from scstd.filters.base import Filtered
from scstd.initiator.commands import CommandResult, read10, write10
from scstd.interfaces import IWriteThrough
from scstd.scsi.device import open_disk
from scstd.scsi.spc import mode
from scstd.scsi.unit import LogicalUnit
from scstd.test.initiator import INITIATOR, Initiator, serve
from scstd.test.stores import ManualStore, memory

CURRENT, CHANGEABLE, DEFAULT, SAVED = range(4)


class Watching(Filtered):
    """
    A store that notes what is written with FUA, and flushes.
    """

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.seen: list[str] = []

    def write(self, offset: int, data: Any, fua: bool) -> Any:
        self.seen.append("fua" if fua else "write")
        return super().write(offset, data, fua)

    def unmap(self, offset: int, length: int) -> Any:
        self.seen.append("unmap")
        return super().unmap(offset, length)

    def flush(self) -> Any:
        self.seen.append("flush")
        return super().flush()


class PageTests(SynchronousTestCase):
    """
    What all of them need: a disk, two initiators, MODE SENSE and MODE SELECT.
    """

    unit: LogicalUnit

    def setUp(self) -> None:
        """Serve a plain store."""
        self.connect(memory())

    def connect(self, store: Any, **settings: Any) -> None:
        """Serve a store, and log in twice."""
        self.node, _target, (self.unit,) = serve(store, **settings)
        self.one = Initiator(self.node).ready()
        self.other = Initiator(self.node, name=INITIATOR + "2").ready()

    def sense(self, code: int, subpage: int = 0, control: int = CURRENT) -> bytes:
        """Return pages, without header and block descriptor."""
        cdb = struct.pack(">BBBBxxxHx", 0x5A, 8, control << 6 | code, subpage, 4096)
        data = self.one.do(cdb, read=4096).data
        self.assertEqual(int.from_bytes(data[:2], "big"), len(data) - 2)
        return data[8:]

    def pages(self, control: int) -> dict[tuple[int, int], bytes]:
        """Return every page by its code and subpage."""
        data, found = self.sense(0x3F, 0xFF, control), {}
        while data:
            if data[0] & 0x40:
                length = 4 + int.from_bytes(data[2:4], "big")
                key = data[0] & 0x3F, data[1]
            else:
                length, key = 2 + data[1], (data[0] & 0x3F, 0)
            found[key], data = data[:length], data[length:]
        return found

    def select(
        self, *pages: bytes, save: bool = False, head: bytes = bytes(8), by: Any = None
    ) -> CommandResult:
        """Send pages with MODE SELECT(10)."""
        data = head + b"".join(pages)
        cdb = struct.pack(">BBxxxxxHx", 0x55, 0x11 if save else 0x10, len(data))
        return (by or self.one).do(cdb, data=data)

    def set(self, name: str, value: int, *, save: bool = False) -> CommandResult:
        """Set a parameter by the field that holds it."""
        for page in mode.pages_of(self.unit):
            for field in page.fields:
                if field.name == name:
                    data = bytearray(self.sense(page.code, page.subpage))
                    number = int.from_bytes(data, "big") & ~field.mask(len(data))
                    number |= value << field.shift(len(data))
                    changed = number.to_bytes(len(data), "big")
                    return self.select(changed, save=save)
        raise AssertionError(name)

    def refused(
        self, done: CommandResult, asc: int, at: int, bit: int | None = None
    ) -> None:
        """The command has to have failed, pointing at this byte (and bit)."""
        self.assertEqual((done.status, done.key), (2, 5))
        self.assertEqual(f"{done.asc:04x}", f"{asc:04x}")
        self.assertTrue(done.sense[15] & 0x80)
        self.assertEqual(int.from_bytes(done.sense[16:18], "big"), at)
        if bit is not None:
            self.assertEqual(done.sense[15] & 0x0F, 8 | bit)


class EveryPageTests(PageTests):
    """
    Every page x page control x bit.
    """

    def test_pages(self) -> None:
        """These pages are there, each alone, by subpage, in 3Fh and in 3Fh/FFh."""
        everything = self.pages(CURRENT)
        self.assertLessEqual(
            {
                *((code, 0) for code in (1, 2, 3, 4, 7, 8, 0xA, 0x18, 0x19, 0x1A)),
                (0xA, 1),
                (0x1C, 0),
                (0x1C, 2),
            },
            set(everything),
        )
        for (code, subpage), page in everything.items():
            self.assertEqual(self.sense(code, subpage), page)
        plain = b"".join(page for key, page in everything.items() if not key[1])
        self.assertEqual(self.sense(0x3F), plain)
        both = everything[0xA, 0] + everything[0xA, 1]
        self.assertEqual(self.sense(0xA, 0xFF), both)

    def test_controls(self) -> None:
        """In each page control a page has the same header; saved ones are default."""
        current = self.pages(CURRENT)
        for control in (CHANGEABLE, DEFAULT, SAVED):
            found = self.pages(control)
            self.assertEqual(list(found), list(current))
            for (code, subpage), page in found.items():
                head = 4 if subpage else 2
                self.assertEqual(page[:head], current[code, subpage][:head])
                self.assertEqual(len(page), len(current[code, subpage]))
        self.assertEqual(self.pages(DEFAULT), current)
        self.assertEqual(self.pages(SAVED), current)

    def test_savable(self) -> None:
        """PS is set where something can be changed, and nowhere else."""
        for (code, subpage), mask in self.pages(CHANGEABLE).items():
            some = any(mask[4 if subpage else 2 :])
            self.assertEqual(bool(mask[0] & 0x80), some, (code, subpage))

    def test_every_bit(self) -> None:
        """Each bit of each page is set, or refused by name: as the mask says."""
        masks = self.pages(CHANGEABLE)
        tried = 0
        for (code, subpage), page in self.pages(CURRENT).items():
            mask, head = masks[code, subpage], 4 if subpage else 2
            for bit in range(8 * (len(page) - head)):
                changed = bytearray(page)
                byte = head + bit // 8
                changed[byte] ^= 1 << bit % 8
                done = self.select(bytes(changed))
                tried += 1
                if not mask[byte] >> bit % 8 & 1:
                    self.refused(done, 0x2600, 8 + byte, bit % 8)
                elif done.status:
                    # A value that the standard reserves.
                    self.assertEqual(done.asc, 0x2600, (code, subpage, byte, bit))
                    self.assertIn((code, byte), {(0xA, 3)})
                else:
                    self.assertEqual(self.sense(code, subpage), bytes(changed))
                    self.assertEqual(self.other.do(bytes(6)).asc, 0x2A01)
                    self.assertEqual(self.select(page).status, 0)
                    self.other.do(bytes(6))
        self.assertGreater(tried, 1500)

    def test_what_can_be_changed(self) -> None:
        """These parameters can be changed, and no other: each has a test that it acts."""
        self.assertEqual(
            set(mode.changeable(self.unit)),
            {
                "write_cache",
                "descriptor_sense",
                "queue_algorithm",
                "queue_error",
                "software_write_protect",
                "task_aborted_status",
                "tmf_only",
            },
        )

    def test_saved_over_a_reopen(self) -> None:
        """What is saved with SP is there when the device is opened again; else not."""
        kept = Volatile()
        values = {
            "write_cache": 0,
            "descriptor_sense": 1,
            "queue_algorithm": 0,
            "queue_error": 3,
            "software_write_protect": 1,
            "task_aborted_status": 1,
        }
        self.unit.memory = kept
        for name, value in values.items():
            self.assertEqual(self.set(name, value, save=True).status, 0)
            self.assertEqual(self.unit.mode(name), value)
        self.assertEqual(self.pages(SAVED), self.pages(CURRENT))
        again = open_disk("disk0", memory(), memory=kept)
        for name, value in values.items():
            self.assertEqual(again.mode(name), value, name)
        self.assertTrue(again.write_protected)
        self.assertTrue(again.restricted_reordering)
        self.assertEqual(self.set("queue_error", 1).status, 0)
        again = open_disk("disk0", memory(), memory=kept)
        self.assertEqual(again.queue_error, 3)

    def test_not_saved(self) -> None:
        """What cannot be kept is refused, and is not among what is saved."""

        class Full(Volatile):
            def update(self, key: str, value: Any) -> Any:
                del key, value
                return fail(OSError(errno.ENOSPC, "full"))

        before = self.pages(SAVED)
        self.unit.memory = Full()
        done = self.set("queue_error", 3, save=True)
        self.assertEqual((done.status, done.key), (2, 4))
        self.assertEqual(self.pages(SAVED), before)
        self.flushLoggedErrors()

    def test_saved_elsewhere(self) -> None:
        """Saved values that cannot be set, any more or at all, are left out."""
        kept = Volatile()
        kept.update("modes", {"queue_error": 2, "write_cache": 1, "gone": 1, "tst": 9})
        store = memory()
        alsoProvides(store, IWriteThrough)
        unit = open_disk("disk0", store, memory=kept)
        self.assertEqual((unit.queue_error, unit.write_cache), (0, False))
        self.assertEqual(unit.saved_modes, {})

    def test_geometry(self) -> None:
        """Pages 03h and 04h hold at least the capacity, in blocks of the right size."""
        for size, block_size in ((1 << 20, 512), (64 << 20, 4096)):
            self.connect(memory(size, block_size))
            form, geometry = self.sense(3), self.sense(4)
            heads = geometry[5]
            self.assertEqual(heads, int.from_bytes(form[2:4], "big"))
            sectors = int.from_bytes(form[10:12], "big")
            self.assertEqual(int.from_bytes(form[12:14], "big"), block_size)
            cylinders = int.from_bytes(geometry[2:5], "big")
            self.assertGreaterEqual(cylinders * heads * sectors, self.unit.blocks)
            self.assertLess((cylinders - 1) * heads * sectors, self.unit.blocks)

    def test_kinds(self) -> None:
        """What depends on the unit: thin pages, and WCE of a store that has no cache."""
        self.connect(memory(), thin_provisioned=False)
        self.assertNotIn((0x1C, 2), self.pages(CURRENT))
        store = memory()
        alsoProvides(store, IWriteThrough)
        self.connect(store)
        self.assertFalse(self.sense(8, control=CHANGEABLE)[2])
        self.refused(self.set("write_cache", 1), 0x2600, 8 + 2, 2)


class ActsTests(PageTests):
    """
    What can be changed acts.
    """

    def test_write_cache(self) -> None:
        """WCE=0 flushes what was written, then makes each write durable; WCE=1 not."""
        store = Watching(memory())
        self.connect(store)
        self.one.do(write10(0, 1), data=bytes(512))
        self.set("write_cache", 0)
        self.assertEqual(store.seen, ["write", "flush"])
        store.seen.clear()
        self.one.do(write10(0, 1), data=bytes(512))
        same = struct.pack(">BBQIxx", 0x93, 8, 0, 8)
        self.one.do(same, data=bytes(512))
        unmap = struct.pack(">HHxxxxQIxxxx", 22, 16, 8, 8)
        self.one.do(struct.pack(">BBxxxxxHx", 0x42, 0, len(unmap)), data=unmap)
        self.assertEqual(store.seen, ["fua", "unmap", "flush", "unmap", "flush"])
        store.seen.clear()
        self.set("write_cache", 1)
        self.one.do(write10(0, 1), data=bytes(512))
        self.assertEqual(store.seen, ["write"])

    def test_write_cache_waits(self) -> None:
        """MODE SELECT of WCE=0 is answered when the flush is over."""
        store = ManualStore()
        self.connect(store)
        page = bytearray(self.sense(8))
        page[2] &= ~4
        data = bytes(8) + bytes(page)
        cdb = struct.pack(">BBxxxxxHx", 0x55, 0x11, len(data))
        pdu = self.one.command(cdb, write=len(data), data=data)
        self.one.send(pdu)
        self.assertEqual(self.one.receive(), [])
        self.assertEqual([call[0] for call in store.calls], ["flush"])
        store.go()
        self.assertEqual(self.one.finish(pdu).status, 0)
        self.assertEqual(self.unit.saved_modes["write_cache"], 0)

    def test_descriptor_sense(self) -> None:
        """D_SENSE chooses the format of sense data."""
        beyond = read10(0xFFFFFFFF, 1)
        self.assertEqual(self.one.do(beyond, read=512).sense[0], 0x70)
        self.set("descriptor_sense", 1)
        done = self.one.do(beyond, read=512)
        self.assertEqual((done.sense[0], done.asc), (0x72, 0x2100))

    def test_write_protect(self) -> None:
        """SWP refuses writes, and the header says so."""
        self.set("software_write_protect", 1)
        done = self.one.do(write10(0, 1), data=bytes(512))
        self.assertEqual((done.key, done.asc), (7, 0x2700))
        head = self.one.do(b"\x1a\x08\x0a\0\xff\0", read=255).data
        self.assertEqual(head[2], 0x90)
        self.set("software_write_protect", 0)
        self.assertEqual(self.one.do(write10(0, 1), data=bytes(512)).status, 0)

    def test_reordering(self) -> None:
        """QAM=0 makes every task wait for those before it."""
        store = ManualStore()
        self.connect(store)
        self.set("queue_algorithm", 0)
        first, second = (self.one.command(read10(lba, 1), read=512) for lba in (0, 1))
        self.one.send(first, second)
        self.assertEqual(len(store.calls), 1)
        store.go()
        self.assertEqual(len(store.calls), 1)
        store.go()
        self.assertEqual(len(self.one.receive()), 2)
        self.set("queue_algorithm", 1)
        first, second = (self.one.command(read10(lba, 1), read=512) for lba in (0, 1))
        self.one.send(first, second)
        self.assertEqual(len(store.calls), 2)
        store.go(2)

    def test_queue_error(self) -> None:
        """QERR=11b: a failed command takes the nexus's queued ones with it."""
        for value, left in ((0, 1), (3, 0)):
            store = ManualStore()
            self.connect(store)
            self.set("queue_error", value)
            failing = self.one.command(read10(0, 1), read=512)
            queued = self.one.command(read10(1, 1), read=512, attribute=2)
            self.one.send(failing, queued)
            store.fail(OSError(5, "broken"))
            self.assertEqual(len(store.calls), left)
            while store.calls:
                store.go()
            self.one.receive()

    def test_task_aborted_status(self) -> None:
        """TAS=1: a task that another's reset aborts ends with TASK ABORTED."""
        store = ManualStore()
        self.connect(store)
        self.set("task_aborted_status", 1)
        self.other.do(bytes(6))
        pdu = self.other.command(read10(0, 1), read=512)
        self.other.send(pdu)
        self.one.manage(5)
        store.go()
        self.assertEqual(self.other.finish(pdu).status, 0x40)
