# SPDX-License-Identifier: MIT
"""
The command of ``--run``, and everything that it starts.

It leads a session of its own, so that what it leaves behind can be found: at the end
the whole process group is told to go, and what has not gone after `GRACE` seconds is
killed.  The terminal's Ctrl-C therefore reaches us alone, and we pass it on.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.process import (
    registerReapProcessHandler,
    unregisterReapProcessHandler,
)
from twisted.internet.task import deferLater
from twisted.logger import Logger

_log = Logger()

GRACE = 5.0
"""Seconds that processes have to end when they are told to."""

_LOOK = 0.05

_CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ)
"""Signals that Python or we ignore, or treat in our own way."""


class RunCommand:
    """
    A command under way.

    *ended* fires with its status as a shell has it: 128 and the signal that ended it.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._running = False
        self._group = 0
        self.ended: Deferred[int] = Deferred()

    def start(self, command: str, environment: Mapping[str, str]) -> None:
        """
        Run *command* by the shell, with these variables besides our own.

        :raises OSError: there is no shell.
        """
        sys.stdout.flush()
        # Not by spawnProcess, which has no word for a session of its own.
        self._group = os.posix_spawn(
            "/bin/sh",
            ["sh", "-c", command],
            {**os.environ, **environment},
            file_actions=[(os.POSIX_SPAWN_CLOSE, fd) for fd in _inherited()],
            setsid=True,
            setsigmask=(),
            setsigdef=_CAUGHT,
        )
        self._running = True
        registerReapProcessHandler(self._group, self)
        # It may end before the reactor runs, and hears of that.
        self._reactor.callWhenRunning(self.reapProcess)

    def reapProcess(self) -> None:  # noqa: N802 - Twisted's name
        """Look whether it has ended: a child of ours has."""
        if not self._running:
            return
        pid, status = os.waitpid(self._group, os.WNOHANG)
        if pid:
            unregisterReapProcessHandler(pid, self)
            self.processEnded(status)

    def processEnded(self, status: int) -> None:
        """Tell its status."""
        self._running = False
        code = os.waitstatus_to_exitcode(status)
        self.ended.callback(128 - code if code < 0 else code)

    async def stop(self, number: int = signal.SIGTERM) -> None:
        """
        Tell the command and all that it has started to end, by this signal; come back
        when nothing is left of it.
        """
        if not self._signal(number):
            return
        if number != signal.SIGTERM:
            # Processes in the background ignore SIGINT.
            await self._gone(GRACE, leader=True)
            self._signal(signal.SIGTERM)
        if not await self._gone(GRACE):
            _log.warn("the command of --run does not end: it is killed")
            self.kill()
            await self._gone(GRACE)

    def kill(self) -> None:
        """
        End all of it at once.
        """
        self._signal(signal.SIGKILL)

    async def _gone(self, seconds: float, *, leader: bool = False) -> bool:
        """
        Wait, for so long at most, until the command has ended (*leader*), or all of its
        group; say whether it has.
        """
        until = self._reactor.seconds() + seconds
        while self._running or not (leader or not self._signal(0)):
            if self._reactor.seconds() >= until:
                return False
            await deferLater(self._reactor, _LOOK)
        return True

    def _signal(self, number: int) -> bool:
        """
        Send a signal to the whole group, if there is anybody; say whether there is.
        """
        if not self._group:
            return False
        try:
            os.killpg(self._group, number)
        except ProcessLookupError:
            # From now on the number may be somebody else's.
            self._group = 0
        except PermissionError:
            # Somebody there, of another user.
            return self._running
        return self._group != 0


def _inherited() -> list[int]:
    """
    Return the open files that a child would inherit, but for the standard ones: sockets
    that the service manager has handed over.
    """
    numbers = map(int, os.listdir("/proc/self/fd"))  # noqa: PTH208 - no paths
    return [number for number in numbers if number > 2 and _passed_on(number)]


def _passed_on(number: int) -> bool:
    try:
        return os.get_inheritable(number)
    except OSError:
        # The directory itself, which was open.
        return False
