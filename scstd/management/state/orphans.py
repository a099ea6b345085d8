# SPDX-License-Identifier: MIT
"""
Workers that outlive the process that had started them.

Where that is killed they flush and close their devices, and end.  Who starts meanwhile
with the same state directory would find the devices' files locked, and have devices of
other identities in their place: so it waits.  It waits for nobody else: two services
may share a state directory, and open devices there that the other one has.

There are two files in ``fronts`` for each process that has workers: it holds a lock on
``NAME.front``, and ``NAME.workers`` is locked for as long as it or any of its workers
is there, who inherit that.  Locks go with processes, however they end.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

import attrs

from scstd.management.state.durable import make_directory

_FRONT, _WORKERS = ".front", ".workers"


def _directory(state: Path) -> Path:
    return state / "fronts"


def _open(path: Path, flags: int = 0) -> int:
    return os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, 0o600)


def _locked(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@attrs.frozen(eq=False)
class Claim:
    """
    What a process that has workers holds: each worker is to inherit *workers*.
    """

    path: Path
    front: int
    workers: int

    @classmethod
    def at(cls, state: Path) -> Claim:
        """
        Return one in a state directory.

        :raises OSError: the directory or the files cannot be made.
        """
        directory = _directory(state)
        make_directory(directory)
        path = directory / f"{os.getpid()}-{os.urandom(4).hex()}"
        front = _open(path.with_suffix(_FRONT), os.O_CREAT | os.O_EXCL)
        try:
            _locked(front, fcntl.LOCK_EX)
            # Nobody looks at the one before this is there.
            workers = _open(path.with_suffix(_WORKERS), os.O_CREAT | os.O_EXCL)
        except BaseException:
            os.close(front)
            raise
        _locked(workers, fcntl.LOCK_SH)
        return cls(path, front, workers)

    def drop(self) -> None:
        """
        Hold it no more: all workers have ended.
        """
        _remove(self.path)
        os.close(self.workers)
        os.close(self.front)


def _remove(path: Path) -> None:
    for suffix in (_WORKERS, _FRONT):
        with suppress(OSError):
            path.with_suffix(suffix).unlink()


def orphans(state: Path) -> bool:
    """
    Say whether workers are there whose front is not.  What processes have left behind
    that are gone is removed.
    """
    directory = _directory(state)
    if not directory.is_dir():
        return False
    found = [_orphaned(one) for one in directory.glob(f"*{_WORKERS}")]
    return True in found


def _orphaned(path: Path) -> bool:
    with suppress(FileNotFoundError):
        front = _open(path.with_suffix(_FRONT))
        try:
            # Shared: others may be looking as well.
            if not _locked(front, fcntl.LOCK_SH):
                return False
        finally:
            os.close(front)
    with suppress(FileNotFoundError):
        workers = _open(path)
        try:
            if not _locked(workers, fcntl.LOCK_EX):
                return True
            _remove(path)
        finally:
            os.close(workers)
    return False
