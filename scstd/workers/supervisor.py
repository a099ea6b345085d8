# SPDX-License-Identifier: MIT
"""
The workers of a front: who starts them, speaks to them, and has those that died come
back.

A worker that ends by itself takes its own sessions with it and nothing else.  Another
takes its place, at once, and if that ends soon as well after pauses that double, for
ever.  It opens what the one before had: what devices remember is in the state
directory, and initiators come back when they can log in again.

While a worker is not there, what is asked of it is refused with EAGAIN; what it was at
when it died, with ECONNRESET.
"""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, FirstError, fail, gatherResults
from twisted.internet.error import ConnectionLost
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from scstd.attributes import ConfigurationError
from scstd.management.errors import TreeError
from scstd.management.model.configuration import Configuration
from scstd.management.monitor.patience import Patience
from scstd.workers.link import Link
from scstd.workers.process import WorkerProcess
from scstd.workers.worker import AT_ONCE, LONGEST, Settings

_log = Logger()

HELLO = 60.0
"""Seconds for a process to be there."""

SOON = 60.0
"""Seconds that a worker has to live so that the next one takes its place at once."""

FIRST, LAST = 1.0, 60.0
"""Seconds of the first pause, and of the longest."""

LEAVING = 5.0
"""Seconds for a process to end when it has nothing left to do."""


@attrs.define(eq=False)
class Place:
    """
    The place of worker *number*, and the *process* that is in it, if one is.
    """

    number: int
    settings: Settings
    process: Any = None
    link: Link | None = None
    """None while it does not serve: until it has opened its part, and from its end."""
    since: float = 0.0
    pause: float = 0.0
    """Seconds until the next one is started when this one ends soon."""
    again: Any = None
    asked: bool = False
    """Whether it was asked for a sign of life, and has given none."""

    def __str__(self) -> str:
        return f"worker {self.number}{f', process {self.pid}' if self.pid else ''}"

    @property
    def pid(self) -> int:
        """Its process, 0 while there is none."""
        return 0 if self.process is None else self.process.pid

    def start(self, configuration: Configuration) -> Deferred[None]:
        """
        Have it open its part, and serve from then on.

        :raises ConfigurationError: it cannot; the text is for a person.
        """
        return Deferred.fromCoroutine(self._start(configuration))

    async def _start(self, configuration: Configuration) -> None:
        process = self.process
        if process is None:
            raise TreeError(errno.EAGAIN, f"{self} is not there")
        over: Deferred[str] = Deferred()
        process.over.addCallback(_passed_on, over)
        try:
            await process.link.call("start", self.settings, configuration)
        except ConnectionLost:
            why = f"worker {self.number} did not start: {await over}"
            raise ConfigurationError(why) from None
        self.link = process.link


