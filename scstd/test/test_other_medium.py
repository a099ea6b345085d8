# SPDX-License-Identifier: MIT
"""
Tests for what is remembered of a medium when there is another one under its name: not
a byte of that changes, and nothing that was pending is lost.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import noLongerProvides

from scstd.block.remembered import OPERATION, Job
from scstd.filters.base import Filtered
from scstd.handlers.identity import _of_device
from scstd.handlers.identity import identity_of as file_identity
from scstd.interfaces import IMediumIdentity
from scstd.management.errors import TreeError
from scstd.management.model.configuration import DeviceConfiguration
from scstd.management.model.configuration import device as configured
from scstd.management.state.device_memory import DeviceMemory
from scstd.management.state.medium import Aside, bind, identity_of
from scstd.management.state.state import StateDirectory
from scstd.management.system import System
from scstd.management.tree.tree import Tree
from scstd.test.crashing import CHOICES
from scstd.test.stores import memory
from scstd.test.test_crashes import EVER, CrashTests, Fault, faults
from scstd.test.test_management import UUID, AtOnce
from scstd.test.test_space import program

SANITIZE = Job("overwrite", b"z").record(failed=False)
RECORD = bytes(8) + b"atomic" * 99


class BindingTests(CrashTests):
    """
    A device's memory, and media that come and go.
    """

    def opened(self, root: Path) -> DeviceMemory:
        """Open the memory of the device."""
        found = StateDirectory(root / "state").device("disk", AtOnce())
        found.gather()
        return found

    def bound(self, root: Path, medium: str | None) -> DeviceMemory:
        """Open it with a medium; close it again."""
        found = self.opened(root)
        if not found.load():
            found.update("uuid", UUID)
        self.aside = self.successResultOf(
            Deferred.fromCoroutine(bind(found, "disk", medium))
        )
        self.successResultOf(Deferred.fromCoroutine(found.finish()))
        self.seen = found.load().get(OPERATION), found.kept()
        found.close()
        return found

    def pending(self, root: Path, medium: str | None = "one") -> None:
        """Have an operation and an atomic write be interrupted."""
        self.bound(root, medium)
        found = self.opened(root)
        found.update(OPERATION, SANITIZE)
        self.successResultOf(Deferred.fromCoroutine(found.settled()))
        kept: Any = found.keep(RECORD)
        self.successResultOf(kept)
        found.close()

    def root_of(self) -> Path:
        """Return an empty directory."""
        root = Path(self.mktemp()).absolute()
        root.mkdir()
        return root

    def test_same(self) -> None:
        """On the same medium all is there."""
        root = self.root_of()
        self.pending(root)
        self.bound(root, "one")
        self.assertEqual((self.seen, self.aside), ((SANITIZE, RECORD), []))

    def test_other(self) -> None:
        """On another one nothing is; it comes back with its own, and only once."""
        root = self.root_of()
        self.pending(root)
        for _time in range(2):
            self.bound(root, "two")
            self.assertEqual(self.seen, (None, b""))
            (aside,) = self.aside
            self.assertEqual((aside.medium, aside.path.name), ("one", "disk.aside-1"))
            self.assertIn("a sanitize operation under way", str(aside))
        self.bound(root, "one")
        self.assertEqual((self.seen, self.aside), ((SANITIZE, RECORD), []))
        found = self.opened(root)
        found.update(OPERATION, None)
        self.successResultOf(Deferred.fromCoroutine(found.settled()))
        found.close()
        self.bound(root, "one")
        self.assertEqual(self.seen, (None, RECORD))

    def test_many(self) -> None:
        """What is of several media is kept apart, and never overwritten."""
        root = self.root_of()
        for medium in ("one", "two", "three"):
            self.pending(root, medium)
        self.bound(root, "four")
        self.assertEqual([one.medium for one in self.aside], ["one", "two", "three"])
        self.bound(root, "two")
        self.assertEqual(self.seen, (SANITIZE, RECORD))
        self.assertEqual([one.medium for one in self.aside], ["one", "three"])

    def test_not_known(self) -> None:
        """What cannot be told is another one each time."""
        root = self.root_of()
        self.pending(root, None)
        for _time in range(2):
            self.bound(root, None)
            self.assertEqual(self.seen, (None, b""))
            self.assertEqual(len(self.aside), 1)

    def test_confirmed(self) -> None:
        """A person can say that it is to be taken up on the medium there is."""
        root = self.root_of()
        self.pending(root)
        self.bound(root, "copy")
        (aside,) = self.aside
        Aside(aside.path, "one", aside.operation, aside.record, confirmed=True).write()
        self.bound(root, "copy")
        self.assertEqual((self.seen, self.aside), ((SANITIZE, RECORD), []))

    def test_damaged(self) -> None:
        """What is put aside and cannot be read stays where it is, and is no harm."""
        root = self.root_of()
        self.pending(root)
        self.bound(root, "two")
        path = root / "state/devices/disk.aside-1"
        for text in ("", "{}", "[]", '{"operation": {}}'):
            path.write_text(text)
            self.bound(root, "one")
            self.assertEqual((self.seen, self.aside), ((None, b""), []))
            self.assertEqual(path.read_text(), text)

    def test_not_put_aside(self) -> None:
        """Where it cannot be put aside it is not seen, and nothing new is remembered."""
        disk = self.disk()
        self.pending(disk.root)
        found = self.opened(disk.root)
        disk.fault = lambda _number, _name: "before"
        self.successResultOf(Deferred.fromCoroutine(bind(found, "disk", "two")))
        self.assertEqual((found.load().get(OPERATION), found.kept()), (None, b""))
        self.assertTrue(found.foreign)
        disk.fault = lambda _number, _name: None
        changes: list[Any] = [
            found.update(OPERATION, SANITIZE),
            found.insist(OPERATION, None),
            found.keep(b"new"),
        ]
        for one in changes:
            self.failureResultOf(one, OSError)
        modes: Any = found.update("modes", {"QErr": 1})
        self.successResultOf(Deferred.fromCoroutine(found.settled()))
        self.successResultOf(modes)
        found.close()
        self.bound(disk.root, "one")
        self.assertEqual(self.seen, (SANITIZE, RECORD))

    def check(self, root: Path, what: str) -> None:
        """Nothing is lost, nothing is another medium's, and nothing comes twice."""
        asides = Path(shutil.copytree(root, f"{root}-other"))
        self.bound(asides, "three")
        self.assertEqual(self.seen, (None, b""), what)
        for medium in ("two", "one"):
            self.bound(root, medium)
            if medium == "two":
                self.assertEqual(self.seen, (None, b""), what)
        self.assertEqual(self.seen, (SANITIZE, RECORD), what)
        self.assertEqual(self.aside, [], what)

    def crossed(self, fault: Fault | None, *media: str) -> Any:
        """Have media come on a disk with a fault."""
        disk = self.disk()
        self.pending(disk.root)
        for medium in media[:-1]:
            self.bound(disk.root, medium)
        found = self.opened(disk.root)
        disk.count = 0
        if fault is not None:
            disk.fault = fault
        self.successResultOf(Deferred.fromCoroutine(bind(found, "disk", media[-1])))
        found.close()
        return disk

    def test_every_fault(self) -> None:
        """Whatever fails, and whenever the power is cut, while it is put aside or taken
        up.
        """
        for media in (("two",), ("two", "one")):
            calls = self.crossed(None, *media).count
            self.assertGreater(calls, 10)
            for name, fault in faults(calls, (1, EVER)):
                disk = self.crossed(fault, *media)
                disk.off, disk.fault = False, lambda _number, _name: None
                for choice in CHOICES[:2]:
                    root = self.again(disk, choice)
                    self.check(root, f"{media}, {name}, {choice}")


