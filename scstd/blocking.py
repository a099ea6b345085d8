# SPDX-License-Identifier: MIT
"""
Threads for calls that may block: the reactor must not, and no store delays another.

A store makes a `Lane` for each kind of call that must not wait for another kind: reads
wait for reads, and not behind a slow write.  A lane has threads of its own, started
when they are first needed.  Answers go back to the reactor in batches: one wake-up
serves all the calls that ended meanwhile, which is what makes small writes cheap.

`GroupCommit` does the same for flushes: however many ask while one is under way, the
next one serves them all.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from time import monotonic
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

_LONGEST = 0.0005
"""Seconds that an answer may wait for those after it."""

_Job = tuple[Callable[..., Any], tuple[Any, ...], "Deferred[Any]"]


class Lane:
    """
    Threads that make calls in the order in which they were asked for.

    With one thread the calls do not overlap.
    """

    def __init__(self, reactor: Any, name: str, threads: int = 1) -> None:
        self._reactor = reactor
        self._name = name
        self._most = threads
        self._jobs: SimpleQueue[list[_Job] | None] = SimpleQueue()
        self._new: list[_Job] = []
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
        return deferred

    def _hand_over(self) -> None:
        new, self._new = self._new, []
        if not new:
            return
        while len(self._threads) < min(self._most, self._waiting):
            self._start()
        if self._most == 1:
            self._jobs.put(new)
        else:
            for job in new:
                self._jobs.put([job])

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
        thread = threading.Thread(target=self._work, name=self._name, daemon=True)
        self._threads.append(thread)
        thread.start()

    # In the threads.

    def _work(self) -> None:
        jobs, answers = self._jobs, self._answers
        since = 0.0
        while True:
            batch = jobs.get()
            if batch is None:
                break
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