class Fleet:
    """
    *count* workers, numbered from 0, each in its `Place`.

    Who has one of these says what workers may call (*answers*), and what is to be done
    (*admit*) with one that has taken another's place, so that it has its part.  Each of
    *changed* is called with a place whose worker serves from now on, or has ended;
    *portals* returns what initiators are told of where the front listens, by the
    driver's name.
    """

    def __init__(
        self,
        reactor: Any,
        count: int,
        settings: Settings,
        publish: Callable[..., None],
        make: Callable[[Any, int, Mapping[str, Callable[..., Any]]], Any] = (
            WorkerProcess
        ),
    ) -> None:
        self.places = [Place(number, settings) for number in range(count)]
        self.answers: Callable[[Place], Mapping[str, Callable[..., Any]]] = _nothing
        self.admit: Callable[[Place], Awaitable[None]] = _empty
        self.changed: list[Callable[[Place], None]] = []
        self.portals: Callable[[], Mapping[str, Sequence[str]]] = dict
        self._reactor = reactor
        self._publish = publish
        self._make = make
        self._running = False
        self._stopping = False
        self._patience = Patience(reactor)
        self._watching = LoopingCall(self._look)
        self._watching.clock = reactor

    def absent(self) -> list[int]:
        """
        Return the workers that do not serve.
        """
        return [one.number for one in self.places if one.link is None]

    def call(
        self, place: Place, name: str, *args: Any, fd: int | None = None
    ) -> Deferred[Any]:
        """
        Have a worker do something (`Link.call`).

        :raises TreeError: it is not there (EAGAIN), or has ended meanwhile
            (ECONNRESET).
        """
        if place.link is None:
            return fail(TreeError(errno.EAGAIN, f"{place} is not there"))
        done: Deferred[Any] = place.link.call(name, *args, fd=fd)
        return done.addErrback(_ended, place)

    def tell_portals(self) -> None:
        """
        Tell all where the front listens now.
        """
        for place in self.places:
            self._tell_portals(place)

    def _tell_portals(self, place: Place) -> None:
        if place.link is not None:
            place.link.tell("portals", self.portals())

    # Their lives.

    async def start(self) -> None:
        """
        Start all processes; they have nothing yet (`Place.start`).

        :raises ConfigurationError: one could not be started.
        """
        starting = [Deferred.fromCoroutine(self._start(one)) for one in self.places]
        try:
            await gatherResults(starting, consumeErrors=True)
        except FirstError as error:
            error.subFailure.raiseException()

    async def _start(self, place: Place) -> None:
        place.since = self._reactor.seconds()
        place.asked = False
        try:
            process = self._make(self._reactor, place.number, self.answers(place))
        except OSError as error:
            why = (
                f"worker {place.number} cannot be started: {sys.executable}:"
                f" {error.strerror}"
            )
            raise ConfigurationError(why) from error
        place.process = process
        over: Deferred[str] = Deferred()
        process.over.addCallback(self._over, place)
        process.over.addCallback(_passed_on, over)
        try:
            hello = process.link.call("hello")
            if not await self._patience.within(HELLO, hello, lambda: str(place)):
                process.kill(signal.SIGABRT)
                await process.link.call("hello")
        except ConnectionLost:
            why = f"worker {place.number} did not start: {await over}"
            raise ConfigurationError(why) from None

    def serve(self) -> None:
        """
        Know that all have their parts: whoever ends from now on is replaced.
        """
        self._running = True
        for place in self.places:
            # Whoever takes another's place serves what it can.
            place.settings = attrs.evolve(place.settings, keep_going=True)
            if place.link is None:
                self._later(place)
            else:
                self._serves(place)

    def _serves(self, place: Place) -> None:
        self._tell_portals(place)
        self._publish("WORKER_STARTED", worker=place.number, pid=place.pid)
        self._tell_changed(place)

    def _over(self, reason: str, place: Place) -> str:
        pid, place.process = place.process.pid, None
        link, place.link = place.link, None
        if link is not None:
            self._tell_changed(place)
            if not self._stopping:
                self._publish(
                    "WORKER_DIED", worker=place.number, pid=pid, reason=reason
                )
        if self._running and not self._stopping:
            self._later(place)
        return reason

    def _tell_changed(self, place: Place) -> None:
        for one in self.changed:
            one(place)

    def _later(self, place: Place) -> None:
        """
        Start another in a place that is empty.
        """
        if place.again is not None and place.again.active():
            return
        if self._reactor.seconds() - place.since >= SOON:
            place.pause = 0.0
        place.again = self._reactor.callLater(place.pause, self._again, place)
        place.pause = min(max(2 * place.pause, FIRST), LAST)

    def _again(self, place: Place) -> None:
        again = Deferred.fromCoroutine(self._start_again(place))
        again.addErrback(self._not_again, place)

    async def _start_again(self, place: Place) -> None:
        await self._start(place)
        await self.admit(place)
        if place.link is not None:
            self._serves(place)

    def _not_again(self, failure: Failure, place: Place) -> None:
        if self._stopping:
            return
        if failure.check(ConfigurationError):
            _log.error("{why}", why=failure.getErrorMessage())
        else:
            _log.failure("{who} does not start", failure, who=str(place))
        if place.process is not None:
            place.process.kill()
        else:
            self._later(place)

    # Signs of life.

    def watch(self, interval: float) -> None:
        """
        End a worker that does not answer for so many seconds; another takes its place.
        """
        self._watching.start(interval, now=False)

    def _look(self) -> None:
        for place in self.places:
            if place.link is None:
                continue
            if place.asked:
                _log.error("{who} does not answer: it is ended", who=str(place))
                # Python says where each thread is.
                place.process.kill(signal.SIGABRT)
                continue
            place.asked = True
            hello = place.process.link.call("hello")
            hello.addBoth(self._answered, place)

    @staticmethod
    def _answered(_result: Any, place: Place) -> None:
        place.asked = False

    # The end.

    async def stop(self) -> None:
        """
        Have all end their sessions, flush and close their devices, and end; what does
        not end is killed, and named in the log.
        """
        self._stopping = True
        if self._watching.running:
            self._watching.stop()
        for place in self.places:
            if place.again is not None and place.again.active():
                place.again.cancel()
        # All at once.
        for ended in [Deferred.fromCoroutine(self._end(one)) for one in self.places]:
            await ended

    async def _end(self, place: Place) -> None:
        process = place.process
        if process is None:
            return
        over: Deferred[str] = Deferred()
        process.over.addCallback(_passed_on, over)
        stopped = process.link.call("stop")
        # Whatever it is, it is in its log; and it may die of it.
        stopped.addErrback(lambda _failure: None)
        await self._patience.within(LONGEST, stopped, lambda: str(place))
        process.link.close()
        if not await self._patience.within(LEAVING, over, lambda: str(place)):
            _log.error("{who} does not end: it is killed", who=str(place))
            process.kill()

    def hurry(self) -> None:
        """
        Have a stop wait for nothing any more: what can be flushed at once is.
        """
        for place in self.places:
            if place.process is not None:
                place.process.link.tell("hurry")
        self._reactor.callLater(AT_ONCE / 2, self._patience.hurry)


def _ended(failure: Failure, place: Place) -> Failure:
    if failure.check(ConnectionLost):
        why = f"worker {place.number} has ended while it was at this"
        raise TreeError(errno.ECONNRESET, why)
    return failure


def _passed_on(reason: str, to: Deferred[str]) -> str:
    to.callback(reason)
    return reason


def _nothing(_place: Place) -> Mapping[str, Callable[..., Any]]:
    return {}


async def _empty(place: Place) -> None:
    await place.start(Configuration())