class FileTests(TestCase):
    """
    Devices, and files under their names.
    """

    def setUp(self) -> None:
        """Make a directory with two files."""
        self.path = Path(self.mktemp()).absolute()
        self.path.mkdir()
        self.old, self.new = self.path / "old.img", self.path / "new.img"
        self.old.write_bytes(b"o" * 65536)
        self.new.write_bytes(b"PRECIOUS" * 8192)
        self.system = System(reactor, StateDirectory(self.path / "state"))
        self.tree = Tree(self.system)

    def device(self, file: Path) -> DeviceConfiguration:
        """Return the device d with a file."""
        return configured("d", "vdisk_fileio", [("filename", str(file))])

    async def interrupted(self) -> None:
        """Have a sanitize operation and an atomic write of the old file be pending."""
        await self.system.devices.add(self.device(self.old))
        kept: Any = self.system.devices["d"].memory
        await kept.update(OPERATION, SANITIZE)
        await kept.keep((4096).to_bytes(8, "big") + b"E" * 4096)
        await self.system.devices.remove("d")

    async def over(self) -> None:
        """Wait until what was pending is over; close the device."""
        unit = self.system.devices["d"].unit
        while unit.conditions:
            turn: Deferred[None] = Deferred()
            reactor.callLater(0.01, turn.callback, None)
            await turn
        await self.system.devices.remove("d")

    async def test_another(self) -> None:
        """Another file is not touched, and the tree shows what waits; the file that it
        is of is sanitized when it is back.
        """
        await self.interrupted()
        await self.system.devices.add(self.device(self.new))
        self.assertEqual(self.system.devices["d"].unit.conditions, [])
        said = self.tree.read("devices/d/put_aside")
        self.assertIn("d.aside-1: a sanitize operation under way and an atomic", said)
        await self.system.devices.remove("d")
        self.assertEqual(self.new.read_bytes(), b"PRECIOUS" * 8192)
        self.assertEqual(self.old.read_bytes(), b"o" * 65536)
        await self.system.devices.add(self.device(self.old))
        await self.over()
        self.assertEqual(self.old.read_bytes(), b"z" * 65536)

    async def test_same_path(self) -> None:
        """Nor is another file of the same path: a copy, one renamed over it, a new one
        with its number.
        """

        def copied() -> None:
            shutil.copy2(self.new, self.path / "copy")
            (self.path / "copy").replace(self.old)

        def made_again() -> None:
            self.old.unlink()
            self.old.write_bytes(b"PRECIOUS" * 8192)

        for change in (copied, made_again):
            await self.interrupted()
            change()
            await self.system.devices.add(self.device(self.old))
            self.assertEqual(self.system.devices["d"].unit.conditions, [])
            await self.system.devices.remove("d")
            self.assertEqual(self.old.read_bytes(), b"PRECIOUS" * 8192)

    async def test_closed_and_opened(self) -> None:
        """What is over is over when the device is opened again by the same process."""
        await self.system.devices.add(self.device(self.old))
        device = self.system.devices["d"]
        kept: Any = device.memory
        await kept.keep((0).to_bytes(8, "big") + b"E" * 512)
        self.assertTrue(kept.kept())
        await kept.clear()
        self.assertEqual(kept.kept(), b"")
        for change in (kept.insist(OPERATION, SANITIZE), kept.insist(OPERATION, None)):
            await change
        await bind(kept, "d", "another")
        self.assertEqual(kept.foreign, "")
        await self.system.devices.remove("d")
        self.assertEqual(self.old.read_bytes(), b"o" * 65536)

    async def test_renamed(self) -> None:
        """The same file with another name is the same."""
        await self.interrupted()
        self.old.replace(self.path / "renamed.img")
        await self.system.devices.add(self.device(self.path / "renamed.img"))
        await self.over()
        self.assertEqual((self.path / "renamed.img").read_bytes(), b"z" * 65536)

    async def test_settled_by_a_person(self) -> None:
        """A person can have it taken up on a copy, or forgotten."""
        await self.interrupted()
        shutil.copy2(self.old, self.path / "copy.img")
        copy = self.device(self.path / "copy.img")
        for text, number in (("forget", 22), ("forget x", 2), ("eat d.aside-1", 22)):
            await self.system.devices.add(copy)
            changed = self.tree.write("devices/d/put_aside", text)
            error = await self.assertFailure(changed, TreeError)
            self.assertEqual(error.errno, number)
            await self.system.devices.remove("d")
        await self.system.devices.add(copy)
        await self.tree.write("devices/d/put_aside", "resume d.aside-1")
        self.assertIn("to be taken up", self.tree.read("devices/d/put_aside"))
        await self.system.devices.remove("d")
        await self.system.devices.add(copy)
        await self.over()
        self.assertEqual((self.path / "copy.img").read_bytes(), b"z" * 65536)
        await self.interrupted()
        await self.system.devices.add(copy)
        await self.tree.write("devices/d/put_aside", "forget d.aside-1")
        self.assertEqual(self.tree.read("devices/d/put_aside"), "\n")
        await self.system.devices.remove("d")
        await self.system.devices.add(self.device(self.old))
        await self.system.devices.remove("d")
        self.assertEqual(self.old.read_bytes(), b"o" * 65536)


