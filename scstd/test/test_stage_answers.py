# SPDX-License-Identifier: MIT
"""
Tests for `scstd.scsi.pipeline`: stages that refuse and answer.
"""

from __future__ import annotations

from scstd.initiator.commands import read10, write10
from scstd.scsi.pipeline import GoOn, answer, refuse
from scstd.scsi.sam import Status, Task
from scstd.scsi.sense import ASC, Refused
from scstd.test.staging import (
    BROKEN,
    NACA_READ,
    POINTS,
    TUR,
    Keeps,
    PipelineBench,
    Scripted,
)


class AnsweringTests(PipelineBench):
    """
    Stages that refuse and answer.
    """

    def test_refuse(self) -> None:
        """A command ends with what a stage says, at any point, and writes nothing."""

        def medium_error(task: Task, go_on: GoOn) -> None:
            refuse(task, BROKEN)
            go_on()

        def busy(task: Task, go_on: GoOn) -> None:
            refuse(task, Refused(Status.BUSY))
            go_on()

        for point in POINTS:
            for does, status in ((medium_error, 2), (busy, 8)):
                stage = Scripted("a", does, (point,))
                self.add(stage)
                cdb, data = write10(0, 1), b"x" * 512
                if point == "finish":
                    cdb, data = TUR, b""
                done = self.one.do(cdb, data=data)
                self.assertEqual(done.status, status, point)
                if status == 2:
                    self.assertEqual((done.key, done.asc), (3, 0x1100))
                self.remove(stage)
                self.assertEqual(self.one.do(TUR).status, 0)
        self.assertEqual(self.store.calls, [])

    def test_refused_at_arrival(self) -> None:
        """No data is asked for, and what decoding finds wrong does not come first."""

        def before(task: Task, go_on: GoOn) -> None:
            refuse(task, BROKEN)
            go_on()

        def behind(task: Task, go_on: GoOn) -> None:
            go_on()
            refuse(task, BROKEN)

        for does in (before, behind):
            stage = Scripted("a", does, ("arrive",))
            self.add(stage)
            for lba in (0, 1 << 30):
                self.one.send(self.one.command(write10(lba, 64), write=32768))
                (pdu,) = self.one.receive()
                self.assertEqual((pdu.status, pdu.data[4] & 15), (2, 3))
            self.remove(stage)

    def test_refuse_later(self) -> None:
        """It may be found out later, of a read that was done, too: no data is sent."""
        for point in ("run", "execute", "finish"):
            keeps = Keeps("keeps", point)
            self.add(keeps)
            self.read()
            if point == "finish":
                self.store.go()
            (task,) = keeps.kept
            refuse(task, BROKEN)
            keeps.go()
            (pdu,) = self.one.receive()
            self.assertEqual((pdu.status, pdu.data[4] & 15), (2, 3), point)
            self.remove(keeps)

    def test_attention_first(self) -> None:
        """A unit attention comes before what a stage refuses, and before its answer."""

        def broken(task: Task, go_on: GoOn) -> None:
            refuse(task, BROKEN)
            go_on()

        def good(task: Task, go_on: GoOn) -> None:
            answer(task)
            go_on()

        for does in (broken, good):
            for point in ("run", "execute"):
                stage = Scripted("a", does, (point,))
                self.add(stage)
                self.unit.attention(ASC.MODE_PARAMETERS_CHANGED)
                self.assertEqual(self.one.do(TUR).asc, 0x2A01)
                self.remove(stage)

    def test_answer(self) -> None:
        """A command is answered in place of what it would do, an unknown one, too."""

        def made_up(task: Task, go_on: GoOn) -> None:
            if point == "arrive":
                go_on()
            answer(task, b"made up")
            go_on()

        for point in POINTS:
            stage = Scripted("a", made_up, (point,))
            self.add(stage)
            for cdb in (bytes.fromhex("c0") + bytes(9), read10(1 << 30, 1)):
                done = self.one.do(cdb, read=512)
                self.assertEqual((done.status, done.data), (0, b"made up"), point)
            self.remove(stage)
        self.assertEqual(self.store.calls, [])

    def test_first_word(self) -> None:
        """A status that one stage refuses with is not answered away by the next."""

        def busy(task: Task, go_on: GoOn) -> None:
            refuse(task, Refused(Status.BUSY))
            go_on()

        def good(task: Task, go_on: GoOn) -> None:
            answer(task)
            go_on()

        self.add(
            Scripted("b", good, ("execute",)),
            Scripted("a", busy, ("execute",)),
        )
        self.assertEqual(self.one.do(TUR).status, 8)

    def test_allegiance(self) -> None:
        """What a CHECK CONDITION does to others follows from what is answered."""

        def good(task: Task, go_on: GoOn) -> None:
            answer(task)
            go_on()

        def bad(task: Task, go_on: GoOn) -> None:
            refuse(task, BROKEN)
            go_on()

        stage = Scripted("a", good, ("finish",))
        self.add(stage)
        self.assertEqual(self.one.do(NACA_READ, read=512).status, 0)
        self.assertFalse(self.unit.faults)
        self.remove(stage)
        self.add(Scripted("a", bad, ("finish",)))
        self.assertEqual(self.one.do(bytes(5) + b"\x04").status, 2)
        self.assertTrue(self.unit.faults)
