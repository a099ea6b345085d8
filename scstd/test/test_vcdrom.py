# SPDX-License-Identifier: MIT
"""
Tests for the device handler vcdrom: `scstd.handlers.cdrom`, and for changing its discs
from the console.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from scstd.attributes import ConfigurationError, parse_values
from scstd.handlers import cdrom
from scstd.interfaces import IBackstore, IOpticalDrive, IReadOnly
from scstd.management.config.applying import Configurator
from scstd.management.config.reading import read
from scstd.management.console.commands import Verbs
from scstd.management.state.state import StateDirectory
from scstd.management.system import System
from scstd.management.tree.tree import Tree
from scstd.pagecache import PageCache
from scstd.results import settled
from scstd.test.discs import image
from scstd.test.initiator import Initiator
from scstd.test.stores import MemoryDrive
from scstd.testing.contracts import RemovableContract

A, B = image(64, 5), image(100, 6)


class DiscTests(TestCase):
    """
    What they need: a directory with two images in it.
    """

    def setUp(self) -> None:
        """Write the images."""
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.a, self.b = str(self.directory / "a.iso"), str(self.directory / "b.iso")
        Path(self.a).write_bytes(A)
        Path(self.b).write_bytes(B)

    async def drive(self, filename: str = "") -> Any:
        """Open a drive."""
        given = {"filename": filename} if filename else {}
        values = parse_values(cdrom.PARAMETERS, given.items())
        store: Any = await settled(cdrom.open(reactor, "cd", values))
        self.addCleanup(store.close)
        return store


class DriveContract(RemovableContract, DiscTests):
    async def open(self) -> IBackstore:
        """Return an empty drive."""
        store: Any = cdrom.open(reactor, "cd", {"filename": ""})
        return IBackstore(store)

    async def media(self) -> tuple[str, bytes, str, bytes]:
        """Return the images."""
        return self.a, A[:2048], self.b, B[:2048]


class ThreadedDriveContract(DriveContract):
    async def open(self) -> IBackstore:
        """Return a drive whose reads all go to threads."""
        self.patch(PageCache, "read", lambda *_args: None)
        return await super().open()


class MemoryDriveContract(RemovableContract, TestCase):
    async def open(self) -> IBackstore:
        """Return the drive that other tests use."""
        return IBackstore(MemoryDrive({"a": A, "b": B}))

    async def media(self) -> tuple[str, bytes, str, bytes]:
        """Return its media."""
        return "a", A[:2048], "b", B[:2048]


class ImageTests(DiscTests):
    """
    Images, good and bad.
    """

    async def files(self, store: Any) -> list[str]:
        """Return the images that this process has open, when a drive has closed its."""
        await store._tray.call(bool)
        found = []
        for fd in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                path = str(fd.readlink())
                if path.startswith(str(self.directory)):
                    found.append(path)
        return sorted(found)

    async def test_provides(self) -> None:
        """It is a drive that is read only."""
        store = await self.drive(self.a)
        verifyObject(IBackstore, store)
        self.assertTrue(IReadOnly.providedBy(store))
        self.assertTrue(IOpticalDrive.providedBy(store))
        self.assertEqual((store.size, store.block_size), (len(A), 2048))
        failure = self.assertRaises(OSError, store.write, 0, bytes(2048), False)
        self.assertEqual(failure.errno, errno.EROFS)

    async def test_last_block(self) -> None:
        """A file that is no multiple of 2048 has all its bytes, and zeros after them."""
        odd = self.directory / "odd.iso"
        for rest in (1, 512, 2047):
            odd.write_bytes(A[: 4096 + rest])
            for threads in (False, True):
                store = await self.drive(str(odd))
                if threads:
                    self.patch(store._disc._cache, "read", lambda *_args: None)
                self.assertEqual(store.size, 6144)
                found = bytes(await settled(store.read(0, 6144)))
                self.assertEqual(found, A[: 4096 + rest].ljust(6144, b"\0"))
                last = bytes(await settled(store.read(4096, 2048)))
                self.assertEqual(last, found[4096:])

    async def test_refused(self) -> None:
        """What is no disc is refused by name."""
        empty = self.directory / "empty.iso"
        empty.touch()
        fifo = self.directory / "fifo"
        os.mkfifo(fifo)
        huge = self.directory / "huge.iso"
        with huge.open("wb") as file:
            file.truncate(cdrom.MOST_BLOCKS * 2048 + 1)
        for path, why in (
            (empty, "is empty"),
            (fifo, "neither a file"),
            (self.directory, "neither a file"),
            (self.directory / "nowhere.iso", "No such file"),
            (huge, "fit no DVD"),
        ):
            with self.assertRaises(ConfigurationError) as refused:
                await self.drive(str(path))
            self.assertIn(why, str(refused.exception))
            self.assertIn(str(path), str(refused.exception))
        with huge.open("wb") as file:
            file.truncate(cdrom.MOST_BLOCKS * 2048)
        self.assertEqual((await self.drive(str(huge))).size, cdrom.MOST_BLOCKS * 2048)

    async def test_shared(self) -> None:
        """Readers share an image; who writes to it keeps it out, and is kept out."""
        one, other = await self.drive(self.a), await self.drive(self.a)
        self.assertEqual(one.size, other.size)
        files = [os.open(path, os.O_RDONLY) for path in (self.a, self.b)]
        for fd in files:
            self.addCleanup(os.close, fd)
        exclusive = fcntl.LOCK_EX | fcntl.LOCK_NB
        self.assertRaises(BlockingIOError, fcntl.flock, files[0], exclusive)
        fcntl.flock(files[1], exclusive)
        with self.assertRaises(ConfigurationError) as caught:
            await settled(one.change(self.b))
        self.assertIn("in use", str(caught.exception))
        self.assertEqual(one.medium, self.a)

    async def test_files_are_closed(self) -> None:
        """Only the disc that is in is open; a refused one is not."""
        store = await self.drive(self.a)
        self.assertEqual(await self.files(store), [self.a])
        await settled(store.change(self.b))
        self.assertEqual(await self.files(store), [self.b])
        store.eject()
        self.assertEqual(await self.files(store), [])
        await settled(store.load())
        self.assertEqual(await self.files(store), [self.b])
        with self.assertRaises(ConfigurationError):
            await settled(store.change(str(self.directory)))
        self.assertEqual(await self.files(store), [self.b])

    async def test_open_until_read(self) -> None:
        """The file of a disc stays open for the reads that are under way."""
        store = await self.drive(self.a)
        self.patch(store._disc._cache, "read", lambda *_args: None)
        held, pread = threading.Event(), os.pread

        def late(*args: Any) -> bytes:
            held.wait(60)
            return pread(*args)

        self.patch(os, "pread", late)
        reading = store.read(0, len(A))
        store.eject()
        self.assertEqual(await self.files(store), [self.a])
        held.set()
        self.assertEqual(bytes(await reading), A)
        self.assertEqual(await self.files(store), [])

    async def test_replaced_while_out(self) -> None:
        """A file that was replaced while the tray was open is the new disc."""
        store = await self.drive(self.a)
        store.eject()
        os.rename(self.b, self.a)  # noqa: PTH104 - the loop may wait for this
        await settled(store.load())
        self.assertEqual(store.size, len(B))
        store.eject()
        os.unlink(self.a)  # noqa: PTH108
        with self.assertRaises(OSError) as caught:
            await settled(store.load())
        self.assertEqual(caught.exception.errno, errno.ENOMEDIUM)

    async def test_changed_while_loading(self) -> None:
        """Of two who put a disc in at the same time the person wins."""
        store = await self.drive(self.a)
        store.eject()
        loading, changing = store.load(), store.change(self.b)
        await loading
        await changing
        self.assertEqual((store.medium, store.size), (self.b, len(B)))
        self.assertEqual(await self.files(store), [self.b])

    async def test_changed_again(self) -> None:
        """Of several changes at the same time the last one holds."""
        store = await self.drive(self.a)
        for last, size in (("", 0), (self.a, len(A))):
            first, second = store.change(self.b), store.change(last)
            with self.assertRaises(ConfigurationError):
                await first
            await settled(second)
            self.assertEqual((store.medium, store.size), (last, size))
        self.assertEqual(await self.files(store), [self.a])

    async def test_shorter(self) -> None:
        """An image that becomes shorter is an error, not zeros."""
        store = await self.drive(self.a)
        os.truncate(self.a, 4096)
        with self.assertRaises(OSError) as caught:
            await settled(store.read(4096, 2048))
        self.assertEqual(caught.exception.errno, errno.EIO)

    async def test_cut_off(self) -> None:
        """An image that is shorter than it says itself is served, with a warning."""
        descriptor = bytearray(2048)
        descriptor[:6] = b"\x01CD001"
        descriptor[80:84] = (5000).to_bytes(4, "little")
        descriptor[128:130] = (2048).to_bytes(2, "little")
        Path(self.a).write_bytes(bytes(16 * 2048) + descriptor + bytes(2048))
        warned: list[str] = []
        self.patch(cdrom._log, "warn", lambda text, **_given: warned.append(text))
        self.assertEqual((await self.drive(self.a)).size, 18 * 2048)
        self.assertEqual(len(warned), 1)
        self.assertIn("cut off", warned[0])
        await self.drive(self.b)
        self.assertEqual(len(warned), 1)


class ConsoleTests(DiscTests):
    """
    Discs are changed from the console.
    """

    async def serve(self, filename: str) -> None:
        """Serve a drive, and log in."""
        text = f"""
            HANDLER vcdrom {{
                DEVICE cd {{
                    filename "{filename}"
                }}
            }}
            HANDLER memory {{
                DEVICE m {{
                    size 1M
                }}
            }}
            TARGET_DRIVER iscsi {{
                enabled 1
                TARGET iqn.2026-11.org.scstd:test {{
                    enabled 1
                    LUN 0 cd
                    LUN 1 m
                }}
            }}
        """
        self.system = System(reactor, StateDirectory(self.directory / "state"))
        tree = Tree(self.system)
        await Configurator(tree).start(read(text, "scst.conf"))
        self.addCleanup(lambda: Deferred.fromCoroutine(self.system.close()))
        self.verbs = Verbs(tree)
        driver: Any = self.system.drivers["iscsi"].instance
        self.one = Initiator(driver.node).ready()

    async def set(self, name: str) -> None:
        """Put a disc in."""
        await settled(self.verbs.set("devices/cd", "filename", name))

    async def test_change(self) -> None:
        """The attribute filename is the disc."""
        await self.serve(self.a)
        await self.set(self.b)
        self.assertEqual(self.verbs.get("devices/cd")["filename"], self.b)
        self.assertEqual(self.verbs.get("devices/cd")["current_size"], str(len(B)))
        done = self.one.do(bytes(6))
        self.assertEqual((done.key, done.asc), (6, 0x2800))
        await self.set("")
        self.assertEqual(self.verbs.get("devices/cd")["current_size"], "0")
        done = self.one.do(bytes(6))
        self.assertEqual((done.key, done.asc), (2, 0x3A00))

    async def test_empty(self) -> None:
        """An empty drive is served, and filled later."""
        await self.serve("")
        await self.set(self.a)
        done = self.one.do(bytes(6))
        self.assertEqual((done.key, done.asc), (6, 0x2800))

    async def test_refused(self) -> None:
        """What cannot be is refused with the reason, and nothing has changed."""
        await self.serve(self.a)
        with self.assertRaises(ConfigurationError) as caught:
            await self.set("nowhere.iso")
        self.assertIn("nowhere.iso", str(caught.exception))
        self.assertEqual(self.one.do(b"\x1e\0\0\0\1\0").status, 0)
        with self.assertRaises(ConfigurationError) as caught:
            await self.set(self.b)
        self.assertIn("prevented by iqn.", str(caught.exception))
        self.assertEqual(self.verbs.get("devices/cd")["filename"], self.a)
        device = self.system.devices["cd"]
        await device.change_medium(self.b, force=True)
        self.assertEqual(self.verbs.get("devices/cd")["filename"], self.b)

    async def test_no_drive(self) -> None:
        """A disk has no such attribute to change."""
        await self.serve(self.a)
        with self.assertRaises(ConfigurationError):
            self.verbs.set("devices/m", "filename", self.a)
        with self.assertRaises(ConfigurationError):
            await self.system.devices["m"].change_medium(self.a)
