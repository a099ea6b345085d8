# SPDX-License-Identifier: MIT
"""
One epoll for the sockets of all iSCSI connections, which the reactor knows as one
descriptor.

What a reactor does for each descriptor that is ready (its logging context, the
transport's `doRead`, its buffer) costs as much as many a command.  Here one turn of the
reactor receives from every connection that has something, once each, and what they
have to say is sent at the end of the turn.

A transport whose connection is taken (`Poller.take`) gets the poller for its reactor,
and stays what it is otherwise: it pauses, resumes, closes and aborts as Twisted's
transports do, by the same four methods (`IReactorFDSet`).  A reactor that cannot watch
an epoll, or a system that has none, watches each transport itself, as it does those of
TLS: `Poller.of` is the one place that decides.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Hashable
from time import perf_counter
from typing import Any, Protocol

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from scstd.protocols.turns import BUDGET, Turns

_log = Logger()

_IN = getattr(select, "EPOLLIN", 0)
_OUT = getattr(select, "EPOLLOUT", 0)

_MOST = 128
"""Connections that are received from in one turn of the reactor."""


_BUSY_POLL = 50e-6
"""Seconds for which a connection looks for the next command."""

_BUSY_POLL_TURNS = 32
"""Commands found so in a row before others get their turn."""

_MAX_SKIPPED = 64
"""Turns without a look after looks that found nothing."""

_ALONE = len(os.sched_getaffinity(0)) == 1
"""With one processor to run on, looking keeps the initiator from running."""


class Polled(Hashable, Protocol):
    """
    A connection whose socket the poller watches.
    """

    transport: Any

    def receive(self, now: float) -> Exception | None:
        """
        Receive once, at time *now*, and work through it; return why the connection is
        lost, if it is.
        """


@implementer(IReadDescriptor)
class Poller:
    """
    The epoll of one factory's connections, in a reactor.

    *flush* is called at the end of each turn; *seconds* is the time.
    """

    turning = 0
    """How many connections have something in this turn, whose end calls *flush*."""
    _skip = 0
    """Turns left without looking for what comes next."""
    _skipped = 0
    """How many they were last time."""

    def __init__(self, reactor: Any, flush: Callable[[], None], turns: Turns) -> None:
        self.reactor = reactor
        self._turns = turns
        self._flush = flush
        self._seconds: Callable[[], float] = reactor.seconds
        self._epoll: Any = None
        self._taken: dict[Any, Polled] = {}
        """The connections, by their transports."""
        self._readers: dict[int, Polled] = {}
        """Those that are received from, by their descriptors."""
        self._writers: dict[int, Any] = {}
        """The transports that wait for room, by their descriptors."""
        self.slow: dict[int, None] = {}
        """
        The descriptors of those that had very much to say, or wait for room: in a turn
        they come last, in this order, and for no longer than `BUDGET`.
        """

    @classmethod
    def of(cls, reactor: Any, flush: Callable[[], None], turns: Turns) -> Poller | None:
        """
        Return one for *reactor*; None where there can be none.
        """
        if _IN and IReactorFDSet.providedBy(reactor):
            return cls(reactor, flush, turns)
        return None

    # Connections.

    def take(self, one: Polled) -> None:
        """
        Watch a connection's socket from now on, in the place of the reactor.
        """
        if self._epoll is None:
            self._epoll = select.epoll()
            self.reactor.addReader(self)
        transport = one.transport
        transport.stopReading()
        self._taken[transport] = one
        transport.reactor = self
        transport.startReading()

    def leave(self, one: Polled) -> None:
        """
        Know nothing of a connection any more: its transport is gone.
        """
        if self._taken.pop(one.transport, None) is None:
            return
        for number in list(self.slow):
            # Its own, at least: its transport does not know it any more.
            if number not in self._readers and number not in self._writers:
                del self.slow[number]
        if not self._taken:
            self.reactor.removeReader(self)
            self._epoll.close()
            self._epoll = None

    # What a transport asks of its reactor.

    def callLater(self, delay: float, call: Callable[..., Any], *args: Any) -> Any:
        """See `IReactorTime`."""
        return self.reactor.callLater(delay, call, *args)

    def addReader(self, transport: Any) -> None:
        """Receive from a transport."""
        number = transport.fileno()
        if number not in self._readers:
            self._watch(number, _IN, _OUT if number in self._writers else 0)
            self._readers[number] = self._taken[transport]

    def addWriter(self, transport: Any) -> None:
        """Tell a transport when there is room."""
        number = transport.fileno()
        if number not in self._writers:
            self._watch(number, _OUT, _IN if number in self._readers else 0)
            self._writers[number] = transport
            self.slow[number] = None

    def removeReader(self, transport: Any) -> None:
        """Receive from a transport no more."""
        number = transport.fileno()
        if self._readers.pop(number, None) is not None:
            self._watch(number, 0, _OUT if number in self._writers else 0)

    def removeWriter(self, transport: Any) -> None:
        """Tell a transport of room no more."""
        number = transport.fileno()
        if self._writers.pop(number, None) is not None:
            self._watch(number, 0, _IN if number in self._readers else 0)

    def _watch(self, number: int, event: int, other: int) -> None:
        if not event and not other:
            self._epoll.unregister(number)
        elif event and not other:
            self._epoll.register(number, event)
        else:
            self._epoll.modify(number, event | other)

    # What the reactor asks.

    def fileno(self) -> int:
        """Return the descriptor of the epoll, -1 if there is none."""
        return -1 if self._epoll is None else int(self._epoll.fileno())

    def logPrefix(self) -> str:
        """Return what is written before what is logged here."""
        return "iSCSI"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor is at its end: so is every connection."""
        for transport in list(self._taken):
            try:
                transport.connectionLost(reason)
            except BaseException as error:  # noqa: BLE001, PERF203 - logged
                self._failed(transport, error)

    def doRead(self) -> None:
        """Receive from every connection that has something; then send."""
        self._turn(self._epoll.poll(0, _MOST))
        if self._skip:
            self._skip -= 1
        elif not (_ALONE or self._turns.waiting):
            self._busy_poll()

    def _busy_poll(self) -> None:
        """
        Look for what comes next, for a moment each; the fewer the longer none came.
        """
        queue = self.reactor.threadCallQueue
        until = end = perf_counter() + _BUSY_POLL
        end += _BUSY_POLL_TURNS * _BUSY_POLL
        waiting = self._turns
        while self._epoll is not None and not queue and not waiting.waiting:
            events = self._epoll.poll(0, _MOST)
            now = perf_counter()
            if events:
                self._skipped = 0
                self._turn(events)
                if now > end:
                    return
                until = perf_counter() + _BUSY_POLL
            elif now > until:
                self._skip = self._skipped = min(2 * self._skipped + 1, _MAX_SKIPPED)
                return

    def _turn(self, events: list[tuple[int, int]]) -> None:
        self.turning = len(events)
        late: dict[int, int] = {}
        if self.slow and self.turning > 1:
            slow = self.slow
            late = {number: event for number, event in events if number in slow}
            events = [one for one in events if one[0] not in slow]
        try:
            now = self._seconds()
            readers = self._readers
            for number, event in events:
                one = readers.get(number)
                if event != _IN or one is None:
                    self._look(number, event)
                    continue
                why: BaseException | None
                try:
                    why = one.receive(now)
                except BaseException as error:  # noqa: BLE001 - logged
                    why = self._failed(one.transport, error)
                if why is not None:
                    self._lose(one.transport, why, reading=True)
            if late:
                self._flush()
                self._turn_slow(late)
        finally:
            self.turning = 0
            self._flush()

    def _turn_slow(self, events: dict[int, int]) -> None:
        """
        Have the slow ones' turn: what is not reached is reported again, and then first.
        """
        until = perf_counter() + BUDGET
        for number in [one for one in self.slow if one in events]:
            self.slow.pop(number, None)
            self._look(number, events[number])
            if number in self._writers:
                self.slow[number] = None
            if perf_counter() > until:
                return

    def _look(self, number: int, event: int) -> None:
        """
        Do about what is neither received nor nothing what a reactor does.
        """
        one = self._readers.get(number)
        transport = self._writers.get(number) if one is None else one.transport
        if transport is None:
            # It has been paused, or is gone, since it was looked at.
            return
        if event & ~(_IN | _OUT) and not event & _IN:
            # The peer has gone, and everything has been received.
            gone = CONNECTION_LOST if one is None else CONNECTION_DONE
            self._lose(transport, gone, reading=one is not None)
            return
        reading = False
        why: BaseException | None = None
        try:
            if one is not None and event & _IN:
                reading = True
                why = one.receive(self._seconds())
            if why is None and event & _OUT and number in self._writers:
                reading = False
                why = transport.doWrite()
        except BaseException as error:  # noqa: BLE001 - logged
            why = self._failed(transport, error)
        if why is not None:
            self._lose(transport, why, reading=reading)

    def _failed(self, transport: Any, error: BaseException) -> BaseException:
        """
        Log what was raised for one connection: it is the end of that one alone.
        """
        _log.failure("an error ends the connection {connection}", connection=transport)
        return error

    def _lose(self, transport: Any, why: BaseException, *, reading: bool) -> None:
        """
        Tell a transport that its connection is lost.
        """
        self.removeReader(transport)
        reason = Failure(why)
        if reading and type(why) is ConnectionDone:
            transport.readConnectionLost(reason)
            return
        self.removeWriter(transport)
        transport.connectionLost(reason)
