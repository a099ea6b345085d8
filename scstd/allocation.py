# SPDX-License-Identifier: MIT
"""
What a file, or a block device, can deallocate, and doing it.

fallocate(2) does both: it punches holes into files, and on block devices it has the
device forget blocks in a way that leaves zeros.  (The older BLKDISCARD does not promise
zeros, and so it is not used: what is unmapped would read as anything.)  Where it is not
supported, zeros are written by whoever asks.

`DiscardLimits` says what is really freed: the granularity and alignment of a block
device come from its queue's attributes, those of a file from its file system.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from pathlib import Path

import attrs

# The mode bits of fallocate(2), which os.posix_fallocate does not have.
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 0x01, 0x02, 0x10

_libc = ctypes.CDLL(None, use_errno=True)
_fallocate = getattr(_libc, "fallocate64", None) or getattr(_libc, "fallocate", None)
if _fallocate is not None:
    _fallocate.argtypes = (
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int64,
        ctypes.c_int64,
    )

UNSUPPORTED = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
"""What says that a file system cannot do something, not that it went wrong."""

_SYSFS = Path("/sys/dev/block")


def fallocate(fd: int, mode: int, offset: int, length: int) -> bool:
    """
    Allocate or deallocate a range; return False where the file system cannot.

    :raises OSError: it can, and failed.
    """
    if _fallocate is None:
        return False
    while _fallocate(fd, mode | KEEP_SIZE, offset, length):
        error = ctypes.get_errno()
        if error in UNSUPPORTED:
            return False
        if error != errno.EINTR:
            raise OSError(error, os.strerror(error))
    return True


@attrs.frozen
class DiscardLimits:
    """
    Whether blocks can be deallocated, and in which pieces: *granularity* is the
    smallest that is really freed, the first begins at *alignment*; bytes.
    """

    frees: bool
    granularity: int
    alignment: int = 0


def limits(fd: int, sysfs: Path = _SYSFS) -> DiscardLimits:
    """
    Return what can be deallocated of an open file.
    """
    status = os.fstat(fd)
    if stat.S_ISBLK(status.st_mode):
        number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
        return _device_limits(sysfs / number)
    granularity = max(512, status.st_blksize)
    if granularity & (granularity - 1):
        granularity = 4096
    try:
        # Behind the end: it is known then whether it could, and nothing has happened.
        beyond = -(-status.st_size // granularity) * granularity
        frees = fallocate(fd, PUNCH_HOLE, beyond, granularity)
    except OSError as error:
        # Open for reading: nobody will ask to deallocate, and what is there is known.
        frees = error.errno == errno.EBADF
    return DiscardLimits(frees, granularity)


def _device_limits(path: Path) -> DiscardLimits:
    """
    Return the limits of a block device from its directory in sysfs: that of a
    partition, which has its disk's queue.
    """
    queue = path / "queue"
    if not queue.is_dir():
        queue = path.resolve().parent / "queue"
    granularity = _number(queue / "discard_granularity")
    if not granularity or not _number(queue / "discard_max_bytes"):
        return DiscardLimits(frees=False, granularity=4096)
    zeroing = _number(queue / "write_zeroes_max_bytes")
    alignment = _number(path / "discard_alignment") % granularity
    return DiscardLimits(bool(zeroing), granularity, alignment)


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0
