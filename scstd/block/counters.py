# SPDX-License-Identifier: MIT
"""
What was asked of a volume, by all who stand on it: how often, how much, how long.

The data path adds to one `Counter`, and asks nothing.  Counters only grow, for as long
as the volume is open.

Times are measured where they are long: of requests that the store makes wait.  To read
a clock twice for one that is answered at once would cost it a hundredth of what it
takes, so of those one in `SAMPLE` is measured, and stands for the others.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import attrs

SAMPLE = 16
"""Of so many requests that are answered at once one is measured: a power of two."""


class IOKind(IntEnum):
    """
    Which of the counters a request adds to.
    """

    OTHER = 0
    READ = 1
    WRITE = 2
    VERIFY = 3


@attrs.define(eq=False)
class Counter:
    """
    Requests of one kind.
    """

    requests: int = 0
    """Those that have begun."""
    blocks: int = 0
    """The blocks that they named."""
    errors: int = 0
    """How many of them ended with an error of the medium."""
    seconds: float = 0.0
    """How long they took, together."""


@attrs.define(eq=False)
class Counters:
    """
    The counters of one volume.
    """

    by_kind: tuple[Counter, Counter, Counter, Counter] = attrs.field(
        factory=lambda: (Counter(), Counter(), Counter(), Counter())
    )
    """One for each `IOKind`."""
    clock: Callable[[], float] = lambda: 0.0
    """Seconds; without one no time passes."""
    opened: float = 0.0
    """When the volume was opened."""
    _at_work: int = 0
    _since: float = 0.0
    _worked: float = 0.0
    _idle: float = 0.0

    @property
    def reads(self) -> Counter:
        """What was read."""
        return self.by_kind[IOKind.READ]

    @property
    def writes(self) -> Counter:
        """What was written."""
        return self.by_kind[IOKind.WRITE]

    def measure(self, clock: Callable[[], float]) -> None:
        """
        Measure times from now on, by a *clock* that nobody sets.
        """
        self.clock = clock
        self.opened = clock()

    def begin(self) -> float:
        """
        Take in that the store is at work for one more command; return when that began.
        """
        now = self.clock()
        if not self._at_work:
            self._since = now
        self._at_work += 1
        return now

    def end(self, kind: int, began: float) -> None:
        """
        Take in that it has finished with one of this kind.
        """
        now = self.clock()
        self.by_kind[kind].seconds += now - began
        self._at_work -= 1
        if not self._at_work:
            self._worked += now - self._since

    def sampled(self, kind: int, began: float) -> None:
        """
        Take in one of the commands that are answered at once, for those like it.
        """
        took = (self.clock() - began) * SAMPLE
        self.by_kind[kind].seconds += took
        self._worked += took

    @property
    def idle(self) -> float:
        """The seconds in which nothing was done, since the unit was opened."""
        now = self.clock()
        worked = self._worked + (now - self._since if self._at_work else 0.0)
        # What is estimated may be too much, but no counter goes back.
        self._idle = max(self._idle, now - self.opened - worked)
        return self._idle
