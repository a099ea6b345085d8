# SPDX-License-Identifier: MIT
"""
Tests for `scstd.scsi.sbc.journal`, `interrupted` and `stale`: atomic writes that are kept
until they are on the medium.
"""

from __future__ import annotations

import errno
import struct
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from scstd.block.atomic_write import OLD, AtomicWrite
from scstd.block.persistence import Volatile
from scstd.block.remembered import Job
from scstd.initiator.commands import read10, write10
from scstd.protocols.wire.pdu import SCSIResponse
from scstd.scsi.device import open_disk
from scstd.scsi.sam import Status
from scstd.test.fronts import BlockFront
from scstd.test.initiator import Initiator, serve
from scstd.test.stores import ManualStore, memory
from scstd.test.test_block import atomic


class Durable(Volatile):
    """
    A memory whose record needs a while: `waiting` has what is to be there, and who waits
    for it.
    """

    def __init__(self, record: bytes = b"") -> None:
        super().__init__(record=record, durable=True)
        self.waiting: list[tuple[bytes, Deferred[None]]] = []
        self.clearing: Deferred[None] | None = None
        self.hurried = 0

    def keep(self, record: bytes) -> Any:
        """Replace the record, later."""
        self.waiting.append((record, Deferred()))
        return self.waiting[-1][1]

    def clear_in_time(self) -> Any:
        """Clear it when `heal` is called."""
        self.clearing = Deferred()
        return self.clearing

    def hurry(self) -> None:
        """Note it."""
        self.hurried += 1

    def go(self) -> None:
        """Let the oldest record be kept."""
        self.record, deferred = self.waiting.pop(0)
        deferred.callback(None)

    def fail(self) -> None:
        """Have the oldest record not be kept, though it is there: it says it is not."""
        self.record, deferred = self.waiting.pop(0)
        deferred.errback(OSError(errno.EIO, "ill"))

    def heal(self) -> None:
        """Clear the record after all."""
        self.record = b""
        assert self.clearing is not None
        self.clearing.callback(None)


class KeptTests(SynchronousTestCase):
    """
    What they need: a disk that remembers.
    """

    def open(self, store: Any, kept: Volatile) -> Initiator:
        """Serve a disk that remembers."""
        self.node, target, _units = serve(store)
        self.unit = open_disk("d", store, memory=kept)
        target.luns.clear()
        target.add_lun(0, self.unit)
        return Initiator(self.node).ready()


