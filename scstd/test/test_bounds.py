# SPDX-License-Identifier: MIT
"""
Tests for the limits of commands as attributes: what is shown is what holds.
"""

from __future__ import annotations

import struct
from typing import Any

from twisted.trial.unittest import SynchronousTestCase, TestCase

from scstd.initiator.commands import read10, write10
from scstd.test.initiator import Initiator, serve
from scstd.test.stores import memory
from scstd.test.test_tree import login, started

_FIELDS = struct.Struct(">BBHIIIIIIIQIIIII")
_VPD = b"\x12\x01\xb0\0\x40\0"


def limits(one: Any, lun: int = 0) -> dict[str, int]:
    """Return what VPD page B0h says."""
    data = one.do(_VPD, read=64, lun=lun).data
    fields = _FIELDS.unpack(data[4:64])
    names = {
        "transfer": 3,
        "optimal": 4,
        "unmapped": 6,
        "ranges": 7,
        "same": 10,
        "atomic": 11,
    }
    return {name: fields[at] for name, at in names.items()}


def unmap(*ranges: tuple[int, int]) -> tuple[bytes, bytes]:
    """Return an UNMAP and its data."""
    body = b"".join(struct.pack(">QI4x", *one) for one in ranges)
    data = struct.pack(">HH4x", 6 + len(body), len(body)) + body
    return struct.pack(">B6xHx", 0x42, len(data)), data


class BoundsTests(SynchronousTestCase):
    """
    At a disk.
    """

    def connect(self, block_size: int = 512, **settings: Any) -> Initiator:
        """Serve a disk with these attributes."""
        return Initiator(serve(memory(4 << 20, block_size), **settings)[0]).ready()

    def test_defaults(self) -> None:
        """Nothing configured is as it was."""
        expected = {
            "transfer": 16384,
            "optimal": 2048,
            "unmapped": 1 << 20,
            "ranges": 256,
            "same": 65535,
            "atomic": 2048,
        }
        self.assertEqual(limits(self.connect()), expected)
        thick = limits(self.connect(thin_provisioned=False))
        self.assertEqual((thick["unmapped"], thick["ranges"]), (0, 0))

    def test_enforced(self) -> None:
        """What is configured is shown, and holds to the block."""
        one = self.connect(
            max_trans_len=65536,
            opt_trans_len=1 << 20,
            max_write_same_len=100,
            atomic_max_len=16,
            max_unmap_lba_count=64,
            max_unmap_block_desc_count=2,
        )
        expected = {
            "transfer": 128,
            "optimal": 128,
            "unmapped": 64,
            "ranges": 2,
            "same": 100,
            "atomic": 16,
        }
        self.assertEqual(limits(one), expected)
        block = bytes(512)
        for blocks, status in ((128, 0), (129, 2)):
            done = one.do(read10(0, blocks), read=blocks * 512)
            self.assertEqual(done.status, status)
            done = one.do(write10(0, blocks), data=block * blocks)
            self.assertEqual(done.status, status)
        for blocks, status in ((100, 0), (101, 2)):
            same = struct.pack(">BBQIxx", 0x93, 0, 0, blocks)
            self.assertEqual(one.do(same, data=block).status, status)
        for blocks, status in ((16, 0), (17, 2)):
            atomic = struct.pack(">BBQHHxx", 0x9C, 0, 0, 0, blocks)
            self.assertEqual(one.do(atomic, data=block * blocks).status, status)
        for ranges, status in (
            (((0, 32), (64, 32)), 0),
            (((0, 65),), 2),
            (((0, 1), (2, 1), (4, 1)), 2),
        ):
            cdb, data = unmap(*ranges)
            done = one.do(cdb, data=data)
            self.assertEqual(done.status, status)
            if status:
                self.assertEqual((done.key, done.asc), (5, 0x2600))

    def test_at_least_a_block(self) -> None:
        """A limit below the block length is one block."""
        one = self.connect(4096, max_trans_len=512, opt_trans_len=512)
        self.assertEqual(limits(one)["transfer"], 1)
        self.assertEqual(one.do(read10(0, 1), read=4096).status, 0)


class LiveTests(TestCase):
    """
    In the tree.
    """

    async def test_changed(self) -> None:
        """A change holds at once, and initiators are told."""
        tree = await started(self)
        one = login(tree)
        await tree.write("devices/disk1/max_trans_len", "64K")
        await tree.write("devices/disk1/max_write_same_len", "7")
        done = one.do(bytes(6))
        self.assertEqual((done.key, done.asc), (6, 0x3F03))
        self.assertEqual(one.do(bytes(6)).status, 0)
        shown = limits(one)
        self.assertEqual((shown["transfer"], shown["same"]), (128, 7))
        self.assertEqual(one.do(read10(0, 129), read=129 * 512).status, 2)
