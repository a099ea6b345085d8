# SPDX-License-Identifier: MIT
"""
Tests for who asks behind filters, and behind what holds commands up.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from scstd.filters.base import Filtered
from scstd.filters.delay import Delayed
from scstd.initiator.commands import read10
from scstd.interfaces import (
    Asker,
    IKnowsAsker,
    LunSession,
    asking,
    carried,
    command_priority,
    current_asker,
)
from scstd.scsi.command import Command, every
from scstd.scsi.holds import Holds
from scstd.test.initiator import INITIATOR, Initiator, serve
from scstd.test.recorder import Recorder
from scstd.test.stores import memory
from scstd.test.test_asking import AskingBench


class FiltersTests(SynchronousTestCase):
    """
    What filters do with it.
    """

    def test_not_wanted(self) -> None:
        """For a store that does not want to know the command table is as it was."""
        _node, _target, (plain, knowing) = serve(memory(), Recorder(memory()))
        self.assertIsNone(plain.sessions)
        declared = {one.run for one in every(plain.commands)}
        for row in every(knowing.commands):
            self.assertNotIn(row.run, declared)
            same: Any = plain.commands[row.opcode]
            one: Command = (
                same if isinstance(same, Command) else same[row.service_action]
            )
            self.assertEqual((row.name, row.kind), (one.name, one.kind))

    def test_below(self) -> None:
        """Behind filters that do not care, at once or later, it is known."""
        clock = Clock()
        seen: list[Asker | None] = []

        @implementer(IKnowsAsker)
        class Bottom(Filtered):
            def read(self, offset: int, length: int) -> Any:
                seen.append(asking())
                return super().read(offset, length)

        class Coroutine(Filtered):
            async def read(  # type: ignore[override]
                self, offset: int, length: int
            ) -> Any:
                await turn
                return self.inner.read(offset, length)

        for kind in (
            Filtered,
            lambda inner: Delayed(inner, clock, {"read": 1.0, "write": 0, "flush": 0}),
            Coroutine,
        ):
            turn: Deferred[None] = Deferred()
            store: Any = kind(Bottom(memory()))
            node, _target, _units = serve(store)
            one = Initiator(node).ready()
            one.send(one.command(read10(0, 1), read=512))
            clock.advance(1)
            turn.callback(None)
            asker = seen.pop()
            assert asker is not None, kind
            self.assertEqual(asker.session.initiator, INITIATOR)

    def test_carried(self) -> None:
        """What is carried is called as if it were now, the priority with it."""
        asker = Asker(LunSession(1, "i", "p", "t", 0, "d"), 0x28, "READ(10)", 7)
        before = current_asker.set(asker), command_priority.set(3)
        later = carried(lambda more: (asking(), command_priority.get(), more))
        current_asker.reset(before[0])
        command_priority.reset(before[1])
        self.assertIsNone(asking())
        found = succeed("x").addCallback(later)
        self.assertEqual(self.successResultOf(found), (asker, 3, "x"))
        self.assertIsNone(asking())


class HeldTests(AskingBench):
    """
    Commands that something holds up before they start.
    """

    def test_held(self) -> None:
        """What lets them go, another's command among it, is not who asks."""
        self.connect()
        self.store.slow = True
        holds = Holds()
        holds.hold(self.unit, "test")
        tags = [self.start(who, read10(0, 1), b"", 512) for who in (self.one, self.two)]
        asker = Asker(LunSession(1, "i", "p", "t", 0, "d"), 0x28, "READ(10)", 7)
        before = current_asker.set(asker)
        holds.release(self.unit, "test")
        current_asker.reset(before)
        self.assertEqual(
            self.seen(), [(self.one.name, tags[0]), (self.two.name, tags[1])]
        )

    def test_ordered(self) -> None:
        """The end of an ORDERED command starts others' in their own names."""
        self.connect(tst=0)
        self.store.slow = True
        first = self.one.command(read10(0, 1), read=512, attribute=2)
        self.one.send(first)
        tags = [self.start(who, read10(1, 1), b"", 512) for who in (self.two, self.one)]
        self.assertEqual(len(self.store.calls), 1)
        self.run_out()
        self.assertEqual(
            self.seen(),
            [
                (self.one.name, first.itt),
                (self.two.name, tags[0]),
                (self.one.name, tags[1]),
            ],
        )
        self.assertIsNone(asking())

    def seen(self) -> list[tuple[str, int]]:
        """Return whose the calls were."""
        return [
            (asker.session.initiator, asker.tag)
            for _call, asker, _args in self.store.calls
            if asker is not None
        ]
