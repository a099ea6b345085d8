# SPDX-License-Identifier: MIT
"""
A process that we have started, and everything that it starts itself.

It leads a session of its own, so that what it leaves behind can be found, and a
terminal's Ctrl-C reaches us alone.
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.process import (
    registerReapProcessHandler,
    unregisterReapProcessHandler,
)
from twisted.internet.task import deferLater

_LOOK = 0.05

_CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ)
"""Signals that Python or we ignore, or treat in our own way."""

_ABOVE = 10
"""Where copies of files are, so that none stands where another is to be."""


class Child:
    """
    A process under way.

    *ended* fires with its status as a shell has it: 128 and the signal that ended it.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.running = False
        self.pid = 0
        self._group = 0
        self.ended: Deferred[int] = Deferred()

    def spawn(
        self,
        program: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        files: Mapping[int, int] | None = None,
        blocked: Sequence[int] = (),
    ) -> None:
        """
        Start a program by its path, with these variables and nothing else of ours open
        than our standard files, or, by their numbers there, *files*; the first of the
        *arguments* is its name.  Signals that are *blocked* wait until it takes them.

        :raises OSError: it cannot be started.
        """
        copies = {
            number: fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, _ABOVE)
            for number, file in (files or {}).items()
        }
        try:
            # Not by spawnProcess, which has no word for a session of its own.
            self.pid = self._group = os.posix_spawn(
                program,
                list(arguments),
                dict(environment),
                file_actions=[
                    *((os.POSIX_SPAWN_CLOSE, fd) for fd in _inherited()),
                    *((os.POSIX_SPAWN_DUP2, copies[fd], fd) for fd in copies),
                ],
                setsid=True,
                setsigmask=blocked,
                setsigdef=_CAUGHT,
            )
        finally:
            for file in copies.values():
                os.close(file)
        self.running = True
        registerReapProcessHandler(self.pid, self)
        # It may end before the reactor runs, and hears of that.
        self._reactor.callWhenRunning(self.reapProcess)

    def reapProcess(self) -> None:  # noqa: N802 - Twisted's name
        """Look whether it has ended: a child of ours has."""
        if not self.running:
            return
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            unregisterReapProcessHandler(pid, self)
            self.processEnded(status)

    def processEnded(self, status: int) -> None:
        """Tell its status."""
        self.running = False
        code = os.waitstatus_to_exitcode(status)
        self.ended.callback(128 - code if code < 0 else code)

    def kill(self) -> None:
        """
        End all of it at once.
        """
        self.signal(signal.SIGKILL)

    async def gone(self, seconds: float, *, leader: bool = False) -> bool:
        """
        Wait, for so long at most, until the process has ended (*leader*), or all of its
        group; say whether it has.
        """
        until = self._reactor.seconds() + seconds
        while self.running or not (leader or not self.signal(0)):
            if self._reactor.seconds() >= until:
                return False
            await deferLater(self._reactor, _LOOK)
        return True

    def signal(self, number: int) -> bool:
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
            return self.running
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
