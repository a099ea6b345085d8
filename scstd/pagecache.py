# SPDX-License-Identifier: MIT
"""
What the page cache does at once: reads and writes of a file that need not wait.

Handing a 4 KiB read or write to a thread costs ten times what the copy costs, so both
are made in the reactor where that cannot stall it, and only there.

A read knows: with RWF_NOWAIT the kernel refuses what is not cached.  For buffered
writes most file systems have no such flag, so a write goes by what is known about when
one waits: for a page that must be read first (it is not whole), for dirty pages to be
written back (there are too many), and for the file system's journal (a flush is under
way).  If one was slow for another reason, threads make the writes for a while.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import sys
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any
from weakref import ReferenceType, ref

from twisted.internet.defer import Deferred

from scstd.interfaces import Buffer, FilePart

_PAGE = os.sysconf("SC_PAGESIZE")
_NOWAIT = getattr(os, "RWF_NOWAIT", None)
_NO_SUCH_FLAG = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}

LONGEST_WRITE = 131072
"""Bytes of the longest write made at once: a longer copy is better made by a thread."""

_SLOW = 0.002
"""Seconds after which a write was slow."""

_SHY = (0.05, 5.0)
"""
Seconds for which threads make the writes after one was slow: the first time, and most
when it happens again and again.
"""

_MOST_PARTS = 64
"""Parts of a file that may have been handed out before the list is looked through."""


class Parts(list["ReferenceType[FilePart]"]):
    """
    The parts of a file that were handed out and may still be to be sent.

    A list, so that a write that finds none of them pays nothing to see it.
    """

    def hand_out(self, fd: int, offset: int, length: int) -> FilePart:
        """
        Return a part, and remember it while somebody has it.
        """
        part = FilePart(fd, offset, length)
        if len(self) >= _MOST_PARTS:
            self[:] = [one for one in self if one() is not None]
        self.append(ref(part))
        return part

    def load(self) -> None:
        """
        Read what is still to be sent, for the file is to change, or to be closed.

        :raises OSError: a part cannot be read; none of them is remembered any more.
        """
        parts = self.copy()
        self.clear()
        for one in parts:
            part = one()
            if part is not None:
                part.load()


class Buffers:
    """
    Buffers used again when nobody refers to them any more.

    A fresh one of some size costs as much as filling it: it is cleared first, and its
    pages are not in the processor's caches.  CPython counts references, views included,
    so that one count tells whether an answer is still to be sent from a buffer.
    """

    def __init__(self, smallest: int = 32768, most: int = 16 << 20) -> None:
        self._smallest = smallest
        self._most = most
        self._held = 0
        self._rings: dict[int, deque[bytearray]] = {}

    def get(self, length: int) -> bytearray:
        """
        Return a buffer of *length* bytes with any content.
        """
        if length < self._smallest:
            return bytearray(length)
        ring = self._rings.get(length)
        if ring is None:
            ring = self._rings[length] = deque()
        elif ring and sys.getrefcount(ring[0]) == 2:  # the ring's, and this call's
            ring.rotate(-1)
            return ring[-1]
        buffer = bytearray(length)
        if self._held + length > self._most:
            # Other sizes are asked for now.
            self._rings.clear()
            self._held = 0
        else:
            ring.append(buffer)
            self._held += length
        return buffer


_BUFFERS = Buffers()


class _Pressure:
    """
    Whether writers are made to wait for dirty pages to be written back.
    """

    def __init__(self) -> None:
        self._fd = -1
        self._until = 0.0
        self._calm = False
        self.flushing = 0
        with contextlib.suppress(OSError):
            self._fd = os.open("/proc/vmstat", os.O_RDONLY | os.O_CLOEXEC)

    def calm(self, now: float) -> bool:
        """
        Say whether there is no need to wait; looked up every few hundredths.
        """
        if now > self._until:
            self._until = now + 0.05
            self._calm = self._look()
        return self._calm and not self.flushing

    def _look(self) -> bool:
        if self._fd < 0:
            return False
        try:
            lines = os.pread(self._fd, 65536, 0).split(b"\n")
            found = dict(line.split(b" ", 1) for line in lines if line[:2] == b"nr")
            dirty = int(found[b"nr_dirty"]) + int(found[b"nr_writeback"])
            return dirty < int(found[b"nr_dirty_background_threshold"])
        except (OSError, KeyError, ValueError):
            return False


_PRESSURE = _Pressure()


def flushing(flush: Callable[[], Deferred[Any]]) -> Deferred[Any]:
    """
    Start *flush*, in the reactor; until it is done file systems' journals may make
    writers wait.
    """
    _PRESSURE.flushing += 1

    def over(result: Any) -> Any:
        _PRESSURE.flushing -= 1
        return result

    return flush().addBoth(over)


# cachestat(2), of Linux 6.5: which of a file's pages are cached, without reading them.
_CACHESTAT = 451

_WINDOW = 1 << 20
"""Bytes of a file that are looked at together."""

_WARM = 0.1
"""Seconds for which they are taken to stay cached."""

_MOST_WINDOWS = 4096

_LINUX = sys.platform == "linux"
_syscall: Any = getattr(ctypes.CDLL(None, use_errno=True), "syscall", None)


class PageCache:
    """
    The page cache of one open file.
    """

    def __init__(self, fd: int, clock: Callable[[], float] = monotonic) -> None:
        self._fd = fd
        self._range = (ctypes.c_uint64 * 2)()
        self._found = (ctypes.c_uint64 * 5)()
        self._counts = _LINUX and _syscall is not None and _NOWAIT is not None
        self._probe = (bytearray(1),)
        self._warm: dict[int, float] = {}
        self._clock = clock
        self._nowait = _NOWAIT is not None
        self._shy = _SHY[0]
        self._shy_until = float("-inf")

    def read(self, offset: int, length: int) -> bytearray | None:
        """
        Return what is cached, or None if not all of it is, or cannot be read: where
        that is, shows when a thread reads it.
        """
        if not self._nowait:
            return None
        data = _BUFFERS.get(length)
        try:
            got = os.preadv(self._fd, (data,), offset, _NOWAIT)  # type: ignore[arg-type]
        except BlockingIOError:
            return None
        except NotImplementedError:
            self._nowait = False
            return None
        except OSError as error:
            if error.errno in _NO_SUCH_FLAG:
                self._nowait = False
            return None
        return data if got == length else None

    def cached(self, offset: int, length: int) -> bool:
        """
        Say whether all of a range is cached: sending it from there need not wait.

        A window of the file that was found cached is taken to be so for a moment.
        """
        first, last = offset // _WINDOW, (offset + length - 1) // _WINDOW
        now = self._clock()
        warm = self._warm
        if warm.get(first, 0.0) > now and (first == last or warm.get(last, 0.0) > now):
            return True
        if not self._counts:
            return False
        for window in range(first, last + 1):
            if not self._look(window * _WINDOW, _WINDOW):
                return self._look(offset, length)
            if len(warm) >= _MOST_WINDOWS:
                warm.clear()
            warm[window] = now + _WARM
        return True

    def _look(self, offset: int, length: int) -> bool:
        """
        Count the cached pages of a range.

        Pages that are only on their way count as cached too, but not for RWF_NOWAIT:
        the last page is looked at so.
        """
        wanted = self._range
        wanted[0], wanted[1] = offset, length
        if _syscall(_CACHESTAT, self._fd, wanted, self._found, 0):
            self._counts = False
            return False
        pages = (offset + length - 1) // _PAGE - offset // _PAGE + 1
        if self._found[0] < pages:
            return False
        last = offset + length - 1
        try:
            return os.preadv(self._fd, self._probe, last, _NOWAIT) == 1  # type: ignore[arg-type]
        except (OSError, NotImplementedError):
            return False

    def write(self, offset: int, data: Buffer) -> bool:
        """
        Write *data* if that need not wait; say whether it was written.  What fails
        shows where when a thread makes it again.
        """
        length = len(data)
        if (offset | length) % _PAGE or length > LONGEST_WRITE:
            return False
        began = self._clock()
        if began < self._shy_until or not _PRESSURE.calm(began):
            return False
        try:
            if os.pwrite(self._fd, data, offset) != length:
                return False
        except OSError:
            return False
        now = self._clock()
        if now - began > _SLOW:
            again = now - self._shy_until < _SHY[1]
            self._shy = min(2 * self._shy, _SHY[1]) if again else _SHY[0]
            self._shy_until = now + self._shy
        return True
