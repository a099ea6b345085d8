# SPDX-License-Identifier: MIT
"""
The threads that all lanes of a reactor share (`scstd.blocking`), and how many there
may be.

Threads for each store, as many as it could ever use, are thousands with a thousand
LUNs; a fixed number for all is taken whole by the first file system that hangs.  So:

* `BASE` threads serve every lane, in turns: a lane that has more to do than its share
  goes to the end of the queue while others wait.
* A call that takes longer than `STANDS` stands, and so does its store.  Its threads do
  not count any more: others may be started instead.  For the calls that such a store
  has besides there are `EXTRA` threads more, for all of them together.
* Whatever stands, a store that has no thread at all gets one.

So there are never more than ``BASE + EXTRA`` threads and one for each store, a store
that hangs takes none from the others, and while nothing stands there are `BASE` at
most.  A thread that has had nothing to do for `IDLE` seconds ends.

A thread that cannot be started (the limits of a container or a user, memory) is no
harm while another will be free soon: there is only less at once.  If there is none, or
all of them stand, the calls that wait fail with EAGAIN: an initiator is told BUSY, and
sends them again.  Each further call tries again to start one.

Who may have a thread is decided in the reactor alone; threads take only what is in the
queue for everybody.
"""

from __future__ import annotations

import errno
import threading
from collections import Counter, deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

import attrs
from twisted.logger import Logger
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

_log = Logger()

BASE = 32
"""Threads for everybody."""

EXTRA = 512
"""Threads for the further calls of stores of which one stands."""

STANDS = 0.5
"""Seconds after which a call stands."""

IDLE = 10.0
"""Seconds after which a thread with nothing to do ends."""

_LOOK = 0.1
"""Seconds between two looks at what stands, while calls wait for a thread."""

_LONGEST = 0.0005
"""Seconds that an answer may wait for those after it."""

_QUIET = 60.0
"""Seconds between two lines about threads that cannot be started."""

Job = tuple[Callable[..., Any], tuple[Any, ...], "Deferred[Any]"]


class Served(Protocol):
    """
    Whom the threads serve: a lane (`scstd.blocking.Lane`), with the calls that wait.
    """

    reactor: Any
    """Where the answers go."""
    name: str
    store: str
    """All lanes of one store stand together."""
    runners: int
    """Threads that are at work for it, or will be; with the lock of the pool."""
    pending: int
    """Calls whose answers are to come."""
    endings: list[Deferred[None]]
    """Who waits for the end of all calls."""

    def ended(self) -> None:
        """
        Take it that no call is left.
        """

    # With the lock of the pool.

    def put(self, jobs: list[Job]) -> int:
        """
        Put calls behind the others; return how many more threads may make them.
        """

    def waits(self) -> bool:
        """
        Say whether there is a call that no thread has taken.
        """

    def take(self) -> list[Job]:
        """
        Take out what one thread is to call next: nothing if there is nothing.
        """

    def drop(self) -> list[Job]:
        """
        Take out everything.
        """


@attrs.frozen
class Standing:
    """
    A call that is under way: of which lane, what is called, and for how many *seconds*.
    """

    lane: str
    store: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    seconds: float


class _Worker:
    """
    A thread, and what it is at.
    """

    def __init__(self, lane: Served) -> None:
        self.lane: Served | None = lane
        self.wake: SimpleQueue[Served] = SimpleQueue()
        self.job: Job | None = None
        self.since = 0.0


