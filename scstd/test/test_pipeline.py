# SPDX-License-Identifier: MIT
"""
Tests for `scstd.scsi.pipeline`: stages together, and none.
"""

from __future__ import annotations

import errno
import itertools

from zope.interface.verify import verifyObject

from scstd.initiator.commands import read10
from scstd.interfaces import ICommandStage
from scstd.protocols.wire.pdu import TaskManagementResponse
from scstd.scsi.holds import Holds
from scstd.scsi.pipeline import Rank, Stage
from scstd.scsi.unit import LogicalUnit
from scstd.test.initiator import Initiator, serve
from scstd.test.staging import (
    NACA_READ,
    POINTS,
    TUR,
    PipelineBench,
    Scripted,
)
from scstd.test.stores import memory


class NoneTests(PipelineBench):
    """
    While there is none nothing is on the path.
    """

    def test_nothing_on_the_path(self) -> None:
        """Each method is the class's own before, and after the last stage has gone."""
        stages = Scripted("a"), Scripted("b", points=("execute",)), Holds()
        for point in POINTS:
            self.assertNotIn(point, vars(self.unit))
            self.assertIs(getattr(self.unit, point).__func__, vars(LogicalUnit)[point])
        self.add(*stages[:2])
        stages[2].hold(self.unit, "x")
        for point in POINTS:
            self.assertIn(point, vars(self.unit))
        self.remove(*stages[:2])
        stages[2].release(self.unit, "x")
        self.assertEqual(list(self.unit.pipeline), [])
        for point in POINTS:
            self.assertNotIn(point, vars(self.unit))
            self.assertIs(getattr(self.unit, point).__func__, vars(LogicalUnit)[point])

    def test_only_what_is_wrapped(self) -> None:
        """A stage costs nothing at the points that it does not wrap."""
        self.add(Scripted("a", points=("run",)))
        self.assertEqual([one for one in POINTS if one in vars(self.unit)], ["run"])

    def test_one_unit(self) -> None:
        """A stage is at the units where it was put."""
        node, _target, units = serve(memory(), memory())
        one = Initiator(node).ready()
        stage = Scripted("a", points=("execute",))
        units[0].pipeline.add(stage)
        one.do(TUR, lun=1)
        self.assertEqual(stage.seen, [])
        one.do(TUR)
        self.assertEqual(stage.seen, ["a execute"])

    def test_unused(self) -> None:
        """A stage that wraps nothing puts nothing on the path."""
        self.add(Stage())
        self.assertFalse({*POINTS} & {*vars(self.unit)})


class TogetherTests(PipelineBench):
    """
    Several stages at one point.
    """

    def test_both_see_it(self) -> None:
        """Two at each point both see a command; removing one leaves the other."""
        first, second = Scripted("first"), Scripted("second")
        self.add(first, second)
        self.assertEqual(self.one.do(TUR).status, 0)
        for stage in (first, second):
            self.assertEqual(stage.seen, [f"{stage.name} {point}" for point in POINTS])
        self.remove(first)
        self.one.do(TUR)
        self.assertEqual((len(first.seen), len(second.seen)), (4, 8))
        self.add(first)
        self.remove(second)
        self.one.do(TUR)
        self.assertEqual((len(first.seen), len(second.seen)), (8, 8))

    def test_once(self) -> None:
        """A stage that is added twice is there once, and one removal takes it away."""
        stage = Scripted("a", points=("run",))
        self.add(stage, stage)
        self.one.do(TUR)
        self.assertEqual((stage.seen, list(self.unit.pipeline)), (["a run"], [stage]))
        self.remove(stage)
        self.remove(stage)
        self.assertNotIn(stage, self.unit.pipeline)

    def test_order(self) -> None:
        """The order is by rank, then by name, in whatever order they came."""
        seen: list[str] = []
        stages = [
            Scripted("outer", rank=Rank.TRACE, seen=seen, points=("execute",)),
            Scripted("a", seen=seen, points=("execute",)),
            Scripted("b", seen=seen, points=("execute",)),
            Scripted("between", rank=Rank.HOLD - 1, seen=seen, points=("execute",)),
            Scripted("inner", rank=Rank.ACA, seen=seen, points=("execute",)),
        ]
        for order in itertools.permutations(stages):
            self.add(*order)
            self.one.do(TUR)
            self.assertEqual(seen, [f"{stage.name} execute" for stage in stages])
            self.assertEqual(list(self.unit.pipeline), stages)
            seen.clear()
            self.remove(*order)

    def test_ranks(self) -> None:
        """Trace is outermost, then latency, rules, holds, and what is the unit's own."""
        self.assertEqual(
            sorted(Rank, key=int),
            [Rank.TRACE, Rank.LATENCY, Rank.RULES, Rank.HOLD, Rank.ACA],
        )

    def test_interface(self) -> None:
        """Our own provide the interface that others are written to."""
        for stage in (Stage(), Holds(), Scripted("a")):
            self.assertTrue(verifyObject(ICommandStage, stage))

    def test_unhashable(self) -> None:
        """A stage need not be hashable: it is told from others by identity."""

        class Record(Scripted):
            __hash__ = None  # type: ignore[assignment]

            def __eq__(self, other: object) -> bool:
                return True

        one, two = Record("one"), Record("two")
        self.add(one, two)
        self.remove(one)
        self.one.do(TUR)
        self.assertEqual((len(one.seen), len(two.seen)), (0, 4))


