# SPDX-License-Identifier: MIT
"""
Tests for `scstd.scsi.unit`, `taskset`, `locks` and `reservations`: the life of a task.
"""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.commands import read10, write10
from scstd.protocols.engine.node import TargetSettings
from scstd.protocols.wire.pdu import DataIn, SCSIResponse
from scstd.scsi.calling import Calling
from scstd.scsi.sam import Task
from scstd.scsi.taskset import ReservedAttributeError, TaskSet
from scstd.test.generating import examples
from scstd.test.initiator import INITIATOR, Initiator, serve
from scstd.test.stores import ManualStore, memory

RESERVE, RELEASE = bytes((0x16, 0, 0, 0, 0, 0)), bytes((0x17, 0, 0, 0, 0, 0))
SIMPLE, ORDERED, HEAD = 1, 2, 3


def task(attribute: int) -> Task:
    """Return a task of nobody."""
    nobody: Any = SimpleNamespace(unit=SimpleNamespace(calling=Calling()))
    return Task(nobody, 0, attribute, bytes(16), 0, lambda _task: None)


class TaskSetTests(SynchronousTestCase):
    """
    SAM-5 section 8: which tasks are enabled.
    """

    def enter(self, *attributes: int) -> list[Task]:
        """Enter tasks with these attributes."""
        self.set = TaskSet()
        tasks = [task(attribute) for attribute in attributes]
        for one in tasks:
            self.set.enter(one)
        return tasks

    def enabled(self, tasks: list[Task]) -> str:
        """Return a letter for each task: x when it is enabled."""
        return "".join("x" if one.enabled else "." for one in tasks)

    def test_simple(self) -> None:
        """SIMPLE tasks run together."""
        self.assertEqual(self.enabled(self.enter(SIMPLE, SIMPLE, 0)), "xxx")

    def test_ordered(self) -> None:
        """An ORDERED task waits for all before it, all after it wait for it."""
        tasks = self.enter(SIMPLE, ORDERED, SIMPLE, ORDERED, SIMPLE)
        self.assertEqual(self.enabled(tasks), "x....")
        self.set.leave(tasks[0])
        self.assertEqual(self.enabled(tasks), "xx...")
        self.set.leave(tasks[1])
        self.assertEqual(self.enabled(tasks), "xxx..")
        self.set.leave(tasks[2])
        self.set.leave(tasks[3])
        self.assertEqual(self.enabled(tasks), "xxxxx")

    def test_head_of_queue(self) -> None:
        """A HEAD OF QUEUE task runs at once, and what is not enabled yet waits for it."""
        tasks = self.enter(SIMPLE, ORDERED, HEAD, SIMPLE)
        self.assertEqual(self.enabled(tasks), "x.x.")
        self.set.leave(tasks[0])
        self.assertEqual(self.enabled(tasks), "x.x.")
        self.set.leave(tasks[2])
        self.assertEqual(self.enabled(tasks), "xxx.")

    @examples()
    @given(st.lists(st.sampled_from((SIMPLE, ORDERED, HEAD, -1, -2)), max_size=40))
    def test_any_order(self, steps: list[int]) -> None:
        """Whatever comes and goes, just those tasks are enabled that may be."""
        self.set = TaskSet()
        enabled: set[Task] = set()
        for step in steps:
            there = list(self.set.tasks)
            if step > 0:
                self.set.enter(task(step))
            elif there:
                # The oldest or the newest one ends: run, or aborted.
                self.set.leave(there[0 if step == -1 else -1])
            head = any(one.attribute == HEAD for one in self.set.tasks)
            simple = True
            for number, one in enumerate(self.set.tasks):
                may = not head and (simple if one.attribute == SIMPLE else not number)
                if may or one.attribute == HEAD:
                    enabled.add(one)
                simple = simple and one.attribute != ORDERED
                self.assertEqual(one.enabled, one in enabled)

    def test_internal(self) -> None:
        """The target's own tasks wait for nothing, and nothing waits for them."""
        tasks = self.enter(SIMPLE, ORDERED)
        own = task(SIMPLE)
        own.internal = True
        self.set.enter(own)
        self.assertEqual(self.enabled([*tasks, own]), "x.x")
        self.set.leave(tasks[0])
        self.set.leave(tasks[1])
        late = [task(ORDERED), task(SIMPLE), task(ORDERED)]
        for one in late:
            self.set.enter(one)
        self.assertEqual(self.enabled(late), "x..")
        self.set.leave(late[0])
        self.assertEqual(self.enabled(late), "xx.")
        self.set.leave(late[1])
        self.assertEqual(self.enabled(late), "xxx")

    def test_reserved_attribute(self) -> None:
        """A task with an attribute that is reserved is none."""
        for reserved in (5, 6, 7):
            self.assertRaises(ReservedAttributeError, self.enter, reserved)
        self.assertEqual(self.set.tasks, {})


