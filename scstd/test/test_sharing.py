# SPDX-License-Identifier: MIT
"""
Tests for which devices may be on one file, and which handler makes none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from scstd.attributes import ConfigurationError, parse_values
from scstd.handlers import blockio, cdrom, fileio
from scstd.results import settled


class OneFileTests(TestCase):
    """
    Devices of our handlers on one file.
    """

    def setUp(self) -> None:
        """Make an image."""
        self.path: str = self.mktemp()
        Path(self.path).write_bytes(bytes(65536))

    async def open(self, module: Any, path: str = "", **given: str) -> Any:
        """Open a device on the image, or another; it is closed after the test."""
        values = {"filename": path or self.path, **given}
        parameters = parse_values(module.PARAMETERS, values.items())
        store = await settled(module.open(reactor, "d", parameters))
        self.addCleanup(store.close)
        return store

    async def refused(self, module: Any, **given: str) -> None:
        """It has to be refused because the file is in use."""
        with self.assertRaises(ConfigurationError) as caught:
            await self.open(module, **given)
        self.assertIn("in use", str(caught.exception))

    async def test_readers(self) -> None:
        """Any number may only read it; then nobody may write to it."""
        for module in (fileio, blockio, cdrom, fileio, cdrom):
            given = {} if module is cdrom else {"read_only": "1"}
            store = await self.open(module, **given)
            self.assertEqual(bytes(await settled(store.read(0, 2048))), bytes(2048))
        for module in (fileio, blockio):
            await self.refused(module)

    async def test_writer(self) -> None:
        """Beside one that may write there is no other, whatever it does."""
        await self.open(fileio)
        for module in (fileio, blockio):
            await self.refused(module)
            await self.refused(module, read_only="1")
        await self.refused(cdrom)

    async def test_blockio_makes_none(self) -> None:
        """A size makes no file for vdisk_blockio: what is not there is not mounted."""
        path = self.mktemp()
        with self.assertRaises(ConfigurationError) as caught:
            await self.open(blockio, path, size="1M")
        self.assertEqual(str(caught.exception), f"{path} does not exist")
        self.assertFalse(Path(path).exists())
        await self.open(fileio, path, size="1M")
        self.assertEqual(Path(path).stat().st_size, 1 << 20)
