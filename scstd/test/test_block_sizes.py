# SPDX-License-Identifier: MIT
"""
Logical blocks of 512 bytes to 64 KiB.
"""

from __future__ import annotations

import struct
from typing import Any

from twisted.trial.unittest import SynchronousTestCase, TestCase

from scstd.attributes import ConfigurationError
from scstd.handlers import fileio, memory, nullio
from scstd.interfaces import BLOCK_SIZES, IBackstore
from scstd.scsi.device import open_disk
from scstd.test.copying import CopyTests, segment
from scstd.test.initiator import Initiator, serve
from scstd.test.stores import memory as in_memory
from scstd.test.test_handlers import opened
from scstd.testing.contracts import BackstoreContract

LARGE = [size for size in BLOCK_SIZES if size > 4096]


class LargestContract(BackstoreContract, TestCase):
    async def open(self) -> IBackstore:
        """Return a store in a file, of the largest blocks."""
        given = {"filename": self.mktemp(), "size": "64M", "blocksize": "65536"}
        return IBackstore(await opened(fileio, **given))


class BlockSizeTests(SynchronousTestCase):
    """
    What a disk of such blocks says, and does.
    """

    def connect(self, size: int) -> None:
        """Serve one of 256 blocks."""
        self.size = size
        self.store = in_memory(256 * size, size)
        node, _target, (self.unit,) = serve(self.store)
        self.one = Initiator(node).ready()

    def do(self, layout: str, *fields: int, read: int = 0, data: bytes = b"") -> Any:
        """Carry out a command, which has to end well; return its data."""
        done = self.one.do(struct.pack(layout, *fields), read=read, data=data)
        self.assertEqual(done.status, 0, (self.size, done))
        return done.data

    def test_said(self) -> None:
        """READ CAPACITY, mode pages and limits fit each other."""
        for size in BLOCK_SIZES:
            self.connect(size)
            capacity = self.do(">BB8xIxx", 0x9E, 0x10, 32, read=32)
            self.assertEqual(struct.unpack_from(">QI", capacity), (255, size))
            physical = size << (capacity[13] & 15)
            self.assertEqual(physical, max(size, 4096))
            short = self.do(">B9x", 0x25, read=8)
            self.assertEqual(struct.unpack(">II", short), (255, size))
            sense = self.do(">BBBBBx", 0x1A, 0, 3, 0, 255, read=255)
            self.assertEqual(int.from_bytes(sense[9:12], "big"), size)
            self.assertEqual(int.from_bytes(sense[24:26], "big"), size & 0xFFFF)
            limits = self.do(">BBBHx", 0x12, 1, 0xB0, 64, read=64)
            compared, granularity = limits[5], int.from_bytes(limits[6:8], "big")
            most, optimal = struct.unpack_from(">II", limits, 8)
            self.assertLessEqual(compared * size, 1 << 20)
            self.assertGreater(compared, 0)
            self.assertEqual(granularity, max(1, 4096 // size))
            self.assertEqual((most * size, optimal * size), (8 << 20, 1 << 20))
            unmapped = int.from_bytes(limits[28:32], "big")
            self.assertEqual(unmapped * size, max(size, 4096))

    def test_done(self) -> None:
        """They are written, read, compared, filled, unmapped and told, whole."""
        for size in LARGE:
            self.connect(size)
            block = bytes(range(256)) * (size // 256)
            self.do(">BBIBHx", 0x2A, 0, 3, 0, 2, data=block * 2)
            self.assertEqual(self.store.read(3 * size, 2 * size), block * 2)
            found = self.do(">BBQIxx", 0x88, 0, 2, 2, read=2 * size)
            self.assertEqual(found, bytes(size) + block)
            self.do(">BBIBHx", 0x2F, 2, 3, 0, 2, data=block * 2)
            self.do(">BBQ3xBxx", 0x89, 0, 3, 1, data=block + b"n" * size)
            self.do(">BBIBHx", 0x41, 0, 10, 0, 20, data=block)
            self.assertEqual(self.store.read(10 * size, 20 * size), block * 20)
            unmapped = struct.pack(">HHxxxxQIxxxx", 22, 16, 12, 4)
            self.do(">BBIBHx", 0x42, 0, 0, 0, 24, data=unmapped)
            self.assertEqual(self.store.read(12 * size, 4 * size), bytes(4 * size))
            status = self.do(">BBQIxx", 0x9E, 0x12, 10, 56, read=56)
            rows = [struct.unpack_from(">QIB", status, at) for at in (8, 24, 40)]
            self.assertEqual(rows, [(10, 2, 0), (12, 4, 1), (16, 14, 0)])
            self.do(">BBQHHBx", 0x9C, 0, 5, 0, 1, 0, data=block)
            self.assertEqual(self.store.read(5 * size, size), block)

    def test_refused(self) -> None:
        """Other lengths are not, and neither are sizes of other blocks."""
        for module in (memory, nullio):
            for given in (
                {"blocksize": "131072", "size": "1M"},
                {"blocksize": "256", "size": "1M"},
                {"blocksize": "3000", "size": "3000000"},
                {"blocksize": "65536", "size": "96K"},
            ):
                self.assertRaises(ConfigurationError, opened, module, **given)
        for size in (256, 131072):
            self.assertRaises(ValueError, open_disk, "d", in_memory(1 << 20, size))


class CopiedTests(CopyTests):
    """
    Copies to and from such disks.
    """

    def test_between(self) -> None:
        """What is copied is there, whatever the two block lengths are."""
        for size, other in ((65536, 512), (512, 65536), (8192, 65536)):
            self.connect(in_memory(8 << 20, size), in_memory(8 << 20, other))
            length = 4 * max(size, other)
            data = bytes(range(251)) * (length // 251 + 1)
            self.stores[0].write(0, data[:length], False)
            found = self.copy(segment(length // size, 0, 1))
            self.assertEqual(found.status, 0, (size, other, found))
            self.assertEqual(self.stores[1].read(other, length), data[:length])