class GateTests(SynchronousTestCase):
    """
    Reservation conflict, then unit attention, then what is wrong with the command.
    """

    def setUp(self) -> None:
        """Log in two initiators."""
        self.node, _target, (self.unit,) = serve(memory())
        self.one = Initiator(self.node).ready()
        self.other = Initiator(self.node, name=INITIATOR + "2").ready()

    def test_power_on(self) -> None:
        """A new nexus is told first that there was a reset; INQUIRY does not wait."""
        new = Initiator(self.node, name=INITIATOR + "3")
        new.login()
        self.assertEqual(new.do(b"\x12\0\0\0\x24\0", read=36).status, 0)
        done = new.do(bytes(6))
        self.assertEqual((done.key, done.asc), (6, 0x2900))
        self.assertEqual(new.do(bytes(6)).status, 0)

    def test_request_sense(self) -> None:
        """REQUEST SENSE returns a pending unit attention as data, and clears it."""
        new = Initiator(self.node, name=INITIATOR + "3")
        new.login()
        data = new.do(b"\x03\0\0\0\x12\0", read=18).data
        self.assertEqual((data[0], data[2], data[12]), (0x70, 6, 0x29))
        self.assertEqual(new.do(bytes(6)).status, 0)
        self.assertEqual(new.do(b"\x03\1\0\0\x12\0", read=18).data[:2], b"\x72\0")

    def test_each_once(self) -> None:
        """The same unit attention is told once, different ones in their order."""
        self.unit.attention(0x2A01)  # type: ignore[arg-type]
        self.unit.attention(0x2A01)  # type: ignore[arg-type]
        self.unit.attention(0x2A09)  # type: ignore[arg-type]
        self.assertEqual(self.one.do(bytes(6)).asc, 0x2A01)
        self.assertEqual(self.one.do(read10(0, 1), read=512).asc, 0x2A09)
        self.assertEqual(self.one.do(bytes(6)).status, 0)
        self.assertEqual(self.other.do(bytes(6)).asc, 0x2A01)

    def test_reserved(self) -> None:
        """A reservation keeps others out until it is released."""
        self.assertEqual(self.one.do(RESERVE).status, 0)
        self.assertEqual(self.other.do(read10(0, 1), read=512).status, 0x18)
        self.assertEqual(self.other.do(RESERVE).status, 0x18)
        self.assertEqual(self.other.do(b"\x1a\0\x3f\0\xff\0", read=255).status, 0x18)
        self.assertEqual(self.other.do(b"\x12\0\0\0\x24\0", read=36).status, 0)
        self.assertEqual(self.other.do(RELEASE).status, 0)
        self.assertEqual(self.other.do(bytes(6)).status, 0x18)
        self.assertEqual(self.one.do(write10(0, 1), data=bytes(512)).status, 0)
        self.assertEqual(self.one.do(RELEASE).status, 0)
        self.assertEqual(self.other.do(bytes(6)).status, 0)

    def test_conflict_first(self) -> None:
        """A conflict comes before a unit attention, which stays."""
        self.one.do(RESERVE)
        self.unit.attention(0x2A01)  # type: ignore[arg-type]
        self.assertEqual(self.other.do(bytes(6)).status, 0x18)
        self.one.do(bytes(6))
        self.one.do(RELEASE)
        self.assertEqual(self.other.do(bytes(6)).asc, 0x2A01)

    def test_attention_before_errors(self) -> None:
        """A unit attention comes before what is wrong with the command."""
        self.unit.attention(0x2A01)  # type: ignore[arg-type]
        self.assertEqual(self.one.do(b"\xc1" + bytes(9)).asc, 0x2A01)
        self.assertEqual(self.one.do(b"\xc1" + bytes(9)).asc, 0x2000)

    def test_released_at_the_end(self) -> None:
        """A reservation ends with its nexus, and with a reset."""
        self.one.do(RESERVE)
        self.one.logout()
        self.assertEqual(self.other.do(bytes(6)).status, 0)
        self.other.do(RESERVE)
        again = Initiator(self.node).ready()
        self.assertEqual(again.do(bytes(6)).status, 0x18)
        again.manage(5)
        again.receive()
        told = [again.do(bytes(6)).asc for _attention in range(2)]
        self.assertEqual(told, [0x2900, 0x2903])
        self.assertEqual(again.do(bytes(6)).status, 0)


