# SPDX-License-Identifier: MIT
"""
Where the log goes, written to by a thread: a terminal that is held, a pipe that nobody
reads and a log file on a disk that hangs hold whoever writes to them, and that must not
be the reactor.

What cannot be written waits, as much as `MOST`; what comes then is left out, and the
next line that is written says how many were.  At the process's end (`drain`) what waits
is written, for as long as that takes, but `LAST` seconds at most.

A process that is forked has none of the threads, and every lock as it was: so a fork
waits for a line that is being written, and the new process starts a thread of its own.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from weakref import WeakSet

MOST = 1 << 20
"""Characters that wait to be written."""

LAST = 2.0
"""Seconds that the process's end waits for them."""


class LogOutlet:
    """
    A text file that is written to without waiting for it.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self._waiting: deque[str | Callable[[], Any]] = deque()
        self._size = 0
        self._left_out = 0
        self._changed = threading.Condition()
        self._pid = 0
        self._ending = False
        _ALL.add(self)

    def write(self, text: str) -> None:
        """
        Have text written.
        """
        if not text:
            return
        with self._changed:
            if self._size >= MOST:
                self._left_out += 1
                return
            if self._left_out:
                text = f"({self._left_out} lines of the log left out here)\n{text}"
                self._left_out = 0
            self._size += len(text)
        self.call(text)

    def flush(self) -> None:
        """Do nothing: all is written as soon as can be."""

    def call(self, what: str | Callable[[], Any]) -> None:
        """
        Have something called between two lines, or written.
        """
        with self._changed:
            self._waiting.append(what)
            self._changed.notify_all()
            running = self._pid == os.getpid()
            # Threads do not outlive a fork, as twistd makes one.
            self._pid = os.getpid()
        if self._ending:
            self.drain(LAST)
        elif not running and not self._start():
            self._pid = 0
            self._write_all()

    def _start(self) -> bool:
        thread = threading.Thread(target=self._work, name="log", daemon=True)
        try:
            thread.start()
        except (RuntimeError, OSError, MemoryError):
            return False
        return True

    def drain(self, seconds: float) -> bool:
        """
        Wait until all is written, but no longer than so many seconds; say whether it
        is.  From now on each line is waited for, if nothing has been in vain.
        """
        with self._changed:
            if self._pid == os.getpid():
                self._changed.wait_for(lambda: not self._waiting, seconds)
            self._ending = not self._waiting
            return self._ending

    def hold(self) -> None:
        """
        Have nothing written until `let_go`, and no lock of the file held by the thread.
        """
        self._changed.acquire()
        if self._pid == os.getpid():
            self._changed.wait_for(lambda: not self._waiting, LAST)

    def let_go(self) -> None:
        """Go on."""
        self._changed.release()

    # In the thread.

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
            self._write_all()

    def _write_all(self) -> None:
        while self._waiting:
            what = self._waiting[0]
            # A full disk, a pipe without a reader: there is nowhere to say so.
            with suppress(OSError, ValueError):
                if isinstance(what, str):
                    self._file.write(what)
                    self._file.flush()
                else:
                    what()
            with self._changed:
                self._waiting.popleft()
                self._size -= len(what) if isinstance(what, str) else 0
                self._changed.notify_all()


_ALL: WeakSet[LogOutlet] = WeakSet()

_held: list[LogOutlet] = []


def _before_fork() -> None:
    _held[:] = list(_ALL)
    for one in _held:
        one.hold()


def _after_fork() -> None:
    while _held:
        _held.pop().let_go()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork
)


@atexit.register
def drain(seconds: float = LAST) -> bool:
    """
    Have everything written that waits, but wait no longer than so many seconds; say
    whether it is: else who flushes such a file himself would wait as well.
    """
    drained = [one.drain(seconds) for one in list(_ALL)]
    return all(drained)
