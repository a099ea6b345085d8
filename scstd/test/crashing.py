# SPDX-License-Identifier: MIT
"""
A disk whose system calls fail, and whose power is cut: a real directory, with a book
kept of what of it is durable.

It is as bad as POSIX lets a file system be.  Bytes are durable after an fsync of their
file, names after one of their directory, each alone; without it they may be there or
not, names one by one in their order, bytes also as a part.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

BEFORE, AFTER, CUT = "before", "after", "cut"
"""How a call fails: without having done anything, having done it, or for ever, with all
that come after it."""

DIRECTORY = -1

CHOICES = ("lost", "kept", "first", "torn")
"""What a crash leaves of what was not synced: nothing, everything, of each directory
the first name, of each file the first half."""


_REAL = {
    name: getattr(os, name)
    for name in (
        "open",
        "write",
        "pwrite",
        "ftruncate",
        "fsync",
        "fdatasync",
        "replace",
        "unlink",
        "link",
        "mkdir",
    )
}


class PowerCut(OSError):  # noqa: N818 - it is none that a program sees
    """The power is off."""


@attrs.define(eq=False)
class _File:
    """A file by whatever name: a descriptor of it, and what is durable."""

    fd: int
    durable: bytes = b""

    def content(self) -> bytes:
        """Return what is in it now."""
        return Path(f"/proc/self/fd/{self.fd}").read_bytes()


@attrs.define(eq=False)
class _Names:
    """The names of a directory that are durable, and what was changed since."""

    durable: dict[str, int] = attrs.field(factory=dict)
    pending: list[tuple[str, int | None]] = attrs.field(factory=list)

    def settle(self, count: int | None = None) -> dict[str, int]:
        """Return the names after so many changes, after all of them at first."""
        names = dict(self.durable)
        for name, number in self.pending[:count]:
            if number is None:
                names.pop(name, None)
            else:
                names[name] = number
        return names


class Disk:
    """
    A directory of a test *case*, as long as it is `watching`.

    *fault* says of the number of a call, and of its name, how it fails, if it does.
    """

    def __init__(self, case: SynchronousTestCase, root: Path) -> None:
        self.root = root
        self.count = 0
        self.fault: Callable[[int, str], str | None] = lambda _number, _name: None
        self.off = False
        self.links = True
        """Whether files may have several names here."""
        self._files: dict[int, _File] = {}
        self._names: dict[Path, _Names] = {root.parent: _Names(), root: _Names()}
        self._real = _REAL
        for name, call in self._calls().items():
            case.patch(os, name, call)
        case.addCleanup(self._close)

    def _calls(self) -> dict[str, Callable[..., Any]]:
        return {
            "open": self._open,
            "write": self._write,
            "pwrite": self._pwrite,
            "ftruncate": self._ftruncate,
            "fsync": self._fsync,
            "fdatasync": self._fdatasync,
            "replace": self._replace,
            "unlink": self._unlink,
            "link": self._link,
            "mkdir": self._mkdir,
        }

    def _close(self) -> None:
        for one in self._files.values():
            os.close(one.fd)

    # What calls do.

    def _do(self, name: str, call: Callable[[], Any]) -> Any:
        if self.off:
            raise PowerCut(errno.EIO, "the power is off")
        self.count += 1
        how = self.fault(self.count, name)
        if how == CUT:
            self.off = True
            raise PowerCut(errno.EIO, "the power is off")
        if how == BEFORE:
            raise OSError(errno.EIO, f"{name} failed")
        done = call()
        if how == AFTER:
            raise OSError(errno.EIO, f"{name} failed, it said")
        return done

    def _ours(self, where: Any) -> Path | None:
        if isinstance(where, int):
            where = Path(f"/proc/self/fd/{where}").readlink()
        path = Path(str(where).removesuffix(" (deleted)"))
        return path if path == self.root or self.root in path.parents else None

    def _open(self, path: Any, flags: int, *more: Any, **named: Any) -> int:
        real = self._real["open"]
        ours = self._ours(path) if not isinstance(path, int) else None
        if ours is None or not flags & os.O_CREAT:
            found: int = real(path, flags, *more, **named)
            return found

        def call() -> int:
            new = not ours.exists()
            fd: int = real(path, flags, *more, **named)
            number = os.fstat(fd).st_ino
            if new:
                held = real(f"/proc/self/fd/{fd}", os.O_RDONLY)
                self._files[number] = _File(held)
                self._names[ours.parent].pending.append((ours.name, number))
            return fd

        made: int = self._do("open", call)
        return made

    def _changing(self, name: str, fd: int, *given: Any) -> Any:
        real = self._real[name]
        if self._ours(fd) is None:
            return real(fd, *given)
        return self._do(name, lambda: real(fd, *given))

    def _write(self, fd: int, data: Any) -> Any:
        return self._changing("write", fd, data)

    def _pwrite(self, fd: int, data: Any, offset: int) -> Any:
        return self._changing("pwrite", fd, data, offset)

    def _ftruncate(self, fd: int, length: int) -> Any:
        return self._changing("ftruncate", fd, length)

    def _sync(self, name: str, fd: int) -> None:
        ours = self._ours(fd)
        if ours is None:
            return

        def call() -> None:
            names = self._names.get(ours)
            if names is not None:
                names.durable, names.pending = names.settle(), []
                return
            file = self._files.get(os.fstat(fd).st_ino)
            if file is not None:
                file.durable = file.content()

        self._do(name, call)

    def _fsync(self, fd: int) -> None:
        self._sync("fsync", fd)

    def _fdatasync(self, fd: int) -> None:
        self._sync("fdatasync", fd)

    def _replace(self, source: Any, target: Any) -> None:
        one, other = self._ours(source), self._ours(target)
        if one is None or other is None:
            self._real["replace"](source, target)
            return

        def call() -> None:
            number = Path(source).stat().st_ino
            self._real["replace"](source, target)
            self._names[other.parent].pending.append((other.name, number))
            self._names[one.parent].pending.append((one.name, None))

        self._do("replace", call)

    def _link(self, source: Any, target: Any) -> None:
        ours = self._ours(target)
        if ours is None:
            self._real["link"](source, target)
            return

        if not self.links:
            raise PermissionError(errno.EPERM, "there are no links here")

        def call() -> None:
            number = Path(source).stat().st_ino
            self._real["link"](source, target)
            self._names[ours.parent].pending.append((ours.name, number))

        self._do("link", call)

    def _unlink(self, path: Any, **named: Any) -> None:
        ours = self._ours(path) if not named else None
        if ours is None:
            self._real["unlink"](path, **named)
            return

        def call() -> None:
            self._real["unlink"](path)
            self._names[ours.parent].pending.append((ours.name, None))

        self._do("unlink", call)

    def _mkdir(self, path: Any, *more: Any, **named: Any) -> None:
        ours = self._ours(path)
        if ours is None:
            self._real["mkdir"](path, *more, **named)
            return

        def call() -> None:
            self._real["mkdir"](path, *more, **named)
            self._names[ours] = _Names()
            self._names[ours.parent].pending.append((ours.name, DIRECTORY))

        self._do("mkdir", call)

    # What is left.

    def after(self, choice: str) -> Iterator[tuple[Path, bytes | None]]:
        """
        Yield (path, content) of what a crash leaves, of directories without content.
        """
        yield from self._after(self.root, choice)

    def _after(self, path: Path, choice: str) -> Iterator[tuple[Path, bytes | None]]:
        yield path, None
        count = {"lost": 0, "first": 1}.get(choice)
        for name, number in self._names[path].settle(count).items():
            if number == DIRECTORY:
                yield from self._after(path / name, choice)
            else:
                yield path / name, self._bytes(self._files[number], choice)

    @staticmethod
    def _bytes(file: _File, choice: str) -> bytes:
        now, durable = file.content(), file.durable
        if choice == "lost":
            return durable
        half = len(now) // 2
        return now[:half] + durable[half:] if choice == "torn" else now

    def restart(self, choice: str, where: Path) -> Path:
        """
        Make at *where* what a crash leaves; return its root.
        """
        off, self.off = self.off, False
        calls = self._calls()
        for name, real in self._real.items():
            setattr(os, name, real)
        try:
            for path, content in list(self.after(choice)):
                there = where / path.relative_to(self.root)
                if content is None:
                    there.mkdir(parents=True)
                else:
                    there.write_bytes(content)
        finally:
            for name, call in calls.items():
                setattr(os, name, call)
            self.off = off
        return where
