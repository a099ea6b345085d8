# SPDX-License-Identifier: MIT
"""
Tests for `scstd.handlers.mapped`, and what a file store makes of it.
"""

from __future__ import annotations

import os
import random
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from scstd.attributes import parse_values
from scstd.handlers import fileio, mapped
from scstd.handlers.mapped import Mapped
from scstd.results import settled


class MappedTests(SynchronousTestCase):
    """
    Runs against a set of numbers.
    """

    def test_like_a_set(self) -> None:
        """What was added and not forgotten is known, to its end, and nothing else."""
        chance = random.Random(4)
        for _round in range(50):
            known, model = Mapped(), set[int]()
            for _step in range(60):
                start = chance.randrange(100)
                end = start + chance.randrange(1, 20)
                if chance.random() < 0.6:
                    known.add(start, end)
                    model.update(range(start, end))
                else:
                    known.forget(start, end)
                    model.difference_update(range(start, end))
                for at in range(125):
                    expected = at
                    while expected in model:
                        expected += 1
                    self.assertEqual(known.end(at), expected)
            runs = [n for n in model if n - 1 not in model]
            self.assertEqual(len(known), len(runs))

    def test_bounded(self) -> None:
        """With too many runs all is forgotten, rather than memory be filled."""
        self.patch(mapped, "_MOST", 10)
        known = Mapped()
        for number in range(25):
            known.add(10 * number, 10 * number + 5)
            self.assertLessEqual(len(known), 10)
        self.assertEqual(known.end(241), 245)


class FileTests(TestCase):
    """
    How often the file is searched.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """Open a file with data in it, and count."""
        self.path = self.mktemp()
        given = {"filename": self.path, "size": "1M"}
        values = parse_values(fileio.PARAMETERS, given.items())
        opened: Any = await fileio.open(reactor, "disk", values)
        self.store = opened
        self.addCleanup(self.store.close)
        self.searches = 0
        inner = self.store._status

        def counted(*args: Any) -> Any:
            self.searches += 1
            return inner(*args)

        self.patch(self.store, "_status", counted)
        await settled(self.store.write(0, b"d" * 131072, False))

    async def extent(self, offset: int) -> tuple[int, bool]:
        """Return the length of the first extent, and whether it is mapped."""
        (one,) = await settled(self.store.extents(offset, (1 << 20) - offset, 1))
        return one.length, one.mapped

    async def test_data(self) -> None:
        """What is data is searched for once."""
        for at in (0, 4096, 131072 - 512):
            self.assertEqual(await self.extent(at), (131072 - at, True))
        self.assertEqual(self.searches, 1)

    async def test_holes(self) -> None:
        """A hole is looked for each time: somebody may write into it."""
        self.assertEqual(await self.extent(131072), ((1 << 20) - 131072, False))
        fd = os.open(self.path, os.O_WRONLY)
        self.addCleanup(os.close, fd)
        os.pwrite(fd, b"o" * 4096, 131072)
        self.assertEqual(await self.extent(131072), (4096, True))
        self.assertEqual(self.searches, 2)

    async def test_cut_off(self) -> None:
        """What was cut off is no hole: zeros would stand for what is lost."""
        for size in (65536, 512 << 10):
            os.truncate(self.path, size)
            self.store._mapped.forget(0, 1 << 20)
            found = await settled(self.store.block_status(0, 1 << 20))
            told = [(one.offset, one.length, one.mapped) for one in found]
            hole = [(65536, size - 65536, False)] if size > 65536 else []
            lost = (size, (1 << 20) - size, True)
            self.assertEqual(told, [(0, 65536, True), *hole, lost])
            self.assertEqual(await self.extent(size), ((1 << 20) - size, True))
            with self.assertRaises(OSError):
                await settled(self.store.read(size, 4096))

    async def test_changed_meanwhile(self) -> None:
        """What was found before a hole was made is not believed after it."""
        self.store._mapped.forget(0, 1)
        asked = self.store.extents(0, 1 << 20, 1)
        freed = self.store.unmap(0, 131072)
        await asked
        await freed
        self.assertEqual(await self.extent(0), (1 << 20, False))
        for change in (
            lambda: self.store.write_zeroes(65536, 65536, False),
            lambda: self.store.copy_from(
                *self.store.place(0, 65536), 65536, 65536, False
            ),
        ):
            await settled(self.store.write(65536, b"d" * 65536, False))
            self.assertEqual(await self.extent(65536), (65536, True))
            await settled(change())
            self.assertEqual(self.store._mapped.end(65536), 65536)
