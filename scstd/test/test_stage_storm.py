# SPDX-License-Identifier: MIT
"""
Stages that come, go, hold, refuse, answer and fail at random, among aborts and sessions
that end: no command is lost, none is answered twice, and nothing stays on the path.
"""

from __future__ import annotations

import random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.commands import read10, write10
from scstd.scsi.holds import Holds
from scstd.scsi.pipeline import GoOn, Rank, answer, refuse
from scstd.scsi.sam import Task
from scstd.test.initiator import Initiator, serve
from scstd.test.staging import BROKEN, POINTS, TUR, DefectError, Scripted
from scstd.test.stores import ManualStore


class Storm:
    """
    One seed's.
    """

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.store = ManualStore()
        self.node, _target, (self.unit,) = serve(
            self.store, tst=self.rng.choice((0, 1))
        )
        self.holds = Holds()
        self.stages: list[Scripted] = []
        self.kept: list[GoOn] = []
        self.over: list[Task] = []
        self.clients = [
            Initiator(self.node, name=f"iqn.2026-11.org.storm:{number}").ready()
            for number in range(5)
        ]
        self.unit.pipeline.add(Scripted("ends", self.ends, ("arrive",), Rank.TRACE))

    def ends(self, task: Task, go_on: GoOn) -> None:
        """Write down which tasks end."""
        go_on()
        task.when_over(self.over.append)

    def does(self, task: Task, go_on: GoOn) -> None:
        """Do something at some point."""
        what = self.rng.randrange(10)
        if what == 0:
            raise DefectError
        if what == 1:
            self.kept.append(go_on)
            return
        if what == 2:
            refuse(task, BROKEN)
        elif what == 3 and task.row is not None:
            answer(task, b"made up")
        elif what == 4:
            self.change()
        go_on()
        if what == 5:
            go_on()
        elif what == 6:
            self.change()
            raise DefectError

    def change(self) -> None:
        """Have a stage come or go."""
        if self.stages and self.rng.random() < 0.5:
            self.unit.pipeline.remove(
                self.stages.pop(self.rng.randrange(len(self.stages)))
            )
        elif len(self.stages) < 6:
            points = tuple(self.rng.sample(POINTS, self.rng.randrange(1, 5)))
            rank = self.rng.choice(list(Rank)[1:])
            self.stages.append(
                Scripted(self.rng.choice("abc"), self.does, points, rank)
            )
            self.unit.pipeline.add(self.stages[-1])

    def send(self) -> None:
        """Send a command."""
        one = self.rng.choice(self.clients)
        naca = b"\x04" if self.rng.random() < 0.1 else b"\0"
        fields: dict[str, Any] = {"attribute": self.rng.choice((1, 1, 1, 2, 3, 4))}
        kind = self.rng.randrange(3)
        if kind == 0:
            one.send(one.command(TUR[:5] + naca, **fields))
        elif kind == 1:
            cdb = read10(self.rng.choice((0, 1, 1 << 30)), 1)[:9] + naca
            one.send(one.command(cdb, read=512, **fields))
        else:
            cdb = write10(self.rng.randrange(4), 1)[:9] + naca
            one.send(one.command(cdb, write=512, data=bytes(512), **fields))

    def store_goes(self) -> None:
        """Let the store do the oldest thing it was asked for."""
        if self.store.calls:
            self.store.go()

    def stage_goes(self) -> None:
        """Have a stage let go on what it holds."""
        if self.kept:
            self.kept.pop(self.rng.randrange(len(self.kept)))()

    def hold(self) -> None:
        """Hold the unit."""
        self.holds.hold(self.unit, self.rng.choice("xy"))

    def release(self) -> None:
        """Hold it no more."""
        self.holds.release(self.unit, self.rng.choice("xy"))

    def manage(self) -> None:
        """Abort tasks, or clear an auto contingent allegiance."""
        self.rng.choice(self.clients).manage(self.rng.choice((2, 3, 3, 4, 5)))

    def lose(self) -> None:
        """End a session, now and then, but for the last two."""
        if len(self.clients) > 2 and self.rng.random() < 0.2:
            self.clients.pop().connection.fail("gone")

    def step(self) -> None:
        """Do one thing."""
        things = (self.change, self.hold, self.release, self.manage, self.lose)
        often = (self.send,) * 5 + (self.store_goes,) * 2 + (self.stage_goes,) * 2
        self.rng.choice(often + things)()
        for one in self.clients:
            one.receive()

    def calm(self) -> None:
        """Let everything go on to its end."""
        for stage in self.stages:
            self.unit.pipeline.remove(stage)
        for name in "xy":
            self.holds.release(self.unit, name)
        for _count in range(20):
            while self.kept or self.store.calls:
                self.stage_goes()
                self.store_goes()
            # What goes on may establish the condition again.
            for one in self.clients:
                one.manage(3)
                one.receive()


class StormTests(SynchronousTestCase):
    """
    Many seeds.
    """

    def test_storm(self) -> None:
        """Every command ends once; the unit is as if nothing had been there."""
        for seed in range(20):
            storm = Storm(seed)
            for _step in range(200):
                storm.step()
            storm.calm()
            self.assertEqual(storm.unit.tasks(), [], seed)
            self.assertEqual(len(storm.over), len(set(storm.over)), seed)
            self.assertTrue(all(task.finished for task in storm.over), seed)
            self.assertEqual(len(list(storm.unit.pipeline)), 1, seed)
            self.assertEqual({*POINTS} & {*vars(storm.unit)}, {"arrive"}, seed)
            self.assertFalse(storm.unit.faults or storm.unit.volume.locks, seed)
        self.flushLoggedErrors(DefectError)
