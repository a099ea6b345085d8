# SPDX-License-Identifier: MIT
"""
Reading files that people write, whatever is in their place.

What reads them serves others meanwhile, so it must not wait for a pipe's writer, or
read a device to its end: only regular files are read, up to a length, and what is not
text is said to be so by its line.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

MOST = 1 << 26
"""Bytes of the longest file that is read."""


class NotTextError(OSError):
    """
    A file is not UTF-8.
    """


def read_regular(path: str | Path, *, most: int = MOST, pipes: bool = False) -> bytes:
    """
    Return what is in a regular file; with *pipes* also what comes through a pipe, for
    who may wait.

    :raises OSError: it cannot be read, is something else, or has more than *most*
        bytes; ``strerror`` says so.
    """
    name = str(path)
    if "\0" in name:
        raise OSError(errno.EINVAL, "no path has a NUL in it", name)
    flags = os.O_RDONLY | os.O_CLOEXEC | (0 if pipes else os.O_NONBLOCK | os.O_NOCTTY)
    fd = os.open(name, flags)
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), name)
        if not (stat.S_ISREG(mode) or pipes):
            raise OSError(errno.EINVAL, "not a regular file", name)
        pieces: list[bytes] = []
        left = most + 1
        while left:
            piece = os.read(fd, min(left, 1 << 20))
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)
            left -= len(piece)
    finally:
        os.close(fd)
    raise OSError(errno.EFBIG, f"it has more than {most} bytes", name)


def read_text(
    path: str | Path, *, most: int = MOST, pipes: bool = False, escaped: bool = False
) -> str:
    """
    Return the text of a file in UTF-8, lines ended by a newline however they are ended
    there, without the mark that some editors put in front.

    With *escaped* a byte that is no UTF-8 is a lone surrogate, as `os.fsdecode` has it:
    where it stands it may mean nothing.

    :raises NotTextError: it is not UTF-8: its line is named.
    :raises OSError: see `read_regular`.
    """
    data = read_regular(path, most=most, pipes=pipes)
    try:
        text = data.decode("utf-8-sig", "surrogateescape" if escaped else "strict")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise NotTextError(
            errno.EILSEQ,
            f"line {line}: expected UTF-8, found the byte {data[error.start]:#04x}",
            str(path),
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
