# SPDX-License-Identifier: MIT
"""
Threads for calls that may block: the reactor must not, and no store delays another.

A store makes a `Lane` for each kind of call that must not wait for another kind: reads
wait for reads, and not behind a slow write.  A lane has threads of its own, started
when they are first needed.  Answers go back to the reactor in batches: one wake-up
serves all the calls that ended meanwhile, which is what makes small writes cheap.

Calls of one thread are made in the order in which they are asked for.  Where there are
several, so that there is no order, those for commands of a high priority go first
(`scstd.interfaces.command_priority`): a lane takes another kind of queue when it sees
the first of them.

`GroupCommit` does the same for flushes: however many ask while one is under way, the
next one serves them all.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from itertools import count
from queue import PriorityQueue, SimpleQueue
from time import monotonic
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from scstd.interfaces import command_priority

_LONGEST = 0.0005
"""Seconds that an answer may wait for those after it."""

_Job = tuple[Callable[..., Any], tuple[Any, ...], "Deferred[Any]"]


_NO_PRIORITY, _LAST = 8, 16
"""Where calls without a priority are among the others, and the end after all."""


class _Ranked:
    """
    A queue that gives out what has the highest priority, and among equals the oldest.
    """

    def __init__(self) -> None:
        self._queue: PriorityQueue[tuple[int, int, list[_Job] | None]] = PriorityQueue()
        self._number = count()

    def put(self, batch: list[_Job] | None, priority: int = _NO_PRIORITY) -> None:
        """Put something in; None comes last."""
        rank = _LAST if batch is None else priority
        self._queue.put((rank, next(self._number), batch))

    def get(self) -> list[_Job] | None:
        """Take the first out, when there is one."""
        return self._queue.get()[2]


class Lane:
    """
    Threads that make calls in the order in which they were asked for, or of priority.

    With one thread the calls do not overlap.
    """

    def __init__(self, reactor: Any, name: str, threads: int = 1) -> None:
        self._reactor = reactor
        self._name = name
        self._most = threads
        self._jobs: SimpleQueue[list[_Job] | None] | _Ranked = SimpleQueue()
        self._new: list[_Job] = []
        self._priorities: dict[Deferred[Any], int] = {}
        self._threads: list[threading.Thread] = []
        self._waiting = 0
        self._answers: deque[tuple[Deferred[Any], Any]] = deque()
        self._told = False
        self._ending: Deferred[None] | None = None

    def call(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        """
        Return a Deferred of what ``function(*args)`` returns, called in a thread.
        """
        deferred: Deferred[Any] = Deferred()
        self._waiting += 1
        if not self._new:
            # All calls of one turn of the reactor wake a thread once.
            self._reactor.callLater(0, self._hand_over)
        self._new.append((function, args, deferred))
        priority = command_priority.get()
        if priority and self._most > 1:
            self._priorities[deferred] = priority
        return deferred

    def _hand_over(self) -> None:
        new, self._new = self._new, []
        if not new:
            return
        while len(self._threads) < min(self._most, self._waiting):
            self._start()
        if self._priorities:
            self._rank(new)
        elif self._most == 1:
            self._jobs.put(new)
        else:
            for job in new:
                self._jobs.put([job])

    def _rank(self, new: list[_Job]) -> None:
        """
        Hand over jobs of which some have a priority.
        """
        jobs = self._jobs
        if not isinstance(jobs, _Ranked):
            before, jobs = jobs, _Ranked()
            self._jobs = jobs
            # Threads look for the new queue when they have emptied the old one.
            for _thread in self._threads:
                before.put([])
        priorities, self._priorities = self._priorities, {}
        for job in new:
            jobs.put([job], priorities.get(job[2], _NO_PRIORITY))

    def close(self) -> Deferred[None]:
        """
        End the threads after the calls asked for so far; fire when they are over.
        """
        ending: Deferred[None] = Deferred()
        self._hand_over()
        if not self._threads:
            ending.callback(None)
            return ending
        self._ending = ending
        for _thread in self._threads:
            self._jobs.put(None)
        return ending

    def _start(self) -> None:
        thread = threading.Thread(
            target=self._work, args=(self._jobs,), name=self._name, daemon=True
        )
        self._threads.append(thread)
        thread.start()

    # In the threads.

    def _work(self, jobs: SimpleQueue[list[_Job] | None] | _Ranked) -> None:
        answers = self._answers
        since = 0.0
        while True:
            batch = jobs.get()
            if not batch:
                if batch is None:
                    break
                jobs = self._jobs
                continue
            since = monotonic()
            for function, args, deferred in batch:
                try:
                    result = function(*args)
                except BaseException:  # noqa: BLE001 - whatever it is, it is the caller's
                    result = Failure()
                answers.append((deferred, result))
                if monotonic() - since > _LONGEST:
                    self._tell()
                    since = monotonic()
            self._tell()
        self._reactor.callFromThread(self._ended, threading.current_thread())

    def _tell(self) -> None:
        if self._answers and not self._told:
            self._told = True
            self._reactor.callFromThread(self._deliver)

    # In the reactor.

    def _deliver(self) -> None:
        # Before looking: an answer that comes now is found, or tells again.
        self._told = False
        answers = self._answers
        while answers:
            deferred, result = answers.popleft()
            self._waiting -= 1
            deferred.callback(result)

    def _ended(self, thread: threading.Thread) -> None:
        thread.join()
        self._threads.remove(thread)
        if not self._threads and self._ending is not None:
            self._deliver()
            self._ending.callback(None)


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
