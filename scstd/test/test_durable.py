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

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from scstd.attributes import ConfigurationError
from scstd.blocking import Lane
from scstd.management.config.writing import save
from scstd.management.console.console import _host_key
from scstd.management.model.configuration import Configuration
from scstd.management.ports.ports import Ports
from scstd.management.state import durable
from scstd.management.state.device_memory import DeviceMemory
from scstd.management.state.durable import DAMAGED, Kept, path_of, write_atomically
from scstd.management.state.record_file import RecordFile
from scstd.management.state.state import StateDirectory
from scstd.test.test_management import UUID, AtOnce
from scstd.test.test_space import program
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


class FullTests(DurableTests):
    """
    A full disk.
    """

    def check(self, call: Callable[[], Any], path: Path, error: Any) -> None:
        """On a full disk *call* fails with *error*, names the file, leaves nothing."""
        before = {one: one.read_bytes() for one in self.files() if one != path}
        old = path.read_bytes() if path.exists() else None
        restore = self.full()
        found = self.assertRaises(error, call)
        restore()
        self.assertIn(path.name, f"{found} {getattr(found, 'filename', '')}")
        self.assertIn("No space left", str(found))
        after = {one: one.read_bytes() for one in self.files() if one.suffix != ".lock"}
        now = after.pop(path, None)
        before = {one: data for one, data in before.items() if one.suffix != ".lock"}
        self.assertEqual((after, now), (before, old))

    def files(self) -> list[Path]:
        """Return every file there is."""
        return [one for one in self.state.rglob("*") if one.is_file()]

    def test_new(self) -> None:
        """What is new is not made; when there is room it is."""
        for name, read in KINDS.items():
            path = self.state / name
            error: Any = OSError if read is device else ConfigurationError
            self.check(partial(read, self.state), path, error)
            self.assertTrue(read(self.state))

    def test_device(self) -> None:
        """What cannot be written is not remembered, and does not come with what can."""
        device(self.state)
        memory = StateDirectory(self.state).device("disk", AtOnce())
        path = self.state / "devices/disk.json"
        self.check(
            lambda: finished(cast("Any", memory.update("modes", {"QErr": 3}))),
            path,
            OSError,
        )
        self.assertEqual(memory.load(), VALUES)
        memory.update("origin", "x")
        self.assertEqual(memory.load(), {**VALUES, "origin": "x"})
        memory.close()
        self.assertEqual(device(self.state), {**VALUES, "origin": "x"})

    def test_ports(self) -> None:
        """A target whose number cannot be kept gets none; those that have one do."""
        before = ports(self.state)
        path = self.state / "ports.json"
        self.check(lambda: ports(self.state, "c"), path, ConfigurationError)
        restore = self.full(0)
        self.assertEqual(ports(self.state), before)
        restore()
        self.assertEqual(ports(self.state, "c"), {**before, "c": 3})

    def test_start(self) -> None:
        """What only has to be mended is no reason not to start."""
        for name, read in KINDS.items():
            before = read(self.state)
            path = self.state / name
            for one in (path_of(path), path):
                one.unlink()
                restore = self.full()
                self.assertEqual(read(self.state), before)
                restore()
                self.assertIn("No space left", "\n".join(self.lines))
                self.assertEqual(read(self.state), before)
                self.assertTrue(one.exists())

    def test_configuration(self) -> None:
        """scst.conf is as it was."""
        path = self.state / "scst.conf"
        path.write_text("# by hand\n")
        wanted = Configuration(values={"setup_id": 5, "measure_latency": True})
        self.check(lambda: save(str(path), wanted), path, OSError)
        save(str(path), wanted)
        self.assertIn("setup_id 5", path.read_text())

    def test_record(self) -> None:
        """A record that is not written whole is not taken for one."""
        path = self.state / "disk.record"
        one = RecordFile(path)
        restore = self.full(30)
        self.assertRaises(OSError, one.replace, b"blocks" * 9)
        restore()
        self.assertEqual(one.read(), b"")
        one.replace(b"more")
        one.close()
        self.assertEqual(RecordFile(path).read(), b"more")

    def test_kept_backup(self) -> None:
        """What has no room for its backup is not written at all."""
        kept = Kept(self.state / "x.json", bytes.decode, "it is new")
        kept.write(b"one")
        restore = self.full(3)
        error = self.assertRaises(OSError, kept.write, b"two")
        restore()
        self.assertEqual(error.filename, str(self.state / "x.backup"))
        self.assertEqual(kept.read(), "one")
        self.assertEqual((self.state / "x.backup").read_bytes(), b"one")

    def test_left_behind(self) -> None:
        """What a process that was killed has left is removed, of ours alone."""
        for name, read in KINDS.items():
            before = read(self.state)
            path = self.state / name
            other = path.with_name(f"x{path.name}.5.new")
            left = [path.with_name(f"{path.name}.5.{one}") for one in ("new", "old")]
            for one in (*left, path_of(path).with_name(f"{path_of(path).name}.7.new")):
                one.write_bytes(b"x")
            other.write_bytes(b"x")
            self.assertEqual(read(self.state), before)
            self.assertEqual(
                [one for one in self.files() if one.suffix == ".new"], [other]
            )
            self.assertFalse(any(one.exists() for one in left))
            other.unlink()

    def test_replace(self) -> None:
        """Where a directory is in the way nothing is left behind."""
        path = self.state / "x"
        path.mkdir()
        self.assertRaises(OSError, write_atomically, path, b"x")
        self.assertEqual(list(self.state.iterdir()), [path])


