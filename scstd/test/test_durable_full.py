# SPDX-License-Identifier: MIT
"""
Tests for `scstd.management.state.durable`: disks that are full, directories that may not
be written, and what is written again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred

from scstd.attributes import ConfigurationError
from scstd.blocking import Lane
from scstd.management.config.writing import save
from scstd.management.model.configuration import Configuration
from scstd.management.state.device_memory import DeviceMemory
from scstd.management.state.durable import Kept, path_of, write_atomically
from scstd.management.state.record_file import RecordFile
from scstd.management.state.state import StateDirectory
from scstd.test.test_durable import (
    KINDS,
    VALUES,
    DurableTests,
    device,
    finished,
    ports,
)
from scstd.test.test_management import AtOnce
from scstd.test.test_space import program


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
