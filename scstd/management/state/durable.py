# SPDX-License-Identifier: MIT
"""
Files that outlive a crash, a full disk, and damage.

They are replaced as a whole, so that whatever happens the old content is there or the
new.  That a call has failed does not say which: a rename is done although the flush of
its directory has failed, and comes true with the next one.  So what raises is taken
back, and where that fails too its caller is told (`InDoubtError`).

A medium, or a person, may damage files nevertheless: a `Kept` file is checked when it
is read, and has a backup beside it.  A damaged one is put aside, not overwritten, for
it may have what somebody needs.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
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


class InDoubtError(OSError):
    """
    Files were not replaced, but some of them may have the new content nevertheless, now
    or after a crash: it raised, and could not be taken back.
    """


def sync_directory(path: Path) -> None:
    """
    Make the names in a directory durable.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directory(path: Path) -> None:
    """
    Make a directory for its owner alone, and those above it that are not there, each
    durably before there is anything in it.

    :raises OSError: it cannot be made.
    """
    made: list[Path] = []
    for one in (path, *path.parents):
        if one.exists():
            break
        made.append(one)
    for one in reversed(made):
        one.mkdir(exist_ok=True, mode=0o700)
        sync_directory(one.parent)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))


def write_atomically(path: Path, data: bytes, *, like: Path | None = None) -> None:
    """
    Replace a file's content, durably: a crash leaves the old or the new one.

    The file is its owner's alone, unless it has the mode and owner of *like*.

    :raises InDoubtError: see `replace_files`.
    :raises OSError: it cannot be written; what was there is there still.
    """
    replace_files([(path, data)], like=like)


def replace_files(
    files: Sequence[tuple[Path, bytes]], *, like: Path | None = None
) -> None:
    """
    Replace the content of several files, each durably before the next: a crash leaves
    of each the old or the new one.

    All are written before the first takes its place, so a full disk changes nothing.
    What goes wrong after that may have happened nevertheless, and is taken back.

    :raises InDoubtError: it went wrong, and so did taking it back.
    :raises OSError: it cannot be done; what was there is there still, durably.
    """
    ready: list[tuple[Path, Path]] = []
    try:
        for path, data in files:
            ready.append((_write_beside(path, data, like), path))
    except BaseException:
        _discard(temporary for temporary, _path in ready)
        raise
    before: list[_Before] = []
    try:
        for temporary, path in ready:
            before.append(_Before.of(path))
            os.replace(temporary, path)  # noqa: PTH105 - as the system calls around
            sync_directory(path.parent)
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        _discard(temporary for temporary, _path in ready[len(before) - 1 :])
        again = _put_back(before, like)
        if again is not None:
            raise InDoubtError(error.errno, error.strerror, str(path)) from again
        raise
    _discard(one.link for one in before if one.link is not None)


@attrs.frozen
class _Before:
    """
    What a file was before it was replaced: another name of it, or its content where
    there are no links; neither if it was not *there*, or nobody could read it.
    """

    path: Path
    link: Path | None = None
    content: bytes | None = None
    there: bool = True

    @classmethod
    def of(cls, path: Path) -> _Before:
        """Return what it is now."""
        link = path.with_name(f"{path.name}.{os.getpid()}.old")
        _discard([link])
        try:
            os.link(path, link)
        except FileNotFoundError:
            return cls(path, there=False)
        except OSError:
            with suppress(OSError):
                return cls(path, content=read_regular(path))
            return cls(path)
        return cls(path, link)

    def put_back(self, like: Path | None) -> None:
        """
        Have it there again.  By its other name that takes no room, and no flush of its
        bytes.
        """
        if self.link is not None:
            os.replace(self.link, self.path)  # noqa: PTH105
            # Names of one file are not replaced by each other.
            _discard([self.link])
        elif self.content is not None:
            os.replace(_write_beside(self.path, self.content, like), self.path)  # noqa: PTH105
        elif self.there:
            raise OSError(errno.EIO, "what was there could not be read", str(self.path))
        else:
            with suppress(FileNotFoundError):
                os.unlink(self.path)  # noqa: PTH108


def _put_back(before: Sequence[_Before], like: Path | None) -> OSError | None:
    """
    Have files as they were, as far as that can be done; return what went wrong.
    """
    steps: list[Callable[[], None]] = [
        partial(one.put_back, like) for one in reversed(before)
    ]
    for directory in dict.fromkeys(one.path.parent for one in before):
        steps.append(partial(sync_directory, directory))  # noqa: PERF401
    wrong = [one for one in map(_failure_of, steps) if one is not None]
    return wrong[0] if wrong else None


def _failure_of(call: Callable[[], None]) -> OSError | None:
    try:
        call()
    except OSError as error:
        return error
    return None


def _write_beside(path: Path, data: bytes, like: Path | None) -> Path:
    """
    Write what is to take a file's place, durably; return where it is.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        fd = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
        )
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
    except BaseException as error:
        _discard([temporary])
        if isinstance(error, OSError):
            # Nobody has heard of the other name.
            error.filename = str(path)
        raise
    return temporary


def _discard(temporaries: Iterable[Path]) -> None:
    """
    Remove files that are not wanted any more; what cannot be stays, and is no harm.
    """
    for one in temporaries:
        with suppress(OSError):
            os.unlink(one)  # noqa: PTH108 - as the system calls around


def sweep(*files: Path) -> None:
    """
    Remove what a process that was killed has left beside files whose lock is ours.
    """
    for file in files:
        names = beside(file.parent, f"{file.name}.")
        _discard(file.with_name(one) for one in names if one.endswith((".new", ".old")))


_listings: dict[Path, tuple[int, list[str]]] = {}
"""When directories had changed last as they were listed, and what was in them."""

_TICK = 50_000_000
"""Nanoseconds in which a directory may change twice and show one time."""


def beside(directory: Path, prefix: str) -> list[str]:
    """
    Return the names in a directory that begin with *prefix*, in order.  A thousand
    devices that are opened one after the other do not have it listed for each.

    :raises OSError: it cannot be listed.
    """
    changed = directory.stat().st_mtime_ns
    known = _listings.get(directory)
    if known is not None and known[0] == changed:
        names = known[1]
    else:
        names = sorted(os.listdir(directory))  # noqa: PTH208 - names are enough
        if time.time_ns() - changed > _TICK:
            _listings[directory] = changed, names
        else:
            _listings.pop(directory, None)
    found = []
    for at in range(bisect_left(names, prefix), len(names)):
        if not names[at].startswith(prefix):
            break
        found.append(names[at])
    return found


def open_lock(file: Path) -> int:
    """
    Return the descriptor of the file beside *file* that is locked in its place, for
    *file* itself is replaced.
    """
    lock = file.with_suffix(".lock")
    try:
        return os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        # What is there can be read nevertheless.
        return os.open(lock, os.O_RDONLY | os.O_CLOEXEC)


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
        The lock of the file is the caller's (`locked`).

        :raises DamagedError: neither is good.
        :raises PermissionError: see `look`.
        """
        sweep(self.path, path_of(self.path))
        try:
            # Who was here before may have been killed, or have failed, before that.
            sync_directory(self.path.parent)
        except OSError as error:
            _log.warn("{file}: {error}", file=str(self.path), error=error)
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

        :raises OSError: that cannot be done; see `replace_files`.
        """
        replace_files([(self.path, data), (path_of(self.path), data)])