class JournalTests(KeptTests):
    """
    Atomic writes over a crash.
    """

    def names(self, store: ManualStore) -> list[str]:
        """Return what the store is called for."""
        return [name for name, *_ in store.calls]

    def test_order(self) -> None:
        """What is there is flushed and a write kept; then it is written through, let go,
        and answered.
        """
        kept, store = Durable(), ManualStore()
        one = self.open(store, kept)
        one.send(one.command(atomic(1, 2), write=1024, data=b"j" * 1024))
        store.go()
        self.assertEqual(self.names(store), ["flush"])
        store.go()
        self.assertEqual(store.calls, [])
        kept.go()
        found = AtomicWrite.of(kept.record)
        self.assertEqual((found.offset, found.data), (512, b"j" * 1024))
        self.assertEqual(found.seen(bytes(1024)), [OLD, OLD])
        self.assertEqual(self.names(store), ["write"])
        self.assertEqual(one.receive(), [])
        store.go()
        self.assertEqual(one.receive(), [])
        kept.go()
        self.assertEqual(kept.record, b"")
        self.assertEqual(one.one(SCSIResponse).status, 0)

    def test_one_at_a_time(self) -> None:
        """There is one record: the second write waits for the first one's end."""
        kept, store = Durable(), ManualStore()
        one = self.open(store, kept)
        for lba in (0, 8):
            one.send(one.command(atomic(lba, 1), write=512, data=b"j" * 512))
        store.go(3)
        self.assertEqual(len(kept.waiting), 1)
        kept.go()
        store.go()
        self.assertEqual(len(kept.waiting), 1)
        kept.go()
        self.assertEqual(one.one(SCSIResponse).status, 0)
        kept.go()
        store.go(2)
        kept.go()
        self.assertEqual(one.one(SCSIResponse).status, 0)
        self.assertEqual(store.inner.read(4096, 512), b"j" * 512)

    def test_not_kept(self) -> None:
        """What cannot be kept is not written; what could not be written is let go."""
        kept, store = Durable(), ManualStore()
        one = self.open(store, kept)
        one.send(one.command(atomic(0, 1), write=512, data=b"j" * 512))
        store.go(2)
        kept.fail()
        self.assertEqual(one.receive(), [])
        kept.go()
        self.assertEqual((store.calls, kept.record), ([], b""))
        sense = bytes(one.one(SCSIResponse).data)[2:]
        self.assertEqual((sense[2] & 15, sense[12:14]), (4, b"\x44\0"))
        one.send(one.command(atomic(0, 1), write=512, data=b"j" * 512))
        store.go(2)
        kept.go()
        store.fail(OSError(errno.EIO, "broken"))
        store.go()
        kept.go()
        self.assertEqual(kept.record, b"")
        self.assertEqual(one.one(SCSIResponse).status, 2)
        self.assertEqual(store.inner.read(0, 512), bytes(512))

    def test_not_flushed(self) -> None:
        """Where what is there cannot be flushed nothing is written."""
        kept, store = Durable(), ManualStore()
        one = self.open(store, kept)
        one.send(one.command(atomic(0, 1), write=512, data=b"j" * 512))
        store.go()
        store.fail(OSError(errno.EIO, "broken"))
        kept.go()
        kept.go()
        self.assertEqual(one.one(SCSIResponse).status, 2)
        self.assertEqual((store.calls, kept.record), ([], b""))

    def recovered(self, record: bytes, found: bytes) -> tuple[bytes, list[str]]:
        """Open a disk with a record and these bytes at 512; return what is there then,
        and what the store was called for.
        """
        self.kept, store = Volatile(record=record), ManualStore()
        store.inner.write(512, found, False)
        one = self.open(store, self.kept)
        called = self.names(store)
        if called:
            done = one.do(read10(1, 2), read=1024)
            self.assertEqual((done.key, done.asc), (2, 0x0401))
        while store.calls:
            called += self.names(store)[:1] if self.names(store) != called else []
            store.go()
        self.assertEqual(self.kept.record, b"")
        self.assertEqual(one.do(bytes(6)).status, 0)
        return store.inner.read(512, len(found)), called

    def test_recovery(self) -> None:
        """What was under way is finished before anybody can read it, if it was torn;
        what is anything else stays as it is.
        """
        old, new, other = b"o" * 512, b"n" * 512, b"x" * 512
        record = AtomicWrite.over(old * 3, 512, new * 3).record()
        for found, expected in (
            (old + new + old, new * 3),
            (new + old * 2, new * 3),
            (old * 3, old * 3),
            (new * 3, new * 3),
            (new + other + old, new + other + old),
            (other * 3, other * 3),
        ):
            self.assertEqual(self.recovered(record, found)[0], expected)

    def test_recovery_alone(self) -> None:
        """Nobody else on the volume writes there until it is finished."""
        old, new = b"o" * 512, b"n" * 512
        store, kept = ManualStore(), Durable()
        kept.record = AtomicWrite.over(old * 2, 512, new * 2).record()
        store.inner.write(512, new + old, False)
        self.open(store, kept)
        front = BlockFront(self.unit.volume)
        here, there = front.write(2, b"x" * 512), front.write(3, b"x" * 512)
        self.assertEqual(self.names(store), ["read", "write"])
        while here in front.requests:
            store.go()
        self.successResultOf(there.reply)
        self.assertEqual(bytes(store.inner.read(512, 1024)), new + b"x" * 512)
        self.assertFalse(self.unit.volume.locks)

    def test_recovery_same(self) -> None:
        """Sectors that were as they are to be say nothing."""
        old, new = b"o" * 512, b"n" * 512
        record = AtomicWrite.over(new + old * 2, 512, new * 3).record()
        for found, expected in (
            (new + old * 2, new + old * 2),
            (new * 2 + old, new * 3),
            (new * 3, new * 3),
        ):
            self.assertEqual(self.recovered(record, found)[0], expected)

    def test_recovery_unread(self) -> None:
        """Where nobody knows what was there, nothing is written over what is."""
        record = AtomicWrite.over(None, 512, b"n" * 1024).record()
        for found in (b"n" * 512 + b"o" * 512, b"o" * 1024):
            self.assertEqual(self.recovered(record, found)[0], found)

    def test_recovery_of_before(self) -> None:
        """A record of an earlier version has only bytes, and is finished."""
        record = bytes((0, 0, 0, 0, 0, 0, 2, 0)) + b"j" * 1024
        found, called = self.recovered(record, b"j" * 512 + b"torn" * 128)
        self.assertEqual((found, called), (b"j" * 1024, ["write"]))

    def test_recovery_behind_the_end(self) -> None:
        """What is behind the end of a smaller medium is dropped."""
        record = AtomicWrite.over(bytes(512), 1 << 20, b"n" * 512).record()
        self.assertEqual(self.recovered(record, b"x" * 512)[0], b"x" * 512)

    def test_recovery_void(self) -> None:
        """On a medium that is being sanitized it is let go only."""
        record = AtomicWrite.over(b"o" * 1024, 0, b"n" * 1024).record()
        kept = Volatile(record=record)
        kept.values["operation"] = Job("format").record(failed=True)
        store = memory()
        store.write(0, b"n" * 512 + b"o" * 512, False)
        self.open(store, kept)
        self.assertEqual(kept.record, b"")
        self.assertEqual(store.read(0, 1024), b"n" * 512 + b"o" * 512)

    def test_no_recovery(self) -> None:
        """If it cannot be finished the disk stays away: what is there is torn."""
        for record in (bytes(8) + b"j" * 512, b"x"):
            kept, store = Volatile(record=record), ManualStore()
            one = self.open(store, kept)
            if store.calls:
                store.fail(OSError(errno.EIO, "broken"))
            self.assertEqual(len(self.flushLoggedErrors(OSError, ValueError)), 1)
            done = one.do(read10(0, 1), read=512)
            self.assertEqual((done.key, done.asc), (2, 0x0403))
            self.assertTrue(kept.record)