class Pool:
    """
    The threads of one reactor.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.workers: set[_Worker] = set()
        self._idle: list[_Worker] = []
        self._backlog: deque[Served] = deque()
        """Lanes that wait for a thread, once for each that they may have."""
        self._held: deque[Served] = deque()
        """The same of stores that stand: not for any thread that is free."""
        self._stands: set[str] = set()
        self._answers: deque[tuple[Served, Deferred[Any], Any]] = deque()
        self._told = False
        self._look_at: Any = None
        self._quiet_until = 0.0

    # In the reactor.

    def hand_over(self, lane: Served, jobs: list[Job]) -> None:
        """
        Have calls made by the threads of a lane.
        """
        woken: list[_Worker] = []
        with self.lock:
            for _more in range(lane.put(jobs)):
                lane.runners += 1
                if self._stands and lane.store in self._stands:
                    self._held.append(lane)
                elif self._idle:
                    woken.append(self._idle.pop())
                else:
                    self._backlog.append(lane)
        for worker in woken:
            worker.wake.put(lane)
        if self._backlog or self._held:
            self._grow(lane.reactor)

    def _grow(self, reactor: Any) -> None:
        """
        Start the threads that may be started for what waits.
        """
        while (lane := self._next()) is not None:
            if not self._start(lane):
                with self.lock:
                    self._backlog.appendleft(lane)
                if not self._moving():
                    self._refuse()
                break
        if self._look_at is None and (self._backlog or self._held):
            self._look_at = reactor.callLater(_LOOK, self._look, reactor)

    def _next(self) -> Served | None:
        """
        Take the next lane that may have a thread of its own out of what waits.
        """
        with self.lock:
            if self._held and self._standing_threads() < EXTRA:
                return self._held.popleft()
            if not self._backlog:
                return None
            many = len(self.workers)
            if many < BASE:
                return self._backlog.popleft()
            # Twice: what has just begun may stand too, and nobody is to wait long.
            if many >= BASE + 2 * self._standing_threads():
                return None
            at_work = Counter(one.store for one in self._lanes())
            for where, lane in enumerate(self._backlog):
                if not at_work[lane.store]:
                    del self._backlog[where]
                    return lane
            return None

    def _lanes(self) -> list[Served]:
        return [one.lane for one in self.workers if one.lane is not None]

    def _standing_threads(self) -> int:
        if not self._stands:
            return 0
        return sum(one.store in self._stands for one in self._lanes())

    def _start(self, lane: Served) -> bool:
        """
        Start a thread for a lane, or wake one; say whether that worked.
        """
        with self.lock:
            idle = self._idle.pop() if self._idle else None
        if idle is not None:
            idle.wake.put(lane)
            return True
        worker = _Worker(lane)
        self.workers.add(worker)
        thread = threading.Thread(
            target=self._work, args=(worker,), name="scstd", daemon=True
        )
        try:
            thread.start()
        except (RuntimeError, OSError, MemoryError) as error:
            self.workers.discard(worker)
            self._complain(error)
            return False
        return True

    def _complain(self, error: BaseException) -> None:
        now = monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + _QUIET
            _log.warn(
                "no thread can be started ({error}): {count} make the calls of all"
                " devices; see the limits of processes (TasksMax, pids, ulimit -u)",
                error=error,
                count=len(self.workers),
            )

    def _moving(self) -> bool:
        """
        Say whether a thread will be free soon.
        """
        late = monotonic() - STANDS
        return any(not one.since or one.since > late for one in self.workers.copy())

    def _refuse(self) -> None:
        """
        Fail the calls of the lanes that wait and have no thread.
        """
        refused: list[tuple[Served, Job]] = []
        with self.lock:
            waiting = [*self._backlog, *self._held]
            self._backlog.clear()
            self._held.clear()
            for lane in waiting:
                lane.runners -= 1
            for lane in waiting:
                if not lane.runners:
                    refused += [(lane, job) for job in lane.drop()]
        for lane, (_function, _args, deferred) in refused:
            error = OSError(errno.EAGAIN, "no thread can be started")
            self._answers.append((lane, deferred, Failure(error)))
        self._deliver()

    def _look(self, reactor: Any) -> None:
        """
        See what stands; let those wait for a thread who may have one now.
        """
        self._look_at = None
        late = monotonic() - STANDS
        self._stands = {
            one.lane.store
            for one in self.workers.copy()
            if one.since and one.since < late and one.lane is not None
        }
        self._sort()
        self._grow(reactor)

    def _sort(self) -> None:
        """
        Part what waits into who is held and who is not; who has no calls any more, for
        other threads have made them, waits for none.
        """
        with self.lock:
            waiting = [*self._held, *self._backlog]
            self._held.clear()
            self._backlog.clear()
            for lane in waiting:
                if not lane.waits():
                    lane.runners -= 1
                elif lane.store in self._stands:
                    self._held.append(lane)
                else:
                    self._backlog.append(lane)

    def _deliver(self) -> None:
        # Before looking: an answer that comes now is found, or tells again.
        self._told = False
        if self._look_at is not None:
            self._sort()
            if not (self._backlog or self._held):
                looking, self._look_at = self._look_at, None
                looking.cancel()
        answers = self._answers
        while answers:
            lane, deferred, result = answers.popleft()
            lane.pending -= 1
            deferred.callback(result)
            if not lane.pending and lane.endings:
                lane.ended()

    def standing(self, seconds: float) -> list[Standing]:
        """
        Return the calls that have been under way for so long, the oldest first.
        """
        now = monotonic()
        found = []
        for worker in self.workers.copy():
            lane, job, since = worker.lane, worker.job, worker.since
            if lane is None or job is None or not since or now - since < seconds:
                continue
            one = Standing(lane.name, lane.store, job[0], job[1], now - since)
            found.append(one)
        return sorted(found, key=lambda one: -one.seconds)

    def threads_of(self, store: str) -> int:
        """
        Return how many threads are at work for a store.
        """
        return sum(one.store == store for one in self._lanes())

    # In the threads.

    def _work(self, worker: _Worker) -> None:
        lane = worker.lane
        while lane is not None:
            with self.lock:
                jobs = lane.take()
                if not jobs:
                    lane.runners -= 1
                    lane = self._backlog.popleft() if self._backlog else None
                    worker.lane = lane
                    if lane is None:
                        self._idle.append(worker)
            if jobs and lane is not None:
                self._call(worker, lane, jobs)
                jobs.clear()
                if self._backlog:
                    lane = self._take_turns(worker, lane)
            elif lane is None:
                lane = self._wait(worker)

    def _take_turns(self, worker: _Worker, lane: Served) -> Served:
        """
        Put a lane behind those that wait; return the first of them.
        """
        with self.lock:
            self._backlog.append(lane)
            worker.lane = first = self._backlog.popleft()
        return first

    def _wait(self, worker: _Worker) -> Served | None:
        """
        Wait for a lane; return None if the thread is to end.
        """
        try:
            lane = worker.wake.get(timeout=IDLE)
        except Empty:
            with self.lock:
                if worker in self._idle:
                    self._idle.remove(worker)
                    self.workers.discard(worker)
                    return None
            # One is on its way.
            lane = worker.wake.get()
        worker.lane = lane
        return lane

    def _call(self, worker: _Worker, lane: Served, jobs: list[Job]) -> None:
        """
        Make calls, and see that their answers are heard of.
        """
        answers = self._answers
        told = worker.since = monotonic()
        for job in jobs:
            worker.job = job
            try:
                result = job[0](*job[1])
            except BaseException:  # noqa: BLE001 - whatever it is, it is the caller's
                result = Failure()
            answers.append((lane, job[2], result))
            worker.since = now = monotonic()
            if now - told > _LONGEST:
                self._tell(lane)
                told = now
        worker.job = None
        worker.since = 0.0
        self._tell(lane)

    def _tell(self, lane: Served) -> None:
        if self._answers and not self._told:
            self._told = True
            lane.reactor.callFromThread(self._deliver)


_POOLS: WeakKeyDictionary[Any, Pool] = WeakKeyDictionary()


def pool_of(reactor: Any) -> Pool:
    """
    Return the threads of a reactor.
    """
    found = _POOLS.get(reactor)
    if found is None:
        found = _POOLS[reactor] = Pool()
    return found
