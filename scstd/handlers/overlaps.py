# SPDX-License-Identifier: MIT
"""
Where a file is at work: which ranges of bytes are being changed, or read, by threads.

The kernel promises nothing about a read and a write of the same bytes at the same time:
on ext4 a reader may see a block half written, some bytes old and some new.  A disk has
no such blocks, and a node that watches another's heartbeat in one would take it for
dead.  So what meets what in a file is known here, and waits.

Ranges are kept by the windows that they touch, so that asking costs one look into a
dict however many there are; long ones, of which there are few, in a list.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

_SHIFT = 16
"""Windows are 64 KiB long."""

_LONG = 64
"""Windows from which on a range is a long one."""

_Range = tuple[int, int]


class Ranges:
    """
    Ranges of bytes, each from *offset* of *length*; one may be there several times.
    """

    def __init__(self) -> None:
        self._windows: dict[int, list[_Range]] = {}
        self._long: list[_Range] = []
        self._waiting: list[Deferred[None]] = []

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._windows) or bool(self._long)

    def enter(self, offset: int, length: int) -> None:
        """
        Put a range in.
        """
        end = offset + length
        first, last = offset >> _SHIFT, (end - 1) >> _SHIFT
        windows = self._windows
        if first == last and first not in windows:
            # The usual case, written out.
            windows[first] = [(offset, end)]
            return
        if last - first >= _LONG:
            self._long.append((offset, end))
            return
        for window in range(first, last + 1):
            ranges = windows.get(window)
            if ranges is None:
                windows[window] = [(offset, end)]
            else:
                ranges.append((offset, end))

    def leave(self, offset: int, length: int) -> None:
        """
        Take a range out that was put in, and tell who waits.
        """
        end = offset + length
        first, last = offset >> _SHIFT, (end - 1) >> _SHIFT
        windows = self._windows
        if first == last and len(windows[first]) == 1:
            # The usual case, written out.
            del windows[first]
        elif last - first >= _LONG:
            self._long.remove((offset, end))
        else:
            for window in range(first, last + 1):
                ranges = windows[window]
                if len(ranges) == 1:
                    del windows[window]
                else:
                    ranges.remove((offset, end))
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for one in waiting:
                one.callback(None)

    def meets(self, offset: int, length: int) -> bool:
        """
        Say whether a range has bytes in common with one that is there.
        """
        end = offset + length
        if self._long and _any(self._long, offset, end):
            return True
        windows = self._windows
        if not windows:
            return False
        first, last = offset >> _SHIFT, (end - 1) >> _SHIFT
        if last - first >= len(windows):
            return any(_any(ranges, offset, end) for ranges in windows.values())
        for window in range(first, last + 1):
            ranges = windows.get(window)
            if ranges is not None and _any(ranges, offset, end):
                return True
        return False

    async def apart(self, offset: int, length: int) -> None:
        """
        Wait until nothing that is there meets a range.
        """
        while self.meets(offset, length):
            left: Deferred[None] = Deferred()
            self._waiting.append(left)
            await left


def _any(ranges: list[_Range], offset: int, end: int) -> bool:
    return any(first < end and offset < last for first, last in ranges)