class OrderTests(SynchronousTestCase):
    """
    Task attributes on the wire.
    """

    def setUp(self) -> None:
        """Log in to a store that waits."""
        self.store = ManualStore()
        node, _target, (self.unit,) = serve(
            self.store, limits=TargetSettings(queued_commands=2048)
        )
        self.one = Initiator(node).ready()

    def start(self, attribute: int) -> int:
        """Start a read, return its tag."""
        pdu = self.one.command(read10(0, 1), read=512, attribute=attribute)
        self.one.send(pdu)
        return pdu.itt

    def test_ordered(self) -> None:
        """Tasks behind an ORDERED one run when it is over."""
        tags = [self.start(attribute) for attribute in (SIMPLE, ORDERED, SIMPLE)]
        seen = []
        for _tag in tags:
            self.assertEqual(len(self.store.calls), 1)
            self.store.go()
            seen += [pdu.itt for pdu in self.one.receive()]
        self.assertEqual(seen, tags)

    def test_aborted_while_queued(self) -> None:
        """A queued task that is aborted with the one before it never starts."""
        waiting = self.one.command(write10(0, 1), write=512, attribute=ORDERED)
        self.one.send(waiting)
        self.start(ORDERED)
        self.assertEqual(self.store.calls, [])
        self.one.manage(2)
        self.assertEqual(self.store.calls, [])
        self.assertEqual(self.unit.tasks(), [])

    def test_very_many(self) -> None:
        """Two thousand tasks behind an ORDERED one do not exhaust the stack."""
        self.start(SIMPLE)
        for _number in range(2000):
            self.one.send(self.one.command(bytes(6), attribute=ORDERED))
        self.assertEqual(len(self.store.calls), 1)
        self.store.go()
        found = self.one.receive()
        self.assertIsInstance(found[0], DataIn)
        self.assertEqual(len(found), 2001)

    def test_shared_set(self) -> None:
        """With TST=0 the tasks of all nexuses are one set."""
        node, _target, _units = serve(self.store, tst=0)
        one = Initiator(node).ready()
        other = Initiator(node, name=INITIATOR + "2").ready()
        one.send(one.command(read10(0, 1), read=512))
        other.send(other.command(bytes(6), attribute=ORDERED))
        self.assertEqual(other.receive(), [])
        self.store.go()
        self.assertEqual(other.one(SCSIResponse).status, 0)

    def test_separate_sets(self) -> None:
        """With TST=1 they are not."""
        node, _target, _units = serve(self.store, tst=1)
        one = Initiator(node).ready()
        other = Initiator(node, name=INITIATOR + "2").ready()
        one.send(one.command(read10(0, 1), read=512))
        self.assertEqual(other.do(bytes(6), attribute=ORDERED).status, 0)


def compare_and_write(lba: int, blocks: int) -> bytes:
    """Return the CDB of a COMPARE AND WRITE."""
    return struct.pack(">BBQxxxBxx", 0x89, 0, lba, blocks)