class ReadOnlyTests(DurableTests):
    """
    A file system that is read-only, as one is after an error: a real one, as root.
    """

    def test_known(self) -> None:
        """What is known is there; what is new is refused, and changes nothing."""
        program("mount", "-t", "tmpfs", "-o", "size=4M", "tmpfs", str(self.state))
        self.addCleanup(program, "umount", str(self.state))
        before = {name: read(self.state) for name, read in KINDS.items()}
        program("mount", "-o", "remount,ro", str(self.state))
        for name, read in KINDS.items():
            self.assertEqual(read(self.state), before[name])
        self.assertRaises(ConfigurationError, ports, self.state, "new")
        memory = StateDirectory(self.state).device("disk", AtOnce())
        changes: list[Any] = [
            memory.update("modes", {"QErr": 3}),
            memory.keep(b"record"),
        ]
        for change in changes:
            self.assertRaises(OSError, finished, change)
        self.assertEqual(memory.load(), VALUES)
        memory.close()
        self.assertRaises(ConfigurationError, device, self.state, "other")


@attrs.define(eq=False)
class ManualLane(Lane):
    """
    A lane whose calls are made by hand.
    """

    calls: list[tuple[Callable[..., Any], tuple[Any, ...], Deferred[Any]]] = (
        attrs.field(factory=list)
    )

    def call(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        """Keep a call."""
        made: Deferred[Any] = Deferred()
        self.calls.append((function, args, made))
        return made

    def go(self, error: Exception | None = None) -> None:
        """Make the oldest call, or have it fail."""
        function, args, made = self.calls.pop(0)
        if error is None:
            made.callback(function(*args))
        else:
            made.errback(error)


class UpdateTests(DurableTests):
    """
    Updates of a device's memory, one while another is written.
    """

    def memory(self) -> tuple[DeviceMemory, ManualLane]:
        """Return a memory, and the lane that writes it."""
        lane = ManualLane()
        memory = StateDirectory(self.state).device("disk", lane)
        self.addCleanup(memory.close)
        return memory, lane

    def kept(self) -> Any:
        """Return what is in the file."""
        return json.loads((self.state / "devices/disk.json").read_bytes())

    def test_together(self) -> None:
        """What comes while a file is written is written together, and seen at once."""
        memory, lane = self.memory()
        updates: list[Any] = [
            memory.update(name, number) for number, name in enumerate("abca")
        ]
        self.assertEqual(memory.load(), {"a": 3, "b": 1, "c": 2})
        lane.go()
        self.successResultOf(updates[0])
        self.assertEqual((self.kept(), len(lane.calls)), ({"a": 0}, 1))
        for one in updates[1:]:
            self.assertNoResult(one)
        lane.go()
        for one in updates[1:]:
            self.successResultOf(one)
        self.assertEqual((self.kept(), lane.calls), ({"a": 3, "b": 1, "c": 2}, []))

    def test_failed(self) -> None:
        """One that fails is not written by the next one."""
        memory, lane = self.memory()
        one: Any = memory.update("a", 1)
        other: Any = memory.update("b", 2)
        lane.go(OSError("full"))
        self.failureResultOf(one, OSError)
        lane.go()
        self.successResultOf(other)
        self.assertEqual((self.kept(), memory.load()), ({"b": 2}, {"b": 2}))

    def test_settled(self) -> None:
        """Who waits for all of them hears of each that failed."""
        memory, lane = self.memory()
        memory.gather()
        memory.update("a", 1)
        self.assertEqual(lane.calls, [])
        settled = Deferred.fromCoroutine(memory.settled())
        memory.update("b", 2)
        lane.go(OSError("full"))
        self.assertNoResult(settled)
        lane.go()
        self.failureResultOf(settled, OSError)
        settled = Deferred.fromCoroutine(memory.settled())
        self.successResultOf(settled)
        self.flushLoggedErrors(OSError)
