# SPDX-License-Identifier: MIT
"""
Tests for `scstd.block.volume`: two command sets on one volume, SCSI and another.
"""

from __future__ import annotations

import struct
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from scstd.block.capabilities import Capabilities
from scstd.block.limits import Limits
from scstd.block.range_locks import DroppedError
from scstd.block.settings import VolumeSettings
from scstd.block.volume import Volume
from scstd.handlers.memory import MemoryStore
from scstd.initiator.commands import read10, write10
from scstd.interfaces import IUnmap
from scstd.protocols.wire.pdu import SCSIResponse
from scstd.scsi.device import close_disk, open_disk
from scstd.test.fronts import BlockFront, Request
from scstd.test.initiator import Initiator, serve
from scstd.test.stores import ManualStore, MemoryDrive, memory

A, B, ZERO = b"a" * 512, b"b" * 512, bytes(512)


class OneFrontTests(SynchronousTestCase):
    """
    A volume that is served as what it is: blocks.
    """

    def answer(self, request: Request) -> Any:
        """Return what a request was answered."""
        return self.successResultOf(request.reply)

    def test_serving(self) -> None:
        """Blocks are read, written, trimmed and flushed, with no word of SCSI."""
        front = BlockFront(Volume.on("disk", memory()))
        self.answer(front.write(3, A + B))
        self.answer(front.trim(4, 1))
        self.assertEqual(bytes(self.answer(front.read(3, 2))), A + ZERO)
        self.successResultOf(front.flush())
        self.assertEqual(front.requests, {})

    def test_geometry(self) -> None:
        """Sizes are those of the store; what is configured may be less than it can."""
        volume = Volume.on(
            "disk", memory(1 << 20, 4096), VolumeSettings(large_physical_blocks=False)
        )
        self.assertEqual((volume.blocks, volume.block_size), (256, 4096))
        self.assertEqual((volume.block_shift, volume.size), (12, 1 << 20))
        self.assertTrue(volume.thin)
        thick = Volume.on("disk", memory(), VolumeSettings(thin=False))
        self.assertEqual((thick.thin, thick.unmap_granularity), (False, 0))
        self.assertEqual(thick.limits.max_unmapped, 0)
        self.assertEqual(thick.physical_exponent, 3)
        with self.assertRaises(ValueError):
            Volume.on("disk", object())

    def test_configure(self) -> None:
        """What is configured later is taken over as a whole."""
        volume = Volume.on("disk", memory(), VolumeSettings(read_only=True))
        self.assertTrue(volume.read_only)
        volume.configure(VolumeSettings(max_transfer=65536))
        self.assertFalse(volume.read_only)
        self.assertEqual(
            volume.limits, Limits.of(VolumeSettings(max_transfer=65536), 9, thin=True)
        )
        self.assertEqual(volume.limits.max_blocks, 128)

    def test_capabilities(self) -> None:
        """What a store does not provide is not there, what it provides is the store."""
        plain = Capabilities.of(ManualStore())
        values = [getattr(plain, one.name) for one in attrs.fields(Capabilities)]
        self.assertEqual([one for one in values if one], [])
        store = memory()
        self.assertTrue(IUnmap.providedBy(store))
        self.assertIs(Capabilities.of(store).unmaps, store)

    def test_without_medium(self) -> None:
        """A volume whose store is not there has no blocks, and fails what touches it."""
        front = BlockFront(Volume.without_medium("disk", 512))
        self.assertEqual(front.volume.blocks, 0)
        self.failureResultOf(front.read(0).reply, OSError)


