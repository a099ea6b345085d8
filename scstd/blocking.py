# SPDX-License-Identifier: MIT
"""
Threads for calls that may block: the reactor must not, and no store delays another.

A store makes a `Lane` for each kind of call that must not wait for another kind: reads
wait for reads, and not behind a slow write.  The threads themselves are shared by all
lanes, and there are only so many (`scstd.pool`).  Answers go back to the reactor in
batches: one wake-up serves all the calls that ended meanwhile, which is what makes
small writes cheap.

Calls of a lane of one thread are made in the order in which they are asked for.  Where
there are several, so that there is no order, those for commands of a high priority go
first (`scstd.interfaces.command_priority`): a lane takes another kind of queue when it
sees the first of them.

`GroupCommit` does the same for flushes: however many ask while one is under way, the
next one serves them all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from scstd.interfaces import command_priority
from scstd.pool import Job, Standing, pool_of

__all__ = ["GroupCommit", "Lane", "Standing", "standing", "threads_at"]

_NO_PRIORITY = 8
"""Where calls without a priority are among the others."""


class Lane:
    """
    Calls in threads, in the order in which they were asked for, or of priority.

    At most *threads* of them are made at the same time: with one they do not overlap.
    The *name* begins with that of the device: ``"d0 read"``.  A call for which no
    thread can be started fails with an OSError, EAGAIN.
    """

    def __init__(self, reactor: Any, name: str, threads: int = 1) -> None:
        self.reactor = reactor
        self.name = name
        self.store = name.rpartition(" ")[0] or name
        self.runners = 0
        """Threads that are at work here, or will be: `scstd.pool` counts them."""
        self.pending = 0
        """Calls whose answers are to come."""
        self.endings: list[Deferred[None]] = []
        self._most = threads
        self._new: list[Job] = []
        self._priorities: dict[Deferred[Any], int] = {}
        self._queue: list[Job] = []
        self._several: deque[Job] = deque()
        self._ranked: list[tuple[int, int, Job]] | None = None
        self._number = count()

    def call(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        """
        Return a Deferred of what ``function(*args)`` returns, called in a thread.
        """
        deferred: Deferred[Any] = Deferred()
        if not self._new:
            # All calls of one turn of the reactor wake a thread once.
            self.reactor.callLater(0, self._hand_over)
        self._new.append((function, args, deferred))
        priority = command_priority.get()
        if priority and self._most > 1:
            self._priorities[deferred] = priority
        return deferred

    def _hand_over(self) -> None:
        new, self._new = self._new, []
        if new:
            self.pending += len(new)
            pool_of(self.reactor).hand_over(self, new)

    def close(self) -> Deferred[None]:
        """
        Fire when the calls asked for so far are over.
        """
        ending: Deferred[None] = Deferred()
        self._hand_over()
        self.endings.append(ending)
        if not self.pending:
            self.ended()
        return ending

    def ended(self) -> None:
        """
        Tell who waits that no call is left.
        """
        endings, self.endings = self.endings, []
        for ending in endings:
            ending.callback(None)

    # With the lock of the pool.

    def put(self, jobs: list[Job]) -> int:
        """
        Put calls behind the others; return how many more threads may make them.
        """
        if self._most == 1:
            self._queue += jobs
            return 1 - self.runners
        if self._priorities or self._ranked is not None:
            self._rank(jobs)
        else:
            self._several += jobs
        return min(self._most - self.runners, len(jobs))

    def _rank(self, jobs: list[Job]) -> None:
        """
        Put calls in among the others by priority, and among equals by age.
        """
        if self._ranked is None:
            self._ranked = []
        priorities, self._priorities = self._priorities, {}
        for job in jobs:
            rank = priorities.get(job[2], _NO_PRIORITY)
            heappush(self._ranked, (rank, next(self._number), job))

    def waits(self) -> bool:
        """
        Say whether there is a call that no thread has taken.
        """
        return bool(self._queue or self._several or self._ranked)

    def take(self) -> list[Job]:
        """
        Take out what one thread is to call next: nothing if there is nothing.
        """
        if self._most == 1:
            jobs, self._queue = self._queue, []
            return jobs
        # What was there before there were priorities goes first.
        if self._several:
            return [self._several.popleft()]
        return [heappop(self._ranked)[2]] if self._ranked else []

    def drop(self) -> list[Job]:
        """
        Take out everything.
        """
        ranked = [job for _rank, _number, job in self._ranked or ()]
        jobs = [*self._queue, *self._several, *ranked]
        self._queue = []
        self._several.clear()
        self._ranked = None
        return jobs


def threads_at(reactor: Any, store: str) -> int:
    """
    Return how many threads of a reactor are at work for the lanes of a store.
    """
    return pool_of(reactor).threads_of(store)


def standing(reactor: Any, seconds: float) -> list[Standing]:
    """
    Return the calls of a reactor's lanes that have been under way for so many seconds,
    the oldest first.
    """
    return pool_of(reactor).standing(seconds)


class GroupCommit:
    """
    Flushes, at most one at a time: what is asked for during one is done by the next.
    """

    def __init__(self, flush: Callable[[], Deferred[Any]]) -> None:
        self._flush = flush
        self._running = False
        self._next: list[Deferred[None]] = []

    def __call__(self) -> Deferred[None]:
        """
        Return a Deferred that fires when a flush begun from now on is done.
        """
        deferred: Deferred[None] = Deferred()
        self._next.append(deferred)
        if not self._running:
            self._run()
        return deferred

    def _run(self) -> None:
        self._running = True
        group, self._next = self._next, []
        self._flush().addBoth(self._done, group)

    def _done(self, result: Any, group: list[Deferred[None]]) -> None:
        self._running = False
        if self._next:
            self._run()
        for deferred in group:
            deferred.callback(result if isinstance(result, Failure) else None)
