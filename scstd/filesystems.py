# SPDX-License-Identifier: MIT
"""
What the kind of a file system promises: where a call on a file cannot wait.

A write to the page cache looks as if it only copied, but it stands still where the file
system is frozen (fsfreeze), is another machine's, or has more dirty pages than it may,
and nothing tells before.  A file system that is nothing but memory has none of these:
no disk, no server, nothing to freeze or to write back.
"""

from __future__ import annotations

import ctypes
import os
import stat

# f_type of statfs(2), from linux/magic.h.
_TMPFS, _RAMFS = 0x01021994, 0x858458F6

_FUSE = 0x65735546

_PROMPT = {_TMPFS, _RAMFS}

_libc = ctypes.CDLL(None, use_errno=True)
_fstatfs = getattr(_libc, "fstatfs", None)

_STATFS = 512
"""More bytes than struct statfs has on any machine."""


def prompt(fd: int) -> bool:
    """
    Say whether reads and writes of an open file never wait; asking may.

    A memfd is a file of such a file system, too.  A device is not what the file system
    is in which it has its name: /dev is one that is memory.
    """
    return stat.S_ISREG(os.fstat(fd).st_mode) and _kind(fd) in _PROMPT


def memoryless(fd: int) -> bool:
    """
    Say whether the numbers of files begin anew when the file system is mounted again;
    asking may wait.
    """
    return _kind(fd) == _FUSE


def _kind(fd: int) -> int:
    """
    Return the magic number of a file's file system, 0 if it is not known.
    """
    if _fstatfs is None:
        return 0
    status = (ctypes.c_long * (_STATFS // ctypes.sizeof(ctypes.c_long)))()
    if _fstatfs(fd, status):
        return 0
    return int(status[0]) & 0xFFFFFFFF
