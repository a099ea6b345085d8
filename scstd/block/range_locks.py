# SPDX-License-Identifier: MIT
"""
Range locks: being alone on some blocks of a volume, among all who stand on it.

Who must be alone (a compare-and-write, say) takes a lock at once, so that nobody later
gets in, then waits for those who are at work there already: writers, for theirs would
be lost, and readers, which would see half of each.  Everybody else looks for a lock on
its blocks before it starts, and parks until that is gone.  While no lock is held, which
is nearly always, that look is one test for truth (`RangeLocks.held`), and what is at
work is noted nowhere: whoever takes a lock asks the frontends for it.

An *owner* is whatever makes one request: any object.  It never waits for itself.  What
ends early because its owner is gone ends with `DroppedError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred

from scstd.interfaces import carried

END = 1 << 65
"""Behind the last block of any volume."""


class DroppedError(Exception):
    """
    What waited for its blocks is not to have them any more: `RangeLocks.drop`.
    """


class AtWork(Protocol):
    """
    Whoever makes requests of a volume, and knows which of them are under way.
    """

    def at_work(self) -> Iterable[tuple[Any, int, int]]:
        """
        Return what may be touching blocks now: its owner, the first block, and the one
        behind the last.
        """

    def when_over(self, owner: Any, call: Callable[[Any], object]) -> None:
        """
        Have ``call(owner)`` called when that is over.
        """


@attrs.define(eq=False)
class RangeLock:
    """
    One lock.
    """

    owner: Any
    """Who is alone, or is going to be."""
    first: int
    """The first block."""
    end: int
    """The one behind the last."""
    begun: Deferred[Any] = attrs.field(factory=Deferred)
    """Fires when the owner is alone."""
    waiting: list[Deferred[None]] = attrs.field(factory=list)
    """Who has parked until it is gone."""

    def stops(self, owner: Any, first: int, end: int) -> bool:
        """
        Say whether somebody has to wait for it.
        """
        return first < self.end and self.first < end and owner is not self.owner


@attrs.define(eq=False)
class RangeLocks:
    """
    The locks of one volume; true while there are any.
    """

    held: list[RangeLock] = attrs.field(factory=list)
    """Those that there are, the oldest first."""
    _frontends: list[AtWork] = attrs.field(factory=list)
    _parked: dict[Any, Deferred[None]] = attrs.field(factory=dict)
    _awaited: dict[Any, list[Callable[[Any], None]]] = attrs.field(factory=dict)

    def __bool__(self) -> bool:
        return bool(self.held)

    def join(self, frontend: AtWork) -> None:
        """
        Have a frontend asked from now on what it is at work on.
        """
        self._frontends.append(frontend)

    def leave(self, frontend: AtWork) -> None:
        """
        Ask it no more.
        """
        self._frontends.remove(frontend)

    # Waiting for locks.

    def guarded(
        self,
        owner: Any,
        first: int,
        end: int,
        call: Callable[[], Any],
        woken: Callable[[], object] | None = None,
    ) -> Any:
        """
        Return what *call* returns, called when no lock of others is on these blocks; a
        Deferred of it if that has to be waited for.

        Each time a wait is over *woken* is called, which may raise what it ends with.
        """
        for lock in self.held:
            if lock.stops(owner, first, end):
                return self._park(
                    lock,
                    owner,
                    lambda: self.guarded(owner, first, end, call, woken),
                    woken,
                )
        return call()

    def exclusive(
        self,
        owner: Any,
        first: int,
        end: int,
        call: Callable[[], Any],
        woken: Callable[[], object] | None = None,
    ) -> Deferred[Any]:
        """
        Return a Deferred of what *call* returns, called when the owner is alone on
        these blocks, which it is until that has fired; *woken* as for `guarded`.
        """
        for lock in self.held:
            if lock.stops(owner, first, end):
                return self._park(
                    lock,
                    owner,
                    lambda: self.exclusive(owner, first, end, call, woken),
                    woken,
                )
        own = self._take(owner, first, end)
        begun = own.begun
        begin: Callable[[Any], Any] = lambda _: call()  # noqa: E731
        begun.addCallback(begin if begun.called else carried(begin))
        begun.addBoth(self._let_go, own)
        return begun

    def acquire(self, owner: Any, first: int = 0, end: int = END) -> Deferred[None]:
        """
        Return a Deferred that fires when the owner is alone on these blocks, which it
        is until `release`.
        """
        for lock in self.held:
            if lock.stops(owner, first, end):
                return self._park(
                    lock, owner, lambda: self.acquire(owner, first, end), None
                )
        own = self._take(owner, first, end)
        return own.begun.addErrback(self._let_go, own)

    def release(self, owner: Any) -> None:
        """
        Let go what an owner has acquired, or waits for.
        """
        for lock in [one for one in self.held if one.owner is owner]:
            self._let_go(None, lock)
        self.drop(owner)

    def drop(self, owner: Any) -> None:
        """
        Have what an owner waits for end with `DroppedError`; what it has begun goes on.
        """
        waiting = [self._parked[owner]] if owner in self._parked else []
        waiting += [lock.begun for lock in self.held if lock.owner is owner]
        for one in waiting:
            if not one.called:
                one.errback(DroppedError())

    def passed(self, owner: Any) -> None:
        """
        Take in that an owner touches no data any more, though it is not over.
        """
        for over in self._awaited.pop(owner, ()):
            over(owner)

    # How.

    def _take(self, owner: Any, first: int, end: int) -> RangeLock:
        """
        Take a lock, which begins when all those are over who are at work there.
        """
        own = RangeLock(owner, first, end)
        busy = {
            other: frontend
            for frontend in self._frontends
            for other, start, stop in frontend.at_work()
            if own.stops(other, start, stop) and other not in self._parked
        }
        self.held.append(own)
        if not busy:
            own.begun.callback(None)
        left = set(busy)

        def over(other: Any) -> None:
            self._awaited.pop(other, None)
            left.discard(other)
            if not left and not own.begun.called:
                own.begun.callback(None)

        for other, frontend in busy.items():
            self._awaited.setdefault(other, []).append(over)
            frontend.when_over(other, over)
        return own

    def _park(
        self,
        lock: RangeLock,
        owner: Any,
        again: Callable[[], Any],
        woken: Callable[[], object] | None,
    ) -> Deferred[Any]:
        parked: Deferred[Any] = Deferred()
        self._parked[owner] = parked
        lock.waiting.append(parked)

        def over(result: Any) -> Any:
            del self._parked[owner]
            return result

        def go_on(_: object) -> Any:
            if woken is not None:
                woken()
            return again()

        # Whoever lets it go on is not who asks.
        parked.addBoth(over).addCallback(carried(go_on))
        # It may have begun something before: who waits for that waits no more, for this
        # one may be waiting for just that.
        self.passed(owner)
        return parked

    def _let_go(self, result: Any, lock: RangeLock) -> Any:
        if lock in self.held:
            self.held.remove(lock)
            waiting, lock.waiting = lock.waiting, []
            for one in waiting:
                if not one.called:
                    one.callback(None)
        return result
