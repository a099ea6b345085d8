# SPDX-License-Identifier: MIT
"""
Tests for `scstd.scsi.pipeline`: stages that have tasks wait.
"""

from __future__ import annotations

from scstd.initiator.commands import write10
from scstd.protocols.wire.pdu import TaskManagementResponse
from scstd.scsi.holds import Holds
from scstd.scsi.pipeline import GoOn, Rank
from scstd.scsi.sam import Task
from scstd.test.staging import (
    POINTS,
    TUR,
    Keeps,
    PipelineBench,
    Scripted,
)
from scstd.test.test_task_management import compare_and_write


class HoldingTests(PipelineBench):
    """
    Stages that let a task go on later.
    """

    def test_before_it_starts(self) -> None:
        """A task waits, and goes on; what goes on twice does so once."""
        for point in ("run", "execute"):
            keeps = Keeps("keeps", point)
            self.add(keeps)
            self.read()
            self.assertEqual((len(keeps.kept), self.store.calls), (1, []))
            (go_on,) = keeps.kept.values()
            go_on()
            go_on()
            self.assertEqual(len(self.store.calls), 1, point)
            go_on()
            self.store.go()
            go_on()
            self.assertEqual(self.one.receive()[-1].status, 0)
            self.remove(keeps)

    def test_answer(self) -> None:
        """An answer waits, and others behind it are answered."""
        keeps = Keeps("keeps", "finish")
        self.add(keeps)
        held = self.read()
        self.store.go()
        self.remove(keeps)
        self.read()
        self.store.go()
        self.assertEqual(self.one.receive()[-1].status, 0)
        self.assertEqual([task.tag for task in self.unit.tasks()], [held])
        keeps.go()
        self.assertEqual(self.one.receive()[-1].status, 0)
        self.assertEqual(self.unit.tasks(), [])

    def test_abort_before_it_starts(self) -> None:
        """A task that is held can be aborted at once, and never starts."""
        for point in ("run", "execute"):
            keeps = Keeps("keeps", point)
            self.add(keeps)
            self.assertEqual(self.abort(self.read()), 0, point)
            self.assertEqual(self.unit.tasks(), [])
            keeps.go()
            self.assertEqual((self.store.calls, self.one.receive()), ([], []))
            self.remove(keeps)

    def test_abort_answer(self) -> None:
        """So can one whose answer is held: it is answered no more."""
        keeps = Keeps("keeps", "finish"), Keeps("keeps too", "finish")
        self.add(*keeps)
        for inner in (False, True):
            tag = self.read()
            self.store.go()
            if inner:
                keeps[0].go()
                self.assertEqual(len(keeps[1].kept), 1)
            self.assertEqual(self.abort(tag), 0, inner)
            self.assertEqual(self.unit.tasks(), [])
            for stage in keeps:
                stage.go()
            self.assertEqual(self.one.receive(), [])

    def test_aborted_is_not_held(self) -> None:
        """A task that was aborted while it was at work ends when the store has done."""
        keeps = Keeps("keeps", "finish")
        self.add(keeps)
        tag = self.read()
        self.assertIsNone(self.abort(tag))
        self.store.go()
        self.assertEqual(self.one.one(TaskManagementResponse).response, 0)

    def test_lost(self) -> None:
        """A session that ends takes what is held with it, wherever it is."""
        for point in ("run", "execute", "finish"):
            keeps = Keeps("keeps", point)
            self.add(keeps)
            self.read()
            if point == "finish":
                self.store.go()
            self.one.connection.fail("gone")
            self.assertEqual(self.unit.tasks(), [], point)
            keeps.go()
            self.remove(keeps)
            self.setUp()

    def test_ordered(self) -> None:
        """An ORDERED task waits for one that is held, at any point."""
        for point in ("run", "execute", "finish"):
            keeps = Keeps("keeps", point)
            self.add(keeps)
            self.read()
            if point == "finish":
                self.store.go()
            self.remove(keeps)
            self.read(1, attribute=2)
            self.assertEqual(self.store.calls, [])
            keeps.go()
            self.store.go()
            if point != "finish":
                self.store.go()
            self.assertEqual(self.unit.tasks(), [])
            self.one.receive()

    def test_nobody_waits_for_an_answer(self) -> None:
        """Who waits until nothing is at work does not wait for what holds an answer."""
        keeps = Keeps("keeps", "finish")
        self.add(keeps)
        self.read()
        self.store.go()
        holds = Holds()
        self.successResultOf(holds.hold(self.unit, "a"))
        keeps.go()
        self.assertEqual(self.one.receive()[-1].status, 0)

    def test_range_lock(self) -> None:
        """A command that has to be alone on its blocks does not wait for it either."""
        keeps = Keeps("keeps", "finish")
        self.add(keeps)
        self.one.send(self.one.command(write10(0, 1), write=512, data=bytes(512)))
        both = self.one.command(compare_and_write(0, 1), write=1024, data=bytes(1024))
        self.one.send(both)
        self.assertEqual([name for name, *_ in self.store.calls], ["write"])
        self.store.go()
        self.assertEqual([name for name, *_ in self.store.calls], ["read"])
        self.store.go(1)
        self.store.go(1)
        keeps.go()
        self.assertEqual([pdu.status for pdu in self.one.receive()], [0, 0])

    def test_removed(self) -> None:
        """A stage that has gone lets its tasks go on through those that are there."""
        keeps = Keeps("keeps", "execute")
        outer = Scripted("outer", rank=Rank.TRACE)
        self.add(keeps)
        self.read()
        self.remove(keeps)
        inner = Scripted("inner", points=("execute", "finish"), rank=Rank.HOLD)
        self.add(outer, inner)
        keeps.go()
        self.store.go()
        self.assertEqual(self.one.receive()[-1].status, 0)
        self.assertEqual(inner.seen, ["inner execute", "inner finish"])
        self.assertEqual(outer.seen, ["outer finish"])

    def test_removed_within(self) -> None:
        """A stage may take itself away, and put others there, at each point."""

        def leave(task: Task, go_on: GoOn) -> None:
            self.remove(stage)
            self.add(other)
            go_on()

        for point in POINTS:
            stage = Scripted("stage", leave, (point,))
            other = Scripted("z", points=(point,))
            self.add(stage)
            self.assertEqual(self.one.do(TUR).status, 0)
            self.assertEqual(
                (stage.seen, other.seen), ([f"stage {point}"], [f"z {point}"])
            )
            self.remove(other)
