# SPDX-License-Identifier: MIT
"""
Discs and drives for tests, and what tests of a drive's commands share.
"""

from __future__ import annotations

import random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides, implementer

from scstd.initiator.commands import CommandResult
from scstd.interfaces import IBackstore, IOpticalDrive, IReadOnly
from scstd.test.initiator import Initiator, serve
from scstd.test.stores import MemoryDrive


def image(blocks: int, seed: int = 1) -> bytes:
    """Return the bytes of a disc."""
    return random.Random(seed).randbytes(blocks * 2048)


def drive(media: dict[str, bytes], medium: str = "") -> Any:
    """Return a CD/DVD drive of media in memory."""
    store = MemoryDrive(media, medium)
    alsoProvides(store, IOpticalDrive, IReadOnly)
    return store


@implementer(IBackstore, IReadOnly, IOpticalDrive)
class Pressed:
    """A disc of so many blocks, each filled with its LBA."""

    block_size = 2048

    def __init__(self, blocks: int) -> None:
        self.size = blocks * 2048

    def read(self, offset: int, length: int) -> bytes:
        """Make up the blocks."""
        first = offset // 2048
        numbers = range(first, first + length // 2048)
        return b"".join(lba.to_bytes(4, "big") * 512 for lba in numbers)

    def write(self, offset: int, data: Any, fua: bool) -> None:
        """Never be called."""
        raise AssertionError

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class CDTests(SynchronousTestCase):
    """
    What all of them need: a drive with a CD in it, and an initiator.
    """

    blocks = 1000

    def setUp(self) -> None:
        """Serve a CD."""
        self.connect(Pressed(self.blocks))

    def connect(self, store: Any) -> None:
        """Serve a store and log in."""
        self.node, self.target, (self.unit,) = serve(store)
        self.one = Initiator(self.node).ready()

    def dvd(self) -> None:
        """Serve a DVD."""
        self.connect(Pressed(2_000_000))

    def check(self, done: CommandResult, key: int, asc: int) -> None:
        """The command has to have failed with this sense data."""
        self.assertEqual(done.status, 2)
        self.assertEqual((done.key, f"{done.asc:04x}"), (key, f"{asc:04x}"))

    def good(self, cdb: str, read: int = 65535) -> bytes:
        """Return what a command (hex) answers; it has to succeed."""
        done = self.one.do(bytes.fromhex(cdb), read=read)
        self.assertEqual(done.status, 0, done.sense.hex())
        return done.data

    def refused(self, cdb: str, asc: int = 0x2400, read: int = 65535) -> CommandResult:
        """A command (hex) has to end with ILLEGAL REQUEST."""
        done = self.one.do(bytes.fromhex(cdb), read=read)
        self.check(done, 5, asc)
        return done
