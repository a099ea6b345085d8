# SPDX-License-Identifier: MIT
"""
A worker: a process with some of the devices and targets, and the sessions of these.

It is a system like that of a process alone, but that it listens nowhere: connections
are given to it.  It does what the front calls (`Worker.answers`), and what it has to
say goes there: events by the link, its log by its standard output.

It lives as long as the link does.  The front ends it in two steps, `Worker.stop` and
the link's end; when the link goes otherwise, the front is gone, and nobody could reach
what is here: sessions are drained, devices flushed and closed, and it ends by itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import faulthandler
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger, globalLogBeginner

from scstd.management.config.applying import Configurator
from scstd.management.errors import TreeError, absent
from scstd.management.model.configuration import Configuration
from scstd.management.monitor.events import Event
from scstd.management.monitor.logs import Levels
from scstd.management.monitor.patience import CHANGE, Patience
from scstd.management.state.state import StateDirectory
from scstd.management.system import System
from scstd.management.tree.tree import Tree
from scstd.process.heartbeat import Heartbeat
from scstd.process.last_resort import LAST
from scstd.workers.answering import Answers, ask_for_numbers
from scstd.workers.link import Link, RemoteFault, attach
from scstd.workers.output import to_front

_log = Logger()

LINK = 3
"""The descriptor of the link in a worker."""

HELD = 4
"""That of the file that says that it is there (`scstd.management.state.orphans`)."""

LONGEST = 43.0
"""Seconds for a stop in which everything takes as long as it may."""

AT_ONCE = 2.0
"""Seconds for one that waits for nothing any more."""

_WAITING = 2048
"""Events that wait for a front that does not read them."""

_SESSIONS = {"SESSION_OPENED", "SESSION_CLOSED"}

_ITS_OWN = {"CONFIGURATION_APPLIED", "CONFIGURATION_FAILED"}
"""Events of which the front tells itself: a part of its configuration is none."""


@attrs.frozen
class Settings:
    """
    What a worker is told at its start.
    """

    state: Path
    """The state directory."""
    levels: tuple[tuple[str, str], ...] = ()
    """The levels of the log from the command line."""
    keep_going: bool = False
    """What cannot be opened is missing, and the others are served."""


class Worker:
    """
    What answers to the front; *over* is called when the process has nothing left to do.
    """

    def __init__(
        self, reactor: Any, levels: Levels, over: Callable[[], None] = lambda: None
    ) -> None:
        self.reactor = reactor
        self.link = Link(self.answers(), self._link_lost)
        self.link.relieved = self._relieved
        self.patience = Patience(reactor)
        self._levels = levels
        self._over = over
        self._heartbeat = Heartbeat(reactor)
        self._tree: Tree | None = None
        self._configurator: Configurator | None = None
        self._starting: Deferred[None] | None = None
        self._stopping: Deferred[None] | None = None
        self._waiting: list[Event] = []
        self._lost = 0

    def answers(self) -> Mapping[str, Callable[..., Any]]:
        """
        Return what the front may call.
        """
        return {
            "hello": os.getpid,
            "start": self.start,
            "apply": self.apply,
            "do": self.do,
            "adopt": self.adopt,
            "portals": self.portals,
            "stop": self.stop,
            "hurry": self.hurry,
            **Answers(lambda: self.tree).named(),
        }

    @property
    def tree(self) -> Tree:
        """The tree of what is here."""
        assert self._tree is not None, "it was not started"
        return self._tree

    # What the front calls.

    async def start(self, settings: Settings, configuration: Configuration) -> None:
        """
        Open everything.

        :raises ConfigurationError: something cannot be opened.
        """
        if self._stopping is not None:
            raise TreeError(errno.ESHUTDOWN, "the service stops")
        self._levels.base = settings.levels
        self._levels.set(())
        system = System(self.reactor, StateDirectory(settings.state), self._levels)
        # The front has a chronicle, and a trace of what happens.
        system.events.listeners[:] = [self._happened]
        self._tree = Tree(system)
        ask_for_numbers(
            self._tree, lambda ours, theirs: self.link.call("number", ours, theirs)
        )
        self._configurator = Configurator(self._tree, None, settings.keep_going)
        self._heartbeat.start()
        system.devices.stalls.start()
        self._starting = Deferred.fromCoroutine(self._configurator.start(configuration))
        started: Deferred[None] = Deferred()
        self._starting.addCallbacks(started.callback, started.errback)
        await started

    async def apply(self, configuration: Configuration, keep_going: bool) -> None:
        """
        Have this be what is here.

        :raises ConfigurationError: that cannot be done; what was there is back.
        """
        assert self._configurator is not None, "it was not started"
        await self._configurator.apply(configuration, keep_going=keep_going)

    async def do(self, change: tuple[Any, ...]) -> None:
        """
        Change something: ("write", path, text), or the name of another of the tree's
        ``do_`` functions and what it is given.

        :raises ConfigurationError: that cannot be done.
        """
        verb, *given = change
        if verb == "write":
            await self.tree.write(*given)
        else:
            await self.tree.change(lambda: getattr(self.tree, f"do_{verb}")(*given))

    def adopt(self, driver: str, target: str, told: Any, fd: int) -> Any:
        """
        Take somebody in who wants a target (`scstd.interfaces.IDividedDriver`).

        :raises OSError: that cannot be done.
        """
        try:
            instance: Any = self.tree.system.drivers.find(driver).instance
            adopt = instance.adopt
        except BaseException:
            os.close(fd)
            raise
        return adopt(target, told, fd)

    def portals(self, names: Mapping[str, Sequence[str]]) -> None:
        """
        Have initiators told of the front's portals, by the driver's name.
        """
        drivers = self.tree.system.drivers
        for name, portals in names.items():
            if name not in drivers:
                raise absent("target driver", name, drivers)
            instance: Any = drivers[name].instance
            instance.listens_elsewhere(portals)

    def stop(self) -> Deferred[None]:
        """
        End every session, flush and close every device, once.
        """
        done: Deferred[None] = Deferred()
        if self._stopping is None:
            LAST.arm(LONGEST, self.reactor)
            self._stopping = Deferred.fromCoroutine(self._stop())
            self._stopping.addErrback(
                lambda failure: _log.failure("the stop failed", failure)
            )
        self._stopping.addCallback(done.callback)
        return done

    async def _stop(self) -> None:
        if self._starting is not None:
            await self.patience.within(
                CHANGE, self._starting, lambda: "the start under way"
            )
        if self._tree is not None:
            await self._tree.close(self.patience)
            self._tree.system.devices.stalls.stop()
            self._heartbeat.stop()

    def hurry(self) -> None:
        """
        Have a stop wait for nothing any more.
        """
        LAST.arm(AT_ONCE)
        self.patience.hurry()

    # The front's end, and what it is told.

    def _link_lost(self, why: str) -> None:
        if self._stopping is None:
            _log.warn("the front is gone ({why}): this worker ends", why=why)
        self.stop().addCallback(lambda _none: self._over())

    def _happened(self, event: Event) -> None:
        if event.name in _ITS_OWN:
            return
        if self._waiting or self.link.congested:
            # Who is logged in the front has to know; there are no more of these than
            # it has let in.
            if len(self._waiting) < _WAITING or event.name in _SESSIONS:
                self._waiting.append(event)
            else:
                self._lost += 1
            return
        self._tell(event)

    def _tell(self, event: Event) -> None:
        try:
            self.link.tell("event", event)
        except RemoteFault:
            # Somebody's driver has put something into it that does not travel.
            fields = {name: str(value) for name, value in event.fields.items()}
            self.link.tell("event", attrs.evolve(event, fields=fields))

    def _relieved(self) -> None:
        waiting, self._waiting = self._waiting, []
        lost, self._lost = self._lost, 0
        for event in waiting:
            self._tell(event)
        if lost:
            _log.warn("{count} events did not reach the front", count=lost)


def main() -> None:
    """
    Be worker number ``sys.argv[1]``.
    """
    # Whoever stops the service tells the front; who tells everybody tells it as well.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    with contextlib.suppress(OSError):
        os.set_inheritable(HELD, False)
    faulthandler.enable()
    ctypes.CDLL(None).prctl(_PR_SET_NAME, f"scstd worker {sys.argv[1]}".encode())
    levels = Levels()
    globalLogBeginner.beginLoggingTo([to_front(sys.stdout, levels)], False, False)
    from twisted.internet import reactor  # noqa: PLC0415 - the log comes first

    worker = Worker(reactor, levels, lambda: _end(reactor))
    attach(reactor, socket.socket(fileno=LINK), worker.link)
    any_reactor: Any = reactor
    any_reactor.callWhenRunning(_take_signals, worker)
    any_reactor.run()


_PR_SET_NAME = 15
"""prctl(2)"""


def _take_signals(worker: Worker) -> None:
    """
    Be told to end by the link alone, while it is there.
    """

    def told(_number: int, _frame: Any) -> None:
        if not worker.link.connected:
            worker.reactor.callFromThread(worker.hurry)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, told)


def _end(reactor: Any) -> None:
    LAST.status = 0
    try:
        reactor.stop()
    except ReactorNotRunning:
        reactor.callWhenRunning(reactor.stop)