class BesideTests(PipelineBench):
    """
    Auto contingent allegiance beside holds beside what only looks.
    """

    def test_all_three(self) -> None:
        """Each does its own, and takes only itself away."""
        trace = Scripted("trace", points=("arrive", "finish"), rank=Rank.TRACE)
        holds = Holds()
        self.add(trace)
        blocked = self.read()
        holds.hold(self.unit, "a")
        waiting = self.read(1)
        holds.release(self.unit, "a")
        self.store.calls.reverse()
        self.store.go()
        self.assertEqual(self.one.receive()[-1].itt, waiting)
        holds.hold(self.unit, "a")
        waiting = self.read(2)
        holds.release(self.unit, "a")
        held = self.read(3)
        done = self.one.do(NACA_READ, read=512, attribute=3)
        self.assertEqual(done.status, 2)
        holds.hold(self.unit, "b")
        # What the condition blocks is over, and not answered.
        self.store.go(3)
        self.assertEqual(self.one.receive(), [])
        self.assertEqual(len(list(self.unit.pipeline)), 3)
        self.one.manage(3)
        found = self.one.receive()
        (cleared,) = [pdu for pdu in found if isinstance(pdu, TaskManagementResponse)]
        found.remove(cleared)
        self.assertEqual(cleared.response, 0)
        self.assertEqual({pdu.itt for pdu in found}, {blocked, waiting, held})
        self.assertEqual(list(self.unit.pipeline), [trace, holds])
        tag = self.read()
        self.assertEqual(holds.waiting(self.unit), 1)
        holds.release(self.unit, "b")
        self.store.go()
        self.assertEqual(self.one.receive()[-1].itt, tag)
        self.assertEqual(list(self.unit.pipeline), [trace])
        self.assertEqual(
            (trace.seen.count("trace arrive"), trace.seen.count("trace finish")), (6, 6)
        )

    def test_held_when_it_is_established(self) -> None:
        """What waits for a hold is blocked as well: it starts when both have gone."""
        for first in ("hold", "condition"):
            self.one.send(
                self.one.command(read10(0, 1)[:9] + b"\x04", read=512, attribute=1)
            )
            holds = Holds()
            holds.hold(self.unit, "a")
            self.read()
            self.store.fail(OSError(errno.EIO, "broken"))
            self.assertEqual(self.one.receive()[-1].status, 2)
            self.assertTrue(self.unit.faults)
            if first == "hold":
                holds.release(self.unit, "a")
                self.assertEqual(self.store.calls, [])
                self.one.manage(3)
            else:
                self.one.manage(3)
                self.assertEqual(self.store.calls, [])
                holds.release(self.unit, "a")
            self.assertEqual(len(self.store.calls), 1)
            self.store.go()
            self.one.receive()

    def test_two_holds(self) -> None:
        """Two that hold a unit both do."""
        first, second = Holds(), Holds()
        first.hold(self.unit, "a")
        second.hold(self.unit, "a")
        self.read()
        for stage in (first, second):
            self.assertEqual(self.store.calls, [])
            stage.release(self.unit, "a")
        self.assertEqual(len(self.store.calls), 1)

    def test_held_again(self) -> None:
        """What holds again while tasks go on holds those that have not."""
        node, _target, (unit,) = serve(memory())
        one = Initiator(node).ready()
        holds = Holds()
        holds.hold(unit, "a")
        pdus = [one.command(TUR) for _count in range(3)]
        one.send(*pdus)
        (first, *_others) = unit.tasks()
        first.when_over(lambda _task: holds.hold(unit, "b"))
        holds.release(unit, "a")
        self.assertEqual([pdu.itt for pdu in one.receive()], [pdus[0].itt])
        self.assertEqual(holds.waiting(unit), 2)
        holds.release(unit, "b")
        self.assertEqual(len(one.receive()), 2)
