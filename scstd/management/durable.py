# SPDX-License-Identifier: MIT
"""
Files that outlive a crash, a full disk, and damage.

They are replaced as a whole, so that whatever happens the old content is there or the
new.  A medium, or a person, may damage them nevertheless: a `Kept` file is checked when
it is read, and has a backup beside it.  A damaged one is put aside, not overwritten,
for it may have what somebody needs.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

import attrs
from twisted.logger import Logger

from scstd.textfile import read_regular

_log = Logger()

SUFFIX = ".backup"
DAMAGED = ".damaged"

T = TypeVar("T")


class DamagedError(Exception):
    """
    A file cannot be believed, and nothing can take its place.
    """


def write_atomically(path: Path, data: bytes, *, like: Path | None = None) -> None:
    """
    Replace a file's content, durably: a crash leaves the old or the new one.

    The file is its owner's alone, unless it has the mode and owner of *like*.

    :raises OSError: it cannot be written; what was there is there still.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        try:
            if like is not None and like.exists():
                there = like.stat()
                os.fchmod(fd, there.st_mode & 0o777)
                if (there.st_uid, there.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(fd, there.st_uid, there.st_gid)
            # All of it or an error: a disk that becomes full cuts a bare write short.
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink()
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def open_lock(file: Path) -> int:
    """
    Return the descriptor of the file beside *file* that is locked in its place, for
    *file* itself is replaced.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    return os.open(file.with_suffix(".lock"), flags, 0o600)


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """
    Keep other processes from reading and replacing a file meanwhile; wait for them.
    """
    lock = open_lock(file)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def path_of(file: Path) -> Path:
    """
    Return where the backup of a file is.
    """
    return file.with_suffix(SUFFIX)


def look(path: Path, parse: Callable[[bytes], T]) -> tuple[bytes, T | None, str]:
    """
    Return the bytes of a file, what *parse* makes of them (it raises ValueError if they
    make no sense), and what is wrong with the file: nothing, too, if there is none.

    :raises PermissionError: it may be good, but we must not read it.
    """
    try:
        data = read_regular(path)
    except FileNotFoundError:
        return b"", None, ""
    except PermissionError:
        raise
    except OSError as error:
        return b"", None, error.strerror or str(error)
    try:
        return data, parse(data), ""
    except (ValueError, RecursionError) as error:
        return data, None, f"{error}"


def put_aside(file: Path, why: str) -> Path:
    """
    Rename a damaged file; return its new name.

    :raises DamagedError: that cannot be done.
    """
    aside = file.with_suffix(DAMAGED)
    try:
        file.replace(aside)
    except OSError as error:
        raise DamagedError(
            f"{why}, and it cannot be renamed to {aside.name}: {error.strerror}"
        ) from error
    return aside


@attrs.frozen
class Kept(Generic[T]):
    """
    A file with a backup, both with the same content.

    *parse* returns what is in it, or raises ValueError; *renewed* says what it means
    for a person to remove both.
    """

    path: Path
    parse: Callable[[bytes], T]
    renewed: str

    def read(self) -> T | None:
        """
        Return what there is; what is damaged or gone is made again from the other.

        :raises DamagedError: neither is good.
        :raises PermissionError: see `look`.
        """
        copy_data, copy, copy_fault = look(path_of(self.path), self.parse)
        data, value, fault = look(self.path, self.parse)
        if value is not None:
            if copy_data != data:
                # A crash came between the two, or it is damaged.
                self._mend(path_of(self.path), data)
            return value
        if copy is None:
            if not fault and not copy_fault:
                return None
            raise DamagedError(
                f"{fault or 'it is missing'}, and there is no good backup: correct it,"
                f" or remove it and {path_of(self.path).name}, and {self.renewed}"
            )
        why = fault or "it is missing"
        aside = f" (the file is {put_aside(self.path, why).name} now)" if fault else ""
        _log.warn(
            "{file}: {why}: made again from its backup{aside}",
            file=str(self.path),
            why=why,
            aside=aside,
        )
        self._mend(self.path, copy_data)
        return copy

    @staticmethod
    def _mend(path: Path, data: bytes) -> None:
        """
        Make one of the two again; the other is good, so it is no harm if that fails.
        """
        try:
            write_atomically(path, data)
        except OSError as error:
            _log.warn("{file}: {error}", file=str(path), error=error)

    def write(self, data: bytes) -> None:
        """
        Replace the content of both, durably.

        :raises OSError: that cannot be done; each has the old content or the new.
        """
        write_atomically(self.path, data)
        write_atomically(path_of(self.path), data)
