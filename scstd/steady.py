# SPDX-License-Identifier: MIT
"""
Time that only goes forward, a second in each second.

Twisted's reactors count by the wall clock, which people and NTP set: when it goes back
an hour, what was to happen at once happens in an hour, and when it goes forward every
time-out is over.  So the reactor is given another clock here: what it says when that
begins is the time of day, and from then on it goes as the monotonic clock does.

Timers that are there already stay right, since nothing jumps, and so does who takes
``reactor.seconds()`` for the time of day, unless that is set.  What is a date comes
from ``time.time()``.
"""

from __future__ import annotations

import time
from typing import Any

from twisted.python.runtime import seconds as twisted_seconds


def keep_time(reactor: Any) -> None:
    """
    Have a reactor count by the monotonic clock, if it counts by the wall clock.

    A reactor with a clock of its own keeps that: it knows what it does.
    """
    if getattr(reactor, "seconds", None) not in {twisted_seconds, time.time}:
        return
    ahead = time.time() - time.monotonic()
    monotonic = time.monotonic

    def seconds() -> float:
        return monotonic() + ahead

    reactor.seconds = seconds
