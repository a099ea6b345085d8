# SPDX-License-Identifier: MIT
"""
Tests for `scstd.scsi.pipeline`: stages that fail.
"""

from __future__ import annotations

from scstd.initiator.commands import write10
from scstd.protocols.wire.pdu import Reject
from scstd.scsi.pipeline import GoOn, Rank
from scstd.scsi.sam import Task
from scstd.test.staging import (
    POINTS,
    TUR,
    DefectError,
    PipelineBench,
    Scripted,
    raises,
    raises_behind,
)


class RaisingTests(PipelineBench):
    """
    Stages that fail.
    """

    def test_each_point(self) -> None:
        """The command ends with HARDWARE ERROR; others, and other stages, see nothing."""
        for point in POINTS:
            bad = Scripted("broken", raises, (point,))
            good = Scripted("good"), Scripted("good too", rank=Rank.LATENCY)
            self.add(bad, *good)
            done = self.one.do(TUR)
            self.assertEqual((done.status, done.key, done.asc), (2, 4, 0x4400), point)
            (failure,) = self.flushLoggedErrors(DefectError)
            self.assertIsNotNone(failure)
            for stage in good:
                self.assertEqual(len(stage.seen), 4, (point, stage.name))
            self.remove(bad)
            self.assertEqual(self.one.do(TUR).status, 0)
            self.remove(*good)
        self.assertEqual(self.unit.tasks(), [])

    def test_name(self) -> None:
        """The line of the log has the names of the stage, the unit and the point."""
        self.add(Scripted("broken", raises, ("run",)))
        heard = self.hears()
        self.one.do(TUR)
        self.assertIn("disk0: stage broken failed (run)", "\n".join(heard))
        self.logged(1)

    def test_write(self) -> None:
        """A write whose arrival fails asks for no data, and writes none."""
        self.add(Scripted("broken", raises, ("arrive",)))
        done = self.one.do(write10(0, 64), data=b"x" * 32768)
        self.assertEqual((done.status, done.key, done.asc), (2, 4, 0x4400))
        self.assertEqual(self.store.calls, [])
        self.logged(1)

    def test_behind(self) -> None:
        """What is raised when the command has gone on is logged, and changes nothing."""
        for point in POINTS:
            bad = Scripted("broken", raises_behind, (point,))
            self.add(bad)
            self.assertEqual(self.one.do(TUR).status, 0, point)
            self.remove(bad)
        self.logged(4)

    def test_at_work(self) -> None:
        """So it is for one that is at work in the store."""
        self.add(Scripted("broken", raises_behind, ("execute",)))
        self.read()
        self.logged(1)
        self.store.go()
        self.assertEqual(self.one.receive()[-1].status, 0)

    def test_all(self) -> None:
        """Two that fail at each point make one HARDWARE ERROR."""
        self.add(Scripted("a", raises), Scripted("b", raises))
        self.assertEqual(self.one.do(TUR).key, 4)
        self.logged(8)

    def test_does_not_arrive(self) -> None:
        """A stage that keeps a command from arriving is told of, and it fails."""
        self.add(Scripted("lazy", lambda _task, _go_on: None, ("arrive",)))
        heard = self.hears()
        done = self.one.do(write10(0, 1), data=bytes(512))
        self.assertEqual((done.key, done.asc), (4, 0x4400))
        self.assertIn("stage lazy does not let a command arrive", "\n".join(heard))
        self.assertEqual(self.store.calls, [])

    def test_not_its_own(self) -> None:
        """A reserved task attribute is refused by the unit, not the stage's failure."""
        stages = [Scripted("a"), Scripted("b", rank=Rank.TRACE)]
        self.add(*stages)
        self.one.send(self.one.command(TUR, attribute=6))
        self.assertIsInstance(self.one.one(Reject), Reject)
        self.assertEqual(self.unit.tasks(), [])
        self.assertEqual([stage.seen for stage in stages], [["a arrive"], ["b arrive"]])

    def test_watcher(self) -> None:
        """What fails behind the end of a task keeps no other watcher from it."""
        told: list[Task] = []

        def fail(_task: Task) -> None:
            raise DefectError

        def watch(task: Task, go_on: GoOn) -> None:
            task.when_over(fail)
            task.when_over(told.append)
            go_on()

        self.add(Scripted("a", watch, ("run",)))
        self.assertEqual(self.one.do(TUR).status, 0)
        self.assertEqual(len(told), 1)
        self.logged(1)