class ToldTests(SynchronousTestCase):
    """
    All who stand on a volume hear of what changes, whatever one of them does.
    """

    def test_resized(self) -> None:
        """A new size is there when they are told, and they are told until they leave."""
        store = MemoryStore(1 << 20, 512)
        volume = Volume.on("disk", store)
        one, two = BlockFront(volume), BlockFront(volume)
        store.resize(2 << 20)
        one.close()
        store.resize(3 << 20)
        self.assertEqual(one.told, ["resized 4096"])
        self.assertEqual(two.told, ["resized 4096", "resized 6144"])

    def test_broken(self) -> None:
        """One that breaks keeps no other from hearing of it."""

        class Broken(BlockFront):
            def resized(self) -> None:
                raise RuntimeError("no")

        volume = Volume.on("disk", memory())
        Broken(volume)
        other = BlockFront(volume)
        volume.resized()
        self.assertEqual(other.told, ["resized 2048"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_medium(self) -> None:
        """A medium that is taken out is told, and one that is put in."""
        drive = MemoryDrive({"a": bytes(2048), "b": bytes(4096)}, "a")
        front = BlockFront(Volume.on("drive", drive))
        drive.eject()
        drive.change("b")
        self.assertEqual(front.told, ["medium 0", "medium 2"])

    def test_with_a_unit(self) -> None:
        """A logical unit on the same volume tells its initiators."""
        store = MemoryStore(1 << 20, 512)
        node, _target, (unit,) = serve(store)
        front = BlockFront(unit.volume)
        initiator = Initiator(node).ready()
        store.resize(2 << 20)
        self.assertEqual(front.told, ["resized 4096"])
        self.assertEqual(initiator.do(bytes(6)).sense[12:14], b"\x2a\x09")
        self.assertEqual(initiator.do(read10(4095, 1), read=512).status, 0)


class SharedTests(SynchronousTestCase):
    """
    A disk, and another front on its volume: they keep to each other's locks.
    """

    def setUp(self) -> None:
        """Serve one store twice; its calls wait."""
        self.store = ManualStore()
        node, _target, (self.unit,) = serve(self.store)
        self.initiator = Initiator(node).ready()
        self.volume = self.unit.volume
        self.front = BlockFront(self.volume)

    def names(self) -> list[str]:
        """Return the calls that wait at the store."""
        return [name for name, _deferred, _call in self.store.calls]

    def compare(self, expected: bytes, data: bytes) -> None:
        """Send a COMPARE AND WRITE of block 0."""
        cdb = struct.pack(">BBQxxxBxx", 0x89, 0, 0, 1)
        pdu = self.initiator.command(cdb, write=1024, data=expected + data)
        self.initiator.send(pdu)

    def answered(self, request: Request) -> bool:
        """Say whether a request was answered."""
        return request not in self.front.requests

    def test_counters(self) -> None:
        """What both ask for is counted in one place."""
        self.front.write(0, A + A)
        self.initiator.send(self.initiator.command(write10(8, 1), write=512, data=B))
        writes = self.volume.counters.writes
        self.assertEqual((writes.requests, writes.blocks, writes.errors), (2, 3, 0))
        self.store.go()
        self.store.fail(OSError(5, "no"))
        self.assertEqual((writes.requests, writes.errors), (2, 1))

    def test_theirs_waits(self) -> None:
        """What others write waits for a COMPARE AND WRITE, on its blocks alone."""
        self.compare(ZERO, A)
        here, there = self.front.write(0, B), self.front.write(7, B)
        self.assertEqual(self.names(), ["read", "write"])
        self.store.go(3)
        self.assertEqual(self.initiator.one(SCSIResponse).status, 0)
        self.assertTrue(self.answered(there))
        self.assertFalse(self.answered(here))
        self.store.go()
        self.assertEqual(self.store.inner.read(0, 512), B)
        self.assertFalse(self.volume.locks)

    def test_ours_waits(self) -> None:
        """A COMPARE AND WRITE waits for what others write already."""
        self.front.write(0, B)
        self.compare(B, A)
        self.assertEqual(self.names(), ["write"])
        self.store.go(3)
        self.assertEqual(self.initiator.one(SCSIResponse).status, 0)
        self.assertEqual(self.store.inner.read(0, 512), A)

    def test_tasks_wait(self) -> None:
        """So do a READ and a WRITE for the compare-and-write of another front."""
        swapped = self.front.compare_and_write(0, ZERO, A)
        one = self.initiator
        one.send(one.command(read10(0, 1), read=512))
        one.send(one.command(write10(0, 1), write=512, data=B))
        self.assertEqual(self.names(), ["read"])
        self.store.go(2)
        self.assertTrue(self.successResultOf(swapped.reply))
        self.assertEqual(self.names(), ["read", "write"])
        self.store.go(2)
        self.assertEqual(self.store.inner.read(0, 512), B)

    def test_two_of_two(self) -> None:
        """Of two with the same expectation, one of each front, one succeeds."""
        swapped = self.front.compare_and_write(0, ZERO, A)
        self.compare(ZERO, B)
        self.store.go(3)
        self.assertTrue(self.successResultOf(swapped.reply))
        self.assertEqual(self.initiator.one(SCSIResponse).status, 2)
        self.assertEqual(self.store.inner.read(0, 512), A)

    def test_aborted(self) -> None:
        """A task that waits for another front's lock can be aborted at once."""
        self.front.compare_and_write(0, ZERO, A)
        self.initiator.send(self.initiator.command(write10(0, 1), write=512, data=B))
        self.initiator.manage(2)
        self.assertEqual(len(self.initiator.receive()), 1)
        self.store.go(2)
        self.assertEqual(self.names(), [])
        self.assertEqual(self.store.inner.read(0, 512), A)

    def test_dropped(self) -> None:
        """So can a request of another front, while it waits or is about to begin."""
        self.compare(ZERO, A)
        parked = self.front.write(0, B)
        alone = self.front.compare_and_write(0, ZERO, B)
        for one in (parked, alone):
            self.front.forget(one)
            self.failureResultOf(one.reply, DroppedError)
        self.store.go(2)
        late = self.front.write(9, B)
        waiting = self.front.compare_and_write(9, ZERO, B)
        self.front.forget(waiting)
        self.failureResultOf(waiting.reply, DroppedError)
        self.assertFalse(self.volume.locks)
        self.front.forget(late)
        self.store.go()
        self.successResultOf(late.reply)

    def test_hold(self) -> None:
        """While a volume is held nobody starts; what is under way ends first."""
        self.initiator.send(self.initiator.command(write10(0, 1), write=512, data=A))
        self.front.write(1, A)
        held = self.volume.hold("snapshot")
        late = self.front.write(1, B)
        self.initiator.send(self.initiator.command(write10(0, 1), write=512, data=B))
        self.store.go()
        self.assertNoResult(held)
        self.store.go()
        self.successResultOf(held)
        self.assertEqual(self.names(), [])
        self.assertEqual(self.store.inner.read(0, 1024), A + A)
        self.volume.release("snapshot")
        self.store.go(2)
        self.assertTrue(self.answered(late))
        self.assertEqual(self.store.inner.read(0, 1024), B + B)

    def test_held_twice(self) -> None:
        """Who holds it second waits for the first, and may give up."""
        first, second = self.volume.hold("one"), self.volume.hold("two")
        third = self.volume.hold("three")
        self.successResultOf(first)
        self.assertNoResult(second)
        self.volume.release("three")
        self.failureResultOf(third, DroppedError)
        self.volume.release("one")
        self.successResultOf(second)
        self.volume.release("two")
        self.assertFalse(self.volume.locks)

    def test_formatting(self) -> None:
        """A format is alone on the volume, and held off while that is held."""
        self.front.write(0, A)
        self.initiator.send(self.initiator.command(b"\x04\0\0\0\0\0"))
        self.assertEqual(self.names(), ["write"])
        self.store.go()
        late = self.front.write(0, B)
        self.assertEqual(self.names(), ["write"])
        self.store.inner.write(0, A, False)
        while self.unit.background is not None:
            self.store.go()
        self.assertFalse(self.answered(late))
        self.assertEqual(self.names(), ["write"])
        self.assertEqual(self.store.inner.read(0, 512), ZERO)
        self.store.go()
        self.assertTrue(self.answered(late))
        self.assertFalse(self.volume.locks)

    def test_closed_while_held(self) -> None:
        """A format that waits for who holds the volume ends with the device."""
        self.successResultOf(self.volume.hold("snapshot"))
        self.initiator.send(self.initiator.command(b"\x04\0\0\0\0\0"))
        self.assertIsNotNone(self.unit.background)
        closed = close_disk(self.unit)
        self.store.go(len(self.store.calls))
        self.successResultOf(closed)
        self.assertTrue(self.store.closed)
        self.assertEqual(self.names(), [])


class BrokenTests(SynchronousTestCase):
    """
    A frontend that breaks.
    """

    def test_no_lock(self) -> None:
        """Where it cannot say what it is at work on there is no lock, for ever or not."""

        class Broken(BlockFront):
            def at_work(self) -> Any:
                raise RuntimeError("no")

        volume = Volume.on("disk", memory())
        broken = Broken(volume)
        with self.assertRaises(RuntimeError):
            volume.hold("snapshot")
        broken.close()
        self.assertFalse(volume.locks)
        self.successResultOf(volume.hold("snapshot"))


class ContendingTests(SynchronousTestCase):
    """
    Many requests of two fronts, in every order that the store answers them.
    """

    def test_counter(self) -> None:
        """No increment of a counter by compare-and-write is lost."""
        for turn in range(1, 8):
            store = ManualStore()
            volume = open_disk("disk", store).volume
            fronts = [BlockFront(volume), BlockFront(volume)]
            added = 0
            for step in range(40):
                asked = [one.read(0) for one in fronts]
                while volume.locks or store.calls:
                    store.calls.append(store.calls.pop(0))
                    store.go()
                found = [bytes(self.successResultOf(one.reply)) for one in asked]
                count = int.from_bytes(found[0][:8], "big") + 1
                wanted = count.to_bytes(8, "big") + bytes(504)
                swaps = [
                    one.compare_and_write(0, old, wanted)
                    for one, old in zip(fronts, found, strict=True)
                ]
                reads = [fronts[(step + turn) % 2].read(0) for _one in range(2)]
                while store.calls:
                    store.calls.insert(
                        0, store.calls.pop((step * turn) % len(store.calls))
                    )
                    store.go()
                added += sum(self.successResultOf(one.reply) for one in swaps)
                for one in reads:
                    self.assertIn(bytes(self.successResultOf(one.reply)), {wanted})
            last = int.from_bytes(store.inner.read(0, 8), "big")
            self.assertEqual((last, added), (40, 40))

    def test_own_lock(self) -> None:
        """An owner does not wait for its own lock."""
        volume = Volume.on("disk", memory())
        over: Deferred[None] = Deferred()
        locks = volume.locks
        locks.exclusive("one", 0, 8, lambda: over)
        self.assertEqual(locks.guarded("one", 4, 5, lambda: "in"), "in")
        parked = locks.guarded("two", 4, 5, lambda: "in")
        self.assertNoResult(parked)
        over.callback(None)
        self.assertEqual(self.successResultOf(parked), "in")
