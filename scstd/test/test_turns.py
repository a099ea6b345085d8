# SPDX-License-Identifier: MIT
"""
Turns of connections that have more to do than is done at once (`scstd.protocols.turns`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from scstd.protocols import turns
from scstd.protocols.turns import Turns


class One:
    """
    One that waits, and notes its turns.
    """

    aborted = False

    def __init__(self, name: str, log: list[str], do: Callable[[], None]) -> None:
        self.name, self.log, self.do = name, log, do
        self.transport: Any = self

    def go_on(self) -> None:
        """Have a turn."""
        self.log.append(self.name)
        self.do()

    def abortConnection(self) -> None:  # noqa: N802 - Twisted's name
        """Be ended."""
        self.aborted = True


class TurnsTests(SynchronousTestCase):
    """
    Whose turn it is.
    """

    def setUp(self) -> None:
        """Have nobody waiting."""
        self.clock = Clock()
        self.turns = Turns(self.clock)
        self.log: list[str] = []

    def one(self, name: str, do: Callable[[], None] = lambda: None) -> One:
        """Return one that waits."""
        one = One(name, self.log, do)
        self.turns.wait(one)
        return one

    def turn(self) -> list[str]:
        """Return who goes on in a turn of the reactor."""
        self.log.clear()
        call: Any
        for call in self.clock.getDelayedCalls():
            # A Clock would not stop before nothing more is to be done at once.
            function = call.func
            call.cancel()
            function()
        return self.log.copy()

    def test_all(self) -> None:
        """While there is time everybody goes on, once, in order."""
        self.patch(turns, "BUDGET", 1000.0)
        again = self.one("a", lambda: self.turns.wait(again))
        self.one("b")
        self.one("c")
        self.assertEqual(self.turn(), ["a", "b", "c"])
        self.assertEqual(self.turn(), ["a"])

    def test_no_time(self) -> None:
        """When the time is over the others are next, and who had a turn is last."""
        self.patch(turns, "BUDGET", -1.0)
        again = self.one("a", lambda: self.turns.wait(again))
        self.one("b")
        self.one("c")
        self.assertEqual(
            [self.turn() for _turn in range(5)], [["a"], ["b"], ["c"], ["a"], ["a"]]
        )
        self.turns.leave(again)
        self.assertEqual(self.turn(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_rest(self) -> None:
        """Who is left is reached though nobody comes back."""
        self.patch(turns, "BUDGET", -1.0)
        self.one("a")
        self.one("b")
        self.assertEqual([self.turn() for _turn in range(3)], [["a"], ["b"], []])

    def test_error(self) -> None:
        """What is raised for one is logged, and ends that one alone."""

        def fail() -> None:
            raise ZeroDivisionError

        self.patch(turns, "BUDGET", 1000.0)
        bad, good = self.one("bad", fail), self.one("good")
        self.assertEqual(self.turn(), ["bad", "good"])
        self.assertTrue(bad.aborted)
        self.assertFalse(good.aborted)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
