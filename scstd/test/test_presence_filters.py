# SPDX-License-Identifier: MIT
"""
Tests for `scstd.management.ports.presence`: what a device that comes back is made of.
"""

from __future__ import annotations

import os

from scstd.attributes import ConfigurationError
from scstd.initiator.commands import read10, write10
from scstd.management.config.reading import read
from scstd.management.config.writing import render
from scstd.management.model.warnings import hearing
from scstd.test.initiator import Initiator
from scstd.test.test_presence import SIZE, PresenceCase
from scstd.test.test_tree import login


class FilterTests(PresenceCase):
    """
    Filters that change while the store stays.
    """

    ERROR = 'filter "error on=write errno=EIO"'

    def read(self, one: Initiator) -> bytes:
        """Return a block, behind the attentions that there are."""
        self.sees(one)
        return bytes(one.do(read10(0, 1), read=512).data)

    def write(self, one: Initiator, letter: bytes) -> int:
        """Write a block; return the status."""
        self.sees(one)
        return one.do(write10(0, 1), data=letter * 512).status

    async def test_stays(self) -> None:
        """What a device holds stays; filters act at once."""
        text = self.text("size 1M", handler="memory")
        config = await self.start(text)
        one = login(config.tree)
        self.write(one, b"a")
        for after, letter in (
            (self.text(f"size 1M\n{self.ERROR}", handler="memory"), b"a"),
            (self.text('size 1M\nfilter "delay"\nusn 7', handler="memory"), b"a"),
            (text, b"b"),
        ):
            steps = await config.apply(read(after, ""), keep=True)
            self.assertIn("set_filters d0", " ".join(map(str, steps)))
            self.assertEqual(self.read(one), letter * 512)
            failed = self.write(one, b"b") != 0
            self.assertEqual(failed, "error" in after)
            self.assertEqual(self.read(one), (letter if failed else b"b") * 512)
            self.assertEqual(config.plan(read(after, "")), [])

    async def test_file_stays_open(self) -> None:
        """A file is locked all the time, and closed with its device."""
        path = self.file()
        text = self.text(f"filename {path}")
        config = await self.start(text)
        for more in (self.ERROR, 'filter "delay"\nfilter "delay read=0"', ""):
            wanted = self.text(f"filename {path}\n{more}")
            await config.apply(read(wanted, ""))
            self.assertTrue(self.locked(path))
        await config.tree.write("devices/d0/filter", "delay")
        await config.tree.close()
        self.assertFalse(self.locked(path))

    async def test_by_hand(self) -> None:
        """They may be written to the tree, too; a wrong one changes nothing."""
        config = await self.start(self.text("size 1M", handler="memory"))
        tree = config.tree
        one = login(tree)
        self.write(one, b"a")
        await tree.write("devices/d0/filter", "delay read=0")
        for text in ("nosuch", "delay nosuch=1"):
            with self.assertRaises(ConfigurationError):
                await tree.write("devices/d0/filter", text)
        self.assertEqual(tree.read("devices/d0/filter"), "delay read=0\n[key]\n")
        self.assertEqual(self.read(one), b"a" * 512)
        await tree.write("devices/d0/active", "0")
        await tree.write("devices/d0/filter", "")
        self.assertEqual(tree.read("devices/d0/filter"), "\n")

    async def test_under_way(self) -> None:
        """A command that is under way ends behind the filters it began with."""
        config = await self.start(
            self.text('size 1M\nfilter "delay write=0.1"', handler="memory")
        )
        one = login(config.tree)
        self.sees(one)
        one.send(one.command(write10(0, 1), write=512, data=b"a" * 512))
        self.assertEqual(len(config.tree.system.devices["d0"].unit.tasks()), 1)
        await config.apply(read(self.text("size 1M", handler="memory"), ""))
        self.assertEqual(self.read(one), b"a" * 512)

    async def test_resized(self) -> None:
        """The store's new size is told behind other filters, too."""
        path = self.file()
        config = await self.start(self.text(f"filename {path}"))
        tree = config.tree
        await tree.write("devices/d0/filter", "delay read=0")
        os.truncate(path, 2 * SIZE)
        await tree.write("devices/d0/resync_size", "1")
        self.assertEqual(tree.read("devices/d0/current_size"), f"{2 * SIZE}\n")


class PathTests(PresenceCase):
    """
    Files that are named from where the service is.
    """

    async def test_whole(self) -> None:
        """They are written with their whole path, which is the same to a reload."""
        path = self.file()
        short = os.path.relpath(path)
        config = await self.start(self.text(f"filename {short}"))
        written = render(config.tree.system.configuration())
        self.assertIn(f"filename {path}\n", written)
        for text in (written, self.text(f"filename ./{short}")):
            self.assertEqual(config.plan(read(text, "")), [])


class ContentsTests(PresenceCase):
    """
    What a device holds.
    """

    async def test_said(self) -> None:
        """A reload that empties a device says so first; without force it is refused."""
        before = self.text("size 1M", handler="memory")
        config = await self.start(before)
        tree = config.tree
        go = "the contents of d0 go: "
        for after, why in (
            (self.text("size 1M\ntst 0", handler="memory"), "tst"),
            (self.text("size 1M\nactive 0", handler="memory"), "it is closed"),
            (self.text("size 1M", handler="vdisk_nullio"), "another device"),
            ("TARGET_DRIVER iscsi {\nenabled 1\n}\n", "it is taken away"),
        ):
            wanted = read(after, "")
            steps = [str(step) for step in config.plan(wanted) if step.loses]
            self.assertEqual(len(steps), 1, steps)
            self.assertIn(go, steps[0])
            self.assertIn(why, steps[0])
            if why != "it is taken away":
                with self.assertRaises(ConfigurationError) as caught:
                    await config.apply(wanted, keep=True)
                self.assertIn("-force does it", str(caught.exception))
                self.assertEqual(config.plan(read(before, "")), [])
            with hearing() as said:
                await config.apply(wanted)
            self.assertIn(go, said[0])
            await config.apply(read(before, ""))
        with hearing() as said:
            await tree.write("devices/d0/active", "0")
        self.assertIn(go, said[0])

    async def test_files_stay(self) -> None:
        """Of a file nothing goes, so nothing is said."""
        path = self.file()
        config = await self.start(self.text(f"filename {path}"))
        wanted = read(self.text(f"filename {path}\ntst 0"), "")
        self.assertEqual([one for one in config.plan(wanted) if one.loses], [])
        await config.apply(wanted, keep=True)
