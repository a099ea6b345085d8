# SPDX-License-Identifier: MIT
"""
What the page cache does at once: reads of a file that need not wait.

Handing a 4 KiB read to a thread costs ten times what the copy costs, so it is made in
the reactor where that cannot stall it, and only there.  A read knows: with RWF_NOWAIT
the kernel refuses what is not cached, and file systems that cannot tell have no such
flag.  (A buffered write has none worth its name: where a file system takes the flag,
the kernel still waits for a frozen one to be thawed before it looks at it.)
"""

from __future__ import annotations

import errno
import os
import sys
from collections import deque

_NOWAIT = getattr(os, "RWF_NOWAIT", None)
_NO_SUCH_FLAG = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


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
        elif ring and sys.getrefcount(ring[-1]) == 2:  # the ring's, and this call's
            # What was given out last is in the processor's caches.
            return ring[-1]
        elif ring and sys.getrefcount(ring[0]) == 2:
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


class PageCache:
    """
    The page cache of one open file; *prompt* says that its file system is nothing else
    (`scstd.filesystems`), so that no read waits.
    """

    def __init__(self, fd: int, *, prompt: bool = False) -> None:
        self._fd = fd
        self._flags = 0 if prompt else _NOWAIT

    def read(self, offset: int, length: int) -> bytearray | None:
        """
        Return what is cached, or None if not all of it is, or cannot be read: where
        that is, shows when a thread reads it.
        """
        if self._flags is None:
            return None
        data = _BUFFERS.get(length)
        try:
            got = os.preadv(self._fd, (data,), offset, self._flags)
        except BlockingIOError:
            return None
        except NotImplementedError:
            self._flags = None
            return None
        except OSError as error:
            if error.errno in _NO_SUCH_FLAG:
                self._flags = None
            return None
        return data if got == length else None
