# SPDX-License-Identifier: MIT
"""
One record in a file of its own, replaced in place: durable for the price of one flush.

Replacing a file (`scstd.management.state.durable.write_atomically`) costs several, as
names and sizes change.  Here nothing but bytes does, once the file is long enough.  A
checksum tells a record that a crash has interrupted from a whole one: then there is
none.  So it needs no backup: what it is for has not begun when it is not whole.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from struct import Struct
from zlib import crc32

import attrs
from twisted.logger import Logger

from scstd.management.state.durable import sync_directory
from scstd.textfile import read_regular

_log = Logger()

_HEAD = Struct(">8sII")
_MAGIC = b"scstdrec"


def _whole(data: bytes) -> bytes | None:
    if len(data) < _HEAD.size:
        return None
    magic, length, check = _HEAD.unpack_from(data)
    record = data[_HEAD.size : _HEAD.size + length]
    whole = magic == _MAGIC and len(record) == length and crc32(record) == check
    return record if whole else None


@attrs.define(eq=False)
class RecordFile:
    """
    The record kept at *path*; the file is made when there is something to keep.
    """

    path: Path
    _fd: int = -1
    _named: bool = False
    """Whether the file's name is durable."""

    def read(self) -> bytes:
        """
        Return the record; nothing if there is none, or only a part of one: that is put
        aside.  What is returned is made durable: nothing else comes up after a crash.

        :raises OSError: it cannot be read.
        """
        try:
            data = read_regular(self.path)
        except FileNotFoundError:
            return b""
        self._settle()
        if not data:
            return b""
        record = _whole(data)
        if record is None:
            self.close()
            aside = self.path.with_suffix(".record-damaged")
            self.path.replace(aside)
            _log.warn(
                "{file}: not whole: a crash has interrupted it, or it is damaged (it is"
                " {aside} now); no atomic write is finished from it",
                file=str(self.path),
                aside=aside.name,
            )
            return b""
        return record

    def _settle(self) -> None:
        """
        Make durable what is read: the process before may have been killed too early.
        """
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            _log.warn("{file}: {error}", file=str(self.path), error=error)

    def replace(self, record: bytes) -> None:
        """
        Replace it, durably; a crash meanwhile leaves the old one, the new one or none.

        :raises OSError: it cannot be kept, but may be there nevertheless: `clear` it.
        """
        self._open()
        data = _HEAD.pack(_MAGIC, len(record), crc32(record)) + record
        if os.pwrite(self._fd, data, 0) != len(data):
            raise OSError(errno.ENOSPC, "the record was not written whole")
        os.fdatasync(self._fd)

    def _open(self) -> None:
        if self._fd < 0:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._fd = os.open(self.path, flags, 0o600)
        if not self._named:
            sync_directory(self.path.parent)
            self._named = True

    def clear(self) -> None:
        """
        See that there is none, durably; in one of three ways, for one may be possible
        where another is not.

        :raises OSError: none is; it may be there still, or again after a crash.
        """
        try:
            self.replace(b"")
        except OSError:
            try:
                self._cut()
            except OSError:
                self._remove()

    def _cut(self) -> None:
        fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.ftruncate(fd, 0)
            os.fsync(fd)
        finally:
            os.close(fd)
        if not self._named:
            # Else the name may be that of the file before, which has its record.
            sync_directory(self.path.parent)

    def _remove(self) -> None:
        self.close()
        with suppress(FileNotFoundError):
            os.unlink(self.path)  # noqa: PTH108 - as the system calls around
        sync_directory(self.path.parent)

    def close(self) -> None:
        """Close the file."""
        self._named = False
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)
