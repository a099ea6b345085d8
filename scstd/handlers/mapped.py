# SPDX-License-Identifier: MIT
"""
What is known to be data of a file: runs that a search has found, until something may
make holes in them.

Asking the file system costs a thread's turn, and some initiators ask before each of
their reads (QEMU's NBD server does).  Only that something is data is kept, never that
it is a hole: whoever writes into a hole behind our back would have it taken for zeros,
while data that has become a hole reads as what it is.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right

_MOST = 32768
"""Runs that are known at a time (512 KiB); with more all is forgotten."""


class Mapped:
    """
    Runs of bytes, disjoint and not adjacent, in order.

    *epoch* changes with each `forget`: what was found out before it is not to be added
    after it.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self._starts = array("q")
        self._ends = array("q")

    def __len__(self) -> int:
        """Return how many runs are known."""
        return len(self._starts)

    def end(self, offset: int) -> int:
        """
        Return where the run ends in which *offset* is, or *offset* if none is known.
        """
        at = bisect_right(self._starts, offset) - 1
        return max(self._ends[at], offset) if at >= 0 else offset

    def add(self, start: int, end: int) -> None:
        """
        Note a run.
        """
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        if first < last:
            # It touches those: they are one with it.
            start = min(start, self._starts[first])
            end = max(end, self._ends[last - 1])
        elif len(self._starts) >= _MOST:
            del self._starts[:], self._ends[:]
            first = last = 0
        self._starts[first:last] = array("q", (start,))
        self._ends[first:last] = array("q", (end,))

    def forget(self, start: int, end: int) -> None:
        """
        Forget what is known of a range.
        """
        self.epoch += 1
        first = bisect_right(self._ends, start)
        last = bisect_left(self._starts, end)
        if first >= last:
            return
        starts, ends = array("q"), array("q")
        if self._starts[first] < start:
            starts.append(self._starts[first])
            ends.append(start)
        if self._ends[last - 1] > end:
            starts.append(end)
            ends.append(self._ends[last - 1])
        self._starts[first:last] = starts
        self._ends[first:last] = ends