class StaleTests(KeptTests):
    """
    A record that cannot be cleared.
    """

    A, B, C = b"A" * 512, b"B" * 512, b"C" * 512

    def stale(self, *, kept: bool) -> None:
        """
        Have an atomic write of four B over four A not be let go; if it was not *kept*
        either it is refused.
        """
        self.kept: Durable = Durable()
        self.store = memory()
        self.store.write(0, self.A * 4, False)
        self.one = self.open(self.store, self.kept)
        pdu = self.one.command(atomic(0, 4), write=2048, data=self.B * 4)
        self.one.send(pdu)
        if kept:
            self.kept.go()
        else:
            self.kept.fail()
        record = self.kept.record
        self.kept.fail()
        self.kept.record = record
        self.assertEqual(self.one.finish(pdu).status, 0 if kept else 2)

    def write(self, lba: int, data: bytes) -> int:
        """Write; return the status."""
        return self.one.do(write10(lba, len(data) // 512), data=data).status

    def after(self) -> bytes:
        """Return what is there after a loss of power."""
        store = memory()
        store.write(0, self.store.read(0, 4096), False)
        self.open(store, Volatile(record=self.kept.record))
        return store.read(0, 2048)

    def test_usable(self) -> None:
        """The medium can be read and written, at those blocks and at others; what is
        written stays.
        """
        for kept in (True, False):
            self.stale(kept=kept)
            there = self.store.read(0, 2048)
            self.assertEqual(there, (self.B if kept else self.A) * 4)
            self.assertEqual(self.one.do(read10(0, 4), read=2048).data, there)
            self.assertEqual(self.after(), there)
            self.assertEqual(self.write(4, self.C * 4), 0)
            self.assertEqual(self.write(0, self.C * 2), 0)
            self.assertEqual(self.after(), self.C * 2 + there[:1024])
            self.assertEqual(self.write(1, self.A), 0)
            self.assertEqual(self.write(2, self.B), 0)
            self.assertEqual(self.write(0, self.C * 4), 0)
            self.assertEqual(self.after(), self.C * 4)

    def test_again(self) -> None:
        """It is told to come again if it looked like a part of the atomic write, until
        the record is cleared.
        """
        for kept, data in ((True, self.A * 2), (False, self.B * 2)):
            self.stale(kept=kept)
            self.assertEqual(self.write(0, data), Status.BUSY)
            self.assertEqual(self.kept.hurried, 1)
            same = struct.pack(">BBQIxx", 0x93, 0, 0, 2)
            self.assertEqual(self.one.do(same, data=data[:512]).status, Status.BUSY)
            self.kept.heal()
            self.assertFalse(self.unit.restricted)
            self.assertEqual(self.write(0, data), 0)
            self.assertEqual(self.after()[:1024], data)

    def test_whole(self) -> None:
        """All of it may be written again; what was refused may be restored."""
        self.stale(kept=True)
        self.assertEqual(self.write(0, self.B * 4), 0)
        self.stale(kept=False)
        self.assertEqual(self.write(0, self.A * 2), 0)
        self.assertEqual(self.after(), self.A * 4)

    def test_next(self) -> None:
        """The next atomic write clears it first, or is refused; a format waits."""
        self.stale(kept=True)
        for heals in (False, True):
            pdu = self.one.command(atomic(8, 1), write=512, data=self.C)
            self.one.send(pdu)
            self.assertEqual([data for data, _ in self.kept.waiting], [b""])
            if heals:
                self.kept.go()
                self.kept.go()
                self.kept.go()
            else:
                self.kept.fail()
            self.assertEqual(self.one.finish(pdu).status, 0 if heals else 2)
        self.stale(kept=True)
        done = self.one.do(bytes((4, 0, 0, 0, 0, 0)))
        self.assertEqual(done.status, Status.BUSY)
        self.assertEqual(self.store.read(0, 2048), self.B * 4)

    def test_every_story(self) -> None:
        """
        Whatever is written meanwhile, and whenever the power fails, within a write too:
        what was answered GOOD is there, and what was refused is not.
        """
        random = Random(7)
        for story in range(300):
            kept = bool(story % 2)
            self.stale(kept=kept)
            there = [(self.B if kept else self.A)] * 4
            for _write in range(4):
                start = random.randrange(4)
                count = random.randrange(1, 5 - start)
                data = [random.choice((self.A, self.B, self.C)) for _ in range(count)]
                if self.write(start, b"".join(data)):
                    continue
                before, there = there, [*there]
                there[start : start + count] = data
                self.assertEqual(self.after(), b"".join(there))
                # Some of it only: that is what was there, or what was to be.
                part = [*there]
                for at in range(start, start + count):
                    part[at] = random.choice((before[at], there[at]))
                found = self.crashed(b"".join(part))
                for at in range(4):
                    one = found[at * 512 : at * 512 + 512]
                    self.assertIn(one, (before[at], there[at]), story)

    def crashed(self, content: bytes) -> bytes:
        """Return what is there after a loss of power that left this content."""
        store = memory()
        store.write(0, content, False)
        self.open(store, Volatile(record=self.kept.record))
        return store.read(0, 2048)
