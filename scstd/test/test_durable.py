# SPDX-License-Identifier: MIT
"""
Tests for `scstd.management.state.durable`, and for every kind of file that is kept with it:
each kind is damaged in each way, and written on a full disk.
"""

from __future__ import annotations

import errno
import json
import os
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from scstd.attributes import ConfigurationError
from scstd.management.console.console import _host_key
from scstd.management.ports.ports import Ports
from scstd.management.state import durable
from scstd.management.state.durable import DAMAGED, path_of
from scstd.management.state.record_file import RecordFile
from scstd.management.state.state import StateDirectory
from scstd.test.test_management import UUID, AtOnce
from scstd.textfile import read_regular

VALUES = {
    "uuid": UUID,
    "origin": "memory ",
    "modes": {"QErr": 1},
    "identifying": {"0": "616263"},
    "self_tests": [[1, 0, 0, -1, 0, 0]],
    "operation": None,
}


def device(state: Path, key: str = "disk") -> Any:
    """Return what a device remembers; it remembers something the first time."""
    memory = StateDirectory(state).device(key, AtOnce())
    try:
        if not memory.load():
            memory.gather()
            for name, value in VALUES.items():
                memory.update(name, value)
            finished(Deferred.fromCoroutine(memory.settled()))
        return memory.load()
    finally:
        memory.close()


def ports(state: Path, *more: str) -> Any:
    """Return the numbers of two targets, that are remembered in an odd order."""
    if not (state / "ports.json").exists() and not (state / "ports.backup").exists():
        number(state, "b", "a")
    return number(state, "a", "b", *more)


def number(state: Path, *names: str) -> Any:
    """Return the numbers of targets."""
    one = Ports(state, AtOnce().call)
    return finished(Deferred.fromCoroutine(one.number(dict.fromkeys(names), {})))


def host_key(state: Path) -> Any:
    """Return the fingerprint of the console's key."""
    return _host_key(state).fingerprint()


def finished(deferred: Deferred[Any]) -> Any:
    """Return the result that a Deferred has; raise what it failed with."""
    results: list[Any] = []
    failures: list[Any] = []
    deferred.addCallbacks(results.append, failures.append)
    for failure in failures:
        failure.raiseException()
    return results[0]


KINDS: dict[str, Callable[[Path], Any]] = {
    "devices/disk.json": device,
    "ports.json": ports,
    "console_host_key": host_key,
}


def garbage(data: bytes) -> bytes:
    """Return as much nonsense."""
    return random.Random(5).randbytes(len(data))


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _data: b"",
    "truncated": lambda data: data[: len(data) // 2],
    "zeroed": lambda data: bytes(len(data)),
    "zeroed at its end": lambda data: data[:-8] + bytes(8),
    "garbage": garbage,
    "other JSON": lambda _data: b'["a", 1]',
    "deep": lambda _data: b"[" * 99999,
}


def damages(path: Path) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Yield what may happen to a file."""
    whole = path.read_bytes()

    def written(change: Callable[[bytes], bytes], path: Path) -> None:
        path.write_bytes(change(whole))

    for name, change in DAMAGES.items():
        yield name, partial(written, change)
    yield "a directory", directory


def directory(path: Path) -> None:
    """Put a directory in a file's place."""
    path.unlink()
    path.mkdir()


def remove(path: Path) -> None:
    """Remove a file, or a directory."""
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


class DurableTests(SynchronousTestCase):
    """
    A state directory.
    """

    def setUp(self) -> None:
        """Make it; listen to the log."""
        self.state = Path(self.mktemp()).absolute()
        self.state.mkdir()
        self.lines: list[str] = []
        hear = cast("ILogObserver", lambda event: self.lines.append(formatEvent(event)))
        globalLogPublisher.addObserver(hear)
        self.addCleanup(globalLogPublisher.removeObserver, hear)

    def full(self, room: int = 10) -> Callable[[], None]:
        """Have the disk become full; return what makes room again."""
        left = [room]
        real = os.write, os.pwrite

        def write(fd: int, data: Any, *where: int) -> int:
            if not left[0]:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            some = memoryview(data)[: left[0]]
            left[0] -= len(some)
            return real[1](fd, some, *where) if where else real[0](fd, some)

        patches = [
            self.patch(os, "write", write),
            self.patch(os, "pwrite", write),
        ]

        def restore() -> None:
            for one in patches:
                one.restore()

        return restore


