# SPDX-License-Identifier: MIT
"""
Who held the reactor when it stood still.

The reactor beats, twice a second.  A thread listens; when no beat has come for `STILL`
seconds it writes to the log where the reactor's thread is, in a line, and when it beats
again for how long it stood.  What stands there has no other way to be seen: neither the
log nor the control socket answers then.

A process that was stopped, or a machine that slept, is another thing, and nobody's
fault: then the thread that listens has stood as well.  Without processor time used
meanwhile that is said once it is over; with it some call has held the interpreter and
let no thread run.
"""

from __future__ import annotations

import sys
import threading
from time import monotonic, process_time
from types import FrameType
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

_log = Logger()

BEAT = 0.5
"""Seconds between two beats, and between two looks."""

STILL = 2.0
"""Seconds without a beat after which the reactor stands still."""

_FRAMES = 6
"""Frames of the stack that are shown."""


def where(frame: FrameType | None) -> str:
    """
    Return the innermost frames of a stack in one line, the innermost first.
    """
    said: list[str] = []
    while frame is not None and len(said) < _FRAMES:
        module = frame.f_globals.get("__name__", "?")
        said.append(f"{module}.{frame.f_code.co_name}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(said) or "nowhere"


class Heartbeat:
    """
    The beats of a reactor, and the thread that listens, from `start` until `stop`.
    """

    def __init__(self, reactor: Any, still: float = STILL, every: float = BEAT) -> None:
        self._reactor = reactor
        self._still = still
        self._every = every
        self._over = threading.Event()
        self._last = 0.0
        self._thread_id = 0
        self._beating = LoopingCall(self._beat)
        self._beating.clock = reactor

    def start(self) -> None:
        """
        Beat, and have somebody listen.  In the reactor's thread.
        """
        self._thread_id = threading.get_ident()
        self._over.clear()
        self._beating.start(self._every)
        thread = threading.Thread(target=self._listen, name="heartbeat", daemon=True)
        try:
            thread.start()
        except (RuntimeError, OSError, MemoryError):
            # It can be done without.
            self._beating.stop()

    def stop(self) -> None:
        """
        Beat no more.
        """
        self._over.set()
        if self._beating.running:
            self._beating.stop()

    def _beat(self) -> None:
        self._last = monotonic()

    # In the thread.

    def _listen(self) -> None:
        looked, used = monotonic(), process_time()
        since = 0.0
        while not self._over.wait(self._every):
            now = monotonic()
            slept, looked = now - looked, now
            worked, used = process_time() - used, process_time()
            if slept > self._still:
                # Whatever it was, we have not seen it.
                self._missed(slept, worked)
                self._last = now
            elif since and self._last > since:
                _log.warn(
                    "the reactor turns again, after {seconds} s",
                    seconds=round(self._last - since, 1),
                )
                since = 0.0
            elif not since and now - self._last > self._still:
                since = self._last
                frame = sys._current_frames().get(self._thread_id)  # noqa: SLF001
                _log.warn(
                    "the reactor stands still for {seconds} s, in {where}",
                    seconds=round(now - since, 1),
                    where=where(frame),
                )

    def _missed(self, slept: float, worked: float) -> None:
        if worked > slept / 2:
            frame = sys._current_frames().get(self._thread_id)  # noqa: SLF001
            _log.warn(
                "a call has let no thread run for {seconds} s; the reactor is in"
                " {where} now",
                seconds=round(slept, 1),
                where=where(frame),
            )
        else:
            _log.info(
                "the process did not run for {seconds} s: it, or the machine, was"
                " stopped",
                seconds=round(slept, 1),
            )
