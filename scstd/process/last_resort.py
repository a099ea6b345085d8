# SPDX-License-Identifier: MIT
"""
The end of a process that does not come to it by itself.

A stop waits for nothing longer than it may (`scstd.management.monitor.patience`), but
that holds for what the reactor waits for.  The reactor itself may stand in a call,
Python waits for other people's threads, and so does Twisted's thread pool.  So when a
stop begins a thread of our own begins to wait, for a time, and ends the process then:
with the status that it was to have, or by the signal that has told it to end.

A thread that the kernel holds, in a file system that is frozen, keeps even a process
that has ended in the table until it lets go.  Nothing can be done about that.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from time import monotonic, sleep
from typing import Any

from twisted.logger import Logger

from scstd.process.heartbeat import where
from scstd.process.log_thread import drain

_log = Logger()

_LOOK = 0.1


class LastResort:
    """
    Ends the process *seconds* after `arm`.

    *status* is what it ends with; without one the signal that the *reactor* was stopped
    by ends it.  *files* are removed then, as twistd does with the one of its pid, and
    *directories* that are temporary.
    """

    def __init__(self) -> None:
        self.status: int | None = None
        self.files: list[str] = []
        self.directories: list[str] = []
        self._reactor: Any = None
        self._deadline = 0.0
        self._thread: threading.Thread | None = None
        self._end: Callable[[], None] = self._leave

    def arm(self, seconds: float, reactor: Any = None) -> None:
        """
        End the process in so many seconds; if that is told already, rather sooner.
        """
        deadline = monotonic() + seconds
        if not self._thread or deadline < self._deadline:
            self._deadline = deadline
        self._reactor = reactor or self._reactor
        if self._thread is None:
            thread = threading.Thread(
                target=self._wait, name="last resort", daemon=True
            )
            try:
                thread.start()
            except (RuntimeError, OSError, MemoryError) as error:
                _log.warn("nobody sees that the stop ends: {error}", error=error)
            else:
                self._thread = thread

    def _wait(self) -> None:
        while (left := self._deadline - monotonic()) > 0:
            sleep(min(left, _LOOK))
        self._end()

    def _leave(self) -> None:
        frames = sys._current_frames()  # noqa: SLF001
        said = [
            f"{thread.name} in {where(frames.get(thread.ident or 0))}"
            for thread in threading.enumerate()
            if thread is not self._thread and not thread.name.startswith("scstd")
        ]
        _log.error(
            "the process does not end: it is ended now ({who})", who="; ".join(said)
        )
        for file in self.files:
            with contextlib.suppress(OSError):
                os.unlink(file)  # noqa: PTH108 - as little as possible
        for directory in self.directories:
            shutil.rmtree(directory, ignore_errors=True)
        for stream in (sys.stdout, sys.stderr) if drain() else ():
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        number = getattr(self._reactor, "_exitSignal", None) or 0
        if self.status is None and number:
            # In Python only the main thread may set a handler.
            ctypes.CDLL(None).signal(int(number), signal.SIG_DFL)
            os.kill(os.getpid(), number)
            sleep(1)
        os._exit(128 + number if self.status is None else self.status)


LAST = LastResort()
"""That of this process."""
