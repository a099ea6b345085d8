# SPDX-License-Identifier: MIT
"""
What the ``twistd`` command adds to the service: the process is ours, and ends as the
service and the command of ``--run`` have it.

Signals, exit statuses and the variables of the service manager are the business of a
process.  Who embeds the service (`scstd.service`) keeps theirs.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

from twisted.application.service import MultiService, Service
from twisted.internet.error import ReactorNotRunning
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized
from twisted.python.failure import Failure

from scstd.attributes import ConfigurationError
from scstd.process.last_resort import LAST
from scstd.process.log_thread import drain
from scstd.process.service_manager import Notifier
from scstd.service import Settings, SystemService

_log = Logger()

LONGEST = 75.0
"""Seconds for a stop in which everything takes as long as it may."""

REST = 5.0
"""Seconds for the reactor, its threads and Python to end after that."""

AT_ONCE = 2.0
"""Seconds after a second signal."""


def make_process(
    settings: Settings, reactor: Any = None, observer: ILogObserver | None = None
) -> Services:
    """
    Return the services of a process that does nothing else; *observer* is to write the
    log of their application.
    """
    if reactor is None:
        from twisted.internet import reactor  # noqa: PLC0415 - twistd has chosen by now
    tree = Services(observer)
    system = SystemService(settings, reactor, Notifier.of(os.environ))
    if settings.temporary:
        LAST.directories.append(str(settings.state.path))
    system.setServiceParent(tree)
    ProcessService(system, reactor).setServiceParent(tree)
    return tree


class Services(MultiService):
    """
    The services, and what writes the log of the application that they are put into:
    twistd asks that for it.
    """

    def __init__(self, observer: ILogObserver | None = None) -> None:
        super().__init__()
        self._observer = observer

    def setServiceParent(self, parent: Any) -> None:  # noqa: N802 - Twisted's name
        """Go into an application."""
        if self._observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._observer)
        super().setServiceParent(parent)


def exit_with(status: int) -> None:
    """
    Have the process end with *status*, which twistd has no word for.
    """

    def leave() -> None:
        if drain():
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)

    LAST.status = status
    atexit.register(leave)


class ProcessService(Service):
    """
    The process around a `SystemService`: it ends with status 1 when that cannot start,
    and with the status of the command of ``--run``; SIGHUP has the configuration file
    read again.
    """

    def __init__(self, system: SystemService, reactor: Any) -> None:
        self.system = system
        self.reactor = reactor
        self._hung_up = False
        self._told = False

    def startService(self) -> None:
        """Look after a system that starts."""
        super().startService()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGHUP, self._hang_up)
            # The reactor takes them when it begins to run.
            self.reactor.callWhenRunning(self._take_signals)
        # A signal may end the process without anything else that comes at its end.
        self.reactor.addSystemEventTrigger("after", "shutdown", drain)
        self.system.whenStarted().addErrback(self._failed)
        self.system.whenDone().addCallback(self._done)

    def _failed(self, failure: Failure) -> None:
        if not failure.check(ConfigurationError):
            _log.failure("starting failed", failure=failure)
        self._end(1)

    def _done(self, status: int) -> None:
        # twistd would end as the signal asks, by which we were told to stop.
        if hasattr(self.reactor, "_exitSignal"):
            self.reactor._exitSignal = None  # noqa: SLF001 - it has no other name
        self._end(status)

    def _end(self, status: int) -> None:
        exit_with(status)
        # The command may have ended before the reactor has begun to run.
        self.reactor.callWhenRunning(_stop, self.reactor)

    def _hang_up(self, _signal: int, _frame: FrameType | None) -> None:
        # Many that come at once are one: each would interrupt the last.
        if not self._hung_up:
            self._hung_up = True
            self.reactor.callFromThread(self._reload_once)

    def _reload_once(self) -> None:
        # From here on the file is read: another signal may mean another content.
        self._hung_up = False
        self.system.whenStarted().addCallbacks(
            lambda _urls: self.system.reload(), lambda _failure: None
        )

    def stopService(self) -> None:
        """
        See that the process ends, whatever happens; at a second Ctrl-C, at once.
        """
        super().stopService()
        if getattr(self.reactor, "_stopped", False):
            # Not one service alone, but everything.
            LAST.arm(LONGEST, self.reactor)
            self.reactor.addSystemEventTrigger("during", "shutdown", LAST.arm, REST)
        self._told = True

    def _take_signals(self) -> None:
        """
        Have signals come here first: to stop the reactor twice is an error to Twisted.
        """
        for number, own in ((signal.SIGINT, "sigInt"), (signal.SIGTERM, "sigTerm")):
            stops = getattr(self.reactor, own, None)
            if stops is not None and signal.getsignal(number) == stops:
                signal.signal(number, partial(self._signaled, stops))

    def _signaled(
        self, stops: Callable[[int, Any], None], number: int, frame: FrameType | None
    ) -> None:
        # Also one that comes before the reactor has taken the first in.
        if not self._told:
            self._told = True
            stops(number, frame)
            return
        LAST.arm(AT_ONCE)
        self.reactor.callFromThread(self._hurry)

    def _hurry(self) -> None:
        _log.warn("told to stop again: nothing is waited for any more")
        self.system.hurry()


def _stop(reactor: Any) -> None:
    # A signal may have stopped it already.
    with contextlib.suppress(ReactorNotRunning):
        reactor.stop()