class LockTests(SynchronousTestCase):
    """
    COMPARE AND WRITE is alone among the writers of its blocks.
    """

    def setUp(self) -> None:
        """Log in two initiators to a store that waits."""
        self.store = ManualStore()
        node, _target, (self.unit,) = serve(self.store)
        self.one = Initiator(node).ready()
        self.other = Initiator(node, name=INITIATOR + "2").ready()

    def names(self) -> list[str]:
        """Return what the store is asked to do."""
        return [name for name, _deferred, _call in self.store.calls]

    def compare(self, who: Initiator, expected: bytes, data: bytes) -> None:
        """Start a COMPARE AND WRITE of LBA 0."""
        both = (expected * 512)[:512] + (data * 512)[:512]
        who.send(who.command(compare_and_write(0, 1), write=1024, data=both))

    def write(self, who: Initiator, lba: int, data: bytes) -> None:
        """Start a write of one block."""
        who.send(who.command(write10(lba, 1), write=512, data=(data * 512)[:512]))

    def test_waits_for_writers(self) -> None:
        """It waits for a write that has begun in its range."""
        self.write(self.one, 0, b"w")
        self.compare(self.other, b"w", b"c")
        self.assertEqual(self.names(), ["write"])
        self.store.go()
        self.assertEqual(self.names(), ["read"])
        self.store.go()
        self.store.go()
        self.assertEqual(self.other.one(SCSIResponse).status, 0)
        self.assertEqual(self.store.inner.read(0, 1), b"c")

    def test_writers_wait(self) -> None:
        """A write in its range waits for it; one outside does not."""
        self.compare(self.one, b"\0", b"c")
        self.write(self.other, 0, b"w")
        self.write(self.other, 5, b"x")
        self.assertEqual(self.names(), ["read", "write"])
        self.store.go(2)
        self.assertEqual(self.names(), ["write"])
        self.store.go()
        self.assertEqual(self.one.one(SCSIResponse).status, 0)
        self.assertEqual(self.names(), ["write"])
        self.store.go()
        self.assertEqual(self.store.inner.read(0, 1), b"w")
        self.assertEqual(len(self.other.receive()), 2)

    def test_read_behind_a_flush(self) -> None:
        """A READ with FUA that flushes first, and meets it then, waits, and neither for
        ever.
        """
        cdb = struct.pack(">BBIxHx", 0x28, 0x08, 0, 1)
        self.one.send(self.one.command(cdb, read=512))
        self.assertEqual(self.names(), ["flush"])
        self.compare(self.other, b"\0", b"c")
        self.assertEqual(self.names(), ["flush"])
        self.store.go()
        self.assertEqual(self.names(), ["read"])
        self.store.go(2)
        self.assertEqual(self.other.one(SCSIResponse).status, 0)
        self.store.go()
        self.assertEqual(bytes(self.one.receive()[0].data[:1]), b"c")
        self.assertFalse(self.unit.volume.locks)

    def test_two(self) -> None:
        """Of two with the same expectation one succeeds."""
        self.compare(self.one, b"\0", b"1")
        self.compare(self.other, b"\0", b"2")
        for _call in range(3):
            self.store.go()
        self.assertEqual(self.one.one(SCSIResponse).status, 0)
        lost = self.other.one(SCSIResponse)
        sense = bytes(lost.data)[2:]
        self.assertEqual((sense[2] & 0xF, sense[12]), (0xE, 0x1D))
        self.assertEqual(self.store.inner.read(0, 1), b"1")

    def test_aborted_while_parked(self) -> None:
        """A writer that is aborted while it waits never writes."""
        self.compare(self.one, b"\0", b"c")
        self.write(self.other, 0, b"w")
        self.other.manage(2)
        self.store.go(2)
        self.assertEqual(self.names(), [])
        self.assertEqual(self.store.inner.read(0, 1), b"c")
        self.assertEqual(len(self.other.receive()), 1)
        self.assertFalse(self.unit.volume.locks)

    def test_released_by_failure(self) -> None:
        """A comparison that fails lets the next one in."""
        self.compare(self.one, b"x", b"c")
        self.write(self.other, 0, b"w")
        self.store.go()
        self.assertEqual(self.names(), ["write"])
        self.assertFalse(self.unit.volume.locks)
        self.store.go()