class DamageTests(DurableTests):
    """
    Damage, of each kind to each kind of file.
    """

    def each(self) -> Iterator[tuple[str, Path, Callable[[], Any], Any]]:
        """Yield each kind of file, made anew: its path, how to read it, and what is
        in it.
        """
        for name, read in KINDS.items():
            path = self.state / name
            before = read(self.state)
            yield name, path, partial(read, self.state), before

    def test_file(self) -> None:
        """The backup takes its place; the damaged file is named and kept."""
        for name, path, read, before in self.each():
            whole = path.read_bytes()
            for what, damage in damages(path):
                with self.subTest(name=name, what=what):
                    remove(path.with_suffix(DAMAGED))
                    damage(path)
                    self.lines.clear()
                    self.assertEqual(read(), before)
                    self.assertEqual(path.read_bytes(), whole)
                    self.assertTrue(path.with_suffix(DAMAGED).exists())
                    self.assertIn(str(path), "\n".join(self.lines))
                    self.lines.clear()
                    self.assertEqual((read(), self.lines), (before, []))

    def test_gone(self) -> None:
        """A file that is gone is made again."""
        for name, path, read, before in self.each():
            whole = path.read_bytes()
            path.unlink()
            self.assertEqual((read(), path.read_bytes()), (before, whole), name)

    def test_backup(self) -> None:
        """A backup that is damaged or gone is no harm, and made again."""
        for name, path, read, before in self.each():
            copy = path_of(path).read_bytes()
            for what, damage in (*damages(path), ("gone", Path.unlink)):
                with self.subTest(name=name, what=what):
                    damage(path_of(path))
                    self.assertEqual(read(), before)
                    if path_of(path).is_dir():
                        self.assertIn(str(path_of(path)), "\n".join(self.lines))
                        remove(path_of(path))
                        self.assertEqual(read(), before)
                    self.assertEqual(path_of(path).read_bytes(), copy)

    def test_both(self) -> None:
        """With both damaged the file is named, and nothing is changed."""
        for name, path, read, _before in self.each():
            whole = path.read_bytes()
            for what, damage in damages(path):
                with self.subTest(name=name, what=what):
                    for one in (path, path_of(path)):
                        damage(one)
                    error = self.assertRaises(ConfigurationError, read)
                    self.assertIn(str(path), str(error))
                    self.assertIn("no good backup", str(error))
                    for one in (path, path_of(path)):
                        remove(one)
                        one.write_bytes(whole)

    def test_unreadable(self) -> None:
        """A medium that fails is as damage; a file that must not be read is named."""
        real = read_regular
        for name, path, read, before in self.each():
            for number, refused in ((errno.EIO, False), (errno.EACCES, True)):

                def broken(one: Path, path: Path = path, number: int = number) -> bytes:
                    if one == path:
                        raise OSError(number, os.strerror(number), str(one))
                    return real(one)

                with self.subTest(name=name, number=number):
                    patched = self.patch(durable, "read_regular", broken)
                    if refused:
                        error = self.assertRaises(ConfigurationError, read)
                        self.assertIn(str(path), str(error))
                    else:
                        self.assertEqual(read(), before)
                        self.assertIn(str(path), "\n".join(self.lines))
                    patched.restore()

    def test_put_aside(self) -> None:
        """What cannot be put aside is named, and stays."""
        for name, path, read, _before in self.each():
            path.with_suffix(DAMAGED).mkdir()
            path.write_bytes(b"{")
            error = self.assertRaises(ConfigurationError, read)
            self.assertIn(str(path), str(error), name)
            self.assertIn(f"{path.stem}.damaged", str(error))
            self.assertEqual(path.read_bytes(), b"{")

    def test_entries(self) -> None:
        """An entry of a device's file that makes no sense is damage too."""
        before = device(self.state)
        path = self.state / "devices/disk.json"
        for name, wrong in (
            ("uuid", "x"),
            ("uuid", None),
            ("origin", 5),
            ("modes", [1]),
            ("modes", {"QErr": "x"}),
            ("identifying", {"0": "xyz"}),
            ("identifying", "abc"),
            ("self_tests", [[1, 2]]),
            ("self_tests", 7),
            ("self_tests", {}),
            ("self_tests", [[1, 0, 0, 1 << 64, 0, 0]]),
            ("self_tests", [[8, 0, 0, -1, 0, 0]]),
            ("operation", {}),
            ("operation", {"work": "format"}),
        ):
            with self.subTest(name=name, wrong=wrong):
                path.write_text(json.dumps({**before, name: wrong}))
                self.lines.clear()
                self.assertEqual(device(self.state), before)
                self.assertIn(f'its entry "{name}" is malformed', self.lines[0])

    def test_ports_entries(self) -> None:
        """Numbers that there cannot be are damage."""
        before = ports(self.state)
        for wrong in (None, 0, 65536, "1", True, 1.5):
            (self.state / "ports.json").write_text(json.dumps({"a": wrong}))
            self.assertEqual(ports(self.state), before)

    def test_key_public(self) -> None:
        """A public key is no host key."""
        before = host_key(self.state)
        public = _host_key(self.state).public().toString("openssh")
        (self.state / "console_host_key").write_bytes(public)
        self.assertEqual(host_key(self.state), before)

    def test_lock(self) -> None:
        """A lock that cannot be opened is named."""
        for name, read in KINDS.items():
            lock = (self.state / name).with_suffix(".lock")
            lock.parent.mkdir(exist_ok=True)
            lock.mkdir()
            error = self.assertRaises(ConfigurationError, read, self.state)
            self.assertIn(str(lock), str(error))

    def test_record(self) -> None:
        """A record that is not whole is none; it is named and put aside, once."""
        path = self.state / "disk.record"
        one = RecordFile(path)
        one.replace(b"blocks")
        one.close()
        whole = path.read_bytes()
        for what, change in DAMAGES.items():
            damaged = change(whole)
            path.write_bytes(damaged)
            self.lines.clear()
            self.assertEqual(RecordFile(path).read(), b"", what)
            if damaged:
                self.assertIn(str(path), self.lines[0])
                aside = path.with_suffix(".record-damaged")
                self.assertEqual(aside.read_bytes(), damaged)
                self.assertEqual((RecordFile(path).read(), len(self.lines)), (b"", 1))
        remove(path)
        path.mkdir()
        error = self.assertRaises(OSError, RecordFile(path).read)
        self.assertEqual(error.filename, str(path))
