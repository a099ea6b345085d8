# SPDX-License-Identifier: MIT
"""
What tells one file, or block device, from every other: not its path, which may be
another's tomorrow, and not its number alone, which is given away again.

A file is known by its number, when it was born (statx(2)), and the handle that a file
server would give out for it (name_to_handle_at(2)), which has the generation of that
number, and on btrfs the subvolume.  It stays the same when the file is renamed, grows
or is written in place; a copy is another one, and so is a file that was renamed over
it.  The file system of a FUSE server gives out handles that mean nothing after it was
mounted again; where there is no time of birth either nothing can be said.

A block device is known by what it says of itself (its WWN, the UUID of a volume, the
file behind a loop device), or by the place it is plugged in and its size.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import stat
import struct
import sys
from pathlib import Path

from scstd.filesystems import memoryless

_libc = ctypes.CDLL(None, use_errno=True)
_statx = getattr(_libc, "statx", None)
_handle_at = getattr(_libc, "name_to_handle_at", None)

_AT_EMPTY_PATH = 0x1000
_STATX_BTIME = 0x800
_STATX = struct.Struct("=I76xqI")
"""Of struct statx: stx_mask, and stx_btime's seconds and nanoseconds."""
_LONGEST = 128
"""Bytes of a handle, at most (MAX_HANDLE_SZ)."""

_LOOP_GET_STATUS64, _LOOP_INFO = 0x4C05, 232

_SYSFS = Path("/sys/dev/block")

_SAYS = (
    "wwid",
    "device/wwid",
    "serial",
    "device/serial",
    "dm/uuid",
    "md/uuid",
)
"""Where a block device in sysfs says who it is."""


def identity_of(fd: int, sysfs: Path = _SYSFS) -> str | None:
    """
    Return what tells an open file from every other, None if nothing does; may wait.
    """
    status = os.fstat(fd)
    if stat.S_ISBLK(status.st_mode):
        number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
        return _of_device(fd, sysfs / number)
    return _of_file(fd, status.st_ino)


def _of_file(fd: int, number: int) -> str | None:
    born = _born(fd)
    handle = "" if memoryless(fd) else _handle(fd)
    if not born and not handle:
        return None
    return f"file {number} born {born or '?'} handle {handle or '?'}"


def _born(fd: int) -> str:
    """
    Return when a file was made, nothing if its file system does not know.
    """
    if _statx is None:
        return ""
    found = ctypes.create_string_buffer(256)
    if _statx(fd, b"", _AT_EMPTY_PATH, _STATX_BTIME, found):
        return ""
    mask, seconds, nanoseconds = _STATX.unpack_from(found.raw)
    return f"{seconds}.{nanoseconds:09}" if mask & _STATX_BTIME else ""


def _handle(fd: int) -> str:
    """
    Return a file's handle, nothing if its file system has none.
    """
    if _handle_at is None:
        return ""
    found = ctypes.create_string_buffer(struct.pack("=Ii", _LONGEST, 0), 8 + _LONGEST)
    mount = ctypes.c_int()
    if _handle_at(fd, b"", found, ctypes.byref(mount), _AT_EMPTY_PATH):
        return ""
    length, kind = struct.unpack_from("=Ii", found.raw)
    return f"{kind:x}-{found.raw[8 : 8 + length].hex()}"


def _of_device(fd: int, path: Path) -> str | None:
    partition = _text(path / "partition")
    disk = path.resolve().parent if partition else path
    where = f" partition {partition} at {_text(path / 'start')}" if partition else ""
    for name in _SAYS:
        said = _text(disk / name)
        if said:
            return f"device {name} {said}{where}"
    behind = _text(disk / "loop/backing_file")
    if behind:
        return _of_loop(fd, Path(behind), where)
    place = str(disk.resolve())
    if "/virtual/" in place or not disk.exists():
        return None
    return f"device {place} of {_text(path / 'size')} sectors{where}"


def _of_loop(loop: int, behind: Path, where: str) -> str | None:
    """
    Return the identity of the file behind a loop device, if its path is that file's
    still.
    """
    try:
        status = fcntl.ioctl(loop, _LOOP_GET_STATUS64, bytes(_LOOP_INFO))
        fd = os.open(behind, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        number = os.fstat(fd).st_ino
        found = _of_file(fd, number)
    finally:
        os.close(fd)
    same = number == int.from_bytes(status[8:16], sys.byteorder)
    return f"loop of {found}{where}" if same and found is not None else None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
