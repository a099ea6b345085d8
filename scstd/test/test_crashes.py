# SPDX-License-Identifier: MIT
"""
Every system call fails once, from some moment on, or is the last one before the power
is cut, and something or nothing of what was not synced is left: what was answered GOOD
is there then, and what was refused is not.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from scstd.block.remembered import Job
from scstd.management.state.device_memory import DeviceMemory
from scstd.management.state.durable import InDoubtError, Kept
from scstd.management.state.record_file import RecordFile
from scstd.management.state.state import StateDirectory
from scstd.test.crashing import AFTER, BEFORE, CHOICES, CUT, Disk
from scstd.test.test_management import UUID, AtOnce

Fault = Callable[[int, str], "str | None"]

EVER = 1 << 30

RESERVED = {"registrations": [1]}
"""What `scstd.management.state.state` does not look into."""


def failing(how: str, numbers: range, words: str = "") -> Fault:
    """Return a fault of the calls with these numbers, whose names have *words*."""
    return lambda at, name: how if at in numbers and words in name else None


def faults(
    most: int, counts: Sequence[int] = (1, 6, EVER)
) -> Iterator[tuple[str, Fault]]:
    """Yield every way in which some of so many calls can fail, *counts* at a time."""
    for number in range(1, most + 1):
        yield f"cut at {number}", failing(CUT, range(number, number + 1))
        for how in (BEFORE, AFTER):
            for count in counts:
                fault = failing(how, range(number, number + count))
                yield f"{count} from {number} on fail {how} they are done", fault
        yield f"no sync from {number} on", failing(BEFORE, range(number, EVER), "sync")


class CrashTests(SynchronousTestCase):
    """
    What they need: a disk that fails.
    """

    def disk(self) -> Disk:
        """Return one with an empty directory ``state``."""
        self.root = Path(self.mktemp()).absolute()
        self.root.mkdir()
        self.restarts = 0
        return Disk(self, self.root)

    def again(self, disk: Disk, choice: str) -> Path:
        """Return what a crash leaves."""
        self.restarts += 1
        where = self.root.parent / f"{self.root.name}-{self.restarts}"
        return disk.restart(choice, where)


class Story:
    """
    What a device is told to remember, and what it has to remember after each answer:
    *possible* has, by key, the values that there may be, *sure* those when disk and
    memory agree again.
    """

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.clock = Clock()
        self.possible: dict[str, list[Any]] = {}
        self.memory: DeviceMemory | None = None
        self.sure: dict[str, list[Any]] = {}

    def begin(self) -> None:
        """Open the device for the first time, on a disk that is well."""
        self.memory = StateDirectory(self.disk.root / "state").device("disk", AtOnce())
        self.memory.retry_with(self.clock.callLater)
        self.memory.gather()
        self.memory.update("uuid", UUID)
        settled: list[Any] = []
        Deferred.fromCoroutine(self.memory.settled()).addCallback(settled.append)
        assert settled
        self.possible = {"uuid": [UUID]}

    def tell(self) -> None:
        """Have it change."""
        failed = Job("erase").record(failed=True)
        self.update("modes", {"QErr": 1})
        self.update("persistent", RESERVED)
        self.insist("operation", failed)
        self.update("modes", {"QErr": 3})
        self.update("persistent", None)
        self.insist("operation", None)

    def update(self, key: str, value: Any) -> None:
        """Change an entry, which may be refused."""
        assert self.memory is not None
        before = self.possible.get(key, [None])
        answers: list[bool] = []
        kept: Any = self.memory.update(key, value)
        kept.addCallbacks(
            lambda _: answers.append(True), lambda _: answers.append(False)
        )
        if self.disk.off:
            self.possible[key] = [*before, value]
        elif answers == [True]:
            self.sure[key] = [value]
            self.agreed()
        elif answers != [False]:
            raise AssertionError("a change is not answered")
        elif self.memory.differs:
            # A power cut may bring it, until it is written again.
            self.possible[key] = [*before, value]
            self.sure.setdefault(key, before)

    def insist(self, key: str, value: Any) -> None:
        """Change an entry that is a fact."""
        assert self.memory is not None
        before = self.possible.get(key, [None])
        kept: Any = self.memory.insist(key, value)
        if kept.called and not self.disk.off:
            self.sure[key] = [value]
            self.agreed()
        else:
            self.possible[key] = [*before, value]
            self.sure[key] = [value]
        assert self.memory.load().get(key) == value or self.disk.off

    def agreed(self) -> None:
        """Take in that memory and disk are to agree."""
        assert self.memory is not None
        assert not self.memory.differs
        for key, possible in self.sure.items():
            self.possible[key] = possible
        self.sure = {}


class MemoryTests(CrashTests):
    """
    What a device remembers.
    """

    def told(self, fault: Fault | None, *, links: bool = True) -> Story:
        """Tell the story on a disk with a fault."""
        story = Story(self.disk())
        story.disk.links = links
        story.begin()
        story.disk.count = 0
        if fault is not None:
            story.disk.fault = fault
        story.tell()
        return story

    def check(self, story: Story, what: str) -> None:
        """After a crash there has to be something possible."""
        for choice in CHOICES:
            path = self.again(story.disk, choice)
            memory = StateDirectory(path / "state").device("disk", AtOnce())
            found = memory.load()
            memory.close()
            for key, possible in story.possible.items():
                self.assertIn(found.get(key), possible, f"{what}, {choice}: {key}")
            copy = json.loads((path / "state/devices/disk.backup").read_bytes())
            self.assertEqual(copy["had_reservations"], bool(found.get("persistent")))

    def test_every_fault(self) -> None:
        """Whatever fails: GOOD is there, and refused is not."""
        self.every_fault((1, 6, EVER), links=True)

    def test_without_links(self) -> None:
        """And where a file has one name only, so that its old content is written."""
        self.every_fault((1,), links=False)

    def every_fault(self, counts: Sequence[int], *, links: bool) -> None:
        """Have every call fail."""
        calls = self.told(None, links=links).disk.count
        self.assertGreater(calls, 30)
        for name, fault in faults(calls, counts):
            with self.subTest(fault=name):
                story = self.told(fault, links=links)
                self.check(story, name)
                memory = story.memory
                assert memory is not None
                if not story.disk.off:
                    # The disk is well again.
                    story.disk.fault = lambda _number, _name: None
                    story.clock.pump([2.0, 4.0, 8.0, 16.0, 32.0, 64.0])
                    story.agreed()
                    self.check(story, name)
                memory.close()

    def test_killed(self) -> None:
        """
        A process that is killed, without a power cut, leaves nothing that was refused:
        what cannot be synced is written back nevertheless.
        """
        calls = self.told(None).disk.count
        for number in range(1, calls + 1):

            def fault(at: int, name: str, number: int = number) -> str | None:
                return BEFORE if at >= number and name == "fsync" else None

            story = self.told(fault)
            assert story.memory is not None
            story.memory.close()
            path = self.again(story.disk, "kept")
            memory = StateDirectory(path / "state").device("disk", AtOnce())
            found = memory.load()
            memory.close()
            for key in ("modes", "persistent"):
                possible = story.sure.get(key, story.possible.get(key, [None]))
                self.assertIn(found.get(key), possible, (number, key))

    def test_last_attempt(self) -> None:
        """A device that is closed tries once more, at once."""

        def no_directory(at: int, name: str) -> str | None:
            del at
            return BEFORE if name == "fsync" else None

        story = self.told(no_directory)
        memory = story.memory
        assert memory is not None
        self.assertTrue(memory.differs)
        story.disk.fault = lambda _number, _name: None
        self.successResultOf(Deferred.fromCoroutine(memory.finish()))
        story.agreed()
        memory.close()
        self.check(story, "the last attempt")
        self.assertEqual(story.clock.getDelayedCalls(), [])

    def test_pauses(self) -> None:
        """The pauses between two attempts become longer, but not for ever."""
        story = self.told(lambda _number, name: BEFORE if name == "fsync" else None)
        attempts = []
        for second in range(600):
            before = story.disk.count
            story.clock.advance(1.0)
            if story.disk.count > before:
                attempts.append(second)
        pauses = [b - a for a, b in itertools.pairwise(attempts)]
        self.assertEqual(pauses, sorted(pauses))
        self.assertEqual((pauses[0], pauses[-1]), (2, 60))
        assert story.memory is not None
        story.memory.close()
        self.assertEqual(story.clock.getDelayedCalls(), [])


class RecordTests(CrashTests):
    """
    The record of an atomic write.
    """

    def told(self, fault: Fault | None) -> tuple[Disk, list[bytes]]:
        """Keep and clear some on a disk with a fault; return which may be there."""
        disk = self.disk()
        one = RecordFile(disk.root / "d.record")
        if fault is not None:
            disk.fault = fault
        possible = [b""]
        for data in (b"first" * 99, b"second", b"third" * 999):
            try:
                one.replace(data)
            except OSError:
                possible += [b"", data]
            else:
                possible = [data]
            try:
                one.clear()
            except OSError:
                possible += [b""]
            else:
                possible = [b""]
            if disk.off:
                possible += [b"", data]
                break
        disk.off, disk.fault = False, lambda _number, _name: None
        one.close()
        return disk, possible

    def test_every_fault(self) -> None:
        """What is cleared is gone, what is kept is there; else it is either or none."""
        calls = self.told(None)[0].count
        for name, fault in faults(calls):
            with self.subTest(fault=name):
                disk, possible = self.told(fault)
                for choice in CHOICES:
                    path = self.again(disk, choice)
                    found = RecordFile(path / "d.record").read()
                    self.assertIn(found, possible, f"{name}, {choice}")


class KeptTests(CrashTests):
    """
    Files with a backup.
    """

    def told(self, fault: Fault | None) -> tuple[Disk, list[bytes | None]]:
        """Write two contents on a disk with a fault; return which may be there."""
        disk = self.disk()
        kept = Kept(disk.root / "x.json", bytes, "it is new")
        if fault is not None:
            disk.fault = fault
        possible: list[bytes | None] = [None]
        for data in (b"first" * 99, b"second"):
            before = possible
            try:
                kept.write(data)
            except InDoubtError:
                possible = [*before, data]
            except OSError:
                if disk.off:
                    possible = [*before, data]
            else:
                possible = [data]
        return disk, possible

    def test_every_fault(self) -> None:
        """What is written is there; what is refused is not, unless that is in doubt."""
        calls = self.told(None)[0].count
        for name, fault in faults(calls):
            with self.subTest(fault=name):
                disk, possible = self.told(fault)
                for choice in CHOICES:
                    path = self.again(disk, choice)
                    kept = Kept(path / "x.json", bytes, "it is new")
                    self.assertIn(kept.read(), possible, choice)