class IdentityTests(SynchronousTestCase):
    """
    What tells media from each other.
    """

    def setUp(self) -> None:
        """Make a file."""
        self.path = Path(self.mktemp()).absolute()
        self.path.write_bytes(bytes(4096))

    def of(self, path: Path) -> str | None:
        """Return the identity of a file."""
        fd = os.open(path, os.O_RDONLY)
        try:
            return file_identity(fd)
        finally:
            os.close(fd)

    def test_stays(self) -> None:
        """It stays when the file is written, grows and is renamed."""
        found = self.of(self.path)
        self.assertIsNotNone(found)
        with self.path.open("r+b") as file:
            file.write(b"other")
            file.truncate(1 << 20)
        os.utime(self.path, (1, 1))
        other = self.path.with_name("renamed")
        self.path.replace(other)
        self.assertEqual(self.of(other), found)

    def test_number_again(self) -> None:
        """A number that is given away again is another file's."""
        seen = set()
        for _time in range(50):
            seen.add(self.of(self.path))
            self.path.unlink()
            self.path.write_bytes(bytes(4096))
        self.assertEqual(len(seen), 50)

    def test_loop(self) -> None:
        """A loop device is the file behind it."""
        seen = []
        for file in (self.path, self.path, self.path.with_name("second")):
            file.write_bytes(bytes(1 << 20))
            device = program("losetup", "--show", "-f", str(file)).strip()
            seen.append(self.of(Path(device)))
            program("losetup", "-d", device)
        self.assertEqual(seen[0], seen[1])
        self.assertNotEqual(seen[0], seen[2])
        self.assertIn("loop of file", str(seen[0]))

    def test_device(self) -> None:
        """A block device says who it is, or where it is plugged in."""
        sysfs = self.path.with_name("sysfs")
        (sysfs / "device").mkdir(parents=True)
        (sysfs / "size").write_text("2048\n")
        disk = self.patched(sysfs)
        self.assertEqual(disk, f"device {sysfs} of 2048 sectors")
        (sysfs / "device/wwid").write_text("naa.5000\n")
        self.assertEqual(self.patched(sysfs), "device device/wwid naa.5000")
        part = sysfs / "part1"
        part.mkdir()
        (part / "partition").write_text("1\n")
        (part / "start").write_text("64\n")
        self.assertEqual(
            self.patched(part), "device device/wwid naa.5000 partition 1 at 64"
        )
        virtual = self.path.with_name("virtual") / "nbd0"
        virtual.mkdir(parents=True)
        self.assertIsNone(self.patched(virtual))

    def patched(self, sysfs: Path) -> str | None:
        """Return the identity of a device that has this directory in sysfs."""
        return _of_device(-1, sysfs)

    def test_others(self) -> None:
        """A filter has its store's; a store that says nothing, its configuration's."""
        one = configured("d", "memory", [("size", "1M")])
        store = memory()
        self.assertEqual(self.told(Filtered(store), one), store.medium_identity())
        self.assertNotEqual(store.medium_identity(), memory().medium_identity())
        plain: Any = Filtered(store)
        noLongerProvides(plain, IMediumIdentity)
        other: Any = Filtered(memory(2 << 20))
        noLongerProvides(other, IMediumIdentity)
        self.assertEqual(self.told(plain, one), self.told(plain, one))
        self.assertNotEqual(self.told(plain, one), self.told(other, one))

    def test_failing(self) -> None:
        """One that cannot tell, or fails when it is asked, is no reason not to serve."""

        class Failing(Filtered):
            def medium_identity(self) -> Any:
                raise OSError(5, "the server does not answer")

        one = configured("d", "memory", [("size", "1M")])
        self.assertIsNone(self.told(Failing(memory()), one))

    def told(self, store: Any, device: DeviceConfiguration) -> str | None:
        """Return what is remembered of a store's medium."""
        found: str | None = self.successResultOf(
            Deferred.fromCoroutine(identity_of(store, device))
        )
        return found
